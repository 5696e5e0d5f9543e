"""Bugs of the per-CPU bitmap allocator: those of Linux, and of other bitmap allocators carried over to it.

Defects that the published revisions share with the kernel are re-created here one by one, each on
the repaired algorithm.

>>> from heaplaw.impls.bugs import find
>>> find("percpu-bitmap", "P01").law
'no-spurious-refusal'
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

from heaplaw.impls.percpu_backing import PagedChunk
from heaplaw.impls.percpu_bitmap import PercpuBitmap
from heaplaw.impls.percpu_blocks import BlockHints, refresh_forward, update_scanning
from heaplaw.impls.percpu_chunk import Chunk, RepairedChunk

from . import bug

_TARGET = "percpu-bitmap"
_ChunkClass = TypeVar("_ChunkClass", bound=type[Chunk])


def _bug(id: str, title: str, *, source: str, law: str, **entry: Any) -> Callable[[_ChunkClass], _ChunkClass]:
    """Enter the allocator whose chunks are of the class that follows."""

    def enter(chunk_class: _ChunkClass) -> _ChunkClass:
        heap = type(chunk_class.__name__, (PercpuBitmap,), {"chunk_classes": {"": chunk_class}})
        bug(id, _TARGET, title, source=source, law=law, **entry)(heap)
        return chunk_class

    return enter


# ---- hints after a free -------------------------------------------------------------------


@_bug(
    "P01", "the chunk is told where a freed run ends in its block, not in the chunk",
    source="Linux 5.1 to 6.12, mm/percpu.c, pcpu_block_update_hint_free; unreported", law="no-spurious-refusal",
)  # fmt: skip
class EndsInItsBlock(RepairedChunk):
    __slots__ = ()

    def chunk_free(self, first: int, last: int, start: int, end: int) -> None:
        Chunk.chunk_free(self, first, last, start, end)


@_bug(
    "P04", "the chunk is told the length of the block's largest run at the start of the freed one",
    source="Linux 4.14 to 5.0; percpu: update free path with correct new free region, 2019", law="hint-region",
)  # fmt: skip
class TellsTheLargest(RepairedChunk):
    __slots__ = ()

    def chunk_free(self, first: int, last: int, start: int, end: int) -> None:
        if first == last and end - start < self.block_bits:
            end = start + self.blocks[first].contig_hint
        super().chunk_free(first, last, start, end)


@_bug(
    "PD05", "a free that crosses a border between blocks does not reach the hints of the chunk",
    source="derived from pcpu_block_update_hint_free, Linux 6.12", law="hint-slack", derived=True,
)  # fmt: skip
class KeepsItFromTheChunk(RepairedChunk):
    __slots__ = ()

    def chunk_free(self, first: int, last: int, start: int, end: int) -> None:
        if first == last:
            super().chunk_free(first, last, start, end)


@_bug(
    "P15", "a free gives back more than the request was charged for",
    source="mm/percpu: account full object size for percpu memory allocations, Linux 2026", law="counters",
    note="there a memory control group is charged; here the free bits of the chunk, one too many",
)  # fmt: skip
class GivesBackMore(RepairedChunk):
    __slots__ = ()

    def free_area(self, at: int) -> int:
        bits = super().free_area(at)
        self.free_bits += 1
        return bits


# ---- hints after a request ----------------------------------------------------------------


@_bug(
    "P02", "a scan hint that is promoted and reaches the end of the block is not its right run",
    source="Linux 5.1 to 6.12, mm/percpu.c, pcpu_block_refresh_hint; unreported", law="hint-exact",
)  # fmt: skip
class LosesTheRightRun(RepairedChunk):
    __slots__ = ()
    refresh = staticmethod(refresh_forward)


@_bug(
    "P03", "a scan hint stays on the wrong side of an equal run",
    source="percpu: Fix hint invariant breakage, Joonwon Kang, linux-kernel 2026", law="hint-order",
)  # fmt: skip
class DisordersScanHints(RepairedChunk):
    __slots__ = ()
    update = staticmethod(update_scanning)


@_bug(
    "P05", "the chunk's hint counts as broken only where an area begins in it, not where one runs into it",
    source="Linux 4.14 to 5.0; percpu: introduce helper to determine if two regions overlap, 2019", law="hint-sound",
)  # fmt: skip
class LooksAtTheFirstBit(RepairedChunk):
    __slots__ = ("_at",)

    def hint_alloc(self, at: int, bits: int) -> None:
        self._at = at
        super().hint_alloc(at, bits)

    def refresh_chunk(self, full: bool) -> None:
        if full or self.whole.contig_hint_start <= self._at:
            super().refresh_chunk(full)


@_bug(
    "PD01", "an area at the start of a block leaves the block's left run as it was",
    source="derived from pcpu_block_update_hint_alloc, Linux 6.12", law="hint-exact", derived=True,
)  # fmt: skip
class KeepsTheLeftRun(RepairedChunk):
    __slots__ = ()

    def break_contig(self, index: int, low: int) -> None:
        self.refresh_block(index)


@_bug(
    "PD03", "an area that ends in a block leaves the scan hint there as it was",
    source="derived from pcpu_block_update_hint_alloc, Linux 6.12", law="hint-region", derived=True,
)  # fmt: skip
class KeepsTheLastScanHint(RepairedChunk):
    __slots__ = ()

    @staticmethod
    def forget_start(block: BlockHints, high: int) -> None:
        block.left_free = 0


@_bug(
    "PD06", "an area that ends in a block leaves the left run there as it was",
    source="derived from pcpu_block_update_hint_alloc, Linux 6.12", law="hint-exact", derived=True,
)  # fmt: skip
class KeepsTheLastLeftRun(RepairedChunk):
    __slots__ = ()

    @staticmethod
    def forget_start(block: BlockHints, high: int) -> None:
        if high > block.scan_hint_start:
            block.scan_hint = 0


@_bug(
    "PD08", "an area that covers a block leaves the scan hint there as it was",
    source="derived from pcpu_block_update_hint_alloc, Linux 6.12", law="hint-sound", derived=True,
    equivalent="a block that is covered was one free run before, and such a block has no scan hint",
)  # fmt: skip
class KeepsMiddleScanHints(RepairedChunk):
    __slots__ = ()

    def hint_alloc(self, at: int, bits: int) -> None:
        covered = self.blocks[(at >> self.shift) + 1 : (at + bits - 1) >> self.shift]
        before = [block.scan_hint for block in covered]
        super().hint_alloc(at, bits)
        for block, scan_hint in zip(covered, before, strict=True):
            block.scan_hint = scan_hint


@_bug(
    "PD09", "runs that a search skips are not remembered",
    source="derived from pcpu_alloc_area, Linux 6.12", law="search-bounded", derived=True,
    equivalent="areas and largest runs stay the same, and a search without scan hints is as long as is promised",
)  # fmt: skip
class ForgetsHoles(RepairedChunk):
    __slots__ = ()

    def remember_hole(self, hole: int, bits: int) -> None:
        pass


@_bug(
    "B39", "the hint of the largest run stays when nothing is free",
    source="FreeBSD blist, r319699, 2017", law="hint-sound", derived=True,
    note="there in the nodes of a radix tree; here in the hint of the chunk",
)  # fmt: skip
class HintsAtNothing(RepairedChunk):
    __slots__ = ()

    def refresh_chunk(self, full: bool) -> None:
        before = self.whole.contig_hint
        super().refresh_chunk(full)
        self.whole.contig_hint = self.whole.contig_hint or before


# ---- search and bitmaps -------------------------------------------------------------------


@_bug(
    "B32", "the scan of the bitmap ends one bit early: the last one is never part of an area",
    source="Linux genalloc 243797f59b74, 2010", law="limits-honest", derived=True,
    note="there the last slot of a pool; here the last bit of a chunk",
)  # fmt: skip
class NeverTheLastBit(RepairedChunk):
    __slots__ = ()

    def scan_end(self, start: int, bits: int) -> int:
        return min(super().scan_end(start, bits), self.nr_bits - 1)


@_bug(
    "G12", "a look over several words leaves out those bits of the later words that it leaves out of the first",
    source="mimalloc 79624206, issue 368, 2021", law="waste-bound", derived=True,
    note="there whether a range is taken; here where an area ends, since the map of areas is never asked in vain",
)  # fmt: skip
class MasksEveryWord(RepairedChunk):
    __slots__ = ()

    def area_end(self, at: int) -> int:
        words, first = self.bounds, (at >> self.shift) + 1
        left_out = (2 << (at & self.mask)) - 1
        self.bounds = [*words[:first], *(word & ~left_out for word in words[first:])]
        end = super().area_end(at)
        self.bounds = words
        return end


@_bug(
    "P07", "empty pages are counted anew only where the hint of the chunk is",
    source="Linux 4.14 to 5.0; percpu: set PCPU_BITMAP_BLOCK_SIZE to PAGE_SIZE, 2019", law="counters",
)  # fmt: skip
class RecountsWithTheHint(RepairedChunk):
    __slots__ = ("_recounted",)

    def hint_alloc(self, at: int, bits: int) -> None:
        before, self._recounted = self.nr_empty, False
        super().hint_alloc(at, bits)
        if not self._recounted:
            self.nr_empty = before

    def refresh_chunk(self, full: bool) -> None:
        super().refresh_chunk(full)
        self._recounted = True


@_bug(
    "G23", "a bit of the boundary map is shifted by its place in a word of 32 bits, where words are longer",
    source="jemalloc 4.1.1, 2016", law="waste-bound", derived=True,
    note="there a bitmap of free regions; here the end of an area is lost and found later",
)  # fmt: skip
class ShiftsByTheWrongWidth(RepairedChunk):
    __slots__ = ()

    def mark(self, at: int, bits: int) -> None:
        super().mark(at, bits)
        for edge in (at, at + bits):
            index, place = edge >> self.shift, edge & self.mask
            self.bounds[index] = self.bounds[index] & ~(1 << place) | 1 << (place & 31)


class _BeginsLate(RepairedChunk):
    __slots__ = ("begin",)
    begin: int  # bit

    def search_start(self, bits: int) -> int:
        return max(super().search_start(bits), self.begin)


@bug(
    "B29", _TARGET, "a search goes on in the next chunk at the place where it began in the last one",
    source="Linux genalloc 62e931fac45b, 2016", law="no-spurious-refusal", derived=True,
    note="there the place where the last search ended, here where it began: a search that hints promise ends well",
)  # fmt: skip
class StartIsNotReset(PercpuBitmap):
    chunk_classes: ClassVar[Mapping[str, type[Chunk]]] = {"": _BeginsLate}
    _begin = 0

    def _find(self, bits: int, align: int, atomic: bool) -> tuple[Chunk, int] | None:
        self._begin = 0
        return super()._find(bits, align, atomic)

    def _take(self, chunk: Chunk, bits: int, align: int, atomic: bool) -> int:
        assert isinstance(chunk, _BeginsLate)
        chunk.begin = self._begin
        at = super()._take(chunk, bits, align, atomic)
        self._begin = chunk.search_start(bits) if at < 0 else 0
        return at


@bug(
    "B36", _TARGET, "a request for reserved bytes gets them wherever they are free, whatever its alignment",
    source="drm/buddy: check range allocation matches alignment, Linux 2024", law="aligned", derived=True,
    note="there the path for a range of addresses; here the one that serves from the reserved chunk",
)  # fmt: skip
class ReservedUnaligned(PercpuBitmap):
    def _find_reserved(self, chunk: Chunk, bits: int, align: int, atomic: bool) -> tuple[Chunk, int] | None:
        return super()._find_reserved(chunk, bits, 1, atomic)


@bug(
    "P13", _TARGET, "chunks stand on slots by their free bytes, whatever their longest run",
    source="percpu: manage chunks based on contig_bits instead of free_bytes, Linux 5.1", law="size-class",
)  # fmt: skip
class SlotsByFreeBytes(PercpuBitmap):
    def _slot_of(self, chunk: Chunk) -> int:
        return self._slot_of_size(chunk.free_bits << 2) if chunk.free_bits else 0


# ---- chunks, pages, statistics ------------------------------------------------------------


@bug(
    "P09", _TARGET, "statistics of the first chunk count the bytes that it hides",
    source="Linux 8fa3ed8014d2, 2017", law="counters",
)  # fmt: skip
class CountsTheHidden(PercpuBitmap):
    def counters(self) -> Mapping[str, int]:
        counters, chunks = dict(super().counters()), self._chunks.values()
        counters["live_objects"] += sum([(chunk.lo > 0) + (chunk.hi < chunk.nr_bits) for chunk in chunks])
        return counters


@_bug(
    "P10", "the bitmap of populated pages is given a byte for each word that it needs",
    source="Linux b3b33d3c43bb, 2020", law="counters",
    variants=("unit=384,block=32,chunks=1", "unit=2304,block=32,chunks=2", "unit=384,block=32,chunks=2,static=20"),
    note="there what lies behind the bitmap is overwritten; here bits that it has no room for are lost",
)  # fmt: skip
class BytesForWords(RepairedChunk):
    __slots__ = ()

    def set_populated(self, index: int, frame: int, for_alloc: bool) -> None:
        super().set_populated(index, frame, for_alloc)
        self.populated &= (1 << 8 * -(-self.nr_pages // 64)) - 1


@bug(
    "P11", _TARGET, "pages are marked as populated for all CPUs' copies of a chunk, where one is meant",
    source="mm/percpu-km: fix bitmap overflow and accounting in pcpu_create_chunk(), Linux 2026", law="counters",
    note="there a chunk is populated when it is made, here run by run; two CPUs stand for all",
)  # fmt: skip
class PopulatesForAllCpus(PercpuBitmap):
    def _populate_run(self, chunk: Chunk, start: int, end: int, *, for_alloc: bool) -> bool:
        done = super()._populate_run(chunk, start, end, for_alloc=for_alloc)
        if done:
            chunk.populated |= (1 << 2 * end - start) - (1 << end)
            chunk.nr_empty += end - start
        return done


@bug(
    "P17", _TARGET, "memory is handed out as its last owner left it",
    source="percpu: clear memory allocated with the km allocator, Linux 2012", law="zeroed",
    note="there pages that a new chunk takes; here every area, since pages here are born clear",
)  # fmt: skip
class DoesNotClear(PercpuBitmap):
    @staticmethod
    def _clear(chunk: PagedChunk, offset: int, length: int) -> None:
        pass


@bug(
    "B30", _TARGET, "places are aligned in the chunk, which begins at no aligned address itself",
    source="Linux genalloc 52fbf1134d47, 2018", law="aligned", derived=True,
    note="there in any chunk; here in the first one, which hides the bits before it for this very reason",
)  # fmt: skip
class BaseIsNotAligned(PercpuBitmap):
    def _first_chunk(self, number: int, start: int, end: int) -> Chunk:
        chunk = super()._first_chunk(number, 0, end - start)
        chunk.base = start
        return chunk
