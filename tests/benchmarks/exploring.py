"""What exhaustive search costs: new states and transitions a second, on one process and on all.

    python tests/benchmarks/exploring.py [--quick] [--jobs N]

Every run searches the same state space until it closes, all laws asked; the certificates must be
equal.  A pure loop is timed beside it, so that figures of a busy machine can be told from others.
"""

import argparse
import os
import time

from heaplaw.operations import Kind
from heaplaw.properties.certificate import Certificate
from heaplaw.properties.exhaustive import explore

SPACES = {
    "requests and frees": ("tlsf,arena=256,sl=1", (8, 48), {Kind.ALLOC, Kind.FREE}),
    "resizing and misuse too": ("tlsf,arena=192,sl=1", (8, 48), set(Kind)),
}
QUICK = {"requests and frees": ("tlsf,arena=192,sl=1", (8, 48), {Kind.ALLOC, Kind.FREE})}


def loop_rate() -> float:
    """Millions of turns of an empty loop a second, the best of a few: how fast this machine is now."""
    best = 0.0
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(200_000):
            pass
        best = max(best, 0.2 / (time.perf_counter() - started))
    return best


def search(space: tuple[str, tuple[int, ...], set[Kind]], jobs: int) -> Certificate:
    """One whole search."""
    name, sizes, kinds = space
    return explore(name, sizes=sizes, kinds={int(kind) for kind in kinds}, aligns=(), jobs=jobs)


def main() -> None:
    """Print a line a space and number of jobs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small space only")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    print(f"{'what':<26}{'jobs':>5}{'states':>9}{'transitions':>13}{'seconds':>9}", end="")
    print(f"{'states/s':>10}{'trans/s':>10}{'loop M/s':>10}")
    for what, space in (QUICK if options.quick else SPACES).items():
        certificates = []
        for jobs in dict.fromkeys((1, options.jobs)):
            done = search(space, jobs)
            certificates.append(done)
            rates = f"{done.rate:>10,.0f}{done.transitions / done.seconds:>10,.0f}{loop_rate():>10.0f}"
            print(f"{what:<26}{jobs:>5}{done.states:>9,}{done.transitions:>13,}{done.seconds:>9.1f}{rates}")
        if not all(done.same(certificates[0]) for done in certificates):
            raise SystemExit("the certificates differ")


if __name__ == "__main__":
    main()
