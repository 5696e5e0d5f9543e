"""Pages taken again by number, as an allocator needs that returns to an earlier state.

>>> from heaplaw import PageSource
>>> source = PageSource(pages=4)
>>> retake(source, 2); source.take(0), source.take(0), source.take(0), source.take(0)
(0, 1, 3, None)
"""

from heaplaw import PageSource


def retake(source: PageSource, page: int) -> None:
    """Take one free page by its number, whatever failures are armed.  O(1)."""
    zone = source.zone_of(page)
    zone.free &= ~(1 << (page - zone.first))
    source.runs[page], source.owned[page] = 0, page
    source.held += 1
