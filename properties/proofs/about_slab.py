"""Theorems about SLAB's geometry: steps from slot to slot, colours, arrays of CPUs.

>>> from heaplaw.properties.proofs.theorems import find
>>> find("slab/colours-stay-in-the-slab").sentence
'Slots are moved by no more than is left over, by whole cache lines, whatever colour comes next.'
"""

from itertools import product
from string import ascii_lowercase
from typing import Any

from .theorems import WRONG, Control, Given, Values, theorem

_MOST = 1 << 40


def _kernel(heap: Any, name: str) -> Any:
    """A function of the module of geometry that the heap was made with."""
    plain = next(kind for kind in type(heap).__mro__ if kind.__name__ == "Slab")
    made: Any = vars(plain)["__init__"]
    return made.__globals__["_configured"].__wrapped__.__globals__["layout"].__wrapped__.__globals__[name]


_NAMES = [*ascii_lowercase, *map("".join, product(ascii_lowercase, repeat=2))][:70]


def _many(heap: Any, values: Values) -> str:
    """Objects are taken from many slabs."""
    return "\n".join(f"{name} = alloc {heap._layout.object_size}" for name in _NAMES)


def _as_made(heap: Any, given: Given) -> Any:
    """What is left over is what the heap has, and the last colour was the last one."""
    here = heap._layout
    return (given("left", 0, _MOST) == here.left) & (given("next", 0, _MOST) == max(here.colours - 1, 0))


@theorem(
    "slab", "Slots are moved by no more than is left over, by whole cache lines, whatever colour comes next.",
    kernels="SlabCache._next_colour, Layout.colours", trace=_many,
    targets=("slab", "slab,rule=2005", "slab,size=520,line=32", "slab,size=520,line=128"),
    controls=(
        Control("slab+SL01,size=520,pages=9,limit=4", _as_made),
        Control("slab+LW22,size=520,pages=9,limit=4", _as_made),
    ),
    bound="every number of bytes left over up to 2**40, every colour that was the last one", law="geometry",
)  # fmt: skip
def colours_stay_in_the_slab(heap: Any, given: Given) -> Any:
    left, step, cache = given("left", 0, _MOST), heap._layout.colour_off, heap._cache
    cache.layout = heap._layout._replace(left=left)
    cache.colour_next = given("next", 0, _MOST)
    given.assume((cache.colour_next == 0) | ((cache.colour_next + 1) * step <= left))
    moved = cache._next_colour()
    again = (cache.colour_next == 0) | ((cache.colour_next + 1) * step <= left)
    return (moved >= 0) & (moved <= left) & (moved & (step - 1) == 0) & again


def _own_object(heap: Any, given: Given) -> Any:
    """The object is the heap's."""
    return given("object", 1, 1 << 22) == heap._layout.object_size


@theorem(
    "slab", "From slot to slot is a multiple of the alignment, and of a cache line or the part of it that is filled.",
    kernels="aligned_size", targets=("slab", "slab,line=128,hwcache=1"), trace=_many,
    controls=(Control(WRONG + "steps_rounded_down,size=100,align=64", _own_object),), law="disjoint",
    bound="every object up to 4 MiB, every alignment up to 256, lines of 32 to 256 bytes",
)  # fmt: skip
def steps_are_aligned(heap: Any, given: Given) -> Any:
    size, align = given("object", 1, 1 << 22), 1 << int(given("log2 of align", 0, 8))
    line, hwcache = 32 << int(given("lines", 0, 3)), bool(given("hwcache", 0, 1))
    step, granule = _kernel(heap, "aligned_size")(size, align, line, hwcache)
    part = granule >= line if hwcache and size > line // 2 else granule >= align
    exact = (step >= size) & (step - size < granule + 8)
    return exact & (step & (granule - 1) == 0) & (granule & (max(align, 8) - 1) == 0) & part
