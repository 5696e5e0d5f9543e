"""The simulated page source that every page-taking allocator draws from.

It plays the kernel's page allocator: runs of ``2**order`` pages, aligned to their
size, from zones of nodes, with order-aware fault injection.  Lowest free address
first; or *scattered*, as a machine that has run for a while gives them, so that
pages taken one after the other are no neighbours.  Its ledger is the truth about
pages; a page given back twice or never taken is an error here, and so becomes a
violation of ``conservation``.

>>> source = PageSource(pages=8)
>>> source.take(1), source.take(0), source.held
(0, 2, 3)
>>> source.give(0, 1); source.held
1
>>> scattered = PageSource(pages=8, scatter=True)
>>> [scattered.take() for _ in range(8)]
[0, 4, 1, 6, 3, 2, 5, 7]
"""

from collections.abc import Sequence

_GOLDEN = 0x9E3779B97F4A7C15  # 2**64 over the golden ratio: its multiples spread evenly, neighbours far apart


class PageError(Exception):
    """A page run was given back that was not taken like this."""


class Zone:
    """Pages ``[first, first + count)`` of one node."""

    __slots__ = ("count", "first", "free", "name", "node", "scatter")

    def __init__(self, first: int, count: int, node: int, name: str, scatter: bool = False) -> None:
        self.first, self.count, self.node, self.name, self.scatter = first, count, node, name, scatter
        self.free = (1 << count) - 1  # bit i: page first+i is free

    def find(self, order: int) -> int | None:
        """Index of the next free aligned run in the zone, or None.  O(order * count/64).

        The lowest one; of a scattered zone the lowest from a place on that the number of free pages
        decides, so that the same pages free give the same answer, whatever happened before.
        """
        runs = self.free
        for step in range(order):  # keep the starts of ever longer free runs
            runs &= runs >> (1 << step)
        if self.scatter:
            lent = self.count - self.free.bit_count()
            place = (lent * _GOLDEN & (1 << 64) - 1) * self.count >> 64
            found = self._lowest(runs >> place << place, 1 << order)
            if found is not None:
                return found
        return self._lowest(runs, 1 << order)

    def _lowest(self, runs: int, size: int) -> int | None:
        """The lowest of these starts that is aligned."""
        while runs:
            start = (runs & -runs).bit_length() - 1
            aligned = start + (-(self.first + start) % size)
            if runs >> aligned & 1:
                return aligned
            runs = runs >> (aligned + 1) << (aligned + 1)
        return None


class PageSource:
    """Hands out page runs and remembers every one of them.

    ``pages``: pages of the only zone; or ``zones``: (node, name, pages) triples.
    ``scatter``: pages far apart first, instead of the lowest.
    ``memory`` holds the contents of all pages, ``page_size`` bytes each.
    Raises ValueError for a page size that is no power of two, and for an empty zone.
    """

    def __init__(
        self,
        pages: int = 1024,
        *,
        page_size: int = 4096,
        zones: Sequence[tuple[int, str, int]] = (),
        scatter: bool = False,
    ) -> None:
        if page_size < 1 or page_size & (page_size - 1):
            raise ValueError(f"page size {page_size} is not a power of two")
        self.page_size = page_size
        self.zones: list[Zone] = []
        first = 0
        for node, name, count in zones or [(0, "normal", pages)]:
            if count < 1:
                raise ValueError(f"zone {name} needs at least one page, not {count}")
            self.zones.append(Zone(first, count, node, name, scatter))
            first += count
        self.total = first
        self.memory = bytearray(first * page_size)
        self.runs: dict[int, int] = {}  # first page -> order, of every run held
        self.owned: dict[int, int] = {}  # page -> first page of the run that holds it
        self.held = 0  # pages
        self.given = 0  # pages taken back since the start
        self.taken = 0  # runs handed out since the start
        self.refused = 0  # requests, injected failures among them
        self.injected = 0
        self.highest_order = 0  # highest order ever asked for
        self._failing: tuple[int, int] = (0, 0)  # (order, count) of armed failures

    def take(self, order: int = 0, *, node: int | None = None, zone: str | None = None) -> int | None:
        """First page of a run of ``2**order`` pages, or None when refused."""
        self.highest_order = max(self.highest_order, order)
        at, left = self._failing
        if left and order >= at:
            self._failing = (at, left - 1)
            self.refused += 1
            self.injected += 1
            return None
        for place in self.zones:
            if (node is None or place.node == node) and (zone is None or place.name == zone):
                found = place.find(order)
                if found is not None:
                    self._lend(place, found, order)
                    self.taken += 1
                    return place.first + found
        self.refused += 1
        return None

    def _lend(self, place: Zone, index: int, order: int) -> None:
        """Enter a free run of a zone as held."""
        place.free &= ~(((1 << (1 << order)) - 1) << index)
        page = place.first + index
        self.runs[page] = order
        self.owned.update(dict.fromkeys(range(page, page + (1 << order)), page))
        self.held += 1 << order

    def retake(self, page: int, order: int = 0) -> None:
        """Take a run by its number, whatever failures are armed, to return to an earlier state.

        Raises PageError unless all of it is free.
        """
        place = self.zone_of(page)
        index = page - place.first
        if ~place.free >> index & ((1 << (1 << order)) - 1):
            raise PageError(f"page {page} order {order} taken again, but not all of it is free")
        self._lend(place, index, order)

    def split(self, page: int, order: int) -> None:
        """Make a run that is held into single pages, each to be given back on its own, as split_page does.

        Raises PageError unless it was handed out exactly so.
        """
        if self.runs.get(page) != order:
            raise PageError(f"page {page} order {order} split, held as {self.runs.get(page)}")
        pages = range(page, page + (1 << order))
        self.runs.update(dict.fromkeys(pages, 0))
        self.owned.update(zip(pages, pages, strict=True))

    def fits(self, order: int) -> bool:
        """Is an aligned run of ``2**order`` pages free, whatever failures are armed?"""
        return any(place.find(order) is not None for place in self.zones)

    def give(self, page: int, order: int = 0) -> None:
        """Take a run back.  Raises PageError unless it was handed out exactly so."""
        if self.runs.get(page) != order:
            raise PageError(f"page {page} order {order} given back, held as {self.runs.get(page)}")
        del self.runs[page]
        for number in range(page, page + (1 << order)):
            del self.owned[number]
        place = self.zone_of(page)
        place.free |= ((1 << (1 << order)) - 1) << (page - place.first)
        self.held -= 1 << order
        self.given += 1 << order

    def zone_of(self, page: int) -> Zone:
        """The zone that a page number lies in.  Raises PageError for none."""
        for place in self.zones:
            if place.first <= page < place.first + place.count:
                return place
        raise PageError(f"page {page} does not exist")

    def fail_next(self, order: int, count: int) -> None:
        """Refuse the next ``count`` requests for ``2**order`` pages or more."""
        self._failing = (order, count)

    def can_give(self, count: int) -> bool:
        """Would ``count`` single pages be served now, one after the other?"""
        at, left = self._failing
        return not (left and at == 0) and sum(z.free.bit_count() for z in self.zones) >= count
