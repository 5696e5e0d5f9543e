"""xvmalloc's arithmetic: which free list a block stands on, and where a search for one begins.

TLSF's idea in one dimension: list ``i`` holds the blocks whose payload lies in
``[32 + 8*i, 40 + 8*i)`` bytes.  Blocks are filed by rounding down, searched for by rounding
up, so every block on the list a search names, or on a later one, is large enough::

    lists      |0: 32 36|1: 40 44|2: 48 52| ...        payloads are multiples of 4
    file 36    '--- here
    look for 36          '--- from here on: the 36 on list 0 is passed over

The functions are free of branches and ask of a size only ``+ - & >>``, with every limit
written as a mask, so that bit-vectors of 32 bits can go through them as well as integers.
Sizes are bytes below 2**31; what is larger the allocator has refused before.

Source: ``xvmalloc.c`` and ``xvmalloc_int.h`` of Linux 2.6.33.

>>> insert_index(2044, 4092), search_index(2044)
(251, 252)
"""

LEAST = 32  # bytes of payload of the smallest block that is listed: it must hold two links
DELTA_SHIFT = 3
DELTA = 1 << DELTA_SHIFT  # bytes from one list to the next
_SIGN = 31  # shifting a difference this far leaves -1 if it is negative and 0 if not


def insert_index(size: int, largest: int) -> int:
    """Number of the list that a free block of ``size`` from ``LEAST`` to ``largest`` belongs on.  O(1)."""
    over = size - largest
    limited = size - (over & ~(over >> _SIGN))
    return ((limited & ~(DELTA - 1)) - LEAST) >> DELTA_SHIFT


def search_index(size: int) -> int:
    """Number of the first list on which every block holds ``size`` bytes; may be past the last.  O(1)."""
    short = size - LEAST
    raised = size - (short & (short >> _SIGN))
    return ((raised + DELTA - 1 & ~(DELTA - 1)) - LEAST) >> DELTA_SHIFT


def list_start(index: int) -> int:
    """The least payload on a list, which is also the most that can be found from there on.  O(1)."""
    return LEAST + (index << DELTA_SHIFT)


def free_lists(largest: int) -> int:
    """How many lists there are for payloads up to ``largest``.  O(1)."""
    return ((largest - LEAST) >> DELTA_SHIFT) + 1
