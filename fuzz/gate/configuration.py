"""What a project wants its gate to do: ``heaplaw.toml``, or ``[tool.heaplaw]`` in ``pyproject.toml``.

    targets = ["pool.py:Pool", { source = ["heap.c", "adapter.c"], laws = ["disjoint", "contents"] }]
    engines = ["plain", "hypothesis"]          # what explores afresh
    corpus = "corpus"                          # inputs that every run goes through
    certificates = "certificates.json"         # what 'heaplaw explore --json' wrote
    laws = 44                                  # how many there are, or which: fewer is not green

    [budget]                                   # of an engine on a target; and a ceiling for all
    operations = 200_000
    time = "10m"

    [floors]                                   # as of 'heaplaw check'
    "coalesce both" = 10

    [muted]                                    # laws that are not asked, each with the reason
    waste-bound = "a debug build pads every block"

    [[known]]                                  # must still fail, or the gate is not green
    trace = "known/tail.trace"
    why = "https://example.org/issues/7"

    [compare]                                  # see ``strategy``
    old = "pool.py:Pool@origin/main"
    new = "pool.py:Pool"
    thresholds = { footprint = "+5%" }

Everything but ``targets`` may be left out.  Paths are relative to the file's folder.

>>> read(Path("heaplaw.toml"), {"targets": ["tlsf"], "budget": {"operations": 0}})
Traceback (most recent call last):
heaplaw.fuzz.options.Problem: heaplaw.toml: budget.operations: 0 must be a whole number from 1 on
"""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click

from heaplaw.impls.naming import TargetError, parse
from heaplaw.lawbook import LAWS, meant
from heaplaw.properties.engines import ENGINES
from heaplaw.properties.floors import FloorError, Floors

from ..options import Duration, Problem
from ..strategies.thresholds import Threshold, thresholds_of

OWN, SHARED = "heaplaw.toml", "pyproject.toml"
_T = TypeVar("_T")


@dataclass(frozen=True)
class Budget:
    """What a gate may spend."""

    operations: int = 200_000  # of an engine on a target
    seconds: float = 600.0  # ceiling of the whole gate
    inputs: int | None = None  # of a target's corpus, spread over it; None: all
    transitions: int | None = None  # of a certificate, about; None: to its end


QUICK = Budget(20_000, 50.0, 100, 10_000)
"""For ``--quick``: a minute with two targets on two processors."""


@dataclass(frozen=True)
class Aim:
    """A target as the configuration names it."""

    name: str = ""  # empty where it is built from sources
    sources: tuple[str, ...] = ()
    cflags: str = ""
    files: tuple[str, ...] = ()  # more that it is made of, as patterns: for --changed-since
    engines: tuple[str, ...] = ()  # in place of everybody's
    laws: tuple[str, ...] = ()  # that must have been asked of it
    muted: Mapping[str, str] = field(default_factory=dict, hash=False)  # law -> why it is not asked of it


@dataclass(frozen=True)
class Known:
    """A divergence that is known: its trace, the law, and why it is left as it is."""

    trace: str
    why: str
    law: str = ""  # empty: the one that the trace names


@dataclass(frozen=True)
class Compared:
    """Two strategies, and how much worse the new one may be."""

    old: str
    new: str
    thresholds: tuple[Threshold, ...]
    operations: int = 4_000  # of a trace
    search: int = 30_000  # operations of the search for the worst trace


@dataclass(frozen=True)
class Configuration:
    """A project's wishes; see the module docstring."""

    file: Path
    aims: tuple[Aim, ...]
    engines: tuple[str, ...] = ("plain",)
    budget: Budget = Budget()
    quick: Budget = QUICK
    floors: Floors = field(default_factory=Floors)
    laws: int | tuple[str, ...] = 0
    muted: Mapping[str, str] = field(default_factory=dict)
    known: tuple[Known, ...] = ()
    corpus: str = ""
    counterexamples: str = "counterexamples"
    certificates: str = ""
    build: str = "heaplaw_build"
    compare: Compared | None = None

    @property
    def root(self) -> Path:
        """The folder that names and paths are relative to."""
        return self.file.parent


# ---- where it stands -----------------------------------------------------------------------------


def load(given: Path | None = None, start: Path | None = None) -> Configuration:
    """The configuration of a file, or of the nearest one from a folder upwards.  Raises Problem."""
    if given is not None:
        if not given.is_file():
            raise Problem(f"--config {given}: no such file; 'heaplaw init' writes a project with one")
        return read(given.resolve(), _table(given) or {})
    start = (start or Path.cwd()).resolve()
    for folder in (start, *start.parents):
        found = {file: table for name in (OWN, SHARED) if (table := _table(file := folder / name)) is not None}
        if len(found) > 1:
            raise Problem(f"{folder} has both {OWN} and [tool.heaplaw] in {SHARED}; put all of it into one of them")
        for file, table in found.items():
            return read(file, table)
    raise Problem(f"no {OWN} and no [tool.heaplaw] in a {SHARED} here or above; 'heaplaw init' writes a project")


def _table(file: Path) -> Mapping[str, Any] | None:
    """The table in a file, None where there is none.  Raises Problem."""
    if not file.is_file():
        return None
    try:
        known: Any = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise Problem(f"{file}: {problem}") from None
    if file.name != SHARED:
        return known if isinstance(known, dict) else None
    found = known.get("tool", {}).get("heaplaw")
    return found if isinstance(found, dict) else None


# ---- what stands in it ---------------------------------------------------------------------------


class _Table:
    """A table that is read key by key; what is wrong is said with the key's name, and what nobody asked for, too."""

    def __init__(self, file: str, where: str, table: Any) -> None:
        self._file, self._where, self._asked = file, where, set[str]()
        if not isinstance(table, Mapping):
            raise Problem(f"{file}: {where} must be a table")
        self.table: Mapping[str, Any] = table

    def key(self, key: str) -> str:
        return f"{self._where}.{key}" if self._where else key

    def wrong(self, key: str, why: str) -> Problem:
        return Problem(f"{self._file}: {self.key(key)}: {why}")

    def has(self, key: str) -> bool:
        return key in self.table

    def take(self, key: str, check: Callable[[Any], _T], default: _T) -> _T:
        """A value that ``check`` has turned into what is wanted; it raises ValueError with what is wrong."""
        self._asked.add(key)
        if key not in self.table:
            return default
        try:
            return check(self.table[key])
        except (ValueError, click.BadParameter) as problem:
            raise self.wrong(key, str(problem)) from None

    def sub(self, key: str, table: Any = None) -> "_Table":
        """The table under a key; an empty one where there is none."""
        self._asked.add(key.partition("[")[0])
        return _Table(self._file, self.key(key), self.table.get(key, {}) if table is None else table)

    def done(self) -> None:
        """Complain of a key that means nothing."""
        for key in self.table:
            if key not in self._asked:
                raise self.wrong(key, f"unknown key{meant(key, self._asked)}; known are {', '.join(self._asked)}")


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{value!r} must be text, and not empty")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise ValueError(f"{value!r} must be a list of texts, and not empty")
    return tuple(map(_text, value))


def _number(value: Any) -> int:
    if type(value) is not int or value < 1:
        raise ValueError(f"{value!r} must be a whole number from 1 on")
    return value


def _seconds(value: Any) -> float:
    return Duration().convert(value, None, None)


def _law(word: str) -> str:
    if word not in LAWS:
        raise ValueError(f"unknown law {word!r}{meant(word, LAWS)}; 'heaplaw list --laws' names them")
    return word


def _engines(value: Any) -> tuple[str, ...]:
    for word in _texts(value):
        if word not in ENGINES:
            raise ValueError(f"unknown engine {word!r}{meant(word, ENGINES)}; there are {', '.join(ENGINES)}")
    return tuple(dict.fromkeys(value))


def _pinned(value: Any) -> int | tuple[str, ...]:
    """How many laws, or which; a name that is no law any more is the gate's to tell."""
    return _number(value) if isinstance(value, int) else _texts(value)


def _reasons(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise ValueError("it must be a table: law = \"why it is not asked\"")
    for law, why in value.items():
        _law(law)
        if not isinstance(why, str) or not why.strip():
            raise ValueError(f"{law}: say why it is not asked, in words")
    return dict(value)


def _floors(value: Any) -> Floors:
    if not isinstance(value, Mapping):
        raise ValueError('it must be a table: "coalesce both" = 10')
    try:
        return Floors.of(value)
    except FloorError as problem:
        raise ValueError(str(problem)) from None


def _target(value: Any) -> str:
    try:
        parse(_text(value))
    except TargetError as problem:
        raise ValueError(str(problem)) from None
    return str(value)


def read(file: Path, values: Mapping[str, Any]) -> Configuration:
    """A configuration from a table.  Raises Problem, which names file and key."""
    table, plain = _Table(file.name, "", values), Configuration(file, ())
    if not table.has("targets"):
        raise Problem(f'{file.name}: no targets; say targets = ["allocator.py:Allocator"]')
    found = Configuration(
        file,
        table.take("targets", lambda value: _aims(table, value), ()),
        table.take("engines", _engines, plain.engines),
        _budget(table.sub("budget"), plain.budget),
        _budget(table.sub("quick"), plain.quick),
        table.take("floors", _floors, plain.floors),
        table.take("laws", _pinned, plain.laws),
        table.take("muted", _reasons, {}),
        table.take("known", lambda value: _known(table, value), ()),
        table.take("corpus", _text, plain.corpus),
        table.take("counterexamples", _text, plain.counterexamples),
        table.take("certificates", _text, plain.certificates),
        table.take("build", _text, plain.build),
        table.take("compare", lambda value: _compared(table.sub("compare")), None),
    )
    table.done()
    return found


def _aims(table: _Table, value: Any) -> tuple[Aim, ...]:
    if not isinstance(value, list) or not value:
        raise ValueError(f"{value!r} must be a list of targets, and not empty")
    aims = [
        Aim(_target(one)) if isinstance(one, str) else _aim(table.sub(f"targets[{number}]", one))
        for number, one in enumerate(value)
    ]
    names = [aim.name or aim.sources[0] for aim in aims]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"{twice} is named twice")
    return tuple(aims)


def _aim(table: _Table) -> Aim:
    aim = Aim(
        table.take("name", _target, ""),
        table.take("source", _texts, ()),
        table.take("cflags", _text, ""),
        table.take("files", _texts, ()),
        table.take("engines", _engines, ()),
        table.take("laws", lambda value: tuple(map(_law, _texts(value))), ()),
        table.take("muted", _reasons, {}),
    )
    table.done()
    if bool(aim.name) == bool(aim.sources):
        raise table.wrong("name", 'a target has either a name or source = ["file.c", ...]')
    if both := aim.muted.keys() & set(aim.laws):
        raise table.wrong("muted", f"{min(both)} stands in laws too; it cannot be both")
    return aim


def _budget(table: _Table, default: Budget) -> Budget:
    budget = Budget(
        table.take("operations", _number, default.operations),
        table.take("time", _seconds, default.seconds),
        table.take("inputs", _number, default.inputs),
        table.take("transitions", _number, default.transitions),
    )
    table.done()
    return budget


def _compared(table: _Table) -> Compared:
    for needed in ("old", "new"):
        if not table.has(needed):
            raise table.wrong(needed, "is missing; a comparison has old and new")
    found = Compared(
        table.take("old", _text, ""),
        table.take("new", _text, ""),
        table.take("thresholds", _thresholds, ()),
        table.take("operations", _number, Compared.operations),
        table.take("search", _number, Compared.search),
    )
    table.done()
    return found


def _thresholds(value: Any) -> tuple[Threshold, ...]:
    if not isinstance(value, Mapping) or not all(isinstance(limit, str) for limit in value.values()):
        raise ValueError('it must be a table: footprint = "+5%"')
    try:
        return tuple(thresholds_of(value))
    except Problem as problem:
        raise ValueError(problem.format_message()) from None


def _known(table: _Table, value: Any) -> tuple[Known, ...]:
    if not isinstance(value, list):
        raise ValueError('it must be a list of tables: [[known]], each with trace = "FILE" and why = "..."')
    ones = []
    for number, one in enumerate(value):
        entry = table.sub(f"known[{number}]", one)
        for needed in ("trace", "why"):
            if not entry.has(needed):
                raise entry.wrong(needed, f"is missing; a known divergence has trace and why, and this has no {needed}")
        law = entry.take("law", lambda word: _law(_text(word)), "")
        ones.append(Known(entry.take("trace", _text, ""), entry.take("why", _text, ""), law))
        entry.done()
    return tuple(ones)
