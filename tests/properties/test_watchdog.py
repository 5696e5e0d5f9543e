"""The watchdog, and pictures of heaps that hang."""

import signal
import time
from contextlib import suppress

import pytest
from planted import Loops

from heaplaw import Kind, Operation
from heaplaw.checker import Hang
from heaplaw.properties.strip import strips
from heaplaw.properties.watchdog import watchdog


def burn(seconds):
    """Use CPU time."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_rings_again():
    """An alarm that is swallowed comes again."""

    def swallow():
        with suppress(Hang):
            burn(5)
        burn(5)

    with pytest.raises(Hang), watchdog(0.05):
        swallow()


def test_one_within_another():
    """The outer one is still on guard when the inner one has gone, for the time that it has left."""

    def inner():
        with watchdog(5):
            burn(0.1)
        burn(5)

    with pytest.raises(Hang), watchdog(0.2):
        inner()


def test_leaves_nothing_behind():
    """No alarm is set when the last one has gone."""
    with watchdog(5):
        pass
    assert signal.getitimer(signal.ITIMER_PROF) == (0.0, 0.0)


def test_picture_of_a_hang():
    """A trace whose call does not return is drawn all the same, and says so."""
    requests = [Operation(Kind.ALLOC, n, 8) for n in range(6)]
    lines = strips(Loops, [*requests, Operation(Kind.FREE, 0), Operation(Kind.FREE, 1)])
    assert len(lines) == 1 + 8  # the addresses first
    assert [line.endswith("a hang") for line in lines[1:]] == [False] * 6 + [True, False]


def test_picture_of_a_long_trace():
    """Of a long trace the last forty steps are drawn, numbered as they are in the trace."""
    lines = strips(Loops, [Operation(Kind.ALLOC, n, 1) for n in range(100)])
    assert lines[0].split() == ["...", "60", "lines", "before"]
    assert lines[2].split()[0] == "61"
    assert len(lines) == 42
