"""Theorems about the per-CPU area map: even sizes, fits inside an area, room in the map, slots, areas undone.

The heap's own methods and those of its first chunk run; boundaries of areas are words.

>>> from heaplaw.impls.percpu_area_map import PercpuAreaMap
>>> from heaplaw.properties.proofs.theorems import find
>>> find("percpu-area-map/rounds-to-even").holds_for(PercpuAreaMap(), {"size": 5, "align": 1})
True
"""

from typing import Any

from heaplaw.protocol import Refusal

from .theorems import WRONG, Control, Given, Values, one_request, theorem
from .words import implies

_TARGETS = ("percpu-area-map", "percpu-area-map,unit=128,block=32", "percpu-area-map,unit=65536,block=4096,chunks=1")
_MASK = (1 << 64) - 1


def _noted(heap: Any, given: Given) -> tuple[Any, Any, Any, list[tuple[Any, Any]]]:
    """(size, alignment, answer, what was looked for) of a request that finds nothing: any two words."""
    looked: list[tuple[Any, Any]] = []
    heap._find = lambda size, align, atomic: looked.append((size, align))
    size, align = given("size", 0, _MASK), given("align", 0, _MASK)
    return size, align, heap.alloc(size, align), looked


def _alignment(heap: Any, given: Given) -> Any:
    align = given("align", 2, heap._page)
    given.assume(align & (align - 1) == 0)
    return align


# ---- stories, and which counterexamples fit into them ------------------------------------------


def _request_and_another(heap: Any, values: Values) -> str:
    return one_request(heap, values) + "\nb = alloc 4\nfree a\nfree b\ndrain"


def _within_a_unit(heap: Any, given: Given) -> Any:
    size = given("size", 0, _MASK)
    return (size & 1 == 1) & (size <= heap._unit // 2) & (given("align", 0, _MASK) == 1)


def _refused_for_its_alignment(heap: Any, values: Values) -> str:
    return f"badalloc align {values['size']} align {values['align']}"


def _of_three(heap: Any, given: Given) -> Any:
    return given("align", 0, _MASK) == 3


def _all_of_it(heap: Any, values: Values) -> str:
    """A whole unit, aligned."""
    return f"a = alloc {heap._unit} align {values['align']}"


def _atomic_at_the_border(heap: Any, values: Values) -> str:
    """The first page is populated; an atomic request reaches into the second."""
    return f"a = alloc {heap._page}\nfree a\nb = alloc {heap._page + 4} atomic"


def _no_pages_for_it(heap: Any, values: Values) -> str:
    """An area after one of four bytes less two, of which two go to that; then no page can be had."""
    return f"a = alloc 2\nfailpages 1 align 0\nb = alloc {heap._page} align 4"


# ---- sizes -----------------------------------------------------------------------------------


@theorem(
    "percpu-area-map", "Sizes and alignments are made even, and no smaller: a place has its bit 0 to spare.",
    kernels="alloc, _rounded", targets=_TARGETS, trace=_request_and_another,
    controls=(Control("percpu-area-map+P19", _within_a_unit),), law="conservation",
)  # fmt: skip
def rounds_to_even(heap: Any, given: Given) -> Any:
    size, align, _, looked = _noted(heap, given)
    given.assume(bool(looked))
    ((rounded, aligned),) = looked
    even = ((rounded | aligned) & 1 == 0) & (rounded >= size) & (rounded - size < 2)
    return even & (aligned >= align) & (aligned & (aligned - 1) == 0)


@theorem(
    "percpu-area-map", "A size up to the limit and an alignment up to a page are looked for, any others are refused.",
    kernels="alloc, _senseless", targets=_TARGETS, trace=_refused_for_its_alignment,
    controls=(Control("percpu-area-map@4.4,unit=64,block=32,chunks=1", _of_three),), law="bad-size-rejected",
)  # fmt: skip
def refuses_the_rest(heap: Any, given: Given) -> Any:
    size, align, answer, looked = _noted(heap, given)
    fits = (size >= 1) & (size <= heap._largest) & (align >= 1) & (align <= heap._page) & (align & (align - 1) == 0)
    return fits if looked else implies(fits, False) & (answer in (Refusal.INVALID, Refusal.TOO_BIG))


# ---- areas -----------------------------------------------------------------------------------


def _area(heap: Any, given: Given) -> tuple[Any, Any, Any]:
    """(start, length, bytes wanted) of a free area and a request; all are even."""
    off, length, size = (given(name, low, heap._unit) for name, low in (("off", 0), ("length", 2), ("size", 2)))
    given.assume(((off | length | size) & 1 == 0) & (off + length <= heap._unit))
    return off, length, size


@theorem(
    "percpu-area-map", "A request fits into an area at the first aligned place, if it ends inside.",
    kernels="MapChunk.fit_in_area", targets=_TARGETS, trace=_all_of_it,
    controls=(WRONG + "passes_aligned_places,unit=64,block=32,chunks=1",), law="no-spurious-refusal",
)  # fmt: skip
def fits_at_the_first_place(heap: Any, given: Given) -> Any:
    (off, length, size), align = _area(heap, given), _alignment(heap, given)
    head = heap._chunks[0].fit_in_area(off, length, size, align, False)
    if head < 0:
        place = off + align - 1 & -align
        return place + size > off + length
    return (off + head & (align - 1) == 0) & (head < align) & (head + size <= length)


@theorem(
    "percpu-area-map", "An atomic request fits at the first aligned place of an area with all its pages populated.",
    kernels="MapChunk.fit_in_area: next_zero, next_set", targets=("percpu-area-map,unit=64,block=32",),
    trace=_atomic_at_the_border, controls=(WRONG + "forgets_the_last_page,unit=64,block=32,chunks=1",),
    law="returns", bound="every area and request in units of two pages, whichever of them are populated",
)  # fmt: skip
def fits_where_populated(heap: Any, given: Given) -> Any:
    (off, length, size), align = _area(heap, given), _alignment(heap, given)
    chunk, other = heap._chunks[0], given("other", 0, heap._unit)
    populated = chunk.populated = given("populated", 0, (1 << chunk.nr_pages) - 1)

    def serves(place: Any) -> Any:
        first, end = place // heap._page, (place + size + heap._page - 1) // heap._page
        ones = (1 << end) - (1 << first)
        return (place & (align - 1) == 0) & (place >= off) & (place + size <= off + length) & (populated & ones == ones)

    head = chunk.fit_in_area(off, length, size, align, True)
    if head < 0:
        return implies(serves(other), False)
    return serves(off + head) & implies(serves(other), other >= off + head)


@theorem(
    "percpu-area-map", "An area that is undone leaves no trace: not one byte is its neighbour's.",
    kernels="MapChunk.take, join_head, split, free_area, take_back_head, _undo",
    targets=("percpu-area-map,unit=64,block=32",), trace=_no_pages_for_it,
    controls=("percpu-area-map@4.4,unit=64,block=32,chunks=1",), law="refusal-pure",
    bound="every request in a chunk of 64 bytes with one free area, which has areas in use before and behind it",
)  # fmt: skip
def undoes_without_trace(heap: Any, given: Given) -> Any:
    (off, length, size), head = _area(heap, given), given("head", 0, heap._unit)
    given.assume((off >= 2) & (off + length < heap._unit) & (head & 1 == 0) & (head + size <= length))
    chunk = heap._chunks[0]
    chunk.page = heap._unit * 2  # pages are counted beside this, and are another matter
    chunk.map = [1, off, off + length | 1, heap._unit | 1]
    chunk.free_size = chunk.contig_hint = length
    before = list(chunk.map)
    place = chunk.take(1, head, size, 0, False)
    heap._relocate = lambda chunk, slot: None
    heap._undo(chunk, place)
    if len(chunk.map) != len(before):
        return False
    same = chunk.free_size == length
    for one, other in zip(chunk.map, before, strict=True):
        same = (one == other) & same
    return same


# ---- the map, and slots ------------------------------------------------------------------------


@theorem(
    "percpu-area-map", "A map has room for what one request adds, or is to be extended so that it has, by doubling.",
    kernels="MapChunk.need_to_extend", targets=_TARGETS, trace=lambda heap, values: "a = alloc 4",
    controls=(WRONG + "maps_grow_fourfold,unit=64,block=32,chunks=1",), law="metadata-bound",
    bound="maps with up to 24 areas, of every length",
)  # fmt: skip
def has_room_in_the_map(heap: Any, given: Given) -> Any:
    used, chunk = int(given("areas", 1, 24)), heap._chunks[0]
    chunk.map, chunk.map_alloc = [0] * (used + 1), given("map_alloc", 16, 1 << 32)
    given.assume(chunk.map_alloc > used)
    atomic, asleep = chunk.need_to_extend(True), chunk.need_to_extend(False)
    added = used + 3  # two areas more, and the sentry
    room = chunk.map_alloc >= added if not atomic else atomic >= added
    spare = chunk.map_alloc >= added if not asleep else (asleep >= added) & (asleep < 2 * (used + 64))
    return spare & room


@theorem(
    "percpu-area-map", "A chunk with room for a request stands on the slot where its search begins, or above it.",
    kernels="_slot_of, _slot_of_size: size_to_slot", targets=_TARGETS, trace=lambda heap, values: "a = alloc 4",
    controls=(WRONG + "slots_a_byte_low,unit=64,block=32,chunks=1",), law="size-class",
    bound="every request; but chunks with holes of two bytes only, which are never searched",
)  # fmt: skip
def stands_high_enough(heap: Any, given: Given) -> Any:
    size, longest = given("size", 2, heap._largest), given("longest", 4, heap._unit)
    free, chunk = given("free", 4, heap._unit), heap._chunks[0]
    given.assume((longest >= size) & (free >= longest))
    chunk.free_size, chunk.contig_hint = free, longest
    slot = heap._slot_of(chunk)
    return (slot >= heap._slot_of_size(size)) & (slot >= 1) & (slot <= heap.free_slot)
