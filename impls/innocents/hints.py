"""Innocents with hints of free space that are stale, loose, exact or missing.

>>> field = StaleLow()
>>> a = field.alloc(100); field.free(a); [hint.value for hint in field.hints()]
[412]
"""

from collections.abc import Iterator, Mapping
from typing import Any

from heaplaw import Context, Direction, Extent, Hint, Maintained, Quantity

from . import innocent
from .field import ARENA, Field, promises

_ALL = Extent(0, 0, ARENA)


def _scan_first(values: Mapping[str, int]) -> str | None:
    if values["scan"] > values["longest.start"]:
        return f"scan hint {values['scan']} behind the longest run at {values['longest.start']}"
    return None


@innocent("hints are lowered at once and raised in maintenance only", "a hint may lag below the truth, as declared")
class StaleLow(Field):
    """``longest`` never overestimates; nothing is promised about how far it lags."""

    contract = promises(maintenance=("refresh",), hint_slack={"longest": ARENA})

    def __init__(self) -> None:
        super().__init__()
        self._longest = ARENA

    def _take(self, place: int, length: int) -> None:
        super()._take(place, length)
        self._longest = min(self._longest, self._now())

    def _now(self) -> int:
        return max((end - start for start, end in self._holes), default=0)

    def maintain(self, kind: str) -> Maintained:
        """Look again."""
        self._longest = self._now()
        return Maintained()

    def hints(self) -> Iterator[Hint]:
        """As last lowered or looked up."""
        yield Hint("longest", self._longest, _ALL, Direction.LOWER, Quantity.LONGEST_FREE)

    def destroy(self) -> None:
        """Forget everything."""
        super().destroy()
        self._longest = ARENA


@innocent("all hints are exact, with the places they speak of", "an exact hint of a full heap speaks of no place")
class Exact(Field):
    """Recomputed by every walk, in all five quantities."""

    contract = promises(hint_relations=_scan_first)

    def hints(self) -> Iterator[Hint]:
        """Of the whole arena."""
        first, last = (self._holes[0], self._holes[-1]) if self._holes else ((ARENA, ARENA), (0, 0))
        longest = max(self._holes, key=lambda hole: hole[1] - hole[0], default=(ARENA, ARENA))
        free = sum(end - start for start, end in self._holes)
        of_longest = Extent(0, longest[0], longest[1] - longest[0])
        exact = Direction.EXACT
        yield Hint("longest", of_longest.length, _ALL, exact, Quantity.LONGEST_FREE, of_longest)
        yield Hint("free", free, _ALL, exact, Quantity.FREE)
        yield Hint("scan", first[0], _ALL, exact, Quantity.FIRST_FREE)
        yield Hint("left", 0 if first[0] else first[1], _ALL, exact, Quantity.FREE_AT_START)
        yield Hint("right", ARENA - last[0] if last[1] == ARENA else 0, _ALL, exact, Quantity.FREE_AT_END)


@innocent("hints are upper bounds that only maintenance lowers", "a hint may lie above, where it says so")
class LooseUpper(Field):
    """``free`` says how much there may be at most; ``scan`` where to begin looking, never too far up."""

    contract = promises(maintenance=("recount",))

    def __init__(self) -> None:
        super().__init__()
        self._most, self._scan = ARENA, 0

    def _give(self, place: int, length: int) -> None:
        super()._give(place, length)
        self._most = min(ARENA, self._most + length)
        self._scan = min(self._scan, place)

    def maintain(self, kind: str) -> Maintained:
        """Count."""
        self._most = sum(end - start for start, end in self._holes)
        self._scan = self._holes[0][0] if self._holes else 0
        return Maintained()

    def hints(self) -> Iterator[Hint]:
        """Bounds."""
        yield Hint("free", self._most, _ALL, Direction.UPPER, Quantity.FREE)
        yield Hint("scan", self._scan, _ALL, Direction.LOWER, Quantity.FIRST_FREE)


@innocent("shows hints and nothing else of itself, its handles being numbers", "a hint about places needs places")
class HintsOnly(Field):
    """The hints are true of the bytes; which bytes are whose is not shown."""

    contract = promises(
        handles="opaque", list_of=None, overhead=None, mergeable=None, waste=None, must_serve=None, must_refuse=None,
        detects=frozenset({"double"}), cost_bounds={}, metadata_bound=None,
    )  # fmt: skip
    extents = free_regions = lists = list_bits = counters = cost = realloc = metadata = None  # type: ignore[assignment]

    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> Any:
        """The place, told as its distance from the arena's end: a number as good as any."""
        place = super().alloc(size, align)
        return ARENA - place if isinstance(place, int) else place

    def free(self, handle: Any) -> None:
        """Raises InvalidFree for a number that names no block."""
        super().free(ARENA - handle)

    def read(self, handle: Any, at: int, length: int) -> bytes:
        """By number."""
        return super().read(ARENA - handle, at, length)

    def write(self, handle: Any, at: int, data: bytes) -> None:
        """By number."""
        super().write(ARENA - handle, at, data)

    def hints(self) -> Iterator[Hint]:
        """Free bytes, exactly."""
        free = sum(end - start for start, end in self._holes)
        yield Hint("free", free, _ALL, Direction.EXACT, Quantity.FREE)


@innocent("promises on which list a hole belongs, and shows the list but no hole", "what is not shown is not asked")
class ListsOnly(Field):
    """Its contract says more than can be seen."""

    free_regions = None  # type: ignore[assignment]


@innocent("shows the bits that say which lists are filled, but not the lists", "a bit about lists needs the lists")
class ListBitsOnly(Field):
    """Holes and bits; what stands on the list is its own business."""

    lists = None  # type: ignore[assignment]
