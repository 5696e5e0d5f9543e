"""Law coverage: for each law the bugs that it alone catches, at each level of observation.

A law is worth what would go unnoticed without it.  Every bug of the gallery, and every published revision,
is run behind each veil (see ``veil``); each law that is refuted is muted and the run goes on, so that what
one law catches first is not taken for what it catches alone.  A bug's committed trace is run as well.

"Alone" is said of a budget: with more operations another law may be refuted too, or the only one at last.

>>> measured = {"tlsf+A": {"black box": ["disjoint"], "metadata": ["disjoint", "tiling"]}}
>>> alone(measured)
{'disjoint': {'black box': ['tlsf+A']}}
>>> share(measured, "tiling", "metadata")
1
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from random import Random

from heaplaw.checker import Hang
from heaplaw.impls.bugs import gallery
from heaplaw.impls.naming import parse
from heaplaw.impls.registry import BUILT_IN, factory, variants
from heaplaw.lawbook import LAWS
from heaplaw.runs import run
from heaplaw.trace import Trace

from .minimize import TWINS
from .plain import in_turn
from .tallying import MOST_HANGS
from .veil import LEVELS, veiled
from .watchdog import watchdog

OPERATIONS = 20_000
"""Budget of each bug at each level."""

UNASKED: dict[str, str] = {
    "same-verdict": "asked only where two implementations of one contract are compared, never of one run",
}
"""Laws that no run of a single target can refute, with the reason."""

REDUNDANT: dict[str, str] = {
    "big-enough": "what is too short is also no legal place, or not served again once freed, by every built-in "
    "contract; it speaks alone for a target that shows places and promises neither geometry nor free-then-alloc",
    "realloc-failure": "contents or handle-stable see the same at the next look, since nothing is called in between; "
    "it says at once which call did it, even where audits are far apart",
}
"""Laws that catch no bug of the gallery alone, with the reason and what they are kept for."""

_TRACE_SECONDS = 10.0  # CPU time for a pass over a committed trace

Caught = Mapping[str, Mapping[str, Sequence[str]]]
"""Name of a broken target -> level -> the laws refuted there, in the order of the law book."""


def subjects() -> list[str]:
    """Every broken target: the gallery without its equivalent entries, and the published revisions."""
    bugs = [bug.name for bug in gallery() if not bug.equivalent]
    return bugs + [f"{base}@{revision}" for base, known in BUILT_IN.items() for revision in known.revisions]


def caught(
    name: str, level: str, operations: int = OPERATIONS, seconds: float = float("inf"), trace: Trace | None = None
) -> list[str]:
    """The laws that are refuted on a target at a level, in the order of the law book.

    ``operations`` of the plain engine, ended after ``seconds`` of CPU time, then the trace, if there is one.
    The same call gives the same laws, unless time ends it.
    """
    found = set(by_engine(name, level, operations, seconds))
    if trace is not None:
        found |= set(by_trace(trace, level))
    return [law for law in LAWS if law in found]


def by_engine(name: str, level: str, operations: int, seconds: float = float("inf")) -> Iterator[str]:
    """Laws that the plain engine refutes, one after the other; a target that hangs again and again is left alone."""
    rng = Random(f"coverage {name}")
    builders = {variant: veiled(factory(variant), level) for variant in variants(name)}
    mute: set[str] = set()
    end, hangs = time.process_time() + seconds, 0
    runs = in_turn(builders, rng, mute)
    while operations > 0 and hangs < MOST_HANGS and time.process_time() < end:
        _, attempt, violation = next(runs)
        operations -= attempt.checker.index + 1
        hangs += attempt.checker.problem == "a hang"
        if violation is not None:
            mute.add(violation.law)
            yield violation.law


def by_trace(trace: Trace, level: str) -> Iterator[str]:
    """Laws that a trace refutes on the target of its header, one after the other, each with those before it muted."""
    build = veiled(factory(trace.target), level)
    mute: list[str] = []
    while True:
        try:
            with watchdog(_TRACE_SECONDS):
                found = run(build, trace.operations, mute=mute, twins=TWINS)
        except Hang:  # between two steps
            return
        if found is None:
            return
        mute.append(found.law)
        yield found.law


# ---- the whole of it -------------------------------------------------------------------------------


def committed(folder: Path, name: str) -> Trace | None:
    """A bug's trace, from a folder of ``ID.trace`` files; None where there is none."""
    path = folder / f"{parse(name).bug}.trace"
    return Trace.parse(path.read_text()) if parse(name).bug and path.exists() else None


def measure(
    name: str, *, operations: int = OPERATIONS, seconds: float = float("inf"), traces: Path | None = None
) -> dict[str, list[str]]:
    """One broken target at every level."""
    trace = committed(traces, name) if traces is not None else None
    return {level: caught(name, level, operations, seconds, trace) for level in LEVELS}


def share(measured: Caught, law: str, level: str) -> int:
    """How many of the targets a law catches at a level."""
    return sum(law in laws.get(level, ()) for laws in measured.values())


def alone(measured: Caught) -> dict[str, dict[str, list[str]]]:
    """Law -> level -> the targets that no other law catches there; only what is not empty."""
    only: dict[str, dict[str, list[str]]] = {}
    for name, levels in measured.items():
        for level, laws in levels.items():
            if len(laws) == 1:
                only.setdefault(laws[0], {}).setdefault(level, []).append(name)
    return {law: only[law] for law in LAWS if law in only}


def idle(measured: Caught) -> tuple[list[str], list[str]]:
    """(laws that catch something but nothing alone, laws that catch nothing), at whatever level."""
    only = alone(measured)
    catches = {law for levels in measured.values() for laws in levels.values() for law in laws}
    return [law for law in LAWS if law in catches and law not in only], [law for law in LAWS if law not in catches]


def uncaught(measured: Caught) -> list[str]:
    """Targets on which no law is refuted at any level."""
    return [name for name, levels in measured.items() if not any(levels.values())]


def table(measured: Caught, most: int = 3) -> str:
    """Markdown: for each law how many bugs it catches at each level, how many alone, and some of those."""
    only = alone(measured)
    lines = ["| law | " + " | ".join(LEVELS) + " | alone |", "|---|" + "---:|" * len(LEVELS) + "---|"]
    for law in LAWS:
        mine = only.get(law, {})
        cells = [f"{share(measured, law, level)} / {len(mine.get(level, ()))}" for level in LEVELS]
        lines.append(f"| `{law}` | {' | '.join(cells)} | {_examples(mine, most)} |")
    return "\n".join(lines)


def _examples(mine: Mapping[str, Sequence[str]], most: int) -> str:
    """Some bugs that a law alone catches, those first that it alone catches where most is shown."""
    names = list(dict.fromkeys(name for level in reversed(LEVELS) for name in mine.get(level, ())))
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return " ".join(f"`{name}`" for name in names[:most]) + more if names else "none"


def ready(operations: int, seconds: float, traces: Path | None) -> Callable[[str], dict[str, list[str]]]:
    """``measure`` under a budget, as a process pool takes it."""
    return partial(measure, operations=operations, seconds=seconds, traces=traces)
