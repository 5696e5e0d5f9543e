"""From a source file to a shared library that can be checked.

A library is built plain; with AddressSanitizer and UBSan; with its edges counted, which is what a call costs; or so
that libFuzzer sees which code runs.  Compilers are what ``CC`` and ``CXX`` say, or else the usual ones; libFuzzer
needs clang.  What goes wrong is one line: the compiler that is missing, or its first error.

>>> language(Path("heap.c")), language(Path("heap.cpp"))
('C', 'C++')
>>> compile_library([Path("no/such.c")], Path("/tmp"))
Traceback (most recent call last):
heaplaw.impls.naming.TargetError: no such file: no/such.c
"""

import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

from ..caching import cache_folder
from ..naming import TargetError
from . import HEADER

_C, _CXX = (".c",), (".cc", ".cpp", ".cxx", ".C")
_COMPILERS = {"C": ("CC", "cc", "gcc", "clang"), "C++": ("CXX", "c++", "g++", "clang++")}
_CLANGS = {"C": "clang", "C++": "clang++"}
_CLANG_VERSIONS = range(24, 10, -1)  # that a Debian may have beside, or instead of, one without a number
_ALWAYS = ("-fPIC", "-g", "-fno-omit-frame-pointer")
_SANITIZED = ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")
_COUNTED = "-fsanitize-coverage=trace-pc"
_FUZZED = "-fsanitize=fuzzer-no-link"
_ERROR = re.compile(r"\b(fatal )?error\b|undefined reference|cannot find")
_PATIENCE = 300.0  # seconds that a compiler may take
EDGES, UNFUZZED = HEADER.with_name("edges.c"), HEADER.with_name("unfuzzed.c")


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


def clang(tongue: str) -> list[str]:
    """The command of a clang, which alone builds what libFuzzer watches.  Raises TargetError where there is none."""
    wanted = shlex.split(os.environ.get(_COMPILERS[tongue][0], ""))
    if wanted and "clang" in Path(wanted[0]).name:
        return compiler(tongue)
    name = _CLANGS[tongue]
    for command in (name, *(f"{name}-{version}" for version in _CLANG_VERSIONS)):
        if shutil.which(command) is not None:
            return [command]
    raise TargetError(f"fuzzing {tongue} needs clang, and there is no {name}: install it (Debian: clang)")


def compile_library(
    sources: Sequence[Path],
    folder: Path,
    flags: Sequence[str] = (),
    *,
    sanitized: bool = False,
    counted: bool = False,
    fuzzed: bool = False,
) -> Path:
    """A shared library of these sources in ``folder``, an absolute path.  Raises TargetError.

    ``flags`` are given to every compilation and to the linker.  ``sanitized``: with AddressSanitizer and UBSan, for
    a process that was started with their runtime.  ``counted``: with ``heaplaw_edges``, the number of edges taken.
    ``fuzzed``: by clang, for libFuzzer, where a process has it; in any other it is a library like others.
    ``sanitized`` goes with either.
    """
    for source in sources:
        if not source.is_file():
            raise TargetError(f"no such file: {source}")
    tongues, find = [language(source) for source in sources], clang if fuzzed else compiler
    kind = ("-asan" if sanitized else "") + ("-edges" if counted else "") + ("-fuzz" if fuzzed else "")
    library = folder.absolute() / f"{sources[0].stem}{kind}.so"
    common = ["-O1" if sanitized or fuzzed else "-O2", *_ALWAYS, f"-I{HEADER.parent}"]
    common += [*(_SANITIZED if sanitized else ()), *((_FUZZED,) if fuzzed else ())]
    objects = []
    for number, (source, tongue) in enumerate(zip(sources, tongues, strict=True)):
        objects.append(str(library.with_suffix(f".{number}.o")))
        counting = [_COUNTED] if counted else []
        _run([*find(tongue), "-c", *common, *counting, *flags, "-o", objects[-1], str(source)], str(source))
    for beside in [EDGES] * counted + [UNFUZZED] * fuzzed:
        objects.append(str(library.with_suffix(f".{beside.stem}.o")))
        machine = [flag for flag in flags if flag.startswith("-m")]  # instrumented, it would call itself
        _run([*find("C"), "-c", "-O2", "-fPIC", *machine, "-o", objects[-1], str(beside)], beside.name)
    linker = find("C++" if "C++" in tongues else "C")
    _run([*linker, "-shared", *common, *objects, *flags, "-o", str(library)], ", ".join(map(str, sources)))
    return library


def compile_once(label: str, source: Path, flags: Sequence[str] = (), *, program: bool = False) -> Path:
    """A library, or a program, of one C file of ours, kept in the cache.  Raises TargetError."""

    def compiled(work: Path) -> Path:
        fresh, kind = work / "fresh", ["-fPIE", "-pie"] if program else ["-fPIC", "-shared"]
        command = [*compiler("C"), "-O2", "-g", *kind, f"-I{HEADER.parent}", str(source), *flags, "-o", str(fresh)]
        _run(command, source.name)
        return fresh

    return kept(label, source, flags, compiled)


def kept(label: str, source: Path, flags: Sequence[str], make: Callable[[Path], Path], suffix: str = "") -> Path:
    """What ``make`` makes of a C file of ours, in a folder that it is given; kept in the cache.  Raises TargetError.

    Its name there tells all that it depends on: compiler, flags, the file and the header.
    """
    made_of = [*compiler("C"), *flags, source.read_text(), HEADER.read_text()]
    made = cache_folder("native") / f"{label}-{sha256(chr(0).join(made_of).encode()).hexdigest()[:16]}{suffix}"
    if made.is_file():
        return made
    try:
        made.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=made.parent) as work:  # others may do the same now
            os.replace(make(Path(work)), made)
    except OSError as problem:
        raise TargetError(f"cannot write {made}: {problem.strerror}") from problem
    return made


def _run(command: Sequence[str], what: str) -> None:
    """Compile; TargetError with the compiler's first error."""
    apart = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}  # that is for our targets
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_PATIENCE, check=False, env=apart
        )
    except OSError as problem:
        raise TargetError(f"cannot run {command[0]}: {problem.strerror}") from problem
    except subprocess.TimeoutExpired as problem:
        raise TargetError(f"{command[0]} did not compile {what} in {_PATIENCE:.0f} s") from problem
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        first = next((line for line in lines if _ERROR.search(line)), lines[0] if lines else "it does not say why")
        raise TargetError(f"cannot compile {what}: {first}")
