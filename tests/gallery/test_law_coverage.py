"""Law coverage: every law catches some bug that no other law catches, or it is said why not."""

import json
from itertools import pairwise
from pathlib import Path

import pytest

from heaplaw import Contract
from heaplaw.impls.bugs import gallery
from heaplaw.impls.registry import factory
from heaplaw.lawbook import LAWS
from heaplaw.operations import Kind, Operation
from heaplaw.properties.lawcoverage import (
    REDUNDANT,
    UNASKED,
    alone,
    by_engine,
    by_trace,
    committed,
    idle,
    share,
    subjects,
    table,
    uncaught,
)
from heaplaw.properties.veil import HIDDEN, LEVELS, UnseenError, told, veiled
from heaplaw.runs import run

DATA = Path(__file__).parent.parent / "data"
TRACES = DATA / "gallery"
MEASURED = json.loads((DATA / "law_coverage.json").read_text())["caught"]
QUICK = ("buddy+LW02", "tlsf+LW15", "zsmalloc+LW04", "percpu-bitmap+LW01", "afmalloc+LW10", "tlsf+T31", "kmalloc+KM03")


# ---- the committed measurement --------------------------------------------------------------------


def test_every_law_catches_something_alone():
    """Each law alone catches a bug at some level, but for those whose redundancy is argued for."""
    excused = UNASKED.keys() | REDUNDANT.keys()
    assert LAWS.keys() - alone(MEASURED).keys() == excused


def test_the_measurement_knows_the_gallery():
    """The file holds no broken target that is gone, and all levels of each; no law that is gone."""
    assert MEASURED.keys() <= set(subjects())
    for levels in MEASURED.values():
        assert tuple(levels) == LEVELS
        assert {law for laws in levels.values() for law in laws} <= LAWS.keys()


def test_every_bug_is_caught_where_all_is_shown():
    """No broken target of the file goes unnoticed at the level that shows everything."""
    assert [name for name, levels in MEASURED.items() if not levels["metadata"]] == []
    assert uncaught(MEASURED) == []


@pytest.mark.parametrize("name", QUICK)
def test_committed_traces_give_what_is_said(name):
    """A bug's trace refutes nothing that the file does not know, and its own law where all is shown."""
    trace = committed(TRACES, name)
    for level in LEVELS:
        assert set(by_trace(trace, level)) <= set(MEASURED[name][level])
    assert trace.header["law"] in by_trace(trace, "metadata")


@pytest.mark.parametrize("bug", [bug for bug in gallery() if bug.id.startswith("LW")], ids=lambda bug: bug.id)
def test_bugs_made_for_one_law(bug):
    """The trace of a bug that one law alone can see refutes that law alone at some level."""
    trace = committed(TRACES, bug.name)
    assert [bug.law] in [list(by_trace(trace, level)) for level in LEVELS]


@pytest.mark.parametrize("level", LEVELS)
def test_the_engine_finds_it_again(level):
    """The plain engine refutes at each level what the file says of a bug with one mark at all levels."""
    found = list(by_engine("zsmalloc+LW04", level, 600))
    assert found == ["page-order"] == MEASURED["zsmalloc+LW04"][level]


@pytest.mark.parametrize("name", ["tlsf", "zsmalloc", "percpu-bitmap", "buddy", "xcfmalloc", "srog", "slab"])
def test_no_veil_convicts_an_innocent(name):
    """A target without a bug breaks no law behind any veil: what is hidden is not taken for what is wrong."""
    for level in LEVELS[:3]:
        assert list(by_engine(name, level, 1200)) == []


# ---- arguments for the laws that catch nothing alone ----------------------------------------------


class Short:
    """Hands out a byte less than asked for, and promises nothing but its size."""

    contract = Contract(arena=64)

    def __init__(self):
        self.top = 0
        self.lengths = {}

    def alloc(self, size, align=1, *, ctx=None):
        if self.top + size > 64 or not size:
            return None
        self.lengths[self.top] = size - 1
        self.top += size
        return self.top - size

    def free(self, handle):
        del self.lengths[handle]

    def extents(self, handle):
        return ((0, handle, self.lengths[handle]),)


def test_too_short_where_no_more_is_promised():
    """Only `big-enough` speaks where a target shows its places and promises neither geometry nor a second serving."""
    mute = []
    while found := run(Short, [Operation(Kind.ALLOC, 0, 8), Operation(Kind.FREE, 0)], mute=mute):
        mute.append(found.law)
    assert mute == ["big-enough"]


@pytest.mark.parametrize("name", ["tlsf+T31"])
def test_a_refused_resize_is_seen_by_others_too(name):
    """What `realloc-failure` sees is seen by `contents` or `handle-stable` at the next look."""
    for level in LEVELS[1:]:
        laws = set(by_trace(committed(TRACES, name), level))
        assert "realloc-failure" in laws
        assert laws & {"contents", "handle-stable"}


# ---- veils ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", LEVELS)
def test_a_veil_hides_and_forwards(level):
    """What a level hides is absent; all else answers as the target itself does."""
    build = factory("tlsf,arena=4096")
    target, bare = veiled(build, level)(), build()
    assert all(getattr(target, name, None) is None for name in HIDDEN[level])
    assert target.alloc(24) == bare.alloc(24)
    assert target.snapshot() == bare.snapshot()
    shown = {name for name in ("realloc", "read", "extents", "lists", "cost") if hasattr(bare, name)} - HIDDEN[level]
    assert all(getattr(target, name, None) is not None for name in shown)


def test_each_level_shows_more():
    """The levels stand in order, each hiding less than the one before it."""
    hidden = [HIDDEN[level] for level in LEVELS]
    assert all(more > less for more, less in pairwise(hidden))
    assert not hidden[-1]


def test_promises_about_places_are_not_made_without_them():
    """Behind a veil a predicate that looks at gaps promises nothing; one that counts objects still does."""
    from heaplaw.contract import Request
    from heaplaw.pages import PageSource
    from heaplaw.shadow import Shadow

    def gaps(request, shadow, source):
        return bool(list(shadow.gaps(0, 0, 64)))

    def count(request, shadow, source):
        return len(shadow) < 3

    for rule, said in ((gaps, False), (count, True)):
        contract = Contract(arena=64, must_serve=rule, must_refuse=rule)
        hidden = told(contract, "black box")
        asked = Request(8), Shadow(), PageSource(1)
        assert contract.must_serve(*asked)
        assert hidden.must_serve(*asked) is said
        assert hidden.must_refuse(*asked) is said
        assert told(contract, "black box") is hidden
        assert told(contract, "places") is contract
    assert issubclass(UnseenError, Exception)


# ---- the table ------------------------------------------------------------------------------------


def test_the_table_counts():
    """Rows say at each level how many bugs a law catches and how many alone."""
    measured = {
        "tlsf+A": {"black box": ["disjoint"], "contents": ["disjoint", "contents"], "places": [], "metadata": []},
        "tlsf+B": {"black box": [], "contents": ["contents"], "places": ["contents"], "metadata": ["contents"]},
    }
    rows = {line.split("`")[1]: line for line in table(measured).splitlines()[2:]}
    assert rows["disjoint"] == "| `disjoint` | 1 / 1 | 1 / 0 | 0 / 0 | 0 / 0 | `tlsf+A` |"
    assert rows["contents"] == "| `contents` | 0 / 0 | 2 / 1 | 1 / 1 | 1 / 1 | `tlsf+B` |"
    assert rows["drain"].endswith("| none |")
    assert share(measured, "contents", "contents") == 2
    assert "drain" in idle(measured)[1]
