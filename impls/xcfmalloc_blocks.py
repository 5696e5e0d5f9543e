"""Blocks of xcfmalloc: tiles of single pages, each with a header inside and a descriptor outside.

The header leads from a place in a page to the descriptor and to the block before; the
descriptor leads back to the place and is what everybody else holds.  So a block can be
moved, and whoever names it by its descriptor does not notice::

    page    | desc, prevoffset, sentinel |  data ...  | desc, prevoffset, sentinel |  data ...
              |  ^                                      |
              v  |                                      v
            descriptor {page, offset, flags, size, next, prev}     descriptor {...}

``next`` and ``prev`` chain a free list, or the blocks of one object.  ``size`` of a free
block is all of it; of a used one, header and bytes stored.  Free neighbours merge at
once, so no two stay side by side.

Descriptors come from a slab of their own, which may run out.  Freeing one leaves what it
says as it was, as a slab does: that is why freeing an object twice in a row is noticed.

Source: ``xcfmalloc.c``, Seth Jennings' posting of September 2011.

>>> blocks = Blocks(PageSource(pages=3), Layout(4096, 6, 8, 1), reserve=2, descs=0)
>>> blocks.increase_pool(); blocks.reserve_count, blocks.page_count, blocks.desc_count
(2, 2, 2)
"""

from collections.abc import Iterator
from struct import Struct

from heaplaw import PageSource

from .bits import is_power_of_two

FREE, USED = 1, 2  # flags of a descriptor
SENTINEL = 0xDEADBEEF
_HEADERS = {  # (bytes of a pointer, debug): descriptor, prevoffset, sentinel
    (8, 1): Struct("<QiI"), (8, 0): Struct("<Qi4x"), (4, 1): Struct("<IiI"), (4, 0): Struct("<Ii"),
}  # fmt: skip


class Layout:
    """Sizes in bytes that follow from the page, the granularity of blocks and the word of the machine."""

    __slots__ = ("block", "debug", "desc_bytes", "header", "lists", "max_alloc", "packing", "page_size", "shift")

    def __init__(self, page_size: int, shift: int, word: int, debug: int) -> None:
        """Raises ValueError for a layout that no block fits into."""
        if (word, debug) not in _HEADERS:
            raise ValueError(f"word must be 8 or 4 and debug 1 or 0, not {word!r} and {debug!r}")
        self.packing = _HEADERS[word, debug]
        self.debug = bool(debug)
        self.header = self.packing.size
        if not isinstance(page_size, int) or not is_power_of_two(page_size):
            raise ValueError(f"page size {page_size!r} is not a power of two")
        if not isinstance(shift, int) or not 5 <= shift < page_size.bit_length() - 1:
            raise ValueError(f"shift={shift!r}: blocks are 32 bytes or more, and two or more in a page")
        self.page_size, self.shift = page_size, shift
        self.block = 1 << shift  # granularity of blocks
        self.lists = page_size >> shift  # free lists; the last one is of free pages
        self.max_alloc = page_size - self.header
        self.desc_bytes = 3 * word + 8  # a page, two links, offset with flags, size

    def aligned(self, size: int) -> int:
        """Bytes of the blocks' granularity that ``size`` bytes take.  O(1)."""
        return (size + self.block - 1) & -self.block

    def flindex(self, size: int) -> int:
        """Free list of blocks of ``size`` bytes, header included.  O(1)."""
        return ((size + self.block - 1) >> self.shift) - 1


class Descriptor:
    """One block's descriptor; ``number`` stands for its address."""

    __slots__ = ("allocated", "flags", "next", "number", "offset", "page", "prev", "size")

    def __init__(self, number: int) -> None:
        self.number = number
        self.allocated = False  # the slab's own bit
        self.clear()

    def clear(self) -> None:
        """All zero, as the slab hands it out."""
        self.page = self.offset = self.flags = self.size = 0
        self.next: Descriptor | None = None
        self.prev: Descriptor | None = None

    @property
    def is_free(self) -> bool:
        """Does it stand on a free list, or wait for one?"""
        return bool(self.flags & FREE)


class Blocks:
    """Pages cut into blocks, their free lists, and the reserve of wholly free pages."""

    def __init__(self, source: PageSource, layout: Layout, reserve: int, descs: int) -> None:
        """``reserve``: free pages that are kept.  ``descs``: most descriptors; 0 for any number."""
        self.source, self.layout = source, layout
        self.most_reserve, self.most_descs = reserve, descs
        self._reserved_index = layout.lists - 1
        self.freelists: list[Descriptor | None] = [None] * layout.lists
        self.descs: list[Descriptor] = []  # the slab, by number
        self.vacant: list[int] = []  # numbers of those that are not allocated
        self.reserve_count = self.page_count = self.desc_count = 0
        self.pages_taken = self.merges = 0  # steps of the last call

    # ---- descriptors -------------------------------------------------------------------

    def alloc_desc(self) -> Descriptor | None:
        """A cleared descriptor; None when the slab has no more.  O(1)."""
        if self.most_descs and self.desc_count >= self.most_descs:
            return None
        if self.vacant:
            desc = self.descs[self.vacant.pop()]
            desc.clear()
        else:
            desc = Descriptor(len(self.descs))
            self.descs.append(desc)
        desc.allocated = True
        self.desc_count += 1
        return desc

    def free_desc(self, desc: Descriptor) -> None:
        """Give a descriptor back to the slab; what it says stays as it was.  O(1)."""
        desc.allocated = False
        self.vacant.append(desc.number)
        self.desc_count -= 1

    # ---- headers -----------------------------------------------------------------------

    def address(self, desc: Descriptor) -> int:
        """Where a block begins, in bytes of the page source's memory.  O(1)."""
        return desc.page * self.layout.page_size + desc.offset

    def set_header(self, address: int, desc: Descriptor, prevoffset: int) -> None:
        """Write a whole header."""
        if self.layout.debug:
            self.layout.packing.pack_into(self.source.memory, address, desc.number, prevoffset, SENTINEL)
        else:
            self.layout.packing.pack_into(self.source.memory, address, desc.number, prevoffset)

    def header_at(self, address: int) -> tuple[Descriptor, int]:
        """Descriptor and offset of the block before.  RuntimeError for what is no header."""
        number, prevoffset, *sentinel = self.layout.packing.unpack_from(self.source.memory, address)
        if sentinel and sentinel[0] != SENTINEL:
            raise RuntimeError(f"sentinel {sentinel[0]:#x} at {address}")
        if number >= len(self.descs):
            raise RuntimeError(f"header at {address} names descriptor {number}, which does not exist")
        return self.descs[number], prevoffset

    def set_prevoffset(self, address: int, offset: int) -> None:
        """Tell a block where the one before it begins now."""
        desc, _ = self.header_at(address)
        self.set_header(address, desc, offset)

    def clear_sentinel(self, address: int) -> None:
        """Unmake a header.  Without sentinels nothing is written."""
        if self.layout.debug:
            self.source.memory[address + self.layout.header - 4 : address + self.layout.header] = bytes(4)

    def follower(self, desc: Descriptor, size: int) -> int | None:
        """Address of the block ``size`` bytes on; None past the page.  O(1)."""
        if desc.offset + size >= self.layout.page_size:
            return None
        return self.address(desc) + size

    def blocks_on(self, page: int) -> Iterator[Descriptor]:
        """Blocks of a page by address, along their headers.  RuntimeError where one does not lead back.  O(blocks)."""
        offset, size = 0, self.layout.page_size
        while offset < size:
            desc, _ = self.header_at(page * size + offset)
            if not desc.allocated or (desc.page, desc.offset) != (page, offset) or desc.size < self.layout.header:
                raise RuntimeError(f"descriptor {desc.number} does not belong to page {page} offset {offset}")
            yield desc
            offset += self.layout.aligned(desc.size)

    def page_numbers(self) -> list[int]:
        """Pages of the pool, ascending: those that a descriptor calls its own from offset 0 on.  O(descriptors)."""
        return sorted(desc.page for desc in self.descs if desc.allocated and desc.offset == 0)

    # ---- free lists --------------------------------------------------------------------

    def remove_block(self, desc: Descriptor) -> None:
        """Take a free block off its list.  O(1)."""
        index = self.layout.flindex(desc.size)
        if index == self._reserved_index:
            self.reserve_count -= 1
        if self.freelists[index] is desc:
            self.freelists[index] = desc.next
        if desc.prev is not None:
            desc.prev.next = desc.next
        if desc.next is not None:
            desc.next.prev = desc.prev
        desc.next = desc.prev = None

    def insert_block(self, desc: Descriptor) -> None:
        """Put a block in front of the list of its size, as a free one.  O(1)."""
        index = self.layout.flindex(desc.size)
        if index == self._reserved_index:
            self.reserve_count += 1
        desc.size = self.layout.aligned(desc.size)
        first = self.freelists[index]
        desc.next, desc.prev = first, None
        desc.flags = FREE
        self.freelists[index] = desc
        if first is not None:
            first.prev = desc

    def walk(self, index: int) -> Iterator[Descriptor]:
        """Members of a free list, first to last.  RuntimeError for a list that does not end."""
        desc = self.freelists[index]
        for _ in range(len(self.descs) + 1):
            if desc is None:
                return
            yield desc
            desc = desc.next
        raise RuntimeError("free list does not end")

    def merge_free_block(self, desc: Descriptor) -> Descriptor:
        """Unite a block on no list with its free neighbours; the descriptor that is left.  O(1).

        [ prev: free ][ desc ][ next: free ] => [ -------------- prev -------------- ]
        """
        address = self.address(desc)
        _, prevoffset = self.header_at(address)
        page_start = address - desc.offset
        prev = self.header_at(page_start + prevoffset)[0] if desc.offset else None
        after = self.follower(desc, desc.size)
        next_ = self.header_at(after)[0] if after is not None else None
        if prev is not None and prev.is_free:
            self.remove_block(prev)
            prev.size += desc.size
            self.free_desc(desc)
            self.clear_sentinel(address)
            desc = prev
            self.merges += 1
        if next_ is not None and next_.is_free and after is not None:
            self.remove_block(next_)
            desc.size += next_.size
            self.clear_sentinel(after)
            self.free_desc(next_)
            self.merges += 1
            after = self.follower(desc, desc.size)
        if after is not None:
            self.set_prevoffset(after, desc.offset)
        return desc

    def split(self, desc: Descriptor, need: int) -> bool:
        """Cut a block on no list after ``need`` bytes and list the rest; False for want of a descriptor.  O(1).

        [ desc ................ ] => [ desc, need ][ rest: free ]
        """
        rest = self.alloc_desc()
        if rest is None:
            return False
        rest.size, rest.page, rest.offset = desc.size - need, desc.page, desc.offset + need
        after = self.follower(desc, desc.size)
        if after is not None:
            self.set_prevoffset(after, rest.offset)
        self.set_header(self.address(rest), rest, desc.offset)
        self.insert_block(rest)
        return True

    # ---- the reserve -------------------------------------------------------------------

    def increase_pool(self) -> None:
        """Take pages until the reserve is full; stops quietly at the first refusal.  O(pages taken)."""
        for _ in range(self.most_reserve - self.reserve_count):
            desc = self.alloc_desc()
            if desc is None:
                return
            page = self.source.take(0)
            if page is None:
                self.free_desc(desc)
                return
            self.pages_taken += 1
            self.page_count += 1
            self.add_free_page(desc, page)

    def add_free_page(self, desc: Descriptor, page: int) -> None:
        """Make a page one free block.  O(1)."""
        desc.page, desc.offset, desc.size = page, 0, self.layout.page_size
        self.insert_block(desc)
        self.set_header(self.address(desc), desc, 0)

    def decrease_pool(self) -> None:
        """Give free pages beyond the reserve back, the last one listed first.  O(pages given)."""
        for _ in range(self.reserve_count - self.most_reserve):
            desc = self.freelists[self._reserved_index]
            assert desc is not None
            self.remove_block(desc)
            self.source.give(desc.page, 0)
            self.page_count -= 1
            self.free_desc(desc)

    def release_reserve(self) -> None:
        """Give back the free pages, and those only.  O(free pages)."""
        for desc in list(self.walk(self._reserved_index)):
            self.source.give(desc.page, 0)
            self.free_desc(desc)
