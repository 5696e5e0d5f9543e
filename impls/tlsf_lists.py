"""TLSF's table of free lists and the two levels of bitmaps that find a list in it.

What every allocator of this family shares, however its blocks look.  List ``row << sl |
second`` has a head; bit ``second`` of the row's bits says whether it has one, and bit
``row`` of the rows' bits whether any list of the row has::

    rows      ...1.1       row 0  [ .  .  b  . ]   row_bits[0]  .1..
                 | '-----> row 1  [ .  .  .  . ]   row_bits[1]  ....
                 '-------> row 2  [ b  .  .  b ]   row_bits[2]  1..1

Blocks are named by the number of their first payload word, and link to one another with
words of their payload; which words, the allocator says.  Block 0 is no block.

>>> from heaplaw.impls.tlsf import Tlsf
>>> [(bit.name, bit.is_set) for bit in Tlsf(arena=1024).list_bits()]         # one free block of 1008 bytes
[('row 2', True), ('list 2,31', True)]
"""

from collections.abc import Iterator
from functools import cache
from itertools import compress

from heaplaw.protocol import ListBit

from .bits import lowest_bit
from .tlsf_mapping import Geometry, from_level, insert, round_up


class SegregatedLists:
    """The part of an allocator that files its free blocks by size; sizes are bytes."""

    _next_link = 0  # the payload word of a free block that names the next one on its list
    _g: Geometry
    _words: memoryview  # all memory, by machine word
    # Copies of what the hot paths read of the geometry.
    _shift: int
    _sl: int
    _mask: int
    # Steps of the last search: bitmap words read.
    _scanned: int

    def _make_lists(self, g: Geometry) -> None:
        """Empty lists.  O(lists)."""
        self._g = g
        self._shift, self._sl, self._mask = g.shift, g.sl, g.mask
        self._rows = 0  # bit r: some list of row r is non-empty
        self._row_bits = [0] * g.rows  # bit s of row r: list (r, s) is non-empty
        self._heads = [0] * (g.rows << g.sl)  # by list number
        self._scanned = 0

    def _search(self, size: int) -> int:
        """Number of the first non-empty list on which every block is at least ``size``; -1 if none.  O(1)."""
        shift, sl = self._shift, self._sl
        number = insert(round_up(size, shift, sl, self._mask), shift, sl)
        row = number >> sl
        if row >= len(self._row_bits):
            return -1
        self._scanned = 1
        found = from_level(self._row_bits[row], number & ((1 << sl) - 1))
        if not found:
            self._scanned = 2
            rows = from_level(self._rows, row + 1)
            if not rows:
                return -1
            self._scanned = 3
            row = lowest_bit(rows)
            found = self._row_bits[row]
        return row << sl | lowest_bit(found)

    def _clear(self, number: int) -> None:
        """A list has become empty: its bit goes, and its row's with the last of the row.  O(1)."""
        row = number >> self._sl
        left = self._row_bits[row] & ~(1 << (number & ((1 << self._sl) - 1)))
        self._row_bits[row] = left
        if not left:
            self._rows &= ~(1 << row)

    def _listed(self) -> Iterator[tuple[int, int]]:
        """(list number, block) of every listed block, in order.  RuntimeError for a list that does not end."""
        words, left, link = self._words, len(self._words), self._next_link
        for number in self._filled():
            block = self._heads[number]
            while block:
                left -= 1
                if left < 0:
                    raise RuntimeError("a free list does not end")
                yield number, block
                block = words[block + link]

    def _filled(self) -> Iterator[int]:
        """Numbers of the lists that have a head, whatever the bitmaps say.  O(lists), but hardly felt."""
        return compress(range(len(self._heads)), self._heads)

    def list_bits(self) -> Iterator[ListBit]:
        """Both levels of bitmaps: every set bit, and the bit of every list that has a head.  O(lists)."""
        rows, row_bits, heads, sl = self._rows, self._row_bits, self._heads, self._sl
        told = {number >> sl for number in self._filled()}
        told.update(compress(range(len(row_bits)), row_bits))
        told.update([row for row in range(min(len(row_bits), rows.bit_length())) if rows >> row & 1])
        for row in sorted(told):
            bits, first, names = row_bits[row], row << sl, _names(row, sl)
            yield ListBit(f"row {row}", names, bool(rows >> row & 1))
            filled = [bool(head) for head in heads[first : first + len(names)]]
            for s in [s for s, head in enumerate(filled) if head or bits >> s & 1]:
                yield ListBit(f"list {row},{s}", names[s : s + 1], bool(bits >> s & 1))


@cache
def _names(row: int, sl: int) -> tuple[tuple[int, int], ...]:
    """The lists of a row, as laws name them."""
    return tuple([(row, s) for s in range(1 << sl)])
