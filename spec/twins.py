"""Laws about two runs: make the calls again, or only those of one group, and compare.

>>> from heaplaw import Checker, Contract, Operation
>>> class Dice:
...     contract = Contract(arena=64)
...     count = 0
...     def __init__(self): Dice.count += 8; self.at = Dice.count
...     def alloc(self, size, align=1, *, ctx=None): return self.at
...     def free(self, handle): pass
>>> compare_twins(Checker(Dice()), Dice, [Operation(1, 0, 8)])
Traceback (most recent call last):
heaplaw.lawbook.Broken: deterministic: expected answer 16 at operation 1 again; seen 24
"""

from collections.abc import Callable, Iterable, Sequence, Set
from typing import Any

from .checker import NO_AUDIT, Checker, Unusable
from .lawbook import LAWS
from .operations import Kind, Operation

TWIN_LAWS = frozenset({"deterministic", "space-determinism"})
"""Laws that a single run cannot break: replaying and minimising them takes several."""

_LOCAL = (Kind.ALLOC, Kind.FREE, Kind.REALLOC, Kind.WRITE, Kind.READ, Kind.DRAIN)
"""What a group's pages may depend on: requests and frees, no links, no page failures."""


def compare_twins(checker: Checker, build: Callable[[], Any], operations: Sequence[Operation], twins: int = 2) -> None:
    """Ask the laws about two runs, on fresh targets, all other laws aside.  Raises Broken."""
    asked = {law.id for law in checker.laws}
    if "deterministic" in asked:
        first = answers(build(), operations)
        for _ in range(twins - 1):
            _ask(checker, "deterministic", first, answers(build(), operations))
    if "space-determinism" in asked:
        local = [op for op in operations if op.kind in _LOCAL]
        for mine in _by_group(local, checker.contract.groups):
            alone = footprint(build(), [op for op in local if op.kind == Kind.DRAIN or op.name in mine], mine)
            together = footprint(build(), local, mine)
            if alone and together:
                steps = list(zip(alone, together, strict=True))
                _ask(checker, "space-determinism", *next((pair for pair in steps if pair[0] != pair[1]), steps[-1]))


def _ask(checker: Checker, law: str, one: Any, two: Any) -> None:
    checker.twins = (one, two)
    checker.met(law)
    LAWS[law].check(checker)


def answers(target: Any, operations: Iterable[Operation]) -> list[Any]:
    """What a target answers to each operation, laws aside; shorter where it breaks down."""
    checker = Checker(target, mute=LAWS, audit_every=NO_AUDIT, audit_from=NO_AUDIT)
    seen = []
    for op in operations:
        checker.answer = None
        try:
            checker.step(op)
        except Unusable:
            break
        seen.append(checker.answer)
    return seen


def _by_group(operations: Iterable[Operation], groups: int) -> list[set[int]]:
    """Names of the objects that each group asks for, groups without any left out."""
    names: dict[int, set[int]] = {group: set() for group in range(1, groups + 1)}
    for op in operations:
        if op.kind == Kind.ALLOC and (group := int(op.mode) >> 1) in names:
            names[group].add(op.name)
    return [mine for mine in names.values() if mine]


def footprint(target: Any, operations: Iterable[Operation], mine: Set[int]) -> list[int] | None:
    """Pages that the objects of these names touch after each of their operations; None if one was refused."""
    checker, pages = Checker(target, mute=LAWS, audit_every=NO_AUDIT, audit_from=NO_AUDIT), []
    for op in operations:
        refusals = checker.refusals
        try:
            checker.step(op)
        except Unusable:
            return None
        if op.name in mine and checker.refusals != refusals:
            return None  # how many pages there are is not the group's doing
        if op.kind == Kind.DRAIN or op.name in mine:
            pages.append(_pages_touched(checker, mine))
    return pages


def _pages_touched(checker: Checker, names: Set[int]) -> int:
    live, size = checker.shadow.live, checker.page_size
    return len({
        (space, page)
        for name in names & live.keys()
        for space, start, length in live[name].extents
        for page in range(start // size, (start + max(length, 1) - 1) // size + 1)
    })  # fmt: skip
