"""The plain engine: seeded random runs straight through the codec, no framework.

Throughput and the length of a run find most bugs first; see ``events`` for what is
fed.  A shard is stateless: (target name, operations, seed) decide everything it
does, so shards run in any process and in any order.

>>> tally = check("buddy,pages=64", 500, seed=1)
>>> tally.findings, tally.operations >= 500
([], True)
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Set
from itertools import count
from random import Random
from typing import Any

from heaplaw.checker import Checker, Hang, Unusable
from heaplaw.codec import Codec
from heaplaw.contract import Contract
from heaplaw.lawbook import Broken
from heaplaw.operations import Kind, Operation
from heaplaw.runs import Violation, violation
from heaplaw.twins import compare_twins

from .events import OPENING, STEERED, Plan, Swarm, program
from .reached import Watch
from .state import abstract
from .tallying import Tallying
from .verdict import Tally
from .watchdog import watchdog

NAME = "plain"
_SEQUENCE_SECONDS = 3.0  # CPU time after which a run counts as hanging
_SAMPLE_STATES = 4  # every fourth operation's abstract state is counted
_DENSE, _DENSE_SHARE = 8, 0.2  # some runs audit eight times as often: what is wrong may not stay wrong
_OPENINGS = 2  # runs of each configuration in which anything comes, before phases steer
_TWIN_EVERY, _OFTEN = 16, 4  # every sixteenth run is made a second time; every fourth where groups are to be compared


def check(
    name: str,
    operations: int,
    seed: int,
    *,
    only: Iterable[str] = (),
    most: int | None = None,
    deadline: float = float("inf"),
    progress: Callable[[int], None] = lambda done: None,
) -> Tally:
    """Run about ``operations`` checked operations on a target; deterministic but for the deadline.

    ``only`` limits the laws, ``most`` the findings.  ``deadline`` is a ``time.monotonic`` value.
    """
    work = Tallying(name, NAME, operations, seed, only, most)
    runs = in_turn(work.builders, work.rng, work.mute)
    while work.wanted(deadline):
        variant, run, found = next(runs)
        work.enter(run)
        if found is not None:
            work.convict(variant, found, deadline)
        progress(work.tally.operations)
    return work.done()


def in_turn(
    builders: Mapping[str, Callable[[], Any]], rng: Random, mute: Set[str] = frozenset()
) -> "Iterator[tuple[str, Run, Violation | None]]":
    """Runs without end, each configuration's turn after the other: which it was, the run, and what it broke.

    ``mute`` is looked at before each run, so that laws can be added to it.
    """
    sizes = {variant: first_sizes(build().contract, rng) for variant, build in builders.items()}

    def endless() -> "Iterator[tuple[str, Run, Violation | None]]":
        for turn in count():
            plan = OPENING if turn < _OPENINGS else STEERED
            for variant, build in builders.items():
                run = Run(build, Random(rng.getrandbits(64)), mute, sizes[variant], plan)
                yield variant, run, run.go()

    return endless()


def first_sizes(contract: Contract, rng: Random) -> Iterator[int]:
    """What to ask of fresh heaps, run after run: the limits, then sizes of the palette in random order."""
    sizes = list(Codec(contract).sizes)
    yield from (contract.largest, contract.min_size, contract.largest + 1)
    while True:
        yield from rng.sample(sizes, len(sizes))


class Run:
    """One run over a fresh target; its plan says of how many operations."""

    def __init__(
        self, build: Callable[[], Any], rng: Random, mute: Iterable[str], first: Iterator[int],
        plan: Plan = STEERED,
    ) -> None:  # fmt: skip
        self.build, self.rng, self.mute, self._plan = build, rng, frozenset(mute), plan
        self.reached: Counter[str] = Counter()
        self._start(_DENSE if rng.random() < _DENSE_SHARE else 1)
        self.codec = Codec(self.checker.contract)
        self.operations: list[Operation] = []
        self.states: list[Hashable] = []
        self._first = next(first, None)

    def _start(self, density: int) -> None:
        """A fresh target, audited so many times as often."""
        self.checker = Checker(self.build(), mute=self.mute, density=density)
        self.watch = Watch(self.checker, self.reached)

    def go(self) -> Violation | None:
        """The first violation, or None."""
        checker = self.checker
        try:
            with watchdog(_SEQUENCE_SECONDS):
                try:
                    self._feed()
                    self._do(Operation(Kind.DRAIN))
                    self._do(Operation(Kind.DESTROY))
                    checker.finish()
                    self._compare_twin()
                except Hang as hang:  # between two steps: name it all the same
                    checker.collapse(hang)
        except Broken as broken:
            return violation(checker, broken, self.operations)
        except Unusable:
            return None
        return None

    def _feed(self) -> None:
        checker, decode = self.checker, self.codec.decode
        names, operations, step = checker.shadow.names, self.operations, self.watch.step
        if self._first is not None:
            self._do(Operation(Kind.ALLOC, 0, self._first))
        can = frozenset(kind for kind in Kind if checker.can(kind))
        for code in program(Swarm(self.rng, self.codec, can), checker, self._plan):
            op = decode(code, names, checker.births)
            operations.append(op)
            step(op)
            if not len(operations) % _SAMPLE_STATES:
                self.states.append(abstract(checker))

    def _do(self, op: Operation) -> None:
        self.operations.append(op)
        self.watch.step(op)

    def _compare_twin(self) -> None:
        """Now and then make the same calls on a second target: the answers must be the same."""
        if not self.rng.randrange(_OFTEN if self.checker.contract.space_deterministic else _TWIN_EVERY):
            compare_twins(self.checker, self.build, self.operations)
