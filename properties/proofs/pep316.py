"""Contracts in docstrings, as PEP 316 has them: what must hold before a function is called, and after.

    def kmalloc_serves(size: int) -> int:
        '''The class for a request is as large as the request.

        about: heaplaw.impls.kmalloc_classes.kmalloc_class
        pre: 0 < size <= 8192
        post: size <= __return__ <= 8192
        '''
        return kmalloc_class(size)

Here they are read and tried on integers; a solver has a part in neither, so what it says can be checked.

>>> def halved(n: int) -> int:
...     '''Half of a number is smaller.
...
...     pre: 0 <= n
...     post: __return__ < n
...     '''
...     return n // 2
>>> read(halved).sentence, broken(halved, [7]), broken(halved, [0])
('Half of a number is smaller.', '', 'not so: __return__ < n, where __return__ is 0')
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple


class Contract(NamedTuple):
    """One function's contract; conditions are expressions over its parameters and ``__return__``."""

    name: str
    sentence: str
    about: str  # the function that it calls, where another one stands for it
    pre: tuple[str, ...]
    post: tuple[str, ...]


class Unmet(Exception):  # noqa: N818 - nothing is wrong: the contract says nothing of such arguments
    """Arguments for which a precondition does not hold."""


def read(function: Callable[..., Any]) -> Contract:
    """A function's contract; with no ``post`` where it has none.  O(length of the docstring)."""
    text = inspect.getdoc(function) or ""
    found: dict[str, list[str]] = {"about": [], "pre": [], "post": []}
    for line in text.splitlines()[1:]:
        word, colon, rest = line.partition(":")
        if colon and word in found:
            found[word].append(rest.strip())
    about = found["about"][0] if found["about"] else f"{function.__module__}.{function.__qualname__}"
    sentence = text.split("\n\n")[0].replace("\n", " ")
    return Contract(function.__name__, sentence, about, tuple(found["pre"]), tuple(found["post"]))


def broken(function: Callable[..., Any], arguments: Sequence[Any]) -> str:
    """How the contract does not hold for these arguments, "" where it does.

    An exception of the function breaks it.  Raises Unmet, and whatever is wrong with a condition itself.
    """
    contract = read(function)
    given = inspect.signature(function).bind(*arguments).arguments
    for condition in contract.pre:
        if not _so(condition, function, given):
            raise Unmet(condition)
    try:
        answer = function(*arguments)
    except Exception as problem:
        return f"raises {type(problem).__name__}: {problem}".rstrip(": ")
    for condition in contract.post:
        if not _so(condition, function, {**given, "__return__": answer}):
            return f"not so: {condition}, where __return__ is {answer!r}"
    return ""


def assumed(function: Callable[..., Any]) -> list[str]:
    """Functions with a contract that this one calls, by name, itself left out.

    CrossHair takes the contract of a function that is called for granted: a path on which it is broken is left
    out, so that nothing is proved for it.  Looks at functions of modules, not at methods.  O(functions called).
    """
    seen, todo, found = {function}, [function], []
    while todo:
        for called in _called(todo.pop()):
            if called not in seen:
                seen.add(called)
                todo.append(called)
                if read(called).post:
                    found.append(called.__name__)
    return sorted(found)


def _called(function: Callable[..., Any]) -> list[Callable[..., Any]]:
    """Functions that the code of this one names, in its module or in those that this one imports."""
    codes = [function.__code__]
    names: set[str] = set()
    while codes:
        code = codes.pop()
        names.update(code.co_names)
        codes += [inner for inner in code.co_consts if inspect.iscode(inner)]
    known = function.__globals__
    modules = [known[name] for name in names if inspect.ismodule(known.get(name))]
    named = [vars(place)[name] for place in modules for name in names if name in vars(place)]
    named += [known[name] for name in names if name in known]
    return [plain for one in named if callable(one) and inspect.isfunction(plain := inspect.unwrap(one))]


def _so(condition: str, function: Callable[..., Any], names: dict[str, Any]) -> bool:
    """A condition with the names of the function's module and those given."""
    return bool(eval(condition, {**function.__globals__, **names}))
