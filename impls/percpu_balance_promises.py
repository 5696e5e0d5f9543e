"""What the background work of the per-CPU bitmap allocator promises, and what all its promises measure with.

Era and source: see ``percpu_bitmap``; ``pcpu_balance_workfn`` and what it calls, ``mm/percpu.c`` since 5.14.

Its rules, by the comments there: of the free chunks all but one are destroyed; a chunk is depopulated
when a quarter of its pages is empty while the others have more than enough; pages are taken until
enough of them are empty.  Done over and over it comes to rest at the third time, unless pages are short,
and then the rules hold.

>>> inside_block(4, 60, 32), Shape(128, 32, 2).ordinary(0)
(28, (0, 128))
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from heaplaw import Maintenance, Shadow

from .bits import align_up
from .percpu_backing import EMPTY_POP_PAGES_HIGH, size_to_slot

MIN_ALLOC_SIZE = 4  # bytes of one bit
SLOT_FAIL_THRESHOLD = 3  # chunks on slots below are put aside when a search in them fails
_SPARED = "the only free chunk is gone, or some of its pages"
_AT_REST = 2  # times that it is repeated until nothing is left to do


class Shape(NamedTuple):
    """Bytes of chunks and blocks, and where the first unit's reserved and ordinary parts begin."""

    unit: int
    block: int
    chunks: int
    static: int = 0
    border: int = 0

    @property
    def reserved(self) -> int:
        """Bytes that only reserved requests get."""
        return self.border - self.static

    @property
    def blocks(self) -> int:
        """Blocks, and pages, of a chunk that is not of the first unit."""
        return self.unit // self.block

    @property
    def quarter(self) -> int:
        """Pages of which so many are empty make a chunk worth depopulating."""
        return self.blocks // 4

    def keeps_pages(self, number: int) -> bool:
        """Is this chunk of the first unit, whose pages are not the source's?"""
        return self.border > 0 and number in (0, self.chunks)

    def ordinary(self, space: int) -> tuple[int, int]:
        """Where ordinary areas may lie in a space."""
        return (self.border if space == 0 else 0), self.unit


class _ChunkPages(NamedTuple):
    """The pages of one chunk: how many it has, how many of them are empty; is it put aside, and does it know that?"""

    number: int
    pages: int
    empty: int
    aside: bool
    isolated: bool


def maintained(shape: Shape, m: Maintenance, shadow: Shadow) -> str | None:
    """What is wrong with a run of the background work; None if nothing is, or no counters are shown."""
    if not m.after:
        return None
    before, after = {one.number: one for one in _chunks(m.before)}, list(_chunks(m.after))
    return next(filter(None, _problems(shape, m, shadow, before, after)), None)


def _chunks(counts: Mapping[str, int]) -> Iterator[_ChunkPages]:
    for name, pages in counts.items():
        if name.startswith("chunk") and name.endswith(".pages"):
            prefix = name.removesuffix(".pages")
            number = int(prefix.removeprefix("chunk"))
            told = [counts[f"{prefix}.{what}"] for what in ("empty_pages", "sidelined", "isolated")]
            yield _ChunkPages(number, pages, told[0], bool(told[1]), bool(told[2]))


def _problems(
    shape: Shape, m: Maintenance, shadow: Shadow, before: Mapping[int, _ChunkPages], after: list[_ChunkPages]
) -> Iterator[str | None]:
    yield from (_miscounted(shape, one, shadow) for one in after)
    ready = sum([one.empty for one in after if not one.aside and one.number != shape.chunks])
    if m.after["empty_pages"] != ready:
        yield f"{m.after['empty_pages']} empty pages told, but {ready} there"
    if m.taken > m.given and m.wanted is False and ready > EMPTY_POP_PAGES_HIGH:
        yield f"{m.taken} pages taken, until {ready} were empty"
    own = [one for one in after if not shape.keeps_pages(one.number)]
    for one in own:
        if _in_use(one, shadow) and one.number in before:
            yield _unfounded(shape, m, before, one, ready)
    free = [one for one in before.values() if not (shape.keeps_pages(one.number) or _in_use(one, shadow))]
    if len(free) == 1 and not free[0].aside:
        yield next((None for one in own if one.number == free[0].number and one.pages >= free[0].pages), _SPARED)
    if m.starved:
        return
    if m.done.pages_freed != m.given:
        yield f"{m.done.pages_freed} pages told to be given back, but {m.given} were"
    if m.taken > EMPTY_POP_PAGES_HIGH:
        yield f"{m.taken} pages taken"
    if m.wanted and not m.taken:
        yield _missing(shape, [one for one in own if _in_use(one, shadow)], shadow)  # others may be new
    if m.repeats >= _AT_REST:
        yield from _unfinished(shape, m, own, shadow, ready)


def _in_use(one: _ChunkPages, shadow: Shadow) -> bool:
    return one.number in shadow.spaces()


def pages_touched(shape: Shape, shadow: Shadow, space: int) -> set[int]:
    """The pages of a space that live ordinary bytes lie in.  O(live there)."""
    low, unit = shape.ordinary(space)
    return _touched(shape, shadow, space, low, unit)


def _touched(shape: Shape, shadow: Shadow, space: int, low: int, high: int) -> set[int]:
    block, live = shape.block, shadow.extents(space, low, high)
    return {page for start, end, _ in live for page in range(start // block, (end - 1) // block + 1)}


def _miscounted(shape: Shape, one: _ChunkPages, shadow: Shadow) -> str | None:
    """What is wrong with what is told of a chunk.

    Empty pages are those without a live byte; of a chunk that keeps its pages, only those that it has to itself.
    """
    if one.number == shape.chunks:
        low, high = shape.static, shape.border
    else:
        low, high = shape.ordinary(one.number)
    space = 0 if one.number == shape.chunks else one.number
    touched = _touched(shape, shadow, space, low, high)
    if one.aside != one.isolated:
        return f"chunk {one.number} is put aside, or not, and does not know it"
    empty = one.pages - len(touched)
    if shape.keeps_pages(one.number):
        if one.pages != -(-high // shape.block) - low // shape.block:
            return f"{one.pages} pages told of chunk {one.number}, which keeps all of its pages"
        empty = len(set(range(-(-low // shape.block), high // shape.block)) - touched)
    return None if one.empty == empty else f"{one.empty} empty pages told of chunk {one.number}, but it has {empty}"


def _unfounded(
    shape: Shape, m: Maintenance, before: Mapping[int, _ChunkPages], one: _ChunkPages, ready: int
) -> str | None:
    """Were pages taken from a chunk in use without need, or was it put aside, or taken back, without?"""
    was = before[one.number]
    others = sum([c.empty for c in before.values() if c.number not in (one.number, shape.chunks)])
    if not was.aside and one.aside:
        if others <= EMPTY_POP_PAGES_HIGH or not was.empty >= max(1, shape.quarter):
            return f"chunk {one.number} put aside with {was.empty} empty pages, others have {others}"
        if one.empty and not m.taken:
            return f"chunk {one.number} put aside with {one.empty} of {was.empty} empty pages"
    if was.aside and not one.aside:
        rest = ready - one.empty
        several = sum([c.aside and c.empty > 0 for c in before.values()]) > 1
        if not was.empty or (rest >= EMPTY_POP_PAGES_HIGH and m.wanted is False and not several):
            return f"chunk {one.number} with {was.empty} empty pages taken back, others have {rest}"
    if one.pages < was.pages:
        if not one.aside:
            return f"pages taken from chunk {one.number}, which was not put aside"
        if ready < EMPTY_POP_PAGES_HIGH:
            return f"pages taken from chunk {one.number} until {ready} were left"
    return None


def _missing(shape: Shape, own: list[_ChunkPages], shadow: Shadow) -> str | None:
    """Chunks that should have been given pages: with a free page for certain, and not all of their pages."""
    if size_to_slot(shape.block) < SLOT_FAIL_THRESHOLD:
        return None  # such a chunk may have been given up
    for one in own:
        runs = shadow.gaps(one.number, *shape.ordinary(one.number))
        if one.pages < shape.blocks and any(shown("", shape, low, high) >= shape.block for low, high in runs):
            return f"no page taken for chunk {one.number}, which has {one.pages} of {shape.blocks}"
    return None


def _unfinished(
    shape: Shape, m: Maintenance, own: list[_ChunkPages], shadow: Shadow, ready: int
) -> Iterator[str | None]:
    """What is left to do at rest."""
    if m.taken or m.given:
        if m.given or m.before["empty_pages"] >= EMPTY_POP_PAGES_HIGH:
            yield f"{m.taken} pages taken and {m.given} given back after {m.repeats} runs in a row"
        return  # a run gives pages to one chunk of each slot, so that all may need several
    if ready < EMPTY_POP_PAGES_HIGH:
        if len(m.after) and len(own) < shape.chunks - (shape.border > 0):
            yield f"only {ready} empty pages kept, though there may be another chunk"
        yield _missing(shape, own, shadow)
    if sum([not _in_use(one, shadow) for one in own]) > 1:
        yield "more than one free chunk kept"
    for one in own:
        if one.aside and one.empty:
            yield f"{one.empty} empty pages left in chunk {one.number}, which was put aside"
        others = ready - one.empty
        worth = not one.aside and _in_use(one, shadow) and one.empty >= max(1, shape.quarter)
        if worth and others > EMPTY_POP_PAGES_HIGH:
            yield f"{one.empty} empty pages left in chunk {one.number}, others have {others}"


def shown(rev: str, shape: Shape, low: int, high: int) -> int:
    """Bytes of the free run [low, high) that hints cannot miss: inside a block, or but for their lag."""
    across = 0 if rev else high - low - 2 * (shape.block - MIN_ALLOC_SIZE)
    return max(inside_block(low, high, shape.block), across)


def inside_block(low: int, high: int, block: int) -> int:
    """Bytes of the longest part of [low, high) that crosses no block border."""
    first, last = align_up(low + 1, block), (high - 1) & -block
    if first > last:
        return high - low
    return max(first - low, high - last, block if last > first else 0)
