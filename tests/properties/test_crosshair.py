"""CrossHair: contracts, what its words are worth, kernels that differ, and Hypothesis with it as backend."""

import importlib
import importlib.metadata
import json
import os
from random import Random

import pytest
from click.testing import CliRunner

from heaplaw.fuzz.comparing import compare
from heaplaw.fuzz.options import Problem
from heaplaw.properties.proofs import contracts, crosshair_runner, differing, pep316
from heaplaw.properties.proofs.crosshair_runner import NOT_RUN, PROVED, REFUTED, UNCLEAR, Output, check, verdict_of

ALL = crosshair_runner.contracts_of(contracts)
KMALLOC = "heaplaw.impls.kmalloc_classes:kmalloc_class"

needs_crosshair = pytest.mark.skipif(crosshair_runner.why_not() is not None, reason="crosshair-tool is not installed")


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """The function ``f`` of a module with this text, which fresh processes can import too."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))

    def write(text):
        name = f"planted_in_{tmp_path.name}"
        (tmp_path / f"{name}.py").write_text(text)
        importlib.invalidate_caches()
        return importlib.import_module(name).f

    return write


def contract(body, *, pre="True", post="True", first="n: int"):
    """The text of a module with one contract."""
    imports = "import os\nfrom heaplaw.impls.srog_promises import order_for\n\n"
    return f'{imports}def f({first}):\n    """A claim.\n\n    pre: {pre}\n    post: {post}\n    """\n    {body}\n'


def arguments(function, count=1500):
    """Numbers around powers of two and small ones, as many as the function takes, where it promises something."""
    rng = Random(function.__name__)
    names = list(function.__annotations__)[:-1]
    for _ in range(count):
        yield [
            rng.choice((rng.randrange(6), rng.randrange(70), rng.randrange(5000), 1 << rng.randrange(65)))
            + rng.randrange(-1, 2)
            for _ in names
        ]


def first_broken(function):
    """(how the contract is broken first, for how many arguments it was asked)."""
    asked = 0
    for given in arguments(function):
        try:
            how = pep316.broken(function, given)
        except pep316.Unmet:
            continue
        asked += 1
        if how:
            return how, asked
    return "", asked


class TestContracts:
    def test_there_are_enough(self):
        """At least twenty contracts, on functions of at least ten modules."""
        assert len(ALL) >= 20
        assert len({pep316.read(one).about.rpartition(".")[0] for one in ALL}) >= 10

    @pytest.mark.parametrize("one", ALL, ids=lambda one: one.__name__)
    def test_they_hold_for_integers_too(self, one):
        """On plain integers the contract holds, and its precondition is met often."""
        how, asked = first_broken(one)
        assert how == ""
        assert asked > 20

    @pytest.mark.parametrize("one", ALL, ids=lambda one: one.__name__)
    def test_they_can_be_broken(self, one, monkeypatch):
        """With another answer of the function that a contract is about, it does not hold."""
        where, _, name = pep316.read(one).about.rpartition(".")
        module = importlib.import_module(where)
        real = getattr(module, name)
        numbers = [lambda x: x + 1, lambda x: x - 1, lambda x: -x, lambda x: 2 * x]
        changes = [lambda x: x + "a"] if where == "heaplaw.operations" else numbers

        def changed(change):
            def other(*given, **named):
                answer = real(*given, **named)
                return (change(answer[0]), *answer[1:]) if isinstance(answer, tuple) else change(answer)

            return other

        def seen(change):
            monkeypatch.setattr(module, name, changed(change))
            return first_broken(one)[0]

        assert any(seen(change) for change in changes)

    @needs_crosshair
    @pytest.mark.parametrize("name", ["kmalloc_serves", "locations_lose_nothing", "names_are_read_back"])
    def test_they_are_proved(self, name):
        """CrossHair confirms the contract over all paths."""
        found = check(getattr(contracts, name))
        assert (found.verdict, found.why) == (PROVED, "")


@needs_crosshair
class TestVerdicts:
    def test_a_wrong_contract_is_refuted(self, planted):
        """SROG's sums as posted wrap (unconfirmed by its author): the call that shows it, seen again on integers."""
        text = contract(
            "return order_for(n, 4096, 2**32 - 1)", pre="0 < n < 2**32", post="n + 28 <= 4096 * 2**__return__"
        )
        function = planted(text)
        found = check(function, seconds=5)
        assert found.verdict == REFUTED
        assert found.why.startswith("not so: n + 28 <= 4096 * 2**__return__, where __return__ is ")
        assert pep316.broken(function, crosshair_runner.arguments_of(found.counterexample)) == found.why

    def test_an_exception_refutes(self, planted):
        """A function that raises something has broken its contract."""
        found = check(planted(contract("return 8 // n", pre="0 <= n < 9")), seconds=5)
        assert (found.verdict, found.counterexample, found.why[:24]) == (REFUTED, "f(0)", "raises ZeroDivisionError")

    def test_paths_without_end_are_inconclusive(self, planted):
        """A loop with no bound, and little time: true or not, it is not proved."""
        loop = "i = 0\n    while i * i < n:\n        i += 1\n    return i"
        found = check(planted(contract(loop, post="__return__ >= 0")), seconds=0.5)
        assert (found.verdict, found.why) == (UNCLEAR, "Not confirmed.")

    def test_no_time_at_all_is_inconclusive(self):
        """A contract that is proved in its time is not proved without."""
        assert check(contracts.kmalloc_serves, seconds=0.001).verdict == UNCLEAR

    def test_a_precondition_that_nothing_meets_is_inconclusive(self, planted):
        """From a contradiction nothing is proved."""
        found = check(planted(contract("return n", pre="n < 0 < n", post="__return__ > 7")), seconds=2)
        assert (found.verdict, found.why) == (UNCLEAR, "Unable to meet precondition.")

    def test_a_child_that_dies_is_inconclusive(self, planted):
        """One that aborts confirms nothing."""
        found = check(planted(contract("os.abort()")), seconds=2)
        assert found.verdict == UNCLEAR
        assert "nothing that is known: Fatal Python error: Aborted" in found.why or "ended with -6" in found.why

    def test_a_child_that_hangs_is_inconclusive(self, planted, monkeypatch):
        """One that does not end is stopped."""
        monkeypatch.setattr(crosshair_runner, "_SLACK", 2.0)
        found = check(planted(contract("while True:\n        pass")), seconds=0.1)
        assert (found.verdict, found.why) == (UNCLEAR, "out of time: it was stopped")

    def test_what_does_not_recur_is_inconclusive(self, planted):
        """A counterexample that integers do not show: writing a file is forbidden to the solver only."""
        found = check(planted(contract("open(__file__ + '.out', 'w').close()")), seconds=2)
        assert found.verdict == UNCLEAR
        assert "did not recur: the contract holds" in found.why

    def test_a_contract_that_would_be_assumed_is_inconclusive(self, planted):
        """CrossHair leaves out paths on which a function that is called breaks its own contract."""
        wrong = "def g(n: int) -> int:\n    \"\"\"Wrong.\n\n    post: __return__ != 5\n    \"\"\"\n    return n\n\n"
        found = check(planted(wrong + contract("return sum(g(x) for x in [n])", post="__return__ != 5")), seconds=2)
        assert (found.verdict, found.why) == (UNCLEAR, "it calls g, whose own contract would be assumed")

    def test_a_function_without_promises_is_inconclusive(self, planted):
        """No postcondition, no proof."""
        assert check(planted("def f(n: int):\n    return n\n")).verdict == UNCLEAR


class TestWords:
    """What a child process says is taken literally, or not at all."""

    CONFIRMED = "/a/b.py:7: info: Confirmed over all paths.\n"

    def test_every_condition_must_be_confirmed(self):
        """As many confirmations as conditions, nothing else, exit code 0."""
        assert verdict_of("f", Output(0, self.CONFIRMED * 2, ""), 2).verdict == PROVED
        assert verdict_of("f", Output(0, self.CONFIRMED, ""), 2).verdict == UNCLEAR
        assert verdict_of("f", Output(2, self.CONFIRMED * 2, ""), 2).verdict == UNCLEAR
        assert verdict_of("f", Output(-9, self.CONFIRMED, ""), 1).verdict == UNCLEAR
        assert verdict_of("f", Output(None, self.CONFIRMED, ""), 1).verdict == UNCLEAR

    @pytest.mark.parametrize(
        "text",
        [
            "", "\n", "junk\n", CONFIRMED + "junk\n", "Confirmed over all paths.\n",
            "/a/b.py:7: info: Confirmed over all path", "/a/b.py:7: info: Confirmed over all paths. Or so.\n",
            "/a/b.py:7: info: Not confirmed.\n", CONFIRMED + "/a/b.py:8: info: Not confirmed.\n",
            "/a/b.py:7: info: Unable to meet precondition.\n", "/a/b.py:7: info: Something new.\n",
            "/a/b.py:7: error: invalid syntax (<string>, line 1)\n", CONFIRMED + "/a/b.py:8: error: ImportError\n",
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("code", [0, 1, 2])
    def test_other_words_are_inconclusive(self, text, code):
        """Nothing, junk, half of a message, unknown messages: neither proved nor refuted."""
        found = verdict_of("f", Output(code, text, ""), 1)
        assert found.verdict == UNCLEAR
        assert found.why

    def test_a_counterexample_is_a_call(self):
        """The call is what can be typed; what it returns is left out."""
        text = "/a/b.py:7: error: false when calling f(1, -2) (which returns (3, 4))\n"
        found = verdict_of("f", Output(1, text, ""), 1)
        assert (found.verdict, found.counterexample) == (REFUTED, "f(1, -2)")
        assert crosshair_runner.arguments_of("f(1, -2)") == [1, -2]

    @pytest.mark.parametrize("call", ["f(x)", "f(a=1)", "f(1", "1", "f(g(1))"])
    def test_what_cannot_be_typed_is_not_tried(self, call):
        """Calls of other things than literals are no counterexamples."""
        with pytest.raises(ValueError, match=r"call|malformed"):
            crosshair_runner.arguments_of(call)


class TestVersions:
    def test_not_installed(self, monkeypatch):
        """Without CrossHair nothing is run, and one line says what to install."""

        def missing(package):
            raise importlib.metadata.PackageNotFoundError(package)

        monkeypatch.setattr(importlib.metadata, "version", missing)
        found = check(contracts.kmalloc_serves)
        assert (found.verdict, found.why) == (
            NOT_RUN, "crosshair-tool is not installed: pip install 'heaplaw[symbolic]'"
        )  # fmt: skip
        assert differing.differ(KMALLOC, KMALLOC).verdict == NOT_RUN

    @pytest.mark.parametrize(
        ("package", "old", "new"),
        [("crosshair-tool", "0.0.107", "0.0.108"), ("hypothesis-crosshair", "0.0.22", "0.0.23")],
    )
    def test_versions_that_confirm_too_much(self, package, old, new, monkeypatch):
        """A version with a known false green is not run; the one that repaired it is."""
        monkeypatch.setattr(importlib.metadata, "version", lambda _: old)
        assert "has a counterexample" in (crosshair_runner.why_not(package) or "")
        monkeypatch.setattr(importlib.metadata, "version", lambda _: new)
        assert crosshair_runner.why_not(package) is None

    @needs_crosshair
    def test_this_version_knows_negative_indexes(self, planted):
        """What was confirmed up to 0.0.107 is refuted: the last element of a list at -1."""
        body = "t = [10, 20, 30]\n    try:\n        return t[n]\n    except IndexError:\n        return 0"
        found = check(planted(contract(body, pre="-3 <= n < 3", post="not (n == -1 and __return__ == 30)")), seconds=5)
        assert (found.verdict, found.counterexample) == (REFUTED, "f(-1)")


KERNELS = '''
def rounded(size: int) -> int:
    return (size + 7) // 8 * 8

def cautious(size: int, step: int = 8) -> int:
    rest = size % step
    return size + step - rest if rest else size

def one_short(size: int) -> int:
    return (size + 6) // 8 * 8

def negative(size: int) -> int:
    return rounded(size) if size >= 0 else 0

def root(n: int) -> int:
    i = 0
    while i * i < n:
        i += 1
    return i

def other_root(n: int) -> int:
    return root(n) + (n == 10**12)

def writes(n: int) -> int:
    if n == 77:
        open(__file__ + ".out", "w").close()
    return n

def writes_and_errs(n: int) -> int:
    return writes(n) + (n == 77)

def promising(size: int) -> int:
    """Up to 8.

    post: __return__ % 8 == 0
    """
    return rounded(size) + (size == 9)

def two(size: int, align: int) -> int:
    return size

def untyped(size):
    return size

class Mine:
    contract = None
'''


class TestCompare:
    @pytest.fixture
    def run(self, tmp_path):
        """``compare`` on functions of KERNELS: (exit code or Problem, what was printed)."""
        file = tmp_path / "kernels.py"
        file.write_text(KERNELS)

        def call(old, new, *options):
            names = [one if ":" in one else f"{file}:{one}" for one in (old, new)]
            given = CliRunner().invoke(compare, [*names, *map(str, options)], standalone_mode=False)
            if given.exception is not None:
                return given.exception, given.output
            return given.return_value, given.output

        return call

    @needs_crosshair
    def test_the_same(self, run, tmp_path):
        """Two ways to round are one for every number; the parameter with a default is named."""
        code, out = run("rounded", "cautious", "--json", tmp_path / "report.json")
        assert code == 0
        assert "cautious keeps step=8\n" in out
        assert out.endswith("they behave the same: all paths were taken (exit 0)\n")
        assert json.loads((tmp_path / "report.json").read_text())["verdict"] == "same"

    @needs_crosshair
    def test_different(self, run, tmp_path):
        """The arguments and both results, as integers give them."""
        code, out = run("rounded", "one_short", "--json", tmp_path / "report.json")
        assert code == 1
        report = json.loads((tmp_path / "report.json").read_text())
        size = report["arguments"]["size"]
        assert report["results"] == [f"returns {(size + 7) // 8 * 8}", f"returns {(size + 6) // 8 * 8}"]
        assert all(result in out for result in report["results"])
        assert out.endswith(f"they differ for size={size} (exit 1)\n")

    @needs_crosshair
    def test_where(self, run):
        """Kernels that differ for negative sizes only are the same where sizes are not negative."""
        code, out = run("rounded", "negative", "--where", "size >= 0")
        assert (code, out) == (0, "they behave the same where size >= 0: all paths were taken (exit 0)\n")

    @needs_crosshair
    def test_paths_without_end_are_inconclusive(self, run):
        """Loops that are cut off are not the same, though no difference was found."""
        code, out = run("root", "other_root", "--time", "0.5s")
        assert code == 3
        assert out.startswith("inconclusive: ")

    @needs_crosshair
    def test_contracts_of_kernels_are_not_assumed(self, run):
        """A kernel with a contract is not compared: CrossHair would leave out where it is broken."""
        code, out = run("rounded", "promising")
        assert code == 3
        assert "promising would be assumed" in out

    @needs_crosshair
    def test_likely_is_not_the_same(self, run):
        """Where both do what CrossHair forbids it calls them likely the same, which they are not."""
        code, out = run("writes", "writes_and_errs")
        assert code == 1
        assert "they differ for n=77" in out
        assert run("writes", "writes")[0] == 3

    @pytest.mark.parametrize(
        ("old", "new", "options", "says"),
        [
            ("tlsf:x", "tlsf:y", (), "cannot import tlsf"),
            ("rounded", "nothing", (), "has no 'nothing'"),
            ("rounded", "two", (), "takes 1 numbers, and"),
            ("untyped", "rounded", (), "size is not annotated as an int"),
            ("rounded", "one_short", ("--where", "size >"), "'size >' is no condition"),
            ("rounded", "one_short", ("--where", "other > 0"), "is no condition over size"),
        ],
    )
    def test_usage(self, run, old, new, options, says):
        """What cannot be compared is one line."""
        problem, _ = run(old, new, *options)
        assert says in str(problem)

    def test_an_allocator_and_a_function(self):
        """An allocator and a function have nothing in common: bad input."""
        problem = CliRunner().invoke(compare, ["tlsf", KMALLOC], standalone_mode=False).exception
        assert isinstance(problem, Problem)


@pytest.mark.skipif(crosshair_runner.why_not("hypothesis-crosshair") is not None, reason="no hypothesis-crosshair")
def test_the_backend_finds_one_wrong_size():
    """With CrossHair as backend Hypothesis finds the one size in 8192 for which a class is wrong, in 50 examples."""
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import strategies as st

    from heaplaw.impls.kmalloc_classes import kmalloc_class

    @settings(
        backend="crosshair", max_examples=50, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.integers(1, 8192))
    def trial(size):
        assert size <= (5120 if size == 5122 else kmalloc_class(size)), "too small"

    with pytest.raises(AssertionError, match="too small"):
        trial()
