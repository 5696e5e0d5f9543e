"""Floors: how often a suite must have reached a named state, or met a law's condition, to be green.

    [tool.heaplaw.floors]              # pyproject.toml; for every target that can reach it
    "coalesce both" = 10
    free-then-alloc = 50

    [tool.heaplaw.floors.tlsf]         # for one target only
    "resized and moved" = 5

They count for all of a check, whatever its budget.  A word that a target cannot reach does not count
against it; one on the command line that none of the targets can reach is a mistake.

>>> floors = Floors.of({"coalesce both": 10, "tlsf": {"split": 1}})
>>> floors.of_target("tlsf,arena=4096"), floors.of_target("zsmalloc")
({'coalesce both': 10, 'split': 1}, {'coalesce both': 10})
"""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from heaplaw.impls.naming import TargetError, parse
from heaplaw.impls.registry import BUILT_IN
from heaplaw.lawbook import LAWS, meant

from .reached import WORDS, is_word
from .verdict import Tally

FILE = "pyproject.toml"
TABLE = "tool.heaplaw.floors"


class FloorError(ValueError):
    """A floor that means nothing; the message says what to write."""


class Measured(NamedTuple):
    """One floor of one target, and what was seen."""

    target: str
    word: str  # a named state, or a law's id
    seen: int
    wanted: int
    why_not: str = ""  # why it does not apply to the target

    @property
    def met(self) -> bool:
        """Is there nothing to complain about?"""
        return bool(self.why_not) or self.seen >= self.wanted

    def __str__(self) -> str:
        if self.why_not:
            return f"{self.target}: the floor {self.word!r} does not apply ({self.why_not})"
        did = "met its condition" if self.word in LAWS else "was reached"
        times = "once" if self.seen == 1 else f"{self.seen:,} times"
        return f"{self.target}: {self.word!r} {did} {times}, at least {self.wanted:,} wanted"


@dataclass
class Floors:
    """Floors for all targets, and for single ones."""

    everywhere: dict[str, int] = field(default_factory=dict)
    by_target: dict[str, dict[str, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> "Floors":
        """From numbers by word, and tables of those by target.  Raises FloorError."""
        floors = cls()
        for key, value in table.items():
            if isinstance(value, Mapping):
                _check_target(key)
                floors.by_target[key] = {word: _number(word, number) for word, number in value.items()}
            else:
                floors.everywhere[key] = _number(key, value)
        return floors

    @classmethod
    def nearest(cls, folder: Path) -> "Floors":
        """Those of the nearest pyproject.toml, from a folder upwards; none where there is none.  Raises FloorError."""
        for place in (folder.resolve(), *folder.resolve().parents):
            file = place / FILE
            if file.is_file():
                try:
                    known: Any = tomllib.loads(file.read_text(encoding="utf-8"))
                    for key in TABLE.split("."):
                        known = known.get(key, {})
                    if not isinstance(known, dict):
                        raise FloorError("it is no table")
                    return cls.of(known)
                except (tomllib.TOMLDecodeError, UnicodeDecodeError, AttributeError) as problem:
                    raise FloorError(f"{file}: {problem}") from None
                except FloorError as problem:
                    raise FloorError(f"{file}, [{TABLE}]: {problem}") from None
        return cls()

    def also(self, floors: Iterable[str]) -> "Floors":
        """With more of them, as ``word=number``, which win.  Raises FloorError."""
        given: dict[str, int] = {}
        for text in floors:
            word, equals, number = text.rpartition("=")
            if not equals or not number.strip().isdecimal():
                raise FloorError(f'{text!r} is no floor; write "coalesce both=10"')
            given[word.strip()] = _number(word.strip(), int(number))
        rest = {target: {w: n for w, n in own.items() if w not in given} for target, own in self.by_target.items()}
        return Floors({**self.everywhere, **given}, rest)

    def of_target(self, name: str) -> dict[str, int]:
        """The floors of a target: those of all, then its own, by its name with or without parameters."""
        own: dict[str, int] = {}
        for key in (name.partition(",")[0], name):
            own |= self.by_target.get(key, {})
        return {**self.everywhere, **own}

    def measure(self, tallies: Iterable[Tally]) -> list[Measured]:
        """Each floor of each target beside what was seen."""
        return [
            Measured(tally.target, word, _seen(tally, word), wanted, _why_not(tally, word))
            for tally in tallies
            for word, wanted in self.of_target(tally.target).items()
        ]


def idle(measured: Iterable[Measured]) -> str | None:
    """A floor that applies to none of the targets, in words; None if there is none."""
    by_word: dict[str, list[Measured]] = {}
    for one in measured:
        by_word.setdefault(one.word, []).append(one)
    for word, ones in by_word.items():
        if all(one.why_not for one in ones):
            targets = ", ".join(one.target for one in ones)
            return f"the floor {word!r} applies to none of {targets}"
    return None


def _seen(tally: Tally, word: str) -> int:
    return tally.evidence[word] if word in LAWS else tally.reached[word]


def _why_not(tally: Tally, word: str) -> str:
    """Why a floor does not apply to a target; empty if it does."""
    if _seen(tally, word):
        return ""
    if word in LAWS:
        return "" if word in tally.asked else tally.lacking.get(word, "it is not asked")
    return "" if word in tally.reachable else "it has no such state"


def _number(word: str, number: Any) -> int:
    """The number of a floor.  Raises FloorError, for an unknown word too."""
    if not is_word(word) and word not in LAWS:
        known, guess = ", ".join(WORDS), meant(word, [*WORDS, *LAWS])
        raise FloorError(
            f"unknown word {word!r} in a floor{guess}; the words are {known}, class 0, class 1 ..., and the laws' ids"
        )
    if type(number) is not int or number < 0:
        raise FloorError(f"the floor of {word!r} is {number!r}; it must be a whole number")
    return number


def _check_target(name: str) -> None:
    """Raises FloorError for a name that can be no target's; a class of somebody's own may be anywhere."""
    try:
        base = parse(name).base
    except TargetError as problem:
        raise FloorError(str(problem)) from None
    if ":" not in base and base not in BUILT_IN:
        raise FloorError(f"unknown target {name!r}; built in are {', '.join(BUILT_IN)} (a table needs a target's name)")
