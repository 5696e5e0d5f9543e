"""The books of a native page source: what ``PageSource`` is for Python targets, read from the library.

The library lends pages to its allocator (as a shim of a kernel's page allocator does) and shows the runs lent; what
the allocator's own structures hold is shown apart (``HEAPLAW_CLAIMED``), so that the two can be compared.

>>> LentPages.__name__
'LentPages'
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .library import Library

_SOURCE = ("given", "refused", "injected", "highest", "free")


class LentPages:
    """The part of ``PageSource`` that laws and the checker read; every figure costs a call."""

    def __init__(self, library: "Library", heap: int, page_size: int) -> None:
        if page_size < 1 or page_size & (page_size - 1):
            raise ValueError(f"HEAPLAW_PAGE_SIZE {page_size} is not a power of two")
        self.page_size = page_size
        self._library, self._heap = library, heap
        for kind, needed in (("PAGES", ("first", "order")), ("SOURCE", _SOURCE)):
            schema = library.schema(library.number(kind)) if "OBSERVES" in library.has else None
            lacks = [column for column in needed if schema is None or column not in schema.columns]
            if lacks:
                raise ValueError(f"HEAPLAW_PAGE_SIZE is promised, but records of HEAPLAW_{kind} have no {lacks[0]!r}")

    def _figure(self, column: str) -> int:
        number = self._library.number("SOURCE")
        schema = self._library.schema(number)
        assert schema is not None
        return self._library.observe(self._heap, number)[schema.columns.index(column)]

    @property
    def runs(self) -> dict[int, int]:
        """First page -> order, of every run lent."""
        number = self._library.number("PAGES")
        schema, words = self._library.schema(number), self._library.observe(self._heap, number)
        assert schema is not None
        width, first, order = len(schema.columns), schema.columns.index("first"), schema.columns.index("order")
        return dict(zip(words[first::width], words[order::width], strict=True))

    @property
    def owned(self) -> dict[int, int]:
        """Page -> first page of the run that holds it."""
        return {page: first for first, order in self.runs.items() for page in range(first, first + (1 << order))}

    @property
    def held(self) -> int:
        """Pages lent now.  O(runs)."""
        return sum(1 << order for order in self.runs.values())

    @property
    def total(self) -> int:
        """Pages that there are, lent or not; where records of HEAPLAW_SOURCE have no such column, that can be had."""
        schema = self._library.schema(self._library.number("SOURCE"))
        shown = schema is not None and "total" in schema.columns
        return self._figure("total") if shown else self.held + self._figure("free")

    @property
    def taken(self) -> int:
        """Pages lent since the start."""
        return self.given + self.held

    @property
    def given(self) -> int:
        """Pages given back since the start."""
        return self._figure("given")

    @property
    def refused(self) -> int:
        """Requests refused since the start."""
        return self._figure("refused")

    @property
    def injected(self) -> int:
        """How many of these were refused by ``fail_next``."""
        return self._figure("injected")

    @property
    def highest_order(self) -> int:
        """The highest order that was asked for."""
        return self._figure("highest")

    def fail_next(self, order: int, count: int) -> None:
        """Refuse the next ``count`` requests for ``2**order`` pages or more, where the library can."""
        if "FAILS_PAGES" in self._library.has:
            self._library.opened.heaplaw_fail_pages(self._heap, order, count)

    def can_give(self, count: int) -> bool:
        """Would ``count`` single pages be served now?"""
        return self._figure("free") >= count
