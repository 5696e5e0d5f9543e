"""Experiments on pairs of built-in strategies, small enough to run each time; see ``claims``.

Each takes the names of the strategy before and of the one after, and a seed, and says which way the figures point.
Objects are fewer than in the postings (thousands, not a million); what is compared is a direction.

>>> seen = half_empty("xvmalloc", "zsmalloc", 1)
>>> seen.holds, seen.figures[0][0]
(True, 'unused, sizes 2049 to 2600')
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from random import Random
from typing import Any

from heaplaw.impls.registry import factory, fitted
from heaplaw.operations import Kind, Operation
from heaplaw.protocol import Refusal

from .measuring import Measured, measured
from .shapes import PAGE, free, packed_size, request
from .tracing import recorded

_UNIT = 8192  # bytes of a percpu chunk: a quarter of the kernel's least, since a map's cost is quadratic in it
_SIZES = (4, 16, 64, 128, 1024)  # of the percpu posting
_FEW = 0.05  # share by which costs may differ and still be the same
_CHAINS = 100  # objects; fewer are spread over so many size classes that chains of pages stay part empty
_WORD = 64  # bits that a processor looks at in one step
_RECORDED = 4_000  # operations
_DISK = 4_000  # objects; the posting's tree has 130,000
_LARGEST = 4072  # bytes that both of two allocators of compressed pages can store
_ROUNDS = 10

Row = tuple[str, float, float]
Figures = list[Row]


@dataclass(frozen=True)
class Evidence:
    """``figures``: what it is, of the strategy before, of the one after.  ``said``: what points another way."""

    figures: Figures
    holds: bool
    unit: str = "steps"
    said: str = ""
    partly: bool = False  # some of the figures point as claimed


def _row(what: str, values: Iterable[float]) -> Row:
    before, after = values
    return what, before, after


# ---- per-CPU areas --------------------------------------------------------------------------


def _objects(count: int, size: int, align: int = 1) -> list[Operation]:
    return [Operation(Kind.ALLOC, name, size, align) for name in range(count)]


def _orders(count: int) -> dict[str, list[int]]:
    """The posting's: in order, alternating, in reverse."""
    names = list(range(count))
    return {"in order": names, "alternating": names[::2] + names[1::2], "in reverse": names[::-1]}


def _percpu(target: str, size: int, frees: Sequence[int], count: int, chunks: int) -> Measured:
    heap = f"{target},unit={_UNIT},block={PAGE},chunks={chunks}"
    return measured(heap, [*_objects(count, size), *map(free, frees)])


def _mean(seen: Measured, figure: str) -> float:
    """Of a figure that the target is known to show."""
    return seen.figure(figure) or 0.0


@lru_cache(maxsize=64)
def _by_order(target: str, size: int, chunks: int = 1) -> dict[str, float]:
    """Mean steps of a free in each order, in full chunks."""
    count = chunks * _UNIT // max(size, 4)
    return {
        order: _mean(_percpu(target, size, frees, count, chunks), "free_steps")
        for order, frees in _orders(count).items()
    }


def free_small(old: str, new: str, seed: int) -> Evidence:
    """Mean steps of freeing 4-byte objects, in the worst of three orders."""
    before, after = (max(_by_order(target, 4).values()) for target in (old, new))
    return Evidence([("a free of 4 bytes, worst order", before, after)], after < before)


def free_by_order(old: str, new: str, seed: int) -> Evidence:
    """The dearest order of freeing 4-byte objects, as a multiple of the cheapest."""
    spread = [max(means.values()) / (min(means.values()) or 1.0) for means in (_by_order(t, 4) for t in (old, new))]
    return Evidence([_row("dearest order / cheapest", spread)], spread[1] < spread[0], "times")


def free_by_size(old: str, new: str, seed: int) -> Evidence:
    """Mean steps of a free by size, in the worst order of each: it falls with the size before, and not after."""
    rows: Figures = [
        _row(f"a free of {size} bytes", [max(_by_order(target, size).values()) for target in (old, new)])
        for size in _SIZES
    ]
    before, after = [row[1] for row in rows], [row[2] for row in rows]
    spread = [max(side) / (min(side) or 1.0) for side in (before, after)]
    falls = [all(one > two for one, two in pairwise(side)) for side in (before, after)]
    said = f"bits are counted one by one; a processor looks at {_WORD} of them in a step"
    holds = falls == [True, False] and spread[1] < spread[0]
    return Evidence([*rows, _row("dearest / cheapest", spread)], holds, "steps", said)


def alloc_by_size(old: str, new: str, seed: int) -> Evidence:
    """Mean steps of an allocation by size."""
    rows: Figures = []
    for size in _SIZES:
        count = 2 * _UNIT // size
        means = [_mean(_percpu(target, size, (), count, 2), "alloc_steps") for target in (old, new)]
        rows.append(_row(f"{size} bytes", means))
    cheaper = [what for what, before, after in rows if after <= before]
    said = f"no more steps for {', '.join(cheaper)}" if cheaper else ""
    return Evidence(rows, not cheaper, "steps", said, len(cheaper) < len(rows))


def bad_alignment(old: str, new: str, seed: int) -> Evidence:
    """4 bytes aligned to 8: steps of an allocation, and how they grow when there are twice as many objects."""
    unit, rows = 1024, []
    means: dict[int, list[float]] = {}
    for chunks in (8, 16):
        count = chunks * unit // 8
        heaps = [f"{target},unit={unit},block=256,chunks={chunks}" for target in (old, new)]
        means[chunks] = [_mean(measured(heap, _objects(count, 4, 8)), "alloc_steps") for heap in heaps]
        rows.append(_row(f"an allocation, {count:,} objects", means[chunks]))
    growth = [twice / once for once, twice in zip(means[8], means[16], strict=True)]
    rows.append(_row("growth with twice as many", growth))
    return Evidence(rows, means[16][1] < means[16][0] and growth[1] < 1 + _FEW < growth[0])


def metadata_growth(old: str, new: str, seed: int) -> Evidence:
    """Bytes kept beside one chunk with few and with as many objects as it holds."""
    rows: Figures = []
    for count in (16, _UNIT // 4):
        heaps = [f"{target},unit={_UNIT},block={PAGE},chunks=1" for target in (old, new)]
        kept = [_mean(measured(heap, _objects(count, 4)), "metadata") for heap in heaps]
        rows.append(_row(f"{count:,} objects", kept))
    (_, one, two), (_, many_one, many_two) = rows
    return Evidence(rows, many_one > one and many_two == two, "bytes")


def free_recorded(old: str, new: str, seed: int) -> Evidence:
    """Steps of a free on the recorded chunk of Linux 6.18: the mean, and the entries and bits of all of them."""
    [work] = recorded(1 << 30, ["linux-6.18-percpu-chunk"])
    seen = [measured(fitted(target, 0, work.geometry), work.operations) for target in (old, new)]
    rows: Figures = [
        ("a free, mean", _mean(seen[0], "free_steps"), _mean(seen[1], "free_steps")),
        ("a free, worst", _mean(seen[0], "worst_free_steps"), _mean(seen[1], "worst_free_steps")),
        ("entries moved, in all", seen[0].counters.get("entries_moved", 0), seen[1].counters.get("entries_moved", 0)),
    ]
    return Evidence(rows, rows[0][2] < rows[0][1] and rows[2][2] < rows[2][1])


# ---- recorded traces ------------------------------------------------------------------------


def _on_recordings(old: str, new: str, figure: str, names: Sequence[str] = ("jq", "sqlite")) -> Figures:
    """A figure on recorded traces, of the requests that both serve."""
    rows: Figures = []
    for work in recorded(_RECORDED, names):
        heaps = [fitted(target, work.capacity, {}) for target in (old, new)]
        seen = [measured(heap, work.operations) for heap in heaps]
        if differ := seen[0].refused.keys() ^ seen[1].refused.keys():
            seen = [measured(heap, work.operations, differ) for heap in heaps]
        rows.append(_row(work.name, [_mean(side, figure) for side in seen]))
    return rows


def _all_less(rows: Figures, unit: str) -> Evidence:
    against = [what for what, before, after in rows if after >= before]
    said = f"not so: {', '.join(against)}" if against else ""
    return Evidence(rows, not against, unit, said, len(against) < len(rows))


def worst_recorded(old: str, new: str, seed: int) -> Evidence:
    """The worst call on recorded traces."""
    return _all_less(_on_recordings(old, new, "worst_steps", ("jq", "linux-6.18-kmalloc-head", "sqlite")), "steps")


def footprint_recorded(old: str, new: str, seed: int) -> Evidence:
    """Bytes held at the most, on recorded traces."""
    return _all_less(_on_recordings(old, new, "footprint", ("jq", "linux-6.18-kmalloc-head", "sqlite")), "bytes")


def large_recorded(old: str, new: str, seed: int) -> Evidence:
    """Bytes held for the objects of recorded traces that are larger than half a page, the others left out."""
    rows: Figures = []
    live: list[set[int]] = []
    for work in recorded(1 << 30, ("jq", "sqlite")):
        births = {op.name for op in work.operations if op.kind == Kind.ALLOC and PAGE // 2 < op.size <= _LARGEST}
        live.append(births)
        trace = [op for op in work.operations if op.name in births]
        seen = [measured(fitted(target, work.capacity, {}), trace) for target in (old, new)]
        rows.append(_row(f"{work.name}, {len(births)} objects", [_mean(side, "footprint") for side in seen]))
    seen_so = _all_less(rows, "bytes")
    few = "; so few fill no chain of pages" if max(map(len, live)) < _CHAINS else ""
    return replace(seen_so, said=seen_so.said and seen_so.said + few)


# ---- sizes up to a page -----------------------------------------------------------------------


def _sized(rng: Random, count: int, low: int, high: int) -> list[Operation]:
    return [request(name, rng.randint(low, high)) for name in range(count)]


def unbounded(old: str, new: str, seed: int) -> Evidence:
    """The worst call when near-page objects and what is left of their pages come and go; then four times as many."""
    rows: Figures = []
    for count in (100, 400):
        rng = Random(seed)
        holes = [op for name in range(count) for op in (request(2 * name, rng.randint(2800, 3600)),
                                                        request(2 * name + 1, 100))]  # fmt: skip
        trace = [*holes, *(free(2 * name) for name in range(count)), *(free(2 * name + 1) for name in range(count))]
        seen = [measured(f"{target},pages={4 * count}", trace) for target in (old, new)]
        rows.append(_row(f"worst call, {count} objects", [_mean(side, "worst_steps") for side in seen]))
    (_, one, two), (_, four_one, four_two) = rows
    return Evidence(rows, four_one > one * 2 and four_two == two)


def footprint_by_size(old: str, new: str, seed: int) -> Evidence:
    """Bytes held for objects of a range of sizes; what is claimed is where the gain is largest."""
    rows: Figures = []
    for low, high in ((16, 128), (129, 512), (513, 2048), (2049, 3968), (3969, 4032)):
        trace = _sized(Random(seed), 400, low, high)
        seen = [measured(f"{target},pages=2048", trace) for target in (old, new)]
        rows.append(_row(f"{low} to {high} bytes", [_mean(side, "footprint") for side in seen]))
    gains = [1 - after / before for _, before, after in rows]
    most = gains.index(max(gains))
    some = max(gains[-2:]) > 0
    said = "" if most >= len(rows) - 2 else f"there is a gain, but the largest is for {rows[most][0]}"
    return Evidence(rows, some and not said, "bytes", said, some)


def half_empty(old: str, new: str, seed: int) -> Evidence:
    """Share of the pages that objects of more than half a page do not fill."""
    rows: Figures = []
    for low, high in ((2049, 2600), (2601, 3400)):
        trace = _sized(Random(seed), 300, low, high)
        asked = sum(op.size for op in trace)
        seen = [measured(f"{target},pages=1024", trace) for target in (old, new)]
        rows.append(_row(f"unused, sizes {low} to {high}", [1 - asked / side.footprint for side in seen]))
    return _all_less(rows, "share")


def reclaimed(old: str, new: str, seed: int) -> Evidence:
    """Pages held after three quarters of the objects were freed at random, and compaction where there is one."""
    rng, count = Random(seed), 600
    trace = [request(name, packed_size(rng, 3200)) for name in range(count)]
    trace += [free(name) for name in rng.sample(range(count), count * 3 // 4)]
    compact = [Operation(Kind.MAINTAIN, mode="compact")]
    rows: Figures = []
    for what, more in (("left", []), ("left after compaction", compact)):
        kept = []
        for target in (old, new):
            heap = factory(f"{target},pages=2048")()
            kept.append(_kept(heap, [*trace, *more]))
        rows.append(_row(f"share of pages {what}", kept))
    return Evidence(rows, rows[-1][2] < rows[-1][1], "share")


def _kept(heap: object, trace: Sequence[Operation]) -> float:
    """Share of the most pages ever held that is still held at the end."""
    disk = _Disk(heap)
    for op in trace:
        disk.do(op)
    return disk.pages / max(disk.most, 1)


# ---- compressed pages -------------------------------------------------------------------------


class _Disk:
    """Objects on one heap, driven directly: what is in the middle of a trace is of interest, not the peak."""

    def __init__(self, heap: object) -> None:
        self.heap: Any = heap
        self.live: dict[int, tuple[object, int]] = {}
        self.most = 0

    def do(self, op: Operation) -> None:
        """One operation; those that the heap does not know are left out."""
        if op.kind == Kind.ALLOC:
            handle = self.heap.alloc(op.size)
            if handle is None or isinstance(handle, Refusal):
                raise RuntimeError(f"an experiment asked for more than there is: {op.size} bytes")
            self.live[op.name] = handle, op.size
            self.most = max(self.most, self.pages)
        elif op.kind == Kind.FREE:
            self.heap.free(self.live.pop(op.name)[0])
        elif op.mode in self.heap.contract.maintenance:
            self.heap.maintain(op.mode)

    @property
    def pages(self) -> int:
        """Held now."""
        return int(self.heap.source.held)

    @property
    def overhead(self) -> float:
        """Bytes of pages beyond what is stored, as a share of that."""
        return self.pages * PAGE / sum(size for _, size in self.live.values()) - 1

    @property
    def real(self) -> float:
        """The same, without what the backing could lend to others."""
        used = self.heap.counters().get("pool_bytes", self.pages * PAGE)
        return used / sum(size for _, size in self.live.values()) - 1


def _disks(old: str, new: str) -> list[_Disk]:
    return [_Disk(factory(f"{target},pages={2 * _DISK}")()) for target in (old, new)]


def _fill(rng: Random, first: int = 0, count: int = _DISK) -> list[Operation]:
    return [request(first + number, packed_size(rng, 3200)) for number in range(count)]


def _after(old: str, new: str, trace: Sequence[Operation], what: Callable[[_Disk], float]) -> tuple[float, float]:
    one, two = _disks(old, new)
    for op in trace:
        one.do(op)
        two.do(op)
    return what(one), what(two)


def overhead_full(old: str, new: str, seed: int) -> Evidence:
    """Overhead of a disk that was filled once; slabs counted whole."""
    row = _after(old, new, _fill(Random(seed)), lambda disk: disk.overhead)
    return _all_less([("filled once", *row)], "share")


def overhead_real(old: str, new: str, seed: int) -> Evidence:
    """The same, counting only what slabs cannot lend to others."""
    row = _after(old, new, _fill(Random(seed)), lambda disk: disk.real)
    return _all_less([("filled once, own bytes", *row)], "share")


def _removed(rng: Random, names: Sequence[int]) -> list[Operation]:
    """Eight directories of ten, one after the other: runs of neighbours; a fifth of the objects stays."""
    tenth = len(names) // 10
    gone = [names[part * tenth : (part + 1) * tenth] for part in rng.sample(range(10), 8)]
    return [free(name) for part in gone for name in part]


def overhead_removed(old: str, new: str, seed: int) -> Evidence:
    """Overhead when directories with four fifths of the data were removed."""
    rng = Random(seed)
    trace = [*_fill(rng), *_removed(rng, range(_DISK))]
    return _all_less([("four fifths removed", *_after(old, new, trace, lambda disk: disk.overhead))], "share")


def overhead_rounds(old: str, new: str, seed: int) -> Evidence:
    """Overhead after ten rounds of writing and removing; what was left of a round is overwritten in the next."""
    rng, trace, left = Random(seed), list[Operation](), list[int]()
    for number in range(_ROUNDS):
        names = range(number * _DISK, (number + 1) * _DISK)
        written = _fill(rng, names[0])
        for index, op in enumerate(written):  # an old file goes when its new one is written, a little ahead
            trace.append(op)
            if left and index % 4 == 0:
                trace.append(free(left.pop(rng.randrange(len(left)))))
        trace += [free(name) for name in left]
        gone = _removed(rng, names)
        trace += gone
        left = sorted(set(names) - {op.name for op in gone})
    return _all_less([(f"{_ROUNDS} rounds", *_after(old, new, trace, lambda disk: disk.overhead))], "share")


def footprint_packed(old: str, new: str, seed: int) -> Evidence:
    """Bytes held for compressed pages."""
    row = _after(old, new, _fill(Random(seed)), lambda disk: float(disk.pages * PAGE))
    return _all_less([("compressed pages", *row)], "bytes")
