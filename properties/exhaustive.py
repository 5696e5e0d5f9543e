"""The exhaustive engine: every trace of at most so many operations over a small alphabet.

Breadth-first over canonical positions (see ``positions``), each expanded once (see ``transitions``).
Ends with a certificate or with the shortest counterexample, which the plain replayer has confirmed.
The result does not depend on the number of processes: results are taken in the order of the queue,
and a position belongs to the first one in that order that leads to it.

>>> done = explore("tlsf,arena=96,sl=1", sizes=(8, 24))
>>> done.closed, done.finding, done.asked["disjoint"] > 0
(True, None, True)
"""

import multiprocessing
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from heaplaw.checker import Checker, Hang, lacking
from heaplaw.impls.registry import factory
from heaplaw.lawbook import LAWS
from heaplaw.operations import Kind, Operation
from heaplaw.runs import Violation, run
from heaplaw.trace import Trace
from heaplaw.twins import TWIN_LAWS

from .alphabet import KINDS, Alphabet, alphabet
from .certificate import Certificate
from .frontier import Frontier
from .minimize import TWINS, time_limit
from .reached import is_word
from .retelling import Retelling
from .statetable import Reader
from .transitions import NEVER, Breach, Expansion, Explorer
from .verdict import Finding
from .watchdog import watchdog

NAME = "exhaustive"
MEMORY = 1 << 30  # bytes, where nothing is said
_CHUNK = 128  # positions expanded together
_CHECK = 1024  # limits are looked at after so many positions, whatever the number of jobs
_ALONE = 1500  # positions after which other processes are worth their start
_AHEAD = 3  # chunks that wait for each process
_SAVE_SECONDS = 30  # between two looks at the file, where no level ends
_HANG_SECONDS = 1.0  # CPU time for a replayed trace, beside its usual limit
_REPLAY_SECONDS = 60  # for one trace in a process of its own
_REPLAYED = 256  # positions that are reached again from a fresh target, about


@dataclass
class Search:
    """What is searched, and for how long; all but the limits decides the result."""

    target: str
    letters: Alphabet
    mute: frozenset[str] = frozenset()
    depth: int | None = None
    jobs: int = 1
    seconds: float = float("inf")
    memory: int = MEMORY
    most_states: int | None = None
    resume: Path | None = None
    progress: Callable[..., None] = field(default=lambda done, total=None: None)

    @property
    def deepest(self) -> int:
        """The longest trace that is looked at."""
        return NEVER if self.depth is None else self.depth

    def explorer(self) -> Explorer:
        """What expands its positions."""
        return Explorer(factory(self.target), self.letters, mute=self.mute, deepest=self.deepest)

    def title(self) -> dict[str, Any]:
        """What two searches must have in common for one to continue the other."""
        letters = [letter.text for letter in self.letters]
        return {"target": self.target, "alphabet": letters, "mute": sorted(self.mute), "depth": self.depth}


def explore(
    target: str,
    *,
    depth: int | None = None,
    sizes: Sequence[int] = (),
    aligns: Sequence[int] | None = None,
    kinds: Set[int] = frozenset(KINDS),
    only: Iterable[str] = (),
    jobs: int = 1,
    seconds: float = float("inf"),
    memory: int = MEMORY,
    most_states: int | None = None,
    resume: Path | None = None,
    progress: Callable[..., None] = lambda done, total=None: None,
) -> Certificate:
    """Search a target by name: every trace of at most ``depth`` operations, or all of them if that is None.

    ``sizes`` and ``aligns`` in bytes and ``kinds`` make the alphabet; ``only`` limits the laws.
    ``seconds``, ``memory`` (bytes) and ``most_states`` end the search early; ``resume`` is the file
    where it is kept, and from which it goes on.  ``progress`` is told the states expanded and known.
    Raises TargetError; ValueError for a target that cannot be kept, and for a file of another search.
    """
    checker = Checker(factory(target)())
    wanted = {int(kind) for kind in kinds if checker.can(Kind(kind))}
    letters = alphabet(checker.contract, wanted, sizes, aligns)
    asked_for = set(only)
    mute = frozenset(law for law in LAWS if asked_for and law not in asked_for)
    reasons = lacking(checker.shows, checker.contract)
    search = Search(target, letters, mute, depth, jobs, seconds, memory, most_states, resume, progress)
    started = time.monotonic()
    frontier = Frontier(shared=jobs > 1)
    try:
        engine = _Engine(search, frontier)
        engine.begin()
        engine.go(started + seconds)
        certificate = engine.certificate()
        if certificate.finding is None and not certificate.unconfirmed:
            _replay_sample(search, frontier, certificate, "deterministic" not in reasons.keys() | mute)
    finally:
        frontier.table.close()
    certificate.settle_laws(reasons, mute)
    certificate.seconds = time.monotonic() - started
    return certificate


# ---- the queue ---------------------------------------------------------------------------------


class _Engine:
    """Takes positions off the queue and enters what they lead to, in order."""

    def __init__(self, search: Search, frontier: Frontier) -> None:
        self.search, self.frontier = search, frontier
        self.explorer = search.explorer()
        self.best: tuple[int, Breach] | None = None  # (position, breach): the first of the shortest
        self.stopped = ""
        self._saved = time.monotonic()

    def begin(self) -> None:
        """Enter the start, or what the file holds."""
        search, frontier = self.search, self.frontier
        start = self.explorer.start()
        frontier.enter(0, 0, start.fingerprint, start.kept)
        if search.resume is not None and search.resume.exists():
            frontier.load(search.resume, search.title())
            retelling = Retelling(factory(search.target), search.letters)
            frontier.refill(start.kept, retelling.follow)

    def go(self, deadline: float) -> None:
        """Until nothing is left, a law is broken or a limit is reached; the file is up to date on every way out."""
        search, frontier = self.search, self.frontier
        self._limit(deadline)
        with _interrupts() as interrupted, _Processes(search, frontier) as processes:
            while not self.stopped and self._more():
                if search.jobs == 1 or frontier.done < _ALONE:
                    first, depth, kept = frontier.next_chunk(_CHUNK, _CHECK)
                    seen = frontier.table.__contains__
                    self._enter(first, len(kept), depth, self.explorer.expand(kept, depth, seen))
                else:
                    self._enter(*processes.next(self._shortest))
                if interrupted():
                    self._save()
                    raise KeyboardInterrupt
                if frontier.done % _CHECK == 0 or frontier.at_level_end:
                    search.progress(frontier.done, len(frontier.marks))
                    self._limit(deadline)
        self._save()

    @property
    def _shortest(self) -> int:
        return self.best[1].length if self.best is not None else NEVER

    def _more(self) -> bool:
        """Is there a position left that can show anything shorter?"""
        frontier = self.frontier
        return frontier.done < len(frontier.marks) and frontier.depth_of(frontier.done) < self._shortest

    def _enter(self, first: int, count: int, depth: int, found: Expansion) -> None:
        """Take in what ``count`` positions from ``first`` on have led to."""
        frontier = self.frontier
        for child in found.children:
            if frontier.enter(first + child.parent, child.code, child.fingerprint, child.kept):
                found.counts.update(child.words)
        for breach in found.breaches:
            if breach.length < self._shortest:
                self.best = (first + breach.parent, breach)
        frontier.finish(count, depth, found.counts, found.evidence)

    def _limit(self, deadline: float) -> None:
        """Has a limit been reached?  Keeps the search in its file now and then."""
        search, frontier = self.search, self.frontier
        if frontier.done == len(frontier.marks):
            return
        if search.most_states is not None and len(frontier.marks) >= search.most_states:
            self.stopped = f"{search.most_states:,} states were reached"
        elif frontier.memory >= search.memory:
            self.stopped = f"{search.memory >> 20:,} MiB of memory were used"
        elif time.monotonic() >= deadline:
            self.stopped = "time was up"
        elif frontier.at_level_end or time.monotonic() > self._saved + _SAVE_SECONDS:
            self._save()

    def _save(self) -> None:
        if self.search.resume is not None and self.best is None:
            self.frontier.save(self.search.resume, self.search.title())
            self._saved = time.monotonic()

    # ---- what it amounts to ----

    def certificate(self) -> Certificate:
        """What was proved, or the counterexample."""
        search, frontier = self.search, self.frontier
        words = tuple(letter.text for letter in search.letters)
        certificate = Certificate(search.target, words, stopped=self.stopped)
        if self.best is not None:
            self._convict(certificate, *self.best)
            totals = frontier.totals_before(self.best[1].length)
            certificate.depth, certificate.stopped = self.best[1].length - 1, ""
        else:
            totals = frontier.totals()
            last = frontier.depth_of(len(frontier.marks) - 1)
            certificate.closed = not self.stopped and last < search.deepest
            certificate.depth = frontier.levels_done - 1 if self.stopped else min(last, search.deepest)
        certificate.states, certificate.levels = totals.states, totals.levels
        certificate.transitions, certificate.dead = totals.counts["transitions"], totals.counts["dead"]
        certificate.asked = totals.evidence
        certificate.reached = Counter({word: count for word, count in totals.counts.items() if is_word(word)})
        return certificate

    def _convict(self, certificate: Certificate, index: int, breach: Breach) -> None:
        """Make the breach's trace and have it replayed by a fresh process, the plain way."""
        search = self.search
        retelling = Retelling(factory(search.target), search.letters)
        operations = retelling.tell([*self.frontier.path(index), *breach.codes])
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            try:
                found = pool.submit(replayed, search.target, operations, sorted(search.mute)).result(_REPLAY_SECONDS)
            except (BrokenProcessPool, TimeoutError):
                found = None
        if found is not None:
            certificate.finding = Finding(search.target, found)
            return
        certificate.unconfirmed = f"{breach.law} did not break again in a plain replay of\n{Trace(operations)}"


def replayed(target: str, operations: Sequence[Operation], mute: Sequence[str]) -> Violation | None:
    """The first violation of a trace on a fresh target, audited after every operation."""
    build = factory(target)  # importing it may take longer than the trace
    try:
        with watchdog(_HANG_SECONDS + time_limit(operations)):
            return run(build, operations, mute=mute)
    except Hang:  # outside every call of the target
        return None


def _replay_sample(search: Search, frontier: Frontier, certificate: Certificate, ask: bool) -> None:
    """Reach some states again, from fresh targets and without snapshots, and go on from there twice.

    All must lead where it led: else the target does as it likes, or its snapshots lack something.
    """
    build = factory(search.target)
    retelling = Retelling(build, search.letters)
    count = len(frontier.marks)
    for index in range(count - 1, -1, -max(1, count // _REPLAYED)):
        way = frontier.path(index)
        mark, kept = retelling.arrive(way)
        if mark == frontier.marks[index]:
            fickle = retelling.fickle(kept)
            if fickle is None:
                certificate.replayed += 1
                continue
            way.append(fickle)
        operations = retelling.tell(way)
        found = run(build, operations, mute=LAWS.keys() - TWIN_LAWS, twins=TWINS) if ask else None
        if found is not None:
            certificate.finding = Finding(search.target, found)
        else:
            certificate.unconfirmed = f"the same operations led to another state\n{Trace(operations)}"
        certificate.closed, certificate.depth = False, 0
        return
    if ask:
        certificate.asked["deterministic"] += certificate.replayed


# ---- several processes ---------------------------------------------------------------------------


@contextmanager
def _interrupts() -> Iterator[Callable[[], bool]]:
    """Ctrl-C waits until what was found is entered; a second one does not."""
    asked = False

    def note(signum: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)


class _Processes:
    """Other processes that expand chunks of the queue; their results come in the order of the queue."""

    def __init__(self, search: Search, frontier: Frontier) -> None:
        self.search, self.frontier = search, frontier
        self._pool: ProcessPoolExecutor | None = None
        self._pending: deque[tuple[int, int, int, Future[Expansion]]] = deque()

    def __enter__(self) -> "_Processes":
        return self

    def __exit__(self, *problem: Any) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def next(self, shortest: int) -> tuple[int, int, int, Expansion]:
        """(first position, how many, depth, what came of them) of the chunk whose turn it is."""
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.search.jobs, context, _start_worker, (_bare(self.search),))
        while len(self._pending) < _AHEAD * self.search.jobs and self.frontier.ready:
            first, depth, kept = self.frontier.next_chunk(_CHUNK, _CHECK)
            if depth >= shortest:
                break
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # a worker that starts now inherits it
            future = self._pool.submit(_expand, self.frontier.table.path, depth, kept, shortest)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            self._pending.append((first, len(kept), depth, future))
        first, count, depth, future = self._pending.popleft()
        return first, count, depth, future.result()


def _bare(search: Search) -> Search:
    """The part of a search that a worker needs, and that travels: ``print`` does, though nobody calls it."""
    return Search(search.target, search.letters, search.mute, search.depth, progress=print)


_explorer: Any = None  # in a worker
_reader = Reader()


def _start_worker(search: Search) -> None:
    """Ctrl-C is the parent's business: it waits for what is being done and sends no more."""
    global _explorer  # noqa: PLW0603 - a pool hands its workers what they need in no other way
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _explorer = search.explorer()


def _expand(path: str, depth: int, kept: list[bytes], shortest: int) -> Expansion:
    _reader.open(path)
    _explorer.shortest = min(_explorer.shortest, shortest)
    found: Expansion = _explorer.expand(kept, depth, _reader.__contains__)
    return found
