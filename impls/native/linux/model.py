"""The Python model of the per-CPU allocator, in the words of the kernel's structures.

``numbers`` says what the model holds, laid out exactly as ``percpu_adapter.c`` shows the kernel's own
structures, so that the two are compared as bytes.  ``Stepwise`` is the model without its one
simplification: a chunk is given over to depopulation when something in it is freed, as the kernel
does it, and is hidden from searches until background work has been there.

>>> heap = Stepwise(rev="6.12")
>>> heap.alloc(8), heap.free(0)
(0, None)
>>> numbers(heap)["slots"][:2], [kind for kind in numbers(heap)]
([-1, 1], ['chunks', 'descriptors', 'slots', 'alloc_maps', 'bound_maps'])
"""

from ...percpu_backing import EMPTY_POP_PAGES_HIGH
from ...percpu_bitmap import PercpuBitmap
from ...percpu_blocks import BlockHints
from ...percpu_chunk import Chunk

KINDS = ("chunks", "descriptors", "alloc_maps", "bound_maps", "slots")
"""What is compared: records of kind HEAPLAW_OWN and up, in the order of ``percpu_adapter.c``."""

_WORD = 64  # bits of a word of the kernel's bitmaps
_SIGNED = 1 << 63


class Stepwise(PercpuBitmap):
    """The model, chunk by chunk as the kernel does it; parameters as for ``PercpuBitmap``."""

    def __init__(
        self, unit: int = 32768, block: int = 4096, chunks: int = 2, rev: str = "6.12", pages: int = 0,
        static: int = 0, reserved: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(unit, block, chunks, rev, pages, static, reserved)
        self._slots.append([])  # of chunks that await depopulation
        self.depopulate_slot = len(self._slots) - 1

    def free(self, handle: int) -> None:
        """As the model's; then the chunk may be isolated.  Raises InvalidFree where there is no such chunk."""
        super().free(handle)
        chunk, _ = self._locate(handle)
        if (chunk.isolated or not chunk.wholly_free()) and self._should_isolate(chunk):
            chunk.isolated = True
            self._move(chunk, self.depopulate_slot, True)

    def _should_isolate(self, chunk: Chunk) -> bool:
        if chunk.immutable:
            return False
        if chunk.isolated and chunk.nr_empty:
            return True
        enough = self._empty_pages() > EMPTY_POP_PAGES_HIGH + chunk.nr_empty
        return enough and chunk.nr_empty >= chunk.nr_blocks // 4

    def _reclaim_populated(self) -> int:
        """Depopulate the chunks that were isolated, in the order of their list; pages given back."""
        freed, waiting = 0, self._slots[self.depopulate_slot]
        while waiting:
            chunk = waiting[0]
            pages, enough = self._depopulate(chunk)
            freed += pages
            if not enough or chunk.wholly_free():
                chunk.isolated = False
                self._relocate(chunk, -1)
            else:
                self._move(chunk, self.sidelined_slot, False)
        return freed

    def chunks_in_order(self) -> list[Chunk]:
        """By number; the reserved chunk comes last."""
        return [self._chunks[number] for number in sorted(self._chunks)]


def numbers(heap: Stepwise) -> dict[str, "list[int] | bytes"]:
    """All that decides what happens next, by kind: lists of signed words, maps as bytes.  O(blocks)."""
    rows: list[int] = []
    descriptors: list[int] = []
    used: list[bytes] = []
    bounds: list[bytes] = []
    for chunk in heap.chunks_in_order():
        populated = chunk.populated & (1 << _WORD) - 1
        rows += (
            chunk.number, chunk.free_bits << 2, chunk.nr_blocks, chunk.populated.bit_count(), chunk.nr_empty,
            chunk.isolated, chunk.immutable, populated - 2 * _SIGNED if populated >= _SIGNED else populated,
        )  # fmt: skip
        _describe(descriptors, chunk.number, -1, chunk.whole)
        for index, block in enumerate(chunk.blocks):
            _describe(descriptors, chunk.number, index, block)
        used.append(_words(chunk.used, chunk.block_bits, chunk.nr_bits))
        bounds.append(_words(chunk.bounds, chunk.block_bits, chunk.nr_bits + 1))
    slots = [-1, heap._empty_pages(), -2, int(heap._atomic_failed)]
    for slot, members in enumerate(heap._slots):
        for chunk in members:
            slots += slot, chunk.number
    return {
        "chunks": rows, "descriptors": descriptors, "slots": slots,
        "alloc_maps": b"".join(used), "bound_maps": b"".join(bounds),
    }  # fmt: skip


def _describe(into: list[int], number: int, index: int, block: BlockHints) -> None:
    into += (number, index)
    into += block.fields()


def _words(parts: list[int], bits: int, total: int) -> bytes:
    """Numbers of ``bits`` bits each, as the kernel's bitmap of ``total`` bits: whole words, the lowest first."""
    room = -(-total // _WORD) * (_WORD >> 3)
    text = b"".join([part.to_bytes(bits >> 3, "little") for part in parts])
    return text[:room] if len(text) >= room else text.ljust(room, b"\0")
