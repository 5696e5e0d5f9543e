"""Steering: the first bytes of a buffer choose how its operations are read.

Bytes alone ask for everything at once and hardly ever fill a heap.  A head of eight
bytes turns rare kinds off, narrows the sizes and raises and lowers the tide of live
objects, so that one fixed-length buffer says what a swarm and its phases say.  A
head of zeros is the simplest: requests and frees only, sizes as the codec has them.

>>> from heaplaw import Contract
>>> head = Head(bytes(8))
>>> head.allows(Kind.DRAIN), head.tide
(False, False)
"""

from heaplaw.checker import Checker
from heaplaw.codec import FIRST_BYTE, KINDS, Codec
from heaplaw.operations import Kind

LENGTH = 8  # bytes of a head
_ALLOC, _FREE = int(FIRST_BYTE[Kind.ALLOC]), int(FIRST_BYTE[Kind.FREE])
_KEPT = (1, 2, 4, 16)  # sixteenths of the rare operations that are kept
_CAPS = (1.0, 0.85, 0.7, 0.5, 0.3)  # powers of the largest size
_SMALLEST = 4  # selectors; below it a request that is refused is given up
_TOP = 4095  # the last selector


class Head:
    """The choices of one run, read off its first eight bytes; every byte string has a meaning."""

    def __init__(self, head: bytes) -> None:
        kinds, ways, self._sizes, self.first = (int.from_bytes(head[i : i + 2], "little") for i in (0, 2, 4, 6))
        self._on = kinds << 3  # bit k: kind k may come; NOP, ALLOC and FREE always may
        self.kept = _KEPT[ways & 3]
        self.tide = bool(ways & 4)  # fill until refused, then free until few are left
        self.odd = bool(ways & 8)  # the falling tide takes objects of odd birth only: a checkerboard
        self.again = bool(ways & 16)  # a request after a free asks for what was freed
        self.placed = bool(ways & 32)  # alignments and circumstances as the codes say; else none
        self.filler = _FREE if ways & 64 else _ALLOC  # what a rare operation that is not kept becomes
        self.dense = ways >> 7 & 7 == 7  # audits come eight times as often
        self.twin = ways >> 10 & 15 == 15  # the run is made twice
        self.keep = (0, 1, 3, 8)[ways >> 14 & 3]  # live objects at which the tide turns

    def allows(self, kind: int) -> bool:
        """May an operation of this rare kind come in this run?  Destroying would end it early."""
        return bool(self._on >> kind & 1) and kind != Kind.DESTROY

    def band(self, codec: Codec) -> list[int]:
        """Selectors that requests of this run are limited to; empty: all."""
        way, detail = self._sizes & 3, self._sizes >> 2
        if way == 0:
            return []
        largest = codec.contract.largest or 1 << 16
        cap = max(2, int(largest ** _CAPS[detail % len(_CAPS)]))
        top = max(1, min(_TOP, codec.selector(cap)))
        detail //= len(_CAPS)
        if way == 1:  # a handful
            return [1 + (detail * 2654435761 >> 7 * i) % top for i in range(1 + detail % 4)]
        low = top // 2 if way == 2 else 0
        return list(range(low, top + 1))


class Steering:
    """Reads codes under a head, for one run; what it gives are codes of the same codec."""

    def __init__(self, head: Head, codec: Codec, checker: Checker) -> None:
        self.head, self._codec, self._checker = head, codec, checker
        can = {kind for kind in Kind if kind > Kind.FREE and head.allows(kind) and checker.can(kind)}
        self._can = [kind <= Kind.FREE or kind in can for kind in range(len(Kind))]
        self._band = head.band(codec)
        self._cap = _TOP
        self._rising = True
        self._refusals = 0
        self._freed = -1

    def read(self, code: int) -> int:
        """The code that is meant; 0 for none.  O(1), but O(live) for the few frees that look for an odd object."""
        kind = KINDS[code & 255]
        head = self.head
        if kind > 2:
            if self._can[kind] and code >> 28 < head.kept:
                return code
            code = code & ~255 | head.filler
            kind = KINDS[head.filler]
        if kind == 0:
            return 0
        if head.tide:
            kind = self._with_the_tide(kind)
        return self._request(code) if kind == 1 else self._release(code)

    def _with_the_tide(self, kind: int) -> int:
        """Requests while it rises, each refusal halving the sizes; frees while it falls."""
        checker = self._checker
        if self._rising:
            if checker.refusals != self._refusals:
                self._refusals = checker.refusals
                self._cap //= 2
                if self._cap < _SMALLEST:
                    self._rising = False
            return 1
        live = checker.shadow.names
        if len(live) <= self.head.keep or (self.head.odd and not any(name & 1 for name in live)):
            self._rising, self._cap, self._refusals = True, _TOP, checker.refusals
            return kind
        return 2

    def _request(self, code: int) -> int:
        x = code >> 8
        place, selector = x >> 12, x & 0xFFF
        if self._freed >= 0:
            selector, self._freed = self._freed, -1
        elif self._band:
            selector = self._band[selector % len(self._band)]
        if not self.head.placed:
            place = 0
        return _ALLOC | place << 20 | min(selector, self._cap) << 8

    def _release(self, code: int) -> int:
        names, index = self._checker.shadow.names, code >> 8
        if not names:
            return 0
        index %= len(names)
        if self.head.odd and not self._rising:
            index = next((i for i in range(index - len(names), index) if names[i] & 1), index) % len(names)
        if self.head.again:
            self._freed = self._codec.selector(self._checker.shadow.live[names[index]].size >> (code >> 31))
        return _FREE | index << 8
