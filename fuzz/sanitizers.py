"""Sanitizers: what a library built with one needs of its process, and what it says when it ends it.

>>> telling("==7==ERROR: AddressSanitizer: SEGV on unknown address 0x00ff (pc 0x1)\\n    #0 0x12 in main a.c:3\\n"
...         "SUMMARY: AddressSanitizer: SEGV /home/me/a.c:3 in main\\n")[0]
'AddressSanitizer: SEGV a.c:3 in main'
>>> telling("a.out: heap.c:12: take: Assertion `left > 0' failed.\\n")
["heap.c:12: take: Assertion `left > 0' failed."]
"""

import platform
import re
import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from heaplaw.impls.native import library as native
from heaplaw.impls.native.compiling import UNFUZZED, compile_once

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


def is_instrumented(library: Path) -> bool:
    """Was this shared library built so that libFuzzer sees what runs?  What cannot be read was not."""
    try:
        return native.is_instrumented(library) and not native.is_foreign(library)
    except OSError:
        return False


def environment(libraries: Iterable[Path]) -> dict[str, str]:
    """What the environment of a process must say that loads these.

    AddressSanitizer's runtime must be loaded before all else.  Where it is not found, the complaint will be its own.
    Raises TargetError where libFuzzer's functions are missed, and nobody can compile others.
    """
    wanted = [library for library in libraries if library.is_file() and not native.is_foreign(library)]
    loads = dict.fromkeys(_runtime(_by_clang(one)) for one in wanted if is_sanitized(one))
    loads |= dict.fromkeys(str(counters()) for one in wanted if native.needs_counters(one))
    return {**_OPTIONS, **preloading(*loads)}


def preloading(*libraries: str) -> dict[str, str]:
    """The variable that has a process load these first; "" is none."""
    wanted = ":".join(filter(None, libraries))
    return {"LD_PRELOAD": wanted} if wanted else {}


def counters() -> Path:
    """Libraries built for libFuzzer miss its functions: here are some that do nothing.  Raises TargetError."""
    return compile_once("unfuzzed", UNFUZZED, ["-std=c99"])


def _by_clang(library: Path) -> bool:
    """Who built it?  gcc makes a library say that it needs ``libasan``; clang leaves that to the program."""
    return b"libasan.so" not in library.read_bytes()


@cache
def _runtime(clang: bool) -> str:
    """Where a compiler keeps AddressSanitizer's runtime; the other one's where it cannot tell; empty if none can."""
    for one in (clang, not clang):
        if (where := _told(*_ASK[one])) and Path(where).is_absolute():
            return str(Path(where).resolve())
    return ""


_ASK = {
    False: ("gcc", "-print-file-name=libasan.so"),
    True: ("clang", f"-print-file-name=libclang_rt.asan-{platform.machine()}.so"),
}


def _told(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
