"""TLSF's arithmetic: which list a size belongs on, and where a search for it begins.

Free blocks are filed by two numbers: the first level is the power of two, the second
divides it into ``2**sl`` equal ranges; below the small threshold all lists stand one
alignment step apart.  ``search`` rounds up to the next range, so that *every* block on
the list it names, or on a later one, is large enough (Masmano, Ripoll, Crespo and Real,
ECRTS 2004; this layout is Matthew Conte's 3.1).

Plain functions of integers; sizes in bytes, multiples of the alignment.

>>> conte = geometry(64)
>>> conte.insert(460), conte.search(460), conte.round_up(460)
((1, 25), (1, 26), 464)
"""

from functools import lru_cache
from typing import NamedTuple

from .bits import align_up, highest_bit


class Geometry(NamedTuple):
    """Constants of one configuration; bytes where not said otherwise."""

    word: int  # bytes of a machine word, and the alignment of every block
    sl: int  # log2 of the number of second-level lists
    shift: int  # log2 of the small threshold
    rows: int  # first-level rows
    small: int  # below this, lists are one alignment step apart
    least: int  # smallest payload: two free-list links and the next block's back link
    header: int  # a whole block header, back link and free links included: what a split needs
    most: int  # payloads stay below this

    def insert(self, size: int) -> tuple[int, int]:
        """(first, second) level of the list that a free block of ``size`` belongs on.  O(1)."""
        if size < self.small:
            return 0, size >> (self.shift - self.sl)
        row = highest_bit(size)
        return row - self.shift + 1, (size >> (row - self.sl)) ^ (1 << self.sl)

    def round_up(self, size: int) -> int:
        """The least size that begins a list and is not below ``size``.  O(1)."""
        if size < self.small:
            return size
        return align_up(size, 1 << (highest_bit(size) - self.sl))

    def search(self, size: int) -> tuple[int, int]:
        """The first list on which every block is at least ``size``; its row may be past the last.  O(1)."""
        return self.insert(self.round_up(size))

    def list_start(self, size: int) -> int:
        """The least size on the list that ``size`` belongs on.  O(1)."""
        if size < self.small:
            return size
        return size >> (highest_bit(size) - self.sl) << (highest_bit(size) - self.sl)


@lru_cache(maxsize=64)
def geometry(bits: int, sl: int = 5) -> Geometry:
    """Conte's constants for words of 32 or 64 bits."""
    word = bits // 8
    shift = sl + word.bit_length() - 1
    top = 32 if bits == 64 else 30
    return Geometry(word, sl, shift, top - shift + 1, 1 << shift, 3 * word, 4 * word, 1 << top)
