"""Targets that may take their process along: whatever they do, it is a finding, small, and this process goes on."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from heaplaw.fuzz.sanitizers import is_sanitized, telling
from heaplaw.impls.native import HEADER
from heaplaw.lawbook import LAWS
from heaplaw.properties.verdict import PASSED, Status
from heaplaw.trace import Trace

TESTS = Path(__file__).parent.parent
PLANTED = TESTS / "native" / "planted.c"
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-g", "-O1", f"-I{HEADER.parent}")
SANITIZED = ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")
QUICK = ("--jobs", 2, "--ops", 300, "--patience", "0.8s", "--memory", "140M")
EXPECTED = {  # what is planted: the law, how it is seen, and most operations that it takes
    "SEGFAULT": ("returns", "SIGSEGV", 3),
    "HANG": ("returns", "a hang", 4),
    "LEAK": ("returns", "out of memory", 4),
    "WILD_FREE": ("returns", "SIGABRT: ", 3),
    "OVERRUN": ("contents", "another value", 4),
    "MISALIGNED": ("aligned", "a (8 bytes at 8+8)", 1),
    "ASSERTS": ("returns", "Assertion `h->live < 2", 3),
    "OVERRUN-asan": ("returns", "SIGABRT: AddressSanitizer: heap-buffer-overflow planted.c:", 4),
}


def compiled(folder, name):
    """The C example with a bug, as ``name`` says; a skip where nothing compiles it."""
    if shutil.which("gcc") is None:
        pytest.skip("not run: there is no gcc to compile the C example")
    bug, _, how = name.partition("-")
    library = folder / f"{name}.so"
    command = ["gcc", *STRICT, *(SANITIZED if how else ()), f"-DBUG={bug}", "-o", library, PLANTED]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if how and "cannot find" in done.stderr:
        pytest.skip(f"not run: gcc has no sanitizers here: {done.stderr.splitlines()[0]}")
    assert done.returncode == 0, done.stderr
    return f"./{library.name},arena=256"  # the name is part of the seed


def run(folder, *words):
    """The command in a process of its own, which the tests below expect to survive."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *filter(None, sys.path)])}
    done = subprocess.run(
        [sys.executable, "-m", "heaplaw", *map(str, words)], env=environment, cwd=folder, capture_output=True,
        text=True, check=False, timeout=100,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """One check of the C example with each of its bugs: the folder, what was printed, and the report by bug."""
    folder = tmp_path_factory.mktemp("planted")
    targets = {name: compiled(folder, name) for name in ("NONE", *EXPECTED)}
    words = ("check", *targets.values(), *QUICK, "--save", folder, "--json", folder / "report.json")
    code, out, err = run(folder, *words)
    assert code == 1, out + err
    report = json.loads((folder / "report.json").read_text())
    return folder, out, dict(zip(targets, report["targets"], strict=True)), targets


@pytest.fixture
def beside(planted, monkeypatch):
    """The working directory is where the libraries are."""
    monkeypatch.chdir(planted[0])


class TestPlanted:
    @pytest.mark.parametrize("bug", EXPECTED)
    def test_each_is_the_right_law_with_its_signal(self, planted, bug):
        """Each mistake planted in C is a counterexample of the right law, short, with the signal or the sanitizer's
        words in it, on standard output and in the report."""
        _, out, targets, names = planted
        law, seen, length = EXPECTED[bug]
        [found] = [one for one in targets[bug]["findings"] if one["law"] == law]
        assert seen in found["seen"]
        assert len(Trace.parse(found["trace"]).operations) <= length
        assert targets[bug]["flaky"] == []
        assert f"{names[bug]} breaks {law}" in out
        assert found["seen"] in out
        if bug.endswith("-asan"):
            assert any("planted.c:" in line for line in found["said"])
            assert not re.search(r"0x[0-9a-f]{4}|==\d+==", " ".join(found["said"]))

    def test_the_honest_one_breaks_nothing(self, planted):
        """Without a mistake nothing breaks, and as many operations are done as were asked for."""
        _, _, targets, _ = planted
        assert targets["NONE"]["findings"] == []
        assert targets["NONE"]["operations"] >= 300

    def test_other_laws_go_on(self, planted):
        """Behind the first counterexample other laws are asked still: overrun by one byte breaks two of them."""
        _, _, targets, _ = planted
        assert {one["law"] for one in targets["OVERRUN-asan"]["findings"]} >= {"returns", "contents"}
        assert targets["MISALIGNED"]["laws"]["contents"]["verdict"] == Status.PASSED.value

    @pytest.mark.parametrize("bug", ["SEGFAULT", "OVERRUN-asan", "MISALIGNED"])
    def test_replayed(self, planted, beside, heaplaw, bug):
        """A trace that was saved is replayed, with the signal, and the process that asks for it goes on."""
        folder, *_ = planted
        law, seen, _ = EXPECTED[bug]
        [file] = folder.glob(f"{bug}.so-{law}.trace")
        code, out, _ = heaplaw("replay", file)
        assert code == 1
        assert seen in out
        assert f"breaks {law}" in out

    def test_minimised(self, planted, beside, heaplaw, tmp_path):
        """A long trace that crashes is made as small as the one that the check has found."""
        _, _, _, names = planted
        lines = [f"{letter} = alloc 20\nfree {letter}" for letter in "abcdefgh"] + [f"{x} = alloc 40" for x in "ijkl"]
        file = tmp_path / "long.trace"
        file.write_text(f"heaplaw trace 1\ntarget {names['SEGFAULT']}\nlaw returns\n" + "\n".join(lines) + "\n")
        code, out, _ = heaplaw("minimize", file, "-o", tmp_path / "small.trace")
        assert code == 1
        assert "SIGSEGV" in out
        assert "still fails: 20 -> 3 operations" in out
        small = Trace.parse((tmp_path / "small.trace").read_text())
        assert len(small.operations) == 3
        code, out, _ = heaplaw("minimize", file, "--target", names["NONE"])
        assert (code, "no longer fails" in out) == (PASSED, True)

    def test_the_same_seed_the_same_findings(self, planted, beside, heaplaw, tmp_path):
        """The same seed gives the same report but for its timing, crashes and sanitizers' words included."""
        _, _, _, names = planted
        reports = []
        for name in ("one", "two"):
            assert heaplaw("check", names["ASSERTS"], *QUICK, "--json", tmp_path / name)[0] == 1
            reports.append({**json.loads((tmp_path / name).read_text()), "timing": None})
        assert reports[0] == reports[1]


class TestPython:
    def test_a_crash_and_a_law(self, heaplaw, tmp_path):
        """With --isolate a Python target that lies and crashes later is convicted of both, by short traces."""
        code, out, _ = heaplaw(
            "check", "hostile:LiesThenDies", "planted:Good", "--isolate", "--ops", 600, "--jobs", 2,
            "--json", tmp_path / "report.json",
        )  # fmt: skip
        assert code == 1
        lies, good = json.loads((tmp_path / "report.json").read_text())["targets"]
        assert {(one["law"], one["operation"]) for one in lies["findings"]} >= {("contents", 1), ("returns", 13)}
        assert "SIGSEGV" in out
        assert good["findings"] == []
        assert good["operations"] >= 600

    def test_the_same_as_without(self, heaplaw, tmp_path):
        """A target that breaks nothing has the same report whether it runs in this process or in another."""
        reports = []
        for more in ([], ["--isolate"]):
            file = tmp_path / f"report{len(more)}.json"
            assert heaplaw("check", "planted:Good", "--ops", 2000, "--jobs", 1, "--json", file, *more)[0] == 0
            reports.append({**json.loads(file.read_text()), "timing": None})
        assert reports[0] == reports[1]

    def test_a_trace_of_a_crash_is_replayed_apart_unasked(self, heaplaw, tmp_path):
        """A trace that says that a call does not return is replayed and minimised in another process."""
        file = tmp_path / "crash.trace"
        operations = "a = alloc 8\nb = alloc 8\nfree b\nc = alloc 8\nd = alloc 8\n"
        file.write_text(f"heaplaw trace 1\ntarget hostile:Segfaults\nlaw returns\n{operations}")
        code, out, _ = heaplaw("replay", file, "--json", tmp_path / "report.json")
        assert (code, "SIGSEGV" in out) == (1, True)
        [target] = json.loads((tmp_path / "report.json").read_text())["targets"]
        assert [(one["law"], one["operation"]) for one in target["findings"]] == [("returns", 5)]
        code, out, _ = heaplaw("minimize", file)
        assert (code, "5 -> 3 operations" in out) == (1, True)

    def test_what_cannot_be_made(self, heaplaw):
        """Where making a target takes the process along, nothing was executed, and it is said how."""
        code, out, _ = heaplaw("check", "hostile:Unborn", "--isolate", "--jobs", 1)
        assert code == 3
        assert "nothing was executed on hostile:Unborn (building it took its process along: SIGSEGV)" in out

    def test_a_crash_that_does_not_recur(self, heaplaw, tmp_path):
        """A crash that no trace does again is inconclusive, and never a finding."""
        file = tmp_path / "moody.py"
        file.write_text(
            "import ctypes, pathlib\nfrom planted import Good\n\nclass Moody(Good):\n"
            "    def alloc(self, size, align=1, *, ctx=None):\n"
            f"        mark = pathlib.Path({str(tmp_path / 'mark')!r})\n"
            "        if len(self.used) == 3 and not mark.exists():\n            mark.touch()\n"
            "            ctypes.string_at(0)\n        return super().alloc(size)\n"
        )
        code, out, _ = heaplaw("check", f"{file}:Moody", "--isolate", "--jobs", 1, "--ops", 300)
        assert code == 3, out
        assert "inconclusive: a violation of returns did not recur" in out


class TestBadInput:
    def test_one_line_each(self, heaplaw, tmp_path):
        """A missing library, a file that is none, and an unknown class end with 2 and one line, isolated or not."""
        junk = tmp_path / "junk.so"
        junk.write_bytes(b"no library")
        for words in (["./none.so"], [junk], ["planted:Nobody", "--isolate"]):
            code, _, err = heaplaw("check", *words, "--jobs", 1)
            assert (code, err.count("\n")) == (2, 1), err

    def test_a_library_without_the_functions(self, heaplaw, tmp_path):
        """A library that exports none of the header's functions ends every command with 2 and one line."""
        if shutil.which("gcc") is None:
            pytest.skip("not run: there is no gcc to compile a library")
        source, library = tmp_path / "other.c", tmp_path / "other.so"
        source.write_text("int answer(void) { return 42; }\n")
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source], check=True)
        trace = tmp_path / "t.trace"
        trace.write_text(f"heaplaw trace 1\ntarget {library}\n1  a = alloc 8\n")
        for words in (["check", library, "--jobs", 1], ["replay", trace], ["minimize", trace]):
            code, _, err = heaplaw(*words)
            assert (code, err.count("\n")) == (2, 1), err
            assert "heaplaw_" in err

    def test_a_guard_needs_the_heap_here(self, heaplaw, tmp_path):
        """What looks at the heap from this process cannot look at one of another: said in one line."""
        trace = tmp_path / "t.trace"
        trace.write_text("heaplaw trace 1\ntarget planted:Good\n1  a = alloc 8\n")
        code, _, err = heaplaw("replay", trace, "--isolate", "--guard")
        assert (code, err.count("\n")) == (2, 1)


class TestForks:
    def test_a_fork_costs_little(self):
        """A try in a fork costs less than a fifth of what it costs in a fresh process."""
        measure = (
            "import subprocess, sys, time\n"
            "from heaplaw.fuzz.forkserver import attempt, settle\n"
            "from heaplaw.impls.registry import factory\n"
            "from heaplaw.operations import Operation\n"
            "build, ops = factory('hostile:Segfaults'), [Operation(1, name, 8) for name in range(3)]\n"
            "settle()\nstarted = time.monotonic()\n"
            "for _ in range(60): assert attempt(build, ops, 2.0).symptom == 'SIGSEGV'\n"
            "forks = (time.monotonic() - started) / 60\nstarted = time.monotonic()\n"
            "for _ in range(3): subprocess.run([sys.executable, '-c', 'import heaplaw.fuzz.worker'], check=True)\n"
            "fresh = (time.monotonic() - started) / 3\n"
            "assert 5 * forks < fresh, (forks, fresh)\n"
        )
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *filter(None, sys.path)])}
        done = subprocess.run(
            [sys.executable, "-c", measure], env=environment, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stderr

    def test_this_process_never_forks(self, heaplaw, monkeypatch):
        """Nothing of a target runs in a fork of the process that the command runs in."""
        monkeypatch.setattr(os, "fork", lambda: pytest.fail("it forked"))
        assert heaplaw("check", "hostile:Segfaults", "--isolate", "--ops", 60, "--jobs", 1)[0] == 1


class TestWords:
    def test_of_a_report(self):
        """Of a sanitizer's report the summary comes first, and nothing is left that differs from run to run."""
        said = telling(
            "==4242==ERROR: AddressSanitizer: heap-use-after-free on address 0x602000000010 at pc 0x7f01\n"
            "READ of size 4 at 0x602000000010 thread T0\n    #0 0x7f0123 in take /home/me/heap.c:7\n"
            "SUMMARY: AddressSanitizer: heap-use-after-free /home/me/heap.c:7 in take\n"
        )
        assert said[0] == "AddressSanitizer: heap-use-after-free heap.c:7 in take"
        assert "READ of size 4 at 0x... thread T0" in said
        assert "#0 0x... in take heap.c:7" in said
        assert "4242" not in " ".join(said)

    def test_nothing_telling(self):
        """Chatter is not shown."""
        assert telling("hello\n[info] all is well\n") == []
        assert not is_sanitized(Path("/no/such/library.so"))


def test_every_law_is_known():
    """The laws that are expected here are laws."""
    assert {law for law, _, _ in EXPECTED.values()} <= set(LAWS)
