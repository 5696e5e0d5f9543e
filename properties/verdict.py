"""Verdicts: what a run of an engine says of each law.

Inconclusive is not passed, and what did not run is not green.

>>> exit_code([]) == INCONCLUSIVE
True
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from heaplaw.lawbook import LAWS
from heaplaw.runs import Violation
from heaplaw.trace import Trace

from .state import Novelty


class Status(Enum):
    """The four verdicts, and a law that the target gives no occasion for."""

    PASSED = "passed"
    REFUTED = "refuted"
    INCONCLUSIVE = "inconclusive"
    NOT_RUN = "not run"
    NOT_APPLICABLE = "not applicable"


PASSED, COUNTEREXAMPLE, USAGE, INCONCLUSIVE, SELF_TEST_FAILED, INTERNAL = 0, 1, 2, 3, 4, 70
"""Exit codes of every command."""


@dataclass
class Finding:
    """A violation on a named target, and whether a fresh process saw it too."""

    target: str
    violation: Violation
    confirmed: bool = True
    after: int = 0  # operations that the engine had done when it met it
    seconds: float = 0.0  # of CPU time until then; no part of a report that is to be the same every time
    length: int = 0  # operations of the run in which it was met, before it was made small
    picture: list[str] = field(default_factory=list)  # the heap step by step, where only a lost process may draw it
    said: list[str] = field(default_factory=list)  # by the process that it took along: a sanitizer's lines
    told: list[str] = field(default_factory=list)  # the same in the terms of the code that it is about

    @property
    def trace(self) -> Trace:
        """The trace file of this finding."""
        header = {"target": self.target, "law": self.violation.law}
        return Trace(self.violation.trace.operations, header)


@dataclass
class Tally:
    """What one engine did with one target: mergeable, so that shards add up in any number."""

    target: str
    engine: str
    operations: int = 0
    planned: int = 0
    runs: int = 0
    refusals: int = 0
    skipped: int = 0
    seconds: float = 0.0
    evidence: Counter[str] = field(default_factory=Counter)
    lacking: dict[str, str] = field(default_factory=dict)  # law -> why it does not apply
    findings: list[Finding] = field(default_factory=list)
    flaky: list[Finding] = field(default_factory=list)
    novelty: Novelty = field(default_factory=Novelty)
    reached: Counter[str] = field(default_factory=Counter)  # named abstract states, see ``reached``
    stopped: str = ""  # why it ended early, where that is not for want of time
    reachable: dict[str, bool] = field(default_factory=dict)  # those that the target has, in the vocabulary's order
    asked: dict[str, bool] = field(default_factory=dict)  # laws that some configuration gives an occasion for

    def add(self, other: "Tally") -> None:
        """Take in another shard's tally."""
        self.operations += other.operations
        self.planned += other.planned
        self.runs += other.runs
        self.refusals += other.refusals
        self.skipped += other.skipped
        self.seconds += other.seconds
        self.evidence.update(other.evidence)
        for law, why in other.lacking.items():
            self.lacking.setdefault(law, why)
        for mine, new in ((self.findings, other.findings), (self.flaky, other.flaky)):
            for finding in new:
                _keep_smallest(mine, finding)
        self.novelty.seen.update(other.novelty.seen)
        self.reached.update(other.reached)
        self.reachable.update(other.reachable)
        self.stopped = self.stopped or other.stopped
        self.asked.update(other.asked)

    @property
    def never_reached(self) -> list[str]:
        """Named abstract states that the target has and that no run has seen."""
        return [word for word in self.reachable if not self.reached[word]]

    def status(self, law: str) -> Status:
        """The verdict on one law."""
        if any(finding.violation.law == law for finding in self.findings):
            return Status.REFUTED
        if law in self.lacking and not self.evidence[law]:
            return Status.NOT_APPLICABLE
        if not self.evidence[law]:
            return Status.NOT_RUN
        return Status.PASSED if self.operations >= self.planned else Status.INCONCLUSIVE


def _keep_smallest(findings: list[Finding], new: Finding) -> None:
    """One finding a law: the shortest trace, ties by its text."""
    for index, old in enumerate(findings):
        if old.violation.law == new.violation.law:
            findings[index] = min(old, new, key=lambda f: (len(f.trace.operations), str(f.trace)))
            return
    findings.append(new)
    order = list(LAWS)
    findings.sort(key=lambda finding: order.index(finding.violation.law))


def exit_code(tallies: Iterable[Tally], *, unmet: int = 0) -> int:
    """0 all passed, 1 counterexample, 3 inconclusive: a budget not reached, a flake, or nothing executed.

    ``unmet``: floors that were not reached; inconclusive as well.
    """
    tallies = list(tallies)
    if any(tally.findings for tally in tallies):
        return COUNTEREXAMPLE
    executed = [tally for tally in tallies if tally.operations and tally.evidence.total()]
    if len(executed) < len(tallies) or not tallies or any(t.flaky or t.operations < t.planned for t in tallies):
        return INCONCLUSIVE
    return INCONCLUSIVE if unmet else PASSED
