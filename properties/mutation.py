"""Mutation score: how many small changes of a target's own code a check notices.

Every mutant is judged by the plain engine as `heaplaw check` runs it, in a process that has loaded the
target with that one change, within so many seconds of CPU time.  A mutant that hangs before a law
is broken is *inconclusive*, never killed.

>>> [module.rpartition(".")[2] for module in modules_of("tlsf")]
['bits', 'tlsf', 'tlsf_lists', 'tlsf_mapping']
"""

import ast
import importlib
import importlib.util
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from random import Random
from types import ModuleType
from typing import NamedTuple

from heaplaw.checker import Hang
from heaplaw.impls.naming import TargetError, parse
from heaplaw.impls.registry import BUILT_IN, factory, variants

from .mutants import Mutant, mutants, mutated, names_in_steps, only_for_states
from .plain import in_turn
from .processes import Lost, each
from .watchdog import watchdog

_PACKAGE = "heaplaw.impls."
_ASIDE = ("promises", "parameters", "page_images", "registry", "bugs")  # modules that take no steps
_TASKS = 40  # mutants that a worker judges, about, before it is replaced
_GRACE = 5.0  # CPU seconds after which a whole judgment is cut off

KILLED, SURVIVED, HUNG = "killed", "survived", "inconclusive"
PUBLISHED = "only published revisions run it"  # why a mutant is not judged: no check of the target meets it


class Judged(NamedTuple):
    """A mutant and what became of it."""

    mutant: Mutant
    verdict: str
    law: str = ""  # that killed it
    seconds: float = 0.0  # of CPU time
    operations: int = 0


def modules_of(target: str) -> list[str]:
    """Names of the modules whose code a built-in target runs, promises aside.  Raises TargetError."""
    base = parse(target).base
    if base not in BUILT_IN:
        raise TargetError(f"{base!r} is not built in; mutants are made of {', '.join(BUILT_IN)}")
    waiting, found = [BUILT_IN[base].module], set[str]()
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            waiting += _imports(module)
    return sorted(found)


def text_of(module: str) -> str:
    """A module's source."""
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).read_text()


def _imports(module: str) -> list[str]:
    """Modules of the same package that a module takes its steps from."""
    named = [
        _PACKAGE + name
        for node in _relative_imports(module)
        for name in ([node.module] if node.module else [alias.name for alias in node.names])  # from .x, from . import x
    ]
    return [name for name in named if not any(word in name.removeprefix(_PACKAGE) for word in _ASIDE)]


def _relative_imports(module: str) -> list[ast.ImportFrom]:
    nodes = ast.walk(ast.parse(text_of(module)))
    return [node for node in nodes if isinstance(node, ast.ImportFrom) and node.level == 1]


def all_mutants(target: str) -> list[Mutant]:
    """All mutants of a target's code, module by module; not of what it does not use of modules that it shares."""
    modules = modules_of(target)
    lines = _lines_used(target, modules)
    return [
        mutant for module in modules for mutant in mutants(module, text_of(module)) if mutant.line in lines[module]
    ]


def _lines_used(target: str, modules: Sequence[str]) -> dict[str, set[int]]:
    """By module, the lines of the classes and functions that a target's class mentions, or that those mention."""
    known = BUILT_IN[parse(target).base]
    trees = {module: ast.parse(text_of(module)) for module in modules}
    aside = only_for_states(trees.values())
    waiting, seen = [(known.module, known.cls)], set[tuple[str, str]]()
    lines: dict[str, set[int]] = {module: set() for module in modules}
    while waiting:
        place = module, name = waiting.pop()
        if place in seen or module not in trees:
            continue
        seen.add(place)
        for source in _relative_imports(module):
            if name in {alias.name for alias in source.names}:
                waiting.append((_PACKAGE + (source.module or ""), name))
        for node in trees[module].body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
                lines[module] |= set(range(node.lineno, (node.end_lineno or 0) + 1))
                waiting += [(module, other) for other in names_in_steps(node)]
            elif isinstance(node, ast.Assign | ast.AnnAssign) and name in _bound(node):
                waiting += [(module, other) for other in names_in_steps(node)]
    for module, tree in trees.items():
        for one in ast.walk(tree):
            if isinstance(one, ast.FunctionDef) and one.name in aside:
                lines[module] -= set(range(one.lineno, (one.end_lineno or 0) + 1))
    return lines


def _bound(node: ast.Assign | ast.AnnAssign) -> set[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return {target.id for target in targets if isinstance(target, ast.Name)}


def score(
    target: str,
    chosen: Sequence[Mutant],
    *,
    seconds: float = 5.0,
    seed: int = 1,
    jobs: int = 1,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Judged]:
    """Judge mutants of a target, each within so many seconds of CPU time; in the order of ``chosen``."""

    def lost(index: int, problem: Exception) -> Judged:
        how = "a crash" if isinstance(problem, Lost) else f"no check: {type(problem).__name__}: {problem}"
        return Judged(chosen[index], HUNG, how)

    judged = []
    work = [(target, mutant, seconds, seed) for mutant in chosen]
    for one in each(judge, work, lost, jobs=jobs, together=_TASKS):
        judged.append(one)
        progress(len(judged))
    return judged


# ---- one mutant ---------------------------------------------------------------------------


def judge(target: str, mutant: Mutant, seconds: float, seed: int) -> Judged:
    """Check a target that has this change in it, until a law is broken or the time is up."""
    started = time.process_time()
    with loaded_anew(Finder(mutant.module, mutated(text_of(mutant.module), mutant.number))):
        try:
            with watchdog(seconds + _GRACE):
                law, operations = _first_broken(target, seconds, seed)
        except Hang:
            law, operations = "a hang", 0
    spent = time.process_time() - started
    verdict = HUNG if law == "a hang" else KILLED if law else SURVIVED
    return Judged(mutant, verdict, law, spent, operations)


def _first_broken(target: str, seconds: float, seed: int) -> tuple[str, int]:
    """The first law that breaks and the operations until then; no law if the time is up."""
    end = time.process_time() + seconds
    rng = Random(f"mutants {target} {seed}")
    try:
        runs = in_turn({name: factory(name) for name in variants(target)}, rng)
    except Exception:  # not even a fresh heap can be made
        return "returns", 0
    operations, otherwise = 0, ""
    for _, run, found in runs:
        operations += run.checker.index + 1
        if run.checker.problem == "a hang":
            otherwise = "a hang"  # no kill; another run may break a law
        elif found is not None:
            return found.law, operations
        if time.process_time() > end:
            break
    return otherwise, operations


class Finder(MetaPathFinder, Loader):
    """Imports one module from a tree instead of its file."""

    def __init__(self, module: str, tree: ast.Module) -> None:
        self._module, self._tree = module, tree

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name == self._module else None

    def create_module(self, spec: ModuleSpec) -> None:
        """As usual."""

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self._tree, f"<mutant of {self._module}>", "exec"), module.__dict__)


@contextmanager
def loaded_anew(*finders: MetaPathFinder) -> Iterator[None]:
    """All modules of implementations loaded anew, with what these finders change; afterwards as they were."""
    names = [name for name in sys.modules if name.startswith(_PACKAGE) and not name.endswith(".registry")]
    before = {name: sys.modules.pop(name) for name in names}
    sys.meta_path[:0] = finders
    try:
        yield
    finally:
        for finder in finders:
            sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if name.startswith(_PACKAGE) and not name.endswith(".registry")]:
            del sys.modules[name]
        sys.modules.update(before)
