"""The minimiser: the same law broken, by as little as possible.

Works on operations only, by a predicate; knows nothing of how they were found.
Operations are dropped in chunks, pairs and one by one, requests are merged, then sizes,
alignments, flags and names are lowered; all until nothing more goes; then shorter traces over
the same letters are looked for (see ``nearest``, and ``shorter`` for plain predicates).

Deterministic, since budgets count operations; and idempotent, since it ends only with a whole
round that has changed nothing, and every round has a budget of its own.  Only a ``deadline``
makes it depend on the clock.

>>> long = [Operation(Kind.ALLOC, name, 10 + name) for name in range(20)]
>>> minimize(long, lambda operations: any(op.size > 14 for op in operations))
[Operation(kind=<Kind.ALLOC: 1>, name=0, size=15, align=1, mode=0)]
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import combinations, pairwise

from heaplaw.checker import NO_AUDIT, Checker, Hang
from heaplaw.lawbook import LAWS
from heaplaw.operations import ATOMIC, Kind, Operation
from heaplaw.runs import Violation, run
from heaplaw.trace import Trace
from heaplaw.twins import TWIN_LAWS

from .alphabet import Alphabet
from .nearest import all_letters, nearest, own_letters, searchable
from .shorter import shortcuts, shorter
from .watchdog import watchdog

Operations = list[Operation]
Predicate = Callable[[Operations], bool]
Together = Callable[[Operations, Sequence[Operation]], Iterable[int]]
_NAMELESS = (Kind.NOP, Kind.MAINTAIN, Kind.ON_CPU, Kind.BAD_ALLOC, Kind.FAIL_PAGES, Kind.DRAIN, Kind.DESTROY)
_SIZED = (Kind.ALLOC, Kind.REALLOC, Kind.BAD_ALLOC)
_HANG = "a hang"  # as the checker words it
TWINS = 8  # fresh targets that a law about repetition is asked of: two that differ by chance may agree
_MOST_TRIES, _MOST_SHORTER = 20_000, 3_000  # of a plain predicate
_PAIRS_UP_TO = 26  # operations; pairs of more are too many to try
_APART_UP_TO = 12  # requests; likewise
_LONG = 40  # operations above which it is worth looking at the end only
_COARSE = 16  # pieces that it is cut into before anything is merged
_LAST = 2  # operations that are audited then; some laws compare two audits
_MANY, _CLASSES, _FEW = 7, 10, 800  # operations of a trace, classes, transitions: to look for it in larger classes
_SOME, _SHARES = 5, (2, 3, 4)  # operations, objects that fill what one of the largest fills: likewise, in those
_MOST = 3_000  # transitions over the letters of the trace, and over all
_STEPS = 15_000  # of a round; a step is an operation that is checked on a small heap
_FRESH, _UNAUDITED = 8, 4  # steps for a fresh target; operations to a step where none is audited
_WALK, _WALKED = 20, 100  # things walked that cost as much as an operation; where nobody can tell how many there are
_HANG_STEPS = 600  # that a hang costs
_HANG_SECONDS = (0.2, 0.004)  # CPU time that a trace may use: at least, and for each operation
_HASTY_SECONDS, _PATIENCE = 0.05, 8  # CPU time at least, and how many times the usual, until all is verified


def time_limit(operations: Sequence[Operation]) -> float:
    """CPU seconds after which a run of these operations counts as hanging."""
    return _HANG_SECONDS[0] + _HANG_SECONDS[1] * len(operations)


class Budget:
    """How much may still be tried: steps, which depend on no clock, and until when, which does."""

    def __init__(self, steps: int, deadline: float = float("inf")) -> None:
        """``deadline`` is a ``time.monotonic`` value."""
        self._steps, self._deadline = steps, deadline
        self.left = steps

    def spend(self, steps: int) -> None:
        """That much was done."""
        self.left -= steps

    def renew(self) -> None:
        """As at first, for another round; the deadline stays."""
        self.left = self._steps

    @property
    def late(self) -> bool:
        """Has the deadline passed?"""
        return time.monotonic() >= self._deadline

    @property
    def spent(self) -> bool:
        """Is nothing left?"""
        return self.left <= 0 or self.late


class _Tries:
    """The predicate, with a memory and a bound; tells how short what fails has become."""

    def __init__(self, fails: Predicate, budget: Budget, progress: Callable[[int], None]) -> None:
        self._fails, self._budget, self._progress = fails, budget, progress
        self._known: dict[tuple[Operation, ...], bool] = {}

    def __call__(self, operations: Operations) -> bool:
        key = tuple(operations)
        if key not in self._known:
            if self._budget.spent:
                return False
            self._known[key] = self._fails(operations)
            if self._known[key]:
                self._progress(len(key))
        return self._known[key]


def _silent(length: int) -> None:
    """Tells nobody."""


def _falling(progress: Callable[[int], None]) -> Callable[[int], None]:
    """Passes on what is less than all before."""
    least = 1 << 60

    def tell(length: int) -> None:
        nonlocal least
        if length < least:
            least = length
            progress(length)

    return tell


def minimize(
    operations: Sequence[Operation],
    fails: Predicate,
    most: int = _MOST_TRIES,
    look: int = _MOST_SHORTER,
    *,
    deadline: float = float("inf"),
    progress: Callable[[int], None] = _silent,
) -> Operations:
    """The smallest list found, in ``most`` tries a round, for which ``fails`` holds.  It must hold for ``operations``.

    ``look``: shorter traces to try each time that nothing can be dropped or lowered any more.
    ``deadline``: a ``time.monotonic`` value after which nothing more is tried.  ``progress`` is told the
    length of each shorter list for which ``fails`` holds.
    """
    budget = Budget(most, deadline)

    def counted(attempt: Operations) -> bool:
        budget.spend(1)
        return fails(attempt)

    tries = _Tries(counted, budget, _falling(progress))
    return _rounds(list(operations), tries, budget, _sums, lambda best: shorter(best, tries, look))


def _rounds(
    best: Operations,
    tries: Predicate,
    budget: Budget,
    together: Together,
    search: Callable[[Operations], Operations | None],
) -> Operations:
    """Rounds of dropping, merging and lowering, and then a search, until a whole one has changed nothing."""
    while True:
        before = best
        budget.renew()
        best = _merge(_drop_pairs(_drop_chunks(best, tries), tries), tries, together)
        best = _lower(_lower_equal(best, tries), tries)
        best = _rename(_lower_names(best, tries), tries)
        if best == before:
            budget.renew()
            found = None if budget.late else search(best)
            if found is None:
                return best
            best = found


def _drop_chunks(best: Operations, fails: Predicate, least: int = 1) -> Operations:
    """Delta debugging: halves, quarters, ... ``least`` operations; from the end, where chaff gathers."""
    length = max(least, len(best) // 2)
    while True:
        start = len(best) - length
        shrunk = False
        while start > -length:
            low = max(start, 0)
            attempt = best[:low] + best[start + length :]
            if len(attempt) < len(best) and fails(attempt):
                best, shrunk = attempt, True
            start -= length
        if length == least and not shrunk:
            return best
        length = max(least, length // 2)


def _drop_pairs(best: Operations, fails: Predicate) -> Operations:
    """Two operations that only go together: neighbours, and all that are about one object; in short traces any two."""
    for pair in _pairs(best):
        if all(op in best for op in pair):
            attempt = [op for op in best if op not in pair]
            if fails(attempt):
                best = attempt
    if len(best) > _PAIRS_UP_TO:
        return best
    for one, two in combinations(range(len(best)), 2):
        attempt = [op for index, op in enumerate(best) if index not in (one, two)]
        if fails(attempt):
            return _drop_pairs(_drop_chunks(attempt, fails), fails)
    return best


def _pairs(best: Operations) -> Iterator[tuple[Operation, ...]]:
    """Operations that belong together in a trace of any length."""
    about: dict[int, list[Operation]] = {}
    for op in best:
        if op.kind not in _NAMELESS:
            about.setdefault(op.name, []).append(op)
    yield from (tuple(ops) for ops in about.values() if len(ops) > 1)
    yield from pairwise(best)


def _merge(best: Operations, fails: Predicate, together: Together) -> Operations:
    """Many requests as one of their sizes together, where dropping some would leave a hole too large.

    a = alloc 8; b = alloc 16; ...  =>  a = alloc 24; ...    Half of all at once, a quarter, ... two.
    """
    count = sum(op.kind == Kind.ALLOC for op in best)
    length = max(2, count)
    while count > 1:
        start = 0
        while start < count - 1:
            merged = _merged(best, range(start, min(start + length, count)), fails, together)
            start += length if merged is None else 1
            if merged is not None:
                best = merged
                count = sum(op.kind == Kind.ALLOC for op in best)
        if length == 2:
            break
        length = max(2, length // 2)
    if count <= _APART_UP_TO:
        for pair in combinations(range(count), 2):
            merged = _merged(best, pair, fails, together)
            if merged is not None:
                return _merge(merged, fails, together)
    return best


def _merged(best: Operations, which: Sequence[int], fails: Predicate, together: Together) -> Operations | None:
    """These requests, counted from the first, as one of their sizes together."""
    requests = [op for op in best if op.kind == Kind.ALLOC]
    if which[-1] >= len(requests):
        return None
    first, *others = [requests[at] for at in which]
    gone = {op.name for op in others} - {first.name}
    if not gone:
        return None
    rest = [op for op in best if op.name not in gone or op.kind in _NAMELESS]
    at, align = rest.index(first), max(op.align for op in (first, *others))
    for size in dict.fromkeys(together(best, [first, *others])):
        attempt = [*rest[:at], first._replace(size=size, align=align), *rest[at + 1 :]]
        if fails(attempt):
            return attempt
    return None


def _sums(best: Operations, requests: Sequence[Operation]) -> Iterator[int]:
    """What blocks may have taken together: as asked, rounded to granules, with a header between."""
    sizes = [op.size for op in requests]
    yield sum(sizes)
    for granule, header in ((4, 0), (8, 8), (16, 16), (32, 32), (64, 16), (128, 128)):
        yield sum(-(-size // granule) * granule + header for size in sizes) - header


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
            if op.mode not in (ATOMIC, 2):
                yield op._replace(mode=2)  # the first group
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


def _lower_names(best: Operations, fails: Predicate) -> Operations:
    """Let each operation name the oldest object that will do; the two change parts from there on."""
    for index in range(len(best)):
        mine = best[index].name
        if best[index].kind == Kind.ALLOC or best[index].kind in _NAMELESS:
            continue
        for name in [op.name for op in best[:index] if op.kind == Kind.ALLOC and op.name < mine]:
            swap = {mine: name, name: mine}
            attempt = [*best[:index], *(_called(op, swap) for op in best[index:])]
            if fails(attempt):
                best = attempt
                break
    return best


def _called(op: Operation, names: Mapping[int, int]) -> Operation:
    """The operation with its objects called otherwise."""
    if op.kind in _NAMELESS:
        return op
    size = names.get(op.size, op.size) if op.kind == Kind.LINK else op.size
    return op._replace(name=names.get(op.name, op.name), size=size)


def _rename(best: Operations, fails: Predicate) -> Operations:
    """Name objects a, b, c ... in order of birth, if the law still breaks (names choose the contents)."""
    order = [op.name for op in best if op.kind == Kind.ALLOC]
    named = [op.name for op in best if op.kind != Kind.ALLOC and op.kind not in _NAMELESS]
    fresh = {name: birth for birth, name in enumerate(dict.fromkeys([*order, *named]))}
    renamed = [_called(op, fresh) for op in best]
    return renamed if renamed != best and fails(renamed) else best


# ---- on a law ------------------------------------------------------------------------------


def first_break(
    build: Callable[[], object],
    operations: Sequence[Operation],
    mute: Sequence[str],
    audit_from: int = 0,
    *,
    twins: int = 0,
    seconds: float | None = None,
) -> Violation | None:
    """The first violation of these operations, under the watchdog; ``seconds`` of CPU time, or its usual limit."""
    try:
        with watchdog(time_limit(operations) if seconds is None else seconds):
            return run(build, operations, mute=mute, audit_from=audit_from, twins=twins)
    except Hang:  # while the picture of a broken heap was drawn
        trace = Trace(list(operations), {"law": "returns"})
        return None if "returns" in mute else Violation("returns", len(operations) - 1, "an answer", _HANG, trace)


def _culprit(operations: Operations, found: Violation) -> tuple[int, int | str]:
    """Kind of the operation that broke the law, and the kind of maintenance or misuse."""
    op = operations[found.index]
    return op.kind, op.mode if isinstance(op.mode, str) else 0


def smallest(
    build: Callable[[], object],
    found: Violation,
    mute: Sequence[str] = (),
    *,
    same_operation: bool = False,
    deadline: float = float("inf"),
    progress: Callable[[int], None] = _silent,
) -> Violation:
    """The violation with its trace minimised, the same law broken; unchanged where it does not recur.

    Only this law is asked, whatever else breaks on the way; or, where it does not recur like that, all
    but those in ``mute``: the laws that were muted when it was found.
    ``same_operation``: broken by an operation of the same kind, too.  ``deadline``: a ``time.monotonic``
    value after which nothing more is tried.  ``progress`` is told how short the trace has become.
    """
    work = Reduction(build, found, mute, same_operation=same_operation, deadline=deadline, progress=progress)
    work.cut()
    return work.finish()


class Reduction:
    """A violation on its way to a smaller one, in two steps: the cheap one, and all the rest."""

    def __init__(
        self,
        build: Callable[[], object],
        found: Violation,
        mute: Sequence[str] = (),
        *,
        same_operation: bool = False,
        deadline: float = float("inf"),
        progress: Callable[[int], None] = _silent,
    ) -> None:
        """See ``smallest``."""
        self.build, self.found, self.law = build, found, found.law
        self.mute: Sequence[str] = tuple(law for law in LAWS if law != found.law)
        self.budget = Budget(_STEPS, deadline)
        self.operations = found.trace.operations[: found.index + 1]
        self.twins = TWINS if found.law in TWIN_LAWS else 0
        self._culprit = _culprit(found.trace.operations, found) if same_operation else None
        self._pace = float("inf")  # CPU seconds that an operation may take; infinite: the usual limit
        self.weight = 1  # steps that an audited operation costs
        self._spans: tuple[Operations, dict[int, tuple[int, int, int]]] = ([], {})
        self._progress = _falling(progress)
        self._walks = True  # is the heap audited after every operation?
        self.recurs = not self.budget.late and self.fails(self.operations)
        if not self.recurs and not self.budget.late:  # a walk that fails is made for another law
            self.mute = tuple(mute)
            self.recurs = self.fails(self.operations)
        if not self.recurs and not self.budget.late:  # or every walk fails, so broken is the heap already
            self._walks = False
            self.recurs = self.fails(self.operations)
        self.tries = _Tries(self.fails, self.budget, self._progress)

    # ---- the two steps ----

    def cut(self) -> None:
        """Drop what can be dropped in large pieces, and merge what fills the heap."""
        if not self.recurs:
            return
        self._measure(hasty=True)
        if len(self.operations) > _LONG:  # what the last operation breaks needs no audits before it
            self.budget.renew()
            tries = _Tries(self.fails_at_the_end, self.budget, self._progress)
            cut = _cut(self.operations, tries, self._together) if tries(self.operations) else self.operations
            if self.fails(cut):
                self.operations = cut
                self._measure(hasty=True)
        self.budget.renew()
        self.operations = _cut(self.operations, self.tries, self._together)

    def leap(self) -> None:
        """Where much is left, see whether a few large objects do as well: a look costs less than to go on dropping.

        Of what fills a heap with small objects, nothing can be dropped.
        """
        if not self.recurs or len(self.operations) < _MANY or self.twins or not self._walks or self.budget.late:
            return
        self.budget.renew()
        self.operations = self._over_full_shares(self.operations) or self.operations

    def finish(self) -> Violation:
        """The violation as small as it gets."""
        for hasty in (True, False):
            if not self.recurs:
                break
            best = self._reduced(hasty)
            again = first_break(self.build, best, self.mute, 0 if self._walks else len(best), twins=self.twins)
            if again is not None and again.law == self.law:
                return again
        return self.found

    def _reduced(self, hasty: bool) -> Operations:
        """What is left of the trace.  ``hasty``: what takes much longer than it should is taken for a hang."""
        while True:
            before = self.operations
            self._measure(hasty)
            self.operations = _rounds(before, self.tries, self.budget, self._together, self._search)
            if self.operations == before or len(self.operations) <= _LONG:
                return self.operations

    def _search(self, best: Operations) -> Operations | None:
        """A shorter trace that no deletion leads to, or None."""
        if self.twins or not self._walks or not searchable(self.build):
            return shorter(best, self.tries, _STEPS // (len(best) * self.weight + _FRESH))
        own, wide = own_letters(best), all_letters(self.build, best)
        found = self._nearest(best, own, _MOST) or self._over_full_shares(best) or self._nearest(best, wide, _MOST)
        if found is not None:
            return found
        for letters in self._in_larger_classes(best, own):
            if (found := self._nearest(best, letters, _FEW)) is not None:
                return found
        more = [letter.operation for letter in wide if letter.operation.align > 1]
        return next((trace for trace in shortcuts(best, more) if self.tries(trace)), None)

    def _nearest(self, best: Operations, letters: Alphabet, most: int) -> Operations | None:
        """The shortest trace over these letters that is shorter than this one, or None."""
        return nearest(self.build, letters, self.law, below=len(best), mute=self.mute, fails=self.tries, most=most)

    def _over_full_shares(self, best: Operations) -> Operations | None:
        """A shorter trace in which two, or three ... objects fill what one of the largest fills, or None."""
        found = (self._nearest(best, letters, _FEW) for letters in self._in_full_shares(best, own_letters(best)))
        return next(filter(None, found), None)

    def _in_full_shares(self, best: Operations, own: Alphabet) -> Iterator[Alphabet]:
        """The trace's letters with one size for all of which two, or three ... fill what is filled by the largest."""
        contract = Checker(self.build()).contract
        for share in _SHARES if len(best) >= _SOME else ():
            fitting = [size for size in contract.limits if 0 < size <= contract.largest // share]
            if fitting:
                yield _all_of_size(own, max(fitting))

    def _in_larger_classes(self, best: Operations, own: Alphabet) -> Iterator[Alphabet]:
        """The trace's letters with one larger size for all: fewer objects may fill what is to be filled."""
        if len(best) < _MANY:
            return
        contract = Checker(self.build()).contract
        most = max((op.size for op in best if op.kind in _SIZED), default=0)
        larger = sorted({size for size in (*contract.limits, contract.largest) if most < size <= contract.largest})
        for at in range(min(_CLASSES, len(larger))):
            yield _all_of_size(own, larger[(len(larger) - 1) * at // max(1, min(_CLASSES, len(larger)) - 1)])

    # ---- the predicate ----

    def fails(self, operations: Operations, audit_from: int = 0) -> bool:
        """Is the law broken, audits made from this operation on?"""
        audit_from = audit_from if self._walks else len(operations)
        audited = len(operations) - audit_from
        self.budget.spend((_FRESH + audited * self.weight + audit_from // _UNAUDITED) * max(1, self.twins))
        seconds = min(time_limit(operations), _HASTY_SECONDS + self._pace * len(operations))
        seen = first_break(self.build, operations, self.mute, audit_from, twins=self.twins, seconds=seconds)
        if seen is not None and seen.law == "returns" and seen.seen == _HANG:
            self.budget.spend(_HANG_STEPS)
        if seen is None or seen.law != self.law:
            return False
        return self._culprit is None or _culprit(operations, seen) == self._culprit

    def fails_at_the_end(self, operations: Operations) -> bool:
        """Is it broken though only the last operations are audited?"""
        return self.fails(operations, max(0, len(operations) - _LAST))

    # ---- what a trace tells ----

    def _measure(self, hasty: bool) -> None:
        """Learn what the operations cost, all but the last, which may hang."""
        before = self.operations[:-1]
        self.weight = 1 + _walked(self.build, before) // _WALK
        started = time.process_time()
        first_break(self.build, before, self.mute, max(0, len(before) - _LONG))
        usual = (time.process_time() - started) / max(1, len(self.operations))  # none: a fresh heap is broken
        self._pace = _PATIENCE * usual if hasty else float("inf")

    def _together(self, best: Operations, requests: Sequence[Operation]) -> Iterator[int]:
        """Sizes that blocks had together: as asked, as they were, and from the first byte to the last."""
        if self._spans[0] is not best:
            self._spans = best, _spans(self.build, best)
        yield sum(op.size for op in requests)
        places = [self._spans[1][op.name] for op in requests if op.name in self._spans[1]]
        if len(places) == len(requests):
            yield sum(length for _, _, length in places)
            spaces, starts, ends = {s for s, _, _ in places}, [a for _, a, _ in places], [a + n for _, a, n in places]
            if len(spaces) == 1:
                yield max(ends) - min(starts)


def _spans(build: Callable[[], object], operations: Operations) -> dict[int, tuple[int, int, int]]:
    """Name -> (space, start, length) of what is served in one piece."""
    checker = Checker(build(), mute=LAWS, audit_every=NO_AUDIT, audit_from=NO_AUDIT)
    found: dict[int, tuple[int, int, int]] = {}
    with suppress(Exception, Hang), watchdog(time_limit(operations)):
        for op in operations:
            checker.step(op)
            block = checker.shadow.live.get(op.name)
            if op.kind == Kind.ALLOC and block is not None and len(block.extents) == 1:
                found[op.name] = block.extents[0]
    return found


def _walked(build: Callable[[], object], operations: Operations) -> int:
    """How much an audit walks after these operations."""
    checker = Checker(build(), mute=LAWS, audit_every=NO_AUDIT, audit_from=NO_AUDIT)
    walked = _WALKED  # where what is broken cannot be walked
    with suppress(Exception, Hang), watchdog(time_limit(operations)):
        for op in operations:
            checker.step(op)
        shown = [name for name in ("free_regions", "lists", "hints") if name in checker.shows]
        listed = sum(len(list(getattr(checker.target, name)())) for name in shown)
        bits = checker.target.bitmap() if "bitmap" in checker.shows else ()
        walked = len(checker.shadow) + listed + sum(units for _, _, _, units, _ in bits) // 64
    return walked


def _all_of_size(letters: Alphabet, size: int) -> Alphabet:
    """The letters with this size wherever they have one."""
    sized = [
        letter._replace(operation=letter.operation._replace(size=size)) if letter.operation.kind in _SIZED else letter
        for letter in letters
    ]
    return tuple(dict.fromkeys(sized))


def _cut(best: Operations, fails: Predicate, together: Together) -> Operations:
    """Drop and merge; what fills a heap is merged before each piece of it is tried."""
    if len(best) > _LONG:
        best = _merge(_drop_chunks(best, fails, max(1, len(best) // _COARSE)), fails, together)
    return _merge(_drop_pairs(_drop_chunks(best, fails), fails), fails, together)
