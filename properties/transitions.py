"""What can happen next: one position, every code of the alphabet, every law.

State laws are asked once of a position, when it is expanded.  Laws of an operation are asked of
every transition, wherever it leads; so are contents, which are no part of a position.  What depends
on two operations in a row (what was freed can be had again, a second compaction) is asked of pairs.

>>> from heaplaw.properties.alphabet import alphabet
>>> from heaplaw.impls.registry import factory
>>> build = factory("tlsf,arena=128,sl=1")
>>> explorer = Explorer(build, alphabet(build().contract, {1, 2}, (8, 48), ()))
>>> start = explorer.start()
>>> [child.code for child in explorer.expand([start.kept], 0, {start.fingerprint}.__contains__).children]
[0, 1]
"""

import pickle
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

from heaplaw.checker import Hang, Unusable
from heaplaw.lawbook import LAWS, Broken
from heaplaw.operations import Kind, Operation
from heaplaw.twins import TWIN_LAWS

from .alphabet import LEAVES, Alphabet, codes, operation
from .positions import KeepError, Position, Prober, digest, fingerprint, in_order, spelled
from .reached import Watch, changed, values_of
from .watchdog import watchdog
from .watchdog import wind_up as start_again

_NOTHING = Operation(Kind.NOP)
_MOST_HAD = 1 << 19  # entries of a memory that only saves time
_MOST_TOLD = 1 << 24  # bytes of another
_ENTRY = 128  # bytes of an entry in it, beside the text
ALLOC, FREE = int(Kind.ALLOC), int(Kind.FREE)
_HANG_SECONDS = 0.5  # CPU time for all transitions from a position; they take a millisecond
NEVER = 1 << 30  # longer than any trace


class Child(NamedTuple):
    """A position that was reached: its fingerprint, and all of it as bytes."""

    parent: int  # which of the positions that were expanded together
    code: int
    fingerprint: int
    kept: bytes
    words: tuple[str, ...] = ()  # named states that count if it is new


class Breach(NamedTuple):
    """A law broken by these codes after the position's own trace, which ``length`` counts too."""

    length: int  # operations in all
    parent: int
    codes: tuple[int, ...]
    law: str


class Expansion(NamedTuple):
    """What came of expanding positions."""

    children: list[Child]
    breaches: list[Breach]
    counts: Counter[str]  # transitions; dead: calls that a muted law had already convicted; named states reached
    evidence: Counter[str]  # how often each law was asked

    @classmethod
    def nothing(cls) -> "Expansion":
        """Of no position."""
        return cls([], [], Counter(), Counter())


@contextmanager
def _leash() -> Iterator[Callable[[], Any]]:
    """The watchdog for many short calls: gives a function that starts the time anew, at little cost."""
    with watchdog(_HANG_SECONDS):
        yield partial(start_again, _HANG_SECONDS)


class Explorer:
    """Expands positions of one target; everything it answers depends on these arguments alone."""

    def __init__(
        self, build: Callable[[], Any], letters: Alphabet, *, mute: Iterable[str] = (), deepest: int = NEVER
    ) -> None:
        """No trace grows longer than ``deepest`` operations."""
        self.build, self.letters, self.deepest = build, letters, deepest
        self.mute = frozenset(mute) | TWIN_LAWS
        self.shortest = NEVER  # length of the shortest breach so far; nothing longer is looked for
        self._plain = {
            letter.operation.size: number
            for number, letter in enumerate(letters)
            if letter.operation.kind == Kind.ALLOC and letter.operation.align == 1 and not letter.operation.mode
        }
        self._leaves = [number for number, letter in enumerate(letters) if letter.operation.kind in LEAVES]
        self._menu: dict[int, list[tuple[int, Operation]]] = {}
        self._words: Counter[str] = Counter()  # named states reached
        self._had: set[tuple[int, int]] = set()  # (state, size) where that size was had again
        self._told: dict[bytes, int] = {}  # positions that were seen or named lately, spelled out, and their marks
        self._told_bytes = 0
        self._forgetful = False
        self._renew()
        self._forgetful = self.prober.forgetful = not all(map(self._keeps_contents, self._plain.values()))
        self._reset()

    def _keeps_contents(self, letter: int) -> bool:
        """Do snapshots keep contents, as far as this request can tell?"""
        prober = Prober(self.build(), mute=LAWS)
        prober._compares = self.prober._compares
        try:
            return prober.keeps_contents(self.letters[letter].operation)
        except (Exception, Hang):  # the search will say so, with a trace
            return True

    def _renew(self) -> None:
        """A fresh target, as after one has crashed."""
        self.prober = prober = Prober(self.build(), mute=self.mute)
        prober.forgetful = self._forgetful
        self._nimble = prober.nimble
        self._pairs = prober._asks("free-then-alloc") or prober._zeroes
        self._memorable = self._nimble and not prober._zeroes  # do dead bytes not matter to what is had again?
        self._ordered = prober._asks("page-order")
        self._standing = False  # does the prober's shadow heap stand at `_here`?
        self._still = getattr(prober.target, "stands_at", None)
        self._watch = Watch(prober, self._words)
        self._hinted = "hints" in prober.shows and any("hints" in law.needs for law in prober.laws)
        self._shape = getattr(prober.target, "shape", None)

    def _reset(self) -> None:
        self._result = Expansion.nothing()
        self._transitions = self._dead = 0
        self._words.clear()

    def start(self) -> Child:
        """The fresh target's position."""
        position = self.prober.position()
        mark = fingerprint(position, self.prober.shape)
        return Child(0, 0, mark, keep(position, mark))

    def expand(self, kept: Sequence[bytes], depth: int, seen: Callable[[int], bool]) -> Expansion:
        """All that follows from these positions, reached by ``depth`` operations each.

        ``seen(fingerprint)`` tells which children need not be named; it may be false of what is known.
        """
        with _leash() as wind_up:
            for parent, one in enumerate(kept):
                self._visit(parent, one, depth, seen, wind_up)
        found = self._result
        found.counts.update(self._words, transitions=self._transitions, dead=self._dead)
        found.evidence.update(self.prober.harvest())
        self._reset()
        return found

    def _visit(
        self, parent: int, kept: bytes, depth: int, seen: Callable[[int], bool], wind_up: Callable[[], Any]
    ) -> None:
        """Ask the state laws of a position, then try every code from there."""
        self._here, self._mark = unkeep(kept)
        self._parent, self._depth, self._seen = parent, depth, seen
        self._code: tuple[int, ...] = ()
        self._reached = 0  # where the transition being tried has led
        wind_up()
        if not self._audit() or self._too_long():
            return
        for code, op in self._steps(len(self._here.live)):
            if not self._try(code, op):
                wind_up()  # a hang may have used it up
                if self._too_long():
                    return

    # ---- one step ------------------------------------------------------------------------

    def _audit(self) -> bool:
        """Stand at the position and ask the state laws of it.  False if one is broken."""
        prober = self.prober
        prober.index = self._depth - 1
        prober.last_audit, prober.only_refused = None, False
        self._standing = False
        if not self._ask(self._stand) or not self._ask(prober.audit):
            return False
        self._baseline = prober.last_audit
        if self._hinted:
            self._watch.lagging(prober.view)
            self._hints = values_of(prober.view.hints)
        return True

    def _stand(self) -> None:
        """Put the target back, and the shadow heap if something has changed it."""
        if self._standing:
            self.prober.rewind(self._here)
        elif self._nimble:
            self.prober.stand(self._here)
            self._standing = True
        else:
            self.prober.take(self._here)

    def _steps(self, live: int) -> list[tuple[int, Operation]]:
        """What can be tried with so many live blocks: code and operation; names are places in canonical order."""
        known = self._menu.get(live)
        if known is None:
            letters, names = self.letters, range(live)
            wanted = chain(() if live else self._leaves, codes(letters, live))
            known = self._menu[live] = [(code, operation(letters, code, names, live)) for code in wanted]
        return known

    def _try(self, code: int, op: Operation) -> bool:
        """One transition and its laws.  False if one is broken, or if the target broke down."""
        prober, kind = self.prober, op[0]
        self._code, prober.op = (code,), op
        prober.previous, prober.index, prober.problem = _NOTHING, self._depth, ""
        try:
            if self._nimble and kind == ALLOC:
                self._request(op)
            elif self._nimble and kind == FREE and not self._here.live[op[1]][6]:
                self._free(op[1])
            else:
                self._general(op)
        except (Exception, Hang) as problem:
            self._note(problem)
            return False
        return True

    def _ask(self, call: Callable[[], None]) -> bool:
        """Call; note which law broke.  False if one did, or if the target broke down."""
        try:
            call()
        except (Exception, Hang) as problem:
            self._note(problem)
            return False
        return True

    def _note(self, problem: BaseException) -> None:
        """What an exception says about the target."""
        if isinstance(problem, Broken):
            self._breach(problem.law)
        elif isinstance(problem, Unusable):
            self._dead += 1
        elif isinstance(problem, KeepError):  # says nothing about it
            raise problem
        else:
            self._collapse(self.prober, problem)

    def _collapse(self, prober: Prober, problem: BaseException) -> None:
        try:
            prober.collapse(problem)
        except Broken as broken:
            self._breach(broken.law)
        except Unusable:
            self._dead += 1
        self._result.evidence.update(prober.harvest())
        self._renew()
        self.prober.problem = prober.problem

    def _breach(self, law: str) -> None:
        length = self._depth + len(self._code)
        self._result.breaches.append(Breach(length, self._parent, self._code, law))
        self.shortest = min(self.shortest, length)

    def _request(self, op: Operation) -> None:
        """Ask for memory, the shadow heap left alone."""
        prober = self.prober
        self._stand()
        self._transitions += 1
        prober.calls += 1
        block, live = prober.attempt(op), self._here.live
        if block is None:
            self._watch.refused()
            if self._still is not None and self._still(self._here.state):
                if "refusal-pure" not in self.mute:
                    prober.met("refusal-pure")
                return
            prober.intact()
            self._reach(live)
            return
        prober.intact()
        if self._memorable and block.align == 1 and not op[4] and len(self._had) < _MOST_HAD:
            self._had.add((self._mark, op[2]))  # whatever is freed to come here can be had again
        new = (
            block.extents, op[2], block.align, block.group, block.atomic, block.cpu, 0, block.handle,
        )  # fmt: skip
        try:
            at = bisect(live, new)
            entries = (*live[:at], new, *live[at:])
        except TypeError:
            entries = in_order([*live, new])
            at = entries.index(new)
        self._watch.placed(entries, at, op[2])
        self._reach(entries)

    def _free(self, index: int) -> None:
        """Give a block back, the shadow heap left alone."""
        prober, live = self.prober, self._here.live
        self._stand()
        block, source = prober.blocks[index], prober.source
        held = source.held if source is not None else 0
        self._transitions += 1
        prober.calls += 1
        prober.call_free(block.handle, block.size)
        prober.intact(index)
        self._watch.released(live, index, prober.cpu)
        self._reach(live[:index] + live[index + 1 :])
        if self._pairs and (source is None or source.held == held):
            self._again(block)

    def _again(self, block: Any) -> None:
        """What was freed just now can be had again, clean where that is promised."""
        size = block.size
        letter = self._plain.get(size)
        if letter is None or self._pair_too_long() or self._here.armed[1]:
            return
        if not self._memorable or block.cpu != self.prober.cpu or block.atomic or block.group:
            self._code = (*self._code, letter)
            self.prober.again(block)
        elif (self._reached, size) in self._had:
            self.prober.met("free-then-alloc")
        else:
            self._code = (*self._code, letter)
            self.prober.again(block)
            if len(self._had) >= _MOST_HAD:
                self._had.clear()
            self._had.add((self._reached, size))

    def _too_long(self) -> bool:
        """Would one more operation be more than is wanted?"""
        return self._depth >= self.deepest or self._depth + 1 >= self.shortest

    def _pair_too_long(self) -> bool:
        """Would two more?  As long as the shortest breach is not: who asks less depends on nobody's luck."""
        return self._depth + 2 > min(self.deepest, self.shortest)

    def _general(self, op: Operation) -> None:
        """Any operation, by the checker's own handler."""
        prober = self.prober
        self._standing = False
        prober.take(self._here)
        skipped, handler = prober.skipped, prober._handlers[op.kind]
        self._transitions += 1
        prober.calls += 1
        before = self._watch.begin(op)
        handler(op)
        self._watch.end(op, before)
        if prober.skipped != skipped:
            self._transitions -= 1
            return
        if op.kind in LEAVES:
            self._renew_after(prober)
            return
        prober.all_intact()
        self._arrive(prober.position())
        if op.kind == Kind.FREE and self._pairs and prober._freed_at == self._depth:
            self._again(prober.freed)
        elif op.kind == Kind.MAINTAIN and op.mode in prober.contract.moving and not self._pair_too_long():
            self._code = (*self._code, *self._code)
            prober.previous, prober.index = op, self._depth + 1
            handler(op)

    def _renew_after(self, prober: Prober) -> None:
        """A target that was destroyed is no longer to be used."""
        if prober.ended:
            self._result.evidence.update(prober.harvest())
            self._renew()

    # ---- where it leads --------------------------------------------------------------------

    def _reach(self, live: tuple[Any, ...]) -> None:
        """Arrive where these blocks live and nothing else of the shadow heap has changed."""
        here, prober = self._here, self.prober
        armed = prober._armed() if here.armed[1] else here.armed
        if self._shape is None:
            state = prober.target.snapshot()
            if self._is_new(spelled(prober.shape(state, live), live, here.cpu, armed, ())):
                self._name(Position(state, live, here.cpu, armed, ()))
        elif self._is_new(spelled(self._shape(), live, here.cpu, armed, ())):
            self._name(Position(prober.target.snapshot(), live, here.cpu, armed, ()))

    def _arrive(self, position: Position) -> None:
        """Arrive at a position as the checker's own handlers have left it."""
        if self._is_new(spelled(self.prober.shape(position.state, position.live), *position[1:])):
            self._name(position)

    def _is_new(self, text: bytes) -> bool:
        """Does this spell a position that need be named?  Asks what is asked on arrival."""
        prober = self.prober
        if self._ordered and prober.source.highest_order:
            LAWS["page-order"].check(prober)
        known = self._told.get(text)
        self._reached = mark = known or digest(text)
        if mark == self._mark:
            if prober._refused_since and "refusal-pure" not in self.mute:
                prober.met("refusal-pure")  # nothing at all has changed
            return False
        if prober._refused_since:
            self._pure()
        if known is not None:
            return False
        if self._told_bytes > _MOST_TOLD:
            self._told.clear()
            self._told_bytes = 0
        self._told[text] = mark
        self._told_bytes += len(text) + _ENTRY
        return not self._seen(mark)

    def _name(self, position: Position) -> None:
        """Enter a child in the result."""
        mark = self._reached
        words: tuple[str, ...] = ()
        if self._hinted:
            words = changed(self._hints, values_of(self.prober.target.hints()))
        self._result.children.append(Child(self._parent, self._code[0], mark, keep(position, mark), words))

    def _pure(self) -> None:
        """A refused call has changed something: hold the heap against what it was before."""
        prober = self.prober
        prober.last_audit, prober.last_audit_index = self._baseline, self._depth - 1
        prober.audit()


def keep(position: Position, mark: int) -> bytes:
    """A position and its fingerprint as bytes."""
    return pickle.dumps((*position, mark), 5)


def unkeep(kept: bytes) -> tuple[Position, int]:
    """Inverse of ``keep``."""
    *fields, mark = pickle.loads(kept)
    return Position(*fields), mark
