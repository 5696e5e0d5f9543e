"""SARIF 2.1.0, for code scanning: a rule is a law, a result a counterexample.

The fingerprint of a result is its law and its minimal trace, so the same bug found again is the same result, whatever
the seed, the time and the machine.

>>> import json
>>> json.loads(to_sarif(Report("check", 1, 0, "every applicable law passed", [])))["runs"][0]["results"]
[]
"""

from hashlib import sha256
from importlib.metadata import version
from typing import Any

from heaplaw.lawbook import LAWS, Law
from heaplaw.properties.verdict import COUNTEREXAMPLE, PASSED, Finding, Status, Tally
from heaplaw.trace import Trace

from .. import report as plain
from .model import Report
from .places import place_of_finding
from .wording import again, counterexample, found, headline, overall, printable, shortfall

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
FINGERPRINT = "lawAndMinimalTrace/v1"


def to_sarif(report: Report) -> str:
    """The report as SARIF 2.1.0; byte for byte the same for the same seed."""
    driver = {"name": "heaplaw", "version": version("heaplaw"), "rules": [_rule(law) for law in LAWS.values()]}
    results = [_result(report, tally, finding) for tally, finding in found(report)]
    run = {
        "tool": {"driver": driver},
        "automationDetails": {"id": f"heaplaw/{report.command}/"},
        "invocations": [_invocation(report)],
        "columnKind": "unicodeCodePoints",
        "results": results,
    }
    return plain.to_json({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]})


def fingerprint(finding: Finding) -> str:
    """Law and minimal trace, as SHA-256 in hexadecimal.  The header, which names places, has no part in it."""
    text = finding.violation.law + "\n" + str(Trace(finding.trace.operations))
    return sha256(text.encode()).hexdigest()


def _rule(law: Law) -> dict[str, Any]:
    return {
        "id": law.id,
        "name": "".join(word.capitalize() for word in law.id.split("-")),
        "shortDescription": {"text": law.sentence},
        "fullDescription": {"text": f"{law.sentence} Source: {law.source}."},
        "help": {"text": f"{law.sentence}\nSource: {law.source}."},
        "defaultConfiguration": {"level": "error"},
    }


def _result(report: Report, tally: Tally, finding: Finding) -> dict[str, Any]:
    law = finding.violation.law
    said = printable(headline(finding))
    body = f"{counterexample(finding)}\n\n{again(report, tally, finding)}"
    indented = "\n".join("    " + line for line in body.splitlines())  # Markdown's other way to say: as it stands
    return {
        "ruleId": law,
        "ruleIndex": list(LAWS).index(law),
        "level": "error",
        "message": {"text": f"{said}\n\n{body}", "markdown": f"{said}\n\n{indented}"},
        "locations": [_location(finding)],
        "partialFingerprints": {FINGERPRINT: fingerprint(finding)},
        "properties": {
            "target": finding.target,
            "engine": tally.engine,
            "trace": str(finding.trace),
            "again": again(report, tally, finding),
        },
    }


def _location(finding: Finding) -> dict[str, Any]:
    place = place_of_finding(finding)
    logical = {"name": place.function, "fullyQualifiedName": place.name, "kind": "function"}
    location: dict[str, Any] = {"logicalLocations": [logical]}
    if place.uri:
        file = {"artifactLocation": {"uri": place.uri}, "region": {"startLine": place.line}}
        location["physicalLocation"] = file
    return location


def _invocation(report: Report) -> dict[str, Any]:
    """How the command ended.  What could not be said is a notification: no results do not mean that all is well."""
    said = [(overall(tally), f"{tally.target} ({tally.engine}): {shortfall(tally)}") for tally in report.tallies]
    said += [(Status.INCONCLUSIVE, str(floor)) for floor in report.floors if not floor.met]
    said += [(step.verdict, f"{step.name} {step.subject}: {step.said}") for step in report.steps]
    troubles = [text for verdict, text in said if verdict is not Status.PASSED and not text.endswith(": ")]
    return {
        "executionSuccessful": report.code in (PASSED, COUNTEREXAMPLE),
        "exitCode": report.code,
        "exitCodeDescription": report.verdict,
        "toolExecutionNotifications": [
            {"level": "error" if report.code else "note", "message": {"text": printable(text)}} for text in troubles
        ],
    }
