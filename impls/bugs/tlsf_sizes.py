"""Bugs of the TLSF family in what becomes of a request's size: limits, alignment, rounding, overflow.

>>> from heaplaw.impls.bugs import find
>>> heap = find("tlsf", "T04").build()
>>> heap.extents(heap.alloc(2**64 - 1))
((0, 8, 24),)
"""

from collections.abc import Callable

from heaplaw.impls.bits import align_up, is_power_of_two
from heaplaw.impls.tlsf import Tlsf
from heaplaw.impls.tlsf_mapping import Geometry, insert, round_up, wrapped_align
from heaplaw.protocol import Context, Refusal

from . import bug


class OtherSizes(Tlsf):
    """Makes payloads of requests in a way of its own; as the target does where nothing is overridden."""

    def _payload_rule(self, g: Geometry) -> Callable[[int], int]:
        return self._payload

    def _payload(self, size: int) -> int:
        """Payload to look for and to keep, 0 when out of range; ``size`` fits in a word."""
        g = self._g
        aligned = self._aligned(size) if size < g.most else 0
        rounded = g.round_up(max(aligned, g.least))
        return rounded if aligned and rounded < g.most else 0

    def _aligned(self, size: int) -> int:
        """``size`` as a multiple of the word."""
        return align_up(size, self._word)


class UncheckedSearch(OtherSizes):
    """Reads the row that a search begins in without asking whether there is one."""

    def _search(self, size: int) -> int:
        _ = self._row_bits[insert(round_up(size, self._shift, self._sl, self._mask), self._shift, self._sl) >> self._sl]
        return super()._search(size)


@bug(
    "T01", "tlsf", "rounding the size for the search runs off the table of rows",
    source="mattconte/tlsf 72601dd, 2017", law="returns", variants=("arena=4088,top=12", "arena=2040,word=32,top=11"),
    note="blocks stay below a limit near the arena's size, as in ESP-IDF and LVGL: the published one is 4 GiB",
)  # fmt: skip
class RoundsPastTheLimit(UncheckedSearch):
    def _payload(self, size: int) -> int:
        aligned = self._aligned(size)
        return self._g.round_up(max(aligned, self._g.least)) if aligned < self._g.most else 0


@bug(
    "T02", "tlsf", "a size is limited before it is aligned, and becomes the limit itself",
    source="mattconte/tlsf 2b73b8a, 2016", law="returns",
)  # fmt: skip
class LimitsBeforeAligning(UncheckedSearch):
    def _payload(self, size: int) -> int:
        return self._g.round_up(max(self._aligned(size), self._g.least)) if size < self._g.most else 0


@bug(
    "T04", "tlsf", "a size near the machine's maximum wraps to 0 when aligned, and is served the smallest block",
    source="mattconte/tlsf issue 22, 2021", law="big-enough",
)  # fmt: skip
class WrapsWhenAligned(OtherSizes):
    def _payload(self, size: int) -> int:
        aligned = wrapped_align(size, self._word, self._mask)
        return super()._payload(max(aligned, 1))


@bug(
    "T09", "tlsf", "a block is cut to the request, not to the size that was searched for",
    source="espressif/tlsf 81d3779, 2024; jserv/tlsf-bsd 1ccadf1, 2025", law="free-then-alloc",
)  # fmt: skip
class CutToTheRequest(OtherSizes):
    def _payload(self, size: int) -> int:
        return max(self._aligned(size), self._g.least) if super()._payload(size) else 0


@bug(
    "T11", "tlsf", "the test for a request of nothing looks at the pointer to the size, not at the size",
    source="espressif/tlsf 0c8ce8f, 2024", law="bad-size-rejected",
)  # fmt: skip
class ServesNothing(Tlsf):
    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> int | Refusal | None:
        if size:
            return super().alloc(size, align)
        self._found = self._probed = self._scanned = 0
        block = self._take(0)
        return self._use(block, 0) if block else None


@bug(
    "T15", "tlsf", "the constant of the rounding does not go with its mask: (size + 3) & ~7",
    source="lvgl issue 1549, 2020", law="big-enough",
)  # fmt: skip
class RoundsByHalfAWord(OtherSizes):
    def _aligned(self, size: int) -> int:
        return (size + self._word // 2 - 1) & -self._word


@bug(
    "T20", "tlsf", "aligning is rewritten so as not to overflow, and overflows by its last step",
    source="jserv/tlsf-bsd db81bd6, 2023; mended in 075a736, 2025", law="bad-size-rejected",
)  # fmt: skip
class StillWraps(OtherSizes):
    def _payload(self, size: int) -> int:
        return super()._payload(max(((size - 1 | self._word - 1) + 1) & self._mask, 1))


@bug(
    "T69", "tlsf", "blocks may be smaller than the links that a free one keeps in them",
    source="odin-lang/Odin PR 4820, 2025", law="tiling",
)  # fmt: skip
class NoSmallestBlock(OtherSizes):
    def _payload(self, size: int) -> int:
        return self._g.round_up(self._aligned(size)) if super()._payload(size) else 0


@bug(
    "G02", "tlsf", "a fast path for small sizes looks at the size before anything has limited it",
    source="glibc BZ 22375 (CVE-2017-17426), 34697694e8", law="big-enough", derived=True,
    note="carried over from glibc's cache of freed chunks to a look at the small size's own list",
)  # fmt: skip
class UnlimitedFastPath(Tlsf):
    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> int | Refusal | None:
        g = self._g
        small = max(wrapped_align(size, g.word, g.mask), g.least)
        if 0 < size <= g.mask and align <= g.word and small < g.small:
            number = insert(small, g.shift, g.sl)
            if self._heads[number]:
                self._found = self._probed = self._scanned = 0
                return self._use(self._take(small), small)
        return super().alloc(size, align)


@bug(
    "G03", "tlsf", "the room for an alignment is added to the size unchecked, and the sum wraps",
    source="glibc BZ 22343 (CVE-2018-6485), 8e448310d7", law="big-enough", derived=True,
    note="carried over from glibc's memalign",
)  # fmt: skip
class PaddingWraps(Tlsf):
    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> int | Refusal | None:
        if align > self._word and is_power_of_two(align) and size <= self._mask:
            padded = self._g.with_gap(size, align)
            size = max(1, padded & self._mask) if padded > self._mask else size
        return super().alloc(size, align)


@bug(
    "G27", "tlsf", "the word's top bit, a flag in the size word, is tested before the size is aligned",
    source="FreeRTOS-Kernel c7a9a01c9, 2020; 8eb358525, 2022", law="big-enough", derived=True,
    note="carried over from FreeRTOS's heap_4; the flag itself is left out of the size, as there",
)  # fmt: skip
class TopBitTestedEarly(OtherSizes):
    def _payload(self, size: int) -> int:
        flag = (self._mask >> 1) + 1
        return 0 if size & flag else super()._payload(max(self._aligned(size) & ~flag, 1))
