"""Network buffers: what powers of two add to packets of 1,500 bytes and to jumbo frames, against NTA.

Evgeniy Polyakov's network tree allocator (August 2006) lends what is asked for, rounded to 32 bytes.
His diary puts where its own data pay at 50 buffers of 1,500 bytes in flight, or 4 frames of 9 KiB.  The
driver is any that takes one buffer of high order for a jumbo frame (not e1000: a reply calls that the
wrong example); where memory is fragmented such runs cannot be had, and what was taken at the start can.
"""

import random
from collections.abc import Mapping
from typing import Any

from heaplaw.protocol import Refusal

from .memory import Memory, factory, measure, memory_table
from .shape import Cell, Chart, Claim, Experiment, Figure, Line, Outcome, Posting, Scale, Table

_PACKET, _JUMBO = 1500, 9216
_NTA, _KMALLOC = "nta,cpus=1", "kmalloc,era=2005"
_PUBLISHED = {_PACKET: (2048, 1504, 50), _JUMBO: (16384, 9216, 4)}  # bytes by powers of two, by NTA; break-even
_MOST = 200  # in flight, where the break-even is looked for
_FRAMES = 40


def run(scale: Scale, seed: int) -> Outcome:
    """Seconds: about 1, 2, 8."""
    lent = {size: tuple(_lent(name, size) for name in (_KMALLOC, _NTA)) for size in _PUBLISHED}
    curves = {(name, size): _overheads(name, size) for name in (_KMALLOC, _NTA) for size in _PUBLISHED}
    even = {size: _break_even(curves[_NTA, size], curves[_KMALLOC, size]) for size in _PUBLISHED}
    flow = {name: _flow(name, scale.pick(200, 300, 1000), seed) for name in (_KMALLOC, _NTA)}
    served = {name: _jumbos_when_fragmented(name) for name in (_KMALLOC, _NTA)}
    said: list[tuple[Cell, ...]] = [(size, *cells) for size, cells in _PUBLISHED.items()]
    ours: list[tuple[Cell, ...]] = [(size, *lent[size], even[size]) for size in _PUBLISHED]
    columns = ("bytes", "by powers of two", "by NTA", "pays from, in flight")
    return Outcome(
        Table("published: bytes lent", columns, tuple(said)),
        (
            Table("ours: bytes lent", columns, tuple(ours)),
            memory_table("ours: a stream of packets of 64 to 1500 bytes, in flight", flow),
            Table(f"ours: {_FRAMES} jumbo frames wanted, every other page of the rest taken", ("allocator", "served"),
                  tuple(served.items())),
        ),
        _claims(lent, flow, served), _figures(lent, even),
        "The diary counts a tree of 24 KiB against it, the code as posted has no tree, but list heads of 16 KiB on "
        "64 bits, and headers in free chunks.",
        _charts(curves),
    )  # fmt: skip


def _make(name: str, pages: int = 2048) -> Any:
    return factory(f"{name},pages={pages}")()


def _lent(name: str, size: int) -> int:
    heap = _make(name)
    return sum(length for _, _, length in heap.extents(heap.alloc(size)))


def _overheads(name: str, size: int) -> list[int]:
    """Metadata and padding for 1, 2, ... buffers in flight; bytes."""
    heap, live, found = _make(name), {}, []
    for _ in range(_MOST if size == _PACKET else 20):
        live[heap.alloc(size)] = size
        used = measure(heap, live)
        found.append(used.metadata + used.padding)
    return found


def _break_even(ours: list[int], theirs: list[int]) -> int:
    """The fewest buffers from which on ours are less; 0 where they never are."""
    for count in range(len(ours), 0, -1):
        if ours[count - 1] >= theirs[count - 1]:
            return count + 1 if count < len(ours) else 0
    return 1


def _flow(name: str, window: int, seed: int) -> Memory:
    """A stream: packets come, and a random one of the ``window`` in flight goes; twenty windows long."""
    heap, dice = _make(name, 4 * window + 256), random.Random(seed)
    sized = getattr(heap.contract, "sized_free", False)
    flying: list[tuple[Any, int]] = []
    for _ in range(20 * window):
        if len(flying) == window:
            at = dice.randrange(window)
            handle, size = flying[at]
            flying[at] = flying[-1]
            flying.pop()
            heap.free(handle, size) if sized else heap.free(handle)
        size = _PACKET if dice.random() < 0.6 else dice.randint(64, _PACKET)
        flying.append((heap.alloc(size), size))
    return measure(heap, dict(flying))


def _jumbos_when_fragmented(name: str) -> int:
    """Frames served where half of the free pages are taken, every other one."""
    heap = _make(name, 1024)
    pages = list(iter(heap.source.take, None))
    for page in pages[::2]:
        heap.source.give(page)
    return sum(not (one is None or isinstance(one, Refusal)) for one in [heap.alloc(_JUMBO) for _ in range(_FRAMES)])


def _claims(
    lent: Mapping[int, tuple[int, ...]], flow: Mapping[str, Memory], served: Mapping[str, int]
) -> tuple[Claim, ...]:
    overhead = {name: 100 * used.overhead for name, used in flow.items()}
    return (
        Claim("NTA lends less for both sizes", all(two < one for one, two in lent.values()), str(dict(lent))),
        Claim("Its metadata and padding are less in a stream of packets", overhead[_NTA] < overhead[_KMALLOC],
              f"{overhead[_NTA]:.1f} % and {overhead[_KMALLOC]:.1f} %"),
        Claim("So are the pages held", flow[_NTA].held < flow[_KMALLOC].held,
              f"{flow[_NTA].held // 4096} and {flow[_KMALLOC].held // 4096}"),
        Claim("In fragmented memory runs of high order fail, regions taken before serve",
              served[_KMALLOC] == 0 and served[_NTA] > 0, f"{served[_KMALLOC]} and {served[_NTA]} of {_FRAMES}"),
    )  # fmt: skip


def _figures(lent: Mapping[int, tuple[int, ...]], even: Mapping[int, int]) -> tuple[Figure, ...]:
    figures = []
    for size, (two, one, least) in _PUBLISHED.items():
        figures.append(Figure(f"bytes for {size} by powers of two", two, lent[size][0]))
        figures.append(Figure(f"bytes for {size} by NTA", one, lent[size][1]))
        figures.append(Figure(f"buffers of {size} bytes from which NTA pays", least, even[size]))
    return tuple(figures)


def _charts(curves: Mapping[tuple[str, int], list[int]]) -> tuple[Chart, ...]:
    lines = tuple(Line(name.partition(",")[0], tuple(enumerate(found, 1)))
                  for (name, size), found in curves.items() if size == _PACKET)  # fmt: skip
    return (Chart(f"metadata and padding for buffers of {_PACKET} bytes", "in flight", "bytes", lines),)


EXPERIMENT = Experiment(
    "packets", "Powers of two add a third to packets and three quarters to jumbo frames; NTA adds next to nothing.",
    Posting("Evgeniy Polyakov", "2006-07 and 2006-08", "network memory allocator, and the design diary before it"),
    2.0, run,
)  # fmt: skip
