"""Which shard comes next: time goes where something new comes from.

Every arm (a target with an engine) has one shard before any has two.  After that an arm is drawn by weight: what
its last shards brought, for each second of CPU time that they took, counting a new abstract state as one, a new
named state as five and a new finding as fifty.  States that a shard was the first to reach are what Good and
Turing's estimate is about, measured instead of estimated.  One shard in five is dealt out evenly, so that no arm
is ever given up; but one that has executed nothing twice running is, and so is an engine that has nothing
left to do.

>>> Planner(["tlsf"], ["plain"], seed=7, operations=1000, shards=1).next(Totals(), set())
Shard(target='tlsf', engine='plain', operations=1000, seed=7000000, only=())
"""

from collections.abc import Sequence, Set
from random import Random

from heaplaw.lawbook import LAWS
from heaplaw.properties.shards import Shard

from .records import DONE, SEEDLESS, Arm, ArmTotals, Totals

_WORD, _FINDING = 5.0, 50.0  # new states that they are worth
_RECENT = 4  # shards of an arm that are looked at
_EVEN = 0.2  # share of the shards that is dealt out evenly
_SEEDS = 1_000_000  # shards of an arm, at most
_ALIKE = 5  # findings of one law on one target after which it is not asked there any more
_IN_VAIN = 2  # shards that executed nothing, running, after which an arm is given up


class Planner:
    """Gives out shards."""

    def __init__(
        self, targets: Sequence[str], engines: Sequence[str], seed: int, operations: int, shards: int | None = None
    ) -> None:
        """``operations``: of a shard.  ``shards``: of each arm, and no more; whatever comes of them."""
        self.arms = [Arm(target, engine) for engine in engines for target in targets]
        self._seed, self._operations, self._shards = seed, operations, shards
        self._rng = Random(f"campaign {seed}")
        self.broken: dict[tuple[str, str], int] = {}  # (target, law) -> findings, different ones

    def next(self, totals: Totals, running: Set[Shard]) -> Shard | None:
        """A shard that is neither complete nor running; None where nothing is left to do."""
        under_way = [Arm(shard.target, shard.engine) for shard in running]
        open_arms = [arm for arm in self.arms if self._open(arm, totals, under_way)]
        if not open_arms:
            return None
        fewest = min(self._given(arm, totals, running) for arm in open_arms)
        if self._shards is not None or fewest == 0:
            arm = next(arm for arm in open_arms if self._given(arm, totals, running) == fewest)
        else:
            arm = self._rng.choices(open_arms, weights(open_arms, totals))[0]
        return self._shard(arm, totals, running)

    def _given(self, arm: Arm, totals: Totals, running: Set[Shard]) -> int:
        return len(totals.seeds.get(arm, ())) + sum((s.target, s.engine) == arm for s in running)

    def _open(self, arm: Arm, totals: Totals, under_way: Sequence[Arm]) -> bool:
        total = totals.arms.get(arm)
        if self._shards is not None:
            return len(totals.seeds.get(arm, ())) + under_way.count(arm) < self._shards
        if arm.engine in SEEDLESS and (arm in under_way or arm in totals.finished):
            return False
        return total is None or not given_up(total)

    def _shard(self, arm: Arm, totals: Totals, running: Set[Shard]) -> Shard:
        taken = totals.seeds.get(arm, set()) | {s.seed for s in running if (s.target, s.engine) == arm}
        first = self._seed * _SEEDS
        seed = next(number for number in range(first, first + _SEEDS) if number not in taken)
        operations = self._operations << min(seed - first, 20) if arm.engine in SEEDLESS else self._operations
        return Shard(arm.target, arm.engine, operations, seed, self._asked(arm.target))

    def _asked(self, target: str) -> tuple[str, ...]:
        """The laws to ask: all, which is said by none, but for those that are known well enough to be broken."""
        known = {law for (where, law), count in self.broken.items() if where == target and count >= _ALIKE}
        if self._shards is not None or not known or known >= set(LAWS):
            return ()
        return tuple(law for law in LAWS if law not in known)


def given_up(total: ArmTotals) -> bool:
    """Has an arm executed nothing for too long?"""
    last = total.gains[-_IN_VAIN:]
    return len(last) == _IN_VAIN and all(gain.ended != DONE for gain in last)


def weights(arms: Sequence[Arm], totals: Totals) -> list[float]:
    """The chances of arms that have had a shard each."""
    promises = [promise(totals.arms[arm]) if arm in totals.arms else 0.0 for arm in arms]
    total = sum(promises) or 1.0
    return [_EVEN / len(arms) + (1 - _EVEN) * one / total for one in promises]


def promise(total: ArmTotals) -> float:
    """What an arm's last shards brought for each second of CPU time."""
    last = total.gains[-_RECENT:]
    new = sum(gain.states + _WORD * gain.words + _FINDING * gain.findings for gain in last)
    return new / max(0.1, sum(gain.seconds for gain in last))
