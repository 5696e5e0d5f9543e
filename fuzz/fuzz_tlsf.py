#!/usr/bin/env python3
"""For libFuzzer and what runs it: two-level segregated fit.  See ``heaplaw.fuzz.harness``."""

from heaplaw.fuzz.harness import Harness

TestOneInput = Harness("tlsf", "xen-tlsf")

if __name__ == "__main__":
    TestOneInput.fuzz()
