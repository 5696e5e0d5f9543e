"""compcache's first store: an object lies in as many pieces as there happen to be holes for it.

Era: Nitin Gupta's Compressed Caching, 2006 and 2007, before xvmalloc; never merged.  Source:
his mails on linux-mm and lc-devel of early 2006, the linux-mm wiki, and the paper at the
Ottawa Linux Symposium of 2007, section 2.3.1; no code of it was at hand.  What they say:

- pages compress to any size below a page; they are to be kept without compaction and with
  no run of pages longer than one, with little fragmentation and little metadata;
- so an object is scattered over the free areas as they occur, like the blocks of one disk
  request, in chunks of any size; a head holds its size and its chunks in order, and the
  page cache points to the head: one look tells whether a page is here, and where;
- free neighbours merge, as in a buddy system; the store begins as one page, grows by single
  pages up to a limit, and shrinks as objects leave.

What is *reconstructed* here, for want of a source, and no more than one way to do it:

- chunks are described outside the pages, so that pages hold contents only; the descriptor's
  fields and all figures of metadata;
- free chunks stand on ``ranges`` lists by size, last freed first; ``ranges=1`` is one list;
- a request takes the first chunk of the list that what is left of it belongs on, else of the
  next list of smaller ones, to fill them up, else of the next of larger ones.  A chunk that
  is too long is cut, and its tail stays free;
- the page that is the last of ``keep`` pages stays when it empties;
- chunks are multiples of ``least`` bytes.  1 wastes nothing; 16 or 32 bound the metadata.

::

    free     [128]  ....  [128]  ....  [128]                   held by others: ....
    store(300): head -> [128] -> [128] -> [44|84 free]         in order of the contents

No other allocator in this package has this: a request is refused only if the free bytes, in
whatever pieces, and the pages that can be had do not add up to it.  The price, which the
review of xcfmalloc in 2011 recalled: metadata for every piece, copies instead of addresses,
and no way to compact.  xcfmalloc is this idea with two pieces at most and headers in the
pages.

Left out: compression itself, and with it the head's note of the algorithm.

Costs: storing and removing are O(pieces) times the lists; merging is O(1) a piece.

>>> store = Compcache(pages=2, page_size=512)
>>> small = [store.alloc(128) for _ in range(8)]
>>> for handle in small[::2]: store.free(handle)
>>> store.alloc(513), [tuple(piece) for piece in store.extents(store.alloc(300))]
(<Refusal.TOO_BIG: 'too big'>, [(0, 768, 128), (0, 512, 128), (0, 256, 44)])
"""

from collections.abc import Iterator, Mapping
from itertools import pairwise

from heaplaw import Context, FreeRegion, InvalidFree, Listed, PageSource, Refusal

from .bits import align_up
from .compcache_promises import CHUNK_BYTES, HEAD_BYTES, LIST_HEAD, configured
from .page_images import PageImages


class Chunk:
    """A stretch of one page, free or part of one object; or the head of a list of free ones.

    ``start`` and ``size`` in bytes.  ``before`` and ``after`` are the neighbours in the page.
    """

    __slots__ = ("after", "before", "free", "link", "next_free", "prev_free", "size", "start")

    def __init__(self, start: int, size: int) -> None:
        self.start, self.size = start, size
        self.free = True
        self.link: Chunk | None = None  # the next piece of the object
        self.before: Chunk | None = None
        self.after: Chunk | None = None
        self.prev_free = self.next_free = self


class ChunkHead:
    """An object: its size in bytes and its first piece."""

    __slots__ = ("first", "size")

    def __init__(self, size: int, first: Chunk) -> None:
        self.size, self.first = size, first


class Compcache:
    """A store over a page source of its own, ``self.source``, whose pages are its limit.

    ``ranges``: free lists, each for as many bytes of sizes.  ``least``: bytes of the shortest chunk.
    ``keep``: pages held from the start, and even when empty, 0 or 1.  Handles are opaque numbers.
    """

    def __init__(
        self, pages: int = 256, page_size: int = 4096, ranges: int = 8, least: int = 1, keep: int = 1, rev: str = ""
    ) -> None:
        self.contract = configured(pages, page_size, ranges, least, keep, rev)
        self.source = PageSource(pages, page_size=page_size)
        self._page_size, self._least, self._keep = page_size, least, keep
        self._range = page_size // ranges
        self._lists = [Chunk(0, 0) for _ in range(ranges)]
        self._master: dict[int, Chunk] = {}  # page -> its first chunk
        self._slots: list[ChunkHead | None] = []  # the page cache's; a handle is a slot's number
        self._vacant: list[int] = []
        self._probed = self._pieces = self._grown = self._found = 0
        if keep and (first := self._add_page()) is not None:
            self._insert_free(first)

    # ---- the operations ----------------------------------------------------------------

    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> int | Refusal | None:
        """Handle of a new object; None when all free bytes and pages together do not suffice.

        INVALID for size 0 and for any alignment, TOO_BIG above a page.  O(pieces * lists).
        """
        self._probed = self._pieces = self._grown = self._found = 0
        if size < 1 or align != 1:
            return Refusal.INVALID
        if size > self._page_size:
            return Refusal.TOO_BIG
        taken: list[Chunk] = []
        remaining = align_up(size, self._least)
        while remaining:
            chunk = self._take_chunk(remaining)
            if chunk is None:
                self._undo(taken)
                return None
            if chunk.size > remaining:
                self._split(chunk, remaining)
            chunk.free = False
            taken.append(chunk)
            remaining -= chunk.size
        self._pieces, self._found = len(taken), sum([chunk.size for chunk in taken])
        self._chain(taken)
        return self._enter(ChunkHead(size, taken[0]))

    def free(self, handle: int) -> None:
        """Remove an object; a page that is one free chunk goes back.  O(pieces).

        Raises InvalidFree for a handle without an object.
        """
        self._probed = self._pieces = self._grown = self._found = 0
        slots = self._slots
        head = slots[handle] if isinstance(handle, int) and 0 <= handle < len(slots) else None
        if head is None:
            raise InvalidFree(f"no object {handle!r}")
        slots[handle] = None
        self._vacant.append(handle)
        for chunk in list(self._chunks(head)):
            self._release(chunk)

    def read(self, handle: int, at: int, length: int) -> bytes:
        """``length`` bytes from offset ``at``, put together from the pieces.  ValueError past the last.  O(pieces)."""
        memory = self.source.memory
        return b"".join([bytes(memory[low:high]) for low, high in self._windows(handle, at, length)])

    def write(self, handle: int, at: int, data: bytes) -> None:
        """Scatter ``data`` over the pieces, from offset ``at``.  ValueError past the last.  O(pieces)."""
        memory, done = self.source.memory, 0
        for low, high in self._windows(handle, at, len(data)):
            memory[low:high] = data[done : done + high - low]
            done += high - low

    # ---- objects -----------------------------------------------------------------------

    def _enter(self, head: ChunkHead) -> int:
        """Point a slot of the page cache to a head; the slot's number."""
        if self._vacant:
            handle = self._vacant.pop()
            self._slots[handle] = head
            return handle
        self._slots.append(head)
        return len(self._slots) - 1

    def _chain(self, chunks: list[Chunk]) -> None:
        """Link an object's pieces in the order of its contents."""
        for chunk, following in pairwise(chunks):
            chunk.link = following
        chunks[-1].link = None

    def _chunks(self, head: ChunkHead) -> Iterator[Chunk]:
        """An object's pieces in order.  RuntimeError for a chain that does not end."""
        chunk: Chunk | None = head.first
        left = self._page_size // self._least
        while chunk is not None:
            left -= 1
            if left < 0:
                raise RuntimeError("an object's list of chunks does not end")
            yield chunk
            chunk = chunk.link

    def _windows(self, handle: int, at: int, length: int) -> Iterator[tuple[int, int]]:
        """(start, end) in memory of the parts of the pieces that hold these bytes."""
        head = self._slots[handle]
        assert head is not None
        if at < 0 or length < 0 or at + length > align_up(head.size, self._least):
            raise ValueError(f"bytes {at}+{length} leave an object of {head.size}")
        for chunk in self._chunks(head):
            if at < chunk.size and length:
                part = min(chunk.size - at, length)
                yield chunk.start + at, chunk.start + at + part
                at, length = 0, length - part
            else:
                at = max(0, at - chunk.size)

    # ---- chunks ------------------------------------------------------------------------

    def _take_chunk(self, remaining: int) -> Chunk | None:
        """A free chunk for what is left of an object, off its list; a page's when there is none."""
        index = self._choose(remaining)
        if index is None:
            return self._add_page()
        chunk = self._lists[index].next_free
        self._remove_free(chunk)
        return chunk

    def _choose(self, remaining: int) -> int | None:
        """The list to take from: of the size wanted, else of smaller ones, else of larger ones; None if all empty."""
        lists, best = self._lists, self._range_of(remaining)
        for index in range(best, -1, -1):
            self._probed += 1
            if lists[index].next_free is not lists[index]:
                return index
        for index in range(best + 1, len(lists)):
            self._probed += 1
            if lists[index].next_free is not lists[index]:
                return index
        return None

    def _range_of(self, size: int) -> int:
        """Number of the list for free chunks of ``size`` bytes: list ``i`` ends with the size ``(i + 1) * range``."""
        return (size - 1) // self._range

    def _split(self, chunk: Chunk, size: int) -> None:
        """Cut a chunk; its tail is free.

        [ chunk .......... ] => [ chunk ][ tail ]
        """
        tail = Chunk(chunk.start + size, chunk.size - size)
        tail.before, tail.after = chunk, chunk.after
        if chunk.after is not None:
            chunk.after.before = tail
        chunk.after, chunk.size = tail, size
        self._insert_free(tail)

    def _release(self, chunk: Chunk) -> None:
        """Free a piece and merge it with its free neighbours; a page that is wholly free goes back.

        [ free ][ chunk ][ free ] => [ ---------- free ---------- ]
        """
        chunk.free, chunk.link = True, None
        if chunk.after is not None and chunk.after.free:
            self._remove_free(chunk.after)
            self._absorb(chunk, chunk.after)
        if chunk.before is not None and chunk.before.free:
            self._remove_free(chunk.before)
            chunk = chunk.before
            assert chunk.after is not None
            self._absorb(chunk, chunk.after)
        if chunk.size == self._page_size and len(self._master) > self._keep:
            self._drop_page(chunk)
        else:
            self._insert_free(chunk)

    def _absorb(self, chunk: Chunk, following: Chunk) -> None:
        """Add the chunk that follows in the page to this one, and forget it."""
        chunk.size += following.size
        chunk.after = following.after
        if chunk.after is not None:
            chunk.after.before = chunk

    def _undo(self, taken: list[Chunk]) -> None:
        """Take back a store that failed, last piece first, so that every list is as it was.

        No piece was cut, none has a free neighbour, and none is of a new page, which would have sufficed.
        """
        for chunk in reversed(taken):
            chunk.free = True
            self._insert_free(chunk)

    def _insert_free(self, chunk: Chunk) -> None:
        """Put a chunk first on the list of its range.  O(1)."""
        head = self._lists[self._range_of(chunk.size)]
        chunk.prev_free, chunk.next_free = head, head.next_free
        head.next_free.prev_free = chunk
        head.next_free = chunk

    def _remove_free(self, chunk: Chunk) -> None:
        """Take a chunk off whatever list it is on.  O(1)."""
        chunk.prev_free.next_free, chunk.next_free.prev_free = chunk.next_free, chunk.prev_free
        chunk.prev_free = chunk.next_free = chunk

    # ---- pages -------------------------------------------------------------------------

    def _add_page(self) -> Chunk | None:
        """A page more, as one chunk that is on no list; None when the source refuses."""
        page = self.source.take(0)
        if page is None:
            return None
        self._grown += 1
        chunk = self._master[page] = Chunk(page * self._page_size, self._page_size)
        return chunk

    def _drop_page(self, chunk: Chunk) -> None:
        """Give back the page that is this chunk."""
        page = chunk.start // self._page_size
        del self._master[page]
        self.source.give(page, 0)

    # ---- observations ------------------------------------------------------------------

    def extents(self, handle: int) -> tuple[tuple[int, int, int], ...]:
        """The pieces in the order of the contents, the last one's slack included.  O(pieces)."""
        head = self._slots[handle]
        assert head is not None
        return tuple([(0, chunk.start, chunk.size) for chunk in self._chunks(head)])

    def pages(self) -> Iterator[tuple[int, int]]:
        """Pages with a list of chunks, one by one."""
        for page in self._master:
            yield page, 1

    def free_regions(self) -> Iterator[FreeRegion]:
        """Free chunks met walking the pages.  O(chunks)."""
        for chunk in self._walk():
            if chunk.free:
                yield FreeRegion(0, chunk.start, chunk.size, self._range_of(chunk.size))

    def lists(self) -> Iterator[Listed]:
        """Free chunks met walking the lists.  O(free chunks)."""
        for index, chunk in self._listed():
            yield Listed(index, (0, chunk.start))

    def counters(self) -> Mapping[str, int]:
        """Pages by their lists of chunks, objects by the slots, free bytes by the free lists.  O(chunks)."""
        free = [chunk.size for _, chunk in self._listed()]
        heads = [head for head in self._slots if head is not None]
        return {
            "pages": len(self._master),
            "live_objects": len(heads),
            "requested_bytes": sum(head.size for head in heads),
            "used_bytes": sum(chunk.size for chunk in self._walk() if not chunk.free),
            "free_bytes": sum(free),
            "largest_free": max(free, default=0),
        }

    def metadata(self) -> tuple[int, int]:
        """Nothing in the pages; bytes of descriptors, heads and lists beside them.  O(chunks)."""
        heads = sum(1 for head in self._slots if head is not None)
        chunks = sum(1 for _ in self._walk())
        return 0, CHUNK_BYTES * chunks + HEAD_BYTES * heads + LIST_HEAD * len(self._lists)

    def cost(self) -> Mapping[str, int]:
        """Of the last call: list heads ``probed``, ``pieces``, ``pages_taken``; bytes ``found`` in all pieces."""
        steps = {"probed": self._probed, "pieces": self._pieces, "pages_taken": self._grown}
        return steps | {"found": self._found} if self._found else steps

    def _walk(self) -> Iterator[Chunk]:
        """All chunks, page by page in order of address.  RuntimeError for a page that does not end."""
        for page, first in self._master.items():
            chunk: Chunk | None = first
            left = self._page_size // self._least
            while chunk is not None:
                left -= 1
                if left < 0:
                    raise RuntimeError(f"the list of chunks of page {page} does not end")
                yield chunk
                chunk = chunk.after

    def _listed(self) -> Iterator[tuple[int, Chunk]]:
        """(list, chunk) of every listed chunk, in order.  RuntimeError for a list that does not end."""
        left = len(self.source.memory) // self._least
        for index, head in enumerate(self._lists):
            chunk = head.next_free
            while chunk is not head:
                left -= 1
                if left < 0:
                    raise RuntimeError("free list does not end")
                yield index, chunk
                chunk = chunk.next_free

    # ---- states ------------------------------------------------------------------------

    def snapshot(self) -> "State":
        """The store as it is now; hashable.  O(bytes held)."""
        return State(self)

    def restore(self, state: "State") -> None:
        """Return to a state of ``snapshot``; armed failures of the source stay.  O(bytes held)."""
        state.put_back(self)


_Shape = tuple[
    tuple[tuple[int, tuple[tuple[int, bool], ...]], ...],  # pages: size of each chunk, and is it free
    tuple[tuple[int, ...], ...],  # lists: starts of the chunks
    tuple[tuple[int, tuple[int, ...]] | None, ...],  # slots: size, and starts of the pieces
    tuple[int, ...],  # vacant slots
]


class State:
    """A store at one moment, equal to one in which the same calls would have the same effect.

    ``shape`` is what equality means: chunks, lists in order, objects and vacant slots.  Contents ride
    along, for ``restore``.
    """

    __slots__ = ("images", "shape")

    def __init__(self, store: Compcache) -> None:
        self.images = PageImages(store.source)
        chunks: dict[int, list[tuple[int, bool]]] = {page: [] for page in sorted(store._master)}
        for chunk in store._walk():
            chunks[chunk.start // store._page_size].append((chunk.size, chunk.free))
        listed: list[list[int]] = [[] for _ in store._lists]
        for index, chunk in store._listed():
            listed[index].append(chunk.start)
        slots = [
            None if head is None else (head.size, tuple([chunk.start for chunk in store._chunks(head)]))
            for head in store._slots
        ]
        self.shape: _Shape = (
            tuple((page, tuple(of_page)) for page, of_page in chunks.items()),
            tuple(map(tuple, listed)),
            tuple(slots),
            tuple(store._vacant),
        )

    def put_back(self, store: Compcache) -> None:
        """Make this the store's state."""
        self.images.put_back(store.source)
        pages, listed, slots, vacant = self.shape
        store._master, by_start = {}, {}
        for page, of_page in pages:
            start, before = page * store._page_size, None
            for size, free in of_page:
                chunk = by_start[start] = Chunk(start, size)
                chunk.free, chunk.before = free, before
                if before is None:
                    store._master[page] = chunk
                else:
                    before.after = chunk
                start, before = start + size, chunk
        store._lists = [Chunk(0, 0) for _ in listed]
        for starts in listed:
            for start in reversed(starts):
                store._insert_free(by_start[start])
        store._slots, store._vacant = [], list(vacant)
        for slot in slots:
            if slot is None:
                store._slots.append(None)
                continue
            pieces = [by_start[start] for start in slot[1]]
            store._chain(pieces)
            store._slots.append(ChunkHead(slot[0], pieces[0]))
        store._probed = store._pieces = store._grown = store._found = 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, State) and self.shape == other.shape

    def __hash__(self) -> int:
        return hash(self.shape)
