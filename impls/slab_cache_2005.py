"""One cache of SLAB as it was from 2005 on: a header and a chained index in front of the slots.

Source: ``mm/slab.c`` of Linux 2.6.11, with the widths of 2006 (recalled, see ``slab_geometry``).  The
index is a chain through numbers, one for each slot: that of a free slot names the next free one::

    | inuse 2, free 1 | . 3 . 4 END |      free slots 1, 3, 4

Counts and numbers are in the slab's memory.  Otherwise as in ``slab_cache``, but that an empty slab
goes back at once if more than ``free_limit`` slots are free, the first slab has the first colour, and
a slab that is refused uses up its colour.

>>> from heaplaw import PageSource
>>> from heaplaw.impls.slab_geometry import layout_of_2005
>>> from heaplaw.impls.slab_pages import Frames
>>> cache = SlabCacheOf2005(Frames(PageSource(pages=2)), layout_of_2005(256, limit=1))
>>> first, second = cache.alloc(0), cache.alloc(0)
>>> first == cache.layout.prologue, second - first    # header and index stand in front of slot 0
(True, 256)
"""

from collections.abc import Iterator

from .slab_cache import ArrayCache, SlabCache
from .slab_geometry import HEADER_OF_2005
from .slab_pages import SlabRun, link, link_last, unlink

BUFCTL_END = 0xFFFF_FFFF
_INUSE, _FREE = 32, 36  # bytes into the header: after list, colour offset and s_mem
_WIDTH = 4


class SlabCacheOf2005(SlabCache):
    """The cache of ``slab_cache`` with the index, the colours and the frees of 2005; see the module."""

    __slots__ = ()

    def _next_colour(self) -> int:
        colour = self.colour_next
        self.colour_next += 1
        if self.colour_next >= self.layout.colours:
            self.colour_next = 0
        return colour * self.layout.colour_off

    def _cache_grow_begin(self) -> SlabRun | None:
        """A new slab; its colour is gone even if its pages are refused."""
        self.free_touched = True  # the lists were looked at once more, and the last one is that of free slabs
        colour = self._next_colour()
        slab = self._frames.take(self.name, self.layout.order)
        return None if slab is None else self._cut(slab, colour)

    def _drain_array(self, ac: ArrayCache) -> None:
        """As in 6.1, but that an array without an object, too, is no longer said to be in use."""
        if ac.touched:
            ac.touched = False
        else:
            super()._drain_array(ac)

    def _free_block(self, objects: list[int]) -> None:
        """Give objects back to their slabs, and each slab that is empty then, if enough slots are free."""
        self.free_objects += len(objects)
        self.moved += len(objects)
        for address in objects:
            slab = self._frames.slab_of[address >> self._frames.shift]
            unlink(slab)
            self._slab_put_obj(slab, address)
            if slab.inuse:
                link_last(self.slabs_partial, slab)
            elif self.free_objects > self.layout.free_limit:
                self._slab_destroy(slab)
            else:
                link(self.slabs_free, slab)

    # ---- the index of free slots -----------------------------------------------------------

    def _alloc_slabmgmt(self, slab: SlabRun) -> None:
        """Header and index stand after the colour and before slot 0, or elsewhere."""
        if self.layout.place == "off":
            slab.store, slab.freelist = bytearray(self.layout.index_bytes), 0
        else:
            slab.freelist = slab.s_mem
            slab.s_mem += self.layout.prologue

    def _load(self, slab: SlabRun, at: int) -> int:
        memory, at = self._memory if slab.store is None else slab.store, slab.freelist + at
        return int.from_bytes(memory[at : at + _WIDTH], "little")

    def _store(self, slab: SlabRun, at: int, value: int) -> None:
        memory, at = self._memory if slab.store is None else slab.store, slab.freelist + at
        memory[at : at + _WIDTH] = value.to_bytes(_WIDTH, "little")

    def _cache_init_objs(self, slab: SlabRun) -> None:
        self._store(slab, _INUSE, 0)
        for slot in range(slab.objects - 1):
            self._store(slab, HEADER_OF_2005 + slot * _WIDTH, slot + 1)
        self._store(slab, HEADER_OF_2005 + (slab.objects - 1) * _WIDTH, BUFCTL_END)
        self._store(slab, _FREE, 0)

    def _slab_get_obj(self, slab: SlabRun) -> int:
        slot = self._load(slab, _FREE)
        slab.inuse = self._load(slab, _INUSE) + 1
        self._store(slab, _INUSE, slab.inuse)
        self._store(slab, _FREE, self._load(slab, HEADER_OF_2005 + slot * _WIDTH))
        return slab.s_mem + slot * slab.size

    def _slab_put_obj(self, slab: SlabRun, address: int) -> None:
        slot = (address - slab.s_mem) // slab.size
        self._store(slab, HEADER_OF_2005 + slot * _WIDTH, self._load(slab, _FREE))
        self._store(slab, _FREE, slot)
        slab.inuse = self._load(slab, _INUSE) - 1
        self._store(slab, _INUSE, slab.inuse)

    def _index_slots(self, slab: SlabRun) -> list[int]:
        """Free slots, next one first.  RuntimeError where the chain leads astray, or does not fit the count."""
        slots: list[int] = []
        slot = self._load(slab, _FREE)
        while slot != BUFCTL_END:
            if slot >= slab.objects or len(slots) >= slab.objects:
                raise RuntimeError(f"free list does not end: the index of the slab at page {slab.page} says {slots}")
            slots.append(slot)
            slot = self._load(slab, HEADER_OF_2005 + slot * _WIDTH)
        if len(slots) != slab.objects - self._load(slab, _INUSE):
            raise RuntimeError(f"the slab at page {slab.page} counts {self._load(slab, _INUSE)} in use: {slots}")
        return slots

    def books(self, slab: SlabRun, free: list[int]) -> Iterator[tuple[int, int]]:
        """Header and index."""
        if slab.store is None:
            yield slab.freelist, self.layout.index_bytes
