"""The trace file: operations that a person can read, edit, diff and paste.

    heaplaw trace 1
    target tlsf,arena=4096
    law disjoint
    1  a = alloc 24
    2  b = alloc 100 align 64
    3  free a
    4  c = alloc 24 -> 16

``target``, ``law`` and the other words of HEADER begin header lines, before the
first operation (an imported trace records its geometry there).  Step numbers
may be left out and are not checked.  ``-> N`` is the answer that was recorded
where the trace comes from.  Text after ``#`` is a comment.  Nothing is needed to
read one but this module.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from .operations import ATOMIC, Kind, Operation, birth_name, birth_number

MAGIC = "heaplaw trace 1"
HEADER = frozenset(
    {"target", "law", "seed", "source", "unit", "block", "granule", "chunks", "page", "answers", "note"}
)
_WORDS: dict[Kind, str] = {
    Kind.NOP: "nop", Kind.ALLOC: "alloc", Kind.FREE: "free", Kind.REALLOC: "realloc",
    Kind.WRITE: "write", Kind.READ: "read", Kind.MAP: "map", Kind.UNMAP: "unmap",
    Kind.MAINTAIN: "maintain", Kind.LINK: "link", Kind.ON_CPU: "cpu", Kind.BAD_FREE: "badfree",
    Kind.BAD_ALLOC: "badalloc", Kind.FAIL_PAGES: "failpages", Kind.DRAIN: "drain",
    Kind.DESTROY: "destroy",
}  # fmt: skip
_KINDS = {word: kind for kind, word in _WORDS.items()}


class TraceError(ValueError):
    """A trace that cannot be read; the message names the line."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(f"line {line}: {problem}")
        self.line, self.problem = line, problem


@dataclass
class Trace:
    """Operations with what is known of them.  ``answers`` maps an index to a recorded answer."""

    operations: list[Operation] = field(default_factory=list)
    header: dict[str, str] = field(default_factory=dict)
    answers: dict[int, int] = field(default_factory=dict)

    @property
    def target(self) -> str:
        """The target's name as everywhere; empty when the trace fits any."""
        return self.header.get("target", "")

    def __str__(self) -> str:
        lines = [MAGIC, *(f"{key} {value}".rstrip() for key, value in self.header.items())]
        width = len(str(len(self.operations)))
        for index, operation in enumerate(self.operations):
            answer = f" -> {self.answers[index]}" if index in self.answers else ""
            lines.append(f"{index + 1:<{width}}  {render(operation)}{answer}")
        return "\n".join(lines) + "\n"

    @classmethod
    def parse(cls, text: str | Iterable[str]) -> "Trace":
        """Read a trace file's text.  Raises TraceError with the line's number."""
        lines = text.splitlines() if isinstance(text, str) else text
        trace = cls()
        born: set[int] = set()
        number = 0
        for number, raw in enumerate(lines, 1):
            line = raw.split("#", 1)[0].strip()
            if number == 1:
                if line != MAGIC:
                    raise TraceError(1, f"expected {MAGIC!r}, found {raw.strip()[:40]!r}")
            elif line:
                trace._take(number, line, born)
        if not number:
            raise TraceError(1, f"the file is empty; expected {MAGIC!r}")
        return trace

    def _take(self, number: int, line: str, born: set[int]) -> None:
        words = line.split()
        if words[0].isdecimal():
            words = words[1:]
        elif words[0] in HEADER and not self.operations:
            self.header[words[0]] = line[len(words[0]) :].strip()
            return
        answer: int | None = None
        try:
            if words[-2:-1] == ["->"]:
                answer = int(words[-1], 0)
                words = words[:-2]
            operation = _read(words)
            if operation.kind == Kind.ALLOC:
                if operation.name in born:
                    raise ValueError(f"{birth_name(operation.name)} is requested a second time")
                born.add(operation.name)
        except (ValueError, IndexError) as problem:
            reason = str(problem) if isinstance(problem, ValueError) else "something is missing"
            raise TraceError(number, f"{reason} in {line!r}") from None
        if answer is not None:
            self.answers[len(self.operations)] = answer
        self.operations.append(operation)


def render(op: Operation) -> str:
    """One operation as the text of its line.  Inverse of reading it."""
    kind, name, size, align, mode = op
    word = _WORDS[Kind(kind)]
    if kind == Kind.ALLOC:
        flags = int(mode)
        return (
            f"{birth_name(name)} = alloc {size}"
            + (f" align {align}" if align != 1 else "")
            + (" atomic" if flags & ATOMIC else "")
            + (f" group {flags >> 1}" if flags >> 1 else "")
        )
    if kind in (Kind.FREE, Kind.WRITE, Kind.READ, Kind.MAP, Kind.UNMAP):
        return f"{word} {birth_name(name)}"
    if kind == Kind.REALLOC:
        return f"{word} {birth_name(name)} {size}"
    if kind == Kind.LINK:
        return f"{word} {birth_name(name)} {birth_name(size)}"
    if kind == Kind.BAD_FREE:
        return f"{word} {mode} {birth_name(name)}"
    if kind == Kind.BAD_ALLOC:
        return f"{word} {mode} {size} align {align}"
    if kind == Kind.FAIL_PAGES:
        return f"{word} {size} order {align}"
    if kind in (Kind.MAINTAIN, Kind.ON_CPU):
        return f"{word} {mode}"
    return word


def _read(words: list[str]) -> Operation:
    if words[1:2] == ["="]:
        if words[2] != "alloc":
            raise ValueError(f"unknown operation {words[2]!r}; only alloc makes an object")
        return _read_alloc(words)
    if words[0] not in _KINDS or words[0] == "alloc":
        hint = "alloc needs a name, as in 'a = alloc 24'" if words[0] == "alloc" else "unknown operation"
        raise ValueError(f"{hint}: {words[0]!r}")
    kind, rest = _KINDS[words[0]], words[1:]
    takes = {Kind.REALLOC: 2, Kind.LINK: 2, Kind.BAD_FREE: 2, Kind.BAD_ALLOC: 4, Kind.FAIL_PAGES: 3}
    bare = (Kind.NOP, Kind.DRAIN, Kind.DESTROY)
    wanted = 0 if kind in bare else takes.get(kind, 1)
    if len(rest) != wanted:
        raise ValueError(f"{words[0]} takes {wanted} word(s), found {len(rest)}")
    if kind == Kind.MAINTAIN:
        return Operation(kind, mode=rest[0])
    if kind == Kind.ON_CPU:
        return Operation(kind, mode=_number(rest[0]))
    if kind == Kind.BAD_FREE:
        return Operation(kind, birth_number(rest[1]), mode=rest[0])
    if kind == Kind.BAD_ALLOC:
        return Operation(kind, size=_number(rest[1]), align=_number(rest[3]), mode=rest[0])
    if kind == Kind.FAIL_PAGES:
        return Operation(kind, size=_number(rest[0]), align=_number(rest[2]))
    if kind in bare:
        return Operation(kind)
    second = 0 if len(rest) == 1 else birth_number(rest[1]) if kind == Kind.LINK else _number(rest[1])
    return Operation(kind, birth_number(rest[0]), second)


def _read_alloc(words: list[str]) -> Operation:
    name, size, align, mode = birth_number(words[0]), _number(words[3]), 1, 0
    rest = iter(words[4:])
    for word in rest:
        if word == "atomic":
            mode |= ATOMIC
        elif word in ("align", "group"):
            value = _number(next(rest, ""))
            align, mode = (value, mode) if word == "align" else (align, mode | value << 1)
        else:
            raise ValueError(f"unknown word {word!r}")
    return Operation(Kind.ALLOC, name, size, align, mode)


def _number(word: str) -> int:
    if not word.isdecimal():
        raise ValueError(f"expected a number, found {word!r}")
    return int(word)
