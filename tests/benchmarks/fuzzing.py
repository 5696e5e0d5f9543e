"""What the fuzzing harness costs: inputs and operations a second, beside an empty target and Hypothesis.

    python tests/benchmarks/fuzzing.py [--quick] [TARGET ...]

The same inputs of fifty operations go through the harness under libFuzzer (with states, with code, with both as
feedback), through an empty function under libFuzzer, and through ``fuzz_one_input`` of the Hypothesis engine's test.
A mutator that deals the inputs out takes the place of the real one, so that every row runs the same; what the real
one costs has a row of its own.  The bare checker on the operations of the same inputs shows what is left to gain, and
``fuzz_one_input`` of the rule machine, which reads other bytes, what a draw for each step would cost.  Seconds are a
process's own, so that a busy machine tilts nothing; rounds alternate.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import cycle
from random import Random

from hypothesis import given, settings
from hypothesis.stateful import get_state_machine_test

from heaplaw.checker import Checker
from heaplaw.codec import Codec
from heaplaw.fuzz.feedback import Counters, instrument
from heaplaw.fuzz.harness import Harness, Plan
from heaplaw.fuzz.inputs import WIDTH, lift, pack, unpack
from heaplaw.fuzz.mutator import Mutator
from heaplaw.impls.registry import factory, variants
from heaplaw.properties.machine import rule_machine
from heaplaw.properties.steering import LENGTH
from heaplaw.properties.tallying import Tallying
from heaplaw.properties.workhorse import _Batch, buffers

TARGETS = ("tlsf,arena=4096", "percpu-bitmap,unit=256,block=64,chunks=2")
OPERATIONS = 50
ROWS = (
    "empty", "states", "code", "both", "states, no laws", "checker alone", "fuzz_one_input", "rule machine",
    "mutator alone",
)  # fmt: skip
_DISTINCT = 500  # inputs, dealt out again and again


def inputs() -> list[bytes]:
    """Half of them requests and frees alone, the others with random heads."""
    rng = Random(1)
    heads = [bytes(LENGTH) if index % 2 else rng.randbytes(LENGTH) for index in range(_DISTINCT)]
    return [pack(head + rng.randbytes(WIDTH * OPERATIONS)) for head in heads]


def under_libfuzzer(row: str, target: str, count: int) -> None:
    """In a process of its own: print seconds and operations of ``count`` inputs, and end with them."""
    import atheris

    deal = cycle(inputs())
    harness = Harness(target)
    harness.prepare(Plan())
    if row in ("states", "both", "states, no laws"):
        harness.counters = Counters()
    if row in ("code", "both"):
        instrument(target)
    if row == "states, no laws":
        from heaplaw.lawbook import LAWS

        harness.mute = frozenset(LAWS)
    executed = started = 0.0

    def one(data: bytes) -> int:
        nonlocal executed, started
        executed += 1
        if executed == 20:  # libFuzzer has begun
            started, before[0] = time.process_time(), harness.work.tally.operations
        if executed >= count + 20:
            seconds = time.process_time() - started
            print(json.dumps([seconds, harness.work.tally.operations - before[0]]), flush=True)
            os._exit(0)
        return 0 if row == "empty" else harness(data)

    before = [0]
    atheris.Setup([sys.argv[0], "-seed=1"], one, custom_mutator=lambda data, most, seed: next(deal)[:most])
    atheris.Fuzz()


def hypothesis_test(target: str, count: int) -> tuple[float, int]:
    """The Hypothesis engine's own test, fed the same bytes."""
    [variant] = variants(target)
    work = Tallying(target, "hypothesis", 1 << 60, 1)
    batch = _Batch(work, variant, lambda: False)

    @settings(database=None, deadline=None)
    @given(buffers(OPERATIONS))
    def test(buffer: bytes) -> None:
        batch(buffer)

    feed: Callable[[bytes], bytes | None] = test.hypothesis.fuzz_one_input  # type: ignore[attr-defined]
    bodies = cycle([unpack(data) or b"" for data in inputs()])
    for _ in range(20):
        feed(next(bodies))
    started, before = time.process_time(), work.tally.operations
    for _ in range(count):
        assert feed(next(bodies)) is not None
    return time.process_time() - started, work.tally.operations - before


def checker_alone(target: str, count: int) -> tuple[float, int]:
    """The operations of the same inputs, known beforehand: nothing is decoded, steered or watched."""
    [variant] = variants(target)
    build = factory(variant)
    runs = cycle([lift(variant, unpack(data) or b"").operations for data in inputs()])
    operations, started = 0, time.process_time()
    for _ in range(count):
        checker = Checker(build())
        for op in (todo := next(runs)):
            checker.step(op)
        checker.finish()
        operations += len(todo)
    return time.process_time() - started, operations


def rule_machine_alone(target: str, count: int) -> tuple[float, int]:
    """The rule machine under ``fuzz_one_input``: bytes of its own, operations as far as they go."""
    operations = 0

    class Counted(rule_machine(target)):  # type: ignore[misc]
        def teardown(self) -> None:
            nonlocal operations
            super().teardown()
            operations += self.checker.index + 1

    test = get_state_machine_test(Counted, settings=settings(database=None, stateful_step_count=OPERATIONS))
    rng = Random(1)
    count //= 10
    started = time.process_time()
    for _ in range(count):
        test.hypothesis.fuzz_one_input(rng.randbytes(4096))
    seconds = time.process_time() - started
    return seconds * 10, operations * 10


def mutator_alone(target: str, count: int) -> tuple[float, int]:
    """Inputs changed one after the other, not run."""
    harness = Harness(target)
    harness.prepare(Plan())
    mutate = Mutator([len(Codec(build().contract).sizes) for build in harness.builders])
    all_of_them = inputs()
    started = time.process_time()
    for index in range(count):
        mutate(all_of_them[index % _DISTINCT], 1000, index)
    return time.process_time() - started, count * OPERATIONS


def measure(row: str, target: str, count: int) -> tuple[float, int]:
    """(seconds, operations) of a row."""
    if row == "fuzz_one_input":
        return hypothesis_test(target, count)
    if row == "checker alone":
        return checker_alone(target, count)
    if row == "rule machine":
        return rule_machine_alone(target, count)
    if row == "mutator alone":
        return mutator_alone(target, count)
    command = [sys.executable, __file__, "--child", row, "--count", str(count), target]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    line = next((text for text in done.stdout.splitlines() if text.startswith("[")), None)
    if line is None:
        raise SystemExit(f"{row} on {target}: {done.stderr[-2000:]}")
    seconds, operations = json.loads(line)
    return seconds, operations


def main() -> None:
    """Print a table a target."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer inputs, one round")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, default=1000, help="inputs of a row and round")
    parser.add_argument("targets", nargs="*", default=TARGETS)
    options = parser.parse_args()
    if options.child:
        under_libfuzzer(options.child, options.targets[0], options.count)
    rounds, count = (1, 300) if options.quick else (3, options.count)
    for target in options.targets:
        seen: dict[str, list[tuple[float, float]]] = {row: [] for row in ROWS}
        for _ in range(rounds):
            for row in ROWS:
                seconds, operations = measure(row, target, count)
                seen[row].append((count / seconds, operations / seconds))
        print(f"{target:<52}{'inputs/s':>12}{'operations/s':>14}{'of Hypothesis':>15}")
        base = statistics.median(rate for rate, _ in seen["fuzz_one_input"])
        for row in ROWS:
            rate = statistics.median(one for one, _ in seen[row])
            done = f"{statistics.median(two for _, two in seen[row]):>14,.0f}" if row != "empty" else f"{'-':>14}"
            print(f"  {row:<50}{rate:>12,.0f}{done}{rate / base:>14.2f}x")


if __name__ == "__main__":
    main()
