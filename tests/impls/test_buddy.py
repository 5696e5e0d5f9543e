"""The binary buddy page allocator: worked examples, misuse, and every invariant on random runs."""

import random

import pytest

from heaplaw import Block, InvalidFree, Refusal, Request, Shadow
from heaplaw.impls.buddy import Buddy
from heaplaw.impls.pages_arithmetic import buddy_of, cover, get_order, holds_block, merged, upper_half

PAGE = 4096


def free_blocks(zone):
    """Lists as {order: [page, ...]}, first to last."""
    blocks = {}
    for order, (_, address) in zone.lists():
        blocks.setdefault(order, []).append(address // zone.contract.granule)
    return blocks


class TestArithmetic:
    def test_get_order(self):
        """The order is the smallest whose block holds the bytes, at every boundary."""
        for order in range(11):
            assert get_order(PAGE << order, 12) == order
            assert get_order((PAGE << order) + 1, 12) == order + 1
        assert get_order(1, 12) == 0

    @pytest.mark.parametrize(("pfn", "order", "buddy"), [(6, 1, 4), (12, 2, 8), (8, 2, 12), (0, 10, 1024)])
    def test_buddy_of(self, pfn, order, buddy):
        """A buddy differs in the bit of the order: 6 and 4 at order 1, 12 and 8 at order 2."""
        assert buddy_of(pfn, order) == buddy
        assert merged(pfn, order) == min(pfn, buddy)
        assert upper_half(min(pfn, buddy), order) == max(pfn, buddy)

    def test_cover(self):
        """A zone is covered by the fewest aligned blocks, without gap, none of which could merge."""
        for first in range(20):
            for pages in range(1, 40):
                at = first
                blocks = cover(first, pages, 4)
                for pfn, order in blocks:
                    assert pfn == at
                    assert pfn % (1 << order) == 0
                    assert order < 4
                    buddy = (buddy_of(pfn, order), order)
                    assert order == 3 or buddy not in blocks
                    at += 1 << order
                assert at == first + pages

    def test_holds_block(self):
        """A run holds a block exactly if some aligned start in it leaves room."""
        for low in range(12):
            for high in range(low, 30):
                for order in range(4):
                    size = 1 << order
                    starts = [pfn for pfn in range(low, high) if pfn % size == 0 and pfn + size <= high]
                    assert holds_block(low, high, order) == bool(starts)


class TestWorkedExamples:
    def test_one_page_out_of_1024(self):
        """Taking page 0 of 1024 leaves one block each at orders 0..9, at pages 1, 2, 4, ... 512."""
        zone = Buddy(pages=1024)
        assert free_blocks(zone) == {10: [0]}
        assert zone.alloc(PAGE) == 0
        assert free_blocks(zone) == {order: [1 << order] for order in range(10)}
        assert zone.cost() == {"probed": 11, "splits": 10, "merges": 0, "found": 1024 * PAGE}
        zone.free(0, PAGE)
        assert free_blocks(zone) == {10: [0]}
        assert zone.cost() == {"probed": 0, "splits": 0, "merges": 10, "found": 0}

    def test_merge_of_8_and_12(self):
        """Pages 8..11 and 12..15 of order 2 become 8..15 of order 3 while 0..7 is taken."""
        zone = Buddy(pages=16)
        assert zone.alloc(8 * PAGE) == 0
        assert zone.alloc(4 * PAGE) == 8 * PAGE
        assert zone.alloc(4 * PAGE) == 12 * PAGE
        zone.free(8 * PAGE, 4 * PAGE)
        assert free_blocks(zone) == {2: [8]}
        zone.free(12 * PAGE, 4 * PAGE)
        assert free_blocks(zone) == {3: [8]}

    def test_upper_halves_are_kept(self):
        """A split hands the lower half on and lists the upper one."""
        zone = Buddy(pages=8)
        assert zone.alloc(2 * PAGE) == 0
        assert [tuple(region) for region in zone.free_regions()] == [
            (0, 2 * PAGE, 2 * PAGE, 1),
            (0, 4 * PAGE, 4 * PAGE, 2),
        ]

    def test_lists_are_last_in_first_out(self):
        """The page freed last is handed out first."""
        zone = Buddy(pages=8, orders=1)
        pages = [zone.alloc(1) for _ in range(8)]
        for page in (pages[5], pages[2], pages[7]):
            zone.free(page, 1)
        assert [zone.alloc(1) for _ in range(3)] == [pages[7], pages[2], pages[5]]

    def test_smallest_sufficient_order(self):
        """A request splits the smallest block that is big enough, not the first of the zone."""
        zone = Buddy(pages=22)  # blocks of 16, 4 and 2 pages
        assert free_blocks(zone) == {4: [0], 2: [16], 1: [20]}
        assert zone.alloc(PAGE) == 20 * PAGE
        assert zone.alloc(4 * PAGE) == 16 * PAGE
        assert zone.alloc(2 * PAGE) == 0

    def test_no_merging_at_the_highest_order(self):
        """Two free blocks of the highest order stay apart, and no list beyond it is touched."""
        zone = Buddy(pages=2048)
        assert free_blocks(zone) == {10: [0, 1024]}
        first, second = zone.alloc(1024 * PAGE), zone.alloc(1024 * PAGE)
        zone.free(first, 1024 * PAGE)
        zone.free(second, 1024 * PAGE)
        assert sorted(free_blocks(zone)[10]) == [0, 1024]
        one, two = zone.free_regions()
        assert not zone.contract.mergeable(one, two)

    def test_merged_frames_leave_their_lists(self):
        """Ten single pages freed in order are never handed out twice afterwards."""
        zone = Buddy(pages=16)
        pages = [zone.alloc(1) for _ in range(10)]
        for page in pages:
            zone.free(page, 1)
        assert len({zone.alloc(1) for _ in range(16)}) == 16
        assert zone.alloc(1) is None

    def test_zone_start_off_alignment(self):
        """In a zone of pages 3..12 the block at 3 has its buddy outside and never merges with it."""
        zone = Buddy(pages=10, start=3)
        assert free_blocks(zone) == {0: [0, 9], 2: [1, 5]}
        taken = [zone.alloc(1) for _ in range(10)]
        assert sorted(taken) == [page * PAGE for page in range(10)]
        for address in taken:
            zone.free(address, 1)
        assert {order: sorted(pages) for order, pages in free_blocks(zone).items()} == {0: [0, 9], 2: [1, 5]}

    def test_high_orders_fail_first(self):
        """With every second page taken half of the zone is free, and no two pages can be had."""
        zone = Buddy(pages=64)
        pages = [zone.alloc(1) for _ in range(64)]
        for page in pages[::2]:
            zone.free(page, 1)
        assert zone.counters() == {"free_blocks": 32, "free_bytes": 32 * PAGE, "largest_block": PAGE}
        assert zone.alloc(PAGE + 1) is None
        assert zone.alloc(PAGE) is not None


class TestRequests:
    @pytest.mark.parametrize(
        ("size", "align", "answer"),
        [
            (0, 1, Refusal.INVALID),
            (-1, 1, Refusal.INVALID),
            (1, 0, Refusal.INVALID),
            (1, 3, Refusal.INVALID),
            (1, 8192, Refusal.INVALID),
            (16 * PAGE + 1, 1, Refusal.TOO_BIG),
            (2**32, 1, Refusal.TOO_BIG),
            (2**64 + 1, 1, Refusal.TOO_BIG),
            (2**64 + 1, 2**64, Refusal.INVALID),
        ],
    )
    def test_refused(self, size, align, answer):
        """Senseless and impossible requests are refused by name and change nothing."""
        zone = Buddy(pages=16)
        before = zone.snapshot()
        assert zone.alloc(size, align) is answer
        assert zone.snapshot() == before

    def test_largest_block_of_linux(self):
        """Orders 0 to 10 of 4096-byte pages: 4 MiB is served, a byte more is too big in any zone."""
        zone = Buddy(pages=4096)
        assert zone.contract.largest == 4 << 20 == 1024 * PAGE
        assert zone.alloc(4 << 20) is not None
        assert zone.alloc((4 << 20) + 1) is Refusal.TOO_BIG

    def test_small_objects_waste_inside_and_never_between(self):
        """Sixteen bytes cost a page, 4080 of them wasted; but any free page serves such a request."""
        zone = Buddy(pages=64)
        taken = [zone.alloc(16) for _ in range(64)]
        assert {zone.extents(address)[0][2] - 16 for address in taken} == {4080}
        for address in taken[1::2]:
            zone.free(address, 16)
        assert sorted(zone.alloc(16) for _ in range(32)) == taken[1::2]
        assert zone.alloc(16) is None

    def test_rounding_wastes_less_than_was_asked_for(self):
        """Of a block of n pages rounded up to a power of two fewer than n pages are wasted, for every n to 1024."""
        waste = Buddy(pages=1024).contract.waste
        worst = 0
        for pages in range(1, 1025):
            wasted = waste(pages * PAGE, 1) // PAGE
            assert wasted < pages
            worst = max(worst, wasted / (pages + wasted))
        assert worst == 511 / 1024  # 513 pages in 1024: just under half of the block

    def test_no_memory(self):
        """A full zone answers None."""
        zone = Buddy(pages=4)
        assert zone.alloc(4 * PAGE) == 0
        assert zone.alloc(1) is None

    def test_largest_is_that_of_the_zone(self):
        """The advertised maximum is the largest block that the zone can ever hold."""
        assert Buddy(pages=10, start=3).contract.largest == 4 * PAGE
        assert Buddy(pages=96, orders=5).contract.largest == 16 * PAGE
        assert Buddy(pages=96, orders=5).alloc(16 * PAGE) is not None

    @pytest.mark.parametrize(
        "parameters",
        [
            {"pages": 0},
            {"pages": -3},
            {"pages": "many"},
            {"page_size": 3000},
            {"page_size": 0},
            {"orders": 0},
            {"orders": 40},
            {"start": -1},
        ],
    )
    def test_bad_parameters(self, parameters):
        """Senseless parameters raise ValueError in one line."""
        with pytest.raises(ValueError, match=r"^[^\n]+$"):
            Buddy(**parameters)

    def test_contract_is_shared(self):
        """Zones with equal parameters share one contract."""
        assert Buddy(pages=64).contract is Buddy(pages=64).contract
        assert Buddy(pages=64).contract is not Buddy(pages=65).contract


class TestMisuse:
    def test_noticed(self):
        """Addresses outside, off a page, misaligned for their order or free are noticed."""
        zone = Buddy(pages=16)
        address = zone.alloc(2 * PAGE)
        before = zone.snapshot()
        for handle, size in [(1 << 48, 1), (-PAGE, 1), (address + 1, 1), (PAGE, 2 * PAGE), (2 * PAGE, 2 * PAGE)]:
            with pytest.raises(InvalidFree):
                zone.free(handle, size)
        with pytest.raises(InvalidFree):
            zone.free(address, 0)
        assert zone.snapshot() == before

    def test_second_free_of_an_unmerged_block(self):
        """A second free is noticed while the block stands as it was freed."""
        zone = Buddy(pages=4)
        first = zone.alloc(1)
        zone.alloc(1)
        zone.free(first, 1)
        with pytest.raises(InvalidFree, match="already free"):
            zone.free(first, 1)

    def test_a_wrong_order_goes_unnoticed(self):
        """A block of two pages freed as one loses the other: the caller must remember the order."""
        zone = Buddy(pages=4)
        address = zone.alloc(2 * PAGE)
        zone.free(address, PAGE)
        assert zone.counters()["free_bytes"] == 3 * PAGE
        assert zone.contract.sized_free
        assert "size" not in zone.contract.detects

    def test_what_goes_unnoticed_is_not_promised(self):
        """A second free of a block that was merged away passes, so the contract does not claim it."""
        zone = Buddy(pages=4)
        first, second = zone.alloc(1), zone.alloc(1)
        zone.free(first, 1)
        zone.free(second, 1)
        zone.free(second, 1)  # now in the middle of a block of order 2
        assert zone.contract.detects == {"foreign"}

    def test_cyclic_list_is_noticed(self):
        """A free list that leads into itself ends the walk with an error."""
        zone = Buddy(pages=8, orders=1)
        zone._zones[0]._next[3] = 3
        with pytest.raises(RuntimeError, match="does not end"):
            list(zone.lists())

    def test_lost_page_is_noticed(self):
        """A page that begins no block and lies in none ends the walk with an error."""
        zone = Buddy(pages=8)
        zone._zones[0].head[0] = 0
        with pytest.raises(RuntimeError, match="belongs to none"):
            list(zone.free_regions())


class TestContents:
    def test_blocks_keep_their_bytes(self):
        """Bytes written to a block are read again and stay out of its neighbour."""
        zone = Buddy(pages=4)
        one, two = zone.alloc(PAGE), zone.alloc(PAGE)
        zone.write(one, 0, b"\1" * PAGE)
        zone.write(two, 10, b"\2" * 20)
        assert zone.read(one, PAGE - 4, 4) == b"\1" * 4
        assert zone.read(two, 8, 4) == b"\0\0\2\2"
        with pytest.raises(ValueError, match="leave the zone"):
            zone.write(two, 0, bytes(4 * PAGE))

    def test_restore(self):
        """A restored zone goes on exactly as the one that was recorded."""
        rng = random.Random(7)
        zone, live = Buddy(pages=32, page_size=16), []
        for _ in range(200):
            churn(zone, live, rng)
        for handle, size, _ in live:
            zone.write(handle, 0, bytes([size & 255]) * size)
        state, held = zone.snapshot(), list(live)
        other = Buddy(pages=32, page_size=16)
        other.restore(state)
        assert other.snapshot() == state
        assert hash(state) == hash(other.snapshot())
        ahead = [churn(zone, live, random.Random(seed)) for seed in range(50)]
        again = [churn(other, held, random.Random(seed)) for seed in range(50)]
        assert ahead == again
        assert zone.snapshot() == other.snapshot()


def churn(zone, live, rng):
    """One random operation; what it answered."""
    if live and rng.random() < 0.5:
        handle, size, _ = live.pop(rng.randrange(len(live)))
        zone.free(handle, size)
        return handle
    size = rng.randint(1, zone.contract.granule << rng.randrange(5))
    handle = zone.alloc(size)
    if isinstance(handle, int):
        live.append((handle, size, rng.randrange(256)))
    return handle


def check_everything(zone, live, pages, orders, start, page_size):
    """M1 to M5 and M7 against a map of pages made from the live blocks alone."""
    taken = [False] * pages
    for handle, size, _ in live:
        ((_, address, length),) = zone.extents(handle)
        assert address == handle
        assert size <= length < max(2 * size, page_size + 1)  # less than half wasted above a page
        assert (handle // page_size + start) % (length // page_size) == 0  # M2
        for page in range(handle // page_size, (handle + length) // page_size):
            assert not taken[page]
            taken[page] = True
    regions = list(zone.free_regions())
    for region in regions:
        assert (region.start // page_size + start) % (region.length // page_size) == 0  # M2
        assert region.list_id == zone.contract.list_of(region)
        for page in range(region.start // page_size, (region.start + region.length) // page_size):
            assert not taken[page]
            taken[page] = True
    assert all(taken)  # M1: live and free blocks partition the zone
    free = {(region.start // page_size + start, region.list_id) for region in regions}
    assert not [(pfn, o) for pfn, o in free if o < orders - 1 and (buddy_of(pfn, o), o) in free]  # M3
    listed = [(address // page_size + start, order) for order, (_, address) in zone.lists()]
    assert sorted(listed) == sorted(free)  # M4
    counts = zone.nr_free()
    assert counts == tuple(sum(o == order for _, o in free) for order in range(orders))
    assert sum(count << order for order, count in enumerate(counts)) * page_size == zone.counters()["free_bytes"]


@pytest.mark.parametrize(
    ("pages", "orders", "start"),
    [(64, 11, 0), (61, 11, 3), (96, 5, 0), (37, 4, 1021), (1, 1, 0), (33, 1, 5), (1024, 11, 0)],
)
def test_invariants_on_random_runs(pages, orders, start):
    """After every operation the zone is partitioned, aligned, coalesced and counted; drained, it is as new."""
    page_size = 16
    zone = Buddy(pages=pages, page_size=page_size, orders=orders, start=start)
    fresh = sorted(zone.lists())
    rng, live, contract = random.Random(pages * 31 + orders), [], zone.contract
    shadow, births = Shadow(), 0
    for step in range(400):
        if live and rng.random() < 0.5:
            handle, size, name = live.pop(rng.randrange(len(live)))
            zone.free(handle, size)
            shadow.remove(shadow.live[name])
        else:
            size = rng.randint(1, page_size << rng.randrange(orders))
            able = contract.must_serve(Request(size), shadow, None)
            assert able != contract.must_refuse(Request(size), shadow, None)
            handle = zone.alloc(size)
            assert able == isinstance(handle, int)  # M7: the refusal criterion is exact
            if able:
                block = Block(births, handle, size, 1, zone.extents(handle))
                assert contract.geometry(block) is None
                assert block.extents[0][2] - size <= contract.waste(size, 1)
                shadow.add(block)
                live.append((handle, size, births))
                births += 1
        if step % 8 == 0:
            check_everything(zone, live, pages, orders, start, page_size)
    assert births > 20
    for handle, size, _ in live:
        zone.free(handle, size)
    assert sorted(zone.lists()) == fresh  # M6
    check_everything(zone, [], pages, orders, start, page_size)
    assert zone.alloc(contract.drained_size) is not None


def test_geometry_objects_to_wrong_places():
    """The contract's geometry names a block that is misaligned or of the wrong length."""
    geometry = Buddy(pages=16, start=1).contract.geometry
    assert geometry(Block(0, 0, 2 * PAGE, 1, ((0, 0, 2 * PAGE),))) == "page 1 begins no block of order 1"
    assert geometry(Block(0, PAGE, 2 * PAGE, 1, ((0, PAGE, 2 * PAGE),))) is None
    assert "no block of order 0" in geometry(Block(0, 0, 1, 1, ((0, 0, 2 * PAGE),)))


def test_metadata_within_its_bound():
    """Metadata lies beside the pages: 64 bytes a page and 24 a list."""
    zone = Buddy(pages=1024)
    assert zone.metadata() == (0, 1024 * 64 + 11 * 24)
    assert sum(zone.metadata()) <= zone.contract.metadata_bound(Shadow(), None)
