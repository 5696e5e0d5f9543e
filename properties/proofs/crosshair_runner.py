"""Running CrossHair: what it says of contracts becomes a verdict, and only what it confirms is proved.

CrossHair runs real Python code on symbolic values, path by path.  Each contract is checked in a process of its own,
under a wall-clock limit: one that crashes, hangs or opens what it must not takes nothing else along.  Of what the
process prints only "Confirmed over all paths" for every written postcondition, and exit code 0, is *proved*.  A
counterexample is *refuted* after it was seen again on integers, in a fresh process without CrossHair.  Everything
else, known or unknown, is *inconclusive*.

Versions that are known to have confirmed what has a counterexample are not run:

* crosshair-tool up to 0.0.107 gives a wrong element, or none, of a list that is indexed by a negative symbolic integer
  (pschanely/CrossHair#440): ``[10, 20, 30][i] != 30`` is "confirmed" for all ``-3 <= i < 0``.
* hypothesis-crosshair up to 0.0.22 claims to have verified a test of which paths were left out
  (pschanely/hypothesis-crosshair#31, pschanely/CrossHair#354; repaired by pschanely/hypothesis-crosshair#33).

>>> Checked("f", REFUTED, 0.4, "f(size=1)", "not so: __return__ > 8, where __return__ is 8").verdict
'refuted'
"""

import ast
import importlib.metadata
import inspect
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, NamedTuple

from . import pep316
from .verdicts import NOT_RUN, PROVED, REFUTED, UNCLEAR

SECONDS = 20.0  # of CPU time for one condition
NEEDED = "crosshair-tool"
REPAIRED = {
    "crosshair-tool": ((0, 0, 108), "confirms what has a counterexample (pschanely/CrossHair#440)"),
    "hypothesis-crosshair": ((0, 0, 23), "verifies what has a counterexample (pschanely/hypothesis-crosshair#31)"),
}
"""Versions from which on a known false green is repaired, and what it was."""

_INSTALL = "pip install 'heaplaw[symbolic]'"
_CONFIRMED = "Confirmed over all paths."
_MESSAGE = re.compile(r".+?:\d+: (info|error): (.*)")
_CALL = re.compile(r".* when calling (\w+\(.*?\))(?: \(which returns .*\))?")
_SLACK = 20.0  # seconds of wall time for starting a process
_LOADED = 4  # times as much wall time as CPU time, on a machine that others use too
_TELL = "import sys; from heaplaw.properties.proofs.crosshair_runner import tell; tell(*sys.argv[1:])"


class Checked(NamedTuple):
    """What came of a contract."""

    name: str
    verdict: str
    seconds: float = 0.0  # of wall time, starting processes included
    counterexample: str = ""  # a call, as it could be typed
    why: str = ""  # it is refuted, or not proved


class Output(NamedTuple):
    """What a process left behind."""

    code: int | None  # None: it was stopped for want of time
    out: str
    err: str

    @property
    def last_words(self) -> str:
        """The last line on standard error, or how it ended."""
        lines = self.err.strip().splitlines()
        return lines[-1] if lines else f"it ended with {self.code}"


def why_not(package: str = NEEDED) -> str | None:
    """Why CrossHair is not run, in one line; None where it can be."""
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return f"{package} is not installed: {_INSTALL}"
    least, fault = REPAIRED[package]
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:3])
    if numbers >= least:
        return None
    return f"{package} {version} {fault}; it takes {'.'.join(map(str, least))}: {_INSTALL} --upgrade"


# ---- processes ------------------------------------------------------------------------------


def run(arguments: Sequence[str], seconds: float, path: Sequence[str] = ()) -> Output:
    """Run this Python with ``arguments`` for so many seconds of wall time; ``path``: folders of modules before others.

    Nothing is imported from the current directory, and no compiled files are written.  Stopped with all it started.
    """
    known = [*path, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    settings = {"PYTHONPATH": os.pathsep.join(known), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0"}
    with subprocess.Popen(
        [sys.executable, "-P", *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, errors="replace", env={**os.environ, **settings}, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return Output(None, *process.communicate())
        except BaseException:  # Ctrl-C must not leave it behind
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return Output(process.returncode, out, err)


def limits(seconds: float) -> tuple[list[str], float]:
    """CrossHair's options for so many seconds of CPU time a condition, and the seconds of wall time that go with them.

    A path may take all of a condition's time: what matters is whether all paths end.
    """
    options = [f"--per_condition_timeout={seconds}", f"--per_path_timeout={seconds}"]
    return options, _SLACK + _LOADED * seconds


# ---- contracts ------------------------------------------------------------------------------


def contracts_of(module: ModuleType) -> list[Callable[..., Any]]:
    """The functions of a module that have a contract, in its order."""
    mine = [one for one in vars(module).values() if inspect.isfunction(one) and one.__module__ == module.__name__]
    return [one for one in mine if pep316.read(one).post]


def check(function: Callable[..., Any], *, seconds: float = SECONDS, path: Sequence[str] = ()) -> Checked:
    """Prove or refute one contract.  ``path``: folders to import its module from.

    The function must be one of a module that a fresh process can import.  O(paths), at most ``seconds`` of CPU time
    for each postcondition.
    """
    name = f"{function.__module__}.{function.__qualname__}"
    if (problem := why_not()) is not None:
        return Checked(name, NOT_RUN, why=problem)
    contract = pep316.read(function)
    if not contract.post:
        return Checked(name, UNCLEAR, why="it promises nothing: no line of its docstring begins with post:")
    if taken := pep316.assumed(function):
        return Checked(name, UNCLEAR, why=f"it calls {', '.join(taken)}, whose own contract would be assumed")
    started = time.monotonic()
    options, wall = limits(seconds)
    command = ["-m", "crosshair", "check", "--analysis_kind=PEP316", "--report_all", *options, name]
    said = run(command, wall * len(contract.post), path)
    found = verdict_of(name, said, len(contract.post))
    if found.verdict == REFUTED:
        found = _seen_again(found, wall, path)
    return found._replace(seconds=time.monotonic() - started)


def verdict_of(name: str, said: Output, conditions: int) -> Checked:
    """What ``crosshair check`` says of a contract with so many postconditions, before any replay.  O(lines)."""
    if said.code is None:
        return Checked(name, UNCLEAR, why="out of time: it was stopped")
    lines = said.out.splitlines()
    messages = [match.groups() for line in lines if (match := _MESSAGE.fullmatch(line))]
    if len(messages) < len(lines) or not messages:
        return Checked(name, UNCLEAR, why=f"crosshair says nothing that is known: {_shown(lines) or said.last_words}")
    errors = [text for kind, text in messages if kind == "error"]
    if errors:
        calls = [match[1] for text in errors if said.code == 1 and (match := _CALL.fullmatch(text))]
        if calls:
            return Checked(name, REFUTED, counterexample=calls[0], why=errors[0])
        return Checked(name, UNCLEAR, why=errors[0])
    other = [text for _, text in messages if text != _CONFIRMED]
    if other:
        return Checked(name, UNCLEAR, why=other[0])
    if len(messages) < conditions or said.code:
        seen = f"{len(messages)} of {conditions} conditions are confirmed, and it ended with {said.code}"
        return Checked(name, UNCLEAR, why=seen)
    return Checked(name, PROVED)


def _shown(lines: Sequence[str]) -> str:
    return next((line for line in lines if not _MESSAGE.fullmatch(line)), "")


# ---- replay ---------------------------------------------------------------------------------


def arguments_of(call: str) -> list[Any]:
    """The arguments of a call of literals, such as ``f(1, True)``.  ValueError for anything else."""
    try:
        tree = ast.parse(call, mode="eval").body
    except SyntaxError:
        raise ValueError(f"{call} is no call") from None
    if not isinstance(tree, ast.Call) or tree.keywords:
        raise ValueError(f"{call} is no call with arguments by position")
    return [ast.literal_eval(argument) for argument in tree.args]


def _seen_again(found: Checked, seconds: float, path: Sequence[str]) -> Checked:
    """Refuted only if the contract is broken on integers as well."""
    try:
        arguments = arguments_of(found.counterexample)
    except ValueError as problem:
        return found._replace(verdict=UNCLEAR, why=f"the counterexample cannot be tried: {problem}")
    said = run(["-c", _TELL, found.name, json.dumps(arguments)], seconds, path)
    how = said.out.strip()
    if said.code != 0 or not how:
        why = f"the counterexample {found.counterexample} did not recur: {how or said.last_words}"
        return found._replace(verdict=UNCLEAR, why=why)
    return found._replace(why=how)


def tell(name: str, arguments: str) -> None:
    """Print how the contract of ``package.module.function`` is broken; exit with 1, and say so, where it is not."""
    where, _, function = name.rpartition(".")
    module = __import__(where, fromlist=[function])
    try:
        how = pep316.broken(getattr(module, function), json.loads(arguments))
    except pep316.Unmet as condition:
        sys.exit(f"the precondition {condition} does not hold")
    if not how:
        sys.exit("the contract holds")
    print(how)
