"""The exhaustive engine behind the common interface: a tally like everybody's."""

import time

from heaplaw.properties.searching import check
from heaplaw.properties.verdict import Status, exit_code


def test_a_small_space_is_searched_to_its_end():
    """A target that closes passes, with its named states counted; the seed changes nothing."""
    tally, again = (check("subpage-buddy", 10_000, seed) for seed in (1, 2))
    assert exit_code([tally]) == 0
    assert tally.status("coalesced") is Status.PASSED
    assert tally.asked["coalesced"]  # so that a floor can be set for it
    assert "zeroed" not in tally.asked
    assert tally.reached["coalesce left"] == again.reached["coalesce left"] > 0
    assert (tally.operations, tally.evidence) == (again.operations, again.evidence)


def test_one_law_after_the_other():
    """A law that breaks is left out, and the search goes on for the others, up to as many findings as are wanted."""
    found = check("tlsf+T29", 3_000, 1).findings
    assert len({finding.violation.law for finding in found}) == len(found) > 1
    assert all(finding.length == len(finding.trace.operations) for finding in found)
    assert len(check("tlsf+T29", 3_000, 1, most=1).findings) == 1


def test_what_is_not_searched_to_its_end_is_inconclusive():
    """Neither time nor a limit of states makes a pass."""
    late = check("tlsf", 10_000, 1, deadline=time.monotonic() + 0.3)
    few = check("tlsf", 100, 1)
    assert exit_code([late]) == exit_code([few]) == 3
    assert late.stopped == "time was up"
    assert "states" in few.stopped


def test_only_the_laws_that_are_asked_for():
    """Other laws are not applicable, and their bugs pass."""
    tally = check("tlsf+T29", 500, 1, only=["aligned"])
    assert not tally.findings
    assert tally.status("counters") is Status.NOT_APPLICABLE
