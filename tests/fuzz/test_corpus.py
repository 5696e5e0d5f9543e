"""The corpus: whole or not used, never emptied; and the committed one, replayed."""

import json
import os
from pathlib import Path

import pytest

from heaplaw.codec import VERSION
from heaplaw.fuzz.corpus import Corpus, as_trace
from heaplaw.fuzz.inputs import MAGIC, digest, encode, lift, pack, safe_name, unpack, variant_of
from heaplaw.fuzz.pruning import reached, smallest
from heaplaw.fuzz.store import Folder, StoreError, open_store, write_whole
from heaplaw.impls.registry import BUILT_IN, variants
from heaplaw.operations import Kind, Operation
from heaplaw.trace import Trace

COMMITTED = Path(__file__).parent.parent / "data" / "corpus"


def some(count, seed=1):
    """Random inputs."""
    import random

    rng = random.Random(seed)
    return [pack(rng.randbytes(8 + 4 * rng.randrange(4, 30)), rng.randrange(6)) for _ in range(count)]


@pytest.fixture(params=["folder", "file://", "memory://"])
def place(request, tmp_path):
    """A place for a corpus: a folder, and two URLs."""
    if request.param == "folder":
        return str(tmp_path / "corpus")
    if request.param == "file://":
        return f"file://{tmp_path}/corpus"
    pytest.importorskip("fsspec")
    return f"memory://{tmp_path.name}/corpus"


class TestPlaces:
    def test_added_and_loaded(self, place):
        """What is added is loaded again under its SHA-1, twice added is there once, and removed it is gone."""
        corpus = Corpus(place)
        assert corpus.targets() == []
        assert corpus.load("buddy").inputs == {}
        one, two = some(2)
        names = [corpus.add("buddy", one), corpus.add("buddy", two), corpus.add("buddy", one)]
        corpus.add("mine.py:Heap", two)
        assert names[0] == names[2] == digest(one)
        assert sorted(corpus.targets()) == ["buddy", "mine.py:Heap"]
        assert Corpus(place).load("buddy").inputs == {digest(one): one, digest(two): two}
        corpus.remove("buddy", [digest(one)])
        corpus.remove("buddy", [digest(one)])
        assert corpus.names("buddy") == [digest(two)]

    def test_what_is_damaged_is_never_used(self, place):
        """Files that do not hash to their names are reported in one line and not used; the whole ones are."""
        corpus = Corpus(place)
        good, bad, worse = some(3)
        corpus.add("buddy", good)
        folder = safe_name("buddy")
        corpus.store.write(f"{folder}/{digest(bad)}", bad[:-1])
        corpus.store.write(f"{folder}/{digest(worse)}", b"")
        corpus.store.write(f"{folder}/notes.txt", b"hello")
        loaded = corpus.load("buddy")
        assert loaded.inputs == {digest(good): good}
        assert set(loaded.damaged) == {digest(bad), digest(worse), "notes.txt"}
        [line] = loaded.complaints()
        assert "and 2 more damaged and not used" in line
        assert not loaded.unreadable
        corpus.remove("buddy", [digest(good)])
        assert corpus.load("buddy").unreadable

    def test_other_versions_are_skipped_aloud(self, place):
        """Inputs of another codec version stay where they are, are not used, and are counted in one line."""
        corpus = Corpus(place)
        body = bytes(16)
        old = [MAGIC + bytes((VERSION + 1, number)) + body for number in range(3)]
        for data in old:
            corpus.store.write(f"buddy/{digest(data)}", data)
        loaded = corpus.load("buddy")
        assert loaded.inputs == {} == loaded.damaged
        [line] = loaded.complaints()
        assert f"3 inputs skipped: version {VERSION + 1}" in line
        assert len(corpus.names("buddy")) == 3
        with pytest.raises(ValueError, match="not an input"):
            corpus.add("buddy", old[0])

    def test_merged(self, place, tmp_path):
        """Merging takes in what is whole and new, once."""
        corpus, other = Corpus(place), Corpus(tmp_path / "other")
        one, two, three = some(3)
        corpus.add("buddy", one)
        for data in (one, two):
            other.add("buddy", data)
        other.add("tlsf", three)
        other.store.write(f"tlsf/{'0' * 40}", one)
        new, complaints = corpus.merge(other)
        assert new == 2
        assert len(complaints) == 1
        assert set(corpus.load("buddy").inputs.values()) == {one, two}
        assert corpus.merge(other)[0] == 0


class TestStore:
    def test_a_file_is_there_whole_or_not_at_all(self, tmp_path, monkeypatch):
        """A write that is interrupted before its end leaves the old file as it was, and nothing that is listed."""
        path = tmp_path / "x"
        write_whole(path, b"old")

        def interrupted(descriptor):
            raise KeyboardInterrupt

        monkeypatch.setattr(os, "fsync", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_whole(path, b"new")
        assert path.read_bytes() == b"old"
        assert Folder(tmp_path).names() == ["x"]

    def test_what_cannot_be_read_says_why(self, tmp_path):
        """A place that is no folder, a file that is gone and an unknown protocol are one line each."""
        (tmp_path / "file").write_text("x")
        with pytest.raises(StoreError, match="cannot read"):
            open_store(tmp_path / "file").names()
        with pytest.raises(StoreError, match="cannot read"):
            open_store(tmp_path).read("nothing")
        with pytest.raises(StoreError, match=r"cannot open|fsspec"):
            open_store("nonsense://x")


class TestPruning:
    def test_the_smallest_for_everything(self):
        """What stays reaches all that was reached; each of it reaches something that no smaller one that stays does."""
        inputs = {digest(data): data for data in some(40)}
        keep, drop = smallest("buddy", inputs, floor=1)
        assert sorted(keep + drop) == sorted(inputs)
        assert drop
        whole = {name: reached("buddy", data) for name, data in inputs.items()}
        assert set().union(*(whole[name] for name in keep)) == set().union(*whole.values())
        order = sorted(keep, key=lambda name: (len(inputs[name]), name))
        for index, name in enumerate(order):
            assert whole[name] - set().union(*(whole[smaller] for smaller in order[:index]), set())

    def test_lines_count_beside_states(self):
        """With lines of the allocator's own code more inputs are worth keeping than with states alone, never fewer."""
        inputs = {digest(data): data for data in some(40, seed=2)}
        with_lines, _ = smallest("tlsf", inputs, floor=1)
        without, _ = smallest("tlsf", inputs, floor=1, lines=False)
        assert len(with_lines) >= len(without) > 1
        assert any(what[0] == "line" for what in reached("tlsf", next(iter(inputs.values()))))

    def test_there_is_a_floor(self, monkeypatch):
        """Where nothing is reached any more, the floor's number of inputs stays all the same, the smallest ones."""
        from heaplaw.fuzz import pruning

        monkeypatch.setattr(pruning, "reached", lambda target, data, **how: set())
        inputs = {digest(data): data for data in some(30)}
        keep, drop = smallest("buddy", inputs, floor=10)
        assert (len(keep), len(drop)) == (10, 20)
        assert max(len(inputs[name]) for name in keep) <= min(len(inputs[name]) for name in drop)
        few = dict(list(inputs.items())[:4])
        assert smallest("buddy", few, floor=10) == (sorted(few), [])


class TestExchange:
    def test_there_and_back(self, tmp_path):
        """A trace of palette sizes becomes an input that means the same operations, and the input that trace."""
        trace = Trace([Operation(Kind.ALLOC, 0, 64), Operation(Kind.ALLOC, 1, 128), Operation(Kind.FREE, 0)],
                      {"target": "buddy,pages=64"})  # fmt: skip
        corpus = Corpus(tmp_path)
        name = corpus.add_trace("buddy", trace)
        back = as_trace("buddy", corpus.load("buddy").inputs[name])
        assert back.target == "buddy,pages=64"
        assert back.operations[:3] == trace.operations  # a run drains and destroys at its end
        assert corpus.add_trace("buddy", back) == corpus.add("buddy", encode(back, "buddy"))


class TestCommands:
    def test_list_check_prune_merge(self, heaplaw, tmp_path):
        """A corpus is listed, checked, pruned and merged; damage is said, and ends a check with 3."""
        corpus = Corpus(tmp_path / "one")
        for data in some(30):
            corpus.add("buddy", data)
        report = tmp_path / "list.json"
        assert heaplaw("corpus", "list", tmp_path / "one", "--json", report)[0] == 0
        assert json.loads(report.read_text())[0]["inputs"] == 30
        code, out, _ = heaplaw("corpus", "check", tmp_path / "one")
        assert (code, out) == (0, "30 inputs of 1 targets run, 0 break a law, 0 files are damaged\n")
        assert heaplaw("corpus", "prune", tmp_path / "one", "--dry-run", "--floor", 1)[0] == 0
        assert len(corpus.names("buddy")) == 30
        assert heaplaw("corpus", "prune", tmp_path / "one", "--floor", 1)[0] == 0
        assert 1 < len(corpus.names("buddy")) < 30
        assert "were new" in heaplaw("corpus", "merge", tmp_path / "two", tmp_path / "one")[1]
        assert Corpus(tmp_path / "two").load("buddy") == corpus.load("buddy")
        corpus.store.write(f"buddy/{'0' * 40}", b"hl")
        code, _, err = heaplaw("corpus", "check", tmp_path / "one")
        assert code == 3
        assert "damaged and not used" in err

    def test_nothing_to_check(self, heaplaw, tmp_path):
        """An empty corpus is not green, and one that is no folder is bad input."""
        assert heaplaw("corpus", "check", tmp_path / "nothing")[0] == 3
        (tmp_path / "file").write_text("x")
        assert heaplaw("corpus", "list", tmp_path / "file")[0] == 2

    def test_an_input_that_breaks_a_law(self, heaplaw, tmp_path):
        """A check names the input and the law, and ends with 1."""
        trace = Trace.parse(["heaplaw trace 1", "target planted:ForgetsMerge", "a = alloc 1", "b = alloc 1", "free b"])
        Corpus(tmp_path).add_trace("planted:ForgetsMerge", trace)
        code, out, _ = heaplaw("corpus", "check", tmp_path)
        assert code == 1
        assert "breaks " in out

    def test_traces_in_and_out(self, heaplaw, tmp_path):
        """A trace file becomes an input, and the input a trace file."""
        file = tmp_path / "x.trace"
        file.write_text("heaplaw trace 1\ntarget buddy,pages=64\n1  a = alloc 64\n2  free a\n")
        assert heaplaw("corpus", "add", tmp_path / "c", file)[0] == 0
        [made] = (tmp_path / "c" / "buddy").iterdir()
        code, out, _ = heaplaw("corpus", "trace", made)
        assert code == 0
        assert "a = alloc 64" in out
        made.write_bytes(b"no input")
        assert heaplaw("corpus", "trace", made)[0] == 2


class TestCommitted:
    def test_every_target_has_some(self):
        """Each of the targets has a few inputs of a few thousand bytes, all whole and of this version."""
        corpus = Corpus(COMMITTED)
        assert corpus.targets() == sorted(BUILT_IN)
        for target in BUILT_IN:
            loaded = corpus.load(target)
            assert not loaded.damaged
            assert not loaded.unknown
            assert 5 <= len(loaded.inputs) <= 40
            assert sum(map(len, loaded.inputs.values())) <= 4000

    @pytest.mark.parametrize("target", BUILT_IN)
    def test_nothing_breaks(self, target):
        """No input breaks a law, every configuration is visited, and the named states that matter are reached."""
        inputs = Corpus(COMMITTED).load(target).inputs
        names = variants(target)
        words, visited, operations = set(), set(), 0
        for name, data in inputs.items():
            variant = variant_of(data, names)
            run = lift(variant, unpack(data))
            assert run.found is None, f"{target}/{name} breaks {run.found.law}"
            words |= {word for word, count in run.reached.items() if count}
            visited.add(variant)
            operations += len(run.operations)
        assert visited == set(names)
        assert operations > 200
        assert "refused" in words
        assert len(words) >= 6
