"""Where the code stands that a counterexample is about: the method that its last operation calls.

>>> from heaplaw.operations import Operation
>>> place = place_of("buddy,pages=4", Operation(Kind.FREE, 0))
>>> place.name, place.function, place.path.name
('heaplaw.impls.buddy.Buddy.free', 'free', 'buddy.py')
"""

import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from heaplaw.impls.naming import is_linux, is_malloc, is_native, parse
from heaplaw.impls.registry import factory
from heaplaw.operations import Kind, Operation
from heaplaw.properties.verdict import Finding

_CALLED = {
    Kind.ALLOC: "alloc", Kind.BAD_ALLOC: "alloc", Kind.FAIL_PAGES: "alloc", Kind.ON_CPU: "alloc", Kind.NOP: "alloc",
    Kind.FREE: "free", Kind.BAD_FREE: "free", Kind.DRAIN: "free", Kind.REALLOC: "realloc", Kind.WRITE: "write",
    Kind.READ: "read", Kind.MAP: "map", Kind.UNMAP: "unmap", Kind.MAINTAIN: "maintain", Kind.LINK: "link",
    Kind.DESTROY: "destroy",
}  # fmt: skip
_PATIENCE = 20  # seconds with a target that has lost a process before
_FROM_A_FILE = "heaplaw_target_"  # how modules are called that were loaded from a file
_ASKED_FOR = ("heaplaw.toml", "pyproject.toml")  # where a project says which targets are to be checked


class Place(NamedTuple):
    """A function; ``path`` and ``line`` (from 1) where its source, its library or its configuration is known."""

    name: str  # with module and class
    function: str
    path: Path | None = None
    line: int = 1

    @property
    def uri(self) -> str:
        """Relative to the working directory for a file in it, so that it means the same in every checkout."""
        if self.path is None:
            return ""
        here = Path.cwd().resolve()
        if self.path.is_relative_to(here):
            return quote(self.path.relative_to(here).as_posix())
        return self.path.as_uri()


def place_of_finding(finding: Finding) -> Place:
    """Where the method stands that broke the law; a target that takes its process along is made in another one."""
    operation = (finding.trace.operations or [Operation(Kind.NOP)])[-1]
    lost = bool(finding.picture)
    return (_place_apart if lost and not is_native(finding.target) else place_of)(finding.target, operation)


def _place_apart(target: str, operation: Operation) -> Place:
    command = [sys.executable, "-m", __name__, target, str(int(operation.kind))]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=True).stdout
        name, function, path, line = json.loads(said.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        function = _CALLED[Kind(operation.kind)]
        return Place(f"{parse(target).base}.{function}", function, _configuration())
    return Place(name, function, Path(path) if path else None, line)


def place_of(target: str, operation: Operation) -> Place:
    """Where the method stands that an operation on a target calls."""
    function = _CALLED[Kind(operation.kind)]
    if is_native(target):
        return _native(target, function)
    cls = type(factory(target)())
    if not callable(getattr(cls, function, None)):
        function = "free" if function == "destroy" else "alloc"  # of a request that the target does not know
    method = inspect.unwrap(getattr(cls, function, cls))
    module = str(getattr(method, "__module__", cls.__module__)).removeprefix(_FROM_A_FILE)
    return Place(f"{module}.{getattr(method, '__qualname__', function)}", function, *_written(method, cls))


def _native(target: str, function: str) -> Place:
    """A library, or the machine's own code, which has no file here that a person could read."""
    base = parse(target).base
    if is_linux(target) or is_malloc(target):
        return Place(f"{base}.{function}", function, _configuration())
    return Place(f"{base}.heaplaw_{function}", f"heaplaw_{function}", Path(base).resolve())


def _written(method: Any, cls: type) -> tuple[Path | None, int]:
    """File and line of a method, or of its class where the method is machine code."""
    code = getattr(method, "__code__", None)
    if code is not None and Path(code.co_filename).is_file():
        return Path(code.co_filename).resolve(), code.co_firstlineno
    try:
        file, line = inspect.getsourcefile(cls), inspect.getsourcelines(cls)[1]
    except (OSError, TypeError):
        return _configuration(), 1
    return (Path(file).resolve(), line) if file else (_configuration(), 1)


def _configuration() -> Path | None:
    """Code scanning on GitHub refuses a whole upload for one result without a file: the one that names the target."""
    return next((Path(name).resolve() for name in _ASKED_FOR if Path(name).is_file()), None)


if __name__ == "__main__":
    told = place_of(sys.argv[1], Operation(int(sys.argv[2])))
    print(json.dumps([told.name, told.function, str(told.path or ""), told.line]))
