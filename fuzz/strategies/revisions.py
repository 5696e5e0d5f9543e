"""A user's module as it was at a git revision: ``path/file.py:Name@REV`` and ``package.module:Name@REV``.

The revision's whole tree is written to a folder of its own with ``git archive``, so that the working tree is left
alone and what the module imports beside itself is of the same revision.

>>> split("src/heap.py:Heap@HEAD~1,arena=4096")
('src/heap.py:Heap,arena=4096', 'HEAD~1')
>>> split("percpu-bitmap@6.12"), split("linux:percpu@6.1")
(('percpu-bitmap@6.12', ''), ('linux:percpu@6.1', ''))
"""

import io
import tarfile
from pathlib import Path
from typing import NamedTuple

from heaplaw.impls.naming import is_native

from ..git import GitError, NoGit, git, output
from ..options import Problem


class Tree(NamedTuple):
    """A revision laid out in a folder."""

    commit: str  # abbreviated
    root: Path
    here: Path  # the folder in it that the working directory is in the repository
    target: str  # its name as seen from ``here``


def split(name: str) -> tuple[str, str]:
    """A target's name without its git revision, and that; "" for none.  Built-in revisions are no git revisions."""
    head, comma, parameters = name.strip().partition(",")
    if is_native(head) or ":" not in head:
        return name, ""
    place, _, attribute = head.rpartition(":")
    attribute, _, revision = attribute.partition("@")
    return f"{place}:{attribute}{comma}{parameters}", revision


def laid_out(target: str, revision: str, folder: Path) -> Tree:
    """Write a revision's tree into an empty folder.  Raises Problem where there is no such thing.  O(tree)."""
    place = target.partition(",")[0].rpartition(":")[0]
    file = Path(place) if place.endswith(".py") else None
    start = _existing(file.parent if file is not None else Path())
    top = Path(_git(start, "rev-parse", "--show-toplevel", why=f"{start.resolve()} is in no git repository").strip())
    unknown = f"{revision!r} is no revision of {top}; 'git log --oneline' lists them"
    asked = ("rev-parse", "--verify", "--short", "--end-of-options", f"{revision}^{{commit}}")
    commit = _git(start, *asked, why=unknown).split()[-1]
    try:
        archive = output(top, "archive", "--format=tar", commit)
    except GitError as problem:
        raise Problem(f"git archive {commit} failed: {problem}") from None
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")
    inside = Path.cwd().resolve().is_relative_to(top.resolve())
    here = Path.cwd().resolve().relative_to(top.resolve()) if inside else Path()
    if file is not None:
        relative = file.resolve().relative_to(top.resolve())
        if not (folder / relative).is_file():
            raise Problem(f"{revision} has no file {relative}")
        target = target.replace(place, str(folder / relative), 1)
    return Tree(commit, folder, folder / here if (folder / here).is_dir() else folder, target)


def _existing(folder: Path) -> Path:
    """The folder, or what is left of it: a file may be gone with its folder."""
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return folder


def _git(folder: Path, *words: str, why: str) -> str:
    try:
        return git(folder, *words)
    except NoGit as problem:
        raise Problem(f"{problem}; it is needed for NAME@REV of a module of yours") from None
    except GitError:
        raise Problem(why) from None
