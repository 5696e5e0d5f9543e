"""What a reader gives, and the bookkeeping that all readers share.

A recording names objects by address, a trace by birth.  Real recordings are
imperfect: they begin in the middle (frees of objects never seen) and recorders
drop events (an address handed out twice).  ``Recorder`` turns such a stream
into a trace in which every free has its allocation, and counts what it mended:

- a free of an address that is not live is skipped, ``unknown_frees``;
- an address allocated again while live means that its free was lost: the old
  object is freed just before the new one is born, ``lost_frees``;
- what is never freed stays live at the end, ``never_freed``.

>>> recorder = Recorder()
>>> recorder.freed(0x10)                            # born before the recording
>>> recorder.allocated(0x20, 24), recorder.allocated(0x20, 32)
(0, 2)
>>> recording = recorder.finish("some.file", "by hand", 3)
>>> recording.unknown_frees, recording.lost_frees, recording.never_freed
(1, 1, 1)
>>> print(recording.trace, end="")
heaplaw trace 1
source by hand
1  a = alloc 24
2  free a
3  b = alloc 32
"""

import os
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field

from heaplaw.operations import Kind, Operation
from heaplaw.trace import Trace

from .lines import RecordingError

_ALLOC, _FREE, _REALLOC, _ON_CPU = Kind.ALLOC, Kind.FREE, Kind.REALLOC, Kind.ON_CPU
SHOWN = 160  # characters of a header value; command lines can be pages long


@dataclass
class Recording:
    """A recorded run as a trace, and what reading it met.

    ``rounded`` (kmalloc) and ``chunks`` (percpu) are keyed by operation index, as
    ``trace.answers`` is; they hold what the kernel said beside the answer.
    """

    trace: Trace
    format: str  # "heaptrack raw 3", "ftrace pages", "mtrace" ...
    lines: int = 0  # of the file
    unknown_frees: int = 0  # of objects from before the recording; skipped
    lost_frees: int = 0  # missing from the recording; put back just before the address's reuse
    never_freed: int = 0  # objects alive at the end
    ignored: dict[str, int] = field(default_factory=dict)  # kind of line -> how many
    rounded: dict[int, int] = field(default_factory=dict)  # -> bytes really set aside
    chunks: dict[int, int] = field(default_factory=dict)  # -> which chunk, by first appearance


class Recorder:
    """Turns events about addresses into operations on objects named by birth."""

    __slots__ = ("answers", "births", "ignored", "live", "lost_frees", "operations", "unknown_frees")

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.answers: dict[int, int] = {}
        self.live: dict[Hashable, int] = {}  # address -> name
        self.ignored: Counter[str] = Counter()
        self.births = self.unknown_frees = self.lost_frees = 0

    def allocated(self, address: Hashable, size: int, align: int = 1, mode: int = 0) -> int:
        """An object of ``size`` bytes came to live at ``address``; index of its ALLOC.  O(1)."""
        operations, live = self.operations, self.live
        if address in live:
            self._lost(address)
        name = live[address] = self.births
        self.births = name + 1
        operations.append(Operation(_ALLOC, name, size, align, mode))
        return len(operations) - 1

    def freed(self, address: Hashable) -> None:
        """The object at ``address`` was freed.  O(1)."""
        name = self.live.pop(address, None)
        if name is None:
            self.unknown_frees += 1
        else:
            self.operations.append(Operation(_FREE, name))

    def resized(self, old: Hashable, new: Hashable, size: int) -> None:
        """The object at ``old`` now lives at ``new``; one never seen is born here.  O(1)."""
        name = self.live.pop(old, None)
        if name is None:
            self.unknown_frees += 1
            self.allocated(new, size)
            return
        if new in self.live:
            self._lost(new)
        self.live[new] = name
        self.operations.append(Operation(_REALLOC, name, size))

    def on_cpu(self, cpu: int) -> None:
        """What follows happened on this CPU."""
        self.operations.append(Operation(_ON_CPU, mode=cpu))

    def _lost(self, address: Hashable) -> None:
        self.lost_frees += 1
        self.operations.append(Operation(_FREE, self.live.pop(address)))

    def finish(
        self,
        path: str | os.PathLike[str],
        form: str,
        lines: int,
        *,
        origin: str = "",
        header: dict[str, str] | None = None,
    ) -> Recording:
        """The recording of format ``form``, with ``origin`` (a command line) in the trace's header.

        Raises RecordingError when nothing was allocated.
        """
        if not self.births:
            raise RecordingError(path, lines, f"no allocation in this recording ({form})")
        source = header_value(f"{form}, {origin}" if origin else form)
        trace = Trace(self.operations, {"source": source, **(header or {})}, self.answers)
        return Recording(
            trace,
            form,
            lines=lines,
            unknown_frees=self.unknown_frees,
            lost_frees=self.lost_frees,
            never_freed=len(self.live),
            ignored=dict(self.ignored),
        )


def header_value(text: str) -> str:
    """``text`` so that a trace's header line carries it unchanged: one line, no comment sign.

    >>> header_value("sh -c  'ls #tmp'")
    "sh -c 'ls %23tmp'"
    """
    plain = " ".join(text.split()).replace("#", "%23")
    plain = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in plain)
    return plain if len(plain) <= SHOWN else plain[: SHOWN - 4].rstrip() + " ..."
