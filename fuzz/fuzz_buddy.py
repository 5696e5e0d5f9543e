#!/usr/bin/env python3
"""For libFuzzer and what runs it: the buddies of pages and inside of pages.  See ``heaplaw.fuzz.harness``."""

from heaplaw.fuzz.harness import Harness

TestOneInput = Harness("buddy", "subpage-buddy")

if __name__ == "__main__":
    TestOneInput.fuzz()
