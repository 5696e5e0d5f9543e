"""Worst-case steps of Xen's first xmalloc and of TLSF, by the number of objects there are.

Dan Magenheimer's proposal of TLSF for Xen (October 2008) calls the call time of xmalloc "essentially
unbounded": one list holds all free blocks of all pages, an allocation walks it until one fits, and a
free walks all of it to find its neighbours.  Objects of nearly a page leave one small block each,
in which no other of them fits.  TLSF looks at two bitmaps and one list head, however many there are.
"""

import random
from collections.abc import Mapping
from typing import Any

from .memory import Memory, factory, measure, memory_table
from .shape import Cell, Chart, Claim, Experiment, Line, Outcome, Posting, Scale, Table, slope

_NAMES = {"first fit": "xen-xmalloc", "TLSF": "xen-tlsf"}
_LEAST, _MOST = 2400, 3600  # bytes: what is left of a page is a free block in which none of them fits
_FRESH = 64  # objects freed and allocated anew when all are there


def run(scale: Scale, seed: int) -> Outcome:
    """Seconds: about 1, 6, 60."""
    counts = scale.pick((20, 40, 80, 160), (125, 250, 500, 1000), (500, 1000, 2000, 4000))
    worst: dict[tuple[str, int], tuple[int, int]] = {}
    memory: dict[str, Memory] = {}
    for name in _NAMES:
        for count in counts:
            heap, live, *steps = _fill(name, count, seed)
            worst[name, count] = (steps[0], steps[1])
        memory[name] = measure(heap, live)
    return Outcome(
        Table("published", ("allocator", "what is said"), (
            ("xmalloc", "call time essentially unbounded; millions of cycles to do some xfree's"),
            ("TLSF", "much better worst-case response time"))),
        (_table(worst, counts), memory_table(f"ours: memory for {counts[-1]:,} objects", memory)),
        _claims(worst, counts), (),
        f"A free walks {worst['first fit', counts[-1]][1] / counts[-1]:.2f} entries for each object there is.",
        _charts(worst, counts),
    )  # fmt: skip


def _fill(name: str, count: int, seed: int) -> tuple[Any, dict[Any, int], int, int]:
    """A heap with ``count`` objects, the objects, and the most steps of an allocation and of a free."""
    heap = factory(f"{_NAMES[name]},pages={count + 8}")()
    dice = random.Random(seed)
    live: dict[Any, int] = {}
    most_alloc = most_free = 0
    for turn in range(count + _FRESH):
        if turn >= count:
            gone = dice.choice(list(live))
            most_free = max(most_free, _free(heap, gone))
            del live[gone]
        size = dice.randint(_LEAST, _MOST)
        live[heap.alloc(size)] = size
        most_alloc = max(most_alloc, _alloc_steps(heap.cost()))
    return heap, live, most_alloc, most_free


def _alloc_steps(cost: Mapping[str, int]) -> int:
    return cost["walked"] if "walked" in cost else cost["probed"] + cost["scanned"]


def _free(heap: Any, handle: Any) -> int:
    """Free it; entries walked, or, where none are, blocks that were merged or given back: what is missing after it."""
    if "walked" in heap.cost():
        heap.free(handle)
        walked: int = heap.cost()["walked"]
        return walked
    before = sum(1 for _ in heap.free_regions())
    heap.free(handle)
    return before + 1 - sum(1 for _ in heap.free_regions())


def _table(worst: Mapping[tuple[str, int], tuple[int, int]], counts: tuple[int, ...]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for count in counts:
        one, two = worst["first fit", count], worst["TLSF", count]
        rows.append((f"{count:,}", *one, *two))
    columns = ("objects", "first fit alloc", "first fit free", "TLSF alloc", "TLSF free")
    title = "ours: most steps of a call (list entries; list heads and bitmap words; blocks merged or given back)"
    return Table(title, columns, tuple(rows))


def _claims(worst: Mapping[tuple[str, int], tuple[int, int]], counts: tuple[int, ...]) -> tuple[Claim, ...]:
    frees = [(count, worst["first fit", count][1]) for count in counts]
    allocs = [(count, worst["first fit", count][0]) for count in counts]
    flat = [worst["TLSF", count][0] for count in counts]
    merged = [worst["TLSF", count][1] for count in counts]
    return (
        Claim("First fit's worst free grows with the number of objects", slope(frees) > 0.8,
              f"exponent {slope(frees):.2f}: {', '.join(str(steps) for _, steps in frees)}"),
        Claim("So does its worst allocation", slope(allocs) > 0.8,
              f"exponent {slope(allocs):.2f}: {', '.join(str(steps) for _, steps in allocs)}"),
        Claim("TLSF's worst allocation does not", max(flat) == min(flat) < 10, ", ".join(map(str, flat))),
        Claim("Nor does its worst free", max(merged) <= 3, ", ".join(map(str, merged))),
    )  # fmt: skip


def _charts(worst: Mapping[tuple[str, int], tuple[int, int]], counts: tuple[int, ...]) -> tuple[Chart, ...]:
    lines = [Line(f"{name} alloc", tuple((n, worst[name, n][0]) for n in counts)) for name in _NAMES]
    lines += [Line(f"{name} free", tuple((n, worst[name, n][1]) for n in counts)) for name in _NAMES]
    return (Chart("most steps of one call, objects of nearly a page", "objects", "steps", tuple(lines), True),)


EXPERIMENT = Experiment(
    "xen-steps", "The steps of Xen's first-fit xmalloc and xfree have no bound; TLSF's are few, whatever is live.",
    Posting("Dan Magenheimer", "2008-10-11", "[RFC] Replacing Xen's xmalloc engine and(?) API"), 1.0, run,
)  # fmt: skip
