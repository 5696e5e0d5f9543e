"""Bugs of the TLSF family in the free lists, the bitmaps over them, and the search.

>>> from heaplaw.impls.bugs import find
>>> heap = find("tlsf", "T27").build(arena=1024)
>>> heap.free(heap.alloc(24)); [tuple(listed) for listed in heap.lists()]
[((2, 29), (0, 40)), ((2, 31), (0, 8))]
"""

from heaplaw.impls.bits import lowest_bit
from heaplaw.impls.tlsf import Tlsf
from heaplaw.impls.tlsf_mapping import doublings, insert, round_up

from . import bug

_SIGN = 31  # the bit that a signed shift of 1 makes a negative number of


@bug(
    "T03", "tlsf", "1 << 31 is signed: its mask, widened, covers every bit above as well",
    source="mattconte/tlsf deff9ab, 2020", law="bitmap",
    note="bitmaps of 32 bits lie two to a word of 64, so that a mask too wide reaches the next row's",
)  # fmt: skip
class SignedMask(Tlsf):
    def _clear(self, number: int) -> None:
        super()._clear(number)
        row, second = number >> self._sl, number & ((1 << self._sl) - 1)
        if second == _SIGN and not row & 1 and row + 1 < len(self._row_bits):
            self._row_bits[row + 1] = 0


@bug(
    "T18", "tlsf", "the mask of the rows above the last one shifts by the whole word, and keeps the rows below",
    source="jserv/tlsf-bsd cf7c846, 2025", law="search-fit",
    note="a word has as many bits as there are rows; a shift by its width counts as one by 0, as machines do it",
)  # fmt: skip
class ShiftWraps(Tlsf):
    def _search(self, size: int) -> int:
        number = super()._search(size)
        row = insert(round_up(size, self._shift, self._sl, self._mask), self._shift, self._sl) >> self._sl
        if number >= 0 or row + 1 != len(self._row_bits) or not self._rows:
            return number
        row = lowest_bit(self._rows)
        return row << self._sl | lowest_bit(self._row_bits[row])


@bug(
    "T27", "tlsf", "unlinking the last block of a list clears its bit and leaves it the list's head",
    source="yvt/rlsf d19e449", law="free-list",
)  # fmt: skip
class KeepsTheHead(Tlsf):
    def _remove(self, block: int, size: int) -> None:
        super()._remove(block, size)
        number = insert(size, self._shift, self._sl)
        self._heads[number] = self._heads[number] or block


@bug(
    "T29", "tlsf", "a block pushed on a list is not made the back link of the one that stood first",
    source="yvt/rlsf 8478764", law="free-list",
)  # fmt: skip
class OneWayLinks(Tlsf):
    def _insert(self, block: int, size: int) -> None:
        super()._insert(block, size)
        if after := self._words[block]:
            self._words[after + 1] = 0


@bug(
    "T38", "tlsf", "the search gives up when the first row has blocks, but none large enough",
    source="sebbbi/OffsetAllocator 4b8e23e, 2023", law="no-spurious-refusal",
)  # fmt: skip
class OneRowOnly(Tlsf):
    def _search(self, size: int) -> int:
        number = super()._search(size)
        row = insert(round_up(size, self._shift, self._sl, self._mask), self._shift, self._sl) >> self._sl
        return number if number < 0 or number >> self._sl == row or not self._rows >> row & 1 else -1


@bug(
    "T39", "tlsf", "whether to round up is decided by the mask, not by the bits it masks: exact sizes move a list up",
    source="sebbbi/OffsetAllocator e0d6f2f, 2023", law="limits-honest",
)  # fmt: skip
class RoundsExactSizes(Tlsf):
    def _search(self, size: int) -> int:
        mask = (self._word << max(0, doublings(size, self._shift) - 1)) - 1
        return super()._search((size | mask) + 1 if mask >= self._word else size)


@bug(
    "T46", "tlsf", "free blocks are filed by their size rounded up, so that more requests find one",
    source="sebbbi/OffsetAllocator PR 11, 2025, and PR 14, 2026, rejected", law="search-fit",
)  # fmt: skip
class FiledTooHigh(Tlsf):
    def _insert(self, block: int, size: int) -> None:
        super()._insert(block, round_up(size, self._shift, self._sl, self._mask))

    def _remove(self, block: int, size: int) -> None:
        super()._remove(block, round_up(size, self._shift, self._sl, self._mask))


@bug(
    "G28", "tlsf", "a search that finds nothing runs into the end marker, which an assertion takes for a stray block",
    source="FreeRTOS-Kernel d5d752a9b, 2026", law="returns", derived=True,
    note="carried over from FreeRTOS's walk of one list to the search of many",
)  # fmt: skip
class AssertsAtTheEnd(Tlsf):
    def _take(self, size: int) -> int:
        block = super()._take(size)
        if not block:
            raise AssertionError("a block outside the heap")
        return block
