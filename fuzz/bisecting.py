"""``git bisect run heaplaw replay FILE --bisect``: which commit broke it?

Git knows three answers: 0 good, 1 bad, 125 cannot tell; every other one ends the search or means "bad", whatever it
was meant to say.  So nothing else comes out of here: a commit at which the target cannot be imported, or lacks what
the law looks at, or answers now so and now so, is left out.

>>> only(0), only(1), only(2), only(70), only(None)
(0, 1, 125, 125, 125)
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from heaplaw.impls.naming import TargetError
from heaplaw.impls.registry import fitted
from heaplaw.lawbook import LAWS
from heaplaw.properties.recorded import RecordingError, read_recording
from heaplaw.properties.replay import room
from heaplaw.trace import Trace

from .child import Loss
from .isolating import Bounds, InternalError, guards
from .tallies import from_data

GOOD, BAD, UNKNOWN = 0, 1, 125
FLAG = "--bisect"
_TIMES = 2  # that it is replayed: a violation that comes and goes says nothing about a commit


def asked(words: Sequence[str]) -> bool:
    """Do the words of a command line ask for such an answer?"""
    return "replay" in words[:1] and FLAG in words


def only(code: object) -> int:
    """An exit code that git understands."""
    return code if code in (GOOD, BAD) and isinstance(code, int) else UNKNOWN


def answer(file: Path, target: str | None) -> int:
    """Replay a trace in child processes and say in a line what is known of this commit; the exit code."""
    # Two commits may follow each other within a second: compiled files, which go by it, would be those of the last
    sys.dont_write_bytecode, os.environ["PYTHONDONTWRITEBYTECODE"] = True, "1"
    try:
        trace = read_recording(file).trace
        name = target or trace.target
        if not name:
            return _say(UNKNOWN, f"{file} names no target; say --target NAME")
        law = trace.header.get("law", "")
        if law and law not in LAWS:
            return _say(UNKNOWN, f"{file} names {law!r}, which is no law")
        name = fitted(name, room(trace), trace.header)
        return _say(*_judged(name, trace, law))
    except (RecordingError, TargetError, InternalError, OSError) as problem:
        hint = "" if file.is_file() else "; keep it outside of what git checks out"
        return _say(UNKNOWN, f"{problem}{hint}")


def _judged(name: str, trace: Trace, law: str) -> tuple[int, str]:
    """What some replays say of a law, or of all where the trace names none."""
    job = {"do": "again", "target": name, "trace": str(trace)}
    with guards([name], Bounds()) as crew:
        replays = crew.each([job] * _TIMES)
    answers = [_once(replay, law) for replay in replays]
    if len({code for code, _ in answers}) > 1:
        return UNKNOWN, "the same trace passes and fails by turns"
    return answers[0]


def _once(replay: dict[str, Any] | Loss, law: str) -> tuple[int, str]:
    if isinstance(replay, Loss):
        return UNKNOWN, f"the process is gone that was to watch it: {replay.why}"
    tally = from_data(replay["tally"])
    broken = [finding.violation.law for finding in tally.findings]
    if law in broken or (broken and not law):
        return BAD, f"{tally.target} breaks {law or ', '.join(broken)}"
    if "returns" in broken:
        return UNKNOWN, f"a call does not return, so nobody can say whether {law} holds"
    if law in tally.lacking:
        return UNKNOWN, f"{law} could not be asked: {tally.lacking[law]}"
    if not tally.operations:
        return UNKNOWN, "nothing was executed"
    return GOOD, f"{tally.target} keeps {law or 'every law'}" + (f" (but breaks {', '.join(broken)})" if broken else "")


def _say(code: int, said: str) -> int:
    word = {GOOD: "good", BAD: "bad"}.get(code, "cannot tell")
    click.echo(f"{word}: {' '.join(said.split())} (exit {code})")
    return code
