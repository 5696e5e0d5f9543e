"""Theorems about zbud: chunks of an object, two objects a page, handles, and the lists that are looked at.

The heap's own methods run over cells (see ``cells``) for the headers in its pages and its list heads.

>>> from heaplaw.properties.proofs.theorems import find
>>> find("zbud/buddies-apart").sentence
'The two objects of a page overlap neither each other nor the header, and neither leaves the page.'
"""

from types import SimpleNamespace
from typing import Any

from heaplaw.impls.zbud import _BUDDY, _COUNTS, _FIRST, _LAST, _LRU
from heaplaw.impls.zbud_promises import BUDDIED
from heaplaw.protocol import Refusal

from .cells import Cells
from .theorems import WRONG, Control, Given, Values, one_request, theorem
from .words import implies, not_so

_TARGETS = ("zbud", "zbud,page_size=16384", "zbud,page_size=1024,order=3")
_SMALL = ("zbud,page_size=256,order=2", "zbud,page_size=512,order=3")
_MASK = (1 << 64) - 1


def _opened(heap: Any) -> None:
    """Headers and list heads that may be anywhere; every list is empty."""
    heap._ints, heap._words = Cells(1 << 64), Cells(1 << 64)
    heap._head_next = Cells(heap._nchunks + 1, heap._lru_head)
    heap._head_prev = Cells(heap._nchunks + 1, heap._lru_head)


def _page(heap: Any, given: Given) -> Any:
    """Any page whose bytes have addresses."""
    return given("page", 0, (_MASK >> heap._chunk_shift + 6) - 1)


def _chunks(heap: Any, given: Given, name: str) -> Any:
    """Chunks of an object that the heap does not refuse."""
    return heap._size_to_chunks(given(name, 1, heap._max_size))


def _bud(given: Given) -> int:
    """The object behind the header, or the one at the end."""
    return _LAST if given("last", 0, 1) == 1 else _FIRST


def _two(heap: Any, values: Values) -> str:
    """An object, and another that may go beside it."""
    there, size = values.get("there", 1), values.get("size", 1)
    if not values.get("last", 0):
        return f"a = alloc {there}\nb = alloc {size}"
    return f"a = alloc 1\nb = alloc {there}\nfree a\nc = alloc {size}"


@theorem(
    "zbud", "A request has the fewest chunks that hold it, or is refused since it would leave no chunk of a page free.",
    kernels="alloc: _size_to_chunks", targets=_TARGETS, trace=one_request,
    controls=(
        Control("zbud+ZF07", trace=lambda heap, values: f"badalloc huge {values['size']} align 1"),
        WRONG + "zbud_rounds_down",
    ), law="bad-size-rejected",
)  # fmt: skip
def chunks_cover(heap: Any, given: Given) -> Any:
    size = given("size", 0, _MASK)
    asked: list[Any] = []
    heap._find_unbuddied = asked.append  # answers None: there is no page yet
    heap.source = SimpleNamespace(take=lambda order: None)
    refused = isinstance(heap.alloc(size), Refusal)
    fits = (size > 0) & (heap._chunk + size + heap._chunk <= heap._page_size)
    if refused:
        return not_so(fits)
    covered = asked[0] * heap._chunk
    return fits & (covered >= size) & (covered - size < heap._chunk)


def _one_there(heap: Any, given: Given) -> Any:
    """A page 0 with one object, at either end; that object's handle."""
    there = _chunks(heap, given, "there")
    bud = _bud(given)
    _opened(heap)
    heap._init_zbud_page(0)
    heap._ints[_COUNTS + bud] = there
    heap._enlist(0, heap._ints[_COUNTS], heap._ints[_COUNTS + 1])
    heap._list_add(_LRU, 0, heap._lru_head)
    return heap._encode_handle(0, bud)


@theorem(
    "zbud", "A search finds a page with one object where there is room for both, and nothing where there is not.",
    kernels="_enlist, _find_unbuddied", targets=_SMALL, trace=_two,
    controls=(WRONG + "zbud_searches_a_list_early,page_size=512,order=3",),
    law="disjoint", bound="pages of 4 and 8 chunks; every size of both objects, whichever end the first is at",
)  # fmt: skip
def finds_room(heap: Any, given: Given) -> Any:
    _one_there(heap, given)
    there, chunks = _chunks(heap, given, "there"), _chunks(heap, given, "size")
    room = chunks + there <= heap._nchunks
    return room if heap._find_unbuddied(chunks) == 0 else not_so(room)


def _first_of_two_chunks(heap: Any, given: Given) -> Any:
    """The object that is there begins its page, and has a chunk to overlap."""
    return (given("last", 0, 1) == 0) & (given("there", 1, heap._max_size) > heap._chunk)


@theorem(
    "zbud", "The two objects of a page overlap neither each other nor the header, and neither leaves the page.",
    kernels="alloc, _enlist, _encode_handle, _buddy_of", targets=_TARGETS, trace=_two,
    controls=(Control(WRONG + "zbud_counts_the_header_free", _first_of_two_chunks), "zbud+ZF07"), law="disjoint",
    bound="every size of both objects, whichever end the first is at; for the search see finds-room",
)  # fmt: skip
def buddies_apart(heap: Any, given: Given) -> Any:
    heads: list[Any] = []
    add = heap._list_add

    def noting(link: int, page: int, head: Any) -> None:
        heads.append(head)
        add(link, page, head)

    heap._list_add = noting
    old = _one_there(heap, given)
    index, size = heads[0] - heap._pages, given("size", 1, heap._page_size)
    heap._find_unbuddied = lambda chunks: 0 if chunks <= index and index < heap._nchunks else None
    heap.source = SimpleNamespace(take=lambda order: 1)
    handle = heap.alloc(size)
    if isinstance(handle, Refusal):
        return True
    ((_, start, length),) = heap.extents(handle)
    ((_, before, long),) = heap.extents(old)
    page, chunk = heap._page_size, heap._chunk
    own = (start >= page + chunk) & (start + length <= 2 * page)
    beside = (start >= chunk) & (start + length <= page) & ((start >= before + long) | (start + length <= before))
    return (length >= size) & (own | beside)


@theorem(
    "zbud", "A handle tells its page, and which of the two objects it is.",
    kernels="_encode_handle, _buddy_of", targets=_TARGETS, trace=_two,
    controls=(Control(WRONG + "zbud_forgets_the_header", lambda heap, given: _page(heap, given) == 0),),
    law="big-enough", bound="every page that has an address of 64 bits",
)  # fmt: skip
def handle_tells(heap: Any, given: Given) -> Any:
    _opened(heap)
    page, chunks = _page(heap, given), _chunks(heap, given, "size")
    bud = _bud(given)
    heap._ints[page * heap._page_ints + _COUNTS + bud] = chunks
    handle = heap._encode_handle(page, bud)
    told = heap._buddy_of(handle) == bud
    return told & (handle // heap._page_size == page) & (handle > 0) & (heap._length(handle) == chunks * heap._chunk)


@theorem(
    "zbud", "A page with one object stands on the list of its free chunks, one with two on that of none.",
    kernels="_enlist, _num_free_chunks", targets=_TARGETS, trace=_two,
    controls=(WRONG + "zbud_counts_the_header_free",), law="size-class",
)  # fmt: skip
def right_list(heap: Any, given: Given) -> Any:
    _opened(heap)
    one, other = _chunks(heap, given, "there"), given("other", 0, heap._nchunks)
    given.assume(one + other <= heap._nchunks)
    heads: list[Any] = []
    heap._list_add = lambda link, page, head: heads.append((link, head - heap._pages))
    heap._ints[_COUNTS], heap._ints[_COUNTS + 1] = one, other
    heap._enlist(0, one, other)
    ((link, index),) = heads
    free = heap._page_size - heap._chunk - one * heap._chunk
    single = (index > BUDDIED) & (index < heap._nchunks) & (index * heap._chunk == free)
    return (link == _BUDDY) & implies(other == 0, single) & implies(other > 0, index == BUDDIED)


@theorem(
    "zbud", "A search looks at no list that no page with room can stand on.",
    kernels="_find_unbuddied", targets=_TARGETS, trace=one_request, controls=("zbud+ZF06",), law="search-bounded",
    bound="empty lists, where a search is longest",
)  # fmt: skip
def searches_no_more(heap: Any, given: Given) -> Any:
    _opened(heap)
    chunks = _chunks(heap, given, "size")
    found = heap._find_unbuddied(chunks)
    with_room = heap._nchunks - chunks  # from as many free chunks to those of a page with an object of one
    return found is None and heap._probed <= with_room
