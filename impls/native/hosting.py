"""Libraries that this process cannot load, built with ``-m32``: a small program holds them and is asked through pipes.

The program (``hosting.c``) is compiled as the libraries are, once, into the cache.  To everybody else such a library
looks like one that is loaded: the same functions, with the same integers.  What it does to its process it does to the
program, and then this process ends in the same way, as it would have if the library were in it; so whoever has to
outlive a library (see ``fuzz.isolating``) need not know where it is.  A fork starts a program of its own: the heaps
of the process that it came from are not in it.

>>> is_foreign(Path("/no/such/library.so"))
False
"""

import os
import resource
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from ..naming import TargetError
from . import HEADER
from .compiling import UNFUZZED, compile_once, compiler

_SOURCE = HEADER.with_name("hosting.c")
_FLAGS = ("-m32", "-std=gnu99", str(UNFUZZED), "-ldl", "-rdynamic")
_REQUEST, _ANSWER = struct.Struct("=II4Q"), struct.Struct("=QQ")
_WORD, _TOP = (1 << 64) - 1, 1 << 63
_ELF, _CLASS_32 = b"\x7fELF", 1
_LISTS = ("extents", "maintain", "observe")  # functions that write words
_ASAN = b"__asan_init"
_tokens = count(1)  # names of heaps: what a fork knows of those before it must mean nothing to it


def is_foreign(path: Path) -> bool:
    """Is it a library for 32 bits, in a process that has 64?  What cannot be read is none."""
    try:
        with path.open("rb") as file:
            front = file.read(len(_ELF) + 1)
    except OSError:
        return False
    return sys.maxsize > 1 << 32 and front == _ELF + bytes((_CLASS_32,))


def program() -> Path:
    """The program that holds libraries for 32 bits.  Raises TargetError where none can be built."""
    try:
        return compile_once("hosting", _SOURCE, _FLAGS, program=True)
    except TargetError as problem:
        hint = "a library for 32 bits needs a compiler that builds for them (Debian: gcc-multilib)"
        raise TargetError(f"{hint}: {problem}") from problem


class Host:
    """A library in a program of its own, started in each process that asks."""

    def __init__(self, path: str) -> None:
        """Raises TargetError for what cannot be held or is no library."""
        self._path, self._program = path, str(program())
        self._environment = _environment(Path(path))
        self._owner = -1
        self._process: subprocess.Popen[bytes] | None = None
        self.heaps: dict[int, int] = {}  # the names of those in the program that runs now
        self.numbers: dict[str, int] = {}
        self._start()

    def _start(self) -> None:
        self._owner, self.heaps = os.getpid(), {}
        self._process = subprocess.Popen(
            [self._program, self._path, str(self._owner)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0,
            env=self._environment,
        )  # fmt: skip
        failed, text = self._answer()
        if failed:
            self._process.wait()
            raise TargetError(text.decode(errors="replace"))
        functions = text.decode().split()
        self.numbers = {name: number for number, name in enumerate(functions) if name != "-"}
        self.numbers |= {"peek": len(functions), "poke": len(functions) + 1}

    def ask(self, what: str, *arguments: int, data: bytes = b"") -> tuple[int, bytes]:
        """What a function answers, and the bytes that it writes.  Raises OverflowError for what is no 64-bit number."""
        if self._owner != os.getpid():
            self._start()
        words = [*arguments, 0, 0, 0, 0][:4]
        if any(not -_TOP <= word <= _WORD for word in words):
            raise OverflowError("a number has more than 64 bits")
        process = self._process
        assert process is not None
        assert process.stdin is not None
        request = _REQUEST.pack(self.numbers[what], len(data), *(word & _WORD for word in words)) + data
        try:
            while request:
                request = request[process.stdin.write(request) or 0 :]
        except BrokenPipeError:
            self._end()
        return self._answer()

    def _answer(self) -> tuple[int, bytes]:
        result, length = _ANSWER.unpack(self._read(_ANSWER.size))
        return result, self._read(length) if length else b""

    def _read(self, length: int) -> bytes:
        process = self._process
        assert process is not None
        assert process.stdout is not None
        piece = process.stdout.read(length) or b""
        while len(piece) < length:
            more = process.stdout.read(length - len(piece))
            if not more:
                self._end()
            piece += more
        return piece

    def _end(self) -> None:
        """End as the program did."""
        assert self._process is not None
        code = self._process.wait()
        sys.stderr.flush()
        if code < 0:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            with suppress(OSError, ValueError):
                signal.signal(-code, signal.SIG_DFL)
            os.kill(os.getpid(), -code)
        os._exit(code or 1)


def _environment(library: Path) -> dict[str, str]:
    """The program's: what is loaded first into this process is for 64 bits."""
    known = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    if _ASAN in library.read_bytes():
        asked = [*compiler("C"), "-m32", "-print-file-name=libasan.so"]
        told = subprocess.run(asked, capture_output=True, text=True, env=known, check=False).stdout.strip()
        if os.path.isabs(told):
            known["LD_PRELOAD"] = os.path.realpath(told)
    return known


class Opened:
    """The library as cffi would show one: its functions, and the constants of the header."""

    def __init__(self, path: str, ffi: Any) -> None:
        self._host, self._ffi, self._constants = Host(path), ffi, ffi.dlopen(None)

    def __getattr__(self, name: str) -> Any:
        short = name.removeprefix("heaplaw_")
        if name.startswith("HEAPLAW_"):
            value = getattr(self._constants, name)
        elif name.startswith("heaplaw_") and short in self._host.numbers:
            value = self._function(short)
        else:
            raise AttributeError(name)
        setattr(self, name, value)  # not asked here again
        return value

    def _function(self, name: str) -> Callable[..., Any]:
        ask, heaps = self._host.ask, self._heap
        if name in ("abi", "capabilities", "edges"):
            return lambda: ask(name)[0]
        if name == "configure":
            return lambda parameter, value: ask(name, parameter, value)[0]
        if name == "promise":
            return lambda heap, which: _signed(ask(name, heaps(heap), which)[0])
        special: dict[str, Callable[..., Any]] = {
            "create": self._create, "destroy": self._destroy, "schema": self._schema, "batch": self._batch,
        }  # fmt: skip
        if name in special:
            return special[name]
        if name in _LISTS:
            return lambda heap, which, words, room: self._words(name, heap, which, words, room)
        return lambda heap, *arguments: ask(name, heaps(heap), *arguments)[0]

    def _heap(self, token: int) -> int:
        """The heap that a name means.  Raises RuntimeError for one of another process."""
        if token not in self._host.heaps:
            raise RuntimeError("this heap belongs to the process that made it")
        return self._host.heaps[token]

    def _create(self, arena: int) -> int:
        heap, _ = self._host.ask("create", arena)
        if not heap:
            return 0
        token = next(_tokens)
        self._host.heaps[token] = heap
        return token

    def _destroy(self, token: int) -> None:
        """One that was made before a fork is not in the program: whoever made it destroys it."""
        if self._host._owner == os.getpid() and token in self._host.heaps:
            self._host.ask("destroy", self._host.heaps.pop(token))

    def _schema(self, kind: int, text: Any, room: int) -> int:
        length, data = self._host.ask("schema", kind, room)
        self._ffi.memmove(text, data, len(data))
        return length

    def _words(self, name: str, heap: int, which: int, words: Any, room: int) -> int:
        length, data = self._host.ask(name, self._heap(heap), which, room)
        self._ffi.memmove(words, data, len(data))
        return length

    def _batch(self, heap: int, operations: Any, length: int, handles: Any, results: Any) -> int:
        known = bytes(self._ffi.buffer(handles))
        data = bytes(self._ffi.buffer(operations)) + known
        done, told = self._host.ask("batch", self._heap(heap), length, len(known) // 8, data=data)
        self._ffi.memmove(handles, told[: len(known)], len(known))
        self._ffi.memmove(results, told[len(known) :], len(told) - len(known))
        return done

    def memory(self, base: int, length: int) -> "Memory":
        """So many bytes from an address on."""
        return Memory(self._host, base, length)


def _signed(word: int) -> int:
    return word - (1 << 64) if word >= _TOP else word


class Memory:
    """Bytes in the program: slices of it, as of a buffer."""

    def __init__(self, host: Host, base: int, length: int) -> None:
        self._host, self._base, self._length = host, base, length

    def __getitem__(self, piece: slice) -> bytes:
        start, stop, _ = piece.indices(self._length)
        return self._host.ask("peek", self._base + start, stop - start)[1] if stop > start else b""

    def __setitem__(self, piece: slice, data: bytes) -> None:
        start, stop, _ = piece.indices(self._length)
        if stop - start != len(data):
            raise ValueError("right operand length must match slice length")
        self._host.ask("poke", self._base + start, data=bytes(data))
