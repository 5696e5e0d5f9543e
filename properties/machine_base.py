"""What every state machine has: a fresh target, its checker, the laws as invariants, the trace of a failure.

>>> AllocatorMachine.any_live.__doc__
'Is there an object?'
"""

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

try:
    from hypothesis import currently_in_test_context, event, target
    from hypothesis.control import current_build_context
    from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple
except ImportError as missing:
    raise ImportError("state machines need the package hypothesis (pip install 'heaplaw[test]')") from missing

from heaplaw.checker import NO_AUDIT, Checker, Hang, Unusable
from heaplaw.codec import Codec
from heaplaw.lawbook import LAWS, Broken
from heaplaw.operations import Kind, Operation
from heaplaw.runs import Violation, violation
from heaplaw.trace import Trace, render
from heaplaw.twins import compare_twins

from .minimize import smallest
from .reached import Watch
from .saving import save
from .state import abstract
from .strip import strips
from .watchdog import watchdog
from .workhorse import figures, in_words

if TYPE_CHECKING:
    from .machine_rules import Words

TRACES = Path(".heaplaw")  # where failing examples are saved
_STEP_SECONDS = 1.0  # CPU time after which a step counts as hanging
_PICTURE_SECONDS = 0.5

objects = Bundle("objects")
"""Names of the objects that were served and are live."""


class NeverReturns(BaseException):
    """A call hangs.  No Exception, so that Hypothesis stops at once: each further try would cost its whole time."""


class AllocatorMachine(RuleBasedStateMachine):
    """A fresh target, and the laws.  The vocabulary below adds the rules."""

    build: ClassVar[Callable[[], Any]]
    name: ClassVar[str] = ""
    mute: ClassVar[frozenset[str]] = frozenset()  # laws that are not asked
    words: ClassVar["Words"]
    density: ClassVar[int] = 16  # the heap is walked as often as this many parts of it are one step's worth
    twins: ClassVar[bool] = True  # make every run a second time; no, where rules of yours call the target themselves
    traces: ClassVar[Path | None] = TRACES  # None: failing examples are not saved
    reached: ClassVar[Counter[str]] = Counter()  # named abstract states, of all examples so far; each machine its own

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        cls.reached = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.target = type(self).build()
        self.checker = Checker(self.target, mute=self.mute, audit_every=NO_AUDIT, audit_from=NO_AUDIT)
        self.watch = Watch(self.checker, pace=0)
        self.codec = Codec(self.checker.contract)
        self.operations: list[Operation] = []
        self.violation: Violation | None = None
        self.broken_down = False
        self._audit_at = 0

    # ---- what rules are written with -----------------------------------------------------

    def do(self, kind: Kind, name: int = 0, size: int = 0, align: int = 1, mode: int | str = 0) -> None:
        """One operation, judged by the laws that look at what it touched.  Raises Broken."""
        operation = Operation(kind, name, size, align, mode)
        self.operations.append(operation)
        self._judge(lambda: self.watch.step(operation))
        if currently_in_test_context():
            event(in_words(abstract(self.checker)))
        self._tell()
        self._forget_the_dead()

    def _tell(self) -> None:
        """Enter the named states that were reached just now, and show them in Hypothesis's statistics."""
        seen = self.watch.counts
        if seen:
            type(self).reached.update(seen)
            for word in seen if currently_in_test_context() else ():
                event(word)
            seen.clear()

    def requested(self, size: int, align: int = 1, mode: int = 0) -> int | None:
        """Ask for memory; the new object's name, or None when it was refused."""
        name = self.checker.births
        self.do(Kind.ALLOC, name, size, align, mode)
        return name if name in self.checker.shadow.live else None

    @staticmethod
    def served(name: int | None) -> Any:
        """What a rule returns that adds an object to the bundle, where there is one."""
        return multiple() if name is None else name

    def handle(self, name: int) -> Any:
        """The target's own handle of a live object."""
        return self.checker.shadow.live[name].handle

    def any_live(self) -> bool:
        """Is there an object?"""
        return not self.broken_down and bool(self.checker.shadow.live)

    def _judge(self, act: Callable[[], object]) -> None:
        """Do what may break a law, under the watchdog; keep the trace of a violation."""
        try:
            with watchdog(_STEP_SECONDS):
                act()
        except Broken as broken:
            hangs = self.checker.problem == "a hang"
            notes = self.failed(broken, last=hangs or not currently_in_test_context() or _is_final())
            if hangs:
                raise NeverReturns(f"{broken}\n{notes}") from None
            if notes:
                broken.add_note(notes)
            raise
        except Unusable:  # a muted law's breakdown: nothing more can be asked
            self.broken_down = self.checker.ended = True

    def _forget_the_dead(self) -> None:
        """Take objects that were drained or evicted out of the bundle, so that no rule draws them."""
        live, bundle = self.checker.shadow.live, self.bundle(objects.name)
        if len(bundle) > len(live):
            bundle[:] = [entry for entry in bundle if self.names_to_values[entry.name] in live]

    # ---- the laws ------------------------------------------------------------------------

    @invariant()
    def every_law_holds(self) -> None:
        """An audit walks the whole heap and asks every law that applies; after every step while the heap is small."""
        if self.checker.index >= self._audit_at and self._standing():
            self._judge(self.checker.finish)
            self._look_at_hints()
            if self._standing():
                self._audit_at = self.checker.index + max(1, self.checker.view.walked() // self.density)

    def _look_at_hints(self) -> None:
        """After an audit: named states that hints show."""
        self.watch.audited()
        self._tell()

    def teardown(self) -> None:
        """When all is freed everything is back, and a second run goes as the first.

        Not asked after a failure, which it would hide.
        """
        if sys.exc_info()[0] is not None or not self._standing():
            return
        if currently_in_test_context():
            for label, value in figures(self.checker).items():
                target(value, label=label)
        self._judge(self.checker.finish)
        self._look_at_hints()
        self.do(Kind.DRAIN)
        self._judge(self.checker.finish)
        self.do(Kind.DESTROY)
        if self.twins and not self.broken_down:
            self._judge(lambda: compare_twins(self.checker, type(self).build, self.operations))

    def _standing(self) -> bool:
        return not (self.violation or self.broken_down or self.checker.ended)

    def failed(self, broken: Broken, last: bool) -> str:
        """Keep the failing example as a trace file; the last one minimised, and with the words to see it again."""
        self.violation = found = violation(self.checker, broken, self.operations)
        if last:
            self.violation = found = smallest(type(self).build, found, tuple(self.mute))
        trace = Trace(found.trace.operations, {"target": self.name, "law": found.law})
        path = self._save(trace)
        lines = [f"law {found.law}: {LAWS[found.law].sentence}"]
        if last:
            lines += picture(type(self).build, trace.operations)
            lines += [f"again: heaplaw replay {path}"] if path else str(trace).splitlines()
        return "\n".join(lines) if last else ""

    def _save(self, trace: Trace) -> Path | None:
        return None if self.traces is None else save(trace, self.traces, f"{self.name}-{trace.header['law']}")


def _is_final() -> bool:
    """Is this the shrunk example, run once more to be shown?"""
    return bool(current_build_context().is_final)


def picture(build: Callable[[], Any], operations: Sequence[Operation]) -> list[str]:
    """The heap strips of a trace, also of one that hangs at its end."""
    with suppress(Hang), watchdog(_PICTURE_SECONDS):
        return strips(build, operations)
    return [f"{index + 1:>3}  {render(op)}" for index, op in enumerate(operations)]
