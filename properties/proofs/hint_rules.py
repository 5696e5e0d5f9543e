"""The hint rules of the per-CPU bitmap allocator, by induction: no number of operations makes a hint too large.

A chunk's descriptors are what its blocks and the whole say of their free runs.  A state of the proof is any
bitmap with any descriptors that ``CONJUNCTS`` allow; a step is one operation on it, done by the chunk's own
methods (``alloc_area``, ``free_area``, and all that they call), read by ``merged``.  Shown is that a fresh chunk
is such a state, and that every step leads to one.  The invariant carries the witness, the region that a hint
names: that a hint is at most the longest free run is not enough to show that it still is after a step::

    used    1 1 . . . 1 1 .|. . 1 ...      any bits, in three blocks of eight
    contig      [-----]      [---]         any lengths and places, as long as the bits are free

Bounded: three blocks of 8 bits (four with ``deep``), in chunks that hide nothing (no static or reserved bytes).
Larger blocks are not covered.  Not bounded: the number of operations.  A step takes any free area that does not
begin inside a block's left run, which is more than a search finds, or gives any used bits back.  That searches
find no other areas is shown of their own code, in two parts: where the descriptors tell to scan (any request, from
any bit on), and the scan of the bitmap from there.  The scan alone is shown for blocks of half as many bits.

A step is cut where a chunk walks its blocks' descriptors, so that each question is small: questions about blocks
show that these are as the invariant says there, and questions about the chunk know only this of them.

A counterexample is a state and an operation that leads out of the invariant.  Such a state need not be reachable,
so nothing is refuted until a trace from a fresh heap breaks a law in a replay: the bitmap is built by real
operations, the operation is done, and if this breaks no law the solver is asked for another state.  What 6.12
does as shipped is told by ``REVISIONS``: every operation keeps its hints sound (a weaker invariant suffices), if
no area begins in the midst of a block's left run; that its searches find no such area is not shown: its scan hints
may stand inside a longer run, where a search would begin.  No trace is known that does so.  That its hints are
late and out of order is no matter of soundness.  What is said of shipped code is unconfirmed by its maintainers.

>>> [(question.theorem, answer(question).verdict) for question in questions(False)[:1]]
[('percpu-bitmap/hints-when-fresh', 'proved')]
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import islice, pairwise, permutations
from typing import Any, NamedTuple

import z3

from heaplaw.impls.percpu_blocks import BlockHints
from heaplaw.impls.percpu_chunk import Chunk
from heaplaw.impls.registry import factory
from heaplaw.operations import birth_name

from ..replay import replay
from .merged import Merged, NotSupported
from .paths import Unsure
from .proving import Proof, trace_of
from .verdicts import PROVED, REFUTED, UNCLEAR
from .words import TooNarrow, Truth, all_of, implies, term_of

STEPS = 400_000_000  # of the solver, for one question
SECONDS = 120.0  # of wall time, ceiling for one question
TRIES = 24  # states out of which a trace is sought
_ORDERS = 240  # in which pieces are freed, for each of them
_GRANULE = 4  # bytes of a bit
_FIELDS = ("contig_hint", "contig_hint_start", "scan_hint", "scan_hint_start", "left_free", "right_free", "first_free")

REPAIRED, SHIPPED = "percpu-bitmap", "percpu-bitmap@6.12"
REFUTABLE = ("percpu-bitmap@4.14", "percpu-bitmap@2017-07")  # controls: these must be refuted
REVISIONS = {
    REPAIRED: "sound",
    SHIPPED: "sound, as long as no search enters a left run, which is not shown of its searches",
    "percpu-bitmap@4.14": "a chunk's hint outlives an allocation that begins before it, and a free makes it too long",
    "percpu-bitmap@2017-07": "a chunk's hint outlives an allocation that begins before it",
}

SENTENCES = {
    "percpu-bitmap/hints-when-fresh": "A fresh chunk's hints name free regions.",
    "percpu-bitmap/search-enters-no-left-run": "A search finds a free area, which does not begin in the midst of a "
    "block's left run; a hole that it skips ends at a used bit.",
    "percpu-bitmap/block-hints-after-alloc": "When an area is taken, every block's hints still name free regions.",
    "percpu-bitmap/chunk-hints-after-alloc": "When an area is taken, the chunk's hints still name free regions.",
    "percpu-bitmap/block-hints-after-free": "When an area is given back, every block's hints name free regions.",
    "percpu-bitmap/chunk-hints-after-free": "When an area is given back, the chunk's hints name free regions.",
}


class Question(NamedTuple):
    """One step of the induction: can be answered by any process, in any order."""

    theorem: str
    target: str  # with its geometry
    step: str  # fresh, place, scan, hole, alloc, free
    first: int = 0  # block in which the area begins; of place and scan: log2 of the alignment in bits
    last: int = 0  # and ends
    about: str = "blocks"  # or the chunk

    def __str__(self) -> str:
        told = {
            "fresh": "of no operation",
            "place": f"aligned to {1 << self.first} bits: where to scan",
            "scan": f"aligned to {1 << self.first} bits: the scan",
            "hole": f"a hole in block {self.first}",
        }
        area = f"an area in blocks {self.first} to {self.last}, {self.about}"
        return f"{self.theorem} on {self.target}, {told.get(self.step, area)}"


# ---- the invariant ---------------------------------------------------------------------------


class Conjunct(NamedTuple):
    """One thing that is so of every descriptor, before and after each operation."""

    name: str
    sentence: str
    holds: Callable[[Chunk, BlockHints, int], Any]  # of the descriptor of the bits from there on
    of: str  # blocks, chunk, both


def _bit(chunk: Chunk, at: int) -> Any:
    """1 where it is used."""
    return (chunk.used[at >> chunk.shift] >> (at & chunk.mask)) & 1


def _is_free(chunk: Chunk, base: int, bits: int, start: Any, length: Any) -> Any:
    """Is the region inside these bits, and every bit of it clear?"""
    clear = (implies((start <= at) & (start + length > at), _bit(chunk, base + at) == 0) for at in range(bits))
    return (start + length <= bits) & all_of(clear)


def _contig_is_free(chunk: Chunk, hints: BlockHints, base: int) -> Any:
    return _is_free(chunk, base, hints.nr_bits, hints.contig_hint_start, hints.contig_hint)


def _scan_is_free(chunk: Chunk, hints: BlockHints, base: int) -> Any:
    return _is_free(chunk, base, hints.nr_bits, hints.scan_hint_start, hints.scan_hint)


def _is_whole(chunk: Chunk, base: int, bits: int, start: Any, length: Any) -> Any:
    """Does the region, if it has any bits, begin behind a used bit and end before one, or at a border?"""
    inner = range(1, bits)
    before = all_of(implies(start == at, _bit(chunk, base + at - 1) == 1) for at in inner)
    behind = all_of(implies(start + length == at, _bit(chunk, base + at) == 1) for at in inner)
    return implies(length > 0, before & behind)


def _contig_is_whole(chunk: Chunk, hints: BlockHints, base: int) -> Any:
    return _is_whole(chunk, base, hints.nr_bits, hints.contig_hint_start, hints.contig_hint)


def _scan_is_whole(chunk: Chunk, hints: BlockHints, base: int) -> Any:
    return _is_whole(chunk, base, hints.nr_bits, hints.scan_hint_start, hints.scan_hint)


def _scan_is_in_order(chunk: Chunk, hints: BlockHints, base: int) -> Any:
    scan, start, contig, place = hints.scan_hint, hints.scan_hint_start, hints.contig_hint, hints.contig_hint_start
    shorter = (scan < contig) & (start < place)
    equal = (scan == contig) & (start > place)
    return implies(scan > 0, shorter | equal)


def _full_if_no_contig(chunk: Chunk, hints: BlockHints, base: int) -> Any:
    return implies(hints.contig_hint == 0, chunk.used[base >> chunk.shift] == (1 << hints.nr_bits) - 1)


def _left_is_exact(chunk: Chunk, hints: BlockHints, base: int) -> Any:
    used, bits = chunk.used[base >> chunk.shift], hints.nr_bits
    return all_of((hints.left_free >= run) == (used & ((1 << run) - 1) == 0) for run in range(1, bits + 1))


def _left_is_free(chunk: Chunk, hints: BlockHints, base: int) -> Any:
    used, bits = chunk.used[base >> chunk.shift], hints.nr_bits
    return all_of(implies(hints.left_free >= run, used & ((1 << run) - 1) == 0) for run in range(1, bits + 1))


def _right_is_exact(chunk: Chunk, hints: BlockHints, base: int) -> Any:
    used, bits = chunk.used[base >> chunk.shift], hints.nr_bits
    return all_of((hints.right_free >= run) == (used >> (bits - run) == 0) for run in range(1, bits + 1))


def _right_is_free(chunk: Chunk, hints: BlockHints, base: int) -> Any:
    used, bits = chunk.used[base >> chunk.shift], hints.nr_bits
    return all_of(implies(hints.right_free >= run, used >> (bits - run) == 0) for run in range(1, bits + 1))


def _nothing_before_first(chunk: Chunk, hints: BlockHints, base: int) -> Any:
    bits = range(hints.nr_bits)
    return all_of(implies(_bit(chunk, base + at) == 0, hints.first_free <= at) for at in bits)


CONJUNCTS = (
    Conjunct("contig region", "The contig hint names a free region.", _contig_is_free, "both"),
    Conjunct("scan region", "The scan hint, where there is one, names a free region.", _scan_is_free, "both"),
    Conjunct("contig run", "A block's contig hint is a whole run.", _contig_is_whole, "blocks"),
    Conjunct("no contig hint", "A block without a contig hint is full.", _full_if_no_contig, "blocks"),
    Conjunct("scan run", "A block's scan hint is a whole run.", _scan_is_whole, "blocks"),
    Conjunct("scan order", "A block's scan hint stands before a longer contig hint, or behind an equal one.",
             _scan_is_in_order, "blocks"),
    Conjunct("left run free", "A block's left run is free.", _left_is_free, "blocks"),
    Conjunct("left run", "A block's left run is exact.", _left_is_exact, "blocks"),
    Conjunct("right run free", "A block's right run is free.", _right_is_free, "blocks"),
    Conjunct("right run", "A block's right run is exact.", _right_is_exact, "blocks"),
    Conjunct("first free", "Nothing is free before the first free bit.", _nothing_before_first, "both"),
)
# what a revision does not keep: 6.12's hints are free regions still, but not whole runs, nor in order
_NOT_OF = {SHIPPED: {"contig run", "no contig hint", "scan run", "scan order", "left run", "right run"}}


def invariant(chunk: Chunk, about: str, target: str) -> Iterator[tuple[str, Any]]:
    """(name, truth) of what the revision keeps, of each block or of the whole chunk; of words or of integers."""
    left_out = _NOT_OF.get(_revision(target), ())
    told = [("chunk", chunk.whole, 0)] if about == "chunk" else [
        (f"block {index}", block, index << chunk.shift) for index, block in enumerate(chunk.blocks)
    ]  # fmt: skip
    for name, hints, base in told:
        for one in CONJUNCTS:
            if one.of in (about, "both") and one.name not in left_out:
                yield f"{name}: {one.name}", one.holds(chunk, hints, base)


def _revision(target: str) -> str:
    return target.partition(",")[0]


# ---- a state, and a step from it -----------------------------------------------------------------


def _chunk_of(target: str) -> Chunk:
    """A fresh chunk of the target's own class and geometry."""
    heap: Any = factory(target)()
    chunk: Chunk = heap._chunks[0]
    return chunk


def _any_hints(run: Merged, name: str, hints: BlockHints, fields: tuple[str, ...]) -> None:
    for field in fields:
        run.write(hints, field, run.word(f"{name}.{field}", 0, hints.nr_bits))


def _fields(chunk: Chunk) -> tuple[str, ...]:
    """What varies of a descriptor: older revisions have no scan hints."""
    return _FIELDS if chunk.next_hint is Chunk.next_hint else tuple(one for one in _FIELDS if "scan" not in one)


def _any_state(run: Merged, target: str, *names: str) -> Chunk:
    """A chunk with any bitmap, and any descriptors that the invariant allows, or these conjuncts of it."""
    chunk = _chunk_of(target)
    most = (1 << chunk.block_bits) - 1
    chunk.used = [run.word(f"used{index}", 0, most) for index in range(chunk.nr_blocks)]
    for index, block in enumerate(chunk.blocks):
        _any_hints(run, f"block{index}", block, _fields(chunk))
    _any_hints(run, "chunk", chunk.whole, _fields(chunk))
    for about in ("blocks", "chunk"):
        for name, truth in invariant(chunk, about, target):
            if not names or name.partition(": ")[2] in names:
                run.assume(truth)
    return chunk


def is_free(chunk: Chunk, at: Any, end: Any) -> Any:
    """Is every bit of [at, end) clear?"""
    return all_of(implies((at <= one) & (end > one), _bit(chunk, one) == 0) for one in range(chunk.nr_bits))


def is_used(chunk: Chunk, at: Any, end: Any) -> Any:
    """Is every bit of [at, end) set?"""
    return all_of(implies((at <= one) & (end > one), _bit(chunk, one) == 1) for one in range(chunk.nr_bits))


def enters_no_left_run(chunk: Chunk, at: Any) -> Any:
    """Does a block begin at this bit, or is a bit used between the start of the block and the next one?"""
    inner = ((one, chunk.used[one >> chunk.shift] & ((2 << (one & chunk.mask)) - 1)) for one in range(chunk.nr_bits))
    return all_of(implies(at == one, before != 0) for one, before in inner if one & chunk.mask)


def is_hole(chunk: Chunk, hole: Any, bits: Any) -> Any:
    """May a search that skips a hole make it known: is it free, and behind it a used bit?"""
    ends = all_of(implies(hole + bits == one, _bit(chunk, one) == 1) for one in range(chunk.nr_bits))
    return implies(bits > 0, is_free(chunk, hole, hole + bits) & ends & (hole + bits < chunk.nr_bits))


def _width(chunk: Chunk) -> int:
    """Bits of words: positions in the chunk, masks of one block, and their sums, with a sign."""
    return max(chunk.nr_bits.bit_length() + 2, chunk.block_bits + 2)


def _taken(question: Question, run: Merged) -> list[tuple[str, Any]]:
    """An area is taken that a search may find, after which the invariant is claimed."""
    chunk = _any_state(run, question.target)
    at, end = _area(question, run, chunk)
    run.assume(is_free(chunk, at, end) & enters_no_left_run(chunk, at))
    run.hooks[type(chunk).zero_area] = lambda self, *request: (at, 0, 0)
    run.call(chunk.alloc_area, end - at, 1, 0)
    return list(invariant(chunk, question.about, question.target))


def _given_back(question: Question, run: Merged) -> list[tuple[str, Any]]:
    """An area is given back: any bits that are used."""
    chunk = _any_state(run, question.target)
    at, end = _area(question, run, chunk)
    run.assume(is_used(chunk, at, end))
    run.hooks[type(chunk).area_end] = lambda self, begin: end
    run.call(chunk.free_area, at)
    return list(invariant(chunk, question.about, question.target))


def _area(question: Question, run: Merged, chunk: Chunk) -> tuple[Any, Any]:
    """Any area that begins and ends in these blocks; and the chunk is told as the question says."""
    size, first, last = chunk.block_bits, question.first, question.last
    at = run.word("at", first * size, first * size + size - 1, light=True)
    end = run.word("end", last * size + 1, last * size + size, light=True)
    run.assume(at < end)
    run.hooks[type(chunk).refresh_chunk] = lambda self, full: _walk(question, run, self, full)
    return at, end


def _walk(question: Question, run: Merged, chunk: Chunk, full: bool) -> None:
    """The chunk's descriptor is derived from those of its blocks: these are owed, or all that is known."""
    if question.about == "blocks":
        for name, truth in invariant(chunk, "blocks", question.target):
            run.owe(term_of(truth), f"{name}, where the chunk is told")
        return
    for index, block in enumerate(chunk.blocks):
        _any_hints(run, f"told{len(run.inputs)}.{index}", block, _fields(chunk))
    for _, truth in invariant(chunk, "blocks", question.target):
        run.assume(truth)
    run.call_plain(type(chunk).refresh_chunk, chunk, full)


def _skipped(question: Question, run: Merged) -> list[tuple[str, Any]]:
    """A hole that a search skipped is made known to its block; the bitmap, and so what is so of the area, stays."""
    chunk = _any_state(run, question.target)
    base = question.first << chunk.shift
    hole = run.word("hole", base, base + chunk.mask, light=True)
    bits = run.word("bits", 1, chunk.nr_bits, light=True)
    run.assume(is_hole(chunk, hole, bits))
    run.call(chunk.remember_hole, hole, bits)
    return list(invariant(chunk, "blocks", question.target))


def _placed(question: Question, run: Merged) -> list[tuple[str, Any]]:
    """The descriptors tell where to scan, from any bit on."""
    chunk = _any_state(run, question.target)
    at, bits = run.word("from", 0, chunk.nr_bits - 1), run.word("bits", 1, chunk.nr_bits)
    start, _ = run.call(chunk.next_fit, bits, 1 << question.first, at)
    found = start < chunk.nr_bits
    return [("left runs entered", implies(found, enters_no_left_run(chunk, start)))]


def _scanned(question: Question, run: Merged) -> list[tuple[str, Any]]:
    """The bitmap is scanned, from any bit that enters no left run."""
    chunk = _any_state(run, question.target, "first free")
    start, bits = run.word("start", 0, chunk.nr_bits - 1), run.word("bits", 1, chunk.nr_bits)
    run.assume(enters_no_left_run(chunk, start))
    end = run.call(chunk.scan_end, start, bits)
    at, hole, skipped = run.call(chunk.zero_area, start, end, bits, 1 << question.first)
    found = at >= 0
    return [
        ("inside", implies(found, at + bits <= chunk.nr_bits)),
        ("free", implies(found, is_free(chunk, at, at + bits))),
        ("left runs entered", implies(found, enters_no_left_run(chunk, at))),
        ("hole", implies(found, (skipped >= 0) & (hole >= 0) & is_hole(chunk, hole, skipped))),
    ]


_CLAIMS: dict[str, Callable[[Question, Merged], list[tuple[str, Any]]]] = {
    "place": _placed, "scan": _scanned, "hole": _skipped, "alloc": _taken, "free": _given_back,
}  # fmt: skip


# ---- answers ---------------------------------------------------------------------------------


def questions(deep: bool) -> list[Question]:
    """All steps for the repaired rules; ``deep``: of four blocks, not three."""
    return questions_of(REPAIRED, 4 if deep else 3, 8)


def controls() -> list[Question]:
    """Steps that must be refuted, each by a trace."""
    theorem = "percpu-bitmap/chunk-hints-after"
    taken = [Question(f"{theorem}-alloc", target_of(old, 3, 8), "alloc", 0, 1, "chunk") for old in REFUTABLE]
    return [*taken, Question(f"{theorem}-free", target_of(REFUTABLE[0], 3, 8), "free", 0, 0, "chunk")]


def target_of(revision: str, blocks: int, bits: int) -> str:
    """A heap of one chunk of this geometry."""
    block = bits * _GRANULE
    return f"{revision},unit={blocks * block},block={block},chunks=1"


def questions_of(revision: str, blocks: int, bits: int) -> list[Question]:
    """Every question about a revision, for chunks of so many blocks of so many bits."""
    target, prefix = target_of(revision, blocks, bits), "percpu-bitmap"
    narrow = target_of(revision, blocks, bits // 2 if bits > 4 else bits)
    aligned, fewer = range(bits.bit_length()), range(min(bits, max(bits // 2, 4)).bit_length())
    spans = [(first, last) for first in range(blocks) for last in range(first, blocks)]
    found = [Question(f"{prefix}/hints-when-fresh", target, "fresh")]
    found += [Question(f"{prefix}/search-enters-no-left-run", target, "place", power) for power in aligned]
    found += [Question(f"{prefix}/search-enters-no-left-run", narrow, "scan", power) for power in fewer]
    found += [Question(f"{prefix}/block-hints-after-alloc", target, "hole", index) for index in range(blocks)]
    for about, name in (("blocks", "block"), ("chunk", "chunk")):
        for step in ("alloc", "free"):
            found += [Question(f"{prefix}/{name}-hints-after-{step}", target, step, *span, about) for span in spans]
    return found


def answer(question: Question, steps: int = STEPS, seconds: float = SECONDS) -> Proof:
    """Prove a question, or refute it with a trace.  ``steps``: of the solver for each claim.  Raises TargetError."""
    found = Proof(question.theorem, question.target, UNCLEAR, 1)
    if question.step == "fresh":
        return _when_fresh(question, found)
    deadline = time.monotonic() + seconds
    started = time.process_time()
    try:
        found = _answered(question, found, steps, deadline)
    except (NotSupported, TooNarrow, Unsure) as problem:
        found = found._replace(why=str(problem))
    return found._replace(seconds=time.process_time() - started)


def _when_fresh(question: Question, found: Proof) -> Proof:
    chunk = _chunk_of(question.target)
    broken = [name for about in ("blocks", "chunk") for name, so in invariant(chunk, about, question.target) if not so]
    return found._replace(why=f"a fresh chunk's {broken[0]}") if broken else found._replace(verdict=PROVED)


def _answered(question: Question, found: Proof, steps: int, deadline: float) -> Proof:
    chunk = _chunk_of(question.target)
    # a scan gathers the words of all blocks in one
    run = Merged(chunk.nr_bits + chunk.block_bits + 4 if question.step == "scan" else _width(chunk), steps)
    run.deadline = deadline
    claims = _CLAIMS[question.step](question, run)
    if not run.possible():
        return found._replace(why="nothing is claimed of any state")
    # about blocks all is quickest asked at once; about the chunk each claim has its own reasons
    if question.about == "blocks" and run.holds_now(all_of(claim for _, claim in claims)):
        return found._replace(verdict=PROVED)
    duties = Truth(run, z3.And(*[duty for duty, _ in run.duties]))
    for name, claim in [("", duties), *claims]:
        refuted = _refuted(question, run, name, claim)
        if refuted is not None:
            return found._replace(**refuted)
    return found._replace(verdict=PROVED)


def _refuted(question: Question, run: Merged, name: str, claim: Any) -> dict[str, Any] | None:
    """What a proof says of a claim that fails: with a trace, or that none was found.  None where it holds."""
    if claim is True:
        return None  # of integers: of a block that is not touched
    first: dict[str, Any] | None = None
    excluded = len(run.assumed)
    for _ in range(TRIES if question.step in ("alloc", "free") else 1):
        model = run.failing(claim)
        if model is None:
            break
        values = {one: run.value(model, word) for one, word in sorted(run.inputs.items())}
        name = run.unmet(model) or name
        first = first or {"values": tuple(values.items()), "why": f"{name}: a step leads out of the invariant, "
                          "but no trace was found that reaches the state before it"}  # fmt: skip
        told = _story(question, values)
        if told is not None:
            trace, law = told
            return {"verdict": REFUTED, "values": tuple(values.items()), "trace": trace, "law": law, "why": name}
        run.assume(Truth(run, z3.Or(*[run.inputs[one].term != values[one] for one in _placing(run)])))
    del run.assumed[excluded:]
    return first


def _placing(run: Merged) -> list[str]:
    """Inputs that a trace is built from: the bitmap, and the area."""
    return [name for name in run.inputs if name in ("at", "end") or name.startswith("used")]


# ---- traces ----------------------------------------------------------------------------------


class _Piece(NamedTuple):
    """Bits of the chunk that are taken together; those that are not ``kept`` are given back."""

    start: int
    end: int
    kept: bool


def _story(question: Question, values: dict[str, int]) -> tuple[str, str] | None:
    """(trace, law that it breaks) of the operation on a state with that bitmap; None if none is found.

    The chunk is filled from its start, the holes are freed in some order, and the operation is done.
    """
    if question.step not in ("alloc", "free"):
        return None
    at, end = values["at"], values["end"]
    for joined in (False, True):
        pieces = _pieces(question, values, joined)
        sizes = [(piece.end - piece.start) * _GRANULE for piece in pieces]
        filled = [f"{birth_name(index)} = alloc {size}" for index, size in enumerate(sizes)]
        for order in _orders([index for index, piece in enumerate(pieces) if not piece.kept]):
            before = [*filled, *[f"free {birth_name(index)}" for index in order]]
            if question.step == "free":
                (taken,) = [index for index, piece in enumerate(pieces) if piece.start == at]
                lasts = [f"free {birth_name(taken)}"]
            else:
                request = f"{birth_name(len(pieces))} = alloc {(end - at) * _GRANULE} align"
                lasts = [f"{request} {_GRANULE << power}" for power in _alignments(question, at)]
            for last in lasts:
                if _breaks(question, [*before, last]):
                    return _replayed(question, [*before, last])
    return None


def _alignments(question: Question, at: int) -> range:
    """Log2 of those, in bits, that a request which is given this place may have."""
    chunk = _chunk_of(question.target)
    return range(min((at | chunk.block_bits) & -(at | chunk.block_bits), chunk.block_bits).bit_length())


def _pieces(question: Question, values: dict[str, int], joined: bool) -> list[_Piece]:
    """Runs of the bitmap, cut at the area's ends; free ones at the blocks' borders too, unless ``joined``."""
    chunk = _chunk_of(question.target)
    size, at, end = chunk.block_bits, values["at"], values["end"]
    used = [values[f"used{one // size}"] >> one % size & 1 for one in range(chunk.nr_bits)]
    cuts = {0, chunk.nr_bits, *([at, end] if question.step == "free" else [])}
    cuts |= {one for one in range(1, chunk.nr_bits) if used[one] != used[one - 1]}
    if not joined:
        cuts |= {one for one in range(size, chunk.nr_bits, size) if not used[one]}
    places = sorted(cuts)
    return [_Piece(start, stop, bool(used[start])) for start, stop in pairwise(places)]


def _orders(freed: list[int]) -> Iterator[tuple[int, ...]]:
    """Orders in which to free them: all, if there are not too many."""
    return islice(permutations(freed), _ORDERS)


def _breaks(question: Question, lines: list[str]) -> bool:
    """Is a chunk outside the invariant when this has been done?  Without the checker, which is slow."""
    heap: Any = factory(question.target)()
    handles: dict[str, int] = {}
    for line in lines:
        words = line.split()
        if words[0] == "free":
            heap.free(handles.pop(words[1]))
        else:
            handle = heap.alloc(int(words[3]), int(words[5]) if len(words) > 5 else 1)
            if not isinstance(handle, int):
                return False
            handles[words[0]] = handle
    chunk = heap._chunks[0]
    return not all(so for about in ("blocks", "chunk") for _, so in invariant(chunk, about, question.target))


def _replayed(question: Question, lines: list[str]) -> tuple[str, str] | None:
    """(trace, law) where the plain replayer finds a hint that is wrong."""
    for found in replay(trace_of(question.target, lines), question.target).tally.findings:
        if found.violation.law.startswith("hint-"):
            return str(found.trace), found.violation.law
    return None
