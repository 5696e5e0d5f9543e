"""A mutator that works on whole operations: what libFuzzer's own would take apart stays together.

Every input that goes in comes out with a header, a head and whole operations (see ``inputs``).  The seed that
libFuzzer gives decides everything, so the same fuzzing is done with the same seed.

>>> mutate = Mutator(palettes=(300,))
>>> data = mutate(b"", 1000, seed=1)
>>> data == mutate(b"", 1000, 1), data[:2], (len(data) - START) % WIDTH
(True, b'hl', 0)
"""

from collections.abc import Callable, Sequence
from random import Random

from heaplaw.codec import FIRST_BYTE, KINDS
from heaplaw.operations import Kind
from heaplaw.properties.steering import LENGTH

from .inputs import HEADER, PREFIX, START, WIDTH, refusal

_FREE, _ALLOC = FIRST_BYTE[Kind.FREE], FIRST_BYTE[Kind.ALLOC]
_SELECTORS = 4096  # of sizes, in twelve bits of a code
_TOP = _SELECTORS - 1
_FRESH = 0.2  # of the children are new inputs: a corpus sees much of its own, and little of the rest
LONG = 300  # operations of a new run, at most
MOST = START + WIDTH * LONG  # bytes of it
_AT_ONCE = 16  # operations inserted together, at most
_FILL = 64  # requests that fill a heap of the usual size
_SIZED = frozenset({Kind.ALLOC, Kind.REALLOC})

Codes = list[bytes]


class Mutator:
    """Changes inputs; one object may serve any number of targets."""

    def __init__(self, palettes: Sequence[int]) -> None:
        """``palettes``: for each configuration, how many sizes it knows (``len(Codec.sizes)``)."""
        self._sizes = list(palettes)
        self._ways: list[tuple[int, Callable[[Codes, Random, int], Codes]]] = [
            (6, _insert), (5, _delete), (4, _repeat), (3, _swap), (5, _new_operand), (6, self._neighbour),
            (4, _same_size), (2, _free_everything), (2, _fill), (2, _rotate), (3, _fresh_tail),
        ]  # fmt: skip
        self._weights = [weight for weight, _ in self._ways]

    def __call__(self, data: bytes, most: int, seed: int) -> bytes:
        """Another input of at most ``most`` bytes.  O(length)."""
        rng = Random(seed)
        if refusal(data) or rng.random() < _FRESH:
            return self.fresh(rng, most)
        which, head, codes = apart(data)
        if rng.random() < 0.12:
            head = another_head(head, rng)
        if rng.random() < 0.03:
            which = rng.randrange(len(self._sizes))
        for _ in range(1 + (rng.getrandbits(2) == 0) + (rng.getrandbits(3) == 0) * 2):
            [(_, way)] = rng.choices(self._ways, self._weights)
            codes = way(codes, rng, which)
        return together(which, head, codes, most)

    def crossover(self, data: bytes, other: bytes, most: int, seed: int) -> bytes:
        """The beginning of one run and the end of another, or a piece of one inside the other."""
        rng = Random(seed)
        if refusal(data) or refusal(other):
            return self(data, most, seed)
        (which, head, codes), (_, other_head, others) = apart(data), apart(other)
        if rng.getrandbits(2) == 0:
            head = other_head
        if rng.getrandbits(1):
            mixed = codes[: rng.randint(0, len(codes))] + others[rng.randint(0, len(others)) :]
        else:
            at, (low, high) = rng.randint(0, len(codes)), _piece(others, rng, len(others))
            mixed = codes[:at] + others[low:high] + codes[at:]
        return together(which, head, mixed, most)

    def fresh(self, rng: Random, most: int = MOST) -> bytes:
        """A new random input, as any engine would make one."""
        count = rng.randrange(LONG // 6, LONG)
        head = bytes(LENGTH) if rng.getrandbits(3) == 0 else rng.randbytes(LENGTH)
        return together(rng.randrange(len(self._sizes)), head, random_codes(rng, count), most)

    def _neighbour(self, codes: Codes, rng: Random, which: int) -> Codes:
        """A request of the next or an earlier size of the palette."""
        at = _any(codes, rng, _SIZED)
        if at is not None:
            code = int.from_bytes(codes[at], "little")
            sizes = self._sizes[which % len(self._sizes)]
            number = (code >> 8 & _TOP) * sizes // _SELECTORS + rng.choice((-2, -1, 1, 2))
            selector = -(-min(max(number, 0), sizes - 1) * _SELECTORS // sizes)
            codes[at] = (code & ~(_TOP << 8) | selector << 8).to_bytes(WIDTH, "little")
        return codes


def apart(data: bytes) -> tuple[int, bytes, Codes]:
    """(number of the configuration, head, operations) of an input; what is cut off of them is made up with zeros."""
    body = data[START : START + (len(data) - START) // WIDTH * WIDTH]
    return data[PREFIX - 1], data[PREFIX:START].ljust(LENGTH, b"\0"), [
        body[at : at + WIDTH] for at in range(0, len(body), WIDTH)
    ]  # fmt: skip


def together(which: int, head: bytes, codes: Codes, most: int) -> bytes:
    """An input of at most ``most`` bytes, its last operations cut off where it would be longer."""
    room = max(0, most - START) // WIDTH
    return (HEADER + bytes((which & 255,)) + head + b"".join(codes[:room]))[:most]


def another_head(head: bytes, rng: Random) -> bytes:
    """All of it new, none, one bit, or one of its four fields."""
    way = rng.randrange(6)
    if way == 0:
        return rng.randbytes(LENGTH)
    if way == 1:
        return bytes(LENGTH)
    if way == 2:
        bit = rng.randrange(8 * LENGTH)
        return (int.from_bytes(head, "little") ^ 1 << bit).to_bytes(LENGTH, "little")
    at = 2 * (way - 3) if way < 5 else 6
    return head[:at] + rng.randbytes(2) + head[at + 2 :]


def random_codes(rng: Random, count: int) -> Codes:
    data = rng.randbytes(WIDTH * count)
    return [data[at : at + WIDTH] for at in range(0, len(data), WIDTH)]


def _piece(codes: Codes, rng: Random, most: int) -> tuple[int, int]:
    """A slice of at most so many operations, short ones as likely as long ones."""
    if not codes:
        return 0, 0
    length = min(1 + int(max(1, most) ** rng.random()), most, len(codes))
    low = rng.randint(0, len(codes) - length)
    return low, low + length


def _any(codes: Codes, rng: Random, kinds: frozenset[Kind]) -> int | None:
    """The first operation of these kinds from a random place on."""
    start = rng.randrange(len(codes)) if codes else 0
    for at in range(len(codes)):
        place = (start + at) % len(codes)
        if KINDS[codes[place][0]] in kinds:
            return place
    return None


def _insert(codes: Codes, rng: Random, _: int) -> Codes:
    at = rng.randint(0, len(codes))
    return codes[:at] + random_codes(rng, 1 + int(_AT_ONCE ** rng.random())) + codes[at:]


def _delete(codes: Codes, rng: Random, _: int) -> Codes:
    low, high = _piece(codes, rng, max(1, len(codes) // 2))
    return codes[:low] + codes[high:]


def _repeat(codes: Codes, rng: Random, _: int) -> Codes:
    """A slice comes again, up to eight times, where it is or anywhere."""
    low, high = _piece(codes, rng, 32)
    at = high if rng.getrandbits(1) else rng.randint(0, len(codes))
    return codes[:at] + codes[low:high] * (1 << rng.randrange(4)) + codes[at:]


def _swap(codes: Codes, rng: Random, _: int) -> Codes:
    if len(codes) > 1:
        one, two = rng.sample(range(len(codes)), 2)
        codes[one], codes[two] = codes[two], codes[one]
    return codes


def _new_operand(codes: Codes, rng: Random, _: int) -> Codes:
    """The same kind of operation on another object, or of another size."""
    if codes:
        at = rng.randrange(len(codes))
        codes[at] = codes[at][:1] + rng.randbytes(WIDTH - 1)
    return codes


def _same_size(codes: Codes, rng: Random, _: int) -> Codes:
    """A request asks for what another one has asked for."""
    one, two = _any(codes, rng, _SIZED), _any(codes, rng, _SIZED)
    if one is not None and two is not None:
        code, other = (int.from_bytes(codes[at], "little") for at in (one, two))
        codes[one] = (code & ~(_TOP << 8) | other & _TOP << 8).to_bytes(WIDTH, "little")
    return codes


def _free_everything(codes: Codes, rng: Random, _: int) -> Codes:
    """As many frees as there were requests, of the first in line or of any object."""
    at = rng.randint(0, len(codes))
    count = sum(KINDS[code[0]] == Kind.ALLOC for code in codes[:at])
    fixed = rng.choice((b"\0\0\0", None))
    frees = [bytes((_FREE,)) + (fixed or rng.randbytes(WIDTH - 1)) for _ in range(count)]
    return codes[:at] + frees + codes[at:]


def _fill(codes: Codes, rng: Random, _: int) -> Codes:
    """Requests of one size, so many that the last ones are refused in most heaps."""
    at, size = rng.randint(0, len(codes)), rng.getrandbits(12)
    return codes[:at] + [(_ALLOC | size << 8).to_bytes(WIDTH, "little")] * rng.randint(_FILL // 4, _FILL) + codes[at:]


def _rotate(codes: Codes, rng: Random, _: int) -> Codes:
    """A slice is done later, or earlier."""
    low, high = _piece(codes, rng, 32)
    piece, rest = codes[low:high], codes[:low] + codes[high:]
    at = rng.randint(0, len(rest))
    return rest[:at] + piece + rest[at:]


def _fresh_tail(codes: Codes, rng: Random, _: int) -> Codes:
    """From some place on everything is new."""
    return codes[: rng.randint(0, len(codes))] + random_codes(rng, rng.randrange(1, LONG))
