"""How a target is named, everywhere: command line, trace files, workers.

    tlsf                        built in, repaired
    tlsf@conte-3.1              a published revision
    tlsf+T31                    with a bug of the gallery
    tlsf,arena=65536,word=32    with parameters
    package.module:Name         a class of yours on the path
    path/file.py:Name           a class of yours in a file
    ./libmine.so,arena=4096     a shared library that exports the functions of native/heaplaw.h
    linux:percpu@6.1,chunks=1   the kernel's own code, as 'heaplaw build-linux' has built it

>>> parse("tlsf@conte-3.1,arena=4096").parameters
{'arena': 4096}
"""

from typing import NamedTuple


class TargetError(ValueError):
    """A name that means no target; the message says what to do."""


class TargetName(NamedTuple):
    """The parts of a target's name."""

    base: str
    revision: str
    bug: str
    parameters: dict[str, int | str]

    def __str__(self) -> str:
        parts = [self.base + (f"@{self.revision}" if self.revision else "") + (f"+{self.bug}" if self.bug else "")]
        return ",".join(parts + [f"{key}={value}" for key, value in self.parameters.items()])


def is_native(name: str) -> bool:
    """Does a target's name mean machine code, which may take its process down with it?"""
    head = name.strip().partition(",")[0]
    file = head.rpartition("/")[2]
    if is_linux(head) or is_malloc(head):
        return True
    return ":" not in head and (file.endswith((".so", ".dylib")) or ".so." in file)


def is_linux(name: str) -> bool:
    """Does a target's name mean the kernel's own code?"""
    return name.strip().startswith("linux:")


def is_malloc(name: str) -> bool:
    """Does a target's name mean a malloc of this machine?"""
    return name.strip().startswith("malloc:")


def parse(name: str) -> TargetName:
    """Take a target's name apart.  Raises TargetError."""
    head, *settings = name.strip().split(",")
    parameters: dict[str, int | str] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key.isidentifier() or not value:
            raise TargetError(f"{setting!r} in {name!r} is not KEY=VALUE")
        parameters[key] = int(value) if value.lstrip("-").isdecimal() else value
    if ":" in head or is_native(head):
        return TargetName(head, "", "", parameters)
    head, _, bug = head.partition("+")
    base, _, revision = head.partition("@")
    return TargetName(base, revision, bug, parameters)
