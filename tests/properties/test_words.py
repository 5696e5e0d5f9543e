"""Words against integers: the algebra says of bit-vectors what Python says of integers."""

import operator
from random import Random

import pytest

z3 = pytest.importorskip("z3", reason="z3-solver is not installed: pip install 'heaplaw[symbolic]'")

from heaplaw.properties.proofs.cells import Cells  # noqa: E402 - only where there is a solver
from heaplaw.properties.proofs.paths import Paths, Unsure, Vacuous  # noqa: E402
from heaplaw.properties.proofs.words import TooNarrow, Truth, Word, implies, term_of  # noqa: E402

WIDTH = 24
EDGES = (-129, -128, -127, -9, -8, -1, 0, 1, 2, 7, 8, 9, 31, 32, 127, 128, 129, 255, 256)
OPERATORS = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "//": operator.floordiv, "%": operator.mod,
    "&": operator.and_, "|": operator.or_, "^": operator.xor, "<<": operator.lshift, ">>": operator.rshift,
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne,
    "min": min, "max": max, "divmod": lambda a, b: divmod(a, b)[0] * 1000 + divmod(a, b)[1],
}  # fmt: skip


def on_words(act, values, bounds):
    """What ``act`` makes of words that are these values, though their bounds do not say so; (answer, in its bounds)."""
    answers = []
    for path in Paths(WIDTH):
        try:
            words = [path.word(name, *bounds) for name in "ab"[: len(values)]]
            for word, value in zip(words, values, strict=True):
                path.assume(word == value)
            answer = act(*words)
        except Vacuous:
            continue
        except (ValueError, ZeroDivisionError) as problem:
            answers.append(type(problem))
            continue
        if isinstance(answer, Word):
            model = path._paths.model_of(z3.BoolVal(True))
            value = model.eval(answer.term, model_completion=True).as_signed_long()
            assert answer.low <= value <= answer.high
            answers.append(value)
        elif isinstance(answer, Truth):
            answers.append(path.counterexample(answer) is None)
        else:
            answers.append(answer)
    [answer] = answers  # one way only
    return answer


def on_integers(act, values):
    try:
        return act(*values)
    except (ValueError, ZeroDivisionError) as problem:
        return type(problem)


@pytest.mark.parametrize("name", OPERATORS)
def test_operators(name):
    """Every operator agrees with Python's at the edges and in between, negative numbers and exceptions included."""
    act, rng = OPERATORS[name], Random(name)
    for _ in range(40):
        values = rng.choice(EDGES), rng.choice(EDGES)
        if name == "<<" and values[1] > 12:
            continue  # leaves the width
        expected = on_integers(act, values)
        assert on_words(act, values, (-129, 256)) == expected, values
        swapped = on_words(lambda a, act=act, b=values[0]: act(b, a), values[1:], (-129, 256))
        assert swapped == expected, f"{values[0]} is an integer, {values[1]} a word"


@pytest.mark.parametrize(
    "act", [operator.neg, operator.invert, abs, int.bit_length, lambda a: -a & 7, lambda a: a & -8]
)
def test_of_one(act):
    """So does what has one operand."""
    for value in EDGES:
        method = (lambda a: a.bit_length()) if act is int.bit_length else act
        assert on_words(method, (value,), (-129, 256)) == act(value), value


def test_a_machine_word_never_wraps_by_itself():
    """The sum of two words of 16 bits does not fit in 16 bits: that is said, and no wrap is proved."""
    for path in Paths(17):
        size = path.word("size", 0, 2**16 - 1)
        with pytest.raises(TooNarrow):
            size + size
    for path in Paths(18):
        size = path.word("size", 0, 2**16 - 1)
        assert path.holds(term_of(size + size >= size))
        assert not path.holds(term_of((size + 7) & 0xFFFF >= size))  # where it is written down it is there


def test_what_fits_by_what_is_known_of_it():
    """Bounds that are too wide are put to the solver: it knows more."""
    [path] = Paths(10)
    one, other = path.word("one", 0, 400), path.word("other", 0, 400)
    with pytest.raises(TooNarrow):
        one + other
    for path in Paths(10):
        one, other = path.word("one", 0, 400), path.word("other", 0, 400)
        try:
            path.assume((one & 0x180) == 0)
            path.assume((other & 0x180) == 0)
            assert path.holds(term_of(one + other <= 254))
        except Vacuous:
            continue


def test_paths_are_all_the_paths():
    """Every value of an index is met exactly once, and every branch."""
    met = []
    for path in Paths(16):
        x = path.word("x", 3, 11)
        if x % 3 == 0:
            met.append(int(x))
    assert sorted(met) == [3, 6, 9]


def test_an_input_is_the_same_on_every_path():
    """Bounds that change with the path would hide values."""
    paths = iter(Paths(16))
    assert next(paths).word("x", 0, 10) > 5
    path = next(paths)
    with pytest.raises(Unsure, match="depend on the path"):
        path.word("x", 0, 11)


def test_a_question_that_is_too_hard():
    """The solver that gives up is no answer: neither so nor not so."""
    for path in Paths(64, steps=1000):
        a, b = path.word("a", 3, 2**31 - 1), path.word("b", 3, 2**31 - 1)
        with pytest.raises(Unsure):
            path.counterexample(a * b != 4611686014132420609)
        break


def test_steps_do_not_add_up():
    """What a question may cost does not depend on how many were asked before."""
    paths = Paths(32, steps=200_000)
    for path in paths:
        x = path.word("x", 0, 2**24)
        for _ in range(200):
            assert path.holds(term_of((x | 1) != 0))


def test_time_is_up():
    """A deadline that has passed is no answer either."""
    for path in Paths(16, deadline=0.0):
        with pytest.raises(Unsure, match="time"):
            path.holds(z3.BoolVal(False))


def test_implies():
    """Of bools and of truths, without asking."""
    assert implies(False, False) is True
    assert implies(True, "so") == "so"
    for path in Paths(8):
        x = path.word("x", 0, 9)
        assert path.holds(term_of(implies(x > 5, x > 3)))
        assert not path.holds(term_of(implies(x > 3, x > 5)))


def test_cells():
    """What was written is found where it was written, by words and by integers; places outside are refused."""
    seen = set()
    for path in Paths(16):
        at, other, cells = path.word("at", 0, 5), path.word("other", 0, 5), Cells(4)
        try:
            cells[at] = 7
            seen.add((cells[other], bool(at == other)))
        except IndexError:
            seen.add("outside")
            assert path.holds(term_of((at > 3) | (other > 3)))
    assert seen == {(7, True), (0, False), "outside"}
    with pytest.raises(IndexError):
        Cells(4)[-1]
