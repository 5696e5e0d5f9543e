"""What checking costs: checked operations a second beside the same operations on the bare target.

    python tests/benchmarks/checking.py [--quick] [--every | --calls]

Bare and checked runs alternate, so a machine whose speed drifts does not tilt the
ratio; medians over the rounds.  ``mixed`` frees and allocates at random around a
constant number of live objects of 8 to 200 bytes.  With ``--every`` it is all built-in
targets as they are, each around 64 live objects of sizes that it serves.  ``--calls``
counts what an operation calls, which no cache and no neighbour on the machine can change.
"""

import argparse
import cProfile
import random
import statistics
import time
from collections.abc import Iterator, Sequence

from heaplaw import Context, Contract, Kind, Operation, Refusal
from heaplaw.checker import Checker
from heaplaw.codec import Codec
from heaplaw.impls.registry import BUILT_IN, factory


class Bump:
    """The trivial target: bumps, and reuses freed blocks of the same size."""

    contract = Contract(arena=1 << 40)

    def __init__(self) -> None:
        self.top = 0
        self.holes: dict[int, list[int]] = {}
        self.sizes: dict[int, int] = {}

    def alloc(self, size: int, align: int = 1, *, ctx: object = None) -> int:
        holes = self.holes.get(size)
        if holes:
            return holes.pop()
        start = self.top
        self.top = start + size
        self.sizes[start] = size
        return start

    def free(self, handle: int) -> None:
        self.holes.setdefault(self.sizes[handle], []).append(handle)


TARGETS = {
    "bump (trivial)": lambda live: Bump,
    "tlsf": lambda live: factory(f"tlsf,arena={max(1 << 18, live * 512)}"),
    "percpu-bitmap": lambda live: factory(f"percpu-bitmap,unit={max(1 << 17, live * 512)},chunks=1"),
    "buddy": lambda live: factory(f"buddy,pages={1 << (live * 2).bit_length()}"),
    "zsmalloc": lambda live: factory(f"zsmalloc,pages={max(64, live // 4)}"),
}

LIVE = (100, 1_000, 10_000, 100_000)
MOST = {"percpu-bitmap": 10_000}  # live objects: its own search is linear in the unit's blocks


def operations(sizes: Sequence[int], live: int, count: int) -> tuple[list[Operation], list[Operation]]:
    """(filling up to ``live`` objects of these sizes, ``count`` operations around that level)."""
    rng = random.Random(live)
    names: list[int] = []
    births = 0

    def alloc() -> Operation:
        nonlocal births
        names.append(births)
        births += 1
        return Operation(int(Kind.ALLOC), births - 1, rng.choice(sizes))

    filling = [alloc() for _ in range(live)]
    mixed = []
    for _ in range(count):
        if len(names) < live or (len(names) < live + 10 and rng.random() < 0.5):
            mixed.append(alloc())
        else:
            index = rng.randrange(len(names))
            names[index], names[-1] = names[-1], names[index]
            mixed.append(Operation(int(Kind.FREE), names.pop()))
    return filling, mixed


def bare(build, filling, mixed) -> float:
    """Operations a second of the target alone."""
    target = build()
    contract = target.contract
    sized, contextual = contract.sized_free, contract.contextual
    ctx = Context()
    alloc, free, handles, sizes = target.alloc, target.free, {}, {}
    for phase in (filling, mixed):
        started = time.perf_counter()
        for kind, name, size, align, _ in phase:
            if kind == 1:
                handles[name] = alloc(size, align, ctx=ctx) if contextual else alloc(size, align)
                sizes[name] = size
            elif (handle := handles[name]) is None or handle.__class__ is Refusal:
                continue
            elif sized:
                free(handle, sizes[name])
            else:
                free(handle)
    return len(mixed) / (time.perf_counter() - started)


def checked(build, filling, mixed) -> float:
    """Operations a second with every applicable law on."""
    checker = Checker(build())
    step = checker.step
    for op in filling:
        step(op)
    started = time.perf_counter()
    for op in mixed:
        step(op)
    taken = time.perf_counter() - started
    assert checker.refusals <= len(mixed) // 50, "the heap is too small for this benchmark"
    return len(mixed) / taken


def calls(build, filling, mixed) -> float:
    """Functions called for each checked operation, audits and the target's own work included."""
    checker = Checker(build())
    for op in filling:
        checker.step(op)
    profiler = cProfile.Profile()
    profiler.enable()
    for op in mixed:
        checker.step(op)
    profiler.disable()
    return sum(entry.callcount for entry in profiler.getstats()) / len(mixed)


def every(count: int, rounds: int) -> Iterator[str]:
    """A line for each built-in target: operations a second bare and checked, and the ratio."""
    for name in BUILT_IN:
        build = factory(name)
        contract = build().contract
        most = max(contract.min_size, min(contract.largest, contract.arena // 256 if contract.arena else 200))
        sizes = [size for size in Codec(contract).sizes if contract.min_size <= size <= most and size]
        filling, mixed = operations(sizes, 64, count)
        pairs = [(bare(build, filling, mixed), checked(build, filling, mixed)) for _ in range(rounds)]
        alone, with_laws = (statistics.median(column) for column in zip(*pairs, strict=True))
        yield f"{name:<18}{alone:>12,.0f}{with_laws:>12,.0f}{statistics.median(c / b for b, c in pairs):>8.2f}"


def _sizes(name: str) -> Sequence[int]:
    return [4096] if name == "buddy" else range(8, 200)


def _counted(name: str, make, live: int) -> float:
    return calls(make(live), *operations(_sizes(name), live, max(20_000, 2 * live)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer operations and rounds")
    parser.add_argument("targets", nargs="*", help="only these")
    parser.add_argument("--every", action="store_true", help="all built-in targets, each at one size")
    parser.add_argument("--calls", action="store_true", help="count calls instead of seconds")
    options = parser.parse_args()
    rounds = 1 if options.quick else 3
    if options.every:
        print(f"{'target':<18}{'bare/s':>12}{'checked/s':>12}{'ratio':>8}")
        for line in every(5_000 if options.quick else 20_000, rounds):
            print(line, flush=True)
        return
    if options.calls:
        print(f"{'target':<16}" + "".join(f"{live:>10,}" for live in LIVE) + "  live objects")
    else:
        titles = f"{'target':<16}{'live':>9}{'bare/s':>12}{'checked/s':>12}{'ratio':>8}"
        print(f"{titles}   vs the smallest heap: bare, checked")
    for name, make in TARGETS.items():
        if options.targets and not any(name.startswith(wanted) for wanted in options.targets):
            continue
        if options.calls:
            counts = [_counted(name, make, live) for live in LIVE if live <= MOST.get(name, live)]
            print(f"{name:<16}" + "".join(f"{count:>10.0f}" for count in counts), flush=True)
            continue
        first: tuple[float, float] | None = None
        for live in LIVE:
            if live > MOST.get(name, live):
                continue
            count = max(20_000, live) if options.quick else max(100_000, 2 * live)
            filling, mixed = operations(_sizes(name), live, count)
            build = make(live)
            pairs = [(bare(build, filling, mixed), checked(build, filling, mixed)) for _ in range(rounds)]
            alone, with_laws = (statistics.median(column) for column in zip(*pairs, strict=True))
            ratio = statistics.median(c / b for b, c in pairs)
            first = first or (alone, with_laws)
            print(
                f"{name:<16}{live:>9,}{alone:>12,.0f}{with_laws:>12,.0f}{ratio:>8.2f}"
                f"   {alone / first[0]:.2f} {with_laws / first[1]:.2f}"
            )


if __name__ == "__main__":
    main()
