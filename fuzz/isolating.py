"""Targets that may take their process along, as the command line sees them: nothing of them runs in this process.

Child processes do the work (see ``guarded``); this one hands it out and takes the answers.  It never forks.

>>> Bounds().memory >> 20
1024
"""

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from heaplaw.contract import Contract
from heaplaw.impls import naming
from heaplaw.impls.naming import TargetError, parse
from heaplaw.impls.native import system
from heaplaw.properties.frames import Film
from heaplaw.properties.old_traces import Again
from heaplaw.properties.replay import Figures, Replayed
from heaplaw.properties.shards import Shard, by_target, cut
from heaplaw.properties.verdict import Finding, Tally
from heaplaw.trace import Trace

from .child import Limits, Loss
from .crew import LocalCrew
from .options import Problem
from .sanitizers import environment, is_sanitized
from .tallies import finding_from, from_data

_SANITIZER = 1 << 30  # bytes that it takes for itself
_HEADROOM = 1 << 30  # bytes for the child beside the forks that it makes
_PATIENCE = 180.0  # seconds beyond a job's own, for making small what it finds; forks have much less
_SECONDS = 120.0  # for what is no engine's work
_PAUSE = 0.25  # seconds between two looks


class Bounds(NamedTuple):
    """What a target's processes may use."""

    memory: int = 1 << 30  # bytes resident
    patience: float = 5.0  # seconds of CPU time, or asleep, without another operation


class InternalError(RuntimeError):
    """What went wrong in a child was a mistake of ours."""


def needs_isolation(name: str) -> bool:
    """Is a target code that no interpreter protects this process from?  Raises TargetError."""
    return naming.is_native(name)


def refuse_native(names: Sequence[str]) -> None:
    """For what goes back to states that were left.  Raises Problem."""
    for name in names:
        if needs_isolation(name):
            raise Problem(
                f"{name} is machine code, whose states cannot be kept to go back to; check, fuzz and campaign take it"
            )


def loading(names: Sequence[str]) -> dict[str, str]:
    """What the environment of a process must say in which all of these native targets are made.  Raises TargetError."""
    return {**environment(Path(parse(name).base) for name in names), **_roomy(names)} if names else {}


def _roomy(names: Iterable[str]) -> dict[str, str]:
    """What mallocs of this machine want to be told, if one of these is one."""
    return system.environment() if any(map(naming.is_malloc, names)) else {}


class Guards:
    """Child processes for some targets: some that have a sanitizer's runtime, for those that need it, and others."""

    def __init__(self, names: Sequence[str], bounds: Bounds, jobs: int, folder: Path) -> None:
        libraries = {name: Path(parse(name).base) for name in names if needs_isolation(name)}
        self._sanitized = {name for name, library in libraries.items() if is_sanitized(library)}
        self._bounds, self._jobs, self._folder = bounds, jobs, folder
        self._libraries = libraries
        self._crews: dict[bool, LocalCrew] = {}

    def each(
        self, jobs: Sequence[dict[str, Any]], tell: Callable[[int], None] = lambda index: None
    ) -> list[dict[str, Any] | Loss]:
        """The answers to these jobs, in order.  A job's ``until`` is a ``time.monotonic`` value.

        ``tell`` is told the index of each that has ended.  Raises TargetError, InternalError.
        """
        answers: dict[int, dict[str, Any] | Loss] = {}
        for sanitized in (False, True):
            mine = [index for index, job in enumerate(jobs) if (job["target"] in self._sanitized) == sanitized]
            if mine:
                self._do(sanitized, jobs, mine, answers, tell)
        return [answers[index] for index in range(len(jobs))]

    def _do(
        self, sanitized: bool, jobs: Sequence[dict[str, Any]], mine: Sequence[int],
        answers: dict[int, dict[str, Any] | Loss], tell: Callable[[int], None],
    ) -> None:  # fmt: skip
        """Have those of the jobs done that are for such targets."""
        crew, waiting, running = self._crew(sanitized), list(reversed(mine)), dict[int, int]()
        common = {"memory": self._memory(sanitized), "patience": self._bounds.patience}
        while waiting or running:
            while waiting and crew.free > 0:
                index = waiting.pop()
                job = {"seconds": _SECONDS, "fresh": sanitized, **common, **jobs[index]}  # fresh: see ``settle``
                if "until" in job:
                    job["seconds"] = max(0.5, job["until"] - time.monotonic())
                running[crew.submit(job)] = index
            for ended in crew.wait(_PAUSE):
                index = running.pop(ended.ticket)
                answers[index] = _sound(ended.answer)
                tell(index)

    def _memory(self, sanitized: bool) -> int:
        """What a fork may have; a sanitizer takes some for itself, most of it to say where it was."""
        return self._bounds.memory + sanitized * _SANITIZER

    def _crew(self, sanitized: bool) -> LocalCrew:
        """Those who can load such libraries."""
        if sanitized not in self._crews:
            memory = self._memory(sanitized)
            some = [library for name, library in self._libraries.items() if (name in self._sanitized) == sanitized]
            limits = Limits(memory + _HEADROOM, memory, patience=_PATIENCE, bounded=not some)  # mallocs reserve much
            folder = self._folder / ("sanitized" if sanitized else "plain")
            there = {**environment(some), **_roomy(self._libraries)}
            self._crews[sanitized] = LocalCrew(self._jobs, folder, limits, there)
        return self._crews[sanitized]

    def one(self, job: dict[str, Any]) -> dict[str, Any] | Loss:
        """The answer to one job."""
        return self.each([job])[0]

    def close(self) -> None:
        """Drop everything."""
        for crew in self._crews.values():
            crew.close()


def _sound(answer: dict[str, Any] | Loss) -> dict[str, Any] | Loss:
    """An answer, unless it is a complaint.  Raises TargetError, InternalError."""
    if isinstance(answer, Loss) or "error" not in answer:
        return answer
    if answer["error"] == "internal":
        raise InternalError(answer["why"])
    raise TargetError(answer["why"])


def _lost(answer: dict[str, Any] | Loss) -> str | None:
    """How the process of a job was lost, or a fork of it; None where it was not."""
    return answer.why if isinstance(answer, Loss) else answer.get("lost")


@contextmanager
def guards(names: Sequence[str], bounds: Bounds, jobs: int = 1) -> Iterator[Guards]:
    """Child processes that are gone when this is left."""
    with tempfile.TemporaryDirectory(prefix="heaplaw-") as folder:
        crew = Guards(names, bounds, jobs, Path(folder))
        try:
            yield crew
        finally:
            crew.close()


# ---- what is asked of them ------------------------------------------------------------------------------


def fresh(
    crew: Guards, names: Sequence[str], engine: str, operations: int, only: Sequence[str]
) -> tuple[list[Tally], list[Tally]]:
    """(empty tallies of targets that can be made, those of targets that cannot, which say why).  Raises TargetError."""
    sound, lost = [], []
    jobs = [{"do": "fresh", "target": name, "engine": engine, "only": list(only)} for name in names]
    for name, answer in zip(names, crew.each(jobs), strict=True):
        if (how := _lost(answer)) is not None:
            why = f"building it took its process along: {how}"
            lost.append(Tally(name, engine, planned=operations, stopped=why))
        else:
            assert not isinstance(answer, Loss)
            sound.append(from_data(answer["tally"]))
    return sound, lost


def run_isolated(
    crew: Guards, work: Sequence[Shard], seconds: float, progress: Callable[[int], None] = lambda done: None
) -> list[Tally]:
    """One tally a target, in order of first appearance, its findings confirmed in fresh processes."""
    deadline = time.monotonic() + seconds
    done = 0

    def tell(index: int) -> None:
        nonlocal done
        done += work[index].operations
        progress(done)

    jobs = [{"do": "guard", **shard._asdict(), "until": deadline} for shard in work]
    merged = by_target(map(_tally, work, crew.each(jobs, tell)))
    confirm_apart(crew, merged)
    return merged


def checked_apart(name: str, engine: str, operations: int, seed: int, seconds: float) -> Tally:
    """What an engine makes of one target in child processes: for who has no command line.  Raises TargetError."""
    with guards([name], Bounds()) as crew:
        _, lost = fresh(crew, [name], engine, operations, ())
        if lost:
            return lost[0]
        [tally] = run_isolated(crew, cut([name], engine, operations, seed), seconds)
        return tally


def _tally(shard: Shard, answer: dict[str, Any] | Loss) -> Tally:
    """What a shard came to."""
    if isinstance(answer, Loss) or "lost" in answer:
        how = f"a {answer.kind}: {answer.why}" if isinstance(answer, Loss) else answer["lost"]
        return Tally(shard.target, shard.engine, planned=shard.operations, stopped=f"its process was lost, {how}")
    return from_data(answer["tally"])


def confirm_apart(crew: Guards, tallies: Sequence[Tally]) -> None:
    """Move findings that a fresh process does not see to ``flaky``."""
    found = [(tally, one) for tally in tallies for one in tally.findings]
    jobs = [_job("again", one.target, one.trace, fresh=True) for _, one in found]
    for (tally, one), answer in zip(found, crew.each(jobs), strict=True):
        one.confirmed = _seen_again(one, answer)
        if not one.confirmed:
            tally.findings.remove(one)
            tally.flaky.append(one)


def _seen_again(one: Finding, answer: dict[str, Any] | Loss) -> bool:
    law = one.violation.law
    if isinstance(answer, Loss):
        return law == "returns"
    return any(other["violation"]["law"] == law for other in answer["tally"]["findings"])


def _job(do: str, target: str, trace: Trace, **more: Any) -> dict[str, Any]:
    return {"do": do, "target": target, "trace": str(trace), **more}


class Traits(NamedTuple):
    """What a replay must know of a contract."""

    maintenance: tuple[str, ...] = ()
    arena: int = 0

    @classmethod
    def of(cls, contract: Contract) -> "Traits":
        return cls(tuple(contract.maintenance), contract.arena)


def traits(target: str) -> Traits:
    """Those of a target in a child process.  Raises TargetError, also where making it takes that along."""
    with guards([target], Bounds()) as crew:
        answer = crew.one({"do": "fresh", "target": target, "engine": "replay"})
    maintenance, arena = _made(target, answer)["traits"]
    return Traits(tuple(maintenance), arena)


def prose_apart(target: str) -> str:
    """The state machine of a target, written out in a child process.  Raises TargetError."""
    with guards([target], Bounds()) as crew:
        answer = crew.one({"do": "prose", "target": target})
    return str(_made(target, answer)["prose"])


def _made(target: str, answer: dict[str, Any] | Loss) -> dict[str, Any]:
    """The answer about a target that was made for it.  Raises TargetError where making it took a process along."""
    if (how := _lost(answer)) is not None:
        raise TargetError(f"cannot make {target!r}: it took its process along: {how}")
    assert not isinstance(answer, Loss)
    return answer


def _watched(target: str, answer: dict[str, Any] | Loss) -> dict[str, Any]:
    """The answer of who watched a target's forks.  Raises TargetError where that was lost as well."""
    if isinstance(answer, Loss):
        raise TargetError(f"{target} took the process along that was to watch it: {answer.why}")
    return answer


def replayed_apart(target: str, trace: Trace, *, always: bool = False, answers: bool = False) -> Replayed | None:
    """A trace under all laws in a child process; None where that can be done in this one.

    It can where the target is none of those that must not, unless the trace is said to break ``returns`` and takes
    its process along.  Raises TargetError.
    """
    always = always or needs_isolation(target)
    if not always and trace.header.get("law") != "returns":
        return None
    with guards([target], Bounds()) as crew:
        answer = _watched(target, crew.one(_job("again", target, trace, answers=answers)))
    if not always and not answer["lost"]:
        return None
    return Replayed(from_data(answer["tally"]), Figures(**answer["figures"]))


def smaller_apart(
    target: str, trace: Trace, *, always: bool = False, same_operation: bool = False
) -> tuple[Again, Finding | None] | None:
    """A counterexample made smaller in a child process, and what is found now; None where this process can do that.

    Raises TargetError.
    """
    if replayed_apart(target, trace, always=always) is None:
        return None
    with guards([target], Bounds()) as crew:
        answer = _watched(target, crew.one(_job("smaller", target, trace, same_operation=same_operation)))
    found = finding_from(answer["finding"]) if answer["finding"] is not None else None
    law, before = trace.header.get("law", ""), len(trace.operations)
    name = found.target if found is not None else target
    return Again(name, law, answer["outcome"], found.violation if found is not None else None, before), found


def filmed_apart(target: str, trace: Trace) -> Film | None:
    """The heap after each step of a trace, as a child process sees it; None where it was lost.  Raises TargetError."""
    with guards([target], Bounds()) as crew:
        answer = crew.one(_job("film", target, trace))
    return None if isinstance(answer, Loss) or answer["film"] is None else Film.from_data(answer["film"])
