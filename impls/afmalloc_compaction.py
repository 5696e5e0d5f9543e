"""Compaction of an afmalloc pool: its pieces packed into the lowest slots that the slabs have.

The idea is Joonsoo Kim's, linux-mm, 7 October 2014, in answer to the objection that the slabs
stay fragmented: sort the chunks by address, which is all that kmalloc shows; copy them to a
buffer in ascending order and free them, so that whole slabs go back to the page allocator; then
allocate again, into fragmented slabs, and copy back.  It was not implemented.

Taken literally it can lose data: the slabs that were given back are needed again if the others
have too little room, and the page allocator may refuse them.  So here everything is allocated
before anything is freed, and nothing is copied but into memory that is already had::

    size 64, three slabs    [ a . b . ]  [ . c # . ]  [ d . . e ]      # is somebody else's
    allocate all free slots [ a + b + ]  [ + c # + ]  [ d + + e ]
    highest into lowest     [ a e b d ]  [ c + # + ]  [ + + + + ]
    free the rest, ascending[ a e b d ]  [ c . # . ]  given back

Free slots end where kmalloc takes a page for the next one, or would have to and is refused; one
so had is freed again.  Direct objects and metadata stay: their addresses are in handles.  A
second pass finds the pieces in the lowest slots already and moves none.

Nothing here takes a page that it does not give back, so that the pool never holds more pages
than before, whenever the page source begins to refuse.

>>> from heaplaw.impls.afmalloc import Afmalloc
>>> pool = Afmalloc(pages=64)
>>> handles = [pool.alloc(400) for _ in range(32)]
>>> for handle in handles[:28]: pool.free(handle)
>>> before = pool.source.held
>>> done = pool.maintain("compact"); done.moved > 0, done.pages_freed == before - pool.source.held > 0
(True, True)
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .afmalloc import Afmalloc

Chunk = tuple[int, int, int]
"""A piece: its address, the entry that points to it, and which pointer does."""


def compact(pool: "Afmalloc") -> int:
    """Move pieces down, one size after the other, the largest first; pieces moved."""
    by_size = chunks_by_size(pool)
    return sum([compact_size(pool, size, by_size[size]) for size in sorted(by_size, reverse=True)])


def chunks_by_size(pool: "Afmalloc") -> dict[int, list[Chunk]]:
    """Every piece of every split object, by its bytes."""
    by_size: dict[int, list[Chunk]] = {}
    for entry in pool._entries:
        for index, (address, size) in enumerate(pool._pieces(pool._base + entry)):
            by_size.setdefault(size, []).append((address, entry, index))
    return by_size


def compact_size(pool: "Afmalloc", size: int, chunks: list[Chunk]) -> int:
    """Move the highest chunks of one size into the lowest free slots, while that is downwards."""
    slots = sorted(free_slots(pool, size))
    chunks.sort()
    moved = 0
    while moved < len(slots) and chunks and slots[moved] < chunks[-1][0]:
        old, entry, index = chunks.pop()
        new, slots[moved] = slots[moved], old
        pool._move(size, old, new, entry, index)
        moved += 1
    for address in sorted(slots):
        pool._slab.free(address)
    return moved


def free_slots(pool: "Afmalloc", size: int) -> list[int]:
    """Allocate all that is free of one size without another page; the addresses."""
    slots: list[int] = []
    while True:
        held = pool.source.held
        address = pool._kmalloc(size)
        if address is None:
            return slots
        if pool.source.held > held:
            pool._slab.free(address)
            return slots
        slots.append(address)


def move(pool: "Afmalloc", size: int, old: int, new: int, entry: int, index: int) -> None:
    """Copy a piece to memory that is had already, and only then let its object know."""
    memory = pool.source.memory
    memory[new : new + size] = memory[old : old + size]
    pool._set_pointer(entry, index, pool._base + new)
    pool._copies += 1
