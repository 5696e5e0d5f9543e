"""Bounded model checking with sizes that are not known: what is proved, refuted, and left open."""

from collections.abc import Iterator
from itertools import pairwise
from random import Random
from typing import Any

import pytest

from heaplaw.impls.registry import factory
from heaplaw.properties.proofs.bounded import Question, answer, explored, questions
from heaplaw.properties.proofs.every_size import Place, Walker
from heaplaw.properties.proofs.proving import PROVED, REFUTED, UNCLEAR
from heaplaw.properties.proofs.sizes import Sizes, Split, settled
from heaplaw.properties.replay import recurs
from heaplaw.protocol import Refusal

TLSF = "tlsf,arena=160,sl=1"
LOW_TLSF = f"{TLSF},top=8"
PERCPU = "percpu-bitmap,unit=24,block=8,chunks=1"
BUDDY = "buddy,pages=8,page_size=64"


@pytest.mark.parametrize(("target", "most"), [(LOW_TLSF, 3), (PERCPU, 2), (BUDDY, 5), (f"{TLSF},word=32", 1)])
def test_shipped_allocators_are_proved(target: str, most: int) -> None:
    """No trace of a few operations of any sizes breaks a law."""
    proof, search = explored(Question(target, most))
    assert (proof.verdict, proof.why, proof.trace) == (PROVED, "", "")
    assert len(search.levels) == most + 1
    assert search.classes > search.states > most
    assert proof.paths >= search.classes


def test_a_small_heap_is_proved_for_traces_of_any_length() -> None:
    """Where no operation leads to a new state any more, longer traces show nothing new."""
    proof, search = explored(Question("buddy,pages=2,page_size=64", 9))
    assert proof.verdict == PROVED
    assert search.closed
    assert len(search.levels) < 9
    assert not explored(Question("buddy,pages=2,page_size=64", 1))[1].closed


@pytest.mark.parametrize(
    ("target", "most", "length", "law"),
    [
        ("tlsf+T04,arena=160,sl=1", 2, 1, "big-enough"),
        ("tlsf+G27,arena=160,sl=1", 2, 1, "big-enough"),
        ("tlsf+T15,arena=160,sl=1", 2, 1, "no-spurious-refusal"),
        ("tlsf+G03,arena=160,sl=1", 2, 1, "big-enough"),
        ("tlsf+T02,arena=160,sl=1,top=8", 2, 1, "returns"),
        ("percpu-bitmap+B32,unit=24,block=8,chunks=1", 2, 1, "no-spurious-refusal"),
        ("percpu-bitmap+PD05,unit=24,block=8,chunks=1", 3, 2, "size-class"),
        ("buddy+G21,pages=8,page_size=64", 2, 1, "no-spurious-refusal"),
        ("buddy+B14,pages=8,page_size=64", 4, 3, "returns"),
    ],
)
def test_bugs_are_refuted(target: str, most: int, length: int, law: str) -> None:
    """A bug that needs a size, or a few operations, is found with a trace that breaks the law in a plain replay."""
    proof = answer(Question(target, most))
    assert (proof.verdict, proof.law) == (REFUTED, law)
    assert len(proof.trace.strip().splitlines()) == 3 + length
    assert recurs(proof.trace)


def test_no_shorter_trace_shows_it() -> None:
    """A trace is as short as can be: with one operation less, all is proved."""
    assert answer(Question("buddy+B14,pages=8,page_size=64", 2)).verdict == PROVED


def _states(walker: Walker, most: int) -> Iterator[Place]:
    """The states that a few operations lead to."""
    places = [walker.start()]
    for depth in range(most):
        yield from places
        places = [child for place in places for child, _, _ in walker.visit(place, depth, True)]


def _drawn(rng: Random, most: int) -> int:
    """A size of any magnitude, or at a power of two, or at the end of the word."""
    return min(most, max(0, rng.choice([(1 << rng.randrange(65)) + rng.randrange(-2, 3), rng.randrange(200), most])))


@pytest.mark.parametrize("target", [TLSF, PERCPU, BUDDY])
def test_classes_partition_all_sizes(target: str) -> None:
    """Every size is in one class of a state, and does what the class does."""
    rng = Random(5)
    sizes = Sizes(64)
    walker = Walker(factory(target), sizes)
    for place in list(_states(walker, 2))[:12]:
        classes = list(sizes.each(0, sizes.most, lambda size, at=place: _effect(walker, at, size)))  # type: ignore[misc]
        assert (classes[0][0], classes[-1][1]) == (0, 2**64 - 1)
        assert all(one[1] + 1 == two[0] for one, two in pairwise(classes))
        edges = {edge for low, high, _ in classes for edge in (low, high)}
        for size in edges | {_drawn(rng, sizes.most) for _ in range(60)}:
            (effect,) = [effect for low, high, effect in classes if low <= size <= high]
            assert effect == _effect(walker, place, size)


def _effect(walker: Walker, place: Place, size: Any) -> tuple[Any, bytes]:
    """What a request is answered, and the state after it."""
    target = walker.ints.target
    target.restore(place.state)
    told = settled(target.alloc(size))
    return told if not isinstance(told, Refusal) else told.value, walker._spelled(walker.ints)


def test_classes_of_what_tells_all_sizes_apart() -> None:
    """Code that tells sizes apart is cut where it does, and nowhere does an interval hold two of its answers."""
    sizes = Sizes(8)
    told = list(sizes.each(0, 255, lambda size: (settled(size // 100), bool(size & 128))))
    assert told == [(0, 99, (0, False)), (100, 127, (1, False)), (128, 199, (1, True)), (200, 255, (2, True))]
    assert len(list(sizes.each(3, 9, lambda size: bool(size & 1)))) == 7


def test_a_cut_is_no_exception_of_the_target() -> None:
    """A target that catches whatever fails cannot hide that sizes are told apart."""
    assert not issubclass(Split, Exception)

    def careless(size: Any) -> bool:
        try:
            return bool(size > 7)
        except Exception:
            return False

    assert [low for low, _, _ in Sizes(64).each(0, 99, careless)] == [0, 8]


def test_time_up_is_inconclusive() -> None:
    """What there was no time for is not proved, and neither is what the solver had no steps for."""
    proof, search = explored(Question(BUDDY, 6), seconds=0.2)
    assert (proof.verdict, proof.why) == (UNCLEAR, "time was up")
    assert not search.closed
    assert answer(Question(PERCPU, 3), steps=1).verdict == UNCLEAR


def test_the_same_question_has_the_same_answer() -> None:
    """Nothing but the target and the number of operations decides."""
    one, two = (explored(Question(LOW_TLSF, 2)) for _ in range(2))
    assert one[0]._replace(seconds=0) == two[0]._replace(seconds=0)
    assert one[1] == two[1]


def test_questions_name_three_allocators() -> None:
    """Each of the three is asked about, and no shorter traces where there is more time."""
    asked, deep = questions(), questions(deep=True)
    assert {one.theorem.split("/")[0] for one in asked} == {"tlsf", "percpu-bitmap", "buddy"}
    assert all(more.most >= one.most for one, more in zip(asked, deep, strict=False) if one.target == more.target)
