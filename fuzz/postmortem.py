"""What took a process along: the trace that does it again, made small.

Every try runs in a fork, which may crash, hang or eat memory as it likes.  Nobody told which configuration was
running, so each is tried.  Hangs are asked for with little patience, and the last word has more of it.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from heaplaw.impls.registry import factory, variants
from heaplaw.lawbook import LAWS
from heaplaw.operations import Operation
from heaplaw.properties.minimize import minimize
from heaplaw.trace import Trace

from .child import CRASH, HANG
from .forkserver import MEMORY_OF_A_TRY, Outcome, attempt

_PATIENCE = 2.0  # seconds that a try may take where it has the last word
_HASTE, _TIMES = 0.05, 5  # of CPU time, on the way there: at least, and so many times what it takes that does not hang
_TRIES, _LOOKS, _SLOW = 300, 100, 4  # of a round; where each costs its whole limit, so many times less


class Cause(NamedTuple):
    """What a trace does to its process; an empty symptom: nothing of the kind."""

    kind: str = ""
    symptom: str = ""  # SIGSEGV, status 9, a hang
    target: str = ""
    operations: Sequence[Operation] = ()
    words: str = ""  # that it said at its end

    @property
    def trace(self) -> Trace:
        """As a trace file: a call did not return."""
        return Trace(list(self.operations), {"target": self.target, "law": "returns"})


def examine(
    target: str, operations: Sequence[Operation], kind: str, seconds: float, *, mute: Iterable[str] = (),
    patience: float = _PATIENCE, memory: int = MEMORY_OF_A_TRY,
) -> Cause:  # fmt: skip
    """The least that takes a process along like that, and so many seconds to make it small.

    ``target``: in any of its configurations.  An empty Cause where the operations are harmless in all of them.  What
    breaks a law before it takes the process along is looked at with all laws silent, where ``mute`` ones do not do.
    """
    for variant in variants(target):
        build = factory(variant)
        for silent in (tuple(mute), tuple(law for law in LAWS if law != "returns")):
            again = _Again(build, silent, memory)
            seen = again(operations, patience)
            if seen.kind and (kind == HANG) == (seen.kind == HANG):
                small = again.smallest(operations, seen, seconds, patience)
                words = again(small, patience).words or seen.words
                return Cause(seen.kind, seen.symptom, variant, small, words)
    return Cause()


class _Again:
    """Tries of operations on one target, with the same laws silent."""

    def __init__(self, build: Callable[[], Any], mute: Sequence[str], memory: int) -> None:
        self._build, self._mute, self._memory = build, mute, memory

    def __call__(self, operations: Sequence[Operation], patience: float, **how: Any) -> Outcome:
        return attempt(self._build, operations, patience, mute=self._mute, memory=self._memory, **how)

    def smallest(
        self, operations: Sequence[Operation], seen: Outcome, seconds: float, patience: float
    ) -> list[Operation]:
        """The least with the same symptom, in the time that there is."""
        deadline = time.monotonic() + seconds
        usual = self(operations[:-1], patience).seconds if seen.kind == HANG else seen.seconds
        haste, less = max(_HASTE, _TIMES * usual), 1 if seen.kind == CRASH else _SLOW

        def same(some: Sequence[Operation]) -> bool:
            return self(some, haste, each=0.0).symptom == seen.symptom

        small = minimize(operations, same, _TRIES // less, _LOOKS // less, deadline=deadline)
        return small if self(small, patience).symptom == seen.symptom else list(operations)
