"""What the small related object group allocator promises, derived from requests and answers alone.

An area that must be free lies between the live objects of a run of pages, less the size word of what follows it::

    run  [ head ][size| live ][   area   ][size| live ][ area, to the run's end ]

>>> contract = configured(pages=8, page_size=4096, groups=3, rev="")
>>> contract.max_size == 8 * 4096 - HEAD - WORD, contract.waste(9, 1)     # rounding, and a rest of 4 bytes
(True, 7)
"""

from collections.abc import Iterator
from functools import lru_cache, partial

from heaplaw.contract import Contract, Request
from heaplaw.pages import PageSource
from heaplaw.protocol import FreeRegion
from heaplaw.shadow import Block, Shadow

from .bits import align_up, highest_bit, is_power_of_two

WORD = 4  # bytes: of a pointer, a size, and every alignment
HEAD = 28  # bytes of a page head: two links, an empty area, order, flags, magic
LEAST_AREA = 8  # bytes of a free area's header: its size, the next area
MAX_ORDER = 10  # highest order that the page allocator knows
SIZE_MASK = (1 << 32) - 1  # what an unsigned long keeps
REVISIONS = ("", "2006-08-12")


def total(size: int) -> int:
    """Bytes that an object of ``size`` takes with its size word; an area's header fits in it when freed.

    >>> [total(size) for size in (0, 8, 9, 1352, 4064)]
    [12, 12, 16, 1356, 4068]
    """
    return align_up(max(size, LEAST_AREA) + WORD, WORD)


def order_for(whole: int, page_size: int, mask: int = -1) -> int:
    """Order of the run of pages for an object of ``whole`` bytes, size word included, and a head.

    ``mask``: what the sums are cut to.

    >>> [order_for(whole, 4096) for whole in (12, 4068, 4072, 8164, 8168)]
    [0, 0, 1, 1, 2]
    """
    pages = (((whole + HEAD) & mask) + page_size - 1 & mask) // page_size
    return (pages - 1 & mask).bit_length()


@lru_cache(maxsize=256)
def configured(pages: int, page_size: int, groups: int, rev: str) -> Contract:
    """The contract of these parameters.  Raises ValueError for senseless ones."""
    if rev not in REVISIONS:
        raise ValueError(f"srog has no revision {rev!r}; it has {REVISIONS[1]}")
    if not is_power_of_two(page_size) or page_size < 64:
        raise ValueError(f"page_size must be a power of two from 64, not {page_size}")
    if pages < 1 or pages * page_size > 1 << 30:
        raise ValueError(f"{pages} pages of {page_size} bytes are not between one page and a GiB")
    if groups < 1:
        raise ValueError(f"groups must be at least 1, not {groups}")
    top = min(highest_bit(pages), MAX_ORDER)
    largest = (page_size << top) - HEAD - WORD
    usable = page_size - HEAD
    limits = {8, 12, usable - WORD, usable // 2 - WORD, usable // 3 - WORD, usable - WORD - 12, 2 * page_size - 32}
    return Contract(
        min_size=0,
        max_size=largest,
        granule=WORD,
        max_align=WORD,
        limits=tuple(sorted(size for size in limits if 0 < size <= largest)),
        contextual=True,
        groups=groups,
        detects=frozenset({"foreign"}),
        rejects=frozenset({"huge", "align"}),
        header=WORD,
        prologue=HEAD + WORD,
        spaces="pages",
        tiled=True,
        mergeable=_in_one_run,
        list_of=_list_of,
        geometry=_misplaced,
        metadata_bound=_metadata_bound,
        waste=_waste,
        page_order=top,
        drained_size=largest,
        drained_pages=0,
        must_serve=partial(_must_serve, page_size, top),
        must_refuse=partial(_must_refuse, largest),
        cost_bounds={"pages_walked": _pages_at_most, "areas_walked": _areas_at_most},
        isolated_groups=True,
        space_deterministic=True,
    )


# ---- places ------------------------------------------------------------------------------


def _list_of(region: FreeRegion) -> object:
    """The list of the run of pages it was met in, named by the run's first page."""
    return region.list_id


def _in_one_run(one: FreeRegion, two: FreeRegion) -> bool:
    return one.list_id == two.list_id


def _misplaced(block: Block) -> str | None:
    """Is it one piece, of its total or with a remainder too short for an area?"""
    if len(block.extents) != 1:
        return "one piece expected"
    length = block.extents[0][2]
    if length % WORD or not 0 <= length + WORD - total(block.size) < LEAST_AREA:
        return f"{length} bytes are not the total of {block.size}, {total(block.size)}, less a word"
    return None


def _waste(size: int, align: int) -> int:
    """Rounding, and the longest remainder that is no area."""
    return total(size) - WORD - size + LEAST_AREA - WORD


# ---- requests ----------------------------------------------------------------------------


def _senseless(request: Request) -> bool:
    return request.size < 0 or request.align < 1 or request.align not in (1, 2, WORD)


def _areas(page_size: int, group: int | None, shadow: Shadow, source: PageSource) -> Iterator[int]:
    """Bytes of each free area in the runs that hold an object of a group; None: in any run."""
    for page, order in source.runs.items():
        low, high = page * page_size, (page + (1 << order)) * page_size
        first = next((block for _, _, block in shadow.extents(0, low, high)), None)
        if group is None or (first is not None and first.group == group):
            for start, end in shadow.gaps(0, low, high):
                yield end - (WORD if end < high else 0) - max(start, low + HEAD)


def _must_serve(page_size: int, top: int, request: Request, shadow: Shadow, source: PageSource | None) -> bool:
    """A run of pages is to be had, or a page of the group has an area that is long enough: first fit is exact."""
    if source is None or _senseless(request):
        return False
    whole = total(request.size)
    order = order_for(whole, page_size)
    if order <= top and source.fits(order):
        return True
    return request.group > 0 and any(area >= whole for area in _areas(page_size, request.group, shadow, source))


def _must_refuse(largest: int, request: Request, shadow: Shadow, source: PageSource | None) -> bool:
    """Senseless, or longer than any run of pages.  What pages are left is known after serving only."""
    return _senseless(request) or request.size > largest


def _pages_at_most(request: Request, shadow: Shadow) -> int:
    """Every run of pages holds a live object; one may be new."""
    return len(shadow) + 1


def _areas_at_most(request: Request, shadow: Shadow) -> int:
    """A run has one area more than live objects at most; a new one has one."""
    return 2 * len(shadow) + 1


def _metadata_bound(shadow: Shadow, source: PageSource | None) -> int:
    """A head for each run of pages and a word for each object."""
    assert source is not None
    return HEAD * len(source.runs) + WORD * len(shadow)
