"""The campaign itself: gives out shards, enters what comes back, has findings confirmed; loses nothing.

Nothing is kept here that does not follow from the files of the campaign's directory (see ``records``), so this
process, too, may be killed at any moment.
"""

import base64
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from heaplaw.properties.shards import Shard

from .cases import write_case
from .child import KILLED, Loss
from .corpus import Corpus
from .crew import Crew, Ended
from .planning import Planner
from .records import DONE, FAILED, LOST, Book, Totals, raw_name
from .store import StoreError

_ATTEMPTS = 3  # a shard whose process is lost each time, for no reason that is seen again
_CONFIRM_SECONDS, _EXAMINE_SECONDS = 20.0, 30.0
_SMALLER_SECONDS = 15.0  # more, for making small what takes a process along
_LOOK = 0.25  # seconds between looks


@dataclass
class Settings:
    """What a campaign is to do."""

    targets: list[str]
    engines: list[str]
    seed: int = 1
    operations: int = 20_000  # of a shard
    shard_seconds: float = 20.0  # that it may take
    shards: int | None = None  # of each target and engine; None: as many as there is time for
    seconds: float = float("inf")
    corpus: str = ""


@dataclass
class Work:
    """A job that is under way."""

    do: str
    shard: Shard | None = None
    loss: Loss | None = None  # that is being examined
    found: dict[str, Any] = field(default_factory=dict)  # that is being confirmed
    tries: int = 1
    since: float = field(default_factory=time.monotonic)


class Campaign:
    """One sitting of a campaign."""

    def __init__(self, book: Book, crew: Crew, settings: Settings, tell: Callable[[str], None]) -> None:
        """``tell`` is told, in a line each, what people should know at once."""
        self.book, self.settings, self.tell = book, settings, tell
        self._crew = crew
        self.totals: Totals = book.totals()
        self.verdicts = book.verdicts()
        self.findings: dict[str, dict[str, Any]] = {}
        self.flaky: dict[str, dict[str, Any]] = {}
        self.unusable: dict[str, str] = {}  # targets that take their process along, and how
        self.last_loss: dict[str, str] = {}  # by target, of this sitting
        self.wrong: dict[str, str] = {}  # those whose names mean nothing, and why
        self.peak = 0  # bytes, of the largest process seen
        self.incidents = book.incidents()
        self.begun = time.monotonic()
        self.before = sum(self.totals.operations(target) for target in settings.targets)
        self._deadline = self.begun + settings.seconds
        self._corpus = Corpus(settings.corpus)
        self._planner = Planner(
            settings.targets, settings.engines, settings.seed, settings.operations, settings.shards
        )
        self.running: dict[int, Work] = {}
        self._again: list[Work] = []  # to be given out before new shards
        self._attempts: Counter[Shard] = Counter()
        for verdict in self.verdicts.values():
            self._judge(verdict)
        known = {*self.verdicts}
        self._again += [Work("confirm", found=found) for name, found in self.totals.raw.items() if name not in known]

    # ---- the loop -------------------------------------------------------------------------------

    def probe(self) -> None:
        """Have every target built once, in a child process.  Fills ``unusable`` and ``wrong``."""
        waiting = list(self.settings.targets)
        asked: dict[int, str] = {}
        while waiting or asked:
            while waiting and self._crew.free > 0:
                target = waiting.pop()
                asked[self._crew.submit({"do": "probe", "target": target, "seconds": 10.0})] = target
            for ended in self._crew.wait(_LOOK):
                target = asked.pop(ended.ticket)
                if isinstance(ended.answer, Loss):
                    self._incident(Shard(target, "probe", 0, 0), ended.answer, ended.where)
                    self.unusable[target] = f"building it took its process along: {ended.answer.why}"
                elif "error" in ended.answer:
                    self.wrong[target] = ended.answer["why"]
        self._planner.arms = [arm for arm in self._planner.arms if arm.target not in self.unusable]

    def run(self, look: Callable[["Campaign"], None]) -> None:
        """Work until the time is up or nothing is left to do; ``look`` is called now and then."""
        while self._give_out() or self.running:
            for ended in self._crew.wait(_LOOK):
                self.peak = max(self.peak, ended.peak)
                self._take(self.running.pop(ended.ticket), ended)
            look(self)

    @property
    def left(self) -> int | None:
        """Shards that are still to be done, where their number was given."""
        if self.settings.shards is None:
            return None
        arms = self._planner.arms
        return sum(max(0, self.settings.shards - len(self.totals.seeds.get(arm, ()))) for arm in arms)

    def _give_out(self) -> bool:
        """Keep the crew busy; False when there is nothing to give."""
        while self._crew.free > 0:
            work = self._next()
            if work is None:
                return False
            self.running[self._crew.submit(self._job(work))] = work
        return True

    def _next(self) -> Work | None:
        late = time.monotonic() >= self._deadline
        for index, work in enumerate(self._again):
            if work.do != "shard" or not late:
                return self._again.pop(index)
        if late:
            return None
        busy = {work.shard for work in (*self.running.values(), *self._again) if work.shard is not None}
        self._planner.broken = Counter((f["base"], f["law"]) for f in self.findings.values())
        shard = self._planner.next(self.totals, busy)
        return None if shard is None else Work("shard", shard)

    def _job(self, work: Work) -> dict[str, Any]:
        work.since = time.monotonic()
        if work.do == "confirm":
            return {"do": "confirm", "trace": work.found["trace"], "seconds": _CONFIRM_SECONDS, "fresh": True}
        assert work.shard is not None
        if work.do == "examine":
            assert work.loss is not None
            seconds = _SMALLER_SECONDS + _EXAMINE_SECONDS
            return {
                "do": "examine", "target": work.shard.target, "kind": work.loss.kind, "crumb": work.loss.crumb,
                "smaller": _SMALLER_SECONDS, "seconds": seconds, "idle": seconds, "fresh": True,
            }  # fmt: skip
        seconds = min(self.settings.shard_seconds, max(0.5, self._deadline - time.monotonic()))
        return {"do": "shard", **work.shard._asdict(), "seconds": seconds, "corpus": self.settings.corpus}

    def _take(self, work: Work, ended: Ended) -> None:
        """Enter what has come back."""
        answer = ended.answer
        if work.do == "confirm":
            self._confirmed(work, answer)
        elif work.do == "examine":
            self._examined(work, answer)
        elif isinstance(answer, Loss):
            self._lost(work, answer, ended.where)
        else:
            self._finished(work, answer, ended.where)

    # ---- shards ---------------------------------------------------------------------------------

    def _finished(self, work: Work, answer: dict[str, Any], where: str) -> None:
        assert work.shard is not None
        if "error" in answer:
            self._enter(work.shard, FAILED, why=answer["why"], where=where, findings=answer.get("findings", []))
            return
        if not answer["done"] and not answer["findings"] and not answer["flaky"]:
            self._enter(work.shard, FAILED, why=answer["stopped"] or "nothing was executed", where=where)
            return
        target = work.shard.target
        known = self.totals.states.get(target, set())
        inputs = [one for one in answer["inputs"] if not one["states"] or not known.issuperset(one["states"])]
        for one in inputs:  # before the record, which says that they are there
            try:
                self._corpus.add(target, base64.b64decode(one["data"]))
            except (StoreError, ValueError) as problem:
                self.tell(f"an input of {target} could not be kept: {problem}")
        states = answer.pop("states")
        self._enter(
            work.shard, DONE, **{**answer, "inputs": len(inputs), "states": sorted(states.keys() - known)},
            samples=sum(states.values()), why=answer["stopped"], where=where,
        )  # fmt: skip

    def _enter(self, shard: Shard, ended: str, **known: Any) -> None:
        """A shard is complete: write its record, count it, and look at what it found."""
        if self.book.has(shard):
            return  # it was given out a second time, and both came back
        blank: dict[str, Any] = {
            "done": 0, "planned": 0, "runs": 0, "refusals": 0, "stopped": "", "late": False, "evidence": {},
            "words": {}, "states": [], "samples": 0, "findings": [], "flaky": [], "inputs": 0, "cpu": 0.0, "wall": 0.0,
            "why": "", "where": "",
        }  # fmt: skip
        record = {**shard._asdict(), "ended": ended, **blank, **known, "ended_at": round(time.time(), 3)}
        self.book.enter(record)
        before = set(self.totals.raw)
        self.totals.add(record)
        if record["why"] and ended != DONE:
            self.tell(f"{shard.target}, {shard.engine}, seed {shard.seed}: {ended}: {record['why']}")
        self._again += [
            Work("confirm", found=found) for name, found in self.totals.raw.items()
            if name not in before and name not in self.verdicts
        ]  # fmt: skip

    def _lost(self, work: Work, loss: Loss, where: str) -> None:
        assert work.shard is not None
        self._incident(work.shard, loss, where)
        self._attempts[work.shard] += 1
        if loss.crumb and loss.kind != KILLED:
            self._again.insert(0, Work("examine", work.shard, loss))
        else:
            self._once_more(work.shard, loss)

    def _once_more(self, shard: Shard, loss: Loss) -> None:
        """Nobody knows why: the shard is given again, some times."""
        if self._attempts[shard] < _ATTEMPTS:
            self._again.append(Work("shard", shard))
        else:
            why = f"its process was lost {_ATTEMPTS} times, last a {loss.kind} ({loss.why}), and no trace does it again"
            self._enter(shard, LOST, why=why, done=len(loss.crumb), findings=list(loss.found))

    def _examined(self, work: Work, answer: dict[str, Any] | Loss) -> None:
        assert work.shard is not None
        assert work.loss is not None
        if isinstance(answer, Loss) or not answer.get("kind"):
            self._once_more(work.shard, work.loss)
            return
        found = {key: answer[key] for key in ("law", "target", "trace", "expected", "seen")}
        self._enter_verdict(found, found, work.shard.target, confirmed=True)  # it was seen in forks of a fresh process
        cpu = round(time.monotonic() - work.since, 3)
        findings = [*work.loss.found, found]
        self._enter(work.shard, DONE, done=len(work.loss.crumb), findings=findings, cpu=cpu, why=f"a {work.loss.kind}")

    def _incident(self, shard: Shard, loss: Loss, where: str) -> None:
        """Write down at once what happened."""
        self.book.enter_incident({**shard._asdict(), **loss._asdict(), "where": where, "at": round(time.time(), 3)})
        self.incidents = self.book.incidents()
        self.last_loss[shard.target] = f"a {loss.kind}: {loss.why}"
        self.tell(f"{shard.target}, {shard.engine}, seed {shard.seed}: a {loss.kind} ({loss.why})")

    # ---- findings -------------------------------------------------------------------------------

    def _confirmed(self, work: Work, answer: dict[str, Any] | Loss) -> None:
        found = work.found
        base = self._base(found)
        if isinstance(answer, Loss) and answer.kind == KILLED and work.tries < _ATTEMPTS:
            self._again.append(Work("confirm", found=found, tries=work.tries + 1))
        elif isinstance(answer, Loss):  # the trace takes its process along: that is how a call does not return
            final = {**found, "law": found["law"], "seen": f"a {answer.kind}: {answer.why}"}
            self._enter_verdict(found, final, base, confirmed=found["law"] == "returns")
        elif "error" in answer:
            self._enter_verdict(found, {**found, "seen": answer["why"]}, base, confirmed=False)
        else:
            self._enter_verdict(found, {**found, **_without(answer)}, base, confirmed=answer["confirmed"])

    def _base(self, found: dict[str, Any]) -> str:
        """The campaign's target that a finding's own, more particular, one belongs to."""
        head = found["target"].partition(",")[0]
        return next((t for t in self.settings.targets if t == found["target"] or t.partition(",")[0] == head), head)

    def _enter_verdict(self, raw: dict[str, Any], final: dict[str, Any], base: str, *, confirmed: bool) -> None:
        name = raw_name(raw)
        kept = {key: final.get(key, "") for key in ("law", "target", "trace", "expected", "seen")}
        verdict = {"raw": name, "base": base, "confirmed": confirmed, **kept, "shard": raw.get("shard", "")}
        self.book.enter_verdict(verdict)
        self.verdicts[name] = verdict
        if self._judge(verdict) and confirmed:
            self.tell(f"{verdict['target']} breaks {verdict['law']}: {verdict['seen']}")

    def _judge(self, verdict: dict[str, Any]) -> bool:
        """Count a verdict; True where its finding is new: the same law, target and trace is one finding."""
        name = raw_name(verdict)
        among = self.findings if verdict["confirmed"] else self.flaky
        if name in among:
            return False
        among[name] = verdict
        if verdict["confirmed"]:
            verdict["name"] = write_case(self.book.folder / "findings", verdict)
        return True


def _without(answer: dict[str, Any]) -> dict[str, Any]:
    """A confirmation without what is not about the finding."""
    return {key: value for key, value in answer.items() if key not in ("resident", "confirmed")}


def check_corpus(corpus: Corpus, targets: Sequence[str]) -> tuple[str, list[str]]:
    """(why a corpus cannot be used, or "", complaints about some of its files).  Reads all of it."""
    complaints: list[str] = []
    try:
        for target in targets:
            loaded = corpus.load(target)
            complaints += loaded.complaints()
            if loaded.unreadable:
                return f"the corpus of {target} in {corpus.place} is unreadable: no input is whole", complaints
    except StoreError as problem:
        return f"the corpus is unreadable: {problem}", complaints
    return "", complaints

