"""Theorems about zsmalloc: classes and chains, where an object lies, and what its first word says.

Requests are words; the tables that they lead into are those of the target, entry by entry.  Memory and the
handles' cells are replaced by cells (see ``cells``), so that pages may have any number.

>>> from heaplaw.properties.proofs.theorems import find
>>> find("zsmalloc/found-again").sentence
'An object is found where it was put, and its place fits a word whose tag bit is clear.'
"""

from collections.abc import Callable
from copy import copy
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

from heaplaw.impls.zsmalloc_classes import (
    ALMOST_EMPTY,
    ALMOST_FULL,
    EMPTY,
    FULL,
    MAX_CHAIN,
    MIN_SIZE,
    PHYSICAL_BITS,
    class_size,
)
from heaplaw.protocol import Refusal

from .cells import Cells
from .theorems import WRONG, Control, Given, Values, one_request, theorem
from .words import all_of, implies

_TARGETS = (
    "zsmalloc", "zsmalloc,handle_size=4", "zsmalloc,chain=8", "zsmalloc,page_size=16384",
    "zsmalloc,handles=direct,merge=0", "zsmalloc,handles=direct,merge=0,handle_size=4",
)  # fmt: skip
_INDIRECT = ("zsmalloc", "zsmalloc,handle_size=4", "zsmalloc,chain=16")
_DIRECT = ("zsmalloc,handles=direct", "zsmalloc,handles=direct,handle_size=4")
_SIZES = "every size; the tables of 4096 and 16384 byte pages"
_PERCENT = ("zsmalloc", "zsmalloc,page_size=16384", "zsmalloc,chain=8,rule=percent", "zsmalloc,handles=direct,merge=0")
_EXACT = ("zsmalloc,chain=8", "zsmalloc,chain=16", "zsmalloc,chain=4,rule=exact", "zsmalloc,chain=8,page_size=16384")


# ---- requests --------------------------------------------------------------------------------


def _size(heap: Any, given: Given) -> Any:
    return given("size", 0, (1 << 8 * heap._word) - 1)


def _asked(heap: Any, size: Any) -> Any:
    """Index, before merging, that the heap looks a request up at; or its refusal."""
    heap._classes = _Noting()
    heap._find = lambda owner: owner
    heap._place = lambda owner: owner.index
    heap._fix_fullness_group = lambda owner, zspage: None
    table, heap._table = heap._table, copy(heap._table)
    heap._table.by_index = _Entries(table.by_index)
    try:
        return heap.alloc(size)
    finally:
        heap._table = table


class _Noting:
    """Stands for a pool's records of its classes: each has the index that it was asked for by."""

    def __getitem__(self, index: Any) -> Any:
        return SimpleNamespace(index=index, used=0)


class _Entries(list[Any]):
    """Classes by index, of which one whose index is a word says whether it is huge without being asked which."""

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, int):
            return super().__getitem__(index)
        return SimpleNamespace(huge=~all_of(index != i for i, kind in enumerate(self) if kind.huge))


def _served(heap: Any, given: Given) -> tuple[Any, Any]:
    """(size, index) of a request that is served."""
    size = _size(heap, given)
    index = _asked(heap, size)
    given.assume(not isinstance(index, Refusal))
    return size, index


def _for_each(heap: Any, index: Any, claim: Callable[[int, Any], Any]) -> Any:
    """Does ``claim(i, class)`` hold for the ``i`` that the index is, and is it one of the table's?"""
    table = heap._table.by_index
    so = (index >= 0) & (index < len(table))
    for i, kind in enumerate(table):
        so = so & implies(index == i, claim(i, kind))
    return so


@theorem(
    "zsmalloc", "A request is served by a slot that holds it beside its handle, or refused since it exceeds a page.",
    kernels="alloc: class_index", targets=_TARGETS, trace=one_request,
    controls=("zsmalloc+ZS01", WRONG + "zsmalloc_forgets_the_handle"), law="big-enough", bound=_SIZES,
)  # fmt: skip
def serves_enough(heap: Any, given: Given) -> Any:
    size = _size(heap, given)
    index = _asked(heap, size)
    if isinstance(index, Refusal):
        return (size == 0) | (size > heap._page_size)
    return (size > 0) & _for_each(heap, index, lambda i, kind: size <= kind.payload)


@theorem(
    "zsmalloc", "The class of a request is the smallest that holds it.",
    kernels="alloc: class_index", targets=_TARGETS, trace=one_request,
    controls=(WRONG + "zsmalloc_counts_the_handle_twice",), law="waste-bound", bound=_SIZES,
)  # fmt: skip
def smallest_class(heap: Any, given: Given) -> Any:
    size, index = _served(heap, given)
    table = heap._table.by_index
    smaller = {kind.index: before.payload for before, kind in pairwise(heap._table.distinct)}
    return _for_each(heap, index, lambda i, kind: kind is table[0] or size > smaller[kind.index])


@theorem(
    "zsmalloc", "A larger request never has a smaller class, and no request one outside the table.",
    kernels="alloc: class_index", targets=_TARGETS, trace=one_request,
    controls=(WRONG + "zsmalloc_leaves_the_table",), law="returns", bound=_SIZES,
)  # fmt: skip
def larger_is_no_smaller(heap: Any, given: Given) -> Any:
    size, index = _served(heap, given)
    less = given("less", 1, heap._page_size)
    given.assume(less <= size)
    return (_asked(heap, less) <= index) & (index < len(heap._table.by_index))


# ---- chains and merging ----------------------------------------------------------------------


def _chains(heap: Any, given: Given, chosen: Callable[[int, int, int], bool]) -> Any:
    """``chosen(size of a class before merging, its pages, others)``, for any request and any other chain."""
    _, index = _served(heap, given)
    others = range(1, max(kind.pages for kind in heap._table.distinct) + 1)  # some class has the longest chain
    pages = given("pages", 1, others[-1])

    def of_class(i: int, kind: Any) -> Any:
        size = class_size(i, heap._page_size, heap._table.step)
        return all_of(pages != other for other in others if not chosen(size, kind.pages, other))

    return _for_each(heap, index, of_class)


def _merged_otherwise(heap: Any, given: Given) -> Any:
    """Another chain leads to a slot of another size: the promises do not count the bytes at a zspage's end."""
    _, index = _served(heap, given)
    promised = heap.contract.waste

    def differs(i: int, kind: Any) -> bool:
        size = class_size(i, heap._page_size, heap._table.step) - heap._header
        return bool(promised(size, 1) != kind.payload - size)

    return _for_each(heap, index, differs)


@theorem(
    "zsmalloc", "No chain wastes fewer bytes than the one chosen, and no shorter one as few (from 6.3).",
    kernels="chain_by_waste", targets=_EXACT, trace=one_request,
    controls=(Control("zsmalloc+ZS14", _merged_otherwise),), law="geometry",
    bound="every request and chain; the tables of 4096 and 16384 byte pages",
)  # fmt: skip
def least_waste(heap: Any, given: Given) -> Any:
    def chosen(size: int, pages: int, other: int) -> bool:
        waste, others = (n * heap._page_size % size for n in (pages, other))
        return waste < others or (waste == others and pages <= other)

    return _chains(heap, given, chosen)


@theorem(
    "zsmalloc", "No chain is used to a higher whole percentage than the one chosen, and no shorter one as highly.",
    kernels="chain_by_percent, used_percent", targets=_PERCENT, trace=one_request,
    controls=(WRONG + "zsmalloc_lets_the_longer_win",), law="search-bounded",
    bound="every request and chain; the tables of 4096 and 16384 byte pages",
)  # fmt: skip
def most_percent(heap: Any, given: Given) -> Any:
    def chosen(size: int, pages: int, other: int) -> bool:
        used, others = (100 * (n * heap._page_size // size * size) // (n * heap._page_size) for n in (pages, other))
        return used > others or (used == others and pages <= other)

    return _chains(heap, given, chosen)


@theorem(
    "zsmalloc", "Where a chain wastes nothing both rules choose the shortest such chain.",
    kernels="chain_by_percent, chain_by_waste", targets=(*_PERCENT, *_EXACT), trace=one_request,
    controls=(WRONG + "zsmalloc_lets_the_longer_win",), law="search-bounded",
    bound="every request and chain; the tables of 4096 and 16384 byte pages",
)  # fmt: skip
def rules_agree(heap: Any, given: Given) -> Any:
    def chosen(size: int, pages: int, other: int) -> bool:
        return other * heap._page_size % size != 0 or (pages <= other and pages * heap._page_size % size == 0)

    return _chains(heap, given, chosen)


@theorem(
    "zsmalloc", "A class that was merged into a larger one has as many objects on as many pages there as alone.",
    kernels="ClassTable", targets=_TARGETS, trace=one_request,
    controls=("zsmalloc+ZS09", Control("zsmalloc+ZS09B,pages=16,page_size=16384")), law="waste-bound", bound=_SIZES,
)  # fmt: skip
def merged_alike(heap: Any, given: Given) -> Any:
    _, index = _served(heap, given)
    table = heap._table

    def alike(i: int, kind: Any) -> bool:
        return bool(kind.pages * heap._page_size // class_size(i, heap._page_size, table.step) == kind.objects)

    return _for_each(heap, index, alike)


# ---- places ----------------------------------------------------------------------------------


class _Every:
    """A table with the same entry everywhere."""

    def __init__(self, entry: Any) -> None:
        self._entry = entry

    def __getitem__(self, at: Any) -> Any:
        return self._entry


def _zspage(page: Any, freeobj: Any) -> Any:
    """A zspage all of whose slots begin with the first word of a page."""
    kind = SimpleNamespace(huge=False, page_of=_Every(0), word_of=_Every(0))
    return SimpleNamespace(kind=kind, pages=(page,), freeobj=freeobj, inuse=1)


def _page(heap: Any, given: Given) -> Any:
    return given("page", 0, (1 << PHYSICAL_BITS[heap._word] - heap._shift) - 1)


def _objects_before(heap: Any, values: Values) -> str:
    """So many of the smallest objects that one has this index."""
    return "\n".join(f"{name} = alloc 1" for name in "abcdefghi"[: values["index"] + 1])


def _near(heap: Any, given: Given) -> Any:
    """On the first page, and no more than eight objects away from its start."""
    return (given("index", 0, MAX_CHAIN * heap._page_size // MIN_SIZE - 1) < 8) & (_page(heap, given) == 0)


@theorem(
    "zsmalloc", "An object is found where it was put, and its place fits a word whose tag bit is clear.",
    kernels="_obj_malloc, _find_object: encode_location, decode_location, index_bits", targets=_INDIRECT,
    trace=_objects_before, controls=(Control(WRONG + "zsmalloc_leaves_no_tag_bit", _near),), law="disjoint",
    bound="every physical page; every index in the longest chain of the smallest objects",
)  # fmt: skip
def found_again(heap: Any, given: Given) -> Any:
    page, index = _page(heap, given), given("index", 0, MAX_CHAIN * heap._page_size // MIN_SIZE - 1)
    heap._words = Cells(1 << 62)
    heap._cells = [-1, heap._obj_malloc(_zspage(page, index), 8)]
    heap._zspage_at = lambda at: None
    _, found, slot = heap._find_object(8)
    place = heap._cells[1]
    return (found == page) & (slot == index) & (place >= 0) & (place <= heap._link_mask) & (place & 1 == 0)


@theorem(
    "zsmalloc", "A handle that is a place leads back to it, fits a word, and is never 0 (before 4.1).",
    kernels="location_to_handle, handle_to_location, direct_index_bits", targets=_DIRECT,
    trace=lambda heap, values: "a = alloc 1\nfree a", controls=("zsmalloc+ZS12,handles=direct",), law="counters",
    bound="every physical page; every index on a page of the smallest objects",
)  # fmt: skip
def place_is_handle(heap: Any, given: Given) -> Any:
    page, index = _page(heap, given), given("index", 0, heap._page_size // MIN_SIZE - 1)
    handle = heap._encode(page, index, heap._index_bits)
    found, slot = heap._decode(handle, heap._index_bits)
    return (handle > 0) & (handle <= heap._link_mask) & (found == page) & (slot == index)


def _free_and_compact(heap: Any, values: Values) -> str:
    return "\n".join([*(f"{name} = alloc 2000" for name in "abc"), "free a", "maintain compact"])


@theorem(
    "zsmalloc", "A slot's first word tells a free one, by its link to the next, from a live one, by its handle.",
    kernels="_obj_free, _obj_malloc", targets=_INDIRECT, trace=_free_and_compact, controls=("zsmalloc+ZS17",),
    law="returns", bound="every physical page, every link, every handle that fits a word",
)  # fmt: skip
def tag_tells(heap: Any, given: Given) -> Any:
    page, following = _page(heap, given), given("following", 0, heap._end)
    handle = 8 * given("cell", 1, heap._link_mask >> 3)
    heap._words = Cells(1 << 62)
    zspage, first = _zspage(page, following), page * heap._page_words
    heap._obj_free(zspage, page, 0)
    link = heap._words[first]
    heap._obj_malloc(zspage, handle)
    tagged = heap._words[first]
    return (
        (link & 1 == 0) & (link >= 0) & (link <= heap._link_mask) & (zspage.freeobj == following)
        & (tagged & 1 == 1) & (tagged - 1 == handle) & (tagged <= heap._link_mask)
    )  # fmt: skip


def _two_that_straddle(heap: Any, values: Values) -> str:
    return "a = alloc 3000\nb = alloc 3000"


@theorem(
    "zsmalloc", "A byte of a zspage lies in one place, inside one of its pages, whichever stretch it is part of.",
    kernels="_pieces", targets=("zsmalloc", "zsmalloc,page_size=16384"), trace=_two_that_straddle,
    controls=(Control(WRONG + "zsmalloc_runs_on,pages=16,scatter=1"),), law="in-bounds",
    bound="every stretch of up to a page in a chain of 4 pages, wherever these are",
)  # fmt: skip
def one_place(heap: Any, given: Given) -> Any:
    size, most = heap._page_size, (1 << PHYSICAL_BITS[8] - heap._shift) - 1
    pages = tuple(given(f"page{number}", 0, most) for number in range(4))
    zspage = SimpleNamespace(kind=SimpleNamespace(size=0), pages=pages)
    start, length, byte = given("start", 0, 4 * size - 1), given("length", 1, size), given("byte", 0, size - 1)
    given.assume(start + length <= 4 * size)
    given.assume(byte < length)
    pieces = heap._pieces(zspage, 0, start, length)
    ((alone, one),) = heap._pieces(zspage, 0, start + byte, 1)
    (first, room), (second, rest) = (*pieces, (0, 0))[:2]
    there = implies(byte < room, alone == first + byte) & implies(byte >= room, alone == second + byte - room)
    inside = ((first & size - 1) + room <= size) & ((second & size - 1) + rest <= size)
    own = all_of(~((start + byte >> heap._shift == number) & (alone >> heap._shift != page))
                 for number, page in enumerate(pages))  # fmt: skip
    return there & inside & own & (room + rest == length) & (one == 1)


# ---- lists by fullness -----------------------------------------------------------------------


def _so_many_small(heap: Any, values: Values) -> str:
    return "\n".join(f"{name} = alloc 1" for name in "abcdefghi"[: values["inuse"]])


def _of_the_smallest(heap: Any, given: Given) -> Any:
    """A page of the smallest objects with few of them."""
    return (given("objects", 1, 1 << 12) == heap._page_size // MIN_SIZE) & (given("inuse", 0, 1 << 12) < 8)


@theorem(
    "zsmalloc", "A zspage counts as empty only without objects, as full only without room, else by whole quarters.",
    kernels="_fix_fullness_group: fullness_group", targets=("zsmalloc", "zsmalloc,handles=direct"),
    trace=_so_many_small, controls=(Control("zsmalloc+ZS08", _of_the_smallest),), law="size-class",
    bound="up to 4096 objects a zspage",
)  # fmt: skip
def counted_exactly(heap: Any, given: Given) -> Any:
    objects, inuse = given("objects", 1, 1 << 12), given("inuse", 0, 1 << 12)
    given.assume(inuse <= objects)
    zspage = SimpleNamespace(inuse=inuse, kind=SimpleNamespace(objects=objects), group=-1)
    owner = SimpleNamespace(remove=lambda zspage: None, insert=lambda zspage, group: None)
    group = heap._fix_fullness_group(owner, zspage)
    between, sparse = (inuse > 0) & (inuse < objects), 4 * inuse <= heap._quarters * objects
    return {
        EMPTY: inuse == 0, FULL: inuse == objects, ALMOST_EMPTY: between & sparse, ALMOST_FULL: between & ~sparse,
    }[group]  # fmt: skip
