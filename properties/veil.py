"""Veils: a target that shows less than it could, so that a law can be judged by what it needs to see.

    black box   calls alone: the caller's to the target, and the target's to its page source
    contents    also what an object holds (``read``, ``write``)
    places      also where an object lies, and which pages are held (``extents``, ``pages``)
    metadata    everything

What is hidden is absent, as from a target that never had it, and the laws that need it do not apply.
A promise that speaks of what is hidden promises nothing: behind a veil, "must be served" is said only
where the requests, the answers and the page source's ledger tell it.  The page source belongs to every
level, since it is the caller who lends the pages.

>>> from heaplaw.impls.registry import factory
>>> target = veiled(factory("tlsf,arena=4096"), "black box")()
>>> target.alloc(24), hasattr(target, "extents"), hasattr(target, "realloc")
(8, False, True)
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from heaplaw.contract import Contract
from heaplaw.shadow import Block, Shadow

BLACK_BOX, CONTENTS, PLACES, METADATA = LEVELS = ("black box", "contents", "places", "metadata")
"""Levels of observation, each showing what the one before shows and more."""

_INSIDE = frozenset({"free_regions", "lists", "hints", "bitmap", "list_bits", "counters", "metadata", "cost"})
_WHERE = frozenset({"extents", "pages"})
_WHAT = frozenset({"read", "write"})
HIDDEN: dict[str, frozenset[str]] = {
    BLACK_BOX: _INSIDE | _WHERE | _WHAT, CONTENTS: _INSIDE | _WHERE, PLACES: _INSIDE, METADATA: frozenset(),
}  # fmt: skip
"""The methods of a target that are absent at each level."""

_MOST_CONTRACTS = 256


class UnseenError(Exception):
    """A promise asked for what a veil hides."""


class Veil:
    """A target behind a veil.  Everything but what the level hides is the target's own."""

    __slots__ = ("_hidden", "_target", "contract")

    def __init__(self, target: Any, level: str) -> None:
        """``level``: of LEVELS; KeyError for another."""
        self._target, self._hidden = target, HIDDEN[level]
        self.contract = told(target.contract, level)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name in self._hidden:  # its own state is asked for before there is any
            raise AttributeError(f"{name!r} is not shown")
        return getattr(self._target, name)


def veiled(build: Callable[[], Any], level: str) -> Callable[[], Any]:
    """What makes the same targets behind a veil; itself where nothing is hidden.  KeyError for no level."""
    return partial(_behind, build, level) if HIDDEN[level] else build


def _behind(build: Callable[[], Any], level: str) -> Veil:
    return Veil(build(), level)


# ---- what is still promised ------------------------------------------------------------------------

_told: dict[tuple[int, str], tuple[Contract, Contract]] = {}


def told(contract: Contract, level: str) -> Contract:
    """What a contract still promises at a level; the same object for the same contract.  KeyError for no level."""
    if "extents" not in HIDDEN[level]:
        return contract
    key = (id(contract), level)
    if key not in _told:
        if len(_told) > _MOST_CONTRACTS:
            _told.clear()
        _told[key] = contract, _without_places(contract)  # holding the contract keeps its id from being used again
    return _told[key][1]


def _without_places(contract: Contract) -> Contract:
    """Promises about lengths and neighbours end; predicates say what they can without them.

    An address tells where an object begins, so what is wrong with a node or zone can still be said of it.
    """
    return replace(
        contract,
        geometry=None, waste=None, mergeable=None, tiled=False, slack_grows=False, space_deterministic=False,
        isolated_groups=False,
        placement=contract.placement if contract.handles == "address" else None,
        must_serve=contract.must_serve and partial(_said, contract.must_serve),
        must_refuse=contract.must_refuse and partial(_said, contract.must_refuse),
        reserve=contract.reserve and partial(_amount, contract.reserve),
        must_resize=contract.must_resize and partial(_resized, contract.must_resize),
        compacted_pages=contract.compacted_pages and partial(_goal, contract.compacted_pages),
    )  # fmt: skip


def _said(predicate: Callable[..., bool], request: Any, shadow: Shadow, source: Any) -> bool:
    try:
        return predicate(request, Curtain(shadow), source)
    except UnseenError:
        return False


def _amount(reserve: Callable[..., int], request: Any, shadow: Shadow) -> int:
    try:
        return reserve(request, Curtain(shadow))
    except UnseenError:
        return -1


def _goal(pages: Callable[..., int | None], shadow: Shadow) -> int | None:
    try:
        return pages(Curtain(shadow))
    except UnseenError:
        return None


def _resized(must_resize: Callable[..., bool], block: Block, size: int, shadow: Shadow) -> bool:
    try:
        return must_resize(_Placeless(block), size, Curtain(shadow))
    except UnseenError:
        return False


class Curtain:
    """A shadow heap that knows what was asked and answered, but no places.  Raises UnseenError for those."""

    __slots__ = ("_shadow",)

    def __init__(self, shadow: Shadow) -> None:
        self._shadow = shadow

    def __len__(self) -> int:
        return len(self._shadow)

    @property
    def live(self) -> Mapping[int, "_Placeless"]:
        """The live objects by name.  O(live)."""
        return {name: _Placeless(block) for name, block in self._shadow.live.items()}

    def __getattr__(self, name: str) -> Any:
        if name not in ("names", "requested"):
            raise UnseenError(name)
        return getattr(self._shadow, name)


class _Placeless:
    """A block without its extents."""

    __slots__ = ("_block",)

    def __init__(self, block: Block) -> None:
        self._block = block

    def __getattr__(self, name: str) -> Any:
        if name in ("extents", "length"):
            raise UnseenError(name)
        return getattr(self._block, name)
