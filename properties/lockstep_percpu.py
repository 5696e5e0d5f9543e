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
from heaplaw.impls.native.library import load
from heaplaw.impls.native.linux.building import cache, library
from heaplaw.impls.native.linux.model import KINDS, Stepwise, numbers
from heaplaw.impls.native.target import REFUSALS, configure
from heaplaw.operations import ATOMIC, Kind, Operation

from .lockstep import Course, Make, Numbers, Shape, Side, packed, random_course

_TOP = min(REFUSALS)
_ROOM = 1 << 12  # words of an observation, at first


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


class ModelSide:
    """The Python model."""

    def __init__(self, heap: Stepwise) -> None:
        self.heap = heap
        self._handles: dict[int, int] = {}

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

    def words(self, kind: str) -> tuple[str, ...]:
        raise NotImplementedError("the kernel's side knows")

    def destroy(self) -> None:
        self.heap.destroy()


class KernelSide:
    """The kernel's code, called as directly as it can be."""

    kinds: ClassVar[tuple[str, ...]] = KINDS  # of records, from HEAPLAW_OWN on
    defaults: ClassVar[dict[str, int]] = {"pages": 0, "static": 0, "reserved": 0}

    def __init__(self, built: Path, **parameters: int) -> None:
        self._library = load(str(built))
        self._lib = self._library.opened
        configure(self._library, {**self.defaults, **parameters})
        self._heap = int(self._lib.heaplaw_create(parameters.get("unit", 0)))
        if not self._heap:
            raise ValueError(f"{built} makes no heap of {parameters}")
        self._handles: dict[int, int] = {}
        self._room = 0
        self._grow(_ROOM)
        own = self._library.number("OWN")
        self._kinds = {kind: own + index for index, kind in enumerate(self.kinds)}
        maintenance = self._library.schema(self._library.number("MAINTENANCE"))
        self._maintenance = maintenance.columns if maintenance is not None else ()

    def _grow(self, room: int) -> None:
        self._room = room
        self._words = self._library.ffi.new("int64_t[]", room)

    def do(self, operation: Operation) -> Any:
        """As the model's."""
        kind, name, size, align, mode = operation
        if kind == Kind.ALLOC:
            answer = self._ask(size, align, int(mode))
            if answer >= _TOP:
                return REFUSALS[answer]
            self._handles[name] = answer
            return answer
        if kind == Kind.FREE and (handle := self._handles.pop(name, None)) is not None:
            self._lib.heaplaw_free(self._heap, handle)
        if kind == Kind.MAINTAIN:
            return self._maintain(self._maintenance.index(str(mode)))
        return None

    def _ask(self, size: int, align: int, mode: int) -> int:
        self._lib.heaplaw_context(self._heap, 0, mode & ATOMIC, mode >> 1)
        return int(self._lib.heaplaw_alloc_aligned(self._heap, size, align))

    def _maintain(self, number: int) -> tuple[int, ...]:
        """Pages freed, objects moved, handles of objects that ended."""
        count = self._lib.heaplaw_maintain(self._heap, number, self._words, self._room)
        did = tuple(self._library.ffi.unpack(self._words, count))
        ended = set(did[2:])
        self._handles = {name: handle for name, handle in self._handles.items() if handle not in ended}
        return did

    def numbers(self) -> Numbers:
        """Every number, as it stands in the kernel's structures."""
        return {kind: self._observed(number) for kind, number in self._kinds.items()}

    def _observed(self, number: int) -> bytes:
        count = self._lib.heaplaw_observe(self._heap, number, self._words, self._room)
        if count > self._room:
            self._grow(2 * count)
            return self._observed(number)
        return bytes(self._library.ffi.buffer(self._words, count * 8))

    def words(self, kind: str) -> tuple[str, ...]:
        """Names of the columns."""
        schema = self._library.schema(self._kinds[kind])
        assert schema is not None
        return schema.columns

    def destroy(self) -> None:
        self._lib.heaplaw_destroy(self._heap)


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
        return KernelSide(built[parameters.pop("block")], **parameters), other

    return make


def run(make: Make, operations: int, seed: int, late: Callable[[], bool] = lambda: False) -> Course:
    """So many operations in lockstep, over all shapes.  About 80 us each; same seed, same result."""
    return random_course(make, SHAPES, operations, seed, late=late)
