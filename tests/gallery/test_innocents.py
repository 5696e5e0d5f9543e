"""The innocent gallery: no law convicts an allocator that does all it promises, however oddly."""

from functools import cache

import pytest

from heaplaw import LAWS, Checker, Kind, Operation, Refusal, Trace, run
from heaplaw.impls.innocents import innocents
from heaplaw.impls.innocents.paging import KeepsEmpties, PacksAll
from heaplaw.impls.registry import factory
from heaplaw.properties import plain, workhorse
from heaplaw.properties.verdict import Status
from heaplaw.twins import compare_twins

NAMES = [one.name for one in innocents()]
HOME = "heaplaw.impls.innocents."
OPERATIONS = 4_000  # of the plain engine, on each
BY_HYPOTHESIS = ("orders:FifoTlsf", "delays:Quarantine", "shapes:Spaces", "demon:Minimal", "demon:Paged", "demon:Rich")

FALSE_ALARMS = {  # innocent -> the law that convicted it, and the trace on which it did
    "handles:SentinelOpaque": ("handle-stable", "a = alloc 0\nb = alloc 0"),
    "handles:SentinelOutside": ("in-bounds", "a = alloc 0"),
    "handles:SlotGenerations": ("bad-free-rejected", "a = alloc 1\nb = alloc 1\nbadfree foreign a"),
    "handles:WordHandles": ("returns", "a = alloc 1"),
    "handles:Reused": ("counters", "a = alloc 1\nb = alloc 1 align 2"),
    "handles:ZeroWithHeader": ("tiling", "a = alloc 0"),
    "hints:HintsOnly": ("hint-exact", "a = alloc 1"),
    "hints:ListsOnly": ("returns", "a = alloc 1"),
    "hints:ListBitsOnly": ("returns", "a = alloc 1"),
    "paging:Spreads": ("compaction-progress", "a = alloc 1\nb = alloc 1\nmaintain spread"),
    "paging:OneStep": (
        "compaction-idempotent",
        "\n".join(f"{name} = alloc 1" for name in "abcdefghi") + "\nfree a\nfree b\nfree c\nfree e\nfree f\n"
        "maintain step\nmaintain step",
    ),
    "paging:MovesEverything": (
        "compaction-idempotent",
        "\n".join(f"{name} = alloc 1" for name in "abcde") + "\nfree a\nfailpages 1 order 0\n"
        "maintain compact\nmaintain compact",
    ),
    "resizing:EvictsAll": ("returns", "a = alloc 1\nb = alloc 1\nmaintain clear"),
}  # fmt: skip

NEVER = {  # innocent -> laws whose condition cannot come, and why
    "refusals:NothingForAnyone": (
        {"disjoint", "in-bounds", "aligned", "must-refuse"}, "nothing is ever served, so that no block can be wrong",
    ),
    "refusals:PowersOfTwo": ({"limits-honest"}, "its limits cross: no size is promised for being between them"),
    "paging:GrowsOnRefusal": ({"limits-honest"}, "its limits cross: the first request is always refused"),
    "hints:StaleLow": ({"hint-region", "hint-exact"}, "its hints are lower bounds and name no place"),
    "hints:LooseUpper": ({"hint-region", "hint-exact"}, "its hints are bounds and name no place"),
    "paging:OneStep": ({"compaction-progress", "compaction-idempotent"}, "a step is not a compaction"),
}  # fmt: skip


def short(name):
    return name.removeprefix(HOME)


def courtesies(contract):
    """One request for everything that a contract knows, so that rare laws are asked as well."""
    births = iter(range(100))
    size = min(16, contract.largest)

    def alloc(group=0, size=size):
        return Operation(Kind.ALLOC, next(births), size, 1, group << 1)

    yield from (alloc(), alloc(), alloc(), Operation(Kind.WRITE, 1), Operation(Kind.READ, 1))
    yield from (Operation(Kind.FREE, 0), alloc())
    yield from (Operation(Kind.REALLOC, 1, contract.largest), Operation(Kind.REALLOC, 1, 3))
    for kind in sorted(contract.rejects):
        wrong = {"zero": (0, 1), "huge": (contract.largest + 1, 1), "align": (8, 3)}[kind]
        yield Operation(Kind.BAD_ALLOC, 0, *wrong, kind)
    for kind in sorted(contract.detects):
        victim = alloc()
        yield from (victim, Operation(Kind.BAD_FREE, victim.name, mode=kind))
    for kind in contract.maintenance:
        yield from (Operation(Kind.MAINTAIN, mode=kind), Operation(Kind.MAINTAIN, mode=kind))
    for group in range(1, contract.groups + 1):
        yield from (alloc(group), alloc(group), alloc())
    yield Operation(Kind.FAIL_PAGES, size=2)
    yield from (alloc() for _ in range(6))
    yield from (Operation(Kind.DRAIN), Operation(Kind.DESTROY))


@cache
def judged(name):
    """The tally of the plain engine, with what the courtesies add."""
    tally = plain.check(name, OPERATIONS, 1)
    build = factory(name)
    operations = list(courtesies(build().contract))
    checker = Checker(build(), audit_every=1)
    for op in operations:
        checker.step(op)
    compare_twins(checker, build, operations)
    tally.evidence.update(checker.evidence())
    return tally


def test_there_are_enough():
    """At least thirty innocents, each with its own habit and reason."""
    assert len(NAMES) >= 30
    assert len({one.unusual for one in innocents()}) == len(NAMES)
    assert all(one.honest and "\n" not in one.unusual + one.honest for one in innocents())


@pytest.mark.parametrize("name", NAMES, ids=short)
def test_no_law_convicts_an_innocent(name):
    """No finding and no flake, and the whole budget was spent."""
    tally = judged(name)
    assert [(f.violation.law, str(f.trace)) for f in tally.findings + tally.flaky] == []
    assert tally.operations >= OPERATIONS


@pytest.mark.parametrize("name", NAMES, ids=short)
def test_every_promised_law_is_asked(name):
    """A law that applies is asked with its condition met, but for the listed ones."""
    tally = judged(name)
    never, _ = NEVER.get(short(name), (set(), ""))
    assert {law for law in LAWS if tally.status(law) is Status.NOT_RUN} == never


def test_every_law_is_asked_of_an_innocent():
    """Each law is asked of some innocent with its condition met; `same-verdict`, which needs two, is asked below."""
    asked = {law for name in NAMES for law, count in judged(name).evidence.items() if count}
    assert set(LAWS) - asked == {"same-verdict"}


@pytest.mark.parametrize("name", BY_HYPOTHESIS)
def test_the_hypothesis_engine_convicts_none(name):
    """Nor does the engine that climbs."""
    assert workhorse.check(HOME + name, 1500, 1).findings == []


@pytest.mark.parametrize("seed", [2, 3])
@pytest.mark.parametrize("name", [name for name in NAMES if ":" in name and "demon" in name], ids=short)
def test_demons_are_heard_longer(name, seed):
    """The demons are tried with more seeds."""
    assert plain.check(name, 4000, seed).findings == []


@pytest.mark.parametrize("name", FALSE_ALARMS)
def test_a_false_alarm_does_not_come_back(name):
    """The trace on which a law convicted an innocent breaks no law."""
    trace = Trace.parse("heaplaw trace 1\n" + FALSE_ALARMS[name][1])
    assert run(factory(HOME + name), trace.operations, twins=2) is None


def test_two_of_one_contract_agree():
    """Two pools that may serve and must serve the same differ in nothing that their contract fixes."""
    operations = [op for op in courtesies(PacksAll.contract) if op.kind in (Kind.ALLOC, Kind.FREE)]
    operations += [Operation(Kind.ALLOC, 200 + birth, 8) for birth in range(40)]
    checkers = Checker(PacksAll()), Checker(KeepsEmpties())
    first, second = ([_verdict(checker, op) for op in operations] for checker in checkers)
    judge = Checker(PacksAll())
    judge.twins = (first, second)
    LAWS["same-verdict"].check(judge)
    assert {"served", "refused"} <= set(first)


def _verdict(checker, op):
    checker.step(op)
    if op.kind != Kind.ALLOC:
        return None
    return "refused" if checker.answer is None or isinstance(checker.answer, Refusal) else "served"
