"""From codes back to operations: a state's way retold on a fresh target, without its snapshots.

>>> from heaplaw.impls.registry import factory
>>> from heaplaw.properties.alphabet import alphabet
>>> build = factory("tlsf,arena=256")
>>> letters = alphabet(build().contract, {1, 2}, (8, 24))
>>> [op.name for op in Retelling(build, letters).tell([0, 1, 3 | 1 << 8])]
[0, 1, 1]
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from heaplaw.checker import Hang, Unusable
from heaplaw.lawbook import LAWS
from heaplaw.operations import Operation
from heaplaw.shadow import Block

from .alphabet import Alphabet, codes, operation
from .positions import KeepError, Position, Prober, entry, fingerprint
from .transitions import keep, unkeep
from .watchdog import watchdog

_SECONDS = 0.5  # CPU time for one operation; what takes longer hangs


class Retelling:
    """Retells for one target and alphabet, no law asked."""

    def __init__(self, build: Callable[[], Any], letters: Alphabet) -> None:
        self._build, self._letters = build, letters
        self._prober = Prober(build(), mute=LAWS)

    def tell(self, way: Sequence[int]) -> list[Operation]:
        """The operations that the codes mean, one after the other; the last one may do what it will."""
        prober = Prober(self._build(), mute=LAWS)
        return list(self._tell(prober, way))

    def arrive(self, way: Sequence[int]) -> tuple[int, bytes]:
        """(fingerprint, position) of where they lead; 0 if the target breaks down on the way."""
        prober = Prober(self._build(), mute=LAWS)
        try:
            position = _position(prober)
            for _ in self._tell(prober, way):
                position = _position(prober)
        except Unusable:
            return 0, b""
        mark = fingerprint(position, prober.shape)
        return mark, keep(position, mark)

    def fickle(self, kept: bytes) -> int | None:
        """A code that leads from a position to another one the second time."""
        position, _ = unkeep(kept)
        for code in codes(self._letters, len(position.live)):
            with suppress(Unusable):
                if self.follow(kept, code)[0] != self.follow(kept, code)[0]:
                    return code
        return None

    def follow(self, kept: bytes, code: int) -> tuple[int, bytes]:
        """(fingerprint, position) of one step from a position.  Raises Unusable where it breaks down."""
        prober = self._prober
        position, _ = unkeep(kept)
        prober.take(position)
        live = len(position.live)
        _do(prober, operation(self._letters, code, range(live), live))
        after = _position(prober)
        mark = fingerprint(after, prober.shape)
        return mark, keep(after, mark)

    def _tell(self, prober: Prober, way: Sequence[int]) -> Iterator[Operation]:
        """Each operation once it is done."""
        for at, code in enumerate(way):
            names = [block.name for block in in_place(prober)]
            op = operation(self._letters, code, names, prober.births)
            try:
                _do(prober, op)
            except Unusable:
                if at + 1 < len(way):
                    raise
            yield op


def in_place(prober: Prober) -> list[Block]:
    """Live blocks in canonical order."""
    blocks = list(prober.shadow.live.values())
    try:
        return sorted(blocks, key=entry)
    except TypeError:
        return sorted(blocks, key=lambda block: (entry(block)[:-1], repr(block.handle)))


def _position(prober: Prober) -> Position:
    """Where the prober stands.  Raises Unusable where the heap is so broken that it cannot be walked."""
    try:
        with watchdog(_SECONDS):
            return prober.position()
    except KeepError:
        raise
    except (Exception, Hang) as problem:
        raise Unusable(str(problem)) from problem


def _do(prober: Prober, op: Operation) -> None:
    prober.index += 1
    prober.op = op
    try:
        with watchdog(_SECONDS):
            prober._handlers[op.kind](op)
    except Unusable:
        raise
    except (Exception, Hang) as problem:
        raise Unusable(str(problem)) from problem
