"""Innocents whose space has an odd shape: where it starts, how it is cut, where headers and bits stand.

>>> field = OddBase()
>>> field.alloc(8), field.alloc(8, 64)
(1003, 1024)
"""

from collections.abc import Hashable, Iterator
from functools import partial
from itertools import count
from typing import Any

from heaplaw import (
    AllocationBits,
    Block,
    Context,
    Contract,
    Extent,
    FreeRegion,
    InvalidFree,
    PageSource,
    Refusal,
    Request,
    Shadow,
)
from heaplaw.impls.bits import align_up
from heaplaw.impls.promises import always, at_most

from . import innocent
from .field import ARENA, Field, fits, no_fit, promises

_LOW, _HIGH = 1003, 1003 + 509
_ROOMS, _ROOM = 3, 128  # spaces, and bytes of each
_FOOT = 8  # bytes of a footer
_SPLIT = 128  # Parity: requests from here on go up


@innocent("memory starts and ends at odd addresses", "bounds are the contract's, not [0, arena)")
class OddBase(Field):
    """509 bytes from 1003."""

    contract = promises(
        arena=_HIGH - _LOW, bounds={0: (_LOW, _HIGH)}, drained_size=_HIGH - _LOW,
        must_serve=partial(fits, low=_LOW, end=_HIGH), must_refuse=partial(no_fit, low=_LOW, end=_HIGH),
    )  # fmt: skip


def _cells(request: Request, shadow: Shadow, source: PageSource | None) -> bool:
    return fits(request._replace(size=align_up(request.size, 128)), shadow, source, granule=128)


def _no_cells(request: Request, shadow: Shadow, source: PageSource | None) -> bool:
    return not _cells(request, shadow, source)


@innocent("the granule is 128 bytes", "a byte may cost a quarter of the arena")
class HugeGranule(Field):
    """Four cells."""

    contract = promises(
        granule=128, max_align=128, waste=lambda size, align: -size % 128, must_serve=_cells, must_refuse=_no_cells
    )

    def _length(self, size: int) -> int:
        return align_up(size, 128)


@innocent("every block is aligned to 64 bytes whatever is asked", "more alignment than asked leaves holes")
class OverAligned(Field):
    """The gaps before blocks are holes that only short requests could use, and none may."""

    contract = promises(must_serve=partial(fits, granule=64), must_refuse=partial(no_fit, granule=64))

    def _choose(self, length: int, align: int) -> int | None:
        return super()._choose(length, 64)


@innocent("three separate address spaces", "no space borders on another; the largest request is a space's")
class Spaces:
    """Three fields; a handle is (space, place)."""

    contract = Contract(
        arena=_ROOM, max_align=64, handles="opaque", bounds={1: (64, 64 + _ROOM), 2: (7, 7 + _ROOM)},
        detects=frozenset({"double", "foreign"}), rejects=frozenset({"zero", "huge", "align"}), mergeable=always,
        list_of=lambda region: "holes", waste=partial(at_most, 0), drained_size=_ROOM,
        must_serve=lambda request, shadow, source: _in_a_room(request, shadow),
        must_refuse=lambda request, shadow, source: not _in_a_room(request, shadow), free_then_alloc=True,
        cost_bounds={"scanned": lambda request, shadow: len(shadow) + _ROOMS},
    )  # fmt: skip

    def __init__(self) -> None:
        self._fields = [_Room(self.contract.bounds_of(space)) for space in range(_ROOMS)]
        self._last = self._fields[0]

    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> Any:
        """From the first space that has room."""
        for space, field in enumerate(self._fields):
            self._last = field
            place = field.alloc(size, align)
            if isinstance(place, Refusal):
                return place
            if place is not None:
                return space, place
        return None

    def free(self, handle: Any) -> None:
        """Raises InvalidFree where no block starts."""
        if not isinstance(handle[0], int):
            raise InvalidFree(f"no space {handle[0]}")
        self._fields[handle[0]].free(handle[1])

    def read(self, handle: Any, at: int, length: int) -> bytes:
        """From its space."""
        return self._fields[handle[0]].read(handle[1], at, length)

    def write(self, handle: Any, at: int, data: bytes) -> None:
        """To its space."""
        self._fields[handle[0]].write(handle[1], at, data)

    def extents(self, handle: Any) -> tuple[tuple[int, int, int], ...]:
        """With its space's number."""
        return tuple(Extent(handle[0], at, length) for _, at, length in self._fields[handle[0]].extents(handle[1]))

    def free_regions(self) -> Iterator[FreeRegion]:
        """Of all spaces."""
        for space, field in enumerate(self._fields):
            yield from (region._replace(space=space) for region in field.free_regions())


class _Room(Field):
    """A field between two bounds."""

    def __init__(self, bounds: tuple[int, int]) -> None:
        self.contract = _room_contract(*bounds)
        super().__init__()


def _room_contract(low: int, high: int) -> Contract:
    return promises(arena=high - low, bounds={0: (low, high)})


def _in_a_room(request: Request, shadow: Shadow) -> bool:
    rooms = [(0, 0, _ROOM), (1, 64, 64 + _ROOM), (2, 7, 7 + _ROOM)]
    gaps = ((a, b) for room in rooms for a, b in shadow.gaps(*room))
    return request.size > 0 and any(align_up(a, request.align) + request.size <= b for a, b in gaps)


@innocent("the header stands behind its block", "prologue none, epilogue one header")
class Footers(Field):
    """Inside, a block has its footer's eight bytes; what is shown leaves them out, of free blocks as well."""

    contract = promises(
        max_size=ARENA - _FOOT, header=_FOOT, epilogue=_FOOT, drained_size=ARENA - _FOOT, overhead=None,
        must_serve=None, must_refuse=None, realloc_aligns=False, max_align=1, granule=_FOOT,
        waste=lambda size, align: -size % _FOOT, limits=(8, 16, 24),
    )  # fmt: skip

    def _length(self, size: int) -> int:
        return align_up(size, _FOOT) + _FOOT

    def realloc(self, handle: Any, size: int) -> Any:
        """Always elsewhere, within the limit."""
        return Refusal.TOO_BIG if size > self.contract.largest else self._move(handle, size)

    def extents(self, handle: Any) -> tuple[tuple[int, int, int], ...]:
        """Without the footer."""
        return (Extent(0, handle, self._used[handle][0] - _FOOT),)

    def free_regions(self) -> Iterator[FreeRegion]:
        """Without their footers."""
        return (region._replace(length=region.length - _FOOT) for region in super().free_regions())

    def counters(self) -> dict[str, int]:
        """Bytes of payload."""
        lengths = [region.length for region in self.free_regions()]
        used = sum(length - _FOOT for length, _ in self._used.values())
        return {"free_bytes": sum(lengths), "largest_free": max(lengths, default=0), "used_bytes": used}


@innocent("a bitmap of 8-byte units is all there is", "metadata may have no lists at all; a last byte owns its unit")
class Bits:
    """First fit over the bits; a second bitmap marks each block's last unit.  The last unit of the arena is short."""

    contract = Contract(
        arena=ARENA - 3, max_size=ARENA - 8, granule=8, max_align=64, waste=lambda size, align: -size % 8,
        detects=frozenset({"double", "foreign"}), rejects=frozenset({"zero", "huge", "align"}), free_then_alloc=True,
        must_serve=lambda request, shadow, source: _units(request, shadow), drained_size=ARENA - 8,
        must_refuse=lambda request, shadow, source: not _units(request, shadow),
        metadata_bound=partial(at_most, 16),
    )  # fmt: skip
    units = (ARENA - 3) // 8

    def __init__(self) -> None:
        self._live = self._ends = 0

    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> Any:
        """The first run of clear bits that is long enough."""
        if size < 1 or not 0 < align <= 64 or align & (align - 1):
            return Refusal.INVALID
        if size > self.contract.largest:
            return Refusal.TOO_BIG
        wanted = (size + 7) // 8
        mask = (1 << wanted) - 1
        for unit in range(0, self.units - wanted + 1, max(1, align // 8)):
            if not self._live >> unit & mask:
                self._live |= mask << unit
                self._ends |= 1 << unit + wanted - 1
                return unit * 8
        return None

    def free(self, handle: Any) -> None:
        """Clear the bits to the block's end.  Raises InvalidFree where no block starts."""
        unit = handle // 8
        starts = unit == 0 or self._ends >> unit - 1 & 1 or not self._live >> unit - 1 & 1
        if handle % 8 or unit >= self.units or not self._live >> unit & 1 or not starts:
            raise InvalidFree(f"no block at {handle}")
        end = self._end(unit)
        self._live &= ~((1 << end) - (1 << unit))
        self._ends &= ~(1 << end - 1)

    def _end(self, unit: int) -> int:
        ends = self._ends >> unit
        return unit + (ends & -ends).bit_length()

    def extents(self, handle: Any) -> tuple[tuple[int, int, int], ...]:
        """Up to the unit that is marked as its last."""
        return (Extent(0, handle, self._end(handle // 8) * 8 - handle),)

    def bitmap(self) -> Iterator[AllocationBits]:
        """The first of the two."""
        yield AllocationBits(0, 0, 8, self.units, self._live)

    def metadata(self) -> tuple[int, int]:
        """Two bitmaps."""
        return 0, 16


def _units(request: Request, shadow: Shadow) -> bool:
    whole = request._replace(size=align_up(request.size, 8))
    return fits(whole, shadow, None, granule=8, end=(ARENA - 3) // 8 * 8)


@innocent("an object lies in as many pieces as there are holes", "a request needs bytes, not a run of them")
class Scattered(Field):
    """Fills holes from the lowest; refuses only when too few bytes are free.  Handles are numbers of birth."""

    contract = promises(
        handles="opaque", max_align=1, detects=frozenset({"double", "foreign"}), realloc_aligns=False,
        rejects=frozenset({"zero", "huge"}), must_serve=lambda r, s, p: 0 < r.size <= ARENA - s.bytes,
        must_refuse=lambda r, s, p: not 0 < r.size <= ARENA - s.bytes, cost_bounds={},
        metadata_bound=partial(at_most, 32 * ARENA),
    )  # fmt: skip
    cost = realloc = None  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self._births = count(1)
        self._pieces: dict[int, list[Extent]] = {}

    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> Any:
        """A number, or why there is none."""
        if size < 1:
            return Refusal.INVALID
        if size > sum(end - start for start, end in self._holes):
            return None
        pieces = []
        while size:
            start, end = self._holes[0]
            length = min(size, end - start)
            self._take(start, length)
            pieces.append(Extent(0, start, length))
            size -= length
        self._pieces[name := next(self._births)] = pieces
        return name

    def free(self, handle: Any) -> None:
        """Raises InvalidFree for a number that is not in use."""
        if handle not in self._pieces:
            raise InvalidFree(f"no object {handle}")
        for _, start, length in self._pieces.pop(handle):
            self._give(start, length)

    def _bytes_of(self, handle: Any) -> list[int]:
        return [place for _, start, length in self._pieces[handle] for place in range(start, start + length)]

    def read(self, handle: Any, at: int, length: int) -> bytes:
        """Gathered."""
        return bytes(self._memory[place] for place in self._bytes_of(handle)[at : at + length])

    def write(self, handle: Any, at: int, data: bytes) -> None:
        """Scattered."""
        for place, byte in zip(self._bytes_of(handle)[at : at + len(data)], data, strict=True):
            self._memory[place] = byte

    def extents(self, handle: Any) -> tuple[tuple[int, int, int], ...]:
        """All pieces, in order."""
        return tuple(self._pieces[handle])

    def counters(self) -> dict[str, int]:
        """Bytes and objects."""
        return {"free_bytes": sum(end - start for start, end in self._holes), "live_objects": len(self._pieces)}


def _is_low(block: Block) -> str | None:
    low = block.extents[0][1] < ARENA // 2
    return None if low == (block.size < _SPLIT) else "small ones stand low and large ones high"


def _half(request: Request, shadow: Shadow, source: PageSource | None) -> bool:
    half = (0, ARENA // 2) if request.size < _SPLIT else (ARENA // 2, ARENA)
    return fits(request, shadow, source, low=half[0], end=half[1])


def _list_of_half(region: FreeRegion) -> Hashable:
    return "low" if region.start < ARENA // 2 else "high"


@innocent("small blocks stand in the lower half only, large ones in the upper", "free neighbours may stay apart")
class Halves(Field):
    """The holes of the two halves never merge."""

    contract = promises(
        max_size=ARENA // 2, drained_size=ARENA // 2, geometry=_is_low, must_serve=_half,
        must_refuse=lambda request, shadow, source: not _half(request, shadow, source),
        mergeable=lambda one, two: two.start != ARENA // 2, list_of=None, limits=(_SPLIT,),
        cost_bounds={"scanned": lambda request, shadow: len(shadow) + 2},
        metadata_bound=lambda shadow, source: 16 * (2 * len(shadow) + 2),
    )  # fmt: skip
    lists = list_bits = counters = None  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self._holes = [(0, ARENA // 2), (ARENA // 2, ARENA)]

    def _choose(self, length: int, align: int) -> int | None:
        low = length < _SPLIT
        return next((place for place, _, end in self._places(length, align) if (end <= ARENA // 2) == low), None)

    def _give(self, place: int, length: int) -> None:
        upper = [hole for hole in self._holes if (hole[0] >= ARENA // 2) != (place >= ARENA // 2)]
        self._holes = [hole for hole in self._holes if hole not in upper]
        super()._give(place, length)
        self._holes = sorted(self._holes + upper)

    def realloc(self, handle: Any, size: int) -> Any:
        """Always elsewhere."""
        return Refusal.TOO_BIG if size > self.contract.largest else self._move(handle, size)

    def destroy(self) -> None:
        """Forget everything."""
        self.__init__()  # type: ignore[misc]
