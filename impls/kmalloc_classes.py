"""Which size classes kmalloc has, and which one serves a request.  Plain integers.

Two eras.  First Linux 6.1, and, as far as requests recorded on it show, 6.18::

    request   1..8   9..16  17..32  33..64  65..96  97..128  129..192  193..256  ...  4097..8192
    class      8      16      32      64      96      128       192       256    ...     8192

and pages straight from the page allocator above.  ``least`` is KMALLOC_MIN_SIZE: 8; 32 with the
SLAB allocator; more where DMA needs it, and then 96 (from 64) and 192 (from 128) fall away, since
their objects would not be aligned.  Source: ``mm/slab_common.c`` and ``include/linux/slab.h``.

Before that, in SLAB, ``include/linux/kmalloc_sizes.h``, as it is in 2.6.12 and was until 2010 at least: 32
with pages of 4 KiB, 64, 96 where a cache line is shorter than 64 bytes, 128, 192 where it is
shorter than 128, then powers of two up to 131072, more only without an MMU.  A request above the
largest class is refused, and one of no bytes gets an object of the smallest class.

>>> [kmalloc_class(size) for size in (8, 9, 24, 65, 129, 257, 8192, 8193)]
[8, 16, 32, 96, 192, 512, 8192, 0]
>>> classes_of_2005()[:5], class_of_2005(65), class_of_2005(65, line=32)
((32, 64, 128, 192, 256), 128, 96)
"""

from bisect import bisect_left
from functools import lru_cache

MIN_SIZE = 8  # bytes; KMALLOC_MIN_SIZE of SLUB on x86
SLAB_MIN_SIZE = 32  # ... and of SLAB: KMALLOC_SHIFT_LOW is 5
LARGEST_PAGES = 2  # pages in the largest class: KMALLOC_SHIFT_HIGH is PAGE_SHIFT + 1
LARGEST_OF_2005 = 131072
MAX_ORDER = 10  # of pages that one request may take
INDEX_96, INDEX_192 = 1, 2  # the two classes that are no power of two, out of order in the source's table
_TABLE_END = 192  # up to here a table is looked up, above it powers of two are counted


# ---- 6.1 ------------------------------------------------------------------------------------


def kmalloc_index(size: int, least: int = MIN_SIZE) -> int:
    """The source's number of the class for ``size`` bytes, at least 1: 1 is 96, 2 is 192, else its power of two.  O(1).

    >>> [kmalloc_index(size) for size in (8, 16, 96, 192, 256, 8192)]
    [3, 4, 1, 2, 8, 13]
    """
    if size <= least:
        return (least - 1).bit_length()
    if least <= 32 and 64 < size <= 96:
        return INDEX_96
    if least <= 64 and 128 < size <= _TABLE_END:
        return INDEX_192
    return (size - 1).bit_length()


def index_size(index: int) -> int:
    """Bytes of the class with this number.  O(1)."""
    return 96 if index == INDEX_96 else _TABLE_END if index == INDEX_192 else 1 << index


def kmalloc_class(size: int, least: int = MIN_SIZE, largest: int = 8192) -> int:
    """Bytes of the class that serves ``size`` bytes; 0 if the page allocator does.  O(1)."""
    return index_size(kmalloc_index(size, least)) if 0 < size <= largest else 0


def kmalloc_classes(least: int = MIN_SIZE, largest: int = 8192) -> tuple[int, ...]:
    """All classes, ascending.  O(classes).

    >>> kmalloc_classes()
    (8, 16, 32, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096, 8192)
    """
    sizes = {1 << shift for shift in range((least - 1).bit_length(), largest.bit_length())}
    if least <= 32:
        sizes.add(96)
    if least <= 64:
        sizes.add(_TABLE_END)
    return tuple(sorted(size for size in sizes if size <= largest))


# ---- 2005 to 2010 ---------------------------------------------------------------------------


@lru_cache(maxsize=64)
def classes_of_2005(page_size: int = 4096, line: int = 64, largest: int = LARGEST_OF_2005) -> tuple[int, ...]:
    """All classes of ``kmalloc_sizes.h``, ascending.  ``line``: bytes of a cache line.  O(classes)."""
    sizes = [1 << shift for shift in range(6, largest.bit_length())]
    if page_size == 4096:
        sizes.append(32)
    if line < 64:
        sizes.append(96)
    if line < 128:
        sizes.append(192)
    return tuple(sorted(size for size in sizes if size <= largest))


def class_of_2005(size: int, page_size: int = 4096, line: int = 64, largest: int = LARGEST_OF_2005) -> int:
    """The first class that is no smaller than ``size``, 0 bytes included; 0 if there is none.  O(log classes)."""
    sizes = classes_of_2005(page_size, line, largest)
    at = bisect_left(sizes, size)
    return sizes[at] if at < len(sizes) else 0
