"""Bugs of afmalloc: derived from its structure, since it was never merged and has no history.

>>> from heaplaw.impls.bugs import find
>>> find("afmalloc", "AF01").law
'big-enough'
"""

from heaplaw.impls.afmalloc import Afmalloc
from heaplaw.impls.afmalloc_pieces import OBJ_MIN, rounddown_pow_of_two

from . import bug

_SOURCE = "derived from mm/afmalloc.c as posted in September 2014"


@bug(
    "AF01", "afmalloc", "the last piece is rounded down: what remains behind the last power of two is lost",
    source=_SOURCE, law="big-enough", derived=True,
)  # fmt: skip
class LosesTheRemainder(Afmalloc):
    def _last_piece(self, length: int) -> int:
        return max(OBJ_MIN, rounddown_pow_of_two(length))


@bug(
    "AF02", "afmalloc", "the pool is charged for the metadata of an object, and the object's free leaves that out",
    source=_SOURCE, law="counters", derived=True,
)  # fmt: skip
class ChargesForEver(Afmalloc):
    def _set_head(self, entry: int, level: int, alloced: int) -> None:
        super()._set_head(entry, level, alloced - self._slab.ksize(entry))


@bug(
    "AF03", "afmalloc", "compaction moves a piece and leaves its object pointing to where it was",
    source="derived from the compaction proposed in the thread, October 2014", law="contents", derived=True,
)  # fmt: skip
class MovesBehindItsBack(Afmalloc):
    def _move(self, size: int, old: int, new: int, entry: int, index: int) -> None:
        pointer = self._pointer(entry, index)
        super()._move(size, old, new, entry, index)
        self._set_pointer(entry, index, pointer)


@bug(
    "AF04", "afmalloc", "when a piece is refused the metadata that was had for it stays",
    source=_SOURCE, law="drain", derived=True,
)  # fmt: skip
class LeaksMetadata(Afmalloc):
    def _err(self, entry: int, level: int, got: int) -> None:
        self._free_pieces(entry, got)


@bug(
    "AF05", "afmalloc", "mapping copies all pieces of an object but the last",
    source=_SOURCE, law="contents", derived=True,
)  # fmt: skip
class MapsLess(Afmalloc):
    def _mapped_length(self, handle: int) -> int:
        return sum(size for _, size in self._pieces(handle)[:-1])


@bug(
    "AF06", "afmalloc", "whether pieces pay is judged without the metadata that they need",
    source=_SOURCE, law="metadata-bound", derived=True,
)  # fmt: skip
class LeavesOutTheMetadata(Afmalloc):
    def _pays(self, length: int, level: int, metadata: int) -> bool:
        return super()._pays(length, level, 0)
