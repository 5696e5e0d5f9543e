"""The minimiser: smaller, the same law, and nothing left to remove."""

import time
from dataclasses import replace
from random import Random

import pytest
from honest import Fit
from hypothesis import given, settings
from hypothesis import strategies as st

from heaplaw import Kind, Operation, run
from heaplaw.impls.registry import factory
from heaplaw.impls.tlsf import Tlsf
from heaplaw.lawbook import LAWS
from heaplaw.properties.exhaustive import explore
from heaplaw.properties.minimize import first_break, minimize, smallest
from heaplaw.properties.plain import Run
from heaplaw.properties.replay import recurs
from heaplaw.properties.smaller_arena import reduced
from heaplaw.trace import Trace


def alloc(name, size, align=1, mode=0):
    return Operation(Kind.ALLOC, name, size, align, mode)


def free(name):
    return Operation(Kind.FREE, name)


class TestOnAnyPredicate:
    def test_drops_all_chaff(self):
        """What the predicate does not need is gone, wherever it stands."""
        operations = [alloc(n, 100 + n) for n in range(200)]
        best = minimize(operations, lambda ops: any(op.size >= 150 for op in ops))
        assert best == [alloc(0, 150)]

    def test_lowers_every_number(self):
        """Sizes, alignments and flags go down to the least that will do."""
        best = minimize([alloc(7, 999, 512, 5)], lambda ops: any(op.size > 40 and op.align > 3 for op in ops))
        assert best == [alloc(0, 41, 4, 0)]

    def test_pairs_go_together(self):
        """Two operations that fail only together with both gone are dropped together."""
        operations = [alloc(0, 1), alloc(1, 1), free(1), free(0)]
        balanced = lambda ops: sum(op.kind == 1 for op in ops) == sum(op.kind == 2 for op in ops) > 0  # noqa: E731
        assert len(minimize(operations, balanced)) == 2

    def test_equal_sizes_go_down_together(self):
        """Two requests that must be equal are lowered as one."""
        best = minimize([alloc(0, 64), alloc(1, 64)], lambda ops: len(ops) == 2 and ops[0].size == ops[1].size > 0)
        assert [op.size for op in best] == [1, 1]

    def test_requests_are_merged(self):
        """Two requests that only matter by their sum become one."""
        best = minimize([alloc(0, 8), alloc(1, 16)], lambda ops: sum(op.size for op in ops) >= 24)
        assert best == [alloc(0, 24)]

    @settings(max_examples=40, deadline=None)
    @given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 300)), min_size=1, max_size=30), st.integers(1, 400))
    def test_idempotent(self, pairs, wanted):
        """Minimising what was minimised changes nothing, and the predicate still holds."""
        operations = [alloc(name, size) for name, size in pairs]
        fails = lambda ops: sum(op.size for op in ops) >= wanted  # noqa: E731
        if fails(operations):
            best = minimize(operations, fails)
            assert fails(best)
            assert minimize(best, fails) == best


class OffByOne(Fit):
    """Serves a large request where the second object lives, once there are three."""

    def alloc(self, size, align=1, *, ctx=None):
        if len(self.sizes) < 3 or size < 20:
            return super().alloc(size, align)
        start = sorted(self.sizes)[1]
        self.sizes[start] = size
        return start


class TestOnALaw:
    def test_known_shortest(self):
        """Three objects and the bad request: four operations, from a run of sixty."""
        operations = [alloc(n, 1 + n % 7) for n in range(50)] + [free(n) for n in range(3, 50)] + [alloc(60, 33)]
        found = run(OffByOne, operations)
        best = smallest(OffByOne, found)
        assert best.law == found.law == "disjoint"
        assert [op.kind for op in best.trace.operations] == [1, 1, 1, 1]
        assert [op.size for op in best.trace.operations] == [1, 1, 1, 20]

    def test_the_same_law_stays_broken(self):
        """A trace that could be cut to break another law is not."""
        operations = [alloc(0, 50), Operation(Kind.REALLOC, 0, 1 << 33), alloc(1, (1 << 64) - 1)]
        build = lambda: Tlsf(rev="conte-3.1")  # noqa: E731
        found = run(build, operations)
        best = smallest(build, found)
        assert best.law == found.law == "big-enough"
        assert len(best.trace.operations) == 1
        assert run(build, best.trace.operations, mute=LAWS.keys() - {"big-enough"}).law == "big-enough"

    def test_other_laws_in_the_way(self):
        """A law that others always break before is minimised all the same, alone."""
        build = factory("nta@2006-08-14,pages=1,cpus=1,order=0,regions=1,page_size=256")
        operations = [alloc(0, 1), alloc(1, 65), free(0), free(1), alloc(2, 1)]
        assert run(build, operations).law != "free-list"
        found = run(build, operations, mute=LAWS.keys() - {"free-list"})
        assert [op.kind for op in smallest(build, found).trace.operations] == [Kind.ALLOC, Kind.FREE]

    def test_time_is_up(self):
        """Past its deadline it tries nothing more, and gives back what it has."""
        operations = [alloc(n, 1 + n % 7) for n in range(50)] + [alloc(60, 33)]
        found = run(OffByOne, operations)
        assert smallest(OffByOne, found, deadline=time.monotonic() - 1) is found

    def test_progress(self):
        """Who asks is told how short the trace has become, shorter each time."""
        operations = [alloc(n, 1 + n % 7) for n in range(50)] + [alloc(60, 33)]
        told = []
        best = smallest(OffByOne, run(OffByOne, operations), progress=told.append)
        assert told == sorted(set(told), reverse=True)
        assert told[-1] == len(best.trace.operations) == 4

    def test_what_does_not_recur_is_left_alone(self):
        """A violation that the operations do not show again comes back as it was."""
        found = run(OffByOne, [alloc(n, 1) for n in range(3)] + [alloc(3, 40)])
        assert smallest(Fit, found) is found


@pytest.mark.parametrize("size", [30, 2000])
def test_hanging_targets_can_be_minimised(size):
    """A hang is minimised too, in a bounded number of tries."""

    class Loops(Fit):
        def free(self, handle):
            while self.sizes[handle] >= 20:
                pass
            super().free(handle)

    operations = [alloc(n, 4) for n in range(5)] + [alloc(9, 21), free(9)]
    found = run_watched(Loops, operations)
    assert found.law == "returns"
    best = smallest(Loops, found)
    assert [op.kind for op in best.trace.operations] == [1, 2]


def test_hanging_tries_are_counted():
    """Where half of all tries hang, the minimiser of another law stops after some of them, not after thousands."""
    hung = 0

    class Mire(OffByOne):
        def free(self, handle):
            nonlocal hung
            if len(self.sizes) % 2:
                hung += 1
                while True:
                    pass
            super().free(handle)

    operations = [op for n in range(0, 40, 2) for op in (alloc(n, 1), alloc(n + 1, 1), free(n))]
    operations = [*operations[:6], *(alloc(50 + n, 1) for n in range(8)), alloc(60, 40)]
    found = run_watched(Mire, [op for op in operations if op.kind == Kind.ALLOC])
    assert found.law == "disjoint"
    best = smallest(Mire, replace(found, trace=Trace(operations), index=len(operations) - 1))
    assert best.law == "disjoint"
    assert hung < 200


def run_watched(build, operations):
    return first_break(build, operations, ())


class TwoWays(Fit):
    """Resizes into the first object, and serves small requests there too."""

    def alloc(self, size, align=1, *, ctx=None):
        return min(self.sizes) if self.sizes and 0 < size <= 4 else super().alloc(size)

    def realloc(self, handle, size):
        return min(self.sizes)


def test_same_operation():
    """What breaks the law may become another operation, unless the same is asked for."""
    found = run(TwoWays, [alloc(0, 8), alloc(1, 8), alloc(2, 16), Operation(Kind.REALLOC, 2, 20)])
    assert found.law == "disjoint"
    kinds = [[op.kind for op in smallest(TwoWays, found, same_operation=same).trace.operations] for same in (0, 1)]
    assert kinds == [[Kind.ALLOC, Kind.ALLOC], [Kind.ALLOC, Kind.ALLOC, Kind.REALLOC]]


DEFECTS = {
    "tlsf@conte-3.1,arena=160,sl=1": "big-enough",
    "xvmalloc@2.6.33,pages=1,page_size=128": "search-bounded",
    "xcfmalloc@2011-09-v1,pages=2,page_size=256,reserve=1": "no-spurious-refusal",
    "percpu-bitmap@2017-07,unit=96,block=32,chunks=1": "hint-sound",
    "percpu-bitmap@4.14,unit=16,block=8,chunks=1": "hint-sound",
    "percpu-bitmap@6.12,unit=16,block=8,chunks=1": "no-spurious-refusal",
    "nta@2006-08-14,pages=2,cpus=1,order=0,regions=1,page_size=256": "drain",
}


def raw(name, law):
    """The plain engine's violation of a law, as it was found."""
    build, alone = factory(name), LAWS.keys() - {law}
    for seed in range(60):
        found = Run(build, Random(seed), alone, iter(())).go()
        if found is not None:
            return found
    pytest.fail(f"{law} was not broken")


@pytest.mark.parametrize(("name", "law"), DEFECTS.items(), ids=lambda value: value.split(",")[0])
class TestPublishedDefects:
    def test_as_short_as_can_be(self, name, law):
        """No trace over the sizes of the minimised one is shorter, says the exhaustive engine."""
        target, best = reduced(name, raw(name, law))
        sizes = sorted({op.size for op in best.trace.operations if op.size}) or [1]
        length = len(best.trace.operations)
        done = explore(target, only=[law], sizes=sizes, depth=max(1, length - 1))
        assert length == 1 or (done.finding is None and done.depth >= length - 1)

    def test_idempotent_and_deterministic(self, name, law):
        """Minimising again changes nothing, and minimising the same twice gives the same."""
        found = raw(name, law)
        one, two = (smallest(factory(name), found).trace for _ in range(2))
        assert one == two
        again = first_break(factory(name), one.operations, sorted(LAWS.keys() - {law}))
        assert smallest(factory(name), again).trace == one


WALKS_FAIL = """heaplaw trace 1
target buddy+B03,pages=61,start=3,orders=5
law disjoint
a = alloc 1
b = alloc 8193
c = alloc 16385
d = alloc 32769
e = alloc 32769
f = alloc 16385
g = alloc 8193
h = alloc 4097
i = alloc 1
free a
j = alloc 4097
"""


def test_a_heap_that_no_walk_survives():
    """Where every audit fails before the law breaks, the trace is made small, and seen again, without audits."""
    trace = Trace.parse(WALKS_FAIL)
    build = factory(trace.target)
    assert run(build, trace.operations).law == "returns"
    found = run(build, trace.operations, audit_from=len(trace.operations))
    assert found.law == "disjoint"
    best = smallest(build, found)
    assert (best.law, len(best.trace.operations)) == ("disjoint", 11)
    assert recurs(WALKS_FAIL)


ALONE = """heaplaw trace 1
target xvmalloc+XV03,pages=1
law free-list
a = alloc 1
b = alloc 1
free a
"""


def test_a_law_that_a_crash_hides():
    """Where a broken heap crashes before a trace's law is asked, the law is asked alone, and the trace recurs."""
    trace = Trace.parse(ALONE)
    assert run(factory(trace.target), trace.operations).law == "returns"
    assert recurs(ALONE)
    assert not recurs(ALONE.replace("law free-list", "law waste-bound"))
