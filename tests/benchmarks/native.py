"""Operations a second on native targets: single calls and batches, unchecked and checked.

    python tests/benchmarks/native.py [--ops 200000] [--live 100] [--batch 512] [--rounds 7] [TARGET ...]

The two examples, compiled here with ``-O2``, when no target is named.  Operations are made beforehand: half of them
free and half allocate around a constant number of live objects of 1 to 400 bytes, on heaps of 1 MiB.  Seconds are of
this process's processor time; the best of the rounds counts, and all rows take turns.

    binding      cffi's function, called with integers
    single       alloc and free of the target, as every engine calls them
    batch        heaplaw_batch: a whole array in one call
    stepped      the checker, one operation after the other, audits on its schedule
    watched      batches watched in C, and one audit by the checker after each

The goals are 1,000,000 single calls, 5,000,000 batched and 300,000 fully checked operations a second; ends with 1 if
one of them is missed.
"""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from heaplaw import Checker, Kind, Operation
from heaplaw.impls.native import HEADER
from heaplaw.impls.native.batches import NOT_DONE, SIZE, Batches, pack
from heaplaw.impls.native.compiling import compile_library
from heaplaw.impls.native.watching import Watched
from heaplaw.impls.registry import factory

GOALS = {"single": 1_000_000, "batch": 5_000_000, "watched": 300_000}
_ARENA = 1 << 20


def operations(count: int, live_most: int) -> list[Operation]:
    """Fill up to a level, then free one and allocate one."""
    rng, live, chosen = random.Random(1), [], []
    births = 0
    while len(chosen) < count:
        if len(live) >= live_most:
            chosen.append(Operation(Kind.FREE, live.pop(rng.randrange(len(live)))))
        else:
            chosen.append(Operation(Kind.ALLOC, births, rng.randrange(1, 400)))
            live.append(births)
            births += 1
    return chosen


def calls(ops: list[Operation]) -> list[tuple[int, int]]:
    """(name, size) of what is to be allocated, (name, -1) of what is to be freed."""
    return [(op.name, op.size if op.kind == Kind.ALLOC else -1) for op in ops]


def timed(alloc: Callable[[int], Any], free: Callable[[Any], Any], ops: list[Operation]) -> float:
    """Single calls of two functions."""
    handles: list[Any] = [None] * len(ops)
    plan = calls(ops)
    began = time.process_time()
    for name, size in plan:
        if size < 0:
            free(handles[name])
        else:
            handles[name] = alloc(size)
    return time.process_time() - began


def binding(build: Callable[[], Any], ops: list[Operation], batch: int) -> float:
    """The library's own functions, without a target around them."""
    target = build()
    opened, heap = target.library.opened, target.heap
    alloc, free = opened.heaplaw_alloc, opened.heaplaw_free
    handles = [0] * len(ops)
    plan = calls(ops)
    began = time.process_time()
    for name, size in plan:
        if size < 0:
            free(heap, handles[name])
        else:
            handles[name] = alloc(heap, size)
    return time.process_time() - began


def single(build: Callable[[], Any], ops: list[Operation], batch: int) -> float:
    """The target's methods."""
    target = build()
    return timed(target.alloc, target.free, ops)


def batched(build: Callable[[], Any], ops: list[Operation], batch: int) -> float:
    """Arrays of ``batch`` operations, packed beforehand."""
    target = build()
    table = Batches(target, len(ops))
    packed = pack(ops, ())
    parts = [packed[at : at + batch * SIZE] for at in range(0, len(packed), batch * SIZE)]
    results = target.library.ffi.new("uint64_t[]", [NOT_DONE] * batch)
    began = time.process_time()
    for part in parts:
        table.run_packed(part, results)
    return time.process_time() - began


def stepped(build: Callable[[], Any], ops: list[Operation], batch: int) -> float:
    """The checker on every operation."""
    checker = Checker(build())
    began = time.process_time()
    for op in ops:
        checker.step(op)
    checker.finish()
    return time.process_time() - began


def watched(build: Callable[[], Any], ops: list[Operation], batch: int) -> float:
    """Watched batches, packed beforehand, with the audits that follow them."""
    watch = Watched(build, len(ops))
    packed = pack(ops, ())
    parts = [packed[at : at + batch * SIZE] for at in range(0, len(packed), batch * SIZE)]
    began = time.process_time()
    for part in parts:
        if (found := watch.run_packed(part)) is not None:
            raise SystemExit(f"breaks {found.law} at operation {found.index + 1}")
    if watch.finish() is not None:
        raise SystemExit("breaks a law at the end")
    return time.process_time() - began


ROWS = {"binding": binding, "single": single, "batch": batched, "stepped": stepped, "watched": watched}


def examples(folder: Path) -> list[str]:
    """The two examples, compiled."""
    here = HEADER.parent / "examples"
    shows = "-DSHOWN=(HEAPLAW_PROMISES | HEAPLAW_OBSERVES)"
    first_fit = [here / name for name in ("first_fit.c", "first_fit_adapter.c", "first_fit_shown.c")]
    buddy = [here / name for name in ("buddy.cpp", "buddy_adapter.cpp")]
    return [str(compile_library(first_fit, folder, [shows])), str(compile_library(buddy, folder))]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("targets", nargs="*")
    parser.add_argument("--ops", type=int, default=200_000)
    parser.add_argument("--live", type=int, default=100)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    missed = []
    print(f"{options.ops:,} operations, {options.live:,} live objects, batches of {options.batch:,}")
    print(f"{'':24}" + "".join(f"{row:>14}" for row in ROWS))
    with tempfile.TemporaryDirectory() as folder:
        for name in options.targets or examples(Path(folder)):
            build = factory(name if "," in name else f"{name},arena={_ARENA}")
            ops = operations(options.ops, options.live)
            best = dict.fromkeys(ROWS, float("inf"))
            for _ in range(options.rounds):
                for row, measure in ROWS.items():
                    best[row] = min(best[row], measure(build, ops, options.batch))
            rates = {row: options.ops / seconds for row, seconds in best.items()}
            print(f"{Path(name).name:24}" + "".join(f"{rate:14,.0f}" for rate in rates.values()), flush=True)
            missed += [f"{Path(name).name}: {row} below {goal:,}" for row, goal in GOALS.items() if rates[row] < goal]
    print("\n".join(missed) or "all goals are met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
