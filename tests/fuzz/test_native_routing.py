"""Native targets in the commands beside ``check``: each takes them in child processes, or says in one line why not."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("cffi", reason="not run: cffi, of the extra native, is not installed")

from heaplaw.fuzz.cases import holds
from heaplaw.impls.native import HEADER

PLANTED = Path(__file__).parent.parent / "native" / "planted.c"
FLAGS = ("-std=c99", "-fPIC", "-shared", "-g", "-O1", f"-I{HEADER.parent}")
SANITIZED = ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")
pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="not run: there is no gcc to compile C with")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the C example: honest, crashing, and crashing with sanitizers in it."""
    folder, home = tmp_path_factory.mktemp("routed"), Path.cwd()
    for name, bug, how in (("honest", "NONE", ()), ("crashing", "SEGFAULT", ()), ("sanitized", "SEGFAULT", SANITIZED)):
        command = ["gcc", *FLAGS, *how, f"-DBUG={bug}", "-o", folder / f"{name}.so", PLANTED]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if how and "cannot find" in done.stderr:
            pytest.skip("not run: gcc has no sanitizers here")
        assert done.returncode == 0, done.stderr
    os.chdir(folder)
    yield folder
    os.chdir(home)


def run(*words):
    """A command of Python in a process of its own: (exit code, all that was said)."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    words = [sys.executable, "-m", *map(str, words)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=100)
    return done.returncode, done.stdout + done.stderr


def test_campaign(place):
    """A campaign hunts on a library with sanitizers and on one without; what it finds can be held against it again."""
    code, said = run(
        "heaplaw", "campaign", "hunt", "./sanitized.so,arena=256", "./honest.so,arena=256", "--engine", "plain",
        "--shards", 1, "--ops", 80, "--jobs", 1, "--time", "60s", "--json", "campaign.json",
    )  # fmt: skip
    assert code == 1, said
    [line] = [line for line in said.splitlines() if line.startswith("./sanitized.so,arena=256 breaks returns: SIG")]
    assert "planted.c:" in line  # in a sanitizer's words, of which there are several
    assert "honest.so,arena=256 breaks" not in said
    assert json.loads(Path("campaign.json").read_text())["exit"] == 1
    [trace] = Path("hunt/findings").glob("sanitized*.trace")
    assert holds(trace.read_text()).startswith("a crash")


def test_pytest_plugin(place):
    """The plugin checks a library in child processes: its laws are tests, and a crash is a test that fails."""
    Path("heaplaw_traces").mkdir()
    lines = [f"{number}  {letter} = alloc 1" for number, letter in enumerate("abc", 1)]
    head = ["heaplaw trace 1", "target ./crashing.so,arena=256", "law returns"]
    Path("heaplaw_traces/crash.trace").write_text("\n".join([*head, *lines, ""]))
    Path("test_mine.py").write_text(
        "from heaplaw.properties.pytest_plugin import laws_of\n"
        'TestHonest = laws_of("./honest.so,arena=256", operations=100)\n'
    )
    Path("pytest.ini").write_text("[pytest]\n")
    code, said = run("pytest", "-q", "-p", "no:cacheprovider", "--heaplaw-traces", "heaplaw_traces", "test_mine.py")
    assert code == 1, said
    assert "./crashing.so,arena=256 breaks returns" in said
    assert "SIGSEGV" in said
    assert "1 failed" in said
    assert "TestHonest" not in said


def test_machine_and_explore(place, heaplaw):
    """A state machine is written out; a search that goes back to earlier states is refused in one line, exit 2."""
    code, out, _ = heaplaw("machine", "./honest.so,arena=256")
    assert (code, out.splitlines()[0]) == (0, "The state machine of ./honest.so,arena=256")
    code, _, err = heaplaw("explore", "./honest.so,arena=256")
    assert code == 2
    assert "states cannot be kept" in err
    assert len(err.strip().splitlines()) == 1
