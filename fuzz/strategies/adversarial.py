"""The trace on which the new strategy is worst, compared with the old one: looked for by climbing from many starts.

Starts are bursts of equal objects, with and without every second one freed, of sizes all over the range, the worst of
them first; then shapes (see ``shapes``) in turn with them.
A candidate is a short trace; its score is how many times the figure of the new strategy is that of the old one.
Traces on which one refuses what the other serves do not count, since holding less is then no merit.  The best one is
made as small as it can be while the score stays.  Seeded, and its budget counts operations, so that the same seed
finds the same trace.

>>> from random import Random
>>> hunt = Hunt(lambda operations: float(sum(op.kind == Kind.FREE for op in operations)), Random(1), 64, 5_000)
>>> hunt.run().score > 10
True
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from heaplaw.operations import Kind, Operation
from heaplaw.properties.minimize import minimize

from .measuring import FIGURES
from .shapes import SHAPES, free, request, some_size

CAPACITY = 1 << 19
"""Bytes of the heaps that are searched."""
LENGTH = 120
"""Operations of a candidate, at most."""

_SCAN = 0.2  # of the budget, for the bursts that are tried first
_GRID, _BURST = 32, 24  # sizes; equal objects
_FROM_BURSTS = 0.6  # share of the climbs that begin at one
_LONGEST_START = 48  # operations; most are shorter: they can be tried often, and what pays makes them longer
_PATIENCE = 50  # candidates that are no better, before the climb begins somewhere else
_SMALLER = 0.4  # of the budget, for making the result small
_LOST = 1e-6  # share of the score that may be lost then: rounding
_KINDS = 7

Score = Callable[[Sequence[Operation]], float | None]


@dataclass(frozen=True)
class Worst:
    """What a search found; ``score`` 0 if nothing could be compared."""

    operations: list[Operation]
    score: float
    tried: int  # candidates
    spent: int  # operations done by each of the two


class Hunt:
    """One search.  ``score``: how much worse, None where it cannot be said; ``largest`` in bytes."""

    def __init__(self, score: Score, rng: Random, largest: int, budget: int) -> None:
        self._score, self._rng, self._largest, self._budget = score, rng, largest, budget
        self._spent = self._tried = 0
        self._palette: list[int] = []

    def run(self) -> Worst:
        """Climb until the budget is spent, then make the best trace small."""
        climbing = int(self._budget * (1 - _SMALLER))
        starts = self._bursts(int(self._budget * _SCAN))
        best, highest = list[Operation](), 0.0
        while self._spent < climbing:
            here = starts.pop(0) if starts and self._rng.random() < _FROM_BURSTS else self._shape()
            found, score = self._climb(here, climbing)
            if score > highest or (score == highest and len(found) < len(best)):
                best, highest = found, score
        if best:
            best = minimize(best, lambda operations: self._as_bad(operations, highest), look=0)
            highest = self._value(best) or highest
        return Worst(best, highest, self._tried, self._spent)

    def _shape(self) -> list[Operation]:
        """A short trace of some shape."""
        make = self._rng.choice(list(SHAPES.values()))
        return make(self._rng, int(_LONGEST_START ** self._rng.random()), self._largest)

    def _bursts(self, until: int) -> list[list[Operation]]:
        """Bursts of equal objects by how bad they are, the worst first."""
        sizes = {max(1, round(self._largest ** (step / _GRID))) for step in range(1, _GRID + 1)}
        sizes |= {min(self._largest, self._largest // part + 1) for part in range(1, 9)}
        found: list[tuple[float, list[Operation]]] = []
        for size in self._rng.sample(sorted(sizes), len(sizes)):
            full = [request(name, size) for name in range(_BURST)]
            for start in (full, full + [free(name) for name in range(0, _BURST, 2)]):
                if self._spent < until and (value := self._value(start)) is not None:
                    found.append((value, start))
        found.sort(key=lambda pair: -pair[0])
        return [start for _, start in found]

    def _climb(self, here: list[Operation], until: int) -> tuple[list[Operation], float]:
        """From one start to where no neighbour is better."""
        self._palette = [some_size(self._rng, self._largest) for _ in range(4)]
        height, since = self._value(here) or 0.0, 0
        while since < _PATIENCE and self._spent < until:
            there = self._neighbour(here)
            value = self._value(there)
            since += 1
            if value is not None and value >= height:
                since = 0 if value > height else since
                here, height = there, value
        return here, height

    def _value(self, operations: Sequence[Operation]) -> float | None:
        self._spent += len(operations) + 1
        self._tried += 1
        return self._score(operations)

    def _as_bad(self, operations: Sequence[Operation], wanted: float) -> bool:
        """Is a smaller trace as bad?  Not known once the budget is spent, so it gets no smaller."""
        if self._spent > self._budget or not operations:
            return False
        value = self._value(operations)
        return value is not None and value >= wanted * (1 - _LOST)

    # ---- neighbours -----------------------------------------------------------------------

    def _neighbour(self, here: Sequence[Operation]) -> list[Operation]:
        """A trace that is a little different."""
        rng, there = self._rng, list(here)
        at = rng.randrange(len(there) + 1)
        how = rng.randrange(_KINDS)
        if how == 0 and there:  # cut something out
            del there[at : at + rng.randrange(1, 8)]
        elif how == 1:  # a burst of equal objects
            size = self._size()
            there[at:at] = [request(name, size) for name in self._births(there, rng.choice((1, 4, 16)))]
        elif how == 2:  # free some, or every second one, of those born before
            names = _living(there[:at])
            few = names[:: rng.choice((1, 2, 3))] if rng.random() < 0.5 else rng.sample(names, min(len(names), 3))
            there[at:at] = [free(name) for name in few]
        elif how in (3, 4):  # another size, for one or for all of its size
            self._resize(there, everywhere=how == 4)
        elif how == 5:  # the same once more, with new objects
            there += self._again(there[at : at + rng.randrange(4, 24)], there)
        else:  # a free at another time
            frees = [index for index, op in enumerate(there) if op.kind == Kind.FREE]
            if frees:
                there.insert(at, there.pop(rng.choice(frees)))
        return there[:LENGTH]

    def _size(self) -> int:
        return self._rng.choice(self._palette) if self._rng.random() < 0.7 else some_size(self._rng, self._largest)

    @staticmethod
    def _births(there: Sequence[Operation], count: int) -> range:
        first = max((op.name for op in there), default=-1) + 1
        return range(first, first + count)

    def _resize(self, there: list[Operation], everywhere: bool) -> None:
        asked = [index for index, op in enumerate(there) if op.kind == Kind.ALLOC]
        if not asked:
            return
        before = there[self._rng.choice(asked)]
        near = before.size + self._rng.choice((-64, -8, -1, 1, 8, 64))
        size = min(self._largest, max(1, near)) if self._rng.random() < 0.5 else self._size()
        for index in asked:
            if there[index] == before or (everywhere and there[index].size == before.size):
                there[index] = there[index]._replace(size=size)

    def _again(self, some: Sequence[Operation], there: Sequence[Operation]) -> list[Operation]:
        asked = [op.name for op in some if op.kind == Kind.ALLOC]
        new = dict(zip(asked, self._births(there, len(asked)), strict=True))
        return [op._replace(name=new[op.name]) for op in some if op.name in new]


def _living(operations: Sequence[Operation]) -> list[int]:
    live: dict[int, None] = {}
    for op in operations:
        if op.kind == Kind.ALLOC:
            live[op.name] = None
        else:
            live.pop(op.name, None)
    return list(live)


def worse_by(figure: str, old: float, new: float) -> float:
    """How many times as bad the new figure is.

    To shares a hundredth is added, so that next to nothing is not the best denominator; to others a unit where one of
    them is nothing.
    """
    known = FIGURES[figure]
    unit = 0.01 if known.unit == "share" else 0.0 if min(old, new) > 0 else 1.0
    return (new + unit) / (old + unit) if known.less_is_better else (old + unit) / (new + unit)
