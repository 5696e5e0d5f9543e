"""xmalloc, Xen's first allocator: first fit over one free list, and whole pages.

Era: Rusty Russell, February 2005, until xmalloc_tlsf replaced it (Xen 3.4, 2009).  Source:
``xen/common/xmalloc.c`` of Xen 3.0, without the canaries and poison of later debug builds.

Every block begins with a header of one cache line, which holds its size, header included, and
two list links.  The links of a live block are NULL, which is the check against a second free;
those of a free one make up a single list of all free blocks of all pages, the newest first::

    head --> [size|next|prev ...][ dead ......... ] --> [size|next|prev ...][ dead ] --> head
    page     [size|NULL|NULL ...][ payload ...... ][size|NULL|NULL ...][ payload ][ free ]
             ^ header: one line  ^ handle

A request takes the first block on the list that is long enough, or a new page, and cuts it
unless less than two headers would be left.  A free walks the *whole* list for neighbours in
the same page, whatever it finds; a block that has become the page goes back as a page::

    [ free ][ this ][ live ][ free ]  =>  [ --- free --- ][ live ][ free ]

A request that fills a page with its header, or more, is served a power of two of pages.  So a
request of a page costs two, and of two pages four; with lines of 128 bytes up to 3840 share a
page and 3841 to 3968 have one of their own.  ``tail="list"`` is the remedy that Keir Fraser
sketched when the price of a page came up in October 2008, and that was not built: take the
pages needed, and put what is left of the last one on the free list.  Here the pages behind it
are given back; with the object's free its part of the last page becomes a block like any other::

    [header][ payload ............................ ][ free ......... ]
    |  page                   |  page                   |  given back: page, page

The default is the algorithm repaired: a size that wraps around a word is refused, where
``rev="3.0"`` serves its remainder (read in the source, unconfirmed by its maintainers).

Left out: the debug build, ``xrealloc`` of a later ARM branch, the lock.  Links name list nodes,
which lie behind the size, so that NULL is none though memory begins at 0.

Complexity: O(free blocks) to allocate, and always that to free; the calls' ``cost`` counts the
entries walked.  "Essentially unbounded" was the complaint that ended it.

>>> heap = XenXmalloc(pages=8)
>>> heap.alloc(1), heap.alloc(3841), heap.alloc(4096), heap.source.held
(128, 4224, 8320, 4)
>>> for handle in (128, 4224, 8320): heap.free(handle)
>>> heap.source.held
0
"""

from collections.abc import Iterator
from functools import lru_cache, partial

from heaplaw.contract import Contract, Request
from heaplaw.pages import PageSource
from heaplaw.protocol import Context, FreeRegion, InvalidFree, Listed, Refusal
from heaplaw.shadow import Block, Shadow

from .bits import align_up, highest_bit, is_power_of_two
from .page_images import PageImages
from .pages_arithmetic import get_order

_WORD = 8
_WORD_MASK = (1 << 64) - 1
_FIELDS = 3 * _WORD  # bytes of a header that are used: size, next, prev
_NULL = 0
_LIST = "free"
_REVISIONS = ("", "3.0")


class XenXmalloc:
    """Blocks in the pages of a page source of its own, ``self.source``.

    ``line``: bytes of a cache line, which is a header's length and every alignment.
    ``tail``: "" or "list", what becomes of the rest of an object's last page.
    Inside, a block is the address of its header, and a node that of the links in it.
    """

    def __init__(self, pages: int = 256, page_size: int = 4096, line: int = 128, tail: str = "", rev: str = "") -> None:
        self.contract = _configured(pages, page_size, line, tail, rev)
        self.source = PageSource(pages, page_size=page_size)
        self._words = memoryview(self.source.memory).cast("Q")
        self._page_size, self._page_shift, self._header = page_size, highest_bit(page_size), line
        self._list_tail, self._published = tail == "list", bool(rev)
        self._head = len(self.source.memory)  # the list head's address: no node of a page has it
        self._first = self._head
        self._most_blocks = self._head // line
        self._walked = self._found = 0

    # ---- interface -------------------------------------------------------------------

    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> int | Refusal | None:
        """Address of ``size`` bytes, at a cache line; None when the page source refuses.

        Size 0 is a header without payload.  INVALID for an alignment above a line or no power of
        two, TOO_BIG for more than all memory.  O(free blocks).
        """
        self._walked = self._found = 0
        if size < 0 or align < 1 or align & (align - 1) or align > self._header:
            return Refusal.INVALID
        total = self._total(size)
        if total >= self._page_size:
            block = self._whole_pages(total)
        else:
            block = self._first_fit(total)
            if block is None:
                block = self._new_page(total)
        if block is None:
            return Refusal.TOO_BIG if size > self.contract.largest else None
        return block + self._header

    def free(self, handle: int | None) -> None:
        """Give an object back; None is nothing.  O(free blocks), always.

        Raises InvalidFree for a block whose links are set.  That notices a second free only while
        the block itself is on the list, and not once it has been merged into the one before it.
        """
        self._walked = self._found = 0
        if handle is None:
            return
        block = handle - self._header
        words = self._words
        if words[(block >> 3) + 1] or words[(block >> 3) + 2]:
            raise InvalidFree(f"the block at {handle} is on the free list")
        size = words[block >> 3]
        if size >= self._page_size:
            self._free_pages(block, size)
        else:
            self._free_block(block, size)

    def read(self, handle: int, at: int, length: int) -> bytes:
        """``length`` bytes from offset ``at`` of a live object.  O(length)."""
        return bytes(self.source.memory[handle + at : handle + at + length])

    def write(self, handle: int, at: int, data: bytes) -> None:
        """Put ``data`` at offset ``at`` of a live object.  ValueError past the memory's end.  O(length)."""
        memoryview(self.source.memory)[handle + at : handle + at + len(data)] = data

    # ---- allocating --------------------------------------------------------------------

    def _total(self, size: int) -> int:
        """Bytes with a header, up to the next line."""
        total = align_up(size + self._header, self._header)
        return total & _WORD_MASK if self._published else total

    def _first_fit(self, total: int) -> int | None:
        """The first block on the list that is long enough, off the list and cut; None if none is."""
        words, node, walked = self._words, self._first, 0
        while node != self._head:
            walked += 1
            if walked > self._most_blocks:
                raise RuntimeError("the free list does not end")
            at = node >> 3
            size = words[at - 1]
            if size >= total:
                self._walked, self._found = walked, size - self._header
                self._list_del(node)
                self._maybe_split(node - _WORD, total, size)
                return node - _WORD
            node = words[at]
        self._walked = walked
        return None

    def _new_page(self, total: int) -> int | None:
        """A block of ``total`` bytes, at least, at the start of a new page."""
        page = self.source.take(0)
        if page is None:
            return None
        block = page << self._page_shift
        self._maybe_split(block, total, self._page_size)
        return block

    def _least_rest(self) -> int:
        """The shortest rest that is worth being a block: a header, and as much behind it."""
        return 2 * self._header

    def _maybe_split(self, block: int, size: int, whole: int) -> None:
        """Make a block of ``whole`` bytes a live one of ``size``, or of all when the rest is too short.

        [ whole ................ ] => [ live ][ free, first on the list ]
        """
        words, left = self._words, whole - size
        if left >= self._least_rest():
            words[(block + size) >> 3] = left
            self._list_add(block + size + _WORD)
        else:
            size = whole
        at = block >> 3
        words[at] = size
        words[at + 1] = words[at + 2] = _NULL

    def _whole_pages(self, total: int) -> int | None:
        """Pages for an object that does not share one: a power of two of them."""
        order = get_order(total, self._page_shift)
        page = self.source.take(order) if order <= highest_bit(self.source.total) else None
        if page is None:
            return None
        if self._list_tail:
            return self._cut_tail(page, order, total)
        return self._lend(page << self._page_shift, self._page_size << order)

    def _lend(self, block: int, size: int) -> int:
        """Write the header of a live block."""
        at = block >> 3
        self._words[at] = size
        self._words[at + 1] = self._words[at + 2] = _NULL
        return block

    # ---- freeing -----------------------------------------------------------------------

    def _free_block(self, block: int, size: int) -> None:
        """Merge a block with free ones of its page, looking at every free block there is.

        [ free ][ this ][ free ] => [ --------- free --------- ]
        """
        words, node, walked = self._words, self._first, 0
        while node != self._head:
            walked += 1
            if walked > self._most_blocks:
                raise RuntimeError("the free list does not end")
            other, after = node - _WORD, words[node >> 3]  # the next one now: this one may leave the list
            if self._same_page(other, block):
                length = words[other >> 3]
                if other + length == block:  # we follow it
                    self._list_del(node)
                    block, size = other, length + size
                    words[block >> 3] = size
                elif block + size == other:  # we precede it
                    self._list_del(node)
                    size += length
                    words[block >> 3] = size
            node = after
        self._walked = walked
        if size == self._page_size:
            self.source.give(block >> self._page_shift, 0)
        else:
            self._list_add(block + _WORD)

    def _same_page(self, one: int, two: int) -> bool:
        return one >> self._page_shift == two >> self._page_shift

    def _free_pages(self, block: int, size: int) -> None:
        """Give an object's pages back; a block that fills its page for want of a rest is one of them."""
        if self._list_tail and size > self._page_size:
            self._free_pages_and_tail(block, size)
        else:
            self.source.give(block >> self._page_shift, get_order(size, self._page_shift))

    # ---- the rest of the last page -------------------------------------------------------

    def _cut_tail(self, page: int, order: int, total: int) -> int:
        """Lend ``total`` bytes of a run: whole pages behind them go back, the rest of the last on the list.

        [ page ][ page ][ page ][ page ] => [ live ............ ][ free ]  given back: [ page ]
        """
        needed = align_up(total, self._page_size)
        block = page << self._page_shift
        if order:
            self.source.split(page, order)
            for spare in range(page + (needed >> self._page_shift), page + (1 << order)):
                self.source.give(spare)
        self._maybe_split(block, total, needed)
        return block

    def _free_pages_and_tail(self, block: int, size: int) -> None:
        """Give whole pages back; what was used of the last one is a block now, and merges with its rest."""
        end = block + size
        last = end & -self._page_size
        for page in range(block >> self._page_shift, last >> self._page_shift):
            self.source.give(page)
        if end > last:
            self._lend(last, end - last)
            self._free_block(last, end - last)

    # ---- the list ------------------------------------------------------------------------

    def _list_add(self, node: int) -> None:
        """Put a node first.  O(1)."""
        words, after = self._words, self._first
        if after != self._head:
            words[(after >> 3) + 1] = node
        words[node >> 3], words[(node >> 3) + 1] = after, self._head
        self._first = node

    def _list_del(self, node: int) -> None:
        """Take a node off.  O(1)."""
        words = self._words
        after, before = words[node >> 3], words[(node >> 3) + 1]
        if after != self._head:
            words[(after >> 3) + 1] = before
        if before != self._head:
            words[before >> 3] = after
        else:
            self._first = after

    def _listed(self) -> Iterator[int]:
        """Blocks on the list, in order.  RuntimeError for a list that does not end."""
        words, node, left = self._words, self._first, self._most_blocks
        while node != self._head:
            left -= 1
            if left < 0:
                raise RuntimeError("the free list does not end")
            yield node - _WORD
            node = words[node >> 3]

    # ---- observations ----------------------------------------------------------------

    def _walk(self) -> Iterator[tuple[int, int]]:
        """(block, size) of every block in the pages held, by address.  RuntimeError for a size of 0.

        An object of many pages is one block; behind it its last page goes on.
        """
        words, page_size, at = self._words, self._page_size, 0
        for page, order in sorted(self.source.runs.items()):
            end = (page + (1 << order)) * page_size
            at = max(at, page * page_size)
            while at < end:
                size = words[at >> 3]
                if not size:
                    raise RuntimeError(f"the block at {at} has no size")
                yield at, size
                at += size

    def _is_free(self, block: int) -> bool:
        """Is it linked?  A live block's links are NULL."""
        return self._words[(block >> 3) + 1] != _NULL

    def extents(self, handle: int) -> tuple[tuple[int, int, int], ...]:
        """The payload, slack included, as the size says.  O(1)."""
        return ((0, handle, self._words[(handle - self._header) >> 3] - self._header),)

    def free_regions(self) -> Iterator[FreeRegion]:
        """Blocks with links, met walking the pages.  O(blocks)."""
        header = self._header
        for block, size in self._walk():
            if self._is_free(block):
                yield FreeRegion(0, block + header, size - header, _LIST)

    def lists(self) -> Iterator[Listed]:
        """Free blocks met walking the list.  O(free blocks)."""
        for block in self._listed():
            yield Listed(_LIST, (0, block + self._header))

    def counters(self) -> dict[str, int]:
        """Live objects by their headers; free payload bytes by the list.  O(blocks)."""
        free = [self._words[block >> 3] - self._header for block in self._listed()]
        return {
            "live_objects": sum(1 for block, _ in self._walk() if not self._is_free(block)),
            "free_bytes": sum(free),
            "largest_free": max(free, default=0),
        }

    def cost(self) -> dict[str, int]:
        """Of the last call: free-list entries ``walked``; the payload ``found`` when one was used."""
        return {"walked": self._walked, "found": self._found} if self._found else {"walked": self._walked}

    def metadata(self) -> tuple[int, int]:
        """(bytes of headers, bytes of the list head).  O(blocks)."""
        return self._header * sum(1 for _ in self._walk()), 2 * _WORD

    # ---- states ------------------------------------------------------------------------

    def snapshot(self) -> "State":
        """The heap as it is now; hashable.  O(bytes held)."""
        return State(self)

    def restore(self, state: "State") -> None:
        """Return to a state of ``snapshot``; armed failures of the source stay.  O(bytes held)."""
        state.images.put_back(self.source)
        self._first = state.first
        self._walked = self._found = 0


class State:
    """A heap at one moment; ``shape``, blocks and the list's order, is what equality means."""

    __slots__ = ("first", "images", "shape")

    def __init__(self, heap: XenXmalloc) -> None:
        self.images, self.first = PageImages(heap.source), heap._first
        blocks = tuple((block, size, heap._is_free(block)) for block, size in heap._walk())
        self.shape = (self.images.runs, blocks, tuple(heap._listed()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, State) and self.shape == other.shape

    def __hash__(self) -> int:
        return hash(self.shape)


# ---- what is promised ------------------------------------------------------------------


@lru_cache(maxsize=256)
def _configured(pages: int, page_size: int, line: int, tail: str, rev: str) -> Contract:
    """The promises of these parameters.  Raises ValueError for senseless ones."""
    if not isinstance(pages, int) or pages < 1:
        raise ValueError(f"pages must be at least 1, not {pages!r}")
    if not is_power_of_two(line) or line < _FIELDS:
        raise ValueError(f"line must be a power of two above {_FIELDS} bytes, not {line}")
    if not is_power_of_two(page_size) or page_size < 4 * line:
        raise ValueError(f"page_size must be a power of two from {4 * line}, four lines, not {page_size}")
    if tail not in ("", "list"):
        raise ValueError(f"tail must be '' or 'list', not {tail!r}")
    if rev not in _REVISIONS:
        raise ValueError(f"no revision {rev!r} of xen-xmalloc")
    if rev and tail:
        raise ValueError(f"revision {rev} has no tail={tail!r}")
    top = highest_bit(pages)
    largest = (page_size << top) - line
    thresholds = {*(n * page_size - line for n in (1, 2, 3, 4)), page_size - 2 * line, page_size - 3 * line, line}
    return Contract(
        min_size=0,
        max_size=largest,
        granule=line,
        max_align=line,
        limits=tuple(sorted({size for size in (*thresholds, page_size, 2 * page_size, largest) if size <= largest})),
        rejects=frozenset({"huge", "align"}),
        header=line,
        prologue=line,
        spaces="pages",
        mergeable=partial(_in_one_page, page_size, line),
        list_of=_list_of,
        geometry=partial(_misplaced, page_size, line, tail),
        overhead=partial(_overhead, page_size, line),
        metadata_bound=partial(_metadata_bound, line),
        waste=partial(_waste, page_size, line, tail),
        page_order=top,
        drained_size=largest,
        drained_pages=0,
        must_serve=partial(_must_serve, page_size, line, top),
        must_refuse=partial(_must_refuse, line, largest),
        free_then_alloc=True,
        cost_bounds={"walked": _free_blocks_at_most},
    )


def _in_one_page(page_size: int, line: int, one: FreeRegion, two: FreeRegion) -> bool:
    """Free blocks merge inside a page only; a block begins with its header."""
    return (one.start - line) // page_size == (two.start - line) // page_size


def _list_of(region: FreeRegion) -> str:
    return _LIST


def _total(line: int, size: int) -> int:
    return align_up(size + line, line)


def _gaps(page_size: int, shadow: Shadow, source: PageSource | None) -> Iterator[tuple[int, bool]]:
    """(bytes, does a live block follow) between one live object and the next, and up to ends of runs.

    Such a gap holds the next block's header, and in front of it at most one free block.  Objects
    without a byte part their gap in two.
    """
    assert source is not None
    empty = sorted(block.extents[0][1] for block in shadow.live.values() if block.extents and not block.length)
    for page, order in source.runs.items():
        low, high = page * page_size, (page + (1 << order)) * page_size
        for start, end in shadow.gaps(0, low, high):
            at = start
            for place in empty:
                if at < place <= end and (place < end or place == high):
                    yield place - at, True
                    at = place
            if at < end:
                yield end - at, end < high


def _overhead(page_size: int, line: int, shadow: Shadow, source: PageSource | None) -> int:
    """A header in front of each live object, and of each free block."""
    total = 0
    for gap, followed in _gaps(page_size, shadow, source):
        total += line * (followed + (gap > line if followed else 1))
    return total


def _must_serve(
    page_size: int, line: int, top: int, request: Request, shadow: Shadow, source: PageSource | None
) -> bool:
    """First fit is exact: some free block is long enough, or the pages can be had."""
    if source is None or request.size < 0 or not is_power_of_two(request.align) or request.align > line:
        return False
    total = _total(line, request.size)
    if total >= page_size:
        order = get_order(total, highest_bit(page_size))
        return order <= top and source.fits(order)
    if source.fits(0):
        return True
    return any(gap - (line if followed else 0) >= total for gap, followed in _gaps(page_size, shadow, source))


def _must_refuse(line: int, largest: int, request: Request, shadow: Shadow, source: PageSource | None) -> bool:
    """More than all memory, or an alignment above a line."""
    return request.size > largest or not is_power_of_two(request.align) or request.align > line


def _free_blocks_at_most(request: Request, shadow: Shadow) -> int:
    """A page with small blocks has a live one at least, and one free block more than live ones at most."""
    return 2 * len(shadow)


def _metadata_bound(line: int, shadow: Shadow, source: PageSource | None) -> int:
    return line * (len(shadow) + _free_blocks_at_most(Request(0), shadow)) + 2 * _WORD


def _waste(page_size: int, line: int, tail: str, size: int, align: int) -> int:
    """The rest of a line and one line that is no block; or the rest of a power of two of pages."""
    total = _total(line, size)
    if total >= page_size and not tail:
        return (page_size << get_order(total, highest_bit(page_size))) - line - size
    return total - size


def _misplaced(page_size: int, line: int, tail: str, block: Block) -> str | None:
    """Is it as long as its size calls for, and where it may be?"""
    start, length = block.extents[0][1:]
    total, whole = _total(line, block.size), length + line
    inside = (start - line) % page_size
    if total < page_size:
        if inside + whole > page_size:
            return "it crosses its page's end"
        return None if total <= whole <= total + line else f"a block of {whole} bytes for {total}"
    if inside:
        return "whole pages begin with its header"
    if tail:
        return None if total <= whole <= total + line else f"a block of {whole} bytes for {total}"
    pages = page_size << get_order(total, highest_bit(page_size))
    return None if whole == pages else f"{whole} bytes of pages, not {pages}"
