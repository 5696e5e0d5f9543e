"""Reads a Markdown page as somebody would who types off what it shows.

A block whose last line before names a file (`mine.py`:) is written to it.  A ``python`` block with prompts is a
doctest.  In a ``console`` block each ``$ heaplaw ...`` is run where those files are, and what is shown below it must be
printed: ``...`` stands for anything, on a line of its own for any lines.  A comment ``<!-- not run: WHY -->`` right
before a block leaves it out.

>>> matches("a\\n...\\nd\\n", "a\\nb\\nc\\nd\\n"), matches("d ... s\\n", "d 7 s\\n"), matches("a\\n", "b\\n")
(True, True, False)
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
_FILE = re.compile(r"`([\w./-]+\.\w+)`:\s*$")
_LEFT_OUT = re.compile(r"<!-- not run: (.+?) -->\s*$")


class Block(NamedTuple):
    """One fenced block."""

    language: str
    text: str
    line: int
    file: str  # that the words before it name, or nothing
    left_out: str  # why it is not run, or nothing


class Command(NamedTuple):
    """One command of a console block, and what it is said to print."""

    words: str
    shown: str


def blocks(page: Path) -> Iterator[Block]:
    """All fenced blocks of a page, in order."""
    text = page.read_text()
    for found in _FENCE.finditer(text):
        before = text[: found.start()]
        file, left_out = _FILE.search(before), _LEFT_OUT.search(before)
        line = before.count("\n") + 1
        yield Block(found[1], found[2], line, file[1] if file else "", left_out[1] if left_out else "")


def commands(block: Block) -> list[Command]:
    """What is typed and what is printed; a comment behind two blanks and a # is not typed."""
    made: list[Command] = []
    for line in block.text.splitlines(keepends=True):
        if line.startswith("$ "):
            made.append(Command(re.sub(r"\s{2,}#.*", "", line[2:]).strip(), ""))
        else:
            made[-1] = made[-1]._replace(shown=made[-1].shown + line)
    return made


def matches(shown: str, printed: str) -> bool:
    """Is that printed, but for blanks at the ends of lines?"""
    parts = [".*?".join(re.escape(piece) for piece in line.rstrip().split("...")) for line in shown.splitlines()]
    pattern = "".join(r"(?:.*\n)*?" if line == ".*?" else line + r" *\n" for line in parts)
    return re.match(pattern + r"\s*\Z", "".join(f"{line.rstrip()}\n" for line in printed.splitlines())) is not None
