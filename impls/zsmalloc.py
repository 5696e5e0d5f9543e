"""zsmalloc: objects on chains of single pages, behind handles that survive compaction.

Era: Nitin Gupta 2011, compaction by Minchan Kim 2015; still in Linux.  Source:
``mm/zsmalloc.c`` of Linux 6.1 (chains of up to 4 pages, chosen by whole percents);
with ``chain`` above 4 the rule of 6.3, where chains grew to 16 pages, default 8.
``rule`` overrides that choice; see ``zsmalloc_classes``.  With ``handles="direct"`` it is
the allocator of 2012 to 4.0, before there was compaction; see ``zsmalloc_direct``.

What the pages hold is kept in the page source's memory, as the kernel keeps it.  The
first word of a slot says what the slot is: a free one links to the next free index,
shifted past the tag bit; a live one holds its handle with the tag bit set::

    free   [ next index << 1 |           dead            ]    last: -1 << 1
    live   [ handle | 1      |          payload          ]
    huge   [                  payload                    ]    handle beside the page

A handle names a cell, and the cell holds the place: ((page << bits) | index) << 1.
Compaction empties the first almost empty zspage of a class into the first almost
full one, slot by slot, and rewrites cells; handles stay::

    from [ a . . b ]  to [ c d e . ]   =>   [ . . . b ]  [ c d e a ]   =>  ...  => from is freed

Zspages stand on one of four lists a class by fullness; a request takes the first
almost full one, else the first almost empty one, else new pages.  The group of empty
ones stays empty, because a zspage gives its pages back with its last object; only
the kernel's page migration, which empties zspages that are off their lists, needs it.

With ``cpus`` of at least 1, objects can be mapped, one a CPU (the kernel's way up to 6.13).
An object on one page is mapped where it is.  One that straddles is copied, first word and
all, into the CPU's buffer unless it is mapped for writing only, and its payload copied back
on unmapping unless it was mapped for reading only; the first word in its page is never
written over::

    pages    ...| handle | payload one |   | two |...
                    |          |             |          map: copy ("ro", "rw")
    buffer      [ handle | payload one     two ]        unmap: copy back ("wo", "rw"), not the handle

A zspage that has a mapped object is never emptied by compaction: the kernel's waits for the
mapping's end, which may not sleep, this one leaves the zspage for another time.

Two departures from the shipped code, neither visible to a caller.  There the chain of
free slots of a new zspage ends one past its last whole slot when bytes are left at the
end; the extra slot is never reached, since the zspage counts as full before (read in
the source; unconfirmed by its maintainers).  Here it ends with the last whole slot.
And 6.2 split the four groups into twelve; here they are four in every configuration.

Left out: migration of pages, the shrinker, the zspages evicted for zswap (6.2 to 6.4), the
byte streams that replaced mapping later, NUMA and highmem flags, locks.

Pages other than 4096 bytes scale as in the source, with class steps never below the
8 bytes that keep a first word on one page.  With ``handle_size=4`` words are those of a
32-bit kernel.

>>> pool = Zsmalloc(pages=8)
>>> one, two = pool.alloc(2000), pool.alloc(3000)
>>> pool.write(one, 0, b"kept"), pool.read(one, 0, 4), pool.counters()["pages"]
(None, b'kept', 4)
>>> pool.free(one); pool.free(two); pool.counters()["pages"]
0
"""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from heaplaw import AllocationBits, Context, FreeRegion, InvalidFree, Listed, Maintained, PageSource, Refusal

from .mapping_areas import MappingAreas
from .zsmalloc_classes import (
    ALMOST_EMPTY,
    ALMOST_FULL,
    EMPTY,
    SPARSE_QUARTERS,
    TAG_BITS,
    class_index,
    decode_location,
    encode_location,
    fullness_group,
    index_bits,
)
from .zsmalloc_promises import ZSPAGE_STRUCT, configured
from .zsmalloc_zspages import PoolClass, Zspage

_TAG = 1
_CELL = 8  # bytes between handles: they are even, so that the tag bit is free
_VACANT = -1  # a cell without an object
_UNUSED_CELLS = 1  # the first: no handle is 0
_SEARCHED = (ALMOST_FULL, ALMOST_EMPTY)
_ANYWHERE = Context()


class Zsmalloc:
    """A pool over a page source of its own, ``self.source``.

    ``chain``: most pages of a zspage, 1 to 16.  ``handle_size``: bytes of a word, 8 or 4.
    ``rule``: "percent" or "exact"; by default percent for chains of up to 4 pages.
    ``handles``: "indirect", or "direct" as before 4.1.  ``merge``: 0 keeps all classes apart,
    as before 3.19.  ``cpus``: that may map objects; 0: there is no mapping.  ``scatter``: 1 for
    pages far apart, instead of the lowest free ones.
    """

    _handles: ClassVar[str] = "indirect"
    _PoolClass = PoolClass
    _quarters = SPARSE_QUARTERS  # how full an almost empty zspage may be
    _fullness = staticmethod(fullness_group)
    _bits_of_index = staticmethod(index_bits)
    _link_bits = TAG_BITS  # how far the link in a free slot is shifted

    def __new__(cls, *args: Any, handles: str = "indirect", **kwargs: Any) -> "Zsmalloc":
        """The kind of pool that the handles call for.  ValueError for a subclass of the other kind."""
        if cls is Zsmalloc and handles == "direct":
            from .zsmalloc_direct import DirectZsmalloc  # a kind of this class, which must exist first

            return object.__new__(DirectZsmalloc)
        if handles != cls._handles and handles in ("indirect", "direct"):
            raise ValueError(f"this pool's handles are {cls._handles}, not {handles}")
        return object.__new__(cls)

    def __init__(
        self,
        pages: int = 256,
        page_size: int = 4096,
        chain: int = 4,
        rev: str = "",
        handle_size: int = 8,
        rule: str = "",
        *,
        handles: str = "indirect",
        merge: int = 1,
        cpus: int = 0,
        scatter: int = 0,
    ) -> None:
        self._table, self.contract = configured(
            pages, page_size, chain, rev, handle_size, rule, handles, merge, cpus, scatter
        )
        self.source = PageSource(pages, page_size=page_size, scatter=bool(scatter))
        self._page_size, self._shift = page_size, page_size.bit_length() - 1
        self._word = handle_size
        self._page_words = page_size // handle_size
        self._header = self._table.header
        self._index_bits = self._bits_of_index(self._shift, handle_size)
        self._words = memoryview(self.source.memory).cast("Q" if handle_size == 8 else "I")
        self._link_mask = ~(-1 << 8 * handle_size)
        self._end = self._link_mask >> TAG_BITS  # the index that ends a chain of free slots
        self._classes: list[PoolClass | None] = [None] * len(self._table.by_index)
        self._zspage_of: list[Zspage | None] = [None] * pages  # by page
        self._huge_handle = [0] * pages  # tagged handle of a huge object, by page
        self._cells: list[int] = [_VACANT]  # by handle / _CELL; the first is never used
        self._free_cells: list[int] = []
        self._pages_held = 0
        self._areas = MappingAreas(cpus, page_size)
        if not cpus:
            self.map = self.unmap = None  # type: ignore[method-assign, assignment]  # so that none is shown
        self._probed = self._taken = self._moved = self._copied = 0

    # ---- the operations ----------------------------------------------------------------

    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> int | Refusal | None:
        """Handle of a new object; None when the page source refuses a page.

        INVALID for size 0 and for any alignment (the allocator has none to offer), TOO_BIG
        above a page.  O(pages of a zspage).
        """
        self._probed = self._taken = self._moved = self._copied = 0
        if size < 1 or align != 1:
            return Refusal.INVALID
        if size > self._page_size:
            return Refusal.TOO_BIG
        table = self._table
        index = class_index(size, self._header, table.step, table.last)
        owner = self._classes[index] or self._open(index)
        zspage = self._find(owner)
        if zspage is None:
            zspage = self._grow(owner)
            if zspage is None:
                return None
        handle = self._place(zspage)
        owner.used += 1
        self._fix_fullness_group(owner, zspage)
        return handle

    def free(self, handle: int, *, ctx: Context | None = None) -> None:
        """Give an object back; nothing happens for handle 0, which is never given out.

        Raises InvalidFree for a handle without an object.  O(pages of a zspage).
        """
        self._probed = self._taken = self._moved = self._copied = 0
        if handle == 0:
            return
        zspage, page, index = self._find_object(handle)
        self._obj_free(zspage, page, index)
        owner = zspage.owner
        owner.used -= 1
        if self._fix_fullness_group(owner, zspage) == EMPTY:
            owner.remove(zspage)
            self._release(zspage)
        self._free_handle(handle)

    def maintain(self, kind: str) -> Maintained:
        """``compact``: empty zspages into others, largest class first.  O(slots of sparse zspages)."""
        if kind != "compact":
            raise ValueError(f"zsmalloc knows no maintenance {kind!r}, only 'compact'")
        self._probed = self._taken = self._moved = self._copied = 0
        freed = 0
        for owner in reversed(self._owners()):
            freed += self._compact(owner)
        return Maintained(pages_freed=freed, moved=self._moved)

    def destroy(self) -> None:
        """Give every page back, whatever is live.  O(pages)."""
        for zspage in list(self._zspages()):
            zspage.owner.remove(zspage)
            zspage.owner.used -= zspage.inuse
            self._release(zspage)
        self._cells, self._free_cells = [_VACANT], []
        self._areas.restore(())

    # ---- zspages -----------------------------------------------------------------------

    def _open(self, index: int) -> PoolClass:
        """The pool's record of a class, made at its first use; merged indexes share one."""
        kind = self._table.by_index[index]
        owner = self._classes[kind.index]
        if owner is None:
            owner = self._classes[kind.index] = self._PoolClass(kind)
        self._classes[index] = owner
        return owner

    def _find(self, owner: PoolClass) -> Zspage | None:
        """A zspage with a free slot, the fullest group first."""
        head = owner.heads[ALMOST_FULL]
        if head.after is not head:
            self._probed = 1
            return head.after
        self._probed = 2
        head = owner.heads[ALMOST_EMPTY]
        return head.after if head.after is not head else None

    def _grow(self, owner: PoolClass) -> Zspage | None:
        """A new zspage, on the list of empty ones; None, with all pages given back, when one is refused."""
        kind, take = owner.kind, self.source.take
        taken: list[int] = []
        for _ in range(kind.pages):
            page = take(0)
            if page is None:
                for page in taken:
                    self.source.give(page, 0)
                return None
            taken.append(page)
        zspage = Zspage(owner, tuple(taken))
        for page in taken:
            self._zspage_of[page] = zspage
        self._init_zspage(zspage)
        owner.insert(zspage, EMPTY)
        owner.allocated += kind.objects
        self._pages_held += kind.pages
        self._taken = kind.pages
        return zspage

    def _init_zspage(self, zspage: Zspage) -> None:
        """Chain all slots of a new zspage, ascending."""
        kind, words = zspage.kind, self._words
        step = kind.size // self._word
        for page, (first, links) in zip(zspage.pages, kind.links, strict=True):
            start = page * self._page_words + first
            words[start : start + len(links) * step : step] = links

    def _fix_fullness_group(self, owner: PoolClass, zspage: Zspage) -> int:
        """Put a zspage on the list that its objects call for; answers the group."""
        group = self._fullness(zspage.inuse, zspage.kind.objects, self._quarters)
        if group != zspage.group:
            owner.remove(zspage)
            owner.insert(zspage, group)
        return group

    def _release(self, zspage: Zspage) -> None:
        """Give the pages of a zspage back that is on no list any more."""
        for page in zspage.pages:
            self._zspage_of[page] = None
            self._huge_handle[page] = 0
            self.source.give(page, 0)
        zspage.owner.allocated -= zspage.kind.objects
        self._pages_held -= zspage.kind.pages

    # ---- objects -----------------------------------------------------------------------

    def _place(self, zspage: Zspage) -> int:
        """A new object in a zspage that has room; its handle."""
        if self._free_cells:
            cell = self._free_cells.pop()
        else:
            cell = len(self._cells)
            self._cells.append(_VACANT)
        handle = cell * _CELL
        self._cells[cell] = self._obj_malloc(zspage, handle)
        return handle

    def _find_object(self, handle: int) -> tuple[Zspage, int, int]:
        """Zspage, page and slot of an object.  Raises InvalidFree for a handle without one."""
        cell = handle // _CELL
        if handle % _CELL or not 0 < cell < len(self._cells) or self._cells[cell] == _VACANT:
            raise InvalidFree(f"handle {handle} names no object")
        page, index = decode_location(self._cells[cell], self._index_bits)
        return self._zspage_at(page), page, index

    def _free_handle(self, handle: int) -> None:
        self._cells[handle // _CELL] = _VACANT
        self._free_cells.append(handle // _CELL)

    def _obj_malloc(self, zspage: Zspage, handle: int) -> int:
        """Take the first free slot for a handle; answers its location."""
        kind, index = zspage.kind, zspage.freeobj
        page = zspage.pages[kind.page_of[index]]
        word = page * self._page_words + kind.word_of[index]
        zspage.freeobj = self._words[word] >> self._link_bits
        if kind.huge:
            self._huge_handle[page] = handle | _TAG
        else:
            self._words[word] = handle | _TAG
        zspage.inuse += 1
        return encode_location(page, index, self._index_bits)

    def _obj_free(self, zspage: Zspage, page: int, index: int) -> None:
        """Put a slot in front of the free ones."""
        kind = zspage.kind
        if kind.huge:
            self._huge_handle[page] = 0  # the page goes back at once: no link is needed
        else:
            word = page * self._page_words + kind.word_of[index]
            self._words[word] = zspage.freeobj << self._link_bits & self._link_mask
        zspage.freeobj = index
        zspage.inuse -= 1

    # ---- compaction --------------------------------------------------------------------

    def _compact(self, owner: PoolClass) -> int:
        """Empty zspages of a class while the free slots of the others can hold one; pages freed.

        A zspage is taken off its list before that is asked, as in the kernel: put back, it may stand second.
        """
        objects, freed = owner.kind.objects, 0
        while (sparse := self._isolate_source(owner)) is not None:
            if owner.allocated - owner.used < objects:
                self._putback(owner, sparse)
                return freed
            self._evacuate(owner, sparse)
            if self._putback(owner, sparse) != EMPTY:
                break
            freed += owner.kind.pages
        return freed

    def _putback(self, owner: PoolClass, sparse: Zspage) -> int:
        """Put an isolated zspage where its objects call for, or give its pages back; answers the group."""
        group = self._fullness(sparse.inuse, owner.kind.objects, self._quarters)
        if group == EMPTY:
            self._release(sparse)
        else:
            owner.insert(sparse, group)
        return group

    def _isolate_source(self, owner: PoolClass) -> Zspage | None:
        """The first almost empty zspage, else the first almost full one, that has no mapped object."""
        if not self._areas.busy:
            return self._isolate(owner, (ALMOST_EMPTY, ALMOST_FULL))
        for group in (ALMOST_EMPTY, ALMOST_FULL):
            for zspage in owner.members(group, self.source.total):
                if not zspage.mapped:
                    owner.remove(zspage)
                    return zspage
        return None

    def _isolate(self, owner: PoolClass, groups: tuple[int, ...]) -> Zspage | None:
        zspage = owner.first(groups)
        if zspage is not None:
            owner.remove(zspage)
        return zspage

    def _evacuate(self, owner: PoolClass, sparse: Zspage) -> None:
        """Move the live slots of an isolated zspage into others, until it is empty or they are full."""
        index, objects = 0, owner.kind.objects
        for _ in range(objects):  # each of the others takes one slot at least
            roomy = self._isolate(owner, _SEARCHED)
            if roomy is None:
                return
            index = self._migrate(sparse, roomy, index)
            owner.insert(roomy, self._fullness(roomy.inuse, objects, self._quarters))
            if index == objects:
                return
        raise RuntimeError(f"zspage {sparse.pages} cannot be emptied into zspages that have room")

    def _migrate(self, sparse: Zspage, roomy: Zspage, index: int) -> int:
        """Move live slots from ``index`` on; answers the first that found no room, or past the last."""
        kind, words = sparse.kind, self._words
        while index < kind.objects:
            page = sparse.pages[kind.page_of[index]]
            first_word = words[page * self._page_words + kind.word_of[index]]
            if first_word & _TAG:
                if roomy.inuse == kind.objects:
                    return index
                handle = first_word & ~_TAG
                place = self._obj_malloc(roomy, handle)
                self._copy(sparse, index, roomy, decode_location(place, self._index_bits)[1])
                self._cells[handle // _CELL] = place
                self._obj_free(sparse, page, index)
                self._moved += 1
            index += 1
        return index

    def _copy(self, sparse: Zspage, old: int, roomy: Zspage, new: int) -> None:
        """Copy a whole slot, first word included; either may straddle, at different places."""
        size, memory = sparse.kind.size, self.source.memory
        data = b"".join([memory[at : at + n] for at, n in self._pieces(sparse, old, 0, size)])
        done = 0
        for at, n in self._pieces(roomy, new, 0, size):
            memory[at : at + n] = data[done : done + n]
            done += n
        self._copied += size

    # ---- contents ----------------------------------------------------------------------

    def read(self, handle: int, at: int, length: int) -> bytes:
        """``length`` bytes from offset ``at``, of the mapping if there is one.

        Raises ValueError past the object's usable size.  O(length).
        """
        zspage, index, start = self._payload(handle, at, length)
        if self._areas.busy and (mapping := self._areas.of(handle)) is not None and mapping.buffer is not None:
            return bytes(mapping.buffer[start : start + length])
        memory = self.source.memory
        return b"".join([memory[here : here + n] for here, n in self._pieces(zspage, index, start, length)])

    def write(self, handle: int, at: int, data: bytes) -> None:
        """Put ``data`` at offset ``at``, into the mapping if there is one.

        Raises ValueError past the object's usable size.  O(length).
        """
        zspage, index, start = self._payload(handle, at, len(data))
        if self._areas.busy and (mapping := self._areas.of(handle)) is not None and mapping.buffer is not None:
            mapping.buffer[start : start + len(data)] = data
            return
        self._put(zspage, index, start, data)

    def _payload(self, handle: int, at: int, length: int) -> tuple[Zspage, int, int]:
        """Zspage and slot of an object, and where in the slot ``length`` bytes from ``at`` begin."""
        zspage, _, index = self._find_object(handle)
        kind = zspage.kind
        if not 0 <= at <= at + length <= kind.payload:
            raise ValueError(f"bytes {at}+{length} leave an object of {kind.payload}")
        return zspage, index, kind.header + at

    def _put(self, zspage: Zspage, index: int, start: int, data: bytes | bytearray) -> None:
        """Bytes into a slot, over the end of a page if need be."""
        memory, done = self.source.memory, 0
        for here, n in self._pieces(zspage, index, start, len(data)):
            memory[here : here + n] = data[done : done + n]
            done += n

    def map(self, handle: int, mode: str = "rw", *, ctx: Context | None = None) -> None:
        """Make an object one stretch of memory for the CPU of ``ctx``: "ro", "wo" or "rw".

        Raises ValueError for another mode and for a CPU that has a mapping.  O(size).
        """
        zspage, _, index = self._find_object(handle)
        slot = self._pieces(zspage, index, 0, zspage.kind.size)
        mapping = self._areas.open((ctx or _ANYWHERE).cpu, handle, mode, len(slot) > 1)
        zspage.mapped += 1
        if mapping.buffer is not None and mode != "wo":
            self._map_object(mapping.buffer, slot)

    def _map_object(self, buffer: bytearray, slot: tuple[tuple[int, int], ...]) -> None:
        """Copy a whole slot, first word included, into a CPU's buffer."""
        memory = self.source.memory
        data = b"".join([memory[here : here + n] for here, n in slot])
        buffer[: len(data)] = data

    def unmap(self, handle: int, *, ctx: Context | None = None) -> None:
        """End the mapping on the CPU of ``ctx``.  ValueError where there is none.  O(size)."""
        mapping = self._areas.close((ctx or _ANYWHERE).cpu, handle)
        zspage, _, index = self._find_object(handle)
        zspage.mapped -= 1
        if mapping.buffer is not None and mapping.mode != "ro":
            self._unmap_object(mapping.buffer, zspage, index)

    def _unmap_object(self, buffer: bytearray, zspage: Zspage, index: int) -> None:
        """Copy the payload back; the first word stays as it is."""
        kind = zspage.kind
        self._put(zspage, index, kind.header, buffer[kind.header : kind.size])

    def _pieces(self, zspage: Zspage, index: int, at: int, length: int) -> tuple[tuple[int, int], ...]:
        """(address, length) of the one or two pieces of a stretch inside a slot."""
        size = self._page_size
        start = index * zspage.kind.size + at
        number, offset = start >> self._shift, start & (size - 1)
        pages = zspage.pages
        if offset + length <= size:
            return ((pages[number] * size + offset, length),) if length else ()
        room = size - offset
        return (pages[number] * size + offset, room), (pages[number + 1] * size, length - room)

    def _zspage_at(self, page: int) -> Zspage:
        zspage = self._zspage_of[page]
        if zspage is None:
            raise RuntimeError(f"page {page} belongs to no zspage")
        return zspage

    # ---- observations ------------------------------------------------------------------

    def extents(self, handle: int) -> tuple[tuple[int, int, int], ...]:
        """Payload bytes after the first word (all bytes, if huge), in one or two pieces.  O(1).

        The first word is the allocator's: it must survive whatever the user writes.
        """
        zspage, _, index = self._find_object(handle)
        kind = zspage.kind
        return tuple([(0, at, n) for at, n in self._pieces(zspage, index, kind.header, kind.payload)])

    def pages(self) -> Iterator[tuple[int, int]]:
        """Every page of every zspage, one by one, from the lists.  O(pages)."""
        for zspage in self._zspages():
            for page in zspage.pages:
                yield page, 1

    def free_regions(self) -> Iterator[FreeRegion]:
        """Free slots, first word included, along the links in the pages; two regions if straddling.

        Raises RuntimeError for a chain that does not end.  O(free slots).
        """
        for zspage in self._zspages():
            for index in self._free_slots(zspage):
                for at, length in self._pieces(zspage, index, 0, zspage.kind.size):
                    yield FreeRegion(0, at, length)

    def _free_slots(self, zspage: Zspage) -> Iterator[int]:
        """Indexes along the chain of free slots of a zspage."""
        kind, index = zspage.kind, zspage.freeobj
        for _ in range(kind.objects + 1):
            if index == self._end:
                return
            if index >= kind.objects:
                raise RuntimeError(f"zspage {zspage.pages} links to slot {index} of {kind.objects}")
            yield index
            page = zspage.pages[kind.page_of[index]]
            index = self._words[page * self._page_words + kind.word_of[index]] >> self._link_bits
        raise RuntimeError(f"free slots of zspage {zspage.pages} do not end")

    def bitmap(self) -> Iterator[AllocationBits]:
        """The tags of first words, by which compaction knows objects: of the slots whole on each page.  O(slots)."""
        for zspage in self._zspages():
            kind = zspage.kind
            step = kind.size // self._word
            for number, page in enumerate(zspage.pages):
                if kind.huge:
                    yield AllocationBits(0, page * self._page_size, kind.size, 1, self._huge_handle[page] & _TAG)
                elif units := kind.whole_on(number, self._page_size):
                    first = kind.offset_of[kind.first_on[number]]
                    word = page * self._page_words + first // self._word
                    tags = [str(w & _TAG) for w in self._words[word : word + units * step : step].tolist()]
                    start = page * self._page_size + first
                    yield AllocationBits(0, start, kind.size, units, int("".join(reversed(tags)), 2))

    def lists(self) -> Iterator[Listed]:
        """Zspages, named by their pages, on the lists (class index, group).  O(zspages)."""
        for zspage, group in self._listed():
            yield Listed((zspage.kind.index, zspage.owner.names[group]), zspage.pages)

    def _owners(self) -> list[PoolClass]:
        """Classes in use by size; an index that was merged away is not one of them."""
        return [owner for index, owner in enumerate(self._classes) if owner is not None and owner.kind.index == index]

    def _listed(self) -> Iterator[tuple[Zspage, int]]:
        for owner in self._owners():
            for group in range(len(owner.heads)):
                for zspage in owner.members(group, self.source.total):
                    yield zspage, group

    def _members(self) -> Iterator[tuple[Zspage, int]]:
        """Every zspage and its group; all are on lists."""
        return self._listed()

    def _zspages(self) -> Iterator[Zspage]:
        for zspage, _ in self._members():
            yield zspage

    def counters(self) -> Mapping[str, int]:
        """``pages``, ``live_objects``, ``used_bytes`` (payload), ``free_bytes`` (free slots).  O(classes).

        ``mapped_objects`` too, by the zspages' own counts, where objects can be mapped: then O(zspages).
        """
        owners = self._owners()
        mapped = {"mapped_objects": sum(z.mapped for z in self._zspages())} if self.contract.mappings else {}
        return mapped | {
            "pages": self._pages_held,
            "live_objects": sum(owner.used for owner in owners),
            "used_bytes": sum(owner.used * owner.kind.payload for owner in owners),
            "free_bytes": sum((owner.allocated - owner.used) * owner.kind.size for owner in owners),
        }

    def metadata(self) -> tuple[int, int]:
        """Bytes of first words in the pages; of cells that are not free and of zspage records beside them."""
        inside = sum(owner.used * owner.kind.header for owner in self._owners())
        cells = len(self._cells) - len(self._free_cells) - _UNUSED_CELLS
        return inside, cells * self._word + sum(ZSPAGE_STRUCT for _ in self._zspages())

    def cost(self) -> Mapping[str, int]:
        """Steps of the last call: lists ``probed``, ``pages_taken``, slots ``moved``, bytes ``copied``."""
        return {
            "probed": self._probed,
            "pages_taken": self._taken,
            "moved": self._moved,
            "copied": self._copied,
        }

    # ---- states ------------------------------------------------------------------------

    def snapshot(self) -> tuple[Any, ...]:
        """Cells, zspages in list order, live slots and links; dead bytes are left out.  O(bytes live)."""
        listed = tuple(
            (z.kind.index, group, z.pages, z.freeobj, z.inuse, self._image(z)) for z, group in self._members()
        )
        handles = tuple((page, handle) for page, handle in enumerate(self._huge_handle) if handle)
        counts = tuple((owner.kind.index, owner.allocated, owner.used) for owner in self._owners() if owner.allocated)
        cells = tuple(self._cells), tuple(self._free_cells)
        held = tuple(sorted(self.source.runs))  # as the source has it: a broken pool may list what it gave back
        return *cells, handles, listed, self._areas.snapshot(), counts, self._pages_held, held

    def _image(self, zspage: Zspage) -> tuple[bytes, ...]:
        """Each slot's bytes: whole if live, its first word if free."""
        memory, kind = self.source.memory, zspage.kind
        free = set(self._free_slots(zspage)) if zspage.inuse < kind.objects else set()
        return tuple(
            b"".join(
                [
                    memory[at : at + n]
                    for at, n in self._pieces(zspage, slot, 0, self._word if slot in free else kind.size)
                ]
            )
            for slot in range(kind.objects)
        )

    def restore(self, state: tuple[Any, ...]) -> None:
        """Return to a state of ``snapshot``; the page source's armed failures stay.  O(bytes live)."""
        for page, order in list(self.source.runs.items()):
            self.source.give(page, order)
        cells, free_cells, handles, listed, areas, counts, self._pages_held, held = state
        for page in held:
            self.source.retake(page)
        self._cells, self._free_cells = list(cells), list(free_cells)
        self._classes = [None] * len(self._classes)
        self._zspage_of = [None] * len(self._zspage_of)
        self._huge_handle = [0] * len(self._huge_handle)
        for index, group, pages, freeobj, inuse, image in reversed(listed):
            owner = self._classes[index] or self._open(index)
            zspage = Zspage(owner, pages)
            for page in pages:
                self._zspage_of[page] = zspage
            zspage.freeobj, zspage.inuse = freeobj, inuse
            owner.push(zspage, group)
            self._fill(zspage, image)
        for index, allocated, used in counts:
            owner = self._classes[index] or self._open(index)
            owner.allocated, owner.used = allocated, used
        for page, handle in handles:
            self._huge_handle[page] = handle
        self._areas.restore(areas)
        for handle in (entry[0] for entry in areas if entry is not None):
            self._find_object(handle)[0].mapped += 1

    def _fill(self, zspage: Zspage, image: tuple[bytes, ...]) -> None:
        for slot, data in enumerate(image):
            self._put(zspage, slot, 0, data)
