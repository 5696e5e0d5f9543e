"""Mutants of implementations: how they are made, and how they are judged."""

import ast

import pytest

from heaplaw.impls.naming import TargetError
from heaplaw.impls.registry import factory
from heaplaw.properties.equivalent_mutants import EQUIVALENT
from heaplaw.properties.mutants import mutants, mutated, only_for_states
from heaplaw.properties.mutants_apart import known_equivalents, never_run, set_apart
from heaplaw.properties.mutation import (
    HUNG,
    KILLED,
    PUBLISHED,
    SURVIVED,
    all_mutants,
    judge,
    modules_of,
    score,
    text_of,
)

CODE = '''
def _contract(n):
    return n + 1

def _round(n):
    """Up to 8."""
    return (n + 7) & ~7

class Heap:
    def __init__(self):
        self.contract = _contract(1)

    def alloc(self, size):
        if size < 1:
            raise ValueError("less than " + str(1))
        self.top = _round(size)
        while not self.done(size) and size != 3:
            break
        self.tell()
        return True

    def snapshot(self):
        return self.top + 1
'''


class TestMaking:
    def test_each_change(self):
        """Operators, comparisons, numbers, truth values, statements, loops: each once, in the order of the text."""
        assert [str(mutant).removeprefix("m:") for mutant in mutants("m", CODE)] == [
            "7 n + 7 & ~7 -> n + 7 | ~7",
            "7 n + 7 -> n - 7",
            "7 7 -> 8",
            "7 ~7 -> +7",
            "7 7 -> 8",
            "11 self.contract = _contract(1) -> pass",
            "11 1 -> 2",
            "14 size < 1 -> size <= 1",
            "14 1 -> 2",
            "16 self.top = _round(size) -> pass",
            "17 not self.done(size) and size != 3 -> not self.done(size) or size != 3",
            "17 not self.done(size) -> not not self.done(size)",
            "17 size != 3 -> size == 3",
            "17 3 -> 4",
            "18 break -> continue",
            "19 self.tell() -> pass",
            "20 True -> False",
        ]

    def test_promises_and_kept_states_are_left_alone(self):
        """What a contract is made of is the measure; snapshots are for another engine."""
        lines = {mutant.line for mutant in mutants("m", CODE)}
        assert not lines & {3, 15, 23}

    def test_one_change_each(self):
        """Every mutant differs from the text and from every other one, and compiles."""
        original = ast.unparse(ast.parse(CODE))
        texts = [ast.unparse(mutated(CODE, mutant.number)) for mutant in mutants("m", CODE)]
        assert len(set(texts)) == len(texts)
        assert original not in texts
        for text in texts:
            compile(text, "m", "exec")

    def test_no_such_mutant(self):
        """A number that no mutant has is an error."""
        with pytest.raises(IndexError):
            mutated(CODE, 999)


def find(target, words):
    """The mutant that is described so."""
    return next(mutant for mutant in all_mutants(target) if str(mutant).endswith(words))


class TestJudging:
    def test_modules(self):
        """A target's code is found from its imports; promises are no part of it."""
        names = [name.rpartition(".")[2] for name in modules_of("percpu-bitmap")]
        assert "percpu_chunk" in names
        assert not any("promises" in name for name in names)
        with pytest.raises(TargetError, match="not built in"):
            modules_of("mine.py:Mine")

    def test_killed(self):
        """A mutant that breaks a law is killed, and the law is named; the target is itself again afterwards."""
        judged = judge("subpage-buddy,pages=4", find("subpage-buddy", "self._release(page) -> pass"), 2.0, 1)
        assert judged.verdict == KILLED
        assert judged.law
        heap = factory("subpage-buddy,pages=4")()
        assert heap.free(heap.alloc(64)) is None

    def test_survived(self):
        """The target itself survives, as a mutant would that changes nothing."""
        elsewhere = find("tlsf", "-> pass")
        assert judge("buddy,pages=8", elsewhere, 0.3, 1).verdict == SURVIVED

    def test_a_hang_is_inconclusive(self, monkeypatch):
        """A mutant that hangs before a law is broken is not killed."""
        import heaplaw.properties.mutation as module

        endless = ast.parse("class Tlsf:\n    def __init__(self, arena=1):\n        while True: pass")
        monkeypatch.setattr(module, "mutated", lambda text, number: endless)
        monkeypatch.setattr(module, "_GRACE", 0.1)
        mutant = all_mutants("tlsf")[-1]._replace(module="heaplaw.impls.tlsf")
        assert judge("tlsf,arena=1024", mutant, 0.1, 1).verdict == HUNG

    def test_in_processes(self):
        """The score of some mutants does not depend on the number of processes; order is kept."""
        some = all_mutants("subpage-buddy")[:4]
        told = []
        judged = score("subpage-buddy", some, seconds=0.5, jobs=2, progress=told.append)
        assert [one.mutant for one in judged] == some
        assert told == [1, 2, 3, 4]
        assert {one.verdict for one in judged} <= {KILLED, SURVIVED, HUNG}

    def test_text(self):
        """The text of a module is its source."""
        assert "class Tlsf" in text_of("heaplaw.impls.tlsf")


class TestApart:
    def test_known_equivalents_exist(self):
        """Every entry of the table is still a mutant of its module, so that none outlives the line it speaks of."""
        made = {}
        for place, _, changes in EQUIVALENT:
            module, _, function = place.partition(":")
            full = f"heaplaw.impls.{module}"
            some = made.setdefault(full, mutants(full, text_of(full)))
            for text, change in changes:
                there = [m for m in some if m.text == text and function in ("", m.function)]
                found = [m for m in there if change in ("*", f"{m.before} -> {m.after}")]
                assert found, (module, text, change)
                assert set(known_equivalents(found)) == set(found)

    def test_code_of_published_revisions(self):
        """What only a published revision runs is set apart, and said so."""
        some = [mutant for mutant in all_mutants("tlsf") if mutant.module.endswith("tlsf_mapping")]
        apart = set_apart("tlsf,arena=1024", some, rounds=3)
        published = {mutant.text for mutant, why in apart.items() if why == PUBLISHED}
        assert "return align_up(size, alignment) & mask" in published
        assert not any("round_up" in text for text in published)

    def test_what_a_check_never_runs(self):
        """Code that no check comes to is told apart from code that a check runs."""
        some = all_mutants("xvmalloc")
        idle = {mutant.text for mutant in never_run("xvmalloc,pages=4", some, rounds=6)}
        assert "return self._total_pages << self._page_shift" in idle
        assert "return align_up(size, self._header)" not in idle

    def test_helpers_of_states_and_promises(self):
        """Functions that only snapshots or contracts need are left alone, though they stand in other modules."""
        one = "class A:\n    def free(self): self._a()\n    def restore(self, s): self._b(); self._a(); self.c()"
        two = "class B:\n    def _b(self): self._d()\n    def _a(self): 1\n    def _d(self): 2\n    def c(self): 3"
        assert only_for_states([ast.parse(one), ast.parse(two)]) == {"_b", "_d"}

    def test_modules_that_are_shared(self):
        """Of a module that several targets use, only what this one mentions is changed."""
        lines = [mutant.text for mutant in all_mutants("xvmalloc") if mutant.module.endswith("bits")]
        assert any("bit_length" in line for line in lines)
        assert not any("x > 0" in line for line in lines)
