"""Bounded model checking: every trace of at most so many operations, whatever sizes they ask for.

The real implementation is run, state by state, breadth-first, with sizes that are not known: see
``every_size`` for one state, ``sizes`` for how all sizes of the machine's word are gone through.

Why every size is covered.  From every state a request is made with every size from 0 to the word's
greatest number, as intervals that follow each other without a gap.  Each interval is run on a word that
stands for all of its sizes, and the run is used only if every question that Python asks of it, in the
target and in the laws, has one answer for all of them.  So all of its sizes have one answer of the target
and one state after it; every law of the request (big-enough, waste-bound, aligned, served and refused as the
contract's predicates say, what makes no sense is refused, and what was freed can be had again) was asked of
all of them.  That the state is the same, and not only alike, is seen by comparing it, made of integers,
with those which the least and the greatest size lead to.  Laws about bytes are asked of these two: an
object's bytes are the first ones of those of the greatest of its class, which are all written and compared.

Why states may be joined.  Of a live object a state keeps the class of its size, not the size.  Where the
size comes up later (a free that is told it, the request for what was freed, a law of the state) it is a word
again, for the whole class.  Two ways that lead to one state of the target with objects of one class at the
same places are thus continued by the same traces, and the second is dropped.  Where a state depended on
a size itself, its word could not be made an integer, and the class would have been cut there.

What is bounded: the number of operations; the arena; alignments (1, and the least above the granule);
a heap with one client on one CPU, whose requests may sleep and whose page source refuses nothing.
The operations are requests, of sense or not, the free of any live object, the maintenance that the
contract knows, and a drain where nothing lives.  Resizing is left out.

>>> proof = answer(Question("buddy,pages=2,page_size=64", 3))
>>> proof.theorem, proof.verdict, proof.why
('buddy/every-trace-of-3', 'proved', '')
"""

import time
from collections.abc import Callable
from typing import NamedTuple

from heaplaw.impls.naming import parse
from heaplaw.impls.registry import factory
from heaplaw.operations import Kind, Operation
from heaplaw.trace import Trace

from ..replay import replay
from ..watchdog import watchdog, wind_up
from .every_size import Breach, Place, Step, Walker
from .paths import STEPS, Unsure
from .proving import Proof, bits_of
from .sizes import Sizes
from .verdicts import PROVED, REFUTED, UNCLEAR
from .words import TooNarrow

SECONDS = 60.0  # of CPU time, ceiling for one target
_HANG_SECONDS = 5.0  # CPU time for all that is done from one state
_NEVER = 1 << 30
_TARGETS = (  # operations by default, and with more time; the first and the last are closed: any number of them
    ("tlsf,arena=160,sl=1,top=8", 13, 13),
    ("tlsf,arena=160,sl=1", 5, 6),
    ("percpu-bitmap,unit=24,block=8,chunks=1", 5, 6),
    ("buddy,pages=16,page_size=64", 6, 8),
    ("buddy,pages=8,page_size=64", 13, 13),
)


class Question(NamedTuple):
    """Do the laws hold on every trace of at most ``most`` operations?"""

    target: str
    most: int

    @property
    def theorem(self) -> str:
        """Its name."""
        return f"{parse(self.target).base}/every-trace-of-{self.most}"


class Search(NamedTuple):
    """What was gone through."""

    states: int
    classes: int  # of requests from all of them
    runs: int  # intervals of sizes, run on words
    levels: tuple[int, ...]  # new states after 0, 1, 2 .. operations
    closed: bool  # did no operation lead to a new state any more?


def questions(deep: bool = False) -> list[Question]:
    """What is asked by default, or with more time."""
    return [Question(target, deeper if deep else most) for target, most, deeper in _TARGETS]


def answer(question: Question, steps: int = STEPS, seconds: float = SECONDS) -> Proof:
    """Proved, refuted by a shortest trace that the plain replayer has confirmed, or inconclusive.

    ``steps``: what the solver may do for one question, in its own unit; ``seconds``: a ceiling of CPU time.
    Raises TargetError; ValueError for a target that cannot be kept, or whose objects move.
    """
    return explored(question, steps, seconds)[0]


def explored(question: Question, steps: int = STEPS, seconds: float = SECONDS) -> tuple[Proof, Search]:
    """The same, and what was gone through."""
    sizes = Sizes(bits_of(question.target), steps, time.process_time() + seconds)
    walk = _Walk(Walker(factory(question.target), sizes))
    proof = Proof(question.theorem, question.target, PROVED)
    try:
        walk.go(question.most, sizes.deadline)
        if not walk.moved:
            proof = proof._replace(verdict=UNCLEAR, why="no operation leads anywhere")
    except (Unsure, TooNarrow) as problem:
        proof = proof._replace(verdict=UNCLEAR, why=str(problem))
    if walk.best is not None:  # a shortest one only if nothing was left open
        proof = _told(proof._replace(verdict=REFUTED, why=""), walk.steps_to(*walk.best), walk.best[1])
    search = walk.search()
    if proof.verdict == PROVED and search.closed:
        least = len(search.levels) - 1
        proof = proof._replace(why=f"no state is new after {least} operations, so it is so of any number of them")
    return proof._replace(paths=sizes.runs, seconds=sizes.solving), search


class _Walk:
    """The queue of states, in order of their distance from the fresh heap."""

    def __init__(self, walker: Walker) -> None:
        self.walker = walker
        start = walker.start()
        # state while it waits, which one it came from and by what, number of operations
        self._places: list[tuple[Place | None, int, Step | None, int]] = [(start, -1, None, 0)]
        self._known: set[int] = set()
        self._levels: list[int] = []
        self.best: tuple[int, Breach] | None = None
        self.shortest = _NEVER
        self._expanded = 0

    def go(self, most: int, deadline: float) -> None:
        """Visit everything that ``most`` operations reach and that can show anything shorter than what was found.

        Raises Unsure.
        """
        at = 0
        with watchdog(_HANG_SECONDS):
            while at < len(self._places):
                place, _, _, depth = self._places[at]
                if depth >= self.shortest:
                    return
                if time.process_time() > deadline:
                    raise Unsure("time was up")
                wind_up(_HANG_SECONDS)
                assert place is not None
                self._visit(at, place, depth, depth < most and depth + 1 < self.shortest)
                at += 1

    def _visit(self, at: int, place: Place, depth: int, expand: bool) -> None:
        walker = self.walker
        if at == 0:
            self._known.add(walker.mark(place))
        while len(self._levels) <= depth:
            self._levels.append(0)
        self._levels[depth] += 1
        self._expanded += expand
        for child, step, mark in walker.visit(place, depth, expand):
            if mark not in self._known:
                self._known.add(mark)
                self._places.append((child, at, step, depth + 1))
        for breach in walker.breaches:
            if depth + len(breach.steps) < self.shortest:
                self.best, self.shortest = (at, breach), depth + len(breach.steps)
        walker.breaches.clear()
        self._places[at] = (None, *self._places[at][1:])  # only the way there is needed any more

    @property
    def moved(self) -> bool:
        """Was there any state but the fresh heap's?"""
        return len(self._places) > 1

    def steps_to(self, at: int, breach: Breach) -> list[Step]:
        """From the fresh heap to what breaks the law."""
        steps = list(breach.steps)
        while at:
            _, at, step, _ = self._places[at]
            assert step is not None
            steps.insert(0, step)
        return steps

    def search(self) -> Search:
        """What was gone through so far."""
        visited = sum(self._levels)
        closed = visited == self._expanded == len(self._places) and self.best is None
        return Search(visited, self.walker.classes, self.walker.sizes.runs, tuple(self._levels), closed)


# ---- telling it -----------------------------------------------------------------------------------


def _told(proof: Proof, steps: list[Step], breach: Breach) -> Proof:
    """A trace of these steps that breaks a law in a plain replay; inconclusive without one."""
    law = breach.law
    for choose in (_greatest, _least):
        trace = Trace(_operations(steps, law, choose), {"target": proof.target, "law": law})
        found = replay(trace, proof.target).tally.findings
        if found:
            one = next((finding for finding in found if finding.violation.law == law), found[0])
            return proof._replace(trace=str(one.trace), law=one.violation.law)
    return proof._replace(verdict=UNCLEAR, why=f"not seen again in a plain replay: {breach.seen}", trace=str(trace))


def _least(step: Step) -> int:
    return step.low


def _greatest(step: Step) -> int:
    return step.high


def _operations(steps: list[Step], law: str, choose: Callable[[Step], int]) -> list[Operation]:
    """Steps as operations, with a size of each class."""
    operations: list[Operation] = []
    names: list[int] = []  # of live objects, in canonical order
    births = 0
    for index, step in enumerate(steps):
        if step.kind == Kind.ALLOC:
            size, last = choose(step), index == len(steps) - 1
            if last and law == "bad-size-rejected":
                operations.append(Operation(Kind.BAD_ALLOC, 0, size, 1, "huge" if size else "zero"))
                continue
            operations.append(Operation(Kind.ALLOC, births, size, step.align))
            if step.at >= 0:
                names.insert(step.at, births)
            births += 1
        elif step.kind == Kind.FREE:
            operations.append(Operation(Kind.FREE, names.pop(step.at)))
        elif step.kind == Kind.BAD_ALLOC:
            operations.append(Operation(Kind.BAD_ALLOC, 0, choose(step), step.align, step.mode))
        else:
            operations.append(Operation(Kind(step.kind), mode=step.mode))
    return operations


__all__ = ["SECONDS", "Question", "Search", "answer", "explored", "questions"]
