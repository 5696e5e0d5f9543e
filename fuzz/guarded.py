"""What is asked of a worker about a target that may take its process along: each piece is done in a fork of it.

    {"do": "fresh", "target", "engine", "only"}     can it be made?  An empty tally: what could be asked
    {"do": "guard", ...}                            an engine's work: see ``guard``
    {"do": "again", "target", "trace"}              a trace under all laws
    {"do": "smaller", "target", "trace"}            a counterexample made smaller
    {"do": "film", "target", "trace"}               what the heap looked like after each step
    {"do": "prose", "target"}                       its state machine in words
    {"do": "input", "target", "input", ...}         an input of the fuzzer: what it breaks, made small

``isolating`` asks all of this.  Every job has ``memory`` and ``patience`` besides, which bound its forks.
"""

from dataclasses import asdict
from typing import Any

from heaplaw.checker import Checker
from heaplaw.impls.registry import factory
from heaplaw.lawbook import LAWS
from heaplaw.properties.frames import Film, Frame, frames
from heaplaw.properties.minimize import TWINS
from heaplaw.properties.old_traces import ANOTHER, NO_LONGER, STILL
from heaplaw.properties.replay import NAME as REPLAY
from heaplaw.properties.replay import replay
from heaplaw.properties.tallying import Tallying
from heaplaw.properties.verdict import Finding, Tally
from heaplaw.trace import Trace, render
from heaplaw.twins import TWIN_LAWS

from .engine_in_forks import Work
from .forkserver import Outcome
from .guard import MAKE_SECONDS, PICTURE_SECONDS, Guard, unreturned, violation_of, ways_to_ask
from .inputs import PREFIX
from .sanitizers import telling
from .tallies import as_data, finding_data, from_data


def fresh(job: dict[str, Any]) -> dict[str, Any]:
    """Make the target in each configuration: an empty tally, which says what can be asked; or what was ``lost``."""
    guard, only = Guard(job), tuple(job.get("only", ()))

    def made() -> dict[str, Any]:
        work = Tallying(guard.target, job["engine"], 0, 0, only)
        contract = next(iter(work.builders.values()))().contract
        return {**_known(work.tally), "traits": [list(contract.maintenance), contract.arena]}

    ended = guard.fork(made, max(guard.patience, MAKE_SECONDS))
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
    Guard(job).load()
    return _known(Work(job, from_data(known["tally"])).done())


# ---- traces and inputs ------------------------------------------------------------------------------------


def again(job: dict[str, Any]) -> dict[str, Any]:
    """Replay a trace under all laws: its ``tally`` and ``figures``, and whether it took its process along."""
    guarded, trace = Guard(job), Trace.parse(job["trace"])
    ended = guarded.load()
    if not ended.kind:
        ended = guarded.fork(lambda: _replayed(trace, guarded.target, bool(job.get("answers"))))
    if ended.problem:
        return {"error": "problem", "why": _without_type(ended.problem)}
    if not ended.kind:
        return {"lost": "", **_pictured(guarded, ended.answer)}
    return {"lost": ended.symptom, **_pictured(guarded, _until_lost(guarded, trace, ended))}


def _until_lost(guarded: Guard, trace: Trace, ended: Outcome) -> dict[str, Any]:
    """What a replay came to that was lost: all before the operation that took it along, and that as a finding."""
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
        asked = (guarded.breaks(guarded.target, operations, way) for way in ways_to_ask(law, ()))
        if (alone := next(filter(None, asked), None)) is not None:
            tally.findings.append(Finding(guarded.target, violation_of(alone, operations)))
    lost = Finding(guarded.target, unreturned(operations[:reached], ended.symptom), said=telling(ended.words))
    tally.findings = [one for one in tally.findings if one.violation.law != "returns"] + [lost]
    return {"tally": as_data(tally), "figures": answer["figures"]}


def _replayed(trace: Trace, target: str, answers: bool = False) -> dict[str, Any]:
    done = replay(trace, target, answers=answers)
    return {"tally": as_data(done.tally), "figures": asdict(done.figures)}


def _pictured(guarded: Guard, answer: dict[str, Any]) -> dict[str, Any]:
    tally = from_data(answer["tally"])
    tally.findings = [guarded.drawn(one) for one in tally.findings]
    return {**answer, "tally": as_data(tally)}


def smaller(job: dict[str, Any]) -> dict[str, Any]:
    """A counterexample on a target: what becomes of it there, in words, and the least that breaks the same.

    The law that it names is asked first, alone: others may be in its way.
    """
    guarded, trace = Guard(job), Trace.parse(job["trace"])
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
        small = guarded.smaller(guarded.target, violation_of(ended.answer, operations), mute, same_operation=same)
    else:
        small = None
    if small is None:
        return {"outcome": NO_LONGER, "finding": None}
    return {"outcome": STILL if law in ("", small.violation.law) else ANOTHER, "finding": finding_data(small)}


def written_out(job: dict[str, Any]) -> dict[str, Any]:
    """The target's state machine as ``prose``; or how the fork was ``lost`` that it was made in."""
    from heaplaw.properties.machine import prose, rule_machine  # needs Hypothesis

    guarded = Guard(job)
    ended = guarded.fork(lambda: prose(rule_machine(guarded.target)), max(guarded.patience, MAKE_SECONDS))
    if ended.kind:
        return {"lost": ended.symptom}
    return {"prose": ended.answer} if not ended.problem else {"error": "problem", "why": _without_type(ended.problem)}


def of_input(job: dict[str, Any]) -> dict[str, Any]:
    """What an ``input`` of the native fuzzer breaks, made small: a ``finding``, or none of the laws not in ``mute``.

    ``every_kind``: how it is read (see ``foretold``).
    """
    guarded, mute = Guard(job), tuple(job["mute"])
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
        small = guarded.smaller(guarded.target, violation_of(ended.answer, operations), mute)
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
    guarded, operations = Guard(job), Trace.parse(job["trace"]).operations
    lost = guarded.load()
    if lost.kind:
        return {"film": None}
    build = factory(guarded.target)
    whole = guarded.fork(lambda: frames(build, operations).as_data(), PICTURE_SECONDS)
    if whole.answer is not None:
        return {"film": whole.answer}
    before = guarded.fork(lambda: frames(build, operations[:-1]).as_data(), PICTURE_SECONDS).answer
    if before is None:
        return {"film": None}
    known, symptom = Film.from_data(before), whole.symptom or whole.problem
    live = known.frames[-1].live if known.frames else []
    known.frames.append(Frame(len(operations), render(operations[-1]), symptom, problem=symptom, live=live))
    return {"film": known.as_data()}
