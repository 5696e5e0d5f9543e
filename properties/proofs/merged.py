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
(Word[2..8], True)
"""

from __future__ import annotations

import ast
import builtins
import inspect
import operator
import textwrap
import types
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

import z3

from .choices import (
    UNBOUND,
    Cell,
    Choices,
    NotSupported,
    Partly,
    both,
    negated,
    nothing,
    plain,
)
from .paths import STEPS
from .words import Truth, Word, bounds_of

MOST_ROUNDS = 200  # of a loop whose end is open


class Several(NamedTuple):
    """One of these objects: what an open index picks of a list of them.  Its attributes can be read."""

    objects: tuple[tuple[Any, Any], ...]  # (condition, object)


class Frame:
    """A call: its names, and how it ended."""

    def __init__(self, function: Any) -> None:
        self.function = function
        self.names: dict[str, Any] = {}
        self.returned, self.result = Cell(False), Cell(UNBOUND)
        self.feeds: Callable[[Any], None] | None = None  # a generator's consumer
        self.begun = False  # as a generator


class Lazy(NamedTuple):
    """A generator that has not begun: called function or expression, and the frame it runs in."""

    frame: Frame
    act: Callable[[Callable[[Any], None]], None]

    def run(self, consumer: Callable[[Any], None]) -> None:
        """To its end, or to that of its consumer; once."""
        if self.frame.begun:
            raise NotSupported("a generator is gone through twice")
        self.frame.begun = True
        self.act(consumer)


class Merged(Choices):
    """One run of code on words.  ``width`` in bits; ``steps``: of the solver for one question."""

    def __init__(self, width: int, steps: int = STEPS) -> None:
        super().__init__(width, steps)
        self.hooks: dict[Any, Callable[..., Any]] = {}  # function -> what stands for it

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


class _Reader:
    """Statements and expressions, by their syntax trees."""

    def __init__(self, run: Merged) -> None:
        self.run = run
        self._loops: list[tuple[Cell, Cell]] = []  # (broken, skipped) of the loops around, innermost last

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
        if not isinstance(function, types.FunctionType):
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
        returned, result = plain(frame.returned.value), frame.result.value
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
        act = getattr(self, f"_do_{type(node).__name__.lower()}", None)
        if act is None:
            raise NotSupported(f"{type(node).__name__} in {frame.function.__qualname__}")
        act(frame, node)

    def _do_pass(self, frame: Frame, node: ast.Pass) -> None:
        pass

    def _do_expr(self, frame: Frame, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Yield):
            if frame.feeds is None or node.value.value is None:
                raise NotSupported("yield without a value, or without a loop")
            frame.feeds(self.value(frame, node.value.value))
        elif not isinstance(node.value, ast.Constant):
            self.value(frame, node.value)

    def _do_assign(self, frame: Frame, node: ast.Assign) -> None:
        value = self.value(frame, node.value)
        for target in node.targets:
            self.assign(frame, target, value)

    def _do_annassign(self, frame: Frame, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.assign(frame, node.target, self.value(frame, node.value))

    def _do_augassign(self, frame: Frame, node: ast.AugAssign) -> None:
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

    def _do_if(self, frame: Frame, node: ast.If) -> None:
        test = self.run.truth(self.value(frame, node.test))
        self.run.choose(test, lambda: self.block(frame, node.body), lambda: self.block(frame, node.orelse))

    def _do_return(self, frame: Frame, node: ast.Return) -> None:
        if frame.feeds is None:
            self.run.write(frame.result, "value", None if node.value is None else self.value(frame, node.value))
        self.run.write(frame.returned, "value", True)

    def _do_break(self, frame: Frame, node: ast.Break) -> None:
        self.run.write(self._loops[-1][0], "value", True)

    def _do_continue(self, frame: Frame, node: ast.Continue) -> None:
        self.run.write(self._loops[-1][1], "value", True)

    def _do_raise(self, frame: Frame, node: ast.Raise) -> None:
        self.run.owe(False, f"{frame.function.__qualname__} may raise an exception")
        self.run.write(frame.returned, "value", True)

    # ---- loops -------------------------------------------------------------------------------

    def _round(self, frame: Frame, node: ast.For | ast.While, broken: Cell, outer: list[Cell]) -> None:
        """The body, once; ``outer``: what else ends it."""
        skipped = Cell(False)
        self._loops.append((broken, skipped))
        try:
            self.run.stopping([*outer, broken, skipped], lambda: self.block(frame, node.body))
        finally:
            self._loops.pop()

    def _do_for(self, frame: Frame, node: ast.For) -> None:
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
                run.choose(condition, lambda item=item: body(item), nothing)  # type: ignore[misc]
                if run.live() is not True:
                    if at + 1 < len(rounds) and run.may_be(run.live()):
                        run.go_on(lambda at=at: rest(at + 1))  # type: ignore[misc]
                    return

        run.stopping([*outer, broken], lambda: rest(0))

    def _items(self, source: Any) -> Iterator[tuple[Any, Any]]:
        """What a loop runs over: items, each with the condition on which it is there."""
        if isinstance(source, _Range):
            low, _ = bounds_of(source.start)
            _, high = bounds_of(source.stop)
            for at in range(low, high):
                after = self.run.truth(source.start <= at)
                before = self.run.truth(source.stop > at)
                if both(after, before) is not False:
                    yield at, both(after, before)
        elif isinstance(source, range | tuple | list):
            yield from ((item, True) for item in source)
        else:
            raise NotSupported(f"a loop over a {type(source).__name__}")

    def _do_while(self, frame: Frame, node: ast.While) -> None:
        if node.orelse:
            raise NotSupported("while ... else")
        run, broken, outer = self.run, Cell(False), list(self.run.stops)

        def rest(number: int) -> None:
            if number > MOST_ROUNDS:
                raise NotSupported(f"a loop of more than {MOST_ROUNDS} rounds in {frame.function.__qualname__}")
            test = run.truth(self.value(frame, node.test))
            if test is not True and test is not False and not run.may_be(test):
                test = False
            run.choose(test, lambda: once(number), nothing)

        def once(number: int) -> None:
            self._round(frame, node, broken, outer)
            live = run.live()
            if run.may_be(live):
                run.go_on(lambda: rest(number + 1))

        run.stopping([*outer, broken], lambda: rest(0))

    # ---- expressions -------------------------------------------------------------------------

    def value(self, frame: Frame, node: ast.expr) -> Any:
        """Of an expression."""
        act = getattr(self, f"_of_{type(node).__name__.lower()}", None)
        if act is None:
            raise NotSupported(f"{type(node).__name__} in {frame.function.__qualname__}")
        return self.run.seen(act(frame, node))

    def _of_constant(self, frame: Frame, node: ast.Constant) -> Any:
        return node.value

    def _of_name(self, frame: Frame, node: ast.Name) -> Any:
        if node.id in frame.names:
            return frame.names[node.id]
        function = frame.function
        if node.id in function.__code__.co_varnames:
            return UNBOUND
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            if name == node.id:
                return cell.cell_contents
        if node.id in function.__globals__:
            return function.__globals__[node.id]
        if hasattr(builtins, node.id):
            return getattr(builtins, node.id)
        return UNBOUND

    def _of_attribute(self, frame: Frame, node: ast.Attribute) -> Any:
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

    def _of_subscript(self, frame: Frame, node: ast.Subscript) -> Any:
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

    def _of_tuple(self, frame: Frame, node: ast.Tuple) -> tuple[Any, ...]:
        return tuple(self.value(frame, one) for one in node.elts)

    def _of_list(self, frame: Frame, node: ast.List) -> list[Any]:
        return [self.value(frame, one) for one in node.elts]

    def _of_unaryop(self, frame: Frame, node: ast.UnaryOp) -> Any:
        value = self.value(frame, node.operand)
        if isinstance(node.op, ast.Not):
            truth = negated(self.run.truth(value))
            return truth if isinstance(truth, bool) else Truth(self.run, truth)
        operand = self._operand(value)
        if isinstance(node.op, ast.USub):
            return -operand
        return ~operand if isinstance(node.op, ast.Invert) else operand

    def _of_binop(self, frame: Frame, node: ast.BinOp) -> Any:
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
        low, high = bounds_of(two)
        if act in (operator.lshift, operator.rshift) and low < 0:
            if high < 0:
                self.run.owe(False, "a shift may be negative")
                return 0
            self.run.owe(two.term >= 0, "a shift may be negative")
            two = Word(self.run, two.term, 0, high)
        if act in (operator.floordiv, operator.mod) and low <= 0:
            raise NotSupported("a division by what may be 0 or less")
        return act(one, two)

    def _of_compare(self, frame: Frame, node: ast.Compare) -> Any:
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

    def _of_boolop(self, frame: Frame, node: ast.BoolOp) -> Any:
        join = self._both if isinstance(node.op, ast.And) else self._either

        def from_(number: int) -> Any:
            said = self.value(frame, node.values[number])
            return said if number + 1 == len(node.values) else join(said, lambda: from_(number + 1))

        return from_(0)

    def _of_ifexp(self, frame: Frame, node: ast.IfExp) -> Any:
        test = self.run.truth(self.value(frame, node.test))
        return self.run.choose(test, lambda: self.value(frame, node.body), lambda: self.value(frame, node.orelse))

    def _of_call(self, frame: Frame, node: ast.Call) -> Any:
        if isinstance(node.func, ast.Name) and node.func.id == "super" and not node.args:
            return super(_class_of(frame.function), next(iter(frame.names.values())))
        function = self.value(frame, node.func)
        if any(isinstance(one, ast.Starred) for one in node.args) or any(one.arg is None for one in node.keywords):
            raise NotSupported("a call with * or **")
        args = [self.value(frame, one) for one in node.args]
        if isinstance(function, _Bound):
            return function.bit_length(self.run)
        return self.call(function, args, {str(one.arg): self.value(frame, one.value) for one in node.keywords})

    def _of_generatorexp(self, frame: Frame, node: ast.GeneratorExp) -> Lazy:
        (loop,) = node.generators
        inner = Frame(frame.function)
        inner.names = dict(frame.names)  # its own names are not seen outside
        source = self.value(frame, loop.iter)

        def produce(consumer: Callable[[Any], None]) -> None:
            for item, condition in list(self._items(source)):
                self.assign(inner, loop.target, item)
                wanted = condition
                for test in loop.ifs:
                    wanted = both(wanted, self.run.truth(self.value(inner, test)))
                self.run.choose(wanted, lambda: consumer(self.value(inner, node.elt)), nothing)

        return Lazy(inner, produce)

    # ---- built-in functions ------------------------------------------------------------------

    def extreme(self, least: bool, values: Sequence[Any]) -> Any:
        """min and max of integers; of equal ones it does not matter which."""
        if len(values) < 2:
            raise NotSupported("min or max of one argument")
        best = self._operand(values[0])
        for value in values[1:]:
            other = self._operand(value)
            (low, high), (down, up) = bounds_of(best), bounds_of(other)
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
                self.run.choose(condition, lambda item=item: add(item), nothing)  # type: ignore[misc]
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
    """A range of which a bound is open."""

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


__all__ = ["Merged", "NotSupported"]
