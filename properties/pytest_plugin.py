"""The pytest plugin: a test a law for your allocator, in two lines.

    from heaplaw.properties.pytest_plugin import AllocatorLaws, laws_of
    from mine import Mine

    TestMine = laws_of(Mine)

or, to say more:

    class TestMine(AllocatorLaws):
        target = Mine                # a class, a function that makes one, or a name: "mine.py:Mine", "tlsf"
        operations = 100_000
        engine = "hypothesis"

Each law passes, fails with the smallest trace found, or is skipped with the reason why
it could not be asked.  The run behind the tests of one target is made once in a process;
under pytest-xdist, ``--dist=loadscope`` (or loadgroup) keeps them in one.
Floors of the nearest pyproject.toml (see ``floors``), of the class (``floors = {"coalesce both": 10}``) and of
``--heaplaw-floor`` are tests too: one a floor.
Trace files in the directory ``heaplaw_traces`` are collected as tests and replayed first.

>>> [option.flag for option in OPTIONS][:3]
['--heaplaw-ops', '--heaplaw-time', '--heaplaw-seed']
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import pytest

if TYPE_CHECKING:  # the plugin loads in every pytest run: what a test needs is imported when it needs it
    from .floors import Floors
    from .pytest_outcome import Budget, Outcome

_TITLE = "heaplaw"


class Option(NamedTuple):
    """An option, also found in the configuration file as ``heaplaw_...`` and on the test class."""

    flag: str
    attribute: str
    default: str
    help: str

    @property
    def ini(self) -> str:
        """Its name in the configuration file."""
        return self.flag.removeprefix("--").replace("-", "_")


_FLOOR = "--heaplaw-floor"
_OUTCOMES = pytest.StashKey[dict[tuple[str, "Budget"], "Outcome"]]()
_FLOORS = pytest.StashKey["Floors"]()
OPTIONS = (
    Option("--heaplaw-ops", "operations", "20000", "Budget of a target, in checked operations."),
    Option("--heaplaw-time", "time", "60s", "Ceiling of a target; reaching it makes its laws inconclusive: they fail."),
    Option("--heaplaw-seed", "seed", "1", "Same seed, same run."),
    Option("--heaplaw-engine", "engine", "plain", "plain, hypothesis or another engine."),
    Option("--heaplaw-save", "save", ".heaplaw", "Directory where traces of failures are written."),
    Option("--heaplaw-traces", "traces", "", "Directory of committed counterexamples: *.trace files are tests."),
)


class AllocatorLaws:
    """Subclass it with a name that begins with Test, and set ``target``; see the module docstring."""

    target: ClassVar[Any] = None
    operations: ClassVar[int | None] = None
    time: ClassVar[str | float | None] = None  # "40s", "2m" or seconds
    seed: ClassVar[int | None] = None
    engine: ClassVar[str | None] = None
    floors: ClassVar[Mapping[str, int]] = {}  # named states and laws, and how often they must have been met

    def test_law(self, heaplaw_law: str, heaplaw_run: "Outcome") -> None:
        """One law holds."""
        heaplaw_run.judge(heaplaw_law)

    def test_floor(self, heaplaw_floor: tuple[str, int], heaplaw_run: "Outcome") -> None:
        """A state was reached, or a law's condition met, as often as wanted."""
        heaplaw_run.judge_floor(*heaplaw_floor)


def laws_of(target: Any, **settings: Any) -> type[AllocatorLaws]:
    """A test class for a target: ``TestMine = laws_of(Mine, operations=100_000)``."""
    known = {"target": staticmethod(target) if callable(target) else target}
    return type("TestLaws", (AllocatorLaws,), known | settings)


# ---- hooks --------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup(_TITLE, "laws that allocators must obey")
    for option in OPTIONS:
        group.addoption(option.flag, default=None, metavar=option.attribute.upper()[:4], help=option.help)
        parser.addini(option.ini, option.help, default=option.default)
    text = "Fail unless a state was reached so often; may be repeated."
    group.addoption(_FLOOR, action="append", default=[], metavar="WORD=N", help=text)


def pytest_configure(config: pytest.Config) -> None:
    """Committed counterexamples are collected wherever their directory is, if nothing else was asked for."""
    config.stash[_OUTCOMES] = {}
    if given := config.getoption(_FLOOR):
        from .floors import FloorError, Floors

        try:
            Floors().also(given)
        except FloorError as problem:
            raise pytest.UsageError(f"heaplaw: {problem}") from None
    folder = _traces(config)
    asked = config.getoption("--heaplaw-traces") or config.args_source is not pytest.Config.ArgsSource.ARGS
    if folder is not None and asked and not _below(folder, [config.invocation_params.dir / arg for arg in config.args]):
        config.args.append(str(folder))


def pytest_report_header(config: pytest.Config) -> str:
    from importlib.metadata import version

    seed = config.getoption("--heaplaw-seed") or config.getini("heaplaw_seed")
    return f"heaplaw: version {version('heaplaw')}, seed {seed}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "heaplaw_law" in metafunc.fixturenames:
        from heaplaw.lawbook import LAWS

        metafunc.parametrize("heaplaw_law", list(LAWS))
    if "heaplaw_floor" in metafunc.fixturenames:
        floors = _floors_of(metafunc.config, metafunc.cls)
        metafunc.parametrize("heaplaw_floor", list(floors.items()), ids=list(floors))


def pytest_pycollect_makeitem(collector: Any, name: str, obj: object) -> list[pytest.Item] | None:
    """Without floors there is no test of floors."""
    cls = getattr(collector, "cls", None)
    if name == AllocatorLaws.test_floor.__name__ and isinstance(cls, type) and issubclass(cls, AllocatorLaws):
        return None if _floors_of(collector.config, cls) else []
    return None


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Counterexamples first; the laws of one target stay on one worker."""
    items.sort(key=lambda item: not isinstance(item, TraceItem))
    for item in items if config.pluginmanager.hasplugin("xdist") else ():
        cls = getattr(item, "cls", None)
        if cls is not None and issubclass(cls, AllocatorLaws):
            item.add_marker(pytest.mark.xdist_group(f"{_TITLE} {item.nodeid.rpartition('::')[0]}"))


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> "TraceFile | None":
    folder = _traces(parent.config)
    if file_path.suffix == ".trace" and folder is not None and _below(file_path, [folder]):
        return TraceFile.from_parent(parent, path=file_path)
    return None


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """What was run, once a target: operations, states and the seed that makes it again."""
    seen: dict[str, dict[str, Any]] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            properties = dict(getattr(report, "user_properties", ()))
            if "heaplaw_target" in properties:
                seen[str(properties["heaplaw_target"])] = properties
    if seen:
        terminalreporter.section(_TITLE)
    for target, known in sorted(seen.items()):
        terminalreporter.write_line(
            f"{target}: {known['heaplaw_operations']:,} operations, {known['heaplaw_states']:,} abstract states, "
            f"{known['heaplaw_reached']} named ones, "
            f"engine {known['heaplaw_engine']}, seed {known['heaplaw_seed']}"
        )


@pytest.fixture
def heaplaw_run(request: pytest.FixtureRequest) -> "Outcome":
    """The run behind all laws of the test class's target; made once."""
    from .pytest_outcome import outcome

    cls = request.cls
    if cls is None or not issubclass(cls, AllocatorLaws) or cls.target is None:
        pytest.fail("heaplaw: the test class names no target; write target = YourAllocator", pytrace=False)
    known = outcome(cls.target, _budget(request.config, cls), request.config.stash[_OUTCOMES])
    request.node.user_properties.extend(known.properties().items())
    return known


def _budget(config: pytest.Config, cls: type[AllocatorLaws]) -> "Budget":
    """Command line before test class before configuration file."""
    from .pytest_outcome import Budget

    def value(option: Option) -> str:
        given = config.getoption(option.flag)
        own = getattr(cls, option.attribute, None)
        return str(given if given is not None else own if own is not None else config.getini(option.ini))

    known = {option.attribute: value(option) for option in OPTIONS}
    try:
        return Budget(
            int(known["operations"]), _seconds(known["time"]), int(known["seed"]), known["engine"],
            config.rootpath / known["save"],
        )  # fmt: skip
    except ValueError as problem:
        pytest.fail(f"heaplaw: a setting is no number: {problem}", pytrace=False)


def _floors_of(config: pytest.Config, cls: Any) -> dict[str, int]:
    """The floors of a test class: the configuration file's, its own, the command line's; later ones win.

    Raises CollectError for a mistake in the file or the class; the command line was looked at before.
    """
    from .floors import FloorError, Floors
    from .pytest_outcome import spoken

    target = getattr(cls, "target", None)
    if target is None:
        return {}
    try:
        file = _file_floors(config)
        name = spoken(target) if file.by_target else ""  # finding a name makes a target: not before tests run
        known = file.of_target(name) | Floors.of(cls.floors).everywhere
    except FloorError as problem:
        raise pytest.Collector.CollectError(f"heaplaw: {problem}") from None
    return known | Floors().also(config.getoption(_FLOOR)).everywhere


def _file_floors(config: pytest.Config) -> "Floors":
    """Those of the nearest pyproject.toml from the root directory upwards; read once.  Raises FloorError."""
    from .floors import Floors

    if _FLOORS not in config.stash:
        config.stash[_FLOORS] = Floors.nearest(config.rootpath)
    return config.stash[_FLOORS]


def _seconds(text: str) -> float:
    """Of "40", "40s", "2m" or "1h".  Raises ValueError."""
    number, unit = (text[:-1], text[-1:]) if text[-1:] in "smh" else (text, "s")
    return float(number) * {"s": 1, "m": 60, "h": 3600}[unit]


# ---- counterexamples ---------------------------------------------------------------------------


class TraceFile(pytest.File):
    """A committed counterexample."""

    def collect(self) -> Iterator["TraceItem"]:
        yield TraceItem.from_parent(self, name=self.path.stem)


class CounterexampleError(Exception):
    """A counterexample that breaks a law again."""


class TraceItem(pytest.Item):
    """Replays a counterexample: no law may break, and the law that it names must be asked."""

    def runtest(self) -> None:
        from heaplaw.impls.naming import TargetError, is_native
        from heaplaw.impls.registry import factory
        from heaplaw.trace import Trace, TraceError

        from .pytest_outcome import apart, counterexample, relative
        from .replay import replay
        from .verdict import Status

        try:
            trace = Trace.parse(self.path.read_text())
            if not trace.target:
                raise CounterexampleError(f"{self.path.name} names no target")
            target = self._found(trace.target)
            if is_native(target):
                tally = apart().replayed_apart(target, trace, always=True).tally
            else:
                factory(target)
                tally = replay(trace, target).tally
        except (TraceError, TargetError) as problem:
            raise CounterexampleError(f"{self.path.name} cannot be replayed: {problem}") from None
        self.user_properties.append(("heaplaw_operations", tally.operations))
        for finding in tally.findings:
            lines = counterexample(finding, trace)
            raise CounterexampleError("\n".join([*lines, f"again: heaplaw replay {relative(self.path)}"]))
        law = trace.header.get("law", "")
        if law and tally.status(law) is not Status.PASSED:
            pytest.skip(f"{law} was not asked: {tally.lacking.get(law, 'its condition did not hold')}")

    def _found(self, target: str) -> str:
        """The target's name, its file looked for from the root directory where it is not found from here."""
        place, colon, called = target.rpartition(":")
        if place.endswith(".py") and not Path(place).is_file() and (self.config.rootpath / place).is_file():
            place = str(self.config.rootpath / place)
        return f"{place}{colon}{called}"

    def repr_failure(self, excinfo: Any, style: Any = None) -> Any:
        if isinstance(excinfo.value, CounterexampleError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, f"counterexample {self.name}"


def _traces(config: pytest.Config) -> Path | None:
    """The directory of committed counterexamples, if one is named."""
    given = config.getoption("--heaplaw-traces")
    if given:
        return Path(os.path.abspath(config.invocation_params.dir / given))
    known = config.getini("heaplaw_traces")
    return config.rootpath / known if known else None


def _below(path: Path, folders: Iterable[Path]) -> bool:
    """Does a path lie in one of these directories?"""
    return any(path.resolve().is_relative_to(folder.resolve()) for folder in folders)
