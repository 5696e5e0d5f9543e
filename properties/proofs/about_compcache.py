"""Theorems about compcache's chunk store: holes of any size, what is cut from them, and neighbours that merge.

The store's own methods run over chunks whose sizes are words.

>>> from heaplaw.properties.proofs.theorems import find
>>> find("compcache/refused-for-want").sentence
'An object is refused only if the free bytes do not add up to it, and then every hole is as it was.'
"""

from typing import Any

from heaplaw.impls.compcache import Chunk, ChunkHead
from heaplaw.protocol import Refusal

from .theorems import WRONG, Given, Values, one_request, theorem
from .words import implies

_TARGETS = ("compcache", "compcache,least=32", "compcache,ranges=1", "compcache,page_size=16384,ranges=64,least=16")
_TWO_PAGES = "pages=2,page_size=64"
_SMALL = (f"compcache,{_TWO_PAGES},ranges=1", f"compcache,{_TWO_PAGES},ranges=2,least=4")
_TWO_HOLES = "two holes of any size on pages of 64 bytes"


def _size(heap: Any, given: Given, name: str, most: int) -> Any:
    """Bytes of a chunk: a multiple of the least."""
    size = given(name, heap._least, most)
    given.assume(size & heap._least - 1 == 0)
    return size


# ---- requests and lists ----------------------------------------------------------------------


@theorem(
    "compcache", "A request has the fewest whole units that hold it, and is refused only if it exceeds a page.",
    kernels="alloc: align_up", targets=_TARGETS, trace=one_request,
    controls=(WRONG + "compcache_leaves_the_unit_out,least=32",), law="geometry",
)  # fmt: skip
def whole_units(heap: Any, given: Given) -> Any:
    size = given("size", 0, (1 << 64) - 1)
    asked: list[Any] = []
    heap._take_chunk = asked.append  # answers None: there is no chunk
    if isinstance(heap.alloc(size), Refusal):
        return (size == 0) | (size > heap._page_size)
    (need,), least = asked, heap._least
    return (size <= heap._page_size) & (need >= size) & (need - size < least) & (need & least - 1 == 0)


@theorem(
    "compcache", "A chunk has a list for its size, and a longer chunk never an earlier one.",
    kernels="_range_of", targets=_TARGETS, trace=one_request,
    controls=(WRONG + "compcache_ends_a_list_early,keep=0",), law="returns",
)  # fmt: skip
def list_of_its_size(heap: Any, given: Given) -> Any:
    size, width = given("size", 1, heap._page_size), heap._range
    index = heap._range_of(size)
    inside = (index >= 0) & (index < len(heap._lists))
    return inside & (size > index * width) & (size <= (index + 1) * width)


# ---- objects in holes ------------------------------------------------------------------------


def _two_holes(heap: Any, given: Given) -> list[Any]:
    """Two free chunks and no page to be had."""
    heap._lists = [Chunk(0, 0) for _ in heap._lists]
    heap._add_page = lambda: None
    holes = []
    for page, name in enumerate(("hole", "other")):
        hole = Chunk(page * heap._page_size, _size(heap, given, name, heap._page_size - heap._least))
        heap._insert_free(hole)
        holes.append(hole)
    return holes


def _fill_but_two(heap: Any, values: Values) -> str:
    """Two pages, full but for a hole at the start of each, then the request."""
    page = heap._page_size
    lines = [
        f"{one} = alloc {values[hole]}\n{rest} = alloc {page - values[hole]}"
        for one, rest, hole in (("a", "x", "hole"), ("b", "y", "other"))
    ]
    return "\n".join([*lines, "free a", "free b", f"c = alloc {values['size']}"])


def _is_listed(heap: Any, chunk: Any) -> bool:
    return any(one is chunk for _, one in _listed(heap))


def _listed(heap: Any) -> list[tuple[int, Any]]:
    return list(heap._listed())


@theorem(
    "compcache", "The pieces of an object add up to it, and with what is left of the holes to what they were.",
    kernels="alloc, _choose, _split", targets=_SMALL, trace=_fill_but_two,
    controls=(f"{WRONG}compcache_cuts_a_byte_long,{_TWO_PAGES},ranges=1",), law="geometry", bound=_TWO_HOLES,
)  # fmt: skip
def pieces_add_up(heap: Any, given: Given) -> Any:
    holes, size = _two_holes(heap, given), given("size", 1, heap._page_size)
    before = sum(hole.size for hole in holes)
    handle = heap.alloc(size)
    given.assume(handle is not None)
    pieces = list(heap._chunks(heap._slots[handle]))
    held, left = sum(piece.size for piece in pieces), sum(chunk.size for _, chunk in _listed(heap))
    so = (held >= size) & (held - size < heap._least) & (held + left == before)
    for piece in pieces:
        if (tail := piece.after) is not None:
            so = so & (tail.start == piece.start + piece.size) & (tail.size > 0)
    return so


@theorem(
    "compcache", "An object is refused only if the free bytes do not add up to it, and then every hole is as it was.",
    kernels="alloc, _choose, _undo", targets=_SMALL, trace=_fill_but_two,
    controls=(f"compcache+CC03,{_TWO_PAGES},ranges=4", f"compcache+T76,{_TWO_PAGES}"),
    law="refusal-pure", bound=_TWO_HOLES,
)  # fmt: skip
def refused_for_want(heap: Any, given: Given) -> Any:
    holes, size = _two_holes(heap, given), given("size", 1, heap._page_size)
    before = sum(hole.size for hole in holes)
    given.assume(heap.alloc(size) is None)
    if not all(hole.free and _is_listed(heap, hole) for hole in holes):
        return False
    return (sum(hole.size for hole in holes) == before) & (before < size + (-size & heap._least - 1))


# ---- neighbours ------------------------------------------------------------------------------


def _on_a_page(heap: Any, given: Given) -> list[Any]:
    """Three chunks that may fill a page, or a fourth one that does; the first and the third may be free."""
    heap._lists = [Chunk(0, 0) for _ in heap._lists]
    sizes = [_size(heap, given, name, heap._page_size) for name in ("before", "freed", "after")]
    given.assume(sum(sizes) <= heap._page_size)
    rest = heap._page_size - sum(sizes)
    chunks: list[Any] = []
    start: Any = 0
    for size in (*sizes, rest) if rest > 0 else sizes:
        chunk = Chunk(start, size)
        chunk.free = False
        if chunks:
            chunk.before, chunks[-1].after = chunks[-1], chunk
        chunks.append(chunk)
        start = start + size
    heap._master = {0: chunks[0], 1: Chunk(heap._page_size, heap._page_size)}
    for name, chunk in (("first", chunks[0]), ("third", chunks[2])):
        if given(name, 0, 1) == 1:
            chunk.free = True
            heap._insert_free(chunk)
    return chunks


@theorem(
    "compcache", "After a chunk is freed its page is tiled, chunks know both neighbours, and no two free ones meet.",
    kernels="_release, _absorb", targets=("compcache,ranges=1", "compcache,ranges=1,least=32"),
    trace=lambda heap, values: f"a = alloc 1\nb = alloc 1\nc = alloc {heap._page_size - 2}\nfree b\nfree a\nfree c",
    controls=("compcache+CC01,pages=1,ranges=1",), law="coalesced",
    bound="three or four chunks of any size that fill a page; the neighbours of the one that is freed, free or not",
)  # fmt: skip
def neighbours_merge(heap: Any, given: Given) -> Any:
    chunks = _on_a_page(heap, given)
    dropped: list[Any] = []
    heap._drop_page = dropped.append
    heap._release(chunks[1])
    if dropped:
        return (dropped[0].size == heap._page_size) & (dropped[0].start == 0)
    so: Any = True
    start, before, chunk = 0, None, heap._master[0]
    while chunk is not None:
        meet = before is not None and before.free and chunk.free
        so = so & (chunk.start == start) & (chunk.before is before) & (not meet)
        so = so & (_is_listed(heap, chunk) == chunk.free)
        start, before, chunk = start + chunk.size, chunk, chunk.after
    return so & (start == heap._page_size)


@theorem(
    "compcache", "A page that empties goes back, unless it is the last of those that are to stay.",
    kernels="_release", targets=("compcache,ranges=1", "compcache,ranges=1,keep=0"),
    trace=lambda heap, values: "a = alloc 1\nfree a\nfailpages 1 order 0\nb = alloc 1",
    controls=("compcache+CC02,pages=1,ranges=1",), law="reserve", bound="one page or two; two chunks of any size",
)  # fmt: skip
def last_page_stays(heap: Any, given: Given) -> Any:
    heap._lists = [Chunk(0, 0) for _ in heap._lists]
    size, pages = _size(heap, given, "freed", heap._page_size - heap._least), 1 if given("pages", 1, 2) == 1 else 2
    free, chunk = Chunk(0, heap._page_size - size), Chunk(heap._page_size - size, size)
    free.after, chunk.before, chunk.free = chunk, free, False
    heap._master = {0: free, 1: Chunk(heap._page_size, heap._page_size)} if pages == 2 else {0: free}
    heap._insert_free(free)
    dropped: list[Any] = []
    heap._drop_page = dropped.append
    keep = heap.contract.drained_pages
    heap._release(chunk)
    return (len(dropped) == (pages > keep)) and bool(dropped) != _is_listed(heap, free)


# ---- contents --------------------------------------------------------------------------------


@theorem(
    "compcache", "A byte of an object lies in one place, whichever stretch is read or written.",
    kernels="_windows", targets=(f"compcache,{_TWO_PAGES},least=4", "compcache,page_size=256,least=32"),
    trace=lambda heap, values: f"a = alloc 1\nx = alloc {heap._page_size - 1}\nfree a\nb = alloc 2\nread b",
    controls=(f"{WRONG}compcache_skips_single_bytes,{_TWO_PAGES}",), law="contents",
    bound="two pieces of any size up to a page of 16 or 8 units, every stretch of them",
)  # fmt: skip
def one_place(heap: Any, given: Given) -> Any:
    page = heap._page_size
    pieces = [Chunk(number * page, _size(heap, given, name, page)) for number, name in enumerate(("piece", "other"))]
    heap._chain(pieces)
    total = pieces[0].size + pieces[1].size
    heap._slots = [ChunkHead(total, pieces[0])]
    start, byte = given("start", 0, 2 * page - 1), given("byte", 0, 2 * page - 1)
    length = byte + 1 + given("after", 0, 2 * page - 1)
    given.assume(start + length <= total)
    ((place, end),) = heap._windows(0, start + byte, 1)
    so, done = end == place + 1, 0
    for low, high in heap._windows(0, start, length):
        so = so & implies((byte >= done) & (byte < done + high - low), place == low + byte - done)
        done = done + high - low
    inside = implies(place < page, place < pieces[0].size) & implies(place >= page, place < page + pieces[1].size)
    return so & (done == length) & inside
