"""A gate on the terminal: one line a step with its verdict and its time, as soon as it has ended."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape

from heaplaw.properties.verdict import Status

from ..report import SYMBOLS
from ..reports.model import Step
from .running import worst

_STYLES = {Status.PASSED: "green", Status.REFUTED: "bold red", Status.INCONCLUSIVE: "yellow", Status.NOT_RUN: "yellow"}
_VERDICT, _NAME = 8, 17  # letters
_SHOWN = 5  # steps of a part that are named when something is wrong with them
_WORTH_SAYING = 0.05  # seconds


class Lines:
    """Prints what a gate does."""

    def __init__(self, out: Console) -> None:
        self._out = out

    def part(self, name: str, steps: Sequence[Step], said: str) -> None:
        """A part of the gate has ended: a line that sums it up, and one for each step that did not pass."""
        verdict, seconds = worst(steps), sum(step.seconds for step in steps)
        bad = [step for step in steps if step.verdict not in (Status.PASSED, Status.NOT_APPLICABLE)]
        if len(steps) == 1 and bad:
            said, bad = _words(steps[0]), []
        self._line(verdict, name, said, seconds)
        for step in bad[:_SHOWN]:
            self._line(step.verdict, "", _words(step), 0.0)
        if len(bad) > _SHOWN:
            self._line(None, "", f"and {len(bad) - _SHOWN} more", 0.0)

    def step(self, step: Step) -> None:
        """A step with a line of its own."""
        self._line(step.verdict, step.name, _words(step), step.seconds)

    def _line(self, verdict: Status | None, name: str, said: str, seconds: float) -> None:
        word = SYMBOLS[verdict] if verdict is not None else ""
        style = _STYLES.get(verdict, "") if verdict is not None else ""
        mark = f"[{style}]{word:{_VERDICT}}[/]" if style else f"{word:{_VERDICT}}"
        took = f"  [dim]{seconds:.1f} s[/]" if seconds >= _WORTH_SAYING else ""
        text = f"  {mark} {escape(f'{name:{_NAME}}')} {escape(said)}{took}".rstrip()
        self._out.print(text, highlight=False, soft_wrap=True)


def _words(step: Step) -> str:
    return f"{step.subject}: {step.said}" if step.subject and step.said else step.subject or step.said
