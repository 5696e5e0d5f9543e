"""One cache of SLUB: slabs whose free objects are chained through themselves.

Source: ``mm/slub.c`` of Linux 6.1, without debugging; steps have their names there.  A free object
holds a pointer to the next, nothing else is in the pages; all counts are on the slab, which in the
kernel is its ``struct page``::

    slab   [ live ][ * ][ live ][ * ][ 0 ]         freelist -> slot 1 -> slot 3 -> slot 4
                     '------------^ '--^

A CPU works on a slab of its own, which is *frozen*: on no list, and its free objects are the CPU's.
What other CPUs free goes to the slab's own chain, which the CPU takes over when its own is empty.

    CPU freelist -> CPU slab's freelist -> slabs the CPU keeps -> partial list -> new slab

Left out: debugging, hardening and shuffling of the chains, several nodes, allocation in bulk, memory
that emergencies are served from, and everything that exists because of interrupts.

>>> from heaplaw import PageSource
>>> from heaplaw.impls.slub_order import layout
>>> cache = SlubCache(Frames(PageSource(pages=2)), layout(2048))
>>> one, two = cache.alloc(0), cache.alloc(0)
>>> cache.free(cache._frames.find(one), one, 0); cache.alloc(0) == one       # the last freed is the first had
True
"""

from array import array
from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any

from .slab_pages import PAGE_OFFSET, Frames, SlabRun, link, link_last, members, unlink
from .slub_order import CPU_STRUCT, NODE_STRUCT, WORD, Layout

SHRINK_PROMOTE_MAX = 32  # a slab with so few free objects is moved to the front by shrinking
_IDLE = (0, None, ())  # what a CPU has that never had an object


class CpuSlab:
    """What a CPU has ready: ``kmem_cache_cpu``.  Pointers are 0 for none."""

    __slots__ = ("freelist", "partial", "slab")

    def __init__(self) -> None:
        self.freelist = 0
        self.slab: SlabRun | None = None
        self.partial: SlabRun | None = None  # chained through ``next``


class SlubCache:
    """Objects of one layout over shared frames, for ``cpus`` CPUs."""

    __slots__ = (
        "_frames", "_link", "_words", "cpus", "fallbacks", "layout", "name", "nr_partial", "partial", "taken_over",
    )  # fmt: skip

    def __init__(self, frames: Frames, layout: Layout, cpus: int = 1, name: Hashable = 0) -> None:
        self.name = name
        self._frames, self._words, self.layout = frames, frames.words, layout
        self._link = layout.offset - PAGE_OFFSET  # from an object's pointer to the address of its link
        self.cpus = [CpuSlab() for _ in range(cpus)]
        self.partial = SlabRun(self.name, -1, 0)
        self.nr_partial = 0
        self.fallbacks = 0  # slabs of the lower order: ORDER_FALLBACK
        self.taken_over = 0  # slabs that the last allocation took from the partial list

    # ---- the two operations ------------------------------------------------------------

    def alloc(self, cpu: int) -> int | None:
        """Address of an object; None when the page source refuses a slab.

        O(1), but for a new slab, O(objects), and for slabs taken from the partial list beforehand,
        half of what a CPU keeps at most.
        """
        c = self.cpus[cpu]
        obj = c.freelist
        if obj:
            c.freelist = self._words[obj + self._link >> 3]
        else:
            obj = self._slab_alloc(c)
            if not obj:
                return None
        return obj - PAGE_OFFSET

    def free(self, slab: SlabRun, address: int, cpu: int) -> None:
        """Take an object back.  O(1), or O(slabs a CPU keeps) when these are full."""
        c = self.cpus[cpu]
        if slab is c.slab:
            obj = address + PAGE_OFFSET
            self.set_freepointer(obj, c.freelist)
            c.freelist = obj
        else:
            self._slab_free(slab, address + PAGE_OFFSET, c)

    def shrink(self) -> int:
        """Give every empty slab back, and sort the partial list by fullness; slabs given.  O(slabs)."""
        held = len(self._frames.slab_of)
        self._flush_all()
        self._do_shrink()
        return held - len(self._frames.slab_of)

    # ---- the chain of free objects ------------------------------------------------------

    def get_freepointer(self, obj: int) -> int:
        """What a free object points to."""
        return self._words[obj + self._link >> 3]

    def set_freepointer(self, obj: int, pointer: int) -> None:
        """Make a free object point to another."""
        self._words[obj + self._link >> 3] = pointer

    # ---- allocation ----------------------------------------------------------------------

    def _slab_alloc(self, c: CpuSlab) -> int:
        """An object from a slab whose free objects become the CPU's; 0 if there is no memory."""
        self.taken_over = 0
        while c.slab is not None:
            freelist = self._get_freelist(c.slab)
            if freelist:
                return self._load_freelist(c, freelist)
            c.slab = c.partial
            if c.slab is not None:
                c.partial = c.slab.next
        if c.partial is not None:
            c.slab, c.partial = c.partial, c.partial.next
            return self._slab_alloc(c)
        freelist = self._get_partial(c)
        if not freelist:
            slab = self._new_slab()
            if slab is None:
                return 0
            freelist = slab.freelist
            slab.freelist, slab.inuse, slab.frozen = 0, slab.objects, True
            c.slab = slab
        return self._load_freelist(c, freelist)

    def _load_freelist(self, c: CpuSlab, freelist: int) -> int:
        c.freelist = self.get_freepointer(freelist)
        return freelist

    def _get_freelist(self, slab: SlabRun) -> int:
        """Take over what others freed in a CPU's slab; a slab without is full, and no longer frozen."""
        freelist = slab.freelist
        slab.freelist, slab.inuse, slab.frozen = 0, slab.objects, freelist != 0
        return freelist

    def _get_partial(self, c: CpuSlab) -> int:
        """The free objects of the first partial slab, which becomes the CPU's; more slabs for the CPU to keep."""
        freelist, kept = 0, 0
        for slab in members(self.partial, self._frames.source.total):
            if not freelist:
                freelist = self._acquire_slab(slab)
                c.slab = slab
            else:
                self._remove_partial(slab)
                slab.frozen = True
                self._put_cpu_partial(c, slab, drain=False)
                kept += 1
            self.taken_over += 1
            if not self.layout.cpu_partial_slabs or kept > self.layout.cpu_partial_slabs // 2:
                break
        return freelist

    def _acquire_slab(self, slab: SlabRun) -> int:
        freelist = slab.freelist
        slab.freelist, slab.inuse, slab.frozen = 0, slab.objects, True
        self._remove_partial(slab)
        return freelist

    def _new_slab(self) -> SlabRun | None:
        """A slab of the preferred order; if that is refused, of the least order that holds an object."""
        here = self.layout
        slab = self._frames.take(self.name, here.order)
        if slab is None:
            slab = self._frames.take(self.name, here.min_order)
            if slab is None:
                return None
            self.fallbacks += 1
        slab.objects = here.slots(slab.order)
        slab.size, slab.usable = here.size, here.usable
        slab.freelist = self._setup_freelist(slab)
        return slab

    def _setup_freelist(self, slab: SlabRun) -> int:
        """Chain all objects of a slab, ascending; answers the first.  O(objects)."""
        size, start = slab.size, slab.s_mem + PAGE_OFFSET
        following = array("Q", range(start + size, start + slab.objects * size, size))
        following.append(0)
        first = start + self._link >> 3
        self._words[first : first + slab.objects * (size >> 3) : size >> 3] = memoryview(following)
        return start

    # ---- freeing -------------------------------------------------------------------------

    def _slab_free(self, slab: SlabRun, obj: int, c: CpuSlab) -> None:
        """Free an object of a slab that is not this CPU's."""
        prior = slab.freelist
        self.set_freepointer(obj, prior)
        slab.freelist = obj
        slab.inuse -= 1
        if slab.frozen:  # a CPU's: it will find the object
            return
        if not prior and self.layout.cpu_partial_slabs:
            slab.frozen = True
            self._put_cpu_partial(c, slab, drain=True)
        elif not slab.inuse and self.nr_partial >= self.layout.min_partial:
            if prior:
                self._remove_partial(slab)
            self._frames.give(slab)
        elif not prior:  # it was full, and on no list
            self._add_partial(slab, last=True)

    def _put_cpu_partial(self, c: CpuSlab, slab: SlabRun, *, drain: bool) -> None:
        """Let a CPU keep a frozen slab; if it has enough of them, they all go to the partial list first."""
        old = c.partial
        if old is not None and drain and old.slabs >= self.layout.cpu_partial_slabs:
            self._unfreeze_partials(c)
            old = None
        slab.slabs = old.slabs + 1 if old is not None else 1
        slab.next = old
        c.partial = slab

    # ---- slabs and lists -------------------------------------------------------------------

    def _add_partial(self, slab: SlabRun, *, last: bool) -> None:
        self.nr_partial += 1
        (link_last if last else link)(self.partial, slab)

    def _remove_partial(self, slab: SlabRun) -> None:
        unlink(slab)
        self.nr_partial -= 1

    def _deactivate_slab(self, slab: SlabRun, freelist: int) -> None:
        """Put a CPU's slab back where it belongs, its free objects before those that others freed."""
        last = slab.freelist != 0
        delta, tail = 0, 0
        for obj in self._chain(slab, freelist):
            delta, tail = delta + 1, obj
        if tail:
            slab.inuse -= delta
            self.set_freepointer(tail, slab.freelist)
            slab.freelist = freelist
        slab.frozen = False
        if not slab.inuse and self.nr_partial >= self.layout.min_partial:
            self._frames.give(slab)
        elif slab.freelist:
            self._add_partial(slab, last=last)

    def _unfreeze_partials(self, c: CpuSlab) -> None:
        """Put the slabs that a CPU keeps on the partial list, or give them back.  O(slabs kept)."""
        slab, c.partial = c.partial, None
        while slab is not None:
            following, slab.next, slab.frozen = slab.next, None, False
            if not slab.inuse and self.nr_partial >= self.layout.min_partial:
                self._frames.give(slab)
            else:
                self._add_partial(slab, last=True)
            slab = following

    def _flush_all(self) -> None:
        """Take from every CPU what it has ready."""
        for c in self.cpus:
            slab, freelist = c.slab, c.freelist
            c.slab, c.freelist = None, 0
            if slab is not None:
                self._deactivate_slab(slab, freelist)
            self._unfreeze_partials(c)

    def _do_shrink(self) -> None:
        """Give empty slabs back and put those with fewest free objects first."""
        promoted: list[list[SlabRun]] = [[] for _ in range(SHRINK_PROMOTE_MAX)]
        for slab in members(self.partial, self._frames.source.total):
            free = slab.objects - slab.inuse
            if free == slab.objects:
                self._remove_partial(slab)
                self._frames.give(slab)
            elif free <= SHRINK_PROMOTE_MAX:
                unlink(slab)
                promoted[free - 1].append(slab)
        for slabs in reversed(promoted):
            for slab in slabs:  # each goes before the one that stood before it
                link(self.partial, slab)

    def forget(self) -> None:
        """Start anew, without a slab: the pages have been given back."""
        self.cpus = [CpuSlab() for _ in self.cpus]
        self.partial = SlabRun(self.name, -1, 0)
        self.nr_partial = 0

    # ---- what is seen --------------------------------------------------------------------

    def _chain(self, slab: SlabRun, freelist: int) -> Iterator[int]:
        """Pointers of a chain of free objects.  RuntimeError where it leaves the slab, or does not end."""
        start, size, objects = slab.s_mem + PAGE_OFFSET, slab.size, slab.objects
        for _ in range(objects + 1):
            if not freelist:
                return
            slot, odd = divmod(freelist - start, size)
            if odd or not 0 <= slot < objects:
                raise RuntimeError(f"a free pointer of the slab at page {slab.page} leads to {freelist - PAGE_OFFSET}")
            following = self.get_freepointer(freelist)
            yield freelist
            freelist = following
        raise RuntimeError("free list does not end")

    def _slots(self, slab: SlabRun, freelist: int) -> list[int]:
        start = slab.s_mem + PAGE_OFFSET
        return [(obj - start) // slab.size for obj in self._chain(slab, freelist)]

    def free_slots(self, slabs: Iterable[SlabRun]) -> dict[SlabRun, list[int]]:
        """Free slots of every slab: of its own chain, then of that of its CPU.  O(free slots)."""
        found = {slab: self._slots(slab, slab.freelist) for slab in slabs}
        for c in self.cpus:
            if c.slab is not None:
                found[c.slab] += self._slots(c.slab, c.freelist)
        return found

    def in_use(self, slabs: Iterable[SlabRun]) -> tuple[int, int]:
        """(objects, bytes) in use: what the slabs count, but for what CPUs have ready.  O(slabs + these)."""
        ready = sum(1 for c in self.cpus if c.slab is not None for _ in self._chain(c.slab, c.freelist))
        objects = sum(slab.inuse for slab in slabs) - ready
        return objects, objects * self.layout.usable

    def metadata(self, slabs: int) -> tuple[int, int]:
        """None in the slabs, whose counts are in ``struct page``; ``kmem_cache_cpu`` and the node's record."""
        return 0, CPU_STRUCT * len(self.cpus) + NODE_STRUCT

    def kept(self, c: CpuSlab) -> Iterator[SlabRun]:
        """Slabs that a CPU keeps, first to last.  RuntimeError for a chain that does not end."""
        slab = c.partial
        for _ in range(self._frames.source.total + 1):
            if slab is None:
                return
            yield slab
            slab = slab.next
        raise RuntimeError("free list does not end")

    def listed(self, slabs: Iterable[SlabRun]) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """("frozen", "partial" or "full", name) of every slab, by where it is found.  O(slabs).

        Its name is (first page, order, whether it is marked as frozen).
        """
        seen: set[SlabRun] = set()
        found = [("frozen", slab) for c in self.cpus for slab in (c.slab, *self.kept(c)) if slab is not None]
        found += [("partial", slab) for slab in members(self.partial, self._frames.source.total)]
        for name, slab in found:
            seen.add(slab)
            yield name, (slab.page, slab.order, slab.frozen)
        for slab in slabs:  # a full slab is on no list: its pages alone lead to it
            if slab not in seen:
                yield "full", (slab.page, slab.order, slab.frozen)

    # ---- states ----------------------------------------------------------------------------

    def books(self, slab: SlabRun, free: list[int]) -> Iterator[tuple[int, int]]:
        """Where the links of free slots are: (address, bytes)."""
        return ((slab.s_mem + slot * slab.size + self.layout.offset, WORD) for slot in free)

    def state(self) -> tuple[Any, ...] | None:
        """The partial list and what each CPU has, slabs by their pages; None if there is nothing.  O(slabs)."""
        pages = [slab.page for slab in members(self.partial, self._frames.source.total)]
        cpus = [(c.freelist, c.slab and c.slab.page, tuple(slab.page for slab in self.kept(c))) for c in self.cpus]
        if not pages and not self.nr_partial and all(cpu == _IDLE for cpu in cpus):
            return None
        return tuple(pages), self.nr_partial, tuple(cpus)

    def set_state(self, state: tuple[Any, ...], by_page: Mapping[int, SlabRun]) -> None:
        """Return to a state, over slabs that are there again.  O(slabs)."""
        self.forget()
        pages, self.nr_partial, cpus = state
        for page in pages:
            link_last(self.partial, by_page[page])
        for c, (freelist, own, kept) in zip(self.cpus, cpus, strict=True):
            c.freelist, c.slab = freelist, None if own is None else by_page[own]
            for page in reversed(kept):
                by_page[page].next, c.partial = c.partial, by_page[page]
