"""A shared library that exports the functions of ``heaplaw.h``: loaded, looked over, and called with integers.

cffi reads the declarations from the header itself and opens the library as it is, so nothing is compiled here.
What is wrong with a library is said in one line: no library, another ABI, a function that is not there.

>>> declarations().count("heaplaw_create("), constants()["HEAPLAW_NO_MEMORY"] == (1 << 64) - 1
(1, True)
>>> load("./libnone.so")
Traceback (most recent call last):
heaplaw.impls.naming.TargetError: no such file: ./libnone.so
"""

import ctypes
import importlib
import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from ..naming import TargetError
from . import HEADER

_ASAN = "__asan_init"  # a function of its runtime
_COUNTERS = "__sanitizer_cov_8bit_counters_init"  # a function of libFuzzer's
_UNFUZZED = "heaplaw_unfuzzed"  # what unfuzzed.c has
_PART = re.compile(r"/\* ---- [^*]* ---- begin \*/(.*?)/\* ---- end \*/", re.S)
_CONSTANT = re.compile(r"^#define (HEAPLAW_\w+) (?:UINT64_C\((0x[0-9A-F]+)\)|(\d+))", re.M)
_TEXT_ROOM = 1 << 16  # bytes of a schema; longer ones are an error of the library
_MOST_WORDS = 1 << 27  # of one observation: a library that says more than this has lost count
REQUIRED = ("abi", "capabilities", "create", "destroy", "alloc", "free")
FUNCTIONS = {  # what a capability promises
    "PROMISES": ("promise",), "ALIGNS": ("alloc_aligned",), "REALLOCS": ("realloc",), "FREES_SIZED": ("free_sized",),
    "HAS_BASE": ("base",), "HAS_USABLE": ("usable",), "HAS_EXTENTS": ("extents",), "MAINTAINS": ("maintain", "schema"),
    "OBSERVES": ("observe", "schema"), "CHECKS": ("check",), "BATCHES": ("batch",),
    "CONFIGURES": ("configure", "schema"), "CONTEXTUAL": ("context",), "MAPS": ("map", "unmap"),
    "FAILS_PAGES": ("fail_pages", "observe", "schema"),
}  # fmt: skip


class Schema(NamedTuple):
    """What the records of a kind look like: columns in order, and names of the values of some of them."""

    columns: tuple[str, ...]
    names: dict[str, tuple[str, ...]]

    def name(self, column: str, value: int) -> str:
        """A value's name; the number itself where it has none."""
        known = self.names.get(column, ())
        return known[value] if 0 <= value < len(known) else str(value)


def part(file: Path) -> str:
    """The plain declarations of a C file, between its marks."""
    found = _PART.search(file.read_text())
    assert found is not None, f"{file.name} has lost its marks"
    return found[1]


@lru_cache(maxsize=1)
def declarations() -> str:
    """The part of the header that is plain declarations."""
    return part(HEADER)


@lru_cache(maxsize=1)
def constants() -> dict[str, int]:
    """The numbers that the header defines by macros."""
    return {name: int(large or small, 0) for name, large, small in _CONSTANT.findall(HEADER.read_text())}


@lru_cache(maxsize=1)
def interface() -> Any:
    """cffi's view of the header.  Raises TargetError where cffi is missing."""
    try:
        cffi: Any = importlib.import_module("cffi")
    except ImportError as problem:
        raise TargetError("a native target needs cffi: pip install 'heaplaw[native]'") from problem
    ffi = cffi.FFI()
    ffi.cdef(declarations())
    return ffi


class Library:
    """A library that is loaded and speaks this ABI.  ``has`` holds the names of its capabilities."""

    def __init__(self, path: str, ffi: Any, opened: Any) -> None:
        self.path, self.ffi, self.opened = path, ffi, opened
        bits = int(opened.heaplaw_capabilities())
        known = {name: constants()[f"HEAPLAW_{name}"] for name in FUNCTIONS}
        self.has = frozenset(name for name, bit in known.items() if bits & bit)
        for name in sorted(self.has):
            for function in FUNCTIONS[name]:
                if not hasattr(opened, f"heaplaw_{function}"):
                    raise TargetError(f"{path} says that it has HEAPLAW_{name}, but has no heaplaw_{function}")
        if strange := bits & ~sum(known.values()):
            raise TargetError(f"{path} says that it has capabilities {strange:#x}, which this heaplaw does not know")
        self.edges: Callable[[], int] | None = getattr(opened, "heaplaw_edges", None)
        self._schemas: dict[int, Schema | None] = {}
        self._room = 256
        self._words = ffi.new("int64_t[]", self._room)
        self.contracts: dict[Any, Any] = {}  # by configuration: targets that promise the same share the promise

    def number(self, name: str) -> int:
        """Value of a constant of the header's enums, by its name without the prefix."""
        return int(getattr(self.opened, f"HEAPLAW_{name}"))

    def schema(self, kind: int) -> Schema | None:
        """What records of a kind look like; None where they are not shown.  Asked once."""
        if kind not in self._schemas:
            self._schemas[kind] = self._read_schema(kind) if hasattr(self.opened, "heaplaw_schema") else None
        return self._schemas[kind]

    def _read_schema(self, kind: int) -> Schema | None:
        text = self.ffi.new("char[]", _TEXT_ROOM)
        length = int(self.opened.heaplaw_schema(kind, text, _TEXT_ROOM))
        if not length:
            return None
        if length > _TEXT_ROOM:
            raise TargetError(f"{self.path}: the schema of kind {kind} is longer than {_TEXT_ROOM} bytes")
        first, *rest = bytes(self.ffi.buffer(text, length)).decode("ascii", "replace").splitlines()
        names = {}
        for line in rest:
            column, colon, values = line.partition(":")
            if not colon or column not in first.split():
                raise TargetError(f"{self.path}: {line!r} in the schema of kind {kind} names the values of no column")
            names[column] = tuple(values.split())
        return Schema(tuple(first.split()), names)

    def words(self, ask: Callable[..., int], *arguments: int) -> list[int]:
        """What a function that writes words writes; it is asked again where there was no room.  O(words)."""
        count = int(ask(*arguments, self._words, self._room))
        while count > self._room:
            if count > _MOST_WORDS:
                raise RuntimeError(f"{self.path} wants to write {count} words at once")
            self._room = count + count // 2
            self._words = self.ffi.new("int64_t[]", self._room)
            count = int(ask(*arguments, self._words, self._room))
        answer: list[int] = self.ffi.unpack(self._words, count) if count else []
        return answer

    def memory(self, base: int, length: int) -> Any:
        """So many bytes from an address on, to be read and written by slices."""
        elsewhere = getattr(self.opened, "memory", None)
        if elsewhere is not None:
            return elsewhere(base, length)
        return self.ffi.buffer(self.ffi.cast("char *", base), length)

    def observe(self, heap: int, kind: int) -> list[int]:
        """The words of an observation.  Raises RuntimeError where they are no whole number of records."""
        found = self.words(self.opened.heaplaw_observe, heap, kind)
        schema = self.schema(kind)
        if schema is None or len(found) % len(schema.columns):
            raise RuntimeError(f"heaplaw_observe wrote {len(found)} words of kind {kind}: no whole number of records")
        return found


def needs_runtime(path: Path) -> bool:
    """Was the library built with AddressSanitizer, whose runtime this process does not have?

    Loading it would end the process: the runtime has to be there from the start, which is the command line's affair.
    """
    return is_sanitized(path) and not hasattr(ctypes.CDLL(None), _ASAN)


def is_sanitized(path: Path) -> bool:
    """Was the library built with AddressSanitizer?  OSError where it cannot be read."""
    return _ASAN.encode() in path.read_bytes()


def is_instrumented(path: Path) -> bool:
    """Was the library built with -fsanitize=fuzzer-no-link?  OSError where it cannot be read."""
    return _COUNTERS.encode() in path.read_bytes()


def needs_counters(path: Path) -> bool:
    """Does it call libFuzzer's functions, which nobody has in a process that was started without them?"""
    data = path.read_bytes()
    return _COUNTERS.encode() in data and _UNFUZZED.encode() not in data


def load(name: str) -> Library:
    """Load a library and look it over; one that is loaded already is given again.  Raises TargetError."""
    path = Path(name)
    place = str(path.resolve())
    if (known := _loaded.get(place)) is not None:
        return known
    if not path.is_file():
        raise TargetError(f"no such file: {name}")
    if is_foreign(path):
        _loaded[place] = _hosted(name, place)
        return _loaded[place]
    if needs_runtime(path):
        why = "was built with AddressSanitizer: a process must be started with its runtime to load it"
        raise TargetError(f"{name} {why}")
    if needs_counters(path) and not hasattr(ctypes.CDLL(None), _COUNTERS):
        raise TargetError(f"{name} was built for libFuzzer: a process must be started with its functions to load it")
    _loaded[place] = _open(name, place)
    return _loaded[place]


_loaded: dict[str, Library] = {}


def is_foreign(path: Path) -> bool:
    """Is it for a process of another kind than this one?  See ``hosting``."""
    from .hosting import is_foreign as is_for_others  # it needs the registry, which names what this module loads

    return is_for_others(path)


def _hosted(name: str, place: str) -> Library:
    from .hosting import Opened

    ffi = interface()
    try:
        opened = Opened(place, ffi)
    except ValueError as problem:  # a TargetError
        raise TargetError(f"{name}: {problem}") from problem
    return _looked_over(name, ffi, opened)


def _open(name: str, place: str) -> Library:
    ffi = interface()
    try:
        opened = ffi.dlopen(place)
    except OSError as problem:
        why = str(problem).partition(".  Additionally")[0].rpartition(f"{place}'")[2].removeprefix(": ")
        raise TargetError(f"{name} cannot be loaded: {why.replace(f'{place}: ', '')}") from problem
    return _looked_over(name, ffi, opened)


def _looked_over(name: str, ffi: Any, opened: Any) -> Library:
    """The library, if it is one of ours and speaks this version."""
    lacks = [f"heaplaw_{needed}" for needed in REQUIRED if not hasattr(opened, f"heaplaw_{needed}")]
    if "heaplaw_abi" not in lacks:  # first: another version may have other functions
        speaks, here = int(opened.heaplaw_abi()), constants()["HEAPLAW_ABI"]
        if speaks != here:
            raise TargetError(f"{name} speaks version {speaks} of heaplaw's ABI, not {here}: build it with {HEADER}")
    if lacks:
        raise TargetError(f"{name} is no target, it has no {', '.join(lacks)}: see {HEADER}")
    return Library(name, ffi, opened)
