"""The fuzzing engine: libFuzzer in a process of its own, a finding made small here, then on with its law muted.

The same interface as every engine's (see ``properties.engines``), so that ``heaplaw check --engine fuzz`` and the
self-test need not know that this one lives in another process.  Same seed and same budget of operations, same run;
with a corpus that is kept, what was found before decides too.

>>> check("buddy,pages=64", 300, seed=1).operations >= 300 if unavailable() is None else True
True
"""

import os
import pickle
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Literal

import click

from heaplaw.codec import Codec
from heaplaw.impls.registry import factory, variants
from heaplaw.properties.processes import Lost, each
from heaplaw.properties.steering import LENGTH
from heaplaw.properties.tallying import MOST_HANGS, Tallying
from heaplaw.properties.verdict import INCONCLUSIVE, Tally
from heaplaw.runs import Violation

from .extras import FUZZ, missing
from .harness import NAME, Plan, Report, last_input
from .inputs import PREFIX, START, WIDTH, digest, lift, pack, refusal, unpack, variant_of
from .mutator import Mutator
from .options import Problem

LONGEST = 300
"""Operations of an input, at most: long runs reach what short ones do not."""
_SEEDS = 8  # inputs to start from, of each configuration
_HANG_SECONDS = 120  # of wall time in one run; the watchdog of CPU time comes first where Python can listen
_GRACE = 20.0  # seconds after the deadline, before a process that does not end is killed
_POLL = 0.2  # seconds between two looks at its report
_MEMORY_MB = 2048
_DEPTH = 5  # changes of an input, one after the other, before another one's turn; as libFuzzer has it
ARTIFACTS = ("crash-", "timeout-", "oom-")
"""How the names begin of the inputs that libFuzzer leaves behind: a law or a crash, a hang, too much memory."""


class HarnessError(click.ClickException):
    """The process that fuzzed ended in a way that says nothing of the target."""

    exit_code = INCONCLUSIVE


@dataclass
class Settings:
    """How ``heaplaw fuzz`` is to go about it."""

    coverage: Literal["states", "code", "both"] = "states"
    mutator: Literal["operations", "bytes"] = "operations"
    corpus: Path | None = None  # folder of the inputs of this target, kept; None: one that is thrown away
    runs: int = 0  # inputs to execute; 0: no limit
    longest: int = LONGEST  # operations of an input
    keep: Path | None = None  # folder for the inputs that broke a law, as libFuzzer names them


@dataclass
class Figures:
    """What a session measured beside its tally."""

    seconds: float = 0.0  # that processes fuzzed
    executed: int = 0  # inputs
    features: int = 0  # abstract features seen by the process that saw most
    corpus: int = 0  # inputs kept
    skipped: dict[str, int] = field(default_factory=dict)  # why -> files of the corpus that are no inputs
    instrumented: tuple[str, ...] = ()
    processes: int = 0


def unavailable() -> str | None:
    """Why this engine cannot run here, in one line; None when it can."""
    why = missing("atheris", FUZZ)
    return f"the fuzz engine was not run: {why}" if why else None


def check(
    name: str,
    operations: int,
    seed: int,
    *,
    only: Iterable[str] = (),
    most: int | None = None,
    deadline: float = float("inf"),
    progress: Callable[[int], None] = lambda done: None,
    corpus: Path | None = None,
) -> Tally:
    """Fuzz a target for about ``operations`` checked operations; deterministic but for the deadline.

    ``only`` limits the laws, ``most`` the findings.  ``deadline`` is a ``time.monotonic`` value.  ``corpus`` is a
    folder of inputs to start from, where those are left that are worth keeping.  Where atheris is not installed
    nothing is run: the tally counts no operation, and one line on standard error says why.
    """
    session = Session(name, operations, seed, only, most, Settings(corpus=corpus))
    if (why := unavailable()) is not None:
        print(f"heaplaw: {why}", file=sys.stderr)
        return session.work.tally
    return session.go(deadline, progress)


class Session:
    """One target, fuzzed by one process after the other until the budget is spent."""

    harness, hang_seconds, memory_mb, depth = "heaplaw.fuzz.harness", _HANG_SECONDS, _MEMORY_MB, _DEPTH

    def __init__(
        self, name: str, operations: int, seed: int, only: Iterable[str] = (), most: int | None = None,
        settings: Settings | None = None,
    ) -> None:  # fmt: skip
        self.name, self.names = name, variants(name)
        self.work = Tallying(name, NAME, operations, seed, only, most)
        self.settings = settings or Settings()
        self.figures = Figures()
        self._cpu = _children_seconds()

    def go(self, deadline: float = float("inf"), progress: Callable[[int], None] = lambda done: None) -> Tally:
        """Fuzz until the operations or the runs are done, or time is up.  Raises HarnessError and Problem."""
        work, settings = self.work, self.settings
        with TemporaryDirectory(prefix="heaplaw-fuzz-") as place:
            folder = Path(place)
            corpus = settings.corpus if settings.corpus is not None else folder / "corpus"
            self.figures.skipped = readable(corpus)
            self._plant(corpus)
            while work.wanted(deadline) and not self._ran_enough():
                ended = self._process(folder, corpus, deadline, progress)
                if not self._judge(ended, folder, deadline):
                    break
            self.figures.corpus = sum(1 for _ in corpus.iterdir()) if corpus.is_dir() else 0
        return work.done()

    def _ran_enough(self) -> bool:
        return 0 < self.settings.runs <= self.figures.executed

    def _plant(self, folder: Path) -> None:
        """Inputs to start from, where there are none: for each configuration the empty run, and random ones."""
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            return
        mutate, rng = Mutator(self._palettes()), self.work.rng
        most = START + WIDTH * self.settings.longest
        for which in range(len(self.names)):
            for number in range(_SEEDS):
                data = pack(mutate.fresh(rng, most)[PREFIX:] if number else bytes(LENGTH), which)
                (folder / digest(data)).write_bytes(data)

    def _palettes(self) -> list[int]:
        """How many sizes each configuration knows."""
        return [len(Codec(factory(name)().contract).sizes) for name in self.names]

    # ---- one process -------------------------------------------------------------------

    def _process(self, folder: Path, corpus: Path, deadline: float, progress: Callable[[int], None]) -> "Ended":
        """Let libFuzzer run until it ends, and take in what it has done."""
        work, tally = self.work, self.work.tally
        report, log, artifacts = folder / "report", folder / "log", folder / "artifacts"
        report.unlink(missing_ok=True)
        artifacts.mkdir(exist_ok=True)
        (folder / "last").unlink(missing_ok=True)
        plan = Plan(
            self.settings.coverage, self.settings.mutator, tuple(sorted(work.mute)), tally.planned - tally.operations,
            max(0, self.settings.runs - self.figures.executed),
            0.0 if deadline == float("inf") else deadline, str(report), str(folder / "last"),
        )  # fmt: skip
        before, started = tally.operations, time.monotonic()
        with log.open("wb") as out, _started(self._command(corpus, artifacts), plan, out, self._loads()) as process:
            code = None
            while code is None:
                try:
                    code = process.wait(_POLL)
                except subprocess.TimeoutExpired:
                    if (seen := _read(report)) is not None:
                        progress(before + seen.tally.operations)
                    if time.monotonic() > deadline + _GRACE:
                        process.kill()
        self.figures.seconds += time.monotonic() - started
        self.figures.processes += 1
        last = _read(report)
        if last is not None:
            self._take(last)
        progress(tally.operations)
        return Ended(code, last, log.read_text(errors="replace"))

    def _loads(self) -> Mapping[str, str]:
        """What else its environment says."""
        return {}

    def _command(self, corpus: Path, artifacts: Path) -> list[str]:
        return [
            sys.executable, "-m", self.harness, self.name, f"-seed={self.work.rng.getrandbits(31) | 1}",
            f"-max_len={START + WIDTH * self.settings.longest}", f"-timeout={self.hang_seconds}",
            f"-rss_limit_mb={self.memory_mb}", f"-mutate_depth={self.depth}", "-len_control=0", "-reload=0",
            "-print_final_stats=1", f"-artifact_prefix={artifacts}{os.sep}", str(corpus),
        ]  # fmt: skip

    def _take(self, report: Report) -> None:
        """Add what a process has done to the tally."""
        mine, new = self.work.tally, report.tally
        new.planned = 0
        new.lacking, new.reachable, new.asked = {}, {}, {}  # known here, for the laws that are asked
        mine.add(new)
        self.figures.executed += report.executed
        self.figures.features = max(self.figures.features, report.features)
        self.figures.instrumented = report.instrumented

    # ---- what it ended with ------------------------------------------------------------

    def _judge(self, ended: "Ended", folder: Path, deadline: float) -> bool:
        """Enter what a process has found; is there anything left to do?"""
        artifacts, why = folder / "artifacts", ended.report.why if ended.report is not None else ""
        if not why and time.monotonic() < deadline and (data := last_input(folder / "last")):
            (artifacts / f"crash-{digest(data)}").write_bytes(data)  # it was lost, and could not write it itself
        inputs = sorted(path for path in artifacts.iterdir() if path.name.startswith(ARTIFACTS))
        for path in inputs:
            self._enter(path, ended, deadline)
            path.unlink()
        if inputs:
            return not self.work.tally.stopped
        if why == "hangs":
            self.work.hangs = MOST_HANGS
        elif not why and time.monotonic() < deadline:
            raise HarnessError(f"fuzzing {self.name} ended with {ended.code}: {ended.last_words}")
        return not why

    def _enter(self, path: Path, ended: "Ended", deadline: float) -> None:
        """What became of one input: a violation, or the end of the process."""
        data, work = path.read_bytes(), self.work
        if self.settings.keep is not None:
            (self.settings.keep / path.name).write_bytes(data)
        found = lifted(self.name, data, tuple(sorted(work.mute)))
        if isinstance(found, Violation):
            work.convict(variant_of(data, self.names), found, deadline)
            work.tally.findings[-1].seconds += _children_seconds() - self._cpu
        elif found:
            work.tally.stopped = f"{found}; its input is {path.name}"
        elif path.name.startswith("crash-") and ended.report is not None and ended.report.law:
            work.tally.stopped = f"{ended.report.law} broke while fuzzing, and not again: {path.name}"
        else:
            work.tally.stopped = f"{path.name.partition('-')[0]}: {ended.last_words}"


@dataclass
class Ended:
    """How a process ended."""

    code: int
    report: Report | None
    log: str

    @property
    def last_words(self) -> str:
        """The line that says most: Python's own last one, else libFuzzer's."""
        lines = [line.strip() for line in self.log.splitlines() if line.strip()]
        telling = [line for line in lines if line.startswith(("heaplaw:", "==", "ERROR:")) or "Error" in line]
        return (telling or lines or ["it said nothing"])[-1]


def readable(folder: Path) -> dict[str, int]:
    """Files of a corpus that are no inputs, counted by the reason.  Raises Problem where none can be read."""
    try:
        files = [path for path in sorted(folder.iterdir()) if path.is_file()] if folder.exists() else []
        whys = [refusal(path.read_bytes()) for path in files]
    except OSError as problem:
        raise Problem(f"cannot read the corpus {problem.filename or folder}: {problem.strerror}") from None
    skipped: dict[str, int] = {}
    for why in filter(None, whys):
        skipped[why] = skipped.get(why, 0) + 1
    if files and sum(skipped.values()) == len(files):
        raise Problem(f"nothing in the corpus {folder} can be read: {_counted(skipped)}")
    return skipped


def _counted(skipped: dict[str, int]) -> str:
    return ", ".join(f"{count} {'file' if count == 1 else 'files'}: {why}" for why, count in skipped.items())


def skipped_line(skipped: dict[str, int], folder: Path | None) -> str:
    """What is said of a corpus in which something was skipped."""
    return f"skipped in {folder}: {_counted(skipped)}"


def lifted(name: str, data: bytes, mute: tuple[str, ...]) -> Violation | str | None:
    """What an input breaks, found in a process that may be lost; in words where it was, None where nothing breaks."""

    def lost(index: int, problem: Exception) -> str:
        told = "it takes its process along" if isinstance(problem, Lost) else f"{type(problem).__name__}: {problem}"
        return f"an input cannot be run again: {told}"

    found: Violation | str | None
    [found] = each(_broken, [(name, data, mute)], lost, jobs=1)
    return found


def _broken(name: str, data: bytes, mute: tuple[str, ...]) -> Violation | None:
    body = unpack(data)
    return None if body is None else lift(variant_of(data, variants(name)), body, mute).found


@contextmanager
def _started(
    command: list[str], plan: Plan, out: IO[bytes], loads: Mapping[str, str]
) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that is gone when this is left, whatever happens."""
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    ours = {"PYTHONHASHSEED": "0", "PYTHONPATH": path}  # sets of strings in the same order too
    environment = {**os.environ, **ours, **plan.environment, **loads}
    process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def _read(path: Path) -> Report | None:
    """The report that our own process has written, if it has by now."""
    try:
        report = pickle.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    assert isinstance(report, Report)
    return report


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
