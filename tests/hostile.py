"""Allocators that take their process along, each in its own way."""

import ctypes
import signal
import threading
import time

from planted import Good, LosesTheLastByte

_MEGA = 1 << 20


class Segfaults(Good):
    """Reads address zero when a third object is asked for."""

    def alloc(self, size, align=1, *, ctx=None):
        if len(self.used) == 2:
            ctypes.string_at(0)
        return super().alloc(size)


class Sleeps(Good):
    """Never comes back from the free that leaves one object, and uses no time."""

    def free(self, handle):
        super().free(handle)
        while len(self.used) == 1:
            time.sleep(1000)


class Spins(Good):
    """Never comes back from the free that leaves one object, with its ears stopped."""

    def free(self, handle):
        super().free(handle)
        if len(self.used) == 1:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPROF, signal.SIGALRM})
            while True:
                pass


class Eats(Good):
    """Takes memory with every request and gives none back."""

    def __init__(self):
        super().__init__()
        self.hoard = []

    def alloc(self, size, align=1, *, ctx=None):
        self.hoard.append(bytearray(128 * _MEGA))
        return super().alloc(size)


class Leaks(Good):
    """Every heap leaves something behind when it is gone; otherwise honest."""

    left = []  # noqa: RUF012 - of all heaps

    def __init__(self):
        super().__init__()
        self.left.append(b"x" * (2 * _MEGA))


class Unborn(Good):
    """Cannot even be made."""

    def __init__(self):
        super().__init__()
        ctypes.string_at(0)


class Unkept(Good):
    """Honest, but no state of it can be kept."""

    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()


class LiesThenDies(LosesTheLastByte):
    """Loses a byte of what is written, and reads address zero when many objects live."""

    def alloc(self, size, align=1, *, ctx=None):
        if len(self.used) == 12:
            ctypes.string_at(0)
        return super().alloc(size)
