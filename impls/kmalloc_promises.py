"""What kmalloc promises, era by era, derived from its classes and the geometry of their caches.

>>> terms, contract = configured(64, 4096, "slub", cpus=1, line=64, least=0, largest=0, zero="pointer")
>>> terms.slot(100), terms.slot(9000), contract.waste(100, 1)
(128, 16384, 28)
"""

from collections.abc import Callable, Hashable, Mapping
from functools import lru_cache, partial
from typing import Any, NamedTuple, cast

from heaplaw import Block, Contract, PageSource, Request, Shadow

from . import slab, slab_geometry, slub, slub_order
from .bits import highest_bit, is_power_of_two
from .kmalloc_classes import (
    LARGEST_OF_2005,
    LARGEST_PAGES,
    MAX_ORDER,
    MIN_SIZE,
    SLAB_MIN_SIZE,
    class_of_2005,
    classes_of_2005,
    kmalloc_class,
    kmalloc_classes,
)
from .pages_arithmetic import get_order
from .parameters import check_numbers
from .slab_cache import SlabCache
from .slab_cache_2005 import SlabCacheOf2005
from .slab_geometry import MAX_ORDER_OF_2005, layout_of_2005
from .slab_pages import check_pages, largest_order, live_by_page
from .slub_cache import SlubCache
from .slub_order import WORD

ERAS = ("slub", "slab", "2005")


class Terms(NamedTuple):
    """What a kmalloc goes by.  Bytes."""

    era: str
    page_size: int
    cpus: int
    zero: str  # "pointer", "refuse" or "smallest"
    largest: int  # class
    most: int  # that a request may be
    class_of: Callable[[int], int]
    layouts: Mapping[int, Any]  # by class
    make_cache: Callable[..., Any]
    belongs: Callable[..., str]

    def slot(self, size: int) -> int:
        """Bytes that a request gets: its class, or whole pages.  O(1)."""
        if size <= self.largest:
            return self.class_of(size)
        return self.page_size << get_order(size, highest_bit(self.page_size))


@lru_cache(maxsize=256)
def configured(
    pages: int, page_size: int, era: str, cpus: int, line: int, least: int, largest: int, zero: str
) -> tuple[Terms, Contract]:
    """Terms and contract of every kmalloc with these parameters.  Raises ValueError for senseless ones."""
    _check(pages, page_size, era, cpus, line, least, largest, zero)
    terms = _terms(page_size, era, cpus, line, least, largest, zero)
    highest = largest_order(pages)
    honest = _honest_size(terms, highest)
    if not honest:
        raise ValueError(f"pages={pages} of {page_size} bytes hold no slab of the smallest class")
    granule = min(kind.granule for kind in terms.layouts.values())
    sizes = [*terms.layouts, *(page_size << order for order in range(highest + 1))]
    return terms, Contract(
        min_size=1 if terms.zero == "refuse" else 0,
        max_size=honest,
        granule=granule,
        max_align=granule,
        limits=tuple(sorted({size for size in sizes if size <= honest})),
        contextual=cpus > 1,
        cpus=cpus,
        maintenance=("shrink",) if era == "slub" else ("shrink", "reap"),
        detects=frozenset({"foreign"}),
        rejects=frozenset({"zero", "huge", "align"} if terms.zero == "refuse" else {"huge", "align"}),
        spaces="pages",
        container_list=partial(_list_of, terms),
        geometry=partial(_misplaced, terms),
        metadata_bound=partial(_metadata_bound, terms),
        waste=partial(_waste, terms),
        page_order=max(MAX_ORDER if era != "2005" else 0, *(max(kind.orders) for kind in terms.layouts.values())),
        drained_size=honest,
        drained_pages=0,
        drained_after="shrink",
        must_serve=partial(_must_serve, terms),
        must_refuse=partial(_must_refuse, terms),
        free_then_alloc=cpus == 1 or era != "slub",
    )


def _check(pages: int, page_size: int, era: str, cpus: int, line: int, least: int, largest: int, zero: str) -> None:
    """ValueError, in one line, for the first senseless parameter."""
    check_pages(pages, page_size, cpus)
    check_numbers(line=line, least=least, largest=largest)
    if era not in ERAS:
        raise ValueError(f"era must be one of {', '.join(ERAS)}, not {era!r}")
    if zero not in ("pointer", "refuse"):
        raise ValueError(f"zero must be 'pointer' or 'refuse', not {zero!r}")
    for name, value in {"line": line, "least": least or 8, "largest": largest or 64}.items():
        if not is_power_of_two(value) or value < 8:
            raise ValueError(f"{name} must be a power of two from 8, not {value}")
    if least > 256 or 0 < largest < 64 or largest > page_size << 5:
        raise ValueError(f"least={least} or largest={largest} is out of range")
    if era == "2005" and (least or zero != "pointer"):
        raise ValueError("least and zero make no difference in 2005")


@lru_cache(maxsize=256)
def _terms(page_size: int, era: str, cpus: int, line: int, least: int, largest: int, zero: str) -> Terms:
    """What these parameters come to.  ValueError where a class has no slab.  O(classes)."""
    if era == "2005":
        largest = largest or min(LARGEST_OF_2005, page_size << MAX_ORDER_OF_2005)
        classes = classes_of_2005(page_size, line, largest)
        return Terms(
            era, page_size, cpus, "smallest", classes[-1], classes[-1],
            partial(class_of_2005, page_size=page_size, line=line, largest=largest),
            {size: layout_of_2005(size, 1, cpus, page_size, line, hwcache=True) for size in classes},
            SlabCacheOf2005, slab.belongs,
        )  # fmt: skip
    least = least or (MIN_SIZE if era == "slub" else SLAB_MIN_SIZE)
    largest = largest or page_size * LARGEST_PAGES
    layouts: dict[int, Any] = {}
    for size in kmalloc_classes(least, largest):
        align = size if is_power_of_two(size) else least & -least
        if era == "slub":
            layouts[size] = slub_order.layout(size, align, cpus, page_size, cpu_lists=cpus > 1)
        else:
            layouts[size] = slab_geometry.layout(size, align, cpus, page_size, line)
    return Terms(
        era, page_size, cpus, zero, largest, page_size << MAX_ORDER,
        partial(kmalloc_class, least=least, largest=largest), layouts,
        SlubCache if era == "slub" else SlabCache, slub.belongs if era == "slub" else slab.belongs,
    )  # fmt: skip


def _honest_size(terms: Terms, highest: int) -> int:
    """The largest size up to which all are served by a source with a run of ``2**highest`` pages; 0 for none."""
    honest = 0
    for size, kind in terms.layouts.items():
        if min(kind.orders) > highest:
            return honest
        honest = size
    return max(honest, min(terms.page_size << min(MAX_ORDER, highest), terms.most))


def _list_of(terms: Terms, shadow: Shadow) -> Callable[[Hashable], Hashable]:
    """For a slab, named by its class and what its cache adds: where it belongs by its live objects."""
    counts = live_by_page(shadow, terms.page_size)

    def list_of(key: Hashable) -> Hashable:
        kind, *rest = cast(tuple[Any, ...], key)
        return terms.belongs(terms.layouts[kind], counts, *rest)

    return list_of


def _misplaced(terms: Terms, block: Block) -> str | None:
    """Is it a slot of its class, or whole pages, naturally aligned?"""
    if block.size == 0 and terms.zero == "pointer":
        return "an object of no bytes has a place" if block.extents else None
    ((_, start, length),) = block.extents
    wanted = terms.slot(block.size)
    if length != wanted:
        return f"{length} bytes, not {wanted}"
    natural = terms.layouts[wanted].granule if block.size <= terms.largest else wanted
    return f"{start} is no multiple of {natural}" if start % natural else None


def _waste(terms: Terms, size: int, align: int) -> int:
    """What the request falls short of its class, and no byte more."""
    return 0 if size == 0 and terms.zero == "pointer" else terms.slot(size) - size


def _metadata_bound(terms: Terms, shadow: Shadow, source: PageSource | None) -> int:
    """Records of all caches, and what each has in or beside every page that is held."""
    held = source.held if source is not None else 0
    return sum(kind.metadata_bound(terms.cpus, 0) for kind in terms.layouts.values()) + max(
        kind.metadata_bound(terms.cpus, held) for kind in terms.layouts.values()
    )


def _must_serve(terms: Terms, request: Request, shadow: Shadow, source: PageSource | None) -> bool:
    """Is there a run for a slab or the request, or, with one CPU, a free slot beside a live object of the class?"""
    size = request.size
    if not 0 < request.align <= WORD or not is_power_of_two(request.align) or source is None:
        return False
    if size == 0 and terms.zero != "smallest":
        return terms.zero == "pointer"
    if not 0 <= size <= terms.most:
        return False
    if size > terms.largest:
        return source.fits(get_order(size, highest_bit(terms.page_size)))
    kind = terms.layouts[terms.class_of(size)]
    return source.fits(min(kind.orders)) or (terms.cpus == 1 and _has_free_slot(terms, size, shadow, source))


def _has_free_slot(terms: Terms, size: int, shadow: Shadow, source: PageSource) -> bool:
    """Has a slab with a live object of the same class fewer live objects than slots?  O(live)."""
    kind, counts = terms.class_of(size), dict[int, int]()
    for block in shadow.live.values():
        if block.extents and block.size <= terms.largest and terms.class_of(block.size) == kind:
            first = source.owned[block.extents[0][1] // terms.page_size]
            counts[first] = counts.get(first, 0) + 1
    here = terms.layouts[kind]
    return any(count < here.slots(source.runs[first]) for first, count in counts.items())


def _must_refuse(terms: Terms, request: Request, shadow: Shadow, source: PageSource | None) -> bool:
    """Is it more than kmalloc ever gives, or no bytes where that is refused?"""
    return request.size > terms.most or request.size < (1 if terms.zero == "refuse" else 0)
