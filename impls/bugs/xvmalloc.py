"""Bugs of xvmalloc: derived from its structure, since no history of sequential ones was found.

>>> from heaplaw.impls.bugs import bugs_of
>>> [bug.id for bug in bugs_of("xvmalloc")]
['XV01', 'XV02', 'XV03', 'XV04', 'XV05', 'XV06']
"""

from heaplaw.impls.xvmalloc import Xvmalloc
from heaplaw.impls.xvmalloc_index import LEAST

from . import bug

_SOURCE = "derived from drivers/staging/ramzswap/xvmalloc.c, Linux 2.6.33"


@bug(
    "XV01", "xvmalloc", "after a split the block behind is not told where the remainder begins",
    source=_SOURCE, law="hint-exact", derived=True,
)  # fmt: skip
class StaleBackPointer(Xvmalloc):
    def _after_split(self, after: int, rest: int) -> None:
        pass


@bug(
    "XV02", "xvmalloc", "a block that is used up whole stays free in the eyes of the block behind it",
    source=_SOURCE, law="hint-region", derived=True,
)  # fmt: skip
class KeepsPrevFree(Xvmalloc):
    def _exact_fit(self, after: int) -> None:
        pass


@bug(
    "XV03", "xvmalloc", "remainders too short for the links of a list are listed all the same",
    source=_SOURCE, law="free-list", derived=True,
    note="on list 0; the number that their size would give lies before the table",
)  # fmt: skip
class ListsTooShort(Xvmalloc):
    def _is_listed(self, size: int) -> bool:
        return True

    def _insert_block(self, block: int, size: int) -> None:
        super()._insert_block(block, max(size, LEAST))

    def _remove_block(self, block: int, index: int) -> None:
        super()._remove_block(block, max(index, 0))


@bug(
    "XV04", "xvmalloc", "a free takes the size that was asked for as the length of the block",
    source=_SOURCE, law="drain", derived=True,
)  # fmt: skip
class ForgetsTheSlack(Xvmalloc):
    def _restored_size(self, block: int) -> int:
        return self.get_object_size(block + self._header)


@bug(
    "XV05", "xvmalloc", "one list of a bitmap word running empty hides the blocks of all the others",
    source=_SOURCE, law="bitmap", derived=True,
)  # fmt: skip
class ClearsTheWholeWord(Xvmalloc):
    def _clear_bits(self, index: int) -> None:
        super()._clear_bits(index)
        self._flbitmap &= ~(1 << (index >> self._word_shift))


@bug(
    "XV06", "xvmalloc", "a page is counted before it is known whether there is one",
    source=_SOURCE + ", whose count drifts since it is kept outside the lock", law="counters", derived=True,
)  # fmt: skip
class CountsRefusedPages(Xvmalloc):
    def _grow_pool(self) -> bool:
        grown = super()._grow_pool()
        self._total_pages += not grown
        return grown
