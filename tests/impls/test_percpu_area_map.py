"""The per-CPU area map: its steps by example, its invariants, its cost, and what 4.4 gets wrong.

What is said of shipped code was read in the source and is unconfirmed by its maintainers.
"""

import random
from collections import deque
from itertools import pairwise, product

import pytest

from heaplaw import Block, Context, InvalidFree, Refusal, Request, Shadow
from heaplaw.impls.percpu_area_map import PercpuAreaMap
from heaplaw.impls.percpu_backing import EMPTY_POP_PAGES_HIGH, EMPTY_POP_PAGES_LOW, MIN_UNIT_SIZE, SLOT_BASE_SHIFT
from heaplaw.impls.percpu_bitmap import PercpuBitmap, size_to_slot
from heaplaw.impls.percpu_map import (
    ATOMIC_MAP_MARGIN_HIGH,
    ATOMIC_MAP_MARGIN_LOW,
    DFL_MAP_ALLOC,
    SMALLEST_SPLIT,
    MapChunk,
)
from heaplaw.operations import Kind, Operation
from heaplaw.runs import run

REVISIONS = ["", "4.4"]
ATOMIC = Context(atomic=True)
PAGE = 4096
ALLOC, FREE, FAIL, BAD = Kind.ALLOC, Kind.FREE, Kind.FAIL_PAGES, Kind.BAD_ALLOC


def the_map(heap, number=0):
    """[(offset, in use), ...] of a chunk's areas."""
    return [(entry & ~1, bool(entry & 1)) for entry in heap._chunks[number].map[:-1]]


def slots(heap):
    """{chunk number: slot it stands on}."""
    return {key[1]: slot for slot, key in heap.lists()}


def filled(heap, size, align=1):
    """Handles of as many objects as one heap holds."""
    handles = []
    while (handle := heap.alloc(size, align)) is not None:
        handles.append(handle)
    return handles


class TestConstants:
    def test_units(self):
        """Pages of 4096, units of 32 KiB, 16 entries at first, 32 and 64 spare, 2 and 4 empty pages, splits from 4."""
        heap = PercpuAreaMap()
        assert (heap.source.page_size, heap.contract.arena, MIN_UNIT_SIZE, SLOT_BASE_SHIFT) == (PAGE, 32768, 32768, 5)
        assert (DFL_MAP_ALLOC, ATOMIC_MAP_MARGIN_LOW, ATOMIC_MAP_MARGIN_HIGH) == (16, 32, 64)
        assert (EMPTY_POP_PAGES_LOW, EMPTY_POP_PAGES_HIGH, SMALLEST_SPLIT) == (2, 4, 4)

    def test_slots(self):
        """1..15 -> 1, 16..31 -> 2, 32..63 -> 3, 4096 -> 10, 32768 -> 13; free chunks of 32 KiB on 14, of 15 slots.

        The source's comment has 1..31 share a slot; by its formula they do not.
        """
        assert {size_to_slot(size) for size in range(1, 16)} == {1}
        assert {size_to_slot(size) for size in range(16, 32)} == {2}
        assert {size_to_slot(size) for size in range(32, 64)} == {3}
        assert (size_to_slot(4096), size_to_slot(32768)) == (10, 13)
        heap = PercpuAreaMap()
        assert (len(heap._slots), heap.free_slot, slots(heap)) == (15, 14, {0: 14})

    def test_fresh_chunk(self):
        """A fresh map is [0, unit | 1], one area of which all is free, and room for 16 entries."""
        chunk = MapChunk(0, 32768, PAGE)
        assert (chunk.map, chunk.map_used, chunk.map_alloc) == ([0, 32769], 1, 16)
        assert (chunk.free_size, chunk.contig_hint, chunk.first_free) == (32768, 32768, 0)

    @pytest.mark.parametrize("rev", REVISIONS)
    def test_requests_that_make_no_sense(self, rev):
        """Size 0, more than 32 KiB and alignments above a page are refused, whatever their magnitude."""
        heap = PercpuAreaMap(unit=65536, rev=rev)
        for size, align in ((0, 1), (8, PAGE + 1), (8, 2 * PAGE), (8, 1 << 64)):
            assert heap.alloc(size, align) is Refusal.INVALID
        for size in (32769, 1 << 32, (1 << 64) + 1):
            assert heap.alloc(size) is Refusal.TOO_BIG
        assert heap.alloc(32767) == 0
        assert heap.extents(0) == ((0, 0, 32768),)

    def test_alignments(self):
        """4.4 takes alignments that are no power of two, and then misses them; repaired, they are refused."""
        old, new = PercpuAreaMap(rev="4.4"), PercpuAreaMap()
        for align in (0, 3, 6, 12):
            assert new.alloc(8, align) is Refusal.INVALID
        assert (old.alloc(2), old.alloc(4, 12)) == (0, 4)
        assert (new.alloc(2), new.alloc(4, 4)) == (0, 4)

    @pytest.mark.parametrize(
        ("parameters", "text"),
        [
            ({"rev": "5.0"}, "unknown revision"), ({"block": 3000}, "power of two"), ({"block": 4}, "power of two"),
            ({"unit": 5000}, "multiple of the block"), ({"chunks": 0}, "chunks must be"), ({"pages": -1}, "pages must"),
            ({"unit": "x"}, "unit must be"),
        ],
    )  # fmt: skip
    def test_parameters_that_make_no_sense(self, parameters, text):
        """A bad parameter is a ValueError with one clear line."""
        with pytest.raises(ValueError, match=text):
            PercpuAreaMap(**parameters)

    def test_equal_parameters_share_a_contract(self):
        """Contracts are made once for each set of parameters."""
        assert PercpuAreaMap(unit=256, block=64).contract is PercpuAreaMap(unit=256, block=64).contract


class TestTakingAnArea:
    def test_sizes_are_even(self):
        """1 byte takes 2, 5 take 6: an odd offset would be read as in use."""
        heap = PercpuAreaMap()
        assert [heap.extents(heap.alloc(size))[0][1:] for size in (1, 5, 7)] == [(0, 2), (2, 6), (8, 8)]
        assert all(offset % 2 == 0 for offset, _ in the_map(heap))

    def test_a_small_head_goes_to_the_neighbour(self):
        """2 bytes left out for an alignment of 4 lengthen the live area before, and are not free."""
        heap = PercpuAreaMap()
        one, two = heap.alloc(2), heap.alloc(4, 4)
        assert (one, two) == (0, 4)
        assert heap.extents(one) == ((0, 0, 4),)
        assert the_map(heap) == [(0, True), (4, True), (8, False)]
        assert heap.counters()["free_bytes"] == 32768 - 8

    def test_a_large_head_stays_free(self):
        """4 bytes and more before an area stay free, behind an area in use; first_free names them."""
        heap = PercpuAreaMap()
        heap.alloc(4)
        assert heap.alloc(8, 8) == 8
        assert the_map(heap) == [(0, True), (4, False), (8, True), (16, False)]
        assert heap._chunks[0].first_free == 1

    def test_a_small_tail_is_taken(self):
        """2 bytes behind a request go with it; 4 are split off."""
        for hole, length in ((10, 10), (12, 8)):
            heap = PercpuAreaMap()
            gap, _ = heap.alloc(hole), heap.alloc(4)
            heap.free(gap)
            assert heap.extents(heap.alloc(8)) == ((0, 0, length),)

    def test_head_and_tail(self):
        """A fit in the middle of an area adds two entries."""
        chunk = MapChunk(0, 256, 64)
        chunk.alloc_area(4, 2)
        chunk.steps.moved = 0
        assert chunk.alloc_area(16, 64) == 64
        assert chunk.map == [1, 4, 65, 80, 257]
        assert (chunk.free_size, chunk.contig_hint, chunk.first_free) == (236, 256, 1)
        assert chunk.steps.moved == 1, "the sentry"

    def test_an_area_may_lengthen_twice(self):
        """Waste is at most 1 byte of rounding, 2 of a tail and 2 of the head of a later neighbour: here all of them."""
        heap = PercpuAreaMap(unit=64, block=32, chunks=1)
        hole, behind = heap.alloc(6), heap.alloc(8)
        heap.free(hole)
        small = heap.alloc(3)
        assert heap.extents(small) == ((0, 0, 6),)
        heap.free(behind)
        assert heap.alloc(8, 8) == 8
        assert heap.extents(small) == ((0, 0, 8),)
        assert heap.contract.waste(3, 1) == 5

    def test_first_free(self):
        """The index of the first free area, or of the one behind the new area; frees lower it."""
        chunk = MapChunk(0, 256, 64)
        for at in range(0, 40, 8):
            assert chunk.alloc_area(8, 2) == at
        assert chunk.first_free == 5
        chunk.free_area(24)
        chunk.free_area(8)
        assert chunk.first_free == 1
        assert chunk.alloc_area(16, 2) == 40
        assert chunk.first_free == 1, "an area that is too small was met first"
        assert chunk.alloc_area(8, 2) == 8
        assert chunk.first_free == 2

    def test_first_fit(self):
        """The lowest hole that fits is taken, not the best."""
        heap = PercpuAreaMap()
        handles = [heap.alloc(size) for size in (64, 4, 32, 4, 16, 4)]
        for handle in handles[::2]:
            heap.free(handle)
        assert heap.alloc(16) == 0
        assert heap.alloc(48) == 16
        assert heap.alloc(16) == handles[2]

    def test_a_full_chunk_has_no_free_area(self):
        """With nothing free first_free is map_used."""
        chunk = MapChunk(0, 64, 64)
        chunk.alloc_area(64, 2)
        assert (chunk.map, chunk.first_free, chunk.free_size, chunk.contig_hint) == ([1, 65], 1, 0, 0)
        assert chunk.alloc_area(2, 2) == -1


class TestHint:
    def test_exact_after_a_whole_scan(self):
        """A search that fails, or ends with the last area, has seen all: the hint is the longest free area."""
        chunk = MapChunk(0, 64, 64)
        for _ in range(4):
            chunk.alloc_area(16, 2)
        chunk.free_area(16)
        chunk.free_area(48)
        assert chunk.contig_hint == 16
        assert chunk.alloc_area(8, 2) == 16
        assert chunk.contig_hint == 16
        assert chunk.alloc_area(16, 2) == 48
        assert chunk.contig_hint == 8
        assert chunk.alloc_area(12, 2) == -1
        assert chunk.contig_hint == 8

    def test_stale_high(self):
        """An early fit leaves the hint as it was, above the truth; a search in vain makes it exact."""
        chunk = MapChunk(0, 64, 64)
        chunk.alloc_area(32, 2)
        chunk.alloc_area(4, 2)
        chunk.alloc_area(28, 2)
        chunk.free_area(0)
        assert chunk.alloc_area(32, 2) == 0
        assert (chunk.contig_hint, chunk.free_size) == (32, 0)
        assert chunk.alloc_area(16, 2) == -1
        assert chunk.contig_hint == 0

    def test_the_bit_behind_is_no_byte(self):
        """A freed area's length is that between offsets: the entry behind is in use, and its bit masked."""
        chunk = MapChunk(0, 64, 64)
        for _ in range(4):
            chunk.alloc_area(16, 2)
        assert chunk.alloc_area(2, 2) == -1
        chunk.free_area(16)
        assert chunk.contig_hint == 16
        chunk.free_area(48)
        assert chunk.contig_hint == 16, "the sentry has the bit as well"

    def test_a_wrong_yes_costs_a_search(self):
        """A hint too high never refuses: the search in vain makes it exact, and a new chunk serves."""
        heap = PercpuAreaMap(unit=64, block=64, chunks=2)
        first, _ = heap.alloc(32), heap.alloc(32)
        heap.free(first)
        assert heap.alloc(28) == 0
        assert (heap._chunks[0].contig_hint, heap._chunks[0].free_size) == (32, 4)
        gap = heap.alloc(4)
        heap.free(0)
        heap.free(gap)
        assert [heap.alloc(size) for size in (20, 8, 2)] == [0, 20, 28]
        assert heap._chunks[0].contig_hint == 32
        heap.free(0)
        assert heap.alloc(24) == 64
        assert heap._chunks[0].contig_hint == 20
        assert heap.cost()["chunks_visited"] == 2


class TestGivingBack:
    def test_merging(self):
        """A freed area joins the free ones on both sides; when all is freed the map is [0, unit | 1]."""
        chunk = MapChunk(0, 64, 64)
        for _ in range(4):
            chunk.alloc_area(16, 2)
        chunk.free_area(0)
        chunk.free_area(32)
        assert chunk.map == [0, 17, 32, 49, 65]
        chunk.free_area(16)
        assert chunk.map == [0, 49, 65]
        chunk.free_area(48)
        assert (chunk.map, chunk.free_size, chunk.contig_hint, chunk.first_free) == ([0, 65], 64, 64, 0)

    @pytest.mark.parametrize("rev", REVISIONS)
    def test_misuse(self, rev):
        """An area that is not in use, the inside of one, and a chunk that is not there are noticed."""
        heap = PercpuAreaMap(rev=rev)
        one, two = heap.alloc(8), heap.alloc(8)
        heap.free(one)
        for handle in (one, two + 2, two + 1, 1 << 48, -2, 40000):
            with pytest.raises(InvalidFree):
                heap.free(handle)
        assert the_map(heap) == [(0, False), (8, True), (16, False)]

    def test_a_free_needs_no_size(self):
        """The size is nowhere but in the map: a donated head goes back with the area that got it."""
        heap = PercpuAreaMap()
        one, two = heap.alloc(2), heap.alloc(4, 4)
        heap.free(one)
        assert the_map(heap) == [(0, False), (4, True), (8, False)]
        heap.free(two)
        assert heap.counters() == {"free_bytes": 32768, "live_objects": 0, "pages": 1, "empty_pages": 1}


class TestSlots:
    def test_slots_by_free_bytes(self):
        """64 holes of 256 bytes stand on the slot of 16 KiB, where every larger request asks them first."""
        heap = PercpuAreaMap(chunks=1)
        handles = filled(heap, 256)
        for handle in handles[::2]:
            heap.free(handle)
        assert slots(heap) == {0: size_to_slot(64 * 256)} == {0: 12}
        assert heap._chunks[0].contig_hint == 256

    def test_slot_0(self):
        """Fewer than 4 free bytes, or a hint under 4, put a chunk on slot 0, which is never searched."""
        heap = PercpuAreaMap(unit=64, block=64, chunks=1)
        handles = filled(heap, 2)
        assert slots(heap) == {0: 0}
        heap.free(handles[0])
        assert slots(heap) == {0: 0}
        assert heap.alloc(2) is None, "2 bytes are free"
        heap.free(handles[4])
        assert slots(heap) == {0: 0}, "4 bytes are free, but the hint says 2"
        heap.free(handles[5])
        assert slots(heap) == {0: 1}

    @pytest.mark.parametrize("rev", REVISIONS)
    def test_fullest_chunk_first(self, rev):
        """A request goes to the chunk with the fewest free bytes that may hold it."""
        heap = PercpuAreaMap(rev=rev)
        heap.alloc(32768 - 512)
        assert heap.alloc(1024) == 32768
        assert heap.alloc(64) == 32768 - 512

    def test_moved_up_to_the_head_and_down_to_the_tail(self):
        """A chunk that was freed in goes to the head of its list, one that was allocated in to the tail."""
        heap = PercpuAreaMap(unit=64, block=64, chunks=3)
        handles = [heap.alloc(64) for _ in range(3)]
        for handle in handles:
            heap.free(handle)
        assert [chunk.number for chunk in heap._slots[heap.free_slot]] == [2, 1, 0]
        small = [heap.alloc(40), heap.alloc(40), heap.alloc(40)]
        assert small == [128, 64, 0]
        assert [chunk.number for chunk in heap._slots[2]] == [2, 1, 0]
        for handle in small:
            heap.free(handle)
        assert [chunk.number for chunk in heap._slots[heap.free_slot]] == [0, 1, 2]

    @pytest.mark.parametrize("rev", REVISIONS)
    def test_a_second_chunk_is_made_when_the_first_is_full(self, rev):
        """A request that fits no chunk makes one, up to their number; then it is refused."""
        heap = PercpuAreaMap(rev=rev)
        one, two = heap.alloc(32768), heap.alloc(32768)
        assert (one, two) == (0, 32768)
        assert heap.extents(two) == ((1, 0, 32768),)
        assert heap.alloc(4) is None
        heap.free(one)
        assert heap.alloc(4) == 0

    @pytest.mark.parametrize("rev", REVISIONS)
    def test_only_one_free_chunk_is_left(self, rev):
        """The background work destroys free chunks but one, and everything is served again."""
        heap = PercpuAreaMap(chunks=3, rev=rev)
        for handle in [heap.alloc(32768) for _ in range(3)]:
            heap.free(handle)
        assert len(heap._slots[heap.free_slot]) == 3
        assert heap.maintain("balance").pages_freed == 16
        assert len(heap._chunks) == 1
        assert [heap.alloc(32768) is not None for _ in range(4)] == [True] * 3 + [False]


class TestMapGrowth:
    def test_a_sleeping_request_wants_64_spare_entries(self):
        """The first request extends a map from 16 to 128 entries; a map never shrinks."""
        heap = PercpuAreaMap(unit=4096, block=4096, chunks=1)
        first = heap.alloc(4)
        assert heap._chunks[0].map_alloc == 128
        handles = [heap.alloc(4) for _ in range(63)]
        assert (heap._chunks[0].map_used, heap._chunks[0].map_alloc) == (65, 128)
        handles.append(heap.alloc(4))
        assert (heap._chunks[0].map_used, heap._chunks[0].map_alloc) == (66, 256)
        assert heap.metadata() == (0, 4 * 256 + 8 + 16)
        for handle in (first, *handles):
            heap.free(handle)
        assert heap._chunks[0].map_alloc == 256

    def test_margins(self):
        """An atomic request needs 3 spare entries and leaves word below 32; a sleeping one extends to 64 spare."""
        chunk = MapChunk(0, 256, 256)
        for used, atomic, wanted, low in (
            (13, True, 0, True), (14, True, 32, True), (1, False, 128, True), (64, False, 128, True),
            (65, False, 256, True),
        ):  # fmt: skip
            chunk.map = [*range(0, 2 * used, 2), 257]
            chunk.map_alloc = 16
            assert chunk.map_used == used
            assert (chunk.need_to_extend(atomic), chunk.runs_low()) == (wanted, low)
        chunk.map_alloc = 65 + 32
        assert not chunk.runs_low()

    def test_an_atomic_request_passes_over_a_full_map(self):
        """13 areas of 16 entries: an atomic request is served; with 14 it is not, until the balance work ran."""
        heap = PercpuAreaMap(chunks=1)
        chunk = heap._chunks[0]
        heap.maintain("balance")
        for _ in range(13):
            assert heap.alloc(4, ctx=ATOMIC) is not None
        assert (chunk.map_used, chunk.map_alloc) == (14, 16)
        assert heap.alloc(4, ctx=ATOMIC) is None
        assert heap._extend == [chunk]
        heap.maintain("balance")
        assert (chunk.map_alloc, heap._extend) == (128, [])
        assert heap.alloc(4, ctx=ATOMIC) == 52

    def test_a_destroyed_chunk_is_not_extended(self):
        """A chunk that the background work destroys is struck from those whose maps are to grow."""
        heap = PercpuAreaMap(chunks=2)
        heap.maintain("balance")
        first = heap.alloc(4, ctx=ATOMIC)
        whole = heap.alloc(32768)
        heap.free(whole)
        heap.free(first)
        assert [chunk.number for chunk in heap._extend] == [0]
        heap._slots[heap.free_slot].reverse()
        heap.maintain("balance")
        assert (list(heap._chunks), heap._extend) == ([1], [])


class TestPages:
    @pytest.mark.parametrize("rev", REVISIONS)
    def test_pages_are_put_behind_areas(self, rev):
        """A sleeping request populates exactly the pages that its area touches."""
        heap = PercpuAreaMap(rev=rev)
        heap.alloc(100)
        assert heap._chunks[0].populated == 0b1
        heap.alloc(2 * PAGE)
        assert heap._chunks[0].populated == 0b111
        assert heap.counters()["pages"] == heap.source.held == len(list(heap.pages())) == 3

    @pytest.mark.parametrize("rev", REVISIONS)
    def test_atomic_requests_use_what_is_populated(self, rev):
        """An atomic request populates nothing, makes no chunk, and lands on populated pages only."""
        heap = PercpuAreaMap(rev=rev)
        assert heap.alloc(4, ctx=ATOMIC) is None
        page = heap.alloc(4)
        assert heap.alloc(PAGE - 4, ctx=ATOMIC) == 4
        assert heap.alloc(4, ctx=ATOMIC) is None
        heap.free(page)
        assert heap.alloc(8, ctx=ATOMIC) is None
        assert heap.alloc(4, ctx=ATOMIC) == 0
        assert (heap.source.held, len(heap._chunks)) == (1, 1)

    def test_search_behind_a_hole_in_the_pages(self):
        """A candidate that touches an unpopulated page begins again behind its run; none does: -1."""
        chunk = MapChunk(0, 256, 32)
        chunk.populated = 0b11011001
        assert chunk.fit_in_area(0, 256, 32, 2, True) == 0
        assert chunk.fit_in_area(0, 256, 34, 2, True) == 96
        assert chunk.fit_in_area(4, 252, 64, 2, True) == 92
        assert chunk.fit_in_area(4, 252, 64, 64, True) == 188
        assert chunk.fit_in_area(0, 256, 66, 2, True) == -1
        assert chunk.fit_in_area(0, 256, 66, 2, False) == 0
        assert chunk.fit_in_area(30, 34, 2, 2, True) == 0
        assert chunk.fit_in_area(30, 34, 4, 2, True) == -1

    def test_no_entry_before_the_first(self):
        """A first area with a head, as only page holes can make it, is split; the sentry is no neighbour of it."""
        chunk = MapChunk(0, 256, 32)
        chunk.populated = 0b11110000
        assert chunk.alloc_area(8, 2, True) == 128
        assert chunk.map == [0, 129, 136, 257]
        assert (chunk.free_size, chunk.first_free, chunk.donated) == (248, 0, 0)

    @pytest.mark.parametrize("rev", REVISIONS)
    def test_no_page_no_area(self, rev):
        """When pages are refused nothing is handed out, and the area is free again."""
        heap = PercpuAreaMap(rev=rev)
        heap.alloc(4)
        heap.source.fail_next(0, 1)
        assert heap.alloc(3 * PAGE) is None
        assert (heap.source.held, heap.counters()["free_bytes"]) == (1, 32764)
        assert heap.alloc(3 * PAGE) == 4

    @pytest.mark.parametrize(("rev", "length"), [("", 2), ("4.4", 4)])
    def test_a_refused_call_and_its_neighbour(self, rev, length):
        """Pages refused: 4.4 leaves the 2 bytes of the head with the area before, repaired they are free again."""
        heap = PercpuAreaMap(rev=rev)
        one = heap.alloc(2)
        heap.source.fail_next(0, 1)
        assert heap.alloc(PAGE, 4) is None
        assert heap.extents(one) == ((0, 0, length),)
        assert heap.counters()["free_bytes"] == 32768 - length
        assert heap.alloc(2) == length

    def test_balance_keeps_empty_pages_ready(self):
        """The background work populates until 4 pages are empty, and 4 more after an atomic miss."""
        heap = PercpuAreaMap()
        heap.alloc(4)
        heap.maintain("balance")
        assert (heap.counters()["empty_pages"], heap.source.held) == (4, 5)
        assert heap.alloc(4 * PAGE, PAGE, ctx=ATOMIC) == PAGE
        assert heap.alloc(4 * PAGE, ctx=ATOMIC) is None
        heap.maintain("balance")
        assert (heap.counters()["empty_pages"], heap.source.held) == (4, 9)
        with pytest.raises(ValueError, match="balance"):
            heap.maintain("compact")

    @pytest.mark.parametrize("rev", REVISIONS)
    def test_areas_are_zeroed(self, rev):
        """What an earlier area left behind is not seen."""
        heap = PercpuAreaMap(rev=rev)
        handle = heap.alloc(100)
        heap.write(handle, 0, b"\xff" * 100)
        assert heap.read(handle, 96, 4) == b"\xff" * 4
        heap.free(handle)
        assert heap.read(heap.alloc(100), 0, 100) == bytes(100)
        with pytest.raises(ValueError, match="leave the chunk"):
            heap.write(handle, 0, bytes(32769))

    def test_destroy(self):
        """Every page is given back."""
        heap = PercpuAreaMap()
        filled(heap, 1500)
        assert heap.source.held == 16
        heap.destroy()
        assert heap.source.held == 0


class TestCost:
    def test_frees_cost_as_posted(self):
        """Free times of 4..1024 bytes as posted, 4960 1150 280 177 140 ms: entries moved and scanned fall as well.

        Of three orders (in order, alternating, reverse) the worst counts, as in the posting.
        """
        worst = []
        for size in (4, 16, 64, 128, 1024):
            costs = []
            for order in range(3):
                heap, steps = PercpuAreaMap(chunks=2), 0
                handles = filled(heap, size)
                for handle in (handles, handles[::2] + handles[1::2], handles[::-1])[order]:
                    heap.free(handle)
                    steps += heap.cost()["entries_moved"] + heap.cost()["entries_scanned"]
                costs.append(steps / len(handles))
            assert costs[2] == min(costs)
            worst.append(max(costs))
        assert worst == sorted(worst, reverse=True)
        assert worst[0] > 15 * worst[2] > 150 * worst[4]

    def test_order_of_frees(self):
        """In reverse no free of a full chunk moves more than the sentry; in order each moves all areas behind."""
        for order, least, most in ((-1, 0, 1), (1, 8191 - 2, 8191)):
            heap = PercpuAreaMap(chunks=1)
            handles = filled(heap, 4)
            assert len(handles) == 8192
            moved = []
            for handle in handles[::order][:200]:
                heap.free(handle)
                moved.append(heap.cost()["entries_moved"])
            assert max(moved) <= most
            if order == 1:
                assert moved[0] == 0, "nothing to join yet"
                assert moved[1:] == [8192 - i for i in range(1, 200)]
                assert moved[1] >= least

    def test_small_objects_with_a_larger_alignment(self):
        """n objects of 4 bytes aligned to 8 make 2n entries; full chunks are visited by every request, in vain.

        Posted: 52 minutes for a million of them, 14 seconds with the bitmap.
        """
        scanned = {}
        for cls, name in ((PercpuAreaMap, "entries_scanned"), (PercpuBitmap, "bits_scanned")):
            for chunks in (2, 4, 8):
                heap, steps, visits = cls(unit=4096, block=1024, chunks=chunks), 0, 0
                for _ in range(512 * chunks):
                    assert heap.alloc(4, 8) is not None
                    steps += heap.cost()[name]
                    visits = max(visits, heap.cost()["chunks_visited"])
                scanned[cls, chunks] = steps / chunks
                if cls is PercpuAreaMap:
                    assert [chunk.map_used for chunk in heap._chunks.values()] == [1024] * chunks
                    assert min(chunk.contig_hint for chunk in heap._chunks.values()) == 4
                    assert chunks <= visits <= 3 * chunks, "a new chunk, and a map that grows, begin the search again"
                    assert set(slots(heap).values()) == {size_to_slot(2048)}
        for less, more in ((2, 4), (4, 8)):  # for each chunk: constant, or as many as there are chunks
            assert scanned[PercpuAreaMap, more] > 1.6 * scanned[PercpuAreaMap, less]
            assert scanned[PercpuBitmap, more] < 1.1 * scanned[PercpuBitmap, less]

    def test_a_search_begins_at_the_first_free_area(self):
        """A full front of the map is not scanned again: one entry is looked at for each request."""
        heap = PercpuAreaMap(chunks=1)
        for _ in range(1000):
            heap.alloc(8)
            assert (heap.cost()["entries_scanned"], heap.cost()["chunks_visited"]) == (1, 1)
        assert heap.cost()["entries_moved"] == 1
        assert heap.cost()["found"] == 32768 - 8 * 999


# ---- invariants ------------------------------------------------------------------------------


def check_chunk(heap, chunk, live):
    """What must hold of a map, from a table of live {offset: rounded size} of this chunk."""
    entries, used = chunk.map, chunk.map_used
    assert all(one & ~1 < two & ~1 for one, two in pairwise(entries))
    assert entries[0] & ~1 == 0
    assert entries[used] == heap._unit | 1
    assert used < chunk.map_alloc
    free = chunk.areas(in_use=False)
    assert all(end != start for (_, end), (start, _) in pairwise(free)), "free areas touch"
    assert chunk.free_size == sum(end - start for start, end in free)
    taken = dict(chunk.areas(in_use=True))
    assert taken.keys() == live.keys()
    for start, size in live.items():
        assert size <= taken[start] - start <= size + 4
    assert 0 <= chunk.first_free <= used
    assert all(entry & 1 for entry in entries[: chunk.first_free])
    assert chunk.listed == heap._slot_of(chunk)
    assert chunk in heap._slots[chunk.listed]
    assert chunk.contig_hint >= max((end - start for start, end in free), default=0)
    if not live:
        assert (entries, chunk.free_size) == ([0, heap._unit | 1], heap._unit)
    page = heap._page
    touched = {index for start, end in taken.items() for index in range(start // page, -(-end // page))}
    assert touched <= {index for index in range(chunk.nr_pages) if chunk.populated >> index & 1}
    assert chunk.nr_empty == chunk.populated.bit_count() - len(touched)
    assert not chunk.populated & (chunk.populated + 1), "the populated pages are the first ones"


def check_heap(heap, live):
    """The same of every chunk."""
    unit = heap._unit
    for number, chunk in heap._chunks.items():
        check_chunk(heap, chunk, {h % unit: size for h, size in live.items() if h // unit == number})
    assert heap.counters()["pages"] == heap.source.held
    assert heap.counters()["live_objects"] == len(live)
    assert sum(heap.metadata()) <= heap.contract.metadata_bound(Shadow(), None)


class TestInvariants:
    @pytest.mark.parametrize("rev", REVISIONS)
    @pytest.mark.parametrize(
        ("unit", "page", "sizes"), [(512, 128, (4, 9, 40, 128, 300)), (64, 32, (1, 2, 3, 5, 6, 30))]
    )
    def test_random_runs(self, rev, unit, page, sizes):
        """Maps sorted and ended, no free neighbours, counts, starts, first_free, slots, hints, pages: all hold."""
        walks = 0
        for seed in range(6):
            rng, heap, live = random.Random(seed), PercpuAreaMap(unit=unit, block=page, chunks=3, rev=rev), {}
            try:
                for step in range(700):
                    if live and rng.random() < 0.47:
                        handle = rng.choice(list(live))
                        del live[handle]
                        heap.free(handle)
                    else:
                        size, align = rng.choice(sizes), rng.choice((1, 1, 4, 8, 32, page))
                        if rng.random() < 0.1:
                            heap.source.fail_next(0, 1)
                        handle = heap.alloc(size, align, ctx=rng.choice((None, None, ATOMIC)))
                        heap.source.fail_next(0, 0)
                        if handle is not None:
                            assert handle not in live
                            assert handle % unit % align == 0
                            live[handle] = size + size % 2
                    if step % 50 == 0:
                        heap.maintain("balance")
                    check_heap(heap, live)
            except RuntimeError:
                walks += 1
        assert (walks > 0) == (rev == "4.4" and sizes[0] == 1)

    @pytest.mark.parametrize(("unit", "chunks", "most", "states"), [(8, 2, 5000, 2021), (16, 1, 1000, 1000)])
    def test_every_state_of_tiny_heaps(self, unit, chunks, most, states):
        """All states reachable on pages of 8 bytes, or those nearest: invariants hold, what must be served is.

        On two pages all 13,574 states keep them; half a minute.
        """
        heap = PercpuAreaMap(unit=unit, block=8, chunks=chunks)
        promised, asked = heap.contract.must_serve, 0
        seen, queue = {heap.snapshot()}, deque([heap.snapshot()])
        while queue and len(seen) < most:
            state = queue.popleft()
            heap.restore(state)
            shadow = shadow_of(heap)
            check_heap(heap, {name: lengths_of(heap, name) for name in shadow.live})
            for size, align, ctx in product(range(2, unit + 1, 2), (2, 4, 8), (None, ATOMIC)):
                answer = heap.alloc(size, align, ctx=ctx)
                if promised(Request(size, align, ctx is not None), shadow, heap.source):
                    asked += 1
                    assert answer is not None
                follow(heap, state, seen, queue)
            for handle in list(shadow.live):
                heap.free(handle)
                follow(heap, state, seen, queue)
        assert asked > 500
        assert len(seen) >= states
        assert not queue or most == states

    def test_states_come_back(self):
        """A restored state is equal, behaves alike, and holds the same contents."""
        rng, heap, live = random.Random(7), PercpuAreaMap(unit=1024, block=128), []
        for _ in range(60):
            if live and rng.random() < 0.4:
                heap.free(live.pop(rng.randrange(len(live))))
            elif (handle := heap.alloc(rng.randrange(4, 90), 1 << rng.randrange(6))) is not None:
                live.append(handle)
                heap.write(handle, 0, b"live")
        heap.alloc(4, ctx=ATOMIC)
        state = heap.snapshot()
        twin = PercpuAreaMap(unit=1024, block=128)
        twin.restore(state)
        assert twin.snapshot() == state
        assert twin.source.held == heap.source.held
        assert [twin.read(handle, 0, 4) for handle in live] == [b"live"] * len(live)
        assert [heap.alloc(20) for _ in range(30)] == [twin.alloc(20) for _ in range(30)]
        hash(state)


def lengths_of(heap, handle):
    """The size that a live area may have been asked for, at least."""
    return heap.extents(handle)[0][2]


def shadow_of(heap):
    """A shadow heap of what is live, by the maps."""
    shadow = Shadow()
    for number, chunk in heap._chunks.items():
        for start, end in chunk.areas(in_use=True):
            handle = number * heap._unit + start
            shadow.add(Block(handle, handle, end - start, 1, ((number, start, end - start),)))
    return shadow


def follow(heap, state, seen, queue):
    """Enter the state just reached, and go back."""
    after = heap.snapshot()
    if after not in seen:
        seen.add(after)
        queue.append(after)
    heap.restore(state)


# ---- against the contract, and the bitmap ----------------------------------------------------

TINY = {"unit": 64, "block": 32, "chunks": 1}
TWOS = [(ALLOC, 0, 46), (ALLOC, 1, 4), (ALLOC, 2, 2), (ALLOC, 3, 2), (ALLOC, 4, 2), (ALLOC, 5, 2), (ALLOC, 6, 6)]


class TestRevision44:
    @pytest.mark.parametrize(
        ("law", "program"),
        [
            ("bad-size-rejected", [(BAD, 0, 8, 3, "align")]),
            ("refusal-pure", [(ALLOC, 0, 2), (FAIL, 0, 1, 0), (ALLOC, 1, 32, 4)]),
            ("returns", [*TWOS, (FREE, 3), (FREE, 5), (FREE, 1), (ALLOC, 7, 4), (ALLOC, 8, 4)]),
        ],
    )
    def test_laws_broken(self, law, program):
        """Alignment 3 is served; a refused call lengthens a neighbour; a stale hint derails the walk over a list."""
        program = [Operation(*op) for op in program]
        found = run(lambda: PercpuAreaMap(rev="4.4", **TINY), program, mute={"handle-stable"})  # is broken as well
        assert found is not None
        assert (found.law, found.index) == (law, len(program) - 1)
        assert run(lambda: PercpuAreaMap(**TINY), program) is None

    def test_the_walk_that_leaves_its_list(self):
        """Holes of 2 bytes and a stale hint of 4: the search in vain moves the chunk to slot 0, under the walk."""
        for rev in REVISIONS:
            heap = PercpuAreaMap(rev=rev, **TINY)
            handles = [heap.alloc(op[2]) for op in TWOS]
            for index in (3, 5, 1):
                heap.free(handles[index])
            assert heap.alloc(4) == 46
            assert (heap._chunks[0].contig_hint, heap._chunks[0].free_size, slots(heap)) == (4, 4, {0: 1})
            if rev:
                with pytest.raises(RuntimeError, match=r"slot 1 .* slot 0"):
                    heap.alloc(4)
            else:
                assert heap.alloc(4) is None
            assert slots(heap) == {0: 0}


class TestContract:
    @pytest.mark.parametrize("parameters", [{"unit": 256, "block": 64}, {"unit": 96, "block": 32, "chunks": 1}, {}])
    def test_repaired_breaks_no_law(self, parameters):
        """Random programs with atomic requests, background work and refused pages break nothing."""
        for seed in range(6):
            rng, program = random.Random(seed), []
            most = rng.choice((12, 40, 400))
            for birth in range(400):
                kind = rng.choices((ALLOC, FREE, Kind.MAINTAIN, FAIL), (52, 42, 4, 2))[0]
                if kind == ALLOC:
                    align = 1 << rng.choice((0, 0, 0, 2, 3, 4, 5))
                    atomic = int(birth > 0 and rng.random() < 0.2)  # a fresh heap has no pages
                    program.append((kind, birth, rng.randrange(1, most), align, atomic))
                elif kind == FREE:
                    program.append((kind, rng.randrange(birth + 1)))
                elif kind == Kind.MAINTAIN:
                    program.append((kind, 0, 0, 1, "balance"))
                else:
                    program.append((kind, 0, rng.randrange(1, 4), 0))
            program += [(Kind.DRAIN,), (Kind.DESTROY,)]
            found = run(lambda: PercpuAreaMap(**parameters), [Operation(*op) for op in program])
            assert found is None, found

    def test_what_must_be_served(self):
        """What fits between live areas, aligned, in 4 bytes or more; anything while a chunk can be had."""
        heap, shadow = PercpuAreaMap(unit=64, block=32, chunks=1), Shadow()
        promised = heap.contract.must_serve
        assert promised(Request(64), shadow, heap.source)
        for at, (start, length) in enumerate(((0, 20), (24, 8), (34, 30))):
            shadow.add(Block(at, at, length, 1, ((0, start, length),)))
        assert promised(Request(4, 4), shadow, heap.source)
        assert promised(Request(3), shadow, None)
        assert not promised(Request(4, 8), shadow, None)
        assert not promised(Request(5), shadow, None)
        assert not promised(Request(4, atomic=True), shadow, heap.source)
        assert not promised(Request(0), shadow, None)
        assert not promised(Request(4, 3), shadow, None)
        heap.source.fail_next(0, 1)
        assert not promised(Request(4), shadow, heap.source)

    def test_slots_that_the_contract_allows(self):
        """Where no hole holds 4 bytes a chunk stands on slot 0 or on that of its free bytes, and on no other."""
        heap, shadow = PercpuAreaMap(unit=64, block=64, chunks=1), Shadow()
        for at, (start, length) in enumerate(((0, 20), (22, 20), (44, 20))):
            shadow.add(Block(at, at, length, 1, ((0, start, length),)))
        allowed = heap.contract.container_list(shadow)(("chunk", 0))
        assert [slot for slot in range(6) if slot == allowed] == [0, 1]
        assert [slot for slot in range(6) if slot != allowed] == [2, 3, 4, 5]


def test_placed_like_the_bitmap_while_nothing_is_freed():
    """Sizes and alignments in fours, no frees: both allocators put everything in the same place."""
    for seed in range(5):
        rng, old, new = random.Random(seed), PercpuAreaMap(chunks=1), PercpuBitmap(chunks=1)
        for _ in range(200):
            size, align = 4 * rng.randrange(1, 60), 1 << rng.randrange(2, 5)
            one, two = old.alloc(size, align), new.alloc(size, align)
            assert one == two or two is None
            if two is None:
                break
