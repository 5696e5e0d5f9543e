"""`heaplaw selftest`: what is planted is found, and what is not found is told."""

import json

import pytest

from heaplaw.fuzz import selftest
from heaplaw.properties.hunting import (
    CANARIES,
    FOUND,
    MISSED,
    NOT_RUN,
    UNCLEAR,
    Hunt,
    canary,
    hunt,
    hunted,
    hunts,
    quick,
)
from heaplaw.properties.shards import ENGINES


def hunted_as(verdict, engine="plain", target="tlsf+T29", seed=1):
    return Hunt(target, engine, seed, verdict, "counters" if verdict == FOUND else "")


class TestHunts:
    @pytest.mark.parametrize("engine", sorted(ENGINES))
    def test_canaries(self, engine):
        """Every engine finds its canary, by a trace of a few operations that a fresh process has replayed."""
        caught = hunt(canary(engine), engine, 1, 20.0)
        assert (caught.verdict, caught.length <= 4) == (FOUND, True)
        assert caught.trace.startswith("heaplaw trace 1")

    def test_every_engine_has_a_canary(self):
        """No engine is left out of the table, and none is in it that is gone."""
        assert CANARIES.keys() == ENGINES.keys()

    def test_an_innocent_is_not_found(self):
        """A target without a bug is missed, whoever hunts it."""
        assert hunt("subpage-buddy", "exhaustive", 1, 20.0).verdict == MISSED

    def test_the_quick_set(self):
        """One bug for each law that a bug of the gallery is said to break."""
        assert {bug.law for bug in quick()} == {bug.law for bug in hunted()}
        assert len(quick()) == len({bug.law for bug in hunted()})

    def test_a_process_that_dies(self):
        """A target that takes its process along costs its own hunt, and no other."""
        wanted = [("planted:Kills", "plain", 1, 5.0), ("tlsf+T10", "plain", 1, 20.0)]
        first, second = hunts(wanted, jobs=1)
        assert (first.verdict, second.verdict) == (UNCLEAR, FOUND)


class TestVerdicts:
    @pytest.mark.parametrize(
        ("canaries", "rest", "code"),
        [
            ([FOUND], [FOUND], 0),
            ([FOUND], [FOUND, MISSED], 0),  # another engine has found it
            ([FOUND], [MISSED, MISSED], 4),
            ([MISSED], [FOUND], 4),
            ([NOT_RUN], [FOUND], 3),
            ([FOUND], [UNCLEAR], 4),
        ],
    )
    def test_exit_code(self, canaries, rest, code):
        """4 for a canary or a bug that nobody has found, 3 for a canary that was not run."""
        ones = [hunted_as(verdict, engine) for verdict, engine in zip(rest, ("plain", "hypothesis"), strict=False)]
        assert selftest.exit_code([hunted_as(verdict) for verdict in canaries], ones) == code

    def test_each_seed_counts(self):
        """A bug that is found with one seed only is missed with the other."""
        ones = [hunted_as(FOUND, seed=1), hunted_as(MISSED, seed=2)]
        assert selftest.missed(ones) == ["tlsf+T29"]


class TestCommand:
    def test_one_bug(self, heaplaw, tmp_path):
        """A named bug is hunted by all engines; the report has what each found."""
        code, out, err = heaplaw("selftest", "T69", "--time", "20s", "--jobs", "1", "--json", tmp_path / "out.json")
        assert code == 0, err
        assert "every bug was found" in out
        data = json.loads((tmp_path / "out.json").read_text())
        assert {one["engine"] for one in data["hunts"]} == ENGINES.keys()

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [(["T999"], "no bug 'T999'"), (["PD08"], "nothing can find PD08"), (["--seeds", "0"], "--seeds")],
    )
    def test_usage(self, heaplaw, arguments, words):
        """What cannot be hunted is one line and exit code 2."""
        code, _, err = heaplaw("selftest", *arguments)
        assert code == 2
        assert words in err
