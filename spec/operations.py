"""Operations: the words in which every engine talks to every allocator.

An operation is a plain five-tuple.  Objects are named by birth: the n-th request
made, whether or not it was served, so that deleting an operation from a trace
never renames the others.

    kind        name     size             align      mode
    ALLOC       birth    bytes            bytes      1: atomic, 2*g: in group g
    FREE        object
    REALLOC     object   bytes
    WRITE READ MAP UNMAP object
    MAINTAIN                                         kind of maintenance (a word)
    LINK        object   other object
    ON_CPU                                           number
    BAD_FREE    object                               double, foreign, interior, size
    BAD_ALLOC            bytes            bytes      zero, huge, align
    FAIL_PAGES           how many         order
    DRAIN DESTROY NOP
"""

from enum import IntEnum
from typing import NamedTuple


class Kind(IntEnum):
    """Append-only: a number never changes its meaning."""

    NOP = 0
    ALLOC = 1
    FREE = 2
    REALLOC = 3
    WRITE = 4
    READ = 5
    MAP = 6
    UNMAP = 7
    MAINTAIN = 8
    LINK = 9
    ON_CPU = 10
    BAD_FREE = 11
    BAD_ALLOC = 12
    FAIL_PAGES = 13
    DRAIN = 14
    DESTROY = 15


class Operation(NamedTuple):
    """See the table in the module docstring."""

    kind: int
    name: int = 0
    size: int = 0
    align: int = 1
    mode: int | str = 0


ATOMIC = 1  # bit of an ALLOC's mode; the group number stands above it


def birth_name(birth: int) -> str:
    """0 -> a, 25 -> z, 26 -> aa: the name of the n-th request in a trace."""
    name = ""
    birth += 1
    while birth:
        birth, letter = divmod(birth - 1, 26)
        name = chr(97 + letter) + name
    return name


def birth_number(name: str) -> int:
    """Inverse of ``birth_name``; ValueError for anything else."""
    if not (name.isascii() and name.isalpha() and name.islower()):
        raise ValueError(f"{name!r} is not an object's name (a, b, ... z, aa, ...)")
    number = 0
    for letter in name:
        number = number * 26 + ord(letter) - 96
    return number - 1
