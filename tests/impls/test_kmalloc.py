"""kmalloc: classes of both eras, the classes that a real kernel gave, alignment, large requests, failures."""

import random
from pathlib import Path

import pytest

from heaplaw import Checker, Context, InvalidFree, Kind, Operation, PageSource, Refusal
from heaplaw.codec import Codec
from heaplaw.impls.kmalloc import ZERO_SIZE_PTR, Kmalloc
from heaplaw.impls.kmalloc_classes import (
    class_of_2005,
    classes_of_2005,
    index_size,
    kmalloc_class,
    kmalloc_classes,
    kmalloc_index,
)
from heaplaw.impls.slub_cache import SlubCache
from heaplaw.runs import run

PAGE = 4096
MODERN = (8, 16, 32, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096, 8192)
PAIRS = Path(__file__).parent.parent / "data/kmalloc-linux-6.18-pairs.tsv"
CONFIGURATIONS = [
    {"pages": 8},
    {"pages": 64, "cpus": 4},
    {"pages": 16, "era": "slab"},
    {"pages": 32, "era": "slab", "cpus": 2},
    {"pages": 64, "era": "2005"},
    {"pages": 64, "era": 2005, "line": 32, "cpus": 2},
    {"pages": 32, "page_size": 256},
    {"pages": 16, "least": 128, "zero": "refuse"},
]


def recorded():
    """(bytes asked for, bytes given, how often) of the recording."""
    lines = [line for line in PAIRS.read_text().splitlines() if not line.startswith("#")]
    return [tuple(map(int, line.split("\t"))) for line in lines[1:]]


def alloc(name, size):
    return Operation(Kind.ALLOC, name, size)


class TestClasses:
    def test_modern(self):
        """8 to 8192: powers of two, with 96 and 192 and no other sizes between them."""
        assert kmalloc_classes() == MODERN
        assert {48, 80}.isdisjoint(kmalloc_classes())
        assert [size for size in kmalloc_classes() if size & (size - 1)] == [96, 192]

    @pytest.mark.parametrize(
        ("low", "high", "kind"),
        [(1, 8, 8), (9, 16, 16), (17, 32, 32), (33, 64, 64), (65, 96, 96), (97, 128, 128), (129, 192, 192),
         (193, 256, 256), (257, 512, 512), (4097, 8192, 8192)],
    )  # fmt: skip
    def test_selection(self, low, high, kind):
        """Every size from a class's predecessor on gets that class."""
        assert {kmalloc_class(size) for size in range(low, high + 1)} == {kind}

    @pytest.mark.parametrize("least", [8, 16, 32, 64, 128, 256])
    def test_least_class(self, least):
        """The class is the least one that holds the size, and grows with it, whatever the smallest class is."""
        classes = kmalloc_classes(least)
        for size in range(1, 8193):
            assert kmalloc_class(size, least) == min(kind for kind in classes if kind >= size)
        assert kmalloc_class(8193, least) == 0

    def test_numbers(self):
        """Index 1 is 96 and index 2 is 192; any other is the logarithm of its size."""
        assert (index_size(1), index_size(2)) == (96, 192)
        assert all(index_size(kmalloc_index(kind)) == kind for kind in MODERN)
        assert [kmalloc_index(1 << shift) for shift in range(3, 14)] == list(range(3, 14))

    def test_large_alignment_drops_classes(self):
        """96 goes when 64 is the least class, 192 when 128 is, and 32 is the least of SLAB."""
        assert kmalloc_classes(32) == MODERN[2:]
        assert kmalloc_classes(64) == (64, 128, 192, 256, 512, 1024, 2048, 4096, 8192)
        assert kmalloc_classes(128) == (128, 256, 512, 1024, 2048, 4096, 8192)
        assert kmalloc_class(70, 64) == 128
        assert kmalloc_class(130, 128) == 256

    def test_2005(self):
        """kmalloc_sizes.h: 32 with 4 KiB pages, 96 below lines of 64, 192 below 128, then up to 131072."""
        powers = tuple(1 << shift for shift in range(8, 18))
        assert classes_of_2005() == (32, 64, 128, 192, *powers)
        assert classes_of_2005(line=32) == (32, 64, 96, 128, 192, *powers)
        assert classes_of_2005(line=128) == (32, 64, 128, *powers)
        assert classes_of_2005(page_size=8192) == (64, 128, 192, *powers)
        assert classes_of_2005(largest=1048576)[-4:] == (131072, 262144, 524288, 1048576)
        assert (class_of_2005(131072), class_of_2005(131073)) == (131072, 0)

    def test_2005_is_least_class(self):
        """In 2005, too, it is the first class that is large enough; a request of no bytes gets the smallest."""
        classes = classes_of_2005()
        assert class_of_2005(0) == 32
        for size in range(1, 10000):
            assert class_of_2005(size) == min(kind for kind in classes if kind >= size)

    def test_recorded_pairs(self):
        """Every size that Linux 6.18 was asked for got the class that it has here: 85 sizes, 41,538 requests.

        61 of the requests were accounted to a cgroup, and so came from other caches: of the same sizes.
        """
        pairs = recorded()
        assert (len(pairs), sum(count for _, _, count in pairs)) == (85, 41538)
        assert {given for _, given, _ in pairs} == set(MODERN) - {256, 8192}
        heap = Kmalloc(pages=256)
        for asked, given, _ in pairs:
            assert kmalloc_class(asked) == given
            assert heap.ksize(heap.alloc(asked)) == given

    def test_recorded_pairs_tell_eras_apart(self):
        """The recording refutes the classes of SLAB and of 2005: it has objects of 8, 16 and 96 bytes."""
        assert any(kmalloc_class(asked, 32) != given for asked, given, _ in recorded())
        assert any(class_of_2005(asked) != given for asked, given, _ in recorded())


class TestWaste:
    @pytest.mark.parametrize(
        ("size", "kind"),
        [(9, 16), (17, 32), (33, 64), (65, 96), (97, 128), (129, 192), (193, 256), (257, 512), (4097, 8192)],
    )
    def test_just_above_a_class(self, size, kind):
        """A byte above one class takes all of the next one."""
        heap = Kmalloc(pages=16)
        assert heap.ksize(heap.alloc(size)) == kind
        assert heap.contract.waste(size, 1) == kind - size

    def test_worst_ratios(self):
        """257 in 512 wastes 49.8 %, 65 in 96 and 129 in 192 a third."""
        shares = {size: (kmalloc_class(size) - size) / kmalloc_class(size) for size in range(1, 8193)}
        assert round(100 * shares[257], 1) == 49.8
        assert round(100 * shares[65]) == 32
        assert round(100 * shares[129]) == 33
        assert max(shares[size] for size in range(65, 97)) == shares[65]
        assert max(shares[size] for size in range(257, 8193)) < 0.5

    def test_up_to_seven_bytes(self):
        """The smallest class is 8 bytes, so up to 7 bytes are lost in it."""
        assert max(kmalloc_class(size) - size for size in range(1, 9)) == 7

    def test_small_objects_do_rather_well(self):
        """Up to 192 bytes no more than 63 bytes are lost, while a large object may lose thousands."""
        lost = {size: kmalloc_class(size) - size for size in range(1, 8193)}
        assert max(lost[size] for size in range(1, 193)) == 63
        assert max(lost.values()) == 4095

    def test_network_buffers(self):
        """A 9 KB jumbo frame takes 16 KiB, order 2; a packet of 1500 bytes with its shared info takes 2048."""
        heap = Kmalloc(pages=16)
        assert heap.ksize(heap.alloc(9 * 1024)) == 16384
        assert heap.ksize(heap.alloc(1500 + 320)) == 2048


class TestRequests:
    @pytest.mark.parametrize("era", ["slub", "slab"])
    def test_zero_size_pointer(self, era):
        """kmalloc(0) answers one pointer that is no memory; freeing it, or nothing, does nothing."""
        heap = Kmalloc(pages=4, era=era)
        assert heap.alloc(0) == heap.alloc(0) == ZERO_SIZE_PTR
        assert heap.extents(ZERO_SIZE_PTR) == ()
        assert (heap.ksize(ZERO_SIZE_PTR), heap.ksize(None), heap.source.taken) == (0, 0, 0)
        heap.free(ZERO_SIZE_PTR)
        heap.free(ZERO_SIZE_PTR)
        heap.free(None)
        assert heap.contract.min_size == 0

    def test_zero_refused_or_smallest(self):
        """By parameter no bytes are refused; in 2005 they got an object of the smallest class."""
        assert Kmalloc(pages=4, zero="refuse").alloc(0) is Refusal.INVALID
        heap = Kmalloc(pages=4, era="2005")
        assert heap.ksize(heap.alloc(0)) == 32

    def test_large(self):
        """Above 8192 a request is a run of pages, aligned to its length, up to 4 MiB."""
        heap = Kmalloc(pages=2048)
        for size, length in ((8193, 16384), (40000, 65536), (4 << 20, 4 << 20)):
            address = heap.alloc(size)
            assert (heap.ksize(address), address % length) == (length, 0)
            assert heap.source.runs[address // PAGE] == (length // PAGE).bit_length() - 1
            heap.free(address)
            assert heap.source.held == 0
        assert heap.alloc((4 << 20) + 1) is Refusal.TOO_BIG
        assert heap.contract.max_size == 4 << 20

    def test_nothing_above_131072_in_2005(self):
        """In 2005 what is longer than the largest class is not to be had."""
        heap = Kmalloc(pages=256, era="2005")
        assert heap.ksize(heap.alloc(131072)) == 131072
        assert heap.alloc(131073) is Refusal.TOO_BIG
        assert heap.contract.max_size == 131072

    @pytest.mark.parametrize("size", [1 << 31, 1 << 32, (1 << 64) + 1])
    def test_absurd_sizes(self, size):
        """Sizes beyond all memory are refused, whatever they wrap to."""
        for era in ("slub", "slab", "2005"):
            assert Kmalloc(pages=4, era=era).alloc(size) is Refusal.TOO_BIG

    def test_absurd_alignments(self):
        """No alignment of more than a word can be asked for, and none that is no power of two."""
        heap = Kmalloc(pages=4)
        assert {heap.alloc(64, align) for align in (0, 3, 16, -8, 4096)} == {Refusal.INVALID}
        assert heap.alloc(64, 8) == 0
        assert heap.alloc(-1) is Refusal.INVALID

    @pytest.mark.parametrize("era", ["slub", "slab"])
    def test_natural_alignment(self, era):
        """Objects of a power of two are aligned to it, 96 to 32 and 192 to 64, the others to 8 at least."""
        heap = Kmalloc(pages=256, era=era, line=64)
        for kind in kmalloc_classes(8 if era == "slub" else 32):
            for _ in range(20):
                address = heap.alloc(kind)
                least = 8 if era == "slub" else 32
                assert address % (kind if kind & (kind - 1) == 0 else least) == 0

    def test_unmapped_address(self):
        """What is in no slab cannot be freed, and neither can an object whose pages have gone back."""
        heap = Kmalloc(pages=8)
        address = heap.alloc(10000)
        heap.free(address)
        for wrong in (address, 1 << 48, -4096):
            with pytest.raises(InvalidFree):
                heap.free(wrong)

    def test_contents(self):
        """What is written to an object is read from it, and from the page source's memory."""
        heap = Kmalloc(pages=8)
        address = heap.alloc(100)
        heap.write(address, 90, b"0123456789")
        assert heap.read(address, 92, 3) == b"234"
        assert heap.source.memory[address + 92 : address + 95] == b"234"
        with pytest.raises(ValueError, match="in no page"):
            heap.write(8 * PAGE - 2, 0, b"abc")

    @pytest.mark.parametrize(
        "wrong",
        [{"era": "2007"}, {"zero": "null"}, {"least": 7}, {"pages": 0}, {"cpus": 0}, {"page_size": 100},
         {"era": "2005", "least": 8}, {"largest": 100}, {"least": 512}, {"pages": "many"}],
    )  # fmt: skip
    def test_senseless_parameters(self, wrong):
        """A parameter that makes no sense is refused in one clear line."""
        with pytest.raises(ValueError, match=r"^[^\n]+$"):
            Kmalloc(**wrong)


class TestPages:
    def test_object_lies_in_one_slab(self):
        """A live object lies in one slab, or is one run of pages."""
        heap = Kmalloc(pages=256)
        rng = random.Random(7)
        for _ in range(400):
            address = heap.alloc(rng.randrange(1, 20000))
            if address is not None:
                ((_, start, length),) = heap.extents(address)
                assert heap.source.owned[start // PAGE] == heap.source.owned[(start + length - 1) // PAGE]

    def test_caches_share_pages(self):
        """All caches draw from one source, which others may draw from as well."""
        source = PageSource(pages=4)
        others = source.take(0)
        heap = Kmalloc(source=source)
        assert heap.source is source
        assert [heap.alloc(size) // PAGE for size in (8, 64, 100)] == [1, 2, 3]
        assert heap.alloc(512) is None
        assert sorted(heap.pages()) == [(1, 1), (2, 1), (3, 1)]
        heap.destroy()
        assert source.runs == {others: 0}

    def test_caches_are_made_when_used(self):
        """A new heap has no cache; the first request of a class makes that of the class."""
        heap = Kmalloc()
        assert [cache.name for cache in heap.caches()] == ["pages"]
        heap.alloc(100)
        heap.alloc(120)
        assert [cache.name for cache in heap.caches()] == [128, "pages"]

    @pytest.mark.parametrize("configuration", CONFIGURATIONS, ids=str)
    def test_shrinking_gives_all_back(self, configuration):
        """With everything freed pages are still held; none is after shrinking."""
        heap = Kmalloc(**configuration)
        live = [address for size in (8, 50, 96, 130, 200) if isinstance(address := heap.alloc(size), int)]
        for address in live:
            heap.free(address)
        assert heap.source.held > 0
        held = heap.source.held
        assert heap.maintain("shrink").pages_freed == held
        assert heap.source.held == 0

    def test_unknown_maintenance(self):
        """Maintenance that a kind of caches does not know is an error; SLAB can be reaped, SLUB cannot."""
        with pytest.raises(ValueError, match="shrink"):
            Kmalloc(pages=4).maintain("reap")
        assert Kmalloc(pages=4, era="slab").maintain("reap").pages_freed == 0

    def test_only_single_pages(self):
        """With single pages only every object of up to 4096 bytes is served, as SLUB falls back."""
        source = PageSource(pages=64)
        pages = [source.take(0) for _ in range(64)]
        for page in pages[::2]:
            source.give(page)
        for kind in MODERN[:-1]:
            heap = Kmalloc(source=source, cpus=16)
            assert isinstance(heap.alloc(kind), int)
            assert isinstance(heap.alloc(kind - 1), int)
            heap.destroy()
        assert Kmalloc(source=source).alloc(8192) is None

    def test_slab_does_not_fall_back(self):
        """SLAB has one order for each cache: 8192 bytes need two pages in a row, and nothing else will do."""
        heap = Kmalloc(pages=4, era="slab")
        heap.source.fail_next(1, 1)
        assert heap.alloc(8192) is None
        assert heap.ksize(heap.alloc(8192)) == 8192


class TestLaws:
    @pytest.mark.parametrize("configuration", CONFIGURATIONS, ids=str)
    def test_random_runs(self, configuration):
        """No law is broken in random runs, with an audit after every operation."""
        rng = random.Random(str(configuration))
        for _ in range(6):
            checker = Checker(Kmalloc(**configuration), audit_every=1)
            codec = Codec(checker.contract)
            for _ in range(250):
                checker.step(codec.decode(rng.getrandbits(32), checker.shadow.names, checker.births))
            checker.finish()

    def test_class_of_another_size_is_noticed(self):
        """A table that sends 65..96 to 64 breaks big-enough at once."""

        class Wrong(Kmalloc):
            def __init__(self):
                super().__init__(pages=8)
                self._class_of = lambda size: 64 if 64 < size <= 96 else kmalloc_class(size)

        assert run(Wrong, [alloc(0, 96)]).law in ("big-enough", "geometry")
        assert run(honest_kmalloc, [alloc(0, 96)]) is None

    def test_lost_free_object_is_noticed(self):
        """A cache that forgets what is freed breaks the bitmap law."""

        class Forgets(SlubCache):
            def set_freepointer(self, obj, pointer):
                super().set_freepointer(obj, 0)

        class Wrong(Kmalloc):
            def _create_kmalloc_cache(self, kind):
                terms = self._terms
                self._caches[kind] = Forgets(self._frames, terms.layouts[kind], terms.cpus, kind)
                return self._caches[kind]

        found = run(Wrong, [alloc(0, 64), Operation(Kind.FREE, 0)])
        assert found is not None
        assert run(honest_kmalloc, [alloc(0, 64), Operation(Kind.FREE, 0)]) is None

    @pytest.mark.parametrize("configuration", CONFIGURATIONS, ids=str)
    def test_states(self, configuration):
        """A state that is returned to goes on exactly as it did, and equal states are equal."""
        heap, rng = Kmalloc(**configuration), random.Random(3)
        live = []
        for _ in range(60):
            address = heap.alloc(rng.randrange(1, heap.contract.max_size))
            if isinstance(address, int):
                live.append(address)
            if rng.random() < 0.4 and live:
                heap.free(live.pop(rng.randrange(len(live))))
        then = heap.snapshot()
        hash(then)
        after = [heap.alloc(size) for size in (8, 60, 100, 300, 5000, 60, 8, 9000)]
        heap.maintain("shrink")
        heap.restore(then)
        assert heap.snapshot() == then
        assert [heap.alloc(size) for size in (8, 60, 100, 300, 5000, 60, 8, 9000)] == after
        fresh = Kmalloc(**configuration)
        fresh.restore(then)
        assert fresh.snapshot() == then

    def test_cpus(self):
        """Every CPU has a slab of its own, from which its requests come."""
        heap = Kmalloc(pages=64, cpus=2)
        one, two = heap.alloc(64, ctx=Context(0)), heap.alloc(64, ctx=Context(1))
        assert one // PAGE != two // PAGE
        assert heap.alloc(64, ctx=Context(0)) == one + 64

    def test_equal_parameters_share_a_contract(self):
        """Two heaps of the same parameters have the same contract object."""
        assert Kmalloc(pages=9).contract is Kmalloc(pages=9).contract


def honest_kmalloc():
    """An honest heap of the size that the wrong ones have."""
    return Kmalloc(pages=8)


def test_restored_into_a_fresh_heap():
    """A heap that never had a cache frees an object of it, after a restore, as the first one does."""
    one, two = Kmalloc(pages=8), Kmalloc(pages=8)
    kept, gone = one.alloc(64), one.alloc(64)
    two.restore(one.snapshot())
    one.free(gone)
    two.free(gone)
    assert two.snapshot() == one.snapshot()
    assert two.source.held == one.source.held == 1
    assert two.extents(kept) == one.extents(kept)
