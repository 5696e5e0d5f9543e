"""kmalloc: memory of any size from caches of a few sizes, and from whole pages above.

Source: ``mm/slab_common.c`` of Linux 6.1 over SLUB (``era="slub"``) or SLAB (``era="slab"``), and
``mm/slab.c`` with ``kmalloc_sizes.h`` as it was from 2005 on (``era="2005"``).  The classes are in
``kmalloc_classes``; the caches are those of ``slub_cache`` and ``slab_cache``, over one page source::

    kmalloc(100)   ->  class 128   ->  cache of 128-byte objects  ->  slab of pages
    kmalloc(9000)  ->                  order 2                    ->  4 pages           (9000 > 8192)

An object is all of its slot, as ``ksize`` says.  Objects of a power of two are aligned to it (since
5.4; before, to the cache line or less).  Large requests are runs of pages, at most 2**10.  In 2005
there were no such: above the largest class nothing was to be had.

kmalloc(0) is no object: it answers ZERO_SIZE_PTR, address 16, where no memory is (since 2.6.22).
Freeing it does nothing.  Here, where addresses count from the first page, it is ``ZERO_SIZE_PTR``,
far below 0; its extents are empty.  ``zero="refuse"`` refuses it instead.  In 2005 it got an object
of the smallest class.

Caches are made when first used.  A request is served by the CPU of ``ctx``, see ``slub``.

Left out: reclaimable, DMA, accounted and random kmalloc caches, which are copies of these of the same
sizes (of 41,538 requests recorded on 6.18, some of them accounted, every one got the class of 6.1); and
``krealloc``, which keeps a slot that is longer than its object calls for, so that no bound on waste could
be promised.

Costs: those of the caches; O(1) to find one.

>>> heap = Kmalloc(pages=16)
>>> [heap.ksize(heap.alloc(size)) for size in (1, 65, 100, 1500, 9000)]
[8, 96, 128, 2048, 16384]
>>> heap.ksize(heap.alloc(0)), heap.alloc(0) == ZERO_SIZE_PTR
(0, True)
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any, ClassVar

from heaplaw import Context, Listed, Maintained, PageSource, Refusal

from .kmalloc_promises import configured
from .pages_arithmetic import get_order
from .slab_pages import PAGE_OFFSET, Frames, SlabRun
from .slab_states import HasStates

ZERO_SIZE_PTR = 16 - PAGE_OFFSET
"""What kmalloc(0) answers: the kernel's address 16."""


class LargePages:
    """Requests above the largest class: runs of pages, each one object."""

    __slots__ = ("_frames", "name")

    def __init__(self, frames: Frames) -> None:
        self._frames, self.name = frames, "pages"

    def kmalloc_large(self, order: int) -> int | None:
        """Address of ``2**order`` pages, or None.  O(pages)."""
        slab = self._frames.take(self.name, order)
        if slab is None:
            return None
        slab.objects = slab.inuse = 1
        slab.size = slab.usable = self._frames.source.page_size << order
        return slab.s_mem

    def free(self, slab: SlabRun, address: int, cpu: int) -> None:
        """Give a run back.  O(pages)."""
        self._frames.give(slab)

    def shrink(self) -> int:
        """Nothing is kept."""
        return 0

    def forget(self) -> None:
        """Nothing is known but the pages."""

    def free_slots(self, slabs: Iterable[SlabRun]) -> dict[SlabRun, list[int]]:
        """None."""
        return {slab: [] for slab in slabs}

    def in_use(self, slabs: Iterable[SlabRun]) -> tuple[int, int]:
        """(runs, bytes)."""
        sizes = [slab.usable for slab in slabs]
        return len(sizes), sum(sizes)

    def listed(self, slabs: Iterable[SlabRun]) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """Nothing: they are on no list."""
        return iter(())

    def metadata(self, slabs: int) -> tuple[int, int]:
        """None."""
        return 0, 0

    def books(self, slab: SlabRun, free: list[int]) -> tuple[tuple[int, int], ...]:
        """None."""
        return ()

    def state(self) -> tuple[Any, ...] | None:
        """Nothing but the pages."""
        return None

    def set_state(self, state: Any, by_page: Mapping[int, SlabRun]) -> None:
        """Nothing to do."""


class Kmalloc(HasStates):
    """kmalloc over ``pages`` pages, or over ``source``, which others may draw from too.

    ``era``: "slub", "slab" or "2005".  ``line``: bytes of a cache line.  ``least``: of a class, 0 for
    the era's own; not in 2005.  ``largest``: the last class, 0 for the era's own.  ``zero``: "pointer"
    or "refuse"; not in 2005.  ``cpus``: that share the caches.
    """

    _large_pages: ClassVar[type[LargePages]] = LargePages

    def __init__(
        self,
        pages: int = 256,
        page_size: int = 4096,
        era: str = "slub",
        cpus: int = 1,
        line: int = 64,
        least: int = 0,
        largest: int = 0,
        zero: str = "pointer",
        *,
        source: PageSource | None = None,
    ) -> None:
        if source is not None:
            pages, page_size = source.total, source.page_size
        self._terms, self.contract = configured(pages, page_size, str(era), cpus, line, least, largest, zero)
        self.source = PageSource(pages, page_size=page_size) if source is None else source
        self._frames = Frames(self.source)
        self._largest, self._most, self._class_of = self._terms.largest, self._terms.most, self._terms.class_of
        self._large = self._large_pages(self._frames)
        self._caches: dict[Any, Any] = {}  # by class

    # ---- the operations ----------------------------------------------------------------

    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> int | Refusal | None:
        """Address of at least ``size`` bytes; None when the page source refuses pages.

        INVALID for an alignment of more than a word, and for size 0 if that is refused; TOO_BIG
        above what any number of pages would hold.
        """
        if not 0 < size <= self._largest or align != 1:
            return self._alloc_odd(size, align, ctx)
        kind = self._class_of(size)
        cache = self._caches.get(kind)
        if cache is None:
            cache = self._create_kmalloc_cache(kind)
        answer: int | None = cache.alloc(0 if ctx is None else ctx.cpu)
        return answer

    def _alloc_odd(self, size: int, align: int, ctx: Context | None) -> int | Refusal | None:
        """A request that is aligned, of no bytes, or above the largest class."""
        if size < 0 or not 0 < align <= self.contract.granule or align & (align - 1):
            return Refusal.INVALID
        if size == 0:
            if self._terms.zero == "refuse":
                return Refusal.INVALID
            return ZERO_SIZE_PTR if self._terms.zero == "pointer" else self.alloc(1, ctx=ctx)
        if size > self._most:
            return Refusal.TOO_BIG
        if size <= self._largest:
            return self.alloc(size, ctx=ctx)
        return self._large.kmalloc_large(get_order(size, self._frames.shift))

    def free(self, handle: int | None, *, ctx: Context | None = None) -> None:
        """kfree: nothing for None and for ZERO_SIZE_PTR.  InvalidFree for an address in no slab or run."""
        if handle is None or handle == ZERO_SIZE_PTR:
            return
        slab = self._frames.find(handle)
        cache = self._caches.get(slab.name) or self.cache_named(slab.name)  # not made yet after a restore
        cache.free(slab, handle, 0 if ctx is None else ctx.cpu)

    def ksize(self, handle: int | None) -> int:
        """Bytes that the owner of an object may use; 0 for None and ZERO_SIZE_PTR.  O(1)."""
        if handle is None or handle == ZERO_SIZE_PTR:
            return 0
        return self._frames.find(handle).usable

    def maintain(self, kind: str) -> Maintained:
        """``shrink``: every cache gives its empty slabs back; ``reap`` (SLAB only): some of them.  O(slabs)."""
        if kind not in self.contract.maintenance:
            raise ValueError(f"kmalloc knows the maintenance {', '.join(self.contract.maintenance)}, not {kind!r}")
        held = self.source.held
        for cache in self._caches.values():
            (cache.shrink if kind == "shrink" else cache.reap)()
        return Maintained(pages_freed=held - self.source.held)

    def destroy(self) -> None:
        """Give every page back, whatever is live: kmalloc itself never ends.  O(pages)."""
        self.give_all()

    def give_all(self) -> None:
        """Give every page back, and forget all caches.  O(pages)."""
        super().give_all()
        self._caches.clear()

    def _create_kmalloc_cache(self, kind: int) -> Any:
        """The cache of a class, at its first use."""
        terms = self._terms
        cache = self._caches[kind] = terms.make_cache(self._frames, terms.layouts[kind], terms.cpus, kind)
        return cache

    # ---- observations ------------------------------------------------------------------

    def caches(self) -> tuple[Any, ...]:
        """Caches that have been used, ascending, then large requests."""
        return (*(self._caches[kind] for kind in sorted(self._caches)), self._large)

    def cache_named(self, name: Hashable) -> Any:
        """The cache of a class (in bytes), or "pages"."""
        if name == "pages":
            return self._large
        assert isinstance(name, int)
        return self._caches.get(name) or self._create_kmalloc_cache(name)

    def extents(self, handle: int) -> tuple[tuple[int, int, int], ...]:
        """The whole slot or run of pages; nothing for ZERO_SIZE_PTR.  O(1)."""
        if handle == ZERO_SIZE_PTR:
            return ()
        return super().extents(handle)

    def lists(self) -> Iterator[Listed]:
        """Where each slab is found; its name begins with its class, the rest is its cache's.  O(slabs)."""
        for cache_name, slabs in self._frames.by_cache().items():
            for name, key in self.cache_named(cache_name).listed(slabs):
                yield Listed(name, (cache_name, *key))

    def counters(self) -> Mapping[str, int]:
        """``used_bytes`` and ``pages``; objects of no bytes are not known to anyone.  O(slabs)."""
        seen = super().counters()
        return {"used_bytes": seen["used_bytes"], "pages": seen["pages"]}
