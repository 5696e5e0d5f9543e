#!/usr/bin/env python3
"""For libFuzzer and what runs it: slabs, and kmalloc over them.  See ``heaplaw.fuzz.harness``."""

from heaplaw.fuzz.harness import Harness

TestOneInput = Harness("slab", "slub", "kmalloc")

if __name__ == "__main__":
    TestOneInput.fuzz()
