"""The symbolic engine behind the interface that all engines have: theorems about a target, and findings.

A theorem counts for the law that a wrong kernel would break: proved, it is one more time that the law's
condition was met; refuted, its counterexample is told as a trace, and the law that this breaks is broken.
Laws about which there is no theorem are not run.  Nothing is drawn, so the seed changes nothing.

>>> tally = check("tlsf+T04", 1000, seed=1, most=1)
>>> [(found.violation.law, str(found.trace.operations[0].size)) for found in tally.findings]
[('big-enough', '18446744073709551612')]
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from heaplaw.checker import Checker, lacking
from heaplaw.impls.naming import parse
from heaplaw.impls.registry import factory, variants
from heaplaw.lawbook import LAWS
from heaplaw.trace import Trace

from ..replay import replay
from ..verdict import Finding, Tally
from .verdicts import PROVED

if TYPE_CHECKING:
    from .proving import Proof
    from .theorems import Theorem

NAME = "symbolic"
_SECONDS = 60.0  # ceiling for a theorem


def unavailable() -> str | None:
    """Why it cannot run here."""
    if importlib.util.find_spec("z3") is None:
        return "z3-solver is not installed: pip install 'heaplaw[symbolic]'"
    return None


def check(
    name: str,
    operations: int,
    seed: int,
    *,
    only: Iterable[str] = (),
    most: int | None = None,
    deadline: float = float("inf"),
    progress: Callable[[int], None] = lambda done: None,
) -> Tally:
    """Prove all theorems about a target; an operation is a path through its code, for all values that take it.

    ``only`` limits the laws, ``most`` the findings; ``operations`` are as many as it takes.  ``deadline`` is a
    ``time.monotonic`` value.  What was not proved is inconclusive.  Raises TargetError.
    """
    from .proving import prove

    chosen, started, used = set(only), time.monotonic(), time.process_time()
    checker = Checker(factory(variants(name)[0])())
    tally = Tally(name, NAME, lacking=lacking(checker.shows, checker.contract))
    for theorem, target in _asked(name):
        if chosen and theorem.law not in chosen:
            continue
        if len(tally.findings) >= (len(LAWS) if most is None else most):
            break
        left = deadline - time.monotonic()
        proof = prove(theorem, target, seconds=min(_SECONDS, left)) if left > 0 else None
        _enter(tally, theorem, proof)
        for found in tally.findings:
            found.seconds = found.seconds or time.process_time() - used
        progress(tally.operations)
    tally.planned += tally.operations
    tally.seconds = time.monotonic() - started
    return tally


def _asked(name: str) -> Iterator[tuple[Theorem, str]]:
    """Theorems, and the configurations that they are proved for."""
    from .theorems import all_theorems

    parts = parse(name)
    for theorem in all_theorems():
        if theorem.target == parts.base:
            for target in theorem.targets if name == parts.base else variants(name):
                yield theorem, target


def _enter(tally: Tally, theorem: Theorem, proof: Proof | None) -> None:
    """What a proof says of the laws."""
    tally.runs += 1
    if proof is None:
        tally.planned, tally.stopped = tally.planned + 1, "time was up"
        return
    tally.operations += proof.paths
    if proof.verdict == PROVED:
        tally.evidence[theorem.law] += 1
        return
    if not proof.trace:
        tally.planned += 1
        tally.stopped = f"{theorem.id}: {proof.verdict}, {proof.why}"
        return
    trace = Trace.parse(proof.trace)
    known = {found.violation.law for found in tally.findings}
    for found in replay(trace, trace.target).tally.findings:
        if found.violation.law == proof.law and proof.law not in known:
            length = len(trace.operations)
            tally.findings.append(Finding(found.target, found.violation, after=tally.operations, length=length))


__all__ = ["NAME", "check", "unavailable"]
