"""What one audit sees: each observation read once, beside its recount.

Recounts come from the shadow heap alone; observations come from the target's own
structures and are cached here for the length of one audit.
"""

from collections.abc import Callable, Iterator
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .protocol import Direction, FreeRegion, Hint, Listed, Quantity
from .shadow import SPACE_SHIFT

if TYPE_CHECKING:
    from .checker import Checker

T = TypeVar("T")
_BITS_A_BLOCK = 64  # bits of a bitmap that cost as much to recount as a block
_by_place = itemgetter(0, 1)


class once(Generic[T]):  # noqa: N801 - it is used as a decorator
    """An attribute that is computed when it is first read; functools.cached_property without its lock."""

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self._compute, self._name = compute, compute.__name__

    def __get__(self, view: Any, kind: Any) -> T:
        value = view.__dict__[self._name] = self._compute(view)
        return value


class View:
    """Observations and recounts at one instant."""

    def __init__(self, checker: "Checker") -> None:
        self._c = checker
        self._bits = 0  # of bitmaps that were recounted
        self._runs: dict[tuple[int, int, int], list[tuple[int, int]]] = {}

    @once
    def regions(self) -> list[FreeRegion]:
        seen = self._c.target.free_regions()
        return [region if region.__class__ is FreeRegion else FreeRegion(*region) for region in seen]

    @once
    def in_place(self) -> list[FreeRegion]:
        """The free regions by address."""
        return sorted(self.regions, key=_by_place)

    @once
    def free_bytes(self) -> int:
        """Of all free regions."""
        return sum([region.length for region in self.regions])

    @once
    def lists(self) -> list[Listed]:
        return [entry if entry.__class__ is Listed else Listed(*entry) for entry in self._c.target.lists()]

    @once
    def hints(self) -> list[Hint]:
        return list(self._c.target.hints())

    @once
    def spaces(self) -> list[int]:
        """Every space that shows a live or a free byte."""
        shown = set(self._c.shadow.spaces())
        if self._c.contract.handles == "address" or "free_regions" not in self._c.shows:
            shown.add(0)
        if "free_regions" in self._c.shows:
            shown.update([region.space for region in self.regions])
        return sorted(shown)

    def walked(self) -> int:
        """How many things this audit looked at; paces the next one."""
        seen = self.__dict__
        lists = sum(len(seen.get(name, ())) for name in ("regions", "lists", "hints"))
        return len(self._c.shadow) + lists + self._bits // _BITS_A_BLOCK

    def free_total(self) -> int:
        """Free bytes as the target shows them; 0 where it shows none."""
        if "free_regions" in self._c.shows:
            return self.free_bytes
        return int(self._c.target.counters().get("free_bytes", 0)) if "counters" in self._c.shows else 0

    def layout(self, space: int) -> list[tuple[int, int, str]]:
        """(start, end, what) of live and free blocks of a space, by address."""
        live = self._c.shadow.extents(space, 0, 1 << SPACE_SHIFT)
        blocks = [(start, end, "a live block") for start, end, _ in live]
        if self._c.contract.header:  # a block of no bytes has a header of its own
            owned = (extent for block in self._c.shadow.live.values() for extent in block.extents)
            blocks += [(at, at, "a live block") for where, at, length in owned if where == space and not length]
        blocks += [(r.start, r.start + r.length, "a free block") for r in self.regions if r.space == space]
        blocks.sort(key=_by_place)
        return blocks

    def seams(self) -> Iterator[tuple[int, int, int, int, str]]:
        """(bytes promised, space, from, to, before what) of every seam of a space or a run of pages.

        A seam lies before the first block, between two neighbours and behind the last one.
        """
        promise = self._c.contract
        for space in self.spaces if promise.spaces == "arena" else (0,):
            blocks, index = self.layout(space), 0
            for low, high in self._stretches(space):
                at, gap = low, promise.prologue
                while index < len(blocks):
                    start, end, what = blocks[index]
                    if start >= high and end > high and promise.spaces == "pages":
                        break  # of the next run; a block of no bytes may stand at the very end of this one
                    yield gap, space, at, start, what
                    at, gap, index = end, promise.header, index + 1
                yield promise.epilogue, space, at, high, "the end"
            for start, _, what in blocks[index:]:  # beyond the last run: no gap is the right one
                yield 0, space, start + 1, start, f"{what} outside the pages held"

    def _stretches(self, space: int) -> list[tuple[int, int]]:
        """(start, end) of the arena, or of each run of pages held, in bytes."""
        if self._c.contract.spaces == "arena":
            return [self._c.contract.bounds_of(space)]
        size = self._c.page_size
        return [(page * size, (page + (1 << order)) * size) for page, order in sorted(self._c.source.runs.items())]

    def live_bits(self, space: int, start: int, unit: int, units: int) -> int:
        """The allocation bitmap that the shadow heap calls for."""
        self._bits += units
        digits, at = [], 0
        for low, high in self._c.shadow.gaps(space, start, start + unit * units):
            first, end = -(-(low - start) // unit), (high - start) // unit  # a unit is live if a byte of it is
            if first < end:
                digits += ["1" * (first - at), "0" * (end - first)]
                at = end
        digits.append("1" * (units - at))
        return int("".join(reversed(digits)) or "0", 2)

    def truth(self, hint: Hint) -> int:
        """The quantity that a hint bounds, in bytes; -1 for the place of what does not exist."""
        space, start, length = region = hint.region
        runs = self._runs.get(region)
        if runs is None:
            runs = self._runs[region] = list(self._c.shadow.gaps(space, start, start + length))
        if hint.quantity is Quantity.FREE:
            return sum(high - low for low, high in runs)
        if not runs:
            return -1 if hint.quantity is Quantity.FIRST_FREE else 0
        (first, first_end), (last, last_end) = runs[0], runs[-1]
        if hint.quantity is Quantity.LONGEST_FREE:
            return max(high - low for low, high in runs)
        if hint.quantity is Quantity.FIRST_FREE:
            return first - start
        if hint.quantity is Quantity.FREE_AT_START:
            return first_end - first if first == start else 0
        return last_end - last if last_end == start + length else 0

    @once
    def _truths(self) -> list[tuple[Hint, int]]:
        """Every hint beside the truth, recounted once for all laws of hints."""
        return [(hint, self.truth(hint)) for hint in self.hints]

    def judged(self, *directions: Direction) -> list[tuple[Hint, int]]:
        """Hints of these directions beside the truth; a place in a full region bounds nothing."""
        return [pair for pair in self._truths if pair[0].direction in directions and pair[1] >= 0]

    def hints_by_region(self) -> dict[Any, dict[str, int]]:
        """Values by name (and ``name.start`` of witnesses) of the hints about each region."""
        grouped: dict[Any, dict[str, int]] = {}
        for hint in self.hints:
            values = grouped.setdefault(tuple(hint.region), {})
            values[hint.name] = hint.value
            if hint.witness is not None:
                values[f"{hint.name}.start"] = hint.witness[1]
        return grouped

    def recount(self, name: str) -> int | None:
        """A standard counter's true value; None where nothing independent tells it."""
        c = self._c
        if name == "live_objects":
            return len(c.shadow)
        if name == "mapped_objects":
            return sum(block.mapped > 0 for block in c.shadow.live.values())
        if name == "used_bytes":
            return c.shadow.bytes if c.places else None
        if name == "requested_bytes":
            return c.shadow.requested
        if name == "pages":
            return None if c.source is None else c.source.held
        if name in ("free_blocks", "largest_block"):
            if "free_regions" not in c.shows:
                return None
            lengths = [region.length for region in self.regions]
            return len(lengths) if name == "free_blocks" else max(lengths, default=0)
        if name in ("free_bytes", "largest_free"):
            bare = c.contract.arena and not (c.contract.header or c.contract.prologue or c.contract.epilogue)
            if bare and c.places and c.contract.pending is None:  # the gaps between live extents are the free space
                runs = chain.from_iterable(c.shadow.gaps(s, *c.contract.bounds_of(s)) for s in self.spaces)
                lengths = [high - low for low, high in runs]
            elif "free_regions" in c.shows:
                lengths = [region.length for region in self.regions]
            else:
                return None
            return sum(lengths) if name == "free_bytes" else max(lengths, default=0)
        if name == "untouched_pages" and c.source is not None and c.places:  # of the source, and all lies in such
            return int(c.source.held) - len(self._pages_touched())
        return None

    def _pages_touched(self) -> set[tuple[int, int]]:
        """(space, page) of every page that a live byte lies in."""
        size = self._c.page_size
        return {
            (space, page)
            for block in self._c.shadow.live.values()
            for space, start, length in block.extents
            if length
            for page in range(start // size, (start + length - 1) // size + 1)
        }
