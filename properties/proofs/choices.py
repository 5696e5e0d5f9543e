"""States that are two at once: what a branch of the code wrote, undone, and merged as a choice.

The half of ``merged`` that knows nothing of syntax: inputs, what is assumed, duties, the journal of writes, and
how values are mixed.

>>> choices = Choices(16)
>>> x, names = choices.word("x", 0, 9), {"low": 5}
>>> choices.choose((x < 5).term, lambda: choices.write(names, "low", x), lambda: None)
>>> names["low"], choices.holds_now(names["low"] <= 5)
(Word[0..9], True)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import z3

from .paths import STEPS, Unsure
from .words import Truth, Word, bounds_of, term_of

LIGHT_STEPS = 20_000_000  # of the solver, to prune: where it does not know, nothing is pruned
_Places = dict[tuple[int, Any], tuple[Any, Any, Any]]  # (id, key) -> (container, key, value)


class NotSupported(Exception):  # noqa: N818 - nothing is wrong; this code cannot be read here
    """Code that is not known how to run on words."""


class _Unbound:
    """A name without a value."""


UNBOUND = _Unbound()


class Partly(NamedTuple):
    """A value that is there on a condition."""

    value: Any
    condition: Any


class Unmixed:
    """What two branches left that cannot be one value; only who reads it is wrong."""


UNMIXED = Unmixed()


class Cell:
    """One place that is written and merged as attributes are."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class _Scope:
    """Writes of a branch, with what was there before."""

    __slots__ = ("condition", "old")

    def __init__(self, condition: Any) -> None:
        self.condition = condition
        self.old: _Places = {}  # what was there before


class Choices:
    """One state of words.  ``width`` in bits; ``steps``: of the solver for one question."""

    def __init__(self, width: int, steps: int = STEPS) -> None:
        self.width, self.steps = width, steps
        self.deadline = float("inf")  # a ``time.monotonic`` value, above what steps allow
        self.inputs: dict[str, Word] = {}
        self.assumed: list[Any] = []
        self.duties: list[tuple[Any, str]] = []  # (what must hold, why)
        self._scopes: list[_Scope] = [_Scope(True)]
        self._stops: list[Cell] = []  # any of them true: the code that follows is not reached
        self._light, self._light_names = z3.Solver(), set[str]()
        self._light.set("rlimit", LIGHT_STEPS)

    # ---- inputs ----------------------------------------------------------------------------

    def word(self, name: str, low: int, high: int, *, light: bool = False) -> Any:
        """An input: any integer from ``low`` to ``high``.

        ``light``: tests that speak of such inputs alone are put to the solver at once, so that less is run.
        """
        if low == high:
            return low
        term = z3.BitVec(name, self.width)
        word = self.inputs[name] = Word(self, term, low, high)
        if light:
            self._light_names.add(name)
        self.assume(Truth(self, z3.And(term >= low, term <= high)))
        return word

    def assume(self, truth: Any) -> None:
        """Nothing is claimed where this does not hold."""
        term = term_of(truth)
        self.assumed.append(term)
        if _speaks_only_of(self._light_names, term):
            self._light.add(term)

    # ---- what words ask --------------------------------------------------------------------

    def decide(self, term: Any) -> bool:
        """Nothing is decided: both ways are run."""
        raise NotSupported("a value is asked for its truth inside an operation")

    def value_of(self, word: Word) -> int:
        """No value is picked."""
        raise NotSupported(f"an integer is needed where there is {word!r}")

    def holds(self, term: Any) -> bool:
        """A duty: what is run relies on it.  ``duties`` are to be shown with the claim."""
        self.owe(term, "a value may leave the width")
        return True

    def owe(self, term: Any, why: str) -> None:
        """This must hold where the code is now."""
        if isinstance(term, bool):
            if term:
                return
            term = z3.BoolVal(False)
        conditions = [scope.condition for scope in self._scopes if scope.condition is not True]
        self.duties.append((z3.Or(*[negated(one) for one in conditions], term) if conditions else term, why))

    # ---- asking the solver -------------------------------------------------------------------

    def counterexample(self, claim: Any) -> Any:
        """A model of the inputs for which the claim or a duty fails, or None.  Raises Unsure."""
        return self._ask(z3.Not(z3.And(term_of(claim), *[duty for duty, _ in self.duties])))

    def failing(self, claim: Any) -> Any:
        """As ``counterexample``, but of this claim alone; the duties are to be shown elsewhere."""
        return self._ask(z3.Not(term_of(claim)))

    def _ask(self, *terms: Any) -> Any:
        """A model of what is assumed and these, or None."""
        if time.monotonic() > self.deadline:
            raise Unsure("time was up")
        solver = z3.SolverFor("QF_BV")
        solver.set("rlimit", self.steps)
        solver.set("timeout", int(min(max(self.deadline - time.monotonic(), 0.001) * 1000, 2**31)))
        solver.add(*self.assumed, *terms)
        answer = solver.check()
        if answer == z3.unknown:
            raise Unsure(f"the solver gave up: {solver.reason_unknown()}")
        return solver.model() if answer == z3.sat else None

    def possible(self) -> bool:
        """Is there any input of which something is claimed?  Raises Unsure."""
        return self._ask() is not None

    def holds_now(self, claim: Any) -> bool:
        """Is this so, and every duty met, whatever the inputs are?  Raises Unsure."""
        return self.counterexample(claim) is None

    def unmet(self, model: Any) -> str | None:
        """Which duty fails in a model."""
        for duty, why in self.duties:
            if z3.is_false(model.eval(duty, model_completion=True)):
                return why
        return None

    def value(self, model: Any, what: Any) -> int:
        """A word's, a truth's or an integer's value in a model."""
        if isinstance(what, Truth):
            return int(z3.is_true(model.eval(what.term, model_completion=True)))
        return int(model.eval(what.term, model_completion=True).as_signed_long()) if isinstance(what, Word) else what

    def _settled(self, term: Any) -> bool | None:
        """What this is wherever it is asked, of light inputs; None where it is open, or not light."""
        if not self._light_names or not _speaks_only_of(self._light_names, term):
            return None
        if self._light.check(term) == z3.unsat:
            return False
        return True if self._light.check(z3.Not(term)) == z3.unsat else None

    def truth(self, value: Any) -> Any:
        """As ``if`` takes a value: a bool, or a term."""
        if isinstance(value, Word):
            value = value != 0
        if not isinstance(value, Truth):
            return bool(self.seen(value))
        term = value.term
        if z3.is_true(term) or z3.is_false(term):
            return z3.is_true(term)
        settled = self._settled(term)
        return term if settled is None else settled

    def seen(self, value: Any) -> Any:
        """A value that is read: it must be there."""
        if isinstance(value, Partly):
            self.owe(value.condition, "a name may be read before it is bound")
            return value.value
        if value is UNBOUND:
            raise NotSupported("a name is read before it is bound")
        if value is UNMIXED:
            raise NotSupported("a value is read that is one of two kinds")
        return value

    # ---- scopes ------------------------------------------------------------------------------

    def write(self, container: Any, key: Any, value: Any) -> None:
        """Into an attribute, a list or a dictionary of names, so that it can be undone."""
        old = self._scopes[-1].old
        place = (id(container), key)
        if place not in old:
            old[place] = (container, key, _get(container, key))
        _set(container, key, value)

    def _inside(self, condition: Any, act: Callable[[], Any]) -> tuple[Any, _Places]:
        """Run under a condition; (what it returned, what it left in each place), with its writes undone."""
        scope = _Scope(condition)
        self._scopes.append(scope)
        try:
            answer = act()
        finally:
            self._scopes.pop()
        left = {place: (container, key, _get(container, key)) for place, (container, key, _) in scope.old.items()}
        for container, key, value in scope.old.values():
            _set(container, key, value)
        return answer, left

    def go_on(self, act: Callable[[], None]) -> None:
        """Run what follows an exit, where that was not taken."""

        def reached() -> None:
            for cell in self._stops:
                if cell.value is not False:  # as is known here
                    self.write(cell, "value", False)
            act()

        live = self.live()
        if live is True:
            act()
        elif live is not False:
            self.choose(live, reached, nothing)

    def choose(self, condition: Any, yes: Callable[[], Any], no: Callable[[], Any]) -> Any:
        """What ``yes`` returns where the condition holds, else what ``no`` does; and of their writes likewise."""
        if isinstance(condition, bool):
            return yes() if condition else no()
        one, ones = self._inside(condition, yes)
        two, twos = self._inside(negated(condition), no)
        for place in {**ones, **twos}:
            container, key, _ = ones.get(place) or twos[place]
            old = _get(container, key)
            first = ones[place][2] if place in ones else old
            second = twos[place][2] if place in twos else old
            self.write(container, key, self.mix(condition, first, second))
        return self.mix(condition, one, two)

    def mix(self, condition: Any, one: Any, two: Any) -> Any:
        """One value that is the first where the condition holds."""
        if one is two:
            return one
        if isinstance(one, Partly) or isinstance(two, Partly) or one is UNBOUND or two is UNBOUND:
            return self._mix_partly(condition, one, two)
        if isinstance(one, bool | Truth) and isinstance(two, bool | Truth):
            return self._mix_truths(condition, one, two)
        if isinstance(one, int | Word | Truth) and isinstance(two, int | Word | Truth):
            return self._mix_numbers(condition, self.number(one), self.number(two))
        if isinstance(one, tuple) and isinstance(two, tuple) and len(one) == len(two):
            return tuple(self.mix(condition, first, second) for first, second in zip(one, two, strict=True))
        return UNMIXED

    def _mix_partly(self, condition: Any, one: Any, two: Any) -> Any:
        (first, there), (second, where) = _parted(one), _parted(two)
        known = either(both(condition, there), both(negated(condition), where))
        if first is UNBOUND or second is UNBOUND:
            return Partly(second if first is UNBOUND else first, known)
        mixed = self.mix(condition, first, second)
        return mixed if known is True else Partly(mixed, known)

    def _mix_truths(self, condition: Any, one: Any, two: Any) -> Any:
        first, second = plain(one), plain(two)
        mixed = either(both(condition, first), both(negated(condition), second))
        return mixed if isinstance(mixed, bool) else Truth(self, mixed)

    def _mix_numbers(self, condition: Any, one: Any, two: Any) -> Any:
        (low, high), (least, most) = bounds_of(one), bounds_of(two)
        if low == high == least == most:
            return one
        first, second = self._term(one), self._term(two)
        if first.eq(second):
            return Word(self, first, min(low, least), max(high, most))
        return Word(self, z3.If(condition, first, second), min(low, least), max(high, most))

    def _term(self, value: Any) -> Any:
        return value.term if isinstance(value, Word) else z3.BitVecVal(value, self.width)

    def number(self, value: Any) -> Any:
        """A truth counts as 0 or 1."""
        if isinstance(value, Truth):
            return Word(self, z3.If(value.term, self._term(1), self._term(0)), 0, 1)
        return int(value) if isinstance(value, bool) else value

    # ---- what code goes on to --------------------------------------------------------------------

    def live(self) -> Any:
        """Is what follows reached?  A bool, or a term."""
        stopped: Any = False
        for cell in self._stops:
            stopped = either(stopped, plain(cell.value))
        return negated(stopped)

    def stopping(self, cells: Sequence[Cell], act: Callable[[], None]) -> None:
        """Run with these cells, and no others, as what ends the code."""
        before, self._stops = self._stops, list(cells)
        try:
            act()
        finally:
            self._stops = before

    @property
    def stops(self) -> list[Cell]:
        """What ends the code that runs now."""
        return self._stops

    def may_be(self, term: Any) -> bool:
        """May this be so where the code is now?  Yes, where the solver does not know."""
        if isinstance(term, bool):
            return term
        solver = z3.SolverFor("QF_BV")
        solver.set("rlimit", LIGHT_STEPS)
        conditions = [scope.condition for scope in self._scopes if scope.condition is not True]
        return bool(solver.check(*self.assumed, *conditions, term) != z3.unsat)


def nothing() -> None:
    """The branch that is not there."""


def _get(container: Any, key: Any) -> Any:
    if isinstance(container, dict):
        return container.get(key, UNBOUND)
    return container[key] if isinstance(container, list) else getattr(container, key)


def _set(container: Any, key: Any, value: Any) -> None:
    if isinstance(container, dict | list):
        container[key] = value
    else:
        setattr(container, key, value)


def plain(truth: Any) -> Any:
    """A Truth as its term; a bool or a term as it is."""
    return truth.term if isinstance(truth, Truth) else truth


def _parted(value: Any) -> tuple[Any, Any]:
    """(value, condition on which it is there)."""
    if isinstance(value, Partly):
        return value
    return value, value is not UNBOUND


def negated(term: Any) -> Any:
    """The opposite of a bool or a term."""
    if isinstance(term, bool):
        return not term
    return term.arg(0) if z3.is_not(term) else z3.Not(term)


def both(one: Any, two: Any) -> Any:
    """Of bools and terms; a bool where that is plain to see."""
    if one is False or two is False:
        return False
    if one is True or two is True:
        return two if one is True else one
    return False if negated(one).eq(two) else one if one.eq(two) else z3.And(one, two)


def either(one: Any, two: Any) -> Any:
    """One of them, or both; of bools and terms as above."""
    if one is True or two is True:
        return True
    if one is False or two is False:
        return two if one is False else one
    return True if negated(one).eq(two) else one if one.eq(two) else z3.Or(one, two)


def _speaks_only_of(names: set[str], term: Any) -> bool:
    """Are all inputs in a term among these?"""
    seen, todo = set(), [term]
    while todo:
        one = todo.pop()
        if one.get_id() in seen:
            continue
        seen.add(one.get_id())
        if z3.is_const(one) and one.decl().kind() == z3.Z3_OP_UNINTERPRETED and one.decl().name() not in names:
            return False
        todo.extend(one.children())
    return True
