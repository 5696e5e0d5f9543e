"""`heaplaw init`: what it writes is green at once, goes red on a bug, and green again with a case more."""

import json
import shutil
from pathlib import Path

import pytest

from heaplaw.fuzz import starting
from heaplaw.fuzz.gate import canaries
from heaplaw.fuzz.starting import files
from heaplaw.lawbook import LAWS
from heaplaw.properties.hunting import FOUND, Hunt

BUGS = {
    "python": ("allocator.py", "length += self.holes.pop(start + length, 0)", "self.holes.get(start + length)"),
    "c": ("allocator.c", "length + HEADER + STEP", "length + 8 * HEADER"),
}


@pytest.fixture
def gate(heaplaw, tmp_path, monkeypatch):
    """A quick gate in this process with small budgets, canaries unasked: (exit code, its JSON, what it printed)."""
    monkeypatch.setattr(canaries, "hunts", lambda wanted, **how: [Hunt(*one[:3], FOUND) for one in wanted])

    def run(*words):
        path = tmp_path / "report.json"
        code, out, err = heaplaw("gate", "--quick", "--ops", 800, "--jobs", 1, "--json", path, *words)
        assert not err, err
        return code, json.loads(path.read_text()), out

    return run


def test_the_walk_in_python(heaplaw, gate, tmp_path, monkeypatch):
    """Green at once; a bug turns it red with a short trace in every report; fixed, its trace is a case that passes."""
    monkeypatch.chdir(tmp_path)
    code, out, _ = heaplaw("init", "--language", "python", "demo")
    assert (code, out.splitlines()[-1]) == (0, "next: cd demo && heaplaw gate --quick")
    monkeypatch.chdir(tmp_path / "demo")
    code, _, out = gate()
    assert code == 0, out
    _walk(gate, "python")


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_the_walk_in_c(heaplaw, gate, tmp_path, monkeypatch):
    """The same for C, which the gate builds: a bug, and no bug."""
    pytest.importorskip("cffi", reason="cffi is not installed: pip install 'heaplaw[native]'")
    monkeypatch.chdir(tmp_path)
    assert heaplaw("init", "--language", "c", "demo")[0] == 0
    monkeypatch.chdir(tmp_path / "demo")
    _walk(gate, "c")


def _walk(gate, language):
    file, right, wrong = BUGS[language]
    good = Path(file).read_text()
    assert good.count(right) == 1
    Path(file).write_text(good.replace(right, wrong))
    code, report, out = gate("--junit", "a.xml", "--sarif", "a.sarif", "--summary", "a.md")
    assert code == 1, out
    traces = sorted(Path("counterexamples").glob("*.trace"))
    broken = [finding for target in report["targets"] for finding in target["findings"]]
    shortest = min(broken, key=lambda finding: len(finding["trace"]))
    assert traces
    assert len(shortest["trace"].splitlines()) <= 3 + 5
    for reported in ("a.xml", "a.sarif", "a.md"):
        assert shortest["law"] in Path(reported).read_text()
    Path(file).write_text(good)
    code, report, out = gate()
    assert code == 0, out
    passed = [step["subject"] for step in report["steps"] if step["name"] == "counterexamples"]
    assert passed == [str(trace) for trace in traces]


@pytest.mark.parametrize("language", ["python", "c"])
def test_nothing_is_overwritten(heaplaw, tmp_path, monkeypatch, language):
    """Where one of the files is there, none is written: one line, exit 2."""
    monkeypatch.chdir(tmp_path)
    Path(".pre-commit-config.yaml").write_text("mine")
    code, _, err = heaplaw("init", "--language", language)
    assert (code, err.count("\n")) == (2, 1)
    assert ".pre-commit-config.yaml is there already; nothing was written" in err
    assert [path.name for path in tmp_path.iterdir()] == [".pre-commit-config.yaml"]


def test_a_project_that_git_knows(heaplaw, tmp_path, monkeypatch):
    """A .gitignore that is there is left as it is, and what to add to it is said."""
    monkeypatch.chdir(tmp_path)
    Path(".gitignore").write_text("mine\n")
    code, out, _ = heaplaw("init")
    assert (code, Path(".gitignore").read_text()) == (0, "mine\n")
    assert ".gitignore is left as it is; add to it: heaplaw_build/" in out
    assert out.splitlines()[-1] == "next: heaplaw gate --quick"


@pytest.mark.parametrize(("language", "package"), [("python", "heaplaw"), ("c", "'heaplaw[native]'")])
def test_one_copy_of_the_recipes(language, package):
    """The workflow and the hook are the recipes, but for what a language needs installed; the laws are counted."""
    texts = files(language)
    recipe = (Path(starting.__file__).parent / "recipes/pull-request.yml").read_text()
    assert recipe.count("pip install heaplaw\n") == 1
    assert texts[Path(".github/workflows/heaplaw.yml")] == recipe.replace("install heaplaw\n", f"install {package}\n")
    assert "heaplaw gate" in texts[Path(".pre-commit-config.yaml")]
    assert f"\nlaws = {len(LAWS)} #" in texts[Path("heaplaw.toml")]
