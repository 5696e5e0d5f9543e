"""The page source plays the kernel's: aligned runs, zones, refusals, and a ledger that is the truth."""

import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heaplaw import PageError, PageSource

NUMA = ((0, "dma", 3), (0, "normal", 8), (1, "normal", 8))


class TestRuns:
    def test_lowest_first(self):
        """Single pages come from the lowest free address."""
        source = PageSource(4)
        assert [source.take() for _ in range(5)] == [0, 1, 2, 3, None]
        source.give(2)
        source.give(1)
        assert source.take() == 1

    @pytest.mark.parametrize("order", range(5))
    def test_alignment(self, order):
        """A run of 2**order pages starts at a multiple of its size, past what is in the way."""
        source = PageSource(32)
        assert source.take() == 0
        size = 1 << order
        assert [source.take(order) for _ in range(32 // size - 1)] == [*range(size, 32, size)][: 32 // size - 1]

    def test_alignment_in_a_later_zone(self):
        """Alignment counts from page 0 of the machine, not from the zone's first page."""
        source = PageSource(zones=NUMA)
        assert source.take(1, zone="normal") == 4  # the zone begins at page 3
        assert source.take(2, node=1) == 12  # the zone begins at page 11

    def test_free_but_not_aligned(self):
        """Two free pages across an order-1 boundary are no run of order 1."""
        source = PageSource(4)
        for _ in range(4):
            source.take()
        source.give(1)
        source.give(2)
        assert source.take(1) is None
        source.give(3)
        assert source.take(1) == 2

    def test_too_large(self):
        """A run longer than the source is refused, however large the order."""
        source = PageSource(8)
        assert source.take(4) is None
        assert source.take(63) is None
        assert source.refused == 2
        assert source.take(3) == 0

    def test_merging(self):
        """Single pages given back make a large run again."""
        source = PageSource(16)
        pages = [source.take() for _ in range(16)]
        for page in reversed(pages):
            source.give(page)
        assert source.take(4) == 0


class TestZones:
    def test_numbering(self):
        """Zones stand one after another: pages 0-2, 3-10 and 11-18."""
        source = PageSource(zones=NUMA)
        assert source.total == 19
        assert [(zone.first, zone.count, zone.node, zone.name) for zone in source.zones] == [
            (0, 3, 0, "dma"), (3, 8, 0, "normal"), (11, 8, 1, "normal"),
        ]  # fmt: skip

    def test_choice(self):
        """A request for a node or a zone is served from there or not at all."""
        source = PageSource(zones=NUMA)
        assert source.take(node=1) == 11
        assert source.take(zone="normal") == 3
        assert source.take(node=1, zone="dma") is None
        assert source.take(zone="highmem") is None
        assert [source.take(zone="dma") for _ in range(4)] == [0, 1, 2, None]
        assert source.refused == 3

    def test_fallback(self):
        """Without a wish, the next zone serves when the first is empty."""
        source = PageSource(zones=NUMA)
        assert [source.take() for _ in range(4)] == [0, 1, 2, 3]

    def test_zone_of(self):
        """Each page lies in one zone; a page beyond the last in none."""
        source = PageSource(zones=NUMA)
        assert [source.zone_of(page).first for page in (0, 2, 3, 10, 11, 18)] == [0, 0, 3, 3, 11, 11]
        with pytest.raises(PageError, match=r"^page 19 does not exist$"):
            source.zone_of(19)

    def test_runs_do_not_cross_zones(self):
        """A run lies in one zone even where two zones touch."""
        source = PageSource(zones=((0, "a", 2), (0, "b", 2)))
        assert source.take(2) is None
        assert source.take(1) == 0


class TestLedger:
    def test_what_is_held(self):
        """The ledger knows every run by its first page, and the run of every page."""
        source = PageSource(16)
        source.take(2)
        source.take(0)
        assert source.runs == {0: 2, 4: 0}
        assert source.owned == {0: 0, 1: 0, 2: 0, 3: 0, 4: 4}
        assert (source.held, source.taken, source.highest_order) == (5, 2, 2)
        source.give(0, 2)
        assert (source.runs, source.owned, source.held) == ({4: 0}, {4: 4}, 1)

    def test_highest_order_counts_refused_requests(self):
        """The highest order asked for is remembered even when it was refused."""
        source = PageSource(2)
        source.take(5)
        assert source.highest_order == 5

    @pytest.mark.parametrize(
        ("page", "order", "held"), [(0, 0, 2), (0, 3, 2), (1, 0, None), (1, 2, None), (8, 0, None), (99, 0, None)]
    )
    def test_foreign(self, page, order, held):
        """A run that was not handed out exactly so is not taken back, and nothing changes."""
        source = PageSource(16)
        source.take(2)
        with pytest.raises(PageError, match=re.escape(f"page {page} order {order} given back, held as {held}")):
            source.give(page, order)
        assert (source.held, source.runs) == (4, {0: 2})

    def test_double(self):
        """A run is taken back once."""
        source = PageSource(16)
        source.take(1)
        source.give(0, 1)
        with pytest.raises(PageError, match="held as None"):
            source.give(0, 1)

    def test_memory(self):
        """All pages together are one piece of memory."""
        assert len(PageSource(3, page_size=64).memory) == 192

    @given(st.lists(st.tuples(st.booleans(), st.integers(0, 4), st.integers(0, 30)), max_size=60), st.booleans())
    @settings(max_examples=150, deadline=None, database=None)
    def test_against_a_naive_model(self, steps, zoned):
        """Whatever is taken and given, runs are the lowest aligned free ones and no page is lost or lent twice."""
        source = PageSource(zones=NUMA) if zoned else PageSource(19)
        zones = [range(3), range(3, 11), range(11, 19)] if zoned else [range(19)]
        free, held = set(range(19)), {}
        for giving, order, which in steps:
            size = 1 << order
            if giving and held:
                page = sorted(held)[which % len(held)]
                source.give(page, held[page].bit_length() - 1)
                free |= set(range(page, page + held.pop(page)))
            else:
                fits = [
                    page
                    for zone in zones
                    for page in zone
                    if page % size == 0 and page + size <= zone.stop and free.issuperset(range(page, page + size))
                ]
                page = source.take(order)
                assert page == (fits[0] if fits else None)
                if page is not None:
                    held[page] = size
                    free -= set(range(page, page + size))
            assert source.held == sum(held.values()) == 19 - len(free)
            assert set(source.owned) == set(range(19)) - free
            assert source.runs == {page: size.bit_length() - 1 for page, size in held.items()}
            assert [source.can_give(len(free)), source.can_give(len(free) + 1)] == [True, False]


class TestScatter:
    @pytest.mark.parametrize("count", [16, 60, 64, 255, 256])
    def test_no_neighbours_in_a_row(self, count):
        """While half of the pages are free, a page is never followed by a neighbour of its."""
        source = PageSource(count, scatter=True)
        pages = [source.take() for _ in range(count // 2)]
        assert all(abs(one - two) > 1 for one, two in pairwise(pages))

    @pytest.mark.parametrize("count", [1, 2, 3, 8, 61])
    def test_every_page_is_served(self, count):
        """All pages are served, each once, before one is refused."""
        source = PageSource(count, scatter=True)
        assert sorted(source.take() for _ in range(count)) == list(range(count))
        assert source.take() is None

    @given(st.permutations(range(12)), st.integers(0, 12))
    @settings(max_examples=50, deadline=None, database=None)
    def test_history_does_not_matter(self, order, held):
        """The same pages free give the same answer, in whatever order the others went."""
        one, two = PageSource(12, scatter=True), PageSource(12, scatter=True)
        for page in order[:held]:
            one.retake(page)
        for _ in range(12):
            two.take()
        for page in order[held:]:
            two.give(page)
        assert one.take() == two.take()

    @given(st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.integers(0, 30)), max_size=60))
    @settings(max_examples=100, deadline=None, database=None)
    def test_runs_are_aligned_and_free(self, steps):
        """In each of several zones a run is aligned and was free, and is refused only if there is none."""
        source = PageSource(zones=NUMA, scatter=True)
        for giving, order, which in steps:
            if giving and source.runs:
                page = sorted(source.runs)[which % len(source.runs)]
                source.give(page, source.runs[page])
                continue
            owned, fitting = set(source.owned), source.fits(order)
            page = source.take(order)
            assert (page is not None) == fitting
            if page is not None:
                assert page % (1 << order) == 0
                assert owned.isdisjoint(range(page, page + (1 << order)))
                assert source.zone_of(page) is source.zone_of(page + (1 << order) - 1)


class TestFaults:
    def test_orders(self):
        """An armed failure refuses requests of its order or more, and lets smaller ones pass."""
        source = PageSource(64)
        source.fail_next(order=2, count=2)
        assert source.take(0) == 0
        assert source.take(1) == 2
        assert source.take(2) is None
        assert source.take(0) == 1
        assert source.take(3) is None
        assert source.take(3) == 8
        assert (source.injected, source.refused) == (2, 2)

    def test_replaced(self):
        """Arming again replaces what was armed; a count of zero disarms."""
        source = PageSource(8)
        source.fail_next(0, 5)
        source.fail_next(0, 1)
        assert [source.take(), source.take()] == [None, 0]
        source.fail_next(0, 9)
        source.fail_next(0, 0)
        assert source.take() == 1
        assert source.injected == 1

    def test_an_injected_refusal_takes_nothing(self):
        """A refused request leaves the ledger as it was."""
        source = PageSource(8)
        source.fail_next(0, 1)
        source.take()
        assert (source.held, source.taken, source.owned) == (0, 0, {})

    def test_can_give(self):
        """Single pages cannot be had while order-0 failures are armed; failures of higher orders do not matter."""
        source = PageSource(4)
        assert source.can_give(4)
        assert not source.can_give(5)
        source.fail_next(0, 1)
        assert not source.can_give(1)
        source.fail_next(1, 1)
        assert source.can_give(4)


@pytest.mark.parametrize("size", [0, -4096, 3, 4097])
def test_page_size(size):
    """A page is a power of two of bytes."""
    with pytest.raises(ValueError, match=f"^page size {size} is not a power of two$"):
        PageSource(1, page_size=size)


def test_empty_zone():
    """A zone has at least one page."""
    with pytest.raises(ValueError, match=r"^zone normal needs at least one page, not 0$"):
        PageSource(0)


class TestAgain:
    def test_retake(self):
        """A run taken again by its number is held as it was, whatever failures are armed."""
        source = PageSource(8)
        source.fail_next(0, 9)
        source.retake(4, 2)
        assert (source.runs, source.held, source.fits(3), source.fits(2)) == ({4: 2}, 4, False, True)
        source.give(4, 2)
        assert source.fits(3)

    def test_retake_held(self):
        """What is held, even in part, is not taken again."""
        source = PageSource(8)
        source.retake(5)
        with pytest.raises(PageError, match="page 4 order 2 taken again, but not all of it is free"):
            source.retake(4, 2)
        assert source.held == 1

    def test_split(self):
        """A split run is given back page by page, and not as a run any more."""
        source = PageSource(8)
        source.take(2)
        source.split(0, 2)
        with pytest.raises(PageError):
            source.give(0, 2)
        for page in (3, 0, 2, 1):
            source.give(page)
        assert (source.held, source.owned) == (0, {})

    @pytest.mark.parametrize(("page", "order"), [(0, 1), (1, 0), (4, 0)])
    def test_split_otherwise(self, page, order):
        """Only a run that was handed out so can be split."""
        source = PageSource(8)
        source.take(2)
        with pytest.raises(PageError):
            source.split(page, order)

    def test_fits(self):
        """A run fits where an aligned one is free in some zone, not where as many pages are."""
        source = PageSource(zones=[(0, "dma", 2), (0, "normal", 6)])
        source.retake(1)
        source.retake(5)
        assert [source.fits(order) for order in range(4)] == [True, True, False, False]
