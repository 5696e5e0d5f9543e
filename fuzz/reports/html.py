"""One page to open in a browser: the verdicts, what was searched, and of each counterexample a picture of the heap.

Nothing is fetched and nothing runs: styles and pictures stand in the page.  The same report gives the same bytes.

>>> "nothing was executed" in to_html(Report("check", 1, 3, "inconclusive: nothing was executed", []))
True
"""

import shlex
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from jinja2 import Environment, StrictUndefined, Template

from heaplaw.impls.naming import TargetError, is_linux
from heaplaw.impls.registry import factory
from heaplaw.lawbook import LAWS, Law
from heaplaw.properties.frames import Film, Frame, Told, frames
from heaplaw.properties.reached import WORDS
from heaplaw.properties.verdict import COUNTEREXAMPLE, PASSED, Finding, Status, Tally

from ..isolating import InternalError, filmed_apart, needs_isolation
from ..trace_files import telling_name
from .model import Report
from .pictures import Picture, drawn
from .wording import counted

_SIGNS = {
    Status.PASSED: "✓", Status.REFUTED: "✗", Status.INCONCLUSIVE: "?", Status.NOT_RUN: "○", Status.NOT_APPLICABLE: "-",
}  # fmt: skip
_WORDS = {Status.REFUTED: "broken", Status.NOT_APPLICABLE: "n/a"}
_MEANING = {
    Status.PASSED: "asked, held every time, and the whole budget was used",
    Status.REFUTED: "a counterexample was found and is shown below",
    Status.INCONCLUSIVE: "held as far as it was asked, but the budget was not used up",
    Status.NOT_RUN: "its condition never came up, so nothing is known; this is not a pass",
    Status.NOT_APPLICABLE: "the target does not promise or show what the law is about",
}
_WIDE = 5  # columns of verdicts that fit with their words
_MOST_LISTS, _FEW_LISTS, _MOST_MEMBERS, _MOST_HINTS = 5, 3, 6, 4  # beside a step


class Beside(NamedTuple):
    """What stands beside a step: lines of (kind, words)."""

    lists: list[tuple[str, str, bool]]  # name, members, changed?
    lists_left_out: int
    hints: list[tuple[str, str, bool]]  # name, words, wrong?
    hints_left_out: int
    unread: list[str]


class Shown(NamedTuple):
    """A counterexample as the page shows it."""

    anchor: str
    finding: Finding
    law: Law
    flaky: bool
    linux: bool
    film: Film | None
    picture: Picture | None
    beside: list[Beside]
    lines: list[str]  # the picture as text, where there is no other
    why: str  # there is none
    commands: list[tuple[str, str]]
    file: str  # where the trace is to be kept for the commands
    kept: bool  # does it stand there already?


def to_html(report: Report) -> str:
    """The report as one self-contained page.  Native targets are drawn in child processes."""
    tallies, used = list(report.tallies), dict[str, int]()
    shown = [
        _shown(finding, flaky, report.again, used)
        for tally in tallies
        for flaky, found in ((False, tally.findings), (True, tally.flaky))
        for finding in found
    ]
    asked = [law for law in LAWS if any(tally.status(law) is not Status.NOT_APPLICABLE for tally in tallies)]
    words = [word for word in WORDS if any(word in tally.reachable for tally in tallies)]
    return _template().render(
        report=report, tallies=tallies, shown=shown, laws=LAWS, asked=asked, wide=len(tallies) <= _WIDE,
        unasked=[law for law in LAWS if law not in asked] if tallies else [], words=words, meanings=WORDS,
        status=Status, signs=_SIGNS, word=_word, meaning=_MEANING, tone=_tone(report.code), anchors=_anchors(shown),
        reasons=_reasons(tallies), count=counted,
    )  # fmt: skip


@cache
def _template() -> Template:
    text = files("heaplaw.fuzz.reports").joinpath("report.html.j2").read_text(encoding="utf-8")
    there = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return there.from_string(text)


def _word(status: Status) -> str:
    return _WORDS.get(status, status.value)


def _tone(code: int) -> str:
    return {PASSED: "good", COUNTEREXAMPLE: "bad"}.get(code, "unclear")


def _anchors(shown: Sequence[Shown]) -> dict[tuple[str, str], str]:
    """(target without parameters, law) -> where its counterexample stands."""
    return {(_plain(one.finding.target), one.law.id): one.anchor for one in reversed(shown)}


def _plain(target: str) -> str:
    return target.partition(",")[0]


def _reasons(tallies: Sequence[Tally]) -> dict[str, list[tuple[str, list[str]]]]:
    """Law -> why it does not apply, and to which targets."""
    reasons: dict[str, dict[str, list[str]]] = {}
    for tally in tallies:
        for law in LAWS:
            if tally.status(law) is Status.NOT_APPLICABLE:
                reasons.setdefault(law, {}).setdefault(tally.lacking[law], []).append(tally.target)
    return {law: sorted(grouped.items()) for law, grouped in reasons.items()}


# ---- a counterexample ------------------------------------------------------------------------------------


def _shown(finding: Finding, flaky: bool, again: Mapping[tuple[str, str], str], used: dict[str, int]) -> Shown:
    law = LAWS[finding.violation.law]
    film, why = film_of(finding)
    picture = drawn(film, finding.violation) if film is not None and film.frames else None
    beside = _besides(film.frames, _hint_of(finding)) if film is not None else []
    name = telling_name(finding.target, law.id)
    used[name] = used.get(name, 0) + 1
    anchor = name if used[name] == 1 else f"{name}-{used[name]}"
    path = again.get((finding.target, law.id), "")
    file = path or f"{anchor}.trace"
    return Shown(
        anchor, finding, law, flaky, is_linux(finding.target), film, picture, beside, finding.picture, why,
        _commands(finding, file), file, bool(path),
    )  # fmt: skip


def _commands(finding: Finding, file: str) -> list[tuple[str, str]]:
    """What to do with it, and how."""
    path, target = shlex.quote(file), shlex.quote(finding.target)
    return [
        ("See it again", f"heaplaw replay {path} --target {target}"),
        ("Make it smaller", f"heaplaw minimize {path} --target {target} -o small.trace"),
        (
            "Find the commit that brought it in",
            f"git bisect start BAD GOOD && git bisect run heaplaw replay --bisect {path} --target {target}",
        ),
    ]


def film_of(finding: Finding) -> tuple[Film | None, str]:
    """Its heap step by step; or None, and why there is no such thing.

    What may take its process along is watched in a child process.
    """
    trace = finding.trace
    if not trace.operations:
        return None, "the law is broken before the first step"
    try:
        if finding.picture or needs_isolation(finding.target):
            return filmed_apart(finding.target, trace), "its process was lost while the heap was looked at"
        return frames(factory(finding.target), trace.operations), ""
    except (TargetError, InternalError) as problem:
        return None, f"the target cannot be made again: {problem}"


def _hint_of(finding: Finding) -> str:
    """The name of the hint that a law about hints speaks of."""
    return finding.violation.expected.partition(" ")[0] if finding.violation.law.startswith("hint") else ""


def _besides(shown: Sequence[Frame], about: str) -> list[Beside]:
    """Lists and hints after each step: what has changed comes first, the hint that it is ``about`` before all."""
    beside, before = [], Frame(0, "")
    for frame in shown:
        if frame.unread:  # what is not seen has not changed
            beside.append(Beside([], 0, [], 0, frame.unread))
            continue
        lists, was = _lists(frame), _lists(before)
        changed = {name for name in {*lists, *was} if lists.get(name) != was.get(name)}
        rows = [(name, _members(lists.get(name, [])), name in changed) for name in _by_number({*lists, *changed})]
        rows.sort(key=lambda row: not row[2])
        most = max(_FEW_LISTS, min(len(changed), _MOST_LISTS)) if frame is not shown[-1] else _MOST_LISTS
        hints = _hints(frame.hints, before.hints, about)[:_MOST_HINTS]
        told = [(hint.name, _says(hint), not hint.holds) for hint in hints]
        left = len(frame.hints) - len(told)
        beside.append(Beside(rows[:most], max(0, len(rows) - most), told, left, frame.unread))
        before = frame
    return beside


def _says(hint: Told) -> str:
    """A hint's value, and the truth where that is another."""
    if hint.truth == hint.value:
        return f"{hint.value}, which is true"
    return f"{hint.value}" + (f", true is {hint.truth}" if hint.truth >= 0 else "")


def _lists(frame: Frame) -> dict[str, list[str]]:
    """List -> its members; of a target that lets nobody walk its lists, as the free extents name them."""
    if frame.lists:
        return frame.lists
    told: dict[str, list[str]] = {}
    for hole in frame.free:
        if hole.list:
            told.setdefault(hole.list, []).append(f"{hole.space}:{hole.start}" if hole.space else str(hole.start))
    return told


def _by_number(names: set[str]) -> list[str]:
    def key(name: str) -> list[tuple[bool, int, str]]:
        return [(not word.isdecimal(), int(word) if word.isdecimal() else 0, word) for word in name.split()]

    return sorted(names, key=key)


def _members(some: Sequence[str]) -> str:
    more = f" and {len(some) - _MOST_MEMBERS} more" if len(some) > _MOST_MEMBERS else ""
    return (", ".join(some[:_MOST_MEMBERS]) or "empty") + more


def _hints(now: Sequence[Told], before: Sequence[Told], about: str) -> list[Told]:
    """The one that it is about, wrong ones, those that lag behind the truth, then those that have changed."""
    known = set(before)

    def rank(hint: Told) -> tuple[bool, bool, bool]:
        return hint.name != about, hint.holds, hint.truth in (hint.value, -1)

    return sorted([hint for hint in now if not all(rank(hint)) or (known and hint not in known)], key=rank)
