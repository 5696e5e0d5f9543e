"""One operation, one integer.

A 32-bit integer is ``kind byte | operand << 8``.  Decoding is total: every integer
is an operation for every target and every live list.  Zero is "no operation", and
in every field zero is the simplest value, so whatever lowers numbers or deletes
items simplifies the trace.  ``encode`` gives the nearest integer (sizes outside
the palette become a neighbour); exact values live in traces.

    ALLOC    operand = place << 12 | size selector;  place = group << 7 | atomic << 4 | align
    REALLOC  operand = index << 12 | size selector
    others   operand = index into the live list, or into a table of the contract

>>> codec = Codec(Contract(arena=4096))
>>> code = codec.encode(Operation(Kind.ALLOC, 3, 64), names=[0, 2])
>>> codec.decode(code, names=[0, 2], birth=3)[:3], codec.decode(0, [0, 2], 3).kind == Kind.NOP
((1, 3, 64), True)
"""

from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache

from .contract import Contract
from .operations import ATOMIC, Kind, Operation

VERSION = 2
_WEIGHTS = {  # how many of the 256 kind bytes mean this; append-only, NOP owns byte 0
    Kind.NOP: 1, Kind.ALLOC: 96, Kind.FREE: 64, Kind.REALLOC: 20, Kind.WRITE: 10, Kind.READ: 8,
    Kind.MAP: 4, Kind.UNMAP: 4, Kind.MAINTAIN: 12, Kind.LINK: 4, Kind.ON_CPU: 6, Kind.BAD_FREE: 7,
    Kind.BAD_ALLOC: 7, Kind.FAIL_PAGES: 6, Kind.DRAIN: 6, Kind.DESTROY: 1,
}  # fmt: skip
KINDS: tuple[int, ...] = tuple(int(kind) for kind, weight in _WEIGHTS.items() for _ in range(weight))
FIRST_BYTE: dict[int, int] = {kind: KINDS.index(kind) for kind in set(KINDS)}
MISUSES = ("double", "foreign", "interior", "size")
BAD_REQUESTS = ("zero", "huge", "align")
_SELECTOR = 1 << 12
_MOST_SIZES = 2048  # so that every palette entry keeps a selector of its own
HUGE = (1 << 31, (1 << 32) - 1, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 8, (1 << 64) - 1, (1 << 64) + 1)


@lru_cache(maxsize=256)
def palette(largest: int, limits: tuple[int, ...], granule: int, header: int) -> tuple[int, ...]:
    """Interesting sizes in bytes, ascending: limits and their neighbours, powers of two, a log-uniform tail."""
    edges = {*limits, largest, largest // 2, largest // 3, 4096, *(1 << k for k in range(largest.bit_length()))}
    sizes = {0, 1, 2, 3}
    for edge in edges:
        for base in (edge, edge - header, edge + header) if header else (edge,):
            sizes |= {base - granule, base - 1, base, base + 1, base + granule}
    step = 1.0
    while step < largest:  # sixteen to the octave
        sizes.add(int(step))
        step *= 2 ** (1 / 16)
    served = sorted(s for s in sizes if 0 <= s <= largest + max(granule, header, 1))
    core = {near for edge in (*edges, 1) for near in (edge - 1, edge, edge + 1)}.intersection(served)
    spare = [s for s in served if s not in core]  # thinned out where there are many limits
    thin = -(-len(spare) // max(1, _MOST_SIZES - len(core)))
    return (*sorted(core.union(spare[:: max(1, thin)])), *(h for h in HUGE if h > served[-1]))


class Codec:
    """Integers to operations and back, for one contract."""

    def __init__(self, contract: Contract) -> None:
        largest = contract.largest or 1 << 16
        self.contract = contract
        self.sizes = palette(largest, contract.limits, contract.granule, contract.header)
        top = max(contract.max_align, 1).bit_length() - 1  # half of all requests ask for nothing
        self.aligns = (1,) * 8 + tuple(1 << max(1, (top * (i + 1)) // 8) if top else 1 for i in range(8))
        self.huge = (contract.largest + 1, *HUGE) if contract.largest else HUGE  # sizes to be refused
        self.bad_aligns = (3, 0, 6, 12, 2 * contract.max_align + 1)  # likewise

    def size(self, selector: int) -> int:
        """Bytes for a 12-bit selector; monotone."""
        return self.sizes[(selector & 0xFFF) * len(self.sizes) >> 12]

    def decode(self, code: int, names: Sequence[int], birth: int) -> Operation:
        """The operation, given the live objects and the next request's birth number."""
        kind, x = KINDS[code & 255], (code & 0xFFFFFFFF) >> 8
        if kind == 1:  # Kind.ALLOC, spelled out: this is the hottest line of every engine
            sizes, contract, place = self.sizes, self.contract, x >> 12
            mode = 0
            if contract.contextual and place > 15:
                mode = (place >> 4 & 7 == 7) | (place >> 7) % (contract.groups + 1) << 1
            return Operation(kind, birth, sizes[(x & 0xFFF) * len(sizes) >> 12], self.aligns[place & 15], mode)
        live = len(names)
        if kind in (2, 4, 5, 6, 7):  # FREE WRITE READ MAP UNMAP
            return Operation(kind, names[x % live]) if live else Operation(0)
        return self._decode_rare(kind, x, names)

    def _decode_rare(self, kind: int, x: int, names: Sequence[int]) -> Operation:
        live, low, high = len(names), x & 0xFFF, x >> 12
        if kind == Kind.REALLOC and live:
            return Operation(kind, names[high % live], self.size(low))
        if kind == Kind.LINK and live:
            return Operation(kind, names[high % live], names[low % live])
        if kind == Kind.BAD_FREE and live:
            return Operation(kind, names[low % live], mode=MISUSES[high % len(MISUSES)])
        if kind == Kind.MAINTAIN and self.contract.maintenance:
            return Operation(kind, mode=self.contract.maintenance[x % len(self.contract.maintenance)])
        if kind == Kind.ON_CPU:
            return Operation(kind, mode=x % self.contract.cpus)
        if kind == Kind.FAIL_PAGES:
            return Operation(kind, size=1 + (x & 7), align=(x >> 3) % 4)
        if kind == Kind.BAD_ALLOC:
            which = BAD_REQUESTS[high % 3]
            if which == "align":
                return Operation(kind, 0, self.size(low), self.bad_aligns[(high // 3) % 5], which)
            if which == "zero":
                return Operation(kind, 0, 0, 1, which)
            return Operation(kind, 0, self.huge[low % len(self.huge)], self.aligns[high // 3 % 16], which)
        return Operation(kind if kind in (Kind.DRAIN, Kind.DESTROY) else Kind.NOP)

    def encode(self, op: Operation, names: Sequence[int]) -> int:
        """The integer whose meaning is nearest to ``op``; 0 when nothing is near.  O(len(names))."""
        kind, name, size, align, mode = op
        base = FIRST_BYTE[kind]
        if kind == Kind.ALLOC:
            flags = int(mode)
            place = min(bisect_left(self.aligns, align), 15) | (7 << 4 if flags & ATOMIC else 0)
            return base | (place | (flags >> 1 & 31) << 7) << 20 | self.selector(size) << 8
        if kind in (Kind.NOP, Kind.DRAIN, Kind.DESTROY):
            return base
        if kind == Kind.MAINTAIN:
            known = self.contract.maintenance
            return base | known.index(str(mode)) << 8 if mode in known else 0
        if kind == Kind.ON_CPU:
            return base | int(mode) % self.contract.cpus << 8
        if kind == Kind.FAIL_PAGES:
            return base | (min(max(size, 1) - 1, 7) | min(align, 3) << 3) << 8
        if kind == Kind.BAD_ALLOC:
            if mode not in BAD_REQUESTS:
                return 0
            low, high = self.selector(size), BAD_REQUESTS.index(str(mode))
            if mode == "huge":
                low = min(range(len(self.huge)), key=lambda i: abs(self.huge[i] - size))
                high += 3 * min(bisect_left(self.aligns, align), 15)
            elif mode == "align":
                high += 3 * min(range(5), key=lambda i: abs(self.bad_aligns[i] - align))
            return base | high << 20 | (low if mode != "zero" else 0) << 8
        if name not in names or (kind == Kind.BAD_FREE and mode not in MISUSES):
            return 0
        index = names.index(name)
        if kind == Kind.REALLOC:
            return base | (index & 0xFFF) << 20 | self.selector(size) << 8
        if kind == Kind.LINK:
            other = names.index(size) if size in names else 0
            return base | (index & 0xFFF) << 20 | (other & 0xFFF) << 8
        if kind == Kind.BAD_FREE:
            return base | MISUSES.index(str(mode)) << 20 | (index & 0xFFF) << 8
        return base | index << 8

    def selector(self, size: int) -> int:
        """The selector of the palette's size nearest to ``size`` bytes."""
        sizes = self.sizes
        at = min(bisect_left(sizes, size), len(sizes) - 1)
        if at and size - sizes[at - 1] < sizes[at] - size:
            at -= 1
        return -(-at * _SELECTOR // len(sizes))
