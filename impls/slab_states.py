"""States of targets over slabs: what is live, what is free and in which order, as one hashable value.

Pages are stored as they are but for the bytes that no one reads again, which are zeroed: those of free
slots, except where a cache keeps its own books in them (``books``: address and length), and what is
left over at a slab's end.

>>> zero_but(bytearray(b"abcdefgh"), 0, 8, [(1, 2), (6, 1)])
b'\\x00bc\\x00\\x00\\x00g\\x00'
"""

from collections.abc import Iterable
from typing import Any

from .slab_pages import ShowsSlabs, SlabRun

_PLAIN = ("s_mem", "size", "usable", "objects", "inuse", "freelist", "frozen", "slabs")


def zero_but(memory: bytearray, start: int, end: int, kept: Iterable[tuple[int, int]]) -> bytes:
    """Bytes [start, end) with zeros everywhere but in the (address, length) stretches.  O(end - start)."""
    image = bytearray(end - start)
    for at, length in kept:
        image[at - start : at - start + length] = memory[at : at + length]
    return bytes(image)


class HasStates(ShowsSlabs):
    """``snapshot`` and ``restore`` for a target over slabs whose caches tell their own part.

    A cache as it was made has nothing to tell, so that it does not matter when it was made.
    """

    def snapshot(self) -> tuple[Any, ...]:
        """Slabs by page, and what each cache has of lists.  O(bytes held)."""
        frames, images = self._frames, []
        memory, size = frames.source.memory, frames.source.page_size
        for name, slabs in frames.by_cache().items():
            cache = self.cache_named(name)
            free = cache.free_slots(slabs)
            for slab in slabs:
                dead = set(free[slab])
                live = [
                    (slab.s_mem + slot * slab.size, slab.usable) for slot in range(slab.objects) if slot not in dead
                ]
                start, end = slab.page * size, (slab.page + (1 << slab.order)) * size
                image = zero_but(memory, start, end, (*live, *cache.books(slab, free[slab])))
                plain = tuple(getattr(slab, attribute) for attribute in _PLAIN)
                store = None if slab.store is None else bytes(slab.store)
                images.append((slab.page, slab.order, name, plain, store, image))
        states = [(cache.name, cache.state()) for cache in self.caches()]
        return tuple(sorted(images, key=lambda image: image[0])), tuple(
            state for state in states if state[1] is not None
        )

    def restore(self, state: tuple[Any, ...]) -> None:
        """Return to a state of ``snapshot``; the page source's armed failures stay.  O(bytes held)."""
        self.give_all()
        images, books = state
        by_page: dict[int, SlabRun] = {}
        for page, order, name, plain, store, image in images:
            self._frames.source.retake(page, order)
            slab = by_page[page] = self._frames.enter(name, page, order)
            for attribute, value in zip(_PLAIN, plain, strict=True):
                setattr(slab, attribute, value)
            slab.store = None if store is None else bytearray(store)
            start = page * self._frames.source.page_size
            self._frames.source.memory[start : start + len(image)] = image
        for name, book in books:
            self.cache_named(name).set_state(book, by_page)
