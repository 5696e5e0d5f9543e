"""A first-fit pool, as someone might write it for a small device."""

from heaplaw import Contract, FreeRegion, Refusal

SIZE = 1024
ALIGN = 8


def fits(request, shadow, source):
    """A request must be served when a gap holds it, rounded up."""
    need = -(-request.size // ALIGN) * ALIGN
    return need > 0 and any(end - start >= need for start, end in shadow.gaps(0, 0, SIZE))


class Pool:
    """Blocks and holes, both by address; neighbouring holes are merged when a block is freed."""

    contract = Contract(
        arena=SIZE,
        granule=ALIGN,
        rejects=frozenset({"zero", "huge"}),
        drained_size=SIZE,
        must_serve=fits,
        mergeable=lambda one, two: True,
    )

    def __init__(self):
        self.blocks = {}
        self.holes = {0: SIZE}

    def alloc(self, size, align=1, *, ctx=None):
        if size < 1:
            return Refusal.INVALID
        need = -(-size // ALIGN) * ALIGN
        for start, length in sorted(self.holes.items()):
            if length >= need:
                del self.holes[start]
                if length > need:
                    self.holes[start + need] = length - need
                self.blocks[start] = need
                return start
        return None

    def free(self, start):
        length = self.blocks.pop(start)
        behind = start + length
        if behind in self.holes:
            length += self.holes.pop(behind)
        for before, free in self.holes.items():
            if before + free == start:
                self.holes[before] = length  # forgets what was free before
                return
        self.holes[start] = length

    def extents(self, start):
        return ((0, start, self.blocks[start]),)

    def free_regions(self):
        return [FreeRegion(0, start, length) for start, length in self.holes.items()]
