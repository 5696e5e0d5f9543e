"""The zram experiment counts what is stored, gives everything back, and notices lost contents."""

import json
import random
import sys
from itertools import pairwise

import lz4.block
import pytest

from heaplaw.fuzz.published import zram
from heaplaw.fuzz.published.zram import PAGE, Disk, ExperimentError, compressor, experiment

ZSMALLOC = "zsmalloc,chain=8"
TEXT = b"".join(b"line %d of a file that compresses well enough\n" % n for n in range(4000))


@pytest.fixture
def tree(tmp_path):
    """Three directories and a file beside them: text, zeros, noise."""
    noise = random.Random(1).randbytes(3 * PAGE)
    files = {"a/text": TEXT[:50_000], "a/deep/more": TEXT[7:9000], "b/noise": noise, "top": TEXT[:10]}
    files["c/zeros"] = bytes(2 * PAGE)
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    return tmp_path


def steps(tree, **options):
    return list(experiment(tree, [ZSMALLOC], compressor("lz4"), **options))


class TestTable:
    def test_what_is_stored(self, tree):
        """The data are all pages, the compressed size what the library says, but for zeros and noise."""
        first, *_ = steps(tree)
        texts = [TEXT[:50_000], TEXT[7:9000], TEXT[:10]]
        pages = [data[at : at + PAGE].ljust(PAGE, b"\0") for data in texts for at in range(0, len(data), PAGE)]
        packed = sum(len(lz4.block.compress(page, store_size=False)) for page in pages)
        assert first.original == (len(pages) + 3 + 2) * PAGE
        assert first.compressed == packed + 3 * PAGE
        assert first.used == first.pages >= first.compressed

    def test_removing(self, tree):
        """Each removal takes its directory's pages away; a zspage of three pages holds what is left."""
        table = steps(tree, folders=("c", "b", "a"))
        assert [step.name for step in table] == ["untar", "rm c", "rm b", "rm a"]
        taken = [one.original - two.original for one, two in pairwise(table)]
        assert taken == [2 * PAGE, 3 * PAGE, (13 + 3) * PAGE]
        assert table[-1].original == PAGE
        assert table[-1].pages == 3 * PAGE  # 48 bytes an object

    @pytest.mark.parametrize("lag", [0, 1, 5, 100])
    def test_rounds(self, tree, lag):
        """Every round stores the same again, however far its writes come behind its unlinks."""
        table = steps(tree, rounds=3, lag=lag)
        sizes = [(step.name, step.original, step.compressed) for step in table]
        assert sizes == sizes[: len(sizes) // 3] * 3

    def test_largest_first(self, tree):
        """Without the posting's five directories the largest go first."""
        assert [step.name for step in steps(tree)][1:] == ["rm a", "rm b", "rm c"]

    def test_percent(self):
        """The ratio is overhead over compressed data, as in the posting's first line: 5.34 %."""
        step = zram.Step(1, "untar", "zsmalloc", 526_230_000, 199_180_000, 209_810_000, 209_810_000)
        assert (step.overhead, round(step.percent, 2)) == (10_630_000, 5.34)


class TestDisk:
    def test_lost_contents(self):
        """A store that changes a byte of what it holds is found out when the page is discarded."""
        disk = Disk([ZSMALLOC], compressor("lz4"), 64)
        page = disk.write(TEXT[:PAGE])
        store = disk.stores[0]
        (_, start, _), *_ = store.extents(page.handles[0])
        store.source.memory[start + 30] ^= 1
        with pytest.raises((ExperimentError, lz4.block.LZ4BlockError)):
            disk.discard([page])

    def test_full(self):
        """A store that refuses ends the experiment with its name."""
        disk = Disk([ZSMALLOC], compressor("lz4"), 8)
        noise = random.Random(2)
        for _ in range(8):
            disk.write(noise.randbytes(PAGE))
        with pytest.raises(ExperimentError, match=r"zsmalloc,chain=8 refused 4096 bytes after 32,768"):
            disk.write(noise.randbytes(PAGE))

    def test_threshold(self):
        """With chains of four pages a page is stored as it is from 3,257 packed bytes on, as in the kernel."""
        assert Disk(["zsmalloc,chain=4"], compressor("lz4"), 64).huge == 3257


def test_recording():
    """The recording has ten rounds of six steps, and its own ratios follow from its sizes."""
    rows = zram.recording()
    assert len(rows) == 60
    assert round(rows[1, "untar"].percent, 2) == 2.88
    assert round(rows[10, "rm include"].percent, 2) == 19.27


@pytest.mark.parametrize(("distance", "words"), [(2.9, "follows the"), (3.1, "does not follow")])
def test_verdict(distance, words):
    """Three percentage points decide whether the recording is followed."""
    kernel = zram.recording()[1, "untar"]
    used = kernel.used + round(distance * kernel.compressed / 100)
    step = zram.Step(1, "untar", ZSMALLOC, kernel.original, kernel.compressed, used, used)
    assert words in zram.verdict([step], {(1, "untar"): kernel})


class TestCommand:
    def test_table(self, heaplaw, tree, tmp_path):
        """The command prints a line for each step, says when there is nothing to compare, and writes JSON."""
        code, out, _ = heaplaw("reproduce", "zram", tree, "--target", ZSMALLOC, "--json", tmp_path / "out.json")
        assert code == 0
        assert all(text in out for text in ("untar", "rm a", "rm b", "rm c", "Not compared"))
        lines = json.loads((tmp_path / "out.json").read_text())
        assert [line["name"] for line in lines] == ["untar", "rm a", "rm b", "rm c"]
        assert lines[0]["overhead"] == lines[0]["pages"] - lines[0]["compressed"]

    @pytest.mark.parametrize(
        ("arguments", "line"),
        [
            (["--remove", "nope"], "has no directory 'nope'"),
            (["--with", "zip"], "'zip' is not one of"),
            (["--target", "nothing"], "unknown target 'nothing'"),
            (["--rounds", "0"], "0 is not in the range"),
        ],
    )
    def test_bad_input(self, heaplaw, tree, arguments, line):
        """Bad input gets one line and exit code 2."""
        code, _, err = heaplaw("reproduce", "zram", tree, *arguments)
        assert (code, err.count("\n")) == (2, 1)
        assert line in err

    def test_missing_library(self, monkeypatch):
        """A missing compressor is named with the extra that brings it."""
        monkeypatch.setitem(sys.modules, "lzo", None)
        with pytest.raises(ExperimentError, match=r"lzo is not installed; run: pip install 'heaplaw\[lzo\]'"):
            compressor("lzo")
