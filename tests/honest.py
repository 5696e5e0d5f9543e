"""Small honest allocators for the suite's own tests; a test makes one of them lie in one respect."""

from heaplaw import Contract, Extent, FreeRegion, InvalidFree, Maintained, PageSource

ARENA = 256


class Box:
    """A black box: bumps, never reuses, shows nothing but its answers."""

    contract = Contract(arena=ARENA)

    def __init__(self):
        self.top = 0
        self.sizes = {}

    def alloc(self, size, align=1, *, ctx=None):
        start = -(-self.top // align) * align
        if not size or start + size > ARENA:
            return None
        self.top = start + size
        self.sizes[start] = size
        return start

    def free(self, handle):
        if handle not in self.sizes:
            raise InvalidFree(handle)
        del self.sizes[handle]


class Shown(Box):
    """Shows where its objects are."""

    def extents(self, handle):
        return ((0, handle, self.sizes[handle]),)


class Filled(Box):
    """Keeps contents, each object's in a bytearray of its own."""

    def __init__(self):
        super().__init__()
        self.data = {}

    def alloc(self, size, align=1, *, ctx=None):
        handle = super().alloc(size, align)
        if handle is not None:
            self.data[handle] = bytearray(size)
        return handle

    def read(self, handle, at, length):
        return self.data[handle][at : at + length]

    def write(self, handle, at, data):
        self.data[handle][at : at + len(data)] = data

    def realloc(self, handle, size):
        answer = self.alloc(size)
        if answer is not None:
            kept = self.data.pop(handle)[:size]
            self.data[answer][: len(kept)] = kept
            self.free(handle)
        return answer


class Fit(Shown):
    """First fit, reusing what was freed; shows its free space."""

    contract = Contract(arena=ARENA, free_then_alloc=True, drained_size=ARENA)

    def alloc(self, size, align=1, *, ctx=None):
        for region in self.free_regions():
            start = -(-region.start // align) * align
            if size and start + size <= region.start + region.length:
                self.sizes[start] = size
                return start
        return None

    def free_regions(self):
        at = 0
        for start in [*sorted(self.sizes), ARENA]:
            if start > at:
                yield FreeRegion(0, at, start - at)
            at = start + self.sizes.get(start, 0)


class Paged:
    """An object a page, from the page source; handles are opaque numbers."""

    contract = Contract(
        handles="opaque", spaces="pages", max_size=64, drained_pages=0, maintenance=("compact",),
        moving=frozenset({"compact"}), page_order=0,
    )  # fmt: skip

    def __init__(self):
        self.source = PageSource(16, page_size=64)
        self.homes = {}
        self.births = 0

    def alloc(self, size, align=1, *, ctx=None):
        page = self.source.take() if 0 < size <= 64 else None
        if page is None:
            return None
        self.births += 1
        self.homes[self.births] = page
        return self.births

    def free(self, handle):
        self.source.give(self.homes.pop(handle))

    def extents(self, handle):
        return (Extent(0, self.homes[handle] * 64, 64),)

    def maintain(self, kind):
        return Maintained()

    def destroy(self):
        for handle in list(self.homes):
            self.free(handle)
