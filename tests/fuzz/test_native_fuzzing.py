"""Native libraries under libFuzzer, guided by their own counters."""

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest

pytest.importorskip("cffi", reason="not run: cffi, of the extra native, is not installed")

from heaplaw.fuzz.engine import Settings
from heaplaw.fuzz.foretold import BATCHED, OneCall, foretell
from heaplaw.fuzz.inputs import PREFIX
from heaplaw.fuzz.isolating import Bounds, fresh, guards
from heaplaw.fuzz.native_fuzzing import Edges, NativeSession, with_fuzzer
from heaplaw.fuzz.native_harness import Literal
from heaplaw.fuzz.options import Problem
from heaplaw.impls.native import HEADER, compiling, library
from heaplaw.impls.native.compiling import compile_library
from heaplaw.impls.registry import factory
from heaplaw.operations import Kind

NATIVE = Path(__file__).parent.parent / "native"
EXAMPLES = HEADER.parent / "examples"
FIRST_FIT = [EXAMPLES / name for name in ("first_fit.c", "first_fit_adapter.c", "first_fit_shown.c")]
RUNS = 1000
SEED = 1

needs_clang = pytest.mark.skipif(
    shutil.which("clang") is None, reason="not run: there is no clang (Debian: clang libclang-rt-14-dev)"
)
needs_atheris = pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="not run: atheris, of the extra fuzz, is not installed"
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder to work in; names of libraries are part of the seed, so they are the same in every run."""
    home = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("fuzzed"))
    Path("heaplaw_build").mkdir()
    yield Path.cwd()
    os.chdir(home)


def run(*words, **environment):
    """The command in a process of its own: (exit code, standard output, standard error)."""
    known = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **environment}
    done = subprocess.run(
        [sys.executable, "-m", "heaplaw", *map(str, words)], env=known, capture_output=True, text=True, check=False,
        timeout=110,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


@needs_clang
@needs_atheris
class TestFeedback:
    def test_finds_what_chance_does_not(self, place):
        """Behind eight conditions, each inside the one before, stands a bug that as many operations of the same
        random inputs do not reach; libFuzzer does, as its counters of edges and features rise."""
        compile_library([NATIVE / "nested.c"], place / "heaplaw_build", fuzzed=True)
        name = "./heaplaw_build/nested-fuzz.so"
        with guards([name], Bounds()) as crew:
            [tally], _ = fresh(crew, [name], "fuzz", 0, ())
            session = NativeSession(crew, tally, 1_000_000, SEED, Settings(coverage="code", runs=RUNS), most=1)
            session.go(time.monotonic() + 300)
        [found] = tally.findings
        assert found.violation.law == "disjoint"
        assert [op.size for op in found.trace.operations] == [24, 1023, 3, 512, 65, 2049, 8, 255]
        seen = session.figures.edges
        assert seen.most >= seen.first + 8
        assert seen.most_features >= seen.first_features + 8
        operations, reached = by_chance(name, tally.operations)
        assert operations >= tally.operations > 0
        assert reached == []

    def test_crash_is_a_finding(self, place):
        """What takes the fuzzing process along is a small counterexample with the sanitizer's words, and the process
        that was asked for it goes on."""
        Path("crash").mkdir()
        code, out, err = run(
            "fuzz", "--source", NATIVE / "planted.c", "--cflags", "-DBUG=SEGFAULT", "--runs", 20, "--time", "20s",
            "--save", "crash",
        )  # fmt: skip
        assert code == 1, out + err
        assert "breaks returns" in out
        assert "SIGSEGV" in out
        [trace] = Path("crash").glob("*.trace")
        code, out, _ = run("replay", trace)
        assert code == 1
        assert "SIGSEGV" in out


def by_chance(name, operations):
    """(operations, laws that broke) of fresh random inputs, done as the fuzzer does them."""
    build, mutate, rng = factory(name), Literal([1]), Random(SEED)
    contract, done, broken = build().contract, 0, []
    while done < operations:
        some = foretell(mutate.fresh(rng)[PREFIX:], contract, lambda kind: kind in BATCHED)
        if (found := OneCall(build, some).go()) is not None:
            broken.append(found.law)
        done += len(some)
    return done, broken


@needs_clang
class TestLibrary:
    def test_any_process_loads_it(self, place):
        """A library that is built for fuzzing is a target like others where nobody fuzzes."""
        name = str(compile_library(FIRST_FIT, place, ["-DSHOWN=(HEAPLAW_PROMISES | HEAPLAW_OBSERVES)"], fuzzed=True))
        assert library.is_instrumented(Path(name))
        assert factory(name)().alloc(24) is not None

    def test_without_our_functions(self, place):
        """One that somebody else has built misses libFuzzer's functions: a child has them, this process says so."""
        words = ["clang", "-fsanitize=fuzzer-no-link", "-fPIC", "-shared", f"-I{HEADER.parent}"]
        subprocess.run([*words, "-o", "theirs.so", *map(str, FIRST_FIT)], check=True, capture_output=True)
        with pytest.raises(ValueError, match="was built for libFuzzer"):
            factory("./theirs.so")
        with guards(["./theirs.so"], Bounds()) as crew:
            sound, lost = fresh(crew, ["./theirs.so"], "fuzz", 0, ())
        assert [tally.target for tally in sound] == ["./theirs.so"]
        assert lost == []

    @needs_atheris
    def test_what_counts_nothing(self, place):
        """A library without counters cannot guide by them: one line, exit 2."""
        name = f"./{compile_library(FIRST_FIT, place).name}"
        code, _, err = run("fuzz", name, "--coverage", "code", "--time", "5s")
        assert code == 2
        assert "counts no edges" in err
        assert len(err.strip().splitlines()) == 1


class TestMissing:
    @needs_atheris
    def test_no_clang(self, heaplaw, place, monkeypatch):
        """Without clang: one line, exit 2."""
        monkeypatch.setattr(compiling, "_CLANGS", {"C": "no-such-clang", "C++": "no-such-clang"})
        monkeypatch.delenv("CC", raising=False)
        code, _, err = heaplaw("fuzz", "--source", NATIVE / "nested.c")
        assert (code, len(err.strip().splitlines())) == (2, 1)
        assert "needs clang, and there is no no-such-clang" in err

    @needs_atheris
    def test_two_targets_or_none(self, heaplaw):
        """One target is fuzzed: named, or built."""
        for words in ((), ("tlsf", "--source", "mine.c")):
            code, _, err = heaplaw("fuzz", *words)
            assert code == 2
            assert "fuzz one target" in err

    def test_no_libfuzzer(self, monkeypatch, tmp_path):
        """An atheris without the libraries that native code needs is named."""
        monkeypatch.setattr("heaplaw.fuzz.native_fuzzing._atheris", lambda: tmp_path / "atheris")
        with pytest.raises(Problem, match="has no asan_with_fuzzer"):
            with_fuzzer(True)


class TestForetold:
    def test_the_same_in_every_process(self, place):
        """The same bytes are the same operations, of the kinds that a batch does where the head leaves it to one."""
        contract = factory("buddy,pages=64")().contract
        for seed in range(20):
            body = Literal([1]).fresh(Random(seed))[PREFIX:]
            some = foretell(body, contract)
            assert some == foretell(body, contract)
            births = [op.name for op in some if op.kind == Kind.ALLOC]
            assert births == list(range(len(births)))

    def test_edges_of_several_processes(self):
        """The first figures are the first process's, the most are those of the one that saw most."""
        one = Edges().read("#2\tINITED cov: 5 ft: 6 corp\n#9\tDONE   cov: 8 ft: 20 corp\n")
        assert one.read("#2\tINITED cov: 7 ft: 30 corp\n").read("nothing") == Edges(5, 8, 6, 30)
