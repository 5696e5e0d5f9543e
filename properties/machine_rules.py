"""The rules of state machines: each function gives those that one ability of an allocator brings.

>>> from heaplaw import Contract
>>> sorted(rule.function.__name__ for rule in requests_and_frees(Words(Contract(arena=64))).setup_state().rules)
['alloc', 'drain', 'fill', 'free']
"""

from collections.abc import Callable, Iterator
from typing import Any

from .machine_base import AllocatorMachine, objects  # first: it says what to do where Hypothesis is missing

# isort: split
from hypothesis import strategies as st
from hypothesis.stateful import consumes, multiple, precondition, rule

from heaplaw.codec import BAD_REQUESTS, MISUSES, Codec
from heaplaw.contract import Contract
from heaplaw.operations import ATOMIC, Kind

_FILL = 24  # requests of a step that fills
_SMALL, _MIDDLE = 64, 4096  # bytes; up to these, sizes are drawn from first


class Words:
    """What the rules draw from, taken from one contract."""

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        codec = Codec(contract)
        self.palette = [size for size in codec.sizes if size <= contract.largest + 1 or not contract.largest]
        bands = [band for most in (_SMALL, _MIDDLE, None) if (band := self._up_to(most))]
        self.sizes = st.one_of(*(st.sampled_from(band) for band in bands))
        powers = range(1, max(contract.max_align, 2).bit_length())
        self.alignments = st.sampled_from([1 << power for power in powers])
        self.groups = st.integers(0, contract.groups)
        self.nonsense = st.sampled_from(list(self._nonsense(codec)))

    def _up_to(self, most: int | None) -> list[int]:
        return [size for size in self.palette if most is None or size <= most]

    def _nonsense(self, codec: Codec) -> Iterator[tuple[str, int, int]]:
        """(kind, size, alignment) of requests that the contract rejects; a placeholder where it rejects none."""
        rejects = [kind for kind in BAD_REQUESTS if kind in self.contract.rejects]
        for kind in rejects:
            if kind == "zero":
                yield kind, 0, 1
            elif kind == "huge":
                yield from ((kind, size, 1) for size in codec.huge)
            else:
                yield from ((kind, 8, align) for align in codec.bad_aligns)
        if not rejects:
            yield "zero", 0, 1


Machine = type[AllocatorMachine]


def requests_and_frees(words: Words) -> Machine:
    """Every allocator: ask for memory, give it back, look at it, give all of it back."""

    class RequestsAndFrees(AllocatorMachine):
        @rule(target=objects, size=words.sizes)
        def alloc(self, size: int) -> Any:
            """Ask for ``size`` bytes; a refusal makes no object."""
            return self.served(self.requested(size))

        @rule(target=objects, size=words.sizes, count=st.integers(2, _FILL))
        def fill(self, size: int, count: int) -> Any:
            """Ask for ``size`` bytes ``count`` times, or until refused."""
            made: list[int] = []
            while len(made) < count and (name := self.requested(size)) is not None:
                made.append(name)
            return multiple(*made)

        @precondition(AllocatorMachine.any_live)
        @rule(thing=consumes(objects))
        def free(self, thing: int) -> None:
            """Give an object back; its contents are compared first."""
            self.do(Kind.FREE, thing)

        @precondition(AllocatorMachine.any_live)
        @rule()
        def drain(self) -> None:
            """Give everything back; then the largest promised request is served."""
            self.do(Kind.DRAIN)

    return RequestsAndFrees


def aligned_requests(words: Words) -> Machine:
    """Where the contract knows alignments."""

    class AlignedRequests(AllocatorMachine):
        @rule(target=objects, size=words.sizes, align=words.alignments)
        def aligned_alloc(self, size: int, align: int) -> Any:
            """Ask for ``size`` bytes at a multiple of ``align``."""
            return self.served(self.requested(size, align))

    return AlignedRequests


def circumstances(words: Words) -> Machine:
    """Where requests come with circumstances: atomic ones, and groups."""

    class Circumstances(AllocatorMachine):
        @rule(target=objects, size=words.sizes, atomic=st.booleans(), group=words.groups)
        def alloc_in_context(self, size: int, atomic: bool, group: int) -> Any:
            """Ask for ``size`` bytes that must not sleep, or in a group."""
            return self.served(self.requested(size, 1, group << 1 | (ATOMIC if atomic else 0)))

    return Circumstances


def resizing(words: Words) -> Machine:
    """Where objects can be resized."""

    class Resizing(AllocatorMachine):
        @precondition(AllocatorMachine.any_live)
        @rule(thing=objects, size=words.sizes)
        def realloc(self, thing: int, size: int) -> None:
            """Resize an object; the common prefix stays, and a refusal leaves it as it was."""
            self.do(Kind.REALLOC, thing, size)

    return Resizing


def contents(words: Words) -> Machine:
    """Where contents can be written and read."""

    class Contents(AllocatorMachine):
        @precondition(AllocatorMachine.any_live)
        @rule(thing=objects)
        def write(self, thing: int) -> None:
            """Fill an object with new bytes."""
            self.do(Kind.WRITE, thing)

        @precondition(AllocatorMachine.any_live)
        @rule(thing=objects)
        def read(self, thing: int) -> None:
            """Compare an object with what was written to it."""
            self.do(Kind.READ, thing)

    return Contents


def mapping(words: Words) -> Machine:
    """Where objects have no address until they are mapped."""

    class Mapping(AllocatorMachine):
        def may_map(self) -> bool:
            """Is there an object, and room for one more mapping on this CPU?"""
            most = self.checker.contract.mappings
            blocks = self.checker.shadow.live.values()
            return self.any_live() and (not most or sum(b.mapped == self.checker.cpu + 1 for b in blocks) < most)

        def any_mapped(self) -> bool:
            """Is an object mapped?"""
            return any(block.mapped for block in self.checker.shadow.live.values())

        @precondition(may_map)
        @rule(thing=objects)
        def map(self, thing: int) -> None:
            """Map an object on this CPU."""
            self.do(Kind.MAP, thing)

        @precondition(any_mapped)
        @rule(thing=objects)
        def unmap(self, thing: int) -> None:
            """End an object's mapping, on the CPU where it was made."""
            self.do(Kind.UNMAP, thing)

    return Mapping


def maintenance(words: Words) -> Machine:
    """Where background work can be asked for."""

    class Maintenance(AllocatorMachine):
        @rule(kind=st.sampled_from(words.contract.maintenance))
        def maintain(self, kind: str) -> None:
            """Compact, shrink, reclaim or whatever ``kind`` says; objects move only as declared."""
            self.do(Kind.MAINTAIN, mode=kind)

    return Maintenance


def linking(words: Words) -> Machine:
    """Where objects can be tied together."""

    class Linking(AllocatorMachine):
        @precondition(AllocatorMachine.any_live)
        @rule(thing=objects, other=objects)
        def link(self, thing: int, other: int) -> None:
            """Merge the groups of two objects."""
            self.do(Kind.LINK, thing, other)

    return Linking


def processors(words: Words) -> Machine:
    """Where there are several CPUs."""

    class Processors(AllocatorMachine):
        @rule(number=st.integers(0, words.contract.cpus - 1))
        def on_cpu(self, number: int) -> None:
            """What follows happens on another CPU."""
            self.do(Kind.ON_CPU, mode=number)

    return Processors


def bad_frees(words: Words) -> Machine:
    """Where the contract says that misuse is noticed."""

    class BadFrees(AllocatorMachine):
        @precondition(AllocatorMachine.any_live)
        @rule(thing=objects, misuse=st.sampled_from([kind for kind in MISUSES if kind in words.contract.detects]))
        def bad_free(self, thing: int, misuse: str) -> None:
            """Free an object wrongly; it must be noticed."""
            self.do(Kind.BAD_FREE, thing, mode=misuse)

    return BadFrees


def bad_requests(words: Words) -> Machine:
    """Where the contract says that senseless requests are refused."""

    class BadRequests(AllocatorMachine):
        def not_again(self) -> bool:
            """Is there an object, and was the last step something else?"""
            return self.any_live() and self.operations[-1].kind != Kind.BAD_ALLOC

        @precondition(not_again)
        @rule(request=words.nonsense)
        def bad_alloc(self, request: tuple[str, int, int]) -> None:
            """Ask for what makes no sense (kind, size, alignment); it must be refused."""
            kind, size, align = request
            self.do(Kind.BAD_ALLOC, 0, size, align, kind)

    return BadRequests


def failing_pages(words: Words) -> Machine:
    """Where pages come from a source that can refuse."""

    class FailingPages(AllocatorMachine):
        @rule(count=st.integers(1, 8), order=st.integers(0, 3))
        def fail_pages(self, count: int, order: int) -> None:
            """The next ``count`` requests for pages of this order or above are refused."""
            self.do(Kind.FAIL_PAGES, 0, count, order)

    return FailingPages


Ability = Callable[[Words], Machine]
BY_KIND: dict[Kind, Ability] = {
    Kind.REALLOC: resizing, Kind.WRITE: contents, Kind.MAP: mapping, Kind.MAINTAIN: maintenance, Kind.LINK: linking,
    Kind.ON_CPU: processors, Kind.BAD_FREE: bad_frees, Kind.BAD_ALLOC: bad_requests, Kind.FAIL_PAGES: failing_pages,
}  # fmt: skip
