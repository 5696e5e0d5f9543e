"""`heaplaw minimize`: one trace, a directory of old ones, and bad input."""

import json
from pathlib import Path

import pytest

from heaplaw.trace import Trace

LONG = """heaplaw trace 1
target percpu-bitmap@4.14,unit=256,block=64,chunks=2
law hint-sound
1  a = alloc 9 align 4
2  b = alloc 12
3  c = alloc 7
4  write c
5  free c
6  read a
7  free b
8  d = alloc 30
9  e = alloc 3
10 free d
"""
SHORT = "heaplaw trace 1\ntarget tlsf@conte-3.1,arena=1024,sl=2\nlaw big-enough\n1  a = alloc 18446744073709551609\n"


@pytest.fixture
def traces(tmp_path):
    """A directory with two old counterexamples, and a file that is none."""
    (tmp_path / "long.trace").write_text(LONG)
    (tmp_path / "short.trace").write_text(SHORT)
    (tmp_path / "notes.txt").write_text("not a trace")
    return tmp_path


def test_one_trace(heaplaw, traces):
    """A counterexample comes out smaller, breaks the same law, and is written where asked; exit code 1."""
    code, out, _ = heaplaw("minimize", traces / "long.trace", "-o", traces / "small.out")
    assert code == 1
    small = Trace.parse((traces / "small.out").read_text())
    assert small.header["law"] == "hint-sound"
    assert len(small.operations) == 4
    assert "still fails: 10 -> 4 operations" in out


def test_minimised_again(heaplaw, traces):
    """Minimising what was minimised changes nothing."""
    heaplaw("minimize", traces / "long.trace", "-o", traces / "one.trace")
    heaplaw("minimize", traces / "one.trace", "-o", traces / "two.trace")
    assert (traces / "one.trace").read_text() == (traces / "two.trace").read_text()


def test_new_strategy(heaplaw, traces):
    """On a target that keeps the laws the old counterexamples no longer fail: exit code 0."""
    code, out, _ = heaplaw("minimize", traces, "--target", "tlsf", "--json", traces / "report.json")
    assert code == 0
    assert "2 no longer fails" in out
    assert [line["now"] for line in json.loads((traces / "report.json").read_text())] == ["no longer fails"] * 2


def test_directory(heaplaw, traces):
    """Each trace of a directory is told apart: what fails still, what fails otherwise, what no longer."""
    (traces / "other.trace").write_text(SHORT.replace("law big-enough", "law disjoint"))
    (traces / "gone.trace").write_text(SHORT.replace("@conte-3.1", ""))
    code, out, _ = heaplaw("minimize", traces, "-o", traces / "new")
    assert code == 1
    assert "2 still fails" in out
    assert "1 no longer fails" in out
    assert "1 fails another law" in out
    assert sorted(path.name for path in (traces / "new").iterdir()) == ["long.trace", "other.trace", "short.trace"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("heaplaw trace 1\n1  a = alloc 8\n", "names no target"),
        ("heaplaw trace 1\ntarget tlsf\nlaw gravity\n1  a = alloc 8\n", "unknown law 'gravity'"),
        ("heaplaw trace 1\ntarget nope\n1  a = alloc 8\n", "unknown target 'nope'"),
        ("heaplaw trace 1\ntarget tlsf\n1  frobnicate\n", "unknown operation"),
    ],
)
def test_bad_input(heaplaw, tmp_path, text, says):
    """Bad input gets one line and exit code 2."""
    (tmp_path / "bad.trace").write_text(text)
    code, _, err = heaplaw("minimize", tmp_path / "bad.trace")
    assert (code, err.count("\n")) == (2, 1)
    assert says in err


def test_no_traces(heaplaw, tmp_path):
    """A directory without traces says what they are called; a missing one is named."""
    assert "no trace files" in heaplaw("minimize", tmp_path)[2]
    assert heaplaw("minimize", Path("/no/such"))[0] == 2
