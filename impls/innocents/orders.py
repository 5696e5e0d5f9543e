"""Innocents that look at free blocks in another order, or choose another place.

>>> field = TopDown()
>>> field.alloc(8), field.alloc(8)
(504, 496)
"""

from random import Random
from typing import ClassVar

from heaplaw.impls.tlsf import Tlsf
from heaplaw.impls.tlsf_mapping import insert

from . import innocent
from .field import Field, promises


class _OrderedTlsf(Tlsf):
    """TLSF whose lists are kept in an order of their own."""

    def _goes_before(self, block: int, listed: int) -> bool:
        raise NotImplementedError

    def _insert(self, block: int, size: int) -> None:
        words, heads = self._words, self._heads
        number = insert(size, self._shift, self._sl)
        before, after = 0, heads[number]
        if not after or self._goes_before(block, after):
            super()._insert(block, size)
            return
        while after and not self._goes_before(block, after):
            before, after = after, words[after]
        words[block], words[block + 1] = after, before
        words[before] = block
        if after:
            words[after + 1] = block


@innocent("free lists are queues: the block that was freed first is used first", "no law may expect the last freed")
class FifoTlsf(_OrderedTlsf):
    """New blocks go to the end of their list."""

    def _goes_before(self, block: int, listed: int) -> bool:
        return False


@innocent("free lists are kept by address", "a free may cost a walk: only requests have a step bound")
class AddressOrderedTlsf(_OrderedTlsf):
    """The lowest block of a list is used first."""

    def _goes_before(self, block: int, listed: int) -> bool:
        return block < listed


@innocent("next fit: each search goes on where the last one ended", "the same request is placed ever further up")
class NextFit(Field):
    """A rover over the holes."""

    _rover = 0

    def _choose(self, length: int, align: int) -> int | None:
        places = [(place, end - start) for place, start, end in self._places(length, align)]
        if not places:
            return None
        place, self._found = min(places, key=lambda fit: (fit[0] < self._rover, fit[0]))
        self._rover = place + length
        return place


@innocent("worst fit: the longest hole is used", "no law may expect a close fit")
class WorstFit(Field):
    """The longest hole, the last of several."""

    def _choose(self, length: int, align: int) -> int | None:
        fits = [(end - start, place) for place, start, end in self._places(length, align)]
        self._found, place = max(fits, default=(0, None))
        return place


@innocent("top down: a block is taken from the end of the highest hole", "the place after a split is not the start")
class TopDown(Field):
    """The highest place of all."""

    def _choose(self, length: int, align: int) -> int | None:
        fits = [(end - length & -align, end - start) for _, start, end in self._places(length, align)]
        place, self._found = max(fits, default=(None, 0))
        return place


@innocent("placed at random in a random hole, from a seed", "chance may be deterministic; holes on both sides")
class RandomPlace(Field):
    """The same calls draw the same numbers."""

    def __init__(self) -> None:
        super().__init__()
        self._random = Random(7)

    def _choose(self, length: int, align: int) -> int | None:
        fits = [*self._places(length, align)]
        if not fits:
            return None
        place, start, end = self._random.choice(fits)
        self._found = end - start
        return place + align * self._random.randint(0, (end - length - place) // align)


@innocent("placed at random, and differently each time", "`deterministic` is asked only where it is promised")
class Dice(RandomPlace):
    """One stream of numbers for all heaps, so that no two are alike."""

    contract = promises(deterministic=False)
    _stream: ClassVar[Random] = Random(11)

    def __init__(self) -> None:
        super().__init__()
        self._random = self._stream
