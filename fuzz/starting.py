"""``heaplaw init``: a project to start from, which is green at once.

What is written are the files in ``starters``, and the recipes for GitHub Actions and pre-commit in ``recipes``, as
they stand there.

>>> [str(path) for path in files("python")][:2]
['allocator.py', 'heaplaw.toml']
"""

import os
import shlex
from pathlib import Path

import click

from heaplaw.lawbook import LAWS

from .extras import NATIVE, missing
from .options import Problem, console, make_folder, say

_HERE = Path(__file__).parent
_RECIPES = {
    Path(".github/workflows/heaplaw.yml"): "pull-request.yml",
    Path(".pre-commit-config.yaml"): "pre-commit-config.yaml",
}
_IGNORE = Path(".gitignore")
_IGNORED = "heaplaw_build/\nreports/\nhunt/\ncorpus/\n__pycache__/\n"
_PLAIN, _NATIVE = "pip install heaplaw\n", "pip install 'heaplaw[native]'\n"
_ABOUT = {
    "allocator.py": "a heap to start from: put yours in its place",
    "allocator.c": "a heap to start from: put yours in its place",
    "allocator.h": "",
    "adapter.c": "shows it to heaplaw",
    "heaplaw.toml": "what the gate checks",
    ".github/workflows/heaplaw.yml": "the gate on every pull request",
    ".pre-commit-config.yaml": "the gate before every commit",
    ".gitignore": "what is made anew",
}


def files(language: str) -> dict[Path, str]:
    """What a project begins with: texts by path."""
    starter = sorted(path for path in (_HERE / "starters" / language).iterdir() if path.is_file())
    texts = {Path(path.name): path.read_text(encoding="utf-8") for path in starter}
    texts[Path("heaplaw.toml")] = texts[Path("heaplaw.toml")].replace("@LAWS@", str(len(LAWS)))
    for path, recipe in _RECIPES.items():
        text = (_HERE / "recipes" / recipe).read_text(encoding="utf-8")
        texts[path] = text.replace(_PLAIN, _NATIVE) if language == "c" else text
    texts[_IGNORE] = _IGNORED
    return texts


@click.command("init")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=Path())
@click.option("--language", type=click.Choice(["python", "c"]), default="python", show_default=True)
def init(folder: Path, language: str) -> None:
    """Write an allocator to start from, its configuration, a workflow and a pre-commit hook into FOLDER.

    Nothing is overwritten: where one of the files is there already, none is written.

    \b
    Example: heaplaw init --language c demo && cd demo && heaplaw gate --quick
    """
    texts = files(language)
    kept = (folder / _IGNORE).exists()
    if kept:  # most projects have one, and it is no reason to stop
        del texts[_IGNORE]
    if there := [path for path in texts if os.path.lexists(folder / path)]:
        raise Problem(f"{folder / there[0]} is there already; nothing was written. Name another folder, or move it")
    for path, text in texts.items():
        make_folder((folder / path).parent)
        (folder / path).write_text(text, encoding="utf-8")
    out = console()
    for path in texts:
        line = f"  {folder / path!s:36}  {_ABOUT[path.as_posix()]}".rstrip()
        say(out, line)
    if kept:
        say(out, f"  {folder / _IGNORE} is left as it is; add to it: {' '.join(_IGNORED.split())}")
    say(out, "\nnext: " + " && ".join(_next(folder, language)))


def _next(folder: Path, language: str) -> list[str]:
    """Commands to go on with."""
    install = ["pip install 'heaplaw[native]'"] if language == "c" and missing("cffi", NATIVE) else []
    enter = [] if folder.resolve() == Path.cwd() else [f"cd {shlex.quote(str(folder))}"]
    return [*install, *enter, "heaplaw gate --quick"]
