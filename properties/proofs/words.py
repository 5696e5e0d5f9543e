"""Integers that are not known yet: bit-vectors of one width that behave as Python's own integers do.

An allocator's arithmetic is plain Python on integers, with every wrap of the machine written as a mask.
Here the same functions run on ``Word``s.  A word is a bit-vector in two's complement, a few bits wider
than the machine's word, so that a sum of two machine words still fits; a Z3 term, and bounds for it::

    size + align - 1  <  largest        machine:  mod 2**64        Python, and here:  as in mathematics
    & mask                              ... unless it is written down, as here, in both

So no proof rests on a wrap that Python does not do, nor the other way round.  That nothing leaves the
width is part of the proof: from the bounds where they suffice, else it is put to the solver; what does
leave it is ``TooNarrow``, never a wrong answer.  Bounds also decide most comparisons without a solver.

What Python asks of a value (``if``, an index) is passed on to whoever runs the code: see ``paths``.

>>> from heaplaw.properties.proofs.paths import Paths
>>> for path in Paths(72):                             # both ways that the code may take
...     size = path.word("size", 0, 2**64 - 1)
...     print("small" if size < 100 else "large", ((size + 7) & -8).low, ((size + 7) & -8).high)
small 0 104
large 104 18446744073709551616
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import z3


class TooNarrow(Exception):  # noqa: N818 - the width is too small for the code; the code is not wrong
    """A value may leave the width of the words."""


class Execution(Protocol):
    """Whoever runs code on words: answers what Python must know."""

    width: int

    def decide(self, term: Any) -> bool:
        """Is this so?  May be answered both ways, one after the other."""

    def value_of(self, word: Word) -> int:
        """One value that the word can have; from here on it has it."""

    def holds(self, term: Any) -> bool:
        """Is this certain?"""


def _bits_of(*bounds: int) -> int:
    """The least power of two, less one, that no magnitude among the bounds exceeds."""
    return (1 << max((bound if bound >= 0 else ~bound).bit_length() for bound in bounds)) - 1


class Word:
    """An integer from ``low`` to ``high``; ``term`` is its bit-vector."""

    __slots__ = ("high", "low", "run", "term")

    def __init__(self, run: Execution, term: Any, low: int, high: int) -> None:
        self.run, self.term, self.low, self.high = run, term, low, high

    def __repr__(self) -> str:
        return f"Word[{self.low}..{self.high}]"

    # ---- making others -------------------------------------------------------------------

    def _term(self, other: Any) -> Any:
        return other.term if isinstance(other, Word) else z3.BitVecVal(other, self.run.width)

    def _with(self, other: Any, act: Callable[[Any, Any], Any], low: int, high: int) -> Any:
        """``act`` on both, whose exact result lies in the bounds."""
        return self._made(lambda wide: act(wide(self.term), wide(self._term(other))), low, high)

    def _made(self, act: Callable[[Callable[[Any], Any]], Any], low: int, high: int) -> Any:
        """A word by its bounds; where these exceed the width, the solver is asked whether the value does."""
        width = self.run.width
        if low == high:
            return low
        term = act(lambda one: one)
        least, most = -1 << width - 1, (1 << width - 1) - 1
        if low < least or high > most:
            exact = act(lambda one: z3.SignExt(width, one))
            if not self.run.holds(z3.SignExt(width, term) == exact):
                raise TooNarrow(f"a value in {low}..{high} may not fit in {width} bits")
            low, high = max(low, least), min(high, most)
        return Word(self.run, term, low, high)

    # ---- sums and products -----------------------------------------------------------------

    def __add__(self, other: Any) -> Any:
        low, high = bounds_of(other)
        return self._with(other, lambda a, b: a + b, self.low + low, self.high + high)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        low, high = bounds_of(other)
        return self._with(other, lambda a, b: a - b, self.low - high, self.high - low)

    def __rsub__(self, other: int) -> Any:
        return self._with(other, lambda a, b: b - a, other - self.high, other - self.low)

    def __neg__(self) -> Any:
        return self.__rsub__(0)

    def __pos__(self) -> Word:
        return self

    def __abs__(self) -> Any:
        return -self if self < 0 else self

    def __mul__(self, other: Any) -> Any:
        low, high = bounds_of(other)
        corners = [mine * theirs for mine in (self.low, self.high) for theirs in (low, high)]
        return self._with(other, lambda a, b: a * b, min(corners), max(corners))

    __rmul__ = __mul__

    def __floordiv__(self, other: Any) -> Any:
        return self.__divmod__(other)[0]

    def __mod__(self, other: Any) -> Any:
        return self.__divmod__(other)[1]

    def __rfloordiv__(self, other: int) -> Any:
        return self.__rdivmod__(other)[0]

    def __rmod__(self, other: int) -> Any:
        return self.__rdivmod__(other)[1]

    def __rdivmod__(self, other: int) -> tuple[Any, Any]:
        return _lifted(self.run, other).__divmod__(self)

    def __divmod__(self, other: Any) -> tuple[Any, Any]:
        """Quotient, rounded down, and remainder."""
        if not isinstance(other, Word) and other > 0 and not other & (other - 1):
            return self >> (other.bit_length() - 1), self & (other - 1)
        low, high = bounds_of(other)
        if low < 1:
            if other == 0:
                raise ZeroDivisionError("division by zero")
            if other < 0:
                down, left = divmod(-self, -other)
                return down, -left
            low = 1
        down = (self.low // (low if self.low < 0 else high), self.high // (low if self.high >= 0 else high))
        left = (0, high - 1 if self.low < 0 else min(high - 1, self.high))
        if self.low >= 0:
            return self._with(other, z3.UDiv, *down), self._with(other, z3.URem, *left)
        return self._with(other, _floor_div, *down), self._with(other, _floor_mod, *left)

    # ---- bits ----------------------------------------------------------------------------

    def __and__(self, other: Any) -> Any:
        low, high = bounds_of(other)
        if low == high and low < 0 and not -low & (-low - 1):  # rounding down to a multiple
            bounds = self.low & low, self.high & low
        elif self.low >= 0 or low >= 0:
            bounds = 0, min([most for least, most in ((self.low, self.high), (low, high)) if least >= 0])
        else:
            bounds = ~_bits_of(self.low, low), max(self.high, high)
        return self._with(other, lambda a, b: a & b, *bounds)

    __rand__ = __and__

    def __or__(self, other: Any) -> Any:
        low, high = bounds_of(other)
        ones = _bits_of(self.low, self.high, low, high)
        bounds = (max(self.low, low), ones) if min(self.low, low) >= 0 else (~ones, ones)
        return self._with(other, lambda a, b: a | b, *bounds)

    __ror__ = __or__

    def __xor__(self, other: Any) -> Any:
        low, high = bounds_of(other)
        ones = _bits_of(self.low, self.high, low, high)
        return self._with(other, lambda a, b: a ^ b, 0 if min(self.low, low) >= 0 else ~ones, ones)

    __rxor__ = __xor__

    def __invert__(self) -> Any:
        return self._made(lambda wide: ~wide(self.term), ~self.high, ~self.low)

    def __lshift__(self, other: Any) -> Any:
        return _shifted_left(self.run, self, other)

    def __rlshift__(self, other: int) -> Any:
        return _shifted_left(self.run, other, self)

    def __rshift__(self, other: Any) -> Any:
        return _shifted_right(self.run, self, other)

    def __rrshift__(self, other: int) -> Any:
        return _shifted_right(self.run, other, self)

    def bit_length(self) -> Any:
        """As that of an integer: of the magnitude.  As many steps as the width has bits in its length."""
        if self.low < 0:
            if self < 0:
                return (-self).bit_length()
            self.low = max(self.low, 0)
        low, high = self.low.bit_length(), self.high.bit_length()
        return self._made(lambda wide: wide(_bit_length(self.term, high)), low, high)

    # ---- comparisons -----------------------------------------------------------------------

    def __lt__(self, other: Any) -> Any:
        return _less(self, _lifted(self.run, other))

    def __gt__(self, other: Any) -> Any:
        return _less(_lifted(self.run, other), self)

    def __le__(self, other: Any) -> Any:
        return not_so(_less(_lifted(self.run, other), self))

    def __ge__(self, other: Any) -> Any:
        return not_so(_less(self, _lifted(self.run, other)))

    def __eq__(self, other: object) -> Any:
        if not isinstance(other, Word | int):
            return NotImplemented
        low, high = bounds_of(other)
        if self.high < low or self.low > high:
            return False
        return self.low == self.high == low == high or Truth(self.run, self.term == self._term(other))

    def __ne__(self, other: object) -> Any:
        return NotImplemented if not isinstance(other, Word | int) else not_so(self == other)

    def __bool__(self) -> bool:
        return bool(self != 0)

    def __index__(self) -> int:
        """Some value that it can have: every one, one path after the other."""
        if self.low != self.high:
            self.low = self.high = self.run.value_of(self)
        return self.low

    __int__ = __index__

    def __hash__(self) -> int:
        return hash(self.__index__())


class Truth:
    """What is true of words, or not.  ``&``, ``|`` and ``~`` leave it open; ``and``, ``or``, ``not`` and ``if`` ask."""

    __slots__ = ("_less", "run", "term")

    def __init__(self, run: Execution, term: Any, less: tuple[Word, Word, bool] | None = None) -> None:
        """``less``: two words, and whether it is true or false that the first one is less."""
        self.run, self.term, self._less = run, term, less

    def __repr__(self) -> str:
        return "Truth"

    def __bool__(self) -> bool:
        answer = self.run.decide(self.term)
        if self._less is not None:  # from here on the words are known better
            one, other, so = self._less
            if answer == so:
                one.high, other.low = min(one.high, other.high - 1), max(other.low, one.low + 1)
            else:
                one.low, other.high = max(one.low, other.low), min(other.high, one.high)
        return answer

    def __and__(self, other: Any) -> Any:
        return Truth(self.run, z3.And(self.term, term_of(other)))

    __rand__ = __and__

    def __or__(self, other: Any) -> Any:
        return Truth(self.run, z3.Or(self.term, term_of(other)))

    __ror__ = __or__

    def __invert__(self) -> Truth:
        less = self._less and (*self._less[:2], not self._less[2])
        return Truth(self.run, z3.Not(self.term), less)

    def __eq__(self, other: object) -> Any:
        return Truth(self.run, self.term == term_of(other))

    def __ne__(self, other: object) -> Any:
        return Truth(self.run, self.term != term_of(other))

    def __hash__(self) -> int:
        return hash(bool(self))

    def __index__(self) -> int:
        return int(bool(self))

    __int__ = __index__

    def __add__(self, other: Any) -> Any:
        return self.__index__() + other

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        return self.__index__() - other

    def __rsub__(self, other: Any) -> Any:
        return other - self.__index__()


def term_of(truth: Any) -> Any:
    """The Z3 term of a Truth, of a bool, or of a number as ``if`` takes it."""
    if isinstance(truth, Word):
        truth = truth != 0
    return truth.term if isinstance(truth, Truth) else z3.BoolVal(bool(truth))


def implies(one: Any, other: Any) -> Any:
    """Is ``other`` so wherever ``one`` is?  Of truths and of bools."""
    if isinstance(one, bool):
        return other if one else True
    return ~one | other


def not_so(truth: Any) -> Any:
    """The opposite, of truths and of bools."""
    return ~truth if isinstance(truth, Truth) else not truth


def all_of(truths: Iterable[Any]) -> Any:
    """``all``, of truths that are not asked, and of bools."""
    so: Any = True
    for truth in truths:
        so = truth & so
    return so


def bounds_of(value: Any) -> tuple[int, int]:
    """(least, greatest) value of a word; of an integer itself."""
    return (value.low, value.high) if isinstance(value, Word) else (value, value)


def _less(one: Word, other: Word) -> Any:
    """By the bounds, where they tell."""
    if one.high < other.low:
        return True
    return False if one.low >= other.high else Truth(one.run, one.term < other.term, (one, other, True))


def _lifted(run: Execution, value: Any) -> Word:
    return value if isinstance(value, Word) else Word(run, z3.BitVecVal(value, run.width), value, value)


def _counted(shift: Any) -> tuple[int, int]:
    """Bounds of a shift.  ValueError, as in Python, where it may be negative."""
    low, high = bounds_of(shift)
    if low < 0:
        if shift < 0:
            raise ValueError("negative shift count")
        low = 0
    return low, high


def _shifted_left(run: Execution, value: Any, shift: Any) -> Any:
    """Zeros enter at the right; the width is left by what Python's integers would simply grow for."""
    if isinstance(value, int) and value == 0:
        return 0
    (least, most), (low, high) = bounds_of(value), _counted(shift)
    word, by = _lifted(run, value), _lifted(run, shift)
    if high >= run.width:
        if not run.holds(by.term < run.width):
            raise TooNarrow(f"a shift by up to {high} bits")
        high = run.width - 1
    bounds = least << (high if least < 0 else low), most << (high if most > 0 else low)
    return word._with(by, lambda a, b: a << b, *bounds)


def _shifted_right(run: Execution, value: Any, shift: Any) -> Any:
    """The sign enters at the left, as in Python: of a machine's word it is 0."""
    (least, most), (low, high) = bounds_of(value), _counted(shift)
    bounds = least >> (low if least < 0 else high), most >> (high if most < 0 else low)
    return _lifted(run, value)._with(_lifted(run, shift), lambda a, b: a >> b, *bounds)


def _floor_div(one: Any, other: Any) -> Any:
    quotient = one / other  # towards 0
    return z3.If(z3.SRem(one, other) < 0, quotient - 1, quotient)


def _floor_mod(one: Any, other: Any) -> Any:
    left = z3.SRem(one, other)
    return z3.If(left < 0, left + other, left)


def _bit_length(term: Any, most: int) -> Any:
    """Of a term that is not negative and has ``most`` bits at most: halves are looked at."""
    width = term.size()
    count = z3.BitVecVal(0, width)
    step = 1 << max(most - 1, 1).bit_length() - 1
    while step:
        above = z3.LShR(term, step)
        more = above != 0
        count = z3.If(more, count + step, count)
        term = z3.If(more, above, term)
        step >>= 1
    return z3.If(term != 0, count + 1, count)
