"""The shadow heap agrees with the plainest model of it: a dictionary of intervals."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from heaplaw import Block, Shadow

LIMIT = 96  # bytes of a space in the models: small, so that everything touches everything
SPACES = (0, 1, 7)


def block(name, *extents, size=None):
    return Block(name, name, sum(n for _, _, n in extents) if size is None else size, 1, tuple(extents))


def heap(*extents):
    """A shadow heap with one object for each (start, length) of space 0."""
    shadow = Shadow()
    for name, (start, length) in enumerate(extents):
        shadow.add(block(name, (0, start, length)))
    return shadow


class Model:
    """Live objects as a dictionary; every question answered byte by byte."""

    def __init__(self):
        self.live = {}

    def pieces(self, space):
        """(start, end, name) of what is live in a space, by address."""
        return sorted((a, a + n, name) for name, pieces in self.live.items() for s, a, n in pieces if s == space and n)

    def owner(self, space, start, length):
        """Names of the objects that share a byte with a stretch."""
        return {name for a, b, name in self.pieces(space) if a < start + length and start < b}

    def gaps(self, space, start, end):
        taken = {at for a, b, _ in self.pieces(space) for at in range(a, b)}
        runs = []
        for at in range(start, end):
            if at not in taken:
                if runs and runs[-1][1] == at:
                    runs[-1][1] = at + 1
                else:
                    runs.append([at, at + 1])
        return [tuple(run) for run in runs]


places = st.tuples(st.sampled_from(SPACES), st.integers(0, LIMIT - 1), st.integers(0, 24))
steps = st.lists(
    st.tuples(
        st.sampled_from(["add", "add", "add", "remove", "move"]),
        st.integers(0, 50),
        st.lists(places, min_size=1, max_size=3),
    ),
    max_size=40,
)


def apart(model, pieces, but=None):
    """Which of these pieces are apart from one another and from what is live."""
    kept = []
    for s, a, n in pieces:
        alien = {name for name in model.owner(s, a, n) if name != but}
        if not alien and all(s != s2 or a + n <= a2 or a2 + n2 <= a for s2, a2, n2 in kept):
            kept.append((s, a, n))
    return tuple(kept)


class TestModel:
    @given(steps)
    @settings(max_examples=120, deadline=None, database=None)
    @example([("add", 0, [(0, 0, 8)]), ("add", 0, [(0, 8, 8)]), ("move", 0, [(0, 4, 4)]), ("remove", 1, [(0, 0, 0)])])
    def test_agrees(self, steps):
        """After any additions, removals and moves, each question has the model's answer."""
        shadow, model, blocks = Shadow(), Model(), {}
        for birth, (what, which, pieces) in enumerate(steps):
            if what == "add" or not blocks:
                model.live[birth] = apart(model, pieces)
                blocks[birth] = block(birth, *model.live[birth], size=which)
                shadow.add(blocks[birth])
            elif what == "remove":
                name = shadow.names[which % len(blocks)]
                shadow.remove(blocks.pop(name))
                del model.live[name]
            else:
                moved = blocks[shadow.names[which % len(blocks)]]
                shadow.unplace(moved)
                model.live[moved.name] = moved.extents = apart(model, pieces, moved.name)
                shadow.place(moved)
            self.compare(shadow, model, blocks)

    def compare(self, shadow, model, blocks):
        assert len(shadow) == len(model.live)
        assert shadow.live == blocks
        assert sorted(shadow.names) == sorted(model.live)
        assert shadow.requested == sum(b.size for b in blocks.values())
        assert shadow.bytes == sum(n for pieces in model.live.values() for _, _, n in pieces)
        assert shadow.spaces() == [space for space in SPACES if model.pieces(space)]
        for space in SPACES:
            pieces = model.pieces(space)
            assert [(a, b, o.name) for a, b, o in shadow.extents(space, 0, 999)] == pieces
            for low, high in ((0, LIMIT), (10, 30), (31, 32), (50, 50)):
                assert list(shadow.gaps(space, low, high)) == model.gaps(space, low, high)
                inside = [piece for piece in pieces if low <= piece[0] < high]
                assert [(a, b, o.name) for a, b, o in shadow.extents(space, low, high)] == inside
                found = shadow.clash(space, low, max(high - low, 1))
                owners = model.owner(space, low, max(high - low, 1))
                assert found.name in owners if owners else found is None
                before, after = [p[2] for p in pieces if p[0] < low][-1:], [p[2] for p in pieces if p[0] >= low][:1]
                assert [o.name for o in shadow.neighbours(space, low)] == before + after


class TestClash:
    @pytest.mark.parametrize(
        ("start", "length", "hit"),
        [(0, 16, False), (0, 17, True), (16, 1, True), (20, 4, True), (39, 1, True), (40, 8, False), (0, 99, True)],
    )
    def test_edges(self, start, length, hit):
        """A stretch clashes with a live [16, 40) exactly when they share a byte."""
        found = heap((16, 24)).clash(0, start, length)
        assert (found is not None) == hit

    def test_other_space(self):
        """The same place in another space is another place."""
        assert heap((16, 24)).clash(1, 16, 24) is None


class TestGaps:
    def test_inside_a_block(self):
        """A window that begins or ends inside a block is cut there."""
        shadow = heap((0, 10), (20, 10))
        assert list(shadow.gaps(0, 5, 25)) == [(10, 20)]
        assert list(shadow.gaps(0, 2, 8)) == []
        assert list(shadow.gaps(0, 10, 20)) == [(10, 20)]

    def test_touching_blocks(self):
        """Blocks that touch leave no gap between them."""
        assert list(heap((0, 8), (8, 8)).gaps(0, 0, 24)) == [(16, 24)]

    def test_overlapping_blocks(self):
        """Where `disjoint` is known to be broken, a byte that anything lives in is still no gap."""
        assert list(heap((0, 40), (8, 8)).gaps(0, 0, 64)) == [(40, 64)]

    def test_an_empty_space(self):
        """A space in which nothing lives is one gap."""
        assert list(Shadow().gaps(3, 0, 64)) == [(0, 64)]


class TestNames:
    def test_order(self):
        """Names stand in order of birth, but a removed one is replaced by the last."""
        shadow = heap((0, 1), (1, 1), (2, 1), (3, 1))
        shadow.remove(shadow.live[1])
        assert shadow.names == [0, 3, 2]
        shadow.remove(shadow.live[2])
        assert shadow.names == [0, 3]
        shadow.remove(shadow.live[0])
        assert shadow.names == [3]

    def test_moving_keeps_the_index(self):
        """A move changes neither the name's index nor the number of objects."""
        shadow = heap((0, 8), (8, 8))
        first = shadow.live[0]
        shadow.unplace(first)
        assert (len(shadow), shadow.names, shadow.bytes) == (2, [0, 1], 8)
        first.extents = ((0, 32, 8),)
        shadow.place(first)
        assert (len(shadow), shadow.names, shadow.bytes) == (2, [0, 1], 16)
        assert shadow.clash(0, 0, 8) is None
        assert shadow.clash(0, 32, 8) is first

    def test_swapped_places(self):
        """Two objects change places when both are taken out before either is put back."""
        shadow = heap((0, 8), (8, 8))
        one, two = shadow.live[0], shadow.live[1]
        shadow.unplace(one)
        shadow.unplace(two)
        one.extents, two.extents = two.extents, one.extents
        shadow.place(one)
        shadow.place(two)
        assert (shadow.clash(0, 0, 8), shadow.clash(0, 8, 8)) == (two, one)


class TestSamePlace:
    def test_the_first_keeps_it(self):
        """Of two objects in one place the first stays in the index, whichever is freed first."""
        shadow = heap((0, 8), (0, 8))
        first, second = shadow.live[0], shadow.live[1]
        assert shadow.bytes == 16
        shadow.remove(second)
        assert shadow.clash(0, 0, 8) is first
        shadow.remove(first)
        assert (shadow.clash(0, 0, 8), shadow.bytes, shadow.spaces()) == (None, 0, [])

    def test_no_bytes(self):
        """An object of no bytes is live but stands in nobody's way."""
        shadow = heap((8, 0), (8, 8))
        assert len(shadow) == 2
        assert shadow.clash(0, 0, 64) is shadow.live[1]
        shadow.remove(shadow.live[0])
        assert shadow.clash(0, 8, 1) is shadow.live[1]


class TestPattern:
    @given(st.integers(0, 1 << 16), st.integers(0, 200_000), st.integers(0, 300))
    @settings(max_examples=100, deadline=None, database=None)
    def test_a_window_is_a_window(self, seed, at, length):
        """Any window's pattern is that part of the whole object's pattern."""
        one = block(0)
        one.seed = seed & 0xFFFF
        assert one.pattern(0, at + length)[at:] == one.pattern(at, length)

    @pytest.mark.parametrize("length", [0, 1, 65535, 65536, 65537, 131072, 131073, 300_001])
    def test_long(self, length):
        """A pattern has the length that was asked for, at any offset, beyond 64 KiB too."""
        for name in (0, 1, 77):
            for at in (0, 1, 65535, 65536, 70_000):
                assert len(block(name).pattern(at, length)) == length

    def test_objects_differ(self):
        """No five bytes in a row occur twice: contents of another object, or moved within one, are told apart."""
        whole = block(0).pattern(0, (1 << 16) + 4)
        assert len({whole[at : at + 5] for at in range(1 << 16)}) == 1 << 16

    def test_births_differ(self):
        """The first 65,536 objects all begin at different places of the pattern."""
        assert len({block(name).seed for name in range(1 << 16)}) == 1 << 16


class TestWindows:
    @pytest.mark.parametrize("written", [1, 2, 255, 256])
    def test_small(self, written):
        """Up to 256 bytes are compared whole."""
        one = block(0)
        one.written = written
        assert one.windows(whole=False) == one.windows(whole=True) == ((0, written),)

    def test_nothing_written(self):
        """Where nothing was written there is nothing to compare."""
        assert block(0).windows(whole=False) == block(0).windows(whole=True) == ()

    @given(st.integers(257, 1 << 20), st.integers(0, 0xFFFF))
    @settings(max_examples=100, deadline=None, database=None)
    def test_sampled(self, written, seed):
        """Above 256 bytes, less than all is compared, always inside the object, and both its ends."""
        one = block(0)
        one.written, one.seed = written, seed
        windows = one.windows(whole=False)
        assert all(at >= 0 and length > 0 and at + length <= written for at, length in windows)
        assert windows[0][0] == 0
        assert sum(windows[-1]) == written
        assert sum(length for _, length in windows) <= 256
        assert one.windows(whole=True) == ((0, written),)
