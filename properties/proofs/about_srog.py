"""Theorems about small related object groups: totals, orders of runs, what is left of an area that is cut.

>>> from heaplaw.properties.proofs.theorems import find
>>> find("srog/total-holds-the-object").sentence
'An object takes its bytes, its size word, and an area that fits into it when it is freed; no size wraps around.'
"""

from types import SimpleNamespace
from typing import Any

from .cells import Cells
from .theorems import Control, Given, Values, one_request, theorem

_TARGETS = ("srog", "srog,page_size=256")
_POSTED = "srog@2006-08-12"
_WORD, _HEAD, _AREA = 4, 28, 8  # bytes: of a size word, of a run's head, of a free area's header
_MASK = (1 << 32) - 1


@theorem(
    "srog",
    "An object takes its bytes, its size word, and an area that fits into it when it is freed; no size wraps around.",
    kernels="Srog._total: total", targets=_TARGETS, trace=one_request, controls=(_POSTED,), law="big-enough",
    bound="every size of a word of 32 bits, which the layout is for",
)  # fmt: skip
def total_holds_the_object(heap: Any, given: Given) -> Any:
    size = given("size", 0, _MASK)
    whole = heap._total(size)
    least = (whole < size + _WORD + _WORD) | (whole == _AREA + _WORD)
    return (whole >= size + _WORD) & (whole >= _AREA + _WORD) & (whole & (_WORD - 1) == 0) & least


class _Source:
    """Notes the order that is asked for; has no pages."""

    order: Any = None

    def take(self, order: Any) -> None:
        self.order = order


def _alone(heap: Any, values: Values) -> str:
    """The object as the first of its group."""
    return f"a = alloc {values['size']} group 1"


def _fits(heap: Any, given: Given) -> Any:
    """The object fits into a run of the heap's."""
    return given("size", 0, _MASK) <= (heap._page_size << 3) - _HEAD - _WORD


def _wraps(heap: Any, given: Given) -> Any:
    """With its head and its size word it is longer than a word can say."""
    return given("size", 0, _MASK) + _HEAD + _WORD > _MASK + 1


@theorem(
    "srog", "A new run is the least order that holds its head and the object.",
    kernels="Srog._new_srog: total, order_for", targets=_TARGETS, trace=_alone,
    controls=(Control("srog+SR04", _fits), Control(_POSTED, _wraps)), law="returns",
    bound="every size of a word of 32 bits, as if a run could be as long",
)  # fmt: skip
def run_holds_the_object(heap: Any, given: Given) -> Any:
    size, source = given("size", 0, _MASK), _Source()
    heap.source, heap.contract = source, SimpleNamespace(page_order=64)
    heap._new_srog(heap._total(size))
    run, needed = heap._page_size << source.order, size + _WORD + _HEAD
    return (run >= needed) & ((run < 2 * (needed + _AREA + _WORD)) | (source.order == 0))


def _cut_again(heap: Any, values: Values) -> str:
    """An area between two objects is cut again."""
    first, second = _WORD * values["area"] - _WORD, _WORD * values["whole"] - _WORD
    return f"a = alloc {first} group 1\nb = alloc 0 group 1\nfree a\nc = alloc {second} group 1\nfree c\nfree b"


def _small(heap: Any, given: Given) -> Any:
    return given("area", 3, 1 << 28) < 200


@theorem(
    "srog", "Of an area that is cut, what is left can be an area, or goes with the object; no byte is lost.",
    kernels="Srog._carve, _least_rest", targets=_TARGETS, trace=_cut_again,
    controls=(Control("srog+SR03", _small), Control(_POSTED, _small)), law="handle-stable",
    bound="every area and every object in 2**30 bytes",
)  # fmt: skip
def rest_is_an_area(heap: Any, given: Given) -> Any:
    area, whole = given("area", 3, 1 << 28), given("whole", 3, 1 << 28)  # words
    given.assume(whole <= area)
    heap._words, before, at = Cells(1 << 30), 2, 7
    heap._words[at], heap._words[at + 1], heap._words[before + 1] = area * _WORD, 0, heap._pointer(at)
    heap._carve(before, at, whole * _WORD)
    taken, following = heap._words[at], heap._words[before + 1]
    if following == 0:
        return taken == area * _WORD
    rest = heap._words[heap._at(following)]
    inside = following == heap._pointer(at) + taken
    return inside & (taken >= whole * _WORD) & (rest >= _AREA) & (taken + rest == area * _WORD)
