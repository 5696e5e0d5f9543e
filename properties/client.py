"""Who wrote there?  A client that writes out of bounds is told apart from a guilty allocator.

An allocator's metadata may change inside its calls and at no other time.  ``watching(target)`` is the
target with a guard before and behind every call: what it shows of itself, and what its live objects hold,
is noted when a call returns and compared before the next one begins.  A difference is the client's doing
(or the harness's) and raises ``ClientFault``, which is no violation of a law: no law was asked.  It is no
``Exception`` either, so that a checker does not take it for a crash of the allocator.

The guard walks the heap before and after each call: it is for looking again at a finding, not for hunting.

>>> from heaplaw.impls.tlsf import Tlsf
>>> heap = watching(Tlsf(arena=1024))
>>> first, second = heap.alloc(24), heap.alloc(24)
>>> heap._bytes[first + 24 : first + 32] = bytes(8)  # one word past the end: the next block's size
>>> heap.free(second)
Traceback (most recent call last):
heaplaw.properties.client.ClientFault: free_regions changed between operations 2 and 3: out of bounds
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import wraps
from itertools import islice
from typing import Any

from heaplaw.checker import Checker, Unusable
from heaplaw.lawbook import Broken
from heaplaw.operations import Operation
from heaplaw.protocol import Refusal

_OPERATIONS = frozenset({"alloc", "free", "realloc", "write", "read", "maintain", "link", "map", "unmap", "destroy"})
_SHOWN = ("free_regions", "lists", "list_bits", "hints", "bitmap", "pages", "counters", "metadata")
_MOST = 1 << 16  # items of one observation: the walk over a list that was overwritten need not end
_LOOKS = 16  # at what has changed, before anyone is accused
_SEVERED = "cannot be read any more"


class ClientFault(BaseException):
    """The heap changed while no call was under way: ``what`` did, before the ``call``-th one (from 1)."""

    def __init__(self, what: str, call: int, how: str = "out of bounds") -> None:
        super().__init__(f"{what} changed between operations {call - 1} and {call}: {how}")
        self.what, self.call = what, call


def watching(target: Any, *, contents: bool = True) -> Any:
    """The target under guard.  ``contents``: all writes of objects come through ``write``, so guard those too."""
    return _Watched(target, contents)


class _Watched:
    """Answers as the target does, for whatever the target has."""

    def __init__(self, target: Any, contents: bool) -> None:
        self._target, self._contents = target, contents and getattr(target, "read", None) is not None
        self._live: dict[int, tuple[Any, int]] = {}  # in order of birth -> handle and size; handles may be shared
        self._calls = self._births = 0
        self._moody: set[str] = set()  # observations that are made up anew each time
        self._noted = self._observe()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        if name in _OPERATIONS and found is not None:
            found = self._guarded(name, found)
            self.__dict__[name] = found  # looked up once
        return found

    def _guarded(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(call)
        def guarded(*given: Any, **more: Any) -> Any:
            self._calls += 1
            self._compare(self._calls)
            if name == "write":
                self._within(*given)
            try:
                answer = call(*given, **more)
                self._follow(name, given, answer)
                return answer
            finally:
                self._noted = self._observe()

        return guarded

    def _follow(self, name: str, given: Sequence[Any], answer: Any) -> None:
        """Keep the list of live objects."""
        served = answer is not None and not isinstance(answer, Refusal)
        if name == "alloc" and served:
            self._births += 1
            self._live[self._births] = answer, given[0]
        elif name == "realloc" and served:
            self._live[self._birth(given[0])] = answer, given[1]
        elif name == "free":
            self._live.pop(self._birth(given[0]), None)
        elif name == "maintain":
            for handle in answer.evicted:
                self._live.pop(self._birth(handle), None)
        elif name == "destroy":
            self._live.clear()

    def _birth(self, handle: Any) -> int:
        return next((birth for birth, (known, _) in self._live.items() if known == handle), 0)

    def _within(self, handle: Any, at: int, data: bytes) -> None:
        """A write that leaves its object is the client's fault before it has done any harm."""
        _, size = self._live.get(self._birth(handle), (handle, 0))
        if at < 0 or at + len(data) > size:
            raise ClientFault(f"bytes {at} to {at + len(data)} of an object of {size}", self._calls, "asked to write")

    def _observe(self) -> dict[str, Hashable]:
        target = self._target
        shown: dict[str, Callable[[], Any]] = {
            name: show for name in _SHOWN if (show := getattr(target, name, None)) is not None
        }
        if getattr(target, "extents", None) is not None:
            shown["the place of a live object"] = lambda: [target.extents(handle) for handle, _ in self._live.values()]
        if self._contents:
            shown["contents of a live object"] = lambda: [target.read(h, 0, n) for h, n in self._live.values()]
        return {name: _frozen(show) for name, show in shown.items() if name not in self._moody}

    def _compare(self, call: int) -> None:
        """Raises ClientFault for what is not as it was noted, unless it is never the same twice."""
        seen = self._observe()
        for name, noted in self._noted.items():
            if name not in self._moody and seen[name] != noted:
                if any(self._observe().get(name) != seen[name] for _ in range(_LOOKS)):
                    self._moody.add(name)
                else:
                    self._noted = seen
                    raise ClientFault(name, call)


def _frozen(show: Callable[[], Any]) -> Hashable:
    """An observation as one comparable value; a heap that cannot be read any more says so."""
    try:
        shown = show()
        items: Iterable[Any] = shown.items() if hasattr(shown, "items") else shown
        return tuple(repr(item) for item in islice(items, _MOST))
    except Exception as problem:
        return f"{_SEVERED}: {problem}"


def culprit(
    build: Callable[[], Any], operations: Iterable[Operation], client: Callable[[Any, int], None] = lambda heap, i: None
) -> ClientFault | Broken | None:
    """Run operations once more under guard: the client's fault, the allocator's, or nobody's.

    ``client(target, index)`` is what the client does on its own after the operation of that index.
    """
    target = build()
    guard = watching(target)
    checker = Checker(guard, audit_every=1)
    try:
        for index, op in enumerate(operations):
            checker.step(op)
            client(target, index)
            guard._compare(index + 2)  # before a law looks at anything
        checker.finish()
    except (ClientFault, Broken) as fault:
        return fault
    except Unusable:
        return None
    return None
