"""Which reports are wanted, and writing them: the options that ``check`` and ``gate`` have in common.

>>> Wanted(junit=Path("junit.xml")).any
True
"""

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from .. import report as plain
from ..options import json_option, writable
from .junit import to_junit
from .model import Report
from .sarif import to_sarif
from .step_summary import to_markdown

_SUMMARY = "GITHUB_STEP_SUMMARY"  # set by GitHub Actions: the file that it shows under a job


@dataclass(frozen=True)
class Wanted:
    """Where each format of report is to go; None is not wanted."""

    json: Path | None = None
    junit: Path | None = None
    sarif: Path | None = None
    summary: Path | None = None
    html: Path | None = None

    @property
    def any(self) -> bool:
        """Is some report wanted?"""
        return any(path is not None for path in vars(self).values())


def _summary_file(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path | None:
    """The file given; for a gate on GitHub the one that it shows."""
    if value is None and ctx.command.name == "gate" and os.environ.get(_SUMMARY):
        value = Path(os.environ[_SUMMARY])
    return writable(ctx, param, value)


def _file(name: str, says: str, callback: Callable[..., Path | None] = writable) -> Callable[..., Any]:
    return click.option(f"--{name}", type=click.Path(path_type=Path), callback=callback, metavar="FILE", help=says)


_OPTIONS = (
    json_option,
    _file("junit", "JUnit XML: a suite a target, a test a law."),
    _file("sarif", "SARIF 2.1.0: a result a counterexample, for code scanning."),
    _file("summary", f"Markdown for people; of a gate ${_SUMMARY} where that is set.", _summary_file),
    _file("html", "One page to open in a browser, with pictures of the heap."),
)


def report_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--json --junit --sarif --summary --html``, as the one argument ``reports`` (Wanted)."""

    @functools.wraps(command)
    def wrapped(
        *args: Any,
        json_path: Path | None,
        junit: Path | None,
        sarif: Path | None,
        summary: Path | None,
        html: Path | None,
        **rest: Any,
    ) -> Any:
        return command(*args, reports=Wanted(json_path, junit, sarif, summary, html), **rest)

    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped


def write(report: Report, wanted: Wanted) -> None:
    """Write each report that is wanted.  Raises OSError where a file cannot be written."""
    for path, writer in ((wanted.json, to_json), (wanted.junit, to_junit), (wanted.sarif, to_sarif)):
        if path is not None:
            path.write_text(writer(report), encoding="utf-8")
    if wanted.html is not None:
        from .html import to_html  # the largest of them, and seldom wanted

        wanted.html.write_text(to_html(report), encoding="utf-8")
    if wanted.summary is not None:
        shown = os.environ.get(_SUMMARY)
        with wanted.summary.open("a" if shown and Path(shown) == wanted.summary else "w", encoding="utf-8") as file:
            file.write(to_markdown(report))


def to_json(report: Report) -> str:
    """The report as JSON (``report.schema.json``)."""
    steps = [
        {"name": step.name, "subject": step.subject, "verdict": step.verdict.value, "said": step.said}
        for step in report.steps
    ]
    timing: dict[str, float] = {}
    for step in report.steps:
        name = f"{step.name} {step.subject}".rstrip()
        timing[name] = timing.get(name, 0.0) + step.seconds
    extra = {"floors": plain.floors(report.floors), "steps": steps, **report.extra}
    return plain.as_json(report.tallies, seed=report.seed, code=report.code, extra=extra, timing=timing)
