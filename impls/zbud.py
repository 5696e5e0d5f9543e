"""zbud: at most two compressed objects ("buddies") in a page, and whole pages to reclaim.

Era: Seth Jennings 2013, after the inner allocator of Dan Magenheimer's zcache (2010);
in Linux from 3.11 on, removed in 2025.  Source: ``mm/zbud.c`` of Linux 6.1, the last form with an
LRU list of its own.  It is no buddy allocator.

A page is 64 chunks.  The first one is the page's header; one object stands right behind
it, the other ends with the page, so that all free chunks are one run whatever is freed::

    0      64                                                             4096
    | head | FIRST -> first_chunks |      free      | last_chunks <- LAST  |

A page with one object stands on ``unbuddied[free chunks]``, one with two on ``buddied``.
The latter shares its storage with ``unbuddied[0]``, which no page with one object can
have: the largest object leaves one chunk.  A request takes the first page of the first
list that has room for it, so existing pages are used whenever one of them can be; a page
with two objects is never looked at, however much is free between them.

A handle is the address of the data.  Reclaim takes the page least recently allocated
from, off all lists, and asks its owner to give up both objects.  The owner agrees by
calling ``free`` itself, which must then leave the lists alone::

    lru tail   [ head | A |   | B ]     handles of A and B computed first
    evict(A)   [ head |   |   | B ]     the owner calls free(A): only the count is cleared
    evict(B)   [ head |   |   |   ]     page goes back, pages_nr - 1
    refused    [ head |   |   | B ]     listed again by what is left, at the LRU head

Headers are kept where the kernel keeps them, in the page: two pairs of links, two counts
and a flag, 48 bytes of the first chunk.  Links are page numbers; a number past the last
page is the head of a list, which belongs to the pool.

Left out: locks, gfp flags, the zpool driver's glue but for its eight retries.  Nothing
is noticed about a wrong handle.  As in the kernel, ``destroy`` is for an empty pool.

Costs: ``alloc`` looks at no more than 62 list heads, ``free`` and ``map`` are O(1).

>>> pool = Zbud(pages=4)
>>> pool.alloc(1), pool.alloc(3968), pool.counters()["pages"]
(64, 128, 1)
>>> pool.free(64); [tuple(region) for region in pool.free_regions()]
[(0, 64, 64, 1)]
"""

from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from typing import Any

from heaplaw import Context, FreeRegion, Listed, Maintained, PageSource, Refusal

from .zbud_promises import BUDDIED, KINDS, configured, pool_bytes

Evict = Callable[[int], bool]
"""Asked to give up a handle: True after having freed it, False to refuse."""

ZPOOL_RETRIES = 8  # pages that a shrinking zpool tries before it gives up

_FIRST, _LAST = 0, 1  # which buddy
_BUDDY, _LRU = 0, 2  # places of the links in a header, in words
_COUNTS, _UNDER_RECLAIM = 8, 10  # places of the counts and the flag in a header, in ints
_WORD, _INT = 8, 4


class Reclaimed(Enum):
    """What came of ``reclaim_page``."""

    FREED = "a page was freed"
    INVALID = "nothing to reclaim, or nobody to ask"
    AGAIN = "no page could be emptied"


class Zbud:
    """A pool over a page source of its own, ``self.source``.

    ``order``: a page is ``2**order`` chunks.  ``evict`` is asked by ``reclaim_page``.
    """

    def __init__(
        self,
        pages: int = 256,
        page_size: int = 4096,
        order: int = 6,
        rev: str = "",
        *,
        evict: Evict | None = None,
        source: PageSource | None = None,
    ) -> None:
        """``source`` lends another pool's pages; its page size must be ``page_size``."""
        if source is not None:
            pages, page_size = source.total, source.page_size
        self.contract = configured(pages, page_size, order, rev)
        self.source = PageSource(pages, page_size=page_size) if source is None else source
        self.evict = evict
        self._page_size, self._pages = page_size, pages
        self._chunk_shift = page_size.bit_length() - 1 - order
        self._chunk = 1 << self._chunk_shift
        self._nchunks = (page_size - self._chunk) >> self._chunk_shift
        self._max_size = page_size - 2 * self._chunk
        memory = memoryview(self.source.memory)
        self._words, self._page_words = memory.cast("Q"), page_size // _WORD
        self._ints, self._page_ints = memory.cast("I"), page_size // _INT
        # List heads: entries 0 (buddied), 1 to nchunks - 1 (unbuddied), nchunks (LRU).
        self._lru_head = pages + self._nchunks
        self._head_next = list(range(pages, self._lru_head + 1))
        self._head_prev = list(self._head_next)
        self._pages_nr = 0
        self._probed = self._taken = self._found = self._asked = 0

    # ---- the operations ----------------------------------------------------------------

    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> int | Refusal | None:
        """Address of a new object; None when the page source refuses a page.

        INVALID for size 0 and for any alignment (the allocator has none to offer), TOO_BIG
        above a page less two chunks.  O(chunks of a page) list heads.
        """
        self._probed = self._taken = self._found = self._asked = 0
        if size < 1 or align != 1:
            return Refusal.INVALID
        if size > self._max_size:
            return Refusal.TOO_BIG
        chunks = self._size_to_chunks(size)
        page = self._find_unbuddied(chunks)
        ints = self._ints
        if page is not None:
            self._list_del(_BUDDY, page)
            bud = _FIRST if ints[page * self._page_ints + _COUNTS] == 0 else _LAST
        else:
            page = self.source.take(0)
            if page is None:
                return None
            self._taken = 1
            self._pages_nr += 1
            self._init_zbud_page(page)
            bud = _FIRST
        counts = page * self._page_ints + _COUNTS
        self._found = self._num_free_chunks(page) << self._chunk_shift
        ints[counts + bud] = chunks
        self._enlist(page, ints[counts], ints[counts + 1])
        if self._words[page * self._page_words + _LRU] != page:  # a new page is on no LRU list yet
            self._list_del(_LRU, page)
        self._list_add(_LRU, page, self._lru_head)
        return self._encode_handle(page, bud)

    def free(self, handle: int) -> None:
        """Give an object back; from within an eviction as well.  O(1)."""
        self._probed = self._taken = self._found = self._asked = 0
        page = handle // self._page_size
        counts = page * self._page_ints + _COUNTS
        ints = self._ints
        ints[counts + self._buddy_of(handle)] = 0
        if ints[counts - _COUNTS + _UNDER_RECLAIM]:
            return  # on no list: who reclaims the page sees to the rest
        self._list_del(_BUDDY, page)
        first, last = ints[counts], ints[counts + 1]
        if first == 0 and last == 0:
            self._list_del(_LRU, page)
            self._free_zbud_page(page)
        else:
            self._enlist(page, first, last)

    def map(self, handle: int) -> int:
        """Address of an object's bytes, which the handle is already.  O(1)."""
        return handle

    def unmap(self, handle: int) -> None:
        """End a mapping: there is nothing to do.  O(1)."""

    def reclaim_page(self, retries: int = ZPOOL_RETRIES, evict: Evict | None = None) -> Reclaimed:
        """Empty a page by asking for its objects; up to ``retries`` pages are tried, oldest first.

        ``evict`` (else the pool's own) is called while the page is on no list; it may call
        anything on the pool.  It can be asked for a handle that it freed on its own while
        it was asked for the other buddy: handles are computed before the first call.
        """
        self._probed = self._taken = self._found = self._asked = 0
        evict = evict if evict is not None else self.evict
        if evict is None or self._head_prev[self._lru_head - self._pages] == self._lru_head or retries < 1:
            return Reclaimed.INVALID
        for _ in range(retries):
            page = self._head_prev[self._lru_head - self._pages]
            self._list_del(_LRU, page)
            self._list_del(_BUDDY, page)
            self._ints[page * self._page_ints + _UNDER_RECLAIM] = 1
            self._ask_for_all(page, evict)
            if self._end_reclaim(page):
                return Reclaimed.FREED
        return Reclaimed.AGAIN

    def _ask_for_all(self, page: int, evict: Evict) -> None:
        """Evict the page's objects, first one first, until the owner refuses."""
        counts = page * self._page_ints + _COUNTS
        present = [bud for bud in (_FIRST, _LAST) if self._ints[counts + bud]]
        for handle in [self._encode_handle(page, bud) for bud in present]:
            if not evict(handle):
                return

    def _end_reclaim(self, page: int) -> bool:
        """Release the page if it is empty now, else list it again as the most recent; released?"""
        ints, at = self._ints, page * self._page_ints
        ints[at + _UNDER_RECLAIM] = 0
        first, last = ints[at + _COUNTS], ints[at + _COUNTS + 1]
        if first == 0 and last == 0:
            self._free_zbud_page(page)
            return True
        self._enlist(page, first, last)
        self._list_add(_LRU, page, self._lru_head)
        return False

    def maintain(self, kind: str) -> Maintained:
        """Reclaim one page, with an owner as zswap is one; objects evicted are reported.

        ``reclaim``: it gives up everything.  ``reclaim-refuse-first``: all but the first object
        it is asked for.  ``reclaim-refuse-second``: every other one, from the first on.
        ``reclaim-reenter``: everything, and while it is asked it allocates, and frees objects
        that it was not asked for, on this page and on another.  O(pages tried).
        """
        if kind not in KINDS:
            raise ValueError(f"zbud knows no maintenance {kind!r}, only {', '.join(KINDS)}")
        before, owner = self._pages_nr, _Owner(self, kind)
        self.reclaim_page(ZPOOL_RETRIES, owner)
        self._asked = owner.asked
        return Maintained(pages_freed=before - self._pages_nr, evicted=tuple(owner.given_up))

    def destroy(self) -> None:
        """Forget the pool, which the caller has emptied: pages with live objects stay taken.  O(1)."""

    # ---- chunks and handles ------------------------------------------------------------

    def _size_to_chunks(self, size: int) -> int:
        return (size + self._chunk - 1) >> self._chunk_shift

    def _num_free_chunks(self, page: int) -> int:
        counts = page * self._page_ints + _COUNTS
        return self._nchunks - self._ints[counts] - self._ints[counts + 1]

    def _encode_handle(self, page: int, bud: int) -> int:
        address = page * self._page_size
        if bud == _FIRST:
            return address + self._chunk  # behind the header
        last = self._ints[page * self._page_ints + _COUNTS + 1]
        return address + self._page_size - (last << self._chunk_shift)

    def _buddy_of(self, handle: int) -> int:
        return _LAST if (handle - self._chunk) & (self._page_size - 1) else _FIRST

    # ---- pages and lists ---------------------------------------------------------------

    def _find_unbuddied(self, chunks: int) -> int | None:
        """First page of the first list whose pages have so many free chunks."""
        heads, pages = self._head_next, self._pages
        for index in range(chunks, self._nchunks):
            page = heads[index]
            if page < pages:
                self._probed = index - chunks + 1
                return page
        self._probed = max(0, self._nchunks - chunks)
        return None

    def _init_zbud_page(self, page: int) -> None:
        words, at = self._words, page * self._page_words
        words[at] = words[at + 1] = words[at + 2] = words[at + 3] = page  # links to itself: on no list
        ints, at = self._ints, page * self._page_ints
        ints[at + _COUNTS] = ints[at + _COUNTS + 1] = ints[at + _UNDER_RECLAIM] = 0

    def _free_zbud_page(self, page: int) -> None:
        self.source.give(page, 0)
        self._pages_nr -= 1

    def _enlist(self, page: int, first: int, last: int) -> None:
        """Put a page in front of the list that its two counts call for."""
        index = BUDDIED if first and last else self._num_free_chunks(page)
        self._list_add(_BUDDY, page, self._pages + index)

    def _list_add(self, link: int, page: int, head: int) -> None:
        """Put a page right behind the head of a list.  O(1)."""
        words, stride, pages = self._words, self._page_words, self._pages
        first = self._head_next[head - pages]
        at = page * stride + link
        words[at], words[at + 1] = first, head
        self._head_next[head - pages] = page
        if first < pages:
            words[first * stride + link + 1] = page
        else:
            self._head_prev[first - pages] = page

    def _list_del(self, link: int, page: int) -> None:
        """Take a page off the list it is on, whichever that is.  O(1)."""
        words, stride, pages = self._words, self._page_words, self._pages
        at = page * stride + link
        after, before = words[at], words[at + 1]
        if after < pages:
            words[after * stride + link + 1] = before
        else:
            self._head_prev[after - pages] = before
        if before < pages:
            words[before * stride + link] = after
        else:
            self._head_next[before - pages] = after

    def _walk(self, link: int, head: int) -> Iterator[int]:
        """Pages of a list, first to last.  RuntimeError for one that leaves its pages or does not end."""
        page, pages = self._head_next[head - self._pages], self._pages
        for _ in range(pages + 1):
            if page == head:
                return
            if page >= pages:
                raise RuntimeError(f"list {head - pages} leads to {page}, which is no page")
            yield page
            page = self._words[page * self._page_words + link]
        raise RuntimeError("free list does not end")

    # ---- contents ----------------------------------------------------------------------

    def read(self, handle: int, at: int, length: int) -> bytes:
        """``length`` bytes from offset ``at``.  ValueError past the object's chunks.  O(length)."""
        start = self._inside(handle, at, length)
        return bytes(self.source.memory[start : start + length])

    def write(self, handle: int, at: int, data: bytes) -> None:
        """Put ``data`` at offset ``at``.  ValueError past the object's chunks.  O(length)."""
        start = self._inside(handle, at, len(data))
        self.source.memory[start : start + len(data)] = data

    def _inside(self, handle: int, at: int, length: int) -> int:
        usable = self._length(handle)
        if at < 0 or length < 0 or at + length > usable:
            raise ValueError(f"bytes {at}+{length} leave an object of {usable}")
        return handle + at

    def _length(self, handle: int) -> int:
        counts = handle // self._page_size * self._page_ints + _COUNTS
        return self._ints[counts + self._buddy_of(handle)] << self._chunk_shift

    # ---- observations ------------------------------------------------------------------

    @property
    def pool_size(self) -> int:
        """Pages of the pool.  O(1)."""
        return self._pages_nr

    def handles_on(self, page: int) -> tuple[int, ...]:
        """Handles of the objects on a page of the pool, by address.  O(1)."""
        counts = page * self._page_ints + _COUNTS
        return tuple([self._encode_handle(page, bud) for bud in (_FIRST, _LAST) if self._ints[counts + bud]])

    def oldest_page(self) -> int | None:
        """The page that would be reclaimed next.  O(1)."""
        page = self._head_prev[self._lru_head - self._pages]
        return page if page < self._pages else None

    def lru(self) -> Iterator[int]:
        """Pages, most recently allocated from first.  O(pages)."""
        return self._walk(_LRU, self._lru_head)

    def extents(self, handle: int) -> tuple[tuple[int, int, int], ...]:
        """The whole chunks of an object, as the page's header counts them.  O(1)."""
        return ((0, handle, self._length(handle)),)

    def pages(self) -> Iterator[tuple[int, int]]:
        """Pages of the LRU list, one by one.  O(pages)."""
        for page in self.lru():
            yield page, 1

    def free_regions(self) -> Iterator[FreeRegion]:
        """The run of free chunks of every page on the LRU list, from its header.  O(pages).

        Its list is the one that the header calls for; ``lists`` shows where the page is.
        """
        for page in self.lru():
            gap = self._gap(page)
            if gap[1] > 0:
                counts = page * self._page_ints + _COUNTS
                full = self._ints[counts] and self._ints[counts + 1]
                yield FreeRegion(0, gap[0], gap[1], BUDDIED if full else self._num_free_chunks(page))

    def _gap(self, page: int) -> tuple[int, int]:
        """(start, length) of the free chunks of a page, in bytes."""
        first = self._ints[page * self._page_ints + _COUNTS]
        start = page * self._page_size + self._chunk + (first << self._chunk_shift)
        return start, self._num_free_chunks(page) << self._chunk_shift

    def lists(self) -> Iterator[Listed]:
        """Pages on the buddied and unbuddied lists, by their free chunks; full ones have no name.  O(pages)."""
        for index in range(self._nchunks):
            for page in self._walk(_BUDDY, self._pages + index):
                start, length = self._gap(page)
                if length > 0:
                    yield Listed(index, (0, start))

    def counters(self) -> Mapping[str, int]:
        """``pages``: the only statistic that is kept.  O(1)."""
        return {"pages": self._pages_nr}

    def metadata(self) -> tuple[int, int]:
        """Bytes of header chunks in the pages; bytes of the pool's list heads beside them."""
        return self._pages_nr << self._chunk_shift, pool_bytes(self._nchunks)

    def cost(self) -> Mapping[str, int]:
        """Steps of the last call: list heads ``probed``, ``pages_taken``, objects ``asked`` for; bytes ``found``."""
        steps = {"probed": self._probed, "pages_taken": self._taken, "asked": self._asked}
        return steps | {"found": self._found} if self._found else steps

    # ---- states ------------------------------------------------------------------------

    def snapshot(self) -> tuple[Any, ...]:
        """Pages in LRU order with their counts and live bytes; all lists in order.  O(bytes live)."""
        pages = []
        for page in self.lru():
            counts = page * self._page_ints + _COUNTS
            contents = tuple(self.read(handle, 0, self._length(handle)) for handle in self.handles_on(page))
            pages.append((page, self._ints[counts], self._ints[counts + 1], contents))
        lists = tuple(tuple(self._walk(_BUDDY, self._pages + index)) for index in range(self._nchunks))
        return tuple(pages), lists

    def restore(self, state: tuple[Any, ...]) -> None:
        """Return to a state of ``snapshot``; the page source's armed failures stay.  O(bytes live)."""
        for page in list(self.lru()):
            self._free_zbud_page(page)
        self._head_next = list(range(self._pages, self._lru_head + 1))
        self._head_prev = list(self._head_next)
        pages, lists = state
        for page, first, last, contents in reversed(pages):
            self.source.retake(page)
            self._pages_nr += 1
            self._init_zbud_page(page)
            counts = page * self._page_ints + _COUNTS
            self._ints[counts], self._ints[counts + 1] = first, last
            self._list_add(_LRU, page, self._lru_head)
            for handle, data in zip(self.handles_on(page), contents, strict=True):
                self.write(handle, 0, data)
        for index, members in enumerate(lists):
            for page in reversed(members):
                self._list_add(_BUDDY, page, self._pages + index)


class _Owner:
    """The owner of all objects while a page is reclaimed: what it is asked for, and what it gives up."""

    def __init__(self, pool: Zbud, kind: str) -> None:
        self._pool, self._kind = pool, kind
        self.asked = 0
        self.given_up: list[int] = []

    def __call__(self, handle: int) -> bool:
        self.asked += 1
        if self._kind == "reclaim-refuse-first" and self.asked == 1:
            return False
        if self._kind == "reclaim-refuse-second" and self.asked % 2 == 0:
            return False
        if self._kind == "reclaim-reenter":
            self._meanwhile(handle)
        self._give_up(handle)
        return True

    def _give_up(self, handle: int) -> None:
        if handle not in self.given_up:  # it may have been given up while its buddy was asked for
            self._pool.free(handle)
            self.given_up.append(handle)

    def _meanwhile(self, handle: int) -> None:
        """Allocate; free the buddy, an object on the next page to be reclaimed, and what was allocated."""
        pool, page = self._pool, handle // self._pool.source.page_size
        passing = pool.alloc(pool.contract.granule)
        for other in pool.handles_on(page):
            if other != handle:
                self._give_up(other)
        following = pool.oldest_page()
        if following is not None:
            for other in pool.handles_on(following)[:1]:
                if other != passing:
                    self._give_up(other)
        if isinstance(passing, int):
            pool.free(passing)
