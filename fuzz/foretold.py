"""Inputs of the fuzzer as whole arrays of operations, known before the first one is done.

Engines decode an operation when the one before it has answered, as it may name what lives by then.  A native library
does a whole array in one call, so what lives is foretold: a request is taken to be served where the arena has room
for it.  Where it is not, what would have been done to its object is skipped.  Most inputs are requests, frees and
resizes, which a batch knows; some have every kind of operation, for one call each.

>>> from heaplaw import Contract
>>> [(op.kind, op.name) for op in foretell(bytes(8) + b"\\x01\\0\\1\\0" + b"\\x61\\0\\0\\0", Contract(arena=4096))]
[(1, 0), (2, 0)]
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from struct import iter_unpack
from typing import Any
from zlib import crc32

from heaplaw.codec import Codec
from heaplaw.contract import Contract
from heaplaw.impls.native.watching import Watched
from heaplaw.operations import Kind, Operation
from heaplaw.properties.state import abstract
from heaplaw.properties.steering import LENGTH, Head, Steering
from heaplaw.properties.verdict import Tally
from heaplaw.runs import Violation

from .harness import Fuzzed

BATCHED: frozenset[int] = frozenset({Kind.ALLOC, Kind.FREE, Kind.REALLOC})
"""What a batch does.  Contents are written and compared with these."""
_ALONE = 16  # one input in so many is done by one call for each operation
SAMPLE_STATES = 4  # every fourth operation's abstract state is counted


def in_one_call(body: bytes) -> bool:
    """Is an input for a batch?  About one in sixteen is not, and those that are to be made twice."""
    return bool(crc32(body) % _ALONE) and not Head(body[:LENGTH]).twin


class _Foreseen:
    """The heap that steering is told of."""

    def __init__(self, contract: Contract, kinds: Collection[int]) -> None:
        self._contract, self._kinds = contract, kinds
        self._room = contract.arena or 1 << 62
        self.names: list[int] = []
        self.live: dict[int, Operation] = {}
        self.births = self.refusals = self._used = 0

    @property
    def shadow(self) -> "_Foreseen":
        return self

    def can(self, kind: int) -> bool:
        return kind in self._kinds

    def do(self, op: Operation) -> None:
        """What an operation would come to.  O(live)."""
        if op.kind == Kind.ALLOC:
            self.births += 1
            if self._fits(op.size, 0):
                self._live(op.name, op)
            else:
                self.refusals += 1
        elif op.kind == Kind.DRAIN:
            self.live.clear()
            self.names.clear()
            self._used = 0
        elif op.name not in self.live:
            return
        elif op.kind == Kind.FREE:
            self._used -= self._footprint(self.live.pop(op.name).size)
            self.names.remove(op.name)
        elif op.kind == Kind.REALLOC and self._fits(op.size, before := self._footprint(self.live[op.name].size)):
            self._used -= before
            self.names.remove(op.name)
            self._live(op.name, op)

    def _live(self, name: int, op: Operation) -> None:
        self.live[name] = op
        self.names.append(name)
        self.names.sort()
        self._used += self._footprint(op.size)

    def _footprint(self, size: int) -> int:
        granule = self._contract.granule
        return (size + granule - 1) // granule * granule + self._contract.header

    def _fits(self, size: int, spare: int) -> bool:
        largest = self._contract.largest or self._room
        return 0 < size <= largest and self._used - spare + self._footprint(size) <= self._room


def foretell(
    body: bytes, contract: Contract, can: Callable[[Kind], bool] = lambda kind: True, *, every_kind: bool = False
) -> list[Operation]:
    """The operations of a run.  ``can``: what the target can do.  ``every_kind``: never only what a batch does.

    O(operations * live).
    """
    head, codec = Head(body[:LENGTH]), Codec(contract)
    wanted = list(Kind) if every_kind or not in_one_call(body) else [Kind(kind) for kind in BATCHED]
    heap = _Foreseen(contract, frozenset(kind for kind in wanted if can(kind)))
    read, operations = Steering(head, codec, heap).read, list[Operation]()  # type: ignore[arg-type]  # all it looks at
    for (number,) in iter_unpack("<I", body[LENGTH : len(body) & ~3]):
        code = read(number)
        if code and (op := codec.decode(code, heap.names, heap.births))[0]:
            operations.append(op)
            heap.do(op)
    return operations


class Foretold(Fuzzed):
    """A run of operations that were known before, each a call of its own, under all laws."""

    def __init__(
        self, build: Callable[[], Any], body: bytes, mute: Iterable[str], operations: Sequence[Operation]
    ) -> None:
        self._planned = operations
        super().__init__(build, body, mute)

    def _feed(self) -> None:
        for number, op in enumerate(self._planned, 1):
            self.operations.append(op)
            self.watch.step(op)
            if not number % SAMPLE_STATES:
                self.states.append(abstract(self.checker))


class OneCall:
    """A run whose operations are done, and looked at, by one call of C (see ``impls.native.watching``)."""

    def __init__(self, build: Callable[[], Any], operations: Sequence[Operation]) -> None:
        self._build, self._operations = build, operations
        self.watched: Watched | None = None

    def go(self) -> Violation | None:
        """The first violation, or None.  Raises UnconfirmedError where C suspects what the checker does not find."""
        names = 1 + max((op.name for op in self._operations), default=0)
        self.watched = watched = Watched(self._build, names)
        found = watched.run(self._operations) or watched.finish()
        if found is None:
            watched.target.destroy()
        else:
            watched.target.abandon()
        return found

    def enter(self, tally: Tally) -> None:
        """Count the run."""
        if (watched := self.watched) is not None:
            tally.operations += watched.operations
            tally.runs += 1
            tally.refusals += watched.checker.refusals
            tally.evidence.update(watched.evidence())
