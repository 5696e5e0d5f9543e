"""Proofs that are remembered: by the text of the code, of the theorem and of what proves it, and the solver's version.

The key of a proof is a hash of every module of this package that the target and the theorem are made of,
imports of imports included, so that one changed character makes a new one.  Only what is certain is kept;
the folder may be thrown away at any time.

>>> key("kernel", "tlsf/serves-enough", "tlsf", "heaplaw.impls.tlsf") == key("kernel", "tlsf/serves-enough", "tlsf")
False
"""

import ast
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from .proving import Proof
from .verdicts import PROVED, REFUTED

_PACKAGE = "heaplaw"
_SOLVERS = ("z3-solver", "crosshair-tool")


@cache
def _text(module: str) -> str | None:
    """A module's source; None for what is no module of this package."""
    if module.partition(".")[0] != _PACKAGE:
        return None
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        return None
    if found is None or found.origin is None or not found.origin.endswith(".py"):
        return None
    return Path(found.origin).read_text()


@cache
def _imported(module: str) -> frozenset[str]:
    """Modules that a module imports, or takes names from."""
    text, names = _text(module), set[str]()
    found = importlib.util.find_spec(module) if text is not None else None
    is_package = found is not None and found.submodule_search_locations
    package = (module if is_package else module.rpartition(".")[0]).split(".")
    for node in ast.walk(ast.parse(text or "")):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            base = ".".join(part for part in (above, node.module) if part)
            names.add(base)
            names.update(f"{base}.{alias.name}" for alias in node.names)
    return frozenset(name for name in names if _text(name) is not None)


@cache
def modules_behind(module: str) -> tuple[str, ...]:
    """The module and all that it is made of, in order of their names.  O(modules)."""
    waiting, seen = [module], set[str]()
    while waiting:
        one = waiting.pop()
        if one not in seen and _text(one) is not None:
            seen.add(one)
            waiting += _imported(one)
    return tuple(sorted(seen))


def key(*parts: str) -> str:
    """The key of a proof: parts that are names of modules stand for all text behind them."""
    return _hash([*parts, *map(_all_text, parts), *map(_version, _SOLVERS)])


@cache
def _all_text(module: str) -> str:
    """A hash of a module and of all that it is made of; of nothing for what is no module."""
    return _hash([f"{name} {_text(name)}" for name in modules_behind(module)])


@cache
def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def _hash(parts: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


class Memory:
    """Proofs by key, one file each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def recall(self, key_: str) -> Proof | None:
        """What is known; None for nothing, and for a file that cannot be read."""
        try:
            data = json.loads((self._folder / key_).read_text())
            data["values"] = tuple((str(name), int(value)) for name, value in data["values"])
            return Proof(**data)
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def keep(self, key_: str, proof: Proof) -> None:
        """Remember what is certain.  A folder that cannot be written to is done without."""
        if proof.verdict not in (PROVED, REFUTED):
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=self._folder, delete=False) as file:
                json.dump(proof._asdict(), file)
            os.replace(file.name, self._folder / key_)  # never half a file
        except OSError:
            return
