"""What a zsmalloc pool promises, derived from its class table and the shadow heap alone.

>>> table, contract = configured(64, 4096, 4, "", 8, "", "indirect", merge=1, cpus=0, scatter=0)
>>> contract.max_size, contract.waste(2000, 1), contract.cost_bounds["pages_taken"](Request(3000), Shadow())
(4096, 40, 3)
"""

from bisect import bisect_left
from collections.abc import Callable, Hashable
from functools import lru_cache, partial
from typing import cast

from heaplaw import Block, Contract, Maintenance, PageSource, Request, Shadow

from .bits import is_power_of_two
from .parameters import check_numbers
from .promises import at_most
from .zsmalloc_classes import (
    DIRECT_SPARSE_QUARTERS,
    GROUP_NAMES,
    MAX_CHAIN,
    SPARSE_QUARTERS,
    ClassTable,
    SizeClass,
    class_table,
    fullness_group,
)

SEARCHED_LISTS = 2  # almost full and almost empty ones
ZSPAGE_STRUCT = 56  # bytes of struct zspage (64-bit)
_SMALLEST_PAGE = 64
_MOST_CPUS = 1024


@lru_cache(maxsize=256)
def configured(
    pages: int,
    page_size: int,
    chain: int,
    rev: str,
    word: int,
    rule: str,
    handles: str,
    merge: int,
    cpus: int,
    scatter: int,
) -> tuple[ClassTable, Contract]:
    """Table and contract of every pool with these parameters.  Raises ValueError for senseless ones."""
    _check(pages, page_size, chain, rev, word, rule, handles, merge, cpus, scatter)
    direct = handles == "direct"
    rule = rule or ("percent" if chain <= 4 else "exact")
    table = class_table(page_size, chain, word, rule, 0 if direct else 1, bool(merge))
    longest = max(kind.pages for kind in table.distinct)
    if pages < longest:
        raise ValueError(f"pages={pages} cannot hold a zspage of {longest} pages")
    return table, Contract(
        max_size=page_size,
        granule=word,
        limits=tuple(min(kind.payload, page_size) for kind in table.distinct),
        handles="opaque",
        cpus=max(1, cpus),
        mappings=1 if cpus else 0,
        maintenance=() if direct else ("compact",),
        maintained=None if direct else told_truly,
        moving=frozenset() if direct else frozenset({"compact"}),
        pinned=cpus > 0,
        detects=frozenset() if direct else frozenset({"double", "foreign", "interior"}),
        rejects=frozenset({"zero", "huge", "align"}),
        spaces="pages",
        container_list=partial(_group_of, table, DIRECT_SPARSE_QUARTERS if direct else SPARSE_QUARTERS),
        geometry=partial(_misplaced, table),
        metadata_bound=partial(_metadata_bound, 0 if direct else word),
        waste=partial(_waste, table),
        page_order=0,
        drained_size=page_size,
        drained_pages=0,
        must_serve=partial(_must_serve, table),
        free_then_alloc=True,
        cost_bounds={"probed": partial(at_most, SEARCHED_LISTS), "pages_taken": partial(_pages_taken, table)},
        compacted_pages=None if direct else partial(_compacted_pages, table),
    )


def _check(
    pages: int, page_size: int, chain: int, rev: str, word: int, rule: str, handles: str, merge: int, cpus: int,
    scatter: int,
) -> None:  # fmt: skip
    """ValueError, in one line, for the first senseless parameter."""
    if rev:
        raise ValueError(f"zsmalloc has no revision {rev!r}")
    check_numbers(pages=pages, page_size=page_size, chain=chain, handle_size=word, merge=merge, cpus=cpus)
    if page_size < _SMALLEST_PAGE or not is_power_of_two(page_size):
        raise ValueError(f"page_size must be a power of two from {_SMALLEST_PAGE}, not {page_size}")
    if not 1 <= chain <= MAX_CHAIN:
        raise ValueError(f"chain must be 1 to {MAX_CHAIN} pages, not {chain}")
    if word not in (4, 8):
        raise ValueError(f"handle_size must be 4 or 8 bytes, not {word}")
    if rule not in ("", "percent", "exact"):
        raise ValueError(f"rule must be 'percent' or 'exact', not {rule!r}")
    if handles not in ("indirect", "direct"):
        raise ValueError(f"handles must be 'indirect' or 'direct', not {handles!r}")
    if merge not in (0, 1):
        raise ValueError(f"merge must be 0 or 1, not {merge}")
    if not 0 <= cpus <= _MOST_CPUS:
        raise ValueError(f"cpus must be 0 to {_MOST_CPUS}, not {cpus}")
    if scatter not in (0, 1):
        raise ValueError(f"scatter must be 0 or 1, not {scatter!r}")


@lru_cache(maxsize=64)
def _slot_sizes(table: ClassTable) -> list[int]:
    return [kind.size for kind in table.distinct]


def _kind_of(table: ClassTable, size: int) -> SizeClass:
    """The smallest class whose slots hold a request and its handle, else that of whole pages.

    By looking for it: an allocator that computes the index is not measured by its own arithmetic.
    """
    return table.distinct[min(bisect_left(_slot_sizes(table), size + table.header), len(table.distinct) - 1)]


def _must_serve(table: ClassTable, request: Request, shadow: Shadow, source: PageSource | None) -> bool:
    """Can the source give a zspage's pages, or must some zspage of the class have a free slot?

    With ``n`` slots a zspage and a number of live objects that is no multiple of ``n``,
    one zspage at least is not full, however many there are.  O(live) if pages are short.
    """
    if not 1 <= request.size <= table.page_size or request.align != 1:
        return False
    kind = _kind_of(table, request.size)
    if source is not None and source.can_give(kind.pages):
        return True
    return sum(_kind_of(table, block.size) is kind for block in shadow.live.values()) % kind.objects != 0


def _compacted_pages(table: ClassTable, shadow: Shadow) -> int | None:
    """Pages after compaction: as few zspages a class as its live objects need.  O(live).

    None where an object is mapped: it holds its zspage in place, and how many are left depends on the lists.

    It stops only when the free slots of a class are fewer than a zspage has.  Before that
    the other zspages always have room for the one to be emptied: if it has ``i`` objects,
    they have at least ``n - (n - i)`` free slots.
    """
    live: dict[int, int] = {}
    for block in shadow.live.values():
        if block.mapped:
            return None
        index = _kind_of(table, block.size).index
        live[index] = live.get(index, 0) + 1
    kinds = table.by_index
    return sum(-(-count // kinds[index].objects) * kinds[index].pages for index, count in live.items())


def told_truly(run: Maintenance, shadow: Shadow) -> str | None:
    """``zs_compact`` answers with the pages that it gave back, and takes none."""
    if run.taken:
        return f"{run.taken} pages taken"
    return f"{run.done.pages_freed} pages told, {run.given} given" if run.done.pages_freed != run.given else None


def _group_of(table: ClassTable, quarters: int, shadow: Shadow) -> Callable[[Hashable], Hashable]:
    """For a zspage: its class and one of four groups.  ``quarters``: how full an almost empty zspage may be."""
    return list_named(table, lambda inuse, objects: GROUP_NAMES[fullness_group(inuse, objects, quarters)], shadow)


def list_named(
    table: ClassTable, name: Callable[[int, int], str], shadow: Shadow
) -> Callable[[Hashable], Hashable]:
    """For a zspage, named by its pages: its class and the ``name`` of its live objects' number among so many slots.

    None for a zspage without any object, which must not exist, or with objects of two classes.
    """
    on_page: dict[int, tuple[SizeClass, int]] = {}
    for block in shadow.live.values():
        page, kind = block.extents[0][1] // table.page_size, _kind_of(table, block.size)
        known, count = on_page.get(page, (kind, 0))
        on_page[page] = (known, count + 1 if known is kind else 0)

    def group_of(key: Hashable) -> Hashable:
        pages = [on_page[page] for page in cast(tuple[int, ...], key) if page in on_page]
        kinds, counts = {kind.index for kind, _ in pages}, [count for _, count in pages]
        if len(kinds) != 1 or 0 in counts:
            return None
        kind = pages[0][0]
        return kind.index, name(sum(counts), kind.objects)

    return group_of


def _misplaced(table: ClassTable, block: Block) -> str | None:
    """Do the pieces make up a slot of the class, at one of the class's places in a page?"""
    kind, page_size = _kind_of(table, block.size), table.page_size
    start = block.extents[0][1]
    # A first word that ends its page leaves the payload to begin on the next one.
    slot = (start - kind.header) % page_size
    if slot not in kind.offsets:
        return f"no slot of {kind.size} bytes begins at byte {slot} of a page"
    at = start % page_size
    here = min(kind.payload, page_size - at)
    lengths = [here] if here == kind.payload else [here, kind.payload - here]
    if [length for _, _, length in block.extents] != lengths:
        return f"pieces of {lengths} bytes expected"
    if len(lengths) == 2 and block.extents[1][1] % page_size:
        return "the second piece does not begin a page"
    return None


def _waste(table: ClassTable, size: int, align: int) -> int:
    """Padding of a request to what its class holds, and no byte more."""
    return _kind_of(table, size).payload - size


def _pages_taken(table: ClassTable, request: Request, shadow: Shadow) -> int:
    """A request takes one zspage's pages, or none."""
    return _kind_of(table, request.size).pages


def _metadata_bound(word: int, shadow: Shadow, source: PageSource | None) -> int:
    """Two words for an object, one record for a zspage of at least one page; before 4.1 nothing.

    Then everything stood in struct page, which is there in any case.
    """
    if not word:
        return 0
    return 2 * word * len(shadow) + ZSPAGE_STRUCT * (source.held if source is not None else 0)
