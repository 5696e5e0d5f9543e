"""The map of areas of one chunk: a sorted array of boundaries, searched from the front.

Era: Linux 2.6.30 (June 2009) to 4.13 (September 2017), in the form of 3.18 to 4.13: boundaries
since 3.15, atomic requests since 3.18.  Source: ``mm/percpu.c``, ``pcpu_fit_in_area`` to
``pcpu_free_area``.

Area i is ``[map[i], map[i + 1])``; all offsets are even, so bit 0 of an entry says that its area
is in use.  The last entry is a sentry, the end of the unit, in use::

    map   0     8|1      24      28|1        64|1      128|1
          free  used     free    used        used      sentry       map_used = 5
          ^ first_free: an index, nothing is free at a lower one

An area is taken first fit.  What alignment leaves before it (the head) stays free, but less than
four bytes are joined to the area before, which grows *while it is live*; fewer than four bytes
behind it (the tail) go with it.  ``contig_hint`` is an upper bound of the longest free area: it is
made exact where a search has seen the whole map, and only grows between.

A head would also be joined to a free area before it; that never happens, since free areas never
touch.  Where a request may use populated pages only and the map begins with a free area, the
source reads the entry before the first; no area stands there, and none is changed here.

>>> chunk = MapChunk(0, 64, 32)
>>> chunk.alloc_area(8, 2), chunk.alloc_area(16, 16), chunk.map
(0, 16, [1, 8, 17, 32, 65])
>>> chunk.free_area(0); chunk.map, chunk.free_size, chunk.contig_hint
([0, 17, 32, 65], 48, 64)
"""

from bisect import bisect_left
from typing import Any

from heaplaw import InvalidFree

from .percpu_backing import PagedChunk
from .percpu_blocks import next_set, next_zero

DFL_MAP_ALLOC = 16  # entries that a map begins with
ATOMIC_MAP_MARGIN_LOW, ATOMIC_MAP_MARGIN_HIGH = 32, 64  # spare entries wanted by atomic and by sleeping requests
_ATOMIC_MARGIN = 3  # entries that one request may add, and the sentry
SMALLEST_SPLIT = 4  # bytes; less is not worth an entry


class MapSteps:
    """What calls cost: map entries looked at, entries moved up or down, chunks searched; bytes found."""

    __slots__ = ("chunks", "found", "moved", "scanned")

    def __init__(self) -> None:
        self.scanned = self.moved = self.chunks = self.found = 0


class MapChunk(PagedChunk):
    """A chunk of ``unit`` bytes over pages of ``page`` bytes."""

    __slots__ = ("contig_hint", "donated", "first_free", "free_size", "map", "map_alloc", "occ_pages", "page", "steps",
                 "unit")  # fmt: skip

    def __init__(self, number: int, unit: int, page: int, steps: MapSteps | None = None) -> None:
        super().__init__(number, unit // page)
        self.unit, self.page = unit, page
        self.map = [0, unit | 1]
        self.map_alloc = DFL_MAP_ALLOC
        self.first_free = 0
        self.free_size = self.contig_hint = unit
        self.occ_pages = 0  # pages that the area last taken has to itself
        self.donated = 0  # bytes of its head that went to the area before it
        self.steps = steps or MapSteps()  # shared by the chunks of an allocator, which resets it

    @property
    def map_used(self) -> int:
        """Areas in the map; the sentry is not one."""
        return len(self.map) - 1

    def wholly_free(self) -> bool:
        """Is nothing at all taken in it?"""
        return self.free_size == self.unit

    # ---- room in the map -----------------------------------------------------------------

    def need_to_extend(self, atomic: bool) -> int:
        """Entries that the map should be given for one more request; 0 where it has room.  O(1).

        A sleeping request, which may do it, wants more room than it needs, for those that may not.
        """
        wanted = len(self.map) - 1 + (_ATOMIC_MARGIN if atomic else ATOMIC_MAP_MARGIN_HIGH)
        if self.map_alloc >= wanted:
            return 0
        new_alloc = DFL_MAP_ALLOC
        while new_alloc < wanted:
            new_alloc *= 2
        return new_alloc

    def runs_low(self) -> bool:
        """Should the background work extend the map before an atomic request finds it full?"""
        return self.map_alloc < len(self.map) - 1 + ATOMIC_MAP_MARGIN_LOW

    # ---- taking an area ------------------------------------------------------------------

    def fit_in_area(self, off: int, this_size: int, size: int, align: int, pop_only: bool) -> int:
        """Bytes to leave out before the request in the free area [off, off + this_size); -1: no fit.

        ``pop_only``: every page that it touches must be populated.
        """
        page, candidate = self.page, off
        while True:
            head = ((candidate + align - 1) & ~(align - 1)) - off
            if this_size < head + size:
                return -1
            if not pop_only:
                return head
            end = -(-(off + this_size) // page)
            hole = next_zero(self.populated, (off + head) // page, end)
            if hole >= -(-(off + head + size) // page):
                return head
            candidate = min(next_set(self.populated, hole + 1, end), end) * page

    def alloc_area(self, size: int, align: int, pop_only: bool = False) -> int:
        """Take the first fit for ``size`` (even) bytes; its offset, or -1.  O(areas) entries scanned and moved.

        The map must have two spare entries.
        """
        entries, fit = self.map, self.fit_in_area
        max_contig, seen_free = 0, False
        used = len(entries) - 1
        begin = self.first_free
        for i in range(begin, used):
            off = entries[i]
            if off & 1:
                continue
            this_size = (entries[i + 1] & ~1) - off
            head = fit(off, this_size, size, align, pop_only)
            if head >= 0:
                self.steps.scanned += i + 1 - begin
                return self.take(i, head, size, max_contig, seen_free)
            if not seen_free:
                self.first_free, seen_free = i, True
            if this_size > max_contig:
                max_contig = this_size
        self.steps.scanned += used - begin
        self.contig_hint = max_contig  # fully scanned
        return -1

    def take(self, i: int, head: int, size: int, max_contig: int, seen_free: bool) -> int:
        """Take ``size`` bytes behind ``head`` of free area ``i``; where.  O(areas) entries moved."""
        entries = self.map
        self.donated = 0
        if head and self.head_joins(i, head):
            self.join_head(i, head)
            head = 0
        off = entries[i]
        end = entries[i + 1] & ~1
        self.steps.found = end - off - head
        tail = end - off - head - size
        if tail < SMALLEST_SPLIT:
            size, tail = end - off - head, 0
        if head or tail:
            self.split(i, off, head, off + head + size if tail else 0)
            if head:
                if not seen_free:
                    self.first_free, seen_free = i, True
                i, off = i + 1, off + head
                max_contig = max(max_contig, head)
            max_contig = max(max_contig, tail)
        if not seen_free:
            self.first_free = i + 1
        # the hint is exact where the area is the last of the map, so that all of it was seen
        self.contig_hint = max_contig if i + 1 == len(entries) - 1 else max(self.contig_hint, max_contig)
        self.free_size -= size
        entries[i] = off | 1
        self.occ_pages = self.count_occupied_pages(i)
        return off

    def head_joins(self, i: int, head: int) -> bool:
        """Does the head go to the area before?  Not where there is none."""
        return i > 0 and (head < SMALLEST_SPLIT or not self.map[i - 1] & 1)

    def join_head(self, i: int, head: int) -> None:
        """Move the start of free area ``i`` up: the area before, in use, has ``head`` bytes more."""
        self.map[i] += head
        self.free_size -= head
        self.donated = head

    def split(self, i: int, off: int, head: int, tail_start: int) -> None:
        """Enter the boundaries behind a head and before a tail, where there are any."""
        entries = self.map
        self.steps.moved += len(entries) - 1 - i
        if not head:
            entries.insert(i + 1, tail_start)
        elif not tail_start:
            entries.insert(i + 1, off + head)
        else:
            entries[i + 1 : i + 1] = (off + head, tail_start)

    def count_occupied_pages(self, i: int) -> int:
        """Pages that area ``i`` has to itself: those at its ends count where the rest of them is free."""
        entries, page = self.map, self.page
        off, end = entries[i] & ~1, entries[i + 1] & ~1
        if off % page and i > 0:
            before = entries[i - 1]
            if not before & 1 and before <= off // page * page:
                off = off // page * page
        if end % page and i + 1 < len(entries) - 1:
            behind, behind_end = entries[i + 1], entries[i + 2] & ~1
            if not behind & 1 and behind_end >= -(-end // page) * page:
                end = -(-end // page) * page
        return max(end // page - -(-off // page), 0)

    # ---- giving it back ------------------------------------------------------------------

    def index_of(self, off: int) -> int:
        """Index of the area in use that begins at ``off``.  O(log areas).  Raises InvalidFree if none does."""
        entries = self.map
        used = len(entries) - 1
        self.steps.scanned += used.bit_length()
        i = bisect_left(entries, off + 1, 0, used)
        if i == used or entries[i] != off + 1:
            raise InvalidFree(f"no area in use begins at {off}")
        return i

    def free_area(self, off: int) -> None:
        """Release the area that begins at ``off``.  O(log areas) entries scanned, O(areas) moved."""
        i = self.index_of(off)
        if i < self.first_free:
            self.first_free = i
        entries = self.map
        entries[i] = off
        self.free_size += (entries[i + 1] & ~1) - off
        self.occ_pages = self.count_occupied_pages(i)
        i = self.merge(i)
        # the area behind is in use, or the sentry: its bit must not count as a byte
        self.contig_hint = max(self.contig_hint, (entries[i + 1] & ~1) - entries[i])

    def merge(self, i: int) -> int:
        """Join free area ``i`` with its free neighbours by taking the boundaries between them out; its index then.

        [ free ][ i: free ][ free ][ used ] => [ -------- free -------- ][ used ]

        map  0  8  24  64|1  =>  0  64|1
        """
        entries = self.map
        joined = 0 if entries[i + 1] & 1 else 1
        if i > 0 and not entries[i - 1] & 1:
            joined += 1
            i -= 1
        if joined:
            del entries[i + 1 : i + 1 + joined]
            self.steps.moved += len(entries) - 1 - i
        return i

    def take_back_head(self, off: int) -> None:
        """The area last taken, at ``off``, was freed again: so are the bytes that its neighbour got from it."""
        if head := self.donated:
            i = bisect_left(self.map, off)
            self.map[i] -= head
            self.free_size += head
            self.contig_hint = max(self.contig_hint, (self.map[i + 1] & ~1) - self.map[i])

    # ---- what is seen --------------------------------------------------------------------

    def area_end(self, off: int) -> int:
        """Where the area in use that begins at ``off`` ends.  O(log areas)."""
        entries = self.map
        i = bisect_left(entries, off + 1)
        if i >= len(entries) - 1 or entries[i] != off + 1:
            raise InvalidFree(f"no area in use begins at {off}")
        return entries[i + 1] & ~1

    def areas(self, in_use: bool) -> list[tuple[int, int]]:
        """(start, end) of the areas that are in use, or of those that are not.  O(areas)."""
        entries, bit = self.map, int(in_use)
        return [(entries[i] & ~1, entries[i + 1] & ~1) for i in range(len(entries) - 1) if entries[i] & 1 == bit]

    def snapshot(self) -> tuple[Any, ...]:
        """Everything that decides what happens next, contents and page numbers apart; hashable."""
        return (
            self.number, tuple(self.map), self.map_alloc, self.first_free, self.free_size, self.contig_hint,
            self.populated, self.nr_empty,
        )  # fmt: skip

    def restore(self, state: tuple[Any, ...]) -> None:
        """Return to a state of ``snapshot``."""
        (
            self.number, entries, self.map_alloc, self.first_free, self.free_size, self.contig_hint,
            self.populated, self.nr_empty,
        ) = state  # fmt: skip
        self.map = list(entries)
