"""How fast each bare implementation is, and how its work grows with the number of live objects.

    python tests/benchmarks/growth.py [--quick] [TARGET ...]

Rates are operations a second (a request or a free) around a constant number of live
objects; steps are the abstract costs that a target shows, the largest of a call.  Ends
with 1 where a call that is said to take constant or logarithmic time takes more steps
with more objects than that allows.
"""

import argparse
import math
import random
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from heaplaw import Context, Refusal
from heaplaw.impls.registry import factory

LEVELS = (100, 1_000, 10_000, 100_000)


class Subject(NamedTuple):
    """A configuration with room for so many objects, the sizes to ask for, and what is claimed to grow.

    ``grows``: cost counters that may grow with the heap, because the source's search does.
    """

    name: Callable[[int], str]
    sizes: tuple[int, int] = (8, 200)
    grows: frozenset[str] = frozenset()
    most: int = LEVELS[-1]  # live objects: beyond it a run takes too long


def _power(least: int) -> int:
    return 1 << (least - 1).bit_length()


def _pages(size: int, percent: int = 170) -> Callable[[int], str]:
    """``pages=`` with room for so many objects of up to ``size`` bytes."""
    return lambda live: f"pages={max(64, live * size * percent // 409_600)}"


def _paged(name: str, size: int = 104, percent: int = 170) -> Callable[[int], str]:
    room = _pages(size, percent)
    return lambda live: f"{name},{room(live)}"


SUBJECTS = {
    "tlsf": Subject(lambda n: f"tlsf,arena={max(1 << 18, n * 512)}"),
    "xen-tlsf": Subject(_paged("xen-tlsf", 160)),
    "xvmalloc": Subject(_paged("xvmalloc")),
    "xen-xmalloc": Subject(_paged("xen-xmalloc", 260), grows=frozenset({"alloc walked", "free walked"}), most=10_000),
    "percpu-area-map": Subject(
        lambda n: f"percpu-area-map,unit={max(1 << 17, n * 512)},chunks=1", most=10_000,
        grows=frozenset({"alloc entries_scanned", "alloc entries_moved", "free entries_scanned", "free entries_moved"}),
    ),
    "percpu-bitmap": Subject(
        lambda n: f"percpu-bitmap,unit={max(1 << 17, n * 512)},chunks=1", most=10_000,
        # a descriptor for each block; bits of one block and the request, however many there are
        grows=frozenset({"alloc blocks_visited", "free blocks_visited", "alloc bits_scanned", "free bits_scanned"}),
    ),
    "buddy": Subject(lambda n: f"buddy,pages={_power(2 * n)}", (4096, 4096)),
    "subpage-buddy": Subject(_paged("subpage-buddy", 150)),
    "slab": Subject(lambda n: f"slab,size=64,pages={max(64, n // 30)}", (1, 64)),
    "slub": Subject(lambda n: f"slub,size=64,pages={max(64, n // 30)}", (1, 64)),
    "kmalloc": Subject(_paged("kmalloc", 150)),
    "nta": Subject(
        lambda n: f"nta,cpus=1,order=2,regions={max(16, n // 60)},growth=0,pages={4 * max(16, n // 60)}",
        grows=frozenset({"alloc probed"}),  # no further than the lists there are: 512
    ),
    "srog": Subject(
        _paged("srog"), most=1_000,
        grows=frozenset({"alloc pages_walked", "alloc areas_walked", "free pages_walked", "free areas_walked"}),
    ),
    "afmalloc": Subject(_paged("afmalloc", 1600), (100, 2000)),
    "zsmalloc": Subject(_paged("zsmalloc")),
    "zbud": Subject(_paged("zbud", 4096), (300, 3900)),
    "xcfmalloc": Subject(_paged("xcfmalloc", 1100), (100, 2000)),
    "compcache": Subject(_paged("compcache", 1100), (100, 2000)),
}


class Measured(NamedTuple):
    """Operations a second, and the most steps of one call by name."""

    rate: float
    steps: dict[str, int]


class Caller:
    """Calls a target as its contract wants it, and nothing else."""

    def __init__(self, name: str) -> None:
        self.target: Any = factory(name)()
        contract = self.target.contract
        self.kept: list[tuple[Any, int]] = []
        group = 1 if contract.isolated_groups else 0
        self._alloc_context = {"ctx": Context(group=group)} if contract.contextual else {}
        self._free_context = {"ctx": Context()} if contract.cpus > 1 else {}
        self._sized = contract.sized_free

    def alloc(self, size: int) -> None:
        handle = self.target.alloc(size, **self._alloc_context)
        if handle is None or isinstance(handle, Refusal):
            raise SystemExit(f"{size} bytes refused with {len(self.kept)} live: the heap is too small")
        self.kept.append((handle, size))

    def free(self, index: int) -> None:
        self.kept[index], self.kept[-1] = self.kept[-1], self.kept[index]
        handle, size = self.kept.pop()
        sized = (size,) if self._sized else ()
        self.target.free(handle, *sized, **self._free_context)


def measure(subject: Subject, live: int, count: int) -> Measured:
    """Fill up to ``live`` objects, then free and allocate at random around that level."""
    rng = random.Random(live)
    caller = Caller(subject.name(live))
    low, high = subject.sizes
    sizes = [rng.randint(low, high) for _ in range(live + count)]
    for size in sizes[:live]:
        caller.alloc(size)
    places = [rng.randrange(live) for _ in range(count)]
    started = time.perf_counter()
    for size, place in zip(sizes[live:], places, strict=True):
        caller.free(place)
        caller.alloc(size)
    rate = 2 * count / (time.perf_counter() - started)
    return Measured(rate, _most_steps(caller, rng, subject.sizes))


def _most_steps(caller: Caller, rng: random.Random, sizes: tuple[int, int], count: int = 3000) -> dict[str, int]:
    """The largest cost of each name over some more calls, frees and requests apart."""
    most: dict[str, int] = {}
    if not hasattr(caller.target, "cost"):
        return most
    for _ in range(count):
        for what, call, argument in (
            ("free", caller.free, rng.randrange(len(caller.kept))), ("alloc", caller.alloc, rng.randint(*sizes)),
        ):  # fmt: skip
            call(argument)
            for name, steps in caller.target.cost().items():
                if name != "found":
                    most[f"{what} {name}"] = max(most.get(f"{what} {name}", 0), steps)
    return most


def too_steep(few: Measured, many: Measured, ratio: float, grows: frozenset[str]) -> list[str]:
    """Steps that grew by more than the logarithm of the heap's growth, where they must not."""
    bound = 1 + math.log2(ratio)
    return [
        f"{name}: {few.steps.get(name, 0)} -> {steps}"
        for name, steps in many.steps.items()
        if name not in grows and steps > max(1, few.steps.get(name, 0)) + bound
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer operations, at most 10,000 objects")
    parser.add_argument("targets", nargs="*", help="only these")
    options = parser.parse_args()
    levels = LEVELS[:3] if options.quick else LEVELS
    failed = False
    print(f"{'target':<18}" + "".join(f"{f'{n:,} live':>14}" for n in levels) + "   operations/s; most steps of a call")
    for name, subject in SUBJECTS.items():
        if options.targets and name not in options.targets:
            continue
        reached = [n for n in levels if n <= subject.most]
        results = [measure(subject, live, 5_000 if options.quick else 50_000) for live in reached]
        steps = ", ".join(f"{what} {most}" for what, most in results[-1].steps.items() if most)
        rates = "".join(f"{result.rate:>14,.0f}" for result in results)
        print(f"{name:<18}{rates}{'':{14 * (len(levels) - len(reached))}}   {steps}", flush=True)
        if steep := too_steep(results[0], results[-1], reached[-1] / reached[0], subject.grows):
            failed = True
            print(f"    grows faster than it may: {'; '.join(steep)}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
