"""TLSF, two-level segregated fit, in Matthew Conte's layout (tlsf.c 3.1).

A real-time allocator: allocation and free cost a bounded number of steps whatever the
heap looks like.  Free blocks stand on lists by size (see ``tlsf_mapping``); two levels of
bitmaps find the first non-empty list that is large enough; free neighbours merge at once.

A used block costs one word, its size with two flags.  The back link to the block before
lies in that block's own last payload word, and only while it is free::

    arena  [size|flags][ payload ........ ][size|flags][ next prev ... back ][size|flags] ...
                       ^ used, handle                  ^ free, links in place  ^ 0: sentinel

Metadata is in place, in the same bytes as the contents, so that a stray write shows.

The default is the algorithm repaired:

- a block keeps the size that its search was rounded up to, so that what was freed can be
  had again at once (published: split at the request, and then filed one list too low);
- sizes are limited before they are aligned, so that none wraps (published: a request just
  below the word's maximum is served the smallest block);
- resizing to more than the maximum is refused (published: it shrinks the block to nothing);
- a resize that moves a block keeps the alignment that was asked for, or is refused
  (published: it moves to any word).  Conte's layout has no room to remember an alignment,
  and an address alone does not tell one that was asked for from luck; so a table beside
  the lists has an entry for each live block of more than word alignment, and only those.

``rev="conte-3.1"`` is the published revision with these four, which were reported to the
project in public.  Left out: adding and removing pools after the start, the integrity
walkers, and two special cases of resizing: no block (an allocation) and size 0 (a free,
whose answer could not be told from a refusal).

>>> heap = Tlsf(arena=1024)
>>> a, b = heap.alloc(24), heap.alloc(100, 64)
>>> a, b, heap.extents(b)
(8, 128, ((0, 128, 104),))
>>> heap.free(a); heap.free(b); [tuple(region) for region in heap.free_regions()]
[(0, 8, 1008, (2, 31))]
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import lru_cache, partial
from itertools import compress

from heaplaw.contract import Contract, Request, ServeRule
from heaplaw.pages import PageSource
from heaplaw.protocol import Context, FreeRegion, Listed, Refusal
from heaplaw.shadow import Block, Shadow

from .bits import align_up, highest_bit, is_power_of_two
from .promises import all_but, always, at_most
from .tlsf_lists import SegregatedLists
from .tlsf_mapping import TOPS, Geometry, geometry, insert

_FREE, _PREV_FREE = 1, 2  # flags in a size word: this block is free, the block before is free
_FLAGS = 3
_NONE = 0  # no block: a payload never starts at word 0
_BITMAP_WORDS = 3  # read by a search at most: a row's bits, the rows' bits, another row's bits
_REVISIONS = ("", "conte-3.1")


class Tlsf(SegregatedLists):
    """One pool over one arena.  ``arena`` in bytes, ``word`` 32 or 64 bits, ``sl`` log2 of second-level lists.

    ``top``: log2 of the size that blocks stay below; 0 is Conte's, 32 or 30 by the word.  The copies in
    LVGL and ESP-IDF lower it to what the pool needs, for fewer lists.

    Handles are offsets of payloads in bytes.  Inside, a block is the number of its first payload word.
    """

    def __init__(self, arena: int = 4096, word: int = 64, sl: int = 5, top: int = 0, rev: str = "") -> None:
        self.contract, g = _contract(arena, word, sl, top, rev)
        self._make_lists(g)
        self._published = bool(rev)
        self._adjust = self._payload_rule(g)
        self._arena = arena
        self._word, self._bits, self._header = g.word, highest_bit(g.word), g.header
        self._bytes = memoryview(bytearray(arena))
        self._words = self._bytes.cast("Q" if word == 64 else "I")
        self._alignments: dict[int, int] = {}  # offset -> alignment, where more than a word was asked for
        self._found = self._probed = self._scanned = 0
        self._make_pool(arena - 2 * g.word)

    # ---- interface -------------------------------------------------------------------

    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> int | Refusal | None:
        """Offset of ``size`` bytes, a refusal, or None when no list holds a large enough block.  O(1)."""
        self._found = self._probed = self._scanned = 0
        if size < 1 or align < 1 or align & (align - 1):
            return Refusal.INVALID
        adjusted = self._adjust(size) if size <= self._mask else 0  # no larger one fits in a word
        if not adjusted:
            return Refusal.TOO_BIG
        if align > self._word:
            return self._alloc_aligned(adjusted, align)
        block = self._take(adjusted)
        return self._use(block, adjusted) if block else None

    def free(self, handle: int) -> None:
        """Give a block back and merge it with its free neighbours.  O(1).

        [ free ][ this ][ free ] => [ --------- free --------- ]
        """
        words, word, bits = self._words, self._word, self._bits
        if self._alignments:
            self._alignments.pop(handle, None)
        block = handle >> bits
        head = words[block - 1]
        size = head & ~_FLAGS
        after = block + (size >> bits) + 1
        tail = words[after - 1]
        if head & _PREV_FREE:
            block = words[block - 2]
            head = words[block - 1]
            before = head & ~_FLAGS
            self._remove(block, before)
            size += before + word
        if tail & _FREE:
            tail &= ~_FLAGS
            self._remove(after, tail)
            size += tail + word
            after += (tail >> bits) + 1
        words[block - 1] = size | _FREE | head & _PREV_FREE
        words[after - 1] |= _PREV_FREE
        words[after - 2] = block
        self._insert(block, size)

    def realloc(self, handle: int, size: int) -> int | Refusal | None:
        """Resize in place when the block or a free one behind it has room, else move.  O(1) and a copy.

        Any refusal leaves the block as it was.

        [ this ][ free ........ ] => [ this, grown ][ free ]
        """
        words, word, bits = self._words, self._word, self._bits
        if size < 1:
            return Refusal.INVALID
        adjusted = self._adjust(size) if size <= self._mask else 0
        if not adjusted and not self._published:
            return Refusal.TOO_BIG
        block = handle >> bits
        current = words[block - 1] & ~_FLAGS
        after = block + (current >> bits) + 1
        tail = words[after - 1]
        room = current + (tail & ~_FLAGS) + word if tail & _FREE else current
        if adjusted > room:
            return self._move(handle, size, current)
        if adjusted > current:
            self._remove(after, tail & ~_FLAGS)
            words[block - 1] = room | words[block - 1] & _FLAGS
            words[block + (room >> bits)] &= ~_PREV_FREE
        self._trim_used(block, adjusted)
        return handle

    def read(self, handle: int, at: int, length: int) -> bytes:
        """``length`` bytes from offset ``at`` of a live block.  O(length)."""
        return self._bytes[handle + at : handle + at + length].tobytes()

    def write(self, handle: int, at: int, data: bytes) -> None:
        """Put ``data`` at offset ``at`` of a live block.  ValueError past the arena's end.  O(length)."""
        self._bytes[handle + at : handle + at + len(data)] = data

    # ---- observations ----------------------------------------------------------------

    def extents(self, handle: int) -> tuple[tuple[int, int, int], ...]:
        """The payload, slack included, as its size word says.  O(1)."""
        return ((0, handle, self._words[(handle >> self._bits) - 1] & ~_FLAGS),)

    def free_regions(self) -> Iterator[FreeRegion]:
        """Free blocks met walking the arena, with the list that each one's size belongs on.  O(blocks)."""
        word, shift, sl = self._word, self._shift, self._sl
        for block, head in self._walk():
            if head & _FREE:
                size = head & ~_FLAGS
                number = insert(size, shift, sl)
                yield FreeRegion(0, block * word, size, (number >> sl, number & (1 << sl) - 1))

    def lists(self) -> Iterator[Listed]:
        """Free blocks met walking the lists.  O(lists + free blocks)."""
        word, sl = self._word, self._sl
        for number, block in self._listed():
            yield Listed((number >> sl, number & (1 << sl) - 1), (0, block * word))

    def counters(self) -> dict[str, int]:
        """Live objects by the size words; free bytes and the largest free payload by the lists.  O(blocks)."""
        words = self._words
        free = [words[block - 1] & ~_FLAGS for _, block in self._listed()]
        return {
            "live_objects": len([head for _, head in self._walk() if not head & _FREE]),
            "free_bytes": sum(free),
            "largest_free": max(free, default=0),
        }

    def cost(self) -> dict[str, int]:
        """Steps of the last allocation: heads ``probed``, bitmap words ``scanned``; the payload ``found``, or 0."""
        return {"probed": self._probed, "scanned": self._scanned, "found": self._found}

    def metadata(self) -> tuple[int, int]:
        """(bytes in the arena, bytes of the control structure).  O(blocks)."""
        in_place = self._word * (1 + len(list(self._walk())))
        return in_place, _control_bytes(self._g, len(self._alignments))

    # ---- states ----------------------------------------------------------------------

    def shape(self) -> "_Shape":
        """What a snapshot would have as its shape, at less cost.  O(arena + lists)."""
        alignments = tuple(sorted(self._alignments.items())) if self._alignments else ()
        return _shape(self._bits, self._words.tolist(), self._heads, (self._rows, *self._row_bits), alignments)

    def snapshot(self) -> "State":
        """The heap as it is now; hashable.  O(arena + lists).  RuntimeError for a broken one."""
        return State(*self._image(), self.shape())

    def _image(self) -> "_Image":
        """Memory, list heads, bitmaps (rows first), alignments: all that there is."""
        alignments = tuple(sorted(self._alignments.items())) if self._alignments else ()
        return self._bits, self._bytes.tobytes(), tuple(self._heads), (self._rows, *self._row_bits), alignments

    def restore(self, state: "State") -> None:
        """Return to a state of ``snapshot``.  O(arena + lists)."""
        self._bytes[:] = state.memory
        self._rows, *self._row_bits = state.bits
        self._heads, self._alignments = list(state.heads), dict(state.alignments)
        self._found = self._probed = self._scanned = 0

    def stands_at(self, state: "State") -> bool:
        """Is this byte for byte a state of ``snapshot``?  Cheaper than another snapshot.  O(arena + lists)."""
        return self._image() == (self._bits, state.memory, state.heads, state.bits, state.alignments)

    # ---- blocks ----------------------------------------------------------------------

    def _payload_rule(self, g: Geometry) -> Callable[[int], int]:
        """What turns the size of a request into that of a payload; 0 when it is out of range."""
        return g.request_published if self._published else g.request

    def _make_pool(self, pool: int) -> None:
        """One free block of ``pool`` bytes, and the sentinel behind it."""
        self._words[0] = 0  # the block before counts as used; its back link would lie before the arena
        self._words[1 + pool // self._word] = 0  # the sentinel: size 0, and never free
        self._mark_free(1, pool)
        self._insert(1, pool)

    def _alloc_aligned(self, adjusted: int, align: int) -> int | None:
        """Search for room to shift the payload, and free the gap in front if a block can live there.

        [ free ............. ] => [ free gap ][ used ][ free ]
        """
        g, words, bits = self._g, self._words, self._bits
        wanted = g.with_gap(adjusted, align)
        block = self._take(wanted) if wanted < g.most else _NONE
        if not block:
            return None
        start = block << bits
        gap = align_up(start, align) - start
        if gap and gap < g.header:  # too short for a block: on to a boundary that leaves one
            gap = align_up(start + gap + max(g.header - gap, align), align) - start
        if gap:
            head, lead = words[block - 1], block
            block += gap >> bits
            words[lead - 1] = gap - g.word | head & _FLAGS
            words[block - 1] = (head & ~_FLAGS) - gap | _FREE | _PREV_FREE
            words[block - 2] = lead
            self._insert(lead, gap - g.word)
        handle = self._use(block, adjusted)
        if not self._published:
            self._alignments[handle] = align
        return handle

    def _use(self, block: int, size: int) -> int:
        """Cut a free, unlisted block to ``size`` and mark it used; its offset.

        [ free .......... ] => [ used ][ free ]
        """
        words, bits = self._words, self._bits
        head = words[block - 1]
        whole = head & ~_FLAGS
        after = block + (whole >> bits) + 1
        if whole >= size + self._header:
            rest, left = block + (size >> bits) + 1, whole - size - self._word
            words[block - 1] = size | head & _PREV_FREE
            words[rest - 1] = left | _FREE  # the flag behind it stays: this is free as well
            words[after - 2] = rest
            self._insert(rest, left)
        else:
            words[block - 1] = whole | head & _PREV_FREE
            words[after - 1] &= ~_PREV_FREE
        return block << bits

    def _trim_used(self, block: int, size: int) -> None:
        """Free the tail of a used block, merged with what is free behind it.

        [ used ........ ][ free ] => [ used ][ --- free --- ]
        """
        words, bits = self._words, self._bits
        head = words[block - 1]
        whole = head & ~_FLAGS
        if whole < size + self._header:
            return
        words[block - 1] = size | head & _FLAGS
        rest, left = block + (size >> bits) + 1, whole - size - self._word
        tail = words[block + (whole >> bits)]
        if tail & _FREE:
            self._remove(block + (whole >> bits) + 1, tail & ~_FLAGS)
            left += (tail & ~_FLAGS) + self._word
        words[rest - 1] = 0  # stale bytes of the object so far
        self._mark_free(rest, left)
        self._insert(rest, left)

    def _move(self, handle: int, size: int, current: int) -> int | Refusal | None:
        """Allocate, copy, and only then free: a refusal leaves the block as it was."""
        moved = self.alloc(size, self._alignments.get(handle, 1))
        if not isinstance(moved, int):
            return moved
        length = min(current, size)
        self._bytes[moved : moved + length] = self._bytes[handle : handle + length]
        self.free(handle)
        return moved

    def _mark_free(self, block: int, size: int) -> None:
        """Write a free block's size, and tell the block behind it."""
        words = self._words
        words[block - 1] = size | _FREE | words[block - 1] & _PREV_FREE
        after = block + (size >> self._bits) + 1
        words[after - 1] |= _PREV_FREE
        words[after - 2] = block

    def _walk(self) -> Iterator[tuple[int, int]]:
        """(block, size word) of every block, by address, up to the sentinel.

        RuntimeError where a size leads past the arena or below what a block can be.
        """
        words, bits = self._words, self._bits
        block, limit = 1, self._arena >> bits
        head = words[0]
        while size := head & ~_FLAGS:
            yield block, head
            block += (size >> bits) + 1
            if block > limit:
                raise RuntimeError(f"a block reaches past the arena, to {block << bits}")
            head = words[block - 1]

    # ---- lists -----------------------------------------------------------------------

    def _take(self, size: int) -> int:
        """Unlink and return the head of the first non-empty list whose blocks all fit; 0 if none.  O(1)."""
        number = self._search(size)
        if number < 0:
            return _NONE
        words, heads = self._words, self._heads
        block = heads[number]
        self._probed += 1
        self._found = words[block - 1] & ~_FLAGS
        after = heads[number] = words[block]
        if after:
            words[after + 1] = _NONE
        else:
            self._clear(number)
        return block

    def _insert(self, block: int, size: int) -> None:
        """Push a free block on its list.  O(1)."""
        sl, words, heads = self._sl, self._words, self._heads
        number = insert(size, self._shift, sl)
        head = heads[number]
        words[block] = head
        words[block + 1] = _NONE
        heads[number] = block
        if head:
            words[head + 1] = block
            return
        row = number >> sl
        self._row_bits[row] |= 1 << (number & ((1 << sl) - 1))
        self._rows |= 1 << row

    def _remove(self, block: int, size: int) -> None:
        """Take a free block off its list; the bitmaps follow.  O(1)."""
        words = self._words
        after, before = words[block], words[block + 1]
        if after:
            words[after + 1] = before
        if before:
            words[before] = after
            return
        number = insert(size, self._shift, self._sl)
        self._heads[number] = after
        if not after:
            self._clear(number)


_Alignments = tuple[tuple[int, int], ...]
_Image = tuple[int, bytes, tuple[int, ...], tuple[int, ...], _Alignments]
_Shape = tuple[tuple[int, ...], _Alignments]


def _shape(
    shift: int, words: Sequence[int], heads: Sequence[int], bits: Sequence[int], alignments: _Alignments
) -> _Shape:
    """Bitmaps, size words with back links, lists with theirs, alignments: all but contents and dead bytes.

    One row of numbers, since an exhaustive search spends a tenth of its time here: a block of no bytes
    ends the blocks, and a number below 0 begins a list.  RuntimeError for a broken heap.
    """
    row, block = list(bits), 1
    add, most = row.append, 4 * (len(words) + len(heads))
    try:
        while size := (head := words[block - 1]) & ~_FLAGS:
            add(head)
            if head & _PREV_FREE:
                add(words[block - 2])
            block += (size >> shift) + 1
        row += (head, words[block - 2]) if head & _PREV_FREE else (head,)
        for number in compress(range(len(heads)), heads):
            add(~number)
            block = heads[number]
            while block:
                add(block)
                add(words[block + 1])
                block = words[block]
                if len(row) > most:
                    raise RuntimeError("a free list does not end")
    except IndexError:
        raise RuntimeError(f"a block reaches past the arena, to {block << shift}") from None
    return tuple(row), alignments


class State:
    """A heap at one moment, equal to one in which the same calls would have the same effect.

    ``shape`` is what equality means.  Contents ride along, for ``restore``.
    """

    __slots__ = ("_shape", "alignments", "bits", "heads", "memory", "shift")

    def __init__(
        self,
        shift: int,
        memory: bytes,
        heads: tuple[int, ...],
        bits: tuple[int, ...],
        alignments: _Alignments,
        shape: _Shape | None = None,
    ) -> None:
        """``shift``: log2 of a word's bytes."""
        self.shift, self.memory, self.heads, self.bits, self.alignments = shift, memory, heads, bits, alignments
        self._shape = shape

    @property
    def shape(self) -> _Shape:
        """All that decides about the future."""
        if self._shape is None:
            words = memoryview(self.memory).cast("Q" if self.shift == 3 else "I").tolist()
            self._shape = _shape(self.shift, words, self.heads, self.bits, self.alignments)
        return self._shape

    def __reduce__(self) -> tuple[type["State"], _Image]:
        """Pickled by its parts, without the shape, which they decide."""
        return State, (self.shift, self.memory, self.heads, self.bits, self.alignments)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, State) and self.shape == other.shape

    def __hash__(self) -> int:
        return hash(self.shape)


# ---- what is promised ------------------------------------------------------------------


@lru_cache(maxsize=256)
def _contract(arena: int, word: int, sl: int, top: int, rev: str) -> tuple[Contract, Geometry]:
    """Contract and constants of every pool with these parameters.  Raises ValueError for senseless ones."""
    if word not in (32, 64):
        raise ValueError(f"word is 32 or 64 bits, not {word}")
    if not 1 <= sl <= 5:
        raise ValueError(f"sl is 1 to 5, not {sl}")
    if rev not in _REVISIONS:
        raise ValueError(f"no revision {rev!r} of tlsf")
    if top and not sl + highest_bit(word // 8) <= top <= TOPS[word]:
        raise ValueError(f"top is {sl + highest_bit(word // 8)} to {TOPS[word]}, or 0 for that, not {top}")
    g = geometry(word, sl, top)
    least = 2 * g.word + g.least
    if arena % g.word or not least <= arena < g.most:
        raise ValueError(f"arena must be a multiple of {g.word}, from {least} to {g.most}, not {arena}")
    largest = g.list_start(arena - 2 * g.word)
    searched = lru_cache(maxsize=4096)(partial(_searched, g, bool(rev)))
    promise = partial(_can_serve, arena, g.word, searched)
    contract = Contract(
        arena=arena,
        max_size=largest,
        granule=g.word,
        max_align=max(g.word, 1 << (arena // 8).bit_length() - 1),
        limits=_limits(g, largest),
        realloc_aligns=not rev,
        rejects=frozenset({"zero", "huge", "align"}),
        header=g.word,
        prologue=g.word,
        epilogue=g.word,
        mergeable=always,
        list_of=partial(_list_of, lru_cache(maxsize=4096)(partial(_filed, g.word, g.sl))),
        overhead=partial(_overhead, arena, g),
        metadata_bound=partial(_metadata_bound, g),
        waste=lru_cache(maxsize=4096)(partial(_waste, g, bool(rev))),
        drained_size=largest,
        must_serve=promise,
        must_refuse=partial(all_but, promise),
        must_resize=None if rev else partial(_can_resize, arena, g, promise),
        free_then_alloc=not rev,
        cost_bounds={"probed": partial(at_most, 1), "scanned": partial(at_most, _BITMAP_WORDS)},
    )
    return contract, g


def _limits(g: Geometry, largest: int) -> tuple[int, ...]:
    """Sizes at which lists begin, thinned to some sixty-four."""
    starts, size = [g.least, g.small], g.small
    while size <= largest:
        starts.append(size)
        size += 1 << (size.bit_length() - 1 - g.sl)
    return tuple(sorted({*starts[:: -(-len(starts) // 64)], g.least, g.small, largest}))


# The arithmetic of lists as the paper has it, with its branches: an allocator is not measured by its own code.


def _filed(word: int, sl: int, size: int) -> tuple[int, int]:
    """The list that a free block belongs on: its power of two, and which of 2**sl parts of that."""
    if size < word << sl:
        return 0, size // word
    power = size.bit_length() - 1
    return power - (word << sl).bit_length() + 2, (size >> power - sl) - (1 << sl)


def _begun(word: int, sl: int, size: int) -> int:
    """The least size that begins a list and is not below ``size``."""
    step = max(word, 1 << max(0, size.bit_length() - 1 - sl))
    return -(-size // step) * step


def _least_payload(g: Geometry, published: bool, size: int) -> int:
    """What a request is served with at least: whole words, room for the links, and the list's least size."""
    adjusted = max(-(-size // g.word) * g.word, 3 * g.word)
    return adjusted if published else _begun(g.word, g.sl, adjusted)


def _list_of(filed: Callable[[int], tuple[int, int]], region: FreeRegion) -> Hashable:
    return filed(region.length)


def _payloads(arena: int, word: int, shadow: Shadow) -> Iterator[int]:
    """Payload sizes of the free blocks that the gaps between live payloads must be.

    A gap holds the size word of the free block, and that of the live block or sentinel behind it.
    """
    for low, high in shadow.gaps(0, word, arena):
        size = high - low - (word if low == word else 2 * word)
        if size > 0:
            yield size


def _can_serve(
    arena: int, word: int, searched: Callable[[int, int], int], request: Request, shadow: Shadow, _: PageSource | None
) -> bool:
    """Good fit is exact: served if and only if some free block stands on the searched list or a later one."""
    least = searched(request.size, request.align)
    if least:
        for size in _payloads(arena, word, shadow):
            if size >= least:
                return True
    return False


def _searched(g: Geometry, published: bool, size: int, align: int) -> int:
    """Where the list begins at which the search for a request starts, in bytes of payload; 0: never served."""
    if size < 1 or not is_power_of_two(align) or size >= g.most:
        return 0
    wanted = _least_payload(g, published, size)
    if align > g.word:
        wanted = -(-(wanted + align + 4 * g.word) // align) * align  # a gap before it must have room for a block
    return _begun(g.word, g.sl, wanted) if wanted < g.most else 0


def _can_resize(arena: int, g: Geometry, serves: ServeRule, block: Block, size: int, shadow: Shadow) -> bool:
    """In place, if there is room with what is free behind the block; else where a request would be served."""
    if not 0 < size < g.most or (adjusted := _least_payload(g, False, size)) >= g.most:
        return False
    ((_, start, room),) = block.extents
    end = start + room
    low, high = next(shadow.gaps(0, end, arena))  # there is a size word at least
    if low == end and high - low > 2 * g.word:
        room = high - g.word - start
    return adjusted <= room or serves(Request(size, block.align), shadow, None)


def _overhead(arena: int, g: Geometry, shadow: Shadow, _: PageSource | None) -> int:
    """A size word for each block, live or free, and one for the sentinel."""
    return g.word * (len(shadow) + len(list(_payloads(arena, g.word, shadow))) + 1)


def _control_bytes(g: Geometry, alignments: int) -> int:
    """List heads, bitmaps, and the table of alignments: an offset and an alignment each."""
    return g.word * ((g.rows << g.sl) + g.rows + 1 + 2 * alignments)


def _metadata_bound(g: Geometry, shadow: Shadow, _: PageSource | None) -> int:
    """Blocks are at most the live ones and a free one before and after each; plus the control structure."""
    aligned = sum(1 for block in shadow.live.values() if block.align > g.word)
    return g.word * (2 * len(shadow) + 2) + _control_bytes(g, aligned)


def _waste(g: Geometry, published: bool, size: int, align: int) -> int:
    """Alignment, the smallest payload, the rounding of the search, and a tail too short for a header."""
    return _least_payload(g, published, size) - size + 3 * g.word
