"""Bugs of the TLSF family, of Conte's code, its copies and its kin: resizing, the pool, what is reported.

>>> from heaplaw.impls.bugs import find
>>> find("tlsf", "T31").title
'a resize frees the old block before it knows whether there is a new one'
"""

from dataclasses import replace

from heaplaw.impls.tlsf import Tlsf
from heaplaw.protocol import Refusal

from . import bug

_FLAGS = 3
_WASTE_THRESHOLD = 128  # bytes
_HALF = 1 << 16  # what a counter of half the width holds

# ---- resizing


@bug(
    "T05", "tlsf", "a resize to more than the maximum shrinks the block to nothing",
    source="mattconte/tlsf issue 22; LVGL 3324; espressif/tlsf 049f543, 2022", law="big-enough",
)  # fmt: skip
class ShrinksToNothing(Tlsf):
    def realloc(self, handle: int, size: int) -> int | Refusal | None:
        answer = super().realloc(handle, size)
        if answer is not Refusal.TOO_BIG:
            return answer
        self._trim_used(handle >> self._bits, 0)  # 0 is what a size out of range is adjusted to
        return handle


@bug(
    "T08", "tlsf", "a resize that moves a block forgets its alignment",
    source="mattconte/tlsf issue 36, 2025", law="aligned",
)  # fmt: skip
class ForgetsAlignment(Tlsf):
    def _move(self, handle: int, size: int, current: int) -> int | Refusal | None:
        self._alignments.pop(handle, None)
        return super()._move(handle, size, current)


@bug(
    "T24", "tlsf", "the back link of a block behind is written though it lies in the last word of one in use",
    source="jserv/tlsf-bsd ee93c80, PR 15, 2026", law="realloc-prefix",
    note="there on appending to the pool, behind its last block; here where a resize cuts a block",
)  # fmt: skip
class LinksIntoPayload(Tlsf):
    def _trim_used(self, block: int, size: int) -> None:
        before = self._words[block - 1]
        super()._trim_used(block, size)
        if self._words[block - 1] != before:
            self._words[block + (size >> self._bits) - 1] = block


@bug(
    "T31", "tlsf", "a resize frees the old block before it knows whether there is a new one",
    source="yvt/rlsf c334c62", law="realloc-failure",
)  # fmt: skip
class FreesFirst(Tlsf):
    def _move(self, handle: int, size: int, current: int) -> int | Refusal | None:
        align = self._alignments.get(handle, 1)
        kept = bytes(self._bytes[handle : handle + min(current, size)])
        self.free(handle)
        moved = self.alloc(size, align)
        if isinstance(moved, int):
            self._bytes[moved : moved + len(kept)] = kept
        return moved


@bug(
    "T33", "tlsf", "what a resize cuts off is not merged with the free block behind it",
    source="yvt/rlsf 917295b", law="coalesced",
)  # fmt: skip
class LeavesTheTailAlone(Tlsf):
    def _trim_used(self, block: int, size: int) -> None:
        words, bits = self._words, self._bits
        head = words[block - 1]
        whole = head & ~_FLAGS
        if whole < size + self._header:
            return
        rest, left = block + (size >> bits) + 1, whole - size - self._word
        words[block - 1] = size | head & _FLAGS
        words[rest - 1] = 0
        self._mark_free(rest, left)
        self._insert(rest, left)


@bug(
    "T53", "tlsf", "a resize frees the old block by a size word that it read before it allocated",
    source="AssemblyScript cd22a477b, 2020", law="realloc-prefix",
)  # fmt: skip
class StaleSizeWord(Tlsf):
    def _move(self, handle: int, size: int, current: int) -> int | Refusal | None:
        read_early = self._words[(handle >> self._bits) - 1]
        align = self._alignments.get(handle, 1)
        moved = self.alloc(size, align)
        if isinstance(moved, int):
            length = min(current, size)
            self._bytes[moved : moved + length] = self._bytes[handle : handle + length]
            self._words[(handle >> self._bits) - 1] = read_early
            self.free(handle)
        return moved


@bug(
    "T71", "tlsf", "a resize that leaves no room for a payload behind the block makes a free block there all the same",
    source="Zephyr PR 30852, 2020", law="tiling",
    note="there where the block behind is free, here where it is in use: with a free one, the target merges",
)  # fmt: skip
class EmptyTail(Tlsf):
    def _trim_used(self, block: int, size: int) -> None:
        kept, self._header = self._header, self._word
        try:
            super()._trim_used(block, size)
        finally:
            self._header = kept


@bug(
    "G06", "tlsf", "a block that shrinks by less than a threshold keeps its length",
    source="glibc BZ 30579, 2fb12bbd09, 2023", law="waste-bound", derived=True, note="carried over",
)  # fmt: skip
class KeepsWhatItHad(Tlsf):
    def _trim_used(self, block: int, size: int) -> None:
        if (self._words[block - 1] & ~_FLAGS) - size >= _WASTE_THRESHOLD:
            super()._trim_used(block, size)


# ---- the pool


@bug(
    "T16", "tlsf", "blocks are aligned to 4 bytes on a machine that needs 8",
    source="lvgl PR 10015, 2026", law="aligned", variants=("arena=4096", "arena=65536"),
)  # fmt: skip
class FourByteBlocks(Tlsf):
    def __init__(self, arena: int = 4096, sl: int = 5) -> None:
        super().__init__(arena, 32, sl)
        self.contract = replace(self.contract, granule=8)


@bug(
    "T23", "tlsf", "the size of a new pool counts the sentinel as free bytes, and the new sentinel lies outside",
    source="jserv/tlsf-bsd 6398d89, 2025; mended in 21c0689", law="in-bounds",
    note="there on appending to a pool, here on making it; the memory behind the arena is there to be overrun",
)  # fmt: skip
class CountsTheSentinel(Tlsf):
    def _make_pool(self, pool: int) -> None:
        self._bytes = memoryview(bytearray(self._arena + 2 * self._word))
        self._words = self._bytes.cast("Q" if self._word == 8 else "I")
        super()._make_pool(pool + 2 * self._word)


@bug(
    "T50", "tlsf", "the address of the arena's end needs a bit more than there are, and is 0",
    source="AssemblyScript e28f53663, 2023", law="limits-honest", variants=("arena=65536",),
    note="offsets of 16 bits, not of 32: the arena of 4 GiB that it takes there is too large here",
)  # fmt: skip
class EndWraps(Tlsf):
    def _make_pool(self, pool: int) -> None:
        if pool + 2 * self._word & (_HALF - 1):
            super()._make_pool(pool)


# ---- what is reported


@bug(
    "T14", "tlsf", "the largest free block is reported rounded down to a power of two",
    source="esp-idf issue 7808, 2021", law="counters",
)  # fmt: skip
class RoundedReport(Tlsf):
    def counters(self) -> dict[str, int]:
        counted = super().counters()
        return counted | {"largest_free": 1 << counted["largest_free"].bit_length() >> 1}
