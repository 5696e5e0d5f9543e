"""What the heap looked like after each step of a trace: what pictures of it are drawn from.

A frame holds the live objects and the free extents by address, the lists they are on, hints beside the truth, the
pages held, and what the step changed.  ``places`` finds the addresses that a violation speaks of.

>>> from heaplaw.impls.registry import factory
>>> film = frames(factory("tlsf,arena=256,sl=1"), [Operation(1, 0, 24), Operation(1, 1, 24), Operation(2, 0)])
>>> [(frame.text, frame.outcome) for frame in film.frames]
[('a = alloc 24', 'at 8+24'), ('b = alloc 24', 'at 40+24'), ('free a', 'freed')]
>>> [(piece.name, piece.start, piece.length) for piece in film.frames[-1].live]
[('b', 40, 24)]
>>> places("c (2 bytes at 0+2) apart from b (1 bytes at 3:1+1)")
[Place(space=0, start=0, length=2), Place(space=3, start=1, length=1)]
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any, NamedTuple

from heaplaw.checker import Checker, Hang, Unusable
from heaplaw.lawbook import LAWS, Broken
from heaplaw.operations import Kind, Operation, birth_name
from heaplaw.protocol import Direction, FreeRegion, Hint, Listed, Refusal
from heaplaw.trace import render
from heaplaw.view import View

from .watchdog import watchdog

MOST = 40  # steps of a long trace that are kept, the last ones
_MOST_SEEN = 500  # free extents, members of lists, hints: of each, a frame
_SECONDS = (0.5, 0.004, 0.02)  # CPU time: at least, for each operation, for each frame that is looked at
_LIVING = re.compile(r"\b([a-z]+) \(\d+ bytes at ")
_PLACES = re.compile(
    r"\b(?:(?P<space>\d+):)?(?P<at>\d+)(?:\+(?P<length>\d+)|\.\.(?P<end>\d+))"  # 16+24, 1:16+24, 0:3..9
    r"|(?:\b(?:in|beside) )\((?P<s1>\d+), (?P<f1>\d+), (?P<n1>\d+)\)"  # a region; other triples name containers
    r"|\((?P<s2>\d+), (?P<f2>\d+), (?P<n2>\d+)\)(?= (?:beside|free)\b)"
    r"|(?<=[\[' ])\((?P<s3>\d+), (?P<f3>\d+)\)(?=['\], ])"  # where a free block starts
)
_PAGES = re.compile(r"\bpages? (?P<one>\d+) to |at pages \[(?P<some>[\d, ]+)\]")
_SIDES = {Direction.LOWER: "at most", Direction.UPPER: "at least", Direction.EXACT: "exactly"}


class Place(NamedTuple):
    """Bytes of an address space."""

    space: int
    start: int
    length: int


class Piece(NamedTuple):
    """One extent of a live object, slack included."""

    name: str
    space: int
    start: int
    length: int


class Hole(NamedTuple):
    """A free extent as the target shows it; ``list`` is empty where it is on none."""

    space: int
    start: int
    length: int
    list: str


class Told(NamedTuple):
    """What a hint says of a region, in bytes, and what is true there (-1: there is no such thing)."""

    name: str
    value: int
    truth: int
    side: str  # on which the value may lie: "at most", "at least", "exactly" the truth
    about: str  # what it is the number of
    space: int
    start: int
    length: int
    claimed_at: int = -1  # where it says that so many bytes are free; -1: it names no place
    claimed: int = 0

    @property
    def holds(self) -> bool:
        """Does it lie on its side of the truth?"""
        if self.truth < 0:
            return True
        wide = {"at most": self.value <= self.truth, "at least": self.value >= self.truth}
        return wide.get(self.side, self.value == self.truth)


@dataclass
class Frame:
    """The heap after one step, and what the step did."""

    number: int  # of the step, from 1
    text: str  # the operation
    outcome: str = ""  # in words
    refused: bool = False
    problem: str = ""  # how a call ended that did not end well
    live: list[Piece] = field(default_factory=list)
    born: list[str] = field(default_factory=list)
    freed: list[str] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)  # resized ones among them
    gone: list[Piece] = field(default_factory=list)  # where freed and moved objects were before
    free: list[Hole] = field(default_factory=list)
    lists: dict[str, list[str]] = field(default_factory=dict)  # list -> members, as walking it meets them
    hints: list[Told] = field(default_factory=list)
    pages: list[Place] = field(default_factory=list)  # runs of pages held
    unread: list[str] = field(default_factory=list)  # what could not be looked at, and why


@dataclass
class Film:
    """The frames of a trace's end, and what they have in common."""

    frames: list[Frame]
    before: int = 0  # steps that are not shown
    span: int = 0  # bytes of an address space, or of all pages that there are
    page_size: int = 0  # bytes; 0 where memory does not come in pages
    bounds: dict[int, tuple[int, int]] = field(default_factory=dict)  # of the arena's spaces

    def as_data(self) -> dict[str, Any]:
        """As JSON keeps it."""
        return asdict(self)

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> "Film":
        """What ``as_data`` has written, also after it was JSON."""
        kinds: dict[str, Any] = {"live": Piece, "gone": Piece, "free": Hole, "hints": Told, "pages": Place}

        def frame(seen: dict[str, Any]) -> Frame:
            known = {key: [kind(*one) for one in seen[key]] for key, kind in kinds.items()}
            return Frame(**{**seen, **known})

        made = [frame(seen) for seen in data["frames"]]
        bounds = {int(space): (low, high) for space, (low, high) in data["bounds"].items()}
        return cls(**{**data, "frames": made, "bounds": bounds})

    @property
    def spaces(self) -> list[int]:
        """Those in which something is shown, ascending."""
        shown = {place.space for frame in self.frames for place in frame.live}
        shown |= {place.space for frame in self.frames for place in frame.free}
        shown |= {place.space for frame in self.frames for place in frame.pages}
        return sorted(shown) or [0]


def frames(
    build: Callable[[], Any], operations: Sequence[Operation], *, most: int = MOST, look: bool = True
) -> Film:
    """A frame for each of the last ``most`` operations; a call that does not return is said so.

    No law is asked, so that the heap is seen as the target left it.  ``look``: at free extents, lists and hints too.
    """
    checker = Checker(build(), mute=LAWS)
    contract, source = checker.contract, checker.source
    film = Film([], max(0, len(operations) - most))
    film.page_size = checker.page_size if source is not None else 0
    film.span = contract.arena or (source.total * checker.page_size if source is not None else 0)
    shown = len(operations) - film.before
    seconds = _SECONDS[0] + _SECONDS[1] * len(operations) + (_SECONDS[2] * shown if look else 0)
    with suppress(Hang), watchdog(seconds):
        for index, op in enumerate(operations):
            step = _Step(checker, op)
            if index >= film.before:
                frame = step.frame(film.page_size)
                film.frames.append(frame)
                if look and checker.ended:
                    frame.unread.append("not looked at: the heap is " + ("broken down" if checker.problem else "gone"))
                elif look:
                    look = _look(checker, frame)
    for index in range(film.before + len(film.frames), len(operations)):
        live = film.frames[-1].live if film.frames else []
        film.frames.append(Frame(index + 1, render(operations[index]), "a hang", problem="a hang", live=live))
    if contract.spaces == "arena":
        film.bounds = {space: contract.bounds_of(space) for space in film.spaces}
    return film


class _Step:
    """One operation done, between what was before and what is after."""

    def __init__(self, checker: Checker, op: Operation) -> None:
        self.checker, self.op = checker, op
        self.before = _standing(checker)
        self.known, self.refusals, self.skipped = checker.problem, checker.refusals, checker.skipped
        self.held = checker.source.held if checker.source is not None else 0
        self.late = checker.ended  # nothing is done any more
        checker.answer = None
        with suppress(Broken, Unusable):
            checker.step(op)
        self.after = _standing(checker)

    def frame(self, page_size: int) -> Frame:
        """What it did."""
        before, after, checker = self.before, self.after, self.checker
        frame = Frame(checker.index + 1, render(self.op))
        frame.born = [birth_name(name) for name in after if name not in before]
        frame.freed = [birth_name(name) for name in before if name not in after]
        moved = [name for name in after if name in before and before[name] != after[name]]
        frame.moved = [birth_name(name) for name in moved]
        frame.live = [piece for name in after for piece in _pieces(name, after[name])]
        left = [name for name in before if name not in after or name in moved]
        frame.gone = [piece for name in left for piece in _pieces(name, before[name])]
        frame.problem = "" if checker.problem == self.known else checker.problem
        frame.refused = not frame.problem and self._was_refused()
        if page_size:
            runs = sorted(checker.source.runs.items())
            frame.pages = _joined((page * page_size, page_size << order) for page, order in runs)
        frame.outcome = self._outcome(frame)
        return frame

    def _was_refused(self) -> bool:
        asked = self.op.kind == Kind.BAD_ALLOC and self.checker.skipped == self.skipped
        refused = asked and (self.checker.answer is None or isinstance(self.checker.answer, Refusal))
        return refused or self.checker.refusals > self.refusals

    def _outcome(self, frame: Frame) -> str:
        """In words."""
        if frame.problem or self.late:
            return frame.problem or "not done any more"
        if self.checker.skipped > self.skipped:
            return "does nothing here"
        words = []
        if frame.refused:
            answer = self.checker.answer
            words.append(f"refused: {answer.value if isinstance(answer, Refusal) else 'no memory'}")
        if frame.born:
            words.append(_where(self.after[self.op.name]) if self.op.name in self.after else "served")
        if frame.freed:
            mine = self.op.kind == Kind.FREE
            did = "evicted " if self.op.kind == Kind.MAINTAIN else "freed "
            words.append("freed" if mine else did + _some(frame.freed))
        if frame.moved:
            own = self.op.kind == Kind.REALLOC and frame.moved == [birth_name(self.op.name)]
            words.append(f"now {_where(self.after[self.op.name])}" if own else f"moved {_some(frame.moved)}")
        if self.op.kind == Kind.BAD_FREE:
            words.append("noticed" if self.checker.answer == "InvalidFree" else "accepted")
        taken = (self.checker.source.held if self.checker.source is not None else 0) - self.held
        if taken:
            words.append(f"{'takes' if taken > 0 else 'gives back'} {abs(taken)} page{'s' * (abs(taken) != 1)}")
        return ", ".join(words)


Standing = dict[int, tuple[tuple[int, int, int], ...]]


def _standing(checker: Checker) -> Standing:
    """Name -> extents of each live object."""
    return {block.name: tuple(filter(_is_place, block.extents)) for block in checker.shadow.live.values()}


def _is_place(extent: tuple[int, int, int]) -> bool:
    """An allocator that is broken enough answers with anything."""
    return all(isinstance(part, int) for part in extent)


def _pieces(name: int, extents: Iterable[tuple[int, int, int]]) -> Iterator[Piece]:
    return (Piece(birth_name(name), *extent) for extent in extents)


def _where(extents: Sequence[tuple[int, int, int]]) -> str:
    """A place in words, as laws write it."""
    if not extents:
        return "served"
    pieces = [f"{space}:{at}+{length}" if space else f"{at}+{length}" for space, at, length in extents]
    return "at " + " ".join(pieces[:4]) + (f" and {len(pieces) - 4} more" if len(pieces) > 4 else "")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def _joined(runs: Iterable[tuple[int, int]]) -> list[Place]:
    """Runs of pages as few stretches."""
    places: list[Place] = []
    for start, length in runs:
        if places and places[-1].start + places[-1].length == start:
            places[-1] = Place(0, places[-1].start, places[-1].length + length)
        else:
            places.append(Place(0, start, length))
    return places


# ---- what the target shows of itself ---------------------------------------------------------------------


def _look(checker: Checker, frame: Frame) -> bool:
    """Enter free extents, lists and hints into the frame; False where looking did not end: then no more of it."""
    view = View(checker)
    for what, read in {"free_regions": _free, "lists": _lists, "hints": _hints}.items():
        if what not in checker.shows:
            continue
        try:
            read(checker, view, frame)
        except Hang:
            frame.unread.append(f"{what}: reading it does not end")
            return False
        except Exception as problem:  # the picture of a broken heap may be broken too
            frame.unread.append(f"{what}: {type(problem).__name__}: {problem}")
    return True


def _free(checker: Checker, view: View, frame: Frame) -> None:
    regions = (FreeRegion(*one) for one in islice(checker.target.free_regions(), _MOST_SEEN))
    frame.free = sorted(Hole(r.space, r.start, r.length, _name(r.list_id)) for r in regions)


def _lists(checker: Checker, view: View, frame: Frame) -> None:
    for one in islice(checker.target.lists(), _MOST_SEEN):
        entry = Listed(*one)
        is_place = "free_regions" in checker.shows and checker.contract.list_of is not None  # else: a container
        frame.lists.setdefault(_name(entry.list_id), []).append(_member(entry.key, is_place))


def _member(key: Any, is_place: bool) -> str:
    """A member of a list in words: the address of a free block, or the numbers that make a container's name."""
    if not isinstance(key, tuple):
        return str(key)
    if is_place and len(key) == 2:
        return f"{key[0]}:{key[1]}" if key[0] else str(key[1])
    return ("+" if all(isinstance(part, int) for part in key) else " ").join(map(str, key))


def _hints(checker: Checker, view: View, frame: Frame) -> None:
    for hint in islice(checker.target.hints(), _MOST_SEEN):
        frame.hints.append(_told(view, hint))


def _told(view: View, hint: Hint) -> Told:
    side, about = _SIDES[hint.direction], hint.quantity.value
    claim = hint.witness[1:] if hint.witness is not None else (-1, 0)
    return Told(hint.name, hint.value, view.truth(hint), side, about, *hint.region, *claim)


def _name(list_id: Any) -> str:
    """A list in words: a tuple without its brackets."""
    if list_id is None:
        return ""
    return " ".join(map(str, list_id)) if isinstance(list_id, tuple) else str(list_id)


# ---- what a violation is about ---------------------------------------------------------------------------


def places(text: str, page_size: int = 4096) -> list[Place]:
    """The addresses in a law's words, in order; of a place without a length, its first byte."""
    found = []
    for match in _PLACES.finditer(text):
        seen = {key: int(value) for key, value in match.groupdict().items() if value is not None}
        if "at" not in seen:
            space, start, *length = seen.values()
            found.append(Place(space, start, *(length or [1])))
        elif "length" in seen:
            found.append(Place(seen.get("space", 0), seen["at"], seen["length"]))
        else:  # what lies one over the other is shown as a stretch that ends before it starts
            low, high = sorted((seen["at"], seen["end"]))
            found.append(Place(seen.get("space", 0), low, high - low))
    for match in _PAGES.finditer(text):
        numbers = [int(word) for word in re.findall(r"\d+", match["one"] or match["some"])]
        found += [Place(0, number * page_size, page_size) for number in numbers]
    return list(dict.fromkeys(place for place in found if place.length > 0))


def objects(text: str) -> list[str]:
    """The names of the objects in a law's words."""
    return list(dict.fromkeys(_LIVING.findall(text)))


def clashes(some: Sequence[Place]) -> list[Place]:
    """Where two of them have bytes in common.  O(n^2); a law speaks of few."""
    found = []
    for index, one in enumerate(some):
        for two in some[:index]:
            low = max(one.start, two.start)
            high = min(one.start + one.length, two.start + two.length)
            if one.space == two.space and low < high:
                found.append(Place(one.space, low, high - low))
    return list(dict.fromkeys(found))
