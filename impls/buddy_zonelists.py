"""Which zones a request for pages may come from, in which order, and how much each keeps back.

Source: ``build_zonelists``, ``__setup_per_zone_wmarks``, ``setup_per_zone_lowmem_reserve``
and ``__zone_watermark_ok`` of ``mm/page_alloc.c``, Linux 6.1.

Nodes share the pages evenly, the last one takes the rest; the lowest pages of node 0 are
its DMA zone, as on x86::

    node 0                       node 1                     zonelists
    [ DMA ][      Normal      ]  [         Normal        ]  0: Normal 0, DMA 0, Normal 1
                                                            1: Normal 1, Normal 0, DMA 0

A list goes through the zones of the own node from higher to lower, then through the other
nodes by distance.  All other nodes are equally far here, and of those the kernel takes the
next higher numbers first, then those from 0 on.

Flags narrow the list, as ``__GFP_DMA`` and ``__GFP_THISNODE`` do: ``DMA`` leaves the DMA
zone (that of node 0, from wherever it is asked for), ``THISNODE`` the zones of the own
node.  Both together leave nothing to a node that has no DMA zone.  Where there is no DMA
zone at all the flag means nothing, as in a kernel built without one.

>>> here = plan(pages=64, nodes=2, dma=8, min_free=16, ratio=4)
>>> [(zone.name, zone.node, zone.first, zone.pages, zone.low, zone.minimum) for zone in here.zones]
[('DMA', 0, 0, 8, 2, 2), ('Normal', 0, 8, 24, 7, 6), ('Normal', 1, 32, 32, 10, 8)]
>>> zonelist(here, 1), zonelist(here, 1, DMA), zonelist(here, 0, THISNODE)
((2, 1, 0), (0,), (1, 0))
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from .bits import is_power_of_two
from .parameters import check_numbers

DMA = 1  # only from the DMA zone
THISNODE = 2  # only from the node that asks
FLAGS = DMA | THISNODE

MAX_ORDERS = 32  # an order is kept in five bits at most
_SCALE, _SCALE_OF = 10, 10_000  # watermark_scale_factor: a thousandth of the zone
_DMA_NAME, _NORMAL_NAME = "DMA", "Normal"


class ZonePlan(NamedTuple):
    """A zone as it is set up; everything in pages.

    ``minimum`` and ``low`` are its watermarks; ``lowmem_reserve`` is what it keeps from
    requests that could have come from a higher zone.
    """

    node: int
    name: str
    first: int
    pages: int
    minimum: int
    low: int
    lowmem_reserve: int


@dataclass(frozen=True, eq=False, slots=True)
class Plan:
    """All zones by address, and what they have in common.  Equal only to itself: ``plan`` makes each once."""

    pages: int
    page_size: int
    orders: int
    start: int
    nodes: int
    zones: tuple[ZonePlan, ...]
    zonelists: tuple[tuple[tuple[int, ...], ...], ...]  # by node, by flags

    @property
    def plain(self) -> bool:
        """One zone that keeps nothing back: a request is served if and only if a block is there."""
        return len(self.zones) == 1 and not self.zones[0].minimum

    def zone_of(self, page: int) -> int:
        """Index of the zone that a page lies in.  O(zones)."""
        index = 0
        while page >= self.zones[index].first + self.zones[index].pages:
            index += 1
        return index


@lru_cache(maxsize=256)
def plan(
    pages: int = 1024,
    page_size: int = 4096,
    orders: int = 11,
    start: int = 0,
    nodes: int = 1,
    dma: int = 0,
    min_free: int = 0,
    ratio: int = 0,
) -> Plan:
    """The zones of a machine with these parameters.  Raises ValueError for senseless ones.

    ``dma``: pages of the DMA zone.  ``min_free``: pages that all zones together keep for
    requests that cannot wait.  ``ratio``: a DMA zone keeps that part of the higher zones of
    its node from those who need no DMA zone (0: nothing).
    """
    check_numbers(1, pages=pages, page_size=page_size, orders=orders, nodes=nodes)
    check_numbers(0, start=start, dma=dma, min_free=min_free, ratio=ratio)
    if not is_power_of_two(page_size):
        raise ValueError(f"page_size {page_size} is not a power of two")
    if orders > MAX_ORDERS:
        raise ValueError(f"orders must be 1 to {MAX_ORDERS}, not {orders}")
    share = pages // nodes
    if share < 1 or dma >= share:
        raise ValueError(f"{pages} pages are too few for {nodes} nodes and a DMA zone of {dma}")
    extents = [(0, _DMA_NAME, 0, dma)] if dma else []
    for node in range(nodes):
        first = share * node if node else dma
        end = pages if node == nodes - 1 else share * (node + 1)
        extents.append((node, _NORMAL_NAME, first, end - first))
    zones = []
    for node, name, first, count in extents:
        minimum = min_free * count // pages
        low = minimum + max(minimum // 4, count * _SCALE // _SCALE_OF)
        above = sum(n for where, other, _, n in extents if where == node and other != name) if name == _DMA_NAME else 0
        zones.append(ZonePlan(node, name, first, count, minimum, low, above // ratio if ratio else 0))
    lists = tuple(tuple(_zonelist(zones, nodes, node, flags) for flags in range(FLAGS + 1)) for node in range(nodes))
    return Plan(pages, page_size, orders, start, nodes, tuple(zones), lists)


def _zonelist(zones: Sequence[ZonePlan], nodes: int, node: int, flags: int) -> tuple[int, ...]:
    dma = flags & DMA and zones[0].name == _DMA_NAME
    order = [node] if flags & THISNODE else [*range(node, nodes), *range(node)]
    return tuple(
        index
        for wanted in order
        for index in reversed(range(len(zones)))  # higher zones first
        if zones[index].node == wanted and (not dma or zones[index].name == _DMA_NAME)
    )


def zonelist(here: Plan, cpu: int, group: int = 0) -> tuple[int, ...]:
    """Indices of the zones that a request may come from, the preferred one first.  O(1).

    ``cpu`` stands for its node, ``group`` for the flags.
    """
    return here.zonelists[cpu % here.nodes][group & FLAGS]


def kept_back(here: Plan, index: int, mark: int, flags: int = 0) -> int:
    """Pages that must stay free in a zone, by a watermark and by the zone's own reserve.  O(1)."""
    zone = here.zones[index]
    return mark if flags & DMA else mark + zone.lowmem_reserve


def atomic_mark(mark: int) -> int:
    """How far below a watermark a request goes that cannot wait (ALLOC_HIGH and ALLOC_HARDER).  O(1).

    >>> [atomic_mark(mark) for mark in (1, 8, 32)]
    [1, 3, 12]
    """
    mark -= mark // 2
    return mark - mark // 4
