"""``heaplaw corpus``: what is in a corpus, is it whole, and make it smaller."""

from pathlib import Path

import click
from rich.markup import escape

from heaplaw.impls.registry import factory, variants
from heaplaw.properties.recorded import read_recording
from heaplaw.properties.verdict import COUNTEREXAMPLE, INCONCLUSIVE, PASSED

from . import report
from .corpus import Corpus, Loaded, as_trace
from .inputs import lift, unpack, variant_of
from .options import Problem, bar, complete_target, console, json_option, plain_table, writable
from .pruning import FLOOR, smallest
from .store import StoreError


@click.group()
def corpus() -> None:
    """Look after a corpus: PLACE/TARGET/SHA1, in a folder or behind a URL.

    \b
    Example: heaplaw corpus list hunt/corpus
    """


def _open(place: str) -> Corpus:
    try:
        return Corpus(place)
    except StoreError as problem:
        raise Problem(str(problem)) from None


def _load(store: Corpus, targets: tuple[str, ...]) -> list[Loaded]:
    """The inputs of the targets, or of all; what is wrong with some of them is said, and all of it is a Problem."""
    try:
        loaded = [store.load(target) for target in targets or store.targets()]
    except StoreError as problem:
        raise Problem(str(problem)) from None
    for one in loaded:
        for line in one.complaints():
            click.echo(line, err=True)
    return loaded


@corpus.command("list")
@click.argument("place")
@click.argument("targets", nargs=-1, shell_complete=complete_target)
@json_option
def list_command(place: str, targets: tuple[str, ...], json_path: Path | None) -> int:
    """Count the inputs of TARGETS.  Ends with 3 where there are none.

    \b
    Example: heaplaw corpus list corpus
    """
    loaded = _load(_open(place), targets)
    table = plain_table()
    table.add_column("target", overflow="fold")
    for title in ("inputs", "bytes", "damaged", "skipped"):
        table.add_column(title, justify="right")
    rows = [
        (one.target, len(one.inputs), sum(map(len, one.inputs.values())), len(one.damaged), len(one.unknown))
        for one in loaded
    ]
    for name, *counts in rows:
        table.add_row(escape(name), *(f"{count:,}" for count in counts))
    if json_path is not None:
        keys = ("target", "inputs", "bytes", "damaged", "skipped")
        json_path.write_text(report.to_json([dict(zip(keys, row, strict=True)) for row in rows]))
    console().print(table)
    if any(one.inputs for one in loaded):
        return PASSED
    click.echo(f"no input in {place}: is it the folder that holds one folder a target? (exit {INCONCLUSIVE})")
    return INCONCLUSIVE


@corpus.command("check")
@click.argument("place")
@click.argument("targets", nargs=-1, shell_complete=complete_target)
def check_command(place: str, targets: tuple[str, ...]) -> int:
    """Run every input, and hold every file against its name.

    Ends with 1 where an input breaks a law, with 3 where a file is damaged or there is nothing to run.

    \b
    Example: heaplaw corpus check corpus tlsf
    """
    loaded, broken, ran = _load(_open(place), targets), 0, 0
    with bar("running", sum(len(one.inputs) for one in loaded), "inputs") as progress:
        for one in loaded:
            for name, data in one.inputs.items():
                law = broken_by(one.target, data)
                if law:
                    click.echo(f"{one.target}/{name} breaks {law}")
                broken += bool(law)
                ran += 1
                progress(ran)
    damaged = sum(len(one.damaged) for one in loaded)
    click.echo(f"{ran:,} inputs of {len(loaded)} targets run, {broken:,} break a law, {damaged:,} files are damaged")
    return COUNTEREXAMPLE if broken else INCONCLUSIVE if damaged or not ran else PASSED


def broken_by(target: str, data: bytes) -> str:
    """The law that an input breaks, or nothing."""
    body = unpack(data)
    found = lift(variant_of(data, variants(target)), body).found if body is not None else None
    return found.law if found is not None else ""


@corpus.command("merge")
@click.argument("place")
@click.argument("others", nargs=-1, required=True, metavar="OTHER...")
@click.option("--target", "targets", multiple=True, help="Only this one; may be repeated.")
def merge_command(place: str, others: tuple[str, ...], targets: tuple[str, ...]) -> int:
    """Take into PLACE what is whole in other corpora.

    \b
    Example: heaplaw corpus merge corpus s3://bucket/corpus
    """
    store = _open(place)
    for other in others:
        try:
            new, complaints = store.merge(_open(other), targets)
        except StoreError as problem:
            raise Problem(str(problem)) from None
        for line in complaints:
            click.echo(line, err=True)
        click.echo(f"{new:,} inputs of {other} were new")
    return PASSED


@corpus.command("prune")
@click.argument("place")
@click.argument("targets", nargs=-1, shell_complete=complete_target)
@click.option("--floor", type=click.IntRange(1), default=FLOOR, show_default=True, help="Inputs that a target keeps.")
@click.option("--dry-run", is_flag=True, help="Delete nothing.")
def prune_command(place: str, targets: tuple[str, ...], floor: int, dry_run: bool) -> int:
    """Keep the smallest input for every abstract state and every line of the allocator that any of them reaches.

    \b
    Example: heaplaw corpus prune corpus tlsf --dry-run
    """
    store = _open(place)
    for one in _load(store, targets):
        factory(one.target)
        with bar(f"pruning {one.target}", len(one.inputs), "inputs") as progress:
            keep, drop = smallest(one.target, one.inputs, floor=floor, progress=progress)
        if not dry_run:
            store.remove(one.target, drop)
        click.echo(f"{one.target}: {len(keep):,} of {len(one.inputs):,} inputs {'would stay' if dry_run else 'stay'}")
    return PASSED


@corpus.command("add")
@click.argument("place")
@click.argument("traces", nargs=-1, required=True, metavar="TRACE...", type=click.Path(path_type=Path))
@click.option("--target", default="", help="What it is to be an input of; a trace may name its own.")
def add_command(place: str, traces: tuple[Path, ...], target: str) -> int:
    """Turn trace files or recordings into the nearest inputs.

    \b
    Example: heaplaw corpus add corpus counterexamples/*.trace
    """
    store = _open(place)
    for path in traces:
        trace = read_recording(path).trace
        name = target or trace.target.partition(",")[0]
        if not name:
            raise Problem(f"{path} names no target; say --target NAME (see 'heaplaw list')")
        click.echo(f"{path}: {name}/{store.add_trace(name, trace)}")
    return PASSED


@corpus.command("trace")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--target", default="", help="Whose input it is.", show_default="the name of its folder")
@click.option("-o", "--output", type=click.Path(path_type=Path), callback=writable, metavar="TRACE")
def trace_command(file: Path, target: str, output: Path | None) -> int:
    """Write the operations that an input FILE means.

    \b
    Example: heaplaw corpus trace corpus/tlsf/0a1b2c --target tlsf -o input.trace
    """
    try:
        trace = as_trace(target or file.absolute().parent.name, file.read_bytes())
    except ValueError as problem:
        raise Problem(f"{file}: {problem}") from None
    if output is not None:
        output.write_text(str(trace))
    else:
        click.echo(str(trace), nl=False)
    return PASSED
