"""One honest allocator, and the same with one bug each: what every engine must find."""

import os
import random

from heaplaw import Contract, FreeRegion, Refusal

ARENA = 512


def fits(request, shadow, source):
    return any(high - low >= request.size > 0 for low, high in shadow.gaps(0, 0, ARENA))


def nothing_fits(request, shadow, source):
    return not fits(request, shadow, source)


def no_overhead(shadow, source):
    return 0


def touching(one, two):
    return True


class Good:
    """First fit without headers over a sorted list of holes."""

    contract = Contract(
        arena=ARENA, max_size=ARENA, rejects=frozenset({"zero", "huge"}), drained_size=ARENA,
        must_serve=fits, must_refuse=nothing_fits, overhead=no_overhead, mergeable=touching, free_then_alloc=True,
    )  # fmt: skip

    def __init__(self):
        self.used = {}
        self.holes = [(0, ARENA)]
        self.memory = bytearray(ARENA)

    def alloc(self, size, align=1, *, ctx=None):
        if size < 1:
            return Refusal.INVALID
        if size > ARENA:
            return Refusal.TOO_BIG
        for index, (start, length) in enumerate(self.holes):
            if length >= size:
                self.holes[index : index + 1] = [(start + size, length - size)] if length > size else []
                self.used[start] = size
                return start
        return None

    def free(self, handle):
        holes = sorted([*self.holes, (handle, self.used.pop(handle))])
        self.holes = []
        for hole in holes:
            if self.holes and self.touch(*self.holes[-1], hole[0]):
                start, length = self.holes.pop()
                self.holes.append((start, length + hole[1]))
            else:
                self.holes.append(hole)

    def touch(self, start, length, behind):
        return start + length == behind

    def extents(self, handle):
        return ((0, handle, self.used[handle]),)

    def read(self, handle, at, length):
        return self.memory[handle + at : handle + at + length]

    def write(self, handle, at, data):
        self.memory[handle + at : handle + at + len(data)] = data

    def free_regions(self):
        return [FreeRegion(0, start, length) for start, length in self.holes]


class Overlap(Good):
    """Forgets the last byte of what it hands out."""

    def alloc(self, size, align=1, *, ctx=None):
        answer = super().alloc(size)
        if isinstance(answer, int) and size > 9:
            self.holes = sorted([*self.holes, (answer + size - 1, 1)])
        return answer


class RefuseAll(Good):
    """Serves nothing."""

    def alloc(self, size, align=1, *, ctx=None):
        return None


class LeaksOnRefusal(Good):
    """A request that does not fit takes a hole with it; it shows no more than its holes."""

    def alloc(self, size, align=1, *, ctx=None):
        answer = super().alloc(size)
        if answer is None and len(self.holes) > 1:
            self.holes.pop()
        return answer


class LosesTheLastByte(Good):
    """Writes one byte less than it is given, when it is given many."""

    def write(self, handle, at, data):
        super().write(handle, at, data[:-1] if len(data) > 30 else data)


class Random(Good):
    """Places at random where there is a choice."""

    def alloc(self, size, align=1, *, ctx=None):
        random.shuffle(self.holes)
        answer = super().alloc(size)
        self.holes.sort()
        return answer


class ForgetsMerge(Good):
    """Merges neighbours only where the left one is long."""

    def touch(self, start, length, behind):
        return super().touch(start, length, behind) and length > 5


class Crashes(Good):
    """Divides by the number of holes."""

    def free(self, handle):
        _ = 1 // len(self.holes)
        super().free(handle)


class Loops(Good):
    """Never comes back from the free that leaves five objects."""

    def free(self, handle):
        super().free(handle)
        while len(self.used) == 5:
            pass


class Kills(Good):
    """Takes its process along."""

    def alloc(self, size, align=1, *, ctx=None):
        os._exit(9)
