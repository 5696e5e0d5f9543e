"""Which engines there are: the built-in ones, and those that installed packages declare.

An engine is a module (or any object) with ``check(target, operations, seed, *, only, most, deadline, progress)``,
which gives a ``Tally``, and, where it may be impossible to run, ``unavailable()``: why, in one line, or None.
A package adds one by an entry point:

    [project.entry-points."heaplaw.engines"]
    mine = "my_package.my_engine"

It is imported when it is first used; one that cannot be is not run, with the reason.

>>> list(ENGINES)[:3], "plain" in ENGINES
(['plain', 'hypothesis', 'exhaustive'], True)
>>> ENGINES["plain"]("buddy,pages=64", 100, 1).findings, why_not("plain")
([], None)
"""

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from . import plain, searching, workhorse
from .verdict import Tally

GROUP = "heaplaw.engines"
_BUILT_IN: dict[str, Any] = {engine.NAME: engine for engine in (plain, workhorse, searching)}


@cache
def _declared() -> dict[str, EntryPoint]:
    """Engines of installed packages; a built-in one is not replaced."""
    return {point.name: point for point in entry_points(group=GROUP) if point.name not in _BUILT_IN}


@cache
def _load(name: str) -> Any:
    """An engine, or the reason why there is none, as text."""
    if name in _BUILT_IN:
        return _BUILT_IN[name]
    point = _declared()[name]
    try:
        engine = point.load()
    except Exception as problem:  # whatever a package of others does when it is imported
        return f"the engine {name} cannot be imported: {type(problem).__name__}: {problem}"
    return engine if callable(getattr(engine, "check", None)) else f"the engine {name} ({point.value}) has no check()"


class _Engines(Mapping[str, Callable[..., Tally]]):
    """Engines by name: each takes (target, operations, seed) and more by keyword."""

    def __getitem__(self, name: str) -> Callable[..., Tally]:
        if name not in self:
            raise KeyError(name)
        engine = _load(name)
        if isinstance(engine, str):
            raise RuntimeError(engine)
        check: Callable[..., Tally] = engine.check
        return check

    def __iter__(self) -> Iterator[str]:
        return iter((*_BUILT_IN, *_declared()))

    def __len__(self) -> int:
        return len(_BUILT_IN) + len(_declared())

    def __contains__(self, name: object) -> bool:
        return name in _BUILT_IN or name in _declared()


ENGINES: Mapping[str, Callable[..., Tally]] = _Engines()
"""One that is entered here is everybody's: of ``heaplaw check``, of the self-test and of the pytest plugin."""


def why_not(name: str) -> str | None:
    """Why an engine cannot run here, in one line; None when it can."""
    engine = _load(name)
    if isinstance(engine, str):
        return engine
    unavailable: Callable[[], str | None] = getattr(engine, "unavailable", lambda: None)
    return unavailable()
