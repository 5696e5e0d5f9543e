"""A campaign's directory: what it is made of, and what follows from that.

    campaign.json          targets, engines, seed and budgets
    shards/<name>.json     a shard's result, which is the record that it is complete
    verdicts/<hash>.json   what became of one raw finding in a fresh process
    incidents/<hash>.json  a process that was lost, and what it was doing
    corpus/<target>/<sha1> inputs (see ``corpus``)
    findings/              traces and pytest cases, made from the verdicts
    status.json            totals, for whoever looks in

Every file is written whole, under a name that follows from its content or from its shard.  So a campaign may be
killed at any moment: what has no file has not happened, what has one has happened once.  Totals are never kept;
they are counted again from the files.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha1
from pathlib import Path
from typing import Any, NamedTuple

from heaplaw.properties import searching
from heaplaw.properties.proofs import engine as symbolic
from heaplaw.properties.shards import Shard

from .inputs import safe_name
from .report import to_json
from .store import is_part, write_whole

FORMAT = "heaplaw shard 1"
DONE, LOST, FAILED = "done", "lost", "failed"
"""How a shard ended: with a tally or a cause; its process lost for no reason that is seen again; by a problem."""
SEEDLESS = frozenset({searching.NAME, symbolic.NAME})
"""Engines that draw nothing: a second shard gets twice the budget, until one is searched to its end."""
_FOLDERS = ("shards", "verdicts", "incidents", "findings", "running")


class InUse(Exception):  # noqa: N818 - says what is the matter with the directory
    """Another campaign works in this directory."""


def hash_of(*parts: Any) -> str:
    """The name of some content."""
    return sha1(json.dumps(parts).encode(), usedforsecurity=False).hexdigest()


def shard_name(shard: Shard) -> str:
    """A shard's file: telling, and different for every shard."""
    return f"{safe_name(shard.target)}-{shard.engine}-{shard.seed}-{hash_of(*shard)[:10]}"


class Arm(NamedTuple):
    """What time can be spent on."""

    target: str
    engine: str


@dataclass
class Gain:
    """What one shard brought that was not known before it."""

    states: int = 0
    words: int = 0  # named states
    findings: int = 0
    seconds: float = 0.0  # of CPU time
    ended: str = DONE


@dataclass
class ArmTotals:
    """What was spent on an arm, and what came of it."""

    shards: int = 0
    operations: int = 0
    runs: int = 0
    seconds: float = 0.0  # of CPU time
    states: int = 0  # abstract ones, that it was the first to reach
    lost: int = 0
    failed: int = 0
    why: str = ""  # the last problem
    gains: list[Gain] = field(default_factory=list)  # in the order of their seeds when read, of their ends after that


class Totals:
    """What the records amount to."""

    def __init__(self) -> None:
        self.arms: dict[Arm, ArmTotals] = {}
        self.states: dict[str, set[str]] = {}  # digests of abstract states, by target
        self.words: dict[str, set[str]] = {}  # named states, by target
        self.raw: dict[str, dict[str, Any]] = {}  # findings as engines told them, by hash
        self.seeds: dict[Arm, set[int]] = {}
        self.finished: set[Arm] = set()  # engines that have nothing left to do

    def arm(self, target: str, engine: str) -> ArmTotals:
        """Totals of an arm, which can be added to."""
        return self.arms.setdefault(Arm(target, engine), ArmTotals())

    def of(self, target: str) -> list[ArmTotals]:
        """Totals of a target's arms."""
        return [total for arm, total in self.arms.items() if arm.target == target]

    def operations(self, target: str) -> int:
        """Operations done on a target, by all engines."""
        return sum(total.operations for total in self.of(target))

    def add(self, record: dict[str, Any]) -> Gain:
        """Count a record, for which this is the first time; what it brought."""
        arm = Arm(record["target"], record["engine"])
        total = self.arm(*arm)
        states, words = self.states.setdefault(arm.target, set()), self.words.setdefault(arm.target, set())
        before = len(states), len(words), len(self.raw)
        states.update(record["states"])
        words.update(word for word, count in record["words"].items() if count)
        for found in (*record["findings"], *record["flaky"]):
            self.raw.setdefault(raw_name(found), {**found, "shard": shard_name(shard_of(record))})
        gain = Gain(
            len(states) - before[0], len(words) - before[1], len(self.raw) - before[2], record["cpu"], record["ended"]
        )
        total.shards += 1
        total.operations += record["done"]
        total.runs += record["runs"]
        total.seconds += record["cpu"]
        total.states += gain.states
        total.lost += record["ended"] == LOST
        total.failed += record["ended"] == FAILED
        total.why = record["why"] or total.why
        total.gains.append(gain)
        self.seeds.setdefault(arm, set()).add(record["seed"])
        if arm.engine in SEEDLESS and record["ended"] == DONE and record["done"] >= record["planned"]:
            self.finished.add(arm)
        return gain


def raw_name(found: dict[str, Any]) -> str:
    """What makes a finding the same: its law, its target, its trace."""
    return hash_of(found["law"], found["target"], found["trace"])


def shard_of(record: dict[str, Any]) -> Shard:
    """The shard that a record is about."""
    return Shard(record["target"], record["engine"], record["operations"], record["seed"], tuple(record["only"]))


class Book:
    """The directory itself."""

    def __init__(self, folder: Path) -> None:
        """Make it where it is not there, and keep others out while this process lives.  Raises InUse, OSError."""
        self.folder = folder
        for name in _FOLDERS:
            (folder / name).mkdir(parents=True, exist_ok=True)
        self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise InUse(f"another campaign is at work in {folder}; wait for its end, or name another folder") from None
        self.complaints: list[str] = []

    def close(self) -> None:
        """Let others in."""
        os.close(self._lock)

    # ---- settings -----------------------------------------------------------------------------

    def settings(self) -> dict[str, Any]:
        """What the campaign was begun with; nothing for a new one."""
        path = self.folder / "campaign.json"
        return _read(path) or {}

    def keep_settings(self, settings: dict[str, Any]) -> None:
        """Write that down."""
        self._write("campaign.json", settings)

    # ---- records ------------------------------------------------------------------------------

    def totals(self) -> Totals:
        """Everything counted again, from the files; one that is damaged is as if its shard had not run."""
        totals = Totals()
        records = sorted(self._all("shards", FORMAT), key=lambda record: (record["seed"], record.get("ended_at", 0)))
        for record in records:
            totals.add(record)
        return totals

    def has(self, shard: Shard) -> bool:
        """Is this shard complete?"""
        return (self.folder / "shards" / f"{shard_name(shard)}.json").exists()

    def enter(self, record: dict[str, Any]) -> None:
        """A shard is complete."""
        self._write(f"shards/{shard_name(shard_of(record))}.json", {"format": FORMAT, **record})

    def verdicts(self) -> dict[str, dict[str, Any]]:
        """What became of raw findings, by their hash."""
        return {verdict["raw"]: verdict for verdict in self._all("verdicts", "heaplaw verdict 1")}

    def enter_verdict(self, verdict: dict[str, Any]) -> None:
        """A raw finding was looked at in a fresh process."""
        self._write(f"verdicts/{verdict['raw']}.json", {"format": "heaplaw verdict 1", **verdict})

    def incidents(self) -> int:
        """How many processes were lost."""
        return sum(1 for name in os.listdir(self.folder / "incidents") if not is_part(name))

    def enter_incident(self, incident: dict[str, Any]) -> None:
        """A process was lost; the same loss of the same shard is one incident."""
        name = hash_of(*(incident[key] for key in ("target", "engine", "seed", "kind", "crumb")))
        self._write(f"incidents/{name}.json", {"format": "heaplaw incident 1", **incident})

    def status(self, status: dict[str, Any]) -> None:
        """For whoever looks in: whole, but not forced to the disk."""
        self._write("status.json", status, lasting=False)

    def _write(self, name: str, value: Any, *, lasting: bool = True) -> None:
        write_whole(self.folder / name, to_json(value).encode(), lasting=lasting)

    def _all(self, folder: str, wanted: str) -> Iterator[dict[str, Any]]:
        """Every file of a folder; interrupted ones are cleared away, damaged ones are set aside and complained of."""
        for path in sorted((self.folder / folder).iterdir()):
            if is_part(path.name):
                path.unlink(missing_ok=True)
                continue
            if path.suffix != ".json":
                continue
            value = _read(path)
            if value is None or value.get("format") != wanted:
                self.complaints.append(f"{path} is damaged or of another version: not counted, and done again")
                path.replace(path.with_suffix(".damaged"))
            else:
                yield value


def _read(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
