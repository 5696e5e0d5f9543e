"""How a law is entered, and how it complains; the laws themselves are in ``laws``."""

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Any, NamedTuple


class Broken(Exception):
    """A law does not hold: what was expected and what was seen instead."""

    def __init__(self, law: str, expected: str, seen: str) -> None:
        super().__init__(f"{law}: expected {expected}; seen {seen}")
        self.law, self.expected, self.seen = law, expected, seen


class Law(NamedTuple):
    """``check(c)`` raises Broken; ``source`` is where the claim was made."""

    id: str
    sentence: str
    when: tuple[str, ...]  # the moments at which it is asked
    needs: tuple[str, ...]  # what must be shown or promised; "a|b": either
    source: str
    conditional: bool  # it counts itself, with c.met, how often its condition held
    check: Callable[[Any], None]


LAWS: dict[str, Law] = {}
"""By id, in the order of the book."""

FOLKLORE = "what malloc and free mean (ISO C 7.24.3)"


def meant(word: str, known: Iterable[str]) -> str:
    """A guess at what was misspelt, to go into a complaint; nothing where nothing is near.

    >>> meant("disjiont", ["disjoint", "aligned"])
    " (did you mean 'disjoint'?)"
    """
    near = get_close_matches(word, list(known), 1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def law(name: str, when: str, needs: str, sentence: str, source: str = FOLKLORE) -> Callable[..., Any]:
    """Enter a law; ``when`` and ``needs`` are lists of words, "?" marks a conditional law."""

    def enter(check: Callable[[Any], None]) -> Callable[[Any], None]:
        moments = tuple(word for word in when.split() if word != "?")
        LAWS[name] = Law(name, sentence, moments, tuple(needs.split()), source, "?" in when, check)
        return check

    return enter
