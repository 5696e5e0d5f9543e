"""The heap after each step as SVG: address across, a lane for each space, the violation marked in the last one.

The colours are Okabe and Ito's; every block carries its letter and one of six patterns besides, so that nothing
depends on colours.  Classes are explained by the style sheet of ``report.html.j2``.

>>> from heaplaw.properties.frames import Frame, Piece
>>> film = Film([Frame(1, "a = alloc 8", "at 0+8", live=[Piece("a", 0, 0, 8)], born=["a"])], bounds={0: (0, 64)})
>>> picture = drawn(film, None)
>>> picture.to_scale, "<title>Step 1: a = alloc 8" in picture.steps[0]
(True, True)
"""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any, NamedTuple

from markupsafe import Markup

from heaplaw.operations import birth_number
from heaplaw.properties.frames import Film, Frame, Hole, Piece, Place, clashes, objects, places
from heaplaw.runs import Violation

from .axis import Axis

WIDTH = 760
_EDGE, _LABEL = 8, 58  # pixels left and right; for the names of spaces, where there are several
_LANE, _GAP, _POINT = 34, 7, 40  # heights: of a lane, between lanes, below for the arrow and its words
_AXIS, _PAGE_ROW = 20, 15
_MOST_LANES = 6
_MOST_APART = 32  # objects in a lane that are drawn one by one, however narrow
_NARROW = 9.0  # pixels below which free neighbours are drawn as one
_LETTER, _SMALL = 8.0, 5.7  # pixels of a character in a block, and in small print
COLOURS, PATTERNS = 7, 6
_HERE = {
    "disjoint": "both own these bytes", "in-bounds": "outside the memory it manages", "big-enough": "too small",
    "aligned": "does not start where it must", "contents": "its bytes were changed", "zeroed": "not zero",
    "realloc-prefix": "its bytes were lost", "coalesced": "these two should be one free block",
    "tiling": "not as wide as it must be", "bitmap": "its bit is wrong",
    "must-refuse": "should have been refused", "waste-bound": "larger than promised", "geometry": "no legal place",
    "conservation": "these pages do not add up", "hint-region": "said to be free, but in use",
    "placement": "not the place asked for", "handle-stable": "a place that changed or is shared",
    "isolated": "two groups share this page", "hint-sound": "the region that the hint is about",
    "hint-exact": "the region that the hint is about", "size-class": "on the wrong list", "limits-honest": "here",
}  # fmt: skip


class Picture(NamedTuple):
    """What a page shows of a film."""

    axis: Markup
    steps: list[Markup]  # one SVG a frame
    to_scale: bool
    lanes_left_out: int
    paged: bool


def drawn(film: Film, found: Violation | None) -> Picture:
    """SVG of a film's axis and of each of its frames; ``found`` is marked in the last one."""
    scene = _Scene(film, found)
    last = len(film.frames) - 1
    steps = [scene.step(frame, at == last and found is not None) for at, frame in enumerate(film.frames)]
    return Picture(scene.ruler(), steps, scene.axis.to_scale, scene.left_out, bool(film.page_size))


class _Scene:
    """What all steps of a picture share."""

    def __init__(self, film: Film, found: Violation | None) -> None:
        self.film, self.found = film, found
        words = f"{found.expected}; {found.seen}" if found else ""
        last = film.frames[-1]
        self.about = [_widened(place, last) for place in places(words, film.page_size or 4096)]
        overlap = found is not None and found.law == "disjoint"
        self.clashes = (clashes(self.about) or self.about) if overlap else []  # the same place twice is one place
        self.names = objects(words)
        used, still = _busy(film)
        free = [Place(*hole[:3]) for frame in film.frames for hole in frame.free]
        lows, highs = zip(*film.bounds.values(), strict=True) if film.bounds else ((), ())
        bounds = (min(lows), max(highs)) if film.bounds else None
        lanes = sorted({place.space for place in (*used, *still, *self.about)} or set(film.spaces[:1]))
        self.left_out = max(0, len(lanes) - _MOST_LANES)
        marked = {place.space for place in self.about}
        self.lanes = sorted(sorted(lanes, key=lambda space: (space not in marked, space))[:_MOST_LANES])
        self.left = _EDGE + (_LABEL if len(self.lanes) > 1 else 0)
        held = [place for frame in film.frames for place in frame.pages] if not film.bounds else []
        room = WIDTH - self.left - _EDGE
        self.axis = Axis([*used, *self.about], [*still, *free], bounds, width=room, held=held)
        self.free_known = any(frame.free for frame in film.frames)

    def x(self, address: int) -> float:
        return round(self.left + self.axis.x(address), 1)

    def box(
        self, place: Sequence[int], top: float, height: float, kind: str, least: float = 1.5, **more: Any
    ) -> str:
        """A rectangle over (space, start, length)."""
        low, high = self.x(place[1]), self.x(place[1] + place[2])
        return _tag("rect", x=low, y=top, width=round(max(least, high - low), 1), height=height, class_=kind, **more)

    # ---- the parts of a picture --------------------------------------------------------------

    def ruler(self) -> Markup:
        """Ticks with addresses, and pages where memory comes in those."""
        parts = [_tag("line", x1=self.left, x2=WIDTH - _EDGE, y1=_AXIS - 1, y2=_AXIS - 1, class_="rule")]
        for tick in self.axis.ticks():
            x = round(self.left + tick.x, 1)
            parts.append(_tag("line", x1=x, x2=x, y1=_AXIS - 6, y2=_AXIS, class_="rule"))
            parts.append(_text(x, _AXIS - 9, tick.address, "tick", tick.anchor))
        height = _AXIS
        if pages := self._page_row():
            parts, height = [*parts, *pages], _AXIS + _PAGE_ROW
        return _svg(height, "Addresses in bytes", "", parts)

    def _page_row(self) -> list[str]:
        size = self.film.page_size
        if not size or self.film.bounds:
            return []
        runs = sorted({place for frame in self.film.frames for place in frame.pages})
        pages = sorted({page for run in runs for page in range(run.start // size, (run.start + run.length) // size)})
        parts = []
        for page in pages:
            low, high = self.x(page * size), self.x((page + 1) * size)
            word = next((word for word in (f"page {page}", str(page)) if len(word) * _SMALL + 4 < high - low), "")
            if word:
                parts.append(_text((low + high) / 2, _AXIS + 11, word, "page"))
        return parts

    def step(self, frame: Frame, broken: bool) -> Markup:
        """One frame."""
        pointed = self._pointed(frame) if broken else []
        parts: list[str] = []
        top = _GAP / 2 + (3 if broken else 0)
        for space in self.lanes:
            lane = _lane(frame, space)
            if len(self.lanes) > 1:
                parts.append(_text(_EDGE, top + lane / 2 + 4, f"space {space}", "lane", "start"))
            parts += self._ground(frame, space, top, lane)
            parts += self._free(frame, space, top, lane)
            blocks, letters = self._live(frame, space, top, lane)
            marks = self._marks(space, top, lane, pointed) if broken else []
            parts += [*blocks, *marks, *self._end(space, top, lane), *letters]
            top += lane + _GAP
            here = [one for one in pointed if one[0].space == space]
            if here:
                parts += self._arrows(here, top)
                top += _POINT * len(here) - _GAP
        title = f"Step {frame.number}: {frame.text} ({frame.outcome})"
        return _svg(top + (3 if broken else 0), title, _told(frame), parts)

    def _ground(self, frame: Frame, space: int, top: float, lane: float) -> list[str]:
        """The memory that there is: the arena, or the pages held now; where pages meet; and what is left out."""
        parts: list[str] = []
        if self.film.bounds:
            low, high = self.film.bounds.get(space, next(iter(self.film.bounds.values())))
            kind = "ground" if self.free_known else "ground unknown"
            parts.append(self.box((space, low, high - low), top, lane, kind))
        else:
            middle = top + lane / 2
            parts.append(_tag("line", x1=self.left, x2=WIDTH - _EDGE, y1=middle, y2=middle, class_="nothing"))
        size = self.film.page_size
        for run in frame.pages if not self.film.bounds and space == 0 else ():
            parts.append(self.box(run, top, lane, "ground"))
            for at in range(run.start + size, run.start + run.length, size):
                parts.append(_tag("line", x1=self.x(at), x2=self.x(at), y1=top, y2=top + lane, class_="seam"))
        for low, high in self.axis.voids:
            parts.append(_text((self.x(low) + self.x(high)) / 2, top + lane / 2 + 4, "⋯", "void"))
        return parts

    def _end(self, space: int, top: float, lane: float) -> list[str]:
        """Where the arena ends, if something lies beyond."""
        _, high = self.film.bounds.get(space, (0, self.axis.cuts[-1]))
        if high >= self.axis.cuts[-1]:
            return []
        return [
            _tag("line", x1=self.x(high), x2=self.x(high), y1=top - 4, y2=top + lane + 4, class_="end"),
            *self._label((space, high, self.axis.cuts[-1] - high), top + 9, ["beyond its memory"], "beyond", _SMALL),
        ]

    def _free(self, frame: Frame, space: int, top: float, lane: float) -> list[str]:
        """Free extents, and where freed and moved objects stood."""
        gone = [piece for piece in frame.gone if piece.space == space and piece.length > 0]
        left = [piece for piece in gone if not any(_shares(piece, other) for other in frame.live)]
        middle = top + lane / 2 + 3.5
        parts: list[str] = []
        for hole, many in self._bundled(hole for hole in frame.free if hole.space == space):
            parts.append(self.box(hole[:3], top, lane, "free"))
            words = [f"{hole.length} free in {many} pieces", f"{many} pieces"] if many > 1 else _free_words(hole)
            whole = Piece(words[-1], *hole[:3])
            over = [piece for piece in left if _shares(piece, whole)]
            clear = self._clear(whole, over)
            if not over or clear.length < hole.length:
                parts += self._label(clear, middle, words, "freeword", _SMALL)
        for piece in gone:
            if piece in left:
                parts.append(self.box(piece[1:], top + 3, lane - 6, "cover", rx=3))
            parts.append(self.box(piece[1:], top + 3, lane - 6, "gone", rx=3))
            if piece in left:
                words = [f"{piece.name} was here", f"({piece.name})", piece.name]
                parts += self._label(piece[1:], middle, words, "goneword", _SMALL)
        return parts

    def _bundled(self, holes: Iterable[Hole]) -> list[tuple[Hole, int]]:
        """Free extents, with neighbours that are too narrow to be told apart as one; and how many each stands for."""
        bundles: list[tuple[Hole, int]] = []
        for hole in holes:
            narrow = self.x(hole.start + hole.length) - self.x(hole.start) < _NARROW
            if bundles and narrow:
                last, many = bundles[-1]
                was = (self.x(last.start + last.length) - self.x(last.start)) / many
                if last.start + last.length == hole.start and was < _NARROW:
                    bundles[-1] = (Hole(last.space, last.start, last.length + hole.length, ""), many + 1)
                    continue
            bundles.append((hole, 1))
        return bundles

    def _live(self, frame: Frame, space: int, top: float, lane: float) -> tuple[list[str], list[str]]:
        """Blocks, and their letters.  Of two that overlap the older one stands above, so that both are seen."""
        here, many = self._apart(frame, [p for p in frame.live if p.space == space and p.length > 0])
        blocks: list[str] = []
        letters: list[str] = []
        for place, count in many:
            blocks.append(self.box(place, top, lane, "block many"))
            letters += self._label(place, top + lane / 2 + 3.5, [f"{count} blocks", str(count)], "freeword", _SMALL)
        crowd = _crowd(here)
        for piece in sorted(here, key=lambda piece: birth_number(piece.name)):
            rivals = crowd if piece in crowd else []
            others = [other for other in rivals if other is not piece and _shares(piece, other)]
            number = birth_number(piece.name)
            height = lane / 2 if others else lane
            row = top + (height if any(birth_number(other.name) < number for other in others) else 0)
            fresh = " fresh" if piece.name in frame.born or piece.name in frame.moved else ""
            blocks.append(self.box(piece[1:], row, height, f"block c{number % COLOURS}{fresh}", rx=3))
            pattern = f"fill:url(#hl-p{number % PATTERNS})"
            blocks.append(self.box(piece[1:], row, height, "weave", rx=3, style=pattern))
            clear = self._clear(piece, others)
            letters += self._label(clear, row + height / 2 + 4.5, [piece.name], "letter", _LETTER)
        return blocks, letters

    def _apart(self, frame: Frame, live: list[Piece]) -> tuple[list[Piece], list[tuple[Place, int]]]:
        """(those that are drawn, (place, how many) of neighbours that are too narrow to be told apart)."""
        shown = {*frame.born, *frame.moved, *self.names}
        drawn: list[Piece] = []
        many: list[tuple[Place, int]] = []
        for piece in sorted(live, key=lambda piece: piece.start):
            low, high = self.x(piece.start), self.x(piece.start + piece.length)
            if high - low >= _NARROW or piece.name in shown or len(live) <= _MOST_APART:
                drawn.append(piece)
            elif many and low - self.x(many[-1][0].start + many[-1][0].length) < _NARROW and not (
                drawn and drawn[-1].start > many[-1][0].start
            ):
                (_, start, _), count = many[-1]
                many[-1] = Place(piece.space, start, piece.start + piece.length - start), count + 1
            else:
                many.append((Place(*piece[1:]), 1))
        return drawn, many

    def _clear(self, piece: Piece, others: Sequence[Piece]) -> Place:
        """The widest part of it that it has for itself; all of it where none has room for its name."""
        end, at, parts = piece.start + piece.length, piece.start, []
        for other in sorted(others, key=lambda other: other.start):
            parts.append((at, min(other.start, end)))
            at = max(at, other.start + other.length)
        parts.append((at, end))
        low, high = max(parts, key=lambda part: self.x(part[1]) - self.x(part[0]))
        wide = self.x(high) - self.x(low) > len(piece.name) * _LETTER + 12
        return Place(piece.space, low, high - low) if wide else Place(*piece[1:])

    def _label(self, place: Sequence[int], y: float, words: Iterable[str], kind: str, pixels: float) -> list[str]:
        """The first of these that fits into the place."""
        low, high = self.x(place[1]), self.x(place[1] + place[2])
        for word in words:
            if len(word) * pixels + 4 <= high - low:
                middle = (low + high) / 2
                plate: list[str] = []
                if kind == "letter":
                    half = round(len(word) * pixels / 2 + 2.5, 1)
                    x, width = round(middle - half, 1), round(2 * half, 1)
                    plate = [_tag("rect", x=x, y=y - 11.5, width=width, height=14, class_="plate", rx=3)]
                return [*plate, _text(middle, y, word, kind)]
        return []

    # ---- the violation -------------------------------------------------------------------------

    def _marks(self, space: int, top: float, lane: float, pointed: Sequence[tuple[Place, str]]) -> list[str]:
        parts = [self.box(place, top, lane, "clash", 4) for place in self.clashes if place.space == space]
        outlined = self.clashes or self.about or [place for place, _ in pointed]
        if self.found is not None and self.found.law.startswith("hint") and pointed:
            outlined = [place for place, _ in pointed]
        return parts + [self.box(p, top - 2.5, lane + 5, "mark", 4, rx=4) for p in outlined if p.space == space]

    def _pointed(self, frame: Frame) -> list[tuple[Place, str]]:
        """(place, words) of each arrow."""
        assert self.found is not None
        law = self.found.law
        there = self.clashes or self.about
        if law.startswith("hint"):
            told = _hints_pointed(frame, self.found)
            if told:
                return told
        if not there:
            return _elsewhere(frame, self.found, self.lanes)
        words = _HERE.get(law, "this is what the law is about")
        if law == "free-list":
            lost = "not listed [(" in self.found.seen
            words = "free, but on no list" if lost else "on a list, but no free block begins here"
            words = "on a list twice" if self.found.seen.endswith("twice") else words
        elif law == "disjoint" and len(self.names) > 1:
            words = f"{self.names[0]} and {self.names[1]} both own these bytes"
        elif self.names:
            words = f"{self.names[0]}: {words}"
        if law == "coalesced":  # both of them
            low, high = min(p.start for p in there), max(p.start + p.length for p in there)
            return [(Place(there[0].space, low, high - low), words)]
        return [(there[0], words)]

    def _arrows(self, pointed: Sequence[tuple[Place, str]], top: float) -> list[str]:
        """Below a lane: a bracket under the place, an arrow to it, and words."""
        parts = []
        for at, (place, words) in enumerate(pointed):
            y = top + at * _POINT
            low, high = self.x(place.start), max(self.x(place.start + place.length), self.x(place.start) + 4)
            middle = round((low + high) / 2, 1)
            if at or not self.clashes:
                parts.append(_tag("path", d=f"M{low} {y - 2}v5H{high}v-5", class_="bracket"))
            parts.append(_tag("path", d=f"M{middle} {y + 3}l-6 10h12z", class_="arrow"))
            half = len(words) * 6.7 / 2 + 6
            anchor, x = ("start", max(low, _EDGE)) if middle - half < _EDGE else ("middle", middle)
            if middle + half > WIDTH - _EDGE:
                anchor, x = "end", WIDTH - _EDGE
            parts.append(_text(x, y + 27, f"✗ {words}", "says", anchor))
        return parts


def _busy(film: Film) -> tuple[list[Place], list[Place]]:
    """(where something happens, where objects stand still all the time): of a few objects all are of the first kind."""
    always: set[Piece] = set.intersection(*(set(frame.live) for frame in film.frames))
    every = {piece for frame in film.frames for piece in (*frame.live, *frame.gone)}
    if len(every) <= _MOST_APART:
        always = set()
    moving, still = ([Place(*p[1:]) for p in sorted(some)] for some in (every - always, always))
    return moving, still


def _crowd(pieces: Sequence[Piece]) -> list[Piece]:
    """Those that share a byte with another.  O(n log n)."""
    found: list[Piece] = []
    reaching: Piece | None = None
    for piece in sorted(pieces, key=lambda piece: piece.start):
        if reaching is not None and _shares(reaching, piece):
            found += [piece] if reaching in found else [reaching, piece]
        if reaching is None or piece.start + piece.length > reaching.start + reaching.length:
            reaching = piece
    return found


def _lane(frame: Frame, space: int) -> float:
    """Height of a lane: two objects at one place take more."""
    return 1.5 * _LANE if _crowd([p for p in frame.live if p.space == space and p.length > 0]) else _LANE


def _hints_pointed(frame: Frame, found: Violation) -> list[tuple[Place, str]]:
    """What a hint claims, where it claims that, beside the truth."""
    name = found.expected.partition(" ")[0]
    named = [hint for hint in frame.hints if hint.name == name]
    if found.law == "hint-region":
        about = places(found.expected)
        claims = [hint for hint in named if [Place(hint.space, hint.claimed_at, hint.claimed)] == about]
        inside = objects(found.seen)
        words = f"{name} says that all of this is free" + (f", but {inside[0]} is there" if inside else "")
        return [(about[0], words)] if claims or about else []
    wrong = [hint for hint in named if not hint.holds] or [hint for hint in named if hint.truth != hint.value]
    pointed = []
    for hint in wrong[:1]:
        quantity = hint.about.split(",")[0]
        words = f"{hint.name} says {hint.value}, but the {quantity} is {hint.truth}"
        if hint.claimed_at >= 0 and hint.claimed:
            words = f"{hint.name} says that these {hint.value} bytes are free; the {quantity} is {hint.truth}"
            pointed.append((Place(hint.space, hint.claimed_at, hint.claimed), words))
        else:
            pointed.append((Place(hint.space, hint.start, hint.length), words))
    return pointed


def _elsewhere(frame: Frame, found: Violation, lanes: Sequence[int]) -> list[tuple[Place, str]]:
    """What to point at where the law's words name no address: room that was refused, or the object of a lost call."""
    if frame.refused and found.law not in ("must-refuse", "refusal-pure", "returns"):
        holes = [hole for hole in frame.free if hole.space in lanes]
        if holes:
            best = max(holes, key=lambda hole: (hole.length, -hole.start))
            return [(Place(*best[:3]), f"refused, while {best.length} bytes are free here")]
    if found.law == "returns":
        name = frame.text.rpartition(" ")[2]
        mine = [piece for piece in frame.live if piece.name == name and piece.space in lanes]
        if mine:
            return [(Place(*mine[0][1:]), f"the call about {name} does not return as it must")]
    return []


def _widened(place: Place, frame: Frame) -> Place:
    """A block that is named by its first byte, whole; what is not known to begin there stays a byte."""
    if place.length > 1:
        return place
    known = [Place(*hole[:3]) for hole in frame.free] + [Place(*piece[1:]) for piece in (*frame.live, *frame.gone)]
    return next((one for one in known if one[:2] == place[:2]), place)


def _shares(one: Piece, two: Piece) -> bool:
    """Have they bytes in common?"""
    return one.space == two.space and max(one.start, two.start) < min(one.start + one.length, two.start + two.length)


def _free_words(hole: Hole) -> list[str]:
    size = f"{hole.length} free"
    return ([f"{size}, list {hole.list}", f"list {hole.list}"] if hole.list else []) + [size, "free"]


def _told(frame: Frame) -> str:
    """A frame in words, for who cannot see it."""
    live = [f"{piece.name} at {piece.space}:{piece.start}+{piece.length}" for piece in frame.live[:40]]
    free = [f"{hole.space}:{hole.start}+{hole.length}" for hole in frame.free[:40]]
    return f"Live: {', '.join(live) or 'nothing'}. Free: {', '.join(free) or 'nothing is shown'}."


def _svg(height: float, title: str, told: str, parts: Iterable[str]) -> Markup:
    words = [_tag("title", title), _tag("desc", told)] if told else [_tag("title", title)]
    return Markup(_element("svg", "".join([*words, *parts]), viewBox=f"0 0 {WIDTH} {round(height, 1)}", role="img"))


def _text(x: float, y: float, words: object, kind: str, anchor: str = "middle") -> str:
    return _tag("text", str(words), x=round(x, 1), y=round(y, 1), class_=kind, text_anchor=anchor)


def _tag(name: str, content: str = "", **attributes: Any) -> str:
    """An element with this text."""
    return _element(name, escape(content) if content else "", **attributes)


def _element(name: str, inside: str, **attributes: Any) -> str:
    """An element; ``class_`` and ``text_anchor`` are written as SVG writes them."""
    spelled = [f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"' for key, value in attributes.items()]
    return f"<{name}{''.join(spelled)}>{inside}</{name}>"
