"""How small minimised counterexamples are, held against the shortest there are, and what minimising costs.

    python tests/benchmarks/minimizing.py [--quick] [--seconds S] [--operations N] [SUBJECT ...]

Subjects are the published revisions, the bugs of the gallery and those planted for the tests.  The plain
engine and Hypothesis find a violation, each on the tiny configuration of the subject and on the ordinary
ones; it is minimised, and the exhaustive engine then looks for a shorter trace that breaks the same law of
the same target, other laws aside, over the sizes of that trace and those that it would choose itself.
``raw`` and ``least`` count operations.  ``shortest`` is what the exhaustive engine found; ``>=N`` where it
has covered all traces of fewer than N operations and there is none, and ``>N?`` where its time was up
after N.  Seconds are this process's own.
"""

import argparse
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

from heaplaw.impls.bugs import gallery
from heaplaw.impls.naming import parse
from heaplaw.impls.registry import BUILT_IN, factory
from heaplaw.operations import Kind
from heaplaw.properties import plain, workhorse
from heaplaw.properties.alphabet import default_sizes
from heaplaw.properties.exhaustive import explore
from heaplaw.properties.smaller_arena import reduced
from heaplaw.properties.tallying import Tallying, pinpoint_bounded
from heaplaw.properties.tiny import tiny
from heaplaw.runs import Violation
from heaplaw.twins import TWIN_LAWS

PLANTED = Path(__file__).parent.parent / "planted.py"
PLANTED_BUGS = ("Overlap", "RefuseAll", "LeaksOnRefusal", "LosesTheLastByte", "ForgetsMerge", "Crashes", "Loops")
QUICK = ("tlsf@conte-3.1", "percpu-bitmap@6.12", "xvmalloc@2.6.33", f"{PLANTED}:ForgetsMerge")
SLOW, GOAL = 2.0, 1.3


class Row(NamedTuple):
    """One violation, minimised."""

    engine: str
    target: str
    law: str
    raw: int
    least: int
    shortest: str
    ratio: float | None  # None: not reached
    seconds: float


ENGINES = {"plain": plain, "hypothesis": workhorse}
Raw = tuple[str, Violation, frozenset[str]]
"""A configuration, a violation as it was found there, and the laws that were muted."""


def findings(engine: str, name: str, operations: int, seed: int) -> list[Raw]:
    """What an engine finds, each law once, nothing minimised."""
    raw: list[Raw] = []

    def keep(work: Tallying, variant: str, found: Violation, deadline: float) -> None:
        if found.law not in TWIN_LAWS:
            found = pinpoint_bounded(work.builders[variant], found, work.mute)
        raw.append((variant, found, frozenset(work.mute)))
        work.mute.add(found.law)

    with patch.object(Tallying, "convict", keep):
        ENGINES[engine].check(name, operations, seed)
    return raw


def measured(engine: str, found_on: str, found: Violation, mute: Iterable[str], seconds: float) -> Row:
    """Minimise a violation, and look for a shorter one."""
    started = time.process_time()
    target, best = reduced(found_on, found, tuple(mute))
    took = time.process_time() - started
    least = len(best.trace.operations)
    shortest, ratio = exhaustive(target, best, seconds)
    return Row(engine, target, best.law, len(found.trace.operations), least, shortest, ratio, took)


def exhaustive(target: str, best: Violation, seconds: float) -> tuple[str, float | None]:
    """What the exhaustive engine says of the same law, and the ratio of the lengths.

    Over the sizes of the trace, then those that the engine would take, then all of them.
    """
    least = len(best.trace.operations)
    if least == 1:
        return "1", 1.0
    if best.law in TWIN_LAWS:
        return "not asked", None
    contract: Any = factory(target)().contract
    own = {op.size for op in best.trace.operations if op.kind in (Kind.ALLOC, Kind.REALLOC) and op.size}
    chosen = set(tiny(str(parse(target)._replace(parameters={}))).sizes) if ":" not in target else set()
    chosen = {size for size in chosen if size <= contract.largest} or set(default_sizes(contract))
    shortest, covered = least + 1, [0, 0]
    for at, sizes in enumerate((own or chosen, own | chosen)):
        try:
            with patch("heaplaw.properties.exhaustive._replay_sample"):  # a broken target may not stand it
                done = explore(target, only=[best.law], depth=least, sizes=sorted(sizes), seconds=seconds)
        except Exception as problem:
            return type(problem).__name__, None
        covered[at] = done.depth if not done.closed else least
        if done.finding is not None:
            shortest = min(shortest, len(done.finding.trace.operations))
    if shortest < least or (shortest == least and max(covered) >= least - 1):
        return str(shortest), least / shortest
    if max(covered) >= least - 1:
        return f">={least}" + " own" * (covered[1] < least - 1), 1.0
    return f">{max(covered)}?", None


def subjects() -> list[str]:
    """Everything that has a bug."""
    published = [f"{name}@{revision}" for name, entry in BUILT_IN.items() for revision in entry.revisions]
    planted = [f"{PLANTED}:{name}" for name in PLANTED_BUGS]
    return [*published, *(bug.name for bug in gallery() if not bug.equivalent), *planted]


def rows(subject: str, engine: str, operations: int, seconds: float, seed: int) -> Iterator[Row]:
    """Each law once on the tiny configuration, and once on the ordinary ones."""
    for name in dict.fromkeys((tiny(subject).name, subject)):
        for found_on, found, mute in findings(engine, name, operations, seed):
            yield measured(engine, found_on, found, mute, seconds)


def main() -> None:
    """Print a line a violation and what it comes to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few subjects only")
    parser.add_argument("--operations", type=int, default=6_000, help="that each engine may run on a configuration")
    parser.add_argument("--seconds", type=float, default=5.0, help="that the exhaustive engine may look at each")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--engine", choices=ENGINES, action="append")
    parser.add_argument("subjects", nargs="*")
    options = parser.parse_args()
    names = options.subjects or (QUICK if options.quick else subjects())
    print(f"{'target':<52} {'law':<21} {'engine':<11} {'raw':>4} {'least':>5} {'shortest':>9} {'ratio':>6} {'sec':>6}")
    seen = []
    for subject in names:
        for engine in options.engine or ENGINES:
            for row in rows(subject, engine, options.operations, options.seconds, options.seed):
                show(row)
                seen.append(row)
    summary(seen)


def show(row: Row) -> None:
    """One line; marked where it misses a goal."""
    ratio = "-" if row.ratio is None else f"{row.ratio:.2f}"
    mark = " *" * ((row.ratio or 0) > 1) + " slow" * (row.seconds > SLOW)
    target = row.target.replace(str(PLANTED), "planted")
    print(
        f"{target:<52} {row.law:<21} {row.engine:<11} {row.raw:>4} {row.least:>5} {row.shortest:>9} {ratio:>6}"
        f" {row.seconds:>6.2f}{mark}"
    )
    sys.stdout.flush()


def summary(seen: list[Row]) -> None:
    """What all lines come to."""
    reached = [row.ratio for row in seen if row.ratio is not None]
    if not reached:
        raise SystemExit("nothing was found")
    one = sum(ratio <= 1 for ratio in reached)
    slowest = max(seen, key=lambda row: row.seconds)
    slow = sum(row.seconds > SLOW for row in seen)
    print(
        f"\n{len(seen)} violations, {len(reached)} of them with a shortest length to compare with:"
        f" ratio at most 1.0 in {one / len(reached):.1%}, worst {max(reached):.2f} (goal {GOAL});"
        f" slowest {slowest.seconds:.2f} s ({slowest.target} {slowest.law}), {slow} over {SLOW:.0f} s"
    )


if __name__ == "__main__":
    main()
