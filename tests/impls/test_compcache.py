"""compcache's chunk store: exact refusal, scatter, merging, and every invariant on random runs."""

import random
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from heaplaw import Block, FreeRegion, InvalidFree, Kind, Operation, Refusal, Request, Shadow
from heaplaw.impls.compcache import Compcache
from heaplaw.impls.tlsf import Tlsf
from heaplaw.impls.xvmalloc import Xvmalloc
from heaplaw.impls.zbud import Zbud
from heaplaw.runs import run

PAGE = 4096


def chunks(store):
    """{page: [(offset, size, free), ...]} along the neighbours in each page."""
    size, found = store.source.page_size, {}
    for page, first in store._master.items():
        chunk, before, found[page] = first, None, []
        while chunk is not None:
            assert chunk.before is before
            found[page].append((chunk.start - page * size, chunk.size, chunk.free))
            chunk, before = chunk.after, chunk
    return found


def assert_sound(store, live):
    """M1 to M3 and M5, for live objects {handle: size}."""
    size, least = store.source.page_size, store._least
    pages = chunks(store)
    for page, of_page in pages.items():
        at = 0
        for offset, length, _ in of_page:  # M1
            assert offset == at
            assert length > 0
            assert length % least == 0
            at += length
        assert at == size, page
        assert not any(one[2] and two[2] for one, two in pairwise(of_page))  # M2
    owned = [piece for handle in live for piece in store.extents(handle)]
    assert sorted((start, length) for _, start, length in owned) == sorted(
        (page * size + offset, length)
        for page, of_page in pages.items()
        for offset, length, free in of_page
        if not free
    )  # M3: every chunk is free or belongs to one object
    for handle, length in live.items():
        assert sum(piece[2] for piece in store.extents(handle)) == -(-length // least) * least
    assert sorted(pages) == sorted(store.source.owned)  # M5
    whole = [page for page, of_page in pages.items() if of_page == [(0, size, True)]]
    assert len(whole) <= store._keep
    assert not whole or len(pages) == 1
    listed = {(index, chunk.start) for index, chunk in store._listed()}
    assert listed == {(region.list_id, region.start) for region in store.free_regions()}


def holes(pages=2, size=128, **more):
    """A store filled with objects of this size, every second of them removed; and the removed ones' number."""
    store = Compcache(pages=pages, **more)
    handles = [store.alloc(size) for _ in range(pages * PAGE // size)]
    assert None not in handles
    for handle in handles[::2]:
        store.free(handle)
    return store


class TestFidelity:
    def test_a_page_in_32_pieces(self):
        """Of 64 objects of 128 bytes on 2 pages every second is freed: 4096 bytes go into the 32 holes."""
        store = holes()
        assert store.counters()["free_bytes"] == 4096
        assert [region.length for region in store.free_regions()] == [128] * 32
        handle = store.alloc(4096)
        pieces = store.extents(handle)
        assert len(pieces) == 32
        assert {length for _, _, length in pieces} == {128}
        assert store.source.held == 2
        assert store.counters()["free_bytes"] == 0
        assert store.alloc(1) is None

    def test_xvmalloc_needs_a_page(self):
        """In holes like these xvmalloc takes a page more, though more bytes are free than are asked for."""
        pool = Xvmalloc(pages=4)
        handles = [pool.alloc(120) for _ in range(66)]
        assert pool.source.held == 2
        for handle in handles[::2]:
            pool.free(handle)
        assert sum(region.length for region in pool.free_regions()) == 33 * 120 + 4  # and a header at a page's end
        assert pool.alloc(3900) is not None
        assert pool.source.held == 3

    def test_zbud_needs_a_page(self):
        """So does zbud, for which two objects fill a page: 4096 bytes are free, and its largest object does not fit."""
        pool = Zbud(pages=4)
        handles = [pool.alloc(1984) for _ in range(4)]
        for handle in handles[::2]:
            pool.free(handle)
        assert sum(region.length for region in pool.free_regions()) == 4096
        assert pool.alloc(3968) is not None
        assert pool.source.held == 3

    def test_tlsf_refuses(self):
        """TLSF, in an arena that cannot grow, refuses."""
        heap, handles = Tlsf(arena=2 * PAGE), []
        while (handle := heap.alloc(120)) is not None:
            handles.append(handle)
        for handle in handles[::2]:
            heap.free(handle)
        assert heap.counters()["free_bytes"] > 3800
        assert heap.alloc(3800) is None

    def test_holes_come_before_pages(self):
        """The holes are used although pages could be had."""
        store = Compcache(pages=8)
        handles = [store.alloc(128) for _ in range(64)]
        for handle in handles[::2]:
            store.free(handle)
        store.alloc(4096)
        assert store.source.held == 2

    def test_pieces_grow_with_time(self):
        """Under churn objects fall into ever more pieces, and the metadata grows with the number of chunks."""
        r = random.Random(5)
        store = Compcache(pages=32)
        sizes = lambda: r.randint(200, 2000)  # noqa: E731
        live = []
        while (handle := store.alloc(sizes())) is not None:
            live.append(handle)
        seen = []
        for _ in range(3):
            pieces = sum(len(store.extents(handle)) for handle in live)
            seen.append((pieces / len(live), store.metadata()[1]))
            for _ in range(2000):
                index = r.randrange(len(live))
                store.free(live.pop(index))
                while (handle := store.alloc(sizes())) is not None:
                    live.append(handle)
        assert seen[0][0] < 1.5
        assert seen[0][0] < seen[1][0]
        assert seen[-1][0] > 3
        assert seen[-1][1] > 2 * seen[0][1]

    def test_metadata_is_in_chunks(self):
        """All metadata is out of band: 56 bytes a chunk and 24 an object, by the reconstructed descriptors."""
        store = holes()
        assert store.metadata() == (0, 56 * 64 + 24 * 32 + 8 * 8)
        store.alloc(4096)
        assert store.metadata() == (0, 56 * 64 + 24 * 33 + 8 * 8)


class TestExactRefusal:
    @pytest.mark.parametrize("ranges", [1, 8])
    def test_the_last_byte(self, ranges):
        """No fragmentation can make a store fail: it serves the very number of free bytes, and one more is refused."""
        store = holes(ranges=ranges)
        store.free(store.alloc(77))
        assert store.alloc(4000) is not None
        assert store.alloc(97) is None
        assert store.alloc(96) is not None
        assert store.alloc(1) is None

    def test_holes_and_pages_add_up(self):
        """What does not fit in the holes goes into one page more."""
        store = Compcache(pages=2)
        store.alloc(4000)
        handle = store.alloc(4000)
        assert store.extents(handle) == ((0, 4000, 96), (0, 4096, 3904))
        assert store.alloc(193) is None
        assert store.alloc(192) is not None

    def test_failure_is_undone(self):
        """A store that fails takes nothing: chunks, lists and their order are as before."""
        store = holes()
        store.alloc(100)
        before = store.snapshot()
        assert store.alloc(4096) is None
        assert store.snapshot() == before
        assert store.cost()["pages_taken"] == 0

    def test_refused_page(self):
        """A page refused by the source undoes the pieces already taken."""
        store = Compcache(pages=4)
        kept = store.alloc(4000)
        before = store.snapshot()
        store.source.fail_next(0, 1)
        assert store.alloc(97) is None
        assert store.snapshot() == before
        assert_sound(store, {kept: 4000})
        assert store.alloc(97) is not None

    @settings(suppress_health_check=[HealthCheck.too_slow])  # a draw waited ten seconds on a machine full of work
    @given(data=st.data())
    def test_serving_is_predicted(self, data):
        """The sum of free bytes and pages tells every answer beforehand, for every granule and choice of lists."""
        least, ranges = data.draw(st.sampled_from([1, 8])), data.draw(st.sampled_from([1, 4]))
        store = Compcache(pages=3, page_size=64, least=least, ranges=ranges, keep=data.draw(st.integers(0, 1)))
        live = {}
        for size, drop in data.draw(st.lists(st.tuples(st.integers(1, 64), st.booleans()), max_size=40)):
            if drop and live:
                store.free(live.popitem()[0])
                continue
            shadow = Shadow()
            for handle in live:
                shadow.add(Block(handle, handle, live[handle], 1, store.extents(handle)))
            expected = store.contract.must_serve(Request(size), shadow, store.source)
            assert expected == (3 * 64 - shadow.bytes >= -(-size // least) * least)
            handle = store.alloc(size)
            assert expected == (handle is not None)
            if handle is not None:
                live[handle] = size
        assert_sound(store, live)

    def test_invalid(self):
        """Size 0 and any alignment are invalid, and more than a page is too big."""
        store = Compcache()
        assert store.alloc(0) is store.alloc(-1) is store.alloc(8, 2) is Refusal.INVALID
        assert store.alloc(4097) is store.alloc(2**32) is store.alloc(2**64 + 1) is Refusal.TOO_BIG
        assert store.alloc(4096) == 0

    @pytest.mark.parametrize(
        "wrong",
        [
            {"pages": 0}, {"page_size": 1000}, {"ranges": 3}, {"ranges": 8192}, {"least": 3}, {"least": 8192},
            {"keep": 2}, {"rev": "2007"}, {"pages": "many"},
        ],
    )  # fmt: skip
    def test_parameters_are_checked(self, wrong):
        """Parameters that make no store raise ValueError."""
        with pytest.raises(ValueError, match=r"\w"):
            Compcache(**wrong)


class TestChunks:
    def test_starts_as_one_page(self):
        """The store starts as one page, grows by one at a time, and never gives the last one back."""
        store = Compcache(pages=4)
        assert store.source.held == 1
        handles = [store.alloc(4096) for _ in range(4)]
        assert store.source.held == 4
        for left, handle in zip((3, 2, 1, 1), handles, strict=True):
            store.free(handle)
            assert store.source.held == left
        assert list(store.free_regions()) == [FreeRegion(0, 3 * PAGE, PAGE, 7)]

    def test_no_page_is_kept_if_none_is_wanted(self):
        """With keep=0 the store starts without a page, and gives all back."""
        store = Compcache(keep=0)
        assert store.source.held == 0
        store.free(store.alloc(100))
        assert store.source.held == 0

    def test_split_and_merge(self):
        """A chunk too long is cut; freed neighbours merge, in whatever order they are freed."""
        for order in ((0, 1, 2), (2, 0, 1), (0, 2, 1), (1, 2, 0)):
            store = Compcache(pages=2)
            three = [store.alloc(100) for _ in range(3)]
            guard = store.alloc(100)
            assert chunks(store)[0] == [(100 * n, 100, False) for n in range(4)] + [(400, 3696, True)]
            for index in order:
                store.free(three[index])
            assert chunks(store)[0] == [(0, 300, True), (300, 100, False), (400, 3696, True)]
            assert_sound(store, {guard: 100})

    def test_selection(self):
        """The list of the size wanted comes first, then shorter chunks, then longer ones; last freed first."""
        store = Compcache(pages=1)
        sizes = (600, 8, 100, 8, 120, 8, 1500, 8)
        handles = [store.alloc(size) for size in sizes]
        store.alloc(PAGE - sum(sizes))
        assert store.counters()["free_bytes"] == 0
        starts = dict(zip(sizes, [store.extents(handle)[0][1] for handle in handles], strict=True))
        for size in (600, 100, 120, 1500):
            store.free(handles[sizes.index(size)])
        assert store.extents(store.alloc(700)) == ((0, starts[600], 600), (0, starts[120], 100))
        assert store.extents(store.alloc(1300)) == ((0, starts[1500], 1300),)
        assert store.cost()["probed"] == 1
        assert store.extents(store.alloc(15)) == ((0, starts[1500] + 1300, 15),)  # its tail was listed last
        assert store.extents(store.alloc(200)) == ((0, starts[1500] + 1315, 185), (0, starts[120] + 100, 15))

    def test_longer_ones_are_cut_when_no_shorter_one_is_left(self):
        """With nothing on the list wanted nor below, the next longer chunk is cut."""
        store = Compcache(pages=1)
        handles = [store.alloc(size) for size in (1500, 2596)]
        store.free(handles[0])
        assert store.extents(store.alloc(10)) == ((0, 0, 10),)
        assert store.cost()["probed"] == 3

    def test_one_list(self):
        """With one list its first chunk is taken, whatever its size."""
        store = holes(ranges=1)
        first = next(chunk for _, chunk in store._listed())
        assert store.extents(store.alloc(8)) == ((0, first.start, 8),)
        assert store.cost()["probed"] == 1

    def test_ranges(self):
        """The eight lists are of 512 bytes each: sizes 1 to 512 are on the first, 4096 is on the last."""
        store = Compcache()
        assert [store._range_of(size) for size in (1, 512, 513, 1024, 3584, 3585, 4096)] == [0, 0, 1, 1, 6, 7, 7]

    @pytest.mark.parametrize(("least", "waste"), [(1, 0), (16, 12), (32, 28)])
    def test_least_chunk(self, least, waste):
        """A least chunk wastes the rest of the last piece, and bounds the pieces of an object."""
        store = Compcache(pages=1, least=least)
        handle = store.alloc(100)
        assert store.extents(handle) == ((0, 0, 100 + waste),)
        assert store.contract.waste(100, 1) == waste
        assert store.contract.cost_bounds["pieces"](Request(100), Shadow()) == -(-100 // least)

    def test_pieces_are_bounded_by_the_length_only(self):
        """With holes of one byte an object of n bytes is in n pieces."""
        store = Compcache(pages=1, page_size=64)
        handles = [store.alloc(1) for _ in range(64)]
        for handle in handles[::2]:
            store.free(handle)
        assert len(store.extents(store.alloc(32))) == 32
        assert store.cost()["pieces"] == 32


class TestContents:
    def test_order_of_the_pieces(self):
        """Contents are put together in the order in which they were scattered, which is not that of addresses."""
        store = holes()
        handle = store.alloc(4096)
        starts = [start for _, start, _ in store.extents(handle)]
        assert starts != sorted(starts)
        data = random.Random(1).randbytes(4096)
        store.write(handle, 0, data)
        assert store.read(handle, 0, 4096) == data
        assert store.read(handle, 100, 700) == data[100:800]
        assert b"".join(bytes(store.source.memory[at : at + n]) for _, at, n in store.extents(handle)) == data

    def test_unordered_pieces_break_loading(self):
        """A store that links the pieces the wrong way round still has all bytes, but not the object."""

        class Unordered(Compcache):
            def _chain(self, chunks):
                chunks.sort(key=lambda chunk: chunk.start)
                super()._chain(chunks)

        stores = [Compcache(pages=2), Unordered(pages=2)]
        pieces = []
        for store in stores:
            handles = [store.alloc(128) for _ in range(64)]
            for handle in handles[::2]:
                store.free(handle)
            pieces.append([start for _, start, _ in store.extents(store.alloc(500))])
        assert sorted(pieces[0]) == sorted(pieces[1])
        assert pieces[0] != pieces[1]

    def test_neighbouring_pieces_of_one_object(self):
        """Pieces of one object that lie side by side, at a page's end and the next one's start, stay two."""
        store = Compcache(pages=2)
        store.alloc(4000)
        handle = store.alloc(200)
        assert store.extents(handle) == ((0, 4000, 96), (0, 4096, 104))
        store.write(handle, 90, b"across")
        assert store.read(handle, 90, 6) == b"across"

    def test_pieces_beside_each_other_within_a_page(self):
        """Within a page they cannot arise, since free neighbours merge before they can be taken."""
        r = random.Random(11)
        store, live = Compcache(pages=3, page_size=256), []
        for _ in range(3000):
            if live and r.random() < 0.5:
                store.free(live.pop(r.randrange(len(live))))
            elif (handle := store.alloc(r.randint(1, 256))) is not None:
                pieces = store.extents(handle)
                ends = {start + length for _, start, length in pieces}
                assert all(start % 256 == 0 for _, start, _ in pieces if start in ends)
                live.append(handle)

    def test_bounds(self):
        """Reading and writing past an object is an error."""
        store = Compcache()
        handle = store.alloc(100)
        with pytest.raises(ValueError, match="leave an object"):
            store.read(handle, 90, 11)
        with pytest.raises(ValueError, match="leave an object"):
            store.write(handle, -1, b"x")

    def test_presence(self):
        """One look at the slot tells whether an object is there: a free of what is not is noticed."""
        store = Compcache()
        handle = store.alloc(100)
        store.free(handle)
        for wrong in (handle, 99, -1, "slot", None):
            with pytest.raises(InvalidFree):
                store.free(wrong)
        assert store.alloc(50) == handle

    def test_lists_end(self):
        """Structures that have become rings are errors, not hangs."""
        store = holes()
        handle = store.alloc(300)
        chunk = store._slots[handle].first
        chunk.link = chunk
        with pytest.raises(RuntimeError, match="does not end"):
            store.extents(handle)
        first = store._lists[0].next_free
        first.next_free = first
        with pytest.raises(RuntimeError, match="does not end"):
            list(store.lists())
        store._master[0].after = store._master[0]
        with pytest.raises(RuntimeError, match="does not end"):
            list(store.free_regions())


PARAMETERS = [
    {"pages": 2, "page_size": 64}, {"pages": 8, "page_size": 256, "least": 16}, {"pages": 16},
    {"pages": 6, "page_size": 512, "ranges": 1, "keep": 0}, {"pages": 4, "page_size": 128, "ranges": 128, "least": 32},
]  # fmt: skip


@pytest.mark.parametrize("parameters", PARAMETERS, ids=str)
class TestEveryInvariant:
    def test_random_runs(self, parameters):
        """Every invariant holds after each operation of random runs, and load(store(x)) = x."""
        r = random.Random(7)
        store, live, contents = Compcache(**parameters), {}, {}
        largest = store.contract.largest
        for step in range(1200):
            if live and r.random() < 0.4 + 0.2 * (step // 200 % 2):
                handle = r.choice(sorted(live))
                assert store.read(handle, 0, live[handle]) == contents.pop(handle)
                store.free(handle)
                del live[handle]
            else:
                size = r.choice([r.randint(1, largest), r.randint(1, largest // 4)])
                handle = store.alloc(size)
                if handle is not None:
                    live[handle] = size
                    contents[handle] = r.randbytes(size)
                    store.write(handle, 0, contents[handle])
            if step % 5 == 0:
                assert_sound(store, live)
        for handle in live:
            store.free(handle)
        assert store.source.held == store._keep
        assert_sound(store, {})

    def test_states(self, parameters):
        """A store returns to a state, contents and all, and goes on from there as it did the first time."""
        r = random.Random(3)
        store = Compcache(**parameters)
        script = [(r.random(), r.randint(1, store.contract.largest)) for _ in range(160)]
        live = []
        play(store, live, script[:80])
        state = store.snapshot()
        memory = {handle: store.read(handle, 0, store._slots[handle].size) for handle in live}
        first = play(store, list(live), script[80:])
        after = store.snapshot()
        store.restore(state)
        assert store.snapshot() == state
        assert hash(store.snapshot()) == hash(state)
        assert memory == {handle: store.read(handle, 0, store._slots[handle].size) for handle in live}
        assert play(store, list(live), script[80:]) == first
        assert store.snapshot() == after

    def test_checked(self, parameters):
        """The checker's laws hold over a run with every kind of operation that the store knows."""
        r = random.Random(9)
        trace, births = [], 0
        for _ in range(150):
            coin = r.random()
            if coin < 0.55 or not births:
                trace.append(Operation(Kind.ALLOC, births, r.randint(0, Compcache(**parameters).contract.largest + 1)))
                births += 1
            elif coin < 0.9:
                trace.append(Operation(Kind.FREE, r.randrange(births)))
            elif coin < 0.95:
                trace.append(Operation(Kind.BAD_FREE, r.randrange(births), mode=r.choice(["double", "foreign"])))
            else:
                trace.append(Operation(Kind.FAIL_PAGES, size=1, align=0))
        trace += [Operation(Kind.DRAIN), Operation(Kind.DESTROY)]
        assert run(lambda: Compcache(**parameters), trace) is None


def play(store, live, script):
    """The answers to a script of requests and frees."""
    answers = []
    for coin, size in script:
        if live and coin < 0.4:
            handle = live.pop(int(coin * 100) % len(live))
            store.free(handle)
            answers.append(("freed", handle))
        else:
            handle = store.alloc(size)
            answers.append(handle)
            if handle is not None:
                live.append(handle)
                store.write(handle, 0, bytes([handle % 256]) * size)
    return answers


class TestRefuted:
    """Stores that break what is promised, as a check that the promises can be broken."""

    def test_a_store_that_wants_one_piece(self):
        """A store that refuses to scatter is refuted by the sum of the free bytes."""

        class OnePiece(Compcache):
            def _take_chunk(self, remaining):
                chunk = super()._take_chunk(remaining)
                if chunk is not None and chunk.size < remaining:
                    self._insert_free(chunk)
                    return None
                return chunk

        trace = [Operation(Kind.ALLOC, name, 32) for name in range(4)]
        trace += [Operation(Kind.FREE, 0), Operation(Kind.FREE, 2), Operation(Kind.ALLOC, 4, 64)]
        assert run(lambda: OnePiece(pages=2, page_size=64), trace).law == "no-spurious-refusal"
        assert run(lambda: Compcache(pages=2, page_size=64), trace) is None

    def test_a_store_that_forgets_to_merge(self):
        """A store that lists what it frees without merging is refuted by its neighbours."""

        class Unmerged(Compcache):
            def _release(self, chunk):
                chunk.free, chunk.link = True, None
                self._insert_free(chunk)

        trace = [Operation(Kind.ALLOC, name, 16) for name in range(3)]
        trace += [Operation(Kind.FREE, 0), Operation(Kind.FREE, 1)]
        muted = {"metadata-bound"}  # which the unmerged chunks exceed as well
        assert run(lambda: Unmerged(pages=2, page_size=64), trace, mute=muted).law == "coalesced"
        assert run(lambda: Compcache(pages=2, page_size=64), trace) is None

    def test_contracts_are_shared(self):
        """Equal parameters share one contract."""
        assert Compcache(pages=4).contract is Compcache(pages=4).contract
