"""What one replay of a trace measures: bytes held, bytes asked for, and the steps of every call.

No law is asked here (see ``comparing``), so that it is quick enough for a search.  Steps are what a target counts of
itself with ``cost``: entries scanned, lists probed, bits scanned.  Counters that are bytes are no steps.

>>> from heaplaw import Kind, Operation
>>> seen = measured("xen-xmalloc,pages=8", [Operation(Kind.ALLOC, 0, 100), Operation(Kind.ALLOC, 1, 100)])
>>> seen.footprint, seen.live, seen.figure("internal")
(4096, 256, 0.21875)
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from heaplaw.checker import NO_AUDIT, Checker, Unusable
from heaplaw.impls.registry import factory
from heaplaw.lawbook import LAWS
from heaplaw.operations import Kind, Operation
from heaplaw.properties.watchdog import watchdog
from heaplaw.protocol import Refusal

BYTES = frozenset({"found", "copied"})
"""Counters of ``cost`` that are bytes, not steps."""

_ADDRESSES = 1 << 40  # bytes of an arena that is the whole of a process's memory: its highest address says nothing
_SAMPLES = 200  # of a replay, for pictures and for what costs a walk
_SECONDS = (10.0, 0.01)  # CPU time that a replay may use: at least, and for each operation
_CHANGING = (Kind.ALLOC, Kind.FREE, Kind.REALLOC, Kind.MAINTAIN, Kind.DRAIN)
_NAMED = (Kind.ALLOC, Kind.FREE, Kind.REALLOC, Kind.WRITE, Kind.READ, Kind.MAP, Kind.UNMAP, Kind.LINK, Kind.BAD_FREE)


class Figure(NamedTuple):
    """One of the things that are compared."""

    title: str
    unit: str  # bytes, share, steps, requests
    less_is_better: bool = True


FIGURES: dict[str, Figure] = {
    "footprint": Figure("footprint, peak", "bytes"),
    "mean_footprint": Figure("footprint, mean", "bytes"),
    "internal": Figure("internal fragmentation", "share"),
    "external": Figure("external fragmentation", "share"),
    "metadata": Figure("metadata beside the heap", "bytes"),
    "returned": Figure("returned when all is freed", "share", less_is_better=False),
    "refused": Figure("requests refused", "requests"),
    "median_steps": Figure("steps a call, median", "steps"),
    "p99_steps": Figure("steps a call, 99th percentile", "steps"),
    "worst_steps": Figure("steps a call, worst", "steps"),
    "alloc_steps": Figure("steps an allocation, mean", "steps"),
    "free_steps": Figure("steps a free, mean", "steps"),
    "worst_alloc_steps": Figure("steps an allocation, worst", "steps"),
    "worst_free_steps": Figure("steps a free, worst", "steps"),
}


@dataclass
class Measured:
    """Of one replay, or of several added up (``+``).  Bytes unless said otherwise."""

    operations: int = 0
    requests: int = 0
    served: int = 0
    refused: dict[int, str] = field(default_factory=dict)  # birth of a request -> why
    footprint: int = 0  # pages held, or the highest address used, at the highest
    footprints: int = 0  # summed up over operations
    requested: int = 0  # at its peak
    live: int = 0  # with slack, then
    left: int = 0  # held when everything is freed
    metadata: int | None = None  # out of band, at its highest; None: not shown
    counts: bool = False  # does the target count its steps?
    alloc_steps: Counter[int] = field(default_factory=Counter)  # steps -> how many calls took them
    free_steps: Counter[int] = field(default_factory=Counter)
    counters: dict[str, int] = field(default_factory=dict)  # of ``cost``, all calls added up
    samples: list[tuple[int, int]] = field(default_factory=list)  # (requested, footprint) in the course of time
    paged: bool = False  # are pages taken and given back?
    problem: str = ""  # why it ended early

    def figure(self, name: str) -> float | None:
        """One of FIGURES; None where it is not shown or nothing was done."""
        if not self.operations:
            return None
        if name.endswith("steps"):
            return self._steps(name) if self.counts else None
        return {
            "footprint": self.footprint or None,
            "mean_footprint": self.footprints / self.operations or None,
            "internal": 1 - self.requested / self.live if self.live else 0.0,
            "external": 1 - self.live / self.footprint if self.footprint else None,
            "metadata": self.metadata,
            "returned": 1 - self.left / self.footprint if self.footprint and self.paged else None,
            "refused": len(self.refused),
        }[name]

    def _steps(self, name: str) -> float | None:
        """Of allocations, of frees, or of both, as the figure's name says; None where there was no such call."""
        calls = Counter[int]()
        if "free" not in name:
            calls += self.alloc_steps
        if "alloc" not in name:
            calls += self.free_steps
        if not (total := calls.total()):
            return None
        if name.startswith("worst"):
            return max(calls)
        if name in ("alloc_steps", "free_steps"):
            return sum(steps * count for steps, count in calls.items()) / total
        return quantile(calls, 0.5 if name == "median_steps" else 0.99)

    def __add__(self, other: "Measured") -> "Measured":
        counters = Counter(self.counters)
        counters.update(other.counters)
        known = [value for value in (self.metadata, other.metadata) if value is not None]
        refused = {**self.refused, **{-1 - len(self.refused) - n: why for n, why in enumerate(other.refused.values())}}
        return Measured(
            self.operations + other.operations, self.requests + other.requests, self.served + other.served, refused,
            self.footprint + other.footprint, self.footprints + other.footprints, self.requested + other.requested,
            self.live + other.live, self.left + other.left, sum(known) if known else None,
            self.counts or other.counts, self.alloc_steps + other.alloc_steps, self.free_steps + other.free_steps,
            dict(counters), [], self.paged or other.paged, self.problem or other.problem,
        )  # fmt: skip


def quantile(calls: Mapping[int, int], share: float) -> int:
    """The least number of steps that this share of the calls did not exceed.  O(different numbers)."""
    wanted, seen = share * sum(calls.values()), 0
    for steps in sorted(calls):
        seen += calls[steps]
        if seen >= wanted:
            return steps
    return 0


def measured(target: str, operations: Sequence[Operation], without: Collection[int] = ()) -> Measured:
    """Replay operations on a fresh target, leaving out the objects of these births.  Raises TargetError."""
    heap = Metered(factory(target)())
    checker = Checker(heap, mute=LAWS, audit_every=NO_AUDIT, audit_from=NO_AUDIT)
    seen = Measured(counts=hasattr(heap.target, "cost"), paged=checker.source is not None)
    look, every = _Look(checker, heap, seen), max(1, len(operations) // _SAMPLES)
    try:
        with watchdog(_SECONDS[0] + _SECONDS[1] * len(operations)):
            for op in operations:
                if op.kind in _NAMED and op.name in without:
                    continue
                checker.step(op)
                look.after(op)
                if not seen.operations % every:
                    look.sample()
            look.sample()
            checker.step(Operation(Kind.DRAIN))
            seen.left = look.held()
            seen.footprint = max(seen.footprint, seen.left)  # some take pages for later when they are idle
    except Unusable as problem:
        seen.problem = str(problem)
    seen.served = checker.served
    return seen


class Metered:
    """A target whose calls' steps are noted as soon as they return; contents are neither written nor read."""

    read = write = None

    def __init__(self, target: Any) -> None:
        self.target = target
        self._cost = getattr(target, "cost", None)
        self.cost_of_call: Mapping[str, int] | None = None  # None: there was no call

    def __getattr__(self, name: str) -> Any:
        return getattr(self.target, name)

    def alloc(self, *given: Any, **more: Any) -> Any:
        """The target's, and what it cost."""
        answer = self.target.alloc(*given, **more)
        self._note()
        return answer

    def free(self, *given: Any, **more: Any) -> None:
        """The target's, and what it cost."""
        self.target.free(*given, **more)
        self._note()

    def _note(self) -> None:
        self.cost_of_call = self._cost() if self._cost is not None else None


class _Look:
    """Looks at the heap after each operation."""

    def __init__(self, checker: Checker, heap: Metered, seen: Measured) -> None:
        self.checker, self.heap, self.seen = checker, heap, seen
        self._tops: Counter[int] = Counter()
        self._paged = checker.source is not None
        self._placed = checker.contract.arena < _ADDRESSES
        self._refusals, self._counters, self._now = 0, Counter[str](), 0
        seen.counters = self._counters

    def after(self, op: Operation) -> None:
        """Add an operation to the figures.  O(counters)."""
        seen, checker, shadow = self.seen, self.checker, self.checker.shadow
        seen.operations += 1
        if op.kind == Kind.ALLOC:
            seen.requests += 1
            if checker.refusals != self._refusals:
                why = checker.answer
                seen.refused[op.name] = (why if isinstance(why, Refusal) else Refusal.NO_MEMORY).value
        self._refusals = checker.refusals
        if self.heap.cost_of_call is not None:  # an operation on an object that was refused calls nothing
            if op.kind in (Kind.ALLOC, Kind.FREE):
                self._note_steps(seen.alloc_steps if op.kind == Kind.ALLOC else seen.free_steps, self.heap.cost_of_call)
            self.heap.cost_of_call = None
        if op.kind in _CHANGING:
            self._now = self.held(op)
            seen.footprint = max(seen.footprint, self._now)
        seen.footprints += self._now
        if shadow.requested > seen.requested:
            seen.requested, seen.live = shadow.requested, shadow.bytes

    def _note_steps(self, calls: Counter[int], cost: Mapping[str, int]) -> None:
        for name, value in cost.items():
            self._counters[name] += value
        calls[sum([value for name, value in cost.items() if name not in BYTES])] += 1

    def held(self, op: Operation | None = None) -> int:
        """Bytes of the pages held now; without a page source, of all up to the highest address ever used."""
        if self._paged:
            return int(self.checker.source.held * self.checker.page_size)
        if op is None or not self._placed:
            return 0
        if (block := self.checker.shadow.live.get(op.name)) is not None:
            for space, start, length in block.extents:
                self._tops[space] = max(self._tops[space], start + length)
        return self._tops.total()

    def sample(self) -> None:
        """What costs a walk, and a point of the picture."""
        seen = self.seen
        seen.samples.append((self.checker.shadow.requested, self._now))
        if "metadata" in self.checker.shows:
            seen.metadata = max(seen.metadata or 0, self.heap.metadata()[1])
