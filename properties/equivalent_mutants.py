"""Mutants that change nothing which a user of the allocator, or a law, could see; with the reasons.

A mutant is known by its module, the text of its line and the change; line numbers would not last.

>>> module, why, changes = EQUIVALENT[0]
>>> isinstance(why, str) and all(len(change) == 2 for change in changes)
True
"""

Entry = tuple[str, str, tuple[tuple[str, str], ...]]
"""A module, the reason, and (text of the line, "before -> after"), where ``*`` stands for every change of the line."""

EQUIVALENT: tuple[Entry, ...] = ()
