"""The per-CPU allocators' table: many objects of one size, freed in three orders, map against bitmap.

Dennis Zhou's posting of the bitmap allocator (July 2017) times a million objects of each size, and
gives the worst of three orders of freeing: as allocated, every other one first, in reverse.  The map
moves boundaries at each free, so a chunk of many small objects costs most; the bitmap only looks at
bits near what was freed.  Fewer objects show it here, since what a free costs depends on its chunk
alone: that it does not grow with their number is shown, not assumed.
"""

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from .memory import factory, measure, memory_table, store
from .shape import Cell, Chart, Claim, Experiment, Figure, Line, Outcome, Posting, Scale, Table, fit

_SIZES = (4, 16, 64, 128, 1024)
_UNIT = 32768
_MAP, _BITS = "percpu-area-map", "percpu-bitmap@2017-07"
_PUBLISHED = {  # bytes: map's alloc and free, bitmap's alloc and free, ms for a million
    4: (335, 4960, 725, 70), 16: (485, 1150, 760, 70), 64: (445, 280, 855, 80), 128: (505, 177, 910, 90),
    1024: (3385, 140, 3770, 260),
}  # fmt: skip
_ORDERS = ("in order", "alternating", "reversed")
_FLAT = 1.5  # times more: what still counts as not growing


class Cost(NamedTuple):
    """Of one object in the mean: steps to allocate and to free it, and seconds of processor time for each."""

    alloc: float
    free: float
    alloc_s: float
    free_s: float


def run(scale: Scale, seed: int) -> Outcome:
    """Seconds: about 1, 13, 45.  Nothing is random here: ``seed`` is not used."""
    counts = scale.pick((300, 600), (4096, 8192, 16384), (10000, 20000, 40000))
    costs = {(name, size, order): _cost(name, size, counts[-1], order)
             for name in (_MAP, _BITS) for size in _SIZES for order in _ORDERS}  # fmt: skip
    growth = {(name, n): _cost(name, 4, n, "in order").free for name in (_MAP, _BITS) for n in counts}
    worst = {(name, size): max((costs[name, size, order] for order in _ORDERS), key=lambda cost: cost.free)
             for name in (_MAP, _BITS) for size in _SIZES}  # fmt: skip
    return Outcome(
        _published(), (_steps_table(worst, counts[-1]), _orders_table(costs), _memory(scale)),
        _claims(worst, costs, growth, scale), _figures(worst, counts[-1]), _WHY, _charts(worst),
    )  # fmt: skip


_WHY = (
    "Times are taken from steps: a line through the posting's first and last row turns entries moved into "
    "milliseconds, and the rows between are compared. Python's own milliseconds do not show it: a call of its "
    "interpreter takes longer than moving a whole map."
)


def _cost(name: str, size: int, objects: int, order: str) -> Cost:
    heap = factory(f"{name},unit={_UNIT},chunks={objects * size // _UNIT + 2}")()
    steps = 0
    start = time.process_time()
    handles = []
    for _ in range(objects):
        handles.append(heap.alloc(size, 4))
        steps += _steps(heap.cost())
    middle, alloc = time.process_time(), steps
    for handle in _ordered(handles, order):
        heap.free(handle)
        steps += _steps(heap.cost())
    end = time.process_time()
    return Cost(alloc / objects, (steps - alloc) / objects, (middle - start) / objects, (end - middle) / objects)


def _ordered(handles: list[Any], order: str) -> list[Any]:
    if order == "alternating":
        return handles[::2] + handles[1::2]
    return handles[::-1] if order == "reversed" else handles


def _steps(cost: Mapping[str, int]) -> int:
    """Entries scanned and moved; of a bitmap words of 64 bits and descriptors."""
    if "entries_moved" in cost:
        return cost["entries_scanned"] + cost["entries_moved"] + cost["chunks_visited"]
    return -(-cost["bits_scanned"] // 64) + cost["blocks_visited"] + cost["chunks_visited"]


def _published() -> Table:
    columns = ("object", "map alloc ms", "map free ms", "bitmap alloc ms", "bitmap free ms")
    rows = tuple((f"{size} B", *cells) for size, cells in _PUBLISHED.items())
    return Table("published: 1 million objects, worst of three orders", columns, rows)


def _steps_table(worst: Mapping[tuple[str, int], Cost], objects: int) -> Table:
    columns = ("object", "map alloc", "map free", "bitmap alloc", "bitmap free", "map alloc ms", "map free ms",
               "bitmap alloc ms", "bitmap free ms")  # fmt: skip
    rows: list[tuple[Cell, ...]] = []
    for size in _SIZES:
        one, two = worst[_MAP, size], worst[_BITS, size]
        steps = [round(x, 1) for x in (one.alloc, one.free, two.alloc, two.free)]
        times = [round(x * 1e9) for x in (one.alloc_s, one.free_s, two.alloc_s, two.free_s)]
        rows.append((f"{size} B", *steps, *times))
    title = f"ours: steps an object, {objects:,} objects; ms of this Python for a million"
    return Table(title, columns, tuple(rows))


def _orders_table(costs: Mapping[tuple[str, int, str], Cost]) -> Table:
    columns = ("object", *(f"{word} {order}" for word in ("map", "bitmap") for order in _ORDERS))
    rows: list[tuple[Cell, ...]] = []
    for size in _SIZES:
        steps = [round(costs[name, size, order].free, 1) for name in (_MAP, _BITS) for order in _ORDERS]
        rows.append((f"{size} B", *steps))
    return Table("ours: steps of a free, by order", columns, tuple(rows))


def _memory(scale: Scale) -> Table:
    """A few chunks full of 4-byte objects: the one map that grows, the other that is fixed."""
    objects, rows = scale.pick(600, 8192, 16384), {}
    for name in (_MAP, _BITS):
        heap = factory(f"{name},unit={_UNIT},chunks={objects * 4 // _UNIT + 2}")()
        rows[name] = measure(heap, store(heap, [4] * objects))
    return memory_table(f"ours: memory for {objects:,} objects of 4 bytes", rows)


def _claims(
    worst: Mapping[tuple[str, int], Cost], costs: Mapping[tuple[str, int, str], Cost],
    growth: Mapping[tuple[str, int], float], scale: Scale,
) -> tuple[Claim, ...]:  # fmt: skip
    falls = [worst[_MAP, size].free for size in _SIZES]
    bits = [costs[_BITS, size, order].free for size in _SIZES for order in _ORDERS]
    names = [n for name, n in growth if name == _MAP and n * 4 >= _UNIT] or [n for name, n in growth if name == _MAP]
    grown = [growth[_BITS, n] for n in names]
    full = [growth[_MAP, n] for n in names]
    reverse = max(costs[_MAP, size, "reversed"].free for size in _SIZES)
    claims = [
        Claim("What a free costs the map falls as objects grow", falls == sorted(falls, reverse=True),
              _listed(falls)),
        Claim("It is much the same for the bitmap, whatever the size and the order", max(bits) < falls[0] / 10,
              f"{min(bits):.1f} to {max(bits):.1f} steps"),
        Claim("An allocation costs the bitmap more than the map", all(worst[_BITS, size].alloc > worst[_MAP, size].alloc
              for size in _SIZES), f"{min(worst[_BITS, size].alloc for size in _SIZES):.1f} and "
              f"{max(worst[_MAP, size].alloc for size in _SIZES):.1f} steps"),
        Claim("Freed in reverse, the map moves next to nothing", reverse < 40, f"at most {reverse:.1f} steps"),
    ]  # fmt: skip
    if scale > Scale.TINY:  # there a chunk is not full
        claims.append(Claim("A free costs no more where there are more objects than a chunk holds",
                            max(full) < _FLAT * min(full) and max(grown) < _FLAT * min(grown) + 1,
                            f"map {_listed(full)}; bitmap {_listed(grown)} for {_listed(names)} objects"))  # fmt: skip
    return tuple(claims)


def _listed(numbers: list[float] | list[int]) -> str:
    return ", ".join(f"{number:,.0f}" if number >= 100 else f"{number:.1f}" for number in numbers)


def _figures(worst: Mapping[tuple[str, int], Cost], objects: int) -> tuple[Figure, ...]:
    if objects * _SIZES[0] < _UNIT:
        return ()  # not one chunk is full
    moved = {size: worst[_MAP, size].free for size in _SIZES}
    base, each = fit([(moved[size], _PUBLISHED[size][1]) for size in (_SIZES[0], _SIZES[-1])])
    return tuple(
        Figure(f"ms of a million frees of {size} B", _PUBLISHED[size][1], base + each * moved[size])
        for size in _SIZES[1:-1]
    )


def _charts(worst: Mapping[tuple[str, int], Cost]) -> tuple[Chart, ...]:
    lines = [Line(f"{word}, steps", tuple((size, max(worst[name, size].free, 0.1)) for size in _SIZES))
             for word, name in (("map", _MAP), ("bitmap", _BITS))]  # fmt: skip
    lines += [Line(f"{word}, published ms", tuple((size, _PUBLISHED[size][at]) for size in _SIZES))
              for word, at in (("map", 1), ("bitmap", 3))]  # fmt: skip
    return (Chart("what a free costs, by size of object", "bytes", "steps, or ms of a million", tuple(lines), True),)


EXPERIMENT = Experiment(
    "percpu-frees", "Freeing per-CPU objects costs the area map more the smaller they are, the bitmap always little.",
    Posting("Dennis Zhou", "2017-07-15", "percpu: replace percpu area map allocator with bitmap allocator"), 2.0, run,
)  # fmt: skip
