"""``heaplaw explore``: certificates, or the shortest counterexample."""

from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from heaplaw.impls.naming import parse
from heaplaw.impls.registry import BUILT_IN, factory
from heaplaw.lawbook import LAWS
from heaplaw.properties import exhaustive
from heaplaw.properties.alphabet import KINDS, WORDS
from heaplaw.properties.certificate import NOTES, Certificate
from heaplaw.properties.tiny import Tiny, all_tiny, tiny
from heaplaw.properties.verdict import COUNTEREXAMPLE, INCONCLUSIVE, PASSED

from . import report
from .isolating import refuse_native
from .options import (
    Bytes,
    Duration,
    Numbers,
    Problem,
    bar,
    complete_target,
    console,
    jobs_option,
    json_option,
    known_laws,
    plain_table,
    say,
    seed_option,
)

_DEFAULT_TIME = "60s"


@click.command()
@click.argument("targets", nargs=-1, shell_complete=complete_target)
@click.option("--arena", type=click.IntRange(1), metavar="N", help="Bytes of the arena, or of all pages.")
@click.option("--depth", type=click.IntRange(0), metavar="D", help="Longest trace.", show_default="until closed")
@click.option("--sizes", type=Numbers(), help="Sizes to ask for.", show_default="a few of the contract's")
@click.option("--aligns", type=Numbers(), help="Alignments to ask for.", show_default="the least that matters")
@click.option("--kinds", metavar="A,B,...", default="", help="Operations, as traces call them.", show_default="all")
@click.option("--law", "only", multiple=True, metavar="ID", help="Only this law; may be repeated.")
@click.option("--time", "seconds", type=Duration(), default=_DEFAULT_TIME, show_default=True, help="Ceiling a target.")
@click.option("--memory", type=Bytes(), default="1G", show_default=True, help="Ceiling for what grows with the states.")
@click.option("--states", type=click.IntRange(1), metavar="N", help="Ceiling for the states.")
@click.option(
    "--resume",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Keep the search in this file, and go on from it.",
)
@jobs_option
@click.option("-v", "--verbose", is_flag=True, help="Show the alphabets, and how often each law was asked.")
@seed_option
@json_option
def explore(
    targets: tuple[str, ...],
    arena: int | None,
    depth: int | None,
    sizes: tuple[int, ...] | None,
    aligns: tuple[int, ...] | None,
    kinds: str,
    only: tuple[str, ...],
    seconds: float,
    memory: int,
    states: int | None,
    resume: Path | None,
    jobs: int,
    verbose: bool,
    seed: int,
    json_path: Path | None,
) -> int:
    """Search TARGETS exhaustively: every trace over a small alphabet, or the shortest counterexample.

    Built-in targets are scaled down with what they manage; all of them are searched when none is
    named. Nothing is drawn at random: --seed is accepted as everywhere.

    \b
    Example: heaplaw explore tlsf --arena 96 --sizes 8,24
    """
    known_laws(only)
    refuse_native(targets)
    wanted = _kinds(kinds)
    searches = [_scaled(tiny(name), arena) for name in dict.fromkeys(targets)] or all_tiny()
    _check_resume(resume, len(searches))
    for search in searches:
        factory(search.name)
    certificates: list[Certificate] = []
    for search in searches:
        with bar(search.name, 1, "states") as progress:
            try:
                certificates.append(
                    exhaustive.explore(
                        search.name, depth=search.depth if depth is None else depth, sizes=sizes or search.sizes,
                        aligns=aligns, kinds=wanted, only=only, jobs=jobs, seconds=seconds, memory=memory,
                        most_states=states, resume=resume, progress=progress,
                    )
                )  # fmt: skip
            except ValueError as problem:  # a target or a file that cannot be used
                raise Problem(str(problem)) from None
    code = exit_code(certificates)
    if json_path is not None:
        data = [certificate.as_data() for certificate in certificates]
        json_path.write_text(report.to_json({"format": "heaplaw certificates 1", "exit": code, "targets": data}))
    _show(console(), certificates, verbose, code)
    return code


def _check_resume(file: Path | None, searches: int) -> None:
    """Find out before the work that a search cannot be kept in a file.  Raises Problem."""
    if file is None:
        return
    if searches != 1:
        raise Problem("--resume keeps one search; name one target")
    if not file.parent.is_dir():
        raise Problem(f"cannot keep the search in {file}: there is no folder {file.parent}; make it first")


def exit_code(certificates: Sequence[Certificate]) -> int:
    """0 all proved as far as was asked, 1 a counterexample, 3 a search ended early or proved nothing."""
    if any(certificate.finding is not None for certificate in certificates):
        return COUNTEREXAMPLE
    if not certificates or any(c.stopped or c.unconfirmed or not c.transitions for c in certificates):
        return INCONCLUSIVE
    return PASSED


def _kinds(words: str) -> frozenset[int]:
    """Kinds of operations by their words."""
    if not words:
        return frozenset(int(kind) for kind in KINDS)
    chosen = words.split(",")
    for word in chosen:
        if word not in WORDS:
            raise Problem(f"unknown operation {word!r}; these can be searched: {', '.join(WORDS)}")
    return frozenset(int(WORDS[word]) for word in chosen)


def _scaled(search: Tiny, arena: int | None) -> Tiny:
    """The target with another size of arena, in bytes."""
    if arena is None:
        return search
    parts = parse(search.name)
    parameters = dict(parts.parameters)
    known = BUILT_IN.get(parts.base)
    name, unit = known.capacity if known is not None else ("arena", 1)
    unit = int(parameters.get("page_size", unit)) if unit > 1 else 1
    if arena < unit:
        raise Problem(f"--arena {arena} is less than a page of {unit} bytes")
    parameters[name] = arena // unit
    return search._replace(name=str(parts._replace(parameters=parameters)))


# ---- what people see -------------------------------------------------------------------------


def table(certificates: Sequence[Certificate]) -> Table:
    """One line a certificate."""
    lines = plain_table()
    lines.add_column("target", overflow="fold")
    lines.add_column("covered")
    for title in ("letters", "states", "transitions", "longest way", "laws", "seconds", "states/s"):
        lines.add_column(title, justify="right", no_wrap=True)
    for certificate in certificates:
        found = certificate.finding
        covered = certificate.covered.replace("every trace of", "traces of")
        if found is not None:
            covered = f"[red]BROKEN[/] by {len(found.trace.operations)}"
        elif certificate.unconfirmed:
            covered = "unclear"
        elif certificate.stopped:
            covered += " (stopped)"
        lines.add_row(
            escape(certificate.target),
            covered,
            str(len(certificate.alphabet)),
            f"{certificate.states:,}",
            f"{certificate.transitions:,}",
            str(len(certificate.levels) - 1),
            str(len([law for law in LAWS if certificate.asked[law]])),
            f"{certificate.seconds:.1f}",
            f"{certificate.rate:,.0f}",
        )
    return lines


def _show(out: Console, certificates: Sequence[Certificate], verbose: bool, code: int) -> None:
    for certificate in certificates:
        if (found := certificate.finding) is not None:
            length = len(found.trace.operations)
            shorter = f"no trace of fewer operations breaks a law: {certificate.states:,} states hold" if length else ""
            report.show_finding(out, found, shorter)
        if certificate.unconfirmed:
            what = f"\n{certificate.target}: {certificate.unconfirmed}"
            say(out, what)
    out.print()
    out.print(table(certificates))
    for line in _details(certificates) if verbose else ():
        say(out, line)
    say(out, "\n" + verdict(certificates, code))


def _details(certificates: Sequence[Certificate]) -> list[str]:
    lines = []
    for c in certificates:
        lines += ["", f"{c.target}: {', '.join(c.alphabet)}"]
        lines.append("  new states by depth: " + " ".join(str(count) for count in c.levels))
        lines.append(f"  chance that two states were taken for one: {c.chance_of_collision:.1e}")
        lines.append(f"  {c.replayed} states reached again from a fresh target")
        if c.dead:
            lines.append(f"  {c.dead} calls broke the target down where that was not asked about; nothing follows them")
        lines.append("  asked: " + ", ".join(f"{law} {c.asked[law]:,}" for law in LAWS if c.asked[law]))
        lines += [f"  {law}: {note}" for law, note in NOTES.items() if c.asked[law]]
        grouped: dict[str, list[str]] = {}
        for law, why in c.not_asked.items():
            grouped.setdefault(why, []).append(law)
        lines += [f"  not asked: {', '.join(laws)} ({why})" for why, laws in sorted(grouped.items())]
    return lines


def verdict(certificates: Sequence[Certificate], code: int) -> str:
    """The last line: what the exit code says, in words."""
    broken = [c for c in certificates if c.finding is not None]
    if broken:
        return f"a law is broken on {len(broken)} of {len(certificates)} targets (exit {code})"
    unclear = [c.target for c in certificates if c.unconfirmed]
    if unclear:
        return f"inconclusive: what was seen did not recur on {', '.join(unclear)} (exit {code})"
    for c in certificates:
        if c.stopped:
            return f"inconclusive: {c.target} is covered up to {c.depth} operations only; {c.stopped} (exit {code})"
        if not c.transitions:
            return f"inconclusive: nothing was executed on {c.target} (exit {code})"
    closed = sum(c.closed for c in certificates)
    states = sum(c.states for c in certificates)
    return f"no law is broken in {states:,} states; {closed} of {len(certificates)} state spaces closed (exit {code})"
