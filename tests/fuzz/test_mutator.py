"""The mutator: whole operations in, whole operations out."""

from random import Random

import pytest

from heaplaw.codec import FIRST_BYTE, KINDS, Codec
from heaplaw.fuzz.inputs import PREFIX, START, WIDTH, lift, pack, refusal, unpack
from heaplaw.fuzz.mutator import Mutator, another_head, apart, together
from heaplaw.impls.registry import factory
from heaplaw.operations import Kind
from heaplaw.properties.steering import LENGTH

SEEDS = range(400)
MUTATE = Mutator([len(Codec(factory("tlsf,arena=4096")().contract).sizes)])


def an_input(operations=40, seed=1):
    return pack(bytes(LENGTH) + Random(seed).randbytes(WIDTH * operations))


def children(data, most=2000):
    return [MUTATE(data, most, seed) for seed in SEEDS]


class TestMutator:
    def test_the_seed_decides(self):
        """The same input and seed give the same child; other seeds give others."""
        data = an_input()
        assert children(data) == children(data)
        assert len(set(children(data))) > len(SEEDS) * 3 // 4
        assert MUTATE.crossover(data, an_input(seed=2), 999, 7) == MUTATE.crossover(data, an_input(seed=2), 999, 7)

    @pytest.mark.parametrize("data", [b"", b"\n", b"hl", bytes(50), an_input(0), an_input(1), an_input(3)[:-2]])
    def test_whatever_goes_in_an_input_comes_out(self, data):
        """No header, a piece of one, half an operation: what comes out has all of it."""
        for child in [*children(data), *(MUTATE.crossover(data, an_input(), 500, seed) for seed in SEEDS)]:
            assert refusal(child) == ""
            assert (len(child) - START) % WIDTH == 0

    @pytest.mark.parametrize("most", [START, START + WIDTH, 100, 101, 103])
    def test_no_longer_than_allowed(self, most):
        """libFuzzer's limit is kept, and never in the middle of an operation."""
        made = children(an_input(), most) + [MUTATE.crossover(an_input(), an_input(9), most, seed) for seed in SEEDS]
        assert all(len(child) <= most and (len(child) - START) % WIDTH == 0 for child in made)

    def test_less_room_than_a_head(self):
        """Even where nothing fits, no more comes out than there is room for."""
        assert all(len(child) <= 6 for child in children(an_input(), 6))

    def test_every_way_is_gone(self):
        """Operations are inserted, deleted, changed and moved; the head changes, and mostly does not."""
        data = an_input()
        _, head, codes = apart(data)
        made = [apart(child) for child in children(data)]
        assert any(len(after) > len(codes) for _, _, after in made)
        assert any(len(after) < len(codes) for _, _, after in made)
        assert any(len(after) == len(codes) and sorted(after) == sorted(codes) != after for _, _, after in made)
        assert len(made) // 20 < sum(other != head for _, other, _ in made) < len(made) // 2

    def test_sizes_of_neighbours(self):
        """A request gets the size before or behind its own in the palette."""
        codec = Codec(factory("tlsf,arena=4096")().contract)
        selector = codec.selector(256)
        code = FIRST_BYTE[Kind.ALLOC] | selector << 8
        near = set()
        for seed in SEEDS:
            [changed] = MUTATE._neighbour([code.to_bytes(WIDTH, "little")], Random(seed), 0)
            near.add(codec.size(int.from_bytes(changed, "little") >> 8))
        at = codec.sizes.index(256)
        assert near == {*codec.sizes[at - 2 : at + 3]} - {256}

    def test_free_everything(self):
        """As many frees are put in as there were requests before them, so that nothing is left there."""
        request = (FIRST_BYTE[Kind.ALLOC] | 40 << 8).to_bytes(WIDTH, "little")
        [way] = [way for _, way in MUTATE._ways if way.__name__ == "_free_everything"]
        seen = set()
        for seed in range(60):
            kinds = [KINDS[code[0]] for code in way([request] * 5, Random(seed), 0)]
            before = kinds.index(Kind.FREE) if Kind.FREE in kinds else 0
            seen.add(before)
            assert kinds == [Kind.ALLOC] * before + [Kind.FREE] * before + [Kind.ALLOC] * (5 - before)
        assert seen == set(range(6))

    def test_fill_to_refusal(self):
        """Some child of an empty run fills a small heap until it refuses."""
        [way] = [way for _, way in MUTATE._ways if way.__name__ == "_fill"]
        refused = 0
        for seed in range(20):
            run = lift("tlsf,arena=1024,sl=2", bytes(LENGTH) + b"".join(way([], Random(seed), 0)))
            refused += run.checker.refusals > 0
        assert refused > 10

    def test_crossover_takes_from_both(self):
        """A child has operations of both parents, and only of them."""
        one, two = an_input(seed=1), an_input(seed=2)
        mine, others = set(apart(one)[2]), set(apart(two)[2])
        mixed = [set(apart(MUTATE.crossover(one, two, 4000, seed))[2]) for seed in SEEDS]
        assert all(child <= mine | others for child in mixed)
        assert sum(bool(child & mine) and bool(child & others) for child in mixed) > len(SEEDS) // 2


class TestParts:
    def test_apart_and_together(self):
        """Taking apart and putting together changes nothing."""
        data = an_input()
        which, head, codes = apart(data)
        assert together(which, head, codes, len(data)) == data
        assert unpack(data) == data[PREFIX:]

    def test_heads(self):
        """A head becomes zeros, random, or differs in little."""
        head = bytes(range(1, LENGTH + 1))
        heads = [another_head(head, Random(seed)) for seed in SEEDS]
        assert all(len(other) == LENGTH for other in heads)
        assert bytes(LENGTH) in heads
        changed = {sum(a != b for a, b in zip(head, other, strict=True)) for other in heads}
        assert changed >= {1, 2, LENGTH}
