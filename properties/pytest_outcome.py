"""The run behind a target's tests, and what it says of each law.

>>> Budget(1000, 10.0, 1, "plain", Path("."))._replace(seed=2).seed
2
"""

import importlib
import multiprocessing
import re
import sys
import time
import types
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from heaplaw.impls.naming import TargetError, is_native
from heaplaw.impls.registry import factory, variants
from heaplaw.lawbook import LAWS
from heaplaw.trace import Trace, render

from .engines import ENGINES, why_not
from .floors import Floors
from .replay import CONFIRM_SECONDS, confirm, recurs
from .saving import save
from .shards import cut
from .strip import strips
from .verdict import Finding, Status, Tally

_LOCAL_TARGETS = "heaplaw_local_targets"  # a module made up here: engines take names, tests have objects


class Budget(NamedTuple):
    """What a run may use."""

    operations: int
    seconds: float
    seed: int
    engine: str
    save: Path


@dataclass
class Outcome:
    """A tally, and how to speak of it law by law."""

    tally: Tally
    budget: Budget
    name: str  # as people write it; empty for a class that no name reaches
    unrun: str = ""  # why the engine did nothing
    texts: dict[str, str] = field(default_factory=dict)

    def properties(self) -> dict[str, object]:
        """For JUnit reports."""
        tally = self.tally
        return {
            "heaplaw_target": self.name or self.tally.target, "heaplaw_engine": self.tally.engine,
            "heaplaw_seed": self.budget.seed, "heaplaw_operations": self.tally.operations,
            "heaplaw_states": len(self.tally.novelty.seen), "heaplaw_version": version("heaplaw"),
            "heaplaw_reached": f"{len(tally.reachable) - len(tally.never_reached)} of {len(tally.reachable)}",
            "heaplaw_never_reached": ", ".join(tally.never_reached),
        }  # fmt: skip

    def judge_floor(self, word: str, wanted: int) -> None:
        """Pass, fail or skip a test of a floor: of a named state, or of a law's condition."""
        if not self.tally.operations:
            pytest.fail(f"{word} not run: {self.unrun or 'nothing was executed'}", pytrace=False)
        [seen] = Floors({word: wanted}).measure([self.tally])
        if seen.why_not:
            pytest.skip(str(seen._replace(target=self.name or seen.target)))
        if not seen.met:
            pytest.fail(f"floor not met: {seen._replace(target=self.name or seen.target)}", pytrace=False)

    def judge(self, law: str) -> None:
        """Pass, fail or skip a test by the law's verdict; what is inconclusive does not pass."""
        tally, status = self.tally, self.tally.status(law)
        if any(finding.violation.law == law for finding in tally.flaky):
            text = f"{law}: a violation was seen once and did not recur (flaky); seed {self.budget.seed}"
            pytest.fail(text, pytrace=False)
        if status is Status.REFUTED:
            found = next(finding for finding in tally.findings if finding.violation.law == law)
            pytest.fail(self._text(found), pytrace=False)
        if status is Status.NOT_APPLICABLE:
            pytest.skip(f"{law} does not apply: {tally.lacking[law]}")
        if not tally.operations:
            pytest.fail(f"{law} not run: {self.unrun or 'nothing was executed'}", pytrace=False)
        if status is Status.NOT_RUN:
            pytest.skip(f"{law} not run: its condition never held in {tally.operations:,} operations")
        if status is Status.INCONCLUSIVE:
            pytest.fail(
                f"{law} inconclusive: {tally.operations:,} of {tally.planned:,} operations were run;"
                " give more --heaplaw-time or fewer --heaplaw-ops", pytrace=False,
            )  # fmt: skip

    def _text(self, finding: Finding) -> str:
        """The counterexample in words; its trace file is written the first time."""
        law = finding.violation.law
        if law not in self.texts:
            trace = finding.trace
            trace.header["target"] = named = _variant(self.name, finding.target) if self.name else ""
            again = "the class has no name that a command could use; move it to the top of a module to replay it"
            if named:
                path = save(trace, self.budget.save, f"{named}-{law}")
                again = f"again: heaplaw replay {relative(path)}   (seed {self.budget.seed})"
            self.texts[law] = "\n".join([*counterexample(finding, trace), again])
        return self.texts[law]


def outcome(target: Any, budget: Budget, known: dict[tuple[str, Budget], Outcome]) -> Outcome:
    """Run an engine on a target, unless the same was run before in this session."""
    name, spoken = _names(target)
    if (name, budget) not in known:
        known[name, budget] = _run(name, spoken, budget)
    return known[name, budget]


def _run(name: str, spoken: str, budget: Budget) -> Outcome:
    if budget.engine not in ENGINES:
        pytest.fail(f"heaplaw: no engine {budget.engine!r}; there are {', '.join(sorted(ENGINES))}", pytrace=False)
    try:
        if is_native(name):
            tally = apart().checked_apart(name, budget.engine, budget.operations, budget.seed, budget.seconds)
            return Outcome(tally, budget, spoken, why_not(budget.engine) or tally.stopped)
        factory(variants(name)[0])
    except TargetError as problem:
        pytest.fail(f"heaplaw: {problem}", pytrace=False)
    deadline = time.monotonic() + budget.seconds
    tally = Tally(name, budget.engine)
    for shard in cut([name], budget.engine, budget.operations, budget.seed):
        tally.add(ENGINES[budget.engine](shard.target, shard.operations, shard.seed, deadline=deadline))
    _set_flaky_aside(tally, spoken)
    return Outcome(tally, budget, spoken, why_not(budget.engine) or "")


def apart() -> Any:
    """What runs targets in processes that may be lost: it stands on the floor above, so it is looked up by name."""
    return importlib.import_module("heaplaw.fuzz.isolating")


def _set_flaky_aside(tally: Tally, spoken: str) -> None:
    """Confirm findings in a fresh process, or in this one where no name reaches the target."""
    named = [Finding(_variant(spoken, f.target) if spoken else f.target, f.violation) for f in tally.findings]
    seen = _recur_elsewhere(named) if spoken else [recurs(str(finding.trace)) for finding in named]
    for finding, recurred in zip(list(tally.findings), seen, strict=True):
        finding.confirmed = recurred
        if not recurred:
            tally.findings.remove(finding)
            tally.flaky.append(finding)


def _recur_elsewhere(findings: list[Finding]) -> list[bool]:
    """One process for all findings; one each where a finding takes its process down."""
    if not findings:
        return []
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        try:
            return list(pool.map(recurs, [str(finding.trace) for finding in findings], timeout=CONFIRM_SECONDS))
        except (BrokenProcessPool, TimeoutError):
            pass
    return [confirm(finding) for finding in findings]


def spoken(target: Any) -> str:
    """What people call a target; what engines call it where they have no name for it."""
    name, called = _names(target)
    return called or name


# ---- names of targets -----------------------------------------------------------------------------


def _names(target: Any) -> tuple[str, str]:
    """(the name that engines use in this process, the name that people can use; empty if there is none)."""
    if isinstance(target, str):
        return target, target
    where = getattr(target, "__module__", "")
    called = getattr(target, "__qualname__", type(target).__name__)
    alias = re.sub(r"\W+", "_", f"{where}_{called}")
    module = sys.modules.setdefault(_LOCAL_TARGETS, types.ModuleType(_LOCAL_TARGETS))
    setattr(module, alias, target)
    return f"{_LOCAL_TARGETS}:{alias}", _spoken(target, where, called)


def _spoken(target: Any, where: str, called: str) -> str:
    """``file.py:Name`` or ``module:Name``, whichever a fresh process can import; else nothing."""
    module = sys.modules.get(where)
    if module is None or getattr(module, called, None) is not target:
        return ""
    candidates = [f"{where}:{called}"]
    if source := getattr(module, "__file__", None):
        candidates.insert(0, f"{relative(Path(source))}:{called}")
    for candidate in candidates:
        try:
            factory(candidate)
        except TargetError:
            continue
        return candidate
    return ""


def _variant(spoken: str, variant: str) -> str:
    """The spoken name with the parameters of a variant."""
    return spoken.partition(",")[0] + (("," + variant.partition(",")[2]) if "," in variant else "")


def relative(path: Path) -> str:
    """As seen from here, where that is shorter."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def counterexample(finding: Finding, trace: Trace) -> list[str]:
    """A violation in words, its trace beside the heap's strips."""
    found = finding.violation
    if finding.picture:  # it was drawn where that is safe
        lines = finding.picture
    elif found.seen == "a hang" or is_native(finding.target):  # drawing it would hang again
        lines = [f"{index + 1:>3}  {render(op)}" for index, op in enumerate(trace.operations)]
    else:
        lines = strips(factory(finding.target), trace.operations, found=found)
    return [
        f"{trace.target or finding.target} breaks {found.law}: {LAWS[found.law].sentence}",
        f"  expected {found.expected}",
        f"  seen     {found.seen}",
        *(f"  {line}" for line in lines),
        *(f"  {line}" for line in finding.said),
    ]
