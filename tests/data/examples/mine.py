from heaplaw import Contract


class Mine:
    """First fit over a sorted list of holes."""

    contract = Contract(arena=1024)

    def __init__(self):
        self.holes = [(0, 1024)]  # (start, length)
        self.sizes = {}

    def alloc(self, size):
        for i, (start, length) in enumerate(self.holes):
            if 0 < size <= length:
                self.holes[i] = (start + size, length - size)
                self.sizes[start] = size
                return start
        return None

    def free(self, start):
        self.holes = sorted([*self.holes, (start, self.sizes.pop(start))])
        merged = self.holes[:1]
        for start, length in self.holes[1:]:
            before, gap = merged[-1]
            if before + gap <= start:  # are they neighbours?
                merged[-1] = (before, start + length - before)
            else:
                merged.append((start, length))
        self.holes = merged
