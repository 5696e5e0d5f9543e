"""``heaplaw compare``: what a change of strategy changes.

Of two allocators: laws and refusals of one only, and what each costs (see ``strategies``).  Of two functions of whole
numbers: arguments for which they differ.  Of a model and the kernel's own code: lockstep.
"""

from pathlib import Path

import click
from rich.console import Console

from heaplaw.impls.naming import is_linux, is_native, parse
from heaplaw.impls.registry import BUILT_IN, factory
from heaplaw.properties.proofs import differing
from heaplaw.properties.proofs.differing import Difference, KernelError
from heaplaw.properties.verdict import COUNTEREXAMPLE, INCONCLUSIVE, PASSED

from . import report
from .options import Duration, Problem, bar, console, json_option, make_folder, say, seed_option, writable
from .strategies import Budget, Comparison, breaches, compared, plotting, records, showing, thresholds_of
from .strategies.measuring import FIGURES
from .strategies.revisions import split

_SECONDS, _LOCKSTEP, _STRATEGIES = 20.0, 600.0, 300.0
_OPERATIONS, _RECORDED, _SEARCH, _RUNS = 1_000_000, 4_000, 30_000, 4
_CODES = {differing.SAME: PASSED, differing.DIFFERENT: COUNTEREXAMPLE}
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command()
@click.argument("old")
@click.argument("new")
@click.option("--where", default="", metavar="CONDITION", help="Functions: only such arguments, as in 'size > 0'.")
@click.option("--time", "seconds", type=Duration(), show_default="20s; in lockstep 10m; allocators 5m",
              help="Ceiling.")  # fmt: skip
@click.option("--ops", "operations", type=click.IntRange(1), metavar="N", show_default="4000; in lockstep 1000000",
              help="Operations of a trace, or in lockstep.")  # fmt: skip
@click.option("--trace", "traces", type=_FILE, multiple=True, metavar="FILE", help="A recording or trace of yours too.")
@click.option("--no-recorded", is_flag=True, help="Leave out the recordings that come with heaplaw.")
@click.option("--runs", type=click.IntRange(0), default=_RUNS, show_default=True, metavar="N",
              help="Runs of the plain engine on each of the two, in small heaps.")  # fmt: skip
@click.option("--search", type=click.IntRange(0), default=_SEARCH, show_default=True, metavar="N",
              help="Operations of the search for the trace on which NEW is worst.")  # fmt: skip
@click.option("--worst", type=click.Choice(list(FIGURES)), default="footprint", show_default=True, metavar="FIGURE",
              help="What it is to be worst in.")  # fmt: skip
@click.option("--threshold", "limits", multiple=True, metavar="FIGURE=+N[%]",
              help="Fail if NEW is worse by more: footprint=+5%, worst_steps=+0.")  # fmt: skip
@click.option("--counterexamples", type=_FOLDER, metavar="DIR", help="Old ones, run and minimised on NEW.")
@click.option("--save", type=_FOLDER, metavar="DIR", help="Write the traces that were found.")
@click.option("--plot", type=click.Path(path_type=Path), callback=writable, metavar="FILE", help="Draw it: SVG, PNG.")
@click.option("-v", "--verbose", is_flag=True, help="Each trace and each law.")
@seed_option
@json_option
def compare(
    old: str, new: str, where: str, seconds: float | None, operations: int | None, traces: tuple[Path, ...],
    no_recorded: bool, runs: int, search: int, worst: str, limits: tuple[str, ...], counterexamples: Path | None,
    save: Path | None, plot: Path | None, verbose: bool, seed: int, json_path: Path | None,
) -> int:  # fmt: skip
    """Compare OLD and NEW: two allocators, two functions of whole numbers, or a model and the kernel's own code.

    Allocators do the same traces under the same laws: recorded, generated, and one that is looked for on which
    NEW is worst. Revisions are named as everywhere (percpu-bitmap@4.14), and those of your own module by git
    (path/file.py:Name@HEAD~1). Ends with 1 if NEW breaks a law that OLD keeps, or a threshold.

    Functions are named module:function or file.py:function. Ends with 0 if every path through both was taken and they
    never differ, with 1 and the arguments if they differ, with 3 if neither is known. Parameters with a default keep
    it; nothing is drawn at random.

    A model and the kernel's code (linux:percpu, linux:zbud, linux:zsmalloc) do the same random operations, and their
    answers and all they hold are compared after each one. What is said of the kernel is unconfirmed by its maintainers.

    \b
    Example: heaplaw compare percpu-area-map percpu-bitmap --threshold worst_free_steps=+0
             heaplaw compare src/heap.py:Heap@main src/heap.py:Heap --threshold footprint=+5%
             heaplaw compare heaplaw.impls.kmalloc_classes:kmalloc_class mine.py:kmalloc_class --where "size > 0"
             heaplaw compare percpu-bitmap@6.12 linux:percpu --ops 100000
    """
    if is_linux(old) != is_linux(new):
        wanted = _OPERATIONS if operations is None else operations
        return _in_lockstep(old, new, wanted, _LOCKSTEP if seconds is None else seconds, seed, json_path)
    if _is_target(old) and _is_target(new):
        thresholds = thresholds_of(limits)
        if plot is not None:
            plotting.check_plot(plot)
        if save is not None:
            make_folder(save)
        budget = Budget(operations or _RECORDED, runs, search, _STRATEGIES if seconds is None else seconds)
        with bar("comparing", 1, "steps") as progress:
            found = compared(
                old, new, seed=seed, budget=budget, traces=traces, recorded=() if no_recorded else None,
                counterexamples=counterexamples, worst_figure=worst, progress=progress,
            )  # fmt: skip
        broken = breaches(found, thresholds)
        code = showing.exit_code(found, broken)
        if json_path is not None:
            json_path.write_text(report.to_json(records.as_data(found, broken, code)))
        if plot is not None:
            plotting.plot(found, plot)
        if save is not None:
            _save(found, save)
        showing.show(console(), found, broken, code, verbose)
        return code
    return _functions(old, new, seconds, where, json_path)


def _functions(old: str, new: str, seconds: float | None, where: str, json_path: Path | None) -> int:
    """Two functions; the exit code."""
    try:
        found = differing.differ(old, new, _SECONDS if seconds is None else seconds, where)
    except KernelError as problem:
        raise Problem(str(problem)) from None
    code = _CODES.get(found.verdict, INCONCLUSIVE)
    if json_path is not None:
        json_path.write_text(report.to_json(_as_data(found, where, code)))
    _show(console(), found, where, code)
    return code


def _save(found: Comparison, folder: Path) -> None:
    """Trace files: of laws that break, of the worst case, of old counterexamples made small."""
    for law, sides in found.refuted.items():
        for place, one in sides.items():
            if one.trace:
                (folder / f"{place}-{law}.trace").write_text(one.trace)
    for row in found.adversarial:
        (folder / f"worst-{found.worst_figure}.trace").write_text(records.trace_of(row))
    for entry in found.counterexamples:
        if entry.smaller:
            (folder / entry.file).write_text(entry.smaller)


def _in_lockstep(old: str, new: str, operations: int, seconds: float, seed: int, json_path: Path | None) -> int:
    """A model and the kernel's code; the exit code."""
    from . import lockstepping  # with the models: no other command needs them

    both = lockstepping.pair(old, new)
    assert both is not None  # one of the two is the kernel's
    compared = lockstepping.in_child(*both, operations, seconds, seed)
    if json_path is not None:
        json_path.write_text(report.to_json(compared.as_data()))
    out = console()
    say(out, f"seed {seed}")
    for line in compared.lines():
        say(out, line)
    return compared.code


def _is_target(name: str) -> bool:
    """Does it name an allocator and not a function?"""
    base = parse(name).base
    if base in BUILT_IN or is_native(name) or split(name)[1]:  # git revisions are of allocators
        return True
    if ":" not in base:
        raise Problem(f"unknown target {name!r}, and no function: that is module:function or file.py:function")
    try:
        differing.kernel(name)
    except KernelError:
        factory(name)  # complains of what is no target either
        return True
    return False


def _as_data(found: Difference, where: str, code: int) -> dict[str, object]:
    """The report; no times, so that it is the same every time."""
    return {
        "format": "heaplaw comparison 1", "what": "kernels", "old": found.one, "new": found.two, "where": where,
        "verdict": found.verdict, "arguments": found.arguments, "results": list(filter(None, found.results)),
        "why": found.why, "exit": code,
    }  # fmt: skip


def _show(out: Console, found: Difference, where: str, code: int) -> None:
    """Both results, and one line that says what the exit code says."""
    names = (found.one, found.two)
    lines = []
    if found.verdict == differing.DIFFERENT:
        wide = max(map(len, names))
        lines = [f"{name:{wide}}  {result}" for name, result in zip(names, found.results, strict=True)] + [""]
        said = f"they differ for {found.call}"
    elif found.verdict == differing.SAME:
        given = f" where {where}" if where else ""
        said = f"they behave the same{given}: all paths were taken"
    else:
        said = f"{found.verdict}: {found.why}"
    for name in names:
        if known := differing.kept(differing.kernel(name)):
            lines.append(f"{name} keeps {', '.join(f'{key}={value!r}' for key, value in known.items())}")
    for line in [*lines, f"{said} (exit {code})"]:
        say(out, line)

