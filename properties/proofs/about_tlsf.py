"""Theorems about TLSF: sizes of requests, the lists that blocks are filed on, and where a search begins.

The heap's own methods run: list heads and bitmaps are replaced by cells (see ``cells``), so that a block of
any size can be filed and looked for without an arena of that size.

>>> from heaplaw.properties.proofs.theorems import find
>>> find("tlsf/finds-no-smaller").sentence
'On the list where a search begins, and on later ones, no block is smaller than the request.'
"""

from collections.abc import Callable
from typing import Any

from heaplaw.impls.bits import align_up, lowest_bit
from heaplaw.impls.tlsf_mapping import from_level

from .cells import Blank, Cells
from .segregated import filed, searched
from .theorems import WRONG, Control, Given, Values, one_request, theorem
from .words import implies

_TARGETS = tuple(f"tlsf,word={word},sl={sl}" for word in (32, 64) for sl in (5, 2, 3, 4))
_LIMITED = ("tlsf,arena=2040,word=32,top=11", "tlsf,arena=4088,top=12")  # blocks stay below what the arena needs
_TINY = ("tlsf,word=32,arena=248,sl=2,top=8", "tlsf,arena=248,sl=2,top=8")


def _payload(heap: Any, given: Given) -> tuple[Any, Any]:
    """(size asked for, payload that is looked for), of a request that is in range."""
    size = given("size", 1, heap._mask)
    payload = heap._adjust(size)
    given.assume(payload != 0)
    return size, payload


def _block(heap: Any, given: Given) -> Any:
    """Payload of a free block: a multiple of the alignment."""
    g = heap._g
    block = given("block", g.least, g.most - 1)
    given.assume(block & (g.word - 1) == 0)
    return block


def _wanted(heap: Any, given: Given) -> Any:
    """What a search is for: any multiple of the alignment, more than payloads can be."""
    wanted = given("size", heap._g.least, heap._g.most - 1)
    given.assume(wanted & (heap._g.word - 1) == 0)
    return wanted


def _all_but_one_block(heap: Any, values: Values) -> str:
    """All memory but for one block of ``block`` bytes is taken, then the request."""
    block = values.get("block", values["size"])
    rest = heap.contract.largest - align_up(block, 2 << heap._shift - heap._sl) - heap._word
    return f"a = alloc {block}\nb = alloc {rest}\nc = alloc 1\nfree a\nd = alloc {values['size']}"


def _exactly(heap: Any, values: Values) -> str:
    """All memory but for one block of ``size`` bytes is taken, then the request."""
    return _all_but_one_block(heap, {"size": values["size"]})


def _small_and_large(heap: Any, values: Values) -> str:
    """A free block at the start of the row that the search begins in, and a large one at the arena's end."""
    small = max(heap._g.least, 1 << heap._g.round_up(values["size"]).bit_length() - 1)
    return f"a = alloc {small}\nb = alloc 1\nfree a\nc = alloc {values['size']}"


def _aligned_request(heap: Any, values: Values) -> str:
    """The block begins where it must; it is as large as was looked for, and what follows is in use."""
    align, before = 1 << values["log2 of align"], values["block"] * heap._word - 2 * heap._word
    wanted = heap._g.with_gap(heap._adjust(values["size"]), align)
    first = f"a = alloc {before}\n" if before > 0 else ""
    rest = heap.contract.largest - align_up(before + wanted, 2 << heap._shift - heap._sl) - 8 * heap._word
    return f"{first}b = alloc {wanted}\nc = alloc {rest}\nfree b\nd = alloc {values['size']} align {align}"


def _aligned_fits(heap: Any, given: Given) -> Any:
    """The request fits, and stands near the arena's start."""
    block = given("block", 1, heap._g.most >> heap._bits)
    return _fits(heap, given) & (block < 64) & (block >= 5)


def _twice(heap: Any, values: Values) -> str:
    """Two requests of ``size`` bytes; the first one is freed."""
    return f"a = alloc {values['size']}\nb = alloc {values['size']}\nfree a"


def _fits(heap: Any, given: Given) -> Any:
    """The request fits into the heap."""
    return given("size", 1, heap._mask) < heap._arena // 4


def _behind_the_first(heap: Any, given: Given) -> Any:
    """... and the search begins behind the first list of the second row."""
    wanted, first = _wanted(heap, given), heap._g.small
    return (wanted > first) & (wanted <= 2 * first - heap._g.word)


def _fits_in_lists(heap: Any, given: Given) -> Any:
    """... and lists are more than an alignment apart where it stands."""
    return _fits(heap, given) & (given("size", 1, heap._mask) > heap._g.small)


def _both_fit(heap: Any, given: Given) -> Any:
    """Block and request fit into the heap."""
    return (_wanted(heap, given) < heap._arena // 4) & (_block(heap, given) < heap._arena // 4)


# ---- sizes of requests -----------------------------------------------------------------------


@theorem(
    "tlsf", "A payload is no smaller than what was asked for, and a multiple of the alignment.",
    kernels="Geometry.request", targets=_TARGETS, trace=one_request,
    controls=("tlsf+T04", Control("tlsf+T15", _fits), "tlsf+T20", "tlsf+G27"), law="big-enough",
)  # fmt: skip
def serves_enough(heap: Any, given: Given) -> Any:
    size, payload = _payload(heap, given)
    return (payload >= size) & (payload & (heap._g.word - 1) == 0)


@theorem(
    "tlsf", "A size up to the last list's start is served, a larger one is refused, and none wraps around.",
    kernels="Geometry.request", targets=_TARGETS + _LIMITED, trace=one_request,
    controls=("tlsf+T04", "tlsf+T20", "tlsf@conte-3.1"), law="bad-size-rejected",
)  # fmt: skip
def refuses_what_would_wrap(heap: Any, given: Given) -> Any:
    g = heap._g
    size = given("size", 1, g.mask)
    payload = heap._adjust(size)
    last = (g.most - 1) & -(1 << g.most.bit_length() - 2 - g.sl)  # where the last list begins
    return implies(size <= last, payload != 0) & implies(size > last, payload == 0)


@theorem(
    "tlsf", "A payload holds the links that a free block keeps in it.",
    kernels="Geometry.request", targets=_TARGETS, trace=_twice, law="tiling",
    controls=(Control("tlsf+T69", lambda heap, given: given("size", 1, heap._mask) <= heap._word),),
)  # fmt: skip
def room_for_the_links(heap: Any, given: Given) -> Any:
    return _payload(heap, given)[1] >= heap._g.least


@theorem(
    "tlsf", "What was freed can be had again: a payload begins its list.",
    kernels="Geometry.request, round_up", targets=_TARGETS, trace=_all_but_one_block,
    controls=(Control("tlsf+T09", _fits),), law="free-then-alloc",
)  # fmt: skip
def begins_its_list(heap: Any, given: Given) -> Any:
    _, payload = _payload(heap, given)
    return heap._g.round_up(payload) == payload


@theorem(
    "tlsf", "A payload exceeds the request by less than the step of its list, or is the least there is.",
    kernels="Geometry.request, round_up", targets=_TARGETS, trace=one_request,
    controls=(Control(f"{WRONG}OneRowUp", _fits_in_lists),), law="waste-bound",
)  # fmt: skip
def wastes_little(heap: Any, given: Given) -> Any:
    g = heap._g
    size, payload = _payload(heap, given)
    return (payload - size < g.word) | ((payload - size) << g.sl < payload) | (payload == g.least)


@theorem(
    "tlsf", "An aligned payload fits into the block that is looked for, behind a gap that is none or a block.",
    kernels="_alloc_aligned, Geometry.with_gap", targets=_TARGETS, trace=_aligned_request, law="returns",
    controls=(Control(f"{WRONG}gap_without_header", _aligned_fits),), bound="alignments up to 4096",
)  # fmt: skip
def room_for_the_gap(heap: Any, given: Given) -> Any:
    g, bits = heap._g, heap._bits
    payload = given("size", g.least, g.most - 1)
    given.assume(g.round_up(payload) == payload)  # as all payloads are
    align = 1 << given("log2 of align", bits + 1, 12)
    block, asked = given("block", 1, g.most >> bits), _Asked()
    given.assume(block << bits < g.most)
    heap._words, heap._alignments = Blank(), Blank()
    heap._take, heap._insert, heap._use = asked.take(block), asked.insert, asked.use(bits)
    handle = heap._alloc_aligned(payload, align)
    if handle is None:  # more than a block may have
        return True
    end = (block << bits) + asked.wanted
    return (handle & (align - 1) == 0) & (handle + payload <= end) & (asked.gap is None or asked.gap >= g.least)


class _Asked:
    """In the place of the lists: what an aligned request looks for, and the gap that it gives back."""

    def __init__(self) -> None:
        self.wanted: Any = 0
        self.gap: Any = None

    def take(self, block: Any) -> Callable[[Any], Any]:
        def taken(size: Any) -> Any:
            self.wanted = size
            return block

        return taken

    def insert(self, block: Any, size: Any) -> None:
        self.gap = size

    def use(self, bits: int) -> Callable[[Any, Any], Any]:
        return lambda block, size: block << bits


# ---- lists -----------------------------------------------------------------------------------


@theorem(
    "tlsf", "A larger block stands on the same list or on a later one.",
    kernels="insert", targets=_TARGETS, trace=_all_but_one_block,
    controls=(Control(f"{WRONG}drops_the_carry", _both_fit),), law="size-class",
)  # fmt: skip
def lists_are_in_order(heap: Any, given: Given) -> Any:
    block = _block(heap, given)
    larger = given("larger", heap._g.least, heap._g.most - 1)
    given.assume(larger >= block)
    return filed(heap, block, 1) <= filed(heap, larger, 1)


@theorem(
    "tlsf", "Every block that can be has its list inside the table, and every search begins there.",
    kernels="Geometry.request, _insert, _search: insert, round_up", targets=_TARGETS + _LIMITED, trace=one_request,
    controls=("tlsf+T01,arena=4088,top=12", "tlsf+T02"), law="returns",
)  # fmt: skip
def lists_lie_in_the_table(heap: Any, given: Given) -> Any:
    _, payload = _payload(heap, given)
    filed(heap, _block(heap, given), 1)  # a place outside raises
    heap._rows, heap._row_bits = 0, Cells(heap._g.rows)
    heap._search(payload)
    return heap._g.insert(heap._g.round_up(payload))[0] < heap._g.rows


# ---- searches --------------------------------------------------------------------------------


def _searched(heap: Any, given: Given) -> tuple[Any, Any]:
    """(list where a search begins, list that the block is filed on)."""
    return searched(heap, filed(heap, _block(heap, given), 1), _wanted(heap, given))


@theorem(
    "tlsf", "On the list where a search begins, and on later ones, no block is smaller than the request.",
    kernels="_insert, _search: insert, round_up, from_level", targets=_TARGETS, trace=_all_but_one_block,
    controls=(Control("tlsf+T46", _both_fit),), law="search-fit",
)  # fmt: skip
def finds_no_smaller(heap: Any, given: Given) -> Any:
    block, (found, on) = _block(heap, given), _searched(heap, given)
    return True if found < 0 else implies(found <= on, block >= _wanted(heap, given))


@theorem(
    "tlsf", "The list of a block that is no smaller than the payload is no earlier than where its search begins.",
    kernels="_insert, _search: insert, round_up, from_level", targets=_TARGETS, trace=_all_but_one_block,
    controls=(Control("tlsf+T39", lambda heap, given: _wanted(heap, given) < heap._arena * 3 // 4, _exactly),),
    law="no-spurious-refusal",
)  # fmt: skip
def finds_what_fits(heap: Any, given: Given) -> Any:
    given.assume(_block(heap, given) >= heap._g.round_up(_wanted(heap, given)))
    found, on = _searched(heap, given)
    return (found >= 0) & (found <= on)


@theorem(
    "tlsf", "A search ends at the first list that is not empty, wherever it begins.",
    kernels="_search: from_level, lowest_bit", targets=_TINY, trace=_small_and_large,
    bound="tables of 4 and 5 rows of 4 lists, whatever they hold",
    controls=(Control("tlsf+T38,arena=504,sl=2,top=9", _behind_the_first),),
    law="no-spurious-refusal",
)  # fmt: skip
def ends_at_the_first(heap: Any, given: Given) -> Any:
    rows, lists = heap._g.rows, 1 << heap._g.sl
    heap._row_bits = [given(f"row {row}", 0, (1 << lists) - 1) for row in range(rows)]
    heap._rows = given("rows", 0, (1 << rows) - 1)
    for row, bits in enumerate(heap._row_bits):
        given.assume((bits != 0) == (heap._rows >> row & 1 != 0))
    every = sum(bits << row * lists for row, bits in enumerate(heap._row_bits))
    begin = heap._g.insert(heap._g.round_up(_wanted(heap, given)))
    found = heap._search(_wanted(heap, given))
    first = from_level(every, (begin[0] << heap._g.sl) + begin[1])
    return found == lowest_bit(first)
