"""`heaplaw compare` of two strategies: laws, refusals and figures of each, worst traces, thresholds, git revisions."""

import json
import subprocess
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from heaplaw import Kind, Operation
from heaplaw.fuzz.options import Problem
from heaplaw.fuzz.strategies import Budget, breaches, compared, parse_threshold, plotting, showing, thresholds_of
from heaplaw.fuzz.strategies.adversarial import LENGTH, Hunt, worse_by
from heaplaw.fuzz.strategies.claims import CLAIMS, judged
from heaplaw.fuzz.strategies.comparing import Comparison, Refuted, Row, Total
from heaplaw.fuzz.strategies.measuring import FIGURES, Measured, measured, quantile
from heaplaw.fuzz.strategies.revisions import split
from heaplaw.fuzz.strategies.shapes import SHAPES
from heaplaw.fuzz.strategies.tracing import Workload, recorded
from heaplaw.properties.replay import replay
from heaplaw.trace import Trace

HERE = Path(__file__).parent / "strategies_under_test.py"
QUICK = Budget(operations=80, runs=0, search=0)
SEARCH = Budget(operations=40, runs=0, search=6_000)


def of(name):
    """One of the small strategies."""
    return f"{HERE}:{name}"


def quick(old, new, budget=QUICK, **more):
    """A comparison of two small strategies on generated traces only."""
    return compared(of(old), of(new), budget=budget, recorded=(), **more)


class TestLaws:
    """Both are under the same laws."""

    def test_the_same(self):
        """A strategy compared with itself differs in nothing."""
        found = quick("Rounded", "Rounded", Budget(operations=80, runs=1, search=0))
        assert found.refuted == {}
        assert len(found.engine) == 2
        assert {total.old == total.new for total in found.totals().values()} == {True}
        assert all(row.only_old == row.only_new == row.left_out == 0 for row in [*found.rows, *found.engine])
        assert showing.exit_code(found, ()) == 0

    def test_only_new_breaks(self):
        """A law that only the new one breaks is named, fails the comparison, and has a minimal trace that replays."""
        found = quick("Rounded", "Short")
        assert "big-enough" in found.refuted_by_new_only
        assert found.refuted_by_old_only == []
        trace = Trace.parse(found.refuted["big-enough"]["new"].trace)
        assert [op.size for op in trace.operations] == [101]
        assert "big-enough" in {one.violation.law for one in replay(trace, trace.target).tally.findings}
        assert showing.exit_code(found, ()) == 1

    def test_only_old_breaks(self):
        """A law that only the old one breaks is said to be kept now, and fails nothing."""
        found = quick("Short", "Rounded")
        assert "big-enough" in found.refuted_by_old_only
        assert showing.exit_code(found, ()) == 0
        assert "new keeps big-enough, which old breaks" in showing.said(found, (), 0)

    def test_both_break(self):
        """A law that both break is said of both: the change did not bring it."""
        found = quick("Short", "Short")
        assert found.refuted_by_new_only == []
        assert set(found.refuted["big-enough"]) == {"old", "new"}
        assert "both break big-enough" in showing.said(found, (), showing.exit_code(found, ()))

    def test_operations_count(self):
        """What was checked is what both did; without any, the comparison is inconclusive."""
        found = quick("Rounded", "Rounded")
        assert found.checked == sum(2 * len(row.workload.operations) for row in [*found.rows, *found.engine])
        late = quick("Rounded", "Rounded", Budget(seconds=0.0))
        assert late.checked == 0
        assert showing.exit_code(late, ()) == 3
        assert "nothing was executed" in showing.said(late, (), 3)


class TestFigures:
    """What is measured, where both do the same."""

    def test_by_hand(self):
        """Every figure of a short trace, counted by hand."""
        operations = [Operation(Kind.ALLOC, 0, 20), Operation(Kind.ALLOC, 1, 240), Operation(Kind.FREE, 0),
                      Operation(Kind.ALLOC, 2, 300)]  # fmt: skip
        seen = measured(of("Dear"), operations)
        assert (seen.footprint, seen.requested, seen.live, seen.left) == (512, 260, 272, 0)
        assert seen.figure("mean_footprint") == (256 + 512 + 256 + 256) / 4
        assert seen.figure("internal") == pytest.approx(1 - 260 / 272)
        assert seen.figure("external") == pytest.approx(1 - 272 / 512)
        assert seen.figure("returned") == 1.0
        assert seen.refused == {2: "no memory"}
        assert seen.alloc_steps == Counter({1: 2, 2: 1})  # empty; one page looked at in vain; too large
        assert seen.free_steps == Counter({3: 1})
        assert (seen.figure("worst_steps"), seen.figure("median_steps")) == (3, 1)

    def test_as_the_replayer_measures(self):
        """Footprint and live peak of a recording are those that a replay reports."""
        [work] = recorded(600, ["sqlite"])
        target = "xen-tlsf,pages=256"
        figures = replay(Trace(work.operations), target).figures
        seen = measured(target, work.operations)
        assert (seen.footprint, seen.requested, seen.live) == (
            figures.footprint, figures.peak_requested, figures.peak_live,
        )  # fmt: skip

    def test_objects_that_are_refused_cost_nothing(self):
        """A free of what was refused is no call."""
        seen = measured(of("Rounded"), [Operation(Kind.ALLOC, 0, 1000), Operation(Kind.FREE, 0)])
        assert (seen.alloc_steps.total(), seen.free_steps.total()) == (1, 0)

    def test_what_is_not_shown(self):
        """A strategy that counts no steps has no figures of them."""
        seen = measured(of("Silent"), [Operation(Kind.ALLOC, 0, 10)])
        assert seen.figure("worst_steps") is None
        assert seen.figure("metadata") is None

    @pytest.mark.parametrize("seed", range(5))
    def test_quantiles(self, seed):
        """A quantile of counted numbers is that of the sorted list."""
        rng = Random(seed)
        numbers = sorted(rng.randrange(20) for _ in range(rng.randrange(1, 200)))
        for share in (0.5, 0.99, 1.0):
            assert quantile(Counter(numbers), share) == numbers[max(0, -(-int(len(numbers) * share * 100) // 100) - 1)]

    def test_sums(self):
        """Two replays added up have the calls and bytes of both."""
        one, two = (measured(of("Dear"), make(Random(2), 60, 200)) for make in (SHAPES["lifo"], SHAPES["fifo"]))
        both = one + two
        assert both.alloc_steps == one.alloc_steps + two.alloc_steps
        assert both.footprint == one.footprint + two.footprint
        assert both.figure("worst_steps") == max(one.figure("worst_steps"), two.figure("worst_steps"))
        assert len(both.refused) == len(one.refused) + len(two.refused)

    def test_which_is_worse(self):
        """Wasting more and walking more show in the figures that say so, and in no others."""
        coarse, dear = quick("Rounded", "Coarse").totals(), quick("Rounded", "Dear").totals()
        assert showing.word("internal", coarse["internal"]) == "worse"
        assert coarse["footprint"].ratio > 1
        assert dear["footprint"] == Total(coarse["footprint"].old, coarse["footprint"].old)
        assert dear["worst_free_steps"].new > dear["worst_free_steps"].old
        assert showing.word("worst_alloc_steps", dear["worst_alloc_steps"]) == "same"

    def test_refusals_of_one_only(self):
        """Requests that only one refuses are counted, and left out for both where figures are taken."""
        found = quick("Rounded", "Choosy", Budget(operations=120, runs=0, search=0), traces=())
        large = Workload("large", "given", [Operation(Kind.ALLOC, name, 150 + 10 * name) for name in range(11)])
        assert found.rows
        with_large = Row(large, measured(of("Rounded"), large.operations), measured(of("Choosy"), large.operations))
        assert (with_large.only_old, with_large.only_new) == (0, 5)

    def test_left_out(self, tmp_path):
        """What one refuses is asked of neither when the footprint is taken, and said."""
        path = tmp_path / "large.trace"
        path.write_text(str(Trace([Operation(Kind.ALLOC, name, 150 + 10 * name) for name in range(11)])))
        found = quick("Rounded", "Choosy", Budget(operations=40, runs=0, search=0), traces=[path])
        row = next(row for row in found.rows if row.workload.kind == "given")
        assert (row.left_out, row.only_new, row.only_old) == (5, 5, 0)
        assert row.old.footprint == row.new.footprint == 6 * 256
        assert found.totals(("given",))["refused"] == Total(0, 5)


class TestTraces:
    """Recorded and generated traces."""

    @pytest.mark.parametrize("name", SHAPES)
    def test_shapes(self, name):
        """A shape is as long as asked, the same for the same seed, and frees only what is live."""
        for seed in range(3):
            operations = SHAPES[name](Random(seed), 333, 500)
            assert operations == SHAPES[name](Random(seed), 333, 500)
            assert len(operations) == 333
            live = set()
            for op in operations:
                assert 1 <= op.size <= 500 if op.kind == Kind.ALLOC else op.name in live
                (live.add if op.kind == Kind.ALLOC else live.remove)(op.name)

    @pytest.mark.parametrize("kind", ["heap", "percpu"])
    def test_recordings(self, kind):
        """The recordings of a family come with the package and are cut as asked."""
        found = recorded(50, kind=kind)
        assert len(found) >= 2
        assert all(len(work.operations) == 50 < work.whole for work in found)

    def test_no_such_recording(self):
        """A name that is none is told the names that are."""
        with pytest.raises(Problem, match="there are jq"):
            recorded(10, ["nope"])


class TestWorst:
    """The search for the trace on which the new strategy is worst."""

    def test_a_known_worst(self):
        """It finds the sizes for which the new steps are far too large, and shows one object."""
        found = quick("Rounded", "Coarse", SEARCH, worst_figure="internal")
        [row] = found.adversarial
        assert found.worst == worse_by("internal", row.old.figure("internal"), row.new.figure("internal"))
        assert found.worst > 50
        assert len(row.workload.operations) == 1
        assert row.workload.operations[0].size % 64 == 16  # nothing lost before, 48 of 64 bytes now

    def test_costs_grow(self):
        """For steps it finds a trace with many live objects when a free walks over all of them."""
        found = quick("Rounded", "Dear", SEARCH, worst_figure="worst_free_steps")
        [row] = found.adversarial
        assert found.worst >= 8
        assert 8 <= len(row.workload.operations) <= LENGTH

    def test_same_seed(self):
        """The same seed finds the same trace, and the budget is kept."""

        def score(operations):
            return float(sum(op.size for op in operations if op.kind == Kind.ALLOC) % 1009)

        one, two = (Hunt(score, Random(3), 300, 5_000).run() for _ in range(2))
        assert one == two
        assert 5_000 * 0.6 <= one.spent <= 5_000 + 2 * (LENGTH + 1)

    def test_nothing_to_compare(self):
        """Where no trace can be scored there is no worst one."""
        worst = Hunt(lambda operations: None, Random(1), 100, 1_000).run()
        assert (worst.operations, worst.score) == ([], 0.0)


class TestThresholds:
    """How much worse it may be."""

    @pytest.mark.parametrize("text", ["footprint", "footprint=5%", "footprint=+x", "nope=+1", "=+1", "footprint=+5%%"])
    def test_senseless(self, text):
        """What is no threshold is refused in one line."""
        with pytest.raises(Problem) as problem:
            parse_threshold(text)
        assert "\n" not in str(problem.value.message)

    def test_forms(self):
        """Percent is of the old figure, an amount is in its unit, shares in percentage points; some are better high."""
        assert parse_threshold("worst_steps=+0").allows(7, 7)
        assert not parse_threshold("worst_steps=+0").allows(7, 8)
        assert parse_threshold("internal=+2").allows(0.10, 0.12)
        assert not parse_threshold("internal=+2").allows(0.10, 0.121)
        assert parse_threshold("footprint=-10%").allows(1000, 900)
        assert not parse_threshold("footprint=-10%").allows(1000, 901)
        assert not parse_threshold("returned=-1").allows(1.0, 0.98)
        assert thresholds_of({"footprint": "+5%"}) == thresholds_of(["footprint=+5%"])

    def test_breach(self):
        """A figure worse than allowed on any trace fails; the trace is named."""
        found = quick("Rounded", "Coarse")
        broken = breaches(found, thresholds_of(["internal=+1", "refused=+0"]))
        assert {one.threshold.name for one in broken} == {"internal"}
        assert all(one.trace in SHAPES and one.new > one.old + 0.01 for one in broken)
        assert showing.exit_code(found, broken) == 1

    def test_kept(self):
        """A threshold that is kept on every trace fails nothing."""
        found = quick("Coarse", "Rounded")
        assert breaches(found, thresholds_of(["internal=+0", "mean_footprint=+10%"])) == []

    def test_adversarial(self):
        """The trace that was searched for has a threshold of its own; without a search it is not known to be kept."""
        found = quick("Rounded", "Coarse", SEARCH)
        assert [one.trace for one in breaches(found, thresholds_of(["adversarial=+10%"]))] == ["adversarial"]
        assert breaches(found, thresholds_of(["adversarial=+9000%"])) == []
        unsearched = breaches(quick("Rounded", "Coarse"), thresholds_of(["adversarial=+10%"]))
        assert [one.measured for one in unsearched] == [False]

    def test_nothing_measured(self):
        """A threshold for which nothing was measured is not kept, but inconclusive."""
        found = quick("Silent", "Silent")
        broken = breaches(found, thresholds_of(["worst_steps=+0"]))
        assert [one.measured for one in broken] == [False]
        assert showing.exit_code(found, broken) == 3


class TestClaims:
    """What was published."""

    def test_sources(self):
        """Every claim names author, date and subject, and two different built-in targets."""
        assert all(claim.first != claim.second and claim.source.count(",") >= 1 for claim in CLAIMS)
        assert len({(claim.first, claim.second, claim.id) for claim in CLAIMS}) == len(CLAIMS)

    def test_xen(self):
        """Xen's two allocators: bounded and denser as claimed; not everywhere the worst case, nor most near a page."""
        found = {each.claim.id: each.verdict for each in judged("xen-xmalloc", "xen-tlsf", 1)}
        in_part = dict.fromkeys(("worst-case", "near-page"), "as claimed in part")
        assert found == dict.fromkeys(("bounded", "denser"), "as claimed") | in_part

    def test_either_order(self):
        """What is found of published claims does not depend on which of the two is called new."""
        one = {each.claim.id: each for each in judged("xvmalloc", "zsmalloc", 1)}
        assert one == {each.claim.id: each for each in judged("zsmalloc", "xvmalloc", 1)}
        assert {one[name].verdict for name in ("half-empty", "reclaim")} == {"as claimed"}

    def test_experiments_can_fail(self):
        """With the strategies exchanged, experiments say that it is not as claimed."""
        for claim in CLAIMS:
            if claim.id in ("bounded", "half-empty", "overhead", "compcache", "metadata"):
                assert not claim.experiment(claim.second, claim.first, 1).holds, claim.id

    def test_unknown_pairs(self):
        """Of other pairs, and of modules of one's own, nothing was published."""
        assert list(judged("tlsf", "buddy", 1)) == []
        assert list(judged(of("Rounded"), "tlsf", 1)) == []

    def test_columns(self):
        """The figures stand in the columns of the strategies that they are of, whichever is named first."""
        for old, new in (("xvmalloc", "zsmalloc"), ("zsmalloc", "xvmalloc")):
            found = Comparison(old, new, 1, claims=list(judged(old, new, 1)))
            table = showing._claims(found)[0]
            cells = {column.header: list(column.cells) for column in table.columns}
            shown = cells["new" if new == "xvmalloc" else "old"][0]
            assert shown == showing.amount(found.claims[0].evidence.figures[-1][1], "share")


HEAP = """
from mine.sizes import STEP
import sys
sys.path.insert(0, {tests!r})
from strategies_under_test import Rounded

class Heap(Rounded):
    step = STEP
"""


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A git repository with a package whose heap rounds to 16 in the first commit and to 64 in the second."""
    source = tmp_path / "src" / "mine"
    source.mkdir(parents=True)
    (source / "__init__.py").write_text("")
    (source / "heap.py").write_text(HEAP.format(tests=str(HERE.parent)))

    def git(*words):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=tmp_path, check=True,
                       capture_output=True, timeout=30)  # fmt: skip

    git("init", "-q")
    for step in (16, 64):
        (source / "sizes.py").write_text(f"STEP = {step}\n")
        git("add", "-A")
        git("commit", "-qm", str(step))
    monkeypatch.chdir(tmp_path)
    return tmp_path


class TestRevisions:
    """A module of the user's at two git revisions."""

    def test_names(self):
        """A revision stands behind a class of the user's; a built-in target's is none of git's."""
        assert split("a/b.py:Heap@v1.0,arena=64") == ("a/b.py:Heap,arena=64", "v1.0")
        assert split("tlsf@conte-3.1,arena=64") == ("tlsf@conte-3.1,arena=64", "")
        assert split("a/b.py:Heap") == ("a/b.py:Heap", "")

    def test_two_revisions(self, repository):
        """Each runs with what it imports as it was then, and the working tree is left alone."""
        before = sorted(repository.rglob("*.py"))
        name = "src/mine/heap.py:Heap"
        found = compared(f"{name}@HEAD~1", f"{name}@HEAD", budget=Budget(operations=60, runs=0, search=0), recorded=())
        assert found.totals()["internal"].old < found.totals()["internal"].new
        assert len(set(found.commits.values())) == 2
        assert sorted(repository.rglob("*.py")) == before
        assert found.refuted == {}

    @pytest.mark.parametrize(
        ("name", "said"),
        [
            ("src/mine/heap.py:Heap@nope", "is no revision of"),
            ("src/mine/gone.py:Heap@HEAD", "has no file src/mine/gone.py"),
            ("src/mine/heap.py:Gone@HEAD", "has no 'Gone'"),
            ("src/mine/heap.py:Heap@--help", "is no revision of"),
        ],
    )
    def test_bad_names(self, repository, heaplaw, name, said):
        """What is not there is one clear line, exit code 2."""
        code, _, err = heaplaw("compare", name, "tlsf")
        assert (code, err.count("\n")) == (2, 1)
        assert said in err

    def test_no_repository(self, tmp_path, heaplaw):
        """A file outside every repository is one clear line."""
        code, _, err = heaplaw("compare", f"{tmp_path}/heap.py:Heap@HEAD", "tlsf")
        assert code == 2
        assert "is in no git repository" in err


CRASHING = """
import os
from strategies_under_test import Rounded

class Crashing(Rounded):
    def free(self, handle):
        os._exit(9)
"""


def test_a_crash_is_a_counterexample(repository, heaplaw):
    """A revision that ends its process breaks the law that calls return; the comparison goes on."""
    (repository / "bad.py").write_text("import sys\nsys.path.insert(0, " + repr(str(HERE.parent)) + ")\n" + CRASHING)
    subprocess.run(["git", "add", "-A"], cwd=repository, check=True, timeout=30)
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "bad"], cwd=repository,
                   check=True, timeout=30)  # fmt: skip
    found = compared(of("Rounded"), "bad.py:Crashing@HEAD", budget=Budget(operations=30, runs=0, search=0), recorded=())
    assert found.refuted_by_new_only == ["returns"]
    assert showing.exit_code(found, ()) == 1


class TestCommand:
    """The command line."""

    WORDS = ("--no-recorded", "--ops", "60", "--search", "500", "--runs", "0")

    def test_report(self, heaplaw, tmp_path):
        """It prints old, new, ratio and words, and the same seed writes the same bytes."""
        words = ("compare", of("Rounded"), of("Coarse"), *self.WORDS, "--json")
        code, out, _ = heaplaw(*words, tmp_path / "one.json")
        assert heaplaw(*words, tmp_path / "two.json")[0] == code == 0
        assert "internal fragmentation" in out
        assert "worse" in out
        assert "worst trace found for new" in out
        assert out.splitlines()[-1].startswith("new breaks no law that old keeps")
        one = (tmp_path / "one.json").read_bytes()
        assert one == (tmp_path / "two.json").read_bytes()
        data = json.loads(one)
        assert (data["what"], data["exit"]) == ("strategies", 0)
        assert data["traces"][0]["new"]["internal"] > data["traces"][0]["old"]["internal"]
        assert data["laws"]["big-enough"] == {"old": "passed", "new": "passed"}
        heaplaw(*words, tmp_path / "three.json", "--seed", "2")
        assert json.loads((tmp_path / "three.json").read_text())["traces"] != data["traces"]

    def test_threshold(self, heaplaw, tmp_path):
        """A threshold that is not kept is exit code 1 and said with its figures."""
        words = ("compare", of("Rounded"), of("Coarse"), *self.WORDS, "--threshold", "internal=+1")
        code, out, _ = heaplaw(*words, "--json", tmp_path / "a.json", "-v")
        assert code == 1
        assert "threshold internal=+1 not kept on churn" in out
        assert json.loads((tmp_path / "a.json").read_text())["thresholds_not_kept"]

    def test_old_counterexamples(self, heaplaw, tmp_path):
        """Old counterexamples are run on both, and made small for the new one where they still fail."""
        (tmp_path / "old").mkdir()
        long = [Operation(Kind.ALLOC, name, 40 + 30 * name) for name in range(6)]
        (tmp_path / "old" / "short.trace").write_text(str(Trace(long, {"law": "big-enough"})))
        code, out, _ = heaplaw("compare", of("Rounded"), of("Short"), *self.WORDS, "--counterexamples",
                               tmp_path / "old", "--save", tmp_path / "new")  # fmt: skip
        assert code == 1
        assert "no longer fails  still fails  6 -> 1" in out
        assert len(Trace.parse((tmp_path / "new" / "short.trace").read_text()).operations) == 1
        words = ("compare", of("Short"), of("Rounded"), *self.WORDS)
        code, out, _ = heaplaw(*words, "--counterexamples", tmp_path / "old")
        assert code == 0
        assert "still fails  no longer fails" in out

    def test_parameters_of_old_counterexamples(self, heaplaw, tmp_path):
        """An old counterexample of a revision runs in a heap of the shape that it was found in."""
        (tmp_path / "a.trace").write_text(
            "heaplaw trace 1\ntarget tlsf@conte-3.1,arena=1024,sl=2\nlaw big-enough\na = alloc 18446744073709551609\n"
        )
        words = ("compare", "tlsf@conte-3.1", "tlsf", "--no-recorded", "--ops", "30", "--search", "0", "--runs", "0")
        code, out, _ = heaplaw(*words, "--counterexamples", tmp_path)
        assert code == 0
        assert "target tlsf@conte-3.1,arena=1024,sl=2" in out
        assert "new keeps " in out.splitlines()[-1]

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (("--threshold", "nope=+1"), "unknown figure"),
            (("--counterexamples", "/nowhere"), "no folder of trace files"),
            (("--plot", "picture.txt"), ".svg, .png, .pdf"),
            (("--trace", __file__), "not a recording"),
            (("--worst", "nope"), "nope"),
        ],
    )
    def test_bad_input(self, heaplaw, words, said):
        """Bad input is one line, exit code 2."""
        code, _, err = heaplaw("compare", of("Rounded"), of("Coarse"), *self.WORDS, *words)
        assert (code, err.count("\n")) == (2, 1)
        assert said in err

    def test_time(self, heaplaw):
        """When time is up before all was done, nothing is green."""
        code, out, _ = heaplaw("compare", of("Rounded"), of("Coarse"), *self.WORDS, "--time", "0.0001s")
        assert code == 3
        assert "inconclusive" in out

    def test_plot(self, tmp_path):
        """A picture has a row for each trace; the same comparison gives the same SVG."""
        pytest.importorskip("matplotlib")
        found = quick("Rounded", "Silent")
        del found.rows[2:]
        for name in ("one.svg", "two.svg"):
            plotting.plot(found, tmp_path / name)
        one = (tmp_path / "one.svg").read_text()
        assert one == (tmp_path / "two.svg").read_text()
        assert one.startswith("<?xml")
        assert one.count('id="axes_') == 2 * 2

    def test_without_matplotlib(self, heaplaw, tmp_path, monkeypatch):
        """Without the library for pictures it is said which extra to install, before any work."""
        monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
        code, _, err = heaplaw("compare", of("Rounded"), of("Coarse"), *self.WORDS, "--plot", tmp_path / "a.svg")
        assert code == 2
        assert "heaplaw[plots]" in err


def test_native(heaplaw):
    """Machine code is compared too, in a process of its own."""
    pytest.importorskip("cffi")
    words = ("compare", "malloc:glibc", "malloc:glibc", "--no-recorded", "--ops", "40", "--search", "0")
    code, out, err = heaplaw(*words, "--runs", "1")
    if code == 2:
        pytest.skip(err)
    assert code == 0
    assert "internal fragmentation" in out


def test_figures_have_a_side():
    """Every figure says its unit and which way is better."""
    assert {known.unit for known in FIGURES.values()} == {"bytes", "share", "steps", "requests"}
    assert [name for name, known in FIGURES.items() if not known.less_is_better] == ["returned"]
    assert all(Measured().figure(name) is None for name in FIGURES)
    assert Refuted("a", "t", "w", 1, "", "", "").length == 0
