"""SLAB: orders, the place of the index, colours, lists, arrays of CPUs, shrinking, the layout of 2005."""

import random

import pytest

from heaplaw import Checker, Context, InvalidFree, Kind, Operation, PageSource, Refusal
from heaplaw.codec import Codec
from heaplaw.impls.slab import Slab
from heaplaw.impls.slab_cache import BATCHREFILL_LIMIT, NOWHERE, SlabCache
from heaplaw.impls.slab_cache_2005 import SlabCacheOf2005
from heaplaw.impls.slab_geometry import (
    HEADER_OF_2005,
    aligned_size,
    calculate_slab_order,
    cpu_limits,
    index_entry,
    layout,
    layout_of_2005,
)
from heaplaw.impls.slab_pages import Frames, members
from heaplaw.runs import run

PAGE = 4096
CONFIGURATIONS = [
    {"size": 256, "pages": 8},
    {"size": 200, "pages": 6, "limit": 0},
    {"size": 32, "pages": 8, "limit": 3, "cpus": 3},
    {"size": 520, "pages": 9, "ctor": 1, "shuffle": 7, "limit": 4},
    {"size": 24, "pages": 16, "page_size": 512, "cpus": 3, "limit": 5, "shuffle": 3},
    {"size": 600, "pages": 12, "page_size": 8192, "line": 32, "cpus": 2, "limit": 2},
    {"size": 192, "pages": 8, "rule": "2005", "limit": 2},
    {"size": 520, "pages": 8, "rule": 2005, "cpus": 2, "limit": 6},
    {"size": 100, "pages": 16, "cpus": 2, "rule": "2005", "hwcache": 1},
]


def fill(cache, count, cpu=0):
    return [cache.alloc(cache.contract.max_size, ctx=Context(cpu)) for _ in range(count)]


def lists(cache):
    """Pages on the partial, free and full lists."""
    inner, limit = cache._cache, cache.source.total
    heads = inner.slabs_partial, inner.slabs_free, inner.slabs_full
    return tuple([slab.page for slab in members(head, limit)] for head in heads)


def bare(layout_, pages=64, cpus=1, kind=SlabCache):
    """A cache of this layout over pages of its own."""
    return kind(Frames(PageSource(pages)), layout_, cpus)


class TestGeometry:
    @pytest.mark.parametrize(
        ("size", "expected"),
        [
            (64, (0, 64, 0)), (96, (0, 42, 64)), (128, (0, 32, 0)), (192, (0, 21, 64)), (256, (0, 16, 0)),
            (512, (0, 8, 0)), (1024, (0, 4, 0)), (2048, (0, 2, 0)), (4096, (0, 1, 0)), (8192, (1, 1, 0)),
        ],
    )  # fmt: skip
    def test_index_in_a_free_object(self, size, expected):
        """Order, objects and bytes left over with the index out of the way, as these sizes have it."""
        here = layout(size)
        assert (here.order, here.num, here.left) == expected
        assert here.place == "object"

    @pytest.mark.parametrize(("size", "num"), [(32, 124), (64, 63), (128, 31), (256, 15)])
    def test_index_on_the_slab(self, size, num):
        """With an index of a byte a slot in the slab one page holds 124, 63, 31 and 15."""
        assert calculate_slab_order(size, "on", 1)[:2] == (0, num)

    def test_32_bytes_have_no_room_for_the_index(self):
        """128 slots would need an index of 128 bytes, more than an object of 32: it is on the slab."""
        assert calculate_slab_order(32, "object", 1) == (0, 128, 0)
        here = layout(32)
        assert (here.place, here.num, here.index_bytes) == ("on", 124, 124)

    def test_about_64_in_a_page(self):
        """A page holds about PAGE_SIZE/64 objects of 64 bytes: 64, 63 or, in 2006, 59, by where the index is."""
        assert layout(64).num == 64
        assert layout(64, ctor=True).num == 63
        assert layout_of_2005(64).num == layout_of_2005(64, hwcache=True).num == 59

    def test_at_most_255(self):
        """Numbers of one byte allow 255 slots: 8 bytes become 16, of which 240 fit on a page with their index."""
        here = layout(8)
        assert (here.size, here.num, here.place) == (16, 240, "on")
        assert calculate_slab_order(16, "object", 1) == (0, 0, 0)
        assert (index_entry(4096), index_entry(8192), index_entry(65536)) == (1, 2, 2)

    def test_waste(self):
        """An eighth of a slab is left over at most, unless the order is the highest one that is wanted."""
        for size in range(16, 3 * PAGE, 8):
            here = layout(size)
            assert here.left * 8 <= PAGE << here.order or here.order >= 1
        assert layout(1400).left == 8192 - 5 * 1400 == 1192
        assert layout(1400).order == 1

    def test_small_machines_keep_order_0(self):
        """With 32 MiB of memory or less, and for reclaimable caches, waste is taken to spare higher orders."""
        assert (layout(1400).order, layout(1400, max_order=0).order) == (1, 0)
        assert layout(1400, reclaim=True).order == 0
        assert layout(5000, max_order=0).order == 1  # nothing less holds one

    def test_index_elsewhere(self):
        """With a constructor the index is elsewhere if it costs at most half an object and would not fit anyway."""
        assert layout(512, ctor=True).place == "off"
        assert layout(64, ctor=True).place == "on"  # an index of 64 bytes is more than 32
        assert layout(96, ctor=True).place == "on"
        assert layout(192, ctor=True).place == "on"  # 21 bytes fit into the 64 left over
        assert layout(128, ctor=True).place == "off"

    def test_never_elsewhere_without_constructor(self):
        """What is too long for an object is too long for half of one."""
        assert {layout(size).place for size in range(1, 9000)} == {"object", "on"}

    @pytest.mark.parametrize(
        ("size", "limit"), [(32, 120), (256, 120), (257, 54), (1024, 54), (1025, 24), (4096, 24), (4097, 8),
                            (131072, 8), (131073, 1)]
    )  # fmt: skip
    def test_limits(self, size, limit):
        """120 objects up to 256 bytes, 54 up to 1024, 24 up to a page, 8 up to 128 KiB, then 1; half at a time."""
        assert cpu_limits(size, 1) == (limit, (limit + 1) // 2, 0)

    def test_shared_array(self):
        """With several CPUs they share eight batches, of objects of up to a page."""
        assert cpu_limits(256, 2) == (120, 60, 480)
        assert cpu_limits(4096, 4) == (24, 12, 96)
        assert cpu_limits(8192, 4) == (8, 4, 0)
        assert cpu_limits(256, 4, limit=0) == (0, 1, 0)

    @pytest.mark.parametrize(("cpus", "expected"), [(1, 2 * 60 + 16), (4, 5 * 60 + 16)])
    def test_free_limit(self, cpus, expected):
        """(1 + cpus) * batchcount + num: 136 objects of 256 bytes with one CPU."""
        assert layout(256, cpus=cpus).free_limit == expected

    @pytest.mark.parametrize(("size", "align"), [(8, 8), (16, 16), (17, 32), (32, 32), (33, 64), (64, 64), (200, 64)])
    def test_cache_line(self, size, align):
        """The line of 64 bytes is halved while an object fills half of it at most."""
        assert aligned_size(size, 8, 64, True)[1] == align
        assert aligned_size(size, 8, 64, True)[0] % align == 0


class TestColours:
    def test_colours(self):
        """left // max(line, align): 96 bytes leave 64, one colour; 200 bytes leave 96 of which a line fits once."""
        assert layout(96).colours == 1
        assert layout(96, line=32).colours == 2
        assert layout(520).colours == 7  # 456 left over
        assert layout(520, align=128).colour_off == 128

    def test_of_6_1(self):
        """The k-th slab of 6.1, counted from 1, begins (k mod colours) lines in: the first has the second colour."""
        cache = Slab(size=520, pages=16, limit=0)
        assert cache._layout.colours == 7
        firsts = [fill(cache, 7)[0] % PAGE for _ in range(9)]
        assert firsts == [64 * (k % 7) for k in range(1, 10)]

    def test_of_2005(self):
        """In 2005 the first slab has the first colour; a slab whose pages are refused uses its colour up."""
        cache = Slab(size=192, pages=16, limit=0, rule="2005")
        here = cache._layout
        assert (here.num, here.prologue, here.colours) == (20, 128, 2)
        firsts = [fill(cache, 20)[0] % PAGE - here.prologue for _ in range(4)]
        assert firsts == [0, 64, 0, 64]
        cache.source.fail_next(0, 1)
        assert cache.alloc(192) is None
        assert fill(cache, 1)[0] % PAGE - here.prologue == 64

    def test_refusal_keeps_the_colour_in_6_1(self):
        """In 6.1 pages are asked for first, so that a refusal costs no colour."""
        cache = Slab(size=520, pages=16, limit=0)
        cache.source.fail_next(0, 1)
        assert cache.alloc(520) is None
        assert fill(cache, 1)[0] % PAGE == 64

    def test_slots_stay_inside(self):
        """With every colour the last slot ends before the index and before the slab's end."""
        for size in range(16, 5000, 8):
            for here in (layout(size), layout(size, ctor=True), layout_of_2005(size)):
                last = max(0, here.colours - 1) * here.colour_off + here.prologue + here.num * here.size
                tail = here.index_bytes if here.place == "on" and here.rule == "6.1" else 0
                assert last + tail <= PAGE << here.order


class TestIndex:
    def test_holder_is_handed_out_last(self):
        """The index stands in the last free slot, which goes last; a full slab has none."""
        cache = Slab(size=256, pages=4, limit=0)
        (first,) = fill(cache, 1)
        slab = cache._frames.find(first)
        assert slab.freelist == 15 * 256
        memory = cache.source.memory
        assert list(memory[slab.freelist + 1 : slab.freelist + 16]) == list(range(1, 16))
        assert fill(cache, 15) == [256 * slot for slot in range(1, 16)]
        assert slab.freelist == NOWHERE

    def test_first_one_freed_holds_the_next(self):
        """Freed into a full slab, an object takes the index, and is the last again to go."""
        cache = Slab(size=256, pages=1, limit=0)
        live = fill(cache, 16)
        for slot in (7, 3, 9):
            cache.free(live[slot])
        slab = cache._frames.find(0)
        assert slab.freelist == live[7]
        assert list(cache.source.memory[live[7] + 13 : live[7] + 16]) == [9, 3, 7]
        assert fill(cache, 3) == [live[9], live[3], live[7]]

    def test_on_slab_index_is_at_the_end(self):
        """On the slab the index takes its last bytes in 6.1."""
        cache = Slab(size=32, pages=1, limit=0)
        cache.alloc(32)
        assert list(cache.source.memory[PAGE - 124 : PAGE]) == list(range(124))

    def test_index_elsewhere_leaves_pages_alone(self):
        """Elsewhere it is in no page: a fresh slab of objects with a constructor is untouched."""
        cache = Slab(size=512, pages=1, limit=0, ctor=1)
        cache.alloc(512)
        assert not any(cache.source.memory)
        assert cache.metadata()[1] - Slab(size=512, pages=1, limit=0, ctor=1).metadata()[1] == 8

    def test_2005_header(self):
        """In 2005 48 bytes of header and a chain of 4-byte numbers precede the objects."""
        cache = Slab(size=256, pages=1, limit=0, rule="2005")
        live = fill(cache, 3)
        cache.free(live[1])
        memory = cache.source.memory
        assert int.from_bytes(memory[32:36], "little") == 2  # in use
        assert int.from_bytes(memory[36:40], "little") == 1  # next free
        assert int.from_bytes(memory[HEADER_OF_2005 + 4 : HEADER_OF_2005 + 8], "little") == 3
        assert live[0] == cache._layout.prologue == 112

    def test_stray_write_is_seen(self):
        """A write over the index is noticed when it is looked at: the same slot twice, or none at all."""
        cache = Slab(size=256, pages=1, limit=0)
        cache.alloc(256)
        cache.source.memory[15 * 256 : 16 * 256] = bytes(256)
        with pytest.raises(RuntimeError, match="says"):
            list(cache.free_regions())
        old = Slab(size=256, pages=1, limit=0, rule="2005")
        old.alloc(256)
        old.source.memory[HEADER_OF_2005 + 8 : HEADER_OF_2005 + 12] = (1).to_bytes(4, "little")
        with pytest.raises(RuntimeError, match="does not end"):
            list(old.free_regions())

    def test_shuffled(self):
        """Shuffled slots are all slots once, in the cache's order from somewhere on, the index's own last."""
        for size in (256, 32):
            cache = Slab(size=size, pages=4, limit=0, shuffle=5)
            num = cache._layout.num
            for _ in range(4):
                order = [(address % PAGE) // size for address in fill(cache, num)]
                assert sorted(order) == list(range(num))
                assert order != sorted(order)


class TestLists:
    def test_by_use(self):
        """A slab is on the free, partial or full list by the number of its objects in use."""
        cache = Slab(size=1024, pages=8, limit=0)
        live = fill(cache, 5)
        assert lists(cache) == ([1], [], [0])
        cache.free(live[4])
        assert lists(cache) == ([], [1], [0])
        cache.free(live[0])
        assert lists(cache) == ([0], [1], [])

    def test_partial_before_free_before_new(self):
        """A request is served from a partial slab, else from a free one, else from new pages."""
        cache = Slab(size=1024, pages=8, limit=0)
        live = fill(cache, 9)
        cache.free(live[8])
        cache.free(live[1])
        assert lists(cache) == ([0], [2], [1])
        assert fill(cache, 2) == [live[1], live[8]]
        assert cache.source.taken == 3

    def test_freed_into_goes_last(self):
        """A slab into which an object is freed goes to the end of the partial list; requests take the first."""
        cache = Slab(size=1024, pages=8, limit=0)
        live = fill(cache, 12)
        for slab in (1, 0, 2):
            cache.free(live[4 * slab])
        assert lists(cache)[0] == [1, 0, 2]
        cache.free(live[5])
        assert lists(cache)[0] == [0, 2, 1]
        assert cache.alloc(1) == live[0]

    @pytest.mark.parametrize("rule", ["6.1", "2005"])
    def test_free_limit_bounds_empty_slabs(self, rule):
        """With everything freed about free_limit objects stay, in empty slabs: 5 slabs of 4 with limit 18."""
        cache = Slab(size=1024, pages=64, limit=14, rule=rule)
        here = cache._layout
        assert here.free_limit == 2 * 7 + 4 == 18
        for address in fill(cache, 200):
            cache.free(address)
        inner = cache._cache
        assert inner.free_objects <= here.free_limit
        assert len(lists(cache)[1]) <= here.free_limit // here.num
        pinned = {address // PAGE for address in inner.arrays[0].entry}
        assert cache.source.held == len(lists(cache)[1]) + len(pinned) > 0

    def test_eras_differ_in_which_slab_goes(self):
        """Above the limit 6.1 gives the oldest empty slab back, 2005 the one that has just become empty."""
        held = {}
        for rule in ("6.1", "2005"):
            cache = Slab(size=4096, pages=16, limit=0, rule=rule)
            assert cache._layout.free_limit == 3
            live = fill(cache, 6)
            for address in live[:4]:
                cache.free(address)
            held[rule] = sorted(cache.source.runs)
        assert held == {"6.1": [1, 2, 3, 4, 5], "2005": [0, 1, 2, 4, 5]}

    def test_no_fallback(self):
        """The order is fixed: when it is refused, so is the request."""
        cache = Slab(size=8192, pages=8)
        cache.source.fail_next(1, 1)
        assert cache.alloc(8192) is None
        assert cache.source.held == 0
        assert cache.alloc(8192) == 0

    def test_live_objects_cannot_be_destroyed(self):
        """Destroying a cache with live objects fails; without, all pages go back."""
        cache = Slab(size=1024, pages=8)
        live = fill(cache, 5)
        with pytest.raises(RuntimeError, match="5 objects remain"):
            cache.destroy()
        assert [cache.extents(address)[0][1] for address in live] == live
        for address in live:
            cache.free(address)
        cache.destroy()
        assert cache.source.held == 0


class TestArrays:
    def test_last_in_first_out(self):
        """The object freed last is handed out first, from the array of the CPU."""
        cache = Slab(size=256, pages=8)
        live = fill(cache, 10)
        for slot in (3, 8, 5):
            cache.free(live[slot])
        assert fill(cache, 3) == [live[5], live[8], live[3]]

    def test_first_refill_is_small(self):
        """A CPU that has had nothing lately gets 16 objects, later half its limit; the index's order reversed."""
        cache = bare(layout(256))
        assert cache.alloc(0) == 15 * 256
        assert len(cache.arrays[0].entry) == BATCHREFILL_LIMIT - 1 == 15
        for _ in range(16):
            cache.alloc(0)
        assert len(cache.arrays[0].entry) == 16 - 1  # a whole slab, less than the batch of 60

    def test_array_counts_as_in_use(self):
        """Objects in an array are in use for their slab, and free for everyone else."""
        cache = Slab(size=256, pages=8)
        address = cache.alloc(1)
        (slab,) = cache._frames.slabs()
        assert slab.inuse == 16
        assert cache.counters()["live_objects"] == 1
        assert lists(cache) == ([], [], [0])
        assert len(list(cache.free_regions())) == 15
        cache.free(address)
        assert cache.counters()["live_objects"] == 0
        assert slab.inuse == 16

    def test_flush_takes_the_oldest(self):
        """A full array gives its oldest batch back to the slabs before it takes one more object."""
        cache = Slab(size=1024, pages=16, limit=4)
        live = fill(cache, 12)
        inner = cache._cache
        inner._drain(inner.arrays[0], len(inner.arrays[0].entry))
        for address in live[:5]:
            cache.free(address)
        assert inner.arrays[0].entry == live[2:5]
        assert inner.free_objects == 2

    def test_shared_array(self):
        """With several CPUs the oldest batch goes to the array they share, from which another is refilled."""
        cache = Slab(size=1024, pages=32, cpus=2, limit=4)
        inner = cache._cache
        assert (inner.shared.limit, inner.arrays[0].batchcount) == (16, 2)
        live = fill(cache, 12)
        inner._drain(inner.arrays[0], len(inner.arrays[0].entry))
        for address in live[:5]:
            cache.free(address)
        assert (inner.shared.entry, inner.arrays[0].entry) == (live[:2], live[2:5])
        assert cache.alloc(1, ctx=Context(1)) == live[1]
        assert inner.arrays[1].entry == live[:1]
        assert inner.shared.entry == []

    def test_out_of_reach(self):
        """What is in another CPU's array does not serve."""
        cache = Slab(size=4096, pages=2, cpus=2)
        live = fill(cache, 2)
        cache.free(live[0], ctx=Context(1))
        assert cache.alloc(1, ctx=Context(0)) is None
        assert cache.alloc(1, ctx=Context(1)) == live[0]

    def test_transfers_are_bounded(self):
        """No call moves more than a batch of objects; most move none."""
        cache = Slab(size=64, pages=32)
        moved = []
        for _ in range(400):
            cache.alloc(64)
            moved.append(cache.cost()["moved"])
        assert max(moved) == cache._layout.batchcount == 60
        assert moved.count(0) > 380

    @pytest.mark.parametrize("rule", ["6.1", "2005"])
    def test_reap(self, rule):
        """Reaping takes a fifth of an idle array's limit, spares one that was used, and then empty slabs."""
        cache = Slab(size=1024, pages=32, limit=20, rule=rule)
        inner = cache._cache
        for address in fill(cache, 40):
            cache.free(address)
        ready = len(inner.arrays[0].entry)
        cache.maintain("reap")  # it was touched
        assert len(inner.arrays[0].entry) == ready
        cache.maintain("reap")
        assert len(inner.arrays[0].entry) == ready - 4
        for _ in range(40):
            cache.maintain("reap")
        assert (cache.source.held, inner.arrays[0].entry) == (0, [])

    @pytest.mark.parametrize("configuration", CONFIGURATIONS, ids=str)
    def test_shrink(self, configuration):
        """Freeing everything does not return pages; shrinking does, all of them."""
        cache = Slab(**configuration)
        for address in [address for address in fill(cache, 20) if address is not None]:
            cache.free(address)
        held = cache.source.held
        assert held > 0
        assert cache.maintain("shrink").pages_freed == held
        assert cache.source.held == 0


class TestInvariants:
    @pytest.mark.parametrize("configuration", CONFIGURATIONS, ids=str)
    def test_after_every_step(self, configuration):
        """Lists, counts, index and arrays agree on every slab after every step of a random run."""
        cache, rng, live = Slab(**configuration), random.Random(str(configuration)), []
        cpus = configuration.get("cpus", 1)
        for step in range(400):
            ctx = Context(rng.randrange(cpus))
            if rng.random() < 0.55:
                address = cache.alloc(cache.contract.max_size, ctx=ctx)
                if address is not None:
                    live.append(address)
            elif live:
                cache.free(live.pop(rng.randrange(len(live))), ctx=ctx)
            if step % 50 == 49:
                cache.maintain(rng.choice(["shrink", "reap", "reap"]))
            if rng.random() < 0.1:
                cache.source.fail_next(rng.randrange(2), 2)
            self.check(cache, live)

    @staticmethod
    def check(cache, live):
        here, inner = cache._layout, cache._cache
        every = list(cache._frames.slabs())
        partial, free, full = lists(cache)
        assert sorted(partial + free + full) == sorted(slab.page for slab in every)  # each on one list
        ready, slots = inner.ready(), inner.free_slots(every)
        held, total_free = set(), 0
        for slab in every:
            where = partial if 0 < slab.inuse < here.num else full if slab.inuse else free
            assert slab.page in where
            index = inner._index_slots(slab)
            assert len(index) == here.num - slab.inuse
            total_free += len(index)
            assert len(set(slots[slab])) == len(slots[slab])  # on the slab's index, or in one array
            assert set(slots[slab]) == set(index) | set(ready.get(slab, ()))
            start = slab.page * here.page_size
            assert start <= slab.s_mem
            assert slab.s_mem + here.num * here.size <= start + (here.page_size << here.order)
            held |= {slab.s_mem + slot * here.size for slot in set(range(here.num)) - set(slots[slab])}
        assert held == set(live)
        assert inner.free_objects == total_free
        assert cache.source.held == len(every) << here.order


class TestContract:
    @pytest.mark.parametrize("configuration", CONFIGURATIONS, ids=str)
    def test_random_runs(self, configuration):
        """No law is broken in random runs, with an audit after every operation."""
        rng = random.Random(str(configuration))
        for _ in range(6):
            checker = Checker(Slab(**configuration), audit_every=1)
            codec = Codec(checker.contract)
            for _ in range(250):
                checker.step(codec.decode(rng.getrandbits(32), checker.shadow.names, checker.births))
            checker.finish()

    def test_requests(self):
        """Sizes 1 to that of the objects are served; 0, more, and odd alignments are refused."""
        cache = Slab(size=100, pages=4, limit=0)
        assert [cache.alloc(size) for size in (1, 100)] == [0, 104]
        assert cache.extents(0) == ((0, 0, 100),)
        assert cache.alloc(0) is Refusal.INVALID
        assert {cache.alloc(size) for size in (101, 1 << 32, (1 << 64) + 1)} == {Refusal.TOO_BIG}
        assert {cache.alloc(1, align) for align in (0, 3, 16, -1)} == {Refusal.INVALID}
        with pytest.raises(InvalidFree):
            cache.free(PAGE)

    @pytest.mark.parametrize(
        "wrong",
        [{"size": 0}, {"align": 3}, {"rule": "2007"}, {"pages": 0}, {"cpus": 0}, {"limit": -2}, {"ctor": 2},
         {"size": 8192, "pages": 1}, {"line": 48}, {"rule": "2005", "ctor": 1}, {"size": "big"}, {"shuffle": -1}],
    )  # fmt: skip
    def test_senseless_parameters(self, wrong):
        """A parameter that makes no sense is refused in one clear line."""
        with pytest.raises(ValueError, match=r"^[^\n]+$"):
            Slab(**wrong)

    def test_unknown_maintenance(self):
        """There are two kinds of maintenance."""
        with pytest.raises(ValueError, match="shrink, reap"):
            Slab(pages=4).maintain("compact")

    def test_dead_bytes_are_no_part_of_a_state(self):
        """Two histories that differ in what was written to objects that are freed have one state."""
        states = []
        for data in (b"x", b"y"):
            cache = Slab(size=200, pages=4)
            one, two = cache.alloc(200), cache.alloc(200)
            cache.write(one, 0, data * 200)
            cache.write(two, 0, b"z" * 200)
            cache.free(one)
            states.append(cache.snapshot())
        assert states[0] == states[1]
        cache.write(two, 0, b"other")
        assert cache.snapshot() != states[0]

    @pytest.mark.parametrize("configuration", CONFIGURATIONS, ids=str)
    def test_states(self, configuration):
        """A state that is returned to goes on exactly as it did, in this cache or in another."""
        cache, rng, live = Slab(**configuration), random.Random(5), []
        cpus = configuration.get("cpus", 1)
        for _ in range(80):
            ctx = Context(rng.randrange(cpus))
            address = cache.alloc(1, ctx=ctx)
            live += [] if address is None else [address]
            if live and rng.random() < 0.7:
                cache.free(live.pop(rng.randrange(len(live))), ctx=ctx)
        then = cache.snapshot()
        hash(then)
        after = [cache.alloc(1, ctx=Context(step % cpus)) for step in range(30)]
        for target in (cache, Slab(**configuration)):
            target.restore(then)
            assert target.snapshot() == then
            assert [target.alloc(1, ctx=Context(step % cpus)) for step in range(30)] == after


def target(cache_class, **parameters):
    """A function that makes targets over a cache class of one's own."""

    def make():
        made = Slab(**parameters)
        made._cache = cache_class(
            made._frames, made._layout, parameters.get("cpus", 1), 0, parameters.get("shuffle", 0)
        )
        return made

    return make


class TestPlanted:
    """Bugs in one step are refuted by a short trace that the honest cache passes."""

    def refuted(self, cache_class, operations, honest=SlabCache, **parameters):
        assert run(target(honest, **parameters), operations) is None
        found = run(target(cache_class, **parameters), operations)
        assert found is not None
        return found.law

    def test_random_index_that_wraps(self):
        """The shuffling of 4.7 added a large random number modulo 2**32: the list had a slot twice.

        Fixed in "fix SLAB freelist randomization duplicate entries" (2017).
        """

        class Wrong(SlabCache):
            def _next_random_slot(self, position):
                large = 0xFFFF_FFFF - 2
                return (self.random_seq[position % len(self.random_seq)] + large & 0xFFFF_FFFF) % len(self.random_seq)

        operations = [Operation(Kind.ALLOC, n, 96) for n in range(42)]
        law = self.refuted(Wrong, operations, size=96, pages=4, limit=0, shuffle=1)
        assert law in ("disjoint", "returns", "bitmap")

    def test_slab_left_on_its_list(self):
        """A slab that is not moved when its last slot goes is on the wrong list."""

        class Wrong(SlabCache):
            def _fixup_slab_list(self, slab):
                if slab.inuse < slab.objects or slab.before is slab:
                    super()._fixup_slab_list(slab)

        operations = [Operation(Kind.ALLOC, n, 2048) for n in range(2)]
        assert self.refuted(Wrong, operations, size=2048, pages=4, limit=0) == "size-class"

    def test_index_forgotten_too_late(self):
        """An index that stays in the object handed out last is overwritten by its owner."""

        class Wrong(SlabCache):
            def _forget_index(self, slab):
                pass

        operations = [*(Operation(Kind.ALLOC, n, 1024) for n in range(4)), Operation(Kind.FREE, 0),
                      Operation(Kind.READ, 3)]  # fmt: skip
        assert self.refuted(Wrong, operations, size=1024, pages=4, limit=0) == "contents"

    def test_array_that_is_not_emptied(self):
        """Objects that stay in an array when they are given back to their slab are handed out twice."""

        class Wrong(SlabCache):
            def _drain(self, ac, count):
                self._free_block(ac.entry[:count])

        operations = [Operation(Kind.ALLOC, 0, 1024), Operation(Kind.FREE, 0), Operation(Kind.MAINTAIN, mode="shrink"),
                      Operation(Kind.ALLOC, 1, 1024)]  # fmt: skip
        assert self.refuted(Wrong, operations, size=1024, pages=4, limit=2)

    def test_chain_of_2005_that_forgets(self):
        """A number that is not written when a slot is freed cuts the chain: slots are lost."""

        class Wrong(SlabCacheOf2005):
            def _slab_put_obj(self, slab, address):
                super()._slab_put_obj(slab, address)
                slot = (address - slab.s_mem) // slab.size
                self._store(slab, HEADER_OF_2005 + 4 * slot, 0xFFFF_FFFF)

        operations = [Operation(Kind.ALLOC, 0, 256), Operation(Kind.FREE, 0)]
        assert self.refuted(Wrong, operations, SlabCacheOf2005, size=256, pages=4, limit=0, rule="2005") == "returns"
