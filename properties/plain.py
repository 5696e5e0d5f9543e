"""The plain engine: seeded random runs straight through the codec, no framework.

Throughput and the length of a run find most bugs first; see ``events`` for what is
fed.  A shard is stateless: (target name, operations, seed) decide everything it
does, so shards run in any process and in any order.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import cycle
from random import Random
from typing import Any

from heaplaw.checker import Checker, Hang, Unusable, lacking
from heaplaw.codec import Codec
from heaplaw.contract import Contract
from heaplaw.impls.registry import factory, variants
from heaplaw.lawbook import LAWS, Broken
from heaplaw.operations import Kind, Operation
from heaplaw.runs import Violation, pinpoint, violation
from heaplaw.twins import TWIN_LAWS, compare_twins

from .events import Swarm, program
from .minimize import smallest
from .smaller_arena import in_smaller_arena
from .state import abstract
from .verdict import Finding, Tally
from .watchdog import watchdog

NAME = "plain"
_SEQUENCE_SECONDS = 3.0  # CPU time after which a run counts as hanging
_PINPOINT_SECONDS = 0.02  # more for each operation when each is audited
_SAMPLE_STATES = 4  # every fourth operation's abstract state is counted
_DENSE, _DENSE_SHARE = 8, 0.2  # some runs audit eight times as often: what is wrong may not stay wrong
_TWIN_EVERY = 16  # every sixteenth run is made a second time, for `deterministic`
_MOST_HANGS = 2  # a target that hangs more often is left alone; each costs its whole time limit


def check(
    name: str,
    operations: int,
    seed: int,
    *,
    only: Iterable[str] = (),
    deadline: float = float("inf"),
    progress: Callable[[int], None] = lambda done: None,
) -> Tally:
    """Run about ``operations`` checked operations on a target; deterministic but for the deadline.

    ``only`` limits the laws.  ``deadline`` is a ``time.monotonic`` value.
    """
    tally = Tally(name, NAME, planned=operations)
    mute = {law for law in LAWS if only and law not in only}
    tally.lacking.update(dict.fromkeys(mute, "not asked for"))
    started = time.monotonic()
    rng = Random(f"{NAME} {name} {seed}")
    builders = {variant: factory(variant) for variant in variants(name)}
    first_sizes = {}
    for variant, build in builders.items():
        checker = Checker(build())
        first_sizes[variant] = _first_sizes(checker.contract, rng)
        for law, why in lacking(checker.shows, checker.contract).items():
            tally.lacking.setdefault(law, why)
    configurations = cycle(builders.items())
    hangs = 0
    while tally.operations < operations and time.monotonic() < deadline and hangs < _MOST_HANGS:
        variant, build = next(configurations)
        run = Run(build, Random(rng.getrandbits(64)), mute, first_sizes[variant])
        found = run.go()
        hangs += run.checker.problem == "a hang"
        tally.operations += run.checker.index + 1
        tally.runs += 1
        tally.refusals += run.checker.refusals
        tally.skipped += run.checker.skipped
        tally.evidence.update(run.checker.evidence())
        tally.novelty.seen.update(run.states)
        if found is not None:
            if found.law not in TWIN_LAWS:
                found = pinpoint_bounded(build, found, mute)
            found = smallest(build, found, tuple(mute))
            tally.findings.append(Finding(*in_smaller_arena(variant, found, tuple(mute))))
            mute.add(found.law)
        progress(tally.operations)
    tally.seconds = time.monotonic() - started
    return tally


def _first_sizes(contract: Contract, rng: Random) -> Iterator[int]:
    """What to ask of fresh heaps, run after run: the limits, then sizes of the palette in random order."""
    sizes = list(Codec(contract).sizes)
    yield from (contract.largest, contract.min_size, contract.largest + 1)
    while True:
        yield from rng.sample(sizes, len(sizes))


def pinpoint_bounded(build: Callable[[], Any], found: Violation, mute: Iterable[str]) -> Violation:
    """Name the first operation that breaks a law; where only the looking is slow, leave it as found."""
    try:
        with watchdog(_SEQUENCE_SECONDS + _PINPOINT_SECONDS * len(found.trace.operations)):
            again = pinpoint(build, found, mute=mute)
    except Hang:
        return found
    return found if again.law == "returns" != found.law else again


class Run:
    """One run of 150 to 500 operations over a fresh target."""

    def __init__(self, build: Callable[[], Any], rng: Random, mute: Iterable[str], first_sizes: Iterator[int]) -> None:
        self.build, self.rng, self.mute = build, rng, frozenset(mute)
        density = _DENSE if rng.random() < _DENSE_SHARE else 1
        self.checker = Checker(build(), mute=self.mute, density=density)
        self.codec = Codec(self.checker.contract)
        self.operations: list[Operation] = []
        self.states: list[Any] = []
        self._first = next(first_sizes, None)

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
        names, operations, step = checker.shadow.names, self.operations, checker.step
        if self._first is not None:
            self._do(Operation(Kind.ALLOC, 0, self._first))
        can = frozenset(kind for kind in Kind if checker.can(kind))
        for code in program(Swarm(self.rng, self.codec, can), checker):
            op = decode(code, names, checker.births)
            operations.append(op)
            step(op)
            if not len(operations) % _SAMPLE_STATES:
                self.states.append(abstract(checker))

    def _do(self, op: Operation) -> None:
        self.operations.append(op)
        self.checker.step(op)

    def _compare_twin(self) -> None:
        """Now and then make the same calls on a second target: the answers must be the same."""
        if not self.rng.randrange(_TWIN_EVERY):
            compare_twins(self.checker, self.build, self.operations)
