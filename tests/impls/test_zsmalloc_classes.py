"""Size classes, chains, merging and locations of zsmalloc, held against published figures."""

from collections import Counter

import pytest

from heaplaw.impls.zsmalloc_classes import (
    ALMOST_EMPTY,
    ALMOST_FULL,
    EMPTY,
    FULL,
    chain_by_percent,
    chain_by_waste,
    class_index,
    class_size,
    class_table,
    decode_location,
    direct_index_bits,
    encode_location,
    fullness_group,
    handle_to_location,
    index_bits,
    last_index,
    location_to_handle,
    size_step,
    used_percent,
)

CONFIGURATIONS = [
    (page_size, chain, word, rule)
    for page_size in (64, 256, 1024, 4096, 65536)
    for chain in (1, 2, 4, 8, 16)
    for word in (4, 8)
    for rule in ("percent", "exact")
]


@pytest.fixture(scope="module")
def table():
    return class_table(4096, 4, 8, "percent")


class TestPublishedFigures:
    def test_255_classes(self, table):
        """Pages of 4096 bytes give 255 classes, 32 to 4096 in steps of 16."""
        assert size_step(4096) == 16
        assert last_index(4096, 16) == 254
        assert [class_size(index, 4096, 16) for index in (0, 1, 254)] == [32, 48, 4096]
        assert len(table.by_index) == 255

    def test_69_after_merging(self, table):
        """69 of them remain: 20 of one page, 12 of two, 19 of three, 18 of four."""
        assert len(table.distinct) == 69
        assert Counter(kind.pages for kind in table.distinct) == {1: 20, 2: 12, 3: 19, 4: 18}

    def test_largest_classes(self, table):
        """The largest classes with their pages and objects."""
        assert [(kind.size, kind.pages, kind.objects) for kind in table.distinct[:-12:-1]] == [
            (4096, 1, 1), (3264, 4, 5), (3072, 3, 4), (2720, 2, 3), (2448, 3, 5), (2336, 4, 7), (2048, 1, 2),
            (1808, 4, 9), (1744, 3, 7), (1632, 2, 5), (1536, 3, 8),
        ]  # fmt: skip

    def test_2064(self, table):
        """Class 2064 by itself: 4 pages, 7 objects, 1936 bytes (11 %) left over, as in the seed posting."""
        assert [used_percent(2064, pages, 4096) for pages in (1, 2, 3, 4)] == [50, 75, 83, 88]
        assert chain_by_percent(2064, 4096, 4) == 4
        assert 4 * 4096 // 2064 == 7
        assert 4 * 4096 % 2064 == 1936
        assert 1936 * 100 // 16384 == 11

    def test_2064_is_merged_into_2336(self, table):
        """With merging it is served by class 2336: 4 pages, 7 objects, 32 bytes left over."""
        kind = table.of(2064 - 8)
        assert (kind.size, kind.pages, kind.objects, kind.tail) == (2336, 4, 7, 32)

    def test_three_eighths_of_a_page(self):
        """Objects of 3/8 page take 3 pages and fill them with 8, as the source's comment says."""
        assert chain_by_percent(4096 * 3 // 8, 4096, 4) == 3
        assert 3 * 4096 // 1536 == 8

    def test_huge_class_size(self, table):
        """Requests from 3264 - 7 = 3257 bytes get a page to themselves, and none below does."""
        assert table.huge_class_size == 3257
        assert table.of(3257).huge
        assert not table.of(3256).huge
        assert not any(table.of(size).huge for size in range(1, 3257))

    def test_small_classes(self, table):
        """32 bytes: 128 on a page; 208 bytes: 39 on two pages."""
        assert (table.of(24).size, table.of(24).objects, table.of(24).pages) == (32, 128, 1)
        assert (table.of(200).size, table.of(200).objects, table.of(200).pages) == (208, 39, 2)

    def test_worst_waste(self, table):
        """The worst request of all is 3257 bytes, which leave 839 of their page unused."""
        assert max((table.of(size).payload - size, size) for size in range(1, 4097)) == (839, 3257)

    def test_padding_without_merging(self):
        """Without merging the padding is below 16 bytes, and up to 31 below the smallest class."""
        sizes = {size: class_size(class_index(size, 8, 16, 254), 4096, 16) for size in range(1, 4089)}
        assert max(slot - size - 8 for size, slot in sizes.items() if size > 24) == 15
        assert sizes[1] - 1 == 31

    def test_class_of_every_need(self):
        """Need is size + 8; index 0 up to a need of 32, then ceil((need - 32) / 16), at most 254."""
        for size in range(1, 4097):
            need = size + 8
            assert class_index(size, 8, 16, 254) == (0 if need <= 32 else min(254, -(-(need - 32) // 16)))

    def test_unmerged(self):
        """Unmerged, all 255 classes stay, and class 2064 is one of them; without a word in front it serves 2064."""
        table = class_table(4096, 4, 8, "percent", 0, False)
        assert len(table.distinct) == 255
        kind = table.of(2064)
        assert (kind.size, kind.payload, kind.pages, kind.objects, kind.tail) == (2064, 2064, 4, 7, 1936)
        assert (table.of(32).size, table.of(33).size, table.of(4096).size) == (32, 48, 4096)

    def test_tail_of_every_class(self, table):
        """What a zspage wastes at its end is its bytes modulo the size."""
        assert all(kind.tail == 4096 * kind.pages % kind.size for kind in table.distinct)

    def test_slots_by_page(self, table):
        """Every slot is among those that begin on its page, and no slot on two pages."""
        for kind in table.distinct:
            slots = [slot for page in range(kind.pages) for slot in kind.on_page(page)]
            assert slots == list(range(kind.objects))
            assert [kind.page_of[slot] for slot in slots] == [
                page for page in range(kind.pages) for _ in kind.on_page(page)
            ]


    @pytest.mark.parametrize("rule", ["percent", "exact"])
    @pytest.mark.parametrize(("page_size", "word"), [(64, 8), (256, 4), (4096, 8), (16384, 8)])
    def test_something_begins_on_every_page(self, rule, page_size, word):
        """No chain has a page where no slot begins: without it the chain would be as good."""
        for chain in range(1, 17):
            for kind in class_table(page_size, chain, word, rule, 1, False).distinct:
                assert all(len(kind.on_page(page)) > 0 for page in range(kind.pages))


class TestChainRules:
    def test_percent_ties_hide_a_better_chain(self):
        """Class 208: whole percents tie at 99, so 2 pages waste 80 bytes where 3 would waste 16."""
        assert [used_percent(208, pages, 4096) for pages in (1, 2, 3, 4)] == [96, 99, 99, 99]
        assert chain_by_percent(208, 4096, 4) == 2
        assert chain_by_waste(208, 4096, 4) == 3
        assert (2 * 4096 % 208, 3 * 4096 % 208) == (80, 16)

    def test_the_rules_differ_in_one_class_of_69(self, table):
        """For chains of up to 4 pages the exact rule gives the same 69 sizes; only 208 has another chain."""
        exact = class_table(4096, 4, 8, "exact")
        assert [kind.size for kind in exact.distinct] == [kind.size for kind in table.distinct]
        chains = zip(exact.distinct, table.distinct, strict=True)
        assert [(e.size, e.pages, p.pages) for e, p in chains if e.pages != p.pages] == [(208, 3, 2)]

    def test_chain_of_8(self):
        """Chains of up to 8 pages leave 119 classes and make requests huge from 3625 bytes."""
        table = class_table(4096, 8, 8, "exact")
        assert len(table.distinct) == 119
        assert table.huge_class_size == 3625

    @pytest.mark.parametrize("chain", [4, 8, 16])
    def test_exact_is_the_least_waste(self, chain):
        """No chain wastes less than that of the exact rule, and no shorter one wastes as little."""
        for size in range(32, 4097, 16):
            pages = chain_by_waste(size, 4096, chain)
            waste = pages * 4096 % size
            assert all(other * 4096 % size >= waste for other in range(1, chain + 1))
            assert all(other * 4096 % size > waste for other in range(1, pages))


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_every_table_is_sound(configuration):
    """Every request fits its class, classes ascend, slots lie apart, first words never straddle."""
    page_size, chain, word, _ = configuration
    table = class_table(*configuration)
    sizes = [kind.size for kind in table.distinct]
    assert sizes == sorted(set(sizes))
    assert sizes[-1] == page_size
    for kind in table.distinct:
        assert 1 <= kind.pages <= chain
        assert kind.objects * kind.size + kind.tail == kind.pages * page_size
        assert kind.tail < kind.size
        assert kind.size % 8 == 0
        assert kind.objects <= 1 << index_bits(page_size.bit_length() - 1, word)
        assert all(offset % word == 0 and offset + word <= page_size for offset in kind.offset_of)
        starts = [page * page_size + offset for page, offset in zip(kind.page_of, kind.offset_of, strict=True)]
        assert starts == [slot * kind.size for slot in range(kind.objects)]
    for size in range(1, page_size + 1, 1 if page_size <= 4096 else 37):
        kind = table.of(size)
        assert kind.payload >= size
        assert kind.index >= class_index(size, word, table.step, table.last)


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_merged_classes_have_the_same_pages_and_objects(configuration):
    """A class is served by a larger one only where both hold as many objects on as many pages."""
    page_size, chain, _, rule = configuration
    table = class_table(*configuration)
    choose = {"percent": chain_by_percent, "exact": chain_by_waste}[rule]
    for index, kind in enumerate(table.by_index):
        size = class_size(index, page_size, table.step)
        assert size <= kind.size
        assert (choose(size, page_size, chain), kind.pages * page_size // size) == (kind.pages, kind.objects)


class TestEncoding:
    @pytest.mark.parametrize(("word", "bits"), [(8, 23), (4, 11)])
    def test_index_bits(self, word, bits):
        """64-bit words leave 23 bits for the index, 32-bit words 11."""
        assert index_bits(12, word) == bits

    def test_round_trip(self):
        """A location is the page and the index again, fits its word and leaves the tag bit clear."""
        for word in (4, 8):
            bits = index_bits(12, word)
            for pfn in (0, 1, 255, (1 << 20) - 1):
                for index in (0, 1, 127, (1 << bits) - 1):
                    location = encode_location(pfn, index, bits)
                    assert decode_location(location, bits) == (pfn, index)
                    assert location & 1 == 0
                    assert location < 1 << 8 * word

    @pytest.mark.parametrize(("word", "bits"), [(8, 24), (4, 12)])
    def test_handles_that_are_places(self, word, bits):
        """Before 4.1 there was no tag bit, and the index was raised by one: no handle is 0, all lead back."""
        assert direct_index_bits(12, word) == bits
        for pfn in (0, 1, 255, (1 << 20) - 1):
            for index in (0, 1, 127):
                handle = location_to_handle(pfn, index, bits)
                assert handle_to_location(handle, bits) == (pfn, index)
                assert 0 < handle < 1 << 8 * word
        assert handle_to_location(0, bits) == (0, -1)


class TestFullness:
    def test_groups(self):
        """0 is empty, n is full, up to 3n/4 almost empty, above almost full."""
        assert [fullness_group(inuse, 7) for inuse in range(8)] == [EMPTY] + 5 * [ALMOST_EMPTY] + [ALMOST_FULL, FULL]
        assert [fullness_group(inuse, 1) for inuse in (0, 1)] == [EMPTY, FULL]

    def test_a_quarter_before_compaction(self):
        """Before 4.1, as the comment in the source says to this day, almost empty reached up to n/4."""
        groups = [fullness_group(inuse, 8, 1) for inuse in range(9)]
        assert groups == [EMPTY] + 2 * [ALMOST_EMPTY] + 5 * [ALMOST_FULL] + [FULL]

    def test_one_object_of_many_is_not_empty(self):
        """A single object among 127 keeps its zspage out of the empty group."""
        assert fullness_group(1, 127) == ALMOST_EMPTY
