"""Shards: an engine's work cut into stateless pieces, run on several processes.

A shard is (target name, engine, operations, seed); workers receive names, never
objects.  The cut does not depend on the number of processes, so neither does the
result: the same seed gives the same findings with one job or with eight.

>>> [(shard.target, shard.operations, shard.seed) for shard in cut(["tlsf", "buddy"], "plain", 60_000, seed=7)]
[('tlsf', 30000, 7000), ('buddy', 30000, 7000), ('tlsf', 30000, 7001), ('buddy', 30000, 7001)]
"""

import multiprocessing
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from typing import Any, NamedTuple

from .engines import ENGINES
from .replay import confirm
from .verdict import Finding, Tally

_SHARD = 50_000  # operations


class Shard(NamedTuple):
    """One piece of work; everything it does follows from this."""

    target: str
    engine: str
    operations: int
    seed: int
    only: tuple[str, ...] = ()


def cut(targets: Sequence[str], engine: str, operations: int, seed: int, only: Sequence[str] = ()) -> list[Shard]:
    """Shards of at most 50,000 operations, first shards of all targets first."""
    pieces = max(1, -(-operations // _SHARD))
    share = -(-operations // pieces)
    return [
        Shard(target, engine, share, seed * 1000 + piece, tuple(only)) for piece in range(pieces) for target in targets
    ]


def work(shard: Shard, deadline: float, progress: Callable[[int], None] = lambda done: None) -> Tally:
    """Run one shard; ``deadline`` is a time.monotonic value (one clock for all processes of a machine)."""
    return ENGINES[shard.engine](
        shard.target, shard.operations, shard.seed, only=shard.only, deadline=deadline, progress=progress
    )


_counts: Any = ()  # in a worker: operations done so far, one number a shard


def _start_worker(counts: Any) -> None:
    """Ctrl-C ends a worker at once and without a word; the parent does the talking."""
    global _counts  # noqa: PLW0603 - a pool hands shared memory to its workers in no other way
    _counts = counts
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _work_in_process(slot: int, shard: Shard, deadline: float) -> Tally:
    return work(shard, deadline, lambda done: _counts.__setitem__(slot, done))


def run_shards(
    shards: Sequence[Shard],
    *,
    jobs: int = 1,
    seconds: float = float("inf"),
    progress: Callable[[int], None] = lambda done: None,
) -> list[Tally]:
    """One tally a target, in order of first appearance, its findings confirmed in fresh processes."""
    deadline = time.monotonic() + seconds
    if jobs <= 1:
        tallies: list[Tally] = []
        for shard in shards:
            before = sum(tally.operations for tally in tallies)
            tallies.append(work(shard, deadline, lambda done, before=before: progress(before + done)))  # type: ignore[misc]
    else:
        tallies = _in_processes(shards, jobs, deadline, progress)
    merged = by_target(tallies)
    for tally in merged:
        confirm_all(tally)
    return merged


def by_target(tallies: Iterable[Tally]) -> list[Tally]:
    """Tallies of shards added up: one a target, in order of first appearance."""
    merged: dict[str, Tally] = {}
    for tally in tallies:
        if tally.target in merged:
            merged[tally.target].add(tally)
        else:
            merged[tally.target] = tally
    return list(merged.values())


def _in_processes(shards: Sequence[Shard], jobs: int, deadline: float, progress: Callable[[int], None]) -> list[Tally]:
    context = multiprocessing.get_context("spawn")
    counts = context.Array("q", len(shards), lock=False)
    with ProcessPoolExecutor(jobs, context, _start_worker, (counts,)) as pool:
        futures: list[Future[Tally]] = [
            pool.submit(_work_in_process, slot, shard, deadline) for slot, shard in enumerate(shards)
        ]
        pending = set(futures)
        try:
            while pending:
                done, pending = wait(pending, timeout=0.2, return_when=FIRST_EXCEPTION)
                progress(sum(counts))
                for future in done:
                    future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [future.result() for future in futures]


def confirm_all(tally: Tally) -> None:
    """Move findings that a fresh process does not see to ``flaky``."""
    confirmed: list[Finding] = []
    for finding in tally.findings:
        finding.confirmed = confirm(finding)
        (confirmed if finding.confirmed else tally.flaky).append(finding)
    tally.findings = confirmed

