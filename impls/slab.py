"""SLAB, Bonwick's slab allocator: one cache of objects of one size, with colours and per-CPU arrays.

Era: Jeff Bonwick 1994 (Solaris); in Linux from 2.2 to 6.7.  Source: ``mm/slab.c`` of Linux 6.1
(``rule="6.1"``), or of 2.6.11 with the widths of 2006, which are recalled (``rule="2005"``).  The
algorithm is in ``slab_cache`` and ``slab_cache_2005``, the geometry in ``slab_geometry``.

Slabs stand on three lists, by how many of their objects are in use::

    partial  [ * . * * ]  [ . . . * ]       taken from first; freed into: last
    free     [ . . . . ]                    kept, up to about ``free_limit`` objects
    full     [ * * * * ]

All slabs of a cache have one order: when such a run of pages is refused, so is the request.  Freeing all
objects does not free all pages: objects stay in the arrays of CPUs, whose slabs are in use therefore,
and empty slabs stay as well.  ``maintain("shrink")`` gives all of them back, ``maintain("reap")`` some,
as the kernel does every two seconds.

The slabs' first objects lie at different distances from the beginning, a cache line apart (colours), if
enough is left over.  In 6.1 the first slab has the second colour, in 2005 the first one.

The contract is that of ``kmem_cache_alloc`` with a size attached: sizes 1 to that of the objects are
served.  A free is noticed as wrong only where the address is in no slab.

Left out: see ``slab_cache``.  Costs: O(1), and for one call in ``batchcount``, O(batchcount).

>>> cache = Slab(size=192, pages=4, rule="2005")
>>> cache.alloc(192), [cache.alloc(1) for _ in range(20)][-1] // 4096
(3008, 1)
>>> [slab % 4096 for slab in sorted(cache.first_objects())]
[128, 192]
"""

from collections.abc import Callable, Hashable, Mapping
from functools import lru_cache, partial
from typing import ClassVar, cast

from heaplaw import Block, Context, Contract, Maintained, PageSource, Refusal, Request, Shadow

from .bits import is_power_of_two
from .parameters import check_numbers
from .slab_cache import SlabCache
from .slab_cache_2005 import SlabCacheOf2005
from .slab_geometry import MAX_ORDER_OF_2005, Layout, layout, layout_of_2005
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

RULES = ("6.1", "2005")
_MOST_LIMIT = 1 << 16


class Slab(ShowsOneCache, HasStates):
    """Objects of ``size`` bytes, aligned to ``align``, in ``pages`` pages.

    ``cpus``: that have arrays.  ``limit``: objects in an array, -1: by size, 0: there are none.
    ``line``: bytes of a cache line.  ``hwcache``: 1, objects are aligned to it, or to the part of it
    that they fill.  ``ctor``: 1, objects have a constructor, so that free ones hold no index (6.1).
    ``max_order``: from which on waste is accepted: 1, or 0 as with up to 32 MiB of memory.
    ``shuffle``: a seed, and new slabs hand slots out in random order (6.1).  ``rule``: "6.1" or "2005".
    """

    _makers: ClassVar[dict[str, type[SlabCache]]] = {"6.1": SlabCache, "2005": SlabCacheOf2005}

    def __init__(
        self,
        size: int = 256,
        pages: int = 256,
        page_size: int = 4096,
        cpus: int = 1,
        align: int = 8,
        line: int = 64,
        limit: int = -1,
        hwcache: int = 0,
        ctor: int = 0,
        max_order: int = 1,
        shuffle: int = 0,
        rule: str = "6.1",
    ) -> None:
        self._layout, self.contract = _configured(
            size, pages, page_size, cpus, align, line, limit, hwcache, ctor, max_order, shuffle, str(rule)
        )
        self.source = PageSource(pages, page_size=page_size)
        self._frames = Frames(self.source)
        self._cache = self._makers[self._layout.rule](self._frames, self._layout, cpus, shuffle=shuffle)
        self._granule, self._most = self.contract.granule, size

    # ---- the operations ----------------------------------------------------------------

    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> int | Refusal | None:
        """Address of an object; None when the page source refuses a slab.

        INVALID for size 0 and for an alignment that is no power of two or more than all objects
        have; TOO_BIG above the objects' size.
        """
        if size < 1 or size > self._most or align != 1:
            refusal = check_request(size, align, self._most, self._granule)
            if refusal is not None:
                self._cache.moved = 0
                return refusal
        return self._cache.alloc(0 if ctx is None else ctx.cpu)

    def maintain(self, kind: str) -> Maintained:
        """``shrink``: give all empty slabs back; ``reap``: some, and empty idle arrays by a fifth.  O(slabs)."""
        if kind not in self.contract.maintenance:
            raise ValueError(f"slab knows the maintenance {', '.join(self.contract.maintenance)}, not {kind!r}")
        return Maintained(pages_freed=self._cache.shrink() if kind == "shrink" else self._cache.reap())

    # ---- observations ------------------------------------------------------------------

    def first_objects(self) -> list[int]:
        """Address of slot 0 of every slab, where its colour shows.  O(slabs)."""
        return [slab.s_mem for slab in self._frames.slabs()]

    def counters(self) -> Mapping[str, int]:
        """Those of all slabs; ``free_bytes``: free slots as the cache counts them, and those in arrays.  O(slabs)."""
        return {**super().counters(), "free_bytes": self._cache.free_count() * self._layout.usable}

    def cost(self) -> Mapping[str, int]:
        """``moved``: objects that the last call moved between arrays, or between arrays and slabs."""
        return {"moved": self._cache.moved}


# ---- what it promises -------------------------------------------------------------------------


@lru_cache(maxsize=256)
def _configured(
    size: int, pages: int, page_size: int, cpus: int, align: int, line: int, limit: int, hwcache: int, ctor: int,
    max_order: int, shuffle: int, rule: str,
) -> tuple[Layout, Contract]:  # fmt: skip
    """Layout and contract of every cache with these parameters.  Raises ValueError for senseless ones."""
    check_pages(pages, page_size, cpus)
    _check(size, page_size, align, line, limit, hwcache, ctor, max_order, shuffle, rule)
    if rule == "2005":
        here = layout_of_2005(size, align, cpus, page_size, line, max_order, limit, bool(hwcache))
    else:
        here = layout(size, align, cpus, page_size, line, bool(ctor), max_order, limit, bool(hwcache))
    if here.order > largest_order(pages):
        raise ValueError(f"a slab of objects of {size} bytes needs {1 << here.order} pages, not {pages}")
    return here, _contract(here, cpus)


def _check(
    size: int, page_size: int, align: int, line: int, limit: int, hwcache: int, ctor: int, max_order: int,
    shuffle: int, rule: str,
) -> None:  # fmt: skip
    """ValueError, in one line, for the first senseless parameter."""
    check_numbers(size=size, align=align, line=line, limit=limit, max_order=max_order, shuffle=shuffle)
    if rule not in RULES:
        raise ValueError(f"rule must be one of {', '.join(RULES)}, not {rule!r}")
    if size < 1:
        raise ValueError(f"size must be at least 1 byte, not {size}")
    for name, value in {"align": align, "line": line}.items():
        if not is_power_of_two(value) or value > page_size:
            raise ValueError(f"{name} must be a power of two of at most a page, not {value}")
    for name, value in {"hwcache": hwcache, "ctor": ctor}.items():
        if value not in (0, 1):
            raise ValueError(f"{name} must be 0 or 1, not {value!r}")
    if not -1 <= limit <= _MOST_LIMIT or not 0 <= max_order <= MAX_ORDER_OF_2005 or shuffle < 0:
        raise ValueError(f"limit={limit}, max_order={max_order} or shuffle={shuffle} is out of range")
    if rule == "2005" and (ctor or shuffle):
        raise ValueError("ctor and shuffle make no difference in 2005")


def _contract(here: Layout, cpus: int) -> Contract:
    """The contract of a cache with this geometry; sizes are those of its objects."""
    size, gap = here.object_size, here.size - here.usable
    return Contract(
        max_size=size,
        granule=here.granule,
        max_align=here.granule,
        limits=(size,),
        contextual=cpus > 1,
        cpus=cpus,
        maintenance=("shrink", "reap"),
        detects=frozenset({"foreign"}),
        rejects=frozenset({"zero", "huge", "align"}),
        prologue=here.prologue,
        header=gap,
        epilogue=(here.page_size << here.order) - here.prologue - here.num * here.size + gap,
        spaces="pages",
        tiled=here.colours < 2,  # else the first slot of a slab is where its colour puts it
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
        free_then_alloc=True,
        cost_bounds={"moved": partial(_most_moved, here)},
    )


def belongs(here: Layout, counts: Mapping[int, int], page: int, order: int, ready: int) -> str:
    """The list of a slab by the live objects on its pages, and those that are in arrays."""
    inuse = live_in(counts, page, order) + ready
    return "full" if inuse == here.num else "partial" if inuse else "free"


def _list_of(here: Layout, shadow: Shadow) -> Callable[[Hashable], Hashable]:
    counts = live_by_page(shadow, here.page_size)
    return lambda key: belongs(here, counts, *cast(tuple[int, int, int], key))


def _misplaced(here: Layout, block: Block) -> str | None:
    """Is it a slot of a slab of some colour?"""
    ((_, start, length),) = block.extents
    if length != here.usable:
        return f"{length} bytes, not {here.usable}"
    inside = (start & ((here.page_size << here.order) - 1)) - here.prologue
    for colour in range(max(1, here.colours)):
        slot, odd = divmod(inside - colour * here.colour_off, here.size)
        if not odd and 0 <= slot < here.num:
            return None
    return f"{start} is no slot of a slab of any of {max(1, here.colours)} colours"


def _metadata_bound(here: Layout, cpus: int, shadow: Shadow, source: PageSource | None) -> int:
    return here.metadata_bound(cpus, source.held if source is not None else 0)


def _most_moved(here: Layout, request: Request, shadow: Shadow) -> int:
    return here.batchcount


def out_of_reach(here: Layout, cpus: int) -> int:
    """Free objects that one CPU can never get at: those in the arrays of the others.  O(1)."""
    return (cpus - 1) * here.limit


def _must_serve(here: Layout, cpus: int, request: Request, shadow: Shadow, source: PageSource | None) -> bool:
    """Is there a run for a slab, or more free objects than other CPUs can have?  Exact with one CPU."""
    if not 0 < request.size <= here.object_size or request.align > here.granule or source is None:
        return False
    return source.fits(here.order) or slots_held(source, here.slots) - len(shadow) > out_of_reach(here, cpus)
