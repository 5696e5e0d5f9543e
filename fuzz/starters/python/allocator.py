"""A first-fit heap to start from: put your allocator in its place, or call it from these methods.

Needed are ``contract``, ``alloc`` and ``free``.  Each further method and each promise in the contract brings more laws:
``heaplaw check allocator.py:Allocator -v`` says which were asked, and what the others are missing.
"""

from heaplaw import Contract, FreeRegion, Refusal

SIZE, STEP = 1024, 8  # bytes of the heap; every block starts and ends at a multiple of STEP


def rounded(size):
    return -(-size // STEP) * STEP


def must_serve(request, shadow, source):
    """Must a request be served?  Here: if it asks for something, and fits between two live blocks."""
    return request.size > 0 and any(end - start >= rounded(request.size) for start, end in shadow.gaps(0, 0, SIZE))


class Allocator:
    contract = Contract(
        arena=SIZE,
        granule=STEP,
        rejects=frozenset({"zero", "huge"}),  # requests that make no sense are refused
        waste=lambda size, align: STEP - 1,  # a block is longer than asked for by at most so much
        drained_size=SIZE,  # when all is freed, so much can be had at once
        must_serve=must_serve,
        mergeable=lambda one, two: True,  # no two holes stay side by side
    )

    def __init__(self):
        self.memory = bytearray(SIZE)
        self.holes = {0: SIZE}  # start -> length
        self.blocks = {}  # the same

    def alloc(self, size):
        if not 0 < size <= SIZE:
            return Refusal.INVALID
        need = rounded(size)
        for start, length in sorted(self.holes.items()):
            if length >= need:
                del self.holes[start]
                if length > need:
                    self.holes[start + need] = length - need
                self.blocks[start] = need
                return start
        return None  # no memory

    def free(self, start):
        length = self.blocks.pop(start)
        length += self.holes.pop(start + length, 0)  # the hole behind it
        for before, gap in self.holes.items():
            if before + gap == start:  # the hole in front of it
                self.holes[before] = gap + length
                return
        self.holes[start] = length

    # ---- what follows may be left out: it only lets more be seen ----

    def read(self, start, at, length):
        return bytes(self.memory[start + at : start + at + length])

    def write(self, start, at, data):
        self.memory[start + at : start + at + len(data)] = data

    def extents(self, start):
        return [(0, start, self.blocks[start])]

    def free_regions(self):
        return [FreeRegion(0, start, length) for start, length in self.holes.items()]
