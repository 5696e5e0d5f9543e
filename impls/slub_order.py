"""How SLUB lays objects out: their size, where the free pointer goes, how many pages a slab has.

Source: ``calculate_sizes``, ``calc_slab_order``, ``calculate_order``, ``set_min_partial`` and
``set_cpu_partial`` of ``mm/slub.c``, Linux 6.1.  Plain integers.

First a slab of enough objects is looked for that leaves at most 1/16 of it over, then 1/8, then
1/4, then the same with one object less, and so on::

    192 bytes, 16 CPUs: 24 objects wanted   order 0 has 21   order 1: 42 objects, 128 bytes over
     96 bytes,  4 CPUs: 16 objects wanted   order 0: 42 objects, 64 bytes over

>>> [calculate_order(size, cpus=4) for size in (192, 512, 2048, 8192)]
[0, 1, 3, 3]
>>> layout(100)[:4]                       # object size, bytes of a slot, usable bytes, where the pointer is
(100, 104, 104, 48)
"""

from functools import lru_cache
from typing import NamedTuple

from .bits import align_up, highest_bit
from .pages_arithmetic import get_order

WORD = 8  # bytes of a pointer
MAX_OBJS_PER_PAGE = 32767
MAX_ORDER = 11  # exclusive
COSTLY_ORDER = 3  # the default of slub_max_order
MIN_PARTIAL, MAX_PARTIAL = 5, 10
CPU_STRUCT = 32  # bytes of struct kmem_cache_cpu: freelist, transaction, slab, partial
NODE_STRUCT = 32  # bytes of struct kmem_cache_node: lock, count, list
POINTERS = ("middle", "start", "outside")


class Layout(NamedTuple):
    """Geometry of one cache.  Bytes, but for orders and counts."""

    object_size: int
    size: int  # from one object to the next
    usable: int  # of a slot, by its owner
    offset: int  # of the free pointer in a free slot
    order: int  # of a slab, if pages are easily had
    objects: int
    min_order: int  # of a slab, if they are not
    min_objects: int
    min_partial: int
    cpu_partial_slabs: int
    page_size: int

    @property
    def granule(self) -> int:
        """What the address of every object is a multiple of."""
        return min(self.size & -self.size, self.page_size << self.min_order)

    @property
    def orders(self) -> tuple[int, int]:
        """Of slabs: preferred, and least."""
        return self.order, self.min_order

    def metadata_bound(self, cpus: int, pages: int) -> int:
        """Bytes of the cache's records: one for each CPU and one for the node, whatever pages there are."""
        return CPU_STRUCT * cpus + NODE_STRUCT

    def slots(self, order: int) -> int:
        """Objects in a slab of this order.  O(1)."""
        return (self.page_size << order) // self.size


def calculate_sizes(object_size: int, align: int = WORD, pointer: str = "middle") -> tuple[int, int, int]:
    """(bytes from object to object, usable bytes, offset of the free pointer).  O(1).

    ``pointer``: "middle" of the object; its "start", as before 5.7; "outside" of it, as it must be
    where an object has a constructor or is reused under RCU.
    """
    size = align_up(object_size, WORD)
    inuse = size
    if pointer == "outside":
        offset = size
        size += WORD
    else:
        offset = object_size // 2 & -WORD if pointer == "middle" else 0
    size = align_up(size, max(align, WORD))
    return size, inuse if pointer == "outside" else size, offset


def min_objects_wanted(cpus: int) -> int:
    """Objects that a slab should have: more with more CPUs.  O(1)."""
    return 4 * (cpus.bit_length() + 1)


def calc_slab_order(
    size: int, min_objects: int, max_order: int, fraction: int, min_order: int = 0, page_size: int = 4096
) -> int:
    """Least order with so many objects and at most 1/fraction left over; above ``max_order`` if none is.  O(orders)."""
    shift = highest_bit(page_size)
    if (page_size << min_order) // size > MAX_OBJS_PER_PAGE:
        return get_order(size * MAX_OBJS_PER_PAGE, shift) - 1
    order = max(min_order, get_order(min_objects * size, shift))
    while order <= max_order:
        slab_size = page_size << order
        if slab_size % size <= slab_size // fraction:
            break
        order += 1
    return order


def calculate_order(
    size: int, cpus: int = 1, min_order: int = 0, max_order: int = COSTLY_ORDER, page_size: int = 4096
) -> int:
    """Order of the slabs for objects that lie ``size`` bytes apart.  ValueError where none is large enough."""
    wanted = min(min_objects_wanted(cpus), (page_size << max_order) // size)
    while wanted > 1:
        for fraction in (16, 8, 4):
            order = calc_slab_order(size, wanted, max_order, fraction, min_order, page_size)
            if order <= max_order:
                return order
        wanted -= 1
    order = calc_slab_order(size, 1, max_order, 1, min_order, page_size)
    if order <= max_order:
        return order
    order = calc_slab_order(size, 1, MAX_ORDER, 1, min_order, page_size)
    if order < MAX_ORDER:
        return order
    raise ValueError(f"no slab holds an object of {size} bytes")


def min_partial(size: int) -> int:
    """Slabs with free objects that a node keeps before an empty one is given back.  O(1)."""
    return max(MIN_PARTIAL, min(MAX_PARTIAL, highest_bit(size) // 2))


def cpu_partial(size: int, page_size: int = 4096) -> int:
    """Objects that the partial slabs of a CPU should have.  O(1)."""
    if size >= page_size:
        return 6
    if size >= 1024:
        return 24
    return 52 if size >= 256 else 120


@lru_cache(maxsize=1024)
def layout(
    object_size: int,
    align: int = WORD,
    cpus: int = 1,
    page_size: int = 4096,
    pointer: str = "middle",
    min_order: int = 0,
    max_order: int = COSTLY_ORDER,
    cpu_lists: bool = False,
) -> Layout:
    """The whole geometry of a cache.  ``cpu_lists``: CPUs keep partial slabs of their own.  O(orders * objects)."""
    size, usable, offset = calculate_sizes(object_size, align, pointer)
    order = calculate_order(size, cpus, min_order, max_order, page_size)
    lowest = get_order(size, highest_bit(page_size))
    objects = (page_size << order) // size
    # Each partial slab is taken to be half full.
    slabs = -(-2 * cpu_partial(size, page_size) // objects) if cpu_lists else 0
    return Layout(
        object_size, size, usable, offset, order, objects,
        lowest, (page_size << lowest) // size, min_partial(size), slabs, page_size,
    )  # fmt: skip
