"""The bug gallery: real allocator bugs, each re-created as one small change of a target of this package.

A bug is a subclass of the target that it is planted in (or a function that makes one), with where
it comes from and which law it breaks.  ``tlsf+T09`` names the target with that bug in it.

>>> find("tlsf", "T31").law
'realloc-failure'
"""

import importlib
import pkgutil
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple, TypeVar

_Build = TypeVar("_Build", bound=Callable[..., Any])


class Bug(NamedTuple):
    """One bug of the gallery."""

    id: str
    target: str  # the built-in target that it changes
    title: str  # what goes wrong, one line
    source: str  # where it was found and mended; for a derived one, what it was derived from
    law: str  # the law that its shortest counterexample breaks
    build: Callable[..., Any]  # takes the target's parameters
    derived: bool = False  # thought up here, or carried over from another allocator's code
    variants: tuple[str, ...] = ()  # parameters that a check goes through; empty: those of the target
    note: str = ""  # what had to be adapted
    equivalent: str = ""  # why nothing can tell it from the target; empty: something can

    @property
    def name(self) -> str:
        """As every command takes it."""
        return f"{self.target}+{self.id}"


_ENTERED: dict[str, Bug] = {}


def bug(
    id: str,
    target: str,
    title: str,
    *,
    source: str,
    law: str,
    derived: bool = False,
    variants: tuple[str, ...] = (),
    note: str = "",
    equivalent: str = "",
) -> Callable[[_Build], _Build]:
    """Enter what follows in the gallery.  Raises ValueError for an id that is taken."""

    def enter(build: _Build) -> _Build:
        if id in _ENTERED:
            raise ValueError(f"two bugs called {id}")
        _ENTERED[id] = Bug(id, target, title, source, law, build, derived, variants, note, equivalent)
        return build

    return enter


@cache
def gallery() -> tuple[Bug, ...]:
    """All bugs, by target and id.  Imports every target."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return tuple(sorted(_ENTERED.values(), key=lambda one: (one.target, one.id)))


def find(target: str, id: str) -> Bug | None:
    """The bug of this id in this target, or None."""
    return next((one for one in gallery() if (one.target, one.id) == (target, id)), None)


def bugs_of(target: str) -> tuple[Bug, ...]:
    """All bugs planted in a target."""
    return tuple(one for one in gallery() if one.target == target)
