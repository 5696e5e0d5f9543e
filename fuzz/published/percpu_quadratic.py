"""The contrived case of the per-CPU bitmap's posting: 4-byte objects that are aligned to 8.

Each leaves a hole of 4 bytes behind it, so that the area map's bound of the longest hole says yes
for every full chunk, and each request looks at all of them: a million take 52 minutes, the
posting says, and 14 seconds with the bitmap.  Both are quadratic, the bitmap as posted with a far
smaller factor: its gate does not ask for the alignment either, but a descriptor stands for a page.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .memory import Memory, factory, measure, memory_table
from .shape import Cell, Chart, Claim, Experiment, Figure, Line, Outcome, Posting, Scale, Table, fit, slope

_MAP, _BITS = "percpu-area-map", "percpu-bitmap@2017-07"
_TODAY = "percpu-bitmap"
_NAMES = {_MAP: "area map", _BITS: "bitmap as posted", _TODAY: "bitmap of today"}
_MILLION = 1_000_000
_MINUTES, _SECONDS = 52, 14
_ENTRY, _DESCRIPTOR, _LINE = 4, 20, 64
"""Bytes read for a map's entry, a descriptor of the posting (five words of 32 bits), and a chunk on its list."""


class Total(NamedTuple):
    """For all objects of one run: bytes of metadata read, steps of any kind, seconds of processor time."""

    objects: int
    read: int
    steps: int
    seconds: float


def run(scale: Scale, seed: int) -> Outcome:
    """Seconds: about 1, 7, 50.  Nothing is random here: ``seed`` is not used."""
    counts = scale.pick((100, 200, 400, 800), (500, 1000, 2000, 4000), (1500, 3000, 6000, 12000))
    unit = scale.pick(1024, 8192, 32768)
    totals: dict[str, list[Total]] = {name: [] for name in _NAMES}
    memory: dict[str, Memory] = {}
    for name in _NAMES:
        for count in counts:
            heap, total, live = _fill(name, unit, count)
            totals[name].append(total)
        memory[_NAMES[name]] = measure(heap, live)
    read = {name: [(float(one.objects), float(one.read)) for one in some] for name, some in totals.items()}
    million = {name: _extrapolated(points) for name, points in read.items()}
    return Outcome(
        Table("published: 1 million objects of 4 bytes, aligned to 8", ("allocator", "seconds", "ratio"),
              (("area map", _MINUTES * 60, round(_MINUTES * 60 / _SECONDS, 1)), ("bitmap as posted", _SECONDS, 1))),
        (
            _table("ours: bytes of metadata read, all objects", read),
            _table("ours: the same in steps, whatever is read in one",
                   {name: [(one.objects, one.steps) for one in some] for name, some in totals.items()}),
            _table("ours: seconds of processor time in this Python",
                   {name: [(one.objects, one.seconds) for one in some] for name, some in totals.items()}),
            memory_table(f"ours: memory for {counts[-1]:,} objects", memory),
        ),
        _claims(read, million),
        (Figure("bytes read, area map over bitmap, at 1 million", _MINUTES * 60 / _SECONDS,
                million[_MAP] / million[_BITS]),),
        _WHY, _charts(read, million),
    )  # fmt: skip


_WHY = (
    "Published are seconds, compared are bytes of metadata that the searches read: 4 an entry, 20 a descriptor, 64 a "
    "chunk on its list, and bits. In steps of any kind and in Python's seconds the ratio differs, see the tables."
)


def _fill(name: str, unit: int, count: int) -> tuple[Any, Total, dict[Any, int]]:
    """A heap with ``count`` objects, what they cost, and the objects."""
    heap = factory(f"{name},unit={unit},block={min(unit, 4096)},chunks={count * 8 // unit + 2}")()
    live, read, steps = {}, 0, 0
    start = time.process_time()
    for _ in range(count):
        live[heap.alloc(4, 8)] = 4
        cost = heap.cost()
        read += _bytes_read(cost)
        steps += cost["chunks_visited"] + (cost.get("entries_scanned") or _bitmap_steps(cost))
    return heap, Total(count, read, steps, time.process_time() - start), live


def _bitmap_steps(cost: Mapping[str, int]) -> int:
    return cost["blocks_visited"] + -(-cost["bits_scanned"] // 64)


def _bytes_read(cost: Mapping[str, int]) -> int:
    chunks = cost["chunks_visited"] * _LINE
    if "entries_scanned" in cost:
        return cost["entries_scanned"] * _ENTRY + chunks
    return cost["bits_scanned"] // 8 + cost["blocks_visited"] * _DESCRIPTOR + chunks


def _extrapolated(points: list[tuple[float, float]]) -> float:
    """The total at a million objects, from a straight line through totals an object; never below what was seen."""
    base, each = fit([(count, total / count) for count, total in points])
    return _MILLION * max(base + each * _MILLION, points[-1][1] / points[-1][0])


def _table(title: str, read: Mapping[str, list[tuple[float, float]]]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for at, (count, _) in enumerate(read[_MAP]):
        totals = [round(points[at][1], 2) for points in read.values()]
        rows.append((f"{count:,.0f}", *totals, _over(totals)))
    totals = [round(_extrapolated(points)) for points in read.values()]
    rows.append(("1,000,000 (extrapolated)", *totals, _over(totals)))
    if all(total > 0 for points in read.values() for _, total in points):
        rows.append(("growth: exponent", *(round(slope(points), 2) for points in read.values()), ""))
    return Table(title, ("objects", *_NAMES.values(), "map / posted"), tuple(rows))


def _over(totals: Sequence[float]) -> Cell:
    return round(totals[0] / totals[1], 2) if totals[1] else ""


def _claims(read: Mapping[str, list[tuple[float, float]]], million: Mapping[str, float]) -> tuple[Claim, ...]:
    growth = {name: slope(points) for name, points in read.items()}
    ratios = [one[1] / two[1] for one, two in zip(read[_MAP], read[_BITS], strict=True)]
    return (
        Claim("The area map reads with the square of the number of objects", 1.9 < growth[_MAP] < 2.1,
              f"exponent {growth[_MAP]:.2f} over {len(ratios)} numbers"),
        Claim("The area map's part grows with their number", ratios == sorted(ratios),
              "ratios " + ", ".join(f"{ratio:.1f}" for ratio in ratios)),
        Claim("At a million the area map reads far more", million[_MAP] > 10 * million[_BITS],
              f"{million[_MAP] / million[_BITS]:,.0f} times"),
    )  # fmt: skip


def _charts(read: Mapping[str, list[tuple[float, float]]], million: Mapping[str, float]) -> tuple[Chart, ...]:
    lines = tuple(Line(_NAMES[name], (*points, (_MILLION, million[name]))) for name, points in read.items())
    title = "4-byte objects aligned to 8; the last points are extrapolated"
    return (Chart(title, "objects", "bytes of metadata read", lines, True),)


EXPERIMENT = Experiment(
    "percpu-quadratic", "A million 4-byte objects aligned to 8 take the area map 52 minutes, the bitmap 14 seconds.",
    Posting("Dennis Zhou", "2017-07-15", "percpu: replace percpu area map allocator with bitmap allocator"), 3.0, run,
)  # fmt: skip
