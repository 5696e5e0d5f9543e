"""Both ways at once: an allocator's own code, read as a syntax tree and run on words without forking.

``paths`` runs code once for every way through it.  Rules that look at many hints have too many ways, so here
both branches of an open ``if`` are run, each on the state as it was before, and what they leave is merged::

    if start < b.first_free:          first_free' = If(start < first_free, start, first_free)
        b.first_free = start

The code is not translated by hand: it is what ``inspect.getsource`` returns for the very function that the
allocator calls, and the objects are the allocator's own, with words in their attributes.  A branch's writes are
kept in a journal, undone, and written again as choices; ``return``, ``break`` and ``continue`` end a scope, and
what follows them runs in a scope of its own where they did not happen.  A generator runs in step with the loop
that it feeds, as in Python.

What must be so for this to be what Python does (no value leaves the width, no shift is negative, a name is bound
where it is read, no exception is raised) is gathered as ``duties``, each under the condition on which the code
comes there.  Whoever claims something of the outcome must show them too.  Bounds of merged values cover both.
What is not known here raises NotSupported: it is never left out.

>>> from heaplaw.impls.percpu_blocks import next_set
>>> run = Merged(16)
>>> found = run.call(next_set, run.word("used", 0, 255), 3, 8)
>>> found, run.holds_now((found >= 3) & (found <= 8))
(Word[2..11], True)
"""

from __future__ import annotations

import ast
import builtins
import inspect
import operator
import textwrap
import time
import types
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

import z3

from .paths import STEPS, Unsure
from .words import Truth, Word, term_of

MOST_ROUNDS = 200  # of a loop whose end is open
_LIGHT_STEPS = 2_000_000  # of the solver, to prune: where it does not know, nothing is pruned
_INTERPRETED = "heaplaw."  # code of these modules is read; of others only a few built-in functions are known


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


class Several(NamedTuple):
    """One of these objects: what an open index picks of a list of them.  Its attributes can be read."""

    objects: tuple[tuple[Any, Any], ...]  # (condition, object)


class Cell:
    """One place that is written and merged as attributes are."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class Frame:
    """A call: its names, and how it ended."""

    def __init__(self, function: Any) -> None:
        self.function = function
        self.names: dict[str, Any] = {}
        self.returned, self.result = Cell(False), Cell(UNBOUND)
        self.feeds: Callable[[Any], None] | None = None  # a generator's consumer


class Lazy(NamedTuple):
    """A generator that has not begun: called function or expression, and the frame it runs in."""

    frame: Frame
    run: Callable[[Callable[[Any], None]], None]


class _Scope:
    """Writes of a branch, with what was there before."""

    __slots__ = ("condition", "old")

    def __init__(self, condition: Any) -> None:
        self.condition = condition
        self.old: dict[tuple[int, Any], tuple[Any, Any, Any]] = {}  # (id, key) -> (container, key, value)


class Merged:
    """One run of code on words.  ``width`` in bits; ``steps``: of the solver for one question."""

    def __init__(self, width: int, steps: int = STEPS) -> None:
        self.width, self.steps = width, steps
        self.deadline = float("inf")  # a ``time.monotonic`` value, above what steps allow
        self.inputs: dict[str, Word] = {}
        self.assumed: list[Any] = []
        self.duties: list[tuple[Any, str]] = []  # (what must hold, why)
        self.hooks: dict[Any, Callable[..., Any]] = {}  # function -> what stands for it
        self._scopes: list[_Scope] = [_Scope(True)]
        self._stops: list[Cell] = []  # any of them true: the code that follows is not reached
        self._light, self._light_names = z3.Solver(), set[str]()
        self._light.set("rlimit", _LIGHT_STEPS)

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
        self.duties.append((z3.Or(*[_not(one) for one in conditions], term) if conditions else term, why))

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

    def _inside(self, condition: Any, act: Callable[[], Any]) -> tuple[Any, dict[tuple[int, Any], tuple[Any, Any, Any]]]:
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
            self.choose(live, reached, _nothing)

    def choose(self, condition: Any, yes: Callable[[], Any], no: Callable[[], Any]) -> Any:
        """What ``yes`` returns where the condition holds, else what ``no`` does; and of their writes likewise."""
        if isinstance(condition, bool):
            return yes() if condition else no()
        one, ones = self._inside(condition, yes)
        two, twos = self._inside(_not(condition), no)
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
        both = _or(_and(condition, there), _and(_not(condition), where))
        if first is UNBOUND or second is UNBOUND:
            return Partly(second if first is UNBOUND else first, both)
        mixed = self.mix(condition, first, second)
        return mixed if both is True else Partly(mixed, both)

    def _mix_truths(self, condition: Any, one: Any, two: Any) -> Any:
        first, second = _plain(one), _plain(two)
        mixed = _or(_and(condition, first), _and(_not(condition), second))
        return mixed if isinstance(mixed, bool) else Truth(self, mixed)

    def _mix_numbers(self, condition: Any, one: Any, two: Any) -> Any:
        (low, high), (least, most) = _bounds(one), _bounds(two)
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

    # ---- running -----------------------------------------------------------------------------

    def call(self, function: Any, *args: Any) -> Any:
        """Call a function or a bound method on words."""
        return _Reader(self).call(function, list(args), {})

    def call_plain(self, function: Any, *args: Any) -> Any:
        """As ``call``, but for the function's own hook: from inside of it."""
        hook = self.hooks.pop(function)
        try:
            return self.call(function, *args)
        finally:
            self.hooks[function] = hook

    def live(self) -> Any:
        """Is what follows reached?  A bool, or a term."""
        stopped: Any = False
        for cell in self._stops:
            stopped = _or(stopped, _plain(cell.value))
        return _not(stopped)

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


class _Reader:
    """Statements and expressions, by their syntax trees."""

    def __init__(self, run: Merged) -> None:
        self.run = run

    # ---- calls -------------------------------------------------------------------------------

    def call(self, function: Any, args: list[Any], named: dict[str, Any]) -> Any:
        """Of a function, a method, or one of the built-in functions that are known."""
        if isinstance(function, types.MethodType):
            function, args = function.__func__, [function.__self__, *args]
        if function in self.run.hooks:
            return self.run.hooks[function](*args, **named)
        if function in _BUILT_IN:
            if named:
                raise NotSupported(f"{function.__name__} with named arguments")
            return _BUILT_IN[function](self, *args)
        if isinstance(function, types.BuiltinMethodType):
            return self._method_of_value(function, args)
        if not isinstance(function, types.FunctionType) or not function.__module__.startswith(_INTERPRETED):
            raise NotSupported(f"a call of {function!r}")
        tree, generates = _tree_of(function)
        frame = Frame(function)
        frame.names.update(inspect.signature(function).bind(*args, **named).arguments)
        for parameter in inspect.signature(function).parameters.values():
            if parameter.name not in frame.names:
                frame.names[parameter.name] = parameter.default
        if generates:
            return Lazy(frame, lambda consumer: self._generate(frame, tree.body, consumer))
        self.run.stopping([frame.returned], lambda: self.block(frame, tree.body))
        returned, result = _plain(frame.returned.value), frame.result.value
        if returned is False or result is None:
            return None
        if returned is not True:
            self.run.owe(returned, f"{function.__qualname__} may end without a value")
        return result.value if isinstance(result, Partly) else result  # it is there, as it returned

    def _method_of_value(self, function: Any, args: list[Any]) -> Any:
        if function.__name__ == "bit_length" and isinstance(function.__self__, int) and not args:
            return function()
        raise NotSupported(f"a call of {function!r}")

    def _generate(self, frame: Frame, body: list[ast.stmt], consumer: Callable[[Any], None]) -> None:
        """Run a generator's body; the consumer runs at each ``yield``."""
        frame.feeds = consumer
        self.block(frame, body)

    # ---- statements --------------------------------------------------------------------------

    def block(self, frame: Frame, body: Sequence[ast.stmt]) -> None:
        """One statement after the other; what follows an open exit runs in a scope of its own."""
        run = self.run
        for number, statement in enumerate(body):
            self.statement(frame, statement)
            if run.live() is not True:
                if number + 1 < len(body):
                    run.go_on(lambda rest=body[number + 1 :]: self.block(frame, rest))  # type: ignore[misc]
                return

    def statement(self, frame: Frame, node: ast.stmt) -> None:
        """Run one statement."""
        act = getattr(self, f"_do_{type(node).__name__}", None)
        if act is None:
            raise NotSupported(f"{type(node).__name__} in {frame.function.__qualname__}")
        act(frame, node)

    def _do_Pass(self, frame: Frame, node: ast.Pass) -> None:
        pass

    def _do_Expr(self, frame: Frame, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Yield):
            if frame.feeds is None or node.value.value is None:
                raise NotSupported("yield without a value, or without a loop")
            frame.feeds(self.value(frame, node.value.value))
        elif not isinstance(node.value, ast.Constant):
            self.value(frame, node.value)

    def _do_Assign(self, frame: Frame, node: ast.Assign) -> None:
        value = self.value(frame, node.value)
        for target in node.targets:
            self.assign(frame, target, value)

    def _do_AnnAssign(self, frame: Frame, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.assign(frame, node.target, self.value(frame, node.value))

    def _do_AugAssign(self, frame: Frame, node: ast.AugAssign) -> None:
        target = node.target
        if isinstance(target, ast.Name):
            before = self.value(frame, ast.Name(target.id, ast.Load()))
            self.assign(frame, target, self.binary(node.op, before, self.value(frame, node.value)))
        elif isinstance(target, ast.Attribute):
            owner = self.value(frame, target.value)
            before = self.attribute(owner, target.attr)
            self._set_attribute(owner, target.attr, self.binary(node.op, before, self.value(frame, node.value)))
        else:
            assert isinstance(target, ast.Subscript)
            owner, at = self.value(frame, target.value), self.value(frame, target.slice)
            before = self.item(owner, at)
            self._set_item(owner, at, self.binary(node.op, before, self.value(frame, node.value)))

    def assign(self, frame: Frame, target: ast.expr, value: Any) -> None:
        """To a name, an attribute, an item, or several of them."""
        if isinstance(target, ast.Name):
            self.run.write(frame.names, target.id, value)
        elif isinstance(target, ast.Attribute):
            self._set_attribute(self.value(frame, target.value), target.attr, value)
        elif isinstance(target, ast.Subscript):
            self._set_item(self.value(frame, target.value), self.value(frame, target.slice), value)
        elif isinstance(target, ast.Tuple) and not any(isinstance(one, ast.Starred) for one in target.elts):
            values = self.run.seen(value)
            if not isinstance(values, tuple | list) or len(values) != len(target.elts):
                raise NotSupported(f"{len(target.elts)} targets for {values!r}")
            for one, part in zip(target.elts, values, strict=True):
                self.assign(frame, one, part)
        else:
            raise NotSupported(f"an assignment to {type(target).__name__}")

    def _set_attribute(self, owner: Any, name: str, value: Any) -> None:
        if isinstance(owner, Several):
            raise NotSupported(f"{name} of one of several objects is set")
        if isinstance(getattr(type(owner), name, None), property) or type(owner).__setattr__ is not object.__setattr__:
            raise NotSupported(f"{type(owner).__name__}.{name} is not a plain attribute")
        self.run.write(owner, name, value)

    def _set_item(self, owner: Any, at: Any, value: Any) -> None:
        if not isinstance(owner, list):
            raise NotSupported(f"an item of a {type(owner).__name__} is set")
        for place, condition in self._places(len(owner), at):
            self.run.write(owner, place, value if condition is True else self.run.mix(condition, value, owner[place]))

    def _places(self, length: int, at: Any) -> Iterator[tuple[int, Any]]:
        """Indexes that ``at`` may be, each with the condition on which it is."""
        if not isinstance(at, int | Word):
            raise NotSupported(f"an index that is a {type(at).__name__}")
        if isinstance(at, int):
            if not -length <= at < length:
                self.run.owe(False, "an index may be outside")
                return
            yield at % length, True
            return
        low, high = max(at.low, 0), min(at.high, length - 1)
        if at.low < 0 or at.high >= length:
            self.run.owe(z3.And(at.term >= 0, at.term < length), "an index may be outside, or negative")
        open_places = []
        for place in range(low, high + 1):
            so = self.run.truth(at == place)
            if so is True:
                yield place, True
                return
            if so is not False:
                open_places.append((place, so))
        yield from open_places

    def _do_If(self, frame: Frame, node: ast.If) -> None:
        test = self.run.truth(self.value(frame, node.test))
        self.run.choose(test, lambda: self.block(frame, node.body), lambda: self.block(frame, node.orelse))

    def _do_Return(self, frame: Frame, node: ast.Return) -> None:
        if frame.feeds is None:
            self.run.write(frame.result, "value", None if node.value is None else self.value(frame, node.value))
        self.run.write(frame.returned, "value", True)

    def _do_Break(self, frame: Frame, node: ast.Break) -> None:
        self.run.write(self._loops[-1][0], "value", True)

    def _do_Continue(self, frame: Frame, node: ast.Continue) -> None:
        self.run.write(self._loops[-1][1], "value", True)

    def _do_Raise(self, frame: Frame, node: ast.Raise) -> None:
        self.run.owe(False, f"{frame.function.__qualname__} may raise an exception")
        self.run.write(frame.returned, "value", True)

    # ---- loops -------------------------------------------------------------------------------

    @property
    def _loops(self) -> list[tuple[Cell, Cell]]:
        return self.__dict__.setdefault("_loop_stack", [])

    def _round(self, frame: Frame, node: ast.For | ast.While, broken: Cell, outer: list[Cell]) -> None:
        """The body, once; ``outer``: what else ends it."""
        skipped = Cell(False)
        self._loops.append((broken, skipped))
        try:
            self.run.stopping([*outer, broken, skipped], lambda: self.block(frame, node.body))
        finally:
            self._loops.pop()

    def _do_For(self, frame: Frame, node: ast.For) -> None:
        if node.orelse:
            raise NotSupported("for ... else")
        run, broken, outer = self.run, Cell(False), list(self.run.stops)
        source = self.value(frame, node.iter)

        def body(item: Any) -> None:
            self.assign(frame, node.target, item)
            self._round(frame, node, broken, outer)

        if isinstance(source, Lazy):
            # the generator goes on unless it ended, or the loop did
            run.stopping([source.frame.returned, *outer, broken], lambda: source.run(body))
            return
        rounds = list(self._items(source))

        def rest(number: int) -> None:
            for at in range(number, len(rounds)):
                item, condition = rounds[at]
                run.choose(condition, lambda item=item: body(item), _nothing)  # type: ignore[misc]
                if run.live() is not True:
                    if at + 1 < len(rounds) and (isinstance(live := run.live(), bool) or self._possible(live)):
                        run.go_on(lambda at=at: rest(at + 1))  # type: ignore[misc]
                    return

        run.stopping([*outer, broken], lambda: rest(0))

    def _items(self, source: Any) -> Iterator[tuple[Any, Any]]:
        """What a loop runs over: items, each with the condition on which it is there."""
        if isinstance(source, _Range):
            low, _ = _bounds(source.start)
            _, high = _bounds(source.stop)
            for at in range(low, high):
                after = self.run.truth(source.start <= at)
                before = self.run.truth(source.stop > at)
                if _and(after, before) is not False:
                    yield at, _and(after, before)
        elif isinstance(source, range | tuple | list):
            yield from ((item, True) for item in source)
        else:
            raise NotSupported(f"a loop over a {type(source).__name__}")

    def _do_While(self, frame: Frame, node: ast.While) -> None:
        if node.orelse:
            raise NotSupported("while ... else")
        run, broken, outer = self.run, Cell(False), list(self.run.stops)

        def rest(number: int) -> None:
            if number > MOST_ROUNDS:
                raise NotSupported(f"a loop of more than {MOST_ROUNDS} rounds in {frame.function.__qualname__}")
            test = run.truth(self.value(frame, node.test))
            if test is not True and test is not False and not self._possible(test):
                test = False
            run.choose(test, lambda: once(number), _nothing)

        def once(number: int) -> None:
            self._round(frame, node, broken, outer)
            live = run.live()
            if isinstance(live, bool) or self._possible(live):
                run.go_on(lambda: rest(number + 1))

        run.stopping([*outer, broken], lambda: rest(0))

    def _possible(self, term: Any) -> bool:
        """May this be so where the code is now?  Yes, where the solver does not know."""
        solver = z3.SolverFor("QF_BV")
        solver.set("rlimit", _LIGHT_STEPS)
        conditions = [scope.condition for scope in self.run._scopes if scope.condition is not True]
        return bool(solver.check(*self.run.assumed, *conditions, term) != z3.unsat)

    # ---- expressions -------------------------------------------------------------------------

    def value(self, frame: Frame, node: ast.expr) -> Any:
        """Of an expression."""
        act = getattr(self, f"_of_{type(node).__name__}", None)
        if act is None:
            raise NotSupported(f"{type(node).__name__} in {frame.function.__qualname__}")
        return self.run.seen(act(frame, node))

    def _of_Constant(self, frame: Frame, node: ast.Constant) -> Any:
        return node.value

    def _of_Name(self, frame: Frame, node: ast.Name) -> Any:
        if node.id in frame.names:
            return frame.names[node.id]
        function = frame.function
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            if name == node.id:
                return cell.cell_contents
        if node.id in function.__globals__:
            return function.__globals__[node.id]
        if hasattr(builtins, node.id):
            return getattr(builtins, node.id)
        return UNBOUND

    def _of_Attribute(self, frame: Frame, node: ast.Attribute) -> Any:
        return self.attribute(self.value(frame, node.value), node.attr)

    def attribute(self, owner: Any, name: str) -> Any:
        """A plain attribute, or a method."""
        if isinstance(owner, Word | int) and not isinstance(owner, bool):
            if name != "bit_length":
                raise NotSupported(f"{name} of an integer")
            return owner.bit_length if isinstance(owner, int) else _Bound(owner)
        if isinstance(owner, Several):
            found = self.attribute(owner.objects[-1][1], name)
            for condition, one in owner.objects[-2::-1]:
                found = self.run.mix(condition, self.attribute(one, name), found)
            return found
        if isinstance(getattr(type(owner), name, None), property):
            return self.call(getattr(type(owner), name).fget, [owner], {})
        if not hasattr(owner, name):
            raise NotSupported(f"{type(owner).__name__} has no {name}")
        return getattr(owner, name)

    def _of_Subscript(self, frame: Frame, node: ast.Subscript) -> Any:
        return self.item(self.value(frame, node.value), self.value(frame, node.slice))

    def item(self, owner: Any, at: Any) -> Any:
        """Of a list or a tuple; where the index is open, of each that it may be."""
        if not isinstance(owner, list | tuple):
            raise NotSupported(f"an item of a {type(owner).__name__}")
        places = list(self._places(len(owner), at))
        if not places:
            return 0  # it was said that this cannot be
        if len(places) > 1 and not isinstance(owner[places[0][0]], int | Word | Truth | tuple):
            return Several(tuple((condition, owner[place]) for place, condition in places))
        found = owner[places[-1][0]]
        for place, condition in reversed(places[:-1]):
            found = self.run.mix(condition, owner[place], found)
        return found

    def _of_Tuple(self, frame: Frame, node: ast.Tuple) -> tuple[Any, ...]:
        return tuple(self.value(frame, one) for one in node.elts)

    def _of_List(self, frame: Frame, node: ast.List) -> list[Any]:
        return [self.value(frame, one) for one in node.elts]

    def _of_UnaryOp(self, frame: Frame, node: ast.UnaryOp) -> Any:
        value = self.value(frame, node.operand)
        if isinstance(node.op, ast.Not):
            truth = _not(self.run.truth(value))
            return truth if isinstance(truth, bool) else Truth(self.run, truth)
        act = {ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Invert: operator.invert}[type(node.op)]
        return act(self._operand(value))

    def _of_BinOp(self, frame: Frame, node: ast.BinOp) -> Any:
        return self.binary(node.op, self.value(frame, node.left), self.value(frame, node.right))

    def _operand(self, value: Any) -> Any:
        value = self.run.number(self.run.seen(value))
        if not isinstance(value, int | Word):
            raise NotSupported(f"arithmetic on a {type(value).__name__}")
        return value

    def binary(self, op: ast.operator, one: Any, two: Any) -> Any:
        """Of integers; what Python refuses is owed."""
        act = _OPERATORS.get(type(op))
        if act is None:
            raise NotSupported(f"the operator {type(op).__name__}")
        one, two = self._operand(one), self._operand(two)
        low, high = _bounds(two)
        if act in (operator.lshift, operator.rshift) and low < 0:
            if high < 0:
                self.run.owe(False, "a shift may be negative")
                return 0
            self.run.owe(two.term >= 0, "a shift may be negative")
            two = Word(self.run, two.term, 0, high)
        if act in (operator.floordiv, operator.mod) and low <= 0:
            raise NotSupported("a division by what may be 0 or less")
        return act(one, two)

    def _of_Compare(self, frame: Frame, node: ast.Compare) -> Any:
        return self._compare(frame, self.value(frame, node.left), node.ops, node.comparators)

    def _compare(self, frame: Frame, left: Any, ops: Sequence[ast.cmpop], others: Sequence[ast.expr]) -> Any:
        right = self.value(frame, others[0])
        said = self._compared(ops[0], left, right)
        if len(ops) == 1:
            return said
        return self._both(said, lambda: self._compare(frame, right, ops[1:], others[1:]))

    def _compared(self, op: ast.cmpop, left: Any, right: Any) -> Any:
        if isinstance(op, ast.Is | ast.IsNot):
            if isinstance(left, Word | Truth | int) and isinstance(right, Word | Truth | int):
                raise NotSupported("identity of numbers")
            return (left is right) == isinstance(op, ast.Is)
        act = _COMPARISONS.get(type(op))
        if act is None:
            raise NotSupported(f"the comparison {type(op).__name__}")
        return act(self._operand(left), self._operand(right))

    def _both(self, said: Any, other: Callable[[], Any]) -> Any:
        """``said and other()``."""
        truth = self.run.truth(said)
        if isinstance(truth, bool):
            return other() if truth else said
        return self.run.choose(truth, other, lambda: said if isinstance(said, Word) else False)

    def _either(self, said: Any, other: Callable[[], Any]) -> Any:
        """``said or other()``."""
        truth = self.run.truth(said)
        if isinstance(truth, bool):
            return said if truth else other()
        return self.run.choose(truth, lambda: said if isinstance(said, Word) else True, other)

    def _of_BoolOp(self, frame: Frame, node: ast.BoolOp) -> Any:
        join = self._both if isinstance(node.op, ast.And) else self._either

        def from_(number: int) -> Any:
            said = self.value(frame, node.values[number])
            return said if number + 1 == len(node.values) else join(said, lambda: from_(number + 1))

        return from_(0)

    def _of_IfExp(self, frame: Frame, node: ast.IfExp) -> Any:
        test = self.run.truth(self.value(frame, node.test))
        return self.run.choose(test, lambda: self.value(frame, node.body), lambda: self.value(frame, node.orelse))

    def _of_Call(self, frame: Frame, node: ast.Call) -> Any:
        if isinstance(node.func, ast.Name) and node.func.id == "super" and not node.args:
            return super(_class_of(frame.function), next(iter(frame.names.values())))
        function = self.value(frame, node.func)
        if any(isinstance(one, ast.Starred) for one in node.args) or any(one.arg is None for one in node.keywords):
            raise NotSupported("a call with * or **")
        args = [self.value(frame, one) for one in node.args]
        if isinstance(function, _Bound):
            return function.bit_length(self.run)
        return self.call(function, args, {str(one.arg): self.value(frame, one.value) for one in node.keywords})

    def _of_GeneratorExp(self, frame: Frame, node: ast.GeneratorExp) -> Lazy:
        (loop,) = node.generators
        inner = Frame(frame.function)
        inner.names = dict(frame.names)  # its own names are not seen outside
        source = self.value(frame, loop.iter)

        def produce(consumer: Callable[[Any], None]) -> None:
            for item, condition in list(self._items(source)):
                self.assign(inner, loop.target, item)
                wanted = condition
                for test in loop.ifs:
                    wanted = _and(wanted, self.run.truth(self.value(inner, test)))
                self.run.choose(wanted, lambda: consumer(self.value(inner, node.elt)), _nothing)

        return Lazy(inner, produce)

    # ---- built-in functions ------------------------------------------------------------------

    def extreme(self, least: bool, values: Sequence[Any]) -> Any:
        """min and max of integers; of equal ones it does not matter which."""
        if len(values) < 2:
            raise NotSupported("min or max of one argument")
        best = self._operand(values[0])
        for value in values[1:]:
            other = self._operand(value)
            (low, high), (down, up) = _bounds(best), _bounds(other)
            pick = min if least else max
            truth = self.run.truth(other < best if least else other > best)
            best = self.run.mix(truth, other, best) if not isinstance(truth, bool) else other if truth else best
            if isinstance(best, Word):
                best = Word(self.run, best.term, pick(low, down), pick(high, up))
        return best

    def absolute(self, value: Any) -> Any:
        """abs."""
        value = self._operand(value)
        if isinstance(value, int):
            return abs(value)
        return self.extreme(False, [value, -value])

    def total(self, source: Any) -> Any:
        """sum."""
        cell = Cell(0)

        def add(item: Any) -> None:
            self.run.write(cell, "value", self._operand(cell.value) + self._operand(item))

        if isinstance(source, Lazy):
            self.run.stopping([source.frame.returned], lambda: source.run(add))
        else:
            for item, condition in list(self._items(source)):
                self.run.choose(condition, lambda item=item: add(item), _nothing)  # type: ignore[misc]
        return cell.value

    def range_of(self, *args: Any) -> Any:
        """range, of one or two."""
        bounds = [self._operand(one) for one in args]
        if all(isinstance(one, int) for one in bounds):
            return range(*bounds)
        if len(bounds) > 2:
            raise NotSupported("a range with steps")
        start, stop = (0, bounds[0]) if len(bounds) == 1 else bounds
        return _Range(start, stop)

    def length(self, value: Any) -> int:
        """len."""
        if not isinstance(value, list | tuple):
            raise NotSupported(f"the length of a {type(value).__name__}")
        return len(value)

    def integer(self, value: Any) -> Any:
        """int, of a number."""
        return self._operand(value)

    def boolean(self, value: Any) -> Any:
        """bool."""
        truth = self.run.truth(value)
        return truth if isinstance(truth, bool) else Truth(self.run, truth)


class _Range(NamedTuple):
    start: Any
    stop: Any


class _Bound(NamedTuple):
    """``word.bit_length``."""

    word: Word

    def bit_length(self, run: Merged) -> Any:
        word = self.word
        if word.low < 0:  # of the magnitude
            term = z3.If(word.term < 0, -word.term, word.term)
            run.owe(word.term != -1 << run.width - 1, "a value may leave the width")
            word = Word(run, term, 0, max(-word.low, word.high))
        return Word(run, word.term, word.low, word.high).bit_length()


_BUILT_IN: dict[Any, Callable[..., Any]] = {
    min: lambda reader, *values: reader.extreme(True, values),
    max: lambda reader, *values: reader.extreme(False, values),
    abs: _Reader.absolute,
    sum: _Reader.total,
    range: _Reader.range_of,
    len: _Reader.length,
    int: _Reader.integer,
    bool: _Reader.boolean,
}
_OPERATORS = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod, ast.LShift: operator.lshift, ast.RShift: operator.rshift, ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_, ast.BitXor: operator.xor,
}  # fmt: skip
_COMPARISONS = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}  # fmt: skip


def _nothing() -> None:
    """The branch that is not there."""


@cache
def _tree_of(function: types.FunctionType) -> tuple[ast.FunctionDef, bool]:
    """The syntax tree of a function's own source, and whether it is a generator."""
    try:
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    except (OSError, ValueError, SyntaxError) as problem:
        raise NotSupported(f"no source of {function!r}: {problem}") from problem
    if not isinstance(tree, ast.FunctionDef) or tree.name != function.__name__:
        raise NotSupported(f"{function!r} is not a plain function")
    if any(getattr(one, "id", "") not in ("staticmethod", "property", "override") for one in tree.decorator_list):
        raise NotSupported(f"{function.__qualname__} is decorated")
    return tree, inspect.isgeneratorfunction(function)


def _class_of(function: types.FunctionType) -> type:
    """The class that a method which says ``super()`` was written in."""
    at = function.__code__.co_freevars.index("__class__")
    found: type = (function.__closure__ or ())[at].cell_contents
    return found


def _get(container: Any, key: Any) -> Any:
    if isinstance(container, dict):
        return container.get(key, UNBOUND)
    return container[key] if isinstance(container, list) else getattr(container, key)


def _set(container: Any, key: Any, value: Any) -> None:
    if isinstance(container, dict | list):
        container[key] = value
    else:
        setattr(container, key, value)


def _bounds(value: Any) -> tuple[int, int]:
    return (value.low, value.high) if isinstance(value, Word) else (value, value)


def _plain(truth: Any) -> Any:
    return truth.term if isinstance(truth, Truth) else truth


def _parted(value: Any) -> tuple[Any, Any]:
    """(value, condition on which it is there)."""
    if isinstance(value, Partly):
        return value
    return value, value is not UNBOUND


def _not(term: Any) -> Any:
    if isinstance(term, bool):
        return not term
    return term.arg(0) if z3.is_not(term) else z3.Not(term)


def _and(one: Any, two: Any) -> Any:
    if one is False or two is False:
        return False
    if one is True or two is True:
        return two if one is True else one
    return False if _not(one).eq(two) else one if one.eq(two) else z3.And(one, two)


def _or(one: Any, two: Any) -> Any:
    if one is True or two is True:
        return True
    if one is False or two is False:
        return two if one is False else one
    return True if _not(one).eq(two) else one if one.eq(two) else z3.Or(one, two)


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
