"""Runs of pages: whether one could be had, and one that is given back in parts.

>>> source = PageSource(pages=8)
>>> source.take(2), has_run(source, 2), has_run(source, 3)
(0, True, False)
>>> split(source, 0, 2); source.give(3); sorted(source.runs.items())
[(0, 0), (1, 0), (2, 0)]
"""

from heaplaw.pages import PageSource


def has_run(source: PageSource, order: int) -> bool:
    """Is an aligned run of ``2**order`` pages free, whatever failures are armed?  O(order * pages/64)."""
    size = 1 << order
    for zone in source.zones:
        runs = zone.free
        for step in range(order):  # keep the starts of ever longer free runs
            runs &= runs >> (1 << step)
        while runs:
            start = (runs & -runs).bit_length() - 1
            aligned = start + (-(zone.first + start) % size)
            if runs >> aligned & 1:
                return True
            runs = runs >> (aligned + 1) << (aligned + 1)
    return False


def split(source: PageSource, page: int, order: int) -> None:
    """Make a run that is held into single pages, each to be given back on its own.  O(pages).

    A buddy allocator does not mind: it is told the order with every free.
    """
    del source.runs[page]
    pages = range(page, page + (1 << order))
    source.runs.update(dict.fromkeys(pages, 0))
    source.owned.update(zip(pages, pages, strict=True))
