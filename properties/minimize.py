"""The minimiser: the same law broken, by as little as possible.

Works on operations only, by a predicate; knows nothing of how they were found.
Operations are dropped in chunks, pairs and one by one; then sizes, alignments and
flags are lowered; both until nothing more goes; then all shorter traces over the
same letters are tried (see ``shorter``).  Deterministic, and idempotent because it
ends only at a fixed point.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import combinations, pairwise

from heaplaw.checker import Checker, Hang
from heaplaw.lawbook import LAWS
from heaplaw.operations import Kind, Operation
from heaplaw.runs import Violation, run
from heaplaw.twins import TWIN_LAWS

from .shorter import shorter
from .watchdog import watchdog

Operations = list[Operation]
Predicate = Callable[[Operations], bool]
_NAMELESS = (Kind.NOP, Kind.MAINTAIN, Kind.ON_CPU, Kind.BAD_ALLOC, Kind.FAIL_PAGES, Kind.DRAIN, Kind.DESTROY)
_LAST = 2  # operations that are audited when only the end is looked at; some laws compare two audits
TWINS = 8  # fresh targets that a law about repetition is asked of: two that differ by chance may agree
_SIZED = (Kind.ALLOC, Kind.REALLOC, Kind.BAD_ALLOC)
_MOST_TRIES = 20_000
_MOST_SHORTER = 3_000
_WORTH, _STEP, _WALKED = 1_500_000, 20, 100  # of all shorter traces; an operation costs as much as 20 things walked
_PAIRS_UP_TO = 40  # operations; pairs of more are too many to try
_MOST_HANGING_TRIES = 60  # each costs its whole time limit
_HANG_SECONDS = (0.2, 0.004)  # CPU time that a trace may use: at least, and for each operation


def time_limit(operations: Sequence[Operation]) -> float:
    """CPU seconds after which a run of these operations counts as hanging."""
    return _HANG_SECONDS[0] + _HANG_SECONDS[1] * len(operations)


class _Tries:
    """The predicate, with a memory and a bound."""

    def __init__(self, fails: Predicate, most: int) -> None:
        self._fails, self._most = fails, most
        self._known: dict[tuple[Operation, ...], bool] = {}

    def __call__(self, operations: Operations) -> bool:
        key = tuple(operations)
        if key not in self._known:
            if len(self._known) >= self._most:
                return False
            self._known[key] = self._fails(operations)
        return self._known[key]


def minimize(
    operations: Sequence[Operation], fails: Predicate, most: int = _MOST_TRIES, look: int = _MOST_SHORTER
) -> Operations:
    """The smallest list found, in ``most`` tries, for which ``fails`` holds.  It must hold for ``operations``.

    ``look``: shorter traces to try each time that nothing can be dropped or lowered any more.
    """
    tries = _Tries(fails, most)
    best = list(operations)
    while True:
        before = best
        best = _merge(_drop_pairs(_drop_chunks(best, tries), tries), tries)
        best = _lower(_lower_equal(best, tries), tries)
        best = _rename(best, tries)
        if best == before:
            found = shorter(best, tries, look)
            if found is None:
                return best
            best = found


def _drop_chunks(best: Operations, fails: Predicate) -> Operations:
    """Delta debugging: halves, quarters, ... single operations; from the end, where chaff gathers."""
    length = max(1, len(best) // 2)
    while True:
        start = len(best) - length
        shrunk = False
        while start > -length:
            low = max(start, 0)
            shorter = best[:low] + best[start + length :]
            if len(shorter) < len(best) and fails(shorter):
                best, shrunk = shorter, True
            start -= length
        if length == 1 and not shrunk:
            return best
        length = max(1, length // 2) if not shrunk or length > 1 else 1


def _drop_pairs(best: Operations, fails: Predicate) -> Operations:
    """Two operations that only go together: an allocation and its free, mostly."""
    if len(best) > _PAIRS_UP_TO:
        lifetimes: dict[int, list[int]] = {}
        for index, op in enumerate(best):
            if op.kind in (Kind.ALLOC, Kind.FREE):
                lifetimes.setdefault(op.name, []).append(index)
        pairs: Iterator[tuple[int, ...]] = (tuple(pair) for pair in lifetimes.values() if len(pair) == 2)
    else:
        pairs = combinations(range(len(best)), 2)
    for pair in pairs:
        shorter = [op for index, op in enumerate(best) if index not in pair]
        if fails(shorter):
            return _drop_pairs(_drop_chunks(shorter, fails), fails)
    return best


def _merge(best: Operations, fails: Predicate) -> Operations:
    """Two requests as one of their sizes together, where dropping one would leave a hole too large.

    a = alloc 8; b = alloc 16; ...  =>  a = alloc 24; ...
    """
    requests = [index for index, op in enumerate(best) if op.kind == Kind.ALLOC]
    pairs = combinations(requests, 2) if len(best) <= _PAIRS_UP_TO else pairwise(requests)
    for i, j in pairs:
        one, two = best[i], best[j]
        for size in dict.fromkeys(_sums(one.size, two.size)):
            whole = one._replace(size=size, align=max(one.align, two.align))
            shorter = [op for op in [*best[:i], whole, *best[i + 1 :]] if op.name != two.name or op.kind in _NAMELESS]
            if fails(shorter):
                return _merge(shorter, fails)
    return best


def _sums(one: int, two: int) -> Iterator[int]:
    """What two blocks may have taken together: as asked, rounded to granules, with a header between."""
    yield one + two
    for granule, header in ((4, 0), (8, 8), (16, 16), (32, 32), (64, 16), (128, 128)):
        yield -(-one // granule) * granule + header + -(-two // granule) * granule


def _lower(best: Operations, fails: Predicate) -> Operations:
    """Lower every number of every operation as far as it goes."""
    for index in range(len(best)):
        for simpler in _simpler(best[index]):
            attempt = [*best[:index], simpler, *best[index + 1 :]]
            if fails(attempt):
                best = attempt
                break
        best = _lower_size(best, index, fails)
    return best


def _simpler(op: Operation) -> Iterator[Operation]:
    """Plainer operations that may do as well, plainest first."""
    if op.kind == Kind.ALLOC:
        if op.align > 1 and op.mode:
            yield op._replace(align=1, mode=0)
        if op.align > 1:
            align = 1
            while align < op.align:
                yield op._replace(align=align)
                align *= 2
        if op.mode:
            yield op._replace(mode=0)
    if op.kind == Kind.FAIL_PAGES and (op.size > 1 or op.align):
        yield op._replace(size=1, align=0)
        yield op._replace(size=1)
    if op.kind == Kind.ON_CPU and op.mode:
        yield op._replace(mode=0)


def _lower_equal(best: Operations, fails: Predicate) -> Operations:
    """Lower requests of one size together: freeing and asking again needs them equal."""
    sizes = [op.size for op in best if op.kind in _SIZED]
    for size in sorted({size for size in sizes if sizes.count(size) > 1}, reverse=True):
        for smaller in (1, 2, 4, 8, 16, 32, 64, size // 2, size - 8, size - 1):
            if 0 < smaller < size:
                attempt = [op._replace(size=smaller) if op.kind in _SIZED and op.size == size else op for op in best]
                if fails(attempt):
                    best = attempt
                    break
    return best


def _lower_size(best: Operations, index: int, fails: Predicate) -> Operations:
    """Bisect downwards, then step down, so that the size left cannot be lowered by one."""
    op = best[index]
    if op.kind not in _SIZED:
        return best

    def with_size(size: int) -> Operations:
        return [*best[:index], op._replace(size=size), *best[index + 1 :]]

    for size in (0, 1, 2, 4, 8, 16, 32):
        if size < op.size and fails(with_size(size)):
            return with_size(size)
    low, high = 0, op.size  # fails at high; not known to fail at low
    while high - low > 1:
        middle = (low + high) // 2
        if fails(with_size(middle)):
            high = middle
        else:
            low = middle
    while high and fails(with_size(high - 1)):
        high -= 1
    return with_size(high)


def _rename(best: Operations, fails: Predicate) -> Operations:
    """Name objects a, b, c ... in order of birth, if the law still breaks (names choose the contents)."""
    order = [op.name for op in best if op.kind == Kind.ALLOC]
    named = [op.name for op in best if op.kind not in (Kind.ALLOC, Kind.BAD_ALLOC)]
    fresh = {name: birth for birth, name in enumerate(dict.fromkeys([*order, *named]))}
    renamed = [op._replace(name=fresh.get(op.name, op.name)) for op in best]
    renamed = [op._replace(size=fresh.get(op.size, op.size)) if op.kind == Kind.LINK else op for op in renamed]
    return renamed if renamed != best and fails(renamed) else best


def first_break(
    build: Callable[[], object],
    operations: Sequence[Operation],
    mute: Sequence[str],
    audit_from: int = 0,
    *,
    twins: int = 0,
) -> Violation | None:
    """The first violation of these operations, under the watchdog."""
    with watchdog(time_limit(operations)):
        return run(build, operations, mute=mute, audit_from=audit_from, twins=twins)


def _culprit(operations: Operations, found: Violation) -> tuple[int, int | str]:
    """Kind of the operation that broke the law, and the kind of maintenance or misuse."""
    op = operations[found.index]
    return op.kind, op.mode if isinstance(op.mode, str) else 0


def _worth(build: Callable[[], object], operations: Operations) -> int:
    """How many shorter traces to try: fewer the longer they are and the more an audit of the target walks."""
    checker = Checker(build(), mute=LAWS, audit_every=1 << 60)
    walked = _WALKED  # where what is broken cannot be walked
    with suppress(Exception, Hang), watchdog(time_limit(operations)):
        for op in operations:
            checker.step(op)
        shown = [name for name in ("free_regions", "lists", "hints") if name in checker.shows]
        listed = sum(len(list(getattr(checker.target, name)())) for name in shown)
        bits = checker.target.bitmap() if "bitmap" in checker.shows else ()
        walked = len(checker.shadow) + listed + sum(units for _, _, _, units, _ in bits) // 64
    return min(_MOST_SHORTER, _WORTH // (len(operations) * (_STEP + walked)))


def smallest(
    build: Callable[[], object], found: Violation, mute: Sequence[str] = (), *, same_operation: bool = False
) -> Violation:
    """The violation with its trace minimised, the same law broken; unchanged where it does not recur.

    ``same_operation``: broken by an operation of the same kind, too.
    """
    twins = TWINS if found.law in TWIN_LAWS else 0
    culprit = _culprit(found.trace.operations, found) if same_operation else None

    def fails(operations: Operations, audit_from: int = 0) -> bool:
        seen = first_break(build, operations, mute, audit_from, twins=twins)
        if seen is None or seen.law != found.law:
            return False
        return culprit is None or _culprit(operations, seen) == culprit

    def fails_at_the_end(operations: Operations) -> bool:
        return fails(operations, max(0, len(operations) - _LAST))

    operations = found.trace.operations[: found.index + 1]
    most = _MOST_HANGING_TRIES if found.law == "returns" and "hang" in found.seen else _MOST_TRIES
    if not fails(operations):
        return found
    if fails_at_the_end(operations):  # what the last operation breaks needs no audits before it
        reduced = minimize(operations, fails_at_the_end, most, 0)
        operations = reduced if fails(reduced) else operations
    best = minimize(operations, fails, most, 0)
    if most == _MOST_TRIES:  # what hangs is not looked for in other traces
        best = minimize(best, fails, most, _worth(build, best))
    again = first_break(build, best, mute, twins=twins)
    return again if again is not None and again.law == found.law else found
