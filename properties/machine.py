"""The specification as prose: a readable Hypothesis state machine for every target.

``rule_machine`` puts a machine together from what a target shows and promises: each
kind of operation is a few rules below, and the laws are its invariants.  Subclass it
to add rules of your own; ``TestCase`` makes it a test.

    TestTlsf = rule_machine("tlsf").TestCase

    class Mine(rule_machine("mine.py:Mine")):
        @rule(thing=objects)
        def poke(self, thing): self.target.poke(self.handle(thing))

What the machine does is written down as a trace; a failing one is saved in ``.heaplaw``,
so that it travels without Hypothesis and its database.

>>> print(prose(rule_machine("buddy,pages=64")).splitlines()[0])
The state machine of buddy,pages=64
"""

import re
import sys
from collections.abc import Callable, Iterator
from inspect import getdoc
from typing import Any

from .machine_base import AllocatorMachine, NeverReturns, objects  # first: it says where Hypothesis is missing

# isort: split
from hypothesis.stateful import Bundle

from heaplaw.checker import Checker, lacking
from heaplaw.impls.registry import factory, variants
from heaplaw.lawbook import LAWS

from .machine_rules import BY_KIND, Ability, Machine, Words, aligned_requests, circumstances, requests_and_frees

__all__ = ["AllocatorMachine", "NeverReturns", "objects", "prose", "rule_machine"]

_LONG_REPR = 70  # characters of a strategy that are printed as they are


def rule_machine(target: str | Callable[[], Any], *, mute: frozenset[str] | tuple[str, ...] = ()) -> Machine:
    """The state machine of a target: a name, a class or any function that makes a fresh one.

    A built-in name without parameters means its first configuration.  ``mute``: laws that are not asked.
    Raises TargetError for a name that means nothing.
    """
    if isinstance(target, str):
        name = variants(target)[0]
        build: Callable[[], Any] = factory(name)
    else:
        build, name = target, getattr(target, "__qualname__", "target")
    checker = Checker(build())
    contract = checker.contract
    abilities: list[Ability] = [requests_and_frees]
    abilities += [aligned_requests] if contract.max_align > 1 else []
    abilities += [circumstances] if contract.contextual else []
    abilities += [ability for kind, ability in BY_KIND.items() if checker.can(kind)]
    words = Words(contract)
    bases = [ability(words) for ability in abilities]
    words_of_name = re.findall(r"[A-Za-z0-9]+", re.sub(r"^.*[:/]", "", name))
    title = "".join(word[:1].upper() + word[1:] for word in words_of_name) + "Machine"
    space = {
        "__module__": __name__, "__doc__": f"{name}, as rules.", "build": staticmethod(build), "name": name,
        "mute": frozenset(mute), "words": words,
    }  # fmt: skip
    return type(title, tuple(bases), space)


# ---- rendering --------------------------------------------------------------------------------


def prose(machine: Machine) -> str:
    """The machine as text: its rules, what they draw from and when they apply, and the laws it asks."""
    checker = Checker(machine.build())
    missing = lacking(checker.shows, checker.contract)
    asked = [law for law in LAWS.values() if law.id not in missing and law.id not in machine.mute]
    lines = [f"The state machine of {machine.name}", "", "Rules"]
    for one in machine.setup_state().rules:
        lines += _rule_lines(one, machine.words)
    lines += ["", "Laws, asked of what an operation touches; of the whole heap after every step while it is small"]
    lines += [f"  {law.id:<22}{law.sentence}" for law in asked]
    lines += ["", "Laws that do not apply"]
    lines += [f"  {law:<22}{why}" for law, why in missing.items()]
    return "\n".join(lines)


def _rule_lines(one: Any, words: Words) -> Iterator[str]:
    function = one.function
    arguments = ", ".join(one.arguments)
    when = "; ".join(_first_line(condition) for condition in one.preconditions)
    gives = " -> an object" if one.targets else ""
    yield f"  {function.__name__}({arguments}){gives}"
    yield f"      {_first_line(function)}"
    for name, strategy in one.arguments.items():
        if drawn := _drawn(strategy, words):
            yield f"      {name}: {drawn}"
    if when:
        yield f"      only when: {when}"


def _first_line(function: Callable[..., Any]) -> str:
    """The sentence of a rule or a precondition; its name where it has none."""
    return (getdoc(function) or function.__name__).splitlines()[0]


def _drawn(strategy: Any, words: Words) -> str:
    """What an argument is drawn from, in words."""
    if isinstance(strategy, Bundle):
        return "a live object" + (", gone afterwards" if strategy.consume else "")
    if strategy is words.sizes:
        least, *_, most = words.palette
        count = len(words.palette)
        return f"one of the {count} sizes that matter to the contract, {least} to {most:,}, small ones first"
    text = repr(strategy)
    return text if len(text) <= _LONG_REPR else text[:_LONG_REPR] + " ..."


def main() -> None:
    """``python -m heaplaw.properties.machine TARGET``: print the target's machine."""
    for name in sys.argv[1:]:
        print(prose(rule_machine(name)))


if __name__ == "__main__":
    main()
