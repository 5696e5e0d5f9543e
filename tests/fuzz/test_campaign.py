"""Campaigns: killed, resumed, crashed, starved, and nothing is lost or counted twice."""

import base64
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from heaplaw.fuzz import campaigning, postmortem, worker
from heaplaw.fuzz.cases import holds
from heaplaw.fuzz.child import CRASH, HANG, KILLED, Child, Limits, Loss
from heaplaw.fuzz.corpus import Corpus
from heaplaw.fuzz.inputs import digest, pack
from heaplaw.fuzz.planning import Planner, weights
from heaplaw.fuzz.records import DONE, FAILED, Arm, ArmTotals, Book, Gain, Totals
from heaplaw.properties.verdict import Tally
from heaplaw.trace import Trace

TESTS = Path(__file__).parent.parent
QUICK = ("--jobs", "2", "--ops", "2000", "--patience", "2s", "--shard-time", "20s")


@pytest.fixture(autouse=True)
def _short_examinations(monkeypatch):
    """What takes a process along is made small in little time."""
    monkeypatch.setattr(campaigning, "_SMALLER_SECONDS", 3.0)


def status(folder):
    return json.loads((folder / "status.json").read_text())


def records(folder):
    return {path.name: json.loads(path.read_text()) for path in (folder / "shards").glob("*.json")}


def findings(folder):
    """What a campaign found, as sets of what makes findings the same."""
    return {(one["law"], one["target"], one["trace"]) for one in status(folder)["findings"]}


def start(folder, *words):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *filter(None, sys.path)])}
    command = [sys.executable, "-m", "heaplaw", "campaign", str(folder), *map(str, words)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - ignored by what a shell put aside
    )  # fmt: skip


def children_of(pid):
    """Process groups whose leader was started by a process."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(path.parent.name))
    return found


def alive(pid):
    """Is a process still running?  One that has ended and was not yet asked for is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class TestKilled:
    def test_three_times_and_nothing_is_lost_or_doubled(self, tmp_path):
        """Killed with SIGKILL three times and resumed, a campaign has the shards, totals and findings of one that
        was left alone, its corpus is whole, and no process is left over."""
        words = ("planted:ForgetsMerge", "hostile:Segfaults", "--engine", "plain", "--shards", 4, *QUICK)
        alone, killed = tmp_path / "alone", tmp_path / "killed"
        quiet = start(alone, *words)
        rng, orphans = random.Random(5), []
        for _ in range(3):
            process = start(killed, *words)
            known = len(records(killed)) if (killed / "shards").exists() else 0
            limit = time.monotonic() + 20
            while time.monotonic() < limit and process.poll() is None and (
                not (killed / "shards").exists() or len(list((killed / "shards").glob("*.json"))) <= known
            ):
                time.sleep(0.05)
            time.sleep(rng.random() * 0.15)
            assert process.poll() is None, "it was over before it could be killed"
            orphans += children_of(process.pid)
            process.kill()
            process.communicate()
        process = start(killed, *words, "--resume")
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 1, out
        quiet_out, _ = quiet.communicate(timeout=60)
        assert quiet.returncode == 1, quiet_out
        assert records(alone).keys() == records(killed).keys()
        assert len(records(killed)) == 8
        assert findings(alone) == findings(killed) != set()
        one, two = status(alone), status(killed)
        assert [t["operations"] for t in one["targets"]] == [t["operations"] for t in two["targets"]]
        assert [t["states"] for t in one["targets"]] == [t["states"] for t in two["targets"]]
        assert orphans
        assert not [pid for pid in orphans if alive(pid)]
        corpus = Corpus(killed / "corpus")
        loaded = [corpus.load(target) for target in corpus.targets()]
        assert not any(one.damaged or one.unknown for one in loaded)
        assert sum(len(one.inputs) for one in loaded) > 0

    def test_ctrl_c_ends_with_130_and_the_same_command_goes_on(self, tmp_path):
        """Ctrl-C ends with 130 and a status file that says so; afterwards the campaign is completed."""
        words = ("planted:Good", "--engine", "plain", "--shards", "12", *QUICK)
        process = start(tmp_path, *words)
        while not list(tmp_path.glob("shards/*.json")) and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=20)
        assert process.returncode == 130, out
        assert status(tmp_path)["state"] == "stopped"
        process = start(tmp_path, *words)
        out, _ = process.communicate(timeout=30)
        assert process.returncode == 0, out
        assert status(tmp_path)["state"] == "ended"
        assert len(records(tmp_path)) == 12
        assert status(tmp_path)["operations"] == sum(record["done"] for record in records(tmp_path).values())


class TestHostile:
    @pytest.mark.parametrize(
        ("name", "seen", "length"), [("Segfaults", "SIGSEGV", 3), ("Sleeps", "a hang", 12), ("Spins", "a hang", 12)]
    )
    def test_a_lost_worker_is_a_finding_with_its_trace(self, heaplaw, tmp_path, name, seen, length):
        """A worker that crashes, sleeps or spins for ever is lost and recorded; its trace is made small, and a case
        written that fails in a process of its own; the other target's shards go on."""
        code, out, _ = heaplaw(
            "campaign", tmp_path, f"hostile:{name}", "planted:Good", "--engine", "plain", "--shards", 1,
            "--jobs", 2, "--ops", 800, "--patience", "1.5s", "--shard-time", "1s",
        )  # fmt: skip
        assert code == 1, out
        [found] = status(tmp_path)["findings"]
        assert (found["law"], found["seen"], found["target"]) == ("returns", seen, f"hostile:{name}")
        trace = Trace.parse((tmp_path / "findings" / f"{found['name']}.trace").read_text())
        assert len(trace.operations) <= length
        [incident] = [json.loads(path.read_text()) for path in (tmp_path / "incidents").glob("*.json")]
        assert incident["kind"] == (CRASH if name == "Segfaults" else HANG)
        assert incident["seed"] == 1_000_000
        assert incident["crumb"]
        [good] = [record for record in records(tmp_path).values() if record["target"] == "planted:Good"]
        assert good["ended"] == DONE
        assert good["done"] >= 800
        assert len(list((tmp_path / "findings").glob("test_*.py"))) == 1

    def test_what_was_found_before_the_crash_is_not_lost(self, heaplaw, tmp_path):
        """A target that breaks a law first and takes its process along later is convicted of both."""
        code, out, _ = heaplaw(
            "campaign", tmp_path, "hostile:LiesThenDies", "--engine", "plain", "--shards", 1, "--jobs", 1, "--ops", 4000
        )
        assert code == 1, out
        found = {one["law"]: one["seen"] for one in status(tmp_path)["findings"]}
        assert "contents" in found
        assert found["returns"] == "SIGSEGV"
        [record] = records(tmp_path).values()
        assert {one["law"] for one in record["findings"]} == set(found)

    def test_eating_memory_is_a_finding(self, heaplaw, tmp_path):
        """A target that eats memory meets its worker's limit, and the trace that does it is a finding."""
        code, _, _ = heaplaw(
            "campaign", tmp_path, "hostile:Eats", "--engine", "plain", "--shards", 1, "--jobs", 1, "--ops", 200,
            "--memory", "600M", "--json", tmp_path / "report.json",
        )  # fmt: skip
        assert code == 1
        assert json.loads((tmp_path / "report.json").read_text()) == status(tmp_path)
        assert status(tmp_path)["exit"] == 1
        [found] = status(tmp_path)["findings"]
        assert found["law"] == "returns"
        assert "MemoryError" in found["seen"]
        assert status(tmp_path)["largest_worker"] < 700 << 20

    def test_a_worker_that_grows_is_replaced(self, heaplaw, tmp_path):
        """A target that leaks a little with every heap is stopped nowhere, and no worker grows beyond its limit."""
        code, out, _ = heaplaw(
            "campaign", tmp_path, "hostile:Leaks", "--engine", "plain", "--shards", 4, "--jobs", 1, "--ops", 8000,
            "--memory", "280M",
        )  # fmt: skip
        assert code == 0, out
        assert len(records(tmp_path)) == 4
        assert status(tmp_path)["incidents"] == 0
        assert status(tmp_path)["largest_worker"] < 280 << 20

    def test_a_killed_worker_is_given_its_shard_again(self, tmp_path):
        """A worker that somebody kills costs an incident; its shard is done by another, and counted once."""
        process = start(tmp_path, "planted:Good", "--engine", "plain", "--shards", 1, "--ops", 30000, "--jobs", "1")
        crumb = tmp_path / "running" / "0.crumb"
        while process.poll() is None and (not crumb.exists() or int.from_bytes(crumb.read_bytes()[:8], "little") < 100):
            time.sleep(0.02)
        [worker] = children_of(process.pid)
        os.kill(worker, signal.SIGKILL)
        out, _ = process.communicate(timeout=40)
        assert process.returncode == 0, out
        assert "a killed (SIGKILL, from outside)" in out
        [record] = records(tmp_path).values()
        assert record["done"] >= 30000
        assert status(tmp_path)["incidents"] == 1


class TestNothingToShow:
    def test_a_target_that_cannot_even_be_built(self, heaplaw, tmp_path):
        """Where building a target takes the process along, the campaign ends with 3 and says why."""
        code, out, _ = heaplaw("campaign", tmp_path, "hostile:Unborn", "--shards", 1, "--jobs", 1)
        assert code == 3
        assert "nothing was executed on hostile:Unborn (building it took its process along: SIGSEGV)" in out

    def test_a_target_that_executes_nothing(self, heaplaw, tmp_path):
        """Where an engine can do nothing with a target, it is given up soon, and the campaign ends with 3 and says why;
        what an earlier sitting met counts as well."""
        code, out, _ = heaplaw(
            "campaign", tmp_path / "now", "hostile:Unkept", "--engine", "exhaustive", "--time", "30s", "--jobs", 1
        )
        assert code == 3
        assert "nothing was executed on hostile:Unkept (Unkept needs snapshot() and restore()" in out
        assert len(records(tmp_path / "now")) == 2
        book = Book(tmp_path / "idle")
        book.enter({
            "target": "planted:Good", "engine": "plain", "operations": 5, "seed": 1_000_000, "only": [],
            "ended": FAILED, "done": 0, "runs": 0, "planned": 5, "evidence": {}, "words": {}, "states": [],
            "findings": [], "flaky": [],
            "cpu": 0.0, "why": "its states cannot be kept",
        })  # fmt: skip
        book.close()
        code, out, _ = heaplaw(
            "campaign", tmp_path / "idle", "planted:Good", "--engine", "plain", "--ops", 5, "--shards", 1, "--jobs", 1
        )
        assert code == 3
        assert "nothing was executed on planted:Good (its states cannot be kept)" in out

    @pytest.mark.parametrize("how", ["a file", "all damaged", "no such protocol"])
    def test_an_unreadable_corpus(self, heaplaw, tmp_path, how):
        """A corpus that cannot be read, or of which nothing is whole, ends the campaign with 3, and it says why."""
        place = tmp_path / "corpus"
        if how == "a file":
            place.write_text("not a folder")
        elif how == "all damaged":
            (place / "buddy").mkdir(parents=True)
            (place / "buddy" / ("0" * 40)).write_bytes(b"hl")
        where = "nonsense://somewhere" if how == "no such protocol" else place
        code, out, _ = heaplaw("campaign", tmp_path / "hunt", "buddy", "--corpus", where, "--time", "5s")
        assert code == 3
        assert "inconclusive: " in out.splitlines()[-1]
        assert "unreadable" in out or "cannot open nonsense://" in out

    def test_bad_words_are_usage(self, heaplaw, tmp_path):
        """An unknown target, a class that is not there, and --resume of nothing end with 2, one line each."""
        for words in (["no-such-target"], ["planted:Nobody"], ["--resume"]):
            code, _, err = heaplaw("campaign", tmp_path / "hunt" / words[0].strip("-").replace(":", "_"), *words)
            assert code == 2
            assert err.count("\n") == 1

    def test_two_in_one_directory(self, heaplaw, tmp_path):
        """A second campaign in the same directory is refused while the first is at work."""
        book = Book(tmp_path)
        code, _, err = heaplaw("campaign", tmp_path, "buddy", "--time", "1s")
        book.close()
        assert code == 2
        assert "another campaign is at work" in err


class TestRecords:
    def test_a_damaged_record_is_done_again(self, heaplaw, tmp_path):
        """A record that was cut short by other hands is reported, set aside, and its shard done again."""
        words = ("campaign", tmp_path, "planted:Good", "--engine", "plain", "--shards", 2, "--ops", 500, "--jobs", 1)
        assert heaplaw(*words)[0] == 0
        before = records(tmp_path)
        victim = min((tmp_path / "shards").glob("*.json"))
        victim.write_bytes(victim.read_bytes()[:40])
        code, out, _ = heaplaw(*words)
        assert code == 0
        assert "damaged" in out
        assert {name: record["done"] for name, record in records(tmp_path).items()} == {
            name: record["done"] for name, record in before.items()
        }

    def test_an_interrupted_write_is_no_record(self, tmp_path):
        """What was being written when the power went is cleared away and not counted."""
        book = Book(tmp_path)
        part = tmp_path / "shards" / ".part-1-x.json"
        part.write_text("{")
        assert book.totals().arms == {}
        assert not part.exists()
        book.close()


class TestPlanning:
    def totals(self, **gains):
        totals = Totals()
        for target, gain in gains.items():
            totals.arms[Arm(target, "plain")] = ArmTotals(gains=[gain])
            totals.seeds[Arm(target, "plain")] = {1_000_000}
        return totals

    def test_everybody_first(self):
        """No arm has a second shard before each has had one."""
        planner, totals, given = Planner(["a", "b", "c"], ["x", "y"], 1, 100), Totals(), set()
        for _ in range(6):
            given.add(planner.next(totals, given))
        assert len({(shard.target, shard.engine) for shard in given}) == 6

    def test_time_goes_where_something_new_comes_from(self):
        """An arm with new states gets most of the shards, and one without gets its floor."""
        totals = self.totals(rich=Gain(states=90, seconds=1.0), poor=Gain(seconds=1.0))
        rich, poor = weights(list(totals.arms), totals)
        assert rich == pytest.approx(0.9)
        assert poor == pytest.approx(0.1)
        planner = Planner(["rich", "poor"], ["plain"], 1, 100)
        counts = [planner.next(totals, set()).target for _ in range(300)]
        assert 10 <= counts.count("poor") <= 60

    def test_what_executes_nothing_is_given_up(self):
        """An arm whose last two shards executed nothing is given no more."""
        totals = self.totals(idle=Gain(ended=FAILED))
        totals.arms[Arm("idle", "plain")].gains.append(Gain(ended=FAILED))
        assert Planner(["idle"], ["plain"], 1, 100).next(totals, set()) is None

    def test_an_engine_that_draws_nothing_searches_deeper(self):
        """The exhaustive engine's second shard has twice the budget; once searched to its end there is none."""
        totals, planner = Totals(), Planner(["a"], ["exhaustive"], 1, 100)
        totals.seeds[Arm("a", "exhaustive")] = {1_000_000}
        totals.arms[Arm("a", "exhaustive")] = ArmTotals(gains=[Gain()])
        assert planner.next(totals, set()).operations == 200
        totals.finished.add(Arm("a", "exhaustive"))
        assert planner.next(totals, set()) is None

    def test_a_law_that_is_known_to_be_broken_is_asked_no_more(self):
        """After five findings of one law on a target the others have their turn; a fixed plan asks all the same."""
        planner = Planner(["a"], ["plain"], 1, 100)
        planner.broken = {("a", "disjoint"): 5}
        assert "disjoint" not in planner.next(Totals(), set()).only
        planner = Planner(["a"], ["plain"], 1, 100, shards=1)
        planner.broken = {("a", "disjoint"): 5}
        assert planner.next(Totals(), set()).only == ()


class TestChild:
    def ended(self, child):
        while (answer := child.poll()) is None:
            time.sleep(0.01)
        return answer

    def test_a_crash_leaves_its_crumb_and_its_last_words(self, tmp_path):
        """What a crashed process was doing can be read afterwards, and where in the code it was."""
        child = Child(tmp_path, 0, Limits())
        child.start({
            "do": "shard", "target": "hostile:Segfaults", "engine": "plain", "operations": 500, "seed": 1, "seconds": 5
        })  # fmt: skip
        loss = self.ended(child)
        assert isinstance(loss, Loss)
        assert (loss.kind, loss.why) == (CRASH, "SIGSEGV")
        assert loss.crumb[-1].split()[2] == "alloc"
        assert "string_at" in loss.last_words
        child.start({"do": "probe", "target": "buddy"})  # and the next job is done
        assert "variants" in self.ended(child)
        child.stop()

    def test_killed_from_outside(self, tmp_path):
        """A process that somebody else kills is not said to have crashed."""
        child = Child(tmp_path, 0, Limits())
        child.start({
            "do": "shard", "target": "buddy", "engine": "plain", "operations": 10**6, "seed": 1, "seconds": 60
        })  # fmt: skip
        time.sleep(0.3)
        os.kill(child.pid, signal.SIGKILL)
        assert self.ended(child).kind == KILLED

    def test_what_harms_nobody_has_no_cause(self, tmp_path):
        """A trace that comes back, a law broken or not, is not what took a process along."""
        trace = Trace.parse(["heaplaw trace 1", "a = alloc 24", "free a"])
        assert postmortem.examine("planted:Good", trace.operations, CRASH, 5.0) == postmortem.Cause()


class TestEngines:
    def test_one_that_takes_a_corpus_is_given_it(self, tmp_path, monkeypatch):
        """An engine whose signature has a corpus finds the campaign's inputs in a folder; what it adds there comes
        back with the states that it reaches, and what it was given does not."""
        given, new = pack(bytes(16)), pack(bytes(8) + bytes((1, 9, 9, 0)) * 5)
        Corpus(tmp_path / "corpus").add("buddy", given)
        seen = []

        def check(target, operations, seed, *, only=(), deadline=0.0, corpus=None):
            seen.extend(path.read_bytes() for path in corpus.iterdir())
            (corpus / digest(new)).write_bytes(new)
            (corpus / "rubbish").write_bytes(b"rubbish")
            return Tally(target, "mine", operations=5, planned=5)

        monkeypatch.setattr(worker, "ENGINES", {"mine": check})
        answer = worker.shard({
            "target": "buddy", "engine": "mine", "operations": 5, "seed": 1, "seconds": 5.0,
            "corpus": str(tmp_path / "corpus"), "found": tmp_path / "found",
        })  # fmt: skip
        assert seen == [given]
        [back] = answer["inputs"]
        assert base64.b64decode(back["data"]) == new
        assert back["states"]


class TestCases:
    def test_a_case_fails_while_the_bug_is_there(self, heaplaw, tmp_path):
        """The pytest case of a finding fails on the broken target, and its trace breaks the law that it names."""
        code, _, _ = heaplaw(
            "campaign", tmp_path, "tlsf@conte-3.1", "--engine", "plain", "--shards", 1, "--ops", 1500, "--jobs", 1
        )
        assert code == 1
        found = status(tmp_path)["findings"]
        assert found
        cases = sorted((tmp_path / "findings").glob("test_*.py"))
        assert len(cases) == len(found) == len(list((tmp_path / "findings").glob("*.trace")))
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path, cases[0]],
            capture_output=True, text=True, check=False, cwd=tmp_path,
        )  # fmt: skip
        assert "1 failed" in done.stdout, done.stdout
        assert "broken by operation" in done.stdout

    def test_a_case_passes_when_the_bug_is_gone(self):
        """The trace of a repaired target breaks nothing; one that crashes is told from one that breaks a law."""
        text = "heaplaw trace 1\ntarget {}\nlaw returns\n1  a = alloc 1\n2  b = alloc 1\n3  c = alloc 1\n"
        assert holds(text.format("planted:Good")) == ""
        assert holds(text.format("hostile:Segfaults")) == "a crash: SIGSEGV"
