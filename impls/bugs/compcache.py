"""Bugs of compcache's chunk store: derived from its structure, and one carried over.

>>> from heaplaw.impls.bugs import find
>>> find("compcache", "CC02").law
'reserve'
"""

from heaplaw.impls.compcache import Chunk, Compcache

from . import bug

_SOURCE = "derived from the description of 2006 and 2007"


@bug(
    "T76", "compcache", "a store that fails keeps the pieces that it had already",
    source="ncruces/wasm2go pull request 57, 2026", law="refusal-pure", derived=True,
    note="there a failed resize left the bump pointer moved",
)  # fmt: skip
class KeepsWhatItFound(Compcache):
    def _undo(self, taken: list[Chunk]) -> None:
        pass


@bug(
    "CC01", "compcache", "the chunk behind a merged one still points back to the chunk that is gone",
    source=_SOURCE, law="coalesced", derived=True,
)  # fmt: skip
class StaleBackLink(Compcache):
    def _absorb(self, chunk: Chunk, following: Chunk) -> None:
        super()._absorb(chunk, following)
        if chunk.after is not None:
            chunk.after.before = following


@bug(
    "CC02", "compcache", "the last page goes back when it empties, though it is to stay",
    source=_SOURCE, law="reserve", derived=True,
)  # fmt: skip
class KeepsNothing(Compcache):
    def _release(self, chunk: Chunk) -> None:
        self._keep = 0
        super()._release(chunk)


@bug(
    "CC03", "compcache", "chunks of larger ranges than the one wanted are never taken",
    source=_SOURCE, law="no-spurious-refusal", derived=True,
)  # fmt: skip
class SearchesDownOnly(Compcache):
    def _choose(self, remaining: int) -> int | None:
        index = super()._choose(remaining)
        return None if index is not None and index > self._range_of(remaining) else index
