"""Who does a campaign's jobs: child processes of this machine, or those of a cluster (see ``cluster``)."""

import select
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from .child import Child, Limits, Loss

_PAUSE = 0.1  # seconds at most between two looks


class Ended(NamedTuple):
    """A job that is over."""

    ticket: int
    answer: dict[str, Any] | Loss
    peak: int = 0  # bytes resident, the most that was seen of its process
    where: str = ""


class Crew(Protocol):
    """Does jobs."""

    @property
    def free(self) -> int:
        """How many jobs it would begin at once."""
        ...

    def submit(self, job: dict[str, Any]) -> int:
        """Give it a job: the ticket that its end will bear."""
        ...

    def wait(self, seconds: float) -> list[Ended]:
        """Jobs that have ended, after so many seconds at most.  Raises CrewError."""
        ...

    def close(self) -> None:
        """Drop everything."""
        ...


class CrewError(Exception):
    """Nobody is there to do the work; the message says why, in one line."""


class LocalCrew:
    """Child processes of this one."""

    def __init__(
        self, jobs: int, folder: Path, limits: Limits, environment: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self._children = [Child(folder, slot, limits, environment) for slot in range(jobs)]
        self._tickets: dict[int, Child] = {}
        self._count = 0

    @property
    def free(self) -> int:
        return len(self._children) - len(self._tickets)

    def submit(self, job: dict[str, Any]) -> int:
        child = next(child for child in self._children if child not in self._tickets.values())
        self._count += 1
        self._tickets[self._count] = child
        child.start(job)
        return self._count

    def wait(self, seconds: float) -> list[Ended]:
        until = time.monotonic() + seconds
        while True:
            ended = []
            for ticket, child in list(self._tickets.items()):
                if (answer := child.poll()) is not None:
                    del self._tickets[ticket]
                    ended.append(Ended(ticket, answer, child.peak))
            left = until - time.monotonic()
            if ended or left <= 0 or not self._tickets:
                return ended
            ears = [child.output for child in self._tickets.values()]
            select.select(ears, [], [], min(_PAUSE, left))

    def close(self) -> None:
        for child in self._children:
            child.stop()
