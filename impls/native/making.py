"""What stands around a native target where its library calls for it, and how targets are made.

>>> build("./libnone.so", arena=4096)
Traceback (most recent call last):
heaplaw.impls.naming.TargetError: no such file: ./libnone.so
"""

from collections.abc import Callable
from typing import Any

from heaplaw import Context, Maintained, Refusal

from .library import load
from .target import ARENA, Native

_MOST_ARENA = (1 << 64) - 1
_EVERY_CALL = 16  # live objects up to which a library checks itself after every call


class SelfCheckError(RuntimeError):
    """The library's own check says that its heap is damaged."""


class Counted(Native):
    """Edges of the library's code are counted: those of the last call are its cost."""

    _edges = 0

    def _spent(self, call: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
        edges = self.library.edges
        assert edges is not None
        before = edges()
        try:
            return call(*arguments, **more)
        finally:
            self._edges = edges() - before

    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> int | Refusal | None:
        return self._spent(super().alloc, size, align, ctx=ctx)

    def free(self, handle: int, size: int = 0, *, ctx: Context | None = None) -> None:
        self._spent(super().free, handle, size, ctx=ctx)

    def realloc(self, handle: int, size: int) -> int | Refusal | None:
        return self._spent(super().realloc, handle, size)

    def cost(self) -> dict[str, int]:
        shown = "OBSERVES" in self.library.has and self.library.schema(self.library.number("COST")) is not None
        return {**(super().cost() if shown else {}), "edges": self._edges}


class Checked(Native):
    """The library checks itself after every call; in a large heap less often, so that the price stays the same."""

    _calls = _live = _due = 0

    def _look(self, change: int) -> None:
        self._calls += 1
        self._live += change
        if self._calls >= self._due:
            self._due = self._calls + 1 + self._live // _EVERY_CALL
            if code := self._lib.heaplaw_check(self.heap):
                raise SelfCheckError(f"heaplaw_check answered {code}")

    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> int | Refusal | None:
        answer = super().alloc(size, align, ctx=ctx)
        self._look(isinstance(answer, int))
        return answer

    def free(self, handle: int, size: int = 0, *, ctx: Context | None = None) -> None:
        super().free(handle, size, ctx=ctx)
        self._look(-1)

    def realloc(self, handle: int, size: int) -> int | Refusal | None:
        answer = super().realloc(handle, size)
        self._look(0)
        return answer


class Shifted(Native):
    """Byte 0 is misaligned, and handles are places: they are moved as all places are."""

    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> int | Refusal | None:
        answer = super().alloc(size, align, ctx=ctx)
        return answer + self.shift if isinstance(answer, int) else answer

    def free(self, handle: int, size: int = 0, *, ctx: Context | None = None) -> None:
        super().free(handle - self.shift, size, ctx=ctx)

    def realloc(self, handle: int, size: int) -> int | Refusal | None:
        answer = super().realloc(handle - self.shift, size)
        return answer + self.shift if isinstance(answer, int) else answer

    def map(self, handle: int, *, ctx: Context | None = None) -> None:
        super().map(handle - self.shift, ctx=ctx)

    def unmap(self, handle: int, *, ctx: Context | None = None) -> None:
        super().unmap(handle - self.shift, ctx=ctx)

    def maintain(self, kind: str) -> Maintained:
        done = super().maintain(kind)
        return done._replace(evicted=tuple(h + self.shift for h in done.evicted if isinstance(h, int)))

    def extents(self, handle: int) -> tuple[tuple[int, int, int], ...]:
        return super().extents(handle - self.shift)

    def read(self, handle: int, at: int, length: int) -> bytes:
        return super().read(handle - self.shift, at, length)

    def write(self, handle: int, at: int, data: bytes) -> None:
        super().write(handle - self.shift, at, data)


def build(name: str, arena: int = ARENA, **parameters: int) -> Native:
    """A fresh heap of the library in a file.  Raises TargetError, or ValueError for parameters that make no sense."""
    library = load(name)
    if not isinstance(arena, int) or not 0 < arena <= _MOST_ARENA:
        raise ValueError(f"arena must be a number of bytes, not {arena!r}")
    kinds: list[type[Native]] = [Native]
    if library.edges is not None:
        kinds.insert(0, Counted)
    if "CHECKS" in library.has:
        kinds.insert(0, Checked)
    target = _made(tuple(kinds))(library, arena, parameters)
    if target.shift and not target._opaque:
        target.destroy()
        target = _made((Shifted, *kinds))(library, arena, parameters)
    return target


def _made(kinds: tuple[type[Native], ...]) -> type[Native]:
    """A class of these; remembered."""
    if kinds not in _classes:
        _classes[kinds] = kinds[0] if len(kinds) == 2 and kinds[1] is Native else type("Native", kinds, {})
    return _classes[kinds]


_classes: dict[tuple[type[Native], ...], type[Native]] = {(Native,): Native}
