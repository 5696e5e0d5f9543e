"""Theorems: what a target's arithmetic does for every value of the machine's word, each one sentence.

A theorem is a function of a target and of inputs that are given to it.  It calls the target's own methods
and answers whether what it claims is so.  The inputs are words in a proof, and integers everywhere else, so
the same function is proved, tried on random values, and evaluated on a counterexample::

    @theorem("tlsf", "An aligned size is no smaller.", trace=one_request)
    def aligned(heap, given):
        size = given("size", 1, heap._mask)
        given.assume(size <= heap.contract.largest)
        return heap._adjust(size) >= size

Every theorem has controls: targets with a wrong kernel (of the gallery, a published revision, or of
``wrong_kernels``), for which there must be a counterexample that a trace shows to break a law.

>>> from heaplaw.impls.registry import factory
>>> find("tlsf/serves-enough").holds_for(factory("tlsf")(), {"size": 100})
True
"""

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from functools import cache
from random import Random
from typing import Any, NamedTuple

from .paths import Path, Vacuous

Values = Mapping[str, int]
Story = Callable[[Any, Values], str]
"""Operations, as lines of a trace file, that show what a counterexample means on this heap."""

WRONG = "heaplaw.properties.proofs.wrong_kernels:"
"""Begins the names of targets that are made there, for controls."""


class Given:
    """Inputs of a theorem; here integers: those of ``values``, or drawn where there are none."""

    def __init__(self, values: Values | None = None, rng: Random | None = None) -> None:
        self.values: dict[str, int] = dict(values or {})
        self._rng = rng

    def __call__(self, name: str, low: int, high: int) -> Any:
        """An integer from ``low`` to ``high``.  KeyError where nothing is known of it."""
        if name not in self.values and self._rng is not None:
            self.values[name] = _drawn(self._rng, low, high)
        return self.values[name]

    def assume(self, truth: Any) -> None:
        """Nothing is claimed where this does not hold.  Raises Vacuous."""
        if not truth:
            raise Vacuous


class GivenWords(Given):
    """Inputs of a proof."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def __call__(self, name: str, low: int, high: int) -> Any:
        return self._path.word(name, low, high) if low < high else low

    def assume(self, truth: Any) -> None:
        self._path.assume(truth)


def _drawn(rng: Random, low: int, high: int) -> int:
    """At the bounds, at a power of two, or of any magnitude."""
    kind = rng.randrange(4)
    if kind == 0:
        drawn = rng.choice((low, high)) + rng.choice((-1, 1)) * rng.randrange(3)
    elif kind == 1:
        drawn = (1 << rng.randrange(max(high, 1).bit_length() + 1)) + rng.randrange(-2, 3)
    else:
        drawn = rng.randrange(low, min(high, low + (1 << rng.randrange(1, 65))) + 1)
    return min(max(drawn, low), high)


class Control(NamedTuple):
    """A target that the theorem must not hold for."""

    target: str
    within: Callable[[Any, Given], Any] | None = None  # counterexamples that fit into so small a heap
    trace: Story | None = None  # where the theorem's own does not show it


class Theorem(NamedTuple):
    """See the module docstring; entered by ``theorem``."""

    id: str  # target/name
    sentence: str
    kernels: str  # the functions and methods that it is about
    targets: tuple[str, ...]  # which it is proved for
    claim: Callable[[Any, Given], Any]
    trace: Story
    controls: tuple[Control, ...]
    bound: str  # for which values; what is not covered, if anything
    law: str  # that a wrong kernel breaks, most likely

    @property
    def target(self) -> str:
        """The built-in target that it is about."""
        return self.id.partition("/")[0]

    def holds_for(self, heap: Any, values: Values) -> bool:
        """Is it so for these integers?  An exception of the target is not.  True where nothing is claimed."""
        return bool(self.said_of(heap, Given(values)))

    def said_of(self, heap: Any, given: Given) -> Any:
        """What the claim says; True where nothing is claimed."""
        try:
            return self.claim(heap, given)
        except Vacuous:
            return True
        except (AttributeError, TypeError):  # a target that is made otherwise
            raise
        except Exception:
            return False


_ENTERED: dict[str, Theorem] = {}
_Claim = Callable[[Any, Given], Any]


def theorem(
    target: str,
    sentence: str,
    *,
    kernels: str,
    trace: Story,
    targets: tuple[str, ...],
    controls: tuple[Control | str, ...],
    bound: str = "every value of the word",
    law: str = "",
) -> Callable[[_Claim], _Claim]:
    """Enter the claim that follows.  ``targets``: what it is proved for, 32 and 64 bits as a rule."""

    def enter(claim: _Claim) -> _Claim:
        id = f"{target}/{claim.__name__.replace('_', '-')}"
        if id in _ENTERED:
            raise ValueError(f"two theorems {id}")
        wrong = tuple(Control(one) if isinstance(one, str) else one for one in controls)
        _ENTERED[id] = Theorem(id, sentence, kernels, targets, claim, trace, wrong, bound, law)
        return claim

    return enter


@cache
def all_theorems() -> tuple[Theorem, ...]:
    """Every theorem, by module and place in it."""
    package = importlib.import_module(__package__)
    for module in pkgutil.iter_modules(package.__path__):
        if module.name.startswith("about_"):
            importlib.import_module(f"{__package__}.{module.name}")
    return tuple(_ENTERED.values())


def find(id: str) -> Theorem:
    """The theorem of this name.  KeyError for none."""
    all_theorems()
    return _ENTERED[id]


# ---- stories ---------------------------------------------------------------------------------


def one_request(heap: Any, values: Values) -> str:
    """A request of ``size`` bytes, aligned to ``align`` if that is an input."""
    return f"a = alloc {values['size']}" + (f" align {values['align']}" if values.get("align", 1) > 1 else "")
