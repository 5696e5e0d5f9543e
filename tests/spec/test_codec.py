"""Every integer is an operation, and every operation has an integer near it."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from heaplaw import Contract, Kind, Operation
from heaplaw.codec import BAD_REQUESTS, FIRST_BYTE, HUGE, KINDS, MISUSES, Codec, palette
from heaplaw.operations import ATOMIC

PAGES = Contract(
    handles="opaque", spaces="pages", max_size=4096, limits=tuple(range(32, 4097, 16)), granule=8,
    maintenance=("compact", "shrink", "reclaim"), cpus=4,
)  # fmt: skip
BUSY = Contract(
    sized_free=True,
    arena=1 << 20, max_align=256, granule=16, header=8, limits=(64, 1000), contextual=True, groups=3, cpus=5,
    maintenance=("balance",), detects=frozenset(MISUSES), rejects=frozenset(BAD_REQUESTS),
)  # fmt: skip
CONTRACTS = {
    "nothing": Contract(),
    "one byte": Contract(arena=1),
    "tiny": Contract(arena=64, granule=4, max_align=2),
    "odd": Contract(arena=1000, max_align=48, granule=3, header=5, limits=(0, 999)),
    "pages": PAGES,
    "contextual": BUSY,
    "ungrouped": replace(BUSY, groups=0),
    "vast": Contract(arena=1 << 40, granule=4096, max_align=1 << 30),
    "unbounded": Contract(max_size=(1 << 64) - 1),
    "crowded": Contract(arena=1 << 16, granule=16, header=8, limits=tuple(range(100, 50_000, 97))),
}
CODECS = {name: Codec(contract) for name, contract in CONTRACTS.items()}
ON_OBJECTS = {Kind.FREE, Kind.REALLOC, Kind.WRITE, Kind.READ, Kind.MAP, Kind.UNMAP, Kind.LINK, Kind.BAD_FREE}
QUICK = settings(max_examples=150, deadline=None, database=None)
codecs = st.sampled_from(list(CODECS.values()))
codes = st.integers(0, (1 << 32) - 1)
live_lists = st.lists(st.integers(0, 5000), unique=True, max_size=12)
each_contract = pytest.mark.parametrize("name", CONTRACTS)


def code_of(kind, operand=0):
    return FIRST_BYTE[kind] | operand << 8


def odd_operations():
    """Operations as a trace may hold them, sensible or not."""
    numbers, objects = st.integers(0, 1 << 66), st.integers(0, 9)
    words = st.sampled_from([*MISUSES, *BAD_REQUESTS, "compact", "balance", "unheard-of"])
    worded = st.sampled_from([Kind.MAINTAIN, Kind.BAD_FREE, Kind.BAD_ALLOC])
    numbered = st.sampled_from([kind for kind in Kind if kind not in (Kind.MAINTAIN, Kind.BAD_FREE, Kind.BAD_ALLOC)])
    return st.one_of(
        st.builds(Operation, worded, objects, numbers, numbers, words),
        st.builds(Operation, numbered, objects, numbers | objects, numbers, st.integers(0, 1 << 40)),
    )


class TestKinds:
    def test_every_byte_is_a_kind(self):
        """The 256 kind bytes are shared out whole, and every kind has at least one."""
        assert len(KINDS) == 256
        assert set(KINDS) == set(Kind)

    def test_zero_is_nop(self):
        """Byte 0, and no other, means "no operation"."""
        assert KINDS[0] == Kind.NOP
        assert KINDS.count(Kind.NOP) == 1

    def test_order_of_bytes(self):
        """The bytes stand in the order of the kinds' numbers: lowering a byte never makes a later kind."""
        assert list(KINDS) == sorted(KINDS)
        assert {kind: KINDS[byte] for kind, byte in FIRST_BYTE.items()} == {kind: kind for kind in Kind}


class TestDecode:
    @given(codec=codecs, code=codes, names=live_lists, birth=st.integers(0, 1 << 20))
    @settings(QUICK, max_examples=600)
    def test_total(self, codec, code, names, birth):
        """Every 32-bit integer is an operation on live objects that this contract can be asked for."""
        op = codec.decode(code, names, birth)
        kind, name, size, align, mode = op
        contract = codec.contract
        assert kind in (KINDS[code & 255], Kind.NOP)
        if kind == Kind.ALLOC:
            assert (name, size in codec.sizes, align in codec.aligns) == (birth, True, True)
            assert 0 <= mode >> 1 <= contract.groups
            assert contract.contextual or mode == 0
        elif kind in ON_OBJECTS:
            assert name in names
            assert kind != Kind.LINK or size in names
            assert kind != Kind.REALLOC or size in codec.sizes
            assert kind != Kind.BAD_FREE or mode in MISUSES
        elif kind == Kind.MAINTAIN:
            assert mode in contract.maintenance
        elif kind == Kind.ON_CPU:
            assert 0 <= mode < contract.cpus
        elif kind == Kind.FAIL_PAGES:
            assert (1 <= size <= 8, 0 <= align <= 3) == (True, True)
        elif kind == Kind.BAD_ALLOC:
            assert mode in BAD_REQUESTS
        else:
            assert op == Operation(kind)

    @each_contract
    def test_every_kind_byte(self, name):
        """Each of the 256 kind bytes is understood with the smallest and the largest operand, alive or empty."""
        codec = CODECS[name]
        for byte in range(256):
            for operand in (0, 1, 0xFFF, 0x1000, 0xFFFFFF):
                for names in ([], [4], [7, 9, 2]):
                    op = codec.decode(byte | operand << 8, names, 3)
                    assert op[0] == KINDS[byte] or op == Operation(Kind.NOP)

    @each_contract
    @pytest.mark.parametrize("operand", [0, 1, 0xFFFFFF])
    def test_zero_byte(self, name, operand):
        """Zero is "no operation" for every target, whatever stands in the operand."""
        assert CODECS[name].decode(operand << 8, [1, 2], 3) == Operation(Kind.NOP)

    @given(code=codes)
    @QUICK
    def test_nothing_alive(self, code):
        """With nothing live, no operation names an object but a new one."""
        op = CODECS["contextual"].decode(code, [], 0)
        assert op[1] == 0
        assert op[0] not in ON_OBJECTS

    def test_only_the_low_32_bits_count(self):
        """An integer beyond 32 bits means what its low 32 bits mean."""
        for code in (0x12345601, -1):
            codec = CODECS["tiny"]
            assert codec.decode(code, [5], 6) == codec.decode(code & 0xFFFFFFFF, [5], 6)

    @pytest.mark.parametrize("kind", [Kind.ALLOC, Kind.REALLOC, Kind.FAIL_PAGES, Kind.ON_CPU])
    def test_zero_operand_is_simplest(self, kind):
        """An operand of zero is the least of everything: no bytes, no alignment, no group, first object, first CPU."""
        op = CODECS["contextual"].decode(code_of(kind), [8, 9], 10)
        simplest = {
            Kind.ALLOC: Operation(kind, 10, 0, 1, 0), Kind.REALLOC: Operation(kind, 8, 0),
            Kind.FAIL_PAGES: Operation(kind, 0, 1, 0), Kind.ON_CPU: Operation(kind),
        }  # fmt: skip
        assert op == simplest[kind]

    def test_half_of_all_requests_ask_for_no_alignment(self):
        """Eight of the sixteen alignment selectors mean 1; the rest rise to the largest alignment."""
        for codec in CODECS.values():
            assert codec.aligns[:8] == (1,) * 8
            assert list(codec.aligns) == sorted(codec.aligns)
            largest = codec.contract.max_align
            assert codec.aligns[-1] == 1 << largest.bit_length() - 1
        assert CODECS["contextual"].aligns[8:] == (2, 4, 8, 16, 32, 64, 128, 256)

    def test_context(self):
        """A contextual target's requests come atomic and in every group; another's never do."""
        modes = {CODECS["contextual"].decode(code_of(Kind.ALLOC, place << 12), [], 0)[4] for place in range(4096)}
        assert modes == {group << 1 | atomic for group in range(4) for atomic in (0, ATOMIC)}
        assert {CODECS["tiny"].decode(code_of(Kind.ALLOC, place << 12), [], 0)[4] for place in range(4096)} == {0}


class TestSizes:
    @each_contract
    def test_monotone(self, name):
        """Lowering the size selector never raises the size."""
        sizes = [CODECS[name].size(selector) for selector in range(4096)]
        assert sizes == sorted(sizes)
        assert sizes[0] == 0

    @each_contract
    def test_every_size_is_reachable(self, name):
        """Every size of the palette has a selector of its own, and nothing else is ever asked for."""
        codec = CODECS[name]
        assert {codec.size(selector) for selector in range(4096)} == set(codec.sizes)
        assert all(codec.size(codec.selector(size)) == size for size in codec.sizes)

    @each_contract
    def test_edges(self, name):
        """The palette holds 0, 1, every limit and the maximum with their neighbours, and powers of two with theirs."""
        contract = CONTRACTS[name]
        sizes, largest = set(CODECS[name].sizes), contract.largest or 1 << 16
        assert {0, 1, largest - 1, largest, largest + 1} <= sizes
        for edge in (*contract.limits, *(1 << k for k in range(1, largest.bit_length()))):
            assert {size for size in (edge - 1, edge, edge + 1) if 0 <= size <= largest} <= sizes

    @each_contract
    def test_neighbours_of_word_sizes(self, name):
        """The palette ends with the neighbours of 2**32 and 2**64, as far as they exceed what is served."""
        codec = CODECS[name]
        largest = codec.contract.largest or 1 << 16
        assert {size for size in HUGE if size > largest + 4096} <= set(codec.sizes)
        assert codec.sizes[-1] == (1 << 64) + 1

    @each_contract
    def test_ascending(self, name):
        """The palette rises strictly, so that no selector is wasted on a repetition."""
        sizes = CODECS[name].sizes
        assert all(low < high for low, high in pairwise(sizes))

    def test_granules_and_headers(self):
        """Sizes one granule or one header from a limit are in the palette."""
        sizes = palette(4096, (1000,), 16, 8)
        assert {1000 - 16, 1000 - 8, 1000 + 8, 1000 + 16, 1000 - 8 - 16, 1000 + 8 + 16} <= set(sizes)
        assert 1000 + 7 in sizes  # one below limit + header
        assert 1000 + 7 not in palette(4096, (1000,), 16, 0)

    def test_no_gap_in_the_tail(self):
        """Between 64 bytes and the maximum no size of the palette exceeds the one before by more than a fifteenth."""
        sizes = [size for size in palette(1 << 20, (), 1, 0) if 64 <= size <= 1 << 20]
        assert all(high <= low * 16 / 15 for low, high in pairwise(sizes))

    @given(codec=codecs, size=st.integers(0, 1 << 65))
    @QUICK
    def test_nearest(self, codec, size):
        """The selector of any size gives the palette's nearest size; of a palette size, that size."""
        found = codec.size(codec.selector(size))
        assert abs(found - size) == min(abs(other - size) for other in codec.sizes)


class TestEncode:
    @given(codec=codecs, code=codes, names=live_lists, birth=st.integers(0, 1 << 20))
    @settings(QUICK, max_examples=600)
    def test_round_trip(self, codec, code, names, birth):
        """What an integer means, the integer nearest to that meaning means too."""
        op = codec.decode(code, names, birth)
        assert codec.decode(codec.encode(op, names), names, birth) == op

    @each_contract
    def test_round_trip_of_every_kind(self, name):
        """Every kind that a contract can be asked for survives encoding."""
        codec, names = CODECS[name], list(range(10, 20))
        for kind in Kind:
            for operand in (0, 1, 5, 9, 0x1003, 0x2004, 0x3001, 0x4002, 0x7000, 0xE005, 0xFFF003, 0xFFFFFF):
                op = codec.decode(code_of(kind, operand), names, 77)
                assert codec.decode(codec.encode(op, names), names, 77) == op

    @given(codec=codecs, live=st.integers(0, 8), op=odd_operations())
    @settings(QUICK, max_examples=400)
    @example(CODECS["pages"], 0, Operation(Kind.FAIL_PAGES, size=0))
    @example(CODECS["pages"], 0, Operation(Kind.ON_CPU, mode=1 << 40))
    def test_any_operation_fits_in_32_bits(self, codec, live, op):
        """Every operation of a trace, however odd, has an integer of 32 bits."""
        assert 0 <= codec.encode(op, range(live)) < 1 << 32

    @pytest.mark.parametrize(
        "op",
        [
            Operation(Kind.FREE, 5), Operation(Kind.REALLOC, 5, 8), Operation(Kind.LINK, 5, 1),
            Operation(Kind.MAINTAIN, mode="unheard-of"), Operation(Kind.BAD_FREE, 1, mode="unheard-of"),
            Operation(Kind.BAD_ALLOC, mode="unheard-of"), Operation(Kind.BAD_FREE, 5, mode="double"),
        ],
        ids=str,
    )  # fmt: skip
    def test_nothing_near(self, op):
        """An operation on an object that is not live, or of an unknown sort, becomes "no operation"."""
        assert CODECS["contextual"].encode(op, [1, 2]) == 0

    def test_lost_partner(self):
        """A link to an object that is gone becomes a link to the first one that is live."""
        codec = CODECS["tiny"]
        code = codec.encode(Operation(Kind.LINK, 2, 99), [1, 2])
        assert codec.decode(code, [1, 2], 3) == Operation(Kind.LINK, 2, 1)

    def test_nearest_alignment(self):
        """An alignment between two that can be asked for becomes the stricter; beyond all, the strictest."""
        codec = CODECS["contextual"]
        for asked, given_back in ((1, 1), (3, 4), (64, 64), (65, 128), (1 << 20, 256)):
            code = codec.encode(Operation(Kind.ALLOC, 0, 8, asked), [])
            assert codec.decode(code, [], 0)[3] == given_back

    def test_nearest_page_failure(self):
        """Page failures beyond eight requests or order 3 become eight and order 3; none becomes one."""
        codec = CODECS["pages"]
        for asked, near in (((20, 9), (8, 3)), ((0, 0), (1, 0)), ((8, 3), (8, 3))):
            code = codec.encode(Operation(Kind.FAIL_PAGES, size=asked[0], align=asked[1]), [])
            assert codec.decode(code, [], 0)[2:4] == near

    def test_nearest_bad_request(self):
        """A size or alignment that makes no sense becomes the nearest one of the table, of the same sort."""
        codec = CODECS["contextual"]
        huge = Operation(Kind.BAD_ALLOC, 0, (1 << 63) + 5, 1, "huge")
        assert codec.decode(codec.encode(huge, []), [], 0) == huge._replace(size=1 << 63)
        odd = Operation(Kind.BAD_ALLOC, 0, 1000, 500, "align")
        assert codec.decode(codec.encode(odd, []), [], 0) == odd._replace(align=513)

    def test_bad_alignments_are_bad(self):
        """Every alignment that a bad request asks for is no power of two, or zero."""
        for codec in CODECS.values():
            for high in range(5):
                op = codec.decode(code_of(Kind.BAD_ALLOC, (2 + 3 * high) << 12), [], 0)
                assert op[4] == "align"
                assert op[3].bit_count() != 1

    def test_huge_is_beyond_the_largest(self):
        """Every size that a huge request asks for exceeds what a bounded target serves, but those below its maximum."""
        codec = CODECS["contextual"]
        asked = {codec.decode(code_of(Kind.BAD_ALLOC, 1 << 12 | low), [], 0)[2] for low in range(64)}
        assert asked == {codec.contract.largest + 1, *HUGE}
