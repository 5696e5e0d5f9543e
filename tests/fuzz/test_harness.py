"""The harness under libFuzzer, the command and the engine over it, and the standard entry points."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from heaplaw.fuzz import engine, extras, feedback
from heaplaw.fuzz.engine import Session, Settings, lifted, readable
from heaplaw.fuzz.harness import PLAN, Harness, LawBroken, Plan
from heaplaw.fuzz.inputs import START, WIDTH, digest, pack, variant_of
from heaplaw.fuzz.options import Problem
from heaplaw.impls.registry import BUILT_IN, variants
from heaplaw.properties import engines
from heaplaw.properties.engines import ENGINES, why_not
from heaplaw.properties.hunting import NOT_RUN, hunt
from heaplaw.properties.steering import LENGTH
from heaplaw.properties.verdict import Status
from heaplaw.trace import Trace

ROOT = Path(__file__).parents[2]
ENTRIES = sorted((ROOT / "fuzz").glob("fuzz_*.py"))
BUG = "tlsf+T29"  # breaks a law within a few operations
atheris = pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed")
listed = pytest.mark.skipif("fuzz" not in ENGINES, reason="the installed package declares no engine fuzz")


def inputs(count, seed=1, operations=60):
    return [pack(Random(seed + i).randbytes(LENGTH + WIDTH * operations), i) for i in range(count)]


def breaking(name=BUG, operations=60):
    """An input that breaks a law."""
    return next(data for data in inputs(2000, operations=operations) if engine._broken(name, data, ()) is not None)


def run(*command, plan=None, cwd=None):
    """A command of libFuzzer's kind: (exit code, all it said)."""
    env = {**os.environ, **(plan or Plan()).environment, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    words = [str(word) for word in command]
    done = subprocess.run(words, check=False, env=env, cwd=cwd, capture_output=True, timeout=60, text=True)
    return done.returncode, done.stdout + done.stderr


def fuzz_target(name, *flags, plan=None, cwd=None):
    return run(sys.executable, "-m", "heaplaw.fuzz.harness", name, *flags, plan=plan, cwd=cwd)


@pytest.fixture
def corpus(tmp_path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    for data in inputs(4):
        (folder / digest(data)).write_bytes(data)
    return folder


class TestOneInput:
    def test_what_is_no_input_is_refused(self):
        """Bytes without the header are not kept by libFuzzer; others run."""
        harness = Harness("buddy")
        assert [harness(data) for data in (b"", b"\n", b"XX" + inputs(1)[0])] == [-1, -1, -1]
        assert harness(inputs(1)[0]) == 0
        assert (harness.report.executed, harness.work.tally.runs) == (4, 1)

    def test_a_law_is_raised_with_its_trace(self):
        """What is raised holds a trace file that names target and law."""
        with pytest.raises(LawBroken) as raised:
            Harness(BUG)(breaking())
        trace = Trace.parse(str(raised.value).partition("\n")[2])
        assert trace.target in variants(BUG)
        assert trace.header["law"] in str(raised.value)

    def test_muted_laws_are_not_asked(self):
        """The plan's muted laws break no more."""
        harness, data = Harness(BUG), breaking()
        found = lifted(BUG, data, ())
        harness.prepare(Plan(mute=(found.law,)))
        other = lifted(BUG, data, (found.law,))
        assert other is None or other.law != found.law
        if other is None:
            assert harness(data) == 0

    def test_configurations_take_turns(self):
        """The header's number chooses among the configurations of all targets of a family."""
        harness = Harness("subpage-buddy", "buddy")
        harness.prepare()
        assert harness.names == [*variants("subpage-buddy"), *variants("buddy")]
        assert variant_of(inputs(1)[0][:3] + b"\x05", harness.names) == variants("buddy")[1]

    @pytest.mark.parametrize(
        "text", ["{", "[]", '{"coverage": "lines"}', '{"covrage": "code"}', '{"mutator": "none"}', '{"mute": 3}']
    )
    def test_a_plan_that_is_none(self, monkeypatch, text):
        """What stands in the environment is a plan or one clear line."""
        monkeypatch.setenv(PLAN, text)
        with pytest.raises(Problem, match=PLAN):
            Plan.from_environment()

    def test_plans_survive_the_environment(self, monkeypatch):
        """What is handed to a process arrives there."""
        plan = Plan("both", "bytes", ("disjoint", "bounds"), 7, 8, 9.5, "file", "other")
        monkeypatch.setenv(PLAN, plan.environment[PLAN])
        assert Plan.from_environment() == plan


class TestFeedback:
    def test_numbers_are_the_same_everywhere(self):
        """A feature has one number in every process, whatever strings and None hash to there."""
        program = (
            "from heaplaw.fuzz.feedback import Seen\n"
            "print(sorted(Seen().features([('a', None, True), ('list', (3, 1), 2), 'x'])))"
        )
        said = {
            subprocess.run(
                [sys.executable, "-c", program], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True,
                timeout=30, check=True,
            ).stdout
            for seed in ("1", "2")
        }  # fmt: skip
        assert len(said) == 1
        assert len(json.loads(said.pop())) == 3

    def test_runs_differ_in_features(self):
        """Different runs show different states; lists and hints are among what is seen."""
        harness = Harness("percpu-bitmap", "tlsf")
        for data in inputs(12):
            harness(data)
        kinds = {feature[0] for feature in harness.seen._numbers}
        assert {"list", "occupied", "hint", "hints", "coalesce both"} <= kinds
        assert len(harness.seen) > 300

    @pytest.mark.parametrize("name", ["tlsf", BUG, "percpu-bitmap", "zsmalloc", "kmalloc", "planted:Kills"])
    def test_only_the_implementation_is_instrumented(self, name):
        """The modules that would be instrumented are the target's own: no law, no checker, no engine."""
        modules = {function.__module__ for function in feedback.functions_of(name)}
        assert modules
        assert all(module.startswith("heaplaw.impls.") or module == "planted" for module in modules)
        assert "heaplaw.impls.registry" not in modules
        names = {function.__name__ for function in feedback.functions_of(name)}
        assert {"alloc", "free"} <= names
        assert names.isdisjoint({"free_regions", "hints", "lists", "extents"})

    @atheris
    def test_instrumented_code_is_that_of_the_implementation(self):
        """After instrumenting, the code of the target's functions is patched, and nobody else's."""
        program = (
            "import sys, gc, types\n"
            "from heaplaw.fuzz.harness import Harness\n"
            "from heaplaw.fuzz.feedback import instrument\n"
            "Harness('tlsf').prepare()\n"
            "told = instrument('tlsf')\n"
            "mark = '__ATHERIS_INSTRUMENTED__'\n"
            "patched = {str(f.__module__) for f in gc.get_objects() if isinstance(f, types.FunctionType)\n"
            "           and any(c == mark for c in f.__code__.co_consts if isinstance(c, str))\n"
            "           and str(f.__module__).startswith('heaplaw')}  # atheris has the mark itself\n"
            "print(sorted(patched) == told, *told)"
        )
        code, said = run(sys.executable, "-c", program)
        assert code == 0, said
        same, *told = said.split()
        assert same == "True"
        assert told == [f"heaplaw.impls.{name}" for name in ("bits", "tlsf", "tlsf_lists", "tlsf_mapping")]

    def test_a_private_function_that_is_gone(self, monkeypatch):
        """Without atheris's private functions states are not silently left uncounted."""

        class Without:
            _reserve_counter = staticmethod(lambda: 0)

        monkeypatch.setattr(feedback, "needed", lambda package, extra: Without)
        with pytest.raises(AttributeError, match="no _trace_branch"):
            feedback.Counters()

    def test_a_stub_that_stays(self, monkeypatch):
        """Where atheris never exchanges its stub, counting says so instead of recording nothing."""
        numbers = iter(range(1 << 20))

        class Idle:
            _reserve_counter = staticmethod(lambda: next(numbers))
            _trace_branch = staticmethod(lambda number: None)

        monkeypatch.setattr(feedback, "needed", lambda package, extra: Idle)
        with pytest.raises(AttributeError, match="counts nothing"):
            feedback.Counters().mark([1])


@atheris
class TestUnderLibFuzzer:
    @pytest.mark.parametrize("coverage", ["states", "code", "both"])
    def test_what_is_new_is_kept(self, coverage, corpus):
        """Counters count: inputs with new features enter the corpus, whatever the feedback."""
        before = len(list(corpus.iterdir()))
        code, said = fuzz_target("tlsf", "-runs=60", "-seed=3", "-max_len=300", corpus, plan=Plan(coverage))
        assert code == 0, said
        assert len(list(corpus.iterdir())) > before
        assert int(re.findall(r"cov: (\d+)", said)[-1]) > 100

    def test_a_crash_is_a_file_and_77(self, corpus, tmp_path):
        """A law that breaks ends with 77 and leaves the input, named by its hash, which crashes again."""
        (corpus / "bad").write_bytes(breaking())
        code, said = fuzz_target(BUG, "-runs=300", corpus, cwd=tmp_path)
        assert code == 77
        assert "LawBroken" in said
        [crash] = tmp_path.glob("crash-*")
        assert crash.name == "crash-" + digest(crash.read_bytes())
        assert fuzz_target(BUG, crash)[0] == 77
        assert fuzz_target("tlsf", crash)[0] == 0

    def test_usage(self):
        """No target, an unknown one, a plan that is none: one line and exit code 2."""
        for code, said in (fuzz_target("-runs=1"), fuzz_target("no-such"), fuzz_target("tlsf,arena=x")):
            assert code == 2
            assert said.startswith("heaplaw: ")
            assert "Traceback" not in said


@atheris
class TestEntryPoints:
    @pytest.mark.parametrize("entry", ENTRIES, ids=lambda path: path.stem)
    def test_they_are_programs(self, entry):
        """Each is executable, finds its Python by itself, and is a module with TestOneInput."""
        assert os.access(entry, os.X_OK)
        assert entry.read_text().startswith("#!/usr/bin/env python3\n")
        module = importlib.import_module(f"heaplaw.fuzz.{entry.stem}")
        assert module.TestOneInput(b"") == -1
        assert module.TestOneInput(inputs(1)[0]) == 0

    def test_every_target_has_one(self):
        """Each built-in target belongs to exactly one family."""
        families = [importlib.import_module(f"heaplaw.fuzz.{entry.stem}").TestOneInput.targets for entry in ENTRIES]
        assert sorted(name for family in families for name in family) == sorted(BUILT_IN)

    def test_merge(self, corpus, tmp_path):
        """-merge=1, for which libFuzzer starts the program again by its own name, keeps inputs."""
        (tmp_path / "merged").mkdir()
        code, said = run(ROOT / "fuzz/fuzz_buddy.py", "-merge=1", tmp_path / "merged", corpus)
        assert code == 0, said
        assert 0 < len(list((tmp_path / "merged").iterdir())) <= len(list(corpus.iterdir()))

    def test_minimize_crash(self, tmp_path):
        """-minimize_crash=1 makes a crashing input smaller."""
        script = tmp_path / "fuzz_planted.py"
        script.write_text((ROOT / "fuzz/fuzz_tlsf.py").read_text().replace('"tlsf", "xen-tlsf"', f'"{BUG}"'))
        script.chmod(0o755)
        crash = tmp_path / "crash"
        crash.write_bytes(breaking(operations=6))
        flags = ("-minimize_crash=1", "-max_total_time=8", "-runs=100", "-exact_artifact_path=small")
        run(script, *flags, crash, cwd=tmp_path)
        small = (tmp_path / "small").read_bytes()
        assert START <= len(small) < len(crash.read_bytes())
        assert run(script, tmp_path / "small", cwd=tmp_path)[0] == 77


@atheris
class TestEngine:
    def test_the_same_twice(self):
        """The same seed and budget give the same tally."""
        one, two = (engine.check("buddy", 1500, 3) for _ in range(2))
        one.seconds = two.seconds = 0.0
        assert one.novelty.seen == two.novelty.seen
        one.novelty = two.novelty
        assert one == two
        assert one.operations >= 1500
        assert one.status("disjoint") is Status.PASSED

    def test_findings_are_small_and_several(self):
        """A law is found, made small, muted, and fuzzing goes on to others."""
        tally = engine.check(BUG, 100_000, 1, most=2)
        assert [len(finding.trace.operations) <= 5 for finding in tally.findings] == [True, True]
        assert len({finding.violation.law for finding in tally.findings}) == 2

    def test_a_target_that_kills(self):
        """A target that takes its process along ends the work, which is then inconclusive, with the reason."""
        tally = engine.check("planted:Kills", 100_000, 1)
        assert "takes its process along" in tally.stopped
        assert tally.operations < tally.planned

    def test_bytes(self):
        """libFuzzer's own mutator works too: it starts from inputs that have a header."""
        session = Session("buddy", 2000, 1, settings=Settings(mutator="bytes"))
        assert session.go().operations >= 2000
        assert session.figures.features > 100


class TestEngines:
    def test_built_in_ones_come_first(self):
        """The engines of this package are there without any metadata, and can run."""
        assert list(ENGINES)[:3] == ["plain", "hypothesis", "exhaustive"]
        assert why_not("plain") is None
        with pytest.raises(KeyError):
            ENGINES["no such engine"]

    def test_declared_ones(self, monkeypatch):
        """A package's engine is used by name; one that cannot be imported is not run, with the reason."""
        from importlib.metadata import EntryPoint

        points = {
            "mine": EntryPoint("mine", "heaplaw.properties.plain", engines.GROUP),
            "broken": EntryPoint("broken", "no_such_module", engines.GROUP),
            "empty": EntryPoint("empty", "json", engines.GROUP),
        }
        monkeypatch.setattr(engines, "_declared", lambda: points)
        engines._load.cache_clear()
        try:
            assert ENGINES["mine"]("buddy", 100, 1).operations >= 100
            assert "no_such_module" in why_not("broken")
            assert "has no check" in why_not("empty")
            with pytest.raises(RuntimeError, match="cannot be imported"):
                ENGINES["broken"]
        finally:
            engines._load.cache_clear()

    @listed
    def test_without_atheris(self, monkeypatch, heaplaw):
        """Where atheris is missing, one line names the extra, and nothing is green."""
        monkeypatch.setattr(engine, "missing", lambda package, extra: extras.missing("no_such_package", extra))
        for command in (["fuzz", "buddy"], ["check", "buddy", "--engine", "fuzz"]):
            code, _, err = heaplaw(*command)
            assert code == 2
            assert "heaplaw[fuzz]" in err
        assert engine.check("buddy", 100, 1).operations == 0
        hunted = hunt("tlsf+T10", "fuzz", 1, 5.0)
        assert (hunted.verdict, "heaplaw[fuzz]" in hunted.why) == (NOT_RUN, True)


@atheris
class TestCommand:
    def test_a_bug(self, heaplaw, tmp_path):
        """What is found is shown, kept as trace and as input, and replayed from there; exit code 1."""
        out_file = tmp_path / "out.json"
        code, out, err = heaplaw("fuzz", BUG, "--time", "4s", "--save", tmp_path / "found", "--json", out_file)
        assert code == 1, err
        assert "breaks" in out
        [trace, *_] = sorted((tmp_path / "found").glob("*.trace"))
        assert heaplaw("replay", trace)[0] == 1
        assert list((tmp_path / "found").glob("crash-*"))
        data = json.loads(out_file.read_text())
        assert data["fuzzing"]["inputs"] > 0
        assert data["targets"][0]["findings"]

    def test_a_corpus_is_kept_and_used(self, heaplaw, tmp_path):
        """Inputs stay in DIR/TARGET under their hashes, and a second run starts from them."""
        code, out, err = heaplaw("fuzz", "buddy", "--runs", "80", "--corpus", tmp_path)
        assert code == 0, err
        kept = {path.name: path.read_bytes() for path in (tmp_path / "buddy").iterdir()}
        assert len(kept) > 20
        assert all(digest(data) == name for name, data in kept.items())
        (tmp_path / "buddy" / "old").write_bytes(b"hl\x01\x00" + bytes(8))
        code, out, _ = heaplaw("fuzz", "buddy", "--runs", len(kept) + 20, "--corpus", tmp_path)
        assert code == 0
        assert "1 file: version 1" in out

    def test_too_little_time(self, heaplaw):
        """Runs that are not done in time are inconclusive."""
        code, out, _ = heaplaw("fuzz", "buddy", "--runs", "1000000", "--time", "4s")
        assert code == 3
        assert "1,000,000 runs" in out

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["no-such"], "unknown target"), (["buddy", "--coverage", "lines"], "--coverage"),
            (["buddy", "--time", "soon"], "is not a time"),
        ],
    )  # fmt: skip
    def test_usage(self, heaplaw, arguments, words):
        """Bad input is one line and exit code 2."""
        code, _, err = heaplaw("fuzz", *arguments)
        assert code == 2
        assert words in err


class TestReadable:
    def test_nothing_can_be_read(self, tmp_path):
        """A corpus in which nothing is an input ends the work before it begins."""
        (tmp_path / "a").write_bytes(b"hl\x01\x00")
        (tmp_path / "b").write_bytes(b"text")
        with pytest.raises(Problem, match="1 file: version 1, this is 2, 1 file: no header"):
            readable(tmp_path)

    def test_a_file_in_its_place(self, tmp_path):
        """A corpus that is no folder is told in one line."""
        (tmp_path / "file").write_text("")
        with pytest.raises(Problem, match="cannot read the corpus"):
            readable(tmp_path / "file")

    def test_none_yet(self, tmp_path):
        """A folder that is not there, or is empty, is a corpus without inputs."""
        assert readable(tmp_path / "new") == readable(tmp_path) == {}
