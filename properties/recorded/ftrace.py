"""Linux kernel allocations as ftrace, trace-cmd or perf print them.

The tracepoints of ``include/trace/events/kmem.h`` (2009, Eduard-Gabriel Munteanu,
Mel Gorman) and ``percpu.h`` (2017, Dennis Zhou), as text::

    git-24876 [000] ..... 739.488962: kmalloc: call_site=... ptr=... bytes_req=408 bytes_alloc=512 ...

They come from three allocators that stand on each other, so one trace holds the
events of one *family*; a file with several needs to be told which is wanted.

========  =====================================================  ===================  ========
family    events                                                 object               answer
========  =====================================================  ===================  ========
slab      kmalloc, kmem_cache_alloc (and _node), kfree,          ptr, bytes_req       none
          kmem_cache_free
pages     mm_page_alloc, mm_page_free                            page size << order   pfn
percpu    percpu_alloc_percpu, percpu_free_percpu                size, align          off
========  =====================================================  ===================  ========

The kernel prints pointers hashed, so a slab object has no answer worth keeping;
what it was rounded up to (``bytes_alloc``) stands in ``Recording.rounded``.  An
``off`` is an offset within a chunk, whose number is in ``Recording.chunks``.

Everything else is counted by its event's name in ``Recording.ignored``:
``mm_page_free_batched`` and ``mm_page_pcpu_drain`` repeat or follow frees that
``mm_page_free`` tells, ``percpu_create_chunk`` is no allocation, ``kfree(NULL)`` is no
free (half of all kfree in a Linux 6.18 recording), and an allocation without a
page failed.  A run of pages may be split and given back in pieces; it is freed
with its last piece.

A lost event is noticed only when its address is handed out again; until then the
recorded places of two objects may overlap.

>>> import pathlib, tempfile
>>> folder = tempfile.TemporaryDirectory()
>>> path = pathlib.Path(folder.name, "tiny.ftrace")
>>> _ = path.write_text(
...     " sh-7 [001] d..2. 1.5: percpu_alloc_percpu: reserved=0 is_atomic=1 size=16 align=8"
...     " base_addr=0000000043a40bf5 off=72112 ptr=00000000f6314110\\n"
...     " sh-7 [000] d..2. 1.6: percpu_free_percpu: base_addr=0000000043a40bf5 off=72112\\n"
... )
>>> print(read(path, cpus=True).trace, end="")
heaplaw trace 1
source ftrace percpu
1  cpu 1
2  a = alloc 16 align 8 atomic -> 72112
3  cpu 0
4  free a
>>> folder.cleanup()
"""

import os
import re
from collections.abc import Callable, Sequence

from heaplaw.operations import ATOMIC

from . import lines as packing
from .lines import Lines, RecordingError
from .recording import Recorder, Recording

FAMILIES = ("slab", "pages", "percpu")
HIGHEST_ORDER = 20  # of a run of pages; no Linux configuration goes beyond 2**20 pages

# [cpu] flags time: event: fields.  A task's name may hold blanks and colons, so the CPU anchors
# the event.  perf and some trace-cmd write no flags, perf writes "kmem:kmalloc:".
_EVENT = re.compile(r"\[(\d{1,5})\] +(?:\S+ +)?[\d.]+: +(?:\w+:)?(\w+): *(.*)")
_SLAB = re.compile(r"\bptr=(\S+) bytes_req=(\d{1,19}) bytes_alloc=(\d{1,19})\b")
_POINTER = re.compile(r"\bptr=(\S+)")
_PAGES = re.compile(r"\bpage=(\S+) pfn=(0x[0-9a-f]{1,16}|0|[1-9]\d{0,18}) order=(\d{1,2})\b")
_PERCPU = re.compile(r"\bis_atomic=([01]) size=(\d{1,19}) align=(\d{1,19}) base_addr=(\S+) off=(\d{1,10})\b")
_PERCPU_FREE = re.compile(r"\bbase_addr=(\S+) off=(\d{1,10})\b")
_NULL = frozenset(("(null)", "(nil)", "0", "0x0", "0" * 8, "0" * 16, "0x" + "0" * 16))


_Take = Callable[[str], bool]
_UNKNOWN: tuple[str, _Take] = ("", lambda fields: True)


def looks_like(head: Sequence[str]) -> bool:
    """Do these first lines begin a trace of the kernel?"""
    return any(line.startswith("# tracer:") or _EVENT.search(line) for line in head)


def read(
    path: str | os.PathLike[str],
    source: Lines | None = None,
    *,
    family: str = "",
    cpus: bool = False,
    page_size: int = 4096,
) -> Recording:
    """Read the events of one family ("" takes the only one there is).

    ``cpus`` adds an ON_CPU operation wherever the CPU changes (0 at the start);
    ``page_size`` is the recorded machine's, in bytes: its text does not tell.
    Raises RecordingError for events of several families, for an event whose
    fields are missing and when no allocation is found; ValueError for an unknown
    family.  O(lines).
    """
    check_family(family)
    source = source or packing.lines(path)
    events = _Events(page_size)
    recorder, takes = events.recorder, events.takes
    ignored, search = recorder.ignored, _EVENT.search
    chosen = family
    number = cpu = 0
    for number, line in source:
        found = search(line)
        if found is None:
            ignored[_kind_of(line)] += 1
            continue
        on, event, fields = found.groups()
        belongs, take = takes.get(event, _UNKNOWN)
        if not belongs or belongs != chosen:
            if belongs and not chosen:
                chosen = belongs
            elif belongs and not family:
                raise RecordingError(path, number, _several(chosen, belongs))
            else:
                ignored[event] += 1
                continue
        if cpus and int(on) != cpu:
            cpu = int(on)
            recorder.on_cpu(cpu)
        if not take(fields):
            raise RecordingError(path, number, f"{event} without the fields expected: {fields[:60]!r}")
    return events.finish(path, chosen, number)


def check_family(family: str) -> None:
    """ValueError unless ``family`` is one of FAMILIES or ""."""
    if family and family not in FAMILIES:
        raise ValueError(f"unknown family {family!r}; known are {', '.join(FAMILIES)}")


def _several(one: str, other: str) -> str:
    return f"both {one} and {other} events; one trace holds one of them: choose family={one} or {other}"


def _kind_of(line: str) -> str:
    """What a line is that holds no event."""
    if line[:1] == "#" or not line.strip():
        return "comment"
    if "EVENTS" in line and line.startswith("CPU:"):  # "CPU:1 [LOST 12 EVENTS]", trace-cmd: DROPPED
        return "lost events"
    return "other"


class _Events:
    """What each event does.  A method gives False when it cannot read the fields."""

    def __init__(self, page_size: int) -> None:
        self.recorder = Recorder()
        self.page_size = page_size
        self.rounded: dict[int, int] = {}
        self.chunks: dict[int, int] = {}
        self.chunk_numbers: dict[str, int] = {}  # base_addr -> number by first appearance
        self.orders: dict[int, int] = {}  # first pfn -> order, of live runs of more than a page
        self.pieces: dict[int, int] = {}  # first pfn -> pages not yet given back, of split runs
        self.takes: dict[str, tuple[str, _Take]] = {
            "kmalloc": ("slab", self.slab_alloc),
            "kmalloc_node": ("slab", self.slab_alloc),
            "kmem_cache_alloc": ("slab", self.slab_alloc),
            "kmem_cache_alloc_node": ("slab", self.slab_alloc),
            "kfree": ("slab", self.slab_free),
            "kmem_cache_free": ("slab", self.slab_free),
            "mm_page_alloc": ("pages", self.page_alloc),
            "mm_page_free": ("pages", self.page_free),
            "percpu_alloc_percpu": ("percpu", self.percpu_alloc),
            "percpu_free_percpu": ("percpu", self.percpu_free),
        }

    def finish(self, path: str | os.PathLike[str], family: str, lines: int) -> Recording:
        """The recording, or RecordingError that says what was found instead."""
        recorder = self.recorder
        if not family:
            names = [name for name in recorder.ignored if name not in ("comment", "other", "lost events")]
            found = f"; found: {', '.join(sorted(names)[:8])}" if names else ""
            raise RecordingError(path, lines, f"no kmem or percpu event in this ftrace text{found}")
        header = {"page": str(self.page_size)} if family == "pages" else {}
        recording = recorder.finish(path, f"ftrace {family}", lines, header=header)
        recording.rounded, recording.chunks = self.rounded, self.chunks
        return recording

    def slab_alloc(self, fields: str) -> bool:
        found = _SLAB.search(fields)
        if found is None:
            return False
        pointer, size, rounded = found.groups()
        if pointer in _NULL:
            self.recorder.ignored["failed allocation"] += 1
        else:
            self.rounded[self.recorder.allocated(pointer, int(size))] = int(rounded)
        return True

    def slab_free(self, fields: str) -> bool:
        found = _POINTER.search(fields)
        if found is None:
            return False
        if found[1] in _NULL:
            self.recorder.ignored["free of null"] += 1
        else:
            self.recorder.freed(found[1])
        return True

    def page_alloc(self, fields: str) -> bool:
        found = _PAGES.search(fields)
        if found is None or int(found[3]) > HIGHEST_ORDER:
            return False
        pfn, order = int(found[2], 0), int(found[3])
        if found[1] in _NULL:
            self.recorder.ignored["failed allocation"] += 1
            return True
        self._forget(pfn)  # a lost free may have left it
        if order:
            self.orders[pfn] = order
        size = self.page_size << order
        self.recorder.answers[self.recorder.allocated(pfn, size)] = pfn
        return True

    def page_free(self, fields: str) -> bool:
        found = _PAGES.search(fields)
        if found is None or int(found[3]) > HIGHEST_ORDER:
            return False
        pfn, order = int(found[2], 0), int(found[3])
        if self.orders:
            run = self._run_around(pfn, order)
            if run is not None and not self._last_piece(run, order):
                self.recorder.ignored["free of a piece of a run"] += 1
                return True
            if run is not None:
                pfn = run
            self._forget(pfn)
        self.recorder.freed(pfn)
        return True

    def _forget(self, pfn: int) -> None:
        self.orders.pop(pfn, None)
        self.pieces.pop(pfn, None)

    def _run_around(self, pfn: int, order: int) -> int | None:
        """First page of the larger live run that these pages are a piece of.  O(HIGHEST_ORDER).

        A page of a split run that was freed and handed out again is an object of its own.
        """
        if pfn in self.recorder.live and self.orders.get(pfn, 0) <= order:
            return None
        for larger in range(order + 1, HIGHEST_ORDER + 1):
            first = pfn >> larger << larger  # the page allocator aligns runs to their size
            if self.orders.get(first) == larger:
                return first
        return None

    def _last_piece(self, run: int, order: int) -> bool:
        left = self.pieces.get(run, 1 << self.orders[run]) - (1 << order)
        self.pieces[run] = left
        return left <= 0

    def percpu_alloc(self, fields: str) -> bool:
        found = _PERCPU.search(fields)
        if found is None:
            return False
        atomic, size, align, chunk, offset = found.groups()
        recorder = self.recorder
        index = recorder.allocated((chunk, offset), int(size), int(align), ATOMIC if atomic == "1" else 0)
        recorder.answers[index] = int(offset)
        self.chunks[index] = self.chunk_numbers.setdefault(chunk, len(self.chunk_numbers))
        return True

    def percpu_free(self, fields: str) -> bool:
        found = _PERCPU_FREE.search(fields)
        if found is not None:
            self.recorder.freed(found.groups())
        return found is not None
