"""SROG, small related object groups: objects that die together share pages, and the pages go back.

Era: Peter Zijlstra, August 2006, for network buffers when memory is short; never merged.  Source:
``mm/srog.c`` as posted on 12 August 2006 ("[RFC][PATCH 2/4] SROG allocator", ``rev="2006-08-12"``).

A group is a ring of page runs.  Each run begins with a head - links of the ring, the anchor of a
list of free areas, order, flags, a magic number - and is tiled by areas and objects behind it.  An
object's size word in front of it counts itself; an area's size and next pointer take its place::

    0             28      32                                                       4096
    | head        | size  | object ...... | size | object | size|next  free area   |
      anchor -----------------------------------------------^

A request is told any object of its group (the hint; none starts a group).  Pages of the ring are
asked from the hint's on, and of each the areas in their order: the first that is long enough is
cut from its front.  When none is, a run of pages for this size is taken and put behind the hint's.
A free puts the area in its place, merges it, and a run that is one area goes back at once::

    [ free ][ this ][ free ][ obj ]  =>  [ ------- free ------- ][ obj ]
    [ free ][ this ][ free         ]  =>  page given back

That is the description.  The published code does not keep it, which anyone can read in it (and which
is unconfirmed by its author):

- its insertion "sort" stops at once, since the anchor is below every object: areas go to the front,
  never merge backward and seldom forward, and most pages never go back;
- a remainder of 4 bytes becomes an area, whose header of 8 writes over the size of the object behind
  it, or past the run's end;
- a hint is masked to its page, so that one beyond the first page of a run finds no head;
- ``link`` leaves out the second head of a ring of several pages, from which nobody then comes back;
- a page that is refused to a group is used all the same;
- sizes near 2^32 wrap around when the size word is added.

The default is repaired: areas sorted by address, remainders below 8 bytes left with the object, pages
that know their run, whole rings spliced and one group linked to itself left alone, refusals checked.
The posted range test is one byte too generous on both sides; no object can stand there.

The layout is that of a 32-bit machine, pointers being 3 GiB above their place here.  On 64 bits the
size would be at offset 0 of an area and the object at 8, but it is looked for 4 bytes before the
object; that cannot be repaired by little, and is left out.  Flags are kept in the head and mean
nothing.  Groups have names here: the callers' part, keeping a live object for each, is ``GroupHints``.

Complexity: ``alloc`` O(areas of the group), ``free`` O(pages of the group + areas of the page);
speed was declared unimportant, space was not.

>>> heap = Srog(pages=4)
>>> one, two = (heap.alloc(1352, ctx=Context(group=1)) for _ in range(2))
>>> one, two, heap.alloc(1352, ctx=Context(group=2)), heap.source.held
(32, 1388, 4128, 2)
>>> heap.free(one); heap.free(two); heap.source.held
1
"""

from collections.abc import Iterator

from heaplaw.pages import PageSource
from heaplaw.protocol import Context, FreeRegion, InvalidFree, Listed, Refusal

from .bits import highest_bit
from .page_images import PageImages
from .srog_hints import GroupHints
from .srog_promises import HEAD, LEAST_AREA, SIZE_MASK, WORD, configured, order_for, total

MAGIC = 0xF00FDE3D
PAGE_OFFSET = 0xC0000000  # a pointer is the address of a byte plus this; 0 is NULL
_NULL = 0
_LIST_NEXT, _LIST_PREV, _ANCHOR, _ORDER, _FLAGS, _MAGIC = 0, 1, 2, 4, 5, 6  # words of a head
_SIZE, _NEXT = 0, 1  # words of an area; the anchor is one of size 0


class Srog:
    """Groups in the pages of a page source of its own, ``self.source``; ``groups`` of them have names.

    Inside, a head, an area and a pointer are places in words, and a hint is an object's address.
    """

    def __init__(self, pages: int = 256, page_size: int = 4096, groups: int = 3, rev: str = "") -> None:
        self.contract = configured(pages, page_size, groups, rev)
        self.source = PageSource(pages, page_size=page_size)
        self.callers = GroupHints()
        self._published = bool(rev)
        self._page_size, self._page_shift, self._page_words = page_size, highest_bit(page_size), page_size // WORD
        self._words = memoryview(self.source.memory).cast("I")
        self._run_of: list[int | None] = [None] * pages  # a page's descriptor: its run's first page
        self._largest = self.contract.largest
        self._pages_walked = self._areas_walked = self._found = 0

    # ---- interface -------------------------------------------------------------------

    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> int | Refusal | None:
        """Address of ``size`` bytes in a page of the group that ``ctx`` names; None without a page.

        Size 0 takes 12 bytes like size 8.  INVALID for an alignment other than 1, 2 and 4, TOO_BIG
        for more than the longest run holds.  O(areas of the group).
        """
        self._pages_walked = self._areas_walked = self._found = 0
        if size < 0 or align not in (1, 2, WORD):
            return Refusal.INVALID
        name = ctx.group if ctx is not None else 0
        obj = self.srog_alloc(self.callers.of_name(name), size) if size <= SIZE_MASK else None
        if obj is None:
            return Refusal.TOO_BIG if size > self._largest else None
        self.callers.enter(obj, name)
        return obj

    def free(self, handle: int) -> None:
        """Give an object back, by way of the oldest of its group.

        Raises InvalidFree for an address that no page of the group holds, or that has no head.
        """
        self._pages_walked = self._areas_walked = self._found = 0
        self.srog_free(self.callers.of_object(handle), handle)
        self.callers.leave(handle)

    def link(self, handle: int, other: int) -> None:
        """Make one group of two objects' groups.  O(pages of both, objects of the second)."""
        self.srog_link(handle, other)
        self.callers.join(handle, other)

    def read(self, handle: int, at: int, length: int) -> bytes:
        """``length`` bytes from offset ``at`` of a live object.  O(length)."""
        return bytes(self.source.memory[handle + at : handle + at + length])

    def write(self, handle: int, at: int, data: bytes) -> None:
        """Put ``data`` at offset ``at`` of a live object.  ValueError past the memory's end.  O(length)."""
        memoryview(self.source.memory)[handle + at : handle + at + len(data)] = data

    # ---- the three calls of the posting --------------------------------------------------

    def srog_alloc(self, hint: int | None, size: int) -> int | None:
        """An object in the hint's group, or in a new one; None when pages are refused."""
        whole = self._total(size)
        head = self._new_srog(whole) if hint is None else self._srog_of(hint)
        if head is None:
            return None
        for page in self._ring(head):
            obj = self._first_fit(page, whole)
            if obj is not None:
                return obj
        if hint is None:
            raise RuntimeError(f"BUG: a new run has no room for {size} bytes")
        while True:  # once, but for a published size that wraps around with the head
            new = self._new_srog(whole)
            if new is None and not self._published:
                return None
            new = self._used_unchecked(new)
            self._list_add(new, head)
            obj = self._first_fit(new, whole)
            if obj is not None:
                return obj

    def srog_free(self, hint: int | None, obj: int) -> None:
        """Give an object back; no hint: it is in the first page of its run."""
        head = self._page_with(self._srog_of(obj if hint is None else hint), obj)
        area = (obj - WORD) // WORD
        before, after = self._insert(head, area)
        self._merge_forward(area, after)
        self._merge_backward(before, area)
        self._release_if_unused(head)

    def srog_link(self, hint: int, other: int) -> None:
        """Splice the other's ring into the hint's."""
        one, two = self._srog_of(hint), self._srog_of(other)
        if self._published:
            self._splice_without_head(two, one)
        elif two not in self._ring(one):
            self._splice_rings(two, one)

    # ---- sizes -------------------------------------------------------------------------

    def _total(self, size: int) -> int:
        """Bytes that an object takes."""
        whole = total(size)
        return whole & SIZE_MASK if self._published else whole

    def _usable(self, head: int) -> int:
        """Bytes of a run behind its head, by the order in it."""
        return (self._page_size << self._words[head + _ORDER]) - HEAD

    def _at(self, pointer: int) -> int:
        """The place that a pointer names.  Raises RuntimeError for NULL, and what lies below all memory."""
        if pointer < PAGE_OFFSET:
            raise RuntimeError(f"a NULL pointer is followed ({pointer:#x})")
        return (pointer - PAGE_OFFSET) // WORD

    @staticmethod
    def _pointer(place: int) -> int:
        return PAGE_OFFSET + place * WORD

    # ---- pages -------------------------------------------------------------------------

    def _new_srog(self, whole: int) -> int | None:
        """A run of pages for an object of ``whole`` bytes: a head on a ring of its own, one area."""
        order = order_for(whole, self._page_size, SIZE_MASK if self._published else -1)
        page = self.source.take(order) if order <= (self.contract.page_order or 0) else None
        if page is None:
            return None
        head, words, area = page * self._page_words, self._words, page * self._page_words + HEAD // WORD
        words[head + _LIST_NEXT] = words[head + _LIST_PREV] = self._pointer(head)
        words[head + _ANCHOR + _SIZE], words[head + _ANCHOR + _NEXT] = 0, self._pointer(area)
        words[head + _ORDER], words[head + _FLAGS], words[head + _MAGIC] = order, 0, MAGIC
        words[area + _SIZE], words[area + _NEXT] = self._usable(head), _NULL
        self._run_of[page : page + (1 << order)] = [page] * (1 << order)
        return head

    @staticmethod
    def _used_unchecked(new: int | None) -> int:
        """The head of a new run.  Raises RuntimeError where the posting follows the NULL of a refusal."""
        if new is None:
            raise RuntimeError("a NULL pointer is followed: the new page was refused")
        return new

    def _srog_of(self, address: int) -> int:
        """The head of the run that an address is in.  Raises InvalidFree where there is none.

        The posting masks the address to its page, whatever the run's order.
        """
        page = address >> self._page_shift
        run = self._run_of[page] if 0 <= page < len(self._run_of) else None
        if self._published and run is not None:
            run = page
        if run is None or self._words[run * self._page_words + _MAGIC] != MAGIC:
            raise InvalidFree(f"BUG: no page head for {address}")
        return run * self._page_words

    def _holds(self, head: int, obj: int) -> bool:
        """Is an object in this run?  The posting's test, of unsigned distances, takes the byte behind it too."""
        distance = obj - head * WORD & SIZE_MASK
        size = self._page_size << self._words[head + _ORDER]
        return distance <= size if self._published else distance < size

    def _page_with(self, hinted: int, obj: int) -> int:
        """The head of the run that holds an object, from the hinted one on.  Raises InvalidFree if none does."""
        for head in self._ring(hinted):
            if self._holds(head, obj):
                return head
        raise InvalidFree(f"BUG: {obj} is in no page of its group")

    def _release_if_unused(self, head: int) -> None:
        """Give a run back whose first area is all of it."""
        words = self._words
        if words[self._at(words[head + _ANCHOR + _NEXT]) + _SIZE] == self._usable(head):
            self._list_del(head)
            page, order = head // self._page_words, words[head + _ORDER]
            self._run_of[page : page + (1 << order)] = [None] * (1 << order)
            self.source.give(page, order)

    # ---- areas -------------------------------------------------------------------------

    def _first_fit(self, head: int, whole: int) -> int | None:
        """An object out of the first area of a run that is long enough."""
        words, before = self._words, head + _ANCHOR
        for area in self._areas(head):
            self._areas_walked += 1
            size = words[area + _SIZE]
            if size >= whole:
                self._found = size - WORD
                return self._carve(before, area, whole)
            before = area
        return None

    def _carve(self, before: int, area: int, whole: int) -> int:
        """Cut an object from an area's front; the rest takes the area's place on the list.

        [ ........ area ........ ] => [ size | object ][ rest ]
        """
        words, left = self._words, self._words[area + _SIZE] - whole
        if left < self._least_rest():
            words[before + _NEXT] = words[area + _NEXT]
            whole += left
        else:
            rest = area + whole // WORD
            words[rest + _NEXT] = words[area + _NEXT]  # past a rest of 4 bytes
            words[rest + _SIZE] = left
            words[before + _NEXT] = self._pointer(rest)
        words[area + _SIZE] = whole
        return (area + 1) * WORD

    def _least_rest(self) -> int:
        """Shortest remainder that is made an area: its header must fit; the posting takes any but none."""
        return 1 if self._published else LEAST_AREA

    def _insert(self, head: int, area: int) -> tuple[int, int | None]:
        """Put an area on its run's list; the places before and after it there.

        The posting means to sort, and stops where it starts.
        """
        words, before = self._words, head + _ANCHOR
        after = None
        for other in self._areas(head):
            if (before < area) if self._published else (other > area):
                after = other
                break
            before = other
            self._areas_walked += 1
        words[area + _NEXT] = _NULL if after is None else self._pointer(after)
        words[before + _NEXT] = self._pointer(area)
        return before, after

    def _merge_forward(self, area: int, after: int | None) -> None:
        """[ area ][ after ] => [ ----- area ----- ], where they touch."""
        words = self._words
        if after is not None and area + words[area + _SIZE] // WORD == after:
            words[area + _SIZE] += words[after + _SIZE]
            words[area + _NEXT] = words[after + _NEXT]

    def _merge_backward(self, before: int, area: int) -> None:
        """[ before ][ area ] => [ ----- before ----- ]; the anchor has size 0 and never merges."""
        words = self._words
        if before + words[before + _SIZE] // WORD == area:
            words[before + _SIZE] += words[area + _SIZE]
            words[before + _NEXT] = words[area + _NEXT]

    def _areas(self, head: int) -> Iterator[int]:
        """Free areas of a run, in the list's order.  RuntimeError for a list that does not end."""
        words, pointer = self._words, self._words[head + _ANCHOR + _NEXT]
        left = self._page_words << words[head + _ORDER]
        while pointer != _NULL:
            if left < 0:
                raise RuntimeError("free list does not end")
            area = self._at(pointer)
            pointer, left = words[area + _NEXT], left - 2  # now: the area may be carved before the next step
            yield area

    # ---- rings -------------------------------------------------------------------------

    def _ring(self, head: int) -> Iterator[int]:
        """Heads of a group's runs, from one of them on.  RuntimeError for a ring that does not come back."""
        words, here, left = self._words, head, len(self._run_of)
        while True:
            self._pages_walked += 1
            yield here
            here, left = self._at(words[here + _LIST_NEXT]), left - 1
            if here == head:
                return
            if left <= 0:
                raise RuntimeError("page ring does not end")

    def _list_add(self, new: int, head: int) -> None:
        """Put a run behind another one.  O(1)."""
        words = self._words
        after = words[head + _LIST_NEXT]
        words[self._at(after) + _LIST_PREV] = words[head + _LIST_NEXT] = self._pointer(new)
        words[new + _LIST_NEXT], words[new + _LIST_PREV] = after, self._pointer(head)

    def _list_del(self, head: int) -> None:
        """Take a run off its ring.  O(1)."""
        words = self._words
        after, before = words[head + _LIST_NEXT], words[head + _LIST_PREV]
        words[self._at(after) + _LIST_PREV], words[self._at(before) + _LIST_NEXT] = before, after

    def _splice_without_head(self, two: int, one: int) -> None:
        """What ``__list_splice`` does: it takes the second head for no member of its ring.

        one -> B -> C -> (one's next), while two still leads to B
        """
        words = self._words
        first, last = words[two + _LIST_NEXT], words[two + _LIST_PREV]
        after = words[one + _LIST_NEXT]
        words[self._at(first) + _LIST_PREV], words[one + _LIST_NEXT] = self._pointer(one), first
        words[self._at(last) + _LIST_NEXT], words[self._at(after) + _LIST_PREV] = after, last

    def _splice_rings(self, two: int, one: int) -> None:
        """Put a whole ring behind a head of another.

        one -> two -> B -> C -> (one's next)
        """
        words = self._words
        last, after = words[two + _LIST_PREV], words[one + _LIST_NEXT]
        words[two + _LIST_PREV], words[one + _LIST_NEXT] = self._pointer(one), self._pointer(two)
        words[self._at(last) + _LIST_NEXT], words[self._at(after) + _LIST_PREV] = after, last

    # ---- observations ------------------------------------------------------------------

    def _heads(self) -> Iterator[int]:
        """Heads of all runs that the rings of live objects lead to.  O(runs)."""
        for hint in self.callers.of_groups():
            run = self._run_of[hint >> self._page_shift]
            if run is not None:
                yield from self._ring(run * self._page_words)

    def _walk(self, head: int) -> Iterator[tuple[int, int, bool]]:
        """(place, bytes, free) of a run's areas and objects, by address.  RuntimeError for a size of 0."""
        areas = set(self._areas(head))
        place, end = head + HEAD // WORD, head + (self._page_words << self._words[head + _ORDER])
        while place < end:
            size = self._words[place]
            if size < WORD:
                raise RuntimeError(f"what begins at {place * WORD} has no size")
            yield place, size, place in areas
            place += size // WORD

    def extents(self, handle: int) -> tuple[tuple[int, int, int], ...]:
        """The object as its size word says.  O(1)."""
        return ((0, handle, self._words[(handle - WORD) // WORD] - WORD),)

    def pages(self) -> Iterator[tuple[int, int]]:
        """(first page, count) of each run on a ring.  O(runs)."""
        for head in self._heads():
            yield head // self._page_words, 1 << self._words[head + _ORDER]

    def free_regions(self) -> Iterator[FreeRegion]:
        """Free areas behind their size words, as the lists of the rings' pages say.  O(areas)."""
        for head in self._heads():
            for area in self._areas(head):
                yield FreeRegion(0, (area + 1) * WORD, self._words[area] - WORD, head // self._page_words)

    def lists(self) -> Iterator[Listed]:
        """The same areas as members of their run's list.  O(areas)."""
        for head in self._heads():
            for area in self._areas(head):
                yield Listed(head // self._page_words, (0, (area + 1) * WORD))

    def counters(self) -> dict[str, int]:
        """Objects and free bytes met walking the runs by their sizes, pages by the rings.  O(blocks)."""
        blocks = [(size, free) for head in self._heads() for _, size, free in self._walk(head)]
        return {
            "live_objects": sum(1 for _, free in blocks if not free),
            "free_bytes": sum(size - WORD for size, free in blocks if free),
            "pages": sum(count for _, count in self.pages()),
        }

    def cost(self) -> dict[str, int]:
        """Of the last call: ``pages_walked``, ``areas_walked``, bytes ``found`` if any were."""
        steps = {"pages_walked": self._pages_walked, "areas_walked": self._areas_walked}
        return {**steps, "found": self._found} if self._found else steps

    def metadata(self) -> tuple[int, int]:
        """(bytes of heads and size words, 0).  O(blocks)."""
        heads = list(self._heads())
        live = sum(1 for head in heads for _, _, free in self._walk(head) if not free)
        return HEAD * len(heads) + WORD * live, 0

    # ---- states ------------------------------------------------------------------------

    def snapshot(self) -> "State":
        """The heap as it is now; hashable.  O(bytes held)."""
        return State(self)

    def restore(self, state: "State") -> None:
        """Return to a state of ``snapshot``; armed failures of the source stay.  O(bytes held)."""
        state.images.put_back(self.source)
        self._run_of = [self.source.owned.get(page) for page in range(len(self._run_of))]
        self.callers.thaw(state.callers)
        self._pages_walked = self._areas_walked = self._found = 0


class State:
    """A heap at one moment; ``shape``, blocks, lists, rings and groups, is what equality means."""

    __slots__ = ("callers", "images", "shape")

    def __init__(self, heap: Srog) -> None:
        self.images, self.callers = PageImages(heap.source), heap.callers.frozen()
        runs = tuple((head, tuple(heap._areas(head)), tuple(heap._walk(head))) for head in heap._heads())
        self.shape = (self.images.runs, runs, self.callers)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, State) and self.shape == other.shape

    def __hash__(self) -> int:
        return hash(self.shape)
