"""Innocents over a page source: what they keep, what they move, what they evict, whom they keep apart.

All are one pool of 32-byte slots, four to a page of 128 bytes; the handle is a number.

>>> pool = KeepsOnePage()
>>> pool.free(pool.alloc(8)); pool.source.held
1
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import count
from typing import Any

from heaplaw import (
    Block,
    Context,
    Contract,
    Extent,
    FreeRegion,
    InvalidFree,
    Maintained,
    PageSource,
    Refusal,
    Request,
    Shadow,
)
from heaplaw.impls.promises import at_most, no_overhead

from . import innocent

PAGES, PAGE, SLOT = 8, 128, 32
SLOTS = PAGE // SLOT  # in a page
_ROOM = PAGES * SLOTS


def has_room(request: Request, shadow: Shadow, source: PageSource | None) -> bool:
    """Is a slot left, or a page to be had?"""
    assert source is not None
    return 0 < request.size <= SLOT and (len(shadow) < source.held * SLOTS or source.can_give(1))


def no_room(request: Request, shadow: Shadow, source: PageSource | None) -> bool:
    """Nothing left at all."""
    return not 0 < request.size <= SLOT or len(shadow) >= _ROOM


def promises(**other: Any) -> Contract:
    """The contract of ``Pool`` with some promises changed; None takes one back."""
    own: dict[str, Any] = {
        "handles": "opaque", "spaces": "pages", "max_size": SLOT, "granule": SLOT, "page_order": 0, "tiled": True,
        "detects": frozenset({"double", "foreign"}), "rejects": frozenset({"zero", "huge"}), "drained_pages": 0,
        "overhead": no_overhead, "waste": lambda size, align: SLOT - size, "drained_size": SLOT,
        "must_serve": has_room, "must_refuse": no_room, "free_then_alloc": True,
        "metadata_bound": lambda shadow, source: 32 * PAGES,
    }  # fmt: skip
    return Contract(**{**own, **other})


class Pool:
    """Lowest free slot of the page taken first; an empty page is given back at once."""

    contract = promises()

    def __init__(self) -> None:
        self.source = self._make_source()
        self._pages: dict[int, list[int | None]] = {}  # page -> handle in each slot
        self._at: dict[int, tuple[int, int]] = {}  # handle -> (page, slot)
        self._births = count()

    def _make_source(self) -> PageSource:
        return PageSource(PAGES, page_size=PAGE)

    # ---- the two operations ------------------------------------------------------------

    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> Any:
        """A number, or why there is none."""
        if not size:
            return Refusal.INVALID
        if size > SLOT:
            return Refusal.TOO_BIG
        page = self._page_for(ctx or Context())
        if page is None:
            return None
        self._settle(name := next(self._births), page)
        return name

    def free(self, handle: Any) -> None:
        """Raises InvalidFree for a number that nobody has."""
        if handle not in self._at:
            raise InvalidFree(f"no object {handle}")
        page, slot = self._at.pop(handle)
        self._pages[page][slot] = None
        if self._is_empty(page):
            self._emptied(page)

    # ---- seams and helpers -------------------------------------------------------------

    def _page_for(self, ctx: Context) -> int | None:
        """A page with a free slot; the first that was taken, or a new one."""
        page = next((page for page in self._pages if None in self._pages[page]), None)
        return self._new_page() if page is None else page

    def _new_page(self) -> int | None:
        page = self.source.take()
        if page is not None:
            self._pages[page] = [None] * SLOTS
        return page

    def _emptied(self, page: int) -> None:
        """The last object of a page is gone."""
        self._give_back(page)

    def _give_back(self, page: int) -> None:
        del self._pages[page]
        self.source.give(page)

    def _is_empty(self, page: int) -> bool:
        return not any(name is not None for name in self._pages[page])

    def _settle(self, name: int, page: int) -> None:
        slot = self._pages[page].index(None)
        self._pages[page][slot], self._at[name] = name, (page, slot)

    def _move(self, name: int, page: int) -> None:
        """Contents and all, to the lowest free slot of another page."""
        data = self.read(name, 0, SLOT)
        old, slot = self._at[name]
        self._pages[old][slot] = None
        self._settle(name, page)
        self.write(name, 0, data)

    def _give_back_empties(self, keep: int = 0) -> int:
        empties = [page for page in self._pages if self._is_empty(page)][keep:]
        for page in empties:
            self._give_back(page)
        return len(empties)

    def _pack(self, movable: Callable[[int], bool] = lambda name: True) -> int:
        """From the pages with the fewest objects to those with the most; how many pages got empty."""
        by_count = sorted(self._pages, key=lambda page: self._pages[page].count(None))
        for source in reversed(by_count):
            for name in [name for name in self._pages[source] if name is not None and movable(name)]:
                into = next((page for page in by_count if page != source and None in self._pages[page]), None)
                if into is None or by_count.index(into) >= by_count.index(source):
                    break
                self._move(name, into)
        return self._give_back_empties()

    # ---- contents and observations -----------------------------------------------------

    def _place(self, handle: Any) -> int:
        page, slot = self._at[handle]
        return page * PAGE + slot * SLOT

    def read(self, handle: Any, at: int, length: int) -> bytes:
        """From the page source's memory."""
        place = self._place(handle) + at
        return bytes(self.source.memory[place : place + length])

    def write(self, handle: Any, at: int, data: bytes) -> None:
        """To the page source's memory."""
        place = self._place(handle) + at
        self.source.memory[place : place + len(data)] = data

    def extents(self, handle: Any) -> tuple[tuple[int, int, int], ...]:
        """The slot."""
        return (Extent(0, self._place(handle), SLOT),)

    def pages(self) -> Iterator[tuple[int, int]]:
        """One by one."""
        return ((page, 1) for page in self._pages)

    def free_regions(self) -> Iterator[FreeRegion]:
        """Free slots, each for itself."""
        for page, slots in self._pages.items():
            for slot, name in enumerate(slots):
                if name is None:
                    yield FreeRegion(0, page * PAGE + slot * SLOT, SLOT)

    def counters(self) -> Mapping[str, int]:
        """Objects and pages."""
        return {"live_objects": len(self._at), "pages": len(self._pages)}

    def metadata(self) -> tuple[int, int]:
        """A table of handles for each page."""
        return 0, 32 * len(self._pages)

    def destroy(self) -> None:
        """Every page back, whatever is in it."""
        for page in list(self._pages):
            self._give_back(page)
        self._at = {}


# ---- what is kept -----------------------------------------------------------------------


@innocent("keeps its last page for ever", "a heap with nothing live may hold what its contract allows")
class KeepsOnePage(Pool):
    """One empty page at most, when nothing lives."""

    contract = promises(drained_pages=1)

    def _emptied(self, page: int) -> None:
        if len(self._pages) > 1:
            self._give_back(page)


@innocent("keeps three empty pages until it is shrunk", "empty pages held are no leak")
class KeepsEmpties(Pool):
    """And none after it."""

    contract = promises(drained_after="shrink", maintenance=("shrink",))

    def _emptied(self, page: int) -> None:
        self._give_back_empties(keep=3)

    def maintain(self, kind: str) -> Maintained:
        """Give all empty pages back."""
        return Maintained(pages_freed=self._give_back_empties())


@innocent("a failed request grows the heap for the next one", "a refusal may take pages; it may come before the growth")
class GrowsOnRefusal(Pool):
    """Refuses when no slot is free, and takes a page for whoever asks again."""

    contract = promises(
        must_serve=lambda request, shadow, source: 0 < request.size <= SLOT and len(shadow) < (source.held - 1) * SLOTS,
        drained_pages=1, drained_size=None, min_size=SLOT + 1,
    )  # fmt: skip

    def _page_for(self, ctx: Context) -> int | None:
        page = next((page for page in self._pages if None in self._pages[page]), None)
        if page is None:
            self._new_page()
        return page

    def _emptied(self, page: int) -> None:
        self._give_back_empties(keep=1)


@innocent("a refused request gives empty pages back", "after a refusal fewer bytes may be free, as many as pages went")
class ShrinksOnRefusal(Pool):
    """Empty pages are kept until a request is refused: one too large, for instance."""

    contract = promises(drained_pages=None)

    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> Any:
        """As ever; and a sign of need."""
        answer = super().alloc(size, align, ctx=ctx)
        if answer is None or isinstance(answer, Refusal):
            self._give_back_empties()
        return answer

    def _emptied(self, page: int) -> None:
        pass


def _reserved(request: Request, shadow: Shadow) -> int:
    return SLOT if len(shadow) < 2 * SLOTS else 0


@innocent("two pages are taken at the start and used last", "what is reserved is served while pages are refused")
class Reserve(Pool):
    """Asks the source first, though it has slots left; eight objects need none of the source's pages."""

    contract = promises(reserve=_reserved, drained_pages=2)

    def __init__(self) -> None:
        super().__init__()
        self._own = (self._new_page(), self._new_page())

    def _page_for(self, ctx: Context) -> int | None:
        open_pages = sorted((page for page in self._pages if None in self._pages[page]), key=self._own.__contains__)
        if not open_pages or open_pages[0] in self._own:
            page = self._new_page()
            return page if page is not None else next(iter(open_pages), None)
        return open_pages[0]

    def _emptied(self, page: int) -> None:
        if page not in self._own:
            self._give_back(page)


# ---- what is moved ----------------------------------------------------------------------

_COMPACTS: dict[str, Any] = {"maintenance": ("compact",), "moving": frozenset({"compact"})}


@innocent("its compaction moves nothing", "to be allowed to move is no duty to move")
class MovesNothing(Pool):
    """It frees the pages that are empty: none are."""

    contract = promises(**_COMPACTS)

    def maintain(self, kind: str) -> Maintained:
        """Look, and leave."""
        return Maintained()


def _fewest(shadow: Shadow) -> int:
    return -(-len(shadow) // SLOTS)


@innocent("its compaction reaches the fewest pages possible", "an exact promise in pages")
class PacksAll(Pool):
    """And what is packed stays where it is."""

    contract = promises(**_COMPACTS, compacted_pages=_fewest)

    def maintain(self, kind: str) -> Maintained:
        """Pack."""
        return Maintained(pages_freed=self._pack())


@innocent("its compaction moves every object, in reverse order, into fresh pages", "places may be swapped and reused")
class MovesEverything(Pool):
    """A copying collector: it does nothing when it does not get all the pages that it copies into."""

    contract = promises(**_COMPACTS)

    def maintain(self, kind: str) -> Maintained:
        """Take all the pages that are needed, or give back those that were got."""
        held, old, fresh = self.source.held, list(self._pages), []
        for _ in range(-(-len(self._at) // SLOTS)):
            page = self._new_page()
            if page is None:
                break
            fresh.append(page)
        else:
            for index, name in enumerate(sorted(self._at, reverse=True)):
                self._move(name, fresh[index // SLOTS])
            fresh = old
        for page in fresh:
            self._give_back(page)
        return Maintained(pages_freed=held - self.source.held)


@innocent("what is mapped cannot be moved", "a pinned object keeps its page; compaction may reach less")
class Pinned(Pool):
    """Compaction packs the others."""

    contract = promises(**_COMPACTS)

    def __init__(self) -> None:
        super().__init__()
        self._pinned: set[int] = set()

    def map(self, handle: Any) -> None:
        """Pin."""
        self._pinned.add(handle)

    def unmap(self, handle: Any) -> None:
        """Unpin."""
        self._pinned.discard(handle)

    def maintain(self, kind: str) -> Maintained:
        """Pack what may be moved."""
        return Maintained(pages_freed=self._pack(lambda name: name not in self._pinned))


@innocent("its compaction empties one page a call", "work in small steps: the next step frees a page again")
class OneStep(Pool):
    """A second call in a row goes on where the first one stopped; its kind is called "step", not "compact"."""

    contract = promises(maintenance=("step",), moving=frozenset({"step"}))

    def maintain(self, kind: str) -> Maintained:
        """Empty the page with the fewest objects, if the others have room for them."""
        fullest_first = sorted(self._pages, key=lambda page: self._pages[page].count(None))
        last = fullest_first[-1:]
        names = [name for page in last for name in self._pages[page] if name is not None]
        if sum(self._pages[page].count(None) for page in fullest_first[:-1]) < len(names):
            return Maintained()
        for name in names:
            self._move(name, next(page for page in fullest_first if None in self._pages[page]))
        return Maintained(pages_freed=self._give_back_empties())


@innocent("one kind of maintenance packs, another spreads", "not all that moves objects is compaction")
class Spreads(Pool):
    """"spread" gives each object a page of its own as far as there are pages; "compact" undoes it."""

    contract = promises(
        maintenance=("compact", "spread"), moving=frozenset({"compact", "spread"}), compacted_pages=_fewest
    )

    def maintain(self, kind: str) -> Maintained:
        """As it is called."""
        if kind == "compact":
            return Maintained(pages_freed=self._pack())
        for page in list(self._pages):
            for name in [name for name in self._pages[page] if name is not None][1:]:
                into = self._new_page()
                if into is None:
                    return Maintained()
                self._move(name, into)
        return Maintained()


# ---- what is evicted --------------------------------------------------------------------


@innocent("reclaim evicts the least recently touched", "an object may end without a free, where that is declared")
class EvictsOldest(Pool):
    """Reads and writes count as touches."""

    contract = promises(maintenance=("reclaim",), evicting=frozenset({"reclaim"}))

    def write(self, handle: Any, at: int, data: bytes) -> None:
        """And now the youngest."""
        super().write(handle, at, data)
        self._at[handle] = self._at.pop(handle)

    def maintain(self, kind: str) -> Maintained:
        """Up to three."""
        gone = tuple(self._at)[:3]
        for name in gone:
            self.free(name)
        return Maintained(evicted=gone)


# ---- who is kept apart ------------------------------------------------------------------


@innocent("each group has pages of its own, and who names none has one alone", "pages may be wasted to be apart")
class Apart(Pool):
    """Nothing is linked; what a group holds depends on its own calls only."""

    contract = promises(
        contextual=True, groups=3, isolated_groups=True, space_deterministic=True, must_serve=None, must_refuse=None,
        metadata_bound=lambda shadow, source: 32 * 8 * PAGES,
    )  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self._owner: dict[int, int] = {}  # page -> group, 0 for an object on its own

    def _make_source(self) -> PageSource:
        return PageSource(8 * PAGES, page_size=PAGE)

    def _page_for(self, ctx: Context) -> int | None:
        mine = (page for page, group in self._owner.items() if group == ctx.group != 0)
        page = next((page for page in mine if None in self._pages[page]), None)
        if page is None and (page := self._new_page()) is not None:
            self._owner[page] = ctx.group
        return page

    def _give_back(self, page: int) -> None:
        super()._give_back(page)
        del self._owner[page]


def _in_its_zone(request: Request, block: Block) -> str | None:
    page = block.extents[0][1] // PAGE
    return "a page of the other node" if request.group and (page >= PAGES // 2) != (request.group == 2) else None


def _zone_has_room(request: Request, shadow: Shadow, source: PageSource | None) -> bool:
    return 0 < request.size <= SLOT and not request.group and has_room(request, shadow, source)


@innocent("two nodes; a group names one, and page 0 is the last that is used", "where it stands may be asked for")
class Nodes(Pool):
    """Who names no node gets any."""

    contract = promises(contextual=True, groups=2, placement=_in_its_zone, must_serve=_zone_has_room)

    def _make_source(self) -> PageSource:
        half = PAGES // 2
        return PageSource(page_size=PAGE, zones=[(0, "normal", half), (1, "normal", half)])

    def _page_for(self, ctx: Context) -> int | None:
        nodes = (1, 0) if not ctx.group else (ctx.group - 1,)
        for node in nodes:
            mine = (page for page in self._pages if (page >= PAGES // 2) == bool(node))
            page = next((page for page in mine if None in self._pages[page]), None)
            if page is not None:
                return page
        for node in nodes:
            page = self.source.take(node=node)
            if page is not None:
                self._pages[page] = [None] * SLOTS
                return page
        return None


@innocent("each object is a run of pages, of order 3 at most", "slack may be as long as the request, and pages high")
class Runs:
    """No slot, no list: the page source's ledger is the heap.  Handles are addresses."""

    contract = Contract(
        spaces="pages", max_size=8 * PAGE, granule=PAGE, page_order=3, drained_pages=0, drained_size=8 * PAGE,
        rejects=frozenset({"zero", "huge"}), waste=lambda size, align: max(PAGE, size), sized_free=True,
        detects=frozenset({"double", "foreign", "interior"}), overhead=no_overhead, tiled=True,
        must_serve=lambda request, shadow, source: _run_fits(request, source),
        metadata_bound=partial(at_most, 0), max_align=PAGE,
    )  # fmt: skip

    def __init__(self) -> None:
        self.source = PageSource(2 * PAGES, page_size=PAGE)

    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> Any:
        """The address of a run."""
        if not size or size > 8 * PAGE:
            return Refusal.TOO_BIG if size else Refusal.INVALID
        page = self.source.take(_order(size))
        return None if page is None else page * PAGE

    def free(self, handle: Any, size: int) -> None:
        """Raises InvalidFree where no run starts."""
        if handle % PAGE or handle // PAGE not in self.source.runs:
            raise InvalidFree(f"no run at {handle}")
        self.source.give(handle // PAGE, self.source.runs[handle // PAGE])

    def extents(self, handle: Any) -> tuple[tuple[int, int, int], ...]:
        """All of the run."""
        return (Extent(0, handle, PAGE << self.source.runs[handle // PAGE]),)

    def free_regions(self) -> Iterator[FreeRegion]:
        """A page that is held is lent."""
        return iter(())

    def pages(self) -> Iterator[tuple[int, int]]:
        """By the ledger."""
        return ((page, 1 << order) for page, order in self.source.runs.items())

    def metadata(self) -> tuple[int, int]:
        """None."""
        return 0, 0

    def destroy(self) -> None:
        """Give all runs back."""
        for page, order in list(self.source.runs.items()):
            self.source.give(page, order)


def _order(size: int) -> int:
    return (-(-size // PAGE) - 1).bit_length()


def _run_fits(request: Request, source: PageSource | None) -> bool:
    assert source is not None
    return 0 < request.size <= 8 * PAGE and source.fits(_order(request.size))
