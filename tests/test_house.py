"""The house: layers, the README, committed counterexamples."""

import ast
import re
from pathlib import Path

import pytest
import render_readme

from heaplaw.impls.registry import BUILT_IN, factory, variants
from heaplaw.properties.replay import replay
from heaplaw.trace import Trace

ROOT = Path(__file__).parent.parent
LAYERS = ["spec", "impls", "properties", "fuzz"]
TRACES = sorted((ROOT / "tests/data/traces").glob("*.trace"))
SPEC_IMPORTS = {"sortedcontainers", "heaplaw"}
HOUSE = {"pyproject.toml", "spec", "impls", "properties", "fuzz", "tests", "README.md", "LICENSE", "build", "dist"}


def imports(path):
    """(level, module) of every import in a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((0, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module or ""


@pytest.mark.parametrize("path", [p for layer in LAYERS for p in (ROOT / layer).rglob("*.py")], ids=lambda p: p.stem)
def test_imports_run_downwards(path):
    """No module imports a layer above its own; spec imports the standard library and sortedcontainers only."""
    import sys

    layer = path.relative_to(ROOT).parts[0]
    if path.name == "__main__.py":
        return  # `python -m heaplaw` starts the command line, which is on the top floor
    above = LAYERS[LAYERS.index(layer) + 1 :]
    for level, module in imports(path):
        if level:
            continue
        top, _, rest = module.partition(".")
        if top == "heaplaw":
            assert rest.split(".")[0] not in above, f"{path} imports {module}"
        elif layer in ("spec", "impls"):
            assert top in sys.stdlib_module_names | SPEC_IMPORTS, f"{path} imports {module}"


def test_the_laws_fit_on_some_pages():
    """The laws stand in one module of at most 350 lines."""
    assert len((ROOT / "spec/laws.py").read_text().splitlines()) <= 350


def test_top_level_entries():
    """Nothing stands beside the house's five rooms, the README, the project file and a licence."""
    seen = {path.name for path in ROOT.iterdir() if not path.name.startswith(".") and path.suffix != ".egg-info"}
    assert seen <= HOUSE


def test_readme_tables():
    """The tables of the README and of the gallery are those of the code and of what was measured."""
    for file in render_readme.PAGES:
        text = file.read_text()
        assert render_readme.rendered(text) == text
    text = render_readme.README.read_text()
    assert len(re.findall(r"^\| `[a-z-]+` \|", text, flags=re.M)) > 40


@pytest.mark.parametrize("path", TRACES, ids=lambda path: path.stem)
def test_committed_counterexamples(path):
    """A committed counterexample breaks the law it names on the revision it names, and not on the repaired target."""
    trace = Trace.parse(path.read_text())
    law = trace.header["law"]
    assert len(trace.operations) <= 12
    assert law in {finding.violation.law for finding in replay(trace, trace.target).tally.findings}
    repaired = re.sub(r"@[^,]*", "", trace.target)
    assert replay(trace, repaired).tally.findings == []


def test_there_are_counterexamples_of_each_revision():
    """Every published revision has a committed counterexample."""
    known = {path.stem.rsplit("-", path.stem.count("-"))[0] for path in TRACES}
    for name, entry in BUILT_IN.items():
        for revision in entry.revisions:
            assert any(path.name.startswith(f"{name}@{revision}-") for path in TRACES), known


@pytest.mark.parametrize("name", BUILT_IN)
def test_variants_can_be_built(name):
    """Every configuration that a check goes through can be built, quickly."""
    for variant in variants(name):
        contract = factory(variant)().contract
        assert contract.largest > 0
