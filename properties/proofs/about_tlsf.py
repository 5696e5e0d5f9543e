"""Theorems about TLSF: sizes of requests, the lists that blocks are filed on, and where a search begins.

The heap's own methods run: list heads and bitmaps are replaced by cells (see ``cells``), so that a block of
any size can be filed and looked for without an arena of that size.

>>> from heaplaw.properties.proofs.theorems import find
>>> find("tlsf/finds-no-smaller").sentence
'A search finds no block that is smaller than the request.'
"""

from typing import Any

from .cells import Cells
from .theorems import Control, Given, Values, one_request, theorem
from .words import implies

_TARGETS = tuple(f"tlsf,word={word},sl={sl}" for word in (32, 64) for sl in (5, 2, 3, 4))
_XEN = ("xen-tlsf,word=32", "xen-tlsf,word=64")


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


def _file(heap: Any, block: Any) -> None:
    """A heap whose one free block has so many bytes, on the list that the heap itself puts it on."""
    heap._rows, heap._row_bits = 0, Cells(heap._g.rows)
    heap._heads, heap._words = Cells(heap._g.rows << heap._g.sl), Cells(1 << 20)
    heap._insert(1, block)


def _all_but_one_block(heap: Any, values: Values) -> str:
    """All memory but for one block of ``block`` bytes is taken, then the request."""
    head, word = values["block"], heap._word
    rest = heap._arena - 2 * word - head - word
    return f"a = alloc {head}\nb = alloc {rest}\nfree a\nc = alloc {values['size']}"


def _small(heap: Any, given: Given) -> Any:
    """Block and request fit into the heap."""
    return (given("block", heap._g.least, heap._g.most - 1) < heap._arena // 4) & (
        given("size", 1, heap._mask) < heap._arena // 4
    )


@theorem(
    "tlsf", "A payload is no smaller than what was asked for, and a multiple of the alignment.",
    kernels="Geometry.request", targets=_TARGETS, trace=one_request,
    controls=("tlsf+T04", "tlsf+T15", "tlsf+T20", "tlsf+G27"), law="big-enough",
)  # fmt: skip
def serves_enough(heap: Any, given: Given) -> Any:
    size, payload = _payload(heap, given)
    return (payload >= size) & (payload & (heap._g.word - 1) == 0)


@theorem(
    "tlsf", "A size that is in range is served, one that is not is refused, and none wraps around.",
    kernels="Geometry.request", targets=_TARGETS, trace=one_request,
    controls=("tlsf+T04", "tlsf+T20"), law="bad-size-rejected",
)  # fmt: skip
def refuses_what_would_wrap(heap: Any, given: Given) -> Any:
    g = heap._g
    size = given("size", 1, g.mask)
    payload = heap._adjust(size)
    last = (g.most - 1) & -(1 << (g.most.bit_length() - 2 - g.sl))  # where the last list begins
    return implies(size <= last, payload != 0) & implies(size > last, payload == 0)


@theorem(
    "tlsf", "A payload holds the links that a free block keeps in it.",
    kernels="Geometry.request", targets=_TARGETS, trace=one_request, controls=("tlsf+T69",), law="tiling",
)  # fmt: skip
def room_for_the_links(heap: Any, given: Given) -> Any:
    return _payload(heap, given)[1] >= heap._g.least


@theorem(
    "tlsf", "What was freed can be had again: a payload begins its list.",
    kernels="Geometry.request, round_up", targets=_TARGETS, trace=_all_but_one_block,
    controls=("tlsf+T09",), law="free-then-alloc",
)  # fmt: skip
def begins_its_list(heap: Any, given: Given) -> Any:
    _, payload = _payload(heap, given)
    return heap._g.round_up(payload) == payload


@theorem(
    "tlsf", "A payload exceeds the request by no more than the step of its list and the alignment.",
    kernels="Geometry.request, round_up", targets=_TARGETS, trace=one_request,
    controls=("heaplaw.properties.proofs.wrong_kernels:OneListUp",), law="waste-bound",
)  # fmt: skip
def wastes_little(heap: Any, given: Given) -> Any:
    g = heap._g
    size, payload = _payload(heap, given)
    return payload - size < g.word + (payload >> g.sl) + g.least


@theorem(
    "tlsf", "A search finds no block that is smaller than the request.",
    kernels="_insert, _search: insert, round_up, from_level", targets=_TARGETS, trace=_all_but_one_block,
    controls=(Control("tlsf+T46", _small),), law="search-fit",
)  # fmt: skip
def finds_no_smaller(heap: Any, given: Given) -> Any:
    _, payload = _payload(heap, given)
    block = _block(heap, given)
    _file(heap, block)
    return True if heap._search(payload) < 0 else block >= payload


@theorem(
    "tlsf", "A search finds a block that is as large as the payload.",
    kernels="_insert, _search: insert, round_up, from_level", targets=_TARGETS, trace=_all_but_one_block,
    controls=(Control("tlsf+T39", _small),), law="no-spurious-refusal",
)  # fmt: skip
def finds_what_fits(heap: Any, given: Given) -> Any:
    _, payload = _payload(heap, given)
    block = _block(heap, given)
    given.assume(block >= payload)
    _file(heap, block)
    return heap._search(payload) >= 0
