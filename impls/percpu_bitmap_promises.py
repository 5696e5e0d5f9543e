"""What the per-CPU bitmap allocator promises: its contract, and the predicates in it.

Era, source, and how the promises were found: see ``percpu_bitmap``.

A chunk that hides bits is never wholly free as far as its hints know, so what it must serve
follows from the lag of the hints alone, even when nothing in it is live.

>>> contract_of(8192, 4096, 1, "", 0).hint_slack["chunk.contig"]
4092
"""

from collections.abc import Callable, Hashable, Mapping
from functools import lru_cache, partial
from typing import Any

from heaplaw import Block, Contract, FreeRegion, PageSource, Request, Shadow

from .bits import align_up, is_power_of_two
from .parameters import check_numbers
from .percpu_backing import (
    EMPTY_POP_PAGES_HIGH,
    MIN_UNIT_SIZE,
    AnySlot,
    check_geometry,
    pages_can_be_had,
    size_to_slot,
)
from .percpu_balance_promises import MIN_ALLOC_SIZE, SLOT_FAIL_THRESHOLD, Shape, maintained, pages_touched, shown
from .promises import always, at_most, no_overhead

RESERVED_GROUP = 1  # a request in this group is a reserved one
_REVISIONS = ("", "6.12", "4.14", "2017-07")


@lru_cache(maxsize=256)
def contract_of(
    unit: int, block: int, chunks: int, rev: str, pages: int, static: int = 0, reserved: int = 0
) -> Contract:
    """The contract of every allocator with these parameters.  Raises ValueError for senseless ones."""
    if rev not in _REVISIONS:
        raise ValueError(f"unknown revision {rev!r} of the per-CPU bitmap allocator")
    check_geometry("block", unit, block, chunks, pages)
    shape = _shape(unit, block, chunks, static, reserved)
    largest, per_chunk = _largest(shape, pages or unit), unit // block
    octaves = [1 << power for power in range(2, largest.bit_length())]
    scans = rev in ("", "6.12")
    most_metadata = chunks * metadata_bytes(unit, block, scans)
    if reserved:
        most_metadata += metadata_bytes(align_up(shape.border, block) - (shape.static & -block), block, scans)
    return Contract(
        arena=unit,
        bounds={0: (shape.static, unit)} if static else {},
        max_size=largest,
        granule=MIN_ALLOC_SIZE,
        max_align=block,
        limits=tuple(sorted({*octaves, block, 2 * block, largest - block, largest} - {0})),
        handles="opaque",
        contextual=True,
        groups=RESERVED_GROUP if reserved else 0,
        maintenance=("balance",),
        # what is too big for a reserved request is not too big for others
        rejects=frozenset({"zero", "align"} if reserved else {"zero", "huge", "align"}),
        zeroed=True,
        mergeable=partial(_one_chunk, shape.border) if reserved else always,
        container_list=None if rev else partial(_slots_by_run, shape),
        geometry=partial(_misplaced, shape) if shape.border else _misaligned,
        placement=partial(_strayed, shape) if reserved else None,
        overhead=no_overhead,
        metadata_bound=partial(at_most, most_metadata),
        waste=_waste,
        page_order=0,
        drained_size=_after_all_was_freed(shape, largest),
        drained_pages=min(chunks * per_chunk, per_chunk + 2 * EMPTY_POP_PAGES_HIGH),
        drained_after="balance",
        must_serve=partial(_must_serve, rev, shape),
        reserve=partial(_reserve, rev, shape) if reserved else None,
        maintained=None if rev else partial(maintained, shape),
        cost_bounds=_cost_bounds(unit, block, chunks, rev),
        hint_slack=_hint_slack(unit, block, rev),
        hint_relations=(_disordered if rev else partial(_unlike_repaired, block)) if scans else None,
    )


def _shape(unit: int, block: int, chunks: int, static: int, reserved: int) -> Shape:
    check_numbers(0, static=static, reserved=reserved)
    if reserved % MIN_ALLOC_SIZE:
        raise ValueError(f"reserved {reserved} is not a multiple of {MIN_ALLOC_SIZE}")
    start = align_up(static, MIN_ALLOC_SIZE)
    if start + reserved >= unit:
        raise ValueError(f"static {static} and reserved {reserved} leave nothing of the first unit of {unit}")
    return Shape(unit, block, chunks, start, start + reserved)


def _largest(shape: Shape, pages: int) -> int:
    """Largest size that both an ordinary and a reserved request are given by a fresh heap."""
    paged = min(shape.unit, pages * shape.block)  # in a chunk that has no pages yet
    if shape.border:
        first = shape.unit - shape.border
        paged = max(first, paged) if shape.chunks > 1 else first
    largest = min(paged, MIN_UNIT_SIZE)
    return min(largest, shape.reserved) if shape.reserved else largest


def _after_all_was_freed(shape: Shape, largest: int) -> int:
    """A further chunk serves all; the first alone what its hints, which may lag, must show."""
    if shape.chunks > 1 or not shape.border:
        return largest
    return min(largest, shown("", shape, shape.border, shape.unit))


def _hint_slack(unit: int, block: int, rev: str) -> dict[str, int]:
    """Bytes by which hints may lag: as derived where repaired, else as the comments claim."""
    repaired = min(2, unit // block - 1) * (block - MIN_ALLOC_SIZE)
    first = {} if rev else {"chunk.first_free": 0, "block.first_free": 0}
    return {"chunk.contig": block if rev else repaired, "block.contig": 0, **first}


def _disordered(values: Mapping[str, int]) -> str | None:
    """A scan hint as long as the contig hint stands behind it, a shorter one before it."""
    for name in ("chunk", "block"):
        if values.get(f"{name}.scan", 0) > 0:
            behind = values[f"{name}.scan.start"] > values.get(f"{name}.contig.start", -1)
            equal = values[f"{name}.scan"] == values[f"{name}.contig"]
            if behind != equal:
                lengths = "as long as" if equal else "of another length than"
                place = "behind" if behind else "not behind"
                return f"{name}.scan is {lengths} {name}.contig, but {place} it"
    return None


def _unlike_repaired(block: int, values: Mapping[str, int]) -> str | None:
    """As above; besides, the two runs are apart, and of equal ones no worse aligned one is the contig hint."""
    if problem := _disordered(values):
        return problem
    for name in ("chunk", "block"):
        if scan := values.get(f"{name}.scan", 0):
            contig = values[f"{name}.contig"]
            one, two = values[f"{name}.scan.start"], values.get(f"{name}.contig.start", -1)
            if one < two + contig and two < one + scan:
                return f"{name}.scan at {one} lies inside {name}.contig at {two}"
            if scan == contig and _alignment(one, block) > _alignment(two, block):
                return f"{name}.scan at {one} is better aligned than {name}.contig at {two}"
    return None


def _alignment(start: int, block: int) -> int:
    """Bytes to which a place is aligned, a block's at most: nothing is better aligned than the start of a block."""
    return (start | block) & -(start | block)


def _must_serve(rev: str, shape: Shape, request: Request, shadow: Shadow, source: PageSource | None) -> bool:
    """Sleeping requests for which a chunk without live areas, or a free run that hints must show, exists.

    A run inside one block is promised by all comments but the posting's; the repaired revision
    promises runs across blocks as well, where they exceed the request by the lag of its hints.
    A reserved request needs no page, so it need not sleep either.  O(live) at most.
    """
    size, align = align_up(request.size, MIN_ALLOC_SIZE), request.align
    if not 0 < size <= min(shape.unit, MIN_UNIT_SIZE):
        return False
    if not 0 < align <= shape.block or not is_power_of_two(align):
        return False
    if request.group == RESERVED_GROUP and shape.reserved:
        return size <= _reserve(rev, shape, request, shadow)
    if request.atomic:
        return not rev and align <= MIN_ALLOC_SIZE and size <= _ready(shape, shadow)
    most = shape.chunks * shape.unit // shape.block
    if source is not None and not pages_can_be_had(size, shape.block, MIN_ALLOC_SIZE, most, source):
        return False
    spaces = shadow.spaces()
    if shape.border and 0 not in spaces:
        spaces = [0, *spaces]
    if len(spaces) < shape.chunks:
        return True
    if (align > MIN_ALLOC_SIZE and rev) or rev == "2017-07":
        return False
    size += max(align, MIN_ALLOC_SIZE) - MIN_ALLOC_SIZE  # wherever a run begins, it is aligned so far inside
    runs = (run for space in spaces for run in shadow.gaps(space, *shape.ordinary(space)))
    return any(shown(rev, shape, low, high) >= size for low, high in runs)


def _ready(shape: Shape, shadow: Shadow) -> int:
    """Bytes that lie free inside one page that has memory for certain: since live bytes do, or since it keeps it."""
    longest = 0
    for space in shadow.spaces():
        low, unit = shape.ordinary(space)
        kept, has_memory = shape.border > 0 and space == 0, pages_touched(shape, shadow, space)
        for start, end in shadow.gaps(space, low, unit):
            for page in range(start // shape.block, (end - 1) // shape.block + 1):
                if kept or page in has_memory:
                    inside = min(end, (page + 1) * shape.block) - max(start, page * shape.block)
                    longest = max(longest, inside)
    return longest


def _reserve(rev: str, shape: Shape, request: Request, shadow: Shadow) -> int:
    """Bytes that a reserved request is promised, pages or no pages: the longest run that hints must show."""
    if request.group != RESERVED_GROUP or request.align > MIN_ALLOC_SIZE or rev == "2017-07":
        return 0
    runs = shadow.gaps(0, shape.static, shape.border)
    return max((shown(rev, shape, low, high) for low, high in runs), default=0)


def _cost_bounds(unit: int, block: int, chunks: int, rev: str) -> dict[str, Any]:
    """Most steps of a request: one scan of the bitmap, two blocks rescanned, hints walked per chunk.

    An atomic search may begin again behind each unpopulated page.
    """
    blocks, bits = unit // block, block // MIN_ALLOC_SIZE
    reach = unit // MIN_ALLOC_SIZE if rev == "2017-07" else 0
    return {
        "bits_scanned": partial(_most_bits, bits, reach),
        "blocks_visited": partial(_most_blocks, blocks, chunks),
        "chunks_visited": partial(at_most, 2 * chunks + 1),
        "pages_taken": partial(_most_pages, block),
    }


def _most_pages(block: int, request: Request, shadow: Shadow) -> int:
    """None for an atomic request; else those that an area of its size may touch."""
    return 0 if request.atomic else (request.size + 2 * block - MIN_ALLOC_SIZE) // block


def _most_bits(block_bits: int, reach: int, request: Request, shadow: Shadow) -> int:
    scan = max(request.size // MIN_ALLOC_SIZE + 1 + block_bits, reach)
    return scan + 2 * block_bits + 2 * (block_bits + 1)  # the last where pages fail and it is freed again


def _most_blocks(blocks: int, chunks: int, request: Request, shadow: Shadow) -> int:
    walks = blocks * (blocks + 1) // 2 if request.atomic else blocks
    return (2 * chunks + 1) * walks + 2 * (2 * blocks)  # each refresh meets a block twice at most


def _one_chunk(border: int, one: FreeRegion, two: FreeRegion) -> bool:
    """Free runs on both sides of the border of the reserved bytes are in different chunks."""
    return one.space != 0 or two.start != border


def _slots_by_run(shape: Shape, shadow: Shadow) -> Callable[[Hashable], Hashable]:
    """The slots of each chunk: of its longest free run or less, as its hint may lag; put aside, or given up."""
    top = size_to_slot(shape.unit)
    sidelined, free_slot = top + 1, top + 2

    def slots_of(key: Any) -> Hashable:
        runs = list(shadow.gaps(key[1], *shape.ordinary(key[1])))
        longest = max((high - low for low, high in runs), default=0)
        sure = max((shown("", shape, low, high) for low, high in runs), default=0)
        first = size_to_slot(sure) if sure else 0
        slots = list(range(first, (size_to_slot(longest) if longest else 0) + 1))
        if longest == shape.unit:
            slots.append(free_slot)
        return AnySlot([*slots, sidelined, *([0] if first < SLOT_FAIL_THRESHOLD else [])])

    return slots_of


def _misaligned(block: Block) -> str | None:
    ((_, start, length),) = block.extents
    if start % MIN_ALLOC_SIZE:
        return f"{start} is not a multiple of {MIN_ALLOC_SIZE}"
    return None if length == align_up(block.size, MIN_ALLOC_SIZE) else f"{length} bytes for {block.size}"


def _misplaced(shape: Shape, block: Block) -> str | None:
    """As above, and inside the unit, past the static bytes, on one side of the border."""
    ((space, start, length),) = block.extents
    low, high = shape.ordinary(space)
    if space == 0 and start < low:
        low, high = shape.static, shape.border
    if not low <= start <= start + length <= high:
        return f"[{start}, {start + length}) is not inside [{low}, {high})"
    return _misaligned(block)


def _strayed(shape: Shape, request: Request, block: Block) -> str | None:
    """Reserved requests, and only they, are served from the reserved bytes."""
    ((space, start, _),) = block.extents
    inside = space == 0 and start < shape.border
    if inside == (request.group == RESERVED_GROUP):
        return None
    return f"reserved bytes end at {shape.border}, and this was {'an ordinary' if inside else 'a reserved'} request"


def _waste(size: int, align: int) -> int:
    return -size % MIN_ALLOC_SIZE


def metadata_bytes(unit: int, block: int, scans: bool) -> int:
    """Bytes of a chunk's two bitmaps, its descriptors (8 or 5 ints) and its page bitmap."""
    bits, blocks = unit // MIN_ALLOC_SIZE, unit // block
    longs = -(-bits // 64) + -(-(bits + 1) // 64) + -(-blocks // 64)
    return 8 * longs + (32 * (blocks + 1) if scans else 20 * blocks + 12)
