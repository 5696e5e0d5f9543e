"""The kernel's own zsmalloc as a target: ``linux:zsmalloc``, built by ``heaplaw build-linux``.

It is held to the contract of the model ``zsmalloc``, of 6.1 with chains of up to 4 pages chosen by whole percents, of
6.12 with chains of up to 8 and twelve groups of fullness.  Not held to: noticing bad frees (the kernel does not), and
the number of lists that a request looks at, which the kernel does not show.

Contents go the way of a kernel's caller: through ``zs_map_object`` and ``zs_unmap_object``, write-only for what fills
an object from its start, read-only for what is read.  With ``cpus`` 0 nothing is mapped beyond that.  While an object
is mapped, the others are read and written where they lie, as the one CPU has one mapping; compaction and page
migration do nothing then.  Findings are about shipped code, and unconfirmed by its maintainers; locks, caches of small
objects and the page allocator are shims.

>>> contract = promise(16, 1, "6.1.99")
>>> contract.maintenance, contract.detects, contract.cost_bounds.keys()
(('compact', 'migrate'), frozenset(), dict_keys(['pages_taken']))
"""

import ctypes
from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from heaplaw import Context, Contract, Listed, Maintenance, Shadow

from ...zsmalloc_classes import GROUP_NAMES, ClassTable
from ...zsmalloc_promises import configured, list_named, told_truly
from ..library import load
from ..making import Checked
from .building import cache, library, version_key
from .zsmalloc_model import TWELVE_NAMES, twelfth

PAGE, WORD = 4096, 8
"""Bytes of a page and of a handle: the kernel's, which the library was compiled with."""
_READ_WRITE, _READ_ONLY, _WRITE_ONLY = range(3)  # of the kernel's enum zs_mapmode


class LinuxZsmalloc(Checked):
    """One pool over ``pages`` pages; with ``cpus`` 1 objects are mapped and stay so for a while."""

    def __init__(self, built: Path, pages: int = 256, cpus: int = 1) -> None:
        self._promise = promise(pages, cpus, built.parent.name)  # first: it says what makes no sense
        loaded = load(str(built))
        self._open: int | None = None  # handle of the object that is mapped
        self._copy = ctypes.CDLL(str(built)).zsmalloc_copy
        self._copy.argtypes = [ctypes.c_uint64] * 3 + [ctypes.c_char_p, ctypes.c_uint64, ctypes.c_uint32]
        super().__init__(loaded, pages * PAGE, {"pages": pages})
        self._names = GROUP_NAMES if is_of_four(built.parent.name) else TWELVE_NAMES
        if not cpus:
            self.map = self.unmap = None  # type: ignore[method-assign, assignment]  # so that none is shown

    def _promised(self, arena: int, parameters: Mapping[str, int]) -> Contract:
        return self._promise

    # ---- contents ----------------------------------------------------------------------------

    def map(self, handle: int, *, ctx: Context | None = None) -> None:
        """``zs_map_object``, for reading and writing.  Raises RuntimeError where another object is mapped."""
        super().map(handle)
        self._open = handle

    def unmap(self, handle: int, *, ctx: Context | None = None) -> None:
        """``zs_unmap_object``.  Raises RuntimeError where the object is not mapped."""
        super().unmap(handle)
        self._open = None

    def read(self, handle: int, at: int, length: int) -> bytes:
        """Bytes of an object, through its mapping."""
        if self._open not in (None, handle):
            return super().read(handle, at, length)
        room = ctypes.create_string_buffer(length)
        self._through(handle, at, room, length, _READ_ONLY)
        return room.raw

    def write(self, handle: int, at: int, data: bytes) -> None:
        """Put bytes into an object, through its mapping."""
        if self._open not in (None, handle):
            super().write(handle, at, data)
            return
        whole = at == 0 and len(data) == sum(length for _, _, length in self.extents(handle))
        self._through(handle, at, bytes(data), len(data), _WRITE_ONLY if whole else _READ_WRITE)

    def _through(self, handle: int, at: int, data: Any, length: int, mode: int) -> None:
        if self._copy(self.heap, handle, at, data, length, mode):
            raise RuntimeError(f"handle {handle} cannot be mapped")

    # ---- what is shown -----------------------------------------------------------------------

    def lists(self) -> list[Listed]:
        """Zspages, named by their pages, on the lists (class index, group)."""
        pages = [page for page, _ in self.pages()]
        found, at = [], 0
        for number, _ in self.records("LISTS", "list", "key"):
            index, group = divmod(number, len(self._names))
            count = self._table.by_index[index].pages
            found.append(Listed((index, self._names[group]), tuple(pages[at : at + count])))
            at += count
        return found

    @property
    def _table(self) -> ClassTable:
        return table(self.library.path)

    def counters(self) -> dict[str, int]:
        """The kernel's; mapped objects are among them only where there are mappings."""
        found = super().counters()
        return found if self.contract.mappings else {k: v for k, v in found.items() if k != "mapped_objects"}


@lru_cache(maxsize=8)
def table(built: str) -> ClassTable:
    """The classes that the kernel of a library should have."""
    return configured(*_settings(16, 0, Path(built).parent.name))[0]


def is_of_four(version: str) -> bool:
    """Has this kernel four groups of fullness, and chains by whole percents?  So before 6.3."""
    return version_key(version) < (6, 3)


def _settings(pages: int, cpus: int, version: str) -> tuple[Any, ...]:
    chain = 4 if is_of_four(version) else 8
    return (pages, PAGE, chain, "", WORD, "", "indirect", 1, cpus, 0)


@lru_cache(maxsize=64)
def promise(pages: int, cpus: int, version: str) -> Contract:
    """The contract.  Raises ValueError for senseless parameters."""
    if cpus not in (0, 1):
        raise ValueError(f"cpus must be 0 or 1, not {cpus}: the kernel is built for one")
    classes, known = configured(*_settings(pages, cpus, version))
    costs = {"pages_taken": known.cost_bounds["pages_taken"]}
    promised = replace(
        known, cost_bounds=costs, detects=frozenset(), maintenance=("compact", "migrate"),
        moving=frozenset({"compact", "migrate"}), maintained=_maintained,
    )  # fmt: skip
    if is_of_four(version):
        return promised
    return replace(promised, container_list=partial(_twelve_lists, classes))


def _maintained(run: Maintenance, shadow: Shadow) -> str | None:
    """Compaction tells truly; page migration gives as many pages as it takes."""
    if run.kind == "compact":
        return told_truly(run, shadow)
    return f"{run.taken} pages taken, {run.given} given" if run.taken != run.given else None


def _twelve_lists(classes: ClassTable, shadow: Shadow) -> Callable[[Hashable], Hashable]:
    return list_named(classes, lambda inuse, objects: TWELVE_NAMES[twelfth(inuse, objects)], shadow)


def builder(version: str = "", **parameters: int) -> Callable[[], LinuxZsmalloc]:
    """What makes pools of what ``heaplaw build-linux`` made.  Raises BuildError where it is not built."""
    return partial(LinuxZsmalloc, library(cache(), "zsmalloc", version, PAGE), **parameters)
