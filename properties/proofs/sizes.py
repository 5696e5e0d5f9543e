"""All sizes of a machine word at once, in classes that a piece of code does not tell apart.

``Paths`` runs code again and again until every way through it was taken.  Where the same code is asked
about every size in thousands of states, it is cheaper to cut the sizes into intervals and to run the code
once for each.  The size is a word with the interval's bounds; what Python asks is answered where it is the
same for all of them, by the bounds or else by the solver.  Where it is not, the interval is cut::

    0 |1                                        2**64-1 |
      |1 .. 24 |25                              2**64-1 |     size <= 24, asked by the code
      |1 .. 24 |25 .. 32 |33                    2**64-1 |     ... the intervals cover all sizes, always

A cut is remembered, as a first guess for the next state: too many of them cost time and nothing else, since
every interval is run, and every answer holds for all of its sizes, in every state anew.

>>> sizes = Sizes(64)
>>> [(low, high, told) for low, high, told in sizes.each(0, sizes.most, lambda size: bool(size >= 24))]
[(0, 23, False), (24, 18446744073709551615, True)]
"""

from __future__ import annotations

import time
from bisect import bisect_right, insort
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from functools import partial
from typing import Any, NamedTuple, TypeVar

import z3

from heaplaw.contract import Contract

from .paths import STEPS, Unsure
from .proving import SPARE
from .words import Truth, Word

MOST_CUTS = 4_000  # of all sizes
T = TypeVar("T")


class Split(BaseException):
    """The code tells sizes of an interval apart: those from ``at`` on from those below.

    No Exception, so that no target takes it for one of its own.
    """

    def __init__(self, at: int) -> None:
        super().__init__(at)
        self.at = at


class Late(Word):
    """A word whose term is made when somebody asks for it: mostly the bounds will do."""

    __slots__ = ("_make",)

    def __init__(self, run: Any, make: Any, low: int, high: int) -> None:
        """``make``: a term, or a function that makes it."""
        self.run, self._make, self.low, self.high = run, make, low, high

    @property
    def term(self) -> Any:
        if not isinstance(self._make, z3.ExprRef):
            self._make = self._make()
        return self._make

    def _made(self, act: Callable[[Callable[[Any], Any]], Any], low: int, high: int) -> Any:
        if low == high:
            return low
        ceiling = 1 << self.run.width - 1
        if low < -ceiling or high >= ceiling:
            return super()._made(act, low, high)
        return Late(self.run, lambda: act(_itself), low, high)

    def __and__(self, other: Any) -> Any:
        if type(other) is int and self.low >= 0 and not ~other & (1 << self.high.bit_length()) - 1:
            return self  # a mask that takes nothing away
        return super().__and__(other)

    __rand__ = __and__

    def bit_length(self) -> Any:
        """Asked for at once where the bounds do not tell: it seldom is the same for all of a class."""
        while self.low >= 0 and self.low.bit_length() != self.high.bit_length():
            bool(self >= 1 << self.low.bit_length())  # narrows the bounds
        return super().bit_length()

    # Comparisons with what is known, decided before anything else is made.

    def __lt__(self, other: Any) -> Any:
        if type(other) is int and (self.high < other or self.low >= other):
            return self.high < other
        return super().__lt__(other)

    def __ge__(self, other: Any) -> Any:
        if type(other) is int and (self.high < other or self.low >= other):
            return self.low >= other
        return super().__ge__(other)

    def __gt__(self, other: Any) -> Any:
        if type(other) is int and (self.low > other or self.high <= other):
            return self.low > other
        return super().__gt__(other)

    def __le__(self, other: Any) -> Any:
        if type(other) is int and (self.low > other or self.high <= other):
            return self.high <= other
        return super().__le__(other)


def _itself(term: Any) -> Any:
    return term


class _Input(NamedTuple):
    term: Any
    bounds: Any
    low: int
    high: int


def _some(inputs: list[_Input]) -> list[list[tuple[Any, int]]]:
    """Values to try: all at their least, at their greatest, and between, by powers of two."""
    tried = [[(one.term, one.low) for one in inputs], [(one.term, one.high) for one in inputs]]
    if len(inputs) == 1:
        (one,) = inputs
        tried += [[(one.term, 1 << power)] for power in range(one.low.bit_length(), one.high.bit_length())]
    return tried


def _at(term: Any, values: list[tuple[Any, int]]) -> Any:
    """A term without inputs: what it is for these values of them."""
    return z3.simplify(z3.substitute(term, *((one, z3.BitVecVal(value, one.size())) for one, value in values)))


def _true(term: Any) -> bool:
    return bool(z3.is_true(term))


def _signed(term: Any) -> int:
    return int(term.as_signed_long())


class Sizes:
    """The sizes of a word of so many bits, and what is known of them; an ``Execution`` for ``Word``.

    ``steps``: what the solver may do for one question, in its own unit; ``deadline``: a ``time.process_time``
    value, the ceiling above it: a busy machine takes nothing from it.  Raises Unsure where the solver does not know.
    """

    def __init__(self, bits: int, steps: int = STEPS, deadline: float = float("inf")) -> None:
        self.width, self.most = bits + SPARE, (1 << bits) - 1
        self.steps, self.deadline = steps, deadline
        self.cuts: list[int] = []  # where intervals begin, ascending
        self.low = self.high = 0  # of the interval that is looked at
        self.runs = 0  # intervals looked at
        self.solving = 0.0  # seconds in the solver
        self._bounds: dict[int, _Input] = {}  # by the id of their term
        self._values: dict[int, int] = {}  # of words that have one, by the id of their term
        self._told: dict[int, tuple[Any, bool | None]] = {}  # by the id of a term, which is kept so that it stays its

    def word(self, name: str, low: int, high: int) -> Any:
        """An input of these bounds.  Its term is called after them, so that what is told of it holds for good."""
        if low == high:
            return low
        term = z3.BitVec(f"{name} {low}..{high}", self.width)
        if term.get_id() not in self._bounds:
            self._bounds[term.get_id()] = _Input(term, z3.And(term >= low, term <= high), low, high)
        return Late(self, term, low, high)

    def each(self, low: int, high: int, run: Callable[[Any], T]) -> Iterator[tuple[int, int, T]]:
        """(first, last, what ``run`` said) of intervals from ``low`` to ``high`` that it does not tell apart.

        They follow each other without a gap.  ``run`` is called with a word (or the only size) and called
        again where it was not to be answered; it must begin at the same state every time.
        """
        while low <= high:
            after = bisect_right(self.cuts, low)
            last = min(high, self.cuts[after] - 1) if after < len(self.cuts) else high
            while True:
                self.low, self.high = low, last
                try:
                    said = run(self.word("size", low, last))
                    break
                except Split as split:
                    self._cut(split.at)
                    last = split.at - 1
            self.runs += 1
            yield low, last, said
            low = last + 1

    def _cut(self, at: int) -> None:
        if not self.low < at <= self.high:
            raise Unsure(f"no cut of {self.low}..{self.high} at {at}")
        if len(self.cuts) >= MOST_CUTS:
            raise Unsure(f"sizes fall into more than {MOST_CUTS} classes")
        insort(self.cuts, at)

    # ---- what code on words asks ---------------------------------------------------------

    def decide(self, term: Any) -> bool:
        """The answer for all sizes that are looked at.  Raises Split where there is none."""
        told = self._fact(term)
        if told is None:
            raise Split(self._boundary(term))
        return told

    def value_of(self, word: Word) -> int:
        """The only value of a word.  Raises Split where it has several."""
        value = self._values.get(word.term.get_id())
        if value is None:
            term = word.term
            value = _signed(_at(term, [(one.term, one.low) for one in self._inputs(term)]))
            self.decide(term == value)
            self._values[term.get_id()] = value  # the fact keeps the term
        return value

    def holds(self, term: Any) -> bool:
        """Is this certain?"""
        return self._fact(term) is True

    # ---- facts -----------------------------------------------------------------------------

    def _fact(self, term: Any) -> bool | None:
        """Is it so for all values of its inputs?  None: for some.

        A few values are tried first: that two of them differ needs no solver.
        """
        known = self._told.get(term.get_id())
        if known is None:
            inputs = self._inputs(term)
            tried = {_true(_at(term, values)) for values in _some(inputs)}
            told = tried.pop() if len(tried) == 1 else None
            if told is not None and self._model(inputs, z3.Not(term) if told else term) is not None:
                told = None
            known = self._told[term.get_id()] = term, told
        return known[1]

    def _boundary(self, term: Any) -> int:
        """A size that begins an interval in which this is so, or is not, unlike below."""
        inputs = self._inputs(term)
        if len(inputs) != 1 or not str(inputs[0].term).startswith("size "):
            raise Unsure("it depends on the sizes of objects that live")
        (one,) = inputs
        low, size = one.low, one.term
        first = _true(_at(term, [(size, low)]))
        for ((_, last),) in _some(inputs):
            if _true(_at(term, [(size, last)])) != first:
                break
        else:
            model = self._model(inputs, z3.Not(term) if first else term)
            last = _signed(model.eval(size, model_completion=True))
        while last - low > 1:
            middle = (low + last) // 2
            low, last = (middle, last) if _true(_at(term, [(size, middle)])) == first else (low, middle)
        return last

    def _inputs(self, term: Any) -> list[_Input]:
        """The inputs that a term is made of."""
        found: list[_Input] = []
        seen: set[int] = set()
        rest = [term]
        while rest:
            part = rest.pop()
            if part.get_id() in seen:
                continue
            seen.add(part.get_id())
            if part.get_id() in self._bounds:
                found.append(self._bounds[part.get_id()])
            rest += part.children()
        return found

    def _model(self, inputs: list[_Input], *terms: Any) -> Any:
        """A model; None if there is none.  Raises Unsure."""
        if time.process_time() > self.deadline:
            raise Unsure("time was up")
        started = time.perf_counter()
        solver = z3.SolverFor("QF_BV")
        solver.set("rlimit", self.steps)
        solver.add(*(one.bounds for one in inputs), *terms)
        answer = solver.check()
        self.solving += time.perf_counter() - started
        if answer == z3.unknown:
            raise Unsure(f"the solver gave up: {solver.reason_unknown()}")
        return solver.model() if answer == z3.sat else None


# ---- values that may hold words -------------------------------------------------------------------


def settled(value: Any) -> Any:
    """The same with every word replaced by its value.  Raises Split where one has several."""
    if isinstance(value, Word):
        return value.__index__()
    if isinstance(value, tuple | list):
        return tuple([settled(one) for one in value])
    return bool(value) if isinstance(value, Truth) else value


def forgetful(contract: Contract) -> Contract:
    """The same promises without the memories in front of them: these hash a size, which makes it one value."""
    changed: dict[str, Any] = {}
    for field in fields(contract):
        value = getattr(contract, field.name)
        if isinstance(value, dict):
            changed[field.name] = {key: _unwrapped(one) for key, one in value.items()}
        elif callable(value):
            changed[field.name] = _unwrapped(value)
    return replace(contract, **changed)


def _unwrapped(value: Any) -> Any:
    if hasattr(value, "cache_info"):
        return _unwrapped(value.__wrapped__)
    if isinstance(value, partial):
        return partial(_unwrapped(value.func), *map(_unwrapped, value.args), **value.keywords)
    return value
