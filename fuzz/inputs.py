"""Inputs of the fuzzer, which are the files of a corpus: four bytes of header, then a run.

    b"hl", the codec's version, the number of the target's configuration; then exactly what the Hypothesis
    engine draws: eight bytes of ``steering``, and four bytes an operation.

Whatever stands behind the header is a run of every target, so a mutation cannot break it; another version's
bytes would be another run, so they are refused.

>>> data = pack(bytes(8), which=2)
>>> data[:4], unpack(data) == bytes(8), unpack(b"XX" + data[2:])
(b'hl\\x02\\x02', True, None)
>>> variant_of(data, ["buddy,pages=64", "buddy,pages=4"])
'buddy,pages=64'
>>> trace = Trace([Operation(Kind.ALLOC, 7, 1), Operation(Kind.FREE, 7)], {"target": "buddy,pages=64"})
>>> [op.name for op in lift("buddy,pages=64", unpack(encode(trace))).operations][:2]
[0, 0]
"""

import hashlib
from collections.abc import Iterable, Sequence
from urllib.parse import quote

from heaplaw.checker import Checker, Unusable
from heaplaw.codec import FIRST_BYTE, VERSION, Codec
from heaplaw.impls.naming import parse
from heaplaw.impls.registry import factory, variants
from heaplaw.lawbook import Broken
from heaplaw.operations import Kind, Operation
from heaplaw.properties.steering import LENGTH
from heaplaw.properties.workhorse import Fed
from heaplaw.runs import Violation
from heaplaw.trace import Trace

MAGIC = b"hl"
HEADER = bytes((*MAGIC, VERSION))
PREFIX = len(HEADER) + 1
"""Bytes before the run: the header and the number of the configuration."""
START = PREFIX + LENGTH
"""Where the operations begin, each of ``WIDTH`` bytes."""
WIDTH = 4
"""Bytes of an operation."""
_KINDS = 3  # of the head: bit k - 3 of its first two bytes lets kind k come
_KEEP_ALL, _PLACED = 3, 32  # of the head's third byte


def pack(body: bytes, which: int = 0) -> bytes:
    """An input: the header, the number of a configuration (modulo 256), and a run."""
    return HEADER + bytes((which & 255,)) + body


def unpack(data: bytes) -> bytes | None:
    """The run in an input; None where the header is not there or is of another version (see ``refusal``)."""
    return None if refusal(data) else data[PREFIX:]


def refusal(data: bytes) -> str:
    """Why bytes are no input of this version; empty where they are one."""
    if len(data) < PREFIX or not data.startswith(MAGIC):
        return "no header"
    return "" if data[2] == VERSION else f"version {data[2]}, this is {VERSION}"


def variant_of(data: bytes, names: Sequence[str]) -> str:
    """The configuration of the target that an input is for, among those of ``registry.variants``."""
    return names[data[PREFIX - 1] % len(names)]


class Lifted(Fed):
    """A run that has been made: its ``operations``, and the violation that it ``found``, if any."""

    found: Violation | None = None


def lift(variant: str, body: bytes, mute: Iterable[str] = ()) -> Lifted:
    """Run the bytes behind the header on a fresh target.  Raises TargetError for an unknown name."""
    run = Lifted(factory(variant), body, mute)
    run.found = run.go()
    return run


def encode(trace: Trace, target: str = "") -> bytes:
    """An input whose run is nearest to a trace: the same where the codec has its sizes, and no law ends it early.

    ``target``: what it is to be an input of; where it is not named, the trace's own.  The head is the simplest that
    lets every operation through.  Raises TargetError.  O(operations * live).
    """
    variant, which = _configuration(trace.target, target or trace.target)
    checker = Checker(factory(variant)())  # with its laws: asking some of them sets the target to rights
    codec, names = Codec(checker.contract), checker.shadow.names
    codes: list[int] = []
    renamed: dict[int, int] = {}  # births have gaps where a trace was made small
    for op in trace.operations:
        births = checker.births
        code = codec.encode(_with_names(op, renamed), names)
        done = codec.decode(code, names, births)
        if done.kind == Kind.ALLOC:
            renamed[op.name] = births
        if done.kind in (Kind.NOP, Kind.DESTROY) or not checker.can(Kind(done.kind)):
            continue
        codes.append(code)
        try:
            checker.step(done)
        except (Broken, Unusable):
            break  # what comes after it has no meaning
    return pack(_head(codes) + b"".join(code.to_bytes(WIDTH, "little") for code in codes), which)


def _configuration(own: str, target: str) -> tuple[str, int]:
    """The configuration of a target that a trace's own name is nearest to, and its number."""
    names = variants(target)
    if own in names:
        return own, names.index(own)
    parameters = parse(own).parameters if own else {}
    shared = [len(parameters.items() & parse(name).parameters.items()) for name in names]
    which = shared.index(max(shared))
    return names[which], which


def _with_names(op: Operation, renamed: dict[int, int]) -> Operation:
    """The operation on the objects as they are called in the new run; a link names two."""
    if op.kind == Kind.LINK:
        op = op._replace(size=renamed.get(op.size, -1))
    return op if op.kind == Kind.ALLOC else op._replace(name=renamed.get(op.name, -1))


def _head(codes: Sequence[int]) -> bytes:
    """The simplest head under which these codes mean themselves."""
    kinds = {kind for kind in Kind for code in codes if code & 255 == FIRST_BYTE[kind]}
    on = sum(1 << kind - _KINDS for kind in kinds if kind >= _KINDS)
    placed = any(code & 255 == FIRST_BYTE[Kind.ALLOC] and code >> 20 for code in codes)
    ways = (_KEEP_ALL if on else 0) | (_PLACED if placed else 0)
    return on.to_bytes(2, "little") + ways.to_bytes(2, "little") + bytes(LENGTH - 4)


def safe_name(target: str) -> str:
    """A target's name as the name of a folder; what is not in ``[A-Za-z0-9._@+=,-]`` is percent-encoded.

    >>> safe_name("percpu-bitmap@6.12"), safe_name("mine.py:Heap")
    ('percpu-bitmap@6.12', 'mine.py%3AHeap')
    """
    return quote(target, safe="@+=,").replace("~", "%7E")


def digest(data: bytes) -> str:
    """The name of an input in a corpus: its SHA-1, as libFuzzer has it."""
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()
