"""One of the two that are compared: its name, and where its code is run.

A git revision of a module runs in a child process in that revision's tree, so that two versions of one module never
meet in one interpreter; machine code runs in a child because it may take its process along.

>>> with opened("tlsf") as side:
...     side.do(str.upper), side.crashes
('TLSF', 0)
"""

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from heaplaw.contract import Contract
from heaplaw.impls.naming import TargetError, is_native
from heaplaw.impls.registry import factory, fitted

from ..options import Problem
from . import revisions

T = TypeVar("T")
_MOST_CRASHES = 2


class CrashError(Exception):
    """The target took its process along."""


@dataclass
class Side:
    """See the module docstring.  ``largest`` is in bytes."""

    name: str  # as it was given
    target: str  # what is built, where it is run
    commit: str = ""  # of a git revision
    largest: int = 0  # size that it promises to serve
    crashes: int = 0
    _tree: revisions.Tree | None = None
    _pool: ProcessPoolExecutor | None = None
    _apart: bool = False

    def do(self, job: Callable[..., T], *given: Any, capacity: int = 0, geometry: dict[str, str] | None = None) -> T:
        """``job(target, *given)`` where the code is run; ``capacity``: in a heap with room for so many bytes.

        Raises CrashError.
        """
        target = fitted(self.target, capacity, geometry or {}) if capacity else self.target
        if not self._apart:
            return job(target, *given)
        if self.crashes >= _MOST_CRASHES:  # each costs a new process
            raise CrashError(self.name)
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            places = (str(self._tree.here), str(self._tree.root)) if self._tree is not None else ()
            self._pool = ProcessPoolExecutor(1, context, initializer=_enter, initargs=(places,))
        try:
            return self._pool.submit(job, target, *given).result()
        except BrokenProcessPool:
            self._pool, self.crashes = None, self.crashes + 1
            raise CrashError(self.name) from None

    def close(self) -> None:
        """End the child process, if there is one."""
        if self._pool is not None:
            self._pool.shutdown()


def _enter(places: tuple[str, ...]) -> None:
    """Begin a child process: in a revision's tree that is where modules are looked for first."""
    if places:
        os.chdir(places[0])
        sys.path[:0] = [*places, os.path.join(places[-1], "src")]


@contextmanager
def opened(name: str) -> Iterator[Side]:
    """A side that can be asked to do something.  Raises Problem for a name that means no target."""
    target, revision = revisions.split(name)
    with tempfile.TemporaryDirectory(prefix="heaplaw-compare-") as folder:
        tree = revisions.laid_out(target, revision, Path(folder)) if revision else None
        side = Side(name, tree.target if tree else target, tree.commit if tree else "")
        side._tree, side._apart = tree, tree is not None or is_native(target)
        try:
            side.largest = side.do(_largest)
            yield side
        except TargetError as problem:
            raise Problem(f"{name}: {problem}" if revision else str(problem)) from None
        except CrashError:
            raise Problem(f"{name} ends its process as soon as it is made; 'heaplaw check {name}' says how") from None
        finally:
            side.close()


def _largest(target: str) -> int:
    """Bytes of the largest request that a target promises to serve; run where its code is."""
    contract: Contract = factory(target)().contract
    return contract.largest
