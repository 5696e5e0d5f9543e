"""Bugs of buddy page allocators: Linux, Xen, Zephyr and two crates; and some of span allocators carried over.

>>> from heaplaw.impls.bugs import find
>>> find("buddy", "B08").title
'a block that merges stays on the list that it was put on before'
"""

from heaplaw import Context
from heaplaw.impls.bits import align_up
from heaplaw.impls.buddy import Buddy
from heaplaw.impls.buddy_zone import Zone
from heaplaw.impls.buddy_zonelists import zonelist
from heaplaw.impls.pages_arithmetic import buddy_of, get_order

from . import bug

_ODD = ("pages=61,start=3,orders=5", "pages=61,start=3,nodes=3,dma=7,tail=1,min_free=10,orders=4", "pages=7,start=1")
_SHORT = ("pages=64,orders=4", "pages=61,start=3,orders=5", "pages=8,orders=2")
_ZONES = (
    "pages=64,nodes=2,dma=8,min_free=8,ratio=4", "pages=16,nodes=2,dma=4,min_free=4",
    "pages=61,start=3,nodes=3,dma=7,tail=1,min_free=10,orders=4",
)  # fmt: skip


# ---- merging ---------------------------------------------------------------------------------


class _MergesBelowItsFirst(Zone):
    __slots__ = ()

    def free_one_page(self, page: int, order: int) -> None:
        buddy = buddy_of(page + self.start, order) - self.start
        outside = -self.pages <= buddy < 0 and self.head[buddy] == order + 1
        super().free_one_page(page, order)
        if outside and not self.merges:  # an index below 0 means the zone's last pages
            self.del_page_from_free_list(page, order)
            self.del_page_from_free_list(self.pages + buddy, order)
            self.add_to_free_list(page, order + 1)


@bug(
    "B03", "buddy", "a block merges with a neighbour that is not the heap's to give",
    source="xen/common/page_alloc.c 7d3f8a2a26, 2022", law="returns", variants=_ODD,
    note="there a page set aside when the machine came up; here one in front of the zone, mistaken for its last",
)  # fmt: skip
class MergesOutside(Buddy):
    zone_class = _MergesBelowItsFirst


class _ListsBefore(Zone):
    __slots__ = ()

    def free_one_page(self, page: int, order: int) -> None:
        super().free_one_page(page, order)
        if self.merges:
            self.add_to_free_list(page, order)


@bug(
    "B08", "buddy", "a block that merges stays on the list that it was put on before",
    source="rcore-os/buddy_system_allocator 6a89f48, 2021", law="free-list",
)  # fmt: skip
class StaysListed(Buddy):
    zone_class = _ListsBefore


class _MergesTheLargest(Zone):
    __slots__ = ()

    def __init__(self, pages: int, orders: int, start: int = 0, tail: bool = False) -> None:
        super().__init__(pages, orders, start, tail)
        self.top = orders


@bug(
    "B09", "buddy", "blocks of the highest order merge, for a list that does not exist",
    source="rcore-os/buddy_system_allocator a51e890, 2024", law="returns", variants=_SHORT,
)  # fmt: skip
class MergesTheLargest(Buddy):
    zone_class = _MergesTheLargest


class _MergesWithLive(Zone):
    __slots__ = ()

    def free_one_page(self, page: int, order: int) -> None:
        buddy = buddy_of(page + self.start, order) - self.start
        if 0 <= buddy < self.pages and self.head[buddy] == -(order + 1):
            self.head[buddy] = order + 1
        super().free_one_page(page, order)


@bug(
    "B14", "buddy", "a block merges while its buddy is still allocated",
    source="zephyr issue 20981, 2019", law="returns",
    note="the polarity of a bitmap there, the sign of the mark on a block's first page here",
)  # fmt: skip
class MergesWithLive(Buddy):
    zone_class = _MergesWithLive


# ---- counting --------------------------------------------------------------------------------


class _CountsMergedOnce(Zone):
    __slots__ = ()

    def free_one_page(self, page: int, order: int) -> None:
        super().free_one_page(page, order)
        self.free_pages -= ((1 << self.merges) - 1) << order


@bug(
    "B17", "buddy", "pages taken off the count for a merge are not counted again",
    source="mm/page_alloc.c, 'count guard pages as free again when their buddy merges', 2026", law="counters",
    note="guard pages there, which are left out here: any buddy is taken off for the merge",
)  # fmt: skip
class ForgetsMerged(Buddy):
    zone_class = _CountsMergedOnce


class _CountsAfterwards(Zone):
    __slots__ = ()

    def del_page_from_free_list(self, page: int, order: int) -> None:
        super().del_page_from_free_list(page, order)
        self.nr_free[order] += 1
        self.nr_free[self.head[page] - 1] -= 1  # the mark is gone: the order is read too late


@bug(
    "B18", "buddy", "a block that leaves its list is counted by what stands on its page afterwards",
    source="mm/page_alloc.c bac9c6fa1f92, 2021", law="no-spurious-refusal", variants=_ZONES,
    note="there the count of the page's migration type; here that of its order, which the watermarks look at",
)  # fmt: skip
class CountsAfterwards(Buddy):
    zone_class = _CountsAfterwards


@bug(
    "B19", "buddy", "a merged block is counted where the caller is, not where its pages are",
    source="mm/page_alloc.c d9dddbf55667, 2016", law="no-spurious-refusal", variants=_ZONES,
    note="there the counts of two kinds of blocks that merged; here those of two zones, which never merge",
)  # fmt: skip
class CountsElsewhere(Buddy):
    def free(self, handle: int, size: int, *, ctx: Context | None = None) -> None:
        super().free(handle, size, ctx=ctx)
        home, _ = self._page_zone(handle >> self._shift)
        if home.merges:
            pages = 1 << get_order(size, self._shift)
            home.free_pages -= pages
            self._zones[zonelist(self._plan, ctx.cpu if ctx is not None else 0)[0]].free_pages += pages


# ---- carried over from allocators of spans ---------------------------------------------------


class _RoundsUp(Zone):
    __slots__ = ()

    def __init__(self, pages: int, orders: int, start: int = 0, tail: bool = False) -> None:
        super().__init__(align_up(pages, 4), orders, start, tail)


@bug(
    "G14", "buddy", "the number of pages is rounded up, so that the last ones do not exist",
    source="mimalloc bcce4d52, 2021: blocks of an arena", law="in-bounds", derived=True, variants=_ODD,
)  # fmt: skip
class RoundsUp(Buddy):
    zone_class = _RoundsUp


class _MarksOnePast(Zone):
    __slots__ = ()

    def rmqueue(self, order: int) -> int:
        page = super().rmqueue(order)
        if page >= 0 and order == self.top:
            self.head[page + (1 << order)] = -1
        return page


@bug(
    "G15", "buddy", "the mark of a longest block's last page is written one page further",
    source="mimalloc 562efed5, 2022, 4a26a456, 2024: the last slice of a huge span", law="returns",
    derived=True, variants=_SHORT,
)  # fmt: skip
class MarksOnePast(Buddy):
    zone_class = _MarksOnePast


class _BeginsTooHigh(Zone):
    __slots__ = ()

    def rmqueue(self, order: int) -> int:
        page = super().rmqueue(order + 1)
        if page >= 0:
            self.head[page] = -(order + 1)
            self.free_pages += 1 << order
            self.expand(page, order, order + 1)
        return page


@bug(
    "G21", "buddy", "the search begins at the list above that of the request",
    source="jemalloc 32896a90, 2016: the heap of runs", law="no-spurious-refusal", derived=True,
)  # fmt: skip
class BeginsTooHigh(Buddy):
    zone_class = _BeginsTooHigh
