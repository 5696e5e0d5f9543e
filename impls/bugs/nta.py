"""Bugs of the network tree allocator: derived from its structure, and one carried over.

>>> from heaplaw.impls.bugs import find
>>> find("nta", "B41").source
'gperftools db98aac'
"""

from heaplaw.impls.nta import Node, Nta

from . import bug

_SOURCE = "derived from net/core/alloc/avl.c as posted in August 2006"


@bug(
    "B41", "nta", "a chunk stands on the list one above its length, as if the first list were of length 0",
    source="gperftools db98aac", law="size-class", derived=True,
    note="there the largest length had no list; here it keeps its own",
)  # fmt: skip
class ListsByLength(Nta):
    def _container_add(self, at: int, granules: int, cpu: int) -> None:
        super()._container_add(at, min(granules + 1, self._lists), cpu)


@bug(
    "NT01", "nta", "draining stops after one chunk that another CPU freed", source=_SOURCE,
    law="no-spurious-refusal", derived=True,
)  # fmt: skip
class DrainsOne(Nta):
    def _drain(self, cpu: int) -> None:
        first = self._queue[cpu]
        if first != self._end:
            rest = self._words[first >> self._word_shift]
            self._words[first >> self._word_shift] = self._end
            super()._drain(cpu)
            self._queue[cpu] = rest


@bug(
    "NT02", "nta", "a page taken to grow is listed with the length of a region of the start",
    source=_SOURCE, law="geometry", derived=True, variants=("pages=16", "pages=12,cpus=3,order=1,regions=1,word=32"),
)  # fmt: skip
class GrownTooLong(Nta):
    def _node_commit(self, node: Node, cpu: int, granules: int) -> None:
        super()._node_commit(node, cpu, self._shape.region >> self._granule_shift)


@bug(
    "NT03", "nta", "regions taken to grow are not given back in the end",
    source=_SOURCE, law="conservation", derived=True,
)  # fmt: skip
class KeepsGrownPages(Nta):
    def destroy(self) -> None:
        del self._nodes[self._shape.cpus * self._shape.regions :]
        super().destroy()


@bug(
    "NT04", "nta", "a chunk is merged with the free granules behind it, and those stay on their list",
    source=_SOURCE, law="free-list", derived=True,
)  # fmt: skip
class LeavesTheNextListed(Nta):
    def _combine(self, at: int, num: int, after: int, before: int, cpu: int) -> None:
        super()._combine(at, num + after, 0, before, cpu)
