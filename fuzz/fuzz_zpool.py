#!/usr/bin/env python3
"""For libFuzzer and what runs it: the allocators of compressed pages.  See ``heaplaw.fuzz.harness``."""

from heaplaw.fuzz.harness import Harness

TestOneInput = Harness("zsmalloc", "zbud", "xcfmalloc", "afmalloc")

if __name__ == "__main__":
    TestOneInput.fuzz()
