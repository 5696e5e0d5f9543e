"""What checking costs: checked operations a second beside the same operations on the bare target.

    python tests/benchmarks/checking.py [--quick]

Bare and checked runs alternate, so a machine whose speed drifts does not tilt the
ratio; medians over the rounds.  ``mixed`` frees and allocates at random around a
constant number of live objects of 8 to 200 bytes.
"""

import argparse
import random
import statistics
import time

from heaplaw import Context, Contract, Kind, Operation
from heaplaw.checker import Checker
from heaplaw.impls.registry import factory


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

MOST = {"percpu-bitmap": 10_000}  # live objects: its own search is linear in the unit's blocks


def operations(target: str, live: int, count: int) -> tuple[list[Operation], list[Operation]]:
    """(filling up to ``live`` objects, ``count`` operations around that level)."""
    rng = random.Random(live)
    scale = 4096 if target == "buddy" else 1
    names: list[int] = []
    births = 0

    def alloc() -> Operation:
        nonlocal births
        names.append(births)
        births += 1
        return Operation(int(Kind.ALLOC), births - 1, scale if scale > 1 else rng.randrange(8, 200))

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
            elif sized:
                free(handles[name], sizes[name])
            else:
                free(handles[name])
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
    assert not checker.refusals, "the heap is too small for this benchmark"
    return len(mixed) / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer operations and rounds")
    parser.add_argument("targets", nargs="*", help="only these")
    options = parser.parse_args()
    rounds = 1 if options.quick else 3
    print(f"{'target':<16}{'live':>9}{'bare/s':>12}{'checked/s':>12}{'ratio':>8}   vs the smallest heap: bare, checked")
    for name, make in TARGETS.items():
        if options.targets and not any(name.startswith(wanted) for wanted in options.targets):
            continue
        first: tuple[float, float] | None = None
        for live in (100, 1_000, 10_000, 100_000):
            if live > MOST.get(name, live):
                continue
            count = max(20_000, live) if options.quick else max(100_000, 2 * live)
            filling, mixed = operations(name, live, count)
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
