"""The Hypothesis engine: it finds planted bugs with one draw a run, and is a function of its seed."""

import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heaplaw import Contract
from heaplaw.checker import Checker
from heaplaw.codec import FIRST_BYTE, Codec
from heaplaw.impls.registry import BUILT_IN, factory
from heaplaw.operations import Kind
from heaplaw.properties import plain, shards, tallying, workhorse
from heaplaw.properties.steering import LENGTH, Head, Steering
from heaplaw.properties.verdict import Status, exit_code
from heaplaw.properties.workhorse import Fed, check


class TestPlantedBugs:
    @pytest.mark.parametrize(
        ("name", "law", "most"),
        [
            ("Overlap", "disjoint", 4),
            ("RefuseAll", "no-spurious-refusal", 1),
            ("LeaksOnRefusal", "refusal-pure", 5),
            ("LosesTheLastByte", "contents", 2),
            ("Random", "deterministic", 6),
            ("ForgetsMerge", "coalesced", 4),
            ("Crashes", "returns", 4),
        ],
    )
    def test_found(self, name, law, most):
        """The bug's law is refuted, by a short trace that a fresh process confirms."""
        found = {f.violation.law: f for f in check(f"planted:{name}", 8_000, 1, only=[law]).findings}
        assert law in found
        assert len(found[law].trace.operations) <= most
        assert shards.confirm(found[law])

    def test_the_honest_one_passes(self):
        """The same allocator without a bug breaks nothing."""
        tally = check("planted:Good", 10_000, 1)
        assert tally.findings == []
        assert exit_code([tally]) == 0
        assert tally.status("disjoint") is Status.PASSED
        assert tally.status("placement") is Status.NOT_APPLICABLE

    def test_a_hang_ends(self, monkeypatch):
        """A target that loops for ever is a counterexample, and the engine comes back."""
        # every try to make it small would cost its whole time
        monkeypatch.setattr(tallying, "pinpoint_bounded", lambda build, found, mute: found)
        monkeypatch.setattr(tallying, "reduced", lambda name, found, mute, **how: (name, found))
        monkeypatch.setattr(plain, "_SEQUENCE_SECONDS", 0.5)
        tally = check("planted:Loops", 2_000, 1, only=["returns"])
        assert [f.violation.seen for f in tally.findings if f.violation.law == "returns"] == ["a hang"]

    @pytest.mark.parametrize(
        ("name", "laws"),
        [
            ("tlsf@conte-3.1,arena=4096", {"big-enough", "search-fit"}),
            ("percpu-bitmap@6.12,unit=96,block=32,chunks=1", {"hint-order"}),
        ],
    )
    def test_published_defects(self, name, laws):
        """Defects of published revisions are found, each by a trace of a few operations."""
        found = {f.violation.law: len(f.trace.operations) for f in check(name, 20_000, 1, only=laws).findings}
        assert laws <= found.keys()
        assert max(found[law] for law in laws) <= 12


class TestBookkeeping:
    def test_function_of_the_seed(self):
        """Same seed, same operations, evidence and traces; another seed, others."""
        one, two, other = (check("planted:Overlap", 4000, seed, only=["disjoint"]) for seed in (5, 5, 6))
        assert (one.operations, one.evidence, one.novelty.seen) == (two.operations, two.evidence, two.novelty.seen)
        assert [str(f.trace) for f in one.findings] == [str(f.trace) for f in two.findings]
        assert one.evidence != other.evidence

    def test_only_some_laws(self):
        """A check of one law judges no other."""
        tally = check("planted:Overlap", 3000, 1, only=["aligned"])
        assert tally.findings == []
        assert {law for law, count in tally.evidence.items() if count} == {"aligned"}

    def test_deadline(self):
        """A budget that is not spent in time is inconclusive; a deadline that is past runs nothing."""
        assert check("buddy", 10_000_000, 1, deadline=time.monotonic() + 0.3).status("disjoint") is Status.INCONCLUSIVE
        assert check("buddy", 1000, 1, deadline=time.monotonic() - 1).operations == 0

    def test_not_run_without_hypothesis(self, monkeypatch, capsys):
        """Where Hypothesis is missing nothing is green: no operation, exit code 3, one line that says what to do."""
        monkeypatch.setattr(workhorse, "unavailable", lambda: workhorse.MISSING)
        workhorse._complain_once.cache_clear()
        tally = check("buddy", 1000, 1)
        assert tally.operations == 0
        assert tally.status("disjoint") is Status.NOT_RUN
        assert exit_code([tally]) == 3
        assert capsys.readouterr().err.count("heaplaw[test]") == 1

    def test_much_of_a_target_is_reached(self):
        """A few thousand operations reach refusals, rare kinds and hundreds of abstract states."""
        tally = check("tlsf", 10_000, 1)
        assert len(tally.novelty.seen) > 300
        assert tally.refusals > 500
        assert {Kind(state[0]) for state in tally.novelty.seen} >= {Kind.ALLOC, Kind.FREE, Kind.REALLOC, Kind.WRITE}

    @pytest.mark.parametrize("name", BUILT_IN)
    def test_built_in_targets_pass(self, name):
        """No law breaks on a built-in target."""
        tally = check(name, 2000, 2, deadline=time.monotonic() + 20)
        assert [str(f.trace) for f in tally.findings] == []
        assert tally.operations > 0


class TestSteering:
    """The head of a buffer."""

    @settings(max_examples=60, deadline=None)
    @given(st.binary(min_size=LENGTH + 80, max_size=LENGTH + 80))
    def test_every_buffer_means_something(self, buffer):
        """Whatever the bytes are, the run is legal: it breaks no law of an honest allocator."""
        assert Fed(factory("planted:Good"), buffer, ()).go() is None

    @settings(max_examples=60, deadline=None)
    @given(st.binary(min_size=LENGTH, max_size=LENGTH), st.integers(0, 2**32 - 1))
    def test_codes_stay_in_the_codec(self, head, code):
        """What steering reads is a 32-bit code again, and of an allowed kind."""
        checker = Checker(factory("planted:Good")())
        read = Steering(Head(head), Codec(checker.contract), checker).read(code)
        assert 0 <= read < 2**32
        operation = Codec(checker.contract).decode(read, [], 0)
        assert operation.kind in (Kind.NOP, Kind.ALLOC, Kind.FREE) or Head(head).allows(operation.kind)

    def test_zeros_are_simplest(self):
        """A buffer of zeros does nothing but end."""
        run = Fed(factory("planted:Good"), bytes(LENGTH + 40), ())
        assert run.go() is None
        assert [op.kind for op in run.operations] == [Kind.DRAIN, Kind.DESTROY]

    def test_the_tide_fills_and_empties(self):
        """With the tide, a heap is full at one time and empty at another."""
        code = (int(FIRST_BYTE[Kind.ALLOC]) | 900 << 8).to_bytes(4, "little")
        run = Fed(factory("planted:Good"), bytes([0, 0, 4, 0, 0, 0, 0, 0]) + code * 300, ())
        live = []
        step = run.checker.step
        run.checker.step = lambda op: (step(op), live.append(run.checker.shadow.bytes))
        assert run.go() is None
        assert max(live) == 512
        assert 0 in live[live.index(512) : -2]

    def test_bands_lie_in_the_palette(self):
        """Whatever the head says, selectors of a band are selectors."""
        codec = Codec(Contract(arena=4096))
        for low in range(256):
            for high in (0, 1, 77, 255):
                band = Head(bytes([0, 0, 0, 0, low, high, 0, 0])).band(codec)
                assert all(0 <= selector < 4096 for selector in band)


def test_without_the_package():
    """In a Python without Hypothesis the engine and the plugin load, and the engine says what it lacks."""
    program = (
        "import sys; sys.modules['hypothesis'] = None\n"
        "import heaplaw.properties.pytest_plugin, heaplaw.properties.pytest_outcome\n"
        "from heaplaw.properties.workhorse import check\n"
        "assert check('buddy', 1000, 1).operations == 0\n"
        "try: import heaplaw.properties.machine\n"
        "except ImportError as missing: assert 'heaplaw[test]' in str(missing)\n"
        "else: assert False\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("needs the package hypothesis") == 1
