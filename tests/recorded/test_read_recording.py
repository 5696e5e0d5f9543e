"""One door for every format, told by the contents."""

import gzip
import os
import shutil
from pathlib import Path

import pytest

from heaplaw.properties.recorded import RecordingError, read_recording

DATA = Path(__file__).parents[1] / "data"


class TestFormats:
    @pytest.mark.parametrize(
        ("name", "form", "operations"),
        [
            ("sqlite.heaptrack.raw.zst", "heaptrack raw 3", 21_949),
            ("jq.heaptrack.raw.zst", "heaptrack raw 3", 22_430),
            ("linux-6.18-kmalloc-head.ftrace.gz", "ftrace slab", 984),
            ("linux-6.18-pages-head.ftrace.gz", "ftrace pages", 19_980),
            ("linux-6.18-percpu-head.ftrace.gz", "ftrace percpu", 3_002),
            ("linux-6.18-percpu-chunk.tsv.gz", "placements", 30_258),
            ("mtrace-sample.mtrace", "mtrace", 17),
        ],
    )
    def test_by_content(self, tmp_path: Path, name: str, form: str, operations: int) -> None:
        """The format is found whatever the file is called."""
        path = tmp_path / "nameless"
        shutil.copy(DATA / name, path)
        recording = read_recording(path)
        assert (recording.format, len(recording.trace.operations)) == (form, operations)

    @pytest.mark.parametrize("name", ["linux-6.18-percpu-chunk.tsv.gz", "mtrace-sample.mtrace"])
    def test_heaplaw_trace(self, tmp_path: Path, name: str) -> None:
        """What was imported can be stored as a trace, packed or not, and read again."""
        first = read_recording(DATA / name)
        path = tmp_path / "stored"
        path.write_bytes(gzip.compress(str(first.trace).encode()))
        again = read_recording(path)
        assert again.format == "heaplaw trace"
        assert again.trace == first.trace
        assert (again.never_freed, again.lines) == (first.never_freed, str(first.trace).count("\n"))

    def test_options_reach_ftrace(self) -> None:
        """Family and CPUs are handed on."""
        path = DATA / "linux-6.18-kmalloc-head.ftrace.gz"
        assert len(read_recording(path, family="slab", cpus=True).trace.operations) == 988
        with pytest.raises(RecordingError, match="no allocation"):
            read_recording(path, family="pages")

    def test_known_family_whatever_the_format(self) -> None:
        """A misspelt family is an error even where it would not matter."""
        with pytest.raises(ValueError, match="unknown family 'page'"):
            read_recording(DATA / "mtrace-sample.mtrace", family="page")

    def test_pipe(self, tmp_path: Path) -> None:
        """A recording may come through a pipe: it is read once, from front to back."""
        readable, writable = os.pipe()
        os.write(writable, (DATA / "mtrace-sample.mtrace").read_bytes())
        os.close(writable)
        try:
            assert read_recording(f"/dev/fd/{readable}").format == "mtrace"
        finally:
            os.close(readable)


class TestDefects:
    """Every bad input ends in RecordingError with the path and one line."""

    @staticmethod
    def problem(path: Path) -> str:
        with pytest.raises(RecordingError) as caught:
            read_recording(path)
        message = str(caught.value)
        assert len(message.splitlines()) == 1
        assert message.startswith(str(path))
        return message.removeprefix(str(path))

    @pytest.mark.parametrize(
        ("content", "problem"),
        [
            (b"", ": the file is empty"),
            (b"\n \n", ": the file is empty"),
            (b"hello\nworld\n", ":1: not a recording in a known format"),
            (b"+ 8 1 f0\n", ":1: not a recording in a known format"),
            (bytes(range(256)) * 9, ":1: not text: it holds the byte 0x00"),
            (b"\x7fELF\x02\x01\x01\0", ":1: not text: it holds the byte 0x02"),
            (b"\x1f\x8b\x08", ":1: truncated: the gzip data ends in the middle"),
            (b"\x28\xb5\x2f\xfd", ":1: truncated: the zstd data ends in the middle"),
            (b"\x1f\x8bnonsense", ":1: broken compression"),
            (b"\x28\xb5\x2f\xfd" + b"\xff" * 40, ":1: broken compression"),
            (b"v 10400 9\n", ":1: heaptrack file format 9"),
            (b"= Start\n", ":1: no allocation in this recording (mtrace)"),
            (b"# tracer: nop\n", ":1: no kmem or percpu event in this ftrace text"),
            (b"heaplaw trace 1\n", ":1: no operation in this trace"),
            (b"heaplaw trace 1\na = alloc 8\nfroo a\n", ":3: "),
        ],
    )
    def test_contents(self, tmp_path: Path, content: bytes, problem: str) -> None:
        """The message says what is wrong and where."""
        path = tmp_path / "bad"
        path.write_bytes(content)
        assert self.problem(path).startswith(problem)

    @pytest.mark.parametrize("name", ["sqlite.heaptrack.raw.zst", "linux-6.18-pages-head.ftrace.gz"])
    def test_truncated(self, tmp_path: Path, name: str) -> None:
        """A real recording that was copied in part is not taken for a shorter one."""
        whole = (DATA / name).read_bytes()
        path = tmp_path / name
        path.write_bytes(whole[: len(whole) * 2 // 3])
        assert ": truncated: the " in self.problem(path)

    def test_missing_and_directory(self, tmp_path: Path) -> None:
        """Neither a missing file nor a directory is opened."""
        assert self.problem(tmp_path / "missing") == ": No such file or directory"
        assert self.problem(tmp_path) == ": Is a directory"
