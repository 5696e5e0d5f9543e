"""The same jobs on a Dask cluster.

Each thread of a Dask worker keeps a child process of its own, in which the targets run, so that one that crashes
takes that child along and no Dask worker.  A job needs nothing but its own words, so one whose worker died is
given again: Dask is told not to retry what fails, and the campaign counts a shard once however often it was run.
The workers need heaplaw in the same version, and targets of the user's own on their path.
"""

import tempfile
import threading
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heaplaw.codec import VERSION

from .child import KILLED, Child, Limits, Loss
from .crew import CrewError, Ended
from .extras import CLUSTER, missing

if TYPE_CHECKING:
    from distributed import Future

_CONNECT, _ALONE = 10.0, 60.0  # seconds to find the scheduler; without any worker before it is given up
_LOOK = 0.02  # seconds between two looks at a child
_COUNT_EVERY = 1.0  # seconds between two counts of the workers
_threads = threading.local()


def identity() -> tuple[str, int]:
    """What must be the same everywhere: the version, and the codec's."""
    return version("heaplaw"), VERSION


def perform(job: dict[str, Any], limits: tuple[Any, ...]) -> dict[str, Any]:
    """Do a job in this thread's child process: ``answer`` or ``loss``, and what it took.  Runs on a Dask worker."""
    child: Child | None = getattr(_threads, "child", None)
    if child is None:
        child = _threads.child = Child(Path(tempfile.mkdtemp(prefix="heaplaw-")), 0, Limits(*limits))
    if child.job is not None:
        child.stop()  # a task that was interrupted has left it at work
    child.start(job)
    while (answer := child.poll()) is None:
        time.sleep(_LOOK)
    kept = {"loss": list(answer)} if isinstance(answer, Loss) else {"answer": answer}
    return {**kept, "peak": child.peak, "where": _address()}


def _address() -> str:
    from distributed import get_worker

    return str(get_worker().address)


class DaskCrew:
    """Threads of the workers of a Dask cluster, as many as there are at the moment."""

    def __init__(self, address: str, limits: Limits) -> None:
        """Find the scheduler, and see that its workers are of this version.  Raises CrewError."""
        if (why := missing("distributed", CLUSTER)) is not None:
            raise CrewError(f"--scheduler: {why}")
        from distributed import Client

        try:
            self._client = Client(address, timeout=_CONNECT, set_as_default=False)
        except (OSError, ValueError) as problem:  # TimeoutError is an OSError
            raise CrewError(f"no scheduler answers at {address}: {problem}") from None
        self._limits = limits
        self._futures: dict[int, Future[Any]] = {}
        self._count = self._threads = 0
        self._counted = 0.0
        self._seen = time.monotonic()  # when there was a worker
        try:
            self._compare()
        except CrewError:
            self.close()
            raise

    def _compare(self) -> None:
        try:
            self._client.wait_for_workers(1, timeout=_CONNECT)
            known = self._client.run(identity, on_error="return")
        except OSError:
            raise CrewError("the cluster has no worker") from None
        for where, theirs in known.items():
            if isinstance(theirs, Exception):
                raise CrewError(f"worker {where} cannot run heaplaw: {theirs}")
            if tuple(theirs) != identity():
                raise CrewError(f"worker {where} has heaplaw {theirs[0]}, codec {theirs[1]}; here it is {identity()}")

    @property
    def free(self) -> int:
        now = time.monotonic()
        if now - self._counted > _COUNT_EVERY:
            self._counted = now
            try:
                self._threads = sum(self._client.nthreads().values())
            except OSError:
                self._threads = 0  # the scheduler is away; the client looks for it
            if self._threads:
                self._seen = now
        return max(0, self._threads - len(self._futures))

    def submit(self, job: dict[str, Any]) -> int:
        self._count += 1
        self._futures[self._count] = self._client.submit(
            perform, job, tuple(self._limits), pure=False, retries=0, key=f"heaplaw-{id(self)}-{self._count}"
        )
        return self._count

    def wait(self, seconds: float) -> list[Ended]:
        until = time.monotonic() + seconds
        while True:
            over = [(ticket, future) for ticket, future in self._futures.items() if future.status != "pending"]
            ended = [self._ended(ticket, future) for ticket, future in over]
            for one in ended:
                del self._futures[one.ticket]
            self._complain_if_alone()
            if ended or time.monotonic() >= until:
                return ended
            time.sleep(_LOOK)

    def _complain_if_alone(self) -> None:
        if self.free == 0 and self._threads == 0 and time.monotonic() - self._seen > _ALONE:
            raise CrewError(f"the cluster has had no worker for {_ALONE:.0f} s")

    @staticmethod
    def _ended(ticket: int, future: "Future[Any]") -> Ended:
        if future.status == "finished":
            result = future.result()
            answer = Loss(*result["loss"]) if "loss" in result else result["answer"]
            return Ended(ticket, answer, result["peak"], result["where"])
        if future.status == "error":
            problem = future.exception()
            if type(problem).__name__ != "KilledWorker":
                return Ended(ticket, {"error": "internal", "why": f"{type(problem).__name__}: {problem}"})
            return Ended(ticket, Loss(KILLED, "its Dask worker died", []))
        return Ended(ticket, Loss(KILLED, f"Dask has {future.status} it", []))

    def close(self) -> None:
        self._client.cancel(list(self._futures.values()))
        self._client.close()
