"""Bit counting of the network tree allocator: how far a run of free granules reaches.

A region's bitmap has one bit for each granule, 1 for free.  A free looks up from the end of the
freed chunk and down from its start for the neighbours that it merges with::

    bit    7 6 5 4 3 2 1 0
           0 1 1 F F 1 1 0      F: just freed;  run_up(m, 5) == 2,  run_down(m, 2) == 2

``count_set_up`` and ``count_set_down`` are the posted loops over words (``avl.c``, August 2006).
They ask ``ffs`` and ``fls`` for the first bit that is not set, and these take an ``int``: of a
64-bit word they see the lower half, so that a run which ends in the upper half seems to go on.
``run_up`` and ``run_down`` say what the loops mean; with words of 32 bits all agree.

>>> m = 0b01100110
>>> run_up(m, 5), run_down(m, 2), count_set_up(m, 1, 5, 32), count_set_down(m, 2, 32)
(2, 2, 2, 2)
>>> run_up(1 << 40, 40), count_set_up(1 << 40, 1, 40, 64)   # one granule; 24 are counted
(1, 24)
"""

_INT = (1 << 32) - 1  # what an argument of type int keeps of a long


def run_up(mask: int, pos: int) -> int:
    """Set bits from ``pos`` up to the first that is not set.  O(words)."""
    rest = ~(mask >> pos)
    return (rest & -rest).bit_length() - 1


def run_down(mask: int, pos: int) -> int:
    """Set bits from ``pos`` down to the first that is not set.  O(words)."""
    low = (2 << pos) - 1
    return pos + 1 - (~mask & low).bit_length()


def fill_bits(mask: int, pos: int, num: int, bit: int) -> int:
    """The bitmap with ``num`` bits from ``pos`` on set or cleared.  O(words)."""
    run = ((1 << num) - 1) << pos
    return mask | run if bit else mask & ~run


def ffs(x: int) -> int:
    """Number of the lowest set bit of an int, from 1; 0 for none."""
    return (x & -x & _INT).bit_length()


def fls(x: int) -> int:
    """Number of the highest set bit of an int, from 1; 0 for none."""
    return (x & _INT).bit_length()


def count_set_up(mask: int, words: int, pos: int, word: int) -> int:
    """``run_up`` as posted, in a bitmap of ``words`` words of ``word`` bits.  O(words)."""
    ones = (1 << word) - 1
    index, pos = divmod(pos, word)
    bits = 0
    while index < words:
        here = mask >> (index * word) & ones
        below = (1 << pos) - 1
        if not here & ~below:
            break
        stop = ffs(~(here | below) & ones)
        if stop:
            return bits + stop - pos - 1
        bits += word - pos
        pos = 0
        index += 1
    return bits


def count_set_down(mask: int, pos: int, word: int) -> int:
    """``run_down`` as posted, with words of ``word`` bits.  O(words)."""
    ones = (1 << word) - 1
    index, pos = divmod(pos, word)
    bits = 0
    while index >= 0:
        here = mask >> (index * word) & ones
        above = ones >> pos << pos
        if not here & above:
            break
        stop = fls(~(here | above) & ones)
        if stop:
            return bits + pos - stop + 1
        bits += pos + 1
        pos = word - 1
        index -= 1
    return bits
