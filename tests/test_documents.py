"""What the pages show is what happens: files are written, commands run, and their output compared."""

import doctest
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from documents import Block, blocks, commands, matches

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    page.relative_to(ROOT)
    for folder in (".", "spec", "impls", "properties", "fuzz")
    for page in (ROOT / folder).glob("*.md")
)
_SECONDS = 120


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_a_page(page: Path, tmp_path: Path) -> None:
    """Files, prompts and commands of a page do what it says, in the order in which they stand there."""
    for name in ("tests", "impls"):
        (tmp_path / name).symlink_to(ROOT / name)
    wrong = [said for block in blocks(ROOT / page) if not block.left_out and (said := _tried(block, tmp_path))]
    assert not wrong, "\n\n".join(wrong)


def _tried(block: Block, folder: Path) -> str:
    """What is wrong with a block, or nothing."""
    if block.file and block.language not in ("console", "sh"):
        (folder / block.file).parent.mkdir(parents=True, exist_ok=True)
        (folder / block.file).write_text(block.text)
    elif block.language == "python" and ">>>" in block.text:
        return _typed(block, folder)
    elif block.language == "console":
        return "\n".join(filter(None, (_run(command.words, command.shown, folder) for command in commands(block))))
    return ""


def _typed(block: Block, folder: Path) -> str:
    test = doctest.DocTestParser().get_doctest(block.text, {}, f"line {block.line}", None, block.line)
    said: list[str] = []
    sys.path.insert(0, str(folder))
    try:
        doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=said.append)
    finally:
        sys.path.remove(str(folder))
    return "".join(said)


def _run(words: str, shown: str, folder: Path) -> str:
    program, _, rest = words.partition(" ")
    if program != "heaplaw":
        return f"$ {words}: only heaplaw is run here; say why not by a comment <!-- not run: ... -->"
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "NO_COLOR": "1"}
    environment.pop("GITHUB_STEP_SUMMARY", None)
    command = [sys.executable, "-m", "heaplaw", *shlex.split(rest)]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=_SECONDS, check=False
    )
    if matches(shown, done.stdout + done.stderr):
        return ""
    return f"$ {words}\n-- shown\n{shown}\n-- printed (exit {done.returncode})\n{done.stdout}{done.stderr}"


def test_every_page_says_something() -> None:
    """There are pages for the four floors that are there, and blocks that are run."""
    assert {"README.md", "spec/README.md", "impls/README.md", "properties/README.md"} <= {str(page) for page in PAGES}
    tried = [block for page in PAGES for block in blocks(ROOT / page) if block.language == "console"]
    assert sum(not block.left_out for block in tried) >= 5


@pytest.mark.parametrize("page", [*PAGES, Path("impls/bugs/README.md"), Path("properties/proofs/README.md"),
                                  Path("fuzz/published/README.md")], ids=str)  # fmt: skip
def test_links(page: Path) -> None:
    """What a page points at is there, and so is the heading."""
    text = (ROOT / page).read_text()
    for place, heading in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)", text):
        target = (ROOT / page).parent / place if place else ROOT / page
        assert target.exists(), f"{page} points at {place}"
        if heading:
            titles = re.findall(r"^#+ (.*)$", target.read_text(), flags=re.M)
            anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
            assert heading in anchors, f"{page} points at {place}#{heading}"
