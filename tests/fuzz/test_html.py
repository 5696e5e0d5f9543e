"""The HTML report: its structure, and what a browser shows of it."""

import re
import shutil
import struct
import textwrap
from collections import Counter
from html.parser import HTMLParser
from io import StringIO
from itertools import pairwise
from pathlib import Path

import pytest
from rich.console import Console

from heaplaw.fuzz import report as plain
from heaplaw.fuzz.isolating import filmed_apart
from heaplaw.fuzz.reports.axis import Axis
from heaplaw.fuzz.reports.html import to_html
from heaplaw.fuzz.reports.model import Report, Step
from heaplaw.lawbook import LAWS
from heaplaw.properties.floors import Measured
from heaplaw.properties.frames import Place
from heaplaw.properties.replay import replay
from heaplaw.properties.verdict import COUNTEREXAMPLE, Finding, Status, Tally, exit_code
from heaplaw.runs import Violation
from heaplaw.trace import Trace

DATA = Path(__file__).parent.parent / "data"
MINE = """heaplaw trace 1
target {path}:Mine
law disjoint
1  a = alloc 1
2  b = alloc 1
3  free a
4  c = alloc 2
"""
VOID = {"meta", "path", "rect", "circle", "line", "br"}  # elements without an end, as the template writes some of them
ASIDE = {"style", "title", "desc"}


def played(text):
    """What a trace breaks of the law that it names."""
    trace = Trace.parse(text)
    tally = replay(trace, trace.target).tally
    tally.findings = [one for one in tally.findings if one.violation.law == trace.header["law"]]
    assert tally.findings
    return tally


@pytest.fixture(scope="module")
def report():
    """Four bugs, of different laws and kinds of allocators, and a target on which all is well."""
    texts = [MINE.format(path=DATA / "examples/mine.py")]
    texts += [(DATA / f"traces/{name}.trace").read_text() for name in ("percpu-bitmap@4.14-hint-sound",)]
    texts += [(DATA / f"gallery/{name}.trace").read_text() for name in ("ZS16", "B08")]
    fine = replay(Trace.parse("heaplaw trace 1\n1  a = alloc 8\n2  free a\n"), "tlsf").tally
    tallies = [*map(played, texts), fine]
    steps = [Step("corpus", "tlsf", Status.NOT_RUN, "there is <no> corpus")]
    floors = [Measured("tlsf", "split", 0, 5)]
    again = {(tallies[1].findings[0].target, "hint-sound"): "kept/it is.trace"}
    return Report("check", 1, COUNTEREXAMPLE, plain.verdict(tallies, 1), tallies, steps, floors, again)


@pytest.fixture(scope="module")
def page(report):
    return to_html(report)


class Reader(HTMLParser):
    """Elements, their attributes and their text; complains where one is closed that is not open."""

    def __init__(self, text):
        super().__init__()
        self.open, self.seen, self.words = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs), tuple(self.open)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs), tuple(self.open)))

    def handle_data(self, data):
        if not set(self.open) & ASIDE:
            self.words.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.words))


class TestPage:
    def test_is_well_formed(self, page):
        """Every element is closed where it must be, and no two have one id."""
        reader = Reader(page)
        assert reader.open == []
        ids = Counter(attrs["id"] for _, attrs, _ in reader.seen if "id" in attrs)
        assert set(ids.values()) == {1}

    def test_fetches_and_runs_nothing(self, page):
        """No script, and no address but places in the page itself."""
        reader = Reader(page)
        assert not {"script", "link", "img", "iframe", "object"} & {tag for tag, _, _ in reader.seen}
        known = {attrs["id"] for _, attrs, _ in reader.seen if "id" in attrs}
        for _, attrs, _ in reader.seen:
            for name, value in attrs.items():
                assert not name.startswith("on")
                if name in ("src", "href", "xlink:href", "action"):
                    assert value.removeprefix("#") in known
                    assert value.startswith("#")
        assert set(re.findall(r"url\(([^)]*)\)", page)) <= {f"#{name}" for name in known}
        assert "http" not in page
        assert "@import" not in page

    def test_is_the_same_every_time(self, report, page):
        """The same report gives the same bytes."""
        assert to_html(report) == page

    def test_is_accessible(self, page):
        """Pictures have a title and words for who cannot see them; header cells say what they head."""
        reader = Reader(page)
        pictures = [attrs for tag, attrs, _ in reader.seen if tag == "svg" and attrs.get("aria-hidden") != "true"]
        titles = page.count("<title>") - 1
        steps = sum(len(finding.trace.operations) for finding in self.findings(page))
        assert all(attrs["role"] == "img" for attrs in pictures)
        assert titles == len(pictures)
        assert page.count("<desc>") == steps == 4 + 4 + 11 + 4
        assert all("scope" in attrs for tag, attrs, _ in reader.seen if tag == "th")

    @staticmethod
    def findings(page):
        texts = re.findall(r'<pre [^>]*class="trace"><code>(.*?)</code>', page, flags=re.DOTALL)
        return [Finding("", Violation("", 0, "", "", Trace.parse(text.replace("&gt;", ">")))) for text in texts]

    def test_traces_can_be_copied(self, report, page):
        """The trace of each counterexample stands in the page as it stands in its file."""
        wanted = [finding.trace for tally in report.tallies for finding in tally.findings]
        assert [one.violation.trace for one in self.findings(page)] == wanted

    def test_says_what_to_do(self, page):
        """Commands name the saved trace where there is one, and a file to write where there is none."""
        target = "percpu-bitmap@4.14,unit=256,block=64,chunks=2"
        assert f"heaplaw replay &#39;kept/it is.trace&#39; --target {target}" in page
        assert "heaplaw minimize buddy+B08-free-list.trace --target buddy+B08,pages=8" in page
        assert "git bisect run heaplaw replay --bisect buddy+B08-free-list.trace" in page

    def test_law_source_and_both_sides(self, report, page):
        """Of each counterexample stand there the law in words, its source, what was expected and what was seen."""
        text = Reader(page).text
        for tally in report.tallies:
            for finding in tally.findings:
                law, found = LAWS[finding.violation.law], finding.violation
                assert all(words in text for words in (law.sentence, law.source, found.expected, found.seen))

    def test_steps_floors_and_words(self, page):
        """Steps of a gate, floors that were not met, and the estimate are there; text is text."""
        text = Reader(page).text
        assert "there is <no> corpus" in text
        assert "✗ not met" in text
        assert "Good and Turing" in text

    def test_nothing_run_is_not_green(self):
        """Without a tally, or with an empty one, the page does not say passed."""
        for tallies in ([], [Tally("tlsf", "plain", planned=10)]):
            code = exit_code(tallies)
            text = Reader(to_html(Report("gate", 1, code, plain.verdict(tallies, code), tallies))).text
            assert "? Not decided" in text
            assert "✓ Passed" not in text

    def test_a_flake_is_no_counterexample(self, report):
        """What did not recur is shown, and said to be inconclusive."""
        tally = Tally("buddy+B08,pages=8", "plain", flaky=report.tallies[3].findings)
        assert "did not recur in a fresh process" in to_html(Report("check", 1, 3, "inconclusive", [tally]))

    def test_without_a_picture(self):
        """A target that cannot be made again is shown as far as text goes, with the reason."""
        found = Violation("returns", 0, "an answer", "SIGSEGV", Trace.parse("heaplaw trace 1\n1  a = alloc 8\n"))
        tally = Tally("gone.py:Gone", "plain", 1, 1)
        tally.findings = [Finding("gone.py:Gone", found, picture=["  1  a = alloc 8  SIGSEGV"])]
        text = Reader(to_html(Report("check", 1, 1, "broken", [tally]))).text
        assert "There is no picture: the target cannot be made again" in text
        assert "1 a = alloc 8 SIGSEGV" in text

    @pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
    def test_contrast(self, page, mode):
        """Text stands out from what is behind it by 4.5 to 1, the mark of a violation by 3 to 1."""
        parts = page.split("color-scheme: dark)")
        palettes = [dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", part)) for part in parts]
        colours = palettes[0] | palettes[mode]
        papers = ("paper", "card", "code")
        pairs = [(ink, paper) for ink in ("ink", "soft", "good", "bad", "unclear", "link") for paper in papers]
        pairs += [(ink, "bad-bg") for ink in ("ink", "soft", "bad", "unclear")]
        pairs += [("good", "good-bg"), ("unclear", "unclear-bg"), ("ink", "good-bg"), ("ink", "unclear-bg")]
        pairs += [("ink", "ground")]
        assert {pair: ratio(*map(colours.get, pair)) for pair in pairs if ratio(*map(colours.get, pair)) < 4.5} == {}
        assert ratio(colours["mark"], colours["bad-bg"]) >= 3


def ratio(one, two):
    """Contrast of two colours, as WCAG 2 defines it."""

    def luminance(colour):
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(two)))
    return (high + 0.05) / (low + 0.05)


class TestAxis:
    def test_order_is_kept(self):
        """A higher address never stands further left, and the axis is as wide as it was told."""
        axis = Axis([Place(0, 3, 1), Place(0, 4000, 90)], [Place(0, 100, 50)], (0, 1 << 20), width=700)
        across = [axis.x(address) for address in range(0, 1 << 20, 997)]
        assert across == sorted(across)
        assert (axis.x(0), round(axis.x(1 << 20), 6)) == (0, 700)

    def test_everything_in_use_can_be_seen(self):
        """A byte among a million is wide enough for a letter, and the axis admits that it is not to scale."""
        axis = Axis([Place(0, 500_000, 1)], [], (0, 1_000_000), width=700)
        assert axis.x(500_001) - axis.x(500_000) > 20
        assert not axis.to_scale

    def test_pages_never_held_take_little_room(self):
        """A gap of pages that nobody holds is a narrow one."""
        held = [Place(0, 0, 4096), Place(0, 4096 * 1000, 4096)]
        axis = Axis([Place(0, 0, 64)], [], None, width=700, held=held)
        assert axis.voids == [(4096, 4096 * 1000)]
        assert axis.x(4096 * 1000) - axis.x(4096) < 30

    def test_ticks_do_not_touch(self):
        """Labels have room between them; both ends have one."""
        ticks = Axis([Place(0, at, 3) for at in range(0, 900, 3)], [], (0, 1024), width=700).ticks()
        assert [ticks[0].address, ticks[-1].address] == [0, 1024]
        assert all(b.x - a.x > 15 for a, b in pairwise(ticks))


def test_a_process_that_is_lost(tmp_path, monkeypatch):
    """A target that ends its process at the last step is filmed in a child: what was before, and how it was lost."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lost.py").write_text(
        textwrap.dedent("""
        import os
        from heaplaw import Contract

        class Lost:
            contract = Contract(arena=64)
            def alloc(self, size): return 8
            def free(self, handle): os._exit(9)
        """)
    )
    film = filmed_apart("lost.py:Lost", Trace.parse("heaplaw trace 1\n1  a = alloc 8\n2  free a\n"))
    assert [frame.outcome for frame in film.frames[:1]] == ["at 8+8"]
    assert "9" in film.frames[1].problem


class TestTerminal:
    def shown(self, finding, **console):
        words = StringIO()
        plain.show_finding(Console(width=100, file=words, **console), finding)
        return words.getvalue()

    def test_colours_on_terminals_only(self, report, monkeypatch):
        """An object has a colour of its own on a terminal; none in a pipe, and none where NO_COLOR is set."""
        finding = report.tallies[0].findings[0]
        monkeypatch.delenv("NO_COLOR", raising=False)
        monkeypatch.setenv("TERM", "xterm")
        assert "\x1b[33mB\x1b[0m" in self.shown(finding, force_terminal=True)
        monkeypatch.setenv("NO_COLOR", "1")
        assert "\x1b[33m" not in self.shown(finding, force_terminal=True)
        assert "\x1b" not in self.shown(finding)

    def test_the_mark(self, report):
        """The step that breaks the law is marked, and so are the bytes."""
        *_, last, carets = self.shown(report.tallies[0].findings[0]).rstrip().splitlines()
        assert last == "    4  c = alloc 2 |C#..............|  <-- disjoint"
        assert carets.index("^") == last.index("#")


# ---- in a browser ------------------------------------------------------------------------------------------


def why_no_browser():
    """Why there is none to try the page in; empty where there is one."""
    missing = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"not installed: {', '.join(missing)}" if missing else ""


@pytest.fixture(scope="module")
def browser(page, tmp_path_factory):
    """Headless Chromium with the page open."""
    if why := why_no_browser():
        pytest.skip(why)
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for word in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "window-size=1280,2400"):
        options.add_argument(f"--{word}")
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(page, encoding="utf-8")
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        driver.get(file.as_uri())
        yield driver
    finally:
        driver.quit()


def one(browser, selector):
    return browser.find_element("css selector", selector)


class TestInABrowser:
    def test_verdict_table(self, report, browser):
        """The table that is shown says of each law, target and engine what the tally says, in words."""
        data = "c => [c.dataset.law, c.dataset.target, c.innerText]"
        script = f"return [...document.querySelectorAll(arguments[0])].map({data})"
        cells = browser.execute_script(script, "#verdict-table td")
        shown = {(law, target): words for law, target, words in cells}
        spoken = {Status.REFUTED: "✗ broken", Status.NOT_APPLICABLE: "- n/a", Status.NOT_RUN: "○ not run"}
        applies = [law for law in LAWS if any(t.status(law) is not Status.NOT_APPLICABLE for t in report.tallies)]
        assert {law for law, _ in shown} == set(applies)
        for tally in report.tallies:
            for law in applies:
                status = tally.status(law)
                wanted = spoken.get(status, f"✓ passed {tally.evidence[law]:,}")
                assert re.sub(r"\s+", " ", shown[law, tally.target]) == wanted
        assert shown["free-list", "buddy+B08,pages=8"] == "✗ broken"
        heads = [words.split() for _, _, words in browser.execute_script(script, "#verdict-table thead th")]
        assert heads[1:] == [[tally.target, "replay"] for tally in report.tallies]

    def test_the_picture_marks_the_overlap(self, browser):
        """The outline lies over the second byte, by the axis, where both blocks are; the arrow points at it."""
        script = """
            const figure = document.querySelector('figure.heap[data-law=disjoint]');
            const box = e => { const b = e.getBoundingClientRect(); return [b.left, b.right, b.top, b.bottom]; };
            const ticks = {};
            figure.querySelectorAll('.ruler .tick').forEach(t => { ticks[t.textContent] = box(t); });
            const last = figure.querySelector('.steps > li.broken');
            const blocks = [...last.querySelectorAll('.block')].map(box);
            return [ticks, box(last.querySelector('.mark')), blocks, box(last.querySelector('.arrow')), last.innerText];
        """
        ticks, mark, blocks, arrow, words = browser.execute_script(script)
        middle = [(ticks[name][0] + ticks[name][1]) / 2 for name in ("1", "2")]
        assert mark[:2] == pytest.approx(middle, abs=3)
        assert len(blocks) == 2
        assert all(left <= mark[0] + 3 and mark[1] - 3 <= right for left, right, _, _ in blocks)
        assert blocks[0][3] <= blocks[1][2] + 2 or blocks[1][3] <= blocks[0][2] + 2  # one above the other
        assert mark[0] < (arrow[0] + arrow[1]) / 2 < mark[1]
        assert arrow[2] > mark[3] - 3
        assert "c and b both own these bytes" in words
        assert "disjoint is broken here" in words

    def test_the_picture_of_a_hint(self, browser):
        """What a hint claims is outlined where it claims it, and said beside the truth."""
        words = one(browser, "figure.heap[data-law=hint-sound] li.broken").text
        assert "chunk.contig says that these 248 bytes are free; the longest free run is 244" in words
        assert "✗ hint chunk.contig: 248, true is 244" in words

    def test_screenshots(self, browser):
        """A heap picture can be photographed, light and dark, and the two differ."""
        figure, seen = one(browser, "figure.heap[data-law=contents]"), []
        for mode in ("light", "dark"):
            scheme = [{"name": "prefers-color-scheme", "value": mode}]
            browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
            seen.append(figure.screenshot_as_png)
            wide, high = struct.unpack(">II", seen[-1][16:24])
            assert seen[-1].startswith(b"\x89PNG")
            assert (wide > 900, high > 600) == (True, True)
        assert seen[0] != seen[1]

    def test_fetches_nothing(self, browser):
        """The browser loads nothing but the page, and has nothing to complain about."""
        assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
        assert browser.get_log("browser") == []

    def test_no_part_is_cut_off(self, browser):
        """On a narrow screen as on a wide one the page is no wider than the window."""
        for width in (420, 1280):
            metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
            assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
