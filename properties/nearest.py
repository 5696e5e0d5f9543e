"""The shortest way to break a law over some letters: breadth-first from a fresh target, canonical states.

For the minimiser: a trace that nothing can be dropped from may still be longer than another one. What
the exhaustive engine does for certificates (see ``transitions``) is done here in a small way: one law,
few letters, only what is shorter than the trace at hand, and so many transitions and no more.

>>> from heaplaw.impls.registry import factory
>>> build = factory("nta@2006-08-14,pages=1,cpus=1,order=0,regions=1,page_size=256")
>>> long = [Operation(Kind.ALLOC, 0, 1), Operation(Kind.ALLOC, 1, 97), Operation(Kind.FREE, 1), Operation(Kind.FREE, 0)]
>>> [(op.kind.name, op.size) for op in nearest(build, own_letters(long), "free-list", below=len(long))]
[('ALLOC', 1), ('FREE', 0)]
"""

import pickletools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from heaplaw.checker import Checker, Hang, Unusable
from heaplaw.lawbook import LAWS
from heaplaw.operations import Kind, Operation
from heaplaw.twins import TWIN_LAWS

from .alphabet import KINDS, MOST_LETTERS, Alphabet, Letter, alphabet, default_aligns, default_sizes
from .frontier import Frontier
from .positions import Prober
from .retelling import Retelling
from .transitions import Breach, Explorer
from .watchdog import wind_up as start_again

Operations = list[Operation]
_MOST = 3_000  # transitions of small states
_WORD, _HALF, _NEAR = 1 << 64, 1 << 32, 1 << 16  # bytes that an address can name
_ITEMS = 400  # of a position that double what a transition costs
_CHUNK = 32  # positions expanded together
_MOST_HANGS, _HANG_SECONDS = 4, 0.1  # CPU time for all transitions from a position; they take some milliseconds
_NAMED_ONE = (Kind.FREE, Kind.REALLOC, Kind.MAP, Kind.UNMAP, Kind.BAD_FREE)


def own_letters(operations: Sequence[Operation]) -> Alphabet:
    """The letters that a trace is made of, in its order, and a free.  Writes and reads add nothing."""
    letters = [_letter(op) for op in operations if op.kind not in (Kind.NOP, Kind.WRITE, Kind.READ)]
    return tuple(dict.fromkeys([*letters, _letter(Operation(Kind.FREE))]))


def searchable(build: Callable[[], Any]) -> bool:
    """Can the target's state be kept, so that there is something to search?"""
    try:
        Prober(build()).position()
    except Exception:  # whatever a target of somebody's own has against it
        return False
    return True


def _letter(op: Operation) -> Letter:
    if op.kind == Kind.LINK:
        return Letter(op._replace(name=0, size=0), 2)
    return Letter(op._replace(name=0), int(op.kind in _NAMED_ONE))


def all_letters(build: Callable[[], Any], operations: Sequence[Operation]) -> Alphabet:
    """Those of the trace, and those that the exhaustive engine would choose for this target."""
    checker = Checker(build())
    contract = checker.contract
    requests = [op for op in operations if op.kind in (Kind.ALLOC, Kind.REALLOC)]
    own = {op.size for op in requests if op.size}
    wrapped = {size % _HALF + _WORD - _HALF for size in own if _HALF - _NEAR < size < _HALF}  # as a longer word wraps
    sizes = {*default_sizes(contract), *own, *wrapped}
    aligns = {*default_aligns(contract), *(op.align for op in requests if op.align > 1)}
    kinds = {int(kind) for kind in KINDS if checker.can(kind)}
    return tuple(dict.fromkeys([*own_letters(operations), *alphabet(contract, kinds, sorted(sizes), sorted(aligns))]))


class _Seeker(Explorer):
    """Looks for one law, and gives up where too much hangs."""

    def __init__(
        self, build: Callable[[], Any], letters: Alphabet, law: str, below: int, mute: Iterable[str] | None
    ) -> None:
        self.law, self.hangs = law, 0
        super().__init__(build, letters, mute=LAWS.keys() - {law} if mute is None else mute, deepest=below - 1)

    def _breach(self, law: str) -> None:
        if law == self.law:
            super()._breach(law)

    def _visit(self, parent: int, kept: bytes, depth: int, seen: Any, wind_up: Any) -> None:
        """With less patience: nobody is told of what is taken for a hang here, it is only not gone on from."""
        super()._visit(parent, kept, depth, seen, partial(start_again, _HANG_SECONDS))

    def _collapse(self, prober: Any, problem: BaseException) -> None:
        self.hangs += isinstance(problem, Hang)
        if self.hangs > _MOST_HANGS:
            self.shortest = 0  # nothing is that short: come back
        super()._collapse(prober, problem)


def nearest(
    build: Callable[[], Any],
    letters: Alphabet,
    law: str,
    *,
    below: int,
    mute: Iterable[str] | None = None,
    fails: Callable[[Operations], bool] = lambda operations: True,
    most: int = _MOST,
) -> Operations | None:
    """The shortest trace of fewer than ``below`` operations that breaks the law, and for which ``fails`` holds.

    ``mute``: laws that may break on the way; all others, if nothing is said.
    None where there is none, where ``most`` transitions were not enough, and for a target whose state
    cannot be kept.  O(most).
    """
    if law in TWIN_LAWS or below < 2 or len(letters) > MOST_LETTERS:
        return None
    frontier = Frontier()
    try:
        with suppress(Exception, Hang):  # what cannot be searched is minimised all the same
            seeker = _Seeker(build, letters, law, below, mute)
            return _search(seeker, Retelling(build, letters), frontier, (below, most), fails)
        return None
    finally:
        frontier.table.close()


def _search(
    seeker: _Seeker,
    retelling: Retelling,
    frontier: Frontier,
    limits: tuple[int, int],
    fails: Callable[[Operations], bool],
) -> Operations | None:
    start = seeker.start()
    frontier.enter(0, 0, start.fingerprint, start.kept)
    best, (below, left) = None, limits
    while frontier.ready and left > 0 and seeker.hangs <= _MOST_HANGS:
        first, depth, kept = frontier.next_chunk(_CHUNK, 1 << 60)
        if depth >= below:  # one less: nothing is tried from there any more, but the states are audited
            break
        seeker.shortest = below
        found = seeker.expand(kept, depth, frontier.table.__contains__)
        left -= found.counts["transitions"] * _weight(kept[0]) + len(kept)
        for child in found.children:
            frontier.enter(first + child.parent, child.code, child.fingerprint, child.kept)
        frontier.finish(len(kept), depth, found.counts, found.evidence)
        for operations in _told(retelling, frontier, first, found.breaches):
            if len(operations) < below and fails(operations):
                best, below = operations, len(operations)
                break
    return best


def _weight(kept: bytes) -> int:
    """What a transition costs, by the items of a position: most of the work is to put them back."""
    return 1 + sum(1 for _ in pickletools.genops(kept)) // _ITEMS


def _told(retelling: Retelling, frontier: Frontier, first: int, breaches: Sequence[Breach]) -> Iterator[Operations]:
    """Breaches as operations, the shortest first."""
    for breach in sorted(breaches, key=lambda one: one.length):
        with suppress(Unusable):
            yield retelling.tell([*frontier.path(first + breach.parent), *breach.codes])
