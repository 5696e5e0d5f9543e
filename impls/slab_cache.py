"""One cache of SLAB: slabs with an index of their free slots, and arrays of objects that CPUs have ready.

Source: ``mm/slab.c`` of Linux 6.1, steps have their names there; the way of 2005 is in
``slab_cache_2005``.  The index is a stack: its first ``inuse`` numbers mean nothing, those behind are the
free slots, next one first::

    inuse 2    [ . . | 4 0 3 ]     alloc: slot 4, inuse 3       free slot 1: inuse 1, [ . | 1 4 0 3 ]

In a free object it stands in the slot that its last number names, which is therefore handed out last;
of a full slab there is none, and the first slot that is freed holds the next one.

An object goes round like this; one in an array counts as in use for its slab::

    slab (partial first, then free)  --batchcount-->  array of the CPU (last in, first out)  -->  user
    slab  <--the oldest batchcount, if the shared array is full--  array, if full  <--  user

With ``shuffle`` the slots of a new slab are in random order (CONFIG_SLAB_FREELIST_RANDOM): each cache has
one order, and each slab begins somewhere in it.

Left out: debugging, several nodes with their alien arrays, memory that emergencies are served from,
constructors themselves.

>>> from heaplaw import PageSource
>>> from heaplaw.impls.slab_geometry import layout
>>> cache = SlabCache(Frames(PageSource(pages=2)), layout(1024, limit=2))
>>> cache.alloc(0), len(cache.arrays[0].entry), cache.free_objects    # a batch of one, three left in the slab
(0, 0, 3)
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any

from .slab_geometry import Layout
from .slab_pages import Frames, SlabRun, link, link_last, members, unlink

BATCHREFILL_LIMIT = 16  # objects that a CPU gets at once if it has had none lately
NOWHERE = -1  # address of the index of a full slab whose index stands in free objects
LISTS = ("partial", "free", "full")


class ArrayCache:
    """Objects that are ready, oldest first."""

    __slots__ = ("batchcount", "entry", "limit", "touched")

    def __init__(self, limit: int, batchcount: int) -> None:
        self.entry: list[int] = []
        self.limit, self.batchcount = limit, batchcount
        self.touched = False  # used since it was last reaped


class SlabCache:
    """Objects of one layout over shared frames, for ``cpus`` CPUs."""

    __slots__ = (
        "_first_random", "_frames", "_memory", "arrays", "colour_next", "free_objects", "free_touched", "layout",
        "moved", "name", "random_seq", "random_state", "shared", "slabs_free", "slabs_full", "slabs_partial",
    )  # fmt: skip

    def __init__(self, frames: Frames, layout: Layout, cpus: int = 1, name: Hashable = 0, shuffle: int = 0) -> None:
        """``shuffle``: where the random numbers begin that slots are shuffled by; 0: they are not."""
        self.name = name
        self._frames, self._memory, self.layout = frames, frames.source.memory, layout
        self.arrays = [ArrayCache(layout.limit, layout.batchcount) for _ in range(cpus)]
        self.shared = ArrayCache(layout.shared, 0) if layout.shared else None
        self.slabs_partial, self.slabs_free, self.slabs_full = (SlabRun(self.name, -1, 0) for _ in LISTS)
        self.free_objects = 0  # free slots of all slabs; what is in arrays is not among them
        self.free_touched = False  # a free slab was used since the last reaping
        self.colour_next = 0
        self.moved = 0  # objects that the last call moved between arrays and slabs
        self.random_state = shuffle
        self.random_seq = self._cache_random_seq_create() if shuffle else []
        self._first_random = self.random_state

    # ---- the two operations ------------------------------------------------------------

    def alloc(self, cpu: int) -> int | None:
        """Address of an object; None when the page source refuses a slab.  O(batchcount)."""
        self.moved = 0
        ac = self.arrays[cpu]
        if ac.entry:
            ac.touched = True
            return ac.entry.pop()
        return self._cache_alloc_refill(ac)

    def free(self, slab: SlabRun, address: int, cpu: int) -> None:
        """Take an object back.  O(batchcount) when the CPU's array is full."""
        ac = self.arrays[cpu]
        if len(ac.entry) >= ac.limit:
            if not ac.limit:  # no array at all
                self._free_block([address])
                return
            self._cache_flusharray(ac)
        ac.entry.append(address)

    def shrink(self) -> int:
        """Empty all arrays and give all empty slabs back; pages given.  O(slabs + objects ready)."""
        held = self._frames.source.held
        for ac in self._every_array():
            self._drain(ac, len(ac.entry))
        self._drain_freelist(self._frames.source.total)
        return held - self._frames.source.held

    def reap(self) -> int:
        """What every CPU does every two seconds: take from idle arrays, give some empty slabs back; pages given.

        Here the CPUs do it one after the other, and then one of them looks at what they share.
        """
        held = self._frames.source.held
        for ac in self._every_array():
            self._drain_array(ac)
        if self.free_touched:
            self.free_touched = False
        else:
            num = self.layout.num
            self._drain_freelist((self.layout.free_limit + 5 * num - 1) // (5 * num))
        return held - self._frames.source.held

    # ---- allocation ----------------------------------------------------------------------

    def _cache_alloc_refill(self, ac: ArrayCache) -> int | None:
        """Fill a CPU's array and take an object from it."""
        batchcount = ac.batchcount
        if not ac.touched and batchcount > BATCHREFILL_LIMIT:
            batchcount = BATCHREFILL_LIMIT
        if self.shared is not None and self._transfer_objects(ac, self.shared, batchcount):
            self.shared.touched = True
        elif self.free_objects:
            while batchcount > 0:
                slab = self._get_first_slab()
                if slab is None:
                    break
                batchcount = self._alloc_block(ac, slab, batchcount)
                self._fixup_slab_list(slab)
            self.free_objects -= len(ac.entry)
        if not ac.entry:
            slab = self._cache_grow_begin()
            if slab is None:
                return None
            self._alloc_block(ac, slab, batchcount)
            self._cache_grow_end(slab)
        ac.touched = True
        return ac.entry.pop()

    def _transfer_objects(self, to: ArrayCache, source: ArrayCache, most: int) -> int:
        """Move the newest objects of one array to the end of another; how many."""
        count = min(len(source.entry), most, to.limit - len(to.entry))
        if count > 0:
            to.entry += source.entry[-count:]
            del source.entry[-count:]
            self.moved += count
        return count

    def _get_first_slab(self) -> SlabRun | None:
        """A partial slab, else a free one."""
        if self.slabs_partial.after is not self.slabs_partial:
            return self.slabs_partial.after
        self.free_touched = True
        return self.slabs_free.after if self.slabs_free.after is not self.slabs_free else None

    def _alloc_block(self, ac: ArrayCache, slab: SlabRun, batchcount: int) -> int:
        """Move free slots of a slab to an array; what is left of the batch."""
        while slab.inuse < slab.objects and batchcount > 0:
            ac.entry.append(self._slab_get_obj(slab))
            batchcount -= 1
            self.moved += 1
        return batchcount

    def _fixup_slab_list(self, slab: SlabRun) -> None:
        """Put a slab that was taken from on the list where it belongs now."""
        unlink(slab)
        if slab.inuse == slab.objects:
            link(self.slabs_full, slab)
            self._forget_index(slab)
        else:
            link(self.slabs_partial, slab)

    def _cache_grow_begin(self) -> SlabRun | None:
        """A new slab, cut into slots; None when its pages are refused: there is no smaller one."""
        slab = self._frames.take(self.name, self.layout.order)
        return None if slab is None else self._cut(slab, self._next_colour())

    def _cut(self, slab: SlabRun, colour: int) -> SlabRun:
        """Cut the pages of a slab into slots."""
        here = self.layout
        slab.objects, slab.size, slab.usable = here.num, here.size, here.usable
        slab.s_mem += colour
        self._alloc_slabmgmt(slab)
        self._cache_init_objs(slab)
        return slab

    def _next_colour(self) -> int:
        """Bytes before slot 0 of the next slab.  The first one has the second colour, if there are two."""
        self.colour_next += 1
        if self.colour_next >= self.layout.colours:
            self.colour_next = 0
        return self.colour_next * self.layout.colour_off

    def _cache_grow_end(self, slab: SlabRun) -> None:
        """Enter a new slab, from which objects may have been taken."""
        if slab.inuse:
            self._fixup_slab_list(slab)
        else:
            link_last(self.slabs_free, slab)
        self.free_objects += slab.objects - slab.inuse

    # ---- freeing -------------------------------------------------------------------------

    def _cache_flusharray(self, ac: ArrayCache) -> None:
        """Make room in a full array: its oldest objects go to the shared array, or to their slabs."""
        batchcount = ac.batchcount
        room = self.shared.limit - len(self.shared.entry) if self.shared is not None else 0
        if self.shared is not None and room:
            batchcount = min(batchcount, room)
            self.shared.entry += ac.entry[:batchcount]
            del ac.entry[:batchcount]
        else:
            self._drain(ac, batchcount)

    def _free_block(self, objects: list[int]) -> None:
        """Give objects back to their slabs; then slabs, while more than ``free_limit`` slots are free."""
        self.free_objects += len(objects)
        self.moved += len(objects)
        for address in objects:
            slab = self._frames.slab_of[address >> self._frames.shift]
            unlink(slab)
            self._slab_put_obj(slab, address)
            if slab.inuse == 0:
                link(self.slabs_free, slab)
            else:
                link_last(self.slabs_partial, slab)
        while self.free_objects > self.layout.free_limit and self.slabs_free.before is not self.slabs_free:
            self._slab_destroy(self.slabs_free.before)

    def _slab_destroy(self, slab: SlabRun) -> None:
        """Give an empty slab back."""
        unlink(slab)
        self.free_objects -= slab.objects
        self._frames.give(slab)

    def _drain(self, ac: ArrayCache, count: int) -> None:
        """Give the oldest objects of an array back to their slabs."""
        objects = ac.entry[:count]
        del ac.entry[:count]
        self._free_block(objects)

    def _drain_array(self, ac: ArrayCache) -> None:
        """Take a fifth of what an array may hold, unless it was used lately."""
        avail = len(ac.entry)
        if not avail:
            return
        if ac.touched:
            ac.touched = False
            return
        count = (ac.limit + 4) // 5
        self._drain(ac, count if count <= avail else (avail + 1) // 2)

    def _drain_freelist(self, most: int) -> None:
        """Give so many empty slabs back, the last of the list first."""
        for _ in range(most):
            if self.slabs_free.before is self.slabs_free:
                break
            self._slab_destroy(self.slabs_free.before)

    # ---- the index of free slots -----------------------------------------------------------

    def _alloc_slabmgmt(self, slab: SlabRun) -> None:
        """Find the index its place: in a free object, elsewhere, or at the end of the slab."""
        here = self.layout
        slab.freelist = NOWHERE
        if here.place == "off":
            slab.store, slab.freelist = bytearray(here.index_bytes), 0
        elif here.place == "on":
            slab.freelist = (slab.page << self._frames.shift) + (here.page_size << here.order) - here.index_bytes

    def _cache_init_objs(self, slab: SlabRun) -> None:
        """All slots are free, ascending unless they are shuffled."""
        if self._shuffle_freelist(slab):
            return
        if self.layout.place == "object":
            slab.freelist = slab.s_mem + (slab.objects - 1) * slab.size
        for position in range(slab.objects):
            self._set_free_obj(slab, position, position)

    # ---- shuffling -------------------------------------------------------------------------

    def _random(self) -> int:
        """32 random bits: the upper ones of a linear congruential generator (constants by Knuth)."""
        self.random_state = (self.random_state * 6364136223846793005 + 1442695040888963407) & (1 << 64) - 1
        return self.random_state >> 32

    def _cache_random_seq_create(self) -> list[int]:
        """All slots in an order that this cache keeps."""
        slots = list(range(self.layout.num))
        for last in range(len(slots) - 1, 0, -1):
            chosen = self._random() % (last + 1)
            slots[last], slots[chosen] = slots[chosen], slots[last]
        return slots

    def _next_random_slot(self, position: int) -> int:
        """A slot of the order, which goes round."""
        return self.random_seq[position % len(self.random_seq)]

    def _shuffle_freelist(self, slab: SlabRun) -> bool:
        """Let a slab begin somewhere in the cache's order.  False where there is nothing to shuffle."""
        count = slab.objects
        if count < 2 or not self.random_seq:
            return False
        at = self._random() % count
        holder = -1
        if self.layout.place == "object":  # the first one holds the index, and is handed out last
            holder, at, count = self._next_random_slot(at), at + 1, count - 1
            slab.freelist = slab.s_mem + holder * slab.size
        for position in range(count):
            self._set_free_obj(slab, position, self._next_random_slot(at + position))
        if holder >= 0:
            self._set_free_obj(slab, count, holder)
        return True

    # ---- one number and one slot -------------------------------------------------------------

    def _get_free_obj(self, slab: SlabRun, position: int) -> int:
        """A number of the index."""
        entry, memory = self.layout.entry, self._memory if slab.store is None else slab.store
        at = slab.freelist + position * entry
        return memory[at] if entry == 1 else int.from_bytes(memory[at : at + entry], "little")

    def _set_free_obj(self, slab: SlabRun, position: int, slot: int) -> None:
        entry, memory = self.layout.entry, self._memory if slab.store is None else slab.store
        at = slab.freelist + position * entry
        memory[at : at + entry] = slot.to_bytes(entry, "little")

    def _slab_get_obj(self, slab: SlabRun) -> int:
        """Take the next free slot of a slab."""
        slot = self._get_free_obj(slab, slab.inuse)
        slab.inuse += 1
        return slab.s_mem + slot * slab.size

    def _slab_put_obj(self, slab: SlabRun, address: int) -> None:
        """Make a slot the next free one."""
        slab.inuse -= 1
        if slab.freelist == NOWHERE:
            slab.freelist = address
        self._set_free_obj(slab, slab.inuse, (address - slab.s_mem) // slab.size)

    def _forget_index(self, slab: SlabRun) -> None:
        """The object with the index of a slab that is full now has been handed out."""
        if self.layout.place == "object":
            slab.freelist = NOWHERE

    def _every_array(self) -> Iterator[ArrayCache]:
        """Those of the CPUs, then the one that they share."""
        yield from self.arrays
        if self.shared is not None:
            yield self.shared

    def forget(self) -> None:
        """Start anew, without a slab: the pages have been given back."""
        for ac in self._every_array():
            ac.entry.clear()
            ac.touched = False
        self.slabs_partial, self.slabs_free, self.slabs_full = (SlabRun(self.name, -1, 0) for _ in LISTS)
        self.free_objects = self.colour_next = 0
        self.free_touched = False
        self.random_state = self._first_random

    # ---- what is seen --------------------------------------------------------------------

    def _index_slots(self, slab: SlabRun) -> list[int]:
        """Free slots by the index, next one first.  RuntimeError for a slot that does not exist, or stands twice."""
        slots = [self._get_free_obj(slab, position) for position in range(slab.inuse, slab.objects)]
        if len(set(slots)) != len(slots) or any(slot >= slab.objects for slot in slots):
            raise RuntimeError(f"the index of the slab at page {slab.page} says {slots}")
        return slots

    def ready(self) -> dict[SlabRun, list[int]]:
        """Slots in arrays, by slab.  O(objects ready)."""
        found: dict[SlabRun, list[int]] = {}
        for ac in self._every_array():
            for address in ac.entry:
                slab = self._frames.find(address)
                found.setdefault(slab, []).append((address - slab.s_mem) // slab.size)
        return found

    def free_slots(self, slabs: Iterable[SlabRun]) -> dict[SlabRun, list[int]]:
        """Free slots of every slab: by its index, then those in arrays.  O(free slots)."""
        ready = self.ready()
        return {slab: self._index_slots(slab) + ready.get(slab, []) for slab in slabs}

    def free_count(self) -> int:
        """Free slots as the cache counts them, and objects in arrays.  O(CPUs)."""
        return self.free_objects + sum(len(ac.entry) for ac in self._every_array())

    def in_use(self, slabs: Iterable[SlabRun]) -> tuple[int, int]:
        """(objects, bytes) in use: what the slabs count, but for what is in arrays.  O(slabs)."""
        ready = sum(len(ac.entry) for ac in self._every_array())
        objects = sum(slab.inuse for slab in slabs) - ready
        return objects, objects * self.layout.usable

    def listed(self, slabs: Iterable[SlabRun]) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """("partial", "free" or "full", name) of every slab.  O(slabs + objects ready).

        Its name is (first page, order, how many of its objects are in arrays).
        """
        ready = self.ready()
        for name, head in zip(LISTS, (self.slabs_partial, self.slabs_free, self.slabs_full), strict=True):
            for slab in members(head, self._frames.source.total):
                yield name, (slab.page, slab.order, len(ready.get(slab, ())))

    def metadata(self, slabs: int) -> tuple[int, int]:
        """Index bytes in the slabs (none if they are in free objects); arrays, records and other indexes."""
        here, cpus = self.layout, len(self.arrays)
        index = slabs * here.index_bytes
        beside = here.metadata_bound(cpus, 0)
        if here.place == "object":
            return 0, beside
        return (index, beside) if here.place == "on" else (0, beside + index)

    # ---- states ----------------------------------------------------------------------------

    def books(self, slab: SlabRun, free: list[int]) -> Iterator[tuple[int, int]]:
        """Where in the pages the numbers of the index are that mean something: (address, bytes)."""
        if slab.store is None and slab.inuse < slab.objects:
            entry = self.layout.entry
            yield slab.freelist + slab.inuse * entry, (slab.objects - slab.inuse) * entry

    def state(self) -> tuple[Any, ...] | None:
        """Lists by pages, arrays, counts; None if there is nothing.  O(slabs + objects ready)."""
        lists = [
            tuple(slab.page for slab in members(head, self._frames.source.total))
            for head in (self.slabs_partial, self.slabs_free, self.slabs_full)
        ]
        arrays = [(tuple(ac.entry), ac.touched) for ac in self._every_array()]
        rest = self.free_objects, self.free_touched, self.colour_next, self.random_state
        if not any(lists) and not any(map(any, arrays)) and rest == (0, False, 0, self._first_random):
            return None
        return tuple(lists), tuple(arrays), *rest

    def set_state(self, state: tuple[Any, ...], by_page: Mapping[int, SlabRun]) -> None:
        """Return to a state, over slabs that are there again.  O(slabs + objects ready)."""
        self.forget()
        lists, arrays, self.free_objects, self.free_touched, self.colour_next, self.random_state = state
        for pages, head in zip(lists, (self.slabs_partial, self.slabs_free, self.slabs_full), strict=True):
            for page in pages:
                link_last(head, by_page[page])
        for ac, (entry, touched) in zip(self._every_array(), arrays, strict=True):
            ac.entry, ac.touched = list(entry), touched
