"""``--source mine.c``: source files become the libraries that are checked, or the one that is fuzzed.

To be checked two are built: one whose edges are counted, which is what a call costs, and one with AddressSanitizer
and UBSan, in which an access outside a block ends the process.  They stay where they were built, so that a trace that
names one can be replayed.

>>> built((), "", Path("heaplaw_build"))
()
"""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

import click

from heaplaw.impls.native.compiling import compile_library

from .options import Problem, make_folder

source_option = click.option(
    "--source", "sources", multiple=True, type=click.Path(path_type=Path), metavar="FILE",
    help="C or C++ to build and use, with the functions of heaplaw.h; may be repeated.",
)  # fmt: skip
cflags_option = click.option("--cflags", default="", metavar="FLAGS", help="For every compilation of --source.")
build_option = click.option(
    "--build", "folder", type=click.Path(path_type=Path, file_okay=False), default=Path("heaplaw_build"),
    show_default=True, metavar="DIR", help="Where --source is built.",
)  # fmt: skip


def built(sources: Sequence[Path], cflags: str, folder: Path) -> tuple[str, ...]:
    """Names of the libraries, as targets.  Raises TargetError for what cannot be compiled, Problem for bad flags."""
    if not sources:
        return ()
    flags = _flags(cflags)
    make_folder(folder)
    libraries = [
        compile_library(sources, folder, flags, counted=counted, sanitized=not counted) for counted in (True, False)
    ]
    return tuple(map(_named, libraries))


def built_for_fuzzing(sources: Sequence[Path], cflags: str, folder: Path, *, address: bool) -> str:
    """The name of the library, as a target, that libFuzzer can watch; ``address``: with AddressSanitizer and UBSan.

    Raises TargetError for what cannot be compiled, and without clang; Problem for bad flags.
    """
    flags = _flags(cflags)
    make_folder(folder)
    return _named(compile_library(sources, folder, flags, fuzzed=True, sanitized=address))


def _flags(cflags: str) -> list[str]:
    try:
        return shlex.split(cflags)
    except ValueError as problem:
        raise Problem(f"--cflags {cflags!r}: {problem}") from None


def _named(library: Path) -> str:
    return f"./{os.path.relpath(library)}"
