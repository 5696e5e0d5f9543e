"""Lockstep of zsmalloc: the Python model and the kernel's own code of 6.1 or 6.12.

Compared after every operation: the table of classes; every class's counts; all zspages in the order of their lists,
with fullness, objects in use, first free slot; their pages, and where objects begin on each; the first words of all
slots, which are the objects' handles and the links between free slots; where every handle leads; pages held, given
back and refused.  Each object is filled through a mapping when it is born, and after every compaction the contents of
all are compared, read through mappings.  What ends a chain of free slots is one number past the last in the model, and
several in the kernel: nobody reads it.

>>> pool = ModelPool(Zsmalloc(4))
>>> pool.do(Operation(Kind.ALLOC, 0, 3000)), pool.do(Operation(Kind.MAINTAIN, mode="compact"))[:1]
(8, (0,))
>>> len(pool.numbers()["words"]) // 8  # four slots on three pages
4
"""

import ctypes
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from heaplaw.impls.native.linux.building import cache, library
from heaplaw.impls.native.linux.zsmalloc import PAGE, is_of_four
from heaplaw.impls.native.linux.zsmalloc_model import KINDS, Twelve, numbers
from heaplaw.impls.zsmalloc import Zsmalloc
from heaplaw.operations import Kind, Operation

from .lockstep import Make, Numbers, Shape, Side, packed
from .lockstep_kernel import KernelSide, Model

_READ_ONLY, _WRITE_ONLY = 1, 2  # of the kernel's enum zs_mapmode
SHAPES = tuple(
    Shape({"pages": pages}, PAGE, 1024, live=live, maintenance=("compact",))
    for pages, live in ((8, 12), (24, 60), (64, 150), (512, 300))
)
"""From a pool where pages are nearly always short to one where they never are."""


def filling(name: int, size: int) -> bytes:
    """What an object is filled with."""
    return name.to_bytes(4, "little") * (size // 4) + bytes(size % 4)


class ModelPool(Model):
    """The Python model."""

    heap: Zsmalloc

    def __init__(self, pool: Zsmalloc) -> None:
        super().__init__(pool)
        self._objects: dict[int, tuple[int, int]] = {}  # name -> handle and size
        self._compacted = 0

    def do(self, operation: Operation) -> Any:
        """The handle or refusal; of compaction, pages freed and a sum of all contents; None."""
        kind, name, size, align, mode = operation
        if kind == Kind.ALLOC:
            answer = self.heap.alloc(size, align)
            if isinstance(answer, int):
                self._objects[name] = answer, size
                self.heap.write(answer, 0, filling(name, size))
            return answer
        if kind == Kind.FREE and (known := self._objects.pop(name, None)) is not None:
            self.heap.free(known[0])
        if kind == Kind.MAINTAIN:
            freed = self.heap.maintain(str(mode)).pages_freed
            self._compacted += freed
            return freed, summed(self._objects, self.heap.read)
        return None

    def numbers(self) -> Numbers:
        return {kind: packed(words) for kind, words in numbers(self.heap, self._compacted).items()}


class KernelPool(KernelSide):
    """The kernel's code."""

    kinds = KINDS

    def __init__(self, built: Path, **parameters: int) -> None:
        super().__init__(built, **parameters)
        self._copy = ctypes.CDLL(str(built)).zsmalloc_copy
        self._copy.argtypes = [ctypes.c_uint64] * 3 + [ctypes.c_char_p, ctypes.c_uint64, ctypes.c_uint32]
        self._objects: dict[int, tuple[int, int]] = {}
        self._bytes = ctypes.create_string_buffer(PAGE)

    def do(self, operation: Operation) -> Any:
        """As the model's."""
        answer = super().do(operation)
        kind, name, size = operation[:3]
        if kind == Kind.ALLOC and isinstance(answer, int):
            self._objects[name] = answer, size
            self._copy(self._heap, answer, 0, filling(name, size), size, _WRITE_ONLY)
        if kind == Kind.FREE:
            self._objects.pop(name, None)
        return (answer[0], summed(self._objects, self._read)) if kind == Kind.MAINTAIN else answer

    def _read(self, handle: int, at: int, length: int) -> bytes:
        self._copy(self._heap, handle, at, self._bytes, length, _READ_ONLY)
        return self._bytes.raw[:length]


def summed(objects: Mapping[int, tuple[int, int]], read: Callable[[int, int, int], bytes]) -> int:
    """A sum of the contents of all objects, in the order of their births.  O(bytes)."""
    total = 0
    for handle, size in objects.values():
        total = zlib.crc32(read(handle, 0, size), total)
    return total


def sides(version: str = "", folder: Path | None = None, model: Callable[..., Zsmalloc] | None = None) -> Make:
    """What makes both for a shape, the kernel's side first; without ``model``, that of the kernel's version.

    Raises BuildError where it is not built.
    """
    built = library(folder or cache(), "zsmalloc", version, PAGE)
    chosen = model or (Zsmalloc if is_of_four(built.parent.name) else Twelve)

    def make(shape: Shape) -> tuple[Side, Side]:
        pages = shape.parameters["pages"]
        return KernelPool(built, pages=pages), ModelPool(chosen(pages))

    return make
