"""A set of 64-bit fingerprints that several processes can look into while one adds to it.

Open addressing in one mapped file: 8 bytes a cell, at most half of the cells filled.  There is one
writer; readers see what it has written, perhaps a moment late, and so may only take "seen" at its word.

>>> table = StateTable()
>>> table.add(7), table.add(7), 7 in table, len(table)
(True, False, True, 1)
>>> table.close()
"""

import mmap
import os
import tempfile
from pathlib import Path

_CELL = 8  # bytes
_FIRST_BITS = 14  # log2 of the cells to start with
_FIT = 2  # cells for each fingerprint, at least


class StateTable:
    """Fingerprints are integers in [1, 2**64).  ``path`` is where readers find the cells."""

    def __init__(self, *, shared: bool = False) -> None:
        """``shared``: keep the cells in a temporary file, for ``Reader`` in other processes."""
        self._folder = tempfile.TemporaryDirectory(prefix="heaplaw-") if shared else None
        self._count = self._grown = 0
        self.path = ""
        self._make(_FIRST_BITS)

    def __len__(self) -> int:
        return self._count

    def __contains__(self, fingerprint: int) -> bool:
        return _find(self._cells, self._mask, fingerprint) < 0

    @property
    def size(self) -> int:
        """Bytes of all cells."""
        return (self._mask + 1) * _CELL

    def add(self, fingerprint: int) -> bool:
        """Enter a fingerprint; False if it was there.  O(1), but for growing."""
        at = _find(self._cells, self._mask, fingerprint)
        if at < 0:
            return False
        self._cells[at] = fingerprint
        self._count += 1
        if self._count * _FIT > self._mask:
            self._grow()
        return True

    def close(self) -> None:
        """Give the memory and the file back."""
        self._cells.release()
        self._map.close()
        if self._folder is not None:
            self._folder.cleanup()

    def _make(self, bits: int) -> None:
        size = _CELL << bits
        if self._folder is None:
            self._map = mmap.mmap(-1, size)
        else:
            self._grown += 1
            self.path = os.path.join(self._folder.name, str(self._grown))
            with open(self.path, "w+b") as file:
                file.truncate(size)
                self._map = mmap.mmap(file.fileno(), size)
        self._cells = memoryview(self._map).cast("Q")
        self._mask = (1 << bits) - 1

    def _grow(self) -> None:
        """Twice the cells, in a new file; who still reads the old one only sees less."""
        old, old_map, old_path = self._cells, self._map, self.path
        self._make((self._mask + 1).bit_length())
        cells, mask = self._cells, self._mask
        for fingerprint in old:
            if fingerprint:
                cells[_find(cells, mask, fingerprint)] = fingerprint
        old.release()
        old_map.close()
        if old_path:
            Path(old_path).unlink()


class Reader:
    """Looks into another process's table.  A file that is gone is an empty table: its owner knows better."""

    def __init__(self) -> None:
        self._path = ""
        self._cells = memoryview(bytearray(_CELL)).cast("Q")

    def open(self, path: str) -> None:
        """Read from this file from now on."""
        if path == self._path:
            return
        self._path = path
        try:
            with open(path, "rb") as file:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            self._cells = memoryview(bytearray(_CELL)).cast("Q")
        else:
            self._cells = memoryview(mapped).cast("Q")

    def __contains__(self, fingerprint: int) -> bool:
        return _find(self._cells, len(self._cells) - 1, fingerprint) < 0


def _find(cells: "memoryview[int]", mask: int, fingerprint: int) -> int:
    """The cell where a fingerprint belongs; -1 if it is there.  O(1) while half of the cells are empty."""
    at = fingerprint & mask
    while seen := cells[at]:
        if seen == fingerprint:
            return -1
        at = (at + 1) & mask
    return at
