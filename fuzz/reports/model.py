"""What every format of report is written from: what was run, what came of it, and the verdict in words.

>>> Step("corpus", "tlsf", Status.NOT_RUN, "there is no corpus").verdict.value
'not run'
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from heaplaw.properties.floors import Measured
from heaplaw.properties.verdict import Status, Tally


@dataclass(frozen=True)
class Step:
    """A part of a gate or check that is not one engine on one target: canaries, corpus, certificates, and so on."""

    name: str  # "canaries", "counterexamples", ...
    subject: str  # target or file; "" for all
    verdict: Status
    said: str = ""  # one line: why
    seconds: float = 0.0


@dataclass(frozen=True)
class Report:
    """One run of a command, whatever it is to be written as."""

    command: str  # "check" or "gate"
    seed: int | None
    code: int  # exit code
    verdict: str  # the last line, in words
    tallies: Sequence[Tally]
    steps: Sequence[Step] = ()
    floors: Sequence[Measured] = ()
    again: Mapping[tuple[str, str], str] = field(default_factory=dict)  # (target, law) -> path of the saved trace
    extra: Mapping[str, Any] = field(default_factory=dict)  # more JSON of the command
