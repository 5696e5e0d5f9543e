"""Both sides of a lockstep with the kernel's own code, as far as they are the same for every allocator.

A lockstep module adds what its model holds, the kinds of records that the kernel's side shows, and the shapes.

>>> class Bump(Model):
...     def numbers(self): return {"top": [self.heap.top]}
>>> from types import SimpleNamespace
>>> Bump(SimpleNamespace(top=8)).numbers()
{'top': [8]}
"""

from pathlib import Path
from typing import Any, ClassVar

from heaplaw import Refusal
from heaplaw.impls.native.library import load
from heaplaw.impls.native.target import REFUSALS, configure
from heaplaw.operations import Kind, Operation

from .lockstep import Numbers

_TOP = min(REFUSALS)
_INVALID = next(number for number, refusal in REFUSALS.items() if refusal is Refusal.INVALID)
_ROOM = 1 << 12  # words of an observation, at first


class Model:
    """The Python model; what it holds is named by the kernel's side."""

    def __init__(self, heap: Any) -> None:
        self.heap = heap
        self._handles: dict[int, int] = {}  # by name

    def words(self, kind: str) -> tuple[str, ...]:
        raise NotImplementedError("the kernel's side knows")

    def destroy(self) -> None:
        self.heap.destroy()


class KernelSide:
    """The kernel's code, called as directly as it can be."""

    kinds: ClassVar[tuple[str, ...]]  # of records, from HEAPLAW_OWN on
    defaults: ClassVar[dict[str, int]] = {}

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
        return int(self._lib.heaplaw_alloc(self._heap, size)) if align == 1 else _INVALID  # it has none to offer

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
