"""``heaplaw compare`` of a model and the kernel's own code: both do the same, and all they hold is compared each time.

>>> pair("tlsf", "buddy") is None
True
"""

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

from heaplaw.impls.naming import is_linux, parse
from heaplaw.impls.native.linux.building import BuildError, cache, library
from heaplaw.impls.native.linux.percpu import REVISION
from heaplaw.operations import Operation
from heaplaw.properties import lockstep_percpu, lockstep_zbud, lockstep_zsmalloc
from heaplaw.properties.kernel_terms import tell
from heaplaw.properties.lockstep import Apart, Course, random_course, smallest
from heaplaw.properties.verdict import COUNTEREXAMPLE, INCONCLUSIVE, PASSED
from heaplaw.trace import Trace

from .options import Problem

_MODELS = {"linux:percpu": f"percpu-bitmap@{REVISION}", "linux:zbud": "zbud", "linux:zsmalloc": "zsmalloc"}


@dataclass
class Compared:
    """What a comparison came to."""

    model: str
    kernel: str
    version: str  # that was built and loaded
    course: Course
    wanted: int
    small: tuple[Operation, ...] = ()
    apart: Apart | None = None
    told: tuple[str, ...] = ()  # in the kernel's own terms

    @property
    def code(self) -> int:
        """Exit code: 0 all operations were equal, 1 they differ, 3 time ended first."""
        if self.apart is not None:
            return COUNTEREXAMPLE
        return PASSED if self.course.operations >= self.wanted else INCONCLUSIVE

    def said(self) -> str:
        """One line."""
        done = f"{self.course.operations:,} operations in {self.course.episodes} episodes"
        if self.apart is not None:
            return f"they differ {self.apart} (exit {self.code})"
        if self.code == PASSED:
            return f"equal after each of {done}, all metadata (exit {self.code})"
        return f"inconclusive: equal after each of {done}, of {self.wanted:,} (exit {self.code})"

    def lines(self) -> list[str]:
        """The trace if they differ, and what is said."""
        if self.course.shape is None:
            return [self.said()]
        header = {"target": ",".join([self.model, *(f"{k}={v}" for k, v in self.course.shape.parameters.items())])}
        told = ["", *self.told] if self.told else []
        return [*str(Trace(list(self.small), header)).splitlines(), *told, "", self.said()]

    def as_data(self) -> dict[str, Any]:
        """The report; no times, so that it is the same every time if time did not end it."""
        apart = self.apart
        return {
            "format": "heaplaw comparison 1", "what": "targets", "old": self.model, "new": self.kernel,
            "version": self.version, "operations": self.course.operations, "wanted": self.wanted,
            "parameters": dict(self.course.shape.parameters) if self.course.shape else {},
            "difference": _difference(apart),
            "trace": str(Trace(list(self.small))) if apart is not None else "", "exit": self.code,
        }  # fmt: skip


def _difference(apart: Apart | None) -> dict[str, Any] | None:
    if apart is None:
        return None
    return {"at": apart.at, "what": apart.what, "values": [str(apart.one), str(apart.two)]}


def pair(old: str, new: str) -> tuple[str, str] | None:
    """(model, kernel) if one of the two is the kernel's; None if not.  Raises Problem for what has no counterpart."""
    kernels = [name for name in (old, new) if is_linux(name)]
    if len(kernels) != 1:
        return None
    kernel, (model,) = kernels[0], [name for name in (old, new) if not is_linux(name)]
    known = _MODELS.get(kernel.partition(",")[0].partition("@")[0])
    if known is None:
        raise Problem(f"{kernel} has no model to compare with; there is one of {', '.join(_MODELS)}")
    if model.partition(",")[0] != known:
        raise Problem(f"{kernel} goes in lockstep with {known}, not with {model}")
    if parse(old).parameters or parse(new).parameters:
        raise Problem("a comparison in lockstep goes through shapes of its own: give no parameters")
    return model, kernel


def in_child(model: str, kernel: str, operations: int, seconds: float, seed: int) -> Compared:
    """``in_lockstep`` in a process of its own, which the kernel's code may take along.  Raises Problem then too."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context) as pool:
        try:
            return pool.submit(in_lockstep, model, kernel, operations, seconds, seed).result()
        except BrokenProcessPool:
            again = f"'heaplaw check {kernel}' finds out by what"
            raise Problem(f"{kernel} ended its process at seed {seed}; {again}") from None


def in_lockstep(model: str, kernel: str, operations: int, seconds: float, seed: int) -> Compared:
    """So many operations, or as many as ``seconds`` of processor time allow.  Raises Problem where it is not built."""
    base, _, version = kernel.partition("@")
    name = base.removeprefix("linux:")
    lockstep = {"zbud": lockstep_zbud, "zsmalloc": lockstep_zsmalloc}.get(name, lockstep_percpu)
    try:
        make = lockstep.sides(version)
        folder = library(cache(), name, version).parent
    except BuildError as problem:
        raise Problem(str(problem)) from None
    end = time.process_time() + seconds
    course = random_course(make, lockstep.SHAPES, operations, seed, late=lambda: time.process_time() >= end)
    found = Compared(model, kernel, folder.name, course, operations)
    if course.apart is not None and course.shape is not None:
        small, found.apart = smallest(make, course)
        found.small = tuple(small)
        if name == "percpu":
            built = folder / f"percpu-{course.shape.parameters['block']}.so"
            found.told = tuple(tell(small, built, **dict(course.shape.parameters)))
    return found
