"""Bugs of the TLSF family in splitting and merging blocks.

>>> from heaplaw.impls.bugs import find
>>> heap = find("tlsf", "T10").build(arena=1024)
>>> heap.extents(heap.alloc(24))
((0, 8, 1008),)
"""

from heaplaw.impls.bits import align_up
from heaplaw.impls.tlsf import Tlsf

from . import bug

_FREE, _PREV_FREE, _FLAGS = 1, 2, 3


class Unmerged(Tlsf):
    """Does not merge a block that is freed with a free one behind it in some cases."""

    def free(self, handle: int) -> None:
        words = self._words
        block = handle >> self._bits
        size = words[block - 1] & ~_FLAGS
        after = block + (size >> self._bits) + 1
        tail = words[after - 1]
        if not (tail & _FREE and self._stays_apart(block, size, after, tail & ~_FLAGS)):
            super().free(handle)
            return
        words[after - 1] &= ~_FREE  # counts as used while this one is freed
        super().free(handle)
        words[after - 1] |= _FREE

    def _stays_apart(self, block: int, size: int, after: int, behind: int) -> bool:
        """Is a block of ``size`` bytes not merged with the free one of ``behind`` bytes after it?"""
        raise NotImplementedError


@bug(
    "T10", "tlsf", "a block is cut to the least size of the list that it was found on, not to the request",
    source="jserv/tlsf-bsd 883e9c0, 2025; sysprog21/tlsf-bsd PR 32, 2026", law="waste-bound",
)  # fmt: skip
class CutToTheList(Tlsf):
    def _use(self, block: int, size: int) -> int:
        return super()._use(block, max(size, self._g.list_start(self._words[block - 1] & ~_FLAGS)))


@bug(
    "T40", "tlsf", "what remains of a split block is computed from a size that the request has overwritten",
    source="sebbbi/OffsetAllocator e0d6f2f, 2023", law="tiling",
)  # fmt: skip
class NothingRemains(Tlsf):
    def _use(self, block: int, size: int) -> int:
        whole = self._words[block - 1] & ~_FLAGS
        if whole < size + self._header:
            return super()._use(block, size)
        self._words[block - 1] = size | self._words[block - 1] & _PREV_FREE
        return block << self._bits


@bug(
    "T41", "tlsf", "a split leaves the back link of the block behind pointing at the first part",
    source="sebbbi/OffsetAllocator e0d6f2f, 2023", law="free-list",
)  # fmt: skip
class StaleBackLink(Tlsf):
    def _use(self, block: int, size: int) -> int:
        end = block + ((self._words[block - 1] & ~_FLAGS) >> self._bits)
        before = self._words[end - 1]
        handle = super()._use(block, size)
        self._words[end - 1] = before
        return handle


@bug(
    "T43", "tlsf", "merging with the block behind unlinks the block in front once more",
    source="sebbbi/OffsetAllocator 8c37a6b, 2023", law="free-list",
)  # fmt: skip
class UnlinksTheWrongOne(Tlsf):
    _unlinked: list[tuple[int, int]] | None = None  # in the free that is under way

    def free(self, handle: int) -> None:
        self._unlinked = []
        try:
            super().free(handle)
        finally:
            self._unlinked = None

    def _remove(self, block: int, size: int) -> None:
        if self._unlinked:
            block, size = self._unlinked[0]
        super()._remove(block, size)
        if self._unlinked is not None:
            self._unlinked.append((block, size))


@bug(
    "T51", "tlsf", "neighbours are not merged where they would exceed the largest size together",
    source="AssemblyScript de2845bfe, 2021", law="coalesced",
    note="the largest size that is served stands for a block's largest size, 1 GiB there",
)  # fmt: skip
class TooLargeToMerge(Unmerged):
    def _stays_apart(self, block: int, size: int, after: int, behind: int) -> bool:
        return size + self._word + behind > self.contract.largest


@bug(
    "G30", "tlsf", "padding too small for a block goes with the block, but never comes back with it",
    source="linked_list_allocator 7cca404, issue 66, 2022", law="tiling", derived=True,
    note="carried over; there the free is told the size without it, here the size word leaves it out",
)  # fmt: skip
class LosesThePadding(Tlsf):
    def _use(self, block: int, size: int) -> int:
        whole = self._words[block - 1] & ~_FLAGS
        padding = whole - size - self._word
        handle = super()._use(block, size)
        if 0 < padding < self._header - self._word:  # too short to be split off; it looks like a block in use
            self._words[block - 1] = size | self._words[block - 1] & _PREV_FREE
            self._words[block + (size >> self._bits)] = padding
        return handle


@bug(
    "G31", "tlsf", "a block whose alignment gap is too small for a block is passed over, not aligned further",
    source="linked_list_allocator 9add9b9, 2016", law="no-spurious-refusal", derived=True, note="carried over",
)  # fmt: skip
class RejectsSmallGaps(Tlsf):
    def _alloc_aligned(self, adjusted: int, align: int) -> int | None:
        number = self._search(self._g.with_gap(adjusted, align))
        start = self._heads[number] << self._bits
        if number >= 0 and 0 < align_up(start, align) - start < self._g.header:
            return None
        return super()._alloc_aligned(adjusted, align)


@bug(
    "G32", "tlsf", "a block is not merged with the last free one before the region's end",
    source="linked_list_allocator PR 64, 2022", law="coalesced", derived=True, note="carried over",
)  # fmt: skip
class NotAtTheEnd(Unmerged):
    def _stays_apart(self, block: int, size: int, after: int, behind: int) -> bool:
        return not self._words[after + (behind >> self._bits)] & ~_FLAGS  # the sentinel
