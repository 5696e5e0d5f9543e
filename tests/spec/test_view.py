"""Every recount comes from the shadow heap, and agrees with counting byte by byte."""

from dataclasses import replace
from functools import partial

import pytest
from honest import ARENA, Box, Fit, Paged
from hypothesis import given, settings
from hypothesis import strategies as st

from heaplaw import (
    Block,
    Checker,
    Contract,
    Direction,
    Extent,
    FreeRegion,
    Hint,
    Listed,
    Operation,
    PageSource,
    Quantity,
    run,
)
from heaplaw.view import View

QUICK = settings(max_examples=100, deadline=None, database=None)


def seeing(target, *blocks):
    """A view of a target with these (space, start, length) live."""
    checker = Checker(target)
    for name, (space, start, length) in enumerate(blocks):
        checker.shadow.add(Block(name, name, length, 1, ((space, start, length),)))
    return View(checker)


def hint(quantity, region=(0, 0, 64), value=0, **more):
    return Hint("guess", value, Extent(*region), Direction.LOWER, quantity, **more)


class Bare(Box):
    contract = Contract(arena=64)


class Counted:
    """Shows whatever it is made of."""

    def __init__(self, contract=Bare.contract, **shown):
        self.contract = contract
        self.source = shown.pop("source", None)
        for name, value in shown.items():
            setattr(self, name, partial(list if type(value) is list else dict, value))

    def alloc(self, size):
        return None

    def free(self, handle):
        pass


live = st.lists(st.tuples(st.integers(0, 63), st.integers(1, 9)), max_size=8)


def settled(pieces):
    """(0, start, length) of those pieces that do not overlap an earlier one, within 64 bytes."""
    taken, kept = set(), []
    for start, length in pieces:
        place = set(range(start, min(start + length, 64)))
        if place and taken.isdisjoint(place):
            taken |= place
            kept.append((0, start, len(place)))
    return kept, taken


class TestTruth:
    @pytest.mark.parametrize(
        ("quantity", "region", "truth"),
        [  # live: [8, 16) and [40, 48)
            (Quantity.FREE, (0, 0, 64), 48),
            (Quantity.FREE, (0, 8, 8), 0),
            (Quantity.FREE, (0, 12, 30), 24),
            (Quantity.LONGEST_FREE, (0, 0, 64), 24),
            (Quantity.LONGEST_FREE, (0, 0, 20), 8),
            (Quantity.LONGEST_FREE, (0, 8, 8), 0),
            (Quantity.FIRST_FREE, (0, 0, 64), 0),
            (Quantity.FIRST_FREE, (0, 8, 56), 8),
            (Quantity.FIRST_FREE, (0, 12, 52), 4),
            (Quantity.FIRST_FREE, (0, 8, 8), -1),
            (Quantity.FREE_AT_START, (0, 0, 64), 8),
            (Quantity.FREE_AT_START, (0, 8, 56), 0),
            (Quantity.FREE_AT_START, (0, 8, 8), 0),
            (Quantity.FREE_AT_END, (0, 0, 64), 16),
            (Quantity.FREE_AT_END, (0, 0, 48), 0),
            (Quantity.FREE_AT_END, (0, 40, 8), 0),
            (Quantity.FREE, (1, 0, 64), 64),
            (Quantity.FREE_AT_START, (1, 0, 64), 64),
        ],
    )
    def test_example(self, quantity, region, truth):
        """Each quantity is counted within the region alone, in bytes."""
        assert seeing(Bare(), (0, 8, 8), (0, 40, 8)).truth(hint(quantity, region)) == truth

    @given(live, st.integers(0, 40), st.integers(0, 24))
    @QUICK
    def test_byte_by_byte(self, pieces, start, length):
        """Every quantity is what counting the free bytes one by one gives."""
        blocks, taken = settled(pieces)
        view = seeing(Bare(), *blocks)
        free = "".join("x" if at in taken else "." for at in range(start, start + length))
        expected = {
            Quantity.FREE: free.count("."),
            Quantity.LONGEST_FREE: max(map(len, free.split("x"))),
            Quantity.FIRST_FREE: free.find("."),
            Quantity.FREE_AT_START: len(free) - len(free.lstrip(".")),
            Quantity.FREE_AT_END: len(free) - len(free.rstrip(".")),
        }
        assert {quantity: view.truth(hint(quantity, (0, start, length))) for quantity in Quantity} == expected


class TestHints:
    def test_judged(self):
        """Hints of the directions asked for stand beside the truth; the place of what does not exist is not judged."""
        shown = [
            hint(Quantity.FREE), hint(Quantity.FREE)._replace(direction=Direction.EXACT),
            hint(Quantity.FIRST_FREE, (0, 8, 8)), hint(Quantity.FREE, (0, 8, 8)),
        ]  # fmt: skip
        view = seeing(Counted(hints=shown), (0, 8, 8))
        assert list(view.judged(Direction.LOWER)) == [(shown[0], 56), (shown[3], 0)]
        assert list(view.judged(Direction.EXACT)) == [(shown[1], 56)]
        assert list(view.judged(Direction.UPPER)) == []

    def test_by_region(self):
        """Values are grouped by region; a witness adds where it starts."""
        shown = [
            hint(Quantity.FREE, value=9)._replace(name="free"), hint(Quantity.FREE, (0, 32, 32), 5),
            hint(Quantity.LONGEST_FREE, value=7, witness=Extent(0, 24, 7)),
        ]  # fmt: skip
        assert seeing(Counted(hints=shown)).hints_by_region() == {
            (0, 0, 64): {"free": 9, "guess": 7, "guess.start": 24}, (0, 32, 32): {"guess": 5},
        }  # fmt: skip


class TestLiveBits:
    @given(live, st.sampled_from([1, 2, 4, 8]), st.integers(0, 16))
    @QUICK
    def test_byte_by_byte(self, pieces, unit, units):
        """Bit i is set exactly when a byte of unit i is live, even where blocks end within a unit."""
        blocks, taken = settled(pieces)
        for start in (0, 3):
            bits = seeing(Bare(), *blocks).live_bits(0, start, unit, units)
            for bit in range(units):
                place = range(start + bit * unit, start + bit * unit + unit)
                assert bits >> bit & 1 == (not taken.isdisjoint(place))
            assert bits >> units == 0

    def test_no_units(self):
        """A bitmap of no units has no bits."""
        assert seeing(Bare(), (0, 0, 8)).live_bits(0, 0, 4, 0) == 0


class TestRecount:
    def test_objects_and_bytes(self):
        """Live objects, used bytes (slack included) and requested bytes come from the shadow heap."""
        checker = Checker(Bare())
        checker.shadow.add(Block(0, 0, 5, 1, ((0, 0, 8),)))
        checker.shadow.add(Block(1, 8, 0, 1, ()))
        view = View(checker)
        names = ("live_objects", "used_bytes", "requested_bytes", "free_bytes", "largest_free")
        assert [view.recount(name) for name in names] == [2, 8, 5, 56, 56]

    def test_mapped_objects(self):
        """Mapped objects are counted, on whichever CPU."""
        checker = Checker(Bare())
        for name, mapped in enumerate((0, 1, 3)):
            checker.shadow.add(Block(name, name, 1, 1, ((0, name, 1),)))
            checker.shadow.live[name].mapped = mapped
        assert View(checker).recount("mapped_objects") == 2

    def test_pages(self):
        """Pages are those that the page source has handed out; without one nothing is known."""
        source = PageSource(8)
        source.take(2)
        assert seeing(Counted(source=source)).recount("pages") == 4
        assert seeing(Bare()).recount("pages") is None

    def test_unknown(self):
        """A counter that nothing independent tells is not judged."""
        assert seeing(Bare()).recount("cache_hits") is None

    def test_gaps(self):
        """In a bare arena, free bytes are the gaps between live blocks, whatever the target shows."""
        view = seeing(Counted(free_regions=[FreeRegion(0, 0, 1)]), (0, 8, 8), (0, 40, 8))
        assert (view.recount("free_bytes"), view.recount("largest_free")) == (48, 24)

    def test_several_spaces(self):
        """Every space that shows a byte counts with its whole arena."""
        view = seeing(Counted(free_regions=[FreeRegion(2, 0, 64)]), (0, 8, 8))
        assert view.spaces == [0, 2]
        assert (view.recount("free_bytes"), view.recount("largest_free")) == (56 + 64, 64)

    @pytest.mark.parametrize("what", ["header", "prologue", "epilogue"])
    def test_headers(self, what):
        """Where headers stand between blocks, the shown free regions are added up."""
        contract = replace(Bare.contract, **{what: 8})
        view = seeing(Counted(contract, free_regions=[FreeRegion(0, 0, 24), FreeRegion(0, 32, 16)]))
        assert (view.recount("free_bytes"), view.recount("largest_free")) == (40, 24)
        assert seeing(Counted(contract)).recount("free_bytes") is None

    def test_pending(self):
        """Where freed bytes may wait, the gaps are not all free: the shown free regions are added up there too."""
        contract = replace(Bare.contract, pending=lambda shadow: 8)
        view = seeing(Counted(contract, free_regions=[FreeRegion(0, 16, 48)]), (0, 0, 8))
        assert (view.recount("free_bytes"), view.recount("largest_free")) == (48, 48)
        assert seeing(Counted(contract)).recount("free_bytes") is None

    def test_no_free_region(self):
        """With no free region there are no free bytes, and the largest is zero."""
        view = seeing(Counted(replace(Bare.contract, header=8), free_regions=[]))
        assert (view.recount("free_bytes"), view.recount("largest_free")) == (0, 0)


class TestSpaces:
    def test_black_box(self):
        """A target that shows no free space has space 0, and those in which it has live blocks."""
        assert seeing(Bare()).spaces == [0]
        assert seeing(Bare(), (3, 0, 8)).spaces == [0, 3]

    def test_shown(self):
        """A target that shows its free space has the spaces that show a byte, free or live."""
        shown = Counted(replace(Bare.contract, handles="opaque"), free_regions=[FreeRegion(5, 0, 8)])
        assert seeing(shown).spaces == [5]
        assert seeing(shown, (2, 0, 8)).spaces == [2, 5]

    def test_addresses_are_of_space_0(self):
        """Where handles are addresses, space 0 is there even when nothing is shown of it: all of it may be lost."""
        assert seeing(Counted(free_regions=[])).spaces == [0]


class TestLayout:
    def test_order(self):
        """Live and free blocks of one space stand by address."""
        shown = Counted(free_regions=[FreeRegion(0, 40, 24), FreeRegion(0, 8, 8), FreeRegion(1, 0, 64)])
        assert list(seeing(shown, (0, 16, 24), (0, 0, 8)).layout(0)) == [
            (0, 8, "a live block"), (8, 16, "a free block"), (16, 40, "a live block"), (40, 64, "a free block"),
        ]  # fmt: skip

    def test_same_place(self):
        """A free block over a live one is shown, not an error."""
        assert len(list(seeing(Counted(free_regions=[FreeRegion(0, 0, 8)]), (0, 0, 8)).layout(0))) == 2


class TestFreeTotal:
    def test_regions(self):
        """Free bytes are those of the shown regions."""
        assert seeing(Counted(free_regions=[FreeRegion(0, 0, 8), FreeRegion(1, 0, 9)], counters={})).free_total() == 17

    def test_counters(self):
        """Without regions, the free_bytes counter tells; without that, nothing does."""
        assert seeing(Counted(counters={"free_bytes": 12})).free_total() == 12
        assert seeing(Counted(counters={"used_bytes": 12})).free_total() == 0
        assert seeing(Bare()).free_total() == 0


class TestWalked:
    def test_what_was_looked_at(self):
        """An audit's size is the live blocks and whatever regions, list entries and hints it has read."""
        shown = Counted(
            free_regions=[FreeRegion(0, 0, 8)] * 2, lists=[Listed(0, (0, 0))] * 3, hints=[hint(Quantity.FREE)] * 5
        )
        view = seeing(shown, (0, 8, 8))
        assert view.walked() == 1
        assert (len(view.regions), view.walked()) == (2, 3)
        assert (len(view.lists), view.walked()) == (3, 6)
        assert (len(view.hints), view.walked()) == (5, 11)

    def test_read_once(self):
        """One view reads each observation once."""
        calls = []

        class Watched(Bare):
            def free_regions(self):
                calls.append(1)
                return []

        view = seeing(Watched())
        assert (view.regions, view.regions, view.free_total(), len(calls)) == ([], [], 0, 1)


class TestInLaws:
    """The recounts, as the laws use them."""

    def test_plain_tuples(self):
        """Regions and list entries may be plain tuples."""

        class Plain(Fit):
            contract = replace(Fit.contract, list_of=lambda region: None)

            def free_regions(self):
                return [tuple(region) for region in super().free_regions()]

            def lists(self):
                return []

            def alloc(self, size, align=1, *, ctx=None):
                at = max([start + n for start, n in self.sizes.items()], default=0)
                if not size or at + size > ARENA:
                    return None
                self.sizes[at] = size
                return at

        assert run(Plain, [Operation(1, 0, 8), Operation(1, 1, 9), Operation(2, 0)]) is None

    @pytest.mark.parametrize(("name", "off"), [("used_bytes", 1), ("pages", -1), ("largest_free", 1)])
    def test_counters(self, name, off):
        """A counter that is off by one is refuted, one that is right is not."""

        class Counting(Paged if name == "pages" else Fit):
            wrong = 0

            def counters(self):
                if name == "pages":
                    return {name: self.source.held + self.wrong}
                free = [region.length for region in self.free_regions()]
                return {name: (sum(self.sizes.values()) if name == "used_bytes" else max(free)) + self.wrong}

        operations = [Operation(1, 0, 8), Operation(1, 1, 8), Operation(2, 0)]
        assert run(Counting, operations) is None
        Counting.wrong = off
        assert run(Counting, operations).law == "counters"
