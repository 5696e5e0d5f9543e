"""Theorems about xvmalloc: limits of sizes, the list that a block is filed on, splits, names of places.

The pool's own methods run.  Header fields, list heads and bitmaps are replaced by cells (see ``cells``), so
that a page may hold any blocks; what comes behind the arithmetic is replaced by a note of what was asked of it.

>>> from heaplaw.impls.xvmalloc import Xvmalloc
>>> from heaplaw.properties.proofs.theorems import find
>>> find("xvmalloc/finds-what-fits").holds_for(Xvmalloc(), {"size": 36, "block": 40})
True
"""

from typing import Any

from heaplaw.protocol import Refusal

from .cells import Cells
from .theorems import WRONG, Control, Given, Values, one_request, theorem
from .words import implies

_TARGETS = (  # the longest pages are those whose bitmaps' bitmap is a word
    "xvmalloc,pages=4,word=32", "xvmalloc,pages=4,word=32,align=8", "xvmalloc,pages=4,word=32,page_size=8192",
    "xvmalloc,pages=4,word=64", "xvmalloc,pages=4,word=64,align=8", "xvmalloc,pages=4,word=64,page_size=32768",
)  # fmt: skip
_PAGES_OF_4096 = tuple(target for target in _TARGETS if "page_size" not in target)
_PREV_FREE = 2  # flag in a header's second field
_NONE = -1
_LINKS = 2  # bytes of an offset in a link


class _Heads(Cells):
    """List heads that note which one was written last."""

    __slots__ = ("last",)

    def __init__(self, length: int) -> None:
        super().__init__(length, _NONE)
        self.last: Any = _NONE

    def __setitem__(self, at: Any, value: Any) -> None:
        super().__setitem__(at, value)
        self.last = at


class _Links:
    """In the place of a Struct: links to pages are cells."""

    def __init__(self) -> None:
        self._pages = Cells(1 << 20)

    def pack_into(self, _: Any, at: Any, page: Any) -> None:
        self._pages[at] = page

    def unpack_from(self, _: Any, at: Any) -> tuple[Any]:
        return (self._pages[at],)


def _size(heap: Any, given: Given) -> Any:
    """Any number that the machine's word holds."""
    return given("size", 0, (1 << heap._bit_mask + 1) - 1)


def _asked(heap: Any, given: Given) -> tuple[Any, Any, list[Any]]:
    """(size, answer, payloads that were looked for) of a request that finds nothing, of any size."""
    looked: list[Any] = []

    def find(wanted: Any) -> int:
        looked.append(wanted)
        return _NONE

    heap._find_block, heap._grow_pool = find, lambda: False
    size = _size(heap, given)
    return size, heap.alloc(size), looked


def _payload(heap: Any, given: Given, name: str, least: int = 32) -> Any:
    """Payload of a block: a multiple of the header, up to a whole page."""
    size = given(name, least, heap._whole)
    given.assume(size & (heap._header - 1) == 0)
    return size


def _filed(heap: Any, *sizes: Any) -> list[Any]:
    """A pool whose free blocks have these payloads; the numbers of the lists that it puts them on."""
    heap._freelist, heap._slbitmap = _Heads(len(heap._freelist)), Cells(len(heap._slbitmap))
    heap._flbitmap = 0
    heap._set_before = heap._set_after = lambda block, other: None
    lists = []
    for number, size in enumerate(sizes):
        heap._insert_block(number * heap._page_size, size)
        lists.append(heap._freelist.last)
    return lists


# ---- stories ---------------------------------------------------------------------------------


def _one_free_block(heap: Any, values: Values) -> str:
    """A page is taken but for one block of ``block`` bytes, and a rest too short to matter; then the request."""
    block, header, whole = values["block"], heap._header, heap._whole
    rest = whole - header - block - 40  # which leaves at most 40 bytes behind it
    return f"a = alloc {block}\nb = alloc {rest}\nfree a\nc = alloc {values['size']} atomic"


def _room_for_it(heap: Any, given: Given) -> Any:
    """The request is longer than what the story leaves over, and the block short enough for the story."""
    block, size = given("block", 32, heap._whole), _size(heap, given)
    return (size > 64) & (block < heap._whole // 4) & (size < heap._whole // 4)


def _cut_and_freed(heap: Any, values: Values) -> str:
    """Of a page a block of ``have`` is free, is cut to ``wanted``; then what stands behind it is freed."""
    have, wanted = values["have"], values["wanted"]
    return f"a = alloc {have}\nb = alloc 8\nfree a\nc = alloc {wanted}\nfree b\nfree c"


def _findable(heap: Any, given: Given) -> Any:
    """A block that a search for ``wanted`` finds: its size begins a list, and both are short."""
    have, wanted = given("have", 0, heap._whole), given("wanted", 0, heap._whole)
    place = given("place", 0, heap._offset_mask)
    return (have & 7 == 0) & (have >= 40) & (have < 256) & (wanted >= 1) & (wanted + 8 <= have) & (place == 0)


def _exactly_findable(heap: Any, given: Given) -> Any:
    have, place = given("have", 0, heap._whole), given("place", 0, heap._offset_mask)
    return (have & 7 == 0) & (have >= 40) & (have < 256) & (place == 0)


def _both_filed(heap: Any, values: Values) -> str:
    """A page of each, of which what is left is filed; then they are filed themselves."""
    return f"a = alloc {values['block']}\nb = alloc {values['longer']}\nfree a\nfree b"


def _both_served(heap: Any, given: Given) -> Any:
    return given("longer", 32, heap._whole) <= heap.contract.largest


def _three_on_a_list(heap: Any, values: Values) -> str:
    """Three free blocks of one list, of which that in the middle is merged with another."""
    blocks = "\n".join(f"{name} = alloc {size}" for name, size in zip("abcdef", 3 * (64, 8), strict=True))
    return f"{blocks}\nfree a\nfree c\nfree e\nfree b"


# ---- sizes -----------------------------------------------------------------------------------


@theorem(
    "xvmalloc", "A payload is looked for that holds the request, and exceeds it by less than a header.",
    kernels="alloc, _padded", targets=_TARGETS, trace=one_request,
    controls=(WRONG + "PadsByMasking",), law="big-enough",
)  # fmt: skip
def looks_for_enough(heap: Any, given: Given) -> Any:
    size, _, looked = _asked(heap, given)
    given.assume(bool(looked))
    wanted, header = looked[0], heap._header
    return (wanted >= size) & (wanted - size < header) & (wanted & (header - 1) == 0) & (wanted <= heap._whole)


@theorem(
    "xvmalloc", "A size within the limits is looked for, and any other is refused before it is rounded.",
    kernels="alloc", targets=_TARGETS, trace=one_request, controls=(WRONG + "LimitsTheRounded",), law="must-refuse",
)  # fmt: skip
def refuses_the_rest(heap: Any, given: Given) -> Any:
    size, answer, looked = _asked(heap, given)
    fits = (size >= 1) & (size <= heap.contract.largest)
    return fits if looked else implies(fits, False) & (answer in (Refusal.INVALID, Refusal.TOO_BIG))


@theorem(
    "xvmalloc", "What is not refused is found on a page that is one free block.",
    kernels="alloc, _padded, _find_block: search_index, insert_index", targets=_TARGETS, trace=one_request,
    controls=("xvmalloc@2.6.33,pages=4", "xvmalloc@2.6.33,pages=4,word=32"), law="limits-honest",
)  # fmt: skip
def limits_are_honest(heap: Any, given: Given) -> Any:
    find = heap._find_block
    _, _, looked = _asked(heap, given)
    given.assume(bool(looked))
    _filed(heap, heap._whole)
    return find(looked[0]) >= 0


@theorem(
    "xvmalloc", "A free takes back as many bytes as the request took.",
    kernels="_padded, _restored_size", targets=_TARGETS,
    trace=lambda heap, values: one_request(heap, values) + "\nfree a\ndrain",
    controls=("xvmalloc+XV04,pages=4",), law="returns",
)  # fmt: skip
def takes_back_what_it_gave(heap: Any, given: Given) -> Any:
    size, _, looked = _asked(heap, given)
    given.assume(bool(looked))
    heap._fields = Cells(heap._page_size >> 1)
    heap._fields[0] = size
    return heap._restored_size(0) == looked[0]


# ---- lists -----------------------------------------------------------------------------------


@theorem(
    "xvmalloc", "A block is filed inside the table, and a longer one on no earlier list.",
    kernels="_insert_block: insert_index", targets=_TARGETS, trace=_both_filed,
    controls=(Control(WRONG + "files_from_nought,pages=4", _both_served),), law="returns",
)  # fmt: skip
def files_in_order(heap: Any, given: Given) -> Any:
    block, more = _payload(heap, given, "block"), _payload(heap, given, "longer")
    given.assume(block <= more)
    one, two = _filed(heap, block)[0], _filed(heap, more)[0]
    return (one >= 0) & (one <= two) & (two < len(heap._freelist))


@theorem(
    "xvmalloc", "On the list where a search begins, and on later ones, no block is smaller than the request.",
    kernels="_insert_block, _find_block: insert_index, search_index", targets=_TARGETS, trace=_one_free_block,
    controls=(Control(WRONG + "SearchesWhereItFiles,pages=4", _room_for_it),), law="returns",
)  # fmt: skip
def finds_no_smaller(heap: Any, given: Given) -> Any:
    wanted, block = _wanted(heap, given), _payload(heap, given, "block")
    (filed,) = _filed(heap, block)
    ones = (1 << heap._bit_mask + 1) - 1  # every list has a block: a search finds the one where it begins
    heap._flbitmap, heap._slbitmap = (1 << len(heap._slbitmap)) - 1, Cells(len(heap._slbitmap), ones)
    found = heap._find_block(wanted)
    return True if found < 0 else implies(found <= filed, block >= wanted)


@theorem(
    "xvmalloc", "A search finds a block that is a list's step longer than the request, or whose size begins its list.",
    kernels="_insert_block, _find_block: insert_index, search_index", targets=_PAGES_OF_4096, trace=_one_free_block,
    controls=(Control(WRONG + "PassesExactSizes,pages=4", _room_for_it),), law="no-spurious-refusal",
)  # fmt: skip
def finds_what_fits(heap: Any, given: Given) -> Any:
    wanted, block = _wanted(heap, given), _payload(heap, given, "block")
    given.assume((block >= wanted + 8 - heap._header) | ((block >= wanted) & (block & 7 == 0)))
    _filed(heap, block)
    return heap._find_block(wanted) >= 0


@theorem(
    "xvmalloc", "A list that runs empty hides no block of another list.",
    kernels="_clear_bits, _insert_block, _find_block", targets=_TARGETS,
    trace=lambda heap, values: "a = alloc 64\nb = alloc 8\nc = alloc 128\nd = alloc 8\nfree a\nfree c\ne = alloc 64",
    controls=("xvmalloc+XV05,pages=4",), law="bitmap",
)  # fmt: skip
def hides_no_other_list(heap: Any, given: Given) -> Any:
    emptied, block = _payload(heap, given, "emptied"), _payload(heap, given, "block")
    first, second = _filed(heap, emptied, block)
    given.assume(first != second)
    heap._clear_bits(first)
    return heap._find_block(block & -8) >= 0


def _wanted(heap: Any, given: Given) -> Any:
    size = _size(heap, given)
    given.assume((size >= 1) & (size <= heap.contract.largest))
    return heap._padded(size)


# ---- splits ----------------------------------------------------------------------------------


def _cut(heap: Any, given: Given) -> tuple[Any, Any, Any, list[tuple[Any, Any]]]:
    """(place, payload before, payload wanted, rests that were listed) of a free block that was cut."""
    header, mask = heap._header, heap._offset_mask
    place, have, wanted = given("place", 0, mask), given("have", 0, heap._whole), given("wanted", 0, heap._whole)
    given.assume((place | have | wanted) & (header - 1) == 0)
    given.assume((place + header + have <= heap._page_size) & (wanted <= have))
    listed: list[tuple[Any, Any]] = []
    heap._insert_block = lambda block, size: listed.append((block, size))
    heap._fields = Cells((heap._page_size >> 1) + 4, _PREV_FREE)  # what stands behind knows that a free one was before
    heap._fields[place >> 1] = have
    heap._split_block(place, wanted)
    return place, have, wanted, listed


@theorem(
    "xvmalloc", "What a split leaves fills its block to the end, and is listed only where it has room for links.",
    kernels="_split_block, _is_listed", targets=_TARGETS, trace=_cut_and_freed,
    controls=(Control("xvmalloc+XV03,pages=4", _findable),), law="returns",
)  # fmt: skip
def splits_leave_room(heap: Any, given: Given) -> Any:
    place, have, wanted, listed = _cut(heap, given)
    links = heap._offsets_at + 2 * _LINKS - heap._header  # bytes of payload that a listed block needs
    if have == wanted:
        return not listed
    header, rest = heap._header, place + heap._header + wanted
    left = heap._fields[rest >> 1]
    filled = (left >= 0) & (rest + header + left == place + header + have)
    return filled & ((listed[0][0] == rest) & (left >= links) if listed else left < 32)


@theorem(
    "xvmalloc", "After a split the block behind knows where the free one before it begins, or that there is none.",
    kernels="_split_block, _exact_fit, _after_split, _set_blockprev", targets=_TARGETS, trace=_cut_and_freed,
    controls=(
        Control("xvmalloc+XV01,pages=4", _findable),
        Control("xvmalloc+XV02,pages=4", _exactly_findable),
    ), law="hint-exact",
)  # fmt: skip
def tells_the_block_behind(heap: Any, given: Given) -> Any:
    place, have, wanted, _ = _cut(heap, given)
    behind = place + heap._header + have
    given.assume(behind < heap._page_size)
    tag = heap._fields[(behind >> 1) + 1]
    before = place + heap._header + wanted
    if have == wanted:
        return tag & _PREV_FREE == 0
    return (tag & _PREV_FREE != 0) & (tag & ~3 == before)


# ---- places ----------------------------------------------------------------------------------


@theorem(
    "xvmalloc", "A link leads back to the block that was linked, of any page, or to none.",
    kernels="_set_before, _before, _set_after, _after", targets=_TARGETS,
    trace=_three_on_a_list,
    controls=(WRONG + "PagesFromZero,pages=4",), law="free-list",
    bound="pages up to as many as a word can count but one, any place in them",
)  # fmt: skip
def links_lead_back(heap: Any, given: Given) -> Any:
    bits, shift = heap._bit_mask + 1, heap._page_shift
    page, offset = given("page", 0, (1 << bits - shift) - 2), given("offset", 0, heap._offset_mask)
    given.assume(offset & (heap._header - 1) == 0)
    place = (page << shift) + offset
    heap._page_link, heap._fields = _Links(), Cells(heap._page_size)
    heap._set_before(0, place)
    heap._set_after(0, _NONE)
    one = (heap._before(0) == place) & (heap._after(0) == _NONE)
    heap._set_after(0, place)
    heap._set_before(0, _NONE)
    return one & (heap._after(0) == place) & (heap._before(0) == _NONE)
