"""Lockstep of the per-CPU allocator: the Python model of revision 6.12 and the kernel's own code.

All metadata is compared after every operation: both bitmaps, every descriptor's five hints with their places, free
bytes, populated and empty pages, which chunks stand on which slot in which order, isolated ones, the background work's
counters.  A scan hint of 0 has no place: the kernel never reads it, and leaves there what was.

>>> [shape.parameters["unit"] // shape.parameters["block"] for shape in SHAPES][:4]
[8, 8, 4, 3]
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from heaplaw import Context
from heaplaw.impls.native.linux.building import cache, library
from heaplaw.impls.native.linux.model import KINDS, Stepwise, numbers
from heaplaw.operations import ATOMIC, Kind, Operation

from .lockstep import Make, Numbers, Shape, Side, packed
from .lockstep_kernel import KernelSide, Model


def _shape(**parameters: int) -> Shape:
    largest = min(parameters["unit"], 32768)
    return Shape(parameters, largest, parameters["block"], groups=int("reserved" in parameters))


SHAPES = (
    _shape(unit=32768, block=4096, chunks=1),
    _shape(unit=32768, block=4096, chunks=2),
    _shape(unit=1024, block=256, chunks=1),
    _shape(unit=768, block=256, chunks=2),
    _shape(unit=32768, block=4096, chunks=3, pages=17),
    _shape(unit=2048, block=256, chunks=4),
    _shape(unit=2048, block=256, chunks=3, static=100, reserved=600),
    _shape(unit=1024, block=256, chunks=4, pages=9),
    _shape(unit=65536, block=4096, chunks=2, static=5000, reserved=8192),
    _shape(unit=512, block=256, chunks=6),
)
"""Whole chunks and small ones, with pages that run out, and with a first chunk that is shared."""


class ModelSide(Model):
    """The Python model."""

    heap: Stepwise

    def do(self, operation: Operation) -> Any:
        """The handle or refusal; of background work, pages given back and objects moved; None."""
        kind, name, size, align, mode = operation
        if kind == Kind.ALLOC:
            flags = int(mode)
            answer = self.heap.alloc(size, align, ctx=Context(atomic=bool(flags & ATOMIC), group=flags >> 1))
            if isinstance(answer, int):
                self._handles[name] = answer
            return answer
        if kind == Kind.FREE and (handle := self._handles.pop(name, None)) is not None:
            self.heap.free(handle)
        if kind == Kind.MAINTAIN:
            return (self.heap.maintain(str(mode)).pages_freed, 0)
        return None

    def numbers(self) -> Numbers:
        return {kind: packed(words) for kind, words in numbers(self.heap).items()}


class PercpuSide(KernelSide):
    """The kernel's code, called with the CPU, the caller and the group of each request."""

    kinds = KINDS
    defaults: ClassVar[dict[str, int]] = {"pages": 0, "static": 0, "reserved": 0}

    def _ask(self, size: int, align: int, mode: int) -> int:
        self._lib.heaplaw_context(self._heap, 0, mode & ATOMIC, mode >> 1)
        return int(self._lib.heaplaw_alloc_aligned(self._heap, size, align))


def sides(
    version: str = "",
    folder: Path | None = None,
    model: Callable[..., Stepwise] = Stepwise,
) -> Make:
    """What makes both for a shape: the kernel of a version that was built in ``folder``, and the model.

    The kernel's side comes first.  Raises BuildError where it is not built.
    """
    at = folder or cache()
    built = {block: library(at, "percpu", version, block) for block in {s.parameters["block"] for s in SHAPES}}

    def make(shape: Shape) -> tuple[Side, Side]:
        parameters = dict(shape.parameters)
        other = ModelSide(model(**parameters))
        return PercpuSide(built[parameters.pop("block")], **parameters), other

    return make
