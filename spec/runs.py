"""Whole traces: run them, name the first operation that breaks a law.

>>> from heaplaw import Contract
>>> class Bump:
...     contract = Contract(arena=64)
...     def __init__(self): self.top = 0
...     def alloc(self, size, align=1, *, ctx=None):
...         self.top += size - 1                     # one byte short
...         return self.top - size + 1
...     def free(self, handle): pass
>>> found = run(Bump, [Operation(1, 0, 8), Operation(1, 1, 8), Operation(2, 0)])
>>> found.law, found.index
('disjoint', 1)
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .checker import Checker, Unusable
from .lawbook import Broken
from .operations import Operation
from .trace import Trace
from .twins import compare_twins

SHORT = 1000  # operations; a trace up to this long is audited from its start when it is run again


@dataclass
class Violation:
    """A law, the operation that broke it, and all that is needed to see it again."""

    law: str
    index: int  # of the operation, from 0
    expected: str
    seen: str
    trace: Trace = field(default_factory=Trace)
    heap: str = ""
    sound_until: int = -1  # operation of the last audit that found nothing


def run(
    build: Callable[[], Any],
    operations: Sequence[Operation],
    *,
    mute: Iterable[str] = (),
    audit_every: int = 1,
    audit_from: int = 0,
    twins: int = 0,
) -> Violation | None:
    """Check operations on a fresh target; the first violation, or None.

    Audits after every ``audit_every`` operations from ``audit_from`` on, and at the end; 0: on the schedule.
    ``twins``: also ask the laws about two runs, of so many more targets (see ``twins``).
    """
    checker = Checker(build(), mute=mute, audit_every=audit_every, audit_from=audit_from)
    checker.thorough = audit_every == 1
    try:
        for op in operations:
            checker.step(op)
        checker.finish()
        if twins:
            compare_twins(checker, build, operations, twins)
    except Broken as broken:
        return violation(checker, broken, operations)
    except Unusable:
        pass
    return None


def violation(checker: Checker, broken: Broken, operations: Sequence[Operation]) -> Violation:
    """A broken law with the operations up to it."""
    trace = Trace(list(operations[: checker.index + 1]), {"law": broken.law})
    sound = checker.last_audit_index
    return Violation(broken.law, checker.index, broken.expected, broken.seen, trace, checker.heap(), sound)


def pinpoint(build: Callable[[], Any], found: Violation, *, mute: Iterable[str] = ()) -> Violation:
    """Run a violation's trace again with an audit after every operation: the first to break a law.

    Long traces are audited from the last sound audit on, so that looking stays linear.  A violation
    that does not show again is returned as it was found.
    """
    long = len(found.trace.operations) > SHORT
    again = run(build, found.trace.operations, mute=mute, audit_from=found.sound_until + 1 if long else 0)
    return again if again is not None else found
