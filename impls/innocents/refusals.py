"""Innocents that refuse in their own way: always, by kind, or most of what is asked.

>>> refuser = NothingForAnyone()
>>> [refuser.alloc(8) for _ in range(2)]
[<Refusal.INVALID: 'invalid'>, <Refusal.TOO_BIG: 'too big'>]
"""

from itertools import cycle
from typing import Any

from heaplaw import Context, Contract, Refusal, Request
from heaplaw.impls.bits import is_power_of_two
from heaplaw.impls.promises import always

from . import innocent
from .field import ARENA, Field, fits, promises


@innocent("refuses everything, giving each reason in turn", "an allocator that promises nothing may do nothing")
class NothingForAnyone:
    """Promises to refuse."""

    contract = Contract(arena=ARENA, max_size=0, must_refuse=always, rejects=frozenset({"zero", "huge", "align"}))

    def __init__(self) -> None:
        self._reasons = cycle((*Refusal, None))

    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> Refusal | None:
        """The next reason."""
        return next(self._reasons)

    def free(self, handle: Any) -> None:
        """Nobody has a handle."""
        raise AssertionError("nothing was ever handed out")


def _power_fits(request: Request, *heap: Any) -> bool:
    return is_power_of_two(request.size) and fits(request, *heap)


@innocent("serves powers of two only", "limits are no promise where none is advertised; must_serve may be any set")
class PowersOfTwo(Field):
    """Everything else is INVALID.  That no size between two limits is promised is said by limits that cross."""

    contract = promises(
        min_size=ARENA + 1, must_serve=_power_fits, must_refuse=lambda *asked: not _power_fits(*asked),
        rejects=frozenset({"zero", "align"}),
    )  # fmt: skip

    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> Any:
        """First fit."""
        if not is_power_of_two(size):
            self._scanned = self._found = 0
            return Refusal.INVALID
        return super().alloc(size, align)

    def realloc(self, handle: Any, size: int) -> Any:
        """To another power of two."""
        return super().realloc(handle, size) if is_power_of_two(size) else Refusal.INVALID


@innocent("refuses every atomic request: WOULD_BLOCK", "what is owed may depend on the circumstances of a call")
class NeverAtomic(Field):
    """Serves who can wait."""

    contract = promises(
        contextual=True, must_serve=lambda request, *heap: not request.atomic and fits(request, *heap),
        must_refuse=lambda request, *heap: request.atomic or not fits(request, *heap),
    )  # fmt: skip

    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> Any:
        """First fit."""
        if ctx is not None and ctx.atomic:
            self._scanned = self._found = 0
            return Refusal.WOULD_BLOCK
        return super().alloc(size, align)


@innocent("every second refusal is NO_MEMORY and every other None", "both mean the same")
class EitherWord(Field):
    """It alternates.  Resizes in place only: elsewhere is a refusal."""

    def __init__(self) -> None:
        super().__init__()
        self._words = cycle((Refusal.NO_MEMORY, None))

    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> Any:
        """First fit."""
        answer = super().alloc(size, align)
        return next(self._words) if answer is None else answer

    def _move(self, handle: Any, size: int) -> Any:
        return next(self._words)
