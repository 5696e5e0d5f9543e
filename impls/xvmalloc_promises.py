"""What xvmalloc promises: its contract, derived from requests and answers alone.

The free blocks that must exist follow from the live ones: a page is tiled, free
neighbours have merged, and a header of known length stands before every block::

    page  [hdr][ live ][hdr][ gap: one free block ][hdr][ live ][hdr][ free to the page's end ]

>>> contract = configured(pages=4, page_size=4096, word=64, align=4, rev="")
>>> contract.max_size, configured(4, 4096, 64, 4, "2.6.33").max_size, contract.waste(101, 1)
(4088, 4092, 3)
"""

from collections.abc import Iterator
from functools import lru_cache, partial

from heaplaw import Block, Contract, FreeRegion, PageSource, Request, Shadow

from .bits import align_up, is_power_of_two
from .promises import all_but, at_most
from .xvmalloc_index import DELTA, LEAST, free_lists, insert_index, list_start, search_index

REVISIONS = ("2.6.33",)
_LARGEST_PAGE = 1 << 16  # bytes: sizes and offsets are 16 bits
_SCANS = 3  # bitmap words that a search reads at most


@lru_cache(maxsize=256)
def configured(pages: int, page_size: int, word: int, align: int, rev: str) -> Contract:
    """The promises of these parameters.  Raises ValueError for senseless ones."""
    if not isinstance(pages, int) or pages < 1:
        raise ValueError(f"pages must be at least 1, not {pages!r}")
    if word not in (32, 64):
        raise ValueError(f"word is 32 or 64 bits, not {word}")
    if align not in (4, 8):
        raise ValueError(f"align is 4 or 8 bytes, not {align}")
    if not isinstance(page_size, int) or not is_power_of_two(page_size) or not 64 <= page_size <= _LARGEST_PAGE:
        raise ValueError(f"page_size must be a power of two from 64 to {_LARGEST_PAGE}, not {page_size!r}")
    if rev and rev not in REVISIONS:
        raise ValueError(f"no revision {rev!r} of xvmalloc")
    if rev and align != 4:
        raise ValueError(f"revision {rev} has align=4")
    shape = (page_size, align)
    whole = page_size - align
    findable = list_start(free_lists(whole) - 1)
    largest = whole if rev else findable
    served = partial(_can_serve, shape, largest)
    return Contract(
        max_size=largest,
        granule=align,
        limits=_limits(page_size, align, largest),
        contextual=True,
        rejects=frozenset({"zero", "huge", "align"}),
        header=align,
        prologue=align,
        tiled=True,
        spaces="pages",
        mergeable=partial(_on_one_page, page_size),
        list_of=partial(_list_of, whole),
        geometry=partial(_misplaced, shape),
        overhead=partial(_overhead, shape),
        metadata_bound=partial(_metadata_bound, page_size, align, word),
        waste=partial(_waste, align),
        page_order=0,
        drained_size=largest,
        drained_pages=0,
        must_serve=served,
        must_refuse=partial(all_but, served),
        cost_bounds={
            "scanned": partial(at_most, 2 * _SCANS),
            "probed": partial(at_most, 1),
            "pages_taken": _pages_for,
        },
    )


_Shape = tuple[int, int]  # bytes of a page, of a header


def _limits(page_size: int, align: int, largest: int) -> tuple[int, ...]:
    """Where lists begin, thinned to some 32, and the sizes of which so many fit on a page."""
    starts = range(LEAST, largest, DELTA * max(1, (largest - LEAST) // DELTA // 32))
    shares = [page_size // n - align & ~(align - 1) for n in (1, 2, 3, 4, 6, 8)]
    return tuple(sorted({*starts, largest, *(size for size in shares if 0 < size <= largest)}))


def _free_payloads(shape: _Shape, shadow: Shadow, source: PageSource) -> Iterator[int]:
    """Payloads of the free blocks that the gaps between live payloads must be.  O(live).

    A gap holds the header of the free block, and that of the live block behind it.  Without a
    free block a gap is one header, and none at the end of a page.
    """
    page_size, header = shape
    live: dict[int, list[tuple[int, int]]] = {}
    for block in shadow.live.values():
        for _, start, length in block.extents:
            live.setdefault(start // page_size, []).append((start % page_size, length))
    for page in source.owned:
        at = 0
        for start, length in sorted(live.get(page, ())):
            if start - at >= 2 * header:
                yield start - at - 2 * header
            at = start + length
        if page_size - at >= header:
            yield page_size - at - header


def _can_serve(shape: _Shape, largest: int, request: Request, shadow: Shadow, source: PageSource | None) -> bool:
    """Good fit is exact: served if a page can be had, or some free block stands on the searched list or later."""
    page_size, header = shape
    if not 1 <= request.size <= largest or request.align != 1 or source is None:
        return False
    if not request.atomic and source.can_give(1):
        return True
    first, whole = search_index(align_up(request.size, header)), page_size - header
    return any(insert_index(size, whole) >= first for size in _free_payloads(shape, shadow, source) if size >= LEAST)


def _on_one_page(page_size: int, one: FreeRegion, two: FreeRegion) -> bool:
    return (one.start - 1) // page_size == (two.start - 1) // page_size  # a bare header may end its page


def _list_of(whole: int, region: FreeRegion) -> int | None:
    return insert_index(region.length, whole) if region.length >= LEAST else None


def _misplaced(shape: _Shape, block: Block) -> str | None:
    """Is it one piece, of the request's bytes aligned up, behind a header on one page?"""
    page_size, header = shape
    if len(block.extents) != 1:
        return "one piece expected"
    ((_, start, length),) = block.extents
    if length != align_up(block.size, header):
        return f"{length} bytes are not those of {block.size}"
    if start % page_size < header or start % page_size + length > page_size:
        return "not on one page behind a header"
    return None


def _overhead(shape: _Shape, shadow: Shadow, source: PageSource | None) -> int:
    """A header for each block, live or free.  O(live)."""
    free = sum(1 for _ in _free_payloads(shape, shadow, source)) if source is not None else 0
    return shape[1] * (len(shadow) + free)


def pool_bytes(page_size: int, align: int, word: int) -> int:
    """The pool's structure, in whole pages: bitmaps, lock, list heads of a page and an offset, page count."""
    size, lists = word // 8, free_lists(page_size - align)
    return align_up(size * (1 + -(-lists // word) + 1 + 2 * lists) + 8, page_size)


def _metadata_bound(page_size: int, align: int, word: int, shadow: Shadow, source: PageSource | None) -> int:
    """Blocks are at most the live ones, a free one behind each, and one a page; plus the pool."""
    blocks = 2 * len(shadow) + (source.held if source is not None else 0)
    return align * blocks + pool_bytes(page_size, align, word)


def _waste(align: int, size: int, _: int) -> int:
    """Alignment of the next header, and no byte more."""
    return -size % align


def _pages_for(request: Request, shadow: Shadow) -> int:
    """One page, or none for a request that may not wait."""
    return 0 if request.atomic else 1
