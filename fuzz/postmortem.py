"""What took a process along: the trace that does it again, made small.

Every try runs in a fork, which may crash, hang or eat memory as it likes.  Nobody told which configuration was
running, so each is tried.  Hangs are asked for with little patience, and the last word has more of it.
"""

import os
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from heaplaw.impls.registry import factory, variants
from heaplaw.operations import Operation
from heaplaw.properties.minimize import minimize
from heaplaw.runs import run
from heaplaw.trace import Trace

from .child import CRASH, HANG, MEMORY

_FINE, _BROKEN, _STARVED = 0, 100, 101  # what a fork ends with, where it comes to that
_PATIENCE = 2.0  # seconds that a try may take where it has the last word
_HASTE, _TIMES = 0.1, 20  # on the way there: at least, and so many times what all but the last operation take
_EACH = 0.002  # more for each operation
_TRIES, _LOOKS = 300, 100


class Cause(NamedTuple):
    """What a trace does to its process; an empty symptom: nothing of the kind."""

    kind: str = ""
    symptom: str = ""  # SIGSEGV, status 9, a hang
    target: str = ""
    operations: Sequence[Operation] = ()

    @property
    def trace(self) -> Trace:
        """As a trace file: a call did not return."""
        return Trace(list(self.operations), {"target": self.target, "law": "returns"})


def attempt(build: Callable[[], Any], operations: Sequence[Operation], patience: float) -> tuple[str, str]:
    """(kind, symptom) of running the operations in a fork; both empty where it comes back, a law broken or not."""
    limit = time.monotonic() + patience + _EACH * len(operations)
    pid = os.fork()
    if pid == 0:
        _run(build, operations)
    pause = 0.0005
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return _symptom(os.waitstatus_to_exitcode(status))
        if time.monotonic() > limit:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return HANG, "a hang"
        time.sleep(pause)
        pause = min(0.02, pause * 1.5)


def _run(build: Callable[[], Any], operations: Sequence[Operation]) -> None:
    """The fork's whole life."""
    code = _FINE
    try:
        found = run(build, operations)
        if found is not None:
            code = _STARVED if found.seen.startswith("MemoryError") else _BROKEN
    except MemoryError:
        code = _STARVED
    except BaseException:  # whatever it is: it came back
        code = _BROKEN
    finally:
        os._exit(code)


def _symptom(code: int) -> tuple[str, str]:
    if code in (_FINE, _BROKEN):
        return "", ""
    if code == _STARVED:
        return MEMORY, "out of memory"
    return (CRASH, signal.Signals(-code).name) if code < 0 else (CRASH, f"status {code}")


def examine(target: str, operations: Sequence[Operation], kind: str, seconds: float) -> Cause:
    """The least that takes a process along like that, and so many seconds to make it small.

    ``target``: in any of its configurations.  An empty Cause where the operations are harmless in all of them.
    """
    for variant in variants(target):
        build = factory(variant)
        seen, symptom = attempt(build, operations, _PATIENCE)
        if seen and (kind == HANG) == (seen == HANG):
            return Cause(seen, symptom, variant, _smallest(build, operations, symptom, seconds))
    return Cause()


def _smallest(
    build: Callable[[], Any], operations: Sequence[Operation], symptom: str, seconds: float
) -> list[Operation]:
    """The least with the same symptom, in the time that there is."""
    started = time.monotonic()
    deadline = started + seconds
    attempt(build, operations[:-1], _PATIENCE)
    haste = max(_HASTE, _TIMES * (time.monotonic() - started))
    small = minimize(
        operations, lambda some: attempt(build, some, haste)[1] == symptom, _TRIES, _LOOKS, deadline=deadline
    )
    return small if attempt(build, small, _PATIENCE)[1] == symptom else list(operations)
