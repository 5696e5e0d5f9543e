"""Reading code as syntax trees and merging both ways: the same outcome as Python's own run of the same code."""

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest
import z3

from heaplaw.impls.percpu_blocks import BlockHints, free_runs, rescan, update_ordered
from heaplaw.impls.percpu_chunk import Chunk, Chunk414, Chunk2017, RepairedChunk
from heaplaw.properties.proofs.merged import Merged, NotSupported
from heaplaw.properties.proofs.words import Truth, Word

CLASSES = (RepairedChunk, Chunk, Chunk414, Chunk2017)


def evaluated(run: Merged, what: Any, values: dict[str, int]) -> Any:
    """A word, a truth or a number, for these inputs."""
    if not isinstance(what, Word | Truth):
        return what
    pairs = [(run.inputs[name].term, z3.BitVecVal(value, run.width)) for name, value in values.items()]
    found = z3.simplify(z3.substitute(what.term, *pairs))
    return z3.is_true(found) if isinstance(what, Truth) else found.as_signed_long()


def unmet(run: Merged, values: dict[str, int]) -> list[str]:
    """Duties that fail for these inputs."""
    return [why for duty, why in run.duties if evaluated(run, Truth(run, duty), values) is False]


# ---- what Python can say -----------------------------------------------------------------------


def _leaves_early(x: int, y: int) -> int:
    if x > y:
        if x & 1:
            return x - y
        y += 1
    elif x == y:
        return -1
    x, y = y, x
    return x * 2 + y if x else 7


def _loops(x: int, y: int) -> int:
    total = 0
    for step in range(6):
        if step == x:
            continue
        if step > y:
            break
        for inner in range(x):
            if inner > step:
                return total + 100
            total += inner
        total += step
    return total


def _goes_while(x: int, y: int) -> int:
    rounds = 0
    while x > 0 and rounds < 9:
        x >>= 1
        if x == y:
            break
        rounds += 1
    return rounds


def _pairs(x: int, y: int) -> Iterator[tuple[int, int]]:
    for at in range(x):
        if at == y:
            return
        if at & 1:
            continue
        yield at, at + y


def _feeds(x: int, y: int) -> int:
    total = 0
    for one, two in _pairs(x, y):
        if two == 6:
            break
        if one == 2:
            continue
        total += one + two
    return total + sum(1 for at in range(3) if at < y)


def _mixes(x: int, y: int) -> int:
    low = min(x, y, 3)
    value = (x and y) or low
    listed = [x, y, low]
    listed[x % 3 if x else 0] = 9
    if 1 < x <= y < 6 or not (x or y):
        value += max(x, -y)
    return value + listed[1] * 16 + abs(x - y) + (x == y) + int(x != y) * 3 + (x - y).bit_length() + (1 << y)


@pytest.mark.parametrize("function", [_leaves_early, _loops, _goes_while, _feeds, _mixes])
def test_statements_mean_what_python_means(function: Callable[[int, int], int]) -> None:
    """For all inputs, what a function returns merged is what it returns, and no duty is unmet."""
    run = Merged(16)
    found = run.call(function, run.word("x", 0, 7), run.word("y", 0, 7))
    for x in range(8):
        for y in range(8):
            values = {"x": x, "y": y}
            assert evaluated(run, found, values) == function(x, y)
            assert not unmet(run, values)


@pytest.mark.parametrize("function", [_leaves_early, _loops, _goes_while, _feeds, _mixes])
def test_bounds_cover_what_is_merged(function: Callable[[int, int], int]) -> None:
    """The bounds of a merged value hold what either way left."""
    run = Merged(16)
    found = run.call(function, run.word("x", 0, 7), run.word("y", 0, 7))
    assert all(found.low <= function(x, y) <= found.high for x in range(8) for y in range(8))


# ---- what is owed ------------------------------------------------------------------------------


def _shifts(x: int, y: int) -> int:
    return 1 << (x - y) if x >= 2 else 0


def _reads_unbound(x: int, y: int) -> int:
    if x > y:
        found = x
    return found


def _raises(x: int, y: int) -> int:
    if x > 6:
        raise ValueError(x)
    return [1, 2, 3][y]


@pytest.mark.parametrize("function", [_shifts, _reads_unbound, _raises])
def test_what_python_refuses_is_owed(function: Callable[[int, int], int]) -> None:
    """A duty fails for just those inputs for which Python raises an exception."""
    run = Merged(16)
    run.call(function, run.word("x", 0, 7), run.word("y", 0, 7))
    for x in range(8):
        for y in range(8):
            try:
                function(x, y)
                raised = False
            except (ValueError, UnboundLocalError, IndexError):
                raised = True
            assert bool(unmet(run, {"x": x, "y": y})) == raised


def _grows(x: int, y: int) -> int:
    return x << y


def test_nothing_wraps_unseen() -> None:
    """A value that leaves the width is a duty that fails, not a wrong value."""
    run = Merged(8)
    run.call(_grows, run.word("x", 0, 7), run.word("y", 0, 7))
    assert unmet(run, {"x": 7, "y": 7})
    assert not unmet(run, {"x": 7, "y": 4})


def _tries(x: int) -> int:
    try:
        return x
    finally:
        x = 0


def _keeps(x: int) -> Any:
    return {x: 1}


def _calls_out(x: int) -> Any:
    return sorted([x, 1])


def _twice(x: int) -> int:
    pairs = _pairs(x, 3)
    total = 0
    for one, _ in pairs:
        total += one
    for one, _ in pairs:
        total += one
    return total


def _two_kinds(x: int) -> int:
    kind: Any = x if x > 3 else None
    return int(kind) + 1


@pytest.mark.parametrize("function", [_tries, _keeps, _calls_out, _twice, _two_kinds])
def test_what_is_not_known_is_not_left_out(function: Callable[[int], Any]) -> None:
    """Code that cannot be read raises NotSupported."""
    run = Merged(16)
    with pytest.raises(NotSupported):
        run.call(function, run.word("x", 0, 7))


# ---- the very code of the allocator -------------------------------------------------------------

_FIELDS = ("contig_hint", "contig_hint_start", "scan_hint", "scan_hint_start", "left_free", "right_free", "first_free")


def _descriptors(chunk: Chunk) -> list[tuple[str, BlockHints]]:
    return [("whole", chunk.whole), *[(f"block{index}", block) for index, block in enumerate(chunk.blocks)]]


def _on_words(run: Merged, kind: type[Chunk], blocks: int, bits: int) -> Chunk:
    chunk = kind(0, blocks, bits)
    chunk.used = [run.word(f"used{index}", 0, (1 << bits) - 1) for index in range(blocks)]
    for name, hints in _descriptors(chunk):
        for field in _FIELDS:
            setattr(hints, field, run.word(f"{name}.{field}", 0, hints.nr_bits))
    return chunk


def _seen(chunk: Chunk) -> dict[str, Any]:
    hints = {f"{name}.{field}": getattr(one, field) for name, one in _descriptors(chunk) for field in _FIELDS}
    return {**hints, **{f"used{index}": word for index, word in enumerate(chunk.used)}}


def _played(kind: type[Chunk], rng: Random, blocks: int, bits: int) -> tuple[Chunk, list[tuple[int, int]]]:
    """A chunk after some real operations, and its areas."""
    chunk, areas = kind(0, blocks, bits), []
    for _ in range(rng.randrange(1, 25)):
        if areas and rng.random() < 0.45:
            at, size = areas.pop(rng.randrange(len(areas)))
            chunk.free_area(at)
            continue
        size = rng.choice((1, 1, 2, 3, bits, bits + 1))
        start = chunk.find_block_fit(size, 1, False)
        if start >= 0 and (at := chunk.alloc_area(size, 1, start)) >= 0:
            areas.append((at, size))
    return chunk, areas


def _agree(run: Merged, words: Chunk, before: dict[str, Any], after: Chunk, **area: int) -> None:
    values = {name: {**before, **area}[name] for name in run.inputs}
    real, ours = _seen(after), _seen(words)
    same = [ours[name] == real[name] for name in real]
    wrong = [name for name, so in zip(real, same, strict=True) if so is False]
    told = z3.And(*[so.term for so in same if isinstance(so, Truth)], *[duty for duty, _ in run.duties])
    if wrong or not evaluated(run, Truth(run, told), values):
        wrong += [name for name in real if evaluated(run, ours[name], values) != real[name]]
        raise AssertionError(f"{values}: {wrong}, {unmet(run, values)}")


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("span", [(0, 1), (1, 1)])
def test_taking_leaves_the_hints_that_python_leaves(kind: type[Chunk], span: tuple[int, int]) -> None:
    """``mark`` and ``hint_alloc`` of random chunks leave the same bitmap and descriptors in both worlds."""
    rng, run, (first, last) = Random(f"{kind}{span}"), Merged(8), span
    words = _on_words(run, kind, 2, 4)
    at = run.word("at", 4 * first, 4 * first + 3, light=True)
    end = run.word("end", 4 * last + 1, 4 * last + 4, light=True)
    run.assume(at < end)
    run.call(words.mark, at, end - at)
    run.call(words.hint_alloc, at, end - at)
    tried = 0
    while tried < 15:
        chunk, _ = _played(kind, rng, 2, 4)
        begin, stop = rng.randrange(4 * first, 4 * first + 4), rng.randrange(4 * last + 1, 4 * last + 5)
        if begin >= stop or any(chunk.map_bits() >> one & 1 for one in range(begin, stop)):
            continue
        before = _seen(chunk)
        chunk.mark(begin, stop - begin)
        chunk.hint_alloc(begin, stop - begin)
        _agree(run, words, before, chunk, at=begin, end=stop)
        tried += 1


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("span", [(0, 1), (1, 1)])
def test_freeing_leaves_the_hints_that_python_leaves(kind: type[Chunk], span: tuple[int, int]) -> None:
    """``free_area`` of random chunks leaves the same bitmap and descriptors in both worlds."""
    rng, run, (first, last) = Random(f"{kind}{span}"), Merged(8), span
    words = _on_words(run, kind, 2, 4)
    at = run.word("at", 4 * first, 4 * first + 3, light=True)
    end = run.word("end", 4 * last + 1, 4 * last + 4, light=True)
    run.assume(at < end)
    run.hooks[kind.area_end] = lambda chunk, begin: end
    run.call(words.free_area, at)
    tried = 0
    while tried < 15:
        chunk, areas = _played(kind, rng, 2, 4)
        fit = [(begin, size) for begin, size in areas if begin >> 2 == first and (begin + size - 1) >> 2 == last]
        if not fit:
            continue
        begin, size = rng.choice(fit)
        before = _seen(chunk)
        chunk.free_area(begin)
        _agree(run, words, before, chunk, at=begin, end=begin + size)
        tried += 1


def test_a_rescan_is_the_same_for_every_bitmap() -> None:
    """Rescanning any 6 bits tells the longest run, as Python does."""
    run = Merged(12)
    block, used = BlockHints(6), run.word("used", 0, 63)
    block.contig_hint = block.right_free = block.left_free = 0
    run.call(rescan, block, used, 0, update_ordered)
    for value in range(64):
        real = BlockHints(6)
        real.contig_hint = real.right_free = real.left_free = 0
        rescan(real, value, 0, update_ordered)
        assert all(
            evaluated(run, getattr(block, field), {"used": value}) == getattr(real, field) for field in _FIELDS
        )
        assert real.contig_hint == max((end - start for start, end in free_runs(value, 0, 6)), default=0)
