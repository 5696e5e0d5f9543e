"""Do two kernels differ?  CrossHair looks for arguments for which they do, or goes through all paths of both.

A kernel is a function of whole numbers, named ``package.module:function`` or ``path/file.py:function``.  Parameters
with a default keep it; the others take every value, or every one for which a condition holds.  Two kernels behave
the same where they return what is equal, or raise exceptions of one type.

``crosshair diffbehavior`` finds differences, which are then seen again on integers in a fresh process.  That it found
none, and exhausted all paths, is not enough for *same*: it takes exceptions that are its own doing for behaviour, so
that two functions which both do what it forbids (write a file, say) are "likely the same" for it, whatever they
return, as of version 0.0.112.  So the contract that both are equal must be confirmed as well, by
``crosshair check``, where such an exception is an error.

>>> print(Difference("a:f", "b:f", DIFFERENT, {"n": 7}, ("returns 3", "returns 4")).call)
n=7
"""

import ast
import inspect
import json
import re
import sys
import tempfile
import time
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from heaplaw.impls.registry import _own_class

from . import pep316
from .crosshair_runner import Output, arguments_of, limits, run, verdict_of, why_not
from .verdicts import NOT_RUN, PROVED, REFUTED, UNCLEAR

SAME, DIFFERENT = "same", "different"
SECONDS = 20.0  # of CPU time
BEHAVIOUR = (ArithmeticError, LookupError, ValueError, AssertionError)
"""Exceptions that are a kernel's answer.  Any other one may be CrossHair's, and says nothing."""

_MODULE = "kernels_to_compare"
_EXHAUSTED = "All paths exhausted, functions are likely the same!"
_NONE_FOUND = re.compile(r"No differences found\. \(attempted \d+ iterations\)")
_GIVEN = re.compile(r"Given: \((.*)\),")
_TELL = "import sys; from heaplaw.properties.proofs.differing import tell; tell(*sys.argv[1:])"
_SIDE_BY_SIDE = '''"""Two kernels side by side."""

from heaplaw.properties.proofs.differing import kernel, outcome

_one, _two = kernel({one!r}), kernel({two!r})


def one({typed}) -> object:
    return _one({names}) if {where} else None


def two({typed}) -> object:
    return _two({names}) if {where} else None


def same({typed}) -> object:
    """Both behave the same.

    pre: {where}
    post: __return__[0] == __return__[1]
    """
    return outcome(_one, {names}), outcome(_two, {names})
'''


class KernelError(ValueError):
    """What cannot be compared; the message says why."""


class Difference(NamedTuple):
    """What came of comparing two kernels."""

    one: str
    two: str
    verdict: str
    arguments: dict[str, int] = {}  # noqa: RUF012 - never changed; for which they differ
    results: tuple[str, str] = ("", "")  # of both
    seconds: float = 0.0  # of wall time
    why: str = ""  # it is neither same nor different

    @property
    def call(self) -> str:
        """The arguments as they could be typed."""
        return ", ".join(f"{name}={value}" for name, value in self.arguments.items())


def differ(one: str, two: str, seconds: float = SECONDS, where: str = "") -> Difference:
    """Compare two kernels; ``where``: an expression over the parameters of the first, which limits them.

    Raises KernelError or TargetError for what is no kernel.  At most ``seconds`` of CPU time.
    """
    names = shared_parameters(kernel(one), kernel(two), one, two)
    _check_condition(where, names)
    nothing = Difference(one, two, NOT_RUN)
    if (problem := why_not()) is not None:
        return nothing._replace(why=problem)
    if taken := [name for each in (one, two) for name in _assumed(each)]:
        return nothing._replace(verdict=UNCLEAR, why=f"the contract of {', '.join(taken)} would be assumed")
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="heaplaw-") as folder:
        typed = ", ".join(f"{name}: int" for name in names)
        text = _SIDE_BY_SIDE.format(one=one, two=two, typed=typed, names=", ".join(names), where=where or "True")
        (Path(folder) / f"{_MODULE}.py").write_text(text)
        found = _compared(nothing._replace(verdict=UNCLEAR), names, folder, seconds)
    return found._replace(seconds=time.monotonic() - started)


def _compared(nothing: Difference, names: list[str], folder: str, seconds: float) -> Difference:
    """The verdict, from both of CrossHair's commands; each has half of the time."""
    options, wall = limits(seconds / 2)
    pair = [f"{_MODULE}.one", f"{_MODULE}.two"]
    command = ["-m", "crosshair", "diffbehavior", "--exception_equivalence=SAME_TYPE", *options, *pair]
    searched = run(command, wall, [folder])
    calls = list(_given(searched, names))
    command = ["-m", "crosshair", "check", "--analysis_kind=PEP316", "--report_all", *options, f"{_MODULE}.same"]
    contract = verdict_of("same", run(command, wall, [folder]) if not calls else Output(0, "", ""), 1)
    if contract.verdict == REFUTED:
        calls = [dict(zip(names, arguments_of(contract.counterexample), strict=True))]
    for arguments in calls:
        results, differ_too = _seen_again(nothing, arguments, wall)
        if differ_too:
            return nothing._replace(verdict=DIFFERENT, arguments=arguments, results=results)
    if calls:
        said = ", ".join(f"{name}={value}" for name, value in calls[0].items())
        return nothing._replace(why=f"a difference for {said} did not recur")
    if contract.verdict != PROVED:
        return nothing._replace(why=contract.why)
    if searched.code is None:
        return nothing._replace(why="out of time: it was stopped")
    lines = searched.out.splitlines()
    exhausted = len(lines) == 2 and bool(_NONE_FOUND.fullmatch(lines[0])) and lines[1] == _EXHAUSTED
    if searched.code != 0 or not exhausted:
        return nothing._replace(why=lines[-1] if lines else searched.last_words)
    return nothing._replace(verdict=SAME)


def _given(said: Output, names: list[str]) -> Iterator[dict[str, int]]:
    """Arguments for which ``crosshair diffbehavior`` saw a difference; what is not understood is left out."""
    for line in said.out.splitlines():
        if (match := _GIVEN.fullmatch(line)) is None:
            continue
        try:
            tree = ast.parse(f"f({match[1]})", mode="eval").body
            assert isinstance(tree, ast.Call)
            values = {one.arg: ast.literal_eval(one.value) for one in tree.keywords}
        except (SyntaxError, ValueError):
            continue
        if list(values) == names:
            yield {str(name): value for name, value in values.items()}


# ---- kernels --------------------------------------------------------------------------------


def kernel(name: str) -> Callable[..., Any]:
    """The function of this name, without a cache around it.  Raises TargetError or KernelError."""
    if ":" not in name:
        raise KernelError(f"{name!r} names no function; write package.module:function or path/file.py:function")
    found = inspect.unwrap(_own_class(name))
    if not inspect.isfunction(found):
        raise KernelError(f"{name} is no function but a {type(found).__name__}")
    return found


def _assumed(name: str) -> list[str]:
    """The kernel, and functions that it calls, as far as they have a contract of their own."""
    function = kernel(name)
    return [name] * bool(pep316.read(function).post) + pep316.assumed(function)


def shared_parameters(one: Callable[..., Any], two: Callable[..., Any], first: str, second: str) -> list[str]:
    """Names of the whole numbers that both take, as the first one calls them.  Raises KernelError."""
    mine, others = _numbers(one, first), _numbers(two, second)
    if len(mine) != len(others):
        raise KernelError(f"{first} takes {len(mine)} numbers, and {second} takes {len(others)}")
    return mine


def kept(function: Callable[..., Any]) -> dict[str, Any]:
    """Parameters that keep their defaults."""
    known = inspect.signature(function).parameters.values()
    return {one.name: one.default for one in known if one.default is not inspect.Parameter.empty}


def _numbers(function: Callable[..., Any], name: str) -> list[str]:
    """Parameters without a default; each must be an integer."""
    try:
        types = typing.get_type_hints(function)
    except NameError as problem:
        raise KernelError(f"{name} is no kernel: an annotation cannot be read: {problem}") from None
    found = []
    for one in inspect.signature(function).parameters.values():
        if one.default is not inspect.Parameter.empty or one.kind is inspect.Parameter.VAR_KEYWORD:
            continue
        if one.kind is inspect.Parameter.KEYWORD_ONLY or types.get(one.name) is not int:
            raise KernelError(f"{name} is no kernel: {one.name} is not annotated as an int by position")
        found.append(one.name)
    if not found:
        raise KernelError(f"{name} is no kernel: it takes no number")
    return found


def _check_condition(where: str, names: list[str]) -> None:
    """KernelError unless it is empty, or one expression over the parameters."""
    if not where:
        return
    try:
        tree = ast.parse(where, mode="eval")
    except SyntaxError:
        raise KernelError(f"{where!r} is no condition, such as {names[0]} > 0") from None
    unknown = sorted({one.id for one in ast.walk(tree) if isinstance(one, ast.Name)} - set(names))
    if unknown or set(where) & set("\n#'\"\\"):
        raise KernelError(f"{where!r} is no condition over {', '.join(names)}")


# ---- what they do ---------------------------------------------------------------------------


def outcome(function: Callable[..., Any], *arguments: int) -> tuple[str, Any]:
    """What a kernel does: its answer, or the type of its exception."""
    try:
        return "returns", function(*arguments)
    except BEHAVIOUR as problem:
        return "raises", type(problem).__name__


def _seen_again(nothing: Difference, arguments: dict[str, int], seconds: float) -> tuple[tuple[str, str], bool]:
    """What both do with integers in a fresh process, and whether that differs."""
    said = run(["-c", _TELL, nothing.one, nothing.two, json.dumps(list(arguments.values()))], seconds)
    try:
        one, two, differ_too = json.loads(said.out)
    except ValueError:
        return ("", ""), False
    return (one, two), said.code == 0 and differ_too is True


def tell(one: str, two: str, arguments: str) -> None:
    """Print what both kernels do, and whether that differs."""
    given = json.loads(arguments)
    first, second = outcome(kernel(one), *given), outcome(kernel(two), *given)
    shown = [f"{how} {what!r}" if how == "returns" else f"{how} {what}" for how, what in (first, second)]
    json.dump([*shown, first != second], sys.stdout)
