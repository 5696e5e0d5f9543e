"""What the network tree allocator promises: its contract, derived from requests and answers alone.

Regions taken at the start are known by their place, CPU after CPU.  Those that a CPU takes
later are pages wherever the source had them; a live object in one tells whose it is::

    pages   | region 0 of CPU 0 | region 1 of CPU 0 | region 0 of CPU 1 | ... | taken later: one page each |

>>> shape, contract = configured(16, 4096, cpus=2, granule=32, order=0, regions=2, growth=-1, word=64, rev="")
>>> [_owner_of(shape, page * 4096) for page in (0, 1, 2, 3, 4)], contract.waste(33, 1)
([0, 0, 1, 1, None], 31)
"""

from collections.abc import Hashable, Iterator
from functools import lru_cache, partial
from typing import NamedTuple

from heaplaw.contract import Contract, Request
from heaplaw.pages import PageSource
from heaplaw.protocol import FreeRegion
from heaplaw.shadow import Block, Shadow

from .bits import is_power_of_two

FOREIGN = "foreign"  # list id ("foreign", cpu): chunks freed on another CPU, not yet merged
_POSTED_LISTS = 1023  # lists of the first posting, whatever a region holds
_HEADER_WORDS = 3  # of a free chunk: its address and two links
_HEAD_WORDS = 2  # of a list


class Shape(NamedTuple):
    """One configuration; ``regions`` are those of each CPU at the start, ``lists`` those of each CPU."""

    cpus: int
    page_size: int
    granule: int
    order: int
    regions: int
    growth: int
    lists: int
    largest: int  # largest size that passes the check, in bytes
    word: int

    @property
    def region(self) -> int:
        """Bytes of a region taken at the start."""
        return self.page_size << self.order

    @property
    def of_a_cpu(self) -> int:
        """Bytes of all regions that a CPU has at the start."""
        return self.region * self.regions


@lru_cache(maxsize=256)
def configured(
    pages: int, page_size: int, cpus: int, granule: int, order: int, regions: int, growth: int, word: int, rev: str
) -> tuple[Shape, Contract]:
    """Shape and contract of these parameters.  Raises ValueError for senseless ones."""
    first = rev == "2006-08-14"
    if rev not in ("", "2006-08-14", "2006-08-16"):
        raise ValueError(f"nta has no revision {rev!r}; it has 2006-08-14 and 2006-08-16")
    if not is_power_of_two(page_size) or not is_power_of_two(granule) or granule < 32 or page_size < granule:
        raise ValueError(f"page_size {page_size} and granule {granule} must be powers of two, the granule from 32 on")
    if word not in (32, 64):
        raise ValueError(f"a word has 32 or 64 bits, not {word}")
    if cpus < 1 or pages < 1:
        raise ValueError(f"cpus and pages must be at least 1, not {cpus} and {pages}")
    order = (2 if first else 3) if order < 0 else order
    growth = (0 if first else 8) if growth < 0 else growth
    if first and growth:
        raise ValueError("revision 2006-08-14 does not grow")
    room = (pages // cpus) >> order
    if regions < 0 or regions > room or not room:
        raise ValueError(f"{pages} pages are not {regions or 1} regions of order {order} for each of {cpus} CPUs")
    regions = regions or min(room, 1021 if first else 8)
    region = page_size << order
    lists = _POSTED_LISTS if first else region // granule
    if region > lists * granule:
        raise ValueError(f"a region of {region} bytes has chunks that none of {lists} lists is for")
    shape = Shape(cpus, page_size, granule, order, regions, growth, lists, lists * granule, word)
    return shape, _contract(shape)


def _contract(shape: Shape) -> Contract:
    granule, region, page_size = shape.granule, shape.region, shape.page_size
    several = shape.cpus > 1
    limits = {granule, 2 * granule, 33 * granule, page_size, region // 2, region, shape.largest}
    return Contract(
        max_size=shape.largest,
        granule=granule,
        max_align=granule,
        limits=tuple(sorted(size for size in limits if size <= shape.largest)),
        handles="opaque",
        sized_free=True,
        contextual=several,
        cpus=shape.cpus,
        maintenance=("drain", *(f"drain-{cpu}" for cpu in range(shape.cpus))) if several else (),
        detects=frozenset() if several else frozenset({"double"}),
        rejects=frozenset({"zero", "huge", "align"}),
        spaces="pages",
        tiled=True,
        mergeable=partial(_mergeable, shape),
        list_of=partial(_list_of, shape),
        geometry=partial(_misplaced, shape),
        metadata_bound=partial(_metadata_bound, shape),
        waste=partial(_waste, granule),
        page_order=shape.order,
        drained_size=region,
        must_serve=partial(_must_serve, shape),
        must_refuse=partial(_must_refuse, shape),
        free_then_alloc=True,
        placement=partial(_foreign_place, shape),
        cost_bounds={"probed": partial(_lists_at_most, shape)},
    )


# ---- places ------------------------------------------------------------------------------


def _region_of(shape: Shape, address: int) -> tuple[int, int]:
    """(start, bytes) of the region that an address lies in."""
    length = shape.region if address < shape.of_a_cpu * shape.cpus else shape.page_size
    return address - address % length, length


def _owner_of(shape: Shape, address: int) -> int | None:
    """The CPU that has had this place from the start; None for a region taken later."""
    cpu = address // shape.of_a_cpu
    return cpu if cpu < shape.cpus else None


def _rounded(granule: int, size: int) -> int:
    return -(-size // granule) * granule


def _waste(granule: int, size: int, align: int) -> int:
    return -size % granule


def _misplaced(shape: Shape, block: Block) -> str | None:
    """Is it one piece of as many granules as it needs, within a region?"""
    if len(block.extents) != 1:
        return "one piece expected"
    ((_, at, length),) = block.extents
    if length != _rounded(shape.granule, block.size):
        return f"{length} bytes are not the granules of {block.size}"
    start, room = _region_of(shape, at)
    return None if at + length <= start + room else "it crosses its region's end"


def _foreign_place(shape: Shape, request: Request, block: Block) -> str | None:
    """Regions are not shared: a request is served from its own CPU's."""
    owner = _owner_of(shape, block.extents[0][1])
    return None if owner is None or owner == request.cpu else f"a region of CPU {owner} serves CPU {request.cpu}"


# ---- free chunks -------------------------------------------------------------------------


def _is_queued(region: FreeRegion) -> bool:
    return isinstance(region.list_id, tuple) and region.list_id[0] == FOREIGN


def _mergeable(shape: Shape, one: FreeRegion, two: FreeRegion) -> bool:
    """Free chunks merge inside a region only; what is queued is not looked at yet."""
    if _is_queued(one) or _is_queued(two):
        return False
    return _region_of(shape, one.start)[0] == _region_of(shape, two.start)[0]


def _list_of(shape: Shape, region: FreeRegion) -> Hashable:
    """(CPU, granules - 1) for a free chunk, (FOREIGN, CPU) for one that is queued."""
    assert isinstance(region.list_id, tuple)
    first, second = region.list_id
    owner = _owner_of(shape, region.start)
    if _is_queued(region):
        return (FOREIGN, second if owner is None else owner)
    return (first if owner is None else owner, region.length // shape.granule - 1)


# ---- requests ----------------------------------------------------------------------------


def _senseless(shape: Shape, request: Request) -> bool:
    bad_align = not is_power_of_two(request.align) or request.align > shape.granule
    return bad_align or not 1 <= request.size <= shape.region


def _gaps(shape: Shape, cpu: int, certain: bool, shadow: Shadow, source: PageSource) -> Iterator[int]:
    """Bytes of each free run in the regions that are certainly, or possibly, a CPU's."""
    for page, order in source.runs.items():
        low = page * shape.page_size
        high = low + (shape.page_size << order)
        owner = _owner_of(shape, low)
        if owner is None:
            owner = next((block.cpu for _, _, block in shadow.extents(0, low, high)), None)
        if owner == cpu or (owner is None and not certain):
            for start, end in shadow.gaps(0, low, high):
                yield end - start


def _grows(shape: Shape, request: Request, source: PageSource) -> bool:
    """Would one page more be had, and be enough?"""
    return shape.growth > 0 and request.size <= shape.page_size and source.can_give(1)


def _must_serve(shape: Shape, request: Request, shadow: Shadow, source: PageSource | None) -> bool:
    """A run of the CPU's own regions is long enough, queued chunks being free; or a page is to be had."""
    if source is None or _senseless(shape, request):
        return False
    if _grows(shape, request, source):
        return True
    needed = _rounded(shape.granule, request.size)
    return any(gap >= needed for gap in _gaps(shape, request.cpu, True, shadow, source))


def _must_refuse(shape: Shape, request: Request, shadow: Shadow, source: PageSource | None) -> bool:
    """Senseless, or longer than every free run that could be the CPU's; pages just taken are among them."""
    if _senseless(shape, request):
        return True
    if source is None:
        return False
    needed = _rounded(shape.granule, request.size)
    return all(gap < needed for gap in _gaps(shape, request.cpu, False, shadow, source))


def _lists_at_most(shape: Shape, request: Request, shadow: Shadow) -> int:
    """Every list from the request's own on, in three searches: at once, after draining, after growing."""
    return 3 * max(0, shape.lists - _rounded(shape.granule, request.size) // shape.granule + 1)


def node_bytes(shape: Shape) -> int:
    """Of a region's node: its address, and a bit for each granule of the largest region."""
    return (shape.word + shape.region // shape.granule) // 8


def heads_bytes(shape: Shape) -> int:
    """Of all CPUs' list heads and queues; a queue is a pointer and a lock."""
    return shape.cpus * (shape.lists * _HEAD_WORDS + 2) * shape.word // 8


def _metadata_bound(shape: Shape, shadow: Shadow, source: PageSource | None) -> int:
    """A node for each region, a header in each free granule at most, and the heads."""
    assert source is not None
    granules = (source.held * shape.page_size - shadow.bytes) // shape.granule
    header = _HEADER_WORDS * shape.word // 8
    return (len(source.runs) + shape.cpus) * node_bytes(shape) + heads_bytes(shape) + granules * header
