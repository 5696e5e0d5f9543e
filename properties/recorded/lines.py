"""Text lines of a recording, whatever it is packed in.

Recorders and their users write plain text, gzip or zstd.  The packing is told
from the first bytes, never from the name.  Every defect of the file ends in one
exception, ``RecordingError``, whose text is one line.

A frame that stops early must not pass for a short recording, which is why both
formats are unpacked here by frame: zstandard's own file reader stays silent
when the last frame is cut.

>>> import pathlib, tempfile
>>> folder = tempfile.TemporaryDirectory()
>>> path = pathlib.Path(folder.name, "two-lines")
>>> _ = path.write_text("v 10400 3\\n- 1f\\n")
>>> list(lines(path))
[(1, 'v 10400 3'), (2, '- 1f')]
>>> folder.cleanup()
"""

import os
import zlib
from collections.abc import Callable, Iterator
from typing import Protocol

import zstandard

Lines = Iterator[tuple[int, str]]
"""(line number from 1, text without its end) pairs."""

CHUNK = 1 << 14  # packed bytes read at a time; what they unpack to is held in memory
MAX_LINE = 1 << 20  # bytes; no recorder writes longer lines, so this is not a recording

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_SKIPPABLE = b"\x2a\x4d\x18"  # bytes 1..3 of a frame without data; parallel zstd begins with one
_CONTROLS = bytes({*range(32)} - {*b"\t\n\v\f\r\x1b"})  # no text holds them, nearly all binaries do


class RecordingError(ValueError):
    """A recording that cannot be read: which file, which line (0: the file as such), and why."""

    def __init__(self, path: str | os.PathLike[str], line: int, problem: str) -> None:
        name = os.fspath(path)
        shown = name if name.isprintable() else ascii(name)  # a newline in a name stays one line
        super().__init__(f"{shown}:{line}: {problem}" if line else f"{shown}: {problem}")
        self.path, self.line, self.problem = name, line, problem


class _Unpacker(Protocol):
    """What zlib's and zstandard's decompression objects have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


def lines(path: str | os.PathLike[str]) -> Lines:
    """Numbered lines of a plain, gzip or zstd file, read as they are asked for.

    Bytes that are not UTF-8 (a process may be named anything) come as ``\\xNN``.
    Raises RecordingError for a file that cannot be opened, is cut short, is
    packed badly or is not text.  Holds one chunk in memory, not the file.
    """
    number, tail = 0, b""
    try:
        for chunk in _unpacked(path):
            block, newline, rest = chunk.rpartition(b"\n")
            if newline:
                for line in _text(path, number, tail + block):
                    number += 1
                    yield number, line
                tail = rest
            else:
                tail += chunk
            if len(tail) > MAX_LINE:
                raise RecordingError(path, number + 1, f"a line of more than {MAX_LINE} bytes: not a recording")
        if tail:
            for line in _text(path, number, tail):
                number += 1
                yield number, line
    except OSError as problem:
        raise RecordingError(path, 0, problem.strerror or str(problem)) from None
    except EOFError as problem:
        raise RecordingError(path, number + 1, str(problem)) from None
    except (zlib.error, zstandard.ZstdError) as problem:
        reason = " ".join(str(problem).split())
        raise RecordingError(path, number + 1, f"broken compression: {reason}") from None


def _text(path: str | os.PathLike[str], before: int, block: bytes) -> list[str]:
    """The lines of whole lines' bytes; ``before`` is how many came before them."""
    if len(block.translate(None, _CONTROLS)) != len(block):
        at = next(i for i, byte in enumerate(block) if byte in _CONTROLS)
        line = before + 1 + block.count(b"\n", 0, at)
        raise RecordingError(path, line, f"not text: it holds the byte 0x{block[at]:02x}")
    text = block.decode("utf-8", "backslashreplace")
    # not splitlines(): a form feed or U+2028 in a process's name does not end a line
    found = text.split("\n")
    return [line.rstrip("\r") for line in found] if "\r" in text else found


def _unpacked(path: str | os.PathLike[str]) -> Iterator[bytes]:
    """The bytes of a file, unpacked when its first bytes say that it is packed."""
    try:
        file = open(path, "rb")  # noqa: SIM115 - only the opening may fail with ValueError
    except ValueError as problem:  # a NUL in the name
        raise RecordingError(path, 0, str(problem)) from None
    with file:
        chunks = iter(lambda: file.read(CHUNK), b"")
        first = next(chunks, b"")
        if first.startswith(_GZIP):
            yield from _inflated(first, chunks, lambda: zlib.decompressobj(wbits=31), "gzip")
        elif first.startswith(_ZSTD) or (first[1:4] == _SKIPPABLE and first[0] >> 4 == 5):
            yield from _inflated(first, chunks, zstandard.ZstdDecompressor().decompressobj, "zstd")
        else:
            if first:
                yield first
            yield from chunks


def _inflated(first: bytes, chunks: Iterator[bytes], fresh: Callable[[], _Unpacker], what: str) -> Iterator[bytes]:
    """Unpack one frame after the other.  EOFError when the last one does not end."""
    unpacker: _Unpacker | None = None
    packed = first
    while packed:
        if unpacker is None:
            if what == "gzip":  # tapes pad with zeros after the last frame, gzip allows it
                packed = packed.lstrip(b"\0")
            unpacker = fresh() if packed else None
        if unpacker is not None:
            data = unpacker.decompress(packed)
            if data:
                yield data
            packed = b""
            if unpacker.eof:
                packed, unpacker = unpacker.unused_data, None
        packed = packed or next(chunks, b"")
    if unpacker is not None:
        raise EOFError(f"truncated: the {what} data ends in the middle")
