"""The checker: drives a target, keeps the shadow heap, asks the laws.

Every engine feeds it the same operations.  Local laws run after every operation
in O(log n); an audit walks everything once as many operations have passed as the
last audit walked blocks, so that its price for an operation stays constant as the
heap grows.

>>> class Bump:
...     contract = Contract(arena=64)
...     def __init__(self): self.top = 0
...     def alloc(self, size, align=1, *, ctx=None):
...         self.top += size - 1                     # one byte short
...         return self.top - size + 1
...     def free(self, handle): pass
>>> checker = Checker(Bump())
>>> checker.step(Operation(Kind.ALLOC, 0, 8))
>>> checker.step(Operation(Kind.ALLOC, 1, 8))
Traceback (most recent call last):
heaplaw.lawbook.Broken: disjoint: expected b (8 bytes at 7+8) apart from a (8 bytes at 0+8); seen an overlap
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence, Set
from typing import Any

from . import laws as _laws
from .contract import Contract, Maintenance, Request
from .groups import Groups
from .lawbook import LAWS, Broken, Law
from .operations import ATOMIC, Kind, Operation, birth_name
from .pages import PageError
from .protocol import Context, InvalidFree, Refusal
from .shadow import Block, Shadow
from .view import View

assert _laws  # importing it enters the laws
_METHODS = (
    "realloc", "read", "write", "extents", "pages", "free_regions", "lists", "hints", "bitmap", "list_bits",
    "counters", "metadata", "cost", "maintain", "link", "map", "unmap", "destroy", "source",
)  # fmt: skip
_HEAP_LINES = 24  # of each kind, in a violation's picture of the heap
_MOST_SELECTIONS = 256
_SMALL_HEAP = 64  # operations' worth of allowance to start with
NO_AUDIT = 1 << 60
"""As ``audit_every``, and as ``audit_from`` for the first one: audits come only when they are called for."""
_SERVE_ALLOWANCE = 4  # extents that an operation pays for, towards predicates that walk the heap


class Hang(BaseException):
    """Raised by an engine's watchdog inside a call that does not return."""


class Unusable(Exception):
    """The target broke down in a way that is already known (its law is muted)."""


def missing(law: Law, shows: Set[str], contract: Contract) -> str | None:
    """Why a law cannot be asked of this target; None if it can."""
    page_based = contract.spaces == "pages" and "source" in shows
    known = {
        "places": "extents" in shows or contract.handles == "address",
        "bounds": ("extents" in shows or contract.handles == "address") and bool(contract.arena or page_based),
        "owned": "pages" in shows or (contract.overhead is not None and "free_regions" in shows),
        "drained": contract.drained_size is not None or contract.drained_pages is not None,
        "arena": contract.arena > 0 and contract.spaces == "arena",
        "tiled": contract.tiled and page_based,
        "rival": False,  # a second implementation: only a comparison has one
        "largest": contract.largest > 0,
        "handles": contract.handles == "opaque",
    }
    for need in law.needs:
        if not any(
            known[n] if n in known else _promised(contract, n[9:]) if n.startswith("contract.") else n in shows
            for n in need.split("|")
        ):
            why = "not promised: " if need.startswith("contract.") else "not shown: "
            return why + need.replace("contract.", "")
    return None


def lacking(shows: Set[str], contract: Contract) -> dict[str, str]:
    """Laws that a target gives no occasion for, with the reason."""
    reasons = {law.id: missing(law, shows, contract) for law in LAWS.values()}
    return {law: why for law, why in reasons.items() if why is not None}


def _promised(contract: Contract, name: str) -> bool:
    """Is something promised?  A bound of zero is a promise, an empty set is none."""
    value = getattr(contract, name)
    return value is not None and (bool(value) or type(value) is int)


Checks = dict[str, list[Callable[["Checker"], None]]]
_selected: dict[tuple[frozenset[str], int, frozenset[str]], tuple[list[Law], Checks, Contract]] = {}


def _select(shows: frozenset[str], contract: Contract, muted: frozenset[str]) -> tuple[list[Law], Checks]:
    """The laws that apply, and their checks by moment; remembered, since most targets share a contract."""
    key = (shows, id(contract), muted)
    if key not in _selected:
        if len(_selected) > _MOST_SELECTIONS:
            _selected.clear()
        laws = [law for law in LAWS.values() if law.id not in muted and missing(law, shows, contract) is None]
        at: Checks = {when: [] for law in LAWS.values() for when in law.when}
        for law in laws:
            for when in law.when:
                at[when].append(law.check)
        _selected[key] = (laws, at, contract)  # holding the contract keeps its id from being used again
    return _selected[key][:2]


class Checker:
    """One run over one fresh target.  ``step`` raises Broken when a law does not hold."""

    def __init__(
        self, target: Any, *, mute: Iterable[str] = (), audit_every: int = 0, audit_from: int = 0, density: int = 1
    ) -> None:
        """``mute``: laws that are not asked.  Audits come every ``audit_every`` operations, from ``audit_from`` on.

        0: on a schedule, ``density`` audits in as many operations as the last one walked blocks.
        """
        self.target = target
        self.contract: Any = target.contract  # Any: a law's `needs` has established what it reads
        self.shows = {name for name in _METHODS if getattr(target, name, None) is not None}
        self.source: Any = getattr(target, "source", None)  # a PageSource, or None
        self.page_size = self.source.page_size if self.source is not None else 4096
        self.shadow = Shadow()
        self.by_handle: dict[Any, Block] | None = {} if self.contract.handles == "opaque" else None
        muted = frozenset(mute)
        self.laws, self._at = _select(frozenset(self.shows), self.contract, muted)
        self._bind()
        self._every, self._density = audit_every, density
        self._returns = "returns" not in muted
        self.op = self.previous = Operation(0)
        self._requested = self.op, Request(0)  # the operation that it was made for
        self.index = self.last_audit_index = -1  # of the operation that is done now; of the last audit's
        self._audit_at = audit_from
        self.block: Block = Block(-1, None, 0, 1, ())
        self.freed = self.block  # the last one that was
        self._freed_at = -2
        self.answer: Any = None
        self.view = View(self)
        self.cpu = self.held_before = 0  # where calls are made; pages held when maintenance began
        self.births = 0  # requests made so far; the next one's birth number
        self.moment = self.problem = ""  # why a law is asked, where it must know; how the target broke down
        self.places = "extents" in self.shows or self.by_handle is None  # is it known where objects are?
        self.maintenance: Maintenance | None = None  # the last one, where something is promised of it
        self._repeats = 0
        self._wanted: bool | None = False  # None: nobody knows
        self.starved_before = self._starved_now = False  # the last maintenance but one, and the last: refused pages?
        self.thorough = self.ended = False  # are contents compared whole; is nothing done any more?
        self.last_audit: tuple[int, int] | None = None  # free bytes and pages held, as the last audit saw them
        self.only_refused = False  # since the last audit
        self.twins: tuple[Any, Any] = ((), ())  # what two runs came to, for the laws about them
        self.counted: Counter[str] = Counter()  # how often a conditional law's condition held
        self.moments: Counter[str] = Counter()  # how often each moment came
        self.refusals = self.served = self.skipped = self._touched = self._refused_since = 0
        self._spent = self._injected = self._starved = 0
        self._mapped: Counter[int] = Counter()  # CPU -> objects that are mapped there
        self._groups = Groups() if self.contract.isolated_groups else None

    def _bind(self) -> None:
        """Resolve once what every operation would otherwise look up."""
        contract, target = self.contract, self.target
        at = self._at
        self._on_place, self._on_alloc, self._on_touch = at["place"], at["alloc"], at["touch"]
        self._on_adopt = at["adopt"] if self.by_handle is not None else []
        self._on_starved = at["starved"]
        self._on_maintained = at["maintained"] if contract.maintained is not None else []
        self._fills = "write" in self.shows and "read" in self.shows
        self._extents = target.extents if "extents" in self.shows else None
        if contract.max_align <= 1 and not contract.contextual:
            self._plain_alloc: Callable[[int], Any] | None = target.alloc
        else:
            self._plain_alloc = None
        self._alloc_target, self._free_target = target.alloc, target.free
        handlers: dict[int, Callable[[Operation], None]] = {
            Kind.ALLOC: self._alloc, Kind.FREE: self._free, Kind.REALLOC: self._realloc, Kind.WRITE: self._write,
            Kind.READ: self._read, Kind.MAP: self._map, Kind.UNMAP: self._end_map, Kind.MAINTAIN: self._maintain,
            Kind.LINK: self._link, Kind.ON_CPU: self._on_cpu, Kind.BAD_FREE: self._bad_free,
            Kind.BAD_ALLOC: self._bad_alloc, Kind.FAIL_PAGES: self._fail_pages, Kind.DRAIN: self._drain,
            Kind.DESTROY: self._destroy,
        }  # fmt: skip
        self._handlers = [handlers.get(kind, self._nop) for kind in range(len(Kind))]

    # ---- one operation ---------------------------------------------------------------

    def step(self, op: Operation) -> None:
        """Do one operation and ask the laws.  Raises Broken, or Unusable once that is muted."""
        self.index = index = self.index + 1
        self.previous = self.op
        self.op = op
        try:
            if not self.ended:
                self._handlers[op[0]](op)
                if index >= self._audit_at and not self.ended:  # a destroyed heap shows nothing
                    self.audit()
        except (Broken, Unusable):
            raise
        except (Exception, Hang) as problem:
            self.collapse(problem)

    def collapse(self, problem: BaseException) -> None:
        """An exception out of the target, as the law that it breaks."""
        self.problem = "a hang" if isinstance(problem, Hang) else f"{type(problem).__name__}: {problem}"
        self.ended = True
        if isinstance(problem, PageError) and missing(LAWS["conservation"], self.shows, self.contract) is None:
            if self._asks("conservation"):
                raise Broken("conservation", "pages given back as they were taken", str(problem)) from problem
        elif self._returns:
            _laws.returns(self)
        raise Unusable(self.problem) from problem

    def finish(self) -> None:
        """The last, whole audit.  Raises like ``step``."""
        self.thorough = True
        try:
            if not self.ended:
                self.audit()
        except (Broken, Unusable):
            raise
        except (Exception, Hang) as problem:
            self.collapse(problem)

    def audit(self) -> None:
        """Walk everything.  O(live + free + hints)."""
        self.view = view = View(self)
        self.only_refused = 0 < self._refused_since == self.index - self.last_audit_index
        touch = self._on_touch
        if touch:
            self.moment = "touch"
            for block in self.shadow.live.values():
                self.block = block
                for check in touch:
                    check(self)
            self._touched += len(self.shadow)
        for check in self._at["audit"]:
            check(self)
        self.moments["audit"] += 1
        self.last_audit = (view.free_total(), self.source.held if self.source is not None else 0)
        self.last_audit_index, self._refused_since = self.index, 0
        self._audit_at = self.index + (self._every or max(1, view.walked() // self._density))

    def _note_refused(self) -> None:
        """A call was refused.  Right behind an audit the next one comes at once: nothing else was done in between.

        Asking for the same again and again is looked at twice, then on schedule.
        """
        self._refused_since += 1
        if self._every or self.last_audit is None or self.last_audit_index != self.index - 1:
            return
        if not self.only_refused or self.op[2] != self.previous[2]:
            self._audit_at = self.index

    # ---- the operations ----------------------------------------------------------------

    def _nop(self, op: Operation) -> None:
        pass

    def _alloc(self, op: Operation) -> None:
        block = self._placed(op)
        if block is not None:
            self._settle(block)

    def _placed(self, op: Operation) -> Block | None:
        """Make a request and ask what can be asked before its block is entered; None if it was refused."""
        _, name, size, align, mode = op
        self.births = name + 1
        if self.source is not None:
            self._injected, self._starved = self.source.injected, self.source.refused
        if self._plain_alloc is not None:
            align = 1
            answer = self._plain_alloc(size)
        else:
            answer = self.call_alloc(size, align, mode)
        if answer is None or answer.__class__ is Refusal:
            self._refused(answer)
            return None
        extents = self._extents(answer) if self._extents is not None else self._told(answer, size)
        self.served += 1
        self.answer = answer
        self.block = block = Block(name, answer, size, align, extents)
        if mode:
            block.group, block.atomic = int(mode) >> 1, bool(int(mode) & ATOMIC)
        if self._groups is not None:
            self._groups.enter(block)
        for check in self._on_place:
            check(self)
        for check in self._on_alloc:
            check(self)
        if self._on_starved:
            self._ask_starved()
        return block

    def _settle(self, block: Block) -> None:
        """A block was served: ask what depends on the moment, enter it, fill it."""
        index = self.index
        block.cpu = self.cpu
        if self._freed_at == index - 1:
            self._ask("again")
        if index == 0:
            self._ask("first")
        if self.by_handle is not None:
            self.moment = "adopt"
            for check in self._on_adopt:
                check(self)
            self.by_handle[block.handle] = block
        self.shadow.add(block)
        if self.contract.slack_grows:
            self._regrow(block.extents)
        if self._fills and (room := self._room(block)) > 0:
            self.target.write(block.handle, 0, block.pattern(0, room))
            block.written = room

    def _told(self, handle: Any, size: int) -> tuple[tuple[int, int, int], ...]:
        """Where an object is that is not shown: at its address.  One that is opaque, or of no bytes, tells nothing."""
        if self.by_handle is None and not isinstance(handle, int):
            raise TypeError(f"alloc answered {handle!r}, which is no address: a whole number, or None for no memory")
        return ((0, handle, size),) if size and self.by_handle is None else ()

    def _room(self, block: Block) -> int:
        """Bytes of a block to fill: no more than it has, where that is known."""
        return min(block.size, block.length) if self.places else block.size

    def _refused(self, answer: Any) -> None:
        self.answer = answer
        self.refusals += 1
        self._note_refused()
        if answer is None and self.request.atomic:
            self._wanted = True
        if self._on_starved:
            self._ask_starved()
        if self.source is not None and self.source.injected != self._injected:
            return  # a page failure was injected into this call: nothing else was owed
        self._ask("refuse")
        if self._freed_at == self.index - 1:
            self._ask("again")
        if self.index == 0:
            self._ask("first")

    def _ask_starved(self) -> None:
        """A request was answered; ask what holds though pages were refused.  Without a source they always are."""
        if self.source is None or self.source.refused != self._starved:
            self._ask("starved")

    def _free(self, op: Operation) -> None:
        block = self.shadow.live.get(op[1])
        if block is None:
            self.skipped += 1
            return
        self._touch(block)
        if block.mapped:
            self._unmap(block)
        held = self.source.held if self.source is not None else 0
        self.call_free(block.handle, block.size)
        self._forget(block)
        self.freed = block
        if self.source is None or self.source.held == held:
            self._freed_at = self.index

    def _forget(self, block: Block, regrow: bool = True) -> None:
        self.shadow.remove(block)
        if block.mapped:  # evicted as it was
            self._mapped[block.mapped - 1] -= 1
        if self._groups is not None:
            self._groups.leave(block)
        if self.by_handle is not None:
            self.by_handle.pop(block.handle, None)
        if regrow and self.contract.slack_grows:
            self._regrow(block.extents)

    def _touch(self, block: Block) -> None:
        self.block = block
        self.moment = "touch"
        self._touched += 1
        for check in self._on_touch:
            check(self)

    def _realloc(self, op: Operation) -> None:
        block = self.shadow.live.get(op[1])
        if block is None or "realloc" not in self.shows or not op[2]:  # to zero: differs by allocator
            self.skipped += 1
            return
        self._touch(block)
        if block.mapped:
            self._unmap(block)
        answer = self.target.realloc(block.handle, op[2])
        if answer is None or answer.__class__ is Refusal:
            self.answer = answer
            self.refusals += 1
            self._note_refused()
            self._ask("unresized")
            return
        self.answer = answer
        if self.by_handle is not None:
            self.by_handle.pop(block.handle, None)
            self.by_handle[answer] = block
        block.handle, left = answer, block.extents
        if not self.contract.realloc_aligns:
            block.align = 1
        self._adopt(block, op[2])
        if self.contract.slack_grows:
            self._regrow((*left, *block.extents))
        self._ask("resized")
        room = self._room(block) if self._fills else 0
        if room > block.written:
            self.target.write(answer, block.written, block.pattern(block.written, room - block.written))
        block.written = room

    def _adopt(self, block: Block, size: int) -> None:
        """Take over a block's new place and size, and ask the laws of placement."""
        extents = self._extents(block.handle) if self._extents is not None else self._told(block.handle, size)
        self.shadow.unplace(block)
        block.extents, block.size, block.written = extents, size, min(block.written, size)
        self.block = block
        self._ask("place")
        self.shadow.place(block)

    def _regrow(self, extents: Sequence[tuple[int, int, int]]) -> None:
        """Read the neighbours again where slack may grow: nothing but growth is legal."""
        if self._extents is None:
            return
        mine = self.block
        for space, start, _ in extents:
            for near in self.shadow.neighbours(space, start):
                seen, stood = self._extents(near.handle), near.extents
                if seen != stood:
                    if not seen or seen[0][:2] != stood[0][:2] or seen[0][2] < stood[0][2]:
                        raise Broken("handle-stable", f"{self.show(near)} unmoved", f"{seen}")
                    self._adopt(near, near.size)
        self.block = mine

    def _write(self, op: Operation) -> None:
        block = self.shadow.live.get(op[1])
        if block is None or not self._fills:
            self.skipped += 1
            return
        self._touch(block)
        block.seed = (block.seed * 5 + 1) & 0xFFFF
        if end := block.written:
            middle = end * 2 // 3  # in two pieces, the last one first, as clients do
            self.target.write(block.handle, middle, block.pattern(middle, end - middle))
            if middle:
                self.target.write(block.handle, 0, block.pattern(0, middle))

    def _read(self, op: Operation) -> None:
        block = self.shadow.live.get(op[1])
        if block is None:
            self.skipped += 1
            return
        self._touch(block)

    def _map(self, op: Operation) -> None:
        block, most = self.shadow.live.get(op[1]), self.contract.mappings
        full = most and self._mapped[self.cpu] >= most
        if block is None or "map" not in self.shows or block.mapped or full:
            self.skipped += 1
            return
        self.target.map(block.handle, **self._circumstances())
        block.mapped = self.cpu + 1
        self._mapped[self.cpu] += 1
        self._touch(block)

    def _end_map(self, op: Operation) -> None:
        block = self.shadow.live.get(op[1])
        if block is None or not block.mapped:
            self.skipped += 1
            return
        self._unmap(block)
        self._touch(block)

    def _unmap(self, block: Block) -> None:
        """End a mapping on the CPU where it was made."""
        here, self.cpu = self.cpu, block.mapped - 1
        self.target.unmap(block.handle, **self._circumstances())
        self._mapped[self.cpu] -= 1
        block.mapped, self.cpu = 0, here

    def _maintain(self, op: Operation) -> None:
        kind = op[4]
        if "maintain" not in self.shows or kind not in self.contract.maintenance:
            self.skipped += 1
            return
        self.held_before = self.source.held if self.source is not None else 0
        refused = self.source.refused if self.source is not None else 0
        done = self._maintain_watched(op) if self._on_maintained else self.target.maintain(kind)
        starved = self.source is not None and self.source.refused != refused
        self.starved_before, self._starved_now = self._starved_now, starved
        if done.evicted and kind in self.contract.evicting:
            self._evict(set(done.evicted))
        if kind in self.contract.moving:
            self._follow()
        if kind in self.contract.moving and kind == "compact":  # other kinds may move for other ends
            self._ask("compacted")
        elif self._on_maintained:
            self._ask("maintained")

    def _maintain_watched(self, op: Operation) -> Any:
        """Maintain, where something is promised of it, and see what that does to pages and counters.  O(counters)."""
        source, kind = self.source, str(op[4])
        given, refused, before = source.given, source.refused, self._counters()
        done = self.target.maintain(kind)
        given = source.given - given
        taken, starved = source.held - self.held_before + given, source.refused != refused
        self._repeats = self._repeats + 1 if self.previous == op and not self._starved_now else 0
        self.maintenance = Maintenance(
            kind, done, taken, given, starved, self._repeats, self._wanted, before, self._counters()
        )
        self._wanted = False
        return done

    def _counters(self) -> dict[str, int]:
        return dict(self.target.counters()) if "counters" in self.shows else {}

    def _evict(self, handles: Set[Any]) -> None:
        """Objects ended without a free; neighbours are looked at when all of them are forgotten."""
        gone = [block for block in self.shadow.live.values() if block.handle in handles]
        for block in gone:
            self._forget(block, regrow=False)
        if self.contract.slack_grows:
            self._regrow([extent for block in gone for extent in block.extents])

    def _follow(self) -> None:
        """Learn where maintenance moved the live blocks; all at once, since places are swapped.  O(n)."""
        if self._extents is None:  # nothing shows where they are
            return
        changed = [b for b in self.shadow.live.values() if self._extents(b.handle) != b.extents]
        for block in changed:
            if block.mapped and self.contract.pinned and self._asks("handle-stable"):
                raise Broken("handle-stable", f"{self.show(block)} unmoved while it is mapped", "another place")
            self.shadow.unplace(block)
        for block in changed:
            block.extents = self._extents(block.handle)
            self.block = block
            self._ask("place")
            self.shadow.place(block)

    def _link(self, op: Operation) -> None:
        one, two = self.shadow.live.get(op[1]), self.shadow.live.get(op[2])
        if one is None or two is None or "link" not in self.shows:
            self.skipped += 1
            return
        self.target.link(one.handle, two.handle)
        if self._groups is not None:
            self._groups.join(one, two)

    def _on_cpu(self, op: Operation) -> None:
        self.cpu = int(op[4]) % self.contract.cpus

    def _bad_free(self, op: Operation) -> None:
        block, kind = self.shadow.live.get(op[1]), op[4]
        if block is None or kind not in self.contract.detects or (kind == "interior" and not self._hollow(block)):
            self.skipped += 1
            return
        handle, size = block.handle, block.size
        if kind == "double":
            self._free(op)
        elif kind == "interior":
            handle += self.contract.granule
        elif kind == "foreign":
            handle = self._foreign(handle)
        else:
            size = size * 2 + 1
        try:
            self.call_free(handle, size)
            self.answer = None
        except InvalidFree:
            self.answer = "InvalidFree"
        self._freed_at = -2
        self._ask("bad-free")
        if self.answer is None:  # known already, and nobody knows what it has freed
            self.ended = True
            raise Unusable(f"an accepted {kind} free")

    def _foreign(self, handle: Any) -> Any:
        """A handle that no live object has."""
        known = self.by_handle or {}
        while True:
            handle = handle + (1 << 48) if isinstance(handle, int) else ("foreign", handle)
            if handle not in known:
                return handle

    def _hollow(self, block: Block) -> bool:
        """Is there a place inside the block that is not another object's handle?"""
        if self.by_handle is None:
            return bool(block.length > self.contract.granule)
        return isinstance(block.handle, int) and block.handle + self.contract.granule not in self.by_handle

    def _bad_alloc(self, op: Operation) -> None:
        if op[4] not in self.contract.rejects or (op[4] == "huge" and op[2] <= self.contract.largest):
            self.skipped += 1
            return
        self.answer = answer = self._alloc_target(op[2], op[3]) if op[4] == "align" else self.call_alloc(op[2])
        self._note_refused()
        self._ask("bad-alloc")
        if not (answer is None or isinstance(answer, Refusal)):  # known already: leave no trace of it
            self.call_free(answer, op[2])

    def _fail_pages(self, op: Operation) -> None:
        if self.source is None:
            self.skipped += 1
            return
        self.source.fail_next(op[3], op[2])

    def _drain(self, op: Operation) -> None:
        for name in list(self.shadow.live):
            self._free(Operation(Kind.FREE, name))
        self._freed_at = -2
        if self.source is not None:
            self.source.fail_next(0, 0)
        if self.contract.drained_after is not None:
            self.target.maintain(self.contract.drained_after)
            self._wanted = False
        self._ask("drained")

    def _destroy(self, op: Operation) -> None:
        self._drain(op)
        if "destroy" in self.shows:
            self.target.destroy()
            if self.source is not None and self.source.held and self._asks("conservation"):
                raise Broken("conservation", "every page back after destroy", f"{self.source.held} still held")
        self.ended = True

    def can(self, kind: Kind) -> bool:
        """Would an operation of this kind do anything on this target?"""
        needs = {
            Kind.REALLOC: "realloc", Kind.READ: "read", Kind.MAP: "map", Kind.UNMAP: "unmap",
            Kind.MAINTAIN: "maintain", Kind.LINK: "link", Kind.FAIL_PAGES: "source", Kind.DESTROY: "destroy",
        }  # fmt: skip
        promises = {
            Kind.BAD_FREE: self.contract.detects, Kind.BAD_ALLOC: self.contract.rejects, Kind.WRITE: self._fills,
            Kind.MAINTAIN: self.contract.maintenance, Kind.ON_CPU: self.contract.cpus > 1,
        }  # fmt: skip
        return bool(promises.get(kind, True)) and (kind not in needs or needs[kind] in self.shows)

    # ---- what laws ask ------------------------------------------------------------------

    def _asks(self, law: str) -> bool:
        """Is this law among those that are asked?"""
        return any(known.id == law for known in self.laws)

    def _ask(self, moment: str) -> None:
        self.moments[moment] += 1
        for check in self._at.get(moment, ()):
            check(self)

    def met(self, law: str) -> None:
        """A conditional law's condition held once more."""
        self.counted[law] += 1

    @property
    def request(self) -> Request:
        """The current request for memory."""
        op, request = self._requested
        if op is not self.op or request.cpu != self.cpu:
            _, _, size, align, mode = op = self.op
            flags = mode if isinstance(mode, int) else 0
            request = Request(size, align, bool(flags & ATOMIC), flags >> 1, self.cpu)
            self._requested = op, request
        return request

    def owed(self) -> Callable[[], bool] | None:
        """What tells whether the request, or the resize, that was refused had to be served; None: nothing does."""
        if self.op[0] != Kind.REALLOC:
            must_serve = self.contract.must_serve
            return must_serve and (lambda: must_serve(self.request, self.shadow, self.source))
        must_resize = self.contract.must_resize
        return must_resize and (lambda: must_resize(self.block, self.op[2], self.shadow))

    def request_text(self) -> str:
        """The request in words."""
        return f"{self.request.size} bytes (align {self.request.align})"

    def call_alloc(self, size: int, align: int = 1, mode: int | str = 0) -> Any:
        """``alloc`` as the contract wants it called."""
        if self.contract.contextual:
            flags = mode if isinstance(mode, int) else 0
            return self._alloc_target(size, align, ctx=Context(self.cpu, bool(flags & ATOMIC), flags >> 1))
        return self._alloc_target(size, align) if self.contract.max_align > 1 else self._alloc_target(size)

    def call_free(self, handle: Any, size: int) -> None:
        """``free`` as the contract wants it called."""
        if self.contract.cpus > 1:
            sized = (size,) if self.contract.sized_free else ()
            self._free_target(handle, *sized, ctx=Context(self.cpu))
        elif self.contract.sized_free:
            self._free_target(handle, size)
        else:
            self._free_target(handle)

    def _circumstances(self) -> dict[str, Context]:
        """What calls about an object take besides its handle."""
        return {"ctx": Context(self.cpu)} if self.contract.cpus > 1 else {}

    def can_take(self, size: int) -> bool:
        """Would the page source, all else being free, hold this many bytes?"""
        return self.source is None or self.source.can_give(-(-size // self.page_size) - self.source.held)

    def affordable(self, met: str = "") -> bool:
        """May a predicate walk the heap now?  Keeps the price of an operation constant.  ``met``: a law to count."""
        walk = len(self.shadow)
        if walk > (self.index + _SMALL_HEAP) * _SERVE_ALLOWANCE - self._spent:
            return False
        self._spent += walk
        if met:
            self.counted[met] += 1
        return True

    def inside(self, space: int, start: int, length: int) -> bool:
        """Does this stretch lie in memory that the target owns?"""
        if self.contract.spaces == "arena":
            low, high = self.contract.bounds_of(space)
            return bool(start >= low and length >= 0 and start + length <= high)
        owned, size = self.source.owned, self.page_size
        return (
            space == 0
            and start >= 0
            and all(page in owned for page in range(start // size, (start + max(length, 1) - 1) // size + 1))
        )

    def owned_text(self) -> str:
        """What the target owns, in words."""
        return f"[0, {self.contract.arena})" if self.contract.spaces == "arena" else "the pages held"

    def owned_bytes(self) -> int:
        """Bytes of all spaces, or of all pages held."""
        if self.contract.spaces == "pages" and self.source is not None:
            return int(self.source.held * self.page_size)
        return sum([high - low for low, high in map(self.contract.bounds_of, self.view.spaces)])

    def compare(self, law: str) -> None:
        """The written bytes of the block are what was written; whole when small or at the end."""
        block = self.block
        if not block.written:  # nothing asked for, or nothing kept
            return
        read, handle, pattern = self.target.read, block.handle, block.pattern
        for at, length in block.windows(self.thorough):
            seen, written = read(handle, at, length), pattern(at, length)
            if seen != written:
                pairs = zip(seen, written, strict=False)
                wrong = at + next((i for i, (x, y) in enumerate(pairs) if x != y), 0)
                raise Broken(law, f"byte {wrong} of {self.show(block)} as written", "another value")

    def unmoved(self, law: str, block: Block) -> None:
        """The block stands where it stood."""
        if self._extents is not None and (seen := self._extents(block.handle)) != block.extents:
            raise Broken(law, f"{self.show(block)} unmoved", f"{seen}")

    @staticmethod
    def show(block: Block) -> str:
        """A block in words: a (24 bytes at 16+24)."""
        places = " ".join(f"{space}:{at}+{n}" if space else f"{at}+{n}" for space, at, n in block.extents)
        return f"{birth_name(max(block.name, 0))} ({block.size} bytes at {places})"

    def heap(self) -> str:
        """Live blocks and free regions, by address; cut when long."""
        live = sorted(self.shadow.live.values(), key=lambda block: block.extents[:1])
        lines = [f"live {self.show(block)}" for block in live[:_HEAP_LINES]]
        if "free_regions" in self.shows and self.problem != "a hang":  # it may hang again
            try:
                regions = sorted(View(self).regions, key=lambda region: region[:2])
            except Exception as problem:  # the picture of a broken heap may be broken too
                return "\n".join([*lines, f"free regions cannot be read: {problem}"])
            lines += [f"free {r.start}+{r.length} list {r.list_id}" for r in regions[:_HEAP_LINES]]
        return "\n".join(lines)

    def evidence(self) -> Counter[str]:
        """How often each law was asked with its condition met."""
        moments = Counter(self.moments)
        moments.update(alloc=self.served, place=self.served, touch=self._touched, adopt=self.served)
        plain = {law.id: sum(moments[when] for when in law.when) for law in self.laws if not law.conditional}
        calls = {"returns": self.index + 1} if self._returns else {}
        return Counter({**plain, **calls}) + self.counted
