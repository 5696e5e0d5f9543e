"""Where the time of a check goes: shares of the plain engine's work on a few targets, by a profiler.

    python tests/benchmarks/profiling.py [TARGET ...] [--functions 12]

A profiler charges every call, so that code of many small functions looks dearer than it is; shares, not seconds.
"""

import argparse
import cProfile
import pstats
import time
from collections import Counter

from heaplaw.properties.engines import ENGINES

TARGETS = ("tlsf,arena=4096", "percpu-bitmap,unit=256,block=64,chunks=2", "buddy,pages=64", "zsmalloc")
PARTS = {  # a part of a file's name -> whose work it is; the first that fits
    "heaplaw/impls": "the allocator, its observations and predicates", "heaplaw/laws": "laws and recounts",
    "heaplaw/view": "laws and recounts", "heaplaw/checker": "checker", "heaplaw/shadow": "shadow heap",
    "sortedcontainers": "shadow heap", "heaplaw/twins": "checker", "properties/reached": "states that are reached",
    "properties/state": "states that are reached", "properties/events": "making operations",
    "heaplaw/codec": "making operations", "random": "making operations", "~": "builtins",
}  # fmt: skip
OPERATIONS = 20_000


def profile(target: str) -> pstats.Stats:
    """Of so many checked operations, once everything is warm."""
    check = ENGINES["plain"]
    check(target, OPERATIONS // 10, 2, most=1, deadline=time.monotonic() + 100)
    profiler = cProfile.Profile(builtins=False)  # their time is their caller's
    profiler.runcall(check, target, OPERATIONS, 1, most=1, deadline=time.monotonic() + 100)
    return pstats.Stats(profiler)


def shares(stats: pstats.Stats) -> Counter[str]:
    """Seconds of each part's own code."""
    found: Counter[str] = Counter()
    for (file, _, _), (_, _, own, _, _) in stats.stats.items():  # type: ignore[attr-defined]
        found[next((part for name, part in PARTS.items() if name in file), "other")] += own
    return found


def main() -> None:
    """A line a part for each target, then the functions that cost most."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("targets", nargs="*", default=TARGETS)
    parser.add_argument("--functions", type=int, default=0, help="and so many functions, by their own time")
    options = parser.parse_args()
    for target in options.targets:
        stats = profile(target)
        found = shares(stats)
        print(target)
        for part, seconds in found.most_common():
            print(f"  {seconds / found.total():6.1%}  {part}")
        heavy = sorted(stats.stats.items(), key=lambda item: -item[1][2])[: options.functions]  # type: ignore[attr-defined]
        for (file, line, name), (_, calls, own, _, _) in heavy:
            print(f"    {own / found.total():6.1%} {calls:9,}  {file.rpartition('heaplaw/')[2]}:{line} {name}")


if __name__ == "__main__":
    main()
