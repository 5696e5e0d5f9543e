"""xvmalloc: objects below a page, in one piece, in single pages that need not be mapped.

Era: Nitin Gupta 2008 for compcache; with it as ramzswap, then zram, in the staging drivers
of Linux 2.6.33 to 3.1, and in zcache.  Source: ``xvmalloc.c`` and ``xvmalloc_int.h``.

On 32-bit machines with high memory a page has an address only while it is mapped.  So a
block is named by its page and the offset in it, and every link is such a pair.  (Here a
name is one number, ``page * page_size + offset``; ``divmod`` gives the pair.)  The idea is
TLSF's, with one row of lists; see ``xvmalloc_index``.  Two levels of bitmaps find the
first list that has a block.

Four bytes stand before each payload, 16 bits for its size and 16 for the place of the
block before, whose two low bits say whether this block is free and whether that one is::

    page  [size|prev][ used payload ....][size|prev][ free: links, dead bytes ][size|prev][ used ]
                      ^ name              flag FREE                             flag PREV_FREE,
                                                                                prev = that offset

A used block's size is what was asked for; its real length is that aligned up, so the slack
is 3 bytes at most.  A split leaves a remainder even of no payload at all: remainders of
less than 32 bytes cannot hold the links, stand on no list, and wait for a neighbour to be
freed.  Free neighbours merge at once; a page that is one free block goes back.

Searching rounds up to the next list, so a free block of just the right size is passed over
unless its size begins a list: what was freed cannot always be had again, and of objects of
2044 bytes one fits on a page, though two would.

Two things differ in ``rev="2.6.33"``, found by reading the source; they are unconfirmed by
its maintainers, and the users, which store no more than three quarters of a page, met
neither:

- the largest size is said to be a page less a header, 4092 bytes.  But a search for more
  than 4088 begins past the last list, where the one block of a new page cannot be.  Each
  such call adds a page, fails, and leaves the page in the pool.  The default refuses what
  cannot be found.  (From 2.6.39 on, 64-bit kernels have 8 bytes before each payload,
  ``align=8``; there the limit and the last list agree.)
- a request that may not wait is to fail rather than add a page; yet the flag tested for,
  ``GFP_NOWAIT``, was 0 in all those years, so the page is added.  The default tests what
  is meant.

A double free is noticed while the dead header still says that it is free: not once that has
merged with the block before it, nor when its page has gone.  So nothing is promised.

Left out: locks and mapping.  2.6.39 made lists wider where pages are larger than 4096 bytes;
here they are 8 bytes wide always.

Costs: ``alloc`` and ``free`` are O(1) but for a page from the source.

>>> pool = Xvmalloc(pages=4)
>>> a, b = pool.alloc(100), pool.alloc(2041)
>>> a, pool.extents(b), [tuple(region) for region in pool.free_regions()]
(4, ((0, 108, 2044),), [(0, 2156, 1940, 238)])
>>> pool.free(a); pool.free(b); pool.counters()["pages"]
0
"""

from collections.abc import Iterator, Mapping
from struct import Struct

from heaplaw import (
    Context,
    Direction,
    Extent,
    FreeRegion,
    Hint,
    InvalidFree,
    ListBit,
    Listed,
    PageSource,
    Quantity,
    Refusal,
)

from .bits import align_up, lowest_bit
from .page_images import PageImages
from .tlsf_mapping import from_level
from .xvmalloc_index import LEAST, free_lists, insert_index, search_index
from .xvmalloc_promises import configured, pool_bytes

_FREE, _PREV_FREE = 1, 2  # low bits of the second field: this block is free, the block before is free
_FLAGS = 3
_NONE = -1  # no block, no list


class Xvmalloc:
    """A pool over a page source of its own, ``self.source``.

    ``word``: 64 or 32 bits, of a bitmap word and of a link to a page.  ``align``: bytes of a header
    and of the steps in which payloads grow, 4 or 8.  Handles are addresses in the source's memory;
    inside, a block is the address of its header.
    """

    def __init__(self, pages: int = 256, page_size: int = 4096, word: int = 64, align: int = 4, rev: str = "") -> None:
        self.contract = configured(pages, page_size, word, align, rev)
        self.source = PageSource(pages, page_size=page_size)
        self._memory = self.source.memory
        self._fields = memoryview(self._memory).cast("H")
        self._published = bool(rev)
        self._header, self._page_size = align, page_size
        self._whole = page_size - align  # payload of a page that is one block
        self._max_size = self.contract.largest
        # Links to the pages of the blocks before and after, then their offsets; padded to a word.
        self._page_link, self._link_at = Struct("=Q" if word == 64 else "=I"), max(align, word // 8)
        self._next_at, self._offsets_at = self._link_at + word // 8, self._link_at + word // 4
        self._page_shift, self._offset_mask = page_size.bit_length() - 1, page_size - 1
        self._word_shift, self._bit_mask = word.bit_length() - 1, word - 1
        lists = free_lists(self._whole)
        self._freelist = [_NONE] * lists
        self._slbitmap = [0] * -(-lists // word)  # bit i of word w: list w * word + i has a block
        self._flbitmap = 0  # bit w: word w is not 0
        self._total_pages = 0
        self._found = self._scanned = self._probed = self._grown = 0

    # ---- the operations ----------------------------------------------------------------

    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> int | Refusal | None:
        """Address of a new object; None when the page source refuses a page.

        INVALID for size 0 and for any alignment (the allocator has none to offer), TOO_BIG
        above the largest size, WOULD_BLOCK for an atomic request that needs a page.  O(1).
        """
        self._found = self._scanned = self._probed = self._grown = 0
        if size < 1 or align != 1:
            return Refusal.INVALID
        if size > self._max_size:
            return Refusal.TOO_BIG
        wanted = self._padded(size)
        index = self._find_block(wanted)
        if index == _NONE:
            if ctx is not None and ctx.atomic and not self._published:
                return Refusal.WOULD_BLOCK
            if not self._grow_pool():
                return None
            index = self._find_block(wanted)
            if index == _NONE:
                return None
        block = self._freelist[index]
        self._probed = 1
        self._remove_block(block, index)
        fields, at = self._fields, block >> 1
        self._found = fields[at]
        self._split_block(block, wanted)
        fields[at] = size
        fields[at + 1] &= ~_FREE
        return block + self._header

    def free(self, handle: int) -> None:
        """Give an object back and merge it with its free neighbours; a free page goes back.  O(1).

        [ free ][ this ][ free ] => [ --------- free --------- ]

        Raises InvalidFree where the header says that the block is free already.
        """
        self._found = self._scanned = self._probed = self._grown = 0
        fields, header = self._fields, self._header
        block = handle - header
        if fields[(block >> 1) + 1] & _FREE:
            raise InvalidFree(f"{handle} is free already")
        size = self._restored_size(block)
        after = block + size + header
        if after & self._offset_mask and fields[(after >> 1) + 1] & _FREE:
            size += self._take_in(after)
        tag = fields[(block >> 1) + 1]
        if tag & _PREV_FREE:
            block = (block & ~self._offset_mask) + (tag & ~_FLAGS)
            size += self._take_in(block)
        fields[block >> 1] = size
        if size == self._whole:
            self._release_page(block >> self._page_shift)
            return
        fields[(block >> 1) + 1] |= _FREE
        if self._is_listed(size):
            self._insert_block(block, size)
        after = block + size + header
        if after & self._offset_mask:
            fields[(after >> 1) + 1] |= _PREV_FREE
            self._set_blockprev(after, block)

    def get_object_size(self, handle: int) -> int:
        """Bytes that were asked for.  O(1)."""
        return self._fields[handle - self._header >> 1]

    def get_total_size_bytes(self) -> int:
        """Bytes of the pages held, contents and headers together.  O(1)."""
        return self._total_pages << self._page_shift

    def read(self, handle: int, at: int, length: int) -> bytes:
        """``length`` bytes from offset ``at``.  ValueError past the object's length.  O(length)."""
        start = self._inside(handle, at, length)
        return bytes(self._memory[start : start + length])

    def write(self, handle: int, at: int, data: bytes) -> None:
        """Put ``data`` at offset ``at``.  ValueError past the object's length.  O(length)."""
        start = self._inside(handle, at, len(data))
        self._memory[start : start + len(data)] = data

    def destroy(self) -> None:
        """Forget the pool, which the caller has emptied: pages with live objects stay taken.  O(1)."""

    # ---- blocks ------------------------------------------------------------------------

    def _padded(self, size: int) -> int:
        """Bytes that an object of this size takes up."""
        return align_up(size, self._header)

    def _restored_size(self, block: int) -> int:
        """Payload of a block that is being freed: its size field is what was asked for."""
        return self._padded(self._fields[block >> 1])

    def _is_listed(self, size: int) -> bool:
        """Has a free block of this payload room for the links of a list?"""
        return size >= LEAST

    def _split_block(self, block: int, wanted: int) -> None:
        """Cut a free, unlisted block to ``wanted``; what is left, be it a bare header, is a free block.

        [ free .......... ] => [ wanted ][ rest ]
        """
        fields, header = self._fields, self._header
        left = fields[block >> 1] - wanted
        rest = block + wanted + header
        if not left:
            self._exact_fit(rest)
            return
        left -= header
        fields[rest >> 1] = left
        fields[(rest >> 1) + 1] = _FREE  # every bit anew: an object's stale bytes may stand here
        self._set_blockprev(rest, block)
        if self._is_listed(left):
            self._insert_block(rest, left)
        after = rest + left + header
        if after & self._offset_mask:
            self._after_split(after, rest)  # it knows already that what stands before it is free

    def _exact_fit(self, after: int) -> None:
        """The block behind a used one must not take that for free."""
        if after & self._offset_mask:
            self._fields[(after >> 1) + 1] &= ~_PREV_FREE

    def _after_split(self, after: int, rest: int) -> None:
        """Tell the block behind a remainder where that begins."""
        self._set_blockprev(after, rest)

    def _set_blockprev(self, block: int, before: int) -> None:
        at = (block >> 1) + 1
        self._fields[at] = before & self._offset_mask | self._fields[at] & _FLAGS

    def _take_in(self, block: int) -> int:
        """Unlist a free block that is to be merged; the bytes gained, header included."""
        size = self._fields[block >> 1]
        if self._is_listed(size):
            self._remove_block(block, insert_index(size, self._whole))
        return size + self._header

    # ---- pages -------------------------------------------------------------------------

    def _grow_pool(self) -> bool:
        """Add a page, one free block; False when the source refuses."""
        page = self.source.take(0)
        if page is None:
            return False
        self._grown += 1
        self._total_pages += 1
        block = page << self._page_shift
        self._fields[block >> 1] = self._whole
        self._fields[(block >> 1) + 1] = _FREE
        self._insert_block(block, self._whole)
        return True

    def _release_page(self, page: int) -> None:
        self.source.give(page, 0)
        self._total_pages -= 1

    # ---- lists -------------------------------------------------------------------------

    def _find_block(self, size: int) -> int:
        """Number of the first list with a block on which each one holds ``size`` bytes; -1 if none.  O(1)."""
        self._scanned += 1
        if not self._flbitmap:
            return _NONE
        index, shift = search_index(size), self._word_shift
        word = index >> shift
        self._scanned += 1
        found = from_level(self._slbitmap[word], index & self._bit_mask)
        if not found:
            words = from_level(self._flbitmap, word + 1)
            if not words:
                return _NONE
            word = lowest_bit(words)
            self._scanned += 1
            found = self._slbitmap[word]
        return (word << shift) + lowest_bit(found)

    def _insert_block(self, block: int, size: int) -> None:
        """Put a free block in front of the list that its size belongs on.  O(1)."""
        index = insert_index(size, self._whole)
        after = self._freelist[index]
        self._set_before(block, _NONE)
        self._set_after(block, after)
        self._freelist[index] = block
        if after != _NONE:
            self._set_before(after, block)
            return  # the bits are set
        word = index >> self._word_shift
        self._slbitmap[word] |= 1 << (index & self._bit_mask)
        self._flbitmap |= 1 << word

    def _remove_block(self, block: int, index: int) -> None:
        """Take a free block off its list, wherever it stands on it.  O(1)."""
        before, after = self._before(block), self._after(block)
        if before != _NONE:
            self._set_after(before, after)
        if after != _NONE:
            self._set_before(after, before)
        if self._freelist[index] == block:
            self._freelist[index] = after
            if after == _NONE:
                self._clear_bits(index)
        self._set_before(block, _NONE)
        self._set_after(block, _NONE)

    def _clear_bits(self, index: int) -> None:
        """A list has become empty: its bit goes, and its word's with the last one of the word.  O(1)."""
        word = index >> self._word_shift
        self._slbitmap[word] &= ~(1 << (index & self._bit_mask))
        if not self._slbitmap[word]:
            self._flbitmap &= ~(1 << word)

    def _before(self, block: int) -> int:
        """The block before this one on its list, or none."""
        page = self._page_link.unpack_from(self._memory, block + self._link_at)[0]
        return (page - 1 << self._page_shift) + self._fields[block + self._offsets_at >> 1] if page else _NONE

    def _after(self, block: int) -> int:
        """The block after this one on its list, or none."""
        page = self._page_link.unpack_from(self._memory, block + self._next_at)[0]
        return (page - 1 << self._page_shift) + self._fields[block + self._offsets_at + 2 >> 1] if page else _NONE

    def _set_before(self, block: int, before: int) -> None:
        """A page stands as its number + 1, for 0 is no page."""
        self._page_link.pack_into(self._memory, block + self._link_at, (before >> self._page_shift) + 1)
        self._fields[block + self._offsets_at >> 1] = before & self._offset_mask if before >= 0 else 0

    def _set_after(self, block: int, after: int) -> None:
        self._page_link.pack_into(self._memory, block + self._next_at, (after >> self._page_shift) + 1)
        self._fields[block + self._offsets_at + 2 >> 1] = after & self._offset_mask if after >= 0 else 0

    # ---- observations ------------------------------------------------------------------

    def extents(self, handle: int) -> tuple[tuple[int, int, int], ...]:
        """The payload, slack included, as the size field says.  O(1)."""
        return ((0, handle, self._padded(self.get_object_size(handle))),)

    def free_regions(self) -> Iterator[FreeRegion]:
        """Free blocks met walking the headers of all pages, bare headers included.  O(blocks)."""
        for block, size, tag in self._walk():
            if tag & _FREE:
                index = insert_index(size, self._whole) if size >= LEAST else None
                yield FreeRegion(0, block + self._header, size, index)

    def lists(self) -> Iterator[Listed]:
        """Free blocks met walking the lists.  O(lists + free blocks)."""
        for index, block in self._listed():
            yield Listed(index, (0, block + self._header))

    def list_bits(self) -> Iterator[ListBit]:
        """Both levels of bitmaps.  O(lists)."""
        heads, bits = self._freelist, self._bit_mask + 1
        for word, of_word in enumerate(self._slbitmap):
            first = word * bits
            lists = range(first, min(first + bits, len(heads)))
            yield ListBit(f"word {word}", tuple(lists), bool(self._flbitmap >> word & 1))
            for index in lists:
                if heads[index] != _NONE or of_word >> (index - first) & 1:
                    yield ListBit(f"list {index}", (index,), bool(of_word >> (index - first) & 1))

    def hints(self) -> Iterator[Hint]:
        """What each header says of the block before it, and that the last block ends the page.  O(blocks).

        Bytes that are free right before a header; the region begins in the used block before those.
        """
        header, page = self._header, 0
        for block, size, tag in self._walk():
            if offset := block & self._offset_mask:
                free = offset - (tag & ~_FLAGS) if tag & _PREV_FREE else 0
                yield _free_before("prev", block, free, min(offset, free + header))
            else:
                page = block
            if block + size + header == page + self._page_size:
                free = size + header if tag & _FREE else 0
                yield _free_before("last", page + self._page_size, free, min(free + header, self._page_size))

    def counters(self) -> Mapping[str, int]:
        """``pages`` as the pool counts them; objects and their bytes by the headers.  O(blocks)."""
        used = [size for _, size, tag in self._walk(requested=True) if not tag & _FREE]
        return {
            "pages": self._total_pages,
            "live_objects": len(used),
            "requested_bytes": sum(used),
            "used_bytes": sum(map(self._padded, used)),
        }

    def cost(self) -> Mapping[str, int]:
        """Of the last call: bitmap words ``scanned``, heads ``probed``, ``pages_taken``; ``found``, a payload or 0."""
        return {
            "scanned": self._scanned, "probed": self._probed, "pages_taken": self._grown, "found": self._found,
        }  # fmt: skip

    def metadata(self) -> tuple[int, int]:
        """(bytes of headers in the pages, bytes of the pool itself).  O(blocks)."""
        blocks = sum(1 for _ in self._walk())
        return self._header * blocks, pool_bytes(self._page_size, self._header, self._bit_mask + 1)

    def _walk(self, requested: bool = False) -> Iterator[tuple[int, int, int]]:
        """(block, payload, second field) of every block by address; for used ones what was asked, if wanted.

        The pool has no list of its pages, as a full one needs none: the walk starts from those
        that the source has lent.  RuntimeError for a block that reaches past its page.
        """
        fields, header, shift = self._fields, self._header, self._page_shift
        for page in sorted(self.source.runs):
            block, end = page << shift, page + 1 << shift
            while block < end:
                size, tag = fields[block >> 1], fields[(block >> 1) + 1]
                length = size if tag & _FREE else self._padded(size)
                if block + header + length > end:
                    raise RuntimeError(f"the block at {block} reaches past its page, by its size of {size}")
                yield block, size if requested else length, tag
                block += header + length

    def _listed(self) -> Iterator[tuple[int, int]]:
        """(list, block) of every listed block, in order.  RuntimeError for a list that does not end."""
        left = len(self._memory) // (LEAST + self._header)
        for index, head in enumerate(self._freelist):
            block = head
            while block != _NONE:
                left -= 1
                if left < 0:
                    raise RuntimeError("free list does not end")
                yield index, block
                block = self._after(block)

    def _inside(self, handle: int, at: int, length: int) -> int:
        usable = self._padded(self.get_object_size(handle))
        if at < 0 or length < 0 or at + length > usable:
            raise ValueError(f"bytes {at}+{length} leave an object of {usable}")
        return handle + at

    # ---- states ------------------------------------------------------------------------

    def snapshot(self) -> "State":
        """The pool as it is now; hashable.  O(bytes held + lists)."""
        return State(self)

    def restore(self, state: "State") -> None:
        """Return to a state of ``snapshot``; armed failures of the source stay.  O(bytes held + lists)."""
        state.images.put_back(self.source)
        heads, bits, self._flbitmap, self._total_pages = state.pool
        self._freelist, self._slbitmap = list(heads), list(bits)
        self._found = self._scanned = self._probed = self._grown = 0


class State:
    """A pool at one moment, equal to one in which the same calls would have the same effect.

    ``shape`` is what equality means: headers, lists in order with their links, bitmaps and the pages
    held.  Contents ride along, for ``restore``.
    """

    __slots__ = ("images", "pool", "shape")

    def __init__(self, heap: Xvmalloc) -> None:
        self.images = PageImages(heap.source)
        self.pool = (tuple(heap._freelist), tuple(heap._slbitmap), heap._flbitmap, heap._total_pages)
        # Where the block before is used, its place is a stale number.
        headers = tuple(
            (block, size, tag if tag & _PREV_FREE else tag & _FLAGS) for block, size, tag in heap._walk(requested=True)
        )
        listed = tuple((*entry, heap._before(entry[1])) for entry in heap._listed())
        self.shape = (self.images.runs, headers, listed, self.pool[1:])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, State) and self.shape == other.shape

    def __hash__(self) -> int:
        return hash(self.shape)


def _free_before(name: str, end: int, free: int, length: int) -> Hint:
    """A claim that the last ``length`` bytes before ``end`` are free in just the last ``free`` ones."""
    region, witness = Extent(0, end - length, length), Extent(0, end - free, free)
    return Hint(name, free, region, Direction.EXACT, Quantity.FREE_AT_END, witness if free else None)
