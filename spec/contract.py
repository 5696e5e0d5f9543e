"""What an allocator promises.

A ``Contract`` with nothing but a size is enough to start; every further promise
is opt-in and brings the laws that hold the allocator to it.  Sizes, lengths and
alignments are bytes everywhere.  Predicates are shown what their types say: the request,
the shadow heap (what was asked and answered), the page source's ledger, a block or a free
region; never the target's own hints.

>>> Contract(arena=4096).largest
4096
"""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from .pages import PageSource
    from .protocol import FreeRegion, Maintained
    from .shadow import Block, Shadow

Misuse = Literal["double", "foreign", "interior", "size"]


class Request(NamedTuple):
    """One request for memory as the caller made it."""

    size: int
    align: int = 1
    atomic: bool = False
    group: int = 0
    cpu: int = 0


class Maintenance(NamedTuple):
    """One run of maintenance, as its answer, the page source and the target's counters tell of it."""

    kind: str
    done: "Maintained"
    taken: int  # pages that the source lent meanwhile
    given: int  # pages that it got back
    starved: bool  # it refused some
    repeats: int  # how often the same was done just before, with nothing between and never starved
    wanted: bool | None  # was an atomic request refused for want of memory since the last one?  None: not known
    before: Mapping[str, int]  # counters; empty where none are shown
    after: Mapping[str, int]


ServeRule = Callable[["Request", "Shadow", "PageSource | None"], bool]
"""May look at the request, the shadow heap and the page ledger, at nothing else."""


@dataclass(frozen=True, kw_only=True)
class Contract:
    """Promises of one configured allocator; see the module docstring."""

    # -- what can be asked for
    arena: int = 0  # bytes of each address space; 0: only pages bound it
    min_size: int = 1  # smallest size that a fresh heap serves
    max_size: int | None = None  # largest size that a fresh heap serves; None: see `largest`
    granule: int = 1  # every address is a multiple of this
    max_align: int = 1  # largest alignment that may be asked for; 1: `alloc(size)` is called
    limits: tuple[int, ...] = ()  # class limits and thresholds, for the size palette
    # -- how it is called
    handles: Literal["address", "opaque"] = "address"  # address: offset in space 0
    realloc_aligns: bool = False  # resizing keeps the alignment that was asked for
    sized_free: bool = False  # called as free(handle, size)
    contextual: bool = False  # alloc takes ctx
    cpus: int = 1  # more than one: free, map and unmap take ctx too
    mappings: int = 0  # most objects mapped at once on a CPU; 0: any number
    groups: int = 0  # how many groups may be named in ctx
    maintenance: tuple[str, ...] = ()  # kinds that `maintain` knows
    moving: frozenset[str] = frozenset()  # kinds of maintenance that may move objects
    evicting: frozenset[str] = frozenset()  # kinds that may evict objects
    pinned: bool = False  # an object that is mapped stays where it is
    slack_grows: bool = False  # a live extent may grow when a neighbour is split
    # -- misuse that is detected
    detects: frozenset[Misuse] = frozenset()  # bad frees that raise InvalidFree
    rejects: frozenset[str] = frozenset()  # of "zero", "huge", "align": refused with a Refusal
    # -- contents
    zeroed: bool = False  # a fresh block is all zero
    deterministic: bool = True  # the same calls give the same answers
    # -- space
    header: int = 0  # bytes between two neighbouring blocks
    prologue: int = 0  # bytes before the first block of a space
    epilogue: int = 0  # bytes after the last one
    bounds: Mapping[int, tuple[int, int]] = field(default_factory=dict)  # of spaces that are not [0, arena)
    spaces: Literal["arena", "pages"] = "arena"  # pages: space 0 is the page source's memory
    tiled: bool = False  # pages: live and free blocks tile every run of pages that is held
    mergeable: "Callable[[FreeRegion, FreeRegion], bool] | None" = None  # must not stay side by side
    list_of: "Callable[[FreeRegion], Hashable] | None" = None  # the list a free region belongs on
    container_list: "Callable[[Shadow], Callable[[Hashable], Hashable]] | None" = None  # same, containers
    geometry: "Callable[[Block], str | None] | None" = None  # what is wrong with a placement
    overhead: "Callable[[Shadow, PageSource | None], int] | None" = None  # bytes owned, not lent
    pending: "Callable[[Shadow], int] | None" = None  # bytes freed but not yet reusable
    metadata_bound: "Callable[[Shadow, PageSource | None], int] | None" = None  # most bytes, in place and beside
    waste: Callable[[int, int], int] | None = None  # (size, align) -> most slack in bytes
    page_order: int | None = None  # highest order ever asked of the page source
    # -- all freed
    drained_size: int | None = None  # must be served after everything was freed
    drained_pages: int | None = None  # most pages held then
    drained_after: str | None = None  # ... once this maintenance has run
    # -- refusal and search
    must_serve: ServeRule | None = None  # must a request be served now?
    must_refuse: ServeRule | None = None  # must it be refused?
    must_resize: "Callable[[Block, int, Shadow], bool] | None" = None  # ... a resize to so many bytes
    free_then_alloc: bool = False  # what was freed can be had again at once
    cost_bounds: Mapping[str, Callable[["Request", "Shadow"], int]] = field(default_factory=dict)  # step -> at most
    # -- hints
    hint_slack: Mapping[str, int] = field(default_factory=dict)  # name -> bytes that it may lag
    hint_relations: "Callable[[Mapping[str, int]], str | None] | None" = None  # what is wrong among a region's
    # -- compaction, groups, guarantees
    compacted_pages: "Callable[[Shadow], int | None] | None" = None  # exact pages after "compact", where known
    maintained: "Callable[[Maintenance, Shadow], str | None] | None" = None  # what is wrong after any other kind
    isolated_groups: bool = False  # an object that names no group is a group of its own
    space_deterministic: bool = False  # a group's pages do not depend on other groups
    placement: "Callable[[Request, Block], str | None] | None" = None  # what is wrong with the node or the zone
    reserve: "Callable[[Request, Shadow], int] | None" = None  # bytes that it gets though pages are refused

    def __post_init__(self) -> None:
        """Raises ValueError for promises that contradict each other."""
        if self.arena < 0 or self.granule < 1 or self.max_align < 1:
            raise ValueError("arena must not be negative, granule and max_align must be at least 1")
        if self.tiled and self.spaces != "pages":
            raise ValueError("tiled is about runs of pages: it needs spaces='pages'")
        if "size" in self.detects and not self.sized_free:
            raise ValueError("a wrong size can only be detected by a free that is given the size (sized_free)")

    def bounds_of(self, space: int) -> tuple[int, int]:
        """(start, end) of an address space, in bytes."""
        return self.bounds.get(space, (0, self.arena))

    @property
    def largest(self) -> int:
        """Largest size worth asking for, in bytes."""
        return self.arena if self.max_size is None else self.max_size
