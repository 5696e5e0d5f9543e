"""How SLAB lays objects out: order of a slab, where the index of free slots is, colours, limits.

Source: ``__kmem_cache_create``, ``calculate_slab_order``, ``cache_estimate`` and ``enable_cpucache`` of
``mm/slab.c``, Linux 6.1.  Plain integers.  Three places for the index, one number for each slot, tried
in this order; what is left over moves the slots of successive slabs by a cache line each (colours)::

    object    | colour | slot 0 | slot 1 | ... | slot n-1, free: [index] | left |     no constructor
    off       | colour | slot 0 | slot 1 | ... | slot n-1 | left |       index elsewhere
    on        | colour | slot 0 | slot 1 | ... | slot n-1 | left | index |

An index elsewhere pays only where it costs at most half an object; one that fits into what is left
over has to be there.  It is never chosen without a constructor: an index longer than an object is longer
than half of one.

``layout_of_2005`` is the geometry of 2.6.11 to 2.6.2x: the index is a header and a number of four
bytes for each slot, in front of the slots, or elsewhere for objects of 1/8 page or more::

    on        | colour | header | 4 bytes a slot | slot 0 | slot 1 | ... | left |

Its rules are read in 2.6.11; that the header is 48 bytes (list, colour offset, s_mem, inuse, free, node)
and a number 4, as from 2.6.14 on, is recalled.

>>> [(here.num, here.place) for here in map(layout, (32, 64, 96, 4096))]
[(124, 'on'), (64, 'object'), (42, 'object'), (1, 'object')]
>>> layout_of_2005(64).num, layout_of_2005(512).place
(59, 'off')
"""

from functools import lru_cache
from typing import NamedTuple

from .bits import align_up, highest_bit
from .kmalloc_classes import SLAB_MIN_SIZE, kmalloc_class
from .pages_arithmetic import get_order

WORD = 8
OBJ_MIN_SIZE = 16  # bytes from slot to slot, at least, where numbers in the index are of one byte
KMALLOC_MAX_ORDER = 10
HEADER_OF_2005 = 48  # bytes of struct slab, 64-bit
BUFCTL = 4  # bytes of a number in the index of 2005
MAX_ORDER_OF_2005 = 5
_ARRAY_STRUCT = 16  # bytes of struct array_cache without its entries
_NODE_STRUCT = 128  # bytes of struct kmem_cache_node, at most
_SHARED_FACTOR = 8


class Layout(NamedTuple):
    """Geometry of one cache.  Bytes, but for orders and counts."""

    object_size: int
    size: int  # from slot to slot
    usable: int  # of a slot, by its owner
    order: int
    num: int  # slots of a slab
    place: str  # of the index: "object", "off" or "on"
    index_bytes: int  # bytes of the index of a slab, header included
    entry: int  # bytes of a number in it
    prologue: int  # bytes before slot 0, but for the colour
    left: int  # left over
    colour_off: int
    limit: int  # objects that a CPU may have ready
    batchcount: int
    shared: int  # objects that CPUs may have ready together
    free_limit: int  # free objects above which empty slabs are given back
    page_size: int
    rule: str  # "6.1" or "2005"

    @property
    def colours(self) -> int:
        """Different places of slot 0; 0 and 1 mean one."""
        return self.left // self.colour_off

    @property
    def granule(self) -> int:
        """What the address of every object is a multiple of."""
        parts = [self.size, self.prologue, self.colour_off if self.colours > 1 else 0, self.page_size << self.order]
        return min(part & -part for part in parts if part)

    @property
    def orders(self) -> tuple[int]:
        """Of slabs: there is one only."""
        return (self.order,)

    def slots(self, order: int) -> int:
        """Objects in a slab.  O(1)."""
        return self.num if order == self.order else 0

    def metadata_bound(self, cpus: int, pages: int) -> int:
        """Bytes of arrays and records, and of the index of every slab.  O(1)."""
        arrays = (_ARRAY_STRUCT + WORD * self.limit) * cpus + (_ARRAY_STRUCT + WORD * self.shared)
        return arrays + _NODE_STRUCT + (pages >> self.order) * self.index_bytes


def cache_estimate(total: int, size: int, entry: int) -> tuple[int, int]:
    """(slots, bytes left over) of ``total`` bytes, with ``entry`` bytes of index a slot in them, or none.  O(1)."""
    return divmod(total, size + entry)


def index_entry(page_size: int) -> int:
    """Bytes of a number in the index: one will do for pages up to 4 KiB.  O(1)."""
    return 1 if page_size >> 8 <= OBJ_MIN_SIZE else 2


def calculate_slab_order(
    size: int, place: str, entry: int, page_size: int = 4096, max_order: int = 1, reclaim: bool = False
) -> tuple[int, int, int]:
    """(order, slots, bytes left over) of the slabs with an index in this place; no slots where none will do."""
    found, most = (0, 0, 0), (1 << 8 * entry) - 1
    for order in range(KMALLOC_MAX_ORDER + 1):
        total = page_size << order
        num, left = cache_estimate(total, size, entry if place == "on" else 0)
        if not num:
            continue
        if num > most:
            break
        if place == "off" and freelist_cache_size(num * entry, page_size) > size // 2:
            continue
        found = order, num, left
        if reclaim or order >= max_order or left * 8 <= total:
            break
    return found


def freelist_cache_size(length: int, page_size: int = 4096) -> int:
    """Bytes that kmalloc gives for an index of ``length`` bytes.  O(1)."""
    kind = kmalloc_class(length, SLAB_MIN_SIZE, 2 * page_size)
    return kind or page_size << get_order(length, highest_bit(page_size))


def cpu_limits(size: int, cpus: int, page_size: int = 4096, limit: int = -1) -> tuple[int, int, int]:
    """(limit, batchcount, limit of the shared array): the larger the objects the fewer are kept ready.  O(1).

    ``limit`` of 0 or more overrides the first, as writing to /proc/slabinfo does.
    """
    if limit < 0:
        steps = ((131072, 1), (page_size, 8), (1024, 24), (256, 54))
        limit = next((most for above, most in steps if size > above), 120)
    batchcount = (limit + 1) // 2 or 1
    return limit, batchcount, _SHARED_FACTOR * batchcount if cpus > 1 and limit and size <= page_size else 0


def aligned_size(object_size: int, align: int, line: int, hwcache: bool) -> tuple[int, int]:
    """(bytes from slot to slot, alignment); ``hwcache``: to a cache line, or the part that an object fills.  O(1)."""
    size, natural = align_up(object_size, WORD), WORD
    if hwcache:
        natural = line
        while size <= natural // 2:
            natural //= 2
    align = max(natural, align)
    return align_up(size, align), align


@lru_cache(maxsize=1024)
def layout(
    object_size: int,
    align: int = WORD,
    cpus: int = 1,
    page_size: int = 4096,
    line: int = 64,
    ctor: bool = False,
    max_order: int = 1,
    limit: int = -1,
    hwcache: bool = False,
    reclaim: bool = False,
) -> Layout:
    """The whole geometry of a cache in 6.1.  ``ctor``: objects have a constructor.  ValueError if none will do."""
    size, align = aligned_size(object_size, align, line, hwcache)
    entry = index_entry(page_size)
    if entry == 1 and size < OBJ_MIN_SIZE:
        size = align_up(OBJ_MIN_SIZE, align)
    for place in ("object", "off", "on"):
        if place == "object" and ctor:
            continue
        order, num, left = calculate_slab_order(size, place, entry, page_size, max_order, reclaim)
        if not num:
            continue
        if place == "object" and num * entry > object_size:
            continue
        if place == "off" and left >= num * entry:
            continue
        most, batch, shared = cpu_limits(size, cpus, page_size, limit)
        return Layout(
            object_size, size, object_size, order, num, place, num * entry, entry, 0, left, max(line, align),
            most, batch, shared, (1 + cpus) * batch + num, page_size, "6.1",
        )  # fmt: skip
    raise ValueError(f"no slab holds an object of {object_size} bytes")


def estimate_of_2005(total: int, size: int, align: int, off: bool) -> tuple[int, int]:
    """(slots, bytes left over) of ``total`` bytes, after header and index unless these are elsewhere.  O(slots)."""
    if off:
        return divmod(total, size)
    num = 0
    while (num + 1) * size + align_up(HEADER_OF_2005 + (num + 1) * BUFCTL, align) <= total:
        num += 1
    return num, total - num * size - align_up(HEADER_OF_2005 + num * BUFCTL, align) if num else 0


@lru_cache(maxsize=1024)
def layout_of_2005(
    object_size: int,
    align: int = WORD,
    cpus: int = 1,
    page_size: int = 4096,
    line: int = 64,
    max_order: int = 1,
    limit: int = -1,
    hwcache: bool = False,
    reclaim: bool = False,
) -> Layout:
    """The whole geometry of a cache in 2005.  ValueError if no slab will do."""
    off = align_up(object_size, WORD) >= page_size >> 3
    size, align = aligned_size(object_size, align, line, hwcache)
    order = num = left = 0
    for tried in range(MAX_ORDER_OF_2005 + 1):
        some, rest = estimate_of_2005(page_size << tried, size, align, off)
        if not some:
            continue
        order, num, left = tried, some, rest
        if (reclaim and size <= page_size) or order >= max_order or left * 8 <= page_size << order:
            break
    if not num:
        raise ValueError(f"no slab holds an object of {object_size} bytes")
    index = align_up(HEADER_OF_2005 + num * BUFCTL, align)
    if off and left >= index:  # there is room for it after all, at the cost of colours
        off, left = False, left - index
    if off:
        index = HEADER_OF_2005 + num * BUFCTL
    most, batch, shared = cpu_limits(size, cpus, page_size, limit)
    return Layout(
        object_size, size, size, order, num, "off" if off else "on", index, BUFCTL, 0 if off else index, left,
        max(line, align), most, batch, shared, (1 + cpus) * batch + num, page_size, "2005",
    )  # fmt: skip
