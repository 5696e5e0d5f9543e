"""What both per-CPU allocators of Linux stand on: chunks on slots, the pages behind them, their contents.

Era: 2.6.30 (2009) to today; a populated bitmap and background work since 3.18.  Source:
``mm/percpu.c`` and ``mm/percpu-vm.c``.

A chunk is an address space of ``unit`` bytes in which an area has one offset for all CPUs; here
one copy stands for all.  What is free in it is the affair of a map of areas (``percpu_map``) or
of two bitmaps (``percpu_chunk``); what is here does not look inside.  Chunks stand on slots, the
fullest are asked first, and a chunk whose slot has changed goes to the head of a higher list (it
was freed in) or to the tail of a lower one::

    slot     0          1            2             3       ...  free_slot
           full      1..15 bytes  16..31 bytes  32..63 bytes     whole unit

Pages are put behind areas when they are handed out, run by run, a run whole or not at all.  An
*immutable* chunk has its pages from elsewhere and keeps them.

>>> [size_to_slot(size) for size in (4, 15, 16, 32, 4096, 32768)]
[1, 1, 2, 3, 10, 13]
"""

from collections.abc import Iterator
from typing import Any, Generic, TypeVar

from heaplaw import InvalidFree, Listed, PageSource

from .bits import is_power_of_two, lowest_bit
from .parameters import check_numbers
from .percpu_blocks import next_set, next_zero

MIN_UNIT_SIZE = 32768  # no request may be larger, whatever the chunk
SLOT_BASE_SHIFT = 5
EMPTY_POP_PAGES_LOW, EMPTY_POP_PAGES_HIGH = 2, 4  # empty populated pages that are kept ready
NO_FRAME = -1
_SMALLEST_PAGE = 8  # bytes
_LARGEST_UNIT = 1 << 24


def size_to_slot(size: int) -> int:
    """Slot of ``size`` bytes, one to the octave from 16 bytes on."""
    return max(size.bit_length() - SLOT_BASE_SHIFT + 2, 1)


class AnySlot(tuple[int, ...]):
    """Slots on any of which a chunk may stand; equal to each of them."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return other in tuple(self)

    def __ne__(self, other: object) -> bool:
        return other not in tuple(self)

    __hash__ = tuple.__hash__


def check_geometry(page_name: str, unit: int, page: int, chunks: int, pages: int) -> None:
    """Raises ValueError for sizes that make no sense."""
    check_numbers(1, unit=unit, **{page_name: page}, chunks=chunks)
    check_numbers(0, pages=pages)
    if not is_power_of_two(page) or page < _SMALLEST_PAGE:
        raise ValueError(f"{page_name} {page} is not a power of two from {_SMALLEST_PAGE}")
    if unit % page or unit > _LARGEST_UNIT:
        raise ValueError(f"unit {unit} is not a multiple of the {page_name} {page} up to {_LARGEST_UNIT}")


class PagedChunk:
    """One chunk as its surroundings see it; the subclass says what is free in it."""

    __slots__ = ("frames", "immutable", "listed", "memory", "nr_empty", "nr_pages", "number", "populated")

    def __init__(self, number: int, nr_pages: int) -> None:
        self.number, self.nr_pages = number, nr_pages
        self.populated = 0  # bit i: page i has memory behind it
        self.frames = [NO_FRAME] * nr_pages  # page of the source behind each page
        self.nr_empty = 0  # populated pages without an area, as the revision counts them
        self.listed = 0  # the slot it stands on
        self.immutable = False
        self.memory: bytearray | None = None  # contents; made when first written

    def wholly_free(self) -> bool:
        """Is nothing at all taken in it?"""
        raise NotImplementedError

    def set_populated(self, index: int, frame: int, for_alloc: bool) -> None:
        """Put a page behind page ``index``; ``for_alloc``: for an area that is being handed out."""
        self.populated |= 1 << index
        self.frames[index] = frame
        self.nr_empty += 1  # an area that lies there is subtracted elsewhere

    def set_unpopulated(self, index: int) -> int:
        """Take the page from an empty page of the chunk; which page of the source it was."""
        frame, self.frames[index] = self.frames[index], NO_FRAME
        self.populated &= ~(1 << index)
        self.nr_empty -= 1
        return frame

    def unpopulated_runs(self, first: int, end: int) -> Iterator[tuple[int, int]]:
        """(start, end) of the runs of pages in [first, end) that have no memory.  O(runs)."""
        while (start := next_zero(self.populated, first, end)) < end:
            first = min(next_set(self.populated, start + 1, end), end)
            yield start, first


C = TypeVar("C", bound=PagedChunk)


class PercpuHeap(Generic[C]):
    """Up to ``chunks`` chunks of ``unit`` bytes over ``pages`` pages of ``page`` bytes; 0 pages: enough for all.

    A handle is chunk * unit + offset.
    """

    def __init__(self, unit: int, page: int, chunks: int, pages: int, free_slot: int) -> None:
        self._unit, self._page, self._most = unit, page, chunks
        self.free_slot = free_slot  # of chunks with nothing in them
        self.source = PageSource(pages or chunks * (unit // page), page_size=page)
        self._chunks: dict[int, C] = {}
        self._slots: list[list[C]] = [[] for _ in range(free_slot + 1)]
        self._atomic_failed = False

    def _new_chunk(self, number: int) -> C:
        raise NotImplementedError

    def _slot_of(self, chunk: C) -> int:
        raise NotImplementedError

    def _locate(self, handle: int) -> tuple[C, int]:
        """The chunk that a handle lies in, and its offset there.  Raises InvalidFree where there is none."""
        number, offset = divmod(handle, self._unit)
        chunk = self._chunks.get(number)
        if chunk is None:
            raise InvalidFree(f"{handle} lies in no chunk")
        return chunk, offset

    # ---- chunks and slots --------------------------------------------------------------

    def _slot_of_size(self, size: int) -> int:
        return self.free_slot if size == self._unit else size_to_slot(size)

    def _relocate(self, chunk: C, before: int) -> None:
        """Move a chunk whose slot has changed: up to the head of the list, down to its tail."""
        after = self._slot_of(chunk)
        if after != before:
            self._move(chunk, after, before < after)

    def _move(self, chunk: C, slot: int, to_head: bool) -> None:
        self._slots[chunk.listed].remove(chunk)
        chunk.listed = slot
        if to_head:
            self._slots[slot].insert(0, chunk)
        else:
            self._slots[slot].append(chunk)

    def _create_chunk(self) -> C | None:
        """A free chunk under the lowest number that is not in use; None when there may be no more."""
        number = next((n for n in range(self._most) if n not in self._chunks), None)
        if number is None:
            return None
        chunk = self._chunks[number] = self._new_chunk(number)
        chunk.listed = self.free_slot
        self._slots[self.free_slot].insert(0, chunk)
        return chunk

    def _destroy_chunk(self, chunk: C) -> int:
        """Give all its pages back and forget it; how many pages it had."""
        freed = self._depopulate_all(chunk)
        self._slots[chunk.listed].remove(chunk)
        del self._chunks[chunk.number]
        return freed

    def _depopulate_all(self, chunk: C) -> int:
        freed = 0
        for index, frame in enumerate(chunk.frames):
            if frame != NO_FRAME:
                self.source.give(chunk.set_unpopulated(index))
                freed += 1
        return freed

    # ---- pages -------------------------------------------------------------------------

    def _populate_pages(self, chunk: C, first: int, end: int) -> bool:
        """Put memory behind pages [first, end) for an area; runs had before one that fails are kept."""
        wanted = (1 << end) - (1 << first)
        if chunk.populated & wanted == wanted:
            return True
        runs = chunk.unpopulated_runs(first, end)
        return all(self._populate_run(chunk, start, stop, for_alloc=True) for start, stop in runs)

    def _populate_run(self, chunk: C, start: int, end: int, *, for_alloc: bool) -> bool:
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

    # ---- background work ---------------------------------------------------------------

    def _empty_pages(self) -> int:
        """Empty populated pages of all chunks."""
        return sum([chunk.nr_empty for chunk in self._chunks.values()])

    def _balance_free(self, *, empty_only: bool) -> int:
        """Destroy all free chunks but the first (only those without pages); pages given back."""
        spare = self._slots[self.free_slot][1:]
        return sum([self._destroy_chunk(chunk) for chunk in spare if not (empty_only and chunk.nr_empty)])

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
        for slot in range(self._slot_of_size(self._page), self.free_slot + 1):
            chunk = next((c for c in self._slots[slot] if c.populated.bit_count() < c.nr_pages), None)
            if chunk is None:
                continue
            for start, end in chunk.unpopulated_runs(0, chunk.nr_pages):
                if not missing:
                    return 0
                count = min(end - start, missing)
                if not self._populate_run(chunk, start, start + count, for_alloc=False):
                    return 0  # no pages to be had: give up until the next time
                missing -= count
        return missing

    def destroy(self) -> None:
        """Give every page back."""
        for chunk in self._chunks.values():
            self._depopulate_all(chunk)
        self._chunks.clear()
        self._slots = [[] for _ in self._slots]

    # ---- contents ----------------------------------------------------------------------

    def read(self, handle: int, at: int, length: int) -> bytes:
        """``length`` bytes from offset ``at`` of a live area.  ValueError where no page is behind them.  O(length)."""
        chunk, offset = self._locate(handle)
        self._demand_pages(chunk, offset + at, length)
        memory = chunk.memory
        return bytes(length) if memory is None else bytes(memory[offset + at : offset + at + length])

    def write(self, handle: int, at: int, data: bytes) -> None:
        """Put ``data`` at offset ``at`` of a live area.  ValueError where no page is behind it.  O(length)."""
        chunk, offset = self._locate(handle)
        self._demand_pages(chunk, offset + at, len(data))
        if chunk.memory is None:
            chunk.memory = bytearray(self._unit)
        chunk.memory[offset + at : offset + at + len(data)] = data

    def _demand_pages(self, chunk: C, start: int, length: int) -> None:
        """Raises ValueError unless all of these bytes have memory behind them, as a kernel would fault."""
        first, end = start // self._page, -(-(start + length) // self._page)
        if next_zero(chunk.populated, first, end) < end:
            raise ValueError(f"{length} bytes at {start} leave the chunk, or its pages")

    @staticmethod
    def _clear(chunk: PagedChunk, offset: int, length: int) -> None:
        """Zero an area that is handed out."""
        if chunk.memory is not None:
            chunk.memory[offset : offset + length] = bytes(length)

    # ---- observations ------------------------------------------------------------------

    def pages(self) -> Iterator[tuple[int, int]]:
        """Pages of the source behind all chunks, one by one."""
        for chunk in self._chunks.values():
            for frame in chunk.frames:
                if frame != NO_FRAME:
                    yield frame, 1

    def lists(self) -> Iterator[Listed]:
        """Chunks on every slot, first to last."""
        for slot, members in enumerate(self._slots):
            for chunk in members:
                yield Listed(slot, ("chunk", chunk.number))

    # ---- states ------------------------------------------------------------------------

    def _slot_state(self) -> tuple[tuple[int, ...], ...]:
        """The numbers of the chunks on every slot, in order."""
        return tuple([tuple([chunk.number for chunk in members]) for members in self._slots])

    def _restore_slots(self, state: Any) -> None:
        self._slots = [[self._chunks[number] for number in members] for members in state]
        for slot, members in enumerate(self._slots):
            for chunk in members:
                chunk.listed = slot

    def _retake_pages(self, chunk: C) -> None:
        """Put the lowest free pages behind a restored chunk, as its populated bits say."""
        if not chunk.immutable:
            for index in range(chunk.nr_pages):
                if chunk.populated >> index & 1:
                    chunk.frames[index] = _retake_lowest(self.source)


def _retake_lowest(source: PageSource) -> int:
    """Take the lowest free page past any armed failure, as a restored state calls for."""
    zone = next(zone for zone in source.zones if zone.free)
    page = zone.first + lowest_bit(zone.free)
    source.retake(page)
    return page


def pages_can_be_had(size: int, page: int, granule: int, most: int, source: PageSource) -> bool:
    """Would the pages be given that an area of ``size`` bytes may touch, of ``most`` behind all chunks?"""
    touched = (size + 2 * page - 2 * granule) // page
    if source.total >= most:  # what chunks lack is still in the source
        touched = min(touched, source.total - source.held)
    return source.can_give(touched)
