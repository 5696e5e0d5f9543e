"""What compcache's chunk store promises: its contract, derived from requests and answers alone.

It is the only contract here in which the answer hangs on a sum: served if the bytes that are
free, wherever they are, and the pages that can be had add up to the request, refused if not.

>>> contract = configured(pages=2, page_size=512, ranges=8, least=16, keep=1, rev="")
>>> contract.must_serve(Request(512), Shadow(), PageSource(pages=1, page_size=512)), contract.waste(500, 1)
(True, 12)
"""

from collections.abc import Hashable
from functools import lru_cache, partial

from heaplaw import Block, Contract, FreeRegion, PageSource, Request, Shadow

from .bits import align_up, is_power_of_two
from .parameters import check_numbers
from .promises import all_but, at_most, no_overhead

CHUNK_BYTES = 56  # reconstructed: frame, offset, size, flag, three links, two of a list; 64-bit
HEAD_BYTES = 24  # size, first chunk, and the page cache's slot that points here
LIST_HEAD = 8


@lru_cache(maxsize=256)
def configured(pages: int, page_size: int, ranges: int, least: int, keep: int, rev: str) -> Contract:
    """The promises of these parameters.  Raises ValueError for senseless ones."""
    if rev:
        raise ValueError(f"compcache has no revision {rev!r}")
    check_numbers(1, pages=pages, page_size=page_size, ranges=ranges, least=least)
    if not is_power_of_two(page_size):
        raise ValueError(f"page_size {page_size} is not a power of two")
    if not is_power_of_two(least) or least > page_size:
        raise ValueError(f"least must be a power of two up to {page_size}, not {least}")
    if not is_power_of_two(ranges) or ranges > page_size:
        raise ValueError(f"ranges must be a power of two up to {page_size}, not {ranges}")
    if keep not in (0, 1):
        raise ValueError(f"keep is 0 or 1 pages, not {keep!r}")
    served = partial(_can_serve, page_size, least)
    width = page_size // ranges
    return Contract(
        max_size=page_size,
        granule=least,
        limits=tuple(sorted({*range(width, page_size + 1, width * max(1, ranges // 64)), least, page_size})),
        handles="opaque",
        detects=frozenset({"double", "foreign"}),
        rejects=frozenset({"zero", "huge", "align"}),
        spaces="pages",
        tiled=True,
        mergeable=partial(_on_one_page, page_size),
        list_of=partial(_list_of, width),
        geometry=partial(_misplaced, page_size, least),
        overhead=no_overhead,
        metadata_bound=partial(_metadata_bound, ranges),
        waste=partial(_waste, least),
        page_order=0,
        drained_size=page_size,
        drained_pages=keep,
        must_serve=served,
        must_refuse=partial(all_but, served),
        free_then_alloc=True,
        cost_bounds={
            "probed": partial(_most_probed, ranges, least),
            "pieces": partial(_most_pieces, least),
            "pages_taken": partial(at_most, 1),
        },
        reserve=partial(_reserve, page_size) if keep else None,
    )


def _can_serve(page_size: int, least: int, request: Request, shadow: Shadow, source: PageSource | None) -> bool:
    """Do the free bytes of the pages held and those that can be had add up to the request?  Exact.  O(1)."""
    if not 1 <= request.size <= page_size or request.align != 1 or source is None:
        return False
    short = align_up(request.size, least) - (source.held * page_size - shadow.bytes)
    return short <= 0 or source.can_give(-(-short // page_size))


def _reserve(page_size: int, request: Request, shadow: Shadow) -> int:
    """What the first page, which never goes back, has left over; -1: a request that no heap serves."""
    return page_size - shadow.bytes if 1 <= request.size <= page_size else -1


def _on_one_page(page_size: int, one: FreeRegion, two: FreeRegion) -> bool:
    return one.start // page_size == two.start // page_size


def _list_of(width: int, region: FreeRegion) -> Hashable:
    return (region.length - 1) // width


def _misplaced(page_size: int, least: int, block: Block) -> str | None:
    """Are these pieces within pages, of whole units, that add up to the request?"""
    total = 0
    for _, start, length in block.extents:
        if length < least or start % least or length % least or start % page_size + length > page_size:
            return f"{start}+{length} is no chunk of a page"
        total += length
    return None if total == align_up(block.size, least) else f"{total} bytes in pieces for {block.size}"


def _metadata_bound(ranges: int, shadow: Shadow, source: PageSource | None) -> int:
    """A descriptor for every piece, for a free chunk behind each, and for one more a page.  O(live)."""
    pieces = sum(len(block.extents) for block in shadow.live.values())
    chunks = 2 * pieces + (source.held if source is not None else 0)
    return CHUNK_BYTES * chunks + HEAD_BYTES * len(shadow) + LIST_HEAD * ranges


def _waste(least: int, size: int, align: int) -> int:
    """The last piece's slack."""
    return -size % least


def _most_pieces(least: int, request: Request, shadow: Shadow) -> int:
    """Unbounded but for the length: each piece holds something."""
    return -(-request.size // least)


def _most_probed(ranges: int, least: int, request: Request, shadow: Shadow) -> int:
    """Every list for every piece, and once more to find them all empty."""
    return ranges * (_most_pieces(least, request, shadow) + 1)
