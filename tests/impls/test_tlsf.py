"""TLSF: the layout, its invariants, and what sets the published revision apart."""

import random
from itertools import pairwise

import pytest

from heaplaw import Block, Kind, Operation, Refusal, Request, Shadow, run
from heaplaw.impls.tlsf import Tlsf
from heaplaw.properties.plain import check

CONFIGURATIONS = ["arena=1024,sl=2", "arena=256,sl=1", "arena=4096,word=32", "arena=512,word=32,sl=3", "arena=16384"]


def fill(heap, size, align=1):
    """Ask until refused; the handles."""
    handles = []
    while isinstance(handle := heap.alloc(size, align), int):
        handles.append(handle)
    return handles


def blocks(heap):
    """(start, length, free) of every block, by an independent walk of the raw bytes."""
    word, at, found = heap._g.word, 0, []
    raw = bytes(heap._bytes)
    while (head := int.from_bytes(raw[at : at + word], "little")) & ~3:
        found.append((at + word, head & ~3, head & 1, head >> 1 & 1))
        at += word + (head & ~3)
    assert at + word == len(raw), "the sentinel is the last word"
    return found


class TestLayout:
    @pytest.mark.parametrize(("word", "least", "step"), [(64, 24, 8), (32, 12, 4)])
    def test_least_block(self, word, least, step):
        """The smallest block is three words, and blocks are one word apart."""
        heap = Tlsf(word=word)
        one, two = heap.alloc(1), heap.alloc(1)
        assert heap.extents(one) == ((0, step, least),)
        assert two - one == least + step

    @pytest.mark.parametrize("word", [32, 64])
    def test_overhead(self, word):
        """A fresh pool is one free block of the arena less two words."""
        heap = Tlsf(arena=4096, word=word)
        (region,) = heap.free_regions()
        assert region[:3] == (0, word // 8, 4096 - 2 * word // 8)

    def test_lists_are_last_in_first_out(self):
        """Of two blocks on one list the one freed last is found first."""
        heap = Tlsf()
        handles = [heap.alloc(40) for _ in range(6)]
        heap.free(handles[1])
        heap.free(handles[3])
        assert heap.alloc(40) == handles[3]

    def test_metadata_is_in_the_arena(self):
        """An object that writes past its end destroys the next block's size word, as in C."""
        heap = Tlsf()
        one, two = heap.alloc(24), heap.alloc(24)
        heap.write(one, 24, bytes(8))
        assert heap.extents(two)[0][2] == 0


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
@pytest.mark.parametrize("revision", ["", "conte-3.1"])
def test_invariants(configuration, revision):
    """Blocks tile the arena, flags agree with neighbours, and no two free ones touch, after every call."""
    parameters = dict(pair.split("=") for pair in configuration.split(","))
    heap = Tlsf(**{key: int(value) for key, value in parameters.items()}, rev=revision)
    rng, live = random.Random(configuration), {}
    for _ in range(1200):
        size = int(2 ** rng.uniform(0, 10))
        if live and rng.random() < 0.45:
            heap.free(live.pop(rng.choice(list(live)))[0])
        elif live and rng.random() < 0.2:
            name = rng.choice(list(live))
            moved = heap.realloc(live[name][0], size)
            if isinstance(moved, int):
                live[name] = (moved, size)
        else:
            handle = heap.alloc(size, 1 << rng.randrange(8) if rng.random() < 0.3 else 1)
            if isinstance(handle, int):
                live[object()] = (handle, size)
        seen = blocks(heap)
        assert {start for start, _, is_free, _ in seen if not is_free} == {handle for handle, _ in live.values()}
        for (_, _, free_one, _), (_, _, free_two, before_free) in pairwise(seen):
            assert before_free == free_one
            assert not (free_one and free_two)
        assert sum(length for _, length, _, _ in seen) + (len(seen) + 1) * heap._g.word == len(heap._bytes)
        assert all(length >= heap._g.least and length % heap._g.word == 0 for _, length, _, _ in seen)
    for handle, _ in live.values():
        heap.free(handle)
    assert len(blocks(heap)) == 1


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_every_law_holds(configuration):
    """The repaired algorithm breaks no law in any configuration."""
    tally = check(f"tlsf,{configuration}", 2500, 11)
    assert tally.findings == []
    assert tally.evidence["tiling"] > 100


class TestBoundedSearch:
    @pytest.mark.parametrize("live", [10, 1000])
    def test_one_list_head(self, live):
        """An allocation looks at one list head, however many blocks there are."""
        heap = Tlsf(arena=1 << 17)
        handles = [heap.alloc(24 + index % 64) for index in range(live)]
        for handle in handles[::2]:
            heap.free(handle)
        heap.alloc(40)
        assert heap.cost()["probed"] == 1

    def test_good_fit_may_pass_over_a_fit(self):
        """A free block that fits but begins below the rounded size is passed over: refusal is exact by lists."""
        heap = Tlsf(arena=1016)
        assert [region.length for region in heap.free_regions()] == [1000]
        assert heap.alloc(1000) is None  # it fits, but its list begins at 992
        assert heap.contract.largest == 992
        assert heap.alloc(992) == 8


class TestAligned:
    @pytest.mark.parametrize("align", [16, 32, 64, 256, 512])
    @pytest.mark.parametrize("word", [32, 64])
    def test_alignment(self, align, word):
        """An aligned block starts at a multiple, and the gap before it is a block or nothing."""
        heap = Tlsf(word=word)
        heap.alloc(40)
        handle = heap.alloc(100, align)
        assert handle % align == 0
        assert len(blocks(heap)) in (3, 4)

    @pytest.mark.parametrize("align", [0, 3, 6, 12, -8])
    def test_not_a_power_of_two(self, align):
        """Another alignment makes no sense and is refused."""
        assert Tlsf().alloc(8, align) is Refusal.INVALID


class TestResize:
    def test_grows_into_the_free_neighbour(self):
        """A block grows in place when what is behind it is free and large enough."""
        heap = Tlsf()
        one, two = heap.alloc(24), heap.alloc(200)
        heap.alloc(24)
        heap.free(two)
        assert heap.realloc(one, 100) == one
        assert heap.extents(one)[0][2] >= 100

    def test_shrinking_frees_the_tail(self):
        """A shrunk block's tail is merged with what is free behind it."""
        heap = Tlsf()
        one = heap.alloc(2000)
        assert heap.realloc(one, 40) == one
        assert len(list(heap.free_regions())) == 1

    def test_moves_and_copies(self):
        """Without room the block moves with its contents."""
        heap = Tlsf()
        one = heap.alloc(24)
        heap.alloc(24)
        heap.write(one, 0, b"twenty-four bytes it is.")
        moved = heap.realloc(one, 500)
        assert moved != one
        assert bytes(heap.read(moved, 0, 24)) == b"twenty-four bytes it is."

    def test_refused_resize_keeps_the_object(self):
        """A resize that cannot be served leaves the block alone."""
        heap = Tlsf()
        one = heap.alloc(100)
        before = bytes(heap._bytes)
        assert heap.realloc(one, 1 << 40) is Refusal.TOO_BIG
        assert heap.realloc(one, 5000) is None
        assert bytes(heap._bytes) == before


class TestPublished:
    """mattconte/tlsf 3.1, with what was reported to it in public."""

    def test_size_max_wraps(self):
        """A request just below 2^64 is served 24 bytes (issue 22); repaired: refused."""
        heap = Tlsf(rev="conte-3.1")
        handle = heap.alloc((1 << 64) - 1)
        assert heap.extents(handle)[0][2] == 24
        assert Tlsf().alloc((1 << 64) - 1) is Refusal.TOO_BIG

    def test_resize_beyond_the_maximum(self):
        """A resize to more than the maximum shrinks the block to nothing (issue 22); repaired: refused."""
        heap = Tlsf(rev="conte-3.1")
        handle = heap.alloc(100)
        assert heap.realloc(handle, 1 << 33) == handle
        assert heap.extents(handle)[0][2] == 0

    def test_freed_block_is_not_found_again(self):
        """A block split at the request is filed one list too low for the same request; repaired: served."""
        outcomes = {}
        for revision in ("conte-3.1", ""):
            heap = Tlsf(arena=4096, rev=revision)
            one = heap.alloc(1000)
            fill(heap, 24)
            heap.free(one)
            outcomes[revision] = heap.alloc(1000)
        assert outcomes == {"conte-3.1": None, "": 8}

    def test_it_promises_less(self):
        """Only the repaired algorithm promises that what was freed can be had again."""
        assert Tlsf().contract.free_then_alloc
        assert not Tlsf(rev="conte-3.1").contract.free_then_alloc

    @pytest.mark.parametrize("law", ["bad-size-rejected", "realloc-prefix", "big-enough"])
    def test_check_finds_it(self, law):
        """`check` refutes the published revision by itself, in at most two operations."""
        tally = check("tlsf@conte-3.1", 20_000, 1, only=[law])
        (finding,) = tally.findings
        assert finding.violation.law == law
        assert len(finding.trace.operations) <= 2


def test_waste():
    """Internal waste stays below 1/32 of the request, three words and a tail too short to split off."""
    heap = Tlsf(arena=1 << 20)
    for size in range(256, 20_000, 37):
        handle = heap.alloc(size)
        assert heap.extents(handle)[0][2] - size <= size / 32 + 8 + 24
        heap.free(handle)


@pytest.mark.parametrize(
    "parameters",
    [
        {"arena": -5}, {"arena": 100}, {"arena": 8}, {"word": 16}, {"sl": 9}, {"rev": "3.2"}, {"arena": 1 << 33},
        {"top": 7}, {"top": 33}, {"top": -1}, {"top": 12, "arena": 4096},
    ],
)  # fmt: skip
def test_bad_parameters(parameters):
    """A configuration that cannot be is refused in words."""
    with pytest.raises(ValueError, match=r"arena|word|sl|revision|top"):
        Tlsf(**parameters)


def test_a_lower_top_has_fewer_lists():
    """With sizes below 4 KiB there are rows up to that, and what rounds to it is refused as too big."""
    heap = Tlsf(arena=4088, top=12)
    assert len(heap._row_bits) == 5
    assert heap.alloc(4033) is Refusal.TOO_BIG
    assert heap.extents(heap.alloc(4032)) == ((0, 8, 4032),)


def test_same_law_found_by_trace():
    """The one-line counterexample of the wrapped size, as a trace."""
    trace = [Operation(Kind.ALLOC, 0, (1 << 64) - 7)]
    assert run(lambda: Tlsf(rev="conte-3.1"), trace).law in ("big-enough", "waste-bound")


# ---- the invariants, one by one, after every call ---------------------------------------


def check_everything(heap, live):
    """Every invariant of the structure, from raw bytes and heads; ``live`` is {handle: (size, align)}."""
    g, word, raw = heap._g, heap._g.word, bytes(heap._bytes)

    def number(at):
        return int.from_bytes(raw[at : at + word], "little")

    seen = blocks(heap)  # M1: payloads, a word before each and the sentinel are the arena
    assert sum(length for _, length, _, _ in seen) + (len(seen) + 1) * word == len(raw)
    before_free = 0
    for start, length, is_free, flag in seen:
        assert not (is_free and before_free)  # M2: no two free neighbours
        assert flag == before_free  # M3: the flag says what the block before is
        assert length >= g.least  # M6: smallest payload, alignment
        assert length % word == start % word == 0
        if is_free:
            assert number(start + length - word) == start // word  # the back link, in the last payload word
        before_free = is_free
    assert number(len(raw) - word) == before_free << 1  # ... the sentinel's too: size 0, never free
    lists = {}
    for index, head in enumerate(heap._heads):
        block, back = head, 0
        while block:
            assert block not in lists  # M5: on exactly one list, ...
            assert number((block + 1) * word) == back
            lists[block] = index
            block, back = number(block * word), block
    for start, length, is_free, _ in seen:
        row, second = g.insert(length)
        assert lists.pop(start // word, None) == (row << g.sl | second if is_free else None)  # ... the right one
    assert not lists
    for row in range(g.rows):  # M4: both levels of bitmaps
        bits = sum(1 << s for s in range(1 << g.sl) if heap._heads[row << g.sl | s])
        assert heap._row_bits[row] == bits
        assert heap._rows >> row & 1 == bool(bits)
    assert heap._rows >> g.rows == 0
    lengths = {start: length for start, length, is_free, _ in seen if not is_free}
    assert lengths.keys() == live.keys()  # M7: the live blocks, each long enough and where it may be
    for handle, (size, align) in live.items():
        assert lengths[handle] >= size
        assert handle % align == 0
        assert lengths[handle] - size <= heap.contract.waste(size, align)


def one_run(rng, revision):
    """Operations made; every one of them checked."""
    word = rng.choice([32, 64])
    arena = rng.choice([256, 512, 1024, 4096, 4096 + word // 8, 16384, 65536])
    heap = Tlsf(arena=arena, word=word, sl=rng.choice([2, 3, 4, 5]), rev=revision)
    smallest_size = arena / 512  # a few dozen blocks, so that a whole check stays cheap
    live, made = {}, rng.randrange(100, 250)

    def pick():
        return rng.choice(list(live))

    for _ in range(made):
        chance, size = rng.random(), max(1, int(smallest_size * 2 ** rng.uniform(0, 8)))
        if chance < 0.45 and live:
            handle = pick()
            heap.free(handle)
            del live[handle]
        elif chance < 0.6 and live:
            handle = pick()
            moved = heap.realloc(handle, size)
            if isinstance(moved, int):
                _, align = live.pop(handle)
                live[moved] = (size, align if heap.contract.realloc_aligns else 1)
        else:
            align = 1 << rng.randrange(9) if rng.random() < 0.4 else 1
            handle = heap.alloc(size, align)
            if isinstance(handle, int):
                live[handle] = (size, align)
            elif align == 1:  # good fit: no free block on the list searched first, nor on a later one
                first = heap._g.search(heap._adjust(size))
                assert all(region.list_id < first for region in heap.free_regions())
        check_everything(heap, live)
    for handle in list(live):
        heap.free(handle)
        del live[handle]
        check_everything(heap, live)
    assert len(blocks(heap)) == 1  # M8: all freed, one block
    assert heap._rows == 1 << heap._g.insert(arena - 2 * heap._g.word)[0]
    assert not heap._alignments
    return made


@pytest.mark.parametrize("revision", ["", "conte-3.1"])
def test_every_invariant_after_every_operation(revision):
    """On 10,000 random operations of each revision, at 32 and 64 bits, nothing is ever out of place."""
    rng, made = random.Random(f"tlsf {revision}"), 0
    while made < 10_000:
        made += one_run(rng, revision)


# ---- promises -----------------------------------------------------------------------------


class TestLimits:
    @pytest.mark.parametrize("revision", ["", "conte-3.1"])
    @pytest.mark.parametrize("configuration", ["arena=40", "arena=1016", "arena=4096,sl=2", "arena=20,word=32"])
    def test_fresh_heap(self, configuration, revision):
        """A fresh heap, and a drained one, serves each size up to the advertised maximum and none above."""
        parameters = {key: int(value) for key, value in (pair.split("=") for pair in configuration.split(","))}
        heap = Tlsf(**parameters, rev=revision)
        for size in range(1, parameters["arena"] + 9):
            handle = heap.alloc(size)
            assert isinstance(handle, int) == (size <= heap.contract.max_size)
            if handle is not None:
                heap.free(handle)

    def test_maxima(self):
        """Of 4,096 bytes at 64 bits 4,032 are served: the pool has 4,080, whose list begins there."""
        assert Tlsf().contract.max_size == 4032
        assert Tlsf(arena=4096, word=32).contract.max_size == 4032
        assert Tlsf(arena=4096, sl=2).contract.max_size == 3584

    @pytest.mark.parametrize("word", [32, 64])
    @pytest.mark.parametrize("beyond", [0, 1, 2, 3, 7])
    def test_just_below_the_maximum(self, word, beyond):
        """Sizes next to 2^30 or 2^32 are refused by both revisions: no list beyond the table is looked at."""
        most = 1 << (30 if word == 32 else 32)
        for revision in ("", "conte-3.1"):
            for size in (most - word // 8, most - beyond, most + beyond):
                heap = Tlsf(word=word, rev=revision)
                assert heap.alloc(size) in (None, Refusal.TOO_BIG)
                assert heap.alloc(24, size) in (None, Refusal.INVALID)

    @pytest.mark.parametrize("size", [-1, 0])
    def test_no_size(self, size):
        """Nothing is no size, in either call."""
        heap = Tlsf()
        handle = heap.alloc(24)
        assert heap.alloc(size) is heap.realloc(handle, size) is Refusal.INVALID
        assert heap.extents(handle) == ((0, handle, 24),)

    @pytest.mark.parametrize("size", [1 << 32, (1 << 64) - 1, (1 << 64) + 1, 1 << 100])
    def test_huge(self, size):
        """A size that no word can say is refused in both calls, and an alignment too."""
        heap = Tlsf()
        handle = heap.alloc(24)
        assert heap.alloc(size) is heap.realloc(handle, size) is Refusal.TOO_BIG
        assert heap.alloc(24, 1 << 100) is None

    @pytest.mark.parametrize("revision", ["", "conte-3.1"])
    def test_what_must_be_served_is_exact(self, revision):
        """The predicate over the shadow heap foretells every answer, aligned requests included."""
        rng, answers = random.Random(revision), {True: 0, False: 0}
        for word in (32, 64):
            heap, shadow = Tlsf(arena=2048, word=word, sl=3, rev=revision), Shadow()
            for name in range(1500):
                request = Request(rng.randrange(1, 400), 1 << rng.randrange(8))
                promised = heap.contract.must_serve(request, shadow, None)
                assert heap.contract.must_refuse(request, shadow, None) is not promised
                handle = heap.alloc(request.size, request.align)
                assert isinstance(handle, int) == promised
                answers[promised] += 1
                if promised:
                    shadow.add(Block(name, handle, request.size, request.align, heap.extents(handle)))
                for _ in range(rng.randrange(3) if not promised else 0):
                    if shadow.live:
                        block = rng.choice(list(shadow.live.values()))
                        heap.free(block.handle)
                        shadow.remove(block)
        assert min(answers.values()) > 300

    def test_contracts_are_shared(self):
        """Heaps of equal parameters have one contract."""
        assert Tlsf(arena=4096).contract is Tlsf().contract


class TestTopLists:
    def test_last_list_of_a_row(self):
        """Bit 31 of a row is set and cleared like any other: 1,008 bytes stand on list (2, 31)."""
        heap = Tlsf(arena=1024)
        assert heap._row_bits[2] == 1 << 31
        handle = heap.alloc(1008)
        assert (heap._rows, heap._row_bits[2]) == (0, 0)
        heap.free(handle)
        assert heap._row_bits[2] == 1 << 31

    def test_only_smaller_blocks(self):
        """A search that begins in the highest row in use does not come round to lower ones."""
        heap = Tlsf(arena=1 << 16)
        handles = [heap.alloc(2000) for _ in range(4)]
        fill(heap, 24)
        for handle in handles[::2]:
            heap.free(handle)
        assert heap.alloc(20_000) is None
        assert heap.cost() == {"probed": 0, "scanned": 2, "found": 0}

    def test_next_row(self):
        """Without a block in its own row a search takes the first list of the next row in use."""
        heap = Tlsf(arena=1 << 16)
        assert heap.alloc(24) == 8
        assert heap.cost() == {"probed": 1, "scanned": 3, "found": (1 << 16) - 16}


class TestKeptAlignment:
    """mattconte/tlsf issue 36: resizing an aligned block."""

    def moved(self, revision):
        heap = Tlsf(arena=1 << 14, rev=revision)
        heap.alloc(24)
        handle = heap.alloc(128, 256)
        heap.alloc(300)  # behind it: too long for the gap in front
        return heap, handle, heap.realloc(handle, 4096)

    def test_published(self):
        """3.1 moves the block by plain allocation, and its alignment is lost."""
        heap, handle, moved = self.moved("conte-3.1")
        assert handle % 256 == 0
        assert moved % 256 != 0
        assert not heap.contract.realloc_aligns

    def test_repaired(self):
        """The repaired one moves it to a multiple of the same alignment, also the second time."""
        heap, handle, moved = self.moved("")
        assert handle % 256 == moved % 256 == 0
        assert heap._alignments == {moved: 256}
        again = heap.realloc(moved, 6000)
        assert again % 256 == 0
        heap.free(again)
        assert heap._alignments == {}

    def test_refused(self):
        """When only an unaligned place is left the resize is refused, and the block stays."""
        heap = Tlsf(arena=4096)
        handle = heap.alloc(128, 512)
        heap.alloc(24)
        heap.write(handle, 0, b"kept")
        assert isinstance(heap.alloc(3000), int)
        assert heap.realloc(handle, 3000) is None
        assert heap.read(handle, 0, 4) == b"kept"
        assert heap._alignments == {handle: 512}

    def test_address_forgotten(self):
        """A plain block at an address that once was an aligned one's moves anywhere."""
        heap = Tlsf(arena=1 << 14)
        handle = heap.alloc(128, 64)
        heap.free(handle)
        heap.alloc(handle - 16)
        assert heap.alloc(128) == handle
        assert heap._alignments == {}


class TestHistory:
    """Mistakes of other allocators of this family, in the shortest form that shows them."""

    def test_a_small_block_takes_little_of_a_large_one(self):
        """A block is cut to its own request's list, not to the one that it was found on."""
        heap = Tlsf(arena=1 << 18)
        large = heap.alloc(100_000)
        small = heap.alloc(16)
        heap.free(large)
        again = heap.alloc(16)
        assert heap.extents(small)[0][2] == heap.extents(again)[0][2] == 24

    def test_resize_to_the_same_beside_a_free_block(self):
        """A resize that changes nothing, or a word, leaves no empty block behind."""
        for size in range(60, 140):
            heap = Tlsf(arena=1024)
            one, two = heap.alloc(100), heap.alloc(100)
            heap.alloc(24)
            heap.free(two)
            heap.realloc(one, size)
            assert all(length >= 24 for _, length, _, _ in blocks(heap))

    def test_moving_into_the_left_neighbour(self):
        """The new place may be the free block in front, whose split changes the old block's flags."""
        heap = Tlsf(arena=1024)
        left, one = heap.alloc(600), heap.alloc(100)
        fill(heap, 24)
        heap.write(one, 0, bytes(range(100)))
        heap.free(left)
        moved = heap.realloc(one, 300)
        assert moved == left
        assert heap.read(moved, 0, 100) == bytes(range(100))
        check_everything(heap, {start: (length, 1) for start, length, is_free, _ in blocks(heap) if not is_free})

    def test_a_short_tail_stays(self):
        """A rest that could not hold a header and the free-list links is handed out as slack."""
        heap = Tlsf(arena=40 + 16 + 24)
        handle = heap.alloc(24)
        assert heap.extents(handle) == ((0, 8, 24),)
        heap.free(handle)
        assert heap.extents(heap.alloc(40)) == ((0, 8, 64),)

    def test_counters_are_to_the_byte(self):
        """Free bytes and the largest free block count payloads, without headers and without rounding."""
        heap = Tlsf(arena=4096)
        one = heap.alloc(1000)
        assert heap.extents(one)[0][2] == 1008
        heap.alloc(24)
        assert heap.counters() == {"live_objects": 2, "free_bytes": 3032, "largest_free": 3032}
        heap.free(one)
        assert heap.counters() == {"live_objects": 1, "free_bytes": 4040, "largest_free": 3032}
        assert heap.metadata()[0] == 4 * 8


class TestStates:
    def history(self, rng, heap, live, count):
        for _ in range(count):
            if live and rng.random() < 0.4:
                heap.free(live.pop(rng.randrange(len(live))))
            elif isinstance(handle := heap.alloc(rng.randrange(1, 300), 1 << rng.randrange(6)), int):
                heap.write(handle, 0, bytes([rng.randrange(256)]))
                live.append(handle)

    def test_back_and_again(self):
        """From a restored state the same calls give the same answers, contents and state."""
        rng, heap, live = random.Random(5), Tlsf(sl=3), []
        self.history(rng, heap, live, 60)
        state, kept, seed = heap.snapshot(), list(live), rng.random()
        ends = []
        for target in (heap, heap, Tlsf(sl=3)):
            target.restore(state)
            assert target.snapshot() == state
            now = list(kept)
            self.history(random.Random(seed), target, now, 60)
            ends.append((now, target.snapshot(), [target.read(handle, 0, 1) for handle in now]))
        assert ends[0] == ends[1] == ends[2]
        assert ends[0][1] != state

    def test_equal_whatever_came_before(self):
        """States are equal when only dead bytes and contents differ; list order is part of a state."""
        one, two = Tlsf(), Tlsf()
        two.free(two.alloc(500))
        assert one.snapshot() == two.snapshot()
        assert len({one.snapshot(), two.snapshot()}) == 1
        orders = []
        for heap, order in ((one, (0, 2)), (two, (2, 0))):
            handles = [heap.alloc(40) for _ in range(4)]
            for index in order:
                heap.free(handles[index])
            orders.append(heap.snapshot())
        assert orders[0] != orders[1]


class TestBrokenHeaps:
    """Every walk ends, in an exception, on a heap that was written over."""

    def test_a_list_in_a_circle(self):
        """A free block that names itself as the next one."""
        heap = Tlsf()
        one = heap.alloc(40)
        heap.alloc(40)
        heap.free(one)
        heap.write(one, 0, (one // 8).to_bytes(8, "little"))
        for walk in (heap.lists, heap.counters, heap.snapshot):
            with pytest.raises(RuntimeError, match="free list does not end"):
                list(walk())

    def test_a_size_past_the_arena(self):
        """A size word that was written over with text."""
        heap = Tlsf()
        one = heap.alloc(40)
        heap.alloc(40)
        heap.write(one, 40, b"too long")
        for walk in (heap.free_regions, heap.counters, heap.metadata, heap.snapshot):
            with pytest.raises(RuntimeError, match="reaches past the arena"):
                list(walk())

    def test_the_check_itself(self):
        """The invariants' own check objects to each single thing that is put out of order."""
        heap = Tlsf()
        handles = [heap.alloc(40) for _ in range(4)]
        heap.free(handles[1])
        live = {handle: (40, 1) for handle in handles if handle != handles[1]}
        check_everything(heap, live)
        words = heap._words
        row, second = heap._g.insert(40)
        spots = [handles[1] // 8 - 1, handles[2] // 8 - 1, handles[2] // 8 - 2, handles[1] // 8 + 1, 511]
        for spot in spots:  # its size, the next one's flags, its back link, its list link, the sentinel
            words[spot] ^= 2
            with pytest.raises(AssertionError):
                check_everything(heap, live)
            words[spot] ^= 2
        for bits, bit in ((heap._row_bits, 1 << second), (heap._heads, handles[1] // 8)):
            index = row if bits is heap._row_bits else row << 5 | second
            bits[index] ^= bit
            with pytest.raises(AssertionError):
                check_everything(heap, live)
            bits[index] ^= bit
        with pytest.raises(AssertionError):
            check_everything(heap, {**live, handles[0]: (41, 1)})
        check_everything(heap, live)
