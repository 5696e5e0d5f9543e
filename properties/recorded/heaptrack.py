"""heaptrack's raw recordings: what a program asked of malloc.

heaptrack (KDE, since 2014) writes one event a line, all numbers hexadecimal::

    v 10400 3          heaptrack 1.4.0, file format 3
    X jq . list.json   command line
    + 110 b 55cd86dbf260     allocation: size, call stack, address
    - 55cd86dbf260           free

Source: heaptrack's ``libheaptrack.cpp``, which writes the file, and
``heaptrack_interpret.cpp``, which reads it.  File formats 1 to 3 differ only in
strings that are not read here.  ``realloc`` is written as a free followed by an
allocation and therefore read so; alignment is not recorded.  Addresses are
those of one run's address space and no answer to compare with, so they are
left out of ``Trace.answers``.

What heaptrack writes by default has been *interpreted* already: its events name
call stacks instead of addresses, so objects can no longer be told apart.  Such
a file is refused; record with ``heaptrack --raw``.

>>> import pathlib, tempfile
>>> folder = tempfile.TemporaryDirectory()
>>> path = pathlib.Path(folder.name, "tiny.raw")
>>> _ = path.write_text("v 10400 3\\nX ls -l\\n+ 18 1 ffa0\\n- ffa0\\n")
>>> print(read(path).trace, end="")
heaplaw trace 1
source heaptrack raw 3, ls -l
1  a = alloc 24
2  free a
>>> folder.cleanup()
"""

import os
import re
from collections.abc import Sequence

from . import lines as packing
from .lines import Lines, RecordingError
from .recording import Recorder, Recording

NEWEST = 3  # file format
_VERSION = re.compile(r"v ([0-9a-f]{1,8})(?: ([0-9a-f]{1,8}))?\s*")
_ALLOC = re.compile(r"\+ ([0-9a-f]{1,16}) [0-9a-f]{1,16} ([0-9a-f]{1,16})\s*")
_FREE = re.compile(r"- ([0-9a-f]{1,16})\s*")
_BAD = frozenset("+-a")  # events that could not be read, and a line that only interpreted files have
_NAMES = {
    "A": "attached", "I": "system", "R": "resident size", "S": "suppression", "X": "command line",
    "c": "time", "m": "module", "t": "call stack", "x": "program", "#": "comment",
}  # fmt: skip


def looks_like(head: Sequence[str]) -> bool:
    """Do these first lines begin a heaptrack file?"""
    return bool(head) and _VERSION.fullmatch(head[0]) is not None


def read(path: str | os.PathLike[str], source: Lines | None = None) -> Recording:
    """Read a raw recording; ``source`` are its lines if they were opened already.

    Raises RecordingError for anything else, a newer file format and an interpreted
    file.  O(lines); memory grows with the operations.
    """
    source = source or packing.lines(path)
    number, line = next(source, (0, ""))
    version = _file_format(path, number, line)
    recorder = Recorder()
    allocated, freed, ignored = recorder.allocated, recorder.freed, recorder.ignored
    command = ""
    for number, line in source:
        if line[:1] == "+" and (found := _ALLOC.fullmatch(line)):
            allocated(found[2], int(found[1], 16))
        elif line[:1] == "-" and (found := _FREE.fullmatch(line)):
            freed(found[1])
        elif line[:1] not in _BAD:
            ignored[_NAMES.get(line[:1], "other")] += 1
            if line[:2] == "X ":
                command = line[2:]
        elif line[0] != "a" and next(source, None) is None:  # the program was killed while it wrote
            ignored["cut-off last line"] += 1
        else:
            raise RecordingError(path, number, _what_is_wrong(line))
    return recorder.finish(path, f"heaptrack raw {version}", number, origin=command)


def _file_format(path: str | os.PathLike[str], number: int, line: str) -> int:
    """1 to 3, from the first line."""
    found = _VERSION.fullmatch(line)
    if not number:
        raise RecordingError(path, 0, "the file is empty")
    if found is None:
        raise RecordingError(path, number, f"expected heaptrack's 'v VERSION FORMAT', found {line[:40]!r}")
    version = int(found[2] or "1", 16)  # the first releases wrote no format; it is called 1 since
    if not 1 <= version <= NEWEST:
        raise RecordingError(path, number, f"heaptrack file format {version}; known are 1 to {NEWEST}")
    return version


def _what_is_wrong(line: str) -> str:
    if line[:1] == "a" or (line[:1] == "+" and len(line.split()) == 2):
        return "interpreted by heaptrack, addresses are lost; record with 'heaptrack --raw'"
    return f"expected '+ SIZE TRACE ADDRESS' or '- ADDRESS' in hexadecimal, found {line[:60]!r}"
