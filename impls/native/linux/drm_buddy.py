"""The kernel's own allocator of graphics memory as a target: ``linux:drm-buddy``, built by ``heaplaw build-linux``.

``drivers/gpu/drm/drm_buddy.c`` hands out offsets into memory that the CPU need not read: blocks of powers of two of
chunks, several to an object where one is not to be had.  It is held to what its comments and its drivers' use of it
say; a group number says how is asked (1 from the top, 2 contiguous, 4 inside the first ``visible`` bytes, 8 cleared
memory, added), and

    a request is served     if enough whole chunks, or aligned units where an alignment is named, are free;
                            a contiguous one if a free block of its size, rounded up to a power of two, would do
    every part of an object lies as the alignment asks, contiguous objects are one run
    free buddies            are merged; where the kernel keeps cleared memory apart, those that are alike
    reset-clear, -dirty     leave all that is free cleared, none of it

Descriptors of blocks come from a shim's slab: none is lost, and once all is freed there is one for each root.  Findings
about it are about shipped code, and unconfirmed by its maintainers.

>>> roots(7 * 4096, 4096)
[16384, 8192, 4096]
"""

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, partial
from pathlib import Path

from heaplaw import Block, Contract, FreeRegion, Maintenance, PageSource, Request, Shadow

from ...bits import align_up
from ...promises import no_overhead
from ..library import Library, load
from ..making import Checked
from ..pages import LentPages
from ..promising import Promises
from .building import cache, library

PAGE = 4096
CONTIGUOUS, VISIBLE, CLEARED = 2, 4, 8
"""Bits of a group's number, as in the adapter; bit 1, from the top, promises nothing that could be judged."""
CLEAR_LIST = 64
"""Lists of cleared blocks are numbered from here, others from 0: by order."""


class Descriptors(LentPages):
    """The slab of blocks' descriptors, each counted as a page of one byte."""

    def __init__(self, library: Library, heap: int, starves: bool) -> None:
        super().__init__(library, heap, 1)
        self._starves = starves
        self._last: dict[str, int] = {}

    def _figure(self, column: str) -> int:
        return self._last[column] if self._last else super()._figure(column)

    def end(self) -> None:
        """The manager is about to be ended; the library ends the process if that leaves a descriptor behind."""
        last = {column: self._figure(column) for column in ("refused", "injected", "highest", "total")}
        self._last = {**last, "given": self.taken, "free": self.total}

    def fail_next(self, order: int, count: int) -> None:
        """Refuse the next ``count`` descriptors, where that is wanted."""
        if self._starves:
            super().fail_next(order, count)


class LinuxDrmBuddy(Checked):
    """One manager of ``size`` bytes in chunks of ``chunk``, the first ``visible`` of which the CPU can reach (0: half).

    ``claims`` 0 leaves out what 6.12 is known not to keep, so that it stands in no other law's way: that a contiguous
    request is aligned to more than its size, that a reset reaches all that is free, and that what is free inside a
    range is found though the range's end is not aligned.  ``starve`` 1 has the slab refuse descriptors now and then,
    as memory that runs out would.
    """

    def __init__(
        self, built: Path, size: int = 1 << 20, chunk: int = PAGE, visible: int = 0, claims: int = 1, starve: int = 0
    ) -> None:
        check(size, chunk, visible)
        reach = visible or max(chunk, size // 2 // chunk * chunk)
        self._settings = size - size % chunk, chunk, reach, bool(claims), bool(starve)
        loaded = load(str(built))
        super().__init__(loaded, size, {"size": size, "chunk": chunk, "visible": reach, "claims": claims})
        self.source: Descriptors = Descriptors(loaded, self.heap, bool(starve))

    def destroy(self) -> None:
        """End the manager as its driver would."""
        self.source.end()
        super().destroy()

    def _promised(self, arena: int, parameters: Mapping[str, int]) -> Contract:
        groups = Promises(self.library, self.heap).number("GROUPS", 0)
        return promise(*self._settings, groups)


def check(size: int, chunk: int, visible: int) -> None:
    """Raises ValueError for senseless parameters."""
    if chunk < PAGE or chunk & (chunk - 1) or size < chunk:
        raise ValueError(f"{size} bytes in chunks of {chunk}: chunks are powers of two from {PAGE}, and one at least")
    if not 0 <= visible <= size or visible % chunk:
        raise ValueError(f"visible {visible} is no multiple of {chunk} up to {size}")


def roots(size: int, chunk: int) -> list[int]:
    """Bytes of the blocks that a manager begins with, by place: the powers of two that its size is made of."""
    return [1 << bit for bit in reversed(range(size.bit_length())) if size >> bit & 1 and 1 << bit >= chunk]


@lru_cache(maxsize=64)
def promise(size: int, chunk: int, visible: int, claims: bool, starve: bool, groups: int) -> Contract:
    """The contract.  ``groups`` is the highest group number: the bits that the library knows."""
    octaves = [chunk << power for power in range((size // chunk).bit_length())]
    clears = bool(groups & CLEARED)
    return Contract(
        arena=size,
        granule=chunk,
        max_align=roots(size, chunk)[0],
        limits=tuple(sorted({*octaves, *(3 * one for one in octaves if 3 * one < size), visible, size - chunk, size})),
        handles="opaque",
        contextual=True,
        groups=groups,
        maintenance=("reset-dirty", "reset-clear") if clears else (),
        rejects=frozenset({"zero", "huge", "align"}),
        mergeable=alike,
        list_of=partial(_list_of, chunk),
        geometry=partial(_misplaced, chunk),
        placement=partial(_strayed, visible),
        overhead=no_overhead,
        waste=None if starve else partial(_waste, chunk, clears + (not claims)),  # trimming takes descriptors
        drained_size=size,
        drained_pages=len(roots(size, chunk)),
        drained_after="reset-dirty" if clears else None,
        must_serve=partial(must_serve, size, chunk, visible, claims),
        maintained=_reset if clears and claims else None,
    )


def must_serve(
    size: int, chunk: int, visible: int, claims: bool, request: Request, shadow: Shadow, source: PageSource | None
) -> bool:
    """Are there as many free aligned units as it takes, or one block for all of a contiguous request?  O(live)."""
    limit = visible if request.group & VISIBLE else size
    unit = max(chunk, request.align)
    if not 0 < request.size <= limit or unit & (unit - 1):
        return False
    need = align_up(request.size, chunk)
    if request.group & CONTIGUOUS:
        unit = need = 1 << (align_up(need, unit) - 1).bit_length()
    if not claims and limit < size and limit % unit:
        return False  # units may be merged across the limit, and the search ends there
    free = sum(max(0, high // unit - -(-low // unit)) for low, high in shadow.gaps(0, 0, limit))
    return free * unit >= need


def alike(one: FreeRegion, two: FreeRegion) -> bool:
    """Are these two neighbours halves of one block, and both cleared or both not?"""
    buddies = one.length == two.length and one.start % (2 * one.length) == 0
    return buddies and one.list_id == two.list_id


def _list_of(chunk: int, region: FreeRegion) -> int:
    """By order; whether a block is cleared, only its own mark tells."""
    marked = isinstance(region.list_id, int) and region.list_id >= CLEAR_LIST
    return (region.length // chunk).bit_length() - 1 + (CLEAR_LIST if marked else 0)


def _runs(block: Block) -> Iterator[tuple[int, int]]:
    """(place in the object, place in memory) of every block of an object."""
    at = 0
    for _, start, length in block.extents:
        yield at, start
        at += length


def _misplaced(chunk: int, block: Block) -> str | None:
    """Blocks are powers of two at multiples of their length, and what is aligned in the object is so in memory."""
    for _, start, length in block.extents:
        if length < chunk or length & (length - 1) or start % length:
            return f"{length} bytes at {start} are no buddy block"
    unit = max(chunk, block.align)
    for at, start in _runs(block):
        if (start - at) % unit:
            return f"byte {at} of it lies at {start}, and alignment {unit} is asked for"
    return None


def _strayed(visible: int, request: Request, block: Block) -> str | None:
    """Outside the range that was asked for, or in pieces though contiguity was."""
    first = block.extents[0][1]
    if request.group & CONTIGUOUS and any(start - at != first for at, start in _runs(block)):
        return "a contiguous request in pieces"
    if request.group & VISIBLE and any(start + length > visible for _, start, length in block.extents):
        return f"it was asked for inside the first {visible} bytes"
    return None


def _waste(chunk: int, rounded: int, size: int, align: int) -> int:
    """A chunk's rest; where contiguous requests are ``rounded`` up to the alignment, by a driver, and by a kernel that
    puts their pieces together from two sides, that as often.
    """
    return -size % chunk + rounded * max(0, align - chunk)


def _reset(done: Maintenance, shadow: Shadow) -> str | None:
    """What "resets the clear state of each block in the freetree" leaves."""
    free, cleared = done.after["free_bytes"], done.after["cleared_bytes"]
    wanted = free if done.kind == "reset-clear" else 0
    return None if cleared == wanted else f"{cleared} of {free} free bytes cleared, not {wanted}"


def builder(version: str = "", **parameters: int) -> Callable[[], LinuxDrmBuddy]:
    """What makes managers of what ``heaplaw build-linux`` made.  Raises BuildError where it is not built."""
    return partial(LinuxDrmBuddy, library(cache(), "drm-buddy", version, PAGE), **parameters)
