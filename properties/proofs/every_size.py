"""One state of a heap and everything that can be done next, whatever the sizes are.

A state is the target's own, with its live objects in canonical order.  What is known of the size of each is
a class: from ``low`` to ``high``.  Two checkers stand at a state:

- ``words``: sizes are words.  A request is made with every size of the machine's word, in intervals of which
  it is proved that the target and the laws do not tell their sizes apart (see ``sizes``).  What was served
  may have any size of its class from then on.
- ``ints``: sizes are integers, and contents are written and read as well.  The least and the greatest size
  of every class go the same way again, and must arrive where the words did.

Intervals next to each other with one effect, answer and state, are one class; but a class never reaches
across a border between those of the fresh heap, so that classes stay the same from state to state.

>>> from heaplaw.impls.registry import factory
>>> walker = Walker(factory("buddy,pages=2,page_size=64"), Sizes(64))
>>> [(way.low, way.high) for _, way, _ in walker.visit(walker.start(), 0, True)]
[(1, 64), (65, 128)]
"""

import marshal
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from heaplaw.checker import Hang, Unusable
from heaplaw.lawbook import Broken
from heaplaw.operations import Kind, Operation
from heaplaw.shadow import Block
from heaplaw.twins import TWIN_LAWS

from ..positions import _PLAIN, _SHAPES, Position, Prober, Shape, StillShadow, digest, shape_of
from .paths import Unsure
from .sizes import Sizes, forgetful, settled

_FULL = frozenset({"contents", "zeroed", "realloc-prefix", "realloc-failure"})  # laws about bytes: for integers
_UNALIGNED = 3  # an alignment that makes no sense
_NOTHING = Operation(Kind.NOP)


class Live(NamedTuple):
    """A live object of any size from ``low`` to ``high``; sorts by place."""

    extents: tuple[tuple[int, int, int], ...]
    low: int
    high: int
    align: int
    handle: int


class Place(NamedTuple):
    """A state of the target, and what lives in it."""

    state: Any
    live: tuple[Live, ...]


class Step(NamedTuple):
    """An operation with any size of a class; ``at``: which live object it makes or ends, in canonical order."""

    kind: int
    low: int = 0
    high: int = 0
    align: int = 1
    at: int = -1
    mode: str = ""


def _spelled_live(live: tuple[Live, ...]) -> bytes:
    return marshal.dumps([tuple(one) for one in live], _PLAIN)


class Breach(NamedTuple):
    """A law broken by these steps from a state on; none: by the state."""

    steps: tuple[Step, ...]
    law: str
    seen: str


Child = tuple[Place, Step, int]  # with its fingerprint


def _shape_of(target: Any) -> Shape:
    """As for all engines; one that differs from a known target in what it does is taken as that is."""
    kind: Any = type(target)
    for known in kind.__mro__:
        shape = _SHAPES.get(f"{known.__module__}.{known.__qualname__}")
        if shape is not None and kind.snapshot is known.snapshot:
            return shape
    return shape_of(target)


class Open(Prober):
    """A checker that stands where sizes are known by their class only; it neither writes nor reads contents."""

    def __init__(self, target: Any, sizes: Sizes) -> None:
        target.contract = forgetful(target.contract)
        super().__init__(target, mute=_FULL | TWIN_LAWS)
        self._fills = False
        self._sizes = sizes

    def enter(self, place: Place) -> None:
        """Stand there; what lives has any size of its class."""
        self.blocks = [self._of(index, live) for index, live in enumerate(place.live)]
        self.shadow = StillShadow(self.blocks)
        self.births = len(self.blocks)
        if self.by_handle is not None:
            self.by_handle = {block.handle: block for block in self.blocks}

    def _of(self, index: int, live: Live) -> Block:
        size = self._sizes.word(f"live {index}", live.low, live.high)
        block = Block(index, live.handle, size, live.align, live.extents)
        block.length = sum([length for _, _, length in live.extents])
        return block


class Walker:
    """Goes from state to state of one target.  Raises ValueError where that is not possible here."""

    def __init__(self, build: Callable[[], Any], sizes: Sizes) -> None:
        self.build, self.sizes = build, sizes
        self.breaches: list[Breach] = []
        self.classes = 0  # of requests, over all states
        self._borders: set[int] = set()  # where the classes of the fresh heap begin
        self._had: set[tuple[int, int, int]] = set()  # (state, class) of what was freed and had again
        self._renew()
        contract = self.ints.contract
        beyond = 1 << contract.granule.bit_length()
        self.aligns = (1, beyond) if beyond <= contract.max_align else (1,)
        if contract.moving or contract.evicting or contract.slack_grows or not self.ints.nimble:
            raise ValueError("objects that move are not followed here")

    def _renew(self) -> None:
        """Fresh targets, as after one has crashed."""
        self.words, self.ints = Open(self.build(), self.sizes), Prober(self.build(), mute=TWIN_LAWS)
        self.words.shape = self.ints.shape = _shape_of(self.ints.target)
        self._shape = getattr(self.ints.target, "shape", None) is not None
        self._still = getattr(self.words.target, "stands_at", None)
        self._pairs = self.ints._asks("free-then-alloc") or self.ints._zeroes
        if self.ints.source is not None and self.ints.contract.spaces == "pages":
            raise ValueError("pages that come and go are not followed here")

    def start(self) -> Place:
        """The fresh heap."""
        return Place(self.ints.target.snapshot(), ())

    def mark(self, place: Place) -> int:
        """The fingerprint of a state."""
        self._place = place
        self.ints.target.restore(place.state)
        return digest(self._spelled(self.ints) + _spelled_live(place.live))

    # ---- one state -------------------------------------------------------------------------

    def visit(self, place: Place, depth: int, expand: bool) -> list[Child]:
        """Ask the laws of a state that ``depth`` steps lead to; where ``expand``, do everything from there.

        Broken laws are entered in ``breaches``.  Raises Unsure.
        """
        self._place, self._depth, self._children = place, depth, list[Child]()
        self._here = Position(place.state, (), 0, (0, 0), ())
        known = tuple([(live.extents, live.high, live.align, 0, False, 0, 0, live.handle) for live in place.live])
        if not self._asking((), lambda: self._audit(Position(place.state, known, 0, (0, 0), ()))) or not expand:
            return []
        self._text = self._spelled(self.ints)
        for align in self.aligns:
            self._requests(align)
        if "align" in self.ints.contract.rejects:
            self._senseless()
        for at in range(len(place.live)):
            self._free(at)
        for kind in self.ints.contract.maintenance:
            self._plain(Operation(Kind.MAINTAIN, mode=kind), Step(Kind.MAINTAIN, mode=kind))
        if not place.live:
            self._asking((Step(Kind.DRAIN),), self._drain)
        return self._children

    def _audit(self, position: Position) -> None:
        """Stand at the state, with both checkers, and ask what holds of it."""
        self.words.enter(self._place)
        self.ints.stand(position)
        for prober in (self.words, self.ints):
            prober.rewind(self._here)
            prober.index = self._depth - 1
            prober.last_audit, prober.only_refused = None, False
            prober.audit()
        self._baseline = self.ints.last_audit

    @contextmanager
    def _noting(self, steps: Callable[[], tuple[Step, ...]]) -> Iterator[None]:
        """A law that breaks in the body, or a target that breaks down, is a breach."""
        try:
            yield
        except Unsure:
            raise
        except Broken as broken:
            self.breaches.append(Breach(steps(), broken.law, str(broken)))
        except (Exception, Hang) as problem:
            try:
                self.ints.collapse(problem)
            except Broken as broken:
                self.breaches.append(Breach(steps(), broken.law, str(broken)))
            except Unusable:
                raise AssertionError("no law is muted") from problem
            self._renew()

    def _asking(self, steps: tuple[Step, ...], call: Callable[[], object]) -> bool:
        """Call; False if a law was broken."""
        before = len(self.breaches)
        with self._noting(lambda: steps):
            call()
        return len(self.breaches) == before

    def _ready(self, prober: Prober, op: Operation) -> None:
        """The target goes back to the state; ``op`` comes next."""
        prober.rewind(self._here)
        prober.op, prober.previous, prober.index, prober.problem = op, _NOTHING, self._depth, ""

    def _spelled(self, prober: Prober) -> bytes:
        """The target's state as bytes, contents and dead bytes apart.  Raises Split where words are left."""
        target = prober.target
        shape = target.shape() if self._shape else prober.shape(target.snapshot(), self._place.live)
        try:
            return marshal.dumps(shape, _PLAIN)
        except ValueError:
            return marshal.dumps(settled(shape), _PLAIN)

    def _arrive(self, text: bytes, live: tuple[Live, ...], step: Step) -> int:
        """``ints`` stands at a state: enter it, if it is another one."""
        mark = digest(text + _spelled_live(live))
        if text != self._text or live != self._place.live:
            self._children.append((Place(self.ints.target.snapshot(), live), step, mark))
        return mark

    def _same(self, told: Any, seen: Any) -> None:
        if told != seen:
            raise Unsure(f"words came to {told!r:.200}, and integers to {seen!r:.200}")

    # ---- requests ----------------------------------------------------------------------------

    def _requests(self, align: int) -> None:
        """Ask for every size of the machine's word."""
        sizes = self.sizes

        def asked() -> tuple[Step, ...]:
            return (Step(Kind.ALLOC, sizes.low, sizes.high, align),)

        with self._noting(asked):
            told = self._merged(sizes.each(0, sizes.most, lambda size: self._request(self.words, size, align)))
            if not self._place.live and self._depth == 0 and align == 1:
                self._borders = {low for low, _, _ in told}
            for low, high, effect in told:
                self.classes += 1
                for sizes.low in sorted({low, high}):
                    sizes.high = sizes.low
                    self._same(effect, self._request(self.ints, sizes.low, align))
                self._served(low, high, align, effect)

    def _merged(self, told: Iterator[tuple[int, int, Any]]) -> list[tuple[int, int, Any]]:
        """Neighbours of one effect in one; if they were served, between the borders alone."""
        whole: list[tuple[int, int, Any]] = []
        for low, high, effect in told:
            if whole and whole[-1][2] == effect and (effect[1] is None or low not in self._borders):
                whole[-1] = (whole[-1][0], high, effect)
            else:
                whole.append((low, high, effect))
        return whole

    def _request(self, prober: Prober, size: Any, align: int) -> tuple[Any, ...]:
        """One request with its laws: (answer, extents or None, state, or None if it is the same)."""
        self._ready(prober, Operation(Kind.ALLOC, len(self._place.live), size, align))
        prober.calls += 1
        block = prober.attempt(prober.op)
        if align == 1:
            self._refused_as_promised(prober, size)
        prober.intact()
        if block is None:
            if self._still is not None and prober is self.words and self._still(self._place.state):
                return prober.answer, None, None
            text = self._spelled(prober)
            if text == self._text:
                return prober.answer, None, None
            if prober is self.ints:
                self._pure()
            return prober.answer, None, text
        return settled(block.handle), settled(block.extents), self._spelled(prober)

    def _refused_as_promised(self, prober: Prober, size: Any) -> None:
        """A request that makes no sense is refused."""
        contract = prober.contract
        zero = "zero" in contract.rejects and size == 0
        if zero or ("huge" in contract.rejects and size > contract.largest):
            answer = prober.answer
            prober._ask("bad-alloc")
            prober.answer = answer

    def _pure(self) -> None:
        """A refused call has changed something: hold the heap against what it was before."""
        ints = self.ints
        ints.last_audit, ints.last_audit_index = self._baseline, self._depth - 1
        ints.audit()

    def _served(self, low: int, high: int, align: int, effect: tuple[Any, ...]) -> None:
        """Enter what comes of a class; ``ints`` stands there."""
        handle, extents, text = effect
        if extents is None:
            if text is not None:
                self._arrive(text, self._place.live, Step(Kind.ALLOC, low, high, align))
            return
        new, live = Live(extents, low, high, align, handle), self._place.live
        at = bisect_left(live, new)
        self._arrive(text, (*live[:at], new, *live[at:]), Step(Kind.ALLOC, low, high, align, at))

    def _senseless(self) -> None:
        """Ask for every size, aligned to what is no alignment."""
        sizes = self.sizes

        def ask(size: Any) -> bool:
            self._ready(self.words, Operation(Kind.BAD_ALLOC, 0, size, _UNALIGNED, "align"))
            self.words._bad_alloc(self.words.op)
            return self._spelled(self.words) == self._text

        def asked() -> tuple[Step, ...]:
            return (Step(Kind.BAD_ALLOC, sizes.low, sizes.high, _UNALIGNED, mode="align"),)

        with self._noting(asked):
            for low, _, still in sizes.each(1, sizes.most, ask):
                if not still:
                    raise Unsure(f"a refused request of {low} bytes changes the heap")

    # ---- frees -------------------------------------------------------------------------------

    def _free(self, at: int) -> None:
        """Give an object back; whatever size of its class it has."""
        live, sizes = self._place.live[at], self.sizes
        rest = self._place.live[:at] + self._place.live[at + 1 :]
        sized = self.ints.contract.sized_free

        def freed() -> tuple[Step, ...]:
            return (Step(Kind.FREE, sizes.low, sizes.high, at=at),)

        with self._noting(freed):
            sizes.low, sizes.high = live.low, live.high
            whole = [(live.low, live.high, b"")]
            if sized:
                told = sizes.each(live.low, live.high, lambda size: self._release(self.words, at, size))
                whole = self._merged_frees(told)
            for low, high, seen in whole:
                for sizes.low in sorted({low, high} if sized else {high}):
                    sizes.high = sizes.low
                    text = self._release(self.ints, at, sizes.low)
                    self._same(seen if sized else text, text)
                mark = self._arrive(text, rest, Step(Kind.FREE, low, high, at=at))
                if self._pairs and (mark, low, high) not in self._had:
                    self._had.add((mark, low, high))
                    self._again(at, low, high)

    @staticmethod
    def _merged_frees(told: Iterator[tuple[int, int, bytes]]) -> list[tuple[int, int, bytes]]:
        whole: list[tuple[int, int, bytes]] = []
        for low, high, text in told:
            if whole and whole[-1][2] == text:
                whole[-1] = (whole[-1][0], high, text)
            else:
                whole.append((low, high, text))
        return whole

    def _release(self, prober: Prober, at: int, size: Any) -> bytes:
        self._ready(prober, Operation(Kind.FREE, at))
        prober.calls += 1
        prober.call_free(prober.blocks[at].handle, size)
        prober.intact(at)
        return self._spelled(prober)

    def _again(self, at: int, low: int, high: int) -> None:
        """What was freed just now can be had again, and clean where that is promised."""
        sizes = self.sizes

        def asked() -> tuple[Step, ...]:
            return (Step(Kind.FREE, low, high, at=at), Step(Kind.ALLOC, sizes.low, sizes.high))

        def ask(prober: Prober, size: Any) -> None:
            block = prober.blocks[at]
            self._release(prober, at, size)
            prober.again(Block(at, block.handle, size, block.align, block.extents))

        with self._noting(asked):
            for _ in sizes.each(low, high, lambda size: ask(self.words, size)):
                pass
            for sizes.low in sorted({low, high}):
                sizes.high = sizes.low
                ask(self.ints, sizes.low)

    # ---- what has no size --------------------------------------------------------------------

    def _plain(self, op: Operation, step: Step) -> None:
        """Maintenance: where nothing moves, it is no matter what size anything has but to the laws."""

        def act() -> None:
            texts = []
            for prober in (self.words, self.ints):
                self._ready(prober, op)
                prober._handlers[op.kind](op)
                prober.intact()
                texts.append(self._spelled(prober))
            self._same(*texts)
            self._arrive(texts[1], self._place.live, step)

        self._asking((step,), act)

    def _drain(self) -> None:
        """Nothing lives: is everything back?"""
        self._ready(self.ints, Operation(Kind.DRAIN))
        self.ints._handlers[Kind.DRAIN](self.ints.op)
