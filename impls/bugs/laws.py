"""Bugs that one law alone can see: each breaks what a single promise says, and leaves the heap in order.

>>> from heaplaw.impls.bugs import find
>>> find("srog", "LW06").law
'isolated'
"""

from typing import Any, ClassVar

from heaplaw import Context, Maintained, Refusal
from heaplaw.impls.afmalloc import Afmalloc
from heaplaw.impls.buddy import Buddy
from heaplaw.impls.buddy_zone import Zone
from heaplaw.impls.buddy_zonelists import THISNODE
from heaplaw.impls.percpu_area_map import PercpuAreaMap
from heaplaw.impls.percpu_bitmap import PercpuBitmap
from heaplaw.impls.percpu_blocks import refresh_whole
from heaplaw.impls.percpu_chunk import Chunk
from heaplaw.impls.slab import Slab
from heaplaw.impls.slab_cache import SlabCache
from heaplaw.impls.srog import Srog
from heaplaw.impls.tlsf import Tlsf
from heaplaw.impls.tlsf_mapping import insert
from heaplaw.impls.xcfmalloc import Xcfmalloc
from heaplaw.impls.xcfmalloc_blocks import Descriptor
from heaplaw.impls.xcfmalloc_compaction import evacuate, sparsest_first
from heaplaw.impls.zsmalloc import Zsmalloc
from heaplaw.impls.zsmalloc_zspages import PoolClass, Zspage

from . import bug

_FLAGS = 3
_GRANULE = 8  # bytes: any fewer are no block
_COLOURED = ("size=520,pages=9,limit=4", "size=1288,pages=9,limit=1")  # what is left over is more than a line
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
    "LW05", "xcfmalloc", "compaction is over as soon as one page has been emptied",
    source="derived from xcfmalloc.c as posted in September 2011", law="compaction-idempotent", derived=True,
)  # fmt: skip
class EmptiesOnePage(Xcfmalloc):
    def _compact(self) -> int:
        blocks = self._blocks
        room = [sum(1 for _ in blocks.walk(index)) for index in range(blocks.layout.lists)]
        moved = next(filter(None, (evacuate(blocks, page, room) for page in sparsest_first(blocks))), 0)
        blocks.decrease_pool()
        return moved


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


# ---- what is put off until the next call --------------------------------------------------------
#
# Whoever asks next finds all in order: only a look between two calls, at the one thing, shows it.


@bug(
    "LW10", "afmalloc", "a refused call keeps the pieces that it got until the next call",
    source="derived from afmalloc.c as posted in September 2014", law="refusal-pure", derived=True,
    variants=("pages=1", "pages=2"),
)  # fmt: skip
class KeepsPieces(Afmalloc):
    _kept: tuple[tuple[int, int, int], ...] = ()

    def _err(self, entry: int, level: int, got: int) -> None:
        self._kept += ((entry, level, got),)

    def _let_go(self) -> None:
        kept, self._kept = self._kept, ()
        for entry, level, got in kept:
            super()._err(entry, level, got)

    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> int | Refusal | None:
        self._let_go()
        return super().alloc(size, align, ctx=ctx)

    def free(self, handle: int, *, ctx: Context | None = None) -> None:
        self._let_go()
        super().free(handle, ctx=ctx)

    def maintain(self, kind: str) -> Maintained:
        self._let_go()
        return super().maintain(kind)

    def destroy(self) -> None:
        self._kept = ()
        super().destroy()

    def snapshot(self) -> tuple[Any, ...]:
        return super().snapshot(), self._kept

    def restore(self, state: tuple[Any, ...]) -> None:
        inner, self._kept = state
        super().restore(inner)


@bug(
    "LW12", "xcfmalloc", "a free block is entered a granule short, which is made good when the next call comes",
    source="derived from xcfmalloc.c as posted in September 2011", law="tiling", derived=True,
)  # fmt: skip
class EntersTooLittle(Xcfmalloc):
    _short: tuple[Descriptor, ...] = ()

    def _begin(self) -> None:
        for desc in self._short:
            desc.size += _GRANULE
        self._short = ()
        super()._begin()

    def _shorten(self) -> None:
        """All that stay on their lists."""
        blocks, index = self._blocks, self._blocks.layout.flindex
        free = [desc for desc in blocks.descs if desc.allocated and desc.is_free and desc.size > 2 * _GRANULE]
        self._short = tuple(desc for desc in free if index(desc.size) == index(desc.size - _GRANULE))
        for desc in self._short:
            desc.size -= _GRANULE

    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> int | Refusal | None:
        answer = super().alloc(size, align, ctx=ctx)
        self._shorten()
        return answer

    def free(self, handle: int) -> None:
        super().free(handle)
        self._shorten()

    def maintain(self, kind: str) -> Maintained:
        done = super().maintain(kind)
        self._shorten()
        return done

    def destroy(self) -> None:
        self._begin()
        super().destroy()

    def snapshot(self) -> Any:
        self._begin()
        return super().snapshot()


class _MergesLater(Zone):
    __slots__ = ()

    def rmqueue(self, order: int) -> int:
        for page in [page for page, mark in enumerate(self.head) if mark > 0]:
            if self.head[page] > 0:  # not merged meanwhile
                found = self.head[page] - 1
                self.del_page_from_free_list(page, found)
                self.free_pages -= 1 << found
                super().free_one_page(page, found)
        return super().rmqueue(order)

    def free_one_page(self, page: int, order: int) -> None:
        self.free_pages += 1 << order
        self.add_to_free_list(page, order)
        self.probed = self.splits = self.merges = self.found = 0


@bug(
    "LW13", "buddy", "a block that was freed is merged when the next request comes, not before",
    source="mm/page_alloc.c, __free_one_page, 6.1", law="coalesced", derived=True,
    variants=("pages=64", "pages=61,start=3,orders=5"),
)  # fmt: skip
class MergesLater(Buddy):
    zone_class = _MergesLater


class _ListsLater(Zone):
    __slots__ = ()

    def _catch_up(self) -> None:
        listed = {page for order in range(self.orders) for page in self.members(order)}
        for page, mark in enumerate(self.head):
            if mark > 0 and page not in listed:
                self.nr_free[mark - 1] -= 1
                self.add_to_free_list(page, mark - 1)

    def rmqueue(self, order: int) -> int:
        self._catch_up()
        return super().rmqueue(order)

    def free_one_page(self, page: int, order: int) -> None:
        self._catch_up()
        super().free_one_page(page, order)
        order += self.merges
        page -= (page + self.start) % (1 << order)  # where what it has merged into begins
        self.del_page_from_free_list(page, order)
        self.head[page] = order + 1
        self.nr_free[order] += 1


@bug(
    "LW14", "buddy", "a block that was freed is put on its list when the next call comes, not before",
    source="mm/page_alloc.c, free_unref_page, 6.1", law="free-list", derived=True,
    variants=("pages=64", "pages=61,start=3,orders=5"),
)  # fmt: skip
class ListsLater(Buddy):
    zone_class = _ListsLater


@bug(
    "LW15", "tlsf", "the bit of a list that has become empty is cleared when a search comes upon it, not before",
    source="derived from mattconte/tlsf, remove_free_block", law="bitmap", derived=True,
)  # fmt: skip
class ClearsWhenItSearches(Tlsf):
    def _clear(self, number: int) -> None:
        pass

    def _search(self, size: int) -> int:
        while (number := super()._search(size)) >= 0 and not self._heads[number]:
            super()._clear(number)
        return number


@bug(
    "LW18", "tlsf", "a resize that moves a block copies its contents when the next call comes that changes something",
    source="derived from mattconte/tlsf, tlsf_realloc", law="realloc-prefix", derived=True,
)  # fmt: skip
class CopiesLater(Tlsf):
    _later: tuple[int, bytes] = 0, b""

    def _catch_up(self) -> None:
        (at, data), self._later = self._later, (0, b"")
        super().write(at, 0, data)

    def _move(self, handle: int, size: int, current: int) -> int | Refusal | None:
        moved = super()._move(handle, size, current)
        if isinstance(moved, int):
            self._later = moved, self.read(moved, 0, min(size, current))
            super().write(moved, 0, bytes(min(size, current)))
        return moved

    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> int | Refusal | None:
        self._catch_up()
        return super().alloc(size, align, ctx=ctx)

    def free(self, handle: int) -> None:
        self._catch_up()
        super().free(handle)

    def realloc(self, handle: int, size: int) -> int | Refusal | None:
        self._catch_up()
        return super().realloc(handle, size)

    def write(self, handle: int, at: int, data: bytes) -> None:
        self._catch_up()
        super().write(handle, at, data)

    def snapshot(self) -> Any:
        self._catch_up()
        return super().snapshot()


class _CatchesUp(PercpuBitmap):
    """One that has something left to do when a call begins."""

    def _catch_up(self) -> None:
        raise NotImplementedError

    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> int | Refusal | None:
        self._catch_up()
        return super().alloc(size, align, ctx=ctx)

    def free(self, handle: int) -> None:
        self._catch_up()
        super().free(handle)

    def maintain(self, kind: str) -> Maintained:
        self._catch_up()
        return super().maintain(kind)


@bug(
    "LW16", "percpu-bitmap", "the first free position is lowered when the next call comes, not before",
    source="mm/percpu.c, pcpu_block_update_hint_free, 6.12", law="hint-sound", derived=True,
)  # fmt: skip
class LowersLater(_CatchesUp):
    def _catch_up(self) -> None:
        for chunk in self._chunks.values():
            chunk.whole.first_free = chunk.next_zero(0)

    def free(self, handle: int) -> None:
        self._catch_up()
        before = {number: chunk.whole.first_free for number, chunk in self._chunks.items()}
        PercpuBitmap.free(self, handle)
        for number, chunk in self._chunks.items():
            chunk.whole.first_free = max(chunk.whole.first_free, before[number])


@bug(
    "LW17", "percpu-bitmap", "a block's longest run becomes known when the next call comes, not before",
    source="mm/percpu.c, pcpu_block_update_hint_free, 6.12", law="hint-slack", derived=True,
)  # fmt: skip
class TellsLater(_CatchesUp):
    def _catch_up(self) -> None:
        for chunk in self._chunks.values():
            for index in range(chunk.nr_blocks):
                chunk.blocks[index].scan_hint = 0
                refresh_whole(chunk.blocks[index], chunk.used[index], chunk.update)

    def free(self, handle: int) -> None:
        self._catch_up()
        before = [(block, block.fields()) for chunk in self._chunks.values() for block in chunk.blocks]
        PercpuBitmap.free(self, handle)
        for block, (contig, start, scan, scan_start, _, _, _) in before:
            block.contig_hint, block.contig_hint_start = contig, start
            block.scan_hint, block.scan_hint_start = scan, scan_start


@bug(
    "LW21", "percpu-bitmap", "of two longest runs the hints name the wrong one first, until the next call comes",
    source="mm/percpu.c, pcpu_block_update, 6.12", law="hint-order", derived=True,
)  # fmt: skip
class SwapsEqualRuns(_CatchesUp):
    def _swap(self, scan_first: bool) -> None:
        """Exchange the two hints where they are of one length and stand in this order."""
        for chunk in self._chunks.values():
            for hints in (chunk.whole, *chunk.blocks):
                scan, contig = hints.scan_hint_start, hints.contig_hint_start
                if hints.scan_hint == hints.contig_hint > 0 and (scan < contig) is scan_first:
                    hints.scan_hint_start, hints.contig_hint_start = contig, scan

    def _catch_up(self) -> None:
        self._swap(scan_first=True)

    def free(self, handle: int) -> None:
        super().free(handle)
        self._swap(scan_first=False)


# ---- sizes -----------------------------------------------------------------------------------------


class _OnePageMore(Zone):
    __slots__ = ()

    def __init__(self, pages: int, orders: int, start: int, tail: bool) -> None:
        super().__init__(pages + 1, orders, start, tail)


@bug(
    "LW20", "buddy", "the zone is taken to be a page longer than it is",
    source="mm/page_alloc.c, spanned_pages, 6.1", law="in-bounds", derived=True,
    variants=("pages=64", "pages=61,start=3,orders=5"),
)  # fmt: skip
class OnePageMore(Buddy):
    zone_class = _OnePageMore

    def __init__(self, pages: int = 1024, page_size: int = 4096, orders: int = 11, start: int = 0) -> None:
        super().__init__(pages, page_size, orders, start)
        self._pages += 1


@bug(
    "LW09", "tlsf", "a resize by less than a word is taken for one that the block has room for",
    source="derived from mattconte/tlsf, tlsf_realloc", law="big-enough", derived=True,
)  # fmt: skip
class GrowsByNothing(Tlsf):
    def realloc(self, handle: int, size: int) -> int | Refusal | None:
        current = self._words[(handle >> self._bits) - 1] & ~_FLAGS
        return handle if 0 < size - current < self._word else super().realloc(handle, size)


@bug(
    "LW19", "tlsf", "a search begins one list too low, finds the head there too short and begins again",
    source="derived from Masmano et al., TLSF (ECRTS 2004): the search without rounding up", law="search-fit",
    derived=True,
)  # fmt: skip
class SearchesTooLow(Tlsf):
    def _take(self, size: int) -> int:
        first = self._heads[max(0, insert(size, self._shift, self._sl) - 1)]
        length = self._words[first - 1] & ~_FLAGS if first else size
        block = super()._take(size)
        if block and length < size:
            self._found = length
        return block


@bug(
    "LW11", "percpu-area-map", "background work extends every map, whether or not it runs low",
    source="mm/percpu.c, pcpu_extend_area_map, 4.4", law="metadata-bound", derived=True,
)  # fmt: skip
class ExtendsEveryMap(PercpuAreaMap):
    def _balance_maps(self) -> None:
        super()._balance_maps()
        for chunk in self._chunks.values():
            chunk.map_alloc *= 2


class _BesideTheLine(SlabCache):
    __slots__ = ()

    def _next_colour(self) -> int:
        return super()._next_colour() + 8


@bug(
    "LW22", "slab", "slots begin a word behind the cache line of their colour",
    source="mm/slab.c, cache_grow", law="geometry", derived=True, variants=_COLOURED,
)  # fmt: skip
class BesideTheLine(Slab):
    _makers: ClassVar[dict[str, Any]] = {**Slab._makers, "6.1": _BesideTheLine}


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
    variants=_COLOURED,
)  # fmt: skip
class OneColourForAll(Slab):
    _makers: ClassVar[dict[str, Any]] = {**Slab._makers, "6.1": _OneColourForAll}
