"""zsmalloc before compaction: the handle of an object is the place where it lies.

Era: 2012 to 4.0.  Source: ``drivers/staging/zsmalloc`` and ``mm/zsmalloc.c`` of Linux 3.8 to
3.18; the merging of classes, which is a parameter here, came with 3.19.

A handle is the page where the object begins and one plus its index among the objects that
begin there, so that none is 0 though the page may be.  Nothing stands in front of an object,
which has its whole slot.  Links in free slots are handles too, and 0 ends the chain::

    page        7 | slot 0 | slot 1 | slot      9 | 2 | slot 3 | slot 4 |
    handle         7,0+1    7,1+1    7,2+1             9,0+1    9,1+1
    free          [ handle of the next free slot |       dead        ]
    live          [                   payload                       ]

An object therefore cannot move, and there is no compaction.  What a slot holds does not say
whether it is in use, so nothing notices a wrong handle, unless it is of a page or an index
that the pool does not have.  The first word of an object just served is poisoned (0x5a).

Zspages stand on two lists only, of almost full ones (above a quarter) and almost empty ones;
full ones are found through their pages.

>>> from heaplaw.impls.zsmalloc import Zsmalloc
>>> pool = Zsmalloc(pages=8, handles="direct", merge=0)
>>> [pool.alloc(2064) for _ in range(3)] == [(0 << 24) + 1, (0 << 24) + 2, (1 << 24) + 1]
True
>>> pool.counters()["pages"], pool.counters()["free_bytes"]       # 7 slots on 4 pages
(4, 8256)
"""

from array import array
from collections.abc import Iterator

from heaplaw import InvalidFree, Maintained

from .zsmalloc import Zsmalloc
from .zsmalloc_classes import (
    DIRECT_SPARSE_QUARTERS,
    FULL,
    direct_index_bits,
    handle_to_location,
    location_to_handle,
)
from .zsmalloc_zspages import TwoListPoolClass, Zspage

_POISON_INUSE = {word: int.from_bytes(b"\x5a" * word, "little") for word in (4, 8)}


class DirectZsmalloc(Zsmalloc):
    """A pool whose handles are places; made by ``Zsmalloc(handles="direct")``."""

    _handles = "direct"
    _PoolClass = TwoListPoolClass
    _quarters = DIRECT_SPARSE_QUARTERS
    _bits_of_index = staticmethod(direct_index_bits)
    _encode = staticmethod(location_to_handle)
    _decode = staticmethod(handle_to_location)

    def maintain(self, kind: str) -> Maintained:
        """Raises ValueError: objects whose handles are places cannot move."""
        raise ValueError(f"zsmalloc with direct handles knows no maintenance, not {kind!r} either")

    # ---- zspages -----------------------------------------------------------------------

    def _init_zspage(self, zspage: Zspage) -> None:
        """Chain all slots of a new zspage, ascending; each link is the next slot's handle."""
        kind, words, bits = zspage.kind, self._words, self._index_bits
        step, code = kind.size // self._word, words.format
        for number, page in enumerate(zspage.pages):
            slots = kind.on_page(number)
            first = self._encode(page, 0, bits)
            links = array(code, range(first + 1, first + 1 + len(slots)))
            last = slots[-1] + 1 == kind.objects
            links[-1] = 0 if last else self._encode(zspage.pages[number + 1], 0, bits)
            start = page * self._page_words + kind.word_of[slots[0]]
            words[start : start + len(slots) * step : step] = memoryview(links)
        zspage.freeobj = self._encode(zspage.pages[0], 0, bits)

    def _members(self) -> Iterator[tuple[Zspage, int]]:
        """Every zspage and its group: those on lists, then the full ones by page."""
        yield from self._listed()
        for page, zspage in enumerate(self._zspage_of):
            if zspage is not None and zspage.group == FULL and zspage.pages[0] == page:
                yield zspage, FULL

    # ---- objects -----------------------------------------------------------------------

    def _place(self, zspage: Zspage) -> int:
        """Take the first free slot, whose handle the zspage has."""
        handle = zspage.freeobj
        page, index = self._decode(handle, self._index_bits)
        word = self._first_word(zspage, page, self._slot(zspage, page, index))
        zspage.freeobj = self._words[word]
        self._words[word] = _POISON_INUSE[self._word]
        zspage.inuse += 1
        return handle

    def _obj_free(self, zspage: Zspage, page: int, index: int) -> None:
        """Put a slot in front of the free ones."""
        self._words[self._first_word(zspage, page, index)] = zspage.freeobj
        number = zspage.pages.index(page)
        zspage.freeobj = self._encode(page, index - zspage.kind.first_on[number], self._index_bits)
        zspage.inuse -= 1

    def _find_object(self, handle: int) -> tuple[Zspage, int, int]:
        """Zspage, page and slot of a handle, whether or not there is an object.

        Raises InvalidFree where the pool has no such page or the page no such slot.
        """
        page, index = self._decode(handle, self._index_bits)
        zspage = self._zspage_of[page] if 0 <= page < len(self._zspage_of) else None
        if zspage is None:
            raise InvalidFree(f"handle {handle} names page {page}, which is not in use")
        slots = zspage.kind.on_page(zspage.pages.index(page))
        if not 0 <= index < len(slots):
            raise InvalidFree(f"handle {handle} names object {index} of page {page}, where {len(slots)} begin")
        return zspage, page, slots[index]

    def _free_handle(self, handle: int) -> None:
        """There is nothing to a handle that could be freed."""

    @staticmethod
    def _slot(zspage: Zspage, page: int, index: int) -> int:
        """Number in the zspage of the ``index``-th slot that begins on a page.  O(pages of the zspage)."""
        return zspage.kind.first_on[zspage.pages.index(page)] + index

    def _first_word(self, zspage: Zspage, page: int, slot: int) -> int:
        return page * self._page_words + zspage.kind.word_of[slot]

    # ---- observations ------------------------------------------------------------------

    def _free_slots(self, zspage: Zspage) -> Iterator[int]:
        """Slots along the chain of free ones.  RuntimeError if it does not end or leaves the zspage."""
        handle = zspage.freeobj
        for _ in range(zspage.kind.objects + 1):
            if handle == 0:
                return
            page, index = self._decode(handle, self._index_bits)
            slots = zspage.kind.on_page(zspage.pages.index(page)) if page in zspage.pages else ()
            if not 0 <= index < len(slots):
                raise RuntimeError(f"zspage {zspage.pages} links to object {index} of page {page}, which it has not")
            yield slots[index]
            handle = self._words[self._first_word(zspage, page, slots[index])]
        raise RuntimeError(f"free slots of zspage {zspage.pages} do not end")

    bitmap = None  # type: ignore[assignment]  # a slot does not say whether it is in use

    def metadata(self) -> tuple[int, int]:
        """None: all stands in the kernel's own records of its pages."""
        return 0, 0
