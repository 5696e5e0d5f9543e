"""Bugs that one law alone can see: each breaks what a single promise says, and leaves the heap in order.

>>> from heaplaw.impls.bugs import find
>>> find("srog", "LW06").law
'isolated'
"""

from typing import Any, ClassVar

from heaplaw import Context, Refusal
from heaplaw.impls.buddy import Buddy
from heaplaw.impls.buddy_zone import Zone
from heaplaw.impls.buddy_zonelists import THISNODE
from heaplaw.impls.percpu_bitmap import PercpuBitmap
from heaplaw.impls.percpu_chunk import Chunk
from heaplaw.impls.slab import Slab
from heaplaw.impls.slab_cache import SlabCache
from heaplaw.impls.srog import Srog
from heaplaw.impls.zsmalloc import Zsmalloc
from heaplaw.impls.zsmalloc_zspages import PoolClass, Zspage

from . import bug

_ZONES = ("pages=64,nodes=2,dma=8,min_free=8,ratio=4", "pages=16,nodes=2,dma=4,min_free=4")

# ---- who is served, and from where -------------------------------------------------------------


@bug(
    "LW01", "percpu-bitmap", "a reserved request that does not fit is served from ordinary bytes",
    source="mm/percpu.c, pcpu_alloc with reserved, 6.12", law="placement", derived=True,
    variants=("unit=128,block=32,chunks=3,static=20,reserved=24", "unit=64,block=32,chunks=2,reserved=16"),
)  # fmt: skip
class ServesReservedElsewhere(PercpuBitmap):
    def _find_reserved(self, chunk: Chunk, bits: int, align: int, atomic: bool) -> tuple[Chunk, int] | None:
        return super()._find_reserved(chunk, bits, align, atomic) or self._find(bits, align, atomic)


@bug(
    "LW02", "buddy", "a request that is bound to a node is served by another one when its own has nothing to give",
    source="mm/page_alloc.c, __GFP_THISNODE, 6.1", law="placement", derived=True, variants=_ZONES,
)  # fmt: skip
class LeavesTheNode(Buddy):
    def _alloc_pages(self, order: int, ctx: Context) -> int:
        page = super()._alloc_pages(order, ctx)
        return page if page >= 0 else super()._alloc_pages(order, ctx._replace(group=ctx.group & ~THISNODE))


@bug(
    "LW03", "buddy", "the last page above a watermark is given away too",
    source="mm/page_alloc.c, __zone_watermark_ok, 6.1", law="must-refuse", derived=True, variants=_ZONES,
)  # fmt: skip
class DipsBelowTheMark(Buddy):
    def _zone_watermark_ok(self, zone: Zone, order: int, mark: int) -> bool:
        return super()._zone_watermark_ok(zone, order, mark - 1)


# ---- pages ---------------------------------------------------------------------------------------


@bug(
    "LW04", "zsmalloc", "the pages of a zspage are asked for in one piece, and one by one only if there is none",
    source="mm/zsmalloc.c, alloc_zspage, 6.1", law="page-order", derived=True,
    variants=("pages=64,chain=4", "pages=64,chain=8", "pages=16,cpus=2"),
)  # fmt: skip
class AsksForRuns(Zsmalloc):
    def _grow(self, owner: PoolClass) -> Zspage | None:
        order = (owner.kind.pages - 1).bit_length()
        run = self.source.take(order)
        if run is not None:
            self.source.give(run, order)  # what is taken below, page by page, is this run or lies before it
        return super()._grow(owner)


@bug(
    "LW05", "zsmalloc", "compaction empties one zspage of a class and goes on to the next class",
    source="mm/zsmalloc.c, __zs_compact, 6.1", law="compaction-idempotent", derived=True,
    variants=("pages=16,cpus=2", "pages=32,chain=2,cpus=1"),
    note="where objects can be mapped: without mappings the number of pages afterwards is promised exactly",
)  # fmt: skip
class CompactsOne(Zsmalloc):
    def _isolate_source(self, owner: PoolClass) -> Zspage | None:
        return None if self._emptied is owner else super()._isolate_source(owner)

    _emptied: PoolClass | None = None

    def _compact(self, owner: PoolClass) -> int:
        self._emptied = None
        freed = super()._compact(owner)
        self._emptied = None
        return freed

    def _putback(self, owner: PoolClass, sparse: Zspage) -> int:
        self._emptied = owner
        return super()._putback(owner, sparse)


# ---- groups --------------------------------------------------------------------------------------


@bug(
    "LW06", "srog", "an object for which there is no page is put into the page of another group",
    source="mm/srog.c as posted on 12 August 2006; after mm/page_alloc.c, __rmqueue_fallback", law="isolated",
    derived=True,
)  # fmt: skip
class SqueezesIn(Srog):
    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> int | Refusal | None:
        answer = super().alloc(size, align, ctx=ctx)
        return self._anywhere(self._total(size), ctx) if answer is None else answer

    def _anywhere(self, whole: int, ctx: Context | None) -> int | None:
        own = self.callers.of_name(ctx.group if ctx is not None else 0)
        for hint in [hint for hint in self.callers.of_groups() if hint != own]:
            for head in self._ring(self._srog_of(hint)):
                obj = self._first_fit(head, whole)
                if obj is not None:
                    self.callers.enter(obj, 0)
                    self.callers.join(hint, obj)
                    return obj
        return None


@bug(
    "LW07", "srog", "a group takes a new page, though it has room, while the page behind its first is free",
    source="mm/srog.c as posted on 12 August 2006", law="space-determinism", derived=True,
)  # fmt: skip
class GrowsWhileItCan(Srog):
    def srog_alloc(self, hint: int | None, size: int) -> int | None:
        if hint is not None and size <= self._largest and self._room_behind(self._srog_of(hint)):
            whole = self._total(size)
            new = self._new_srog(whole)
            if new is not None:
                self._list_add(new, self._srog_of(hint))
                return self._first_fit(new, whole)
        return super().srog_alloc(hint, size)

    def _room_behind(self, head: int) -> bool:
        behind = head // self._page_words + 1
        return behind < len(self._run_of) and self._run_of[behind] is None


# ---- repetition ------------------------------------------------------------------------------------


class _OneColourForAll(SlabCache):
    __slots__ = ()
    drawn: ClassVar[int] = 0

    def _next_colour(self) -> int:
        _OneColourForAll.drawn += 1
        self.colour_next = _OneColourForAll.drawn % max(1, self.layout.colours)
        return self.colour_next * self.layout.colour_off


@bug(
    "LW08", "slab", "the next colour is a static variable: heaps take turns with it",
    source="mm/slab.c, cache_grow", law="deterministic", derived=True,
    variants=("size=520,pages=9,limit=4", "size=1288,pages=9,limit=1"),
)  # fmt: skip
class OneColourForAll(Slab):
    _makers: ClassVar[dict[str, Any]] = {**Slab._makers, "6.1": _OneColourForAll}
