"""The committed certificates are what the exhaustive engine says today."""

import json

import pytest
import render_readme

from heaplaw.impls.naming import parse
from heaplaw.impls.registry import BUILT_IN
from heaplaw.properties.exhaustive import explore
from heaplaw.properties.tiny import tiny

COMMITTED = {proof["target"]: proof for proof in json.loads(render_readme.CERTIFICATES.read_text())["targets"]}
QUICK = 2_500  # transitions: more would take a test longer than a second or two
AGE = {"seconds", "rate"}


def test_every_target_has_one():
    """Each built-in target closes or is covered to a depth of 8, and breaks no law."""
    assert [parse(name).base for name in COMMITTED] == list(BUILT_IN)
    for name, proof in COMMITTED.items():
        assert proof["closed"] or proof["depth"] >= 8, name
        assert not proof["counterexample"]
        assert not proof["stopped"] + proof["unconfirmed"]


@pytest.mark.parametrize("name", [name for name, proof in COMMITTED.items() if proof["transitions"] < QUICK])
def test_small_ones_again(name):
    """A search that takes a moment gives the committed certificate again, to the last count."""
    search = tiny(parse(name).base)
    again = explore(search.name, depth=search.depth, sizes=search.sizes).as_data()
    assert {key: value for key, value in again.items() if key not in AGE} == {
        key: value for key, value in COMMITTED[name].items() if key not in AGE
    }


def test_one_of_them_to_a_lesser_depth():
    """Cut off at depth 3, the levels of a large search are the first of the committed ones."""
    for name in COMMITTED:
        search = tiny(parse(name).base)
        assert explore(search.name, depth=3, sizes=search.sizes).levels == tuple(COMMITTED[name]["levels"][:4])
