"""What an exhaustive search proves, in writing.

``closed``: no operation of the alphabet leads to a state that is not among those counted, so every
trace of any length over the alphabet is covered; otherwise every trace of at most ``depth``
operations is.  It rests on fingerprints: two of ``states`` states share one of 64 bits by chance
with a probability of at most ``chance_of_collision``.

>>> done = Certificate("tlsf,arena=96", ("alloc 8", "free i"), depth=3, closed=True, states=4, transitions=9)
>>> done.covered
'every trace'
>>> f"{done.chance_of_collision:.0e}"
'4e-19'
"""

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

from heaplaw.lawbook import LAWS
from heaplaw.twins import TWIN_LAWS

from .verdict import Finding

_ABOUT_TWO_RUNS = "about two runs: `heaplaw check` makes them"
_NEVER_MET = "its condition never held"
NOTES = {
    "deterministic": "asked of a sample of states, reached again from a fresh target, and of every operation there",
    "zeroed": "asked of what was never used and of what was freed just before; snapshots keep no other dead bytes",
    "free-then-alloc": "asked of every pair of a free and a request",
    "compaction-idempotent": "asked of every pair",
    "drain": "asked of every state with nothing live",
}
"""How far a law is asked, where that is not of every operation or every state."""


@dataclass
class Certificate:
    """See the module docstring.  Equal for equal arguments, whatever the number of jobs, ``seconds`` apart."""

    target: str
    alphabet: tuple[str, ...]
    depth: int = 0  # every trace of so many operations is covered
    closed: bool = False
    states: int = 0
    transitions: int = 0
    levels: tuple[int, ...] = ()  # new states at each depth
    asked: Counter[str] = field(default_factory=Counter)  # law -> how often
    reached: Counter[str] = field(default_factory=Counter)  # named states -> how often (see ``reached``)
    not_asked: dict[str, str] = field(default_factory=dict)  # law -> why
    dead: int = 0  # calls after which the target was beyond use, the law that says so not asked for
    replayed: int = 0  # states that were reached again from a fresh target
    stopped: str = ""  # why the search ended early; empty if it did not
    finding: Finding | None = None  # the shortest counterexample
    unconfirmed: str = ""  # a counterexample that the plain replayer does not see
    seconds: float = 0.0

    @property
    def covered(self) -> str:
        """Which traces were covered, in words."""
        return "every trace" if self.closed else f"every trace of at most {self.depth} operations"

    @property
    def chance_of_collision(self) -> float:
        """That two states were taken for one: at most n**2 / 2**65."""
        return self.states**2 / 2**65

    @property
    def rate(self) -> float:
        """New states a second."""
        return self.states / self.seconds if self.seconds else 0.0

    def same(self, other: "Certificate") -> bool:
        """Does the other say the same, time apart?"""
        return replace(self, seconds=0.0) == replace(other, seconds=0.0)

    def settle_laws(self, lacking: dict[str, str], muted: frozenset[str]) -> None:
        """Give every law that was not asked its reason."""
        for law in LAWS:
            if self.asked[law]:
                continue
            if law in muted:
                self.not_asked[law] = "not asked for"
            elif law in lacking:
                self.not_asked[law] = lacking[law]
            else:
                self.not_asked[law] = _ABOUT_TWO_RUNS if law in TWIN_LAWS else _NEVER_MET

    def as_data(self) -> dict[str, Any]:
        """For a report; everything but ``seconds`` and ``rate`` is the same for the same arguments."""
        found = self.finding
        return {
            "target": self.target,
            "alphabet": list(self.alphabet),
            "covered": self.covered,
            "closed": self.closed,
            "depth": self.depth,
            "states": self.states,
            "transitions": self.transitions,
            "levels": list(self.levels),
            "chance_of_collision": self.chance_of_collision,
            "dead": self.dead,
            "replayed": self.replayed,
            "stopped": self.stopped,
            "unconfirmed": self.unconfirmed,
            "laws_asked": {law: self.asked[law] for law in LAWS if self.asked[law]},
            "laws_not_asked": dict(self.not_asked),
            "reached": dict(sorted(self.reached.items())),
            "notes": {law: note for law, note in NOTES.items() if self.asked[law]},
            "counterexample": None if found is None else {
                "law": found.violation.law,
                "operations": len(found.trace.operations),
                "expected": found.violation.expected,
                "seen": found.violation.seen,
                "trace": str(found.trace),
            },
            "seconds": round(self.seconds, 3),
            "rate": round(self.rate),
        }  # fmt: skip
