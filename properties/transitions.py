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
import signal
import threading
from bisect import insort
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
from .positions import Position, Prober, fingerprint, in_order
from .watchdog import watchdog

_NOTHING = Operation(Kind.NOP)
_MOST_HAD = 1 << 19  # entries of a memory that only saves time
_HANG_SECONDS = 0.5  # CPU time for all transitions from a position; they take a millisecond
NEVER = 1 << 30  # longer than any trace


class Child(NamedTuple):
    """A position that was reached: its fingerprint, and all of it as bytes."""

    parent: int  # which of the positions that were expanded together
    code: int
    fingerprint: int
    kept: bytes


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
    counts: Counter[str]  # transitions, refused, dead: calls that a muted law had already convicted
    evidence: Counter[str]  # how often each law was asked

    @classmethod
    def nothing(cls) -> "Expansion":
        """Of no position."""
        return cls([], [], Counter(), Counter())


@contextmanager
def _leash() -> Iterator[Callable[[], Any]]:
    """The watchdog for many short calls: gives a function that starts the time anew, at little cost."""
    with watchdog(_HANG_SECONDS):
        if threading.current_thread() is threading.main_thread():
            start: Callable[[], Any] = partial(signal.setitimer, signal.ITIMER_PROF, _HANG_SECONDS)
            yield start
        else:
            yield lambda: None


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
        self._had: set[tuple[int, int]] = set()  # (state, size) where that size was had again
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

    def _reset(self) -> None:
        self._result = Expansion.nothing()
        self._met: set[int] = set()  # fingerprints of children that are in the result

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
        if not self._audit():
            return
        if self._too_long():
            return
        for code, op in self._steps(len(self._here.live)):
            if not self._try(code, op):
                wind_up()  # a hang has used it up
            if self._too_long():
                return

    # ---- one step ------------------------------------------------------------------------

    def _audit(self) -> bool:
        """Stand at the position and ask the state laws of it.  False if one is broken."""
        prober = self.prober
        prober.index = self._depth - 1
        prober.last_audit, prober.only_refused = None, False
        if not self._ask(prober.take, self._here):
            return False
        self._standing = True
        if not self._ask(prober.audit):
            return False
        self._baseline = prober.last_audit
        return True

    def _steps(self, live: int) -> list[tuple[int, Operation]]:
        """What can be tried with so many live blocks: code and operation; names are places in canonical order."""
        known = self._menu.get(live)
        if known is None:
            letters, names = self.letters, range(live)
            wanted = chain(() if live else self._leaves, codes(letters, live))
            known = self._menu[live] = [(code, operation(letters, code, names, live)) for code in wanted]
        return known

    def _try(self, code: int, op: Operation) -> bool:
        """One transition and its laws.  False after a hang."""
        prober, kind = self.prober, op.kind
        self._code = (code,)
        prober.op = op
        prober.previous = _NOTHING
        prober.index = self._depth
        prober.problem = ""
        if self._nimble and kind == Kind.ALLOC:
            self._request(op)
        elif self._nimble and kind == Kind.FREE and not self._here.live[op.name][6]:
            self._free(op.name)
        else:
            self._general(op)
        return prober.problem != "a hang"

    def _ask(self, call: Callable[..., None], *arguments: Any) -> bool:
        """Call; note which law broke.  False if one did, or if the target broke down."""
        prober = self.prober
        try:
            call(*arguments)
        except Broken as broken:
            self._breach(broken.law)
            return False
        except Unusable:
            self._result.counts["dead"] += 1
            return False
        except (Exception, Hang) as problem:
            return self._collapse(prober, problem)
        return True

    def _collapse(self, prober: Prober, problem: BaseException) -> bool:
        try:
            prober.collapse(problem)
        except Broken as broken:
            self._breach(broken.law)
        except Unusable:
            self._result.counts["dead"] += 1
        self._result.evidence.update(prober.harvest())
        self._renew()
        self.prober.problem = prober.problem
        return False

    def _breach(self, law: str) -> None:
        length = self._depth + len(self._code)
        self._result.breaches.append(Breach(length, self._parent, self._code, law))
        self.shortest = min(self.shortest, length)

    def _return(self) -> bool:
        """Put the target back, and the shadow heap if something has changed it."""
        if self._standing:
            self.prober.rewind(self._here)
            return True
        self._standing = self._ask(self.prober.take, self._here)
        return self._standing

    def _request(self, op: Operation) -> None:
        prober = self.prober
        if not self._return() or not self._call(prober.attempt, op):
            return
        block, live = prober.placed, self._here.live
        if block is None:
            if self._still is not None and self._still(self._here.state):
                if "refusal-pure" not in self.mute:
                    prober.met("refusal-pure")
            elif not prober._expected or self._ask(prober.intact):
                self._reach(live)
            return
        if prober._expected and not self._ask(prober.intact):
            return
        new = (
            block.extents, op.size, block.align, block.group, block.atomic, block.cpu, 0, block.handle,
        )  # fmt: skip
        entries = list(live)
        try:
            insort(entries, new)
        except TypeError:
            entries = list(in_order([*live, new]))
        self._reach(tuple(entries))

    def _free(self, index: int) -> None:
        prober, live = self.prober, self._here.live
        if not self._return():
            return
        block, source = prober.blocks[index], prober.source
        held = source.held if source is not None else 0
        self._reached = 0
        if not self._call(prober.call_free, block.handle, block.size):
            return
        if prober._expected and not self._ask(prober.intact, index):
            return
        self._reach(live[:index] + live[index + 1 :])
        if self._pairs and self._reached and (source is None or source.held == held):
            self._again(block)

    def _again(self, block: Any) -> None:
        """What was freed just now can be had again, clean where that is promised."""
        letter = self._plain.get(block.size)
        if letter is None or self._pair_too_long() or self._here.armed[1]:
            return
        memorable = self._memorable and block.cpu == self.prober.cpu
        if memorable and (self._reached, block.size) in self._had:
            self.prober.met("free-then-alloc")
            return
        self._code = (*self._code, letter)
        if self._ask(self.prober.again, block) and memorable:
            if len(self._had) >= _MOST_HAD:
                self._had.clear()
            self._had.add((self._reached, block.size))

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
        self._reached = 0
        if not self._ask(prober.take, self._here):
            return
        skipped, handler = prober.skipped, prober._handlers[op.kind]
        if not self._call(handler, op):
            return
        if prober.skipped != skipped:
            self._result.counts["transitions"] -= 1
            return
        if op.kind in LEAVES:
            self._renew_after(prober)
            return
        if not self._ask(prober.all_intact):
            return
        try:
            after = prober.position()
        except (Exception, Hang) as problem:
            self._collapse(prober, problem)
            return
        self._arrive(after)
        if op.kind == Kind.FREE and self._pairs and self._reached and prober._freed_at == self._depth:
            self._again(prober.freed)
        elif op.kind == Kind.MAINTAIN and op.mode in prober.contract.moving and not self._pair_too_long():
            self._code = (*self._code, *self._code)
            prober.previous, prober.index = op, self._depth + 1
            self._ask(handler, op)

    def _renew_after(self, prober: Prober) -> None:
        """A target that was destroyed is no longer to be used."""
        if prober.ended:
            self._result.evidence.update(prober.harvest())
            self._renew()

    def _call(self, call: Callable[..., None], *arguments: Any) -> bool:
        """A call that is a transition."""
        self.prober.calls += 1
        self._result.counts["transitions"] += 1
        return self._ask(call, *arguments)

    # ---- where it leads --------------------------------------------------------------------

    def _reach(self, live: tuple[Any, ...]) -> None:
        """Arrive where these blocks live and nothing else of the shadow heap has changed."""
        here, prober = self._here, self.prober
        armed = prober._armed() if here.armed[1] else here.armed
        try:
            state = prober.target.snapshot()
        except (Exception, Hang) as problem:  # a heap so broken that it cannot be walked
            self._collapse(prober, problem)
            return
        self._arrive(Position(state, live, here.cpu, armed, ()))

    def _arrive(self, position: Position) -> None:
        prober = self.prober
        if self._ordered and prober.source.highest_order and not self._ask(LAWS["page-order"].check, prober):
            return
        self._reached = mark = fingerprint(position, prober.shape)
        if mark == self._mark:
            if prober._refused_since and "refusal-pure" not in self.mute:
                prober.met("refusal-pure")  # nothing at all has changed
            return
        if prober._refused_since and not self._pure():
            return
        if mark in self._met or self._seen(mark):
            return
        self._met.add(mark)
        self._result.children.append(Child(self._parent, self._code[0], mark, keep(position, mark)))

    def _pure(self) -> bool:
        """A refused call has changed something: hold the heap against what it was before."""
        prober = self.prober
        prober.last_audit, prober.last_audit_index = self._baseline, self._depth - 1
        return self._ask(prober.audit)


def keep(position: Position, mark: int) -> bytes:
    """A position and its fingerprint as bytes."""
    return pickle.dumps((*position, mark), 5)


def unkeep(kept: bytes) -> tuple[Position, int]:
    """Inverse of ``keep``."""
    *fields, mark = pickle.loads(kept)
    return Position(*fields), mark
