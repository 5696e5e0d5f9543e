"""What is kept of an engine's work while it goes on: runs that are worth an input of the corpus, and findings.

A run is worth it that reached a state first.  A finding is told at once, since the process may not live to its end.

>>> from heaplaw.operations import Kind
>>> digest_of((1, 2, True)) == digest_of((Kind.ALLOC, 2, 1))
True
"""

import base64
from collections.abc import Callable, Collection, Hashable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

from heaplaw.impls.registry import variants
from heaplaw.operations import Operation
from heaplaw.properties.tallying import Seen, Tallying
from heaplaw.properties.verdict import Finding
from heaplaw.runs import Violation
from heaplaw.trace import Trace

from .inputs import digest, encode, lift, unpack, variant_of

_MOST, _MOST_LEFT = 12, 50  # inputs of a shard: of runs, and of those that its engine has left
_LONG = 600  # operations above which a run is no input


def digest_of(state: Hashable) -> str:
    """A short name of an abstract state, the same in every process."""
    parts = state if isinstance(state, tuple) else (state,)
    plain = [int(part) if isinstance(part, int) else str(part) for part in parts]
    return blake2b(repr(plain).encode(), digest_size=6).hexdigest()


class Keeper:
    """Looks over the shoulder of the engines that count runs in a ``Tallying``."""

    def __init__(self, target: str, tell: Callable[[Finding], None] = lambda found: None) -> None:
        """``tell`` is told each finding when it is made."""
        self._target, self._tell = target, tell
        self._kept: list[tuple[set[Hashable], list[Operation], str]] = []  # new states, run, configuration
        self._known: set[Hashable] = set()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Notice runs and findings while the body lasts."""
        enter, convict = Tallying.enter, Tallying.convict

        def noticed(work: Tallying, run: Seen) -> None:
            self._notice(work, run)
            enter(work, run)

        def told(work: Tallying, variant: str, found: Violation, deadline: float = float("inf")) -> None:
            self._tell(Finding(variant, found))  # making it small may be the end of the process
            convict(work, variant, found, deadline)
            self._tell(work.tally.findings[-1])

        Tallying.convict = told  # type: ignore[method-assign, assignment]
        Tallying.enter = noticed  # type: ignore[method-assign, assignment]  # engines need not know of corpora
        try:
            yield
        finally:
            Tallying.enter, Tallying.convict = enter, convict  # type: ignore[method-assign]

    def _notice(self, work: Tallying, run: Any) -> None:
        new = set(run.states) - self._known
        made: list[Operation] | None = getattr(run, "operations", None)
        if not new or made is None or len(made) > _LONG or run.checker.problem:
            return
        self._known |= new
        variant = next((name for name, build in work.builders.items() if build is getattr(run, "build", None)), "")
        self._kept.append((new, list(made), variant or self._target))
        if len(self._kept) > 4 * _MOST:
            self._thin()

    def _thin(self) -> None:
        self._kept.sort(key=lambda one: -len(one[0]))
        del self._kept[_MOST:]

    def collected(self, folder: Path, given: Collection[str] = ()) -> list[dict[str, Any]]:
        """The inputs, with the states that each reaches: of the runs that were noticed, and of those in a folder.

        An engine has left these there, beside the ones that it was ``given``.  Each of the smallest is run for that.
        """
        self._thin()
        found = []
        for new, made, variant in self._kept:
            data = encode(Trace(made, {"target": variant}), self._target)
            found.append({"data": _text(data), "states": sorted(map(digest_of, new))})
        for data in sorted({path.read_bytes() for path in folder.iterdir()}, key=lambda data: (len(data), data)):
            if len(found) >= _MOST + _MOST_LEFT:
                break
            if (body := unpack(data)) is not None and digest(data) not in given:
                states = set(lift(variant_of(data, variants(self._target)), body).states)
                if new := states - self._known:
                    self._known |= new
                    found.append({"data": _text(data), "states": sorted(map(digest_of, new))})
        return found


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
