"""Crumbs: what a process was doing when it was lost.

Each operation is written into a file mapped into memory *before* it is done, so that it can be read there
whatever becomes of the process.  Writing costs about a microsecond, a checked operation twenty and more.

>>> import tempfile
>>> from pathlib import Path
>>> with tempfile.TemporaryDirectory() as place:
...     recorder = Recorder(Path(place, "crumb"))
...     recorder.note(0, Operation(1, 0, 24))
...     recorder.note(1, Operation(2, 0))
...     gather(Path(place, "crumb"))
['a = alloc 24', 'free a']
"""

import mmap
from collections.abc import Sequence
from contextlib import suppress
from io import BytesIO
from marshal import dumps, load
from pathlib import Path
from struct import Struct

from heaplaw.checker import Checker
from heaplaw.operations import Operation
from heaplaw.trace import MAGIC, Trace, TraceError, render

_ROOM = 1 << 19  # bytes; a run of some hundred operations has ten thousand
_FRONT = 16  # bytes at the front: how many are used, and how many operations the run has begun, eight each
_NUMBERS = Struct("<QQ")


class Recorder:
    """Writes the operations of the run that is under way."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("w+b") as file:
            file.truncate(_ROOM)
            self._map = mmap.mmap(file.fileno(), _ROOM)
        self._used = _FRONT
        self._owner: object = None

    def note(self, index: int, op: Operation, owner: object = None) -> None:
        """The operation that is about to be done, by its place in its run; 0 begins another run.

        What is longer than the file begins at the front again: better the end than nothing.
        """
        if index == 0:
            self._used, self._owner = _FRONT, owner
        elif owner is not self._owner:
            return  # a run beside the one that began last
        kind, name, size, align, mode = op
        crumb = dumps((int(kind), name, size, align, mode), 2)  # four times as fast as a line of text
        start, room = self._used, self._map
        end = start + len(crumb)
        if end > _ROOM:
            start, end = _FRONT, _FRONT + len(crumb)
        room[start:end] = crumb
        room[:_FRONT] = _NUMBERS.pack(end, index + 1)
        self._used = end

    def forget(self) -> None:
        """Nothing is under way."""
        self._used, self._owner = _FRONT, None
        self._map[:_FRONT] = _NUMBERS.pack(_FRONT, 0)

    def moves(self) -> bytes:
        """Something else after each operation, of whatever process notes them here."""
        return self._map[:_FRONT]

    @property
    def count(self) -> int:
        """Operations that the run under way has begun, though the file may hold only the last of them."""
        begun: int = _NUMBERS.unpack(self._map[:_FRONT])[1]
        return begun

    def operations(self) -> list[Operation]:
        """Those that are noted."""
        return operations(gather(self._path))

    def watch(self) -> None:
        """Note every operation that a checker of this process does from now on."""
        step, note = Checker.step, self.note

        def noted(checker: Checker, op: Operation) -> None:
            note(checker.index + 1, op, checker)
            step(checker, op)

        Checker.step = noted  # type: ignore[method-assign, assignment]  # all engines go through it, and none need know


def gather(path: Path) -> list[str]:
    """The operations that a crumb file holds, as lines of a trace; none where there is no such file."""
    try:
        data = path.read_bytes()
    except OSError:
        return []
    end = int.from_bytes(data[: _FRONT // 2], "little")
    stream, lines = BytesIO(data[_FRONT:end]), []
    with suppress(EOFError, ValueError, TypeError, KeyError):  # the end, or what was being written
        while True:
            lines.append(render(Operation(*load(stream))))
    return lines


def operations(lines: Sequence[str]) -> list[Operation]:
    """Those lines as operations; none where they cannot be read."""
    try:
        return Trace.parse([MAGIC, *lines]).operations
    except TraceError:
        return []
