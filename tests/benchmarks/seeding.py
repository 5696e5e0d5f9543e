"""The committed corpus: few small inputs a target that reach much.  Run: python tests/benchmarks/seeding.py [TARGET]...

Candidates are the gallery's counterexamples (harmless on the target itself), the beginnings of the plain engine's
runs, and random buffers of several lengths.  Taken is what reaches most that is new for each byte, until the bytes
are spent.  The same candidates every time.
"""

import sys
from collections.abc import Hashable, Iterator
from itertools import islice
from pathlib import Path
from random import Random

from heaplaw.fuzz.corpus import Corpus
from heaplaw.fuzz.inputs import encode, pack, variant_of
from heaplaw.fuzz.pruning import reached
from heaplaw.impls.naming import parse
from heaplaw.impls.registry import BUILT_IN, factory, variants
from heaplaw.properties.plain import in_turn
from heaplaw.trace import Trace

DATA = Path(__file__).parent.parent / "data"
_BYTES = 3_000  # of a target
_FILE = 150  # bytes that a file costs beside its own
_LENGTHS = (6, 12, 24, 48, 90)  # operations
_EACH = 24  # buffers of each length
_RUNS = 24  # of the plain engine
_BEGINNING = 90  # operations of each
_WORTH = {"word": 5.0, "line": 1.0, "state": 0.1, "variant": 50.0}


def candidates(target: str) -> Iterator[bytes]:
    """Inputs to choose from."""
    rng = Random(f"corpus of {target}")
    for path in sorted((DATA / "gallery").glob("*.trace")):
        trace = Trace.parse(path.read_text())
        if parse(trace.target).base == target:
            yield encode(trace, target)
    for variant, run, _ in islice(in_turn({name: factory(name) for name in variants(target)}, rng), _RUNS):
        yield encode(Trace(run.operations[:_BEGINNING], {"target": variant}), target)
    for length in _LENGTHS:
        for _ in range(_EACH):
            yield pack(rng.randbytes(8 + 4 * length), rng.randrange(len(variants(target))))


def chosen(target: str) -> list[bytes]:
    """The best of them, in order."""
    names = variants(target)
    pool = {data: reached(target, data) | {("variant", variant_of(data, names))} for data in candidates(target)}
    broken = {data for data, what in pool.items() if "broken" in {one[0] for one in what if isinstance(one, tuple)}}
    assert not broken, f"{target} breaks a law"
    known: set[Hashable] = set()
    taken: list[bytes] = []
    left = _BYTES
    while True:
        value = {data: worth(what - known) / (len(data) + _FILE) for data, what in pool.items() if len(data) <= left}
        best = max(value, key=lambda data: (value[data], data), default=b"")
        if not best or value[best] == 0:
            return taken
        taken.append(best)
        known |= pool.pop(best)
        left -= len(best)


def worth(new: set[Hashable]) -> float:
    """What it is worth to reach something first."""
    return sum(_WORTH[what[0]] for what in new if isinstance(what, tuple))


def main() -> None:
    """Write the corpus anew."""
    corpus = Corpus(DATA / "corpus")
    for target in sys.argv[1:] or BUILT_IN:
        inputs = chosen(target)
        old = corpus.load(target)
        corpus.remove(target, [*old.inputs, *old.unknown])
        for data in inputs:
            corpus.add(target, data)
        everything = set().union(*(reached(target, data) for data in inputs))
        kinds = {kind: sum(what[0] == kind for what in everything) for kind in ("word", "state", "line")}
        print(f"{target:16} {len(inputs):3} inputs, {sum(map(len, inputs)):5} bytes, {kinds}")


if __name__ == "__main__":
    main()
