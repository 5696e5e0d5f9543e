"""Getting pages back from SLAB and SLUB after a checkerboard of frees, before and after shrinking.

In the network allocators' discussion (August 2006) getting pages back from it is called SLAB's biggest
problem: one live object keeps its slab.  Shrinking gives back empty slabs only, so that with
every other object freed there is nothing to give, with one in 64 left next to nothing.  zsmalloc,
whose handles let objects move, shows what compaction would have to give.
"""

from collections.abc import Mapping
from typing import Any

from .memory import Memory, factory, measure, memory_table, store
from .shape import Cell, Chart, Claim, Experiment, Line, Outcome, Posting, Scale, Table

_SIZE = 256
_NAMES = {"SLAB": "slab", "SLAB of 2005": "slab,rule=2005", "SLUB": "slub", "zsmalloc": "zsmalloc,chain=4"}
_CACHES = tuple(_NAMES)[:3]
_LEFT = (1, 2, 8, 16, 64, 0)  # one object in so many is left; 0: none
_MOVES = {"zsmalloc": "compact"}  # whose objects can move, and what moves them
Held = dict[int, tuple[int, int, Memory]]
"""By what is left: pages held before and after maintenance, and memory then."""


def run(scale: Scale, seed: int) -> Outcome:
    """Seconds: about 1, 1, 6.  Nothing is random here: ``seed`` is not used."""
    objects = scale.pick(512, 4096, 32768)
    held = {name: _checkerboards(name, objects) for name in _NAMES}
    rows: list[tuple[Cell, ...]] = []
    for left in _LEFT:
        cells = [cell for name in _NAMES for cell in held[name][left][:2]]
        rows.append((f"1 of {left}" if left else "none", *cells))
    columns = ("left", *(f"{name} {when}" for name in _NAMES for when in ("before", "after")))
    return Outcome(
        Table("published", ("allocator", "what is said"), (("SLAB", "biggest problem: getting pages back from it"),)),
        (
            Table(f"ours: pages held for {objects:,} objects of {_SIZE} bytes, before and after shrink (zsmalloc: "
                  f"compact)", columns, tuple(rows)),
            memory_table("ours: memory with every other object left, shrunk", {n: held[n][2][2] for n in _NAMES}),
            memory_table("ours: memory with 1 of 16 left, shrunk", {name: held[name][16][2] for name in _NAMES}),
        ),
        _claims(held), (), "", _charts(held, objects),
    )  # fmt: skip


def _checkerboards(name: str, objects: int) -> Held:
    """A heap for each part that is left."""
    held: Held = {}
    for left in _LEFT:
        heap = factory(_target(name, objects))()
        live = store(heap, [_size(name)] * objects)
        for at, handle in enumerate(list(live)):
            if not left or at % left:
                heap.free(handle)
                del live[handle]
        before = heap.source.held
        heap.maintain(_MOVES.get(name, "shrink"))
        held[left] = (before, heap.source.held, measure(heap, live, name))
    return held


def _target(name: str, objects: int) -> str:
    size = "" if name in _MOVES else f",size={_SIZE}"
    return f"{_NAMES[name]}{size},pages={objects * _SIZE // 4096 * 5 // 4 + 64}"


def _size(name: str) -> int:
    """zsmalloc keeps a handle with the object: what fits its class of 256 bytes."""
    return _SIZE - 8 if name in _MOVES else _SIZE


def _claims(held: Mapping[str, Held]) -> tuple[Claim, ...]:
    before = {name: held[name][1][0] for name in _CACHES}
    half = {name: held[name][2][1] / before[name] for name in _CACHES}
    few = {name: held[name][64][1] / before[name] for name in _CACHES}
    none = {name: (held[name][0][0], held[name][0][1]) for name in _CACHES}
    moved = held["zsmalloc"][16][1] / held["zsmalloc"][1][0]
    return (
        Claim("With every other object freed, shrinking gives nothing back", min(half.values()) > 0.98, _shares(half)),
        Claim("With 1 of 64 left, far more pages are held than objects need", min(few.values()) > 4 / 64, _shares(few)),
        Claim("With none left, some pages stay until the cache is shrunk",
              all(one > two == 0 for one, two in none.values()),
              ", ".join(f"{name} {one}, then {two}" for name, (one, two) in none.items())),
        Claim("Where objects can move, 1 of 16 left need about a sixteenth", moved < 1.5 / 16, f"{100 * moved:.1f} %"),
    )  # fmt: skip


def _shares(parts: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {100 * part:.0f} % of its pages" for name, part in parts.items())


def _charts(held: Mapping[str, Any], objects: int) -> tuple[Chart, ...]:
    lines = tuple(
        Line(name, tuple((left, held[name][left][1] * 4096 / (objects / left * _SIZE)) for left in _LEFT if left))
        for name in _NAMES
    )
    return (Chart("pages held over what is live, shrunk", "one in so many left", "times", lines, True),)


EXPERIMENT = Experiment(
    "pages-back", "SLAB and SLUB keep nearly all pages after a checkerboard of frees, shrunk or not.",
    Posting("a reply to Evgeniy Polyakov", "2006-08", "network memory allocator"), 1.0, run,
)  # fmt: skip
