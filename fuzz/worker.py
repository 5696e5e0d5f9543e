"""The process in which targets run that may be lost with it: reads jobs as lines of JSON, answers likewise.

A campaign starts such processes for its shards, and other commands for native targets and with ``--isolate``.  They
hold nothing that would be missed: they may crash, hang or be killed at any moment (see ``child``), and die with
whoever started them.

    {"do": "probe", "target"}                  can it be built?
    {"do": "shard", ...}                       an engine's work: see ``shard``
    {"do": "confirm", "trace"}                 does the trace break the law that it names?  Made small once more
    {"do": "replay", "trace"}                  the same, in words
    {"do": "examine", "target", "crumb"}       which trace takes its process along?  See ``postmortem``
    {"do": "guard", ...} and others            the same and more, each piece in a fork: see ``guarded``
"""

import faulthandler
import inspect
import json
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from heaplaw.impls.naming import TargetError
from heaplaw.impls.registry import factory, variants
from heaplaw.lawbook import LAWS
from heaplaw.properties.engines import ENGINES
from heaplaw.properties.minimize import first_break
from heaplaw.properties.replay import recurs, replay
from heaplaw.properties.smaller_arena import reduced
from heaplaw.properties.verdict import Finding
from heaplaw.trace import Trace

from . import guarded
from .child import MEMORY, findings_in
from .corpus import Corpus
from .crumbs import Recorder, operations
from .forkserver import die_with
from .keeping import Keeper, digest_of
from .postmortem import examine
from .store import StoreError

_GRACE = 600  # seconds of CPU time beyond a job's own, for the case that nobody watches any more


def main() -> None:
    """Serve until the jobs end.  Arguments: bytes of memory or 0, and the files for crumbs and findings."""
    parent = os.getppid()
    die_with(parent)
    memory = int(sys.argv[1])
    if memory:
        resource.setrlimit(resource.RLIMIT_AS, (memory, resource.getrlimit(resource.RLIMIT_AS)[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    faulthandler.enable()
    recorder = Recorder(Path(sys.argv[2]))
    recorder.watch()
    out = os.fdopen(os.dup(1), "w")
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)  # what targets print is nobody's answer
    serve(sys.stdin, out, recorder, Path(sys.argv[3]))


def serve(jobs: IO[str], out: IO[str], recorder: Recorder, found: Path) -> None:
    """Answer job after job."""
    for line in jobs:
        recorder.forget()
        found.write_bytes(b"")
        job = {**json.loads(line), "found": found, "crumbs": recorder}
        _limit_cpu(float(job.get("seconds", 10.0)))
        try:
            answer = DUTIES[job["do"]](job)
        except MemoryError:
            answer = {"error": MEMORY, "why": "MemoryError"}
        except (TargetError, StoreError, ValueError, ImportError, RuntimeError) as problem:
            answer = {"error": "problem", "why": str(problem)}
        except Exception as problem:
            answer = {"error": "internal", "why": f"{type(problem).__name__}: {problem}"}
        if "error" in answer:
            answer["findings"] = findings_in(found)
        answer["resident"] = _resident()
        out.write(json.dumps(answer) + "\n")
        out.flush()


def _limit_cpu(seconds: float) -> None:
    """A backstop behind the parent's own limit, which comes first."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    limit = int(used.ru_utime + used.ru_stime + 4 * seconds) + _GRACE
    resource.setrlimit(resource.RLIMIT_CPU, (limit, hard))


def _resident() -> int:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


# ---- what it does -------------------------------------------------------------------------------


def probe(job: dict[str, Any]) -> dict[str, Any]:
    """Build the target in each configuration.  Raises TargetError."""
    names = variants(job["target"])
    for name in names:
        factory(name)()
    return {"variants": names}


def shard(job: dict[str, Any]) -> dict[str, Any]:
    """Run an engine: what it did, what it found, and the inputs that reached most.

    ``target``, ``engine``, ``operations``, ``seed`` and ``only`` say all; ``seconds`` bounds it, ``corpus`` is for
    engines that take one.
    """
    check = ENGINES[job["engine"]]
    started, used = time.monotonic(), time.process_time()

    def tell(one: Finding) -> None:
        with job["found"].open("a") as file:
            file.write(json.dumps(_finding(one)) + "\n")

    keeper = Keeper(job["target"], tell)
    with tempfile.TemporaryDirectory(prefix="heaplaw-") as folder:
        more = _with_corpus(check, job, Path(folder))
        given = set(os.listdir(folder))
        with keeper.watching():
            tally = check(
                job["target"], job["operations"], job["seed"], only=tuple(job.get("only", ())),
                deadline=started + float(job["seconds"]), **more,
            )  # fmt: skip
        new = keeper.collected(Path(folder), given)
    states = {digest_of(state): count for state, count in tally.novelty.seen.items()}
    return {
        "done": tally.operations, "planned": tally.planned, "runs": tally.runs, "refusals": tally.refusals,
        "stopped": tally.stopped, "late": time.monotonic() >= started + float(job["seconds"]),
        "evidence": dict(tally.evidence), "words": dict(tally.reached), "states": states,
        "findings": [_finding(one) for one in tally.findings], "flaky": [_finding(one) for one in tally.flaky],
        "inputs": new, "cpu": round(time.process_time() - used, 3), "wall": round(time.monotonic() - started, 3),
    }  # fmt: skip


def _with_corpus(check: Callable[..., Any], job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The corpus as a local folder, for an engine whose signature asks for it; what it adds there is collected."""
    if "corpus" not in inspect.signature(check).parameters:
        return {}
    if job.get("corpus"):
        for name, data in Corpus(job["corpus"]).load(job["target"]).inputs.items():
            (folder / name).write_bytes(data)
    return {"corpus": folder}


def _finding(one: Finding) -> dict[str, Any]:
    found = one.violation
    return {
        "law": found.law, "target": one.target, "trace": str(one.trace), "expected": found.expected, "seen": found.seen,
    }  # fmt: skip


def confirm(job: dict[str, Any]) -> dict[str, Any]:
    """Replay a finding; where it recurs, look for less until the time is up."""
    deadline = time.monotonic() + float(job["seconds"]) / 2
    if not recurs(job["trace"]):
        return {"confirmed": False}
    trace = Trace.parse(job["trace"])
    law, target = trace.header["law"], trace.target
    mute = tuple(other for other in LAWS if other != law)
    found = first_break(factory(target), trace.operations, mute, twins=8)
    if found is None:  # it recurs only with the other laws asked: leave it as it is
        return {"confirmed": True, "trace": str(trace)}
    target, found = reduced(target, found, mute, deadline=deadline)
    return {"confirmed": True, **_finding(Finding(target, found))}


def replay_in_words(job: dict[str, Any]) -> dict[str, Any]:
    """What a trace breaks of the law that it names; ``why`` is empty where it breaks nothing."""
    trace = Trace.parse(job["trace"])
    law = trace.header.get("law", "")
    for found in replay(trace, trace.target).tally.findings:
        if law in ("", found.violation.law):
            one = found.violation
            return {"why": f"{one.law} broken by operation {one.index + 1}: expected {one.expected}, seen {one.seen}"}
    return {"why": ""}


def autopsy(job: dict[str, Any]) -> dict[str, Any]:
    """Which of a lost process's operations took it along?"""
    cause = examine(job["target"], operations(job["crumb"]), job["kind"], float(job["smaller"]))
    if not cause.kind:
        return {"kind": ""}
    return {
        "kind": cause.kind, "law": "returns", "target": cause.target, "trace": str(cause.trace),
        "expected": "an answer", "seen": cause.symptom,
    }  # fmt: skip


DUTIES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "probe": probe, "shard": shard, "confirm": confirm, "replay": replay_in_words, "examine": autopsy,
    "fresh": guarded.fresh, "guard": guarded.guard, "again": guarded.again, "smaller": guarded.smaller,
    "film": guarded.film, "input": guarded.of_input, "prose": guarded.written_out,
}  # fmt: skip


if __name__ == "__main__":
    main()
