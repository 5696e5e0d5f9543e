"""`heaplaw mutate`: the score, what it leaves out, and its exit codes."""

import json

import pytest
from click.testing import CliRunner

from heaplaw.fuzz.mutating import Score, exit_code, mutate, table, verdict
from heaplaw.impls.naming import TargetError
from heaplaw.properties.mutants import Mutant
from heaplaw.properties.mutation import HUNG, KILLED, PUBLISHED, SURVIVED, Judged


def run(*words):
    """The command by itself: (exit code, output)."""
    result = CliRunner().invoke(mutate, list(map(str, words)), standalone_mode=False)
    assert result.exception is None, result.output
    return result.return_value, result.output


def judged(number, verdict, seconds=0.1):
    """A mutant that was judged so."""
    return Judged(Mutant("heaplaw.impls.x", number, number, "a", "b"), verdict, "disjoint", seconds, 9)


@pytest.fixture
def score():
    """Four judged, two of them killed; one set apart for each reason."""
    apart = {judged(8, "").mutant: "it is only faster", judged(9, "").mutant: PUBLISHED}
    some = [judged(1, KILLED), judged(2, KILLED, 0.3), judged(3, SURVIVED), judged(4, HUNG)]
    return Score("x", some, apart, frozenset(), 20)


def test_what_counts(score):
    """Killed among all that were judged: a hang counts against the score, what was set apart does not count."""
    assert score.share == 50.0
    assert (score.equivalent, score.seconds) == (1, [0.1, 0.3])
    [cells] = zip(*[column.cells for column in table([score]).columns], strict=True)
    assert cells == ("x", "6 of 20", "2", "1", "1", "1", "1", "50.0 %", "0.20", "0.30")


def test_exit_codes(score):
    """0 where the score is high enough, 4 where it is not, 3 where nothing was judged."""
    assert exit_code([score], 50) == 0
    assert exit_code([score], 51) == 4
    nothing = score._replace(judged=[])
    assert exit_code([score, nothing], 0) == 3
    assert nothing.share == 0.0
    assert "too few mutants are killed: x 50.0 % (exit 4)" in verdict([score], 4)
    assert "no mutant of x was judged" in verdict([nothing], 3)


def test_a_sample(tmp_path):
    """Some mutants of a target, drawn by the seed: told on the terminal and, with each mutant's fate, as JSON."""
    words = ("--sample", 4, "--time", "0.5s", "--jobs", 1, "--least", 0, "--json", tmp_path / "out.json", "-v")
    code, out = run("subpage-buddy", *words)
    assert code == 0
    assert "4 of " in out
    assert "killed by" in out
    data = json.loads((tmp_path / "out.json").read_text())
    [target] = data["targets"]
    assert target["judged"] + len(target["apart"]) == 4
    assert target["killed"] + target["survived"] + target["inconclusive"] == target["judged"] > 0
    assert all(one["law"] for one in target["mutants"] if one["verdict"] == KILLED)


def test_bad_input():
    """What is not built in has no code of ours to change."""
    with pytest.raises(TargetError, match="not built in"):
        CliRunner().invoke(mutate, ["mine.py:Mine"], standalone_mode=False, catch_exceptions=False)
