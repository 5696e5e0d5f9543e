"""A child process that does one job at a time, under limits, and may be lost at any moment.

Jobs and answers are lines of JSON (see ``worker`` for what they say).  Whoever holds the child looks in now and
then; a child that has used too much time or memory is killed with all that it started.  What becomes of a job is
its answer or a ``Loss``: how the process ended, and what it was doing.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from .crumbs import gather

CRASH, HANG, MEMORY, KILLED = "crash", "hang", "memory", "killed"
_LOOK = 0.2  # seconds between two looks at what a child has used
_TAIL = 2_000  # characters of what it said last
_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Limits(NamedTuple):
    """What a child may use."""

    memory: int = 2 << 30  # bytes: of address space, and resident with all that it started
    grown: int = 512 << 20  # bytes resident after a job above which it is replaced
    jobs: int = 200  # after which it is replaced
    patience: float = 60.0  # seconds beyond a job's own; without using any CPU; wall time may be four times the CPU's
    bounded: bool = True  # is address space limited?  A sanitizer reserves more than there is


class Loss(NamedTuple):
    """A process that did not live to answer."""

    kind: str  # CRASH, HANG, MEMORY, or KILLED by somebody else
    why: str  # in words
    crumb: list[str]  # operations of the run that was under way
    last_words: str = ""
    found: Sequence[dict[str, Any]] = ()  # what had been found by then


def findings_in(path: Path) -> list[dict[str, Any]]:
    """Findings that a process has written down, one a line, the last of each law; an unfinished line is none."""
    found: dict[str, dict[str, Any]] = {}
    with suppress(OSError, ValueError):
        for line in path.read_text().splitlines():
            one = json.loads(line)
            found[one["law"]] = one
    return list(found.values())


class Child:
    """One process, started when needed and again when it was lost or has grown."""

    def __init__(
        self, folder: Path, slot: int, limits: Limits, environment: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """``folder``: where its crumb and its last words are kept, by ``slot``; ``environment``: what else it has."""
        folder.mkdir(parents=True, exist_ok=True)
        self._crumb, self._words = folder / f"{slot}.crumb", folder / f"{slot}.words"
        self._found = folder / f"{slot}.found"
        self._limits, self._environment = limits, environment
        self._process: subprocess.Popen[bytes] | None = None
        self._answer = b""
        self._idle = limits.patience
        self._seconds = self._started = self._cpu = self._moved = self._looked = self._base = 0.0
        self._done = 0
        self.peak = 0  # bytes resident, the most that was seen
        self.job: dict[str, Any] | None = None

    @property
    def pid(self) -> int | None:
        """Its process, if one is running."""
        return self._process.pid if self._process is not None else None

    @property
    def output(self) -> int:
        """The descriptor that its answers come from."""
        assert self._process is not None
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def start(self, job: dict[str, Any]) -> None:
        """Give it a job.

        In it ``seconds`` is the time that it means to take, ``idle`` how long it may use no CPU (else the patience
        with it), and ``fresh`` asks for a new process.
        """
        assert self.job is None
        if job.get("fresh"):
            self.stop()
        if self._process is None or self._process.poll() is not None:
            self._spawn()
        process = self._process
        assert process is not None
        assert process.stdin is not None
        self.job, self._answer = job, b""
        self._seconds = float(job.get("seconds", 10.0))
        self._idle = float(job.get("idle", self._limits.patience))
        self._started = self._moved = time.monotonic()
        self._base, resident = usage(process.pid)
        self._cpu, self._looked = self._base, self._started
        self.peak = max(self.peak, resident)
        with suppress(BrokenPipeError):  # it is gone already; the next look says how
            process.stdin.write(json.dumps(job).encode() + b"\n")
            process.stdin.flush()

    def _spawn(self) -> None:
        self.stop()
        path = os.pathsep.join(path for path in sys.path if path)
        environment = {**os.environ, "PYTHONPATH": path, **self._environment}
        memory = self._limits.memory if self._limits.bounded else 0
        command = [sys.executable, "-m", "heaplaw.fuzz.worker", str(memory)]
        command += [str(self._crumb), str(self._found)]
        with self._words.open("wb") as words:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=words,
                env=environment, start_new_session=True,
            )  # fmt: skip
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        self._done = 0

    def poll(self) -> "dict[str, Any] | Loss | None":
        """The answer, the loss, or None while it is at work."""
        process = self._process
        assert process is not None
        assert process.stdout is not None
        while True:
            try:
                piece = os.read(process.stdout.fileno(), 1 << 16)
            except BlockingIOError:
                return self._look()
            if not piece:
                return self._lost(*self._ending(process.wait()))
            self._answer += piece
            if self._answer.endswith(b"\n"):
                return self._answered()

    def _answered(self) -> "dict[str, Any] | Loss":
        answer: dict[str, Any] = json.loads(self._answer)
        if answer.get("error") == MEMORY:
            return self._lost(MEMORY, answer["why"])
        self.job = None
        self._done += 1
        resident = int(answer.get("resident", 0))
        self.peak = max(self.peak, resident)
        if resident > self._limits.grown or self._done >= self._limits.jobs:
            self.stop()
        return answer

    def _look(self) -> Loss | None:
        """Has it used more than it may?"""
        now, limits = time.monotonic(), self._limits
        if now - self._looked < _LOOK:
            return None
        self._looked = now
        assert self._process is not None
        cpu, resident = usage(self._process.pid)
        self.peak = max(self.peak, resident)
        if cpu > self._cpu:
            self._cpu, self._moved = cpu, now
        allowed = self._seconds + limits.patience
        if resident > limits.memory:
            return self._lost(MEMORY, f"{resident:,} bytes resident, {limits.memory:,} are allowed")
        if cpu - self._base > allowed:
            return self._lost(HANG, f"no answer after {cpu - self._base:.0f} s of CPU time")
        if now - self._moved > self._idle:
            return self._lost(HANG, f"no answer, and no CPU time used for {now - self._moved:.0f} s")
        if now - self._started > 4 * allowed:
            return self._lost(HANG, f"no answer after {now - self._started:.0f} s")
        return None

    @staticmethod
    def _ending(status: int) -> tuple[str, str]:
        if status >= 0:
            return CRASH, f"it ended its process, status {status}"
        name = signal.Signals(-status).name
        if -status in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
            return KILLED, f"{name}, from outside"
        return (HANG if -status == signal.SIGXCPU else CRASH), name

    def _lost(self, kind: str, why: str) -> Loss:
        self.stop()
        self.job = None
        words = self._words.read_text(errors="replace")[-_TAIL:]
        return Loss(kind, why, gather(self._crumb), words, findings_in(self._found))

    def stop(self) -> None:
        """End the process and all that it started, now."""
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):  # a job that it never read
                pipe.close()
        self.job = None


def usage(group: int) -> tuple[float, int]:
    """(CPU seconds, bytes resident) of the living processes of a group, in all.  O(processes of the machine)."""
    seconds, resident = 0.0, 0
    for name in os.listdir("/proc"):
        if not name.isdecimal():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            continue  # it has ended
        if int(fields[2]) == group:
            seconds += sum(int(fields[at]) for at in (11, 12, 13, 14)) / _TICK  # its own, and of children it waited for
            resident += int(fields[21]) * _PAGE
    return seconds, resident


def given_up(losses: int) -> str:
    """Why a target is left alone that has lost so many processes, or hung too often.

    >>> given_up(3), given_up(0)
    ('it took 3 processes along', 'it hangs')
    """
    return f"it took {losses} processes along" if losses else "it hangs"
