"""The first unit of the per-CPU bitmap allocator: static bytes, the reserved chunk, hidden bits."""

import random

import pytest

from heaplaw import Context, InvalidFree, Refusal, Request, Shadow
from heaplaw.impls.percpu_bitmap import PercpuBitmap
from heaplaw.operations import Kind, Operation
from heaplaw.runs import run

REVISIONS = ["", "6.12", "4.14", "2017-07"]
RESERVED = Context(group=1)
ATOMIC = Context(atomic=True)
RESERVED_ATOMIC = Context(group=1, atomic=True)
TINY = {"unit": 128, "block": 32, "chunks": 2, "static": 20, "reserved": 24}


def chunk_slots(heap):
    """{chunk number: slot it stands on}."""
    return {key[1]: slot for slot, key in heap.lists()}


def filled(heap, size, ctx=None):
    """Handles of as many objects as can be had."""
    handles = []
    while (handle := heap.alloc(size, ctx=ctx)) is not None:
        handles.append(handle)
    return handles


class TestHiddenBits:
    @pytest.mark.parametrize("rev", REVISIONS)
    def test_layout(self, rev):
        """20 static and 24 reserved bytes of 128: bits hidden on both sides of the reserved, before the ordinary."""
        heap = PercpuBitmap(rev=rev, **TINY)
        first, reserved = heap._chunks[0], heap._chunks[2]
        assert (reserved.base, reserved.lo, reserved.hi, reserved.nr_bits) == (0, 5, 11, 16)
        assert (first.base, first.lo, first.hi, first.nr_bits) == (32, 3, 24, 24)
        assert [tuple(region)[:3] for region in heap.free_regions()] == [(0, 44, 84), (0, 20, 24)]
        assert (first.free_bits, reserved.free_bits) == (21, 6)
        assert (first.whole.first_free, reserved.whole.first_free) == (3, 5)
        assert first.map_bits() == 0b111
        assert reserved.map_bits() == 0b11111 | 0b11111 << 11
        assert first.bounds[0] == 0b1001

    @pytest.mark.parametrize("rev", REVISIONS)
    def test_descriptors_know_what_is_hidden(self, rev):
        """Hidden bits are taken for the hints: nothing left of the first block, the longest run behind them."""
        first = PercpuBitmap(rev=rev, **TINY)._chunks[0]
        assert (first.blocks[0].left_free, first.blocks[0].right_free, first.blocks[0].contig_hint) == (0, 5, 5)
        assert (first.whole.contig_hint, first.whole.contig_hint_start) == (21, 3)

    def test_static_bytes_are_rounded_up(self):
        """21 static bytes end at 24, a multiple of a bit; offsets before are never handed out."""
        heap = PercpuBitmap(unit=128, block=32, chunks=1, static=21)
        assert filled(heap, 4) == list(range(24, 128, 4))

    def test_hidden_bits_are_no_objects(self):
        """Counts of live objects and free bytes leave hidden bits out, and no observation shows them."""
        heap = PercpuBitmap(**TINY)
        counts = heap.counters()
        wanted = {"free_bytes": 108, "live_objects": 0, "used_bytes": 0, "pages": 0, "empty_pages": 2}
        assert {name: counts[name] for name in wanted} == wanted
        handles = [heap.alloc(4), heap.alloc(4, ctx=RESERVED)]
        assert heap.counters()["live_objects"] == 2
        assert [(b.space, b.start, b.units, b.bits) for b in heap.bitmap()] == [(0, 44, 21, 1), (0, 20, 6, 1)]
        assert [list(chunk.area_starts()) for chunk in heap._chunks.values()] == [[5], [3]]
        for handle in handles:
            heap.free(handle)
        assert heap.counters()["live_objects"] == 0

    @pytest.mark.parametrize("rev", REVISIONS)
    def test_nothing_beyond_the_borders(self, rev):
        """Filled with bits, both chunks are handed out exactly, and come back exactly."""
        heap = PercpuBitmap(rev=rev, **{**TINY, "chunks": 1})
        ordinary, reserved = filled(heap, 4), filled(heap, 4, RESERVED)
        assert (ordinary, reserved) == (list(range(44, 128, 4)), list(range(20, 44, 4)))
        assert heap.counters()["free_bytes"] == 0
        for handle in ordinary + reserved:
            heap.free(handle)
        assert heap.counters()["free_bytes"] == 108
        assert [tuple(region)[:3] for region in heap.free_regions()] == [(0, 44, 84), (0, 20, 24)]


class TestReserved:
    @pytest.mark.parametrize("rev", REVISIONS)
    def test_only_the_reserved_chunk_is_searched(self, rev):
        """A reserved request that the reserved chunk cannot hold is refused, with all else free."""
        heap = PercpuBitmap(rev=rev, **TINY)
        assert heap.alloc(28, ctx=RESERVED) is None
        assert heap.alloc(24, ctx=RESERVED) == 20
        assert heap.alloc(4, ctx=RESERVED) is None
        assert heap.alloc(4) == 44

    @pytest.mark.parametrize("rev", REVISIONS)
    def test_others_never_get_reserved_bytes(self, rev):
        """Ordinary requests are refused with all reserved bytes free; its chunk stands on no slot."""
        heap = PercpuBitmap(rev=rev, **{**TINY, "chunks": 1})
        assert heap.alloc(84) == 44
        assert heap.alloc(4) is None
        assert 1 not in chunk_slots(heap)
        heap.free(heap.alloc(8, ctx=RESERVED))
        assert chunk_slots(heap) == {0: 0}

    def test_without_reserved_bytes(self):
        """Where nothing is reserved a reserved request is served like any other."""
        heap = PercpuBitmap(unit=128, block=32, chunks=1, static=20)
        assert heap.alloc(4, ctx=RESERVED) == 20
        assert heap.contract.groups == 0

    def test_needs_neither_pages_nor_sleep(self):
        """The reserved chunk has its pages: an atomic request, and one while pages are refused, are served."""
        heap = PercpuBitmap(**TINY)
        heap.source.fail_next(0, 100)
        assert heap.alloc(4, ctx=RESERVED_ATOMIC) == 20
        assert heap.alloc(4, ctx=RESERVED) == 24
        assert heap.source.refused == 0

    def test_same_address_space(self):
        """Handles tell the chunks of the first unit apart by the border; contents do not touch."""
        heap = PercpuBitmap(**TINY)
        inner, outer = heap.alloc(24, ctx=RESERVED), heap.alloc(8)
        heap.write(inner, 0, b"r" * 24)
        heap.write(outer, 0, b"o" * 8)
        assert (heap.extents(inner), heap.extents(outer)) == (((0, 20, 24),), ((0, 44, 8),))
        assert (heap.read(inner, 0, 24), heap.read(outer, 0, 8)) == (b"r" * 24, b"o" * 8)
        heap.free(inner)
        assert heap.read(heap.alloc(24, ctx=RESERVED), 0, 24) == bytes(24)
        with pytest.raises(InvalidFree):
            heap.free(1 << 40)

    def test_empty_reserved_pages_are_not_counted(self):
        """Empty pages are kept ready for ordinary atomic requests; the reserved chunk's are no help."""
        heap = PercpuBitmap(unit=256, block=32, chunks=1, static=0, reserved=160)
        assert heap._chunks[1].nr_empty == 5
        assert heap.counters()["empty_pages"] == 3


class TestFirstChunk:
    @pytest.mark.parametrize("rev", REVISIONS)
    def test_populated_from_the_start(self, rev):
        """The first chunk serves atomic requests at once, and has no page of the source."""
        heap = PercpuBitmap(rev=rev, **TINY)
        assert heap.alloc(84, ctx=ATOMIC) == 44
        assert (heap.source.held, list(heap.pages())) == (0, [])

    @pytest.mark.parametrize("rev", REVISIONS)
    def test_it_is_never_destroyed(self, rev):
        """Emptied, it stands on the slot of its size, not on that of free chunks; the balance work lets it be."""
        heap = PercpuBitmap(unit=1024, block=64, chunks=3, static=72, reserved=64, rev=rev)
        handles = [heap.alloc(size) for size in (888, 1024, 1024)]
        assert [handle // 1024 for handle in handles] == [0, 1, 2]
        for handle in handles:
            heap.free(handle)
        heap.maintain("balance")
        assert {0, 3} <= heap._chunks.keys()
        assert len(heap._chunks) == 3
        assert chunk_slots(heap)[0] < heap.free_slot
        assert heap._chunks[0].populated == (1 << 14) - 1

    def test_a_page_aligned_border_hides_nothing(self):
        """With static and reserved bytes that end with a page, no bit is hidden."""
        heap = PercpuBitmap(unit=256, block=64, chunks=1, static=64, reserved=64)
        assert [(c.base, c.lo, c.hi, c.nr_bits) for c in heap._chunks.values()] == [(64, 0, 16, 16), (128, 0, 32, 32)]
        assert [heap.alloc(64, ctx=RESERVED), heap.alloc(128)] == [64, 128]

    @pytest.mark.parametrize(
        ("parameters", "text"),
        [
            ({"static": -1}, "static must be"), ({"reserved": "x"}, "reserved must be"),
            ({"reserved": 6}, "not a multiple of 4"), ({"static": 20000, "reserved": 12768}, "leave nothing"),
        ],
    )  # fmt: skip
    def test_parameters_that_make_no_sense(self, parameters, text):
        """A bad parameter is a ValueError with one clear line."""
        with pytest.raises(ValueError, match=text):
            PercpuBitmap(**parameters)

    def test_states_come_back(self):
        """Restored, the hidden bits are hidden, and both chunks behave as before."""
        heap, twin = PercpuBitmap(**TINY), PercpuBitmap(**TINY)
        handles = [heap.alloc(8), heap.alloc(12, ctx=RESERVED), heap.alloc(100)]
        for handle in handles:
            heap.write(handle, 0, b"live")
        state = heap.snapshot()
        twin.restore(state)
        assert twin.snapshot() == state
        assert [twin.read(handle, 0, 4) for handle in handles] == [b"live"] * 3
        assert twin.source.held == heap.source.held == 4
        assert [heap.alloc(8, ctx=c) for c in (None, RESERVED) * 3] == [
            twin.alloc(8, ctx=c) for c in (None, RESERVED) * 3
        ]


class TestContract:
    def test_limits(self):
        """The largest size is one that both kinds of requests get; too big for one may be served to the other."""
        contract = PercpuBitmap(**TINY).contract
        assert (contract.largest, contract.groups, contract.rejects) == (24, 1, {"zero", "align"})
        assert PercpuBitmap(unit=128, block=32, chunks=1, static=20).contract.largest == 108
        assert PercpuBitmap(unit=128, block=32, chunks=2, static=20).contract.largest == 128
        heap = PercpuBitmap(**TINY)
        assert heap.alloc(100) == 128
        assert heap.alloc(129) is Refusal.TOO_BIG

    def test_what_reserved_requests_are_promised(self):
        """The longest run inside a block, or one that exceeds the lag of the hints; pages or no pages."""
        heap, shadow = PercpuBitmap(unit=256, block=32, chunks=2, reserved=128), Shadow()
        reserve, promised = heap.contract.reserve, heap.contract.must_serve
        assert reserve(Request(4, group=1), shadow) == 128 - 2 * 28
        assert reserve(Request(4), shadow) == 0
        assert reserve(Request(4, 8, group=1), shadow) == 0
        heap.source.fail_next(0, 1)
        assert promised(Request(72, 4, True, 1), shadow, heap.source)
        assert not promised(Request(76, 4, False, 1), shadow, heap.source)

    def test_what_ordinary_requests_are_promised(self):
        """The first chunk is never known to be wholly free: alone, it owes what its hints must show."""
        heap, shadow = PercpuBitmap(unit=256, block=32, chunks=1, reserved=64), Shadow()
        promised = heap.contract.must_serve
        assert promised(Request(192 - 56), shadow, None)
        assert not promised(Request(192 - 52), shadow, None)
        assert not promised(Request(4, atomic=True), shadow, None)
        two = PercpuBitmap(unit=256, block=32, chunks=2, reserved=64)
        assert two.contract.must_serve(Request(256), shadow, None)

    def test_free_runs_on_both_sides_of_the_border_stay_apart(self):
        """They belong to two chunks; everything else that touches is one run."""
        heap = PercpuBitmap(unit=128, block=32, chunks=1, reserved=24)
        one, two = sorted(heap.free_regions())
        assert (one[:3], two[:3]) == ((0, 0, 24), (0, 24, 104))
        assert not heap.contract.mergeable(one, two)
        assert heap.contract.mergeable(one, two._replace(start=20))

    @pytest.mark.parametrize(
        "parameters",
        [
            TINY, {"unit": 256, "block": 64, "chunks": 2, "reserved": 72},
            {"unit": 96, "block": 32, "chunks": 1, "static": 40}, {"static": 5000, "reserved": 8192},
        ],
    )  # fmt: skip
    def test_repaired_breaks_no_law(self, parameters):
        """Random programs of both kinds of requests break nothing."""
        for seed in range(5):
            rng, program = random.Random(seed), []
            groups = PercpuBitmap(**parameters).contract.groups
            most = PercpuBitmap(**parameters).contract.largest // rng.choice((1, 4))
            for birth in range(300):
                kind = rng.choices((Kind.ALLOC, Kind.FREE, Kind.MAINTAIN, Kind.FAIL_PAGES), (52, 42, 4, 2))[0]
                if kind == Kind.ALLOC:
                    mode = rng.randrange(groups + 1) << 1 | int(birth > 0 and rng.random() < 0.2)
                    program.append((kind, birth, rng.randrange(1, most), 1 << rng.choice((0, 0, 0, 3, 4)), mode))
                elif kind == Kind.FREE:
                    program.append((kind, rng.randrange(birth + 1)))
                else:
                    program.append((kind, 0, 2, 0, 0) if kind == Kind.FAIL_PAGES else (kind, 0, 0, 1, "balance"))
            program += [(Kind.DRAIN,), (Kind.DESTROY,)]
            found = run(lambda: PercpuBitmap(**parameters), [Operation(*op) for op in program])
            assert found is None, found

    @pytest.mark.parametrize(
        ("law", "wrong"), [("placement", "_find_reserved"), ("geometry", "hide"), ("conservation", "_free_area")]
    )
    def test_what_the_laws_notice(self, law, wrong):
        """Reserved requests served elsewhere, bits not hidden, areas that do not come back."""
        program = [(Kind.ALLOC, 0, 12, 1, 2), (Kind.ALLOC, 1, 20), (Kind.FREE, 0), (Kind.ALLOC, 2, 24, 1, 2)]
        if wrong == "hide":
            program = [(Kind.ALLOC, 0, 4)]
        found = run(lambda: broken(wrong), [Operation(*op) for op in program], mute={"returns"})
        assert found is not None
        assert found.law == law


def broken(step):
    """An allocator with one step left out."""
    heap = PercpuBitmap(**TINY)
    if step == "_find_reserved":
        heap._find_reserved = lambda chunk, bits, align, atomic: heap._find(bits, align, atomic)
    elif step == "_free_area":
        heap._free_area = lambda chunk, at: None
    else:
        first = heap._chunks[0]
        first.free_area(0)
    return heap
