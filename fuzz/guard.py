"""What a guarded job is done with: forks of this process, and findings made small by tries that each end one.

Whatever a target may do to its process it does in a fork; what is learned of it comes back as a ``Violated`` law, or
as how the fork was lost.  A finding is made small in the same way, and drawn.

>>> [way.walks for way in ways_to_ask("disjoint", ())]
[True, True, False]
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from heaplaw.impls.naming import is_linux, is_native
from heaplaw.impls.registry import factory, variants
from heaplaw.lawbook import LAWS
from heaplaw.operations import Operation
from heaplaw.properties.kernel_terms import told_of
from heaplaw.properties.minimize import TWINS, minimize
from heaplaw.properties.smaller_arena import reduced
from heaplaw.properties.strip import strips
from heaplaw.properties.verdict import Finding
from heaplaw.runs import Violation
from heaplaw.trace import Trace, render
from heaplaw.twins import TWIN_LAWS

from .child import CRASH
from .crumbs import Recorder
from .forkserver import Outcome, Violated, attempt, settle, with_answer
from .postmortem import Cause, examine
from .sanitizers import telling
from .tallies import finding_data, finding_from

_TRIES, _LOOKS = 600, 200  # of a round, for making a violation small; counted, so that the clock decides nothing
_SMALL_SECONDS, _SLOW_SECONDS = 40.0, 20.0  # unless it takes much too long; where each try costs its whole limit
_SLOW_PARTS = 3  # of the time that is left: there are few such findings, and each try costs much
_LEAST_SECONDS = 5.0  # for making one small, however late it is
_QUICK_SECONDS = 10.0  # where a try needs no fork
_PATIENCE = 2.0  # seconds of CPU time that a try may take
PICTURE_SECONDS = MAKE_SECONDS = 10.0
"""Seconds of CPU time that a fork may take to draw a heap, or to make its target."""


class Way(NamedTuple):
    """How a law is asked about."""

    law: str
    mute: tuple[str, ...]  # laws that are silent
    walks: bool  # is there an audit after each operation, or one at the end only?
    twins: int  # targets beside it that are asked the same


def ways_to_ask(law: str, mute: Sequence[str]) -> list[Way]:
    """Alone; with the others, as it was found; and without an audit before the end, where each fails otherwise."""
    others = tuple(other for other in LAWS if other != law)
    twins = TWINS if law in TWIN_LAWS else 0
    return [Way(law, others, True, twins), Way(law, tuple(mute), True, twins), Way(law, tuple(mute), False, twins)]


class Guard:
    """How forks are made for a job: with which memory and patience."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.target: str = job["target"]
        self.memory, self.patience = int(job["memory"]), float(job["patience"])
        self.crumbs: Recorder = job["crumbs"]
        self._until = time.monotonic() + float(job.get("seconds", float("inf")))
        self._builders: dict[str, Callable[[], Any]] = {}

    def share(self, usual: float, parts: int = 5) -> float:
        """Seconds for making one finding small: a part of what is left, so that many do not cost many times that."""
        return max(_LEAST_SECONDS, min(usual, (self._until - time.monotonic()) / parts))

    def fork(self, call: Callable[[], Any], patience: float = 0.0, *, stepwise: bool = True) -> Outcome:
        """Do it in a fork, which hangs when it does no operation for so long."""
        self.crumbs.forget()
        moves = self.crumbs.moves if stepwise else lambda: None
        return with_answer(call, patience or self.patience, memory=self.memory, moves=moves)

    def load(self) -> Outcome:
        """Make the target here as well, once it was made in a fork: what it loads is there for all that follow.

        How that fork was lost, if it was.  Raises TargetError.
        """
        ended = self.fork(lambda: factory(self.target)() is None, max(self.patience, MAKE_SECONDS))
        if not ended.kind:
            for variant in variants(self.target):
                self._build(variant)
            settle()
        return ended

    def attempt(self, build: Callable[[], Any], operations: Sequence[Operation], **how: Any) -> Outcome:
        """A try."""
        return attempt(build, operations, min(_PATIENCE, self.patience), memory=self.memory, **how)

    def examine(self, target: str, operations: Sequence[Operation], kind: str, mute: Sequence[str] = ()) -> Cause:
        """Which of them takes the process along?"""
        seconds = self.share(_SMALL_SECONDS) if kind == CRASH else self.share(_SLOW_SECONDS, _SLOW_PARTS)
        patience = min(_PATIENCE, self.patience)
        return examine(target, operations, kind, seconds, mute=mute, patience=patience, memory=self.memory)

    # ---- findings ------------------------------------------------------------------------------

    def smaller(
        self, target: str, found: Violation, mute: Sequence[str] = (), *, same_operation: bool = False
    ) -> Finding | None:
        """A violation made small, by tries that each end a fork; None where it does not recur in one.

        ``mute``: the laws to leave out where the law alone will not break.
        """
        ways = ways_to_ask(found.law, mute)
        if not is_native(target):  # it does nothing worse to its process than to end it, most likely
            quick = self._quickly(target, found, mute, same_operation)
            if quick is not None and any(self.breaks(quick.target, quick.trace.operations, way) for way in ways):
                return self.drawn(quick)
        operations = found.trace.operations[: found.index + 1]
        culprit = operations[-1].kind if same_operation and operations else None
        for way in ways:

            def fails(some: Sequence[Operation], way: Way = way) -> bool:
                seen = self.breaks(target, some, way)
                return seen is not None and culprit in (None, some[seen.at].kind)

            if not fails(operations):
                continue
            deadline = time.monotonic() + self.share(_SMALL_SECONDS)
            small = minimize(operations, fails, _TRIES, _LOOKS, deadline=deadline)
            for best in (small, operations):
                if (seen := self.breaks(target, best, way)) is not None:
                    return self.drawn(Finding(target, violation_of(seen, best)))
        return None

    def breaks(self, target: str, operations: Sequence[Operation], way: Way) -> Violated | None:
        """Do these break the law that is asked about?"""
        seen: Violated | None = self.attempt(
            self._build(target), operations, mute=way.mute, twins=way.twins, walks=way.walks
        ).answer
        return seen if seen is not None and seen.law == way.law else None

    def _build(self, target: str) -> Callable[[], Any]:
        """What makes the target, looked up once."""
        if target not in self._builders:
            self._builders[target] = factory(target)
        return self._builders[target]

    def _quickly(self, target: str, found: Violation, mute: Sequence[str], same_operation: bool) -> Finding | None:
        """All of the tries in one fork, as it is done for targets that are trusted."""

        def small() -> dict[str, Any]:
            deadline = time.monotonic() + _QUICK_SECONDS
            there = reduced(target, found, tuple(mute), same_operation=same_operation, deadline=deadline)
            return finding_data(Finding(*there))

        answer = self.fork(small).answer
        return finding_from(answer) if answer is not None else None

    def convicted(self, cause: Cause) -> Finding:
        """What takes its process along, as a finding: a call did not return."""
        made = list(cause.operations)
        found = Violation("returns", len(made) - 1, "an answer", cause.symptom, Trace(made, {"law": "returns"}))
        return self.drawn(Finding(cause.target, found, said=telling(cause.words)))

    def drawn(self, one: Finding) -> Finding:
        """With its picture, which is drawn in a fork as well; where that is lost, without what the last one did."""
        made, seen = one.trace.operations, one.violation.seen if one.violation.law == "returns" else ""
        build = factory(one.target)
        whole = Outcome() if seen else self.fork(lambda: strips(build, made, found=one.violation), PICTURE_SECONDS)
        if whole.answer is None:
            before = self.fork(lambda: strips(build, made[:-1]), PICTURE_SECONDS).answer
            lines = before or [f"{at + 1:>3}  {render(op)}" for at, op in enumerate(made[:-1])]
            last = [f"{len(made):>3}  {render(made[-1])}  {seen}".rstrip()] if made else []
            one.picture = [*lines, *last]
        else:
            one.picture = whole.answer
            if is_linux(one.target):
                one.told = self.fork(lambda: told_of(one.target, made), PICTURE_SECONDS).answer or []
        return one


def unreturned(operations: Sequence[Operation], symptom: str) -> Violation:
    """The law that calls return is broken by the last of these; ``symptom``: how the process was lost."""
    trace = Trace(list(operations), {"law": "returns"})
    return Violation("returns", max(0, len(operations) - 1), "an answer", symptom, trace)


def violation_of(seen: Violated, operations: Sequence[Operation]) -> Violation:
    """What a fork has told of these operations, as engines tell it; its trace ends where the law breaks."""
    trace = Trace(list(operations[: seen.at + 1]), {"law": seen.law})
    return Violation(seen.law, seen.at, seen.expected, seen.seen, trace, seen.heap)
