"""What an allocator shows, and how it says no.

An allocator under test is any object with ``contract``, ``alloc`` and ``free``.
Every other method named here is optional and found by its presence; the more an
allocator shows, the more laws apply.  Observations are read from the allocator's
own structures when asked for, never from a second book kept for the checker.

Example, a complete allocator::

    class Bump:
        contract = Contract(arena=4096)
        def __init__(self): self.top = 0
        def alloc(self, size, align=1, *, ctx=None):
            if self.top + size > 4096: return None          # no memory
            self.top += size
            return self.top - size                          # 0 is a valid handle
        def free(self, handle): pass
"""

from collections.abc import Hashable, Iterable, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from .contract import Contract
    from .pages import PageSource

Handle = Hashable
"""Whatever ``alloc`` answers: an offset, a pair, an opaque number.  0 is valid."""


class Refusal(Enum):
    """Why ``alloc`` or ``realloc`` refused.  ``None`` means NO_MEMORY as well."""

    INVALID = "invalid"  # the request makes no sense: zero size, odd alignment
    TOO_BIG = "too big"  # above the advertised maximum
    NO_MEMORY = "no memory"
    WOULD_BLOCK = "would block"  # an atomic request that needs to sleep


class InvalidFree(Exception):
    """The allocator noticed a bad free (double, foreign, interior, wrong size)."""


class Context(NamedTuple):
    """Circumstances of a call; passed as ``ctx`` where the contract is ``contextual``."""

    cpu: int = 0
    atomic: bool = False
    group: int = 0  # 0 is "no group"


class Extent(NamedTuple):
    """One physical piece of an object, slack included: bytes within a space."""

    space: int
    start: int
    length: int


class FreeRegion(NamedTuple):
    """A free stretch as the allocator's own map or headers describe it."""

    space: int
    start: int
    length: int
    list_id: Hashable = None  # None: free, but on no list by design


class Listed(NamedTuple):
    """One member met while walking the allocator's lists."""

    list_id: Hashable
    key: Hashable  # (space, start) of a free region; any name for a container


class Direction(Enum):
    """On which side of the truth a hint may lie."""

    LOWER = "lower"  # value <= truth
    UPPER = "upper"  # value >= truth
    EXACT = "exact"


class Quantity(Enum):
    """What a hint bounds, recounted by the checker from the shadow heap (bytes)."""

    LONGEST_FREE = "longest free run"
    FREE = "free bytes"
    FIRST_FREE = "first free position, relative to the region"
    FREE_AT_START = "free run at the region's start"
    FREE_AT_END = "free run at the region's end"


class Hint(NamedTuple):
    """A cached guess about free space; ``value`` in bytes, about ``region``."""

    name: str
    value: int
    region: Extent
    direction: Direction
    quantity: Quantity
    witness: Extent | None = None  # the place that is claimed to be free


class AllocationBits(NamedTuple):
    """An allocation bitmap: bit ``i`` set means ``unit`` bytes at ``start + i*unit`` are live."""

    space: int
    start: int
    unit: int  # bytes
    units: int  # how many
    bits: int


class ListBit(NamedTuple):
    """A bitmap bit that claims that at least one of these lists is non-empty."""

    name: str
    lists: tuple[Hashable, ...]
    is_set: bool


class Maintained(NamedTuple):
    """What a ``maintain`` call did."""

    pages_freed: int = 0
    moved: int = 0  # objects
    evicted: tuple[Handle, ...] = ()  # objects that ended


class Allocator(Protocol):
    """The two methods that every target has."""

    contract: "Contract"

    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> Any:
        """Serve ``size`` bytes; a handle, ``None`` (no memory) or a ``Refusal``."""

    def free(self, handle: Any) -> None:
        """Give an object back.

        With ``contract.sized_free`` called as ``free(handle, size)``; where the contract has
        several ``cpus``, ``ctx`` is given as well.
        """


class Shows(Allocator, Protocol):
    """The optional methods, together; a target implements those that it can."""

    source: "PageSource"

    def realloc(self, handle: Any, size: int) -> Any: ...  # handle or refusal; old one survives
    def read(self, handle: Any, at: int, length: int) -> bytes: ...  # requested bytes only
    def write(self, handle: Any, at: int, data: bytes) -> None: ...
    def extents(self, handle: Any) -> tuple[tuple[int, int, int], ...]: ...
    def pages(self) -> Iterable[tuple[int, int]]: ...  # (first page, count) runs owned
    def free_regions(self) -> Iterable[FreeRegion]: ...
    def lists(self) -> Iterable[Listed]: ...
    def hints(self) -> Iterable[Hint]: ...
    def bitmap(self) -> Iterable[AllocationBits]: ...
    def list_bits(self) -> Iterable[ListBit]: ...
    def counters(self) -> Mapping[str, int]: ...  # free_bytes used_bytes live_objects pages ...
    def metadata(self) -> tuple[int, int]: ...  # bytes in place, bytes out of band
    def cost(self) -> Mapping[str, int]: ...  # steps of the last call, by name
    def maintain(self, kind: str) -> Maintained: ...
    def link(self, handle: Any, other: Any) -> None: ...
    def map(self, handle: Any) -> None: ...  # with ctx where the contract has several cpus
    def unmap(self, handle: Any) -> None: ...
    def destroy(self) -> None: ...
    def snapshot(self) -> Hashable: ...
    def restore(self, state: Any) -> None: ...
