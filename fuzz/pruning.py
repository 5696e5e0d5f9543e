"""A smaller corpus that reaches as much: the smallest input for everything that any of them reaches.

What an input reaches is run for, not remembered: abstract states, the named ones, and lines of the allocator's own
code.  A corpus is never pruned below a floor, so that a prune gone wrong, with a target that does nothing today,
cannot empty it.

>>> from heaplaw import Kind, Operation, Trace
>>> from .inputs import encode
>>> one = encode(Trace([Operation(Kind.ALLOC, 0, 64)], {"target": "buddy,pages=64"}))
>>> two = encode(Trace([Operation(Kind.ALLOC, 0, 64), Operation(Kind.NOP)], {"target": "buddy,pages=64"}))
>>> kept, dropped = smallest("buddy", {"a": one, "b": two + bytes(4)}, floor=1)
>>> kept, dropped
(['a'], ['b'])
"""

import sys
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any

from heaplaw.impls.registry import factory, variants

from .inputs import lift, unpack, variant_of

FLOOR = 16
"""Inputs that a target keeps, if it has so many."""


def reached(target: str, data: bytes, *, lines: bool = True) -> set[Hashable]:
    """Everything that an input reaches; nothing for bytes that are no input.  Raises TargetError."""
    body = unpack(data)
    if body is None:
        return set()
    variant = variant_of(data, variants(target))
    with _lines_of(type(factory(variant)()), lines) as seen:
        run = lift(variant, body)
    found: set[Hashable] = {("state", state) for state in run.states}
    found |= {("word", word) for word, count in run.reached.items() if count}
    found |= {("line", *line) for line in seen}
    if run.found is not None:
        found.add(("broken", run.found.law))
    return found


@contextmanager
def _lines_of(cls: type, wanted: bool) -> Iterator[set[tuple[str, int]]]:
    """Lines of a class's own modules (and of those beside them) that run in the body, by file and number."""
    seen: set[tuple[str, int]] = set()
    folders = {_folder(sys.modules[base.__module__]) for base in cls.__mro__ if base.__module__ in sys.modules}
    folders.discard("")
    ours: dict[CodeType, bool] = {}

    def local(frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line":
            seen.add((frame.f_code.co_filename.rpartition("/")[2], frame.f_lineno))
        return local

    def each(frame: FrameType, event: str, argument: Any) -> Any:
        code = frame.f_code
        if code not in ours:
            ours[code] = code.co_filename.rpartition("/")[0] in folders
        return local if ours[code] else None

    before = sys.gettrace()
    if wanted:
        sys.settrace(each)
    try:
        yield seen
    finally:
        if wanted:
            sys.settrace(before)


def _folder(module: Any) -> str:
    """Where a module stands, unless it is Python's own."""
    name = module.__name__.partition(".")[0]
    return "" if name in sys.stdlib_module_names else str(getattr(module, "__file__", "") or "").rpartition("/")[0]


def smallest(
    target: str,
    inputs: Mapping[str, bytes],
    *,
    floor: int = FLOOR,
    lines: bool = True,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[list[str], list[str]]:
    """(names to keep, names to drop): from the smallest on, each that reaches something no smaller one does.

    Where that leaves fewer than ``floor``, the smallest of the others stay as well.  One run for each input.
    """
    known: set[Hashable] = set()
    keep: list[str] = []
    order = sorted(inputs, key=lambda name: (len(inputs[name]), name))
    for done, name in enumerate(order, 1):
        new = reached(target, inputs[name], lines=lines)
        if not new <= known:
            known |= new
            keep.append(name)
        progress(done)
    rest = [name for name in order if name not in set(keep)]
    spared = rest[: max(0, floor - len(keep))]
    return sorted([*keep, *spared]), sorted(set(rest).difference(spared))
