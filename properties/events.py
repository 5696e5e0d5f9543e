"""Streams of operation codes: what the plain engine feeds to the checker.

Each run draws its own swarm (some kinds off, few or many sizes, plain or odd
alignments) and goes through phases that steer occupancy: random programs alone
hardly ever fill a heap to the last byte, or free every second block of a full one.
Every phase yields 32-bit codes of the one codec, so what it can say, the fuzzer's
bytes can say too.

>>> from heaplaw import Contract
>>> codec = Codec(Contract(arena=64))
>>> codec.decode(exactly(codec, 24), names=[], birth=0).size
24
"""

from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import NamedTuple

from heaplaw.checker import Checker
from heaplaw.codec import FIRST_BYTE, KINDS, Codec
from heaplaw.operations import Kind

_ALLOC, _FREE = FIRST_BYTE[Kind.ALLOC], FIRST_BYTE[Kind.FREE]
_RARE = (
    Kind.REALLOC, Kind.WRITE, Kind.READ, Kind.MAP, Kind.UNMAP, Kind.MAINTAIN, Kind.LINK, Kind.ON_CPU,
    Kind.BAD_FREE, Kind.BAD_ALLOC, Kind.FAIL_PAGES, Kind.DRAIN,
)  # fmt: skip
_WEIGHTS = (6, 2, 2, 1, 1, 3, 1, 3, 1, 1, 2, 1)
_CIRCUMSTANCE = 24  # bits of a request's code before those of its group and caller


class Swarm:
    """The choices of one run: which kinds, which sizes, which alignments."""

    def __init__(self, rng: Random, codec: Codec, can: frozenset[Kind]) -> None:
        self.rng, self.codec = rng, codec
        some = [pair for pair in zip(_RARE, _WEIGHTS, strict=True) if pair[0] in can and rng.random() < 0.5]
        share = rng.choice((0, 2, 5, 15))  # how many of a hundred operations are of the rare kinds
        self._kinds = [FIRST_BYTE[kind] for kind, weight in some for _ in range(weight)] if share else []
        self._share = share / 100 if self._kinds else 0.0
        self._frees = rng.choice((0.3, 0.45, 0.5, 0.55))
        self._places = rng.choice(([0], [0], [0] * 9 + list(range(16)), list(range(16)), list(range(8, 16))))
        if codec.contract.contextual and rng.random() < 0.5:
            self._places = [place | extra << 4 for place in self._places for extra in (0, 0, rng.randrange(256))]
        self._home = rng.randrange(256) << _CIRCUMSTANCE if codec.contract.contextual and rng.random() < 0.5 else 0
        self._selectors = self._pick_sizes()

    def _pick_sizes(self) -> list[int]:
        """Selectors of this run: the whole palette, a band of it, or a handful of sizes."""
        rng, count = self.rng, len(self.codec.sizes)
        way = rng.randrange(5)
        if way == 0:
            return [rng.randrange(4096) for _ in range(64)]
        if way == 1:  # a handful
            return [rng.randrange(4096) for _ in range(rng.randrange(1, 5))]
        limit = self.codec.contract.largest or 1 << 16
        cap = max(2, int(limit ** rng.choice((0.3, 0.5, 0.7, 0.85, 1.0))))
        inside = max(2, sum(1 for size in self.codec.sizes if size <= cap))
        top = min(4095, inside * 4096 // count)
        low = top // 2 if way == 2 else 0
        return [rng.randrange(low, top + 1) for _ in range(rng.choice((2, 8, 64)))]

    def alloc(self) -> int:
        """A request of this run's sizes."""
        rng = self.rng
        return _ALLOC | rng.choice(self._places) << 20 | rng.choice(self._selectors) << 8

    def at_home(self, code: int) -> int:
        """The code, of a plain request in this run's own circumstance: one group, one kind of caller."""
        plain = self._home and KINDS[code & 255] == Kind.ALLOC and not code >> _CIRCUMSTANCE
        return code | self._home if plain else code

    def any(self) -> int:
        """Any operation of this run."""
        rng = self.rng
        chance = rng.random()
        if chance < self._share:
            return rng.choice(self._kinds) | rng.getrandbits(24) << 8
        if chance < self._share + self._frees:
            return _FREE | rng.getrandbits(24) << 8
        return self.alloc()


def exactly(codec: Codec, size: int) -> int:
    """A request for the palette size nearest to ``size``."""
    return _ALLOC | codec.selector(size) << 8


def _of_object(c: Checker, kind: Kind, name: int) -> int:
    """An operation on the live object of this name.  O(live)."""
    return FIRST_BYTE[kind] | c.shadow.names.index(name) << 8


# ---- phases ------------------------------------------------------------------------------


def mix(swarm: Swarm, c: Checker) -> Iterator[int]:
    """Anything, at whatever occupancy there is."""
    for _ in range(swarm.rng.randrange(20, 150)):
        yield swarm.any()


def fill(swarm: Swarm, c: Checker) -> Iterator[int]:
    """Ask until refused, then for less and less, until the heap is full to the last byte."""
    selector = max(1, swarm.rng.choice(swarm._selectors))
    mixed = swarm.rng.random() < 0.5
    for _ in range(swarm.rng.randrange(20, 300)):
        refusals = c.refusals
        yield swarm.alloc() if mixed and selector > 64 else _ALLOC | selector << 8
        if c.refusals != refusals:
            if selector <= 1:
                return
            selector //= 2


def drain(swarm: Swarm, c: Checker) -> Iterator[int]:
    """Free down to a few, in one of the orders that allocators find easy or hard."""
    order = swarm.rng.randrange(3)
    keep = swarm.rng.choice((0, 0, 1, 3))
    while len(c.shadow) > keep:
        yield _FREE | (0, len(c.shadow) - 1, swarm.rng.getrandbits(24))[order] << 8


def checkerboard(swarm: Swarm, c: Checker) -> Iterator[int]:
    """Equal blocks side by side, every second one freed."""
    code = swarm.alloc()
    born = c.births
    for _ in range(swarm.rng.randrange(4, 80)):
        yield code
    for name in [name for name in c.shadow.names if name >= born and (name - born) % 2]:
        yield _of_object(c, Kind.FREE, name)


def free_one(swarm: Swarm, c: Checker) -> Iterator[int]:
    """From a full heap free one block, and ask for what fits into it."""
    rng = swarm.rng
    for _ in range(rng.randrange(1, 12)):
        if not len(c.shadow):
            return
        index = rng.randrange(len(c.shadow))
        size = c.shadow.live[c.shadow.names[index]].size
        yield _FREE | index << 8
        yield exactly(swarm.codec, rng.choice((size, size, size // 2, 1)))


def island(swarm: Swarm, c: Checker) -> Iterator[int]:
    """Free a block and its neighbours by birth, so that free runs merge and shrink again."""
    rng = swarm.rng
    for _ in range(rng.randrange(1, 6)):
        if len(c.shadow) < 3:
            return
        names = sorted(c.shadow.names)
        middle = rng.randrange(1, len(names) - 1)
        trio = [names[middle - 1], names[middle], names[middle + 1]]
        rng.shuffle(trio)
        size = 0
        for name in trio[: rng.choice((2, 3))]:
            size += c.shadow.live[name].size
            yield _of_object(c, Kind.FREE, name)
        for _ in range(rng.randrange(1, 3)):
            yield exactly(swarm.codec, rng.randrange(size + 1))


def maintain_twice(swarm: Swarm, c: Checker) -> Iterator[int]:
    """The same maintenance twice in a row, or oftener: sooner or later it has nothing left to do."""
    if c.contract.maintenance:
        code = FIRST_BYTE[Kind.MAINTAIN] | swarm.rng.getrandbits(24) << 8
        for _ in range(swarm.rng.choice((2, 2, 4))):
            yield code


def thin_out(swarm: Swarm, c: Checker) -> Iterator[int]:
    """Free all but a few, here and there, and maintain: what is sparse is gathered, what is empty given back."""
    rng = swarm.rng
    share = rng.choice((0.5, 0.7, 0.9))
    for name in [name for name in c.shadow.names if rng.random() < share]:
        yield _of_object(c, Kind.FREE, name)
    yield from maintain_twice(swarm, c)


def hand_over(swarm: Swarm, c: Checker) -> Iterator[int]:
    """Ask on one CPU, free all of it on another, and ask again on the first."""
    if c.contract.cpus < 2 or not c.can(Kind.ON_CPU):
        return
    here, there = swarm.rng.sample(range(c.contract.cpus), 2)
    yield FIRST_BYTE[Kind.ON_CPU] | here << 8
    code, born, refusals = swarm.alloc(), c.births, c.refusals
    for _ in range(swarm.rng.randrange(2, 60)):
        yield code
        if c.refusals != refusals:
            break
    yield FIRST_BYTE[Kind.ON_CPU] | there << 8
    size = 0
    for name in [name for name in c.shadow.names if name >= born]:
        size += c.shadow.live[name].size
        yield _of_object(c, Kind.FREE, name)
    yield FIRST_BYTE[Kind.ON_CPU] | here << 8
    yield exactly(swarm.codec, min(size, c.contract.largest or size))


def regrow(swarm: Swarm, c: Checker) -> Iterator[int]:
    """Resize to about the bytes that an object has already."""
    rng = swarm.rng
    if not c.can(Kind.REALLOC):
        return
    for _ in range(rng.randrange(1, 12)):
        if not len(c.shadow):
            return
        index = rng.randrange(min(len(c.shadow), 4096))
        block = c.shadow.live[c.shadow.names[index]]
        little = rng.choice((0, 1, c.contract.granule, block.align)) * rng.choice((-1, 1))
        size = max(1, rng.choice((block.size, block.length)) + little)
        yield FIRST_BYTE[Kind.REALLOC] | index << 20 | swarm.codec.selector(size) << 8


def absorb(swarm: Swarm, c: Checker) -> Iterator[int]:
    """Free a neighbour by birth, and resize a block to about what the two had together, on either side."""
    rng = swarm.rng
    if not c.can(Kind.REALLOC):
        return
    for _ in range(rng.randrange(1, 8)):
        if len(c.shadow) < 2:
            return
        names = sorted(c.shadow.names)[-4096:]
        at = rng.randrange(len(names) - 1)
        gone, stays = names[at], names[at + 1]
        if rng.random() < 0.5:
            gone, stays = stays, gone
        room = c.shadow.live[gone].length + c.contract.header
        yield _of_object(c, Kind.FREE, gone)
        if stays in c.shadow.live:
            together = room + c.shadow.live[stays].length
            size = rng.choice((room, together)) + rng.choice((-1, 0, 0, 1)) * c.contract.granule
            index = c.shadow.names.index(stays)
            yield FIRST_BYTE[Kind.REALLOC] | index << 20 | swarm.codec.selector(max(1, size)) << 8


def nonsense(swarm: Swarm, c: Checker) -> Iterator[int]:
    """Ask for what makes no sense, whatever is free now: sizes that wrap, alignments that are none."""
    if not c.can(Kind.BAD_ALLOC):
        return
    for _ in range(swarm.rng.randrange(1, 6)):
        yield FIRST_BYTE[Kind.BAD_ALLOC] | swarm.rng.getrandbits(24) << 8


def insist(swarm: Swarm, c: Checker) -> Iterator[int]:
    """Ask for the same until it is refused, and go on asking: no refused call may change anything."""
    code, refusals = swarm.alloc(), c.refusals
    for _ in range(60):
        yield code
        if c.refusals != refusals:
            break
    for _ in range(swarm.rng.randrange(4, 30)):
        yield code


def mapped(swarm: Swarm, c: Checker) -> Iterator[int]:
    """Map live objects that have holes around them; let other things happen meanwhile; unmap, and ask again."""
    rng = swarm.rng
    if not c.can(Kind.MAP):
        return
    large = rng.randrange(c.page_size // 8, c.page_size)  # so large that some lie across the end of a page
    code = rng.choice((swarm.alloc(), exactly(swarm.codec, min(large, c.contract.largest or large))))
    born, refusals = c.births, c.refusals
    for _ in range(rng.randrange(4, 40)):
        yield code
        if c.refusals != refusals:
            break
    for name in [name for name in c.shadow.names if name >= born and rng.random() < 0.5]:
        yield _of_object(c, Kind.FREE, name)
    known = c.shadow.live
    for _ in range(rng.randrange(2, 8)):
        some = [name for name in known if name >= born] or list(known)
        in_pieces = [name for name in some if len(known[name].extents) > 1]
        if not some:
            return
        name = rng.choice(in_pieces if in_pieces and rng.random() < 0.5 else some)
        for other in [block.name for block in known.values() if block.mapped == c.cpu + 1]:
            yield _of_object(c, Kind.UNMAP, other)  # a CPU may have one mapping only
        yield _of_object(c, Kind.MAP, name)
        yield from _meanwhile(swarm, c, name)
        if rng.random() < 0.3 and c.can(Kind.ON_CPU):
            yield FIRST_BYTE[Kind.ON_CPU] | rng.getrandbits(24) << 8
        if name in known and rng.random() < 0.8:
            yield _of_object(c, Kind.UNMAP, name)
            yield from _meanwhile(swarm, c, name)


def _meanwhile(swarm: Swarm, c: Checker, name: int) -> Iterator[int]:
    """A few operations with an object, with the others and with the heap as a whole."""
    rng = swarm.rng
    wanted = (Kind.WRITE, Kind.READ, Kind.MAINTAIN, Kind.MAINTAIN, Kind.FREE, Kind.ALLOC)
    kinds = [kind for kind in wanted if c.can(kind)]
    for _ in range(rng.randrange(1, 5)):
        kind = rng.choice(kinds)
        if kind == Kind.ALLOC:
            yield swarm.alloc()
        elif kind in (Kind.FREE, Kind.MAINTAIN) or name not in c.shadow.live:
            yield FIRST_BYTE[kind] | rng.getrandbits(24) << 8
        else:
            yield _of_object(c, kind, name)


Phase = Callable[[Swarm, Checker], Iterator[int]]
PHASES: tuple[Phase, ...] = (
    mix, mix, mix, fill, free_one, free_one, drain, checkerboard, island, maintain_twice, thin_out, hand_over, regrow,
    absorb, nonsense, insist, mapped,
)  # fmt: skip


def anything(swarm: Swarm, c: Checker) -> Iterator[int]:
    """All kinds that this target knows, of sizes small and large, whatever the swarm has drawn."""
    rng = swarm.rng
    rare = [FIRST_BYTE[kind] for kind in _RARE if c.can(kind)]
    kinds = [_ALLOC] * 6 + [_FREE] * 4 + rare
    small = max(2, swarm.codec.selector(64))
    while True:
        if (kind := rng.choice(kinds)) == _ALLOC:
            place = rng.randrange(16) if rng.random() < 0.5 else 0
            yield _ALLOC | place << 20 | rng.randrange(1, rng.choice((small, 4096))) << 8
        else:
            yield kind | rng.getrandbits(24) << 8


class Plan(NamedTuple):
    """What a run is made of: phases, and its least and most operations."""

    phases: Sequence[Phase]
    shortest: int
    longest: int


STEERED = Plan(PHASES, 150, 500)
OPENING = Plan((anything,), 40, 120)  # of the first runs: most bugs need no more, and are found at once


def program(swarm: Swarm, c: Checker, plan: Plan = STEERED) -> Iterator[int]:
    """Codes for one run, phase after phase."""
    left = swarm.rng.randrange(plan.shortest, plan.longest)
    while left > 0:
        for code in swarm.rng.choice(plan.phases)(swarm, c):
            yield swarm.at_home(code)
            left -= 1
            if left <= 0:
                break
