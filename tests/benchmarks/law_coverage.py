"""Law coverage of the bug gallery: which bugs each law catches, and which it alone catches.

    python tests/benchmarks/law_coverage.py --jobs 2 --json tests/data/law_coverage.json

Names as arguments measure only those, and put them in the place of what the file holds of them.
"""

import argparse
import json
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from heaplaw.properties.lawcoverage import OPERATIONS, idle, ready, subjects, table, uncaught

TRACES = Path(__file__).parent.parent / "data" / "gallery"


def written(measured, operations):
    """The result file: one line a target."""
    rows = ",\n".join(f"  {json.dumps(name)}: {json.dumps(measured[name])}" for name in subjects() if name in measured)
    return f'{{"operations": {operations}, "caught": {{\n{rows}\n}}}}\n'


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="result file")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60.0, help="CPU time for each bug and level at most")
    parser.add_argument("--ops", type=int, default=OPERATIONS, help="operations for each bug and level")
    parser.add_argument("names", nargs="*", help="only these")
    options = parser.parse_args()
    names = options.names or subjects()
    measured = {}
    if options.names and options.json is not None and options.json.exists():
        measured = json.loads(options.json.read_text())["caught"]
    started = time.monotonic()
    work = ready(options.ops, options.seconds, TRACES)
    with ProcessPoolExecutor(max_workers=options.jobs) as pool:
        results = pool.map(work, names) if options.jobs > 1 else map(work, names)
        for name, levels in zip(names, results, strict=True):
            measured[name] = levels
            took = time.monotonic() - started
            print(f"{took:7.1f} s  {name:<24}", *(" ".join(laws) for laws in levels.values()), sep=" | ", flush=True)
            if options.json is not None:  # after each: a run that is stopped is not lost
                options.json.write_text(written(measured, options.ops))
    print(table(measured))
    overlapping, silent = idle(measured)
    print("\nnothing alone:", *overlapping, "\nnothing at all:", *silent, "\nuncaught:", *uncaught(measured))
    return int(bool(uncaught(measured)))


if __name__ == "__main__":
    sys.exit(main())
