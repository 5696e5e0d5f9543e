"""Published results are made again: verdicts follow from what was found, and the command and the page say the same."""

import json
import xml.etree.ElementTree as ET
from functools import cache

import pytest
import render_published

from heaplaw.fuzz import reproducing
from heaplaw.fuzz.published import chart, images, memory, shape, zram
from heaplaw.fuzz.published.results import RESULTS, as_data, made_again
from heaplaw.fuzz.published.shape import Chart, Claim, Experiment, Figure, Line, Outcome, Posting, Scale, Table

SAID = Table("published", ("what", "ms"), (("a", 1),))
FAST = [name for name in RESULTS if not name.startswith(("zram", "percpu"))]
"""Results whose claims hold at a test's scale too; the others need more objects than a test has time for."""


@cache
def tiny(name):
    """The result at a test's scale, made once."""
    return made_again(name, Scale.TINY, 1)


def judged(claims, figures=(), within=2.0, why=""):
    experiment = Experiment("x", "A sentence.", Posting("a", "2000", "b"), within, lambda scale, seed: outcome)
    outcome = Outcome(SAID, (), claims, figures, why)
    return shape.verdict(experiment, outcome)


class TestVerdict:
    HOLDS, FAILS = Claim("it falls", True, "3, 2"), Claim("it rises", False, "3, 2")

    def test_one_false_claim_is_enough(self):
        """A direction that does not hold is not reproduced, however near the figures are, and is named."""
        found = judged((self.HOLDS, self.FAILS), (Figure("a", 1, 1),))
        assert found.kind == shape.NOT_REPRODUCED
        assert "it rises (3, 2)" in found.text

    @pytest.mark.parametrize(("ours", "kind"), [(2.0, "reproduced"), (0.5, "reproduced"), (2.1, "direction only"),
                                                (0.4, "direction only"), (0, "direction only")])  # fmt: skip
    def test_the_farthest_figure_decides(self, ours, kind):
        """A figure is as far above as below; the farthest one must come within the stated factor."""
        assert judged((self.HOLDS,), (Figure("near", 1, 1), Figure("far", 1, ours))).kind == kind

    def test_nothing_claimed_is_not_run(self):
        """A result without claims is not run, not reproduced."""
        assert judged((), why="no compressor").kind == shape.NOT_RUN

    @pytest.mark.parametrize(("kinds", "code"), [(["reproduced", "direction only"], 0), (["not reproduced"], 1),
                                                 (["not run", "reproduced"], 3), ([], 3)])  # fmt: skip
    def test_exit_codes(self, kinds, code):
        """A wrong direction ends with 1, nothing executed with 3."""
        assert reproducing.exit_code([shape.Verdict(kind, 1.0, "") for kind in kinds]) == code


class TestResults:
    @pytest.mark.parametrize("name", FAST)
    def test_directions(self, name):
        """Every claim holds at a small scale, and the figures that were published come within their factor."""
        outcome, found, _ = tiny(name)
        assert [claim for claim in outcome.claims if not claim.holds] == []
        assert found.kind == shape.REPRODUCED
        assert outcome.charts

    @pytest.mark.parametrize("name", [name for name in RESULTS if name not in FAST])
    def test_shape(self, name):
        """The others run at that scale, with tables, claims and charts."""
        outcome, found, _ = tiny(name)
        assert outcome.published.rows
        assert outcome.ours
        assert outcome.charts
        assert found.kind != shape.NOT_RUN

    @pytest.mark.parametrize("name", RESULTS)
    def test_memory_is_given_in_both_metrics(self, name):
        """Every result has a table of pages held beside metadata and padding."""
        data = as_data(name, *tiny(name))
        columns = [column for table in data["ours"] for column in table["columns"]]
        assert "pages held" in columns
        assert any("padding" in column or "meta+pad" in column for column in columns)
        assert json.loads(json.dumps(data)) == data

    @pytest.mark.parametrize("name", ["compressed-pages", "lifetimes", "zspage-tail"])
    def test_same_seed(self, name):
        """The same seed gives the same outcome, another one other figures."""
        first, again, other = tiny(name)[0], *(RESULTS[name].run(Scale.TINY, seed) for seed in (1, 2))
        assert first == again
        assert first != other

    def test_a_wrong_allocator_is_not_reproduced(self, monkeypatch):
        """Were xvmalloc what xcfmalloc is, the cliff would be gone and the result not reproduced."""
        real = memory.factory
        from heaplaw.fuzz.published import half_page

        monkeypatch.setattr(half_page, "factory", lambda name: real(name.replace("xvmalloc", "compcache")))
        assert made_again("half-page", Scale.TINY, 1)[1].kind == shape.NOT_REPRODUCED


class TestMemory:
    def test_both_metrics(self):
        """Pages, padding, pieces and copies of two objects in xcfmalloc are counted from their extents."""
        heap = memory.factory("xcfmalloc,pages=8,reserve=1")()
        live = memory.store(heap, [3000, 100])
        used = memory.measure(heap, live, "xcfmalloc")
        assert (used.objects, used.requested, used.held) == (2, 3100, heap.source.held * 4096)
        lent = sum(size for handle in live for _, _, size in heap.extents(handle))
        assert used.padding == lent - 3100
        assert used.copies == used.pieces >= 1

    def test_what_straddles_is_copied_when_mapped(self):
        """zsmalloc copies an object across two pages and no other."""
        heap = memory.factory("zsmalloc,pages=64,chain=4")()
        live = memory.store(heap, [3000] * 5)
        used = memory.measure(heap, live, "zsmalloc")
        across = sum(len({at // 4096 for _, at, n in heap.extents(one) for at in (at, at + n - 1)}) > 1 for one in live)
        assert 0 < across < 5
        assert used.copies == 2 * across / 5
        assert used.pages_touched == 1 + across / 5

    def test_too_little_room(self):
        """A refusal is never counted as stored."""
        with pytest.raises(RuntimeError, match="Xvmalloc refused 3000 bytes after 2 objects"):
            memory.store(memory.factory("xvmalloc,pages=2")(), [3000] * 3)


class TestImages:
    def test_tree(self, tmp_path):
        """Planted folders have their shares of the pages, and the experiment can be made over them."""
        images.plant(tmp_path, 100, {"a": 0.75, "b": 0.25}, seed=3)
        pages = {name: sum(-(-p.stat().st_size // 4096) for p in (tmp_path / name).rglob("*.c")) for name in "ab"}
        assert pages == {"a": 75, "b": 25}
        first, *_ = zram.experiment(tmp_path, ["xvmalloc"], images.ZLIB)
        assert first.original == 100 * 4096

    def test_packed_sizes(self):
        """Pages compress to different sizes, and what exceeds the limit is left out."""
        sizes = images.packed_sizes(60, seed=1, most=2000)
        assert 30 < len(sizes) < 60
        assert max(sizes) <= 2000
        assert len(set(sizes)) > 30


class TestChart:
    @pytest.mark.parametrize("log", [False, True])
    def test_svg(self, log):
        """A chart is well-formed XML with a curve for each line and words that are escaped."""
        lines = (Line("a < b", ((1, 10), (100, 1000))), Line("zero", ((1, 0), (2, 5))))
        root = ET.fromstring(chart.svg(Chart("t & u", "x", "y", lines, log)))
        kinds = [child.tag.rpartition("}")[2] for child in root]
        assert kinds.count("polyline") == 2
        assert "a < b" in [child.text for child in root]

    def test_scale(self):
        """On a logarithmic axis a factor of ten has the same width everywhere."""
        root = ET.fromstring(chart.svg(Chart("t", "x", "y", (Line("a", ((1, 1), (10, 10), (100, 100))),), True)))
        points = next(child.get("points") for child in root if child.tag.endswith("polyline"))
        first, second, third = (float(point.split(",")[0]) for point in points.split())
        assert second - first == pytest.approx(third - second, abs=0.2)

    def test_no_points(self):
        """Nothing to draw is an error, not an empty picture."""
        with pytest.raises(ValueError, match="nothing to draw"):
            chart.svg(Chart("t", "x", "y", ()))


class TestCommand:
    def test_one(self, heaplaw, tmp_path):
        """Both tables, the verdict, the seed first and last, JSON and a chart."""
        code, out, _ = heaplaw("reproduce", "xen-pages", "--json", tmp_path / "a.json", "--plots", tmp_path / "charts")
        assert code == 0
        assert out.startswith("seed 1\n")
        assert "published: pages for one object" in out
        assert "Reproduced in direction and within a factor of 1.01" in out
        assert "seed 1: 1 of 1 reproduced in direction, 1 of them within their factor" in out.splitlines()[-1]
        assert [one["verdict"] for one in json.loads((tmp_path / "a.json").read_text())["results"]] == ["reproduced"]
        assert ET.parse(tmp_path / "charts/xen-pages.svg").getroot().tag.endswith("svg")

    def test_wrong_direction(self, heaplaw, monkeypatch):
        """A result whose direction does not hold ends with 1 and says what does not."""
        wrong = RESULTS["xen-pages"]._replace(run=lambda scale, seed: Outcome(SAID, (), (Claim("up", False, "down"),)))
        monkeypatch.setitem(RESULTS, "xen-pages", wrong)
        code, out, _ = heaplaw("reproduce", "xen-pages", "--quick")
        assert code == 1
        assert "Not reproduced: up (down)" in out

    def test_several_jobs(self, heaplaw):
        """Results come in the order in which they were named, whichever process makes them."""
        code, out, _ = heaplaw("reproduce", "slub-orders", "xen-pages", "--quick", "--jobs", "2")
        assert code == 0
        assert out.index("slub-orders") < out.index("xen-pages")

    def test_list(self, heaplaw):
        """All results are listed with their sources."""
        code, out, _ = heaplaw("reproduce", "--list")
        assert code == 0
        assert all(name in out for name in RESULTS)

    def test_help(self, heaplaw):
        """The help names both forms."""
        assert "heaplaw reproduce zram /usr/src/linux" in heaplaw("reproduce", "--help")[1]
        assert "heaplaw reproduce zram [OPTIONS] TREE" in heaplaw("reproduce", "zram", "--help")[1]

    @pytest.mark.parametrize(
        ("arguments", "line"),
        [
            (["nothing"], "no published result 'nothing'; there are percpu-frees,"),
            (["xen-pages", "zram"], "no published result 'zram'"),
            (["--json", "/no/such/folder/a.json"], "there is no folder"),
            (["--plots", "/proc/charts"], "cannot make the folder"),
            (["zram"], "Missing argument 'TREE'"),
        ],
    )
    def test_bad_input(self, heaplaw, arguments, line):
        """Bad input gets one line and exit code 2."""
        code, _, err = heaplaw("reproduce", *arguments)
        assert (code, err.count("\n")) == (2, 1)
        assert line in err


class TestPage:
    DATA = json.loads(render_published.DATA.read_text())

    def test_page(self):
        """The page is what was measured."""
        assert render_published.PAGE.read_text() == render_published.page(self.DATA)

    def test_all_results_are_there(self):
        """Every result is on the page, from a whole run, with its sentence as the code has it."""
        assert self.DATA["scale"] == "full"
        assert [(one["name"], one["sentence"]) for one in self.DATA["results"]] == [
            (name, known.sentence) for name, known in RESULTS.items()
        ]

    def test_enough_are_reproduced(self):
        """At least nine published results come out in direction, with a factor for their figures."""
        good = [one for one in self.DATA["results"] if one["verdict"] in ("reproduced", "direction only")]
        assert sum(one["factor"] is not None for one in good) >= 9
        assert sum(one["seconds"] for one in self.DATA["results"]) < 15 * 60
