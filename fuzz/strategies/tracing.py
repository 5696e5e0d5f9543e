"""Which traces two strategies are compared on: recorded, given by the user, generated, and found by the plain engine.

The recordings come with the package: whole or first parts of what real programs and a real Linux 6.18 did.

>>> [work.name for work in recorded(100)][:2]
['jq', 'linux-6.18-kmalloc-head']
"""

import importlib.resources
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from random import Random
from typing import Literal

from heaplaw.impls.naming import parse
from heaplaw.impls.registry import factory
from heaplaw.operations import Kind, Operation
from heaplaw.properties.plain import in_turn
from heaplaw.properties.recorded import RecordingError, read_recording
from heaplaw.properties.replay import room
from heaplaw.trace import Trace

from ..options import Problem
from .shapes import SHAPES

GENERATED_LARGEST = {"heap": 4096, "percpu": 256}
"""Bytes by family; generated traces ask for no more, so that both can serve nearly all of it."""

_RECORDINGS = {
    "heap": ("jq", "linux-6.18-kmalloc-head", "sqlite"),
    "percpu": ("linux-6.18-percpu-chunk", "linux-6.18-percpu-head"),
}
_SPARE = 2  # times the room that a trace needs, so that neither refuses for want of memory
_LOST = {"heap": 512, "percpu": 0}  # bytes that an object may cost beyond its size: a header of a cache line, pieces
_LEAST = {"heap": 1 << 21, "percpu": 1 << 15}  # bytes of a heap: some keep pages for each of many classes

Kinds = Literal["recorded", "given", "generated", "engine", "adversarial"]


@dataclass(frozen=True)
class Workload:
    """A trace for both.  ``whole``: operations of the recording, of which only the first ones may be used."""

    name: str
    kind: Kinds
    operations: list[Operation] = field(repr=False)
    geometry: dict[str, str] = field(default_factory=dict)
    whole: int = 0
    family: str = "heap"

    @property
    def capacity(self) -> int:
        """Bytes that a heap for it should have."""
        objects = live = 0
        for op in self.operations:
            live += (op.kind == Kind.ALLOC) - (op.kind == Kind.FREE)
            objects = max(objects, live)
        wanted = _SPARE * room(Trace(self.operations)) + _LOST[self.family] * objects
        return max(wanted, _LEAST[self.family])


def family(*targets: str) -> str:
    """What such targets are for: areas of a few bytes for each CPU, or anything."""
    return "percpu" if any("percpu" in parse(target).base for target in targets) else "heap"


def recorded(most: int, names: Sequence[str] | None = None, kind: str = "heap") -> list[Workload]:
    """The recordings for a family that come with the package, or those named, cut to ``most`` operations.

    Raises Problem for a name that is none.
    """
    folder = importlib.resources.files(__package__) / "recordings"
    files = {_short(file.name): file for file in (folder.iterdir() if folder.is_dir() else ())}
    wanted = [name for name in _RECORDINGS[kind] if name in files] if names is None else names
    found = []
    for name in wanted:
        if name not in files:
            raise Problem(f"unknown recording {name!r}; there are {', '.join(sorted(files))}; --trace FILE gives yours")
        with importlib.resources.as_file(files[name]) as path:
            found.append(from_file(path, most, "recorded", kind))
    return found


def _short(file: str) -> str:
    for ending in (".heaptrack.raw.zst", ".ftrace.gz", ".tsv.gz"):
        file = file.removesuffix(ending)
    return file


def from_file(path: Path, most: int, kind: Kinds = "given", of: str = "heap") -> Workload:
    """A recording or a trace of the user's, for a family.  Raises Problem for what cannot be read."""
    try:
        trace = read_recording(path).trace
    except (RecordingError, OSError) as problem:
        raise Problem(str(problem)) from None
    return Workload(_short(path.name), kind, trace.operations[:most], trace.header, len(trace.operations), of)


def generated(seed: int, operations: int, largest: int, of: str = "heap") -> list[Workload]:
    """Each shape once, for a family."""
    largest = max(1, min(largest, GENERATED_LARGEST[of]))
    return [
        Workload(name, "generated", make(Random(f"{name} {seed}"), operations, largest), {}, operations, of)
        for name, make in SHAPES.items()
    ]


def of_plain_engine(target: str, seed: int, runs: int) -> list[list[Operation]]:
    """What the plain engine does to a target in some runs: every operation of the vocabulary, refusals, page failures.

    Run where the target's code is.  Raises TargetError.
    """
    build = factory(target)

    def operations() -> Iterator[list[Operation]]:
        for _, run, _ in in_turn({target: build}, Random(f"compare {seed}")):
            yield run.operations

    return list(islice(operations(), runs))

