"""Theorems about Xen's first xmalloc: lines, the way to whole pages, cuts, and merging inside a page.

The heap's own methods run.  Words of memory are replaced by cells (see ``cells``); what comes behind the
arithmetic is replaced by a note of what was asked of it.

>>> from heaplaw.impls.xen_xmalloc import XenXmalloc
>>> from heaplaw.properties.proofs.theorems import find
>>> find("xen-xmalloc/pages-hold-the-rest").holds_for(XenXmalloc(), {"size": 4096})
True
"""

from typing import Any

from .cells import Cells
from .theorems import WRONG, Control, Given, Values, one_request, theorem

_TARGETS = ("xen-xmalloc,pages=8", "xen-xmalloc,pages=8,line=32", "xen-xmalloc,pages=8,page_size=65536,line=64")
_ALL = (*_TARGETS, "xen-xmalloc,pages=8,tail=list")
_MASK = (1 << 64) - 1  # of a word; there are no others
_MEMORY = 1 << 40  # words of memory that cells stand for
_WORD = 8  # bytes between a block and its node


def _noted(heap: Any, given: Given) -> tuple[Any, list[Any], list[Any]]:
    """(size, totals looked for among blocks, orders of pages asked for) of a request that gets nothing."""
    totals: list[Any] = []
    orders: list[Any] = []
    size = given("size", 0, _MASK)
    heap._first_fit, heap._new_page = totals.append, lambda total: None
    heap.source = _NoPages(orders, heap.source.total)
    heap.alloc(size)
    return size, totals, orders


class _NoPages:
    """A page source that notes which order it is asked for."""

    def __init__(self, orders: list[Any], total: int) -> None:
        self._orders, self._pages = orders, total

    @property
    def total(self) -> Any:
        """Pages: so many that no order is refused unasked."""
        return self

    def bit_length(self) -> int:
        """Of the number of pages."""
        return 1 << 10

    def take(self, order: Any) -> None:
        """Note the order."""
        self._orders.append(order)


# ---- stories, and which counterexamples fit into them ------------------------------------------


def _cut(heap: Any, values: Values) -> str:
    """An object of the length to be cut off a fresh page, one behind it, and both freed."""
    payload = values["size"] - heap._header
    return f"a = alloc {payload}\nb = alloc 1\nfree a\nfree b"


def _fresh_page(heap: Any, given: Given) -> Any:
    """A whole page is cut, not at its end."""
    return (given("place", 0, 1 << 30) == 0) & (_whole(heap, given) == heap._page_size)


def _two_pages(heap: Any, values: Values) -> str:
    """Two pages, each with an object at its start and at its end; those that touch between the pages are freed."""
    rest = heap._page_size - 3 * heap._header
    lines = f"a = alloc 128\nb = alloc {rest - 128}\nc = alloc 128\nd = alloc {rest - 128}\n"
    return lines + "free b\nfree c\nfree a\nfree d\ndrain"


def _just_above(heap: Any, given: Given) -> Any:
    """A request that does not fit a number of pages for its header."""
    size = given("size", 0, _MASK)
    return (size > heap._page_size) & (size <= 2 * heap._page_size)


# ---- sizes -----------------------------------------------------------------------------------


@theorem(
    "xen-xmalloc", "A block is looked for that holds the request and a line of header, and no line more.",
    kernels="alloc, _total", targets=_ALL, trace=lambda heap, values: "a = alloc 0\n" + _second(heap, values),
    controls=("xen-xmalloc@3.0,pages=8", WRONG + "TotalsOfWholeLines,pages=8"), law="big-enough",
)  # fmt: skip
def holds_the_header(heap: Any, given: Given) -> Any:
    size, totals, _ = _noted(heap, given)
    given.assume(bool(totals))
    (total,), line = totals, heap._header
    return (total >= size + line) & (total - size < 2 * line) & (total & (line - 1) == 0)


def _second(heap: Any, values: Values) -> str:
    return one_request(heap, values).replace("a =", "b =")


@theorem(
    "xen-xmalloc", "What does not share a page gets whole pages, enough for a header too and no run twice as long.",
    kernels="alloc, _total, _whole_pages: get_order", targets=_ALL, trace=one_request,
    controls=("xen-xmalloc@3.0,pages=8", Control(WRONG + "OrderWithoutTheHeader,pages=8", _just_above)),
    law="big-enough",
)  # fmt: skip
def pages_hold_the_rest(heap: Any, given: Given) -> Any:
    size, totals, orders = _noted(heap, given)
    needed = size + heap._header
    if len(totals) + len(orders) != 1:
        return False
    if totals:
        return needed <= heap._page_size - heap._header  # a line at least is left of its page
    pages = heap._page_size << orders[0]
    return (pages >= needed) & (needed > heap._page_size - heap._header) & ((orders[0] == 0) | (pages < 2 * needed))


# ---- blocks ----------------------------------------------------------------------------------


def _whole(heap: Any, given: Given) -> Any:
    return given("whole", heap._header, heap._page_size)


@theorem(
    "xen-xmalloc", "A cut loses no byte, and a block is cut only where the rest holds a header and a line.",
    kernels="_maybe_split, _least_rest", targets=_TARGETS, trace=_cut,
    controls=(
        Control("xen-xmalloc+G40,pages=8", _fresh_page),
        Control(WRONG + "keeps_two_lines,pages=8", _fresh_page),
    ), law="disjoint", bound="every block up to a page, anywhere in the first gigabyte",
)  # fmt: skip
def cuts_lose_nothing(heap: Any, given: Given) -> Any:
    line, place = heap._header, given("place", 0, 1 << 30)
    whole, size = _whole(heap, given), given("size", 0, heap._page_size)
    given.assume(((place | whole | size) & (line - 1) == 0) & (size >= 2 * line) & (size <= whole))
    listed: list[Any] = []
    heap._words, heap._list_add = Cells(_MEMORY, 1), listed.append
    heap._maybe_split(place, size, whole)
    at = place >> 3
    kept, links = heap._words[at], (heap._words[at + 1] == 0) & (heap._words[at + 2] == 0)
    if not listed:
        return links & (kept == whole) & (whole - size < 2 * line)
    rest = listed[0] - _WORD
    left = heap._words[rest >> 3]
    return links & (kept == size) & (rest == place + size) & (kept + left == whole) & (left >= 2 * line)


@theorem(
    "xen-xmalloc", "A freed block merges with a free one just where they touch within a page, to the length of both.",
    kernels="_free_block, _same_page", targets=_TARGETS, trace=_two_pages,
    controls=("xen-xmalloc+T61,pages=8",), law="conservation",
    bound="every place of two blocks below 2**60, one of them free",
)  # fmt: skip
def merges_within_a_page(heap: Any, given: Given) -> Any:
    line, page, most = heap._header, heap._page_size, 1 << 60
    block, size = given("block", 0, most), given("size", line, page)
    other, length = given("other", 0, most), given("length", line, page)
    given.assume((block | size | other | length) & (line - 1) == 0)
    for start, bytes_ in ((block, size), (other, length)):  # each lies in one page, and fills it not
        given.assume(((start & (page - 1)) + bytes_ <= page) & (bytes_ < page))
    given.assume((other + length <= block) | (block + size <= other))
    words = heap._words = Cells(1 << 58)
    heap._head = heap._first = 1 << 61  # the head of an empty list
    given_back: list[Any] = []
    heap.source.give = lambda number, order: given_back.append(number)
    words[other >> 3] = length
    heap._list_add(other + _WORD)
    words[block >> 3] = size
    heap._free_block(block, size)
    touch = (other + length == block) | (block + size == other)
    alike = other & -page == block & -page
    union = min(block, other)
    if touch & alike:
        if size + length == page:
            return len(given_back) == 1 and (given_back[0] << heap._page_shift == union) & (heap._first == heap._head)
        alone = (heap._first == union + _WORD) & (words[heap._first >> 3] == heap._head)
        return alone & (words[union >> 3] == size + length)
    return (heap._first == block + _WORD) & (words[heap._first >> 3] == other + _WORD) & (words[block >> 3] == size)
