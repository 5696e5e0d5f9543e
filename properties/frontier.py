"""What an exhaustive search knows: every state's mark and how it was reached, and who is next.

States stand in the order of their discovery, which is breadth-first; 24 bytes for each one, and the
whole position for those that wait.  ``save`` leaves the positions out: ``load`` and ``refill`` make
them again, from the way each was reached.

>>> frontier = Frontier()
>>> _ = frontier.enter(0, 0, 11, b"the start")
>>> frontier.next_chunk(128, 1024)
(0, 0, [b'the start'])
>>> _ = frontier.enter(0, 5, 22, b"reached from the start by code 5")
>>> frontier.path(1), frontier.starts
([5], [0, 1])
>>> frontier.table.close()
"""

import json
from array import array
from collections import Counter, deque
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from .statetable import StateTable

_MAGIC = "heaplaw search 1"
_OBJECT = 64  # bytes of one position's bytes object, beside the bytes


class ResumeError(ValueError):
    """A file that does not continue this search; the message says why."""


class Totals(NamedTuple):
    """Sums over all positions that were expanded so far."""

    states: int
    levels: tuple[int, ...]
    counts: Counter[str]
    evidence: Counter[str]


class Frontier:
    """The queue and the memory of a search.  ``shared``: other processes look into its table."""

    def __init__(self, *, shared: bool = False) -> None:
        self.table = StateTable(shared=shared)
        self.marks, self.parents, self.codes = array("Q"), array("I"), array("I")
        self.starts = [0]  # index of the first state of each depth
        self.done = 0  # states expanded
        self.levels_done = 0  # depths whose states are all expanded
        self.at_level_end = False  # was the last state of a depth the last to be expanded?
        self._sent = 0  # states handed out for that
        self._waiting: deque[bytes] = deque()  # positions of those that were not
        self._bytes = 0  # of positions that are not done
        self._sizes: deque[int] = deque()
        self._counts: Counter[str] = Counter()
        self._evidence: Counter[str] = Counter()
        self._ends: list[Totals] = []  # at the end of each depth

    @property
    def memory(self) -> int:
        """Bytes that grow with the search."""
        waiting = len(self.marks) - self.done
        return self.table.size + 16 * len(self.marks) + self._bytes + _OBJECT * waiting

    @property
    def ready(self) -> bool:
        """Is there a position to hand out?"""
        return bool(self._waiting)

    def depth_of(self, index: int) -> int:
        """Operations to a state.  O(depth)."""
        depth = len(self.starts) - 1
        while self.starts[depth] > index:
            depth -= 1
        return depth

    def enter(self, parent: int, code: int, mark: int, kept: bytes) -> bool:
        """A state that was reached, unless it is known.  Is it new?"""
        new = self.table.add(mark)
        if new:
            if parent >= self.starts[-1] and self.marks:
                self.starts.append(len(self.marks))
            self.marks.append(mark)
            self.parents.append(parent)
            self.codes.append(code)
            self._wait(kept)
        return new

    def _wait(self, kept: bytes) -> None:
        self._waiting.append(kept)
        self._sizes.append(len(kept))
        self._bytes += len(kept)

    def next_chunk(self, most: int, check: int) -> tuple[int, int, list[bytes]]:
        """(first state, its depth, positions) of states of one depth, up to the next multiple of ``check``."""
        first = self._sent
        depth = self.depth_of(first)
        end = min(first + most, first - first % check + check, first + len(self._waiting))
        if depth + 1 < len(self.starts):
            end = min(end, self.starts[depth + 1])
        self._sent = end
        return first, depth, [self._waiting.popleft() for _ in range(first, end)]

    def finish(self, count: int, depth: int, counts: Counter[str], evidence: Counter[str]) -> None:
        """The next ``count`` states, of one depth, are expanded, and what they led to is entered."""
        self.done += count
        for _ in range(count):
            self._bytes -= self._sizes.popleft()
        self._counts.update(counts)
        self._evidence.update(evidence)
        self.at_level_end = self.done == (self.starts[depth + 1] if depth + 1 < len(self.starts) else len(self.marks))
        if self.at_level_end:
            self.levels_done = depth + 1
            self._ends.append(self.totals())

    def totals(self) -> Totals:
        """The sums as they stand."""
        ends = [*self.starts, len(self.marks)]
        levels = tuple([after - before for before, after in pairwise(ends)])
        return Totals(len(self.marks), levels, Counter(self._counts), Counter(self._evidence))

    def totals_before(self, length: int) -> Totals:
        """The sums when all traces shorter than ``length``, but for their last operation, were behind us."""
        return self._ends[length - 2] if length > 1 else Totals(1, (1,), Counter(), Counter())

    def path(self, index: int) -> list[int]:
        """Codes from the start to a state.  O(depth)."""
        steps: list[int] = []
        while index:
            steps.append(self.codes[index])
            index = self.parents[index]
        return steps[::-1]

    # ---- the file ----

    def save(self, path: Path, title: dict[str, Any]) -> None:
        """Write all but the positions; ``title`` says what is searched.  The file is always a whole one."""
        header = {
            "format": _MAGIC,
            "title": title,
            "states": len(self.marks),
            "starts": self.starts,
            "done": self.done,
            "levels_done": self.levels_done,
            "counts": self._counts,
            "evidence": self._evidence,
            "ends": self._ends,
        }
        beside = path.with_name(path.name + ".new")
        with beside.open("wb") as file:
            file.write(json.dumps(header).encode() + b"\n")
            for column in (self.marks, self.parents, self.codes):
                column.tofile(file)
        beside.replace(path)

    def load(self, path: Path, title: dict[str, Any]) -> None:
        """Take over what a file holds.  Raises ResumeError unless it is of this very search."""
        start = self.marks[0]
        with path.open("rb") as file:
            try:
                header = json.loads(file.readline())
                if header["format"] != _MAGIC:
                    raise ResumeError(f"{path} is not a search of this version")
                if header["title"] != title:
                    odd = [key for key in title if header["title"].get(key) != title[key]]
                    raise ResumeError(f"{path} is another search: {', '.join(odd)} differ")
                columns = array("Q"), array("I"), array("I")
                for column in columns:
                    column.fromfile(file, header["states"])
            except (ValueError, KeyError, TypeError, EOFError) as problem:
                if isinstance(problem, ResumeError):
                    raise
                raise ResumeError(f"{path} is not a search that can go on") from None
        self.marks, self.parents, self.codes = columns
        if self.marks[0] != start:
            raise ResumeError(f"{path} begins in another state: the target has changed")
        for mark in self.marks[1:]:
            self.table.add(mark)
        self.starts, self.done, self.levels_done = header["starts"], header["done"], header["levels_done"]
        self._counts, self._evidence = Counter(header["counts"]), Counter(header["evidence"])
        self._ends = [
            Totals(states, tuple(levels), Counter(counts), Counter(evidence))
            for states, levels, counts, evidence in header["ends"]
        ]

    def refill(self, start: bytes, follow: Callable[[bytes, int], tuple[int, bytes]]) -> None:
        """Make the positions that wait again; ``follow(position, code)`` is (mark, position).  Raises ResumeError.

        Parents stand in order, so that keeping the last position of each depth is enough: O(states).
        """
        self._waiting.clear()
        self._sizes.clear()
        self._bytes, self._sent = 0, self.done
        last: dict[int, tuple[int, bytes]] = {0: (0, start)}  # depth -> a state there and its position

        def position(index: int) -> bytes:
            depth = self.depth_of(index)
            if depth not in last or last[depth][0] != index:
                mark, kept = follow(position(self.parents[index]), self.codes[index])
                if mark != self.marks[index]:
                    raise ResumeError("the target no longer does what it did when the file was written")
                last[depth] = index, kept
            return last[depth][1]

        for index in range(self.done, len(self.marks)):
            self._wait(position(index))
