"""What Xen's xmalloc_tlsf promises: the arithmetic of the source, without its structures.

Each predicate sees requests, live objects and the ledger of pages, nothing of the allocator.

>>> contract, _, max_order = configured(pages=8, page_size=4096, word=64, most=0, whole="order", rev="")
>>> contract.max_size, max_order                  # 4 pages less a header
(16368, 2)
>>> contract.waste(4080, 1), contract.waste(4081, 1)
(0, 4095)
"""

from collections.abc import Iterator
from functools import lru_cache, partial

from heaplaw.contract import Contract, Request
from heaplaw.pages import PageSource
from heaplaw.protocol import FreeRegion
from heaplaw.shadow import Block, Shadow

from .bits import align_up, highest_bit, is_power_of_two
from .pages_arithmetic import get_order
from .promises import always, at_most
from .tlsf_mapping import Geometry, original

_BITMAP_WORDS = 5  # read by two searches, of which the first fails
_REVISIONS = ("", "3.4")


@lru_cache(maxsize=256)
def configured(
    pages: int, page_size: int, word: int, most: int, whole: str, rev: str
) -> tuple[Contract, Geometry, int]:
    """Contract, constants and MAX_ORDER.  Raises ValueError for senseless parameters."""
    if word not in (32, 64):
        raise ValueError(f"word is 32 or 64 bits, not {word}")
    g = original(word)
    if not isinstance(pages, int) or pages < 1:
        raise ValueError(f"pages must be at least 1, not {pages!r}")
    if not is_power_of_two(page_size) or page_size < 8 * g.word:
        raise ValueError(f"page_size must be a power of two from {8 * g.word}, not {page_size}")
    if whole not in ("order", "trim"):
        raise ValueError(f"whole must be 'order' or 'trim', not {whole!r}")
    if rev not in _REVISIONS:
        raise ValueError(f"no revision {rev!r} of xen-tlsf")
    if rev and whole != "order":
        raise ValueError(f"revision {rev} took whole pages by 'order'")
    if most < 0:
        raise ValueError(f"most must be 0 or a number of pages, not {most}")
    rules = Rules(g, page_size, pages, whole == "trim", most)
    return rules.contract(), g, rules.max_order


class Rules:
    """What a configuration promises: the arithmetic of the source, without its structures."""

    def __init__(self, g: Geometry, page_size: int, pages: int, trim: bool, most: int) -> None:
        self.g, self.page_size, self.pages, self.trim, self.most = g, page_size, pages, trim, most
        self.shift, self.unit = highest_bit(page_size), g.word
        self.region = page_size - 2 * g.word  # payload of a fresh region
        self.pooled = g.list_start(self.region)  # largest request that a fresh region serves
        self.max_order = highest_bit(pages) - 1  # the first region lies in the lower half
        self.largest = self.pooled
        if self.max_order >= 0:
            self.largest = (page_size << self.max_order) - (0 if trim else self.unit)

    def contract(self) -> Contract:
        """The promises."""
        edges = (self.page_size, self.page_size - self.unit, 2 * self.page_size, 2 * self.page_size - self.unit)
        limits = (self.unit, self.g.small, self.pooled, self.region, *edges, self.largest)
        return Contract(
            min_size=int(self.trim),
            max_size=self.largest,
            granule=self.unit,
            max_align=min(4 * self.page_size, self.page_size << max(self.max_order, 0)),
            limits=tuple(sorted({limit for limit in limits if limit <= self.largest})),
            realloc_aligns=True,
            maintenance=("grow",),
            rejects=frozenset({"huge", "align"} | ({"zero"} if self.trim else set())),
            header=self.unit,
            prologue=self.unit,
            epilogue=self.unit,
            spaces="pages",
            mergeable=always,
            list_of=self.list_of,
            geometry=self.misplaced,
            overhead=self.overhead,
            metadata_bound=self.metadata_bound,
            waste=None if self.trim else self.waste,
            page_order=max(self.max_order, 0),
            drained_size=self.largest,
            drained_pages=1,
            must_serve=self.must_serve,
            must_refuse=self.must_refuse,
            free_then_alloc=True,
            cost_bounds={"probed": partial(at_most, 1), "scanned": partial(at_most, _BITMAP_WORDS)},
        )

    def rounded(self, size: int) -> int:
        """Payload that the pool looks for and keeps."""
        return self.g.round_up(max(align_up(size, self.unit), self.g.least))

    def padded(self, size: int, align: int) -> int:
        """Bytes in which an aligned object of ``size`` can be moved up."""
        return size + max(align, self.unit) - self.unit

    def order(self, size: int, align: int) -> int:
        """The order of run that is asked for when the pool does not serve."""
        if self.trim:
            return get_order(max(align, size), self.shift)
        return get_order(self.padded(size, align) + self.unit, self.shift)

    def list_of(self, region: FreeRegion) -> tuple[int, int]:
        """(row, second level) of the list that a free block belongs on."""
        return self.g.insert(region.length)

    def must_serve(self, request: Request, shadow: Shadow, source: PageSource | None) -> bool:
        """Good fit is exact: a block on the searched list or a later one, a page to grow by, or whole pages."""
        size, align = request.size, request.align
        least = int(self.trim or align > self.unit)
        if source is None or not is_power_of_two(align) or not least <= size <= self.g.mask:
            return False
        padded = self.padded(size, align)
        if padded < self.page_size:
            rounded = self.rounded(padded)
            first = self.g.insert(rounded)
            if any(self.g.insert(free) >= first for free in self.payloads(shadow, source)):
                return True
            if rounded <= self.region and not self.most and source.fits(0):
                return True
        order = self.order(size, align)
        return order <= self.max_order and source.fits(order)

    def must_refuse(self, request: Request, shadow: Shadow, source: PageSource | None) -> bool:
        """More than MAX_ORDER holds, or an alignment that makes no sense."""
        return request.size > self.largest or not is_power_of_two(request.align)

    def payloads(self, shadow: Shadow, source: PageSource) -> Iterator[int]:
        """Payload sizes of the free blocks that the gaps between live objects of regions must be."""
        for gap in self.gaps(shadow, source):
            if gap > self.unit:
                yield gap - 2 * self.unit

    def gaps(self, shadow: Shadow, source: PageSource) -> Iterator[int]:
        """Bytes between live objects, and up to the ends of their pages; each begins with a header.

        A run that is lent to one object has a header, if any, in front of it and nothing behind it.
        """
        for page, order in source.runs.items():
            for low, high in shadow.gaps(0, page << self.shift, (page + (1 << order)) << self.shift):
                yield high - low

    def overhead(self, shadow: Shadow, source: PageSource | None) -> int:
        """A header in front of each live object and free block, and a sentinel for each region."""
        assert source is not None
        return sum(min(gap, 2 * self.unit) for gap in self.gaps(shadow, source))

    def metadata_bound(self, shadow: Shadow, source: PageSource | None) -> int:
        """Headers: of the live, of free blocks (one more than live ones a region), of sentinels."""
        assert source is not None
        table = self.unit // 2 * self.pages if self.trim else 0
        return self.unit * 2 * (len(shadow) + source.held) + control_bytes(self.g) + table

    def waste(self, size: int, align: int) -> int:
        """Padding and rounding in the pool, or the rest of whole pages: they serve when the pool cannot grow."""
        padded = self.padded(size, align)
        pages = (self.page_size << get_order(padded + self.unit, self.shift)) - self.unit
        pooled = self.rounded(padded) + self.g.header - self.unit
        return max(pages, pooled if pooled <= self.page_size else 0) - size

    def misplaced(self, block: Block) -> str | None:
        """Is the object the start of whole pages, or a block of the length that its size calls for?"""
        handle, length = block.extents[0][1:]
        start = handle - (block.extents[1][2] if len(block.extents) > 1 else 0)
        whole, inside, align = length + handle - start, start % self.page_size, max(block.align, self.unit)
        if length < block.size:
            return f"{length} bytes behind the padding for {block.size}"
        if handle != align_up(start, align):
            return f"{handle - start} bytes of padding from {start} to a multiple of {align}"
        if self.trim and not inside:
            return None if not whole % self.page_size else f"{whole} bytes are no whole pages"
        if inside == self.unit and whole == (self.page_size << self.order(block.size, align)) - self.unit:
            return None if not self.trim else "whole pages begin at their first byte"
        if inside + whole > self.page_size - self.unit:
            return "no room for the sentinel"
        least = self.rounded(self.padded(block.size, align))
        if self.trim:  # resizing may have left it longer, and counts no rounding to a list's start
            least = align_up(block.size, self.unit)
        if whole < least or (not self.trim and whole >= least + self.g.header):
            return f"a block of {whole} bytes where {least} are cut off"
        return None


def control_bytes(g: Geometry) -> int:
    """List heads and bitmaps."""
    heads = g.rows << g.sl
    return heads * g.word // 2 + 4 * (g.rows + 1)
