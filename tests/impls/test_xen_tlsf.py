"""Xen's TLSF: its constants and headers, the pool's pages, whole pages, padding, and what was published wrong."""

import random
from itertools import pairwise

import pytest

from heaplaw import Block, Kind, Operation, PageError, Refusal, Request, Shadow, run
from heaplaw.impls.tlsf import Tlsf
from heaplaw.impls.tlsf_mapping import original
from heaplaw.impls.xen_tlsf import XenTlsf, published_total_size
from heaplaw.impls.xen_xmalloc import XenXmalloc

PAGE = 4096


def settings(text):
    """Parameters out of their text."""
    pairs = [pair.split("=") for pair in text.split(",")]
    return {key: int(value) if value.isdecimal() else value for key, value in pairs}


def number(heap, address, size=8):
    """A number in the heap's pages."""
    return int.from_bytes(heap.source.memory[address : address + size], "little")


def blocks(heap, page):
    """(payload address, size, flags, block before) of a region, by an independent walk of the raw bytes (64 bits)."""
    size, at, found = heap.source.page_size, page * heap.source.page_size, []
    end = at + size
    while (head := number(heap, at + 8, 4)) & ~7:
        found.append((at + 16, head & ~7, head & 3, number(heap, at) * 8))
        at += 16 + (head & ~7)
    assert at + 16 == end, "the sentinel ends the page"
    return [*found, (at + 16, 0, head & 3, number(heap, at) * 8)]


class TestConstants:
    def test_64_bit(self):
        """16-byte units, threshold 128, 24 rows of 32 lists, a least payload and an overhead of 16, split at 32."""
        g = original(64)
        assert (g.word, g.small, g.rows, 1 << g.sl, g.least, g.header) == (16, 128, 24, 32, 16, 32)

    def test_32_bit(self):
        """With pointers of 32 bits the unit, the least payload and the overhead are 8."""
        g = original(32)
        assert (g.word, g.small, g.rows, 1 << g.sl, g.least, g.header) == (8, 128, 24, 32, 8, 16)

    @pytest.mark.parametrize(
        ("size", "insert", "search", "rounded"),
        [
            (100, (0, 25), (0, 25), 100),
            (128, (1, 0), (1, 0), 128),
            (256, (2, 0), (2, 0), 256),
            (460, (2, 25), (2, 26), 464),
            (1000, (3, 30), (3, 31), 1008),
            (2000, (4, 30), (4, 31), 2016),
            (4032, (5, 31), (5, 31), 4032),
            (4064, (5, 31), (6, 0), 4096),
            (65536, (10, 0), (10, 0), 65536),
        ],
    )
    def test_lists(self, size, insert, search, rounded):
        """The lists of these sizes, and what a request for them becomes, computed by hand from 2.3.2's formulas."""
        g = original(64)
        assert g.insert(size) == insert
        assert g.search(size) == search
        assert (g.round_up(size) if size >= 128 else size) == rounded

    @pytest.mark.parametrize("bits", [32, 64])
    def test_textbook(self, bits):
        """The shared sum gives 2.3.2's case distinction: four bytes a list below 128, then 32 lists a power of two."""
        g = original(bits)
        for size in [*range(0, 1 << 14, 4), *((1 << k) + d for k in range(14, 30) for d in (-16, 0, 16, 1 << 8))]:
            top = size.bit_length() - 1
            expected = (0, size // 4) if size < 128 else (top - 6, (size >> (top - 5)) - 32)
            assert g.insert(size) == expected

    @pytest.mark.parametrize("bits", [32, 64])
    def test_rounding_is_idempotent(self, bits):
        """The retry after growth searches for the size already rounded, which changes nothing."""
        g = original(bits)
        for size in range(g.word, 1 << 14, g.word):
            rounded = g.round_up(size)
            assert g.round_up(rounded) == rounded
            assert g.search(size) == g.search(rounded) == g.insert(rounded)
            assert 0 <= rounded - size <= size / 32


class TestLayout:
    def test_fresh_page(self):
        """A page is one free block of 4064 bytes on the list from 4032, and a sentinel that is used."""
        heap = XenTlsf(pages=4)
        assert blocks(heap, 0) == [(16, 4064, 1, 0), (PAGE, 0, 2, 16)]
        assert [tuple(region) for region in heap.free_regions()] == [(0, 16, 4064, (5, 31))]

    def test_back_links_are_always_there(self):
        """Every block names the one before it, whether that is free or not: 8 bytes are really reserved."""
        heap = XenTlsf(pages=4)
        handles = [heap.alloc(100) for _ in range(4)]
        heap.free(handles[1])
        seen = blocks(heap, 0)
        assert [before for _, _, _, before in seen] == [0] + [at for at, _, _, _ in seen[:-1]]
        assert [flags for _, _, flags, _ in seen] == [0, 1, 2, 0, 1, 2]

    @pytest.mark.parametrize(("word", "step"), [(64, 16), (32, 8)])
    def test_least_block(self, word, step):
        """The smallest block is two pointers, with a header of as much."""
        heap = XenTlsf(pages=4, word=word)
        one, two = heap.alloc(1), heap.alloc(1)
        assert heap.extents(one) == ((0, step, step),)
        assert two - one == 2 * step

    def test_size_zero(self):
        """Nothing takes a smallest block; with an alignment, or where pages are trimmed, it is refused."""
        heap = XenTlsf()
        assert heap.extents(heap.alloc(0)) == ((0, 16, 16),)
        assert XenTlsf().alloc(0, 64) is Refusal.INVALID
        assert XenTlsf(whole="trim").alloc(0) is Refusal.INVALID

    @pytest.mark.parametrize(("left", "split"), [(16, False), (32, True)])
    def test_split_threshold(self, left, split):
        """A rest that holds a header and a least payload is split off, 16 bytes are not."""
        heap = XenTlsf(pages=4)
        one = heap.alloc(1024)
        heap.alloc(16)
        heap.free(one)
        again = heap.alloc(1024 - left)
        assert again == one
        assert heap.extents(again)[0][2] == (1024 - left if split else 1024)
        assert len(blocks(heap, 0)) == (5 if split else 4)

    def test_the_request_becomes_the_rounded_size(self):
        """460 bytes take a block of 464, and 1000 one of 1008."""
        heap = XenTlsf(pages=4)
        assert [heap.extents(heap.alloc(size))[0][2] for size in (460, 1000, 100)] == [464, 1008, 112]

    def test_newest_first(self):
        """Of two blocks on a list the one freed last is taken first."""
        heap = XenTlsf(pages=4)
        handles = [heap.alloc(48) for _ in range(6)]
        heap.free(handles[1])
        heap.free(handles[3])
        assert heap.alloc(48) == handles[3]
        assert heap.alloc(48) == handles[1]

    def test_headers_are_in_the_pages(self):
        """An object that writes past its end destroys the next block's header, as in C."""
        heap = XenTlsf(pages=4)
        one, two = heap.alloc(16), heap.alloc(16)
        heap.write(one, 16 + 8, bytes(8))
        assert heap.extents(two)[0][2] == 0


class TestPool:
    def test_a_page_that_is_all_free_goes_back(self):
        """The region is not kept when its last block is freed, be it the first region or another."""
        heap = XenTlsf(pages=4)
        one, two = heap.alloc(4000), heap.alloc(4000)
        assert heap.source.held == 2
        heap.free(one)
        assert sorted(heap.source.owned) == [1]
        heap.free(two)
        assert heap.source.held == 0
        assert list(heap.free_regions()) == list(heap.lists()) == []

    def test_starts_with_a_page(self):
        """Creating the pool takes one page, unlike later growth on demand alone."""
        assert XenTlsf(pages=4).source.held == 1

    @pytest.mark.parametrize("size", [4032, 4033, 4048, 4064])
    def test_sizes_that_bypass_the_pool(self, size):
        """The largest request served by the pool is 4032: of 4033 to 4064 the search begins past a fresh region."""
        heap = XenTlsf(pages=8)
        handle = heap.alloc(size)
        pooled = size == 4032
        assert heap.source.held == (1 if pooled else 2)
        assert handle == (16 if pooled else PAGE + 16)
        assert [region.length for region in heap.free_regions()] == [16 if pooled else 4064]

    def test_good_fit_passes_over_a_fit(self):
        """A free block of 4064 bytes is ignored for 4040, which it could hold."""
        heap = XenTlsf(pages=1)
        assert heap.alloc(4040) in (None, Refusal.TOO_BIG)
        assert heap.alloc(4032) == 16

    @pytest.mark.parametrize("most", [1, 2, 3])
    def test_maximum(self, most):
        """A pool at its maximum does not grow: a small request then gets a page of its own."""
        heap = XenTlsf(pages=8, most=most)
        for _ in range(most):
            heap.alloc(4000)
        assert heap.counters()["regions"] == most
        handle = heap.alloc(48)
        assert heap.extents(handle) == ((0, most * PAGE + 16, 4080),)
        assert heap.counters()["regions"] == most

    def test_pool_page_refused(self):
        """When the page source refuses the pool once, the request is served by a whole page all the same."""
        heap = XenTlsf(pages=8)
        heap.alloc(4000)
        heap.source.fail_next(0, 1)
        assert heap.extents(heap.alloc(48))[0][2] == 4080

    def test_used_size(self):
        """used_size is the payloads and headers of used blocks and a header for each region, through everything."""
        heap, rng, live = XenTlsf(pages=8), random.Random(2), []
        for _ in range(400):
            if live and rng.random() < 0.45:
                heap.free(live.pop(rng.randrange(len(live))))
            elif isinstance(handle := heap.alloc(rng.randrange(4032), 1 << rng.randrange(6)), int):
                live.append(handle)
            regions = [page for page in heap.source.runs if number(heap, page * PAGE + 8, 4) < PAGE]
            used = [size for page in regions for _, size, flags, _ in blocks(heap, page)[:-1] if not flags & 1]
            counted = heap.counters()
            assert counted["used_size"] == sum(used) + 16 * len(used) + 16 * len(regions)
            assert counted["regions"] == len(regions)

    def test_one_list_head(self):
        """A search looks at one list head and at five bitmap words at most, growth included."""
        for count in (10, 1000):
            heap = XenTlsf(pages=256)
            handles = [heap.alloc(16 + index % 64) for index in range(count)]
            for handle in handles[::2]:
                heap.free(handle)
            heap.alloc(40)
            assert heap.cost()["probed"] == 1
            assert heap.cost()["scanned"] <= 3
            heap.alloc(4000)
            assert heap.cost()["probed"] == 1
            assert heap.cost()["scanned"] <= 5


class TestWholePages:
    @pytest.mark.parametrize(
        ("size", "pages"),
        [(4033, 1), (4080, 1), (4081, 2), (4095, 2), (4096, 2), (8176, 2), (8177, 4), (16368, 4), (16369, 8)],
    )
    def test_order(self, size, pages):
        """Up to 4080 bytes take a page, up to 8176 two, then four: a page less one byte still costs two."""
        heap = XenTlsf(pages=32)
        handle = heap.alloc(size)
        assert heap.source.held == 1 + pages
        assert heap.extents(handle)[0][2] == pages * PAGE - 16
        assert number(heap, handle - 8, 4) == pages * PAGE
        heap.free(handle)
        assert heap.source.held == 1

    @pytest.mark.parametrize(
        ("size", "pages"), [(4033, 1), (4096, 1), (4097, 2), (8192, 2), (8193, 3), (17000, 5), (25000, 7), (32768, 8)]
    )
    def test_trimmed(self, size, pages):
        """Trimmed, an object has the pages that it needs and no more, at the start of one."""
        heap = XenTlsf(pages=64, whole="trim")
        handle = heap.alloc(size)
        assert heap.source.held == 1 + pages
        assert handle % PAGE == 0
        assert heap.extents(handle) == ((0, handle, pages * PAGE),)
        spare = heap.alloc(PAGE)  # what was given back can be lent again
        assert spare is not None
        heap.free(handle)
        heap.free(spare)
        assert heap.source.held == 1

    def test_small_objects_after_a_page(self):
        """Whole pages and the pool do not know each other: freeing one leaves the other."""
        heap = XenTlsf(pages=8)
        big, small = heap.alloc(5000), heap.alloc(16)
        heap.free(big)
        assert heap.extents(small) == ((0, 16, 16),)
        assert sorted(heap.source.owned) == [0]

    @pytest.mark.parametrize("whole", ["order", "trim"])
    def test_maximum(self, whole):
        """Of 8 pages the upper half can be had while the first region lies in the lower: 16368 bytes, or 16384."""
        heap = XenTlsf(pages=8, whole=whole)
        most = 16384 if whole == "trim" else 16368
        assert heap.contract.max_size == most
        assert isinstance(heap.alloc(most), int)
        assert heap.alloc(most + 1) is Refusal.TOO_BIG

    def test_refused(self):
        """Without a run of pages a request is refused, and nothing has changed."""
        heap = XenTlsf(pages=4)
        before = heap.snapshot()
        heap.source.fail_next(0, 3)
        assert heap.alloc(5000) is None
        assert heap.alloc(4040) is None
        assert heap.snapshot() == before


class TestPadding:
    @pytest.mark.parametrize("whole", ["order", "trim"])
    @pytest.mark.parametrize("align", [32, 64, 256, 1024, 4096, 8192])
    @pytest.mark.parametrize("size", [1, 100, 3000, 4096, 8192])
    def test_alignment(self, size, align, whole):
        """An aligned object has its bytes behind a multiple, and all its pages are back when it is freed."""
        heap = XenTlsf(pages=64, whole=whole)
        fence = heap.alloc(40)
        handle = heap.alloc(size, align)
        (_, start, length), *front = heap.extents(handle)
        assert handle == start
        assert handle % align == 0
        assert length >= size
        assert sum(pad for _, _, pad in front) < align
        heap.write(handle, 0, b"x" * size)
        heap.free(handle)
        heap.free(fence)
        assert heap.source.held == 0

    def test_false_header(self):
        """In front of an aligned address stands the padding with the flag of a free block; the free strips it."""
        heap = XenTlsf(pages=4)
        handle = heap.alloc(100, 64)
        assert handle == 64
        assert number(heap, handle - 8, 4) == 48 | 1
        assert heap.extents(handle) == ((0, 64, 112), (0, 16, 48))
        assert heap._strip_padding(handle) * 8 == 16
        heap.free(handle)
        assert heap.source.held == 0

    def test_no_padding_where_none_is_needed(self):
        """A block that happens to lie at a multiple has no false header, though it is as long as if it had."""
        heap = XenTlsf(pages=4)
        heap.alloc(32)
        handle = heap.alloc(100, 64)
        assert heap.extents(handle) == ((0, 64, 160),)

    def test_padded_pages(self):
        """4096 bytes at a multiple of a page: two pages of which the second is the object, or trimmed one page."""
        heap = XenTlsf(pages=16)
        handle = heap.alloc(PAGE, PAGE)
        assert heap.extents(handle) == ((0, 3 * PAGE, PAGE), (0, 2 * PAGE + 16, PAGE - 16))
        trimmed = XenTlsf(pages=16, whole="trim")
        assert trimmed.extents(trimmed.alloc(PAGE, PAGE)) == ((0, PAGE, PAGE),)

    def test_more_alignment_than_size(self):
        """100 bytes at a multiple of 8192 get it, when pages are trimmed as well."""
        for whole in ("order", "trim"):
            heap = XenTlsf(pages=16, whole=whole)
            heap.alloc(PAGE)
            assert heap.alloc(100, 8192) % 8192 == 0

    @pytest.mark.parametrize("align", [3, 0, -16, 48])
    def test_not_a_power_of_two(self, align):
        """Another alignment makes no sense and is refused."""
        assert XenTlsf().alloc(8, align) is Refusal.INVALID


class TestResize:
    def test_only_with_trimmed_pages(self):
        """Resizing came with the later code: 3.4 has none."""
        assert XenTlsf().realloc is None
        assert XenTlsf(whole="trim").realloc is not None

    def test_in_place(self):
        """A block that is long enough stays, and is never cut."""
        heap = XenTlsf(pages=8, whole="trim")
        handle = heap.alloc(1000)
        assert heap.realloc(handle, 16) == heap.realloc(handle, 1008) == handle
        assert heap.extents(handle)[0][2] == 1008

    def test_moves_and_copies(self):
        """A longer object moves with its contents, from the pool to pages and between them."""
        heap = XenTlsf(pages=32, whole="trim")
        handle = heap.alloc(100)
        heap.write(handle, 0, bytes(range(100)))
        for size in (500, 4096, 8192, 20_000):
            handle = heap.realloc(handle, size)
            assert heap.read(handle, 0, 100) == bytes(range(100))
        assert heap.source.held == 5

    def test_pages_in_place(self):
        """Whole pages stay while the object fits in them, also when it shrinks to a byte."""
        heap = XenTlsf(pages=16, whole="trim")
        handle = heap.alloc(5000)
        assert heap.realloc(handle, 8192) == heap.realloc(handle, 1) == handle
        assert heap.extents(handle)[0][2] == 8192

    def test_alignment_is_kept(self):
        """An aligned object stays aligned, in place and moved; its contents come along from the right byte."""
        heap = XenTlsf(pages=16, whole="trim")
        handle = heap.alloc(100, 256)
        heap.write(handle, 0, b"kept" * 25)
        assert heap.realloc(handle, 90) == handle
        for size in (600, 3000, 6000):
            handle = heap.realloc(handle, size)
            assert handle % 256 == 0
            assert heap.read(handle, 0, 100) == b"kept" * 25

    def test_refused(self):
        """A refused resize leaves the object, and 0 is no size."""
        heap = XenTlsf(pages=4, whole="trim")
        handle = heap.alloc(100)
        heap.write(handle, 0, b"kept")
        assert heap.realloc(handle, 0) is Refusal.INVALID
        assert heap.realloc(handle, 1 << 40) is Refusal.TOO_BIG
        heap.source.fail_next(0, 9)
        assert heap.realloc(handle, 5000) is None
        assert heap.read(handle, 0, 4) == b"kept"


def idle_while_first_is_gone(revision):
    """A heap whose only region is idle, and is not the first one."""
    heap = XenTlsf(pages=8, rev=revision)
    one = heap.alloc(100)
    heap.maintain("grow")
    heap.free(one)
    assert sorted(heap.source.owned) == [1]
    return heap


class TestDestroy:
    """Destroying a pool with an idle region."""

    def test_first_region_never_used(self):
        """A pool that nobody asked anything of gives its first region back, published or not."""
        for revision in ("", "3.4"):
            heap = XenTlsf(pages=4, rev=revision)
            heap.destroy()
            assert heap.source.held == 0

    def test_first_region_is_gone(self):
        """3.4 gives the first region back a second time when another one is idle; repaired: that one."""
        with pytest.raises(PageError, match="page 0 order 0 given back"):
            idle_while_first_is_gone("3.4").destroy()
        heap = idle_while_first_is_gone("")
        heap.destroy()
        assert heap.source.held == 0
        assert list(heap.lists()) == []

    def test_the_first_page_is_another_s(self):
        """Worse, the page may be lent to somebody else by then, whose page is taken away."""
        heap = idle_while_first_is_gone("3.4")
        assert heap.source.take(0) == 0
        heap.destroy()
        assert sorted(heap.source.owned) == [1]

    def test_not_on_one_cpu(self):
        """Without a second CPU in the pool's unlocked moment no region but the first is ever idle."""
        rng = random.Random(7)
        for _ in range(30):
            heap, live = XenTlsf(pages=8), []
            for _ in range(60):
                if live and rng.random() < 0.5:
                    heap.free(live.pop(rng.randrange(len(live))))
                elif isinstance(handle := heap.alloc(rng.randrange(1, 5000)), int):
                    live.append(handle)
                assert all(heap._page_of(block) == 0 for block in heap._idle_regions())

    def test_growth_that_loses_the_race(self):
        """During the growth another CPU frees a block that then serves: the grown region stays idle."""

        class Raced(XenTlsf):
            freed = None

            def _get_region(self):
                page = super()._get_region()
                if self.freed is not None:
                    handle, self.freed = self.freed, None
                    self.free(handle)
                return page

        heap = Raced(pages=8)
        one, two = heap.alloc(2000), heap.alloc(2000)
        heap.freed = two
        assert heap.alloc(2000) == two
        assert [heap._page_of(block) for block in heap._idle_regions()] == [1]
        heap.free(one)
        heap.free(two)
        assert sorted(heap.source.owned) == [1]

    def test_grow_is_bounded(self):
        """There is one idle region at most, and the pool's maximum holds; another kind is unknown."""
        heap = XenTlsf(pages=8)
        heap.maintain("grow")
        assert heap.source.held == 1
        full = XenTlsf(pages=8, most=1)
        full.alloc(4000)
        full.maintain("grow")
        assert full.source.held == 1
        with pytest.raises(ValueError, match="grow"):
            heap.maintain("shrink")

    @pytest.mark.parametrize(
        ("init", "grow", "regions", "held", "wrong"),
        [(1, 1, 1, 1, 0), (1, 1, 5, 5, 0), (2, 1, 1, 2, 0), (2, 1, 1, 1, 1), (2, 1, 3, 3, 1)],
    )
    def test_total_size(self, init, grow, regions, held, wrong):
        """The reported total is a page too much when a first region of two has gone; with one of one, never."""
        assert published_total_size(0, init * PAGE, grow * PAGE, regions) - held * PAGE == wrong * PAGE


class TestPublished:
    @pytest.mark.parametrize("size", [(1 << 64) - 15, (1 << 64) - 1])
    def test_wraps(self, size):
        """A size just below 2^64 is served one page; repaired: refused."""
        heap = XenTlsf(rev="3.4")
        handle = heap.alloc(size)
        assert heap.extents(handle) == ((0, PAGE + 16, 4080),)
        assert XenTlsf().alloc(size) is Refusal.TOO_BIG

    def test_wraps_to_no_bytes(self):
        """A size that wraps to 0 with the header asks for an order beyond all memory, and is refused."""
        assert XenTlsf(rev="3.4").alloc((1 << 64) - 16) is Refusal.TOO_BIG

    def test_wraps_with_alignment(self):
        """With an alignment the padding wraps it, and the pool serves a smallest block."""
        heap = XenTlsf(rev="3.4")
        assert heap.alloc((1 << 64) - 16, 32) == 32
        assert heap.extents(32) == ((0, 32, 0), (0, 16, 16))

    @pytest.mark.parametrize("size", [-1, 1 << 32, (1 << 64) - 1, (1 << 64) + 1, 1 << 100])
    @pytest.mark.parametrize("whole", ["order", "trim"])
    @pytest.mark.parametrize("align", [1, 4096, 1 << 40, 1 << 100])
    def test_senseless_requests(self, size, align, whole):
        """Repaired, no size or alignment beyond memory is served."""
        assert XenTlsf(whole=whole).alloc(size, align) in (Refusal.INVALID, Refusal.TOO_BIG)
        assert XenTlsf(whole=whole).alloc(16, 1 << 40) is None

    def test_aligned_nothing(self):
        """No bytes at a multiple of a page lie just past the object's page; repaired: refused."""
        heap = XenTlsf(pages=8, rev="3.4")
        handle = heap.alloc(0, PAGE)
        assert heap.extents(handle) == ((0, 2 * PAGE, 0), (0, PAGE + 16, PAGE - 16))
        assert handle // PAGE not in heap.source.owned

    @pytest.mark.parametrize(
        ("law", "operations"),
        [
            ("big-enough", [Operation(Kind.ALLOC, 0, (1 << 64) - 1)]),
            ("must-refuse", [Operation(Kind.ALLOC, 0, (1 << 64) - 1)]),
            ("bad-size-rejected", [Operation(Kind.BAD_ALLOC, 0, (1 << 64) - 1, 1, "huge")]),
            ("in-bounds", [Operation(Kind.ALLOC, 0, 0, PAGE)]),
            (
                "conservation",
                [Operation(Kind.ALLOC, 0, 24), Operation(Kind.MAINTAIN, mode="grow"), Operation(Kind.DESTROY)],
            ),
        ],
    )
    def test_trace(self, law, operations):
        """A few operations break exactly this law on the published code and none on the repaired one."""
        others = {"big-enough", "must-refuse", "bad-size-rejected", "geometry", "search-fit"} - {law}
        assert run(lambda: XenTlsf(pages=8, rev="3.4"), operations, mute=others).law == law
        assert run(lambda: XenTlsf(pages=8), operations) is None


class TestHistory:
    """Mistakes that were made in this file, in the shortest form that shows them."""

    @pytest.mark.parametrize("size", range(3905, 4097, 3))
    def test_no_gap_between_pool_and_pages(self, size):
        """An early version always failed from 3921 to 3951 bytes, between its two thresholds."""
        for whole in ("order", "trim"):
            heap = XenTlsf(pages=8, whole=whole)
            handle = heap.alloc(size)
            assert isinstance(handle, int)
            heap.free(handle)
            assert heap.source.held <= 1

    def test_alignment_beyond_the_size(self):
        """2011 to 2014 the order for the alignment was computed and not used: 100 bytes at 8192 were misplaced."""
        heap = XenTlsf(pages=16, whole="trim")
        assert heap._whole_order(100, 8192) == 1
        assert heap.alloc(100, 8192) % 8192 == 0


class TestBrokenHeaps:
    def test_a_list_in_a_circle(self):
        """A free block that names itself as the next one."""
        heap = XenTlsf(pages=2)
        one = heap.alloc(48)
        heap.alloc(48)
        heap.free(one)
        heap.write(one, 8, (one // 8).to_bytes(8, "little"))
        for walk in (heap.lists, heap.counters, heap.snapshot, lambda: heap.maintain("grow"), heap.destroy):
            with pytest.raises(RuntimeError, match="free list does not end"):
                list(walk())

    def test_a_size_past_the_page(self):
        """A header that was written over with text."""
        heap = XenTlsf(pages=2)
        one = heap.alloc(48)
        heap.alloc(48)
        heap.write(one, 48, b"too long")
        heap.write(one, 56, b"too long")
        for walk in (heap.free_regions, heap.counters, heap.metadata, heap.snapshot):
            with pytest.raises(RuntimeError, match="reaches past its page"):
                list(walk())


class TestStates:
    @pytest.mark.parametrize("parameters", ["pages=8", "pages=8,whole=trim", "pages=8,word=32"])
    def test_back_and_again(self, parameters):
        """From a restored state the same calls give the same answers, contents and state."""
        rng, heap, live = random.Random(5), XenTlsf(**settings(parameters)), []
        self.history(rng, heap, live, 60)
        state, kept, seed = heap.snapshot(), list(live), rng.random()
        ends = []
        for target in (heap, heap, XenTlsf(**settings(parameters))):
            target.restore(state)
            assert target.snapshot() == state
            now = list(kept)
            self.history(random.Random(seed), target, now, 60)
            ends.append((now, target.snapshot(), [target.read(handle, 0, 1) for handle in now]))
        assert ends[0] == ends[1] == ends[2]
        assert ends[0][1] != state

    def history(self, rng, heap, live, count):
        for _ in range(count):
            if live and rng.random() < 0.4:
                heap.free(live.pop(rng.randrange(len(live))))
            elif isinstance(handle := heap.alloc(int(2 ** rng.uniform(0, 13)), 1 << rng.randrange(7)), int):
                heap.write(handle, 0, bytes([rng.randrange(256)]))
                live.append(handle)

    def test_padding_is_part_of_a_state(self):
        """Two used blocks of one size differ when one of them is padded."""
        states = []
        for size, align in ((160, 16), (112, 64)):
            heap = XenTlsf(pages=2)
            heap.alloc(size, align)
            states.append(heap.snapshot())
        assert blocks(heap, 0)[0][:2] == (16, 160)
        assert states[0] != states[1]


# ---- the invariants, one by one, after every call ---------------------------------------


def check_everything(heap, live):
    """Every invariant of the structure, from raw bytes and heads; ``live`` is {handle: (size, align)} (64 bits)."""
    g, page_size = heap._g, heap.source.page_size
    lent, starts, lists = set(), {}, {}
    for handle, (size, align) in live.items():  # M7: long enough, aligned
        (_, start, length), *front = heap.extents(handle)
        assert start == handle
        assert length >= size
        assert handle % max(align, 16) == 0
        begin, end = handle - sum(pad for _, _, pad in front), handle + length
        starts[begin] = end - begin
        trimmed = heap._trim and begin % page_size == 0
        if trimmed or (begin - 16) % page_size == end % page_size == 0:
            lent |= set(range(begin // page_size, end // page_size))
    for index, head in enumerate(heap._heads):
        block, back = head * 8, 0
        while block:
            assert block not in lists  # M5: on one list only, linked both ways
            assert number(heap, block) == back
            lists[block] = index
            back, block = block // 8, number(heap, block + 8) * 8
    regions = sorted(heap.source.owned.keys() - lent)
    idle = 0
    for page in regions:
        seen = blocks(heap, page)  # M1
        for (one, _, one_flags, _), (_, _, two_flags, before) in pairwise(seen):
            assert two_flags >> 1 == one_flags & 1  # M3
            assert before == one
            assert not (one_flags & 1 and two_flags & 1)  # M2
        assert seen[0][2] & 2 == seen[0][3] == seen[-1][2] & 1 == 0
        for at, size, flags, _ in seen[:-1]:
            assert size >= 16  # M6
            assert size % 16 == at % 16 == 0
            row, second = g.insert(size)
            assert lists.pop(at, None) == (row << g.sl | second if flags & 1 else None)  # M5: the right one
            assert (starts.pop(at, None) == size) is not bool(flags & 1)  # M7: the used are the live
        idle += len(seen) == 2 and seen[0][2] & 1
    assert not lists
    assert idle <= 1
    assert len(starts) == sum(1 for start in starts if start // page_size in lent)
    for row in range(g.rows):  # M4
        bits = sum(1 << s for s in range(32) if heap._heads[row << 5 | s])
        assert heap._row_bits[row] == bits
        assert heap._rows >> row & 1 == bool(bits)


@pytest.mark.parametrize("parameters", ["pages=8", "pages=8,whole=trim", "pages=16,page_size=256", "pages=6,most=2"])
def test_every_invariant_after_every_operation(parameters):
    """On 2,000 random operations nothing is ever out of place, and refusals are foretold exactly."""
    heap, rng, live, shadow = XenTlsf(**settings(parameters)), random.Random(parameters), {}, Shadow()
    refused = 0
    for name in range(2000):
        size = 1 + int(heap.source.page_size / 64 * 2 ** rng.uniform(0, 8))
        if live and rng.random() < 0.45:
            block = rng.choice(list(shadow.live.values()))
            heap.free(block.handle)
            shadow.remove(block)
            del live[block.handle]
        elif rng.random() < 0.05:
            heap.maintain("grow")
        else:
            request = Request(size, 1 << rng.randrange(9) if rng.random() < 0.4 else 1)
            promised = heap.contract.must_serve(request, shadow, heap.source)
            handle = heap.alloc(request.size, request.align)
            assert isinstance(handle, int) == promised
            if promised:
                live[handle] = (size, request.align)
                shadow.add(Block(name, handle, size, request.align, heap.extents(handle)))
            else:
                refused += 1
                assert not heap.contract.must_refuse(request, shadow, heap.source) or size > heap.contract.largest
        check_everything(heap, live)
        free = sum(region.length for region in heap.free_regions())
        held = heap.source.held * heap.source.page_size
        assert shadow.bytes + free + heap.contract.overhead(shadow, heap.source) == held
    assert refused > 50
    for handle in live:
        heap.free(handle)
    assert heap.source.held <= 1  # M8: but for an idle region
    heap.destroy()
    assert heap.source.held == 0


@pytest.mark.parametrize("parameters", ["pages=1", "pages=2", "pages=3,whole=trim", "pages=8,word=32"])
def test_limits_of_a_fresh_heap(parameters):
    """A fresh heap serves the advertised maximum, and one byte more is too big; equal parameters share a contract."""
    heap = XenTlsf(**settings(parameters))
    assert isinstance(heap.alloc(heap.contract.max_size), int)
    assert XenTlsf(**settings(parameters)).alloc(heap.contract.max_size + 1) is Refusal.TOO_BIG
    assert heap.contract is XenTlsf(**settings(parameters)).contract


def test_waste():
    """A pooled block exceeds its request by less than 1/32, a unit and 16 bytes of a rest that is no block."""
    heap = XenTlsf(pages=8)
    for size in range(1, 4033, 7):
        handle = heap.alloc(size)
        assert heap.extents(handle)[0][2] - size < max(16, size / 32 + 16) + 16
        heap.free(handle)


def test_null():
    """Freeing nothing does nothing."""
    heap = XenTlsf(pages=2)
    heap.free(None)
    assert heap.source.held == 1


@pytest.mark.parametrize(
    "parameters",
    [{"pages": 0}, {"word": 16}, {"page_size": 100}, {"page_size": 64}, {"whole": "half"}, {"rev": "4.0"},
     {"rev": "3.4", "whole": "trim"}, {"most": -1}],
)  # fmt: skip
def test_bad_parameters(parameters):
    """A configuration that cannot be is refused in words."""
    with pytest.raises(ValueError, match=r"pages|word|page_size|whole|revision|most"):
        XenTlsf(**parameters)


# ---- what was said for it when it was brought in ------------------------------------------


def churned(heap, seed, most, steps):
    """Allocate and free about ``most`` bytes of 32 to 3000; (request bytes, power-of-two bytes, pages) at the peak."""
    rng, live, peak, asked, rounded = random.Random(seed), [], (0, 0, 0), 0, 0
    for _ in range(steps):
        if live and rng.random() < (0.6 if asked > most else 0.3):
            index = rng.randrange(len(live))
            handle, size = live[index]
            live[index] = live[-1]
            live.pop()
            heap.free(handle)
            sign = -1
        else:
            size = max(32, min(3000, int(rng.gauss(1500, 700))))
            handle = heap.alloc(size)
            live.append((handle, size))
            sign = 1
        asked += sign * size
        rounded += sign * (1 << (size - 1).bit_length())
        if heap.source.held > peak[2]:
            peak = asked, rounded, heap.source.held
    return peak


class TestClaims:
    """The postings of October 2008, on a random load of compressed pages; bytes are counted, not clock ticks."""

    def test_better_fragmentation_than_xmalloc(self):
        """The same load takes 152 pages at the peak, and 202 of first fit with 128-byte headers."""
        _, _, pages = churned(XenTlsf(pages=512), 1, 1 << 19, 6000)
        _, _, older = churned(XenXmalloc(pages=512), 1, 1 << 19, 6000)
        assert pages < 160
        assert older > 195

    def test_less_than_power_of_two_classes(self):
        """Power-of-two classes alone, without any page half full, take a fifth more than TLSF's pages.

        For compcache's own load some 40 % were measured.
        """
        asked, rounded, pages = churned(XenTlsf(pages=512), 1, 1 << 19, 6000)
        assert pages * PAGE < 1.25 * asked
        assert rounded > 1.2 * pages * PAGE

    def test_bounded_calls(self):
        """With ten times the free blocks first fit walks ten times as far, and TLSF looks at one head still."""
        walked, probed = [], []
        for count in (40, 400):
            older, heap = XenXmalloc(pages=256), XenTlsf(pages=256)
            for one in (older, heap):
                handles = [one.alloc(100) for _ in range(2 * count)]
                for handle in handles[::2]:
                    one.free(handle)
                one.alloc(1500)
            walked.append(older.cost()["walked"])
            probed.append(heap.cost()["probed"])
        assert walked[1] >= 10 * walked[0] - 20
        assert probed == [1, 1]

    @pytest.mark.parametrize(
        ("low", "high", "most"), [(16, 256, 0.16), (16, 2048, 0.16), (256, 4096, 0.20)], ids=["small", "mixed", "large"]
    )
    def test_published_fragmentation(self, low, high, most):
        """Conte's layout stays below the 25 % that the authors measured at worst; their average of 15 % is near.

        Counted as highest address over the peak of what was asked for, headers and rounding included.
        """
        rng, heap, live, asked, peak, top = random.Random(3), Tlsf(arena=1 << 21), [], 0, 0, 0
        for _ in range(6000):
            if live and rng.random() < (0.6 if asked > 1 << 17 else 0.3):
                handle, size = live.pop(rng.randrange(len(live)))
                heap.free(handle)
                asked -= size
            else:
                size = rng.randrange(low, high)
                handle = heap.alloc(size)
                live.append((handle, size))
                asked += size
                peak, top = max(peak, asked), max(top, handle + size)
        assert 0 < top / peak - 1 < most < 0.25
