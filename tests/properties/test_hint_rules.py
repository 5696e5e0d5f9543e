"""Hint rules by induction: proved where they are kept, refuted by a trace where they are not."""

import pickle
from random import Random

import pytest

from heaplaw.impls.percpu_bitmap import PercpuBitmap
from heaplaw.impls.percpu_blocks import BlockHints
from heaplaw.impls.percpu_chunk import Chunk, RepairedChunk
from heaplaw.properties.proofs.hint_rules import (
    CONJUNCTS,
    REPAIRED,
    SENTENCES,
    Question,
    answer,
    controls,
    invariant,
    questions,
    questions_of,
    target_of,
)
from heaplaw.properties.replay import replay
from heaplaw.trace import Trace

SMALL = questions_of(REPAIRED, 2, 4)
MUTANT = f"{__name__}:KeepsLeftRun,unit=32,block=16,chunks=1"


class _KeepsLeft(RepairedChunk):
    """Does not forget the left run where an area begins in a block's largest run."""

    __slots__ = ()

    def break_contig(self, index: int, low: int) -> None:
        self.refresh_block(index)


class KeepsLeftRun(PercpuBitmap):
    """A planted mutant: see its chunks."""

    chunk_classes = {"": _KeepsLeft}  # noqa: RUF012 - as in the class that it changes


@pytest.mark.parametrize("step", ["fresh", "place", "scan", "hole", "alloc", "free"])
def test_repaired_rules_are_inductive_for_two_small_blocks(step: str) -> None:
    """Every step keeps the invariant of two blocks of 4 bits, whatever the bitmap, the hints and the area are."""
    asked = [one for one in SMALL if one.step == step and (step != "scan" or one.first == 1)]
    if step == "alloc":
        asked = [one for one in asked if (one.first, one.last) == (0, 1)]
    proofs = [answer(question) for question in asked]
    assert proofs
    assert all(proof.verdict == "proved" for proof in proofs), proofs


@pytest.mark.parametrize("control", controls(), ids=lambda control: control.target)
def test_published_rules_are_refuted_by_a_trace(control: Question) -> None:
    """What 4.14 and 2017-07 do to a chunk's hint is told by a trace, which breaks the same law again.

    An allocation leaves the hint's value, its place and its lag wrong; which is told depends on the solver's model.
    """
    proof = answer(control)
    told = {"hint-sound", "hint-region", "hint-slack"} if control.step == "alloc" else {"hint-region"}
    assert proof.verdict == "refuted", proof
    assert proof.law in told, proof
    laws = {one.violation.law for one in replay(Trace.parse(proof.trace), control.target).tally.findings}
    assert proof.law in laws
    repaired = target_of(REPAIRED, 3, 8)
    assert not replay(Trace.parse(proof.trace), repaired).tally.findings


def test_a_forgotten_left_run_is_no_proof() -> None:
    """A mutant that keeps a left run which was taken is refuted by a trace; the rules that it changes are proved."""
    theorem = "percpu-bitmap/block-hints-after-alloc"
    proof = answer(Question(theorem, MUTANT, "alloc", 0, 0))
    assert proof.verdict == "refuted", proof
    assert "left run" in proof.why
    laws = {one.violation.law for one in replay(Trace.parse(proof.trace), MUTANT).tally.findings}
    assert proof.law in laws


def test_the_invariant_is_what_real_chunks_keep() -> None:
    """Integers and words are judged by the same conjuncts: each holds of every chunk that operations lead to."""
    rng, target = Random(1), target_of(REPAIRED, 3, 8)
    for _ in range(60):
        chunk, areas = RepairedChunk(0, 3, 8), []
        for _ in range(rng.randrange(30)):
            if areas and rng.random() < 0.45:
                chunk.free_area(areas.pop(rng.randrange(len(areas))))
                continue
            bits, align = rng.choice((1, 1, 2, 3, 5, 9)), rng.choice((1, 1, 2, 4))
            start = chunk.find_block_fit(bits, align, False)
            if start >= 0 and (at := chunk.alloc_area(bits, align, start)) >= 0:
                areas.append(at)
            assert all(so for about in ("blocks", "chunk") for _, so in invariant(chunk, about, target))


@pytest.mark.parametrize("name", [one.name for one in CONJUNCTS])
def test_no_conjunct_is_always_true(name: str) -> None:
    """Each conjunct refuses some descriptors."""
    rng = Random(name)
    (conjunct,) = [one for one in CONJUNCTS if one.name == name]
    for _ in range(500):
        chunk = Chunk(0, 2, 4)
        chunk.used = [rng.randrange(16), rng.randrange(16)]
        hints = BlockHints(4)
        hints.set_fields(tuple(rng.randrange(5) for _ in range(7)))
        if not conjunct.holds(chunk, hints, 0):
            return
    raise AssertionError(name)


def test_no_solver_time_is_no_proof() -> None:
    """A solver that may do nothing, or has no time, proves nothing and refutes nothing."""
    question = Question("percpu-bitmap/chunk-hints-after-alloc", target_of(REPAIRED, 2, 4), "alloc", 0, 1, "chunk")
    assert answer(question, steps=1).verdict == "inconclusive"
    assert answer(question, seconds=0.0).verdict == "inconclusive"


def test_questions_are_independent() -> None:
    """Questions can be sent to other processes, are told apart, and each theorem has its sentence."""
    asked = [*questions(False), *questions(True), *controls()]
    assert pickle.loads(pickle.dumps(asked)) == asked
    assert len({str(one) for one in asked}) == len(asked)
    assert {one.theorem for one in asked} == set(SENTENCES)
