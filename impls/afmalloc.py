"""afmalloc, the anti-fragmentation allocator: objects split into pieces that kmalloc serves.

Era: Joonsoo Kim, RFC "mm/afmalloc: introduce anti-fragmentation memory allocator", linux-mm,
26 September 2014; never merged.  Source: mm/afmalloc.c and include/linux/afmalloc.h of that
posting, on 64-bit words, or 32-bit ones with ``word=4``.

An object is split into powers of two (see ``afmalloc_pieces``), which are exactly kmalloc's
sizes, so that no bytes are lost between size classes.  Its handle is the address of a small
metadata entry, itself from kmalloc, that points to the pieces.  Where that would cost as much as
one power of two, the object is served by kmalloc as it is, and its handle is its own address,
tagged with an odd bit::

    400 bytes   handle -> [ level 3 | alloced 448 | p0 | p1 | p2 ]      32 bytes
                                                    |    |    '-> 32
                                                    |    '------> 128
                                                    '-----------> 256
    512 bytes   handle = address | 1

Freed pieces are ordinary slab memory again, which the rest of the kernel can use; that is the
point of it.  So there are two levels of accounting.  ``pool_bytes`` (the source's pool->size)
is what kmalloc gave for live objects, metadata included, and what ``quota`` limits (0: nothing
does).  ``pages`` are the slab's, with all that it holds back for others.

Pieces are in the page source's memory, and so are the metadata entries, with pointers as the
kernel has them: addresses above the start of its map of all memory, so that 0 is none.

An object in pieces is mapped by a copy into a page of the CPU's own, and stored back when it is
unmapped unless it was mapped for reading only; one in one piece is mapped where it is.

``piece`` caps the size of a piece, for slabs that need no high order of pages (Seth Jennings,
30 September 2014): 3 KiB in pieces of 256 bytes are 12 copies.  An object longer than that is
then always split, and into at most ``max_level`` pieces; a longer one is refused.

``maintain("compact")`` is the author's answer in the thread, in an order in which nothing can
be lost; see ``afmalloc_compaction``.  ``maintain("shrink")`` lets the slabs give back their empty
pages.

Repaired here; ``rev="2014-09"`` has them as posted (read in the source; unconfirmed by its
author).  When a piece is refused, all ``level`` pointers are freed, of which those not yet
allocated hold whatever the metadata's memory held before; here only those that were had are.
Loading and storing split by the length that is passed, so that another length than the object was
made for leads into the wrong pieces, and one that ends with a piece asks for the power of two
below 0; here the pieces' own sizes are gone by, which kmalloc tells.  Mapping copies a split object
of more than a page over the end of the CPU's page; here a longer one gets no copy.

Kept, though odd: metadata is allocated before it is known whether it pays, so that an object
that needs none may be refused for want of it.

Left out: locks, gfp flags, the zram patch.  Nothing is noticed about a wrong handle.

Costs: ``alloc`` and ``free`` call kmalloc or kfree ``level + 2`` times at most, as many times as
there are pieces and metadata.

>>> pool = Afmalloc(pages=16)
>>> handle = pool.alloc(400)
>>> handle % 2, [length for _, _, length in pool.extents(handle)], pool.counters()["pool_bytes"]
(0, [256, 128, 32], 448)
>>> pool.alloc(500) % 2, pool.counters()["pool_bytes"]
(1, 960)
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from heaplaw import Context, FreeRegion, Maintained, PageSource, Refusal

from .afmalloc_compaction import compact, move
from .afmalloc_pieces import ENTRY_HEAD, calculate_level, cut, entry_size, is_split, last_piece
from .afmalloc_promises import configured
from .kmalloc import Kmalloc
from .mapping_areas import MappingAreas
from .slab_pages import PAGE_OFFSET

DIRECT_ENTRY = 1
_PAGE_OFFSET = {8: PAGE_OFFSET, 4: 0xC000_0000}  # where the kernel maps all memory, by bytes of a word


class Slab(Protocol):
    """What is needed of a kmalloc; addresses are bytes in the page source's memory."""

    source: PageSource

    def alloc(self, size: int) -> Any: ...
    def free(self, address: int) -> None: ...
    def ksize(self, address: int) -> int: ...
    def pages(self) -> Any: ...
    def free_regions(self) -> Any: ...
    def maintain(self, kind: str) -> Any: ...
    def destroy(self) -> None: ...
    def snapshot(self) -> Any: ...
    def restore(self, state: Any) -> None: ...


def _over_slub(pages: int, page_size: int) -> Slab:
    """kmalloc as most kernels have it."""
    return Kmalloc(pages, page_size=page_size, era="slub")


def _over_slab(pages: int, page_size: int) -> Slab:
    """kmalloc over SLAB, whose smallest class is 32 bytes."""
    return Kmalloc(pages, page_size=page_size, era="slab")


_KMALLOCS: Mapping[str, Callable[[int, int], Slab]] = {"slub": _over_slub, "slab": _over_slab}


class Afmalloc:
    """A pool over a kmalloc of its own, and with it over ``self.source``.

    ``max_level``: most pieces of an object, 1 to 7 (6 with ``word=4``), which is the default; with
    ``piece``, the largest piece in bytes, 1 to 512, default 64.  ``quota``: most bytes that
    kmalloc may give for live objects, 0: any.  ``cpus``: that may map objects.  ``word``: 8 or 4
    bytes.  ``era``: of kmalloc, "slub" or "slab".  ``kmalloc``: makes another slab allocator for
    so many pages of so many bytes.
    """

    def __new__(cls, *args: Any, rev: str = "", **kwargs: Any) -> "Afmalloc":
        """The pool as it was posted, where that is asked for."""
        if cls is Afmalloc and rev:
            from .afmalloc_published import PublishedAfmalloc  # a kind of this class, which must exist first

            return object.__new__(PublishedAfmalloc)
        return object.__new__(cls)

    def __init__(
        self,
        pages: int = 256,
        page_size: int = 4096,
        max_level: int = 0,
        quota: int = 0,
        piece: int = 0,
        cpus: int = 1,
        word: int = 8,
        era: str = "slub",
        *,
        rev: str = "",
        kmalloc: Callable[[int, int], Slab] | None = None,
    ) -> None:
        make = kmalloc or _KMALLOCS.get(era, _over_slub)
        terms, self.contract = configured(pages, page_size, max_level, quota, piece, cpus, word, era, rev, make)
        self._slab = make(pages, page_size)
        self.source = self._slab.source
        self._max_level, self._piece, self._quota, self._word = terms.max_level, piece, quota, word
        self._longest = terms.longest
        self._base = _PAGE_OFFSET[word]
        self._areas = MappingAreas(cpus, page_size)
        self._entries: dict[int, None] = {}  # addresses of all metadata; what compaction goes through
        self._size = 0  # pool->size
        self._kmallocs = self._copies = 0

    # ---- the operations ----------------------------------------------------------------

    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> int | Refusal | None:
        """Handle of a new object; None when kmalloc refuses a piece, or the quota is reached.

        INVALID for size 0 and for any alignment; TOO_BIG for more than there is memory, or than
        ``max_level`` pieces hold where pieces are capped.  O(pieces).
        """
        self._kmallocs = self._copies = 0
        if size < 1 or align != 1:
            return Refusal.INVALID
        if size > self._longest:
            return Refusal.TOO_BIG
        return self._alloc_entry(size)

    def free(self, handle: int, *, ctx: Context | None = None) -> None:
        """Give an object back; nothing happens for handle 0.  O(pieces)."""
        self._kmallocs = self._copies = 0
        if handle:
            self._size -= self._free_entry(handle)

    def store(self, handle: int, data: bytes) -> int:
        """Write an object from its start on; bytes written.  O(length)."""
        self._copies = 0
        if not handle or not data:
            return 0
        self._store(handle, 0, data)
        return len(data)

    def load(self, handle: int, length: int) -> bytes:
        """Read an object from its start on; none for handle 0.  O(length)."""
        self._copies = 0
        if not handle or not length:
            return b""
        return self._load(handle, 0, length)

    def map(self, handle: int, mode: str = "rw", *, ctx: Context | None = None) -> None:
        """Make an object one stretch of memory for the CPU of ``ctx``, "ro" or "rw".

        A split object of more than a page cannot be: it gets no copy.  Raises ValueError for a
        CPU that has a mapping.  O(length).
        """
        self._copies = 0
        length = 0 if handle & DIRECT_ENTRY else self._mapped_length(handle)
        buffered = 0 < length <= self._areas.size
        mapping = self._areas.open(ctx.cpu if ctx is not None else 0, handle, mode, buffered, length)
        if mapping.buffer is not None:
            mapping.buffer[:length] = self._load(handle, 0, length)

    def _mapped_length(self, handle: int) -> int:
        """Bytes of a split object that are copied: all that its pieces hold."""
        return sum(size for _, size in self._pieces(handle))

    def unmap(self, handle: int, *, ctx: Context | None = None) -> None:
        """End the mapping on the CPU of ``ctx``.  ValueError where there is none.  O(length)."""
        self._copies = 0
        mapping = self._areas.close(ctx.cpu if ctx is not None else 0, handle)
        if mapping.buffer is not None and mapping.mode != "ro":
            self._store(handle, 0, bytes(mapping.buffer[: mapping.length]))

    def used_pages(self) -> int:
        """Whole pages in ``pool_bytes``.  O(1)."""
        return self._size // self.source.page_size

    def maintain(self, kind: str) -> Maintained:
        """``compact``: move pieces to the lowest addresses; ``shrink``: give empty slabs back.

        Compaction is O(pieces * log pieces + free slots of their sizes).
        """
        self._kmallocs = self._copies = 0
        if kind not in self.contract.maintenance:
            raise ValueError(f"afmalloc knows the maintenance {', '.join(self.contract.maintenance)}, not {kind!r}")
        held, moved = self.source.held, 0
        self._slab.maintain("shrink")
        if kind == "compact":
            moved = compact(self)
            self._slab.maintain("shrink")
        return Maintained(pages_freed=held - self.source.held, moved=moved)

    def destroy(self) -> None:
        """Give every page back, whatever is live (the source leaks what is).  O(pages)."""
        self._slab.destroy()
        self._entries, self._size = {}, 0
        self._areas.restore(())

    # ---- entries -----------------------------------------------------------------------

    def _alloc_entry(self, length: int) -> int | Refusal | None:
        """An object in pieces where that pays, else one as kmalloc has it."""
        level = calculate_level(length, self._max_level + bool(self._piece), self._piece)
        if level > self._max_level:  # only where pieces are capped, so that the last one cannot hold the rest
            return Refusal.TOO_BIG
        if level == 1:
            return self._alloc_direct_entry(length)
        entry = self._kmalloc(entry_size(level, self._word))
        if entry is None:
            return None
        metadata = self._slab.ksize(entry)
        if not self._pays(length, level, metadata):
            self._slab.free(entry)
            return self._alloc_direct_entry(length)
        pieces = self._alloc_pieces(entry, level, length)
        if not pieces:
            return None
        if not self._charge(metadata + pieces):
            self._err(entry, level, level)
            return None
        self._set_head(entry, level, metadata + pieces)
        self._entries[entry] = None
        return self._base + entry

    def _pays(self, length: int, level: int, metadata: int) -> bool:
        """Are so many pieces, with their metadata, cheaper than the object in one?"""
        return is_split(length, level, metadata, self._piece)

    def _alloc_direct_entry(self, length: int) -> int | None:
        address = self._kmalloc(length)
        if address is None:
            return None
        if not self._charge(self._slab.ksize(address)):
            self._slab.free(address)
            return None
        return (self._base + address) | DIRECT_ENTRY

    def _alloc_pieces(self, entry: int, level: int, length: int) -> int:
        """Allocate all pieces of an object; their bytes, or 0 with nothing left of the object."""
        alloced = 0
        for index in range(level):
            size = cut(length, self._piece) if index < level - 1 else self._last_piece(length)
            address = self._kmalloc(size)
            self._set_pointer(entry, index, 0 if address is None else self._base + address)
            if address is None:
                self._err(entry, level, index)
                return 0
            alloced += size
            length -= size
        return alloced

    def _last_piece(self, length: int) -> int:
        """Bytes of the piece that holds all that remains."""
        return last_piece(length)

    def _err(self, entry: int, level: int, got: int) -> None:
        """Undo an allocation of which ``got`` of ``level`` pieces were had."""
        self._free_pieces(entry, got)
        self._slab.free(entry)

    def _move(self, size: int, old: int, new: int, entry: int, index: int) -> None:
        """Move a piece, the one of pointer ``index``, to memory that compaction has for it."""
        move(self, size, old, new, entry, index)

    def _charge(self, alloced: int) -> bool:
        """Add to the pool's size, unless the quota would be exceeded."""
        if self._quota and self._size + alloced > self._quota:
            return False
        self._size += alloced
        return True

    def _free_entry(self, handle: int) -> int:
        """Free an object with all that belongs to it; the bytes that were charged for it."""
        address = (handle & ~DIRECT_ENTRY) - self._base
        if handle & DIRECT_ENTRY:
            alloced = self._slab.ksize(address)
            self._slab.free(address)
            return alloced
        level, alloced = self._head(address)
        self._free_pieces(address, level)
        self._slab.free(address)
        del self._entries[address]
        return alloced

    def _free_pieces(self, entry: int, level: int) -> None:
        for index in range(level):
            self._kfree(self._pointer(entry, index))

    def _kmalloc(self, size: int) -> int | None:
        """Memory from the slab allocator, or None."""
        self._kmallocs += 1
        address = self._slab.alloc(size)
        return None if address is None or isinstance(address, Refusal) else address

    def _kfree(self, pointer: int) -> None:
        """Free what a pointer points to; nothing for 0.  RuntimeError for what is no memory at all."""
        if pointer == 0:
            return
        address = pointer - self._base
        if not 0 <= address < len(self.source.memory):
            raise RuntimeError(f"kfree of {pointer:#x}, which is no memory")
        self._slab.free(address)

    # ---- the metadata in memory: int level, int alloced, pointers ----------------------------

    def _head(self, entry: int) -> tuple[int, int]:
        """Level and charged bytes of an entry."""
        memory = self.source.memory
        return (
            int.from_bytes(memory[entry : entry + 4], "little"),
            int.from_bytes(memory[entry + 4 : entry + 8], "little"),
        )

    def _set_head(self, entry: int, level: int, alloced: int) -> None:
        self.source.memory[entry : entry + ENTRY_HEAD] = level.to_bytes(4, "little") + alloced.to_bytes(4, "little")

    def _pointer(self, entry: int, index: int) -> int:
        at = entry + ENTRY_HEAD + index * self._word
        return int.from_bytes(self.source.memory[at : at + self._word], "little")

    def _set_pointer(self, entry: int, index: int, pointer: int) -> None:
        at = entry + ENTRY_HEAD + index * self._word
        self.source.memory[at : at + self._word] = pointer.to_bytes(self._word, "little")

    def _pieces(self, handle: int) -> list[tuple[int, int]]:
        """(address, length) of the pieces of an object, in order.  RuntimeError for a wild pointer."""
        address = (handle & ~DIRECT_ENTRY) - self._base
        ksize = self._slab.ksize
        if handle & DIRECT_ENTRY:
            return [(address, ksize(address))]
        level, _ = self._head(address)
        if not 0 < level <= self._max_level:
            raise RuntimeError(f"metadata at {address} says level {level}")
        found = []
        for index in range(level):
            at = self._pointer(address, index) - self._base
            if not 0 <= at < len(self.source.memory):
                raise RuntimeError(f"metadata at {address} points to no memory")
            found.append((at, ksize(at)))
        return found

    # ---- contents ----------------------------------------------------------------------

    def read(self, handle: int, at: int, length: int) -> bytes:
        """``length`` bytes from offset ``at``, of the mapping if there is one.

        Raises ValueError past the object's usable size.  O(length).
        """
        if self._areas.busy and (mapping := self._areas.of(handle)) is not None and mapping.buffer is not None:
            return bytes(mapping.buffer[at : at + length])
        return self._load(handle, at, length)

    def write(self, handle: int, at: int, data: bytes) -> None:
        """Put ``data`` at offset ``at``, into the mapping if there is one.

        Raises ValueError past the object's usable size.  O(length).
        """
        if self._areas.busy and (mapping := self._areas.of(handle)) is not None and mapping.buffer is not None:
            mapping.buffer[at : at + len(data)] = data
            return
        self._store(handle, at, data)

    def _load(self, handle: int, at: int, length: int) -> bytes:
        memory = self.source.memory
        return b"".join([memory[start : start + n] for start, n in self._parts(handle, at, length)])

    def _store(self, handle: int, at: int, data: bytes) -> None:
        memory, done = self.source.memory, 0
        for start, n in self._parts(handle, at, len(data)):
            memory[start : start + n] = data[done : done + n]
            done += n

    def _parts(self, handle: int, at: int, length: int) -> list[tuple[int, int]]:
        """(address, length) of a stretch of an object, by the pieces' own sizes, one for each copy."""
        parts, end, start = [], at + length, 0
        for address, size in self._pieces(handle):
            low, high = max(at, start), min(end, start + size)
            if low < high:
                parts.append((address + low - start, high - low))
            start += size
        if at < 0 or length < 0 or end > start:
            raise ValueError(f"bytes {at}+{length} leave an object of {start}")
        self._copies += len(parts)
        return parts

    # ---- observations ------------------------------------------------------------------

    def extents(self, handle: int) -> tuple[tuple[int, int, int], ...]:
        """The pieces in order, slack of the last included; the metadata is not among them.  O(pieces)."""
        return tuple([(0, address, size) for address, size in self._pieces(handle)])

    def pages(self) -> Iterator[tuple[int, int]]:
        """The slab's pages."""
        return iter(self._slab.pages())

    def free_regions(self) -> Iterator[FreeRegion]:
        """The slab's free slots."""
        return iter(self._slab.free_regions())

    def counters(self) -> Mapping[str, int]:
        """``pool_bytes`` and ``used_bytes`` (without metadata) by the pool's account, ``pages`` by the slab's."""
        return {
            "pool_bytes": self._size,
            "used_bytes": self._size - self.metadata()[0],
            "pages": sum(count for _, count in self._slab.pages()),
        }

    def metadata(self) -> tuple[int, int]:
        """Bytes of entries, as kmalloc gave them; the slab's own are not the pool's.  O(split objects)."""
        ksize = self._slab.ksize
        return sum([ksize(entry) for entry in self._entries]), 0

    def cost(self) -> Mapping[str, int]:
        """Steps of the last call: ``kmallocs``, and ``copies`` of pieces when loading, storing and mapping."""
        return {"kmallocs": self._kmallocs, "copies": self._copies}

    # ---- states ------------------------------------------------------------------------

    def snapshot(self) -> tuple[Any, ...]:
        """The slab's state, with the metadata and contents in it, entries, size and mappings.  O(bytes live)."""
        return self._slab.snapshot(), tuple(sorted(self._entries)), self._size, self._areas.snapshot()

    def restore(self, state: tuple[Any, ...]) -> None:
        """Return to a state of ``snapshot``; the page source's armed failures stay.  O(bytes live)."""
        slab, entries, self._size, areas = state
        self._slab.restore(slab)
        self._entries = dict.fromkeys(entries)
        self._areas.restore(areas)
