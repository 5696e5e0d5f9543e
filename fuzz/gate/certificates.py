"""Certificates are made again: the search that each stands for, over the alphabet that it names.

What may not happen unseen is that the same search now proves less: a letter that an adapter no longer has, a law
that is no longer asked, a depth that is no longer reached.  That there are more states than before is no fault; it is
said, so that the file can be brought up to date.  A quick gate goes as deep as its budget lets it.

>>> read_letters(["alloc 8", "alloc 24", "alloc 8 align 16", "free i", "realloc i 8", "drain"])
((8, 24), (16,), frozenset({1, 2, 3, 14}))
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from heaplaw.impls.naming import TargetError
from heaplaw.lawbook import LAWS
from heaplaw.properties import exhaustive
from heaplaw.properties.alphabet import WORDS
from heaplaw.properties.certificate import Certificate
from heaplaw.properties.verdict import Status, Tally

from ..isolating import needs_isolation
from ..options import Problem, bar
from ..reports.model import Step
from .running import Gate, clock

NAME = "certificates"
_FORMAT = "heaplaw certificates 1"


def read(place: Path) -> list[Mapping[str, Any]]:
    """The certificates of a file, or of all in a folder.  Raises Problem."""
    files = sorted(place.glob("*.json")) if place.is_dir() else [place]
    found: list[Mapping[str, Any]] = []
    for file in files:
        try:
            data = json.loads(file.read_text(encoding="utf-8"))
            if not isinstance(data, dict) or data.get("format") != _FORMAT:
                raise ValueError(f"it is no {_FORMAT!r}")
            ones = data["targets"]
            needed = ("target", "alphabet", "depth", "closed", "levels", "laws_asked", "states", "covered")
            if any(key not in one for one in ones for key in needed):
                raise ValueError("something is missing")
        except FileNotFoundError:
            how = "'heaplaw explore TARGET --json FILE' makes one"
            raise Problem(f"certificates: no such file: {file}; {how}") from None
        except (OSError, ValueError, KeyError, TypeError) as problem:
            raise Problem(f"certificates: {file}: {problem}") from None
        found += ones
    return found


def read_letters(letters: Sequence[str]) -> tuple[tuple[int, ...], tuple[int, ...], frozenset[int]]:
    """Sizes, alignments and kinds that make such an alphabet."""
    sizes, aligns, kinds = set[int](), set[int](), set[int]()
    for text in letters:
        words = text.split()
        kinds.add(int(WORDS[words[0]]))
        if words[0] == "alloc" and len(words) == 2:
            sizes.add(int(words[1]))
        elif words[0] == "alloc" and words[2] == "align":
            aligns.add(int(words[3]))
    return tuple(sorted(sizes)), tuple(sorted(aligns)), frozenset(kinds)


def check(gate: Gate) -> None:
    """Make the certificates of this gate's targets again."""
    if not gate.settings.certificates:
        return
    with clock() as since:
        ones = read(Path(gate.settings.certificates))
        mine = [one for one in ones if gate.covers(one["target"])]
        steps = [_again(gate, one) for one in mine]
        seconds = since()
    if not steps:
        if gate.left_out and ones:
            return
        why = f"{gate.settings.certificates} has none for a target of this gate"
        steps = [Step(NAME, gate.settings.certificates, Status.NOT_RUN, why)]
    passed = [step for step in steps if step.verdict is Status.PASSED]
    said = f"{len(passed)} of {len(steps)} made again" if len(steps) > 1 else steps[0].said
    gate.enter(NAME, steps, said, seconds)


def _again(gate: Gate, old: Mapping[str, Any]) -> Step:
    """One search made again, as deep as the budget lets it."""
    name = str(old["target"])
    muted = gate.muted(name)
    asked = [law for law in LAWS if law in old["laws_asked"] and law not in muted]
    if needs_isolation(name):
        return Step(NAME, name, Status.NOT_APPLICABLE, "machine code is not searched exhaustively")
    if gate.late:
        return Step(NAME, name, Status.INCONCLUSIVE, "time was up; give more --time")
    if gone := [law for law in old["laws_asked"] if law not in LAWS]:
        return Step(NAME, name, Status.INCONCLUSIVE, f"it is about what is no law any more: {', '.join(gone)}")
    try:
        sizes, aligns, kinds = read_letters(old["alphabet"])
        depth = _depth(gate, old)
        with bar(name, 1, "states") as progress:
            new = exhaustive.explore(
                name, depth=depth, sizes=sizes, aligns=aligns, kinds=kinds, only=asked, jobs=gate.jobs,
                seconds=gate.left(), progress=progress,
            )  # fmt: skip
    except (TargetError, ValueError, KeyError, IndexError) as problem:
        return Step(NAME, name, Status.INCONCLUSIVE, f"it cannot be made again: {problem}")
    gate.tallies.append(_tally(new, asked, muted))
    return _verdict(old, new, asked)


def _depth(gate: Gate, old: Mapping[str, Any]) -> int | None:
    """How deep to go: as deep as was gone, or as the number of transitions allows; None: until it closes."""
    whole = None if old["closed"] else int(old["depth"])
    most = gate.budget.transitions
    if most is None:
        return whole
    letters, states = len(old["alphabet"]), 0
    for depth, new in enumerate(old["levels"]):
        states += int(new)
        if states * letters > most:
            return depth
    return whole


def _tally(new: Certificate, asked: Sequence[str], muted: Mapping[str, str]) -> Tally:
    """The search as every engine reports its work."""
    tally = Tally(new.target, exhaustive.NAME, new.transitions, runs=1, evidence=new.asked, reached=new.reached)
    tally.planned = new.transitions + bool(new.stopped or new.unconfirmed)
    tally.lacking = {law: "the certificate is not about it" for law in LAWS if law not in asked} | dict(muted)
    tally.lacking |= {law: why for law, why in new.not_asked.items() if law in asked}
    tally.findings = [new.finding] if new.finding is not None else []
    tally.stopped, tally.seconds = new.stopped or new.unconfirmed, new.seconds
    return tally


def _verdict(old: Mapping[str, Any], new: Certificate, asked: Sequence[str]) -> Step:
    if new.finding is not None:
        length = len(new.finding.trace.operations)
        return Step(NAME, new.target, Status.REFUTED, f"breaks {new.finding.violation.law} by {length} operations")
    if new.unconfirmed or new.stopped:
        return Step(NAME, new.target, Status.INCONCLUSIVE, new.unconfirmed or f"{new.covered} only; {new.stopped}")
    if lost := [text for text in old["alphabet"] if text not in new.alphabet]:
        return Step(NAME, new.target, Status.INCONCLUSIVE, f"it proves less: no {lost[0]!r} any more")
    as_deep = new.closed or (not old["closed"] and new.depth >= int(old["depth"]))
    if as_deep and (silent := [law for law in asked if not new.asked[law]]):
        return Step(NAME, new.target, Status.INCONCLUSIVE, f"it proves less: {', '.join(silent)} is not asked any more")
    said = f"{new.covered}, {new.states:,} states"
    if not as_deep:
        said += f"; {old['covered']} is for the whole gate"
    elif new.states != old["states"]:
        said += f"; {old['states']:,} when it was written"
    return Step(NAME, new.target, Status.PASSED, said)
