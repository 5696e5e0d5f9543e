"""Memory with places that are not known yet: a list of integers that takes words as indexes and as values.

An allocator under proof is given such lists in the place of its own (list heads, bitmaps, the words of its
heap).  What was written is found again by comparing places, newest first; nothing else is forked::

    cells[row] = bits              written: (row, bits)
    cells[other]                   bits, if other == row;  else what the cells hold at first

A place outside raises IndexError, as in a list, but a negative one does too: no allocator here means to
count from the end.

>>> cells = Cells(4)
>>> cells[2] = 7; cells[2], cells[1], len(cells)
(7, 0, 4)
>>> cells[4]
Traceback (most recent call last):
  ...
IndexError: place 4 of 4
"""

from collections.abc import Iterator
from typing import Any


class Cells:
    """``length`` integers, all ``first`` to begin with."""

    __slots__ = ("_first", "_length", "_written")

    def __init__(self, length: int, first: Any = 0) -> None:
        self._length, self._first = length, first
        self._written: list[tuple[Any, Any]] = []

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, at: Any) -> Any:
        """What stands at a place.  O(writes) comparisons."""
        self._check(at)
        for place, value in reversed(self._written):
            if at == place:
                return value
        return self._first

    def __setitem__(self, at: Any, value: Any) -> None:
        """Write to a place."""
        self._check(at)
        self._written.append((at, value))

    def __iter__(self) -> Iterator[Any]:
        return (self[at] for at in range(self._length))

    def places(self) -> list[Any]:
        """Where something was written, in the order of writing."""
        return [place for place, _ in self._written]

    def _check(self, at: Any) -> None:
        if at < 0 or at >= self._length:
            raise IndexError(f"place {at} of {self._length}")


class Blank:
    """Memory that a theorem is not about: every place holds 0, whatever is written.

    >>> memory = Blank(); memory[5] = 7; memory[5]
    0
    """

    def __getitem__(self, at: Any) -> int:
        return 0

    def __setitem__(self, at: Any, value: Any) -> None:
        """Nothing is kept."""
