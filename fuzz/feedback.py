"""What libFuzzer is told of a run: abstract states as counters, and code coverage of the implementation.

Line coverage of an allocator is complete within seconds, while its states are not; so each abstract state is a
feature of its own: what was done and what stood beside it (``properties.state``), which named states were
reached how often (``properties.reached``), which free lists were occupied, how hints lay to each other.  All of
it is coarse, since every input with a new feature is kept.

atheris has no public way to enter features; counters are reserved before ``Setup`` and counted by
``_trace_branch``, which does nothing until fuzzing has begun and is another function from then on.

>>> seen = Seen()
>>> seen.features([("list", (3, 1), 2), ("list", (3, 1), 2), ("live", 4)]) == {seen.number(("list", (3, 1), 2)), 48102}
True
>>> "heaplaw.impls.tlsf_lists" in modules_of("tlsf"), "heaplaw.checker" in modules_of("tlsf")
(True, False)
"""

import sys
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator
from types import FunctionType, ModuleType
from typing import Any
from zlib import crc32

from heaplaw.checker import Checker
from heaplaw.impls.registry import factory, variants
from heaplaw.properties.reached import Watch

from .extras import FUZZ, needed

COUNTERS = 1 << 16
_OWN = "heaplaw.impls."
_NOT_OF_A_TARGET = frozenset({_OWN + name for name in ("registry", "promises", "parameters", "bugs", "innocents")})
_OBSERVERS = frozenset({
    "extents", "pages", "free_regions", "lists", "hints", "bitmap", "list_bits", "counters", "metadata", "cost", "read",
    "write",
})  # fmt: skip
_PRIVATE = ("_reserve_counter", "_trace_branch")
_MANY = 3  # members of a list from which on they are many


class Observed(Watch):
    """Counts the named states, and takes down what each audit has read of lists and hints anyway."""

    def __init__(self, checker: Checker, counts: Counter[str]) -> None:
        super().__init__(checker, counts)
        self.features: set[Hashable] = set()

    def audited(self) -> None:
        """After an audit: which lists are occupied, and how hints lie to each other.  O(lists + hints)."""
        view = self.checker.view
        super().audited()
        if (lists := view.__dict__.get("lists")) is not None:
            self._occupied(Counter(entry.list_id for entry in lists))
        if (hints := view.__dict__.get("hints")) is not None:
            self._related(hints)

    def _occupied(self, members: Counter[Hashable]) -> None:
        add = self.features.add
        add(("occupied", len(members)))
        for name, count in members.items():
            add(("list", name, min(count, _MANY)))

    def _related(self, hints: Iterable[Any]) -> None:
        add = self.features.add
        before: Any = None
        for hint in hints:
            name, value = hint[0], hint[1]
            add(("hint", name, value.bit_length()))
            if before is not None and before[2] == hint[2]:
                order = (value > before[1]) - (value < before[1])
                add(("hints", before[0], name, order, value == hint[2][2], value == 0))
            before = hint


class Seen:
    """Features by number: the same in every process, whatever their order."""

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}

    def __len__(self) -> int:
        return len(self._numbers)

    def number(self, feature: Hashable) -> int:
        """Below COUNTERS.  Two features in 65,536 may share one: then the later one is overlooked."""
        known = self._numbers.get(feature)
        if known is None:  # not Python's own hash, which depends on the process for strings and None
            known = self._numbers[feature] = crc32(repr(feature).encode()) % COUNTERS
        return known

    def features(self, features: Iterable[Hashable]) -> set[int]:
        """The numbers of features."""
        return {self.number(feature) for feature in features}

    def of_run(self, states: Iterable[Hashable], reached: Counter[str], more: Iterable[Hashable]) -> set[int]:
        """All features of a run: abstract states, named ones with the octave of their counts, and those of audits."""
        words = ((word, count.bit_length()) for word, count in reached.items())
        return self.features([*states, *words, *more])


class Counters:
    """65,536 counters of libFuzzer's, one a feature."""

    def __init__(self) -> None:
        """Before ``atheris.Setup``.  Raises Problem without atheris, AttributeError without what is used of it."""
        atheris = needed("atheris", FUZZ)
        for name in _PRIVATE:
            if not callable(getattr(atheris, name, None)):
                raise AttributeError(f"this atheris has no {name}: states cannot be counted; use --coverage code")
        self._atheris = atheris
        self._stub = atheris._trace_branch
        self._first = atheris._reserve_counter()
        last = self._first
        for _ in range(1, COUNTERS):
            last = atheris._reserve_counter()
        if last - self._first != COUNTERS - 1:
            raise AttributeError("atheris reserves counters in another order than it used to; use --coverage code")
        self._count: Callable[[int], None] | None = None

    def mark(self, numbers: Iterable[int]) -> None:
        """Count features; within an input only, since counting does nothing before the first.

        Raises AttributeError where atheris has become one that cannot count.  O(numbers).
        """
        if self._count is None:
            if self._atheris._trace_branch is self._stub:
                raise AttributeError("atheris counts nothing: _trace_branch was not exchanged when fuzzing began")
            self._count = self._atheris._trace_branch
        count, first = self._count, self._first
        for number in numbers:
            count(first + number)


# ---- code of the implementation -----------------------------------------------------------------


def modules_of(target: str) -> set[str]:
    """Names of the modules that a target is made of: its classes', and those of the same package that they use.

    Neither specification nor checker, and no part of the registry.  Raises TargetError.
    """
    found: set[str] = set()
    for cls in _classes_of(target):
        _follow(cls.__module__, found)
    return found


def _classes_of(target: str) -> dict[type, None]:
    return {cls: None for variant in variants(target) for cls in type(factory(variant)()).__mro__}


def _follow(name: str, found: set[str]) -> None:
    module = sys.modules.get(name)
    if module is None or name in found or not _of_a_target(name):
        return
    found.add(name)
    for value in list(vars(module).values()):
        there = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
        if isinstance(there, str) and _package(there) == _package(name):
            _follow(there, found)


def _of_a_target(name: str) -> bool:
    if name == "builtins" or name.partition(".")[0] in sys.stdlib_module_names:
        return False
    return name not in _NOT_OF_A_TARGET and (name.startswith(_OWN) or name.partition(".")[0] != "heaplaw")


def _package(name: str) -> str:
    return _OWN if name.startswith(_OWN) else name.partition(".")[0]


def functions_of(target: str) -> list[FunctionType]:
    """The functions that a target is made of, methods among them, but what only shows the heap: in a stable order."""
    names = modules_of(target)
    spaces: list[tuple[Any, str]] = [(vars(sys.modules[name]), name) for name in sorted(names)]
    spaces += [(vars(cls), cls.__module__) for cls in _classes_of(target) if cls.__module__ in names]  # made by a call
    return list(dict.fromkeys(function for space, name in spaces for function in _functions(space, name)))


def _functions(space: Any, module: str) -> Iterator[FunctionType]:
    for name, value in list(space.items()):
        parts = (value.fget, value.fset) if isinstance(value, property) else (getattr(value, "__func__", value),)
        for part in parts:
            if isinstance(part, FunctionType) and part.__module__ == module and name not in _OBSERVERS:
                yield part
            elif isinstance(part, type) and part.__module__ == module and not part.__name__.startswith("__"):
                yield from _functions(vars(part), module)


def instrument(target: str) -> list[str]:
    """Let atheris follow the implementation's code; the modules it follows.  Before ``Setup``."""
    atheris = needed("atheris", FUZZ)
    functions = functions_of(target)
    for function in functions:
        atheris.instrument_func(function)
    return sorted({function.__module__ for function in functions})
