"""Fuzzing a native library, guided by the counters that clang has put into its code.

libFuzzer works in a process of its own, into which its functions are loaded before all else (atheris brings such a
library along), so that the counters of a library built with ``-fsanitize=fuzzer-no-link`` are its own.  That process
may be lost with any input; what did it is looked at in forks of a guarded child, as all natives are, and made small
there.  This process loads nothing.

>>> seen = "#2\\tINITED cov: 28 ft: 29 corp: 1/1b\\n#9\\tNEW    cov: 30 ft: 41 corp: 2/9b\\n"
>>> Edges().read(seen)
Edges(first=28, most=30, first_features=29, most_features=41)
"""

import re
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from heaplaw.impls import registry
from heaplaw.impls.naming import parse
from heaplaw.lawbook import LAWS
from heaplaw.properties.tallying import MOST_HANGS
from heaplaw.properties.verdict import Tally

from .child import Loss, given_up
from .engine import ARTIFACTS, Ended, Figures, HarnessError, Session, Settings
from .extras import FUZZ, missing
from .harness import NAME, last_count, last_input
from .inputs import digest
from .isolating import Guards, loading
from .options import Problem
from .sanitizers import environment, is_instrumented, is_sanitized, preloading
from .tallies import finding_from

_PROGRESS = re.compile(r"^#\d+\t.* cov: (\d+) ft: (\d+)", re.M)
_WITH_FUZZER = {False: "ubsan_with_fuzzer.so", True: "asan_with_fuzzer.so"}  # of atheris: by sanitized or not
_MUTATORS = ("custom_mutator", "custom_crossover")
_SLOW = ("timeout-", "oom-")  # of these artifacts
_MOST_LOSSES, _MOST_UNCLEAR = 5, 3  # processes lost, and inputs that do nothing again, before a target is left alone


class Edges(NamedTuple):
    """libFuzzer's own figures: edges taken and features, after the first inputs, and the most."""

    first: int = 0
    most: int = 0
    first_features: int = 0
    most_features: int = 0

    def read(self, log: str) -> "Edges":
        """With those of another process's log, which ran after these."""
        seen = [(int(cov), int(ft)) for cov, ft in _PROGRESS.findall(log)]
        if not seen:
            return self
        first, first_features = (self.first, self.first_features) if self.most else seen[0]
        most, features = (max(column) for column in zip(*seen, strict=True))
        return Edges(first, max(self.most, most), first_features, max(self.most_features, features))


class NativeFigures(Figures):
    """The same, and what libFuzzer counted in the library."""

    def __init__(self) -> None:
        super().__init__()
        self.edges = Edges()


def library(target: str) -> Path:
    """The file of a native target; of one that is none, a path that leads nowhere."""
    return Path(parse(target).base)


def usual_coverage(target: str) -> str:
    """The edges that a library counts itself, else abstract states."""
    return "code" if is_instrumented(library(target)) else "states"


def loads(target: str, coverage: str, mutator: str) -> dict[str, str]:
    """What the environment of a process says that fuzzes this target.

    Raises Problem where the library counts nothing, or atheris has not what is to be loaded.
    """
    if coverage == "states":
        return loading([target])
    file = library(target)
    if not is_instrumented(file):
        raise Problem(
            f"{target} counts no edges: build it with clang -fsanitize=fuzzer-no-link, or give --source, "
            "or fuzz it with --coverage states"
        )
    mutators = with_mutators() if mutator == "operations" else []
    return {**environment([]), **preloading(*map(str, [*mutators, with_fuzzer(is_sanitized(file))]))}


def with_fuzzer(sanitized: bool) -> Path:
    """libFuzzer as a library to be loaded first, AddressSanitizer in it or not.  Raises Problem."""
    file = _atheris().parent / _WITH_FUZZER[sanitized]  # where atheris.path() says, without importing it
    if not file.is_file():
        raise Problem(f"this atheris has no {file.name}, which native code needs: install a wheel of it for Linux")
    return file


def with_mutators() -> list[Path]:
    """The modules of atheris that libFuzzer finds our mutator by: it looks for them when it is loaded itself.

    Only a Python can load them.  Raises Problem.
    """
    found = [next(_atheris().glob(f"{module}.*.so"), None) for module in _MUTATORS]
    if not all(found):
        raise Problem(f"this atheris has no {' or '.join(_MUTATORS)}: fuzz native code with --mutator bytes")
    return [file for file in found if file is not None]


def _atheris() -> Path:
    """The folder of the package, which is not imported.  Raises Problem."""
    if (why := missing("atheris", FUZZ)) is not None:
        raise Problem(why)
    spec = find_spec("atheris")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


class _Work:
    """What a session knows of its work, without making the target here: see ``Tallying``."""

    def __init__(self, tally: Tally, operations: int, seed: int, most: int) -> None:
        self.tally, self._most = tally, most
        tally.planned = operations
        self.mute: set[str] = set()
        self.rng = Random(f"{NAME} {tally.target} {seed}")
        self.hangs = self.losses = self.unclear = 0
        self.why = ""
        self._started = time.monotonic()

    def wanted(self, deadline: float) -> bool:
        """Is there budget left, and is the target worth it?"""
        tally = self.tally
        if self.losses >= _MOST_LOSSES or self.hangs >= MOST_HANGS:
            tally.stopped = tally.stopped or given_up(self.losses)
        enough = tally.stopped or self.unclear >= _MOST_UNCLEAR or len(tally.findings) >= self._most
        return not enough and tally.operations < tally.planned and time.monotonic() < deadline

    def done(self) -> Tally:
        """The tally, with the time that it took."""
        if self.unclear:  # what nobody can show again is no finding, and no peace of mind either
            self.tally.stopped = self.tally.stopped or f"{self.unclear} inputs broke something, and not again{self.why}"
        self.tally.seconds = time.monotonic() - self._started
        return self.tally


class NativeSession(Session):
    """One native target, fuzzed by one process after the other until the budget is spent."""

    harness, hang_seconds, depth = "heaplaw.fuzz.native_harness", 5, 1  # each child is one step from what is known

    def __init__(
        self, crew: Guards, tally: Tally, operations: int, seed: int, settings: Settings, most: int = len(LAWS)
    ) -> None:
        """``tally``: an empty one, which says what can be asked (see ``isolating.fresh``); ``most``: findings."""
        self.name, self.names = tally.target, registry.variants(tally.target)
        self.work: Any = _Work(tally, operations, seed, most)
        self.settings = settings
        self.figures: NativeFigures = NativeFigures()
        self._crew = crew
        self._environment = loads(self.name, settings.coverage, settings.mutator)

    def _loads(self) -> Mapping[str, str]:
        return self._environment

    def _command(self, corpus: Path, artifacts: Path) -> list[str]:
        """Edges are new, how often they are taken is not: at some hundred inputs a second few are to have a turn."""
        *words, folder = super()._command(corpus, artifacts)
        return [*words, "-use_counters=0", folder]

    def _palettes(self) -> list[int]:
        return [1]  # fresh inputs are drawn without knowing sizes

    def _judge(self, ended: Ended, folder: Path, deadline: float) -> bool:
        """Enter what a process has found; is there anything left to do?"""
        artifacts, why = folder / "artifacts", ended.report.why if ended.report is not None else ""
        self.figures.edges = self.figures.edges.read(ended.log)
        inputs = {path.read_bytes(): path.name for path in artifacts.iterdir() if path.name.startswith(ARTIFACTS)}
        for path in artifacts.iterdir():
            path.unlink()
        if (not why or why == "a law") and (data := last_input(folder / "last")):
            self._count(folder / "last", ended)
            if why or time.monotonic() < deadline:  # it may have been lost before it could write it itself
                inputs.setdefault(data, f"crash-{digest(data)}")
        for data, name in inputs.items():
            self._examine(data, name, ended)
        if inputs:
            return True
        if why == "hangs":
            self.work.hangs = MOST_HANGS
        elif not why and time.monotonic() < deadline:
            raise HarnessError(f"fuzzing {self.name} ended with {ended.code}: {ended.last_words}")
        return not why

    def _count(self, last: Path, ended: Ended) -> None:
        """What was done since the last report."""
        told, tally = ended.report, self.work.tally
        operations, executed = last_count(last)
        tally.operations += max(0, operations - (told.tally.operations if told is not None else 0))
        self.figures.executed += max(0, executed - (told.executed if told is not None else 0))

    def _examine(self, data: bytes, name: str, ended: Ended) -> None:
        """What became of one input: a law that broke, or the end of the process."""
        work = self.work
        if self.settings.keep is not None:
            (self.settings.keep / name).write_bytes(data)
        mute, every = sorted(work.mute), self.settings.coverage != "code"
        job = {"do": "input", "target": self.name, "input": data.hex(), "mute": mute, "every_kind": every}
        answer = self._crew.one(job)
        lost = ended.report is None or ended.report.why != "a law"
        work.losses += lost
        work.hangs += name.startswith(_SLOW)  # and each takes its whole limit
        if isinstance(answer, Loss) or answer["finding"] is None:
            if not (lost and "returns" in work.mute):
                work.unclear += 1
                why = answer.why if isinstance(answer, Loss) else answer["why"]
                work.why = f" ({why})" if why else ""
            return
        found = finding_from(answer["finding"])
        found.after = work.tally.operations
        found.seconds = self.figures.seconds
        work.mute.add(found.violation.law)
        work.tally.findings.append(found)
