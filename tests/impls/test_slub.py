"""SLUB: orders and objects, fallback, frozen slabs, partial lists, the kernel's own checks."""

import random

import pytest

from heaplaw import Checker, Context, InvalidFree, Kind, Operation, PageSource, Refusal
from heaplaw.codec import Codec
from heaplaw.impls.pages_arithmetic import get_order
from heaplaw.impls.slab_pages import PAGE_OFFSET, Frames, members
from heaplaw.impls.slub import Slub
from heaplaw.impls.slub_cache import SlubCache
from heaplaw.impls.slub_order import (
    calc_slab_order,
    calculate_order,
    calculate_sizes,
    cpu_partial,
    layout,
    min_objects_wanted,
    min_partial,
)
from heaplaw.runs import run

PAGE = 4096
CONFIGURATIONS = [
    {"size": 256, "pages": 8},
    {"size": 24, "pages": 4, "page_size": 256},
    {"size": 2048, "pages": 16, "cpus": 4},
    {"size": 700, "pages": 24, "cpus": 3, "keep": 0},
    {"size": 100, "pages": 6, "page_size": 512, "cpus": 2, "pointer": "outside"},
    {"size": 6000, "pages": 16, "min_order": 3, "cpus": 2},
    {"size": 1, "pages": 3, "page_size": 64, "pointer": "start"},
]


def slabs(cache):
    """Slabs as (order, objects, inuse, frozen), by page."""
    found = sorted(cache._frames.slabs(), key=lambda slab: slab.page)
    return [(slab.order, slab.objects, slab.inuse, slab.frozen) for slab in found]


def partial_pages(cache):
    return [slab.page for slab in members(cache._cache.partial, cache.source.total)]


def fill(cache, count, cpu=0):
    return [cache.alloc(cache.contract.max_size, ctx=Context(cpu)) for _ in range(count)]


class TestGeometry:
    @pytest.mark.parametrize(
        ("cpus", "row"),
        [
            (1, {192: (0, 21), 256: (0, 16), 512: (0, 8), 1024: (1, 8), 2048: (2, 8), 4096: (3, 8), 8192: (3, 4)}),
            (4, {192: (0, 21), 256: (0, 16), 512: (1, 16), 1024: (2, 16), 2048: (3, 16), 4096: (3, 8), 8192: (3, 4)}),
            (8, {192: (0, 21), 256: (1, 32), 512: (2, 32), 1024: (3, 32), 2048: (3, 16), 4096: (3, 8), 8192: (3, 4)}),
            (16, {192: (1, 42), 256: (1, 32), 512: (2, 32), 1024: (3, 32), 2048: (3, 16), 4096: (3, 8), 8192: (3, 4)}),
        ],
    )
    def test_orders(self, cpus, row):
        """Order and objects of 192 to 8192 bytes, for 1, 4, 8 and 16 CPUs."""
        for size, expected in row.items():
            here = layout(size, cpus=cpus)
            assert (here.order, here.objects) == expected, size

    @pytest.mark.parametrize("cpus", [1, 4, 8, 16])
    def test_small_objects(self, cpus):
        """8 to 128 bytes are in single pages whatever the CPUs: 512, 256, 128, 64, 42 and 32 objects."""
        expected = {8: 512, 16: 256, 32: 128, 64: 64, 96: 42, 128: 32}
        for size, objects in expected.items():
            here = layout(size, cpus=cpus)
            assert (here.order, here.objects) == (0, objects)

    def test_high_orders_above_256(self):
        """On a machine with 4 CPUs 512 bytes are the first kmalloc size that asks for a high order."""
        sizes = (8, 16, 32, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096, 8192)
        assert next(size for size in sizes if calculate_order(size, cpus=4)) == 512

    def test_objects_wanted(self):
        """4 * (fls(cpus) + 1): 8 for one CPU, 16 for 4, 20 for 8, 24 for 16."""
        assert [min_objects_wanted(cpus) for cpus in (1, 4, 8, 16)] == [8, 16, 20, 24]

    def test_left_over(self):
        """1/16 is left over where some order does so with enough objects, and a quarter at most with several."""
        for cpus in (1, 4, 16):
            for size in range(8, 2 * PAGE, 8):
                here = layout(size, cpus=cpus)
                left = (PAGE << here.order) % size
                if here.objects > 1:
                    assert 4 * left <= PAGE << here.order, size
                wanted = min(min_objects_wanted(cpus), (PAGE << 3) // size)
                for order in range(get_order(wanted * size, 12), 4):
                    if 16 * ((PAGE << order) % size) <= PAGE << order:
                        assert 16 * left <= PAGE << here.order
                        break

    def test_no_order_will_do(self):
        """Above the highest order that is allowed stands the answer that there is none."""
        assert calc_slab_order(3000, 1, 0, 16) == 1
        assert calc_slab_order(4096, 1, 3, 16) == 0
        with pytest.raises(ValueError, match="no slab"):
            calculate_order(PAGE << 11)

    def test_many_objects_cap_the_order(self):
        """A forced order whose slab would have more than 32767 objects gives way to one that has not."""
        assert (PAGE << 5) // 8 == 16384
        assert calc_slab_order(8, 8, 10, 16, min_order=5) == 5
        assert calc_slab_order(8, 8, 10, 16, min_order=6) == get_order(8 * 32767, 12) - 1 == 5

    def test_very_large_objects(self):
        """An object above 8 pages gets the least order that holds it."""
        assert calculate_order(PAGE * 9) == 4
        assert calculate_order(PAGE << 10) == 10

    @pytest.mark.parametrize(
        ("object_size", "pointer", "expected"),
        [
            (1, "middle", (8, 8, 0)), (7, "middle", (8, 8, 0)), (8, "middle", (8, 8, 0)), (16, "middle", (16, 16, 8)),
            (100, "middle", (104, 104, 48)), (100, "start", (104, 104, 0)), (100, "outside", (112, 104, 104)),
        ],
    )  # fmt: skip
    def test_free_pointer(self, object_size, pointer, expected):
        """Slot size, usable bytes and place of the link; sizes 1 to 7 are rounded up to hold it."""
        assert calculate_sizes(object_size, 8, pointer) == expected

    def test_link_is_inside_its_slot(self):
        """The link of a free object is whole inside the slot, for every size and place."""
        for object_size in range(1, 300):
            for pointer in ("middle", "start", "outside"):
                for align in (1, 8, 64):
                    size, usable, offset = calculate_sizes(object_size, align, pointer)
                    assert 0 <= offset <= size - 8
                    assert offset % 8 == 0
                    assert object_size <= usable <= size
                    assert (offset >= usable) == (pointer == "outside")

    def test_min_partial(self):
        """clamp(ilog2(size) / 2, 5, 10): 5 up to 2048 bytes, 6 from 4096, 10 from 1 MiB."""
        assert [min_partial(size) for size in (8, 256, 2048, 4096, 16384, 1 << 20, 1 << 22)] == [5, 5, 5, 6, 7, 10, 10]

    def test_cpu_partial(self):
        """120 objects below 256 bytes, 52 from there, 24 from 1024, 6 from a page on; counted in slabs, half full."""
        assert [cpu_partial(size) for size in (8, 255, 256, 1023, 1024, 4095, 4096)] == [120, 120, 52, 52, 24, 24, 6]
        assert layout(256, cpus=4, cpu_lists=True).cpu_partial_slabs == 7  # 104 slots, 16 a slab
        assert layout(4096, cpus=4, cpu_lists=True).cpu_partial_slabs == 2  # 12 slots, 8 a slab
        assert layout(256, cpus=4).cpu_partial_slabs == 0


class TestChain:
    def test_true_pages(self):
        """A cache of 4096-byte objects serves whole single pages."""
        cache = Slub(size=4096, pages=8, max_order=0)
        assert fill(cache, 8) == [PAGE * page for page in range(8)]
        assert cache.alloc(4096) is None

    def test_ascending_then_last_in_first_out(self):
        """A new slab is handed out in ascending order; what was freed last is handed out first."""
        cache = Slub(size=256, pages=4)
        assert fill(cache, 4) == [0, 256, 512, 768]
        for address in (256, 0, 512):
            cache.free(address)
        assert fill(cache, 4) == [512, 0, 256, 1024]

    @pytest.mark.parametrize(("pointer", "offset"), [("middle", 128), ("start", 0), ("outside", 256)])
    def test_links_are_in_memory(self, pointer, offset):
        """Each free object holds the kernel address of the next, at the place of the link; the last holds 0."""
        cache = Slub(size=256, pages=1, pointer=pointer)
        size = 256 if pointer != "outside" else 264
        cache.alloc(1)
        memory = cache.source.memory
        count = PAGE // size
        for slot in range(1, count):
            at = slot * size + offset
            link = int.from_bytes(memory[at : at + 8], "little")
            assert link == (PAGE_OFFSET + (slot + 1) * size if slot < count - 1 else 0)

    def test_stray_write_is_seen(self):
        """A write into a free object breaks its link: the chain leads out of the slab, or round in it."""
        cache = Slub(size=256, pages=1)
        cache.alloc(256)
        cache.source.memory[512 + 128 : 512 + 136] = b"overrun!"
        with pytest.raises(RuntimeError, match="free pointer"):
            list(cache.free_regions())
        cache.source.memory[512 + 128 : 512 + 136] = (PAGE_OFFSET + 256).to_bytes(8, "little")
        with pytest.raises(RuntimeError, match="does not end"):
            list(cache.bitmap())

    def test_putting_back_a_broken_chain_stops(self):
        """Shrinking walks the chain of a CPU's slab too, and does not follow a link that was written over."""
        cache = Slub(size=256, pages=1)
        cache.alloc(256)
        cache.source.memory[512 + 128 : 512 + 136] = b"overrun!"
        with pytest.raises(RuntimeError, match="free pointer"):
            cache.maintain("shrink")

    def test_middle_is_away_from_the_edges(self):
        """An overrun of up to half an object does not touch the next object's link, as it did at the start."""
        for pointer, safe in (("middle", True), ("start", False)):
            cache = Slub(size=256, pages=1, pointer=pointer)
            first = cache.alloc(256)
            cache.source.memory[first + 256 : first + 256 + 100] = b"x" * 100
            if safe:
                assert len(list(cache.free_regions())) == 15
            else:
                with pytest.raises(RuntimeError):
                    list(cache.free_regions())


class TestFallback:
    @pytest.mark.parametrize("size", [1, 8, 100, 192, 256, 512, 1000, 1024, 2048, 3000, 4096])
    @pytest.mark.parametrize("cpus", [1, 4, 16])
    def test_single_pages_are_enough(self, size, cpus):
        """With order-0 pages only, every cache of up to 4096 bytes serves as many objects as they hold."""
        cache = Slub(size=size, pages=64, cpus=cpus)
        taken = [cache.source.take(0) for _ in range(64)]
        for page in taken[::2]:
            cache.source.give(page)
        per_page = PAGE // cache._layout.size
        assert all(isinstance(address, int) for address in fill(cache, 32 * per_page))
        assert cache.alloc(size) is None
        assert {order for order, *_ in slabs(cache)} == {0}
        assert cache.fallbacks() == (32 if cache._layout.order else 0)

    def test_injected_failure(self):
        """When only high orders are refused, the least order that holds an object serves."""
        cache = Slub(size=2048, pages=16, cpus=4)
        cache.source.fail_next(1, 1)
        assert isinstance(cache.alloc(2048), int)
        assert slabs(cache) == [(0, 2, 2, True)]
        assert cache.fallbacks() == 1

    def test_slabs_of_two_orders(self):
        """Slabs of one cache differ: the number of objects is that of the order obtained."""
        cache = Slub(size=2048, pages=16, cpus=4)
        cache.source.fail_next(1, 1)
        fill(cache, 3)
        assert [(order, objects) for order, objects, *_ in slabs(cache)] == [(0, 2), (3, 16)]
        assert len(list(cache.free_regions())) == 15

    def test_no_lower_order_for_large_objects(self):
        """8192 bytes need two pages in a row; the fallback of order 1 is the least."""
        cache = Slub(size=8192, pages=8)
        cache.source.fail_next(2, 1)
        assert isinstance(cache.alloc(8192), int)
        assert slabs(cache) == [(1, 1, 1, True)]
        cache.source.fail_next(1, 5)
        assert cache.alloc(8192) is None

    def test_refused_request_changes_nothing(self):
        """A request for which both orders are refused leaves the source's ledger and all objects as they were."""
        cache = Slub(size=2048, pages=8, cpus=4)
        live = fill(cache, 3)
        for _ in range(20):
            fill(cache, 1)
        before = dict(cache.source.runs), [tuple(region) for region in cache.free_regions()]
        cache.source.fail_next(0, 10)
        assert cache.alloc(2048, ctx=Context(1)) is None
        assert (dict(cache.source.runs), [tuple(region) for region in cache.free_regions()]) == before
        assert [cache.extents(address)[0][2] for address in live] == [2048] * 3


class TestLists:
    def test_frozen_slab_is_on_no_list(self):
        """The slab that a CPU works on is on no list, whatever is freed in it."""
        cache = Slub(size=1024, pages=8, max_order=0)
        live = fill(cache, 2)
        cache.free(live[0])
        assert partial_pages(cache) == []
        assert [name for name, _ in cache.lists()] == ["frozen"]

    def test_full_slab_is_untracked(self):
        """A full slab that no CPU works on is found through its pages only, until an object is freed."""
        cache = Slub(size=1024, pages=8, max_order=0)
        live = fill(cache, 5)
        assert sorted(name for name, _ in cache.lists()) == ["frozen", "full"]
        cache.free(live[1])
        assert partial_pages(cache) == [0]
        assert sorted(name for name, _ in cache.lists()) == ["frozen", "partial"]

    def test_freed_slabs_queue_at_the_tail(self):
        """A full slab in which an object is freed goes last on the partial list; requests take the first."""
        cache = Slub(size=1024, pages=16, max_order=0)
        live = fill(cache, 17)
        for slab in (2, 0, 1):
            cache.free(live[4 * slab])
        assert partial_pages(cache) == [2, 0, 1]
        fill(cache, 3)  # what the CPU's slab still has
        assert cache.alloc(1) // PAGE == 2
        assert partial_pages(cache) == [0, 1]

    def test_partial_before_new(self):
        """While a slab has a free slot no pages are taken."""
        cache = Slub(size=1024, pages=16, max_order=0)
        live = fill(cache, 16)
        cache.free(live[0])
        held = cache.source.held
        assert cache.alloc(1) == live[0]
        assert cache.source.held == held

    @pytest.mark.parametrize(("size", "kept"), [(256, 4), (1024, 4), (4096, 6)])
    def test_min_partial_slabs_stay(self, size, kept):
        """With all objects freed, up to min_partial empty slabs stay besides that of the CPU.

        A slab of several objects is itself on the list, and counted, when its last one is freed: one less
        stays.  Shrinking returns all.
        """
        cache = Slub(size=size, pages=64, max_order=0)
        for address in fill(cache, 40 * (PAGE // size)):
            cache.free(address)
        assert len(partial_pages(cache)) == kept <= min_partial(size)
        assert cache.source.held == kept + 1
        assert cache.counters()["live_objects"] == 0
        assert cache.maintain("shrink").pages_freed == kept + 1
        assert cache.source.held == 0

    def test_empty_slab_goes_back_at_once(self):
        """Once min_partial slabs are listed, a slab whose last object is freed is given back."""
        cache = Slub(size=4096, pages=16, max_order=0)
        live = fill(cache, 16)
        for freed, address in enumerate(live[:15], 1):
            cache.free(address)
            assert cache.source.held == 16 - max(0, freed - 6)

    def test_shrinking_sorts_by_fullness(self):
        """Slabs with the fewest free objects come first after shrinking."""
        cache = Slub(size=1024, pages=16, max_order=0)
        live = fill(cache, 17)
        for slab, freed in ((0, 3), (1, 1), (2, 2)):
            for address in live[4 * slab : 4 * slab + freed]:
                cache.free(address)
        cache.maintain("shrink")
        assert partial_pages(cache) == [1, 2, 0, 4]
        free = [slab.objects - slab.inuse for slab in members(cache._cache.partial, 16)]
        assert free == sorted(free)

    def test_order_is_not_inferred_from_the_cache(self):
        """A free finds the slab through its page: right for slabs of either order."""
        cache = Slub(size=2048, pages=16, cpus=4, keep=0)
        cache.source.fail_next(1, 1)
        live = fill(cache, 18)
        for address in reversed(live):
            cache.free(address)
        assert cache.counters()["live_objects"] == 0
        cache.maintain("shrink")
        assert cache.source.held == 0


class TestCpus:
    def test_slab_for_each_cpu(self):
        """Each CPU takes a slab of its own."""
        cache = Slub(size=1024, pages=32, cpus=4)
        pages = [cache.alloc(1, ctx=Context(cpu)) // PAGE for cpu in range(4)]
        assert len(set(pages)) == 4
        assert all(frozen for *_, frozen in slabs(cache))

    def test_remote_free(self):
        """What another CPU frees goes to the slab's own chain, which its CPU takes over when it has run out."""
        cache = Slub(size=1024, pages=32, cpus=2, max_order=0)
        mine = fill(cache, 2)
        cache.free(mine[0], ctx=Context(1))
        (slab,) = [slab for slab in cache._frames.slabs() if slab.page == 0]
        assert slab.freelist == PAGE_OFFSET + mine[0]
        assert (slab.inuse, slab.frozen) == (3, True)
        assert fill(cache, 3) == [2048, 3072, mine[0]]
        assert slab.freelist == 0

    def test_freed_slab_is_kept_by_the_cpu(self):
        """A full slab in which an object is freed is kept by the CPU that freed it, not listed."""
        cache = Slub(size=1024, pages=32, cpus=2, max_order=0)
        live = fill(cache, 5)
        cache.free(live[0], ctx=Context(1))
        assert partial_pages(cache) == []
        assert cache.alloc(1, ctx=Context(1)) == live[0]

    def test_without_kept_slabs(self):
        """With keep=0 it is listed, as without CONFIG_SLUB_CPU_PARTIAL."""
        cache = Slub(size=1024, pages=32, cpus=2, max_order=0, keep=0)
        live = fill(cache, 5)
        cache.free(live[0], ctx=Context(1))
        assert partial_pages(cache) == [0]

    def test_kept_slabs_are_drained(self):
        """A CPU that has as many slabs as it may keep moves them all to the partial list."""
        cache = Slub(size=4096, pages=64, cpus=2, max_order=0)
        most = cache._layout.cpu_partial_slabs
        assert most == 12
        live = fill(cache, 30)
        for address in live[:most]:
            cache.free(address)
        assert partial_pages(cache) == []
        cache.free(live[most])
        assert len(partial_pages(cache)) == min_partial(4096)  # the others were empty, and went back
        assert cache.source.held == 30 - (most - min_partial(4096))

    def test_kept_slabs_are_out_of_reach(self):
        """A slot that is free in a slab of another CPU does not serve: the request is refused."""
        cache = Slub(size=4096, pages=2, cpus=2, max_order=0)
        live = fill(cache, 2)
        cache.free(live[0], ctx=Context(1))
        assert cache.alloc(1, ctx=Context(0)) is None
        assert cache.alloc(1, ctx=Context(1)) == live[0]
        assert not cache.contract.free_then_alloc

    def test_taking_over_is_bounded(self):
        """A request takes half of what a CPU may keep from the partial list, and a bit, not all of it."""
        cache = Slub(size=256, pages=64, cpus=2, max_order=0)
        live = fill(cache, 40 * 16)
        for address in live[::16]:
            cache.free(address, ctx=Context(1))
        for c in cache._cache.cpus:
            cache._cache._unfreeze_partials(c)
        assert len(partial_pages(cache)) == 39
        assert isinstance(cache.alloc(1), int)  # the last slab is the CPU's, and has a slot freed by the other
        assert isinstance(cache.alloc(1), int)
        assert cache.cost() == {"taken_over": cache._layout.cpu_partial_slabs // 2 + 2}


class TestKernelChecks:
    @pytest.mark.parametrize("configuration", CONFIGURATIONS, ids=str)
    def test_invariants(self, configuration):
        """Counts, chains and lists agree on every slab after every step of a random run."""
        cache, rng, live = Slub(**configuration), random.Random(str(configuration)), []
        cpus = configuration.get("cpus", 1)
        for step in range(400):
            ctx = Context(rng.randrange(cpus))
            if rng.random() < 0.55:
                address = cache.alloc(cache.contract.max_size, ctx=ctx)
                if address is not None:
                    live.append(address)
            elif live:
                cache.free(live.pop(rng.randrange(len(live))), ctx=ctx)
            if step % 97 == 96:
                cache.maintain("shrink")
            if rng.random() < 0.1:
                cache.source.fail_next(rng.randrange(3), 2)
            self.check_slabs(cache, live)

    @staticmethod
    def check_slabs(cache, live):
        here, inner = cache._layout, cache._cache
        every = list(cache._frames.slabs())
        frozen = {slab for c in inner.cpus for slab in (c.slab, *inner.kept(c)) if slab is not None}
        listed = set(members(inner.partial, cache.source.total))
        assert len(listed) == inner.nr_partial
        free = inner.free_slots(every)
        held = set()
        for slab in every:
            assert slab.objects <= (here.page_size << slab.order) // here.size
            assert 0 <= slab.inuse <= slab.objects
            assert slab.order in (here.order, here.min_order)
            assert slab.frozen == (slab in frozen)
            assert not (slab in frozen and slab in listed)
            own = inner._slots(slab, slab.freelist)
            assert len(own) == slab.objects - slab.inuse
            assert len(set(free[slab])) == len(free[slab])
            if slab not in frozen and slab not in listed:
                assert not free[slab]
            if slab in listed:
                assert free[slab]
            taken = set(range(slab.objects)) - set(free[slab])
            held |= {slab.s_mem + slot * slab.size for slot in taken}
        assert held == set(live)


class TestContract:
    @pytest.mark.parametrize("configuration", CONFIGURATIONS, ids=str)
    def test_random_runs(self, configuration):
        """No law is broken in random runs, with an audit after every operation."""
        rng = random.Random(str(configuration))
        for _ in range(6):
            checker = Checker(Slub(**configuration), audit_every=1)
            codec = Codec(checker.contract)
            for _ in range(250):
                checker.step(codec.decode(rng.getrandbits(32), checker.shadow.names, checker.births))
            checker.finish()

    def test_requests(self):
        """Sizes 1 to that of the objects are served; 0, more, and odd alignments are refused."""
        cache = Slub(size=100, pages=4)
        assert [cache.alloc(size) for size in (1, 100)] == [0, 104]
        assert cache.alloc(0) is Refusal.INVALID
        assert {cache.alloc(size) for size in (101, 1 << 32, (1 << 64) + 1)} == {Refusal.TOO_BIG}
        assert {cache.alloc(1, align) for align in (0, 3, 16, -1)} == {Refusal.INVALID}
        assert cache.alloc(1, 8) == 208
        assert cache.contract.waste(1, 1) == 103

    def test_foreign_free(self):
        """An address in no slab cannot be freed."""
        cache = Slub(size=100, pages=4)
        cache.alloc(1)
        for wrong in (PAGE, 1 << 50, -1):
            with pytest.raises(InvalidFree):
                cache.free(wrong)

    def test_destroy(self):
        """A cache with live objects cannot be destroyed; one without gives all pages back."""
        cache = Slub(size=100, pages=4)
        address = cache.alloc(1)
        with pytest.raises(RuntimeError, match="1 objects remain"):
            cache.destroy()
        cache.free(address)
        cache.destroy()
        assert cache.source.held == 0

    @pytest.mark.parametrize(
        "wrong",
        [{"size": 0}, {"align": 3}, {"pointer": "end"}, {"pages": 0}, {"cpus": 65}, {"min_order": 4},
         {"size": 8192, "pages": 1}, {"keep": 2}, {"page_size": 1000}, {"size": "big"}],
    )  # fmt: skip
    def test_senseless_parameters(self, wrong):
        """A parameter that makes no sense is refused in one clear line."""
        with pytest.raises(ValueError, match=r"^[^\n]+$"):
            Slub(**wrong)

    def test_unknown_maintenance(self):
        """There is only one kind of maintenance."""
        with pytest.raises(ValueError, match="shrink"):
            Slub(pages=4).maintain("reap")

    def test_dead_bytes_are_no_part_of_a_state(self):
        """Two histories that differ in what was written to objects that are freed have one state."""
        states = []
        for data in (b"x", b"y"):
            cache = Slub(size=200, pages=4)
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
        cache, rng, live = Slub(**configuration), random.Random(5), []
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
        for target in (cache, Slub(**configuration)):
            target.restore(then)
            assert target.snapshot() == then
            assert [target.alloc(1, ctx=Context(step % cpus)) for step in range(30)] == after

    def test_frames_are_shared(self):
        """Caches over the same frames find their own slabs."""
        frames = Frames(PageSource(pages=4))
        one, two = SlubCache(frames, layout(64), name=64), SlubCache(frames, layout(128), name=128)
        assert (one.alloc(0), two.alloc(0)) == (0, PAGE)
        assert frames.find(100).name == 64
        assert frames.find(PAGE + 100).name == 128


def target(cache_class, **parameters):
    """A function that makes targets over a cache class of one's own."""

    class Wrong(Slub):
        _make_cache = cache_class

    return lambda: Wrong(**parameters)


class TestPlanted:
    """Bugs in one step are refuted by a short trace that the honest cache passes."""

    def refuted(self, cache_class, operations, **parameters):
        assert run(target(SlubCache, **parameters), operations) is None
        found = run(target(cache_class, **parameters), operations)
        assert found is not None
        return found.law

    def test_objects_of_the_wrong_order(self):
        """Objects counted for the preferred order in a slab of the fallback order leave the slab."""

        class Wrong(SlubCache):
            def _setup_freelist(self, slab):
                slab.objects = self.layout.objects
                return super()._setup_freelist(slab)

        operations = [Operation(Kind.FAIL_PAGES, 0, 1, 1), *(Operation(Kind.ALLOC, n, 2048) for n in range(3))]
        law = self.refuted(Wrong, operations, size=2048, pages=32, cpus=4)
        assert law in ("bitmap", "conservation", "in-bounds", "tiling", "disjoint", "returns")

    def test_full_slab_that_is_never_listed(self):
        """A full slab that is not listed when an object is freed is on the wrong list."""

        class Wrong(SlubCache):
            def _add_partial(self, slab, *, last):
                pass

        operations = [Operation(Kind.ALLOC, n, 4096) for n in range(3)] + [Operation(Kind.FREE, 0)]
        assert self.refuted(Wrong, operations, size=4096, pages=4, max_order=0) == "size-class"

    def test_link_over_the_end_of_small_objects(self):
        """A link that follows the object, where the slot has no room for it, overwrites the neighbour."""

        class Wrong(SlubCache):
            def __init__(self, frames, here, cpus=1, name=0):
                super().__init__(frames, here._replace(offset=8), cpus, name)

        operations = [*(Operation(Kind.ALLOC, n, 4) for n in range(3)), Operation(Kind.FREE, 0)]
        law = self.refuted(Wrong, operations, size=4, pages=2)
        assert law in ("contents", "returns")

    def test_lost_remote_frees(self):
        """A slab whose remote frees are dropped when its CPU runs out loses objects."""

        class Wrong(SlubCache):
            def _get_freelist(self, slab):
                super()._get_freelist(slab)
                slab.frozen = False
                return 0

        operations = [
            *(Operation(Kind.ALLOC, n, 1024) for n in range(4)),
            Operation(Kind.ON_CPU, mode=1),
            Operation(Kind.FREE, 0),
            Operation(Kind.ON_CPU, mode=0),
            Operation(Kind.ALLOC, 4, 1024),
        ]
        law = self.refuted(Wrong, operations, size=1024, pages=4, cpus=2, max_order=0, keep=0)
        assert law in ("bitmap", "tiling", "conservation", "counters", "size-class")
