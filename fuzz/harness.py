"""The harness: one ``TestOneInput`` for any target, run by libFuzzer through atheris.

An input is a run (see ``inputs``); a law that breaks is raised, so that libFuzzer writes ``crash-<sha1>`` and ends
with 77.  libFuzzer takes the process over and ends it without Python's leave, so whoever wants to know more than
its exit code names a file for a report, which is written every second, before a law is raised, and at the end.

>>> from heaplaw.fuzz.inputs import pack
>>> harness = Harness("buddy,pages=64")
>>> harness(pack(bytes(8))), harness(b"no input")
(0, -1)
"""

import json
import mmap
import os
import pickle
import sys
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from struct import Struct
from typing import Any, Literal

from heaplaw.codec import Codec
from heaplaw.impls.registry import factory, variants
from heaplaw.properties.tallying import MOST_HANGS, Tallying
from heaplaw.properties.verdict import USAGE, Tally
from heaplaw.properties.workhorse import Fed
from heaplaw.runs import Violation

from .extras import FUZZ, needed
from .feedback import Counters, Observed, Seen, instrument
from .inputs import unpack, variant_of
from .mutator import Mutator
from .options import Problem

NAME = "fuzz"
PLAN = "HEAPLAW_FUZZ"
"""Environment variable that holds a ``Plan`` as JSON; missing fields keep their defaults."""
COVERAGE = ("states", "code", "both")
MUTATORS = ("operations", "bytes")
_REPORT_SECONDS = 1.0
_LAST, _SIZE = 1 << 20, 4  # bytes of the file that holds the last input; of its length in there
_DONE = Struct("<QQ")  # at its end: operations and inputs


class LawBroken(Exception):  # noqa: N818 - what was looked for, not an error
    """A law does not hold; the text has what heaplaw's own reports have."""


@dataclass(frozen=True)
class Plan:
    """How to fuzz; all but the targets."""

    coverage: Literal["states", "code", "both"] = "states"
    mutator: Literal["operations", "bytes"] = "operations"
    mute: tuple[str, ...] = ()  # laws that are not asked
    operations: int = 0  # to end after; 0: no limit
    runs: int = 0  # inputs to end after, those among them that are none; 0: no limit
    deadline: float = 0.0  # to end at, a time.monotonic value; 0: none
    report: str = ""  # file that is written
    last: str = ""  # file that holds the input that runs, should the process be lost with it

    @classmethod
    def from_environment(cls) -> "Plan":
        """The plan in HEAPLAW_FUZZ.  Raises Problem for what is none."""
        try:
            given = json.loads(os.environ.get(PLAN) or "{}")
            if unknown := given.keys() - {field.name for field in fields(cls)}:
                raise ValueError(f"it has no {sorted(unknown)[0]!r}")
            plan = cls(**given | {"mute": tuple(given.get("mute", ()))})
        except (ValueError, TypeError, AttributeError) as problem:
            raise Problem(f"{PLAN} is no plan for fuzzing: {problem}") from None
        if plan.coverage not in COVERAGE or plan.mutator not in MUTATORS:
            raise Problem(f"{PLAN}: coverage is one of {', '.join(COVERAGE)}, mutator one of {', '.join(MUTATORS)}")
        return plan

    @property
    def environment(self) -> dict[str, str]:
        """What hands it to a process."""
        return {PLAN: json.dumps(asdict(self))}


@dataclass
class Report:
    """What a process that fuzzed has done."""

    tally: Tally
    executed: int = 0  # inputs, those among them that are none
    features: int = 0  # distinct ones that runs have shown
    law: str = ""  # that was broken at last
    why: str = ""  # it ended: "operations", "runs", "deadline", "hangs", "a law"; empty: it was interrupted
    seconds: float = 0.0
    instrumented: tuple[str, ...] = ()


class Fuzzed(Fed):
    """A run that takes down what it has reached."""

    watch: Observed

    def _start(self, density: int) -> None:
        super()._start(density)
        self.watch = Observed(self.checker, self.reached)

    def _measure(self) -> None:
        """Nothing: libFuzzer climbs no figures."""

    @property
    def features(self) -> set[Hashable]:
        return self.watch.features


class Harness:
    """``TestOneInput`` for one target or several; an input's header says which configuration it is for."""

    mutator = Mutator

    def __init__(self, *targets: str) -> None:
        self.targets = targets
        self._ready = False
        self.counters: Counters | None = None

    def prepare(self, plan: Plan | None = None) -> None:
        """Make everything that a run needs.  Raises TargetError and Problem."""
        self.plan = plan or Plan.from_environment()
        self.names = [variant for target in self.targets for variant in variants(target)]
        self.builders: list[Callable[[], Any]] = [factory(name) for name in self.names]
        self.work = Tallying(self.targets[0], NAME, 0, 0)
        self.mute = frozenset(self.plan.mute)
        self.seen = Seen()
        self.report = Report(self.work.tally)
        self._last = _Last(self.plan.last) if self.plan.last else None
        self._started = self._reported = time.monotonic()
        self._ready = True

    def __call__(self, data: bytes) -> int:
        """Run one input: 0, or -1 for what is none, which libFuzzer then does not keep.  Raises LawBroken."""
        if not self._ready:
            self.prepare()
        self.report.executed += 1
        body = unpack(data)
        if body is None:
            self._look()
            return -1
        if self._last is not None:
            self._last.keep(data)
        which = self.names.index(variant_of(data, self.names))
        run = Fuzzed(self.builders[which], body, self.mute)
        found = run.go()
        numbers = self.seen.of_run(run.states, run.reached, run.features)
        if self.counters is not None:
            self.counters.mark(numbers)
        self.work.enter(run)
        if found is not None:
            self._write_report("a law", found.law)
            raise LawBroken(told(self.names[which], found))
        self._look()
        return 0

    def fuzz(self, arguments: Sequence[str] | None = None) -> None:
        """Hand the process to libFuzzer; does not return.  ``arguments``: those of the command line, as libFuzzer's."""
        try:
            self.prepare()
            atheris = needed("atheris", FUZZ)
            if self.plan.coverage != "code":
                self.counters = Counters()
            if self.plan.coverage != "states":
                self.report.instrumented = self._instrumented()
        except (Problem, ValueError, AttributeError) as problem:  # a TargetError is a ValueError
            text = problem.format_message() if isinstance(problem, Problem) else str(problem)
            print(f"heaplaw: {text}", file=sys.stderr)
            sys.exit(USAGE)
        how: dict[str, Any] = {}
        if self.plan.mutator == "operations":
            mutate = self.mutator([len(Codec(build().contract).sizes) for build in self.builders])
            how = {"custom_mutator": mutate, "custom_crossover": mutate.crossover}
        atheris.Setup(list(sys.argv if arguments is None else arguments), self, **how)
        atheris.Fuzz()

    def _instrumented(self) -> tuple[str, ...]:
        """Let the code of the targets be followed; the modules that are."""
        return tuple(sorted({name for target in self.targets for name in instrument(target)}))

    # ---- when to end -------------------------------------------------------------------

    def _look(self) -> None:
        """Write the report when it is time, and end where the plan says so."""
        plan, now = self.plan, time.monotonic()
        if why := self._over(now):
            self._write_report(why)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)  # libFuzzer knows no other way out of a run
        if plan.report and now - self._reported > _REPORT_SECONDS:
            self._reported = now
            self._write_report()

    def _over(self, now: float) -> str:
        plan = self.plan
        if plan.operations and self.work.tally.operations >= plan.operations:
            return "operations"
        if plan.runs and self.report.executed >= plan.runs:
            return "runs"
        if plan.deadline and now >= plan.deadline:
            return "deadline"
        return "hangs" if self.work.hangs >= MOST_HANGS else ""

    def _write_report(self, why: str = "", law: str = "") -> None:
        if not self.plan.report:
            return
        report = self.report
        report.features, report.why, report.law = len(self.seen), why, law
        report.seconds = time.monotonic() - self._started
        path = Path(self.plan.report)
        fresh = path.with_suffix(".new")
        fresh.write_bytes(pickle.dumps(report))
        fresh.replace(path)


class _Last:
    """A file that survives its process, and costs a copy of the input, no more."""

    def __init__(self, path: str) -> None:
        Path(path).write_bytes(bytes(_LAST))
        with Path(path).open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _LAST)

    def keep(self, data: bytes) -> None:
        """Remember an input; one that is too long is remembered in part."""
        data = data[: _LAST - _SIZE - _DONE.size]
        self._map[: _SIZE + len(data)] = len(data).to_bytes(_SIZE, "little") + data

    def count(self, operations: int, executed: int) -> None:
        """Remember how far it has come, for the case that no report says so."""
        self._map[-_DONE.size :] = _DONE.pack(operations, executed)


def last_input(path: Path) -> bytes:
    """The input that ran last; empty where none has."""
    data = path.read_bytes() if path.exists() else b""
    return data[_SIZE : _SIZE + int.from_bytes(data[:_SIZE], "little")]


def last_count(path: Path) -> tuple[int, int]:
    """(operations, inputs) that were counted before that; none where nobody counts."""
    data = path.read_bytes() if path.exists() else b""
    operations, executed = _DONE.unpack(data[-_DONE.size :]) if data else (0, 0)
    return operations, executed


def told(name: str, found: Violation) -> str:
    """A violation for libFuzzer's log: the law, and the trace as a file that ``heaplaw replay`` reads."""
    trace = found.trace
    trace.header["target"] = name
    return f"{name} breaks {found.law}: expected {found.expected}; seen {found.seen}\n{trace}"


def start(module: str, harness: Callable[[str], "Harness"]) -> None:
    """``python -m heaplaw.fuzz.MODULE TARGET [libFuzzer's options and corpus folders]``."""
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        print(f"heaplaw: which target? python -m heaplaw.fuzz.{module} TARGET [-runs=N] [CORPUS]", file=sys.stderr)
        sys.exit(USAGE)
    harness(sys.argv[1]).fuzz([sys.argv[0], *sys.argv[2:]])


if __name__ == "__main__":
    from heaplaw.fuzz import harness as known  # the module by its own name, which its reports are pickled under

    known.start("harness", known.Harness)
