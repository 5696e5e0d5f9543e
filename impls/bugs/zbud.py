"""Bugs of zbud, and of its descendant z3fold carried back to it.

>>> from heaplaw.impls.bugs import find
>>> find("zbud", "ZF06").law
'search-bounded'
"""

from heaplaw.impls.zbud import _BUDDY, _LRU, _UNDER_RECLAIM, Zbud
from heaplaw.protocol import Context, Refusal

from . import bug


@bug(
    "ZF02", "zbud", "a page that went back is still on a list, and its header is used from there",
    source="z3fold, don't try to use buddy slots after free, Linux 2020", law="in-bounds", derived=True,
    note="there the table of slots was used after it was freed; zbud has none, what is used here is the page's header",
)  # fmt: skip
class UsedAfterFree(Zbud):
    def _free_zbud_page(self, page: int) -> None:
        super()._free_zbud_page(page)
        self._list_add(_BUDDY, page, self._pages + self._nchunks - 1)


@bug(
    "ZF04", "zbud", "a free of an object whose page is being reclaimed treats the page as any other",
    source="z3fold, fix possible reclaim races, and others of Linux 2016 to 2018", law="conservation", derived=True,
    note="there headless pages were freed twice; zbud has none, and frees any page under reclaim twice",
)  # fmt: skip
class IgnoresReclaim(Zbud):
    def free(self, handle: int) -> None:
        self._ints[handle // self._page_size * self._page_ints + _UNDER_RECLAIM] = 0
        super().free(handle)


@bug(
    "ZF06", "zbud", "a search looks at one list more, on which no page can ever be",
    source="Linux f203c3b33fab, 2014", law="search-bounded",
)  # fmt: skip
class SearchesTheUnusedList(Zbud):
    def _find_unbuddied(self, chunks: int) -> int | None:
        page = super()._find_unbuddied(chunks)
        self._probed += page is None
        return page


@bug(
    "ZF07", "zbud", "the limit on the size leaves out the header of the page",
    source="derived from zbud_alloc, Linux 3.11", law="bad-size-rejected", derived=True,
)  # fmt: skip
class LimitWithoutHeader(Zbud):
    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> int | Refusal | None:
        self._max_size = self._page_size
        return super().alloc(size, align)


@bug(
    "ZB01", "zbud", "a page that its owner refuses to give up is on the list of reclaim no more",
    source="derived from zbud_reclaim_page, Linux 3.11", law="conservation", derived=True,
)  # fmt: skip
class LosesRefusedPages(Zbud):
    def _end_reclaim(self, page: int) -> bool:
        freed = super()._end_reclaim(page)
        if not freed:
            self._list_del(_LRU, page)
        return freed
