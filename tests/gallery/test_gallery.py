"""The bug gallery: each bug is found again by its committed trace, and its target without it is innocent."""

from pathlib import Path

import pytest

from heaplaw.impls.bugs import gallery
from heaplaw.impls.naming import parse
from heaplaw.impls.registry import BUILT_IN
from heaplaw.lawbook import LAWS
from heaplaw.properties.replay import replay
from heaplaw.trace import Trace

TRACES = Path(__file__).parent.parent / "data" / "gallery"
GALLERY = gallery()


def trace_of(bug):
    return Trace.parse((TRACES / f"{bug.id}.trace").read_text())


@pytest.mark.parametrize("bug", [bug for bug in GALLERY if not bug.equivalent], ids=lambda bug: bug.id)
def test_a_bug_breaks_its_law(bug):
    """The committed trace breaks the law that the entry names, and none on the target without the bug."""
    trace = trace_of(bug)
    name = parse(trace.target)
    assert (name.base, name.bug, trace.header["law"]) == (bug.target, bug.id, bug.law)
    assert bug.law in {finding.violation.law for finding in replay(trace, trace.target).tally.findings}
    assert replay(trace, str(name._replace(bug=""))).tally.findings == []


@pytest.mark.parametrize("bug", GALLERY, ids=lambda bug: bug.id)
def test_an_entry_says_where_it_comes_from(bug):
    """Target and law exist; title and source are one line each; an equivalent one has no trace."""
    assert bug.target in BUILT_IN
    assert bug.law in LAWS
    assert bug.title
    assert bug.source
    assert "\n" not in bug.title + bug.source + bug.note
    assert (TRACES / f"{bug.id}.trace").exists() != bool(bug.equivalent)


def test_no_trace_without_a_bug():
    """Every committed trace belongs to an entry."""
    assert {path.stem for path in TRACES.glob("*.trace")} == {bug.id for bug in GALLERY if not bug.equivalent}
