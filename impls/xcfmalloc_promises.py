"""What xcfmalloc promises: its contract, derived from requests and answers alone.

The free blocks that must exist follow from the live ones: a page is tiled, free
neighbours have merged, and a header of known length stands before every block.

>>> layout, contract = configured(4, 4096, shift=6, reserve=1, blocks=2, descs=0, word=8, debug=1)
>>> contract.max_size, contract.waste(100, 1), contract.drained_pages
(4080, 63, 1)
"""

from functools import lru_cache, partial
from typing import NamedTuple

from heaplaw import Block, Contract, FreeRegion, PageSource, Request, Shadow

from .parameters import check_numbers
from .promises import at_most
from .xcfmalloc_blocks import Layout


class Shape(NamedTuple):
    """The parameters of a pool; sizes in bytes."""

    pages: int
    layout: Layout
    reserve: int
    blocks: int  # most blocks of an object
    descs: int  # most descriptors; 0: any number


@lru_cache(maxsize=256)
def configured(
    pages: int, page_size: int, shift: int, reserve: int, blocks: int, descs: int, word: int, debug: int
) -> tuple[Layout, Contract]:
    """Layout and contract of every pool with these parameters.  Raises ValueError for senseless ones."""
    layout = Layout(page_size, shift, word, debug)
    check_numbers(1, pages=pages, reserve=reserve, blocks=blocks)
    kept = min(reserve, pages)
    if not isinstance(descs, int) or descs < 0 or 0 < descs <= kept:
        raise ValueError(f"descs must be 0 or above {kept}, one for each reserve page and one to split, not {descs!r}")
    shape = Shape(pages, layout, reserve, blocks, descs)
    return layout, Contract(
        min_size=0,
        max_size=layout.max_alloc,
        granule=layout.header & -layout.header,
        limits=tuple((index + 1) * layout.block - layout.header for index in range(layout.lists)),
        handles="opaque",
        maintenance=("compact",),
        moving=frozenset({"compact"}),
        detects=frozenset({"double"}),
        rejects=frozenset({"huge", "align"}),
        header=layout.header,
        prologue=layout.header,
        spaces="pages",
        tiled=True,
        mergeable=partial(_on_one_page, shape),
        list_of=partial(_list_of, shape),
        geometry=partial(_misplaced, shape),
        metadata_bound=partial(_metadata_bound, shape),
        waste=partial(_waste, shape),
        page_order=0,
        drained_size=layout.max_alloc,
        drained_pages=kept,
        must_serve=partial(_must_serve, shape),
        free_then_alloc=not descs,  # a page for the reserve may take the descriptor that a split needs
        cost_bounds={
            "probed": partial(at_most, blocks * layout.lists),
            "pages_taken": partial(at_most, reserve),
            "splits": partial(at_most, 1),
        },
        reserve=None if descs else partial(_reserve, shape),
    )


def _free_blocks(shape: Shape, shadow: Shadow, source: PageSource) -> tuple[list[int], int]:
    """Bytes of the free blocks that the live ones leave, headers included; and the number of live blocks."""
    layout = shape.layout
    size, header = layout.page_size, layout.header
    live: dict[int, list[tuple[int, int]]] = {}  # offsets of blocks, by page
    count = 0
    for block in shadow.live.values():
        for _, start, length in block.extents:
            page, offset = divmod(start, size)
            live.setdefault(page, []).append((offset - header, offset + length))
            count += 1
    free = []
    for page in source.owned:
        at = 0
        for start, end in sorted(live.get(page, ())):
            if start > at:
                free.append(start - at)
            at = end
        if size > at:
            free.append(size - at)
    return free, count


def _must_serve(shape: Shape, request: Request, shadow: Shadow, source: PageSource | None) -> bool:
    """Do as many free blocks as an object may have hold the request, or can the reserve grow?

    Exact as long as descriptors are left.  Taking the longest blocks first is the best that can
    be done, and what the rule of choice comes to when no single block is long enough.  Blocks of
    the least size never are a first part: no list below index 1 is searched for one.
    O(live log live).
    """
    layout = shape.layout
    if not 0 <= request.size <= layout.max_alloc or request.align != 1 or source is None:
        return False
    free, live = _free_blocks(shape, shadow, source)
    if shape.descs and live + len(free) >= shape.descs:
        return False  # none left to split a block
    if not shape.descs and free.count(layout.page_size) < shape.reserve and source.can_give(1):
        return True
    free.sort(reverse=True)
    left = request.size
    for parts, length in enumerate(free[: shape.blocks], 1):
        if length >= left + layout.header:
            return True
        if parts < shape.blocks and length < 2 * layout.block:
            return False
        left -= length - layout.header
    return False


def _reserve(shape: Shape, request: Request, shadow: Shadow) -> int:
    """Any request, while live blocks stand on fewer pages than were taken when the pool was made.

    Pages are only given back while more than the reserve are free, so the pool never
    holds fewer than it began with.  -1: nothing is promised, a size of 0 included.  O(live).
    """
    size = shape.layout.page_size
    touched = {start // size for block in shadow.live.values() for _, start, _ in block.extents}
    return shape.layout.max_alloc if len(touched) < min(shape.reserve, shape.pages) else -1


def _on_one_page(shape: Shape, one: FreeRegion, two: FreeRegion) -> bool:
    return one.start // shape.layout.page_size == two.start // shape.layout.page_size


def _list_of(shape: Shape, region: FreeRegion) -> int:
    return shape.layout.flindex(region.length + shape.layout.header)


def _misplaced(shape: Shape, block: Block) -> str | None:
    """Is every part a block of whole granules on one page, and is only the last one not filled?"""
    layout, left = shape.layout, block.size
    if not 1 <= len(block.extents) <= shape.blocks:
        return f"{len(block.extents)} blocks, 1 to {shape.blocks} expected"
    for _, start, length in block.extents:
        if (start - layout.header) % layout.block or (length + layout.header) % layout.block:
            return f"{start}+{length} is no block of whole {layout.block} bytes behind its header"
        if start % layout.page_size + length > layout.page_size:
            return f"{start}+{length} leaves its page"
        filled, left = left, left - length
    if left > 0 or filled < 0 or layout.aligned(filled + layout.header) != length + layout.header:
        return f"{filled} bytes in a last block of {length}"
    return None


def _waste(shape: Shape, size: int, align: int) -> int:
    """Padding of the last block; a request for nothing gets the bytes of the least block."""
    return shape.layout.block - 1 if size else shape.layout.block - shape.layout.header


def _metadata_bound(shape: Shape, shadow: Shadow, source: PageSource | None) -> int:
    """A header and a descriptor for every part, and for a free block behind each and one a page."""
    parts = sum(len(block.extents) for block in shadow.live.values())
    blocks = 2 * parts + (source.held if source is not None else 0)
    return blocks * (shape.layout.header + shape.layout.desc_bytes)
