"""One chunk of the per-CPU bitmap allocator: two bitmaps, their descriptors, search and release.

Era and source: see ``percpu_blocks``; this is ``mm/percpu.c`` from ``pcpu_next_md_free_region``
to ``pcpu_free_area``, in the shapes of July 2017, 4.14 and 6.12, and the repaired one.

A bit stands for four bytes.  ``used`` says which bits are taken, ``bounds`` where areas begin
and end (one bit more than the chunk has, for the end of the last area)::

    used    1 1 1 0 0 1 1 1 1 0 0 0      areas [0,2) [2,3) [5,9)
    bounds  1 0 1 1 . 1 0 0 0 1 . . .    stale where nothing is live

A search is in two steps: descriptors name a place from which a fit lies within ``bits`` plus
one block, then the bitmap is scanned from there, so that small holes on the way are filled
first.  Freeing is lazy: the chunk's descriptor learns the freed run only as far as its block
reaches, unless a block became free or the area crossed a border; only then are all descriptors
walked.  Its hint is therefore a lower bound.

Defects of the shipped revisions that are kept here, unconfirmed by its maintainers unless said
otherwise: 2017-07 and 4.14 test only an allocation's first bit against the chunk's hint (fixed
in 5.1); 4.14 tells the chunk the block's largest run at the start of the freed one (fixed in
5.1); 6.12 gives the chunk the end of a freed run relative to its block, so that frees outside
block 0 do not raise its hints.

>>> chunk = Chunk(0, 4, 64)
>>> chunk.alloc_area(6, 1, chunk.find_block_fit(6, 1, False)), chunk.whole.contig_hint
(0, 250)
>>> chunk.free_area(0), chunk.whole.contig_hint
(6, 256)
"""

from collections.abc import Callable, Iterator
from typing import Any

from .percpu_backing import PagedChunk
from .percpu_blocks import (
    BlockHints,
    better_aligned,
    free_runs,
    next_set,
    next_zero,
    promote_scan_hint,
    refresh_forward,
    refresh_repaired,
    refresh_whole,
    run_start,
    update_aligned,
    update_largest,
    update_ordered,
    update_scanning,
)


class Steps:
    """What calls cost: bits looked at, descriptors met, chunks searched."""

    __slots__ = ("bits", "blocks", "chunks")

    def __init__(self) -> None:
        self.bits = self.blocks = self.chunks = 0


class Chunk(PagedChunk):
    """6.12 as shipped.  ``nr_blocks`` blocks, which are pages, of ``block_bits`` bits (a power of two) each.

    Bit 0 stands for byte ``base`` of address space ``space``; bits outside [``lo``, ``hi``) are hidden.
    """

    update: Callable[..., None] = staticmethod(update_scanning)
    refresh: Callable[..., None] = staticmethod(refresh_forward)

    __slots__ = (
        "base", "block_bits", "blocks", "bounds", "free_bits", "hi", "isolated", "lo", "mask",
        "nr_bits", "nr_blocks", "shift", "space", "steps", "used", "whole",
    )  # fmt: skip

    def __init__(self, number: int, nr_blocks: int, block_bits: int, steps: Steps | None = None) -> None:
        super().__init__(number, nr_blocks)
        self.nr_blocks, self.block_bits = nr_blocks, block_bits
        self.shift, self.mask = block_bits.bit_length() - 1, block_bits - 1
        self.nr_bits = self.free_bits = nr_blocks * block_bits
        self.used = [0] * nr_blocks
        self.bounds = [0] * (nr_blocks + 1)
        self.blocks = [BlockHints(block_bits) for _ in range(nr_blocks)]
        self.whole = BlockHints(self.nr_bits)
        self.isolated = False  # given over to depopulation
        self.steps = steps or Steps()  # shared by the chunks of an allocator, which resets it
        self.space, self.base = number, 0
        self.lo, self.hi = 0, self.nr_bits

    def hide(self, lo: int, hi: int) -> None:
        """Take the bits outside [lo, hi) for good: another owner has the rest of the first and the last page."""
        self.lo, self.hi = lo, hi
        if lo:
            self.mark(0, lo)
            self.whole.first_free = lo
            self.hint_alloc(0, lo)
        if hi < self.nr_bits:
            self.mark(hi, self.nr_bits - hi)
            self.hint_alloc(hi, self.nr_bits - hi)

    def wholly_free(self) -> bool:
        """Is nothing at all taken in it?"""
        return self.free_bits == self.nr_bits

    # ---- search ------------------------------------------------------------------------

    def find_block_fit(self, bits: int, align: int, pop_only: bool) -> int:
        """Bit to start scanning at; -1 where the descriptors see no fit.  O(blocks).

        ``align`` in bits, a power of two; ``pop_only``: every page on the way must be populated.
        """
        if not self.may_fit(bits, align):
            return -1
        at = self.search_start(bits)
        for _ in range(self.nr_blocks + 1):  # each further round has passed unpopulated blocks
            at, area = self.next_fit(bits, align, at)
            if at >= self.nr_bits:
                return -1
            if not pop_only:
                return at
            hole_end = self.unpopulated_end(at, area)
            if hole_end < 0:
                return at
            at = hole_end
        return -1

    def may_fit(self, bits: int, align: int) -> bool:
        """The gate: does the hinted run hold the request, aligned?  O(1)."""
        whole = self.whole
        return (-whole.contig_hint_start & (align - 1)) + bits <= whole.contig_hint

    def search_start(self, bits: int) -> int:
        """Bit at which a search of the chunk begins.  O(1)."""
        return self.next_hint(self.whole, bits)

    @staticmethod
    def next_hint(block: BlockHints, bits: int) -> int:
        """Where a search for ``bits`` may begin: nothing before a scan hint is longer than it.  O(1)."""
        if block.scan_hint and block.contig_hint_start > block.scan_hint_start and bits > block.scan_hint:
            return block.scan_hint_start + block.scan_hint
        return block.first_free

    def next_fit(self, bits: int, align: int, at: int) -> tuple[int, int]:
        """(start, length) of the next area to scan, from bit ``at`` on; start = nr_bits: none.  O(blocks)."""
        size, shift = self.block_bits, self.shift
        start, run, within = at, 0, at & self.mask
        for index in range(at >> shift, self.nr_blocks):
            block = self.blocks[index]
            self.steps.blocks += 1
            if run:  # carried in from the blocks before
                run += block.left_free
                if run >= bits:
                    return start, run
                if block.left_free == size:
                    continue
            hint = block.contig_hint_start
            pad = -hint & (align - 1)
            if block.contig_hint and hint >= within and block.contig_hint >= pad + bits:
                first = self.next_hint(block, bits)
                return (index << shift) + first, pad + bits + hint - first
            within = 0
            tail = (size - block.right_free + align - 1) & -align
            start, run = (index << shift) + tail, size - tail
            if run >= bits:
                return start, run
        return self.nr_bits, 0

    def unpopulated_end(self, at: int, bits: int) -> int:
        """-1 where [at, at + bits) is populated; else the bit at which its first unpopulated run ends."""
        end = ((at + bits - 1) >> self.shift) + 1
        first = next_zero(self.populated, at >> self.shift, end)
        if first >= end:
            return -1
        return next_set(self.populated, first + 1, end) << self.shift

    # ---- taking an area ----------------------------------------------------------------

    def alloc_area(self, bits: int, align: int, start: int) -> int:
        """Take the first aligned fit within ``bits`` plus one block from ``start``; its bit, or -1.

        O(bits + block) for the scan, O(block) and O(blocks) where a hint is broken.
        """
        at, hole, hole_bits = self.zero_area(start, self.scan_end(start, bits), bits, align)
        if at < 0:
            return -1
        if hole_bits:
            self.remember_hole(hole, hole_bits)
        self.mark(at, bits)
        whole = self.whole
        if at == whole.first_free:
            whole.first_free = self.next_zero(at + bits)
        self.hint_alloc(at, bits)
        return at

    def scan_end(self, start: int, bits: int) -> int:
        """Where the scan of the bitmap stops."""
        return min(start + bits + self.block_bits, self.nr_bits)

    def zero_area(self, start: int, end: int, bits: int, align: int) -> tuple[int, int, int]:
        """(position or -1, longest run skipped for being too short, its length).  O(end - start)."""
        index, low = start >> self.shift, start & self.mask
        window, gathered = self.used[index] >> low, self.block_bits - low
        while start + gathered < end:
            index += 1
            window |= self.used[index] << gathered
            gathered += self.block_bits
        at, hole, hole_bits = start, 0, 0
        while True:  # the window begins at bit `at`
            skip = (~window & (window + 1)).bit_length() - 1
            skip += -(at + skip) & (align - 1)
            at += skip
            if at + bits > end:
                self.steps.bits += end - start
                return -1, 0, 0
            window >>= skip
            run = (window & -window).bit_length() - 1
            if run < 0 or run >= bits:
                self.steps.bits += at + bits - start
                return at, hole, hole_bits
            if run > hole_bits or (run == hole_bits and run and self.better_hole(at, hole)):
                hole, hole_bits = at, run
            at += run + 1
            window >>= run + 1

    @staticmethod
    def better_hole(at: int, hole: int) -> bool:
        """Of two equal holes, the better aligned one; a hole at 0 stays."""
        return hole != 0 and at & -at > hole & -hole

    def remember_hole(self, hole: int, bits: int) -> None:
        """A run was skipped by the search: let its block know it whole.  O(block/64)."""
        index, start = hole >> self.shift, hole & self.mask
        if start + bits <= self.block_bits:
            self.update(self.blocks[index], run_start(self.used[index], start), start + bits)

    def mark(self, at: int, bits: int) -> None:
        """Set the bitmaps for a new area."""
        shift, mask, size = self.shift, self.mask, self.block_bits
        self.free_bits -= bits
        index, low, left = at >> shift, at & mask, bits
        while left > 0:  # alloc map, and no boundary inside
            here = min(left, size - low)
            ones = ((1 << here) - 1) << low
            self.used[index] |= ones
            self.bounds[index] &= ~ones
            index, low, left = index + 1, 0, left - here
        self.bounds[at >> shift] |= 1 << (at & mask)
        self.bounds[(at + bits) >> shift] |= 1 << ((at + bits) & mask)

    def next_zero(self, at: int) -> int:
        """First free bit of the chunk from ``at`` on; nr_bits if there is none."""
        size, low = self.block_bits, at & self.mask
        for index in range(at >> self.shift, self.nr_blocks):
            found = next_zero(self.used[index], low, size)
            if found < size:
                return (index << self.shift) + found
            low = 0
        return self.nr_bits

    def hint_alloc(self, at: int, bits: int) -> None:
        """Bring the descriptors up to date with a new area [at, at + bits)."""
        shift, mask, size = self.shift, self.mask, self.block_bits
        end = at + bits
        first, last = at >> shift, (end - 1) >> shift
        low, high = at & mask, ((end - 1) & mask) + 1  # in the first block, in the last
        block, used = self.blocks[first], self.used[first]
        emptied = int(block.contig_hint == size)
        if low == block.first_free:
            block.first_free = next_zero(used, low + bits, size)
        scan, contig = block.scan_hint_start, block.contig_hint_start
        if scan < low + bits and low < scan + block.scan_hint:
            block.scan_hint = 0
        if contig < low + bits and low < contig + block.contig_hint:
            self.break_contig(first, low)
        else:
            block.left_free = min(block.left_free, low)
            block.right_free = min(block.right_free, size - high) if first == last else 0
        if first != last:
            emptied += self.hint_alloc_last(last, high) + last - first - 1
            for index in range(first + 1, last):
                self.blocks[index].set_full()
        self.nr_empty -= emptied
        whole = self.whole
        scan, contig = whole.scan_hint_start, whole.contig_hint_start
        if scan < end and at < scan + whole.scan_hint:
            whole.scan_hint = 0
        if contig < end and at < contig + whole.contig_hint:
            self.refresh_chunk(False)

    def break_contig(self, index: int, low: int) -> None:
        """An area that begins at ``low`` lies in the block's largest run: look for another.  O(block)."""
        if not low:
            self.blocks[index].left_free = 0
        self.refresh_block(index)

    def hint_alloc_last(self, index: int, high: int) -> int:
        """An area that began in an earlier block ends at ``high`` in this one; 1 if it was empty."""
        block, size = self.blocks[index], self.block_bits
        emptied = int(block.contig_hint == size)
        block.first_free = next_zero(self.used[index], high, size)
        if high == size:
            block.set_full()
            return emptied
        self.forget_start(block, high)
        if high > block.contig_hint_start:
            self.refresh_block(index)
        else:
            block.right_free = min(block.right_free, size - high)
        return emptied

    @staticmethod
    def forget_start(block: BlockHints, high: int) -> None:
        """The first ``high`` bits of a block were taken."""
        if high > block.scan_hint_start:
            block.scan_hint = 0
        block.left_free = 0

    # ---- giving it back ----------------------------------------------------------------

    def free_area(self, at: int) -> int:
        """Release the area that begins at bit ``at``; how many bits it had.

        O(block) to find the run that it joins, O(blocks) where all descriptors are walked.
        """
        bits = self.area_end(at) - at
        shift, size = self.shift, self.block_bits
        self.free_bits += bits
        index, low, left = at >> shift, at & self.mask, bits
        while left > 0:
            here = min(left, size - low)
            self.used[index] &= ~(((1 << here) - 1) << low)
            index, low, left = index + 1, 0, left - here
        self.lower_first_free(at)
        self.hint_free(at, bits)
        return bits

    def area_end(self, at: int) -> int:
        """Where the area that begins at ``at`` ends, by the boundary map.  O(area/block)."""
        index, low = at >> self.shift, (at & self.mask) + 1
        while index < self.nr_blocks:
            rest = self.bounds[index] >> low
            if rest:
                return (index << self.shift) + low + (rest & -rest).bit_length() - 1
            index, low = index + 1, 0
        return self.nr_bits

    def lower_first_free(self, at: int) -> None:
        """A bit became free."""
        if at < self.whole.first_free:
            self.whole.first_free = at

    def hint_free(self, at: int, bits: int) -> None:
        """Bring the descriptors up to date with a freed area; ``used`` is already clear there.

        The bitmap has merged it with its neighbours; inside its blocks the whole run is made known::

            [ free ][ freed ][ free ] => [ -------- free -------- ]
            start   low     high  end
        """
        shift, mask, size = self.shift, self.mask, self.block_bits
        first, last = at >> shift, (at + bits - 1) >> shift
        low, high = at & mask, ((at + bits - 1) & mask) + 1
        block, end_block = self.blocks[first], self.blocks[last]
        if low == block.contig_hint_start + block.contig_hint:
            start = block.contig_hint_start
        else:
            start = run_start(self.used[first], low)
            self.steps.bits += low - start + 1
        if high == end_block.contig_hint_start:
            end = high + end_block.contig_hint
        else:
            end = next_set(self.used[last], high, size)
            self.steps.bits += end - high + 1
        if first == last:
            self.update(block, start, end)
            emptied = int(end - start == size)
        else:
            self.update(block, start, size)
            self.update(end_block, 0, end)
            for index in range(first + 1, last):
                self.blocks[index].set_free()
            emptied = (start == 0) + (end == size) + last - first - 1
        self.nr_empty += emptied
        self.chunk_free(first, last, start, end)

    def chunk_free(self, first: int, last: int, start: int, end: int) -> None:
        """Tell the chunk's descriptor; ``end`` is left relative to its block, as shipped."""
        if end - start >= self.block_bits or first != last:
            self.refresh_chunk(True)
        else:
            self.update(self.whole, (first << self.shift) + start, end)

    # ---- descriptors from descriptors --------------------------------------------------

    def refresh_block(self, index: int) -> None:
        """Rescan a block's bitmap for its hints.  O(block)."""
        self.steps.bits += self.block_bits
        self.refresh(self.blocks[index], self.used[index], self.update)

    def refresh_chunk(self, full: bool) -> None:
        """Derive the chunk's hints from its blocks; not ``full``: behind its scan hint only.  O(blocks)."""
        whole, update = self.whole, self.update
        if full:
            whole.contig_hint, at = 0, whole.first_free
        else:
            at = promote_scan_hint(whole)
        for start, end in self.described_runs(at):
            update(whole, start, end)

    def described_runs(self, at: int) -> Iterator[tuple[int, int]]:
        """(start, end) of the free runs that the blocks tell of, from bit ``at`` on.  O(blocks).

        Of each block its largest run where that touches no border, and its right run joined
        with the left runs of the blocks that follow.
        """
        size, shift, blocks = self.block_bits, self.shift, self.blocks
        start = run = 0
        within = at & self.mask
        for index in range(at >> shift, self.nr_blocks):
            block, base = blocks[index], index << shift
            self.steps.blocks += 1
            if run:
                run += block.left_free
                if block.left_free == size:
                    continue
                yield start, start + run
                within = block.left_free  # what is the largest run there has been told
            contig, hint = block.contig_hint, block.contig_hint_start
            if contig and hint >= within and contig + hint < size:
                yield base + hint, base + hint + contig
            within = 0
            run = block.right_free
            start = base + size - run
        if run:
            yield start, start + run

    # ---- pages -------------------------------------------------------------------------

    def page_is_empty(self, index: int) -> bool:
        """Does the page's block hold no area, by its descriptor?"""
        return self.blocks[index].contig_hint == self.block_bits

    # ---- what is seen ------------------------------------------------------------------

    def zero_runs(self) -> Iterator[tuple[int, int]]:
        """(start, end) of the free runs of the whole chunk, from the bitmap.  O(runs + blocks)."""
        return free_runs(self.map_bits(), 0, self.nr_bits)

    def map_bits(self) -> int:
        """The allocation bitmap as one number."""
        size = self.block_bits
        if size & 7:
            return sum(word << (size * index) for index, word in enumerate(self.used))
        return int.from_bytes(b"".join(word.to_bytes(size >> 3, "little") for word in self.used), "little")

    def live_bounds(self) -> list[int]:
        """The boundary map without the bits that no live area needs.  O(blocks)."""
        size, carry = self.block_bits, 0
        kept = []
        for used, bounds in zip([*self.used, 0], self.bounds, strict=True):
            kept.append(bounds & (used | used << 1 | carry))
            carry = used >> (size - 1)
        return [word & ((1 << size) - 1) for word in kept]

    def area_starts(self) -> Iterator[int]:
        """First bits of all live areas: boundaries under a set bit.  O(areas)."""
        for index, (used, bounds) in enumerate(zip(self.used, self.bounds, strict=False)):
            starts = used & bounds
            while starts:
                low = starts & -starts
                at = (index << self.shift) + low.bit_length() - 1
                if self.lo <= at < self.hi:
                    yield at
                starts ^= low

    def snapshot(self) -> tuple[Any, ...]:
        """Everything that decides what happens next, contents and page numbers apart; hashable."""
        return (
            self.number, tuple(self.used), tuple(self.live_bounds()), self.whole.fields(),
            tuple([block.fields() for block in self.blocks]), self.populated,
            self.nr_empty, self.listed, self.isolated, self.free_bits,
        )  # fmt: skip

    def restore(self, state: tuple[Any, ...]) -> None:
        """Return to a state of ``snapshot``."""
        self.number, used, bounds, whole, blocks, self.populated, *rest = state
        self.used, self.bounds = list(used), list(bounds)
        self.nr_empty, self.listed, self.isolated, self.free_bits = rest
        self.whole.set_fields(whole)
        for block, fields in zip(self.blocks, blocks, strict=True):
            block.set_fields(fields)


class RepairedChunk(Chunk):
    """6.12 with its defects repaired by the smallest change; frees stay lazy."""

    __slots__ = ()
    update = staticmethod(update_ordered)
    refresh = staticmethod(refresh_repaired)

    def chunk_free(self, first: int, last: int, start: int, end: int) -> None:
        """As shipped, but with both ends of the run relative to the chunk."""
        if end - start >= self.block_bits or first != last:
            self.refresh_chunk(True)
        else:
            base = first << self.shift
            self.update(self.whole, base + start, base + end)


class Chunk414(Chunk):
    """4.14: no scan hints, ties by alignment."""

    __slots__ = ()
    update = staticmethod(update_aligned)
    refresh = staticmethod(refresh_whole)

    @staticmethod
    def next_hint(block: BlockHints, bits: int) -> int:
        """Without scan hints every search begins at the first free bit."""
        return block.first_free

    def remember_hole(self, hole: int, bits: int) -> None:
        """Skipped runs are not remembered."""

    def hint_alloc(self, at: int, bits: int) -> None:
        """Bring the descriptors up to date; a hint counts as broken only where the area begins in it."""
        shift, mask, size = self.shift, self.mask, self.block_bits
        end = at + bits
        first, last = at >> shift, (end - 1) >> shift
        low, high = at & mask, ((end - 1) & mask) + 1
        block = self.blocks[first]
        if low == block.first_free:
            block.first_free = next_zero(self.used[first], low + bits, size)
        if block.contig_hint_start <= low < block.contig_hint_start + block.contig_hint:
            self.refresh_block(first)
        else:
            block.left_free = min(block.left_free, low)
            block.right_free = min(block.right_free, size - high) if first == last else 0
        if first != last:
            self.hint_alloc_last(last, high)
            for index in range(first + 1, last):
                self.blocks[index].set_full()
        whole = self.whole
        if whole.contig_hint_start <= at < whole.contig_hint_start + whole.contig_hint:
            self.refresh_chunk(True)

    def chunk_free(self, first: int, last: int, start: int, end: int) -> None:
        """The start is the freed run's, but the length that of the block's largest."""
        if end - start >= self.block_bits or first != last:
            self.refresh_chunk(True)
        else:
            at = (first << self.shift) + start
            self.tell_chunk(at, at + self.blocks[first].contig_hint)

    def tell_chunk(self, start: int, end: int) -> None:
        """Largest run, ties by alignment; ``first_free`` is kept by the callers."""
        whole, run = self.whole, end - start
        if run > whole.contig_hint:
            whole.contig_hint, whole.contig_hint_start = run, start
        elif run == whole.contig_hint and better_aligned(start, whole.contig_hint_start):
            whole.contig_hint_start = start

    def refresh_chunk(self, full: bool) -> None:
        """Derive the chunk's hint, and the number of empty populated pages, from the blocks."""
        self.whole.contig_hint = 0
        for start, end in self.described_runs(self.whole.first_free):
            self.tell_chunk(start, end)
        empty = (self.populated >> index & 1 and self.page_is_empty(index) for index in range(self.nr_blocks))
        self.nr_empty = sum(empty)

    def set_populated(self, index: int, frame: int, for_alloc: bool) -> None:
        """Put a page behind block ``index``; one that serves a request is not counted as empty."""
        super().set_populated(index, frame, for_alloc)
        self.nr_empty -= for_alloc


class Chunk2017(Chunk414):
    """The posting of July 2017: ties keep the first, searches start at the first block with room.

    ``whole.first_free`` is the first bit of that block.
    """

    __slots__ = ()
    update = staticmethod(update_largest)

    def may_fit(self, bits: int, align: int) -> bool:
        """The gate looks at the length alone."""
        return bits <= self.whole.contig_hint

    def scan_end(self, start: int, bits: int) -> int:
        """The scan goes on to the end of the chunk."""
        return self.nr_bits

    def alloc_area(self, bits: int, align: int, start: int) -> int:
        """As in 4.14; afterwards the first block is one with a hint."""
        whole = self.whole
        before = whole.first_free
        at = super().alloc_area(bits, align, start)
        index = before >> self.shift
        while index < self.nr_blocks and not self.blocks[index].contig_hint:
            index += 1
        whole.first_free = index << self.shift
        return at

    def hint_alloc_last(self, index: int, high: int) -> int:
        """The last block is rescanned whatever its hint."""
        block = self.blocks[index]
        block.first_free = next_zero(self.used[index], high, self.block_bits)
        self.refresh_block(index)
        return 0

    def lower_first_free(self, at: int) -> None:
        """The freed area's first block has room."""
        super().lower_first_free(at & ~self.mask)

    def chunk_free(self, first: int, last: int, start: int, end: int) -> None:
        """All blocks are walked when one became free; else the block's hint is taken if longer."""
        block = self.blocks[first]
        if end - start >= self.block_bits or first != last:
            self.refresh_chunk(True)
        elif block.contig_hint > self.whole.contig_hint:
            at = (first << self.shift) + block.contig_hint_start
            self.tell_chunk(at, at + block.contig_hint)

    def tell_chunk(self, start: int, end: int) -> None:
        """Largest run, the first on ties."""
        whole = self.whole
        if end - start > whole.contig_hint:
            whole.contig_hint, whole.contig_hint_start = end - start, start

    def described_runs(self, at: int) -> Iterator[tuple[int, int]]:
        """One pass over the blocks: joined border runs and each block's largest.  O(blocks)."""
        size, shift = self.block_bits, self.shift
        start = run = 0
        for index in range(at >> shift, self.nr_blocks):
            block = self.blocks[index]
            self.steps.blocks += 1
            if run:
                run += block.left_free
                if block.left_free == size:
                    continue
                yield start, start + run
            base = index << shift
            if block.contig_hint:
                yield base + block.contig_hint_start, base + block.contig_hint_start + block.contig_hint
            run = block.right_free
            start = base + size - run
        if run:
            yield start, start + run
