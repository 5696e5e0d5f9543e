"""xcfmalloc: blocks and descriptors, scattered objects, the reserve, compaction, and the posted condition."""

import random
import struct

import pytest

from heaplaw import Block, InvalidFree, Kind, Operation, Refusal, Request, Shadow
from heaplaw.impls.xcfmalloc import REVISIONS, Xcfmalloc
from heaplaw.impls.xcfmalloc_blocks import SENTINEL, Layout
from heaplaw.runs import run

PAGE, H = 4096, 16
V1 = REVISIONS[0]


def tiles(pool, page):
    """(offset, bytes, free) of the blocks of a page, along its headers; back pointers and prevoffset are checked."""
    size, grain, before, offset, found = pool.source.page_size, pool._layout.block, 0, 0, []
    while offset < size:
        number, prevoffset, sentinel = struct.unpack_from("<QiI", pool.source.memory, page * size + offset)
        desc = pool._blocks.descs[number]
        assert (desc.page, desc.offset) == (page, offset)  # M1
        assert prevoffset == before  # M3
        assert sentinel == SENTINEL
        assert desc.flags in (1, 2)
        length = -(-desc.size // grain) * grain
        assert desc.flags == 2 or length == desc.size
        found.append((offset, length, desc.flags == 1))
        before, offset = offset, offset + length
    assert offset == size
    return found


def free_blocks(pool):
    """Bytes of all free blocks, as the pages have them, longest first."""
    pages = [page for page, _ in pool.pages()]
    return sorted((length for page in pages for _, length, free in tiles(pool, page) if free), reverse=True)


def parts(pool, handle):
    """Bytes of an object's blocks, headers included."""
    return [length + pool._header for _, _, length in pool.extents(handle)]


def touched(pool, handles):
    """Pages that these objects lie on."""
    return {start // pool.source.page_size for handle in handles for _, start, _ in pool.extents(handle)}


def assert_sound(pool, live):
    """M1 to M8, for live objects {handle: contents}."""
    size, layout, blocks = pool.source.page_size, pool._layout, pool._blocks
    pages = [page for page, _ in pool.pages()]
    assert sorted(pages) == sorted(pool.source.owned)
    assert blocks.page_count == len(pages)  # M7
    free, used = {}, {}
    for page in pages:
        last_free = False
        for offset, length, is_free in tiles(pool, page):
            assert not (last_free and is_free)  # M2
            last_free = is_free
            (free if is_free else used)[page * size + offset] = length
    assert blocks.desc_count == len(free) + len(used)  # M7
    listed = [(index, start - layout.header) for index, (_, start) in pool.lists()]
    assert len({start for _, start in listed}) == len(listed)
    assert {start: (index + 1) * layout.block for index, start in listed} == free  # M4
    assert blocks.reserve_count == sum(length == size for length in free.values())  # M6
    for handle, contents in live.items():
        chain = pool._chain(handle)
        assert 1 <= len(chain) <= pool._max_blocks  # M5
        assert sum(desc.size - layout.header for desc in chain) == pool.get_alloc_size(handle) == len(contents)
        for desc in chain[:-1]:
            assert desc.size % layout.block == 0  # only the last one may be partly used
        for desc in chain:
            assert used.pop(blocks.address(desc)) == layout.aligned(desc.size)
        assert pool.read(handle, 0, len(contents)) == contents  # M8
    assert not used


def two_half_pages(**parameters):
    """A pool with a free block of 2048 bytes on each of two pages."""
    pool = Xcfmalloc(**parameters)
    handles = [pool.alloc(2032) for _ in range(4)]
    pool.free(handles[1])
    pool.free(handles[3])
    return pool, handles[::2]


class TestConstants:
    def test_lists(self):
        """Blocks are multiples of 64 bytes; of 64 lists the last, 63, is of free pages; 32 of these are kept."""
        pool = Xcfmalloc()
        assert (pool._layout.block, pool._layout.lists) == (64, 64)
        assert [(index, start % PAGE) for index, (_, start) in pool.lists()] == [(63, H)] * 32
        assert pool.counters() == {"pages": 32, "reserve_pages": 32, "descriptors": 32}

    @pytest.mark.parametrize(
        ("word", "debug", "header", "most"), [(8, 1, 16, 4080), (8, 0, 16, 4080), (4, 1, 12, 4084), (4, 0, 8, 4088)]
    )
    def test_headers(self, word, debug, header, most):
        """A header is 16 bytes on 64-bit machines, 12 on 32-bit ones, 8 there without sentinel."""
        pool = Xcfmalloc(pages=2, word=word, debug=debug)
        assert pool._header == header
        assert pool.contract.largest == most
        assert pool.extents(pool.alloc(most)) == ((0, PAGE + header, most),)
        assert pool.alloc(most + 1) is Refusal.TOO_BIG

    def test_descriptors(self):
        """Three words and two ints: 20 bytes on 32-bit machines (five words), 32 on 64-bit ones (four)."""
        assert Layout(PAGE, 6, 4, 1).desc_bytes == 20 == 5 * 4
        assert Layout(PAGE, 6, 8, 1).desc_bytes == 32  # counted as five words in reviews; two are half ones

    def test_other_pages(self):
        """Pages of 256 bytes with blocks of 32 have 8 lists."""
        pool = Xcfmalloc(pages=3, page_size=256, shift=5, reserve=1, word=4, debug=0)
        assert [index for index, _ in pool.lists()] == [7]
        assert parts(pool, pool.alloc(24)) == [32]
        assert parts(pool, pool.alloc(25)) == [64]

    @pytest.mark.parametrize(
        "wrong",
        [
            {"pages": 0}, {"pages": "x"}, {"page_size": 100}, {"shift": 4}, {"shift": 12}, {"reserve": 0},
            {"blocks": 0}, {"word": 2}, {"debug": 2}, {"rev": "v3"}, {"descs": -1}, {"descs": 32},
        ],
    )  # fmt: skip
    def test_parameters_are_checked(self, wrong):
        """Parameters that make no pool raise ValueError."""
        with pytest.raises(ValueError, match=r"\w"):
            Xcfmalloc(**wrong)


class TestWorkedExamples:
    def test_48_and_49(self):
        """48 bytes take one block of 64; 49 take 128; 0 take 64."""
        pool = Xcfmalloc(pages=1)
        assert [parts(pool, pool.alloc(size)) for size in (48, 49, 0)] == [[64], [128], [64]]
        assert tiles(pool, 0) == [(0, 64, False), (64, 128, False), (192, 64, False), (256, PAGE - 256, True)]

    def test_3000_in_blocks_of_2048(self):
        """3000 bytes use two blocks: 2032 bytes in the first, 968 + 16 = 984 bytes in 1024 of the second."""
        pool, kept = two_half_pages(pages=2)
        assert free_blocks(pool) == [2048, 2048]
        handle = pool.alloc(3000)
        assert parts(pool, handle) == [2048, 1024]
        assert [desc.size - H for desc in pool._chain(handle)] == [2032, 968]
        assert pool._chain(handle)[1].size == 984
        assert free_blocks(pool) == [1024]
        assert pool.cost()["splits"] == 1
        contents = random.Random(1).randbytes(3000)
        pool.write(handle, 0, contents)
        assert_sound(pool, {handle: contents, **{h: pool.read(h, 0, 2032) for h in kept}})

    def test_partly_used_pages_before_the_reserve(self):
        """The same holds while wholly free pages are there: they are the last resort."""
        pool, _ = two_half_pages(pages=8, reserve=4)
        assert free_blocks(pool) == [PAGE] * 4 + [2048, 2048]
        assert parts(pool, pool.alloc(3000)) == [2048, 1024]

    def test_2100_bytes(self):
        """Objects of 2100 bytes: 1.88 a page where two blocks may be used, 1 a page where one must do."""
        for blocks, count in ((2, 188), (1, 100)):
            pool = Xcfmalloc(pages=100, blocks=blocks)
            handles = []
            while (handle := pool.alloc(2100)) is not None:
                handles.append(handle)
            assert len(handles) == count
        # 34 granules a whole object, 30 + 4 a scattered one: 64 / 34 = 1.88
        assert round(64 / 34, 2) == 1.88

    def test_2100_bytes_as_posted(self):
        """The posted condition stores one a page, like the allocator that it was to replace."""
        pool = Xcfmalloc(pages=100, rev=V1)
        assert sum(pool.alloc(2100) is not None for _ in range(200)) == 100


class TestChoice:
    def layout(self, *free, **parameters):
        """A pool with free blocks of these bytes, on a page each, and no others."""
        pool = Xcfmalloc(pages=len(free), reserve=len(free), **parameters)
        for length in free:
            if length < PAGE:
                fill = pool.alloc(PAGE - length - H)
                assert parts(pool, fill) == [PAGE - length]
                hold = pool.alloc(length - H)  # so that the next one begins a page
                assert len(parts(pool, hold)) == 1
        for index, length in enumerate(free):
            if length < PAGE:
                (_, *rest) = pool._blocks.blocks_on(index)
                pool.free(rest[0].number)
        assert free_blocks(pool) == sorted(free, reverse=True)
        return pool

    def test_exact_list_first(self):
        """A block of the very size is taken before longer and shorter ones."""
        pool = self.layout(1024, 512, 2048)
        assert parts(pool, pool.alloc(512 - H)) == [512]

    def test_longest_shorter_next(self):
        """Else the first part is the longest shorter block, though a longer one would do alone."""
        pool = self.layout(1024, 512, 2048, 256)
        assert parts(pool, pool.alloc(1500)) == [1024, 512]
        assert pool.cost()["found"] == (1024 - H) + (512 - H)

    def test_last_part_is_the_shortest_longer(self):
        """The last part must fit: the shortest block that is long enough."""
        pool = self.layout(512, 640, 2048)
        assert parts(pool, pool.alloc(1024)) == [640, 448]  # 1024 - 624 + 16 = 416, out of 512
        assert free_blocks(pool) == [2048, 64]

    def test_shortest_longer_where_there_is_no_shorter(self):
        """Without a shorter block the shortest longer one is cut."""
        pool = self.layout(1024, 2048)
        assert parts(pool, pool.alloc(500)) == [576]
        assert free_blocks(pool) == [2048, 448]

    def test_index_0_is_no_first_part(self):
        """Blocks of 64 bytes are never the first part of an object, but may be the last one."""
        pool = self.layout(64, 64)
        assert pool.alloc(90) is None
        assert not pool.contract.must_serve(Request(90), shadow_of(pool), pool.source)
        pool = self.layout(64, 128)
        assert parts(pool, pool.alloc(150)) == [128, 64]

    def test_no_more_than_two_parts(self):
        """A request may fail though three free blocks together would hold it."""
        pool = self.layout(1344, 1344, 1344)
        assert pool.alloc(3000) is None
        assert free_blocks(pool) == [1344, 1344, 1344]
        three = self.layout(1344, 1344, 1344, blocks=3)
        assert parts(three, three.alloc(3000)) == [1344, 1344, 384]

    def test_failure_puts_blocks_back(self):
        """What was taken for a request that fails is free again, unmerged because it was maximal."""
        pool = self.layout(2048, 512)
        assert pool.alloc(2600) is None
        assert free_blocks(pool) == [2048, 512]
        assert sorted(index for index, _ in pool.lists()) == [7, 31]
        assert parts(pool, pool.alloc(2528)) == [2048, 512]

    def test_lists_are_last_in_first_out(self):
        """Of blocks of one size the one freed last is taken."""
        pool = Xcfmalloc(pages=1)
        handles = [pool.alloc(48) for _ in range(7)]
        places = [pool.extents(handle) for handle in handles]
        for index in (1, 5, 3):
            pool.free(handles[index])
        assert [pool.extents(pool.alloc(48)) for _ in range(3)] == [places[3], places[5], places[1]]

    def test_lists_searched(self):
        """A part looks at 64 lists at most, a request at 128."""
        pool = Xcfmalloc(pages=1)
        pool.alloc(4080)
        assert pool.alloc(2000) is None
        assert pool.cost()["probed"] == 64  # index 31: 31 to 1 with itself again, then 32 to 63
        assert pool.contract.cost_bounds["probed"](Request(2000), Shadow()) == 128


class TestSplitAndMerge:
    def test_split(self):
        """A split gives the rest a header that names the block before, and the block after learns of it."""
        pool = Xcfmalloc(pages=1)
        first, _ = pool.alloc(1008), pool.alloc(1008)
        pool.free(first)
        pool.alloc(100)
        assert tiles(pool, 0) == [(0, 128, False), (128, 896, True), (1024, 1024, False), (2048, 2048, True)]

    def test_no_split_of_what_is_filled(self):
        """A block that is filled to its last granule is not split."""
        pool = Xcfmalloc(pages=1)
        pool.alloc(4080 - 63)
        assert pool.cost()["splits"] == 0
        assert tiles(pool, 0) == [(0, PAGE, False)]

    @pytest.mark.parametrize(("order", "merges"), [((0, 2, 1), 2), ((0, 1, 2), 1), ((2, 1, 0), 1)])
    def test_merge(self, order, merges):
        """A freed block unites with free neighbours on both sides; descriptors of absorbed blocks are freed."""
        pool = Xcfmalloc(pages=1)
        handles = [pool.alloc(112) for _ in range(3)]
        end = pool.alloc(PAGE - 3 * 128 - H)
        for index in order:
            pool.free(handles[index])
        assert pool.cost()["merges"] == merges
        assert tiles(pool, 0) == [(0, 384, True), (384, PAGE - 384, False)]
        assert pool.counters()["descriptors"] == 2
        pool.free(end)
        assert tiles(pool, 0) == [(0, PAGE, True)]
        assert pool.counters() == {"pages": 1, "reserve_pages": 1, "descriptors": 1}

    def test_offset_0_has_no_predecessor(self):
        """The first block of a page has prevoffset 0, which is itself, and does not merge with it."""
        pool = Xcfmalloc(pages=1)
        handle = pool.alloc(100)
        pool.alloc(100)
        pool.free(handle)
        assert pool.cost()["merges"] == 0
        assert tiles(pool, 0)[0] == (0, 128, True)

    def test_absorbed_headers_lose_their_sentinel(self):
        """Where a header was and is no more, its sentinel is cleared."""
        pool = Xcfmalloc(pages=1)
        one, two = pool.alloc(48), pool.alloc(48)
        pool.free(one)
        pool.free(two)
        sentinel = struct.unpack_from("<I", pool.source.memory, 64 + 12)
        assert sentinel == (0,)

    def test_contents_cross_blocks(self):
        """Any part of a scattered object is read and written, its seam included."""
        pool, _ = two_half_pages(pages=2)
        handle = pool.alloc(3000)
        pool.write(handle, 0, bytes(3000))
        pool.write(handle, 2030, b"abcd")
        assert pool.read(handle, 2029, 6) == b"\0abcd\0"
        assert pool.read(handle, 2032, 2) == b"cd"
        assert pool.read(handle, 3000, 0) == b""
        for at, length in ((2999, 2), (-1, 1), (0, 3001)):
            with pytest.raises(ValueError, match="leave object"):
                pool.read(handle, at, length)

    def test_alloc_size(self):
        """An object's size is the sum of what its blocks store."""
        pool, kept = two_half_pages(pages=2)
        assert [pool.get_alloc_size(handle) for handle in (kept[0], pool.alloc(3000))] == [2032, 3000]


class TestReserve:
    def test_filled_at_creation_and_before_every_request(self):
        """32 pages are taken at creation, and the page that a request uses is replaced by the next one."""
        pool = Xcfmalloc()
        assert pool.source.held == 32
        pool.alloc(4080)
        assert pool.counters()["reserve_pages"] == 31
        pool.alloc(4080)
        assert (pool.source.held, pool.counters()["reserve_pages"]) == (33, 31)

    def test_stops_quietly(self):
        """Fewer pages than the reserve would like are no error."""
        pool = Xcfmalloc(pages=5)
        assert pool.counters() == {"pages": 5, "reserve_pages": 5, "descriptors": 5}
        assert pool.alloc(4080) is not None
        assert pool.source.refused == 2

    def test_trimmed_after_a_free(self):
        """Pages beyond 32 free ones go back with the free that made them, never more than 32 stay."""
        pool = Xcfmalloc()
        handles = [pool.alloc(4080) for _ in range(40)]
        assert pool.source.held == 71  # 31 in reserve, refilled by the next request only
        for handle in handles:
            pool.free(handle)
            assert pool.counters()["reserve_pages"] <= 32
        assert pool.source.held == 32

    def test_serves_while_pages_are_refused(self):
        """The reserve serves 32 requests of up to 4080 bytes while no page can be had."""
        pool = Xcfmalloc(pages=40)
        pool.source.fail_next(0, 1 << 30)
        assert all(pool.alloc(4080) is not None for _ in range(32))
        assert pool.alloc(0) is None

    def test_promise(self):
        """The contract promises any request while live objects touch fewer pages than the pool began with."""
        pool = Xcfmalloc(pages=8, reserve=2)
        promise, shadow = pool.contract.reserve, Shadow()
        for name in range(2):
            assert promise(Request(1), shadow) == 4080
            handle = pool.alloc(4000)
            shadow.add(Block(name, handle, 4000, 1, pool.extents(handle)))
        assert promise(Request(0), shadow) == -1
        assert Xcfmalloc(reserve=2, descs=100).contract.reserve is None

    def test_destroy(self):
        """Destroying a pool gives back the reserve pages alone; those of live objects leak, as posted."""
        pool = Xcfmalloc(pages=8, reserve=3)
        pool.alloc(1)
        pool.alloc(4080)
        assert pool.source.held == 4
        pool.destroy()
        assert pool.source.held == 2

    def test_refused_sizes(self):
        """4081 bytes are too big, alignments are not offered; 0 bytes are served."""
        pool = Xcfmalloc()
        assert pool.alloc(4081) is Refusal.TOO_BIG
        assert pool.alloc(2**64 + 1) is Refusal.TOO_BIG
        assert pool.alloc(-1) is Refusal.INVALID
        assert pool.alloc(8, 3) is Refusal.INVALID
        assert pool.get_alloc_size(pool.alloc(0)) == 0


class TestDescriptors:
    def test_no_descriptor_for_a_split(self):
        """A split that gets no descriptor fails the request, and all blocks taken are free again."""
        pool = Xcfmalloc(pages=2, reserve=1, descs=2)
        assert pool.alloc(4080) is not None
        assert pool.alloc(100) is None  # the second page has the other descriptor
        assert free_blocks(pool) == [PAGE]
        assert pool.alloc(4080) is not None

    def test_no_descriptor_after_two_blocks(self):
        """The same after both parts were taken: two descriptors' blocks return to their lists."""
        pool = Xcfmalloc(pages=2, reserve=2, descs=4)
        handles = [pool.alloc(2032) for _ in range(4)]
        pool.free(handles[1])
        pool.free(handles[3])
        assert pool.alloc(3000) is None
        assert free_blocks(pool) == [2048, 2048]
        handle = pool.alloc(4064)  # fills both, so that nothing is split
        assert parts(pool, handle) == [2048, 2048]
        assert_sound(pool, {h: pool.read(h, 0, pool.get_alloc_size(h)) for h in (handle, handles[0], handles[2])})

    def test_no_descriptor_for_a_page(self):
        """Without a descriptor no page is taken for the reserve, and none is asked for."""
        pool = Xcfmalloc(pages=8, reserve=1, descs=2)
        pool.alloc(100)
        taken = pool.source.taken
        pool.alloc(100)
        assert (pool.source.taken, pool.source.refused) == (taken, 0)

    def test_freed_then_asked_again(self):
        """With few descriptors a page for the reserve may take the one that the same request had before."""
        pool = Xcfmalloc(pages=3, reserve=1, descs=3)
        pool.alloc(100)
        pool.source.fail_next(0, 1)
        handle = pool.alloc(100)
        assert pool.counters() == {"pages": 1, "reserve_pages": 0, "descriptors": 3}
        pool.free(handle)
        assert pool.alloc(100) is None
        assert pool.counters() == {"pages": 2, "reserve_pages": 1, "descriptors": 3}
        assert not pool.contract.free_then_alloc
        assert Xcfmalloc().contract.free_then_alloc

    def test_double_free(self):
        """An object freed twice in a row is noticed, whatever became of its descriptor."""
        pool = Xcfmalloc(pages=1)
        handles = [pool.alloc(48) for _ in range(4)]
        for index in (1, 0, 2, 3):
            pool.free(handles[index])
            with pytest.raises(InvalidFree):
                pool.free(handles[index])

    def test_handle_0(self):
        """The first descriptor is number 0, and a handle like any other."""
        pool = Xcfmalloc(pages=1, reserve=1)
        assert pool.alloc(10) == 0


class TestInvariants:
    @pytest.mark.parametrize(
        "parameters",
        [
            {"pages": 6, "reserve": 2}, {"pages": 8, "page_size": 512, "reserve": 1}, {"pages": 5, "blocks": 1},
            {"pages": 9, "page_size": 1024, "reserve": 2, "blocks": 3}, {"pages": 6, "reserve": 2, "descs": 20},
            {"pages": 6, "reserve": 2, "rev": V1},
        ],
        ids=str,
    )  # fmt: skip
    def test_random_runs(self, parameters):
        """M1 to M8 hold after every operation, compaction and refused pages among them."""
        rng = random.Random(11)
        pool, live, most, moved = Xcfmalloc(**parameters), {}, 0, 0
        for _ in range(1500):
            choice = rng.random()
            if choice < 0.5:
                size = min(int(rng.paretovariate(0.4)), rng.randint(0, pool.contract.largest))
                if rng.random() < 0.2:
                    pool.source.fail_next(0, rng.randint(1, 3))
                handle = pool.alloc(size)
                assert not isinstance(handle, Refusal)
                if handle is not None:
                    assert handle not in live
                    live[handle] = rng.randbytes(size)
                    pool.write(handle, 0, live[handle])
                    most = max(most, len(pool.extents(handle)))
            elif choice < 0.92 and live:
                handle = rng.choice(sorted(live))
                assert pool.read(handle, 0, len(live[handle])) == live.pop(handle)
                pool.free(handle)
                assert pool.counters()["reserve_pages"] <= pool._blocks.most_reserve  # M6
            else:
                held = pool.source.held
                moved += pool.maintain("compact").moved
                assert pool.source.held <= held
            assert_sound(pool, live)
        assert most == (1 if "rev" in parameters else parameters.get("blocks", 2))
        assert moved > 0
        for handle in list(live):
            pool.free(handle)
        assert pool.source.held == pool.counters()["reserve_pages"] <= min(parameters["pages"], 32)

    def test_padding(self):
        """A request has less than 64 bytes of padding, all in its last block; 0 bytes have 48."""
        pool = Xcfmalloc(pages=2)
        for size in range(4081):
            handle = pool.alloc(size)
            ((_, _, length),) = pool.extents(handle)
            assert length - size == -(size + H) % 64
            assert length - size <= pool.contract.waste(size, 1)
            pool.free(handle)
        assert pool.contract.waste(0, 1) == 48

    def test_must_serve_is_exact(self):
        """While pages are short the contract's predicate says of every size what the pool does."""
        rng, both = random.Random(8), {True: 0, False: 0}
        for parameters in ({"pages": 4, "reserve": 1}, {"pages": 3, "reserve": 2}, {"pages": 5, "blocks": 3}):
            pool, shadow = Xcfmalloc(**parameters), Shadow()
            for name in range(1200):
                size = min(int(rng.paretovariate(0.3)), rng.randint(0, 4080))
                expected = pool.contract.must_serve(Request(size), shadow, pool.source)
                handle = pool.alloc(size)
                assert (handle is not None) == expected
                both[expected] += 1
                if handle is not None:
                    shadow.add(Block(name, handle, size, 1, pool.extents(handle)))
                while len(shadow) and (handle is None or rng.random() < 0.4):
                    block = shadow.live[rng.choice(shadow.names)]
                    pool.free(block.handle)
                    shadow.remove(block)
                    handle = 0
        assert min(both.values()) > 100


def shadow_of(pool):
    """The shadow heap of what stands in a pool's pages now."""
    shadow, seen = Shadow(), set()
    for page, _ in pool.pages():
        for desc in pool._blocks.blocks_on(page):
            if not desc.is_free and desc.prev is None and desc.number not in seen:
                seen.add(desc.number)
                size = pool.get_alloc_size(desc.number)
                shadow.add(Block(desc.number, desc.number, size, 1, pool.extents(desc.number)))
    return shadow


class TestCompaction:
    def sparse(self, pages, keep=1000, **parameters):
        """A pool whose pages each have one object of ``keep`` bytes left, with contents."""
        pool = Xcfmalloc(pages=pages, **parameters)
        pairs = [(pool.alloc(4080 - 1024), pool.alloc(keep)) for _ in range(pages)]
        live = {}
        for filler, handle in pairs:
            live[handle] = bytes([len(live) + 1]) * keep
            pool.write(handle, 0, live[handle])
            pool.free(filler)
        assert len(touched(pool, live)) == pages
        return pool, live

    def test_pages_are_emptied(self):
        """Eight pages with a block of 1024 bytes each become two full ones; handles and contents stay."""
        pool, live = self.sparse(8, reserve=1)
        done = pool.maintain("compact")
        assert (done.pages_freed, done.moved) == (5, 6)  # one of the six emptied ones is the reserve
        assert len(touched(pool, live)) == 2
        assert pool.source.held == 3
        assert_sound(pool, live)

    def test_second_pass_frees_nothing(self):
        """A second compaction moves nothing and changes nothing."""
        pool, live = self.sparse(8, reserve=1)
        pool.maintain("compact")
        state = pool.snapshot()
        assert pool.maintain("compact") == (0, 0, ())
        assert pool.snapshot() == state
        assert_sound(pool, live)

    def test_no_page_is_asked_for(self):
        """Compaction asks for no page: refused ones cannot stop it or cost contents."""
        pool, live = self.sparse(8, reserve=1)
        taken, refused = pool.source.taken, pool.source.refused
        pool.source.fail_next(0, 100)
        assert pool.maintain("compact").moved == 6
        assert (pool.source.taken, pool.source.refused) == (taken, refused)
        assert_sound(pool, live)

    def test_free_pages_are_no_places_to_go_to(self):
        """A lone object stays where it is, however many pages are free."""
        pool = Xcfmalloc(pages=4)
        live = {pool.alloc(100): bytes(100)}
        assert pool.maintain("compact") == (0, 0, ())
        assert_sound(pool, live)

    def test_page_by_page_all_or_nothing(self):
        """A page of which one block finds no room keeps all of them."""
        pool = Xcfmalloc(pages=2, reserve=1)
        handles = [pool.alloc(size) for size in (2000, 48, 1900)]  # the last one begins with the rest of page 0
        assert touched(pool, handles[:2]) == {0}
        places = [pool.extents(handle) for handle in handles]
        assert pool.maintain("compact").moved == 0
        assert [pool.extents(handle) for handle in handles] == places

    def test_both_parts_move(self):
        """A scattered object may have either part moved, and stays one object."""
        pool, kept = two_half_pages(pages=6, reserve=1)
        handle = pool.alloc(3000)
        contents = random.Random(4).randbytes(3000)
        pool.write(handle, 0, contents)
        for other in kept:
            pool.free(other)
        assert parts(pool, handle) == [2048, 1024]
        assert len(touched(pool, [handle])) == 2
        pool.maintain("compact")
        assert len(touched(pool, [handle])) == 1
        assert parts(pool, handle) == [2048, 1024]
        assert_sound(pool, {handle: contents})
        pool.free(handle)  # side by side now, which no request makes them: they merge all the same
        assert free_blocks(pool) == [PAGE]

    def full_page_and_room(self, **parameters):
        """Page 0 full of two blocks of 2048, a free block of 2048 on each of pages 1 and 2."""
        pool = Xcfmalloc(pages=3, reserve=1, **parameters)
        handles = [pool.alloc(2032) for _ in range(6)]
        for index in (3, 5):
            pool.free(handles[index])
        live = {handles[index]: bytes([index]) * 2032 for index in (0, 1, 2, 4)}
        for handle, contents in live.items():
            pool.write(handle, 0, contents)
        return pool, live

    def test_exact_fits(self):
        """Blocks that fill what they move into free a descriptor; the emptied page has one."""
        pool, live = self.full_page_and_room()
        assert pool.counters()["descriptors"] == 6
        assert pool.maintain("compact").moved == 1  # the second of two half pages
        assert pool.counters() == {"pages": 3, "reserve_pages": 1, "descriptors": 5}
        assert_sound(pool, live)

    @pytest.mark.parametrize(("descs", "moved", "left"), [(0, 3, 7), (10, 3, 7), (9, 0, 9)])
    def test_a_page_without_free_blocks_needs_a_descriptor(self, descs, moved, left):
        """A full page is emptied with a new descriptor, and left alone where there is none."""
        pool = Xcfmalloc(pages=4, reserve=4, descs=descs)
        sizes = (1968, 1968, 112, 2096, 1968, 2096, 1968, 3952, 112)  # four full pages of 3, 2, 2 and 2 blocks
        handles = [pool.alloc(size) for size in sizes]
        for index in (4, 6, 8):
            pool.free(handles[index])
        live = {handles[index]: bytes([index + 1]) * sizes[index] for index in (0, 1, 2, 3, 5, 7)}
        for handle, contents in live.items():
            pool.write(handle, 0, contents)
        assert pool.counters()["descriptors"] == 9
        assert pool.maintain("compact").moved == moved
        assert pool.counters()["descriptors"] == left
        assert_sound(pool, live)

    def test_unknown_kind(self):
        """An unknown kind of maintenance is an error that names the known one."""
        with pytest.raises(ValueError, match="'compact'"):
            Xcfmalloc().maintain("shrink")

    @pytest.mark.parametrize("seed", range(4))
    def test_random_heaps(self, seed):
        """On random sparse heaps compaction never takes pages, keeps contents, and is done after one call."""
        rng = random.Random(seed)
        pool, live = Xcfmalloc(pages=40, reserve=2), {}
        while (handle := pool.alloc(rng.randint(1, 2500))) is not None:
            live[handle] = b""
        for handle in list(live):
            if rng.random() < 0.7:
                pool.free(handle)
                del live[handle]
        for handle in live:
            live[handle] = rng.randbytes(pool.get_alloc_size(handle))
            pool.write(handle, 0, live[handle])
        before = len(touched(pool, live))
        pool.maintain("compact")
        assert_sound(pool, live)
        after = len(touched(pool, live))
        stored = sum(sum(parts(pool, handle)) for handle in live)
        assert -(-stored // PAGE) <= after < before
        assert after * PAGE < 1.35 * stored
        assert pool.maintain("compact").moved == 0


class TestSeedClaims:
    def test_external_fragmentation_of_single_blocks(self):
        """Sets of objects just over half a page waste nearly half of all pages when one block must do: 48 %."""
        pool = Xcfmalloc(pages=64, blocks=1)
        handles = [pool.alloc(2052) for _ in range(64)]
        assert None not in handles
        assert pool.alloc(2052) is None
        assert 0.48 < sum(free_blocks(pool)) / (64 * PAGE) < 0.5
        scattered = Xcfmalloc(pages=64)
        count = 0
        while scattered.alloc(2052) is not None:
            count += 1
        assert count > 1.8 * 64

    def test_metadata_overhead(self):
        """A block costs 16 bytes in its page and a descriptor of 32: 48 bytes, twice for a scattered object."""
        pool, _ = two_half_pages(pages=2)
        inside, outside = pool.metadata()
        assert (inside, outside) == (4 * 16, 4 * 32)
        pool.alloc(4064)
        assert pool.metadata() == (inside, outside)

    def test_every_access_is_a_copy(self):
        """What is read is a copy: objects of two parts have no address of their own."""
        pool, _ = two_half_pages(pages=2)
        handle = pool.alloc(3000)
        pool.write(handle, 0, b"x" * 3000)
        copy = pool.read(handle, 0, 3000)
        pool.write(handle, 0, b"y" * 3000)
        assert copy == b"x" * 3000
        assert len(pool.extents(handle)) == 2


class TestPostedCondition:
    THREE = tuple(Operation(Kind.ALLOC, name, 2100) for name in range(3))

    def test_never_scatters(self):
        """As posted, the first block always fits, so no object has two."""
        pool, _ = two_half_pages(pages=2, rev=V1)
        assert pool.alloc(3000) is None
        assert parts(pool, pool.alloc(2000)) == [2048]

    def test_refuted(self):
        """Three objects of 2100 bytes on two pages: as posted the third is refused, with 3808 bytes to be had."""
        found = run(lambda: Xcfmalloc(pages=2, reserve=1, rev=V1), self.THREE)
        assert found is not None
        assert (found.law, found.index) == ("no-spurious-refusal", 2)

    def test_repaired(self):
        """The repaired condition breaks no law on the same trace."""
        assert run(lambda: Xcfmalloc(pages=2, reserve=1), self.THREE) is None

    def test_too_short_a_block_unless_two_are_allowed(self):
        """As posted with one block an object, a shorter block may be taken: the object is cut to what is left over."""
        pool = Xcfmalloc(pages=1, blocks=1, rev=V1)
        pool.alloc(2032)
        handle = pool.alloc(3000)  # 2032 of them in the block; the 968 left over is what is kept in mind
        assert pool.get_alloc_size(handle) == 968
        assert parts(pool, handle) == [1024]

    def test_bookkeeping_beyond_the_block(self):
        """Where more is left over than the short block holds, its descriptor claims bytes of its neighbour."""
        pool = Xcfmalloc(pages=1, blocks=1, rev=V1)
        pool.alloc(112)
        hole = pool.alloc(112)
        pool.alloc(PAGE - 256 - H)
        pool.free(hole)
        handle = pool.alloc(3000)
        assert pool.get_alloc_size(handle) == 3000 - 112
        assert parts(pool, handle) == [2944]  # in a block of 128

    def test_short_blocks_are_refuted(self):
        """The checker finds objects that are shorter than asked for; the repaired condition makes none."""
        trace = [Operation(Kind.ALLOC, name, size) for name, size in enumerate((2032, 3000))]
        found = run(lambda: Xcfmalloc(pages=1, blocks=1, rev=V1), trace)
        assert found is not None
        assert (found.law, found.index) == ("big-enough", 1)
        assert run(lambda: Xcfmalloc(pages=1, blocks=1), trace) is None


class TestObservations:
    def test_stray_write(self):
        """Headers are in the pages: one that is written over is noticed at the next look."""
        pool = Xcfmalloc(pages=1)
        handle = pool.alloc(48)
        pool.source.memory[12] ^= 1
        with pytest.raises(RuntimeError, match="sentinel"):
            pool.read(handle, 0, 1)
        with pytest.raises(RuntimeError, match="sentinel"):
            list(pool.free_regions())
        pool.source.memory[12] ^= 1
        pool.source.memory[0] = 200
        with pytest.raises(RuntimeError, match="does not exist"):
            list(pool.free_regions())
        pool.source.memory[0] = 1
        with pytest.raises(RuntimeError, match="does not belong"):
            list(pool.free_regions())

    def test_lists_that_do_not_end(self):
        """A cyclic list ends in RuntimeError, and so does an object of more blocks than allowed."""
        pool = Xcfmalloc(pages=1)
        handle = pool.alloc(48)
        desc = pool._blocks.freelists[62]
        desc.next = desc
        with pytest.raises(RuntimeError, match="free list does not end"):
            list(pool.lists())
        used = pool._blocks.descs[handle]
        used.next = used
        with pytest.raises(RuntimeError, match="more than 2 blocks"):
            pool.extents(handle)

    def test_foreign_handles(self):
        """A number that is no descriptor's is an invalid free."""
        with pytest.raises(InvalidFree):
            Xcfmalloc().free(1 << 48)

    def test_geometry(self):
        """Parts off their granules, beyond their page, too many, or not filled are out of place."""
        geometry = Xcfmalloc().contract.geometry

        def said(size, *extents):
            return geometry(Block(0, 0, size, 1, tuple((0, *extent) for extent in extents)))

        assert said(48, (H, 48)) is None
        assert said(3000, (2048 + H, 2032), (PAGE + 2048 + H, 1008)) is None
        assert "whole 64 bytes" in said(48, (8, 48))
        assert "leaves its page" in said(100, (PAGE - 64 + H, 112))
        assert "3 blocks" in said(130, (H, 48), (64 + H, 48), (128 + H, 48))
        assert "in a last block" in said(49, (H, 48))
        assert "in a last block" in said(40, (H, 48), (64 + H, 48))
        assert "in a last block" in said(40, (H, 112))

    def test_snapshot(self):
        """A restored pool shows and does what the original did."""
        pool, rng = Xcfmalloc(pages=6, reserve=2), random.Random(6)
        handles = [pool.alloc(rng.randint(0, 2500)) for _ in range(12)]
        for handle in handles:
            if handle is not None:
                pool.write(handle, 0, rng.randbytes(pool.get_alloc_size(handle)))
        for handle in handles[::3]:
            pool.free(handle)
        state = pool.snapshot()
        hash(state)

        def use(one):
            answers = [one.alloc(size) for size in (100, 3000, 0, 2000)]
            return answers, one.maintain("compact"), [one.extents(h) for h in answers if h is not None]

        after = use(pool)
        assert pool.snapshot() != state
        pool.restore(state)
        assert pool.snapshot() == state
        twin = Xcfmalloc(pages=6, reserve=2)
        twin.restore(state)
        assert use(pool) == after == use(twin)
