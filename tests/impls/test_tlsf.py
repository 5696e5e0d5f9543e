"""TLSF: the layout, its invariants, and what sets the published revision apart."""

import random

import pytest

from heaplaw import Kind, Operation, Refusal, run
from heaplaw.impls.tlsf import Tlsf
from heaplaw.properties.plain import check

CONFIGURATIONS = ["arena=1024,sl=2", "arena=256,sl=1", "arena=4096,word=32", "arena=512,word=32,sl=3", "arena=16384"]


def fill(heap, size, align=1):
    """Ask until refused; the handles."""
    handles = []
    while isinstance(handle := heap.alloc(size, align), int):
        handles.append(handle)
    return handles


def blocks(heap):
    """(start, length, free) of every block, by an independent walk of the raw bytes."""
    word, at, found = heap._g.word, 0, []
    raw = bytes(heap._bytes)
    while (head := int.from_bytes(raw[at : at + word], "little")) & ~3:
        found.append((at + word, head & ~3, head & 1, head >> 1 & 1))
        at += word + (head & ~3)
    assert at + word == len(raw), "the sentinel is the last word"
    return found


class TestLayout:
    @pytest.mark.parametrize(("word", "least", "step"), [(64, 24, 8), (32, 12, 4)])
    def test_least_block(self, word, least, step):
        """The smallest block is three words, and blocks are one word apart."""
        heap = Tlsf(word=word)
        one, two = heap.alloc(1), heap.alloc(1)
        assert heap.extents(one) == ((0, step, least),)
        assert two - one == least + step

    @pytest.mark.parametrize("word", [32, 64])
    def test_overhead(self, word):
        """A fresh pool is one free block of the arena less two words."""
        heap = Tlsf(arena=4096, word=word)
        (region,) = heap.free_regions()
        assert region[:3] == (0, word // 8, 4096 - 2 * word // 8)

    def test_lists_are_last_in_first_out(self):
        """Of two blocks on one list the one freed last is found first."""
        heap = Tlsf()
        handles = [heap.alloc(40) for _ in range(6)]
        heap.free(handles[1])
        heap.free(handles[3])
        assert heap.alloc(40) == handles[3]

    def test_metadata_is_in_the_arena(self):
        """An object that writes past its end destroys the next block's size word, as in C."""
        heap = Tlsf()
        one, two = heap.alloc(24), heap.alloc(24)
        heap.write(one, 24, bytes(8))
        assert heap.extents(two)[0][2] == 0


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
@pytest.mark.parametrize("revision", ["", "conte-3.1"])
def test_invariants(configuration, revision):
    """Blocks tile the arena, flags agree with neighbours, and no two free ones touch, after every call."""
    parameters = dict(pair.split("=") for pair in configuration.split(","))
    heap = Tlsf(**{key: int(value) for key, value in parameters.items()}, rev=revision)
    rng, live = random.Random(configuration), {}
    for _ in range(1200):
        size = int(2 ** rng.uniform(0, 10))
        if live and rng.random() < 0.45:
            heap.free(live.pop(rng.choice(list(live)))[0])
        elif live and rng.random() < 0.2:
            name = rng.choice(list(live))
            moved = heap.realloc(live[name][0], size)
            if isinstance(moved, int):
                live[name] = (moved, size)
        else:
            handle = heap.alloc(size, 1 << rng.randrange(8) if rng.random() < 0.3 else 1)
            if isinstance(handle, int):
                live[object()] = (handle, size)
        seen = blocks(heap)
        assert {start for start, _, is_free, _ in seen if not is_free} == {handle for handle, _ in live.values()}
        for (_, _, free_one, _), (_, _, free_two, before_free) in zip(seen, seen[1:], strict=False):
            assert before_free == free_one
            assert not (free_one and free_two)
        assert sum(length for _, length, _, _ in seen) + (len(seen) + 1) * heap._g.word == len(heap._bytes)
        assert all(length >= heap._g.least and length % heap._g.word == 0 for _, length, _, _ in seen)
    for handle, _ in live.values():
        heap.free(handle)
    assert len(blocks(heap)) == 1


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_every_law_holds(configuration):
    """The repaired algorithm breaks no law in any configuration."""
    tally = check(f"tlsf,{configuration}", 2500, 11)
    assert tally.findings == []
    assert tally.evidence["tiling"] > 100


class TestBoundedSearch:
    @pytest.mark.parametrize("live", [10, 1000])
    def test_one_list_head(self, live):
        """An allocation looks at one list head, however many blocks there are."""
        heap = Tlsf(arena=1 << 17)
        handles = [heap.alloc(24 + index % 64) for index in range(live)]
        for handle in handles[::2]:
            heap.free(handle)
        heap.alloc(40)
        assert heap.cost()["probed"] == 1

    def test_good_fit_may_pass_over_a_fit(self):
        """A free block that fits but begins below the rounded size is passed over: refusal is exact by lists."""
        heap = Tlsf(arena=1016)
        assert [region.length for region in heap.free_regions()] == [1000]
        assert heap.alloc(1000) is None  # it fits, but its list begins at 992
        assert heap.contract.largest == 992
        assert heap.alloc(992) == 8


class TestAligned:
    @pytest.mark.parametrize("align", [16, 32, 64, 256, 512])
    @pytest.mark.parametrize("word", [32, 64])
    def test_alignment(self, align, word):
        """An aligned block starts at a multiple, and the gap before it is a block or nothing."""
        heap = Tlsf(word=word)
        heap.alloc(40)
        handle = heap.alloc(100, align)
        assert handle % align == 0
        assert len(blocks(heap)) in (3, 4)

    @pytest.mark.parametrize("align", [0, 3, 6, 12, -8])
    def test_not_a_power_of_two(self, align):
        """Another alignment makes no sense and is refused."""
        assert Tlsf().alloc(8, align) is Refusal.INVALID


class TestResize:
    def test_grows_into_the_free_neighbour(self):
        """A block grows in place when what is behind it is free and large enough."""
        heap = Tlsf()
        one, two = heap.alloc(24), heap.alloc(200)
        heap.alloc(24)
        heap.free(two)
        assert heap.realloc(one, 100) == one
        assert heap.extents(one)[0][2] >= 100

    def test_shrinking_frees_the_tail(self):
        """A shrunk block's tail is merged with what is free behind it."""
        heap = Tlsf()
        one = heap.alloc(2000)
        assert heap.realloc(one, 40) == one
        assert len(list(heap.free_regions())) == 1

    def test_moves_and_copies(self):
        """Without room the block moves with its contents."""
        heap = Tlsf()
        one = heap.alloc(24)
        heap.alloc(24)
        heap.write(one, 0, b"twenty-four bytes it is.")
        moved = heap.realloc(one, 500)
        assert moved != one
        assert bytes(heap.read(moved, 0, 24)) == b"twenty-four bytes it is."

    def test_refused_resize_keeps_the_object(self):
        """A resize that cannot be served leaves the block alone."""
        heap = Tlsf()
        one = heap.alloc(100)
        before = bytes(heap._bytes)
        assert heap.realloc(one, 1 << 40) is Refusal.TOO_BIG
        assert heap.realloc(one, 5000) is None
        assert bytes(heap._bytes) == before


class TestPublished:
    """mattconte/tlsf 3.1, with what was reported to it in public."""

    def test_size_max_wraps(self):
        """A request just below 2^64 is served 24 bytes (issue 22); repaired: refused."""
        heap = Tlsf(rev="conte-3.1")
        handle = heap.alloc((1 << 64) - 1)
        assert heap.extents(handle)[0][2] == 24
        assert Tlsf().alloc((1 << 64) - 1) is Refusal.TOO_BIG

    def test_resize_beyond_the_maximum(self):
        """A resize to more than the maximum shrinks the block to nothing (issue 22); repaired: refused."""
        heap = Tlsf(rev="conte-3.1")
        handle = heap.alloc(100)
        assert heap.realloc(handle, 1 << 33) == handle
        assert heap.extents(handle)[0][2] == 0

    def test_freed_block_is_not_found_again(self):
        """A block split at the request is filed one list too low for the same request; repaired: served."""
        outcomes = {}
        for revision in ("conte-3.1", ""):
            heap = Tlsf(arena=4096, rev=revision)
            one = heap.alloc(1000)
            fill(heap, 24)
            heap.free(one)
            outcomes[revision] = heap.alloc(1000)
        assert outcomes == {"conte-3.1": None, "": 8}

    def test_it_promises_less(self):
        """Only the repaired algorithm promises that what was freed can be had again."""
        assert Tlsf().contract.free_then_alloc
        assert not Tlsf(rev="conte-3.1").contract.free_then_alloc

    @pytest.mark.parametrize("law", ["bad-size-rejected", "realloc-prefix", "big-enough"])
    def test_check_finds_it(self, law):
        """`check` refutes the published revision by itself, in at most two operations."""
        tally = check("tlsf@conte-3.1", 20_000, 1, only=[law])
        (finding,) = tally.findings
        assert finding.violation.law == law
        assert len(finding.trace.operations) <= 2


def test_waste():
    """Internal waste stays below 1/32 of the request, three words and a tail too short to split off."""
    heap = Tlsf(arena=1 << 20)
    for size in range(256, 20_000, 37):
        handle = heap.alloc(size)
        assert heap.extents(handle)[0][2] - size <= size / 32 + 8 + 24
        heap.free(handle)


@pytest.mark.parametrize(
    "parameters", [{"arena": -5}, {"arena": 100}, {"arena": 8}, {"word": 16}, {"sl": 9}, {"rev": "3.2"}, {"arena": 1 << 33}]
)
def test_bad_parameters(parameters):
    """A configuration that cannot be is refused in words."""
    with pytest.raises(ValueError, match=r"arena|word|sl|revision"):
        Tlsf(**parameters)


def test_same_law_found_by_trace():
    """The one-line counterexample of the wrapped size, as a trace."""
    trace = [Operation(Kind.ALLOC, 0, (1 << 64) - 7)]
    assert run(lambda: Tlsf(rev="conte-3.1"), trace).law in ("big-enough", "waste-bound")
