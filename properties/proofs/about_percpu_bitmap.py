"""Theorems about the per-CPU bitmap: bytes and bits, slots of chunks, the gate, the bit searches under the hints.

The heap's own methods run, those of its first chunk, and the functions that its blocks call; bitmaps are words.

>>> from heaplaw.impls.percpu_bitmap import PercpuBitmap
>>> from heaplaw.properties.proofs.theorems import find
>>> find("percpu-bitmap/bits-cover-the-bytes").holds_for(PercpuBitmap(), {"size": 5, "align": 8})
True
"""

from collections.abc import Callable
from typing import Any

from heaplaw.protocol import Refusal

from .theorems import WRONG, Control, Given, Values, one_request, theorem
from .words import implies

_TARGETS = ("percpu-bitmap", "percpu-bitmap,unit=96,block=32", "percpu-bitmap,unit=65536,block=4096,chunks=1")
_REVISIONS = tuple(f"percpu-bitmap@{rev}" for rev in ("6.12", "4.14", "2017-07"))
_BITS = ("percpu-bitmap,unit=64,block=64,chunks=1", "percpu-bitmap,unit=256,block=256,chunks=1")  # of 16 and of 64 bits
_TWO_BLOCKS = ("percpu-bitmap,unit=64,block=32,chunks=1", "percpu-bitmap,unit=256,block=128,chunks=1")
_MASK = (1 << 64) - 1


def _noted(heap: Any, given: Given) -> tuple[Any, Any, Any, list[tuple[Any, Any]]]:
    """(size, alignment, answer, what was looked for) of a request that finds nothing: any two words."""
    looked: list[tuple[Any, Any]] = []
    heap._find = lambda bits, align, atomic: looked.append((bits, align))
    size, align = given("size", 0, _MASK), given("align", 0, _MASK)
    return size, align, heap.alloc(size, align), looked


def _power(given: Given, most: int) -> Any:
    align = given("align", 1, most)
    given.assume(align & (align - 1) == 0)
    return align


def _own(heap: Any, name: str) -> Callable[..., Any]:
    """A function as the blocks of this heap call it: a wrong kernel brings its own."""
    rule = heap._type.refresh.__globals__[name]
    assert callable(rule)
    return rule


def _bitmap(heap: Any, given: Given) -> tuple[Any, Any, int]:
    """(chunk, bitmap, bits) of a chunk that is one block."""
    chunk = heap._chunks[0]
    used = given("used", 0, (1 << chunk.nr_bits) - 1)
    chunk.used = [used]
    return chunk, used, chunk.nr_bits


# ---- stories, and which counterexamples fit into them ------------------------------------------


def _all_of_it(heap: Any, values: Values) -> str:
    """The longest request that there is, aligned."""
    return f"a = alloc {heap.contract.largest} align 8"


def _freed_then_all(heap: Any, values: Values) -> str:
    return f"a = alloc 4\nfree a\nb = alloc {heap.contract.largest}"


def _areas(sizes: tuple[int, ...], freed: str, then: str = "") -> str:
    """Areas of so many bits from the start of a chunk, some freed in this order."""
    lines = [f"{name} = alloc {4 * bits}" for name, bits in zip("abcdefghijklmnop", sizes, strict=False)]
    return "\n".join([*lines, *(f"free {name}" for name in freed), *([then] if then else [])])


def _two_equal_runs(heap: Any, values: Values) -> str:
    """Of eight areas of a bit those at 1 and 4 are freed."""
    return _areas((1,) * 8, "be")


def _runs_of_five_and_seven(heap: Any, values: Values) -> str:
    """Free runs of 5, 7 and 8 bits of which the blocks know the longest, which is taken: they look again."""
    rest = heap._unit // 4 - 5 - 1 - 7 - 1 - 8
    return _areas((5, 1, 7, 1, 8, rest), "eca", "g = alloc 28\nfree g\nh = alloc 32")


# ---- sizes -----------------------------------------------------------------------------------


@theorem(
    "percpu-bitmap", "As few bits as cover the bytes are looked for, aligned as many bytes as was asked for.",
    kernels="alloc", targets=_TARGETS, trace=one_request, controls=(WRONG + "bits_rounded_down",), law="big-enough",
)  # fmt: skip
def bits_cover_the_bytes(heap: Any, given: Given) -> Any:
    size, align, _, looked = _noted(heap, given)
    given.assume(bool(looked))
    ((bits, places),) = looked
    aligned = (places << 2 >= align) & (places & (places - 1) == 0) & ((places == 1) | (places << 2 == align))
    return aligned & (bits << 2 >= size) & ((bits << 2) - size < 4) & (bits << 2 <= heap._unit + 3)


@theorem(
    "percpu-bitmap", "A size up to the limit and an alignment up to a block are looked for, any others are refused.",
    kernels="alloc", targets=(*_TARGETS, *_REVISIONS), trace=one_request,
    controls=(Control(WRONG + "SizesOf32Bits", lambda heap, given: given("align", 0, _MASK) == 1),), law="big-enough",
)  # fmt: skip
def refuses_the_rest(heap: Any, given: Given) -> Any:
    size, align, answer, looked = _noted(heap, given)
    fits = (size >= 1) & (size <= min(heap._unit, 32768)) & (align >= 1) & (align <= heap._block)
    fits = fits & (align & (align - 1) == 0)
    return fits if looked else implies(fits, False) & (answer in (Refusal.INVALID, Refusal.TOO_BIG))


# ---- slots -----------------------------------------------------------------------------------


def _chunk(heap: Any, given: Given) -> tuple[Any, Any, Any]:
    """(chunk, its hinted run, its free bits), of any chunk that has free bits."""
    chunk = heap._chunks[0]
    longest, free = given("longest", 1, chunk.nr_bits), given("free", 1, chunk.nr_bits)
    given.assume(longest <= free)
    chunk.whole.contig_hint, chunk.free_bits = longest, free
    return chunk, longest, free


@theorem(
    "percpu-bitmap", "A chunk whose run holds a request stands on the slot where its search begins, or above it.",
    kernels="_slot_of, _slot_of_size: size_to_slot", targets=(*_TARGETS, *_REVISIONS), trace=_freed_then_all,
    controls=(WRONG + "slots_of_half_the_run,unit=64,block=64,chunks=1",), law="size-class",
)  # fmt: skip
def stands_high_enough(heap: Any, given: Given) -> Any:
    chunk, longest, _ = _chunk(heap, given)
    bits = given("bits", 1, chunk.nr_bits)
    given.assume(bits <= longest)
    slot = heap._slot_of(chunk)
    return (slot >= heap._slot_of_size(bits << 2)) & (slot >= 1) & (slot <= heap.free_slot)


@theorem(
    "percpu-bitmap", "A chunk stands on the slot of its hinted run, whatever else is free in it.",
    kernels="_slot_of: size_to_slot", targets=(*_TARGETS, "percpu-bitmap@6.12"),
    trace=lambda heap, values: _areas((1,) * 16, "acegikmo"),
    controls=("percpu-bitmap+P13,unit=64,block=64,chunks=1",), law="size-class",
)  # fmt: skip
def stands_by_its_run(heap: Any, given: Given) -> Any:
    chunk, longest, _ = _chunk(heap, given)
    return heap._slot_of(chunk) == heap._slot_of_size(longest << 2)


# ---- the gate --------------------------------------------------------------------------------


@theorem(
    "percpu-bitmap", "The gate lets a request pass just where the hinted run holds it at an aligned place.",
    kernels="Chunk.may_fit", targets=(*_TARGETS, *_REVISIONS[:2]), trace=_all_of_it,
    controls=(WRONG + "gate_pads_the_most,unit=64,block=64,chunks=1",), law="no-spurious-refusal",
)  # fmt: skip
def gate_knows_alignments(heap: Any, given: Given) -> Any:
    chunk, longest, _ = _chunk(heap, given)
    start, bits = given("start", 0, chunk.nr_bits), given("bits", 1, chunk.nr_bits)
    align = _power(given, heap._block)
    given.assume(start + longest <= chunk.nr_bits)
    chunk.whole.contig_hint_start = start
    first = start + align - 1 & -align
    fits = first + bits <= start + longest
    return fits if chunk.may_fit(bits, align) else implies(fits, False)


# ---- bits ------------------------------------------------------------------------------------


@theorem(
    "percpu-bitmap", "The first free bit is found, across a border of blocks too.",
    kernels="Chunk.next_zero: next_zero", targets=_TWO_BLOCKS,
    trace=lambda heap, values: _areas((1, 1, 1, 1, 1), "bd", "g = alloc 4\nh = alloc 4"),
    controls=(WRONG + "looks_past_the_first,unit=64,block=32,chunks=1",), law="hint-sound",
    bound="every bitmap of two blocks of 8 and of 32 bits",
)  # fmt: skip
def first_free_bit(heap: Any, given: Given) -> Any:
    chunk, size = heap._chunks[0], heap._chunks[0].block_bits
    used, at, other = given("used", 0, (1 << 2 * size) - 1), given("at", 0, 2 * size), given("other", 0, 2 * size - 1)
    chunk.used = [used & ((1 << size) - 1), used >> size]
    found = chunk.next_zero(at)
    free = used >> other & 1 == 0
    nothing_before = implies((other >= at) & free, other >= found)
    return (found >= at) & nothing_before & ((found == 2 * size) | (used >> found & 1 == 0))


@theorem(
    "percpu-bitmap", "A freed area makes known the whole free run that it lies in.",
    kernels="Chunk.hint_free: run_start, next_set", targets=(_BITS[0], "percpu-bitmap,unit=32,block=32,chunks=1"),
    trace=lambda heap, values: _areas((2, 2, 2, 2), "acb"),
    controls=(WRONG + "runs_from_the_area,unit=64,block=64,chunks=1",), law="hint-exact",
    bound="every bitmap of 16 and of 8 bits, and of hints those of a block without a free bit",
)  # fmt: skip
def freed_run_is_whole(heap: Any, given: Given) -> Any:
    chunk, used, size = _bitmap(heap, given)
    at, bits = given("at", 0, size - 1), given("bits", 1, size)
    given.assume(at + bits <= size)
    given.assume(used & ((1 << bits) - 1 << at) == 0)
    block = chunk.blocks[0]
    block.set_full()
    block.first_free, block.contig_hint_start = size, size + 1  # dead: a place that no run has
    chunk.hint_free(at, bits)
    start, run = block.contig_hint_start, block.contig_hint
    outside = ((used << 1 | 1) >> start & 1 == 1) & ((used | 1 << size) >> (start + run) & 1 == 1)
    inside = (start >= 0) & (start <= at) & (at + bits <= start + run) & (start + run <= size)
    return inside & outside & (used & ((1 << run) - 1 << start) == 0)


@theorem(
    "percpu-bitmap", "A scan reaches the end of a fit that begins within a block of where it starts.",
    kernels="Chunk.scan_end", targets=(*_TARGETS, *_REVISIONS), trace=_all_of_it,
    controls=("percpu-bitmap+B32,unit=64,block=64,chunks=1",), law="no-spurious-refusal",
)  # fmt: skip
def scan_reaches_the_fit(heap: Any, given: Given) -> Any:
    chunk = heap._chunks[0]
    start, bits, fit = (given(name, low, chunk.nr_bits) for name, low in (("start", 0), ("bits", 1), ("fit", 0)))
    given.assume((fit >= start) & (fit <= start + chunk.block_bits) & (fit + bits <= chunk.nr_bits))
    end = chunk.scan_end(start, bits)
    return (end >= fit + bits) & (end <= chunk.nr_bits)


@theorem(
    "percpu-bitmap", "A sieve for runs keeps just the bits at which so many free ones begin.",
    kernels="rescan: run_starts", targets=_BITS, trace=_runs_of_five_and_seven,
    controls=(WRONG + "sieve_by_doubling,unit=128,block=128,chunks=1",), law="hint-slack",
    bound="every bitmap of 16 and of 64 bits, every length up to theirs",
)  # fmt: skip
def sieve_keeps_the_runs(heap: Any, given: Given) -> Any:
    bits = heap._chunks[0].nr_bits
    free, length = given("free", 0, (1 << bits) - 1), given("length", 1, bits)
    place = given("place", 0, bits - 1)
    starts = _own(heap, "run_starts")(free, length)
    ones = (1 << length) - 1
    return (starts >> place & 1 == 1) == (free >> place & ones == ones)


@theorem(
    "percpu-bitmap", "Of two equal runs the better aligned one leads, and of no two each.", kernels="better_aligned",
    targets=("percpu-bitmap", "percpu-bitmap@4.14"), trace=_two_equal_runs,
    controls=(WRONG + "worse_aligned,unit=32,block=32,chunks=1",), law="hint-order", bound="places up to 2**32",
)  # fmt: skip
def better_alignment_is_an_order(heap: Any, given: Given) -> Any:
    better = _own(heap, "better_aligned")
    one, two, three = (given(name, 0, 1 << 32) for name in ("one", "two", "three"))
    align = given("align", 1, 1 << 31)
    given.assume(align & (align - 1) == 0)
    leads = better(one, two)
    if leads and better(two, three) and not better(one, three):
        return False
    if leads and better(two, one):
        return False
    if leads:  # whatever the other is aligned to, this one is
        return implies(two & (align - 1) == 0, one & (align - 1) == 0)
    return implies(one & (align - 1) == 0, two & (align - 1) == 0)
