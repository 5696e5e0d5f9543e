"""Theorems about afmalloc: the pieces of an object, what they cost, and what becomes of them.

The pool's own methods run over a kmalloc that serves whatever it is asked for, at addresses of its own, and
notes it.  Two of the controls are the posting of September 2014 as it was (read in its source; unconfirmed
by its author): it frees pointers that were never written, and copies more than a page into a page.

>>> from heaplaw.properties.proofs.theorems import find
>>> find("afmalloc/pieces-hold").sentence
'The pieces of an object hold it: powers of two of at least 32 bytes, all filled but the last.'
"""

from types import SimpleNamespace
from typing import Any

from heaplaw.impls.afmalloc import DIRECT_ENTRY
from heaplaw.impls.afmalloc_pieces import ENTRY_HEAD, OBJ_MIN
from heaplaw.protocol import Refusal

from .theorems import WRONG, Control, Given, Values, one_request, theorem
from .words import implies

_TARGETS = ("afmalloc", "afmalloc,word=4", "afmalloc,max_level=2")
_PIECES = ("afmalloc,piece=256,max_level=8", "afmalloc,piece=1024,max_level=8,word=4")
_ROOM = 256  # bytes between what the kmalloc of a proof gives out: metadata has room there
_LENGTHS = "lengths below 2048 bytes; for the steps of a split, every length, see steps-fill"


class _Kmalloc:
    """Serves every request but one with the bytes that were asked for, and notes what it does."""

    def __init__(self, source: Any, refused: Any = -1) -> None:
        self.source, self._refused = source, refused
        self.sizes: list[Any] = []  # by number; each address is a number times _ROOM
        self.freed: list[int] = []

    def alloc(self, size: Any) -> int | None:
        if len(self.sizes) == self._refused:
            return None
        self.sizes.append(size)
        return len(self.sizes) * _ROOM

    def free(self, address: int) -> None:
        self.freed.append(address)

    def ksize(self, address: int) -> Any:
        """Metadata in a class of kmalloc's, a power of two; anything else is one already, or held to the byte."""
        size = self.sizes[address // _ROOM - 1]
        return 1 << (size - 1).bit_length() if isinstance(size, int) else size


def _decided(word: Any, most: int) -> int:
    """Its value, bit by bit: a path has as many decisions as there are bits, and not one for each value."""
    return sum(1 << bit for bit in range(most.bit_length()) if word & (1 << bit) != 0)


def _length(heap: Any, given: Given, least: int = 0, most: int = 2048) -> Any:
    """Any length from ``least`` to below ``most``, which are multiples of 32 bytes.

    All that a split goes by is such a multiple.  With that much of the length decided, the code's own
    logarithms have one value each, by the bounds of what is left open, and the solver has sums to do only.
    """
    units = least // OBJ_MIN + _decided(given("units", 0, (most - least) // OBJ_MIN - 1), (most - least) // OBJ_MIN - 1)
    length = units * OBJ_MIN + given("rest", 0, OBJ_MIN - 1)
    given.assume(length > 0)
    return length


def _told(values: Values, least: int = 0) -> int:
    return least + values["units"] * OBJ_MIN + values["rest"]


def _made(heap: Any, length: Any, refused: Any = -1) -> tuple[Any, _Kmalloc]:
    """(answer, kmalloc) of a request; the metadata's head is kept beside it, for it holds words."""
    slab = heap._slab = _Kmalloc(heap.source, refused)
    heads: dict[int, tuple[int, Any]] = {}
    heap._set_head = lambda entry, level, alloced: heads.__setitem__(entry, (level, alloced))
    heap._head = heads.__getitem__
    return heap.alloc(length), slab


def _split(heap: Any, given: Given) -> tuple[Any, Any, list[Any]]:
    """(length, metadata in bytes, pieces) of an object that is split."""
    length = _length(heap, given)
    handle, slab = _made(heap, length)
    given.assume(not isinstance(handle, Refusal) and not handle & DIRECT_ENTRY)
    return length, slab.ksize(_ROOM), slab.sizes[1:]


def _one_object(heap: Any, values: Values) -> str:
    return f"a = alloc {_told(values)}"


@theorem(
    "afmalloc", "The pieces of an object hold it: powers of two of at least 32 bytes, all filled but the last.",
    kernels="_alloc_entry, _alloc_pieces: calculate_level, cut, last_piece", targets=(*_TARGETS, *_PIECES),
    trace=_one_object, controls=("afmalloc+AF01",), law="big-enough", bound=_LENGTHS,
)  # fmt: skip
def pieces_hold(heap: Any, given: Given) -> Any:
    length, _, pieces = _split(heap, given)
    so = (sum(pieces) >= length) & (sum(pieces[:-1]) < length)
    for piece in pieces:
        so = so & (piece & (piece - 1) == 0) & (piece >= OBJ_MIN)
    return so


def _made_of_two(heap: Any, given: Given) -> Any:
    """128 bytes, and 64 for what is left."""
    size = given("size", 1, (1 << 8 * heap._word) - 1)
    return (size > 160) & (size < 192)


@theorem(
    "afmalloc", "A piece is the largest power of two that it fills, the last one the least that holds the rest.",
    kernels="_alloc_pieces: cut, last_piece", targets=("afmalloc", "afmalloc,word=4", *_PIECES), trace=one_request,
    controls=(Control("afmalloc+AF01", _made_of_two),), law="big-enough",
    bound="every length of a word, for the last two pieces; what comes before is any piece's own first step",
)  # fmt: skip
def steps_fill(heap: Any, given: Given) -> Any:
    length = given("size", 1, (1 << 8 * heap._word) - 1)
    slab = heap._slab = _Kmalloc(heap.source)
    heap._alloc_pieces(0, 2, length)
    piece, last = slab.sizes
    left = length - piece
    if heap._piece and length > heap._piece:
        largest = piece == heap._piece
    else:
        largest = (piece & (piece - 1) == 0) & (2 * piece > length)
    least = (last & (last - 1) == 0) & (last >= left) & ((last == OBJ_MIN) | (last < 2 * left))
    return largest & (piece <= length) & least


@theorem(
    "afmalloc", "An object has no more pieces than it may have, and its metadata a pointer for each.",
    kernels="_alloc_entry: calculate_level, entry_size", trace=_one_object, law="geometry",
    targets=("afmalloc,max_level=2", "afmalloc,word=4,max_level=3", *_PIECES),
    controls=(WRONG + "OnePieceMore,max_level=2",), bound=_LENGTHS,
)  # fmt: skip
def few_pieces(heap: Any, given: Given) -> Any:
    _, metadata, pieces = _split(heap, given)
    promised = heap.contract.cost_bounds["kmallocs"](None, None) - 1
    return 1 < len(pieces) <= promised and metadata >= ENTRY_HEAD + heap._word * len(pieces)


@theorem(
    "afmalloc", "Pieces and their metadata take fewer bytes than one power of two would.",
    kernels="_alloc_entry: is_split, estimate_alloced", targets=_TARGETS, trace=_one_object,
    controls=("afmalloc+AF06",), law="metadata-bound", bound=_LENGTHS,
)  # fmt: skip
def split_pays(heap: Any, given: Given) -> Any:
    length, metadata, pieces = _split(heap, given)
    return metadata + sum(pieces) < 1 << (length - 1).bit_length()


def _refused_in_use(heap: Any, values: Values) -> str:
    """Metadata where pointers of another object were, and no memory for the last piece."""
    return "a = alloc 1409\nb = alloc 224\nc = alloc 3000"


@theorem(
    "afmalloc", "When a piece is refused, just those that were had are freed, and the metadata.",
    kernels="_alloc_pieces, _err", targets=("afmalloc", "afmalloc,word=4"), trace=_refused_in_use,
    controls=("afmalloc@2014-09,pages=5", Control("afmalloc+AF04", trace=lambda heap, values: (
        "a = alloc 1409\nfailpages 9 order 0\n" + "\n".join(f"{name} = alloc 3000" for name in "bcdefg") + "\ndrain"
    ))), law="contents", bound="lengths below 512 bytes; whichever piece is refused, whatever the metadata held before",
)  # fmt: skip
def undoes_what_was_had(heap: Any, given: Given) -> Any:
    memory, stale = heap.source.memory, heap._base + len(heap.source.memory) - _ROOM
    memory[:] = stale.to_bytes(heap._word, "little") * (len(memory) // heap._word)
    answer, slab = _made(heap, _length(heap, given, most=512), given("refused", 1, 7))
    given.assume(answer is None)
    return sorted(slab.freed) == [_ROOM * (number + 1) for number in range(len(slab.sizes))]


_NEAR_A_PAGE = (3840, 4352)


class _Areas:
    """The CPUs' pages, none of which is filled; what was to be copied there is noted."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.opened: tuple[Any, Any] = (False, 0)

    def open(self, cpu: int, handle: int, mode: str, buffered: Any, length: Any) -> Any:
        self.opened = buffered, length
        return SimpleNamespace(buffer=None)


@theorem(
    "afmalloc", "Mapping copies all of a split object if it fits the CPU's page, and nothing of any other.",
    kernels="map, _mapped_length", targets=("afmalloc", "afmalloc,word=4"),
    trace=lambda heap, values: f"a = alloc {_told(values, _NEAR_A_PAGE[0])}\nmap a",
    controls=("afmalloc+AF05", "afmalloc@2014-09"), law="contents", bound="lengths about a page, 3840 to 4351 bytes",
)  # fmt: skip
def copies_what_fits(heap: Any, given: Given) -> Any:
    length = _length(heap, given, *_NEAR_A_PAGE)
    handle, slab = _made(heap, length)
    heap._areas = _Areas(heap.source.page_size)
    heap.map(handle)
    buffered, copied = heap._areas.opened
    if handle & DIRECT_ENTRY:
        return not buffered
    if buffered:
        return (copied >= length) & (copied <= heap.source.page_size)
    return sum(slab.sizes[1:]) > heap.source.page_size


@theorem(
    "afmalloc", "A byte of an object lies in one place, whichever stretch is loaded or stored.",
    kernels="_parts", targets=("afmalloc",), trace=lambda heap, values: "a = alloc 400\nb = alloc 400\nread a",
    controls=(WRONG + "afmalloc_counts_from_the_start",), law="contents",
    bound="two pieces of any size up to a page, every stretch of them",
)  # fmt: skip
def one_place(heap: Any, given: Given) -> Any:
    page = heap.source.page_size
    sizes = [given(f"piece{number}", 1, page) for number in range(2)]
    heap._pieces = lambda handle: [(number << 20, size) for number, size in enumerate(sizes)]
    start, length, byte = given("start", 0, 2 * page), given("length", 1, 2 * page), given("byte", 0, 2 * page)
    given.assume(start + length <= sum(sizes))
    given.assume(byte < length)
    ((place, one),) = heap._parts(0, start + byte, 1)
    there, done = one == 1, 0
    for at, part in heap._parts(0, start, length):
        there = there & implies((byte >= done) & (byte < done + part), place == at + byte - done)
        done = done + part
    inside = [implies(place >> 20 == number, place & (1 << 20) - 1 < size) for number, size in enumerate(sizes)]
    return there & (done == length) & inside[0] & inside[1]
