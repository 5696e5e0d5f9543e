"""Libraries for 32 bits, in a process that has 64: a small program holds them, and all else is as with others."""

import importlib.util
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from heaplaw import Refusal
from heaplaw.impls.naming import TargetError
from heaplaw.impls.native import HEADER, hosting
from heaplaw.impls.native.batches import Batches
from heaplaw.impls.native.watching import watchable
from heaplaw.impls.registry import factory
from heaplaw.operations import Kind, Operation
from heaplaw.properties.plain import check
from heaplaw.trace import Trace

TESTS = Path(__file__).parent.parent
EXAMPLES = HEADER.parent / "examples"
FIRST_FIT = [EXAMPLES / name for name in ("first_fit.c", "first_fit_adapter.c", "first_fit_shown.c")]
SHOWS = "-DSHOWN=(HEAPLAW_PROMISES | HEAPLAW_OBSERVES)"
STRICT = ("-Wall", "-Wextra", "-Werror", "-O1", "-g", "-fPIC", "-shared", f"-I{HEADER.parent}")

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("cffi") is None, reason="not run: cffi is not installed"),
    pytest.mark.skipif(sys.maxsize < 1 << 32, reason="not run: this Python has 32 bits itself"),
]


def compiled(folder, name, *words):
    """A library for 32 bits; a skip where nothing makes one."""
    if shutil.which("gcc") is None:
        pytest.skip("not run: there is no gcc")
    library = folder / name
    command = ["gcc", "-m32", *STRICT, *words, "-o", library]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if done.returncode and re.search(r"bits/libc-header-start|cannot find|incompatible|gnu/stubs", done.stderr):
        pytest.skip("not run: gcc builds nothing for 32 bits here (Debian: gcc-multilib)")
    assert done.returncode == 0, done.stderr
    return f"./{name}"


@pytest.fixture(scope="module")
def first_fit(tmp_path_factory):
    """The example that shows everything, and where it is; its name is part of the seed."""
    folder, home = tmp_path_factory.mktemp("m32"), Path.cwd()
    name = compiled(folder, "first32.so", SHOWS, *FIRST_FIT)
    os.chdir(folder)
    yield name
    os.chdir(home)


def run(*words, **environment):
    """The command in a process of its own."""
    path = os.pathsep.join([str(TESTS), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-m", "heaplaw", *map(str, words)], env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_shows_all_that_it_has(first_fit):
    """The example passes, and the same laws are asked as of a library for 64 bits, contents and structures among them.

    Its adapter hands sizes to a ``size_t``: one of 64 bits that is not refused would become another one there.
    """
    tally = check(first_fit, 1500, 1)
    assert tally.findings == []
    for law in ("contents", "tiling", "coalesced", "conservation", "counters", "free-list", "hint-sound", "drain"):
        assert tally.evidence[law] > 10, law
    target = factory(first_fit)()
    assert target.alloc((1 << 32) + 24) is None
    assert target.alloc(1 << 70) is Refusal.TOO_BIG
    assert "another process" in (watchable(target) or "")


def test_batches(first_fit):
    """A batch is one question: handles and results are what single calls answer."""
    operations = [Operation(Kind.ALLOC, name, 24 + name) for name in range(20)]
    operations += [Operation(Kind.FREE, name) for name in range(0, 20, 2)]
    operations += [Operation(Kind.REALLOC, 1, 400), Operation(Kind.FREE, 2)]
    answers = Batches(factory(first_fit)(), 20).run(operations)
    single = factory(first_fit)()
    handles = [single.alloc(24 + name) for name in range(20)]
    assert answers[:20] == handles
    for name in range(0, 20, 2):
        single.free(handles[name])
    assert answers[20:30] == [0] * 10
    assert answers[30] == single.realloc(handles[1], 400)
    assert answers[31] == 0xFFFFFFFFFFFFFFFB  # there is nothing left to be freed


def test_a_fork_has_a_program_of_its_own(first_fit):
    """A fork neither sees nor destroys the heaps of the process that it came from."""
    target = factory(first_fit)()
    handle = target.alloc(64)
    target.write(handle, 0, b"A" * 64)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            other = factory(first_fit)()
            other.write(other.alloc(64), 0, b"B" * 64)
            target.destroy()
            try:
                target.alloc(8)
            except RuntimeError:
                code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert target.read(handle, 0, 64) == b"A" * 64


def test_what_it_does_to_its_process(tmp_path, monkeypatch):
    """A crash is a small counterexample with its signal; an overrun that a sanitizer sees is replayed in its words."""
    planted = TESTS / "native" / "planted.c"
    monkeypatch.chdir(tmp_path)
    crashes = compiled(tmp_path, "segfault32.so", "-DBUG=SEGFAULT", planted) + ",arena=256"
    code, out, err = run("check", crashes, "--ops", 60, "--jobs", 1, "--patience", "0.3s", "--json", "report.json")
    assert code == 1, out + err
    [target] = json.loads(Path("report.json").read_text())["targets"]
    [found] = target["findings"]
    assert (found["law"], found["seen"]) == ("returns", "SIGSEGV")
    assert len(Trace.parse(found["trace"]).operations) <= 3
    sanitized = ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")
    overruns = compiled(tmp_path, "overrun32.so", "-DBUG=OVERRUN", *sanitized, planted) + ",arena=256"
    lines = [f"{number}  {letter} = alloc 1" for number, letter in enumerate("abcd", 1)]
    Path("overrun.trace").write_text("\n".join(["heaplaw trace 1", f"target {overruns}", "law returns", *lines, ""]))
    code, out, err = run("replay", "overrun.trace")
    assert code == 1, out + err
    assert "SIGABRT: AddressSanitizer: heap-buffer-overflow planted.c:" in out


def test_no_multilib(first_fit, tmp_path):
    """Where no program for 32 bits can be built, that is one line, exit 2."""
    compiler = tmp_path / "cc32"
    compiler.write_text('#!/bin/sh\necho "fatal error: bits/libc-header-start.h: No such file" >&2\nexit 1\n')
    compiler.chmod(compiler.stat().st_mode | stat.S_IXUSR)
    code, _, err = run("check", first_fit, "--ops", 10, CC=str(compiler), XDG_CACHE_HOME=str(tmp_path))
    assert code == 2
    assert "gcc-multilib" in err
    assert len(err.strip().splitlines()) == 1


def test_which_are_foreign(first_fit, tmp_path):
    """A library is told by its file, not by its name; one that cannot be held says why in one line."""
    assert hosting.is_foreign(Path(first_fit))
    assert not hosting.is_foreign(Path(sys.executable))
    broken = tmp_path / "broken.so"
    broken.write_bytes(Path(first_fit).read_bytes()[:200])
    with pytest.raises(TargetError, match=r"broken\.so: .*(too short|file)"):
        factory(str(broken))


def test_our_own_code_is_clean():
    """The program that holds libraries compiles without a warning, for both kinds of process."""
    if shutil.which("gcc") is None:
        pytest.skip("not run: there is no gcc")
    source = HEADER.with_name("hosting.c")
    flags = ["-std=gnu99", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", f"-I{HEADER.parent}"]
    subprocess.run(["gcc", *flags, str(source)], check=True, capture_output=True)
