"""``heaplaw minimize``: one counterexample made smaller, or a directory of old ones on a new strategy."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import click
from rich.markup import escape
from rich.table import Table

from heaplaw.impls.registry import TargetError, factory
from heaplaw.properties.old_traces import NO_LONGER, STILL, Again, again
from heaplaw.properties.recorded import read_recording
from heaplaw.properties.verdict import COUNTEREXAMPLE, PASSED, Finding
from heaplaw.trace import Trace

from . import isolating, report
from .options import Problem, bar, console, isolate_option, json_option, known_laws, make_folder, writable


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

    def smaller(file: Path, name: str, one: Trace, tell: Callable[[int], None] = lambda now: None) -> None:
        apart = isolating.smaller_apart(name, one, always=isolate, same_operation=same_operation)
        if apart is None:
            results.append((file, again(one, name, same_operation=same_operation, progress=tell)))
            return
        results.append((file, apart[0]))
        if apart[1] is not None:
            lost[file] = apart[1]

    if trace.is_dir():
        with bar("minimising", len(files), "traces") as progress:
            for file, (name, one) in zip(files, old, strict=True):
                smaller(file, name, one)
                progress(len(results))
    else:
        [(name, one)] = old
        before = len(one.operations)
        with bar("minimising", before, "operations dropped") as progress:
            smaller(trace, name, one, lambda now: progress(before - now))
    for file, result in results:
        if output is not None and result.trace is not None:
            (output / file.name if output.is_dir() else output).write_text(str(result.trace))
    if json_path is not None:
        json_path.write_text(report.to_json([_as_json(file, result) for file, result in results]))
    _show(results, lost, whole=trace.is_dir())
    return COUNTEREXAMPLE if any(result.found is not None for _, result in results) else PASSED


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


def _show(results: list[tuple[Path, Again]], lost: dict[Path, Finding], whole: bool) -> None:
    out = console()
    if not whole:
        [(file, result)] = results
        if result.found is None:
            out.print(f"{file} no longer fails on {result.target}", highlight=False, soft_wrap=True, markup=False)
            return
        report.show_finding(out, lost.get(file) or Finding(result.target, result.found))
        out.print(f"\n{result.outcome}: {_lengths(result)} operations", highlight=False)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("trace", "target", "law", "now", "operations"):
        table.add_column(title, overflow="fold")
    for file, result in results:
        law = result.law if result.found is None or result.outcome == STILL else f"{result.law}, now {result.found.law}"
        table.add_row(escape(file.name), escape(result.target), law, result.outcome, _lengths(result))
    out.print(table)
    counts = Counter(result.outcome for _, result in results)
    out.print("\n" + ", ".join(f"{count} {kind}" for kind, count in counts.items()), highlight=False)


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

