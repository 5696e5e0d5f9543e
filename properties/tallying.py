"""What engines that feed runs to a checker share: set-up, entries in a tally, what becomes of a violation.

>>> work = Tallying("buddy,pages=64", "plain", operations=100, seed=1)
>>> list(work.builders), work.done().reachable["coalesce both"]
(['buddy,pages=64'], True)
"""

import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from random import Random
from typing import Any, Protocol

from heaplaw.checker import Checker, Hang, lacking
from heaplaw.impls.registry import factory, variants
from heaplaw.lawbook import LAWS
from heaplaw.runs import Violation, pinpoint
from heaplaw.twins import TWIN_LAWS

from .reached import words
from .smaller_arena import reduced
from .verdict import Finding, Tally
from .watchdog import watchdog

MOST_HANGS = 2
"""A target that hangs more often is left alone: each costs its whole time limit."""

_REDUCE_SECONDS = 10.0  # for making a violation small, though time is up
_PINPOINT_SECONDS = 3.0, 0.02  # CPU time: at least, and for each operation when each is audited


class Seen(Protocol):
    """What a run leaves behind."""

    checker: Checker
    states: list[Hashable]
    reached: Counter[str]


class Tallying:
    """The work of one engine on one target: a tally that fills, and the laws that are muted by and by."""

    def __init__(
        self, name: str, engine: str, operations: int, seed: int, only: Iterable[str] = (), most: int | None = None
    ) -> None:
        """``only`` limits the laws, ``most`` the findings.  Raises TargetError."""
        self.tally = Tally(name, engine, planned=operations)
        wanted = set(only)
        self.mute = {law for law in LAWS if wanted and law not in wanted}
        self.tally.lacking.update(dict.fromkeys(self.mute, "not asked for"))
        self.rng = Random(f"{engine} {name} {seed}")
        self.builders: dict[str, Callable[[], Any]] = {variant: factory(variant) for variant in variants(name)}
        self._asked_of = frozenset(self.mute)
        self.hangs = 0
        self._most = len(LAWS) if most is None else most
        self._started, self._used = time.monotonic(), time.process_time()
        for build in self.builders.values():
            checker = Checker(build())
            reasons = lacking(checker.shows, checker.contract)
            for law, why in reasons.items():
                self.tally.lacking.setdefault(law, why)
            self.tally.asked.update(dict.fromkeys(LAWS.keys() - reasons.keys() - self.mute, True))

    def wanted(self, deadline: float) -> bool:
        """Is there budget left, and is the target worth it?  ``deadline`` is a ``time.monotonic`` value."""
        tally = self.tally
        if self.hangs >= MOST_HANGS or len(tally.findings) >= self._most:
            return False
        return tally.operations < tally.planned and time.monotonic() < deadline

    def enter(self, run: Seen) -> None:
        """Count a run that has ended."""
        tally, checker = self.tally, run.checker
        self.hangs += checker.problem == "a hang"
        tally.operations += checker.index + 1
        tally.runs += 1
        tally.refusals += checker.refusals
        tally.skipped += checker.skipped
        tally.evidence.update(checker.evidence())
        tally.novelty.seen.update(run.states)
        tally.reached.update(run.reached)

    def convict(self, variant: str, found: Violation, deadline: float = float("inf")) -> None:
        """Make a violation small, enter it, and mute its law so that the others go on.

        ``deadline``: a ``time.monotonic`` value; some seconds after it at the latest it gets no smaller.
        """
        build, mute = self.builders[variant], self.mute
        if found.law not in TWIN_LAWS:
            found = pinpoint_bounded(build, found, mute)
        seconds, length = time.process_time() - self._used, found.index + 1
        deadline = max(deadline, time.monotonic() + _REDUCE_SECONDS)
        small = Finding(*reduced(variant, found, tuple(mute), deadline=deadline))
        small.after, small.seconds, small.length = self.tally.operations, seconds, length
        self.tally.findings.append(small)
        mute.add(found.law)

    def done(self) -> Tally:
        """The tally, with the time that it took and the states that there were to reach."""
        for build in self.builders.values():
            self.tally.reachable.update(dict.fromkeys(words(build, self._asked_of), True))
        self.tally.seconds = time.monotonic() - self._started
        return self.tally


def pinpoint_bounded(build: Callable[[], Any], found: Violation, mute: Iterable[str]) -> Violation:
    """Name the first operation that breaks a law; where only the looking is slow, leave it as found."""
    least, each = _PINPOINT_SECONDS
    try:
        with watchdog(least + each * len(found.trace.operations)):
            again = pinpoint(build, found, mute=mute)
    except Hang:
        return found
    return found if again.law == "returns" != found.law else again
