"""Bugs of the small related object group allocator: each defect of the posting by itself, and a derived one.

>>> from heaplaw.impls.bugs import find
>>> find("srog", "SR02").law
'coalesced'
"""

from heaplaw.impls.srog import Srog
from heaplaw.impls.srog_promises import HEAD

from . import bug

_POSTED = "mm/srog.c as posted on 12 August 2006"


@bug(
    "SR01", "srog", "linking two groups leaves out the head of the second ring, from which nobody comes back",
    source=_POSTED, law="conservation",
)  # fmt: skip
class SplicesWithoutHead(Srog):
    def srog_link(self, hint: int, other: int) -> None:
        self._splice_without_head(self._srog_of(other), self._srog_of(hint))


@bug(
    "SR02", "srog", "the insertion sort of free areas stops where it starts, so that they do not merge",
    source=_POSTED, law="coalesced",
)  # fmt: skip
class InsertsInFront(Srog):
    def _insert(self, head: int, area: int) -> tuple[int, int | None]:
        words, anchor = self._words, head + 2
        after = next(self._areas(head), None)
        words[area + 1], words[anchor + 1] = words[anchor + 1], self._pointer(area)
        return anchor, after


@bug(
    "SR03", "srog", "a remainder of 4 bytes is made a free area, whose header takes 8",
    source=_POSTED, law="handle-stable",
)  # fmt: skip
class TakesAnyRemainder(Srog):
    def _least_rest(self) -> int:
        return 1


@bug(
    "SR04", "srog", "the order of a new run is that of the object without the head of the run",
    source="derived from " + _POSTED, law="returns", derived=True,
)  # fmt: skip
class OrderWithoutHead(Srog):
    def _new_srog(self, whole: int) -> int | None:
        return super()._new_srog(whole - HEAD)


@bug(
    "SR05", "srog", "linking two objects of one group splits their ring",
    source="derived from " + _POSTED, law="conservation", derived=True,
)  # fmt: skip
class LinksWithItself(Srog):
    def srog_link(self, hint: int, other: int) -> None:
        self._splice_rings(self._srog_of(other), self._srog_of(hint))
