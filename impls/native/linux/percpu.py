"""The kernel's own per-CPU allocator as a target: ``linux:percpu``, built by ``heaplaw build-linux``.

It is held to the contract of the model's revision 6.12, which claims what the comments in
``mm/percpu.c`` claim, and to one claim more.  The comment above ``pcpu_block_update_hint_free``
says of the chunk's hint: it "may be off by up to a page, but it will never be more than the
available space.  If the contig hint is contained in one block, it will be accurate."  So

    chunk.contig           is at most the longest free run, and lags it by at most a page
    chunk.contig_by_block  is at least the longest free run inside each single block

Findings about it are about shipped code, and unconfirmed by its maintainers.  The allocator is
built as for one CPU, with pages behind chunks as in ``mm/percpu-vm.c``, and background work runs
only as maintenance "balance"; what sits around it (locks, page tables, the page allocator) is a
shim, so nothing is said about these.

>>> promise(32768, 4096, 1, 0, 0, 0).hint_slack["chunk.contig"]
4096
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

from heaplaw import Contract, Hint

from ...percpu_bitmap_promises import contract_of
from ..library import Library, load
from ..making import Checked
from .building import cache, library

REVISION = "6.12"
"""The model's revision whose functions are those of 6.1 and 6.12."""
CLAIM = "chunk.contig_by_block"
"""The hint that stands for the comment's second sentence."""


class LinuxPercpu(Checked):
    """One set of chunks of the kernel's allocator; parameters as for the model ``percpu-bitmap``.

    ``claims`` 0 leaves out ``chunk.contig_by_block``, so that it stands in the way of no other hint's laws.
    """

    def __init__(
        self, built: Path, unit: int = 32768, block: int = 4096, chunks: int = 2, pages: int = 0,
        static: int = 0, reserved: int = 0, claims: int = 1,
    ) -> None:  # fmt: skip
        self._claims = claims
        settings = {"unit": unit, "chunks": chunks, "pages": pages, "static": static, "reserved": reserved}
        self._promise = promise(unit, block, chunks, pages, static, reserved)  # first: it says what makes no sense
        loaded: Library = load(str(built))
        super().__init__(loaded, unit, settings)
        self._lend(block)

    def hints(self) -> list[Hint]:
        """Hints of every chunk and block, in bytes."""
        return [hint for hint in super().hints() if self._claims or hint.name != CLAIM]

    def _promised(self, arena: int, parameters: Mapping[str, int]) -> Contract:
        return self._promise


@lru_cache(maxsize=64)
def promise(unit: int, block: int, chunks: int, pages: int, static: int, reserved: int) -> Contract:
    """The contract: the model's, but for what no comment claims.  Raises ValueError.

    A chunk that was isolated when something in it was freed is given back by the second run of background work
    after it became free, not by the first, as in the model: until then pages are held in several free chunks, and
    where there are few, the largest request may fail.
    """
    known = contract_of(unit, block, chunks, REVISION, pages, static, reserved)
    size = None if pages else known.drained_size
    return replace(known, cost_bounds={}, metadata_bound=None, drained_pages=None, drained_size=size)


def builder(version: str = "", block: int = 4096, **parameters: int) -> Callable[[], LinuxPercpu]:
    """What makes heaps of what ``heaplaw build-linux`` made, of the newest version that begins like ``version``.

    Raises BuildError where it is not built.  What is returned raises ValueError for parameters that make no sense.
    """
    return partial(LinuxPercpu, library(cache(), "percpu", version, block), block=block, **parameters)
