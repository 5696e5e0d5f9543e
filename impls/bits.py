"""The words of bit arithmetic that every allocator here speaks.

>>> lowest_bit(0b10100), highest_bit(0b10100), align_up(13, 8), is_power_of_two(64)
(2, 4, 16, True)
"""


def lowest_bit(x: int) -> int:
    """Number of the lowest set bit; -1 for 0."""
    return (x & -x).bit_length() - 1


def highest_bit(x: int) -> int:
    """Number of the highest set bit; -1 for 0."""
    return x.bit_length() - 1


def align_up(x: int, alignment: int) -> int:
    """The least multiple of ``alignment``, a power of two, that is not below ``x``."""
    return (x + alignment - 1) & -alignment


def is_power_of_two(x: int) -> bool:
    """One bit set?  0 is none."""
    return x > 0 and not x & (x - 1)
