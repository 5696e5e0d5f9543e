"""The cluster: a real scheduler and two workers on this machine, one of them killed in mid-run."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from heaplaw.fuzz import extras

TESTS = Path(__file__).parent.parent
needs_dask = pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="distributed is not installed")
WORDS = ("planted:ForgetsMerge", "hostile:Segfaults", "--engine", "plain", "--shards", "3", "--ops", "700")


def start(*command):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *filter(None, sys.path)])}
    environment["DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES"] = "0"  # what a dead worker did is for the campaign
    return subprocess.Popen(
        [sys.executable, "-m", *map(str, command)],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


@pytest.fixture
def cluster(tmp_path):
    """(address, the processes of two workers with one thread each)."""
    file = tmp_path / "scheduler.json"
    common = ("--scheduler-file", file, "--no-dashboard")
    scheduler = start("distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", *common)
    workers = [
        start("distributed.cli.dask_worker", *common, "--nthreads", "1", "--no-nanny", "--local-directory", tmp_path)
        for _ in range(2)
    ]
    try:
        limit = time.monotonic() + 30
        while not file.exists() and time.monotonic() < limit:
            time.sleep(0.05)
        yield json.loads(file.read_text())["address"], workers
    finally:
        for process in (*workers, scheduler):
            process.kill()
            process.communicate()


def result(folder):
    """Shards with what they did, findings, incidents."""
    records = {path.name: json.loads(path.read_text()) for path in (folder / "shards").glob("*.json")}
    status = json.loads((folder / "status.json").read_text())
    found = {(one["law"], one["target"], one["trace"]) for one in status["findings"]}
    return {name: record["done"] for name, record in records.items()}, found, status


@needs_dask
def test_the_same_findings_though_a_worker_is_killed(tmp_path, cluster):
    """On two Dask workers, one killed with SIGKILL in mid-run, a campaign has the shards and findings of a local one;
    a target that crashes kills no Dask worker; what the dead one was doing is done by the other and counted once."""
    address, workers = cluster
    here, there = tmp_path / "here", tmp_path / "there"
    local = start("heaplaw", "campaign", here, *WORDS, "--jobs", "2")
    url = f"file://{tmp_path / 'shared'}"
    far = start("heaplaw", "campaign", there, *WORDS, "--scheduler", address, "--corpus", url)
    limit = time.monotonic() + 60
    while far.poll() is None and time.monotonic() < limit and len(list((there / "shards").glob("*.json"))) < 1:
        time.sleep(0.05)
    assert workers[0].poll() is None, "a crashing target took a Dask worker along"
    workers[0].send_signal(signal.SIGKILL)
    out, _ = far.communicate(timeout=90)
    assert far.returncode == 1, out
    local_out, _ = local.communicate(timeout=60)
    assert local.returncode == 1, local_out
    (done, found, _), (far_done, far_found, status) = result(here), result(there)
    assert len(done) == 6
    assert far_done == done
    assert far_found == found != set()
    assert workers[1].poll() is None
    assert status["operations"] == sum(done.values())
    assert list((tmp_path / "shared" / "planted%3AForgetsMerge").iterdir())


@needs_dask
def test_nobody_there(heaplaw, tmp_path, monkeypatch):
    """Where no scheduler answers, the campaign ends with 3 and says so in its last line."""
    from heaplaw.fuzz import cluster as module

    monkeypatch.setattr(module, "_CONNECT", 0.5)
    code, out, _ = heaplaw("campaign", tmp_path, "buddy", "--scheduler", "tcp://127.0.0.1:9", "--time", "5s")
    assert code == 3
    assert "no scheduler answers at tcp://127.0.0.1:9" in out.splitlines()[-1]


def test_without_the_package(heaplaw, tmp_path, monkeypatch):
    """Without distributed, --scheduler ends at once and names the extra to install."""
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None)
    code, out, _ = heaplaw("campaign", tmp_path, "buddy", "--engine", "plain", "--scheduler", "tcp://127.0.0.1:9")
    assert code == 3
    assert "pip install 'heaplaw[cluster]'" in out
