"""A native allocator's contract, from the numbers that ``heaplaw_promise`` answers.

Rules that are functions in a Python contract are a few common shapes with numbers in them: "a list a length class",
"so many edges and so many a live block", "served if there is such a gap".  What fits no shape is not promised.

>>> merged_overhead(8, 16, 0, (0, 256), Shadow(), None)  # one free block between a prologue and the end
16
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from heaplaw import Contract, Request, Shadow

from ..bits import align_up
from ..promises import always

if TYPE_CHECKING:
    from heaplaw import FreeRegion, PageSource

    from .library import Library

_MOST_ENTRIES = 1000  # of a table of promises; the next table begins there
_REJECTS = ((1, "zero"), (2, "huge"), (4, "align"))
_DETECTS = ((1, "double"), (2, "foreign"), (4, "interior"), (8, "size"))
_DEFAULT_ALIGN = 4096


def linear(fixed: int, each: int, request: Any, shadow: Shadow) -> int:
    """A bound that grows with the number of live blocks, the one that the request made included."""
    return fixed + each * (len(shadow) + 1)


def metadata_bound(fixed: int, each: int, shadow: Shadow, source: "PageSource | None") -> int:
    """Bytes of metadata at most."""
    return fixed + each * len(shadow)


def slack(fixed: int, permille: int, granule: int, size: int, align: int) -> int:
    """Bytes that a block may be longer than asked for."""
    return fixed + size * permille // 1000 + (align if align > granule else 0)


def list_of(least: Sequence[int], region: "FreeRegion") -> int | None:
    """The number of the list whose class a free region's length lies in; None: shorter than any."""
    at = bisect_right(least, region.length) - 1
    return at if at >= 0 else None


def serves_gap(
    granule: int, extra: int, most: tuple[int, int], bounds: tuple[int, int], request: Request, shadow: Shadow,
    source: "PageSource | None",
) -> bool:  # fmt: skip
    """Is there a gap between live blocks that a request surely fits into?  ``most``: size and alignment.  O(live)."""
    if request.atomic or not 0 < request.size <= most[0] or request.align > most[1]:
        return False
    need = align_up(request.size, granule) + (request.align if request.align > granule else 0) + extra
    return any(end - start >= need for start, end in shadow.gaps(0, *bounds))


def merged_overhead(
    header: int, prologue: int, epilogue: int, bounds: tuple[int, int], shadow: Shadow, source: "PageSource | None"
) -> int:
    """Bytes that belong to no block of an arena whose free neighbours are merged.  O(live).

    A gap between two live blocks is one seam, or holds one free block between two seams.
    """
    low, high = bounds[0] + prologue, bounds[1] - epilogue
    total, at = prologue + epilogue, low
    for start, end, _ in shadow.extents(0, bounds[0], bounds[1]):
        seam = 0 if at == low else header
        total += seam if start - at == seam else seam + header
        at = end
    if at != low and at != high:
        total += header
    return total


class Promises:
    """Asks one heap's promises."""

    def __init__(self, library: "Library", heap: int) -> None:
        self._library = library
        self._heap = heap
        self._states = "PROMISES" in library.has

    def get(self, name: str, index: int = 0) -> int | None:
        """A promise by its name in the header; None where nothing is promised."""
        if not self._states:
            return None
        value = int(self._library.opened.heaplaw_promise(self._heap, self._library.number(name) + index))
        return None if value == -1 else value

    def number(self, name: str, otherwise: int) -> int:
        """A promise by its name, or what holds where nothing is promised."""
        value = self.get(name)
        return otherwise if value is None else value

    def table(self, name: str) -> list[int]:
        """The entries of a table of promises, up to the first that is not promised."""
        found: list[int] = []
        while len(found) < _MOST_ENTRIES and (value := self.get(name, len(found))) is not None:
            found.append(value)
        return found

    def words(self, name: str, table: Sequence[tuple[int, str]]) -> frozenset[str]:
        """The words of a table whose bits are set in a promise."""
        bits = self.number(name, 0)
        return frozenset(word for bit, word in table if bits & bit)

    def named(self, name: str, kind: str) -> dict[str, int]:
        """Promises about the named values of a kind of records, by name."""
        schema = self._library.schema(self._library.number(kind)) if "OBSERVES" in self._library.has else None
        names = schema.names.get("name", ()) if schema is not None else ()
        found = {word: self.get(name, index) for index, word in enumerate(names)}
        return {word: value for word, value in found.items() if value is not None}


def granted(promises: Promises, largest: int) -> int:
    """The alignment that may be asked for."""
    return min(promises.number("MAX_ALIGN", _DEFAULT_ALIGN), 1 << max(0, largest.bit_length() - 1))


class Layout(NamedTuple):
    """Where the blocks of a heap may lie; bytes."""

    granule: int
    header: int
    prologue: int
    epilogue: int
    bounds: tuple[int, int]  # of space 0
    most: tuple[int, int]  # size and alignment that may be asked for
    paged: bool


def rules(p: Promises, here: Layout, *, merges: bool, shows: frozenset[str]) -> dict[str, Any]:
    """The rules of a contract that are functions, where the library promises their numbers."""
    found: dict[str, Any] = {}
    if merges:
        found["mergeable"] = always
    if "free_regions" in shows and not here.paged and not p.number("OPAQUE", 0) and (merges or not here.header):
        found["overhead"] = partial(merged_overhead, here.header, here.prologue, here.epilogue, here.bounds)
    if (extra := p.get("SERVES_GAP")) is not None and not here.paged:
        found["must_serve"] = partial(serves_gap, here.granule, extra, here.most, here.bounds)
    if p.get("SLACK") is not None or p.get("SLACK_PERMILLE") is not None:
        found["waste"] = partial(slack, p.number("SLACK", 0), p.number("SLACK_PERMILLE", 0), here.granule)
    if p.get("METADATA_HEAP") is not None:
        found["metadata_bound"] = partial(metadata_bound, p.number("METADATA_HEAP", 0), p.number("METADATA_BLOCK", 0))
    if least := p.table("LIST_FROM"):
        found["list_of"] = partial(list_of, tuple(least))
    return found


def contract(library: "Library", heap: int, arena: int, shift: int, shows: frozenset[str]) -> Contract:
    """What a library promises of a heap over ``arena`` bytes whose space 0 begins at ``shift``."""
    p = Promises(library, heap)
    arena = p.number("ARENA", arena)
    flags, kinds = p.number("FLAGS", 0), maintenance(library)
    granule, largest = p.number("GRANULE", 1), p.number("MAX_SIZE", arena)
    header, prologue, epilogue = p.number("HEADER", 0), p.number("PROLOGUE", 0), p.number("EPILOGUE", 0)
    paged, bounds = p.get("PAGE_SIZE") is not None, (shift, shift + arena)
    most = largest, granted(p, largest) if "ALIGNS" in library.has else 1
    here = Layout(granule, header, prologue, epilogue, bounds, most, paged)
    return Contract(
        arena=0 if paged else arena,
        min_size=p.number("MIN_SIZE", 1),
        max_size=largest,
        granule=granule,
        max_align=most[1],
        limits=tuple(p.table("LIMIT")),
        handles="opaque" if p.number("OPAQUE", 0) else "address",
        realloc_aligns=bool(flags & library.number("REALLOC_ALIGNS")),
        sized_free="FREES_SIZED" in library.has,
        contextual="CONTEXTUAL" in library.has,
        cpus=p.number("CPUS", 1),
        mappings=p.number("MAPPINGS", 0),
        groups=p.number("GROUPS", 0),
        maintenance=kinds,
        moving=_chosen(kinds, p.number("MOVING", 0)),
        evicting=_chosen(kinds, p.number("EVICTING", 0)),
        pinned=bool(flags & library.number("PINNED")),
        slack_grows=bool(flags & library.number("SLACK_GROWS")),
        detects=p.words("DETECTS", _DETECTS),  # type: ignore[arg-type]  # the words of Misuse
        rejects=p.words("REJECTS", _REJECTS),
        zeroed=bool(flags & library.number("ZEROED")),
        deterministic=bool(flags & library.number("DETERMINISTIC")),
        header=header,
        prologue=prologue,
        epilogue=epilogue,
        bounds={0: bounds} if shift else {},
        spaces="pages" if paged else "arena",
        drained_size=p.get("DRAINED_SIZE"),
        drained_pages=p.get("DRAINED_PAGES"),
        free_then_alloc=bool(flags & library.number("FREE_THEN_ALLOC")),
        cost_bounds=cost_bounds(library, p),
        hint_slack=p.named("HINT_SLACK", "HINTS"),
        **rules(p, here, merges=bool(flags & library.number("MERGES")), shows=shows),
    )


def maintenance(library: "Library") -> tuple[str, ...]:
    """The kinds of maintenance by name."""
    schema = library.schema(library.number("MAINTENANCE")) if "MAINTAINS" in library.has else None
    return schema.columns if schema is not None else ()


def _chosen(kinds: Sequence[str], bits: int) -> frozenset[str]:
    return frozenset(kind for at, kind in enumerate(kinds) if bits >> at & 1)


def cost_bounds(library: "Library", promises: Promises) -> dict[str, Callable[[Request, Shadow], int]]:
    """Bounds of steps by name; of edges only where they are counted."""
    found: dict[str, Callable[[Request, Shadow], int]] = {
        name: partial(linear, most, 0) for name, most in promises.named("MOST", "COST").items()
    }
    if library.edges is not None and (most := promises.get("EDGES")) is not None:
        found["edges"] = partial(linear, most, promises.number("EDGES_BLOCK", 0))
    return found
