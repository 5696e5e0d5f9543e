"""A small honest allocator for the gallery: first fit over a sorted map of holes, all metadata out of band.

It has no odd habit itself.  Subclasses override one seam: where a request is placed (``_choose``),
how long a block is (``_length``), what becomes of a freed stretch (``_give``), how a block is resized.

>>> field = Field()
>>> field.alloc(24), field.alloc(10, 16), [region[:3] for region in field.free_regions()]
(0, 32, [(0, 24, 8), (0, 42, 470)])
"""

from bisect import bisect_left
from collections.abc import Hashable, Iterator, Mapping
from functools import partial
from typing import Any

from heaplaw import Context, Contract, Extent, FreeRegion, InvalidFree, ListBit, Listed, PageSource, Refusal, Request
from heaplaw.impls.bits import align_up, is_power_of_two
from heaplaw.impls.promises import always, at_most, no_overhead
from heaplaw.shadow import Shadow

ARENA = 512  # bytes
_ENTRY = 16  # bytes that an entry of the map costs


def fits(
    request: Request, shadow: Shadow, source: PageSource | None, *, granule: int = 1, low: int = 0, end: int = ARENA
) -> bool:
    """Does a gap between the live blocks of space 0 hold the request at a multiple of ``granule``?  O(live)."""
    align = max(request.align, granule)
    return request.size > 0 and any(align_up(a, align) + request.size <= b for a, b in shadow.gaps(0, low, end))


def no_fit(request: Request, shadow: Shadow, source: PageSource | None, **shape: int) -> bool:
    """The opposite of ``fits``."""
    return not fits(request, shadow, source, **shape)


def one_list(region: FreeRegion) -> Hashable:
    """All holes stand on one list."""
    return "holes"


def _entries(shadow: Shadow, source: PageSource | None) -> int:
    return _ENTRY * (2 * len(shadow) + 1)


def looks(request: Request, shadow: Shadow) -> int:
    """Holes that there can be at most, where neighbours merge."""
    return len(shadow) + 1


def promises(**other: Any) -> Contract:
    """The contract of ``Field`` with some promises changed; None takes one back."""
    own: dict[str, Any] = {
        "arena": ARENA, "max_align": 64, "realloc_aligns": True, "overhead": no_overhead, "mergeable": always,
        "detects": frozenset({"double", "foreign", "interior"}), "rejects": frozenset({"zero", "huge", "align"}),
        "list_of": one_list, "waste": partial(at_most, 0), "metadata_bound": _entries, "drained_size": ARENA,
        "must_serve": fits, "must_refuse": no_fit, "free_then_alloc": True, "cost_bounds": {"scanned": looks},
    }  # fmt: skip
    return Contract(**{**own, **other})


class Field:
    """First fit; merges at once; resizes in place where it can."""

    contract = promises()

    def __init__(self) -> None:
        low, high = self.contract.bounds_of(0)
        self._low, self._high = low, high
        self._memory = bytearray(high)
        self._holes: list[tuple[int, int]] = [(low, high)]  # (start, end), by address
        self._used: dict[int, tuple[int, int]] = {}  # start -> (length, alignment asked for)
        self._scanned = self._found = 0

    # ---- the three operations ----------------------------------------------------------

    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> Any:
        """A place for ``size`` bytes, or why there is none.  O(holes)."""
        self._scanned = self._found = 0
        if size < 1 or align > self.contract.max_align or not is_power_of_two(align):
            return Refusal.INVALID
        if size > self.contract.largest:
            return Refusal.TOO_BIG
        length = self._length(size)
        place = self._choose(length, align)
        if place is None:
            return None
        self._take(place, length)
        self._used[place] = length, align
        return place

    def free(self, handle: Any) -> None:
        """Give a block back.  Raises InvalidFree where none starts there."""
        if handle not in self._used:
            raise InvalidFree(f"no block at {handle}")
        length, _ = self._used.pop(handle)
        self._give(handle, length)

    def realloc(self, handle: Any, size: int) -> Any:
        """Shrink or grow in place, else move; a refusal leaves the block as it was."""
        if size > self.contract.largest:
            return Refusal.TOO_BIG
        length, align = self._used[handle]
        wanted = self._length(size)
        if wanted <= length:
            self._used[handle] = wanted, align
            if wanted < length:
                self._give(handle + wanted, length - wanted)
            return handle
        if self._hole_at(handle + length) >= wanted - length:
            self._take(handle + length, wanted - length)
            self._used[handle] = wanted, align
            return handle
        return self._move(handle, size)

    def _move(self, handle: Any, size: int) -> Any:
        """Into a new block, the old one freed when there is one."""
        length, align = self._used[handle]
        moved = self.alloc(size, align)
        if moved is not None and not isinstance(moved, Refusal):
            self.write(moved, 0, self.read(handle, 0, min(size, length)))
            self.free(handle)
        return moved

    # ---- seams -------------------------------------------------------------------------

    def _length(self, size: int) -> int:
        """Bytes that a request for ``size`` takes."""
        return size

    def _places(self, length: int, align: int) -> Iterator[tuple[int, int, int]]:
        """(lowest place in it, start, end) of every hole that has room, by address."""
        for start, end in self._holes:
            self._scanned += 1
            place = align_up(start, align)
            if place + length <= end:
                self._found = end - start
                yield place, start, end

    def _choose(self, length: int, align: int) -> int | None:
        """Where the block goes."""
        return next((place for place, _, _ in self._places(length, align)), None)

    def _take(self, place: int, length: int) -> None:
        """Cut a stretch out of its hole."""
        index = bisect_left(self._holes, (place + 1,)) - 1
        start, end = self._holes[index]
        left = [(start, place)] if start < place else []
        right = [(place + length, end)] if place + length < end else []
        self._holes[index : index + 1] = left + right

    def _give(self, place: int, length: int) -> None:
        """A stretch is free again: merge it with the holes beside it."""
        holes, end = self._holes, place + length
        index = bisect_left(holes, (place,))
        if index < len(holes) and holes[index][0] == end:
            end = holes.pop(index)[1]
        if index and holes[index - 1][1] == place:
            index -= 1
            place = holes.pop(index)[0]
        holes.insert(index, (place, end))

    def _hole_at(self, place: int) -> int:
        """Length of the hole that starts exactly here; 0 if none does."""
        index = bisect_left(self._holes, (place,))
        if index < len(self._holes) and self._holes[index][0] == place:
            return self._holes[index][1] - place
        return 0

    # ---- contents and observations -----------------------------------------------------

    def read(self, handle: Any, at: int, length: int) -> bytes:
        """``length`` bytes from offset ``at`` of a block."""
        return bytes(self._memory[handle + at : handle + at + length])

    def write(self, handle: Any, at: int, data: bytes) -> None:
        """Put ``data`` at offset ``at`` of a block."""
        self._memory[handle + at : handle + at + len(data)] = data

    def extents(self, handle: Any) -> tuple[tuple[int, int, int], ...]:
        """The block, as the map has it."""
        return (Extent(0, handle, self._used[handle][0]),)

    def free_regions(self) -> Iterator[FreeRegion]:
        """The holes."""
        for start, end in self._holes:
            yield FreeRegion(0, start, end - start, "holes")

    def lists(self) -> Iterator[Listed]:
        """The only list."""
        for start, _ in self._holes:
            yield Listed("holes", (0, start))

    def list_bits(self) -> Iterator[ListBit]:
        """Is there a hole?"""
        yield ListBit("any hole", ("holes",), bool(self._holes))

    def counters(self) -> Mapping[str, int]:
        """Statistics, from the map."""
        lengths = [end - start for start, end in self._holes]
        return {
            "live_objects": len(self._used), "used_bytes": sum(length for length, _ in self._used.values()),
            "free_bytes": sum(lengths), "largest_free": max(lengths, default=0),
        }  # fmt: skip

    def metadata(self) -> tuple[int, int]:
        """Nothing in place; the map out of band."""
        return 0, _ENTRY * (len(self._holes) + len(self._used))

    def cost(self) -> Mapping[str, int]:
        """Holes looked at by the last request, and the length of the one that was used."""
        return {"scanned": self._scanned} | ({"found": self._found} if self._found else {})

    def destroy(self) -> None:
        """Forget everything."""
        self._holes, self._used = [(self._low, self._high)], {}
