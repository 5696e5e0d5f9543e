"""`heaplaw gate`, and `heaplaw replay --bisect`: what did not run is not green."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from heaplaw.fuzz import strategies
from heaplaw.fuzz.corpus import Corpus
from heaplaw.fuzz.gate import canaries, seeding
from heaplaw.fuzz.gate.changed import made_of, touched
from heaplaw.fuzz.gate.configuration import Aim, load
from heaplaw.fuzz.git import git as git_in
from heaplaw.fuzz.inputs import pack
from heaplaw.fuzz.starting import files
from heaplaw.lawbook import LAWS
from heaplaw.properties import engines, hunting
from heaplaw.properties.verdict import Tally

STARTER = files("python")[Path("allocator.py")]
MERGES = "self.holes[before] = gap + length"
FORGETS = STARTER.replace(MERGES, "self.holes[before] = length")
DATA = Path(__file__).parent.parent / "data"
TRACE = """heaplaw trace 1
target allocator.py:Allocator
law tiling
1  a = alloc 1
2  b = alloc 1
3  free a
4  free b
"""
SMALL = "[quick]\noperations = 600\n"
OWN = 'targets = ["allocator.py:Allocator"]\n'


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project in a fresh folder: (configuration, other files) -> nothing.  Canaries are found, unasked."""

    def write(configuration="", **texts):
        texts.setdefault("allocator_py", STARTER)
        (tmp_path / "heaplaw.toml").write_text(configuration)
        for name, text in texts.items():
            path = tmp_path / name.replace("__", "/").replace("_py", ".py").replace("_trace", ".trace")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(canaries, "hunts", lambda wanted, **how: [found(*one) for one in wanted])
    return write


def found(target, engine, seed, *limits):
    return hunting.Hunt(target, engine, seed, hunting.FOUND, "counters", 0.0, 9, 9, 3)


@pytest.fixture
def gate(heaplaw, tmp_path):
    """A quick gate in this process: (exit code, its JSON, what it printed)."""

    def run(*words):
        path = tmp_path / "report.json"
        path.unlink(missing_ok=True)
        code, out, err = heaplaw("gate", "--quick", "--jobs", 1, "--seed", 7, "--json", path, *words)
        assert not err, err
        return code, json.loads(path.read_text()), out

    return run


def step(report, name):
    """The verdicts of a part's steps, with what was said."""
    return [(one["verdict"], one["said"]) for one in report["steps"] if one["name"] == name]


class TestConfiguration:
    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("", "heaplaw.toml: no targets"),
            ("targets = [", "heaplaw.toml: "),
            ("targets = []", "targets: [] must be a list of targets"),
            (OWN + "engine = 1", "engine: unknown key (did you mean 'engines'?)"),
            (OWN + 'engines = ["plane"]', "unknown engine 'plane' (did you mean 'plain'?)"),
            (OWN + "[budget]\noperations = 0", "budget.operations: 0 must be a whole number from 1 on"),
            (OWN + '[quick]\ntime = "soon"', "quick.time: 'soon' is not a time"),
            (OWN + '[floors]\n"coalesce bath" = 1', "floors: unknown word 'coalesce bath' in a floor (did you mean"),
            (OWN + '[muted]\ntiling = ""', "muted: tiling: say why it is not asked"),
            (OWN + '[muted]\ntilling = "why"', "muted: unknown law 'tilling' (did you mean 'tiling'?)"),
            (OWN + '[[known]]\ntrace = "a"', "known[0].why: is missing"),
            (OWN + '[[known]]\ntrace = "a"\nwhy = "b"', "known divergence a: "),
            (OWN + '[compare]\nold = "tlsf"', "compare.new: is missing"),
            (OWN + '[compare]\nold = "a"\nnew = "b"\nthresholds = { size = "+1" }', "compare.thresholds: "),
            ("[[targets]]\nsource = []", "targets[0].source: [] must be a list of texts"),
            ('[[targets]]\ncflags = "-O2"', "targets[0].name: a target has either a name or source"),
            ('targets = ["tlsf", "tlsf"]', "targets: tlsf is named twice"),
            ('targets = ["tlsf,x"]', "targets: 'x' in 'tlsf,x' is not KEY=VALUE"),
        ],
    )
    def test_mistakes(self, heaplaw, project, text, words):
        """A mistake is one line that names the file and the key; exit 2, and nothing is run."""
        project(text)
        code, out, err = heaplaw("gate")
        assert (code, err.count("\n")) == (2, 1)
        assert words in err
        assert "targets  " not in out

    def test_where_it_stands(self, tmp_path, monkeypatch):
        """The nearest file from the folder upwards; pyproject.toml does as well, both in one folder are a mistake."""
        below = tmp_path / "a" / "b"
        below.mkdir(parents=True)
        (tmp_path / "pyproject.toml").write_text('[tool.heaplaw]\ntargets = ["tlsf"]\n[tool.heaplaw.floors]\nsplit = 3')
        found = load(start=below)
        assert (found.file, found.floors.of_target("tlsf")) == (tmp_path / "pyproject.toml", {"split": 3})
        (tmp_path / "a/heaplaw.toml").write_text('targets = ["buddy"]')
        assert load(start=below).aims[0].name == "buddy"
        (tmp_path / "heaplaw.toml").write_text("")
        with pytest.raises(Exception, match=r"has both heaplaw\.toml and"):
            load(start=tmp_path)

    def test_there_is_none(self, heaplaw, tmp_path, monkeypatch):
        """Where nothing is configured, that is said with what to do."""
        monkeypatch.chdir(tmp_path)
        code, _, err = heaplaw("gate")
        assert code == 2
        assert "'heaplaw init' writes a project" in err


class TestVerdicts:
    def test_green_and_the_same_twice(self, gate, project):
        """Two targets, all parts green; two runs with one seed differ in nothing but times."""
        project('targets = ["allocator.py:Allocator", "subpage-buddy"]\n' + SMALL)
        (code, first, out), (_, second, _) = gate(), gate()
        assert code == 0, out
        assert out.rstrip().splitlines()[-1].startswith("green: every step passed on 2 targets")
        assert first["timing"].keys() == second["timing"].keys()
        assert json.dumps({**first, "timing": 0}) == json.dumps({**second, "timing": 0})

    def test_the_first_and_last_lines(self, gate, project):
        """The seed is said first and last, the exit code in the last line."""
        project(OWN + SMALL)
        _, _, out = gate()
        lines = out.splitlines()
        assert lines[1] == "seed 7 (given)"
        assert lines[-2:] == ["seed 7", lines[-1]]
        assert "(exit 0)" in lines[-1]

    def test_canaries(self, gate, project, monkeypatch):
        """Every engine hunts its canary for real; one that does not find it ends the gate with 4."""
        monkeypatch.setattr(canaries, "hunts", hunting.hunts)
        project(OWN + 'engines = ["plain"]\n' + SMALL)
        code, report, _ = gate()
        assert (code, step(report, "canaries")[0][0]) == (0, "passed")
        monkeypatch.setitem(hunting.CANARIES, "plain", "subpage-buddy")  # in which there is no bug to find
        monkeypatch.setattr(canaries, "OPERATIONS", 500)
        code, report, out = gate()
        assert (code, step(report, "canaries")[0][0]) == (4, "refuted")
        assert "plain does not find the bug that is planted for it (exit 4)" in out

    def test_a_missing_engine(self, gate, project, monkeypatch):
        """An engine that is not installed is not run, and the gate is not green, though another one was."""
        monkeypatch.setattr(engines._BUILT_IN["hypothesis"], "unavailable", lambda: "it is not here")
        project(OWN + 'engines = ["plain", "hypothesis"]\n' + SMALL)
        code, report, out = gate()
        assert code == 3
        assert ("not run", "it is not here") in step(report, "canaries")
        assert "not run  hypothesis" in out
        assert {law["verdict"] for law in report["targets"][-1]["laws"].values()} == {"not run"}

    def test_zero_operations(self, gate, project, monkeypatch):
        """An engine that executes nothing is not green, whatever it says."""
        idle = SimpleNamespace(check=lambda name, operations, seed, **how: Tally(name, "idle"))
        monkeypatch.setitem(engines._BUILT_IN, "idle", idle)
        engines._load.cache_clear()
        project(OWN + 'engines = ["idle"]\n' + SMALL)
        code, _, out = gate()
        assert code == 3
        assert "not green: idle on allocator.py:Allocator: nothing was executed (exit 3)" in out

    def test_a_target_that_cannot_be_made(self, gate, project):
        """It is not run, and the other one is."""
        project('targets = ["gone.py:Heap", "subpage-buddy"]\n' + SMALL)
        code, report, _ = gate()
        assert code == 3
        assert ("not run", "no such file: gone.py") in step(report, "targets")
        assert report["targets"][0]["operations"] >= 600

    def test_floors(self, gate, project):
        """A floor that was not reached is not green; with more operations it is."""
        project(OWN + '[floors]\n"coalesce both" = 1_000_000\n' + SMALL)
        code, report, out = gate()
        assert (code, report["floors"][0]["met"]) == (3, False)
        assert "coalesce both" in out.splitlines()[-1]


class TestLaws:
    @pytest.mark.parametrize("pinned", ["", f"laws = {len(LAWS)}\n", 'laws = ["tiling", "isolated"]\n'])
    def test_a_removed_law(self, gate, project, monkeypatch, pinned):
        """A law that vanishes is noticed, by their number, by name, and by the bugs that are known to break it."""
        monkeypatch.delitem(LAWS, "isolated")
        project(pinned + OWN + SMALL)
        code, report, _ = gate()
        assert code == 3
        said = " ".join(said for verdict, said in step(report, "laws") if verdict == "inconclusive")
        assert "bugs of the gallery break what is no law any more: isolated" in said
        assert not pinned or "no law any more: isolated" in said or f"{len(LAWS)} laws, the configuration" in said

    def test_muted(self, gate, project):
        """With a reason it is green, and the reason is told; but not where the project holds itself to the law."""
        muted = '[muted]\ntiling = "a demonstration"\ndrain = "another"\nno-spurious-refusal = "a third"\n'
        project(OWN + SMALL + muted, allocator_py=FORGETS)
        code, report, out = gate()
        assert code == 0, out
        assert report["targets"][0]["laws"]["tiling"] == {
            "verdict": "not applicable", "held": 0, "why": "muted: a demonstration",
        }  # fmt: skip
        project('laws = ["tiling"]\n' + OWN + SMALL + muted)
        code, report, _ = gate()
        assert code == 3
        assert "holds it to what it does not ask" in step(report, "laws")[0][1]

    def test_an_adapter_that_shows_less(self, gate, project):
        """A law that is written down and could not be asked is not green, and neither is a trace that names it."""
        blind = STARTER.replace("def free_regions", "def hidden")
        target = '[[targets]]\nname = "allocator.py:Allocator"\nlaws = ["disjoint", "coalesced"]\n'
        project(target + SMALL, allocator_py=blind)
        code, report, _ = gate()
        assert (code, step(report, "asked")) == (3, [("not run", "not shown: free_regions")])
        project(OWN + SMALL, allocator_py=blind, counterexamples__a_trace=TRACE)
        code, report, _ = gate()
        assert (code, step(report, "counterexamples")) == (
            3, [("not run", "tiling could not be asked: not shown: free_regions")],
        )  # fmt: skip


class TestTraces:
    def test_counterexamples(self, gate, project):
        """A committed counterexample that fails again is red, and is not saved a second time; fixed, it passes."""
        project(OWN + SMALL, allocator_py=FORGETS, counterexamples__a_trace=TRACE)
        code, report, out = gate()
        assert (code, step(report, "counterexamples")[0][0]) == (1, "refuted")
        assert "again: heaplaw replay counterexamples/a.trace" in out
        assert not list(Path("counterexamples").glob("*tiling*"))
        for path in Path("counterexamples").glob("all*"):
            path.unlink()
        project(OWN + SMALL)
        code, report, _ = gate()
        assert (code, step(report, "counterexamples")) == (0, [("passed", "tiling holds")])

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            (TRACE.replace("tiling", "tilling"), "names 'tilling', which is no law any more"),
            (TRACE.replace("target allocator.py:Allocator\n", ""), "it names no target"),
            (TRACE.replace("allocator.py", "gone.py"), "no such file: gone.py"),
            ("heaplaw trace 1\n", "no operation in this trace"),
        ],
    )
    def test_what_cannot_be_replayed(self, gate, project, text, words):
        """A counterexample that cannot be run is not green."""
        project(OWN + SMALL, counterexamples__a_trace=text)
        code, report, _ = gate()
        [(verdict, said)] = step(report, "counterexamples")
        assert (code, verdict) == (3, "not run")
        assert words in said

    def test_known_divergences(self, gate, project):
        """A known divergence must still fail; its law is not asked of its target; one that is gone is red."""
        known = '[[known]]\ntrace = "known/a.trace"\nwhy = "issue 7"\n'
        laws = '[muted]\ndrain = "a demonstration"\nno-spurious-refusal = "the same"\n'
        project(OWN + SMALL + laws + known, allocator_py=FORGETS, known__a_trace=TRACE)
        code, report, out = gate()
        assert code == 0, out
        assert step(report, "known divergences")[0][0] == "passed"
        assert report["targets"][0]["laws"]["tiling"]["why"] == "known divergence: issue 7"
        project(OWN + SMALL + laws + known)
        code, report, out = gate()
        assert (code, step(report, "known divergences")[0][0]) == (1, "refuted")
        assert "known/a.trace is a known divergence that does not fail as written down (exit 1)" in out
        other = TRACE.replace("law tiling", "law disjoint")
        project(OWN + SMALL + laws + known, allocator_py=FORGETS, known__a_trace=other)
        code, report, _ = gate("--no-save")
        [(verdict, said)] = step(report, "known divergences")
        assert (code, verdict) == (1, "refuted")
        assert said == "allocator.py:Allocator breaks tiling and not disjoint: take it out of the ledger"

    def test_not_saved(self, gate, project):
        """With --no-save a finding is told and nothing is written."""
        project(OWN + SMALL, allocator_py=FORGETS)
        code, _, out = gate("--no-save")
        assert code == 1
        assert not Path("counterexamples").exists()
        assert "--save keeps the trace" in out


class TestCompare:
    def test_thresholds(self, gate, project, monkeypatch):
        """A change of strategy that keeps its thresholds is green, one that does not is red and says by how much."""
        monkeypatch.setattr(strategies, "compared", partial(strategies.compared, recorded=()))
        compare = '[compare]\nold = "tlsf"\nnew = "tlsf"\n'
        project('targets = ["subpage-buddy"]\n' + SMALL + compare + 'operations = 100\nsearch = 1\n')
        code, report, out = gate()
        assert (code, step(report, "compare")[0][0]) == (0, "passed"), out
        limit = 'thresholds = { footprint = "-99%" }\n'
        project('targets = ["subpage-buddy"]\n' + SMALL + compare + limit + 'operations = 100\nsearch = 1\n')
        code, report, out = gate()
        assert (code, step(report, "compare")[0][0]) == (1, "refuted")
        assert "footprint=-99%" in out.splitlines()[-1]


class TestCorpus:
    def test_an_empty_one(self, gate, project):
        """A corpus that is configured and has nothing for a target is not green."""
        project('corpus = "corpus"\ntargets = ["buddy"]\n' + SMALL)
        code, report, _ = gate()
        assert (code, step(report, "corpus")) == (3, [("not run", "no input in corpus for it")])

    def test_inputs(self, gate, project):
        """Inputs are run, counted, and held to the laws; a damaged file is not green."""
        project('corpus = "corpus"\ntargets = ["subpage-buddy"]\n' + SMALL)
        name = Corpus("corpus").add("subpage-buddy", pack(bytes(8) + (1).to_bytes(4, "little") * 20))
        code, report, out = gate()
        assert code == 0, out
        [tally] = [one for one in report["targets"] if one["engine"] == "corpus"]
        assert (tally["runs"], tally["operations"] > 20) == (1, True)
        Path("corpus/subpage-buddy", name).write_bytes(b"hl")
        code, report, _ = gate()
        assert code == 3
        Corpus("corpus").add("subpage-buddy", pack(bytes(8)))
        code, report, _ = gate()
        assert (code, step(report, "corpus")[0][0]) == (3, "inconclusive")


class TestCertificates:
    def certificate(self, **more):
        data = json.loads((DATA / "certificates.json").read_text())
        [one] = [one for one in data["targets"] if one["target"].startswith("subpage-buddy")]
        Path("certificates.json").write_text(json.dumps({**data, "targets": [{**one, **more}]}))
        return one

    def test_made_again(self, gate, project):
        """A certificate of a target is made again; one that now proves less, or belongs to no target, is not green."""
        configuration = 'certificates = "certificates.json"\n' + SMALL
        project('targets = ["subpage-buddy"]\n' + configuration)
        one = self.certificate()
        code, report, out = gate()
        assert code == 0, out
        assert step(report, "certificates") == [("passed", f"every trace, {one['states']} states")]
        self.certificate(alphabet=[*one["alphabet"], "map i"])
        code, report, _ = gate()
        assert (code, step(report, "certificates")) == (3, [("inconclusive", "it proves less: no 'map i' any more")])
        project('targets = ["buddy"]\n' + configuration)
        assert gate()[0] == 3

    def test_as_deep_as_there_is_time(self, gate, project):
        """A quick gate goes as deep as its budget lets it, and says so."""
        project('targets = ["subpage-buddy"]\ncertificates = "certificates.json"\n' + SMALL + "transitions = 200\n")
        self.certificate()
        code, report, _ = gate()
        [(verdict, said)] = step(report, "certificates")
        assert (code, verdict) == (0, "passed")
        assert said.startswith("every trace of at most ")
        assert said.endswith("; every trace is for the whole gate")


def git(*words):
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main"]
    subprocess.run(["git", *identity, *map(str, words)], check=True, capture_output=True, timeout=60)


class TestGit:
    def test_the_seed(self, tmp_path):
        """It is the commit's; 1 where there is none, and that is said."""
        assert seeding.seed(tmp_path) == (1, "there is no commit to take it from")
        git("init", "-q", tmp_path)
        git("-C", tmp_path, "commit", "-q", "--allow-empty", "-m", "one")
        commit = git_in(tmp_path, "rev-parse", "HEAD")
        assert seeding.seed(tmp_path) == (int(commit[:8], 16), f"commit {commit[:8]}")
        assert seeding.seed(tmp_path, 5).number == 5

    def test_what_a_target_is_made_of(self, tmp_path):
        """Python by its imports, C by its includes; what a library was built from is not known."""
        for name, text in {
            "heap.py": "from pack.lists import Lists\nimport json", "pack/__init__.py": "",
            "pack/lists.py": "from . import bits", "pack/bits.py": "", "other.py": "",
            "a.c": '#include "a.h"\n#include <stdio.h>', "a.h": "",
        }.items():  # fmt: skip
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text)

        def names(aim):
            return sorted(str(path.relative_to(tmp_path)) for path in made_of(aim, tmp_path))

        assert names(Aim("heap.py:Heap")) == ["heap.py", "pack/__init__.py", "pack/bits.py", "pack/lists.py"]
        assert names(Aim("pack.lists:Lists")) == ["pack/__init__.py", "pack/bits.py", "pack/lists.py"]
        assert names(Aim(sources=("a.c",))) == ["a.c", "a.h"]
        assert names(Aim("heap.py:Heap", files=("a.*",)))[:2] == ["a.c", "a.h"]
        assert made_of(Aim("./lib.so"), tmp_path) is None
        assert names(Aim("tlsf")) == []

    def test_changed_since(self, heaplaw, gate, project, tmp_path):
        """Only targets that a change touches are checked; what is left out is said; nothing touched is not 'passed'."""
        project('targets = ["allocator.py:Allocator", "other.py:Allocator"]\n' + SMALL, other_py=STARTER)
        Path(".gitignore").write_text("report.json\n__pycache__\n")
        git("init", "-q")
        git("add", "-A")
        assert "allocator.py" in {path.name for path in seeding.changes(tmp_path, "HEAD")}  # before the first commit
        git("commit", "-q", "-m", "one")
        code, report, out = gate("--changed-since", "HEAD")
        assert (code, report["targets"], {verdict for verdict, _ in step(report, "left out")}) == (0, [], {"not run"})
        assert out.splitlines()[-1] == "not run: nothing to check, the change touches no target (exit 0)"
        with Path("other.py").open("a") as file:
            file.write("\n")
        code, report, _ = gate("--changed-since", "HEAD")
        assert (code, [one["target"] for one in report["targets"]]) == (0, ["other.py:Allocator"])
        assert len(step(report, "left out")) == 1
        settings = load()
        for path in (tmp_path / "heaplaw.toml", tmp_path / "counterexamples/a.trace", tmp_path / "deleted.py"):
            assert len(touched(settings, settings.aims, [path])) == 2
        code, _, err = heaplaw("gate", "--changed-since", "no-such")
        assert (code, "git knows no revision 'no-such' here" in err) == (2, True)

    def test_bisect(self, tmp_path, monkeypatch):
        """`git bisect run heaplaw replay FILE --bisect` names the right commit of ten; two say nothing."""
        monkeypatch.chdir(tmp_path)
        trace = tmp_path / "tail.trace"
        trace.write_text(TRACE)
        git("init", "-q", "work")
        monkeypatch.chdir(tmp_path / "work")
        unreadable = "import no_such_module\n"
        for number in range(1, 11):
            text = unreadable if number in (3, 5) else FORGETS if number >= 7 else STARTER
            Path("allocator.py").write_text(f"{text}# {number:02}\n")
            git("add", "-A")
            git("commit", "-q", "-m", f"commit {number}")
        replay = [sys.executable, "-m", "heaplaw", "replay", str(trace), "--bisect"]
        git("bisect", "start", "HEAD", "HEAD~9")
        run = ["git", "bisect", "run", *replay]
        done = subprocess.run(run, capture_output=True, text=True, timeout=120, check=False)
        assert "allocator.py:Allocator breaks tiling (exit 1)" in done.stdout
        assert "cannot tell: cannot import allocator.py: ModuleNotFoundError" in done.stdout
        assert f"{_commit(7)} is the first bad commit" in done.stdout

    @pytest.mark.parametrize(
        ("trace", "allocator", "code", "words"),
        [
            (TRACE, FORGETS, 1, "bad: allocator.py:Allocator breaks tiling"),
            (TRACE, STARTER, 0, "good: allocator.py:Allocator keeps tiling"),
            (TRACE, STARTER.replace("def free_regions", "def hidden"), 125, "could not be asked"),
            (TRACE.replace("target", "note"), STARTER, 125, "names no target"),
            ("what", STARTER, 125, "not a recording in a known format"),
            (None, STARTER, 125, "keep it outside of what git checks out"),
        ],
    )
    def test_answers_for_git(self, heaplaw, project, trace, allocator, code, words):
        """0, 1 or 125, whatever happens."""
        project(allocator_py=allocator)
        if trace is not None:
            Path("a.trace").write_text(trace)
        seen, out, _ = heaplaw("replay", "a.trace", "--bisect")
        assert (seen, words in out) == (code, True), out

    def test_usage_errors_are_no_answer(self, heaplaw):
        """A wrong option, which ends other commands with 2, is no 'bad' for git."""
        assert heaplaw("replay", "--bisect", "--wrong")[0] == 125


def _commit(number):
    return git_in(Path(), "rev-list", "--grep", f"^commit {number}$", "--all").strip()
