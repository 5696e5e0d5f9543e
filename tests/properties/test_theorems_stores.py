"""Theorems of the stores of compressed pages: what their bounds leave out, and what they take for granted."""

from itertools import product
from random import Random
from typing import Any

import pytest

from heaplaw.impls.naming import parse
from heaplaw.impls.registry import factory
from heaplaw.impls.zsmalloc_classes import class_table
from heaplaw.properties.proofs.about_afmalloc import _made
from heaplaw.properties.proofs.paths import Paths, Vacuous
from heaplaw.properties.proofs.proving import _Fixed
from heaplaw.properties.proofs.theorems import Given, find
from heaplaw.protocol import Refusal


def _fresh(target: str) -> Any:
    return factory(target)()


def test_zsmalloc_some_class_has_the_longest_chain() -> None:
    """The theorems about chains try every length that a pool allows."""
    for name in ("least-waste", "most-percent", "rules-agree"):
        for target in find(f"zsmalloc/{name}").targets:
            chain = parse(target).parameters.get("chain", 4)
            assert max(kind.pages for kind in _fresh(target)._table.distinct) == chain


def test_zsmalloc_the_rules_do_differ() -> None:
    """Where no chain is free of waste the two rules need not agree, and by default tables they do not."""
    percent, exact = (class_table(4096, 8, 8, rule, merge=False).by_index for rule in ("percent", "exact"))
    differing = [one.size for one, other in zip(percent, exact, strict=True) if one.pages != other.pages]
    assert 208 in differing
    assert all(4096 * pages % size for size in differing for pages in range(1, 9))


@pytest.mark.parametrize("last", [0, 1])
def test_zbud_finds_room_among_64_chunks(last: int) -> None:
    """The search theorem, proved for 4 and 8 chunks, holds for every two counts of chunks of the default page."""
    theorem, pool = find("zbud/finds-room"), _fresh("zbud")
    sizes = range(pool._chunk, pool._max_size + 1, pool._chunk)
    for there, size in product(sizes, sizes):
        assert theorem.holds_for(pool, {"there": there, "size": size, "last": last})


@pytest.mark.parametrize("target", ["afmalloc", "afmalloc,word=4", "afmalloc,piece=256,max_level=8"])
def test_afmalloc_splits_over_the_proofs_kmalloc_as_over_its_own(target: str) -> None:
    """The kmalloc of the proofs changes no piece: the extents of a real object are what it notes."""
    rng = Random(7)
    for length in [33, 64, 65, 2047, *(rng.randrange(1, 2048) for _ in range(40))]:
        real = _fresh(target)
        handle = real.alloc(length)
        answer, slab = _made(_fresh(target), length)
        if isinstance(handle, Refusal):
            assert answer is handle
            continue
        extents = [size for _, _, size in real.extents(handle)]
        if not answer & 1:
            assert slab.sizes[1:] == extents
        else:
            assert slab.sizes[-1] == length <= extents[0]
            assert len(extents) == 1


@pytest.mark.parametrize("target", ["afmalloc", "afmalloc,word=4", "afmalloc,max_level=2"])
@pytest.mark.parametrize("name", ["pieces-hold", "split-pays"])
def test_afmalloc_beyond_the_bound(name: str, target: str) -> None:
    """What is proved below 2048 bytes holds for integers up to a page, at every edge of the split."""
    theorem = find(f"afmalloc/{name}")
    for units, rest in product(range(64, 128), (0, 1, 31)):
        assert theorem.holds_for(_fresh(target), {"units": units, "rest": rest})


@pytest.mark.parametrize("name", ["keeps-every-byte", "serves-what-two-hold"])
def test_xcfmalloc_on_pages_of_eight_blocks(name: str) -> None:
    """What is proved on pages of 4 blocks holds for integers on pages of 8, for all blocks and edges of sizes."""
    theorem = find(f"xcfmalloc/{name}")
    blocks = range(64, 513, 64)
    for block, other in product(blocks, blocks):
        for edge, off in product((block, other, block + other - 16), (-17, -16, -15)):
            values = {"block": block, "other": other, "size": min(max(edge + off, 0), 496)}
            assert theorem.holds_for(_fresh("xcfmalloc,pages=2,reserve=1,page_size=512"), values)


@pytest.mark.parametrize("name", ["pieces-add-up", "refused-for-want"])
def test_compcache_with_the_default_lists(name: str) -> None:
    """What is proved for one list and two holds for integers on eight."""
    theorem, rng = find(f"compcache/{name}"), Random(3)
    for _ in range(400):
        hole, other = rng.randrange(1, 64), rng.randrange(1, 64)
        size = rng.choice([hole, other, hole + other, rng.randrange(1, 65)]) + rng.randrange(-1, 2)
        values = {"hole": hole, "other": other, "size": min(max(size, 1), 64)}
        assert theorem.holds_for(_fresh("compcache,pages=2,page_size=64"), values)


_BREAKS: dict[str, dict[str, int]] = {
    "zsmalloc/serves-enough": {"size": 3260},
    "zbud/chunks-cover": {"size": 3969},
    "afmalloc/pieces-hold": {"units": 47, "rest": 0},
    "xcfmalloc/serves-what-two-hold": {"size": 120, "block": 128, "other": 128},
    "compcache/refused-for-want": {"hole": 27, "other": 29, "size": 32},
}


@pytest.mark.parametrize("id", _BREAKS)
def test_a_claim_is_no_tautology(id: str) -> None:
    """The same inputs satisfy a theorem on the target and break it on its first control."""
    theorem = find(id)
    assert theorem.holds_for(_fresh(theorem.targets[0]), _BREAKS[id])
    assert not theorem.holds_for(_fresh(theorem.controls[0].target), _BREAKS[id])


_FITTING: tuple[tuple[str, dict[str, int]], ...] = (
    ("zsmalloc/one-place", {"page0": 3, "page1": 9, "page2": 1, "page3": 7, "start": 4000, "length": 900, "byte": 200}),
    ("afmalloc/one-place", {"piece0": 256, "piece1": 64, "start": 100, "length": 210, "byte": 180}),
    ("compcache/one-place", {"piece": 8, "other": 44, "start": 3, "byte": 20, "after": 25}),
    ("compcache/neighbours-merge", {"before": 100, "freed": 200, "after": 300, "first": 1, "third": 0}),
    ("compcache/neighbours-merge", {"before": 1000, "freed": 96, "after": 3000, "first": 1, "third": 1}),
    ("xcfmalloc/headers-lead-both-ways", {"before": 64, "freed": 128, "after": 3904, "first": 0, "third": 1}),
    ("xcfmalloc/keeps-every-byte", {"size": 150, "block": 128, "other": 192}),
    ("xcfmalloc/serves-what-two-hold", {"size": 240, "block": 128, "other": 128}),
    ("afmalloc/undoes-what-was-had", {"units": 12, "rest": 17, "refused": 2}),
)


@pytest.mark.parametrize(("id", "values"), _FITTING)
def test_both_worlds_agree_where_something_is_claimed(id: str, values: dict[str, int]) -> None:
    """Values that fit what a theorem assumes, which a draw seldom does, satisfy it as integers and as words."""
    theorem = find(id)
    target = theorem.targets[0]
    assert theorem.claim(_fresh(target), Given(values))
    claimed = 0
    for path in Paths(72):
        try:
            said = theorem.claim(_fresh(target), _Fixed(path, values))
        except Vacuous:
            continue
        assert path.counterexample(said) is None
        claimed += path.example() is not None
    assert claimed == 1
