#!/usr/bin/env python3
"""For libFuzzer and what runs it: the network tree allocator.  See ``heaplaw.fuzz.harness``."""

from heaplaw.fuzz.harness import Harness

TestOneInput = Harness("nta")

if __name__ == "__main__":
    TestOneInput.fuzz()
