"""xvmalloc: index arithmetic, headers in the page, densities, good fit, every invariant on random runs."""

import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heaplaw import Block, Context, FreeRegion, InvalidFree, Kind, Operation, PageSource, Refusal, Request, Shadow
from heaplaw.impls.tlsf import Tlsf
from heaplaw.impls.xvmalloc import Xvmalloc
from heaplaw.impls.xvmalloc_index import LEAST, free_lists, insert_index, list_start, search_index
from heaplaw.impls.xvmalloc_promises import configured
from heaplaw.runs import run

PAGE, HEADER = 4096, 4
CAPACITY = PAGE - HEADER  # 4092
FREE, PREV_FREE = 1, 2
ATOMIC = Context(atomic=True)


def header(pool, handle):
    """(size, prev, flags) before a payload, as they stand in the page."""
    size, tag = struct.unpack_from("=HH", pool.source.memory, handle - pool._header)
    return size, tag & ~3, tag & 3


def blocks(pool, page):
    """(offset of the payload, bytes, size field, prev, flags) of every block of a page, by its headers alone."""
    page_size, head = pool.source.page_size, pool._header
    at, found = page * page_size, []
    while at < (page + 1) * page_size:
        size, prev, flags = header(pool, at + head)
        length = size if flags & FREE else -(-size // head) * head
        found.append((at + head - page * page_size, length, size, prev, flags))
        at += head + length
    assert at == (page + 1) * page_size
    return found


def listed(pool):
    """{index: [payload address, ...]} straight along the links in the pages."""
    lists = {}
    for index, block in pool._listed():
        lists.setdefault(index, []).append(block + pool._header)
    return lists


def assert_sound(pool, live):
    """M1 to M8, for live objects {handle: size}."""
    page_size, head = pool.source.page_size, pool._header
    seen, free = {}, {}
    for page in pool.source.runs:
        chain = blocks(pool, page)
        assert sum(length + head for _, length, *_ in chain) == page_size  # M1
        before = None
        for offset, length, size, prev, flags in chain:
            address = page * page_size + offset
            was_free = before is not None and bool(before[4] & FREE)
            assert not (was_free and flags & FREE)  # M2
            assert bool(flags & PREV_FREE) == was_free  # M3
            if was_free:
                assert prev == before[0] - head
            if flags & FREE:
                free[address] = length
            else:
                seen[address] = size
                assert pool.extents(address) == ((0, address, -(-size // head) * head),)
            before = (offset, length, size, prev, flags)
    assert seen == live  # M7
    where = {address: index for index, members in listed(pool).items() for address in members}
    assert where == {a: insert_index(n, page_size - head) for a, n in free.items() if n >= LEAST}  # M4
    word = pool._bit_mask + 1
    for index in range(free_lists(page_size - head)):  # M5
        assert pool._slbitmap[index // word] >> index % word & 1 == (index in where.values())
    for number, bits in enumerate(pool._slbitmap):
        assert pool._flbitmap >> number & 1 == bool(bits)
    assert page_size - head not in free.values()  # M6
    assert pool.counters()["pages"] == pool.source.held == len({a // page_size for a in live})  # M8
    assert pool.metadata()[0] == head * (len(live) + len(free))


class TestArithmetic:
    def test_constants(self):
        """Lists begin at 32 bytes, 8 apart: 508 of them for payloads up to 4092, in 8 words of 64 or 16 of 32."""
        assert (LEAST, free_lists(CAPACITY)) == (32, 508)
        assert len(Xvmalloc(word=64)._slbitmap) == 8
        assert len(Xvmalloc(word=32)._slbitmap) == 16
        assert [list_start(index) for index in (0, 1, 507)] == [32, 40, 4088]

    @pytest.mark.parametrize(
        ("size", "search", "insert"),
        [(33, 1, 0), (40, 1, 1), (44, 2, 1), (2044, 252, 251), (2048, 252, 252), (4088, 507, 507), (4092, 508, 507)],
    )
    def test_worked_indexes(self, size, search, insert):
        """Search and insert indexes of these sizes, by hand from the formulas."""
        assert search_index(size) == search
        assert insert_index(size, CAPACITY) == insert

    def test_limits_of_the_indexes(self):
        """Searches for less than 32 bytes begin at list 0, and no block is filed past the last list."""
        assert {search_index(size) for size in range(1, 33)} == {0}
        assert insert_index(PAGE, CAPACITY) == insert_index(65535, CAPACITY) == insert_index(CAPACITY, CAPACITY) == 507

    @given(request=st.integers(1, CAPACITY), block=st.integers(LEAST // 4, CAPACITY // 4).map(lambda n: 4 * n))
    def test_good_fit(self, request, block):
        """A block on the searched list, or a later one, is never smaller than the request."""
        if insert_index(block, CAPACITY) >= search_index(request):
            assert block >= request

    @given(request=st.integers(1, CAPACITY), block=st.integers(LEAST // 4, CAPACITY // 4).map(lambda n: 4 * n))
    def test_what_is_passed_over(self, request, block):
        """Blocks passed over though they are long enough are shorter than the request rounded up to 8."""
        if block >= request and insert_index(block, CAPACITY) < search_index(request):
            assert block < -(-max(request, LEAST) // 8) * 8

    @given(size=st.integers(LEAST, 65532))
    def test_lists_hold_eight_bytes(self, size):
        """List i holds the payloads in [32 + 8i, 40 + 8i)."""
        index = insert_index(size, 65532)
        assert 32 + 8 * index <= size < 40 + 8 * index

    @pytest.mark.parametrize("page_size", [64, 128, 512, 4096, 65536])
    def test_no_search_leaves_the_bitmap(self, page_size):
        """The list past the last one, which a search for a page less its header names, has a bit all the same."""
        for word in (32, 64):
            pool = Xvmalloc(page_size=page_size, word=word)
            assert search_index(page_size - HEADER) == len(pool._freelist)
            assert search_index(page_size - HEADER) // word < len(pool._slbitmap)


class TestHeaders:
    def test_first_object(self):
        """An object of 100 bytes stands at offset 4 behind its header; the rest of the page is one free block."""
        pool = Xvmalloc()
        handle = pool.alloc(100)
        assert divmod(handle, PAGE) == (0, 4)
        assert header(pool, handle) == (100, 0, 0)
        assert header(pool, 108) == (4092 - 104, 0, FREE)
        assert list(pool.free_regions()) == [FreeRegion(0, 108, 3988, insert_index(3988, CAPACITY))]

    def test_a_fresh_page(self):
        """A fresh page is one free block of 4092 bytes, without a free one before it."""
        pool = Xvmalloc(rev="2.6.33")
        assert pool.alloc(4092) is None  # leaves one behind
        assert header(pool, 4) == (4092, 0, FREE)
        assert listed(pool) == {507: [4]}

    def test_the_size_field_is_what_was_asked_for(self):
        """A used block's size is the request as made, its length that aligned up to 4."""
        pool = Xvmalloc()
        handle = pool.alloc(101)
        assert pool.get_object_size(handle) == header(pool, handle)[0] == 101
        assert pool.extents(handle) == ((0, 4, 104),)
        pool.write(handle, 103, b"x")
        with pytest.raises(ValueError, match="104"):
            pool.write(handle, 104, b"x")

    @pytest.mark.parametrize(("word", "layout"), [(64, "=4xQQHH"), (32, "=IIHH")])
    def test_links_are_pairs(self, word, layout):
        """A link is a page and an offset; a page stands as its number plus one, and no page is 0."""
        pool = Xvmalloc(word=word)
        for _ in range(3):  # three pages with a block of 1060 bytes at offset 3032
            pool.alloc(3028)
        seen = [struct.unpack_from(layout, pool.source.memory, page * PAGE + 3032 + 4) for page in range(3)]
        assert seen == [(2, 0, 3032, 0), (3, 1, 3032, 3032), (0, 2, 0, 3032)]

    def test_exact_fit(self):
        """A request that fills a hole clears PREV_FREE of the block behind it; at the page's end there is none."""
        pool = Xvmalloc(pages=1)
        a, b = pool.alloc(40), pool.alloc(100)
        pool.free(a)
        assert header(pool, b) == (100, 0, PREV_FREE)
        assert pool.alloc(40) == a
        assert header(pool, b) == (100, 0, 0)
        last = pool.alloc(4092 - 44 - 104)
        assert last is not None
        assert list(pool.free_regions()) == []

    @pytest.mark.parametrize("left", range(0, 32, 4))
    def test_remainders_that_cannot_be_listed(self, left):
        """What a split leaves is a free block even of 0 bytes; below 32 it is on no list."""
        pool = Xvmalloc(pages=1)
        first = pool.alloc(400)
        guard = pool.alloc(100)
        pool.free(first)
        small = pool.alloc(400 - 4 - left)
        assert small == first
        rest = small + 400 - 4 - left + 4
        assert header(pool, rest) == (left, 0, FREE)
        assert header(pool, guard) == (100, rest - 4, PREV_FREE)
        assert FreeRegion(0, rest, left, None) in list(pool.free_regions())
        assert rest not in [address for members in listed(pool).values() for address in members]
        pool.free(small)
        assert FreeRegion(0, first, 400, 46) in list(pool.free_regions())
        assert_sound(pool, {guard: 100})

    def test_bare_header_at_the_end_of_the_page(self):
        """4088 bytes leave 4, the header of a free block without a byte, which ends the page."""
        pool = Xvmalloc(pages=1)
        handle = pool.alloc(4088)
        assert blocks(pool, 0) == [(4, 4088, 4088, 0, 0), (4096, 0, 0, 0, FREE)]
        assert list(pool.free_regions()) == [FreeRegion(0, 4096, 0, None)]
        assert_sound(pool, {handle: 4088})

    def test_stale_bytes_of_an_object(self):
        """A remainder's header is set whole: nothing of the contents that stood there shows in it."""
        pool = Xvmalloc(pages=1)
        first, guard = pool.alloc(400), pool.alloc(100)
        pool.write(first, 0, b"\xff" * 400)
        pool.free(first)
        second = pool.alloc(96)
        assert header(pool, second + 100) == (400 - 100, 0, FREE)
        assert_sound(pool, {second: 96, guard: 100})

    def test_a_stray_write_shows(self):
        """Headers are in the page: a byte written before an object changes what the pool says of it."""
        pool = Xvmalloc()
        handle = pool.alloc(100)
        pool.source.memory[handle - 4] = 90
        assert pool.get_object_size(handle) == 90
        pool.source.memory[handle - 3] = 255
        with pytest.raises(RuntimeError, match="past its page"):
            list(pool.free_regions())


class TestMerging:
    @pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)])
    def test_three_neighbours(self, order):
        """Three neighbours freed in any order are one free block of 308 bytes, and the next knows where it begins."""
        pool = Xvmalloc()
        three = [pool.alloc(100) for _ in range(3)]
        guard = pool.alloc(100)
        for index in order:
            pool.free(three[index])
        assert FreeRegion(0, 4, 308, 34) in list(pool.free_regions())
        assert header(pool, guard) == (100, 0, PREV_FREE)
        assert_sound(pool, {guard: 100})

    @pytest.mark.parametrize(("size", "merged"), [(1, 12), (4, 12), (12, 28), (13, 36), (27, 60), (28, 60)])
    def test_merging_what_is_on_no_list(self, size, merged):
        """Freed objects of up to 28 bytes are on no list, and merge like others all the same, into one that is."""
        pool = Xvmalloc()
        a, b, guard = pool.alloc(size), pool.alloc(size), pool.alloc(100)
        pool.free(a)
        assert a not in [address for members in listed(pool).values() for address in members]
        pool.free(b)
        index = insert_index(merged, CAPACITY) if merged >= 32 else None
        assert FreeRegion(0, a, merged, index) in list(pool.free_regions())
        assert_sound(pool, {guard: 100})

    def test_page_goes_back(self):
        """A page that is one free block goes back to the source; none is kept after everything was freed."""
        pool = Xvmalloc()
        handles = [pool.alloc(1000) for _ in range(10)]
        assert pool.get_total_size_bytes() == 3 * PAGE
        for handle in handles:
            pool.free(handle)
        assert pool.get_total_size_bytes() == pool.source.held == 0

    def test_double_free(self):
        """A double free is noticed by the flag in the dead header, which is kept unless the block has merged away."""
        pool = Xvmalloc()
        a, b, guard = pool.alloc(100), pool.alloc(100), pool.alloc(100)
        pool.free(a)
        with pytest.raises(InvalidFree):
            pool.free(a)
        pool.free(b)  # merges with the one before: its own header is never marked
        assert header(pool, b)[2] & FREE == 0
        assert pool.contract.detects == frozenset()
        assert_sound(pool, {guard: 100})


class TestDensity:
    @pytest.mark.parametrize(
        ("size", "each"), [(2052, 1), (2044, 1), (2040, 2), (1364, 2), (1360, 3), (1020, 3), (4088, 1), (1016, 4)]
    )
    def test_objects_on_a_page(self, size, each):
        """So many objects of this size are stored on each page; 1016 is the largest size stored four to a page."""
        pool = Xvmalloc(pages=12)
        count = sum(pool.alloc(size) is not None for _ in range(12 * each + 1))
        assert count == 12 * each
        assert pool.source.held == 12

    def test_waste_of_2052(self):
        """Objects of 2052 bytes waste 49.9 % of each page: the 2036 bytes left over are too short for another."""
        pool = Xvmalloc(pages=100)
        handles = [pool.alloc(2052) for _ in range(100)]
        assert next(iter(pool.free_regions()))[1:3] == (4 + 2052 + 4, 2036)
        assert 1 - 2052 * len(handles) / pool.get_total_size_bytes() == pytest.approx(0.499, abs=0.0005)

    def test_good_fit_loses_2044(self):
        """Two objects of 2044 bytes fit on a page, but the 2044 left over are on list 251, the search begins at 252."""
        assert PAGE == 2 * (2044 + 4)
        pool = Xvmalloc(pages=1)
        assert pool.alloc(2044) == 4
        assert listed(pool) == {251: [4 + 2044 + 4]}
        assert pool.alloc(2044) is None
        assert pool.alloc(2040) == 4 + 2044 + 4

    def test_2040_is_the_largest_of_two(self):
        """2040 is the largest size stored two to a page: it leaves 2048, on list 252, and needs list 251 or later."""
        pool = Xvmalloc(pages=1)
        pool.alloc(2040)
        assert list(listed(pool)) == [252]
        assert search_index(2040) == 251
        assert [size for size in range(2030, 2060) if len(fill(size)) == 2][-1] == 2040

    def test_up_to_half_is_lost_above_half_a_page(self):
        """Sizes above half a page leave the pages up to half empty, whatever their mixture."""
        r = random.Random(1)
        pool = Xvmalloc(pages=400)
        sizes = [r.randint(2049, 2500) for _ in range(400)]
        assert all(pool.alloc(size) is not None for size in sizes)
        assert 0.4 < 1 - sum(sizes) / pool.get_total_size_bytes() < 0.5

    @pytest.mark.parametrize(("low", "high"), [(32, 512), (32, 1024), (200, 2048), (32, 3072)])
    def test_within_twelve_percent_of_ideal(self, low, high):
        """Random sizes up to three quarters of a page, churned, stay within 12 % of their sum, as was claimed."""
        r = random.Random(2)
        pool = Xvmalloc(pages=4096)
        live = [(pool.alloc(size), size) for size in (r.randint(low, high) for _ in range(1500))]
        for _ in range(6000):
            index, size = r.randrange(len(live)), r.randint(low, high)
            pool.free(live[index][0])
            live[index] = (pool.alloc(size), size)
        assert pool.get_total_size_bytes() <= 1.12 * sum(size for _, size in live)

    def test_metadata_of_an_object(self):
        """Metadata in the pages is 4 bytes for an object, and 4 for each free block."""
        pool = Xvmalloc()
        for _ in range(5):
            pool.alloc(200)
        assert pool.metadata() == (4 * 6, 12288)
        assert Xvmalloc(word=32).metadata() == (0, 8192)

    def test_no_compaction(self):
        """Nothing moves: sparse pages stay, and there is no maintenance to ask for."""
        pool = Xvmalloc()
        for index, handle in enumerate([pool.alloc(1000) for _ in range(32)]):
            if index % 4:
                pool.free(handle)
        assert pool.source.held == 8  # for 8 objects of 1000 bytes
        assert pool.contract.maintenance == ()


def fill(size):
    """Handles of objects of this size until one page is full."""
    pool, handles = Xvmalloc(pages=1), []
    while (handle := pool.alloc(size)) is not None:
        handles.append(handle)
    return handles


class TestPolicy:
    def test_last_freed_first(self):
        """Lists are last in, first out."""
        pool = Xvmalloc()
        holes = [pool.alloc(100) for _ in range(6)]
        for hole in holes[::2]:
            pool.free(hole)
        assert listed(pool)[insert_index(100, CAPACITY)] == holes[4::-2]
        assert [pool.alloc(96) for _ in range(3)] == holes[4::-2]

    def test_lowest_list_first(self):
        """Of all lists that will do the lowest is taken, across bitmap words too."""
        pool = Xvmalloc()
        large, _, middle, _, small, _ = [pool.alloc(n) for n in (1400, 40, 700, 40, 48, 40)]
        for hole in (large, middle, small):
            pool.free(hole)
        assert pool.alloc(41) == small
        assert pool.alloc(60) == middle
        assert pool.alloc(1000) == large

    def test_one_page_at_a_time(self):
        """A request that nothing free can hold adds exactly one page."""
        pool = Xvmalloc()
        for number in range(1, 6):
            pool.alloc(4000)
            assert pool.source.held == number
            assert pool.cost()["pages_taken"] == 1

    def test_search_is_constant(self):
        """A search reads at most three words of bitmaps and one head, however many blocks are free."""
        pool = Xvmalloc()
        handles = [pool.alloc(40 + 8 * (n % 60)) for n in range(600)]
        for handle in handles[::2]:
            pool.free(handle)
        for n in range(200):
            pool.alloc(33 + 16 * (n % 100))
            cost = pool.cost()
            assert cost["probed"] == 1
            assert cost["scanned"] <= 3 * (1 + cost["pages_taken"])
            assert cost["found"] >= 33 + 16 * (n % 100)

    def test_what_was_freed_cannot_always_be_had(self):
        """36 bytes just freed are passed over when 36 are asked for, since the search begins a list further."""
        pool = Xvmalloc(pages=1)
        a, _ = pool.alloc(36), pool.alloc(4044)
        pool.free(a)
        assert pool.alloc(36) is None
        assert pool.alloc(32) == a
        assert not pool.contract.free_then_alloc

    def test_less_than_32_bytes_cannot_be_had_again(self):
        """4 bytes just freed are on no list, so they are lost until a neighbour is freed."""
        pool = Xvmalloc(pages=1)
        a, _ = pool.alloc(4), pool.alloc(4076)
        pool.free(a)
        assert pool.alloc(4) is None


class TestRefusals:
    def test_invalid(self):
        """Size 0, negative sizes and any alignment are invalid; more than the largest size is too big."""
        pool = Xvmalloc()
        assert pool.alloc(0) is pool.alloc(-1) is Refusal.INVALID
        assert pool.alloc(4, 3) is pool.alloc(4, 8) is Refusal.INVALID
        assert pool.alloc(4089) is pool.alloc(2**32) is pool.alloc(2**64 + 1) is Refusal.TOO_BIG
        assert pool.source.held == 0

    def test_no_page(self):
        """Without a page there is no memory, and the refused call has changed nothing."""
        pool = Xvmalloc(pages=2)
        live = {pool.alloc(3000): 3000}
        pool.source.fail_next(0, 1)
        before = pool.snapshot()
        assert pool.alloc(3000) is None
        assert pool.snapshot() == before
        assert_sound(pool, live)
        assert pool.alloc(3000) == PAGE + 4

    def test_a_request_that_may_not_wait(self):
        """An atomic request takes what is free, and would block where a page is needed."""
        pool = Xvmalloc()
        assert pool.alloc(100, ctx=ATOMIC) is Refusal.WOULD_BLOCK
        assert pool.source.held == 0
        pool.alloc(100)
        assert pool.alloc(100, ctx=ATOMIC) == 108

    @pytest.mark.parametrize(
        "wrong",
        [
            {"pages": 0}, {"pages": "many"}, {"page_size": 1000}, {"page_size": 32}, {"page_size": 1 << 17},
            {"word": 16}, {"align": 16}, {"rev": "2.6.32"}, {"rev": "2.6.33", "align": 8},
        ],
    )  # fmt: skip
    def test_parameters_are_checked(self, wrong):
        """Parameters that make no pool raise ValueError; sizes of 16 bits allow pages up to 64 KiB."""
        with pytest.raises(ValueError, match=r"\w"):
            Xvmalloc(**wrong)

    def test_largest_pages(self):
        """Pages of 64 KiB are the largest: 65532 still fits in 16 bits, and 65528 can be had."""
        pool = Xvmalloc(pages=2, page_size=65536)
        assert pool.contract.largest == 65528
        handle = pool.alloc(65528)
        assert header(pool, handle) == (65528, 0, 0)
        pool.free(handle)
        assert pool.source.held == 0
        assert Xvmalloc(pages=1, page_size=65536, rev="2.6.33").contract.largest == 65532


class TestTheLastFourBytes:
    """Sizes 4089 to 4092: found by reading the source of 2.6.33, unconfirmed by its maintainers."""

    @pytest.mark.parametrize("size", [4089, 4090, 4091, 4092])
    def test_published(self, size):
        """The published revision accepts the size, never serves it, and adds a page with each call."""
        pool = Xvmalloc(rev="2.6.33")
        assert pool.contract.largest == 4092
        for calls in (1, 2, 3):
            assert pool.alloc(size) is None
            assert pool.source.held == pool.counters()["pages"] == calls

    def test_three_calls(self):
        """After three failing calls there are three free pages, in one of which 4088 bytes are served."""
        pool = Xvmalloc(rev="2.6.33")
        assert [pool.alloc(4092) for _ in range(3)] == [None] * 3
        assert len(listed(pool)[507]) == 3
        handle = pool.alloc(4088)
        assert handle is not None
        assert pool.source.held == 3
        pool.free(handle)
        assert pool.source.held == 2  # it goes back once something in it was freed

    def test_published_once_the_pages_are_gone(self):
        """Failing calls take every page that there is."""
        pool = Xvmalloc(pages=4, rev="2.6.33")
        assert [pool.alloc(4089) for _ in range(6)] == [None] * 6
        assert pool.source.held == 4

    @pytest.mark.parametrize("size", [4089, 4090, 4091, 4092, 4093])
    def test_repaired(self, size):
        """The repaired pool says at once that the size is too big, and takes no page; 4088 bytes are served."""
        pool = Xvmalloc()
        assert pool.contract.largest == 4088
        assert pool.alloc(size) is Refusal.TOO_BIG
        assert pool.source.held == 0
        assert pool.alloc(4088) == 4

    def test_headers_of_eight_bytes_hide_it(self):
        """With 8 bytes before each payload the limit is 4088, where the last list begins; nothing needs repair."""
        pool = Xvmalloc(align=8)
        assert pool.contract.largest == PAGE - 8 == 4088
        assert pool.alloc(4088) == 8
        assert search_index(4088) == insert_index(4088, 4088) == free_lists(4088) - 1

    @pytest.mark.parametrize("law", ["limits-honest", "no-spurious-refusal"])
    @pytest.mark.parametrize("size", [4089, 4092])
    def test_the_checker_sees_it(self, law, size):
        """One request refutes the published revision's limits, and what must be served; the repaired pool stands."""
        trace = [Operation(Kind.ALLOC, 0, size)]
        others = {"limits-honest", "no-spurious-refusal"} - {law}
        assert run(lambda: Xvmalloc(pages=4, rev="2.6.33"), trace, mute=others).law == law
        assert run(lambda: Xvmalloc(pages=4), trace) is None

    @pytest.mark.parametrize(("last", "law"), [(Kind.DRAIN, "drain"), (Kind.DESTROY, "conservation")])
    def test_the_checker_sees_the_page(self, last, law):
        """The page that a failed call leaves is held after all was freed, and even after the end."""
        trace = [Operation(Kind.ALLOC, 0, 4092), Operation(last)]
        others = {"limits-honest", "no-spurious-refusal", "drain", "conservation"} - {law}
        found = run(lambda: Xvmalloc(pages=4, rev="2.6.33"), trace, mute=others)
        assert found.law == law
        assert "1" in found.seen
        assert run(lambda: Xvmalloc(pages=4), trace) is None


class TestWaiting:
    """GFP_NOWAIT was 0 when its bit was tested for: read in the source of 2.6.33, unconfirmed by its maintainers."""

    def test_published(self):
        """The published revision adds a page for a request that may not wait."""
        pool = Xvmalloc(rev="2.6.33")
        assert pool.alloc(100, ctx=ATOMIC) == 4
        assert pool.source.held == 1

    def test_the_checker_sees_it(self):
        """One atomic request exceeds the promise of no page; the repaired pool refuses it and stands."""
        trace = [Operation(Kind.ALLOC, 0, 1, 1, 1)]
        assert run(lambda: Xvmalloc(pages=4, rev="2.6.33"), trace).law == "search-bounded"
        assert run(lambda: Xvmalloc(pages=4), trace) is None


PARAMETERS = [
    {"pages": 4}, {"pages": 64}, {"pages": 3, "page_size": 64, "word": 32}, {"pages": 8, "page_size": 256},
    {"pages": 6, "page_size": 512, "align": 8}, {"pages": 16, "word": 32},
]  # fmt: skip


@pytest.mark.parametrize("parameters", PARAMETERS, ids=str)
class TestEveryInvariant:
    def test_random_runs(self, parameters):
        """Every invariant holds after each operation of random runs, and contents survive."""
        r = random.Random(7)
        pool, live, contents = Xvmalloc(**parameters), {}, {}
        largest = pool.contract.largest
        for step in range(1500):
            if live and r.random() < 0.45 + 0.2 * (step // 300 % 2):
                handle = r.choice(sorted(live))
                assert pool.read(handle, 0, live[handle]) == contents.pop(handle)
                pool.free(handle)
                del live[handle]
            else:
                size = r.choice([r.randint(1, largest), r.randint(1, min(64, largest))])
                handle = pool.alloc(size)
                if handle is not None:
                    live[handle] = size
                    contents[handle] = r.randbytes(size)
                    pool.write(handle, 0, contents[handle])
            if step % 7 == 0:
                assert_sound(pool, live)
        for handle in live:
            pool.free(handle)
        assert pool.source.held == 0
        assert_sound(pool, {})

    def test_states(self, parameters):
        """A pool returns to a state, and goes on from there as it did the first time."""
        r = random.Random(3)
        pool = Xvmalloc(**parameters)
        script = [(r.random(), r.randint(1, pool.contract.largest)) for _ in range(120)]
        play(pool, {}, script[:60])
        held = {handle: pool.get_object_size(handle) for handle in handles_of(pool)}
        state = pool.snapshot()
        first = play(pool, dict(held), script[60:])
        after = pool.snapshot()
        pool.restore(state)
        assert pool.snapshot() == state
        assert hash(pool.snapshot()) == hash(state)
        assert_sound(pool, held)
        assert play(pool, dict(held), script[60:]) == first
        assert pool.snapshot() == after


def handles_of(pool):
    """Handles of the live objects, by the headers."""
    return [block + pool._header for block, _, tag in pool._walk() if not tag & FREE]


def play(pool, live, script):
    """The answers to a script of requests and frees."""
    answers = []
    for coin, size in script:
        if live and coin < 0.4:
            handle = sorted(live)[int(coin * 100) % len(live)]
            pool.free(handle)
            del live[handle]
            answers.append(("freed", handle))
        else:
            handle = pool.alloc(size)
            answers.append(handle)
            if handle is not None:
                live[handle] = size
    return answers


class TestPromises:
    def test_contracts_are_shared(self):
        """Equal parameters share one contract."""
        assert Xvmalloc(pages=4).contract is Xvmalloc(pages=4).contract

    @given(data=st.data())
    def test_serving_is_predicted(self, data):
        """What the contract says of a request, from the live objects alone, is what the pool answers."""
        pool, shadow_live = Xvmalloc(pages=2, page_size=256), {}
        sizes = st.integers(1, 252)
        for size, drop in data.draw(st.lists(st.tuples(sizes, st.booleans()), max_size=25)):
            if drop and shadow_live:
                handle = min(shadow_live)
                pool.free(handle)
                del shadow_live[handle]
                continue
            shadow = Shadow()
            for name, (handle, length) in enumerate(shadow_live.items()):
                shadow.add(block_of(name, handle, length))
            expected = pool.contract.must_serve(Request(size), shadow, pool.source)
            handle = pool.alloc(size)
            assert expected == isinstance(handle, int)
            if isinstance(handle, int):
                shadow_live[handle] = -(-size // 4) * 4

    @pytest.mark.parametrize(
        ("size", "pieces", "problem"),
        [
            (100, ((0, 4, 100),), None),
            (97, ((0, 4, 100),), None),
            (100, ((0, 4, 104),), "104 bytes are not those of 100"),
            (100, ((0, 4, 50), (0, 60, 50)), "one piece"),
            (100, ((0, 0, 100),), "not on one page behind a header"),
            (100, ((0, 4000, 100),), "not on one page behind a header"),
        ],
    )
    def test_objects_never_cross_pages(self, size, pieces, problem):
        """An object is one piece behind its header on one page, and 3 bytes at most longer than what was asked."""
        block = Block(0, 4, size, 1, pieces)
        found = Xvmalloc().contract.geometry(block)
        assert found is None if problem is None else problem in found

    def test_headers_are_shown(self):
        """A header that tells a lie about the block before it is caught by the exact hints, at once."""

        class Forgetful(Xvmalloc):
            def _exact_fit(self, after):
                pass

        trace = [Operation(Kind.ALLOC, 0, 40), Operation(Kind.ALLOC, 1, 100)]
        trace += [Operation(Kind.FREE, 0), Operation(Kind.ALLOC, 2, 40)]
        assert run(lambda: Forgetful(pages=4), trace).law in ("hint-exact", "hint-region")
        assert run(lambda: Xvmalloc(pages=4), trace) is None

    def test_lists_end(self):
        """A list that has become a ring is an error, not a hang."""
        pool = Xvmalloc()
        pool.alloc(100)
        block = pool._freelist[insert_index(3988, CAPACITY)]
        pool._set_after(block, block)
        with pytest.raises(RuntimeError, match="does not end"):
            list(pool.lists())

    def test_kin_of_tlsf(self):
        """The idea is TLSF's: both find the lowest list that is sure to do, so both take the tighter of two holes."""
        pool, tlsf = Xvmalloc(), Tlsf(arena=4096)
        for heap in (pool, tlsf):
            large, _, small, _ = [heap.alloc(n) for n in (1600, 40, 800, 40)]
            heap.free(large)
            heap.free(small)
            assert heap.alloc(600) == small

    def test_pages_are_single(self):
        """No more than single pages are ever asked for."""
        source = Xvmalloc(pages=8).source
        assert isinstance(source, PageSource)
        assert configured(8, 4096, 64, 4, "").page_order == 0


def block_of(name, handle, length):
    """A live object for the shadow heap."""
    return Block(name, handle, length, 1, ((0, handle, length),))
