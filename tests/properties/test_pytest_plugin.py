"""The pytest plugin, from outside: a user's allocator, a few lines, a test a law."""

import re
import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import heaplaw.properties.pytest_outcome
from heaplaw.lawbook import LAWS
from heaplaw.properties import workhorse

pytest_plugins = ["pytester"]
EXAMPLE = Path(__file__).parent.parent / "example_project"
BUG = "self.holes[before] = length  # forgets what was free before"
FIX = "self.holes[before] += length"
INSTALLED = any("pytest_plugin" in known.value for known in entry_points(group="pytest11"))
PLUGIN = ["-p", "no:cacheprovider", *([] if INSTALLED else ["-p", "heaplaw.properties.pytest_plugin"])]
MINE = (EXAMPLE / "pool.py").read_text()
assert BUG in MINE
assert heaplaw.properties.pytest_outcome  # loaded here, so that runs within this process share it


@pytest.fixture
def project(pytester):
    """A directory with the example's allocator as mine.py; ``fixed`` repairs it."""
    pytester.makepyfile(mine=MINE)
    return pytester


def fixed(project):
    project.path.joinpath("mine.py").write_text(MINE.replace(BUG, FIX))
    return project


def run(project, *options, tests="from mine import Pool\nTestPool = laws_of(Pool)", inside=True):
    project.makepyfile(test_mine=f"from heaplaw.properties.pytest_plugin import AllocatorLaws, laws_of\n{tests}\n")
    words = [*PLUGIN, "-p", "no:hypothesispytest", "--heaplaw-ops=1500", *options]  # it takes its time to sum up
    return project.runpytest_inprocess(*words) if inside else project.runpytest_subprocess(*words)


class TestExampleProject:
    """tests/example_project as a new user would have it: a copy, and pytest in a process of its own."""

    @pytest.fixture
    def copy(self, tmp_path):
        target = tmp_path / "project"
        shutil.copytree(EXAMPLE, target, ignore=shutil.ignore_patterns("conftest.py", "__pycache__"))
        return target

    def pytest(self, copy, *options):
        words = [sys.executable, "-m", "pytest", *PLUGIN, *options]
        return subprocess.run(words, cwd=copy, capture_output=True, text=True, check=False)

    def test_the_bug_is_found(self, copy):
        """The buggy pool fails: a trace of three or four steps, a strip of the heap, a command that works."""
        done = self.pytest(copy)
        assert done.returncode == 1, done.stdout
        assert "breaks drain" in done.stdout
        assert re.search(r"^    1  a = alloc 1 \|A+\.+\|$", done.stdout, flags=re.M)
        for path in re.findall(r"heaplaw replay (\S+Pool-\S+\.trace)", done.stdout):
            assert len([line for line in (copy / path).read_text().splitlines() if line[0].isdecimal()]) <= 8
            words = [sys.executable, "-m", "heaplaw", "replay", path]
            again = subprocess.run(words, cwd=copy, capture_output=True, text=True, check=False)
            assert again.returncode == 1, again.stdout
        assert "FAILED test_pool.py::TestPool::test_law[tiling]" in done.stdout
        assert "FAILED counterexamples/two-holes.trace" in done.stdout

    def test_fixed_it_passes(self, copy):
        """One line repaired, everything passes, the committed counterexample too."""
        (copy / "pool.py").write_text(MINE.replace(BUG, FIX))
        done = self.pytest(copy, "-v")
        assert done.returncode == 0, done.stdout
        assert "two-holes.trace::two-holes PASSED" in done.stdout
        assert "test_law[drain] PASSED" in done.stdout
        assert not (copy / ".heaplaw").exists()

    def test_it_is_small(self):
        """The allocator is about sixty lines, the test three."""
        assert 50 <= len(MINE.splitlines()) <= 75
        lines = [line for line in (EXAMPLE / "test_pool.py").read_text().splitlines() if line]
        assert len(lines) == 3


class TestVerdicts:
    def test_a_test_a_law(self, project):
        """Every law is a test: passed, failed, or skipped with the reason."""
        result = run(project, "-rs")
        outcomes = result.parseoutcomes()
        assert sum(outcomes[word] for word in ("passed", "failed", "skipped")) == len(LAWS)
        assert outcomes["failed"] >= 2
        result.stdout.fnmatch_lines(["*zeroed does not apply: not promised: zeroed*"])
        result.stdout.fnmatch_lines(["*again: heaplaw replay *mine.py_Pool-drain.trace*"])

    def test_a_condition_that_never_held_is_skipped(self, project):
        """A law whose condition never came is skipped as not run, not passed."""
        result = run(fixed(project), "-rs", "--heaplaw-ops=150")
        result.stdout.fnmatch_lines(["*deterministic not run: its condition never held*"])

    def test_inconclusive_fails(self, project):
        """A budget that is not spent in time is no pass."""
        result = run(fixed(project), "--heaplaw-ops=90000000", "--heaplaw-time=0.2s")
        result.stdout.fnmatch_lines(["*disjoint inconclusive*"])
        assert result.ret == 1

    def test_an_engine_that_is_missing_fails(self, project, monkeypatch):
        """Without its package an engine runs nothing, and says what to install."""
        monkeypatch.setattr(workhorse, "unavailable", lambda: workhorse.MISSING)
        result = run(fixed(project), "--heaplaw-engine=hypothesis")
        assert "passed" not in result.parseoutcomes()
        result.stdout.fnmatch_lines(["*disjoint not run: *heaplaw?test?*"])

    @pytest.mark.parametrize(
        ("option", "words"),
        [("--heaplaw-engine=none", "no engine 'none'"), ("--heaplaw-ops=many", "a setting is no number")],
    )
    def test_usage(self, project, option, words):
        """A setting that means nothing is said in one line."""
        result = run(fixed(project), option)
        assert words in result.stdout.str()
        assert "Traceback" not in result.stdout.str()
        assert result.ret == 1


class TestTargets:
    @pytest.mark.parametrize(
        "tests",
        [
            "import mine\nTestPool = laws_of(mine.Pool)",
            "TestPool = laws_of('mine.py:Pool')",
            "TestPool = laws_of('mine:Pool')",
            "class TestPool(AllocatorLaws):\n    target = 'mine.py:Pool'\n    operations = 1500",
            "from mine import Pool\nclass TestPool(AllocatorLaws):\n    target = Pool\n    engine = 'hypothesis'",
        ],
    )
    def test_ways_to_name_it(self, project, tests):
        """A class object, a name, a class of tests: all find the bug and can be replayed."""
        result = run(project, tests=tests)
        assert result.ret == 1
        (path,) = project.path.glob(".heaplaw/*Pool-drain.trace")
        assert re.search(r"^target mine(\.py)?:Pool$", path.read_text(), flags=re.M)

    def test_a_nameless_one(self, project):
        """What no name reaches is checked all the same; the text says why there is no command."""
        result = run(project, tests="import mine\nTestPool = laws_of(lambda: mine.Pool())")
        assert result.ret == 1
        result.stdout.fnmatch_lines(["*breaks drain*", "*no name that a command could use*"])

    def test_built_in(self, project):
        """A built-in target goes through its configurations, from parametrised classes if wanted."""
        result = run(project, tests="TestBuddy, TestTlsf = map(laws_of, ('buddy,pages=64', 'tlsf,arena=1024'))")
        assert result.ret == 0
        result.stdout.fnmatch_lines(["buddy,pages=64: *operations*seed 1", "tlsf,arena=1024: *seed 1"])

    def test_no_target(self, project):
        """A class that names none says so."""
        result = run(project, tests="class TestPool(AllocatorLaws): pass")
        result.stdout.fnmatch_lines(["*names no target*"])


class TestCounterexamples:
    TRACE = "heaplaw trace 1\ntarget mine.py:Pool\nlaw drain\na = alloc 8\nb = alloc 8\ndrain\n"

    def commit(self, project, text=TRACE):
        project.path.joinpath("kept").mkdir()
        project.path.joinpath("kept/two.trace").write_text(text)
        project.makeini("[pytest]\nheaplaw_traces = kept\n")

    def test_first(self, project):
        """They are tests, and come before all others."""
        self.commit(project)
        result = run(project, "-v")
        lines = [line for line in result.outlines if "%]" in line]
        assert "two.trace::two FAILED" in lines[0]
        result.stdout.fnmatch_lines(["*again: heaplaw replay kept/two.trace"])

    def test_of_a_fixed_allocator_pass(self, project):
        """What is repaired stays repaired: the trace passes."""
        self.commit(project)
        result = run(fixed(project), "-v")
        result.stdout.fnmatch_lines(["*two.trace::two PASSED*"])

    def test_only_when_all_is_run(self, project):
        """Asking for one file runs that file; with the option counterexamples come as well."""
        self.commit(project)
        words = ["-v", "--heaplaw-ops=300", "test_mine.py"]
        assert "two.trace" not in run(fixed(project), *words).stdout.str()
        assert "two.trace" in run(project, *words, "--heaplaw-traces=kept").stdout.str()

    def test_outside_the_directory_they_are_no_tests(self, project):
        """Trace files elsewhere are left alone."""
        project.path.joinpath("other.trace").write_text(self.TRACE)
        assert "other.trace" not in run(fixed(project), "-v").stdout.str()

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("heaplaw trace 1\ntarget mine.py:Gone\na = alloc 8\n", "has no 'Gone'"),
            ("heaplaw trace 1\na = alloc 8\n", "names no target"),
            ("nonsense\n", "line 1"),
        ],
    )
    def test_unreadable(self, project, text, words):
        """One that cannot be replayed fails, in a line."""
        self.commit(project, text)
        result = run(fixed(project))
        assert result.parseoutcomes()["failed"] == 1
        assert words in result.stdout.str()
        assert "Traceback" not in result.stdout.str()

    def test_whose_law_is_not_asked(self, project):
        """One whose law no longer applies is skipped, not passed."""
        self.commit(project, self.TRACE.replace("law drain", "law zeroed"))
        result = run(fixed(project), "-rs")
        result.stdout.fnmatch_lines(["*zeroed was not asked: not promised: zeroed"])


class TestRuns:
    def test_one_run_for_all_laws(self, project):
        """The engine runs once for a target, whatever number of laws."""
        count = (
            "import mine\n"
            "class Counted(mine.Pool):\n"
            "    made = 0\n"
            "    def __init__(self):\n"
            "        Counted.made += 1\n"
            "        super().__init__()\n"
            "def test_zero(): assert not Counted.made\n"
            "TestPool = laws_of(Counted, operations=1000)\n"
            "TestSame = laws_of(Counted, operations=1000)\n"
            "def test_runs(): assert 0 < Counted.made < 30\n"
        )
        result = run(fixed(project), tests=count)
        assert result.ret == 0, result.stdout.str()

    def test_function_of_the_seed(self, project):
        """Same seed, same text; the seed stands at the beginning and at the end."""
        one, two = (run(project, "--heaplaw-seed=7") for _ in range(2))
        texts = [re.sub(r"in [\d.]+s", "", result.stdout.str()).partition("collected")[2] for result in (one, two)]
        assert texts[0] == texts[1]
        one.stdout.fnmatch_lines(["heaplaw: version *, seed 7", "mine.py:Pool: 1,*operations*, seed 7"])

    def test_settings(self, project):
        """The command line wins over the class, the class over the configuration file."""
        project.makeini("[pytest]\nheaplaw_ops = 500\nheaplaw_seed = 3\n")
        tests = "import mine\nclass TestPool(AllocatorLaws):\n    target = mine.Pool\n    operations = 700\n"
        project.makepyfile(test_mine=f"from heaplaw.properties.pytest_plugin import AllocatorLaws\n{tests}")
        fixed(project)
        for options, least in (([], 700), (["--heaplaw-ops=2500"], 2500)):
            text = project.runpytest_inprocess(*PLUGIN, "-p", "no:hypothesispytest", *options).stdout.str()
            (seen,) = re.findall(r"^mine.py:Pool: ([\d,]+) operations.*seed 3$", text, flags=re.M)
            assert least <= int(seen.replace(",", "")) < least + 500  # whole runs

    def test_junit(self, project):
        """The report for machines carries seed, operations, states and version."""
        run(fixed(project), "--junit-xml=report.xml", "-W", "error")
        text = project.path.joinpath("report.xml").read_text()
        for name in ("seed", "operations", "states", "version", "engine", "target"):
            assert re.search(rf'<property name="heaplaw_{name}" value="[^"]+"', text)

    @pytest.mark.parametrize("options", [["-n2"], ["-n2", "--dist=loadscope"]])
    def test_xdist(self, project, options):
        """Workers give the verdicts that one process gives; grouped by class, a target is run once."""
        tests = (
            "import os, mine, pathlib\n"
            "FILE = pathlib.Path(__file__).with_name('ran-' + os.environ.get('PYTEST_XDIST_WORKER', ''))\n"
            "class Told(mine.Pool):\n"
            "    def __init__(self):\n"
            "        super().__init__()\n"
            "        open(FILE, 'a')\n"
            "TestPool = laws_of(Told)\n"
        )
        result = run(fixed(project), *options, tests=tests, inside=False)
        assert result.ret == 0, result.stdout.str()
        workers = list(project.path.glob("ran-gw*"))
        assert len(workers) == (1 if "--dist=loadscope" in options else 2)
        result.stdout.fnmatch_lines(["test_mine.py:Told: *,* operations*"])


class TestFloors:
    TARGET = "TestPool = laws_of('tlsf,arena=1024', operations=2000)"

    def test_none(self, project):
        """Without floors there is no test of floors."""
        assert "test_floor" not in run(project, "-v", tests=self.TARGET).stdout.str()

    def test_kept_and_not(self, project):
        """Each floor is a test, from the file, the class and the command line."""
        project.path.joinpath("pyproject.toml").write_text('[tool.heaplaw.floors]\n"coalesce both" = 1000000\n')
        tests = "TestPool = laws_of('tlsf,arena=1024', operations=2000, floors={'split': 5, 'evicted 1': 1})"
        result = run(project, "-v", "--heaplaw-floor=free-then-alloc=3", tests=tests)
        assert result.ret == 1
        result.stdout.fnmatch_lines_random([
            "*test_floor?coalesce both? FAILED*", "*test_floor?split? PASSED*", "*test_floor?evicted 1? SKIPPED*",
            "*test_floor?free-then-alloc? PASSED*",
            "floor not met: tlsf,arena=1024: 'coalesce both' was reached * times, at least 1,000,000 wanted",
        ])  # fmt: skip

    def test_of_one_target(self, project):
        """A target's own table is for it alone."""
        project.path.joinpath("pyproject.toml").write_text("[tool.heaplaw.floors.buddy]\nsplit = 1000000\n")
        assert "test_floor" not in run(project, "-v", tests=self.TARGET).stdout.str()
        both = self.TARGET + "\nTestBuddy = laws_of('buddy,pages=64', operations=2000)"
        result = run(project, "-v", tests=both)
        result.stdout.fnmatch_lines(["*TestBuddy::test_floor?split? FAILED*"])
        assert "TestPool::test_floor" not in result.stdout.str()

    def test_mistakes(self, project):
        """An unknown word is a line, wherever it stands."""
        result = run(project, "--heaplaw-floor=splitt=1", tests=self.TARGET)
        result.stderr.fnmatch_lines(["ERROR: heaplaw: unknown word 'splitt' in a floor*"])
        project.path.joinpath("pyproject.toml").write_text("[tool.heaplaw.floors]\nsplitt = 1\n")
        result = run(project, tests=self.TARGET)
        assert result.ret != 0
        result.stdout.fnmatch_lines(["*heaplaw: *pyproject.toml*unknown word 'splitt' in a floor*"])

    def test_junit(self, project):
        """The report for machines says what was reached, and what never was."""
        run(project, "--junit-xml=report.xml", tests=self.TARGET)
        text = project.path.joinpath("report.xml").read_text()
        assert re.search(r'<property name="heaplaw_reached" value="\d+ of \d+"', text)
        assert '<property name="heaplaw_never_reached"' in text
