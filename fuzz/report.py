"""What people see of a check: tables for the terminal, JSON for machines."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from heaplaw.contract import Contract
from heaplaw.impls.bugs import gallery
from heaplaw.impls.registry import BUILT_IN, factory
from heaplaw.lawbook import LAWS
from heaplaw.operations import birth_name
from heaplaw.properties.floors import Measured
from heaplaw.properties.reached import WORDS, class_of
from heaplaw.properties.recorded import Recording
from heaplaw.properties.replay import Figures
from heaplaw.properties.verdict import Finding, Status, Tally

from .options import plain_table
from .reports.wording import counted, details, picture
from .trace_files import telling_name

SYMBOLS = {
    Status.PASSED: "ok",
    Status.REFUTED: "BROKEN",
    Status.INCONCLUSIVE: "?",
    Status.NOT_RUN: "not run",
    Status.NOT_APPLICABLE: "-",
}
_SIGNS = {
    Status.REFUTED: "X",
    Status.INCONCLUSIVE: "?",
    Status.NOT_RUN: "o",
    Status.NOT_APPLICABLE: "-",
}
_STRIP, _RUN = re.compile(r"(.*? )\|([A-Z.#]+)\|(.*)"), re.compile(r"(.)\1*")
_HANDLES = ("cyan", "yellow", "green", "magenta", "blue", "bright_yellow", "bright_green")  # red is for what is broken
_WIDE_COLUMNS = 5  # targets whose names and counts fit beside the laws


def summary(tallies: Sequence[Tally]) -> Table:
    """One line a target."""
    table = plain_table()
    table.add_column("target", overflow="fold")
    for title in ("operations", "runs", "passed", "broken", "unclear", "not run", "n/a", "new state"):
        table.add_column(title, justify="right", no_wrap=True)
    for tally in tallies:
        counts = {status: sum(tally.status(law) is status for law in LAWS) for status in Status}
        table.add_row(
            escape(tally.target),
            f"{tally.operations:,}",
            f"{tally.runs:,}",
            str(counts[Status.PASSED]),
            f"[red]{counts[Status.REFUTED]}[/]" if counts[Status.REFUTED] else "0",
            str(counts[Status.INCONCLUSIVE]),
            str(counts[Status.NOT_RUN]),
            str(counts[Status.NOT_APPLICABLE]),
            f"{tally.novelty.chance:.2%}" if tally.novelty.seen else "",
        )
    return table


def law_table(tallies: Sequence[Tally]) -> Table:
    """Law by target: the verdict, or how often a passed law's condition held.

    Many targets stand as letters, explained by ``legend``, and only with their verdicts.
    """
    few = len(tallies) <= _WIDE_COLUMNS
    table = plain_table()
    table.add_column("law", no_wrap=True)
    for letter, tally in zip(_letters(tallies), tallies, strict=True):
        table.add_column(escape(tally.target) if few else letter, justify="right" if few else "center")
    for law in LAWS:
        cells = []
        for tally in tallies:
            status = tally.status(law)
            passed = f"{tally.evidence[law]:,}" if few else "ok"
            cells.append(passed if status is Status.PASSED else (SYMBOLS if few else _SIGNS)[status])
        table.add_row(law, *cells)
    return table


def legend(tallies: Sequence[Tally]) -> list[str]:
    """What the letters and signs of a table of many targets mean; nothing for a few."""
    if len(tallies) <= _WIDE_COLUMNS:
        return []
    letters = [f"{letter} {tally.target}" for letter, tally in zip(_letters(tallies), tallies, strict=True)]
    signs = [f"{sign} {status.value}" for status, sign in _SIGNS.items()]
    return ["  ".join(letters), "  ".join(["ok passed", *signs])]


def _letters(tallies: Sequence[Tally]) -> list[str]:
    return [birth_name(index).upper() for index in range(len(tallies))]


def reasons(tallies: Sequence[Tally]) -> list[str]:
    """Why laws did not run or do not apply, one line a target and reason."""
    lines = []
    for tally in tallies:
        grouped: dict[str, list[str]] = {}
        for law in LAWS:
            status = tally.status(law)
            if status is Status.NOT_APPLICABLE:
                grouped.setdefault(tally.lacking[law], []).append(law)
            elif status is Status.NOT_RUN:
                grouped.setdefault("its condition never held", []).append(law)
        lines += [f"{tally.target}: {', '.join(laws)} ({why})" for why, laws in sorted(grouped.items())]
    return lines


def reach_table(tallies: Sequence[Tally]) -> Table:
    """Named state by target: how often it was reached; of size classes, how many of those that there are."""
    few = len(tallies) <= _WIDE_COLUMNS
    table = plain_table()
    table.add_column("state" if few else "state: ok reached, o never", no_wrap=True)
    for letter, tally in zip(_letters(tallies), tallies, strict=True):
        table.add_column(escape(tally.target) if few else letter, justify="right" if few else "center")
    for word in WORDS:
        table.add_row(word, *(_reached(tally, word, few) for tally in tallies))
    counts = [[tally.reached[word] for word in tally.reachable if class_of(word) is not None] for tally in tallies]
    if few:
        table.add_row("size classes", *(f"{sum(map(bool, c))} of {len(c)}" if c else "-" for c in counts))
    else:
        table.add_row("all size classes", *("o" if 0 in c else "ok" if c else "-" for c in counts))
    return table


def _reached(tally: Tally, word: str, few: bool) -> str:
    """A cell of the table: the count, or a sign where there are many columns."""
    if word not in tally.reachable:
        return "-"
    seen = tally.reached[word]
    return f"{seen:,}" if few else "ok" if seen else "o"


def never_reached(tallies: Sequence[Tally]) -> list[str]:
    """Named states that a target has and that were not seen, one line a target."""
    return [
        f"{tally.target}: never reached {', '.join(tally.never_reached)}" for tally in tallies if tally.never_reached
    ]


def floor_lines(measured: Sequence[Measured], *, verbose: bool = False) -> list[str]:
    """Floors that were not met or do not apply; all of them where ``verbose``."""
    shown = [one for one in measured if verbose or one.why_not or not one.met]
    return [str(one) if one.why_not else f"floor {'met' if one.met else 'NOT met'}: {one}" for one in shown]


def floors(measured: Sequence[Measured]) -> list[dict[str, Any]]:
    """Floors as JSON."""
    return [
        {"target": one.target, "word": one.word, "seen": one.seen, "wanted": one.wanted, "met": one.met}
        | ({"why_not": one.why_not} if one.why_not else {})
        for one in measured
    ]


def show_finding(console: Console, finding: Finding, again: str = "") -> None:
    """A counterexample: the law in words, the trace as heap strips, and ``again``, how to see it once more."""
    law = LAWS[finding.violation.law]
    lines = [f"\n[bold red]{escape(finding.target)} breaks {law.id}[/]: {escape(law.sentence)}"]
    lines += [escape(f"  {line}") for line in details(finding)]
    lines += [f"  {_coloured(line)}" for line in picture(finding)]
    console.print("\n".join([*lines, *([escape(f"  {again}")] if again else [])]), highlight=False, soft_wrap=True)


def _coloured(line: str) -> str:
    """A line of a strip as markup: a colour for each letter, so that an object is found again in the next step."""
    parts = _STRIP.fullmatch(line)
    if parts is None:
        return f"[bold red]{line}[/]" if set(line) <= {" ", "^"} else escape(line)
    head, cells, tail = parts.groups()
    runs = [match.group() for match in _RUN.finditer(cells)]
    painted = [f"[{_style(run[0])}]{run}[/]" if run[0] != "." else run for run in runs]
    return f"{escape(head)}|{''.join(painted)}|" + (f"[bold red]{escape(tail)}[/]" if tail else "")


def _style(letter: str) -> str:
    return "bold red" if letter == "#" else _HANDLES[(ord(letter) - ord("A")) % len(_HANDLES)]


def show_findings(console: Console, findings: Iterable[Finding], save: Path | None) -> None:
    """Counterexamples, each with how to see it once more; their traces are written into ``save``, if that is given."""
    for finding in findings:
        again = f"again: heaplaw replay {_save_trace(save, finding)}" if save else "--save DIR keeps the trace"
        show_finding(console, finding, again)


def _save_trace(folder: Path, finding: Finding) -> Path:
    path = trace_path(folder, finding)
    path.write_text(str(finding.trace))
    return path


def trace_path(folder: Path, finding: Finding) -> Path:
    """Where a finding's trace file is written."""
    return folder / f"{telling_name(finding.target, finding.violation.law)}.trace"


def as_json(
    tallies: Sequence[Tally],
    *,
    seed: int | None,
    code: int,
    extra: dict[str, Any] | None = None,
    timing: Mapping[str, float] | None = None,
) -> str:
    """The report as JSON; everything but ``timing`` is the same for the same seed, target and version.

    ``timing``: seconds of what is not a target.
    """
    seconds: dict[str, float] = {}
    for tally in tallies:
        seconds[tally.target] = seconds.get(tally.target, 0.0) + tally.seconds
    return to_json(
        {
            "format": "heaplaw report 1",
            "seed": seed,
            "exit": code,
            "targets": [_target(tally) for tally in tallies],
            **(extra or {}),
            "timing": {name: round(taken, 3) for name, taken in {**seconds, **(timing or {})}.items()},
        }
    )


def _target(tally: Tally) -> dict[str, Any]:
    return {
        "target": tally.target,
        "engine": tally.engine,
        "operations": tally.operations,
        "planned": tally.planned,
        "runs": tally.runs,
        "refusals": tally.refusals,
        "skipped": tally.skipped,
        "states": len(tally.novelty.seen),
        "chance_of_new_state": round(tally.novelty.chance, 6),
        "reached": {word: tally.reached[word] for word in tally.reachable},
        "laws": {
            law: {"verdict": tally.status(law).value, "held": tally.evidence[law]}
            | ({"why": tally.lacking[law]} if tally.status(law) is Status.NOT_APPLICABLE else {})
            for law in LAWS
        },
        "findings": [_finding(finding) for finding in tally.findings],
        "flaky": [_finding(finding) for finding in tally.flaky],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    violation = finding.violation
    return {
        "law": violation.law,
        "target": finding.target,
        "operation": violation.index + 1,
        "expected": violation.expected,
        "seen": violation.seen,
        "trace": str(finding.trace),
        "heap": violation.heap.splitlines(),
    } | {key: lines for key, lines in (("said", finding.said), ("told", finding.told)) if lines}


def verdict(tallies: Sequence[Tally], code: int, measured: Sequence[Measured] = ()) -> str:
    """The last line: what the exit code says, in words."""
    broken = sum(len(tally.findings) for tally in tallies)
    flaky = sum(len(tally.flaky) for tally in tallies)
    if broken:
        where = sum(bool(tally.findings) for tally in tallies)
        return f"{counted(broken, 'law')} broken on {where} of {counted(len(tallies), 'target')} (exit {code})"
    if flaky:
        laws = ", ".join(sorted({finding.violation.law for tally in tallies for finding in tally.flaky}))
        return f"inconclusive: a violation of {laws} did not recur in a fresh process (exit {code})"
    empty = [t.target + (f" ({t.stopped})" if t.stopped else "") for t in tallies if not t.operations]
    if empty:
        return f"inconclusive: nothing was executed on {', '.join(empty)} (exit {code})"
    if early := [tally for tally in tallies if tally.stopped]:
        return f"inconclusive: {early[0].target} was not searched to its end, {early[0].stopped} (exit {code})"
    short = [tally for tally in tallies if tally.operations < tally.planned]
    if short:
        done, planned = sum(t.operations for t in short), sum(t.planned for t in short)
        return f"inconclusive: time was up after {done:,} of {planned:,} operations; give more --time (exit {code})"
    if unmet := [one for one in measured if not one.met]:
        return f"inconclusive: {counted(len(unmet), 'floor')} not met on {unmet[0].target}{_more(unmet)} (exit {code})"
    total = sum(tally.operations for tally in tallies)
    return f"every applicable law passed on {counted(len(tallies), 'target')}, {total:,} operations (exit {code})"


def _more(unmet: Sequence[Measured]) -> str:
    others = len({one.target for one in unmet}) - 1
    return f" and {counted(others, 'other target')}" if others else ""


def promises(contract: Contract) -> str:
    """A contract in a line."""
    words = [f"{contract.arena:,} bytes" if contract.arena else "pages"]
    words.append(f"sizes {contract.min_size}..{contract.largest:,}")
    words.append(f"alignment {contract.granule:,}..{max(contract.granule, contract.max_align):,}")
    plain = {
        "sized free": contract.sized_free,
        "zeroed": contract.zeroed,
        f"{contract.cpus} CPUs": contract.cpus > 1,
        f"{contract.groups} groups apart": contract.isolated_groups,
        "moves on " + "/".join(sorted(contract.moving)): bool(contract.moving),
        "evicts on " + "/".join(sorted(contract.evicting)): bool(contract.evicting),
        "serves what fits": contract.must_serve is not None,
        "refuses what does not": contract.must_refuse is not None,
        "merges free neighbours": contract.mergeable is not None,
        "bounded search": bool(contract.cost_bounds),
        "bounded waste": contract.waste is not None,
        "hints": bool(contract.hint_slack or contract.hint_relations),
        "detects " + "/".join(sorted(contract.detects)) + " frees": bool(contract.detects),
    }
    return ", ".join(words + [word for word, holds in plain.items() if holds])


def listing() -> str:
    """Targets, laws and the gallery of bugs as JSON."""
    targets = {
        name: {"summary": k.summary, "revisions": k.revisions, "promises": promises(factory(name)().contract)}
        for name, k in BUILT_IN.items()
    }
    laws = {law.id: {"sentence": law.sentence, "needs": law.needs, "source": law.source} for law in LAWS.values()}
    bugs = {bug.name: {key: value for key, value in bug._asdict().items() if key != "build"} for bug in gallery()}
    return to_json({"format": "heaplaw list 1", "targets": targets, "laws": laws, "bugs": bugs})


def other_targets() -> list[str]:
    """What can be checked besides the built-in targets, one line a kind; which kernels are built here."""
    from heaplaw.impls.native.linux.building import cache  # no other command needs what that imports

    built = sorted({f"linux:{path.stem.rpartition('-')[0]}@{path.parent.name}" for path in cache().glob("*/*-4096.so")})
    return [
        "your own: package.module:Class, path/file.py:Class, ./library.so (see heaplaw.h), or --source FILE.c",
        "mallocs of this machine: malloc:glibc, malloc:jemalloc, malloc:mimalloc, malloc:tcmalloc, malloc:./library.so",
        f"the kernel's own code: {', '.join(built) or 'none is built yet; see heaplaw build-linux --help'}",
    ]


def to_json(value: Any) -> str:
    """JSON as this project writes it."""
    return json.dumps(value, indent=1) + "\n"


def figures(seen: Figures) -> dict[str, Any]:
    """A replay's measurements; rates are timing and stand elsewhere."""
    return {
        "requests": seen.requests,
        "served": seen.served,
        "refused": seen.refused,
        "peak_objects": seen.peak_objects,
        "peak_requested": seen.peak_requested,
        "peak_live": seen.peak_live,
        "footprint": seen.footprint,
        "internal_fragmentation": round(seen.internal, 6),
        "external_fragmentation": round(seen.external, 6),
        "same_answers": seen.same_answers,
        "known_answers": seen.known_answers,
        "first_difference": seen.first_difference,
    }


def recording(seen: Recording) -> dict[str, Any]:
    """What reading a recording met."""
    return {
        "format": seen.format,
        "header": seen.trace.header,
        "operations": len(seen.trace.operations),
        "unknown_frees": seen.unknown_frees,
        "lost_frees": seen.lost_frees,
        "never_freed": seen.never_freed,
        "ignored": seen.ignored,
    }


def recording_lines(seen: Recording) -> list[str]:
    """The same in words."""
    lines = [f"{seen.format}: {seen.lines:,} lines, {len(seen.trace.operations):,} operations"]
    odd = {
        "frees of objects never seen born (skipped)": seen.unknown_frees,
        "frees missing from the recording (put back)": seen.lost_frees,
        "objects never freed": seen.never_freed,
    }
    return lines + [f"  {count:,} {what}" for what, count in odd.items() if count]


def replay_lines(seen: Recording, tally: Tally, measured: Figures) -> list[str]:
    """What a replay measured, in words."""
    lines = recording_lines(seen)
    lines.append(f"target {tally.target}")
    lines.append(f"  {tally.operations:,} operations checked, {measured.rate:,.0f} a second")
    served = f"{measured.served:,} of {measured.requests:,} requests served"
    refused = "".join(f"; {count:,} refused: {why}" for why, count in sorted(measured.refused.items()))
    lines.append(f"  {served}{refused}; at most {measured.peak_objects:,} live")
    lines.append(f"  live peak {measured.peak_requested:,} bytes asked for, {measured.peak_live:,} with slack")
    lines.append(f"  footprint {measured.footprint:,} bytes")
    lines.append(f"  fragmentation: internal {measured.internal:.1%}, external {measured.external:.1%}")
    if measured.known_answers:
        lines.append(f"  placed as recorded: {measured.same_answers:,} of {measured.known_answers:,}")
    if measured.first_difference:
        lines.append(f"  first that differs (information, not a verdict): {measured.first_difference}")
    return lines
