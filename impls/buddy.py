"""The binary buddy page allocator: blocks of ``2**order`` pages, as in Linux.

Era: Knowlton 1965, Knuth 1968; in Linux since its first years.  Source: the free,
split and smallest-first paths of ``mm/page_alloc.c``, Linux 6.1, with order-11
exclusive (orders 0 to 10; the constant became inclusive in 6.4).

A request takes the smallest block that is big enough and splits it down; each
upper half goes on the list of its order, the lower half is split on or handed out::

    order 3   [               8                ]            alloc(order 0) at pfn 8
    order 2   [ 8 handed on ..][      12       ]   12 listed
    order 1   [   8   ][  10   ]                   10 listed
    order 0   [ 8 ][ 9 ]                            9 listed, 8 handed out

A freed block merges with its buddy as long as that is wholly free and of the same
order; the zone is then in the one coalesced form that its live blocks allow::

    [ 8: freed ][ 9: free ]  =>  [ 8: order 1 ][ 10: free ]  =>  [ 8: order 2 ] ...

Blocks are marked on the page that begins them, as ``struct page`` does: a free
head carries its order, and so does the head of a block handed out (all blocks
here are compound, as with ``__GFP_COMP``; the order of any other block is known
to its owner alone).  Freeing trusts the size that the caller gives: a wrong one is
noticed only where it is not aligned, and a second free only while the block still
stands unmerged, so the contract promises to notice nothing but an address outside
the zone.

Left out: migration types, per-CPU page lists, watermarks, several zones and nodes
(those of ``PageSource`` serve the allocators that take pages), holes in a zone,
and the tail insertion of blocks whose buddy is about to become whole ("merge
likely"): every free block goes to the head of its list, so that runs repeat.

>>> zone = Buddy(pages=16)
>>> zone.alloc(4096), zone.alloc(5000)
(0, 8192)
>>> [tuple(region) for region in zone.free_regions()]
[(0, 4096, 4096, 0), (0, 16384, 16384, 2), (0, 32768, 32768, 3)]
>>> zone.free(8192, 5000); zone.free(0, 4096); [region.list_id for region in zone.free_regions()]
[4]
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache, partial
from typing import Any

from heaplaw import Block, Context, Contract, FreeRegion, InvalidFree, Listed, PageSource, Refusal, Request, Shadow

from .bits import is_power_of_two
from .pages_arithmetic import buddy_of, cover, get_order, holds_block, merged, misalignment, upper_half

_MAX_ORDERS = 32  # an order is kept in five bits at most
_PAGE_STRUCT = 64  # bytes of metadata that a page costs (struct page, 64-bit)
_LIST_STRUCT = 24  # bytes of a list head and its count


class Buddy:
    """A zone of ``pages`` pages whose first page has the number ``start``.

    ``alloc`` answers the address of a block in bytes, relative to the zone;
    ``free(handle, size)`` recomputes the order from the size.  ``orders`` is the
    number of orders: no block is longer than ``2**(orders - 1)`` pages.
    """

    def __init__(self, pages: int = 1024, page_size: int = 4096, orders: int = 11, start: int = 0) -> None:
        self.contract = _contract(pages, page_size, orders, start)
        self._pages, self._page_size, self._orders, self._start = pages, page_size, orders, start
        self._shift = page_size.bit_length() - 1
        self._largest = self.contract.largest
        # One entry a page: order + 1 of the free block that begins here, -(order + 1) of the
        # live one, 0 inside a block.
        self._head = [0] * pages
        # Doubly linked rings through the pages; entry pages + o is the head of order o's list.
        self._next = list(range(pages + orders))
        self._prev = list(range(pages + orders))
        self._nr_free = [0] * orders
        self._memory: bytearray | None = None  # contents; made when first touched
        self._probed = self._splits = self._merges = self._found = 0
        for pfn, order in reversed(cover(start, pages, orders)):  # the lowest comes to the head
            self._push(pfn - start, order)

    # ---- the two operations ------------------------------------------------------------

    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> int | Refusal | None:
        """Address of a block of at least ``size`` bytes; None when no block is long enough.

        INVALID for size 0 and for an alignment that is no power of two or exceeds a page
        (a block is aligned to its own size whatever is asked).  TOO_BIG above the zone's
        largest block.  O(orders).
        """
        self._probed = self._splits = self._merges = self._found = 0
        if size < 1 or align < 1 or align > self._page_size or align & (align - 1):
            return Refusal.INVALID
        if size > self._largest:
            return Refusal.TOO_BIG
        order = get_order(size, self._shift)
        following, pages = self._next, self._pages
        for found in range(order, self._orders):
            first = following[pages + found]
            if first < pages:
                break
        else:
            self._probed = self._orders - order
            return None
        self._unlink(first, found)
        self._probed, self._splits = found - order + 1, found - order
        self._found = self._page_size << found
        while found > order:
            found -= 1
            self._push(upper_half(first + self._start, found) - self._start, found)
        self._head[first] = -(order + 1)
        return first << self._shift

    def free(self, handle: int, size: int) -> None:
        """Give back the block at ``handle`` that ``size`` bytes were asked for.  O(orders).

        Raises InvalidFree for an address that is outside the zone, not that of a block of
        this size, or that of a block which already stands free.
        """
        self._probed = self._splits = self._merges = self._found = 0
        page, inside = handle >> self._shift, handle & (self._page_size - 1)
        pages, start, head = self._pages, self._start, self._head
        if inside or not 0 <= page < pages:
            raise InvalidFree(f"{handle} is no page of this zone")
        if not 0 < size <= self._largest:
            raise InvalidFree(f"{size} bytes are no block's size")
        order = get_order(size, self._shift)
        pfn = page + start
        if misalignment(pfn, order):
            raise InvalidFree(f"page {pfn} begins no block of order {order}")
        if head[page] > 0:
            raise InvalidFree(f"page {pfn} is already free")
        head[page] = 0
        top = self._orders - 1
        while order < top:
            buddy = buddy_of(pfn, order) - start
            if not 0 <= buddy < pages or head[buddy] != order + 1:  # the bounds come first
                break
            self._unlink(buddy, order)
            pfn = merged(pfn, order)
            order += 1
            self._merges += 1
        self._push(pfn - start, order)

    def _push(self, page: int, order: int) -> None:
        """Make ``page`` the head of a free block and the first of its list."""
        following, before, ring = self._next, self._prev, self._pages + order
        first = following[ring]
        following[page], before[page] = first, ring
        following[ring] = before[first] = page
        self._head[page] = order + 1
        self._nr_free[order] += 1

    def _unlink(self, page: int, order: int) -> None:
        """Take a free block off its list; its page is no head any more."""
        after, before = self._next[page], self._prev[page]
        self._next[before], self._prev[after] = after, before
        self._head[page] = 0
        self._nr_free[order] -= 1

    # ---- contents ----------------------------------------------------------------------

    def read(self, handle: int, at: int, length: int) -> bytes:
        """``length`` bytes from offset ``at`` of a live block.  O(length)."""
        return bytes(self._contents()[handle + at : handle + at + length])

    def write(self, handle: int, at: int, data: bytes) -> None:
        """Put ``data`` at offset ``at`` of a live block.  ValueError past the zone's end.  O(length)."""
        memory = self._contents()
        if not 0 <= handle + at <= len(memory) - len(data):
            raise ValueError(f"{len(data)} bytes at {handle}+{at} leave the zone")
        memory[handle + at : handle + at + len(data)] = data

    def _contents(self) -> bytearray:
        if self._memory is None:
            self._memory = bytearray(self._pages * self._page_size)
        return self._memory

    # ---- observations ------------------------------------------------------------------

    def extents(self, handle: int) -> tuple[tuple[int, int, int], ...]:
        """The whole block, by the order on its first page.  ValueError where none is live.  O(1)."""
        mark = self._head[handle >> self._shift]
        if mark >= 0:
            raise ValueError(f"no live block begins at {handle}")
        return ((0, handle, self._page_size << (-mark - 1)),)

    def free_regions(self) -> Iterator[FreeRegion]:
        """Free blocks by address, from the marks on their first pages.  O(pages).

        Raises RuntimeError where a page belongs to no block.
        """
        page, size = 0, self._page_size
        while page < self._pages:
            mark = self._head[page]
            if mark == 0:
                raise RuntimeError(f"page {page} begins no block and belongs to none")
            order = abs(mark) - 1
            if mark > 0:
                yield FreeRegion(0, page * size, size << order, order)
            page += 1 << order

    def lists(self) -> Iterator[Listed]:
        """Members of the free list of every order, first to last.  O(free blocks).

        Raises RuntimeError for a list that does not end.
        """
        for order in range(self._orders):
            for page in self._walk(order):
                yield Listed(order, (0, page * self._page_size))

    def _walk(self, order: int) -> Iterator[int]:
        ring = page = self._pages + order
        for _ in range(self._pages + 1):
            page = self._next[page]
            if page == ring:
                return
            yield page
        raise RuntimeError(f"free list of order {order} does not end")

    def counters(self) -> Mapping[str, int]:
        """``free_bytes`` of all lists; ``largest_block``, which a longer free run may exceed.  O(orders)."""
        size = self._page_size
        filled = [order for order, count in enumerate(self._nr_free) if count]
        return {
            "free_bytes": sum((size << order) * count for order, count in enumerate(self._nr_free)),
            "largest_block": size << filled[-1] if filled else 0,
        }

    def nr_free(self) -> tuple[int, ...]:
        """Free blocks of each order, as the allocator counts them.  O(orders)."""
        return tuple(self._nr_free)

    def metadata(self) -> tuple[int, int]:
        """Bytes in the pages themselves (none) and beside them."""
        return 0, _metadata_bytes(self._pages, self._orders)

    def cost(self) -> Mapping[str, int]:
        """Steps of the last call: lists ``probed``, ``splits``, ``merges``; bytes of the block ``found``."""
        steps = {"probed": self._probed, "splits": self._splits, "merges": self._merges}
        return steps | {"found": self._found} if self._found else steps

    # ---- states ------------------------------------------------------------------------

    def snapshot(self) -> tuple[Any, ...]:
        """Marks, lists in order, contents of live blocks: equal states are equal.  O(pages)."""
        lists = tuple(tuple(self._walk(order)) for order in range(self._orders))
        return tuple(self._head), lists, tuple(self._live_contents())

    def restore(self, state: tuple[Any, ...]) -> None:
        """Return to a state of ``snapshot``.  O(pages)."""
        head, lists, contents = state
        rings = range(self._pages + self._orders)
        self._next, self._prev = list(rings), list(rings)
        self._nr_free = [0] * self._orders
        for order, members in enumerate(lists):
            for page in reversed(members):
                self._push(page, order)
        self._head = list(head)
        self._memory = None
        for address, data in contents:
            self.write(address, 0, data)

    def _live_contents(self) -> Iterator[tuple[int, bytes]]:
        for page, mark in enumerate(self._head):
            if mark < 0 and self._memory is not None:
                address = page << self._shift
                yield address, self.read(address, 0, self._page_size << (-mark - 1))


# ---- what it promises ---------------------------------------------------------------------


@lru_cache(maxsize=256)
def _contract(pages: int, page_size: int, orders: int, start: int) -> Contract:
    """The contract of every zone with these parameters.  Raises ValueError for senseless ones."""
    for name, value, least in (("pages", pages, 1), ("page_size", page_size, 1), ("start", start, 0)):
        if not isinstance(value, int) or value < least:
            raise ValueError(f"{name} must be a whole number from {least}, not {value!r}")
    if not is_power_of_two(page_size):
        raise ValueError(f"page_size {page_size} is not a power of two")
    if not isinstance(orders, int) or not 1 <= orders <= _MAX_ORDERS:
        raise ValueError(f"orders must be 1 to {_MAX_ORDERS}, not {orders!r}")
    highest = max(order for _, order in cover(start, pages, orders))
    zone = (pages, page_size, orders, start)
    return Contract(
        arena=pages * page_size,
        max_size=page_size << highest,
        granule=page_size,
        max_align=page_size,
        limits=tuple(page_size << order for order in range(highest + 1)),
        sized_free=True,
        detects=frozenset({"foreign"}),
        rejects=frozenset({"zero", "huge", "align"}),
        mergeable=partial(_are_buddies, zone),
        list_of=partial(_order_of, zone),
        geometry=partial(_misplaced, zone),
        overhead=_no_overhead,
        metadata_bound=partial(_metadata_bound, zone),
        waste=partial(_waste, zone),
        drained_size=page_size << highest,
        must_serve=partial(_can_serve, zone),
        must_refuse=partial(_cannot_serve, zone),
        free_then_alloc=True,
        cost_bounds={name: partial(_at_most, most) for name, most in (("probed", orders), ("splits", orders - 1))},
    )


_Zone = tuple[int, int, int, int]  # pages, page size, orders, first pfn


def _are_buddies(zone: _Zone, one: FreeRegion, two: FreeRegion) -> bool:
    """Do these free neighbours of one order below the highest make a block?"""
    _, page_size, orders, start = zone
    if one.length != two.length or one.length >= page_size << (orders - 1):
        return False
    order = _order_of(zone, one)
    return buddy_of(one.start // page_size + start, order) == two.start // page_size + start


def _order_of(zone: _Zone, region: FreeRegion) -> int:
    return get_order(region.length, zone[1].bit_length() - 1)


def _misplaced(zone: _Zone, block: Block) -> str | None:
    _, page_size, _, start = zone
    order = get_order(block.size, page_size.bit_length() - 1)
    ((_, address, length),) = block.extents
    if length != page_size << order:
        return f"{length} bytes are no block of order {order}"
    if misalignment(address // page_size + start, order):
        return f"page {address // page_size + start} begins no block of order {order}"
    return None


def _waste(zone: _Zone, size: int, align: int) -> int:
    """Rounding to a power of two pages, and no byte more: less than half a block above one page."""
    return (zone[1] << get_order(size, zone[1].bit_length() - 1)) - size


def _no_overhead(shadow: Shadow, source: PageSource | None) -> int:
    return 0


def _metadata_bytes(pages: int, orders: int) -> int:
    return pages * _PAGE_STRUCT + orders * _LIST_STRUCT


def _metadata_bound(zone: _Zone, shadow: Shadow, source: PageSource | None) -> int:
    return _metadata_bytes(zone[0], zone[2])


def _at_most(most: int, request: Request, shadow: Shadow) -> int:
    return most


def _can_serve(zone: _Zone, request: Request, shadow: Shadow, source: PageSource | None) -> bool:
    """Is a naturally aligned block of the request's order wholly free?

    Exact: a zone whose free buddies have all merged holds a free block of at least this
    order if and only if such a run of free pages exists.  O(live), often less.
    """
    pages, page_size, orders, start = zone
    if not 0 < request.size <= page_size << (orders - 1):
        return False
    if not 0 < request.align <= page_size or not is_power_of_two(request.align):
        return False
    order = get_order(request.size, page_size.bit_length() - 1)
    if shadow.bytes + (page_size << order) > pages * page_size:
        return False
    return any(
        holds_block(low // page_size + start, high // page_size + start, order)
        for low, high in shadow.gaps(0, 0, pages * page_size)
    )


def _cannot_serve(zone: _Zone, request: Request, shadow: Shadow, source: PageSource | None) -> bool:
    return not _can_serve(zone, request, shadow, source)
