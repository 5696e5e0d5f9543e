"""Theorems about the buddy allocator inside pages: orders of requests, limits, and where the halves of a block stand.

>>> from heaplaw.properties.proofs.theorems import find
>>> find("subpage-buddy/holds-size-and-alignment").sentence
'A request gets the least block that holds its size and its alignment, and that is none below the smallest.'
"""

from typing import Any

from .cells import Cells
from .theorems import WRONG, Given, Values, theorem
from .words import not_so

_TARGETS = ("subpage-buddy", "subpage-buddy,smallest=1", "subpage-buddy,page_size=65536,smallest=64")
_MASK = (1 << 64) - 1


def _request(heap: Any, values: Values) -> str:
    """The request as it is."""
    align = 1 << values.get("log2 of align", 0)
    return f"a = alloc {values['size']}" + (f" align {align}" if align > 1 else "")


class _Order:
    """Notes the order in bytes that a request is sent for."""

    order: Any = None

    def __init__(self, heap: Any) -> None:
        self.shift = heap._shift
        heap._alloc_block, heap._alloc_pages = self.block, self.pages

    def block(self, order: Any) -> int:
        self.order = order
        return 0

    def pages(self, order: Any) -> int:
        self.order = order + self.shift
        return 0


@theorem(
    "subpage-buddy",
    "A request gets the least block that holds its size and its alignment, and that is none below the smallest.",
    kernels="SubpageBuddy.alloc: get_order", targets=_TARGETS, trace=_request,
    controls=("subpage-buddy+B15", WRONG + "IgnoresAlignment"), law="geometry",
    bound="every size and every alignment of the word, up to the longest run of pages",
)  # fmt: skip
def holds_size_and_alignment(heap: Any, given: Given) -> Any:
    size, align = given("size", 0, _MASK), 1 << given("log2 of align", 0, 63)
    smallest, asked = heap._smallest, _Order(heap)
    heap.alloc(size, align)
    given.assume(asked.order is not None)
    block = 1 << asked.order
    least = (block < 2 * size) | (block < 2 * align) | (block < 2 * smallest)
    return (block >= size) & (block >= align) & (block >= smallest) & least


@theorem(
    "subpage-buddy", "A size or an alignment above the longest run is refused, and all up to it is not.",
    kernels="SubpageBuddy.alloc", targets=_TARGETS, trace=_request,
    controls=(WRONG + "refuses_the_longest_run",), law="no-spurious-refusal",
)  # fmt: skip
def refuses_what_is_too_long(heap: Any, given: Given) -> Any:
    size, align = given("size", 0, _MASK), 1 << given("log2 of align", 0, 63)
    longest, asked = heap.contract.largest, _Order(heap)
    heap.alloc(size, align)
    fits = (size <= longest) & (align <= longest)
    return fits if asked.order is not None else not_so(fits)


def _all_blocks(heap: Any, values: Values) -> str:
    """Smallest blocks are taken and given back, and then a page's worth of them."""
    size = heap._smallest
    return f"a = alloc {size}\nb = alloc {size}\nc = alloc {size}\nd = alloc {size}\nfree a\nfree b\nfree c\nfree d"


@theorem(
    "subpage-buddy", "Halves of a block stand behind one another up to its end, and have their heads in its page.",
    kernels="SubpageBuddy._split, _insert: upper_half, misalignment",
    targets=("subpage-buddy", "subpage-buddy,page_size=256"), trace=_all_blocks, controls=("subpage-buddy+B13",),
    bound="every block of every page of 2**52, every pair of orders", law="returns",
)  # fmt: skip
def halves_tile_the_block(heap: Any, given: Given) -> Any:
    least, shift = heap._least, heap._shift
    low = int(given("low", least, shift - 1))
    high = low + int(given("levels", 1, shift - least))
    given.assume(high <= shift)
    block = given("number", 0, (1 << 52) - 1) << high
    heads, lists = Cells(heap._page_size >> least), [_Member() for _ in range(shift)]
    heap._free = lists
    heap._split(heads, block, low, high)
    at: Any = block + (1 << low)
    so: Any = True
    for order in range(low, high):
        first = lists[order].block
        so = so & (first == at) & (heads[(first & (heap._page_size - 1)) >> least] == (order + 1 | 0x80))
        at = at + (1 << order)
    return so & (at == block + (1 << high))


class _Member:
    """A list of one block."""

    block: Any = -1

    def __setitem__(self, block: Any, value: None) -> None:
        self.block = block
