"""The innocent gallery: correct but unusual allocators, which no law may convict.

A law that convicts one of them claims more than a contract says.  Each is a class that is named as
any target of one's own, ``heaplaw.impls.innocents.orders:FifoTlsf``, with what is unusual about it
and what it keeps honest; its contract promises as much as is true, so that the laws are really asked.

>>> len(innocents()) > 30
True
>>> next(one.unusual for one in innocents() if one.name.endswith(":FifoTlsf"))
'free lists are queues: the block that was freed first is used first'
"""

import importlib
import pkgutil
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple, TypeVar

_Class = TypeVar("_Class", bound=type[Any])


class Innocent(NamedTuple):
    """One correct allocator with an odd habit."""

    name: str  # as every command takes it
    unusual: str  # the habit, one line
    honest: str  # what would be claimed wrongly by whoever forgot that habit


_ENTERED: dict[str, Innocent] = {}


def innocent(unusual: str, honest: str) -> Callable[[_Class], _Class]:
    """Enter the class that follows in the gallery."""

    def enter(cls: _Class) -> _Class:
        name = f"{cls.__module__}:{cls.__name__}"
        _ENTERED[name] = Innocent(name, unusual, honest)
        return cls

    return enter


@cache
def innocents() -> tuple[Innocent, ...]:
    """All of them, by name; the demons of ``demon`` are among them.  Imports the whole gallery."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return tuple(_ENTERED[name] for name in sorted(_ENTERED))
