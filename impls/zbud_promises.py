"""What zbud promises: its contract, derived from requests and answers alone.

Everything follows from the chunks that live objects take on each page: which requests an
existing page must serve, on which list a run of free chunks belongs, where an object may be.

>>> contract = configured(pages=4, page_size=4096, order=6, rev="")
>>> contract.max_size, contract.waste(1, 1), contract.list_of(FreeRegion(0, 64, 4032))  # of 63 chunks
(3968, 63, 63)
"""

from functools import lru_cache, partial

from heaplaw import Block, Contract, FreeRegion, PageSource, Request, Shadow

from .bits import is_power_of_two
from .parameters import check_numbers
from .promises import at_most

BUDDIED = 0  # the list of pages with two objects, in the place of unbuddied[0]
KINDS = ("reclaim", "reclaim-refuse-first", "reclaim-refuse-second", "reclaim-reenter")

_HEADER = 48  # bytes: two list links, two counts and a flag, padded
_LIST_HEAD, _PAGES_NR = 16, 8  # bytes of a list head and of the pool's counter


@lru_cache(maxsize=256)
def configured(pages: int, page_size: int, order: int, rev: str) -> Contract:
    """The contract of every pool with these parameters.  Raises ValueError for senseless ones."""
    if rev:
        raise ValueError(f"zbud has no revision {rev!r}")
    check_numbers(1, pages=pages, page_size=page_size, order=order)
    if not is_power_of_two(page_size):
        raise ValueError(f"page_size {page_size} is not a power of two")
    if order < 2 or page_size >> order < _HEADER:
        raise ValueError(f"order={order}: a page is 4 chunks or more, of {_HEADER} bytes or more each")
    chunk = page_size >> order
    shape = (page_size, chunk)
    largest = page_size - 2 * chunk
    return Contract(
        max_size=largest,
        granule=chunk,
        limits=tuple(range(chunk, largest + 1, chunk)),
        maintenance=KINDS,
        evicting=frozenset(KINDS),
        rejects=frozenset({"zero", "huge", "align"}),
        spaces="pages",
        tiled=True,
        prologue=chunk,
        list_of=partial(_list_of, shape),
        geometry=partial(_misplaced, shape),
        metadata_bound=partial(_metadata_bound, shape),
        waste=partial(_waste, shape),
        page_order=0,
        drained_size=largest,
        drained_pages=0,
        must_serve=partial(_must_serve, shape),
        free_then_alloc=True,
        cost_bounds={"probed": partial(_lists_from, shape), "pages_taken": partial(at_most, 1)},
    )


_Shape = tuple[int, int]  # bytes of a page, of a chunk


def _list_of(shape: _Shape, region: FreeRegion) -> int:
    """A run between two objects is of a buddied page; one that touches an end, of its count of chunks."""
    page_size, chunk = shape
    start, end = region.start % page_size, (region.start + region.length) % page_size
    return BUDDIED if start != chunk and end != 0 else region.length // chunk


def _misplaced(shape: _Shape, block: Block) -> str | None:
    page_size, chunk = shape
    if len(block.extents) != 1:
        return "one piece expected"
    ((_, start, length),) = block.extents
    if length != -(-block.size // chunk) * chunk:
        return f"{length} bytes are not the chunks of {block.size}"
    if start % page_size != chunk and (start + length) % page_size:
        return "neither behind the header nor at the end of a page"
    return None


def _must_serve(shape: _Shape, request: Request, shadow: Shadow, source: PageSource | None) -> bool:
    """Can the source give a page, or has some page one object and room for another?  Exact.  O(live)."""
    page_size, chunk = shape
    if not 1 <= request.size <= page_size - 2 * chunk or request.align != 1:
        return False
    if source is not None and source.can_give(1):
        return True
    room = page_size - chunk - -(-request.size // chunk) * chunk
    used: dict[int, int] = {}  # bytes by page; no room where there are two objects
    for block in shadow.live.values():
        page = block.extents[0][1] // page_size
        used[page] = page_size if page in used else block.length
    return any(length <= room for length in used.values())


def _waste(shape: _Shape, size: int, align: int) -> int:
    """Rounding to whole chunks, and no byte more."""
    return -size % shape[1]


def pool_bytes(nchunks: int) -> int:
    """Bytes of a pool's list heads and its counter."""
    return (nchunks + 1) * _LIST_HEAD + _PAGES_NR


def _metadata_bound(shape: _Shape, shadow: Shadow, source: PageSource | None) -> int:
    """A header chunk for every object at most, since no page is without one; and the pool."""
    page_size, chunk = shape
    return len(shadow) * chunk + pool_bytes(page_size // chunk - 1)


def _lists_from(shape: _Shape, request: Request, shadow: Shadow) -> int:
    """Lists of pages with room, the last of which has one chunk taken."""
    page_size, chunk = shape
    return max(0, page_size // chunk - 1 - -(-request.size // chunk))
