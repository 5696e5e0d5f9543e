"""Bugs of the TLSF family: Conte's code and its copies, rlsf, OffsetAllocator and others.

>>> from heaplaw.impls.bugs import find
>>> find("tlsf", "T31").title
'a resize frees the old block before it knows whether there is a new one'
"""

from heaplaw.impls.tlsf import Tlsf
from heaplaw.protocol import Refusal

from . import bug


@bug(
    "T31", "tlsf", "a resize frees the old block before it knows whether there is a new one",
    source="yvt/rlsf c334c62", law="realloc-failure",
)  # fmt: skip
class FreesFirst(Tlsf):
    def _move(self, handle: int, size: int, current: int) -> int | Refusal | None:
        align = self._alignments.get(handle, 1)
        kept = bytes(self._bytes[handle : handle + min(current, size)])
        self.free(handle)
        moved = self.alloc(size, align)
        if isinstance(moved, int):
            self._bytes[moved : moved + len(kept)] = kept
        return moved
