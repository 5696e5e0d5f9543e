"""An engine's work on a target that may take its process along: in as many forks as it takes.

The engine runs in a fork until its operations are done, a law breaks, or the fork is lost.  Then what it found is
made small, each try in a fork again; the law goes silent; and another fork goes on with the operations that are
left.  What the lost one had done by then stands in a journal, a line a run.
"""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any

from heaplaw.lawbook import LAWS
from heaplaw.operations import Operation
from heaplaw.properties.engines import ENGINES
from heaplaw.properties.tallying import MOST_HANGS, Seen, Tallying
from heaplaw.properties.verdict import Finding, Tally
from heaplaw.runs import Violation

from .child import CRASH, HANG, MEMORY, given_up
from .forkserver import Outcome
from .guard import Guard, unreturned
from .sanitizers import telling
from .tallies import as_data, from_data

_STEPWISE = ("plain", "hypothesis")  # engines that do nothing for long without an operation
_MOST_LOSSES, _MOST_UNCLEAR = 10, 3  # of forks: after them the target is left alone; without a trace that does it again
_LATE = 30.0  # seconds that an engine may take to end when its time is up


class Work:
    """One shard of a target, in as many forks as it takes."""

    def __init__(self, job: dict[str, Any], tally: Tally) -> None:
        self._guard, self._job, self.tally = Guard(job), job, tally
        self._journal: Path = job["found"].with_suffix(".runs")
        self._only = tuple(job.get("only", ()))
        self._mute = {law for law in LAWS if self._only and law not in self._only}
        self._started = time.monotonic()
        self._until = self._started + float(job["seconds"])
        self._pieces = self._losses = self._hangs = self._unclear = 0
        tally.planned = int(job["operations"])

    def done(self) -> Tally:
        """Do it all."""
        while self._wanted():
            self._piece()
        self.tally.seconds = time.monotonic() - self._started
        return self.tally

    def _wanted(self) -> bool:
        tally = self.tally
        if tally.operations < tally.planned and (self._losses >= _MOST_LOSSES or self._hangs >= MOST_HANGS):
            tally.stopped = given_up(self._losses)
        enough = tally.stopped or tally.operations >= tally.planned or len(self._mute) == len(LAWS)
        return not enough and (time.monotonic() < self._until or not self._pieces)

    def _piece(self) -> None:
        """Let the engine go on in a fork, and enter what becomes of it."""
        engine, tally, left = self._job["engine"], self.tally, self.tally.planned - self.tally.operations
        seed = self._job["seed"]
        if self._pieces:
            seed = Random(f"{seed} {self._pieces}").getrandbits(40)
        self._pieces += 1
        self._journal.write_bytes(b"")
        only = tuple(law for law in LAWS if law not in self._mute) if self._mute else ()

        def run() -> dict[str, Any]:
            with journaling(self._journal):
                done = ENGINES[engine](guarded.target, left, seed, only=only, most=1, deadline=self._until)
            return as_data(done)

        guarded, stepwise = self._guard, engine in _STEPWISE
        patience = 0.0 if stepwise else max(0.0, self._until - time.monotonic()) + _LATE
        ended = guarded.fork(run, patience, stepwise=stepwise)
        if ended.problem:
            tally.stopped = ended.problem
        elif ended.kind:
            self._lost(ended)
        else:
            self._take(from_data(ended.answer))

    def _take(self, piece: Tally) -> None:
        """Enter what a fork did that came back."""
        found, piece.findings = piece.findings, []
        early = piece.operations < piece.planned and not found
        self._add(piece)
        if early:  # it has had enough of the target, or time is up; whatever is left would end likewise
            self.tally.stopped = self.tally.stopped or ("" if time.monotonic() >= self._until else "it hangs")
            self._until = 0.0
        for one in found:
            self._found(one)

    def _add(self, piece: Tally) -> None:
        piece.planned, piece.lacking = 0, {}
        self.tally.add(piece)

    def _found(self, one: Finding) -> None:
        """A law is broken: less that breaks it too."""
        law, seen = one.violation.law, one.violation.seen
        kind = HANG if seen == "a hang" else MEMORY if seen.startswith("MemoryError") else ""
        small = None
        if law == "returns" and kind:
            self._hangs += kind == HANG
            small = self._cause(one.target, one.trace.operations, kind)
        else:
            small = self._guard.smaller(one.target, one.violation, tuple(self._mute))
            if small is None:  # or does it take the process along as soon as somebody looks?
                small = self._cause(one.target, one.trace.operations, CRASH)
        self._mute.add(law)
        if small is None:
            self._enter(one, sure=False)
        else:
            self._enter(small, like=one)

    def _cause(self, target: str, operations: Sequence[Operation], kind: str) -> Finding | None:
        if "returns" in self._mute:
            return None
        cause = self._guard.examine(target, operations, kind, tuple(self._mute))
        return self._guard.convicted(cause) if cause.kind else None

    def _lost(self, ended: Outcome) -> None:
        """Count what a lost fork had done, and look for the operations that took it along."""
        with suppress(ValueError):  # the line that it was writing
            for line in self._journal.read_text().splitlines():
                self._add(from_data(json.loads(line)))
        under_way = self._guard.crumbs.operations()
        self.tally.operations += len(under_way)
        self.tally.runs += 1
        self._losses += 1
        self._hangs += ended.kind == HANG
        if "returns" in self._mute:
            return
        like = Finding(self._guard.target, unreturned(under_way, ended.symptom), said=telling(ended.words))
        small = self._cause(self._guard.target, under_way, ended.kind)
        if small is not None:
            self._enter(small, like=like)
            return
        self._enter(like, sure=False)
        self._unclear += 1
        if self._unclear >= _MOST_UNCLEAR:
            self._mute.add("returns")

    def _enter(self, one: Finding, *, sure: bool = True, like: Finding | None = None) -> None:
        """Note a finding; ``like``: as it was met."""
        law, tally = one.violation.law, self.tally
        one.confirmed, one.after = sure, tally.operations
        one.length = like.length or len(like.trace.operations) if like is not None else one.length
        if sure:
            self._mute.add(law)
            tally.flaky = [other for other in tally.flaky if other.violation.law != law]
        piece = Tally(tally.target, tally.engine)
        (piece.findings if sure else piece.flaky).append(one)
        tally.add(piece)


@contextmanager
def journaling(path: Path) -> Iterator[None]:
    """Write down each run that is entered, while the body lasts, and leave what breaks as it was found.

    Making it small would be the end of this process; that is done elsewhere.
    """
    enter, convict = Tallying.enter, Tallying.convict
    with path.open("a", buffering=1) as file:

        def entered(work: Tallying, run: Seen) -> None:
            alone = Tallying.__new__(Tallying)
            alone.tally, alone.hangs = Tally(work.tally.target, work.tally.engine), 0
            enter(alone, run)
            file.write(json.dumps(as_data(alone.tally)) + "\n")
            enter(work, run)

        def noted(work: Tallying, variant: str, found: Violation, deadline: float = float("inf")) -> None:
            work.tally.findings.append(Finding(variant, found, after=work.tally.operations, length=found.index + 1))
            work.mute.add(found.law)

        Tallying.enter = entered  # type: ignore[method-assign, assignment]  # engines need not know of forks
        Tallying.convict = noted  # type: ignore[method-assign, assignment]
        try:
            yield
        finally:
            Tallying.enter, Tallying.convict = enter, convict  # type: ignore[method-assign]
