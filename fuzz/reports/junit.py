"""JUnit XML: a suite is an engine on a target, a test is a law.

A law that is broken is a failure, one of which nothing can be said an error, one that did not run or does not apply
is skipped with its reason.  Each suite has one test more, "searched": that all that was planned was done; so a
suite in which every law was skipped is not green.

>>> to_junit(Report("check", 1, 3, "inconclusive: nothing was executed", [Tally("buddy", "plain")])).count("<error")
1
"""

from xml.etree import ElementTree as Xml

from heaplaw.lawbook import LAWS
from heaplaw.properties.floors import Measured
from heaplaw.properties.verdict import Status, Tally

from .model import Report, Step
from .wording import again, counterexample, headline, printable, shortfall, status, why

_OUTCOMES = {
    Status.REFUTED: "failure",
    Status.INCONCLUSIVE: "error",
    Status.NOT_RUN: "skipped",
    Status.NOT_APPLICABLE: "skipped",
}
_COUNTS = {"failure": "failures", "error": "errors", "skipped": "skipped"}


def to_junit(report: Report) -> str:
    """The report as JUnit XML; nothing but ``time`` differs for the same seed."""
    root = Xml.Element("testsuites", {"name": f"heaplaw {report.command}"})
    for tally in report.tallies:
        _suite_of(root, report, tally)
    if report.floors:
        suite = Xml.SubElement(root, "testsuite", {"name": "floors"})
        for floor in report.floors:
            _floor(suite, floor)
    if report.steps:
        suite = Xml.SubElement(root, "testsuite", {"name": "steps"})
        for step in report.steps:
            _step(suite, step)
    if report.code and root.find(".//failure") is None and root.find(".//error") is None:
        suite = Xml.SubElement(root, "testsuite", {"name": "verdict"})  # whatever it was: not green
        _case(suite, "verdict", report.command, "error", report.verdict)
    _count(root)
    Xml.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + Xml.tostring(root, encoding="unicode") + "\n"


def _suite_of(root: Xml.Element, report: Report, tally: Tally) -> None:
    name = f"{tally.target} ({tally.engine})"
    suite = Xml.SubElement(root, "testsuite", {"name": printable(name), "time": f"{tally.seconds:.3f}"})
    properties = Xml.SubElement(suite, "properties")
    for key, value in (("seed", report.seed), ("operations", tally.operations), ("runs", tally.runs)):
        if value is not None:
            Xml.SubElement(properties, "property", {"name": key, "value": str(value)})
    short = shortfall(tally)
    _case(suite, name, "searched", "error" if short else "", short)
    broken = {finding.violation.law: finding for finding in tally.findings}
    for law in LAWS:
        outcome = _OUTCOMES.get(status(tally, law), "")
        if law in broken:
            case = _case(suite, name, law, outcome, headline(broken[law]))
            command = again(report, tally, broken[law])
            case[0].text = printable(f"{counterexample(broken[law])}\n\n{command}")
        else:
            _case(suite, name, law, outcome, why(tally, law))


def _floor(suite: Xml.Element, floor: Measured) -> None:
    outcome = "skipped" if floor.why_not else "" if floor.met else "error"
    _case(suite, floor.target, floor.word, outcome, str(floor))


def _step(suite: Xml.Element, step: Step) -> None:
    case = _case(suite, step.name, step.subject or step.name, _OUTCOMES.get(step.verdict, ""), step.said)
    case.set("time", f"{step.seconds:.3f}")


def _case(suite: Xml.Element, group: str, name: str, outcome: str, message: str) -> Xml.Element:
    """One test; it passed where there is no outcome."""
    case = Xml.SubElement(suite, "testcase", {"classname": printable(group), "name": printable(name)})
    if outcome:
        Xml.SubElement(case, outcome, {"message": printable(message)})
    return case


def _count(root: Xml.Element) -> None:
    """How many tests of each outcome there are, in each suite and in all."""
    for element in (*root, root):
        element.set("tests", str(len(element.findall(".//testcase"))))
        for outcome, attribute in _COUNTS.items():
            element.set(attribute, str(len(element.findall(f".//{outcome}"))))
