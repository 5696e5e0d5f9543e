"""The sub-page buddy allocator that Xen's xmalloc might have become: powers of two inside pages.

Era: 2005 to 2008; never implemented.  Source: the note of 17 February 2005 by Keir Fraser
at the top of Xen's ``xmalloc.c`` ("Perhaps make this a sub-page buddy allocator? xmalloc()
== O(1). (Disadvantage is potentially greater internal fragmentation)", with the space for
it in ``page_info``), and what he said for it on xen-devel when TLSF was proposed in 2008.
What those leave open is filled in here from the page buddy, so no behaviour of this module
is that of published code.

A request takes a power of two, at least ``smallest`` bytes, and is aligned to it.  Inside a
page blocks split and merge like pages in a zone, by the same arithmetic on addresses::

    order 12  [                      0                      ]    alloc(1000) in a new page
    order 11  [          0          ][        2048          ]    2048 listed
    order 10  [    0     ][   1024  ]                            1024 listed, 0 handed out

Nothing is kept in the blocks.  A page that is divided has one byte for each smallest block:
the order of the block that begins there and whether it is free, or 0 inside a block::

    [ 10 used | 0 0 .. 0 | 10 free | 0 0 .. 0 | 11 free | 0 0 0 .. 0 ]

So a page holds a page: a request of a whole page is one, without the further page that a
header costs, and a pointer into the middle of a block, or to one that is free already, is
found out by looking at its byte.  One list an order holds the free blocks, last in first
out, and a bitmap tells which lists are not empty.  Larger requests are runs of ``2**n``
pages from the page source; a page that becomes wholly free is given back at once.

The lists are dictionaries, whose insertion order is that of the list: any member is taken
out in O(1), as with two links a block.  Orders count from one byte here.

Left out: locks, and poisoning of free blocks.

>>> heap = SubpageBuddy(pages=4)
>>> heap.alloc(1000), heap.alloc(17), heap.alloc(4095), heap.counters()["pages"]
(0, 1024, 4096, 2)
>>> heap.free(0); [(region.start, region.length) for region in heap.free_regions()]
[(0, 1024), (1056, 32), (1088, 64), (1152, 128), (1280, 256), (1536, 512), (2048, 2048)]
>>> heap.free(1024); heap.free(4096); heap.counters()["pages"]
0
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache, partial

from heaplaw.contract import Contract, Request
from heaplaw.pages import PageSource
from heaplaw.protocol import Context, FreeRegion, InvalidFree, ListBit, Listed, Refusal
from heaplaw.shadow import Block, Shadow

from .bits import highest_bit, is_power_of_two, lowest_bit
from .page_images import PageImages
from .pages_arithmetic import buddy_of, get_order, holds_block, merged, misalignment, upper_half
from .promises import at_most, no_overhead

_FREE = 0x80  # flag of a block head; the rest is order + 1
_LINKS = 16  # bytes that being listed costs a block
_LIST_HEAD, _BITMAP, _RUN = 16, 8, 1  # bytes of a list head, of the bitmap, of a run's order
_MOST_ORDERS = 32  # of runs of pages


class SubpageBuddy:
    """Power-of-two blocks from a page source of its own, ``self.source``.

    ``smallest``: bytes of the smallest block.  ``orders``: no run is longer than
    ``2**(orders - 1)`` pages.
    """

    def __init__(self, pages: int = 256, page_size: int = 4096, smallest: int = 16, orders: int = 11) -> None:
        self.contract = _contract(pages, page_size, smallest, orders)
        self.source = PageSource(pages, page_size=page_size)
        self._page_size, self._shift = page_size, highest_bit(page_size)
        self._smallest, self._least = smallest, highest_bit(smallest)
        self._largest = self.contract.largest
        self._heads: dict[int, bytearray] = {}  # page -> a byte for each smallest block of it
        self._runs: dict[int, int] = {}  # first page -> order in pages, of a run lent as a whole
        self._free: list[dict[int, None]] = [{} for _ in range(self._shift)]  # by order; first out is last
        self._nonempty = 0  # bit k: the list of order k has a member
        self._probed = self._splits = self._merges = self._found = 0

    # ---- the two operations ------------------------------------------------------------

    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> int | Refusal | None:
        """Address of a block of at least ``size`` bytes, aligned to its length; None without pages.

        Size 0 is served as 1 is.  INVALID for a negative size and for an alignment that is no
        power of two, TOO_BIG above the longest run of pages.  O(log(page_size / smallest)).
        """
        self._probed = self._splits = self._merges = self._found = 0
        if size < 0 or align < 1 or align & (align - 1):
            return Refusal.INVALID
        need = max(size, align, self._smallest)
        if need > self._largest:
            return Refusal.TOO_BIG
        order = get_order(need, 0)
        return self._alloc_block(order) if order <= self._shift else self._alloc_pages(order - self._shift)

    def free(self, handle: int | None) -> None:
        """Give a block back; nothing happens for None.  O(log(page_size / smallest)).

        Raises InvalidFree for any address that is not that of a live block.
        """
        self._probed = self._splits = self._merges = self._found = 0
        if handle is None:
            return
        page, at = handle >> self._shift, misalignment(handle, self._shift)
        heads = self._heads.get(page)
        if heads is None:
            if at or page not in self._runs:
                raise InvalidFree(f"{handle} is no block's address")
            self.source.give(page, self._runs.pop(page))
            return
        index = at >> self._least
        head = heads[index]
        if not head or misalignment(at, self._least):
            raise InvalidFree(f"{handle} lies inside a block")
        if head & _FREE:
            raise InvalidFree(f"the block at {handle} is already free")
        heads[index] = 0
        block, order = self._merge(heads, handle, head - 1)
        if order == self._shift:
            self._release(page)
        else:
            self._insert(heads, block, order)

    # ---- blocks inside pages -------------------------------------------------------------

    def _alloc_block(self, order: int) -> int | None:
        """A block of at most a page; None when a page is needed and refused."""
        found = self._search(order)
        self._probed = 1
        if found >= 0:
            block = self._take_first(found)
        else:
            page = self.source.take(0)
            if page is None:
                return None
            self._heads[page] = bytearray(self._page_size >> self._least)
            block, found = page << self._shift, self._shift
        self._found, self._splits = 1 << found, found - order
        heads = self._heads[block >> self._shift]
        self._split(heads, block, order, found)
        heads[misalignment(block, self._shift) >> self._least] = order + 1
        return block

    def _search(self, order: int) -> int:
        """Lowest order from this one on whose list is not empty; -1 if there is none.  O(1)."""
        waiting = self._nonempty >> order
        return order + lowest_bit(waiting) if waiting else -1

    def _split(self, heads: bytearray, block: int, low: int, high: int) -> None:
        """Halve a block of order ``high`` down to ``low``; the upper halves are listed."""
        while high > low:
            high -= 1
            self._insert(heads, upper_half(block, high), high)

    def _merge(self, heads: bytearray, block: int, order: int) -> tuple[int, int]:
        """The block that results when buddies merge as long as they are free; on no list yet.

        [ 0: freed ][ 16: free ][ 32: free ] => [ 0: order 5 ][ 32: order 5 ] => [ 0: order 6 ]
        """
        top, least, shift = self._shift, self._least, self._shift
        first = order
        while order < top:
            buddy = buddy_of(block, order)
            if heads[misalignment(buddy, shift) >> least] != order + 1 | _FREE:
                break
            self._unlink(heads, buddy, order)
            block = merged(block, order)
            order += 1
        self._merges = order - first
        return block, order

    def _release(self, page: int) -> None:
        """Give a page back that is one free block."""
        del self._heads[page]
        self.source.give(page, 0)

    def _alloc_pages(self, order: int) -> int | None:
        """Address of a run of ``2**order`` pages; None when it is refused."""
        page = self.source.take(order)
        if page is None:
            return None
        self._runs[page] = order
        self._found = self._page_size << order
        return page << self._shift

    # ---- lists ---------------------------------------------------------------------------

    def _insert(self, heads: bytearray, block: int, order: int) -> None:
        """Mark a block free and put it first on its list."""
        heads[misalignment(block, self._shift) >> self._least] = order + 1 | _FREE
        self._free[order][block] = None
        self._nonempty |= 1 << order

    def _take_first(self, order: int) -> int:
        """Take the first block off a list; the caller marks it."""
        members = self._free[order]
        block = members.popitem()[0]
        if not members:
            self._nonempty &= ~(1 << order)
        return block

    def _unlink(self, heads: bytearray, block: int, order: int) -> None:
        """Take a free block off its list; it is no head any more."""
        heads[misalignment(block, self._shift) >> self._least] = 0
        members = self._free[order]
        del members[block]
        if not members:
            self._nonempty &= ~(1 << order)

    # ---- contents ------------------------------------------------------------------------

    def read(self, handle: int, at: int, length: int) -> bytes:
        """``length`` bytes from offset ``at`` of a live block.  O(length)."""
        return bytes(self.source.memory[handle + at : handle + at + length])

    def write(self, handle: int, at: int, data: bytes) -> None:
        """Put ``data`` at offset ``at`` of a live block.  ValueError past the last page.  O(length)."""
        memory = self.source.memory
        if not 0 <= handle + at <= len(memory) - len(data):
            raise ValueError(f"{len(data)} bytes at {handle}+{at} leave the memory")
        memory[handle + at : handle + at + len(data)] = data

    # ---- observations --------------------------------------------------------------------

    def extents(self, handle: int) -> tuple[tuple[int, int, int], ...]:
        """The whole block, by its head.  ValueError where none is live.  O(1)."""
        page, at = handle >> self._shift, misalignment(handle, self._shift)
        if page in self._heads:
            head = self._heads[page][at >> self._least]
            if head and not head & _FREE and not misalignment(at, self._least):
                return ((0, handle, 1 << (head - 1)),)
        elif page in self._runs and not at:
            return ((0, handle, self._page_size << self._runs[page]),)
        raise ValueError(f"no live block begins at {handle}")

    def pages(self) -> Iterator[tuple[int, int]]:
        """(first page, count) of the divided pages and of the runs.  O(pages held)."""
        for page in self._heads:
            yield page, 1
        for page, order in self._runs.items():
            yield page, 1 << order

    def free_regions(self) -> Iterator[FreeRegion]:
        """Free blocks page by page, as their heads say.  O(blocks).

        Raises RuntimeError where a stretch of a page belongs to no block.
        """
        for page in sorted(self._heads):
            for block, order, is_free in self._walk(page):
                if is_free:
                    yield FreeRegion(0, block, 1 << order, order)

    def _walk(self, page: int) -> Iterator[tuple[int, int, bool]]:
        """(address, order, is it free) of every block of a divided page."""
        heads, base, at = self._heads[page], page << self._shift, 0
        while at < self._page_size:
            head = heads[at >> self._least]
            if not head:
                raise RuntimeError(f"{base + at} begins no block and belongs to none")
            order = (head & ~_FREE) - 1
            yield base + at, order, bool(head & _FREE)
            at += 1 << order

    def lists(self) -> Iterator[Listed]:
        """Members of the list of every order, first to last.  O(free blocks)."""
        for order, members in enumerate(self._free):
            for block in reversed(members):
                yield Listed(order, (0, block))

    def list_bits(self) -> Iterator[ListBit]:
        """What the bitmap says of every list.  O(orders)."""
        for order in range(self._least, self._shift):
            yield ListBit(f"bit {order}", (order,), bool(self._nonempty >> order & 1))

    def counters(self) -> Mapping[str, int]:
        """``free_bytes`` and ``largest_free`` by the lists, ``pages`` by the page records.  O(runs held)."""
        lengths = [(order, len(members)) for order, members in enumerate(self._free) if members]
        return {
            "free_bytes": sum(count << order for order, count in lengths),
            "largest_free": 1 << lengths[-1][0] if lengths else 0,
            "pages": len(self._heads) + sum(1 << order for order in self._runs.values()),
        }

    def metadata(self) -> tuple[int, int]:
        """Bytes in the pages (none) and beside them: heads, orders of runs, links, list heads.  O(orders)."""
        heads = len(self._heads) * (self._page_size >> self._least) + len(self._runs) * _RUN
        return 0, heads + sum(map(len, self._free)) * _LINKS + _fixed_bytes(self._shift - self._least)

    def cost(self) -> Mapping[str, int]:
        """Steps of the last call: bitmaps ``probed``, ``splits``, ``merges``; bytes of the block ``found``."""
        steps = {"probed": self._probed, "splits": self._splits, "merges": self._merges}
        return steps | {"found": self._found} if self._found else steps

    def destroy(self) -> None:
        """Give every page back, whatever is live.  O(pages held)."""
        for page in list(self._heads):
            self._release(page)
        for page, order in self._runs.items():
            self.source.give(page, order)
        self._runs = {}
        self._free = [{} for _ in range(self._shift)]
        self._nonempty = 0

    # ---- states --------------------------------------------------------------------------

    def snapshot(self) -> "State":
        """The heap as it is now; hashable.  O(bytes held)."""
        return State(self)

    def restore(self, state: "State") -> None:
        """Return to a state of ``snapshot``; armed failures of the source stay.  O(bytes held)."""
        state.images.put_back(self.source)
        heads, runs, lists, self._nonempty = state.shape
        self._heads = {page: bytearray(data) for page, data in heads}
        self._runs = dict(runs)
        self._free = [dict.fromkeys(members) for members in lists]
        self._probed = self._splits = self._merges = self._found = 0


_Shape = tuple[tuple[tuple[int, bytes], ...], tuple[tuple[int, int], ...], tuple[tuple[int, ...], ...], int]


class State:
    """A heap at one moment; ``shape``, its metadata and lists in order, is what equality means."""

    __slots__ = ("images", "shape")

    def __init__(self, heap: SubpageBuddy) -> None:
        self.images = PageImages(heap.source)
        heads = tuple((page, bytes(data)) for page, data in sorted(heap._heads.items()))
        lists = tuple(tuple(members) for members in heap._free)
        self.shape: _Shape = (heads, tuple(sorted(heap._runs.items())), lists, heap._nonempty)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, State) and self.shape == other.shape

    def __hash__(self) -> int:
        return hash(self.shape)


# ---- what it promises ---------------------------------------------------------------------


@lru_cache(maxsize=256)
def _contract(pages: int, page_size: int, smallest: int, orders: int) -> Contract:
    """The promises of these parameters.  Raises ValueError for senseless ones."""
    if not isinstance(pages, int) or pages < 1:
        raise ValueError(f"pages must be at least 1, not {pages!r}")
    if not isinstance(smallest, int) or not is_power_of_two(smallest):
        raise ValueError(f"smallest must be a power of two, not {smallest!r}")
    if not isinstance(page_size, int) or not is_power_of_two(page_size) or page_size < smallest:
        raise ValueError(f"page_size must be a power of two from {smallest}, the smallest block, not {page_size!r}")
    if not isinstance(orders, int) or not 1 <= orders <= _MOST_ORDERS:
        raise ValueError(f"orders must be 1 to {_MOST_ORDERS}, not {orders!r}")
    highest = min(orders - 1, highest_bit(pages))
    largest, levels = page_size << highest, highest_bit(page_size) - highest_bit(smallest)
    return Contract(
        min_size=0,
        max_size=largest,
        granule=smallest,
        max_align=largest,
        limits=tuple(smallest << level for level in range(levels + highest + 1)),
        detects=frozenset({"double", "foreign", "interior"}),
        rejects=frozenset({"huge", "align"}),
        spaces="pages",
        tiled=True,
        mergeable=partial(_are_buddies, page_size),
        list_of=_order_of,
        geometry=partial(_misplaced, smallest),
        overhead=no_overhead,
        metadata_bound=partial(_metadata_bound, page_size // smallest, levels),
        waste=partial(_waste, smallest),
        page_order=highest,
        drained_pages=0,
        drained_size=largest,
        must_serve=partial(_can_serve, smallest, largest),
        must_refuse=partial(_too_big, smallest, largest),
        free_then_alloc=True,
        cost_bounds={name: partial(at_most, most) for name, most in (("probed", 1), ("splits", levels))},
    )


def _block_order(smallest: int, size: int, align: int) -> int:
    return get_order(max(size, align, smallest), 0)


def _are_buddies(page_size: int, one: FreeRegion, two: FreeRegion) -> bool:
    """Free neighbours of one length below a page that make a block of twice that.  Whole pages go back."""
    return one.length == two.length < page_size and buddy_of(one.start, _order_of(one)) == two.start


def _order_of(region: FreeRegion) -> int:
    return highest_bit(region.length)


def _misplaced(smallest: int, block: Block) -> str | None:
    order = _block_order(smallest, block.size, block.align)
    ((_, start, length),) = block.extents
    if length != 1 << order:
        return f"{length} bytes are no block of order {order}"
    if misalignment(start, order):
        return f"no block of order {order} begins at {start}"
    return None


def _waste(smallest: int, size: int, align: int) -> int:
    """Rounding to a power of two, and no byte more: less than what was asked for, above half the smallest block."""
    return (1 << _block_order(smallest, size, align)) - size


def _fixed_bytes(levels: int) -> int:
    return levels * _LIST_HEAD + _BITMAP


def _metadata_bound(units: int, levels: int, shadow: Shadow, source: PageSource | None) -> int:
    """For each page held a byte for each smallest block, and links for half of those: one of two buddies is live."""
    held = 0 if source is None else source.held
    return held * (units + (units >> 1) * _LINKS) + _fixed_bytes(levels)


def _can_serve(smallest: int, largest: int, request: Request, shadow: Shadow, source: PageSource | None) -> bool:
    """Is there a free block in a divided page, or a run of pages to be had?

    Exact: free buddies have all merged, so a free block of at least some order exists if and
    only if a naturally aligned free stretch of that length does.  O(live + runs held).
    """
    if source is None or request.size < 0 or not is_power_of_two(request.align):
        return False
    if max(request.size, request.align) > largest:
        return False
    order, shift = _block_order(smallest, request.size, request.align), highest_bit(source.page_size)
    if order < shift:
        size = source.page_size
        for page, run in source.runs.items():
            stretches = shadow.gaps(0, page * size, (page + 1) * size) if run == 0 else ()
            if any(holds_block(low, high, order) for low, high in stretches):
                return True
    return source.fits(max(order - shift, 0))


def _too_big(smallest: int, largest: int, request: Request, shadow: Shadow, source: PageSource | None) -> bool:
    return _block_order(smallest, request.size, request.align) > highest_bit(largest)
