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
    shadow, header = checker.shadow, checker.contract.header
    kind, name, size, align, _ = checker.op
    live = len(shadow).bit_length()
    if kind != 1 and kind != 2:
        return kind, live, checker.refusals.bit_length()
    block = shadow.live.get(name) if kind == 1 else checker.freed if checker.freed.name == name else None
    if block is None and kind == 1:
        return kind, live, True, size.bit_length(), align > 1, False, False, False
    if block is None or not block.extents:
        return kind, live, "nowhere"
    space, start, length = block.extents[0]
    left = shadow.clash(space, start - 1 - header, 1) is not None if start else None
    right = shadow.clash(space, start + length + header, 1) is not None
    return kind, live, False, size.bit_length(), align > 1, left, right, length > size


class Novelty:
    """Counts of abstract states."""

    def __init__(self, seen: Mapping[Hashable, int] | None = None) -> None:
        self.seen: Counter[Hashable] = Counter(seen or {})

    @property
    def chance(self) -> float:
        """Estimated chance that the next operation reaches a state not seen before."""
        total = self.seen.total()
        return sum(1 for count in self.seen.values() if count == 1) / total if total else 1.0
