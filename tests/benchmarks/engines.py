"""What each engine costs: checked operations a second on the same target and laws.

    python tests/benchmarks/engines.py [--quick] [TARGET ...]

The plain loop, Hypothesis's workhorse (one draw a run), the rule machine (a draw a step) and the
exhaustive search (transitions).  Seconds are this process's own, so that a busy machine tilts
nothing; rounds alternate, and the median of each engine counts.
"""

import argparse
import statistics
import time
from collections.abc import Callable

from hypothesis import HealthCheck, Phase, Verbosity, settings
from hypothesis.stateful import run_state_machine_as_test

from heaplaw.properties import plain, workhorse
from heaplaw.properties.exhaustive import explore
from heaplaw.properties.machine import rule_machine

TARGETS = ("tlsf,arena=192,sl=1", "tlsf,arena=4096", "percpu-bitmap,unit=256,block=64,chunks=2", "buddy,pages=64")
SMALL = {"tlsf,arena=192,sl=1": (8, 48)}  # whose states can all be visited, and with which sizes
STEPS = 50  # of an example of the rule machine


def plain_loop(name: str, operations: int, seed: int) -> int:
    return plain.check(name, operations, seed).operations


def one_draw(name: str, operations: int, seed: int) -> int:
    return workhorse.check(name, operations, seed).operations


def rules(name: str, operations: int, seed: int) -> int:
    """Examples of fifty steps; an example's drain and destroy count as everywhere."""
    done = 0

    class Counted(rule_machine(name)):  # type: ignore[misc]
        def teardown(self) -> None:
            nonlocal done
            super().teardown()
            done += self.checker.index + 1

    how = settings(
        max_examples=max(1, operations // STEPS), stateful_step_count=STEPS, database=None, derandomize=True,
        deadline=None, phases=(Phase.generate,), verbosity=Verbosity.quiet, suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    run_state_machine_as_test(Counted, settings=how)
    return done


def exhaustive(name: str, operations: int, seed: int) -> int:
    return explore(name, sizes=SMALL[name], aligns=()).transitions


ENGINES: dict[str, Callable[[str, int, int], int]] = {
    "plain loop": plain_loop, "workhorse": one_draw, "rule machine": rules, "exhaustive": exhaustive,
}  # fmt: skip


def rate(engine: Callable[[str, int, int], int], name: str, operations: int, seed: int) -> float:
    """Checked operations a second of this process's time."""
    started = time.process_time()
    done = engine(name, operations, seed)
    return done / (time.process_time() - started)


def main() -> None:
    """Print a line a target."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer operations, one round")
    parser.add_argument("targets", nargs="*", default=TARGETS)
    options = parser.parse_args()
    rounds, operations = (1, 4_000) if options.quick else (3, 20_000)
    print(f"{'target':<42}" + "".join(f"{engine:>14}" for engine in ENGINES) + "   workhorse : rules")
    for name in options.targets:
        rates: dict[str, list[float]] = {engine: [] for engine in ENGINES}
        for seed in range(rounds):
            for title, engine in ENGINES.items():
                if engine is not exhaustive or name in SMALL:
                    rates[title].append(rate(engine, name, operations, seed))
        middle = {title: statistics.median(seen) for title, seen in rates.items() if seen}
        line = "".join(f"{middle[title]:>14,.0f}" if title in middle else f"{'-':>14}" for title in ENGINES)
        print(f"{name:<42}{line}{middle['workhorse'] / middle['rule machine']:>15.1f}x")


if __name__ == "__main__":
    main()
