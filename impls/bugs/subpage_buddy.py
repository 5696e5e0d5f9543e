"""Bugs of buddy allocators, carried over to the one inside pages.

>>> from heaplaw.impls.bugs import find
>>> find("subpage-buddy", "B15").source
'zephyr 8cf7ff5e, 2017'
"""

from heaplaw.impls.pages_arithmetic import upper_half
from heaplaw.impls.subpage_buddy import SubpageBuddy
from heaplaw.protocol import Context, Refusal

from . import bug


@bug(
    "B13", "subpage-buddy", "the length of the smallest parts is rounded up, so that the last reaches past the block",
    source="zephyr issue 15279, 2019", law="returns", derived=True,
    note="there a block was split into four quarters of a multiple of 4 bytes; here halves of the smallest block",
)  # fmt: skip
class RoundsTheParts(SubpageBuddy):
    def _split(self, heads: bytearray, block: int, low: int, high: int) -> None:
        if low > self._least or high == low:
            super()._split(heads, block, low, high)
            return
        super()._split(heads, block, low + 1, high)
        self._insert(heads, upper_half(block, low) + self._smallest, low)


@bug(
    "B15", "subpage-buddy", "blocks are halved below the smallest that a block may be",
    source="zephyr 8cf7ff5e, 2017", law="geometry", derived=True,
    note="there the nodes of lists wrote over neighbours; here several blocks share a byte that says what they are",
)  # fmt: skip
class NoSmallest(SubpageBuddy):
    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> int | Refusal | None:
        self._smallest = 1
        return super().alloc(size, align)


@bug(
    "T55", "subpage-buddy", "an address outside all pages is freed into the heap",
    source="AssemblyScript fc3ee109d, 2019", law="bad-free-rejected", derived=True,
    note="there by a resize of static data; here by a free, since the heap has no resize",
)  # fmt: skip
class FreesForeign(SubpageBuddy):
    def free(self, handle: int | None) -> None:
        if handle is None or handle >> self._shift in self._heads or handle >> self._shift in self._runs:
            super().free(handle)
            return
        heads = self._heads[handle >> self._shift] = bytearray(self._page_size >> self._least)
        self._insert(heads, handle, self._least)


@bug(
    "SB01", "subpage-buddy", "a list that a merge takes the last block off stays marked as filled",
    source="derived from yvt/rlsf d19e449, where the mark went and the block stayed", law="bitmap", derived=True,
)  # fmt: skip
class LeavesTheMark(SubpageBuddy):
    def _unlink(self, heads: bytearray, block: int, order: int) -> None:
        marks = self._nonempty
        super()._unlink(heads, block, order)
        self._nonempty = marks
