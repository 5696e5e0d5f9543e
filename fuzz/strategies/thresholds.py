"""How much worse the new strategy may be: ``footprint=+5%``, ``worst_steps=+0``, ``returned=-10%``.

A threshold holds for every recorded, given and generated trace; ``adversarial`` bounds the figure of the search on
the trace that it found.  A limit without % is an amount: bytes, steps, requests, or for shares percentage points.

>>> limit = parse_threshold("footprint=+5%")
>>> limit.allows(1000, 1050), limit.allows(1000, 1051)
(True, False)
>>> parse_threshold("returned=-10%").allows(0.9, 0.8)
False
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..options import Problem
from .measuring import FIGURES, Figure

if TYPE_CHECKING:
    from .comparing import Comparison

ADVERSARIAL = "adversarial"
_FORM = re.compile(r"(?P<name>[a-z0-9_]+)=(?P<amount>[+-]\d+(\.\d+)?)(?P<percent>%?)")
_NEGLIGIBLE = 1e-9  # shares are fractions


@dataclass(frozen=True)
class Threshold:
    """``amount`` by which the new figure may be worse; ``percent``: of the old one."""

    name: str
    amount: float
    percent: bool

    def __str__(self) -> str:
        return f"{self.name}={self.amount:+g}{'%' if self.percent else ''}"

    def allows(self, old: float, new: float, figure: Figure | None = None) -> bool:
        """Is the new figure no further on the worse side than this?"""
        figure = figure or FIGURES[self.name]
        scale = 0.01 if figure.unit == "share" else 1.0
        limit = old + (abs(old) * self.amount / 100 if self.percent else self.amount * scale)
        return new <= limit + _NEGLIGIBLE if figure.less_is_better else new >= limit - _NEGLIGIBLE


@dataclass(frozen=True)
class Breach:
    """A threshold that the new strategy does not keep; ``old`` is None where nothing was measured."""

    threshold: Threshold
    trace: str
    old: float | None
    new: float | None

    @property
    def measured(self) -> bool:
        """False: nobody knows whether it is kept."""
        return self.old is not None and self.new is not None


def parse_threshold(text: str) -> Threshold:
    """Read ``NAME=+N`` or ``NAME=+N%``.  Raises Problem."""
    found = _FORM.fullmatch(text.strip())
    if found is None:
        raise Problem(f"{text!r} is no threshold; write footprint=+5% or worst_steps=+0")
    name = found["name"]
    if name not in FIGURES and name != ADVERSARIAL:
        raise Problem(f"unknown figure {name!r}; there are {', '.join([*FIGURES, ADVERSARIAL])}")
    return Threshold(name, float(found["amount"]), bool(found["percent"]))


def thresholds_of(config: Mapping[str, Any] | Iterable[str]) -> list[Threshold]:
    """Those of a configuration table (``footprint = "+5%"``) or of a list of texts.  Raises Problem."""
    texts = [f"{name}={value}" for name, value in config.items()] if isinstance(config, Mapping) else config
    return [parse_threshold(text) for text in texts]


def breaches(comparison: "Comparison", thresholds: Iterable[Threshold]) -> list[Breach]:
    """Where the new strategy is worse than allowed, and thresholds for which nothing was measured."""
    found = []
    for threshold in thresholds:
        pairs = _pairs(comparison, threshold.name)
        figure = FIGURES[comparison.worst_figure] if threshold.name == ADVERSARIAL else FIGURES[threshold.name]
        if not pairs:
            found.append(Breach(threshold, "", None, None))
        found += [
            Breach(threshold, trace, old, new)
            for trace, old, new in pairs
            if not threshold.allows(old, new, figure)
        ]  # fmt: skip
    return found


def _pairs(comparison: "Comparison", name: str) -> list[tuple[str, float, float]]:
    """(trace, old, new) wherever both show it."""
    rows = comparison.adversarial if name == ADVERSARIAL else comparison.rows
    figure = comparison.worst_figure if name == ADVERSARIAL else name
    pairs = [(row.workload.name, row.old.figure(figure), row.new.figure(figure)) for row in rows]
    return [(trace, old, new) for trace, old, new in pairs if old is not None and new is not None]
