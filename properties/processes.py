"""Work in processes that may be lost: what is planted there crashes, hangs and eats memory.

>>> list(each(int, [("7",), ("x",)], lambda index, problem: -1, jobs=1))
[7, -1]
"""

import multiprocessing
import resource
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any, TypeVar

_MEMORY = 4 << 30  # bytes of address space of a process
_LEAVING = 1.0  # seconds for a worker that is asked to leave
_Answer = TypeVar("_Answer")


class Lost(Exception):  # noqa: N818 - what became of the work, not an error of ours
    """It took its process along."""


def each(
    call: Callable[..., _Answer],
    work: Sequence[tuple[Any, ...]],
    otherwise: Callable[[int, Exception], _Answer],
    *,
    jobs: int,
    together: int | None = None,
) -> Iterator[_Answer]:
    """What ``call`` answers to each piece of work, in order, in ``jobs`` processes.

    ``otherwise(index, problem)`` answers for a piece that raised something, or that was Lost.  Processes are
    replaced after ``together`` pieces each, about, and when one is lost; what was under way beside that begins anew.
    """
    context = multiprocessing.get_context("spawn")
    start = 0
    while start < len(work):
        end = len(work) if together is None else start + together * jobs
        with ProcessPoolExecutor(jobs, context, _limit) as pool, _stoppable(pool):
            for future in [pool.submit(call, *arguments) for arguments in work[start:end]]:
                lost = False
                try:
                    answer = future.result()
                except BrokenProcessPool:  # the first without an answer is the one that did it, most likely
                    lost, answer = True, otherwise(start, Lost())
                except Exception as problem:
                    answer = otherwise(start, problem)
                start += 1
                yield answer
                if lost:
                    break


@contextmanager
def _stoppable(pool: ProcessPoolExecutor) -> Iterator[None]:
    """Where the work ends early, what has not begun is not done; where somebody has stopped it, nothing goes on."""
    try:
        yield
    except BaseException as stop:
        pool.shutdown(wait=False, cancel_futures=True)
        if isinstance(stop, KeyboardInterrupt):
            _end(multiprocessing.active_children())
        raise


def _end(workers: Sequence[BaseProcess]) -> None:
    """Ask them to leave, which ends what they have started; then make them."""
    for worker in workers:
        worker.terminate()
    for worker in workers:
        worker.join(_LEAVING)
        worker.kill()


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(number)


def _limit() -> None:
    """What eats memory is to feel it before the machine does.

    An interrupt is left to whoever started the worker: in here it can be lost in what a library does when it cleans up.
    Programs that are started from here hear it all the same, as they would not if it were ignored.
    """
    signal.signal(signal.SIGINT, lambda number, frame: None)
    signal.signal(signal.SIGTERM, _leave)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
