"""Traces that are run once more: committed counterexamples must pass, known divergences must still fail.

A counterexample passes when its target breaks no law by it, and when the law that it names could be asked: an
adapter that has lost a method would pass everything.  A known divergence is held strictly: it must break the law
that is written down, so that the ledger never goes stale.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from heaplaw.impls.naming import TargetError
from heaplaw.lawbook import LAWS
from heaplaw.properties.recorded import RecordingError, read_recording
from heaplaw.properties.replay import replay
from heaplaw.properties.shards import by_target
from heaplaw.properties.verdict import Status, Tally
from heaplaw.trace import Trace

from ..child import Loss
from ..isolating import Bounds, guards, needs_isolation
from ..options import Problem, bar
from ..reports.model import Step
from ..tallies import from_data
from .configuration import Known
from .running import Gate, clock, group

NAME, LEDGER = "counterexamples", "known divergences"
_LATE = "time was up; give more --time"


@dataclass
class Once:
    """A trace file, and what came of running it: a tally, or why there is none."""

    file: str
    trace: Trace = field(default_factory=Trace)
    tally: Tally | None = None
    why: str = ""

    @property
    def law(self) -> str:
        """The law that it says it breaks; empty where it says nothing."""
        return self.trace.header.get("law", "")

    @property
    def broken(self) -> list[str]:
        """The laws that broke."""
        return [finding.violation.law for finding in self.tally.findings] if self.tally is not None else []


def read(file: str) -> Once:
    """A trace file that names its target; with ``why`` where it cannot be used."""
    try:
        trace = read_recording(file).trace
    except (RecordingError, OSError) as problem:
        return Once(file, why=str(problem))
    one = Once(file, trace)
    if not trace.target:
        one.why = "it names no target; begin it with a line 'target NAME'"
    elif one.law and one.law not in LAWS:
        one.why = f"it names {one.law!r}, which is no law any more"
    return one


def known_divergences(known: Sequence[Known]) -> list[tuple[Known, str, str]]:
    """Each with its target and its law.  Raises Problem for one that names neither or cannot be read."""
    found = []
    for entry in known:
        one = read(entry.trace)
        law = entry.law or one.law
        if one.why:
            raise Problem(f"known divergence {entry.trace}: {one.why}")
        if not law:
            why = "it names no law, and neither does its entry; add law = 'ID' there"
            raise Problem(f"known divergence {entry.trace}: {why}")
        found.append((entry, one.trace.target, law))
    return found


def run(gate: Gate, ones: Sequence[Once]) -> None:
    """Run traces, those that may take the process along in children; each gets its tally, or its reason."""
    with bar("replaying", len(ones), "traces") as progress:
        apart = []
        for number, one in enumerate(ones):
            if not one.why and gate.late:
                one.why = _LATE
            if one.why:
                continue
            if needs_isolation(one.trace.target) or one.law == "returns":
                apart.append(one)
                continue
            try:
                one.tally = replay(one.trace, one.trace.target).tally
            except TargetError as problem:
                one.why = str(problem)
            progress(number)
        _run_apart(gate, apart)


def _run_apart(gate: Gate, ones: Sequence[Once]) -> None:
    names = [one.trace.target for one in ones]
    jobs = [{"do": "again", "target": one.trace.target, "trace": str(one.trace), "answers": False} for one in ones]
    with guards(list(dict.fromkeys(names)), Bounds(), gate.jobs) as crew:
        for one, job in zip(ones, jobs, strict=True):
            try:
                answer = crew.one(job)
            except TargetError as problem:
                one.why = str(problem)
                continue
            if isinstance(answer, Loss):
                one.why = f"it took the process along that was to watch it: {answer.why}"
            else:
                one.tally = from_data(answer["tally"])


# ---- what they must do ---------------------------------------------------------------------------


def counterexamples(gate: Gate, known: Sequence[Known]) -> None:
    """Every committed counterexample that is no known divergence, on the target that it names."""
    folder = Path(gate.settings.counterexamples)
    aside = {Path(one.trace).resolve() for one in known}
    files = [file for file in sorted(folder.glob("*.trace")) if file.resolve() not in aside]
    with clock() as since:
        ones = [read(str(file)) for file in files]
        if gate.left_out:
            ones = [one for one in ones if one.why or group(one.trace.target) not in gate.left_out]
        run(gate, ones)
        steps = [_passes(gate, one) for one in ones]
        seconds = since()
    if not steps:
        why = f"none in {folder}" if folder.is_dir() else f"there is no folder {folder} yet"
        steps = [Step(NAME, "", Status.NOT_APPLICABLE, why)]
    passed = sum(step.verdict is Status.PASSED for step in steps)
    gate.enter(NAME, steps, f"{passed} of {len(ones)} pass" if ones else steps[0].said, seconds)
    found = [(finding, one.file) for one in ones if one.tally is not None for finding in one.tally.findings]
    merged = by_target(one.tally for one in ones if one.tally is not None)
    kept = [finding for tally in merged for finding in tally.findings]
    gate.saved |= {(one.target, one.violation.law): file for one, file in found if any(one is other for other in kept)}
    gate.tallies += merged


def _passes(gate: Gate, one: Once) -> Step:
    tally = one.tally
    if tally is None:
        return Step(NAME, one.file, Status.NOT_RUN, one.why)
    _silence(tally, gate.muted(one.trace.target))
    if one.broken:
        return Step(NAME, one.file, Status.REFUTED, f"{one.trace.target} breaks {', '.join(one.broken)}")
    if one.law in gate.muted(one.trace.target):
        return Step(NAME, one.file, Status.NOT_APPLICABLE, f"{one.law} is not asked: {tally.lacking[one.law]}")
    if one.law in tally.lacking:
        return Step(NAME, one.file, Status.NOT_RUN, f"{one.law} could not be asked: {tally.lacking[one.law]}")
    if not tally.operations:
        return Step(NAME, one.file, Status.NOT_RUN, "nothing was executed")
    return Step(NAME, one.file, Status.PASSED, f"{one.law or 'every law'} holds")


def _silence(tally: Tally, muted: Mapping[str, str]) -> None:
    """Take out what a replay, which asks every law, has found of laws that are not asked."""
    for law, why in muted.items():
        tally.findings = [finding for finding in tally.findings if finding.violation.law != law]
        tally.evidence.pop(law, None)
        tally.lacking[law] = why


def divergences(gate: Gate, known: Sequence[tuple[Known, str, str]]) -> None:
    """Every known divergence must still fail, and by the law that is written down."""
    if not known:
        return
    with clock() as since:
        wanted = [(entry, law, read(entry.trace)) for entry, of, law in known if group(of) not in gate.left_out]
        run(gate, [one for _, _, one in wanted])
        steps = [_still_fails(entry, law, one) for entry, law, one in wanted]
        seconds = since()
    if steps:
        still = sum(step.verdict is Status.PASSED for step in steps)
        gate.enter(LEDGER, steps, f"{still} of {len(steps)} still fail as written down", seconds)


def _still_fails(entry: Known, law: str, one: Once) -> Step:
    if one.tally is None:
        return Step(LEDGER, entry.trace, Status.NOT_RUN, one.why)
    if law in one.broken:
        return Step(LEDGER, entry.trace, Status.PASSED, f"{one.trace.target} still breaks {law}: {entry.why}")
    if law in one.tally.lacking:
        return Step(LEDGER, entry.trace, Status.NOT_RUN, f"{law} could not be asked: {one.tally.lacking[law]}")
    now = f"breaks {', '.join(one.broken)} and not {law}" if one.broken else f"no longer breaks {law}"
    return Step(LEDGER, entry.trace, Status.REFUTED, f"{one.trace.target} {now}: take it out of the ledger")

