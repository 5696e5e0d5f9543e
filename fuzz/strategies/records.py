"""A comparison as data for JSON: everything but time, so that the same seed gives the same bytes.

>>> from .measuring import Measured
>>> measurement(Measured())["footprint"] is None
True
"""

from collections.abc import Sequence
from typing import Any

from heaplaw.trace import Trace

from .claims import Judged
from .comparing import Comparison, Refuted, Row
from .measuring import FIGURES, Measured, quantile
from .thresholds import Breach

FORMAT = "heaplaw comparison 1"
_DIGITS = 6


def as_data(found: Comparison, broken: Sequence[Breach], code: int) -> dict[str, Any]:
    """The report."""
    return {
        "format": FORMAT,
        "what": "strategies",
        "old": found.old,
        "new": found.new,
        "commits": found.commits,
        "seed": found.seed,
        "exit": code,
        "stopped": found.stopped,
        "checked_operations": found.checked,
        "laws": {law: {place: status.value for place, status in sides.items()} for law, sides in found.laws.items()},
        "refuted": {
            law: {place: refuted(one) for place, one in sides.items()} for law, sides in found.refuted.items()
        },
        "totals": {
            kind: {
                name: {"old": rounded(total.old), "new": rounded(total.new)}
                for name, total in found.totals((kind,)).items()
            }
            for kind in ("recorded", "given", "generated")
            if any(row.workload.kind == kind for row in found.rows)
        },
        "traces": [_row(row) for row in found.rows],
        "plain_engine": [_row(row, figures=False) for row in found.engine],
        "adversarial": [
            {"figure": found.worst_figure, "times_as_bad": rounded(found.worst), **_row(row), "trace": trace_of(row)}
            for row in found.adversarial
        ],
        "counterexamples": [one._asdict() for one in found.counterexamples],
        "claims": [_claim(judged) for judged in found.claims],
        "thresholds_not_kept": [
            {"threshold": str(one.threshold), "trace": one.trace, "old": rounded(one.old), "new": rounded(one.new)}
            for one in broken
        ],
    }


def rounded(value: float | None) -> float | None:
    """Digits enough, and the same everywhere."""
    return None if value is None else round(value, _DIGITS)


def measurement(seen: Measured) -> dict[str, Any]:
    """Every figure, the quantiles of steps by kind of call, the counters of ``cost`` added up."""
    kinds = {"alloc": seen.alloc_steps, "free": seen.free_steps}
    return {
        **{name: rounded(seen.figure(name)) for name in FIGURES},
        "requests": seen.requests,
        "served": seen.served,
        "steps": {
            kind: {"calls": calls.total(), "median": quantile(calls, 0.5), "p99": quantile(calls, 0.99),
                   "worst": max(calls)}
            for kind, calls in kinds.items()
            if calls
        },
        "counters": dict(sorted(seen.counters.items())),
        "problem": seen.problem,
    }  # fmt: skip


def refuted(one: Refuted) -> dict[str, Any]:
    """A law that is broken."""
    names = ("target", "workload", "operation", "expected", "seen", "trace")
    return {name: getattr(one, name) for name in names}


def trace_of(row: Row) -> str:
    """A trace file's text."""
    return str(Trace(row.workload.operations, {"note": row.workload.geometry.get("note", "")}))


def _row(row: Row, figures: bool = True) -> dict[str, Any]:
    measured = {"old": measurement(row.old), "new": measurement(row.new)} if figures else {}
    return {
        "name": row.workload.name,
        "kind": row.workload.kind,
        "operations": len(row.workload.operations),
        "of": row.workload.whole,
        "left_out": row.left_out,
        "only_old_refuses": row.only_old,
        "only_new_refuses": row.only_new,
        **measured,
    }


def _claim(judged: Judged) -> dict[str, Any]:
    claim, evidence = judged
    return {
        "id": claim.id,
        "says": claim.says,
        "source": claim.source,
        "verdict": judged.verdict,
        "unit": evidence.unit,
        "said": evidence.said,
        "figures": [
            {"what": what, claim.first: rounded(before), claim.second: rounded(after)}
            for what, before, after in evidence.figures
        ],
    }
