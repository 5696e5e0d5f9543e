"""xcfmalloc: an object may lie in two blocks on different pages, and is reached through copies only.

Era: Seth Jennings, posted for zcache in September 2011 to replace xvmalloc, never merged.
Source: ``xcfmalloc.c`` of the first posting, complete.  Its rule of choice tests the wrong
way round whether a part of an object may do, so that it never makes two parts of one: the
revision ``2011-09-v1``.  The second posting says that it fixes ``find_remove_block`` and
nothing more about it; the default here tests as the comments of the first one say.

Objects longer than half a page leave pages half empty when each must lie in one piece.
Here the rest of one page holds the first part and another page the second::

    3000 bytes, headers of 16, blocks of 2048 left over on two pages

    page 1  [ others      ][H 2032 bytes ]        first part: the longest block that is too short
    page 2  [ others      ][H 968|pad|free]       last part: the shortest that is long enough, cut

A request takes a block of the very list it needs; else, unless this is its last part, the
longest shorter one but never one of the least size; else the shortest longer one.  Wholly
free pages are the last list, so partly used pages are filled up first.  A reserve of such
pages is refilled before every request and trimmed after every free.

Handles are descriptors, so blocks could move under them; the posting says that compaction
would use that and leaves it out.  Maintenance ``compact`` adds it, see
``xcfmalloc_compaction``; blocks and descriptors are described in ``xcfmalloc_blocks``.

Left out: locks, gfp flags, highmem mappings.  The source copies whole objects; ``read``
and ``write`` here copy any part of one.  As in the source, ``destroy`` gives back the
reserve pages only: the pages of live objects are lost, so free them first (found by reading
the posted code, which never reached a maintainer).

Costs: up to 64 lists a part; splitting and merging are O(1).

>>> pool = Xcfmalloc(pages=2, reserve=1)
>>> [len(pool.extents(pool.alloc(2100))) for _ in range(3)]
[1, 2, 1]
>>> v1 = Xcfmalloc(pages=2, reserve=1, rev="2011-09-v1")
>>> [len(v1.extents(v1.alloc(2100))) for _ in range(2)], v1.alloc(2100)
([1, 1], None)
"""

from collections.abc import Hashable, Iterator, Mapping
from itertools import chain
from typing import Any

from heaplaw import Context, FreeRegion, InvalidFree, Listed, Maintained, PageSource, Refusal

from .xcfmalloc_blocks import FREE, USED, Blocks, Descriptor
from .xcfmalloc_compaction import compact
from .xcfmalloc_promises import configured

REVISIONS = ("2011-09-v1",)


class Xcfmalloc:
    """A pool over a page source of its own, ``self.source``.

    ``shift``: blocks are multiples of ``2**shift`` bytes.  ``reserve``: free pages kept.
    ``blocks``: most blocks of an object.  ``descs``: most descriptors, 0 for any number.
    ``word``: bytes of a pointer, 8 or 4.  ``debug``: with sentinels in the headers, 1 or 0.
    """

    _make_blocks = Blocks

    def __init__(
        self,
        pages: int = 256,
        page_size: int = 4096,
        shift: int = 6,
        reserve: int = 32,
        blocks: int = 2,
        descs: int = 0,
        word: int = 8,
        debug: int = 1,
        rev: str = "",
    ) -> None:
        if rev and rev not in REVISIONS:
            raise ValueError(f"xcfmalloc has no revision {rev!r}, only {', '.join(REVISIONS)}")
        self._layout, self.contract = configured(pages, page_size, shift, reserve, blocks, descs, word, debug)
        self.source = PageSource(pages, page_size=page_size)
        self._blocks = self._make_blocks(self.source, self._layout, reserve, descs)
        self._header, self._max_blocks = self._layout.header, blocks
        self._inverted = rev == "2011-09-v1"
        self._probed = self._found = self._splits = self._moved = 0
        self._blocks.increase_pool()

    # ---- the operations ----------------------------------------------------------------

    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> int | Refusal | None:
        """Handle of a new object of ``size`` bytes, 0 included; None when it finds no room.

        INVALID for a negative size and for any alignment, TOO_BIG above a page less a header.
        O(lists of a pool) for each part, O(pages) to fill the reserve.
        """
        self._begin()
        if size < 0 or align != 1:
            return Refusal.INVALID
        if size > self._layout.max_alloc:
            return Refusal.TOO_BIG
        blocks, header = self._blocks, self._header
        blocks.increase_pool()
        left, found = size, 0
        first: Descriptor | None = None
        last: Descriptor | None = None
        for blocknum in range(1, self._max_blocks + 1):
            desc = self._find_remove_block(left, blocknum)
            if desc is None:
                self._return_blocks(first)
                return None
            if last is None:
                first = desc
            else:
                last.next = desc
            desc.prev = last
            desc.flags = USED
            last = desc
            found += desc.size - header
            if desc.size >= left + header:
                break
            left -= desc.size - header
        assert first is not None
        assert last is not None
        need = self._layout.aligned(left + header)
        if last.size > need:
            if not blocks.split(last, need):
                self._return_blocks(first)
                return None
            self._splits = 1
        last.size = left + header
        self._found = found
        return first.number

    def _find_remove_block(self, size: int, blocknum: int) -> Descriptor | None:
        """A block for all or a part of ``size`` bytes, off its list; None if there is none."""
        freelists = self._blocks.freelists
        index = self._layout.flindex(size + self._header)
        shorter = range(index, 0, -1) if self._smaller_allowed(blocknum) else ()
        for at in chain((index,), shorter, range(index + 1, len(freelists))):
            self._probed += 1
            desc = freelists[at]
            if desc is not None:
                self._blocks.remove_block(desc)
                return desc
        return None

    def _smaller_allowed(self, blocknum: int) -> bool:
        """May this part be too short?  Not the last one: it is all or nothing now."""
        last = blocknum == self._max_blocks
        return last if self._inverted else not last

    def _return_blocks(self, desc: Descriptor | None) -> None:
        """Put what was taken back; unmerged, since free blocks have no free neighbours."""
        while desc is not None:
            following = desc.next
            self._blocks.insert_block(desc)
            desc = following

    def free(self, handle: int) -> None:
        """Give an object back.  Raises InvalidFree where no used block is named.  O(blocks of an object)."""
        self._begin()
        blocks = self._blocks
        for desc in self._chain(handle):
            desc.flags = FREE
            desc.size = self._layout.aligned(desc.size)
            blocks.insert_block(blocks.merge_free_block(desc))
        blocks.decrease_pool()

    def _chain(self, handle: int) -> list[Descriptor]:
        """Blocks of an object in order.  InvalidFree for what is none; RuntimeError for too many."""
        descs = self._blocks.descs
        if not 0 <= handle < len(descs):
            raise InvalidFree(f"{handle} is no descriptor")
        desc: Descriptor | None = descs[handle]
        parts: list[Descriptor] = []
        while desc is not None:
            if desc.is_free or not desc.allocated:
                raise InvalidFree(f"descriptor {desc.number} is of a free block")
            if len(parts) == self._max_blocks:
                raise RuntimeError(f"object {handle} has more than {self._max_blocks} blocks")
            parts.append(desc)
            desc = desc.next
        return parts

    def maintain(self, kind: str) -> Maintained:
        """``compact``: move blocks so that pages become free, and trim the reserve."""
        if kind != "compact":
            raise ValueError(f"xcfmalloc knows no maintenance {kind!r}, only 'compact'")
        self._begin()
        before = self._blocks.page_count
        self._moved = self._compact()
        return Maintained(pages_freed=before - self._blocks.page_count, moved=self._moved)

    def _compact(self) -> int:
        return compact(self._blocks)

    def destroy(self) -> None:
        """Give the reserve pages back; those of live objects stay taken, as in the source.  O(pages)."""
        self._blocks.release_reserve()

    def _begin(self) -> None:
        self._probed = self._found = self._splits = self._moved = 0
        self._blocks.pages_taken = self._blocks.merges = 0

    # ---- contents ----------------------------------------------------------------------

    def read(self, handle: int, at: int, length: int) -> bytes:
        """``length`` bytes from offset ``at``, gathered.  ValueError past the object's size.  O(length)."""
        memory = self.source.memory
        return b"".join([memory[start : start + n] for start, n in self._pieces(handle, at, length)])

    def write(self, handle: int, at: int, data: bytes) -> None:
        """Scatter ``data`` from offset ``at`` on.  ValueError past the object's size.  O(length)."""
        memory, done = self.source.memory, 0
        for start, n in self._pieces(handle, at, len(data)):
            memory[start : start + n] = data[done : done + n]
            done += n

    def _pieces(self, handle: int, at: int, length: int) -> list[tuple[int, int]]:
        """(address, length) of the pieces of a stretch of an object."""
        if at < 0 or length < 0 or at + length > self.get_alloc_size(handle):
            raise ValueError(f"bytes {at}+{length} leave object {handle}")
        pieces = []
        for desc in self._chain(handle):
            stored = desc.size - self._header
            n = min(stored - at, length)
            if n > 0:
                start = self._blocks.address(desc)
                self._blocks.header_at(start)  # looks at the sentinel
                pieces.append((start + self._header + at, n))
                at, length = 0, length - n
            else:
                at -= min(at, stored)
        return pieces

    def get_alloc_size(self, handle: int) -> int:
        """Bytes of an object as they were asked for.  O(1)."""
        return sum([desc.size - self._header for desc in self._chain(handle)])

    # ---- observations ------------------------------------------------------------------

    def extents(self, handle: int) -> tuple[tuple[int, int, int], ...]:
        """Bytes of its blocks behind their headers, padding included, as its descriptors have it.  O(1)."""
        header, aligned, address = self._header, self._layout.aligned, self._blocks.address
        return tuple([(0, address(desc) + header, aligned(desc.size) - header) for desc in self._chain(handle)])

    def pages(self) -> Iterator[tuple[int, int]]:
        """Pages that have a descriptor for the block at their start, one by one.  O(descriptors)."""
        for page in self._blocks.page_numbers():
            yield page, 1

    def free_regions(self) -> Iterator[FreeRegion]:
        """Free blocks behind their headers, along the headers in the pages.  O(descriptors)."""
        for page in self._blocks.page_numbers():
            for desc in self._blocks.blocks_on(page):
                if desc.is_free:
                    at, index = self._blocks.address(desc), self._layout.flindex(desc.size)
                    yield FreeRegion(0, at + self._header, desc.size - self._header, index)

    def lists(self) -> Iterator[Listed]:
        """Members of every free list, first to last.  RuntimeError for one that does not end."""
        for index in range(self._layout.lists):
            for desc in self._blocks.walk(index):
                yield Listed(index, (0, self._blocks.address(desc) + self._header))

    def counters(self) -> Mapping[str, int]:
        """``pages``, of which ``reserve_pages`` are wholly free; ``descriptors``.  O(1)."""
        blocks = self._blocks
        return {"pages": blocks.page_count, "reserve_pages": blocks.reserve_count, "descriptors": blocks.desc_count}

    def metadata(self) -> tuple[int, int]:
        """Bytes of headers in the pages; bytes of descriptors beside them."""
        blocks = self._blocks.desc_count
        return blocks * self._header, blocks * self._layout.desc_bytes

    def cost(self) -> Mapping[str, int]:
        """Steps of the last call: ``probed`` lists, ``splits``, ``merges``, ``pages_taken``, ``moved`` blocks."""
        steps = {
            "probed": self._probed, "splits": self._splits, "merges": self._blocks.merges,
            "pages_taken": self._blocks.pages_taken, "moved": self._moved,
        }  # fmt: skip
        return steps | {"found": self._found} if self._found else steps

    # ---- states ------------------------------------------------------------------------

    def snapshot(self) -> Hashable:
        """Blocks of every page, lists in order, live bytes: equal states are equal.  O(bytes live)."""
        blocks, memory = self._blocks, self.source.memory
        pages = tuple(
            tuple(self._block_state(desc, memory) for desc in blocks.blocks_on(page)) for page in blocks.page_numbers()
        )
        lists = tuple(tuple(desc.number for desc in blocks.walk(index)) for index in range(self._layout.lists))
        return pages, lists, len(blocks.descs), tuple(blocks.vacant)

    def _block_state(self, desc: Descriptor, memory: bytearray) -> tuple[Any, ...]:
        at = self._blocks.address(desc)
        _, prevoffset = self._blocks.header_at(at)
        stored = b"" if desc.is_free else bytes(memory[at + self._header : at + desc.size])
        following = desc.next.number if desc.next is not None and not desc.is_free else -1
        return desc.number, desc.page, desc.offset, desc.flags, desc.size, prevoffset, following, stored

    def restore(self, state: Any) -> None:
        """Return to a state of ``snapshot``; the page source's armed failures stay.  O(bytes live)."""
        pages, lists, numbers, vacant = state
        old = self._blocks
        for page in old.page_numbers():
            self.source.give(page, 0)
        self._blocks = blocks = self._make_blocks(self.source, self._layout, old.most_reserve, old.most_descs)
        blocks.descs = descs = [Descriptor(number) for number in range(numbers)]
        blocks.vacant = list(vacant)
        blocks.page_count, blocks.desc_count = len(pages), numbers - len(vacant)
        for number, page, offset, flags, size, prevoffset, following, stored in chain.from_iterable(pages):
            if offset == 0:
                self.source.retake(page)
            desc = descs[number]
            desc.allocated, desc.page, desc.offset, desc.flags, desc.size = True, page, offset, flags, size
            if following >= 0:
                desc.next, descs[following].prev = descs[following], desc
            at = blocks.address(desc)
            blocks.set_header(at, desc, prevoffset)
            self.source.memory[at + self._header : at + self._header + len(stored)] = stored
        for members in lists:
            for number in reversed(members):
                blocks.insert_block(descs[number])
