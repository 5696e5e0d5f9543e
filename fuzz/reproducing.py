"""``heaplaw reproduce``: published results made again, the published table beside ours, and a verdict.

``heaplaw reproduce zram TREE`` is the experiment of ``published.zram`` over a real tree, a command of its own.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from heaplaw.properties.processes import each
from heaplaw.properties.verdict import COUNTEREXAMPLE, INCONCLUSIVE, PASSED

from . import report
from .options import Problem, bar, console, jobs_option, json_option, make_folder, plain_table, say, seed_option
from .published import chart, shape, zram
from .published.results import RESULTS, as_data, made_again
from .published.shape import DIRECTION, NOT_REPRODUCED, NOT_RUN, REPRODUCED, Outcome, Scale, Verdict

_STYLES = {REPRODUCED: "green", DIRECTION: "yellow", NOT_REPRODUCED: "red", NOT_RUN: "yellow"}
Made = tuple[str, Outcome, Verdict, float]


class _Reproduce(click.Command):
    """A command with one other inside: ``zram TREE`` was here first, and its options are its own."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        if args[:1] == ["zram"]:
            return reproduce_zram.make_context(f"{info_name} zram", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


@click.command("reproduce", cls=_Reproduce)
@click.argument("names", nargs=-1, metavar="[NAME]... | zram TREE")
@click.option("--list", "listing", is_flag=True, help="List the results, with their sources, and make none.")
@click.option("--quick", is_flag=True, help="Smaller: under two minutes in all; figures are coarser.")
@click.option("--plots", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Write charts (SVG).")
@jobs_option
@seed_option
@json_option
def reproduce(
    names: tuple[str, ...], listing: bool, quick: bool, plots: Path | None, jobs: int, seed: int, json_path: Path | None
) -> int:
    """Make published results again, all of them or NAMEs, and say whether they come out as published.

    Prints the published table beside ours, memory in both metrics, and a verdict: reproduced in direction and
    within the factor that was stated beforehand, or not, and why. Ends with 1 if a direction is not reproduced.

    \b
    Example: heaplaw reproduce --quick
             heaplaw reproduce half-page --plots charts
             heaplaw reproduce zram /usr/src/linux     over a real tree; its options: heaplaw reproduce zram --help
    """
    if unknown := [name for name in names if name not in RESULTS]:
        raise Problem(f"no published result {unknown[0]!r}; there are {', '.join(RESULTS)}, and zram TREE")
    chosen = list(dict.fromkeys(names)) or list(RESULTS)
    out = console()
    if listing:
        out.print(_listed(chosen))
        return PASSED
    if plots is not None:
        make_folder(plots)
    scale = Scale.QUICK if quick else Scale.FULL
    say(out, f"seed {seed}")
    made = []
    with bar("reproducing", len(chosen), "results") as progress:
        for one in _all(chosen, scale, seed, jobs):
            made.append(one)
            progress(len(made))
            _show(out, one)
            if plots is not None:
                _draw(plots, one)
    code = exit_code([judged for _, _, judged, _ in made])
    if json_path is not None:
        data = {"format": "heaplaw published results 1", "scale": scale.name.lower(), "seed": seed, "exit": code,
                "results": [as_data(*one) for one in made]}  # fmt: skip
        json_path.write_text(report.to_json(data))
    _show_all(out, made, seed, code)
    return code


def _all(names: Sequence[str], scale: Scale, seed: int, jobs: int) -> Iterator[Made]:
    """Results in the order of their names, however they end."""
    make: Callable[[str], tuple[Outcome, Verdict, float]] = partial(made_again, scale=scale, seed=seed)
    if min(jobs, len(names)) == 1:
        yield from ((name, *make(name)) for name in names)
        return

    def lost(index: int, problem: Exception) -> tuple[Outcome, Verdict, float]:
        raise problem

    made = each(make, [(name,) for name in names], lost, jobs=min(jobs, len(names)))
    yield from ((name, *one) for name, one in zip(names, made, strict=True))


def exit_code(verdicts: Sequence[Verdict]) -> int:
    """1 where a direction is not reproduced, 3 where something was not run, else 0."""
    kinds = {judged.kind for judged in verdicts}
    if NOT_REPRODUCED in kinds:
        return COUNTEREXAMPLE
    return INCONCLUSIVE if NOT_RUN in kinds or not kinds else PASSED


# ---- what people see -------------------------------------------------------------------------


def _listed(names: Sequence[str]) -> Table:
    table = plain_table()
    for title in ("result", "what was published", "by whom"):
        table.add_column(title, no_wrap=title == "result")
    for name in names:
        table.add_row(name, escape(RESULTS[name].sentence), escape(str(RESULTS[name].source)))
    return table


def _show(out: Console, made: Made) -> None:
    name, outcome, judged, seconds = made
    experiment = RESULTS[name]
    out.print(f"\n[bold]{name}[/]  {escape(experiment.sentence)}", highlight=False, soft_wrap=True)
    out.print(escape(str(experiment.source)), style="dim", highlight=False, soft_wrap=True)
    for table in (outcome.published, *outcome.ours):
        out.print(f"\n[italic]{escape(table.title)}[/]", highlight=False, soft_wrap=True)
        out.print(_drawn(table))
    out.print()
    for claim in outcome.claims:
        mark = "[green]yes[/]" if claim.holds else "[red]no [/]"
        out.print(f"{mark} {escape(claim.sentence)}: {escape(claim.seen)}", highlight=False, soft_wrap=True)
    style = _STYLES[judged.kind]
    out.print(f"[{style}]{escape(judged.text)}[/] ({seconds:.1f} s)", highlight=False, soft_wrap=True)


def _drawn(table: shape.Table) -> Table:
    drawn = plain_table()
    for at, column in enumerate(table.columns):
        drawn.add_column(escape(column), justify="left" if at == 0 else "right", overflow="fold")
    for row in table.rows:
        drawn.add_row(*(escape(shape.cell(value)) for value in row))
    return drawn


def _show_all(out: Console, made: Sequence[Made], seed: int, code: int) -> None:
    """One line a result, and one that says what the exit code says."""
    table = plain_table()
    for title in ("result", "verdict", "farthest figure, times"):
        table.add_column(title, justify="right" if "," in title else "left")
    for name, outcome, judged, _ in made:
        factor = f"{judged.factor:.2f} (of {RESULTS[name].within:g})" if outcome.figures else "none published"
        table.add_row(name, f"[{_STYLES[judged.kind]}]{judged.kind}[/]", factor)
    out.print()
    out.print(table)
    held = sum(judged.kind in (REPRODUCED, DIRECTION) for _, _, judged, _ in made)
    within = sum(judged.kind == REPRODUCED and bool(outcome.figures) for _, outcome, judged, _ in made)
    seconds = sum(seconds for *_, seconds in made)
    said = f"{held} of {len(made)} reproduced in direction, {within} of them within their factor; {seconds:.0f} s"
    say(out, f"\nseed {seed}: {said} of processor time (exit {code})")


def _draw(folder: Path, made: Made) -> None:
    """A file a chart."""
    name, outcome, *_ = made
    for number, one in enumerate(outcome.charts):
        (folder / f"{name}{f'-{number + 1}' if number else ''}.svg").write_text(chart.svg(one), encoding="utf-8")


# ---- over a real tree ------------------------------------------------------------------------


@click.command("zram")
@click.argument("tree", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--remove", metavar="A,B,...", default="", help="Directories to remove, in order.")
@click.option("--rounds", type=click.IntRange(1), default=1, show_default=True, help="Write and remove so often.")
@click.option("--with", "compress", type=click.Choice(["lz4", "lzo"]), default="lz4", show_default=True)
@click.option("--lag", type=click.IntRange(0), default=zram.LAG, show_default=True, help="Pages writes come late by.")
@click.option("--target", "targets", multiple=True, help="Allocators to store into; may be repeated.")
@json_option
def reproduce_zram(
    tree: Path, remove: str, rounds: int, compress: str, lag: int, targets: tuple[str, ...], json_path: Path | None
) -> None:
    """Store TREE's pages compressed, remove directories, and print the overhead after each step.

    \b
    Example: heaplaw reproduce zram /usr/src/linux --rounds 2
    """
    folders = tuple(name for name in remove.split(",") if name)
    names = targets or zram.TARGETS
    steps: list[zram.Step] = []
    try:
        how = zram.compressor(compress)
        with bar("storing", 0, "pages") as progress:
            for step in zram.experiment(
                tree, names, how, folders=folders, rounds=rounds, lag=lag, progress=progress
            ):
                steps.append(step)
    except zram.ExperimentError as problem:
        raise Problem(str(problem)) from None
    recorded = zram.recording() if tuple(dict.fromkeys(step.name for step in steps)) == zram.STEPS else {}
    if json_path is not None:
        json_path.write_text(report.to_json([zram.as_json(step) for step in steps]))
    out = console()
    out.print(zram.table(steps, recorded))
    say(out, "\n" + zram.verdict(steps, recorded))
