"""The kernel's own pool of special memory as a target: ``linux:genalloc``, built by ``heaplaw build-linux``.

``lib/genalloc.c`` keeps a bitmap over each chunk that its owner adds, a bit for every ``2**order`` bytes.  It is held
to what its comments say of ``gen_pool_alloc`` and its algorithms: a request is served where a chunk has a run for it,
``avail`` is what is free, and the third algorithm places an object at a multiple of its size, counted from the chunk's
start and rounded up to a power of two.  Findings about it are about shipped code, and unconfirmed by its maintainers.

>>> promise(16384, 2, 5, 1, 0).free_then_alloc, promise(16384, 2, 5, 2, 0).free_then_alloc
(True, False)
"""

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from pathlib import Path

from heaplaw import Block, Contract, PageSource, Request, Shadow

from ...bits import align_up
from ...promises import always, no_overhead
from ..library import load
from ..making import Checked
from .building import cache, library

PAGE = 4096
FIRST_FIT, BEST_FIT, ORDER_ALIGN = range(3)


class LinuxGenalloc(Checked):
    """One pool of ``chunks`` chunks of ``chunk`` bytes, which begin ``base`` bytes behind a page's start.

    ``order`` is the kernel's min_alloc_order; ``algo`` 0 is first fit, 1 best fit, 2 first fit aligned to the size.
    """

    def __init__(
        self, built: Path, chunk: int = 16384, chunks: int = 2, order: int = 5, algo: int = FIRST_FIT, base: int = 0
    ) -> None:
        self._promise = promise(chunk, chunks, order, algo, base)  # first: it says what makes no sense
        settings = {"chunk": chunk, "chunks": chunks, "order": order, "algo": algo, "base": base}
        super().__init__(load(str(built)), chunk, settings)

    def _promised(self, arena: int, parameters: Mapping[str, int]) -> Contract:
        return self._promise


@lru_cache(maxsize=64)
def promise(chunk: int, chunks: int, order: int, algo: int, base: int) -> Contract:
    """The contract.  Raises ValueError for senseless parameters."""
    if not 0 <= order <= PAGE.bit_length() - 1 or chunk < 1 << order or chunks < 1:
        raise ValueError(f"{chunks} chunks of {chunk} bytes in units of 2**{order} make no pool")
    if not FIRST_FIT <= algo <= ORDER_ALIGN:
        raise ValueError(f"algo {algo} is none of 0 first fit, 1 best fit, 2 first fit aligned to the size")
    unit = 1 << order
    if not 0 <= base < PAGE or base % unit:
        raise ValueError(f"base {base} is no multiple of {unit} below {PAGE}")
    whole = chunk - chunk % unit
    bounds = dict.fromkeys(range(chunks), (base, base + whole))
    octaves = [unit << power for power in range((whole // unit).bit_length())]
    return Contract(
        arena=base + whole,
        max_size=whole,
        granule=unit,
        max_align=min(PAGE, 1 << (whole.bit_length() - 1)),
        limits=tuple(sorted({*octaves, whole - unit, whole} - {0})),
        bounds=bounds,
        handles="opaque",
        sized_free=True,
        rejects=frozenset({"zero", "huge", "align"}),
        mergeable=always,
        geometry=partial(_misplaced, unit, base) if algo == ORDER_ALIGN else None,
        overhead=no_overhead,
        waste=partial(_waste, unit),
        drained_size=whole,
        free_then_alloc=algo != ORDER_ALIGN,
        must_serve=partial(must_serve, unit, algo, tuple(bounds.values())),
    )


def must_serve(
    unit: int, algo: int, bounds: tuple[tuple[int, int], ...], request: Request, shadow: Shadow,
    source: PageSource | None,
) -> bool:  # fmt: skip
    """Has a chunk a free run for this, at a place where the algorithm looks?  O(live)."""
    need, align = align_up(request.size, unit), max(unit, request.align)
    if not need or request.align & (request.align - 1):
        return False
    counted_from_start = request.align == 1 and algo == ORDER_ALIGN
    if counted_from_start:
        align = _natural(need, unit)
    for space, (start, end) in enumerate(bounds):
        zero = start if counted_from_start else 0
        for low, high in shadow.gaps(space, start, end):
            if zero + align_up(low - zero, align) + need <= high:
                return True
    return False


def _natural(need: int, unit: int) -> int:
    """What an object of so many bytes is aligned to where the algorithm aligns by size."""
    return unit << (need // unit - 1).bit_length()


def _misplaced(unit: int, base: int, block: Block) -> str | None:
    ((_, start, length),) = block.extents
    if block.align == 1 and (start - base) % _natural(length, unit):
        return f"{start - base} bytes from the chunk's start is no multiple of {_natural(length, unit)}"
    return None


def _waste(unit: int, size: int, align: int) -> int:
    return -size % unit


def builder(version: str = "", **parameters: int) -> Callable[[], LinuxGenalloc]:
    """What makes pools of what ``heaplaw build-linux`` made.  Raises BuildError where it is not built."""
    return partial(LinuxGenalloc, library(cache(), "genalloc", version, PAGE), **parameters)
