"""Work on a target that may take its process along: every piece of it is done in a fork of a child process.

The engine runs in a fork until its operations are done, a law breaks, or the fork is lost.  Then what it found is
made small, each try in a fork again; the law goes silent; and another fork goes on with the operations that are
left.  What the lost one had done by then stands in a journal, a line a run.

    {"do": "fresh", "target", "engine", "only"}     can it be made?  An empty tally: what could be asked
    {"do": "guard", ...}                            an engine's work: see ``guard``
    {"do": "again", "target", "trace"}              a trace under all laws
    {"do": "smaller", "target", "trace"}            a counterexample made smaller
    {"do": "film", "target", "trace"}               what the heap looked like after each step
    {"do": "prose", "target"}                       its state machine in words
    {"do": "input", "target", "input", ...}         an input of the fuzzer: what it breaks, made small
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from heaplaw.checker import Checker
from heaplaw.impls.registry import factory, is_linux, is_native, variants
from heaplaw.lawbook import LAWS
from heaplaw.operations import Operation
from heaplaw.properties.engines import ENGINES
from heaplaw.properties.frames import Film, Frame, frames
from heaplaw.properties.kernel_terms import told_of
from heaplaw.properties.minimize import TWINS, minimize
from heaplaw.properties.old_traces import ANOTHER, NO_LONGER, STILL
from heaplaw.properties.replay import NAME as REPLAY
from heaplaw.properties.replay import replay
from heaplaw.properties.smaller_arena import reduced
from heaplaw.properties.strip import strips
from heaplaw.properties.tallying import MOST_HANGS, Seen, Tallying
from heaplaw.properties.verdict import Finding, Tally
from heaplaw.runs import Violation
from heaplaw.trace import Trace, render
from heaplaw.twins import TWIN_LAWS

from .child import CRASH, HANG, MEMORY
from .crumbs import Recorder
from .forkserver import Outcome, Violated, attempt, settle, with_answer
from .inputs import PREFIX
from .postmortem import Cause, examine
from .sanitizers import telling
from .tallies import as_data, finding_data, finding_from, from_data

_STEPWISE = ("plain", "hypothesis")  # engines that do nothing for long without an operation
_MOST_LOSSES, _MOST_UNCLEAR = 10, 3  # of forks: after them the target is left alone; without a trace that does it again
_TRIES, _LOOKS = 600, 200  # of a round, for making a violation small; counted, so that the clock decides nothing
_SMALL_SECONDS, _SLOW_SECONDS = 40.0, 20.0  # unless it takes much too long; where each try costs its whole limit
_LEAST_SECONDS = 5.0  # for making one small, however late it is
_QUICK_SECONDS = 10.0  # where a try needs no fork
_PATIENCE = 2.0  # seconds of CPU time that a try may take
_PICTURE_SECONDS = _MAKE_SECONDS = 10.0
_LATE = 30.0  # seconds that an engine may take to end when its time is up


class _Way(NamedTuple):
    """How a law is asked about."""

    law: str
    mute: tuple[str, ...]
    walks: bool
    twins: int


def _ways(law: str, mute: Sequence[str]) -> list[_Way]:
    """Alone; with the others, as it was found; and without an audit before the end, where each fails otherwise."""
    others = tuple(other for other in LAWS if other != law)
    twins = TWINS if law in TWIN_LAWS else 0
    return [_Way(law, others, True, twins), _Way(law, tuple(mute), True, twins), _Way(law, tuple(mute), False, twins)]


class _Guard:
    """How forks are made for a job: with which memory and patience."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.target: str = job["target"]
        self.memory, self.patience = int(job["memory"]), float(job["patience"])
        self.crumbs: Recorder = job["crumbs"]
        self._until = time.monotonic() + float(job.get("seconds", float("inf")))
        self._builders: dict[str, Callable[[], Any]] = {}

    def share(self, usual: float) -> float:
        """Seconds for making one finding small: a third of what is left, so that many do not cost many times that."""
        return max(_LEAST_SECONDS, min(usual, (self._until - time.monotonic()) / 3))

    def fork(self, call: Callable[[], Any], patience: float = 0.0, *, stepwise: bool = True) -> Outcome:
        """Do it in a fork, which hangs when it does no operation for so long."""
        self.crumbs.forget()
        moves = self.crumbs.moves if stepwise else lambda: None
        return with_answer(call, patience or self.patience, memory=self.memory, moves=moves)

    def load(self) -> Outcome:
        """Make the target here as well, once it was made in a fork: what it loads is there for all that follow.

        How that fork was lost, if it was.  Raises TargetError.
        """
        ended = self.fork(lambda: factory(self.target)() is None, max(self.patience, _MAKE_SECONDS))
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
        seconds = self.share(_SMALL_SECONDS if kind == CRASH else _SLOW_SECONDS)
        patience = min(_PATIENCE, self.patience)
        return examine(target, operations, kind, seconds, mute=mute, patience=patience, memory=self.memory)

    # ---- findings ------------------------------------------------------------------------------

    def smaller(
        self, target: str, found: Violation, mute: Sequence[str] = (), *, same_operation: bool = False
    ) -> Finding | None:
        """A violation made small, by tries that each end a fork; None where it does not recur in one.

        ``mute``: the laws to leave out where the law alone will not break.
        """
        ways = _ways(found.law, mute)
        if not is_native(target):  # it does nothing worse to its process than to end it, most likely
            quick = self._quickly(target, found, mute, same_operation)
            if quick is not None and any(self.breaks(quick.target, quick.trace.operations, way) for way in ways):
                return self.drawn(quick)
        operations = found.trace.operations[: found.index + 1]
        culprit = operations[-1].kind if same_operation and operations else None
        for way in ways:

            def fails(some: Sequence[Operation], way: _Way = way) -> bool:
                seen = self.breaks(target, some, way)
                return seen is not None and culprit in (None, some[seen.at].kind)

            if not fails(operations):
                continue
            deadline = time.monotonic() + self.share(_SMALL_SECONDS)
            small = minimize(operations, fails, _TRIES, _LOOKS, deadline=deadline)
            for best in (small, operations):
                if (seen := self.breaks(target, best, way)) is not None:
                    return self.drawn(Finding(target, _violation(seen, best)))
        return None

    def breaks(self, target: str, operations: Sequence[Operation], way: "_Way") -> Violated | None:
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
        whole = Outcome() if seen else self.fork(lambda: strips(build, made, found=one.violation), _PICTURE_SECONDS)
        if whole.answer is None:
            before = self.fork(lambda: strips(build, made[:-1]), _PICTURE_SECONDS).answer
            lines = before or [f"{at + 1:>3}  {render(op)}" for at, op in enumerate(made[:-1])]
            last = [f"{len(made):>3}  {render(made[-1])}  {seen}".rstrip()] if made else []
            one.picture = [*lines, *last]
        else:
            one.picture = whole.answer
            if is_linux(one.target):
                one.told = self.fork(lambda: told_of(one.target, made), _PICTURE_SECONDS).answer or []
        return one


# ---- an engine's work ------------------------------------------------------------------------------------


def fresh(job: dict[str, Any]) -> dict[str, Any]:
    """Make the target in each configuration: an empty tally, which says what can be asked; or what was ``lost``."""
    guard, only = _Guard(job), tuple(job.get("only", ()))

    def made() -> dict[str, Any]:
        work = Tallying(guard.target, job["engine"], 0, 0, only)
        contract = next(iter(work.builders.values()))().contract
        return {**_known(work.tally), "traits": [list(contract.maintenance), contract.arena]}

    ended = guard.fork(made, max(guard.patience, _MAKE_SECONDS))
    if ended.kind:
        return {"lost": ended.symptom, "said": telling(ended.words)}
    return ended.answer if ended.answer is not None else {"error": "problem", "why": _without_type(ended.problem)}


def _known(tally: Tally) -> dict[str, Any]:
    return {"tally": as_data(tally)}


def _without_type(problem: str) -> str:
    """TargetError's words are for people; any other problem keeps its type."""
    return problem.removeprefix("TargetError: ")


def guard(job: dict[str, Any]) -> dict[str, Any]:
    """An engine's ``operations`` on a target, whatever it does to its process: the tally, findings made small.

    ``target``, ``engine``, ``operations``, ``seed`` and ``only`` say all; ``seconds`` bounds it.
    """
    known = fresh(job)
    if "tally" not in known:
        return known
    _Guard(job).load()
    return _known(_Work(job, from_data(known["tally"])).done())


class _Work:
    """One shard of a target, in as many forks as it takes."""

    def __init__(self, job: dict[str, Any], tally: Tally) -> None:
        self._guard, self._job, self.tally = _Guard(job), job, tally
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
            tally.stopped = f"it took {self._losses} processes along"
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
        like = Finding(self._guard.target, _unreturned(under_way, ended.symptom), said=telling(ended.words))
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


def _unreturned(operations: Sequence[Operation], symptom: str) -> Violation:
    trace = Trace(list(operations), {"law": "returns"})
    return Violation("returns", max(0, len(operations) - 1), "an answer", symptom, trace)


def _violation(seen: Violated, operations: Sequence[Operation]) -> Violation:
    trace = Trace(list(operations[: seen.at + 1]), {"law": seen.law})
    return Violation(seen.law, seen.at, seen.expected, seen.seen, trace, seen.heap)


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


# ---- traces ----------------------------------------------------------------------------------------------


def again(job: dict[str, Any]) -> dict[str, Any]:
    """Replay a trace under all laws: its ``tally`` and ``figures``, and whether it took its process along."""
    guarded, trace = _Guard(job), Trace.parse(job["trace"])
    ended = guarded.load()
    if not ended.kind:
        ended = guarded.fork(lambda: _replayed(trace, guarded.target, bool(job.get("answers"))))
    if ended.problem:
        return {"error": "problem", "why": _without_type(ended.problem)}
    if not ended.kind:
        return {"lost": "", **_pictured(guarded, ended.answer)}
    operations = trace.operations
    reached = min(guarded.crumbs.count, len(operations))
    before = Trace(operations[: max(0, reached - 1)], trace.header)
    answer = guarded.fork(lambda: _replayed(before, guarded.target)).answer if reached else None
    if answer is None:
        answer = {"tally": as_data(Tally(guarded.target, REPLAY)), "figures": {}}
    tally = from_data(answer["tally"])
    tally.operations, tally.planned, tally.runs = reached, len(operations), 1
    law = trace.header.get("law", "")
    if law not in ("", "returns") and all(one.violation.law != law for one in tally.findings):
        alone = next(filter(None, (guarded.breaks(guarded.target, operations, way) for way in _ways(law, ()))), None)
        if alone is not None:
            tally.findings.append(Finding(guarded.target, _violation(alone, operations)))
    lost = Finding(guarded.target, _unreturned(operations[:reached], ended.symptom), said=telling(ended.words))
    tally.findings = [one for one in tally.findings if one.violation.law != "returns"] + [lost]
    return {"lost": ended.symptom, **_pictured(guarded, {"tally": as_data(tally), "figures": answer["figures"]})}


def _replayed(trace: Trace, target: str, answers: bool = False) -> dict[str, Any]:
    done = replay(trace, target, answers=answers)
    return {"tally": as_data(done.tally), "figures": asdict(done.figures)}


def _pictured(guarded: _Guard, answer: dict[str, Any]) -> dict[str, Any]:
    tally = from_data(answer["tally"])
    tally.findings = [guarded.drawn(one) for one in tally.findings]
    return {**answer, "tally": as_data(tally)}


def smaller(job: dict[str, Any]) -> dict[str, Any]:
    """A counterexample on a target: what becomes of it there, in words, and the least that breaks the same.

    The law that it names is asked first, alone: others may be in its way.
    """
    guarded, trace = _Guard(job), Trace.parse(job["trace"])
    law, operations = trace.header.get("law", ""), trace.operations
    guarded.load()
    build = factory(guarded.target)
    alone = tuple(other for other in LAWS if other != law)
    ways = [((), TWINS)] if not law else [(alone, TWINS if law in TWIN_LAWS else 0), ((), TWINS)]
    for mute, twins in ways:
        ended = guarded.attempt(build, operations, mute=mute, twins=twins)
        if ended.kind and law in ("", "returns"):
            break
        if ended.answer is not None:
            break
    if ended.kind:
        cause = guarded.examine(guarded.target, operations, ended.kind, mute)
        small = guarded.convicted(cause) if cause.kind else None
    elif ended.answer is not None:
        same = bool(job.get("same_operation"))
        small = guarded.smaller(guarded.target, _violation(ended.answer, operations), mute, same_operation=same)
    else:
        small = None
    if small is None:
        return {"outcome": NO_LONGER, "finding": None}
    return {"outcome": STILL if law in ("", small.violation.law) else ANOTHER, "finding": finding_data(small)}


def written_out(job: dict[str, Any]) -> dict[str, Any]:
    """The target's state machine as ``prose``; or how the fork was ``lost`` that it was made in."""
    from heaplaw.properties.machine import prose, rule_machine  # needs Hypothesis

    guarded = _Guard(job)
    ended = guarded.fork(lambda: prose(rule_machine(guarded.target)), max(guarded.patience, _MAKE_SECONDS))
    if ended.kind:
        return {"lost": ended.symptom}
    return {"prose": ended.answer} if not ended.problem else {"error": "problem", "why": _without_type(ended.problem)}


def of_input(job: dict[str, Any]) -> dict[str, Any]:
    """What an ``input`` of the native fuzzer breaks, made small: a ``finding``, or none of the laws not in ``mute``.

    ``every_kind``: how it is read (see ``foretold``).
    """
    guarded, mute = _Guard(job), tuple(job["mute"])
    ended = guarded.load()
    if not ended.kind and not ended.problem:
        ended = guarded.fork(lambda: _foretold(guarded.target, bytes.fromhex(job["input"]), bool(job["every_kind"])))
    if ended.kind or ended.problem:
        return {"finding": None, "why": ended.symptom or ended.problem}
    operations = Trace.parse(ended.answer).operations
    build, small = factory(guarded.target), None
    for walks in (True, False):  # an audit after each operation sees more, but is not what has happened
        ended = guarded.attempt(build, operations, mute=mute, twins=TWINS, walks=walks)
        if ended.kind or ended.answer is not None:
            break
    if ended.answer is not None:
        small = guarded.smaller(guarded.target, _violation(ended.answer, operations), mute)
    if small is None and "returns" not in mute and ended.kind:
        cause = guarded.examine(guarded.target, operations, ended.kind, mute)
        small = guarded.convicted(cause) if cause.kind else None
    if small is not None:
        small.length = len(operations)
    return {"finding": None if small is None else finding_data(small), "why": ended.symptom}


def _foretold(target: str, data: bytes, every_kind: bool) -> str:
    """The operations of an input."""
    from .foretold import foretell  # needs cffi, as the target does

    checker = Checker(factory(target)())
    return str(Trace(foretell(data[PREFIX:], checker.contract, checker.can, every_kind=every_kind)))


def film(job: dict[str, Any]) -> dict[str, Any]:
    """The ``film`` of a trace; where the last operation takes the process along, what was before it; else None."""
    guarded, operations = _Guard(job), Trace.parse(job["trace"]).operations
    lost = guarded.load()
    if lost.kind:
        return {"film": None}
    build = factory(guarded.target)
    whole = guarded.fork(lambda: frames(build, operations).as_data(), _PICTURE_SECONDS)
    if whole.answer is not None:
        return {"film": whole.answer}
    before = guarded.fork(lambda: frames(build, operations[:-1]).as_data(), _PICTURE_SECONDS).answer
    if before is None:
        return {"film": None}
    known, symptom = Film.from_data(before), whole.symptom or whole.problem
    live = known.frames[-1].live if known.frames else []
    known.frames.append(Frame(len(operations), render(operations[-1]), symptom, problem=symptom, live=live))
    return {"film": known.as_data()}
