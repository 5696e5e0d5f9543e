"""Shorter traces that no deletion leads to, and smaller arenas."""

from planted import Good

from heaplaw import Kind, Operation, run
from heaplaw.impls.registry import factory
from heaplaw.lawbook import LAWS
from heaplaw.properties.exhaustive import explore
from heaplaw.properties.minimize import minimize
from heaplaw.properties.nearest import nearest, own_letters, searchable
from heaplaw.properties.shorter import shortcuts, shorter
from heaplaw.properties.smaller_arena import in_smaller_arena, scaled


def alloc(name, size, align=1):
    return Operation(Kind.ALLOC, name, size, align)


def free(name):
    return Operation(Kind.FREE, name)


LONG = [alloc(0, 8), alloc(1, 24), free(1), alloc(2, 16), free(0), free(2)]


class TestShorter:
    def test_another_structure(self):
        """A trace that is no part of the long one is found, the shortest of them."""
        twice = lambda ops: [op.size for op in ops if op.kind == Kind.ALLOC] == [16, 16] and ops[-1] == free(0)  # noqa: E731
        assert shorter(LONG, twice, 1000) == [alloc(0, 16), alloc(1, 16), free(0)]

    def test_only_shorter(self):
        """What is as long as the trace itself is not looked at, nor is what does not end like it."""
        seen = []
        assert shorter(LONG, seen.append, 100_000) is None
        assert max(map(len, seen)) == len(LONG) - 1
        assert {ops[-1].kind for ops in seen} == {Kind.FREE}

    def test_names_are_live(self):
        """Every free names an object that is live, and no trace comes twice from one set of letters."""
        seen = []
        shorter(LONG[:3], seen.append, 10_000)
        for ops in seen:
            live = set()
            for op in ops:
                if op.kind == Kind.ALLOC:
                    live.add(op.name)
                else:
                    live.remove(op.name)

    def test_bounded(self):
        """No more traces are tried than allowed, whatever the letters."""
        seen = []
        letters = [alloc(n, 8 * n) for n in range(1, 20)] + [free(1)]
        shorter(letters, seen.append, 500)
        assert 0 < len(seen) <= 500

    def test_one_operation(self):
        """There is nothing shorter than one operation."""
        assert shorter([alloc(0, 8)], lambda ops: True, 10) is None

    def test_minimize_looks(self):
        """The minimiser takes what is found here, and minimises it again."""
        sizes = lambda ops: [op.size for op in ops if op.kind == Kind.ALLOC]  # noqa: E731
        pair = lambda ops: len(ops) == 3 and len(sizes(ops)) == 2 and len(set(sizes(ops))) == 1 and ops[0].size >= 9  # noqa: E731
        twice = lambda ops: ops == LONG or pair(ops)  # noqa: E731
        best = minimize(LONG, twice)
        assert (sizes(best), best[-1].kind) == ([9, 9], Kind.FREE)


class TestSmallerArena:
    NAME = "xcfmalloc@2011-09-v1,pages=16,reserve=1"

    def test_fewer_pages_fewer_operations(self):
        """What takes seventeen requests to fill sixteen pages takes three on two."""
        found = run(factory(self.NAME), [alloc(birth, 2100) for birth in range(17)])
        assert found.law == "no-spurious-refusal"
        name, best = in_smaller_arena(self.NAME, found)
        assert (name, best.law, len(best.trace.operations)) == (
            "xcfmalloc@2011-09-v1,pages=2,reserve=1", "no-spurious-refusal", 3,
        )  # fmt: skip

    def test_few_large_objects_for_many_small_ones(self):
        """What 74 objects fill three fill as well, each half a page: nothing has to be dropped one by one."""
        name = "zsmalloc+ZS05,pages=64,chain=4"
        compact = Operation(Kind.MAINTAIN, mode="compact")
        found = run(factory(name), [*(alloc(birth, 215) for birth in range(74)), free(30), compact])
        assert found.law == "compaction-progress"
        _, best = in_smaller_arena(name, found)
        assert [op.kind for op in best.trace.operations] == [Kind.ALLOC] * 3 + [Kind.FREE, Kind.MAINTAIN]

    def test_nothing_to_lower(self):
        """A target without a size of its own is left as it is."""
        name, trace = "tlsf@conte-3.1", [Operation(Kind.BAD_ALLOC, 0, (1 << 64) - 7, 1, "huge")]
        found = run(factory(name), trace)
        assert found.law == "bad-size-rejected"
        assert in_smaller_arena(name, found) == (name, found)

    def test_scaled(self):
        """Sizes are divided and rounded up; all else stays."""
        assert scaled([alloc(0, 9, 8), free(0), alloc(1, 1)], 2) == [alloc(0, 3, 8), free(0), alloc(1, 1)]


class TestShortcuts:
    def test_one_for_many(self):
        """Two to four operations become one of the trace's letters, the last operation stays."""
        seen = list(shortcuts(LONG))
        assert {len(ops) for ops in seen} == {len(LONG) - less for less in (1, 2, 3)}
        assert all(ops[-1] == LONG[-1] for ops in seen)

    def test_heirs(self):
        """A request that takes the place of others may stand for one that is named later on."""
        assert [alloc(2, 24), free(0), free(2)] in shortcuts(LONG)


class TestNearest:
    NAME = "percpu-bitmap@4.14,unit=96,block=32,chunks=1"
    LONG = (alloc(0, 1), alloc(1, 1), alloc(2, 5), free(1), free(0), free(2), alloc(3, 5), alloc(4, 1))

    def test_shortest(self):
        """What is found is as short as the exhaustive engine says, and breaks the law on a fresh target."""
        best = nearest(factory(self.NAME), own_letters(self.LONG), "hint-sound", below=len(self.LONG))
        found = explore(self.NAME, only=["hint-sound"], sizes=(1, 5), depth=8).finding
        assert len(best) == len(found.trace.operations) == 4
        assert run(factory(self.NAME), best, mute=LAWS.keys() - {"hint-sound"}).law == "hint-sound"

    def test_bounded(self):
        """Nothing longer than asked for, nothing that the predicate does not take, nothing beyond the budget."""
        build, letters = factory(self.NAME), own_letters(self.LONG)
        asked = []
        assert nearest(build, letters, "hint-sound", below=4) is None
        assert nearest(build, letters, "hint-sound", below=6, fails=asked.append) is None
        assert asked
        assert nearest(build, letters, "hint-sound", below=8, most=5) is None

    def test_what_cannot_be_kept(self):
        """A target that can be neither snapshotted nor pickled is not searched."""

        class Opaque(Good):
            def __init__(self):
                super().__init__()
                self.secret = lambda: None

        assert searchable(Good)
        assert not searchable(Opaque)
        assert nearest(Opaque, own_letters(LONG), "disjoint", below=4) is None


def test_nothing_is_shorter_than_nothing():
    """A fresh heap that breaks a law has no shorter trace."""
    assert shorter([], lambda operations: True, 100) is None
