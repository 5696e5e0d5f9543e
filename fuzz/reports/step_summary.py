"""Markdown for people in a hurry: the summary that GitHub shows under a job, and fit to paste anywhere.

>>> print(to_markdown(Report("check", 7, 0, "every applicable law passed", [])).splitlines()[0])
## heaplaw check: ✅ every applicable law passed
"""

import re
from collections.abc import Iterable, Sequence
from html import escape

from heaplaw.lawbook import LAWS
from heaplaw.properties.verdict import COUNTEREXAMPLE, PASSED, Finding, Status, Tally

from .. import report as plain
from .model import Report
from .wording import again, counterexample, found, headline, overall, printable, shortfall, status

_SIGNS = {
    Status.PASSED: "✅",
    Status.REFUTED: "❌",
    Status.INCONCLUSIVE: "⚠️",
    Status.NOT_RUN: "⚪",
    Status.NOT_APPLICABLE: "➖",  # noqa: RUF001  # a sign, not a minus
}
_COUNTED = {
    Status.PASSED: "passed",
    Status.REFUTED: "broken",
    Status.INCONCLUSIVE: "unclear",
    Status.NOT_RUN: "not run",
    Status.NOT_APPLICABLE: "n/a",
}
_MOST = 900_000  # bytes; GitHub throws away a summary of more than a MiB


def to_markdown(report: Report) -> str:
    """The report as Markdown; counterexamples that would make it too long are counted, not shown."""
    sign = _SIGNS[{PASSED: Status.PASSED, COUNTEREXAMPLE: Status.REFUTED}.get(report.code, Status.INCONCLUSIVE)]
    parts = [f"## heaplaw {report.command}: {sign} {_cell(report.verdict)}"]
    parts += [f"Seed {report.seed}."] if report.seed is not None else []
    parts += [_targets(report.tallies)] if report.tallies else []
    parts += [_steps(report)] if report.steps else []
    parts += [f"- floor not met: {_cell(str(one))}" for one in report.floors if not one.met]
    used, left_out = sum(len(part.encode()) for part in parts), 0
    for tally, finding in found(report):
        text = _counterexample(report, tally, finding)
        used += len(text.encode())
        if used > _MOST:
            left_out += 1
        else:
            parts.append(text)
    parts += [f"{left_out} more counterexamples stand in the other reports."] if left_out else []
    if reasons := plain.reasons(report.tallies):
        parts.append(_folded("Laws that did not run or do not apply", "\n".join(reasons)))
    return "\n\n".join(parts) + "\n\n"


def _targets(tallies: Sequence[Tally]) -> str:
    rows = []
    for tally in tallies:
        counts = [str(sum(status(tally, law) is one for law in LAWS)) for one in _COUNTED]
        known = overall(tally)
        row = [f"{_SIGNS[known]} {known.value}", tally.target, tally.engine, f"{tally.operations:,}", *counts]
        rows.append([*row, shortfall(tally)])
    return _table(["verdict", "target", "engine", "operations", *_COUNTED.values(), "why"], rows)


def _steps(report: Report) -> str:
    rows = [
        [f"{_SIGNS[step.verdict]} {step.verdict.value}", step.name, step.subject, step.said] for step in report.steps
    ]
    return _table(["verdict", "step", "of", "why"], rows)


def _table(titles: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    titles = list(titles)
    lines = [titles, ["---"] * len(titles), *(map(_cell, row) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(text: str) -> str:
    """One line that Markdown takes as it stands."""
    marked = re.sub(r"([\\`*_\[\]|#~])", r"\\\1", " ".join(printable(text).split()))
    return marked.replace("&", "&amp;").replace("<", "&lt;")


def _counterexample(report: Report, tally: Tally, finding: Finding) -> str:
    return _folded(headline(finding), counterexample(finding), again(report, tally, finding))


def _folded(title: str, text: str, command: str = "") -> str:
    """A title that opens to a text as it stands, and to a command."""
    body = _fence(text, "text") + ("\n\n" + _fence(command, "sh") if command else "")
    return f"<details><summary>{escape(printable(title), quote=False)}</summary>\n\n{body}\n\n</details>"


def _fence(text: str, language: str) -> str:
    ticks = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{ticks}{language}\n{printable(text).rstrip()}\n{ticks}"
