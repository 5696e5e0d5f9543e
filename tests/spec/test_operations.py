"""Kinds keep their numbers, objects keep their names."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heaplaw import Kind, Operation
from heaplaw.operations import birth_name, birth_number


class TestKind:
    def test_numbers_never_change(self):
        """A kind's number is its number for ever; new kinds come behind."""
        assert [kind.name for kind in Kind][:16] == [
            "NOP", "ALLOC", "FREE", "REALLOC", "WRITE", "READ", "MAP", "UNMAP", "MAINTAIN", "LINK", "ON_CPU",
            "BAD_FREE", "BAD_ALLOC", "FAIL_PAGES", "DRAIN", "DESTROY",
        ]  # fmt: skip
        assert list(Kind) == list(range(len(Kind)))

    def test_an_operation_is_a_plain_tuple(self):
        """What is not said of an operation is the simplest."""
        assert Operation(Kind.NOP) == (0, 0, 0, 1, 0)
        assert Operation(1, 2, 8) == Operation(Kind.ALLOC, 2, 8, 1, 0)


class TestNames:
    @given(st.integers(0, 1 << 40))
    @settings(max_examples=200, deadline=None, database=None)
    def test_round_trip(self, birth):
        """A birth number's name leads back to it."""
        assert birth_number(birth_name(birth)) == birth

    def test_sequence(self):
        """Names run a to z, then aa: the first 20,000 are all different and never get shorter."""
        assert [birth_name(n) for n in (0, 25, 26, 27, 701, 702)] == ["a", "z", "aa", "ab", "zz", "aaa"]
        names = [birth_name(n) for n in range(20_000)]
        assert len(set(names)) == len(names)
        assert names == sorted(names, key=lambda name: (len(name), name))

    @pytest.mark.parametrize("name", ["", "A", "a1", "7", "ä", "a b", "ª"])
    def test_no_name(self, name):
        """Anything but lower-case letters is no name, and the message shows what was found."""
        with pytest.raises(ValueError, match="is not an object's name") as caught:
            birth_number(name)
        assert repr(name) in str(caught.value)
