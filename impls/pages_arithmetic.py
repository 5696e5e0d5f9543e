"""Arithmetic of pages: orders, buddies, natural alignment.  Plain integers.

A block of order ``o`` is ``2**o`` pages at a page frame number (pfn) that is a
multiple of ``2**o``.  Its buddy is the other half of the block one order up, and
differs from it in one bit of the pfn; that bit is all that splitting and merging
ever touch.  The functions on pfns use shifts, masks and ``^`` only, so that they
take bit-vectors as well as integers.

Source: ``mm/page_alloc.c`` and ``include/asm-generic/getorder.h`` of Linux 6.1.

>>> buddy_of(6, 1), buddy_of(12, 2), merged(12, 2)
(4, 8, 8)
"""

from .bits import align_up, highest_bit, lowest_bit


def get_order(size: int, page_shift: int) -> int:
    """Smallest order whose block of pages holds ``size`` bytes (at least 1).  O(1).

    >>> [get_order(size, 12) for size in (1, 4096, 4097, 8192, 8193)]
    [0, 0, 1, 1, 2]
    """
    return ((size - 1) >> page_shift).bit_length()


def buddy_of(pfn: int, order: int) -> int:
    """The block that may merge with block ``pfn`` of this order.  O(1)."""
    return pfn ^ (1 << order)


def merged(pfn: int, order: int) -> int:
    """Where block ``pfn`` of this order and its buddy begin as one.  O(1)."""
    return pfn & ~(1 << order)


def upper_half(pfn: int, order: int) -> int:
    """The upper of the two blocks of this order that block ``pfn`` is split into.  O(1)."""
    return pfn | (1 << order)


def misalignment(pfn: int, order: int) -> int:
    """Pages that ``pfn`` lies above the last place where a block of this order may begin.  O(1)."""
    return pfn & ((1 << order) - 1)


def holds_block(low: int, high: int, order: int) -> bool:
    """Is there a naturally aligned block of this order in pages [low, high)?  O(1)."""
    size = 1 << order
    return align_up(low, size) + size <= high


def cover(first: int, pages: int, orders: int) -> tuple[tuple[int, int], ...]:
    """Pages [first, first + pages) as the fewest naturally aligned blocks: (pfn, order), ascending.

    No two of them could merge, so this is the one fully coalesced form of a free zone.
    O(blocks).

    >>> cover(3, 10, 11)                    # 3 | 4 5 6 7 | 8 9 10 11 | 12
    ((3, 0), (4, 2), (8, 2), (12, 0))
    """
    blocks = []
    end = first + pages
    while first < end:
        natural = lowest_bit(first) if first else orders  # page 0 begins blocks of any order
        order = min(orders - 1, natural, highest_bit(end - first))
        blocks.append((first, order))
        first += 1 << order
    return tuple(blocks)
