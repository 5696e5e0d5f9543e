"""The exhaustive engine behind the interface that all engines have: a budget, a seed, a tally with findings.

A target is searched in its tiny configuration; laws that break are left out one by one, and the search
begins anew for the others.  Nothing is drawn, so the seed changes nothing.

>>> tally = check("subpage-buddy", 10_000, seed=1)
>>> tally.findings, tally.status("coalesced").value, tally.operations < 10_000
([], 'passed', True)
"""

import time
from collections.abc import Callable, Iterable

from heaplaw.checker import Checker, lacking
from heaplaw.impls.registry import factory
from heaplaw.lawbook import LAWS

from .exhaustive import NAME, explore
from .reached import words
from .tiny import tiny
from .verdict import Tally

_FOREVER = 365 * 86_400.0  # seconds


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
    """Search a target until it closes, to its usual depth, or for about ``operations`` transitions.

    ``only`` limits the laws, ``most`` the findings.  ``deadline`` is a ``time.monotonic`` value.
    What was not searched to its end is inconclusive.  Raises TargetError; ValueError where states cannot be kept.
    """
    search = tiny(name)
    checker = Checker(factory(search.name)())
    chosen = set(only)
    asked = [law for law in LAWS if law in chosen or not chosen]
    tally = Tally(name, NAME, lacking=lacking(checker.shows, checker.contract))
    tally.reachable = dict.fromkeys(words(factory(search.name)), True)
    tally.lacking.update((law, "not asked for") for law in LAWS if law not in asked)
    tally.asked = {law: True for law in asked if law not in tally.lacking}
    started, used = time.monotonic(), time.process_time()
    while asked and len(tally.findings) < (len(LAWS) if most is None else most):
        left = operations - tally.operations
        done = explore(
            search.name, depth=search.depth, sizes=search.sizes, only=asked, most_states=max(1, left),
            seconds=min(_FOREVER, deadline - time.monotonic()),
            progress=lambda states, total=None: progress(states),
        )  # fmt: skip
        tally.runs += 1
        tally.operations += done.transitions
        tally.evidence.update(done.asked)
        tally.reached.update(done.reached)
        if done.finding is None:
            tally.stopped = done.stopped or (done.unconfirmed and "what was seen did not recur")
            tally.planned = tally.operations + bool(tally.stopped)
            break
        found = done.finding
        found.after, found.seconds = tally.operations, time.process_time() - used
        found.length = len(found.trace.operations)
        tally.findings.append(found)
        asked.remove(found.violation.law)
    tally.seconds = time.monotonic() - started
    return tally
