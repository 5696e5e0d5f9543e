"""Readers of recorded allocations; each gives an ordinary trace.

    read_recording("sqlite.heaptrack.raw.zst")

tells the format from the contents: heaptrack raw, ftrace text (kmem and percpu
events), glibc mtrace, lists of placements, and heaplaw's own trace files; plain,
gzip or zstd.

>>> import pathlib, tempfile
>>> folder = tempfile.TemporaryDirectory()
>>> path = pathlib.Path(folder.name, "any-name")
>>> _ = path.write_text("v 10400 3\\n+ 18 1 ffa0\\n- ffa0\\n- ffc0\\n")
>>> recording = read_recording(path)
>>> recording.format, len(recording.trace.operations), recording.unknown_frees
('heaptrack raw 3', 2, 1)
>>> folder.cleanup()
"""

import itertools
import os
from collections.abc import Iterator

from heaplaw.operations import Kind
from heaplaw.trace import MAGIC, Trace, TraceError

from . import ftrace, heaptrack, mtrace, placements
from .lines import Lines, RecordingError, lines
from .recording import Recorder, Recording

__all__ = ["OWN_FORMAT", "Recorder", "Recording", "RecordingError", "lines", "read_recording"]

OWN_FORMAT = "heaplaw trace"
HEAD = 64  # lines that are looked at to tell the format
KNOWN = "heaptrack raw, ftrace text, mtrace, placements, heaplaw trace"


def read_recording(
    path: str | os.PathLike[str], *, family: str = "", cpus: bool = False, page_size: int = 4096
) -> Recording:
    """Read a recording of any known format.

    The options concern ftrace only: which ``family`` of events (slab, pages, percpu;
    "" is the only one there is), whether changes of the CPU become operations, and
    the recorded machine's page size in bytes.  Raises RecordingError, whose text is
    one line, for anything that is no readable recording; ValueError for an unknown
    family.  O(lines).
    """
    ftrace.check_family(family)
    source = lines(path)
    head = list(itertools.islice(source, HEAD))
    texts = [line for _, line in head]
    if not any(map(str.strip, texts)):
        raise RecordingError(path, 0, "the file is empty")
    whole = itertools.chain(head, source)
    if texts[0].split("#", 1)[0].strip() == MAGIC:
        return _read_trace(path, whole)
    for reader in (heaptrack, mtrace, placements):
        if reader.looks_like(texts):
            return reader.read(path, whole)
    if ftrace.looks_like(texts):
        return ftrace.read(path, whole, family=family, cpus=cpus, page_size=page_size)
    shown = texts[0][:40]
    raise RecordingError(path, 1, f"not a recording in a known format ({KNOWN}): it begins with {shown!r}")


def _read_trace(path: str | os.PathLike[str], source: Lines) -> Recording:
    """heaplaw's own file.  What it frees it has allocated, so there is nothing to mend."""
    count = 0

    def texts() -> Iterator[str]:
        nonlocal count
        for count, line in source:  # noqa: B007
            yield line

    try:
        trace = Trace.parse(texts())
    except TraceError as problem:
        raise RecordingError(path, problem.line, problem.problem) from None
    born = {operation.name for operation in trace.operations if operation.kind == Kind.ALLOC}
    if not trace.operations:
        raise RecordingError(path, count, "no operation in this trace")
    freed = {operation.name for operation in trace.operations if operation.kind == Kind.FREE}
    return Recording(trace, OWN_FORMAT, lines=count, never_freed=len(born - freed))
