#!/usr/bin/env python3
"""For libFuzzer and what runs it: Xen's first allocator.  See ``heaplaw.fuzz.harness``."""

from heaplaw.fuzz.harness import Harness

TestOneInput = Harness("xen-xmalloc")

if __name__ == "__main__":
    TestOneInput.fuzz()
