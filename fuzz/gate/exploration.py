"""Fresh exploration: each engine on each target, from the commit's seed, and traces of what is new.

A new finding becomes a trace file among the committed counterexamples, so that it is a regression case from then on;
one that a committed trace shows already does not.
"""

import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from heaplaw.properties import shards
from heaplaw.properties.engines import why_not
from heaplaw.properties.floors import Measured
from heaplaw.properties.verdict import Finding, Tally

from .. import isolating
from ..options import bar, make_folder
from ..trace_files import telling_name
from .running import Gate, Target, group

_FINDING = 0.8  # of the time for guarded targets; then what they have found is seen again in fresh processes


def explore(gate: Gate, engine: str) -> list[Tally]:
    """One engine on all targets that want it: a tally each."""
    targets = [one for one in gate.targets if engine in one.engines(gate.settings.engines)]
    operations = gate.budget.operations
    if (why := why_not(engine)) is not None:
        tallies = [Tally(one.name, engine, planned=operations, stopped=why) for one in targets]
    else:
        tallies = _run(gate, engine, targets, operations)
    muted = {one.name: one.muted for one in targets}
    for tally in tallies:
        tally.lacking |= muted[tally.target]
    gate.tallies += tallies
    return tallies


def _run(gate: Gate, engine: str, targets: Sequence[Target], operations: int) -> list[Tally]:
    """Those that are safe here in worker processes, the others in guarded ones; findings are confirmed."""
    only = {one.name: one.only for one in targets}
    names = list(only)
    apart = [name for name in names if isolating.needs_isolation(name)]
    until = time.monotonic() + gate.left() / _engines_left(gate, engine)

    def left() -> float:
        return max(0.0, until - time.monotonic())

    with isolating.guards(apart, isolating.Bounds(), gate.jobs) as crew:
        sound, lost = isolating.fresh(crew, apart, engine, operations, ()) if apart else ([], [])
        here = _cut([name for name in names if name not in apart], engine, operations, gate.seed.number, only)
        guarded = _cut([tally.target for tally in sound], engine, operations, gate.seed.number, only)
        before = sum(shard.operations for shard in here)
        with bar(engine, before + sum(shard.operations for shard in guarded)) as progress:
            tallies = lost + shards.run_shards(here, jobs=gate.jobs, seconds=left(), progress=progress)
            tallies += isolating.run_isolated(crew, guarded, left() * _FINDING, lambda done: progress(before + done))
    return sorted(tallies, key=lambda tally: names.index(tally.target))


def _engines_left(gate: Gate, engine: str) -> int:
    """How many engines share the time that is left, this one included."""
    return len(gate.engines) - gate.engines.index(engine)


def _cut(
    names: Sequence[str], engine: str, operations: int, seed: int, only: dict[str, tuple[str, ...]]
) -> list[shards.Shard]:
    """Shards of all targets, the first ones of each first."""
    cut = [shard for name in names for shard in shards.cut([name], engine, operations, seed, only[name])]
    return sorted(cut, key=lambda shard: shard.seed)


# ---- what is kept of it --------------------------------------------------------------------------


def keep(gate: Gate) -> None:
    """Write a trace file for each finding that no committed one shows."""
    shown = {(gate.subject(target), law) for target, law in gate.saved}
    new = [one for one in gate.findings() if (gate.subject(one.target), one.violation.law) not in shown]
    if not new or not gate.save:
        return
    folder = Path(gate.settings.counterexamples)
    make_folder(folder)
    for finding in new:
        path = _free_name(folder, finding)
        path.write_text(str(finding.trace))
        gate.saved[finding.target, finding.violation.law] = str(path)
        gate.new.append(str(path))


def _free_name(folder: Path, finding: Finding) -> Path:
    """A telling name that no other trace has."""
    plain = telling_name(finding.target, finding.violation.law)
    number, path = 1, folder / f"{plain}.trace"
    while path.exists() and path.read_text() != str(finding.trace):
        number += 1
        path = folder / f"{plain}-{number}.trace"
    return path


def measured(gate: Gate) -> list[Measured]:
    """The floors, held against all that was executed on each target."""
    whole: dict[str, Tally] = {}
    of_group = {group(one.name): one.name for one in gate.targets}
    wanted: dict[str, list[Tally]] = defaultdict(list)
    for tally in gate.tallies:
        if group(tally.target) in of_group:
            wanted[of_group[group(tally.target)]].append(tally)
    for name, tallies in wanted.items():
        whole[name] = Tally(name, "all")
        for tally in tallies:
            findings, flaky = tally.findings, tally.flaky
            tally.findings, tally.flaky = [], []  # adding up keeps and sorts them; here only counts matter
            whole[name].add(tally)
            tally.findings, tally.flaky = findings, flaky
    return gate.settings.floors.measure(whole[one.name] for one in gate.targets if one.name in whole)
