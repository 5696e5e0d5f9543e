"""The binary buddy page allocator: blocks of ``2**order`` pages, as in Linux.

Era: Knowlton 1965, Knuth 1968; in Linux since its first years.  Source: the free,
split and smallest-first paths of ``mm/page_alloc.c``, Linux 6.1, with order-11
exclusive (orders 0 to 10; the constant became inclusive in 6.4), and its zonelists
and watermarks.

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
all zones.

By default there is one zone (see ``buddy_zone``) that keeps nothing back.  With
several, or with watermarks (see ``buddy_zonelists``), a request says where it comes
from: the CPU's number is its node's, and the group is a set of flags, 1 for
``__GFP_DMA`` and 2 for ``__GFP_THISNODE``.  It goes along the zonelist twice, first
leaving every zone its low watermark, then its minimum; a request that cannot wait
goes below the minimum the second time.  A zone passes when

    free pages after the request >= watermark + what it keeps from higher zones

and, above order 0, when it has a block that is long enough.  6.1 also counts pages
set aside for atomic requests of higher orders; that reserve goes with migration
types and is left out, as are reclaim and compaction between the two passes.

Left out: migration types, per-CPU page lists, memory policies, holes in a zone, and
requests that ignore all watermarks (those of reclaim itself).  Every free block goes to
the head of its list, which is easy to follow; with ``tail=1`` one whose merge seems near
("merge likely") goes to the end, as in the kernel.

>>> zone = Buddy(pages=16)
>>> zone.alloc(4096), zone.alloc(5000)
(0, 8192)
>>> [tuple(region) for region in zone.free_regions()]
[(0, 4096, 4096, 0), (0, 16384, 16384, 2), (0, 32768, 32768, 3)]
>>> zone.free(8192, 5000); zone.free(0, 4096); [region.list_id for region in zone.free_regions()]
[4]
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from functools import lru_cache, partial
from typing import Any, ClassVar

from heaplaw import Block, Context, Contract, FreeRegion, InvalidFree, Listed, PageSource, Refusal, Request, Shadow

from .bits import highest_bit, is_power_of_two
from .buddy_zone import Zone
from .buddy_zonelists import DMA, FLAGS, THISNODE, Plan, atomic_mark, kept_back, plan, zonelist
from .pages_arithmetic import buddy_of, cover, get_order, holds_block, misalignment
from .promises import all_but, at_most, no_overhead

_PAGE_STRUCT = 64  # bytes of metadata that a page costs (struct page, 64-bit)
_LIST_STRUCT = 24  # bytes of a list head and its count
_FRESH = Shadow()  # nothing lives in it
_ANYHOW = Context()


class Buddy:
    """``pages`` pages, the first of which has the number ``start``, in one or more zones.

    ``alloc`` answers the address of a block in bytes, relative to the first page;
    ``free(handle, size)`` recomputes the order from the size.  ``orders`` is the
    number of orders: no block is longer than ``2**(orders - 1)`` pages.

    ``nodes``, ``dma``, ``min_free`` and ``ratio`` make zones and watermarks, see
    ``buddy_zonelists.plan``; ``tail=1`` lists blocks last that may soon be merged.
    """

    zone_class: ClassVar[type[Zone]] = Zone

    def __init__(
        self,
        pages: int = 1024,
        page_size: int = 4096,
        orders: int = 11,
        start: int = 0,
        nodes: int = 1,
        dma: int = 0,
        min_free: int = 0,
        ratio: int = 0,
        tail: int = 0,
    ) -> None:
        here = self._plan = plan(pages, page_size, orders, start, nodes, dma, min_free, ratio)
        if tail not in (0, 1):
            raise ValueError(f"tail must be 0 or 1, not {tail!r}")
        self.contract, self._largest = _contract(here), page_size << _highest_order(here)
        self._pages, self._page_size, self._shift = pages, page_size, page_size.bit_length() - 1
        make = self.zone_class
        self._zones = [make(zone.pages, orders, start + zone.first, bool(tail)) for zone in here.zones]
        self._firsts = [zone.first for zone in here.zones]
        self._only = self._zones[0] if here.plain else None
        self._memory: bytearray | None = None  # contents; made when first touched
        self._looked = 0  # free lists that the watermarks of the last request looked at
        self._passed = 0  # zones that the last request looked at

    # ---- the two operations ------------------------------------------------------------

    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> int | Refusal | None:
        """Address of a block of at least ``size`` bytes; None when no zone has one to give.

        INVALID for size 0 and for an alignment that is no power of two or exceeds a page
        (a block is aligned to its own size whatever is asked).  TOO_BIG above the largest
        block of all zones.  O(orders) for each zone.
        """
        if size < 1 or align < 1 or align > self._page_size or align & (align - 1):
            self._forget_steps()
            return Refusal.INVALID
        if size > self._largest:
            self._forget_steps()
            return Refusal.TOO_BIG
        order, zone = get_order(size, self._shift), self._only
        page = self._alloc_pages(order, ctx or _ANYHOW) if zone is None else zone.rmqueue(order)
        return page << self._shift if page >= 0 else None

    def free(self, handle: int, size: int, *, ctx: Context | None = None) -> None:
        """Give back the block at ``handle`` that ``size`` bytes were asked for.  O(orders).

        Raises InvalidFree for an address that is outside all zones, not that of a block of
        this size, or that of a block which already stands free.
        """
        page, inside = handle >> self._shift, handle & (self._page_size - 1)
        zone, first = self._only, 0
        if inside or not 0 <= page < self._pages:
            raise InvalidFree(f"{handle} is no page of any zone")
        if zone is None:
            self._forget_steps()
            zone, first = self._page_zone(page)
            page -= first
        if not 0 < size <= self._largest:
            raise InvalidFree(f"{size} bytes are no block's size")
        order = get_order(size, self._shift)
        if misalignment(page + zone.start, order) or page + (1 << order) > zone.pages:
            raise InvalidFree(f"page {page + zone.start} begins no block of order {order}")
        if zone.head[page] > 0:
            raise InvalidFree(f"page {page + zone.start} is already free")
        zone.free_one_page(page, order)

    # ---- zones and watermarks ----------------------------------------------------------

    def _alloc_pages(self, order: int, ctx: Context) -> int:
        """First page of a block from the zones that a request may use; -1 when none has one."""
        self._forget_steps()
        flags, plans = ctx.group & FLAGS, self._plan.zones
        zones = zonelist(self._plan, ctx.cpu, flags)
        page = self._get_page_from_freelist(order, flags, [(index, plans[index].low) for index in zones])
        if page < 0:
            marks = [(index, plans[index].minimum) for index in zones]
            if ctx.atomic:
                marks = [(index, atomic_mark(minimum)) for index, minimum in marks]
            page = self._get_page_from_freelist(order, flags, marks)
        return page

    def _get_page_from_freelist(self, order: int, flags: int, marks: list[tuple[int, int]]) -> int:
        """First page of a block from the first of these (zone, watermark) that may give it; or -1."""
        for index, mark in marks:
            zone = self._zones[index]
            self._passed += 1
            if self._zone_watermark_ok(zone, order, kept_back(self._plan, index, mark, flags)):
                page = zone.rmqueue(order)
                if page >= 0:
                    return page + self._firsts[index]
        return -1

    def _zone_watermark_ok(self, zone: Zone, order: int, mark: int) -> bool:
        """Are more than ``mark`` pages left but for the last of the request, and is there a block?"""
        if zone.free_pages - ((1 << order) - 1) <= mark:
            return False
        if order == 0:
            return True
        for found in range(order, zone.orders):
            self._looked += 1
            if zone.nr_free[found]:
                return True
        return False

    def _page_zone(self, page: int) -> tuple[Zone, int]:
        """The zone that a page lies in, and that zone's first page.  O(log zones)."""
        index = bisect_right(self._firsts, page) - 1
        return self._zones[index], self._firsts[index]

    def _forget_steps(self) -> None:
        self._looked = self._passed = 0
        for zone in self._zones:
            zone.forget_steps()

    # ---- contents ----------------------------------------------------------------------

    def read(self, handle: int, at: int, length: int) -> bytes:
        """``length`` bytes from offset ``at`` of a live block.  O(length)."""
        return bytes(self._contents()[handle + at : handle + at + length])

    def write(self, handle: int, at: int, data: bytes) -> None:
        """Put ``data`` at offset ``at`` of a live block.  ValueError past the last page.  O(length)."""
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
        zone, first = (self._only, 0) if self._only is not None else self._page_zone(handle >> self._shift)
        mark = zone.head[(handle >> self._shift) - first]
        if mark >= 0:
            raise ValueError(f"no live block begins at {handle}")
        return ((0, handle, self._page_size << (-mark - 1)),)

    def free_regions(self) -> Iterator[FreeRegion]:
        """Free blocks by address, from the marks on their first pages.  O(pages).

        A list is known by its order; where there are several zones, by the zone's number
        and the order.  Raises RuntimeError where a page belongs to no block.
        """
        size, several = self._page_size, len(self._zones) > 1
        for index, (first, zone) in enumerate(zip(self._firsts, self._zones, strict=True)):
            page, head, pages = 0, zone.head, zone.pages
            while page < pages:
                mark = head[page]
                if mark > 0:
                    order = mark - 1
                    yield FreeRegion(0, (first + page) * size, size << order, (index, order) if several else order)
                    page += 1 << order
                elif mark < 0:
                    page += 1 << -mark - 1
                else:
                    raise RuntimeError(f"page {page + zone.start} begins no block and belongs to none")

    def lists(self) -> Iterator[Listed]:
        """Members of the free list of every order, first to last.  O(free blocks).

        Raises RuntimeError for a list that does not end.
        """
        several = len(self._zones) > 1
        for index, (first, zone) in enumerate(zip(self._firsts, self._zones, strict=True)):
            for order in range(zone.orders):
                for page in zone.members(order):
                    yield Listed((index, order) if several else order, (0, (first + page) * self._page_size))

    def counters(self) -> Mapping[str, int]:
        """``free_bytes`` and ``free_blocks`` of all zones; ``largest_block``, which a longer free run may exceed.

        O(orders).
        """
        counts = self.nr_free()
        filled = [order for order, count in enumerate(counts) if count]
        return {
            "free_blocks": sum(counts),
            "free_bytes": sum(zone.free_pages for zone in self._zones) * self._page_size,
            "largest_block": self._page_size << filled[-1] if filled else 0,
        }

    def nr_free(self, index: int | None = None) -> tuple[int, ...]:
        """Free blocks of each order in one zone or in all, as the allocator counts them.  O(orders)."""
        zones = self._zones if index is None else [self._zones[index]]
        return tuple(map(sum, zip(*[zone.nr_free for zone in zones], strict=True)))

    def metadata(self) -> tuple[int, int]:
        """Bytes in the pages themselves (none) and beside them."""
        return 0, _metadata_bytes(self._plan)

    def cost(self) -> Mapping[str, int]:
        """Steps of the last call: ``zones`` tried, lists ``probed``, ``splits``, ``merges``; bytes ``found``.

        With one zone and no watermarks no zone is tried: there is no other.
        """
        zone, zones = self._only, self._zones
        if zone is not None:
            steps, found = {"probed": zone.probed, "splits": zone.splits, "merges": zone.merges}, zone.found
        else:
            probed = self._looked + sum(zone.probed for zone in zones)
            splits, merges = sum(zone.splits for zone in zones), sum(zone.merges for zone in zones)
            steps = {"probed": probed, "splits": splits, "merges": merges, "zones": self._passed}
            found = sum(zone.found for zone in zones)
        return {**steps, "found": found << self._shift}

    # ---- states ------------------------------------------------------------------------

    def snapshot(self) -> tuple[Any, ...]:
        """Marks, lists in order, contents of live blocks: equal states are equal.  O(pages)."""
        return tuple(zone.state() for zone in self._zones), tuple(self._live_contents())

    def restore(self, state: tuple[Any, ...]) -> None:
        """Return to a state of ``snapshot``.  O(pages)."""
        zones, contents = state
        for zone, seen in zip(self._zones, zones, strict=True):
            zone.restore(seen)
        self._memory = None
        for address, data in contents:
            self.write(address, 0, data)

    def _live_contents(self) -> Iterator[tuple[int, bytes]]:
        for first, zone in zip(self._firsts, self._zones, strict=True):
            for page, mark in enumerate(zone.head):
                if mark < 0 and self._memory is not None:
                    address = (first + page) << self._shift
                    yield address, self.read(address, 0, self._page_size << (-mark - 1))


# ---- what it promises ---------------------------------------------------------------------


@lru_cache(maxsize=256)
def _contract(here: Plan) -> Contract:
    """The contract of all zones with this plan.  ValueError where watermarks leave nothing to serve."""
    page_size, plain = here.page_size, here.plain
    sizes = [page_size << order for order in range(_highest_order(here) + 1)]
    served = [size for size in sizes if _can_serve(here, Request(size), _FRESH, None)]
    if not served:
        raise ValueError("the watermarks leave no page to a request that can wait")
    bounds = {"probed": here.orders, "splits": here.orders - 1}
    if not plain:  # a watermark looks at the lists too, and every zone is gone through twice
        bounds = {**bounds, "probed": here.orders * (2 * len(here.zones) + 1), "zones": 2 * len(here.zones)}
    return Contract(
        arena=here.pages * page_size,
        max_size=served[-1],
        granule=page_size,
        max_align=page_size,
        limits=tuple(sizes),
        sized_free=True,
        contextual=not plain,
        cpus=here.nodes,
        groups=0 if plain else FLAGS,
        detects=frozenset({"foreign"}),
        rejects=frozenset({"zero", "huge", "align"}),
        mergeable=partial(_are_buddies, here),
        list_of=partial(_list_of, here) if len(here.zones) > 1 else partial(_order_of, highest_bit(page_size)),
        geometry=partial(_misplaced, here),
        overhead=no_overhead,
        metadata_bound=partial(_metadata_bound, here),
        waste=partial(_waste, here),
        drained_size=served[-1],
        must_serve=partial(_can_serve, here),
        must_refuse=partial(all_but, partial(_can_serve, here)),
        free_then_alloc=plain,
        cost_bounds={name: partial(at_most, most) for name, most in bounds.items()},
        placement=partial(_elsewhere, here) if len(here.zones) > 1 else None,
        reserve=None if plain else partial(_reserved, here),
    )


def _highest_order(here: Plan) -> int:
    return max(order for zone in here.zones for _, order in cover(here.start + zone.first, zone.pages, here.orders))


def _are_buddies(here: Plan, one: FreeRegion, two: FreeRegion) -> bool:
    """Do these free neighbours of one zone, of one order below the highest, make a block?"""
    if one.length != two.length or one.length >= here.page_size << (here.orders - 1):
        return False
    first, second = one.start // here.page_size, two.start // here.page_size
    order = highest_bit(one.length // here.page_size)
    return buddy_of(first + here.start, order) == second + here.start and here.zone_of(first) == here.zone_of(second)


def _order_of(page_shift: int, region: FreeRegion) -> int:
    return get_order(region.length, page_shift)


def _list_of(here: Plan, region: FreeRegion) -> tuple[int, int]:
    return here.zone_of(region.start // here.page_size), get_order(region.length, highest_bit(here.page_size))


def _misplaced(here: Plan, block: Block) -> str | None:
    order = get_order(block.size, highest_bit(here.page_size))
    ((_, address, length),) = block.extents
    if length != here.page_size << order:
        return f"{length} bytes are no block of order {order}"
    page = address // here.page_size
    if misalignment(page + here.start, order):
        return f"page {page + here.start} begins no block of order {order}"
    if len(here.zones) > 1 and here.zone_of(page) != here.zone_of(page + (1 << order) - 1):
        return f"the block at page {page + here.start} reaches into another zone"
    return None


def _waste(here: Plan, size: int, align: int) -> int:
    """Rounding to a power of two pages, and no byte more: less than half a block above one page."""
    return (here.page_size << get_order(size, highest_bit(here.page_size))) - size


def _metadata_bytes(here: Plan) -> int:
    return here.pages * _PAGE_STRUCT + here.orders * _LIST_STRUCT * len(here.zones)


def _metadata_bound(here: Plan, shadow: Shadow, source: PageSource | None) -> int:
    return _metadata_bytes(here)


# ---- who is served --------------------------------------------------------------------------


def _can_serve(here: Plan, request: Request, shadow: Shadow, source: PageSource | None) -> bool:
    """Has one of the zones that the request may use a wholly free block, and enough pages beside it?

    Exact: a zone whose free buddies have all merged holds a free block of at least some
    order if and only if a naturally aligned run of free pages of that length exists; and
    what passes the low watermark passes the minimum as well.  O(live), often less.
    """
    if not 0 < request.size <= here.page_size << (here.orders - 1):
        return False
    if not 0 < request.align <= here.page_size or not is_power_of_two(request.align):
        return False
    order = get_order(request.size, highest_bit(here.page_size))
    if shadow.bytes + (here.page_size << order) > here.pages * here.page_size:
        return False
    return any(_zone_can_serve(here, index, order, kept, shadow) for index, kept in _usable_zones(here, request))


def _usable_zones(here: Plan, request: Request) -> Iterator[tuple[int, int]]:
    """(zone, pages that must stay free there) of all zones that the request may use."""
    for index in zonelist(here, request.cpu, request.group):
        mark = here.zones[index].minimum
        yield index, kept_back(here, index, atomic_mark(mark) if request.atomic else mark, request.group)


def _zone_can_serve(here: Plan, index: int, order: int, kept: int, shadow: Shadow) -> bool:
    zone, size, start = here.zones[index], here.page_size, here.start
    wanted, free, fits = kept + (1 << order), 0, False
    for low, high in shadow.gaps(0, zone.first * size, (zone.first + zone.pages) * size):
        free += (high - low) // size
        fits = fits or holds_block(low // size + start, high // size + start, order)
        if fits and free >= wanted:
            return True
    return False


def _elsewhere(here: Plan, request: Request, block: Block) -> str | None:
    """What is wrong with a block's zone, if anything; neighbours in a zonelist are not told apart."""
    index = here.zone_of(block.extents[0][1] // here.page_size)
    if index in zonelist(here, request.cpu, request.group):
        return None
    zone = here.zones[index]
    asked = [word for flag, word in ((DMA, "DMA memory"), (THISNODE, f"node {request.cpu}")) if request.group & flag]
    return f"it is in zone {zone.name} of node {zone.node}, though it was to be {' of '.join(asked)}"


def _reserved(here: Plan, request: Request, shadow: Shadow) -> int:
    """One page for whom the reserves are kept: those who cannot wait, and those who need DMA memory.

    A single page needs nothing but to be free, so the count of free pages decides.
    """
    if not (request.atomic or request.group & DMA) or not is_power_of_two(request.align):
        return 0
    promised = any(_free_pages(here, index, shadow) > kept for index, kept in _usable_zones(here, request))
    return here.page_size if promised and request.align <= here.page_size else 0


def _free_pages(here: Plan, index: int, shadow: Shadow) -> int:
    """O(1) for the only zone, else O(live)."""
    zone, size = here.zones[index], here.page_size
    if len(here.zones) == 1:
        return here.pages - shadow.bytes // size
    return sum(high - low for low, high in shadow.gaps(0, zone.first * size, (zone.first + zone.pages) * size)) // size
