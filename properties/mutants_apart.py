"""Mutants that a mutation score sets apart, each for a reason that is told.

A mutant may change nothing that anybody could see: those are listed with their reasons in
``equivalent_mutants``.  And a target that is also kept as it was published has lines that only its
published revisions run: a clean check, traced line by line, shows which.

>>> from .mutation import all_mutants
>>> some = all_mutants("subpage-buddy")
>>> set(lines_of_statements(some).values()) <= {range(line, line + more) for line in range(500) for more in range(20)}
True
"""

import ast
import sys
from collections.abc import Callable, Iterable, Mapping
from random import Random
from types import FrameType
from typing import Any

from heaplaw.impls.naming import parse
from heaplaw.impls.registry import BUILT_IN, factory, variants
from heaplaw.lawbook import LAWS

from .equivalent_mutants import EQUIVALENT
from .mutants import Mutant
from .mutation import PUBLISHED, loaded_anew, text_of
from .plain import Run, first_sizes

_ROUNDS = 12  # through the variants of a target, to see which lines it runs

Line = tuple[str, int]
"""A module and a line of it."""


def known_equivalents(chosen: Iterable[Mutant]) -> dict[Mutant, str]:
    """Those of these that are listed as equivalent, with the reasons."""
    reasons = {(module, *change): why for module, why, changes in EQUIVALENT for change in changes}
    found = {}
    for mutant in chosen:
        module, change = mutant.module.rpartition(".")[2], f"{mutant.before} -> {mutant.after}"
        places = (module, f"{module}:{mutant.function}")
        whys = [reasons.get((place, mutant.text, what)) for place in places for what in (change, "*")]
        why = next(filter(None, whys), None)
        if why is not None:
            found[mutant] = why
    return found


def set_apart(target: str, chosen: Iterable[Mutant], seed: int = 1, rounds: int = _ROUNDS) -> dict[Mutant, str]:
    """Mutants that a score of ``target`` does not count, with the reasons.  Takes seconds where there are revisions."""
    some = list(chosen)
    apart = known_equivalents(some)
    parts = parse(target)
    revisions = [str(parts._replace(revision=revision)) for revision in BUILT_IN[parts.base].revisions]
    if revisions:
        modules = {mutant.module for mutant in some}
        own, theirs = lines_run([target], modules, seed, rounds), lines_run(revisions, modules, seed, rounds)
        for mutant, lines in lines_of_statements(some).items():
            places = {(mutant.module, line) for line in lines}
            if mutant not in apart and places & theirs and not places & own:
                apart[mutant] = PUBLISHED
    return apart


def never_run(target: str, chosen: Iterable[Mutant], seed: int = 1, rounds: int = _ROUNDS) -> list[Mutant]:
    """Those whose statement a check of the target does not run at all: no law could ever see them."""
    some = list(chosen)
    own = lines_run([target], {mutant.module for mutant in some}, seed, rounds)
    spans = lines_of_statements(some)
    return [mutant for mutant in some if not any((mutant.module, line) in own for line in spans[mutant])]


def lines_run(targets: Iterable[str], modules: Iterable[str], seed: int, rounds: int = _ROUNDS) -> set[Line]:
    """The lines of these modules that checks of the targets run.  Same seed, same lines."""
    seen: set[Line] = set()
    with loaded_anew():
        before = sys.gettrace()
        sys.settrace(_tracer(frozenset(modules), seen))
        try:
            for target in targets:
                _check(target, Random(f"lines {target} {seed}"), rounds)
        finally:
            sys.settrace(before)
    return seen


def _check(target: str, rng: Random, rounds: int) -> None:
    """Some runs on each variant; every second one with all laws muted, since a broken one ends a run."""
    for name in variants(target):
        build = factory(name)
        sizes = first_sizes(build().contract, rng)
        for number in range(rounds):
            Run(build, Random(rng.getrandbits(64)), LAWS if number % 2 and "@" in name else (), sizes).go()


def _tracer(modules: frozenset[str], seen: set[Line]) -> Callable[[FrameType, str, Any], Any]:
    """A trace function that notes lines; code whose every line has been seen is left alone."""
    left: dict[Any, set[int]] = {}

    def local(frame: FrameType, event: str, _: Any) -> Any:
        if event == "line":
            line = frame.f_lineno
            if line in (lines := left[frame.f_code]):
                lines.discard(line)
                seen.add((frame.f_globals["__name__"], line))
        return local

    def called(frame: FrameType, event: str, _: Any) -> Any:
        code = frame.f_code
        lines = left.get(code)
        if lines is None:
            mine = frame.f_globals.get("__name__") in modules
            left[code] = lines = {line for _, _, line in code.co_lines() if line is not None} if mine else set()
            lines.discard(code.co_firstlineno)  # a `def` line is not a line event of its body
        return local if lines else None

    return called


def lines_of_statements(chosen: Iterable[Mutant]) -> Mapping[Mutant, range]:
    """Each mutant's innermost statement, by lines; of a compound one its head."""
    some = list(chosen)
    spans = {module: _spans(text_of(module)) for module in {mutant.module for mutant in some}}
    return {mutant: spans[mutant.module].get(mutant.line, range(mutant.line, mutant.line + 1)) for mutant in some}


def _spans(text: str) -> dict[int, range]:
    """Line -> lines of its statement."""
    found: dict[int, range] = {}
    for node in ast.walk(ast.parse(text)):  # outer ones first: inner ones have the last word
        if isinstance(node, ast.stmt):
            body = getattr(node, "body", None)
            end = max(node.lineno, body[0].lineno - 1) if body else node.end_lineno or node.lineno
            span = range(node.lineno, end + 1)
            found.update(dict.fromkeys(span, span))
    return found
