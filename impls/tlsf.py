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
- resizing to more than the maximum is refused (published: it shrinks the block to nothing).

``rev="conte-3.1"`` is the published revision with these three, which were reported to the
project in public.  Left out: adding and removing pools after the start, and the integrity
walkers.  Resizing does not keep an alignment above the word's, in either revision.

>>> heap = Tlsf(arena=1024)
>>> a, b = heap.alloc(24), heap.alloc(100, 64)
>>> a, b, heap.extents(b)
(8, 128, ((0, 128, 104),))
>>> heap.free(a); heap.free(b); [tuple(region) for region in heap.free_regions()]
[(0, 8, 1008, (2, 31))]
"""

from collections.abc import Hashable, Iterator
from functools import lru_cache, partial

from heaplaw.contract import Contract, Request
from heaplaw.pages import PageSource
from heaplaw.protocol import Context, FreeRegion, ListBit, Listed, Refusal
from heaplaw.shadow import Shadow

from .bits import align_up, is_power_of_two
from .tlsf_mapping import Geometry, geometry

_FREE, _PREV_FREE = 1, 2  # flags in a size word: this block is free, the block before is free
_FLAGS = 3
_NONE = 0  # no block: a payload never starts at word 0
_REVISIONS = ("", "conte-3.1")


class Tlsf:
    """One pool over one arena.  ``arena`` in bytes, ``word`` 32 or 64 bits, ``sl`` log2 of second-level lists."""

    def __init__(self, arena: int = 4096, word: int = 64, sl: int = 5, rev: str = "") -> None:
        self.contract, self._g = _contract(arena, word, sl, rev)
        g = self._g
        self._published = bool(rev)
        self._mask = (1 << word) - 1
        self._arena = arena
        self._bytes = memoryview(bytearray(arena))
        self._words = self._bytes.cast("Q" if word == 64 else "I")
        self._rows = 0  # bit r: some list of row r is non-empty
        self._row_bits = [0] * g.rows  # bit s of row r: list (r, s) is non-empty
        self._heads = [_NONE] * (g.rows << sl)
        self._found = self._probed = 0
        self._words[0] = (arena - 2 * g.word) | _FREE
        self._words[arena // g.word - 1] = _PREV_FREE
        self._words[arena // g.word - 2] = 1  # the sentinel's back link
        self._insert(1, arena - 2 * g.word)

    # ---- interface -------------------------------------------------------------------

    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> int | Refusal | None:
        """Offset of ``size`` bytes, a refusal, or None when no list holds a large enough block.  O(1)."""
        g = self._g
        self._found = self._probed = 0
        if size < 1 or not is_power_of_two(align):
            return Refusal.INVALID
        adjusted = self._adjust(size)
        if not adjusted:
            return Refusal.TOO_BIG
        if align > g.word:
            return self._alloc_aligned(adjusted, align)
        block = self._take(adjusted)
        return self._use(block, adjusted) if block else None

    def free(self, handle: int) -> None:
        """Give a block back and merge it with its free neighbours.  O(1).

        [ free ][ this ][ free ] => [ --------- free --------- ]
        """
        words, word = self._words, self._g.word
        block = handle // word
        head = words[block - 1]
        size = head & ~_FLAGS
        if head & _PREV_FREE:
            before = words[block - 2]
            grown = words[before - 1]
            self._remove(before, grown & ~_FLAGS)
            size += (grown & ~_FLAGS) + word
            block = before
        after = block + size // word + 1
        tail = words[after - 1]
        if tail & _FREE:
            self._remove(after, tail & ~_FLAGS)
            size += (tail & ~_FLAGS) + word
        self._mark_free(block, size)
        self._insert(block, size)

    def realloc(self, handle: int, size: int) -> int | Refusal | None:
        """Resize in place when the block or a free one behind it has room, else move.  O(1) and a copy.

        [ this ][ free ........ ] => [ this, grown ][ free ]
        """
        words, word = self._words, self._g.word
        block = handle // word
        adjusted = self._adjust(size)
        if not adjusted and not self._published:
            return Refusal.TOO_BIG
        current = words[block - 1] & ~_FLAGS
        after = block + current // word + 1
        tail = words[after - 1]
        room = current + (tail & ~_FLAGS) + word if tail & _FREE else current
        if adjusted > room:
            moved = self.alloc(size)
            if not isinstance(moved, int):
                return moved
            self._bytes[moved : moved + min(current, size)] = self._bytes[handle : handle + min(current, size)]
            self.free(handle)
            return moved
        if adjusted > current:
            self._remove(after, tail & ~_FLAGS)
            words[block - 1] = room | words[block - 1] & _FLAGS
            words[block + room // word] &= ~_PREV_FREE
        self._trim_used(block, adjusted)
        return handle

    def read(self, handle: int, at: int, length: int) -> memoryview:
        """Bytes of an object."""
        return self._bytes[handle + at : handle + at + length]

    def write(self, handle: int, at: int, data: bytes) -> None:
        """Fill bytes of an object."""
        self._bytes[handle + at : handle + at + len(data)] = data

    # ---- observations ----------------------------------------------------------------

    def extents(self, handle: int) -> tuple[tuple[int, int, int], ...]:
        """The payload, slack included, as its size word says."""
        return ((0, handle, self._words[handle // self._g.word - 1] & ~_FLAGS),)

    def free_regions(self) -> Iterator[FreeRegion]:
        """Free blocks met walking the arena, with the list that each one's size belongs on.  O(blocks)."""
        word, insert = self._g.word, self._g.insert
        for block, head in self._walk():
            if head & _FREE:
                size = head & ~_FLAGS
                yield FreeRegion(0, block * word, size, insert(size))

    def lists(self) -> Iterator[Listed]:
        """Free blocks met walking the lists.  O(lists + free blocks)."""
        words, word = self._words, self._g.word
        left = self._arena // word
        for row, s in self._occupied():
            block = self._heads[row << self._g.sl | s]
            while block:
                left -= 1
                if left < 0:
                    raise RuntimeError("a free list does not end")
                yield Listed((row, s), (0, block * word))
                block = words[block]

    def list_bits(self) -> Iterator[ListBit]:
        """Both levels of bitmaps: every set bit, and the bit of every list that has a head."""
        heads, rows, sl = self._heads, self._rows, self._g.sl
        for row, bits in enumerate(self._row_bits):
            of_row = heads[row << sl : (row + 1) << sl]
            if bits or rows >> row & 1 or any(of_row):
                yield ListBit(f"row {row}", tuple((row, s) for s in range(1 << sl)), bool(rows >> row & 1))
                for s, head in enumerate(of_row):
                    if head or bits >> s & 1:
                        yield ListBit(f"list {row},{s}", ((row, s),), bool(bits >> s & 1))

    def _occupied(self) -> Iterator[tuple[int, int]]:
        """(row, second level) of every list that has a head; whole empty rows are passed over at once."""
        heads, sl = self._heads, self._g.sl
        for row in range(self._g.rows):
            if any(of_row := heads[row << sl : (row + 1) << sl]):
                yield from ((row, s) for s, head in enumerate(of_row) if head)

    def counters(self) -> dict[str, int]:
        """Live objects as the size words tell them.  O(blocks)."""
        return {"live_objects": sum(1 for _, head in self._walk() if not head & _FREE)}

    def cost(self) -> dict[str, int]:
        """Steps of the last allocation: list heads probed, and the payload that the search settled on."""
        return {"probed": self._probed, "found": self._found} if self._probed else {"probed": 0}

    def metadata(self) -> tuple[int, int]:
        """(bytes in the arena, bytes of the control structure)."""
        word = self._g.word
        in_place = sum(word for _ in self._walk()) + word
        return in_place, word * (len(self._heads) + len(self._row_bits) + 1)

    # ---- blocks ------------------------------------------------------------------------

    def _adjust(self, size: int) -> int:
        """The payload to look for; 0 when the request is out of range."""
        g = self._g
        if size > self._mask:  # no caller of a machine with this word can say it
            return 0
        if self._published:  # aligned before it is limited: the sum wraps at the top of the word
            aligned = align_up(size, g.word) & self._mask
            return max(aligned, g.least) if aligned < g.most else 0
        if size >= g.most:
            return 0
        rounded = g.round_up(max(align_up(size, g.word), g.least))
        return rounded if rounded < g.most else 0

    def _alloc_aligned(self, adjusted: int, align: int) -> int | None:
        """Search for room to shift the payload, and free the gap in front if a block can live there.

        [ free ............. ] => [ free gap ][ used ][ free ]
        """
        g, word = self._g, self._g.word
        wanted = _with_gap(g, adjusted, align)
        block = self._take(wanted) if wanted < g.most else _NONE
        if not block:
            return None
        start = block * word
        gap = align_up(start, align) - start
        if gap and gap < g.header:
            gap = align_up(start + gap + max(g.header - gap, align), align) - start
        if gap:
            size = self._words[block - 1] & ~_FLAGS
            lead, block = block, block + gap // word
            self._words[lead - 1] = gap - word | self._words[lead - 1] & _FLAGS
            self._words[block - 1] = size - gap | _FREE | _PREV_FREE
            self._words[block - 2] = lead
            self._insert(lead, gap - word)
        return self._use(block, adjusted)

    def _use(self, block: int, size: int) -> int:
        """Cut a free, unlisted block to ``size`` and mark it used; its offset.

        [ free .......... ] => [ used ][ free ]
        """
        words, word = self._words, self._g.word
        head = words[block - 1]
        whole = head & ~_FLAGS
        if whole >= size + self._g.header:
            rest, left = block + size // word + 1, whole - size - word
            words[block - 1] = size | head & _PREV_FREE
            words[rest - 1] = 0  # its flags are set with its size; the block before it is used
            self._mark_free(rest, left)
            self._insert(rest, left)
        else:
            words[block - 1] = whole | head & _PREV_FREE
            words[block + whole // word] &= ~_PREV_FREE
        return block * word

    def _trim_used(self, block: int, size: int) -> None:
        """Free the tail of a used block, merged with what is free behind it."""
        words, word = self._words, self._g.word
        head = words[block - 1]
        whole = head & ~_FLAGS
        if whole < size + self._g.header:
            return
        words[block - 1] = size | head & _FLAGS
        rest, left = block + size // word + 1, whole - size - word
        tail = words[rest + left // word]
        if tail & _FREE:
            self._remove(rest + left // word + 1, tail & ~_FLAGS)
            left += (tail & ~_FLAGS) + word
        words[rest - 1] = 0
        self._mark_free(rest, left)
        self._insert(rest, left)

    def _mark_free(self, block: int, size: int) -> None:
        """Write a free block's size, and tell the block behind it."""
        words = self._words
        words[block - 1] = size | _FREE | words[block - 1] & _PREV_FREE
        after = block + size // self._g.word + 1
        words[after - 1] |= _PREV_FREE
        words[after - 2] = block

    def _walk(self) -> Iterator[tuple[int, int]]:
        """(payload word, size word) of every block, by address, up to the sentinel."""
        words, word = self._words, self._g.word
        block, limit = 1, self._arena // word
        head = words[0]
        while head & ~_FLAGS:
            yield block, head
            block += (head & ~_FLAGS) // word + 1
            if block > limit:
                raise RuntimeError(f"a block reaches past the arena, to {block * word}")
            head = words[block - 1]

    # ---- lists -------------------------------------------------------------------------

    def _take(self, size: int) -> int:
        """Unlink and return the head of the first non-empty list whose blocks all fit; 0 if none."""
        row, s = self._g.search(size)
        if row >= len(self._row_bits):
            return _NONE
        bits = self._row_bits[row] >> s << s
        if not bits:
            rows = self._rows >> (row + 1) << (row + 1)
            if not rows:
                return _NONE
            row = (rows & -rows).bit_length() - 1
            bits = self._row_bits[row]
        block = self._heads[row << self._g.sl | (bits & -bits).bit_length() - 1]
        self._probed = 1
        self._found = found = self._words[block - 1] & ~_FLAGS
        self._remove(block, found)
        return block

    def _insert(self, block: int, size: int) -> None:
        """Push a free block on its list.  O(1)."""
        row, s = self._g.insert(size)
        index = row << self._g.sl | s
        words, head = self._words, self._heads[index]
        words[block] = head
        words[block + 1] = _NONE
        if head:
            words[head + 1] = block
        self._heads[index] = block
        self._row_bits[row] |= 1 << s
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
        row, s = self._g.insert(size)
        self._heads[row << self._g.sl | s] = after
        if not after:
            self._row_bits[row] &= ~(1 << s)
            if not self._row_bits[row]:
                self._rows &= ~(1 << row)


# ---- what is promised ------------------------------------------------------------------


def _with_gap(g: Geometry, adjusted: int, align: int) -> int:
    """Payload to search for so that an aligned part of ``adjusted`` bytes fits behind a legal gap."""
    return align_up(adjusted + align + g.header, align)


@lru_cache(maxsize=256)
def _contract(arena: int, word: int, sl: int, rev: str) -> tuple[Contract, Geometry]:
    if word not in (32, 64):
        raise ValueError(f"word is 32 or 64 bits, not {word}")
    if not 1 <= sl <= 5:
        raise ValueError(f"sl is 1 to 5, not {sl}")
    if rev not in _REVISIONS:
        raise ValueError(f"no revision {rev!r} of tlsf")
    g = geometry(word, sl)
    if arena % g.word or not 4 * g.header <= arena < g.most:
        raise ValueError(f"arena must be a multiple of {g.word}, from {4 * g.header} to {g.most}, not {arena}")
    largest = g.list_start(arena - 2 * g.word)
    promise = partial(_can_serve, arena, g, bool(rev))
    contract = Contract(
        arena=arena,
        max_size=largest,
        zero_size="refuse",
        granule=g.word,
        max_align=max(g.word, 1 << (arena // 8).bit_length() - 1),
        limits=_limits(g, largest),
        rejects=frozenset({"zero", "huge", "align"}),
        header=g.word,
        prologue=g.word,
        epilogue=g.word,
        mergeable=_always,
        list_of=partial(_list_of, g),
        overhead=partial(_overhead, arena, g),
        metadata_bound=partial(_metadata_bound, g),
        waste=partial(_waste, g, bool(rev)),
        drained_size=largest,
        must_serve=promise,
        must_refuse=partial(_cannot_serve, promise),
        free_then_alloc=not rev,
        cost_bounds={"probed": _one},
    )
    return contract, g


def _limits(g: Geometry, largest: int) -> tuple[int, ...]:
    """Sizes at which lists begin, thinned to some sixty-four."""
    starts, size = [g.least, g.small], g.small
    while size <= largest:
        starts.append(size)
        size += 1 << (size.bit_length() - 1 - g.sl)
    return tuple(sorted({*starts[:: -(-len(starts) // 64)], g.least, g.small, largest}))


def _always(one: FreeRegion, two: FreeRegion) -> bool:
    return True


def _one(request: Request, shadow: Shadow) -> int:
    return 1


def _list_of(g: Geometry, region: FreeRegion) -> Hashable:
    return g.insert(region.length)


def _payloads(arena: int, g: Geometry, shadow: Shadow) -> Iterator[int]:
    """Payload sizes of the free blocks that the gaps between live payloads must be."""
    for low, high in shadow.gaps(0, g.word, arena):
        size = high - low - (g.word if low == g.word else 2 * g.word)
        if size > 0:
            yield size


def _can_serve(
    arena: int, g: Geometry, published: bool, request: Request, shadow: Shadow, _: PageSource | None
) -> bool:
    """Good fit is exact: served if and only if some free block stands on the searched list or a later one."""
    if request.size < 1 or not is_power_of_two(request.align) or request.size >= g.most:
        return False
    adjusted = max(align_up(request.size, g.word), g.least)
    if not published:
        adjusted = g.round_up(adjusted)
    wanted = _with_gap(g, adjusted, request.align) if request.align > g.word else adjusted
    if wanted >= g.most:
        return False
    first = g.search(wanted)
    return any(g.insert(size) >= first for size in _payloads(arena, g, shadow))


def _cannot_serve(can: "partial[bool]", request: Request, shadow: Shadow, source: PageSource | None) -> bool:
    return not can(request, shadow, source)


def _overhead(arena: int, g: Geometry, shadow: Shadow, _: PageSource | None) -> int:
    """A size word for each block, live or free, and one for the sentinel."""
    return g.word * (len(shadow) + sum(1 for _ in _payloads(arena, g, shadow)) + 1)


def _metadata_bound(g: Geometry, shadow: Shadow, _: PageSource | None) -> int:
    """Blocks are at most the live ones and a free one before and after each; plus the control structure."""
    return g.word * (2 * len(shadow) + 2) + g.word * ((g.rows << g.sl) + g.rows + 1)


def _waste(g: Geometry, published: bool, size: int, align: int) -> int:
    """Alignment, the smallest payload, the rounding of the search, and a tail too short for a header."""
    adjusted = max(align_up(size, g.word), g.least)
    if not published:
        adjusted = g.round_up(adjusted)
    return adjusted - size + g.header - g.word
