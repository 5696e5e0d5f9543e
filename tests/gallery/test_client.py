"""A client that writes out of bounds is told apart from an allocator that is guilty."""

from pathlib import Path

import pytest

from heaplaw import Checker, Kind, Operation, Refusal, Trace
from heaplaw.impls.innocents import innocents
from heaplaw.impls.registry import factory
from heaplaw.impls.tlsf import Tlsf
from heaplaw.lawbook import Broken
from heaplaw.properties.client import ClientFault, culprit, watching

GALLERY = Path(__file__).parent.parent / "data" / "gallery"
ABC = [Operation(Kind.ALLOC, birth, 24) for birth in range(3)]
THEN = [Operation(Kind.FREE, 0), Operation(Kind.FREE, 1), Operation(Kind.ALLOC, 3, 100), Operation(Kind.DRAIN)]


class Exposed(Tlsf):
    """Hands its memory to whoever wants to write there himself."""

    @property
    def memory(self):
        return self._bytes


def build():
    return Exposed(arena=1024)


def scribble(offset, data=b"\xff" * 8, after=2):
    """A client that writes through the buffer, ``offset`` bytes from its first object's start, in time."""

    def client(heap, index):
        if index == after:
            heap.memory[8 + offset : 8 + offset + len(data)] = data

    return client


def alone(client):
    """What a checker says that knows nothing of the client's doings."""
    heap = build()
    checker = Checker(heap, audit_every=1)
    try:
        for index, op in enumerate(ABC + THEN):
            checker.step(op)
            client(heap, index)
    except Broken as broken:
        return broken.law
    return ""


@pytest.mark.parametrize("offset", [24, -8, 56], ids=["next header", "own header", "the header after"])
def test_a_write_over_a_header_is_the_clients(offset):
    """One word beside an object convicts the allocator without a guard, and the client with it."""
    assert alone(scribble(offset))
    fault = culprit(build, ABC + THEN, scribble(offset))
    assert isinstance(fault, ClientFault)
    assert fault.call == 4
    assert "between operations 3 and 4" in str(fault)


def test_a_write_into_a_neighbour_is_the_clients():
    """Contents that nobody wrote through the allocator are not its doing."""
    assert alone(scribble(32)) == "contents"
    fault = culprit(build, ABC + THEN, scribble(32))
    assert isinstance(fault, ClientFault)
    assert fault.what == "contents of a live object"


def test_a_write_into_free_memory_that_links_a_list_is_the_clients():
    """Use after free: the links of a free block are metadata."""
    use_after_free = scribble(0, after=3)
    fault = culprit(build, ABC + THEN, use_after_free)
    assert isinstance(fault, ClientFault)
    assert fault.call == 5


def test_a_client_that_does_nothing_is_not_accused():
    """Nor is the allocator."""
    assert culprit(build, ABC + THEN) is None


def test_a_write_past_the_end_is_stopped():
    """A write that is asked for beyond the size of its object never reaches the allocator."""
    heap = watching(build())
    handle = heap.alloc(24)
    heap.write(handle, 20, b"four")
    before = bytes(heap.memory)
    with pytest.raises(ClientFault, match=r"bytes 20 to 25 of an object of 24"):
        heap.write(handle, 20, b"fives")
    assert bytes(heap.memory) == before


@pytest.mark.parametrize("path", sorted(GALLERY.glob("T*.trace")), ids=lambda path: path.stem)
def test_a_guilty_allocator_stays_guilty(path):
    """Under guard a bug of the gallery breaks a law, as ever."""
    trace = Trace.parse(path.read_text())
    assert isinstance(culprit(factory(trace.target), trace.operations), Broken)


@pytest.mark.parametrize("name", [one.name for one in innocents()], ids=lambda name: name.rpartition(".")[2])
def test_guarded_targets_show_what_they_show(name):
    """The guard takes nothing away, and accuses nobody of what an observation makes up."""
    target = factory(name)()
    contract = target.contract
    assert Checker(watching(target)).shows == Checker(target).shows
    guard = watching(factory(name)())
    size = min(8, contract.largest)
    sized = (size,) if contract.sized_free else ()
    for _ in range(5):
        handles = [guard.alloc(size) for _ in range(3)]
        for handle in handles[:2]:
            if handle is not None and not isinstance(handle, Refusal):
                guard.free(handle, *sized)
