"""Innocents that resize in their own way, or hand out blocks in another state.

>>> field = NeverMoves()
>>> a, b = field.alloc(8), field.alloc(8)
>>> field.realloc(a, 9) is None, field.realloc(b, 9) == b
(True, True)
"""

from typing import Any

from heaplaw import Context, InvalidFree, Maintained, Refusal
from heaplaw.impls.bits import align_up

from . import innocent
from .field import Field, promises


@innocent("resizing always moves, even to the same size", "a resize that was possible in place may be refused")
class AlwaysMoves(Field):
    """The old block is there until the new one is filled."""

    def realloc(self, handle: Any, size: int) -> Any:
        """A new block, or none."""
        return self._move(handle, size)


@innocent("resizing never moves", "a resize may be refused though there is room elsewhere")
class NeverMoves(Field):
    """Grows into the hole behind, or not at all."""

    def _move(self, handle: Any, size: int) -> Any:
        return None


@innocent("resizing never shrinks a block", "what a resize leaves as slack is the block's own, and back when freed")
class NeverShrinks(Field):
    """Keeps the longest that the block ever was; so there is no bound of waste."""

    contract = promises(waste=None)

    def realloc(self, handle: Any, size: int) -> Any:
        """The same block where that is long enough."""
        return handle if size <= self._used[handle][0] else super().realloc(handle, size)


@innocent("resizing grows to the left, over the hole before the block", "new and old place of a resize may overlap")
class GrowsLeft(Field):
    """Moves down by as much as it needs, where its alignment allows; else as others do."""

    def realloc(self, handle: Any, size: int) -> Any:
        """The lower place, the contents moved down."""
        length, align = self._used[handle]
        before = next((start for start, end in self._holes if end == handle), handle)
        place = align_up(before, align)
        if not length < size <= length + handle - place:
            return super().realloc(handle, size)
        kept = self.read(handle, 0, length)
        del self._used[handle]
        self._give(handle, length)
        self._take(place, size)
        self._used[place] = size, align
        self.write(place, 0, kept)
        return place


@innocent("a moved block keeps no alignment", "after a resize only the granule is owed, where nothing else is promised")
class ForgetsAlignment(Field):
    """As realloc of ISO C: aligned_alloc is forgotten."""

    contract = promises(realloc_aligns=False)

    def _move(self, handle: Any, size: int) -> Any:
        length, _ = self._used[handle]
        self._used[handle] = length, 1
        return super()._move(handle, size)


@innocent("fresh blocks are zeroed, freed ones left dirty", "what lies in free memory is nobody's business")
class Zeroing(Field):
    """Zeroes on request, also the slack that a resize adds."""

    contract = promises(zeroed=True)

    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> Any:
        """Zeros."""
        place = super().alloc(size, align)
        if place is not None and not isinstance(place, Refusal):
            self.write(place, 0, bytes(size))
        return place


@innocent("a freed stretch of less than 16 bytes becomes slack of the block before", "slack of live blocks may grow")
class SlackGrows(Field):
    """No hole is short unless it stands at the start; what was swallowed is free when its keeper is freed."""

    contract = promises(slack_grows=True, waste=None, free_then_alloc=False, realloc_aligns=False)
    least = 16

    def free(self, handle: Any) -> None:
        """To the holes or to the block before.  Raises InvalidFree where none starts."""
        super().free(handle)
        self._swallow()

    def realloc(self, handle: Any, size: int) -> Any:
        """In place within the slack, else by moving: never a new hole behind."""
        length, _ = self._used[handle]
        return handle if size <= length else self._move(handle, size)

    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> Any:
        """First fit."""
        place = super().alloc(size, align)
        if place is not None and not isinstance(place, Refusal):
            self._swallow()
        return place

    def _swallow(self) -> None:
        """Give every short hole that a block ends at to that block."""
        ends = {place + length: place for place, (length, _) in self._used.items()}
        for start, end in [hole for hole in self._holes if hole[1] - hole[0] < self.least and hole[0] in ends]:
            self._take(start, end - start)
            length, align = self._used[ends[start]]
            self._used[ends[start]] = length + end - start, align


@innocent("evicts all it has at once, though slack may grow", "of objects that end together none may be looked at")
class EvictsAll(SlackGrows):
    """Nothing lives after "clear"."""

    contract = promises(
        slack_grows=True, waste=None, free_then_alloc=False, realloc_aligns=False, maintenance=("clear",),
        evicting=frozenset({"clear"}),
    )  # fmt: skip

    def maintain(self, kind: str) -> Maintained:
        """Free everything."""
        gone = tuple(self._used)
        for handle in gone:
            self.free(handle)
        return Maintained(evicted=gone)


@innocent("free is told the size, and notices a wrong one", "a wrong size is misuse only where the contract says so")
class SizedFree(Field):
    """Raises on any misuse there is."""

    contract = promises(sized_free=True, detects=frozenset({"double", "foreign", "interior", "size"}))

    def __init__(self) -> None:
        super().__init__()
        self._asked: dict[int, int] = {}

    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> Any:
        """First fit."""
        place = super().alloc(size, align)
        if place is not None and not isinstance(place, Refusal):
            self._asked[place] = size
        return place

    def realloc(self, handle: Any, size: int) -> Any:
        """As ever; from now on of the new size."""
        answer = super().realloc(handle, size)
        if answer is not None and not isinstance(answer, Refusal):
            self._asked[answer] = size
        return answer

    def _move(self, handle: Any, size: int) -> Any:
        length, align = self._used[handle]
        moved = self.alloc(size, align)
        if moved is not None:
            self.write(moved, 0, self.read(handle, 0, length))
            self.free(handle, self._asked[handle])
        return moved

    def free(self, handle: Any, size: int = 0) -> None:
        """Give it back.  Raises InvalidFree for a wrong place or size."""
        if self._asked.get(handle) != size:
            raise InvalidFree(f"{size} bytes at {handle} were never asked for")
        del self._asked[handle]
        super().free(handle)
