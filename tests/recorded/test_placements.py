"""Placements of one arena.

``tests/data/linux-6.18-percpu-chunk.tsv.gz`` is one percpu chunk of a Linux 6.18
machine (x86-64) from its creation, whole.
"""

from pathlib import Path

import pytest

from heaplaw.operations import Kind
from heaplaw.properties.recorded import RecordingError, placements
from heaplaw.trace import Trace

CHUNK = Path(__file__).parents[1] / "data" / "linux-6.18-percpu-chunk.tsv.gz"


def written(folder: Path, text: str) -> Path:
    path = folder / "some.tsv"
    path.write_text(text)
    return path


class TestChunk:
    def test_counts(self) -> None:
        """All 15,130 allocations have their offset, and all but two are freed."""
        recording = placements.read(CHUNK)
        kinds = [operation.kind for operation in recording.trace.operations]
        assert (kinds.count(Kind.ALLOC), kinds.count(Kind.FREE)) == (15_130, 15_128)
        assert len(recording.trace.answers) == 15_130
        assert (recording.unknown_frees, recording.lost_frees, recording.never_freed) == (0, 0, 2)
        assert (recording.lines, recording.ignored) == (30_260, {"comment": 2})

    def test_geometry(self) -> None:
        """The comment's geometry is in the trace's header."""
        assert placements.read(CHUNK).trace.header == {
            "source": "placements, One percpu chunk of Linux 6.18 from its creation",
            "unit": "1048576",
            "granule": "4",
            "block": "4096",
            "chunks": "1",
            "answers": "offset",
        }

    def test_answers_fit(self) -> None:
        """Recorded placements are aligned, inside the unit and never overlap."""
        trace = placements.read(CHUNK).trace
        unit = int(trace.header["unit"])
        taken = bytearray(unit // 4)
        places: dict[int, tuple[int, int]] = {}
        for index, operation in enumerate(trace.operations):
            if operation.kind == Kind.ALLOC:
                start, end = trace.answers[index], trace.answers[index] + operation.size
                assert start % operation.align == 0
                assert end <= unit
                first, last = start // 4, -(-end // 4)
                assert not any(taken[first:last])
                taken[first:last] = b"\1" * (last - first)
                places[operation.name] = first, last
            else:
                first, last = places.pop(operation.name)
                taken[first:last] = bytes(last - first)

    def test_round_trip(self) -> None:
        """The trace reads back from its own text with every offset."""
        trace = placements.read(CHUNK).trace
        assert Trace.parse(str(trace)) == trace


class TestLines:
    def test_without_geometry(self, tmp_path: Path) -> None:
        """A list without comments is a list all the same."""
        recording = placements.read(written(tmp_path, "alloc 8 4 16\nfree 16\nfree 32\n"))
        header = "heaplaw trace 1\nsource placements\nchunks 1\nanswers offset\n"
        assert str(recording.trace) == header + "1  a = alloc 8 align 4 -> 16\n2  free a\n"
        assert recording.unknown_frees == 1

    @pytest.mark.parametrize("line", ["alloc\t8\t4", "free", "alloc\t8\t4\t-4", "realloc\t8\t16", "alloc\tx\t1\t0"])
    def test_malformed(self, tmp_path: Path, line: str) -> None:
        """Another line is an error that says what was expected."""
        with pytest.raises(RecordingError, match=r"tsv:2: expected 'alloc SIZE ALIGN OFFSET' or 'free OFFSET'"):
            placements.read(written(tmp_path, f"alloc\t8\t4\t0\n{line}\n"))

    def test_no_allocation(self, tmp_path: Path) -> None:
        """A list of frees is an error."""
        with pytest.raises(RecordingError, match=r"tsv:1: no allocation"):
            placements.read(written(tmp_path, "free\t0\n"))
