"""Theorems about the network tree allocator: granules, bitmaps, runs of free bits, lists, merging.

The heap's own methods run.  A region's bitmap is a word; what comes behind the arithmetic is replaced by a note
of what was asked of it.

>>> from heaplaw.impls.nta import Nta
>>> from heaplaw.properties.proofs.theorems import find
>>> find("nta/counts-runs-up").holds_for(Nta(pages=2, page_size=1024, order=1, cpus=1), {"mask": 6, "pos": 1})
True
"""

from collections.abc import Callable
from typing import Any

from heaplaw.impls.nta import Node
from heaplaw.impls.nta_bits import count_set_down, count_set_up
from heaplaw.protocol import Refusal

from .cells import Cells
from .theorems import WRONG, Control, Given, Values, one_request, theorem
from .words import implies

_SMALL = "pages=4,cpus=1,order=1,regions=1"  # a region of 64 granules, two words of 32 bits or one of 64
_BITS = (f"nta,{_SMALL},page_size=1024", "nta@2006-08-16,pages=4,cpus=1,order=0,regions=1,page_size=1024,word=32")
_TARGETS = tuple(
    f"nta,{shape},word={word}" for word in (32, 64) for shape in ("pages=16", "pages=64,granule=64,page_size=8192")
)
_WIDE = ("nta,pages=4,cpus=1,order=1,regions=1,page_size=1024", "nta,pages=2,cpus=1,order=0,regions=1,page_size=512")
_POSTED = ("2006-08-14", "2006-08-16")
_INT = (1 << 32) - 1
_MEMORY = 1 << 40  # words of memory that cells stand for


def _bits(heap: Any) -> int:
    """Granules of a region."""
    return int(heap._shape.region >> heap._granule_shift)


def _bitmap(heap: Any, given: Given) -> tuple[Any, Any]:
    """(bitmap, place of a free granule in it)."""
    mask, pos = given("mask", 0, (1 << _bits(heap)) - 1), given("pos", 0, _bits(heap) - 1)
    given.assume(mask >> pos & 1 != 0)
    return mask, pos


# ---- stories, and which counterexamples fit into them ------------------------------------------


def _laid_out(heap: Any, runs: list[tuple[str, int]]) -> list[str]:
    """A region's granules handed out from its start, run by run."""
    return [f"{name} = alloc {granules * heap._granule}" for name, granules in runs if granules]


def _freed_before_a_run(heap: Any, values: Values) -> str:
    """[ live | freed last | freed first: the run from ``pos`` on | live ]"""
    pos, run = values["pos"], 1
    while values["mask"] >> (pos + run) & 1:
        run += 1
    lines = _laid_out(heap, [("a", pos - 1), ("b", 1), ("c", run), ("d", _bits(heap) - pos - run)])
    return "\n".join([*lines, "free c", "free b"])


def _freed_behind_a_run(heap: Any, values: Values) -> str:
    """[ live | freed first: the run down from ``pos`` | freed last | live ]"""
    pos, run = values["pos"], 1
    while values["mask"] >> (pos - run) & 1:
        run += 1
    start = pos - run + 1
    lines = _laid_out(heap, [("a", start), ("b", run), ("c", 1), ("d", _bits(heap) - pos - 2)])
    return "\n".join([*lines, "free b", "free c"])


def _has_one_before(heap: Any, given: Given) -> Any:
    return _bitmap(heap, given)[1] >= 1


def _upper_half(heap: Any, given: Given) -> Any:
    """The run lies above an int, has a granule behind it, and nothing is free below."""
    mask, pos = _bitmap(heap, given)
    return (mask & _INT == 0) & (pos < _bits(heap) - 1)


def _taken(heap: Any, values: Values) -> str:
    return f"a = alloc {values['num'] * heap._granule}\nb = alloc 1"


def _past_the_first(heap: Any, values: Values) -> str:
    """The CPU's one region is taken, and the next request makes it grow."""
    return f"a = alloc {heap._shape.region}\nb = alloc 1"


def _one_page(heap: Any, given: Given) -> Any:
    return given("order", 0, 3) == 0


def _between(heap: Any, values: Values) -> str:
    """A chunk between others, all of them freed; then all is asked for."""
    lines = _laid_out(heap, [("a", values["before"] or 1), ("b", values["num"]), ("c", values["after"] or 1)])
    frees = [*(["free a"] if values["before"] else []), *(["free c"] if values["after"] else [])]
    return "\n".join([*lines, *frees, "free b", "d = alloc 1", "drain"])


def _fits_a_region(heap: Any, given: Given) -> Any:
    before, num, after = (given(name, low, 1 << 20) for name, low in (("before", 0), ("num", 1), ("after", 0)))
    return (before < 8) & (num < 8) & (after < 8)


# ---- sizes -----------------------------------------------------------------------------------


def _noted(heap: Any, given: Given) -> tuple[Any, Any, list[Any]]:
    """(size, answer, granules that were looked for) of a request that finds nothing."""
    looked: list[Any] = []
    size = given("size", 0, (1 << heap._shape.word) - 1)
    heap._take_first = lambda cpu, num: looked.append(num)
    heap._node_entry_alloc = lambda cpu, order, most: False
    return size, heap.alloc(size), looked


@theorem(
    "nta", "A request is looked for in as few granules as hold it.", kernels="alloc", targets=_TARGETS,
    trace=one_request, controls=(WRONG + "granules_rounded_down,pages=16",), law="big-enough",
)  # fmt: skip
def granules_hold_the_request(heap: Any, given: Given) -> Any:
    size, _, looked = _noted(heap, given)
    given.assume(bool(looked))
    held = looked[0] << heap._granule_shift
    return (held >= size) & (held - size < heap._granule)


@theorem(
    "nta", "Every size up to that of a region is looked for, and no other.", kernels="alloc", targets=_TARGETS,
    trace=one_request, controls=("nta@2006-08-14,pages=16,order=2",), law="limits-honest",
)  # fmt: skip
def limits_are_honest(heap: Any, given: Given) -> Any:
    size, answer, looked = _noted(heap, given)
    fits = (size >= 1) & (size <= heap._shape.region)
    return fits if looked else implies(fits, False) & (answer in (Refusal.INVALID, Refusal.TOO_BIG))


@theorem(
    "nta", "A chunk is filed inside its CPU's lists, on the one where a search for so many granules begins.",
    kernels="_container_add, _take_first", targets=_TARGETS, trace=lambda heap, values: "a = alloc 1",
    controls=("nta+B41,pages=16",), law="size-class",
)  # fmt: skip
def files_where_it_looks(heap: Any, given: Given) -> Any:
    granules, cpu = given("granules", 1, _bits(heap)), given("cpu", 0, heap._shape.cpus - 1)
    filled = heap._filled = _Filled(len(heap._head_next))
    heap._words, heap._head_next, heap._head_prev = Cells(_MEMORY), Cells(_MEMORY), Cells(_MEMORY, heap._top)
    heap._container_add(0, granules, cpu)
    heap._take_first(cpu, granules)
    first = cpu * heap._lists
    return (filled.filed == filled.sought) & (filled.filed >= first) & (filled.filed < first + heap._lists)


class _Filled(Cells):
    """Which lists have chunks: notes the one written last and the one where a search begins, which finds nothing."""

    __slots__ = ("filed", "sought")

    def __setitem__(self, at: Any, value: Any) -> None:
        super().__setitem__(at, value)
        self.filed = at

    def find(self, value: int, start: Any, end: Any) -> int:
        """As of a bytearray."""
        self.sought = start
        return -1


# ---- bitmaps ---------------------------------------------------------------------------------


@theorem(
    "nta", "As many granules are counted from a free one up as are free in a row.",
    kernels="_count_up: run_up, count_set_up", targets=_BITS, trace=_freed_before_a_run,
    controls=tuple(
        Control(f"nta@{rev},{_SMALL},page_size=1024".replace(",order", ",growth=0,order"), _has_one_before)
        for rev in _POSTED
    ), law="size-class", bound="every bitmap of 64 granules; of 32 for the posted loops with words of 32 bits",
)  # fmt: skip
def counts_runs_up(heap: Any, given: Given) -> Any:
    mask, pos = _bitmap(heap, given)
    run = heap._count_up(mask, pos)
    above = mask >> pos
    ones = (1 << run) - 1
    return (run >= 1) & (above & ones == ones) & (above >> run & 1 == 0)


@theorem(
    "nta", "As many granules are counted from a free one down as are free in a row.",
    kernels="_count_down: run_down, count_set_down", targets=_BITS, trace=_freed_behind_a_run,
    controls=tuple(
        Control(f"nta@{rev},{_SMALL},page_size=1024".replace(",order", ",growth=0,order"), _upper_half)
        for rev in _POSTED
    ), law="returns", bound="every bitmap of 64 granules; of 32 for the posted loops with words of 32 bits",
)  # fmt: skip
def counts_runs_down(heap: Any, given: Given) -> Any:
    mask, pos = _bitmap(heap, given)
    run = heap._count_down(mask, pos)
    start = pos - run + 1
    ones = (1 << run) - 1
    below = (start >= 1) & ((mask << 1 >> start) & 1 == 1)
    return (run >= 1) & (start >= 0) & (mask >> start & ones == ones) & implies(below, False)


_AGREES = "The posted loops over words of 32 bits count the same, from one word {} into the next."


@theorem(
    "nta", _AGREES.format("up"), kernels="_count_up: run_up, count_set_up", targets=_WIDE, trace=_freed_before_a_run,
    controls=(Control(f"nta@2006-08-16,growth=0,{_SMALL},page_size=1024", _has_one_before),),
    law="size-class", bound="every bitmap of 64 and of 16 granules",
)  # fmt: skip
def agrees_up_with_words_of_32_bits(heap: Any, given: Given) -> Any:
    mask, pos = _bitmap(heap, given)
    return heap._count_up(mask, pos) == count_set_up(mask, -(-_bits(heap) // 32), pos, 32)


@theorem(
    "nta", _AGREES.format("down"), kernels="_count_down: run_down, count_set_down", targets=_WIDE,
    trace=_freed_behind_a_run, controls=(Control(f"nta@2006-08-16,growth=0,{_SMALL},page_size=1024", _upper_half),),
    law="returns", bound="every bitmap of 64 and of 16 granules",
)  # fmt: skip
def agrees_down_with_words_of_32_bits(heap: Any, given: Given) -> Any:
    mask, pos = _bitmap(heap, given)
    return heap._count_down(mask, pos) == count_set_down(mask, pos, 32)


@theorem(
    "nta", "Taking granules clears their bits and no others, and what is left of the chunk is a chunk.",
    kernels="_update_node: fill_bits", targets=_WIDE, trace=_taken,
    controls=(WRONG + f"clears_one_more,{_SMALL},page_size=1024",), law="bitmap",
    bound="every chunk of regions of 64 and of 16 granules",
)  # fmt: skip
def takes_its_granules(heap: Any, given: Given) -> Any:
    bits = _bits(heap)
    mask, offset = given("mask", 0, (1 << bits) - 1), given("offset", 0, bits - 1)
    chunk, num = given("chunk", 1, bits), given("num", 1, bits)
    given.assume((offset + chunk <= bits) & (num <= chunk))
    node, listed = Node(0, 0, bits), []
    node.mask = mask
    heap._node_at = lambda address: node
    heap._container_add = lambda at, granules, cpu: listed.append((at, granules))
    heap._update_node(offset << heap._granule_shift, chunk - 1, num, 0)
    taken = ((1 << num) - 1) << offset
    cleared = (node.mask & taken == 0) & (node.mask | taken == mask | taken)
    if not listed:
        return cleared & (num == chunk)
    ((at, left),) = listed
    return cleared & (left == chunk - num) & (left >= 1) & (at == (offset + num) << heap._granule_shift)


# ---- merging ---------------------------------------------------------------------------------


def _noting(notes: list[Any]) -> Callable[..., None]:
    return lambda *arguments: notes.append(arguments)


@theorem(
    "nta", "A freed chunk is listed with its free neighbours as one, and these leave their lists.",
    kernels="_combine", targets=_TARGETS, trace=_between, controls=(Control("nta+NT04,pages=16", _fits_a_region),),
    law="free-list", bound="up to 2**20 granules on each side",
)  # fmt: skip
def merges_with_neighbours(heap: Any, given: Given) -> Any:
    before, num, after = (given(name, low, 1 << 20) for name, low in (("before", 0), ("num", 1), ("after", 0)))
    shift, at = heap._granule_shift, 1 << 28  # as far up as a neighbour may reach down
    unlisted: list[Any] = []
    listed: list[Any] = []
    heap._list_del, heap._container_add = _noting(unlisted), _noting(listed)
    heap._combine(at, num, after, before, 0)
    neighbours = [(at - (before << shift),)] if before else []
    neighbours += [(at + (num << shift),)] if after else []
    if len(unlisted) != len(neighbours) or len(listed) != 1:
        return False
    ((start, granules, _),) = listed
    same = (start == at - (before << shift)) & (granules == before + num + after)
    for (one,), (other,) in zip(unlisted, neighbours, strict=True):
        same = same & (one == other)
    return same


@theorem(
    "nta", "A region that is taken is listed with just as many granules as it has.",
    kernels="_node_entry_alloc, _node_commit", targets=_TARGETS, trace=_past_the_first,
    controls=(Control("nta+NT02,pages=12,cpus=3,order=1,regions=1,word=32", _one_page),), law="counters",
    bound="regions of 1 to 8 pages, one by one",
)  # fmt: skip
def lists_a_region_whole(heap: Any, given: Given) -> Any:
    order = int(given("order", 0, 3))
    listed: list[Any] = []
    heap._container_add = _noting(listed)
    heap.source.take = lambda order: 0
    heap._node_entry_alloc(0, order, 1)
    (((_, granules, _),), mask) = listed, heap._nodes[-1].mask
    return granules << heap._granule_shift == heap.source.page_size << order and mask == (1 << granules) - 1
