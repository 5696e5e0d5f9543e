"""Theorems about kmalloc: which class or run of pages serves a request, what is wasted, where two eras agree.

A request is followed through the allocator's own ``alloc`` up to the cache, or the pages, that it chooses.

>>> from heaplaw.properties.proofs.theorems import find
>>> find("kmalloc/least-class").sentence
'A request up to the largest class is served by the least class that holds it.'
"""

from typing import Any

from heaplaw.impls.kmalloc_classes import class_of_2005, kmalloc_class

from .theorems import WRONG, Given, one_request, theorem
from .words import implies

_TARGETS = (
    "kmalloc", "kmalloc,era=slab", "kmalloc,era=slab,least=64", "kmalloc,era=slab,least=128", "kmalloc,era=2005",
    "kmalloc,era=2005,line=32", "kmalloc,page_size=16384",
)  # fmt: skip
_MASK = (1 << 64) - 1


class _Chosen:
    """Stands where the caches and the pages are: notes the class or the order that a request is sent to."""

    kind: Any = None
    order: Any = None

    def __init__(self, heap: Any) -> None:
        heap._caches, heap._large, heap._create_kmalloc_cache = self, self, self._create

    def get(self, kind: Any) -> None:
        return None

    def _create(self, kind: Any) -> Any:
        self.kind = kind
        return self

    def alloc(self, cpu: int) -> int:
        return 0

    def kmalloc_large(self, order: Any) -> int:
        self.order = order
        return 0


def _class(heap: Any, given: Given) -> tuple[Any, Any]:
    """(size, class) of a request that a class serves."""
    size, chosen = given("size", 1, heap._largest), _Chosen(heap)
    heap.alloc(size)
    assert chosen.kind is not None
    return size, chosen.kind


@theorem(
    "kmalloc", "A request up to the largest class is served by the least class that holds it.",
    kernels="Kmalloc.alloc: kmalloc_class, kmalloc_index, index_size, class_of_2005", targets=_TARGETS,
    trace=one_request, controls=("kmalloc+KM01", WRONG + "ninety_six_holds_more"), law="big-enough",
    bound="every size up to the largest class",
)  # fmt: skip
def least_class(heap: Any, given: Given) -> Any:
    size, kind = _class(heap, given)
    known, least = False, kind >= size
    for one in heap._terms.layouts:
        known = known | (kind == one)
        least = least & ((size > one) | (kind <= one))
    return known & least


@theorem(
    "kmalloc", "A class is less than twice the request, and one of 65 to 256 bytes wastes less than half of it.",
    kernels="Kmalloc.alloc: kmalloc_class", targets=("kmalloc", "kmalloc,era=slab", "kmalloc,era=2005,line=32"),
    trace=one_request, controls=(WRONG + "PowersOfTwo",), law="waste-bound",
    bound="every size from half the smallest class to the largest class",
)  # fmt: skip
def wastes_less_than_half(heap: Any, given: Given) -> Any:
    size, kind = _class(heap, given)
    given.assume(2 * size > min(heap._terms.layouts))
    between = (size > 64) & (size <= 256)
    return (kind < 2 * size) & implies(between, 2 * (kind - size) < size)


@theorem(
    "kmalloc", "A request above the largest class gets the least order of pages that holds it.",
    kernels="Kmalloc._alloc_odd: get_order", targets=("kmalloc", "kmalloc,era=slab", "kmalloc,page_size=16384"),
    trace=one_request, controls=("kmalloc+KM02",), law="big-enough",
    bound="every size of the word: above the longest run it is refused",
)  # fmt: skip
def least_order(heap: Any, given: Given) -> Any:
    size, chosen = given("size", heap._largest + 1, _MASK), _Chosen(heap)
    heap.alloc(size)
    page = heap.source.page_size
    if chosen.order is None:
        return (chosen.kind is None) & (size > page << 10)
    run = page << chosen.order
    return (run >= size) & ((run < 2 * size) | (chosen.order == 0)) & (chosen.order <= 10) & (chosen.order >= 0)


@theorem(
    "kmalloc",
    "The class of 2005, with cache lines of 64 bytes, is that of 6.1 from 17 to 64 bytes and from 97 up, with SLAB "
    "from 1 to 16 too, and for no other size.",
    kernels="kmalloc_class, class_of_2005", targets=("kmalloc", "kmalloc,era=slab"), trace=one_request,
    controls=("kmalloc+KM01",), law="big-enough", bound="pages of 4096 bytes, every size up to 8192",
)  # fmt: skip
def eras_agree(heap: Any, given: Given) -> Any:
    size, kind = _class(heap, given)
    least = min(heap._terms.layouts)
    agree = (size > (16 if least == 8 else 0)) & ((size <= 64) | (size > 96))
    return (class_of_2005(size, line=64) == kind) == agree


@theorem(
    "kmalloc", "With cache lines of 32 bytes the classes of 2005 are those of SLAB in 6.1, as far as both go.",
    kernels="kmalloc_class, class_of_2005", targets=("kmalloc,era=2005,line=32",), trace=one_request,
    controls=("kmalloc+KM01,era=2005,line=32",), law="big-enough", bound="pages of 4096 bytes, every size up to 8192",
)  # fmt: skip
def short_lines_agree(heap: Any, given: Given) -> Any:
    size, kind = _class(heap, given)
    given.assume(size <= 8192)
    return kmalloc_class(size, 32, 8192) == kind
