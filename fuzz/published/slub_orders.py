"""Which of kmalloc's caches want runs of several pages, and what happens where there are none.

In the reviews of the zpool patches (2011 to 2013) Seth Jennings says that "kmalloc caches greater than
256 bytes ... have slabs that require high order page allocations"; Joonsoo Kim replies that SLUB uses
high orders by default, but falls back to low ones when they fail.
"""

from typing import Any

from .memory import Memory, factory, measure, memory_table
from .shape import Cell, Chart, Claim, Experiment, Figure, Line, Outcome, Posting, Scale, Table

_CLASSES = (64, 96, 128, 192, 256, 512, 1024, 2048, 4096)
_CPUS = 4
_SAID = 512  # the first class above 256 bytes


def run(scale: Scale, seed: int) -> Outcome:
    """Seconds: below 1.  Nothing is random here: ``seed`` is not used."""
    count = scale.pick(8, 32, 128)
    found = {size: _both(size, count) for size in _CLASSES}
    first = min((size for size, (order, _, _, _) in found.items() if order), default=0)
    rows: list[tuple[Cell, ...]] = [(size, *cells[:3]) for size, cells in found.items()]
    memory = {f"{size} B": found[size][3] for size in (256, 512, 2048, 4096)}
    unserved = [size for size, (_, low, _, _) in found.items() if low < count]
    line = Line(f"{_CPUS} CPUs", tuple((size, float(cells[0])) for size, cells in found.items()))
    return Outcome(
        Table("published", ("classes", "order"), (("above 256 bytes", "high; low ones where these fail"),)),
        (
            Table(f"ours: SLUB, {_CPUS} CPUs, {count} objects a class",
                  ("class", "highest order asked for", "served from single pages alone", "fallbacks"), tuple(rows)),
            memory_table("ours: memory, from single pages alone", memory),
        ),
        (
            Claim("Classes above 256 bytes ask for high orders, others do not", first == _SAID, f"from {first} bytes"),
            Claim("Where only single pages can be had, all objects are served", not unserved,
                  f"not served: {unserved or 'none'}"),
            Claim("They are, by falling back", all(cells[2] > 0 for cells in found.values() if cells[0]),
                  ", ".join(f"{size}: {cells[2]}" for size, cells in found.items())),
        ),
        (Figure("least class of high order", _SAID, first),), "",
        (Chart("order of a slab by class", "bytes", "order", (line,)),),
    )  # fmt: skip


def _both(size: int, count: int) -> tuple[int, int, int, Memory]:
    """Highest order asked for; objects served from single pages alone, fallbacks and memory there."""
    heap = _make(size, count)
    for _ in range(count):
        heap.alloc(size)
    order = heap.source.highest_order
    poor = _make(size, count)
    poor.source.fail_next(1, 1 << 30)
    handles = [poor.alloc(size) for _ in range(count)]
    live = {handle: size for handle in handles if isinstance(handle, int)}
    return order, len(live), poor.fallbacks(), measure(poor, live)


def _make(size: int, count: int) -> Any:
    return factory(f"slub,size={size},cpus={_CPUS},pages={2 * count + 64}")()


EXPERIMENT = Experiment(
    "slub-orders", "SLUB's classes above 256 bytes want runs of pages, and fall back to single ones.",
    Posting("Seth Jennings and Joonsoo Kim", "2014-09", "replies to: mm/afmalloc: introduce anti-fragmentation memory "
            "allocator"), 1.01, run,
)  # fmt: skip
