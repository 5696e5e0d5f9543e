"""``heaplaw fuzz``: coverage-guided fuzzing of one target, for as long as it is given.

What it finds is made small and shown as by ``heaplaw check``; what it has learned stays in the corpus.
"""

import time
from pathlib import Path
from typing import Any, Literal, cast

import click

from heaplaw.impls.registry import factory, variants
from heaplaw.properties.shards import confirm_all
from heaplaw.properties.verdict import Tally, exit_code

from . import report
from .engine import LONGEST, Figures, Session, Settings, skipped_line, unavailable
from .harness import COVERAGE, MUTATORS
from .inputs import safe_name
from .isolating import refuse_native
from .options import Duration, Problem, bar, console, json_option, make_folder, seed_option

_OPERATIONS = 1 << 60  # time or runs are the budget here


@click.command()
@click.argument("target")
@click.option("--time", "seconds", type=Duration(), default="60s", show_default=True, help="How long.")
@click.option("--runs", type=click.IntRange(1), help="Inputs to execute; fewer in the given time are inconclusive.")
@seed_option
@click.option(
    "--corpus", type=click.Path(path_type=Path), metavar="DIR", help="Keep inputs in DIR/TARGET, and start from them."
)
@click.option("--coverage", type=click.Choice(COVERAGE), default=COVERAGE[0], show_default=True, help="What is new.")
@click.option("--mutator", type=click.Choice(MUTATORS), default=MUTATORS[0], show_default=True)
@click.option("--length", type=click.IntRange(1), default=LONGEST, show_default=True, help="Operations of an input.")
@click.option("--save", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Write findings here.")
@json_option
def fuzz(
    target: str,
    seconds: float,
    runs: int | None,
    seed: int,
    corpus: Path | None,
    coverage: str,
    mutator: str,
    length: int,
    save: Path | None,
    json_path: Path | None,
) -> int:
    """Fuzz TARGET with libFuzzer (package atheris), guided by abstract states or by the code that runs.

    A law that breaks is made small, confirmed and muted, and fuzzing goes on.

    \b
    Example: heaplaw fuzz tlsf --time 5m --corpus corpus --save findings
    """
    refuse_native((target,))
    for variant in variants(target):
        factory(variant)
    if (why := unavailable()) is not None:
        raise Problem(why)
    for folder in (save, corpus):
        if folder is not None:
            make_folder(folder)
    folder = corpus / safe_name(target) if corpus is not None else None
    settings = Settings(
        cast(Literal["states", "code", "both"], coverage), cast(Literal["operations", "bytes"], mutator), folder,
        runs or 0, length, save,
    )  # fmt: skip
    out = console()
    out.print(f"seed {seed}", highlight=False)
    session = Session(target, _OPERATIONS, seed, settings=settings)
    with bar("fuzzing", runs or 0) as progress:
        tally = session.go(time.monotonic() + seconds, progress)
    _settle(tally, session, runs or 0)
    code = exit_code([tally])
    if json_path is not None:
        extra = {"fuzzing": as_data(tally, session.figures, settings)}
        json_path.write_text(report.as_json([tally], seed=seed, code=code, extra=extra))
    report.show_findings(out, tally.findings, save)
    out.print()
    if session.figures.skipped:
        out.print(skipped_line(session.figures.skipped, folder), highlight=False, soft_wrap=True, markup=False)
    out.print(report.summary([tally]))
    out.print("\n" + line(tally, session.figures), highlight=False, soft_wrap=True, markup=False)
    out.print(report.verdict([tally], code), highlight=False, soft_wrap=True)
    return code


def _settle(tally: Tally, session: Session, runs: int) -> None:
    """Confirm what was found, and say what was planned: all that was done, if nothing cut it short."""
    confirm_all(tally)
    short = runs and session.figures.executed < runs
    if short and not tally.stopped:
        tally.stopped = f"{session.figures.executed:,} of {runs:,} runs in the time given"
    tally.planned = tally.operations + bool(tally.stopped)


def line(tally: Tally, figures: Figures) -> str:
    """What fuzzing came to, in one line."""
    seconds = figures.seconds or 1.0
    return (
        f"{figures.executed:,} inputs, {figures.executed / seconds:,.0f} a second ({tally.operations / seconds:,.0f} "
        f"operations a second), {figures.corpus:,} kept, {figures.features:,} features of abstract states"
    )


def as_data(tally: Tally, figures: Figures, settings: Settings) -> dict[str, Any]:
    """For a report; rates under ``timing``, since they are never the same twice."""
    return {
        "coverage": settings.coverage, "mutator": settings.mutator, "inputs": figures.executed,
        "corpus": figures.corpus, "features": figures.features, "skipped": figures.skipped,
        "processes": figures.processes, "instrumented": list(figures.instrumented), "stopped": tally.stopped,
        "timing": {
            "seconds": round(figures.seconds, 3),
            "inputs_a_second": round(figures.executed / (figures.seconds or 1.0), 1),
            "operations_a_second": round(tally.operations / (figures.seconds or 1.0), 1),
        },
    }  # fmt: skip
