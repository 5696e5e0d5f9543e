"""The shadow heap: what was asked, what was answered, and nothing else.

It is the truth that observations are held against.  Live extents of all spaces
stand in one sorted index, so that the neighbours of any place are found in
O(log n) and free runs are the gaps between them.

>>> heap = Shadow()
>>> heap.add(Block(0, 16, 24, 1, ((0, 16, 24),)))
>>> list(heap.gaps(0, 0, 64))
[(0, 16), (40, 64)]
"""

from collections.abc import Iterator
from hashlib import shake_128
from typing import Any

from sortedcontainers import SortedList

SPACE_SHIFT = 56  # an index key is space << 56 | start
SMALL = 256  # contents are compared whole up to this many bytes, sampled above
SAMPLE = 64  # bytes of each sample
_PATTERN = shake_128(b"heaplaw").digest(1 << 16) * 2  # no two windows of five bytes are alike


class Block:
    """One live object.  ``extents`` are (space, start, length) bytes, slack included."""

    __slots__ = (
        "align", "atomic", "cpu", "extents", "group", "handle", "length", "mapped",
        "name", "seed", "size", "written",
    )  # fmt: skip

    def __init__(
        self, name: int, handle: Any, size: int, align: int, extents: tuple[tuple[int, int, int], ...]
    ) -> None:
        self.name, self.handle, self.size, self.align = name, handle, size, align
        self.extents = extents
        self.length = 0  # bytes of all extents; set when the block is added
        self.cpu = self.group = 0
        self.mapped = 0  # 1 + the CPU that it is mapped on
        self.atomic = False
        self.seed = (name * 40503) & 0xFFFF
        self.written = 0  # bytes from the start that hold the pattern

    def pattern(self, at: int, length: int) -> bytes:
        """What ``length`` bytes at offset ``at`` were last written as."""
        at = (at + self.seed) & 0xFFFF
        if at + length <= len(_PATTERN):
            return _PATTERN[at : at + length]
        whole = _PATTERN[:65536]
        return (whole[at:] + whole * (length // 65536 + 1))[:length]

    def windows(self, whole: bool) -> tuple[tuple[int, int], ...]:
        """Which (offset, length) pieces of the written bytes a check compares."""
        n = self.written
        if n <= SMALL or whole:
            return ((0, n),) if n else ()
        return ((0, SAMPLE), (n - SAMPLE, SAMPLE))  # a neighbour's stray write shows at the edges first


class Shadow:
    """Every live object, by name and by place."""

    __slots__ = ("_ends", "_owners", "_starts", "_where", "bytes", "live", "names", "requested")

    def __init__(self) -> None:
        self.live: dict[int, Block] = {}  # by name
        self.names: list[int] = []  # the live list that generators index
        self._where: dict[int, int] = {}  # name -> its index in names
        self._starts: SortedList = SortedList()  # keys of all non-empty live extents
        self._ends: dict[int, int] = {}
        self._owners: dict[int, Block] = {}
        self.bytes = 0  # in live extents, slack included
        self.requested = 0  # bytes as asked for

    def __len__(self) -> int:
        return len(self.live)

    def add(self, block: Block) -> None:
        """Enter a live object.  O(log n)."""
        name = block.name
        self.live[name] = block
        self._where[name] = len(self.names)
        self.names.append(name)
        self.place(block)

    def remove(self, block: Block) -> None:
        """Forget an object; the last name takes its index in ``names``.  O(log n)."""
        self.unplace(block)
        name = block.name
        del self.live[name]
        index = self._where.pop(name)
        last = self.names.pop()
        if last != name:
            self.names[index] = last
            self._where[last] = index

    def place(self, block: Block) -> None:
        """Enter the block's extents and size.  O(log n)."""
        total = 0
        owners = self._owners
        for space, start, length in block.extents:
            total += length
            key = (space << SPACE_SHIFT) + start
            if length > 0 and key not in owners:  # else `disjoint` has spoken already
                self._starts.add(key)
                self._ends[key] = key + length
                owners[key] = block
        block.length = total
        self.bytes += total
        self.requested += block.size

    def unplace(self, block: Block) -> None:
        """Take the extents out, as before a move; name and index stay.  O(log n)."""
        owners = self._owners
        for space, start, _ in block.extents:
            key = (space << SPACE_SHIFT) + start
            if owners.get(key) is block:
                self._starts.remove(key)
                del self._ends[key], owners[key]
        self.bytes -= block.length
        self.requested -= block.size

    def clash(self, space: int, start: int, length: int) -> Block | None:
        """A live object that shares a byte with this stretch.  O(log n)."""
        key = (space << SPACE_SHIFT) + start
        index = self._starts.bisect_left(key + length)
        if index:
            before = self._starts[index - 1]
            if self._ends[before] > key:
                return self._owners[before]
        return None

    def extents(self, space: int, start: int, end: int) -> Iterator[tuple[int, int, Block]]:
        """(start, end, block) of live extents that begin in [start, end), in order."""
        base = space << SPACE_SHIFT
        for key in self._starts.irange(base + start, base + end, (True, False)):
            yield key - base, self._ends[key] - base, self._owners[key]

    def gaps(self, space: int, start: int, end: int) -> Iterator[tuple[int, int]]:
        """(start, end) of the free runs inside [start, end), in order.  O(extents there)."""
        base = space << SPACE_SHIFT
        ends = self._ends
        at = base + start
        index = self._starts.bisect_left(at)
        if index:
            at = max(at, ends[self._starts[index - 1]])
        for key in self._starts.irange(base + start, base + end, (True, False)):
            if key > at:
                yield at - base, key - base
            if ends[key] > at:  # always, unless live extents overlap
                at = ends[key]
        if at < base + end:
            yield at - base, end

    def neighbours(self, space: int, start: int) -> list[Block]:
        """The objects whose extents lie next before and after ``start``.  O(log n)."""
        key = (space << SPACE_SHIFT) + start
        index = self._starts.bisect_left(key)
        near = [self._starts[i] for i in (index - 1, index) if 0 <= i < len(self._starts)]
        return [self._owners[k] for k in near if k >> SPACE_SHIFT == space]

    def spaces(self) -> list[int]:
        """Numbers of the spaces that hold live extents, ascending."""
        starts = self._starts
        if not starts:
            return []
        space, last = starts[0] >> SPACE_SHIFT, starts[-1] >> SPACE_SHIFT
        found: list[int] = [space]
        while space < last:
            space = starts[starts.bisect_left((space + 1) << SPACE_SHIFT)] >> SPACE_SHIFT
            found.append(space)
        return found
