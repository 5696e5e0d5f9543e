"""TLSF's size arithmetic against the figures of its literature."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heaplaw.impls.bits import align_up, highest_bit, is_power_of_two, lowest_bit
from heaplaw.impls.tlsf_mapping import from_level, geometry, insert, list_start, round_up, wrapped_align

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
    assert geometry(64, 4).insert(460) == ((460).bit_length() - geometry(64, 4).shift, 12)


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


def textbook(g, size):
    """Insert as Conte's tlsf.c states it: a case for small sizes, and one for the others."""
    if size < g.small:
        return 0, size // g.word
    row = size.bit_length() - 1
    return row - (g.shift - 1), (size >> (row - g.sl)) ^ (1 << g.sl)


def boundaries(g):
    """Sizes at which lists begin, and their neighbours one alignment step away."""
    for number in range(1, g.rows << g.sl):
        row, second = g.levels(number)
        start = (1 << g.sl | second) << (row - 1 + g.shift - g.sl) if row else second * g.word
        yield from (size for size in (start - g.word, start, start + g.word) if 0 < size < g.most)


@pytest.mark.parametrize(("bits", "sl"), [*CONFIGURATIONS, (32, 1), (64, 1)])
class TestEveryBoundary:
    def test_textbook(self, bits, sl):
        """The sum without branches gives both levels of the textbook's case distinction."""
        g = geometry(bits, sl)
        for size in [*boundaries(g), *range(0, 1 << 14, g.word), g.most - g.word]:
            assert g.insert(size) == textbook(g, size)

    def test_starts(self, bits, sl):
        """A list's start is found, kept by rounding, and one step below it lies on the list before."""
        g = geometry(bits, sl)
        for number in range(1, g.rows << g.sl):
            row, second = g.levels(number)
            start = (1 << sl | second) << (row - 1 + g.shift - sl) if row else second * g.word
            assert insert(start, g.shift, sl) == number
            assert g.list_start(start) == g.round_up(start) == start
            assert insert(start - g.word, g.shift, sl) == number - 1
            assert g.round_up(start - 1) == start

    def test_good_fit(self, bits, sl):
        """Where a search begins, and on every later list, the smallest block is large enough."""
        g = geometry(bits, sl)
        for size in boundaries(g):
            row, second = g.search(size)
            start = (1 << sl | second) << (row - 1 + g.shift - sl) if row else second * g.word
            assert size <= start
            assert start == g.round_up(size)

    def test_requests(self, bits, sl):
        """A request keeps its rounded size; what would reach the table's end, or wrap, is out of range."""
        g = geometry(bits, sl)
        top = g.list_start(g.most - 1)
        assert g.request(1) == g.least
        assert g.request(top) == top
        top_of_word = [g.mask - n for n in range(2 * g.word)]
        for size in (top + 1, g.most - g.word, g.most - 1, g.most, g.most + 1, *top_of_word, g.mask + 1, 1 << 70):
            assert g.request(size) == 0
        for size in boundaries(g):
            if rounded := g.request(size):
                assert rounded >= size
                assert g.search(size) <= g.insert(rounded)
                assert g.insert(rounded)[0] < g.rows

    def test_published_requests(self, bits, sl):
        """3.1 limits after aligning: (most - word, most) is refused, the last sizes of a word wrap to the least."""
        g = geometry(bits, sl)
        assert g.request_published(g.most - g.word) == g.most - g.word
        assert g.search(g.most - g.word)[0] == g.rows, "off the table: the search has to look out"
        assert [g.request_published(g.most - n) for n in range(g.word)] == [0] * g.word
        wraps = [g.request_published(g.mask - n) for n in range(g.word)]
        assert wraps == [g.least] * (g.word - 1) + [0]


class Word:
    """A number of so many bits that wraps like a machine word, and has no other operations."""

    def __init__(self, value, bits):
        self.value, self.bits = int(value) & ((1 << bits) - 1), bits

    def _make(self, value):
        return Word(value, self.bits)

    def __add__(self, other):
        return self._make(self.value + int(other))

    __radd__ = __add__

    def __sub__(self, other):
        return self._make(self.value - int(other))

    def __and__(self, other):
        return self._make(self.value & int(other))

    def __or__(self, other):
        return self._make(self.value | int(other))

    def __lshift__(self, other):
        return self._make(self.value << int(other))

    def __rshift__(self, other):
        return self._make(self.value >> int(other))

    def __int__(self):
        return self.value

    def bit_length(self):
        return self.value.bit_length()

    def __bool__(self):
        raise AssertionError("a kernel must not branch on a size")


@pytest.mark.parametrize(("bits", "sl"), CONFIGURATIONS)
def test_kernels_hold_on_machine_words(bits, sl):
    """The kernels give the same on words that wrap as on integers, for every size that a word can say."""
    g = geometry(bits, sl)
    for size in [0, 1, *boundaries(g), g.mask // 2, *(g.mask - n for n in range(40))]:
        word = Word(size, bits)
        assert int(insert(word, g.shift, sl)) == insert(size, g.shift, sl)
        assert int(round_up(word, g.shift, sl, g.mask)) == round_up(size, g.shift, sl, g.mask)
        assert int(list_start(word, g.shift, sl)) == list_start(size, g.shift, sl)
        assert int(wrapped_align(word, g.word, g.mask)) == wrapped_align(size, g.word, g.mask)
        for level in (0, 1, sl, bits - 1, bits):
            assert int(from_level(word, level)) == from_level(size, level)


def test_levels_past_the_word():
    """From level 32 on no bit of a 32-bit word is left; a shift count taken modulo 32 would keep all."""
    assert from_level(0xFFFFFFFF, 31) == 0x80000000
    assert from_level(0xFFFFFFFF, 32) == 0


class TestBits:
    """The values that tlsf.c tests its own bit scans with, and zero."""

    @pytest.mark.parametrize(("x", "lowest"), [(0, -1), (1, 0), (0x80000000, 31), (0x80008000, 15)])
    def test_lowest_bit(self, x, lowest):
        """Find first set."""
        assert lowest_bit(x) == lowest

    @pytest.mark.parametrize(
        ("x", "highest"),
        [(0, -1), (1, 0), (0x80000008, 31), (0x7FFFFFFF, 30), (0x80000000, 31), (1 << 32, 32), ((1 << 64) - 1, 63)],
    )
    def test_highest_bit(self, x, highest):
        """Find last set."""
        assert highest_bit(x) == highest

    def test_align_up(self):
        """The least multiple that is not below, for every size and alignment of a small range."""
        for alignment in (1, 2, 4, 8, 64):
            for x in range(200):
                assert align_up(x, alignment) == -(-x // alignment) * alignment

    def test_is_power_of_two(self):
        """Of the numbers from -4 to 64 only the seven powers."""
        assert [x for x in range(-4, 65) if is_power_of_two(x)] == [1, 2, 4, 8, 16, 32, 64]
