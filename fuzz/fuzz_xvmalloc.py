#!/usr/bin/env python3
"""For libFuzzer and what runs it: xvmalloc, and compcache over it.  See ``heaplaw.fuzz.harness``."""

from heaplaw.fuzz.harness import Harness

TestOneInput = Harness("xvmalloc", "compcache")

if __name__ == "__main__":
    TestOneInput.fuzz()
