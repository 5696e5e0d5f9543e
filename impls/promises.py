"""Promises that many contracts share: they depend on nothing but what they are made with.

>>> from functools import partial
>>> partial(at_most, 2)("any request", "any heap"), always("one", "another"), no_overhead("any heap", None)
(2, True, 0)
>>> partial(all_but, always)("any request", "any heap", None)  # where all is served nothing is refused
False
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from heaplaw.contract import Request, ServeRule
    from heaplaw.pages import PageSource
    from heaplaw.shadow import Shadow


def at_most(most: int, *_: object) -> int:
    """A bound of steps or bytes that nothing changes; for ``cost_bounds`` and ``metadata_bound``."""
    return most


def always(*_: object) -> bool:
    """Whatever is free and touches is to be merged; for ``mergeable``."""
    return True


def no_overhead(*_: object) -> int:
    """All bytes are live or free; for ``overhead``."""
    return 0


def all_but(serves: "ServeRule", request: "Request", shadow: "Shadow", source: "PageSource | None") -> bool:
    """Whatever need not be served is refused; for ``must_refuse``, where ``serves`` is exact."""
    return not serves(request, shadow, source)
