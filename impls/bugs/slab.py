"""Bugs of SLAB: the index of free slots, colours, arrays of CPUs.

>>> from heaplaw.impls.bugs import find
>>> find("slab", "B22").law
'returns'
"""

from typing import ClassVar

from heaplaw.impls.slab import Slab
from heaplaw.impls.slab_cache import ArrayCache, SlabCache
from heaplaw.impls.slab_pages import SlabRun

from . import bug

_NEW = (
    "size=256,pages=64", "size=96,pages=8,cpus=2", "size=2048,pages=16",
    "size=520,pages=9,ctor=1,shuffle=7,limit=4",
)  # fmt: skip
_SHORT_ARRAYS = ("size=1024,pages=4,cpus=2,limit=3", "size=256,pages=8,cpus=3,limit=5", "size=2048,pages=16,limit=8")


# ---- the index of free slots -----------------------------------------------------------------


class _AddsRandom(SlabCache):
    __slots__ = ()

    def _next_random_slot(self, position: int) -> int:
        number = self.random_seq[position % len(self.random_seq)] + (self.random_state >> 32)
        return (number & 0xFF) % len(self.random_seq)


@bug(
    "B22", "slab", "a random number is added to each slot of the shuffled order, and the sum wraps: slots stand twice",
    source="mm/slab.c c4e490cf148e, 2017", law="returns",
    variants=("size=520,pages=9,ctor=1,shuffle=7,limit=4", "size=96,pages=4,shuffle=3"),
    note="the sum is of eight bits, so that not only one seed of a hundred million shows it",
)  # fmt: skip
class AddsRandom(Slab):
    _makers: ClassVar[dict[str, type[SlabCache]]] = {**Slab._makers, "6.1": _AddsRandom}


class _KeepsIndex(SlabCache):
    __slots__ = ()

    def _forget_index(self, slab: SlabRun) -> None:
        pass


@bug(
    "SL03", "slab", "the index of a full slab stays where it was, in an object that has been handed out",
    source="mm/slab.c, free lists in objects, 2016", law="contents", derived=True, variants=_NEW,
)  # fmt: skip
class KeepsIndex(Slab):
    _makers: ClassVar[dict[str, type[SlabCache]]] = {**Slab._makers, "6.1": _KeepsIndex}


# ---- colours ---------------------------------------------------------------------------------


class _EverMoreColours(SlabCache):
    __slots__ = ()

    def _next_colour(self) -> int:
        self.colour_next += 1
        return self.colour_next * self.layout.colour_off


@bug(
    "SL01", "slab", "colours are never begun anew: slots move on and over the slab's end",
    source="mm/slab.c, cache_grow", law="geometry", derived=True,
    variants=("size=520,pages=9,limit=4", "size=1288,pages=9,limit=1"),
)  # fmt: skip
class EverMoreColours(Slab):
    _makers: ClassVar[dict[str, type[SlabCache]]] = {**Slab._makers, "6.1": _EverMoreColours}


# ---- arrays of CPUs --------------------------------------------------------------------------


class _MiscountsBatch(SlabCache):
    __slots__ = ()

    def _cache_flusharray(self, ac: ArrayCache) -> None:
        oldest = ac.entry[0]
        super()._cache_flusharray(ac)
        if self.shared is not None and oldest in self.shared.entry:
            ac.entry.insert(0, oldest)


@bug(
    "SL02", "slab", "one object fewer is struck off a CPU's array than was given to the shared one",
    source="mm/slab.c, cache_flusharray", law="disjoint", derived=True, variants=_SHORT_ARRAYS[:2],
)  # fmt: skip
class MiscountsBatch(Slab):
    _makers: ClassVar[dict[str, type[SlabCache]]] = {**Slab._makers, "6.1": _MiscountsBatch}


class _CountsTwice(SlabCache):
    __slots__ = ()

    def _free_block(self, objects: list[int]) -> None:
        self.free_objects += len(objects)
        super()._free_block(objects)


@bug(
    "B27", "slab", "objects that are freed together are counted as a batch and each once more",
    source="mm/slub.c 3ddd60268c24, 2021", law="counters", variants=_NEW,
    note="there the bytes charged to a group of processes; here the free objects of the cache",
)  # fmt: skip
class CountsTwice(Slab):
    _makers: ClassVar[dict[str, type[SlabCache]]] = {**Slab._makers, "6.1": _CountsTwice}


def _three_bits(count: int) -> int:
    """A count as a signed number of three bits."""
    return (count + 4) % 8 - 4


class _ShortCount(list[int]):
    """The objects of an array, which seem to be none where their count is below zero."""

    def __bool__(self) -> bool:
        return _three_bits(len(self)) > 0


class _CountsInThreeBits(SlabCache):
    __slots__ = ()

    def alloc(self, cpu: int) -> int | None:
        self.arrays[cpu].entry = _ShortCount(self.arrays[cpu].entry)
        return super().alloc(cpu)


@bug(
    "G08", "slab", "the count of a CPU's objects is kept in too few bits, and becomes negative",
    source="glibc 5ad533e8e6, bug 24531, 2019: cached chunks of a thread", law="no-spurious-refusal",
    derived=True, variants=("size=1024,pages=1,limit=6", "size=512,pages=2,limit=8"),
    note="three bits instead of eight, so that short arrays show it",
)  # fmt: skip
class CountsInThreeBits(Slab):
    _makers: ClassVar[dict[str, type[SlabCache]]] = {**Slab._makers, "6.1": _CountsInThreeBits}
