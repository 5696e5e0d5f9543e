"""All published results that are made again, by name, in the order in which they are told.

>>> "half-page" in RESULTS, len({one.sentence for one in RESULTS.values()}) == len(RESULTS)
(True, True)
"""

import time
from typing import Any

from . import (
    compressed_pages,
    half_page,
    lifetimes,
    packets,
    pages_back,
    percpu_frees,
    percpu_quadratic,
    pieces,
    slub_orders,
    xen_pages,
    xen_steps,
    zram_tables,
    zspage_tail,
)
from .shape import Experiment, Outcome, Scale, Table, Verdict, verdict

RESULTS: dict[str, Experiment] = {
    one.name: one
    for one in (
        percpu_frees.EXPERIMENT, percpu_quadratic.EXPERIMENT, zram_tables.ONCE, zram_tables.TEN, zspage_tail.EXPERIMENT,
        pieces.EXPERIMENT, half_page.EXPERIMENT, compressed_pages.EXPERIMENT, xen_steps.EXPERIMENT,
        xen_pages.EXPERIMENT, packets.EXPERIMENT, lifetimes.EXPERIMENT, slub_orders.EXPERIMENT, pages_back.EXPERIMENT,
    )
}  # fmt: skip


def made_again(name: str, scale: Scale, seed: int) -> tuple[Outcome, Verdict, float]:
    """The outcome, what it says, and the seconds of processor time it took.  KeyError for an unknown name."""
    start = time.process_time()
    outcome = RESULTS[name].run(scale, seed)
    return outcome, verdict(RESULTS[name], outcome), time.process_time() - start


def as_data(name: str, outcome: Outcome, judged: Verdict, seconds: float) -> dict[str, Any]:
    """A result for machines: everything but the charts, whose points are in the tables."""
    experiment = RESULTS[name]
    return {
        "name": name,
        "sentence": experiment.sentence,
        "source": str(experiment.source),
        "within": experiment.within,
        "verdict": judged.kind,
        "factor": round(judged.factor, 3) if outcome.figures and judged.factor != float("inf") else None,
        "text": judged.text,
        "seconds": round(seconds, 1),
        "published": _table(outcome.published),
        "ours": [_table(table) for table in outcome.ours],
        "claims": [claim._asdict() for claim in outcome.claims],
        "figures": [{**figure._asdict(), "ours": round(figure.ours, 4)} for figure in outcome.figures],
    }


def _table(table: Table) -> dict[str, Any]:
    return {"title": table.title, "columns": list(table.columns), "rows": [list(row) for row in table.rows]}
