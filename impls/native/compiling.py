"""From a source file to a shared library that can be checked.

A library is built plain; with AddressSanitizer and UBSan; or with its edges counted, which is what a call costs.
Compilers are what ``CC`` and ``CXX`` say, or else the usual ones.  What goes wrong is one line: the compiler that is
missing, or its first error.

>>> language(Path("heap.c")), language(Path("heap.cpp"))
('C', 'C++')
>>> compile_library([Path("no/such.c")], Path("/tmp"))
Traceback (most recent call last):
heaplaw.impls.registry.TargetError: no such file: no/such.c
"""

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ..registry import TargetError
from . import HEADER

_C, _CXX = (".c",), (".cc", ".cpp", ".cxx", ".C")
_COMPILERS = {"C": ("CC", "cc", "gcc", "clang"), "C++": ("CXX", "c++", "g++", "clang++")}
_ALWAYS = ("-fPIC", "-g", "-fno-omit-frame-pointer")
_SANITIZED = ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")
_COUNTED = "-fsanitize-coverage=trace-pc"
_ERROR = re.compile(r"\b(fatal )?error\b|undefined reference|cannot find")
_PATIENCE = 300.0  # seconds that a compiler may take
EDGES = HEADER.with_name("edges.c")


def language(source: Path) -> str:
    """What a file is written in, by its name.  Raises TargetError."""
    if source.suffix in _C:
        return "C"
    if source.suffix in _CXX:
        return "C++"
    raise TargetError(f"{source}: sources end in {', '.join((*_C, *_CXX))}; for others, build a shared library")


def compiler(tongue: str) -> list[str]:
    """The command that compiles C or C++.  Raises TargetError where there is none."""
    variable, *usual = _COMPILERS[tongue]
    if wanted := shlex.split(os.environ.get(variable, "")):
        if shutil.which(wanted[0]) is None:
            raise TargetError(f"no {tongue} compiler: {variable} is {wanted[0]!r}, and there is no such command")
        return wanted
    for command in usual:
        if shutil.which(command) is not None:
            return [command]
    raise TargetError(f"no {tongue} compiler: tried {', '.join(usual)}; install one or set {variable}")


def compile_library(
    sources: Sequence[Path],
    folder: Path,
    flags: Sequence[str] = (),
    *,
    sanitized: bool = False,
    counted: bool = False,
) -> Path:
    """A shared library of these sources in ``folder``, an absolute path.  Raises TargetError.

    ``flags`` are given to every compilation and to the linker.  ``sanitized``: with AddressSanitizer and UBSan, for
    a process that was started with their runtime.  ``counted``: with ``heaplaw_edges``, the number of edges taken.
    Both are possible at once.
    """
    for source in sources:
        if not source.is_file():
            raise TargetError(f"no such file: {source}")
    tongues = [language(source) for source in sources]
    kind = ("-asan" if sanitized else "") + ("-edges" if counted else "")
    library = folder.absolute() / f"{sources[0].stem}{kind}.so"
    common = ["-O1" if sanitized else "-O2", *_ALWAYS, f"-I{HEADER.parent}", *(_SANITIZED if sanitized else ())]
    objects = []
    for number, (source, tongue) in enumerate(zip(sources, tongues, strict=True)):
        objects.append(str(library.with_suffix(f".{number}.o")))
        counting = [_COUNTED] if counted else []
        _run([*compiler(tongue), "-c", *common, *counting, *flags, "-o", objects[-1], str(source)], str(source))
    if counted:
        objects.append(str(library.with_suffix(".edges.o")))
        machine = [flag for flag in flags if flag.startswith("-m")]  # instrumented, it would call itself
        _run([*compiler("C"), "-c", "-O2", "-fPIC", *machine, "-o", objects[-1], str(EDGES)], EDGES.name)
    linker = compiler("C++" if "C++" in tongues else "C")
    _run([*linker, "-shared", *common, *objects, *flags, "-o", str(library)], ", ".join(map(str, sources)))
    return library


def _run(command: Sequence[str], what: str) -> None:
    """Compile; TargetError with the compiler's first error."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_PATIENCE, check=False)
    except OSError as problem:
        raise TargetError(f"cannot run {command[0]}: {problem.strerror}") from problem
    except subprocess.TimeoutExpired as problem:
        raise TargetError(f"{command[0]} did not compile {what} in {_PATIENCE:.0f} s") from problem
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        first = next((line for line in lines if _ERROR.search(line)), lines[0] if lines else "it does not say why")
        raise TargetError(f"cannot compile {what}: {first}")

