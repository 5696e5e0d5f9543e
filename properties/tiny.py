"""Configurations small enough to be searched exhaustively, each with what makes it itself.

Scaled down with the arena: pages of a few blocks, few lists, few chunks; else classes and hints
stay out of reach.

>>> tiny("tlsf").name
'tlsf,arena=160,sl=1'
"""

from collections.abc import Sequence
from typing import NamedTuple

from heaplaw.impls.naming import parse
from heaplaw.impls.registry import BUILT_IN, variants


class Tiny(NamedTuple):
    """A scaled-down target, and how it is searched."""

    name: str
    depth: int | None = None  # None: until the state space closes
    sizes: Sequence[int] = ()  # bytes; chosen from the contract where none are named


_TINY: dict[str, tuple[str, int | None, tuple[int, ...]]] = {
    "tlsf": ("arena=160,sl=1", None, (8, 24, 40)),
    "xen-tlsf": ("pages=1,page_size=256", 8, (16, 240)),
    "xen-xmalloc": ("pages=2,line=32,page_size=128", None, ()),
    "xvmalloc": ("pages=1,page_size=128", None, (24, 56)),
    "compcache": ("pages=2,page_size=64", 8, (24, 64)),
    "percpu-area-map": ("unit=16,block=8,chunks=1", 8, (4, 8)),
    "percpu-bitmap": ("unit=16,block=8,chunks=1", 8, (4, 8)),
    "buddy": ("pages=8", 8, ()),
    "subpage-buddy": ("pages=1,page_size=64", None, (16, 64)),
    "slab": ("size=64,pages=2,page_size=256", 8, ()),
    "slub": ("size=64,pages=2,page_size=256", 8, (64,)),
    "kmalloc": ("pages=2,page_size=256", 8, (64, 200)),
    "nta": ("pages=2,cpus=1,order=0,regions=1,page_size=256", None, (64,)),
    "srog": ("pages=2,page_size=128", 8, (24,)),
    "zsmalloc": ("pages=4,chain=4", 8, (1024, 2048)),
    "afmalloc": ("pages=3,page_size=512", 8, (160,)),
    "zbud": ("pages=2,page_size=256,order=2", 8, ()),
    "xcfmalloc": ("pages=2,page_size=256,reserve=1", 8, (48, 200)),
}
_ELSE = 3  # operations, for targets that nothing smaller than their first variant is known of


def tiny(name: str) -> Tiny:
    """The tiny configuration of a built-in target, whatever its revision; itself where parameters are given."""
    parts = parse(name)
    if parts.parameters or parts.base not in BUILT_IN:
        return Tiny(name)
    if parts.base not in _TINY:
        return Tiny(variants(name)[0], _ELSE)
    settings, depth, sizes = _TINY[parts.base]
    return Tiny(f"{name},{settings}", depth, sizes)


def all_tiny() -> list[Tiny]:
    """The tiny configurations of all built-in targets, none left out."""
    return [tiny(name) for name in BUILT_IN]
