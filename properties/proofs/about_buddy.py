"""Theorems about the buddy allocator: orders of requests, buddies, splitting and merging, marks and counts.

The zone's own methods run, on a zone that begins at any page frame and is as long as one pleases: marks are
cells (see ``cells``), and what is put on a list or taken off one is noted.

>>> from heaplaw.properties.proofs.theorems import find
>>> find("buddy/merges-with-its-buddy").sentence
'A freed block merges with the other half of the block twice as long, if that is free and in the zone, and else not.'
"""

from itertools import product
from string import ascii_lowercase
from typing import Any, NamedTuple

from .cells import Cells
from .theorems import WRONG, Control, Given, Values, one_request, theorem
from .words import implies, not_so

_TARGETS = ("buddy", "buddy,orders=4", "buddy,page_size=65536")
_ORDERS = ("buddy,orders=4", "buddy,orders=3")  # each order is some paths of its own
_MASK = (1 << 64) - 1
_NAMES = [*ascii_lowercase, *map("".join, product(ascii_lowercase, repeat=2))]
_PAGES = 1 << 40  # page frames of 4 KiB that 52 bits of physical address can name


class _Lists:
    """Mixed into a zone: what is listed, and taken off lists, is noted; marks are written as ever."""

    listed: list[tuple[Any, Any]]
    taken: list[tuple[Any, Any]]

    def add_to_free_list(self, page: Any, order: Any) -> None:
        self.listed.append((page, order))
        self.head[page] = order + 1

    def del_page_from_free_list(self, page: Any, order: Any) -> None:
        self.taken.append((page, order))
        self.head[page] = 0

    head: Any


def _watched(heap: Any) -> Any:
    """A zone with the code of the heap's, and nothing in it yet."""
    kind = type("Watched", (_Lists, heap.zone_class), {})
    zone: Any = object.__new__(kind)
    zone.listed, zone.taken = [], []
    return zone


class _Block(NamedTuple):
    """A block that is in use, in a zone that begins at any page frame and has any number of pages."""

    zone: Any
    page: Any  # first one
    buddy: Any  # first page of the other half of the block twice as long, whether or not the zone has it
    both: Any  # ... of that block
    order: int


class _Marks:
    """Those of a block's first page, which is written only, and of its buddy's; IndexError for all others."""

    mark: Any = 0

    def __init__(self, page: Any, buddy: Any, inside: Any) -> None:
        self.page, self.buddy, self.inside = page, buddy, inside  # does the zone have its first page?

    def __getitem__(self, at: Any) -> Any:
        if self.inside and at == self.buddy:
            return self.mark
        raise IndexError("neither the block's page nor its buddy's")

    def __setitem__(self, at: Any, mark: Any) -> None:
        if self.inside and at == self.buddy:
            self.mark = mark
        elif at != self.page:
            raise IndexError("neither the block's page nor its buddy's")


def _block(heap: Any, given: Given, order: int) -> _Block:
    """Any block of an order, as if that were the last one to merge.

    The zone has ``page`` pages before it and ``after`` behind it.
    """
    half = int(given("half", 0, 1))
    page, after = given("page", 0, _PAGES - 1), given("after", 0, _PAGES - 1)
    zone = _watched(heap)
    zone.orders, zone.top, zone.tail, zone.free_pages = heap._only.orders, order + 1, False, 0
    zone.start = (given("both", 0, _PAGES - 1) << order + 1) + (half << order) - page
    given.assume(zone.start >= 0)
    zone.pages = page + (1 << order) + after
    both = page - (half << order)
    buddy = both + (1 - half << order)
    zone.head = _Marks(page, buddy, after > 0 if half == 0 else page >= 1 << order)
    return _Block(zone, page, buddy, both, order)


def _in_its_own_zone(heap: Any, given: Given) -> Any:
    """The zone is the heap's."""
    order, half, page = int(given("order", 0, 63)), int(given("half", 0, 1)), given("page", 0, _PAGES - 1)
    start = (given("both", 0, _PAGES - 1) << order + 1) + (half << order) - page
    pages = page + (1 << order) + given("after", 0, _PAGES - 1)
    return (start == heap._plan.start) & (pages == heap._plan.pages)


# ---- stories ---------------------------------------------------------------------------------


def _all_blocks(heap: Any, values: Values) -> str:
    """All memory is asked for in blocks of one order; the first one is freed, and asked for again."""
    order = values.get("order", 0)
    size, count = heap._page_size << order, (heap._plan.pages >> order) + 1
    taken = [f"{name} = alloc {size}" for name in _NAMES[:count]]
    return "\n".join([*taken, "free a", f"zz = alloc {size}"])


def _two_blocks(heap: Any, values: Values) -> str:
    """Two blocks of one order, which are buddies, are taken and given back."""
    size = heap._page_size << values["order"]
    return f"a = alloc {size}\nb = alloc {size}\nfree a\nfree b"


def _one_of_two(heap: Any, values: Values) -> str:
    """Of two blocks that are buddies the first one is given back."""
    size = heap._page_size << values["order"]
    return f"a = alloc {size}\nb = alloc {size}\nfree a\nc = alloc {2 * size}"


def _all_freed(heap: Any, values: Values) -> str:
    """All memory is taken in blocks of one order, and given back."""
    order = values["order"] if "order" in values else heap._plan.orders - 2 + values["longest"]
    pages = heap._plan.pages
    names = _NAMES[: pages >> order]
    taken = [f"{name} = alloc {heap._page_size << order}" for name in names]
    return "\n".join([*taken, *(f"free {name}" for name in names)])


def _last_then_first(heap: Any, values: Values) -> str:
    """All memory is taken page by page; two pages are given back: one that the block's buddy is mistaken for, and it.

    An index below 0 counts from the zone's end.
    """
    pages, start = heap._plan.pages, heap._plan.start
    taken = [heap.alloc(heap._page_size) >> heap._shift for _ in range(pages)]
    page = values["page"]
    buddy = (page + start ^ 1 << values["order"]) - start
    last, first = _NAMES[taken.index(buddy % pages)], _NAMES[taken.index(page)]
    lines = [f"{name} = alloc {heap._page_size}" for name in _NAMES[:pages]]
    return "\n".join([*lines, f"free {last}", f"free {first}"])


# ---- orders ----------------------------------------------------------------------------------


def _served(heap: Any, given: Given) -> Any:
    """The request is none that is refused."""
    return given("size", 1, _MASK) < heap.contract.largest


class _Asked:
    """Stands where the zone is: notes the order that is asked for."""

    order: Any = None

    def rmqueue(self, order: Any) -> int:
        self.order = order
        return 0


@theorem(
    "buddy", "A request gets the least order whose block holds it, whatever its size, and nothing wraps around.",
    kernels="Buddy.alloc: get_order", targets=_TARGETS, trace=one_request,
    controls=(Control(WRONG + "OrderOfOneByteLess", _served), Control(WRONG + "OrderOfOneByteMore", _served)),
    law="big-enough",
    bound="every size of the word, as if a block could be as long; a longer one is refused before",
)  # fmt: skip
def holds_the_request(heap: Any, given: Given) -> Any:
    size = given("size", 1, _MASK)
    asked = heap._only = _Asked()
    heap._largest = _MASK  # no size is refused here
    heap.alloc(size)
    block = heap._page_size << asked.order
    return (block >= size) & ((block < 2 * size) | (asked.order == 0))


@theorem(
    "buddy", "A size above the longest block is refused, and one up to it is looked for in the zone.",
    kernels="Buddy.alloc", targets=_TARGETS, trace=one_request,
    controls=(WRONG + "refuses_the_longest",), law="no-spurious-refusal",
)  # fmt: skip
def refuses_what_is_too_long(heap: Any, given: Given) -> Any:
    size, top = given("size", 0, _MASK), heap._only.top
    asked = heap._only = _Asked()
    heap.alloc(size)
    if asked.order is None:
        return (size == 0) | (size > heap._page_size << top)
    return (size > 0) & (asked.order >= 0) & (asked.order <= top)


# ---- merging ---------------------------------------------------------------------------------


def _freed(heap: Any, given: Given) -> tuple[_Block, bool]:
    """A block that was freed while its buddy had any mark; should they merge?"""
    block = _block(heap, given, int(given("order", 0, heap._only.orders - 2)))
    head, mark = block.zone.head, given("mark", -heap._only.orders, heap._only.orders)
    head.mark = mark
    block.zone.free_one_page(block.page, block.order)
    return block, bool(head.inside) and bool(mark == block.order + 1)


@theorem(
    "buddy",
    "A freed block merges with the other half of the block twice as long, if that is free and in the zone, and else "
    "not.",
    kernels="Zone.free_one_page: buddy_of, merged", targets=_ORDERS, trace=_two_blocks,
    controls=(
        WRONG + "merges_upward_only", Control(WRONG + "merges_to_the_upper", trace=_all_freed),
        Control("buddy+B14", trace=_one_of_two),
        Control("buddy+B03,pages=7,start=1", _in_its_own_zone, _last_then_first),
        "buddy+B08", "buddy+LW13,pages=64",
    ),
    bound="every zone in 2**40 page frames, every block in it of orders 0 to 2", law="coalesced",
)  # fmt: skip
def merges_with_its_buddy(heap: Any, given: Given) -> Any:
    (zone, page, buddy, both, order), merges = _freed(heap, given)
    if not merges:
        return _same(zone.taken, ()) & _same(zone.listed, ((page, order),))
    return _same(zone.taken, ((buddy, order),)) & _same(zone.listed, ((both, order + 1),))


def _same(seen: list[tuple[Any, Any]], wanted: tuple[tuple[Any, Any], ...]) -> Any:
    """Are these the same pairs?"""
    if len(seen) != len(wanted):
        return False
    alike: Any = True
    for (page, order), (other, its) in zip(seen, wanted, strict=True):
        alike = (page == other) & (order == its) & alike
    return alike


@theorem(
    "buddy", "A buddy's buddy is the block itself; the two are apart, and adjacent.",
    kernels="Zone.free_one_page: buddy_of", targets=_ORDERS, trace=_two_blocks,
    controls=(WRONG + "merges_upward_only", WRONG + "merges_with_the_next"),
    bound="every zone in 2**40 page frames, every block in it of orders 0 to 2", law="coalesced",
)  # fmt: skip
def a_buddys_buddy(heap: Any, given: Given) -> Any:
    first, page, other, _, order = _block(heap, given, int(given("order", 0, heap._only.orders - 2)))
    given.assume(first.head.inside)
    first.head.mark = order + 1
    first.free_one_page(page, order)
    if len(first.taken) != 1:
        return False
    buddy = first.taken[0][0]
    second = _block(heap, given, order).zone
    second.head = _Marks(other, page, True)
    second.head.mark = order + 1
    second.free_one_page(buddy, order)
    apart = (buddy == page + (1 << order)) | (page == buddy + (1 << order))
    return apart & _same(second.taken, ((page, order),))


class _AllFree:
    """Marks: whatever page is looked at begins a free block of the order that is looked for."""

    def __init__(self, order: int) -> None:
        self.order = order

    def __getitem__(self, page: Any) -> int:
        self.order += 1
        return self.order

    def __setitem__(self, page: Any, mark: Any) -> None:
        pass


@theorem(
    "buddy", "Merging ends at the highest order, even though the buddy is free.",
    kernels="Zone.free_one_page", targets=_TARGETS, trace=_all_freed, controls=("buddy+B09,pages=64,orders=4",),
    bound="every zone in 2**40 page frames, every block of the highest order and of the one below", law="returns",
)  # fmt: skip
def merges_up_to_the_longest(heap: Any, given: Given) -> Any:
    top = heap._plan.orders - 1
    order = top - 1 + int(given("longest", 0, 1))
    zone, page, buddy, both, _ = _block(heap, given, order)
    zone.top, zone.head = heap._only.top, _AllFree(order)
    zone.free_one_page(page, order)
    outside = (buddy < 0) | (buddy + (1 << order) > zone.pages)
    if order == top:
        return _same(zone.listed, ((page, order),))
    return _same(zone.listed, ((both, top),)) | (outside & _same(zone.listed, ((page, order),)))


@theorem(
    "buddy", "A freed block adds its pages to the count of free ones, whether or not it merges.",
    kernels="Zone.free_one_page", targets=_ORDERS, trace=_two_blocks, controls=("buddy+B17",),
    bound="every zone in 2**40 page frames, every block in it of orders 0 to 2", law="counters",
)  # fmt: skip
def counts_what_is_freed(heap: Any, given: Given) -> Any:
    block, _ = _freed(heap, given)
    return block.zone.free_pages == 1 << block.order


# ---- splitting -------------------------------------------------------------------------------


@theorem(
    "buddy", "A request takes the shortest block that is long enough, and lists all halves of it that are left.",
    kernels="Zone.rmqueue, expand: upper_half", targets=("buddy,orders=4", "buddy,orders=5"),
    trace=_all_blocks,
    controls=(
        "buddy+G15,pages=64,orders=4", "buddy+G21,pages=64,orders=4",
        Control(WRONG + "lists_the_lower_half,pages=64,orders=4", trace=_two_blocks),
    ),
    bound="every place of the block found in 2**40 page frames, every order, with any lists filled; up to 5 orders",
    law="no-spurious-refusal",
)  # fmt: skip
def splits_the_shortest(heap: Any, given: Given) -> Any:
    own, zone = heap._only, _watched(heap)
    zone.orders, zone.top, zone.pages, zone.free_pages = own.orders, own.top, own.pages, own.pages
    filled, order = given("filled", 0, (1 << own.orders) - 1), int(given("order", 0, own.top))
    page, number = given("page", 0, own.pages - 1), given("number", 0, _PAGES - 1)
    found = next((one for one in range(order, own.orders) if filled >> one & 1 == 1), 0)
    zone.start = (number << found) - page  # so that the block found is aligned
    given.assume((zone.start >= 0) & (page + (1 << found) <= own.pages))
    zone.head, zone._next = Cells(own.pages), Cells(own.pages + own.orders)
    for one in range(own.orders):  # an empty ring is its own next
        ring = own.pages + one
        zone._next[ring] = ring - (ring - page & -(filled >> one & 1))
    if not found and not filled >> order & 1:
        return zone.rmqueue(order) < 0
    halves = tuple((page + (1 << one), one) for one in range(found - 1, order - 1, -1))
    answer = zone.rmqueue(order)
    marked = (zone.head[page] == -(order + 1)) & (zone.free_pages == own.pages - (1 << order))
    other = given("other", 0, own.pages - 1)  # any page that begins no block: no mark
    begins = other == page
    for half, _ in halves:
        begins = begins | (other == half)
    blank = implies(not_so(begins), zone.head[other] == 0)
    return (answer == page) & _same(zone.taken, ((page, found),)) & _same(zone.listed, halves) & marked & blank


# ---- watermarks ------------------------------------------------------------------------------


@theorem(
    "buddy", "A request that a zone lets pass leaves it at least its watermark, and with just that it passes.",
    kernels="Buddy._zone_watermark_ok",
    targets=("buddy,pages=16,nodes=2,dma=4,min_free=4", "buddy,pages=64,nodes=2,dma=8,min_free=8,ratio=4"),
    trace=lambda heap, values: "\n".join(f"{name} = alloc {heap._page_size}" for name in _NAMES[: heap._plan.pages]),
    controls=("buddy+LW03,pages=16,nodes=2,dma=4,min_free=4",), law="must-refuse",
    bound="2**40 pages, every watermark, every order; whether a list is filled is left open",
)  # fmt: skip
def leaves_the_watermark(heap: Any, given: Given) -> Any:
    zone = heap._zones[0]
    free, mark, order = given("free", 0, _PAGES), given("mark", 0, _PAGES), int(given("order", 0, zone.top))
    zone.free_pages, zone.nr_free = free, [given("filled", 0, 1)] * zone.orders
    if heap._zone_watermark_ok(zone, order, mark):
        return free - (1 << order) >= mark
    return (free - (1 << order) < mark) | ((order > 0) & (given("filled", 0, 1) == 0))
