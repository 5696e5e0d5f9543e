#!/usr/bin/env python3
"""For libFuzzer and what runs it: small related object groups.  See ``heaplaw.fuzz.harness``."""

from heaplaw.fuzz.harness import Harness

TestOneInput = Harness("srog")

if __name__ == "__main__":
    TestOneInput.fuzz()
