"""Named abstract states: what a suite must have seen before it is worth something.

A green check that never freed a block between two free neighbours says nothing about merging.
So every engine counts, word by word, what it has reached.  The words come from what was asked and
answered: from the shadow heap, the page source's ledger and, where an audit has read them anyway,
from hints; never from a second book that the target keeps.  A block *merges* with the free space
beside it where the contract says that the two must not stay apart; it was *split off* where,
freed again at once, it would merge.

>>> from heaplaw.impls.registry import factory
>>> build = factory("tlsf,arena=256,sl=1")
>>> watch = Watch(Checker(build()))
>>> for op in [Operation(1, birth, 24) for birth in range(3)] + [Operation(2, name) for name in (0, 2, 1)]:
...     watch.step(op)
>>> {word: count for word, count in watch.counts.items() if word.startswith("coalesce")}
{'coalesce none': 1, 'coalesce right': 1, 'coalesce both': 1}
>>> "coalesce both" in words(build), "hint stale" in words(build)
(True, False)
"""

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from heaplaw.checker import Checker, Hang
from heaplaw.contract import Contract
from heaplaw.impls.promises import always
from heaplaw.lawbook import LAWS
from heaplaw.operations import Kind, Operation
from heaplaw.pages import PageSource
from heaplaw.protocol import Direction, FreeRegion, Hint, Quantity
from heaplaw.shadow import SPACE_SHIFT, Block
from heaplaw.view import View

from .watchdog import watchdog

WORDS: dict[str, str] = {
    "coalesce none": "a block was freed beside nothing that it merges with",
    "coalesce left": "a block was freed that merges with the free space before it only",
    "coalesce right": "a block was freed that merges with the free space behind it only",
    "coalesce both": "a block was freed between two free neighbours that it merges with",
    "split": "a request was served from a longer free block, whose rest stayed free",
    "exact fit": "a request was served with a whole free block",
    "refused": "a request was refused",
    "page taken": "an operation took pages from the source",
    "page refused": "an operation asked the source for pages and got none",
    "page returned": "an operation gave pages back to the source",
    "compaction moved 0": "maintenance that may move objects moved none",
    "compaction moved 1": "... moved one",
    "compaction moved many": "... moved more than one",
    "evicted 0": "maintenance that may evict objects evicted none",
    "evicted 1": "... evicted one",
    "evicted many": "... evicted more than one",
    "hint shrunk": "between two audits the value of a hint fell",
    "hint grown": "between two audits the value of a hint rose",
    "hint stale": "an audit met a hint that lags behind the truth, as it may",
    "resized in place": "an object was resized where it stands",
    "resized and moved": "an object was resized and has another place",
    "resize refused": "a resize was refused",
    "freed elsewhere": "an object was freed on another CPU than it was asked for on",
}
"""Every word but the size classes ``class 0``, ``class 1`` ..., with what it says."""

_CLASS = re.compile(r"class (0|[1-9][0-9]*)")
_LEFT, _RIGHT, _BOTH = 1, 2, 3
_AT_END, _EXACT = Quantity.FREE_AT_END, Direction.EXACT  # looking them up costs more than comparing
_COALESCED = ("coalesce none", "coalesce left", "coalesce right", "coalesce both")  # by those two bits
_HANDS = ("0", "1", "many")
_PROBE_SECONDS = 1.0  # CPU time
_LOOKED_AT_BEFORE = frozenset({Kind.REALLOC, Kind.MAINTAIN})  # kinds whose words need to know what was


def is_word(word: str) -> bool:
    """Is this a word of the vocabulary, for whichever target?"""
    return word in WORDS or _CLASS.fullmatch(word) is not None


def class_of(word: str) -> int | None:
    """The number of a size class's word; None for other words."""
    found = _CLASS.fullmatch(word)
    return int(found[1]) if found else None


def words(build: Callable[[], Any], mute: Sequence[str] | frozenset[str] = ()) -> list[str]:
    """The words that a target can reach, in the order of the vocabulary, then its size classes.

    ``mute``: laws that are not asked; where none of the others reads hints, nothing is known of them.
    """
    checker = Checker(build(), mute=mute)
    contract, shows = checker.contract, checker.shows
    movable = bool(contract.moving & {*contract.maintenance}) and "extents" in shows and checker.can(Kind.MAINTAIN)
    hinted = any("hints" in law.needs for law in checker.laws)
    reachable = {
        **dict.fromkeys((*_COALESCED, "split", "exact fit"), contract.mergeable is not None),
        **dict.fromkeys(("page taken", "page refused"), checker.source is not None),
        "page returned": checker.source is not None and (contract.drained_pages is not None or movable),
        **{f"compaction moved {hands}": movable for hands in _HANDS},
        **{f"evicted {hands}": bool(contract.evicting & {*contract.maintenance}) for hands in _HANDS},
        **dict.fromkeys(("hint shrunk", "hint grown"), hinted),
        "hint stale": hinted and _may_lag(build),
        **dict.fromkeys(("resized in place", "resized and moved", "resize refused"), "realloc" in shows),
        "freed elsewhere": contract.cpus > 1,
    }
    return [word for word in WORDS if reachable.get(word, True)] + [name for name, _, _ in classes(contract)]


def classes(contract: Contract) -> Iterator[tuple[str, int, int]]:
    """(word, smallest size, largest size) in bytes of every class of the contract's limits that is served."""
    least = 0
    limits = [*contract.limits] if contract.limits else []
    if limits and contract.largest > limits[-1]:
        limits.append(contract.largest)
    for index, most in enumerate(limits):
        low, high = max(least, contract.min_size), min(most, contract.largest)
        if low <= high:
            yield f"class {index}", low, high
        least = most + 1


def _may_lag(build: Callable[[], Any]) -> bool:
    """Are there hints that need not be exact?  Seen on a heap with one object; of a broken target, yes."""
    with suppress(Exception, Hang), watchdog(_PROBE_SECONDS):
        checker = Checker(build(), mute=LAWS)
        checker.step(Operation(Kind.ALLOC, 0, max(1, checker.contract.min_size)))
        return any(hint.direction is not Direction.EXACT for hint in checker.view.hints)
    return True


# ---- what stands beside a block ------------------------------------------------------------------


class Surroundings:
    """Says with which free neighbours a block merges, or would, by contract, shadow heap and ledger alone."""

    def __init__(self, contract: Contract, source: PageSource | None) -> None:
        self._mergeable: Any = contract.mergeable
        self._whatever = contract.mergeable is always  # need not be asked
        self._granule = contract.granule
        self._header, self._prologue, self._epilogue = contract.header, contract.prologue, contract.epilogue
        self._hollow = contract.header > 0 == contract.min_size  # objects of no bytes stand where nothing is seen
        self._pages = source if contract.spaces == "pages" else None
        self._bounds_of = contract.bounds_of
        self._spaces: dict[int, tuple[int, int]] = {}

    def _stretch(self, space: int, start: int) -> tuple[int, int] | None:
        """(start, end) of the space or run of pages that a place lies in; None if it is not owned."""
        source = self._pages
        if source is None:
            known = self._spaces[space] = self._bounds_of(space)
            return known
        size = source.page_size
        first = source.owned.get(start // size)
        return None if first is None else (first * size, (first + (1 << source.runs[first])) * size)

    def sides(self, extent: tuple[int, int, int], before: int, after: int, *, fully: bool = True) -> int | None:
        """Where an extent merges: 0 nowhere, 1 on the left, 2 on the right, 3 on both sides; None: not to be told.

        ``before``: where the live block before it ends, ``after``: where the next one starts, -1 for none in
        this space.  Not ``fully``: one side is enough.  O(1), but a step for each order of a buddy.
        """
        space, start, length = extent
        stretch = self._spaces.get(space) or self._stretch(space, start)
        if stretch is None or length <= 0:
            return None
        low, high = stretch
        left = low + self._prologue if before < low else before + self._header
        right = high - self._epilogue if after < 0 or after > high else after - self._header
        if left >= start and right <= start + length:
            return 0
        if self._hollow and self._header in (start - left, right - start - length):
            return None  # a free block of no bytes, or an object of none
        if self._whatever:
            return (left < start) | (right > start + length) << 1
        try:
            return self._merged(FreeRegion(space, start, length), left, right, fully)
        except Exception:  # the contract's own predicate, which may expect to see list ids
            return None

    def _merged(self, one: FreeRegion, left: int, right: int, fully: bool) -> int:
        """Merge a free block with free space from ``left`` and up to ``right``, for as long as it merges."""
        space, start, length, _ = one
        found = 0
        while True:
            if start + length < right and (at := self._up_to(one, right)) is not None:
                found |= _RIGHT
                length = at - start
            elif left < start and (at := self._from(one, left)) is not None:
                found |= _LEFT
                start, length = at, start + length - at
            else:
                return found
            if not fully or found == _BOTH or (left >= start and right <= start + length):
                return found
            one = FreeRegion(space, start, length)

    def _from(self, one: FreeRegion, left: int) -> int | None:
        """Where what merges with a block begins: all of the free space before it, or a buddy; None: nothing does."""
        space, start, length, _ = one
        end = start - self._header
        near = FreeRegion(space, left, end - left)
        if self._mergeable(near, one):
            edge = FreeRegion(space, end - self._granule, self._granule)
            return left if near.length != length or self._is_whole(near) or self._mergeable(edge, one) else None
        if self._header or end - length <= left:
            return None
        near = FreeRegion(space, end - length, length)
        return near.start if self._mergeable(near, one) and self._is_whole(near) else None

    def _up_to(self, one: FreeRegion, right: int) -> int | None:
        """The same behind a block: where it ends."""
        space, start, length, _ = one
        start += length + self._header
        near = FreeRegion(space, start, right - start)
        if self._mergeable(one, near):
            edge = FreeRegion(space, start, self._granule)
            return right if near.length != length or self._is_whole(near) or self._mergeable(one, edge) else None
        if self._header or start + length >= right:
            return None
        near = FreeRegion(space, start, length)
        return start + length if self._mergeable(one, near) and self._is_whole(near) else None

    def _is_whole(self, region: FreeRegion) -> bool:
        """Can a buddy's worth of free space be one block?  Not where a border (of a zone) runs through it.

        A border between the starts of two halves keeps them apart; one behind both is looked for in the
        last half.  O(log length); where headers stand between blocks there is one block already.
        """
        space, start, length = region[:3]
        while length > self._granule and not self._header:
            length >>= 1
            if not self._mergeable(FreeRegion(space, start, length), FreeRegion(space, start + length, length)):
                return False
            start += length
        return True

    def in_order(self, live: Sequence[Any], index: int) -> str | None:
        """``coalesce ...`` for the block at ``index`` of live blocks in canonical order, as if freed; None as above.

        A live block is a tuple whose first field is its extents, in order of place (see ``positions``).
        O(1) where objects are in one piece.
        """
        extents = live[index][0]
        if len(extents) != 1 or any(len(entry[0]) != 1 for entry in live[max(0, index - 1) : index + 2]):
            return self._in_pieces(live, index)
        (extent,) = extents
        before = after = -1
        if index and (near := live[index - 1][0][0])[0] == extent[0]:
            before = near[1] + near[2]
        if index + 1 < len(live) and (near := live[index + 1][0][0])[0] == extent[0]:
            after = near[1]
        sides = self.sides(extent, before, after)
        return None if sides is None else _COALESCED[sides]

    def _in_pieces(self, live: Sequence[Any], index: int) -> str | None:
        """The same where objects lie in several pieces.  O(pieces)."""
        pieces = sorted(extent for entry in live for extent in entry[0] if extent[2] > 0)
        found: int | None = None
        for extent in live[index][0]:
            if extent not in pieces:
                continue
            at = pieces.index(extent)
            near = [pieces[i] if 0 <= i < len(pieces) else (-1, 0, 0) for i in (at - 1, at + 1)]
            before = near[0][1] + near[0][2] if near[0][0] == extent[0] else -1
            after = near[1][1] if near[1][0] == extent[0] else -1
            if (sides := self.sides(extent, before, after)) is not None:
                found = (found or 0) | sides
        return None if found is None else _COALESCED[found]


def values_of(hints: Iterable[Hint]) -> dict[Any, int]:
    """Hints by what stays the same of them; a region that ends with its hint may be as long as the hint says."""
    values: dict[Any, int] = {}
    for name, value, (space, start, length), _, quantity, _ in hints:
        values[name, space, start + length if quantity is _AT_END else start] = value
    return values


def changed(before: Mapping[Any, int], after: Mapping[Any, int]) -> tuple[str, ...]:
    """What is said of hints that had these values, and have those now (see ``values_of``)."""
    fell = rose = False
    for key, value in after.items():
        was = before.get(key, value)
        fell, rose = fell or value < was, rose or value > was
    return tuple(word for word, seen in (("hint shrunk", fell), ("hint grown", rose)) if seen)


# ---- counting ------------------------------------------------------------------------------------


class Watch:
    """Stands between an engine and a checker, and counts the words that are reached.

    ``step`` costs O(log n), but what moving maintenance costs anyway, O(n).  An engine that calls the
    target itself says ``begin`` and ``end`` around its call; one that knows the outcome already enters it
    with ``placed``, ``released`` and ``refused``.
    """

    def __init__(self, checker: Checker, counts: Counter[str] | None = None, *, pace: int = 1) -> None:
        """Hints are looked at again once ``pace`` operations have passed for each of them; 0: at every audit."""
        self.checker = checker
        self._pace, self._look_at = pace, 0
        self.counts: Counter[str] = Counter() if counts is None else counts
        contract = checker.contract
        self.surroundings = Surroundings(contract, checker.source)
        self._merging = contract.mergeable is not None
        self._limits, self._classes = contract.limits, [f"class {i}" for i in range(len(contract.limits) + 1)]
        self._source: PageSource | None = checker.source
        self._several_cpus = contract.cpus > 1
        self._moving = contract.moving if "extents" in checker.shows else frozenset()
        self._evicting = contract.evicting
        self._hints: dict[Any, int] = {}
        self._resume()

    def _resume(self) -> None:
        """Take the checker as it is now for what was."""
        c = self.checker
        self._served, self._refusals, self._freed, self._view = c.served, c.refusals, c.freed, c.view
        if (source := self._source) is not None:
            self._taken, self._held, self._starved = source.taken, source.held, source.refused

    def step(self, op: Operation) -> None:
        """``Checker.step``, and the words that it reaches.  Raises what that raises."""
        before = self._before(op) if op[0] in _LOOKED_AT_BEFORE else None
        self.checker.step(op)
        self._after(op, before)

    def begin(self, op: Operation) -> Any:
        """Before a call made around ``step``; what it gives belongs to ``end``."""
        self._resume()
        return self._before(op) if op[0] in _LOOKED_AT_BEFORE else None

    def end(self, op: Operation, before: Any) -> None:
        """After a call made by one of the checker's own handlers."""
        self._after(op, before)

    def _before(self, op: Operation) -> Any:
        """What a resize or maintenance is held against; None where it will be skipped."""
        live = self.checker.shadow.live
        if op.kind == Kind.REALLOC:
            block = live.get(op.name)
            return None if block is None or self.checker.ended else (self.checker.skipped, block.extents[:1])
        moving = {name: block.extents for name, block in live.items()} if op.mode in self._moving else {}
        return self.checker.skipped, moving, len(live)

    def _after(self, op: Operation, before: Any) -> None:
        c, counts, kind = self.checker, self.counts, op[0]
        if kind == 1:
            if c.served != self._served:
                self._served = c.served
                if (block := c.shadow.live.get(op[1])) is not None:
                    self._placed(block)
            elif c.refusals != self._refusals:
                self._refusals = c.refusals
                counts["refused"] += 1
        elif kind == 2:
            if c.freed is not self._freed:
                self._freed = c.freed
                self._released(c.freed)
        elif before is not None and c.skipped == before[0]:
            if kind == Kind.REALLOC:
                self._resized(op, *before)
            else:
                self._maintained(op, *before)
        source = self._source
        if source is not None and (source.taken != self._taken or source.held != self._held):
            self._count_pages(source, ended=c.ended)
        if source is not None and source.refused != self._starved:
            self._starved = source.refused
            counts["page refused"] += 1
        if c.view is not self._view:
            self.audited()

    def _count_pages(self, source: PageSource, ended: bool) -> None:
        if source.taken != self._taken:
            self.counts["page taken"] += 1
        if source.held < self._held and not ended:  # destroying gives everything back, whoever it is
            self.counts["page returned"] += 1
        self._taken, self._held = source.taken, source.held

    def _placed(self, block: Block) -> None:
        self.counts[self._classes[bisect_left(self._limits, block.size)]] += bool(self._limits)
        if self._merging and (sides := self._sides(block, placed=True)) is not None:
            self.counts["split" if sides else "exact fit"] += 1

    def _released(self, block: Block) -> None:
        if self._several_cpus and block.cpu != self.checker.cpu:
            self.counts["freed elsewhere"] += 1  # and is often queued, not merged
        elif self._merging and (sides := self._sides(block, placed=False)) is not None:
            self.counts[_COALESCED[sides]] += 1

    def _sides(self, block: Block, placed: bool) -> int | None:
        """Where a block merges; ``placed``: it is in the shadow heap, and one side is enough.  O(pieces * log n)."""
        shadow = self.checker.shadow
        starts, ends = shadow._starts, shadow._ends
        found: int | None = None
        for extent in block.extents:
            space, start, _ = extent
            base = space << SPACE_SHIFT
            index = starts.bisect_left(base + start)
            before = after = -1
            if index and (near := starts[index - 1]) >= base:
                before = ends[near] - base
            index += placed
            if index < len(starts) and (near := starts[index]) >> SPACE_SHIFT == space:
                after = near - base
            if (sides := self.surroundings.sides(extent, before, after, fully=not placed)) is not None:
                found = sides if found is None else found | sides
        return found

    def _resized(self, op: Operation, _: int, stood: Any) -> None:
        c = self.checker
        if c.refusals != self._refusals:
            self._refusals = c.refusals
            self.counts["resize refused"] += 1
        elif (block := c.shadow.live.get(op.name)) is not None:
            in_place = [extent[:2] for extent in stood] == [extent[:2] for extent in block.extents[:1]]
            self.counts["resized in place" if in_place else "resized and moved"] += 1

    def _maintained(self, op: Operation, _: int, stood: Mapping[int, Any], count: int) -> None:
        live = self.checker.shadow.live
        if op.mode in self._moving:
            moved = sum(name in live and live[name].extents != extents for name, extents in stood.items())
            self.counts[f"compaction moved {_HANDS[min(moved, 2)]}"] += 1
        if op.mode in self._evicting:
            self.counts[f"evicted {_HANDS[min(count - len(live), 2)]}"] += 1

    def audited(self) -> None:
        """After an audit: what it has read of hints, against the audit before.  O(hints)."""
        self._view = view = self.checker.view
        if self.checker.index < self._look_at or "hints" not in view.__dict__:
            return  # hints that no law has read are not read here either: that is where reading them may fail
        self._look_at = self.checker.index + self._pace * len(view.hints)
        values = values_of(view.hints)
        self.counts.update(changed(self._hints, values))
        self._hints = values
        self.lagging(view)

    def lagging(self, view: View) -> None:
        """Does a hint that need not be exact lag behind the truth?"""
        for hint in view.hints:
            if hint.direction is not _EXACT and -1 != view.truth(hint) != hint.value:
                self.counts["hint stale"] += 1
                return

    # ---- for engines that know the outcome -----------------------------------------------

    def placed(self, live: Sequence[Any], index: int, size: int) -> None:
        """A request of ``size`` bytes has made the block at ``index`` of these, in canonical order.  O(1)."""
        self.counts[self._classes[bisect_left(self._limits, size)]] += bool(self._limits)
        if self._merging and (word := self.surroundings.in_order(live, index)) is not None:
            self.counts["exact fit" if word == _COALESCED[0] else "split"] += 1

    def released(self, live: Sequence[Any], index: int, cpu: int = 0) -> None:
        """The block at ``index`` of these, in canonical order, is freed on a CPU.  O(1)."""
        if self._several_cpus and live[index][5] != cpu:
            self.counts["freed elsewhere"] += 1
        elif self._merging and (word := self.surroundings.in_order(live, index)) is not None:
            self.counts[word] += 1

    def refused(self) -> None:
        """A request was refused."""
        self.counts["refused"] += 1
