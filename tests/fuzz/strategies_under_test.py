"""Small strategies for the tests of ``heaplaw compare``: one honest, others worse or wrong in one respect."""

from heaplaw import Contract, InvalidFree, PageSource

PAGE = 256


class Rounded:
    """Pages of 256 bytes; objects of any size in steps of 16, first fit by a walk over what is live."""

    contract = Contract(arena=0, max_size=PAGE, spaces="pages", max_align=1)
    step, dear, header = 16, 0, 0

    def __init__(self):
        self.source = PageSource(pages=512, page_size=PAGE)
        self.live = {}
        self.walked = 0

    def alloc(self, size, align=1, *, ctx=None):
        """In the first page with a large enough gap."""
        self.walked = 1
        need = self.length(size)
        if not 0 < size <= PAGE or need > PAGE:
            return None
        for page in sorted(self.source.owned):
            self.walked += 1
            end = page * PAGE
            for at, length in sorted(self.live.items()):
                if at // PAGE == page:
                    if at - end >= need:
                        break
                    end = at + length
            if (page + 1) * PAGE - end >= need:
                self.live[end] = need
                return end
        page = self.source.take()
        if page is None:
            return None
        self.live[page * PAGE] = need
        return page * PAGE

    def length(self, size):
        """Bytes taken for an object."""
        return -(-(size + self.header) // self.step) * self.step

    def free(self, handle):
        """Give the page back with its last object."""
        self.walked = 1 + self.dear * len(self.live)
        if handle not in self.live:
            raise InvalidFree(handle)
        del self.live[handle]
        if not any(at // PAGE == handle // PAGE for at in self.live):
            self.source.give(handle // PAGE)

    def extents(self, handle):
        """One piece."""
        return ((0, handle, self.live[handle]),)

    def cost(self):
        """Entries walked by the last call."""
        return {"walked": self.walked}


class Coarse(Rounded):
    """Wastes more: steps of 64."""

    step = 64


class Dear(Rounded):
    """A free walks over everything that is live."""

    dear = 1


class Short(Rounded):
    """Wrong: objects above 100 bytes get 16 bytes too few."""

    def length(self, size):
        """Too little."""
        return super().length(size) - 16 * (size > 100)


class Choosy(Rounded):
    """Refuses what is larger than 200 bytes."""

    contract = Contract(arena=0, max_size=200, spaces="pages", max_align=1)

    def alloc(self, size, align=1, *, ctx=None):
        """None above 200."""
        return None if size > 200 else super().alloc(size)


class Silent(Rounded):
    """Counts no steps."""

    cost = None
