"""Whole arrays of operations in one call of a native library, for speed.

Objects are named by birth as everywhere; a table of handles, which the library fills, stands between names and
handles.  Results are written as the operations are done, so a table in memory that outlives the process tells how
far a batch came.

>>> len(pack([Operation(Kind.ALLOC, 0, 24), Operation(Kind.FREE, 0)], ()))
64
"""

from collections.abc import Iterable, Sequence
from struct import Struct
from typing import Any

from heaplaw import Kind, Operation

from .library import constants
from .target import Native

_OP = Struct("=IIQQQ")  # struct heaplaw_op
SIZE = _OP.size
_MOST = (1 << 64) - 1
NOT_DONE = constants()["HEAPLAW_NOT_DONE"]
KINDS = frozenset({Kind.NOP, Kind.ALLOC, Kind.FREE, Kind.REALLOC, Kind.MAINTAIN, Kind.ON_CPU})  # others are skipped


def pack(operations: Iterable[Operation], maintenance: Sequence[str]) -> bytes:
    """Operations as an array of ``heaplaw_op``; what a batch does not know is no operation.  O(n).

    ``maintenance``: the contract's kinds, by number.  Sizes that the C type does not hold become the largest.
    """
    packed = []
    for kind, name, size, align, mode in operations:
        number = maintenance.index(mode) if isinstance(mode, str) and mode in maintenance else mode
        if kind not in KINDS or isinstance(number, str):
            packed.append(_OP.pack(0, 0, 0, 0, 0))
        else:
            packed.append(_OP.pack(kind, name, min(size, _MOST), min(align, _MOST), number))
    return b"".join(packed)


def unpack(packed: bytes) -> list[Operation]:
    """The operations of a packed array, maintenance by number.  O(n)."""
    return [Operation(*fields) for fields in _OP.iter_unpack(packed)]


class Batches:
    """Runs batches on one target, whose objects are named 0 .. names-1."""

    def __init__(self, target: Native, names: int) -> None:
        if "BATCHES" not in target.library.has:
            raise ValueError(f"{target.library.path} has no heaplaw_batch")
        self._target, self._ffi = target, target.library.ffi
        self._batch = target.library.opened.heaplaw_batch
        self.names = names
        self.handles = self._ffi.new("uint64_t[]", [NOT_DONE] * names)

    def run(self, operations: Sequence[Operation]) -> list[int]:
        """The answers, one an operation, as the header tells of them.  ValueError for a name beyond the table."""
        if any(op.name >= self.names for op in operations):
            raise ValueError(f"names reach up to {self.names - 1}")
        packed = pack(operations, self._target.contract.maintenance)
        results = self._ffi.new("uint64_t[]", [NOT_DONE] * len(operations))
        self.run_packed(packed, results)
        return self._ffi.unpack(results, len(operations)) if operations else []

    def run_packed(self, packed: Any, results: Any) -> int:
        """The same of a packed array (anything with a buffer), into an array of words; how many were done.

        Nothing is looked over: names must be below ``names``, and ``results`` long enough.
        """
        ops = self._ffi.from_buffer("heaplaw_op[]", packed)
        return int(self._batch(self._target.heap, ops, len(ops), self.handles, results))
