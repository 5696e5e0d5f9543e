"""A trace in the kernel's own terms: calls, and what they change in the structures of ``mm/percpu.c``.

For traces of ``linux:percpu``, so that who knows that file need not learn another language.  Lengths and places in
the structures are bits of ``PCPU_MIN_ALLOC_SIZE``, 4 bytes; ``md_blocks[2..5]`` stands for blocks that change alike.
The last lines compare the chunk's hint and the blocks' runs with ``alloc_map``.

>>> in_words([("md_blocks[0]", "left_free 4 -> 0"), ("md_blocks[1]", "left_free 4 -> 0"), ("chunk_md", "slot 3 -> 0")])
['md_blocks[0..1]: left_free 4 -> 0', 'chunk_md: slot 3 -> 0']
"""

import struct
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from heaplaw.impls.naming import parse
from heaplaw.impls.native.linux.building import cache, library
from heaplaw.impls.percpu_blocks import free_runs
from heaplaw.operations import ATOMIC, Kind, Operation, birth_name

from .lockstep import Numbers
from .lockstep_percpu import PercpuSide

Changes = list[tuple[str, str]]
_COLUMNS = 9  # of a descriptor: chunk, block, then what varies
_NO_BLOCK = -1
_MOST_TOLD = 12  # operations of a trace that is told


def told_of(target: str, operations: Sequence[Operation]) -> list[str]:
    """The same for a target by its name; nothing where it is not ``linux:percpu``, or the trace is long."""
    parts = parse(target)
    base, _, version = parts.base.partition("@")
    if base != "linux:percpu" or len(operations) > _MOST_TOLD:
        return []
    numbers = {key: value for key, value in parts.parameters.items() if isinstance(value, int) and key != "claims"}
    block = numbers.pop("block", 4096)
    return list(tell(operations, library(cache(), "percpu", version, block), block, **numbers))


def tell(operations: Sequence[Operation], built: Path, block: int = 4096, **parameters: int) -> list[str]:
    """Lines that say what the kernel's code does with these operations.  ValueError for senseless parameters."""
    side = PercpuSide(built, **{"unit": 32768, "chunks": 2, **parameters})  # its pages are of ``block`` bytes
    try:
        return list(_lines(operations, side, block))
    finally:
        side.destroy()


def _lines(operations: Sequence[Operation], side: PercpuSide, block: int) -> Iterator[str]:
    names = side.words("descriptors")
    numbers = side.numbers()
    before, listed = _descriptors(numbers), _slots(numbers)
    for operation in operations:
        answer = side.do(operation)
        yield _call(operation, answer)
        numbers = side.numbers()
        after, now = _descriptors(numbers), _slots(numbers)
        yield from (f"    {line}" for line in in_words(_changes(names, before, after)))
        moved = [chunk for chunk in now if chunk in listed and listed[chunk] != now[chunk]]
        yield from (f"    chunk {chunk} goes from slot {listed[chunk]} to slot {now[chunk]}" for chunk in moved)
        before, listed = after, now
    yield from _truth(side.numbers(), names, block)


def _call(operation: Operation, answer: object) -> str:
    kind, name, size, align, mode = operation
    if kind == Kind.FREE:
        return f"free_percpu({birth_name(name)})"
    if kind != Kind.ALLOC:
        return f"pcpu_{mode}_workfn()"
    got = hex(answer) if isinstance(answer, int) else f"NULL ({answer.value})" if hasattr(answer, "value") else "NULL"
    flags = int(mode)
    call = "__alloc_reserved_percpu" if flags >> 1 else "__alloc_percpu_gfp" if flags & ATOMIC else "__alloc_percpu"
    last = ", GFP_NOWAIT" if flags & ATOMIC else ""
    return f"{birth_name(name)} = {call}({size}, {align}{last}) = {got}"


def _descriptors(numbers: Numbers) -> dict[tuple[int, int], tuple[int, ...]]:
    """What varies, by chunk and block."""
    words = numbers["descriptors"]
    assert isinstance(words, bytes)
    rows = struct.iter_unpack(f"<{_COLUMNS}q", words)
    return {(chunk, block): tuple(rest) for chunk, block, *rest in rows}


def _slots(numbers: Numbers) -> dict[int, int]:
    """The slot of each chunk."""
    words = numbers["slots"]
    assert isinstance(words, bytes)
    return {chunk: slot for slot, chunk in struct.iter_unpack("<2q", words) if slot >= 0}


def _changes(
    names: Sequence[str], before: dict[tuple[int, int], tuple[int, ...]], after: dict[tuple[int, int], tuple[int, ...]]
) -> Changes:
    found = []
    for (chunk, block), fields in after.items():
        old = before.get((chunk, block))
        if old is None or old == fields:
            continue
        what = "chunk_md" if block == _NO_BLOCK else f"md_blocks[{block}]"
        said = [f"{n} {a} -> {b}" for n, a, b in zip(names[2:], old, fields, strict=True) if a != b]
        found.append((what if not chunk else f"chunk {chunk} {what}", ", ".join(said)))
    return found


def in_words(changes: Changes) -> list[str]:
    """One line for each, neighbours of one kind that change alike taken together."""
    lines = []
    for (kind, said), group in groupby(changes, lambda change: (change[0].partition("[")[0], change[1])):
        names = [name for name, _ in group]
        if len(names) > 1 and "[" in names[0]:
            first, last = (name.partition("[")[2].rstrip("]") for name in (names[0], names[-1]))
            names = [f"{kind}[{first}..{last}]"]
        lines += [f"{name}: {said}" for name in names]
    return lines


def _truth(numbers: Numbers, names: Sequence[str], block: int) -> Iterator[str]:
    """Hints that are not what ``alloc_map`` says."""
    described, maps = _descriptors(numbers), numbers["alloc_maps"]
    assert isinstance(maps, bytes)
    bits, at = block >> 2, 0
    for chunk in dict.fromkeys(number for number, _ in described):
        blocks = [index for number, index in described if number == chunk and index != _NO_BLOCK]
        count = bits * len(blocks)
        used = int.from_bytes(maps[at : at + count // 8], "little")
        at += count // 8
        prefix = f"chunk {chunk} " if chunk else ""
        yield from _compared(f"{prefix}chunk_md", described[chunk, _NO_BLOCK], names, used, count)
        for index in blocks:
            part = used >> index * bits & (1 << bits) - 1
            yield from _compared(f"{prefix}md_blocks[{index}]", described[chunk, index], names, part, bits)


def _compared(what: str, fields: tuple[int, ...], names: Sequence[str], used: int, bits: int) -> Iterator[str]:
    says = dict(zip(names[2:], fields, strict=True))
    runs = list(free_runs(used, 0, bits))
    longest = max(((end - start, -start) for start, end in runs), default=(0, 0))
    if says["contig_hint"] != longest[0]:
        place = f"{longest[0]} bits at {-longest[1]}"
        yield f"{what}.contig_hint is {says['contig_hint']}, the longest run of clear bits in alloc_map is {place}"
    ends = runs[-1][1] - runs[-1][0] if runs and runs[-1][1] == bits else 0
    if what.endswith("]") and says["right_free"] != ends:
        yield f"{what}.right_free is {says['right_free']}, but {ends} bits are clear at its end"
