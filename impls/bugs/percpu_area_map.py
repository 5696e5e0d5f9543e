"""Bugs of the per-CPU area map of Linux, 2009 to 2017.

>>> from heaplaw.impls.bugs import find
>>> find("percpu-area-map", "P19").title
'sizes and alignments stay odd: the bit that marks an area in use becomes a byte of its place'
"""

from typing import ClassVar

from heaplaw import InvalidFree
from heaplaw.impls.percpu_area_map import PercpuAreaMap
from heaplaw.impls.percpu_map import MapChunk

from . import bug

_TARGET = "percpu-area-map"


class _ForgetsGrownAreas(MapChunk):
    __slots__ = ()

    def join_head(self, i: int, head: int) -> None:
        if self.map[i - 1] & 1:
            super().join_head(i, head)
        else:
            self.map[i] += head


@bug(
    "P18", _TARGET, "a free area that is given the head of the next one does not raise the hint",
    source="Linux 21ddfd38ee9a, 2014", law="hint-sound",
    equivalent="free areas never touch, so the area before a free one, if there is one, is in use",
)  # fmt: skip
class DoesNotRenewTheHint(PercpuAreaMap):
    chunk_class: ClassVar[type[MapChunk]] = _ForgetsGrownAreas


@bug(
    "P19", _TARGET, "sizes and alignments stay odd: the bit that marks an area in use becomes a byte of its place",
    source="percpu: allocation size should be even, Linux 2014", law="conservation",
)  # fmt: skip
class OddSizes(PercpuAreaMap):
    @staticmethod
    def _rounded(size: int, align: int) -> tuple[int, int]:
        return size, align


@bug(
    "P22", _TARGET, "whether an address is of the allocator is judged by the first unit alone",
    source="Linux 9983b6f0cf82, 2010", law="returns",
    note="there the units of other CPUs, in a look-up of the page behind an address; here other chunks, in every one",
)  # fmt: skip
class KnowsOneUnit(PercpuAreaMap):
    def _locate(self, handle: int) -> tuple[MapChunk, int]:
        if handle >= self._unit:
            raise InvalidFree(f"{handle} lies in no chunk")
        return super()._locate(handle)
