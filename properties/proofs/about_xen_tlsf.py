"""Theorems about Xen's xmalloc_tlsf: sizes with padding, whole pages, lists, splits, padded handles.

The heap's own methods run.  Words of memory, list heads and bitmaps are replaced by cells (see ``cells``); what
comes behind the arithmetic is replaced by a note of what was asked of it.

>>> from heaplaw.impls.xen_tlsf import XenTlsf
>>> from heaplaw.properties.proofs.theorems import find
>>> find("xen-tlsf/pool-holds-the-padding").holds_for(XenTlsf(), {"size": 100, "align": 64})
True
"""

from collections.abc import Callable
from typing import Any

from .cells import Cells
from .segregated import filed, searched
from .theorems import WRONG, Control, Given, Values, one_request, theorem
from .words import implies

_TARGETS = tuple(f"xen-tlsf,pages=8,word={word},whole={whole}" for word in (32, 64) for whole in ("order", "trim"))
_TRIM = tuple(target for target in _TARGETS if "trim" in target)
_POOLS = ("xen-tlsf,pages=8,word=32", "xen-tlsf,pages=8,word=64", "xen-tlsf,pages=2,word=64,page_size=65536")
_FREE, _FLAGS = 1, 7  # in a size word
_MOST = 1 << 30  # bytes: the original's blocks stay below
_MEMORY = 1 << 40  # words of memory that cells stand for


def _request(heap: Any, given: Given) -> tuple[Any, Any]:
    """(size, alignment): any number of the word, any power of two of it."""
    size, align = given("size", 0, heap._mask), given("align", 1, heap._mask)
    given.assume(align & (align - 1) == 0)
    return size, align


def _noted(heap: Any, size: Any, align: Any) -> tuple[list[Any], list[Any]]:
    """(payloads looked for in the pool, orders of pages asked for) by a request that gets nothing."""
    payloads: list[Any] = []
    orders: list[Any] = []

    def note(asked: list[Any], nothing: Any) -> Callable[[Any], Any]:
        def noting(value: Any) -> Any:
            asked.append(value)
            return nothing

        return noting

    heap._take, heap._take_pages = note(payloads, 0), note(orders, None)
    heap._grow = lambda payload: False
    heap.alloc(size, align)
    return payloads, orders


def _padding(heap: Any, align: Any) -> Any:
    """The most bytes that an alignment may cost in front of an object."""
    return max(align, heap._unit) - heap._unit


# ---- stories ---------------------------------------------------------------------------------


def _aligned_and_freed(heap: Any, values: Values) -> str:
    return f"a = alloc 1 align {values['align']}\nfree a"


def _grown_in_place(heap: Any, values: Values) -> str:
    """An object behind padding, in a block of ``have`` bytes, and what it is to become."""
    size = values["have"] - values["align"] + heap._unit
    return f"a = alloc {size} align {values['align']}\nrealloc a {values['size']}"


def _cut(heap: Any, values: Values) -> str:
    """A block of ``have`` bytes, free between others, is cut to ``size``."""
    return f"a = alloc {values['have']}\nb = alloc 1\nfree a\nc = alloc {values['size']}"


def _one_free_block(heap: Any, values: Values) -> str:
    """The first page is taken but for one block of ``block`` bytes; then the request."""
    block, region = values["block"], heap._page_size - 2 * heap._overhead
    rest = heap._g.list_start(region - block - heap._overhead) - 128  # which leaves less than is asked for
    return f"a = alloc {block}\nb = alloc {rest}\nfree a\nc = alloc {values['payload']}"


def _filed_above(heap: Any, values: Values) -> str:
    """The shorter one is free, the longer is asked for."""
    return f"a = alloc {values['block']}\nb = alloc 1\nfree a\nc = alloc {values['longer']}\nfree c"


def _both_short(heap: Any, given: Given) -> Any:
    return given("longer", heap._unit, _MOST - heap._unit) <= 1024


def _uneven(heap: Any, given: Given) -> Any:
    size = given("size", 1, heap._mask)
    return (size > 1024) & (size < 2048)


def _small(heap: Any, given: Given) -> Any:
    """Block and request fit into a page that has others, and the request begins a list."""
    block, payload = given("block", heap._unit, _MOST - heap._unit), given("payload", heap._unit, heap._page_size)
    return (block < 1600) & (payload < 1600) & (block >= 1024) & (payload >= 1024)


def _unpooled(heap: Any, given: Given) -> Any:
    """No page of the pool has room for it, though the request is below a page."""
    size, region = given("size", 0, heap._mask), heap._page_size - 2 * heap._overhead
    return (given("align", 1, heap._mask) == 1) & (size > heap._g.list_start(region)) & (size <= region)


def _two_pages(heap: Any, given: Given) -> Any:
    size = given("size", 0, heap._mask)
    return (given("align", 1, heap._mask) == 1) & (size > heap._page_size) & (size <= 2 * heap._page_size)


def _aligned_pages(heap: Any, given: Given) -> Any:
    """A page or so, aligned to four: with two pages taken before it, a run of its own length lies elsewhere."""
    size = given("size", 0, heap._mask)
    return (given("align", 1, heap._mask) == 4 * heap._page_size) & (size <= 2 * heap._page_size)


def _list_starts(heap: Any, given: Given) -> Any:
    """Short blocks, whose lists have but one size."""
    return given("have", heap._unit, heap._page_size - heap._unit) <= 128


def _one_line(heap: Any, given: Given) -> Any:
    align, place = given("align", 1, 1 << 31), given("place", 2, 1 << 20)
    return (place == 2) & (align >= 2 * heap._unit) & (align <= 512)


def _first_block(heap: Any, given: Given) -> Any:
    """The first block of the first page, short and behind padding."""
    place, align = given("place", 2, 1 << 20), given("align", 1, 1 << 31)
    return (place == 2) & (align > heap._unit) & (given("have", heap._unit, heap._page_size - heap._unit) < 128)


# ---- sizes -----------------------------------------------------------------------------------


@theorem(
    "xen-tlsf", "A payload that is looked for in the pool holds the request and the padding of its alignment.",
    kernels="_xmalloc, _pool_alloc: round_up", targets=_TARGETS, trace=one_request,
    controls=("xen-tlsf+XT01,pages=8", "xen-tlsf+XT01,pages=8,word=32", "xen-tlsf@3.4,pages=8"), law="big-enough",
)  # fmt: skip
def pool_holds_the_padding(heap: Any, given: Given) -> Any:
    size, align = _request(heap, given)
    payloads, _ = _noted(heap, size, align)
    given.assume(bool(payloads))
    (payload,) = payloads
    return (payload >= size + _padding(heap, align)) & (payload & (heap._unit - 1) == 0)


@theorem(
    "xen-tlsf", "What the pool does not serve goes to whole pages, no fewer than it fits in and no run twice as long.",
    kernels="_xmalloc, _whole_pages, _whole_order: get_order", targets=_TARGETS, trace=one_request,
    controls=(
        Control("xen-tlsf+T57,pages=8", _unpooled),
        Control("xen-tlsf@3.4,pages=8", lambda heap, given: given("align", 1, heap._mask) <= 16),
        Control(WRONG + "OrderOfTheSize,pages=8", _two_pages),
    ), law="big-enough",
)  # fmt: skip
def pages_hold_the_rest(heap: Any, given: Given) -> Any:
    size, align = _request(heap, given)
    given.assume(size >= heap._least_size(align))
    _, orders = _noted(heap, size, align)
    if len(orders) != 1:
        return False
    pages = heap._page_size << orders[0]
    needed = max(align, size) if heap._trim else size + _padding(heap, align) + heap._overhead
    return (pages >= needed) & ((orders[0] == 0) | (pages < 2 * needed))


@theorem(
    "xen-tlsf", "Trimmed pages begin where the alignment asked for allows.",
    kernels="_whole_order: get_order", targets=_TRIM,
    trace=lambda heap, values: "a = alloc 5000\n" + one_request(heap, values).replace("a =", "b ="),
    controls=(Control("xen-tlsf+T56,pages=12,whole=trim", _aligned_pages),),
    law="aligned",
    bound="every value of the word; that a run of pages begins at a multiple of its length is the source's",
)  # fmt: skip
def pages_are_aligned(heap: Any, given: Given) -> Any:
    size, align = _request(heap, given)
    given.assume((size >= heap._page_size) & (align > heap._unit))
    _, orders = _noted(heap, size, align)
    return (heap._page_size << orders[0]) & (align - 1) == 0


# ---- lists -----------------------------------------------------------------------------------


def _wanted(heap: Any, given: Given) -> Any:
    """Any payload that can be looked for in a page."""
    payload = given("payload", heap._unit, heap._page_size)
    given.assume(payload & (heap._unit - 1) == 0)
    return payload


def _block(heap: Any, given: Given, name: str = "block") -> Any:
    block = given(name, heap._unit, _MOST - heap._unit)
    given.assume(block & (heap._unit - 1) == 0)
    return block


@theorem(
    "xen-tlsf", "A block is filed inside the table, and a longer one on no earlier list.",
    kernels="_insert: insert", targets=_POOLS, trace=_filed_above,
    controls=(Control(WRONG + "xen_drops_the_carry,pages=8", _both_short),), law="big-enough",
    bound="every block that the original takes",
)  # fmt: skip
def files_in_order(heap: Any, given: Given) -> Any:
    block, more = _block(heap, given), _block(heap, given, "longer")
    given.assume(block <= more)
    one, two = filed(heap, block, 2), filed(heap, more, 2)
    return (one >= 0) & (one <= two) & (two < len(heap._heads))


@theorem(
    "xen-tlsf", "On the list where a search begins, and on later ones, no block is smaller than the payload.",
    kernels="_insert, _search: insert, round_up, from_level", targets=_POOLS, trace=_one_free_block,
    controls=(Control(WRONG + "XenFilesTooHigh,pages=1", _small),), law="size-class",
    bound="every payload up to a page, every block that the original takes",
)  # fmt: skip
def finds_no_smaller(heap: Any, given: Given) -> Any:
    block, (found, on) = _block(heap, given), _searched(heap, given)
    return True if found < 0 else implies(found <= on, block >= _wanted(heap, given))


@theorem(
    "xen-tlsf", "The list of a block that is as large as a payload is no earlier than where its search begins.",
    kernels="_insert, _search: insert, round_up", targets=_POOLS, trace=_one_free_block,
    controls=(Control(WRONG + "XenPassesExactSizes,pages=1", _small),), law="no-spurious-refusal",
    bound="every payload up to a page that begins a list, every block that the original takes",
)  # fmt: skip
def finds_what_fits(heap: Any, given: Given) -> Any:
    payload, block = _wanted(heap, given), _block(heap, given)
    given.assume((heap._g.round_up(payload) == payload) & (block >= payload))
    found, on = _searched(heap, given)
    return (found >= 0) & (found <= on)


def _searched(heap: Any, given: Given) -> tuple[Any, Any]:
    """(list where a search begins, list that the block is filed on)."""
    return searched(heap, filed(heap, _block(heap, given), 2), _wanted(heap, given))


@theorem(
    "xen-tlsf", "What was freed can be had again: a payload begins its list, and is the least that does.",
    kernels="_pool_alloc: round_up", targets=_TARGETS, trace=one_request,
    controls=(Control(WRONG + "cuts_to_the_request,pages=8", _uneven),), law="geometry",
)  # fmt: skip
def begins_its_list(heap: Any, given: Given) -> Any:
    size = given("size", 1, heap._mask)
    payloads, _ = _noted(heap, size, 1)
    given.assume(bool(payloads))
    g, (payload,) = heap._g, payloads
    return (g.list_start(payload) == payload) & (payload - size < heap._unit + (payload >> g.sl))


# ---- blocks ----------------------------------------------------------------------------------


def _live(heap: Any, given: Given) -> tuple[Any, Any]:
    """(block, its payload): a live block anywhere, in memory that is cells."""
    block, have = given("place", 2, 1 << 20), given("have", heap._unit, heap._page_size - heap._unit)
    given.assume((block & 1 == 0) & (have & (heap._unit - 1) == 0))
    heap._words = Cells(_MEMORY)
    heap._words[block - 1] = have
    return block, have


def _aligned(heap: Any, given: Given) -> Any:
    align = given("align", 1, 1 << 31 if heap._mask >> 32 else 1 << 30)
    given.assume((align >= heap._unit) & (align & (align - 1) == 0))
    return align


@theorem(
    "xen-tlsf", "What a split leaves fills its block to the end, and has room for the links of a list.",
    kernels="_use", targets=_POOLS, trace=_cut,
    controls=(Control("xen-tlsf+T62,pages=8", _list_starts),), law="free-list",
    bound="every block up to a page",
)  # fmt: skip
def splits_leave_room(heap: Any, given: Given) -> Any:
    block, have = _live(heap, given)
    size = given("size", heap._unit, heap._page_size)
    given.assume((size & (heap._unit - 1) == 0) & (size <= have))
    heap._words[block - 1] = have | _FREE
    listed: list[tuple[Any, Any]] = []
    heap._insert = lambda rest, left: listed.append((rest, left))
    heap._use(block, size)
    kept = heap._words[block - 1] & ~_FLAGS
    if not listed:
        return (kept == have) & (have - size < 2 * heap._unit)
    ((rest, left),) = listed
    adjacent = rest << heap._bits == (block << heap._bits) + kept + heap._overhead
    return adjacent & (kept == size) & (kept + heap._overhead + left == have) & (left >= heap._g.least)


@theorem(
    "xen-tlsf", "A padded handle is aligned, within its block, and leads back to it.",
    kernels="_add_padding, _strip_padding", targets=_TARGETS, trace=_aligned_and_freed,
    controls=(Control(WRONG + "unmarked_padding,pages=8", _one_line),), law="geometry",
    bound="alignments up to 2**31, or 2**30 with words of 32 bits; any block of the first 2**20 words",
)  # fmt: skip
def padding_leads_back(heap: Any, given: Given) -> Any:
    (block, _), align = _live(heap, given), _aligned(heap, given)
    handle = heap._add_padding(block, align)
    pad = handle - (block << heap._bits)
    inside = (pad >= 0) & (pad <= align - heap._unit)
    return inside & (handle & (align - 1) == 0) & (heap._strip_padding(handle) == block)


class _Known:
    """In the place of the table of alignments: all objects have this one."""

    def __init__(self, align: Any) -> None:
        self._align = align

    def get(self, _: Any, __: Any) -> Any:
        return self._align

    def pop(self, _: Any, __: Any) -> None:
        """Nothing is kept."""


@theorem(
    "xen-tlsf", "An object that is resized in place is aligned and ends within its block.",
    kernels="_realloc, _add_padding, _strip_padding", targets=_TRIM, trace=_grown_in_place,
    controls=(
        Control("xen-tlsf+XT02,pages=12,whole=trim", _first_block),
        Control(WRONG + "grows_by_the_alignment,pages=12,whole=trim", _first_block),
    ), law="geometry", bound="every size of the word; objects of the pool with alignments up to a page",
)  # fmt: skip
def grows_within_its_block(heap: Any, given: Given) -> Any:
    (block, have), align = _live(heap, given), _aligned(heap, given)
    size = given("size", 1, heap._mask)
    given.assume((align < heap._page_size) & (have > align - heap._unit))
    start = block << heap._bits
    handle = heap._add_padding(block, align)
    given.assume((handle & (heap._page_size - 1) != 0) & (handle < start + have))
    heap._alignments, heap.alloc = _Known(align), lambda size, align: None
    stays = heap._realloc(handle, size)
    if stays is None:
        return size + align - heap._unit > have  # moved, since it might not fit
    return (stays & (align - 1) == 0) & (stays >= start) & (stays + size <= start + have)
