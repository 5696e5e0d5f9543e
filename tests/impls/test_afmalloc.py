"""afmalloc: handles, metadata in memory, quota, failures at every step, mapping, compaction."""

import random
from collections.abc import Iterator
from itertools import count

import pytest

from heaplaw import (
    Block,
    Checker,
    Context,
    FreeRegion,
    Kind,
    Maintained,
    Operation,
    PageSource,
    Refusal,
    Request,
    Shadow,
)
from heaplaw.codec import Codec
from heaplaw.impls.afmalloc import Afmalloc
from heaplaw.impls.afmalloc_published import PublishedAfmalloc
from heaplaw.lawbook import Broken


class Slabs:
    """A kmalloc of the plainest kind: slabs of one page (or as many as an object takes), free slots last in first out.

    Like the real one it takes a page only where no slot is free, and gives pages back only when it
    is shrunk.
    """

    def __init__(self, pages: int, page_size: int) -> None:
        self.source = PageSource(pages, page_size=page_size)
        self.slots: dict[int, list[int]] = {}  # class size -> free slots
        self.size_of: dict[int, int] = {}  # first page of a slab -> class size
        self.live: set[int] = set()

    def class_of(self, size):
        return 96 if 64 < size <= 96 else 192 if 128 < size <= 192 else 1 << max(3, (size - 1).bit_length())

    def order(self, size):
        return max(0, size // self.source.page_size - 1).bit_length()

    def alloc(self, size):
        size = self.class_of(size)
        slots = self.slots.setdefault(size, [])
        if not slots:
            order = self.order(size)
            page = self.source.take(order)
            if page is None:
                return None
            self.size_of[page] = size
            start, end = page * self.source.page_size, (page + (1 << order)) * self.source.page_size
            slots += range(start, end - size + 1, size)
            slots.reverse()
        address = slots.pop()
        self.live.add(address)
        return address

    def free(self, address):
        assert address in self.live, f"{address} is not allocated"
        self.live.remove(address)
        self.slots[self.ksize(address)].append(address)

    def ksize(self, address):
        return self.size_of[self.source.owned[address // self.source.page_size]]

    def maintain(self, kind):
        size = self.source.page_size
        for page, each in list(self.size_of.items()):
            order = self.order(each)
            end = (page + (1 << order)) * size
            mine = [slot for slot in self.slots[each] if page * size <= slot < end]
            if len(mine) == (end - page * size) // each:
                self.slots[each] = [slot for slot in self.slots[each] if not page * size <= slot < end]
                del self.size_of[page]
                self.source.give(page, order)

    def pages(self) -> Iterator[tuple[int, int]]:
        return ((page, 1 << order) for page, order in self.source.runs.items())

    def free_regions(self) -> Iterator[FreeRegion]:
        return (FreeRegion(0, slot, size, size) for size, slots in self.slots.items() for slot in slots)

    def destroy(self):
        for page, size in self.size_of.items():
            self.source.give(page, self.order(size))
        self.slots, self.size_of, self.live = {}, {}, set()


@pytest.fixture(params=["plain", "slub", "slab"])
def make(request):
    """A function that makes a pool, over each kmalloc that there is."""
    own = {"kmalloc": Slabs} if request.param == "plain" else {"era": request.param}
    return lambda **parameters: Afmalloc(**{"pages": 64, **own, **parameters})


def pieces(pool, handle):
    """Lengths of an object's pieces."""
    return [length for _, _, length in pool.extents(handle)]


def filled(pool, size, how_many):
    """Objects, each with contents of its own."""
    handles = {}
    for number in range(how_many):
        handle = pool.alloc(size)
        handles[handle] = bytes([number % 251 + 1]) * size
        pool.write(handle, 0, handles[handle])
    return handles


def intact(pool, contents):
    """Does every object hold what was written?"""
    return all(pool.read(handle, 0, len(data)) == data for handle, data in contents.items())


class TestHandles:
    @pytest.mark.parametrize(
        ("size", "expected", "cost"),
        [
            (400, [256, 128, 32], 448),
            (512, [512], 512),
            (500, [512], 512),
            (3000, [2048, 512, 256, 128, 64], 3072),
            (33, [64], 64),
            (64, [64], 64),
            (300, [256, 64], 352),
            (96, [96], 96),
            (470, [512], 512),
        ],
    )
    def test_worked_examples(self, make, size, expected, cost):
        """Pieces and cost of the worked examples; the handle is odd exactly where the object is in one piece."""
        pool = make()
        handle = pool.alloc(size)
        assert pieces(pool, handle) == expected
        assert pool.counters()["pool_bytes"] == cost
        assert handle % 2 == (len(expected) == 1)

    @pytest.mark.parametrize(("era", "cost"), [("slub", 8), ("slab", 32)])
    def test_smallest(self, era, cost):
        """One byte is served by the smallest class of kmalloc: 8 bytes of SLUB, 32 of SLAB."""
        pool = Afmalloc(pages=8, era=era)
        assert pieces(pool, pool.alloc(1)) == [cost]
        with pytest.raises(ValueError, match="era must be slub or slab, not 'slob'"):
            Afmalloc(era="slob")

    def test_metadata_in_memory(self, make):
        """The metadata is level and charge in two ints, then pointers, in memory that kmalloc gave."""
        pool = make()
        handle = pool.alloc(400)
        entry = handle - 0xFFFF_8880_0000_0000
        raw = bytes(pool.source.memory[entry : entry + 32])
        assert [int.from_bytes(raw[at : at + 4], "little") for at in (0, 4)] == [3, 448]
        pointers = [int.from_bytes(raw[at : at + 8], "little") for at in (8, 16, 24)]
        assert [pointer - 0xFFFF_8880_0000_0000 for pointer in pointers] == [at for _, at, _ in pool.extents(handle)]
        assert pool.metadata() == (32, 0)

    def test_first_address_is_no_failure(self, make):
        """Metadata at the first byte of memory has a handle, which is not 0."""
        pool = make()
        handle = pool.alloc(400)
        assert handle
        pool.free(0)
        assert pool.counters()["pool_bytes"] == 448

    def test_words_of_32_bits(self, make):
        """On 32 bits the metadata of 6 pieces is 32 bytes, and 6 is the most."""
        pool = make(word=4)
        handle = pool.alloc(3000)
        assert (pieces(pool, handle), pool.metadata()) == ([2048, 512, 256, 128, 64], (32, 0))
        assert 0xC000_0000 <= handle < 1 << 32
        with pytest.raises(ValueError, match="1 to 6"):
            make(word=4, max_level=7)

    def test_nothing_left(self, make):
        """When everything is freed the pool's size is 0 and no piece is live in the slab; shrunk, no page is held."""
        pool = make()
        handles = [pool.alloc(size) for size in (1, 33, 96, 300, 400, 470, 500, 3000, 4096, 9000)]
        assert pool.used_pages() == pool.counters()["pool_bytes"] // 4096 > 0
        for handle in handles:
            pool.free(handle)
        assert pool.counters()["pool_bytes"] == pool.used_pages() == 0
        pool.maintain("shrink")
        assert pool.source.held == 0

    def test_calls_of_kmalloc(self, make):
        """400 bytes are four calls, 470 two, of which the metadata was in vain, 500 one."""
        pool = make()
        costs = []
        for size in (400, 470, 500):
            pool.alloc(size)
            costs.append(pool.cost()["kmallocs"])
        assert costs == [4, 2, 1]


class TestRequests:
    @pytest.mark.parametrize(
        ("size", "align", "answer"),
        [
            (0, 1, Refusal.INVALID),
            (-1, 1, Refusal.INVALID),
            (8, 8, Refusal.INVALID),
            (8, 3, Refusal.INVALID),
            (64 * 4096 + 1, 1, Refusal.TOO_BIG),
            (2**32, 1, Refusal.TOO_BIG),
            (2**64 + 1, 1, Refusal.TOO_BIG),
        ],
    )
    def test_refused(self, make, size, align, answer):
        """Senseless and impossible requests are refused by name and change nothing."""
        pool = make()
        pool.alloc(400)
        assert pool.alloc(size, align) is answer
        assert pool.counters()["pool_bytes"] == 448

    @pytest.mark.parametrize(
        "parameters",
        [
            {"pages": 0},
            {"pages": "many"},
            {"page_size": 1000},
            {"page_size": 128},
            {"max_level": -1},
            {"max_level": 8},
            {"max_level": 513, "piece": 256},
            {"piece": 16},
            {"piece": 100},
            {"quota": -1},
            {"quota": 4},
            {"cpus": 0},
            {"word": 2},
            {"word": 4, "pages": 1 << 20},
            {"rev": "2013"},
        ],
    )
    def test_bad_parameters(self, parameters):
        """Senseless parameters raise ValueError in one line."""
        with pytest.raises(ValueError, match=r"^[^\n]+$"):
            Afmalloc(**parameters)

    def test_contract_is_shared(self, make):
        """Pools with equal parameters share one contract."""
        assert make(pages=32).contract is make(pages=32).contract

    @pytest.mark.parametrize("parameters", [{}, {"pages": 3}, {"pages": 7}, {"quota": 1000}, {"piece": 256}])
    def test_limit_is_honest(self, make, parameters):
        """A fresh pool serves every size up to the advertised one; the next is refused where pages or quota end."""
        largest = make(**parameters).contract.max_size
        assert largest >= 200
        for size in range(1, largest + 1, 1 if largest < 5000 else 13):
            assert isinstance(make(**parameters).alloc(size), int)
        if largest < 4 * 4096:
            assert not isinstance(make(**parameters).alloc(largest + 1), int)

    def test_unknown_maintenance(self, make):
        """Any other word raises ValueError."""
        with pytest.raises(ValueError, match="defragment"):
            make().maintain("defragment")

    def test_pieces_of_256(self, make):
        """Capped at 256 bytes, 3 KiB are 12 pieces and 12 copies; so are 512 bytes 2; too many pieces are refused."""
        pool = make(piece=256)
        handle = pool.alloc(3072)
        assert pieces(pool, handle) == [256] * 12
        pool.map(handle)
        assert pool.cost()["copies"] == 12
        pool.unmap(handle)
        assert pool.cost()["copies"] == 12
        assert pieces(pool, pool.alloc(512)) == [256, 256]
        few = make(piece=256, max_level=4)
        assert pieces(few, few.alloc(1024)) == [256] * 4
        assert few.alloc(1025) is Refusal.TOO_BIG
        assert pieces(few, few.alloc(800)) == [256, 256, 256, 32]
        assert few.alloc(900) is Refusal.TOO_BIG  # 132 remain: 128 and 32

    def test_pieces_of_256_need_no_high_order(self):
        """With pieces and metadata of at most 256 bytes only single pages are asked for; else order 3 is."""
        pool = Afmalloc(piece=256, max_level=31)
        assert pool.contract.page_order == 0
        for size in range(1, 4097, 5):
            assert pool.alloc(size)
            if pool.source.held > 200:
                break
        assert pool.source.highest_order == 0
        free = Afmalloc(pages=64)
        free.alloc(3000)
        assert free.source.highest_order == 2
        free.alloc(4096)
        assert free.source.highest_order == 3

    def test_fallback(self):
        """While only single pages are to be had, objects of up to a page are served all the same."""
        pool = Afmalloc(pages=64)
        pool.source.fail_next(1, 10000)
        assert all(isinstance(pool.alloc(size), int) for size in range(1, 4097, 100))

    def test_level_cap(self, make):
        """Two levels make 3000 bytes 2048 and 1024; one level makes everything direct."""
        for level, expected in ((2, [2048, 1024]), (1, [4096])):
            pool = make(max_level=level)
            assert pieces(pool, pool.alloc(3000)) == expected


class TestQuota:
    def test_exactly(self, make):
        """A request is served up to the last byte of the quota, metadata counted, and refused beyond."""
        pool = make(quota=448 + 512)
        one, two = pool.alloc(400), pool.alloc(500)
        assert pool.counters()["pool_bytes"] == 960
        assert pool.alloc(1) is None
        pool.free(two)
        assert pool.alloc(512)
        pool.free(one)
        assert pool.alloc(449) is None  # 512
        assert pool.alloc(400)

    def test_undone(self, make):
        """What the quota refuses leaves nothing behind, in pieces or in one."""
        pool = make(quota=1000)
        pool.alloc(600)
        live = sum(region.length for region in pool.free_regions())
        held = pool.source.held
        for size in (400, 500):
            assert pool.alloc(size) is None
        grown = (pool.source.held - held) * 4096
        assert sum(region.length for region in pool.free_regions()) == live + grown
        assert pool.counters()["pool_bytes"] == pool.contract.waste(600, 1) + 600 + pool.metadata()[0]

    def test_promises(self, make):
        """The contract says must-refuse exactly from the quota's last byte on, by what is live alone."""
        pool, shadow = make(quota=960), Shadow()
        handle = pool.alloc(400)
        shadow.add(Block(0, handle, 400, 1, pool.extents(handle)))
        refuse, serve = pool.contract.must_refuse, pool.contract.must_serve
        assert not refuse(Request(500), shadow, pool.source)
        assert refuse(Request(513), shadow, pool.source)
        assert serve(Request(500), shadow, pool.source)
        assert not serve(Request(513), shadow, pool.source)
        pool.source.fail_next(0, 1)
        assert not serve(Request(500), shadow, pool.source)
        assert refuse(Request(1 << 40), shadow, pool.source)


class TestRefusedPieces:
    @pytest.mark.parametrize("failing", range(6))
    def test_nothing_is_lost(self, make, failing):
        """Whichever of six calls of kmalloc is refused, nothing of the object stays, and all others are intact."""
        pool = make()
        contents = filled(pool, 1000, 8) | filled(pool, 3000, 3)
        for handle in list(contents)[::2]:
            pool.free(handle)
            del contents[handle]
        size, used = pool.counters()["pool_bytes"], free_and_held(pool)
        real, calls = pool._slab.alloc, count()
        pool._slab.alloc = lambda size: None if next(calls) == failing else real(size)
        assert pool.alloc(3000) is None
        del pool._slab.alloc
        assert next(calls) == failing + 1
        assert pool.counters()["pool_bytes"] == size
        assert free_and_held(pool) == used
        assert intact(pool, contents)
        assert pool.alloc(3000)

    @pytest.mark.parametrize("failing", range(1, 6))
    def test_refused_pages(self, make, failing):
        """The same where the page source refuses, from its first page on to its fifth."""
        pool = make()
        source, real, calls = pool.source, pool.source.take, count(1)

        def take(order=0, **where):
            if next(calls) >= failing:
                source.fail_next(0, 1)
            return real(order, **where)

        source.take = take
        assert pool.alloc(3000) is None
        assert pool.counters()["pool_bytes"] == 0
        pool.maintain("shrink")
        assert source.held == 0

    def test_metadata_that_would_not_pay(self, make):
        """A request of 470 bytes, which needs no metadata, is refused where its metadata is: so it is in the source."""
        pool = make()
        real = pool._slab.alloc
        pool._slab.alloc = lambda size: None if size == 40 else real(size)
        assert pool.alloc(470) is None
        assert pool.alloc(512)

    def test_published_frees_what_was_never_allocated(self, make):
        """As posted, a refused piece frees stale pointers too: a live object's piece; repaired, it does not."""
        for rev, freed in (("2014-09", True), ("", False)):
            pool = make(rev=rev)
            old = pool.alloc(400)
            pool.free(old)  # its metadata's memory goes on pointing to the pieces
            real, calls, gone = pool._slab.alloc, count(), []
            victim = None

            def alloc(size, real=real, calls=calls):
                number = next(calls)
                return None if number == 1 else real(size)

            entry = old - pool._base
            pool._slab.alloc = alloc
            if pool._pointer(entry, 2) - pool._base >= 0:
                victim = pool._pointer(entry, 2) - pool._base
            pool._slab.free = gone.append
            pool.alloc(400)
            assert (victim is not None and victim in gone) == freed


def free_and_held(pool):
    """Free bytes that the slab's own pages do not explain: what is lost or won."""
    return pool.source.held * 4096 - sum(region.length for region in pool.free_regions())


class TestContents:
    @pytest.mark.parametrize("size", [1, 31, 33, 96, 257, 300, 400, 3000, 4096, 5000])
    def test_load_what_was_stored(self, make, size):
        """What was stored is loaded again, whole, and by parts."""
        pool = make()
        handle = pool.alloc(size)
        data = random.Random(size).randbytes(size)
        assert pool.store(handle, data) == size
        assert pool.load(handle, size) == data
        assert pool.read(handle, size // 3, size // 2) == data[size // 3 : size // 3 + size // 2]
        pool.write(handle, size // 2, b"x")
        assert pool.load(handle, size) == data[: size // 2] + b"x" + data[size // 2 + 1 :]

    def test_bad_arguments(self, make):
        """Handle 0 and length 0 load and store nothing."""
        pool = make()
        handle = pool.alloc(400)
        assert (pool.store(0, b"x"), pool.store(handle, b""), pool.load(0, 5), pool.load(handle, 0)) == (0, 0, b"", b"")

    def test_past_the_end(self, make):
        """Reading and writing past the pieces raises ValueError."""
        pool = make()
        handle = pool.alloc(400)
        pool.write(handle, 400, b"\0" * 16)
        for at, length in ((400, 17), (-1, 1), (416, 1)):
            with pytest.raises(ValueError, match="leave an object of 416"):
                pool.read(handle, at, length)

    def test_another_length(self, make):
        """As posted, 96 bytes of 400 are taken from two pieces; repaired, from the first."""
        data = bytes(range(200)) * 2
        for rev, right in (("", True), ("2014-09", False)):
            pool = make(rev=rev)
            handle = pool.alloc(300)
            pool.store(handle, data[:300])
            assert pool.load(handle, 300) == data[:300]
            assert (pool.load(handle, 96) == data[:96]) == right

    def test_length_that_ends_with_a_piece(self, make):
        """As posted, 256 bytes of 400 leave nothing for two more pieces, which is undefined; repaired, they load."""
        for rev in ("", "2014-09"):
            pool = make(rev=rev)
            handle = pool.alloc(400)
            pool.store(handle, bytes(400))
            if rev:
                with pytest.raises(ValueError, match="undefined in the source"):
                    pool.load(handle, 256)
                with pytest.raises(ValueError, match="undefined in the source"):
                    pool.store(handle, bytes(256))
            else:
                assert pool.load(handle, 256) == bytes(256)

    def test_direct_object_has_no_level(self, make):
        """The level is read only of objects in pieces: the source reads it before it looks at the tag."""
        pool = make()
        handle = pool.alloc(512)
        pool._head = None
        pool.store(handle, b"plain")
        assert pool.load(handle, 5) == b"plain"

    def test_stray_write_is_noticed(self, make):
        """Metadata that was written over is not followed into the wild."""
        pool = make()
        handle = pool.alloc(400)
        entry = handle - pool._base
        pool.source.memory[entry + 8] ^= 0xFF
        pool.source.memory[entry + 15] ^= 0xFF
        with pytest.raises(RuntimeError, match="points to no memory"):
            pool.extents(handle)
        with pytest.raises(RuntimeError, match="which is no memory"):
            pool.free(handle)
        pool.source.memory[entry : entry + 4] = b"\xff\0\0\0"
        with pytest.raises(RuntimeError, match="says level 255"):
            pool.extents(handle)


class TestMapping:
    def test_split_object_is_copied(self, make):
        """What is written to a mapped object in pieces reaches them when it is unmapped."""
        pool = make()
        handle, data = pool.alloc(400), bytes(range(200)) * 2
        pool.store(handle, data)
        pool.map(handle)
        pool.write(handle, 250, b"\xff" * 20)
        assert pool.read(handle, 245, 30) == data[245:250] + b"\xff" * 20 + data[270:275]
        assert pool.load(handle, 400) == data
        pool.unmap(handle)
        assert pool.load(handle, 400) == data[:250] + b"\xff" * 20 + data[270:]

    def test_direct_object_is_mapped_in_place(self, make):
        """What is written to a mapped object in one piece is there at once."""
        pool = make()
        handle = pool.alloc(512)
        pool.map(handle)
        pool.write(handle, 0, b"here")
        assert pool.load(handle, 4) == b"here"
        pool.unmap(handle)
        assert pool.load(handle, 4) == b"here"

    def test_read_only(self, make):
        """What is written to an object that is mapped for reading only is lost."""
        pool = make()
        handle = pool.alloc(400)
        pool.store(handle, b"kept" * 100)
        pool.map(handle, "ro")
        pool.write(handle, 0, b"lost")
        pool.unmap(handle)
        assert pool.load(handle, 4) == b"kept"

    def test_one_mapping_a_cpu(self, make):
        """A CPU maps one object at a time, and unmaps only what it has mapped."""
        pool = make(cpus=2)
        one, two = pool.alloc(400), pool.alloc(300)
        pool.map(one, ctx=Context(cpu=0))
        with pytest.raises(ValueError, match="CPU 0 has a mapping already"):
            pool.map(two, ctx=Context(cpu=0))
        pool.map(two, ctx=Context(cpu=1))
        with pytest.raises(ValueError, match="CPU 1 has not mapped"):
            pool.unmap(one, ctx=Context(cpu=1))
        pool.write(one, 0, b"one")
        pool.write(two, 0, b"two")
        pool.unmap(one, ctx=Context(cpu=0))
        pool.unmap(two, ctx=Context(cpu=1))
        assert (pool.load(one, 3), pool.load(two, 3)) == (b"one", b"two")

    def test_object_of_more_than_a_page(self, make):
        """As posted, the copy of 5000 bytes runs over the CPU's page; repaired, such an object gets no copy."""
        pool = make(rev="2014-09")
        handle = pool.alloc(5000)
        with pytest.raises(RuntimeError, match="5000 bytes copied into a page of 4096"):
            pool.map(handle)
        pool = make()
        handle = pool.alloc(5000)
        pool.map(handle)
        pool.write(handle, 4000, b"at once")
        assert pool.load(handle, 5000)[4000:4007] == b"at once"
        pool.unmap(handle)

    def test_pieces_move_under_a_mapping(self, make):
        """An object whose pieces compaction has moved is stored back to where they are now."""
        pool = make()
        contents = filled(pool, 400, 60)
        last = list(contents)[-1]
        for handle in list(contents)[:50]:
            pool.free(handle)
        pool.map(last)
        pool.write(last, 0, b"mapped")
        before = pool.extents(last)
        pool.maintain("compact")
        assert pool.extents(last) != before
        pool.unmap(last)
        assert pool.load(last, 400) == b"mapped" + contents[last][6:]


def fragmented(pool, rng):
    """Objects of several sizes with contents, after most were freed at random."""
    contents = {}
    for number in range(150):
        size = rng.choice([97, 200, 300, 400, 700, 900, 1300, 3000, 512, 64])
        handle = pool.alloc(size)
        if handle is not None:
            contents[handle] = bytes([number % 251 + 1]) * size
            pool.write(handle, 0, contents[handle])
    for handle in rng.sample(sorted(contents), len(contents) * 3 // 4):
        pool.free(handle)
        del contents[handle]
    pool.maintain("shrink")
    return contents


class TestCompaction:
    def test_pieces_move_down(self, make):
        """The pieces of the last of 64 objects move into the first slabs, whose pages are then all that is held."""
        pool = make()
        contents = filled(pool, 300, 64)
        for handle in list(contents)[:60]:
            pool.free(handle)
            del contents[handle]
        before = {handle: pool.extents(handle) for handle in contents}
        done = pool.maintain("compact")
        assert done.pages_freed > 0
        assert done.moved == sum(
            one != two for handle in contents for one, two in zip(before[handle], pool.extents(handle), strict=True)
        )
        assert intact(pool, contents)

    def test_handles_stay(self, make):
        """Handles are as before; objects in one piece, whose handles are addresses, stand where they stood."""
        pool = make()
        contents = fragmented(pool, random.Random(1))
        direct = {handle: pool.extents(handle) for handle in contents if handle % 2}
        split = {handle: pool.extents(handle) for handle in contents if not handle % 2}
        assert pool.maintain("compact").moved > 0
        assert {handle: pool.extents(handle) for handle in direct} == direct
        assert {handle: pool.extents(handle) for handle in split} != split
        assert intact(pool, contents)
        for handle in contents:
            pool.free(handle)
        assert pool.counters()["pool_bytes"] == 0
        pool.maintain("shrink")
        assert pool.source.held == 0

    @pytest.mark.parametrize("seed", range(12))
    def test_never_more_pages_and_once_is_enough(self, make, seed):
        """Pages never increase, the pool's size stays, and a second pass moves nothing."""
        pool = make(pages=128)
        contents = fragmented(pool, random.Random(seed))
        held, size = pool.source.held, pool.counters()["pool_bytes"]
        done = pool.maintain("compact")
        assert pool.source.held == held - done.pages_freed <= held
        assert pool.counters()["pool_bytes"] == size
        assert pool.maintain("compact") == Maintained(0, 0)
        assert intact(pool, contents)

    @pytest.mark.parametrize("failing", range(8))
    def test_pages_refused_at_every_step(self, make, failing):
        """From whichever page on the source refuses, nothing is lost and no page is gained."""
        pool = make(pages=128)
        contents = fragmented(pool, random.Random(3))
        source, real, calls = pool.source, pool.source.take, count()

        def take(order=0, **where):
            if next(calls) >= failing:
                source.fail_next(0, 1)
            return real(order, **where)

        held = source.held
        source.take = take
        pool.maintain("compact")
        assert source.held <= held
        assert intact(pool, contents)

    def test_memory_refused_at_every_step(self, make):
        """Whichever call of kmalloc is refused, free slot or not, nothing is lost and no page is gained."""
        refused = 0
        for failing in range(0, 400, 7):
            pool = make(pages=128)
            contents = fragmented(pool, random.Random(4))
            real, calls, held = pool._slab.alloc, count(), pool.source.held

            def alloc(size, real=real, calls=calls, failing=failing):
                return None if next(calls) >= failing else real(size)

            pool._slab.alloc = alloc
            pool.maintain("compact")
            refused += next(calls) > failing
            assert pool.source.held <= held
            assert intact(pool, contents)
        assert refused > 20

    def test_whole_at_every_moment(self, make):
        """At every call of the slab, while pieces are on the move, every object can be read."""
        pool = make(pages=128)
        contents = fragmented(pool, random.Random(5))
        slab, looks = pool._slab, count()

        def watched(real):
            def call(what):
                next(looks)
                assert intact(pool, contents)
                answer = real(what)
                assert intact(pool, contents)
                return answer

            return call

        slab.alloc, slab.free = watched(slab.alloc), watched(slab.free)
        assert pool.maintain("compact").moved > 10
        assert next(looks) > 100

    def test_freed_ascending(self, make):
        """What was vacated is freed in ascending order, so that whole slabs become free one after the other."""
        pool = make(pages=128)
        fragmented(pool, random.Random(6))
        real, freed = pool._slab.free, []

        def free(address):
            freed.append((pool._slab.ksize(address), address))
            real(address)

        pool._slab.free = free
        pool.maintain("compact")
        for size in {size for size, _ in freed}:
            addresses = [address for each, address in freed if each == size]
            rest = addresses[1:]  # the first may be the slot of a new page, given back at once
            assert rest == sorted(rest)
        assert len(freed) > 20

    def test_order_of_the_posting_can_lose_data(self, make):
        """Copied out and freed first, as was proposed, pieces find no memory again once pages are refused."""
        pool = make()
        contents = filled(pool, 400, 40)
        saved = {handle: (pool.extents(handle), pool.load(handle, 400)) for handle in contents}
        for extents, _ in saved.values():
            for _, address, _ in extents:
                pool._slab.free(address)
        pool._slab.maintain("shrink")
        pool.source.fail_next(0, 1000)
        again = [pool._slab.alloc(length) for extents, _ in saved.values() for _, _, length in extents]
        assert None in again


class TestLaws:
    def run(self, pool, seed, operations=1500):
        """Random operations under the checker; Broken where a law does not hold."""
        checker, codec, rng = Checker(pool), Codec(pool.contract), random.Random(seed)
        for _ in range(operations):
            operation = codec.decode(rng.getrandbits(32), checker.shadow.names, checker.births)
            if operation.kind != Kind.DESTROY:  # the end of the run
                checker.step(operation)
        checker.finish()
        return checker

    @pytest.mark.parametrize(
        "parameters",
        [
            {"pages": 6},
            {"pages": 16, "quota": 9000},
            {"pages": 32, "piece": 256},
            {"pages": 16, "max_level": 2, "cpus": 3},
            {"pages": 16, "word": 4, "page_size": 1024},
        ],
    )
    def test_repaired_obeys(self, make, parameters):
        """Through refusals, injected failures, mapping and compaction every law holds."""
        served = refused = 0
        for seed in range(4):
            checker = self.run(make(**parameters), seed)
            served, refused = served + checker.served, refused + checker.refusals
        assert served > 300
        assert refused > 20

    @pytest.mark.parametrize(
        ("parameters", "operations", "law"),
        [
            (
                {"pages": 5},
                [Operation(Kind.ALLOC, 0, 1409), Operation(Kind.ALLOC, 1, 224), Operation(Kind.ALLOC, 2, 3000)],
                "contents",
            ),
            ({"pages": 256}, [Operation(Kind.ALLOC, 0, 4097), Operation(Kind.MAP, 0)], "returns"),
            (
                {"pages": 8},
                [Operation(Kind.ALLOC, 0, 1953), Operation(Kind.ALLOC, 1, 1409)],
                "returns",  # the slab's own list of free objects leads into itself
            ),
        ],
    )
    def test_short_traces(self, parameters, operations, law):
        """Two or three operations break a law on the posted pool, and none on the repaired one."""

        def broken(rev):
            checker = Checker(Afmalloc(**parameters, rev=rev), audit_every=1)
            try:
                for operation in operations:
                    checker.step(operation)
                checker.finish()
            except Broken as broken:
                return broken.law
            return None

        assert (broken("2014-09"), broken("")) == (law, None)

    def test_published_is_refuted(self, make):
        """As posted, memory that runs out in the middle of an object frees another's piece, which is served twice."""
        seen = set()
        for seed in range(40):
            try:
                self.run(make(pages=6, rev="2014-09"), seed)
            except Broken as broken:
                seen.add(broken.law)
        assert seen & {"disjoint", "contents", "handle-stable", "returns"}

    def test_kinds_of_pools(self, make):
        """The revision is a kind of pool of its own, with the same contract but for nothing."""
        assert type(make(rev="2014-09")) is PublishedAfmalloc
        assert type(make()) is Afmalloc

    def test_geometry_objects(self, make):
        """Geometry names pieces of other sizes than the size calls for, and pieces that are not aligned to theirs."""
        geometry = make().contract.geometry

        def problem(*extents, size=400):
            return geometry(Block(0, 8, size, 1, tuple((0, at, n) for at, n in extents)))

        assert problem((256, 256), (1024, 128), (64, 32)) is None
        assert "pieces of (256, 128, 32) bytes expected" in problem((256, 256), (1024, 128), (64, 16))
        assert problem((256, 256), (1024 + 64, 128), (64, 32)) == "a piece of 128 bytes at 1088, not a multiple of 128"
        assert problem((96, 96), size=90) is None


class TestWholeStates:
    @pytest.mark.parametrize("rev", ["", "2014-09"])
    def test_restore(self, rev):
        """A restored pool goes on exactly as the one that was recorded, mappings included."""
        pool, other = Afmalloc(pages=64, cpus=2, rev=rev), Afmalloc(pages=64, cpus=2, rev=rev)
        contents = fragmented(pool, random.Random(8))
        split = next(handle for handle, data in contents.items() if not handle % 2 and len(data) <= 4096)
        pool.map(split, ctx=Context(cpu=1))
        pool.write(split, 0, b"unsaved")
        other.alloc(1000)
        other.restore(pool.snapshot())
        assert hash(other.snapshot()) == hash(pool.snapshot())
        assert other.snapshot() == pool.snapshot()
        other.unmap(split, ctx=Context(cpu=1))
        pool.unmap(split, ctx=Context(cpu=1))
        assert other.load(split, len(contents[split])) == pool.load(split, len(contents[split]))
        assert other.maintain("compact") == pool.maintain("compact")
        assert [other.alloc(size) for size in range(1, 2000, 71)] == [pool.alloc(size) for size in range(1, 2000, 71)]
        assert other.counters() == pool.counters()

    def test_destroy(self, make):
        """Destroying a pool gives every page back, whatever is live."""
        pool = make()
        fragmented(pool, random.Random(9))
        pool.destroy()
        assert pool.source.held == 0
        assert pool.counters() == {"pool_bytes": 0, "used_bytes": 0, "pages": 0}
        assert pool.alloc(400)
