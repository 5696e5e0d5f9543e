"""Replaying a trace: a counterexample again, or what a real program recorded.

The plain replayer needs nothing but the specification and the target.  A finding
is confirmed by it in a fresh process before anyone is told.

>>> done = replay(Trace.parse(["heaplaw trace 1", "a = alloc 24", "free a", "b = alloc 24"]), "buddy,pages=64")
>>> done.tally.findings, done.figures.served, done.figures.peak_requested
([], 2, 24)
"""

import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field

from heaplaw.checker import Checker, Unusable, lacking
from heaplaw.impls.registry import factory
from heaplaw.lawbook import LAWS, Broken
from heaplaw.operations import Kind, Operation
from heaplaw.protocol import Refusal
from heaplaw.runs import SHORT, Violation, pinpoint, run, violation
from heaplaw.trace import Trace
from heaplaw.twins import TWIN_LAWS, compare_twins

from .minimize import TWINS
from .verdict import Finding, Tally
from .watchdog import watchdog

NAME = "replay"
_SECONDS = (10.0, 0.01)  # CPU time that a trace may use: at least, and for each operation
CONFIRM_SECONDS = 120  # of wall time, for a fresh process


@dataclass
class Figures:
    """What a replay measured; bytes unless said otherwise."""

    requests: int = 0
    served: int = 0
    peak_requested: int = 0
    peak_live: int = 0  # with slack, at the moment of the highest requested total
    footprint: int = 0  # highest address used or pages held, at its highest
    peak_objects: int = 0
    refused: dict[str, int] = field(default_factory=dict)  # why -> how many requests
    seconds: float = 0.0
    rate: float = 0.0  # checked operations a second
    same_answers: int = 0
    known_answers: int = 0
    first_difference: str = ""

    @property
    def internal(self) -> float:
        """Share of the live bytes that nobody asked for, at the peak."""
        return 1 - self.peak_requested / self.peak_live if self.peak_live else 0.0

    @property
    def external(self) -> float:
        """Share of the footprint that the peak's live bytes do not fill."""
        return 1 - self.peak_live / self.footprint if self.footprint else 0.0


@dataclass
class Replayed:
    """A replay's tally and figures."""

    tally: Tally
    figures: Figures = field(default_factory=Figures)


def replay(
    trace: Trace, target: str, *, progress: Callable[[int], None] = lambda done: None, answers: bool = False
) -> Replayed:
    """Run a trace on a target; a refuted law is muted and the trace run again for the others.

    ``answers``: compare the places given with those that the trace recorded.  ``progress`` is told the operations
    done.  Raises TargetError.
    """
    build = factory(target)
    operations = trace.operations
    tally = Tally(target, NAME, planned=len(operations))
    mute: list[str] = []
    seconds = _SECONDS[0] + _SECONDS[1] * len(operations)
    while True:
        with watchdog(seconds):
            found, checker, figures = _once(build, trace, mute, progress, answers)
        if not mute:
            tally.operations, tally.runs = checker.index + 1 if found is None else len(operations), 1
            tally.refusals, tally.skipped, tally.seconds = checker.refusals, checker.skipped, figures.seconds
            tally.lacking = lacking(checker.shows, checker.contract)
            first = figures
        tally.evidence |= checker.evidence()
        if found is None:
            _without_walks(build, trace, tally, mute)
            return Replayed(tally, figures if not mute else first)
        if found.law not in TWIN_LAWS:
            with watchdog(seconds):
                found = pinpoint(build, found, mute=mute)
        tally.findings.append(Finding(target, found))
        if found.law in mute:
            return Replayed(tally, first)
        mute.append(found.law)


def _without_walks(build: Callable[[], object], trace: Trace, tally: Tally, mute: Sequence[str]) -> None:
    """Where the trace names a law that has not broken: is it hidden by what fails before it is asked?

    A heap may be so broken that every audit before fails, or that it crashes when objects are read or written; then
    the law is asked alone.
    """
    law, operations = trace.header.get("law", ""), trace.operations
    if not mute or law in mute or law in TWIN_LAWS:
        return
    alone = [other for other in LAWS if other != law]
    for aside, audit_from in ((mute, len(operations)), (alone, 0)):
        with watchdog(_SECONDS[0] + _SECONDS[1] * len(operations)):
            found = run(build, operations, mute=aside, audit_from=audit_from)
        if found is not None and found.law == law:
            tally.findings.append(Finding(tally.target, found))
            return


def _once(
    build: Callable[[], object], trace: Trace, mute: Sequence[str], progress: Callable[[int], None], answers: bool
) -> tuple[Violation | None, Checker, Figures]:
    """One pass over the trace; audits after every operation when it is short."""
    operations = trace.operations
    short = len(operations) <= SHORT
    checker = Checker(build(), mute=mute, audit_every=1 if short else 0)
    checker.thorough = short
    figures = Figures(known_answers=len(trace.answers) if answers else 0)
    measure = _Measure(checker, figures)
    started = time.perf_counter()
    found = None
    try:
        for index, op in enumerate(operations):
            checker.step(op)
            measure.after(op)
            if answers and index in trace.answers:
                _compare(checker, figures, trace.answers[index])
            if not index & 0xFFF:
                progress(index)
        checker.finish()
        if short:
            compare_twins(checker, build, operations, TWINS)
    except Broken as broken:
        found = violation(checker, broken, operations)
    except Unusable:
        pass
    figures.seconds = time.perf_counter() - started
    figures.rate = (checker.index + 1) / figures.seconds
    asked = operations[: checker.index + 1]
    figures.requests, figures.served = sum(op.kind == Kind.ALLOC for op in asked), checker.served
    progress(len(operations))
    return found, checker, figures


def room(trace: Trace) -> int:
    """Bytes that a heap should have to hold a trace's live peak with some freedom."""
    sizes: dict[int, int] = {}
    live = peak = largest = 0
    for kind, name, size, align, _ in trace.operations:
        if kind in (Kind.ALLOC, Kind.REALLOC):
            live += size + 32 + align - sizes.get(name, 0)
            sizes[name] = size + 32 + align
            peak, largest = max(peak, live), max(largest, size)
        elif kind == Kind.FREE:
            live -= sizes.pop(name, 0)
    return peak + peak // 2 + 2 * largest


class _Measure:
    """Keeps the peaks while a trace runs."""

    def __init__(self, checker: Checker, figures: Figures) -> None:
        self.checker, self.figures = checker, figures
        self._tops: Counter[int] = Counter()
        self._refusals = 0

    def after(self, op: Operation) -> None:
        """Look at the heap after an operation.  O(1)."""
        if op.kind not in (Kind.ALLOC, Kind.REALLOC):
            return
        if self.checker.refusals != self._refusals:
            self._refusals = self.checker.refusals
            answer = self.checker.answer
            why = answer.value if isinstance(answer, Refusal) else Refusal.NO_MEMORY.value
            self.figures.refused[why] = self.figures.refused.get(why, 0) + 1
        shadow, figures, source = self.checker.shadow, self.figures, self.checker.source
        figures.peak_objects = max(figures.peak_objects, len(shadow))
        if source is not None and self.checker.contract.spaces == "pages":
            figures.footprint = max(figures.footprint, source.held * source.page_size)
        elif (block := shadow.live.get(op.name)) is not None:
            for space, start, length in block.extents:
                self._tops[space] = max(self._tops[space], start + length)
            figures.footprint = self._tops.total()
        if shadow.requested > figures.peak_requested:
            figures.peak_requested, figures.peak_live = shadow.requested, shadow.bytes


def _compare(checker: Checker, figures: Figures, recorded: int) -> None:
    """Hold a placement against the recorded one."""
    block = checker.shadow.live.get(checker.op.name)
    seen = block.extents[0][1] if block is not None and block.extents else None
    if seen == recorded:
        figures.same_answers += 1
    elif not figures.first_difference:
        figures.first_difference = f"allocation {checker.op.name + 1:,}: recorded {recorded}, here {seen}"


def confirm(finding: Finding) -> bool:
    """Does the plain replayer see the finding's law broken in a fresh process?"""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        try:
            return pool.submit(recurs, str(finding.trace)).result(timeout=CONFIRM_SECONDS)
        except (BrokenProcessPool, TimeoutError):
            return False


def recurs(text: str) -> bool:
    """Does a trace break the law that its header names, on the target that its header names?"""
    trace = Trace.parse(text)
    replayed = replay(trace, trace.target)
    return any(finding.violation.law == trace.header["law"] for finding in replayed.tally.findings)
