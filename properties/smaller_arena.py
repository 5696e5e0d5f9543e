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

from heaplaw.impls.registry import BUILT_IN, TargetError, factory, parse
from heaplaw.runs import Violation

from .minimize import first_break, smallest


def in_smaller_arena(name: str, found: Violation, mute: Sequence[str] = ()) -> tuple[str, Violation]:
    """The smallest arena in which the same operations break the same law, and the violation minimised there.

    Name and violation as they were where the target has no size that can be lowered, or nothing gets smaller.
    """
    for smaller in _smaller(name):
        try:
            build = factory(smaller)
        except TargetError:
            continue  # too small to be made
        seen = first_break(build, found.trace.operations, tuple(mute))
        if seen is not None and seen.law == found.law:
            best = smallest(build, seen, mute)
            if len(best.trace.operations) <= len(found.trace.operations):
                return smaller, best
    return name, found


def _smaller(name: str) -> Iterator[str]:
    """The same target with less room, the least first: halves of halves of its size."""
    parts = parse(name)
    known = BUILT_IN.get(parts.base)
    if known is None:
        return
    parameter, _ = known.capacity
    size = parts.parameters.get(parameter)
    if isinstance(size, int) and size > 1:
        for shift in range(size.bit_length() - 1, 0, -1):
            yield str(parts._replace(parameters={**parts.parameters, parameter: size >> shift}))
