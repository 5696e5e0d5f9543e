"""glibc's mtrace.

``tests/data/mtrace-sample.mtrace`` was written by ``tests/data/mtrace-sample.c`` on
glibc 2.36::

    gcc -O0 -rdynamic -w -o sample mtrace-sample.c
    MALLOC_TRACE=./mtrace-sample.mtrace LD_PRELOAD=libc_malloc_debug.so.0 ./sample
"""

from pathlib import Path

import pytest

from heaplaw.properties.recorded import RecordingError, mtrace
from heaplaw.trace import Trace

SAMPLE = Path(__file__).parents[1] / "data" / "mtrace-sample.mtrace"


def written(folder: Path, text: str) -> Path:
    path = folder / "some.mtrace"
    path.write_text(text)
    return path


class TestRecorded:
    def test_operations(self) -> None:
        """The trace does to the heap what the sample program does, step by step."""
        assert str(mtrace.read(SAMPLE).trace).split("\n", 2)[2] == (
            "1   a = alloc 16\n"
            "2   b = alloc 32\n"
            "3   c = alloc 64\n"
            "4   d = alloc 128\n"
            "5   e = alloc 256\n"
            "6   f = alloc 512\n"
            "7   g = alloc 100\n"  # calloc(4, 25)
            "8   realloc g 60\n"
            "9   h = alloc 40\n"  # realloc(NULL, 40)
            "10  free b\n"
            "11  realloc h 5000\n"
            "12  i = alloc 256\n"  # aligned_alloc(64, 256)
            "13  free g\n"  # realloc(g, 0)
            "14  free a\n"
            "15  free c\n"
            "16  free e\n"
            "17  free h\n"
        )

    def test_counts(self) -> None:
        """What was born before mtrace(), failed or stayed is counted."""
        recording = mtrace.read(SAMPLE)
        assert (recording.unknown_frees, recording.lost_frees, recording.never_freed) == (1, 0, 3)
        assert recording.ignored == {"marker": 2, "failed realloc": 1, "failed allocation": 1}
        assert recording.lines == 24

    def test_round_trip(self) -> None:
        """The trace reads back from its own text."""
        trace = mtrace.read(SAMPLE).trace
        assert Trace.parse(str(trace)) == trace


class TestRealloc:
    def test_moves(self, tmp_path: Path) -> None:
        """A moved object keeps its name, and its new address frees it."""
        text = "= Start\n+ 0xa0 0x10\n< 0xa0\n> 0xb0 0x20\n+ 0xa0 0x8\n- 0xb0\n= End\n"
        assert str(mtrace.read(written(tmp_path, text)).trace).split("\n", 2)[2] == (
            "1  a = alloc 16\n2  realloc a 32\n3  b = alloc 8\n4  free a\n"
        )

    def test_unknown(self, tmp_path: Path) -> None:
        """Resizing an object from before the recording gives birth to it."""
        recording = mtrace.read(written(tmp_path, "= Start\n< 0xa0\n> 0xb0 0x20\n- 0xb0\n"))
        assert str(recording.trace).split("\n", 2)[2] == "1  a = alloc 32\n2  free a\n"
        assert recording.unknown_frees == 1

    def test_onto_a_live_address(self, tmp_path: Path) -> None:
        """An object that moves onto a live address shows a lost free."""
        recording = mtrace.read(written(tmp_path, "= Start\n+ 0xa0 0x10\n+ 0xb0 0x10\n< 0xa0\n> 0xb0 0x20\n"))
        assert str(recording.trace).split("\n", 2)[2] == (
            "1  a = alloc 16\n2  b = alloc 16\n3  free b\n4  realloc a 32\n"
        )
        assert (recording.lost_frees, recording.never_freed) == (1, 1)

    @pytest.mark.parametrize("text", ["> 0xa0 0x10\n", "< 0xa0\n- 0xb0\n", "< 0xa0\n< 0xb0\n"])
    def test_half(self, tmp_path: Path, text: str) -> None:
        """Half of a realloc is an error."""
        with pytest.raises(RecordingError, match=r"mtrace:\d: half of a realloc"):
            mtrace.read(written(tmp_path, "= Start\n" + text))


class TestOthers:
    def test_stray_lines(self, tmp_path: Path) -> None:
        """Lines that are no events are counted, not fatal: the program may print to the same file."""
        recording = mtrace.read(written(tmp_path, "= Start\nhello\n@ ./a b:[0x1] + 0xa0 0x10\n@ ./a:[0x"))
        assert recording.ignored == {"marker": 1, "other": 2}
        assert len(recording.trace.operations) == 1

    def test_no_allocation(self, tmp_path: Path) -> None:
        """A log without an allocation is an error."""
        with pytest.raises(RecordingError, match=r"mtrace:2: no allocation in this recording \(mtrace\)"):
            mtrace.read(written(tmp_path, "= Start\n= End\n"))
