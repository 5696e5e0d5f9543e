"""Bugs of xcfmalloc: derived from its structure, since it was never merged and has no history.

>>> from heaplaw.impls.bugs import find
>>> find("xcfmalloc", "XC03").title
'a free gives back the first part of an object only'
"""

from heaplaw.impls.xcfmalloc import Xcfmalloc
from heaplaw.impls.xcfmalloc_blocks import Blocks, Descriptor

from . import bug

_SOURCE = "derived from xcfmalloc.c as posted in September 2011"


class _LeakingBlocks(Blocks):
    def increase_pool(self) -> None:
        for _ in range(self.most_reserve - self.reserve_count):
            desc = self.alloc_desc()
            page = None if desc is None else self.source.take(0)
            if desc is None or page is None:
                return
            self.pages_taken += 1
            self.page_count += 1
            self.add_free_page(desc, page)


@bug(
    "XC01", "xcfmalloc", "the descriptor for a page that is refused is not given back",
    source=_SOURCE, law="metadata-bound", derived=True,
)  # fmt: skip
class LeaksDescriptors(Xcfmalloc):
    _make_blocks = _LeakingBlocks


class _SilentBlocks(Blocks):
    def merge_free_block(self, desc: Descriptor) -> Descriptor:
        began = desc.offset
        merged = super().merge_free_block(desc)
        after = self.follower(merged, merged.size)
        if after is not None:
            self.set_prevoffset(after, began)
        return merged


@bug(
    "XC02", "xcfmalloc", "the block behind is not told that what stands before it begins earlier after a merge",
    source=_SOURCE, law="returns", derived=True,
)  # fmt: skip
class StaleBackPointer(Xcfmalloc):
    _make_blocks = _SilentBlocks


@bug(
    "XC03", "xcfmalloc", "a free gives back the first part of an object only",
    source=_SOURCE, law="tiling", derived=True,
)  # fmt: skip
class FreesTheFirstPart(Xcfmalloc):
    def free(self, handle: int) -> None:
        self._chain(handle)[0].next = None
        super().free(handle)


@bug(
    "XC04", "xcfmalloc", "a request that finds no second part keeps the first",
    source=_SOURCE + "; as ncruces/wasm2go pull request 57, 2026", law="refusal-pure", derived=True,
)  # fmt: skip
class KeepsWhatItFound(Xcfmalloc):
    def _return_blocks(self, desc: Descriptor | None) -> None:
        super()._return_blocks(desc.next if desc is not None else None)
