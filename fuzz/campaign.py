"""``heaplaw campaign``: many targets, engines and seeds, for minutes or days, and nothing is lost."""

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import click
from click.core import ParameterSource
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from heaplaw.impls.naming import parse
from heaplaw.impls.registry import BUILT_IN, factory
from heaplaw.properties.engines import ENGINES, why_not
from heaplaw.properties.verdict import COUNTEREXAMPLE, INCONCLUSIVE

from . import report
from .campaign_view import conclusion, headline, status, table
from .campaigning import Campaign, Settings, check_corpus
from .child import Limits
from .corpus import Corpus
from .crew import Crew, CrewError, LocalCrew
from .isolating import loading, needs_isolation
from .options import (
    STOPPED,
    Bytes,
    Duration,
    Problem,
    complete_target,
    console,
    jobs_option,
    json_option,
    make_folder,
    say,
)
from .records import Book, InUse
from .store import StoreError

_STATUS_EVERY, _VIEW_EVERY = 2.0, 0.5  # seconds
_GROWN = 4  # a process that has come to this part of its memory is replaced


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), metavar="DIR")
@click.argument("targets", nargs=-1, shell_complete=complete_target)
@click.option("--engine", "engines", multiple=True, type=click.Choice(sorted(ENGINES)), help="May be repeated.")
@click.option("--time", "seconds", type=Duration(), help="Of this sitting.", show_default="until stopped")
@click.option("--resume", is_flag=True, help="Go on with the campaign in DIR; there must be one.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Same seed, same shards.")
@jobs_option
@click.option("--ops", "operations", type=click.IntRange(1), default=20_000, show_default=True, help="Of a shard.")
@click.option("--shard-time", type=Duration(), default="20s", show_default=True, help="That a shard may take.")
@click.option("--shards", type=click.IntRange(1), help="Of each target and engine, and no more.")
@click.option("--memory", type=Bytes(), default="2G", show_default=True, help="That a worker may have.")
@click.option("--patience", type=Duration(), default="60s", show_default=True, help="With a worker beyond its time.")
@click.option("--corpus", default="", metavar="PLACE", help="A folder or a URL.", show_default="DIR/corpus")
@click.option("--scheduler", default="", metavar="ADDRESS", help="Work on a Dask cluster, such as tcp://HOST:8786.")
@json_option
def campaign(
    folder: Path,
    targets: tuple[str, ...],
    engines: tuple[str, ...],
    seconds: float | None,
    resume: bool,
    jobs: int,
    memory: int,
    patience: float,
    scheduler: str,
    json_path: Path | None,
    **budgets: Any,
) -> int:
    """Hunt on TARGETS (all built-in ones when none is named) with many engines and seeds, and keep all in DIR.

    It may be stopped, killed or unplugged at any moment: the same command goes on where it was.  Time goes where
    something new is seen.  Targets run in child processes, which may crash, hang or eat memory.  What is found is
    confirmed in a fresh process, made small, and written to DIR/findings as trace files and pytest cases;
    DIR/status.json says how far it has come.

    \b
    Example: heaplaw campaign hunt --time 8h
             heaplaw campaign hunt --resume
    """
    make_folder(folder)
    try:
        book = Book(folder)
    except InUse as problem:
        raise Problem(str(problem)) from None
    try:
        settings = _settings(book, resume, targets, engines, budgets)
        settings.seconds = seconds if seconds is not None else float("inf")
        book.keep_settings(_kept(settings))
        out = console()
        say(out, f"seed {settings.seed}")
        if unusable := _corpus_problem(out, settings):
            return _refuse(out, unusable, json_path)
        natives = [name for name in settings.targets if needs_isolation(name)]
        limits = Limits(memory=memory, grown=memory // _GROWN, patience=patience, bounded=not natives)
        with _crew(scheduler, jobs, book, limits, loading(natives)) as crew:
            return _hunt(book, crew, settings, out, json_path)
    except CrewError as problem:
        return _refuse(console(), f"inconclusive: {problem} (exit {INCONCLUSIVE})", json_path)
    finally:
        book.close()


# ---- what is to be done -----------------------------------------------------------------------------


def _settings(
    book: Book, resume: bool, targets: tuple[str, ...], engines: tuple[str, ...], budgets: dict[str, Any]
) -> Settings:
    """What was given, else what the campaign was begun with, else the defaults."""
    known = book.settings()
    if resume and not known:
        raise Problem(f"there is no campaign in {book.folder} to go on with; leave out --resume to begin one")
    context = click.get_current_context()
    for option, value in list(budgets.items()):
        if known and context.get_parameter_source(option) is ParameterSource.DEFAULT:
            budgets[option] = known.get(option, value)
    usable = [engine for engine in ENGINES if why_not(engine) is None]
    names = list(dict.fromkeys(targets)) or known.get("targets") or list(BUILT_IN)
    for name in names:
        if ":" not in parse(name).base and not needs_isolation(name):
            factory(name)  # others are built in a process that may be lost
    for engine in engines:
        if (problem := why_not(engine)) is not None:
            raise Problem(problem)
    return Settings(
        names, list(dict.fromkeys(engines)) or known.get("engines") or usable, budgets["seed"], budgets["operations"],
        budgets["shard_time"], budgets["shards"], corpus=budgets["corpus"] or str((book.folder / "corpus").absolute()),
    )  # fmt: skip


def _kept(settings: Settings) -> dict[str, Any]:
    return {
        "format": "heaplaw campaign 1", "targets": settings.targets, "engines": settings.engines,
        "seed": settings.seed, "operations": settings.operations, "shard_time": settings.shard_seconds,
        "shards": settings.shards, "corpus": settings.corpus,
    }  # fmt: skip


def _corpus_problem(out: Console, settings: Settings) -> str:
    """The last line where the corpus cannot be used; what is wrong with some of its files is said at once."""
    try:
        problem, complaints = check_corpus(Corpus(settings.corpus), settings.targets)
    except StoreError as broken:
        problem, complaints = str(broken), []
    for line in complaints:
        say(out, line)
    return f"inconclusive: {problem} (exit {INCONCLUSIVE})" if problem else ""


def _refuse(out: Console, line: str, json_path: Path | None) -> int:
    if json_path is not None:
        json_path.write_text(
            report.to_json({"format": "heaplaw campaign status 1", "exit": INCONCLUSIVE, "why": line})
        )
    say(out, line)
    return INCONCLUSIVE


@contextmanager
def _crew(
    scheduler: str, jobs: int, book: Book, limits: Limits, environment: Mapping[str, str]
) -> Iterator[Crew]:
    """Those who do the work; ``environment``: what their processes need.  Raises CrewError, Problem."""
    crew: Crew
    if scheduler:
        from .cluster import DaskCrew

        if "LD_PRELOAD" in environment:
            raise Problem("libraries with sanitizers need processes of their own kind, which a cluster has not")
        crew = DaskCrew(scheduler, limits)
    else:
        crew = LocalCrew(jobs, book.folder / "running", limits, environment)
    try:
        yield crew
    finally:
        crew.close()


# ---- doing it ---------------------------------------------------------------------------------------


def _hunt(book: Book, crew: Crew, settings: Settings, out: Console, json_path: Path | None) -> int:
    with _view() as (tell, show), _stoppable():
        hunt = Campaign(book, crew, settings, tell)
        for line in book.complaints:
            tell(line)
        begun_with = {target: hunt.totals.operations(target) for target in settings.targets}
        look = _looker(book, begun_with, show)
        stopped, trouble = False, ""
        try:
            hunt.probe()
            if hunt.wrong:
                raise Problem(next(iter(hunt.wrong.values())))
            hunt.run(look)
        except KeyboardInterrupt:
            stopped = True
        except CrewError as problem:
            trouble = str(problem)
    code, line = conclusion(hunt)
    if trouble and code != COUNTEREXAMPLE:
        code, line = INCONCLUSIVE, f"inconclusive: {trouble} (exit {INCONCLUSIVE})"
    elif trouble:
        line = f"{trouble}; {line}"
    if stopped:
        code, line = STOPPED, f"stopped; the same command goes on from here: {line.rpartition(' (exit')[0]}"
    final = status(hunt, "stopped" if stopped else "ended", code)
    book.status(final)
    if json_path is not None:
        json_path.write_text(report.to_json(final))
    out.print(table(hunt, begun_with))
    for one in hunt.findings.values():
        say(out, f"{one['target']} breaks {one['law']}: {book.folder}/findings/{one['name']}.trace")
    say(out, f"\n{headline(hunt)}\n{line}")
    return code


def _looker(book: Book, begun_with: dict[str, int], show: Callable[[Any], None]) -> Callable[[Campaign], None]:
    """Keeps the status file and the view fresh."""
    last = {"status": 0.0, "view": 0.0}

    def look(hunt: Campaign) -> None:
        now = time.monotonic()
        if now - last["status"] >= _STATUS_EVERY:
            last["status"] = now
            book.status(status(hunt, "running"))
        if now - last["view"] >= _VIEW_EVERY:
            last["view"] = now
            show(lambda: Group(table(hunt, begun_with), Text(headline(hunt))))

    return look


@contextmanager
def _view() -> Iterator[tuple[Callable[[str], None], Callable[[Any], None]]]:
    """(tell a line, show a picture): the picture lives on a terminal; in a pipe there are only the lines."""
    screen = Console(stderr=True)
    if not screen.is_terminal:
        out = console()
        yield lambda line: say(out, line), lambda picture: None
        return
    with Live(console=screen, transient=True, auto_refresh=False) as live:
        yield (
            lambda line: say(live.console, line),
            lambda picture: live.update(picture(), refresh=True),
        )


@contextmanager
def _stoppable() -> Iterator[None]:
    """A polite request to end is like Ctrl-C."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
