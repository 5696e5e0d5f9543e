"""A broken allocator loops for ever sooner or later; this ends the loop.

The clock is the process's CPU time, so a loaded machine does not turn a slow run
into a hang.  The alarm raises ``Hang`` inside the call that does not return; the
checker turns it into a violation of ``returns`` with its trace.

>>> with watchdog(5.0):
...     pass
>>> signal.getitimer(signal.ITIMER_PROF)
(0.0, 0.0)
"""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from heaplaw.checker import Hang

AGAIN = 0.5
"""CPU seconds after which the alarm rings again.  One that rings inside a callback of the garbage collector,
or inside a finalizer, is lost: Python prints it and goes on."""
_SOON = 0.001  # for a watchdog whose time has run out while another was on guard


def _bark(signum: int, frame: FrameType | None) -> None:
    if frame is not None and str(frame.f_globals.get("__name__")).startswith(("hypothesis.", "z3.")):
        signal.setitimer(signal.ITIMER_PROF, _SOON, AGAIN)  # one hears the garbage collector, one finalizes: see AGAIN
        return
    raise Hang


@contextmanager
def watchdog(seconds: float) -> Iterator[None]:
    """Raise Hang in the body once it has used ``seconds`` of CPU time; off outside the main thread.

    Within another one: both are on guard, the inner one first.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGPROF, _bark)
    started = time.process_time()
    left, again = signal.setitimer(signal.ITIMER_PROF, seconds, AGAIN)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
        if left:
            signal.setitimer(signal.ITIMER_PROF, max(_SOON, left - (time.process_time() - started)), again)


def wind_up(seconds: float) -> None:
    """Let the watchdog that is on guard wait this long from now."""
    if threading.current_thread() is threading.main_thread():
        signal.setitimer(signal.ITIMER_PROF, seconds, AGAIN)
