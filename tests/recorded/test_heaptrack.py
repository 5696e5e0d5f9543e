"""heaptrack raw files.

``tests/data/sqlite.heaptrack.raw.zst`` and ``jq.heaptrack.raw.zst`` are whole raw recordings by
heaptrack 1.4: sqlite3 building, indexing and deleting a table of 3,000 rows, and jq reading a
JSON list of countries.
"""

from pathlib import Path

import pytest

from heaplaw.operations import Kind
from heaplaw.properties.recorded import RecordingError, heaptrack
from heaplaw.trace import Trace

DATA = Path(__file__).parents[1] / "data"
SQLITE, JQ = DATA / "sqlite.heaptrack.raw.zst", DATA / "jq.heaptrack.raw.zst"


def written(folder: Path, text: str) -> Path:
    path = folder / "some.raw"
    path.write_text(text)
    return path


class TestRecorded:
    @pytest.mark.parametrize(
        ("path", "allocations", "frees", "lines"),
        [(SQLITE, 10_982, 10_967, 24_618), (JQ, 11_216, 11_214, 24_237)],
        ids=["sqlite", "jq"],
    )
    def test_counts(self, path: Path, allocations: int, frees: int, lines: int) -> None:
        """Every allocation and free of the recording is in the trace, and nothing else."""
        recording = heaptrack.read(path)
        kinds = [operation.kind for operation in recording.trace.operations]
        assert (kinds.count(Kind.ALLOC), kinds.count(Kind.FREE)) == (allocations, frees)
        assert len(kinds) == allocations + frees
        assert recording.lines == 1 + len(kinds) + sum(recording.ignored.values()) == lines
        assert (recording.unknown_frees, recording.lost_frees) == (0, 0)
        assert recording.never_freed == allocations - frees

    def test_sizes(self) -> None:
        """Sizes are hexadecimal bytes: jq's heap peaks at 772,996 bytes and leaves 472 and 4,096."""
        live: dict[int, int] = {}
        held = peak = 0
        for operation in heaptrack.read(JQ).trace.operations:
            if operation.kind == Kind.ALLOC:
                live[operation.name] = operation.size
                held += operation.size
                peak = max(peak, held)
            else:
                held -= live.pop(operation.name)
        assert (peak, sorted(live.values())) == (772_996, [472, 4_096])

    def test_names_are_births(self) -> None:
        """The n-th allocation is object n, and an object is freed at most once, after its birth."""
        births, live = 0, set()
        for operation in heaptrack.read(SQLITE).trace.operations:
            if operation.kind == Kind.ALLOC:
                assert operation.name == births
                live.add(births)
                births += 1
            else:
                live.remove(operation.name)
        assert len(live) == 15

    def test_ignored(self) -> None:
        """Lines that are no events are counted by what they are."""
        assert heaptrack.read(JQ).ignored == {
            "program": 1, "command line": 1, "system": 1, "module": 13, "call stack": 1_786,
            "time": 2, "resident size": 2,
        }  # fmt: skip

    @pytest.mark.parametrize("path", [SQLITE, JQ], ids=["sqlite", "jq"])
    def test_round_trip(self, path: Path) -> None:
        """The trace reads back from its own text, header included."""
        trace = heaptrack.read(path).trace
        assert trace.header["source"].startswith("heaptrack raw 3, ")
        assert Trace.parse(str(trace)) == trace


class TestVersions:
    @pytest.mark.parametrize(("line", "version"), [("v 10000", 1), ("v 10100 2", 2), ("v 10500 3", 3)])
    def test_known(self, tmp_path: Path, line: str, version: int) -> None:
        """Formats 1 to 3 are read alike; the first releases named none."""
        recording = heaptrack.read(written(tmp_path, f"{line}\n+ a 1 f0\n"))
        assert recording.format == f"heaptrack raw {version}"
        assert recording.trace.operations[0].size == 10

    @pytest.mark.parametrize("line", ["v 10500 4", "v 10500 0"])
    def test_unknown(self, tmp_path: Path, line: str) -> None:
        """Another format is refused by its number."""
        with pytest.raises(RecordingError, match=r"raw:1: heaptrack file format [04]; known are 1 to 3"):
            heaptrack.read(written(tmp_path, f"{line}\n+ a 1 f0\n"))

    def test_no_version(self, tmp_path: Path) -> None:
        """A file without the version line is not taken for a recording."""
        with pytest.raises(RecordingError, match=r"raw:1: expected heaptrack's 'v VERSION FORMAT'"):
            heaptrack.read(written(tmp_path, "+ a 1 f0\n- f0\n"))

    @pytest.mark.parametrize("event", ["a 18 1\n+ 0", "+ 0"])
    def test_interpreted(self, tmp_path: Path, event: str) -> None:
        """An interpreted file is refused with the way to record a raw one."""
        with pytest.raises(RecordingError, match=r"raw:2: interpreted .* record with 'heaptrack --raw'"):
            heaptrack.read(written(tmp_path, f"v 10500 3\n{event}\n+ 0\n"))


class TestEvents:
    def test_imperfect(self, tmp_path: Path) -> None:
        """Unknown frees are skipped and lost frees put back before the address is reused."""
        text = "v 10500 3\n- e0\n+ 8 1 f0\n+ 10 1 f0\n- f0\n- f0\n"
        recording = heaptrack.read(written(tmp_path, text))
        assert [op[:3] for op in recording.trace.operations] == [
            (Kind.ALLOC, 0, 8), (Kind.FREE, 0, 0), (Kind.ALLOC, 1, 16), (Kind.FREE, 1, 0),
        ]  # fmt: skip
        assert (recording.unknown_frees, recording.lost_frees, recording.never_freed) == (2, 1, 0)

    @pytest.mark.parametrize("line", ["+ 8 1", "+ 8 1 xyz", "+ -8 1 f0", "+ 8 1 f0 9", "-", "- f0 f1", "+"])
    def test_malformed(self, tmp_path: Path, line: str) -> None:
        """An event that cannot be read is named by its line."""
        with pytest.raises(RecordingError, match=r"raw:3: expected '\+ SIZE TRACE ADDRESS' or"):
            heaptrack.read(written(tmp_path, f"v 10500 3\n+ 8 1 f0\n{line}\n- f0\n"))

    def test_killed(self, tmp_path: Path) -> None:
        """A last line that was cut off, as in a crash, is counted and left out."""
        recording = heaptrack.read(written(tmp_path, "v 10500 3\n+ 8 1 f0\n+ 8 1"))
        assert recording.ignored == {"cut-off last line": 1}
        assert len(recording.trace.operations) == 1

    def test_no_allocation(self, tmp_path: Path) -> None:
        """Frees alone are no recording."""
        with pytest.raises(RecordingError, match=r"raw:2: no allocation in this recording"):
            heaptrack.read(written(tmp_path, "v 10500 3\n- f0\n"))

    def test_command_line(self, tmp_path: Path) -> None:
        """A command line with comment signs, escapes and great length survives the trace's text."""
        text = "v 10500 3\nX = sh -c '#! \x1b[0m' " + "long " * 99 + "\n+ 8 1 f0\n"
        trace = heaptrack.read(written(tmp_path, text)).trace
        assert trace.header["source"].startswith("heaptrack raw 3, = sh -c '%23! \\x1b[0m' long")
        assert len(trace.header["source"]) <= 160
        assert Trace.parse(str(trace)) == trace
