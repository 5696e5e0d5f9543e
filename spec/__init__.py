"""heaplaw: the laws that every memory allocator must obey, executable.

>>> from heaplaw import Contract
>>> Contract(arena=4096).largest
4096
"""

from .checker import Checker
from .contract import Contract, Maintenance, Request
from .lawbook import LAWS
from .operations import Kind, Operation
from .pages import PageError, PageSource
from .protocol import (
    AllocationBits,
    Context,
    Direction,
    Extent,
    FreeRegion,
    Hint,
    InvalidFree,
    ListBit,
    Listed,
    Maintained,
    Quantity,
    Refusal,
)
from .runs import Violation, run
from .shadow import Block, Shadow
from .trace import Trace, TraceError

__all__ = [
    "LAWS",
    "AllocationBits",
    "Block",
    "Checker",
    "Context",
    "Contract",
    "Direction",
    "Extent",
    "FreeRegion",
    "Hint",
    "InvalidFree",
    "Kind",
    "ListBit",
    "Listed",
    "Maintained",
    "Maintenance",
    "Operation",
    "PageError",
    "PageSource",
    "Quantity",
    "Refusal",
    "Request",
    "Shadow",
    "Trace",
    "TraceError",
    "Violation",
    "run",
]
