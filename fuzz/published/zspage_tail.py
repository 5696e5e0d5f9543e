"""zsmalloc's tails: what a zspage has left behind its last object, and what frees leave behind.

The afmalloc posting (2014) works one class out: objects of 2064 bytes take "4 pages ... only 7 objects ...
Remainder is 1936 bytes ... 11% of total".  And after many frees, it says, what is unused is 20 to
50 % of what is used; compaction, which zsmalloc got later, takes most of that back.
"""

import random
from typing import Any

from .images import packed_sizes
from .memory import factory, measure, memory_table, store
from .shape import Cell, Chart, Claim, Experiment, Figure, Line, Outcome, Posting, Scale, Table

_CLASS, _HANDLE = 2064, 8
_PUBLISHED = (("pages", 4), ("objects", 7), ("bytes left", 1936), ("% left", 11.0))
_PARTS = (0, 10, 20, 30, 40, 50)  # % freed


def run(scale: Scale, seed: int) -> Outcome:
    """Seconds: about 1, 4, 15."""
    ours = _tail()
    sizes = packed_sizes(scale.pick(1500, 2500, 10000), seed)
    rows: list[tuple[Cell, ...]] = []
    memory = {}
    for part in _PARTS:
        heap, live = _freed(sizes, part, seed)
        before = _unused(heap, live)
        memory[f"{part} % freed"] = measure(heap, live, "zsmalloc")
        heap.maintain("compact")
        memory[f"{part} % freed, compacted"] = measure(heap, live, "zsmalloc")
        rows.append((part, round(before, 1), round(_unused(heap, live), 1)))
    before_, after = ([float(row[at]) for row in rows] for at in (1, 2))
    said = tuple(Figure(what, number, mine) for (what, number), mine in zip(_PUBLISHED, ours, strict=True))
    lines = tuple(Line(name, tuple(zip(map(float, _PARTS), points, strict=True)))
                  for name, points in (("before compaction", before_), ("after", after)))  # fmt: skip
    return Outcome(
        Table("published: the class of 2064 bytes", tuple(what for what, _ in _PUBLISHED),
              (tuple(number for _, number in _PUBLISHED),)),
        (
            Table("ours: the class of 2064 bytes", tuple(what for what, _ in _PUBLISHED), (ours,)),
            Table("ours: unused, of what is used, after random frees (published: 20 to 50 % after many)",
                  ("% freed", "before compaction %", "after %"), tuple(rows)),
            memory_table("ours: memory", memory),
        ),
        (
            Claim("Frees leave 20 to 50 % unused sooner or later", any(20 <= part <= 50 for part in before_),
                  ", ".join(f"{part:.0f} %" for part in before_)),
            Claim("It grows with every free", before_ == sorted(before_), ", ".join(f"{part:.0f}" for part in before_)),
            Claim("Compaction takes most of what frees left", after[-1] - after[0] < (before_[-1] - before_[0]) / 2,
                  f"{before_[-1]:.0f} % to {after[-1]:.0f} %"),
        ),
        said, "", (Chart("unused in zspages, of what is used", "% freed", "%", lines),),
    )  # fmt: skip


def _tail() -> tuple[int, int, int, float]:
    """Pages, objects, bytes left and their share, counted on a heap without merged classes."""
    heap = factory("zsmalloc,chain=4,merge=0,pages=64")()
    objects = 0
    while True:
        before = heap.source.held
        heap.alloc(_CLASS - _HANDLE)
        if before and heap.source.held > before:
            break
        objects += 1
    left = before * 4096 - objects * _CLASS
    return before, objects, left, round(100 * left / (before * 4096), 1)


def _freed(sizes: list[int], part: int, seed: int) -> tuple[Any, dict[Any, int]]:
    """A store of these objects, ``part`` % of them freed at random."""
    heap = factory(f"zsmalloc,chain=4,pages={len(sizes) + 64}")()
    live = store(heap, sizes)
    for handle in random.Random(seed).sample(list(live), len(live) * part // 100):
        heap.free(handle)
        del live[handle]
    return heap, live


def _unused(heap: Any, live: dict[Any, int]) -> float:
    """Pages held beyond what is stored, in % of that."""
    used = sum(live.values())
    return 100 * (heap.source.held * 4096 - used) / used


EXPERIMENT = Experiment(
    "zspage-tail", "A zspage of the class of 2064 bytes wastes 11 % at its end, and frees leave 20 to 50 % unused.",
    Posting("Joonsoo Kim", "2014-09-26", "mm/afmalloc: introduce anti-fragmentation memory allocator (RFC)"), 1.1, run,
)  # fmt: skip
