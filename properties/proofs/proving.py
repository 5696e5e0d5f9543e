"""Proving a theorem: every path through the target's code, and on each a question to the solver.

What the solver says is never believed alone.  A counterexample is evaluated on integers, by the same code,
and only what is wrong there too is refuted; for a wrong target it is then told as a trace, which must break
a law in a replay.  What the solver does not know, and what is claimed of no value at all, is inconclusive.

>>> from heaplaw.properties.proofs.theorems import find
>>> prove(find("tlsf/serves-enough"), "tlsf").verdict, prove(find("tlsf/serves-enough"), "tlsf+T15").verdict
('proved', 'refuted')
"""

import time
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any, NamedTuple

from z3 import Z3Exception

from heaplaw.checker import Hang
from heaplaw.impls.naming import parse
from heaplaw.impls.registry import factory
from heaplaw.trace import MAGIC, Trace, TraceError

from ..replay import replay
from ..watchdog import watchdog
from .paths import STEPS, Paths, Unsure, Vacuous
from .theorems import Control, Given, GivenWords, Theorem
from .verdicts import PROVED, REFUTED, UNCLEAR
from .words import TooNarrow

SPARE = 8  # bits by which words are wider than the machine's
SECONDS = 60.0  # of wall time, and of CPU time where no solver is asked: ceiling for one theorem
TRIES = 8  # counterexamples that a story is sought for


class Proof(NamedTuple):
    """What came of a theorem on a target."""

    theorem: str
    target: str
    verdict: str
    paths: int = 0
    seconds: float = 0.0  # in the solver; of hint rules and contracts, in all
    values: tuple[tuple[str, int], ...] = ()  # the inputs of a counterexample
    trace: str = ""  # that shows it
    law: str = ""  # that the trace breaks
    why: str = ""  # it is not proved


def bits_of(target: str) -> int:
    """Bits of the machine's word: a parameter of some targets, else 64."""
    word = parse(target).parameters.get("word", 64)
    return int(word) * (8 if int(word) < 32 else 1)


def prove(
    theorem: Theorem, target: str, *, steps: int = STEPS, seconds: float = SECONDS, control: Control | None = None
) -> Proof:
    """Prove or refute a theorem for a target; ``control``: where counterexamples are to be looked for.

    ``steps``: what the solver may do for one question, in its own unit, so that a busy machine changes no verdict;
    ``seconds``: the ceiling above it.  Raises TargetError.
    """
    build = factory(target)
    paths = Paths(bits_of(target) + SPARE, steps, time.monotonic() + seconds)
    proof = Proof(theorem.id, target, UNCLEAR, why="nothing is claimed of any value")
    try:
        with watchdog(seconds):  # a kernel may loop for ever where the solver is not asked
            for values in _looked_at(theorem, build, paths, control):
                if values is not None:
                    proof = _refuted(theorem, build, control, proof, values)
                elif proof.verdict != REFUTED:  # by another path, with nothing to show for it yet
                    proof = proof._replace(verdict=PROVED, why="")
                if proof.trace or proof.verdict == UNCLEAR:
                    break
    except (Unsure, TooNarrow) as problem:
        proof = proof if proof.verdict == REFUTED else proof._replace(verdict=UNCLEAR, why=str(problem))
    except Hang:
        proof = proof._replace(verdict=UNCLEAR, why="it does not come to an end")
    proof = proof._replace(paths=paths.count, seconds=paths.solving)
    if proof.verdict != REFUTED or proof.trace or control is not None:
        return proof
    return _smaller(theorem, proof, steps, seconds)


def _looked_at(
    theorem: Theorem, build: Callable[[], Any], paths: Paths, control: Control | None
) -> Iterator[dict[str, int] | None]:
    """Path by path: None where the claim holds for all that it is about, else some counterexamples."""
    tried = 0
    for path in paths:
        heap, given, found = build(), GivenWords(path), list[dict[str, int]]()
        try:
            said = _claim(theorem, heap, given)
            if control is not None and control.within is not None:
                given.assume(control.within(heap, given))
        except Vacuous:
            continue
        while (values := path.counterexample(said, found)) is not None:
            found.append(values)
            yield values
            tried += 1
            if tried == TRIES:
                return
        if not found and path.example() is not None:
            yield None


def _refuted(
    theorem: Theorem, build: Callable[[], Any], control: Control | None, proof: Proof, values: dict[str, int]
) -> Proof:
    """What a counterexample of the solver is worth; the first one is kept where none can be told."""
    if theorem.holds_for(build(), values):
        return proof._replace(verdict=UNCLEAR, why="the solver's counterexample is none for integers")
    known = proof if proof.verdict == REFUTED else proof._replace(verdict=REFUTED, values=tuple(values.items()), why="")
    told = _told(theorem, control, build(), known._replace(values=tuple(values.items())))
    return told if told.trace or not known.why else known


def _smaller(theorem: Theorem, proof: Proof, steps: int, seconds: float) -> Proof:
    """A counterexample that fits into a small heap, or another story of one."""
    for control in theorem.controls:
        if control.within is not None or control.trace is not None:
            other = prove(theorem, proof.target, steps=steps, seconds=seconds, control=control)
            if other.trace:
                return other
    return proof


def _claim(theorem: Theorem, heap: Any, given: Given) -> Any:
    """What the claim says; an exception of the target is a No.  Raises Vacuous; Unsure for what cannot be asked."""
    try:
        return theorem.claim(heap, given)
    except (Vacuous, Unsure, TooNarrow, Hang):
        raise
    except (AttributeError, TypeError, Z3Exception) as problem:  # a target that is made otherwise, or not for words
        raise Unsure(f"it cannot be asked: {problem}") from problem
    except Exception:
        return False


def _told(theorem: Theorem, control: Control | None, heap: Any, found: Proof) -> Proof:
    """The counterexample with a trace that breaks a law, where it can be told so."""
    story = control.trace if control is not None and control.trace is not None else theorem.trace
    try:
        trace = trace_of(found.target, story(heap, dict(found.values)).splitlines())
        broken = replay(trace, found.target).tally.findings
    except TraceError as problem:
        return found._replace(why=f"no trace can tell it: {problem}")
    if not broken:
        return found._replace(why="the trace that tells it breaks no law")
    first = next((one for one in broken if one.violation.law == theorem.law), broken[0])
    return found._replace(trace=str(first.trace), law=first.violation.law)


def trace_of(target: str, lines: Sequence[str]) -> Trace:
    """These operations, in the words of a trace file, as a trace on a target.  Raises TraceError."""
    return Trace.parse([MAGIC, f"target {target}", *(f"{number}  {line}" for number, line in enumerate(lines, 1))])


# ---- both worlds -------------------------------------------------------------------------------


def differs(theorem: Theorem, target: str, rng: Random) -> dict[str, int] | None:
    """Inputs, drawn at random, for which the claim says one thing of integers and another of words; None if equal.

    The words keep their bounds; only the solver knows what they are.
    """
    build = factory(target)
    given = Given(rng=rng)
    said = bool(theorem.said_of(build(), given))
    paths = Paths(bits_of(target) + SPARE)
    same = True
    for path in paths:
        fixed = _Fixed(path, given.values)
        try:
            words = _claim(theorem, build(), fixed)
            same = same and said == (path.counterexample(words) is None)
        except Vacuous:
            same = same and said
    return None if same else given.values


class _Fixed(GivenWords):
    """Words that can have one value only, though their bounds do not say so."""

    def __init__(self, path: Any, values: dict[str, int]) -> None:
        super().__init__(path)
        self._known = values

    def __call__(self, name: str, low: int, high: int) -> Any:
        word = super().__call__(name, low, high)
        if name in self._known and low < high:
            self.assume(word == self._known[name])
        return word
