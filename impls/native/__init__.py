"""Allocators in C, C++, Rust or Zig: shared libraries that export the functions of ``heaplaw.h``.

    library     loads one, checks its version and functions, and calls them with plain integers
    target      an allocator for the checker on top of that: only the methods that the library has
    making      a fresh target, with what its library calls for around it
    promising   its contract, from the promises that it states in numbers
    pages       the books of a library that lends pages to its allocator
    batches     whole arrays of operations in one call
    watching    the same, fully checked: local laws in C, audits in between
    compiling   from a source file to a shared library, with sanitizers, counted edges or libFuzzer where wanted
    hosting     a library for 32 bits, held by a program of its own
    system      the mallocs of this machine, behind an adapter of ours
    linux       the kernel's own allocators, likewise

>>> from pathlib import Path
>>> "heaplaw_create" in Path(HEADER).read_text()
True
"""

from pathlib import Path

HEADER = Path(__file__).with_name("heaplaw.h")
"""The header; its folder is what a compiler's ``-I`` needs."""

__all__ = ["HEADER"]
