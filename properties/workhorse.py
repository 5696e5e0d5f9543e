"""The Hypothesis engine: one draw for a whole run, then our own minimiser.

Hypothesis's own work is paid for each draw, so a run is a single fixed-length buffer:
eight bytes of ``steering``, then four bytes an operation, read by the one codec.  Zero
means "no operation", so the length of the buffer hinders nothing.  Hypothesis finds,
it does not shrink: a trace shrinks better than bytes do (see ``minimize``).

>>> check("buddy,pages=64", 1000, seed=1).findings
[]
"""

import importlib.util
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from itertools import cycle
from random import Random
from struct import iter_unpack
from typing import TYPE_CHECKING, Any

from heaplaw.checker import Checker
from heaplaw.operations import Kind, Operation
from heaplaw.protocol import Direction
from heaplaw.runs import Violation
from heaplaw.view import View

from .plain import Run
from .state import abstract
from .steering import LENGTH, Head, Steering
from .tallying import Tallying
from .verdict import Tally

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

NAME = "hypothesis"
MISSING = "the hypothesis engine was not run: it needs the package hypothesis (pip install 'heaplaw[test]')"
_STEPS = 500  # operations of a run
_RUNS = 40  # of one configuration, before the next one's turn
_SAMPLE_STATES = 4  # every fourth operation's abstract state is counted
_DENSE = 8  # times as many audits, where the head says so
_WHOLE_STATE = 8  # fields of the abstract state of a request or a free; others have fewer


def unavailable() -> str | None:
    """Why this engine cannot run here, in one line; None when it can."""
    return None if importlib.util.find_spec("hypothesis") is not None else MISSING


def buffers(steps: int = _STEPS) -> "SearchStrategy[bytes]":
    """Hypothesis's strategy for whole runs of ``steps`` operations; see ``Fed`` for what they mean."""
    from hypothesis import strategies as st

    length = LENGTH + 4 * steps
    return st.binary(min_size=length, max_size=length)


class Fed(Run):
    """One run whose every choice is in a buffer."""

    def __init__(self, build: Callable[[], Any], buffer: bytes, mute: Iterable[str]) -> None:
        self.head, self._codes = Head(buffer[:LENGTH]), buffer[LENGTH : len(buffer) & ~3]
        super().__init__(build, Random(0), mute, iter(()))
        if self.head.dense:
            self._start(_DENSE)
        self.figures: dict[str, float] = {}

    def _feed(self) -> None:
        checker, decode, codes = self.checker, self.codec.decode, self._codes
        names, operations, step = checker.shadow.names, self.operations, self.watch.step
        if (size := self._first_size()) is not None:
            self._do(Operation(Kind.ALLOC, 0, size))
        read = Steering(self.head, self.codec, checker).read
        for (number,) in iter_unpack("<I", codes):
            code = read(number)
            if code and (op := decode(code, names, checker.births))[0]:
                operations.append(op)
                step(op)
                if not len(operations) % _SAMPLE_STATES:
                    self.states.append(abstract(checker))
        self._measure()

    def _measure(self) -> None:
        with suppress(Exception):  # a heap too broken to be walked: the audit at the end will say so
            self.figures = figures(self.checker)

    def _first_size(self) -> int | None:
        """What the fresh heap is asked for: the limits, a size of the palette, or nothing."""
        contract, way = self.checker.contract, self.head.first & 7
        limits = {1: contract.min_size, 2: contract.largest, 3: contract.largest + 1}
        return None if way in (0, 7) else limits.get(way, self.codec.size(self.head.first >> 3))

    def _compare_twin(self) -> None:
        if self.head.twin:
            self.rng = _Always()
            super()._compare_twin()


class _Always(Random):
    """Says yes where a plain run tosses a coin."""

    def randrange(self, *bounds: Any, **more: Any) -> int:
        return 0


def figures(checker: Checker) -> dict[str, float]:
    """What Hypothesis climbs: fragmentation, and bytes by which hints lag behind the truth.  O(live + hints)."""
    shadow = checker.shadow
    gaps = [high - low for space in shadow.spaces() for low, high in shadow.gaps(space, 0, _reach(checker, space))]
    seen = {"fragmentation": 1 - max(gaps) / sum(gaps) if gaps else 0.0}
    if "hints" in checker.shows and not checker.ended:
        judged = View(checker).judged(Direction.LOWER, Direction.UPPER)
        seen["hint deficit"] = float(sum(abs(truth - hint.value) for hint, truth in judged))
    return seen


def _reach(checker: Checker, space: int) -> int:
    """Where the last live extent of a space begins: the free space behind it is not fragmented."""
    return max((a for b in checker.shadow.live.values() for s, a, n in b.extents if s == space), default=0)


def in_words(state: Any) -> str:
    """An abstract state as Hypothesis's statistics show it, coarser still: what was done and what stood beside."""
    kind, *_ = state
    word = Kind(kind).name.lower()
    if len(state) < _WHOLE_STATE:
        return word
    _, _, refused, _, _, left, right, _ = state
    beside = {(True, True): "both sides", (True, False): "left", (False, True): "right"}.get((left, right), "nothing")
    return f"{word} refused" if refused and kind == Kind.ALLOC else f"{word} beside {beside}"


class _Stop(Exception):  # noqa: N818 - a signal, not an error
    """A finding, or the end of the budget: Hypothesis is to come back."""


class _Batch:
    """Some runs of one configuration: a test function for Hypothesis, and what it saw."""

    def __init__(self, work: Tallying, variant: str, enough: Callable[[], bool]) -> None:
        self._work, self._build, self._enough = work, work.builders[variant], enough
        self._mute = frozenset(work.mute)
        self.found: Violation | None = None
        self.stopped = False

    def __call__(self, buffer: bytes) -> None:
        """One test case.  Once stopped it stops at once, so that Hypothesis's second look costs nothing."""
        from hypothesis import event, target

        if not self.stopped:
            run = Fed(self._build, buffer, self._mute)
            self.found = run.go()
            self._work.enter(run)
            hung = run.checker.problem == "a hang"
            self.stopped = self.found is not None or hung or self._enough()
            for label, value in run.figures.items():
                target(value, label=label)
            for word in {*map(in_words, run.states), *run.reached}:
                event(word)
        if self.stopped:
            raise _Stop


def _explore(batch: _Batch, runs: int, seed: int) -> None:
    """Let Hypothesis feed a batch: generation and hill climbing, no shrinking, no database, no opinion on speed."""
    from hypothesis import HealthCheck, Phase, Verbosity, given, settings
    from hypothesis import seed as seeded

    def body(buffer: bytes) -> None:
        batch(buffer)

    quiet = settings(
        max_examples=runs, phases=(Phase.generate, Phase.target), database=None, deadline=None, print_blob=False,
        verbosity=Verbosity.quiet, suppress_health_check=list(HealthCheck), report_multiple_bugs=False,
    )  # fmt: skip
    with suppress(_Stop):
        seeded(seed)(quiet(given(buffers())(body)))()


def check(
    name: str,
    operations: int,
    seed: int,
    *,
    only: Iterable[str] = (),
    most: int | None = None,
    deadline: float = float("inf"),
    progress: Callable[[int], None] = lambda done: None,
) -> Tally:
    """Run about ``operations`` checked operations on a target; deterministic but for the deadline.

    ``only`` limits the laws, ``most`` the findings.  ``deadline`` is a ``time.monotonic`` value.  Where
    Hypothesis is not installed nothing is run: the tally counts no operation, and one line on standard error says why.
    """
    work = Tallying(name, NAME, operations, seed, only, most)
    if unavailable():
        _complain_once(MISSING)
        return work.tally

    def enough() -> bool:
        progress(work.tally.operations)
        return not work.wanted(deadline)

    configurations = cycle(work.builders)
    while not enough():
        variant = next(configurations)
        batch = _Batch(work, variant, enough)
        _explore(batch, _RUNS, work.rng.getrandbits(64))
        if batch.found is not None:
            work.convict(variant, batch.found, deadline)
    return work.done()


@cache
def _complain_once(text: str) -> None:
    print(f"heaplaw: {text}", file=sys.stderr)
