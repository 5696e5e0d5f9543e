"""Which targets a change touches: the files that a target is made of, as far as its sources say.

A Python target is made of its module and of what that imports inside the project, read from the text without
running it; C and C++ of the sources and of what they include in quotes.  What no text says (data files, modules
imported by a computed name) is for ``files`` in the configuration.  Where it is not known what a target is made
of, as of a shared library that somebody else builds, it counts as changed.

>>> import tempfile
>>> with tempfile.TemporaryDirectory() as place:
...     root = Path(place).resolve()
...     _ = (root / "pool.py").write_text("import lists")
...     _ = (root / "lists.py").write_text("import os")
...     sorted(file.name for file in made_of(Aim("pool.py:Pool"), root))
['lists.py', 'pool.py']
"""

import ast
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from heaplaw.impls.naming import is_native, parse
from heaplaw.impls.registry import BUILT_IN

from .configuration import OWN, SHARED, Aim, Configuration

_INCLUDED = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)
_EVERYBODYS = (OWN, SHARED, "setup.py", "setup.cfg", "requirements*.txt", "*.lock")  # decide what is installed
_NOT_OURS = {"site-packages", "dist-packages"}


def touched(settings: Configuration, aims: Iterable[Aim], changes: Sequence[Path]) -> dict[Aim, str]:
    """Of these targets the ones that a change touches, each with the file that says so."""
    root = settings.root
    ours = [path.resolve() for path in changes]
    for path in ours:
        if _is_everybodys(path, settings) or (not path.exists() and path.suffix in (".py", ".c", ".h", ".cpp", ".hpp")):
            return dict.fromkeys(aims, _shown(path, root))  # of a deleted file nobody can say who needed it
    found: dict[Aim, str] = {}
    for aim in aims:
        files = made_of(aim, root)
        if files is None:
            found[aim] = "what it is made of is not known"
        elif changed := [path for path in ours if path in files]:
            found[aim] = _shown(changed[0], root)
    return found


def _shown(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def _is_everybodys(path: Path, settings: Configuration) -> bool:
    """Does it decide what is checked, or with what?"""
    root = settings.root
    if path == settings.file or (path.parent == root and any(path.match(pattern) for pattern in _EVERYBODYS)):
        return True
    ledgers = (settings.corpus, settings.counterexamples, settings.certificates, *(one.trace for one in settings.known))
    places = [(root / place).resolve() for place in ledgers if place and "://" not in place]
    return any(path == place or path.is_relative_to(place) for place in places)


def made_of(aim: Aim, root: Path) -> set[Path] | None:
    """Files of the project that a target is made of, resolved; None where that is not known."""
    extra = {path.resolve() for pattern in aim.files for path in root.glob(pattern)}
    if aim.sources:
        return extra | _reached([root / source for source in aim.sources], _includes)
    base = parse(aim.name).base
    if is_native(aim.name):
        return extra or None
    if ":" not in base:
        module = BUILT_IN[base].module if base in BUILT_IN else ""
        starts = list(_files_of(module, root))
    else:
        where = base.rpartition(":")[0]
        starts = [root / where] if where.endswith(".py") else list(_files_of(where, root))
    found = _reached(starts, lambda path: _imports(path, root))
    return extra | {path for path in found if path.is_relative_to(root)}


def _reached(starts: Iterable[Path], follow: Callable[[Path], list[Path]]) -> set[Path]:
    """Files that are there, and those that they lead to."""
    seen: set[Path] = set()
    waiting = list(starts)
    while waiting:
        path = waiting.pop().resolve()
        if path not in seen and path.is_file():
            seen.add(path)
            waiting += follow(path)
    return seen


def _includes(path: Path) -> list[Path]:
    return [path.parent / name for name in _INCLUDED.findall(path.read_text(encoding="utf-8", errors="replace"))]


def _imports(path: Path, root: Path) -> list[Path]:
    """Files that a module's imports may mean."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError):
        return []  # it cannot be imported either: the target's own step says so
    found: list[Path] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                found += _files_of(name.name, root)
        elif isinstance(node, ast.ImportFrom):
            for name in node.names:
                module = ".".join(filter(None, (node.module, name.name)))
                if node.level:
                    found += _files_below(path.parents[node.level - 1], module)
                else:
                    found += _files_of(module, root)
    return found


def _files_of(module: str, root: Path) -> Iterator[Path]:
    """Files that importing a module by its full name may read."""
    own = [Path(entry).resolve() for entry in sys.path if entry]
    for place in (root, root / "src", *(entry for entry in own if entry.is_relative_to(root))):
        if not _NOT_OURS & set(place.parts):
            yield from _files_below(place, module)


def _files_below(folder: Path, module: str) -> Iterator[Path]:
    """The same below a folder: each package on the way, the module, and nothing for what is no file."""
    yield folder / "__init__.py"
    for part in filter(None, module.split(".")):
        yield folder / f"{part}.py"
        folder = folder / part
        yield folder / "__init__.py"
