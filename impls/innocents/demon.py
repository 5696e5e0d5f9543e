"""Demonic allocators: they answer anything that their contracts permit, and choose what nobody expects.

A demon knows nothing but a map of what is lent.  It refuses whenever it need not serve, gives any
reason, takes any legal place and any slack up to the bound of waste, shows its free space cut and
shuffled as it likes, hints anywhere on the allowed side, moves, evicts and keeps what it may.  A law
that convicts a demon claims what no contract says.

>>> demon = Minimal()
>>> demon.alloc(8) is None  # a fresh heap has to serve what lies between the limits
False
"""

from collections.abc import Hashable, Iterator, Mapping
from random import Random
from typing import Any, ClassVar

from heaplaw import (
    Context,
    Contract,
    Direction,
    Extent,
    FreeRegion,
    Hint,
    InvalidFree,
    Listed,
    Maintained,
    PageSource,
    Quantity,
    Refusal,
    Request,
    Shadow,
)
from heaplaw.impls.bits import align_up, is_power_of_two
from heaplaw.impls.promises import no_overhead

from . import innocent
from .paging import SLOT, Pool, has_room, no_room
from .paging import promises as pool_promises

_ARENA = 256
_WASTE, _LAG, _STEPS = 24, 40, 50  # bytes, bytes, steps
_REFUSALS = (*Refusal, None)


class _Demon:
    """The map of what is lent, and the dice."""

    contract = Contract(arena=_ARENA)

    def __init__(self) -> None:
        self._random = Random(13)
        self._lent: dict[Any, tuple[int, int, int]] = {}  # handle -> start, length, size asked for
        self._fresh = True  # nothing was ever asked

    def _gaps(self) -> list[tuple[int, int]]:
        at, gaps = 0, []
        for start, length, _ in sorted(self._lent.values()):
            if start > at:
                gaps.append((at, start))
            at = max(at, start + length)
        return [*gaps, (at, _ARENA)] if at < _ARENA else gaps

    def _refuse(self) -> Refusal | None:
        return self._random.choice(_REFUSALS)

    def _coin(self, chance: float = 0.5) -> bool:
        return self._random.random() < chance

    def _anywhere(self, size: int, align: int) -> tuple[int, int] | None:
        """Any aligned place, and the end of the gap that it lies in."""
        fits = [(align_up(a, align), b) for a, b in self._gaps() if align_up(a, align) + size <= b]
        if not fits:
            return None
        low, end = self._random.choice(fits)
        return low + align * self._random.randint(0, (end - size - low) // align), end


@innocent("a demon whose contract says a size and nothing else", "everything that is not promised is free")
class Minimal(_Demon):
    """Black box.  Even so it is bound to serve the first request, not to overlap, and to say the same again."""

    _births = 0

    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> Any:
        """Anywhere, or not at all."""
        forced, self._fresh = self._fresh and 0 < size <= _ARENA, False
        place = self._anywhere(size, 1)
        if place is None or (not forced and self._coin(0.4)):
            return self._refuse()
        self._births += 1
        self._lent[self._births] = place[0], size, size
        return place[0]

    def free(self, handle: Any) -> None:
        """Of two objects at one address the shorter one goes first: all but one are empty."""
        _, birth = min((length, birth) for birth, (start, length, _) in self._lent.items() if start == handle)
        del self._lent[birth]


def _much_room(request: Request, shadow: Shadow, source: PageSource | None) -> bool:
    """A gap four times as long as needed."""
    return request.size > 0 and any(
        align_up(a, request.align) + 4 * request.size <= b for a, b in shadow.gaps(0, 0, _ARENA)
    )


def _no_room(request: Request, shadow: Shadow, source: PageSource | None) -> bool:
    gaps = shadow.gaps(0, 0, _ARENA)
    return not (request.size > 0 and any(align_up(a, request.align) + request.size <= b for a, b in gaps))


def _list_of(region: FreeRegion) -> Hashable:
    return region.length.bit_length()


def _in_order(values: Mapping[str, int]) -> str | None:
    return "scan behind the longest run" if values["scan"] > values.get("longest.start", _ARENA) else None


@innocent("a demon whose contract says nearly all that can be said of an arena", "between two promises all is free")
class Rich(_Demon):
    """Opaque handles of any type, used again at once; it moves, evicts, grows slack, and is never the same twice."""

    contract = Contract(
        arena=_ARENA, max_align=32, handles="opaque", maintenance=("stir", "reclaim", "refresh"),
        moving=frozenset({"stir"}), evicting=frozenset({"reclaim"}), slack_grows=True, realloc_aligns=False,
        detects=frozenset({"double", "foreign"}), rejects=frozenset({"zero", "huge", "align"}), zeroed=True,
        deterministic=False, list_of=_list_of, overhead=no_overhead, waste=lambda size, align: _WASTE,
        metadata_bound=lambda shadow, source: 100, drained_size=_ARENA, must_serve=_much_room, must_refuse=_no_room,
        free_then_alloc=True, cost_bounds={"steps": lambda request, shadow: _STEPS},
        hint_slack={"longest": _LAG, "free": _LAG}, hint_relations=_in_order,
    )  # fmt: skip
    _stream: ClassVar[Random] = Random(17)

    def __init__(self) -> None:
        super().__init__()
        self._random = self._stream
        self._memory = bytearray(self._random.randbytes(_ARENA))
        self._last_freed = 0
        self._steps: dict[str, int] = {}
        self._cut()

    # ---- operations --------------------------------------------------------------------

    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> Any:
        """Serves what it must, and what it likes."""
        owed = size == self._last_freed or self._fresh or (not self._lent and size == _ARENA)
        forced = (owed and align == 1) or self._must(size, align)
        self._fresh, self._last_freed = False, 0
        self._steps = {"steps": self._random.randint(0, _STEPS)}
        sane = 0 < size <= _ARENA and is_power_of_two(align) and align <= 32
        place = self._anywhere(size, align) if sane else None
        if place is None or not (forced or self._coin(0.6)):
            self._cut()
            return self._refuse()
        handle = self._name()
        start, end = place
        self._lent[handle] = start, self._stretch(start, size, end), size
        self._memory[start : start + size] = bytes(size)
        self._steps["found"] = self._random.randint(size, 2 * size)
        self._cut()
        return handle

    def _must(self, size: int, align: int) -> bool:
        aligned = is_power_of_two(align) and size > 0
        return aligned and any(align_up(a, align) + 4 * size <= b for a, b in self._gaps())

    def _name(self) -> Any:
        names = (0, "", (), "a", ("a", 1), 7, -1, 2.5, frozenset({3}), *range(100, 600))
        return next(name for name in self._random.sample(names, len(names)) if name not in self._lent)

    def _stretch(self, start: int, size: int, end: int) -> int:
        """Any length from the size to the bound of waste, short of the end of the gap."""
        return self._random.randint(size, min(size + _WASTE, end - start))

    def free(self, handle: Any) -> None:
        """Raises InvalidFree for a handle that nobody has.  A block before may swallow some of what is freed."""
        if handle not in self._lent:
            raise InvalidFree(f"nobody has {handle!r}")
        start, _, self._last_freed = self._lent.pop(handle)
        end = next(b for a, b in self._gaps() if b > start)
        for name, (at, length, size) in self._lent.items():  # what is left can be had again at once
            most = min(size + _WASTE - length, end - start - self._last_freed)
            if at + length == start and most > 0 and self._coin():
                self._lent[name] = at, length + self._random.randint(0, most), size
                break
        self._cut()

    def realloc(self, handle: Any, size: int) -> Any:
        """In place, elsewhere under any name, or not."""
        self._last_freed = 0
        start, length, old = self._lent[handle]
        if size <= length and self._coin():
            self._lent[handle] = start, self._random.randint(size, min(length, size + _WASTE)), size
            self._cut()
            return handle
        place = self._anywhere(size, 1) if size <= _ARENA else None
        if place is None or self._coin(0.2):
            return self._refuse()
        self._memory[place[0] : place[0] + min(size, old)] = self._memory[start : start + min(size, old)]
        del self._lent[handle]
        answer = handle if self._coin() else self._name()
        self._lent[answer] = place[0], self._stretch(place[0], size, place[1]), size
        self._cut()
        return answer

    def maintain(self, kind: str) -> Maintained:
        """Move some, evict some, or look again; or do nothing."""
        self._last_freed = 0
        gone = []
        for handle in list(self._lent):
            if kind == "reclaim" and self._coin(0.2):
                del self._lent[handle]
                gone.append(handle)
            elif kind == "stir" and self._coin():
                self._stir(handle)
        self._cut()
        return Maintained(self._random.randint(0, 9), self._random.randint(0, 9), tuple(gone))

    def _stir(self, handle: Any) -> None:
        start, _, size = self._lent[handle]
        place = self._anywhere(size, 32)
        if place is not None:
            self._memory[place[0] : place[0] + size] = self._memory[start : start + size]
            self._lent[handle] = place[0], self._stretch(place[0], size, place[1]), size

    def read(self, handle: Any, at: int, length: int) -> bytes:
        """As written."""
        start = self._lent[handle][0] + at
        return bytes(self._memory[start : start + length])

    def write(self, handle: Any, at: int, data: bytes) -> None:
        """And all free memory turns to noise."""
        start = self._lent[handle][0] + at
        self._memory[start : start + len(data)] = data
        for a, b in self._gaps():
            self._memory[a:b] = self._random.randbytes(b - a)

    # ---- observations ------------------------------------------------------------------

    def extents(self, handle: Any) -> tuple[tuple[int, int, int], ...]:
        """The block with its slack."""
        start, length, _ = self._lent[handle]
        return (Extent(0, start, length),)

    def _cut(self) -> None:
        """Cut the free space into any number of regions, in any order."""
        self._regions: list[FreeRegion] = []
        for at, end in self._gaps():
            start = at
            while start < end:
                length = end - start if self._coin() else self._random.randint(1, end - start)
                self._regions.append(FreeRegion(0, start, length, length.bit_length()))
                start += length
        self._random.shuffle(self._regions)

    def free_regions(self) -> Iterator[FreeRegion]:
        """As cut."""
        return iter(self._regions)

    def lists(self) -> Iterator[Listed]:
        """In another order."""
        regions = self._random.sample(self._regions, len(self._regions))
        return (Listed(region.list_id, region[:2]) for region in regions)

    def hints(self) -> Iterator[Hint]:
        """Anywhere that is allowed, and a witness that is free."""
        gaps, pick, whole = self._gaps(), self._random.randint, Extent(0, 0, _ARENA)
        longest, free = max((b - a for a, b in gaps), default=0), sum(b - a for a, b in gaps)
        seen = Extent(0, 0, 0)
        if gaps and self._coin():
            a, b = self._random.choice(gaps)
            at = pick(a, b)
            seen = Extent(0, at, pick(0, b - at))
        witness = seen if seen.length else None
        yield Hint("longest", pick(longest - _LAG, longest), whole, Direction.LOWER, Quantity.LONGEST_FREE, witness)
        yield Hint("free", pick(free, free + _LAG), whole, Direction.UPPER, Quantity.FREE)
        first = gaps[0][0] if gaps else pick(0, _ARENA)
        yield Hint("scan", min(pick(0, first), seen.start) if witness else pick(0, first), whole, Direction.LOWER,
                   Quantity.FIRST_FREE)  # fmt: skip
        yield Hint("exact", longest, whole, Direction.EXACT, Quantity.LONGEST_FREE)

    def counters(self) -> Mapping[str, int]:
        """Some true ones, and some that nobody knows the meaning of."""
        return {"live_objects": len(self._lent), "used_bytes": sum(length for _, length, _ in self._lent.values()),
                "sorrows": self._random.randint(0, 9)}  # fmt: skip

    def metadata(self) -> tuple[int, int]:
        """Up to the bound."""
        here = self._random.randint(0, 100)
        return here, 100 - here

    def cost(self) -> Mapping[str, int]:
        """Up to the bound."""
        return self._steps


@innocent("a demon over a page source", "pages may be taken early, kept long and given back at odd times")
class Paged(Pool):
    """Any page with room or a new one; empties kept or not; compaction that keeps its two promises and no more."""

    contract = pool_promises(
        maintenance=("compact", "reclaim", "shrink"), moving=frozenset({"compact"}), evicting=frozenset({"reclaim"}),
        drained_after="shrink", deterministic=False, waste=lambda size, align: SLOT,
        must_serve=has_room, must_refuse=no_room,
    )  # fmt: skip
    _stream: ClassVar[Random] = Random(19)

    def __init__(self) -> None:
        super().__init__()
        self._random = self._stream
        self._packed = False  # nothing but compaction since the last one

    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> Any:
        """As it must."""
        self._packed = False
        answer = super().alloc(size, align, ctx=ctx)
        return answer if answer.__class__ is int else self._random.choice(_REFUSALS)

    def free(self, handle: Any) -> None:
        """Raises InvalidFree for a number that nobody has."""
        self._packed = False
        super().free(handle)

    def _page_for(self, ctx: Context) -> int | None:
        open_pages = [page for page, slots in self._pages.items() if None in slots]
        page = self._new_page() if not open_pages or self._random.random() < 0.3 else None
        return self._random.choice(open_pages) if page is None and open_pages else page

    def _settle(self, name: int, page: int) -> None:
        slot = self._random.choice([slot for slot, held in enumerate(self._pages[page]) if held is None])
        self._pages[page][slot], self._at[name] = name, (page, slot)

    def _emptied(self, page: int) -> None:
        if self._random.random() < 0.5:
            self._give_back_empties(keep=self._random.randint(0, 2))

    def maintain(self, kind: str) -> Maintained:
        """Swap objects about; give back any empty pages, but none when called again at once."""
        if kind == "compact":
            for name in self._random.sample(list(self._at), len(self._at) // 2):
                open_pages = [page for page, slots in self._pages.items() if None in slots]
                if open_pages:
                    self._move(name, self._random.choice(open_pages))
            if not self._packed:
                self._give_back_empties(keep=self._random.randint(0, 2))
            self._packed = True
            return Maintained(self._random.randint(0, 9))
        self._packed = False
        gone = [name for name in self._at if kind == "reclaim" and self._random.random() < 0.3]
        for name in gone:
            self.free(name)
        if kind == "shrink":
            self._give_back_empties()
        return Maintained(evicted=tuple(gone))
