"""A comparison as a picture, SVG or PNG by the file's name: a row for each trace.

Left: bytes held in the course of the trace, and bytes asked for.  Right: how many calls take more than so many steps.
Old and new differ by colour and by dashes.  Needs matplotlib (the extra ``plots``).

>>> ENDINGS
('.svg', '.png', '.pdf')
"""

import importlib
from collections import Counter
from pathlib import Path
from typing import Any

from ..extras import PLOTS, needed
from ..options import Problem
from .comparing import Comparison, Row

ENDINGS = (".svg", ".png", ".pdf")
_OLD, _NEW, _ASKED = "#b35806", "#2166ac", "#777777"  # apart for every kind of eyes, and in print
_STYLE = {"old": {"color": _OLD, "linestyle": "--"}, "new": {"color": _NEW, "linestyle": "-"}}


def check_plot(path: Path) -> None:
    """Find out before the work that there can be no picture.  Raises Problem."""
    if path.suffix not in ENDINGS:
        raise Problem(f"cannot draw {path}; its name should end in {', '.join(ENDINGS)}")
    needed("matplotlib", PLOTS)


def plot(found: Comparison, path: Path) -> None:
    """Draw it.  The same comparison gives the same bytes as SVG.  Raises Problem."""
    check_plot(path)
    matplotlib = needed("matplotlib", PLOTS)
    figures: Any = importlib.import_module("matplotlib.figure")
    rows = [*found.rows, *found.adversarial]
    look = {"svg.hashsalt": "heaplaw", "font.size": 8, "axes.spines.top": False, "axes.spines.right": False}
    with matplotlib.rc_context(look):
        figure = figures.Figure(figsize=(9, 1 + 1.7 * max(1, len(rows))), layout="constrained")
        axes = figure.subplots(max(1, len(rows)), 2, squeeze=False)
        figure.suptitle(f"{found.old}  ->  {found.new}", fontsize=10)
        for (left, right), row in zip(axes, rows, strict=False):
            _held(left, row)
            _steps(right, row)
        if rows:
            axes[0][0].legend(frameon=False, loc="upper left")
        metadata = {"Date": None} if path.suffix == ".svg" else None
        figure.savefig(path, metadata=metadata)


def _held(axis: Any, row: Row) -> None:
    """Bytes held, in the course of the trace."""
    for name, side in (("old", row.old), ("new", row.new)):
        points = [held / 1024 for _, held in side.samples]
        axis.plot(_share(points), points, label=name, **_STYLE[name])
    asked = [asked / 1024 for asked, _ in row.new.samples]
    axis.fill_between(_share(asked), asked, color=_ASKED, alpha=0.25, linewidth=0, label="asked for")
    axis.set_ylim(bottom=0)
    axis.set_ylabel("KiB held")
    axis.set_xlabel("% of the operations")
    axis.set_title(f"{row.workload.name} ({row.workload.kind}, {row.old.operations:,} operations)", fontsize=8)


def _share(points: list[float]) -> list[float]:
    return [100 * index / max(1, len(points) - 1) for index in range(len(points))]


def _steps(axis: Any, row: Row) -> None:
    """Share of the calls that take at least so many steps; the curve that falls first is the better one."""
    for name, side in (("old", row.old), ("new", row.new)):
        calls = side.alloc_steps + side.free_steps
        if not calls:
            axis.text(0.5, 0.5 if name == "old" else 0.4, f"{name} counts no steps", ha="center", fontsize=7)
            continue
        steps, shares = _at_least(calls)
        axis.step(steps, shares, where="post", label=name, **_STYLE[name])
    axis.set_xscale("symlog", linthresh=1)
    axis.set_yscale("log")
    axis.set_xlabel("steps")
    axis.set_ylabel("% of calls, at least")


def _at_least(calls: Counter[int]) -> tuple[list[int], list[float]]:
    """(steps, percent of the calls that take as many or more)."""
    total = left = calls.total()
    steps, shares = [], []
    for number in sorted(calls):
        steps.append(number)
        shares.append(100 * left / total)
        left -= calls[number]
    return steps, shares
