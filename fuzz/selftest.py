"""``heaplaw selftest``: bugs are planted, and every engine must find its share.

A green check on a suite that cannot go red is worthless.  The kill matrix says which engine finds which
bug of the gallery, how soon, and how small what it finds becomes.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import click
from rich.markup import escape
from rich.table import Table

from heaplaw.impls.bugs import Bug, gallery
from heaplaw.properties.engines import ENGINES, why_not
from heaplaw.properties.hunting import (
    CANARY_SECONDS,
    FOUND,
    MISSED,
    NOT_RUN,
    OPERATIONS,
    Hunt,
    canary,
    hunted,
    hunts,
    quick,
)
from heaplaw.properties.verdict import INCONCLUSIVE, PASSED, SELF_TEST_FAILED

from . import report
from .options import Duration, Problem, bar, console, jobs_option, json_option, plain_table, say

_SECONDS, _SOON = 30.0, 2.0  # of a hunt; what counts as soon
_QUICK = 50_000  # operations of a hunt in haste: the same verdicts on a slow machine as on a fast one
_QUICK_ENGINES = ("plain", "hypothesis")  # that hunt all of the quick set; the others hunt their canary


@click.command()
@click.argument("bugs", nargs=-1, metavar="[BUG]...")
@click.option("--quick", "in_haste", is_flag=True, help="One bug for each law, in under a minute.")
@click.option("--engine", "engines", multiple=True, type=click.Choice(sorted(ENGINES)), help="May be repeated.")
@click.option("--time", "seconds", type=Duration(), help="Ceiling of a hunt.", show_default="30s")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Same seed, same hunts.")
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True, help="So many seeds, from --seed on.")
@jobs_option
@json_option
def selftest(
    bugs: tuple[str, ...],
    in_haste: bool,
    engines: tuple[str, ...],
    seconds: float | None,
    seed: int,
    seeds: int,
    jobs: int,
    json_path: Path | None,
) -> int:
    """Plant BUGs of the gallery (all of them when none is named) and let the engines find them.

    Ends with 4 if a canary is missed, or if no engine finds a bug that something can tell from its target.

    \b
    Example: heaplaw selftest --quick
             heaplaw selftest T09 P04 --engine plain --seeds 5
    """
    chosen = _chosen(bugs, in_haste)
    absent = {name: why for name in ENGINES if not engines and (why := why_not(name)) is not None}
    names = engines or tuple(name for name in ENGINES if name not in absent)
    limit, most = _SECONDS if seconds is None else seconds, _QUICK if in_haste else OPERATIONS
    wanted = [(canary(engine), engine, seed, CANARY_SECONDS, OPERATIONS) for engine in names]
    few = [name for name in names if name in _QUICK_ENGINES] if in_haste and not engines else names
    wanted += [(bug.name, name, at, limit, most) for bug in chosen for name in few for at in range(seed, seed + seeds)]
    out = console()
    say(out, f"seed {seed}")
    with bar("hunting", len(wanted), "hunts") as progress:
        done = hunts(wanted, jobs=jobs, progress=progress)
    canaries, rest = done[: len(names)], done[len(names) :]
    code = exit_code(canaries, rest)
    if json_path is not None:
        json_path.write_text(report.to_json(as_data(canaries, rest, seed, code)))
    out.print(matrix(chosen, rest))
    out.print()
    for line in summary(chosen, rest):
        say(out, line)
    for name, why in absent.items():
        say(out, f"{name}: not run ({why})")
    say(out, "\n" + verdict(canaries, rest, code))
    return code


def _chosen(ids: Sequence[str], in_haste: bool) -> list[Bug]:
    """The bugs by id or by name; all that can be found where none is named."""
    if not ids:
        return quick() if in_haste else hunted()
    known = {name: bug for bug in gallery() for name in (bug.id, bug.name)}
    for given in ids:
        if given not in known:
            raise Problem(f"no bug {given!r} in the gallery; 'heaplaw list --bugs' names them")
        if (why := known[given].equivalent) != "":
            raise Problem(f"nothing can find {given}: {why}")
    return list(dict.fromkeys(known[given] for given in ids))


# ---- what it amounts to --------------------------------------------------------------------------


def missed(hunts_: Sequence[Hunt]) -> list[str]:
    """Bugs that no engine has found with some seed."""
    tried = dict.fromkeys((hunt.target, hunt.seed) for hunt in hunts_ if hunt.verdict != NOT_RUN)
    found = {(hunt.target, hunt.seed) for hunt in hunts_ if hunt.verdict == FOUND}
    return list(dict.fromkeys(target for target, seed in tried if (target, seed) not in found))


def exit_code(canaries: Sequence[Hunt], rest: Sequence[Hunt]) -> int:
    """0 all found; 4 a canary or a bug was missed; 3 where nothing else is wrong but something was not run."""
    if any(one.verdict == MISSED for one in canaries) or missed(rest):
        return SELF_TEST_FAILED
    return PASSED if all(one.verdict == FOUND for one in canaries) else INCONCLUSIVE


def matrix(bugs: Sequence[Bug], hunts_: Sequence[Hunt]) -> Table:
    """Bug by engine: seconds and operations to the first failure, operations of the smallest trace, the law."""
    engines = list(dict.fromkeys(hunt.engine for hunt in hunts_))
    table = plain_table()
    table.add_column("bug", no_wrap=True)
    for engine in engines:
        table.add_column(engine, overflow="fold")
    by_cell: dict[tuple[str, str], list[Hunt]] = {}
    for one in hunts_:
        by_cell.setdefault((one.target, one.engine), []).append(one)
    for bug in bugs:
        table.add_row(escape(bug.name), *[_cell(by_cell.get((bug.name, engine), [])) for engine in engines])
    return table


def _cell(ones: Sequence[Hunt]) -> str:
    """Of several seeds: the laws, the shortest trace, the slowest hunt."""
    found = [one for one in ones if one.verdict == FOUND]
    if not found:
        return " ".join(dict.fromkeys(one.verdict for one in ones)) or "-"
    laws = Counter(one.law for one in found).most_common(1)[0][0]
    slow = max(one.seconds for one in found)
    share = "" if len(found) == len(ones) else f" ({len(found)} of {len(ones)})"
    return f"{laws} {min(one.length for one in found)} op, {slow:.1f} s{share}"


def summary(bugs: Sequence[Bug], hunts_: Sequence[Hunt]) -> list[str]:
    """Shares found by each engine and by all, and how soon."""
    lines = []
    for engine in dict.fromkeys(hunt.engine for hunt in hunts_):
        mine = [one for one in hunts_ if one.engine == engine]
        found = [one for one in mine if one.verdict == FOUND]
        soon = sum(one.seconds <= _SOON for one in found)
        times = f"median {median(one.seconds for one in found):.2f} s" if found else "nothing"
        lines.append(
            f"{engine}: {len(found)} of {len(mine)} found ({_share(found, mine)}), {soon} within "
            f"{_SOON:.0f} s ({soon / len(mine):.1%}), {times}"
        )
    laws = {one.law for one in hunts_ if one.verdict == FOUND}
    lines.append(f"{len(bugs)} bugs, {len(laws)} laws broken first")
    return lines


def _share(some: Sequence[Any], of: Sequence[Any]) -> str:
    return f"{len(some) / len(of):.1%}"


def verdict(canaries: Sequence[Hunt], rest: Sequence[Hunt], code: int) -> str:
    """The last line: what the exit code says, in words."""
    silent = [one for one in canaries if one.verdict != FOUND]
    if silent:
        told = "; ".join(f"{one.engine} {one.verdict}{f': {one.why}' if one.why else ''}" for one in silent)
        return f"a canary was not found: {told} (exit {code})"
    if survivors := missed(rest):
        return f"not found by any engine: {', '.join(survivors)} (exit {code})"
    return f"every bug was found, and the canary of every engine (exit {code})"


def as_data(canaries: Sequence[Hunt], rest: Sequence[Hunt], seed: int, code: int) -> dict[str, Any]:
    """For a report."""
    return {
        "format": "heaplaw selftest 1",
        "seed": seed,
        "exit": code,
        "canaries": [one._asdict() for one in canaries],
        "hunts": [one._asdict() for one in rest],
    }
