"""A call in a fork of this process, which may crash, hang or eat memory as it likes; and how it ended.

Whoever forks is a child process kept for that (see ``worker``): it has loaded the target, so that a try costs a fork
instead of an interpreter.  The command line itself never forks.

>>> with_answer(lambda: [1, 2]).answer
[1, 2]
>>> with_answer(lambda: os.abort()).symptom
'SIGABRT'
"""

import ctypes
import faulthandler
import gc
import json
import os
import resource
import select
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import cache
from typing import IO, Any, NamedTuple

from heaplaw.operations import Operation
from heaplaw.runs import run

from .child import CRASH, HANG, MEMORY
from .sanitizers import telling

_EACH = 0.002  # seconds that an operation may take more
_FIRST_LOOK, _LAST_LOOK = 0.005, 0.05  # seconds between looks at a fork: at first, and when it is at it for long
_NAP = 0.5  # seconds that anything may sleep
_WORDS = 16_000  # characters of what it wrote, from the front: what comes first says what is wrong
_TICK, _PAGE = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
MEMORY_OF_A_TRY = 1 << 30  # bytes resident
_CAME_BACK = 0
_STARVED = "out of memory"
_DIES_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)
_NEVER = float("inf")


class Outcome(NamedTuple):
    """How a fork ended."""

    kind: str = ""  # CRASH, HANG, MEMORY; empty: it came back
    symptom: str = ""  # SIGSEGV, status 9, a hang; with the first words of a sanitizer or an assertion
    answer: Any = None  # of what came back
    words: str = ""  # what it wrote on standard error, where it was lost
    problem: str = ""  # an exception out of the call, in words: it came back, without an answer
    seconds: float = 0.0  # of CPU time


class Violated(NamedTuple):
    """A law that broke in a fork."""

    law: str
    at: int  # the operation, from 0
    expected: str
    seen: str
    heap: str = ""


def with_answer(
    call: Callable[[], Any],
    patience: float = 10.0,
    *,
    memory: int = MEMORY_OF_A_TRY,
    moves: Callable[[], Any] = lambda: None,
    most: float = _NEVER,
) -> Outcome:
    """What ``call`` gives, as JSON keeps it, or how the fork was lost in which it was made.

    A fork hangs that uses ``patience`` seconds of CPU time while ``moves()`` stays the same, or sleeps for longer; or
    that has used ``most`` seconds in all.  ``memory``: bytes resident above which it is killed.
    """
    with tempfile.TemporaryFile() as words:
        ear, mouth = os.pipe()
        parent, _ = os.getpid(), _system()
        pid = os.fork()
        if pid == 0:
            os.close(ear)
            _live(call, parent, mouth, words)
        os.close(mouth)
        try:
            return _watched(pid, ear, words, _Leash(pid, patience, most, memory, moves))
        finally:
            os.close(ear)


def _live(call: Callable[[], Any], parent: int, mouth: int, words: IO[bytes]) -> None:
    """The fork's whole life."""
    code = 1
    try:
        die_with(parent)
        os.dup2(words.fileno(), 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # writing one takes a hundred times as long as the try
        faulthandler.disable()  # a sanitizer's own handlers say more
        try:
            said = {"answer": call()}
        except BaseException as problem:  # whatever it is, it must not run on in the server's place
            said = {"problem": f"{type(problem).__name__}: {problem}"}
        data = json.dumps(said).encode()
        while data:
            data = data[os.write(mouth, data) :]
        code = _CAME_BACK
    finally:
        os._exit(code)


class _Leash:
    """How long, and with how much memory, a fork may go on."""

    def __init__(self, pid: int, patience: float, most: float, memory: int, moves: Callable[[], Any]) -> None:
        self._pid, self._patience, self._memory, self._moves = pid, patience, memory, moves
        self._most, self._sleep = most, max(_NAP, min(4 * patience, patience + 1.0))
        self._last = moves()
        self._since = self._cpu = 0.0  # CPU time at the last move; and at the last look
        self._idle = time.monotonic()

    def look(self) -> Outcome | None:
        """Has it gone too far?"""
        state, cpu, resident = _stat(self._pid)
        now = time.monotonic()
        if cpu != self._cpu or state != "S":  # at work, or kept from it by others
            self._cpu, self._idle = cpu, now
        if (moved := self._moves()) != self._last:
            self._last, self._since, self._idle = moved, cpu, now
        if resident > self._memory:
            return Outcome(MEMORY, _STARVED, words=f"{resident:,} bytes resident, {self._memory:,} are allowed\n")
        if cpu - self._since > self._patience or cpu > self._most or now - self._idle > self._sleep:
            return Outcome(HANG, "a hang")
        return None


def _stat(pid: int) -> tuple[str, float, int]:
    """(state, CPU seconds, bytes resident) of a process, and of what it has started: it may hold the target."""
    state, cpu, resident = _one(pid)
    for child in _children(pid):
        with suppress(OSError):  # it has ended
            its, used, more = _one(child)
            state, cpu, resident = state if state != "S" else its, cpu + used, resident + more
    return state, cpu, resident


def _one(pid: int) -> tuple[str, float, int]:
    with open(f"/proc/{pid}/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    return fields[0].decode(), (int(fields[11]) + int(fields[12])) / _TICK, int(fields[21]) * _PAGE


def _children(pid: int) -> list[int]:
    """Those that live; none where the system does not say."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children", "rb") as file:
            return [int(child) for child in file.read().split()]
    except OSError:
        return []


def _watched(pid: int, ear: int, words: IO[bytes], leash: _Leash) -> Outcome:
    """Wait for a fork, and read what it has to say meanwhile."""
    ended = os.pidfd_open(pid)
    ears, heard, pause = select.poll(), [], _FIRST_LOOK
    for descriptor in (ear, ended):
        ears.register(descriptor, select.POLLIN)
    try:
        while True:
            events = {descriptor for descriptor, _ in ears.poll(pause * 1000)}
            if ear in events:
                if piece := os.read(ear, 1 << 16):
                    heard.append(piece)
                    continue
                ears.unregister(ear)
            if ended in events:
                return _verdict(pid, heard, words)
            if not events:
                pause = min(_LAST_LOOK, pause * 1.5)
            if (lost := leash.look()) is not None:
                os.kill(pid, signal.SIGKILL)
                _, _, used = os.wait4(pid, 0)
                return lost._replace(words=lost.words + _said(words), seconds=used.ru_utime + used.ru_stime)
    finally:
        os.close(ended)


def _verdict(pid: int, heard: Sequence[bytes], words: IO[bytes]) -> Outcome:
    """What became of a fork that has ended."""
    _, status, used = os.wait4(pid, 0)
    return _ending(os.waitstatus_to_exitcode(status), heard, words)._replace(seconds=used.ru_utime + used.ru_stime)


def _ending(code: int, heard: Sequence[bytes], words: IO[bytes]) -> Outcome:
    """What a status says, and what was said before."""
    if code == _CAME_BACK:
        with suppress(ValueError):  # it ended by itself, with a status that says nothing
            told = json.loads(b"".join(heard))
            if str(told.get("problem", "")).startswith("MemoryError"):
                return Outcome(MEMORY, _STARVED)
            return Outcome(answer=told.get("answer"), problem=told.get("problem", ""))
    said = _said(words)
    how = signal.Signals(-code).name if code < 0 else f"status {code}"
    if code == -signal.SIGXCPU:
        return Outcome(HANG, "a hang", words=said)
    first = telling(said)[:1]
    return Outcome(CRASH, f"{how}: {first[0]}" if first else how, words=said)


def _said(words: IO[bytes]) -> str:
    words.seek(0)
    return words.read(_WORDS).decode(errors="replace")


def die_with(parent: int) -> None:
    """Be killed when the parent ends, whatever ends it.  Where the system cannot do that, end of input must do."""
    if sys.platform != "linux":
        return
    _system().prctl(_DIES_WITH_PARENT, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it was faster
        os._exit(1)


@cache
def _system() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def settle() -> None:
    """Before many forks: what is here stays, so that no fork's collector touches, and copies, all of its pages.

    A sanitizer reads what is known of the code now, and not in each fork that ends with a report; of libraries
    that are loaded later it knows nothing.
    """
    tell = getattr(_system(), "__sanitizer_print_stack_trace", None)
    if tell is not None:
        tell()
    gc.collect()
    gc.freeze()
    sys.stderr.flush()


def attempt(
    build: Callable[[], Any],
    operations: Sequence[Operation],
    patience: float,
    *,
    mute: Iterable[str] = (),
    twins: int = 0,
    walks: bool = True,
    each: float = _EACH,
    memory: int = MEMORY_OF_A_TRY,
) -> Outcome:
    """Check operations on a fresh target in a fork.  ``answer``: the ``Violated`` law, or None.

    It may take ``patience`` seconds of CPU time, and ``each`` more for an operation.  ``walks``: audit after each
    operation, not at the end only, which a heap that is broken already may not survive.
    Memory that is refused, and says so, is memory all the same.
    """

    def checked() -> Violated | None:
        found = run(build, operations, mute=mute, audit_from=0 if walks else len(operations), twins=twins)
        return None if found is None else Violated(found.law, found.index, found.expected, found.seen, found.heap)

    ended = with_answer(checked, patience + each * len(operations), memory=memory)
    if ended.answer is None:
        return ended
    violated = Violated(*ended.answer)
    if violated.seen.startswith("MemoryError"):
        return Outcome(MEMORY, _STARVED, seconds=ended.seconds)
    return ended._replace(answer=violated)
