"""Theorems about SLUB's geometry: slots, free pointers, orders of slabs.

The functions are those that the target's own layout is made with: they are looked up in its module.

>>> from heaplaw.properties.proofs.theorems import find
>>> find("slub/link-in-the-slot").sentence
'The free pointer is an aligned word of the slot; outside of the object, where that must be kept, it is beside it.'
"""

from typing import Any

from heaplaw.impls.slab_pages import PAGE_OFFSET
from heaplaw.impls.slub_order import POINTERS, Layout

from .theorems import WRONG, Control, Given, Values, theorem

_WORD = 8


def _kernel(heap: Any, name: str) -> Any:
    """A function of the module of geometry that the heap was made with."""
    plain = next(kind for kind in type(heap).__mro__ if kind.__name__ == "Slub")
    made: Any = vars(plain)["__init__"]
    return made.__globals__["layout"].__wrapped__.__globals__[name]


def _sizes(heap: Any, given: Given) -> tuple[Any, int, str, Any, Any, Any]:
    """(object, alignment, place of the free pointer, slot, what of it may be used, where the pointer is)."""
    most = heap._layout.page_size << 10
    size, align = given("object", 1, most), 1 << int(given("log2 of align", 0, 12))
    pointer = POINTERS[int(given("pointer", 0, len(POINTERS) - 1))]
    return size, align, pointer, *_kernel(heap, "calculate_sizes")(size, align, pointer)


def _own_object(heap: Any, given: Given) -> Any:
    """The object has the size of the heap's."""
    return given("object", 1, heap._layout.page_size << 10) == heap._layout.object_size


def _three(heap: Any, values: Values) -> str:
    """Objects are taken, freed, and taken again."""
    one = f"alloc {heap._layout.object_size}"
    return f"a = {one}\nb = {one}\nc = {one}\nfree b\nfree a\nd = {one}\ne = {one}\nf = {one}"


@theorem(
    "slub", "A slot holds the object and is a multiple of the alignment, and is no longer than these call for.",
    kernels="calculate_sizes", targets=("slub",), trace=_three,
    controls=(Control(WRONG + "slots_rounded_down,size=100", _own_object),), law="big-enough",
    bound="every object up to the longest run of pages, every alignment up to 4096, pointers in every place",
)  # fmt: skip
def slot_holds_the_object(heap: Any, given: Given) -> Any:
    size, align, pointer, slot, usable, _ = _sizes(heap, given)
    step, link = max(align, _WORD), _WORD if pointer == "outside" else 0
    exact = slot - size < step + link + (_WORD if link else 0)
    return (slot >= size) & (usable >= size) & (usable <= slot) & (slot & (step - 1) == 0) & exact


@theorem(
    "slub",
    "The free pointer is an aligned word of the slot; outside of the object, where that must be kept, it is beside it.",
    kernels="calculate_sizes, SlubCache.set_freepointer", targets=("slub",), trace=_three,
    controls=(Control("slub+B25,size=4,pages=2", _own_object),),
    bound="every object up to the longest run of pages, every alignment up to 4096, pointers in every place",
    law="contents",
)  # fmt: skip
def link_in_the_slot(heap: Any, given: Given) -> Any:
    size, _, pointer, slot, usable, offset = _sizes(heap, given)
    here = Layout(size, slot, usable, offset, 0, 1, 0, 1, 5, 0, heap._layout.page_size)
    link = heap._make_cache(heap._frames, here)._link + PAGE_OFFSET
    kept = link >= usable if pointer == "outside" else True
    return (link >= 0) & (link + _WORD <= slot) & (link & (_WORD - 1) == 0) & kept
