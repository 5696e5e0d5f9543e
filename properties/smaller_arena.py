"""A counterexample in a smaller arena: fewer pages or bytes often need fewer operations.

>>> from heaplaw import Kind, Operation, run
>>> from heaplaw.impls.registry import factory
>>> name = "xcfmalloc@2011-09-v1,pages=4,reserve=1"
>>> found = run(factory(name), [Operation(Kind.ALLOC, birth, 2100) for birth in range(6)])
>>> found.index + 1
5
>>> smaller, found = in_smaller_arena(name, found)
>>> smaller, found.index + 1
('xcfmalloc@2011-09-v1,pages=2,reserve=1', 3)
"""

from collections.abc import Iterator, Sequence
from typing import Any

from heaplaw.checker import Checker
from heaplaw.impls.naming import TargetError, parse
from heaplaw.impls.registry import BUILT_IN, factory
from heaplaw.lawbook import LAWS
from heaplaw.operations import Kind, Operation
from heaplaw.runs import Violation

from .alphabet import KINDS, alphabet
from .minimize import Reduction, first_break
from .nearest import nearest
from .tiny import tiny

_SIZED = (Kind.ALLOC, Kind.REALLOC)
_SHORT = 2  # operations of a trace that need not get shorter
_MOST = 9_000  # transitions in the tiny configuration, where they are cheap


def reduced(name: str, found: Violation, mute: Sequence[str] = (), **how: Any) -> tuple[str, Violation]:
    """A violation minimised, in the smallest arena that will do: the target's name there, and the violation.

    Cut first, since cutting is cheap; what costs more is done in the smaller arena.  Before that a shorter one
    is looked for in the configuration that certificates are about: there the whole space of short traces costs
    less than to lower a single long one.  ``mute`` and ``how`` are for ``smallest``.
    """
    work = Reduction(factory(name), found, mute, **how)
    work.cut()
    work.leap()
    while work.recurs and (better := _moved(name, work, how)) is not None:
        name, work = better
    if work.recurs and not how.get("same_operation") and not work.budget.late:
        shorter = _in_tiny(name, work.operations, work.law)
        if shorter is not None:
            name, seen = shorter
            work = Reduction(factory(name), seen, work.mute, **how)
    return name, work.finish()


def in_smaller_arena(name: str, found: Violation, mute: Sequence[str] = (), **how: Any) -> tuple[str, Violation]:
    """The same for what is minimised: name and violation as they were where nothing gets smaller."""
    smaller, best = reduced(name, found, mute, **how)
    return (name, found) if smaller == name else (smaller, best)


def _in_tiny(name: str, operations: Sequence[Operation], law: str) -> tuple[str, Violation] | None:
    """A shorter trace that breaks the law in the tiny configuration of a built-in target, or None."""
    search = tiny(str(parse(name)._replace(parameters={})))
    length = len(operations)
    if parse(name).base not in BUILT_IN or length <= _SHORT:
        return None
    try:
        build = factory(search.name)
        checker = Checker(build())
        kinds = {int(kind) for kind in KINDS if checker.can(kind)}
        letters = alphabet(checker.contract, kinds, search.sizes)
    except ValueError:  # a bug that cannot be made that small
        return None
    shorter = nearest(build, letters, law, below=length, most=_MOST)
    if shorter is None:
        return None
    again = first_break(build, shorter, [other for other in LAWS if other != law])
    return (search.name, again) if again is not None and again.law == law else None


def _moved(name: str, work: Reduction, how: dict[str, Any]) -> tuple[str, Reduction] | None:
    """The smallest arena where the law breaks as well, by no more operations; their sizes may shrink with it."""
    for smaller, shift in _smaller(name):
        try:
            build = factory(smaller)
        except TargetError:
            continue  # too small to be made
        for operations in (work.operations, scaled(work.operations, shift)):
            seen = None if work.budget.late else first_break(build, operations, work.mute, twins=work.twins)
            if seen is not None and seen.law == work.law:
                there = Reduction(build, seen, work.mute, **how)
                there.cut()
                if len(there.operations) <= len(work.operations):
                    return smaller, there
    return None


def scaled(operations: Sequence[Operation], shift: int) -> list[Operation]:
    """The same with sizes divided by a power of two, rounded up."""
    return [op._replace(size=-(-op.size >> shift)) if op.kind in _SIZED else op for op in operations]


def _smaller(name: str) -> Iterator[tuple[str, int]]:
    """The same target with less room, the least first: halves of halves of its size, and how often it was halved."""
    parts = parse(name)
    known = BUILT_IN.get(parts.base)
    if known is None:
        return
    parameter, _ = known.capacity
    size = parts.parameters.get(parameter)
    if isinstance(size, int) and size > 1:
        for shift in range(size.bit_length() - 1, 0, -1):
            yield str(parts._replace(parameters={**parts.parameters, parameter: size >> shift})), shift
