"""Memory in both metrics of the discussions: pages held, and metadata plus padding; and what an access costs.

Pages held count everything, whoever else could use what is free in them; metadata plus padding
counts what no other object can have.  The two differ by what lies free inside pages.

>>> heap = factory("xvmalloc,pages=4")()
>>> one, two = heap.alloc(1001), heap.alloc(2000)
>>> used = measure(heap, {one: 1001, two: 2000})
>>> used.requested, used.held, used.padding, used.metadata
(3001, 4096, 3, 12300)
>>> round(used.waste, 3), used.pages_touched
(0.267, 1.0)
"""

from collections.abc import Collection, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

from heaplaw.impls.registry import factory
from heaplaw.protocol import Refusal

from .shape import Cell, Table

__all__ = ["COLUMNS", "MAPPED", "READ", "Memory", "factory", "measure", "memory_table", "store"]

MAPPED = frozenset({"zsmalloc"})
"""An object across two pages is copied when it is mapped; one in a single page is not."""
READ = frozenset({"xcfmalloc", "compcache"})
"""There is no pointer: every access copies, each piece on its own."""
_SPLIT = frozenset({"afmalloc"})  # copied where there are several pieces


class Memory(NamedTuple):
    """Bytes, but for the last three, which are means over the objects."""

    objects: int
    requested: int
    held: int  # in pages
    inside: int  # metadata in these pages
    outside: int  # metadata beside them
    padding: int  # lent beyond what was asked for
    pieces: float
    pages_touched: float
    copies: float  # of pieces, to see an object whole

    @property
    def metadata(self) -> int:
        """In the pages and beside them."""
        return self.inside + self.outside

    @property
    def waste(self) -> float:
        """Share of the pages held that is not what was asked for."""
        return 1 - self.requested / self.held if self.held else 0.0

    @property
    def overhead(self) -> float:
        """Metadata and padding, of what was asked for."""
        return (self.metadata + self.padding) / self.requested if self.requested else 0.0


def measure(heap: Any, live: Mapping[Any, int], kind: str = "", held: int | None = None) -> Memory:
    """Count what ``heap`` holds for ``live`` (handle: bytes asked).  O(objects + blocks).

    ``kind`` names the allocator, where accesses copy; ``held`` replaces the page source's count.
    """
    page = heap.source.page_size if hasattr(heap, "source") else 4096
    pieces = lent = touched = copies = 0
    for handle in live:
        parts = heap.extents(handle)
        pages = sum((start + size - 1) // page - start // page + 1 for _, start, size in parts)
        pages -= sum(one[1] // page == two[1] // page for one, two in pairwise(parts))
        pieces += len(parts)
        lent += sum(size for _, _, size in parts)
        touched += pages
        copies += _copies(kind, len(parts), pages)
    requested, many = sum(live.values()), max(len(live), 1)
    inside, outside = heap.metadata() if hasattr(heap, "metadata") else (0, 0)
    if held is None:
        held = heap.source.held * page
    return Memory(
        len(live), requested, held, inside, outside, lent - requested, pieces / many, touched / many, copies / many
    )


def _copies(kind: str, pieces: int, pages: int) -> int:
    """Of pieces, when an object is read whole."""
    if kind in READ:
        return pieces
    if kind in MAPPED:
        return pages if pages > 1 else 0
    return pieces if kind in _SPLIT and pieces > 1 else 0


def store(heap: Any, sizes: Collection[int]) -> dict[Any, int]:
    """Ask for all ``sizes``; handle: size.  Raises RuntimeError where one is refused: the room was too small."""
    live: dict[Any, int] = {}
    for size in sizes:
        handle = heap.alloc(size)
        if handle is None or isinstance(handle, Refusal):
            raise RuntimeError(f"{type(heap).__name__} refused {size} bytes after {len(live)} objects")
        live[handle] = size
    return live


COLUMNS = (
    "allocator", "requested", "pages held", "of requested", "metadata", "padding", "meta+pad %", "pieces",
    "pages touched", "copies",
)  # fmt: skip


def memory_table(title: str, rows: Mapping[str, Memory], page: int = 4096) -> Table:
    """A line an allocator: both metrics, and what an access costs; bytes but for pages held."""
    lines: list[tuple[Cell, ...]] = []
    for name, used in rows.items():
        held = round(used.held / used.requested, 3) if used.requested else 0.0
        lines.append((
            name, used.requested, -(-used.held // page), held, used.metadata, used.padding,
            round(100 * used.overhead, 2), round(used.pieces, 2), round(used.pages_touched, 2), round(used.copies, 2),
        ))  # fmt: skip
    return Table(title, COLUMNS, tuple(lines))
