"""Tallies and findings as JSON: what a process that may be lost says of its work.

>>> there = from_data(as_data(Tally("buddy", "plain", operations=3, evidence=Counter({"disjoint": 2}))))
>>> there.operations, there.evidence["disjoint"]
(3, 2)
"""

from collections import Counter
from collections.abc import Hashable
from typing import Any

from heaplaw.properties.state import Novelty
from heaplaw.properties.verdict import Finding, Tally
from heaplaw.runs import Violation
from heaplaw.trace import Trace

from .keeping import digest_of

_COUNTED = ("evidence", "reached")
_PLAIN = (
    "target", "engine", "operations", "planned", "runs", "refusals", "skipped", "seconds", "stopped", "lacking",
    "reachable", "asked", *_COUNTED,
)  # fmt: skip


def as_data(tally: Tally) -> dict[str, Any]:
    """A tally as JSON keeps it; abstract states by their digests."""
    data = {name: getattr(tally, name) for name in _PLAIN}
    states = {_name(state): count for state, count in tally.novelty.seen.items()}
    found = {name: [finding_data(one) for one in getattr(tally, name)] for name in ("findings", "flaky")}
    return {**data, **found, "states": states}


def from_data(data: dict[str, Any]) -> Tally:
    """The tally again."""
    tally = Tally(**{name: data[name] for name in _PLAIN})
    for name in _COUNTED:
        setattr(tally, name, Counter(data[name]))
    tally.findings = [finding_from(one) for one in data["findings"]]
    tally.flaky = [finding_from(one) for one in data["flaky"]]
    tally.novelty = Novelty(data["states"])
    return tally


def _name(state: Hashable) -> str:
    """One that has been here already is a digest."""
    return state if isinstance(state, str) else digest_of(state)


def finding_data(one: Finding) -> dict[str, Any]:
    """A finding as JSON keeps it, its trace as text."""
    found = one.violation
    violation = {key: getattr(found, key) for key in ("law", "index", "expected", "seen", "heap", "sound_until")}
    rest = {key: value for key, value in vars(one).items() if key != "violation"}
    return {**rest, "violation": {**violation, "trace": str(found.trace)}}


def finding_from(data: dict[str, Any]) -> Finding:
    """The finding again."""
    violation = {**data["violation"], "trace": Trace.parse(data["violation"]["trace"])}
    return Finding(**{**data, "violation": Violation(**violation)})
