"""What a gate's run amounts to: the exit code, the last line, and what to do next.

A broken law decides; then a canary that was not found, since it makes every 'passed' worthless; then whatever did not
run, was not searched to its end, or fell short of a floor.  Nothing that did not run is green, but two things are not
held against a run: what does not apply, and what a change does not touch.
"""

from collections.abc import Sequence
from typing import NamedTuple

from heaplaw.properties.floors import Measured
from heaplaw.properties.verdict import (
    COUNTEREXAMPLE,
    INCONCLUSIVE,
    PASSED,
    SELF_TEST_FAILED,
    Status,
    Tally,
    exit_code,
)

from ..reports.model import Step
from ..reports.wording import counted
from . import again, canaries, strategy
from .running import LEFT_OUT, Gate


class Outcome(NamedTuple):
    """How it ends."""

    code: int
    verdict: str  # the last line but for what to do next
    advice: str


def outcome(gate: Gate, floors: Sequence[Measured]) -> Outcome:
    """The whole run in an exit code and two lines."""
    findings = gate.findings()
    stale = [step for step in gate.steps if step.name == again.LEDGER and step.verdict is Status.REFUTED]
    silent = [step for step in gate.steps if step.name == canaries.NAME and step.verdict is Status.REFUTED]
    if findings:
        where = len({gate.subject(one.target) for one in findings})
        subjects = len({gate.subject(target.name) for target in gate.targets})
        said = f"{counted(len(findings), 'law')} broken on {where} of {counted(subjects, 'target')}"
        return Outcome(COUNTEREXAMPLE, f"red: {said}", _to_fix(gate))
    if stale:
        said = f"{stale[0].subject} is a known divergence that does not fail as written down"
        todo = f"take its entry out of {gate.settings.file.name}; put the trace into {gate.settings.counterexamples}"
        return Outcome(COUNTEREXAMPLE, f"red: {said}", todo)
    if worse := [step for step in gate.steps if step.name == strategy.NAME and step.verdict is Status.REFUTED]:
        said = f"{worse[0].subject}: {worse[0].said}"
        return Outcome(COUNTEREXAMPLE, f"red: {said}", "'heaplaw compare' shows it trace by trace")
    if silent:
        said = f"{silent[0].subject} does not find the bug that is planted for it"
        return Outcome(SELF_TEST_FAILED, f"not green: {said}", "see what 'heaplaw selftest --quick' says")
    if unsure := _unsure(gate, floors):
        return Outcome(INCONCLUSIVE, f"not green: {unsure[0]}", unsure[1])
    if not gate.targets:
        return Outcome(PASSED, "not run: nothing to check, the change touches no target", "")
    total = sum(tally.operations for tally in gate.tallies)
    said = f"every step passed on {counted(len(gate.targets), 'target')}, {total:,} operations"
    if gate.left_out:
        said += f"; {counted(len(gate.left_out), 'target')} left out"
    return Outcome(PASSED, f"green: {said}", "")


def _to_fix(gate: Gate) -> str:
    """What to do about a broken law."""
    word = "heaplaw gate --quick" if gate.quick else "heaplaw gate"
    if gate.new:
        what = gate.new[0] if len(gate.new) == 1 else f"the {len(gate.new)} traces in {gate.settings.counterexamples}"
        return f"fix it, run '{word}' again, and commit {what}"
    return f"fix it, and run '{word}' again"


def _unsure(gate: Gate, floors: Sequence[Measured]) -> tuple[str, str] | None:
    """The first thing that stands in the way of green, and what to do about it; None where nothing does."""
    for step in gate.steps:
        if step.name != LEFT_OUT and step.verdict in (Status.NOT_RUN, Status.INCONCLUSIVE, Status.REFUTED):
            what = f"{step.name}{f' of {step.subject}' if step.subject else ''}"
            return f"{what}: {step.said}", "what did not run is not green; the line above says what is missing"
    if not gate.targets:
        return None
    for tally in gate.tallies:
        if exit_code([tally]) != PASSED:
            return _short(tally)
    if not gate.tallies:
        return "nothing was executed", "name targets and engines that can run"
    if unmet := [one for one in floors if not one.met]:
        return str(unmet[0]), "give more operations, or lower the floor if it cannot be reached"
    return None


def _short(tally: Tally) -> tuple[str, str]:
    """Why a tally says nothing."""
    what = f"{tally.engine} on {tally.target}"
    if tally.flaky:
        laws = ", ".join(finding.violation.law for finding in tally.flaky)
        return f"{what}: a violation of {laws} did not recur in a fresh process", "find out what it depends on"
    if not tally.operations or not tally.evidence.total():
        return f"{what}: nothing was executed{f' ({tally.stopped})' if tally.stopped else ''}", "see what it lacks"
    if tally.stopped:
        return f"{what} was not searched to its end: {tally.stopped}", "give it more --time"
    done = f"{tally.operations:,} of {tally.planned:,} operations"
    return f"{what}: time was up after {done}", "give more --time, or fewer --ops"


def step_of(tally: Tally) -> Step:
    """A tally in a line, for those who watch."""
    said = f"{tally.operations:,} operations"
    if tally.findings:
        laws = ", ".join(finding.violation.law for finding in tally.findings)
        return Step(tally.engine, tally.target, Status.REFUTED, f"{said}; breaks {laws}", tally.seconds)
    if exit_code([tally]) != PASSED:
        why = _short(tally)[0].partition(": ")[2] or tally.stopped
        verdict = Status.INCONCLUSIVE if tally.operations else Status.NOT_RUN
        return Step(tally.engine, tally.target, verdict, why, tally.seconds)
    chance = f", {tally.novelty.chance:.1%} chance of a new state" if tally.novelty.seen else ""
    return Step(tally.engine, tally.target, Status.PASSED, said + chance, tally.seconds)
