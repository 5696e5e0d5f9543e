"""The process in which libFuzzer works on a native library: its own counters, not ours, say what is new.

Started with libFuzzer's functions loaded before all else (see ``native_fuzzing``), so that the counters of a library
built with ``-fsanitize=fuzzer-no-link`` are libFuzzer's.  An input is a whole array of operations, done and looked at
by one call of C where the target can be watched there, and by one call each otherwise, for some inputs in any case,
and once a law is muted.  What takes this process along is for whoever started it to look at.

>>> Counted("buddy,pages=64").targets
('buddy,pages=64',)
"""

import gc
from collections.abc import Sequence
from random import Random
from typing import Any

from heaplaw.checker import Checker
from heaplaw.impls.native.target import Native
from heaplaw.impls.native.watching import watchable
from heaplaw.operations import Kind
from heaplaw.properties.steering import LENGTH

from .foretold import Foretold, OneCall, foretell, in_one_call
from .harness import Harness, LawBroken, Plan, start, told
from .inputs import PREFIX, START, refusal, unpack
from .mutator import LONG, MOST, Mutator, apart, random_codes, together

_STEERED = 0.25  # of the new inputs
_FURTHER = 0.4  # of the children
_TIDY = 64  # inputs between two collections of garbage: heaps end in them, and that is code of the library


class Literal(Mutator):
    """Goes on from where an input has led, more than others; and most new inputs ask for what they say.

    A head that narrows the sizes keeps all of an input's children from the rest of them.
    """

    def __call__(self, data: bytes, most: int, seed: int) -> bytes:
        rng = Random(seed)
        if refusal(data) or rng.random() >= _FURTHER:
            return super().__call__(data, most, rng.getrandbits(64))
        which, head, codes = apart(data)
        return together(which, head, [*codes, *random_codes(rng, rng.randrange(1, LONG))], most)

    def fresh(self, rng: Random, most: int = MOST) -> bytes:
        data = super().fresh(rng, most)
        return data if rng.random() < _STEERED else data[:PREFIX] + bytes(LENGTH) + data[START:]


class Counted(Harness):
    """``TestOneInput`` for a native target."""

    mutator = Literal

    def prepare(self, plan: Plan | None = None) -> None:
        super().prepare(plan)
        target = self.builders[0]()
        checker = Checker(target)
        self._contract, self._can = checker.contract, frozenset(kind for kind in Kind if checker.can(kind))
        self._every_kind = self.plan.coverage != "code"
        plain = isinstance(target, Native) and watchable(target) is None
        self._batches = plain and not self._every_kind and not self.mute

    def __call__(self, data: bytes) -> int:
        """Run one input: 0, or -1 for what is none.  Raises LawBroken."""
        if not self._ready:
            self.prepare()
        self.report.executed += 1
        if not self.report.executed % _TIDY:
            gc.collect()
        body = unpack(data)
        if body is None:
            self._look()
            return -1
        operations = foretell(body, self._contract, self._can.__contains__, every_kind=self._every_kind)
        if self._last is not None:
            self._last.keep(data)
            self._last.count(self.work.tally.operations + len(operations), self.report.executed)
        build = self.builders[0]
        run: Any
        if self._batches and in_one_call(body):
            run = OneCall(build, operations)
            found = run.go()
            run.enter(self.work.tally)
        else:
            run = Foretold(build, body, self.mute, operations)
            found = run.go()
            if self.counters is not None:
                self.counters.mark(self.seen.of_run(run.states, run.reached, run.features))
            self.work.enter(run)
        if found is not None:
            self._write_report("a law", found.law)
            raise LawBroken(told(self.names[0], found))
        self._look()
        return 0

    def fuzz(self, arguments: Sequence[str] | None = None) -> None:
        gc.disable()  # it comes when it likes, and no run would be like another
        super().fuzz(arguments)

    def _instrumented(self) -> tuple[str, ...]:
        """Nothing of Python: the library has brought its counters along."""
        return ()


if __name__ == "__main__":
    from heaplaw.fuzz import native_harness as known  # the module by its own name

    start("native_harness", known.Counted)
