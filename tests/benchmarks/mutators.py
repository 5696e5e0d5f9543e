"""Does a mutator that knows operations find more than libFuzzer's own, which knows bytes?

    python tests/benchmarks/mutators.py [--ops 20000] [--bugs 60] [--seeds 2] [--jobs 2] [BUG ...]

Bugs of the gallery, those named or some drawn with a fixed seed, each hunted by fuzzing alone with either mutator, with
the same budget of checked operations.  Prints the share found, the operations until the first law broke, and where the
two differ.  Both start from the same random inputs, which find most bugs before anything is mutated; so what tells the
mutators apart are bugs that those do not find.
"""

import argparse
from collections.abc import Sequence
from random import Random
from statistics import median
from typing import NamedTuple

from heaplaw.fuzz.engine import Session, Settings
from heaplaw.properties.hunting import hunted
from heaplaw.properties.processes import each

MUTATORS = ("operations", "bytes")


class Hunt(NamedTuple):
    """One bug, one mutator, one seed."""

    bug: str
    mutator: str
    law: str = ""  # empty: not found
    after: int = 0  # operations
    seconds: float = 0.0


def hunt(bug: str, mutator: str, seed: int, operations: int) -> Hunt:
    """Fuzz until a law breaks, or the budget is spent."""
    settings = Settings(mutator="operations" if mutator == "operations" else "bytes")
    tally = Session(bug, operations, seed, most=1, settings=settings).go()
    if not tally.findings:
        return Hunt(bug, mutator)
    [found] = tally.findings
    return Hunt(bug, mutator, found.violation.law, found.after, found.seconds)


def report(hunts: Sequence[Hunt]) -> None:
    """A line for each mutator, and one for each bug that one of them finds more often."""
    for mutator in MUTATORS:
        mine = [one for one in hunts if one.mutator == mutator]
        found = [one for one in mine if one.law]
        print(
            f"{mutator:>10}: {len(found)} of {len(mine)} found ({len(found) / len(mine):.1%}), "
            f"median {median([one.after for one in found] or [0]):,.0f} operations, "
            f"{median([one.seconds for one in found] or [0]):.2f} s"
        )
    for bug in dict.fromkeys(one.bug for one in hunts):
        found = [one.mutator for one in hunts if one.bug == bug and one.law]
        if len({found.count(mutator) for mutator in MUTATORS}) > 1:
            print(f"  {bug}: " + ", ".join(f"{mutator} {found.count(mutator)}" for mutator in MUTATORS))


def main() -> None:
    """Draw, hunt, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("ops", 20_000), ("bugs", 60), ("seeds", 2), ("jobs", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("names", nargs="*", metavar="BUG", help="such as tlsf+T53")
    given = parser.parse_args()
    names = [bug.name for bug in hunted()]
    drawn = given.names or sorted(Random("mutators").sample(names, min(given.bugs, len(names))))
    work = [(bug, mutator, seed, given.ops) for bug in drawn for mutator in MUTATORS for seed in range(given.seeds)]
    report(list(each(hunt, work, lambda index, problem: Hunt(*work[index][:2]), jobs=given.jobs)))


if __name__ == "__main__":
    main()
