"""TLSF's arithmetic: which list a size belongs on, and where a search for it begins.

Free blocks are filed by two numbers: the first level is the power of two, the second
divides it into ``2**sl`` equal ranges; below the small threshold all lists stand one
alignment step apart.  ``search`` rounds up to the next range, so that *every* block on
the list it names, or on a later one, is large enough (Masmano, Ripoll, Crespo and Real,
ECRTS 2004; this layout is Matthew Conte's 3.1).

The module's functions are free of branches and ask of a size only ``+ - & | << >>`` and
``bit_length()``, with every wrap written as a mask: what counts like a machine word, a
bit-vector say, can go through the very code that the allocator runs.  Sizes are bytes;
those that the allocator asks about are multiples of its alignment.

>>> conte = geometry(64)
>>> conte.insert(460), conte.search(460), conte.round_up(460)
((1, 25), (1, 26), 464)
"""

from functools import lru_cache
from typing import NamedTuple

from .bits import align_up, highest_bit


def doublings(size: int, shift: int) -> int:
    """How many rows above the first full one ``size`` lies; 0 below the small threshold too.  O(1).

    Rows 0 and 1 have the same step, the alignment; from there on it doubles with each row.
    That the threshold's bit is set in any case is what makes a case for small sizes unnecessary.
    """
    return (size | 1 << shift).bit_length() - 1 - shift


def insert(size: int, shift: int, sl: int) -> int:
    """Number of the list that a free block of ``size`` belongs on: ``row << sl | second``.  O(1).

    The bit at the head of ``size >> step`` carries into the row, so one sum gives both levels.
    """
    doubled = doublings(size, shift)
    return (doubled << sl) + (size >> (doubled + shift - sl))


def round_up(size: int, shift: int, sl: int, mask: int) -> int:
    """The least size that begins a list and is not below ``size``; wraps where ``mask`` ends.  O(1)."""
    below = (1 << (doublings(size, shift) + shift - sl)) - 1
    return (size + below) & ~below & mask


def list_start(size: int, shift: int, sl: int) -> int:
    """The least size on the list that ``size`` belongs on.  O(1)."""
    return size & ~((1 << (doublings(size, shift) + shift - sl)) - 1)


def wrapped_align(size: int, alignment: int, mask: int) -> int:
    """``size`` aligned up as a machine does it: past ``mask`` it starts again at 0.  O(1)."""
    return align_up(size, alignment) & mask


def from_level(bits: int, level: int) -> int:
    """The bits that stand for ``level`` and higher ones; none when ``level`` is past the word.  O(1)."""
    return bits >> level << level


class Geometry(NamedTuple):
    """Constants of one configuration; bytes where not said otherwise."""

    word: int  # the alignment of every block; in Conte's layout a machine word
    sl: int  # log2 of the number of second-level lists
    shift: int  # log2 of the small threshold
    rows: int  # first-level rows
    small: int  # below this, lists are a fixed step apart, and no more than the alignment
    least: int  # smallest payload: what a free block keeps in it, links and perhaps a back link
    header: int  # a whole block header, back link and free links included: what a split needs
    most: int  # payloads stay below this
    mask: int  # the largest number that a word holds

    def insert(self, size: int) -> tuple[int, int]:
        """(row, second level) of the list that a free block of ``size`` belongs on.  O(1)."""
        return self.levels(insert(size, self.shift, self.sl))

    def round_up(self, size: int) -> int:
        """The least size that begins a list and is not below ``size``.  O(1)."""
        return round_up(size, self.shift, self.sl, self.mask)

    def search(self, size: int) -> tuple[int, int]:
        """The first list on which every block is at least ``size``; its row may be past the last.  O(1).

        Below the small threshold ``size`` must be a multiple of the alignment, and nothing is rounded.
        """
        return self.insert(self.round_up(size) if size >= self.small else size)

    def list_start(self, size: int) -> int:
        """The least size on the list that ``size`` belongs on.  O(1)."""
        return list_start(size, self.shift, self.sl)

    def levels(self, number: int) -> tuple[int, int]:
        """(row, second level) of a list by its number.  O(1)."""
        return number >> self.sl, number & ((1 << self.sl) - 1)

    def request(self, size: int) -> int:
        """Payload to look for and to keep, 0 when out of range: limits come before any rounding.  O(1)."""
        if size >= self.most:
            return 0
        rounded = self.round_up(max(align_up(size, self.word), self.least))
        return rounded if rounded < self.most else 0

    def request_published(self, size: int) -> int:
        """The same as in 3.1: aligned before it is limited, so a size near the word's end wraps to 0.  O(1)."""
        aligned = wrapped_align(size, self.word, self.mask)
        return max(aligned, self.least) if aligned < self.most else 0

    def with_gap(self, payload: int, align: int) -> int:
        """Payload to search for so that an aligned ``payload`` fits behind a gap that can be a block.  O(1)."""
        return align_up(payload + align + self.header, align)


TOPS = {32: 30, 64: 32}  # bits of a word -> log2 of the size that Conte's blocks stay below


@lru_cache(maxsize=64)
def geometry(bits: int, sl: int = 5, top: int = 0) -> Geometry:
    """Conte's constants for words of 32 or 64 bits.  ``top``: log2 of the size that blocks stay below; 0: his."""
    word = bits // 8
    shift = sl + highest_bit(word)
    top = top or TOPS[bits]
    return Geometry(word, sl, shift, top - shift + 1, 1 << shift, 3 * word, 4 * word, 1 << top, (1 << bits) - 1)


@lru_cache(maxsize=8)
def original(bits: int) -> Geometry:
    """Constants of the original 2.3.2, which Xen ported, for pointers of 32 or 64 bits.

    Blocks are aligned to two pointers; lists below the threshold are 4 bytes apart all the same,
    so that most of the first row stays empty.

    >>> original(64).insert(460), original(64).search(460), original(64).round_up(460)
    ((2, 25), (2, 26), 464)
    """
    unit = 2 * bits // 8
    return Geometry(unit, 5, 7, 24, 128, unit, 2 * unit, 1 << 30, (1 << bits) - 1)
