"""The kernel's own zbud, of 6.1, as a target: ``linux:zbud``, built by ``heaplaw build-linux``.

It is held to the contract of the model ``zbud`` but for costs and bytes of metadata, which the kernel does not show.
Findings about it are about shipped code, and unconfirmed by its maintainers; locks and the page allocator are shims.

>>> promise(16).evicting == frozenset(promise(16).maintenance)
True
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

from heaplaw import Contract

from ...zbud_promises import configured
from ..library import load
from ..target import Native
from .building import cache, library

PAGE, ORDER = 4096, 6
"""Bytes of a page, and its chunks as a power of two: the kernel's, which the library was compiled with."""


class LinuxZbud(Native):
    """One pool over ``pages`` pages."""

    def __init__(self, built: Path, pages: int = 256) -> None:
        self._promise = promise(pages)  # first: it says what makes no sense
        loaded = load(str(built))
        super().__init__(loaded, pages * PAGE, {"pages": pages})

    def _promised(self, arena: int, parameters: Mapping[str, int]) -> Contract:
        return self._promise


@lru_cache(maxsize=64)
def promise(pages: int) -> Contract:
    """The contract.  Raises ValueError for senseless parameters."""
    return replace(configured(pages, PAGE, ORDER, ""), cost_bounds={}, metadata_bound=None)


def builder(version: str = "", **parameters: int) -> Callable[[], LinuxZbud]:
    """What makes pools of what ``heaplaw build-linux`` made.  Raises BuildError where it is not built."""
    return partial(LinuxZbud, library(cache(), "zbud", version, PAGE), **parameters)
