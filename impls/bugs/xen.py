"""Bugs of Xen's two allocators, xmalloc_tlsf and the first-fit xmalloc before it, and some carried over to them.

>>> from heaplaw.impls.bugs import find
>>> find("xen-tlsf", "T56").law
'aligned'
"""

from heaplaw.impls.tlsf_mapping import Geometry
from heaplaw.impls.xen_tlsf import XenTlsf
from heaplaw.impls.xen_xmalloc import XenXmalloc
from heaplaw.protocol import Refusal

from . import bug

# ---- xmalloc_tlsf ------------------------------------------------------------------------


@bug(
    "T56", "xen-tlsf", "the order that an alignment calls for is computed and not used",
    source="Xen ac2cba2901, 2014", law="aligned", variants=("pages=12,whole=trim", "pages=16,page_size=256,whole=trim"),
)  # fmt: skip
class ForgetsTheAlignment(XenTlsf):
    def _whole_order(self, size: int, align: int) -> int:
        return super()._whole_order(size, 1)


@bug(
    "T57", "xen-tlsf", "sizes that the pool cannot serve, for the padding of its regions, go nowhere else",
    source="Xen ba0d6cfc6b, 2009", law="no-spurious-refusal",
    note="one threshold parted the sizes for allocating and for freeing; here whole pages know themselves when freed",
)  # fmt: skip
class OneThreshold(XenTlsf):
    def _xmalloc(self, size: int, align: int) -> int | None:
        padded = size + align - self._unit
        if padded > self._page_size - 2 * self._overhead:
            return super()._xmalloc(size, align)
        block = self._pool_alloc(padded)
        return self._add_padding(block, align) if block else None


@bug(
    "T62", "xen-tlsf", "a split leaves free blocks that have a header and no payload",
    source="Xen adf8ac61ad, 2005", law="free-list",
    note="was in the first-fit xmalloc, where such a block is waste; here it has no room for the links of its list",
)  # fmt: skip
class SplitsOffBareHeaders(XenTlsf):
    def _make_lists(self, g: Geometry) -> None:
        super()._make_lists(g._replace(header=g.word))


@bug(
    "XT01", "xen-tlsf", "a size that is in order wraps around the word when the padding of its alignment is added",
    source="derived from the guard against wrapped sizes that Xen has since 4.3", law="big-enough", derived=True,
)  # fmt: skip
class PaddingWraps(XenTlsf):
    def _xmalloc(self, size: int, align: int) -> int | None:
        wrapped = (size + align - self._unit) & self._mask
        if wrapped < size <= self._mask and (block := self._pool_alloc(wrapped)):
            return self._add_padding(block, align)
        return super()._xmalloc(size, align)


@bug(
    "XT02", "xen-tlsf", "growing in place, an aligned object counts the padding in front of it as room",
    source="derived from _xrealloc of Xen 4.17", law="geometry", derived=True,
    variants=("pages=12,whole=trim", "pages=16,page_size=256,whole=trim"),
)  # fmt: skip
class GrowsIntoItsPadding(XenTlsf):
    def _realloc(self, handle: int, size: int) -> int | Refusal | None:
        if handle & (self._page_size - 1) and 0 < size <= self.extents(self._strip_padding(handle) << self._bits)[0][2]:
            return handle
        return super()._realloc(handle, size)


# ---- the first-fit xmalloc -----------------------------------------------------------------


@bug(
    "T61", "xen-xmalloc", "free blocks that touch are merged though they belong to different pages",
    source="Xen 40b52a8455, 2005", law="conservation",
)  # fmt: skip
class MergesAcrossPages(XenXmalloc):
    def _same_page(self, one: int, two: int) -> bool:
        return True


@bug(
    "G33", "xen-xmalloc", "the first-fit walk moves the list's head along, and loses every block that is too short",
    source="rustwasm/wee_alloc issue 106, 2022", law="free-list", derived=True,
)  # fmt: skip
class WalksWithTheHead(XenXmalloc):
    def _first_fit(self, total: int) -> int | None:
        while self._first != self._head and self._words[(self._first >> 3) - 1] < total:
            self._list_del(self._first)
        return super()._first_fit(total)


@bug(
    "G40", "xen-xmalloc", "a split does not write the size of the first part, whose free takes the rest along",
    source="FreeRTOS-Amiga pull request 14, 2020", law="disjoint", derived=True,
)  # fmt: skip
class KeepsTheWholeSize(XenXmalloc):
    def _maybe_split(self, block: int, size: int, whole: int) -> None:
        super()._maybe_split(block, size, whole)
        self._words[block >> 3] = whole
