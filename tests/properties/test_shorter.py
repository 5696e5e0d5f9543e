"""Shorter traces that no deletion leads to, and smaller arenas."""

from heaplaw import Kind, Operation, run
from heaplaw.impls.registry import factory
from heaplaw.properties.minimize import minimize
from heaplaw.properties.shorter import shorter
from heaplaw.properties.smaller_arena import in_smaller_arena


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

    def test_nothing_to_lower(self):
        """A target without a size of its own is left as it is."""
        found = run(factory("tlsf@conte-3.1"), [Operation(Kind.BAD_ALLOC, 0, 1 << 64, 1, "huge")])
        assert in_smaller_arena("tlsf@conte-3.1", found) == ("tlsf@conte-3.1", found)
        assert in_smaller_arena("some.module:Target,pages=8", found) == ("some.module:Target,pages=8", found)
