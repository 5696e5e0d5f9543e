"""zsmalloc: objects on chains of single pages, behind handles that survive compaction.

Era: Nitin Gupta 2011, compaction by Minchan Kim 2015; still in Linux.  Source:
``mm/zsmalloc.c`` of Linux 6.1 (chains of up to 4 pages, chosen by whole percents);
with ``chain`` above 4 the rule of 6.3, where chains grew to 16 pages, default 8.
``rule`` overrides that choice; see ``zsmalloc_classes``.

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

Two departures from the shipped code, neither visible to a caller.  There the chain of
free slots of a new zspage ends one past its last whole slot when bytes are left at the
end; the extra slot is never reached, since the zspage counts as full before (read in
the source; unconfirmed by its maintainers).  Here it ends with the last whole slot.
And 6.2 split the four groups into twelve; here they are four in every configuration.

Left out: mapping objects through per-CPU buffers (``read`` and ``write`` go to the
pages, two of them for an object that straddles), migration of pages, the shrinker, the
zspages evicted for zswap (6.2 to 6.4), NUMA and highmem flags, locks.

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

from collections.abc import Callable, Hashable, Iterator, Mapping
from functools import lru_cache, partial
from typing import Any, cast

from heaplaw import (
    Block,
    Context,
    Contract,
    FreeRegion,
    InvalidFree,
    Listed,
    Maintained,
    PageSource,
    Refusal,
    Request,
    Shadow,
)

from .bits import is_power_of_two
from .zsmalloc_classes import (
    ALMOST_EMPTY,
    ALMOST_FULL,
    EMPTY,
    FULL,
    GROUP_NAMES,
    MAX_CHAIN,
    TAG_BITS,
    ClassTable,
    SizeClass,
    class_index,
    class_table,
    decode_location,
    encode_location,
    fullness_group,
    index_bits,
)

_TAG = 1
_CELL = 8  # bytes between handles: they are even, so that the tag bit is free
_SMALLEST_PAGE = 64
_ZSPAGE_STRUCT = 56  # bytes of struct zspage (64-bit)
_VACANT = -1  # a cell without an object
_SEARCHED = (ALMOST_FULL, ALMOST_EMPTY)


class _Zspage:
    """A chain of pages, and its place on a list (the head of a list is one without pages)."""

    __slots__ = ("after", "before", "freeobj", "group", "inuse", "kind", "owner", "pages")

    def __init__(self, owner: "_PoolClass", pages: tuple[int, ...]) -> None:
        self.owner, self.kind, self.pages = owner, owner.kind, pages
        self.freeobj = 0  # index of the first free slot
        self.inuse = 0
        self.group = EMPTY
        self.after = self.before = self


class _PoolClass:
    """A size class of one pool: its lists and its two counts of slots."""

    __slots__ = ("allocated", "heads", "kind", "used")

    def __init__(self, kind: SizeClass) -> None:
        self.kind = kind
        self.allocated = self.used = 0  # slots that exist, slots in use
        self.heads = [_Zspage(self, ()) for _ in GROUP_NAMES]

    def first(self, groups: tuple[int, ...]) -> _Zspage | None:
        """First zspage of the first of these groups that has one.  O(1)."""
        for group in groups:
            head = self.heads[group]
            if head.after is not head:
                return head.after
        return None

    def insert(self, zspage: _Zspage, group: int) -> None:
        """Put a zspage first, or second behind a fuller one.  O(1)."""
        zspage.group = group
        before = self.heads[group]
        first = before.after
        if first is not before and zspage.inuse < first.inuse:
            before = first
        zspage.before, zspage.after = before, before.after
        before.after.before = zspage
        before.after = zspage

    @staticmethod
    def remove(zspage: _Zspage) -> None:
        """Take a zspage off its list.  O(1)."""
        zspage.before.after, zspage.after.before = zspage.after, zspage.before
        zspage.after = zspage.before = zspage

    def members(self, group: int, limit: int) -> Iterator[_Zspage]:
        """Zspages of a group, first to last.  RuntimeError for a list longer than ``limit``."""
        head = self.heads[group]
        zspage = head.after
        for _ in range(limit + 1):
            if zspage is head:
                return
            yield zspage
            zspage = zspage.after
        raise RuntimeError(f"list {GROUP_NAMES[group]} of class {self.kind.index} does not end")


class Zsmalloc:
    """A pool over a page source of its own, ``self.source``.

    ``chain``: most pages of a zspage, 1 to 16.  ``handle_size``: bytes of a word, 8 or 4.
    ``rule``: "percent" or "exact"; by default percent for chains of up to 4 pages.
    """

    def __init__(
        self,
        pages: int = 256,
        page_size: int = 4096,
        chain: int = 4,
        rev: str = "",
        handle_size: int = 8,
        rule: str = "",
    ) -> None:
        self._table, self.contract = _configured(pages, page_size, chain, rev, handle_size, rule)
        self.source = PageSource(pages, page_size=page_size)
        self._page_size, self._shift = page_size, page_size.bit_length() - 1
        self._word = handle_size
        self._page_words = page_size // handle_size
        self._index_bits = index_bits(self._shift, handle_size)
        self._words = memoryview(self.source.memory).cast("Q" if handle_size == 8 else "I")
        self._link_mask = (1 << 8 * handle_size) - 1
        self._end = self._link_mask >> TAG_BITS  # the index that ends a chain of free slots
        self._classes: list[_PoolClass | None] = [None] * len(self._table.by_index)
        self._zspage_of: list[_Zspage | None] = [None] * pages  # by page
        self._huge_handle = [0] * pages  # tagged handle of a huge object, by page
        self._cells: list[int] = [_VACANT]  # by handle / _CELL; the first is never used
        self._free_cells: list[int] = []
        self._pages_held = 0
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
        index = class_index(size, self._word, table.step, table.last)
        owner = self._classes[index] or self._open(index)
        zspage = self._find(owner)
        if zspage is None:
            zspage = self._grow(owner)
            if zspage is None:
                return None
        if self._free_cells:
            cell = self._free_cells.pop()
        else:
            cell = len(self._cells)
            self._cells.append(_VACANT)
        handle = cell * _CELL
        self._cells[cell] = self._obj_malloc(zspage, handle)
        owner.used += 1
        group = fullness_group(zspage.inuse, zspage.kind.objects)
        if group != zspage.group:
            owner.remove(zspage)
            owner.insert(zspage, group)
        return handle

    def free(self, handle: int) -> None:
        """Give an object back; nothing happens for handle 0, which is never given out.

        Raises InvalidFree for a handle without an object.  O(pages of a zspage).
        """
        self._probed = self._taken = self._moved = self._copied = 0
        if handle == 0:
            return
        cell, inside = divmod(handle, _CELL)
        if inside or not 0 < cell < len(self._cells) or self._cells[cell] == _VACANT:
            raise InvalidFree(f"handle {handle} names no object")
        page, index = decode_location(self._cells[cell], self._index_bits)
        zspage = self._zspage_at(page)
        self._obj_free(zspage, page, index)
        owner = zspage.owner
        owner.used -= 1
        group = fullness_group(zspage.inuse, zspage.kind.objects)
        if group != zspage.group:
            owner.remove(zspage)
            if group == EMPTY:
                self._release(zspage)
            else:
                owner.insert(zspage, group)
        self._cells[cell] = _VACANT
        self._free_cells.append(cell)

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

    # ---- zspages -----------------------------------------------------------------------

    def _open(self, index: int) -> _PoolClass:
        """The pool's record of a class, made at its first use; merged indexes share one."""
        kind = self._table.by_index[index]
        owner = self._classes[kind.index]
        if owner is None:
            owner = self._classes[kind.index] = _PoolClass(kind)
        self._classes[index] = owner
        return owner

    def _find(self, owner: _PoolClass) -> _Zspage | None:
        """A zspage with a free slot, the fullest group first."""
        for probed, group in enumerate(_SEARCHED, 1):
            head = owner.heads[group]
            if head.after is not head:
                self._probed = probed
                return head.after
        self._probed = len(_SEARCHED)
        return None

    def _grow(self, owner: _PoolClass) -> _Zspage | None:
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
        zspage = _Zspage(owner, tuple(taken))
        words, step = self._words, kind.size // self._word
        for page, (first, links) in zip(taken, kind.links, strict=True):
            start = page * self._page_words + first
            words[start : start + len(links) * step : step] = links
            self._zspage_of[page] = zspage
        owner.insert(zspage, EMPTY)
        owner.allocated += kind.objects
        self._pages_held += kind.pages
        self._taken = kind.pages
        return zspage

    def _release(self, zspage: _Zspage) -> None:
        """Give the pages of a zspage back that is on no list any more."""
        for page in zspage.pages:
            self._zspage_of[page] = None
            self._huge_handle[page] = 0
            self.source.give(page, 0)
        zspage.owner.allocated -= zspage.kind.objects
        self._pages_held -= zspage.kind.pages

    def _obj_malloc(self, zspage: _Zspage, handle: int) -> int:
        """Take the first free slot for a handle; answers its location."""
        kind, index = zspage.kind, zspage.freeobj
        page = zspage.pages[kind.page_of[index]]
        word = page * self._page_words + kind.word_of[index]
        zspage.freeobj = self._words[word] >> TAG_BITS
        if kind.huge:
            self._huge_handle[page] = handle | _TAG
        else:
            self._words[word] = handle | _TAG
        zspage.inuse += 1
        return encode_location(page, index, self._index_bits)

    def _obj_free(self, zspage: _Zspage, page: int, index: int) -> None:
        """Put a slot in front of the free ones."""
        kind = zspage.kind
        if kind.huge:
            self._huge_handle[page] = 0  # the page goes back at once: no link is needed
        else:
            word = page * self._page_words + kind.word_of[index]
            self._words[word] = zspage.freeobj << TAG_BITS & self._link_mask
        zspage.freeobj = index
        zspage.inuse -= 1

    # ---- compaction --------------------------------------------------------------------

    def _compact(self, owner: _PoolClass) -> int:
        """Empty zspages of a class while the free slots of the others can hold one; pages freed."""
        objects, freed = owner.kind.objects, 0
        while owner.allocated - owner.used >= objects:
            sparse = self._isolate(owner, (ALMOST_EMPTY, ALMOST_FULL))
            if sparse is None:
                break
            self._evacuate(owner, sparse)
            group = fullness_group(sparse.inuse, objects)
            if group != EMPTY:
                owner.insert(sparse, group)
                break
            self._release(sparse)
            freed += owner.kind.pages
        return freed

    def _isolate(self, owner: _PoolClass, groups: tuple[int, ...]) -> _Zspage | None:
        zspage = owner.first(groups)
        if zspage is not None:
            owner.remove(zspage)
        return zspage

    def _evacuate(self, owner: _PoolClass, sparse: _Zspage) -> None:
        """Move the live slots of an isolated zspage into others, until it is empty or they are full."""
        index, objects = 0, owner.kind.objects
        for _ in range(objects):  # each of the others takes one slot at least
            roomy = self._isolate(owner, _SEARCHED)
            if roomy is None:
                return
            index = self._migrate(sparse, roomy, index)
            owner.insert(roomy, fullness_group(roomy.inuse, objects))
            if index == objects:
                return
        raise RuntimeError(f"zspage {sparse.pages} cannot be emptied into zspages that have room")

    def _migrate(self, sparse: _Zspage, roomy: _Zspage, index: int) -> int:
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

    def _copy(self, sparse: _Zspage, old: int, roomy: _Zspage, new: int) -> None:
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
        """``length`` bytes from offset ``at``.  ValueError past the object's usable size.  O(length)."""
        memory = self.source.memory
        return b"".join([memory[start : start + n] for start, n in self._payload(handle, at, length)])

    def write(self, handle: int, at: int, data: bytes) -> None:
        """Put ``data`` at offset ``at``.  ValueError past the object's usable size.  O(length)."""
        memory, done = self.source.memory, 0
        for start, n in self._payload(handle, at, len(data)):
            memory[start : start + n] = data[done : done + n]
            done += n

    def _payload(self, handle: int, at: int, length: int) -> tuple[tuple[int, int], ...]:
        page, index = decode_location(self._cells[handle // _CELL], self._index_bits)
        zspage = self._zspage_at(page)
        kind = zspage.kind
        if at < 0 or length < 0 or at + length > kind.payload:
            raise ValueError(f"bytes {at}+{length} leave an object of {kind.payload}")
        return self._pieces(zspage, index, kind.header + at, length)

    def _pieces(self, zspage: _Zspage, index: int, at: int, length: int) -> tuple[tuple[int, int], ...]:
        """(address, length) of the one or two pieces of a stretch inside a slot."""
        size = self._page_size
        start = index * zspage.kind.size + at
        number, offset = start >> self._shift, start & (size - 1)
        pages = zspage.pages
        if offset + length <= size:
            return ((pages[number] * size + offset, length),) if length else ()
        room = size - offset
        return (pages[number] * size + offset, room), (pages[number + 1] * size, length - room)

    def _zspage_at(self, page: int) -> _Zspage:
        zspage = self._zspage_of[page]
        if zspage is None:
            raise RuntimeError(f"page {page} belongs to no zspage")
        return zspage

    # ---- observations ------------------------------------------------------------------

    def extents(self, handle: int) -> tuple[tuple[int, int, int], ...]:
        """Payload bytes after the first word (all bytes, if huge), in one or two pieces.  O(1).

        The first word is the allocator's: it must survive whatever the user writes.
        """
        page, index = decode_location(self._cells[handle // _CELL], self._index_bits)
        zspage = self._zspage_at(page)
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

    def _free_slots(self, zspage: _Zspage) -> Iterator[int]:
        """Indexes along the chain of free slots of a zspage."""
        kind, index = zspage.kind, zspage.freeobj
        for _ in range(kind.objects + 1):
            if index == self._end:
                return
            if index >= kind.objects:
                raise RuntimeError(f"zspage {zspage.pages} links to slot {index} of {kind.objects}")
            yield index
            page = zspage.pages[kind.page_of[index]]
            index = self._words[page * self._page_words + kind.word_of[index]] >> TAG_BITS
        raise RuntimeError(f"free slots of zspage {zspage.pages} do not end")

    def lists(self) -> Iterator[Listed]:
        """Zspages, named by their pages, on the lists (class index, group).  O(zspages)."""
        for zspage, group in self._listed():
            yield Listed((zspage.kind.index, GROUP_NAMES[group]), zspage.pages)

    def _owners(self) -> list[_PoolClass]:
        """Classes in use by size; an index that was merged away is not one of them."""
        return [owner for index, owner in enumerate(self._classes) if owner is not None and owner.kind.index == index]

    def _listed(self) -> Iterator[tuple[_Zspage, int]]:
        for owner in self._owners():
            for group in range(EMPTY, FULL + 1):
                for zspage in owner.members(group, self.source.total):
                    yield zspage, group

    def _zspages(self) -> Iterator[_Zspage]:
        for zspage, _ in self._listed():
            yield zspage

    def counters(self) -> Mapping[str, int]:
        """``pages``, ``live_objects``, ``used_bytes`` (payload), ``free_bytes`` (free slots).  O(classes)."""
        owners = self._owners()
        return {
            "pages": self._pages_held,
            "live_objects": sum(owner.used for owner in owners),
            "used_bytes": sum(owner.used * owner.kind.payload for owner in owners),
            "free_bytes": sum((owner.allocated - owner.used) * owner.kind.size for owner in owners),
        }

    def metadata(self) -> tuple[int, int]:
        """Bytes of first words in the pages; bytes of cells and zspage records beside them."""
        owners = self._owners()
        inside = sum(owner.used * owner.kind.header for owner in owners)
        cells = sum(owner.used for owner in owners) * self._word
        return inside, cells + sum(_ZSPAGE_STRUCT for _ in self._zspages())

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
            (z.kind.index, group, z.pages, z.freeobj, z.inuse, self._image(z)) for z, group in self._listed()
        )
        handles = tuple((page, handle) for page, handle in enumerate(self._huge_handle) if handle)
        return tuple(self._cells), tuple(self._free_cells), handles, listed

    def _image(self, zspage: _Zspage) -> tuple[bytes, ...]:
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
        self.destroy()
        cells, free_cells, handles, listed = state
        self._cells, self._free_cells = list(cells), list(free_cells)
        self._classes = [None] * len(self._classes)
        for index, group, pages, freeobj, inuse, image in reversed(listed):
            owner = self._classes[index] or self._open(index)
            zspage = _Zspage(owner, pages)
            for page in pages:
                _retake(self.source, page)
                self._zspage_of[page] = zspage
            zspage.freeobj, zspage.inuse, zspage.group = freeobj, inuse, group
            head = owner.heads[group]  # in front, whatever the fullness: this order has been before
            zspage.before, zspage.after = head, head.after
            head.after.before = zspage
            head.after = zspage
            owner.allocated += owner.kind.objects
            owner.used += inuse
            self._pages_held += owner.kind.pages
            self._fill(zspage, image)
        for page, handle in handles:
            self._huge_handle[page] = handle

    def _fill(self, zspage: _Zspage, image: tuple[bytes, ...]) -> None:
        memory = self.source.memory
        for slot, data in enumerate(image):
            done = 0
            for at, n in self._pieces(zspage, slot, 0, len(data)):
                memory[at : at + n] = data[done : done + n]
                done += n


def _retake(source: PageSource, page: int) -> None:
    """Take one page by its number, as a restored state calls for."""
    zone = source.zone_of(page)
    zone.free &= ~(1 << (page - zone.first))
    source.runs[page], source.owned[page] = 0, page
    source.held += 1


# ---- what it promises ---------------------------------------------------------------------


@lru_cache(maxsize=256)
def _configured(pages: int, page_size: int, chain: int, rev: str, word: int, rule: str) -> tuple[ClassTable, Contract]:
    """Table and contract of every pool with these parameters.  Raises ValueError for senseless ones."""
    if rev:
        raise ValueError(f"zsmalloc has no revision {rev!r}")
    for name, value in (("pages", pages), ("page_size", page_size), ("chain", chain), ("handle_size", word)):
        if not isinstance(value, int):
            raise ValueError(f"{name} must be a whole number, not {value!r}")
    if page_size < _SMALLEST_PAGE or not is_power_of_two(page_size):
        raise ValueError(f"page_size must be a power of two from {_SMALLEST_PAGE}, not {page_size}")
    if not 1 <= chain <= MAX_CHAIN:
        raise ValueError(f"chain must be 1 to {MAX_CHAIN} pages, not {chain}")
    if word not in (4, 8):
        raise ValueError(f"handle_size must be 4 or 8 bytes, not {word}")
    if rule not in ("", "percent", "exact"):
        raise ValueError(f"rule must be 'percent' or 'exact', not {rule!r}")
    table = class_table(page_size, chain, word, rule or ("percent" if chain <= 4 else "exact"))
    longest = max(kind.pages for kind in table.distinct)
    if pages < longest:
        raise ValueError(f"pages={pages} cannot hold a zspage of {longest} pages")
    return table, Contract(
        max_size=page_size,
        granule=word,
        limits=tuple(min(kind.payload, page_size) for kind in table.distinct),
        handles="opaque",
        maintenance=("compact",),
        moving=frozenset({"compact"}),
        rejects=frozenset({"zero", "huge", "align"}),
        spaces="pages",
        container_list=partial(_group_of, table),
        geometry=partial(_misplaced, table),
        metadata_bound=_metadata_bound,
        waste=partial(_waste, table),
        page_order=0,
        drained_size=page_size,
        drained_pages=0,
        must_serve=partial(_must_serve, table),
        free_then_alloc=True,
        cost_bounds={"probed": partial(_at_most, len(_SEARCHED)), "pages_taken": partial(_at_most, chain)},
        compacted_pages=partial(_compacted_pages, table),
    )


def _must_serve(table: ClassTable, request: Request, shadow: Shadow, source: PageSource | None) -> bool:
    """Can the source give a zspage's pages, or must some zspage of the class have a free slot?

    With ``n`` slots a zspage and a number of live objects that is no multiple of ``n``,
    one zspage at least is not full, however many there are.  O(live) if pages are short.
    """
    if not 1 <= request.size <= table.page_size or request.align != 1:
        return False
    kind = table.of(request.size)
    if source is not None and source.can_give(kind.pages):
        return True
    return sum(table.of(block.size) is kind for block in shadow.live.values()) % kind.objects != 0


def _compacted_pages(table: ClassTable, shadow: Shadow) -> int:
    """Pages after compaction: as few zspages a class as its live objects need.  O(live).

    It stops only when the free slots of a class are fewer than a zspage has.  Before that
    the other zspages always have room for the one to be emptied: if it has ``i`` objects,
    they have at least ``n - (n - i)`` free slots.
    """
    live: dict[int, int] = {}
    for block in shadow.live.values():
        index = table.of(block.size).index
        live[index] = live.get(index, 0) + 1
    kinds = table.by_index
    return sum(-(-count // kinds[index].objects) * kinds[index].pages for index, count in live.items())


def _group_of(table: ClassTable, shadow: Shadow) -> Callable[[Hashable], Hashable]:
    """For a zspage, named by its pages: its class and the group that its live objects call for.

    None for a zspage without any, which must not exist, or with objects of two classes.
    """
    on_page: dict[int, tuple[SizeClass, int]] = {}
    for block in shadow.live.values():
        page, kind = block.extents[0][1] // table.page_size, table.of(block.size)
        known, count = on_page.get(page, (kind, 0))
        on_page[page] = (known, count + 1 if known is kind else 0)

    def group_of(key: Hashable) -> Hashable:
        pages = [on_page[page] for page in cast(tuple[int, ...], key) if page in on_page]
        kinds, counts = {kind.index for kind, _ in pages}, [count for _, count in pages]
        if len(kinds) != 1 or 0 in counts:
            return None
        kind = pages[0][0]
        return kind.index, GROUP_NAMES[fullness_group(sum(counts), kind.objects)]

    return group_of


def _misplaced(table: ClassTable, block: Block) -> str | None:
    """Do the pieces make up a slot of the class, at one of the class's places in a page?"""
    kind, page_size = table.of(block.size), table.page_size
    start = block.extents[0][1]
    # A first word that ends its page leaves the payload to begin on the next one.
    slot = (start - kind.header) % page_size
    if slot not in kind.offsets:
        return f"no slot of {kind.size} bytes begins at byte {slot} of a page"
    at = start % page_size
    here = min(kind.payload, page_size - at)
    lengths = [here] if here == kind.payload else [here, kind.payload - here]
    if [length for _, _, length in block.extents] != lengths:
        return f"pieces of {lengths} bytes expected"
    if len(lengths) == 2 and block.extents[1][1] % page_size:
        return "the second piece does not begin a page"
    return None


def _waste(table: ClassTable, size: int, align: int) -> int:
    """Padding of a request to what its class holds, and no byte more."""
    return table.of(size).payload - size


def _metadata_bound(shadow: Shadow, source: PageSource | None) -> int:
    """Two words for an object, one record for a zspage of at least one page."""
    return 16 * len(shadow) + _ZSPAGE_STRUCT * (source.held if source is not None else 0)


def _at_most(most: int, request: Request, shadow: Shadow) -> int:
    return most
