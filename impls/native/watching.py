"""Fully checked batches: whole arrays of operations done and watched in C, with audits in between.

Local laws are asked in C about every operation (``watching.c``, compiled here when it is first needed); after each
batch the checker's shadow heap is brought up to date with what changed, and one audit asks the laws that walk the
heap.  C only ever suspects: the same operations are then run again by the checker, one by one, and only what it
finds is a violation.

For heaps whose handles are offsets and that need no size, CPU or group with a call.  Operations are allocations,
frees and resizes.  Not asked here: laws about maintenance, misuse and twins, ``limits-honest`` and ``search-fit``.

>>> watchable.__doc__
'Why a target cannot be watched in C; None if it can.'
"""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from heaplaw import Block, Checker, Kind, Operation, Violation, run

from . import HEADER
from .batches import SIZE, pack, unpack
from .compiling import compile_once
from .library import interface, is_foreign, part
from .promising import Promises
from .target import Native

_SOURCE = HEADER.with_name("watching.c")
_MOST_GRANULES = 1 << 31  # of a heap's map: 256 MiB
_MOST_AUDITS = 2000  # when operations are run again to find what C suspected
_TOUCHES = ("contents", "handle-stable")
_ELSEWHERE = ("limits-honest", "search-fit", "deterministic", "space-determinism")  # not asked of batches
_PROMISED = ("SLACK", "SLACK_PERMILLE", "SERVES_GAP", "EDGES")


class UnconfirmedError(RuntimeError):
    """The checker did not find what C suspected: the library does not repeat itself, or watching.c is wrong."""


@lru_cache(maxsize=1)
def watcher() -> Any:
    """The compiled watching.c.  Raises TargetError without a compiler."""
    ffi = interface()
    ffi.cdef(part(_SOURCE))
    return ffi.dlopen(str(compile_once("watching", _SOURCE, ["-std=c99"])))


def watchable(target: Native) -> str | None:
    """Why a target cannot be watched in C; None if it can."""
    promise = target.contract
    reasons = {
        "its library is in another process": is_foreign(Path(target.library.path)),
        "its handles are no offsets": promise.handles != "address" or target.source is not None,
        "its objects lie in pieces": "HAS_EXTENTS" in target.library.has,
        "its calls take more than sizes": promise.contextual or promise.cpus > 1,
        "a live block may grow": promise.slack_grows,
        "it is too large for a map": target.reach // promise.granule > _MOST_GRANULES,
    }
    return next((why for why, is_so in reasons.items() if is_so), None)


class Watched:
    """One heap, watched.  ``names`` is how many objects may ever be born in it."""

    def __init__(self, build: Callable[[], Native], names: int) -> None:
        self._build = build
        self.target = build()
        if (why := watchable(self.target)) is not None:
            raise ValueError(f"{self.target.library.path} cannot be watched in C: {why}")
        self._checks = "CHECKS" in self.target.library.has
        self.laws = [law for law in Checker(self.target).laws if law.id not in _ELSEWHERE]
        self.checker = Checker(self.target, mute=_TOUCHES)  # C has looked at every block when an audit comes
        self._ffi, self._lib = interface(), watcher()
        self._kept: list[Any] = []  # what C points to
        self._watch = self._begin(names)
        self._words = self._array("uint64_t[]", 6 * names)
        self._done: list[bytes] = []
        self.operations = self.audits = 0

    def _array(self, kind: str, length: int) -> Any:
        self._kept.append(self._ffi.new(kind, max(1, length)))
        return self._kept[-1]

    def _begin(self, names: int) -> Any:
        target, promise, ffi = self.target, self.target.contract, self._ffi
        w = ffi.new("watch *")
        promises = Promises(target.library, target.heap)
        w.heap, w.reach, w.granule, w.shift = target.heap, target.reach, promise.granule, target.shift
        w.base = target.base if target.read is not None else 0
        w.largest, w.max_align, w.names = promise.largest, promise.max_align, names
        w.flags = promises.number("FLAGS", 0)
        w.slack, w.permille, w.serves_gap, w.edges = [promises.number(name, -1) for name in _PROMISED]
        w.edges_block = promises.number("EDGES_BLOCK", 0)
        has = {
            "alloc": ("alloc", True), "give": ("free", True), "aligned": ("alloc_aligned", promise.max_align > 1),
            "resize": ("realloc", target.realloc is not None), "give_sized": ("free_sized", promise.sized_free),
            "usable": ("usable", target.extents is not None),
            "edges_taken": ("edges", target.library.edges is not None and w.edges >= 0),
        }  # fmt: skip
        for field, (function, is_there) in has.items():
            if is_there:
                setattr(w, field, ffi.addressof(target.library.opened, f"heaplaw_{function}"))
        w.blocks, w.changes, w.alive = (
            self._array("watch_block[]", names), self._array("uint32_t[]", names), self._array("uint32_t[]", names),
        )  # fmt: skip
        w.map = self._array("uint64_t[]", (target.reach + target.shift) // promise.granule // 64 + 2)
        return w

    def run(self, operations: Sequence[Operation]) -> Violation | None:
        """Do a batch and audit the heap; the first violation, or None.  Raises UnconfirmedError."""
        return self.run_packed(pack(operations, ()))

    def run_packed(self, packed: bytes) -> Violation | None:
        """The same of a packed array of operations."""
        count = len(packed) // SIZE
        done = int(self._lib.watch_run(self._watch, self._ffi.from_buffer("heaplaw_op[]", packed), count))
        self._done.append(packed[: done * SIZE])
        self.operations += done
        suspicion = bool(self._watch.suspects) or self._audited()
        return self._again(self.trace()) if suspicion else None

    def _audited(self) -> bool:
        """Look at everything; is something wrong?"""
        target = self.target
        if self._lib.watch_all(self._watch) or (self._checks and target.library.opened.heaplaw_check(target.heap)):
            return True
        self._tell()
        self.audits += 1
        try:
            self.checker.audit()
        except Exception:  # whatever it is, the checker says it properly when it runs the operations itself
            return True
        return False

    def _tell(self) -> None:
        """Bring the checker's shadow heap up to date.  O(changes * log n)."""
        checker, shift = self.checker, self.target.shift
        shadow = checker.shadow
        count = int(self._lib.watch_changes(self._watch, self._words))
        words = self._ffi.unpack(self._words, 6 * count) if count else []
        changes = list(zip(*[iter(words)] * 6, strict=True))
        known = shadow.live
        for change in changes:
            if change[0] in known:
                shadow.remove(known[change[0]])
        for name, live, handle, size, align, length in changes:
            if live:
                place = ((0, handle + shift, length),) if length or self.target.extents is not None else ()
                shadow.add(Block(name, handle + shift, size, align, place))
        checker.index = self.operations - 1
        checker.served, checker.refusals = int(self._watch.served), int(self._watch.refused)

    def _again(self, operations: Sequence[Operation]) -> Violation:
        """The violation, as the checker finds it in the same operations.  Raises UnconfirmedError."""
        found = run(self._build, operations, audit_every=1 + len(operations) // _MOST_AUDITS)
        if found is None:
            law = self.suspicion() or "of an audit"
            raise UnconfirmedError(f"suspicion {law} at operation {len(operations)}, but the checker finds nothing")
        return found

    def suspicion(self) -> str:
        """The law that C suspects to be broken; "" for none."""
        name: str = self._ffi.string(self._ffi.cast("enum watch_law", self._watch.suspects))
        return name.removeprefix("WATCH_").replace("_", "-").lower() if self._watch.suspects else ""

    def trace(self) -> list[Operation]:
        """All operations so far."""
        return [op for packed in self._done for op in unpack(packed)]

    def finish(self) -> Violation | None:
        """Free everything through the checker, which asks ``drain`` and looks at the heap for the last time."""
        if self._audited():
            return self._again(self.trace())
        drain = Operation(Kind.DRAIN)
        try:
            self.checker.step(drain)
            self.checker.finish()
        except Exception:  # as in an audit
            return self._again([*self.trace(), drain])
        return None

    def evidence(self) -> Counter[str]:
        """How often each law was asked with its condition met."""
        w, asked = self._watch, {law.id for law in self.laws}
        seen = Counter(returns=self.operations)
        seen.update({"no-spurious-refusal": int(w.owed), "free-then-alloc": int(w.again)})
        seen.update({law.id: self.audits for law in self.laws if "audit" in law.when and not law.conditional})
        seen.update({law: int(w.served) for law in ("disjoint", "in-bounds", "aligned", "big-enough", "waste-bound")})
        seen.update({law: int(w.touched) for law in ("contents", "handle-stable")})
        seen["search-bounded"] = int(w.served + w.refused) if w.edges_taken else 0
        seen["zeroed"] = int(w.served)
        seen.update(self.checker.counted)
        return Counter({law: times for law, times in seen.items() if law in asked and times})
