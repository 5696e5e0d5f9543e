#!/usr/bin/env python3
"""For libFuzzer and what runs it: the per-CPU allocators.  See ``heaplaw.fuzz.harness``."""

from heaplaw.fuzz.harness import Harness

TestOneInput = Harness("percpu-bitmap", "percpu-area-map")

if __name__ == "__main__":
    TestOneInput.fuzz()
