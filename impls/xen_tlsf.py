"""xmalloc_tlsf, Xen's allocator since 3.4: the original TLSF over a pool of single pages.

Era: Dan Magenheimer's port of TLSF 2.3.2 (by way of Nitin Gupta's kernel module), October
2008, in Xen to this day.  Source: ``xen/common/xmalloc_tlsf.c`` of Xen 3.4.4, and of 4.17
for what came later (``whole="trim"``).

A request below a page is looked for in the pool, as ``tlsf_mapping`` says; the pool grows by
one page, and a page that becomes wholly free goes back at once.  In front of every block
stand a link to the block before, always valid, and the size with two flags; a region ends in
a header of size 0, which is never free::

    page    [back|size][ payload ... ][back|size][ prev next ... ][back|size]
                       ^ used                    ^ free, linked   ^ 0: sentinel

Everything else is served by whole pages: also sizes of 4033 to 4064 bytes, because a fresh
region's 4064 stand on the list from 4032 while the search for them begins at 4096; and any
request for which the pool cannot grow.  ``whole="order"`` (3.4) takes a power of two of pages
with a header in them, so that a page less one byte costs two pages.  ``whole="trim"`` (since
2011) gives the pages behind the last one needed back, and keeps their number beside them::

    order   [back|size][ payload ............................... ]      2**order pages
    trim    [ payload ............. ]  given back: [ 1 ][    2    ]      as many as needed

An alignment above 16 is met by moving up inside a block that is longer by as much, and a
false header that the free path recognises by its flag leads back to the true one::

    [back|size][ pad ... [    |pad|1][ payload ......... ]
               ^ block               ^ handle, a multiple

The default is the algorithm repaired: sizes that wrap around a word are refused, and
destroying a pool gives back the region that is idle, whichever it is.  ``rev="3.4"`` is as
published: a size just below the word's end is served one page (there is a guard since 4.3),
and a pool that is destroyed gives back its *first* region whenever some region is idle, though
the first may be gone.  These, like the following, were read in the source and are unconfirmed
by its maintainers.

The pool's lock is open while it takes a page, so two CPUs may both grow it, and the one that
then finds a block freed meanwhile leaves its region idle.  ``maintain("grow")`` is that event;
the model has at most one idle region at a time.  No sequence of calls on one CPU leads there.

``realloc`` is 4.17's ``_xrealloc``, which never cuts a block (shown with "trim" only; 3.4 had
none).  It is given the alignment again by its caller, who knows it from the type; here a table
stands for that knowledge.  Moving an aligned object, the source copies the block's length from
the aligned address and so reads past the block's end by the padding; here it stops at the end.

Size 0 is a smallest block with "order"; with an alignment it is refused, for which 3.4 may
answer with an address just past the block.  "trim" refuses it (there the answer is a
constant).  Links name payloads by number of word, so that 0 is no block though memory begins
at 0.  MAX_ORDER is the highest order that a fresh heap has a run of.

Left out: the pool's own descriptor (two pages, of which 3.4 gives one back), naming and
listing of pools, locks, poisoning.  A pool keeps no list of its regions; observations find
them by the page source's ledger, as a kernel finds them by its frame table.

>>> heap = XenTlsf(pages=8)
>>> heap.alloc(100), heap.alloc(100, 64), heap.alloc(4040)
(16, 192, 4112)
>>> heap.extents(192), heap.source.held
(((0, 192, 112), (0, 144, 48)), 2)
>>> for handle in (16, 192, 4112): heap.free(handle)
>>> heap.source.held
0
"""

from collections.abc import Callable, Iterator

from heaplaw.pages import PageSource
from heaplaw.protocol import Context, FreeRegion, Listed, Maintained, Refusal

from .bits import align_up, highest_bit
from .page_images import PageImages
from .pages_arithmetic import get_order
from .tlsf_lists import SegregatedLists
from .tlsf_mapping import insert
from .xen_tlsf_rules import configured, control_bytes

_FREE, _PREV_FREE = 1, 2  # flags of a size: this block is free, the block before is free
_SIZE = 0xFFFFFFF8  # the size in its word, 32 bits wide
_HEADER = 2  # words of a header: the back link and the size
_NONE = 0


class XenTlsf(SegregatedLists):
    """A pool over a page source of its own, ``self.source``.

    ``word``: 64 or 32 bits of a pointer.  ``most``: most pages of the pool, 0 for any number.
    ``whole``: "order" or "trim", how whole pages are taken; see the module.
    """

    _next_link = 1

    def __init__(
        self,
        pages: int = 256,
        page_size: int = 4096,
        word: int = 64,
        most: int = 0,
        whole: str = "order",
        rev: str = "",
    ) -> None:
        self.contract, g, self._max_order = configured(pages, page_size, word, most, whole, rev)
        self._make_lists(g)
        self.source = PageSource(pages, page_size=page_size)
        self._page_size, self._page_shift = page_size, highest_bit(page_size)
        self._words = memoryview(self.source.memory).cast("Q" if word == 64 else "I")
        self._bits, self._unit, self._overhead = highest_bit(word // 8), g.word, g.word
        self._most, self._trim, self._published = most, whole == "trim", bool(rev)
        self._pfn_order = [0] * pages if self._trim else []  # pages of the object that begins at a page
        self._alignments: dict[int, int] = {}  # what callers of realloc know: alignments above the unit
        self._found = self._probed = 0
        self._regions = self._used = 0  # num_regions; used_size: used blocks and all headers in front of them
        self._init_region = self._get_region()
        self._add_region(self._init_region)

    # ---- interface -------------------------------------------------------------------

    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> int | Refusal | None:
        """Address of ``size`` bytes; None when neither pool nor page source has room.

        INVALID for an alignment that is no power of two, TOO_BIG above ``contract.max_size``.
        O(1) and the page source's time.
        """
        self._found = self._probed = self._scanned = 0
        if align < 1 or align & (align - 1) or size < self._least_size(align):
            return Refusal.INVALID
        handle = self._xmalloc(size, align if align > self._unit else self._unit)
        if handle is None:
            return Refusal.TOO_BIG if size > self.contract.largest else None
        if align > self._unit:
            self._alignments[handle] = align
        return handle

    def free(self, handle: int | None) -> None:
        """Give an object back; None is nothing.  O(1) and the page source's time."""
        if handle is None:
            return
        if self._alignments:
            self._alignments.pop(handle, None)
        if self._trim and not handle & (self._page_size - 1):
            self._free_pages(handle >> self._page_shift)
            return
        block = self._strip_padding(handle)
        size = self._words[block - 1] & _SIZE
        if size >= self._page_size:
            self.source.give(self._page_of(block), get_order(size, self._page_shift))
        else:
            self._pool_free(block)

    @property
    def realloc(self) -> Callable[[int, int], int | Refusal | None] | None:
        """``realloc(handle, size)`` with "trim"; None with "order", whose era had none."""
        return self._realloc if self._trim else None

    def maintain(self, kind: str) -> Maintained:
        """``grow``: another CPU grew the pool and did not use the page; nothing while a region is idle."""
        if kind != "grow":
            raise ValueError(f"xen-tlsf knows no maintenance {kind!r}, only 'grow'")
        if next(self._idle_regions(), _NONE) == _NONE and self._may_grow(self._unit):
            page = self._get_region()
            if page is not None:
                self._add_region(page)
        return Maintained()

    def destroy(self) -> None:
        """Give the idle region back; what is live is lost.  O(lists + free blocks).

        As published: the first region, when the only thing in use is one sentinel.
        """
        if self._published:
            if self._used == self._overhead:
                self._put_region(self._init_region)
                self._used -= self._overhead
            return
        for block in list(self._idle_regions()):
            self._remove(block, self._words[block - 1] & _SIZE)
            self._return_region(block)

    def read(self, handle: int, at: int, length: int) -> bytes:
        """``length`` bytes from offset ``at`` of a live object.  O(length)."""
        return bytes(self.source.memory[handle + at : handle + at + length])

    def write(self, handle: int, at: int, data: bytes) -> None:
        """Put ``data`` at offset ``at`` of a live object.  ValueError past the memory's end.  O(length)."""
        memoryview(self.source.memory)[handle + at : handle + at + len(data)] = data

    # ---- xmalloc -----------------------------------------------------------------------

    def _least_size(self, align: int) -> int:
        """The smallest size served; none at all can be moved up past its block's end."""
        return 1 if self._trim or (align > self._unit and not self._published) else 0

    def _xmalloc(self, size: int, align: int) -> int | None:
        """The pool first, for what is below a page; then whole pages."""
        padded = size + align - self._unit
        if self._published:
            size, padded = size & self._mask, padded & self._mask
        block = self._pool_alloc(padded) if padded < self._page_size else _NONE
        if not block:
            if self._trim:
                return self._trimmed_pages(size, align)
            block = self._whole_pages(padded)
            if not block:
                return None
        return self._add_padding(block, align)

    def _add_padding(self, block: int, align: int) -> int:
        """The address of a block's first multiple of ``align``, behind a false header if it is not the first.

        [back|size][ .................. ] => [back|size][ pad ... [    |pad|1][ ........... ]
        """
        handle = block << self._bits
        pad = -handle & (align - 1)
        if pad:
            handle += pad
            self._words[(handle >> self._bits) - 1] = pad | _FREE
        return handle

    def _strip_padding(self, handle: int) -> int:
        """The block of an object: its header cannot say that it is free, a false one always does."""
        block = handle >> self._bits
        size = self._words[block - 1] & 0xFFFFFFFF
        if size & _FREE:
            block -= (size & ~_FREE) >> self._bits
        return block

    def _realloc(self, handle: int, size: int) -> int | Refusal | None:
        """Resize in place when the block is long enough, else move.  Any refusal leaves the object as it was.

        The alignment asked for is kept.  O(1), the page source's time and a copy.
        """
        if size < 1:
            return Refusal.INVALID
        align = self._alignments.get(handle, self._unit)
        if not handle & (self._page_size - 1):
            room = self._pfn_order[handle >> self._page_shift] << self._page_shift
            if size <= room:
                return handle
        else:
            block = self._strip_padding(handle)
            whole = self._words[block - 1] & _SIZE
            padded = size + align - self._unit
            if padded < self._page_size:
                padded = max(align_up(padded, self._unit), self._g.least)
            if padded <= whole:
                return self._add_padding(block, align)
            room = whole - (handle - (block << self._bits))
        moved = self.alloc(size, align)
        if not isinstance(moved, int):
            return moved
        length, memory = min(room, size), self.source.memory
        memory[moved : moved + length] = memory[handle : handle + length]
        self.free(handle)
        return moved

    # ---- whole pages -------------------------------------------------------------------

    def _whole_pages(self, size: int) -> int:
        """A power of two of pages with a header in them; a block, or 0.

        [ page ][ page ][ page ][ page ] => [back|size][ payload .................... ]
        """
        size += self._overhead
        if self._published:
            size &= self._mask
        order = get_order(size, self._page_shift) if size else self._mask.bit_length()
        page = self._take_pages(order)
        if page is None:
            return _NONE
        block = self._first_block(page)
        self._words[block - 1] = self._page_size << order
        return block

    def _trimmed_pages(self, size: int, align: int) -> int | None:
        """As many pages as are needed, the others of a power of two given back; an address, or None.

        [ page ][ page ][ page ][ page ] => [ payload .......... ]  given back: [ page ]
        """
        order = self._whole_order(size, align)
        page = self._take_pages(order)
        if page is None:
            return None
        needed = align_up(size, self._page_size) >> self._page_shift
        self._pfn_order[page] = needed
        if needed != 1 << order:
            self.source.split(page, order)
            for spare in range(page + needed, page + (1 << order)):
                self.source.give(spare)
        return page << self._page_shift

    def _whole_order(self, size: int, align: int) -> int:
        """The order of a run that is long enough, and begins at a multiple of ``align``."""
        return get_order(max(align, size), self._page_shift)

    def _take_pages(self, order: int) -> int | None:
        return self.source.take(order) if order <= self._max_order else None

    def _free_pages(self, page: int) -> None:
        """Give back the pages of an object that begins with ``page``, by their number.  O(pages)."""
        count = self._pfn_order[page]
        self._pfn_order[page] = 0
        if self.source.runs.get(page) or count == 1:
            self.source.give(page, get_order(count << self._page_shift, self._page_shift))
            return
        for number in range(page, page + count):
            self.source.give(number)

    # ---- the pool ----------------------------------------------------------------------

    def _pool_alloc(self, size: int) -> int:
        """A used block of at least ``size`` bytes; 0 when no list holds one and the pool cannot grow.  O(1)."""
        g = self._g
        size = g.round_up(max(align_up(size, g.word), g.least))  # the request *becomes* the rounded size
        block = self._take(size)
        if not block:
            scanned = self._scanned
            if not self._grow(size):
                return _NONE
            block = self._take(size)
            self._scanned += scanned
        self._use(block, size)
        return block

    def _grow(self, size: int) -> bool:
        """One more region, if a block of ``size`` would fit in it."""
        if not self._may_grow(size):
            return False
        page = self._get_region()
        if page is None:
            return False
        self._add_region(page)
        return True

    def _may_grow(self, size: int) -> bool:
        """Is ``size`` within a region, and one more region within the pool's maximum?

        The first region is counted twice, for the one to come.
        """
        if size > self._page_size - 2 * self._overhead:
            return False
        return not self._most or 1 + self._regions <= self._most

    def _get_region(self) -> int | None:
        return self.source.take(0)

    def _put_region(self, page: int | None) -> None:
        assert page is not None
        self.source.give(page, 0)

    def _add_region(self, page: int | None) -> None:
        """Write a page's headers: one free block, and a sentinel that is never free.

        [back|size][ free .................... ][back|size]
        """
        assert page is not None
        words, size = self._words, self._page_size - 2 * self._overhead
        block = self._first_block(page)
        words[block - 2], words[block - 1] = _NONE, size | _FREE
        self._insert(block, size)
        after = self._next_block(block, size)
        words[after - 2], words[after - 1] = block, _PREV_FREE
        self._used += self._overhead
        self._regions += 1

    def _return_region(self, block: int) -> None:
        """Give back the page of a region whose only block, on no list, is free."""
        self._put_region(self._page_of(block))
        self._regions -= 1
        self._used -= self._overhead

    def _use(self, block: int, size: int) -> None:
        """Cut a free, unlisted block to ``size`` and mark it used.

        [ free .......... ] => [ used ][ free ]
        """
        words, bits = self._words, self._bits
        head = words[block - 1]
        whole = head & _SIZE
        after = block + (whole >> bits) + _HEADER
        left = whole - size
        if left >= self._g.header:
            left -= self._overhead
            rest = block + (size >> bits) + _HEADER
            words[rest - 1] = left | _FREE  # the flag behind it stays: this is free as well
            words[rest - 2] = block
            words[after - 2] = rest
            self._insert(rest, left)
            words[block - 1] = whole = size | head & _PREV_FREE
        else:
            words[after - 1] &= ~_PREV_FREE
            words[block - 1] = head & ~_FREE
        self._used += (whole & _SIZE) + self._overhead

    def _pool_free(self, block: int) -> None:
        """Merge a block with its free neighbours; a region that is all free goes back.  O(1).

        [ free ][ this ][ free ] => [ --------- free --------- ]
        """
        words, bits, overhead = self._words, self._bits, self._overhead
        head = words[block - 1] | _FREE
        size = head & _SIZE
        self._used -= size + overhead
        after = block + (size >> bits) + _HEADER
        tail = words[after - 1]
        if tail & _FREE:
            tail &= _SIZE
            self._remove(after, tail)
            size += tail + overhead
        if head & _PREV_FREE:
            block = words[block - 2]
            head = words[block - 1]
            before = head & _SIZE
            self._remove(block, before)
            size += before + overhead
        words[block - 1] = size | _FREE | head & _PREV_FREE
        after = block + (size >> bits) + _HEADER
        words[after - 2] = block
        if not words[block - 2] and not words[after - 1] & _SIZE:
            self._return_region(block)
            return
        self._insert(block, size)
        words[after - 1] |= _PREV_FREE

    def _take(self, size: int) -> int:
        """Unlink and return the head of the first non-empty list whose blocks all fit; 0 if none.  O(1)."""
        number = self._search(size)
        if number < 0:
            return _NONE
        words = self._words
        block = self._heads[number]
        self._probed += 1
        self._found = words[block - 1] & _SIZE
        after = self._heads[number] = words[block + 1]
        if after:
            words[after] = _NONE
        else:
            self._clear(number)
        return block

    def _insert(self, block: int, size: int) -> None:
        """Push a free block on its list.  O(1)."""
        words, sl = self._words, self._sl
        number = insert(size, self._shift, sl)
        head = self._heads[number]
        words[block], words[block + 1] = _NONE, head
        if head:
            words[head] = block
        self._heads[number] = block
        row = number >> sl
        self._row_bits[row] |= 1 << (number & ((1 << sl) - 1))
        self._rows |= 1 << row

    def _remove(self, block: int, size: int) -> None:
        """Take a free block off its list; the bitmaps follow.  O(1)."""
        words = self._words
        before, after = words[block], words[block + 1]
        if after:
            words[after] = before
        if before:
            words[before + 1] = after
        number = insert(size, self._shift, self._sl)
        if self._heads[number] == block:
            self._heads[number] = after
            if not after:
                self._clear(number)

    # ---- places --------------------------------------------------------------------------

    def _first_block(self, page: int) -> int:
        return (page << self._page_shift >> self._bits) + _HEADER

    def _page_of(self, block: int) -> int:
        return (block - _HEADER) << self._bits >> self._page_shift

    def _next_block(self, block: int, size: int) -> int:
        return block + (size >> self._bits) + _HEADER

    def _idle_regions(self) -> Iterator[int]:
        """Blocks on the lists that are a region each.  O(lists + free blocks)."""
        words = self._words
        for _, block in self._listed():
            after = self._next_block(block, words[block - 1] & _SIZE)
            if not words[block - 2] and not words[after - 1] & _SIZE:
                yield block

    def _whole_runs(self) -> dict[int, int]:
        """Pages of the objects of whole pages, by first page: as their headers, or the frame table, say."""
        if self._trim:
            return {page: count for page, count in enumerate(self._pfn_order) if count}
        heads = {page: self._words[self._first_block(page) - 1] & 0xFFFFFFFF for page in self.source.runs}
        return {page: head >> self._page_shift for page, head in heads.items() if head >= self._page_size}

    def _walk(self) -> Iterator[tuple[int, int]]:
        """(block, size word) of the blocks of every region, by address.  O(blocks).

        RuntimeError where a size leads past its page.
        """
        words, source = self._words, self.source
        whole = self._whole_runs()
        lent = {number for page, count in whole.items() for number in range(page, page + count)}
        for page in sorted(source.runs.keys() - lent):
            block = self._first_block(page)
            end = self._first_block(page + 1)
            while size := (head := words[block - 1]) & _SIZE:
                yield block, head
                block = self._next_block(block, size)
                if block > end:
                    raise RuntimeError(f"a block reaches past its page, to {block << self._bits}")

    # ---- observations ----------------------------------------------------------------

    def extents(self, handle: int) -> tuple[tuple[int, int, int], ...]:
        """Usable bytes from the handle on; and, where padded, those in front of it.  O(1)."""
        page_size = self._page_size
        if self._trim and not handle & (page_size - 1):
            return ((0, handle, self._pfn_order[handle >> self._page_shift] << self._page_shift),)
        block = self._strip_padding(handle)
        size, start = self._words[block - 1] & _SIZE, block << self._bits
        if size >= page_size:
            size -= self._overhead
        pad = handle - start
        return ((0, handle, size - pad), (0, start, pad)) if pad else ((0, handle, size),)

    def free_regions(self) -> Iterator[FreeRegion]:
        """Free blocks met walking the regions, with the list that each one's size belongs on.  O(blocks)."""
        for block, head in self._walk():
            if head & _FREE:
                yield FreeRegion(0, block << self._bits, head & _SIZE, self._g.insert(head & _SIZE))

    def lists(self) -> Iterator[Listed]:
        """Free blocks met walking the lists.  O(lists + free blocks)."""
        for number, block in self._listed():
            yield Listed(self._g.levels(number), (0, block << self._bits))

    def counters(self) -> dict[str, int]:
        """Live objects by headers; free bytes by the lists; the pool's own two figures.  O(blocks)."""
        free = [self._words[block - 1] & _SIZE for _, block in self._listed()]
        pooled = sum(1 for _, head in self._walk() if not head & _FREE)
        return {
            "live_objects": pooled + len(self._whole_runs()),
            "free_bytes": sum(free),
            "largest_free": max(free, default=0),
            "used_size": self._used,
            "regions": self._regions,
        }

    def cost(self) -> dict[str, int]:
        """Steps of the last allocation: list heads ``probed``, bitmap words ``scanned``; the payload ``found``."""
        steps = {"probed": self._probed, "scanned": self._scanned}
        return steps | {"found": self._found} if self._found else steps

    def metadata(self) -> tuple[int, int]:
        """(bytes of headers in the pages, bytes of the control structure and the frame table).  O(blocks)."""
        whole = len(self._whole_runs())
        headers = self._regions + sum(1 for _ in self._walk()) + (0 if self._trim else whole)
        return self._overhead * headers, control_bytes(self._g) + (self._unit // 2) * len(self._pfn_order)

    # ---- states ------------------------------------------------------------------------

    def snapshot(self) -> "State":
        """The heap as it is now; hashable.  O(bytes held + lists)."""
        return State(self)

    def restore(self, state: "State") -> None:
        """Return to a state of ``snapshot``; armed failures of the source stay.  O(bytes held + lists)."""
        state.put_back(self)


class State:
    """A heap at one moment, equal to one in which the same calls would have the same effect.

    ``shape`` is what equality means: headers, lists in order, bitmaps, the pages held and which objects
    are aligned, but neither contents nor dead bytes.  Those ride along, for ``restore``.
    """

    __slots__ = ("images", "lists", "rest", "shape")

    def __init__(self, heap: XenTlsf) -> None:
        words = heap._words
        self.images = PageImages(heap.source)
        self.lists = (heap._rows, tuple(heap._row_bits), tuple(heap._heads))
        self.rest = (heap._regions, heap._used, tuple(heap._pfn_order), tuple(sorted(heap._alignments.items())))
        blocks = tuple((block, head, words[block - 2]) for block, head in heap._walk())
        listed = tuple((number, block, words[block]) for number, block in heap._listed())
        whole = tuple(sorted(heap._whole_runs().items()))
        self.shape = (self.images.runs, blocks, listed, whole, self.lists, self.rest)

    def put_back(self, heap: XenTlsf) -> None:
        """Make this the heap's state."""
        self.images.put_back(heap.source)
        rows, row_bits, heads = self.lists
        heap._rows, heap._row_bits, heap._heads = rows, list(row_bits), list(heads)
        heap._regions, heap._used, orders, alignments = self.rest
        heap._pfn_order, heap._alignments = list(orders), dict(alignments)
        heap._found = heap._probed = heap._scanned = 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, State) and self.shape == other.shape

    def __hash__(self) -> int:
        return hash(self.shape)


def published_total_size(control: int, init: int, grow: int, regions: int) -> int:
    """Bytes of a pool as 3.4 reports them: the first region is taken for granted.

    Wrong by ``init - grow`` when it has gone back; xmalloc's pool has both alike and never shows it
    (unconfirmed by its maintainers).

    >>> published_total_size(0, 2 * 4096, 4096, regions=1)  # the only region is a grown one
    8192
    """
    return control + init + (regions - 1) * grow
