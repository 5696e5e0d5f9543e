"""A trace file says what it holds, and says what is wrong with it."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heaplaw import Kind, Operation, Trace, TraceError
from heaplaw.trace import HEADER, MAGIC, render

QUICK = settings(max_examples=200, deadline=None, database=None)

births, numbers = st.integers(0, 20_000), st.integers(0, 1 << 66)
zero, one = st.just(0), st.just(1)
words = st.sampled_from(["compact", "double", "huge", "x", "pool-2", "a.b_c+d"])


def of(*kinds, name=zero, size=zero, align=one, mode=zero):
    """Operations of these kinds, with these fields."""
    return st.tuples(st.sampled_from(kinds), name, size, align, mode).map(Operation._make)


operations = st.one_of(
    of(Kind.NOP, Kind.DRAIN, Kind.DESTROY),
    of(Kind.ALLOC, name=births, size=numbers, align=numbers, mode=st.integers(0, 63)),
    of(Kind.FREE, Kind.WRITE, Kind.READ, Kind.MAP, Kind.UNMAP, name=births),
    of(Kind.REALLOC, name=births, size=numbers),
    of(Kind.LINK, name=births, size=births),
    of(Kind.MAINTAIN, mode=words),
    of(Kind.ON_CPU, mode=st.integers(0, 99)),
    of(Kind.BAD_FREE, name=births, mode=words),
    of(Kind.BAD_ALLOC, size=numbers, align=numbers, mode=words),
    of(Kind.FAIL_PAGES, size=numbers, align=st.integers(0, 10)),
)
keys = st.sampled_from(sorted(HEADER))
texts = st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="#"), max_size=20)
values = texts.map(str.strip).filter(lambda text: not text.startswith("="))


def who(operation):
    """Two requests have the same name only if one of them is the other."""
    return operation.name if operation.kind == Kind.ALLOC else object()


@st.composite
def traces(draw):
    """Traces with a header, with answers beside some of the operations."""
    trace = Trace(
        draw(st.lists(operations, max_size=10, unique_by=who)), draw(st.dictionaries(keys, values, max_size=3))
    )
    for index in draw(st.sets(st.integers(0, max(len(trace.operations) - 1, 0)))):
        if index < len(trace.operations):
            trace.answers[index] = draw(st.integers(-1, 1 << 50))
    return trace


def read(*lines):
    """Operations of a trace file with these lines below its first."""
    return Trace.parse("\n".join([MAGIC, *lines])).operations


class TestRoundTrip:
    @given(traces())
    @QUICK
    def test_parse_of_str(self, trace):
        """Any trace, written and read, is the same trace."""
        assert Trace.parse(str(trace)) == trace

    @given(traces())
    @QUICK
    def test_str_of_parse(self, trace):
        """Reading and writing again gives the same text."""
        assert str(Trace.parse(str(trace))) == str(trace)

    @pytest.mark.parametrize(
        ("operation", "line"),
        [
            (Operation(Kind.NOP), "nop"),
            (Operation(Kind.ALLOC, 0, 24), "a = alloc 24"),
            (Operation(Kind.ALLOC, 26, 100, 64), "aa = alloc 100 align 64"),
            (Operation(Kind.ALLOC, 1, 8, 0, 7), "b = alloc 8 align 0 atomic group 3"),
            (Operation(Kind.FREE, 0), "free a"),
            (Operation(Kind.REALLOC, 2, 40), "realloc c 40"),
            (Operation(Kind.WRITE, 3), "write d"),
            (Operation(Kind.READ, 3), "read d"),
            (Operation(Kind.MAP, 3), "map d"),
            (Operation(Kind.UNMAP, 3), "unmap d"),
            (Operation(Kind.MAINTAIN, mode="compact"), "maintain compact"),
            (Operation(Kind.LINK, 0, 1), "link a b"),
            (Operation(Kind.ON_CPU, mode=3), "cpu 3"),
            (Operation(Kind.BAD_FREE, 0, mode="double"), "badfree double a"),
            (Operation(Kind.BAD_ALLOC, 0, 1 << 64, 3, "align"), "badalloc align 18446744073709551616 align 3"),
            (Operation(Kind.FAIL_PAGES, size=2, align=1), "failpages 2 order 1"),
            (Operation(Kind.DRAIN), "drain"),
            (Operation(Kind.DESTROY), "destroy"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_line(self, operation, line):
        """Each kind has one spelling, which is read as what was written."""
        assert render(operation) == line
        assert read(line) == [operation]

    def test_every_kind_has_a_line(self):
        """No kind is without a spelling."""
        assert len({render(Operation(kind)).split()[0] for kind in Kind if kind != Kind.ALLOC}) == len(Kind) - 1

    def test_text(self):
        """The file begins with its version and the header; steps are numbered from 1 in a column."""
        trace = Trace(
            [Operation(Kind.NOP)] * 9 + [Operation(Kind.ALLOC, 0, 8)], {"target": "tlsf", "empty": ""}, {9: 16}
        )
        lines = str(trace).splitlines()
        assert lines[:3] == [MAGIC, "target tlsf", "empty"]
        assert lines[3] == "1   nop"
        assert lines[-1] == "10  a = alloc 8 -> 16"
        assert str(trace).endswith("\n")


class TestReading:
    def test_example(self):
        """The documented example is read as it looks."""
        trace = Trace.parse(
            "heaplaw trace 1\ntarget tlsf,arena=4096\nlaw disjoint\n1  a = alloc 24\n"
            "2  b = alloc 100 align 64\n3  free a\n4  c = alloc 24 -> 16\n"
        )
        assert trace.target == "tlsf,arena=4096"
        assert trace.header == {"target": "tlsf,arena=4096", "law": "disjoint"}
        assert trace.operations == [
            Operation(Kind.ALLOC, 0, 24), Operation(Kind.ALLOC, 1, 100, 64), Operation(Kind.FREE, 0),
            Operation(Kind.ALLOC, 2, 24),
        ]  # fmt: skip
        assert trace.answers == {3: 16}

    def test_no_target(self):
        """A trace without a target fits any."""
        assert Trace.parse(MAGIC).target == ""

    def test_step_numbers(self):
        """Step numbers may be left out, and are not checked."""
        assert read("7 drain", "drain", "3  drain") == [Operation(Kind.DRAIN)] * 3

    def test_comments(self):
        """Text after # and blank lines mean nothing, in the header as below it."""
        trace = Trace.parse(f"{MAGIC}  # of today\n\n# nothing\ntarget tlsf # built in\n   \n drain # all\n\n")
        assert trace == Trace([Operation(Kind.DRAIN)], {"target": "tlsf"})

    def test_spaces(self):
        """Tabs and runs of spaces part words; a header value keeps its inner spaces."""
        trace = Trace.parse(f"  {MAGIC}  \r\n\tnote two  words\t\r\n\t1\ta  =\talloc 8  \r\n")
        assert trace == Trace([Operation(Kind.ALLOC, 0, 8)], {"note": "two  words"})

    def test_a_typo_is_no_header(self):
        """A word that is neither an operation nor a header's is an error before the first operation too."""
        with pytest.raises(TraceError, match="line 2: unknown operation: 'aloc' in 'aloc 24'"):
            Trace.parse(f"{MAGIC}\naloc 24\n")

    def test_header_ends_with_the_first_operation(self):
        """Below the first operation an unknown word is an error, not a header line."""
        with pytest.raises(TraceError, match="line 3: unknown operation: 'target' in 'target tlsf'"):
            read("drain", "target tlsf")

    def test_answers(self):
        """An answer is a number in any base that Python writes, below zero too."""
        trace = Trace.parse(f"{MAGIC}\na = alloc 8 -> 0x10\ndrain\nb = alloc 8 -> -1\nfree a -> 0b11")
        assert trace.answers == {0: 16, 2: -1, 3: 3}
        assert len(trace.operations) == 4

    def test_lines_of_a_file(self, tmp_path):
        """An open file is read line by line."""
        path = tmp_path / "one.trace"
        path.write_text(f"{MAGIC}\ndrain\n")
        with path.open() as lines:
            assert Trace.parse(lines) == Trace.parse(path.read_text()) == Trace([Operation(Kind.DRAIN)])

    def test_magic_alone(self):
        """A file of one line is a trace of no operations."""
        assert Trace.parse(MAGIC) == Trace()


class TestMistakes:
    @pytest.mark.parametrize("text", ["", []], ids=["text", "lines"])
    def test_empty(self, text):
        """An empty file is no trace."""
        with pytest.raises(TraceError, match=r"^line 1: the file is empty; expected 'heaplaw trace 1'$"):
            Trace.parse(text)

    def test_first_line(self):
        """Another first line is shown, cut at forty characters."""
        with pytest.raises(TraceError) as caught:
            Trace.parse("x" * 50 + "\n")
        assert str(caught.value) == f"line 1: expected 'heaplaw trace 1', found '{'x' * 40}'"

    @pytest.mark.parametrize(
        ("line", "problem"),
        [
            ("7", "something is missing"),
            ("a =", "something is missing"),
            ("a = alloc", "something is missing"),
            ("a = free b", "unknown operation 'free'; only alloc makes an object"),
            ("a = alloc many", "expected a number, found 'many'"),
            ("a = alloc -8", "expected a number, found '-8'"),
            ("a = alloc 1.5", "expected a number, found '1.5'"),
            ("a = alloc 8 align", "expected a number, found ''"),
            ("a = alloc 8 group x", "expected a number, found 'x'"),
            ("a = alloc 8 quickly", "unknown word 'quickly'"),
            ("a = alloc 8 -> ", "unknown word '->'"),
            ("a = alloc 8 -> 1 2", "unknown word '->'"),
            ("a = alloc 8 -> here", "invalid literal for int() with base 0: 'here'"),
            ("A1 = alloc 8", "'A1' is not an object's name (a, b, ... z, aa, ...)"),
            ("alloc 8", "alloc needs a name, as in 'a = alloc 24': 'alloc'"),
            ("3 fre a", "unknown operation: 'fre'"),
            ("free", "free takes 1 word(s), found 0"),
            ("free a b", "free takes 1 word(s), found 2"),
            ("free 7", "'7' is not an object's name (a, b, ... z, aa, ...)"),
            ("realloc a", "realloc takes 2 word(s), found 1"),
            ("realloc a b", "expected a number, found 'b'"),
            ("link a 3", "'3' is not an object's name (a, b, ... z, aa, ...)"),
            ("drain all", "drain takes 0 word(s), found 1"),
            ("cpu one", "expected a number, found 'one'"),
            ("maintain", "maintain takes 1 word(s), found 0"),
            ("badfree double", "badfree takes 2 word(s), found 1"),
            ("badalloc huge 8", "badalloc takes 4 word(s), found 2"),
            ("badalloc huge 8 align x", "expected a number, found 'x'"),
            ("failpages 2 1", "failpages takes 3 word(s), found 2"),
            ("failpages 2 order x", "expected a number, found 'x'"),
        ],
    )
    def test_message(self, line, problem):
        """Each mistake is named with the number and the text of its line."""
        with pytest.raises(TraceError, match=f"^{re.escape(f'line 4: {problem} in {line.strip()!r}')}$") as caught:
            read("target tlsf", "drain", line, "drain")
        assert (caught.value.line, caught.value.problem) == (4, f"{problem} in {line.strip()!r}")

    def test_it_is_a_value_error(self):
        """Whoever reads input and catches ValueError catches this too."""
        assert issubclass(TraceError, ValueError)

    def test_a_name_given_twice(self):
        """Two requests of one name are a mistake: which object would ``free a`` mean?"""
        with pytest.raises(TraceError, match=r"^line 3: a is requested a second time in 'a = alloc 9'$"):
            read("a = alloc 8", "a = alloc 9")
