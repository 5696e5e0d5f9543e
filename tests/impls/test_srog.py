"""Small related object groups: pages packed by group and given back at once, and what was posted."""

import ctypes
import random
from itertools import pairwise, permutations

import pytest

from heaplaw import Block, Checker, Context, InvalidFree, Kind, Operation, Refusal, Request, Shadow, Trace, run
from heaplaw.impls.srog import MAGIC, PAGE_OFFSET, Srog
from heaplaw.impls.srog_hints import GroupHints
from heaplaw.impls.srog_promises import order_for, total
from heaplaw.twins import compare_twins

GROUP = [Context(group=group) for group in range(8)]
POSTED = "2006-08-12"


def word(heap, address):
    """A word in the heap's pages."""
    return int.from_bytes(heap.source.memory[address : address + 4], "little")


def areas(heap, page=0):
    """(address, bytes) of a page's free areas, by an independent walk of the raw pointers."""
    found, pointer = [], word(heap, page * heap.source.page_size + 12)
    while pointer:
        at = pointer - PAGE_OFFSET
        found.append((at, word(heap, at)))
        pointer = word(heap, at + 4)
        assert len(found) < 10_000
    return found


def ring(heap, page=0):
    """Pages of a group's ring from one of them on, by the raw links, which are checked both ways."""
    size, found, at = heap.source.page_size, [], page * heap.source.page_size
    while True:
        found.append(at // size)
        after = word(heap, at) - PAGE_OFFSET
        assert word(heap, after + 4) - PAGE_OFFSET == at
        at = after
        if at == page * size:
            return found
        assert len(found) < 1000


def three(rev=""):
    """Three objects of 1352 bytes, which fill a page."""
    heap = Srog(pages=2, rev=rev)
    return heap, [heap.alloc(1352, ctx=GROUP[1]) for _ in range(3)]


class TestLayout:
    """The 32-bit layout: a head of 28 bytes, size words of 4."""

    def test_head(self):
        """Links to itself, an anchor of size 0 and its first area, order, flags and the magic number."""
        heap = Srog(pages=2)
        heap.alloc(0)
        head = [word(heap, at) for at in range(0, 28, 4)]
        assert head == [PAGE_OFFSET, PAGE_OFFSET, 0, PAGE_OFFSET + 40, 0, 0, MAGIC]
        assert MAGIC == 0xF00FDE3D

    def test_usable(self):
        """4068 bytes of a page are areas and objects: the largest object without a second page has 4064."""
        heap = Srog(pages=4)
        handle = heap.alloc(4064)
        assert (handle, word(heap, 28), heap.source.runs) == (32, 4068, {0: 0})
        assert areas(heap) == []
        heap.alloc(4065)
        assert heap.source.runs == {0: 0, 2: 1}

    @pytest.mark.parametrize(
        ("size", "whole"), [(0, 12), (1, 12), (8, 12), (9, 16), (12, 16), (13, 20), (1352, 1356), (4064, 4068)]
    )
    def test_total(self, size, whole):
        """An object takes its size, at least 8, and a size word, rounded up to words; both agree in the posting."""
        for rev in ("", POSTED):
            heap = Srog(pages=2, rev=rev)
            handle = heap.alloc(size)
            assert total(size) == heap._total(size) == word(heap, handle - 4) == whole
            assert heap.extents(handle) == ((0, 32, whole - 4),)

    @pytest.mark.parametrize(
        ("size", "order"), [(4064, 0), (4065, 1), (8160, 1), (8161, 2), (16352, 2), (16353, 3), (32736, 3)]
    )
    def test_order(self, size, order):
        """Runs are powers of two of pages, the least that holds the object and one head."""
        heap = Srog(pages=16)
        heap.alloc(size)
        assert order_for(total(size), 4096) == order
        assert heap.source.runs == {0: order}
        assert areas(heap) in ([], [(32 + total(size) - 4, (4096 << order) - 28 - total(size))])

    def test_overhead(self):
        """A page costs 28 bytes, an object a word and its rounding, a tiny one at most 8 bytes more."""
        heap = Srog(pages=4)
        sizes = [0, 1, 7, 8, 9, 100, 333, 1000]
        for size in sizes:
            heap.alloc(size, ctx=GROUP[1])
        assert heap.metadata() == (28 + 4 * len(sizes), 0)
        assert heap.contract.waste(0, 1) == 8 + 4
        assert heap.contract.waste(9, 1) == 3 + 4
        assert heap.contract.waste(100, 1) == 4

    @pytest.mark.parametrize(("pointer", "is_size"), [(ctypes.c_uint32, True), (ctypes.c_uint64, False)])
    def test_on_64_bits(self, pointer, is_size):
        """4 bytes before an area's object is its size while a pointer has 4 bytes; with 8 it is padding."""

        class Area(ctypes.Structure):
            _fields_ = (("size", ctypes.c_uint32), ("next", pointer))

        assert (Area.next.offset - 4 == Area.size.offset) is is_size

    def test_page_zero(self):
        """A pointer is 3 GiB above its place, so that the first page's address is not NULL."""
        heap = Srog(pages=1)
        one = heap.alloc(100, ctx=GROUP[1])
        assert heap.alloc(100, ctx=GROUP[1]) == one + 104
        assert heap.source.held == 1


class TestAllocating:
    def test_group_of_its_own(self):
        """Objects that name no group share no page, and those that name one share it."""
        heap = Srog(pages=8)
        assert [heap.alloc(8) // 4096 for _ in range(3)] == [0, 1, 2]
        assert [heap.alloc(8, ctx=GROUP[1]) // 4096 for _ in range(3)] == [3, 3, 3]
        assert heap.alloc(8, ctx=GROUP[2]) // 4096 == 4

    def test_first_fit(self):
        """The first area that is long enough is cut from its front, though a later one fits better."""
        heap = Srog(pages=2)
        handles = [heap.alloc(size, ctx=GROUP[1]) for size in (100, 8, 40, 8)]
        heap.free(handles[0])
        heap.free(handles[2])
        assert [size for _, size in areas(heap)] == [104, 44, 4068 - 104 - 12 - 44 - 12]
        assert heap.alloc(40, ctx=GROUP[1]) == handles[0]
        assert heap.cost() == {"pages_walked": 1, "areas_walked": 1, "found": 100}

    def test_rest_keeps_its_place(self):
        """What is left of an area stands on the list where the area stood; an exact fit leaves nothing."""
        heap = Srog(pages=2)
        handles = [heap.alloc(size, ctx=GROUP[1]) for size in (100, 8, 40, 8)]
        heap.free(handles[0])
        heap.free(handles[2])
        heap.alloc(40, ctx=GROUP[1])
        assert areas(heap)[:2] == [(72, 60), (144, 44)]
        heap.alloc(56, ctx=GROUP[1])
        assert areas(heap)[0] == (144, 44)

    @pytest.mark.parametrize(("left", "size"), [(0, 100), (4, 100), (8, 92), (12, 88)])
    def test_remainder(self, left, size):
        """A remainder of 4 bytes stays with the object and in its size word; 8 bytes are an area."""
        heap = Srog(pages=2)
        handle = heap.alloc(100, ctx=GROUP[1])
        heap.alloc(8, ctx=GROUP[1])
        heap.free(handle)
        assert heap.alloc(100 - left, ctx=GROUP[1]) == handle
        assert word(heap, handle - 4) == (104 if left < 8 else 104 - left)
        assert heap.extents(handle)[0][2] == (100 if left < 8 else size)
        assert [area for area in areas(heap) if area[0] < 132] == ([] if left < 8 else [(132 - left, left)])

    def test_nearest_page_first(self):
        """Pages are asked from the hint's on around the ring; a new one is put right behind the hint's."""
        heap = Srog(pages=8)
        for _ in range(4):
            heap.alloc(4000, ctx=GROUP[1])
        assert ring(heap) == [0, 3, 2, 1]
        assert heap.alloc(60, ctx=GROUP[1]) // 4096 == 0
        assert heap.alloc(60, ctx=GROUP[1]) // 4096 == 3
        assert heap.cost()["pages_walked"] == 2

    def test_big_object_of_a_group(self):
        """A big object joins its group's ring as a run, whose rest serves small ones."""
        heap = Srog(pages=8)
        heap.alloc(4000, ctx=GROUP[1])
        assert heap.alloc(5000, ctx=GROUP[1]) == 2 * 4096 + 32
        assert ring(heap) == [0, 2]
        assert heap.alloc(100, ctx=GROUP[1]) == 2 * 4096 + 32 + 5004

    def test_refused(self):
        """Without a page nothing is served and nothing changes, with a group or without."""
        heap = Srog(pages=1)
        heap.alloc(4000, ctx=GROUP[1])
        before = heap.snapshot()
        assert heap.alloc(100, ctx=GROUP[1]) is None
        assert heap.alloc(8) is None
        assert heap.snapshot() == before
        assert isinstance(heap.alloc(60, ctx=GROUP[1]), int)

    @pytest.mark.parametrize("size", [-1, 16353, 1 << 31, (1 << 32) - 1, 1 << 32, (1 << 64) + 1])
    def test_senseless_sizes(self, size):
        """Negative sizes and those that no run of pages holds are refused, where sums would wrap too."""
        assert Srog(pages=4).alloc(size) in (Refusal.INVALID, Refusal.TOO_BIG)

    @pytest.mark.parametrize("align", [0, 3, 8, -4, 1 << 33])
    def test_alignments(self, align):
        """A word is all the alignment there is."""
        assert Srog(pages=4).alloc(8, align) is Refusal.INVALID
        assert Srog(pages=4).alloc(8, 4) == 32

    def test_orders_the_page_allocator_knows(self):
        """No run is longer than 1024 pages, whatever memory there is."""
        contract = Srog(pages=2048, page_size=64).contract
        assert (contract.page_order, contract.max_size) == (10, 65536 - 32)


class TestFreeing:
    @pytest.mark.parametrize("order", list(permutations(range(3))))
    def test_page_goes_back(self, order):
        """Three objects that fill a page give it back with the last free, whatever the order."""
        heap, handles = three()
        for index in order:
            assert heap.source.held == 1
            heap.free(handles[index])
        assert heap.source.held == 0

    @pytest.mark.parametrize(("order", "back"), [
        ((0, 1, 2), False), ((0, 2, 1), False), ((1, 0, 2), False), ((1, 2, 0), False), ((2, 0, 1), False),
        ((2, 1, 0), True),
    ])  # fmt: skip
    def test_page_goes_back_as_posted(self, order, back):
        """As posted only the order third, second, first gives the page back."""
        heap, handles = three(POSTED)
        for index in order:
            heap.free(handles[index])
        assert (heap.source.held == 0) is back

    def test_areas_as_posted(self):
        """Freed in the order first, second, third, 1356 bytes each, areas stand at 2740, 1384 and 28, unmerged."""
        heap, handles = three(POSTED)
        assert handles == [32, 1388, 2744]
        for handle in handles:
            heap.free(handle)
        assert areas(heap) == [(2740, 1356), (1384, 1356), (28, 1356)]

    def test_areas(self):
        """Repaired, the list is in order of address, and the two areas that touch are one."""
        heap, handles = three()
        heap.free(handles[2])
        heap.free(handles[0])
        assert areas(heap) == [(28, 1356), (2740, 1356)]
        heap.free(handles[1])
        assert heap.source.held == 0

    @pytest.mark.parametrize("order", list(permutations(range(4))))
    def test_every_order(self, order):
        """Four neighbours freed in any order become one area, by merging forward and backward."""
        heap = Srog(pages=1)
        handles = [heap.alloc(20, ctx=GROUP[1]) for _ in range(4)]
        heap.alloc(20, ctx=GROUP[1])
        for index in order:
            heap.free(handles[index])
        assert areas(heap) == [(28, 96), (28 + 120, 4068 - 120)]

    def test_anchor_never_merges(self):
        """The anchor has size 0: an area at the very start of the page begins a list of its own."""
        heap, handles = three()
        heap.free(handles[0])
        assert (word(heap, 8), word(heap, 12)) == (0, PAGE_OFFSET + 28)

    def test_run_goes_back(self):
        """A big object's run goes back with it, and alone; the group's other pages stay."""
        heap = Srog(pages=8)
        heap.alloc(100, ctx=GROUP[1])
        big = heap.alloc(5000, ctx=GROUP[1])
        heap.free(big)
        assert (heap.source.runs, ring(heap)) == ({0: 0}, [0])

    def test_without_a_hint(self):
        """An object can be freed with no hint, or with any other of its group."""
        heap = Srog(pages=4)
        one, two, three_, four = (heap.alloc(size, ctx=GROUP[1]) for size in (3000, 3000, 3000, 100))
        heap.srog_free(None, two)
        heap.srog_free(four, three_)
        heap.srog_free(one, four)
        assert heap.source.runs == {0: 0}

    def test_not_in_the_group(self):
        """A hint of another group is noticed, and so is an address without a page."""
        heap = Srog(pages=4)
        one, two = heap.alloc(100), heap.alloc(100)
        with pytest.raises(InvalidFree, match="no page of its group"):
            heap.srog_free(one, two)
        with pytest.raises(InvalidFree, match="no page head"):
            heap.free(32 + (1 << 48))
        with pytest.raises(InvalidFree, match="no page head"):
            heap.srog_free(4096 * 3 + 32, one)

    def test_hints_must_live(self):
        """A page that went back takes its hint with it: a hint is an object that lives."""
        heap = Srog(pages=4)
        one = heap.alloc(4000, ctx=GROUP[1])
        two = heap.alloc(4000, ctx=GROUP[1])
        heap.free(one)
        with pytest.raises(InvalidFree, match="no page head"):
            heap.srog_alloc(one, 8)
        assert heap.callers.of_name(1) == two

    def test_packets(self):
        """Pages come and go with their packets; the group's footprint is that of a heap of its own."""
        heap, alone = Srog(pages=64), Srog(pages=64)
        packets, mine = [], []
        for index in range(20):
            sizes = (index * 137 % 1500, 200, 4000)
            data = heap.srog_alloc(None, sizes[0])
            packets.append([data, heap.srog_alloc(data, sizes[1]), heap.srog_alloc(data, sizes[2])])
            first = alone.srog_alloc(None, sizes[0])
            mine = [first, alone.srog_alloc(first, sizes[1]), alone.srog_alloc(first, sizes[2])]
            pages = {obj // 4096 for obj in packets[-1]}
            assert len(pages) == len({obj // 4096 for obj in mine})
            for obj in reversed(mine):
                alone.srog_free(mine[0], obj)
            if len(packets) > 5:
                packet = packets.pop(0)
                for obj in reversed(packet):
                    heap.srog_free(packet[0], obj)
        assert alone.source.held == 0
        assert heap.source.held == len({obj // 4096 for packet in packets for obj in packet})


class TestLinking:
    def _two_groups(self, rev, pages):
        """Two groups of so many pages each; their objects, oldest first."""
        heap = Srog(pages=16, rev=rev)
        return heap, [[heap.alloc(4000, ctx=GROUP[group]) for _ in range(pages)] for group in (1, 2)]

    @pytest.mark.parametrize("pages", [1, 2, 3])
    def test_whole_rings(self, pages):
        """The second ring follows the first one's head, its own head included."""
        heap, (one, two) = self._two_groups("", pages)
        heap.link(one[0], two[0])
        merged = ring(heap)
        assert sorted(merged) == list(range(2 * pages))
        assert merged[1] == pages
        for obj in [*two, *one]:
            heap.free(obj)
        assert heap.source.held == 0

    @pytest.mark.parametrize("pages", [1, 3])
    def test_to_itself(self, pages):
        """Linking two objects of one group, or one object to itself, changes nothing."""
        heap, (one, _) = self._two_groups("", pages)
        before = ring(heap)
        heap.link(one[0], one[-1])
        heap.link(one[0], one[0])
        assert ring(heap) == before

    def test_space_is_shared(self):
        """After linking, either name finds the room in either's pages."""
        heap, (one, two) = self._two_groups("", 1)
        heap.link(one[0], two[0])
        assert heap.alloc(60, ctx=GROUP[2]) // 4096 == 0
        assert heap.alloc(60, ctx=GROUP[1]) // 4096 == 1
        for obj in (*one, *two):
            heap.free(obj)
        assert heap.source.held == 2

    def test_names_part_again(self):
        """When the merged group is gone, its names start groups of their own."""
        heap, (one, two) = self._two_groups("", 1)
        heap.link(one[0], two[0])
        heap.free(one[0])
        assert heap.callers.of_name(1) == heap.callers.of_name(2) == two[0]
        heap.free(two[0])
        assert heap.alloc(8, ctx=GROUP[1]) // 4096 != heap.alloc(8, ctx=GROUP[2]) // 4096

    def test_one_page_as_posted(self):
        """As posted, linking works as long as the second group has a single page."""
        heap, (one, two) = self._two_groups(POSTED, 1)
        heap.link(one[0], two[0])
        assert ring(heap) == [0, 1]
        heap, (one, _) = self._two_groups(POSTED, 3)
        small = heap.alloc(8, ctx=GROUP[3])
        heap.link(one[0], small)
        assert ring(heap)[:2] == [0, 6]

    def test_several_pages_as_posted(self):
        """As posted, the second group's own head is left out, and from it nobody comes back."""
        heap, (one, two) = self._two_groups(POSTED, 2)
        heap.link(one[0], two[0])
        found = [head // heap._page_words for head in heap._ring(0)]
        assert found == [0, 3, 1]
        with pytest.raises(RuntimeError, match="page ring does not end"):
            list(heap._ring(2 * heap._page_words))
        with pytest.raises(RuntimeError, match="page ring does not end"):
            heap.srog_alloc(two[0], 4000)

    def test_own_ring_as_posted(self):
        """As posted, linking a group of several pages to itself loses the page it starts from."""
        heap, (one, _) = self._two_groups(POSTED, 2)
        heap.link(one[0], one[0])
        with pytest.raises(RuntimeError, match="page ring does not end"):
            list(heap._ring(0))


class TestHints:
    def test_oldest(self):
        """The hint is the oldest live object of the group, and none when there is none."""
        hints = GroupHints()
        for handle in (10, 20, 30):
            hints.enter(handle, 5)
        assert (hints.of_name(5), hints.of_object(30), hints.of_name(6), hints.of_name(0)) == (10, 10, None, None)
        hints.leave(10)
        assert hints.of_name(5) == 20
        hints.leave(99)
        for handle in (20, 30):
            hints.leave(handle)
        assert (hints.of_name(5), hints.of_object(30), list(hints.of_groups())) == (None, None, [])

    def test_joined_twice(self):
        """Three groups joined in turn are one, with one hint for all names."""
        hints = GroupHints()
        for name, handle in enumerate((10, 20, 30), 1):
            hints.enter(handle, name)
        hints.join(20, 30)
        hints.join(10, 30)
        hints.join(10, 20)
        assert [hints.of_name(name) for name in (1, 2, 3)] == [10, 10, 10]

    def test_frozen(self):
        """A thawed copy answers alike."""
        hints, copy = GroupHints(), GroupHints()
        for name, handle in ((1, 10), (0, 20), (2, 30), (1, 40)):
            hints.enter(handle, name)
        hints.join(30, 20)
        copy.thaw(hints.frozen())
        assert copy.frozen() == hints.frozen()
        copy.enter(50, 3)
        assert (copy.of_name(1), copy.of_name(2), copy.of_object(20), copy.of_name(3)) == (10, 30, 30, 50)


def recount(heap, live):
    """The invariants, from the raw memory and what is known to be live; raises AssertionError.

    ``live``: address -> (size, group).
    """
    size = heap.source.page_size
    groups = {}
    for obj, (_, group) in live.items():
        groups.setdefault(heap.source.owned[obj // size], set()).add(group)
    assert groups.keys() == heap.source.runs.keys()  # a page without a live object is gone
    for page, order in heap.source.runs.items():
        assert len(groups[page]) == 1
        start, end = page * size, (page + (1 << order)) * size
        assert (word(heap, start + 16), word(heap, start + 24)) == (order, MAGIC)
        free = areas(heap, page)
        assert [at for at, _ in free] == sorted({at for at, _ in free})
        assert all(one + length < two for (one, length), (two, _) in pairwise(free))
        blocks = sorted([(obj - 4, word(heap, obj - 4)) for obj in live if start <= obj < end] + free)
        at = start + 28
        for place, length in blocks:
            assert place == at
            at += length
        assert at == end
    for group in {group for _, group in live.values()}:
        mine = {heap.source.owned[obj // size] for obj, (_, other) in live.items() if other == group}
        assert sorted(ring(heap, min(mine))) == sorted(mine)


class TestInvariants:
    @pytest.mark.parametrize("seed", range(8))
    def test_random(self, seed):
        """Areas and objects tile each run, lists rise by address, no two areas touch, rings are whole groups."""
        rng = random.Random(seed)
        heap, live, alias = Srog(pages=24, page_size=256), {}, {}
        for step in range(300):
            chance = rng.random()
            if not live or chance < 0.5:
                size, name = rng.choice((0, 8, 17, 60, 200, 220, 300, 600)), rng.randrange(4)
                obj = heap.alloc(size, ctx=GROUP[name])
                if obj is not None:
                    live[obj] = (size, alias.get(name, name) or ("own", step))
                    assert 0 <= word(heap, obj - 4) - total(size) < 8
            elif chance < 0.55:
                one, two = rng.choice(list(live)), rng.choice(list(live))
                heap.link(one, two)
                kept, gone = live[one][1], live[two][1]
                live.update({obj: (size, kept) for obj, (size, group) in live.items() if group == gone})
                for name in range(1, 4):
                    if alias.get(name, name) == gone:
                        alias[name] = kept
            else:
                obj = rng.choice(list(live))
                group = live.pop(obj)[1]
                heap.free(obj)
                if all(other != group for _, other in live.values()):
                    alias = {name: other for name, other in alias.items() if other != group}
            recount(heap, live)
        for obj in list(live):
            heap.free(obj)
        assert heap.source.held == 0

    def test_space_does_not_depend_on_others(self):
        """A group's pages after each of its calls are as many as when it is alone."""
        rng = random.Random(2)
        ops, births = [], []
        for _ in range(300):
            if not births or rng.random() < 0.6:
                births.append(len(births))
                ops.append(Operation(Kind.ALLOC, births[-1], rng.choice((0, 50, 300, 1000)), 1, rng.randrange(4) << 1))
            else:
                ops.append(Operation(Kind.FREE, rng.choice(births)))
        heap = Srog(pages=1024)
        checker = Checker(heap)
        compare_twins(checker, lambda: Srog(pages=1024), ops)
        assert checker.counted["space-determinism"] == 3


def _shadow(*blocks):
    """A shadow heap of (address, bytes, group)."""
    shadow = Shadow()
    for name, (at, length, group) in enumerate(blocks):
        block = Block(name, at, length, 1, ((0, at, length),))
        block.group = group
        shadow.add(block)
    return shadow


class TestPromises:
    def test_must_serve(self):
        """A run to be had, or an area of the group that is long enough; the areas of others do not count."""
        heap = Srog(pages=2)
        heap.source.take(0)
        heap.source.take(0)
        shadow = _shadow((32, 100, 1), (136 + 60, 3900, 1), (4128, 4000, 2))
        # group 1: an area of 60 bytes with its size word at 132; group 2: one of 64 at the end
        serve = heap.contract.must_serve
        assert serve(Request(56, group=1), shadow, heap.source)
        assert not serve(Request(57, group=1), shadow, heap.source)
        assert serve(Request(60, group=2), shadow, heap.source)
        assert not serve(Request(61, group=2), shadow, heap.source)
        assert not serve(Request(8, group=3), shadow, heap.source)
        assert not serve(Request(8), shadow, heap.source)
        heap.source.give(0)
        assert serve(Request(4064), shadow, heap.source)
        assert not serve(Request(4065), shadow, heap.source)

    def test_promised_areas_are_served(self):
        """What the predicate says of areas is what the allocator does, to the byte."""
        heap = Srog(pages=1)
        handles = [heap.alloc(size, ctx=GROUP[1]) for size in (100, 56, 3800)]
        heap.free(handles[1])
        shadow = _shadow(*((obj, heap.extents(obj)[0][2], 1) for obj in (handles[0], handles[2])))
        longest = max(size for _, size in areas(heap)) - 4
        assert heap.contract.must_serve(Request(longest, group=1), shadow, heap.source)
        assert not heap.contract.must_serve(Request(longest + 1, group=1), shadow, heap.source)
        assert heap.alloc(longest + 1, ctx=GROUP[1]) is None
        assert isinstance(heap.alloc(longest, ctx=GROUP[1]), int)

    def test_senseless(self):
        """Alignments above a word and what no run holds must be refused, and size 0 need not."""
        contract = Srog(pages=4).contract
        assert contract.must_refuse(Request(8, 8), Shadow(), None)
        assert contract.must_refuse(Request(contract.largest + 1), Shadow(), None)
        assert not contract.must_refuse(Request(0), Shadow(), None)

    @pytest.mark.parametrize(
        ("parameters", "problem"),
        [
            ({"rev": "2005"}, "no revision"), ({"page_size": 32}, "page_size"), ({"page_size": 3000}, "page_size"),
            ({"pages": 0}, "between one page and a GiB"), ({"pages": 1 << 20}, "GiB"), ({"groups": 0}, "groups"),
        ],
    )  # fmt: skip
    def test_bad_parameters(self, parameters, problem):
        """Senseless parameters are refused in one line."""
        with pytest.raises(ValueError, match=problem):
            Srog(**parameters)


def operations(text):
    """The operations of a trace's text."""
    lines = "\n".join(line.strip() for line in text.strip().splitlines())
    return Trace.parse(f"heaplaw trace 1\n{lines}\n").operations


TRACES = [
    # the second object freed is above the first on the page, but in front of it on the list
    (
        "coalesced",
        """a = alloc 0 group 1
        b = alloc 0 group 1
        c = alloc 0 group 1
        free b
        free c""",
    ),
    ("drain", "a = alloc 0 group 1\nb = alloc 0 group 1\ndrain"),
    ("conservation", "a = alloc 0 group 1\nb = alloc 0 group 1\nfree a\nfree b"),
    # a remainder of 4 bytes: its header is written over the size of b
    ("handle-stable", "a = alloc 21 group 1\nb = alloc 0 group 1\nfree a\nc = alloc 17 group 1"),
    # a remainder of 4 bytes at the end of a run: its header is written over the next page's
    ("returns", "a = alloc 4060\nb = alloc 0"),
    # a hint in the second page of a run
    ("returns", "a = alloc 5000 group 1\nb = alloc 100 group 1\nfree a\nc = alloc 8 group 1"),
    # a page that was refused
    ("returns", "a = alloc 4000 group 1\nfailpages 1 order 0\nb = alloc 4000 group 1"),
    # a ring without its second head: page 1 is on no group's ring any more
    ("conservation", "a = alloc 8 group 1\nb = alloc 4000 group 2\nc = alloc 4000 group 2\nlink a b"),
    # 2^32 - 4 and a size word are nothing
    ("big-enough", "a = alloc 4294967292"),
    ("bad-size-rejected", "badalloc huge 4294967292 align 1"),
]


class TestPublished:
    """What the posting does; read in it, and unconfirmed by its author."""

    @pytest.mark.parametrize(("law", "text"), TRACES)
    def test_trace(self, law, text):
        """A few operations break the law on the posting, at the last of them, and none on the repaired allocator."""
        ops = operations(text)
        found = run(lambda: Srog(pages=8, rev=POSTED), ops)
        assert found is not None
        assert (found.law, found.index) == (law, len(ops) - 1)
        assert run(lambda: Srog(pages=8), ops) is None

    def test_remainder_over_a_size(self):
        """An area of 16 bytes less a total of 12: the remainder's header makes the next size word NULL or a pointer."""
        heap = Srog(pages=2, rev=POSTED)
        one = heap.alloc(12, ctx=GROUP[1])
        two = heap.alloc(100, ctx=GROUP[1])
        rest = areas(heap)[0][0]
        heap.free(one)
        assert word(heap, two - 4) == 104
        heap.alloc(8, ctx=GROUP[1])
        assert areas(heap)[0] == (40, 4)
        assert word(heap, two - 4) == PAGE_OFFSET + rest

    def test_remainder_past_the_run(self):
        """At the end of a page the remainder's pointer is the next page's first link: written over, or followed."""
        heap = Srog(pages=2, rev=POSTED)
        heap.alloc(4060)
        assert (word(heap, 12) - PAGE_OFFSET, word(heap, 4092), word(heap, 4096)) == (4092, 4, 0)
        heap.alloc(100)
        assert word(heap, 4096) == PAGE_OFFSET + 4096  # once a remainder's pointer, and now a link
        heap = Srog(pages=2, rev=POSTED)
        one, two = heap.alloc(4000, ctx=GROUP[1]), heap.alloc(100, ctx=GROUP[2])
        assert ring(heap, 1) == [1]
        heap.alloc(56, ctx=GROUP[1])
        assert word(heap, 4096) == 0
        with pytest.raises(RuntimeError, match="NULL"):
            heap.free(two)
        assert one == 32

    def test_insertion_as_posted(self):
        """The last one freed is in front, whatever its address; it merges forward with the list's head only."""
        heap = Srog(pages=1, rev=POSTED)
        handles = [heap.alloc(20, ctx=GROUP[1]) for _ in range(6)]
        for index in (1, 3, 2):
            heap.free(handles[index])
        assert [at for at, _ in areas(heap)] == [handles[2] - 4, handles[1] - 4, areas(heap)[-1][0]]
        assert areas(heap)[0][1] == 48

    def test_range_test(self):
        """The posted test takes the byte behind a run for its own; no object can stand there."""
        posted, repaired = Srog(pages=4, rev=POSTED), Srog(pages=4)
        for heap in (posted, repaired):
            heap.alloc(100)
            heap.alloc(100)
        assert posted._holds(0, 4096)
        assert not repaired._holds(0, 4096)
        assert not posted._holds(0, 4096 + 32)
        assert not posted._holds(1024, 4095)

    def test_hint_as_posted(self):
        """A hint beyond the first page of a run is masked to a page without a head."""
        heap = Srog(pages=4, rev=POSTED)
        big = heap.alloc(5000, ctx=GROUP[1])
        small = heap.alloc(100, ctx=GROUP[1])
        assert (big // 4096, small // 4096) == (0, 1)
        with pytest.raises(InvalidFree, match="no page head"):
            heap.srog_alloc(small, 8)
        with pytest.raises(InvalidFree, match="no page head"):
            heap.srog_free(None, small)
        heap.srog_free(big, small)
        assert Srog(pages=4).srog_alloc(None, 8) == 32

    def test_sizes_that_wrap(self):
        """From 2^32 - 7 on, sizes wrap to a total of 0 or 4; for some before them the head's 28 bytes wrap."""
        heap = Srog(pages=4, rev=POSTED)
        assert [heap._total(size) for size in ((1 << 32) - 7, (1 << 32) - 4, (1 << 32) - 1)] == [0, 0, 4]
        assert heap._total((1 << 32) - 8) == (1 << 32) - 4
        with pytest.raises(RuntimeError, match="BUG"):
            heap.alloc((1 << 32) - 16)
        heap.alloc(8, ctx=GROUP[1])
        with pytest.raises(RuntimeError, match="NULL"):
            heap.alloc((1 << 32) - 16, ctx=GROUP[1])  # takes every page there is
        assert heap.source.held == 4


class TestBrokenHeaps:
    def test_lists_and_rings_in_a_circle(self):
        """Every walk of a list or a ring that does not end ends in an exception."""
        heap = Srog(pages=4)
        handles = [heap.alloc(100, ctx=GROUP[1]) for _ in range(3)]
        heap.free(handles[0])
        heap.write(handles[0], 0, (PAGE_OFFSET + 28).to_bytes(4, "little"))
        for walk in (heap.lists, heap.counters, heap.snapshot, lambda: heap.alloc(4000, ctx=GROUP[1])):
            with pytest.raises(RuntimeError, match="free list does not end"):
                list(walk())

    def test_size_words_are_in_the_pages(self):
        """An object that writes past its end destroys the next one's size, as in C."""
        heap = Srog(pages=4)
        one, two = (heap.alloc(100, ctx=GROUP[1]) for _ in range(2))
        heap.write(one, 100, (44).to_bytes(4, "little"))
        assert heap.extents(two) == ((0, two, 40),)
        heap.write(one, 100, bytes(4))
        with pytest.raises(RuntimeError, match="has no size"):
            heap.counters()

    def test_null(self):
        """A link of nothing is not followed."""
        heap = Srog(pages=4)
        heap.alloc(100)
        heap.source.memory[:4] = bytes(4)
        with pytest.raises(RuntimeError, match="NULL"):
            list(heap.pages())


class TestStates:
    def test_back_and_again(self):
        """From a restored state the same calls give the same answers and the same state, on another heap too."""
        heap, live, rng = Srog(pages=24, page_size=256), [], random.Random(7)
        _history(rng, heap, live, 80)
        state, kept, seed = heap.snapshot(), list(live), rng.random()
        ends = []
        for target in (heap, heap, Srog(pages=24, page_size=256)):
            target.restore(state)
            assert target.snapshot() == state
            assert hash(target.snapshot()) == hash(state)
            again = list(kept)
            ends.append((_history(random.Random(seed), target, again, 60), target.snapshot()))
        assert ends[0] == ends[1] == ends[2]
        assert ends[0][1] != state

    def test_dead_bytes_do_not_count(self):
        """Two heaps that differ in contents only are in the same state."""
        one, two = Srog(pages=4), Srog(pages=4)
        for heap, filler in ((one, b"a"), (two, b"b")):
            handles = [heap.alloc(64, ctx=GROUP[1]) for _ in range(2)]
            heap.write(handles[0], 0, filler * 64)
            heap.free(handles[0])
        assert one.snapshot() == two.snapshot()


def _history(rng, heap, live, steps):
    """Random calls; what they answered."""
    answers = []
    for _ in range(steps):
        chance = rng.random()
        if not live or chance < 0.5:
            handle = heap.alloc(rng.choice((0, 20, 100, 200, 600)), ctx=GROUP[rng.randrange(4)])
            answers.append(handle)
            if handle is not None:
                live.append(handle)
        elif chance < 0.6:
            heap.link(rng.choice(live), rng.choice(live))
        else:
            heap.free(live.pop(rng.randrange(len(live))))
    return answers
