"""Zones, zonelists and watermarks of the buddy page allocator."""

import random

import pytest

from heaplaw import Block, Context, Refusal, Request, Shadow
from heaplaw.impls.buddy import Buddy
from heaplaw.impls.buddy_zone import Zone
from heaplaw.impls.buddy_zonelists import DMA, THISNODE, Plan, atomic_mark, plan, zonelist
from heaplaw.impls.pages_arithmetic import holds_block
from heaplaw.operations import ATOMIC, Kind, Operation
from heaplaw.runs import run

PAGE = 4096
BOTH = DMA | THISNODE


def take(zones, count, cpu=0, group=0, atomic=False, size=PAGE):
    """Pages of ``count`` requests one after the other; None for a refusal."""
    answers = [zones.alloc(size, ctx=Context(cpu, atomic, group)) for _ in range(count)]
    return [None if address is None else address // PAGE for address in answers]


def take_all(zones, cpu=0, group=0, atomic=False):
    """Pages until the first refusal, in the order in which they come."""
    pages = []
    while (page := take(zones, 1, cpu, group, atomic)[0]) is not None:
        pages.append(page)
    return pages


class TestPlan:
    def test_zones_by_number(self):
        """64 pages, 8 of them DMA, keep 16: 2, 6 and 8 by size; low is a quarter above, a DMA zone keeps a fourth."""
        here = plan(pages=64, nodes=2, dma=8, min_free=16, ratio=4)
        assert [tuple(zone) for zone in here.zones] == [
            (0, "DMA", 0, 8, 2, 2, 6),
            (0, "Normal", 8, 24, 6, 7, 0),
            (1, "Normal", 32, 32, 8, 10, 0),
        ]
        assert not here.plain

    def test_low_watermark_of_a_large_zone(self):
        """Above 40 times the minimum the low watermark is a thousandth of the zone higher: 16384 pages, 16 more."""
        assert plan(pages=16384, min_free=32).zones[0].low == 32 + 16
        assert plan(pages=16384, min_free=128).zones[0].low == 128 + 32

    def test_the_last_node_takes_the_rest(self):
        """61 pages on three nodes are 20, 20 and 21."""
        assert [(zone.first, zone.pages) for zone in plan(pages=61, nodes=3).zones] == [(0, 20), (20, 20), (40, 21)]

    def test_atomic_mark(self):
        """Half of the watermark is for ALLOC_HIGH, a quarter of the other half for ALLOC_HARDER: 32 becomes 12."""
        assert [atomic_mark(mark) for mark in (0, 1, 2, 4, 8, 32, 100)] == [0, 1, 1, 2, 3, 12, 38]

    @pytest.mark.parametrize("nodes", range(1, 9))
    def test_order_of_equally_far_nodes(self, nodes):
        """The kernel's choice of the next best node goes upwards from the own one and round, if all are equally far."""
        here = plan(pages=64, nodes=nodes)
        load = [0] * nodes
        for local in range(nodes):
            order = [local]
            while len(order) < nodes:
                far = [node for node in range(nodes) if node not in order]
                best = min(far, key=lambda node: ((20 + (node < local)) * 64 + load[node], node))
                if len(order) == 1:  # the first of a distance, that the next list may begin elsewhere
                    load[best] += 1
                order.append(best)
            assert [here.zones[index].node for index in zonelist(here, local)] == order

    def test_zonelists(self):
        """From higher to lower zones of the own node, then on to other nodes; flags narrow that."""
        here = plan(pages=64, nodes=2, dma=8)
        assert [zonelist(here, 0, flags) for flags in range(4)] == [(1, 0, 2), (0,), (1, 0), (0,)]
        assert [zonelist(here, 1, flags) for flags in range(4)] == [(2, 1, 0), (0,), (2,), ()]
        without = plan(pages=64, nodes=2)
        assert [zonelist(without, 1, flags) for flags in range(4)] == [(1, 0), (1, 0), (1,), (1,)]

    def test_plans_and_contracts_are_shared(self):
        """Equal parameters give one plan and one contract."""
        assert plan(pages=64, nodes=2) is plan(pages=64, nodes=2)
        assert Buddy(pages=64, nodes=2).contract is Buddy(pages=64, nodes=2).contract
        assert isinstance(plan(), Plan)

    @pytest.mark.parametrize(
        "parameters",
        [
            {"nodes": 0},
            {"pages": 3, "nodes": 4},
            {"pages": 16, "dma": 16},
            {"pages": 16, "nodes": 2, "dma": 8},
            {"dma": -1},
            {"ratio": -1},
            {"min_free": -4},
            {"pages": 16, "min_free": 16},
            {"tail": 2},
            {"nodes": "two"},
        ],
    )
    def test_bad_parameters(self, parameters):
        """Senseless parameters raise ValueError in one line."""
        with pytest.raises(ValueError, match=r"^[^\n]+$"):
            Buddy(**parameters)

    def test_one_zone_is_called_without_circumstances(self):
        """The default takes neither context nor CPU; zones and reserves ask for them."""
        assert not Buddy(pages=64).contract.contextual
        assert Buddy(pages=64, min_free=4).contract.contextual
        assert Buddy(pages=64, dma=4).contract.contextual
        assert Buddy(pages=64, nodes=2).contract.cpus == 2


class TestFallBack:
    def test_from_node_0(self):
        """Node 0 takes its normal zone, then its DMA zone, then node 1."""
        zones = Buddy(pages=16, nodes=2, dma=4)
        pages = take_all(zones, cpu=0)
        assert [sorted(part) for part in (pages[:4], pages[4:8], pages[8:])] == [
            [4, 5, 6, 7],
            [0, 1, 2, 3],
            [*range(8, 16)],
        ]

    def test_from_node_1(self):
        """Node 1 takes its own zone, then the normal zone of node 0, the DMA zone last."""
        zones = Buddy(pages=16, nodes=2, dma=4)
        pages = take_all(zones, cpu=1)
        assert [sorted(part) for part in (pages[:8], pages[8:12], pages[12:])] == [
            [*range(8, 16)],
            [4, 5, 6, 7],
            [0, 1, 2, 3],
        ]

    @pytest.mark.parametrize("cpu", [0, 1])
    def test_dma(self, cpu):
        """DMA memory is that of node 0, from wherever it is asked for, and ends while others have pages."""
        zones = Buddy(pages=16, nodes=2, dma=4)
        assert sorted(take_all(zones, cpu, DMA)) == [0, 1, 2, 3]
        assert len(take_all(zones, cpu)) == 12

    def test_this_node(self):
        """A request for this node never leaves it, and takes its DMA zone last."""
        zones = Buddy(pages=16, nodes=2, dma=4)
        assert sorted(take_all(zones, 1, THISNODE)) == [*range(8, 16)]
        pages = take_all(zones, 0, THISNODE)
        assert [sorted(part) for part in (pages[:4], pages[4:])] == [[4, 5, 6, 7], [0, 1, 2, 3]]

    def test_dma_of_a_node_that_has_none(self):
        """Both flags on a node without a DMA zone leave no zone at all."""
        zones = Buddy(pages=16, nodes=2, dma=4)
        assert take(zones, 1, 1, BOTH) == [None]
        assert zones.cost()["zones"] == 0
        assert sorted(take_all(zones, 0, BOTH)) == [0, 1, 2, 3]

    def test_the_flag_means_nothing_without_a_dma_zone(self):
        """Without a DMA zone a request for DMA memory is like any other."""
        assert len(take_all(Buddy(pages=16, nodes=2), 1, DMA)) == 16

    def test_a_higher_order_goes_on_where_a_zone_is_in_pieces(self):
        """Two pages are taken from the other node when the own one has only single pages left."""
        zones = Buddy(pages=16, nodes=2)
        pages = take(zones, 8, 0)
        for page in pages[::2]:
            zones.free(page * PAGE, PAGE, ctx=Context())
        assert take(zones, 1, 0, size=2 * PAGE) == [8]
        assert take(zones, 1, 0)[0] < 8

    def test_zones_never_merge(self):
        """Free blocks 0..7 and 8..15 of two nodes are buddies by number and stay apart."""
        zones = Buddy(pages=16, nodes=2)
        assert [tuple(region) for region in zones.free_regions()] == [
            (0, 0, 8 * PAGE, (0, 3)),
            (0, 8 * PAGE, 8 * PAGE, (1, 3)),
        ]
        one, two = zones.free_regions()
        assert not zones.contract.mergeable(one, two)
        assert zones.contract.largest == 8 * PAGE
        assert zones.alloc(8 * PAGE + 1) is Refusal.TOO_BIG
        for page in take(zones, 16):
            zones.free(page * PAGE, PAGE)
        assert [region.list_id for region in zones.free_regions()] == [(0, 3), (1, 3)]

    def test_frame_numbers_run_through_all_zones(self):
        """In zones from frame 3 on buddies go by frame: node 1 begins at frame 11 with a single page."""
        zones = Buddy(pages=16, nodes=2, start=3)
        assert [(r.start // PAGE, r.length // PAGE) for r in zones.free_regions()] == [
            (0, 1), (1, 4), (5, 2), (7, 1), (8, 1), (9, 4), (13, 2), (15, 1),
        ]  # fmt: skip


class TestWatermarks:
    def test_the_reserve_is_served_to_those_who_cannot_wait(self):
        """Of 64 pages with a minimum of 32, 32 are served to anybody, 20 more to atomic requests, 12 to none."""
        zones = Buddy(pages=64, orders=1, min_free=32)
        assert len(take_all(zones)) == 32
        assert take(zones, 1) == [None]
        assert len(take_all(zones, atomic=True)) == 20
        assert zones.counters()["free_bytes"] == 12 * PAGE

    def test_a_freed_page_fills_the_reserve_first(self):
        """After atomic requests took 5 pages of the reserve, 5 frees serve nobody who can wait, the sixth does."""
        zones = Buddy(pages=16, orders=1, min_free=8)
        taken = take_all(zones) + take_all(zones, atomic=True)
        assert len(taken) == 8 + 5
        for freed in range(5):
            zones.free(taken[freed] * PAGE, PAGE)
            assert take(zones, 1) == [None]
        zones.free(taken[5] * PAGE, PAGE)
        assert take(zones, 1) == [taken[5]]

    def test_higher_orders_leave_as_much(self):
        """Four pages are refused at 35 free pages above a minimum of 32, and served at 36."""
        zones = Buddy(pages=64, min_free=32)
        pages = take(zones, 29)
        assert zones.counters()["free_bytes"] == 35 * PAGE
        assert take(zones, 1, size=4 * PAGE) == [None]
        zones.free(pages[28] * PAGE, PAGE)
        assert take(zones, 1, size=4 * PAGE) == [28]
        assert zones.counters()["free_bytes"] == 32 * PAGE

    def test_enough_pages_are_not_enough_above_order_0(self):
        """With 9 pages free above a minimum of 4, of which only two are neighbours, four are refused and two served."""
        zones = Buddy(pages=16, min_free=4)
        pages = take_all(zones)
        assert pages == [*range(12)]
        assert take_all(zones, atomic=True) == [12, 13]
        for page in range(1, 14, 2):
            zones.free(page * PAGE, PAGE)
        assert zones.nr_free() == (7, 1, *[0] * 9)
        assert take(zones, 1, size=4 * PAGE) == [None]
        assert take(zones, 2, size=2 * PAGE) == [14, None]
        assert zones.counters() == {"free_blocks": 7, "free_bytes": 7 * PAGE, "largest_block": PAGE}
        assert take(zones, 1) == [13]

    def test_low_watermarks_are_left_everywhere_first(self):
        """Two nodes of 32 pages, minimum 8, low 10: 22 here, 22 there, then 2 and 2 more, then 5 and 5 at a pinch."""
        zones = Buddy(pages=64, nodes=2, orders=1, min_free=16)
        nodes = [page // 32 for page in take_all(zones)]
        assert nodes == [0] * 22 + [1] * 22 + [0] * 2 + [1] * 2
        assert [page // 32 for page in take_all(zones, atomic=True)] == [0] * 5 + [1] * 5

    def test_a_dma_zone_is_kept_for_those_who_need_it(self):
        """16 DMA pages under 48 others keep a fourth of these, 12: anybody gets 48 and 4, DMA requests the 12."""
        zones = Buddy(pages=64, dma=16, ratio=4, orders=1)
        pages = take_all(zones)
        assert len(pages) == 48 + 4
        assert take(zones, 1, atomic=True) == [None]  # that reserve is not for those in a hurry
        assert len(take_all(zones, group=DMA)) == 12

    def test_sizes_that_a_fresh_heap_serves(self):
        """Of 64 pages with a minimum of 8 a fresh heap serves 32 at once; 64 are no memory, 65 are too big."""
        zones = Buddy(pages=64, min_free=8)
        assert zones.contract.largest == zones.contract.drained_size == 32 * PAGE
        assert zones.alloc(64 * PAGE) is None
        assert zones.alloc(64 * PAGE + 1) is Refusal.TOO_BIG
        assert zones.alloc(32 * PAGE) == 0

    def test_work_is_bounded(self):
        """A refusal looks at every zone of its list twice, and at no list where too few pages are free."""
        zones = Buddy(pages=64, nodes=4, orders=1, min_free=8)
        take_all(zones)
        assert zones.cost() == {"probed": 0, "splits": 0, "merges": 0, "zones": 8, "found": 0}


class TestTail:
    def test_a_block_that_may_soon_be_merged_is_listed_last(self):
        """Page 2 goes behind page 5 when block 0..1 is free, since freeing page 3 would merge all of 0..3."""
        for tail, expected in ((0, [2, 5]), (1, [5, 2])):
            zone = Zone(8, 11, tail=bool(tail))
            assert [zone.rmqueue(0) for _ in range(8)] == [*range(8)]
            for page in (5, 0, 1, 2):
                zone.free_one_page(page, 0)
            assert list(zone.members(0)) == expected
            assert list(zone.members(1)) == [0]

    def test_not_just_below_the_highest_order(self):
        """Where the next higher block is of the highest order, which never merges, a block goes first."""
        zone = Zone(8, 2, tail=True)
        for page in [zone.rmqueue(0) for _ in range(8)][:4]:
            zone.free_one_page(page, 0)
        zone.free_one_page(4, 0)
        zone.free_one_page(6, 0)
        assert list(zone.members(0)) == [6, 4]
        assert list(zone.members(1)) == [2, 0]

    def test_only_the_order_changes(self):
        """Both policies leave the same blocks free after the same frees."""
        rng, zones = random.Random(3), [Zone(64, 7, tail=tail) for tail in (False, True)]
        pages = [[zone.rmqueue(0) for _ in range(64)] for zone in zones]
        assert pages[0] == pages[1]
        for page in rng.sample(pages[0], 48):
            for zone in zones:
                zone.free_one_page(page, 0)
            assert zones[0].head == zones[1].head
            assert zones[0].nr_free == zones[1].nr_free


CONFIGURATIONS = [
    {"pages": 64, "nodes": 2, "dma": 16, "min_free": 8, "ratio": 4},
    {"pages": 16, "nodes": 2, "dma": 4, "min_free": 4},
    {"pages": 61, "start": 3, "nodes": 3, "dma": 7, "tail": 1, "min_free": 10, "orders": 4},
    {"pages": 32, "min_free": 9},
    {"pages": 24, "dma": 8, "ratio": 2},
    {"pages": 16, "nodes": 4},
]


def passing(here, request, shadow):
    """(index of the zone that serves a request or None) by the rule of the module's docstring, from gaps alone."""
    order = (-(-request.size // 16) - 1).bit_length()
    for name in ("low", "minimum"):
        for index in zonelist(here, request.cpu, request.group):
            zone = here.zones[index]
            mark = getattr(zone, name)
            if name == "minimum" and request.atomic:
                mark = mark - mark // 2
                mark = mark - mark // 4
            if not request.group & DMA:
                mark += zone.lowmem_reserve
            first, end = zone.first * 16, (zone.first + zone.pages) * 16
            gaps = [(low // 16, high // 16) for low, high in shadow.gaps(0, first, end)]
            left = sum(high - low for low, high in gaps) - (1 << order)
            if left >= mark and any(holds_block(low + here.start, high + here.start, order) for low, high in gaps):
                return index
    return None


@pytest.mark.parametrize("parameters", CONFIGURATIONS, ids=str)
def test_zones_on_random_runs(parameters):
    """Every request is served from the zone that the rule names, or refused as the rule says; drained, all is new."""
    zones = Buddy(page_size=16, **parameters)
    here, contract, fresh = zones._plan, zones.contract, sorted(zones.lists())
    rng, shadow, refused, by_zone = random.Random(str(parameters)), Shadow(), 0, set()
    for birth in range(1500):
        if shadow.live and rng.random() < (0.2 if birth % 300 < 150 else 0.6):
            block = shadow.live[rng.choice(shadow.names)]
            zones.free(block.handle, block.size, ctx=Context(rng.randrange(here.nodes)))
            shadow.remove(block)
            continue
        request = Request(rng.randint(1, 16 << rng.randrange(4)), 1, rng.random() < 0.3, rng.randrange(4),
                          rng.randrange(here.nodes))  # fmt: skip
        able = contract.must_serve(request, shadow, None)
        assert able != contract.must_refuse(request, shadow, None)
        if contract.reserve(request, shadow) >= request.size:
            assert able
        expected = passing(here, request, shadow)
        handle = zones.alloc(request.size, ctx=Context(request.cpu, request.atomic, request.group))
        assert able == isinstance(handle, int) == (expected is not None)
        if expected is None:
            refused += 1
            continue
        block = Block(birth, handle, request.size, 1, zones.extents(handle))
        assert here.zone_of(handle // 16) == expected
        assert contract.geometry(block) is None
        if contract.placement:
            assert contract.placement(request, block) is None
        shadow.add(block)
        by_zone.add(expected)
    assert refused > 20
    assert by_zone == set(range(len(here.zones)))
    state = zones.snapshot()
    other = Buddy(page_size=16, **parameters)
    other.restore(state)
    assert other.snapshot() == state
    for block in list(shadow.live.values()):
        zones.free(block.handle, block.size)
    assert sorted(zones.lists()) == fresh
    assert zones.counters()["free_bytes"] == 16 * here.pages
    assert zones.alloc(contract.drained_size) is not None


class TestPromises:
    def test_placement(self):
        """The contract names a block in the wrong zone or node, and nothing where any zone will do."""
        placement = Buddy(pages=16, nodes=2, dma=4).contract.placement
        far = Block(0, 8 * PAGE, PAGE, 1, ((0, 8 * PAGE, PAGE),))
        near = Block(0, 4 * PAGE, PAGE, 1, ((0, 4 * PAGE, PAGE),))
        assert placement(Request(PAGE), far) is None
        assert "Normal of node 1, though it was to be DMA memory" in placement(Request(PAGE, group=DMA), far)
        assert "node 0" in placement(Request(PAGE, group=THISNODE), far)
        assert placement(Request(PAGE, group=THISNODE), near) is None
        assert placement(Request(PAGE, group=THISNODE, cpu=1), near) is not None

    def test_reserve(self):
        """A page is promised to those who cannot wait or need DMA memory, while they may have one."""
        reserve = Buddy(pages=16, min_free=8).contract.reserve
        full = Shadow()
        full.add(Block(0, 0, 8 * PAGE, 1, ((0, 0, 8 * PAGE),)))
        assert reserve(Request(PAGE, atomic=True), full) == PAGE
        assert reserve(Request(PAGE), full) == 0
        assert reserve(Request(1, 3, atomic=True), full) == 0
        full.add(Block(1, 8 * PAGE, 4 * PAGE, 1, ((0, 8 * PAGE, 4 * PAGE),)))
        assert reserve(Request(PAGE, atomic=True), full) == PAGE  # four are free, three stay
        full.add(Block(2, 12 * PAGE, PAGE, 1, ((0, 12 * PAGE, PAGE),)))
        assert reserve(Request(PAGE, atomic=True), full) == 0

    def test_a_block_across_zones_is_misplaced(self):
        """The contract objects to a block that reaches from one zone into the next."""
        geometry = Buddy(pages=16, nodes=2, dma=4).contract.geometry
        block = Block(0, 0, 8 * PAGE, 1, ((0, 0, 8 * PAGE),))
        assert geometry(block) == "the block at page 0 reaches into another zone"


class Anywhere(Buddy):
    """Forgets the flags."""

    def _alloc_pages(self, order, ctx):
        return super()._alloc_pages(order, ctx._replace(group=0))


class Hesitant(Buddy):
    """Keeps the reserve from those whom it is for."""

    def _alloc_pages(self, order, ctx):
        return super()._alloc_pages(order, ctx._replace(atomic=False))


class Spendthrift(Buddy):
    """Serves everybody as if he could not wait."""

    def _alloc_pages(self, order, ctx):
        return super()._alloc_pages(order, ctx._replace(atomic=True))


class OffByOne(Buddy):
    """Counts the whole request against the watermark, and refuses the last page above it."""

    def _zone_watermark_ok(self, zone, order, mark):
        return zone.free_pages - (1 << order) > mark and super()._zone_watermark_ok(zone, order, mark)


class Miscounting(Buddy):
    """Does not count freed pages of higher orders as free again."""

    class zone_class(Zone):  # noqa: N801
        __slots__ = ()

        def free_one_page(self, page, order):
            super().free_one_page(page, order)
            self.free_pages -= (1 << order) - 1


def alloc(birth, pages=1, group=0, atomic=False):
    return Operation(Kind.ALLOC, birth, pages * PAGE, 1, group << 1 | (ATOMIC if atomic else 0))


@pytest.mark.parametrize(
    ("wrong", "parameters", "operations", "law", "mute"),
    [
        (Anywhere, {"pages": 16, "dma": 4}, [alloc(0, group=DMA)], "placement", ()),
        (Anywhere, {"pages": 16, "nodes": 2}, [Operation(Kind.ON_CPU, mode=1), alloc(0, 8), alloc(1, group=THISNODE)],
         "must-refuse", ("placement",)),
        (Hesitant, {"pages": 4, "min_free": 2}, [alloc(0, 2), alloc(1, atomic=True)], "reserve",
         ("no-spurious-refusal",)),
        (Hesitant, {"pages": 4, "min_free": 2}, [alloc(0, 2), alloc(1, atomic=True)], "no-spurious-refusal",
         ("reserve",)),
        (Spendthrift, {"pages": 4, "min_free": 2}, [alloc(0, 2), alloc(1)], "must-refuse", ()),
        (OffByOne, {"pages": 4, "min_free": 2}, [alloc(0), alloc(1)], "no-spurious-refusal", ()),
        (Miscounting, {"pages": 4}, [alloc(0, 2), Operation(Kind.FREE, 0)], "counters", ()),
    ],
)  # fmt: skip
def test_what_the_laws_catch(wrong, parameters, operations, law, mute):
    """A few operations convict an allocator that errs about zones or reserves, and not the one that does not."""
    found = run(lambda: wrong(**parameters), operations, mute=mute)
    assert found is not None
    assert found.law == law
    assert run(lambda: Buddy(**parameters), operations) is None
