"""The alphabet of an exhaustive search: few operations, each with something of its own to show.

A letter is an operation that names no object, or names live objects by their place in canonical
order.  A code is a letter with its objects as one integer: ``letter | first << 8 | second << 16``.

>>> from heaplaw import Contract
>>> letters = alphabet(Contract(arena=64, limits=(8, 32)), {Kind.ALLOC, Kind.FREE})
>>> [letter.text for letter in letters]
['alloc 1', 'alloc 8', 'alloc 32', 'alloc 64', 'free i']
"""

from collections.abc import Iterator, Sequence, Set
from typing import NamedTuple

from heaplaw.codec import BAD_REQUESTS
from heaplaw.contract import Contract
from heaplaw.operations import ATOMIC, Kind, Operation
from heaplaw.trace import render

_MOST_SIZES = 4  # where none are named
MOST_LETTERS = 256  # a code names one by a byte
_BAD_ALIGN = 3
_WRAPPING = ((1 << 32) - 1, (1 << 64) - 1)  # bytes that become few where they are rounded up in a word
KINDS = (
    Kind.ALLOC, Kind.FREE, Kind.REALLOC, Kind.MAP, Kind.UNMAP, Kind.MAINTAIN, Kind.LINK, Kind.ON_CPU,
    Kind.BAD_FREE, Kind.BAD_ALLOC, Kind.FAIL_PAGES, Kind.DRAIN, Kind.DESTROY,
)  # fmt: skip
"""What letters are made of.  WRITE and READ add nothing: contents are written and read after every operation."""
WORDS = {kind.name.lower().replace("_", ""): kind for kind in KINDS} | {"cpu": Kind.ON_CPU}
"""What people call them."""
LEAVES = (Kind.DRAIN, Kind.DESTROY)
"""Only where nothing is live, and nothing follows: a drain of live objects is their frees and then this."""


class Letter(NamedTuple):
    """An operation but for the objects it names: none, one or two of the live ones."""

    operation: Operation
    names: int

    @property
    def text(self) -> str:
        """In the words of a trace, with i and j for any live object."""
        words = render(self.operation._replace(name=0)).split()
        if self.operation.kind == Kind.ALLOC:
            return " ".join(words[2:])
        if not self.names:
            return " ".join(words)
        rest = {Kind.REALLOC: f"i {self.operation.size}", Kind.LINK: "i j", Kind.BAD_FREE: f"{self.operation.mode} i"}
        return f"{words[0]} {rest.get(Kind(self.operation.kind), 'i')}"


Alphabet = tuple[Letter, ...]


def default_sizes(contract: Contract) -> tuple[int, ...]:
    """The smallest and the largest size, and class limits spread between them; ascending."""
    least, largest = max(1, contract.min_size), contract.largest or 64
    sizes = sorted({least, largest, *(size for size in contract.limits if least <= size <= largest)})
    if len(sizes) <= _MOST_SIZES:
        return tuple(sizes)
    return tuple(sizes[round(at * (len(sizes) - 1) / (_MOST_SIZES - 1))] for at in range(_MOST_SIZES))


def default_aligns(contract: Contract) -> tuple[int, ...]:
    """The least alignment that says something, where any may be asked for."""
    beyond = 1 << contract.granule.bit_length()
    return (beyond,) if beyond <= contract.max_align else ()


def alphabet(
    contract: Contract, kinds: Set[int], sizes: Sequence[int] = (), aligns: Sequence[int] | None = None
) -> Alphabet:
    """Letters of these kinds for a contract; ``sizes`` and ``aligns`` in bytes, chosen from it where none are given.

    Raises ValueError for more letters than a code can name.
    """
    sizes = sorted(set(sizes)) or default_sizes(contract)
    aligns = default_aligns(contract) if aligns is None else aligns
    letters = tuple(letter for letter in _letters(contract, sizes, aligns) if letter.operation.kind in kinds)
    if len(letters) > MOST_LETTERS:
        raise ValueError(f"{len(letters)} letters are too many; name fewer sizes or alignments")
    return letters


def _letters(contract: Contract, sizes: Sequence[int], aligns: Sequence[int]) -> Iterator[Letter]:
    for size in sizes:
        yield Letter(Operation(Kind.ALLOC, 0, size), 0)
    least = sizes[0]
    for align in aligns:
        yield Letter(Operation(Kind.ALLOC, 0, least, align), 0)
    if contract.contextual:
        yield Letter(Operation(Kind.ALLOC, 0, least, 1, ATOMIC), 0)
        for group in range(1, min(contract.groups, 2) + 1):
            yield Letter(Operation(Kind.ALLOC, 0, least, 1, group << 1), 0)
    yield Letter(Operation(Kind.FREE), 1)
    beyond = contract.largest + 1
    for size in (*sizes, *([beyond] if contract.largest else ())):
        yield Letter(Operation(Kind.REALLOC, 0, size), 1)
    yield Letter(Operation(Kind.MAP), 1)
    yield Letter(Operation(Kind.UNMAP), 1)
    for kind in contract.maintenance:
        yield Letter(Operation(Kind.MAINTAIN, mode=kind), 0)
    yield Letter(Operation(Kind.LINK), 2)
    for cpu in range(min(contract.cpus, 2)):
        yield Letter(Operation(Kind.ON_CPU, mode=cpu), 0)
    for misuse in sorted(contract.detects):
        yield Letter(Operation(Kind.BAD_FREE, mode=misuse), 1)
    for which in BAD_REQUESTS:
        if which in contract.rejects:
            align = _BAD_ALIGN if which == "align" else 1
            for size in {"zero": (0,), "huge": (beyond, *_WRAPPING), "align": (least,)}[which]:
                yield Letter(Operation(Kind.BAD_ALLOC, 0, size, align, which), 0)
    yield Letter(Operation(Kind.FAIL_PAGES, size=1, align=0), 0)
    for leaf in LEAVES:
        yield Letter(Operation(leaf), 0)


def codes(letters: Alphabet, live: int) -> Iterator[int]:
    """Every letter with every choice of so many live objects, leaves left out; as integers, in order."""
    for number, letter in enumerate(letters):
        if letter.names == 0:
            if letter.operation.kind not in LEAVES:
                yield number
        elif letter.names == 1:
            for first in range(live):
                yield number | first << 8
        else:
            for first in range(live):
                for second in range(live):
                    if first != second:
                        yield number | first << 8 | second << 16


def operation(letters: Alphabet, code: int, names: Sequence[int], birth: int) -> Operation:
    """What a code means, given the live objects' names in canonical order and the next request's birth number."""
    template, arity = letters[code & 255]
    if template.kind == Kind.ALLOC:
        return template._replace(name=birth)
    if arity == 0:
        return template
    first = names[code >> 8 & 255]
    return template._replace(name=first) if arity == 1 else template._replace(name=first, size=names[code >> 16])
