"""SLUB, the unqueued slab allocator: one cache of objects of one size.

Era: Christoph Lameter 2007; the default of Linux since 2.6.23, and since 6.8 the only one.  Source:
``mm/slub.c`` of Linux 6.1.  The algorithm is in ``slub_cache``, the geometry in ``slub_order``.

A slab is a run of pages that holds nothing but objects: a cache of 4096-byte objects serves true
single pages.  Its order is chosen for few left-over bytes and many objects; when such a run is
refused, the least order that holds an object will do, so that slabs of one cache may differ::

    2048 bytes, 4 CPUs      preferred  [ o | o | o | o | o | o | o | o | ... 16 objects, order 3 ]
                            fallback   [ o | o ]                          2 objects, order 0

Freeing all objects does not free all pages: up to ``min_partial`` (5 to 10) slabs stay on the
partial list, those that CPUs work on or keep stay too.  ``maintain("shrink")`` gives them back.

With ``cpus`` of 2 or more each CPU has a slab of its own, and, as on every such kernel, keeps some
partially free ones (``keep=0`` leaves these lists out, as without CONFIG_SLUB_CPU_PARTIAL, and as
with one CPU).  Then an object that was freed may be out of reach of the CPU that wants one.

The contract is that of ``kmem_cache_alloc`` with a size attached: sizes 1 to that of the objects are
served, and an object is all of its slot (``ksize``).  A free is noticed as wrong only where the
address is in no slab; the kernel without debugging notices no more.

Left out: see ``slub_cache``.  Costs: O(1), but for a new slab, O(objects), and for lists that a CPU
keeps, of at most some dozens of slabs.

>>> cache = Slub(size=2048, pages=8, cpus=4, keep=0)
>>> cache.alloc(2048), cache.alloc(100), cache.counters()["pages"]
(0, 2048, 8)
>>> cache.free(0); cache.free(2048); cache.counters()["pages"], cache.maintain("shrink").pages_freed
(8, 8)
"""

from collections.abc import Callable, Hashable, Mapping
from functools import lru_cache, partial
from typing import ClassVar, cast

from heaplaw import Block, Context, Contract, Maintained, PageSource, Refusal, Request, Shadow

from .bits import is_power_of_two
from .parameters import check_numbers
from .slab_pages import (
    Frames,
    ShowsOneCache,
    check_pages,
    check_request,
    largest_order,
    live_by_page,
    live_in,
    no_slot,
    slot_overhead,
    slot_waste,
    slots_held,
)
from .slab_states import HasStates
from .slub_cache import SlubCache
from .slub_order import COSTLY_ORDER, MAX_ORDER, POINTERS, Layout, layout


class Slub(ShowsOneCache, HasStates):
    """Objects of ``size`` bytes, aligned to ``align``, in ``pages`` pages.

    ``cpus``: they share the cache, and their number sets how many objects a slab should have.
    ``pointer``: where a free object keeps its link, "middle", "start" or "outside" of it.
    ``min_order``, ``max_order``: of slabs, as on the kernel's command line.  ``keep``: 0, and CPUs
    keep no partial slabs.
    """

    _make_cache: ClassVar[type[SlubCache]] = SlubCache

    def __init__(
        self,
        size: int = 256,
        pages: int = 256,
        page_size: int = 4096,
        cpus: int = 1,
        align: int = 8,
        pointer: str = "middle",
        min_order: int = 0,
        max_order: int = COSTLY_ORDER,
        keep: int = 1,
    ) -> None:
        self._layout, self.contract = _configured(
            size, pages, page_size, cpus, align, pointer, min_order, max_order, keep
        )
        self.source = PageSource(pages, page_size=page_size)
        self._frames = Frames(self.source)
        self._cache = self._make_cache(self._frames, self._layout, cpus)
        self._granule, self._most = self.contract.granule, size

    # ---- the operations ----------------------------------------------------------------

    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> int | Refusal | None:
        """Address of an object; None when the page source refuses even the smallest slab.

        INVALID for size 0 and for an alignment that is no power of two or more than all objects
        have; TOO_BIG above the objects' size.
        """
        cache = self._cache
        cache.taken_over = 0
        if size < 1 or size > self._most or align != 1:
            refusal = check_request(size, align, self._most, self._granule)
            if refusal is not None:
                return refusal
        return cache.alloc(ctx.cpu if ctx is not None else 0)

    def maintain(self, kind: str) -> Maintained:
        """``shrink``: give all empty slabs back, put the fullest of the others first.  O(slabs)."""
        if kind != "shrink":
            raise ValueError(f"slub knows no maintenance {kind!r}, only 'shrink'")
        return Maintained(pages_freed=self._cache.shrink())

    # ---- observations ------------------------------------------------------------------

    def cost(self) -> Mapping[str, int]:
        """``taken_over``: slabs that the last allocation took from the partial list."""
        return {"taken_over": self._cache.taken_over}

    def fallbacks(self) -> int:
        """Slabs that have been taken with fewer pages than preferred (ORDER_FALLBACK)."""
        return self._cache.fallbacks


# ---- what it promises -------------------------------------------------------------------------


@lru_cache(maxsize=256)
def _configured(
    size: int, pages: int, page_size: int, cpus: int, align: int, pointer: str, min_order: int, max_order: int,
    keep: int,
) -> tuple[Layout, Contract]:  # fmt: skip
    """Layout and contract of every cache with these parameters.  Raises ValueError for senseless ones."""
    check_pages(pages, page_size, cpus)
    _check(size, page_size, align, pointer, min_order, max_order, keep)
    here = layout(size, align, cpus, page_size, pointer, min_order, max_order, bool(keep) and cpus > 1)
    if here.min_order > largest_order(pages):
        raise ValueError(f"an object of {size} bytes needs {1 << here.min_order} pages, not {pages}")
    return here, _contract(here, cpus)


def _check(size: int, page_size: int, align: int, pointer: str, min_order: int, max_order: int, keep: int) -> None:
    """ValueError, in one line, for the first senseless parameter."""
    check_numbers(size=size, align=align, min_order=min_order, max_order=max_order, keep=keep)
    if size < 1:
        raise ValueError(f"size must be at least 1 byte, not {size}")
    if not is_power_of_two(align) or align > page_size:
        raise ValueError(f"align must be a power of two of at most a page, not {align}")
    if pointer not in POINTERS:
        raise ValueError(f"pointer must be one of {', '.join(POINTERS)}, not {pointer!r}")
    if not 0 <= min_order <= max_order < MAX_ORDER:
        raise ValueError(f"orders must rise from 0 to {MAX_ORDER - 1}, not {min_order} to {max_order}")
    if keep not in (0, 1):
        raise ValueError(f"keep must be 0 or 1, not {keep}")


def _contract(here: Layout, cpus: int) -> Contract:
    """The contract of a cache with this geometry; sizes are those of its objects."""
    size, granule = here.object_size, here.granule
    gap, rest = here.size - here.usable, (here.page_size << here.order) % here.size
    return Contract(
        max_size=size,
        granule=granule,
        max_align=granule,
        limits=(size,),
        contextual=cpus > 1,
        cpus=cpus,
        maintenance=("shrink",),
        detects=frozenset({"foreign"}),
        rejects=frozenset({"zero", "huge", "align"}),
        header=gap,
        epilogue=gap + rest,
        spaces="pages",
        tiled=(here.page_size << here.min_order) % here.size == rest,  # else the end of a slab depends on its order
        container_list=partial(_list_of, here),
        geometry=partial(_misplaced, here),
        overhead=partial(slot_overhead, here),
        metadata_bound=partial(_metadata_bound, here, cpus),
        waste=partial(slot_waste, here.usable),
        page_order=here.order,
        drained_size=size,
        drained_pages=0,
        drained_after="shrink",
        must_serve=partial(_must_serve, here, cpus),
        must_refuse=partial(no_slot, here),
        free_then_alloc=cpus == 1,
        cost_bounds={"taken_over": partial(_most_taken_over, here)},
    )


def belongs(here: Layout, counts: Mapping[int, int], page: int, order: int, frozen: bool) -> str:
    """Where a slab belongs by the live objects on its pages, unless a CPU has it."""
    if frozen:
        return "frozen"
    return "partial" if live_in(counts, page, order) < here.slots(order) else "full"


def _list_of(here: Layout, shadow: Shadow) -> Callable[[Hashable], Hashable]:
    counts = live_by_page(shadow, here.page_size)
    return lambda key: belongs(here, counts, *cast(tuple[int, int, bool], key))


def _misplaced(here: Layout, block: Block) -> str | None:
    """Is it a slot of a slab of either order?"""
    ((_, start, length),) = block.extents
    if length != here.usable:
        return f"{length} bytes, not {here.usable}"
    for order in (here.order, here.min_order):
        slot, odd = divmod(start & ((here.page_size << order) - 1), here.size)
        if not odd and slot < here.slots(order):
            return None
    return f"{start} is no multiple of {here.size} from where a slab may begin"


def _metadata_bound(here: Layout, cpus: int, shadow: Shadow, source: PageSource | None) -> int:
    return here.metadata_bound(cpus, 0)


def _most_taken_over(here: Layout, request: Request, shadow: Shadow) -> int:
    """The first slab, and, where CPUs keep slabs, more than half of what they keep."""
    return here.cpu_partial_slabs // 2 + 2 if here.cpu_partial_slabs else 1


def _must_serve(here: Layout, cpus: int, request: Request, shadow: Shadow, source: PageSource | None) -> bool:
    """Is there a run for the smallest slab, or, with one CPU, a free slot?  Exact with one CPU.

    Other CPUs may hold all slots that are free.
    """
    if not 0 < request.size <= here.object_size or request.align > here.granule or source is None:
        return False
    return source.fits(here.min_order) or (cpus == 1 and slots_held(source, here.slots) > len(shadow))
