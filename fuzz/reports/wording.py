"""What all formats say in the same words: verdicts with reasons, a counterexample, how to see it again.

>>> tally = Tally("buddy", "plain", lacking={"isolated": "not promised: isolated_groups"})
>>> status(tally, "isolated").value, why(tally, "isolated")
('not applicable', 'not promised: isolated_groups')
>>> overall(tally).value, shortfall(tally)
('inconclusive', 'nothing was executed')
"""

import re
import shlex
from collections.abc import Iterator
from functools import lru_cache

from heaplaw.impls.naming import is_linux
from heaplaw.impls.registry import factory
from heaplaw.lawbook import LAWS
from heaplaw.properties.strip import strips
from heaplaw.properties.verdict import Finding, Status, Tally
from heaplaw.runs import Violation
from heaplaw.trace import Trace

from .model import Report

UNCONFIRMED = "the kernel's own code, on a shim in user space; unconfirmed by its maintainers"
_NEVER_HELD = "its condition never held"
_UNPRINTABLE = re.compile("[^\t\n\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def status(tally: Tally, law: str) -> Status:
    """The verdict on a law; one whose violation did not recur is inconclusive, not passed."""
    known = tally.status(law)
    flaky = any(finding.violation.law == law for finding in tally.flaky)
    return Status.INCONCLUSIVE if flaky and known is not Status.REFUTED else known


def why(tally: Tally, law: str) -> str:
    """Why a law is neither passed nor refuted; empty where it is."""
    known = status(tally, law)
    if known is Status.NOT_APPLICABLE:
        return tally.lacking[law]
    if known is Status.NOT_RUN:
        return _NEVER_HELD
    if any(finding.violation.law == law for finding in tally.flaky):
        return "a violation did not recur in a fresh process"
    return shortfall(tally) if known is Status.INCONCLUSIVE else ""


def overall(tally: Tally) -> Status:
    """One verdict on one engine's work on one target."""
    if tally.findings:
        return Status.REFUTED
    return Status.INCONCLUSIVE if shortfall(tally) else Status.PASSED


def shortfall(tally: Tally) -> str:
    """What keeps a search from being whole; empty for one that did all that was planned."""
    if not tally.operations:
        return "nothing was executed" + (f": {tally.stopped}" if tally.stopped else "")
    if not tally.evidence.total() and not tally.findings:
        return "no law was asked with its condition met"
    if tally.operations < tally.planned:
        return f"{tally.operations:,} of {tally.planned:,} operations: {tally.stopped or 'time was up'}"
    if tally.stopped:
        return f"not searched to its end, {tally.stopped}"
    laws = ", ".join(finding.violation.law for finding in tally.flaky)
    return f"a violation of {laws} did not recur in a fresh process" if laws else ""


def found(report: Report) -> Iterator[tuple[Tally, Finding]]:
    """All counterexamples, each with the tally that it stands in; one that several engines met only once."""
    known = set()
    for tally in report.tallies:
        for finding in tally.findings:
            if (trace := str(finding.trace)) not in known:  # which names target and law
                known.add(trace)
                yield tally, finding


def counted(number: int, noun: str) -> str:
    """So many of something.

    >>> counted(1, "law"), counted(1200, "target")
    ('1 law', '1,200 targets')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def headline(finding: Finding) -> str:
    """Target, law, and the law in words."""
    law = LAWS[finding.violation.law]
    return f"{finding.target} breaks {law.id}: {law.sentence}"


def details(finding: Finding) -> list[str]:
    """What was expected and seen, what a lost process said, and what must not be concluded."""
    violation = finding.violation
    lines = [f"expected {violation.expected}", f"seen     {violation.seen}", *finding.said]
    lines += ["in the code's own terms:", *(f"  {line}" for line in finding.told)] if finding.told else []
    return lines + ([f"({UNCONFIRMED})"] if is_linux(finding.target) else [])


def picture(finding: Finding) -> list[str]:
    """The heap step by step, as strips."""
    found = finding.violation
    return finding.picture or list(
        _drawn(finding.target, str(finding.trace), found.law, found.index, found.expected, found.seen)
    )


@lru_cache(maxsize=64)  # several formats of one report draw the same, and a call that hangs takes seconds each time
def _drawn(target: str, text: str, law: str, index: int, expected: str, seen: str) -> tuple[str, ...]:
    trace = Trace.parse(text)
    return tuple(strips(factory(target), trace.operations, found=Violation(law, index, expected, seen, trace)))


def again(report: Report, tally: Tally, finding: Finding) -> str:
    """The command that shows a counterexample once more."""
    law = finding.violation.law
    path = report.again.get((finding.target, law)) or report.again.get((tally.target, law))
    return f"heaplaw replay {shlex.quote(path)}" if path else "heaplaw replay FILE  # with the trace's lines in FILE"


def counterexample(finding: Finding) -> str:
    """All that belongs below the headline, as plain text: what was seen, trace and heap."""
    law = LAWS[finding.violation.law]
    lines = [*details(finding), f"law from {law.source}", "", str(finding.trace), *picture(finding)]
    return printable("\n".join(lines))


def printable(text: str) -> str:
    """Without the characters that XML cannot hold; such a one is shown as its number.

    >>> printable("a\\x00b")
    'a\\\\x00b'
    """
    return _UNPRINTABLE.sub(lambda match: f"\\x{ord(match[0]):02x}", text)
