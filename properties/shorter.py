"""Looks for a shorter trace that no deletion leads to: all short traces over the letters of a long one.

A minimised trace is a local minimum: nothing in it can be dropped or lowered, and yet other
operations of the same kinds may break the same law sooner.  The letters are the requests of
the trace (size, alignment, flags) and its other operations; objects are named anew.

>>> from heaplaw.operations import Kind, Operation
>>> long = [Operation(Kind.ALLOC, 0, 8), Operation(Kind.ALLOC, 1, 24), Operation(Kind.FREE, 1), Operation(Kind.FREE, 0)]
>>> two_frees = lambda ops: [op.kind for op in ops].count(Kind.FREE) == 1 and ops[0].size == 24
>>> [(op.kind.name, op.name, op.size) for op in shorter(long, two_frees, most=100)]
[('ALLOC', 0, 24), ('FREE', 0, 0)]
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations

from heaplaw.operations import Kind, Operation

Operations = list[Operation]
_WINDOWS = (4, 3, 2)
_ON_OBJECTS = (Kind.FREE, Kind.REALLOC, Kind.WRITE, Kind.READ, Kind.MAP, Kind.UNMAP, Kind.BAD_FREE)


def shorter(best: Sequence[Operation], fails: Callable[[Operations], bool], most: int) -> Operations | None:
    """A trace of fewer operations for which ``fails`` holds; None if none is found.

    Looks at no more than ``most`` traces, all of which end as ``best`` does: those with one kind of
    request first, then those with two, then all; of each, shorter ones first.
    """
    if not best:  # a fresh heap breaks the law
        return None
    requests = list(dict.fromkeys(_letter(op) for op in best if op.kind == Kind.ALLOC))
    others = list(dict.fromkeys(_letter(op) for op in best if op.kind != Kind.ALLOC))
    sets = [list(some) for count in (1, 2) for some in combinations(requests, count)]
    sets += [requests] if len(requests) > 2 else []
    share = max(1, most // max(1, len(sets)))
    for some in sets or [[]]:
        found = _shortest(some + others, _letter(best[-1]).kind, len(best), fails, share)
        if found is not None:
            return found
    return None


def shortcuts(best: Sequence[Operation], more: Sequence[Operation] = ()) -> Iterator[Operations]:
    """The trace with two, three or four operations in a row replaced by one of its letters, or of ``more``.

    The last operation stays.  O(n * letters * live) traces; the largest steps first.
    """
    letters = list(dict.fromkeys([*(_letter(op) for op in best), *more]))
    birth = 1 + max((op.name for op in best if op.kind == Kind.ALLOC), default=-1)
    for length in _WINDOWS:
        for start in range(len(best) - length):
            before, after = list(best[:start]), list(best[start + length :])
            gone = {op.name for op in best[start : start + length] if op.kind == Kind.ALLOC}
            for step in _steps(letters, before, birth):
                yield [*before, step, *after]
                for one in gone if step.kind == Kind.ALLOC else ():  # it may stand for one that is named later on
                    yield [*before, step._replace(name=one), *after]


def _steps(letters: Sequence[Operation], before: Operations, birth: int) -> Iterator[Operation]:
    """What could come next after these operations."""
    live = [op.name for op in before if op.kind == Kind.ALLOC]
    for op in before:
        if op.kind == Kind.FREE and op.name in live:
            live.remove(op.name)
    for letter in letters:
        if letter.kind == Kind.ALLOC:
            yield letter._replace(name=birth)
        elif letter.kind in _ON_OBJECTS:
            yield from (letter._replace(name=name) for name in live)
        elif letter.kind == Kind.LINK:
            yield from (letter._replace(name=one, size=two) for one in live for two in live if one != two)
        else:
            yield letter


def _shortest(
    letters: Sequence[Operation], last: int, below: int, fails: Callable[[Operations], bool], most: int
) -> Operations | None:
    """The shortest trace over these letters, of fewer than ``below`` operations, in at most ``most`` tries."""
    left = most
    for length in range(1, below):
        for trace in _traces(letters, last, length):
            if not left:
                return None
            left -= 1
            if fails(trace):
                return trace
    return None


def _letter(op: Operation) -> Operation:
    """The operation without the object that it names."""
    if op.kind == Kind.LINK:
        return op._replace(name=0, size=0)
    return op._replace(name=0)


def _traces(letters: Sequence[Operation], last: int, length: int) -> Iterator[Operations]:
    """All traces of this length that name live objects only and end with an operation of kind ``last``."""

    def longer(trace: Operations, live: tuple[int, ...], births: int) -> Iterator[Operations]:
        if len(trace) == length:
            yield trace
            return
        final = len(trace) == length - 1
        for letter in letters:
            if final and letter.kind != last:
                continue
            if letter.kind == Kind.ALLOC:
                yield from longer([*trace, letter._replace(name=births)], (*live, births), births + 1)
            elif letter.kind in _ON_OBJECTS:
                for name in live:
                    kept = tuple(other for other in live if other != name) if letter.kind == Kind.FREE else live
                    yield from longer([*trace, letter._replace(name=name)], kept, births)
            elif letter.kind == Kind.LINK:
                for name in live:
                    for other in live:
                        if name != other:
                            yield from longer([*trace, letter._replace(name=name, size=other)], live, births)
            elif not trace or trace[-1] != letter or letter.kind == Kind.MAINTAIN:
                yield from longer([*trace, letter], live, births)

    yield from longer([], (), 0)
