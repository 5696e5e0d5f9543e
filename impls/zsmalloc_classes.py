"""The tables of zsmalloc: size classes, chains of pages, merging, locations.  Plain integers.

A *size class* serves all requests up to its size from *zspages*: chains of one to
``chain`` single pages, not contiguous, on which objects lie end to end and may
straddle from one page to the next::

    class 2336        page 7              page 3              page 12             page 4
    4 pages   |  0   |  1   ||1 |  2  |  3  ||3|  4 ...

Which chain length a class takes decides what is wasted at its end.  Two rules:

* ``percent`` (2011 to 6.2): the shortest chain with the highest used share in
  whole percent.  Whole percents tie, so that class 208 takes 2 pages (80 bytes
  wasted) though 3 would waste 16.
* ``exact`` (from 6.3): the shortest chain with the fewest wasted bytes.

Classes that would hold equally many objects on equally many pages are merged into
the largest of them (from 3.19).

An object's place is encoded in one word, in two ways.  From 4.1 it is the page where its
zspage's slot begins and the slot's index in the *zspage*, above a tag bit.  Before, it was
the handle itself: a page and one plus the index of the slot among those that begin on that
*page*.  The one makes sure that no handle is 0.

Source: ``get_size_class_index``, ``get_pages_per_zspage``, ``zs_create_pool`` and
the location encoding of ``mm/zsmalloc.c``, Linux 6.1; ``calculate_zspage_chain_size``
of 6.3 for the exact rule; ``obj_location_to_handle`` and ``obj_handle_to_location``
of 3.12 for handles that are places.

>>> table = class_table(4096, 4, 8, "percent")
>>> len(table.by_index), len(table.distinct)
(255, 69)
>>> table.of(2000).size, table.of(2000).pages, table.of(2000).objects
(2048, 1, 2)
"""

from array import array
from collections.abc import Callable
from functools import lru_cache

ALIGN = 8  # class sizes are multiples, so that a link word never straddles two pages
CLASS_BITS = 8  # the steps between class sizes: page size >> CLASS_BITS
MIN_SIZE = 32  # smallest class
MAX_CHAIN = 16
TAG_BITS = 1  # lowest bit of a slot's first word: the slot is in use
PHYSICAL_BITS = {8: 52, 4: 32}  # bits of a physical address, by bytes of a word
FULLNESS_FRACTION = 4
SPARSE_QUARTERS = 3  # an almost empty zspage is full to at most so many quarters
DIRECT_SPARSE_QUARTERS = 1  # ... before 4.1

EMPTY, ALMOST_EMPTY, ALMOST_FULL, FULL = range(4)
GROUP_NAMES = ("empty", "almost empty", "almost full", "full")


# ---- sizes ---------------------------------------------------------------------------------


def size_step(page_size: int) -> int:
    """Bytes between neighbouring class sizes.  O(1)."""
    return max(ALIGN, page_size >> CLASS_BITS)


def class_index(size: int, header: int, step: int, last: int) -> int:
    """Index, before merging, of the class for a request of ``size`` bytes.  O(1).

    ``header`` is the handle word in front of the object, ``last`` the highest index:
    requests that the word pushes beyond a page go there, where it is kept elsewhere.

    >>> [class_index(size, 8, 16, 254) for size in (1, 24, 25, 40, 41, 4072, 4096)]
    [0, 0, 1, 1, 2, 253, 254]
    """
    return min(last, max(0, size + header - MIN_SIZE + step - 1) // step)


def last_index(page_size: int, step: int) -> int:
    """Index of the class of whole pages.  O(1)."""
    return (page_size - MIN_SIZE + step - 1) // step


def class_size(index: int, page_size: int, step: int) -> int:
    """Bytes of a slot of the class with this index.  O(1)."""
    return min(page_size, MIN_SIZE + index * step)


# ---- chains --------------------------------------------------------------------------------


def used_percent(size: int, pages: int, page_size: int) -> int:
    """Share of a chain that its objects fill, in whole percent, rounded down.  O(1)."""
    whole = pages * page_size
    return (whole - whole % size) * 100 // whole


def chain_by_percent(size: int, page_size: int, chain: int) -> int:
    """Pages of a zspage by the rule of whole percents.  O(chain)."""
    best, pages = 0, 1
    for candidate in range(1, chain + 1):
        percent = used_percent(size, candidate, page_size)
        if percent > best:
            best, pages = percent, candidate
    return pages


def chain_by_waste(size: int, page_size: int, chain: int) -> int:
    """Pages of a zspage by the rule of fewest wasted bytes.  O(chain)."""
    return min(range(1, chain + 1), key=lambda pages: (pages * page_size) % size)


CHAIN_RULES: dict[str, Callable[[int, int, int], int]] = {"percent": chain_by_percent, "exact": chain_by_waste}


# ---- places --------------------------------------------------------------------------------


def index_bits(page_shift: int, word: int) -> int:
    """Bits left for a slot's index beside the page number and the tag.  O(1)."""
    return word * 8 - (PHYSICAL_BITS[word] - page_shift) - TAG_BITS


def encode_location(pfn: int, index: int, bits: int) -> int:
    """Page where a slot begins and the slot's index in its zspage, in one word.  O(1).

    >>> decode_location(encode_location(5, 3, 23), 23)
    (5, 3)
    """
    return ((pfn << bits) | (index & ((1 << bits) - 1))) << TAG_BITS


def decode_location(location: int, bits: int) -> tuple[int, int]:
    """Page and index of ``encode_location``.  O(1)."""
    return location >> (bits + TAG_BITS), (location >> TAG_BITS) & ((1 << bits) - 1)


def direct_index_bits(page_shift: int, word: int) -> int:
    """Bits left for a slot's index beside the page number alone, as before 4.1.  O(1)."""
    return word * 8 - (PHYSICAL_BITS[word] - page_shift)


def location_to_handle(pfn: int, index: int, bits: int) -> int:
    """The handle, before 4.1, of the ``index``-th slot that begins on a page; never 0.  O(1).

    >>> location_to_handle(0, 0, 24), handle_to_location(location_to_handle(5, 3, 24), 24)
    (1, (5, 3))
    """
    return (pfn << bits) | ((index + 1) & ((1 << bits) - 1))


def handle_to_location(handle: int, bits: int) -> tuple[int, int]:
    """Page and index of ``location_to_handle``; an index of -1 for what is no handle.  O(1)."""
    return handle >> bits, (handle & ((1 << bits) - 1)) - 1


def fullness_group(inuse: int, objects: int, quarters: int = SPARSE_QUARTERS) -> int:
    """Group of a zspage with ``inuse`` of ``objects`` slots in use.  O(1).

    Almost empty reaches up to three quarters from 4.1 on, when compaction came; the comment
    in the source still says one quarter, which is what the code did before.
    """
    if inuse == 0:
        return EMPTY
    if inuse == objects:
        return FULL
    if inuse <= quarters * objects // FULLNESS_FRACTION:
        return ALMOST_EMPTY
    return ALMOST_FULL


# ---- tables --------------------------------------------------------------------------------


class SizeClass:
    """What is fixed about a class: sizes in bytes, and where its slots lie in a zspage."""

    __slots__ = (
        "first_on", "header", "huge", "index", "links", "objects", "offset_of", "offsets", "page_of", "pages",
        "payload", "size", "tail", "word_of",
    )  # fmt: skip

    def __init__(self, index: int, size: int, pages: int, page_size: int, word: int, header: int) -> None:
        self.index, self.size, self.pages = index, size, pages
        self.objects = pages * page_size // size
        self.tail = pages * page_size - self.objects * size  # bytes that no object reaches
        self.huge = pages == 1 and self.objects == 1  # the handle is kept beside the page
        self.header = 0 if self.huge else header
        self.payload = size - self.header
        starts = [slot * size for slot in range(self.objects)]
        self.page_of = [start // page_size for start in starts]  # which page of the chain
        self.offset_of = [start % page_size for start in starts]  # where in it, in bytes
        self.word_of = [offset // word for offset in self.offset_of]  # ... in words
        self.offsets = frozenset(self.offset_of)
        self.first_on = [-(-page * page_size // size) for page in range(pages)]  # first slot to begin on a page
        self.links = [self._links_on(page, word) for page in range(pages)]

    def on_page(self, page: int) -> range:
        """The slots that begin on a page of the chain, one at least.  O(1).

        Both rules prefer a chain without its last page to one where nothing begins there: it
        loses one slot, of a page at most.
        """
        end = self.first_on[page + 1] if page + 1 < self.pages else self.objects
        return range(self.first_on[page], min(end, self.objects))

    def whole_on(self, page: int, page_size: int) -> int:
        """How many of the slots that begin on a page of the chain end on it too.  O(1)."""
        slots = self.on_page(page)
        return len(slots) - (self.offset_of[slots[-1]] + self.size > page_size)

    def _links_on(self, page: int, word: int) -> tuple[int, memoryview]:
        """Offset in words of the first slot on a page, and the link words of a new zspage there."""
        slots = self.on_page(page)
        end = ~(-1 << 8 * word) >> TAG_BITS  # -1 without its tag bit
        following = [slot + 1 if slot + 1 < self.objects else end for slot in slots]
        image = array("Q" if word == 8 else "I", [slot << TAG_BITS for slot in following])
        return self.word_of[slots[0]], memoryview(image)


class ClassTable:
    """All classes of a configuration; ``by_index`` leads merged indexes to the class they share."""

    def __init__(self, page_size: int, chain: int, word: int, rule: str, header: int, merge: bool) -> None:
        self.page_size, self.word, self.header = page_size, word, header
        self.step = size_step(page_size)
        self.last = last_index(page_size, self.step)
        choose = CHAIN_RULES[rule]
        self.by_index: list[SizeClass] = []
        for index in range(self.last, -1, -1):  # from the largest down: it is the one that stays
            size = class_size(index, page_size, self.step)
            pages = choose(size, page_size, chain)
            if merge and self.by_index:
                previous = self.by_index[-1]
                if previous.pages == pages and previous.objects == pages * page_size // size:
                    self.by_index.append(previous)
                    continue
            self.by_index.append(SizeClass(index, size, pages, page_size, word, header))
        self.by_index.reverse()
        self.distinct = [kind for index, kind in enumerate(self.by_index) if kind.index == index]

    def of(self, size: int) -> SizeClass:
        """The class for a request of ``size`` bytes.  O(1)."""
        return self.by_index[class_index(size, self.header, self.step, self.last)]

    @property
    def huge_class_size(self) -> int:
        """Requests of at least this many bytes get a page to themselves; 0 if that is so for none.

        The largest class of several objects on several pages is what the bound is taken
        from, so a configuration without such a class has none.
        """
        for kind in reversed(self.distinct):
            if kind.pages != 1 and kind.objects != 1:
                return kind.size - self.header + 1
        return 0


@lru_cache(maxsize=64)
def class_table(
    page_size: int, chain: int, word: int, rule: str, handle_words: int = 1, merge: bool = True
) -> ClassTable:
    """The table that all pools of one configuration share.  O(classes * (chain + objects)).

    ``handle_words``: words kept in front of an object, 1 or (before 4.1) 0.
    """
    return ClassTable(page_size, chain, word, rule, handle_words * word, merge)
