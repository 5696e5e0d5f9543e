"""Per-CPU mapping areas: one buffer a CPU, through which one object at a time is seen.

What zsmalloc and afmalloc share.  An object in pieces is copied into the buffer of the CPU
that maps it, and copied back when that CPU unmaps it; one that lies in one piece needs no
buffer.  A CPU has one mapping at a time, as in the kernel, where preemption is off meanwhile;
there nothing notices a second one, which overwrites the first.  Here it is an error.

>>> areas = MappingAreas(cpus=2, size=64)
>>> areas.open(1, 640, "rw", True).buffer[:2] = b"hi"
>>> bytes(areas.of(640).buffer[:2]), areas.of(8)
(b'hi', None)
>>> areas.close(1, 640).mode
'rw'
"""

from typing import Any


class Mapping:
    """An object that is mapped: its handle, "ro", "wo" or "rw", the buffer if it is seen through one."""

    __slots__ = ("buffer", "handle", "length", "mode")

    def __init__(self, handle: Any, mode: str, buffer: bytearray | None, length: int) -> None:
        self.handle, self.mode, self.buffer, self.length = handle, mode, buffer, length


class MappingAreas:
    """The areas of all CPUs; buffers of ``size`` bytes.  Every operation is O(CPUs) or better."""

    __slots__ = ("_buffers", "_open", "busy", "size")

    def __init__(self, cpus: int, size: int) -> None:
        self.size = size
        self.busy = 0  # CPUs that have a mapping
        self._open: list[Mapping | None] = [None] * cpus
        self._buffers: list[bytearray | None] = [None] * cpus  # made when first used

    def open(self, cpu: int, handle: Any, mode: str, buffered: bool, length: int = 0) -> Mapping:
        """Begin a mapping; the buffer holds whatever it held last.  Raises ValueError if there is one."""
        if mode not in ("ro", "wo", "rw"):
            raise ValueError(f"an object is mapped 'ro', 'wo' or 'rw', not {mode!r}")
        if self._open[cpu] is not None:
            raise ValueError(f"CPU {cpu} has a mapping already; it can have one at a time")
        buffer = None
        if buffered:
            buffer = self._buffers[cpu]
            if buffer is None:
                buffer = self._buffers[cpu] = bytearray(self.size)
        mapping = self._open[cpu] = Mapping(handle, mode, buffer, length)
        self.busy += 1
        return mapping

    def close(self, cpu: int, handle: Any) -> Mapping:
        """End a mapping.  Raises ValueError unless this CPU has mapped this object."""
        mapping = self._open[cpu]
        if mapping is None or mapping.handle != handle:
            raise ValueError(f"CPU {cpu} has not mapped {handle}")
        self._open[cpu] = None
        self.busy -= 1
        return mapping

    def of(self, handle: Any) -> Mapping | None:
        """The mapping of an object, on whichever CPU."""
        for mapping in self._open:
            if mapping is not None and mapping.handle == handle:
                return mapping
        return None

    def snapshot(self) -> tuple[Any, ...]:
        """Who is mapped where, how, and what buffers in use hold."""
        return tuple(
            None if m is None else (m.handle, m.mode, m.length, None if m.buffer is None else bytes(m.buffer))
            for m in self._open
        )

    def restore(self, state: tuple[Any, ...]) -> None:
        """Return to a state of ``snapshot``."""
        self._open = [None] * len(self._open)
        self.busy = 0
        for cpu, entry in enumerate(state):
            if entry is not None:
                handle, mode, length, data = entry
                mapping = self.open(cpu, handle, mode, data is not None, length)
                if mapping.buffer is not None:
                    mapping.buffer[:] = data
