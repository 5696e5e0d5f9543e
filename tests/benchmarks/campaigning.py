"""A long campaign, killed with SIGKILL at random moments and resumed: is anything lost, doubled, damaged or leaked?

    python tests/benchmarks/campaigning.py [--time 20m] [--kills 3] [--jobs 2] [--seed 1] [--hostile] [TARGET ...]

All built-in targets when none is named; ``--hostile`` adds one that crashes, one that hangs and one that eats memory,
and a published revision that breaks laws.  After each kill the directory is looked at before anybody may mend it:
what was recorded then must be recorded at the end, unchanged.  Ends with 1 where something is wrong.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from heaplaw.fuzz.child import usage
from heaplaw.fuzz.corpus import Corpus
from heaplaw.fuzz.options import Duration
from heaplaw.fuzz.records import raw_name, shard_of
from heaplaw.impls.registry import BUILT_IN

TESTS = Path(__file__).parent.parent
HOSTILE = ("hostile:Segfaults", "hostile:Sleeps", "hostile:Eats", "tlsf@conte-3.1")
_MEMORY = 1 << 30
_OVER = 1.125  # one process never has more than it may; a group of them is looked at, and may grow between two looks


def begin(folder: Path, targets: list[str], seconds: float, jobs: int) -> "subprocess.Popen[bytes]":
    """The same command every time."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *filter(None, sys.path)])}
    command = [
        sys.executable, "-m", "heaplaw", "campaign", str(folder), *targets, "--time", f"{seconds:.1f}s",
        "--jobs", str(jobs), "--memory", str(_MEMORY), "--patience", "10s", "--ops", "10000", "--shard-time", "15s",
    ]  # fmt: skip
    with (folder.parent / "output.txt").open("ab") as out:
        return subprocess.Popen(command, env=environment, stdout=out, stderr=out)


def workers_of(pid: int) -> list[int]:
    """Processes that a process has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(path.parent.name))
    return found


def contents(folder: Path) -> dict[str, bytes]:
    """Every file that says what has happened; what is being written has not."""
    kinds = ("shards", "verdicts", "incidents", "findings")
    return {
        f"{kind}/{path.name}": path.read_bytes()
        for kind in kinds for path in (folder / kind).glob("*") if path.is_file() and not path.name.startswith(".")
    }  # fmt: skip


def sitting(folder: Path, targets: list[str], seconds: float, jobs: int, *, kill: bool) -> dict[str, Any]:
    """One sitting, ended by SIGKILL or by itself: its exit code, its largest worker, processes that were left over."""
    process = begin(folder, targets, seconds if not kill else seconds + 3600, jobs)
    until, peak, workers = time.monotonic() + seconds, 0, set[int]()
    while process.poll() is None and (not kill or time.monotonic() < until):
        time.sleep(0.25)
        for worker in workers_of(process.pid):
            workers.add(worker)
            peak = max(peak, usage(worker)[1])
    if kill:
        process.kill()
    code = process.wait()
    time.sleep(1.0)
    return {"code": code, "peak": peak, "orphans": [pid for pid in workers if alive(pid)]}


def alive(pid: int) -> bool:
    """Is a process still running?  One that has ended and was not yet asked for is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def problems(folder: Path, kept: dict[str, bytes], sittings: list[dict[str, Any]]) -> list[str]:
    """Everything that is not as it should be at the end."""
    wrong, now = [], contents(folder)
    wrong += [f"lost: {name}" for name in kept if name not in now]
    wrong += [f"changed: {name}" for name, data in kept.items() if now.get(name, data) != data]
    records = [json.loads(data) for name, data in now.items() if name.startswith("shards/") and name.endswith(".json")]
    status = json.loads((folder / "status.json").read_text())
    done = sum(record["done"] for record in records)
    if status["operations"] != done:
        wrong.append(f"{status['operations']:,} operations are told, {done:,} recorded")
    keys = [shard_of(record) for record in records]
    wrong += [f"shard counted twice: {key}" for key in keys if keys.count(key) > 1]
    told = [(one["law"], one["target"], one["trace"]) for one in status["findings"]]
    wrong += [f"finding told twice: {one}" for one in told if told.count(one) > 1]
    verdicts = [json.loads(data) for name, data in now.items() if name.startswith("verdicts/")]
    known = {(one["law"], one["target"], one["trace"]) for one in verdicts if one["confirmed"]}
    wrong += [f"finding lost: {one}" for one in known.symmetric_difference(told)]
    judged = {one["raw"] for one in verdicts}
    raw = [one for record in records for one in (*record["findings"], *record["flaky"])]
    wrong += [f"never confirmed: {one['trace']}" for one in raw if raw_name(one) not in judged]
    corpus = Corpus(folder / "corpus")
    wrong += [line for target in corpus.targets() for line in corpus.load(target).complaints()]
    wrong += [f"left over: {pid}" for one in sittings for pid in one["orphans"]]
    wrong += [f"a worker had {one['peak']:,} bytes" for one in sittings if one["peak"] > _OVER * _MEMORY]
    wrong += [f"ended with {sittings[-1]['code']}"] if sittings[-1]["code"] != (1 if told else 0) else []
    return wrong


def main() -> int:
    """Run it and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--time", default="20m")
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--hostile", action="store_true")
    parser.add_argument("--keep", type=Path, help="a folder to work in, instead of one that is thrown away")
    parser.add_argument("targets", nargs="*")
    given = parser.parse_args()
    seconds = Duration().convert(given.time, None, None)
    targets = [*(given.targets or BUILT_IN), *(HOSTILE if given.hostile else ())]
    rng = random.Random(given.seed)
    cuts = sorted(rng.uniform(0.1, 0.9) * seconds for _ in range(given.kills))
    with tempfile.TemporaryDirectory(prefix="heaplaw-") as place:
        folder = (given.keep or Path(place)) / "campaign"
        folder.parent.mkdir(parents=True, exist_ok=True)
        kept: dict[str, bytes] = {}
        sittings, before = [], 0.0
        for cut in cuts:
            sittings.append(sitting(folder, targets, max(2.0, cut - before), given.jobs, kill=True))
            kept |= contents(folder)
            before = cut
            print(f"killed after {cut:.0f} s: {len(kept):,} files", flush=True)
        sittings.append(sitting(folder, targets, max(5.0, seconds - before), given.jobs, kill=False))
        wrong = problems(folder, kept, sittings)
        status = json.loads((folder / "status.json").read_text())
        told = {key: status[key] for key in ("operations", "shards", "states", "incidents", "lost")}
        print(f"{told}, {len(status['findings'])} findings, {len(status['flaky'])} flaky")
        print(f"largest worker {max(one['peak'] for one in sittings) >> 20} MB; files at the last kill {len(kept):,}")
        print("\n".join(wrong) or "nothing lost, doubled, damaged or left over")
        if wrong:
            print((folder.parent / "output.txt").read_text()[-3000:])
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
