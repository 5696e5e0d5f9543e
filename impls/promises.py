"""Promises that many contracts share: they depend on nothing but what they are made with.

>>> from functools import partial
>>> partial(at_most, 2)("any request", "any heap"), always("one", "another"), no_overhead("any heap", None)
(2, True, 0)
"""


def at_most(most: int, *_: object) -> int:
    """A bound of steps or bytes that nothing changes; for ``cost_bounds`` and ``metadata_bound``."""
    return most


def always(*_: object) -> bool:
    """Whatever is free and touches is to be merged; for ``mergeable``."""
    return True


def no_overhead(*_: object) -> int:
    """All bytes are live or free; for ``overhead``."""
    return 0
