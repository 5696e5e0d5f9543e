"""Placements: where an allocator put every object of one arena.

A tab-separated list, for allocators whose answers are offsets in one known
stretch of memory.  It carries what a recording by ftrace does not, the geometry,
so a port of the allocator can be run over it and compared offset by offset::

    # One percpu chunk of Linux 6.18 ...: unit 1048576 bytes, minimum allocation 4, block 4096.
    # alloc SIZE ALIGN OFFSET | free OFFSET
    alloc   240     8       0
    free    0

``unit`` is the size of the arena, ``minimum allocation`` its granule and ``block``
the stretch that one metadata block describes (all in bytes); they become the
header lines ``unit``, ``granule`` and ``block`` of the trace, as far as the comment
names them, beside ``chunks 1`` and ``answers offset``.  The offsets become the recorded answers.

>>> import pathlib, tempfile
>>> folder = tempfile.TemporaryDirectory()
>>> path = pathlib.Path(folder.name, "tiny.tsv")
>>> _ = path.write_text("# A chunk: unit 64 bytes, minimum allocation 4\\nalloc\\t8\\t4\\t0\\nfree\\t0\\n")
>>> print(read(path).trace, end="")
heaplaw trace 1
source placements, A chunk
unit 64
granule 4
chunks 1
answers offset
1  a = alloc 8 align 4 -> 0
2  free a
>>> folder.cleanup()
"""

import os
import re
from collections.abc import Sequence

from . import lines as packing
from .lines import Lines, RecordingError
from .recording import Recorder, Recording

_GEOMETRY = {
    "unit": re.compile(r"\bunit (\d{1,18})\b"),
    "granule": re.compile(r"\bminimum allocation (\d{1,18})\b"),
    "block": re.compile(r"\bblock (\d{1,18})\b"),
}
_ALLOC = re.compile(r"alloc\s+(\d{1,18})\s+(\d{1,18})\s+(\d{1,18})\s*")
_FREE = re.compile(r"free\s+(\d{1,18})\s*")


def looks_like(head: Sequence[str]) -> bool:
    """Is the first line among these that is no comment a placement?"""
    first = next((line for line in head if line.strip() and line[0] != "#"), "")
    return bool(_ALLOC.fullmatch(first) or _FREE.fullmatch(first))


def read(path: str | os.PathLike[str], source: Lines | None = None) -> Recording:
    """Read a list of placements; ``source`` are its lines if they were opened already.

    Raises RecordingError for a line that is neither comment nor placement.  O(lines).
    """
    source = source or packing.lines(path)
    recorder = Recorder()
    answers = recorder.answers
    header: dict[str, str] = {}
    number, title = 0, ""
    for number, line in source:
        if found := _ALLOC.fullmatch(line):
            size, align, offset = map(int, found.groups())
            answers[recorder.allocated(offset, size, align)] = offset
        elif found := _FREE.fullmatch(line):
            recorder.freed(int(found[1]))
        elif line[:1] == "#" or not line.strip():
            recorder.ignored["comment"] += 1
            title = title or line.lstrip("# ").partition(":")[0]
            header = _geometry(line) | header  # the first mention counts
        else:
            wanted = "'alloc SIZE ALIGN OFFSET' or 'free OFFSET'"
            raise RecordingError(path, number, f"expected {wanted}, found {line[:60]!r}")
    ordered = {key: header[key] for key in _GEOMETRY if key in header}
    ordered |= {"chunks": "1", "answers": "offset"}
    return recorder.finish(path, "placements", number, origin=title, header=ordered)


def _geometry(comment: str) -> dict[str, str]:
    found = ((key, pattern.search(comment)) for key, pattern in _GEOMETRY.items())
    return {key: number[1] for key, number in found if number}
