"""Hunts: can this engine find that bug, how soon, and how small is what it finds?

A hunt is (bug, engine, seed, budget); it runs in a process of its own choosing and ends with the first
law that breaks.  Bugs of the gallery are hunted to measure the suite; canaries, one for each engine, to
see that it still can go red.

>>> caught = hunt("tlsf+T10", "plain", seed=1, seconds=20)
>>> caught.law, caught.length
('waste-bound', 1)
"""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from heaplaw.impls.bugs import Bug, gallery

from .engines import ENGINES, why_not
from .processes import Lost, each
from .replay import recurs
from .verdict import Tally

CANARIES = {
    "plain": "tlsf+T29", "hypothesis": "tlsf+T29", "exhaustive": "tlsf+T29", "fuzz": "tlsf+T29", "symbolic": "tlsf+T15",
}  # fmt: skip
"""What every engine must find within ``CANARY_SECONDS``; one that is not named here hunts the first of these."""
CANARY_SECONDS = 5.0
FOUND, MISSED, UNCLEAR, NOT_RUN = "found", "missed", "inconclusive", "not run"
OPERATIONS = 5_000_000  # of a hunt, at most


class Hunt(NamedTuple):
    """What became of a hunt."""

    target: str  # with the bug in its name
    engine: str
    seed: int
    verdict: str
    law: str = ""
    seconds: float = 0.0  # of CPU time until the law broke, or in all
    operations: int = 0  # until then
    met: int = 0  # operations of the run in which it broke
    length: int = 0  # of the smallest trace
    trace: str = ""
    why: str = ""  # it is unclear or not run


def canary(engine: str) -> str:
    """The bug that an engine must find at once."""
    return CANARIES.get(engine, next(iter(CANARIES.values())))


def hunt(target: str, engine: str, seed: int, seconds: float, operations: int = OPERATIONS) -> Hunt:
    """Let an engine look for the first law that breaks, for so long; not yet replayed.  Raises TargetError."""
    if (why := why_not(engine)) is not None:
        return Hunt(target, engine, seed, NOT_RUN, why=why)
    used = time.process_time()
    try:
        tally: Tally = ENGINES[engine](target, operations, seed, most=1, deadline=time.monotonic() + seconds)
    except ValueError as problem:  # states that cannot be kept, for an engine that must
        return Hunt(target, engine, seed, NOT_RUN, why=str(problem))
    if tally.findings:
        [found] = tally.findings
        return Hunt(
            target, engine, seed, FOUND, found.violation.law, round(found.seconds, 3), found.after, found.length,
            len(found.trace.operations), str(found.trace),
        )  # fmt: skip
    spent = round(time.process_time() - used, 3)
    if not tally.operations:
        return Hunt(target, engine, seed, NOT_RUN, why="nothing was executed")
    return Hunt(target, engine, seed, MISSED, "", spent, tally.operations)


def hunts(
    wanted: Sequence[tuple[str, str, int, float, int]],
    *,
    jobs: int = 1,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Hunt]:
    """Many hunts (target, engine, seed, seconds, operations), in processes; results in the same order.

    What is found is replayed in processes that have hunted nothing.  A process that a bug takes along costs
    that hunt only, which is inconclusive.
    """
    results = []
    for result in each(hunt, wanted, lambda index, problem: _unclear(wanted[index], problem), jobs=jobs):
        results.append(result)
        progress(len(results))
    found = [index for index, result in enumerate(results) if result.verdict == FOUND]
    again = each(recurs, [(results[index].trace,) for index in found], lambda index, problem: False, jobs=jobs)
    for index, sure in zip(found, again, strict=True):
        if not sure:
            results[index] = results[index]._replace(verdict=UNCLEAR, why="it does not recur")
    return results


def _unclear(wanted: tuple[str, str, int, float, int], problem: Exception) -> Hunt:
    """A hunt that has ended like this: of ours is what is raised, and worth a look; the matrix says whose."""
    target, engine, seed, *_ = wanted
    why = "it took its process along" if isinstance(problem, Lost) else f"{type(problem).__name__}: {problem}"
    return Hunt(target, engine, seed, UNCLEAR, why=why)


# ---- which bugs ------------------------------------------------------------------------------


def hunted() -> list[Bug]:
    """The bugs of the gallery that something can tell from their target."""
    return [bug for bug in gallery() if not bug.equivalent]


def quick() -> list[Bug]:
    """One bug for each law, the first by id that names it."""
    by_law: dict[str, Bug] = {}
    for bug in hunted():
        by_law.setdefault(bug.law, bug)
    return list(by_law.values())
