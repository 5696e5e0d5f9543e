"""Which small changes of the laws and of the checker the tests of ``tests/spec`` notice.

    python tests/benchmarks/spec_mutants.py [MODULE ...] [--every N] [--from N] [--json FILE]

The modules are ``laws``, ``checker``, ``view`` and ``shadow``.  Each mutant gets a process, forked from this
one with pytest in it, that loads the package anew with the one change and runs the tests until one fails.
A mutant that uses more CPU time than the tests could is inconclusive, and no kill.
"""

import argparse
import json
import os
import resource
import signal
import sys
from collections import Counter
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import NamedTuple

import pytest

from heaplaw.properties.mutants import Mutant, mutants, mutated
from heaplaw.properties.mutation import Finder, text_of

MODULES = ("laws", "checker", "view", "shadow")
TESTS = Path(__file__).parent.parent
FILES = ("test_laws", "test_view", "test_shadow", "test_checker", "test_groups", "test_pages", "test_edges")
MOST = 45  # CPU seconds: some four times what all of these tests take
KILLED, SURVIVED, HUNG = "killed", "survived", "inconclusive"

# Changes that nothing could tell from what was there: (text of the line, change, why).
EQUIVALENT: tuple[tuple[str, str, str], ...] = (
    ("_BITS_A_BLOCK", "*", "paces audits, no verdict depends on it"),
)


class Fate(NamedTuple):
    """A mutant and what became of it."""

    mutant: Mutant
    verdict: str
    seconds: float


def judge(mutant: Mutant) -> Fate:
    """Run the tests in a child that has this change in it."""
    child = os.fork()
    if not child:
        code = 70
        try:
            code = _tests(Finder(mutant.module, mutated(text_of(mutant.module), mutant.number)))
        finally:
            os._exit(code)
    _, status, used = os.wait4(child, 0)
    seconds = used.ru_utime + used.ru_stime
    if os.WIFSIGNALED(status):
        return Fate(mutant, HUNG if os.WTERMSIG(status) == signal.SIGXCPU else KILLED, seconds)
    return Fate(mutant, SURVIVED if os.WEXITSTATUS(status) == 0 else KILLED, seconds)


def _tests(finder: MetaPathFinder) -> int:
    """Exit code of pytest over a package loaded anew."""
    resource.setrlimit(resource.RLIMIT_CPU, (MOST, MOST + 5))
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # else it imports modules of ours by itself, to rewrite asserts
    for name in [name for name in sys.modules if name == "heaplaw" or name.startswith("heaplaw.")]:
        del sys.modules[name]
    sys.meta_path.insert(0, finder)
    files = [str(TESTS / "spec" / f"{name}.py") for name in FILES]
    options = ["-x", "-q", "--tb=no", "-p", "no:cacheprovider", "--import-mode=importlib"]
    return int(pytest.main([*options, "--rootdir", str(TESTS.parent), *files]))


def main() -> None:
    """See the module docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("modules", nargs="*", default=MODULES, metavar="MODULE")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every N-th mutant")
    parser.add_argument("--from", type=int, default=0, dest="first", metavar="N", help="begin with this one")
    parser.add_argument("--json", type=Path, metavar="FILE")
    asked = parser.parse_args()
    fates: list[Fate] = []
    for name in asked.modules:
        module = f"heaplaw.{name}"
        made = mutants(module, text_of(module))
        chosen = [m for m in made[asked.first :: asked.every] if _why_equivalent(m) is None]
        some = [judge(mutant) for mutant in chosen]
        fates += some
        counts = Counter(fate.verdict for fate in some)
        share = 100 * counts[KILLED] / len(some) if some else 0.0
        told = ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))
        print(f"{name}: {share:.1f} % of {len(some)} mutants killed ({len(made)} in all): {told}", flush=True)
        for fate in some:
            if fate.verdict != KILLED:
                print(f"  {fate.verdict}: {fate.mutant}    | {fate.mutant.text}", flush=True)
    if asked.json is not None:
        lines = [{**fate.mutant._asdict(), "verdict": fate.verdict, "seconds": fate.seconds} for fate in fates]
        asked.json.write_text(json.dumps(lines, indent=1) + "\n")


def _why_equivalent(mutant: Mutant) -> str | None:
    change = f"{mutant.before} -> {mutant.after}"
    return next((why for text, what, why in EQUIVALENT if text in mutant.text and what in ("*", change)), None)


if __name__ == "__main__":
    main()
