"""What an afmalloc pool promises, derived from its split arithmetic and the shadow heap alone.

>>> terms = Terms(max_level=7, piece=0, word=8, page_size=4096, quota=0, longest=1 << 16)
>>> plan(terms, 400), plan(terms, 500).alloced         # pieces and metadata; one piece
(Plan(pieces=(256, 128, 32), metadata=32, tried=0), 512)
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import TYPE_CHECKING, NamedTuple

from heaplaw import Block, Contract, PageSource, Request, Shadow

from .afmalloc_pieces import (
    MAX_LEVEL,
    MAX_LEVEL_OF_PIECES,
    MIN_LEVEL,
    OBJ_MIN,
    calculate_level,
    entry_size,
    is_split,
    split,
)
from .bits import is_power_of_two
from .kmalloc_classes import LARGEST_PAGES, MIN_SIZE, SLAB_MIN_SIZE, kmalloc_class, kmalloc_classes
from .pages_arithmetic import get_order
from .parameters import check_numbers
from .slub_order import calculate_order

if TYPE_CHECKING:
    from .afmalloc import Slab

REVISIONS = ("2014-09",)
LEAST = {"slub": MIN_SIZE, "slab": SLAB_MIN_SIZE}  # bytes of kmalloc's smallest class, by its era
_LEVEL_OF_PIECES = 64  # default of max_level where pieces are capped
_PROMISED_PAGES = 4  # objects of more pages are served where they can be, but not promised
_SLAB_PAGES = 8  # most pages of a slab: order 3
_SMALLEST_PAGE = 256
_MOST_CPUS = 1024


class Terms(NamedTuple):
    """What a pool goes by.  Bytes."""

    max_level: int
    piece: int  # largest piece; 0: any
    word: int
    page_size: int
    quota: int  # 0: none
    longest: int  # no longer object is tried for
    least: int = MIN_SIZE  # smallest class of kmalloc


class Plan(NamedTuple):
    """What kmalloc gives for an object, in bytes."""

    pieces: tuple[int, ...]
    metadata: int  # 0: none, the one piece is the object
    tried: int = 0  # metadata that was had in passing, and did not pay

    @property
    def alloced(self) -> int:
        """What the pool is charged."""
        return sum(self.pieces) + self.metadata

    @property
    def calls(self) -> int:
        """Calls of kmalloc."""
        return len(self.pieces) + bool(self.metadata or self.tried)

    def is_easy(self, pages: int) -> bool:
        """Would so many free pages do if every call took the largest slab, and wherever they are?"""
        return _SLAB_PAGES * self.calls * 2 <= pages


@lru_cache(maxsize=1 << 16)
def plan(terms: Terms, length: int) -> Plan | None:
    """What an object of ``length`` bytes is made of; None if it would take too many pieces."""
    level = calculate_level(length, terms.max_level + bool(terms.piece), terms.piece)
    if level > terms.max_level:
        return None
    metadata = kmalloc_size(entry_size(level, terms.word), terms)
    if is_split(length, level, metadata, terms.piece):
        return Plan(split(length, level, terms.piece), metadata)
    return Plan((kmalloc_size(length, terms),), 0, metadata if level > 1 else 0)


def kmalloc_size(size: int, terms: Terms) -> int:
    """Bytes that kmalloc gives for ``size``: those of a class, or whole pages.  O(1)."""
    page_size = terms.page_size
    of_class = kmalloc_class(size, terms.least, page_size * LARGEST_PAGES)
    return of_class or page_size << get_order(size, page_size.bit_length() - 1)


# ---- the contract ---------------------------------------------------------------------------


@lru_cache(maxsize=256)
def configured(
    pages: int,
    page_size: int,
    max_level: int,
    quota: int,
    piece: int,
    cpus: int,
    word: int,
    era: str,
    rev: str,
    make: Callable[[int, int], "Slab"],
) -> tuple[Terms, Contract]:
    """Terms and contract of every pool with these parameters.  Raises ValueError for senseless ones.

    ``make`` makes the kmalloc of a fresh pool, of so many pages of so many bytes.
    """
    _check(pages, page_size, max_level, quota, piece, cpus, word, era, rev)
    max_level = max_level or (_LEVEL_OF_PIECES if piece else MAX_LEVEL[word])
    longest = min(pages * page_size, piece * max_level if piece else pages * page_size)
    terms = Terms(max_level, piece, word, page_size, quota, longest, LEAST[era])
    largest = honest_size(terms, pages, make)
    if largest < 1:
        raise ValueError(f"no object fits: pages={pages}, quota={quota}")
    return terms, Contract(
        max_size=largest,
        granule=8,
        limits=_limits(terms, largest),
        handles="opaque",
        cpus=cpus,
        mappings=1,
        maintenance=("compact", "shrink"),
        moving=frozenset({"compact"}),
        rejects=frozenset({"zero", "align"}),
        spaces="pages",
        geometry=partial(_misplaced, terms),
        metadata_bound=partial(_metadata_bound, terms),
        waste=partial(_waste, terms),
        page_order=_highest_order(terms, era),
        drained_size=largest,
        drained_pages=0,
        drained_after="shrink",
        must_serve=partial(_must_serve, terms),
        must_refuse=partial(_must_refuse, terms),
        cost_bounds={"kmallocs": partial(_most_kmallocs, terms)},
    )


def _check(
    pages: int, page_size: int, max_level: int, quota: int, piece: int, cpus: int, word: int, era: str, rev: str
) -> None:
    """ValueError, in one line, for the first senseless parameter."""
    if rev not in ("", *REVISIONS):
        raise ValueError(f"afmalloc has no revision {rev!r}, only {', '.join(REVISIONS)}")
    check_numbers(pages=pages, page_size=page_size, max_level=max_level, quota=quota, piece=piece, cpus=cpus, word=word)
    if page_size < _SMALLEST_PAGE or not is_power_of_two(page_size):
        raise ValueError(f"page_size must be a power of two from {_SMALLEST_PAGE}, not {page_size}")
    if pages < 1:
        raise ValueError(f"pages must be at least 1, not {pages}")
    if word not in MAX_LEVEL:
        raise ValueError(f"word must be 4 or 8 bytes, not {word}")
    if word == 4 and pages * page_size > 1 << 30:
        raise ValueError(f"a 32-bit kernel maps less than 1 GiB, not {pages} pages of {page_size}")
    if piece and (piece < OBJ_MIN or not is_power_of_two(piece)):
        raise ValueError(f"piece must be 0 or a power of two from {OBJ_MIN}, not {piece}")
    most = MAX_LEVEL_OF_PIECES if piece else MAX_LEVEL[word]
    if max_level and not MIN_LEVEL <= max_level <= most:
        raise ValueError(f"max_level must be {MIN_LEVEL} to {most}, not {max_level}")
    if quota < 0:
        raise ValueError(f"quota must not be negative, not {quota}")
    if not 1 <= cpus <= _MOST_CPUS:
        raise ValueError(f"cpus must be 1 to {_MOST_CPUS}, not {cpus}")
    if era not in LEAST:
        raise ValueError(f"era must be {' or '.join(LEAST)}, not {era!r}")


def honest_size(terms: Terms, pages: int, make: Callable[[int, int], "Slab"]) -> int:
    """The largest size up to which a fresh pool serves every one.  O(kinds of objects * pieces)."""
    for first, made in kinds(terms._replace(quota=0, longest=0)):
        if first > terms.longest:
            return terms.longest
        if made is None or (terms.quota and made.alloced > terms.quota):
            return first - 1
        if not made.is_easy(pages) and not served(made, make(pages, terms.page_size)):
            return first - 1
    return min(terms.longest, _PROMISED_PAGES * terms.page_size)


def served(made: Plan, slab: "Slab") -> bool:
    """Does a fresh kmalloc serve all that an object is made of, in order?"""
    if made.tried:
        entry = slab.alloc(made.tried)
        if not isinstance(entry, int):
            return False
        slab.free(entry)
    sizes = (made.metadata, *made.pieces) if made.metadata else made.pieces
    return all(isinstance(slab.alloc(size), int) for size in sizes)


@lru_cache(maxsize=64)
def kinds(terms: Terms) -> tuple[tuple[int, Plan | None], ...]:
    """(smallest length, plan) for every change of plan, up to the largest size that is promised.

    All that a split goes by is a multiple of 32 bytes, so that it changes at one, or behind one.
    """
    found: list[tuple[int, Plan | None]] = []
    for base in range(0, _PROMISED_PAGES * terms.page_size, OBJ_MIN):
        for length in (base, base + 1) if base else (1, 9, 17):
            made = plan(terms, length)
            if not found or found[-1][1] != made:
                found.append((length, made))
    return tuple(found)


def _highest_order(terms: Terms, era: str) -> int:
    """The highest order that kmalloc may ask for: of the slabs of a piece or of metadata, or of a long object."""
    page_size, largest = terms.page_size, terms.page_size * LARGEST_PAGES
    longest = terms.piece or terms.longest
    top = min(largest, max(kmalloc_size(longest, terms), kmalloc_size(entry_size(terms.max_level, terms.word), terms)))
    preferred = calculate_order if era == "slub" else _slab_order
    of_slabs = max(preferred(size, page_size=page_size) for size in kmalloc_classes(terms.least, top))
    return max(of_slabs, get_order(longest, page_size.bit_length() - 1))


def _slab_order(size: int, *, page_size: int) -> int:
    """SLAB takes two pages at most, but for objects that need more."""
    return 1


def _limits(terms: Terms, largest: int) -> tuple[int, ...]:
    """Sizes at which the split changes: powers of two, what is not worth a piece below them, multiples of a piece."""
    edges = {OBJ_MIN, largest}
    size = OBJ_MIN
    while size <= largest:
        edges |= {size, size - OBJ_MIN - 1, size + OBJ_MIN, size + size // 2}
        size *= 2
    if terms.piece:
        edges |= set(range(terms.piece, largest + 1, terms.piece))
    return tuple(sorted(edge for edge in edges if 1 <= edge <= largest))


def _charged(terms: Terms, shadow: Shadow) -> int:
    """The pool's size, by what is live."""
    return sum(made.alloced for block in shadow.live.values() if (made := plan(terms, block.size)) is not None)


def _must_refuse(terms: Terms, request: Request, shadow: Shadow, source: PageSource | None) -> bool:
    """Is it more than all memory, more pieces than there may be, or more than the quota leaves?"""
    if request.size > terms.longest:
        return True
    made = plan(terms, request.size) if request.size > 0 else None
    if made is None:
        return True
    return bool(terms.quota) and _charged(terms, shadow) + made.alloced > terms.quota


def _must_serve(terms: Terms, request: Request, shadow: Shadow, source: PageSource | None) -> bool:
    """Are there pages for a slab of any order for every call of kmalloc, and does the quota allow it?

    Slabs of objects of up to a page fall back to single pages, wherever those are.
    """
    if request.size < 1 or request.align != 1 or _must_refuse(terms, request, shadow, source):
        return False
    made = plan(terms, request.size)
    if made is None or max(made.pieces) > terms.page_size or source is None:
        return False
    return source.can_give(_SLAB_PAGES * made.calls)


def _misplaced(terms: Terms, block: Block) -> str | None:
    """Are the pieces those that the size calls for, each aligned to its size?"""
    made = plan(terms, block.size)
    wanted = made.pieces if made is not None else ()
    if (seen := tuple(length for _, _, length in block.extents)) != wanted:
        return f"pieces of {wanted} bytes expected, not {seen}"
    for _, start, length in block.extents:
        natural = min(length & -length, terms.page_size)  # of 96 and 192, the power of two in them
        if start % natural:
            return f"a piece of {length} bytes at {start}, not a multiple of {natural}"
    return None


def _waste(terms: Terms, size: int, align: int) -> int:
    """What the last piece is rounded up by, and no byte more."""
    made = plan(terms, size)
    return sum(made.pieces) - size if made is not None else 0


def _metadata_bound(terms: Terms, shadow: Shadow, source: PageSource | None) -> int:
    """The metadata of every live object, exactly."""
    return sum(made.metadata for block in shadow.live.values() if (made := plan(terms, block.size)) is not None)


def _most_kmallocs(terms: Terms, request: Request, shadow: Shadow) -> int:
    """One for every piece and one for the metadata; where that does not pay, one for the object."""
    return terms.max_level + 1
