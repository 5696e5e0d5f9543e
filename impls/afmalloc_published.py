"""afmalloc as posted in September 2014, with what was wrong with it; see ``afmalloc``.

Read in the posted source; unconfirmed by its author.

Loading, storing and mapping take the length of the object, which the pool does not keep; its
users do, as zram does beside each handle.  Here that table is part of the pool, for ``read``,
``write`` and ``map``; ``load`` and ``store`` go by the length that they are given.

>>> pool = Afmalloc(pages=16, rev="2014-09")
>>> handle = pool.alloc(400)
>>> pool.load(handle, 256)                             # one that ends with the first piece
Traceback (most recent call last):
ValueError: no power of two is at most 0: undefined in the source
"""

from typing import Any

from heaplaw import Context, Refusal

from .afmalloc import DIRECT_ENTRY, Afmalloc
from .afmalloc_pieces import cut


class PublishedAfmalloc(Afmalloc):
    """The posted steps in the place of the repaired ones; made by ``Afmalloc(rev="2014-09")``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lengths: dict[int, int] = {}  # by handle

    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> int | Refusal | None:
        """The same; its user notes down the length."""
        handle = super().alloc(size, align)
        if isinstance(handle, int):
            self._lengths[handle] = size
        return handle

    def free(self, handle: int, *, ctx: Context | None = None) -> None:
        """The same; its user forgets the length."""
        super().free(handle)
        self._lengths.pop(handle, None)

    def _err(self, entry: int, level: int, got: int) -> None:
        """Free all pointers of the entry; those after the refused one were never written."""
        super()._err(entry, level, level)

    def store(self, handle: int, data: bytes) -> int:
        """Write an object from its start on, split by the length of ``data``, whatever it was made for.

        Raises ValueError where the power of two below 0 is asked for, which C leaves undefined.
        """
        if not handle or not data:
            return 0
        memory, done = self.source.memory, 0
        for start, n in self._split_as_passed(handle, len(data)):
            memory[start : start + n] = data[done : done + n]
            done += n
        return len(data)

    def load(self, handle: int, length: int) -> bytes:
        """Read an object from its start on, split by ``length``; raises ValueError like ``store``."""
        if not handle or not length:
            return b""
        memory = self.source.memory
        return b"".join([memory[start : start + n] for start, n in self._split_as_passed(handle, length)])

    def _split_as_passed(self, handle: int, length: int) -> list[tuple[int, int]]:
        """(address, bytes) of each copy."""
        pieces, parts = self._pieces(handle), []
        for address, _ in pieces[:-1]:
            size = cut(length, self._piece)
            parts.append((address, size))
            length -= size
        parts.append((pieces[-1][0], length))
        self._copies = len(parts)
        return parts

    def _load(self, handle: int, at: int, length: int) -> bytes:
        return self.load(handle, self._lengths[handle])[at : at + length]

    def _store(self, handle: int, at: int, data: bytes) -> None:
        whole = bytearray(self.load(handle, self._lengths[handle]))
        whole[at : at + len(data)] = data
        self.store(handle, bytes(whole))

    def map(self, handle: int, mode: str = "rw", *, ctx: Context | None = None) -> None:
        """Copy a split object into the CPU's page, whatever its length.

        The kernel's memory after that page is overwritten; here RuntimeError says so.
        """
        if not handle & DIRECT_ENTRY and self._lengths[handle] > self._areas.size:
            raise RuntimeError(f"{self._lengths[handle]} bytes copied into a page of {self._areas.size}")
        super().map(handle, mode, ctx=ctx)

    def _mapped_length(self, handle: int) -> int:
        return self._lengths[handle]

    def snapshot(self) -> tuple[Any, ...]:
        """With the lengths that users keep."""
        return *super().snapshot(), tuple(sorted(self._lengths.items()))

    def restore(self, state: tuple[Any, ...]) -> None:
        """Return to a state of ``snapshot``."""
        *pool, lengths = state
        super().restore(tuple(pool))
        self._lengths = dict(lengths)
