"""xvmalloc's cliff at half a page: an object stays within its page, so that above half only one fits.

Seth Jennings's posting of xcfmalloc (2011) names it as the reason for the new allocator: "high (up to
50%) external fragmentation on allocation sets > PAGE_SIZE/2".  xcfmalloc scatters an object over up to
two blocks, compcache's first store over as many as it takes; what they pay for it are copies at every
access and descriptors.
"""

import random
from collections.abc import Mapping, Sequence
from typing import Any

from .memory import Memory, factory, measure, memory_table, store
from .shape import Cell, Chart, Claim, Experiment, Figure, Line, Outcome, Posting, Scale, Table

_NAMES = ("xvmalloc", "xcfmalloc", "compcache", "zsmalloc")
_SIZES = (1020, 1360, 1364, 1700, 2040, 2044, 2052, 2100, 2400, 2720, 3000, 3400, 3900)
_ABOVE = 2100
_PAGE, _HALF = 4096, 2048
_CONTENDERS = _NAMES[1:3]
_CLOSE = 2720  # up to two thirds of a page; further on one a page wastes less and less


def run(scale: Scale, seed: int) -> Outcome:
    """Seconds: about 1, 3, 10."""
    objects = scale.pick(60, 400, 2000)
    sizes = scale.pick((2040, 2052, 2100, 3000), _SIZES, _SIZES)
    waste = {(name, size): _fill(name, [size] * objects).waste for name in _NAMES for size in sizes}
    dice = random.Random(seed)
    mixed = [dice.randint(_HALF + 1, 3072) for _ in range(objects)]
    one, many = ({name: _fill(name, some) for name in _NAMES} for some in ([_ABOVE] * objects, mixed))
    return Outcome(
        Table("published", ("allocation set", "xvmalloc's external fragmentation %"), (("> PAGE_SIZE/2", "up to 50"),)),
        (
            _table(waste, sizes, objects), memory_table(f"ours: {objects} objects of {_ABOVE} bytes", one),
            memory_table(f"ours: {objects} objects of 2049 to 3072 bytes", many),
        ),
        _claims(waste, sizes, many),
        (Figure("most of a page that xvmalloc wastes, above half", 0.50,
                max(waste["xvmalloc", size] for size in sizes if size > _HALF)),),
        "xcfmalloc keeps up to 32 pages in reserve, which are not counted as held here.",
        _charts(waste, sizes),
    )  # fmt: skip


def _fill(name: str, sizes: Sequence[int]) -> Memory:
    """What a fresh allocator holds for objects of these sizes."""
    heap = factory(f"{name},pages={len(sizes) + 64}")()
    live = store(heap, sizes)
    return measure(heap, live, name, (heap.source.held - _reserve(heap)) * _PAGE)


def _reserve(heap: Any) -> int:
    """Pages that are kept for the next requests only."""
    reserve: int = heap.counters().get("reserve_pages", 0)
    return reserve


def _table(waste: Mapping[tuple[str, int], float], sizes: Sequence[int], objects: int) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for size in sizes:
        rows.append((size, _PAGE // size, *(round(100 * waste[name, size], 1) for name in _NAMES)))
    columns = ("object", "would fit a page", *(f"{name} %" for name in _NAMES))
    return Table(f"ours: share of the pages held that is not data, {objects} objects of one size", columns, tuple(rows))


def _claims(
    waste: Mapping[tuple[str, int], float], sizes: Sequence[int], mixed: Mapping[str, Memory]
) -> tuple[Claim, ...]:
    below = max(waste["xvmalloc", size] for size in sizes if size <= 2040)
    above = waste["xvmalloc", 2052]
    near = [size for size in sizes if _HALF < size <= _CLOSE]
    better = all(waste[name, size] < waste["xvmalloc", size] for name in _CONTENDERS for size in near)
    shares = {name: 100 * used.waste for name, used in mixed.items()}
    return (
        Claim("xvmalloc falls off a cliff at half a page", above > 0.45 > below + 0.1,
              f"{100 * waste['xvmalloc', 2040]:.1f} % at 2040 bytes, {100 * above:.1f} % at 2052"),
        Claim("Scattered objects waste less there", better,
              "; ".join(f"{size}: {', '.join(f'{100 * waste[name, size]:.1f}' for name in _NAMES)}" for size in near)),
        Claim("So they do for mixed sizes above half a page", all(shares[name] < shares["xvmalloc"] / 2
              for name in _CONTENDERS), ", ".join(f"{name} {share:.1f} %" for name, share in shares.items())),
        Claim("They pay with copies at every access", all(mixed[name].copies > 1 for name in _CONTENDERS)
              and not mixed["xvmalloc"].copies, ", ".join(f"{n} {mixed[n].copies:.2f}" for n in _NAMES)),
    )  # fmt: skip


def _charts(waste: Mapping[tuple[str, int], float], sizes: Sequence[int]) -> tuple[Chart, ...]:
    lines = tuple(Line(name, tuple((size, 100 * waste[name, size]) for size in sizes)) for name in _NAMES)
    return (Chart("share of the pages held that is not data", "bytes of an object", "%", lines),)


EXPERIMENT = Experiment(
    "half-page", "xvmalloc wastes up to half of its pages on objects above half a page; scattered ones do not.",
    Posting("Seth Jennings", "2011-09", "staging: zcache: xcfmalloc support"), 1.25, run,
)  # fmt: skip
