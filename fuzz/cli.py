"""The command line: ``heaplaw`` and its commands; the longer ones stand in modules of their own."""

import sys
import time
import traceback
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import click
from rich.markup import escape

from heaplaw.impls.bugs import gallery
from heaplaw.impls.naming import TargetError
from heaplaw.impls.registry import BUILT_IN, factory, fitted, variants
from heaplaw.lawbook import LAWS
from heaplaw.operations import Kind, Operation
from heaplaw.properties import shards
from heaplaw.properties.client import ClientFault, culprit
from heaplaw.properties.engines import ENGINES, why_not
from heaplaw.properties.floors import FloorError, Floors, idle
from heaplaw.properties.recorded import OWN_FORMAT, Recording, RecordingError, read_recording
from heaplaw.properties.replay import Figures, replay, room
from heaplaw.properties.tallying import Tallying
from heaplaw.properties.verdict import INCONCLUSIVE, INTERNAL, PASSED, USAGE, Tally, exit_code
from heaplaw.trace import Trace

from . import bisecting, building, isolating, report
from .lazy import LazyGroup
from .options import (
    STOPPED,
    Duration,
    Problem,
    bar,
    bounds_options,
    complete_target,
    console,
    isolate_option,
    jobs_option,
    json_option,
    known_laws,
    make_folder,
    plain_table,
    say,
    seed_option,
    writable,
)
from .reports.model import Report
from .reports.writing import Wanted, report_options, write

_MOST_OPERATIONS = 200_000  # of a target, where no budget is given
_OPERATIONS = 600_000  # of all targets together, so that a check of all stays under a minute
_DEFAULT_TIME = "55s"


_ELSEWHERE = {
    "build-linux": "linux", "campaign": "campaign", "compare": "comparing", "corpus": "corpora", "explore": "exploring",
    "fuzz": "fuzzing", "gate": "gating", "init": "starting", "minimize": "minimizing", "mutate": "mutating",
    "prove": "proving", "reproduce": "reproducing", "selftest": "selftest",
}  # fmt: skip


@click.group(
    cls=LazyGroup, elsewhere=_ELSEWHERE, invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip
@click.version_option(package_name="heaplaw")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Check memory allocators against the laws that every allocator must obey.

    \b
    heaplaw check                          all built-in targets
    heaplaw check my_module:MyAllocator    your own
    heaplaw check ./libmine.so             your own in C, C++, Rust, Zig
    heaplaw init demo                      a project to start from, with a gate for CI
    heaplaw list                           what can be checked, and the laws
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@cli.command("list")
@json_option
@click.option("--laws", is_flag=True, help="List the laws instead.")
@click.option("--bugs", is_flag=True, help="List the gallery of bugs instead.")
def list_command(json_path: Path | None, laws: bool, bugs: bool) -> None:
    """List the built-in targets with what they promise, the laws, or the bugs that can be planted.

    \b
    Example: heaplaw list --laws
    """
    out = console()
    if json_path is not None:
        json_path.write_text(report.listing())
    table = plain_table()
    if laws:
        for title in ("law", "what must hold", "needs"):
            table.add_column(title, no_wrap=title == "law")
        for law in LAWS.values():
            table.add_row(law.id, law.sentence, escape(" ".join(law.needs)))
    elif bugs:
        for title in ("bug", "breaks", "what goes wrong", "from"):
            table.add_column(title, no_wrap=title in ("bug", "breaks"))
        for bug in gallery():
            breaks = "nothing" if bug.equivalent else bug.law
            table.add_row(bug.name, breaks, escape(bug.title), escape(bug.source))
    else:
        for title in ("target", "what it is", "revisions", "promises"):
            table.add_column(title, no_wrap=title == "target")
        for name, known in BUILT_IN.items():
            promises = report.promises(factory(name)().contract)
            table.add_row(name, known.summary, "\n".join("@" + r for r in known.revisions), promises)
    out.print(table)
    if not (laws or bugs):
        out.print()
        for line in report.other_targets():
            say(out, line)


@cli.command()
@click.argument("targets", nargs=-1, shell_complete=complete_target)
@click.option(
    "--ops", type=click.IntRange(1), help="Budget a target.",
    show_default=f"{_MOST_OPERATIONS:,}, or a share of {_OPERATIONS:,}",
)
@click.option("--time", "seconds", type=Duration(), default=_DEFAULT_TIME, show_default=True, help="Ceiling.")
@seed_option
@jobs_option
@click.option("--engine", type=click.Choice(sorted(ENGINES)), default="plain", show_default=True)
@click.option("--law", "only", multiple=True, metavar="ID", help="Only this law; may be repeated.")
@click.option("--floor", multiple=True, metavar="WORD=N", help="Not green unless reached N times; may be repeated.")
@click.option("--save", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Write trace files here.")
@building.source_option
@building.cflags_option
@building.build_option
@isolate_option
@bounds_options
@click.option("-v", "--verbose", is_flag=True, help="Show laws and states by target, and why laws did not run.")
@report_options
def check(
    targets: tuple[str, ...],
    ops: int | None,
    seconds: float,
    seed: int,
    jobs: int,
    engine: str,
    only: tuple[str, ...],
    floor: tuple[str, ...],
    save: Path | None,
    sources: tuple[Path, ...],
    cflags: str,
    folder: Path,
    isolate: bool,
    memory: int,
    patience: float,
    verbose: bool,
    reports: Wanted,
) -> int:
    """Check TARGETS (all built-in ones when none is named) with random runs.

    Native targets, and all with --isolate, run in child processes: a crash, a hang, and too much memory are
    counterexamples of the law "returns", and the other laws go on.

    Floors say how often a state must have been reached, or a law's condition met; those that always hold stand in
    [tool.heaplaw.floors] of pyproject.toml.

    \b
    Example: heaplaw check tlsf percpu-bitmap@6.12 --ops 1000000 --seed 7
             heaplaw check tlsf --floor "coalesce both=10" --floor free-then-alloc=50
    """
    known_laws(only)
    names = list(dict.fromkeys((*targets, *building.built(sources, cflags, folder)))) or list(BUILT_IN)
    apart = [name for name in names if isolate or isolating.needs_isolation(name)]
    here = [name for name in names if name not in apart]
    for name in here:
        for variant in variants(name):
            factory(variant)
    if (problem := why_not(engine)) is not None:
        raise Problem(problem)
    budget = ops or min(_MOST_OPERATIONS, _OPERATIONS // len(names))
    out = console()
    with isolating.guards(apart, isolating.Bounds(memory, patience), jobs) as crew:
        sound, lost = isolating.fresh(crew, apart, engine, budget, only)
        known = sound + [Tallying(name, engine, 0, 0, only).done() for name in here if floor]
        floors = _floors(floor, known)
        if save is not None:
            make_folder(save)
        say(out, f"seed {seed}")
        work, guarded = (
            shards.cut(some, engine, budget, seed, only) for some in (here, [tally.target for tally in sound])
        )
        tallies = lost + _run(crew, work, guarded, jobs, seconds)
    tallies.sort(key=lambda tally: names.index(tally.target))
    measured = floors.measure(tallies)
    code = exit_code(tallies, unmet=sum(not one.met for one in measured))
    verdict = report.verdict(tallies, code, measured)
    findings = [finding for tally in tallies for finding in tally.findings]
    again = {(one.target, one.violation.law): str(report.trace_path(save, one)) for one in findings if save}
    made = Report("check", seed, code, verdict, tallies, floors=measured, again=again)
    write(made, reports)
    report.show_findings(out, findings, save)
    _show_check(made, verbose)
    return code


def _run(
    crew: isolating.Guards, work: list[shards.Shard], guarded: list[shards.Shard], jobs: int, seconds: float
) -> list[Tally]:
    """Shards that are safe in worker processes, then those for guarded ones: a tally a target, in so many seconds."""
    deadline = time.monotonic() + seconds
    before = sum(shard.operations for shard in work)
    with bar("checking", before + sum(shard.operations for shard in guarded)) as progress:
        tallies = shards.run_shards(work, jobs=jobs, seconds=seconds, progress=progress)
        left = deadline - time.monotonic()
        return tallies + isolating.run_isolated(crew, guarded, left, lambda done: progress(before + done))


def _show_check(made: Report, verbose: bool) -> None:
    """What stands below the counterexamples: tables, floors, and the verdict as the last line but for the seed."""
    out, tallies = console(), made.tallies
    out.print()
    out.print(report.law_table(tallies) if verbose else report.summary(tallies))
    if verbose:
        out.print()
        out.print(report.reach_table(tallies))
        notes = [*report.legend(tallies), *report.reasons(tallies), *report.never_reached(tallies)]
        say(out, "\n" + "\n".join(notes))
    if lines := report.floor_lines(made.floors, verbose=verbose):
        say(out, "\n" + "\n".join(lines))
    say(out, "\n" + made.verdict)
    say(out, f"seed {made.seed}")


def _floors(given: tuple[str, ...], fresh: list[Tally]) -> Floors:
    """The configured floors and those given; each that was given must say something of one of the targets."""
    try:
        floors = Floors.nearest(Path.cwd()).also(given)
    except FloorError as problem:
        raise Problem(str(problem)) from None
    if given:
        words = {text.rpartition("=")[0].strip() for text in given}
        if (useless := idle(one for one in floors.measure(fresh) if one.word in words)) is not None:
            raise Problem(useless)
    return floors


@cli.command("machine")
@click.argument("targets", nargs=-1, required=True, metavar="TARGET...", shell_complete=complete_target)
@json_option
def machine_command(targets: tuple[str, ...], json_path: Path | None) -> None:
    """Print the state machine of TARGETs: the specification as rules, for reading and subclassing.

    \b
    Example: heaplaw machine tlsf
    """
    try:
        from heaplaw.properties.machine import prose, rule_machine
    except ImportError as problem:
        raise Problem(str(problem)) from None
    texts = {
        name: isolating.prose_apart(name) if isolating.needs_isolation(name) else prose(rule_machine(name))
        for name in targets
    }
    if json_path is not None:
        json_path.write_text(report.to_json(texts))
    click.echo("\n\n".join(texts.values()))


@cli.command("replay")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--target", help="What to run it on; a trace file may name its own.")
@click.option("--maintain", metavar="KIND", help="Interleave this maintenance, such as compact.")
@click.option("--every", type=click.IntRange(1), default=500, show_default=True, help="... after so many operations.")
@click.option("--family", default="", help="Events to read of an ftrace recording: slab, pages or percpu.")
@click.option("--guard", is_flag=True, help="Look between calls too: does the client write where it must not?")
@click.option(bisecting.FLAG, is_flag=True, help="End with 0, 1 or 125 only, for 'git bisect run'.")
@click.option("--seed", type=int, hidden=True, help="Accepted like everywhere; a replay draws nothing.")
@isolate_option
@click.option("-v", "--verbose", is_flag=True, help="Show every law.")
@json_option
def replay_command(
    file: Path, target: str | None, maintain: str | None, every: int, family: str, guard: bool, bisect: bool,
    seed: int | None, isolate: bool, verbose: bool, json_path: Path | None,
) -> int:  # fmt: skip
    """Replay a trace file or a recording (heaptrack, ftrace, mtrace) under all laws.

    Native targets, and traces of a call that does not return, are replayed in a child process, as all are with
    --isolate: how it is lost is said.

    With --guard a heap that changes while no call is under way ends the replay with 3: whoever did that, it was
    not the allocator, and no law is asked.

    With --bisect the answer is one for git: 0, the law that the trace names holds; 1, it is broken; 125, nobody can
    tell. Keep the trace outside of what git checks out.

    \b
    Example: heaplaw replay sqlite.heaptrack.raw.zst --target tlsf
             git bisect run heaplaw replay /tmp/tail.trace --bisect
    """
    if bisect:
        return bisecting.answer(file, target)
    recording = read_recording(file, family=family)
    trace = recording.trace
    name = target or trace.target
    if not name:
        raise Problem(f"{file} names no target; say --target NAME (see 'heaplaw list')")
    name = fitted(name, room(trace), trace.header)
    apart = isolate or isolating.needs_isolation(name)
    if apart and guard:
        raise Problem(f"--guard looks at the heap from this process, and {name} runs in another; leave out --guard")
    traits = isolating.traits(name) if apart else isolating.Traits.of(factory(name)().contract)
    if maintain is not None:
        if maintain not in traits.maintenance:
            known = ", ".join(traits.maintenance) or "none"
            raise Problem(f"{name} has no maintenance {maintain!r}; it knows: {known}")
        trace = _interleaved(trace, Operation(Kind.MAINTAIN, mode=maintain), every)
    if guard and isinstance(fault := culprit(factory(name), trace.operations), ClientFault):
        say(console(), f"not the allocator's doing: {fault} (exit {INCONCLUSIVE})")
        return INCONCLUSIVE
    same_kind = bool(trace.answers) and trace.header.get("answers", "") == "offset" and traits.arena > 0
    result = isolating.replayed_apart(name, trace, always=apart, answers=same_kind)
    if result is None:
        with bar("replaying", len(trace.operations)) as progress:
            result = replay(trace, name, progress=progress, answers=same_kind)
    tally, figures = result.tally, result.figures
    code = exit_code([tally])
    if json_path is not None:
        extra = {"figures": report.figures(figures), "recording": report.recording(recording)}
        json_path.write_text(report.as_json([tally], seed=None, code=code, extra=extra))
    _show_replay(recording, tally, figures, verbose, code)
    return code


def _show_replay(recording: Recording, tally: Tally, figures: Figures, verbose: bool, code: int) -> None:
    out = console()
    for finding in tally.findings:
        report.show_finding(out, finding)
    if recording.format != OWN_FORMAT:
        for line in report.replay_lines(recording, tally, figures):
            say(out, line)
    out.print()
    if verbose:
        out.print(report.law_table([tally]))
        say(out, "\n" + "\n".join(report.reasons([tally])))
    say(out, report.verdict([tally], code))


def _interleaved(trace: Trace, operation: Operation, every: int) -> Trace:
    """The trace with an operation put in after every so many; recorded answers go with their operations."""
    mixed: list[Operation] = []
    answers: dict[int, int] = {}
    for index, op in enumerate(trace.operations):
        if index in trace.answers:
            answers[len(mixed)] = trace.answers[index]
        mixed.append(op)
        if index % every == every - 1:
            mixed.append(operation)
    return Trace(mixed, trace.header, answers)


@cli.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), callback=writable, required=True, metavar="TRACE")
@click.option("--family", default="", help="Events to read of an ftrace recording: slab, pages or percpu.")
@click.option("--seed", type=int, hidden=True)
@json_option
def import_command(file: Path, output: Path, family: str, seed: int | None, json_path: Path | None) -> None:
    """Turn a recording (heaptrack, ftrace, mtrace) into a trace file.

    \b
    Example: heaplaw import jq.heaptrack.raw.zst -o jq.trace
    """
    recording = read_recording(file, family=family)
    output.write_text(str(recording.trace))
    if json_path is not None:
        json_path.write_text(report.to_json(report.recording(recording)))
    click.echo("\n".join(report.recording_lines(recording)))
    click.echo(f"{len(recording.trace.operations):,} operations written to {output}")


def main() -> None:
    """Run the command line; every way out has its exit code, and bad input one line."""
    try:
        code = cli.main(standalone_mode=False, prog_name="heaplaw")
    except click.exceptions.Abort:
        code = _complain("stopped", STOPPED)
    except click.exceptions.Exit as stop:
        code = stop.exit_code
    except click.UsageError as problem:
        where = problem.ctx.command_path if problem.ctx is not None else "heaplaw"
        code = _complain(f"{problem.format_message()} (see '{where} --help')", USAGE)
    except click.ClickException as problem:
        code = _complain(problem.format_message(), problem.exit_code)
    except (TargetError, RecordingError) as problem:
        code = _complain(str(problem), USAGE)
    except BrokenProcessPool:
        code = _complain("a worker process died: out of memory, or the target crashed it; try --jobs 1", INCONCLUSIVE)
    except OSError as problem:
        code = _complain(f"{problem.filename or ''}: {problem.strerror or problem}".lstrip(": "), USAGE)
    except KeyboardInterrupt:
        code = _complain("stopped", STOPPED)
    except Exception:
        traceback.print_exc()
        code = _complain("internal error; please report the lines above", INTERNAL)
    if bisecting.asked(sys.argv[1:]):
        code = bisecting.only(code)
    sys.exit(code if isinstance(code, int) else PASSED)


def _complain(text: str, code: int) -> int:
    print("heaplaw: " + " ".join(text.split()), file=sys.stderr)
    return code
