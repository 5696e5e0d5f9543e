"""The sub-page buddy allocator: worked examples, sums over all sizes, misuse, invariants on random runs."""

import random
from fractions import Fraction

import pytest

from heaplaw import Block, InvalidFree, Refusal, Request, Shadow
from heaplaw.impls import buddy_zone, pages_arithmetic, subpage_buddy
from heaplaw.impls.pages_arithmetic import buddy_of
from heaplaw.impls.subpage_buddy import SubpageBuddy
from heaplaw.operations import Kind, Operation
from heaplaw.runs import run

PAGE = 4096


def block_of(size, align=1, smallest=16):
    """The least power of two that holds all three; by doubling, independent of the allocator's arithmetic."""
    length = smallest
    while length < max(size, align):
        length *= 2
    return length


def length(heap, handle):
    ((_, start, bytes_),) = heap.extents(handle)
    assert start == handle
    return bytes_


def free_blocks(heap):
    """Lists as {order: [address, ...]}, first to last."""
    blocks = {}
    for order, (_, address) in heap.lists():
        blocks.setdefault(order, []).append(address)
    return blocks


class TestWorkedExamples:
    @pytest.mark.parametrize(
        ("size", "block"),
        [(0, 16), (1, 16), (16, 16), (17, 32), (2048, 2048), (2049, 4096), (4095, 4096), (4096, 4096),
         (4097, 8192), (3 * PAGE, 4 * PAGE)],
    )  # fmt: skip
    def test_block_of_a_size(self, size, block):
        """Sizes 0 and 1 take 16 bytes, 17 takes 32, 2048 takes 2048, 2049 a page, and three pages take four."""
        heap = SubpageBuddy(pages=8)
        assert length(heap, heap.alloc(size)) == block

    def test_every_size_to_four_pages(self):
        """Every size from 0 to 16384 takes the power of two above it, naturally aligned."""
        heap = SubpageBuddy(pages=8)
        for size in range(4 * PAGE + 1):
            handle = heap.alloc(size)
            assert length(heap, handle) == block_of(size)
            assert handle % block_of(size) == 0
            heap.free(handle)
        assert heap.source.held == 0

    def test_two_halves_to_a_page(self):
        """Two objects of 2048 bytes share a page; two of 2049 take a page each."""
        heap = SubpageBuddy(pages=8)
        assert [heap.alloc(2048), heap.alloc(2048)] == [0, 2048]
        assert heap.source.held == 1
        heap = SubpageBuddy(pages=8)
        assert [heap.alloc(2049), heap.alloc(2049)] == [0, PAGE]
        assert heap.source.held == 2

    def test_no_header(self):
        """A page less one byte and a whole page both take exactly one page: nothing is kept beside them."""
        for size in (PAGE - 1, PAGE):
            heap = SubpageBuddy(pages=8)
            heap.alloc(size)
            assert heap.source.held == 1
            assert heap.metadata()[0] == 0

    @pytest.mark.parametrize(("pages", "taken"), [(1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (8, 8)])
    def test_large_requests_take_powers_of_two_pages(self, pages, taken):
        """A request of n pages takes the power of two above it, and a byte more the next one."""
        heap = SubpageBuddy(pages=16)
        heap.alloc(pages * PAGE)
        assert heap.source.held == taken
        heap = SubpageBuddy(pages=16)
        heap.alloc(pages * PAGE + 1)
        assert heap.source.held == (taken if pages < taken else 2 * taken)

    def test_upper_halves_are_listed(self):
        """The smallest request in a new page takes eight splits and leaves a block of each order 4 to 11."""
        heap = SubpageBuddy(pages=4)
        assert heap.alloc(1) == 0
        assert heap.cost() == {"probed": 1, "splits": 8, "merges": 0, "found": PAGE}
        assert free_blocks(heap) == {order: [1 << order] for order in range(4, 12)}
        heap.free(0)
        assert heap.cost() == {"probed": 0, "splits": 0, "merges": 8}
        assert free_blocks(heap) == {}
        assert heap.source.held == 0

    def test_lowest_order_and_last_in_first_out(self):
        """A request takes the lowest order that will do, and there the block that was freed last."""
        heap = SubpageBuddy(pages=4)
        blocks = [heap.alloc(512) for _ in range(8)]
        for index in (1, 5, 3):
            heap.free(blocks[index])
        assert free_blocks(heap) == {9: [blocks[3], blocks[5], blocks[1]]}
        assert heap.alloc(512) == blocks[3]
        assert heap.alloc(16) == blocks[5]
        heap.free(blocks[6])
        heap.free(blocks[7])
        assert free_blocks(heap)[10] == [blocks[6]]
        assert heap.alloc(300) == blocks[1]  # of order 9, not a half of the block of order 10

    def test_blocks_of_different_pages_never_merge(self):
        """The last free block of a page and the first of the next stay two."""
        heap = SubpageBuddy(pages=4)
        one, two, three, four = (heap.alloc(2048) for _ in range(4))
        heap.free(two)
        heap.free(three)
        assert sorted(free_blocks(heap)[11]) == [two, three]
        heap.free(four)
        assert heap.source.held == 1
        heap.free(one)
        assert heap.source.held == 0

    def test_alignment(self):
        """An alignment counts as a size: one byte on a page is a page, on two pages two."""
        heap = SubpageBuddy(pages=8)
        for align in (1, 16, 64, 2048, PAGE, 2 * PAGE, 4 * PAGE):
            handle = heap.alloc(1, align)
            assert handle % align == 0
            assert length(heap, handle) == max(16, align)

    def test_smallest_of_32(self):
        """With blocks of 32 bytes a page splits seven times, and sizes to 32 take 32."""
        heap = SubpageBuddy(pages=4, smallest=32)
        assert length(heap, heap.alloc(1)) == 32
        assert heap.cost()["splits"] == 7
        assert length(heap, heap.alloc(33)) == 64

    def test_the_arithmetic_is_that_of_pages(self):
        """Buddies inside a page and buddies of pages are found by the same functions."""
        for name in ("buddy_of", "merged", "upper_half"):
            assert getattr(subpage_buddy, name) is getattr(pages_arithmetic, name) is getattr(buddy_zone, name)


class TestWaste:
    """Sums over all sizes, so that nothing is left to chance."""

    def waste(self, size):
        return SubpageBuddy(pages=8).contract.waste(size, 1)

    def test_just_over_half_a_page(self):
        """2049 bytes take a page: 2047 wasted, just under half."""
        assert self.waste(2049) == 2047
        assert Fraction(self.waste(2049), PAGE) == Fraction(2047, 4096)

    def test_less_than_half_of_a_block(self):
        """Above half the smallest block waste is less than the request and less than half of the block."""
        for size in range(9, 8 * PAGE + 1):
            block = size + self.waste(size)
            assert block == block_of(size)
            assert 2 * self.waste(size) < block
            assert self.waste(size) < size

    def test_the_bound_fails_below_the_minimum(self):
        """From 0 to 8 bytes the smallest block wastes half of itself or more, so the bound begins at 9 bytes."""
        assert [self.waste(size) for size in range(9)] == [16, 15, 14, 13, 12, 11, 10, 9, 8]

    def test_worst_just_above_a_power_of_two(self):
        """Within each octave the wasted share falls with the size: it is worst at 2**k + 1."""
        for order in range(4, 14):
            shares = [Fraction(self.waste(size), size) for size in range((1 << order) + 1, (2 << order) + 1)]
            assert shares == sorted(shares, reverse=True)
            assert shares[0] == Fraction((1 << order) - 1, (1 << order) + 1)

    def test_uniform_sizes_above_half_a_page(self):
        """Sizes 2049 to 4096 fill their pages to 6145/8192, 75.01 percent, on average."""
        sizes = range(2049, 4097)
        used = Fraction(sum(sizes), sum(size + self.waste(size) for size in sizes))
        assert used == Fraction(6145, 8192)
        assert round(float(used), 3) == 0.75

    def test_uniform_sizes_up_to_a_page(self):
        """Without a minimum sizes 1 to 4096 take 2730.7 bytes for 2048.5 on average, one third more."""
        waste = SubpageBuddy(pages=8, smallest=1).contract.waste
        sizes = range(1, 4097)
        blocks = sum(size + waste(size, 1) for size in sizes)
        assert blocks == 11_184_811
        assert round(blocks / 4096, 1) == 2730.7
        assert sum(sizes) / 4096 == 2048.5
        assert round(blocks / sum(sizes), 3) == 1.333

    def test_the_minimum_hardly_adds_to_that(self):
        """A smallest block of 16 bytes adds 85 bytes to the 11,184,811 of all sizes to a page."""
        assert sum(size + self.waste(size) for size in range(1, 4097)) == 11_184_811 + 85

    def test_those_blocks_are_what_is_handed_out(self):
        """The sums hold for the blocks that the allocator hands out, size by size."""
        heap, total = SubpageBuddy(pages=1), 0
        for size in range(1, 4097):
            handle = heap.alloc(size)
            total += length(heap, handle)
            heap.free(handle)
        assert total == 11_184_896


class TestRequests:
    @pytest.mark.parametrize(
        ("size", "align", "answer"),
        [
            (-1, 1, Refusal.INVALID),
            (1, 0, Refusal.INVALID),
            (1, 3, Refusal.INVALID),
            (1, 12, Refusal.INVALID),
            (8 * PAGE + 1, 1, Refusal.TOO_BIG),
            (1, 16 * PAGE, Refusal.TOO_BIG),
            (2**32, 1, Refusal.TOO_BIG),
            (2**64 + 1, 1, Refusal.TOO_BIG),
            (2**64 + 1, 3, Refusal.INVALID),
        ],
    )
    def test_refused(self, size, align, answer):
        """Senseless and impossible requests are refused by name and change nothing."""
        heap = SubpageBuddy(pages=8)
        heap.alloc(100)
        before = heap.snapshot()
        assert heap.alloc(size, align) is answer
        assert heap.snapshot() == before

    def test_refused_pages_change_nothing(self):
        """When a page is refused nothing has changed; blocks of pages held are served all the same."""
        heap = SubpageBuddy(pages=8)
        heap.alloc(16)
        before = heap.snapshot()
        for size in (PAGE, 4 * PAGE):
            heap.source.fail_next(0, 1)
            assert heap.alloc(size) is None
            assert heap.snapshot() == before
        heap.source.fail_next(0, 1)
        assert heap.alloc(2048) == 2048
        heap.source.fail_next(0, 0)

    def test_no_pages_left(self):
        """With all pages held a whole page is refused, and the free halves are still served."""
        heap = SubpageBuddy(pages=2)
        assert [heap.alloc(PAGE), heap.alloc(16)] == [0, PAGE]
        assert heap.alloc(2049) is None
        assert heap.alloc(2048) == PAGE + 2048

    def test_largest_run(self):
        """The largest request is the longest aligned run of pages, or what ``orders`` allows."""
        assert SubpageBuddy(pages=7).contract.largest == 4 * PAGE
        assert SubpageBuddy(pages=64, orders=3).contract.largest == 4 * PAGE
        assert SubpageBuddy(pages=7).alloc(4 * PAGE) == 0

    @pytest.mark.parametrize(
        "parameters",
        [
            {"pages": 0},
            {"pages": "many"},
            {"page_size": 3000},
            {"page_size": 8},
            {"smallest": 0},
            {"smallest": 24},
            {"smallest": 8192},
            {"orders": 0},
            {"orders": 40},
        ],
    )
    def test_bad_parameters(self, parameters):
        """Senseless parameters raise ValueError in one line."""
        with pytest.raises(ValueError, match=r"^[^\n]+$"):
            SubpageBuddy(**parameters)

    def test_contract_is_shared(self):
        """Heaps with equal parameters share one contract."""
        assert SubpageBuddy(pages=64).contract is SubpageBuddy(pages=64).contract


class TestMisuse:
    def test_null(self):
        """Freeing no object at all is allowed; address 0 is an object like any other."""
        heap = SubpageBuddy(pages=4)
        assert heap.alloc(16) == 0
        heap.free(None)
        assert heap.source.held == 1
        heap.free(0)
        assert heap.source.held == 0

    def test_every_interior_address_is_noticed(self):
        """Without headers the metadata tell: of 8192 addresses in two pages exactly the live blocks can be freed."""
        heap = SubpageBuddy(pages=4)
        live = {heap.alloc(size) for size in (16, 100, 1000, 2048, 17, 300)}
        gone = heap.alloc(64)
        heap.free(gone)
        before = heap.snapshot()
        for address in range(2 * PAGE):
            if address not in live:
                with pytest.raises(InvalidFree):
                    heap.free(address)
                with pytest.raises(ValueError, match="no live block"):
                    heap.extents(address)
        assert heap.snapshot() == before
        for address in live:
            heap.free(address)
        assert heap.source.held == 0

    def test_inside_a_run_of_pages(self):
        """In a run of four pages only its first address can be freed, and only once."""
        heap = SubpageBuddy(pages=8)
        start = heap.alloc(3 * PAGE)
        for address in (start + 16, start + PAGE, start + 3 * PAGE, start + 4 * PAGE, -PAGE, 1 << 48):
            with pytest.raises(InvalidFree):
                heap.free(address)
        heap.free(start)
        with pytest.raises(InvalidFree):
            heap.free(start)

    @pytest.mark.parametrize("kept", [0, 1])
    def test_second_free(self, kept):
        """A second free is noticed whether the block still stands, was merged away or went with its page."""
        heap = SubpageBuddy(pages=4)
        blocks = [heap.alloc(1024) for _ in range(4)]
        for block in blocks[kept:]:
            heap.free(block)
        for block in blocks[kept:]:
            with pytest.raises(InvalidFree):
                heap.free(block)

    def test_lost_block_is_noticed(self):
        """A stretch that begins no block and lies in none ends the walk with an error."""
        heap = SubpageBuddy(pages=4)
        heap.alloc(16)
        heap._heads[0][1] = 0
        with pytest.raises(RuntimeError, match="belongs to none"):
            list(heap.free_regions())


class TestStates:
    def test_contents(self):
        """Bytes written to a block are read again and stay out of its neighbour."""
        heap = SubpageBuddy(pages=2)
        one, two = heap.alloc(16), heap.alloc(16)
        heap.write(one, 0, b"\1" * 16)
        heap.write(two, 4, b"\2" * 4)
        assert heap.read(one, 12, 4) == b"\1" * 4
        assert heap.read(two, 2, 4) == b"\0\0\2\2"
        with pytest.raises(ValueError, match="leave the memory"):
            heap.write(two, 0, bytes(2 * PAGE))

    def test_destroy(self):
        """Destroying a heap gives back divided pages and runs alike."""
        heap = SubpageBuddy(pages=8)
        for size in (16, 4096, 8192, 3000):
            heap.alloc(size)
        heap.destroy()
        assert heap.source.held == 0
        assert list(heap.pages()) == list(heap.lists()) == []
        assert heap.alloc(8192) == 0

    def test_restore(self):
        """A restored heap goes on exactly as the one that was recorded, contents included."""
        rng = random.Random(5)
        heap, live = SubpageBuddy(pages=16, page_size=256), []
        for _ in range(300):
            churn(heap, live, rng)
        state, held = heap.snapshot(), list(live)
        images = [heap.read(handle, 0, 1) for handle in live]
        ahead = [churn(heap, live, random.Random(seed)) for seed in range(60)]
        after = heap.snapshot()
        for other in (heap, SubpageBuddy(pages=16, page_size=256)):
            other.restore(state)
            assert other.snapshot() == state
            assert hash(other.snapshot()) == hash(state)
            assert [other.read(handle, 0, 1) for handle in held] == images
            live = list(held)
            assert [churn(other, live, random.Random(seed)) for seed in range(60)] == ahead
            assert other.snapshot() == after


def churn(heap, live, rng):
    """One random operation; what it answered."""
    if live and rng.random() < 0.5:
        handle = live.pop(rng.randrange(len(live)))
        heap.free(handle)
        return handle
    handle = heap.alloc(rng.randint(0, 16 << rng.randrange(7)))
    if isinstance(handle, int):
        heap.write(handle, 0, bytes([rng.randrange(256)]))
        live.append(handle)
    return handle


def check_everything(heap, shadow):
    """M1 to M4 against the live blocks alone."""
    page_size = heap.source.page_size
    top = page_size.bit_length() - 1
    regions = list(heap.free_regions())
    taken = {}
    blocks = [(block.handle, block.length) for block in shadow.live.values()]
    for start, size in [*blocks, *((region.start, region.length) for region in regions)]:
        assert start % size == 0  # M1: aligned
        for unit in range(start, start + size, heap.contract.granule):
            assert unit not in taken
            taken[unit] = size
    assert len(taken) * heap.contract.granule == heap.source.held * page_size  # M1: they tile the pages
    free = {(region.start, region.list_id) for region in regions}
    assert all((1 << order) == region.length for region, (_, order) in zip(regions, sorted(free), strict=True))
    assert not [(at, order) for at, order in free if order < top and (buddy_of(at, order), order) in free]  # M2
    assert sorted((address, order) for order, (_, address) in heap.lists()) == sorted(free)  # M3
    filled = {order for _, order in free}
    assert {bit.lists[0] for bit in heap.list_bits() if bit.is_set} == filled  # M3
    assert all(region.length < page_size for region in regions)  # M4: no page that is wholly free
    assert {(page, 1 << order) for page, order in heap.source.runs.items()} == set(heap.pages())
    assert sum(heap.metadata()) <= heap.contract.metadata_bound(shadow, heap.source)


@pytest.mark.parametrize(
    "parameters",
    [
        {"pages": 16, "page_size": 256},
        {"pages": 4},
        {"pages": 7, "page_size": 64, "orders": 2},
        {"pages": 8, "page_size": 128, "smallest": 32},
        {"pages": 8, "page_size": 16},
    ],
    ids=str,
)
def test_invariants_on_random_runs(parameters):
    """After every operation pages are tiled, coalesced and listed; a page is taken exactly when no block will do."""
    heap = SubpageBuddy(**parameters)
    contract, source, shadow = heap.contract, heap.source, Shadow()
    rng, refused, grown = random.Random(str(parameters)), 0, 0
    for birth in range(1200):
        if shadow.live and rng.random() < (0.3 if birth % 300 < 150 else 0.7):
            block = shadow.live[rng.choice(shadow.names)]
            heap.free(block.handle)
            shadow.remove(block)
        else:
            size, align = rng.randint(0, contract.largest >> rng.randrange(6)), 1 << rng.randrange(8)
            need = block_of(size, align, contract.granule)
            if need > contract.largest:
                assert contract.must_refuse(Request(size, align), shadow, source)
                continue
            ready = any(region.length >= need for region in heap.free_regions())
            able, held = contract.must_serve(Request(size, align), shadow, source), source.held
            handle = heap.alloc(size, align)
            assert able == isinstance(handle, int)
            if not able:
                assert source.held == held
                refused += 1
                continue
            assert (source.held > held) == (not ready)  # M7
            assert source.held - held in (0, -(-need // source.page_size))  # M5
            grown += not ready
            block = Block(birth, handle, size, align, heap.extents(handle))
            assert contract.geometry(block) is None
            assert block.extents[0][2] == need == size + contract.waste(size, align)
            shadow.add(block)
        if birth % 4 == 0:
            check_everything(heap, shadow)
    assert refused > 20
    assert grown > 20
    for block in list(shadow.live.values()):
        heap.free(block.handle)
    assert source.held == 0  # M6
    assert heap.alloc(contract.drained_size) is not None


class Sticky(SubpageBuddy):
    """Leaves on its list what it hands out."""

    def _take_first(self, order):
        block = super()._take_first(order)
        self._free[order][block] = None
        self._nonempty |= 1 << order
        return block


class Unmerged(SubpageBuddy):
    """Stops one order too early."""

    def _merge(self, heads, block, order):
        return (block, order) if order == self._shift - 2 else super()._merge(heads, block, order)


class Hoarding(SubpageBuddy):
    """Keeps a page that is wholly free."""

    def _release(self, page):
        self._free.append({})
        self._insert(self._heads[page], page * PAGE, 12)


class StaleBit(SubpageBuddy):
    """Leaves the bit of a list that has become empty."""

    def _take_first(self, order):
        block = super()._take_first(order)
        self._nonempty |= 1 << order
        return block


class Wasteful(SubpageBuddy):
    """Takes a new page unless a block of exactly the right order is free."""

    def _search(self, order):
        return order if self._nonempty >> order & 1 else -1


class Trusting(SubpageBuddy):
    """Frees whatever block an address lies in."""

    def free(self, handle):
        while handle % PAGE and not self._heads[handle // PAGE][handle % PAGE >> 4]:
            handle -= 16
        super().free(handle)


def alloc(birth, size):
    return Operation(Kind.ALLOC, birth, size)


@pytest.mark.parametrize(
    ("wrong", "operations", "law"),
    [
        (Sticky, [alloc(0, 2048), alloc(1, 2048)], "counters"),
        (Unmerged, [alloc(0, 1024), alloc(1, 1024), alloc(2, 16), Operation(Kind.FREE, 0), Operation(Kind.FREE, 1)],
         "coalesced"),
        (Hoarding, [alloc(0, PAGE), Operation(Kind.FREE, 0), Operation(Kind.DRAIN)], "drain"),
        (StaleBit, [alloc(0, 2048), alloc(1, 2048)], "bitmap"),
        (Wasteful, [alloc(0, 16), alloc(1, 4096), alloc(2, 8192), alloc(3, 16), alloc(4, 16)], "no-spurious-refusal"),
        (Trusting, [alloc(0, 64), Operation(Kind.BAD_FREE, 0, mode="interior")], "bad-free-rejected"),
    ],
)  # fmt: skip
def test_what_the_laws_catch(wrong, operations, law):
    """A few operations convict an allocator that errs inside pages, and not the one that does not."""
    found = run(lambda: wrong(pages=4), operations)
    assert found is not None
    assert found.law == law
    assert run(lambda: SubpageBuddy(pages=4), operations) is None
