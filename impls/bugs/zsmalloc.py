"""Bugs of zsmalloc: classes and chains, lists by fullness, compaction, handles that are places.

>>> from heaplaw.impls.bugs import find
>>> find("zsmalloc", "ZS08").law
'size-class'
"""

from copy import copy

from heaplaw import Context, Refusal
from heaplaw.impls.zsmalloc import Zsmalloc
from heaplaw.impls.zsmalloc_classes import (
    EMPTY,
    SPARSE_QUARTERS,
    TAG_BITS,
    ClassTable,
    SizeClass,
    class_table,
    fullness_group,
    handle_to_location,
)
from heaplaw.impls.zsmalloc_direct import DirectZsmalloc
from heaplaw.impls.zsmalloc_zspages import PoolClass, Zspage

from . import bug

_INDIRECT = ("pages=64,chain=4", "pages=64,chain=8", "pages=16,cpus=2,scatter=1")
_PLAIN = ("pages=64,chain=4", "pages=64,chain=8")
_DIRECT = ("pages=32,handles=direct,merge=0,cpus=2", "pages=8,handles=direct")


# ---- classes ---------------------------------------------------------------------------------


@bug(
    "ZS01", "zsmalloc", "a request for a whole page looks its class up again, without the handle that class needs",
    source="mm/zsmalloc.c, 'fix fatal corruption due to wrong size class selection', 2015",
    law="big-enough", variants=_INDIRECT,
)  # fmt: skip
class LooksUpTwice(Zsmalloc):
    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> int | Refusal | None:
        if self._header < size <= self._page_size and self._table.of(size).huge:
            size -= self._header
        return super().alloc(size, align, ctx=ctx)


def _merged(table: ClassTable, field: str) -> ClassTable:
    """A table whose neighbouring classes are merged where one thing is equal, though it takes two."""
    wrong = copy(table)
    wrong.by_index = []
    for kind in reversed(table.by_index):
        last: SizeClass = wrong.by_index[-1] if wrong.by_index else kind
        wrong.by_index.append(last if getattr(last, field) == getattr(kind, field) else kind)
    wrong.by_index.reverse()
    return wrong


@bug(
    "ZS09", "zsmalloc", "classes are merged if their zspages have equally many pages, however many objects",
    source="mm/zsmalloc.c 9eec4cd53f98, 2014: what its condition guards against", law="waste-bound", derived=True,
    variants=_PLAIN,
)  # fmt: skip
def merges_by_pages(pages: int = 64, chain: int = 4) -> Zsmalloc:
    """A pool with fewer classes than it promises."""
    pool = Zsmalloc(pages=pages, chain=chain)
    pool._table = _merged(pool._table, "pages")
    return pool


@bug(
    "ZS09B", "zsmalloc", "classes are merged if their zspages have equally many objects, on however many pages",
    source="mm/zsmalloc.c 9eec4cd53f98, 2014: what its condition guards against", law="waste-bound", derived=True,
    variants=("pages=16,page_size=16384",),
)  # fmt: skip
def merges_by_objects(pages: int = 64, page_size: int = 16384, chain: int = 4) -> Zsmalloc:
    """A pool with fewer classes than it promises."""
    pool = Zsmalloc(pages=pages, page_size=page_size, chain=chain)
    pool._table = _merged(pool._table, "objects")
    return pool


@bug(
    "ZS09C", "zsmalloc", "loops over classes come to a merged one once for each of its sizes",
    source="mm/zsmalloc.c 9eec4cd53f98, 2014: the test for aliases in its loops", law="counters",
    derived=True, variants=_INDIRECT,
)  # fmt: skip
class CountsAliases(Zsmalloc):
    def _owners(self) -> list[PoolClass]:
        return [owner for owner in self._classes if owner is not None]


@bug(
    "ZS14", "zsmalloc", "the length of chains is chosen by whole percents, where fewer wasted bytes tie",
    source="mm/zsmalloc.c e1d1f3546913, 2023", law="geometry", variants=("pages=64,chain=8", "pages=64,chain=4"),
)  # fmt: skip
def whole_percents(pages: int = 64, chain: int = 8) -> Zsmalloc:
    """A pool that promises the rule of fewest wasted bytes."""
    pool = Zsmalloc(pages=pages, chain=chain, rule="exact")
    pool._table = class_table(pool._page_size, chain, pool._word, "percent")
    return pool


# ---- lists by fullness -----------------------------------------------------------------------


def _group_by_percent(inuse: int, objects: int, quarters: int = SPARSE_QUARTERS) -> int:
    return EMPTY if inuse * 100 // objects == 0 else fullness_group(inuse, objects, quarters)


@bug(
    "ZS08", "zsmalloc", "one object of more than a hundred is none in whole percent: its zspage counts as empty",
    source="mm/zsmalloc.c, warning beside the fullness groups of 6.4, 2023", law="size-class",
    variants=_INDIRECT,
)  # fmt: skip
class CountsPercent(Zsmalloc):
    _fullness = staticmethod(_group_by_percent)


# ---- compaction ------------------------------------------------------------------------------


@bug(
    "ZS03", "zsmalloc", "compaction puts its last source back, and then once more",
    source="mm/zsmalloc.c, 'reset compaction source zspage pointer after putback_zspage()', 2023",
    law="conservation", variants=_INDIRECT,
)  # fmt: skip
class PutsBackTwice(Zsmalloc):
    _source: tuple[Zspage, int] | None = None

    def _putback(self, owner: PoolClass, sparse: Zspage) -> int:
        group = super()._putback(owner, sparse)
        self._source = sparse, group
        return group

    def _compact(self, owner: PoolClass) -> int:
        self._source = None
        freed = super()._compact(owner)
        if self._source is not None:
            owner.insert(*self._source)
        return freed


@bug(
    "ZS05", "zsmalloc", "a zspage that became empty off its list is put on the list of empty ones, and stays there",
    source="mm/zsmalloc.c 1a87aa03597e, 2019", law="compaction-progress", variants=_PLAIN,
    note="compaction instead of the migration of pages, which is left out here",
)  # fmt: skip
class KeepsEmptied(Zsmalloc):
    def _putback(self, owner: PoolClass, sparse: Zspage) -> int:
        group = self._fullness(sparse.inuse, owner.kind.objects, self._quarters)
        owner.insert(sparse, group)
        return group


@bug(
    "ZS06", "zsmalloc", "pages that go while objects are moved stay in the count of pages",
    source="mm/zsmalloc.c ac8f05da5174, 2020", law="counters", variants=_INDIRECT,
    note="there a page's new place was in another zone, whose count it was not added to; here are no zones",
)  # fmt: skip
class MovesUncounted(Zsmalloc):
    def _compact(self, owner: PoolClass) -> int:
        held = self._pages_held
        freed = super()._compact(owner)
        self._pages_held = held
        return freed


@bug(
    "ZS16", "zsmalloc", "a moved object that straddles goes on behind its page instead of on the next of its zspage",
    source="mm/zsmalloc.c, 'correct fragile kmap/kunmap_atomic use', 2014: one side does not switch pages",
    law="contents", derived=True, variants=_INDIRECT,
)  # fmt: skip
class RunsOn(Zsmalloc):
    def _copy(self, sparse: Zspage, old: int, roomy: Zspage, new: int) -> None:
        size, memory = sparse.kind.size, self.source.memory
        data = b"".join([memory[at : at + n] for at, n in self._pieces(sparse, old, 0, size)])
        start = self._pieces(roomy, new, 0, size)[0][0]
        end = min(start + size, len(memory))
        memory[start:end] = data[: end - start]


@bug(
    "ZS16B", "zsmalloc", "what is left of a moved object is not counted anew where it crosses to another page",
    source="mm/zsmalloc.c, 'correct fragile kmap/kunmap_atomic use', 2014: the length left is not set",
    law="contents", derived=True, variants=_INDIRECT,
)  # fmt: skip
class StopsAtThePage(Zsmalloc):
    def _copy(self, sparse: Zspage, old: int, roomy: Zspage, new: int) -> None:
        size, memory = sparse.kind.size, self.source.memory
        (source, here), (goal, there) = (self._pieces(*slot, 0, size)[0] for slot in ((sparse, old), (roomy, new)))
        length = min(here, there)
        memory[goal : goal + length] = memory[source : source + length]


@bug(
    "ZS17", "zsmalloc", "links of free slots are not shifted past the tag: odd ones look like objects to compaction",
    source="mm/zsmalloc.c, obj_allocated", law="returns", derived=True, variants=_INDIRECT,
)  # fmt: skip
class LinksOverTag(Zsmalloc):
    _link_bits = 0

    def _init_zspage(self, zspage: Zspage) -> None:
        super()._init_zspage(zspage)
        kind = zspage.kind
        for slot in range(kind.objects):
            word = zspage.pages[kind.page_of[slot]] * self._page_words + kind.word_of[slot]
            self._words[word] >>= TAG_BITS


# ---- handles that are places -----------------------------------------------------------------


def _encode_from_zero(pfn: int, index: int, bits: int) -> int:
    return pfn << bits | index


def _decode_from_zero(handle: int, bits: int) -> tuple[int, int]:
    page, index = handle_to_location(handle, bits)
    return page, index + 1


@bug(
    "ZS12", "zsmalloc", "the first object of page 0 has the handle 0, which is no handle",
    source="drivers/staging/zsmalloc 67296874eb1c, 2012", law="counters", variants=_DIRECT,
)  # fmt: skip
class NamesFromZero(DirectZsmalloc):
    _encode = staticmethod(_encode_from_zero)
    _decode = staticmethod(_decode_from_zero)
