"""The command line: what it prints, what it writes, and how it ends."""

import json
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from heaplaw.fuzz.cli import cli
from heaplaw.lawbook import LAWS

DATA = Path(__file__).parent.parent / "data"
EXAMPLES = DATA / "examples"
SQLITE = str(DATA / "sqlite.heaptrack.raw.zst")


def one_line(err):
    """The complaint, if it is one line and no traceback."""
    assert err.count("\n") == 1, err
    assert err.startswith("heaplaw: ")
    return err


class TestCheck:
    def test_a_broken_allocator_is_refuted(self, heaplaw, tmp_path):
        """The README's allocator breaks `disjoint` in four operations, and the saved trace replays."""
        name = f"{EXAMPLES / 'mine.py'}:Mine"
        code, out, _ = heaplaw("check", name, "--ops", 20000, "--law", "disjoint", "--save", tmp_path, "--jobs", 1)
        assert code == 1
        assert "breaks disjoint: Live blocks never overlap." in out
        assert out.startswith("seed 1\n")
        assert out.endswith("seed 1\n")
        (trace,) = tmp_path.glob("*.trace")
        assert len(trace.read_text().splitlines()) == 3 + 4
        code, out, _ = heaplaw("replay", trace)
        assert code == 1
        assert "breaks disjoint" in out

    def test_the_readme_has_the_examples_file(self):
        """The README's first example is the example's file; what it prints is compared with the other pages'."""
        readme = (DATA.parent.parent / "README.md").read_text()
        assert f"```python\n{(EXAMPLES / 'mine.py').read_text()}```" in readme

    def test_a_good_target_passes(self, heaplaw, tmp_path):
        """A sound target exits 0, and the JSON has a verdict for every law."""
        path = tmp_path / "report.json"
        code, out, _ = heaplaw("check", "buddy", "--ops", 4000, "--json", path, "--jobs", 1, "-v")
        report = json.loads(path.read_text())
        assert code == 0
        assert "every applicable law passed on 1 target" in out
        assert set(report["targets"][0]["laws"]) == set(LAWS)
        assert report["targets"][0]["laws"]["disjoint"]["verdict"] == "passed"
        assert report["targets"][0]["laws"]["isolated"] == {
            "verdict": "not applicable", "held": 0, "why": "not promised: isolated_groups",
        }  # fmt: skip
        assert set(report["targets"][0]["laws"]["placement"]) == {"verdict", "held"}  # some variants promise it

    def test_same_seed_same_report(self, heaplaw, tmp_path):
        """Two runs with one seed differ in nothing but times, whatever the number of jobs; another seed differs."""
        reports = []
        for number, (seed, jobs) in enumerate([(7, 1), (7, 2), (8, 1)]):
            path = tmp_path / f"{number}.json"
            heaplaw("check", "buddy", "--ops", 3000, "--seed", seed, "--jobs", jobs, "--json", path)
            report = json.loads(path.read_text())
            del report["timing"]
            reports.append(json.dumps(report))
        assert reports[0] == reports[1]
        assert reports[0] != reports[2]

    def test_time_is_a_ceiling(self, heaplaw):
        """A budget that time cuts short is inconclusive, not passed."""
        code, out, _ = heaplaw("check", "buddy", "--ops", 10_000_000, "--time", "0.3s", "--jobs", 1)
        assert code == 3
        assert "inconclusive: time was up" in out


class TestFloors:
    WORDS = ("check", "tlsf,arena=1024", "--ops", 3000, "--jobs", 1)

    def test_met(self, heaplaw):
        """Floors that are met change nothing."""
        code, out, _ = heaplaw(*self.WORDS, "--floor", "coalesce both=10", "--floor", "free-then-alloc=5")
        assert code == 0
        assert "floor" not in out

    def test_not_met(self, heaplaw, tmp_path):
        """One that is not makes the check inconclusive: a line names target, word, seen and wanted."""
        path = tmp_path / "report.json"
        code, out, _ = heaplaw(*self.WORDS, "--floor", "coalesce both=1000000", "--json", path)
        assert code == 3
        assert re.search(r"floor NOT met: tlsf,arena=1024: 'coalesce both' was reached \d+ times, at least 1,0", out)
        assert "inconclusive: 1 floor not met on tlsf,arena=1024 (exit 3)" in out
        known = json.loads(path.read_text())
        [one] = known["floors"]
        assert not one["met"]
        assert 0 < one["seen"] == known["targets"][0]["reached"]["coalesce both"] < one["wanted"]

    def test_a_law(self, heaplaw):
        """A law's condition can have a floor."""
        code, out, _ = heaplaw(*self.WORDS, "--floor", "free-then-alloc=1000000")
        assert code == 3
        assert "'free-then-alloc' met its condition" in out

    def test_from_the_file(self, heaplaw, monkeypatch, tmp_path):
        """The nearest pyproject.toml counts; a target's own table wins, the command line over both."""
        (tmp_path / "below").mkdir()
        monkeypatch.chdir(tmp_path / "below")
        text = '[tool.heaplaw.floors]\n"split" = 1000000\n'
        (tmp_path / "pyproject.toml").write_text(text)
        assert heaplaw(*self.WORDS)[0] == 3
        assert heaplaw(*self.WORDS, "--floor", "split=1")[0] == 0
        (tmp_path / "pyproject.toml").write_text(text + "[tool.heaplaw.floors.tlsf]\nsplit = 2\n")
        assert heaplaw(*self.WORDS)[0] == 0

    def test_what_does_not_apply(self, heaplaw):
        """A target without such a state is named, and does not fail."""
        code, out, _ = heaplaw(*self.WORDS, "slab,size=96,pages=8", "--floor", "coalesce both=10")
        assert code == 0
        assert "slab,size=96,pages=8: the floor 'coalesce both' does not apply (it has no such state)" in out

    def test_verbose(self, heaplaw):
        """`-v` shows how often each state was reached, and which never were."""
        code, out, _ = heaplaw(*self.WORDS, "--floor", "split=1", "-v")
        assert code == 0
        assert re.search(r"^coalesce both +\d+$", out, flags=re.M)
        assert re.search(r"^compaction moved 1 +-$", out, flags=re.M)
        assert re.search(r"^size classes +\d+ of \d+$", out, flags=re.M)
        assert "floor met: tlsf,arena=1024: 'split' was reached" in out


class TestMachine:
    def test_printed(self, heaplaw, tmp_path):
        """The rules of a target's state machine, for people and as JSON."""
        path = tmp_path / "machine.json"
        code, out, _ = heaplaw("machine", "tlsf", "--json", path)
        assert code == 0
        assert out.startswith("The state machine of tlsf,arena=4096\n\nRules\n")
        assert json.loads(path.read_text())["tlsf"] + "\n" == out

    def test_unknown(self, heaplaw):
        """A name that means nothing is a line."""
        code, _, err = heaplaw("machine", "frob")
        assert code == 2
        assert "unknown target 'frob'" in one_line(err)


class TestReplay:
    def test_a_recording(self, heaplaw, tmp_path):
        """A recorded program runs under all laws, with its figures."""
        path = tmp_path / "report.json"
        code, out, _ = heaplaw("replay", SQLITE, "--target", "tlsf", "--json", path)
        figures = json.loads(path.read_text())["figures"]
        assert code == 0, out
        assert "10,982 of 10,982 requests served" in out
        assert figures["requests"] == figures["served"] == 10_982
        assert figures["peak_live"] <= figures["footprint"]

    def test_compaction_interleaved(self, heaplaw):
        """Maintenance can be put between the recorded operations."""
        code, out, _ = heaplaw("replay", SQLITE, "--target", "zsmalloc", "--maintain", "compact", "--every", 200)
        assert code == 0, out
        assert "every applicable law passed" in out

    def test_the_kernels_own_placements(self, heaplaw):
        """The port of 6.12 places all 15,130 objects where the kernel did."""
        code, out, _ = heaplaw("replay", DATA / "linux-6.18-percpu-chunk.tsv.gz", "--target", "percpu-bitmap@6.12")
        assert "placed as recorded: 15,130 of 15,130" in out
        assert code in (0, 1)  # its hints may lag more than its text says: that is what check is for

    def test_the_repaired_placements(self, heaplaw):
        """The repaired algorithm passes every law there; where it differs is information."""
        code, out, _ = heaplaw("replay", DATA / "linux-6.18-percpu-chunk.tsv.gz", "--target", "percpu-bitmap")
        assert code == 0, out
        assert "first that differs (information, not a verdict): allocation" in out


class TestImport:
    def test_round_trip(self, heaplaw, tmp_path):
        """An imported recording is a trace that replays the same."""
        path = tmp_path / "sqlite.trace"
        code, out, _ = heaplaw("import", SQLITE, "-o", path)
        assert code == 0
        assert "21,949 operations written" in out
        code, out, _ = heaplaw("replay", path, "--target", "buddy")
        assert code == 0, out


class TestList:
    def test_targets_and_laws(self, heaplaw, tmp_path):
        """`list` names every target, `list --laws` every law, and the JSON both."""
        path = tmp_path / "list.json"
        code, out, _ = heaplaw("list", "--json", path)
        assert code == 0
        assert all(name in out for name in ("tlsf", "percpu-bitmap", "buddy", "zsmalloc", "@6.12"))
        assert set(json.loads(path.read_text())["laws"]) == set(LAWS)
        _, out, _ = heaplaw("list", "--laws")
        assert all(law in out for law in LAWS)


GARBLED = b"heaplaw trace 1\ntarget buddy\n1 a = alloc 4096\n2 frobnicate a\n"

WRONG = [
    (["check", "slub,colour=3"], "slub has no parameter 'colour'; it has size, pages"),
    (["frob"], "no command 'frob'"),
    (["chek"], "no command 'chek' (did you mean 'check'?)"),
    (["check", "nonesuch"], "unknown target 'nonesuch'; built in are"),
    (["check", "tlsf@9"], "unknown revision '9' of tlsf; its revisions are conte-3.1"),
    (["check", "tlsf+T99"], "no gallery bug 'T99'"),
    (["check", "tlsf,arena=-5"], "cannot make 'tlsf,arena=-5'"),
    (["check", "tlsf,arena"], "'arena' in 'tlsf,arena' is not KEY=VALUE"),
    (["check", "no_such_module:X"], "cannot import no_such_module"),
    (["check", "nofile.py:X"], "no such file: nofile.py"),
    (["check", "json:dumps"], "cannot make 'json:dumps'"),
    (["check", "buddy", "--law", "disjiont"], "unknown law 'disjiont' (did you mean 'disjoint'?); 'heaplaw list"),
    (["check", "tslf"], "unknown target 'tslf' (did you mean 'tlsf'?); 'heaplaw list' names them"),
    (["check", "tlsf,arena=abc"], "arena of tlsf is a number, not 'abc'"),
    (["check", "buddy", "--floor", "coalesc both=1"], "unknown word 'coalesc both' in a floor (did you mean"),
    (["check", "buddy", "--floor", "coalesce both"], "is no floor; write \"coalesce both=10\""),
    (["check", "buddy", "--floor", "evicted 1=1"], "the floor 'evicted 1' applies to none of buddy"),
    (["check", "buddy", "--law", "drain", "--floor", "disjoint=1"], "the floor 'disjoint' applies to none of buddy"),
    (["check", "buddy", "--ops", "0"], "--ops"),
    (["check", "buddy", "--time", "soon"], "'soon' is not a time; write 40s, 5m or 1h"),
    (["check", "buddy", "--engine", "warp"], "--engine"),
    (["check", "buddy", "--json", "/no/such/folder/x.json"], "cannot write /no/such/folder/x.json"),
    (["replay", "missing.trace"], "missing.trace"),
    (["replay", "."], "."),
    (["replay", SQLITE], "names no target; say --target NAME"),
    (["replay", SQLITE, "--target", "buddy", "--maintain", "compact"], "has no maintenance 'compact'"),
    (["import", SQLITE], "-o"),
    (["check", "own.py:NoContract"], "has no 'contract'; a target needs contract, alloc and free"),
    (["check", "own.py:NoFree"], "has no 'free'"),
    (["check", "own.py:NotAContract"], "the contract of own.py:NotAContract is 5; it must be a heaplaw.Contract"),
    (["check", "own.py:NeedsASize"], "cannot make 'own.py:NeedsASize'"),
    (["check", "own.py:Absent"], "own.py has no 'Absent'"),
    (["check", "garbled.py:X"], "cannot import garbled.py: SyntaxError"),
    (["check", "needy.py:X"], "cannot import needy.py: ModuleNotFoundError: No module named 'no_such_module'"),
    (["check", "./missing.so"], "no such file: ./missing.so"),
    (["check", "malloc:nope"], "no malloc 'nope'; known are glibc"),
    (["check", "linux:nope"], "of the kernel there are linux:percpu"),
    (["check", "buddy", "--html", "/no/such/folder/x.html"], "cannot write /no/such/folder/x.html"),
    (["check", "buddy", "--jobs", "0"], "--jobs"),
    (["explore", "nope"], "unknown target 'nope'"),
    (["selftest", "XX9"], "no bug 'XX9' in the gallery; 'heaplaw list --bugs' names them"),
    (["mutate", "nope"], "'nope' is not built in"),
    (["minimize", "empty.trace"], "the file is empty"),
    (["compare", "tlsf", "nope"], "unknown target 'nope', and no function"),
    (["compare", "tlsf", "buddy", "--threshold", "foo=+1"], "unknown figure 'foo'"),
    (["compare", "tlsf", "buddy", "--threshold", "footprint=abc"], "is no threshold; write footprint=+5%"),
    (["compare", "own.py:Fine@nope", "own.py:Fine"], "is in no git repository"),
    (["reproduce", "nope"], "no published result 'nope'; there are percpu-frees"),
    (["campaign", "/proc/nowhere", "tlsf", "--time", "1s"], "cannot make the folder /proc/nowhere"),
    (["gate"], "no heaplaw.toml and no [tool.heaplaw]"),
    (["init", "/proc/nowhere"], "cannot make the folder /proc/nowhere"),
    (["build-linux", "--source", "/no/such/tree"], "no such file: /no/such/tree"),
    (["corpus", "trace", "missing"], "missing"),
    (["list", "--lwas"], "Did you mean '--laws'?"),
]

OWN = """
from heaplaw import Contract

class Fine:
    contract = Contract(arena=64)
    def alloc(self, size): return None
    def free(self, handle): pass

class Lists(Fine):
    def alloc(self, size): return [1]

class NotAContract(Fine):
    contract = 5

class NeedsASize(Fine):
    def __init__(self, size): pass

class NoContract:
    def alloc(self, size): return None
    def free(self, handle): pass

class NoFree:
    contract = Contract(arena=64)
    def alloc(self, size): return None
"""


@pytest.fixture
def wrong_files(monkeypatch, tmp_path):
    """Modules and traces with something wrong in them, in the working directory."""
    monkeypatch.chdir(tmp_path)
    needy = "import no_such_module"
    for name, text in {"own.py": OWN, "garbled.py": "def f(:", "needy.py": needy, "empty.trace": ""}.items():
        (tmp_path / name).write_text(text)


@pytest.mark.parametrize(("words", "says"), WRONG, ids=[" ".join(w[:3]).replace("/", "_")[-40:] for w, _ in WRONG])
def test_wrong_input(heaplaw, wrong_files, words, says):
    """Bad input: one clear line, exit code 2, no traceback."""
    code, _, err = heaplaw(*words)
    assert code == 2
    assert says in one_line(err)


def test_an_answer_that_is_no_address(heaplaw, wrong_files):
    """An allocator that answers with a list breaks a law, and is told so in words."""
    code, out, err = heaplaw("check", "own.py:Lists", "--ops", 200, "--jobs", 1)
    assert (code, err) == (1, "")
    assert "alloc answered [1], which is no address: a whole number, or None for no memory" in out


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="not run: there is no /dev/full")
def test_a_full_disk(heaplaw):
    """A report that does not fit is said in one line, and no success is claimed."""
    code, _, err = heaplaw("check", "buddy", "--ops", 200, "--jobs", 1, "--json", "/dev/full")
    assert code == 2
    assert "No space left on device" in one_line(err)


def test_wrong_files(heaplaw, tmp_path):
    """A defect in a file is reported with the file and the line."""
    garbled, cut = tmp_path / "garbled.trace", tmp_path / "cut.zst"
    garbled.write_bytes(GARBLED)
    cut.write_bytes(Path(SQLITE).read_bytes()[:9000])
    code, _, err = heaplaw("replay", garbled)
    assert code == 2
    assert f"{garbled}:4: unknown operation: 'frobnicate'" in one_line(err)
    code, _, err = heaplaw("replay", cut, "--target", "tlsf")
    assert code == 2
    assert str(cut) in one_line(err)


def every_command(group=cli, path=()):
    """All commands, and those of groups."""
    yield path
    ctx = click.Context(group)
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        yield from every_command(command, (*path, name)) if isinstance(command, click.Group) else [(*path, name)]


@pytest.mark.parametrize("command", list(every_command()), ids=" ".join)
def test_help_has_an_example(heaplaw, command):
    """Every command's help shows an example."""
    code, out, _ = heaplaw(*command, "--help")
    assert code == 0
    assert "heaplaw " + " ".join(command) in out.split("Options:")[0].split("\n", 2)[2]


def test_module_is_the_command():
    """`python -m heaplaw` is the same command."""
    done = subprocess.run([sys.executable, "-m", "heaplaw", "--version"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "version" in done.stdout


class TestGuard:
    SCRIBBLER = (
        "from heaplaw.impls.tlsf import Tlsf\n"
        "class Scribbler(Tlsf):\n"
        "    def extents(self, handle):  # no call of the allocator's: a client, one word past the object's end\n"
        "        self._bytes[handle + 24 : handle + 32] = bytes(8)\n"
        "        return super().extents(handle)\n"
        "def build():\n"
        "    return Scribbler(arena=1024)\n"
    )
    TRACE = "heaplaw trace 1\ntarget {}\nlaw returns\n1  a = alloc 24\n2  b = alloc 24\n3  free b\n"

    def test_a_client_that_scribbles_gives_no_verdict(self, heaplaw, tmp_path):
        """Under guard the allocator is not blamed for what changed between its calls; without it, it is."""
        (tmp_path / "scribbler.py").write_text(self.SCRIBBLER)
        trace = tmp_path / "a.trace"
        trace.write_text(self.TRACE.format(f"{tmp_path / 'scribbler.py'}:build"))
        assert heaplaw("replay", trace)[0] == 1
        code, out, _ = heaplaw("replay", trace, "--guard")
        assert code == 3
        assert "not the allocator's doing" in out

    def test_a_guilty_allocator_stays_guilty(self, heaplaw):
        """A bug of the gallery is still a counterexample under guard."""
        code, out, _ = heaplaw("replay", DATA / "gallery" / "T29.trace", "--guard")
        assert code == 1
        assert "breaks" in out
