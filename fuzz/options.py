"""What the commands have in common: how options are spelled, bad input, progress, where tables go."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from heaplaw.impls.registry import BUILT_IN, KERNELS
from heaplaw.lawbook import LAWS, meant
from heaplaw.properties.verdict import USAGE

STOPPED = 130
"""Exit code of what was stopped with Ctrl-C, as shells have it."""
_PIPE_WIDTH = 120  # characters


class Problem(click.ClickException):
    """Bad input: one line, exit code 2."""

    exit_code = USAGE


class Duration(click.ParamType[float]):
    """``40s``, ``5m``, ``1h`` or plain seconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text = str(value)
        unit = {"s": 1, "m": 60, "h": 3600}.get(text[-1:], 0)
        try:
            seconds = float(text[:-1] if unit else text) * (unit or 1)
        except ValueError:
            seconds = -1.0
        if not 0 < seconds < float("inf"):
            self.fail(f"{text!r} is not a time; write 40s, 5m or 1h", param, ctx)
        return seconds


class Bytes(click.ParamType[int]):
    """``512M``, ``2G`` or plain bytes."""

    name = "bytes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value)
        shift = {"K": 10, "M": 20, "G": 30}.get(text[-1:].upper(), 0)
        digits = text[:-1] if shift else text
        if not digits.isdecimal() or not int(digits):
            self.fail(f"{text!r} is not an amount of memory; write 512M or 2G", param, ctx)
        return int(digits) << shift


class Numbers(click.ParamType[tuple[int, ...]]):
    """``1,8,24``: numbers from 1 on."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        words = str(value).split(",")
        if not all(word.isdecimal() and int(word) for word in words):
            self.fail(f"{value!r} is not a list of numbers; write 1,8,24", param, ctx)
        return tuple(int(word) for word in words)


def writable(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path | None:
    """Find out before the work, not after it, that a report cannot be written."""
    if value is not None:
        folder = value.parent
        if not folder.is_dir():
            raise Problem(f"cannot write {value}: there is no folder {folder}; make it first")
        if value.is_dir() or not os.access(value if value.exists() else folder, os.W_OK):
            raise Problem(f"cannot write {value}: no permission, or a folder of that name")
    return value


def complete_target(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """For the shell: names that a target may begin with."""
    return [name for name in (*BUILT_IN, *KERNELS, "malloc:glibc") if name.startswith(incomplete)]


def known_laws(names: Iterable[str], where: str = "") -> None:
    """Raises Problem for one that is no law; ``where`` it stands goes before."""
    for name in names:
        if name not in LAWS:
            raise Problem(f"{where}unknown law {name!r}{meant(name, LAWS)}; 'heaplaw list --laws' names them")


def make_folder(folder: Path) -> None:
    """Make a folder and those above it.  Raises Problem where that is not allowed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise Problem(f"cannot make the folder {folder}: {problem.strerror}") from None


json_option = click.option(
    "--json", "json_path", type=click.Path(path_type=Path), callback=writable, metavar="FILE", help="Write a report."
)
seed_option = click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Same seed, same run.")
jobs_option = click.option("--jobs", type=click.IntRange(1), default=os.cpu_count() or 1, show_default="processors")
isolate_option = click.option("--isolate", is_flag=True, help="Run targets in child processes, native or not.")


def console() -> Console:
    """Standard output; wide enough for every table where it is no terminal."""
    return Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH)


def say(out: Console, text: str) -> None:
    """Print text as it stands: brackets are no markup, numbers have no colour, and no line is broken."""
    out.print(text, highlight=False, soft_wrap=True, markup=False)


def plain_table() -> Table:
    """A table as all commands print them, without lines; columns are still to be added."""
    return Table(box=None, pad_edge=False, header_style="bold")


@contextmanager
def bar(title: str, total: int, what: str = "operations") -> Iterator[Callable[..., None]]:
    """A progress bar on a terminal, told what is done and, if it changed, the total; silence in a pipe."""
    if not sys.stderr.isatty():
        yield lambda done, total=None: None
        return
    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TextColumn(what), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=total)
        yield lambda done, total=None: progress.update(task, completed=done, total=total)


def bounds_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What a target in a child process may use."""
    memory = click.option(
        "--memory", type=Bytes(), default="1G", show_default=True, help="That a target in a child process may have."
    )
    patience = click.option(
        "--patience", type=Duration(), default="5s", show_default=True, help="With one that does no operation."
    )
    return memory(patience(command))
