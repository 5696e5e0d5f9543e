"""Hints of the per-CPU bitmap allocator: their rules by example, and by all states of small chunks.

The exhaustive search derives what the contract of ``percpu_bitmap`` promises.  The largest chunk
searched to its end, 3 blocks of 4 bits (299,718 states, 3,959,257 steps, three minutes), gave a
lag of 6 = 2 * (4 - 1) bits and no other deviation; smaller ones are searched here again.  What
is said of shipped code is unconfirmed by its maintainers.
"""

from collections import deque
from functools import lru_cache

import pytest

from heaplaw.impls.percpu_blocks import (
    BlockHints,
    better_aligned,
    free_runs,
    next_set,
    next_zero,
    refresh_forward,
    refresh_repaired,
    rescan,
    run_start,
    run_starts,
    update_aligned,
    update_largest,
    update_ordered,
    update_scanning,
)
from heaplaw.impls.percpu_chunk import Chunk, Chunk414, Chunk2017, RepairedChunk

UPDATES = [update_largest, update_aligned, update_scanning, update_ordered]
SHIPPED = [Chunk2017, Chunk414, Chunk]
ALL = [*SHIPPED, RepairedChunk]


def take(chunk, bits, align=1, pop_only=False):
    """First bit of a new area, or -1."""
    at = chunk.find_block_fit(bits, align, pop_only)
    return chunk.alloc_area(bits, align, at) if at >= 0 else -1


def run_steps(chunk, *steps):
    """Do ("a", bits, align, where it must land) and ("f", bit)."""
    for step in steps:
        if step[0] == "f":
            chunk.free_area(step[1])
        else:
            assert take(chunk, step[1], step[2]) == step[3], step
    return chunk


def longest(chunk):
    """Bits of the longest free run."""
    return max((end - start for start, end in chunk.zero_runs()), default=0)


# ---- deviations from the truth, recounted from the bitmap -----------------------------------


def is_free(used, start, bits):
    """Are all these bits clear?"""
    return not used >> start & ((1 << bits) - 1)


def disordered(hints):
    """Is there a scan hint on the wrong side of the contig hint?"""
    behind = hints.scan_hint_start > hints.contig_hint_start
    return bool(hints.scan_hint) and behind != (hints.scan_hint == hints.contig_hint)


def overlapping(hints):
    """Do the two hints have a bit in common?"""
    contig, scan = hints.contig_hint_start, hints.scan_hint_start
    return contig < scan + hints.scan_hint and scan < contig + hints.contig_hint


def worse_aligned(hints):
    """Is a scan hint as long as the contig hint, and better aligned?"""
    equal = hints.scan_hint == hints.contig_hint > 0
    return equal and better_aligned(hints.scan_hint_start, hints.contig_hint_start)


def most_before(used, end):
    """Bits of the longest free run among the first ``end`` bits."""
    return max((stop - start for start, stop in free_runs(used, 0, end)), default=0)


def chunk_skips(chunk):
    """Is there a run inside one block that the chunk's scan hint hides, being shorter?"""
    whole, size = chunk.whole, chunk.block_bits
    end = max(whole.contig_hint_start // size * size, whole.scan_hint_start) if whole.scan_hint else 0
    parts = [(used, min(size, end - size * index)) for index, used in enumerate(chunk.used) if size * index < end]
    return any(most_before(used & ((1 << bits) - 1), bits) > whole.scan_hint for used, bits in parts)


def block_deviations(chunk, index):
    """(name, bits or truth value) of what one block's hints get wrong."""
    block, used, size = chunk.blocks[index], chunk.used[index], chunk.block_bits
    runs = list(free_runs(used, 0, size))
    most = max((end - start for start, end in runs), default=0)
    left = runs[0][1] if runs and runs[0][0] == 0 else 0
    right = size - runs[-1][0] if runs and runs[-1][1] == size else 0
    yield "block contig lags", most - block.contig_hint
    yield "block contig exceeds", block.contig_hint - most
    yield "block left lags", left - block.left_free
    yield "block left exceeds", block.left_free - left
    yield "block right lags", right - block.right_free
    yield "block right exceeds", block.right_free - right
    yield "block first_free exceeds", block.first_free - runs[0][0] if runs else 0
    yield "block first_free lags", runs[0][0] - block.first_free if runs else 0
    yield "block contig not free", not is_free(used, block.contig_hint_start, block.contig_hint)
    yield "block scan not free", not is_free(used, block.scan_hint_start, block.scan_hint)
    yield "block disordered", disordered(block)
    yield "block hints overlap", overlapping(block)
    yield "block contig worse aligned", worse_aligned(block)
    before = max(block.contig_hint_start, block.scan_hint_start)
    ahead = most_before(used & ((1 << before) - 1), before)
    yield "block scan not the longest before", block.scan_hint not in (0, ahead)


def chunk_deviations(chunk):
    """The same of the chunk's hints, and of what searches without alignment make of them."""
    whole, used, most = chunk.whole, chunk.map_bits(), longest(chunk)
    inside = max(end - start for word in chunk.used for start, end in [*free_runs(word, 0, chunk.block_bits), (0, 0)])
    yield "chunk contig lags", most - whole.contig_hint
    yield "chunk contig exceeds", whole.contig_hint - most
    yield "chunk contig below a block's run", inside - whole.contig_hint
    yield "chunk contig 0 with something free", whole.contig_hint == 0 and most > 0
    yield "chunk first_free exceeds", whole.first_free - next_zero(used, 0, chunk.nr_bits) if most else 0
    yield "chunk contig not free", not is_free(used, whole.contig_hint_start, whole.contig_hint)
    yield "chunk scan not free", not is_free(used, whole.scan_hint_start, whole.scan_hint)
    yield "chunk disordered", disordered(whole)
    yield "chunk hints overlap", overlapping(whole)
    yield "chunk contig worse aligned", worse_aligned(whole)
    yield "chunk scan hides a block's run", chunk_skips(chunk)
    found = [chunk.find_block_fit(bits, 1, False) >= 0 for bits in range(1, max(most, whole.contig_hint) + 1)]
    yield "run inside a block not found", not all(found[:inside])
    yield "run longer by the lag not found", not all(found[: max(0, most - 2 * (chunk.block_bits - 1))])
    yield "gate passed, walk failed", not all(found[: whole.contig_hint])


# ---- breadth-first search over all reachable states -----------------------------------------


def state_of(chunk):
    """What decides what happens next: maps and hints (pages are any, at every step)."""
    hints = [chunk.whole, *chunk.blocks]
    chunk.whole.left_free = chunk.whole.right_free = 0  # never read
    return tuple(chunk.used), tuple(chunk.live_bounds()), tuple([hint.fields() for hint in hints])


def become(chunk, state):
    """Return to a state."""
    used, bounds, hints = state
    chunk.used, chunk.bounds = list(used), list(bounds)
    for hint, fields in zip([chunk.whole, *chunk.blocks], hints, strict=True):
        hint.set_fields(fields)


def successors(chunk, state):
    """States one allocation (of any length, alignment and set of populated pages) or free away."""
    for bits in range(1, chunk.nr_bits + 1):
        for align in (1 << power for power in range(chunk.shift + 1)):
            become(chunk, state)
            starts = {chunk.find_block_fit(bits, align, False)}
            for pages in range(1, (1 << chunk.nr_blocks) - 1):
                chunk.populated = pages
                starts.add(chunk.find_block_fit(bits, align, True))
            for start in starts - {-1}:
                at = chunk.alloc_area(bits, align, start)
                assert at >= 0, "a place was named from which no fit is found"
                yield ("a", bits, align, at), state_of(chunk)
                become(chunk, state)
    for at in list(chunk.area_starts()):
        chunk.free_area(at)
        yield ("f", at), state_of(chunk)
        become(chunk, state)


@lru_cache
def worst_deviations(cls, block_bits, nr_blocks):
    """{name: worst value} over all reachable states, those above 0 only; and how many states."""
    chunk = cls(0, nr_blocks, block_bits)
    start = state_of(chunk)
    seen, queue, worst = {start}, deque([start]), {}
    while queue:
        state = queue.popleft()
        become(chunk, state)
        for name, value in chunk_deviations(chunk):
            worst[name] = max(worst.get(name, 0), value)
        for index in range(nr_blocks):
            for name, value in block_deviations(chunk, index):
                worst[name] = max(worst.get(name, 0), value)
        for _, after in successors(chunk, state):
            if after not in seen:
                seen.add(after)
                queue.append(after)
    return {name: value for name, value in worst.items() if value > 0}, len(seen)


class TestAllStates:
    @pytest.mark.parametrize(("block_bits", "nr_blocks"), [(8, 1), (4, 2), (2, 3), (2, 4)])
    def test_the_lag_of_the_repaired_hints(self, block_bits, nr_blocks):
        """Repaired: nothing deviates but the chunk's hint, by 0, B - 1 or 2(B - 1) bits for 1, 2 or more blocks."""
        worst, states = worst_deviations(RepairedChunk, block_bits, nr_blocks)
        lag = min(2, nr_blocks - 1) * (block_bits - 1)
        assert worst == ({"chunk contig lags": lag} if lag else {})
        assert states > 300

    @pytest.mark.parametrize("cls", [Chunk2017, Chunk414])
    @pytest.mark.parametrize(("block_bits", "nr_blocks"), [(4, 2), (2, 3)])
    def test_without_scan_hints(self, cls, block_bits, nr_blocks):
        """2017-07 and 4.14: block hints are exact, runs inside a block are found; the chunk's hint exceeds."""
        worst, _ = worst_deviations(cls, block_bits, nr_blocks)
        assert worst["chunk contig exceeds"] > 0
        assert worst["chunk contig not free"]
        assert worst["gate passed, walk failed"]
        assert not [name for name in worst if name.startswith("block")]
        assert "run inside a block not found" not in worst
        assert "chunk contig below a block's run" not in worst

    def test_shipped_scan_hints_in_one_block(self):
        """6.12, one block of 8 bits: sound, but contig, left and right runs lag and 0 is said of free space."""
        worst, _ = worst_deviations(Chunk, 8, 1)
        assert not [name for name in worst if name.endswith(("exceeds", "not free"))]
        assert worst["block contig lags"] == 1
        assert worst["block left lags"] == 1
        assert worst["block right lags"] == 3
        assert worst["chunk contig lags"] == 2
        assert worst["block disordered"]
        assert worst["chunk disordered"]
        assert worst["chunk contig 0 with something free"]
        assert worst["run inside a block not found"]

    def test_shipped_scan_hints_in_three_blocks(self):
        """6.12, three blocks of 2 bits: chunk hints stay sound, but miss what is freed outside block 0."""
        worst, _ = worst_deviations(Chunk, 2, 3)
        assert not [name for name in worst if name.endswith(("exceeds", "not free"))]
        assert worst["chunk contig 0 with something free"]
        assert worst["run inside a block not found"]


class TestCounterexamples:
    @pytest.mark.parametrize(
        ("cls", "place", "hint", "there"),
        [
            (Chunk2017, 512, 1024, True), (Chunk414, 512, 1024, True),
            (Chunk, 1024, 512, False), (RepairedChunk, 512, 512, False),
        ],
    )  # fmt: skip
    def test_allocation_before_the_hint(self, cls, place, hint, there):
        """A: 1024 bits land at 512; the older hints still claim 1024 bits, and the next request's walk fails."""
        chunk = run_steps(cls(0, 8, 1024), ("a", 512, 1, 0), ("a", 512, 1, 512))
        for index in range(1, 8):
            assert take(chunk, 1024) == 1024 * index
        chunk.free_area(1024)
        assert (chunk.whole.contig_hint, chunk.whole.contig_hint_start) == (1024, 1024)
        chunk.free_area(512)
        assert (chunk.whole.contig_hint, longest(chunk)) == (1024, 1536)
        assert take(chunk, 1024) == place
        assert longest(chunk) == 512
        assert chunk.whole.contig_hint == hint
        assert chunk.may_fit(1024, 1) == there
        assert take(chunk, 1024) == -1

    @pytest.mark.parametrize("cls", [Chunk414, RepairedChunk])
    @pytest.mark.parametrize("bits", [4, 64])
    def test_two_sided_lag(self, cls, bits):
        """B: a free page grown on both sides has B + 2(B - 1) bits, its hint stays B, and B + 1 are refused."""
        chunk = cls(0, 3, bits)
        for at in range(3 * bits):
            assert take(chunk, 1) == at
        for at in range(bits, 2 * bits):
            chunk.free_area(at)
        for at in [*range(bits - 1, 0, -1), *range(2 * bits, 3 * bits - 1)]:
            chunk.free_area(at)
        assert longest(chunk) == bits + 2 * (bits - 1)
        assert chunk.whole.contig_hint == bits
        assert take(chunk, bits + 1) == -1
        assert take(chunk, bits) >= 0

    @pytest.mark.parametrize(("cls", "hint"), [(Chunk, 0), (RepairedChunk, 16), (Chunk414, 16), (Chunk2017, 16)])
    def test_free_outside_block_0(self, cls, hint):
        """C: 16 bits freed in block 3 of a full chunk raise the hint to 16; in 6.12 it stays 0."""
        chunk = cls(0, 8, 1024)
        for at in range(0, 8192, 16):
            assert take(chunk, 16) == at
        assert chunk.whole.contig_hint == 0
        chunk.free_area(3 * 1024 + 160)
        assert chunk.whole.contig_hint == hint
        assert chunk.blocks[3].contig_hint == 16
        assert take(chunk, 16) == (3 * 1024 + 160 if hint else -1)

    def test_freed_start_with_the_largest_length(self):
        """D: 4.14 tells the chunk the block's largest length at the freed run's start, which is not all free."""
        steps = ("a", 1, 1, 0), ("a", 1, 1, 1), ("a", 16, 8, 8), ("a", 2, 1, 2), ("f", 0)
        old, new = run_steps(Chunk414(0, 3, 8), *steps), run_steps(RepairedChunk(0, 3, 8), *steps)
        assert longest(old) == 4
        assert (old.whole.contig_hint, old.whole.contig_hint_start) == (4, 0)
        assert not is_free(old.map_bits(), 0, 4)
        assert is_free(new.map_bits(), new.whole.contig_hint_start, new.whole.contig_hint)


class TestShippedDefects:
    def test_hint_zero_with_half_a_page_free(self):
        """P01: 1024, 512, 512 bits taken of two pages, the last freed: 6.12 says 0 and finds not one bit."""
        steps = ("a", 1024, 1, 0), ("a", 512, 1, 1024), ("a", 512, 1, 1536), ("f", 1536)
        assert run_steps(Chunk(0, 2, 1024), *steps).whole.contig_hint == 0
        assert take(run_steps(Chunk(0, 2, 1024), *steps), 1) == -1
        assert take(run_steps(RepairedChunk(0, 2, 1024), *steps), 512) == 1536

    @pytest.mark.parametrize(("cls", "right"), [(Chunk, 0), (RepairedChunk, 511), (Chunk414, 511)])
    def test_promoted_run_at_the_end(self, cls, right):
        """P02: the promoted run [513, 1024) touches the block's end, and 6.12 forgets the right run."""
        chunk = run_steps(cls(0, 2, 1024), ("a", 1, 1, 0), ("a", 1, 512, 512), ("a", 1, 1, 1))
        assert chunk.blocks[0].right_free == right
        run_steps(chunk, ("a", 510, 1, 2), ("a", 1024, 1024, 1024))
        assert chunk.whole.contig_hint == right
        assert take(chunk, 1) == (513 if right else -1)

    @pytest.mark.parametrize(("cls", "wrong"), [(Chunk, True), (RepairedChunk, False)])
    def test_equal_scan_hint_before_the_contig_hint(self, cls, wrong):
        """P03: a run as long as the contig hint, but before it, becomes scan hint in 6.12."""
        chunk = run_steps(cls(0, 1, 8), ("a", 1, 1, 0), ("a", 1, 1, 1), ("a", 1, 4, 4), ("f", 1))
        assert disordered(chunk.blocks[0]) == wrong

    @pytest.mark.parametrize(("cls", "hint", "left"), [(Chunk, 1, 1), (RepairedChunk, 2, 2)])
    def test_a_lost_run_before_the_scan_hint(self, cls, hint, left):
        """6.12 promotes a scan hint that hides a run before it: contig_hint lags, then left_free too."""
        chunk = run_steps(
            cls(0, 1, 8), ("a", 1, 1, 0), ("a", 1, 1, 1), ("a", 1, 1, 2), ("a", 4, 1, 3), ("f", 0), ("f", 2),
            ("f", 3), ("a", 3, 4, 4),
        )  # fmt: skip
        assert (longest(chunk), chunk.blocks[0].contig_hint) == (2, hint)
        assert take(chunk, 2) == (2 if hint == 2 else -1)
        if hint == 1:
            chunk.free_area(1)
            assert (chunk.blocks[0].left_free, longest(chunk)) == (3, 4)

    def test_empty_pages_are_counted_only_at_refreshes(self):
        """P07: an area that takes a whole empty page beside the hint is not subtracted in 4.14, but is in 6.12."""
        counts = {}
        for cls in (Chunk414, Chunk):
            chunk = cls(0, 3, 8)
            for page in range(3):
                chunk.set_populated(page, page, for_alloc=False)
            run_steps(chunk, ("a", 8, 8, 0), ("a", 1, 8, 8), ("f", 0), ("a", 4, 8, 0))
            counts[cls] = (chunk.nr_empty, sum(map(chunk.page_is_empty, range(3))))
        assert counts[Chunk] == (1, 1)
        assert counts[Chunk414] == (2, 1)


class TestUpdate:
    @pytest.mark.parametrize("update", UPDATES)
    def test_edges(self, update):
        """A run at the start sets left_free, one at the end right_free; first_free only falls."""
        block = BlockHints(16)
        block.set_full()
        block.first_free = 9
        update(block, 12, 16)
        assert (block.left_free, block.right_free, block.first_free, block.contig_hint) == (0, 4, 9, 4)
        update(block, 0, 3)
        assert (block.left_free, block.right_free, block.first_free, block.contig_hint) == (3, 4, 0, 4)

    @pytest.mark.parametrize(("update", "start"), list(zip(UPDATES, [2, 8, 8, 8], strict=True)))
    def test_ties(self, update, start):
        """Of equal runs the posting keeps the first, later revisions the better aligned start."""
        block = BlockHints(16)
        block.set_full()
        for run in ((2, 4), (8, 10), (12, 14)):
            update(block, *run)
        assert block.contig_hint_start == start

    @pytest.mark.parametrize("update", [update_scanning, update_ordered])
    def test_scan_hint_is_the_largest_before(self, update):
        """Runs of 1, 2 and 5 bits met in order: the contig hint is 5, the scan hint 2 before it."""
        block = BlockHints(32)
        block.set_full()
        for run in ((3, 4), (6, 8), (10, 15), (20, 24)):
            update(block, *run)
        assert (block.contig_hint, block.contig_hint_start) == (5, 10)
        assert (block.scan_hint, block.scan_hint_start) == (2, 6)

    @pytest.mark.parametrize("update", [update_scanning, update_ordered])
    def test_equal_scan_hint_stands_behind(self, update):
        """An equal run that is worse aligned and behind becomes the scan hint."""
        block = BlockHints(32)
        block.set_full()
        update(block, 8, 12)
        update(block, 17, 21)
        assert (block.contig_hint_start, block.scan_hint, block.scan_hint_start) == (8, 4, 17)

    def test_a_hidden_equal_run_ends_the_scan_hint(self):
        """Repaired: an equal run before the contig hint cannot be a scan hint, nor stand before a shorter one."""
        block = BlockHints(32)
        block.set_full()
        for run in ((9, 11), (16, 20), (3, 7)):
            update_ordered(block, *run)
        assert (block.contig_hint, block.contig_hint_start, block.scan_hint) == (4, 16, 0)

    def test_no_scan_hint_stays_none(self):
        """Repaired: where no scan hint is known, a freed run is no witness that none before is longer."""
        block = BlockHints(32)
        block.set_full()
        update_ordered(block, 16, 24)
        update_ordered(block, 3, 5)
        assert block.scan_hint == 0
        update_scanning(block, 3, 5)
        assert block.scan_hint == 2


class TestBitmaps:
    def test_scanners_agree_with_a_string(self):
        """next_zero, next_set, run_start, run_starts and free_runs equal a search in the written bits, for all 8."""
        for used in range(256):
            text = f"{used:08b}"[::-1]
            for at in range(8):
                assert next_zero(used, at, 8) == (text.find("0", at) if "0" in text[at:] else 8)
                assert next_set(used, at, 8) == (text.find("1", at) if "1" in text[at:] else 8)
                assert run_start(used, at) == text.rfind("1", 0, at) + 1
            for length in range(1, 9):
                starts = sum(1 << at for at in range(9 - length) if text[at : at + length] == "0" * length)
                assert run_starts(~used & 255, length) == starts
            spelled = "".join("0" * (end - start) + "1" for start, end in free_runs(used, 0, 8))
            assert spelled == "".join(run + "1" for run in text.split("1") if run)

    @pytest.mark.parametrize("update", UPDATES)
    def test_rescan_leaves_out_nothing_that_matters(self, update):
        """Rescanning equals updating with every free run, from each place in each bitmap of 8 bits."""
        for used in range(256):
            for at in range(9):
                blocks = [BlockHints(8), BlockHints(8)]
                for block in blocks:
                    block.set_full()
                    block.first_free = at
                rescan(blocks[0], used, at, update)
                for start, end in free_runs(used, at, 8):
                    update(blocks[1], start, end)
                assert blocks[0].fields() == blocks[1].fields()

    @pytest.mark.parametrize(("refresh", "right"), [(refresh_forward, 0), (refresh_repaired, 3)])
    def test_promotion(self, refresh, right):
        """A scan hint at the end of the block is promoted; only the repaired refresh keeps the right run."""
        block = BlockHints(8)
        block.contig_hint, block.contig_hint_start, block.scan_hint, block.scan_hint_start = 3, 0, 3, 5
        refresh(block, 0b00011111, update_ordered)
        assert (block.contig_hint, block.contig_hint_start, block.scan_hint, block.right_free) == (3, 5, 0, right)

    def test_boundaries_need_one_bit_more(self):
        """An area that ends with the chunk has its boundary at bit N of the N + 1 boundary bits."""
        chunk = run_steps(Chunk(0, 2, 8), ("a", 16, 1, 0))
        assert chunk.bounds == [1, 0, 1]
        assert chunk.area_end(0) == 16
        assert chunk.free_area(0) == 16
        assert chunk.live_bounds() == [0, 0, 0]

    @pytest.mark.parametrize("cls", ALL)
    def test_fresh(self, cls):
        """A fresh chunk is one free run in every descriptor, all else 0."""
        chunk = cls(0, 8, 1024)
        assert chunk.whole.fields() == (8192, 0, 0, 0, 8192, 8192, 0)
        assert {block.fields() for block in chunk.blocks} == {(1024, 0, 0, 0, 1024, 1024, 0)}

    @pytest.mark.parametrize("cls", ALL)
    def test_first_free_of_blocks_in_between(self, cls):
        """An area that covers a whole block leaves its first_free where it was: too low, which is legal."""
        chunk = run_steps(cls(0, 4, 8), ("a", 4, 1, 0), ("a", 24, 1, 4))
        assert [block.first_free for block in chunk.blocks[1:3]] == [0, 0]
        assert [block.contig_hint for block in chunk.blocks] == [0, 0, 0, 4]
        assert take(chunk, 1) == 28

    @pytest.mark.parametrize("cls", ALL)
    def test_populated_pages_are_counted_in_bits(self, cls):
        """An area's pages follow from bits alone; the posting added bits to bytes, which is not repeated here."""
        chunk = cls(0, 4, 8)
        chunk.populated = 0b1100
        assert chunk.unpopulated_end(0, 8) == 16
        assert chunk.unpopulated_end(15, 2) == 16
        assert chunk.unpopulated_end(16, 16) == -1
        assert chunk.find_block_fit(8, 1, True) == 16
        assert chunk.find_block_fit(17, 1, True) == -1

    @pytest.mark.parametrize("cls", ALL)
    def test_boundaries_are_not_cleared(self, cls):
        """A free leaves both boundaries; the next area there clears those inside it."""
        chunk = run_steps(cls(0, 1, 8), ("a", 2, 1, 0), ("a", 2, 1, 2), ("f", 0), ("f", 2))
        assert chunk.bounds == [0b10101, 0]
        assert run_steps(chunk, ("a", 6, 1, 0)).bounds == [0b1000001, 0]
