"""glibc's mtrace: a log of malloc, realloc and free, one line each.

Since 1991 a program that calls ``mtrace()`` writes to the file that the
environment variable ``MALLOC_TRACE`` names (since glibc 2.34 only with
``LD_PRELOAD=libc_malloc_debug.so.0``)::

    = Start
    @ ./sort:(main+0x1d)[0x11c0] + 0x5557b61c92a0 0x10     malloc, calloc, memalign
    @ ./sort:(main+0x41)[0x121c] < 0x5557b61c92a0          realloc, the old address
    @ ./sort:(main+0x41)[0x121c] > 0x5557b61c9940 0x3c     ... and the new one with the size
    @ ./sort:(main+0x5f)[0x127b] ! 0x5557b61c9940 0xffff   realloc that failed; nothing changed
    @ ./sort:(main+0x7c)[0x12b6] - 0x5557b61c9940          free
    = End

Source: glibc's ``malloc/mtrace-impl.c``.  A pair ``<`` ``>`` becomes one REALLOC of
the same object, also when it moved.  Requests that failed, ``+ (nil)`` and ``!``,
are counted in ``ignored``: they left the heap as it was.  Alignment is not
recorded, and addresses are no answer to compare with.

>>> import pathlib, tempfile
>>> folder = tempfile.TemporaryDirectory()
>>> path = pathlib.Path(folder.name, "tiny.mtrace")
>>> _ = path.write_text("= Start\\n@ ./a:[0x1] + 0xa0 0x10\\n@ ./a:[0x2] < 0xa0\\n@ ./a:[0x2] > 0xf0 0x40\\n")
>>> print(read(path).trace, end="")
heaplaw trace 1
source mtrace
1  a = alloc 16
2  realloc a 64
>>> folder.cleanup()
"""

import os
import re
from collections.abc import Sequence

from . import lines as packing
from .lines import Lines, RecordingError
from .recording import Recorder, Recording

_EVENT = re.compile(r"(?:@ .* )?([-+<>!]) (0x[0-9a-f]{1,16}|\(nil\))(?: (0x[0-9a-f]{1,16}|0))?\s*")
_NULL = "(nil)"


def looks_like(head: Sequence[str]) -> bool:
    """Do these first lines begin an mtrace log?"""
    return bool(head) and (head[0].rstrip() == "= Start" or (head[0][:2] == "@ " and bool(_event(head[0]))))


def _event(line: str) -> tuple[str, str, str | None] | None:
    found = _EVENT.fullmatch(line)
    if found is None or (found[3] is None) != (found[1] in "-<"):
        return None
    return found[1], found[2], found[3]


def read(path: str | os.PathLike[str], source: Lines | None = None) -> Recording:
    """Read an mtrace log; ``source`` are its lines if they were opened already.

    Raises RecordingError when it holds no allocation or half of a realloc.  O(lines).
    """
    source = source or packing.lines(path)
    recorder = Recorder()
    ignored = recorder.ignored
    number, old = 0, ""  # the address of a realloc whose second half is due
    for number, line in source:
        event = _event(line)
        if event is None:
            ignored["marker" if line[:2] == "= " else "other"] += 1
            continue
        kind, address, length = event
        size = int(length or "0", 16)
        if bool(old) != (kind == ">"):
            raise RecordingError(path, number, "half of a realloc: '<' and '>' must follow each other")
        if kind == "+" and address != _NULL:
            recorder.allocated(address, size)
        elif kind == "-":
            recorder.freed(address)
        elif kind == "<":
            old = address
        elif kind == ">":
            recorder.resized(old, address, size)
            old = ""
        else:
            ignored["failed realloc" if kind == "!" else "failed allocation"] += 1
    return recorder.finish(path, "mtrace", number)
