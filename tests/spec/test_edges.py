"""The edges of laws: places where a law that is wrong by one would go unnoticed."""

from dataclasses import replace

import pytest
from honest import ARENA, Box, Fit, Paged, Shown

from heaplaw import Direction, Extent, Hint, Kind, Maintained, Operation, Quantity
from heaplaw.checker import Checker
from heaplaw.lawbook import Broken

A, B = Operation(Kind.ALLOC, 0, 8), Operation(Kind.ALLOC, 1, 8)


def promising(base, **promises):
    """A class like ``base`` whose contract promises more."""
    return type(base.__name__, (base,), {"contract": replace(base.contract, **promises)})


def steps(target, *operations):
    """A checker after these operations and a last audit."""
    checker = Checker(target)
    for operation in operations:
        checker.step(operation)
    checker.finish()
    return checker


class TestPromisesOfNothing:
    def test_no_order_above_a_page(self):
        """A promise of single pages is broken by one request for two."""

        class Pairs(promising(Paged, page_order=0)):
            def alloc(self, size, align=1, *, ctx=None):
                if (page := self.source.take(1)) is not None:
                    self.source.give(page, 1)
                return super().alloc(size)

        with pytest.raises(Broken, match="page-order"):
            steps(Pairs(), A)

    def test_a_cost_that_is_not_told_is_none(self):
        """A figure that is left out counts as 0, also where 0 is all that is allowed."""

        class Silent(promising(Box, cost_bounds={"probes": lambda request, shadow: 0})):
            def cost(self):
                return {}

        assert steps(Silent(), A).counted is not None

    @pytest.mark.parametrize("dirty", [0, 7])
    def test_every_byte_is_zero(self, dirty):
        """The first byte of a small block is looked at as well as its last one."""

        class Dirty(promising(Box, zeroed=True)):
            def read(self, handle, at, length):
                return bytes(1 if at + i == dirty else 0 for i in range(length))

        with pytest.raises(Broken, match="zeroed"):
            steps(Dirty(), A)


class TestWitness:
    def test_a_place_of_no_bytes_is_no_claim(self):
        """A hint may name where it would look, for no bytes, inside a live block."""

        class Names(Shown):
            def hints(self):
                at = Extent(0, 4, 0)
                return [Hint("next", 0, Extent(0, 0, ARENA), Direction.LOWER, Quantity.LONGEST_FREE, at)]

        assert steps(Names(), A, B).counted["hint-region"] == 0


class TestResizing:
    class Refuses(promising(Fit, must_resize=lambda block, size, shadow: size <= block.size)):
        """Resizes nothing."""

        def realloc(self, handle, size):
            return None

    def test_a_resize_that_was_owed(self):
        """A refused resize breaks no-spurious-refusal where the contract says that it must be served."""
        with pytest.raises(Broken, match="no-spurious-refusal"):
            steps(self.Refuses(), A, Operation(Kind.REALLOC, 0, 4))

    def test_a_resize_that_was_not(self):
        """A larger one was not promised: refusing it is asked about, and passes."""
        assert steps(self.Refuses(), A, Operation(Kind.REALLOC, 0, 16)).counted["no-spurious-refusal"] == 1


class TestMapped:
    class Moves(promising(Shown, handles="opaque", maintenance=("compact",), moving=frozenset({"compact"}))):
        """Handles are numbers; compaction moves every object by 16 bytes."""

        def __init__(self):
            super().__init__()
            self.by = 0

        def extents(self, handle):
            return ((0, handle + self.by, 8),)

        def map(self, handle):
            """As it is."""

        def unmap(self, handle):
            """As it is."""

        def maintain(self, kind):
            self.by += 16
            return Maintained(moved=1)

    MAPPED = (A, Operation(Kind.MAP, 0), Operation(Kind.MAINTAIN, mode="compact"))

    def test_a_mapped_object_moves(self):
        """Where mapped objects are promised to stay, one that moves breaks handle-stable."""
        with pytest.raises(Broken, match="handle-stable"):
            steps(promising(self.Moves, pinned=True)(), *self.MAPPED)

    def test_it_may_where_nothing_is_promised(self):
        """Without the promise it may move, and one that is not mapped may in any case."""
        steps(self.Moves(), *self.MAPPED)
        steps(promising(self.Moves, pinned=True)(), A, self.MAPPED[2])


def test_writes_in_pieces():
    """A write comes in two calls, the end first: a target that takes each for the whole is found out."""

    class Replaces(Box):
        def __init__(self):
            super().__init__()
            self.kept = {}

        def write(self, handle, at, data):
            self.kept[handle] = data  # wherever it was to go

        def read(self, handle, at, length):
            return self.kept[handle][at : at + length]

    steps(Replaces(), A)
    with pytest.raises(Broken, match="contents"):
        steps(Replaces(), A, Operation(Kind.WRITE, 0))


class TestWhatIsLeftAlone:
    def test_a_refused_resize_that_moves(self):
        """An object that stands elsewhere after a refused resize breaks `realloc-failure`, whatever it holds."""

        class Shoves(Shown):
            moved = 0

            def realloc(self, handle, size):
                self.moved = 64

            def extents(self, handle):
                return ((0, handle + self.moved, self.sizes[handle]),)

        checker = Checker(Shoves(), audit_every=9, audit_from=9)
        checker.step(A)
        with pytest.raises(Broken, match="realloc-failure"):
            checker.step(Operation(Kind.REALLOC, 0, 16))

    def test_free_blocks_that_do_not_touch(self):
        """Free blocks of one space with a live one between them are no neighbours."""
        merging = promising(Fit, mergeable=lambda one, two: True)
        checker = steps(merging(), A, B, Operation(Kind.FREE, 0))
        assert len(checker.view.in_place) == 2

    @pytest.mark.parametrize("lost", [-1, 1])
    def test_one_byte_too_many(self, lost):
        """Bytes add up exactly: one that is counted twice, or not at all, breaks `conservation`."""
        honest = promising(Fit, overhead=lambda shadow, source: 0)
        assert steps(honest(), A, B).evidence()["conservation"]
        with pytest.raises(Broken, match="conservation"):
            steps(promising(Fit, overhead=lambda shadow, source: lost)(), A, B)
