"""afmalloc's pieces: what an object of 400 bytes is cut into, and what cutting costs each access.

The posting (2014) cuts 400 bytes into 256 + 128 + 16; its code has no piece below 32.  Seth Jennings
replies that with pieces of 256 bytes an object of 3 KiB takes 12 copies.
"""

import random

from .memory import Memory, factory, measure, memory_table, store
from .shape import Cell, Chart, Claim, Experiment, Figure, Line, Outcome, Posting, Scale, Table

_EXAMPLE, _LARGE, _PIECE = 400, 3072, 256
_LIMITED = f"afmalloc,piece={_PIECE},max_level=20"


def run(scale: Scale, seed: int) -> Outcome:
    """Seconds: about 1, 1, 4."""
    cut, large = _pieces("afmalloc", _EXAMPLE), _pieces(_LIMITED, _LARGE)
    dice = random.Random(seed)
    sizes = [dice.randint(33, 4096) for _ in range(scale.pick(60, 1000, 6000))]
    memory = {name: _fill(name, sizes) for name in ("afmalloc", _LIMITED, "zsmalloc,chain=4", "kmalloc")}
    by_size = {size: _fill("afmalloc", [size] * 8) for size in range(64, 4096, 192)}
    rows: list[tuple[Cell, ...]] = [
        (_EXAMPLE, " + ".join(map(str, cut)), sum(cut), len(cut)),
        (f"{_LARGE}, pieces of {_PIECE} at most", f"{len(large)} x {large[0]}", sum(large), len(large)),
    ]
    columns = ("bytes", "pieces", "sum", "copies")
    line = Line("afmalloc", tuple((size, used.copies) for size, used in by_size.items()))
    return Outcome(
        Table("published", columns, ((_EXAMPLE, "256 + 128 + 16", 400, 3), (_LARGE, "12 x 256", 3072, 12))),
        (Table("ours", columns, tuple(rows)), memory_table("ours: memory, objects of 33 to 4096 bytes", memory)),
        (
            Claim("400 bytes are cut in three, the largest first", len(cut) == 3 and cut == sorted(cut, reverse=True),
                  " + ".join(map(str, cut))),
            Claim("Smaller pieces cost more copies", memory[_LIMITED].copies > memory["afmalloc"].copies,
                  f"{memory['afmalloc'].copies:.2f} and {memory[_LIMITED].copies:.2f} an access"),
            Claim("What is padded is less than kmalloc's", memory["afmalloc"].padding < memory["kmalloc"].padding / 2,
                  f"{memory['afmalloc'].padding:,} and {memory['kmalloc'].padding:,} bytes"),
        ),
        (
            Figure("bytes of the pieces of 400", 400, sum(cut)), Figure("pieces of 400", 3, len(cut)),
            Figure("copies of 3 KiB in pieces of 256", 12, len(large)),
        ),
        "The code's least piece is 32 bytes, not the 16 of the posting's text.",
        (Chart("copies to see an object whole", "bytes", "copies", (line,)),),
    )  # fmt: skip


def _pieces(name: str, size: int) -> list[int]:
    heap = factory(f"{name},pages=64")()
    return [length for _, _, length in heap.extents(heap.alloc(size))]


def _fill(name: str, sizes: list[int]) -> Memory:
    heap = factory(f"{name},pages={2 * len(sizes) + 64}")()
    return measure(heap, store(heap, sizes), name.partition(",")[0])


EXPERIMENT = Experiment(
    "pieces", "afmalloc cuts 400 bytes into powers of two, and 3 KiB in pieces of 256 take 12 copies.",
    Posting("Joonsoo Kim, and Seth Jennings in reply", "2014-09-26", "mm/afmalloc: introduce anti-fragmentation memory "
            "allocator (RFC)"), 1.1, run,
)  # fmt: skip
