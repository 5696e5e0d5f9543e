"""A native allocator as a target: the methods that the library has, on top of plain calls.

What it shows is read from the library when it is asked for.  Alignment is judged where the memory lies: if byte 0 of
the heap is no multiple of the largest alignment, space 0 begins at the remainder and all places are moved by it, so
that a pool at a misaligned base is a target like any other (see HEAPLAW_ORIGIN in the header).

>>> refused(constants()["HEAPLAW_TOO_BIG"])
<Refusal.TOO_BIG: 'too big'>
"""

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby, repeat
from typing import Any

from heaplaw import (
    AllocationBits,
    Context,
    Contract,
    Direction,
    Extent,
    FreeRegion,
    Hint,
    InvalidFree,
    ListBit,
    Listed,
    Maintained,
    Quantity,
    Refusal,
)  # fmt: skip

from .library import Library, constants
from .pages import LentPages
from .promising import Promises, contract

ARENA = 1 << 16  # bytes of a heap whose name does not say
_WORD = (1 << 64) - 1
_DIRECTIONS = (Direction.LOWER, Direction.UPPER, Direction.EXACT)
_QUANTITIES = (
    Quantity.LONGEST_FREE, Quantity.FREE, Quantity.FIRST_FREE, Quantity.FREE_AT_START, Quantity.FREE_AT_END,
)  # fmt: skip
_TOP = constants()["HEAPLAW_TOP"]
REFUSALS: dict[int, Refusal | None] = {
    constants()["HEAPLAW_NO_MEMORY"]: None,
    constants()["HEAPLAW_INVALID"]: Refusal.INVALID,
    constants()["HEAPLAW_TOO_BIG"]: Refusal.TOO_BIG,
    constants()["HEAPLAW_WOULD_BLOCK"]: Refusal.WOULD_BLOCK,
}
_OBSERVED = {  # method -> kind of records, and the columns without which they say nothing
    "free_regions": ("REGIONS", ("start", "length")),
    "lists": ("LISTS", ("list",)),
    "hints": ("HINTS", ("start", "length", "value", "direction", "quantity")),
    "bitmap": ("BITS", ("start", "unit", "units", "bits")),
    "list_bits": ("LIST_BITS", ("bit", "set", "list")),
    "counters": ("COUNTERS", ("name", "value")),
    "metadata": ("METADATA", ()),
    "cost": ("COST", ("name", "value")),
    "pages": ("CLAIMED", ("first", "count")),
}


def refused(answer: int) -> Refusal | None:
    """A refusal of the header's.  Raises RuntimeError for a number that is none."""
    if answer not in REFUSALS:
        raise RuntimeError(f"the library answered {answer:#x}, which is neither a handle nor a refusal")
    return REFUSALS[answer]


def quick(alloc: Any, aligned: Any, free: Any, heap: int) -> dict[str, Callable[..., Any]]:
    """``Native``'s alloc and free for heaps of plain calls: what is looked up for every call is bound once."""

    def quick_alloc(size: int, align: int = 1, *, ctx: Context | None = None) -> int | Refusal | None:
        try:
            answer = alloc(heap, size) if align == 1 else aligned(heap, size, align)
        except OverflowError:
            return Refusal.TOO_BIG
        return answer if answer < _TOP else refused(answer)

    def quick_free(handle: int, size: int = 0, *, ctx: Context | None = None) -> None:
        if bad := free(heap, handle):
            raise InvalidFree(f"heaplaw_free answered {bad}")

    return {"alloc": quick_alloc, "free": quick_free}


class Native:
    """One heap of a library.  Methods that the library has nothing for are None."""

    contract: Contract

    def __init__(self, library: Library, arena: int = ARENA, parameters: Mapping[str, int] | None = None) -> None:
        self.library = library
        self._lib = lib = library.opened
        configure(library, parameters or {})
        self.heap = int(lib.heaplaw_create(arena))
        if not self.heap:
            raise ValueError(f"heaplaw_create({arena}) made no heap")
        self._end = weakref.finalize(self, lib.heaplaw_destroy, self.heap)
        self._end.atexit = False  # the process ends anyway, and a damaged heap might make that a crash
        self._alloc, self._free = lib.heaplaw_alloc, lib.heaplaw_free
        self._aligned = getattr(lib, "heaplaw_alloc_aligned", None) if "ALIGNS" in library.has else None
        self._sized = lib.heaplaw_free_sized if "FREES_SIZED" in library.has else None
        self._context = lib.heaplaw_context if "CONTEXTUAL" in library.has else None
        self.source: LentPages | None = None
        promises = Promises(library, self.heap)
        self._opaque = bool(promises.number("OPAQUE", 0))
        self._hide()
        self._memories: dict[int, Any] = {}
        self.reach = promises.number("ARENA", arena)
        self.shift = self._origin(promises)
        if promises.get("PAGE_SIZE") is not None:
            self._lend(promises.number("PAGE_SIZE", 0))
        self._scattered = "HAS_EXTENTS" in library.has  # otherwise an object is one piece at its handle
        if "HAS_BASE" in library.has and ((self._opaque and not self._scattered) or not self._memory(0)):
            for method in ("read", "write"):  # nobody knows where, or the CPU cannot
                setattr(self, method, None)
        self.contract = self._promised(arena, parameters or {})
        if type(self) is Native and self._aligned and self._sized is None and self._context is None:
            for method, function in quick(self._alloc, self._aligned, self._free, self.heap).items():
                setattr(self, method, function)

    def _lend(self, page_size: int) -> None:
        """A page source; the heap is not to be destroyed then: who could say afterwards what was not given back?"""
        self.source = LentPages(self.library, self.heap, page_size)
        self.destroy = None  # type: ignore[assignment,method-assign]

    def _hide(self) -> None:
        """Leave the methods that the library has functions for."""
        has, library = self.library.has, self.library
        shown = {
            "realloc": "REALLOCS" in has, "read": "HAS_BASE" in has, "write": "HAS_BASE" in has,
            "extents": bool({"HAS_EXTENTS", "HAS_USABLE"} & has) and not (self._opaque and "HAS_EXTENTS" not in has),
            "maintain": "MAINTAINS" in has, "map": "MAPS" in has, "unmap": "MAPS" in has,
        }  # fmt: skip
        for method, (kind, needed) in _OBSERVED.items():
            schema = library.schema(library.number(kind)) if "OBSERVES" in has else None
            if schema is not None and (lacks := [column for column in needed if column not in schema.columns]):
                raise ValueError(f"records of HEAPLAW_{kind} have no column {lacks[0]!r}")
            shown[method] = schema is not None
        shown["cost"] |= library.edges is not None
        for method, is_shown in shown.items():
            if not is_shown:
                setattr(self, method, None)

    def _origin(self, promises: Promises) -> int:
        """Where space 0 begins, modulo the largest alignment, so that places are as aligned as what they stand for."""
        step = max(promises.number("GRANULE", 1), promises.number("MAX_ALIGN", 1))
        step = 1 << max(0, step - 1).bit_length()
        self.base = base = int(self._lib.heaplaw_base(self.heap, 0)) if "HAS_BASE" in self.library.has else 0
        origin = promises.get("ORIGIN")
        if origin and base and (base - origin) % step:
            raise ValueError(f"HEAPLAW_ORIGIN is {origin}, but byte 0 lies {base % step} past a multiple of {step}")
        return (base if origin is None else origin) % step

    def _promised(self, arena: int, parameters: Mapping[str, int]) -> Contract:
        key = (arena, self.shift, *sorted(parameters.items()))
        known: Contract | None = self.library.contracts.get(key)
        if known is None:
            shows = frozenset(name for name in (*_OBSERVED, "extents") if getattr(self, name) is not None)
            known = self.library.contracts[key] = contract(self.library, self.heap, arena, self.shift, shows)
        return known

    def __reduce__(self) -> Any:
        raise TypeError("its state is in the library's memory")

    # ---- calls ------------------------------------------------------------------------------

    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> int | Refusal | None:
        """A handle or a refusal; sizes that the C type does not hold are too big."""
        if ctx is not None:
            self._tell_context(ctx)
        try:
            if align != 1:
                answer = self._aligned(self.heap, size, align) if self._aligned is not None else _WORD - 1
            else:
                answer = self._alloc(self.heap, size)
        except OverflowError:
            return Refusal.TOO_BIG
        return answer if answer < _TOP else refused(answer)

    def free(self, handle: int, size: int = 0, *, ctx: Context | None = None) -> None:
        """Raises InvalidFree where the library noticed that this is no object."""
        if ctx is not None:
            self._tell_context(ctx)
        bad = self._free(self.heap, handle) if self._sized is None else self._sized(self.heap, handle, size)
        if bad:
            raise InvalidFree(f"heaplaw_free answered {bad}")

    def realloc(self, handle: int, size: int) -> int | Refusal | None:
        """The handle from now on, or a refusal, which leaves the object as it was."""
        try:
            answer = int(self._lib.heaplaw_realloc(self.heap, handle, size))
        except OverflowError:
            return Refusal.TOO_BIG
        return answer if answer < _TOP else refused(answer)

    def map(self, handle: int, *, ctx: Context | None = None) -> None:
        """``heaplaw_map``.  RuntimeError where it does not answer 0."""
        if ctx is not None:
            self._tell_context(ctx)
        if answer := self._lib.heaplaw_map(self.heap, handle):
            raise RuntimeError(f"heaplaw_map answered {answer}")

    def unmap(self, handle: int, *, ctx: Context | None = None) -> None:
        """``heaplaw_unmap``.  RuntimeError where it does not answer 0."""
        if ctx is not None:
            self._tell_context(ctx)
        if answer := self._lib.heaplaw_unmap(self.heap, handle):
            raise RuntimeError(f"heaplaw_unmap answered {answer}")

    def _tell_context(self, ctx: Context) -> None:
        """Say where the next call comes from, to a library that wants to know."""
        if self._context is not None:
            self._context(self.heap, ctx.cpu, ctx.atomic, ctx.group)

    def maintain(self, kind: str) -> Maintained:
        """Maintenance of one of the contract's kinds, and what came of it.  ValueError for another kind."""
        number = self.contract.maintenance.index(kind)
        freed, moved, *evicted = self.library.words(self._lib.heaplaw_maintain, self.heap, number) or (0, 0)
        return Maintained(freed, moved, tuple(evicted))

    def destroy(self) -> None:
        """Give the heap back; done once, and when the target is forgotten."""
        self._end()

    def abandon(self) -> None:
        """Never give the heap back: it is damaged, and destroying it might crash."""
        self._end.detach()

    # ---- contents ---------------------------------------------------------------------------

    def _memory(self, space: int) -> Any:
        """The bytes of a space; None where the CPU cannot read them."""
        if space not in self._memories:
            base = int(self._lib.heaplaw_base(self.heap, space))
            self._memories[space] = self.library.memory(base, self.reach) if base else None
        return self._memories[space]

    def _pieces(self, handle: int, at: int, length: int) -> Iterator[tuple[Any, int, int]]:
        """(memory, from, to) of ``length`` bytes of an object from ``at`` on."""
        words = self.library.words(self._lib.heaplaw_extents, self.heap, handle)
        for space, start, room in zip(*[iter(words)] * 3, strict=True):
            if at < room and length > 0:
                part = min(length, room - at)
                yield self._memory(space), start + at, start + at + part
                length -= part
            at = max(0, at - room)

    def read(self, handle: int, at: int, length: int) -> bytes:
        """``length`` bytes from offset ``at`` of a live object, put together from its pieces.  O(length)."""
        if not self._scattered:
            start = handle + at
            return self._memories[0][start : start + length]
        return b"".join([memory[start:end] for memory, start, end in self._pieces(handle, at, length)])

    def write(self, handle: int, at: int, data: bytes) -> None:
        """Put ``data`` at offset ``at`` of a live object, over its pieces.  O(length)."""
        if not self._scattered:
            start = handle + at
            self._memories[0][start : start + len(data)] = data
            return
        done = 0
        for memory, start, end in self._pieces(handle, at, len(data)):
            memory[start:end] = data[done : done + end - start]
            done += end - start

    # ---- what is shown ----------------------------------------------------------------------

    def extents(self, handle: int) -> tuple[tuple[int, int, int], ...]:
        """Its pieces, by ``heaplaw_extents``, or one piece of ``heaplaw_usable`` bytes at its address."""
        if "HAS_EXTENTS" not in self.library.has:
            return ((0, handle + self.shift, int(self._lib.heaplaw_usable(self.heap, handle))),)
        words = self.library.words(self._lib.heaplaw_extents, self.heap, handle)
        return tuple([(s, a if s else a + self.shift, n) for s, a, n in zip(*[iter(words)] * 3, strict=True)])

    def records(self, kind: str, *columns: str) -> Iterator[tuple[int, ...]]:
        """These columns of the records of a kind; 0, or -1 for a list, in those that are not there."""
        number = self.library.number(kind)
        schema = self.library.schema(number)
        words, known = self.library.observe(self.heap, number), schema.columns if schema is not None else ()
        width = len(known)
        count = len(words) // width
        found: list[Iterable[int]] = [
            words[known.index(name) :: width] if name in known else repeat(-1 if name == "list" else 0, count)
            for name in columns
        ]
        return zip(*found, strict=True)

    def _name(self, kind: str, column: str) -> Callable[[int], str]:
        schema = self.library.schema(self.library.number(kind))
        return lambda value: schema.name(column, value) if schema is not None else str(value)

    def _at(self, space: int, start: int) -> int:
        return start if space else start + self.shift

    def free_regions(self) -> list[FreeRegion]:
        """Records of HEAPLAW_REGIONS; list -1 is none."""
        return [
            FreeRegion(space, self._at(space, start), length, None if where == -1 else where)
            for space, start, length, where in self.records("REGIONS", "space", "start", "length", "list")
        ]

    def lists(self) -> list[Listed]:
        """Records of HEAPLAW_LISTS: free regions by place, or containers by number."""
        schema = self.library.schema(self.library.number("LISTS"))
        if schema is not None and "start" not in schema.columns:
            return [Listed(where, key) for where, key in self.records("LISTS", "list", "key")]
        found = self.records("LISTS", "list", "space", "start")
        return [Listed(where, (space, self._at(space, start))) for where, space, start in found]

    def hints(self) -> list[Hint]:
        """Records of HEAPLAW_HINTS; no room is no witness."""
        name = self._name("HINTS", "name")
        columns = ("name", "space", "start", "length", "value", "direction", "quantity", "at", "room")
        return [
            Hint(
                name(number), value, Extent(space, self._at(space, start), length), _DIRECTIONS[way], _QUANTITIES[what],
                Extent(space, self._at(space, at), room) if room > 0 else None,
            )
            for number, space, start, length, value, way, what, at, room in self.records("HINTS", *columns)
        ]  # fmt: skip

    def bitmap(self) -> list[AllocationBits]:
        """Its bitmaps, records that go on where the last one ended taken together."""
        found: list[AllocationBits] = []
        for space, start, unit, units, word in self.records("BITS", "space", "start", "unit", "units", "bits"):
            place, bits = self._at(space, start), word & _WORD
            if found and (last := found[-1])[0] == space and last.unit == unit and last[1] + last.units * unit == place:
                found[-1] = last._replace(units=last.units + units, bits=last.bits | bits << last.units)
            else:
                found.append(AllocationBits(space, place, unit, units, bits))
        return found

    def list_bits(self) -> list[ListBit]:
        """Records of HEAPLAW_LIST_BITS, those of a bit taken together."""
        name = self._name("LIST_BITS", "bit")
        by_bit = groupby(self.records("LIST_BITS", "bit", "set", "list"), key=lambda record: record[:2])
        return [ListBit(name(bit), tuple(record[2] for record in of_it), bool(on)) for (bit, on), of_it in by_bit]

    def counters(self) -> dict[str, int]:
        """Records of HEAPLAW_COUNTERS, by name."""
        name = self._name("COUNTERS", "name")
        return {name(number): value for number, value in self.records("COUNTERS", "name", "value")}

    def metadata(self) -> tuple[int, int]:
        """(bytes in place, bytes out of band) of all records of HEAPLAW_METADATA."""
        found = list(self.records("METADATA", "in_place", "out_of_band"))
        return sum(inside for inside, _ in found), sum(outside for _, outside in found)

    def cost(self) -> dict[str, int]:
        """Steps of the last call, by name."""
        name = self._name("COST", "name")
        return {name(number): value for number, value in self.records("COST", "name", "value")}

    def pages(self) -> list[tuple[int, int]]:
        """(first page, count) of the runs that the allocator's own structures hold."""
        return [(first, count) for first, count in self.records("CLAIMED", "first", "count")]


def configure(library: Library, parameters: Mapping[str, int]) -> None:
    """Set the library's parameters for the heaps made from now on.  Raises ValueError."""
    schema = library.schema(library.number("PARAMETERS")) if "CONFIGURES" in library.has else None
    known = schema.columns if schema is not None else ()
    for name, value in parameters.items():
        if name not in known:
            raise ValueError(f"no parameter {name!r}; it has {', '.join(('arena', *known))}")
        if not isinstance(value, int) or library.opened.heaplaw_configure(known.index(name), value):
            raise ValueError(f"{name} cannot be {value!r}")
