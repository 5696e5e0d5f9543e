"""``heaplaw minimize``: one counterexample made smaller, or a directory of old ones on a new strategy."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import click
from rich.markup import escape

from heaplaw.impls.naming import TargetError
from heaplaw.impls.registry import factory
from heaplaw.properties.old_traces import NO_LONGER, STILL, Again, again
from heaplaw.properties.recorded import read_recording
from heaplaw.properties.verdict import COUNTEREXAMPLE, PASSED, Finding
from heaplaw.trace import Trace

from . import isolating, report
from .options import (
    Problem,
    bar,
    console,
    isolate_option,
    json_option,
    known_laws,
    make_folder,
    plain_table,
    say,
    writable,
)


@click.command()
@click.argument("trace", type=click.Path(path_type=Path, exists=True))
@click.option("--target", help="What to run it on; a trace file may name its own.")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="PATH", help="Write trace files here.")
@click.option("--same-operation", is_flag=True, help="Keep the kind of operation that breaks the law.")
@click.option("--seed", type=int, hidden=True, help="Accepted like everywhere; minimising draws nothing.")
@isolate_option
@json_option
def minimize(
    trace: Path, target: str | None, output: Path | None, same_operation: bool, seed: int | None, isolate: bool,
    json_path: Path | None,
) -> int:  # fmt: skip
    """Make a counterexample smaller; of a directory of them, say which still fail.

    The same law is broken by as little as possible.  TRACE may be a directory of trace files: each is
    run again (on --target, when the strategy has changed) and said to fail still, no longer, or another law.
    What may take its process along, and all with --isolate, is tried in forks of a child process.

    \b
    Example: heaplaw minimize crash.trace -o small.trace
    """
    files = sorted(path for path in trace.glob("*.trace") if path.is_file()) if trace.is_dir() else [trace]
    if not files:
        raise Problem(f"{trace} has no trace files; their names end in .trace")
    old = [_read(file, target, isolate) for file in files]
    if output is not None and trace.is_dir():
        make_folder(output)
    elif output is not None and not output.is_dir():
        context = click.get_current_context()
        writable(context, context.command.params[0], output)
    results: list[tuple[Path, Again]] = []
    lost: dict[Path, Finding] = {}  # what must not be run here, to be shown
    many = trace.is_dir()
    total, what = (len(files), "traces") if many else (len(old[0][1].operations), "operations dropped")
    with bar("minimising", total, what) as progress:
        for file, (name, one) in zip(files, old, strict=True):
            tell: Callable[[int], None] = (lambda now: None) if many else lambda now: progress(total - now)
            result, finding = _smaller(name, one, isolate, same_operation, tell)
            results.append((file, result))
            if finding is not None:
                lost[file] = finding
            if many:
                progress(len(results))
    for file, result in results:
        if output is not None and result.trace is not None:
            (output / file.name if output.is_dir() else output).write_text(str(result.trace))
    if json_path is not None:
        json_path.write_text(report.to_json([_as_json(file, result) for file, result in results]))
    _show(results, lost, many)
    return COUNTEREXAMPLE if any(result.found is not None for _, result in results) else PASSED


def _smaller(
    name: str, trace: Trace, isolate: bool, same_operation: bool, tell: Callable[[int], None]
) -> tuple[Again, Finding | None]:
    """What becomes of a counterexample; with the finding to show, where that must not be run here to be drawn."""
    apart = isolating.smaller_apart(name, trace, always=isolate, same_operation=same_operation)
    return apart or (again(trace, name, same_operation=same_operation, progress=tell), None)


def _read(file: Path, target: str | None, isolate: bool) -> tuple[str, Trace]:
    """What to run on what.  Raises Problem, so that bad input is known before any work is done."""
    trace = read_recording(file).trace
    name = target or trace.target
    if not name:
        raise Problem(f"{file} names no target; say --target NAME (see 'heaplaw list')")
    law = trace.header.get("law", "")
    known_laws([law] if law else [], f"{file}: ")
    try:
        if not isolate and not isolating.needs_isolation(name):
            factory(name)
    except TargetError as problem:
        raise Problem(str(problem) if target else f"{file}: {problem}") from None
    return name, trace


def _show(results: list[tuple[Path, Again]], lost: dict[Path, Finding], many: bool) -> None:
    out = console()
    if not many:
        [(file, result)] = results
        if result.found is None:
            say(out, f"{file} no longer fails on {result.target}")
            return
        report.show_finding(out, lost.get(file) or Finding(result.target, result.found))
        say(out, f"\n{result.outcome}: {_lengths(result)} operations")
        return
    table = plain_table()
    for title in ("trace", "target", "law", "now", "operations"):
        table.add_column(title, overflow="fold")
    for file, result in results:
        law = result.law if result.found is None or result.outcome == STILL else f"{result.law}, now {result.found.law}"
        table.add_row(escape(file.name), escape(result.target), law, result.outcome, _lengths(result))
    out.print(table)
    counts = Counter(result.outcome for _, result in results)
    say(out, "\n" + ", ".join(f"{count} {kind}" for kind, count in counts.items()))


def _lengths(result: Again) -> str:
    if result.outcome == NO_LONGER or result.found is None:
        return str(result.before)
    return f"{result.before} -> {len(result.found.trace.operations)}"


def _as_json(file: Path, result: Again) -> dict[str, object]:
    found = result.found
    return {
        "trace": str(file),
        "target": result.target,
        "law": result.law,
        "now": result.outcome,
        "breaks": found.law if found is not None else None,
        "before": result.before,
        "after": len(found.trace.operations) if found is not None else None,
        "minimised": str(result.trace) if result.trace is not None else None,
    }

