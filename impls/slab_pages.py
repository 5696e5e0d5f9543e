"""What SLAB, SLUB and kmalloc share: slabs in pages, found by page, held on rings, shown slot by slot.

A slab is a run of pages cut into slots of one size.  Whoever frees an object knows its address
only, so every page in use leads to its slab, as ``struct page`` does::

    page    4       5       6       7
            [ slab at page 4, order 2  ]        slab_of[4] is slab_of[5] is ... the same slab
             ^s_mem
             [ 0 ][ 1 ][ 2 ] ...                slot k begins at s_mem + k * size

Lists of slabs are rings through their heads, so that a slab leaves its list without a search.

>>> frames = Frames(PageSource(pages=4))
>>> head, one, two = SlabRun(None, 0, 0), SlabRun(None, 1, 0), SlabRun(None, 2, 0)
>>> link(head, one); link(head, two); [slab.page for slab in members(head, 4)]
[2, 1]
>>> unlink(two); [slab.page for slab in members(head, 4)]
[1]
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Any, Protocol

from heaplaw import (
    AllocationBits,
    Context,
    FreeRegion,
    InvalidFree,
    Listed,
    PageSource,
    Refusal,
    Request,
    Shadow,
)

from .bits import highest_bit, is_power_of_two
from .parameters import check_numbers

PAGE_OFFSET = 0xFFFF_8880_0000_0000
"""Where the kernel maps all memory: address 0 here is this address there, so that 0 is no pointer."""


class SlabRun:
    """A run of ``2**order`` pages of one cache, and its place on a list.  The head of a list is one too."""

    __slots__ = (
        "after", "before", "freelist", "frozen", "inuse", "name", "next", "objects", "order", "page", "s_mem",
        "size", "slabs", "store", "usable",
    )  # fmt: skip

    def __init__(self, name: Hashable, page: int, order: int) -> None:
        self.name, self.page, self.order = name, page, order  # name: of the cache, see ``Cache``
        self.s_mem = 0  # address of slot 0
        self.size = self.usable = 0  # bytes from slot to slot, bytes of an object
        self.objects = self.inuse = 0
        self.freelist = 0
        self.frozen = False
        self.next: SlabRun | None = None  # on the list of a CPU
        self.slabs = 0  # ... of this length
        self.store: Any = None  # memory of the index of free slots, where that is not in the page
        self.before = self.after = self


def link(head: SlabRun, slab: SlabRun) -> None:
    """Put a slab first.  O(1)."""
    after = head.after
    slab.before, slab.after = head, after
    after.before = head.after = slab


def link_last(head: SlabRun, slab: SlabRun) -> None:
    """Put a slab last.  O(1)."""
    link(head.before, slab)


def unlink(slab: SlabRun) -> None:
    """Take a slab off its list, if it is on one.  O(1)."""
    slab.before.after, slab.after.before = slab.after, slab.before
    slab.before = slab.after = slab


def members(head: SlabRun, limit: int) -> Iterator[SlabRun]:
    """Slabs of a list, first to last.  RuntimeError for a list longer than ``limit``."""
    slab = head.after
    for _ in range(limit + 1):
        if slab is head:
            return
        following = slab.after
        yield slab
        slab = following
    raise RuntimeError("a list of slabs does not end")


class Cache(Protocol):
    """Objects of one size.  Addresses are bytes in the page source's memory, CPUs are numbers.

    Slabs know it by its name, not as an object: so nothing refers to itself through the page source, and
    the memory of a target is free again as soon as that is forgotten.
    """

    name: Hashable

    def alloc(self, cpu: int) -> int | None: ...
    def free(self, slab: SlabRun, address: int, cpu: int) -> None: ...
    def shrink(self) -> int: ...
    def forget(self) -> None: ...
    def free_slots(self, slabs: Iterable[SlabRun]) -> Mapping[SlabRun, list[int]]: ...
    def in_use(self, slabs: Iterable[SlabRun]) -> tuple[int, int]: ...
    def listed(self, slabs: Iterable[SlabRun]) -> Iterable[tuple[str, tuple[Any, ...]]]: ...
    def metadata(self, slabs: int) -> tuple[int, int]: ...
    def books(self, slab: SlabRun, free: list[int]) -> Iterable[tuple[int, int]]: ...
    def state(self) -> Any: ...
    def set_state(self, state: Any, by_page: Mapping[int, SlabRun]) -> None: ...


class Frames:
    """A page source with the slab that each of its pages belongs to; shared by the caches over it."""

    __slots__ = ("shift", "slab_of", "source", "words")

    def __init__(self, source: PageSource) -> None:
        self.source = source
        self.shift = source.page_size.bit_length() - 1
        self.slab_of: dict[int, SlabRun] = {}  # by page
        self.words = memoryview(source.memory).cast("Q")  # of all memory, 8 bytes each

    def take(self, name: Hashable, order: int) -> SlabRun | None:
        """A slab in fresh pages, not yet cut into slots; None when they are refused.  O(pages)."""
        page = self.source.take(order)
        if page is None:
            return None
        return self.enter(name, page, order)

    def enter(self, name: Hashable, page: int, order: int) -> SlabRun:
        """A slab in pages that have been taken.  O(pages)."""
        slab = SlabRun(name, page, order)
        slab.s_mem = page << self.shift
        self.slab_of.update(dict.fromkeys(range(page, page + (1 << order)), slab))
        return slab

    def give(self, slab: SlabRun) -> None:
        """Give the pages of a slab back that is on no list any more.  O(pages)."""
        for page in range(slab.page, slab.page + (1 << slab.order)):
            del self.slab_of[page]
        self.source.give(slab.page, slab.order)

    def slabs(self) -> Iterator[SlabRun]:
        """All slabs, in no order to rely on.  O(pages held)."""
        return (slab for page, slab in self.slab_of.items() if slab.page == page)

    def by_cache(self) -> dict[Hashable, list[SlabRun]]:
        """The slabs of every cache that has any, by its name.  O(pages held)."""
        found: dict[Hashable, list[SlabRun]] = {}
        for slab in self.slabs():
            found.setdefault(slab.name, []).append(slab)
        return found

    def find(self, address: int) -> SlabRun:
        """The slab that an address lies in.  InvalidFree where there is none.  O(1)."""
        slab = self.slab_of.get(address >> self.shift)
        if slab is None:
            raise InvalidFree(f"{address} is in no slab")
        return slab


class ShowsSlabs:
    """The observations that every target over slabs makes alike, for subclasses that have ``_frames``."""

    _frames: Frames
    source: PageSource

    def caches(self) -> Iterable[Cache]:
        """The caches that have been made."""
        raise NotImplementedError

    def cache_named(self, name: Hashable) -> Cache:
        """The cache of this name, made if need be."""
        raise NotImplementedError

    def read(self, handle: int, at: int, length: int) -> bytes:
        """``length`` bytes from offset ``at`` of a live object.  O(length)."""
        return bytes(self.source.memory[handle + at : handle + at + length])

    def write(self, handle: int, at: int, data: bytes) -> None:
        """Put ``data`` at offset ``at`` of a live object.  ValueError outside all memory.  O(length)."""
        memory = self.source.memory
        if not 0 <= handle + at <= len(memory) - len(data):
            raise ValueError(f"{len(data)} bytes at {handle}+{at} are in no page")
        memory[handle + at : handle + at + len(data)] = data

    def extents(self, handle: int) -> tuple[tuple[int, int, int], ...]:
        """The whole slot, but for what the allocator keeps in it.  O(1)."""
        return ((0, handle, self._frames.slab_of[handle >> self._frames.shift].usable),)

    def pages(self) -> Iterator[tuple[int, int]]:
        """Runs of pages that are slabs.  O(pages held)."""
        return ((slab.page, 1 << slab.order) for slab in self._frames.slabs())

    def free_regions(self) -> Iterator[FreeRegion]:
        """Free slots, those that a CPU holds ready among them.  O(free slots).

        Raises RuntimeError where a list of free slots does not end, or leads out of its slab.
        """
        for name, slabs in self._frames.by_cache().items():
            for slab, slots in self.cache_named(name).free_slots(slabs).items():
                for slot in slots:
                    yield FreeRegion(0, slab.s_mem + slot * slab.size, slab.usable)

    def bitmap(self) -> Iterator[AllocationBits]:
        """For every slab, the slots that no list of free ones names.  O(slots)."""
        for name, slabs in self._frames.by_cache().items():
            for slab, slots in self.cache_named(name).free_slots(slabs).items():
                bits = (1 << slab.objects) - 1
                for slot in slots:
                    bits &= ~(1 << slot)
                yield AllocationBits(0, slab.s_mem, slab.size, slab.objects, bits)

    def counters(self) -> Mapping[str, int]:
        """``live_objects``, ``used_bytes`` and ``pages`` as the slabs themselves count them.  O(slabs)."""
        objects = used = 0
        for name, slabs in self._frames.by_cache().items():
            live, length = self.cache_named(name).in_use(slabs)
            objects += live
            used += length
        return {"live_objects": objects, "used_bytes": used, "pages": sum(count for _, count in self.pages())}

    def metadata(self) -> tuple[int, int]:
        """Bytes in the slabs that hold no object, bytes of caches, arrays and slab records beside them."""
        slabs = self._frames.by_cache()
        parts = [cache.metadata(len(slabs.get(cache.name, ()))) for cache in self.caches()]
        return sum(inside for inside, _ in parts), sum(outside for _, outside in parts)

    def give_all(self) -> None:
        """Give every page back, whatever is live, and start anew.  O(pages)."""
        for slab in list(self._frames.slabs()):
            self._frames.give(slab)
        for cache in self.caches():
            cache.forget()

    def destroy(self) -> None:
        """End of the caches.  RuntimeError, and nothing but a shrinking, while objects are live.  O(slabs)."""
        for cache in self.caches():
            cache.shrink()
        if self._frames.slab_of:
            raise RuntimeError(f"{self.counters()['live_objects']} objects remain")


class ShowsOneCache(ShowsSlabs):
    """What targets with one cache have in common, for subclasses that have ``_cache``."""

    _cache: Any

    def free(self, handle: int, *, ctx: Context | None = None) -> None:
        """Give an object back.  InvalidFree for an address in no slab."""
        slab = self._frames.find(handle)
        self._cache.free(slab, handle, 0 if ctx is None else ctx.cpu)

    def caches(self) -> tuple[Any, ...]:
        """The one cache."""
        return (self._cache,)

    def cache_named(self, name: Hashable) -> Any:
        """The one cache, whatever its name."""
        return self._cache

    def lists(self) -> Iterator[Listed]:
        """Where each slab is found, under the name that its cache gives it.  O(slabs)."""
        for name, key in self._cache.listed(self._frames.slabs()):
            yield Listed(name, key)


# ---- promises of a cache of one size --------------------------------------------------------


class SlotLayout(Protocol):
    """What the geometries of SLAB and SLUB have in common; bytes."""

    @property
    def object_size(self) -> int: ...
    @property
    def usable(self) -> int: ...  # of a slot, by its owner
    @property
    def page_size(self) -> int: ...
    @property
    def granule(self) -> int: ...
    def slots(self, order: int) -> int: ...  # of a slab


def slot_waste(usable: int, size: int, align: int) -> int:
    """What a request falls short of a slot, and no byte more.  O(1)."""
    return usable - size


def slot_overhead(here: SlotLayout, shadow: Shadow, source: PageSource | None) -> int:
    """What slabs have left over, their indexes, and what of each slot is not its owner's.  O(slabs)."""
    if source is None:
        return 0
    return source.held * here.page_size - slots_held(source, here.slots) * here.usable


def no_slot(here: SlotLayout, request: Request, shadow: Shadow, source: PageSource | None) -> bool:
    """Must a request be refused: does it make no sense, or is no slot free?  O(slabs).

    The ledger is that after the request: a new slab is in it.
    """
    if not 0 < request.size <= here.object_size or request.align > here.granule or source is None:
        return True
    return slots_held(source, here.slots) <= len(shadow)


def live_by_page(shadow: Shadow, page_size: int) -> dict[int, int]:
    """How many live objects begin on each page.  O(live)."""
    counts: dict[int, int] = {}
    for block in shadow.live.values():
        if block.extents:  # an object of no bytes has none
            page = block.extents[0][1] // page_size
            counts[page] = counts.get(page, 0) + 1
    return counts


def live_in(counts: Mapping[int, int], page: int, order: int) -> int:
    """Live objects of a slab, by what begins on its pages.  O(pages)."""
    return sum(counts.get(number, 0) for number in range(page, page + (1 << order)))


def slots_held(source: PageSource, slots: Callable[[int], int]) -> int:
    """Slots of all slabs, by the ledger; ``slots`` gives those of a slab of an order.  O(slabs)."""
    return sum(slots(order) for order in source.runs.values())


def check_request(size: int, align: int, most: int, granule: int) -> Refusal | None:
    """Why a request makes no sense: no bytes, an alignment that slots do not have, more than a slot.  O(1)."""
    if size < 1 or align < 1 or align > granule or align & (align - 1):
        return Refusal.INVALID
    return Refusal.TOO_BIG if size > most else None


def check_pages(pages: int, page_size: int, cpus: int) -> None:
    """ValueError, in one line, for pages or CPUs that make no sense."""
    check_numbers(pages=pages, page_size=page_size, cpus=cpus)
    if page_size < 64 or not is_power_of_two(page_size):
        raise ValueError(f"page_size must be a power of two from 64, not {page_size}")
    if pages < 1:
        raise ValueError(f"pages must be at least 1, not {pages}")
    if not 1 <= cpus <= 64:
        raise ValueError(f"cpus must be 1 to 64, not {cpus}")


def largest_order(pages: int) -> int:
    """The highest order of which a source of so many pages, all free, has a run.  O(1)."""
    return highest_bit(pages)
