"""Abstract states: how much of an allocator's behaviour a run has seen.

A state is coarse on purpose: what kind of operation, how it ended, how full the
heap is and what stands beside the place.  The share of states seen exactly once
estimates the chance that the next operation reaches a new one (Good and Turing).

>>> Novelty({"a": 3, "b": 1}).chance
0.25
"""

from collections import Counter
from collections.abc import Hashable, Mapping

from heaplaw.checker import Checker


def abstract(checker: Checker) -> Hashable:
    """The abstract state just reached.  O(log n)."""
    shadow = checker.shadow
    kind, _, size, align, _ = checker.op
    live = len(shadow).bit_length()
    if kind != 1 and kind != 2:
        return kind, live, checker.refusals.bit_length()
    block = checker.block
    if not block.extents:
        return kind, live, "nowhere"
    space, start, length = block.extents[0]
    left = shadow.clash(space, start - 1 - checker.contract.header, 1) is not None if start else None
    right = shadow.clash(space, start + length + checker.contract.header, 1) is not None
    return kind, live, checker.answer is None, size.bit_length(), align > 1, left, right, length > size


class Novelty:
    """Counts of abstract states."""

    def __init__(self, seen: Mapping[Hashable, int] | None = None) -> None:
        self.seen: Counter[Hashable] = Counter(seen or {})

    @property
    def chance(self) -> float:
        """Estimated chance that the next operation reaches a state not seen before."""
        total = self.seen.total()
        return sum(1 for count in self.seen.values() if count == 1) / total if total else 1.0
