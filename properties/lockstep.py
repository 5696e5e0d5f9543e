"""Model against reality: two implementations do the same operations, and all they hold is compared each time.

Both sides are asked for the same numbers, kind by kind, in one layout; the first operation after which an
answer or a number differs ends the run.  Operations are random in phases (what is asked for, how often
something is freed, which flags), and come in episodes, each on fresh heaps of one of several shapes, so that a
difference is found in a trace of bounded length and can be made small.

>>> class Counter:
...     def __init__(self, step): self.step, self.sum = step, 0
...     def do(self, operation): self.sum += self.step; return 0
...     def numbers(self): return {"sum": [self.sum]}
...     def words(self, kind): return ("sum",)
...     def destroy(self): pass
>>> one, two = Counter(1), Counter(2)
>>> print(compare(one, two, [Operation(Kind.MAINTAIN, mode="balance")]))
after operation 1, maintain balance: sum[0] sum: 1 and 2
"""

import random
import struct
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from heaplaw import Refusal
from heaplaw.operations import ATOMIC, Kind, Operation
from heaplaw.trace import render

from .minimize import minimize

Numbers = Mapping[str, "list[int] | bytes"]


class Side(Protocol):
    """One of the two."""

    def do(self, operation: Operation) -> Any: ...  # its answer; objects that do not exist are passed over

    def numbers(self) -> Numbers: ...  # by kind, equal where the two hold the same

    def words(self, kind: str) -> Sequence[str]: ...  # names of the columns of a kind

    def destroy(self) -> None: ...


class Apart(NamedTuple):
    """Where the two first differ: after operation ``at`` (from 0) in ``what``."""

    at: int
    operation: Operation
    what: str
    one: Any
    two: Any

    def __str__(self) -> str:
        return f"after operation {self.at + 1}, {render(self.operation)}: {self.what}: {self.one} and {self.two}"


class Shape(NamedTuple):
    """What requests are drawn from: parameters of both sides, and what is worth asking for."""

    parameters: Mapping[str, int]
    largest: int  # bytes
    block: int
    groups: int = 0
    live: int = 200  # objects at most, or thereabouts
    maintenance: tuple[str, ...] = ("balance",)


@dataclass
class Course:
    """What many episodes came to."""

    operations: int = 0
    episodes: int = 0
    apart: Apart | None = None
    shape: Shape | None = None  # of the episode in which they differ
    trace: tuple[Operation, ...] = ()  # its operations, up to the one after which they differ


Make = Callable[[Shape], tuple[Side, Side]]
"""What makes both for a shape."""


# ---- one step ------------------------------------------------------------------------------------------


def compare(one: Side, two: Side, operations: Iterable[Operation]) -> Apart | None:
    """Do all operations on both; where they first differ.  O(what both hold) an operation."""
    for at, operation in enumerate(operations):
        found = step(one, two, at, operation)
        if isinstance(found, Apart):
            return found
    return None


def step(one: Side, two: Side, at: int, operation: Operation) -> Any:
    """Do one operation on both: the answer of both, or where they differ."""
    said, answered = one.do(operation), two.do(operation)
    if said != answered:
        return Apart(at, operation, "answer", said, answered)
    holds, shows = one.numbers(), two.numbers()
    if holds == shows:
        return said
    return Apart(at, operation, *_first_difference(one, holds, shows))


def _first_difference(side: Side, holds: Numbers, shows: Numbers) -> tuple[str, Any, Any]:
    """(what, value of one, value of two) of the first word that differs."""
    for kind, mine in holds.items():
        left, right = _as_list(mine), _as_list(shows[kind])
        if left == right:
            continue
        columns = side.words(kind)
        at = next((i for i, pair in enumerate(zip(left, right, strict=False)) if pair[0] != pair[1]), None)
        if at is None:
            return f"number of words of {kind}", len(left), len(right)
        row, column = divmod(at, len(columns))
        key = "".join(f", {name} {left[row * len(columns) + i]}" for i, name in enumerate(columns[:2]) if i < column)
        return f"{kind}[{row}] {columns[column]}{key}", left[at], right[at]
    return "kinds", list(holds), list(shows)


def _as_list(words: "list[int] | bytes") -> list[int]:
    return list(struct.unpack(f"<{len(words) // 8}q", words)) if isinstance(words, bytes) else words


def packed(words: "list[int] | bytes") -> bytes:
    """Signed words as the bytes that native code writes."""
    return words if isinstance(words, bytes) else array("q", words).tobytes()


# ---- many --------------------------------------------------------------------------------------------------


def random_course(
    make: Make,
    shapes: Sequence[Shape],
    operations: int,
    seed: int,
    episode: int = 5000,
    late: Callable[[], bool] = lambda: False,
) -> Course:
    """Go through ``shapes`` in turn, ``episode`` operations each, until so many were done or two sides differ."""
    course = Course()
    while course.operations < operations and not late():
        shape = shapes[course.episodes % len(shapes)]
        rng = random.Random(f"{seed}/{course.episodes}")
        course.episodes += 1
        one, two = make(shape)
        try:
            done, found = _one_episode(one, two, shape, rng, min(episode, operations - course.operations))
        finally:
            one.destroy()
            two.destroy()
        course.operations += len(done)
        if found is not None:
            course.apart, course.shape, course.trace = found, shape, tuple(done)
            break
    return course


def _one_episode(
    one: Side, two: Side, shape: Shape, rng: random.Random, count: int
) -> tuple[list[Operation], Apart | None]:
    done: list[Operation] = []
    live: list[int] = []
    for operation in requests(shape, rng, live):
        done.append(operation)
        found = step(one, two, len(done) - 1, operation)
        if isinstance(found, Apart):
            return done, found
        if operation.kind == Kind.ALLOC and not isinstance(found, Refusal) and found is not None:
            live.append(operation.name)
        if len(done) >= count:
            break
    return done, None


def requests(shape: Shape, rng: random.Random, live: list[int]) -> Iterator[Operation]:
    """Endless operations in phases; the caller adds to ``live`` what was served, frees are taken from there."""
    born = 0
    while True:
        wants = rng.choice((0.25, 0.45, 0.5, 0.55, 0.75, 0.95))
        draw, odd = _sizes(shape, rng), rng.choice((0.0, 0.0, 0.1, 0.4))
        atomic, group = rng.choice((0.0, 0.0, 0.2, 0.8)), rng.choice((0.0, 0.1, 0.6)) if shape.groups else 0.0
        for _ in range(rng.randint(10, 300)):
            if rng.random() < 0.01:
                yield Operation(Kind.MAINTAIN, mode=rng.choice(shape.maintenance))
            elif live and (rng.random() >= wants or len(live) > shape.live):
                at = rng.choice((0, -1, rng.randrange(len(live)), rng.randrange(len(live))))
                yield Operation(Kind.FREE, live.pop(at))
            else:
                align = 1 << rng.randint(0, shape.block.bit_length()) if rng.random() < odd else 1
                mode = (ATOMIC if rng.random() < atomic else 0) | (2 if rng.random() < group else 0)
                yield Operation(Kind.ALLOC, born, draw(), align, mode)
                born += 1


def _sizes(shape: Shape, rng: random.Random) -> Callable[[], int]:
    """How a phase draws sizes: one size, small ones, any octave, or around a block."""
    kind = rng.randrange(5)
    octaves = shape.largest.bit_length()
    if kind == 0:
        size = rng.randint(1, min(shape.largest, 2 * shape.block))
        return lambda: size
    if kind == 1:
        return lambda: rng.randint(1, 64)
    if kind == 2:
        return lambda: rng.randint(0, (1 << rng.randint(1, octaves)) + 8)
    if kind == 3:
        return lambda: max(0, shape.block * rng.randint(1, 3) // rng.choice((1, 2, 4)) + rng.randint(-8, 8))
    return lambda: rng.randint(1, shape.block)


# ---- made small ------------------------------------------------------------------------------------------


def smallest(make: Make, course: Course) -> tuple[list[Operation], Apart]:
    """A difference that was found, as small as the minimiser makes it, and where the two are apart then.

    Raises ValueError if there is none.
    """
    shape = course.shape
    if shape is None or course.apart is None:
        raise ValueError("they are not apart")

    def apart(operations: list[Operation]) -> Apart | None:
        one, two = make(shape)
        try:
            return compare(one, two, operations)
        finally:
            one.destroy()
            two.destroy()

    small = minimize(list(course.trace), lambda operations: apart(operations) is not None)
    found = apart(small)
    assert found is not None
    return small, found
