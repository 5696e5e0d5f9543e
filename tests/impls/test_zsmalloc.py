"""zsmalloc: what its pages hold, its lists, compaction, and every invariant on random runs."""

import random
from collections import Counter

import pytest

from heaplaw import Block, Context, InvalidFree, Maintained, Refusal, Request, Shadow
from heaplaw.impls.zsmalloc import Zsmalloc


def word(pool, address, size=8):
    """A word in the pool's pages."""
    return int.from_bytes(pool.source.memory[address : address + size], "little")


def filled(pool, size, count):
    """Handles of ``count`` objects."""
    handles = [pool.alloc(size) for _ in range(count)]
    assert all(isinstance(handle, int) for handle in handles)
    return handles


def listed(pool):
    """Lists as {(class size, group): [pages, ...]}."""
    lists = {}
    for (index, group), key in pool.lists():
        lists.setdefault((pool._table.by_index[index].size, group), []).append(key)
    return lists


class TestInThePages:
    def test_links_of_a_new_zspage(self):
        """Free slots of a new zspage link to the next index, shifted past the tag; the last to -1."""
        pool = Zsmalloc(pages=4)
        handle = pool.alloc(2056)  # class 2336: 7 objects on 4 pages
        assert word(pool, 0) == handle | 1
        links = [word(pool, slot * 2336) for slot in range(1, 7)]  # pages 0..3 lie in a row here
        assert links == [2 << 1, 3 << 1, 4 << 1, 5 << 1, 6 << 1, 2**64 - 2]

    def test_freed_slots_are_used_last_in_first_out(self):
        """A freed slot links to the one freed before and is handed out first."""
        pool = Zsmalloc(pages=4)
        handles = filled(pool, 24, 4)
        pool.free(handles[1])
        pool.free(handles[2])
        assert word(pool, 2 * 32) == 1 << 1
        assert word(pool, 1 * 32) == 4 << 1
        assert pool.extents(pool.alloc(24)) == ((0, 2 * 32 + 8, 24),)
        assert pool.extents(pool.alloc(24)) == ((0, 1 * 32 + 8, 24),)

    def test_huge_object_has_the_whole_page(self):
        """A request of 4096 bytes fits its page, with the handle beside it."""
        pool = Zsmalloc(pages=4)
        handle = pool.alloc(4096)
        assert pool.extents(handle) == ((0, 0, 4096),)
        pool.write(handle, 0, bytes(range(256)) * 16)
        assert pool.read(handle, 0, 4096) == bytes(range(256)) * 16

    def test_largest_class_with_a_handle_word(self):
        """Two requests that need exactly the largest class below huge do not touch each other."""
        pool = Zsmalloc(pages=4)
        for size in (3256, 3264):
            one, two = filled(pool, size, 2)
            pool.write(one, 0, b"\1" * size)
            pool.write(two, 0, b"\2" * size)
            assert pool.read(one, 0, size) == b"\1" * size
            assert pool.read(two, 0, size) == b"\2" * size
            pool.free(one)
            pool.free(two)

    def test_straddling_object(self):
        """Slot 1 of class 2336 begins in the first page, ends in the second, and reads as one."""
        pool = Zsmalloc(pages=4)
        _, handle = filled(pool, 2056, 2)
        start = 2336 + 8
        assert pool.extents(handle) == ((0, start, 4096 - start), (0, 4096, 2328 - (4096 - start)))
        pool.write(handle, 1700, bytes(range(100)))
        assert pool.read(handle, 1690, 120) == bytes(10) + bytes(range(100)) + bytes(10)
        assert pool.source.memory[4096 : 4096 + 4] == bytes(range(52, 56))

    def test_first_word_that_ends_a_page(self):
        """Where the first word is the last of a page, the payload is one piece on the next."""
        pool = Zsmalloc(pages=8, page_size=64, chain=8)
        kind = next(kind for kind in pool._table.distinct if 56 in kind.offset_of)
        slot = kind.offset_of.index(56)
        handles = filled(pool, kind.payload, kind.objects)
        ((_, start, length),) = pool.extents(handles[slot])
        assert (start % 64, length) == (0, kind.payload)
        block = Block(0, handles[slot], kind.payload, 1, pool.extents(handles[slot]))
        assert pool.contract.geometry(block) is None

    def test_writes_leave_the_first_word(self):
        """Filling an object keeps its handle word, and nothing is written past its end."""
        pool = Zsmalloc(pages=4)
        handle = pool.alloc(100)
        pool.write(handle, 0, b"\xff" * 104)
        assert word(pool, 0) == handle | 1
        with pytest.raises(ValueError, match="leave an object of 104"):
            pool.write(handle, 100, b"12345")
        with pytest.raises(ValueError, match="leave an object of 104"):
            pool.read(handle, -1, 1)


class TestRequests:
    @pytest.mark.parametrize(
        ("size", "align", "answer"),
        [
            (0, 1, Refusal.INVALID),
            (-5, 1, Refusal.INVALID),
            (8, 2, Refusal.INVALID),
            (8, 0, Refusal.INVALID),
            (4097, 1, Refusal.TOO_BIG),
            (2**32, 1, Refusal.TOO_BIG),
            (2**64 + 1, 1, Refusal.TOO_BIG),
        ],
    )
    def test_refused(self, size, align, answer):
        """Senseless and impossible requests are refused by name and change nothing."""
        pool = Zsmalloc(pages=4)
        pool.alloc(50)
        before = pool.snapshot()
        assert pool.alloc(size, align) is answer
        assert pool.snapshot() == before

    @pytest.mark.parametrize(
        "parameters",
        [
            {"pages": 3},
            {"pages": "many"},
            {"page_size": 1000},
            {"page_size": 32},
            {"chain": 0},
            {"chain": 17},
            {"chain": 8, "pages": 7},
            {"rev": "6.1"},
            {"handle_size": 2},
            {"rule": "best"},
            {"handles": "tagged"},
            {"merge": 2},
            {"cpus": -1},
            {"cpus": "all"},
            {"scatter": 2},
            {"scatter": "yes"},
        ],
    )
    def test_bad_parameters(self, parameters):
        """Senseless parameters raise ValueError in one line."""
        with pytest.raises(ValueError, match=r"^[^\n]+$"):
            Zsmalloc(**parameters)

    def test_contract_is_shared(self):
        """Pools with equal parameters share one contract."""
        assert Zsmalloc(pages=64).contract is Zsmalloc(pages=64).contract
        assert Zsmalloc(pages=64, chain=8).contract is not Zsmalloc(pages=64).contract

    def test_handles(self):
        """Handles are even and never 0, though page 0 and slot 0 are in use; freeing 0 does nothing."""
        pool = Zsmalloc(pages=4)
        handles = filled(pool, 24, 20)
        assert len(set(handles)) == 20
        assert all(handle % 2 == 0 and handle for handle in handles)
        pool.free(0)
        assert pool.counters()["live_objects"] == 20

    def test_dead_handle(self):
        """A handle without an object raises InvalidFree, as is promised of handles that are dead when freed."""
        pool = Zsmalloc(pages=4)
        handle = pool.alloc(24)
        pool.free(handle)
        for dead in (handle, handle + 4, 1 << 40, -8):
            with pytest.raises(InvalidFree):
                pool.free(dead)
        assert pool.contract.detects == {"double", "foreign", "interior"}

    @pytest.mark.parametrize("failing", [1, 2, 3, 4])
    def test_refused_page(self, failing):
        """Whichever of four pages is refused, those taken go back and nothing changes."""
        pool = Zsmalloc(pages=8)
        pool.alloc(24)
        before, held = pool.snapshot(), pool.source.held
        taken, real = [], pool.source.take

        def take(order=0):
            taken.append(order)
            if len(taken) == failing:
                pool.source.fail_next(0, 1)
            return real(order)

        pool.source.take = take
        assert pool.alloc(2056) is None
        assert len(taken) == failing
        assert (pool.snapshot(), pool.source.held) == (before, held)
        assert pool.alloc(2056) is not None

    def test_free_slots_need_no_page(self):
        """While the source refuses, requests are served from zspages with room, and only those."""
        pool = Zsmalloc(pages=8)
        pool.alloc(2056)
        pool.source.fail_next(0, 100)
        filled(pool, 2056, 6)
        assert pool.alloc(2056) is None
        assert pool.alloc(24) is None


class TestLists:
    def test_groups(self):
        """A zspage of 7 objects is almost empty up to 5, almost full at 6, full at 7, gone at 0."""
        pool = Zsmalloc(pages=4)
        groups, handles = [], []
        for _ in range(7):
            handles.append(pool.alloc(2056))
            groups += [group for _, group in listed(pool)]
        assert groups == 5 * ["almost empty"] + ["almost full", "full"]
        for handle in handles:
            pool.free(handle)
        assert listed(pool) == {}
        assert pool.source.held == 0

    def test_second_behind_a_fuller_one(self):
        """A zspage goes to the front of its list, or second where the first is fuller."""
        pool = Zsmalloc(pages=16)
        handles = filled(pool, 2056, 21)  # three full zspages A, B, C
        a, b, c = (0, 1, 2, 3), (4, 5, 6, 7), (8, 9, 10, 11)
        for handle in handles[0:3]:
            pool.free(handle)  # A: 4 in use
        for handle in handles[7:9]:
            pool.free(handle)  # B: 5 in use, fuller than A: first
        assert listed(pool)[2336, "almost empty"] == [b, a]
        for handle in handles[14:16]:
            pool.free(handle)  # C: 5 in use, no less than B: first
        assert listed(pool)[2336, "almost empty"] == [c, b, a]
        pool.free(handles[9])
        pool.free(handles[16])  # B, C: 4 in use; a zspage that stays in its group stays in its place
        assert listed(pool)[2336, "almost empty"] == [c, b, a]
        filled(pool, 2056, 2)  # C: 6 in use, almost full
        assert listed(pool) == {(2336, "almost empty"): [b, a], (2336, "almost full"): [c]}
        pool.free(handles[17])
        pool.free(handles[18])
        assert listed(pool) == {(2336, "almost empty"): [c, b, a]}
        pool.free(handles[19])  # C: 3 in use
        filled(pool, 2056, 3)  # C: almost full
        pool.free(handles[20])
        assert listed(pool) == {(2336, "almost empty"): [c, b, a]}

    def test_insertion_behind_the_first(self):
        """A zspage that joins behind a fuller first one stands second, before the rest."""
        pool = Zsmalloc(pages=16)
        handles = filled(pool, 2720 - 8, 12)  # class 2720: 3 objects on 2 pages
        pools = [(0, 1), (2, 3), (4, 5), (6, 7)]
        pool.free(handles[0])
        pool.free(handles[3])  # both with 2 in use: the later is first
        assert listed(pool)[2720, "almost empty"] == [pools[1], pools[0]]
        owner = pool._classes[pool._table.of(2712).index]
        zspage = pool._zspage_of[6]
        owner.remove(zspage)
        zspage.inuse = 1
        owner.insert(zspage, 1)
        assert listed(pool)[2720, "almost empty"] == [pools[1], pools[3], pools[0]]

    def test_fullest_first(self):
        """A request goes to the almost full zspage rather than the almost empty one."""
        pool = Zsmalloc(pages=8)
        handles = filled(pool, 2056, 14)
        for handle in handles[:5]:
            pool.free(handle)
        pool.free(handles[10])  # second zspage: 6 in use
        assert pool.extents(pool.alloc(2056))[0][1] // 4096 in (4, 5, 6, 7)
        assert pool.cost()["probed"] == 1

    def test_merged_classes_share_a_zspage(self):
        """Requests of different classes that were merged lie on the same zspage, which is listed once."""
        pool = Zsmalloc(pages=8)
        filled(pool, 2064 - 8, 1)
        filled(pool, 2336 - 8, 1)
        assert listed(pool) == {(2336, "almost empty"): [(0, 1, 2, 3)]}
        assert pool.counters()["used_bytes"] == 2 * 2328


class TestCompaction:
    def test_two_halves(self):
        """The first of two half-empty zspages (the fuller) moves into the other; handles and contents stay."""
        pool = Zsmalloc(pages=8)
        handles = filled(pool, 2056, 14)
        for number, handle in enumerate(handles):
            pool.write(handle, 0, bytes([number]) * 2056)
        kept = handles[0:3] + handles[10:14]
        for handle in handles[3:10]:
            pool.free(handle)
        before = {handle: pool.extents(handle) for handle in kept}
        assert pool.maintain("compact") == Maintained(pages_freed=4, moved=4)
        assert pool.source.held == 4
        assert pool.cost() == {"probed": 0, "pages_taken": 0, "moved": 4, "copied": 4 * 2336}
        for handle in kept:
            assert pool.read(handle, 0, 2056) == bytes([handles.index(handle)]) * 2056
        assert [handle for handle in kept if pool.extents(handle) != before[handle]] == kept[3:]
        assert pool.maintain("compact") == Maintained(0, 0)

    def test_link_words_are_not_mistaken_for_handles(self):
        """Free slots, whose links are odd indexes too, are never moved."""
        pool = Zsmalloc(pages=8)
        handles = filled(pool, 24, 256)
        for handle in handles[1:128] + handles[129:]:
            pool.free(handle)
        assert pool.maintain("compact") == Maintained(pages_freed=1, moved=1)
        assert pool.counters()["live_objects"] == 2

    def test_several_destinations(self):
        """A source zspage is spread over as many others as it takes."""
        pool = Zsmalloc(pages=32)
        handles = filled(pool, 2056, 28)
        for first in (7, 14, 21):
            pool.free(handles[first])
            pool.free(handles[first + 1])
        for handle in handles[:2]:
            pool.free(handle)  # four zspages with 5 of 7: 20 live need three
        assert pool.maintain("compact") == Maintained(pages_freed=4, moved=5)
        assert listed(pool).keys() == {(2336, "full"), (2336, "almost full")}

    def test_nothing_to_gain(self):
        """With fewer free slots than a zspage has, nothing moves."""
        pool = Zsmalloc(pages=8)
        handles = filled(pool, 2056, 14)
        for handle in handles[:3] + handles[7:10]:
            pool.free(handle)
        assert pool.maintain("compact") == Maintained(0, 0)

    def test_unknown_maintenance(self):
        """Any other word raises ValueError."""
        with pytest.raises(ValueError, match="shrink"):
            Zsmalloc(pages=4).maintain("shrink")

    @pytest.mark.parametrize("size", [24, 100, 500, 1000, 2056, 2700, 3256])
    def test_reaches_the_fewest_zspages(self, size):
        """From any pattern of holes a class is left with ceil(live / objects) zspages."""
        rng = random.Random(size)
        for _ in range(15):
            pool = Zsmalloc(pages=64)
            kind = pool._table.of(size)
            handles = filled(pool, size, rng.randint(1, min(64 // kind.pages, 6) * kind.objects))
            for handle in rng.sample(handles, rng.randrange(len(handles))):
                pool.free(handle)
            live = pool.counters()["live_objects"]
            pool.maintain("compact")
            assert pool.source.held == -(-live // kind.objects) * kind.pages


class TestMapping:
    @pytest.fixture
    def pool(self):
        return Zsmalloc(pages=8, cpus=2)

    def straddling(self, pool):
        """Slot 1 of class 2336, on pages 0 and 1, with 2300 bytes written."""
        _, handle = filled(pool, 2300, 2)
        pool.write(handle, 0, bytes(range(230)) * 10)
        return handle

    def test_straddling_object_is_copied(self, pool):
        """What is written to a mapped object that straddles reaches its pages when it is unmapped."""
        handle = self.straddling(pool)
        pages = bytes(pool.source.memory)
        pool.map(handle)
        assert pool.read(handle, 0, 2300) == bytes(range(230)) * 10
        pool.write(handle, 1700, b"\xff" * 100)
        assert pool.read(handle, 1700, 100) == b"\xff" * 100
        assert pool.source.memory == pages
        pool.unmap(handle)
        assert pool.read(handle, 1690, 120) == bytes(range(80, 90)) + b"\xff" * 100 + bytes(range(190, 200))
        assert pool.source.memory[4096:4104] == b"\xff" * 8

    def test_object_on_one_page_is_mapped_in_place(self, pool):
        """What is written to a mapped object on one page is in the page at once."""
        handle = pool.alloc(100)
        pool.map(handle)
        pool.write(handle, 0, b"here")
        assert pool.source.memory[8:12] == b"here"
        pool.unmap(handle)
        assert pool.read(handle, 0, 4) == b"here"

    def test_read_only(self, pool):
        """What is written to a straddling object that is mapped for reading only is lost."""
        handle = self.straddling(pool)
        pool.map(handle, "ro")
        pool.write(handle, 0, b"lost")
        pool.unmap(handle)
        assert pool.read(handle, 0, 4) == bytes(range(4))

    def test_write_only(self, pool):
        """A mapping for writing only shows what the buffer held last, and overwrites the whole object."""
        first = self.straddling(pool)
        pool.map(first, "ro")
        pool.unmap(first)
        other = filled(pool, 2300, 2)[1]  # slot 3, which straddles too
        pool.write(other, 0, b"\1" * 2300)
        assert len(pool.extents(other)) == 2
        pool.map(other, "wo")
        pool.write(other, 0, b"new")
        pool.unmap(other)
        assert pool.read(other, 0, 6) == b"new" + bytes(range(3, 6))  # what the first one had there

    @pytest.mark.parametrize("mode", ["wo", "rw"])
    def test_unmapping_keeps_the_first_word(self, pool, mode):
        """Whatever a CPU's buffer holds in the place of the first word, the word in the page stays."""
        handle = self.straddling(pool)
        pool.map(handle, mode)
        pool._areas.of(handle).buffer[:8] = b"\xff" * 8
        pool.unmap(handle)
        assert word(pool, 2336) == handle | 1
        pool.free(handle)

    def test_one_mapping_a_cpu(self, pool):
        """A CPU maps one object at a time, and unmaps only what it has mapped; another CPU is free to."""
        one, two = self.straddling(pool), pool.alloc(100)
        pool.map(one, ctx=Context(cpu=0))
        with pytest.raises(ValueError, match="CPU 0 has a mapping already"):
            pool.map(two, ctx=Context(cpu=0))
        pool.map(two, ctx=Context(cpu=1))
        for handle, cpu in ((one, 1), (two, 0)):
            with pytest.raises(ValueError, match=f"CPU {cpu} has not mapped"):
                pool.unmap(handle, ctx=Context(cpu=cpu))
        pool.unmap(one, ctx=Context(cpu=0))
        pool.unmap(two, ctx=Context(cpu=1))
        with pytest.raises(ValueError, match="'ro', 'wo' or 'rw'"):
            pool.map(one, "rwx")

    def test_buffers_of_two_cpus_are_apart(self, pool):
        """Two straddling objects, mapped on two CPUs, do not see one another's bytes."""
        one = self.straddling(pool)
        two = filled(pool, 2300, 2)[1]
        pool.write(two, 0, b"\7" * 2300)
        pool.map(one, ctx=Context(cpu=0))
        pool.map(two, ctx=Context(cpu=1))
        pool.write(one, 0, b"one")
        assert pool.read(two, 0, 3) == b"\7" * 3
        pool.unmap(one, ctx=Context(cpu=0))
        pool.unmap(two, ctx=Context(cpu=1))
        assert (pool.read(one, 0, 3), pool.read(two, 0, 3)) == (b"one", b"\7" * 3)

    def test_compaction_leaves_zspages_with_mapped_objects(self, pool):
        """The zspage of a mapped object is not emptied, another one is; once unmapped, it may be."""
        handles = filled(pool, 2056, 14)
        for handle in handles[2:7] + handles[8:14]:
            pool.free(handle)  # two zspages, with 2 and 1 of 7
        before = pool.extents(handles[7])
        pool.map(handles[7])
        pool.map(handles[0], ctx=Context(cpu=1))
        assert pool.maintain("compact") == Maintained(0, 0)
        pool.unmap(handles[0], ctx=Context(cpu=1))
        assert pool.maintain("compact") == Maintained(pages_freed=4, moved=2)
        assert pool.extents(handles[7]) == before
        pool.unmap(handles[7])

    def test_mapped_objects_are_counted(self, pool):
        """How many objects are mapped is told by the zspages; a pool without mappings does not tell."""
        one, two = self.straddling(pool), pool.alloc(100)
        pool.map(one, ctx=Context(cpu=0))
        pool.map(two, ctx=Context(cpu=1))
        assert pool.counters()["mapped_objects"] == 2
        pool.unmap(one, ctx=Context(cpu=0))
        assert pool.counters()["mapped_objects"] == 1
        assert "mapped_objects" not in Zsmalloc(pages=4).counters()

    def test_no_mapping_without_cpus(self):
        """With ``cpus=0`` there is nothing to map with; with CPUs an object that is mapped stays in place."""
        assert Zsmalloc(pages=4).map is None
        assert not Zsmalloc(pages=4).contract.pinned
        contract = Zsmalloc(pages=4, cpus=2).contract
        assert (contract.pinned, contract.cpus, contract.mappings) == (True, 2, 1)

    def test_a_whole_straddling_object_moves_though_its_pages_are_apart(self):
        """On scattered pages a slot's two pieces are no neighbours, and compaction moves both."""
        pool = Zsmalloc(pages=16, scatter=1)
        handles = filled(pool, 2056, 14)
        for handle in handles:
            pool.write(handle, 0, handle.to_bytes(2, "little") * 1028)
        apart = [pieces for pieces in map(pool.extents, handles) if len(pieces) == 2]
        assert all(abs(one[1] // 4096 - two[1] // 4096) > 1 for one, two in apart)
        assert len(apart) == 6
        for handle in handles[1::2]:
            pool.free(handle)
        kept = handles[::2]
        before = [pool.extents(handle) for handle in kept]
        assert pool.maintain("compact") == Maintained(pages_freed=4, moved=3)
        assert sum(pool.extents(handle) != place for handle, place in zip(kept, before, strict=True)) == 3
        assert all(pool.read(handle, 0, 2056) == handle.to_bytes(2, "little") * 1028 for handle in kept)

    def test_pages_after_compaction_are_promised_unless_an_object_is_mapped(self):
        """How many pages compaction leaves follows from the live objects, but where a mapping holds a zspage."""
        promise = Zsmalloc(pages=8, cpus=2).contract.compacted_pages
        shadow = Shadow()
        for name in range(3):
            shadow.add(Block(name, name, 2000, 1, ((0, 4096 * name + 8, 2000),)))
        assert promise(shadow) == 2  # three slots of 2048 bytes, on pages of their own: two of them on each
        shadow.live[1].mapped = 1
        assert promise(shadow) is None

    def test_pages_in_a_recorded_state(self, pool):
        """A restored pool holds the pages that the source had lent, those too that no zspage has."""
        pool.alloc(100)
        lost = pool.source.take()
        other = Zsmalloc(pages=8, cpus=2)
        other.restore(pool.snapshot())
        assert other.source.runs == pool.source.runs
        assert lost in other.source.owned

    def test_mapping_in_a_recorded_state(self, pool):
        """A restored pool has the same objects mapped, with the same buffers."""
        handle = self.straddling(pool)
        pool.map(handle, ctx=Context(cpu=1))
        pool.write(handle, 0, b"unsaved")
        other = Zsmalloc(pages=8, cpus=2)
        other.restore(pool.snapshot())
        assert other.snapshot() == pool.snapshot()
        assert other.read(handle, 0, 7) == b"unsaved"
        other.unmap(handle, ctx=Context(cpu=1))
        assert other.read(handle, 0, 7) == b"unsaved"
        assert other.snapshot() != pool.snapshot()


class TestWholeStates:
    def test_restore(self):
        """A restored pool goes on exactly as the one that was recorded."""
        rng = random.Random(3)
        pool = Zsmalloc(pages=16, page_size=256)
        run = Run(pool)
        for _ in range(300):
            run.step(rng)
        pool.source.fail_next(0, 0)
        state = pool.snapshot()
        other = Zsmalloc(pages=16, page_size=256)
        other.alloc(90)
        other.restore(state)
        assert hash(other.snapshot()) == hash(state)
        assert other.snapshot() == state
        assert other.counters() == pool.counters()
        assert other.source.owned == pool.source.owned
        assert other.maintain("compact") == pool.maintain("compact")
        assert [other.alloc(size) for size in range(1, 250, 7)] == [pool.alloc(size) for size in range(1, 250, 7)]
        assert [entry[:5] for entry in other.snapshot()[3]] == [entry[:5] for entry in pool.snapshot()[3]]
        assert other.snapshot()[:3] == pool.snapshot()[:3]

    def test_destroy(self):
        """Destroying a pool gives every page back once, whatever is live."""
        pool = Zsmalloc(pages=64)
        for size in range(100, 4000, 300):
            pool.alloc(size)
        pool.destroy()
        assert pool.source.held == 0
        assert pool.counters() == {"pages": 0, "live_objects": 0, "used_bytes": 0, "free_bytes": 0}
        assert pool.alloc(24) is not None

    def test_cyclic_links_are_noticed(self):
        """A chain of free slots that leads into itself ends the walk with an error."""
        pool = Zsmalloc(pages=4)
        pool.alloc(24)
        pool._words[4] = 1 << 1  # slot 1 links to itself
        with pytest.raises(RuntimeError, match="do not end"):
            list(pool.free_regions())

    def test_wild_link_is_noticed(self):
        """A link to a slot that the zspage does not have ends the walk with an error."""
        pool = Zsmalloc(pages=4)
        pool.alloc(24)
        pool._words[4] = 500 << 1
        with pytest.raises(RuntimeError, match="slot 500 of 128"):
            list(pool.free_regions())

    def test_cyclic_list_is_noticed(self):
        """A list of zspages that leads into itself ends the walk with an error."""
        pool = Zsmalloc(pages=4)
        pool.alloc(24)
        zspage = pool._zspage_of[0]
        zspage.after = zspage
        with pytest.raises(RuntimeError, match="does not end"):
            list(pool.lists())


class Run:
    """Random operations on a pool, beside a shadow heap and what every object should hold."""

    def __init__(self, pool):
        self.pool, self.shadow, self.births = pool, Shadow(), 0
        self.seen = Counter()
        few = [kind.payload for kind in pool._table.distinct if 2 <= kind.objects <= 16]
        self.favourites = few[:: max(1, len(few) // 3)][:3]
        self.filling = True
        self.kinds = pool.contract.maintenance

    def step(self, rng):
        draw = rng.random()
        if rng.random() < 0.02:
            self.filling = not self.filling
        if draw < (0.7 if self.filling else 0.3):
            self.alloc(rng)
        elif draw < 0.96 and self.shadow.names:
            block = self.shadow.live[rng.choice(self.shadow.names)]
            self.compare(block)
            self.pool.free(block.handle)
            self.shadow.remove(block)
        elif draw < 0.98:
            if self.kinds:
                self.compact()
        else:
            self.pool.source.fail_next(0, rng.randrange(4))

    def alloc(self, rng):
        pool, contract = self.pool, self.pool.contract
        if rng.random() < 0.9:  # few classes, so that holes and with them moves arise
            size = rng.choice(self.favourites) - rng.randrange(8)
        else:
            size = min(max(1, rng.choice(contract.limits) + rng.randint(-1, 1)), contract.largest)
        must = contract.must_serve(Request(size), self.shadow, pool.source)
        handle = pool.alloc(size)
        if handle is None:
            assert not must
            self.seen["refused"] += 1
            return
        self.seen["served"] += 1
        block = Block(self.births, handle, size, 1, pool.extents(handle))
        self.births += 1
        assert contract.geometry(block) is None
        assert not any(self.shadow.clash(*extent) for extent in block.extents)  # M3
        assert handle not in {other.handle for other in self.shadow.live.values()}  # M1
        self.shadow.add(block)
        assert size <= block.length <= size + contract.waste(size, 1)  # M7
        pool.write(handle, 0, block.pattern(0, size))

    def compact(self):
        pool, shadow = self.pool, self.shadow
        held = pool.source.held
        done = pool.maintain("compact")
        self.seen["moved"] += done.moved
        assert pool.source.held == held - done.pages_freed == pool.contract.compacted_pages(shadow)  # M6
        for block in list(shadow.live.values()):
            shadow.remove(block)
            block.extents = pool.extents(block.handle)
            assert pool.contract.geometry(block) is None
            shadow.add(block)
        for block in shadow.live.values():
            self.compare(block)

    def compare(self, block):
        assert self.pool.read(block.handle, 0, block.size) == block.pattern(0, block.size)  # M1, M6

    def check_everything(self):
        """M1 to M5: lists, chains, places, counts."""
        pool, shadow = self.pool, self.shadow
        page_size = pool.source.page_size
        group_of = pool.contract.container_list(shadow)
        slots_held = handle_words = tails = 0
        for (index, group), pages in pool.lists():
            assert (index, group) == group_of(pages)  # M4
            assert group != "empty"
        for zspage in pool._zspages():
            kind, inuse = zspage.kind, zspage.inuse
            assert len(zspage.pages) == kind.pages
            chain = list(pool._free_slots(zspage))
            assert len(set(chain)) == len(chain) == kind.objects - inuse  # M2
            slots_held += kind.objects
            handle_words += inuse * kind.header
            tails += kind.tail
        regions = list(pool.free_regions())
        for region in regions:
            assert shadow.clash(*region[:3]) is None  # M2
        free = sum(region.length for region in regions)
        assert {page for page, _ in pool.pages()} == pool.source.owned.keys()  # M5
        assert shadow.bytes + free + handle_words + tails == pool.source.held * page_size
        counters = pool.counters()
        assert counters == {
            "pages": pool.source.held,
            "live_objects": len(shadow),
            "used_bytes": shadow.bytes,
            "free_bytes": free,
        }
        for block in shadow.live.values():
            assert pool.extents(block.handle) == block.extents  # M1
            self.compare(block)
        assert sum(pool.metadata()) <= pool.contract.metadata_bound(shadow, pool.source)
        assert pool.source.highest_order == 0


@pytest.mark.parametrize(
    "parameters",
    [
        {"pages": 48},
        {"pages": 16},
        {"pages": 64, "chain": 8},
        {"pages": 24, "page_size": 256},
        {"pages": 32, "page_size": 64, "chain": 16},
        {"pages": 24, "page_size": 1024, "chain": 5, "handle_size": 4},
        {"pages": 24, "page_size": 256, "rule": "exact"},
        {"pages": 8, "chain": 1},
        {"pages": 16, "handles": "direct"},
        {"pages": 24, "page_size": 256, "handles": "direct", "merge": 0},
        {"pages": 24, "page_size": 1024, "chain": 5, "handle_size": 4, "handles": "direct"},
    ],
)
def test_invariants_on_random_runs(parameters):
    """Through failures of the page source and compaction all invariants hold; drained, no page is held."""
    run, rng = Run(Zsmalloc(**parameters)), random.Random(str(parameters))
    for step in range(2500):
        run.step(rng)
        if step % 25 == 0:
            run.check_everything()
    run.check_everything()
    assert run.seen["served"] > 200
    assert run.seen["refused"] > 5
    assert run.seen["moved"] > 5 or not run.kinds
    for block in list(run.shadow.live.values()):
        run.pool.free(block.handle)
    assert run.pool.source.held == 0  # M8
    assert not list(run.pool.lists())
    assert list(run.pool.snapshot()[0]).count(-1) == len(run.pool.snapshot()[0])


class TestContract:
    def test_geometry_objects_to_wrong_places(self):
        """Geometry names a slot at a place, of a length or split as the class cannot have it."""
        geometry = Zsmalloc(pages=8).contract.geometry

        def problem(*extents, size=2056):
            return geometry(Block(0, 8, size, 1, tuple((0, at, n) for at, n in extents)))

        assert problem((8, 2328)) is None
        assert problem((16, 2328)) == "no slot of 2336 bytes begins at byte 8 of a page"
        assert problem((8, 2320)) == "pieces of [2328] bytes expected"
        assert problem((2344, 1752), (4096 * 3, 576)) is None
        assert problem((2344, 1752), (4096 * 3 + 8, 576)) == "the second piece does not begin a page"
        assert problem((2344, 2328)) == "pieces of [1752, 576] bytes expected"

    def test_must_serve(self):
        """A class whose live objects do not fill zspages evenly has a free slot, pages or not."""
        pool = Zsmalloc(pages=4)
        promise, shadow = pool.contract.must_serve, Shadow()
        assert promise(Request(2056), shadow, pool.source)
        for number in range(7):
            handle = pool.alloc(2056)
            shadow.add(Block(number, handle, 2056, 1, pool.extents(handle)))
            assert promise(Request(2300), shadow, pool.source) == (number < 6)
        assert not promise(Request(24), shadow, pool.source)
        assert not promise(Request(0), shadow, pool.source)
        assert not promise(Request(4097), shadow, pool.source)

    def test_container_list_of_a_mixture(self):
        """A zspage without objects, or with objects of two classes, belongs on no list."""
        pool, shadow = Zsmalloc(pages=8), Shadow()
        shadow.add(Block(0, 8, 24, 1, ((0, 8, 24),)))
        shadow.add(Block(1, 16, 100, 1, ((0, 4104, 104),)))
        shadow.add(Block(2, 24, 24, 1, ((0, 4104 + 2000, 24),)))
        group_of = pool.contract.container_list(shadow)
        assert group_of((0,)) == (0, "almost empty")
        assert group_of((1,)) is None
        assert group_of((5,)) is None

    def test_worst_waste(self):
        """The waste bound is 839 bytes at worst, for 3257."""
        waste = Zsmalloc(pages=4).contract.waste
        assert max((waste(size, 1), size) for size in range(1, 4097)) == (839, 3257)

    def test_limits(self):
        """The palette names the largest request of every class."""
        contract = Zsmalloc(pages=4).contract
        assert len(contract.limits) == 69
        assert {24, 2328, 3256, 4096} <= set(contract.limits)
