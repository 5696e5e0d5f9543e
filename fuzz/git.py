"""What git says of a folder, or why it says nothing.

>>> from tempfile import TemporaryDirectory
>>> with TemporaryDirectory() as folder:  # doctest: +ELLIPSIS
...     git(Path(folder), "rev-parse", "--show-toplevel")
Traceback (most recent call last):
heaplaw.fuzz.git.GitError: fatal: not a git repository...
"""

import subprocess
from pathlib import Path

_PATIENCE = 60.0  # seconds for an answer


class GitError(Exception):
    """Git gives no answer; the message says why, in one line."""


class NoGit(GitError):  # noqa: N818 - it says what is the matter
    """Git itself is missing, or does not come back."""


def output(folder: Path, *words: str) -> bytes:
    """What git writes when it is called in a folder.  Raises GitError."""
    try:
        done = subprocess.run(["git", *words], cwd=folder, capture_output=True, timeout=_PATIENCE, check=False)
    except FileNotFoundError:
        raise NoGit("git is not installed") from None
    except subprocess.TimeoutExpired:
        raise NoGit(f"git {words[0]} took more than {_PATIENCE:.0f} s") from None
    except OSError as problem:
        raise NoGit(f"git cannot be run: {problem}") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise GitError(said[0] if said else f"git {words[0]} ended with {done.returncode}")
    return done.stdout


def git(folder: Path, *words: str) -> str:
    """The same as text; names of files keep bytes that are none.  Raises GitError."""
    return output(folder, *words).decode(errors="surrogateescape")
