"""Where an address stands in a picture: to scale where everything can be seen so, compressed where it cannot.

A heap of a million bytes in which two blocks of one byte overlap is drawn so that both bytes are wide enough to
carry a letter; stretches in which nothing ever lives give way first.

>>> axis = Axis([Place(0, 0, 1), Place(0, 1, 1)], [], (0, 1024), width=700)
>>> axis.to_scale, axis.x(1) - axis.x(0) > 100, round(axis.x(1024))
(False, True, 700)
>>> Axis([Place(0, 0, 512)], [], (0, 1024), width=700).to_scale
True
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from heaplaw.properties.frames import Place

_LEAST = 22.0  # pixels that show a letter
_VOID = 26.0  # pixels of a gap between pages that are never held
_IDLE = 0.32  # of the width: at most, for what is never in use, where not all is to scale
_BUSY_POWER, _IDLE_POWER = 0.45, 0.15  # of a length, that its pixels grow with where not all is to scale
_DIGIT = 6.6  # pixels of a tick's digit
_MOST_CUTS = 30  # above them free extents have no width of their own


class Tick(NamedTuple):
    """A labelled address."""

    x: float
    address: int
    anchor: str  # of its text: start, middle, end


class Axis:
    """From addresses to pixels, the same for every space and step of a picture.  O(n log n) for n places."""

    def __init__(
        self, used: Iterable[Place], others: Iterable[Place], bounds: tuple[int, int] | None, *, width: float,
        held: Sequence[Place] = (),
    ) -> None:  # fmt: skip
        """``used``: what is ever live or marked; ``others``: free.  ``held``: pages, where memory comes in those."""
        used, others = [place for place in used if place.length > 0], list(others)
        busy, kept = _union(used), _union(held)
        known = _ends(used) | _ends(held) | set(bounds or ())
        free = _ends(others)
        few = len(known | free) <= _MOST_CUTS
        cuts = known | (free if few or not free else {min(free), max(free)}) or {0}
        self.cuts = sorted(cuts | {max(cuts) or 1})
        stretches = list(pairwise(self.cuts))
        self.voids = [(a, b) for a, b in stretches if held and not _within(a, kept) and not _within(a, busy)]
        self.strong = _ends(used) | set(bounds or ())
        widths = self._widths(stretches, [_within(a, busy) for a, _ in stretches], width)
        self._at = [0.0]
        for one in widths:
            self._at.append(self._at[-1] + one)

    def _widths(self, stretches: list[tuple[int, int]], busy: list[bool], width: float) -> list[float]:
        """Pixels of each stretch."""
        void = {stretch: min(_VOID, 0.5 * width / len(stretches)) for stretch in self.voids}
        left = width - sum(void.values())
        rest = [stretch for stretch in stretches if stretch not in void]
        total = sum(b - a for a, b in rest) or 1
        scaled = {(a, b): left * (b - a) / total for a, b in rest}
        least = min(_LEAST, 0.6 * left / max(1, len(rest)))
        seen = [scaled[s] for s, here in zip(stretches, busy, strict=True) if here and s in scaled]
        self.to_scale = not void and min(seen, default=width) >= least
        if not self.to_scale:
            in_use = dict(zip(stretches, busy, strict=True))
            scaled = _compressed([(s, in_use[s]) for s in rest], left, least)
        return [void[s] if s in void else scaled[s] for s in stretches]

    def x(self, address: int) -> float:
        """Pixels from the left; the ends for what lies beyond them."""
        index = bisect_right(self.cuts, address) - 1
        if index < 0:
            return 0.0
        if index >= len(self.cuts) - 1:
            return self._at[-1]
        low, high = self.cuts[index], self.cuts[index + 1]
        return self._at[index] + (self._at[index + 1] - self._at[index]) * (address - low) / (high - low)

    def ticks(self) -> list[Tick]:
        """Addresses whose labels have room: the ends first, then where blocks begin and end, then the others."""
        ends = (self.cuts[0], self.cuts[-1])
        order = [*ends, *sorted(self.strong - set(ends)), *sorted(set(self.cuts) - self.strong)]
        chosen: list[tuple[float, float, Tick]] = []
        for address in order:
            x, half = self.x(address), len(str(address)) * _DIGIT / 2 + 5
            anchor = "start" if x - half < 0 else "end" if x + half > self._at[-1] else "middle"
            low = x if anchor == "start" else x - 2 * half if anchor == "end" else x - half
            if all(low + 2 * half <= other or low >= last for other, last, _ in chosen):
                chosen.append((low, low + 2 * half, Tick(x, address, anchor)))
        return sorted(tick for _, _, tick in chosen)


Stretch = tuple[int, int]


def _compressed(stretches: list[tuple[Stretch, bool]], width: float, least: float) -> dict[Stretch, float]:
    """Pixels: a least for each, the rest by a root of the length; the idle ones share what they may have."""
    rest = width - least * len(stretches)
    weights = {s: (s[1] - s[0]) ** (_BUSY_POWER if busy else _IDLE_POWER) for s, busy in stretches}
    idle = sum(weights[s] for s, busy in stretches if not busy)
    most = _IDLE * sum(weights.values())
    if idle > most and any(busy for _, busy in stretches):
        weights |= {s: weights[s] * most / idle for s, busy in stretches if not busy}
    total = sum(weights.values()) or 1
    return {s: least + rest * weight / total for s, weight in weights.items()}


def _ends(some: Iterable[Place]) -> set[int]:
    return {end for place in some for end in (place.start, place.start + place.length)}


def _union(some: Iterable[Place]) -> list[tuple[int, int]]:
    """(start, end) of what they cover, in whatever space."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted((place.start, place.start + place.length) for place in some):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    return joined


def _within(address: int, covered: list[tuple[int, int]]) -> bool:
    index = bisect_right(covered, (address, float("inf"))) - 1
    return index >= 0 and address < covered[index][1]
