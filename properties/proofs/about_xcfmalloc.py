"""Theorems about xcfmalloc: lists of blocks, objects in two blocks, and neighbours that merge.

The pool's own methods run over cells (see ``cells``) for its free lists and for the headers in its pages.

>>> from heaplaw.properties.proofs.theorems import find
>>> find("xcfmalloc/keeps-every-byte").sentence
'The blocks of an object hold every byte of it and overrun none; all but the last are filled.'
"""

from typing import Any

from heaplaw.impls.xcfmalloc_blocks import FREE, USED
from heaplaw.protocol import Refusal

from .cells import Cells
from .theorems import WRONG, Given, Values, one_request, theorem
from .words import all_of, not_so

_TARGETS = ("xcfmalloc", "xcfmalloc,word=4", "xcfmalloc,word=4,debug=0", "xcfmalloc,page_size=16384,shift=8")
_TWO_PAGES = "pages=2,reserve=1,page_size=256"
_SMALL = tuple(f"xcfmalloc,{_TWO_PAGES}{more}" for more in ("", ",word=4", ",debug=0"))
_FEW_BLOCKS = "two free blocks of any size on pages of 4 blocks"


# ---- lists -----------------------------------------------------------------------------------


@theorem(
    "xcfmalloc", "A request is refused only if it exceeds a page less a header; else one list is the first to hold it.",
    kernels="alloc: flindex, aligned", targets=_TARGETS, trace=one_request,
    controls=(WRONG + "xcfmalloc_limit_without_header",), law="returns",
)  # fmt: skip
def list_exists(heap: Any, given: Given) -> Any:
    layout, word = heap._layout, (heap._layout.desc_bytes - 8) // 3
    size = given("size", 0, (1 << 8 * word) - 1)
    heap._find_remove_block = lambda size, blocknum: None
    if isinstance(heap.alloc(size), Refusal):
        return size + layout.header > layout.page_size
    need = size + layout.header
    index = layout.flindex(need)
    inside = (index >= 0) & (index < len(heap._blocks.freelists))
    return inside & (layout.aligned(need) == (index + 1) * layout.block) & (need > index * layout.block)


def _one_free(heap: Any, values: Values) -> str:
    """A free block of so many bytes on a page that is full otherwise, then the request."""
    page, header, block = heap._layout.page_size, heap._layout.header, values["block"]
    before = f"a = alloc {page - block - header}\n" if block < page else ""
    return f"{before}b = alloc {block - header}\nfree b\nc = alloc {values['size']}"


@theorem(
    "xcfmalloc", "The lists that a last part is looked for on are just those whose blocks hold it.",
    kernels="_find_remove_block, insert_block: flindex", trace=_one_free, law="big-enough",
    targets=("xcfmalloc", "xcfmalloc,word=4,debug=0", "xcfmalloc,page_size=1024,shift=5"),
    controls=(WRONG + "xcfmalloc_forgets_a_header,blocks=1,pages=1,reserve=1",),
)  # fmt: skip
def looks_where_it_fits(heap: Any, given: Given) -> Any:
    layout, blocks = heap._layout, heap._blocks
    size, desc = given("size", 0, layout.max_alloc), blocks.alloc_desc()
    desc.size = given("block", layout.block, layout.page_size)
    given.assume(desc.size & layout.block - 1 == 0)
    blocks.freelists, blocks._reserved_index = Cells(layout.lists, None), -1  # the reserve is not counted
    blocks.insert_block(desc)
    (listed,) = blocks.freelists.places()
    blocks.freelists = looked = _Looked(layout.lists)
    heap._find_remove_block(size, heap._max_blocks)
    first, *later = looked.at
    fits = (desc.size >= size + layout.header) == (listed >= first)
    return fits if later == [*range(first + 1, layout.lists)] else False


class _Looked:
    """Empty lists, and those that were looked at."""

    def __init__(self, length: int) -> None:
        self.at: list[Any] = []
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, at: Any) -> None:
        self.at.append(at)


# ---- objects ---------------------------------------------------------------------------------


def _two_free(heap: Any, given: Given) -> tuple[list[Any], list[tuple[Any, Any]]]:
    """(two free blocks of any sizes, each on a page of its own; blocks that are cut, and where)."""
    blocks, layout = heap._blocks, heap._layout
    blocks.freelists = Cells(layout.lists, None)
    descs: list[Any] = []
    cuts: list[tuple[Any, Any]] = []
    for page, name in enumerate(("block", "other")):
        desc = blocks.alloc_desc()
        desc.size, desc.page = given(name, layout.block, layout.page_size), page
        given.assume(desc.size & layout.block - 1 == 0)
        blocks.insert_block(desc)
        descs.append(desc)

    def split(desc: Any, need: Any) -> bool:
        cuts.append((desc, need))
        return True

    blocks.increase_pool, blocks.split = lambda: None, split
    return descs, cuts


def _fill_but_two(heap: Any, values: Values) -> str:
    """Two pages, full but for a block at the end of each, then the request."""
    page, header = heap._layout.page_size, heap._layout.header
    first, second = [], []
    for names, size in zip(("ax", "by"), (values["block"], values["other"]), strict=True):
        if size < page:
            first.append(f"{names[0]} = alloc {page - size - header}")
        first.append(f"{names[1]} = alloc {size - header}")
        second.append(f"free {names[1]}")
    return "\n".join([*first, *second, f"c = alloc {values['size']}"])


@theorem(
    "xcfmalloc", "The blocks of an object hold every byte of it and overrun none; all but the last are filled.",
    kernels="alloc, _find_remove_block: aligned, flindex", targets=_SMALL, trace=_fill_but_two,
    controls=(WRONG + "xcfmalloc_counts_headers_as_bytes," + _TWO_PAGES,), law="big-enough", bound=_FEW_BLOCKS,
)  # fmt: skip
def keeps_every_byte(heap: Any, given: Given) -> Any:
    size = given("size", 0, heap._layout.max_alloc)
    descs, cuts = _two_free(heap, given)
    held = {desc.number: desc.size for desc in descs}
    handle = heap.alloc(size)
    given.assume(handle is not None)
    parts, header = heap._chain(handle), heap._layout.header
    so = sum(part.size - header for part in parts) == size
    for part in parts:
        so = so & (part.size <= held[part.number]) & (part.flags == USED)
    for part in parts[:-1]:
        so = so & (part.size == held[part.number])
    for desc, need in cuts:
        so = so & (desc is parts[-1]) & (need >= desc.size) & (need < held[desc.number])
    return so


@theorem(
    "xcfmalloc", "A request is refused only if no two blocks hold it, and then both are free and listed as before.",
    kernels="alloc, _find_remove_block, _smaller_allowed, _return_blocks", targets=_SMALL, trace=_fill_but_two,
    controls=(f"xcfmalloc@2011-09-v1,{_TWO_PAGES}", f"xcfmalloc+XC04,{_TWO_PAGES}"), law="no-spurious-refusal",
    bound=_FEW_BLOCKS,
)  # fmt: skip
def serves_what_two_hold(heap: Any, given: Given) -> Any:
    size = given("size", 0, heap._layout.max_alloc)
    descs, _ = _two_free(heap, given)
    one, other = (desc.size for desc in descs)
    given.assume(heap.alloc(size) is None)
    header, least = heap._layout.header, heap._layout.block
    longest, rest = max(one, other), min(one, other)
    alone = longest >= size + header
    together = (longest >= 2 * least) & (longest + rest >= size + 2 * header)
    listed = all(heap._blocks.freelists[heap._layout.flindex(desc.size)] is desc or desc.prev for desc in descs)
    free = descs[0].flags == descs[1].flags == FREE
    return False if not (listed and free) else all_of(map(not_so, (alone, together)))


# ---- neighbours ------------------------------------------------------------------------------


@theorem(
    "xcfmalloc", "After a block has merged, the headers of its page lead from each block to the next and back.",
    kernels="merge_free_block, follower, set_prevoffset", targets=("xcfmalloc", "xcfmalloc,word=4,debug=0"),
    trace=lambda heap, values: "a = alloc 0\nb = alloc 0\nc = alloc 0\ndrain",
    controls=("xcfmalloc+XC02,pages=1,reserve=1",), law="returns",
    bound="a page of three blocks, or of four, of any size; the neighbours of the one that is freed, free or used",
)  # fmt: skip
def headers_lead_both_ways(heap: Any, given: Given) -> Any:
    layout, blocks = heap._layout, heap._blocks
    heads = Cells(layout.page_size, (None, -1))
    blocks.freelists = Cells(layout.lists, None)
    blocks.set_header = lambda address, desc, prevoffset: heads.__setitem__(address, (desc, prevoffset))
    blocks.header_at = heads.__getitem__
    blocks.clear_sentinel = lambda address: None
    sizes = [given(name, layout.block, layout.page_size) for name in ("before", "freed", "after")]
    for size in sizes:
        given.assume(size & layout.block - 1 == 0)
    given.assume(sum(sizes) <= layout.page_size)
    descs, at, prevoffset = [], 0, 0
    for number, size in enumerate((*sizes, layout.page_size - sum(sizes))):
        if number < 3 or size > 0:
            desc = blocks.alloc_desc()
            desc.page, desc.offset, desc.size, desc.flags = 0, at, size, USED
            blocks.set_header(at, desc, prevoffset)
            descs.append(desc)
            at, prevoffset = at + size, at
    for name, desc in (("first", descs[0]), ("third", descs[2])):
        if given(name, 0, 1) == 1:
            blocks.insert_block(desc)
    freed = blocks.merge_free_block(descs[1])
    so, at, prevoffset, met = True, 0, 0, []
    while at < layout.page_size:
        desc, back = heads[at]
        so = so & (desc.offset == at) & (back == prevoffset)
        met.append(desc)
        at, prevoffset = at + desc.size, at
    return so & (at == layout.page_size) & (freed in met)
