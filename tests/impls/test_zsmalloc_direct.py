"""zsmalloc before compaction: handles that are places, two lists, what its pages hold."""

import random

import pytest

from heaplaw import InvalidFree
from heaplaw.impls.zsmalloc import Zsmalloc
from heaplaw.impls.zsmalloc_direct import DirectZsmalloc


def direct(**parameters):
    return Zsmalloc(**{"pages": 8, "merge": 0, **parameters}, handles="direct")


def word(pool, address):
    """A word in the pool's pages."""
    return int.from_bytes(pool.source.memory[address : address + 8], "little")


def place(page, index):
    """A handle, spelled out: 64 - (52 - 12) = 24 bits of index below the page."""
    return page << 24 | index + 1


class TestHandles:
    def test_handle_is_the_place(self):
        """A handle is the page where the object begins, and one plus its index among those that begin there."""
        pool = direct()
        handles = [pool.alloc(2064) for _ in range(7)]
        assert handles == [place(0, 0), place(0, 1), place(1, 0), place(1, 1), place(2, 0), place(2, 1), place(3, 0)]
        assert [pool.extents(handle)[0][1] for handle in handles] == [slot * 2064 for slot in range(7)]

    def test_no_handle_is_zero(self):
        """Page 0, object 0, which is handed out first, has handle 1: the index is raised by one."""
        pool = direct()
        assert pool.alloc(24) == 1
        pool.free(0)
        assert pool.counters()["live_objects"] == 1

    def test_made_by_the_parameter(self):
        """The parameter picks the kind of pool; by default handles are indirect."""
        assert type(Zsmalloc(pages=4, handles="direct")) is DirectZsmalloc
        assert type(Zsmalloc(pages=4)) is Zsmalloc

    def test_no_compaction(self):
        """What is named by its place cannot move: there is no maintenance, and none is promised."""
        pool = direct()
        with pytest.raises(ValueError, match="no maintenance"):
            pool.maintain("compact")
        assert (pool.contract.maintenance, pool.contract.moving) == ((), frozenset())
        assert pool.contract.compacted_pages is None

    def test_fragmentation_stays(self):
        """After 6 of 7 objects of each zspage are freed, all pages are still held; compaction halves them and more."""
        pools = [Zsmalloc(pages=64, handles=handles) for handles in ("direct", "indirect")]
        for pool in pools:
            handles = [pool.alloc(2300) for _ in range(70)]
            for number, handle in enumerate(handles):
                if number % 7:
                    pool.free(handle)
            assert pool.counters()["pages"] == 40
        pools[1].maintain("compact")
        assert [pool.counters()["pages"] for pool in pools] == [40, 8]

    def test_wrong_handles(self):
        """A page that the pool has not, and an index that the page has not, raise InvalidFree; a dead slot does not."""
        pool = direct()
        one, _ = pool.alloc(2064), pool.alloc(2064)
        for wrong in (place(5, 0), place(1 << 20, 0), place(0, 2), place(3, 1), 1 << 24, -1):
            with pytest.raises(InvalidFree):
                pool.free(wrong)
        pool.free(one)
        assert not pool.contract.detects

    def test_words_of_32_bits(self):
        """A 32-bit word leaves 12 bits for the index."""
        pool = direct(handle_size=4)
        pool.alloc(32)
        assert pool.alloc(4096) == 1 << 12 | 1


class TestInThePages:
    def test_links_of_a_new_zspage(self):
        """Free slots link to the next slot's handle, over the end of a page too; 0 ends the chain."""
        pool = direct()
        pool.alloc(2064)
        links = [word(pool, slot * 2064) for slot in range(1, 7)]
        assert links == [place(1, 0), place(1, 1), place(2, 0), place(2, 1), place(3, 0), 0]

    def test_no_word_in_front(self):
        """An object has its whole slot: 32 bytes fit the class of 32, and 128 of them a page."""
        pool = direct()
        handles = [pool.alloc(32) for _ in range(128)]
        assert pool.counters()["pages"] == 1
        assert pool.extents(handles[1]) == ((0, 32, 32),)
        assert pool.counters()["used_bytes"] == 4096
        assert pool.metadata() == (0, 0)

    def test_fresh_objects_are_poisoned(self):
        """The first word of an object just served is 0x5a, so that nobody relies on the link that was there."""
        pool = direct()
        handle = pool.alloc(100)
        assert pool.read(handle, 0, 8) == b"\x5a" * 8

    def test_freed_object_is_clobbered(self):
        """A freed slot's first word links to the slot freed before; it is handed out first, at the same handle."""
        pool = direct()
        handles = [pool.alloc(24) for _ in range(4)]
        pool.free(handles[1])
        pool.free(handles[2])
        assert word(pool, 2 * 32) == handles[1]
        assert word(pool, 1 * 32) == place(0, 4)
        assert [pool.alloc(24), pool.alloc(24)] == [handles[2], handles[1]]

    def test_straddling_object(self):
        """Object 1 of class 2064 lies on two pages and reads as one, mapped or not."""
        pool = direct(cpus=1)
        _, handle = pool.alloc(2064), pool.alloc(2064)
        assert pool.extents(handle) == ((0, 2064, 2032), (0, 4096, 32))
        pool.write(handle, 2020, bytes(range(44)))
        pool.map(handle)
        assert pool.read(handle, 2020, 44) == bytes(range(44))
        pool.write(handle, 2030, b"\xff\xff\xff\xff")
        assert pool.source.memory[4096] == 12
        pool.unmap(handle)
        assert pool.source.memory[4094:4099] == b"\xff\xff\xff\xff\x0e"

    def test_whole_page(self):
        """A request of 4096 bytes has a page to itself, with no handle to keep anywhere."""
        pool = direct()
        handle = pool.alloc(4096)
        pool.write(handle, 0, bytes(range(256)) * 16)
        assert pool.read(handle, 0, 4096) == bytes(range(256)) * 16
        pool.free(handle)
        assert pool.source.held == 0


class TestLists:
    def test_almost_full_above_a_quarter(self):
        """A zspage of 7 is almost empty with 1 object and almost full from 2 to 6; full, it is on no list."""
        pool = direct()
        groups = []
        for _ in range(7):
            pool.alloc(2064)
            groups.append([group for (_, group), _ in pool.lists()])
        assert groups == [["almost empty"]] + 5 * [["almost full"]] + [[]]
        assert list(pool.pages()) == [(0, 1), (1, 1), (2, 1), (3, 1)]

    def test_newcomer_first(self):
        """A zspage that joins a list stands first, whatever the others hold."""
        pool = direct(pages=16)
        handles = [pool.alloc(2720) for _ in range(9)]  # three full zspages of 3
        for number in (0, 3, 4, 6):
            pool.free(handles[number])
        assert [pages for _, pages in pool.lists()] == [(4, 5), (2, 3), (0, 1)]


class TestSeedClaims:
    def test_class_2064(self):
        """4 pages hold only 7 objects of 2064 bytes; the remainder is 1936 bytes, 11 % of the total."""
        pool = direct()
        handles = [pool.alloc(2064) for _ in range(7)]
        assert pool.counters()["pages"] == 4
        assert 4 * 4096 - pool.counters()["used_bytes"] == 1936
        assert 1936 * 100 // (4 * 4096) == 11
        assert all(pool.extents(handle) for handle in handles)
        pool.alloc(2064)
        assert pool.counters()["pages"] == 8

    def test_up_to_15_bytes(self):
        """Without merging an object wastes up to 15 bytes, and up to 31 below the smallest class."""
        waste = direct().contract.waste
        assert max(waste(size, 1) for size in range(17, 4097)) == 15
        assert max(waste(size, 1) for size in range(1, 17)) == 31

    @pytest.mark.parametrize(("merge", "classes"), [(0, 255), (1, 69)])
    def test_classes(self, merge, classes):
        """255 classes, 69 after merging, as with indirect handles."""
        assert len(direct(merge=merge)._table.distinct) == classes

    def test_unused_after_many_frees(self):
        """After every fifth object is freed, whichever, the unused part is 20 to 50 % of real use."""
        rng = random.Random(2014)
        pool = direct(pages=8192)
        sizes = [max(40, min(4096, int(rng.gauss(1600, 500)))) for _ in range(12000)]
        handles = [(pool.alloc(size), size) for size in sizes]
        rng.shuffle(handles)
        for handle, _ in handles[:2400]:
            pool.free(handle)
        used = sum(size for _, size in handles[2400:])
        assert 0.20 <= (pool.counters()["pages"] * 4096 - used) / used <= 0.50


class TestWholeStates:
    def test_restore(self):
        """A restored pool goes on exactly as the one that was recorded, full zspages included."""
        rng = random.Random(5)
        pool = direct(pages=24, page_size=256)
        live = []
        for _ in range(400):
            if live and rng.random() < 0.45:
                pool.free(live.pop(rng.randrange(len(live))))
            elif (handle := pool.alloc(rng.randint(1, 256))) is not None:
                live.append(handle)
        other = direct(pages=24, page_size=256)
        other.alloc(100)
        other.restore(pool.snapshot())
        assert hash(other.snapshot()) == hash(pool.snapshot())
        assert other.counters() == pool.counters()
        assert other.source.owned == pool.source.owned
        sizes = [rng.randint(1, 256) for _ in range(40)]
        assert [other.alloc(size) for size in sizes] == [pool.alloc(size) for size in sizes]
        for handle in live:
            pool.free(handle)
            other.free(handle)
        assert [entry[:5] for entry in other.snapshot()[3]] == [entry[:5] for entry in pool.snapshot()[3]]

    @pytest.mark.parametrize(
        ("link", "message"), [(place(0, 1), "do not end"), (place(0, 500), "object 500"), (place(7, 0), "of page 7")]
    )
    def test_wild_links_are_noticed(self, link, message):
        """A chain of free slots that leads into itself or out of its zspage ends the walk with an error."""
        pool = direct()
        pool.alloc(24)
        pool._words[4] = link
        with pytest.raises(RuntimeError, match=message):
            list(pool.free_regions())

    @pytest.mark.parametrize("failing", [1, 2, 3, 4])
    def test_refused_page(self, failing):
        """Whichever of four pages is refused, those taken go back and nothing changes."""
        pool = direct(pages=3 + failing)
        for _ in range(4):
            pool.alloc(4096)
        before = pool.snapshot()
        assert pool.alloc(2064) is None
        assert pool.snapshot() == before
