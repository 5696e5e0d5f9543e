"""A heap, step by step, as strips of text: address runs across, time runs down.

                             0             16 bytes
      1  a = alloc 3        |AAA.............|
      2  b = alloc 14       |AA#BBBBBBBBBBBBB|  <-- disjoint
                               ^

A letter is a live object, ``.`` is free, ``#`` is where two objects overlap.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from heaplaw.operations import Operation
from heaplaw.runs import Violation

from .frames import MOST, Film, Frame, Piece, clashes, frames, places

WIDTH = 48  # columns of a strip
_MOST_SPACES, _MOST_WORDS, _MARGIN = 8, 60, 36


def strips(
    build: Callable[[], Any], operations: Sequence[Operation], width: int = WIDTH, found: Violation | None = None
) -> list[str]:
    """The addresses of both ends, then one line for each operation; the last forty of a long trace.

    A call that does not return is said so.  ``found``: what the last operation breaks; it is marked.
    """
    film = frames(build, operations, look=False)
    used = max((piece.start + piece.length for frame in film.frames for piece in frame.live), default=0)
    span = min(film.span, _round_up(used)) if used else film.span
    margin = min(max((len(frame.text) for frame in film.frames), default=0), _MARGIN)
    lines: list[str] = []
    for frame in film.frames:
        told = f"  {frame.problem}"[:_MOST_WORDS] if frame.problem else ""
        last = found if frame is film.frames[-1] else None
        label = f"{frame.number:>3}  {frame.text[:margin]:<{margin}}"
        lines += _step(frame, label, span, width, told, last, film)
    cut = film.before + max(0, len(lines) - MOST)
    return [
        *([f"     ... {cut} lines before"] if cut else []),
        *([_axis(margin + 6, span, width)] if lines else []),
        *lines[-MOST:],
    ]


def _step(
    frame: Frame, label: str, span: int, width: int, told: str, found: Violation | None, film: Film
) -> list[str]:
    """A strip for each space in which something lives; the addresses that a broken law is about are pointed at."""
    about = places(f"{found.expected}; {found.seen}", film.page_size or 4096) if found else []
    about = clashes(about) or about
    told += f"  <-- {found.law}" if found else ""
    lines = []
    for space in sorted({piece.space for piece in frame.live} or {0})[:_MOST_SPACES]:
        lines.append(f"{label} |{_strip(frame.live, space, span, width)}|{told}")
        label, told = " " * len(label), ""
        here = [Piece("^", *place) for place in about if place.space == space]
        carets = _strip(here, space, span, width).replace("#", "^").replace(".", " ").rstrip()
        if carets and " " in carets.ljust(_cells(span, width)):  # all of it would say nothing
            lines.append(f"{label}  {carets}")
    return lines


def _axis(margin: int, span: int, width: int) -> str:
    """The addresses of both ends."""
    return f"{'':{margin}} 0{span:>{max(len(str(span)) + 1, _cells(span, width) - 1)}} bytes"


def _cells(span: int, width: int) -> int:
    return min(width, max(1, span))


def _strip(pieces: Iterable[Piece], space: int, span: int, width: int) -> str:
    cells = ["."] * _cells(span, width)
    scale = max(1, span) / len(cells)

    def paint(start: int, end: int, letter: str) -> None:
        low, high = int(start / scale), max(int(start / scale) + 1, round(end / scale))
        for cell in range(max(0, low), min(high, len(cells))):
            cells[cell] = letter

    found = ((piece.start, piece.start + piece.length, piece.name[-1].upper(), piece.space) for piece in pieces)
    here = sorted((start, end, letter) for start, end, letter, where in found if where == space and end > start)
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
