"""A broken allocator loops for ever sooner or later; this ends the loop.

The clock is the process's CPU time, so a loaded machine does not turn a slow run
into a hang.  The alarm raises ``Hang`` inside the call that does not return; the
checker turns it into a violation of ``returns`` with its trace.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from heaplaw.checker import Hang


def _bark(signum: int, frame: FrameType | None) -> None:
    raise Hang


@contextmanager
def watchdog(seconds: float) -> Iterator[None]:
    """Raise Hang in the body once it has used ``seconds`` of CPU time; off outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGPROF, _bark)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
