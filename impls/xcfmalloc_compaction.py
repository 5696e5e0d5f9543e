"""Compaction of xcfmalloc's pages through its descriptors.

The posting of 2011 says that blocks are relocatable so that compaction can empty pages,
and that it is not implemented.  This is an implementation: it uses nothing but what the
posted structures offer, and is nobody's published code.

A page is emptied altogether or left alone.  Whether it can be is decided on counts of
free blocks by size, before anything moves: its used blocks, longest first, each go into
the smallest free block of another page that holds them.  Free pages are no places to go
to, for that would gain nothing.  Then the blocks move by the same rule::

    page 1  [ a ][ free ][ b ]          page 1  [           free           ]   one descriptor
    page 2  [ c ][     free     ]  =>   page 2  [ c ][ a ][ free ]
    page 3  [ d ][ free ][ e ]          page 3  [ d ][ b  ][ e ]

No page is asked for, so refused pages cannot stop it.  A moved block keeps its descriptor,
the rest of a free block keeps the free block's; only a page without any free block needs
a new one, which is had before anything moves.  The sparsest page goes first, and rounds
are made until one empties nothing: a second compaction would make that round again.

>>> from heaplaw.impls.xcfmalloc import Xcfmalloc
>>> pool = Xcfmalloc(pages=4, reserve=1)
>>> handles = [pool.alloc(1900) for _ in range(4)]     # two on each of two pages
>>> pool.free(handles[0]); pool.free(handles[2]); pool.maintain("compact").moved
1
"""

from .xcfmalloc_blocks import Blocks, Descriptor


def compact(blocks: Blocks) -> int:
    """Empty what pages can be emptied and trim the reserve; how many blocks moved.

    O(rounds * blocks * lists), with as many rounds as pages at worst.
    """
    room = [sum(1 for _ in blocks.walk(index)) for index in range(blocks.layout.lists)]
    moved, emptied = 0, True
    while emptied:
        emptied = False
        for page in sparsest_first(blocks):
            if moves := evacuate(blocks, page, room):
                moved += moves
                emptied = True
        blocks.decrease_pool()  # descriptors that this frees may be what another page lacks
    return moved


def sparsest_first(blocks: Blocks) -> list[int]:
    """Pages with used blocks, by the bytes of these."""
    aligned = blocks.layout.aligned
    used: dict[int, int] = {}
    for desc in blocks.descs:
        if desc.allocated and not desc.is_free:
            used[desc.page] = used.get(desc.page, 0) + aligned(desc.size)
    return sorted(used, key=lambda page: (used[page], page))


def evacuate(blocks: Blocks, page: int, room: list[int]) -> int:
    """Move all used blocks of a page elsewhere, or none; blocks moved.  ``room`` counts the lists' members."""
    layout = blocks.layout
    here = list(blocks.blocks_on(page))
    used = sorted((d for d in here if not d.is_free), key=lambda d: (-layout.aligned(d.size), d.offset))
    free = [desc for desc in here if desc.is_free]
    left = room.copy()
    for desc in free:
        left[layout.flindex(desc.size)] -= 1
    if not used or not _fits(blocks, used, left):
        return 0
    if not free:
        spare = blocks.alloc_desc()
        if spare is None:
            return 0
        free.append(spare)
    else:
        for desc in free:
            blocks.remove_block(desc)
    for desc in here:
        blocks.clear_sentinel(page * layout.page_size + desc.offset)
    for desc in used:
        _relocate(blocks, desc, _smallest(blocks, layout.aligned(desc.size)))
    for desc in free[1:]:
        blocks.free_desc(desc)
    blocks.add_free_page(free[0], page)
    left[-1] += 1
    room[:] = left
    return len(used)


def _fits(blocks: Blocks, used: list[Descriptor], left: list[int]) -> bool:
    """Is there room for all of these?  Takes it off the counts in ``left``."""
    layout = blocks.layout
    for desc in used:
        need = layout.flindex(desc.size)
        for index in range(need, layout.lists - 1):
            if left[index]:
                break
        else:
            return False
        left[index] -= 1
        if index > need:
            left[index - need - 1] += 1
    return True


def _smallest(blocks: Blocks, need: int) -> Descriptor:
    """First block of the shortest list, by size, that holds ``need`` bytes; of a partly used page."""
    for index in range(blocks.layout.flindex(need), blocks.layout.lists - 1):
        found = blocks.freelists[index]
        if found is not None:
            return found
    raise RuntimeError(f"the free block of {need} bytes that was counted on is not there")


def _relocate(blocks: Blocks, desc: Descriptor, target: Descriptor) -> None:
    """Copy a used block to the start of a free one; its descriptor follows.  O(bytes)."""
    layout, memory = blocks.layout, blocks.source.memory
    old, new, need = blocks.address(desc), blocks.address(target), layout.aligned(desc.size)
    _, prevoffset = blocks.header_at(new)
    blocks.remove_block(target)
    memory[new + layout.header : new + desc.size] = memory[old + layout.header : old + desc.size]
    desc.page, desc.offset = target.page, target.offset
    blocks.set_header(new, desc, prevoffset)
    if target.size == need:
        blocks.free_desc(target)
        return
    after = blocks.follower(target, target.size)
    target.offset += need
    target.size -= need
    blocks.set_header(blocks.address(target), target, desc.offset)
    if after is not None:
        blocks.set_prevoffset(after, target.offset)
    blocks.insert_block(target)
