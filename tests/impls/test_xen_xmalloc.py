"""Xen's first-fit xmalloc: its blocks and list, what its pages cost, and the price of a free."""

import random

import pytest

from heaplaw import Block, InvalidFree, Kind, Operation, Refusal, Request, Shadow, run
from heaplaw.impls.xen_xmalloc import XenXmalloc

HUGE = (1 << 64) - 255  # with a header of 128 bytes it wraps to nothing


def word(heap, address):
    """A word in the heap's pages."""
    return int.from_bytes(heap.source.memory[address : address + 8], "little")


def blocks(heap, page):
    """(start, size, free) of the blocks of a page of small ones, by an independent walk of the raw bytes."""
    size, at, found = heap.source.page_size, page * heap.source.page_size, []
    end = at + size
    while at < end:
        links = word(heap, at + 8), word(heap, at + 16)
        assert (links[0] == 0) == (links[1] == 0)
        found.append((at, word(heap, at), links[0] != 0))
        at += word(heap, at)
    assert at == end
    return found


def free_list(heap):
    """Blocks on the list, in order, by an independent walk of the raw links, which are checked both ways."""
    node, before, found = heap._first, heap._head, []
    while node != heap._head:
        assert word(heap, node + 8) == before
        found.append(node - 8)
        node, before = word(heap, node), node
        assert len(found) < 10_000
    return found


class TestPages:
    """What sizes cost in pages, with the 128-byte lines of x86."""

    @pytest.mark.parametrize(
        ("size", "pages"),
        [
            (0, 1), (1, 1), (3840, 1), (3841, 1), (3968, 1), (3969, 2), (4095, 2), (4096, 2), (8064, 2),
            (8065, 4), (8192, 4), (16256, 4), (16257, 8),
        ],
    )  # fmt: skip
    def test_pages(self, size, pages):
        """Up to 3968 bytes take a page, up to 8064 two, then four: a power of two, header included."""
        heap = XenXmalloc(pages=16)
        handle = heap.alloc(size)
        assert heap.source.held == pages
        heap.free(handle)
        assert heap.source.held == 0

    @pytest.mark.parametrize(("size", "order"), [(3840, 0), (3841, 0), (4095, 1), (4096, 1), (8192, 2)])
    def test_order(self, size, order):
        """A page costs two contiguous pages, two pages cost four, and a page less one byte costs two."""
        heap = XenXmalloc(pages=16)
        heap.alloc(size)
        assert heap.source.highest_order == order
        assert list(heap.source.runs.values()) == [order]

    def test_no_contiguous_pair(self):
        """A page less one byte fails when no two free pages lie together, though one page would hold it."""
        heap = XenXmalloc(pages=8)
        handles = [heap.alloc(3968) for _ in range(8)]
        for handle in handles[::2]:
            heap.free(handle)
        assert heap.source.held == 4
        assert heap.alloc(4095) is None
        assert isinstance(heap.alloc(3968), int)

    @pytest.mark.parametrize(("line", "shared", "whole"), [(128, 3840, 3968), (64, 3968, 4032), (32, 4032, 4064)])
    def test_thresholds(self, line, shared, whole):
        """The largest sizes below a whole page and within one follow the line: 3840 and 3968 with 128 bytes."""
        heap = XenXmalloc(pages=4, line=line)
        assert heap._total(shared) < 4096 == heap._total(shared + 1) == heap._total(whole) < heap._total(whole + 1)

    def test_small_objects_share(self):
        """A byte takes 256 bytes with its header, so sixteen share a page and the next takes another."""
        heap = XenXmalloc(pages=4)
        handles = [heap.alloc(1) for _ in range(16)]
        assert heap.source.held == 1
        assert handles == [128 + 256 * n for n in range(16)]
        assert heap.extents(handles[0]) == ((0, 128, 128),)
        assert heap.alloc(1) == 4096 + 128

    def test_size_zero(self):
        """Nothing is a header without payload, 128 bytes; 31 of them are a page, for the last keeps a line more."""
        heap = XenXmalloc(pages=2)
        handles = [heap.alloc(0) for _ in range(31)]
        assert heap.source.held == 1
        assert [size for _, size, _ in blocks(heap, 0)] == [128] * 30 + [256]  # the last one took the odd line
        assert heap.extents(handles[0]) == ((0, 128, 0),)

    def test_block_that_becomes_its_page(self):
        """3840 bytes leave 128, too little: the block's size is 4096, and its free is that of a big object."""
        heap = XenXmalloc(pages=2)
        handle = heap.alloc(3840)
        assert word(heap, 0) == 4096
        assert heap._total(3840) == 3968
        heap.free(handle)
        assert (heap.source.held, heap.cost()["walked"]) == (0, 0)

    @pytest.mark.parametrize(("size", "absorbed"), [(3712, False), (3713, True), (3840, True)])
    def test_absorbed_slack(self, size, absorbed):
        """Totals strictly between a page less two headers and a page take the whole page."""
        heap = XenXmalloc(pages=2)
        heap.alloc(size)
        assert (word(heap, 0) == 4096) is absorbed


class TestAlignment:
    @pytest.mark.parametrize("line", [32, 64, 128])
    def test_always_a_line(self, line):
        """Every address is a multiple of the cache line, whatever is asked for."""
        heap = XenXmalloc(pages=16, line=line)
        for size in (0, 1, 31, 100, 4000, 5000):
            assert heap.alloc(size) % line == 0
            assert heap.alloc(size, line) % line == 0

    @pytest.mark.parametrize("align", [256, 4096, 3, 0, -8, 1 << 64])
    def test_refused(self, align):
        """More than a line, fatal in the source, and what is no power of two are refused."""
        assert XenXmalloc().alloc(8, align) is Refusal.INVALID

    @pytest.mark.parametrize("size", [-1, 1 << 32, (1 << 64) - 1, 1 << 64, (1 << 64) + 1])
    def test_senseless_sizes(self, size):
        """A negative size makes no sense and an enormous one is too big."""
        assert XenXmalloc(pages=4).alloc(size) in (Refusal.INVALID, Refusal.TOO_BIG)


class TestList:
    def test_newest_first(self):
        """Of free blocks that fit, the one freed last is taken: first fit over a stack, not best fit."""
        heap = XenXmalloc(pages=4)
        handles = [heap.alloc(size) for size in (100, 100, 500, 100, 100, 100)]
        heap.free(handles[0])
        heap.free(handles[2])  # 640 bytes, newer than the 256 that would fit better
        assert heap.alloc(1) == handles[2]

    def test_first_that_is_long_enough(self):
        """Blocks in front that are too short are passed over, and counted."""
        heap = XenXmalloc(pages=4)
        handles = [heap.alloc(size) for size in (1000, 100, 100, 100, 100, 100)]
        for index in (0, 2, 4):
            heap.free(handles[index])
        assert heap.alloc(900) == handles[0]
        assert heap.cost() == {"walked": 3, "found": 1024}

    def test_rest_goes_first(self):
        """What a split leaves is pushed on the list's head; less than two headers stays with the block."""
        heap = XenXmalloc(pages=2)
        heap.alloc(100)
        assert free_list(heap) == [256]
        heap.alloc(3840 - 128 - 256)
        assert blocks(heap, 0)[1:] == [(256, 3584, False), (3840, 256, True)]
        assert free_list(heap) == [3840]

    @pytest.mark.parametrize(("left", "split"), [(0, False), (128, False), (256, True)])
    def test_split_threshold(self, left, split):
        """A rest of two headers is split off, a rest of one is not: no free block is made without payload."""
        heap = XenXmalloc(pages=2)
        one = heap.alloc(1024 - 128)
        heap.alloc(1)
        heap.free(one)
        again = heap.alloc(1024 - left - 128)
        assert again == one
        assert heap.extents(again)[0][2] == 1024 - 128 - (left if split else 0)

    def test_links_of_the_living_are_null(self):
        """A live block's two links are NULL, and a second free of a listed one is noticed by them."""
        heap = XenXmalloc(pages=2)
        one = heap.alloc(100)
        heap.alloc(100)
        assert (word(heap, one - 120), word(heap, one - 112)) == (0, 0)
        heap.free(one)
        assert word(heap, one - 120) != 0
        with pytest.raises(InvalidFree, match="is on the free list"):
            heap.free(one)

    def test_second_free_that_is_not_noticed(self):
        """Merged into the block before it, a freed block's header still looks alive."""
        heap = XenXmalloc(pages=2)
        one, two, _ = (heap.alloc(100) for _ in range(3))
        heap.free(one)
        heap.free(two)
        assert (word(heap, two - 120), word(heap, two - 112)) == (0, 0)
        assert "double" not in heap.contract.detects

    def test_null(self):
        """Freeing nothing does nothing."""
        heap = XenXmalloc(pages=2)
        heap.free(None)
        assert heap.source.held == 0


class TestMerging:
    @pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)])
    def test_every_order(self, order):
        """Three neighbours freed in any order become one block, also when the last one joins both sides."""
        heap = XenXmalloc(pages=2)
        handles = [heap.alloc(100) for _ in range(3)]
        fence = heap.alloc(100)
        heap.alloc(3072 - 128)  # the rest
        for index in order:
            heap.free(handles[index])
        assert blocks(heap, 0)[0] == (0, 768, True)
        assert blocks(heap, 0)[1][:2] == (fence - 128, 256)
        assert free_list(heap) == [0]

    def test_page_goes_back(self):
        """The last free merges its page and gives it back; no block of a page's size stays on the list."""
        heap = XenXmalloc(pages=2)
        handles = [heap.alloc(100) for _ in range(16)]
        random.Random(3).shuffle(handles)
        for handle in handles:
            assert heap.source.held == 1
            heap.free(handle)
        assert heap.source.held == 0
        assert free_list(heap) == []

    def test_not_across_pages(self):
        """The last block of a page and the first of the next stay apart, though they touch."""
        heap = XenXmalloc(pages=4)
        handles = [heap.alloc(100) for _ in range(32)]
        assert heap.source.held == 2
        heap.free(handles[15])
        heap.free(handles[16])
        assert handles[15] + 256 == handles[16]
        assert sorted(free_list(heap)) == [15 * 256, 16 * 256]
        one, two = sorted(heap.free_regions())
        assert not heap.contract.mergeable(one, two)

    def test_a_header_at_the_end_of_its_page(self):
        """A freed block of one line has no payload, and is a member of the list all the same."""
        heap = XenXmalloc(pages=2)
        handles = [heap.alloc(0) for _ in range(3)]
        heap.free(handles[1])
        assert next((r.start, r.length) for r in heap.free_regions()) == (handles[1], 0)
        heap.alloc(3840 - 256 - 128)
        assert heap.alloc(0) == handles[1]

    def test_unlinking_while_walking(self):
        """The walk goes on behind an entry that it has taken off: both neighbours are merged in one free."""
        heap = XenXmalloc(pages=2)
        handles = [heap.alloc(100) for _ in range(7)]
        heap.alloc(4096 - 7 * 256 - 128)
        for index in (1, 5, 3):
            heap.free(handles[index])
        assert free_list(heap) == [3 * 256, 5 * 256, 256]
        heap.free(handles[2])  # merges with the list's first entry and with its last
        assert heap.cost()["walked"] == 3
        assert free_list(heap) == [256, 5 * 256]
        assert word(heap, 256) == 3 * 256


class TestPrice:
    """Calls without a bound: the complaint that TLSF was brought in for."""

    @pytest.mark.parametrize("others", [10, 100, 400])
    def test_free_walks_the_whole_list(self, others):
        """A free looks at every free block there is, in any page, and so costs what the list is long."""
        heap = XenXmalloc(pages=64)
        handles = [heap.alloc(1) for _ in range(2 * others)]
        one, two = heap.alloc(1000), heap.alloc(1000)
        for handle in handles[::2]:
            heap.free(handle)
        length = len(free_list(heap))
        assert length >= others
        heap.free(one)
        assert heap.cost()["walked"] == length
        assert heap.contract.cost_bounds["walked"](Request(1), _shadow([*handles[1::2], two])) >= length

    def test_allocation_walks_what_is_too_short(self):
        """A request that no block can hold looks at all of them before it takes a page."""
        heap = XenXmalloc(pages=64)
        handles = [heap.alloc(1) for _ in range(320)]
        for handle in handles[::2]:
            heap.free(handle)
        heap.alloc(1000)
        assert heap.cost() == {"walked": 160}

    def test_near_page_objects(self):
        """Objects of 2,000 bytes leave half a page each on the list, and every free passes all of these."""
        heap = XenXmalloc(pages=256)
        handles = [heap.alloc(2500) for _ in range(200)]
        assert len(free_list(heap)) == 200
        heap.free(handles[0])
        assert heap.cost()["walked"] == 200


def _shadow(handles):
    """A shadow heap that knows these addresses."""
    shadow = Shadow()
    for name, handle in enumerate(handles):
        shadow.add(Block(name, handle, 1, 1, ((0, handle, 128),)))
    return shadow


class TestTail:
    """Keir Fraser's alternative: the pages that are needed, and what is left of the last one on the list."""

    def test_a_page_less_a_byte(self):
        """4095 bytes take 4224 of two pages; the rest, 3968 of the second, serves the next request."""
        heap = XenXmalloc(pages=4, tail="list")
        handle = heap.alloc(4095)
        assert heap.extents(handle) == ((0, 128, 4096),)
        assert [(r.start, r.length) for r in heap.free_regions()] == [(4096 + 128 + 128, 3840)]
        assert heap.alloc(3712) == 4096 + 256
        assert heap.source.held == 2

    def test_two_pages_take_three(self):
        """8192 bytes take three pages, not four: the one behind them goes back at once."""
        heap = XenXmalloc(pages=4, tail="list")
        heap.alloc(8192)
        assert sorted(heap.source.owned) == [0, 1, 2]
        assert [(r.start, r.length) for r in heap.free_regions()] == [(2 * 4096 + 256, 3840)]

    def test_freed_before_its_tail(self):
        """Freed while its rest is in use, it leaves a block in that page; all freed, all pages are back."""
        heap = XenXmalloc(pages=4, tail="list")
        big = heap.alloc(5000)
        small = heap.alloc(1)
        heap.free(big)
        assert sorted(heap.source.owned) == [1]
        assert blocks(heap, 1)[0] == (4096, 5000 + 128 + 120 - 4096, True)
        heap.free(small)
        assert heap.source.held == 0

    def test_freed_after_its_tail(self):
        """Freed last, its part of the last page merges with the free rest and the page is back."""
        heap = XenXmalloc(pages=4, tail="list")
        big, small = heap.alloc(5000), heap.alloc(1)
        heap.free(small)
        heap.free(big)
        assert heap.source.held == 0
        assert free_list(heap) == []

    def test_less_waste(self):
        """Forty objects of a page less a byte and forty of 3,000 bytes: 80 pages, with the tail on the list 40 less."""
        held = {}
        for tail in ("", "list"):
            heap = XenXmalloc(pages=256, tail=tail)
            for _ in range(40):
                heap.alloc(4095)
            for _ in range(40):
                heap.alloc(3000)
            held[tail] = heap.source.held
        assert held == {"": 120, "list": 80}


class TestPublished:
    """The shipped code adds the header to a size without a look at the word's end."""

    def test_wraps(self):
        """A size near 2^64 is served a header without payload, or less; repaired: refused."""
        published = XenXmalloc(rev="3.0")
        handle = published.alloc((1 << 64) - 1)
        assert handle == 128
        assert word(published, 0) == 128
        assert XenXmalloc().alloc((1 << 64) - 1) is Refusal.TOO_BIG

    @pytest.mark.parametrize(
        ("law", "operations"),
        [
            ("big-enough", [Operation(Kind.ALLOC, 0, (1 << 64) - 1)]),
            ("must-refuse", [Operation(Kind.ALLOC, 0, (1 << 64) - 1)]),
            ("bad-size-rejected", [Operation(Kind.BAD_ALLOC, 0, (1 << 64) - 1, 1, "huge")]),
        ],
    )
    def test_trace(self, law, operations):
        """One request breaks the law on the published code and none on the repaired one."""
        others = {"big-enough", "must-refuse", "bad-size-rejected", "geometry", "search-fit"} - {law}
        assert run(lambda: XenXmalloc(pages=4, rev="3.0"), operations, mute=others).law == law
        assert run(lambda: XenXmalloc(pages=4), operations) is None


class TestBrokenHeaps:
    def test_a_list_in_a_circle(self):
        """Every walk of a list that does not end ends in an exception, the algorithm's own too."""
        heap = XenXmalloc(pages=2)
        one = heap.alloc(100)
        heap.alloc(100)
        heap.free(one)
        heap.write(one, -120, (8).to_bytes(8, "little"))  # its own node
        for walk in (heap.lists, heap.counters, heap.snapshot, lambda: heap.alloc(3000), lambda: heap.free(384)):
            with pytest.raises(RuntimeError, match="free list does not end"):
                list(walk())

    def test_a_size_of_nothing(self):
        """A header that was written over with zeros."""
        heap = XenXmalloc(pages=2)
        one = heap.alloc(100)
        heap.write(one, -128, bytes(8))
        with pytest.raises(RuntimeError, match="has no size"):
            list(heap.free_regions())

    def test_headers_are_in_the_pages(self):
        """An object that writes past its end destroys the next block's size, as in C."""
        heap = XenXmalloc(pages=2)
        one, two = heap.alloc(128), heap.alloc(128)
        heap.write(one, 128, (77 * 128).to_bytes(8, "little"))
        assert heap.extents(two)[0][2] == 76 * 128


class TestStates:
    @pytest.mark.parametrize("tail", ["", "list"])
    def test_back_and_again(self, tail):
        """From a restored state the same calls give the same answers, contents and state."""
        rng, heap, live = random.Random(5), XenXmalloc(pages=8, tail=tail), []
        _history(rng, heap, live, 60)
        state, kept, seed = heap.snapshot(), list(live), rng.random()
        ends = []
        for target in (heap, heap, XenXmalloc(pages=8, tail=tail)):
            target.restore(state)
            assert target.snapshot() == state
            now = list(kept)
            _history(random.Random(seed), target, now, 60)
            ends.append((now, target.snapshot(), [target.read(handle, 0, 1) for handle in now]))
        assert ends[0] == ends[1] == ends[2]
        assert ends[0][1] != state

    def test_order_is_part_of_a_state(self):
        """States are equal whatever was in dead bytes, and differ by the order of the list."""
        states = []
        for order in ((0, 2), (0, 2), (2, 0)):
            heap = XenXmalloc(pages=2)
            handles = [heap.alloc(100) for _ in range(4)]
            heap.write(handles[0], 0, bytes([len(states)]))
            for index in order:
                heap.free(handles[index])
            states.append(heap.snapshot())
        assert states[0] == states[1] != states[2]
        assert len(set(states)) == 2


def _history(rng, heap, live, count):
    for _ in range(count):
        if live and rng.random() < 0.4:
            heap.free(live.pop(rng.randrange(len(live))))
        elif isinstance(handle := heap.alloc(rng.choice([1, 100, 700, 3000, 4000, 6000])), int):
            heap.write(handle, 0, bytes([rng.randrange(256)]))
            live.append(handle)


# ---- the invariants, one by one, after every call ---------------------------------------


def check_everything(heap, live):
    """Every invariant from raw bytes; ``live`` is {handle: size}."""
    line, page_size = heap._header, heap.source.page_size
    listed = free_list(heap)
    assert len(set(listed)) == len(listed)
    seen_free, seen_live, at = [], {}, 0
    for page, order in sorted(heap.source.runs.items()):
        end, last_free = (page + (1 << order)) * page_size, None
        at = max(at, page * page_size)
        while at < end:  # M1: blocks tile the page
            size, links = word(heap, at), (word(heap, at + 8), word(heap, at + 16))
            assert size >= line
            assert size % line == 0
            if links == (0, 0):
                seen_live[at + line] = size
                last_free = None
            else:
                assert last_free != at, "M2: two free neighbours of one page"
                assert 0 < size < page_size, "M4, as the debug build asserts of listed blocks"
                seen_free.append(at)
                last_free = at + size
            at += size
        if not heap._list_tail:
            assert at == end
    assert sorted(seen_free) == sorted(listed)  # M3: on the list if and only if not live
    assert seen_live.keys() == live.keys()
    for handle, size in live.items():
        total = heap._total(size)
        assert handle % line == 0  # M6
        if total >= page_size and not heap._list_tail:  # M5: a power of two of pages
            assert seen_live[handle] == 1 << (total - 1).bit_length()
            assert heap.source.runs[handle // page_size] == (seen_live[handle] // page_size).bit_length() - 1
        else:
            assert total <= seen_live[handle] < total + 2 * line


@pytest.mark.parametrize("tail", ["", "list"])
@pytest.mark.parametrize("geometry", [(8, 4096, 128), (4, 512, 32), (16, 1024, 64)])
def test_every_invariant_after_every_operation(geometry, tail):
    """On 2,000 random operations nothing is ever out of place, and refusals are foretold exactly."""
    pages, page_size, line = geometry
    heap, rng, live = XenXmalloc(pages, page_size, line, tail), random.Random(f"{geometry}{tail}"), {}
    shadow, refused = Shadow(), 0
    for name in range(2000):
        if live and rng.random() < 0.48:
            block = rng.choice(list(shadow.live.values()))
            heap.free(block.handle)
            shadow.remove(block)
            del live[block.handle]
        else:
            size = int(page_size / 16 * 2 ** rng.uniform(0, 5)) if rng.random() < 0.9 else 0
            request = Request(size)
            promised = heap.contract.must_serve(request, shadow, heap.source)
            handle = heap.alloc(size)
            assert isinstance(handle, int) == promised
            assert heap.cost()["walked"] <= heap.contract.cost_bounds["walked"](request, shadow)
            if handle is None:
                refused += 1
            else:
                live[handle] = size
                shadow.add(Block(name, handle, size, 1, heap.extents(handle)))
        check_everything(heap, live)
        free = sum(region.length for region in heap.free_regions())
        held = heap.source.held * page_size
        assert shadow.bytes + free + heap.contract.overhead(shadow, heap.source) == held
    assert refused > 50
    for handle in live:
        heap.free(handle)
    assert heap.source.held == 0


def test_a_failed_call_changes_nothing():
    """When the page source refuses, the list, the blocks and the pages are as before."""
    heap = XenXmalloc(pages=4)
    heap.alloc(3000)
    before = heap.snapshot()
    heap.source.fail_next(0, 2)
    assert heap.alloc(3000) is None
    assert heap.alloc(9000) is None
    assert heap.snapshot() == before
    assert isinstance(heap.alloc(3000), int)


@pytest.mark.parametrize("parameters", ["pages=1", "pages=3", "pages=8,line=64", "pages=4,tail=list"])
def test_limits_of_a_fresh_heap(parameters):
    """A fresh heap serves the advertised maximum, and one byte more is too big."""
    given = dict(pair.split("=") for pair in parameters.split(","))
    settings = {key: int(value) if value.isdecimal() else value for key, value in given.items()}
    heap = XenXmalloc(**settings)
    assert isinstance(heap.alloc(heap.contract.max_size), int)
    assert XenXmalloc(**settings).alloc(heap.contract.max_size + 1) is Refusal.TOO_BIG
    assert heap.contract is XenXmalloc(**settings).contract


@pytest.mark.parametrize(
    "parameters",
    [{"pages": 0}, {"pages": -3}, {"line": 96}, {"line": 16}, {"page_size": 256}, {"page_size": 5000},
     {"tail": "cut"}, {"rev": "9"}, {"rev": "3.0", "tail": "list"}],
)  # fmt: skip
def test_bad_parameters(parameters):
    """A configuration that cannot be is refused in words."""
    with pytest.raises(ValueError, match=r"pages|line|page_size|tail|revision"):
        XenXmalloc(**parameters)
