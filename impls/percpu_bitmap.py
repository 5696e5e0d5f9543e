"""The per-CPU bitmap allocator of Linux: small areas in chunks, found through layered hints.

Era: posted by Dennis Zhou in July 2017 ("percpu: replace percpu area map allocator with
bitmap allocator"), in 4.14 since November 2017, with scan hints since 5.1; the allocating
functions of 6.12 are still those.  Source: ``mm/percpu.c``, ``mm/percpu-vm.c``.

A chunk is an address space of ``unit`` bytes, cut into blocks of ``block`` bytes, which are
pages as well.  A request goes from the slot of its size up to that of the free chunks, then to
a new chunk; in a chunk, hints name a place and the bitmap is scanned from there (see
``percpu_chunk``).  Pages are put behind an area when it is handed out; a request that may not
sleep (``ctx.atomic``) takes only what has pages already, and never makes a chunk::

    slot     0      1 .. 2        3 ..           free-2     free-1      free
           full,   may be put    hinted run of  ...        sidelined,  wholly
         given up  aside         2**(slot+2)               depopulated free

The revisions ``2017-07``, ``4.14`` and ``6.12`` keep their defects (see ``percpu_chunk``; they
are unconfirmed by the maintainers but for those fixed in 5.1 and the hint order reported in
2026); their contracts claim what their comments claim, so that a check refutes it.

The default is 6.12 repaired.  Frees stay lazy; what changed is the end of a freed run (relative
to the chunk), ``right_free`` after a scan hint is promoted, the scan hint wherever a run before
the largest could exceed it, and that chunks which were put aside are looked at again before a
request is refused: after a miss (slot 0) a short run may fit another size or alignment, and a
depopulated chunk that has become free lies below the slot where a request of a whole unit begins.

What the repaired hints keep, found by going through all states of small chunks (blocks of 2, 4
and 8 bits): a block's hint, left and right run and first free bit are exact, and its scan hint, where
it has one, is the longest run before it or before the largest one.  The chunk's hint is never above its
longest free run and lags it by at most ``2 * (block - 4)`` bytes (a free page grown on both
sides by runs inside its neighbours), by 0 in a chunk of one block and ``block - 4`` in one of
two; it is never below the longest run inside one block, so it is 0 only if nothing is free.
The shipped comment promises "off by up to a page".  Of a chunk's scan hint only this is kept: no run
inside one block before it, or in the blocks before that of the largest run, is longer; other runs in
that run's own block may be, since a chunk is told one run of each block.  Contig and scan hint never
overlap, and of two equal ones the contig hint is no worse aligned.  A sleeping request aligned to 4 is served
if some block has a free run of its size, or the chunk has one longer by that lag.

With ``static`` or ``reserved`` bytes the first unit belongs to the kernel image.  Its variables
(``static``) are in no chunk; areas for modules that must lie near them (``reserved``) come from a
chunk of their own, which no other request is given and which gives nothing to others' requests
(``ctx.group`` 1 is a reserved request); the rest is chunk 0.  Both have all their pages from the
start, keep them, and hide the bits that belong to a neighbour on the same page::

    space 0   |....static....|....reserved....|..........dynamic..........|
              0         page |    page        | page                      unit
    chunks              |hhhh rrrrrrrrrrrrrrrr hhh|  h: hidden bits
                             number `chunks`  |hhh dddddddddddddddddddddd|  number 0

Left out: CPUs (one copy of each area stands for all), memory control groups, and the bytes of the
first unit that a kernel leaves unused.  Simplified: a chunk is chosen for
depopulation when the background work runs, not when something in it is freed, and so is never
hidden from searches meanwhile; alignments 0 and 3, which the kernel rounds up to 4 without a
word, are refused like all others that are no power of two.

>>> heap = PercpuBitmap()
>>> a, b = heap.alloc(5), heap.alloc(4096, 64)
>>> heap.extents(a), heap.extents(b)
(((0, 0, 8),), ((0, 64, 4096),))
>>> heap.free(a); [(h.name, h.value) for h in heap.hints()][:2]
[('chunk.contig', 28608), ('chunk.scan', 64)]
"""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from heaplaw import (
    AllocationBits,
    Context,
    Direction,
    Extent,
    FreeRegion,
    Hint,
    Maintained,
    Quantity,
    Refusal,
)

from .percpu_backing import (
    EMPTY_POP_PAGES_HIGH,
    EMPTY_POP_PAGES_LOW,
    MIN_UNIT_SIZE,
    SLOT_BASE_SHIFT,
    PercpuHeap,
    size_to_slot,
)
from .percpu_bitmap_promises import (
    MIN_ALLOC_SIZE,
    RESERVED_GROUP,
    SLOT_FAIL_THRESHOLD,
    contract_of,
    metadata_bytes,
)
from .percpu_blocks import BlockHints
from .percpu_chunk import Chunk, Chunk414, Chunk2017, RepairedChunk, Steps

__all__ = ["EMPTY_POP_PAGES_HIGH", "EMPTY_POP_PAGES_LOW", "MIN_ALLOC_SIZE", "MIN_UNIT_SIZE", "PercpuBitmap",
           "size_to_slot"]  # fmt: skip


class PercpuBitmap(PercpuHeap[Chunk]):
    """Up to ``chunks`` chunks of ``unit`` bytes in blocks of ``block`` bytes; ``rev`` as above.

    A handle is chunk * unit + offset.  ``pages`` of ``block`` bytes can be had in all; 0: enough
    for every chunk.  ``static`` and ``reserved`` bytes are taken from the first unit.  Raises
    ValueError for parameters that make no sense.
    """

    chunk_classes: ClassVar[Mapping[str, type[Chunk]]] = {
        "": RepairedChunk, "6.12": Chunk, "4.14": Chunk414, "2017-07": Chunk2017,
    }  # fmt: skip

    def __init__(
        self, unit: int = 32768, block: int = 4096, chunks: int = 2, rev: str = "", pages: int = 0,
        static: int = 0, reserved: int = 0,
    ) -> None:  # fmt: skip
        self.contract = contract_of(unit, block, chunks, rev, pages, static, reserved)
        self._type = self.chunk_classes[rev]
        self._rev, self._block = rev, block
        self._scans = rev in ("", "6.12")  # scan hints, slots by hint, chunks put aside
        top = size_to_slot(unit)
        free_slot = self.sidelined_slot = top + 1
        if self._scans:
            free_slot = top + 2
        super().__init__(unit, block, chunks, pages, free_slot)
        self._most_bytes = min(unit, MIN_UNIT_SIZE)
        self._steps = Steps()
        self._static = -(-static // MIN_ALLOC_SIZE) * MIN_ALLOC_SIZE
        self._border = self._static + reserved  # in the first unit, where ordinary areas begin
        self._reserved: Chunk | None = None
        self._taken_before = 0  # pages ever taken, when the last request came
        self._setup_first_chunk()

    def _setup_first_chunk(self) -> None:
        """Make the chunk that is there from the start, and the reserved one beside it."""
        if not self._border:
            self._create_chunk()
            return
        if self._border > self._static:
            self._reserved = self._chunks[self._most] = self._new_chunk(self._most)
        first = self._chunks[0] = self._new_chunk(0)
        first.listed = self._slot_of(first)
        self._slots[first.listed].insert(0, first)

    # ---- the two operations ------------------------------------------------------------

    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> int | Refusal | None:
        """Handle of ``size`` zeroed bytes; None when no chunk or page can be had.

        INVALID for size 0 and for an alignment that is no power of two or exceeds a block;
        TOO_BIG above 32 KiB or the unit.  O(chunks * blocks) descriptors, O(size + block)
        bits of the bitmap.
        """
        steps = self._steps
        steps.bits = steps.blocks = steps.chunks = 0
        self._taken_before = self.source.taken
        if size < 1 or align < 1 or align & (align - 1) or align > self._block:
            return Refusal.INVALID
        if size > self._most_bytes:
            return Refusal.TOO_BIG
        bits = (size + 3) >> 2
        atomic = ctx is not None and ctx.atomic
        if ctx is not None and ctx.group == RESERVED_GROUP and self._reserved is not None:
            found = self._find_reserved(self._reserved, bits, align >> 2 or 1, atomic)
        else:
            found = self._find(bits, align >> 2 or 1, atomic)
        if found is None:
            self._atomic_failed |= atomic
            return None
        chunk, at = found
        shift = chunk.shift
        if not atomic and not self._populate_pages(chunk, at >> shift, ((at + bits - 1) >> shift) + 1):
            self._free_area(chunk, at)
            return None
        offset = at << 2
        self._clear(chunk, offset, bits << 2)
        return chunk.space * self._unit + chunk.base + offset

    def free(self, handle: int) -> None:
        """Give an area back; its size is in the boundary map.  O(block), O(blocks) at times.

        A handle that is not live is undefined, as in the kernel, but for InvalidFree where
        there is no such chunk.
        """
        steps = self._steps
        steps.bits = steps.blocks = steps.chunks = 0
        chunk, offset = self._locate(handle)
        self._free_area(chunk, offset >> 2)

    def _free_area(self, chunk: Chunk, at: int) -> None:
        before = self._slot_of(chunk)
        chunk.free_area(at)
        self._relocate(chunk, before)

    def _locate(self, handle: int) -> tuple[Chunk, int]:
        """The chunk that a handle lies in, and its offset there; in the first unit it is one of two."""
        if self._reserved is not None and handle < self._border:
            return self._reserved, handle - self._reserved.base
        chunk, offset = super()._locate(handle)
        return chunk, offset - chunk.base

    def _find_reserved(self, chunk: Chunk, bits: int, align: int, atomic: bool) -> tuple[Chunk, int] | None:
        """A reserved request gets its area from the reserved chunk, or none."""
        at = self._take(chunk, bits, align, atomic)
        return None if at < 0 else (chunk, at)

    def _find(self, bits: int, align: int, atomic: bool) -> tuple[Chunk, int] | None:
        """Chunk and bit of a new area: listed chunks, then a new one, then those put aside."""
        found = self._search(self._slot_of_size(bits << 2), bits, align, atomic)
        if found is None and not atomic and not self._slots[self.free_slot] and self._create_chunk():
            found = self._search(self.free_slot, bits, align, atomic)
        if found is None and not self._rev:
            # a request of a whole unit begins its search above the slot of depopulated chunks
            for chunk in (*self._slots[0], *self._slots[self.sidelined_slot]):
                if (at := self._take(chunk, bits, align, atomic)) >= 0:
                    return chunk, at
        return found

    def _search(self, slot: int, bits: int, align: int, atomic: bool) -> tuple[Chunk, int] | None:
        """Fullest chunks first: from ``slot`` up to the free ones."""
        slots = self._slots
        for at_slot in range(slot, self.free_slot + 1):
            if slots[at_slot]:
                for chunk in tuple(slots[at_slot]):
                    at = self._take(chunk, bits, align, atomic)
                    if at >= 0:
                        return chunk, at
                    if at_slot < SLOT_FAIL_THRESHOLD and self._scans:
                        self._move(chunk, 0, True)
        return None

    def _take(self, chunk: Chunk, bits: int, align: int, atomic: bool) -> int:
        """Take an area of this chunk; its first bit, or -1."""
        self._steps.chunks += 1
        at = chunk.find_block_fit(bits, align, atomic)
        if at < 0:
            return -1
        before = self._slot_of(chunk)
        at = chunk.alloc_area(bits, align, at)
        if at >= 0:
            if chunk.isolated:
                chunk.isolated = False
                before = -1
            self._relocate(chunk, before)
        return at

    # ---- chunks and slots --------------------------------------------------------------

    def _slot_of(self, chunk: Chunk) -> int:
        """Where the chunk belongs: by its hinted run, in older revisions by its free bytes."""
        bits = hint = chunk.whole.contig_hint
        if not self._scans:
            bits = chunk.free_bits
        if not hint or not chunk.free_bits:
            return 0
        if bits << 2 == self._unit:
            return self.free_slot
        slot = bits.bit_length() + 2 - SLOT_BASE_SHIFT + 2  # size_to_slot of 4 * bits: twice for each call
        return slot if slot > 1 else 1

    def _relocate(self, chunk: Chunk, before: int) -> None:
        """As for all chunks, but for those given over to depopulation and the reserved one."""
        if not chunk.isolated and chunk is not self._reserved:
            super()._relocate(chunk, before)

    def _new_chunk(self, number: int) -> Chunk:
        if number == self._most:
            return self._first_chunk(number, self._static, self._border)
        if number == 0 and self._border:
            return self._first_chunk(number, self._border, self._unit)
        return self._type(number, self._unit // self._block, self._block // MIN_ALLOC_SIZE, self._steps)

    def _first_chunk(self, number: int, start: int, end: int) -> Chunk:
        """A chunk for bytes [start, end) of the first unit, over whole pages that it has and keeps."""
        base, nr_blocks = start & -self._block, -(-end // self._block) - start // self._block
        chunk = self._type(number, nr_blocks, self._block // MIN_ALLOC_SIZE, self._steps)
        chunk.space, chunk.base, chunk.immutable = 0, base, True
        chunk.populated, chunk.nr_empty = (1 << nr_blocks) - 1, nr_blocks
        chunk.hide((start - base) >> 2, (end - base) >> 2)
        return chunk

    # ---- background work ---------------------------------------------------------------

    def maintain(self, kind: str) -> Maintained:
        """``balance``, the background work: free chunks but one are destroyed, empty pages kept ready.

        Raises ValueError for any other kind.  O(chunks * blocks).
        """
        if kind != "balance":
            raise ValueError(f"the per-CPU allocator knows no maintenance {kind!r}, only 'balance'")
        freed = self._balance_free(empty_only=False)
        if self._scans:
            freed += self._reclaim_populated()
        self._balance_populated()
        if self._scans:
            freed += self._balance_free(empty_only=True)
        return Maintained(pages_freed=freed)

    def _empty_pages(self) -> int:
        """Empty populated pages of all chunks but the reserved one and those that are being depopulated."""
        chunks = self._chunks.values()
        return sum([chunk.nr_empty for chunk in chunks if not chunk.isolated and chunk is not self._reserved])

    def _reclaim_populated(self) -> int:
        """Depopulate chunks of which a quarter is empty while others have enough; pages given back."""
        freed = 0
        for number in sorted(self._chunks):
            chunk = self._chunks[number]
            if not self._should_reclaim(chunk):
                continue
            chunk.isolated = True
            pages, enough = self._depopulate(chunk)
            freed += pages
            if not enough or chunk.wholly_free():
                chunk.isolated = False
                self._relocate(chunk, -1)
            else:
                self._move(chunk, self.sidelined_slot, False)
        return freed

    def _should_reclaim(self, chunk: Chunk) -> bool:
        if chunk.immutable:
            return False
        if chunk.isolated:
            return chunk.nr_empty > 0
        if chunk.wholly_free() or not chunk.nr_empty:
            return False  # a free chunk is destroyed or kept whole
        others = self._empty_pages() - chunk.nr_empty
        return others > EMPTY_POP_PAGES_HIGH and chunk.nr_empty >= chunk.nr_blocks // 4

    def _depopulate(self, chunk: Chunk) -> tuple[int, bool]:
        """Take empty pages from the end of a chunk; how many, and whether others had enough."""
        freed = 0
        for index in reversed(range(chunk.nr_blocks)):
            if not chunk.nr_empty:
                break
            if self._empty_pages() < EMPTY_POP_PAGES_HIGH:
                return freed, False
            if chunk.populated >> index & 1 and chunk.page_is_empty(index):
                self.source.give(chunk.set_unpopulated(index))
                freed += 1
        return freed, True

    # ---- observations ------------------------------------------------------------------

    def extents(self, handle: int) -> tuple[tuple[int, int, int], ...]:
        """The area as the boundary map has it: (chunk, offset, length).  O(area/block)."""
        chunk, offset = self._locate(handle)
        return ((chunk.space, chunk.base + offset, (chunk.area_end(offset >> 2) << 2) - offset),)

    def free_regions(self) -> Iterator[FreeRegion]:
        """Runs of clear bits of every chunk.  O(runs)."""
        for _, chunk in sorted(self._chunks.items()):
            space, base = chunk.space, chunk.base
            for start, end in chunk.zero_runs():
                yield FreeRegion(space, base + (start << 2), (end - start) << 2)

    def bitmap(self) -> Iterator[AllocationBits]:
        """The allocation map of every chunk, but for its hidden bits."""
        for _, chunk in sorted(self._chunks.items()):
            lo, units = chunk.lo, chunk.hi - chunk.lo
            bits = chunk.map_bits() >> lo & ((1 << units) - 1)
            yield AllocationBits(chunk.space, chunk.base + (lo << 2), MIN_ALLOC_SIZE, units, bits)

    def hints(self) -> Iterator[Hint]:
        """Hints of every chunk and block, in bytes; witnesses where a run is named.  O(blocks)."""
        for _, chunk in sorted(self._chunks.items()):
            yield from _hints("chunk", chunk.whole, chunk, 0, self._scans)
            if not self._rev:
                yield from _ahead(chunk)
            for index, block in enumerate(chunk.blocks):
                yield from _hints("block", block, chunk, index << chunk.shift, self._scans)
                region = _region(chunk, index << chunk.shift, block.nr_bits)
                if chunk.lo <= index << chunk.shift:
                    yield Hint("block.left", block.left_free << 2, region, Direction.EXACT, Quantity.FREE_AT_START)
                if (index + 1) << chunk.shift <= chunk.hi:
                    yield Hint("block.right", block.right_free << 2, region, Direction.EXACT, Quantity.FREE_AT_END)

    def counters(self) -> Mapping[str, int]:
        """``free_bytes``, ``live_objects``, ``used_bytes`` (by the boundary map), ``pages`` of the source.

        Also the revision's ``empty_pages``, and of every chunk its populated pages, the empty ones among them, and
        whether it was put aside.  Where all pages are the source's, ``untouched_pages`` too: empty ones of every
        chunk, isolated or not.  O(areas).
        """
        chunks = self._chunks.values()
        areas = [(chunk, at) for chunk in chunks for at in chunk.area_starts()]
        counts = {
            "free_bytes": sum([chunk.free_bits for chunk in chunks]) << 2,
            "live_objects": len(areas),
            "used_bytes": sum([chunk.area_end(at) - at for chunk, at in areas]) << 2,
            "pages": sum([chunk.populated.bit_count() for chunk in chunks if not chunk.immutable]),
            "empty_pages": self._empty_pages(),
        }
        aside = self._slots[self.sidelined_slot] if self._scans else ()
        for number, chunk in self._chunks.items():
            counts[f"chunk{number}.pages"] = chunk.populated.bit_count()
            counts[f"chunk{number}.empty_pages"] = chunk.nr_empty
            counts[f"chunk{number}.sidelined"] = int(chunk in aside)
            counts[f"chunk{number}.isolated"] = int(chunk.isolated)
        if not any(chunk.immutable for chunk in chunks):
            counts["untouched_pages"] = sum([chunk.nr_empty for chunk in chunks])
        return counts

    def metadata(self) -> tuple[int, int]:
        """Bytes in the areas themselves (none) and beside them."""
        sizes = [metadata_bytes(c.nr_blocks * self._block, self._block, self._scans) for c in self._chunks.values()]
        return 0, sum(sizes)

    def cost(self) -> Mapping[str, int]:
        """Steps of the last call: bits scanned, blocks (descriptors) and chunks visited; pages taken for a request."""
        steps, taken = self._steps, self.source.taken - self._taken_before
        return {
            "bits_scanned": steps.bits, "blocks_visited": steps.blocks, "chunks_visited": steps.chunks,
            "pages_taken": taken,
        }  # fmt: skip

    # ---- states ------------------------------------------------------------------------

    def snapshot(self) -> tuple[Any, ...]:
        """Maps, hints, slots in order, live contents.  Which page stands where is left out.  O(blocks)."""
        chunks = tuple([(*chunk.snapshot(), self._live_contents(chunk)) for _, chunk in sorted(self._chunks.items())])
        return chunks, self._slot_state(), self._atomic_failed

    @staticmethod
    def _live_contents(chunk: Chunk) -> tuple[tuple[int, bytes], ...]:
        memory = chunk.memory
        if memory is None:
            return ()
        areas = [(at, bytes(memory[at << 2 : chunk.area_end(at) << 2])) for at in chunk.area_starts()]
        return tuple([(at, data) for at, data in areas if data.count(0) != len(data)])

    def restore(self, state: tuple[Any, ...]) -> None:
        """Return to a state of ``snapshot``; the page source's armed failures stay.  O(blocks)."""
        self.destroy()
        chunks, slots, self._atomic_failed = state
        for number, *fields, contents in chunks:
            chunk = self._chunks[number] = self._new_chunk(number)
            if number == self._most:
                self._reserved = chunk
            chunk.restore((number, *fields))
            self._retake_pages(chunk)
            for at, data in contents:
                self.write(chunk.space * self._unit + chunk.base + (at << 2), 0, data)
        self._restore_slots(slots)


def _region(chunk: Chunk, start: int, bits: int) -> Extent:
    """Bytes of ``bits`` bits of a chunk from ``start`` on, hidden ones left out."""
    low, high = max(start, chunk.lo), min(start + bits, chunk.hi)
    return Extent(chunk.space, chunk.base + (low << 2), (high - low) << 2)


def _hints(name: str, hints: BlockHints, chunk: Chunk, start: int, scans: bool) -> Iterator[Hint]:
    """What the descriptor of the bits from ``start`` on says of the runs there."""
    region = _region(chunk, start, hints.nr_bits)
    space, base = chunk.space, chunk.base + (start << 2)
    lower, longest = Direction.LOWER, Quantity.LONGEST_FREE
    size = hints.contig_hint << 2
    witness = Extent(space, base + (hints.contig_hint_start << 2), size) if size else None
    yield Hint(f"{name}.contig", size, region, lower, longest, witness)
    if scans:
        size = hints.scan_hint << 2
        witness = Extent(space, base + (hints.scan_hint_start << 2), size) if size else None
        yield Hint(f"{name}.scan", size, region, lower, longest, witness)
    first = max(base + (hints.first_free << 2) - region.start, 0)
    yield Hint(f"{name}.first_free", first, region, lower, Quantity.FIRST_FREE)


def _ahead(chunk: Chunk) -> Iterator[Hint]:
    """What repaired scan hints say of the bits before them, and before the largest run.  O(blocks).

    A block's is the longest run there.  To a chunk's no run comes up that lies inside one block, before
    the scan hint or in a block before that of the largest run: of that one's block only this run was told.
    """
    shift, whole, longest = chunk.shift, chunk.whole, Quantity.LONGEST_FREE
    end = max(whole.contig_hint_start >> shift << shift, whole.scan_hint_start) if whole.scan_hint else 0
    for index, block in enumerate(chunk.blocks):
        start = index << shift
        if start < end:
            region = _region(chunk, start, min(chunk.block_bits, end - start))
            yield Hint("chunk.ahead", whole.scan_hint << 2, region, Direction.UPPER, longest)
        if block.scan_hint:
            region = _region(chunk, start, max(block.contig_hint_start, block.scan_hint_start))
            yield Hint("block.ahead", block.scan_hint << 2, region, Direction.EXACT, longest)
