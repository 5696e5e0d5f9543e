"""One zone of the buddy page allocator: free lists by order, split and merge.

Source: the free, split and smallest-first paths of ``mm/page_alloc.c``, Linux 6.1, whose
names the methods carry.  Pages are numbered from the zone's first one, which has the
page frame number ``start``; buddies are found by frame number, so that the first of two
halves is not always the even one of the zone::

    zone of pages 3..12      3 | 4  5  6  7 | 8  9 10 11 | 12
    the buddy of 3 is 2: outside, and never looked at

Every operation is O(orders).

>>> zone = Zone(pages=8, orders=4)
>>> zone.rmqueue(0), zone.nr_free, zone.free_pages
(0, [1, 1, 1, 0], 7)
>>> zone.free_one_page(0, 0); zone.nr_free
[0, 0, 0, 1]
"""

from collections.abc import Iterator
from typing import Any

from .pages_arithmetic import buddy_of, cover, merged, upper_half


class Zone:
    """``pages`` pages from page frame ``start`` on; no block is longer than ``2**(orders - 1)`` pages.

    ``tail``: list a freed block last where its merge seems near, as the kernel does.
    """

    __slots__ = (
        "_next", "_prev", "found", "free_pages", "head", "merges", "nr_free", "orders", "pages", "probed",
        "splits", "start", "tail", "top",
    )  # fmt: skip

    def __init__(self, pages: int, orders: int, start: int = 0, tail: bool = False) -> None:
        self.pages, self.orders, self.start, self.tail = pages, orders, start, tail
        self.top = orders - 1  # blocks of this order are not merged
        # One entry a page: order + 1 of the free block that begins here, -(order + 1) of the
        # live one, 0 inside a block.
        self.head = [0] * pages
        self._empty_lists()
        self.free_pages = pages
        self.probed = self.splits = self.merges = 0  # steps of the last operation
        self.found = 0  # pages of the block that the last request was cut from
        for pfn, order in reversed(cover(start, pages, orders)):  # the lowest comes to the head
            self.add_to_free_list(pfn - start, order)

    def _empty_lists(self) -> None:
        # Doubly linked rings through the pages; entry pages + o is the head of order o's list.
        self._next = list(range(self.pages + self.orders))
        self._prev = list(self._next)
        self.nr_free = [0] * self.orders

    # ---- taking ------------------------------------------------------------------------

    def rmqueue(self, order: int) -> int:
        """First page of a block of this order, cut from the smallest that will do; -1 when none will."""
        following, pages = self._next, self.pages
        for found in range(order, self.orders):
            page = following[pages + found]
            if page < pages:
                break
        else:
            self.probed, self.splits, self.merges, self.found = self.orders - order, 0, 0, 0
            return -1
        self.del_page_from_free_list(page, found)
        self.probed, self.splits, self.merges, self.found = found - order + 1, found - order, 0, 1 << found
        if found > order:
            self.expand(page, order, found)
        self.head[page] = -(order + 1)
        self.free_pages -= 1 << order
        return page

    def expand(self, page: int, low: int, high: int) -> None:
        """Halve a block of order ``high`` down to ``low``; the upper halves become free blocks."""
        start = self.start
        while high > low:
            high -= 1
            self.add_to_free_list(upper_half(page + start, high) - start, high)

    # ---- giving back -------------------------------------------------------------------

    def free_one_page(self, page: int, order: int) -> None:
        """Free a block: merge it with its buddy while that is wholly free, then list it."""
        pages, start, head = self.pages, self.start, self.head
        self.free_pages += 1 << order
        head[page] = 0
        pfn, top, first = page + start, self.top, order
        while order < top:
            buddy = buddy_of(pfn, order) - start
            if not 0 <= buddy < pages or head[buddy] != order + 1:  # the bounds come first
                break
            self.del_page_from_free_list(buddy, order)
            pfn = merged(pfn, order)
            order += 1
        self.probed, self.splits, self.merges, self.found = 0, 0, order - first, 0
        if self.tail and self.buddy_merge_likely(pfn, order):
            self.add_to_free_list_tail(pfn - start, order)
        else:
            self.add_to_free_list(pfn - start, order)

    def buddy_merge_likely(self, pfn: int, order: int) -> bool:
        """Is the buddy of the next higher block free, so that one more free would merge both?"""
        if order >= self.orders - 2:
            return False
        return self.page_is_buddy(buddy_of(merged(pfn, order), order + 1) - self.start, order + 1)

    def page_is_buddy(self, page: int, order: int) -> bool:
        """Does a free block of exactly this order begin at a page of this zone?"""
        return 0 <= page < self.pages and self.head[page] == order + 1

    # ---- lists -------------------------------------------------------------------------

    def add_to_free_list(self, page: int, order: int) -> None:
        """Make ``page`` the head of a free block and the first of its list.  O(1)."""
        following, before, ring = self._next, self._prev, self.pages + order
        first = following[ring]
        following[page], before[page] = first, ring
        following[ring] = before[first] = page
        self.head[page] = order + 1
        self.nr_free[order] += 1

    def add_to_free_list_tail(self, page: int, order: int) -> None:
        """Make ``page`` the head of a free block and the last of its list.  O(1)."""
        following, before, ring = self._next, self._prev, self.pages + order
        last = before[ring]
        following[page], before[page] = ring, last
        before[ring] = following[last] = page
        self.head[page] = order + 1
        self.nr_free[order] += 1

    def del_page_from_free_list(self, page: int, order: int) -> None:
        """Take a free block off its list; its page is no head any more.  O(1)."""
        after, before = self._next[page], self._prev[page]
        self._next[before], self._prev[after] = after, before
        self.head[page] = 0
        self.nr_free[order] -= 1

    # ---- looking -----------------------------------------------------------------------

    def members(self, order: int) -> Iterator[int]:
        """Pages on the list of an order, first to last.  RuntimeError for a list that does not end."""
        ring = page = self.pages + order
        for _ in range(self.pages + 1):
            page = self._next[page]
            if page == ring:
                return
            yield page
        raise RuntimeError(f"free list of order {order} does not end")

    def forget_steps(self) -> None:
        """An operation begins that may not come to this zone."""
        self.probed = self.splits = self.merges = self.found = 0

    # ---- states ------------------------------------------------------------------------

    def state(self) -> tuple[Any, ...]:
        """Marks, lists in order, counts of blocks and of free pages.  O(pages)."""
        lists = tuple(tuple(self.members(order)) for order in range(self.orders))
        return tuple(self.head), lists, tuple(self.nr_free), self.free_pages

    def restore(self, state: tuple[Any, ...]) -> None:
        """Return to a state of ``state``.  O(pages)."""
        head, lists, nr_free, free_pages = state
        self._empty_lists()
        for order, members in enumerate(lists):
            for page in reversed(members):
                self.add_to_free_list(page, order)
        self.head, self.nr_free, self.free_pages = list(head), list(nr_free), free_pages
