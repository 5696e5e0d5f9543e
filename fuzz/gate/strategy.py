"""A change of strategy as a part of the gate: the new one against the old one, held to thresholds.

    [compare]
    old = "heap.py:Heap@origin/main"
    new = "heap.py:Heap"
    thresholds = { footprint = "+5%", worst_steps = "+0" }

What is measured stands in ``strategies``.  A law that only the new one breaks is red, and so is a threshold that it
does not keep; one for which nothing was measured is not green.
"""

from heaplaw.properties.verdict import COUNTEREXAMPLE, PASSED, Status

from ..options import bar
from ..reports.model import Step
from .configuration import Compared
from .running import Gate, clock

NAME = "compare"
_QUICK = 1_000, 2, 2_000  # operations of a trace, runs of the plain engine, operations of the search


def check(gate: Gate) -> None:
    """Compare what the configuration names."""
    wanted = gate.settings.compare
    if wanted is None:
        return
    with clock() as since:
        steps = _steps(gate, wanted)
        seconds = since()
    gate.enter(NAME, steps, steps[0].said, seconds)


def _steps(gate: Gate, wanted: Compared) -> list[Step]:
    """One step, or one for each threshold that is not kept."""
    from ..strategies import Budget, breaches, compared, showing  # only where one is wanted: it imports much

    subject = f"{wanted.new} after {wanted.old}"
    if gate.late:
        return [Step(NAME, subject, Status.INCONCLUSIVE, "time was up; give more --time")]
    budget = Budget(wanted.operations, search=wanted.search, seconds=gate.left())
    if gate.quick:
        budget = Budget(min(budget.operations, _QUICK[0]), _QUICK[1], min(budget.search, _QUICK[2]), gate.left())
    with bar("comparing", 1, "steps") as progress:
        found = compared(wanted.old, wanted.new, seed=gate.seed.number, budget=budget, progress=progress)
    broken = breaches(found, wanted.thresholds)
    code = showing.exit_code(found, broken)
    said = showing.said(found, broken, code).rpartition(" (exit")[0]
    verdicts = {PASSED: Status.PASSED, COUNTEREXAMPLE: Status.REFUTED}
    steps = [Step(NAME, subject, verdicts.get(code, Status.INCONCLUSIVE), said)]
    for one in broken:
        verdict = Status.REFUTED if one.measured else Status.NOT_RUN
        what = f"{one.old:,.6g} before, {one.new:,.6g} now" if one.measured else "nothing was measured"
        steps.append(Step(NAME, f"{one.threshold}{f' on {one.trace}' if one.trace else ''}", verdict, what))
    return steps
