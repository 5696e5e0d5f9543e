"""The seed of a gate: the commit that it judges, so that a run can be made again, and the next one looks elsewhere.

>>> of_commit("fffffffe1234")
4294967294
"""

from pathlib import Path
from typing import NamedTuple

from ..git import GitError, git
from ..options import Problem

_DIGITS = 8  # of the commit's name: 32 bits


class Seed(NamedTuple):
    """A seed, and where it comes from, in words."""

    number: int
    source: str


def of_commit(name: str) -> int:
    """The seed that belongs to a commit."""
    return int(name[:_DIGITS], 16)


def seed(folder: Path, given: int | None = None) -> Seed:
    """The seed that was given, or that of the commit in a folder; 1 where there is none."""
    if given is not None:
        return Seed(given, "given")
    try:
        commit = git(folder, "rev-parse", "--verify", "HEAD").strip()
    except GitError:
        return Seed(1, "there is no commit to take it from")
    return Seed(of_commit(commit), f"commit {commit[:_DIGITS]}")


def changes(folder: Path, revision: str) -> list[Path]:
    """Files that differ from a revision, as absolute paths, new and deleted ones too.  Raises Problem."""
    try:
        top = Path(git(folder, "rev-parse", "--show-toplevel").rstrip("\n"))
        if revision == "HEAD" and not _has_commits(top):  # before the first commit, all of it is new
            return [top / name for name in _names(git(top, "ls-files", "-co", "--exclude-standard", "-z"))]
        commit = git(folder, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}").strip()
        changed = git(top, "diff", "--name-only", "--no-renames", "-z", commit, "--")
        new = git(top, "ls-files", "--others", "--exclude-standard", "-z")
    except GitError as problem:
        raise Problem(f"--changed-since {revision}: {_known(str(problem), revision)}") from None
    return [top / name for name in _names(changed) + _names(new)]


def _has_commits(folder: Path) -> bool:
    try:
        return bool(git(folder, "rev-parse", "--verify", "--quiet", "HEAD"))
    except GitError:
        return False


def _known(said: str, revision: str) -> str:
    """Git's complaint; where it says nothing of the revision, that there is none."""
    if said.startswith("git rev-parse ended"):
        return f"git knows no revision {revision!r} here; fetch it, or name another"
    return said


def _names(text: str) -> list[str]:
    return [name for name in text.split("\0") if name]
