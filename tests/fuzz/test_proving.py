"""``heaplaw prove``."""

import json

import pytest

pytest.importorskip("z3", reason="z3-solver is not installed: pip install 'heaplaw[symbolic]'")

from heaplaw.properties.proofs import asking
from heaplaw.properties.proofs.proving import PROVED, Proof
from heaplaw.properties.proofs.theorems import Control, find


class TestCommand:
    def test_proved(self, heaplaw, tmp_path):
        """A theorem with its controls: exit 0, a table, and a report."""
        out = tmp_path / "out.json"
        code, said, err = heaplaw(
            "prove", "tlsf", "--theorem", "tlsf/serves-enough", "--no-cache", "--jobs", "1", "--json", out, "-v"
        )
        assert code == 0, said + err
        assert "proved x4" in said
        assert "4 of 4" in said
        assert "for size = 18,446,744,073,709,551,61" in said
        data = json.loads(out.read_text())
        assert (data["format"], data["exit"]) == ("heaplaw proofs 1", 0)
        assert {one["verdict"] for one in data["questions"] if not one["control"]} == {PROVED}
        assert all(one["replayed"] for one in data["questions"] if one["control"])

    def test_refuted(self, heaplaw):
        """A bug: exit 1, the values, and the trace with its heap."""
        words = ("--theorem", "tlsf/room-for-the-links", "--no-cache", "--jobs", "1")
        code, said, _ = heaplaw("prove", "tlsf+T69", *words)
        assert code == 1
        assert "is refuted" in said
        assert "breaks tiling" in said
        assert "a = alloc " in said

    def test_inconclusive(self, heaplaw):
        """Time that is up: exit 3."""
        words = ("--theorem", "tlsf/finds-no-smaller", "--time", "0.001s", "--no-cache", "--jobs", "1")
        code, said, _ = heaplaw("prove", "tlsf,word=32", *words)
        assert code == 3
        assert "inconclusive: tlsf/finds-no-smaller" in said

    def test_a_control_that_holds(self, heaplaw, monkeypatch):
        """A wrong kernel that is proved: exit 4, for what is proved beside it is worth nothing."""
        theorem = find("tlsf/serves-enough")._replace(controls=(Control("tlsf"),))
        monkeypatch.setattr(asking, "all_theorems", lambda: (theorem,))
        monkeypatch.setattr(asking, "find", lambda id: theorem)
        proved = [asking.Asked(one, Proof(one.theorem, one.target, PROVED)) for one in asking.questions(("tlsf",))]
        monkeypatch.setattr(asking, "answers", lambda *args, **options: proved)
        code, said, _ = heaplaw("prove", "tlsf", "--no-cache")
        assert code == 4
        assert "tlsf must be refuted and is not" in said

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["nothing"], "nothing"),
            (["tlsf", "--theorem", "tlsf/no"], "no theorem tlsf/no about tlsf; there are tlsf/serves-enough"),
            (["tlsf", "--cache", "x", "--no-cache"], "exclude each other"),
            (["tlsf", "--time", "soon"], "'soon' is not a time"),
            (["tlsf", "--method", "magic"], "magic"),
        ],
    )
    def test_usage(self, heaplaw, arguments, words, tmp_path, monkeypatch):
        """Bad input: one line, exit 2."""
        monkeypatch.chdir(tmp_path)
        code, _, err = heaplaw("prove", *arguments)
        assert code == 2
        assert words in err
        assert len(err.strip().splitlines()) == 1

    def test_without_a_solver(self, heaplaw, monkeypatch):
        """It says what to install: exit 2."""
        import heaplaw.fuzz.extras as extras

        monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None)
        code, _, err = heaplaw("prove", "tlsf")
        assert code == 2
        assert "pip install 'heaplaw[symbolic]'" in err
