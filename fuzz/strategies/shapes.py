"""Generated traces: a few ways in which programs use a heap, each the extreme of its kind.

    churn         live objects replaced at random, many sizes
    lifo          a stack that rises and falls
    fifo          a queue: the oldest goes first
    checkerboard  full, then every second object freed, then larger ones
    growing       each generation larger than the one before, half of which stays
    pages         compressed pages as a RAM disk has them; whole directories are removed, and written again

The same seed gives the same operations.  Sizes are bytes, from 1 to ``largest``.

>>> [len(make(Random(1), 60, 4096)) for make in SHAPES.values()]
[60, 60, 60, 60, 60, 60]
"""

from collections import deque
from collections.abc import Callable, Iterator
from itertools import count, islice
from random import Random

from heaplaw.operations import Kind, Operation

PAGE = 4096
_ROUND = 0.25  # of the operations: a wave of a stack, a board, a generation, the filling of a disk


def request(birth: int, size: int) -> Operation:
    """Ask for so many bytes."""
    return Operation(Kind.ALLOC, birth, size)


def free(birth: int) -> Operation:
    """Give that object back."""
    return Operation(Kind.FREE, birth)


def some_size(rng: Random, largest: int) -> int:
    """Log-uniform: as many sizes from 16 to 32 as from 1024 to 2048."""
    return max(1, int(largest ** rng.random()))


def churn(rng: Random, operations: int, largest: int) -> list[Operation]:
    """Half as many live objects as there are rounds; then one at random is freed and another asked for."""
    live: list[int] = []
    births = count()

    def endless() -> Iterator[Operation]:
        while True:
            if len(live) > operations // 8 and rng.random() < 0.5:
                yield free(live.pop(rng.randrange(len(live))))
            else:
                live.append(next(births))
                yield request(live[-1], some_size(rng, largest))

    return list(islice(endless(), operations))


def lifo(rng: Random, operations: int, largest: int) -> list[Operation]:
    """Waves: up, and most of the way down again."""
    stack: list[int] = []
    births = count()
    wave = max(2, int(operations * _ROUND))

    def endless() -> Iterator[Operation]:
        while True:
            for _ in range(wave):
                stack.append(next(births))
                yield request(stack[-1], some_size(rng, largest))
            for _ in range(wave - wave // 4):
                yield free(stack.pop())

    return list(islice(endless(), operations))


def fifo(rng: Random, operations: int, largest: int) -> list[Operation]:
    """A queue of a quarter of the operations' length."""
    queue: deque[int] = deque()
    births = count()

    def endless() -> Iterator[Operation]:
        while True:
            queue.append(next(births))
            yield request(queue[-1], some_size(rng, largest))
            if len(queue) > operations * _ROUND:
                yield free(queue.popleft())

    return list(islice(endless(), operations))


def checkerboard(rng: Random, operations: int, largest: int) -> list[Operation]:
    """Objects of one size, every second one freed, and then twice as large ones, which fit no hole."""
    births = count()
    board = max(4, int(operations * _ROUND))

    def endless() -> Iterator[Operation]:
        while True:
            size = max(1, some_size(rng, largest) // 2)
            names = [next(births) for _ in range(board)]
            yield from (request(name, size) for name in names)
            yield from (free(name) for name in names[::2])
            larger = [next(births) for _ in range(board // 4)]
            yield from (request(name, 2 * size) for name in larger)
            yield from (free(name) for name in [*names[1::2], *larger])

    return list(islice(endless(), operations))


def growing(rng: Random, operations: int, largest: int) -> list[Operation]:
    """Generations of sizes that grow by a quarter; half of each is freed when the next one comes."""
    births = count()
    generation = max(2, int(operations * _ROUND / 4))

    def endless() -> Iterator[Operation]:
        size, before = 8.0, list[int]()
        while True:
            names = [next(births) for _ in range(generation)]
            yield from (request(name, min(largest, int(size * rng.uniform(0.9, 1.1)))) for name in names)
            yield from (free(name) for name in before if rng.random() < 0.5)
            before, size = names, size * 1.25 if size < largest else 8.0

    return list(islice(endless(), operations))


def packed_size(rng: Random, largest: int) -> int:
    """A page's bytes when it is compressed: 38 % of it on average, and now and then not compressible."""
    if rng.random() < 0.02:
        return min(largest, PAGE)
    return min(largest, int(rng.triangular(100, 3300, 1200)))


def pages(rng: Random, operations: int, largest: int) -> list[Operation]:
    """A disk filled file by file; then directories are removed, one after the other, and written again."""
    births = count()
    whole = max(8, int(operations * 2 * _ROUND))
    directories = 8

    def written() -> Iterator[tuple[int, Operation]]:
        for _ in range(whole // directories):
            name = next(births)
            yield name, request(name, packed_size(rng, largest))

    def endless() -> Iterator[Operation]:
        disk: list[list[int]] = []
        for _ in range(directories):
            disk.append([])
            for name, op in written():
                disk[-1].append(name)
                yield op
        while True:
            for directory in (5, 1, 6, 2, 0):
                yield from (free(name) for name in disk[directory] if rng.random() < 0.9)
                disk[directory] = []
            for directory in (5, 1):
                for name, op in written():
                    disk[directory].append(name)
                    yield op

    return list(islice(endless(), operations))


SHAPES: dict[str, Callable[[Random, int, int], list[Operation]]] = {
    "churn": churn, "lifo": lifo, "fifo": fifo, "checkerboard": checkerboard, "growing": growing, "pages": pages,
}  # fmt: skip
