"""Groups are told apart, merged for as long as they live, and compared with themselves alone."""

from dataclasses import replace

import pytest
from honest import Paged

from heaplaw import Block, Checker, Kind, Operation, PageSource, run
from heaplaw.groups import Groups
from heaplaw.twins import compare_twins, footprint


def alloc(name, group=0, size=8):
    return Operation(Kind.ALLOC, name, size, 1, group << 1)


def free(name):
    return Operation(Kind.FREE, name)


def link(name, other):
    return Operation(Kind.LINK, name, other)


def entered(*groups):
    """A ``Groups`` with one block for each of these names."""
    known, blocks = Groups(), [Block(name, name, 8, 1, ()) for name in range(len(groups))]
    for block, group in zip(blocks, groups, strict=True):
        block.group = group
        known.enter(block)
    return known, blocks


class TestGroups:
    def test_names(self):
        """Objects of one name are together, all others apart, and no name is a group of its own."""
        _, blocks = entered(1, 2, 1, 0, 0)
        assert len({block.group for block in blocks}) == 4
        assert blocks[0].group == blocks[2].group

    def test_linked_names_stay_merged(self):
        """After a link both names mean the merged group, for objects old and new."""
        known, (one, two, alone) = entered(1, 2, 0)
        known.join(one, two)
        known.join(alone, two)
        later = Block(9, 9, 8, 1, ())
        later.group = 2
        known.enter(later)
        assert one.group == two.group == alone.group == later.group

    def test_names_are_free_again(self):
        """When the last object of a merged group is gone, its names are separate again."""
        known, (one, two) = entered(1, 2)
        known.join(one, two)
        known.leave(one)
        known.leave(two)
        fresh = [Block(name, name, 8, 1, ()) for name in (5, 6)]
        for block, group in zip(fresh, (1, 2), strict=True):
            block.group = group
            known.enter(block)
        assert fresh[0].group != fresh[1].group


class Grouped(Paged):
    """Eight bytes at a time, on pages of their group's own; pages of 64 bytes."""

    contract = replace(
        Paged.contract, max_size=8, contextual=True, groups=2, isolated_groups=True, space_deterministic=True,
        maintenance=(), moving=frozenset(),
    )  # fmt: skip

    def __init__(self):
        self.source = PageSource(16, page_size=64)
        self.slots = {}  # handle -> (page, slot)
        self.lists = {}  # group -> its pages
        self.births = 0

    def alloc(self, size, align=1, *, ctx):
        pages = self.lists.setdefault(self.key(ctx), [])
        taken = set(self.slots.values())
        for page in pages:
            for slot in range(self.room(ctx)):
                if (page, slot) not in taken:
                    return self._put(page, slot)
        page = self.source.take()
        if page is None:
            return None
        pages.append(page)
        return self._put(page, 0)

    def key(self, ctx):
        return ctx.group or -1 - self.births

    def room(self, ctx):
        return 8

    def _put(self, page, slot):
        self.births += 1
        self.slots[self.births] = (page, slot)
        return self.births

    def free(self, handle):
        page, _ = self.slots.pop(handle)
        if page not in {page for page, _ in self.slots.values()}:
            self.source.give(page)
            for pages in self.lists.values():
                if page in pages:
                    pages.remove(page)

    def extents(self, handle):
        page, slot = self.slots[handle]
        return ((0, page * 64 + slot * 8, 8),)


class Shared(Grouped):
    """Puts all named groups on the same pages."""

    def key(self, ctx):
        return ctx.group > 0 or -1 - self.births


class Dilutes(Grouped):
    """Fills pages less the more pages are held, other groups' among them."""

    def room(self, ctx):
        return 8 if self.source.held < 3 else 2


class Joins(Grouped):
    """Merges the groups of two objects for good."""

    def __init__(self):
        super().__init__()
        self.names = {}

    def key(self, ctx):
        return self.names.get(ctx.group, ctx.group) or -1 - self.births

    def link(self, handle, other):
        self.names[2] = 1


class TestLaws:
    def test_isolated(self):
        """Named groups and objects without a group share no page; a target that shares is refuted."""
        operations = [alloc(0, 1), alloc(1, 2), alloc(2), alloc(3), alloc(4, 1)]
        assert run(Grouped, operations) is None
        assert run(Shared, operations).law == "isolated"

    def test_link_allows_sharing(self):
        """Linked groups may share pages; the same sharing without a link is refuted."""
        operations = [alloc(0, 1), alloc(1, 2), link(0, 1), alloc(2, 2)]
        assert run(Joins, operations) is None

        class Silent(Joins):
            link = None

            def key(self, ctx):
                return 1 if self.births > 1 else super().key(ctx)

        assert run(Silent, operations).law == "isolated"

    CROWD = (alloc(0, 2), *[alloc(name, 1) for name in range(1, 20)], free(3), Operation(Kind.DRAIN))

    def test_space_determinism(self):
        """A group whose pages depend on another group's is refuted by comparing it with itself alone."""
        assert run(Grouped, self.CROWD, twins=2) is None
        found = run(Dilutes, self.CROWD, twins=2)
        assert (found.law, found.expected, found.seen) == ("space-determinism", "2 pages, as when alone", "3")

    def test_each_group_counts(self):
        """Each group that did something is compared once."""
        checker = Checker(Grouped())
        compare_twins(checker, Grouped, self.CROWD)
        assert checker.counted["space-determinism"] == 2
        compare_twins(checker, Grouped, [alloc(0, 2)])
        assert checker.counted["space-determinism"] == 3

    def test_footprint(self):
        """The footprint is the number of pages touched after each of the group's own operations."""
        assert footprint(Grouped(), self.CROWD, set(range(1, 20))) == [1] * 8 + [2] * 8 + [3] * 3 + [3, 0]

    @pytest.mark.parametrize("pages", [1, 2])
    def test_refusals_are_not_compared(self, pages):
        """Where a page is refused, the number of pages says nothing about the group."""

        class Small(Dilutes):
            def __init__(self):
                super().__init__()
                self.source = PageSource(pages, page_size=64)

        assert footprint(Small(), self.CROWD, set(range(1, 20))) is None
        assert run(Small, self.CROWD, twins=2) is None
