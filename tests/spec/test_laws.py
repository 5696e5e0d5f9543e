"""Every law rejects a state that every other law accepts."""

from dataclasses import replace

import pytest
from honest import ARENA, Box, Filled, Fit, Paged, Shown

from heaplaw import (
    AllocationBits,
    Direction,
    Extent,
    FreeRegion,
    Hint,
    Kind,
    ListBit,
    Listed,
    Maintained,
    Operation,
    Quantity,
)
from heaplaw.checker import Checker
from heaplaw.lawbook import LAWS, Broken
from heaplaw.runs import run
from heaplaw.trace import Trace


def promising(base, **promises):
    """A class like ``base`` whose contract promises more."""
    return type(base.__name__, (base,), {"contract": replace(base.contract, **promises)})


class Crashes(Box):
    def alloc(self, size, align=1, *, ctx=None):
        raise ZeroDivisionError


class Overlaps(Box):
    def alloc(self, size, align=1, *, ctx=None):
        return 4 * len(self.sizes) if super().alloc(size) is not None else None


class Overruns(Box):
    def alloc(self, size, align=1, *, ctx=None):
        return ARENA - 4


class Misaligns(promising(Box, max_align=64)):
    def alloc(self, size, align=1, *, ctx=None):
        return super().alloc(size)


class TooShort(Shown):
    def extents(self, handle):
        return ((0, handle, self.sizes[handle] - 1),)


class Forgets(Filled):
    def write(self, handle, at, data):
        super().write(handle, at, bytes(len(data)))


class Dirty(promising(Box, zeroed=True)):
    def read(self, handle, at, length):
        return bytes([0] * (length - 1) + [7])


class LateCopy(Filled):
    """After a resize the old bytes come only with the next write."""

    late = False

    def realloc(self, handle, size):
        self.late = True
        return super().realloc(handle, size)

    def write(self, handle, at, data):
        self.late = False
        super().write(handle, at, data)

    def read(self, handle, at, length):
        return bytes(length) if self.late else super().read(handle, at, length)


class LateKeep(LateCopy):
    """Refuses to resize, and loses the old contents until something else is asked for."""

    def alloc(self, size, align=1, *, ctx=None):
        self.late = False
        return super().alloc(size)

    def realloc(self, handle, size):
        self.late = True


class Leaks(Shown):
    """Each refused call loses some free space for good."""

    contract = replace(Box.contract, arena=0)
    lost = 0

    def alloc(self, size, align=1, *, ctx=None):
        answer = super().alloc(size)
        self.lost += answer is None
        return answer

    def free_regions(self):
        return [FreeRegion(0, self.top, ARENA - self.top - self.lost)]


class AcceptsDouble(promising(Box, detects=frozenset({"double"}))):
    def free(self, handle):
        self.sizes.pop(handle, None)


class AcceptsHuge(promising(Box, rejects=frozenset({"huge"}))):
    def alloc(self, size, align=1, *, ctx=None):
        return super().alloc(min(size, 8))


class ForgottenPage(Paged):
    def pages(self):
        return [(page, 1) for page in list(self.homes.values())[1:]]


class BadOverhead(promising(Fit, overhead=lambda shadow, source: len(shadow), arena=ARENA)):
    """The contract's formula says a byte for each object; the allocator uses none."""


class Miscounts(Fit):
    def counters(self):
        return {"live_objects": len(self.sizes) or 1, "unheard_of": 3}


class FatMetadata(promising(Box, metadata_bound=lambda shadow, source: 8 * len(shadow))):
    def metadata(self):
        return 0, 9 * len(self.sizes)


class NeverCoalesces(promising(Box, drained_size=ARENA)):
    """Bumps for ever: nothing that was freed is found again."""


class KeepsPages(Paged):
    def free(self, handle):
        del self.homes[handle]


class Liar(Box):
    def alloc(self, size, align=1, *, ctx=None):
        return None if size == 7 else super().alloc(size)


class LosesRemainder(Fit):
    def free_regions(self):
        return [region for region in super().free_regions() if region.length > 8]


class KeepsApart(promising(Fit, mergeable=lambda one, two: True)):
    def free_regions(self):
        for region in super().free_regions():
            yield FreeRegion(0, region.start, 4)
            yield FreeRegion(0, region.start + 4, region.length - 4)


def by_size(region):
    return region.length.bit_length()


class Sorted(promising(Fit, list_of=by_size)):
    """Fit, its free regions on lists by size."""

    def free_regions(self):
        for region in super().free_regions():
            yield region._replace(list_id=by_size(region))

    def lists(self):
        return [Listed(region.list_id, region[:2]) for region in self.free_regions()]


class ListsLess(Sorted):
    def lists(self):
        return super().lists()[1:]


class ListsTwice(Sorted):
    def lists(self):
        return super().lists() * 2


class ListsWrong(Sorted):
    def lists(self):
        return [entry._replace(list_id=99) for entry in super().lists()]


class MisfiledContainer(promising(Paged, container_list=lambda shadow: lambda page: len(shadow))):
    def lists(self):
        return [Listed(1, page) for page in self.homes.values()]


class WrongBit(Fit):
    def bitmap(self):
        return [AllocationBits(0, 0, 4, ARENA // 4, 0b1010)]


class WrongListBit(Sorted):
    def list_bits(self):
        return [ListBit("list 3", (3,), True)]


WHOLE = Extent(0, 0, ARENA)


def hinting(value, direction, quantity=Quantity.LONGEST_FREE, witness=None, **promises):
    """A class that shows one hint about its arena."""

    class Hinting(promising(Fit, **promises)):
        def hints(self):
            return [Hint("longest", value, WHOLE, direction, quantity, witness)]

    return Hinting


class CloseSearch(Box):
    def cost(self):
        return {"found": 8}


class LongSearch(promising(Box, cost_bounds={"probes": lambda request, shadow: 1})):
    def cost(self):
        return {"probes": len(self.sizes)}


class Trims(promising(Box, free_then_alloc=True)):
    """Refuses what it has just taken back."""

    def alloc(self, size, align=1, *, ctx=None):
        return None if self.top and not self.sizes else super().alloc(size)


class Wastes(promising(Shown, waste=lambda size, align: 3)):
    def alloc(self, size, align=1, *, ctx=None):
        return super().alloc(size + 4)


class HighOrder(Paged):
    def alloc(self, size, align=1, *, ctx=None):
        self.source.take(2)
        return super().alloc(size)


class OneHandle(Paged):
    """Gives every object the same handle."""

    def alloc(self, size, align=1, *, ctx=None):
        page = self.source.take()
        self.homes[page] = page
        return 1

    def extents(self, handle):
        return ((0, max(self.homes) * 64, 64),)

    def free(self, handle):
        self.source.give(self.homes.popitem()[0])


class Drifts(Shown):
    """Moves its objects when nobody asked for it."""

    def extents(self, handle):
        return ((0, handle + (len(self.sizes) > 1), self.sizes[handle]),)


class Grows(Paged):
    def maintain(self, kind):
        self.source.take()
        return Maintained()


class StopsShort(promising(Paged, compacted_pages=lambda shadow: len(shadow) - 1)):
    """Compaction that does not reach the promised number of pages."""


class InTwoGoes(Paged):
    """Holds two spare pages and gives one back each time it is compacted."""

    def __init__(self):
        super().__init__()
        self.spare = [self.source.take(), self.source.take()]

    def maintain(self, kind):
        self.source.give(self.spare.pop())
        return Maintained(1)

    contract = replace(Paged.contract, drained_pages=None)


def no_place(request, block):
    return "not the node asked for"


def serves(request, shadow, source):
    return True


a, b = Operation(Kind.ALLOC, 0, 8), Operation(Kind.ALLOC, 1, 8)
full = Operation(Kind.ALLOC, 2, ARENA)
free_a = Operation(Kind.FREE, 0)
compact = Operation(Kind.MAINTAIN, mode="compact")
drain = Operation(Kind.DRAIN)

CASES = {
    "returns": (Crashes, [a]),
    "disjoint": (Overlaps, [a, b]),
    "in-bounds": (Overruns, [a]),
    "aligned": (Misaligns, [a, Operation(Kind.ALLOC, 1, 8, 64)]),
    "big-enough": (TooShort, [a]),
    "contents": (Forgets, [a]),
    "zeroed": (Dirty, [a]),
    "realloc-prefix": (LateCopy, [a, Operation(Kind.REALLOC, 0, 16)]),
    "realloc-failure": (LateKeep, [a, Operation(Kind.REALLOC, 0, 16), b]),
    "refusal-pure": (Leaks, [a, full, full]),
    "bad-free-rejected": (AcceptsDouble, [a, Operation(Kind.BAD_FREE, 0, mode="double")]),
    "bad-size-rejected": (AcceptsHuge, [Operation(Kind.BAD_ALLOC, 0, 1 << 64, mode="huge")]),
    "conservation": (BadOverhead, [a]),
    "counters": (Miscounts, []),
    "metadata-bound": (FatMetadata, [a]),
    "drain": (NeverCoalesces, [a, drain]),
    "limits-honest": (Liar, [Operation(Kind.ALLOC, 0, 7)]),
    "tiling": (LosesRemainder, [Operation(Kind.ALLOC, 0, ARENA - 4)]),
    "coalesced": (KeepsApart, [a]),
    "free-list": (ListsLess, [a]),
    "bitmap": (WrongBit, [a]),
    "size-class": (ListsWrong, [a]),
    "geometry": (promising(Box, geometry=lambda block: "odd" if block.name else None), [a, b]),
    "hint-sound": (hinting(ARENA, Direction.LOWER), [a]),
    "hint-region": (hinting(0, Direction.LOWER, witness=Extent(0, 4, 8)), [a]),
    "hint-exact": (hinting(ARENA, Direction.EXACT), [a]),
    "hint-slack": (hinting(0, Direction.LOWER, hint_slack={"longest": ARENA - 9}), [a]),
    "hint-order": (hinting(0, Direction.LOWER, hint_relations=lambda values: "zero" if values else None), []),
    "search-fit": (CloseSearch, [Operation(Kind.ALLOC, 0, 9)]),
    "search-bounded": (LongSearch, [a, b]),
    "no-spurious-refusal": (promising(Box, must_serve=serves), [a, full]),
    "must-refuse": (promising(Box, must_refuse=serves), [a]),
    "free-then-alloc": (Trims, [a, free_a, b]),
    "waste-bound": (Wastes, [a]),
    "page-order": (HighOrder, [a]),
    "handle-stable": (OneHandle, [a, b]),
    "compaction-progress": (Grows, [a, compact]),
    "compaction-idempotent": (InTwoGoes, [a, compact, compact]),
    "placement": (promising(Box, placement=no_place), [a]),
    "reserve": (promising(Box, reserve=lambda request, shadow: ARENA), [a, full]),
    "isolated": (
        promising(Shown, isolated_groups=True, groups=2, contextual=True),
        [a, Operation(Kind.ALLOC, 1, 8, 1, 4)],
    ),
}
MORE = [  # further states, for laws that look at more than one thing
    ("bitmap", WrongListBit, [a]),
    ("free-list", ListsTwice, [a]),
    ("size-class", MisfiledContainer, [a, b]),
    ("handle-stable", Drifts, [a, b]),
    ("hint-sound", hinting(4, Direction.UPPER), [a]),
    ("hint-sound", hinting(ARENA - 7, Direction.LOWER, Quantity.FREE), [a]),
    ("hint-sound", hinting(9, Direction.LOWER, Quantity.FIRST_FREE), [a]),
    ("hint-exact", hinting(8, Direction.EXACT, Quantity.FREE_AT_START), [a]),
    ("hint-exact", hinting(8, Direction.EXACT, Quantity.FREE_AT_END), [a]),
    ("compaction-progress", StopsShort, [a, compact]),
    ("conservation", ForgottenPage, [a]),
    ("drain", KeepsPages, [a, drain]),
    ("no-spurious-refusal", type("Refuses", (Box,), {
        "contract": replace(Box.contract, must_serve=serves, min_size=ARENA), "alloc": lambda self, size: None,
    }), [a]),
]  # fmt: skip


class Tiles(Paged):
    """Halves of pages, with two bytes before, between and behind them, and all of it shown."""

    contract = replace(Paged.contract, max_size=29, tiled=True, prologue=2, header=2, epilogue=2)

    def alloc(self, size, align=1, *, ctx=None):
        return super().alloc(size) if size <= 29 else None

    def extents(self, handle):
        return (Extent(0, self.homes[handle] * 64 + 2, 29),)

    def free_regions(self):
        return [FreeRegion(0, page * 64 + 33, 29) for page in self.homes.values()]


class LosesEnd(Tiles):
    def free_regions(self):
        return [region._replace(length=28) for region in super().free_regions()]


class LosesHalf(Tiles):
    def free_regions(self):
        return []


class Strays(Tiles):
    def free_regions(self):
        return [*super().free_regions(), FreeRegion(0, 900, 4)]


MORE += [("tiling", LosesEnd, [a]), ("tiling", LosesHalf, [a]), ("tiling", Strays, [a])]


TWINS = {
    "deterministic": (Box, ([0, 8], [0, 16])),
    "space-determinism": (promising(Box, space_deterministic=True), (3, 4)),
    "same-verdict": (Box, ([0, None], [8, None])),
}


def test_every_law_is_here():
    """No law is without a state that it rejects."""
    assert set(CASES) | set(TWINS) == set(LAWS)


ALL = [(law, *case) for law, case in CASES.items()] + MORE


@pytest.mark.parametrize(("law", "target", "operations"), ALL, ids=[f"{c[0]}-{c[1].__name__}" for c in ALL])
class TestRejection:
    def test_it_rejects(self, law, target, operations):
        """The law rejects the corrupted state."""
        found = run(target, operations)
        assert found is not None
        assert found.law == law
        assert found.expected
        assert found.seen

    def test_it_alone(self, law, target, operations):
        """No other law rejects that state."""
        pace = 9 if law == "realloc-failure" else 1  # an audit in between would see what it sees
        assert run(target, operations, mute={law}, audit_every=pace) is None

    def test_the_counterexample_survives_the_file(self, law, target, operations):
        """The violation's trace, written and read, breaks the same law."""
        found = run(target, operations)
        again = Trace.parse(str(found.trace))
        assert run(target, again.operations).law == law


@pytest.mark.parametrize("law", TWINS)
def test_twin_laws(law):
    """A law about two runs rejects a pair that differs, and accepts one that does not."""
    target, pair = TWINS[law]
    checker = Checker(target())
    assert LAWS[law] in checker.laws or LAWS[law].needs == ("rival",)
    checker.twins = pair
    with pytest.raises(Broken) as caught:
        LAWS[law].check(checker)
    assert caught.value.law == law
    checker.twins = (pair[0], pair[0])
    LAWS[law].check(checker)


@pytest.mark.parametrize("target", [Box, Shown, Filled, Fit, Sorted, Paged, Tiles])
def test_honest_targets_pass(target):
    """No law rejects an honest allocator, whatever it shows."""
    operations = [a, b, Operation(Kind.ALLOC, 2, 30), free_a, Operation(Kind.ALLOC, 3, 8)]
    operations += [Operation(Kind.REALLOC, 1, 4), Operation(Kind.WRITE, 3), Operation(Kind.READ, 3)]
    operations += [full, full, compact, compact, drain]
    assert run(target, [*operations, Operation(Kind.DESTROY)]) is None


class GivesBack(Paged):
    """Keeps one free page to hand, shows it, and gives it back when it must refuse."""

    def __init__(self):
        super().__init__()
        self.spare = [self.source.take()]

    def alloc(self, size, align=1, *, ctx=None):
        if size > 64 and self.spare:
            self.source.give(self.spare.pop())
        return super().alloc(size)

    def free_regions(self):
        return [FreeRegion(0, page * 64, 64) for page in self.spare]


def test_a_page_given_back_is_not_lost():
    """A refusal that returns a cached page to its source has shrunk nothing."""
    checker = Checker(GivesBack(), audit_every=1)
    for op in [a, full, full]:
        checker.step(op)
    assert checker.counted["refusal-pure"] == 2


def test_a_twin_that_breaks_down_differs():
    """Answers that stop early are not the same answers."""
    checker = Checker(Box())
    checker.twins = ([0, 8], [0])
    with pytest.raises(Broken, match="a crash"):
        LAWS["deterministic"].check(checker)


def test_every_law_says_where_it_comes_from():
    """Each law has a sentence and a source."""
    for law in LAWS.values():
        assert law.sentence.endswith(".")
        assert len(law.source) > 10
