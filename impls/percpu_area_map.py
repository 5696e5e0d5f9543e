"""The per-CPU area-map allocator of Linux: what the bitmap allocator replaced in 2017.

Era: Tejun Heo, 2009 (2.6.30); atomic requests and background population since 3.18; replaced in
4.14.  Source: ``mm/percpu.c`` of 4.4.

Like the bitmap allocator (``percpu_bitmap``, same parameters and handles) it hands out areas of
chunks, fullest chunks first, pages behind areas when they are handed out.  What differs is the
record of a chunk: a sorted map of boundaries instead of bits (``percpu_map``), an upper bound of
the longest free area instead of a lower one, and slots by free bytes, whatever their shape::

    slot      0          1 ..          top            last
           under 4    one octave of  the unit's    wholly free
            bytes     free bytes      octave

An upper bound never refuses wrongly; what it costs is searches in vain, as where each object of 4
bytes, aligned to 8, leaves a hole of 4 behind it and every request visits every full chunk.  A
map grows by doubling and never shrinks.  An atomic request does not extend it: it passes over a
chunk whose map is full, and leaves word for the background work (``balance``), which also
destroys free chunks but one and keeps four empty pages populated.

The source knows only one way to put pages behind areas, from the start of a chunk upwards: the
populated pages of a chunk are always its first ones.

The revision ``4.4`` keeps what the default repairs (read in the source, unconfirmed by its
maintainers but for the first): an alignment that is no power of two is not refused (fixed in
4.10) but rounded to with a mask, so that the area may not be aligned at all; a request that is
refused because no page can be had leaves two bytes of the area, which went to the neighbour before
it, with that neighbour; and a search that finds out, in a chunk with holes of 2 bytes only, that
its hint was stale moves the chunk to slot 0 in the middle of its walk over a list, which goes on
with the head of slot 0 as if that were a chunk.  Here that is a RuntimeError.

Left out: CPUs (one copy of each area stands for all), the first and the reserved chunk; the form of
2.6.30 to 3.14 with signed lengths instead of boundaries, which finds an area that is freed by
adding up all lengths before it; memory for maps, which is never refused.  Alignment 0, which the
kernel rounds up to 2 without a word, is refused.

>>> heap = PercpuAreaMap()
>>> a, b = heap.alloc(5), heap.alloc(4096, 64)
>>> heap.extents(a), heap.extents(b)
(((0, 0, 6),), ((0, 64, 4096),))
>>> heap.free(a); [(h.name, h.value) for h in heap.hints()]
[('chunk.contig', 32768), ('chunk.free', 28672), ('chunk.first_free', 0)]
"""

from collections.abc import Callable, Hashable, Iterator, Mapping
from functools import lru_cache, partial
from typing import Any, ClassVar

from heaplaw import (
    Block,
    Context,
    Contract,
    Direction,
    Extent,
    FreeRegion,
    Hint,
    Maintained,
    PageSource,
    Quantity,
    Refusal,
    Request,
    Shadow,
)

from .bits import align_up, is_power_of_two
from .percpu_backing import (
    EMPTY_POP_PAGES_HIGH,
    MIN_UNIT_SIZE,
    AnySlot,
    PercpuHeap,
    check_geometry,
    pages_can_be_had,
    size_to_slot,
)
from .percpu_map import ATOMIC_MAP_MARGIN_HIGH, DFL_MAP_ALLOC, SMALLEST_SPLIT, MapChunk, MapSteps
from .promises import always, at_most, no_overhead

_GRANULE = 2  # bytes: bit 0 of an offset is the in-use flag
_REVISIONS = ("", "4.4")


class PercpuAreaMap(PercpuHeap[MapChunk]):
    """Up to ``chunks`` chunks of ``unit`` bytes over pages of ``block`` bytes; ``rev`` as above.

    A handle is chunk * unit + offset.  ``pages`` of ``block`` bytes can be had in all; 0: enough
    for every chunk.  Raises ValueError for parameters that make no sense.
    """

    chunk_class: ClassVar[type[MapChunk]] = MapChunk

    def __init__(self, unit: int = 32768, block: int = 4096, chunks: int = 2, rev: str = "", pages: int = 0) -> None:
        self.contract = _contract(unit, block, chunks, rev, pages)
        super().__init__(unit, block, chunks, pages, size_to_slot(unit) + 1)
        self._rev, self._largest = rev, min(unit, MIN_UNIT_SIZE)
        self._steps = MapSteps()
        self._extend: list[MapChunk] = []  # whose maps the background work shall extend
        self._create_chunk()

    # ---- the two operations ------------------------------------------------------------

    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> int | Refusal | None:
        """Handle of ``size`` zeroed bytes; None when no chunk or page can be had.

        INVALID for size 0 and for an alignment that is no power of two or exceeds a page; TOO_BIG
        above 32 KiB or the chunk.  O(areas of all chunks) entries, whatever is free.
        """
        steps = self._steps
        steps.scanned = steps.moved = steps.chunks = 0
        if size < 1 or self._senseless(align):
            return Refusal.INVALID
        if size > self._largest:
            return Refusal.TOO_BIG
        size, align = self._rounded(size, align)
        atomic = ctx is not None and ctx.atomic
        found = self._find(size, align, atomic)
        if found is None:
            self._atomic_failed |= atomic
            return None
        chunk, offset = found
        if not atomic and not self._populate_pages(chunk, offset // self._page, -(-(offset + size) // self._page)):
            self._undo(chunk, offset)
            return None
        chunk.nr_empty -= chunk.occ_pages
        self._clear(chunk, offset, size)
        return chunk.number * self._unit + offset

    def free(self, handle: int) -> None:
        """Give an area back; its size is in the map.  O(log areas) to find it, O(areas) entries moved.

        Raises InvalidFree where no area in use begins.
        """
        steps = self._steps
        steps.scanned = steps.moved = steps.chunks = 0
        chunk, offset = self._locate(handle)
        self._free_area(chunk, offset)
        chunk.nr_empty += chunk.occ_pages

    def _free_area(self, chunk: MapChunk, offset: int) -> None:
        before = self._slot_of(chunk)
        chunk.free_area(offset)
        self._relocate(chunk, before)

    def _undo(self, chunk: MapChunk, offset: int) -> None:
        """No pages could be had: the area is free again.  Shipped, what its head gave away is lost."""
        before = self._slot_of(chunk)
        chunk.free_area(offset)
        if not self._rev:
            chunk.take_back_head(offset)
        self._relocate(chunk, before)

    @staticmethod
    def _rounded(size: int, align: int) -> tuple[int, int]:
        """Both made even: bit 0 of a boundary is taken."""
        return (size + 1) & ~1, max(align, _GRANULE)

    def _senseless(self, align: int) -> bool:
        """Is this no alignment?"""
        if self._rev:
            return align > self._page
        return align < 1 or align > self._page or not is_power_of_two(align)

    # ---- search ------------------------------------------------------------------------

    def _find(self, size: int, align: int, atomic: bool) -> tuple[MapChunk, int] | None:
        """Chunk and offset of a new area: from a listed chunk, else from a new one."""
        while True:
            found = self._search(size, align, atomic)
            if found is not None or atomic:
                return found
            if self._slots[self.free_slot] or self._create_chunk() is None:
                return None

    def _search(self, size: int, align: int, atomic: bool) -> tuple[MapChunk, int] | None:
        """Fullest chunks first, from the slot of the size; begun again after a map was extended."""
        slots = self._slots
        slot = begin = self._slot_of_size(size)
        while slot <= self.free_slot:
            extended = False
            for chunk in tuple(slots[slot]):
                if size > chunk.contig_hint:
                    continue
                if new_alloc := self._need_to_extend(chunk, atomic):
                    if atomic:
                        continue
                    chunk.map_alloc, extended = new_alloc, True
                    break
                offset = self._take(chunk, size, align, atomic)
                if offset >= 0:
                    return chunk, offset
                if self._rev and chunk.listed != slot:
                    raise RuntimeError(f"a walk over slot {slot} went on past the last chunk of slot {chunk.listed}")
            slot = begin if extended else slot + 1
        return None

    def _need_to_extend(self, chunk: MapChunk, atomic: bool) -> int:
        """Entries that the chunk's map needs; an atomic request that sees it run low leaves word."""
        if atomic and chunk.runs_low() and chunk not in self._extend:
            self._extend.append(chunk)
        return chunk.need_to_extend(atomic)

    def _take(self, chunk: MapChunk, size: int, align: int, atomic: bool) -> int:
        """Take an area of this chunk; its offset, or -1."""
        self._steps.chunks += 1
        before = self._slot_of(chunk)
        offset = chunk.alloc_area(size, align, atomic)
        self._relocate(chunk, before)
        return offset

    def _slot_of(self, chunk: MapChunk) -> int:
        """Where the chunk belongs: by its free bytes, however they lie."""
        free = chunk.free_size
        if free < SMALLEST_SPLIT or chunk.contig_hint < SMALLEST_SPLIT:
            return 0
        return self._slot_of_size(free)

    def _new_chunk(self, number: int) -> MapChunk:
        return self.chunk_class(number, self._unit, self._page, self._steps)

    # ---- background work ---------------------------------------------------------------

    def maintain(self, kind: str) -> Maintained:
        """``balance``: free chunks but one are destroyed, maps extended, empty pages kept ready.

        Raises ValueError for any other kind.  O(chunks * pages).
        """
        if kind != "balance":
            raise ValueError(f"the per-CPU allocator knows no maintenance {kind!r}, only 'balance'")
        freed = self._balance_free(empty_only=False)
        self._balance_maps()
        self._balance_populated()
        return Maintained(pages_freed=freed)

    def _balance_maps(self) -> None:
        """Extend the maps that atomic requests saw run low."""
        for chunk in self._extend:
            chunk.map_alloc = chunk.need_to_extend(atomic=False) or chunk.map_alloc
        self._extend.clear()

    def _destroy_chunk(self, chunk: MapChunk) -> int:
        if chunk in self._extend:
            self._extend.remove(chunk)
        return super()._destroy_chunk(chunk)

    # ---- observations ------------------------------------------------------------------

    def extents(self, handle: int) -> tuple[tuple[int, int, int], ...]:
        """The area as the map has it: (chunk, offset, length).  O(log areas)."""
        chunk, offset = self._locate(handle)
        return ((chunk.number, offset, chunk.area_end(offset) - offset),)

    def free_regions(self) -> Iterator[FreeRegion]:
        """Free areas of every chunk.  O(areas)."""
        for number in sorted(self._chunks):
            for start, end in self._chunks[number].areas(in_use=False):
                yield FreeRegion(number, start, end - start)

    def hints(self) -> Iterator[Hint]:
        """Of every chunk, in bytes: the bound of its longest free area, its free bytes, where they begin."""
        for number, chunk in sorted(self._chunks.items()):
            region = Extent(number, 0, self._unit)
            first = chunk.map[chunk.first_free] & ~1
            yield Hint("chunk.contig", chunk.contig_hint, region, Direction.UPPER, Quantity.LONGEST_FREE)
            yield Hint("chunk.free", chunk.free_size, region, Direction.EXACT, Quantity.FREE)
            yield Hint("chunk.first_free", first, region, Direction.LOWER, Quantity.FIRST_FREE)

    def counters(self) -> Mapping[str, int]:
        """``free_bytes``, ``live_objects``, ``pages`` behind chunks, and ``empty_pages`` of them."""
        chunks = self._chunks.values()
        return {
            "free_bytes": sum([chunk.free_size for chunk in chunks]),
            "live_objects": sum([sum([entry & 1 for entry in chunk.map]) - 1 for chunk in chunks]),
            "pages": sum([chunk.populated.bit_count() for chunk in chunks]),
            "empty_pages": self._empty_pages(),
        }

    def metadata(self) -> tuple[int, int]:
        """Bytes in the areas themselves (none) and in maps and page bitmaps beside them."""
        return 0, sum([_metadata_bytes(chunk.map_alloc, chunk.nr_pages) for chunk in self._chunks.values()])

    def cost(self) -> Mapping[str, int]:
        """Steps of the last call: map entries scanned and moved, chunks searched; bytes from the place ``found`` on."""
        steps = self._steps
        return {
            "entries_scanned": steps.scanned,
            "entries_moved": steps.moved,
            "chunks_visited": steps.chunks,
            "found": steps.found,
        }

    # ---- states ------------------------------------------------------------------------

    def snapshot(self) -> tuple[Any, ...]:
        """Maps, hints, slots in order, live contents.  Which page stands where is left out.  O(areas)."""
        chunks = tuple([(*chunk.snapshot(), self._live_contents(chunk)) for _, chunk in sorted(self._chunks.items())])
        extend = tuple([chunk.number for chunk in self._extend])
        return chunks, self._slot_state(), extend, self._atomic_failed

    @staticmethod
    def _live_contents(chunk: MapChunk) -> tuple[tuple[int, bytes], ...]:
        if (memory := chunk.memory) is None:
            return ()
        areas = [(start, bytes(memory[start:end])) for start, end in chunk.areas(in_use=True)]
        return tuple([(start, data) for start, data in areas if data.count(0) != len(data)])

    def restore(self, state: tuple[Any, ...]) -> None:
        """Return to a state of ``snapshot``; the page source's armed failures stay.  O(areas)."""
        self.destroy()
        chunks, slots, extend, self._atomic_failed = state
        for number, *fields, contents in chunks:
            chunk = self._chunks[number] = self._new_chunk(number)
            chunk.restore((number, *fields))
            self._retake_pages(chunk)
            for start, data in contents:
                self.write(number * self._unit + start, 0, data)
        self._restore_slots(slots)
        self._extend = [self._chunks[number] for number in extend]


# ---- what it promises ---------------------------------------------------------------------


@lru_cache(maxsize=256)
def _contract(unit: int, block: int, chunks: int, rev: str, pages: int) -> Contract:
    """The contract of every allocator with these parameters.  Raises ValueError for senseless ones."""
    if rev not in _REVISIONS:
        raise ValueError(f"unknown revision {rev!r} of the per-CPU area-map allocator")
    check_geometry("block", unit, block, chunks, pages)
    largest, per_chunk = min(unit, MIN_UNIT_SIZE, pages * block or unit), unit // block
    octaves = [1 << power for power in range(2, largest.bit_length())]
    return Contract(
        arena=unit,
        max_size=largest,
        granule=_GRANULE,
        max_align=block,
        limits=tuple(sorted({*octaves, block, 2 * block, largest - block, largest} - {0})),
        handles="opaque",
        contextual=True,
        maintenance=("balance",),
        slack_grows=True,
        detects=frozenset({"double", "foreign", "interior"}),
        rejects=frozenset({"zero", "huge", "align"}),
        zeroed=True,
        mergeable=always,
        container_list=partial(_slots_by_bytes, unit),
        geometry=_misplaced,
        overhead=no_overhead,
        metadata_bound=partial(at_most, chunks * _metadata_bytes(_most_entries(unit), per_chunk)),
        waste=_waste,
        page_order=0,
        drained_size=largest,
        drained_pages=min(chunks * per_chunk, per_chunk + 2 * EMPTY_POP_PAGES_HIGH),
        drained_after="balance",
        must_serve=partial(_must_serve, unit, block, chunks),
        cost_bounds={
            "entries_scanned": partial(_most_scanned, chunks),
            "entries_moved": _most_moved,
            "chunks_visited": partial(at_most, (chunks + 1) * (chunks + 2)),
        },
    )


def _must_serve(
    unit: int, block: int, chunks: int, request: Request, shadow: Shadow, source: PageSource | None
) -> bool:
    """Sleeping requests that fit an area between live ones, or for which a chunk can be had.

    A hint above the truth hides nothing.  Areas under 4 bytes are not promised: a chunk with
    nothing else stands on the slot that is never searched.  O(live) at most.
    """
    size, align = align_up(request.size, _GRANULE), max(request.align, _GRANULE)
    if request.atomic or not 0 < size <= min(unit, MIN_UNIT_SIZE):
        return False
    if request.align < 1 or align > block or not is_power_of_two(align):
        return False
    if source is not None and not pages_can_be_had(size, block, _GRANULE, chunks * unit // block, source):
        return False
    spaces = shadow.spaces()
    return len(spaces) < chunks or any(
        align_up(low, align) + size <= high and high - low >= SMALLEST_SPLIT
        for space in spaces
        for low, high in shadow.gaps(space, 0, unit)
    )


def _slots_by_bytes(unit: int, shadow: Shadow) -> Callable[[Hashable], Hashable]:
    """The slot of each chunk, by the bytes that no live area has."""
    used: dict[int, int] = {}
    for block in shadow.live.values():
        for space, _, length in block.extents:
            used[space] = used.get(space, 0) + length

    def slot_of(key: Any) -> Hashable:
        space, free = key[1], unit - used.get(key[1], 0)
        if free == unit:
            return size_to_slot(unit) + 1
        if free < SMALLEST_SPLIT:
            return 0
        if any(high - low >= SMALLEST_SPLIT for low, high in shadow.gaps(space, 0, unit)):
            return size_to_slot(free)
        return AnySlot((0, size_to_slot(free)))

    return slot_of


def _misplaced(block: Block) -> str | None:
    ((_, start, length),) = block.extents
    if start % _GRANULE or length % _GRANULE:
        return f"[{start}, {start + length}) has an odd end"
    return None


def _waste(size: int, align: int) -> int:
    """A byte of rounding, two of a tail, two of the head of a later neighbour."""
    return size % _GRANULE + 2 * (SMALLEST_SPLIT - _GRANULE)


def _most_scanned(chunks: int, request: Request, shadow: Shadow) -> int:
    """All areas, once more for each map that is extended and for a new chunk; twice a search when it is undone."""
    areas = 2 * len(shadow) + 2 * chunks
    return (chunks + 2) * areas + areas.bit_length()


def _most_moved(request: Request, shadow: Shadow) -> int:
    """Entries behind the new area, up once, and down again when no page can be had."""
    return 2 * (2 * len(shadow) + 3)


def _most_entries(unit: int) -> int:
    """Entries of a map whose areas are all as small as can be, grown by doubling."""
    entries = DFL_MAP_ALLOC
    while entries < unit // _GRANULE + ATOMIC_MAP_MARGIN_HIGH:
        entries *= 2
    return entries


def _metadata_bytes(map_alloc: int, nr_pages: int) -> int:
    """Bytes of a map, four an entry, of the page bitmap and of four ints beside them."""
    return 4 * map_alloc + 8 * -(-nr_pages // 64) + 16
