"""Innocents with odd handles, and what they do about size 0.

>>> field = SentinelOutside()
>>> field.alloc(0) == field.alloc(0) == 1 << 40
True
"""

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import count
from typing import Any

from heaplaw import Context, Contract, Extent, FreeRegion, InvalidFree, Listed, PageSource, Refusal, Request, Shadow
from heaplaw.impls.promises import always, at_most

from . import innocent
from .field import ARENA, Field, no_fit, promises

_SENTINEL = 1 << 40


def _no_room(request: Request, shadow: Shadow, source: PageSource | None) -> bool:
    return request.size > 0 and no_fit(request, shadow, source)


_ZERO_TOO: dict[str, Any] = {
    "min_size": 0, "rejects": frozenset({"huge", "align"}), "detects": frozenset({"foreign", "interior"}),
    "must_refuse": _no_room, "realloc_aligns": False,
}  # fmt: skip


class _Named(Field):
    """Places behind names: an opaque handle for each block."""

    contract = promises(handles="opaque", detects=frozenset({"double", "foreign"}))

    def __init__(self) -> None:
        super().__init__()
        self._at: dict[Any, int] = {}

    def _name(self, place: int) -> Any:
        """A fresh name."""
        raise NotImplementedError

    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> Any:
        """A name, or why there is none."""
        place = super().alloc(size, align)
        if place is None or isinstance(place, Refusal):
            return place
        name = self._name(place)
        self._at[name] = place
        return name

    def free(self, handle: Any) -> None:
        """Raises InvalidFree for a name that nobody has."""
        if handle not in self._at:
            raise InvalidFree(f"no block is called {handle!r}")
        super().free(self._at.pop(handle))

    def realloc(self, handle: Any, size: int) -> Any:
        """The block may move; its name stays."""
        place = self._at[handle]
        length, align = self._used[place]
        if size <= length:
            return handle if super().realloc(place, size) is not None else None
        moved = Field.alloc(self, size, align)
        if moved is None or isinstance(moved, Refusal):
            return moved
        Field.write(self, moved, 0, Field.read(self, place, 0, length))
        Field.free(self, place)
        self._at[handle] = moved
        return handle

    def read(self, handle: Any, at: int, length: int) -> bytes:
        """By name."""
        return super().read(self._at[handle], at, length)

    def write(self, handle: Any, at: int, data: bytes) -> None:
        """By name."""
        super().write(self._at[handle], at, data)

    def extents(self, handle: Any) -> tuple[tuple[int, int, int], ...]:
        """Where the block of that name is."""
        return super().extents(self._at[handle])


@innocent("handles are pairs of a word and a number", "a handle is any hashable")
class TupleHandles(_Named):
    """("block", 0), ("block", 1) ..."""

    def __init__(self) -> None:
        super().__init__()
        self._births = count()

    def _name(self, place: int) -> Any:
        return "block", next(self._births)


@innocent("handles are words, and nothing shows where the blocks are", "what has no place cannot be entered in a map")
class WordHandles(TupleHandles):
    """A black box: it keeps contents, and shows no more."""

    contract = Contract(
        arena=ARENA, handles="opaque", max_align=64, detects=frozenset({"double", "foreign"}),
        rejects=frozenset({"zero", "huge", "align"}), drained_size=ARENA, free_then_alloc=True,
    )  # fmt: skip
    extents = free_regions = lists = list_bits = counters = metadata = cost = None  # type: ignore[assignment]

    def _name(self, place: int) -> Any:
        return f"block {next(self._births)}"


@innocent("the empty word, False and 0.5 are handles", "only None and a Refusal are refusals; falsehood is a handle")
class FalsyHandles(_Named):
    """Names that are false, used again as soon as they are free."""

    names = ("", False, (), 0.5, frozenset(), b"", *range(1, ARENA))

    def _name(self, place: int) -> Any:
        return next(name for name in self.names if name not in self._at)


@innocent("handles are opaque small numbers, from 0, reused at once; no place is shown", "a number is no address")
class Reused(_Named):
    """Shows its counters, which are true of its bytes and not of its numbers."""

    contract = promises(
        handles="opaque", detects=frozenset({"double", "foreign"}), list_of=None, overhead=None, mergeable=None,
        waste=None, must_serve=None, must_refuse=None, cost_bounds={}, metadata_bound=partial(at_most, 32 * ARENA),
    )  # fmt: skip
    extents = free_regions = lists = list_bits = None  # type: ignore[assignment]

    def _name(self, place: int) -> Any:
        return next(name for name in count() if name not in self._at)


@innocent("handles have the slot above bit 48 and the slot's generation below", "an odd number may be a live handle")
class SlotGenerations(_Named):
    """Stale handles of a slot that is in use again are noticed."""

    def __init__(self) -> None:
        super().__init__()
        self._generations = [0] * ARENA

    def _name(self, place: int) -> Any:
        taken = {name >> 48 for name in self._at}
        slot = next(slot for slot in range(ARENA) if slot not in taken)
        self._generations[slot] += 1
        return slot << 48 | self._generations[slot]


class _Zero(Field):
    """Serves size 0 without a byte."""

    contract = promises(**_ZERO_TOO)
    sentinel: Any = _SENTINEL
    _empty = 0  # objects of size 0 that live

    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> Any:
        """The sentinel for size 0."""
        if size or not 0 < align <= 64 or align & (align - 1):
            return super().alloc(size, align)
        self._empty += 1
        self._scanned = self._found = 0
        return self.sentinel

    def free(self, handle: Any) -> None:
        """One fewer.  Raises InvalidFree where none starts."""
        if handle == self.sentinel:
            self._empty -= 1
        else:
            super().free(handle)

    def realloc(self, handle: Any, size: int) -> Any:
        """From nothing to something."""
        if handle != self.sentinel:
            return super().realloc(handle, size)
        moved = super().alloc(size)
        if moved is not None and not isinstance(moved, Refusal):
            self._empty -= 1
        return moved

    def extents(self, handle: Any) -> tuple[tuple[int, int, int], ...]:
        """Nowhere, for the sentinel."""
        return () if handle == self.sentinel else super().extents(handle)

    def counters(self) -> Mapping[str, int]:
        """Objects of size 0 live too."""
        counters = dict(super().counters())
        return counters | {"live_objects": counters["live_objects"] + self._empty}


@innocent("all objects of size 0 share one handle, and stand nowhere", "several objects may have one address, if empty")
class SentinelNowhere(_Zero):
    """The sentinel is a multiple of any alignment."""


@innocent("all objects of size 0 share an address outside the arena", "an empty object needs no memory of its own")
class SentinelOutside(_Zero):
    """As the kernel's ZERO_SIZE_PTR; places are not shown otherwise."""

    contract = promises(**_ZERO_TOO)
    extents = None  # type: ignore[assignment]


@innocent("all objects of size 0 share one opaque handle", "a handle names one block: but an empty one is no block")
class SentinelOpaque(_Zero):
    """Any number of empty objects behind one name."""

    contract = promises(**{**_ZERO_TOO, "detects": frozenset({"foreign"})}, handles="opaque")
    sentinel = "nothing"


@innocent("an object of size 0 has the address at which the next one is placed", "sized free tells two at one address")
class ZeroAtNeighbour(Field):
    """The contract's free is told the size, so that one address is enough for two."""

    contract = promises(**{**_ZERO_TOO, "detects": frozenset({"foreign"})}, sized_free=True)
    realloc = extents = None  # type: ignore[assignment]  # extents(handle) could not tell the two apart either

    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> Any:
        """The first hole's start for size 0, or the end of a full arena."""
        if size or not 0 < align <= 64 or align & (align - 1):
            return super().alloc(size, align)
        self._scanned = self._found = 0
        start = self._holes[0][0] if self._holes else ARENA
        return start & -align

    def free(self, handle: Any, size: int = 0) -> None:
        """Nothing to do for size 0.  Raises InvalidFree where no block starts."""
        if size or handle > ARENA:
            super().free(handle)

    def counters(self) -> Mapping[str, int]:
        """Bytes only."""
        return {"free_bytes": super().counters()["free_bytes"]}


@innocent("an object of size 0 is a header and nothing else", "an empty block still stands in the map")
class ZeroWithHeader:
    """Eight bytes of header before each block, as a list of (start of payload, length, free) over the arena."""

    contract = Contract(
        arena=ARENA, min_size=0, max_size=ARENA - 8, granule=8, header=8, prologue=8, handles="address",
        rejects=frozenset({"huge"}), waste=lambda size, align: -size % 8 + 7, mergeable=always,
        list_of=lambda region: "free", drained_size=ARENA - 8, detects=frozenset({"double", "foreign"}),
        free_then_alloc=True,
    )  # fmt: skip

    def __init__(self) -> None:
        self._blocks: list[tuple[int, int, bool]] = [(8, ARENA - 8, True)]

    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> Any:
        """First fit, of whole words."""
        length = size + 7 & -8
        for index, (start, room, free) in enumerate(self._blocks):
            if free and room >= length:
                rest = [(start + length + 8, room - length - 8, True)] if room >= length + 8 else []
                self._blocks[index : index + 1] = [(start, length if rest else room, False), *rest]
                return start
        return None

    def free(self, handle: Any) -> None:
        """Merge with the free neighbours.  Raises InvalidFree where no block is."""
        index = next((i for i, (at, _, free) in enumerate(self._blocks) if at == handle and not free), -1)
        if index < 0:
            raise InvalidFree(f"no block at {handle}")
        first = last = index
        if index and self._blocks[index - 1][2]:
            first -= 1
        if index + 1 < len(self._blocks) and self._blocks[index + 1][2]:
            last += 1
        start, end = self._blocks[first][0], sum(self._blocks[last][:2])
        self._blocks[first : last + 1] = [(start, end - start, True)]

    def extents(self, handle: Any) -> tuple[tuple[int, int, int], ...]:
        """The payload."""
        return next((Extent(0, at, length),) for at, length, free in self._blocks if at == handle and not free)

    def free_regions(self) -> Iterator[FreeRegion]:
        """Free blocks, those of no payload among them."""
        return (FreeRegion(0, at, length, "free") for at, length, free in self._blocks if free)

    def lists(self) -> Iterator[Listed]:
        """All free blocks."""
        return (Listed("free", (0, at)) for at, _, free in self._blocks if free)
