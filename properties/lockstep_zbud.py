"""Lockstep of zbud: the Python model and the kernel's own code of 6.1.

Compared after every operation: pages in the order of the LRU list with both counts and the flag of their headers, all
lists in order, and the pool's count of pages.  Reclaim is asked for with four kinds of owners, who refuse, and allocate
and free meanwhile.

>>> ModelPool(Zbud(4)).numbers()["pool"] == packed([0, 0])
True
"""

from pathlib import Path
from typing import Any

from heaplaw.impls.native.linux.building import cache, library
from heaplaw.impls.native.linux.zbud import ORDER, PAGE
from heaplaw.impls.zbud import _BUDDY, _COUNTS, Zbud
from heaplaw.operations import Kind, Operation

from .lockstep import Make, Numbers, Shape, Side, packed
from .lockstep_kernel import KernelSide, Model

KINDS = ("lru", "buddies", "pool")
_RECLAIM = ("reclaim", "reclaim-refuse-first", "reclaim-refuse-second", "reclaim-reenter")
SHAPES = tuple(Shape({"pages": pages}, PAGE, 1024, live=live, maintenance=_RECLAIM)
               for pages, live in ((4, 8), (16, 30), (256, 300)))  # fmt: skip


class ModelPool(Model):
    """The Python model."""

    heap: Zbud

    def do(self, operation: Operation) -> Any:
        """The handle or refusal; of reclaim, pages freed, objects moved, and handles that were given up; None."""
        kind, name, size, align, mode = operation
        if kind == Kind.ALLOC:
            answer = self.heap.alloc(size, align)
            if isinstance(answer, int):
                self._handles[name] = answer
            return answer
        if kind == Kind.FREE and (handle := self._handles.pop(name, None)) is not None:
            self.heap.free(handle)
        if kind == Kind.MAINTAIN:
            done = self.heap.maintain(str(mode))
            ended = set(done.evicted)
            self._handles = {name: handle for name, handle in self._handles.items() if handle not in ended}
            return (done.pages_freed, 0, *done.evicted)
        return None

    def numbers(self) -> Numbers:
        pool = self.heap
        ints, stride = pool._ints, pool._page_ints
        pages: list[int] = []
        for page in pool.lru():
            at = page * stride + _COUNTS
            pages += page, ints[at], ints[at + 1], ints[at + 2]
        heads = range(pool._pages, pool._pages + pool._nchunks)
        lists = [word for at, head in enumerate(heads) for page in pool._walk(_BUDDY, head) for word in (at, page)]
        return {"lru": packed(pages), "buddies": packed(lists), "pool": packed([0, pool.pool_size])}


class KernelPool(KernelSide):
    """The kernel's code."""

    kinds = KINDS


def sides(version: str = "", folder: Path | None = None, model: type[Zbud] = Zbud) -> Make:
    """What makes both for a shape, the kernel's side first.  Raises BuildError where it is not built."""
    built = library(folder or cache(), "zbud", version, PAGE)

    def make(shape: Shape) -> tuple[Side, Side]:
        pages = shape.parameters["pages"]
        return KernelPool(built, pages=pages), ModelPool(model(pages, PAGE, ORDER))

    return make
