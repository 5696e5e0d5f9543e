"""Every input of the corpus is run: what a campaign has found worth keeping, a gate asks again.

A quick gate takes some of a large corpus, spread over it evenly, always the same ones.

>>> spread(list(range(10)), 3), spread([1, 2], 3)
([0, 3, 6], [1, 2])
"""

import time
from collections.abc import Sequence
from typing import TypeVar

from heaplaw.properties.shards import confirm_all
from heaplaw.properties.tallying import Tallying
from heaplaw.properties.verdict import Status, Tally

from ..corpus import Corpus, Loaded
from ..inputs import Lifted, unpack, variant_of
from ..isolating import needs_isolation
from ..options import Problem, bar
from ..reports.model import Step
from ..reports.wording import counted
from ..store import StoreError
from .running import Gate, Target, clock

NAME = "corpus"
_MACHINE_CODE = "an input is run in this process, which machine code may take along; commit its traces instead"
_T = TypeVar("_T")


def spread(some: Sequence[_T], most: int | None) -> list[_T]:
    """At most so many of them, at even distances."""
    if most is None or len(some) <= most:
        return list(some)
    return [some[number * len(some) // most] for number in range(most)]


def check(gate: Gate) -> None:
    """Run the inputs of every target.  A corpus that is configured and has none for a target was not run."""
    place = gate.settings.corpus
    if not place:
        return
    steps = []
    with clock() as since:
        store = _open(place)
        for target in gate.targets:
            if needs_isolation(target.name):
                steps.append(Step(NAME, target.name, Status.NOT_APPLICABLE, _MACHINE_CODE))
            else:
                steps.append(_run(gate, target, _load(store, target.name)))
        seconds = since()
    if all(step.verdict is Status.NOT_APPLICABLE for step in steps):
        steps.append(Step(NAME, place, Status.NOT_RUN, "no target of this gate can use it"))
    ran = sum(tally.runs for tally in gate.tallies if tally.engine == NAME)
    gate.enter(NAME, steps, f"{counted(ran, 'input')} of {place} run", seconds)


def _open(place: str) -> Corpus:
    try:
        return Corpus(place)
    except StoreError as problem:
        raise Problem(str(problem)) from None


def _load(store: Corpus, target: str) -> Loaded:
    try:
        return store.load(target)
    except StoreError as problem:
        raise Problem(str(problem)) from None


def _run(gate: Gate, target: Target, loaded: Loaded) -> Step:
    """All inputs of a target, or some of them, as one tally."""
    chosen = spread(list(loaded.inputs.items()), gate.budget.inputs)
    if not chosen:
        empty = f"no input in {gate.settings.corpus} for it"
        return Step(NAME, target.name, Status.NOT_RUN, "; ".join([empty, *loaded.complaints()]))
    tally = _tally(gate, target, [data for _, data in chosen])
    confirm_all(tally)
    gate.tallies.append(tally)
    return _verdict(target, tally, loaded, len(chosen))


def _tally(gate: Gate, target: Target, inputs: Sequence[bytes]) -> Tally:
    """What running them came to; what breaks is made small, and its law goes silent for those that follow."""
    work = Tallying(target.name, NAME, 0, gate.seed.number, target.only)
    work.tally.lacking |= target.muted
    names = list(work.builders)
    with bar(f"corpus of {target.name}", len(inputs), "inputs") as progress:
        for number, data in enumerate(inputs):
            if gate.late:
                work.tally.stopped = f"time was up after {number:,} of {len(inputs):,} inputs"
                break
            _run_input(gate, work, variant_of(data, names), data)
            progress(number + 1)
    tally = work.done()
    tally.planned = tally.operations + bool(tally.stopped)
    return tally


def _run_input(gate: Gate, work: Tallying, variant: str, data: bytes) -> None:
    """One input, as often as it breaks another law: each that broke is left out the next time."""
    body = unpack(data)
    assert body is not None  # what is loaded has a header
    while True:
        run = Lifted(work.builders[variant], body, work.mute)
        violation = run.go()
        work.enter(run)
        if violation is None:
            return
        work.convict(variant, violation, time.monotonic() + gate.left())


def _verdict(target: Target, tally: Tally, loaded: Loaded, count: int) -> Step:
    said = f"{tally.runs:,} inputs, {tally.operations:,} operations"
    if count < len(loaded.inputs):
        said = f"{count:,} of {len(loaded.inputs):,} inputs, {tally.operations:,} operations"
    if tally.findings:
        broken = ", ".join(finding.violation.law for finding in tally.findings)
        return Step(NAME, target.name, Status.REFUTED, f"{said}: breaks {broken}")
    if tally.flaky or tally.stopped or loaded.damaged:
        flaky = ["a violation did not recur in a fresh process"] if tally.flaky else []
        why = [text for text in (tally.stopped, *loaded.complaints(), *flaky) if text]
        return Step(NAME, target.name, Status.INCONCLUSIVE, "; ".join(why))
    if not tally.operations:
        return Step(NAME, target.name, Status.NOT_RUN, "nothing was executed")
    return Step(NAME, target.name, Status.PASSED, "; ".join([said, *loaded.complaints()]))
