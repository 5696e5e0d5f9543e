"""The mallocs of this machine as targets: ``malloc:`` and glibc, jemalloc, mimalloc or tcmalloc.

Each is a black box: blocks do not overlap, keep what is written to them through ``realloc``, are as long as
``malloc_usable_size`` says and as aligned as promised; requests are served as long as there is room.  That they
answer the same again is not promised.  ``malloc:mimalloc-heap`` and ``malloc:mimalloc-arena`` are mimalloc's heaps of
their own, the latter inside one arena, and ``malloc:./libmine.so`` is any library with ``malloc``, ``free``,
``realloc``, ``posix_memalign`` and ``malloc_usable_size``.  An adapter is compiled once for each, into the cache.

>>> alignment(1), alignment(12), alignment(16) == alignment(1000) == MAX_ALIGN
(1, 8, True)
>>> build("malloc:none")
Traceback (most recent call last):
heaplaw.impls.naming.TargetError: no malloc 'none'; known are glibc, jemalloc, mimalloc, mimalloc-heap, \
mimalloc-arena, tcmalloc, or a path
"""

import ctypes
import ctypes.util
import os
from collections.abc import Mapping
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

from heaplaw import Block, Contract, Request, Shadow

from ..naming import TargetError
from . import HEADER
from .compiling import compile_library, kept
from .library import Library, load
from .target import Native, quick

ADAPTER = HEADER.with_name("system_malloc.c")
ROOM = 1 << 22  # bytes that are live at most in a heap whose name does not say
_MOST_ROOM = 1 << 40
MAX_ALIGN = max(ctypes.alignment(kind) for kind in (ctypes.c_longdouble, ctypes.c_longlong, ctypes.c_void_p))
NEEDED = ("malloc", "free", "realloc", "posix_memalign", "malloc_usable_size")
_TUNABLES, _STATIC_TLS = "GLIBC_TUNABLES", "glibc.rtld.optional_static_tls"
_ENOUGH = f"{_STATIC_TLS}=16384"  # bytes; Debian's jemalloc has 2,632


class System(NamedTuple):
    """A malloc that this machine may have."""

    files: tuple[str, ...]  # as the loader knows them, the best first
    package: str  # Debian's
    quantum: int  # every block, however small, starts at a multiple of this
    flags: tuple[str, ...] = ()
    needs: tuple[str, ...] = NEEDED


_MIMALLOC = ("libmimalloc.so.2", "libmimalloc.so.3", "libmimalloc.so")
_HEAPS = (*NEEDED, "mi_heap_new", "mi_heap_malloc", "mi_heap_realloc", "mi_heap_malloc_aligned", "mi_heap_destroy")
_ARENAS = (*_HEAPS, "mi_reserve_os_memory_ex", "mi_arena_area", "mi_heap_new_in_arena")
SYSTEMS = {
    # glibc's manual promises 16 on 64-bit systems, 8 on others, whatever the size.  The others have blocks of 8 bytes,
    # which hold no object that is to be aligned to more (C23 7.24.3 says so, and C17 was meant to).
    "glibc": System(("libc.so.6",), "libc6", 2 * ctypes.sizeof(ctypes.c_size_t)),
    "jemalloc": System(("libjemalloc.so.2", "libjemalloc.so"), "libjemalloc2", 8),
    "mimalloc": System(_MIMALLOC, "libmimalloc2.0", 8),
    "mimalloc-heap": System(_MIMALLOC, "libmimalloc2.0", 8, ("-DMALLOC_MI_HEAP",), _HEAPS),
    "mimalloc-arena": System(_MIMALLOC, "libmimalloc2.0", 8, ("-DMALLOC_MI_ARENA",), _ARENAS),
    "tcmalloc": System(
        ("libtcmalloc_minimal.so.4", "libtcmalloc.so.4", "libtcmalloc_minimal.so", "libtcmalloc.so"),
        "libtcmalloc-minimal4", 8,
    ),
}  # fmt: skip
_FOLDERS = ("/usr/local/lib", "/usr/lib64", "/opt/homebrew/lib")


def alignment(size: int) -> int:
    """What an object of at most ``size`` bytes may need: the largest power of two in it, up to ``MAX_ALIGN``.

    The C standard asks no more of malloc.  An object's alignment divides its size.
    """
    return min(MAX_ALIGN, 1 << max(0, size.bit_length() - 1))


def misplaced(block: Block) -> str | None:
    """What is wrong with a block's place: it does not suit every type that fits into what was asked for."""
    need = alignment(block.size)
    if block.extents and (at := block.extents[0][1] % need):
        return f"{at} past a multiple of {need}, which an object of {block.size} bytes may need"
    return None


def serves(room: int, largest: int, most: int, request: Request, shadow: Shadow, source: object) -> bool:
    """Must a request be served?  Yes while no more than the room is asked for; memory does not run out there."""
    fits = 0 < request.size <= largest and shadow.requested + request.size <= room
    return fits and 0 < request.align <= most and request.align & (request.align - 1) == 0


def resizes(room: int, largest: int, block: Block, size: int, shadow: Shadow) -> bool:
    """Must a resize be done?"""
    return 0 < size <= largest and shadow.requested - block.size + size <= room


class Malloc(Native):
    """One set of blocks of a malloc; ``arena`` bytes of them at most, as they were asked for."""

    def __init__(self, library: Library, arena: int) -> None:
        super().__init__(library, arena)
        for method, function in quick(self._alloc, self._aligned, self._free, self.heap).items():
            setattr(self, method, function)

    def _promised(self, arena: int, parameters: Mapping[str, int]) -> Contract:
        plain = super()._promised(arena, parameters)
        known: Contract | None = self.library.contracts.get(("malloc", arena))
        if known is None:
            known = self.library.contracts["malloc", arena] = replace(
                plain,
                geometry=misplaced,
                must_serve=partial(serves, arena, plain.largest, plain.max_align),
                must_resize=partial(resizes, arena, plain.largest),
            )
        return known


def build(name: str, arena: int = ROOM) -> Malloc:
    """A fresh set of blocks of a malloc.  Raises TargetError, or ValueError for an arena that makes no sense."""
    library = load(str(adapter(name)))
    if not isinstance(arena, int) or not 0 < arena <= _MOST_ROOM:
        raise ValueError(f"arena must be a number of bytes up to {_MOST_ROOM:,}, not {arena!r}")
    return Malloc(library, arena)


@cache
def adapter(name: str) -> Path:
    """The shared library that makes a malloc a target; compiled if it is not in the cache.  Raises TargetError."""
    short = name.removeprefix("malloc:")
    known = SYSTEMS.get(short)
    if known is None and "/" not in short:
        raise TargetError(f"no malloc {short!r}; known are {', '.join(SYSTEMS)}, or a path")
    if known is None and not Path(short).is_file():
        raise TargetError(f"no such file: {short}")
    system = known or System((str(Path(short).resolve()),), "", 1)
    file = installed(name, system)
    quoted = file.replace("\\", "\\\\").replace('"', '\\"')
    flags = ["-std=c11", f'-DMALLOC_FILE="{quoted}"', f"-DMALLOC_QUANTUM={system.quantum}", *system.flags]
    label = f"malloc-{short if known else Path(short).stem}"
    return kept(label, ADAPTER, flags, lambda work: compile_library([ADAPTER], work, [*flags, "-ldl"]), ".so")


def environment() -> dict[str, str]:
    """What a process must be started with to load a malloc with much memory of threads, as Debian's jemalloc has."""
    now = os.environ.get(_TUNABLES, "")
    return {} if _STATIC_TLS in now else {_TUNABLES: f"{now}:{_ENOUGH}" if now else _ENOUGH}


def installed(name: str, system: System) -> str:
    """The file of a malloc that this process can load, as the loader takes it.  Raises TargetError."""
    problem = ""
    for file in _candidates(system):
        try:
            opened = ctypes.CDLL(file)
        except OSError as why:
            if "cannot open shared object" not in str(why):  # it is there, but
                problem = problem or f"{name} cannot be loaded: {why}"
            continue
        home = _home(opened, "malloc")  # a function that it lacks is found in what it depends on: the C library has it
        if lacks := [function for function in system.needs if home is None or _home(opened, function) != home]:
            problem = problem or f"{name}: {file} has no {', '.join(lacks)}"
            continue
        return file
    if "static TLS" in problem:
        problem += f"; start with {_TUNABLES}={_ENOUGH}"
    hint = f" (Debian: {system.package})" if system.package else ""
    raise TargetError(problem or f"{name} is not installed{hint}: tried {', '.join(system.files)}")


class _Place(ctypes.Structure):
    """What dladdr says of an address."""

    _fields_ = (
        ("file", ctypes.c_char_p), ("base", ctypes.c_void_p), ("name", ctypes.c_char_p), ("address", ctypes.c_void_p),
    )  # fmt: skip


def _home(opened: ctypes.CDLL, function: str) -> int | None:
    """Where the library begins that a function is found in; None if there is no such function."""
    if not hasattr(opened, function):
        return None
    place = _Place()
    address = ctypes.cast(getattr(opened, function), ctypes.c_void_p)
    ctypes.CDLL(None).dladdr(address, ctypes.byref(place))
    base: int | None = place.base
    return base


def _candidates(system: System) -> list[str]:
    """Names that the loader knows, then files where packages put them, then what the compiler's tools find."""
    names = list(system.files)
    if "/" in names[0]:
        return names
    places = [Path(where) / file for where in _FOLDERS for file in names]
    places += [place for file in names for place in sorted(Path("/usr/lib").glob(f"*-linux-gnu*/{file}"))]
    stems = sorted({file.removeprefix("lib").partition(".so")[0] for file in names})
    found = [where for stem in stems if (where := _found(stem)) is not None] if not _loads(names) else []
    return [*names, *(str(place) for place in places if place.is_file()), *found]


def _loads(names: list[str]) -> bool:
    """Does the loader know one of these?  Then nothing else need be asked, which would start processes."""
    for file in names:
        try:
            ctypes.CDLL(file)
        except OSError as why:
            if "cannot open shared object" not in str(why):
                return True
        else:
            return True
    return False


def _found(stem: str) -> str | None:
    try:
        return ctypes.util.find_library(stem)
    except OSError:
        return None
