"""The shape of a published result that is made again: who said what, what ours is, and a verdict that follows.

An experiment states beforehand within which factor its figures must come.  Its run gives the
published table, ours, claims of direction that hold or not, and pairs of figures.  The verdict is
computed from these and from nothing else.

>>> posting = Posting("A. Author", "2017-07-15", "a subject")
>>> said = Table("published", ("object", "ms"), (("4 B", 4960),))
>>> outcome = Outcome(said, (), (Claim("it falls", True, "9, 5, 2"),), (Figure("slope", 4.0, 5.0),))
>>> judged = verdict(Experiment("name", "A sentence.", posting, 2.0, lambda scale, seed: outcome), outcome)
>>> judged.kind, judged.text
('reproduced', 'Reproduced in direction and within a factor of 2 (farthest: slope, 1.25 times apart).')
"""

from collections.abc import Callable, Sequence
from enum import IntEnum
from math import log
from typing import NamedTuple, TypeVar

Cell = str | int | float
Picked = TypeVar("Picked")

REPRODUCED, DIRECTION, NOT_REPRODUCED, NOT_RUN = "reproduced", "direction only", "not reproduced", "not run"
"""Kinds of verdicts, the best first."""


class Scale(IntEnum):
    """How much is run: a test's, a glance's, the whole."""

    TINY = 0
    QUICK = 1
    FULL = 2

    def pick(self, tiny: Picked, quick: Picked, full: Picked) -> Picked:
        """The one of three values that is for this scale."""
        return (tiny, quick, full)[self]


class Posting(NamedTuple):
    """Where a result was published: author, date as far as known, subject or title."""

    author: str
    date: str
    subject: str

    def __str__(self) -> str:
        return f'{self.author}, {self.date}, "{self.subject}"'


class Table(NamedTuple):
    """Columns and rows; the first column names the row."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


class Claim(NamedTuple):
    """A statement without a number, whether it holds here, and the figures that show it."""

    sentence: str
    holds: bool
    seen: str


class Figure(NamedTuple):
    """A published number beside ours, both above 0."""

    what: str
    published: float
    ours: float

    @property
    def factor(self) -> float:
        """How many times apart, from 1 on; without end where ours is 0 or less."""
        if self.ours <= 0 or self.published <= 0:
            return float("inf")
        return max(self.ours / self.published, self.published / self.ours)


class Line(NamedTuple):
    """One curve of a chart: points (x, y), y above 0 where the chart is logarithmic."""

    name: str
    points: tuple[tuple[float, float], ...]


class Chart(NamedTuple):
    """Curves over numbers; ``log``: both axes are logarithmic."""

    title: str
    x: str
    y: str
    lines: tuple[Line, ...]
    log: bool = False


class Outcome(NamedTuple):
    """What a run gives.  ``why``: what explains the distance from what was published."""

    published: Table
    ours: tuple[Table, ...]
    claims: tuple[Claim, ...]
    figures: tuple[Figure, ...] = ()
    why: str = ""
    charts: tuple[Chart, ...] = ()


class Experiment(NamedTuple):
    """A published result.  ``within``: the factor that its figures must come within, stated beforehand."""

    name: str
    sentence: str
    source: Posting
    within: float
    run: Callable[[Scale, int], Outcome]


class Verdict(NamedTuple):
    """One of the kinds above, the farthest figure's factor (1 where there is none) and a sentence."""

    kind: str
    factor: float
    text: str


def verdict(experiment: Experiment, outcome: Outcome) -> Verdict:
    """What the outcome says of the published result.  O(claims + figures)."""
    if not outcome.claims:
        return Verdict(NOT_RUN, 1.0, f"Not run: {outcome.why or 'nothing was claimed'}.")
    because = f" {outcome.why}" if outcome.why else ""
    if wrong := [f"{claim.sentence} ({claim.seen})" for claim in outcome.claims if not claim.holds]:
        return Verdict(NOT_REPRODUCED, _worst(outcome.figures), f"Not reproduced: {'; '.join(wrong)}.{because}")
    if not outcome.figures:
        return Verdict(REPRODUCED, 1.0, f"Reproduced in direction; no figure was published.{because}")
    farthest = max(outcome.figures, key=lambda figure: figure.factor)
    apart = f"{farthest.what}, {farthest.factor:.2f} times apart"
    if farthest.factor <= experiment.within:
        text = f"Reproduced in direction and within a factor of {experiment.within:g} (farthest: {apart}).{because}"
        return Verdict(REPRODUCED, farthest.factor, text)
    text = f"Reproduced in direction, but not within a factor of {experiment.within:g}: {apart}.{because}"
    return Verdict(DIRECTION, farthest.factor, text)


def cell(value: Cell) -> str:
    """A cell as text: numbers with commas, at most three digits behind the point.

    >>> cell(4960), cell(0.5), cell("1 of 8")
    ('4,960', '0.5', '1 of 8')
    """
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{round(value, 3):,}"


def _worst(figures: Sequence[Figure]) -> float:
    return max((figure.factor for figure in figures), default=1.0)


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Exponent of growth: the slope of a straight line through the logarithms.  Raises ValueError for no spread.

    >>> round(slope([(1, 3), (2, 12), (4, 48)]), 6)
    2.0
    """
    return fit([(log(x), log(y)) for x, y in points])[1]


def fit(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """(intercept, slope) of the straight line of least squares.  Raises ValueError where all x are the same.

    >>> fit([(0, 1), (1, 3), (2, 5)])
    (1.0, 2.0)
    """
    n = len(points)
    mean_x, mean_y = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    if not spread:
        raise ValueError("a line needs two different places")
    rise = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    return mean_y - rise * mean_x, rise
