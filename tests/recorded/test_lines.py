"""Opening, unpacking and splitting: every defect is one exception with one line."""

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from heaplaw.properties.recorded import RecordingError, lines

TEXT = "".join(f"line {number} of a recording\n" for number in range(1, 4001))


def zstd(data: bytes) -> bytes:
    """As a program that streams writes it: a checksum, but no content size in the frame's header."""
    packer = zstandard.ZstdCompressor(write_checksum=True).compressobj()
    return packer.compress(data) + packer.flush()


PACKERS = pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd], ids=["plain", "gzip", "zstd"])
Pack = Callable[[bytes], bytes]


def problem_with(path: Path) -> RecordingError:
    with pytest.raises(RecordingError) as caught:
        list(lines(path))
    assert len(str(caught.value).splitlines()) == 1
    return caught.value


class TestPacking:
    @PACKERS
    def test_same_lines(self, tmp_path: Path, pack: Pack) -> None:
        """Plain, gzip and zstd files give the same numbered lines under any name."""
        path = tmp_path / "misleading.gz.zst.txt"
        path.write_bytes(pack(TEXT.encode()))
        assert list(lines(path)) == list(enumerate(TEXT.splitlines(), 1))

    @PACKERS
    def test_several_frames(self, tmp_path: Path, pack: Pack) -> None:
        """Packed files that were appended to each other read as one."""
        path = tmp_path / "appended"
        path.write_bytes(pack(b"one\ntw") + pack(b"o\n") + pack(b"three"))
        assert list(lines(path)) == [(1, "one"), (2, "two"), (3, "three")]

    def test_skippable_frame(self, tmp_path: Path) -> None:
        """A zstd file may begin with a frame that holds no data."""
        path = tmp_path / "parallel"
        path.write_bytes(b"\x50\x2a\x4d\x18\x04\0\0\0abcd" + zstd(b"one\n"))
        assert list(lines(path)) == [(1, "one")]

    def test_gzip_padding(self, tmp_path: Path) -> None:
        """Zero bytes after the last gzip member are padding."""
        path = tmp_path / "tape"
        path.write_bytes(gzip.compress(b"one\n") + bytes(512))
        assert list(lines(path)) == [(1, "one")]

    @pytest.mark.parametrize(("pack", "name"), [(gzip.compress, "gzip"), (zstd, "zstd")])
    @pytest.mark.parametrize("keep", [0.03, 0.5, 0.9, -1])
    def test_truncated(self, tmp_path: Path, pack: Pack, name: str, keep: float) -> None:
        """A packed file that ends early is an error wherever it was cut."""
        path, whole = tmp_path / "cut", pack(TEXT.encode())
        path.write_bytes(whole[: keep if keep < 0 else int(keep * len(whole))])  # type: ignore[misc]
        assert f"truncated: the {name} data ends in the middle" in str(problem_with(path))

    def test_truncated_second_frame(self, tmp_path: Path) -> None:
        """A second zstd frame that is cut is noticed after a whole first one."""
        path = tmp_path / "cut"
        path.write_bytes(zstd(b"one\ntwo\n") + zstd(TEXT.encode())[:20])
        assert problem_with(path).line == 3

    @pytest.mark.parametrize("pack", [gzip.compress, zstd], ids=["gzip", "zstd"])
    @pytest.mark.parametrize("at", [0.2, 0.5, 0.8])
    def test_broken(self, tmp_path: Path, pack: Pack, at: float) -> None:
        """Bytes turned over inside a packed file never pass for a recording."""
        path, whole = tmp_path / "broken", bytearray(pack(TEXT.encode()))
        middle = int(len(whole) * at)
        whole[middle : middle + 40] = bytes(byte ^ 255 for byte in whole[middle : middle + 40])
        path.write_bytes(whole)
        problem_with(path)

    @pytest.mark.parametrize(("pack", "sum_at"), [(gzip.compress, -5), (zstd, -1)], ids=["gzip", "zstd"])
    def test_checksum(self, tmp_path: Path, pack: Pack, sum_at: int) -> None:
        """A checksum that does not fit is reported as broken compression."""
        path, whole = tmp_path / "broken", bytearray(pack(TEXT.encode()))
        whole[sum_at] ^= 1
        path.write_bytes(whole)
        assert "broken compression" in problem_with(path).problem

    def test_garbage_behind(self, tmp_path: Path) -> None:
        """What follows the last gzip member must be a gzip member."""
        path = tmp_path / "garbage"
        path.write_bytes(gzip.compress(b"one\n") + b"garbage")
        assert "broken compression" in problem_with(path).problem


class TestText:
    @pytest.mark.parametrize("text", ["a\nb", "a\nb\n", "a\r\nb\r\n"])
    def test_line_ends(self, tmp_path: Path, text: str) -> None:
        """The last line may lack its end, and Windows' line ends are taken off."""
        path = tmp_path / "ends"
        path.write_bytes(text.encode())
        assert list(lines(path)) == [(1, "a"), (2, "b")]

    def test_only_newlines_end_lines(self, tmp_path: Path) -> None:
        """A form feed or a Unicode line separator in a name does not shift the line numbers."""
        path = tmp_path / "names"
        path.write_text("a\fb\u2028c\nd\n", encoding="utf-8")
        assert list(lines(path)) == [(1, "a\fb\u2028c"), (2, "d")]

    def test_foreign_encoding(self, tmp_path: Path) -> None:
        """Bytes that are not UTF-8 are shown as escapes."""
        path = tmp_path / "latin"
        path.write_bytes(b"caf\xe9\n")
        assert list(lines(path)) == [(1, "caf\\xe9")]

    @PACKERS
    def test_binary(self, tmp_path: Path, pack: Pack) -> None:
        """Control bytes are not text, and the line that holds the first is named."""
        path = tmp_path / "binary"
        path.write_bytes(pack(b"one\ntwo\nth\x00ree\nfour\x01\n"))
        assert str(problem_with(path)) == f"{path}:3: not text: it holds the byte 0x00"

    def test_endless_line(self, tmp_path: Path) -> None:
        """A line of more than a mebibyte ends the reading before memory does."""
        path = tmp_path / "long"
        path.write_bytes(b"one\n" + b"x" * (2 << 20))
        assert str(problem_with(path)).startswith(f"{path}:2: a line of more than 1048576 bytes")

    def test_empty(self, tmp_path: Path) -> None:
        """An empty file has no lines; whether that is wrong is for its reader to say."""
        path = tmp_path / "empty"
        path.write_bytes(b"")
        assert list(lines(path)) == []


class TestFile:
    def test_missing(self, tmp_path: Path) -> None:
        """A file that does not exist is named."""
        path = tmp_path / "missing"
        assert str(problem_with(path)) == f"{path}: No such file or directory"

    def test_directory(self, tmp_path: Path) -> None:
        """A directory is no recording."""
        assert str(problem_with(tmp_path)) == f"{tmp_path}: Is a directory"

    @pytest.mark.parametrize("name", ["new\nline", "nul\0"])
    def test_odd_names(self, tmp_path: Path, name: str) -> None:
        """The message stays one line whatever the file is called."""
        assert str(tmp_path) in str(problem_with(tmp_path / name))

    def test_fields(self, tmp_path: Path) -> None:
        """The exception carries path, line and problem apart."""
        error = RecordingError(tmp_path, 7, "wrong")
        assert (error.path, error.line, error.problem) == (str(tmp_path), 7, "wrong")
