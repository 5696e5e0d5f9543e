"""Positions: all that decides what a target and its checker do next, as a value.

A position is the target's own state and what the shadow heap knows, its live blocks in canonical
order: by place, names left out.  Two positions with one fingerprint answer alike to everything, so
an exhaustive search goes on from one of them.  Contents are no part of it: a block is filled by
its place, so that they follow from the rest.

>>> from heaplaw.impls.tlsf import Tlsf
>>> from heaplaw.operations import Operation
>>> prober = Prober(Tlsf(arena=256))
>>> start = prober.position()
>>> for op in Operation(1, 0, 24), Operation(1, 1, 24), Operation(2, 0), Operation(2, 1): prober.step(op)
>>> fingerprint(prober.position()) == fingerprint(start)
True
"""

import io
import marshal
import pickle
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum
from hashlib import blake2b
from typing import Any, NamedTuple, Protocol

from heaplaw.checker import NO_AUDIT, Checker
from heaplaw.contract import Contract
from heaplaw.groups import Groups
from heaplaw.lawbook import LAWS
from heaplaw.operations import Kind, Operation
from heaplaw.protocol import Refusal
from heaplaw.shadow import SPACE_SHIFT, Block, Shadow

_NOT_FREED = -2
_MOST_KNOWN = 1 << 14  # entries of a memory that only saves time
_WORD = 8  # bytes
_PLAIN = 2  # version of marshal's format that writes equal values alike, whoever else refers to them

Live = tuple[Any, ...]
"""One live block: extents, size, align, group, atomic, cpu, mapped, handle; sorts by place."""


class Position(NamedTuple):
    """See the module docstring.  ``armed`` is (order, count) of page failures to come."""

    state: Any
    live: tuple[Live, ...]
    cpu: int
    armed: tuple[int, int]
    merged: tuple[tuple[int, int], ...]  # group name -> the group that it was merged into


class KeepError(ValueError):
    """A target whose state cannot be kept; the message says what it lacks."""


# ---- keeping a target's state ---------------------------------------------------------------


class Keeper(Protocol):
    """Keeps the state of a target."""

    in_place: bool  # `load` changes the target it is given, and handles are values

    def save(self, target: Any, handles: list[Any]) -> tuple[Any, list[Any]]:
        """The target's state, and what stands for the handles beside it."""

    def load(self, target: Any, state: Any, handles: list[Any]) -> tuple[Any, list[Any]]:
        """A target in this state, and its handles."""


class Snapshots:
    """States as the target itself makes them."""

    in_place = True

    def save(self, target: Any, handles: list[Any]) -> tuple[Any, list[Any]]:
        return target.snapshot(), handles

    def load(self, target: Any, state: Any, handles: list[Any]) -> tuple[Any, list[Any]]:
        target.restore(state)
        return target, handles


class Pickles:
    """States as copies of the whole target, for one that makes none itself.

    Slower, and it sets states apart that differ in nothing but dead bytes or the order of a dict.
    Raises KeepError for a target that cannot be copied.
    """

    in_place = False

    def __init__(self, target: Any) -> None:
        self._contract = target.contract
        self.save(target, [])

    def save(self, target: Any, handles: list[Any]) -> tuple[Any, list[Any]]:
        source = getattr(target, "source", None)
        if source is not None:  # counts of what was are no part of what will be
            source.taken = source.refused = source.injected = source.highest_order = 0
        file = io.BytesIO()
        try:
            _Pickler(file, self._contract).dump((target, handles))
        except Exception as problem:
            name = type(target).__name__
            raise KeepError(f"{name} needs snapshot() and restore(): it cannot be pickled ({problem})") from problem
        return file.getvalue(), [0] * len(handles)

    def load(self, target: Any, state: Any, handles: list[Any]) -> tuple[Any, list[Any]]:
        return _Unpickler(io.BytesIO(state), self._contract).load()


class _Pickler(pickle.Pickler):
    """Leaves the contract out: it never changes, and predicates may be closures."""

    def __init__(self, file: io.BytesIO, contract: Contract) -> None:
        super().__init__(file, 5)
        self._contract = contract

    def persistent_id(self, obj: Any) -> Any:
        return "contract" if obj is self._contract else None


class _Unpickler(pickle.Unpickler):
    """Puts the contract back."""

    def __init__(self, file: io.BytesIO, contract: Contract) -> None:
        super().__init__(file)
        self._contract = contract

    def persistent_load(self, pid: Any) -> Any:
        return self._contract


def keeper(target: Any) -> Keeper:
    """The best way to keep this target's state.  Raises KeepError."""
    if hasattr(target, "snapshot") and hasattr(target, "restore"):
        return Snapshots()
    return Pickles(target)


# ---- naming a position ------------------------------------------------------------------------


Shape = Callable[[Any, tuple[Live, ...]], Any]
"""From a target's state and the live blocks to what decides about the future: all but contents and dead bytes."""


def _but_the_last(entries: Iterable[Sequence[Any]]) -> tuple[Any, ...]:
    return tuple([entry[:-1] for entry in entries])


def _places(live: tuple[Live, ...]) -> list[tuple[int, int]]:
    """(address, bytes) of all that lives in the page source's memory."""
    return [(start, length) for block in live for space, start, length in block[0] if space == 0]


def _slabs(state: Any, live: tuple[Live, ...]) -> Any:
    """Slabs are images of their pages with what is in them; live objects are blanked, slack and all."""
    images, books = state
    places = _places(live)
    return tuple([(*slab[:-1], _blanked(slab, places)) for slab in images]), books


def _afmalloc(state: Any, live: tuple[Live, ...]) -> Any:
    """Entries say where an object's pieces are, which its extents do; they are blanked as well, as long as a slot."""
    (images, books), entries, size, areas, *rest = state
    places = _places(live)
    blank = []
    for slab in images:
        slot = slab[3][1]
        blank.append((*slab[:-1], _blanked(slab, [*places, *((entry, slot) for entry in entries)])))
    return tuple(blank), books, entries, size, _unread(areas), *rest


def _unread(areas: Iterable[Sequence[Any] | None]) -> tuple[Any, ...]:
    """Who is mapped where and how; of buffers, only whether there is one."""
    return tuple([None if area is None else (*area[:-1], area[-1] is None) for area in areas])


def _blanked(slab: Sequence[Any], places: list[tuple[int, int]]) -> bytes:
    """The image of a slab's memory with zeros at these places.  Its length tells what a page is."""
    page, order, image = slab[0], slab[1], bytearray(slab[-1])
    base = page * (len(image) >> order)
    for address, length in places:
        start = address - base
        if 0 <= start < len(image):
            end = min(start + length, len(image))
            image[start:end] = bytes(end - start)
    return bytes(image)


def _zsmalloc(state: Any, live: tuple[Live, ...]) -> Any:
    """A free slot's first word is a link and stays; what is longer is an object's."""
    cells, free_cells, handles, listed, areas, *rest = state
    images = [tuple([piece if len(piece) <= _WORD else b"" for piece in entry[-1]]) for entry in listed]
    return cells, free_cells, handles, _but_the_last(listed), images, _unread(areas), *rest


_SHAPES: dict[str, Shape] = {
    "heaplaw.impls.buddy.Buddy": lambda state, live: state[0],
    "heaplaw.impls.percpu_bitmap.PercpuBitmap": lambda state, live: (_but_the_last(state[0]), *state[1:]),
    "heaplaw.impls.percpu_area_map.PercpuAreaMap": lambda state, live: (_but_the_last(state[0]), *state[1:]),
    "heaplaw.impls.zsmalloc.Zsmalloc": _zsmalloc,
    "heaplaw.impls.slab.Slab": _slabs,
    "heaplaw.impls.slub.Slub": _slabs,
    "heaplaw.impls.kmalloc.Kmalloc": _slabs,
    "heaplaw.impls.afmalloc.Afmalloc": _afmalloc,
    "heaplaw.impls.zbud.Zbud": lambda state, live: (_but_the_last(state[0]), *state[1:]),
    "heaplaw.impls.xcfmalloc.Xcfmalloc": lambda state, live: (tuple(map(_but_the_last, state[0])), *state[1:]),
}
"""For targets of this package whose snapshots are plain tuples with the contents among them."""


def shape_of(target: Any) -> Shape:
    """How to take the contents out of this target's states.

    A state that has a ``shape`` says itself what equality means; of any other all is kept, so that
    states may be set apart that differ in dead bytes only, and none is taken for another.
    """
    kind = type(target)
    known = _SHAPES.get(f"{kind.__module__}.{kind.__qualname__}")
    return known if known is not None else _own_shape


def _own_shape(state: Any, live: tuple[Live, ...]) -> Any:
    return getattr(state, "shape", state)


def fingerprint(position: Position, shape: Shape = _own_shape) -> int:
    """64 bits of a position, never 0; equal positions have equal ones in every process.  O(its size)."""
    return digest(spelled(shape(position.state, position.live), *position[1:]))


def spelled(*parts: Any) -> bytes:
    """Values as bytes: the same ones for equal values, in every process.  Raises KeepError where that cannot be."""
    try:
        return marshal.dumps(parts, _PLAIN)
    except ValueError:
        return marshal.dumps(_plain(parts), _PLAIN)


def digest(text: bytes) -> int:
    """64 bits of it, never 0."""
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "little") or 1


def _plain(value: Any) -> Any:
    """The same value of nothing but built-in types.  Raises KeepError where there is none."""
    if value is None or type(value) in (int, str, bytes, bool, float):
        return value
    if isinstance(value, Enum):
        return type(value).__qualname__, value.name
    if isinstance(value, tuple | list):
        return tuple([_plain(item) for item in value])
    if isinstance(value, dict):  # its order may matter, and stays
        return "dict", tuple([(_plain(key), _plain(item)) for key, item in value.items()])
    if isinstance(value, set | frozenset):
        return "set", tuple(sorted(marshal.dumps(_plain(item), _PLAIN) for item in value))
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, int | str):
        return value + 0 if isinstance(value, int) else str(value)
    if hasattr(value, "shape"):
        return _plain(value.shape)
    fields = getattr(value, "__dict__", None) or {
        name: getattr(value, name) for name in getattr(type(value), "__slots__", ()) if hasattr(value, name)
    }
    if not fields:
        raise KeepError(f"a state holds {value!r}, which nothing can be compared by; use numbers and tuples")
    return type(value).__qualname__, tuple([(name, _plain(item)) for name, item in sorted(fields.items())])


def in_order(live: Iterable[Live]) -> tuple[Live, ...]:
    """Live blocks in canonical order: by place.  O(n log n)."""
    try:
        return tuple(sorted(live))
    except TypeError:  # two without a place, whose handles have no order
        return tuple(sorted(live, key=lambda entry: (entry[:-1], repr(entry[-1]))))


def entry(block: Block, group: int | None = None) -> Live:
    """What a position keeps of a live block; ``group``: what its group is called."""
    called = block.group if group is None else group
    return (block.extents, block.size, block.align, called, block.atomic, block.cpu, block.mapped, block.handle)


def seed(extents: tuple[tuple[int, int, int], ...]) -> int:
    """Where in the pattern the contents of a block at this place begin: every byte by its address."""
    if not extents:
        return 0
    space, start, _ = extents[0]
    return (space * 40503 + start) & 0xFFFF


def shadow_of(blocks: Sequence[Block]) -> Shadow:
    """The shadow heap of these blocks, named by their index; what adding one by one gives, at half the cost."""
    shadow = Shadow()
    _enter(shadow, blocks)
    shadow._starts.update(shadow._owners)
    return shadow


def _enter(shadow: Shadow, blocks: Sequence[Block]) -> None:
    """Enter blocks under their index into an empty shadow heap, all but the sorted index of their places."""
    shadow.live = dict(enumerate(blocks))
    shadow.names = names = list(shadow.live)
    shadow._where = dict(zip(names, names, strict=True))
    owners, ends, total, requested = shadow._owners, shadow._ends, 0, 0
    for block in blocks:
        total += block.length
        requested += block.size
        for space, start, length in block.extents:
            key = (space << SPACE_SHIFT) + start
            if length > 0 and key not in owners:
                owners[key], ends[key] = block, key + length
    shadow.bytes, shadow.requested = total, requested


class _Keys(list[int]):
    """Sorted keys that nobody changes: what a shadow heap asks of a SortedList, without its chunks."""

    def bisect_left(self, key: int) -> int:
        return bisect_left(self, key)

    def irange(self, low: int, high: int, inclusive: tuple[bool, bool]) -> list[int]:
        """Keys in [low, high), which is all that is ever asked."""
        return self[bisect_left(self, low) : bisect_left(self, high)]


class StillShadow(Shadow):
    """A shadow heap that is only looked at: cheaper to make, and its gaps are found once."""

    __slots__ = ("_gaps",)

    def __init__(self, blocks: Sequence[Block]) -> None:
        """``blocks``: named by their index."""
        self._ends: dict[int, int] = {}
        self._owners: dict[int, Block] = {}
        _enter(self, blocks)
        self._starts = _Keys(sorted(self._owners))
        self._gaps: dict[tuple[int, int, int], list[tuple[int, int]]] = {}

    def gaps(self, space: int, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The same, remembered."""
        known = self._gaps.get((space, start, end))
        if known is None:
            known = self._gaps[space, start, end] = list(super().gaps(space, start, end))
        return iter(known)


# ---- the checker that stands at a position -----------------------------------------------------


class Prober(Checker):
    """A checker that can be put at any position and asked about one operation from there.

    Audits only when told; laws that may put off an expensive question never do.
    """

    def __init__(self, target: Any, *, mute: Iterable[str] = ()) -> None:
        super().__init__(target, mute=mute, audit_every=NO_AUDIT, audit_from=NO_AUDIT)
        self.thorough = True
        self.keeper = keeper(target)
        self.shape = shape_of(target)
        self.forgetful = False  # do the target's states lack contents, so that they are to be written again?
        self._known: dict[tuple[int, Live], tuple[Block, tuple[Any, int, bytes]]] = {}  # see `stand`
        self.blocks: list[Block] = []  # live, in canonical order as of `take` or `stand`
        self._compares = self._asks("contents")
        self._zeroes = self._asks("zeroed")
        self._expected: list[tuple[Any, int, bytes]] = []
        self.calls = 0  # of the target, for `returns`

    @property
    def nimble(self) -> bool:
        """May requests and frees be tried without touching the shadow heap?"""
        return self.keeper.in_place and self._groups is None and not self.contract.slack_grows

    def take(self, position: Position) -> None:
        """Stand at this position, shadow heap and all.  O(its size)."""
        target, handles = self.keeper.load(self.target, position.state, [entry[-1] for entry in position.live])
        if target is not self.target:
            self.target = target
            self.source = getattr(target, "source", None)
            self._bind()
        self._circumstance(position)
        alive = zip(position.live, handles, strict=True)
        self.blocks = blocks = [self._block(name, live, handle) for name, (live, handle) in enumerate(alive)]
        self.shadow = shadow_of(blocks)
        self.births = len(blocks)
        self._mapped = Counter([block.mapped - 1 for block in blocks if block.mapped])
        if self.by_handle is not None:
            self.by_handle = {block.handle: block for block in blocks}
        if self._groups is not None:
            self._groups = _groups(self.blocks, position.merged)
        if self._compares:
            self._expected = [(b.handle, b.written, b.pattern(0, b.written)) for b in self.blocks]
            if self.forgetful:
                self._remind()

    def stand(self, position: Position) -> None:
        """The same for a ``nimble`` one that will try this and that and leave the shadow heap alone.

        Blocks are met again and again at the same places, so they are made once.
        """
        self.target.restore(position.state)
        self._circumstance(position)
        known, blocks, expected = self._known, [], []
        for named in enumerate(position.live):
            block, filled = known.get(named) or self._meet(named)
            blocks.append(block)
            expected.append(filled)
        self.blocks = blocks
        self.shadow = StillShadow(blocks)
        self.births = len(blocks)
        if self.by_handle is not None:
            self.by_handle = {block.handle: block for block in blocks}
        if self._compares:
            self._expected = expected
            if self.forgetful:
                self._remind()

    def _meet(self, named: tuple[int, Live]) -> tuple[Block, tuple[Any, int, bytes]]:
        """A block of this name and what it is filled with."""
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        block = self._block(*named, named[1][-1])
        self._known[named] = met = block, (block.handle, block.written, block.pattern(0, block.written))
        return met

    def _block(self, name: int, live: Live, handle: Any) -> Block:
        extents, size, align, group, atomic, cpu, mapped, _ = live
        block = Block(name, handle, size, align, extents)
        block.group, block.atomic, block.cpu, block.mapped = group, atomic, cpu, mapped
        block.length = sum([length for _, _, length in extents])
        if self._fills:
            block.seed, block.written = seed(extents), max(0, self._room(block))
        return block

    def rewind(self, position: Position) -> None:
        """Only the target goes back; the shadow heap stands there still.  For ``nimble`` ones."""
        self.target.restore(position.state)
        self._freed_at, self._refused_since = _NOT_FREED, 0
        self._repeats, self._wanted = 0, None
        if self.source is not None:
            self.source.fail_next(*position.armed)
            self.source.highest_order = 0
        if self.forgetful:
            self._remind()

    def _remind(self) -> None:
        """Write again what the blocks hold."""
        for handle, length, expected in self._expected:
            if length:
                self.target.write(handle, 0, expected)

    def keeps_contents(self, op: Operation) -> bool:
        """Does a state have the contents with it?  Asks for a block, spoils it and goes back; for a fresh target."""
        self._handlers[op.kind](op)
        here = self.position()
        self.take(here)
        for handle, length, expected in self._expected:
            self.target.write(handle, 0, bytes(byte ^ 255 for byte in expected))
            self.take(here)
            if length and bytes(self.target.read(handle, 0, length)) != expected:
                return False
        return True

    def _circumstance(self, position: Position) -> None:
        self.cpu = position.cpu
        self._freed_at = _NOT_FREED
        self._refused_since = self._repeats = 0
        self._wanted = None
        self.answer = None
        self.ended = False
        if self.source is not None:
            self.source.fail_next(*position.armed)
            self.source.highest_order = 0

    def position(self) -> Position:
        """Where the target and the shadow heap stand.  Fills blocks that have moved by their new place."""
        blocks = list(self.shadow.live.values())
        if self._fills:
            for block in blocks:
                self._fill(block)
        merged: tuple[tuple[int, int], ...] = ()
        if self._groups is None:
            live = in_order([entry(block) for block in blocks])
        else:
            blocks.sort(key=lambda block: (block.extents, repr(block.handle)))
            labels = _labels(blocks)
            merged = _merged(self._groups, labels)
            live = in_order([entry(block, labels[block.group]) for block in blocks])
        state, handles = self.keeper.save(self.target, [one[-1] for one in live])
        if not self.keeper.in_place:
            live = tuple([(*one[:-1], handle) for one, handle in zip(live, handles, strict=True)])
        return Position(state, live, self.cpu, self._armed(), merged)

    def _armed(self) -> tuple[int, int]:
        if self.source is None:
            return (0, 0)
        order, count = self.source._failing
        return (order, count) if count else (0, 0)

    def _fill(self, block: Block) -> None:
        """Contents by place."""
        wanted, room = seed(block.extents), max(0, self._room(block))
        if room and (block.seed != wanted or block.written != room):
            block.seed, block.written = wanted, room
            self.target.write(block.handle, 0, block.pattern(0, room))

    # ---- trying one thing, with the shadow heap left alone ----

    def attempt(self, op: Operation) -> Block | None:
        """A request for memory and its laws; what was given, filled but not entered."""
        block = self._placed(op)
        if block is None:
            return None
        block.cpu = self.cpu
        if self.index == 0:
            self._ask("first")
        if self.by_handle is not None:
            self.moment = "adopt"
            for check in self._on_adopt:
                check(self)
        block.length = sum([length for _, _, length in block.extents])
        if self._fills:
            self._fill(block)
        return block

    def affordable(self, met: str = "") -> bool:
        """Always: no law is put off."""
        if met:
            self.counted[met] += 1
        return True

    def again(self, freed: Block) -> None:
        """Ask for what was freed just now, and whether that holds which is promised of it."""
        self.index += 1
        self.freed, self._freed_at = freed, self.index - 1
        self.op = Operation(Kind.ALLOC, self.births, freed.size)
        self.answer = answer = self.call_alloc(freed.size)
        self._ask("again")
        if self._zeroes and not (answer is None or isinstance(answer, Refusal)):
            extents = self._extents(answer) if self._extents is not None else self._told(answer, freed.size)
            self.block = Block(self.births, answer, freed.size, 1, extents)
            LAWS["zeroed"].check(self)

    def intact(self, gone: int = -1) -> None:
        """All blocks, but for one that is gone, hold what was written to them."""
        if not self._expected:
            return
        read = self.target.read
        for index, (handle, length, expected) in enumerate(self._expected):
            if index != gone and length and read(handle, 0, length) != expected:
                self._touch(self.blocks[index])

    def all_intact(self) -> None:
        """All live blocks hold what was written to them, wherever they are now."""
        if self._compares:
            for block in self.shadow.live.values():
                self.block = block
                LAWS["contents"].check(self)

    def harvest(self) -> Counter[str]:
        """How often each law was asked since the last harvest."""
        found = self.evidence()
        if found["returns"]:
            found["returns"] = self.calls
        self.moments, self.counted = Counter(), Counter()
        self.served = self.refusals = self.skipped = self._touched = self.calls = 0
        return found


def _groups(blocks: list[Block], merged: tuple[tuple[int, int], ...]) -> Groups:
    """Which blocks belong together, as a position says."""
    groups = Groups()
    groups._into = dict(merged)
    for block in blocks:
        groups._members.setdefault(block.group, {})[block.name] = block
    return groups


def _labels(blocks: list[Block]) -> dict[int, int]:
    """What to call each group: a name that was given stays, others are called after their first block in order."""
    labels: dict[int, int] = {}
    for index, block in enumerate(blocks):
        labels.setdefault(block.group, block.group if block.group > 0 else -1 - index)
    return labels


def _merged(groups: Groups, labels: dict[int, int]) -> tuple[tuple[int, int], ...]:
    """Names whose group was merged into another, under what that is called."""
    return tuple(sorted((name, labels[into]) for name, into in groups._into.items() if name > 0 and into in labels))
