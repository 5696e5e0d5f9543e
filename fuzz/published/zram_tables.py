"""The tables of the afmalloc posting: a kernel tree on a compressed disk, directories removed, once and ten times.

The experiment itself is ``zram``; here it runs over a tree that is made from a seed, with the
posting's shares of folders and a part of its pages, so that it recurs everywhere.  The
same on Linux 6.18's own zsmalloc, recorded, stands beside it; that has longer chains, another tree
and other compression.
"""

import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from .images import ZLIB, plant
from .memory import COLUMNS
from .shape import Cell, Chart, Claim, Experiment, Figure, Line, Outcome, Posting, Scale, Table
from .zram import FOLDERS, STEPS, Step, experiment, recording

_TARGETS = ("zsmalloc,chain=4", "zsmalloc,chain=8", "afmalloc")
_ORIGINAL = (526.23, 288.68, 177.68, 146.83, 124.52, 104.29)  # MB of data after each step of the first table
_SHARES = {name: (before - after) / _ORIGINAL[0]
           for name, before, after in zip(FOLDERS, _ORIGINAL, _ORIGINAL[1:], strict=False)}  # fmt: skip
_SHARES["other"] = _ORIGINAL[-1] / _ORIGINAL[0]
_PUBLISHED = {  # rounds: overhead in % of zsmalloc, of afmalloc, and afmalloc's real one, after each step
    1: ((5.34, 6.80, 9.47, 11.51, 13.96, 16.19), (4.02, 6.01, 7.19, 8.39, 9.54, 10.81),
        (3.61, 3.90, 3.76, 3.93, 3.95, 3.96)),
    10: ((5.77, 8.55, 20.37, 25.50, 31.04, 37.35), (4.62, 6.97, 14.74, 18.36, 21.28, 25.71),
         (3.64, 3.94, 3.79, 3.96, 3.98, 3.98)),
}  # fmt: skip
_LAG = 0.107  # of all pages: 40,000 of a tree of 374,000, as fitted to the recording


def run(rounds: int, scale: Scale, seed: int) -> Outcome:
    """Seconds: about 1, 7 and 25 for one round; 1, 22 and 65 for ten."""
    pages = scale.pick(300, 12000, 48000) if rounds == 1 else scale.pick(150, 8000, 24000)
    with tempfile.TemporaryDirectory(prefix="heaplaw-") as folder:
        tree = Path(folder)
        plant(tree, pages, _SHARES, seed)
        steps = list(experiment(tree, _TARGETS, ZLIB, folders=FOLDERS, rounds=rounds, lag=round(pages * _LAG)))
    last = {target: [step for step in steps if step.round == rounds and step.target == target] for target in _TARGETS}
    zs, _, af = (last[target] for target in _TARGETS)
    return Outcome(
        _published(rounds), (_table(last, rounds), _memory(last)), _claims(zs, af, rounds, steps),
        _figures(zs, af, rounds), _why(pages, zs[0]), _charts(last, rounds),
    )  # fmt: skip


def _why(pages: int, first: Step) -> str:
    part = 100 * first.compressed / first.original
    return (
        f"The tree is made, {pages:,} pages of it, and zlib leaves {part:.0f} % of them (posting: a kernel's, 128,000, "
        f"LZO, 38 %). Zspages that are not full weigh more where there is less, those of long chains most: the column "
        f"of Linux 6.18 is of 374,000 pages, and 'heaplaw reproduce zram TREE' is the same over a real tree."
    )


def _published(rounds: int) -> Table:
    columns = ("step", "zsmalloc %", "afmalloc %", "afmalloc real %")
    rows = tuple(zip(STEPS, *_PUBLISHED[rounds], strict=True))
    many = "after one round" if rounds == 1 else "after ten rounds"
    return Table(f"published: overhead of the compressed data {many}", columns, rows)


def _table(last: Mapping[str, Sequence[Step]], rounds: int) -> Table:
    columns = ("step", "data MB", "compressed MB", "zsmalloc %", "chains of 8 %", "afmalloc %", "afmalloc real %",
               "Linux 6.18 %")  # fmt: skip
    rows: list[tuple[Cell, ...]] = []
    recorded = recording()
    for four, eight, af in zip(*last.values(), strict=True):
        sizes = [round(size / 1e6, 2) for size in (four.original, four.compressed)]
        kernel = recorded[rounds, four.name].percent
        percents = (four.percent, eight.percent, af.percent, af.real_percent, kernel)
        rows.append((four.name, *sizes, *(round(percent, 2) for percent in percents)))
    title = f"ours: round {rounds}, beside zsmalloc with chains of 8 as recorded on Linux 6.18"
    return Table(title, columns, tuple(rows))


def _memory(last: Mapping[str, Sequence[Step]]) -> Table:
    """Pages held, and what the allocator itself counts: the pool's bytes, for afmalloc with its metadata."""
    rows: list[tuple[Cell, ...]] = []
    for target, steps in last.items():
        for step in (steps[0], steps[-1]):
            held = step.pages // 4096
            counted = round(step.real_percent, 2) if step.used != step.pages else ""
            times = round(step.pages / step.compressed, 3)
            rows.append((f"{target}, {step.name}", step.compressed, held, times, counted))
    columns = (*COLUMNS[:4], "metadata + padding %")
    return Table("ours: memory; where the last column is empty the pool counts whole pages only", columns, tuple(rows))


def _claims(zs: Sequence[Step], af: Sequence[Step], rounds: int, steps: Sequence[Step]) -> tuple[Claim, ...]:
    ours = [(one.percent, two.percent) for one, two in zip(zs, af, strict=True)]
    reals = [step.real_percent for step in af]
    claims = [
        Claim("zsmalloc's overhead grows from step to step", zs[-1].percent > 2 * zs[0].percent,
              f"{zs[0].percent:.1f} % to {zs[-1].percent:.1f} %"),
        Claim("afmalloc's is below it at every step", all(two < one for one, two in ours),
              ", ".join(f"{two:.1f} < {one:.1f}" for one, two in ours)),
        Claim("What afmalloc itself takes stays the same", max(reals) < 1.5 * min(reals),
              f"{min(reals):.2f} to {max(reals):.2f} %"),
    ]  # fmt: skip
    if rounds > 1:
        first = next(step.percent for step in steps if step[:3] == (1, zs[-1].name, zs[-1].target))
        claims.append(Claim("After ten rounds zsmalloc has more of it than after one", zs[-1].percent > first,
                            f"{first:.1f} % then {zs[-1].percent:.1f} %"))  # fmt: skip
    return tuple(claims)


def _figures(zs: Sequence[Step], af: Sequence[Step], rounds: int) -> tuple[Figure, ...]:
    said = _PUBLISHED[rounds]
    figures = []
    for at in range(len(STEPS)):
        figures.append(Figure(f"zsmalloc's overhead after {STEPS[at]}", said[0][at], zs[at].percent))
        figures.append(Figure(f"afmalloc's overhead after {STEPS[at]}", said[1][at], af[at].percent))
        figures.append(Figure(f"afmalloc's real overhead after {STEPS[at]}", said[2][at], af[at].real_percent))
    return tuple(figures)


def _charts(last: Mapping[str, Sequence[Step]], rounds: int) -> tuple[Chart, ...]:
    lines = [Line(target, tuple((at, step.percent) for at, step in enumerate(steps))) for target, steps in last.items()]
    names = ("zsmalloc", "afmalloc")
    lines += [Line(f"{name}, published", tuple(enumerate(said)))
              for name, said in zip(names, _PUBLISHED[rounds], strict=False)]  # fmt: skip
    recorded = recording()
    lines.append(Line("Linux 6.18", tuple((at, recorded[rounds, step].percent) for at, step in enumerate(STEPS))))
    return (Chart(f"overhead after each step, round {rounds}", "step", "% of compressed data", tuple(lines)),)


_POSTING = Posting("Joonsoo Kim", "2014-09-26", "mm/afmalloc: introduce anti-fragmentation memory allocator (RFC)")
ONCE = Experiment(
    "zram-once", "Directories removed from a compressed tree leave zsmalloc 5 to 16 % of overhead, afmalloc 4 to 11 %.",
    _POSTING, 2.0, partial(run, 1),
)  # fmt: skip
TEN = Experiment(
    "zram-ten", "After ten rounds of it zsmalloc's overhead is 6 to 37 %, afmalloc's 5 to 26 %.", _POSTING, 2.0,
    partial(run, 10),
)  # fmt: skip
