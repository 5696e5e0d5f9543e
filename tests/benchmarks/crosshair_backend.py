"""Does Hypothesis find more in kernels with CrossHair as its backend than with random search?

    python tests/benchmarks/crosshair_backend.py [--random 2000] [--symbolic 50] [--seconds 60] [NAME ...]

Planted errors in pure kernels: the real function with one constant or one rounding wrong, and a property that the real
one has.  Each is hunted once by each backend, in a process of its own and with its own ceiling of examples.  Prints
the examples and the seconds of processor time until the first failure, "missed" where there was none in time, and the
ratio of both.

One run, of Hypothesis 6.170.15 and hypothesis-crosshair 0.0.31 with seed 1: of 12 errors both find 9, random search
with 15 times as many examples in the median (0.6 to 97 times), though in less time in all but one of them.  CrossHair
alone finds the class that is wrong for one size in 8192; random search alone finds the two in loops.
"""

import argparse
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import NamedTuple

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from heaplaw.impls import afmalloc_pieces, kmalloc_classes, tlsf_mapping, xvmalloc_index, zsmalloc_classes
from heaplaw.impls.percpu_blocks import run_starts
from heaplaw.impls.srog_promises import HEAD, order_for
from heaplaw.properties.processes import each

BACKENDS = {"random": "hypothesis", "symbolic": "crosshair"}


class Planted(NamedTuple):
    """A wrong kernel: which numbers it is asked about, and whether it is right about them."""

    what: str
    ranges: tuple[tuple[int, int], ...]
    right: Callable[..., bool]


class Wrong(Exception):  # noqa: N818 - of a kernel
    """The property does not hold."""


class Hunt(NamedTuple):
    """One planted error, one backend."""

    name: str
    backend: str
    examples: int = 0  # until the failure, or in all
    seconds: float = 0.0  # of processor time
    found: str = ""  # the arguments; empty: missed


def order_one_short(size: int) -> bool:
    """``get_order`` that takes off two bytes before it rounds, not one."""
    return size <= 4096 << ((size - 2) >> 12).bit_length()


def next_power_of_the_length(n: int) -> bool:
    """``roundup_pow_of_two`` that takes off two before it counts bits."""
    return n <= 1 << (n - 2).bit_length()


def class_of_193(size: int) -> bool:
    """kmalloc's table one entry too long: 193 bytes from the class of 192."""
    return size <= (192 if 128 < size <= 193 else kmalloc_classes.kmalloc_class(size))


def class_of_one_size(size: int) -> bool:
    """A class that is right for all sizes but one, as a table with one wrong entry is."""
    return size <= (5120 if size == 5122 else kmalloc_classes.kmalloc_class(size))


def wrapped_order(whole: int) -> bool:
    """SROG's sums as published: in words of 32 bits they wrap."""
    return whole + HEAD <= 4096 << order_for(whole, 4096, (1 << 32) - 1)


def index_without_header(size: int) -> bool:
    """zsmalloc's class for a request, the handle word forgotten."""
    index = zsmalloc_classes.class_index(size, 0, 16, 254)
    return min(size + 8, 4096) <= zsmalloc_classes.class_size(index, 4096, 16)


def search_without_rounding(size: int, block: int) -> bool:
    """TLSF: a search that begins on the list where the request would be filed."""
    return block >= size or tlsf_mapping.insert(block, 8, 5) < tlsf_mapping.insert(size, 8, 5)


def search_one_byte_short(size: int, block: int) -> bool:
    """TLSF: a round-up with a mask that is one too small."""
    below = (1 << (tlsf_mapping.doublings(size, 8) + 3)) - 2
    return block >= size or tlsf_mapping.insert(block, 8, 5) < tlsf_mapping.insert(size + below, 8, 5)


def sums_one_byte_short(size: int, block: int) -> bool:
    """The same in sums and ``bit_length`` only, which is what CrossHair has words for."""
    below = (1 << (size.bit_length() - 6)) - 2
    return block >= size or _row_and_column(block) < _row_and_column(size + below)


def _row_and_column(size: int) -> int:
    row = size.bit_length() - 1
    return row * 32 + (size >> (row - 5)) - 32


def pieces_forgotten(length: int, most: int) -> bool:
    """afmalloc: the last piece is not rounded up where it is the third."""
    level = afmalloc_pieces.calculate_level(length, most)
    pieces = afmalloc_pieces.split(length, level)
    return sum(pieces) - (32 if level == 3 and length & 31 else 0) >= length


def runs_not_doubled(free: int, length: int) -> bool:
    """percpu: looking for runs by doubling, one bit short where four doublings are needed."""
    starts = run_starts(free, length - (length > 8))
    return all(free >> at & (1 << length) - 1 == (1 << length) - 1 for at in range(16) if starts >> at & 1)


def list_not_rounded_up(size: int, block: int) -> bool:
    """xvmalloc: a search that rounds down, as filing does."""
    lists = xvmalloc_index.insert_index(block, 4080), xvmalloc_index.insert_index(size, 4080)
    return block >= size or lists[0] < lists[1]


_WORD = (1, (1 << 40) - 1)
_TLSF = ((256, (1 << 29) - 1),) * 2
PLANTED = {
    one.right.__name__: one
    for one in (
        Planted("bit_length", (_WORD,), order_one_short),
        Planted("bit_length", (_WORD,), next_power_of_the_length),
        Planted("comparisons", ((1, 8192),), class_of_193),
        Planted("comparisons", ((1, 8192),), class_of_one_size),
        Planted("low mask, //", ((1, (1 << 32) - 1),), wrapped_order),
        Planted("//", ((1, 4096),), index_without_header),
        Planted("bit_length, >>, 2 numbers", _TLSF, sums_one_byte_short),
        Planted("| and &, 2 numbers", _TLSF, search_without_rounding),
        Planted("| and &, 2 numbers", _TLSF, search_one_byte_short),
        Planted("a loop, 2 numbers", ((1, 4096), (1, 7)), pieces_forgotten),
        Planted("a loop with &, 2 numbers", ((0, (1 << 16) - 1), (1, 16)), runs_not_doubled),
        Planted("& ~7, 2 numbers", ((32, 4080),) * 2, list_not_rounded_up),
    )
}


def hunt(name: str, backend: str, examples: int, seconds: float) -> Hunt:
    """Let one backend look for arguments for which the kernel is wrong; no shrinking, no memory of earlier runs."""
    planted = PLANTED[name]
    started, tried, failed = time.process_time(), [0], [0]

    @seed(1)
    @settings(
        backend=BACKENDS[backend], max_examples=examples, database=None, deadline=None,
        phases=[Phase.generate], suppress_health_check=list(HealthCheck), print_blob=False,
    )  # fmt: skip
    @given(st.tuples(*(st.integers(low, high) for low, high in planted.ranges)))
    def trial(numbers: tuple[int, ...]) -> None:
        tried[0] += 1
        if not failed[0] and time.process_time() - started > seconds:
            return
        if not planted.right(*numbers):
            failed[0] = failed[0] or tried[0]
            raise Wrong(f"wrong for {', '.join(str(int(number)) for number in numbers)}")

    found = ""
    try:
        trial()
    except Wrong as problem:
        found = str(problem)
    return Hunt(name, backend, failed[0] or tried[0], time.process_time() - started, found)


def lost(index: int, problem: Exception) -> Hunt:
    """A hunt that came to no end is no miss."""
    raise problem


def report(hunts: list[Hunt]) -> None:
    """A line for each planted error: what both backends did with it."""
    ratios: list[float] = []
    print(f"{'planted error':36}{'asks of its numbers':28}{'random':>20}{'symbolic':>20}{'examples':>10}")
    for name in dict.fromkeys(one.name for one in hunts):
        by = {one.backend: one for one in hunts if one.name == name}
        shown = [f"{one.examples:,} in {one.seconds:.1f} s" if one.found else "missed" for one in by.values()]
        found = all(one.found for one in by.values())
        ratio = f"{by['random'].examples / by['symbolic'].examples:.1f}" if found else "-"
        print(f"{name:36}{PLANTED[name].what:28}{shown[0]:>20}{shown[1]:>20}{ratio:>10}")
        ratios += [by["random"].examples / by["symbolic"].examples] if found else []
    for kind, other in (BACKENDS, tuple(BACKENDS)[::-1]):
        missed = {one.name for one in hunts if one.backend == other and not one.found}
        print(f"only {kind}: {sum(one.backend == kind and bool(one.found) and one.name in missed for one in hunts)}")
    print(f"both: {len(ratios)}, ratio of examples {median(ratios or [0]):.1f} in the median")


def main() -> None:
    """Hunt, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option, default in (("random", 2000), ("symbolic", 50), ("seconds", 60)):
        parser.add_argument(f"--{option}", type=int, default=default)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(PLANTED))
    chosen = parser.parse_args()
    ceilings = {"random": chosen.random, "symbolic": chosen.symbolic}
    work = [(name, kind, ceilings[kind], chosen.seconds) for name in chosen.names or PLANTED for kind in BACKENDS]
    hunts = each(hunt, work, lost, jobs=1, together=1)
    report(list(hunts))


if __name__ == "__main__":
    sys.exit(main())
