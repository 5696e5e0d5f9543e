"""Objects that die together share pages: external fragmentation over lifetimes, with and without SROG's groups.

Peter Zijlstra's small related object group allocator (August 2006) packs a packet's objects into
pages of its own, which go back when the packet dies: "this makes the whole allocator short-lived and
hence cannot add (external) fragmentation on this level".  He cares about "determinism (in space)".
Here packets of a few objects each come and go at random times; then all but one in ten die.  Pages held are
compared with what the survivors take when they are stored afresh: with groups there is no difference.
"""

import random
from collections.abc import Mapping
from typing import Any, NamedTuple

from heaplaw.protocol import Context

from .memory import Memory, factory, measure, memory_table
from .shape import Cell, Chart, Claim, Experiment, Line, Outcome, Posting, Scale, Table

_NAMES = {"srog, group a packet": ("srog", True), "srog, one group": ("srog", False), "kmalloc": ("kmalloc", False)}
_GROUPED = "srog, group a packet"
_LEFT = 10  # one in so many packets survives


class Course(NamedTuple):
    """Pages held over time; with all in flight, with the survivors, and with these alone stored afresh."""

    held: tuple[int, ...]
    full: Memory
    after: Memory
    fresh: Memory
    runs: int  # runs of 8 pages that others could have then


class Heap:
    """An allocator with packets in it, each a few objects, in a group of its own or in the only one."""

    def __init__(self, name: str, grouped: bool, pages: int) -> None:
        self.heap = factory(f"{name},pages={pages}")()
        self.contextual, self.grouped = name == "srog", grouped
        self.packets: dict[int, list[tuple[Any, int]]] = {}

    def arrive(self, number: int, sizes: list[int]) -> None:
        """Store a packet's objects."""
        context = {"ctx": Context(group=number if self.grouped else 1)} if self.contextual else {}
        self.packets[number] = [(self.heap.alloc(size, **context), size) for size in sizes]

    def leave(self, number: int) -> None:
        """Free a packet's objects."""
        for handle, _ in self.packets.pop(number):
            self.heap.free(handle)

    def memory(self) -> Memory:
        """As it is now."""
        return measure(self.heap, dict(pair for packet in self.packets.values() for pair in packet))


def run(scale: Scale, seed: int) -> Outcome:
    """Seconds: about 1, 3, 12."""
    flying = scale.pick(80, 120, 300)
    courses = {name: _course(how, grouped, flying, seed) for name, (how, grouped) in _NAMES.items()}
    rows: list[tuple[Cell, ...]] = []
    for name, course in courses.items():
        pages = [used.held // 4096 for used in (course.full, course.after, course.fresh)]
        rows.append((name, *pages, round(pages[1] / pages[2], 2), course.runs))
    columns = ("allocator", f"{flying} in flight", f"one in {_LEFT} left", "stored afresh", "times", "free runs of 8")
    after = {name: course.after for name, course in courses.items()}
    return Outcome(
        Table("published", ("allocator", "what is said"), (
            ("SROG", "cannot add external fragmentation on this level; determinism in space"),)),
        (
            Table("ours: pages held", columns, tuple(rows)),
            memory_table("ours: memory of the packets that are left", after),
            memory_table("ours: memory with all in flight", {name: course.full for name, course in courses.items()}),
        ),
        _claims(courses),
        (),
        "The price is what lies free in the pages of each group while packets are in flight; the code as posted gives "
        "pages back only for some orders of freeing (srog@2006-08-12), so the repaired one is measured.",
        _charts(courses),
    )  # fmt: skip


def _course(name: str, grouped: bool, flying: int, seed: int) -> Course:
    """Ten generations of packets, then the end of all but one in ten."""
    dice = random.Random(seed)
    store, sizes = Heap(name, grouped, 8 * flying + 64), {}
    held = []
    for number in range(1, 10 * flying + 1):
        if len(store.packets) == flying:
            store.leave(dice.choice(list(store.packets)))
        sizes[number] = [dice.randint(40, 200), dice.randint(64, 1500), *_fragments(dice)]
        store.arrive(number, sizes[number])
        held.append(store.heap.source.held)
    full = store.memory()
    for number in dice.sample(list(store.packets), len(store.packets) * (_LEFT - 1) // _LEFT):
        store.leave(number)
        held.append(store.heap.source.held)
    if "shrink" in store.heap.contract.maintenance:
        store.heap.maintain("shrink")
    afresh = Heap(name, grouped, 8 * flying + 64)
    for number in store.packets:
        afresh.arrive(number, sizes[number])
    return Course(tuple(held), full, store.memory(), afresh.memory(), _runs(store.heap))


def _fragments(dice: random.Random) -> list[int]:
    return [dice.randint(100, 1200) for _ in range(dice.choice((0, 0, 1, 2)))]


def _runs(heap: Any) -> int:
    """Runs of 8 pages that the source could still lend, of all up to the highest page held."""
    highest = max(heap.source.owned, default=0)
    taken = {page // 8 for page in heap.source.owned}
    return highest // 8 + 1 - len(taken)


def _claims(courses: Mapping[str, Course]) -> tuple[Claim, ...]:
    times = {name: course.after.held / course.fresh.held for name, course in courses.items()}
    without = [name for name in courses if name != _GROUPED]
    seen = ", ".join(f"{name} {ratio:.2f}" for name, ratio in times.items())
    full = {name: course.full.held for name, course in courses.items()}
    return (
        Claim("With groups the past leaves no trace in the pages held", times[_GROUPED] == 1, seen),
        Claim("Without, survivors hold half-empty pages", all(times[name] > 1.5 for name in without), seen),
        Claim("Groups take more while all are in flight", all(full[_GROUPED] > full[name] for name in without),
              ", ".join(f"{name} {held // 4096} pages" for name, held in full.items())),
    )  # fmt: skip


def _charts(courses: Mapping[str, Course]) -> tuple[Chart, ...]:
    lines = []
    for name, course in courses.items():
        step = max(len(course.held) // 120, 1)
        last = len(course.held) - 1
        lines.append(Line(name, tuple((float(at), float(course.held[at])) for at in (*range(0, last, step), last))))
    return (Chart("pages held while packets come and go, then most of them die", "packets", "pages", tuple(lines)),)


EXPERIMENT = Experiment(
    "lifetimes", "Groups of objects that die together leave no external fragmentation behind.",
    Posting("Peter Zijlstra", "2006-08-12", "[RFC][PATCH 2/4] SROG allocator"), 1.0, run,
)  # fmt: skip
