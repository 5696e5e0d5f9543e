"""Every way through a piece of code, one after the other, with what is true on each.

Code that runs on words asks of them what Python must know: which branch, which index.  Where both answers
are possible the code is run again for the other one, from its start; what was decided is remembered, and
the solver keeps what follows from it.  So no code is translated: it is the function of the allocator that
runs, with its own control flow, and the paths together are all that it can do::

    if size < small:      path 1: size < small
        ...
    elif align > word:    path 2: size >= small, align > word
        ...               path 3: size >= small, align <= word

Where the solver does not know whether a branch can be taken, it is.

>>> def middle(x): return min(max(x, 10), 20)
>>> [(path.holds(path.word("x", 0, 99) == x) if isinstance(x, int) else "x") for path in Paths(16)
...  for x in [middle(path.word("x", 0, 99))]]
[False, False, 'x']
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import z3

from .words import Word, term_of

MOST_VALUES = 5_000  # that one index may have
STEPS = 40_000_000  # of the solver, for one question: what it may do, whatever else the machine does
_EASY = 50_000  # steps within which a question is answered best by the solver that has answered those before


class Unsure(Exception):  # noqa: N818 - nothing is wrong; it is not known
    """No answer within what may be spent."""


class Vacuous(Exception):  # noqa: N818 - ends a path that nothing was claimed of
    """What was assumed does not hold here."""


class Path:
    """One way through the code, while it runs, and after it."""

    def __init__(self, paths: Paths) -> None:
        self._paths, self.width = paths, paths.width
        self._at = 0  # how many decisions were repeated
        self.inputs: dict[str, Word] = {}
        self.conditions: list[Any] = []  # of the inputs; what was decided stands in the solver

    def word(self, name: str, low: int, high: int) -> Word:
        """An input: any integer from ``low`` to ``high``; the same for the same name."""
        known = self.inputs.get(name)
        if known is None:
            term = _input(name, low, high, self.width)
            known = self.inputs[name] = Word(self, term, low, high)
            self._paths.bound(name, z3.And(term >= low, term <= high))
        return known

    def assume(self, truth: Any) -> None:
        """Nothing is claimed where this does not hold.  Raises Vacuous."""
        if not (truth if isinstance(truth, bool) else self.decide(term_of(truth))):
            raise Vacuous

    # ---- what code on words asks ---------------------------------------------------------

    def decide(self, term: Any) -> bool:
        """One of the answers that are possible here; the other ones come on later paths."""
        at = self._at
        self._at += 1
        return self._paths.decision(at, term)

    def value_of(self, word: Word) -> int:
        """A value that the word has on this path, and on it alone."""
        for _ in range(MOST_VALUES):
            value = self._paths.some_value(self._at, word.term)
            if self.decide(word.term == value):
                return value
        raise Unsure(f"an index has more than {MOST_VALUES} values")

    def holds(self, term: Any) -> bool:
        """Is this so on this path, whatever the inputs are?  Raises Unsure."""
        return self._paths.model_of(z3.Not(term)) is None

    def counterexample(self, truth: Any, but: Sequence[Mapping[str, int]] = ()) -> dict[str, int] | None:
        """Inputs of this path for which this does not hold, none of ``but``; None if there are none.  Raises Unsure."""
        others = [
            z3.Or([word.term != values[name] for name, word in self.inputs.items() if name in values]) for values in but
        ]
        model = self._paths.model_of(z3.And(z3.Not(term_of(truth)), *others))
        return None if model is None else self.values(model)

    def example(self) -> dict[str, int] | None:
        """Inputs that lead here; None if there are none."""
        model = self._paths.model_of(z3.BoolVal(True))
        return None if model is None else self.values(model)

    def values(self, model: Any) -> dict[str, int]:
        """What the inputs are in a model."""
        return {
            name: model.eval(word.term, model_completion=True).as_signed_long() for name, word in self.inputs.items()
        }


def _input(name: str, low: int, high: int, width: int) -> Any:
    """A term of its own that has no more bits than its values: what is surely 0 need not be thought about."""
    bits = high.bit_length() if low >= 0 else width
    if bits >= width:
        return z3.BitVec(name, width)
    return z3.ZeroExt(width - bits, z3.BitVec(name, bits)) if bits else z3.BitVecVal(0, width)


class Paths:
    """The paths of one computation, as an iterator; each is to be run while it is the current one.

    ``width`` in bits.  ``steps``: what the solver may do for one question, in its own unit, so that a busy
    machine changes no verdict; ``deadline``: a ``time.monotonic`` value, the ceiling above it.
    """

    def __init__(self, width: int, steps: int = STEPS, deadline: float = float("inf")) -> None:
        self.width, self.steps, self.deadline = width, steps, deadline
        self.count = 0  # paths so far
        self.solving = 0.0  # seconds of CPU time in the solver
        self._solver = z3.Solver()
        self._taken: list[tuple[Any, bool, bool]] = []  # (term, answer, the other one is possible too)
        self._bounds: dict[str, Any] = {}
        self._model: Any = None  # of the current path, where one is known

    def __iter__(self) -> Iterator[Path]:
        more = True
        while more:
            self.count += 1
            yield Path(self)
            more = self._turn_back()

    def _turn_back(self) -> bool:
        """To the last decision that has another answer; False when there is none."""
        while self._taken:
            term, answer, both = self._taken.pop()
            self._solver.pop()
            self._model = None
            if both:
                self._push(term, not answer, False)
                return True
        return False

    def _push(self, term: Any, answer: bool, both: bool) -> None:
        self._taken.append((term, answer, both))
        self._solver.push()
        self._solver.add(term if answer else z3.Not(term))

    def bound(self, name: str, condition: Any) -> None:
        """What is known of an input.  Raises Unsure when it is not what it was on another path."""
        if name not in self._bounds:
            self._bounds[name] = condition
            self._model = None  # which knows nothing of it
        elif not self._bounds[name].eq(condition):
            raise Unsure(f"the bounds of {name} depend on the path")

    def decision(self, at: int, term: Any) -> bool:
        """The answer to the ``at``-th question of this path: the one remembered, or the first that is possible."""
        if at < len(self._taken):
            return self._taken[at][1]
        known = None if self._model is None else z3.is_true(self._model.eval(term, model_completion=True))
        before = self._model
        yes = known is True or self._possible(term)
        model = self._model if yes else before
        no = not yes or known is False or self._possible(z3.Not(term))
        self._model = model
        self._push(term, yes, yes and no)
        return yes

    def some_value(self, at: int, term: Any) -> int:
        """A value that the term can have.  Raises Unsure when there is none that is known."""
        if at < len(self._taken):
            told = self._taken[at][0]  # term == value, or what it was simplified to
            return int(told.children()[1].as_signed_long())
        model = self.model_of(z3.BoolVal(True))
        if model is None:
            raise Vacuous  # a branch that the solver did not know to be impossible
        return int(model.eval(term, model_completion=True).as_signed_long())

    def model_of(self, term: Any) -> Any:
        """A model of the current path and this; None if there is none.  Raises Unsure."""
        answer, solver = self._ask_anew(term)
        if answer == z3.unknown:
            raise Unsure(f"the solver gave up: {solver.reason_unknown()}")
        return solver.model() if answer == z3.sat else None

    def _possible(self, term: Any) -> bool:
        """May this be so on the current path?  A model that says so is kept."""
        solver = self._solver
        answer = self._check(solver, min(_EASY, self.steps), *self._bounds.values(), term)
        if answer == z3.unknown:
            answer, solver = self._ask_anew(term)
        self._model = solver.model() if answer == z3.sat else None
        return bool(answer != z3.unsat)

    def _ask_anew(self, term: Any) -> tuple[Any, Any]:
        """(answer, solver) to the current path and this: a new solver may simplify as one that goes on must not."""
        solver = z3.SolverFor("QF_BV")
        solver.add(*self._bounds.values(), *(told if so else z3.Not(told) for told, so, _ in self._taken), term)
        return self._check(solver, self.steps), solver

    def _check(self, solver: Any, steps: int, *terms: Any) -> Any:
        if time.monotonic() > self.deadline:
            raise Unsure("time was up")
        started = time.process_time()
        solver.set("rlimit", steps)  # counts anew for each question
        answer = solver.check(*terms)
        self.solving += time.process_time() - started
        return answer


__all__ = ["MOST_VALUES", "STEPS", "Path", "Paths", "Unsure", "Vacuous"]
