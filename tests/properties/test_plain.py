"""The plain engine: it finds planted bugs, says what it did, and is a function of its seed."""

import time
from random import Random

import pytest

from heaplaw.checker import Checker
from heaplaw.codec import Codec
from heaplaw.impls import registry
from heaplaw.lawbook import LAWS
from heaplaw.operations import Kind
from heaplaw.properties import events, shards
from heaplaw.properties.plain import check
from heaplaw.properties.verdict import Finding, Status, exit_code
from heaplaw.trace import Trace


def findings(name, operations=20_000, seed=1):
    return {f.violation.law: f for f in check(name, operations, seed).findings}


class TestPlantedBugs:
    """Each class of tests/planted.py has one bug; the engine must see it."""

    @pytest.mark.parametrize(
        ("name", "law", "most"),
        [
            ("Overlap", "disjoint", 4),
            ("RefuseAll", "no-spurious-refusal", 1),
            ("LeaksOnRefusal", "refusal-pure", 4),
            ("LosesTheLastByte", "contents", 2),
            ("Random", "deterministic", 6),
            ("ForgetsMerge", "coalesced", 4),
            ("Crashes", "returns", 4),
        ],
    )
    def test_found(self, name, law, most):
        """The bug's law is refuted, by a short trace that a fresh process confirms."""
        found = findings(f"planted:{name}")
        assert law in found
        assert len(found[law].trace.operations) <= most
        assert shards.confirm(found[law])

    def test_hang(self):
        """A target that loops for ever is a counterexample, and the engine comes back soon."""
        started = time.monotonic()
        found = findings("planted:Loops", 5_000)
        assert "returns" in found
        assert found["returns"].violation.seen == "a hang"
        assert time.monotonic() - started < 180

    def test_the_honest_one_passes(self):
        """The same allocator without a bug breaks nothing."""
        tally = check("planted:Good", 20_000, 1)
        assert tally.findings == []
        assert exit_code([tally]) == 0
        assert tally.status("disjoint") is Status.PASSED
        assert tally.status("placement") is Status.NOT_APPLICABLE


class TestBookkeeping:
    def test_function_of_the_seed(self):
        """Same seed, same operations and evidence; another seed, others."""
        one, two, other = (check("buddy", 3000, seed) for seed in (5, 5, 6))
        assert (one.operations, one.evidence, one.refusals) == (two.operations, two.evidence, two.refusals)
        assert one.evidence != other.evidence

    def test_only_some_laws(self):
        """A check of one law judges no other."""
        tally = check("planted:Overlap", 5000, 1, only=["aligned"])
        assert tally.findings == []
        assert {law for law in LAWS if tally.evidence[law]} == {"aligned"}

    def test_nothing_executed_is_not_green(self):
        """A run whose deadline is past has executed nothing: exit code 3."""
        tally = check("buddy", 1000, 1, deadline=time.monotonic() - 1)
        assert tally.operations == 0
        assert exit_code([tally]) == 3
        assert tally.status("disjoint") is Status.NOT_RUN

    def test_cut_short_is_inconclusive(self):
        """A law whose budget was not spent is inconclusive."""
        tally = check("buddy", 10_000_000, 1, deadline=time.monotonic() + 0.2)
        assert tally.status("disjoint") is Status.INCONCLUSIVE
        assert exit_code([tally]) == 3

    def test_muting_lets_the_others_go_on(self):
        """A refuted law does not end the check: others get a verdict of their own."""
        tally = check("planted:Overlap", 20_000, 1)
        assert len(tally.findings) >= 2
        assert tally.operations >= 20_000


class TestShards:
    def test_jobs_do_not_change_the_result(self):
        """Two processes give what one gives."""
        work = shards.cut(["buddy", "zsmalloc"], "plain", 4000, 3)
        one, two = (shards.run_shards(work, jobs=jobs) for jobs in (1, 2))
        seen = [[(t.target, t.operations, t.evidence) for t in tallies] for tallies in (one, two)]
        assert seen[0] == seen[1]

    def test_all_of_the_budget_is_cut(self):
        """Shards add up to the budget, the first shards of all targets first."""
        work = shards.cut(["a", "b"], "plain", 120_000, 1)
        assert sum(shard.operations for shard in work if shard.target == "a") == 120_000
        assert [shard.target for shard in work[:2]] == ["a", "b"]
        assert len({shard.seed for shard in work}) == len(work) // 2

    def test_a_finding_that_does_not_recur_is_flaky(self):
        """What a fresh process does not see is not reported as broken."""
        trace = Trace.parse("heaplaw trace 1\na = alloc 4096\n")
        from heaplaw.runs import Violation

        assert not shards.confirm(Finding("buddy", Violation("disjoint", 0, "", "", trace)))


class TestMappingPhase:
    """A phase that maps objects goes where mappings and the rest of an allocator meet."""

    @staticmethod
    def fed(name, seed):
        checker = Checker(registry.factory(name)())
        codec = Codec(checker.contract)
        can = frozenset(kind for kind in Kind if checker.can(kind))
        for code in events.mapped(events.Swarm(Random(seed), codec, can), checker):
            op = codec.decode(code, checker.shadow.names, checker.births)
            yield op, checker
            checker.step(op)

    def test_what_happens_meanwhile(self):
        """While objects are mapped, some in pieces, they are written, others are freed, and the heap is compacted."""
        during, in_pieces = set(), 0
        for seed in range(20):
            for op, checker in self.fed("zsmalloc,pages=16,cpus=2,scatter=1", seed):
                mapped = [block for block in checker.shadow.live.values() if block.mapped]
                in_pieces += any(len(block.extents) > 1 for block in mapped)
                during |= {op.kind for _ in mapped}
        assert {Kind.WRITE, Kind.READ, Kind.FREE, Kind.ALLOC, Kind.MAINTAIN, Kind.UNMAP, Kind.ON_CPU} <= during
        assert in_pieces > 50

    @pytest.mark.parametrize("name", ["tlsf", "buddy", "zsmalloc,pages=16"])
    def test_nothing_to_map(self, name):
        """Where nothing can be mapped, the phase does nothing."""
        assert not list(self.fed(name, 1))


def test_every_kind_is_reached():
    """Over some runs the engine feeds every kind of operation that a target can do."""
    seen = set()
    for name in ("tlsf", "zsmalloc"):
        for run_seed in range(3):
            seen |= _kinds(name, run_seed)
    common = {Kind.ALLOC, Kind.FREE, Kind.REALLOC, Kind.WRITE, Kind.READ, Kind.DRAIN, Kind.DESTROY}
    assert common | {Kind.MAINTAIN, Kind.BAD_ALLOC, Kind.FAIL_PAGES} <= seen


def _kinds(name, seed):
    from heaplaw.properties.plain import Run

    seen = set()
    for number in range(12):
        run = Run(registry.factory(name), Random(seed * 100 + number), (), iter(()))
        assert run.go() is None
        seen |= {op.kind for op in run.operations}
        assert 150 <= len(run.operations) <= 520
    return seen
