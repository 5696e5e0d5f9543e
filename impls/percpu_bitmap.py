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
and 8 bits): a block's hint, left and right run are exact.  The chunk's hint is never above its
longest free run and lags it by at most ``2 * (block - 4)`` bytes (a free page grown on both
sides by runs inside its neighbours), by 0 in a chunk of one block and ``block - 4`` in one of
two; it is never below the longest run inside one block, so it is 0 only if nothing is free.
The shipped comment promises "off by up to a page".  A sleeping request aligned to 4 is served
if some block has a free run of its size, or the chunk has one longer by that lag.

Left out: CPUs (one copy of each area stands for all), the first chunk, which is built into the
kernel image, the reserved chunk and memory control groups.  Simplified: a chunk is chosen for
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
from functools import lru_cache, partial
from typing import Any

from heaplaw import (
    AllocationBits,
    Block,
    Context,
    Contract,
    Direction,
    Extent,
    FreeRegion,
    Hint,
    InvalidFree,
    Listed,
    Maintained,
    PageSource,
    Quantity,
    Refusal,
    Request,
    Shadow,
)

from .bits import align_up, is_power_of_two
from .percpu_blocks import BlockHints
from .percpu_chunk import Chunk, Chunk414, Chunk2017, RepairedChunk, Steps

MIN_ALLOC_SIZE = 4  # bytes of one bit
MIN_UNIT_SIZE = 32768  # no request may be larger, whatever the chunk
SLOT_BASE_SHIFT = 5
SLOT_FAIL_THRESHOLD = 3  # chunks on slots below are put aside when a search in them fails
EMPTY_POP_PAGES_LOW, EMPTY_POP_PAGES_HIGH = 2, 4  # empty populated pages that are kept ready
_SMALLEST_BLOCK = 8  # bytes
_LARGEST_UNIT = 1 << 24
_REVISIONS: dict[str, type[Chunk]] = {
    "": RepairedChunk, "6.12": Chunk, "4.14": Chunk414, "2017-07": Chunk2017,
}  # fmt: skip


def size_to_slot(size: int) -> int:
    """Slot of ``size`` bytes, one to the octave from 16 bytes on.

    >>> [size_to_slot(size) for size in (4, 15, 16, 32, 4096, 32768)]
    [1, 1, 2, 3, 10, 13]
    """
    return max(size.bit_length() - SLOT_BASE_SHIFT + 2, 1)


class PercpuBitmap:
    """Up to ``chunks`` chunks of ``unit`` bytes in blocks of ``block`` bytes; ``rev`` as above.

    A handle is chunk * unit + offset.  ``pages`` of ``block`` bytes can be had in all; 0: enough
    for every chunk.  Raises ValueError for parameters that make no sense.
    """

    def __init__(self, unit: int = 32768, block: int = 4096, chunks: int = 2, rev: str = "", pages: int = 0) -> None:
        self.contract = _contract(unit, block, chunks, rev, pages)
        self._unit, self._block, self._most, self._rev = unit, block, chunks, rev
        self._type = _REVISIONS[rev]
        self._scans = rev in ("", "6.12")  # scan hints, slots by hint, chunks put aside
        self._largest = self.contract.largest
        top = size_to_slot(unit)
        self.sidelined_slot = top + 1 if self._scans else -1
        self.free_slot = top + 2 if self._scans else top + 1
        self.source = PageSource(pages or chunks * (unit // block), page_size=block)
        self._steps = Steps()
        self._chunks: dict[int, Chunk] = {}
        self._slots: list[list[Chunk]] = [[] for _ in range(self.free_slot + 1)]
        self._atomic_failed = False
        self._create_chunk()

    # ---- the two operations ------------------------------------------------------------

    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> int | Refusal | None:
        """Handle of ``size`` zeroed bytes; None when no chunk or page can be had.

        INVALID for size 0 and for an alignment that is no power of two or exceeds a block;
        TOO_BIG above 32 KiB or the chunk.  O(chunks * blocks) descriptors, O(size + block)
        bits of the bitmap.
        """
        steps = self._steps
        steps.bits = steps.blocks = steps.chunks = 0
        if size < 1 or align < 1 or align & (align - 1) or align > self._block:
            return Refusal.INVALID
        if size > self._largest:
            return Refusal.TOO_BIG
        bits = (size + 3) >> 2
        atomic = ctx is not None and ctx.atomic
        found = self._find(bits, align >> 2 or 1, atomic)
        if found is None:
            self._atomic_failed |= atomic
            return None
        chunk, at = found
        if not atomic and not self._populate_area(chunk, at, bits):
            self._free_area(chunk, at)
            return None
        offset = at << 2
        if chunk.memory is not None:
            chunk.memory[offset : offset + (bits << 2)] = bytes(bits << 2)
        return chunk.number * self._unit + offset

    def free(self, handle: int) -> None:
        """Give an area back; its size is in the boundary map.  O(block), O(blocks) at times.

        A handle that is not live is undefined, as in the kernel, but for InvalidFree where
        there is no such chunk.
        """
        steps = self._steps
        steps.bits = steps.blocks = steps.chunks = 0
        number, offset = divmod(handle, self._unit)
        chunk = self._chunks.get(number)
        if chunk is None:
            raise InvalidFree(f"{handle} lies in no chunk")
        self._free_area(chunk, offset >> 2)

    def _free_area(self, chunk: Chunk, at: int) -> None:
        before = self._slot_of(chunk)
        chunk.free_area(at)
        self._relocate(chunk, before)

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

    def _slot_of_size(self, size: int) -> int:
        return self.free_slot if size == self._unit else size_to_slot(size)

    def _slot_of(self, chunk: Chunk) -> int:
        """Where the chunk belongs: by its hinted run, in older revisions by its free bytes."""
        bits = hint = chunk.whole.contig_hint
        if not self._scans:
            bits = chunk.free_bits
        if not hint or not chunk.free_bits:
            return 0
        if bits == chunk.nr_bits:
            return self.free_slot
        slot = bits.bit_length() + 2 - SLOT_BASE_SHIFT + 2  # size_to_slot, spelled out: twice for each call
        return slot if slot > 1 else 1

    def _relocate(self, chunk: Chunk, before: int) -> None:
        """Move a chunk whose slot has changed: up to the head of the list, down to its tail."""
        after = self._slot_of(chunk)
        if after != before and not chunk.isolated:
            self._move(chunk, after, before < after)

    def _move(self, chunk: Chunk, slot: int, to_head: bool) -> None:
        self._slots[chunk.listed].remove(chunk)
        chunk.listed = slot
        if to_head:
            self._slots[slot].insert(0, chunk)
        else:
            self._slots[slot].append(chunk)

    def _create_chunk(self) -> Chunk | None:
        """A free chunk under the lowest number that is not in use; None when there may be no more."""
        if len(self._chunks) >= self._most:
            return None
        number = next(n for n in range(self._most) if n not in self._chunks)
        chunk = self._chunks[number] = self._new_chunk(number)
        chunk.listed = self.free_slot
        self._slots[self.free_slot].insert(0, chunk)
        return chunk

    def _new_chunk(self, number: int) -> Chunk:
        return self._type(number, self._unit // self._block, self._block // MIN_ALLOC_SIZE, self._steps)

    def _destroy_chunk(self, chunk: Chunk) -> int:
        """Give all its pages back and forget it; how many pages it had."""
        freed = 0
        for index in range(chunk.nr_blocks):
            if chunk.populated >> index & 1:
                self.source.give(chunk.set_unpopulated(index))
                freed += 1
        self._slots[chunk.listed].remove(chunk)
        del self._chunks[chunk.number]
        return freed

    # ---- pages -------------------------------------------------------------------------

    def _populate_area(self, chunk: Chunk, at: int, bits: int) -> bool:
        """Put pages behind an area, run by run; a run that cannot be had whole is given back."""
        first, last = at >> chunk.shift, (at + bits - 1) >> chunk.shift
        wanted = (1 << (last + 1)) - (1 << first)
        if chunk.populated & wanted == wanted:
            return True
        index = first
        while index <= last:
            if chunk.populated >> index & 1:
                index += 1
                continue
            end = index + 1
            while end <= last and not chunk.populated >> end & 1:
                end += 1
            if not self._populate_run(chunk, index, end, for_alloc=True):
                return False
            index = end
        return True

    def _populate_run(self, chunk: Chunk, start: int, end: int, *, for_alloc: bool) -> bool:
        """Populate pages [start, end) of a chunk, all or none."""
        frames: list[int] = []
        for _ in range(start, end):
            frame = self.source.take()
            if frame is None:
                for taken in frames:
                    self.source.give(taken)
                return False
            frames.append(frame)
        for index, frame in zip(range(start, end), frames, strict=True):
            chunk.set_populated(index, frame, for_alloc)
        return True

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
        """Empty populated pages of all chunks that are not being depopulated."""
        return sum([chunk.nr_empty for chunk in self._chunks.values() if not chunk.isolated])

    def _balance_free(self, *, empty_only: bool) -> int:
        """Destroy all free chunks but the first (only those without pages); pages given back."""
        spare = self._slots[self.free_slot][1:]
        return sum([self._destroy_chunk(chunk) for chunk in spare if not (empty_only and chunk.nr_empty)])

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
            if not enough or chunk.free_bits == chunk.nr_bits:
                chunk.isolated = False
                self._relocate(chunk, -1)
            else:
                self._move(chunk, self.sidelined_slot, False)
        return freed

    def _should_reclaim(self, chunk: Chunk) -> bool:
        if chunk.isolated:
            return chunk.nr_empty > 0
        if chunk.free_bits == chunk.nr_bits or not chunk.nr_empty:
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

    def _balance_populated(self) -> None:
        """Populate until enough empty pages are ready for atomic requests, fullest chunks first."""
        for _ in range(self._most + 1):  # each further round has made a chunk
            missing = EMPTY_POP_PAGES_HIGH
            if not self._atomic_failed:
                missing = max(0, min(missing, missing - self._empty_pages()))
            self._atomic_failed = False
            missing = self._populate_listed(missing)
            if not missing or self._create_chunk() is None:
                return

    def _populate_listed(self, missing: int) -> int:
        """Populate up to ``missing`` pages of listed chunks; how many are still missing."""
        for slot in range(self._slot_of_size(self._block), self.free_slot + 1):
            chunk = next((c for c in self._slots[slot] if c.populated.bit_count() < c.nr_blocks), None)
            if chunk is None:
                continue
            for index in range(chunk.nr_blocks):
                if not missing:
                    return 0
                if not chunk.populated >> index & 1:
                    if not self._populate_run(chunk, index, index + 1, for_alloc=False):
                        return 0  # no pages to be had: give up until the next time
                    missing -= 1
        return missing

    def destroy(self) -> None:
        """Give every page back."""
        for chunk in list(self._chunks.values()):
            self._destroy_chunk(chunk)

    # ---- contents ----------------------------------------------------------------------

    def read(self, handle: int, at: int, length: int) -> bytes:
        """``length`` bytes from offset ``at`` of a live area.  O(length)."""
        number, offset = divmod(handle, self._unit)
        memory = self._chunks[number].memory
        return bytes(length) if memory is None else bytes(memory[offset + at : offset + at + length])

    def write(self, handle: int, at: int, data: bytes) -> None:
        """Put ``data`` at offset ``at`` of a live area.  ValueError past the chunk's end.  O(length)."""
        number, offset = divmod(handle, self._unit)
        chunk = self._chunks[number]
        if not 0 <= offset + at <= self._unit - len(data):
            raise ValueError(f"{len(data)} bytes at {handle}+{at} leave the chunk")
        if chunk.memory is None:
            chunk.memory = bytearray(self._unit)
        chunk.memory[offset + at : offset + at + len(data)] = data

    # ---- observations ------------------------------------------------------------------

    def extents(self, handle: int) -> tuple[tuple[int, int, int], ...]:
        """The area as the boundary map has it: (chunk, offset, length).  O(area/block)."""
        number, offset = divmod(handle, self._unit)
        return ((number, offset, (self._chunks[number].area_end(offset >> 2) << 2) - offset),)

    def pages(self) -> Iterator[tuple[int, int]]:
        """Pages behind all chunks, one by one."""
        for chunk in self._chunks.values():
            for index, frame in enumerate(chunk.frames):
                if chunk.populated >> index & 1:
                    yield frame, 1

    def free_regions(self) -> Iterator[FreeRegion]:
        """Runs of clear bits of every chunk.  O(runs)."""
        for number in sorted(self._chunks):
            for start, end in self._chunks[number].zero_runs():
                yield FreeRegion(number, start << 2, (end - start) << 2)

    def bitmap(self) -> Iterator[AllocationBits]:
        """The allocation map of every chunk."""
        for number, chunk in sorted(self._chunks.items()):
            yield AllocationBits(number, 0, MIN_ALLOC_SIZE, chunk.nr_bits, chunk.map_bits())

    def lists(self) -> Iterator[Listed]:
        """Chunks on every slot, first to last."""
        for slot, members in enumerate(self._slots):
            for chunk in members:
                yield Listed(slot, ("chunk", chunk.number))

    def hints(self) -> Iterator[Hint]:
        """Hints of every chunk and block, in bytes; witnesses where a run is named.  O(blocks)."""
        for number, chunk in sorted(self._chunks.items()):
            yield from _hints("chunk", chunk.whole, Extent(number, 0, self._unit), self._scans)
            for index, block in enumerate(chunk.blocks):
                region = Extent(number, index * self._block, self._block)
                yield from _hints("block", block, region, self._scans)
                yield Hint("block.left", block.left_free << 2, region, Direction.EXACT, Quantity.FREE_AT_START)
                yield Hint("block.right", block.right_free << 2, region, Direction.EXACT, Quantity.FREE_AT_END)

    def counters(self) -> Mapping[str, int]:
        """``free_bytes``, ``live_objects``, ``pages`` behind chunks, and the revision's ``empty_pages``."""
        chunks = self._chunks.values()
        return {
            "free_bytes": sum([chunk.free_bits for chunk in chunks]) << 2,
            "live_objects": sum([chunk.areas() for chunk in chunks]),
            "pages": sum([chunk.populated.bit_count() for chunk in chunks]),
            "empty_pages": self._empty_pages(),
        }

    def metadata(self) -> tuple[int, int]:
        """Bytes in the areas themselves (none) and beside them."""
        return 0, len(self._chunks) * _metadata_bytes(self._unit, self._block, self._scans)

    def cost(self) -> Mapping[str, int]:
        """Steps of the last call: bits scanned, blocks (descriptors) and chunks visited."""
        steps = self._steps
        return {"bits_scanned": steps.bits, "blocks_visited": steps.blocks, "chunks_visited": steps.chunks}

    # ---- states ------------------------------------------------------------------------

    def snapshot(self) -> tuple[Any, ...]:
        """Maps, hints, slots in order, live contents.  Which page stands where is left out.  O(blocks)."""
        chunks = tuple([(*chunk.snapshot(), self._live_contents(chunk)) for _, chunk in sorted(self._chunks.items())])
        slots = tuple([tuple([chunk.number for chunk in members]) for members in self._slots])
        return chunks, slots, self._atomic_failed

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
            chunk.restore((number, *fields))
            for index in range(chunk.nr_blocks):
                if chunk.populated >> index & 1:
                    chunk.frames[index] = _retake_lowest(self.source)
            for at, data in contents:
                self.write(number * self._unit + (at << 2), 0, data)
        self._slots = [[self._chunks[number] for number in members] for members in slots]


def _hints(name: str, hints: BlockHints, region: Extent, scans: bool) -> Iterator[Hint]:
    """What a descriptor says of the runs in its region."""
    space, base, _ = region
    lower, longest = Direction.LOWER, Quantity.LONGEST_FREE
    size = hints.contig_hint << 2
    witness = Extent(space, base + (hints.contig_hint_start << 2), size) if size else None
    yield Hint(f"{name}.contig", size, region, lower, longest, witness)
    if scans:
        size = hints.scan_hint << 2
        witness = Extent(space, base + (hints.scan_hint_start << 2), size) if size else None
        yield Hint(f"{name}.scan", size, region, lower, longest, witness)
    yield Hint(f"{name}.first_free", hints.first_free << 2, region, lower, Quantity.FIRST_FREE)


def _retake_lowest(source: PageSource) -> int:
    """Take the lowest free page past any armed failure, as a restored state calls for."""
    zone = next(zone for zone in source.zones if zone.free)
    page = zone.first + (zone.free & -zone.free).bit_length() - 1
    zone.free &= zone.free - 1
    source.runs[page], source.owned[page] = 0, page
    source.held += 1
    return page


# ---- what it promises ---------------------------------------------------------------------


@lru_cache(maxsize=256)
def _contract(unit: int, block: int, chunks: int, rev: str, pages: int) -> Contract:
    """The contract of every allocator with these parameters.  Raises ValueError for senseless ones."""
    if rev not in _REVISIONS:
        raise ValueError(f"unknown revision {rev!r} of the per-CPU bitmap allocator")
    _check_geometry(unit, block, chunks, pages)
    largest, per_chunk = min(unit, MIN_UNIT_SIZE), unit // block
    octaves = [1 << power for power in range(2, largest.bit_length())]
    return Contract(
        arena=unit,
        max_size=largest,
        granule=MIN_ALLOC_SIZE,
        max_align=block,
        limits=tuple(sorted({*octaves, block, 2 * block, largest - block, largest} - {0})),
        handles="opaque",
        contextual=True,
        maintenance=("balance",),
        rejects=frozenset({"zero", "huge", "align"}),
        zeroed=True,
        mergeable=_always,
        geometry=_misplaced,
        overhead=_no_overhead,
        metadata_bound=partial(_metadata_bound, chunks * _metadata_bytes(unit, block, rev in ("", "6.12"))),
        waste=_waste,
        page_order=0,
        drained_size=largest,
        drained_pages=min(chunks * per_chunk, per_chunk + 2 * EMPTY_POP_PAGES_HIGH),
        drained_after="balance",
        must_serve=partial(_must_serve, rev, unit, block, chunks),
        cost_bounds=_cost_bounds(unit, block, chunks, rev),
        hint_slack=_hint_slack(unit, block, rev),
        hint_relations=_disordered if rev in ("", "6.12") else None,
    )


def _check_geometry(unit: int, block: int, chunks: int, pages: int) -> None:
    for name, value, least in (("unit", unit, 1), ("block", block, 1), ("chunks", chunks, 1), ("pages", pages, 0)):
        if not isinstance(value, int) or value < least:
            raise ValueError(f"{name} must be a whole number from {least}, not {value!r}")
    if not is_power_of_two(block) or block < _SMALLEST_BLOCK:
        raise ValueError(f"block {block} is not a power of two from {_SMALLEST_BLOCK}")
    if unit % block or unit > _LARGEST_UNIT:
        raise ValueError(f"unit {unit} is not a multiple of the block {block} up to {_LARGEST_UNIT}")


def _hint_slack(unit: int, block: int, rev: str) -> dict[str, int]:
    """Bytes by which hints may lag: as derived where repaired, else as the comments claim."""
    repaired = min(2, unit // block - 1) * (block - MIN_ALLOC_SIZE)
    return {"chunk.contig": block if rev else repaired, "block.contig": 0}


def _disordered(values: Mapping[str, int]) -> str | None:
    """A scan hint as long as the contig hint stands behind it, a shorter one before it."""
    for name in ("chunk", "block"):
        if values.get(f"{name}.scan", 0) > 0:
            behind = values[f"{name}.scan.start"] > values.get(f"{name}.contig.start", -1)
            equal = values[f"{name}.scan"] == values[f"{name}.contig"]
            if behind != equal:
                lengths = "as long as" if equal else "of another length than"
                place = "behind" if behind else "not behind"
                return f"{name}.scan is {lengths} {name}.contig, but {place} it"
    return None


def _must_serve(
    rev: str, unit: int, block: int, chunks: int, request: Request, shadow: Shadow, source: PageSource | None
) -> bool:
    """Sleeping requests for which a chunk without live areas, or a free run that hints must show, exists.

    A run inside one block is promised by all comments but the posting's; the repaired revision
    promises runs across blocks as well, where they exceed the request by the lag of its hints.
    O(live) at most.
    """
    size, align = align_up(request.size, MIN_ALLOC_SIZE), request.align
    if request.atomic or not 0 < size <= min(unit, MIN_UNIT_SIZE):
        return False
    if not 0 < align <= block or not is_power_of_two(align):
        return False
    if source is not None and not _pages_can_be_had(size, block, chunks * unit // block, source):
        return False
    spaces = shadow.spaces()
    if len(spaces) < chunks:
        return True
    if align > MIN_ALLOC_SIZE or rev == "2017-07":
        return False
    across = size + 2 * (block - MIN_ALLOC_SIZE) if not rev else unit + 1
    return any(
        low + size <= high and (high - low >= across or _inside_block(low, high, block) >= size)
        for space in spaces
        for low, high in shadow.gaps(space, 0, unit)
    )


def _pages_can_be_had(size: int, block: int, most: int, source: PageSource) -> bool:
    """Would the pages be given that an area of ``size`` bytes may touch, of ``most`` behind all chunks?"""
    touched = (size + 2 * block - 2 * MIN_ALLOC_SIZE) // block
    if source.total >= most:  # what chunks lack is still in the source
        touched = min(touched, source.total - source.held)
    return source.can_give(touched)


def _inside_block(low: int, high: int, block: int) -> int:
    """Bytes of the longest part of [low, high) that crosses no block border."""
    first, last = align_up(low + 1, block), (high - 1) & -block
    if first > last:
        return high - low
    return max(first - low, high - last, block if last > first else 0)


def _cost_bounds(unit: int, block: int, chunks: int, rev: str) -> dict[str, Any]:
    """Most steps of a request: one scan of the bitmap, two blocks rescanned, hints walked per chunk.

    An atomic search may begin again behind each unpopulated page.
    """
    blocks, bits = unit // block, block // MIN_ALLOC_SIZE
    reach = unit // MIN_ALLOC_SIZE if rev == "2017-07" else 0
    return {
        "bits_scanned": partial(_most_bits, bits, reach),
        "blocks_visited": partial(_most_blocks, blocks, chunks),
        "chunks_visited": partial(_at_most, 2 * chunks + 1),
    }


def _most_bits(block_bits: int, reach: int, request: Request, shadow: Shadow) -> int:
    scan = max(request.size // MIN_ALLOC_SIZE + 1 + block_bits, reach)
    return scan + 2 * block_bits + 2 * (block_bits + 1)  # the last where pages fail and it is freed again


def _most_blocks(blocks: int, chunks: int, request: Request, shadow: Shadow) -> int:
    walks = blocks * (blocks + 1) // 2 if request.atomic else blocks
    return (2 * chunks + 1) * walks + 2 * (2 * blocks)  # each refresh meets a block twice at most


def _at_most(most: int, request: Request, shadow: Shadow) -> int:
    return most


def _always(one: FreeRegion, two: FreeRegion) -> bool:
    return True


def _misplaced(block: Block) -> str | None:
    ((_, start, length),) = block.extents
    if start % MIN_ALLOC_SIZE:
        return f"{start} is not a multiple of {MIN_ALLOC_SIZE}"
    return None if length == align_up(block.size, MIN_ALLOC_SIZE) else f"{length} bytes for {block.size}"


def _waste(size: int, align: int) -> int:
    return -size % MIN_ALLOC_SIZE


def _no_overhead(shadow: Shadow, source: PageSource | None) -> int:
    return 0


def _metadata_bytes(unit: int, block: int, scans: bool) -> int:
    """Bytes of a chunk's two bitmaps, its descriptors (8 or 5 ints) and its page bitmap."""
    bits, blocks = unit // MIN_ALLOC_SIZE, unit // block
    longs = -(-bits // 64) + -(-(bits + 1) // 64) + -(-blocks // 64)
    return 8 * longs + (32 * (blocks + 1) if scans else 20 * blocks + 12)


def _metadata_bound(most: int, shadow: Shadow, source: PageSource | None) -> int:
    return most
