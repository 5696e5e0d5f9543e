"""Theorems, their controls, what is remembered of them, and the engine made of them."""

import ast
import multiprocessing
from random import Random

import pytest

pytest.importorskip("z3", reason="z3-solver is not installed: pip install 'heaplaw[symbolic]'")

from heaplaw.impls.naming import TargetError
from heaplaw.lawbook import LAWS
from heaplaw.properties.mutation import Finder, loaded_anew, text_of
from heaplaw.properties.proofs import asking, engine, remembered, wrong_kernels
from heaplaw.properties.proofs.proving import PROVED, REFUTED, UNCLEAR, Proof, bits_of, differs, prove
from heaplaw.properties.proofs.theorems import Given, all_theorems, find, one_request
from heaplaw.properties.replay import recurs
from heaplaw.properties.verdict import Status

THEOREMS = all_theorems()
MAPPING = "heaplaw.impls.tlsf_mapping"


class TestTheorems:
    @pytest.mark.parametrize("theorem", THEOREMS, ids=lambda theorem: theorem.id)
    def test_controls(self, theorem):
        """Every wrong kernel is refuted, and its counterexample is told as a trace that breaks a law."""
        assert theorem.controls
        for control in theorem.controls[:1]:  # all of them: heaplaw prove
            proof = prove(theorem, control.target, control=control)
            assert (proof.verdict, proof.law != "") == (REFUTED, True), (control.target, proof.why)
            assert recurs(proof.trace)

    @pytest.mark.parametrize("theorem", THEOREMS, ids=lambda theorem: theorem.id)
    def test_both_worlds(self, theorem):
        """On random values the claim says of integers what it says of words."""
        assert differs(theorem, theorem.targets[-1], Random(theorem.id)) is None

    def test_what_they_are(self):
        """Enough of them, about enough targets, each with a law that there is, and each in one sentence."""
        assert len(THEOREMS) >= 25
        assert len({theorem.target for theorem in THEOREMS}) >= 10
        for theorem in THEOREMS:
            assert theorem.law in LAWS, theorem.id
            assert theorem.sentence.endswith("."), theorem.id
            assert theorem.kernels, theorem.id

    def test_bugs_refuted_by_proof_alone(self):
        """At least ten bugs of the gallery that concern sizes and classes are refuted without a run."""
        bugs = {control.target.partition(",")[0] for theorem in THEOREMS for control in theorem.controls}
        assert len({name for name in bugs if "+" in name}) >= 10

    def test_both_widths(self):
        """Targets that know both widths of words are proved for both."""
        for theorem in THEOREMS:
            if theorem.target in ("tlsf", "xen-tlsf"):
                assert {bits_of(target) for target in theorem.targets} == {32, 64}, theorem.id


class TestProving:
    def test_one_constant(self):
        """The rounding mask of the search, a bit too short, turns its theorems red, and nothing else is touched."""
        text = text_of(MAPPING)
        before, after = "return (size + below) & ~below & mask", "return (size + (below >> 1)) & ~below & mask"
        assert text.count(before) == 1
        with loaded_anew(Finder(MAPPING, ast.parse(text.replace(before, after)))):
            red = {name: prove(find(f"tlsf/{name}"), "tlsf").verdict for name in (
                "finds-no-smaller", "serves-enough", "lists-are-in-order", "room-for-the-links",
            )}  # fmt: skip
        assert red == {
            "finds-no-smaller": REFUTED, "serves-enough": REFUTED, "lists-are-in-order": PROVED,
            "room-for-the-links": PROVED,
        }  # fmt: skip
        assert prove(find("tlsf/serves-enough"), "tlsf").verdict == PROVED

    def test_too_few_steps(self):
        """A solver that may do too little leaves it open: inconclusive, never proved."""
        proof = prove(find("tlsf/finds-no-smaller"), "tlsf", steps=2000)
        assert (proof.verdict, "gave up" in proof.why) == (UNCLEAR, True)

    def test_time_is_up(self):
        """So does the clock."""
        proof = prove(find("tlsf/finds-no-smaller"), "tlsf", seconds=0.001)
        assert (proof.verdict, proof.why) == (UNCLEAR, "time was up")

    def test_a_kernel_that_loops(self):
        """A kernel that does not end where no solver is asked is inconclusive as well."""

        def loops(heap, given):
            while True:
                pass

        proof = prove(find("tlsf/serves-enough")._replace(claim=loops), "tlsf", seconds=0.2)
        assert (proof.verdict, "come to an end" in proof.why) == (UNCLEAR, True)

    def test_nothing_is_claimed(self):
        """A theorem about no value at all is not proved."""
        empty = find("tlsf/serves-enough")._replace(claim=lambda heap, given: given.assume(given("size", 1, 9) > 9))
        proof = prove(empty, "tlsf")
        assert (proof.verdict, proof.why) == (UNCLEAR, "nothing is claimed of any value")

    def test_a_crash_refutes(self):
        """A kernel that raises for some value is wrong there."""

        def crashes(heap, given):
            size = given("size", 1, heap._mask)
            return 100 // (size - 77) < 101

        proof = prove(find("tlsf/serves-enough")._replace(claim=crashes), "tlsf")
        assert (proof.verdict, dict(proof.values)) == (REFUTED, {"size": 77})
        assert "breaks no law" in proof.why

    def test_one_wrong_value_among_paths_that_are_right(self):
        """What is refuted on one path stays refuted, whatever the paths behind it say, and though no trace shows it."""

        def claim(heap, given):
            size = given("size", 1, heap._mask)
            return size != 12345 if size < 50_000 else size > 0

        theorem = find("tlsf/serves-enough")._replace(claim=claim)
        proof = prove(theorem, "tlsf")
        assert (proof.verdict, dict(proof.values)) == (REFUTED, {"size": 12345})

    def test_other_counterexamples_are_tried(self):
        """One that no trace shows is followed by others, up to a limit."""

        def claim(heap, given):
            return given("size", 1, heap._mask) > 20

        told = []

        def story(heap, values):
            told.append(values["size"])
            return f"a = alloc {2**64 - 1 if len(told) > 2 else 8}"

        theorem = find("tlsf/serves-enough")._replace(claim=claim, trace=story, controls=())
        assert prove(theorem, "tlsf+T04").law == "big-enough"
        assert len(told) == len(set(told)) == 3

    def test_too_narrow(self):
        """Values that may leave the words make it inconclusive."""
        wide = find("tlsf/serves-enough")._replace(
            claim=lambda heap, given: given("size", 1, heap._mask) << 12 > 0
        )
        proof = prove(wide, "tlsf")
        assert (proof.verdict, "72 bits" in proof.why) == (UNCLEAR, True)

    def test_integers_have_the_last_word(self, monkeypatch):
        """A counterexample that is none for integers is not told to anybody."""
        theorem = find("tlsf/serves-enough")
        other = theorem._replace(claim=lambda heap, given: not isinstance(given("size", 0, 9), int) and False)
        monkeypatch.setattr(type(other), "holds_for", lambda self, heap, values: True)
        assert prove(other, "tlsf").verdict == UNCLEAR

    def test_given(self):
        """Inputs that are integers are those given, else drawn within their bounds; the same seed draws the same."""
        drawn = [Given(rng=Random(seed))("size", 5, 2**64 - 1) for seed in range(200)]
        assert all(5 <= size < 2**64 for size in drawn)
        assert min(drawn) < 100
        assert max(drawn) > 2**63
        assert drawn[7] == Given(rng=Random(7))("size", 5, 2**64 - 1)
        with pytest.raises(KeyError):
            Given({"size": 3})("align", 1, 8)

    def test_stories(self):
        """A request is told as a line of a trace."""
        assert one_request(None, {"size": 5}) == "a = alloc 5"
        assert one_request(None, {"size": 5, "align": 16}) == "a = alloc 5 align 16"

    def test_wrong_kernels_are_as_they_are_said_to_be(self):
        """A change of what is not there is an error, not a kernel that is right."""
        with pytest.raises(ValueError, match="0 times"):
            wrong_kernels.changed("tlsf", "tlsf_mapping", "no such text", "")


class TestAsking:
    def test_which_questions(self):
        """A plain name is asked in all configurations with its controls, any other one as it is."""
        asked = asking.questions(("tlsf",), methods=("kernel",))
        assert {one.target for one in asked if not one.control} >= {"tlsf,word=32,sl=2", "tlsf,word=64,sl=5"}
        assert "tlsf+T04" in {one.target for one in asked if one.control}
        assert {one.target for one in asking.questions(("tlsf+T04",))} == {"tlsf+T04"}
        assert not any(one.control for one in asking.questions(("tlsf",), controls=False))

    @pytest.mark.parametrize(
        ("names", "theorems", "words"),
        [
            (("nothing",), (), "nothing"),
            (("honest:Fit",), (), "no theorems about honest:Fit"),
            (("tlsf",), ("tlsf/nonsense",), "nonsense"),
            (("tlsf,word=7",), (), "word is 32 or 64"),
        ],
    )
    def test_what_cannot_be_asked(self, names, theorems, words):
        """... is said in one line."""
        with pytest.raises(TargetError, match=words):
            asking.questions(names, theorems=theorems)

    def test_a_class_of_ones_own(self):
        """A theorem that is named is asked about a class that has what it calls."""
        target = "heaplaw.properties.proofs.wrong_kernels:OneRowUp"
        [question] = asking.questions((target,), theorems=("tlsf/wastes-little",))
        [asked] = asking.answers([question])
        assert (asked.verdict, asked.good) == (REFUTED, False)

    def test_memory(self, tmp_path):
        """What is certain is remembered; what cannot be read is proved anew; a changed text has another key."""
        memory = remembered.Memory(tmp_path / "proofs")
        asked = asking.questions(("tlsf+T04", "tlsf,word=32"), theorems=("tlsf/serves-enough",))
        first = asking.answers(asked, memory=memory)
        again = asking.answers(asked, memory=memory)
        assert [one.known for one in first] == [False, False]
        assert [one.known for one in again] == [True, True]
        assert [one.proof for one in first] == [one.proof for one in again]
        assert again[0].recurs  # replayed all the same
        files = sorted((tmp_path / "proofs").iterdir())
        assert len(files) == 2
        files[0].write_text("{")
        assert sorted(one.known for one in asking.answers(asked, memory=memory)) == [False, True]
        unsure = Proof("tlsf/serves-enough", "tlsf", UNCLEAR)
        memory.keep("unsure", unsure)
        assert memory.recall("unsure") is None

    def test_keys(self, monkeypatch):
        """Keys follow the text of everything behind a target, and the solver's version."""
        before = remembered.key("kernel", "heaplaw.impls.tlsf")
        assert "heaplaw.impls.bits" in remembered.modules_behind("heaplaw.impls.tlsf")
        assert "heaplaw.properties.proofs.words" in remembered.modules_behind(asking.__name__)
        for name, wrong in (("_all_text", lambda module: "another text"), ("_version", lambda package: "another")):
            with monkeypatch.context() as patched:
                patched.setattr(remembered, name, wrong)
                assert remembered.key("kernel", "heaplaw.impls.tlsf") != before
        assert remembered.key("kernel", "heaplaw.impls.tlsf") == before

    def test_a_folder_that_cannot_be_written(self, tmp_path):
        """Nothing is remembered, and nothing fails."""
        (tmp_path / "file").write_text("")
        memory = remembered.Memory(tmp_path / "file")
        memory.keep("key", Proof("a/b", "tlsf", PROVED))
        assert memory.recall("key") is None


class TestEngine:
    def test_a_target_that_is_right(self):
        """The laws that theorems are about pass, and no others."""
        tally = engine.check("tlsf,word=32", 1, 1, only=("big-enough", "tiling", "contents"))
        assert not tally.findings
        assert tally.status("big-enough") == tally.status("tiling") == Status.PASSED
        assert tally.status("contents") == Status.NOT_RUN

    @pytest.mark.parametrize("bug", ["tlsf+T15", "tlsf+T69", "tlsf+T02", "zsmalloc+ZS12", "zbud+ZF07"])
    def test_bugs(self, bug):
        """A bug is found, by a trace that a fresh process sees too."""
        tally = engine.check(bug, 1, 1, most=1)
        [found] = tally.findings
        assert recurs(str(found.trace))

    def test_time_is_up(self):
        """What was not proved is inconclusive, and nothing is green."""
        tally = engine.check("tlsf", 1, 1, deadline=0.0)
        assert not tally.evidence.total()
        assert tally.operations < tally.planned
        assert tally.stopped == "time was up"

    def test_nothing_to_prove(self):
        """A target without theorems executes nothing."""
        tally = engine.check("honest:Fit", 1, 1)
        assert (tally.operations, tally.evidence.total()) == (0, 0)

    def test_without_a_solver(self, monkeypatch):
        """It says what to install."""
        monkeypatch.setattr(engine.importlib.util, "find_spec", lambda name: None)
        assert "heaplaw[symbolic]" in engine.unavailable()


def busy():
    """Keep a processor busy."""
    while True:
        pass


class TestLoad:
    def test_four_busy_processes(self):
        """Beside four busy processes a proof is a proof, or inconclusive: the solver's work is counted in steps."""
        context = multiprocessing.get_context("spawn")
        others = [context.Process(target=busy, daemon=True) for _ in range(4)]
        for other in others:
            other.start()
        try:
            right = prove(find("tlsf/serves-enough"), "tlsf")
            wrong = prove(find("tlsf/serves-enough"), "tlsf+T15")
        finally:
            for other in others:
                other.kill()
                other.join()
        assert right.verdict in (PROVED, UNCLEAR)
        assert wrong.verdict in (REFUTED, UNCLEAR)
