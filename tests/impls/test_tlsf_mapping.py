"""TLSF's size arithmetic against the figures of its literature."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heaplaw.impls.tlsf_mapping import geometry

CONFIGURATIONS = [(bits, sl) for bits in (32, 64) for sl in (2, 3, 4, 5)]


class TestConstants:
    def test_64_bit(self):
        """Conte's 64-bit constants: 8-byte words, threshold 256, 25 rows, least payload 24, most 2^32."""
        g = geometry(64)
        assert (g.word, g.sl, g.shift, g.rows, g.small, g.least, g.most) == (8, 5, 8, 25, 256, 24, 1 << 32)
        assert g.header == 32

    def test_32_bit(self):
        """Conte's 32-bit constants: 4-byte words, threshold 128, 24 rows, least payload 12, most 2^30."""
        g = geometry(32)
        assert (g.word, g.sl, g.shift, g.rows, g.small, g.least, g.most) == (4, 5, 7, 24, 128, 12, 1 << 30)
        assert g.header == 16


@pytest.mark.parametrize(
    ("size", "insert", "search"),
    [
        (100, (0, 12), (0, 12)),
        (128, (0, 16), (0, 16)),
        (256, (1, 0), (1, 0)),
        (460, (1, 25), (1, 26)),
        (1000, (2, 30), (2, 31)),
        (2000, (3, 30), (3, 31)),
        (4032, (4, 31), (4, 31)),
        (4064, (4, 31), (5, 0)),
        (65536, (9, 0), (9, 0)),
    ],
)
def test_conte_64_lists(size, insert, search):
    """The lists of these sizes, computed by hand from the 64-bit formulas."""
    g = geometry(64)
    assert g.insert(size) == insert
    assert g.search(size) == search


def test_the_papers_example():
    """With 16 second-level lists, 460 bytes lie in [256, 512), in the twelfth sixteenth."""
    assert geometry(64, 4).insert(460) == (460 .bit_length() - geometry(64, 4).shift, 12)


@pytest.mark.parametrize(("bits", "sl"), CONFIGURATIONS)
class TestEverySize:
    @given(data=st.data())
    def test_good_fit(self, bits, sl, data):
        """A block on the searched list, or a later one, is never smaller than the request."""
        g = geometry(bits, sl)
        sizes = st.integers(1, (g.most - 1) // g.word).map(lambda n: n * g.word)
        request, block = data.draw(sizes), data.draw(sizes)
        if g.insert(block) >= g.search(request):
            assert block >= request

    @given(data=st.data())
    def test_rounding(self, bits, sl, data):
        """Rounding up gives the start of a list, changes nothing the second time, and adds less than 1/2^sl."""
        g = geometry(bits, sl)
        size = data.draw(st.integers(1, (g.most - 1) // g.word)) * g.word
        rounded = g.round_up(size)
        assert g.list_start(rounded) == rounded == g.round_up(rounded)
        assert 0 <= rounded - size < max(1, size / (1 << sl))
        assert g.list_start(size) <= size
        assert g.insert(g.list_start(size)) == g.insert(size)

    @given(data=st.data())
    def test_inside_the_table(self, bits, sl, data):
        """Insert indexes stay inside the table and grow with the size."""
        g = geometry(bits, sl)
        size = data.draw(st.integers(1, (g.most - 1) // g.word)) * g.word
        row, second = g.insert(size)
        assert 0 <= row < g.rows
        assert 0 <= second < 1 << sl
        assert g.insert(size - g.word) <= (row, second)
