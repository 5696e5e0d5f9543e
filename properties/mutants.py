"""First-order mutants: a module with one small change each, as a slip of the hand would make it.

Only code that an allocator runs is changed: promises (what is reachable from a contract and not from
the steps) are the measure, not what is measured; states and their copies are for the exhaustive engine.

>>> text = "class A:\\n    def free(self, n):\\n        return n + 1 if n > 0 else 0"
>>> for mutant in mutants("a", text): print(mutant)
a:3 n > 0 -> n >= 0
a:3 0 -> 1
a:3 n + 1 -> n - 1
a:3 1 -> 2
a:3 0 -> 1
"""

import ast
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv,
    ast.LShift: ast.RShift, ast.RShift: ast.LShift, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.BitXor: ast.BitOr,
}  # fmt: skip
_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
_KEPT_STATES = frozenset({
    "snapshot", "restore", "stands_at", "shape", "__reduce__", "__eq__", "__hash__", "__repr__", "__str__",
})  # fmt: skip
_PROMISES = ("contract", "promise")  # in the name of a function that makes them


class Mutant(NamedTuple):
    """One change: where it is, what it was and what it becomes."""

    module: str
    number: int  # in the order of the module's text
    line: int
    before: str
    after: str
    text: str = ""  # of the line, for those who keep lists of mutants: line numbers do not last
    function: str = ""  # in which it stands

    def __str__(self) -> str:
        return f"{self.module.rpartition('.')[2]}:{self.line} {self.before} -> {self.after}"


def mutants(module: str, text: str) -> list[Mutant]:
    """All mutants of a module's text, in order.  O(nodes)."""
    found, lines, tree = [], text.splitlines(), ast.parse(text)
    inside = {
        line: one.name  # of the innermost, which comes last
        for one in ast.walk(tree)
        if isinstance(one, ast.FunctionDef)
        for line in range(one.lineno, (one.end_lineno or 0) + 1)
    }
    for number, (node, change) in enumerate(_changes(tree)):
        before = ast.unparse(node)
        changed = change()
        where = node.lineno, _short(before), _short(ast.unparse(changed)), lines[node.lineno - 1].strip()
        found.append(Mutant(module, number, *where, inside[node.lineno]))
        change()  # every change undoes itself
    return found


def mutated(text: str, number: int) -> ast.Module:
    """The module's tree with the change of this number."""
    tree = ast.parse(text)
    for at, (_, change) in enumerate(_changes(tree)):
        if at == number:
            change()
            return ast.fix_missing_locations(tree)
    raise IndexError(number)


def _short(text: str, most: int = 60) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 3] + "..."


class _Swap:
    """A change of one field of a node, and back again by the next call."""

    def __init__(self, shown: ast.AST, node: ast.AST, name: str, new: object) -> None:
        self._shown, self._node, self._name, self._new = shown, node, name, new

    def __call__(self) -> ast.AST:
        old = getattr(self._node, self._name)
        setattr(self._node, self._name, self._new)
        self._new = old
        return self._shown


class _SwapItem(_Swap):
    """A change of one item of a list of nodes."""

    def __init__(self, items: list[ast.stmt], at: int, new: ast.stmt) -> None:
        self._items, self._at, self._other = items, at, new

    def __call__(self) -> ast.AST:
        self._items[self._at], self._other = self._other, self._items[self._at]
        return self._items[self._at]


def _changes(tree: ast.Module) -> Iterator[tuple[ast.expr | ast.stmt, _Swap]]:
    """(node as people know it, what changes it) of all code that allocators run, in order."""
    for function in _steps(tree):
        for statement in function.body:
            yield from _of(statement, function.body)


def _of(node: ast.AST, siblings: list[ast.stmt] | None = None) -> Iterator[tuple[ast.expr | ast.stmt, _Swap]]:
    """Changes of a node and of all in it, the outermost first."""
    if isinstance(node, ast.Raise | ast.Assert | ast.FunctionDef | ast.Lambda):
        return  # messages; a function within a function has an entry of its own
    if isinstance(node, ast.keyword) and node.arg == "strict":
        return  # an assertion about what is zipped
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return  # a docstring
    if isinstance(node, ast.stmt) and siblings is not None:
        yield from _of_statement(node, siblings)
    if isinstance(node, ast.expr):
        yield from _of_expression(node)
    if isinstance(node, ast.AugAssign) and (new := _OPERATORS.get(type(node.op))):
        yield node, _Swap(node, node, "op", new())
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns"):
            continue
        for child in value if isinstance(value, list) else (value,):
            if isinstance(child, ast.AST):
                yield from _of(child, value if isinstance(value, list) and isinstance(child, ast.stmt) else None)


def _of_statement(node: ast.stmt, siblings: list[ast.stmt]) -> Iterator[tuple[ast.stmt, _Swap]]:
    """Left out, if it does something to the heap; a loop that is left goes on, and the other way round."""
    at = siblings.index(node)
    stored = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AugAssign) else []
    acts = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    if acts or any(isinstance(target, ast.Attribute | ast.Subscript) for target in stored):
        yield node, _SwapItem(siblings, at, ast.copy_location(ast.Pass(), node))
    if isinstance(node, ast.Break | ast.Continue):
        other = ast.Continue() if isinstance(node, ast.Break) else ast.Break()
        yield node, _SwapItem(siblings, at, ast.copy_location(other, node))


def _of_expression(node: ast.expr) -> Iterator[tuple[ast.expr, _Swap]]:
    if isinstance(node, ast.BinOp) and (operator := _OPERATORS.get(type(node.op))):
        yield node, _Swap(node, node, "op", operator())
    elif isinstance(node, ast.Compare):
        for at, comparison in enumerate(node.ops):
            if new := _COMPARISONS.get(type(comparison)):
                yield node, _Swap(node, node, "ops", [*node.ops[:at], new(), *node.ops[at + 1 :]])
    elif isinstance(node, ast.BoolOp):
        yield node, _Swap(node, node, "op", ast.Or() if isinstance(node.op, ast.And) else ast.And())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Invert):
        yield node, _Swap(node, node, "op", ast.UAdd())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        twice = ast.copy_location(ast.UnaryOp(ast.Not(), node.operand), node)  # `not not x` is x, as a truth value
        yield node, _Swap(node, node, "operand", twice)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int):
        yield node, _Swap(node, node, "value", not node.value if isinstance(node.value, bool) else node.value + 1)


# ---- which code ------------------------------------------------------------------------------


def _steps(tree: ast.Module) -> list[ast.FunctionDef]:
    """Functions and methods that are not there for a contract or a kept state alone, in order."""
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    everything = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    both = [method for one in everything.values() for method in _methods(one)]
    kept = _mentioned([method for method in both if _aside(method.name)])
    told = _mentioned([method for method in both if not _aside(method.name)])
    classes = [one for name, one in everything.items() if name in told or name not in kept]  # not those of states
    methods = [method for one in classes for method in _methods(one) if not _aside(method.name)]
    steps = [method for method in methods if method.name in told or method.name not in kept]
    aside = only_for_states([tree])
    tops = [node for name, node in functions.items() if not _aside(name) and name not in aside]
    return sorted([*steps, *tops], key=lambda node: node.lineno)


def _methods(one: ast.ClassDef) -> list[ast.FunctionDef]:
    return [node for node in one.body if isinstance(node, ast.FunctionDef)]


def _aside(name: str) -> bool:
    return name in _KEPT_STATES or any(word in name for word in _PROMISES)


def only_for_states(trees: Iterable[ast.Module]) -> set[str]:
    """Names of functions and private methods that kept states and promises mention and no step does.

    In all modules of a target; its public methods may be called from outside.
    """
    some = list(trees)
    code = [node for tree in some for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    tops = {node.name for tree in some for node in tree.body if isinstance(node, ast.FunctionDef)}
    inner = tops | {node.name for node in code if node.name.startswith("_")}
    kept = _mentioned([node for node in code if _aside(node.name)])
    found: set[str] = set()
    while True:
        told = _mentioned([node for node in code if not _aside(node.name) and node.name not in found])
        kept |= _mentioned([node for node in code if node.name in found])
        more = {node.name for node in code if node.name in inner & kept - told}
        if more <= found:
            return found
        found |= more


def names_in_steps(top: ast.stmt) -> set[str]:
    """Names that a class, a function or an assignment mentions, those that only promises and kept states do aside."""
    if isinstance(top, ast.FunctionDef) and _aside(top.name):
        return set()
    parts = [*top.bases, *top.body] if isinstance(top, ast.ClassDef) else [top]
    steps = [part for part in parts if not (isinstance(part, ast.FunctionDef) and _aside(part.name))]
    return {node.id for part in steps for node in ast.walk(part) if isinstance(node, ast.Name)}


def _mentioned(code: list[ast.FunctionDef]) -> set[str]:
    """Names that occur in functions, attributes included."""
    return {
        one.id if isinstance(one, ast.Name) else one.attr
        for node in code
        for one in ast.walk(node)
        if isinstance(one, ast.Name | ast.Attribute)
    }
