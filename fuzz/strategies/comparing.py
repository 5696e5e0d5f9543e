"""Two strategies under the same laws and the same traces: what only one breaks or refuses, and what each costs.

Laws are asked on every trace.  Figures are taken where both do the same: requests that one refuses are left out for
both, and counted.  On traces of the plain engine (small heaps, refused pages, misuse) only laws and refusals are
compared.

>>> seen = compared("xen-xmalloc", "subpage-buddy", budget=Budget(operations=200, search=0, runs=0), recorded=())
>>> [row.workload.name for row in seen.rows]
['churn', 'lifo', 'fifo', 'checkerboard', 'growing', 'pages']
>>> seen.totals()["worst_free_steps"].old > seen.totals()["worst_free_steps"].new
True
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import NamedTuple

from heaplaw.impls.naming import TargetError, parse
from heaplaw.operations import Operation
from heaplaw.properties.old_traces import Again, again
from heaplaw.properties.replay import replay
from heaplaw.properties.verdict import Status, Tally
from heaplaw.trace import Trace

from ..options import Problem
from .adversarial import CAPACITY, Hunt, worse_by
from .claims import Judged, judged
from .measuring import FIGURES, Measured, measured
from .sides import CrashError, Side, opened
from .tracing import GENERATED_LARGEST, Workload, family, from_file, generated, of_plain_engine
from .tracing import recorded as recordings

_SMALL = 1 << 15  # bytes of the heaps that the plain engine's runs are made in
_MOST_PASSES = 3  # requests left out may make others fit that did not

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Budget:
    """How much is done; operations, but for the last."""

    operations: int = 4_000  # of a trace, at most
    runs: int = 4  # of the plain engine, on each of the two
    search: int = 30_000  # of the search for the worst trace, on each of the two
    seconds: float = 300.0  # ceiling; what is not done by then makes the comparison inconclusive


@dataclass
class Row:
    """One trace on both.  ``left_out``: requests that one of them refuses, which neither was asked then."""

    workload: Workload
    old: Measured
    new: Measured
    left_out: int = 0

    @property
    def only_old(self) -> int:
        """Requests that only the old strategy refuses."""
        return len(self.old.refused.keys() - self.new.refused.keys())

    @property
    def only_new(self) -> int:
        """Requests that only the new strategy refuses."""
        return len(self.new.refused.keys() - self.old.refused.keys())


@dataclass(frozen=True)
class Refuted:
    """A law that a side breaks, and the trace, made small; "" where there is none to show."""

    law: str
    target: str
    workload: str
    operation: int  # from 1
    expected: str
    seen: str
    trace: str

    @property
    def length(self) -> int:
        """Operations of the trace."""
        return len(Trace.parse(self.trace).operations) if self.trace else 0


class Old(NamedTuple):
    """An old counterexample on both strategies; ``smaller``: minimised for the new one, "" if it holds there."""

    file: str
    law: str
    on_old: str
    on_new: str
    broken: str  # law that breaks on the new strategy
    before: int
    after: int
    smaller: str


class Total(NamedTuple):
    """A figure of all traces of a kind together."""

    old: float | None
    new: float | None

    @property
    def ratio(self) -> float | None:
        """New to old; None where there is nothing to divide by."""
        return self.new / self.old if self.old and self.new is not None else None


@dataclass
class Comparison:
    """All that was found."""

    old: str
    new: str
    seed: int
    commits: dict[str, str] = field(default_factory=dict)  # name -> commit, of git revisions
    rows: list[Row] = field(default_factory=list)
    engine: list[Row] = field(default_factory=list)  # traces of the plain engine
    adversarial: list[Row] = field(default_factory=list)
    worst_figure: str = "footprint"
    worst: float = 0.0  # times as bad
    laws: dict[str, dict[str, Status]] = field(default_factory=dict)  # law -> "old", "new" -> verdict
    refuted: dict[str, dict[str, Refuted]] = field(default_factory=dict)  # the same, where it breaks
    counterexamples: list[Old] = field(default_factory=list)
    claims: list[Judged] = field(default_factory=list)
    checked: int = 0  # operations under laws, both together
    stopped: str = ""

    @property
    def refuted_by_new_only(self) -> list[str]:
        """Laws that the old strategy keeps and the new one does not."""
        return [law for law, sides in self.refuted.items() if "new" in sides and "old" not in sides]

    @property
    def refuted_by_old_only(self) -> list[str]:
        """Laws that the new strategy keeps and the old one does not."""
        return [law for law, sides in self.refuted.items() if "old" in sides and "new" not in sides]

    def totals(self, kinds: Iterable[str] = ("recorded", "given", "generated")) -> dict[str, Total]:
        """Every figure over all traces of these kinds."""
        rows = [row for row in self.rows if row.workload.kind in kinds]
        old, new = (sum(sides, Measured()) for sides in ([row.old for row in rows], [row.new for row in rows]))
        return {name: Total(old.figure(name), new.figure(name)) for name in FIGURES}


def compared(
    old: str,
    new: str,
    *,
    seed: int = 1,
    budget: Budget | None = None,
    traces: Sequence[Path] = (),
    recorded: Sequence[str] | None = None,
    counterexamples: Path | None = None,
    worst_figure: str = "footprint",
    progress: Progress = lambda done, total: None,
) -> Comparison:
    """Compare two targets, or revisions of them.  Raises Problem for names and files that make no sense.

    ``recorded``: names of recordings that come with the package; None: all of them.
    """
    budget = budget or Budget()
    if worst_figure not in FIGURES:
        raise Problem(f"unknown figure {worst_figure!r}; there are {', '.join(FIGURES)}")
    kind = family(old, new)
    given = [from_file(path, budget.operations, of=kind) for path in traces]
    known = recordings(budget.operations, recorded, kind)
    with opened(old) as one, opened(new) as two:
        work = _Work(one, two, seed, budget, worst_figure)
        shapes = generated(seed, budget.operations, min(one.largest, two.largest), kind)
        return work.all([*known, *given, *shapes], counterexamples, progress)


class _Work:
    """One comparison, step by step."""

    def __init__(self, old: Side, new: Side, seed: int, budget: Budget, worst_figure: str) -> None:
        self.old, self.new, self.seed, self.budget = old, new, seed, budget
        self.found = Comparison(old.name, new.name, seed, worst_figure=worst_figure)
        self.found.commits = {side.name: side.commit for side in (old, new) if side.commit}
        self._tallies = {"old": Tally(old.name, "compare"), "new": Tally(new.name, "compare")}
        self._end = time.monotonic() + budget.seconds

    def all(self, workloads: list[Workload], counterexamples: Path | None, progress: Progress) -> Comparison:
        """Everything, until time is up."""
        jobs: list[Callable[[], None]] = [lambda work=work: self._row(work) for work in workloads]  # type: ignore[misc]
        jobs += [self._engine] * bool(self.budget.runs)
        jobs += [self._search] * bool(self.budget.search)
        jobs += [lambda: self._counterexamples(counterexamples)] * bool(counterexamples)
        jobs.append(self._claims)
        for done, job in enumerate(jobs):
            if time.monotonic() > self._end:
                self.found.stopped = f"time was up after {done} of {len(jobs)} steps; give more --time"
                break
            job()
            progress(done + 1, len(jobs))
        self._verdicts()
        return self.found

    # ---- traces ---------------------------------------------------------------------------

    def _row(self, work: Workload) -> None:
        self._ask_laws(work, work.capacity)
        if (row := self._measure(work, work.capacity)) is not None:
            self.found.rows.append(row)

    def _engine(self) -> None:
        """Runs of the plain engine on each of them, done by both."""
        for place, side in (("old", self.old), ("new", self.new)):
            try:
                runs = side.do(of_plain_engine, self.seed, self.budget.runs, capacity=_SMALL)
            except CrashError:
                self._crash(place, "the plain engine")
                continue
            for number, operations in enumerate(runs, 1):
                work = Workload(f"plain {place} {number}", "engine", operations, {}, len(operations))
                self._ask_laws(work, _SMALL)
                if (row := self._measure(work, _SMALL, alike=False)) is not None:
                    self.found.engine.append(row)

    def _measure(self, work: Workload, capacity: int, alike: bool = True) -> Row | None:
        """Figures of both; ``alike``: for the requests that both serve."""
        without: set[int] = set()
        refused: list[dict[int, str]] = []
        for _ in range(_MOST_PASSES):
            try:
                pair = [
                    side.do(measured, work.operations, without, capacity=capacity, geometry=work.geometry)
                    for side in (self.old, self.new)
                ]
            except CrashError:
                return None
            refused = refused or [dict(one.refused) for one in pair]
            differ = pair[0].refused.keys() ^ pair[1].refused.keys()
            if not differ or not alike:
                break
            without |= differ
        for one, first in zip(pair, refused, strict=True):
            one.refused = first  # as asked in full
        return Row(work, pair[0], pair[1], len(without))

    # ---- laws -----------------------------------------------------------------------------

    def _ask_laws(self, work: Workload, capacity: int) -> None:
        trace = Trace(work.operations)
        for place, side in (("old", self.old), ("new", self.new)):
            try:
                tally = side.do(_checked, trace, capacity=capacity, geometry=work.geometry)
                self._tallies[place].add(tally)
                self.found.checked += tally.operations
                for finding in tally.findings:
                    if place not in self.found.refuted.get(finding.violation.law, {}):
                        self._enter(place, side.do(_smaller, finding.trace, capacity=capacity, geometry=work.geometry),
                                    finding.violation.law, work.name)  # fmt: skip
            except CrashError:
                self._crash(place, work.name)

    def _enter(self, place: str, small: Again, law: str, workload: str) -> None:
        side = self.old if place == "old" else self.new
        name, found = side.name, small.found
        if found is None or found.law != law:  # it does not recur alone: say so, and show no trace
            entry = Refuted(law, name, workload, 0, "", "it did not recur when run again", "")
        else:
            trace = Trace(found.trace.operations, {"target": _shown(side, small), "law": law})
            entry = Refuted(law, name, workload, found.index + 1, found.expected, found.seen, str(trace))
        self.found.refuted.setdefault(law, {})[place] = entry

    def _crash(self, place: str, workload: str) -> None:
        name = self.old.name if place == "old" else self.new.name
        said = f"the process ended; 'heaplaw check {name}' finds the shortest way there"
        entry = Refuted("returns", name, workload, 0, "every call to return", said, "")
        self.found.refuted.setdefault("returns", {}).setdefault(place, entry)

    def _verdicts(self) -> None:
        """Of every law that is asked of one of them at least."""
        laws = {law for tally in self._tallies.values() for law in tally.evidence} | self.found.refuted.keys()
        for law in sorted(laws):
            self.found.laws[law] = {
                place: Status.REFUTED if place in self.found.refuted.get(law, {}) else tally.status(law)
                for place, tally in self._tallies.items()
            }

    # ---- worst case, old counterexamples, claims ----------------------------------------------

    def _search(self) -> None:
        name, most = self.found.worst_figure, GENERATED_LARGEST[family(self.old.name, self.new.name)]
        largest = min(self.old.largest, self.new.largest, most)

        def score(operations: Sequence[Operation]) -> float | None:
            try:
                one, two = (side.do(measured, operations, capacity=CAPACITY) for side in (self.old, self.new))
            except CrashError:
                return None
            old, new = one.figure(name), two.figure(name)
            if old is None or new is None or one.problem or two.problem or not (one.served and two.served):
                return None
            if name != "refused" and one.refused.keys() != two.refused.keys():
                return None
            return worse_by(name, old, new)

        rng = Random(f"adversarial {name} {self.seed}")
        worst = Hunt(score, rng, max(1, largest), self.budget.search).run()
        if not worst.operations:
            return
        header = {"note": f"worst {name} of {self.new.name} beside {self.old.name}, {worst.score:.3f} times"}
        work = Workload("adversarial", "adversarial", worst.operations, header, len(worst.operations))
        self._ask_laws(work, CAPACITY)
        if (row := self._measure(work, CAPACITY, alike=False)) is not None:
            self.found.adversarial, self.found.worst = [row], worst.score

    def _counterexamples(self, folder: Path | None) -> None:
        for file, trace in _traces(folder):
            try:
                one, two = (side.do(_smaller_there, trace) for side in (self.old, self.new))
            except CrashError:
                raise Problem(f"{file} ends the process; 'heaplaw minimize' runs it in forks") from None
            small = Trace()
            if (found := two.found) is not None:
                small = Trace(found.trace.operations, {"target": _shown(self.new, two), "law": found.law})
            entry = Old(
                file.name, two.law, one.outcome, two.outcome, small.header.get("law", ""), two.before,
                len(small.operations), str(small) if found is not None else "",
            )  # fmt: skip
            self.found.counterexamples.append(entry)
            for place, its in (("old", one), ("new", two)):
                if its.found is not None and place not in self.found.refuted.get(its.found.law, {}):
                    self._enter(place, its, its.found.law, file.name)

    def _claims(self) -> None:
        self.found.claims = list(judged(self.old.target, self.new.target, self.seed))


def _traces(folder: Path | None) -> Iterator[tuple[Path, Trace]]:
    """Trace files of a folder.  Raises Problem."""
    if folder is None or not folder.is_dir():
        raise Problem(f"{folder} is no folder of trace files")
    files = sorted(path for path in folder.glob("*.trace") if path.is_file())
    if not files:
        raise Problem(f"{folder} has no trace files; their names end in .trace")
    for file in files:
        work = from_file(file, 1 << 30)
        yield file, Trace(work.operations, work.geometry)


def _shown(side: Side, small: Again) -> str:
    """What a trace names as its target: of a git revision not the folder that it was laid out in for a while."""
    return side.name if side.commit else small.target


def _checked(target: str, trace: Trace) -> Tally:
    """A trace under all laws; run where the target's code is."""
    return replay(trace, target).tally


def _smaller(target: str, trace: Trace) -> Again:
    """A counterexample made small on a target; run where the target's code is.  Raises TargetError."""
    try:
        return again(trace, target)
    except TargetError as problem:
        raise Problem(str(problem)) from None


def _smaller_there(target: str, trace: Trace) -> Again:
    """The same for a trace that names its target: where that is a revision of this one, its parameters are kept."""
    parts = parse(target)
    if trace.target and (its := parse(trace.target)).base == parts.base and not parts.parameters:
        target = str(parts._replace(parameters=its.parameters))
    return _smaller(target, trace)
