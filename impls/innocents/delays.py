"""Innocents whose freed memory comes back late: merged, collected or let out of quarantine when it suits them.

>>> field = Quarantine()
>>> a = field.alloc(8); field.free(a); field.alloc(8) == a
False
"""

from bisect import insort
from collections import deque
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from heaplaw import Context, Extent, FreeRegion, InvalidFree, Maintained, PageSource, Refusal, Request, Shadow
from heaplaw.impls.promises import at_most

from . import innocent
from .field import ARENA, Field, promises

_PATIENCE = 4  # blocks in quarantine
_LAZY = {"mergeable": None, "cost_bounds": {"scanned": partial(at_most, 2 * ARENA)},
         "metadata_bound": partial(at_most, 16 * ARENA)}  # fmt: skip


class _Unmerged(Field):
    """Freed blocks stay as they were until ``_merge``."""

    def _give(self, place: int, length: int) -> None:
        insort(self._holes, (place, place + length))

    def _merge(self) -> int:
        """Merge all neighbours; how many merges there were."""
        before, holes = len(self._holes), self._holes
        self._holes = []
        for start, end in holes:
            touches = self._holes and self._holes[-1][1] == start
            self._holes.append((self._holes.pop()[0] if touches else start, end))
        return before - len(self._holes)

    def counters(self) -> Mapping[str, int]:
        """As ever, but that the longest single hole need not be the longest free run: its name is another."""
        counters = dict(super().counters())
        counters["largest_block"] = counters.pop("largest_free")
        return counters


@innocent("deferred coalescing: neighbours merge when a request would fail without", "`coalesced` only where promised")
class LazyMerge(_Unmerged):
    """Serves whatever a merging allocator serves."""

    contract = promises(**_LAZY)

    def _choose(self, length: int, align: int) -> int | None:
        place = super()._choose(length, align)
        if place is None and self._merge():
            place = super()._choose(length, align)
        return place


@innocent("neighbours merge in maintenance only", "`drain` waits for `drained_after`; refusals between are no fault")
class MergesWhenTold(_Unmerged):
    """Refuses meanwhile, though the free bytes lie side by side."""

    contract = promises(**_LAZY, must_serve=None, drained_after="merge", maintenance=("merge",))

    def maintain(self, kind: str) -> Maintained:
        """Merge."""
        self._merge()
        return Maintained()


@innocent("freed blocks stay in quarantine, overwritten, until four more were freed", "freed is not yet reusable")
class Quarantine(Field):
    """What is in quarantine is free, but on no list by design; a second free of it is noticed."""

    contract = promises(
        mergeable=None, list_of=None, must_serve=None, free_then_alloc=False, drained_after="release",
        maintenance=("release",), cost_bounds={"scanned": lambda r, shadow: len(shadow) + 1 + _PATIENCE},
        metadata_bound=lambda shadow, source: 16 * (2 * len(shadow) + 1 + 2 * _PATIENCE),
    )  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self._waiting: deque[tuple[int, int]] = deque()

    def free(self, handle: Any) -> None:
        """Overwrite the block, and release the one that has waited longest."""
        if handle not in self._used:
            raise InvalidFree(f"no block at {handle}")
        length, _ = self._used.pop(handle)
        self.write(handle, 0, bytes([0xDD]) * length)
        self._waiting.append((handle, length))
        self._release(_PATIENCE)

    def maintain(self, kind: str) -> Maintained:
        """Release all."""
        self._release(0)
        return Maintained()

    def _release(self, keep: int) -> None:
        while len(self._waiting) > keep:
            self._give(*self._waiting.popleft())

    def free_regions(self) -> Iterator[FreeRegion]:
        """The holes, and on no list what waits."""
        yield from super().free_regions()
        yield from (FreeRegion(0, place, length, None) for place, length in self._waiting)

    def counters(self) -> Mapping[str, int]:
        """Free bytes with those that wait."""
        free = super().counters()["free_bytes"] + sum(length for _, length in self._waiting)
        return {"live_objects": len(self._used), "free_bytes": free}

    def destroy(self) -> None:
        """Forget everything."""
        self._waiting.clear()
        super().destroy()


@innocent("free does nothing until the heap is collected", "after `drain` comes what `drained_after` says, no sooner")
class Collected(Field):
    """Frees are noted in no order; the collector gives them all back."""

    contract = promises(
        mergeable=None, list_of=None, must_serve=None, free_then_alloc=False, drained_after="collect",
        maintenance=("collect",), metadata_bound=partial(at_most, 32 * ARENA), detects=frozenset({"double"}),
        cost_bounds={"scanned": partial(at_most, ARENA)},
    )  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self._dead: dict[int, int] = {}

    def free(self, handle: Any) -> None:
        """Note it.  Raises InvalidFree for what is dead already."""
        if handle not in self._used:
            raise InvalidFree(f"{handle} is dead already")
        self._dead[handle] = self._used.pop(handle)[0]

    def _give(self, place: int, length: int) -> None:  # the tail of a block that shrank
        self._dead[place] = length

    def maintain(self, kind: str) -> Maintained:
        """Collect."""
        for place, length in self._dead.items():
            super()._give(place, length)
        self._dead = {}
        return Maintained()

    def free_regions(self) -> Iterator[FreeRegion]:
        """The holes, and what is dead."""
        yield from super().free_regions()
        yield from (FreeRegion(0, place, length, None) for place, length in self._dead.items())

    def counters(self) -> Mapping[str, int]:
        """Free bytes with the dead ones."""
        free = super().counters()["free_bytes"] + sum(self._dead.values())
        return {"live_objects": len(self._used), "free_bytes": free}

    def destroy(self) -> None:
        """Forget everything."""
        self._dead = {}
        super().destroy()


def _nothing_live(request: Request, shadow: Shadow, source: PageSource | None) -> bool:
    return not len(shadow) and 0 < request.size <= ARENA


@innocent("a bump allocator: all is free at once when the last object goes", "memory may leak for ever in between")
class BumpAll:
    """Answers the top, and raises it; a count of the living is all it remembers."""

    contract = promises(
        mergeable=None, list_of=None, must_serve=_nothing_live, must_refuse=None, free_then_alloc=False, overhead=None,
        detects=frozenset(), metadata_bound=partial(at_most, 16), cost_bounds={}, realloc_aligns=False,
        rejects=frozenset({"zero", "huge"}),
    )  # fmt: skip

    def __init__(self) -> None:
        self._top = self._living = 0
        self._memory = bytearray(ARENA)

    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> int | Refusal | None:
        """The top, rounded up."""
        place = -(-self._top // align) * align
        if size < 1:
            return Refusal.INVALID
        if place + size > ARENA:
            return Refusal.NO_MEMORY
        self._top, self._living = place + size, self._living + 1
        return place

    def free(self, handle: int) -> None:
        """One fewer."""
        self._living -= 1
        if not self._living:
            self._top = 0

    def read(self, handle: int, at: int, length: int) -> bytes:
        """``length`` bytes from offset ``at`` of a block."""
        return bytes(self._memory[handle + at : handle + at + length])

    def write(self, handle: int, at: int, data: bytes) -> None:
        """Put ``data`` at offset ``at`` of a block."""
        self._memory[handle + at : handle + at + len(data)] = data

    def counters(self) -> Mapping[str, int]:
        """How many live."""
        return {"live_objects": self._living}

    def metadata(self) -> tuple[int, int]:
        """Two words."""
        return 0, 16


@innocent("each CPU keeps what it frees, and takes from the others' when it has none", "memory changes CPUs")
class CpuCaches(Field):
    """Three CPUs, each with a stack of freed blocks of any size; an exact size is looked for on all stacks."""

    contract = promises(
        contextual=True, cpus=3, mergeable=None, list_of=None, metadata_bound=partial(at_most, 32 * ARENA),
        cost_bounds={"scanned": partial(at_most, 2 * ARENA)},
    )  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self._stacks: tuple[list[Extent], ...] = ([], [], [])
        self._cpu = 0

    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> Any:
        """From the own stack, the others', the holes, and at last the holes with all stacks emptied."""
        self._cpu = ctx.cpu if ctx else 0
        return super().alloc(size, align)

    def _choose(self, length: int, align: int) -> int | None:
        for cpu in (self._cpu, 0, 1, 2):
            for index, (_, place, cached) in enumerate(self._stacks[cpu]):
                if cached == length and place % align == 0:
                    del self._stacks[cpu][index]
                    self._give(place, length)  # into a hole, from which it is taken at once
                    self._found = length
                    return place
        found = super()._choose(length, align)
        if found is None and any(self._stacks):
            self._flush()
            found = super()._choose(length, align)
        return found

    def free(self, handle: Any, *, ctx: Context | None = None) -> None:
        """On the stack of the CPU that frees it.  Raises InvalidFree where no block starts."""
        if handle not in self._used:
            raise InvalidFree(f"no block at {handle}")
        length, _ = self._used.pop(handle)
        self._stacks[ctx.cpu if ctx else 0].append(Extent(0, handle, length))

    def _flush(self) -> None:
        for stack in self._stacks:
            for _, place, length in stack:
                self._give(place, length)
            stack.clear()

    def free_regions(self) -> Iterator[FreeRegion]:
        """The holes, and what the CPUs keep."""
        yield from super().free_regions()
        yield from (FreeRegion(*extent, None) for stack in self._stacks for extent in stack)

    def counters(self) -> Mapping[str, int]:
        """Free bytes with those that the CPUs keep."""
        free = super().counters()["free_bytes"] + sum(kept.length for stack in self._stacks for kept in stack)
        return {"live_objects": len(self._used), "free_bytes": free}

    def destroy(self) -> None:
        """Forget everything."""
        self._flush()
        super().destroy()
