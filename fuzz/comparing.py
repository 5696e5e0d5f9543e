"""``heaplaw compare``: what a change of strategy changes.

So far: kernels, which are functions of whole numbers, and a model beside the kernel's own code, in lockstep.
"""

from pathlib import Path

import click
from rich.console import Console

from heaplaw.impls.registry import BUILT_IN, factory, is_linux, parse
from heaplaw.properties.proofs import differing
from heaplaw.properties.proofs.differing import Difference, KernelError
from heaplaw.properties.verdict import COUNTEREXAMPLE, INCONCLUSIVE, PASSED

from . import report
from .options import Duration, Problem, console, json_option, seed_option

_SECONDS, _LOCKSTEP, _OPERATIONS = 20.0, 600.0, 1_000_000
_CODES = {differing.SAME: PASSED, differing.DIFFERENT: COUNTEREXAMPLE}


@click.command()
@click.argument("old")
@click.argument("new")
@click.option("--where", default="", metavar="CONDITION", help="Only such arguments, as in 'size > 0'.")
@click.option("--time", "seconds", type=Duration(), help="Processor time.", show_default="20s; in lockstep 10m")
@click.option("--ops", "operations", type=click.IntRange(1), default=_OPERATIONS, show_default=True, metavar="N",
              help="Operations in lockstep.")  # fmt: skip
@seed_option
@json_option
def compare(
    old: str, new: str, where: str, seconds: float | None, operations: int, seed: int, json_path: Path | None
) -> int:
    """Compare OLD and NEW: two functions of whole numbers, or a model and the kernel's own code.

    Functions are named module:function or file.py:function. Ends with 0 if every path through both was taken and they
    never differ, with 1 and the arguments if they differ, with 3 if neither is known. Parameters with a default keep
    it; nothing is drawn at random.

    A model and the kernel's code (linux:percpu, linux:zbud) do the same random operations, and their answers and all
    they hold are compared after each one. What is said of the kernel is unconfirmed by its maintainers.

    \b
    Example: heaplaw compare heaplaw.impls.kmalloc_classes:kmalloc_class mine.py:kmalloc_class --where "size > 0"
             heaplaw compare percpu-bitmap@6.12 linux:percpu --ops 100000
    """
    if is_linux(old) != is_linux(new):
        return _in_lockstep(old, new, operations, _LOCKSTEP if seconds is None else seconds, seed, json_path)
    if _is_target(old) and _is_target(new):
        known = "functions, as in module:function, and models with linux:percpu and linux:zbud"
        raise Problem(f"{old} and {new} are targets; compared so far are {known}")
    try:
        found = differing.differ(old, new, _SECONDS if seconds is None else seconds, where)
    except KernelError as problem:
        raise Problem(str(problem)) from None
    code = _CODES.get(found.verdict, INCONCLUSIVE)
    if json_path is not None:
        json_path.write_text(report.to_json(_as_data(found, where, code)))
    _show(console(), found, where, code)
    return code


def _in_lockstep(old: str, new: str, operations: int, seconds: float, seed: int, json_path: Path | None) -> int:
    """A model and the kernel's code; the exit code."""
    from . import lockstepping  # with the models: no other command needs them

    both = lockstepping.pair(old, new)
    assert both is not None  # one of the two is the kernel's
    compared = lockstepping.in_child(*both, operations, seconds, seed)
    if json_path is not None:
        json_path.write_text(report.to_json(compared.as_data()))
    out = console()
    out.print(f"seed {seed}", highlight=False)
    for line in compared.lines():
        out.print(line, highlight=False, soft_wrap=True, markup=False)
    return compared.code


def _is_target(name: str) -> bool:
    """Does it name an allocator and not a function?"""
    base = parse(name).base
    if base in BUILT_IN:
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
        out.print(line, highlight=False, soft_wrap=True, markup=False)

