"""The Python model of zsmalloc, in the words of the kernel's structures, and the model of its later form.

``numbers`` says what the model holds, laid out exactly as ``zsmalloc_adapter.c`` shows the kernel's own structures, so
that the two are compared as bytes.  ``Twelve`` is zsmalloc as of 6.12: twelve groups of fullness from 6.2 on, on whose
lists the newcomer is always first, and a compaction that fills one zspage from the emptiest ones, one after the other.

>>> [twelfth(inuse, 127) for inuse in (0, 1, 12, 13, 64, 126, 127)]
[0, 1, 1, 2, 6, 10, 11]
>>> pool = Zsmalloc(pages=4)
>>> pool.alloc(100), list(numbers(pool)["cells"]), list(numbers(pool)["zspages"])
(8, [8, 0, 0], [5, 1, 0, 5, 1, 1, 1, -1])
"""

from array import array
from functools import lru_cache

from ...zsmalloc import _CELL, Zsmalloc
from ...zsmalloc_classes import EMPTY, TAG_BITS, ClassTable
from ...zsmalloc_zspages import PoolClass, Zspage

KINDS = ("table", "stats", "zspages", "chains", "words", "cells", "pool")
"""What is compared: records of kind HEAPLAW_OWN and up, in the order of ``zsmalloc_adapter.c``."""

TWELVE_NAMES = ("empty", *(f"to {percent}%" for percent in range(10, 100, 10)), "to 99%", "full")
_WHOLE = len(TWELVE_NAMES) - 1
_NONE = -1  # no free slot; no handle beside the page


# ---- the later form -------------------------------------------------------------------------------------


def twelfth(inuse: int, objects: int, quarters: int = 0) -> int:
    """Group of a zspage with ``inuse`` of ``objects`` slots in use, from 6.2 on; ``quarters`` are of no account."""
    if inuse == 0:
        return EMPTY
    return _WHOLE if inuse == objects else 100 * inuse // objects // 10 + 1


class TwelveLists(PoolClass):
    """A size class with twelve lists; the newcomer is first."""

    __slots__ = ()
    names = TWELVE_NAMES

    def insert(self, zspage: Zspage, group: int) -> None:
        """Put a zspage first.  O(1)."""
        self.push(zspage, group)


class Twelve(Zsmalloc):
    """A pool as of 6.12; parameters as for ``Zsmalloc``, but chains of up to 8 pages."""

    _PoolClass = TwelveLists
    _fullness = staticmethod(twelfth)

    def __init__(self, pages: int = 256, chain: int = 8) -> None:
        super().__init__(pages, chain=chain)

    def _find(self, owner: PoolClass) -> Zspage | None:
        return owner.first(tuple(range(_WHOLE - 1, EMPTY - 1, -1)))

    def _compact(self, owner: PoolClass) -> int:
        """Fill a zspage of the fullest group from those of the emptiest, while free slots are enough for one."""
        objects, freed = owner.kind.objects, 0
        fullest, emptiest = tuple(range(_WHOLE - 1, EMPTY, -1)), tuple(range(EMPTY + 1, _WHOLE))
        roomy: Zspage | None = None
        while owner.allocated - owner.used >= objects:
            roomy = roomy or self._isolate(owner, fullest)
            sparse = self._isolate(owner, emptiest) if roomy is not None else None
            if roomy is None or sparse is None:
                break
            self._migrate(sparse, roomy, 0)
            if self._putback(owner, sparse) == EMPTY:
                freed += owner.kind.pages
            if roomy.inuse == objects:
                owner.insert(roomy, _WHOLE)
                roomy = None
        if roomy is not None:
            owner.insert(roomy, self._fullness(roomy.inuse, objects, 0))
        return freed


# ---- in numbers -------------------------------------------------------------------------------------------


def numbers(heap: Zsmalloc, compacted: int = 0) -> dict[str, "list[int] | bytes"]:
    """All that decides what happens next, by kind: signed words.  ``compacted``: pages that compaction freed so far.

    O(pages and slots held).
    """
    stats: list[int] = []
    rows: list[int] = []
    chains: list[int] = []
    words: list[bytes] = []
    for owner in heap._owners():
        counts = [0] * len(owner.heads)
        for group, head in enumerate(owner.heads):
            if head.after is not head:
                for zspage in owner.members(group, heap.source.total):
                    counts[group] += 1
                    _describe(heap, zspage, group, rows, chains, words)
        if owner.allocated or any(counts):
            stats += (owner.kind.index, owner.allocated, owner.used, *counts)
    source = heap.source
    return {
        "table": _table(heap._table), "stats": stats, "zspages": rows, "chains": chains, "words": b"".join(words),
        "cells": _cells(heap),
        "pool": [heap._pages_held, source.given, source.refused, compacted, heap._table.huge_class_size],
    }  # fmt: skip


def _describe(
    heap: Zsmalloc, zspage: Zspage, group: int, rows: list[int], chains: list[int], words: list[bytes]
) -> None:
    """One zspage: its row, the first slot of each of its pages, the first words of its slots."""
    kind, pages = zspage.kind, zspage.pages
    free = zspage.freeobj if zspage.freeobj < kind.objects else _NONE
    beside = heap._huge_handle[pages[0]] if kind.huge else _NONE
    rows += zspage.owner.kind.index, group, pages[0], kind.index, zspage.group, zspage.inuse, free, beside
    step, wide = kind.size // heap._word, heap._page_words
    for page, first in zip(pages, kind.first_on, strict=True):
        chains += page, kind.offset_of[first]
    if not kind.huge:
        for page, (first, links) in zip(pages, kind.links, strict=True):
            start = page * wide + first
            words.append(heap._words[start : start + len(links) * step : step].tobytes())


def _cells(heap: Zsmalloc) -> list[int]:
    """Handle, page and index of every object."""
    found: list[int] = []
    high, mask = heap._index_bits + TAG_BITS, (1 << heap._index_bits) - 1
    for cell, place in enumerate(heap._cells):
        if place >= 0:
            found += cell * _CELL, place >> high, place >> TAG_BITS & mask
    return found


@lru_cache(maxsize=8)
def _table(table: ClassTable) -> bytes:
    kinds = ((kind.index, kind.size, kind.pages, kind.objects) for kind in table.by_index)
    return array("q", [number for kind in kinds for number in kind]).tobytes()
