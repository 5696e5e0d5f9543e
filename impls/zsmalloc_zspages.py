"""Zspages and the lists on which a size class of zsmalloc keeps them by fullness.

A list is a ring through its head, so that a zspage leaves it without a search::

    heads[almost full]  <->  zspage  <->  zspage  <-> (the head again)

From 4.8 on there are four lists; a zspage goes first, or second behind a fuller one (that
since 4.3).  Before, empty and full zspages stood on no list, and the newcomer went first.

>>> from heaplaw.impls.zsmalloc_classes import ALMOST_EMPTY, class_table
>>> owner = PoolClass(class_table(4096, 4, 8, "percent").of(100))
>>> fuller, newcomer = Zspage(owner, (7,)), Zspage(owner, (3,))
>>> fuller.inuse = 2; owner.insert(fuller, ALMOST_EMPTY); owner.insert(newcomer, ALMOST_EMPTY)
>>> [zspage.pages for zspage in owner.members(ALMOST_EMPTY, limit=2)]
[(7,), (3,)]
"""

from collections.abc import Iterator
from typing import ClassVar

from .zsmalloc_classes import EMPTY, FULL, GROUP_NAMES, SizeClass


class Zspage:
    """A chain of pages, and its place on a list (the head of a list is one without pages)."""

    __slots__ = ("after", "before", "freeobj", "group", "inuse", "kind", "mapped", "owner", "pages")

    def __init__(self, owner: "PoolClass", pages: tuple[int, ...]) -> None:
        self.owner, self.kind, self.pages = owner, owner.kind, pages
        self.freeobj = 0  # index of the first free slot (before 4.1: its handle)
        self.inuse = 0
        self.mapped = 0  # objects that are mapped; while there are, none of the zspage may move
        self.group = EMPTY
        self.after = self.before = self


class PoolClass:
    """A size class of one pool: its lists and its two counts of slots."""

    __slots__ = ("allocated", "heads", "kind", "used")
    names: ClassVar[tuple[str, ...]] = GROUP_NAMES  # of the lists

    def __init__(self, kind: SizeClass) -> None:
        self.kind = kind
        self.allocated = self.used = 0  # slots that exist, slots in use
        self.heads = [Zspage(self, ()) for _ in self.names]

    def first(self, groups: tuple[int, ...]) -> Zspage | None:
        """First zspage of the first of these groups that has one.  O(1)."""
        for group in groups:
            head = self.heads[group]
            if head.after is not head:
                return head.after
        return None

    def insert(self, zspage: Zspage, group: int) -> None:
        """Put a zspage first, or second behind a fuller one.  O(1)."""
        zspage.group = group  # whose list it is on
        before = self.heads[group]
        first = before.after
        if first is not before and zspage.inuse < first.inuse:
            before = first
        self._link(before, zspage)

    def push(self, zspage: Zspage, group: int) -> None:
        """Put a zspage first, whatever its fullness, as a restored state calls for.  O(1)."""
        zspage.group = group
        self._link(self.heads[group], zspage)

    @staticmethod
    def _link(before: Zspage, zspage: Zspage) -> None:
        zspage.before, zspage.after = before, before.after
        before.after.before = zspage
        before.after = zspage

    @staticmethod
    def remove(zspage: Zspage) -> None:
        """Take a zspage off its list, if it is on one.  O(1)."""
        zspage.before.after, zspage.after.before = zspage.after, zspage.before
        zspage.after = zspage.before = zspage

    def members(self, group: int, limit: int) -> Iterator[Zspage]:
        """Zspages of a group, first to last.  RuntimeError for a list longer than ``limit``."""
        head = self.heads[group]
        zspage = head.after
        for _ in range(limit + 1):
            if zspage is head:
                return
            yield zspage
            zspage = zspage.after
        raise RuntimeError(f"list {self.names[group]} of class {self.kind.index} does not end")


class TwoListPoolClass(PoolClass):
    """A size class before 4.1: empty and full zspages are on no list, the newcomer is first."""

    __slots__ = ()

    def insert(self, zspage: Zspage, group: int) -> None:
        """Put a zspage first, unless it is empty or full.  O(1)."""
        zspage.group = group
        if group not in (EMPTY, FULL):
            self._link(self.heads[group], zspage)

    def push(self, zspage: Zspage, group: int) -> None:
        """The same: every newcomer is first.  O(1)."""
        self.insert(zspage, group)
