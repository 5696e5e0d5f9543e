"""TLSF's table of lists under proof, for every allocator that has one: a block is filed, a list looked for.

List heads, bitmaps and the words of memory are cells; the heap's own methods write and read them.

>>> from heaplaw.impls.tlsf import Tlsf
>>> heap = Tlsf()
>>> searched(heap, filed(heap, 460, 1), 460)            # 460 is filed below where a search for it begins
(58, 57)
"""

from typing import Any

from .cells import Cells

_MEMORY = 1 << 40  # words that cells stand for


def filed(heap: Any, block: Any, lead: int) -> Any:
    """The heap's one free block has so many bytes, from word ``lead``: the list that the heap itself puts it on."""
    lists = heap._g.rows << heap._g.sl
    heap._rows, heap._row_bits, heap._heads, heap._words = 0, Cells(heap._g.rows), Cells(lists), Cells(_MEMORY)
    heap._insert(lead, block)
    return heap._heads.places()[-1]


def searched(heap: Any, list_: Any, wanted: Any) -> tuple[Any, Any]:
    """(where a search begins, as it finds a block on every list; the list that is given, for comparison)."""
    rows = heap._g.rows
    heap._rows, heap._row_bits = (1 << rows) - 1, Cells(rows, (1 << (1 << heap._g.sl)) - 1)
    return heap._search(wanted), list_
