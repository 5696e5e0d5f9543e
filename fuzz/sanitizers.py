"""Sanitizers: what a library built with one needs of its process, and what it says when it ends it.

>>> telling("==7==ERROR: AddressSanitizer: SEGV on unknown address 0x00ff (pc 0x1)\\n    #0 0x12 in main a.c:3\\n"
...         "SUMMARY: AddressSanitizer: SEGV /home/me/a.c:3 in main\\n")[0]
'AddressSanitizer: SEGV a.c:3 in main'
>>> telling("a.out: heap.c:12: take: Assertion `left > 0' failed.\\n")
["heap.c:12: take: Assertion `left > 0' failed."]
"""

import re
import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from heaplaw.impls.native import library as native

_OPTIONS = {
    "ASAN_OPTIONS": "abort_on_error=1:detect_leaks=0:handle_abort=0:allocator_may_return_null=1",
    "UBSAN_OPTIONS": "halt_on_error=1:abort_on_error=1:print_stacktrace=1",
}
_LOUD = re.compile(
    r"Sanitizer: |runtime error: |Assertion [`'].* failed|assertion failed|panicked at|terminate called"
    r"|^(free|malloc|realloc|calloc|munmap_chunk|double free|corrupted|malloc_consolidate)\b.*"
    r"|^(READ|WRITE) of size|stack smashing detected|buffer overflow detected"
)
_FRAME = re.compile(r"^#\d+ .* in \S+ ")
_MOST_LINES, _MOST_FRAMES = 8, 4


def telling(words: str) -> list[str]:
    """The lines that say what is wrong, the one that sums up first; without what differs from process to process."""
    summary: list[str] = []
    lines: list[str] = []
    frames = 0
    for raw in words.splitlines():
        line = raw.strip()
        if line.startswith("SUMMARY: "):
            summary.append(_plain(line.removeprefix("SUMMARY: ")))
        elif _FRAME.match(line):
            frames += 1
            if lines and frames <= _MOST_FRAMES:
                lines.append(_plain(line))
        elif _LOUD.search(line):
            lines.append(_plain(line))
    return [*summary[:1], *lines][:_MOST_LINES]


def _plain(line: str) -> str:
    """Without addresses, process numbers, folders, and the program's name before an assertion."""
    line = re.sub(r"^=+\d+=+\s*(ERROR: )?", "", line)
    line = re.sub(r"^\S+: (?=\S+:\d+: .*Assertion )", "", line)
    line = re.sub(r"(?<![\w.])(?:[\w.+@~-]*/)+(?=[\w.])", "", line)
    return re.sub(r"\b0x[0-9a-f]+", "0x...", line).replace(" at pc 0x... bp 0x... sp 0x...", "")


def is_sanitized(library: Path) -> bool:
    """Was this shared library built with AddressSanitizer?  What cannot be read was not."""
    try:
        return native.is_sanitized(library)
    except OSError:
        return False


def environment(libraries: Iterable[Path]) -> dict[str, str]:
    """What the environment of a process must say that loads these.

    AddressSanitizer's runtime must be loaded before all else.  Where it is not found, the complaint will be its own.
    """
    runtime = _runtime() if any(map(is_sanitized, libraries)) else ""
    return {**_OPTIONS, **({"LD_PRELOAD": runtime} if runtime else {})}


@cache
def _runtime() -> str:
    """Where gcc keeps AddressSanitizer's runtime; empty where it cannot tell."""
    try:
        told = subprocess.run(
            ["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True, timeout=20
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
    return str(Path(told).resolve()) if Path(told).is_absolute() else ""
