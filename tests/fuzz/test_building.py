"""``heaplaw check --source``."""

import shutil
from pathlib import Path

import pytest

pytest.importorskip("cffi", reason="cffi is not installed: pip install 'heaplaw[native]'")

from heaplaw.impls.native import HEADER

NAMES = ("first_fit.c", "first_fit_adapter.c", "first_fit_shown.c")
EXAMPLES = HEADER.parent / "examples"
needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")


@needs_compiler
def test_built_twice_and_checked(heaplaw, tmp_path, monkeypatch):
    """A source file is built with its edges counted and with sanitizers, and both libraries are checked."""
    monkeypatch.chdir(tmp_path)
    sources = [word for name in NAMES for word in ("--source", EXAMPLES / name)]
    code, out, err = heaplaw("check", *sources, "--cflags", "-DSHOWN=0x101", "--ops", 600, "--jobs", 1)
    assert code == 0, out + err
    assert "./heaplaw_build/first_fit-edges.so" in out
    assert "./heaplaw_build/first_fit-asan.so" in out
    assert Path("heaplaw_build/first_fit-asan.so").exists()


@needs_compiler
@pytest.mark.parametrize(
    ("text", "flags", "words"),
    [
        ("int x = ;", "", "cannot compile mine.c: mine.c:1:9: error"),
        ("int x;", '"', "No closing quotation"),
        ("int x;", "-DA", "heaplaw_abi"),  # the functions of the header are not there
    ],
)
def test_what_cannot_be_built(heaplaw, tmp_path, monkeypatch, text, flags, words):
    """Sources and flags that are wrong: one line, exit 2."""
    monkeypatch.chdir(tmp_path)
    Path("mine.c").write_text(text)
    code, _, err = heaplaw("check", "--source", "mine.c", "--cflags", flags)
    assert code == 2
    assert words in err
    assert len(err.strip().splitlines()) == 1


def test_no_file_and_no_compiler(heaplaw, tmp_path, monkeypatch):
    """A file that is not there, and a compiler that is not there: one line, exit 2."""
    monkeypatch.chdir(tmp_path)
    code, _, err = heaplaw("check", "--source", "mine.c")
    assert (code, err) == (2, "heaplaw: no such file: mine.c\n")
    Path("mine.c").write_text("int x;")
    monkeypatch.setenv("CC", "no-such-compiler")
    code, _, err = heaplaw("check", "--source", "mine.c")
    assert code == 2
    assert "no C compiler: CC is 'no-such-compiler'" in err
