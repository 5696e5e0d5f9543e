"""Wrong kernels: targets with one constant or operator changed, for which a theorem must have a counterexample.

They stand beside the gallery of real bugs, for theorems that no bug there contradicts.  Some are classes;
others are the target itself, loaded anew from a text in which one expression reads otherwise.

>>> from heaplaw.impls.registry import factory
>>> factory("heaplaw.properties.proofs.wrong_kernels:OneRowUp")().alloc(8)
8
"""

import ast
import importlib
from collections.abc import Callable
from functools import cache
from typing import Any

from heaplaw.impls.afmalloc import Afmalloc
from heaplaw.impls.buddy import Buddy
from heaplaw.impls.kmalloc import Kmalloc
from heaplaw.impls.percpu_bitmap import PercpuBitmap
from heaplaw.impls.registry import BUILT_IN
from heaplaw.impls.subpage_buddy import SubpageBuddy
from heaplaw.impls.tlsf import Tlsf
from heaplaw.impls.tlsf_mapping import Geometry
from heaplaw.impls.xen_tlsf import XenTlsf
from heaplaw.impls.xen_xmalloc import XenXmalloc
from heaplaw.impls.xvmalloc import Xvmalloc
from heaplaw.protocol import Context, Refusal

from ..mutation import Finder, loaded_anew, text_of


@cache
def changed(target: str, module: str, before: str, after: str) -> Any:
    """The class of a built-in target, where a module of ``impls`` says ``after`` and not ``before``.

    ValueError unless ``before`` stands there exactly once: what it was about may have been written anew.
    """
    name, known = f"heaplaw.impls.{module}", BUILT_IN[target]
    text = text_of(name)
    if text.count(before) != 1:
        raise ValueError(f"{module} says {before!r} {text.count(before)} times")
    with loaded_anew(Finder(name, ast.parse(text.replace(before, after)))):
        return getattr(importlib.import_module(known.module), known.cls)


# ---- tlsf ------------------------------------------------------------------------------------


class OneRowUp(Tlsf):
    """A payload begins a list of the row above its own: ``<< 1`` before it is rounded."""

    def _payload_rule(self, g: Geometry) -> Callable[[int], int]:
        return lambda size: g.request(g.request(size) << 1) if g.request(size) else 0


def drops_the_carry(**parameters: Any) -> Any:
    """``|`` for ``+``: the bit at the head of a size no longer carries into the row."""
    return changed("tlsf", "tlsf_mapping", "(doubled << sl) + (size", "(doubled << sl) | (size")(**parameters)


def gap_without_header(**parameters: Any) -> Any:
    """The room for an aligned payload leaves out the block that the gap in front must be."""
    before, after = "payload + align + self.header, align", "payload + align, align"
    return changed("tlsf", "tlsf_mapping", before, after)(**parameters)


# ---- pages and objects: buddy, subpage-buddy, kmalloc, slub, slab, srog ----------------------------


class OrderOfOneByteLess(Buddy):
    """The order is that of a request one byte shorter: ``size - 1`` for ``size``."""

    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> int | Refusal | None:
        return super().alloc(size - 1 if size > 1 else size, align, ctx=ctx)


class OrderOfOneByteMore(Buddy):
    """The order is that of a request one byte longer, up to the longest block: ``size >> shift``, and no ``- 1``."""

    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> int | Refusal | None:
        return super().alloc(size + 1 if 0 < size < self._largest else size, align, ctx=ctx)


def refuses_the_longest(**parameters: Any) -> Any:
    """``>=`` for ``>`` where a size is compared with the longest block of pages."""
    rule = "if size {} self._largest:\n            self._forget"
    return changed("buddy", "buddy", rule.format(">"), rule.format(">="))(**parameters)


def merges_upward_only(**parameters: Any) -> Any:
    """``|`` for ``^`` in the buddy of a block of pages: that of an upper half is itself."""
    return changed("buddy", "pages_arithmetic", "pfn ^ (1 << order)", "pfn | (1 << order)")(**parameters)


def merges_with_the_next(**parameters: Any) -> Any:
    """``+`` for ``^`` in the buddy of a block of pages: that of an upper half is the next block."""
    return changed("buddy", "pages_arithmetic", "pfn ^ (1 << order)", "pfn + (1 << order)")(**parameters)


def merges_to_the_upper(**parameters: Any) -> Any:
    """``|`` for ``& ~`` in the place of two blocks that have merged."""
    return changed("buddy", "pages_arithmetic", "pfn & ~(1 << order)", "pfn | (1 << order)")(**parameters)


def lists_the_lower_half(**parameters: Any) -> Any:
    """``& ~`` for ``|`` in the half that a split hands on: it is the one that is split on."""
    return changed("buddy", "pages_arithmetic", "return pfn | (1 << order)", "return pfn & ~(1 << order)")(**parameters)


def ninety_six_holds_more(**parameters: Any) -> Any:
    """The class of 96 bytes is said to hold 97."""
    return changed("kmalloc", "kmalloc_classes", "64 < size <= 96", "64 < size <= 97")(**parameters)


class PowersOfTwo(Kmalloc):
    """Classes are powers of two alone, though 96 and 192 are there."""

    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> int | Refusal | None:
        if 64 < size <= 192:
            size = 128 if size <= 128 else 256
        return super().alloc(size, align, ctx=ctx)


class IgnoresAlignment(SubpageBuddy):
    """``max(size, smallest)`` for ``max(size, align, smallest)`` in the block that a request needs."""

    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> int | Refusal | None:
        return super().alloc(size, 1, ctx=ctx)


def refuses_the_longest_run(**parameters: Any) -> Any:
    """``>=`` for ``>`` where a request is compared with the longest run of pages."""
    return changed("subpage-buddy", "subpage_buddy", "need > self._largest", "need >= self._largest")(**parameters)


def slots_rounded_down(**parameters: Any) -> Any:
    """The slots of SLUB are objects rounded down to words, not up."""
    rule = "size = align_up(object_size, WORD)"
    return changed("slub", "slub_order", rule, "size = object_size & -WORD")(**parameters)


def steps_rounded_down(**parameters: Any) -> Any:
    """From slot to slot of SLAB is rounded down to the alignment, not up."""
    return changed("slab", "slab_geometry", "return align_up(size, align), align", "return size & -align, align")(
        **parameters
    )


# ---- xvmalloc --------------------------------------------------------------------------------


class PadsByMasking(Xvmalloc):
    """A size is aligned down: the sum before the mask is missing."""

    def _padded(self, size: int) -> int:
        return size & -self._header


class LimitsTheRounded(Xvmalloc):
    """The limit is tested on 32 bits of the size, whatever the word."""

    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> int | Refusal | None:
        return super().alloc(size & 0xFFFFFFFF, align, ctx=ctx)


def files_from_nought(**parameters: Any) -> Any:
    """Lists are numbered as if blocks of no payload had one: ``- LEAST`` is missing where blocks are filed."""
    return changed("xvmalloc", "xvmalloc_index", "((limited & ~(DELTA - 1)) - LEAST)", "(limited & ~(DELTA - 1))")(
        **parameters
    )


class SearchesWhereItFiles(Xvmalloc):
    """A search rounds down to a list, as filing does: the sum before its mask is missing."""

    def _find_block(self, size: int) -> int:
        return super()._find_block(size & -8)


class PassesExactSizes(Xvmalloc):
    """A search adds a whole step before it masks: sizes that begin a list move one up."""

    def _find_block(self, size: int) -> int:
        return super()._find_block(size + 1)


class PagesFromZero(Xvmalloc):
    """A page stands in a link as its number, which for page 0 is that of none."""

    def _set_before(self, block: int, before: int) -> None:
        super()._set_before(block, before - self._page_size if before >= self._page_size else -1)

    def _before(self, block: int) -> int:
        before = super()._before(block)
        return before + self._page_size if before >= 0 else before


# ---- stores of compressed pages: zsmalloc --------------------------------------------------------


def _zsmalloc(module: str, before: str, after: str, parameters: Any) -> Any:
    return changed("zsmalloc", module, before, after)(**parameters)


def zsmalloc_forgets_the_handle(**parameters: Any) -> Any:
    """The class is that of a request without its handle: ``0`` for the header."""
    return _zsmalloc("zsmalloc", "class_index(size, self._header,", "class_index(size, 0,", parameters)


def zsmalloc_counts_the_handle_twice(**parameters: Any) -> Any:
    """The class is that of a request with two handles: ``2 *`` the header."""
    return _zsmalloc("zsmalloc", "class_index(size, self._header,", "class_index(size, 2 * self._header,", parameters)


def zsmalloc_leaves_the_table(**parameters: Any) -> Any:
    """The highest index is one more than there is: ``+ 1``."""
    return _zsmalloc("zsmalloc", "table.step, table.last)", "table.step, table.last + 1)", parameters)


def zsmalloc_lets_the_longer_win(**parameters: Any) -> Any:
    """Of chains that are used as highly the longest is chosen: ``>=`` for ``>``; the promises are not touched."""
    right = _zsmalloc("zsmalloc", "class_index(size,", "class_index(size,", parameters)
    right._table = _zsmalloc("zsmalloc_classes", "if percent > best", "if percent >= best", parameters)._table
    return right


def zsmalloc_leaves_no_tag_bit(**parameters: Any) -> Any:
    """A place is not shifted past the tag bit."""
    return _zsmalloc("zsmalloc_classes", "((1 << bits) - 1))) << TAG_BITS", "((1 << bits) - 1)))", parameters)


def zsmalloc_runs_on(**parameters: Any) -> Any:
    """An object goes on behind its page: ``pages[number] + 1`` for ``pages[number + 1]``."""
    return _zsmalloc("zsmalloc", "(pages[number + 1] * size,", "((pages[number] + 1) * size,", parameters)


# ---- stores of compressed pages: zbud ------------------------------------------------------------


def zbud_rounds_down(**parameters: Any) -> Any:
    """The chunks of a size are rounded down, one at least: ``size`` for ``size + chunk - 1``."""
    return changed("zbud", "zbud", "(size + self._chunk - 1) >> ", "max(self._chunk, size) >> ")(**parameters)


def zbud_searches_a_list_early(**parameters: Any) -> Any:
    """A search begins at the list of one free chunk less than it needs: ``chunks - 1``."""
    return changed("zbud", "zbud", "for index in range(chunks, ", "for index in range(chunks - 1, ")(**parameters)


def zbud_forgets_the_header(**parameters: Any) -> Any:
    """Which buddy it is, is told from the start of the page and not from that of its objects."""
    return changed("zbud", "zbud", "_LAST if (handle - self._chunk) &", "_LAST if handle &")(**parameters)


def zbud_counts_the_header_free(**parameters: Any) -> Any:
    """A page with one object is on the list of one chunk more than are free: ``+ 1``."""
    return changed(
        "zbud", "zbud", "BUDDIED if first and last else self._num_free_chunks(page)",
        "BUDDIED if first and last else self._num_free_chunks(page) + 1",
    )(**parameters)  # fmt: skip


# ---- xen-tlsf --------------------------------------------------------------------------------


class OrderOfTheSize(XenTlsf):
    """Pages are counted for the size alone: what its header takes is not added."""

    def _whole_pages(self, size: int) -> int:
        return super()._whole_pages(size - self._overhead)


class XenFilesTooHigh(XenTlsf):
    """Free blocks are filed by their size rounded up, as searches are."""

    def _insert(self, block: int, size: int) -> None:
        super()._insert(block, self._g.round_up(size))

    def _remove(self, block: int, size: int) -> None:
        super()._remove(block, self._g.round_up(size))


class XenPassesExactSizes(XenTlsf):
    """A search begins a byte higher: sizes that begin a list move one up."""

    def _search(self, size: int) -> int:
        return super()._search(size + 1)


def xen_drops_the_carry(**parameters: Any) -> Any:
    """``|`` for ``+``: the bit at the head of a size no longer carries into the row."""
    return changed("xen-tlsf", "tlsf_mapping", "(doubled << sl) + (size", "(doubled << sl) | (size")(**parameters)


def cuts_to_the_request(**parameters: Any) -> Any:
    """A payload is aligned, but not rounded up to the start of a list."""
    rounded = "size = g.round_up(max(align_up(size, g.word), g.least))"
    return changed("xen-tlsf", "xen_tlsf", rounded, "size = max(align_up(size, g.word), g.least)")(**parameters)


def unmarked_padding(**parameters: Any) -> Any:
    """A false header does not carry the flag that it is known by."""
    return changed("xen-tlsf", "xen_tlsf", "= pad | _FREE", "= pad")(**parameters)


def grows_by_the_alignment(**parameters: Any) -> Any:
    """``-`` for ``+``: the alignment is taken off what growing in place must have room for."""
    return changed(
        "xen-tlsf", "xen_tlsf",
        "padded = size + align - self._unit\n            if padded < self._page_size:\n                padded = max",
        "padded = size - align + self._unit\n            if padded < self._page_size:\n                padded = max",
    )(**parameters)  # fmt: skip


# ---- stores of compressed pages: afmalloc --------------------------------------------------------


class OnePieceMore(Afmalloc):
    """An object may have one piece more than was asked for: ``max_level + 1``."""

    def __init__(self, **parameters: Any) -> None:
        super().__init__(**parameters)
        self._max_level += 1


def afmalloc_counts_from_the_start(**parameters: Any) -> Any:
    """A place in a piece is counted from the object's start: ``address + low`` without ``- start``."""
    return changed("afmalloc", "afmalloc", "(address + low - start, ", "(address + low, ")(**parameters)


# ---- xen-xmalloc -----------------------------------------------------------------------------


class TotalsOfWholeLines(XenXmalloc):
    """A size is rounded down to lines: the sum before the mask is missing."""

    def _total(self, size: int) -> int:
        return (size + self._header) & -self._header


class OrderWithoutTheHeader(XenXmalloc):
    """Pages are counted for the size alone: the header is not added."""

    def _whole_pages(self, total: int) -> int | None:
        return super()._whole_pages(total - self._header)


def keeps_two_lines(**parameters: Any) -> Any:
    """A rest of a header and a line is not cut off."""
    return changed("xen-xmalloc", "xen_xmalloc", "return 2 * self._header", "return 3 * self._header")(**parameters)


# ---- nta -------------------------------------------------------------------------------------


def granules_rounded_down(**parameters: Any) -> Any:
    """A size is rounded down to granules, one at least."""
    before = "num = (size + self._granule - 1) >> self._granule_shift\n        at = self"
    after = "num = max(size >> self._granule_shift, 1)\n        at = self"
    return changed("nta", "nta", before, after)(**parameters)


def clears_one_more(**parameters: Any) -> Any:
    """``fill_bits`` covers one bit more than it is told."""
    return changed("nta", "nta_bits", "run = ((1 << num) - 1) << pos", "run = ((2 << num) - 1) << pos")(**parameters)


# ---- stores of compressed pages: xcfmalloc -------------------------------------------------------


def xcfmalloc_limit_without_header(**parameters: Any) -> Any:
    """The limit on the size leaves out the header: a page."""
    return changed(
        "xcfmalloc", "xcfmalloc_blocks", "self.max_alloc = page_size - self.header", "self.max_alloc = page_size"
    )(**parameters)


def xcfmalloc_forgets_a_header(**parameters: Any) -> Any:
    """A block is looked for by the size of what it is to hold, without its header."""
    return changed("xcfmalloc", "xcfmalloc", "flindex(size + self._header)", "flindex(max(1, size))")(**parameters)


def xcfmalloc_counts_headers_as_bytes(**parameters: Any) -> Any:
    """The header of a first part counts as bytes of the object."""
    return changed("xcfmalloc", "xcfmalloc", "left -= desc.size - header", "left -= desc.size")(**parameters)


# ---- percpu-area-map -------------------------------------------------------------------------


def passes_aligned_places(**parameters: Any) -> Any:
    """``align`` for ``align - 1``: a place that is aligned is passed over."""
    before, after = "head = ((candidate + align - 1) &", "head = ((candidate + align) &"
    return changed("percpu-area-map", "percpu_map", before, after)(**parameters)


def forgets_the_last_page(**parameters: Any) -> Any:
    """The last page that a request touches is rounded down: it need not be populated."""
    before, after = "hole >= -(-(off + head + size) // page)", "hole >= (off + head + size) // page"
    return changed("percpu-area-map", "percpu_map", before, after)(**parameters)


def maps_grow_fourfold(**parameters: Any) -> Any:
    """``* 4`` for ``* 2`` where a map is extended."""
    return changed("percpu-area-map", "percpu_map", "new_alloc *= 2", "new_alloc *= 4")(**parameters)


def slots_a_byte_low(**parameters: Any) -> Any:
    """A chunk stands where one byte less would: ``free - 1`` for ``free``."""
    before, after = "return self._slot_of_size(free)", "return self._slot_of_size(free - 1)"
    return changed("percpu-area-map", "percpu_area_map", before, after)(**parameters)


# ---- stores of compressed pages: compcache -------------------------------------------------------


def compcache_leaves_the_unit_out(**parameters: Any) -> Any:
    """A request is not rounded up to whole units."""
    return changed("compcache", "compcache", "= align_up(size, self._least)", "= size")(**parameters)


def compcache_ends_a_list_early(**parameters: Any) -> Any:
    """The last size of a list stands on the next one: ``size`` for ``size - 1``."""
    return changed("compcache", "compcache", "return (size - 1) // self._range", "return size // self._range")(
        **parameters
    )


def compcache_cuts_a_byte_long(**parameters: Any) -> Any:
    """The tail that is cut off begins a byte late."""
    return changed("compcache", "compcache", "Chunk(chunk.start + size, chunk.size - size)",
                   "Chunk(chunk.start + size + 1, chunk.size - size)")(**parameters)  # fmt: skip


def compcache_skips_single_bytes(**parameters: Any) -> Any:
    """A piece of a single byte is passed over: ``at + 1`` for ``at``."""
    return changed("compcache", "compcache", "if at < chunk.size and length", "if at + 1 < chunk.size and length")(
        **parameters
    )


# ---- percpu-bitmap ---------------------------------------------------------------------------


def bits_rounded_down(**parameters: Any) -> Any:
    """``size >> 2`` for ``(size + 3) >> 2``, one bit at least."""
    return changed("percpu-bitmap", "percpu_bitmap", "(size + 3) >> 2", "max(size >> 2, 1)")(**parameters)


class SizesOf32Bits(PercpuBitmap):
    """A size is cut to 32 bits before it is looked at."""

    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> int | Refusal | None:
        return super().alloc(size & 0xFFFFFFFF, align, ctx=ctx)


def slots_of_half_the_run(**parameters: Any) -> Any:
    """A chunk stands one slot lower, wholly free ones too: ``>> 1`` for the hinted run."""
    before, after = "bits = hint = chunk.whole.contig_hint\n", "bits = hint = chunk.whole.contig_hint >> 1\n"
    return changed("percpu-bitmap", "percpu_bitmap", before, after)(**parameters)


def gate_pads_the_most(**parameters: Any) -> Any:
    """The gate counts the most padding that an alignment can need, not what it does."""
    before, after = "return (-whole.contig_hint_start & (align - 1)) + bits", "return (align - 1) + bits"
    return changed("percpu-bitmap", "percpu_chunk", before, after)(**parameters)


def looks_past_the_first(**parameters: Any) -> Any:
    """A search for a clear bit begins one bit behind the place that it is told."""
    return changed("percpu-bitmap", "percpu_blocks", "rest = used >> at\n    return min(at +",
                   "at += 1\n    rest = used >> at\n    return min(at +")(**parameters)  # fmt: skip


def runs_from_the_area(**parameters: Any) -> Any:
    """A freed run begins no earlier than its area: the look downwards is missing."""
    before, after = "start = run_start(self.used[first], low)\n            self", "start = low\n            self"
    return changed("percpu-bitmap", "percpu_chunk", before, after)(**parameters)


def sieve_by_doubling(**parameters: Any) -> Any:
    """Runs are sifted out by powers of two: the last step is not cut to the length."""
    before, after = "step = min(have, length - have)", "step = have"
    return changed("percpu-bitmap", "percpu_blocks", before, after)(**parameters)


def worse_aligned(**parameters: Any) -> Any:
    """``<`` for ``>`` between the trailing zeros of two places."""
    before, after = "start & -start > than & -than", "start & -start < than & -than"
    return changed("percpu-bitmap", "percpu_blocks", before, after)(**parameters)
