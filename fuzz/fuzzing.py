"""``heaplaw fuzz``: coverage-guided fuzzing of one target, for as long as it is given.

What it finds is made small and shown as by ``heaplaw check``; what it has learned stays in the corpus.  Native
targets are fuzzed by the edges of their own code where clang has put counters into it, as it does for ``--source``.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, cast

import click
from click.core import ParameterSource

from heaplaw.impls.registry import factory, variants
from heaplaw.properties.shards import confirm_all
from heaplaw.properties.verdict import Tally, exit_code

from . import building, report
from .engine import LONGEST, Figures, Session, Settings, skipped_line, unavailable
from .harness import COVERAGE, MUTATORS, NAME
from .inputs import safe_name
from .isolating import Bounds, Guards, confirm_apart, fresh, guards, needs_isolation
from .native_fuzzing import NativeFigures, NativeSession, usual_coverage
from .options import Duration, Problem, bar, complete_target, console, json_option, make_folder, say, seed_option

_OPERATIONS = 1 << 60  # time or runs are the budget here


@click.command()
@click.argument("target", required=False, default="", shell_complete=complete_target)
@click.option("--time", "seconds", type=Duration(), default="60s", show_default=True, help="How long.")
@click.option("--runs", type=click.IntRange(1), help="Inputs to execute; fewer in the given time are inconclusive.")
@seed_option
@click.option(
    "--corpus", type=click.Path(path_type=Path), metavar="DIR", help="Keep inputs in DIR/TARGET, and start from them."
)
@click.option(
    "--coverage", type=click.Choice(COVERAGE), default=COVERAGE[0], help="What is new.",
    show_default="states; code of a library that counts its edges",
)
@click.option("--mutator", type=click.Choice(MUTATORS), default=MUTATORS[0], show_default=True)
@click.option("--length", type=click.IntRange(1), default=LONGEST, show_default=True, help="Operations of an input.")
@click.option("--save", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Write findings here.")
@building.source_option
@building.cflags_option
@building.build_option
@click.option("--address", is_flag=True, help="Build --source with AddressSanitizer and UBSan too.")
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
    sources: tuple[Path, ...],
    cflags: str,
    folder: Path,
    address: bool,
    json_path: Path | None,
) -> int:
    """Fuzz TARGET with libFuzzer (package atheris), guided by abstract states or by the code that runs.

    A law that breaks is made small, confirmed and muted, and fuzzing goes on.  A native target is guided by its own
    edges if it was built with clang -fsanitize=fuzzer-no-link, as --source is; what it does to its process is a
    finding.

    \b
    Example: heaplaw fuzz tlsf --time 5m --corpus corpus --save findings
             heaplaw fuzz --source mine.c --source adapter.c --time 5m
    """
    if (why := unavailable()) is not None:
        raise Problem(why)
    if bool(target) == bool(sources):
        raise Problem("fuzz one target: name it, or give its --source")
    target = target or building.built_for_fuzzing(sources, cflags, folder, address=address)
    native = needs_isolation(target)
    if not native:
        for variant in variants(target):
            factory(variant)
    elif click.get_current_context().get_parameter_source("coverage") is ParameterSource.DEFAULT:
        coverage = usual_coverage(target)
    for place in (save, corpus):
        if place is not None:
            make_folder(place)
    inputs = corpus / safe_name(target) if corpus is not None else None
    settings = Settings(
        cast(Literal["states", "code", "both"], coverage), cast(Literal["operations", "bytes"], mutator), inputs,
        runs or 0, length, save,
    )  # fmt: skip
    out = console()
    with _session(target, seed, settings) as (session, crew):
        say(out, f"seed {seed}")
        with bar("fuzzing", runs or 0) as progress:
            tally = session.go(time.monotonic() + seconds, progress)
        if crew is not None:
            confirm_apart(crew, [tally])
        else:
            confirm_all(tally)
    _settle(tally, session, runs or 0)
    code = exit_code([tally])
    if json_path is not None:
        extra = {"fuzzing": as_data(tally, session.figures, settings)}
        json_path.write_text(report.as_json([tally], seed=seed, code=code, extra=extra))
    report.show_findings(out, tally.findings, save)
    _show(tally, session.figures, inputs, code)
    return code


def _show(tally: Tally, figures: Figures, inputs: Path | None, code: int) -> None:
    """What stands below the counterexamples; ``inputs``: the folder of a corpus that is kept."""
    out = console()
    out.print()
    if figures.skipped:
        say(out, skipped_line(figures.skipped, inputs))
    out.print(report.summary([tally]))
    say(out, "\n" + line(tally, figures))
    say(out, report.verdict([tally], code))


@contextmanager
def _session(target: str, seed: int, settings: Settings) -> Iterator[tuple[Session, Guards | None]]:
    """The work on a target, and the child processes for one that must not run here.  Raises Problem, TargetError."""
    if not needs_isolation(target):
        yield Session(target, _OPERATIONS, seed, settings=settings), None
        return
    with guards([target], Bounds()) as crew:
        known, lost = fresh(crew, [target], NAME, _OPERATIONS, ())
        if lost:
            raise Problem(f"{target}: {lost[0].stopped}")
        yield NativeSession(crew, known[0], _OPERATIONS, seed, settings), crew


def _settle(tally: Tally, session: Session, runs: int) -> None:
    """Say what was planned: all that was done, if nothing cut it short."""
    short = runs and session.figures.executed < runs
    if short and not tally.stopped:
        tally.stopped = f"{session.figures.executed:,} of {runs:,} runs in the time given"
    tally.planned = tally.operations + bool(tally.stopped)


def line(tally: Tally, figures: Figures) -> str:
    """What fuzzing came to, in one line."""
    seconds = figures.seconds or 1.0
    text = (
        f"{figures.executed:,} inputs, {figures.executed / seconds:,.0f} a second ({tally.operations / seconds:,.0f} "
        f"operations a second), {figures.corpus:,} kept"
    )
    if not isinstance(figures, NativeFigures) or figures.features:
        text += f", {figures.features:,} features of abstract states"
    if isinstance(figures, NativeFigures) and (seen := figures.edges).most:
        features = f"{seen.first_features:,} to {seen.most_features:,} features"
        text += f", {seen.first:,} to {seen.most:,} edges and {features} of the library's code"
    return text


def as_data(tally: Tally, figures: Figures, settings: Settings) -> dict[str, Any]:
    """For a report; rates under ``timing``, since they are never the same twice."""
    return {
        "coverage": settings.coverage, "mutator": settings.mutator, "inputs": figures.executed,
        "corpus": figures.corpus, "features": figures.features, "skipped": figures.skipped,
        "processes": figures.processes, "instrumented": list(figures.instrumented), "stopped": tally.stopped,
        **({"library": figures.edges._asdict()} if isinstance(figures, NativeFigures) else {}),
        "timing": {
            "seconds": round(figures.seconds, 3),
            "inputs_a_second": round(figures.executed / (figures.seconds or 1.0), 1),
            "operations_a_second": round(tally.operations / (figures.seconds or 1.0), 1),
        },
    }  # fmt: skip
