"""One run of a gate: its targets, its clock, and what has come of it so far.

A part of the gate is a function that takes the ``Gate`` and enters what it has found: steps (see ``reports.model``),
and tallies of what was executed.  Nothing of a part is lost when the next one begins, so a report can be written
however the run ends.

>>> group("tlsf,arena=4096"), group("pool.py:Pool")
('tlsf', 'pool.py:Pool')
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from heaplaw.impls.naming import TargetError, parse
from heaplaw.impls.registry import factory, variants
from heaplaw.lawbook import LAWS
from heaplaw.properties.replay import NAME as REPLAY
from heaplaw.properties.verdict import Finding, Status, Tally

from .. import building
from ..isolating import needs_isolation
from ..reports.model import Step
from .configuration import Aim, Budget, Configuration, Known
from .seeding import Seed

SEVERITY = (Status.REFUTED, Status.INCONCLUSIVE, Status.NOT_RUN, Status.PASSED, Status.NOT_APPLICABLE)
"""Verdicts, the one that decides about many first."""
LEFT_OUT = "left out"
"""The step of a target that a change does not touch: it did not run, and is not held against anybody."""
_FLOOR = 5.0  # seconds that exploration has at least: a gate that explored nothing has said nothing


@dataclass(frozen=True)
class Target:
    """A target that can be made, and what the configuration wants of it."""

    name: str
    aim: Aim
    laws: tuple[str, ...]  # those that must have been asked
    muted: Mapping[str, str]  # law -> why it is not asked

    @property
    def only(self) -> tuple[str, ...]:
        """The laws to ask, as engines want them: nothing means all."""
        return tuple(law for law in LAWS if law not in self.muted) if self.muted else ()

    def engines(self, everybodys: Sequence[str]) -> Sequence[str]:
        """Those that explore it."""
        return self.aim.engines or everybodys


@dataclass
class Gate:
    """A run; see the module docstring."""

    settings: Configuration
    seed: Seed
    quick: bool = False
    jobs: int = 1
    save: bool = True
    operations: int | None = None  # in place of the budget's
    seconds: float | None = None
    tell: Callable[[str, Sequence[Step], str], None] = lambda name, steps, said: None  # a part of it has ended
    steps: list[Step] = field(default_factory=list)
    tallies: list[Tally] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    saved: dict[tuple[str, str], str] = field(default_factory=dict)  # (target, law) -> the file of its trace
    new: list[str] = field(default_factory=list)  # files that this run has written
    left_out: list[str] = field(default_factory=list)  # groups of targets that a change does not touch

    def __post_init__(self) -> None:
        wanted = self.settings.quick if self.quick else self.settings.budget
        self.budget: Budget = replace(
            wanted, operations=self.operations or wanted.operations, seconds=self.seconds or wanted.seconds
        )
        self.deadline = time.monotonic() + self.budget.seconds

    @property
    def root(self) -> Path:
        """The project's folder."""
        return self.settings.root

    @property
    def late(self) -> bool:
        """Is the time up that the parts before exploration have?"""
        return time.monotonic() > self.deadline - _FLOOR

    def left(self) -> float:
        """Seconds that exploration may take."""
        return max(_FLOOR, self.deadline - time.monotonic())

    @property
    def engines(self) -> list[str]:
        """Engines that explore some target, in the order in which they are to run."""
        return list(dict.fromkeys(name for one in self.targets for name in one.engines(self.settings.engines)))

    def enter(self, name: str, steps: Sequence[Step], said: str = "", seconds: float = 0.0) -> None:
        """Take in the steps of a part, and tell of them together; ``said`` sums them up.

        ``seconds`` that the part took in all stand on its first step, so that adding up its steps gives them once.
        """
        if seconds:
            steps = [replace(steps[0], seconds=seconds), *steps[1:]]
        self.steps += steps
        self.tell(name, steps, said)

    def covers(self, name: str) -> bool:
        """Is this the name of one of its targets, whatever its parameters?"""
        return any(group(target.name) == group(name) for target in self.targets)

    def muted(self, name: str) -> Mapping[str, str]:
        """The laws that are not asked of a target, whatever its parameters."""
        return next((target.muted for target in self.targets if group(target.name) == group(name)), {})

    def subject(self, name: str) -> str:
        """What a target's name stands for in findings: its group; of libraries built from the same sources, these."""
        aim = next((target.aim for target in self.targets if group(target.name) == group(name)), None)
        return ", ".join(aim.sources) if aim is not None and aim.sources else group(name)

    def findings(self) -> list[Finding]:
        """What broke, one for each subject and law: the committed trace that shows it, or else the shortest."""
        found = [(tally.engine != REPLAY, one) for tally in self.tallies for one in tally.findings]
        best: dict[tuple[str, str], Finding] = {}
        for _, one in sorted(found, key=lambda pair: (pair[0], len(pair[1].trace.operations))):
            best.setdefault((self.subject(one.target), one.violation.law), one)
        return list(best.values())


def group(name: str) -> str:
    """A target's name without its parameters: what findings of one allocator have in common."""
    return str(parse(name)._replace(parameters={}))


def worst(steps: Iterable[Step]) -> Status:
    """The verdict that decides about steps; not applicable where there are none."""
    return min((step.verdict for step in steps), key=SEVERITY.index, default=Status.NOT_APPLICABLE)


@contextmanager
def clock() -> Iterator[Callable[[], float]]:
    """Seconds since the body was entered."""
    started = time.monotonic()
    yield lambda: time.monotonic() - started


# ---- targets -------------------------------------------------------------------------------------


def prepare(gate: Gate, aims: Sequence[Aim], known: Sequence[tuple[Known, str, str]]) -> None:
    """Build and make every target once; one that cannot be made is not run, and the others go on.

    ``known``: divergences, each with the target and the law of its trace.
    """
    steps = []
    with clock() as since:
        for aim in aims:
            try:
                gate.targets += [_target(gate.settings, aim, name, known) for name in _names(gate.settings, aim)]
            except TargetError as problem:
                steps.append(Step("targets", aim.name or ", ".join(aim.sources), Status.NOT_RUN, str(problem)))
        names = ", ".join(target.name for target in gate.targets) or "none of them can be made"
        if gate.targets:
            steps.insert(0, Step("targets", "", Status.PASSED, names, since()))
    gate.enter("targets", steps, names)


def _names(settings: Configuration, aim: Aim) -> Sequence[str]:
    """The targets that are meant.  Raises TargetError where they cannot be made."""
    if aim.sources:
        return building.built([Path(source) for source in aim.sources], aim.cflags, Path(settings.build))
    if not needs_isolation(aim.name):  # what may take this process along is made in a child, later
        for variant in variants(aim.name):
            factory(variant)
    elif aim.name.startswith(".") and not Path(aim.name.partition(",")[0]).is_file():
        raise TargetError(f"no such file: {aim.name.partition(',')[0]}; build it first")
    return (aim.name,)


def _target(settings: Configuration, aim: Aim, name: str, known: Sequence[tuple[Known, str, str]]) -> Target:
    """A target with the laws that are not asked of it: muted ones, and those that it is known to break."""
    muted = {law: f"muted: {why}" for law, why in {**settings.muted, **aim.muted}.items()}
    muted |= {law: f"known divergence: {one.why}" for one, of, law in known if group(of) == group(name)}
    return Target(name, aim, aim.laws, muted)
