"""Old counterexamples on a new strategy: does the law still break, no longer, or another one?

>>> from heaplaw import Trace
>>> lines = ["heaplaw trace 1", "law big-enough", "1  a = alloc 18446744073709551609"]
>>> trace = Trace.parse(lines)
>>> again(trace, "tlsf@conte-3.1,arena=1024,sl=2").outcome, again(trace, "tlsf").outcome
('still fails', 'no longer fails')
"""

from collections.abc import Callable
from typing import NamedTuple

from heaplaw.impls.registry import factory
from heaplaw.lawbook import LAWS
from heaplaw.runs import Violation
from heaplaw.trace import Trace
from heaplaw.twins import TWIN_LAWS

from .minimize import TWINS, first_break, smallest

STILL, NO_LONGER, ANOTHER = "still fails", "no longer fails", "fails another law"


class Again(NamedTuple):
    """What an old trace does now; ``found`` is minimised, None where nothing breaks."""

    target: str
    law: str  # that the trace says it breaks; "" if it says nothing
    outcome: str
    found: Violation | None
    before: int  # operations of the old trace

    @property
    def trace(self) -> Trace | None:
        """The minimised counterexample as a trace file."""
        if self.found is None:
            return None
        return Trace(self.found.trace.operations, {"target": self.target, "law": self.found.law})


def again(
    trace: Trace, target: str, *, same_operation: bool = False, progress: Callable[[int], None] = lambda length: None
) -> Again:
    """Run a counterexample on a target and minimise what it breaks; ``progress``: see ``smallest``.

    The law that the trace names is asked first, alone: others may be in its way.  Raises TargetError.
    """
    build, law, operations = factory(target), trace.header.get("law", ""), trace.operations
    twins = TWINS if law in TWIN_LAWS else 0
    found = None
    if law:
        found = first_break(build, operations, tuple(other for other in LAWS if other != law), twins=twins)
    if found is None:
        found = first_break(build, operations, (), twins=TWINS)
    if found is None:
        return Again(target, law, NO_LONGER, None, len(operations))
    outcome = STILL if law in ("", found.law) else ANOTHER
    best = smallest(build, found, same_operation=same_operation, progress=progress)
    return Again(target, law, outcome, best, len(operations))
