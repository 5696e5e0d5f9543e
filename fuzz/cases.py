"""Findings as files: a trace and a pytest case each, and what such a case calls.

>>> holds("heaplaw trace 1\\ntarget buddy,pages=4\\nlaw disjoint\\n1  a = alloc 64\\n")
''
"""

import re
import tempfile
import time
from pathlib import Path
from typing import Any

from heaplaw.lawbook import LAWS
from heaplaw.trace import Trace

from .child import Child, Limits, Loss
from .isolating import loading, needs_isolation
from .records import raw_name
from .store import write_whole

_SECONDS = 20.0  # that a trace may take, before patience begins
_CASE = '''"""{target} breaks {law}: {sentence}

expected {expected}
seen     {seen}
"""

from heaplaw.fuzz.cases import holds

TRACE = """\\
{trace}"""


def test_{name}():
    """{promise}"""
    assert holds(TRACE) == ""
'''


def holds(text: str, patience: float = 10.0) -> str:
    """Run a trace in a process of its own: what goes wrong with the law that it names, in a line; empty if nothing.

    The process may use so many seconds more than the trace should need; it may crash, hang or eat memory.
    """
    with tempfile.TemporaryDirectory(prefix="heaplaw-") as folder:
        natives = [target for target in (Trace.parse(text).target,) if needs_isolation(target)]
        child = Child(Path(folder), 0, Limits(patience=patience, bounded=not natives), loading(natives))
        try:
            child.start({"do": "replay", "trace": text, "seconds": _SECONDS})
            while (answer := child.poll()) is None:
                time.sleep(0.01)
        finally:
            child.stop()
    if isinstance(answer, Loss):
        return f"a {answer.kind}: {answer.why}"
    return str(answer.get("why", ""))


def case_name(finding: dict[str, Any]) -> str:
    """What a finding's files are called."""
    target = re.sub(r"[^A-Za-z0-9@.+-]", "_", finding["target"].partition(",")[0].removeprefix("./"))
    return f"{target}-{finding['law']}-{raw_name(finding)[:10]}"


def write_case(folder: Path, finding: dict[str, Any]) -> str:
    """Write a finding's trace and pytest case, unless they stand there already; their name."""
    name = case_name(finding)
    trace, case = folder / f"{name}.trace", folder / f"test_{_identifier(name)}.py"
    if not trace.exists():
        write_whole(trace, finding["trace"].encode())
    if not case.exists():
        write_whole(case, _case(name, finding).encode())
    return name


def _case(name: str, finding: dict[str, Any]) -> str:
    law, length = finding["law"], len(Trace.parse(finding["trace"]).operations)
    plain = {key: re.sub(r'[\\"]', "'", str(finding.get(key, ""))) for key in ("target", "expected", "seen")}
    promise = f"{plain['target'].partition(',')[0]} keeps {law} over {length} operation{'s' * (length != 1)}."
    return _CASE.format(
        **plain, law=law, sentence=LAWS[law].sentence, trace=finding["trace"].replace("\\", "\\\\"),
        name=_identifier(name), promise=promise,
    )  # fmt: skip


def _identifier(name: str) -> str:
    return re.sub(r"\W", "_", name)
