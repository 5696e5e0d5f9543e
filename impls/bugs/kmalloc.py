"""Bugs of kmalloc: which class serves a request, whole pages, the object of no bytes.

>>> from heaplaw.impls.bugs import find
>>> find("kmalloc", "KM01").law
'big-enough'
"""

from typing import Any, ClassVar

from heaplaw import Context, Refusal
from heaplaw.impls.bits import highest_bit
from heaplaw.impls.kmalloc import ZERO_SIZE_PTR, Kmalloc, LargePages
from heaplaw.impls.slab_pages import SlabRun

from . import bug

_PAGES = ("pages=64", "pages=8", "pages=64,era=slab,cpus=2")


@bug(
    "G04", "kmalloc", "a cache is looked for in a sorted list, and one that is longer than called for will do",
    source="glibc b2b4b46a52, 2025: large chunks of a thread's cache", law="waste-bound", derived=True,
)  # fmt: skip
class TakesTheNext(Kmalloc):
    def _create_kmalloc_cache(self, kind: int) -> Any:
        longer = min((known for known in self._caches if known > kind), default=0)
        return self._caches[longer] if longer else super()._create_kmalloc_cache(kind)


@bug(
    "KM01", "kmalloc", "the class is looked up for one byte less: the first size above a class gets that class",
    source="mm/slab_common.c, kmalloc_slab", law="big-enough", derived=True,
)  # fmt: skip
class OneByteLess(Kmalloc):
    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> int | Refusal | None:
        return super().alloc(size - 1 if 1 < size <= self._largest else size, align, ctx=ctx)


@bug(
    "KM02", "kmalloc", "the order of a large request is rounded down",
    source="mm/slab_common.c, kmalloc_large", law="big-enough", derived=True, variants=_PAGES,
)  # fmt: skip
class RoundsDown(Kmalloc):
    def _alloc_odd(self, size: int, align: int, ctx: Context | None) -> int | Refusal | None:
        if align == 1 and self._largest < size <= self._most:
            return self._large.kmalloc_large(highest_bit(size >> self._frames.shift))
        return super()._alloc_odd(size, align, ctx)


class _GivesOnePage(LargePages):
    __slots__ = ()

    def free(self, slab: SlabRun, address: int, cpu: int) -> None:
        slab.order = 0
        super().free(slab, address, cpu)


@bug(
    "KM03", "kmalloc", "of a large request one page is given back",
    source="mm/slab_common.c, free_large_kmalloc: pages that are not compound", law="conservation",
    derived=True, variants=_PAGES,
)  # fmt: skip
class GivesOnePage(Kmalloc):
    _large_pages: ClassVar[type[LargePages]] = _GivesOnePage


@bug(
    "KM04", "kmalloc", "freeing the object of no bytes looks for its slab",
    source="mm/slab_common.c, kfree: ZERO_OR_NULL_PTR", law="returns", derived=True, variants=_PAGES,
)  # fmt: skip
class LooksForNothing(Kmalloc):
    def free(self, handle: int | None, *, ctx: Context | None = None) -> None:
        if handle == ZERO_SIZE_PTR:
            self._frames.find(handle)
        super().free(handle, ctx=ctx)
