"""``heaplaw gate``: is this project as good as it says it is?"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import click
from rich.console import Console

from heaplaw.properties.floors import Measured
from heaplaw.properties.verdict import Status

from . import report
from .gate import again, canaries, certificates, exploration, inputs, outcome, strategy
from .gate.changed import touched
from .gate.configuration import Aim, Configuration, load
from .gate.running import LEFT_OUT, Gate, group, prepare
from .gate.seeding import changes, seed
from .gate.showing import Lines
from .options import Duration, console, jobs_option, say
from .reports.model import Report, Step
from .reports.writing import Wanted, report_options, write


@click.command("gate")
@click.option("--quick", is_flag=True, help="The small budget: under a minute with two targets.")
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", show_default="the nearest",
              help="heaplaw.toml, or a pyproject.toml with [tool.heaplaw].")  # fmt: skip
@click.option("--changed-since", "revision", metavar="REV", help="Only targets whose sources differ from REV (git).")
@click.option("--save/--no-save", default=True, show_default=True, help="Keep traces of what is found.")
@click.option("--ops", type=click.IntRange(1), help="Of an engine on a target.", show_default="the configuration's")
@click.option("--time", "seconds", type=Duration(), help="Ceiling for all.", show_default="the configuration's")
@click.option("--seed", "given", type=click.IntRange(0), help="Same seed, same run.", show_default="from the commit")
@jobs_option
@report_options
def gate(
    quick: bool,
    config: Path | None,
    revision: str | None,
    save: bool,
    ops: int | None,
    seconds: float | None,
    given: int | None,
    jobs: int,
    reports: Wanted,
) -> int:
    """Check a project as its heaplaw.toml or [tool.heaplaw] says: targets, engines, budgets, floors, ledgers.

    In this order: can the engines go red, are the laws still there, known divergences (each must still fail),
    committed counterexamples, the corpus, certificates, then fresh exploration from the commit's seed. What is found
    is saved among the counterexamples, and is a regression case from then on.

    Ends with 0 only if all of it ran and passed; 1: a law is broken, or a known divergence no longer fails; 3:
    something did not run, or not to its end; 4: an engine does not find the bug that is planted for it.

    \b
    Example: heaplaw gate --quick
             heaplaw gate --changed-since origin/main --junit junit.xml
    """
    settings = load(config)
    reports = Wanted(**{name: path and path.absolute() for name, path in vars(reports).items()})
    out = console()
    lines = Lines(out)
    with _inside(settings.root):
        run = Gate(settings, seed(settings.root, given), quick, jobs, save, ops, seconds, lines.part)
        title = f"{'quick gate' if quick else 'gate'} of {settings.file}"
        for line in (title, f"seed {run.seed.number} ({run.seed.source})\n"):
            say(out, line)
        written = _go(run, revision, lines)
        _show(out, run, written)
        write(written, reports)
    return written.code


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """Names of targets are relative to the project's folder, in worker processes too."""
    with contextlib.chdir(folder):
        yield


def _go(run: Gate, revision: str | None, lines: Lines) -> Report:
    """All parts, in order; each enters what it has found."""
    known = again.known_divergences(run.settings.known)
    aims = _wanted(run, revision)
    if aims:
        prepare(run, aims, known)
        canaries.check_engines(run)
        canaries.check_laws(run)
        again.divergences(run, known)
        again.counterexamples(run, run.settings.known)
        inputs.check(run)
        certificates.check(run)
        for engine in run.engines:
            for tally in exploration.explore(run, engine):
                lines.step(outcome.step_of(tally))
        canaries.check_asked(run)
        strategy.check(run)
    floors = exploration.measured(run)
    exploration.keep(run)
    end = outcome.outcome(run, floors)
    if floors:
        lines.part("floors", [_floor_step(one) for one in floors], f"{sum(one.met for one in floors)} met")
    extra = {"gate": {"quick": run.quick, "seed_from": run.seed.source, "left_out": run.left_out, "advice": end.advice}}
    verdict_line = f"{end.verdict} (exit {end.code})"
    return Report(
        "gate", run.seed.number, end.code, verdict_line, run.tallies, run.steps, floors, dict(run.saved), extra
    )


def _wanted(run: Gate, revision: str | None) -> list[Aim]:
    """The targets to check: all, or those that differ from a revision; what is left out is said."""
    aims = list(run.settings.aims)
    if revision is None:
        return aims
    why = touched(run.settings, aims, changes(run.root, revision))
    steps = []
    for aim in aims:
        name = aim.name or ", ".join(aim.sources)
        if aim not in why:
            steps.append(Step(LEFT_OUT, name, Status.NOT_RUN, f"nothing that it is made of differs from {revision}"))
            run.left_out += _groups(run.settings, aim)
    if steps:
        run.enter(LEFT_OUT, steps)
    return [aim for aim in aims if aim in why]


def _groups(settings: Configuration, aim: Aim) -> list[str]:
    """How traces call a target, without parameters; one that is built from sources has two names."""
    if aim.name:
        return [group(aim.name)]
    stem = Path(aim.sources[0]).stem
    return [f"./{Path(settings.build) / stem}{kind}.so" for kind in ("-edges", "-asan")]


def _floor_step(floor: Measured) -> Step:
    """A floor as a line; reports have them apart."""
    verdict = Status.NOT_APPLICABLE if floor.why_not else Status.PASSED if floor.met else Status.INCONCLUSIVE
    return Step("floors", "", verdict, str(floor))


def _show(out: Console, run: Gate, written: Report) -> None:
    """The counterexamples, and at the end what to do next."""
    for finding in run.findings():
        file = run.saved.get((finding.target, finding.violation.law))
        how = "saved; " if file in run.new else ""
        report.show_finding(out, finding, f"{how}again: heaplaw replay {file}" if file else "--save keeps the trace")
    advice = written.extra["gate"]["advice"]
    say(out, f"\nseed {written.seed}")
    say(out, written.verdict + (f": {advice}" if advice else ""))
