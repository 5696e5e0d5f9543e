"""Bugs of SLUB: free pointers in the objects, slabs of CPUs, partial lists.

>>> from heaplaw.impls.bugs import find
>>> find("slub", "B26").law
'counters'
"""

from collections.abc import Hashable

from heaplaw.impls.slab_pages import Frames, SlabRun
from heaplaw.impls.slub import Slub
from heaplaw.impls.slub_cache import CpuSlab, SlubCache
from heaplaw.impls.slub_order import WORD, Layout

from . import bug

_CPUS = ("size=1024,pages=16,cpus=2", "size=4096,pages=24,cpus=4", "size=100,pages=6,page_size=512,cpus=2")


# ---- free pointers ---------------------------------------------------------------------------


class _LinksBehind(SlubCache):
    __slots__ = ()

    def __init__(self, frames: Frames, layout: Layout, cpus: int = 1, name: Hashable = 0) -> None:
        super().__init__(frames, layout, cpus, name)
        if layout.object_size < WORD:
            self._link += WORD


@bug(
    "B25", "slub", "the free pointer of objects shorter than a pointer stands behind them",
    source="mm/slub.c 74c1d3e08133, e41a49fadbc8, 2021", law="contents",
    variants=("size=4,pages=2", "size=7,pages=2,page_size=256"),
    note="there on a red zone; there is none here, so that it is on the next object",
)  # fmt: skip
class LinksBehind(Slub):
    _make_cache = _LinksBehind


class _WipesLink(SlubCache):
    __slots__ = ()

    def free(self, slab: SlabRun, address: int, cpu: int) -> None:
        super().free(slab, address, cpu)
        self._frames.source.memory[address : address + slab.size] = bytes(slab.size)


@bug(
    "B26", "slub", "a slot is wiped when it is freed, with the free pointer that was just written",
    source="mm/slub.c 8f828aa48812, 2024", law="counters",
    note="slots are not wiped here otherwise",
)  # fmt: skip
class WipesLink(Slub):
    _make_cache = _WipesLink


# ---- slabs -----------------------------------------------------------------------------------


class _TakesAnyForItsOwn(SlubCache):
    __slots__ = ()

    def free(self, slab: SlabRun, address: int, cpu: int) -> None:
        own = self.cpus[cpu].slab
        super().free(own if own is not None else slab, address, cpu)


@bug(
    "SU01", "slub", "a CPU takes each object that it frees for one of its own slab",
    source="mm/slub.c, do_slab_free", law="returns", derived=True,
)  # fmt: skip
class TakesAnyForItsOwn(Slub):
    _make_cache = _TakesAnyForItsOwn


class _CutsAsPreferred(SlubCache):
    __slots__ = ()

    def _setup_freelist(self, slab: SlabRun) -> int:
        slab.objects = min(self.layout.objects, (len(self._words) * WORD - slab.s_mem) // slab.size)
        return super()._setup_freelist(slab)


@bug(
    "SU02", "slub", "a slab of the lower order is cut into as many objects as one of the order preferred",
    source="mm/slub.c, allocate_slab", law="tiling", derived=True,
    variants=("size=1024,pages=15", "size=256,pages=7,page_size=512", "size=4096,pages=24,cpus=4"),
)  # fmt: skip
class CutsAsPreferred(Slub):
    _make_cache = _CutsAsPreferred


class _LosesEmpty(SlubCache):
    __slots__ = ()

    def _slab_free(self, slab: SlabRun, obj: int, c: CpuSlab) -> None:
        prior, many = slab.freelist, self.nr_partial >= self.layout.min_partial
        if many and slab.inuse == 1 and prior and not slab.frozen:
            self.set_freepointer(obj, prior)
            slab.freelist, slab.inuse = obj, 0
            self._remove_partial(slab)
        else:
            super()._slab_free(slab, obj, c)


@bug(
    "SU03", "slub", "an empty slab too many leaves the partial list, but its pages are not given back",
    source="mm/slub.c, __slab_free", law="drain", derived=True,
    variants=("size=1024,pages=16,min_order=0,max_order=0", "size=2048,pages=24,max_order=0"),
)  # fmt: skip
class LosesEmpty(Slub):
    _make_cache = _LosesEmpty


class _ForgetsForeign(SlubCache):
    __slots__ = ()

    def _get_freelist(self, slab: SlabRun) -> int:
        freelist = super()._get_freelist(slab)
        return self.get_freepointer(freelist) if freelist else 0


@bug(
    "SU04", "slub", "of the objects that other CPUs freed, the last one is lost when the owner takes them over",
    source="mm/slub.c, get_freelist", law="counters", derived=True, variants=_CPUS,
)  # fmt: skip
class ForgetsForeign(Slub):
    _make_cache = _ForgetsForeign
