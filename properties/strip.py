"""A heap, step by step, as strips of text: address runs across, time runs down.

    1  a = alloc 24          |AAA.............|
    2  b = alloc 100         |AAABBBBBBBBBBBBB|

A letter is a live object, ``.`` is free, ``#`` is where two objects overlap.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from heaplaw.checker import Checker, Hang, Unusable
from heaplaw.lawbook import LAWS, Broken
from heaplaw.operations import Operation, birth_name
from heaplaw.trace import render

from .watchdog import watchdog

WIDTH = 48  # columns of a strip
_MOST_STEPS, _MOST_SPACES, _MOST_WORDS = 40, 8, 60
_SECONDS = (0.5, 0.004)  # CPU time for a picture: at least, and for each operation
State = dict[int, tuple[str, Sequence[tuple[int, int, int]]]]
"""Name -> (letters, extents) of each live object."""


def strips(build: Callable[[], Any], operations: Sequence[Operation], width: int = WIDTH) -> list[str]:
    """One line for each operation; the last forty of a long trace.  A call that does not return is said so."""
    checker = Checker(build(), mute=LAWS)
    span = checker.contract.arena or (checker.source.total * checker.page_size if checker.source is not None else 0)
    states, marks = _watched(checker, operations)
    used = max((a + n for state in states for _, pieces in state.values() for _, a, n in pieces), default=0)
    span = min(span, _round_up(used)) if used else span
    first = len(operations) - len(states)
    text = [render(op) for op in operations[first:]]
    margin = min(max(map(len, text), default=0), 36)
    lines = []
    for index, (line, state, mark) in enumerate(zip(text, states, marks, strict=True), first):
        spaces = sorted({p[0] for _, ps in state.values() for p in ps} or {0})[:_MOST_SPACES]
        for number, space in enumerate(spaces):
            label = f"{index + 1:>3}  {line[:margin]:<{margin}}" if not number else " " * (margin + 5)
            lines.append(f"{label} |{_strip(state.values(), space, span, width)}|{'' if number else mark}")
    if first or len(lines) > _MOST_STEPS:
        return [f"     ... {first + max(0, len(lines) - _MOST_STEPS)} lines before", *lines[-_MOST_STEPS:]]
    return lines


def _watched(checker: Checker, operations: Sequence[Operation]) -> tuple[list[State], list[str]]:
    """What was live after each of the last operations, and how those ended that did not end well."""
    states: list[State] = []
    marks: list[str] = []
    shown = len(operations) - _MOST_STEPS
    with suppress(Hang), watchdog(_SECONDS[0] + _SECONDS[1] * len(operations)):
        for index, op in enumerate(operations):
            known = checker.problem
            with suppress(Broken, Unusable):
                checker.step(op)
            if index >= shown:
                states.append({b.name: (birth_name(b.name), b.extents) for b in checker.shadow.live.values()})
                marks.append("" if checker.problem == known else f"  {checker.problem}"[:_MOST_WORDS])
    missing = min(len(operations), _MOST_STEPS) - len(states)
    return states + [states[-1] if states else {}] * missing, marks + ["  a hang"] * missing


def _strip(objects: Any, space: int, span: int, width: int) -> str:
    cells = ["."] * min(width, max(1, span))
    scale = max(1, span) / len(cells)

    def paint(start: int, end: int, letter: str) -> None:
        low, high = int(start / scale), max(int(start / scale) + 1, round(end / scale))
        for cell in range(max(0, low), min(high, len(cells))):
            cells[cell] = letter

    pieces = [(s, at, n, name[-1].upper()) for name, extents in objects for s, at, n in extents]
    here = sorted((at, at + n, letter) for s, at, n, letter in pieces if s == space and n > 0)
    for start, end, letter in here:
        paint(start, end, letter)
    reach = 0
    for start, end, _ in here:  # last, so that an overlap of one byte is seen
        if start < reach:
            paint(start, min(end, reach), "#")
        reach = max(reach, end)
    return "".join(cells)


def _round_up(used: int) -> int:
    """A span a little above what is used, in steps that the eye can count."""
    step = 1 << max(4, used.bit_length() - 3)
    return -(-used // step) * step
