"""The engines beside what people would otherwise write: the same targets, laws, kinds of operations and bugs.

    python tests/benchmarks/against.py [--quick] [--seeds 10] [--bugs 24] [--seconds 5] [--json FILE]
                                        [--log FILE]

Rivals, each as its documentation shows it and all on the same checker, so that they ask the same laws:

    rules     a hand-written RuleBasedStateMachine with a bundle, all laws as an invariant, that is after every step
    audits    the same, but audits come on the checker's own schedule
    lists     @given(lists of operations), shrunk by Hypothesis
    atheris   libFuzzer through fuzz_one_input of the same test, the target instrumented; then shrunk by Hypothesis
    random    uniform operations, then delta debugging (ddmin) of the list
    crosshair @given(lists of operations) with CrossHair as Hypothesis's backend

Beside them `plain`, which `heaplaw check` uses, and `hypothesis` and `fuzz`, which it has too.  Bugs are drawn from
the gallery at random; every hunt is a process of its own, and its seconds are that process's own processor time, so
that a busy machine tilts nothing.  A hunt ends with the first violation; what it is made small by afterwards counts
for the length alone.  What a hunt does not find in time counts as longer than all that were found.
With ``--log`` each hunt is written down as it ends, and one that stands there is not made again.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from heaplaw.checker import Checker, Unusable
from heaplaw.codec import HUGE
from heaplaw.impls.registry import factory
from heaplaw.lawbook import Broken
from heaplaw.operations import Kind, Operation
from heaplaw.properties.hunting import hunt, hunted

OURS = ("plain", "hypothesis", "fuzz")
RIVALS = ("rules", "audits", "lists", "atheris", "random", "crosshair")
STEPS = 50  # operations of an example, as Hypothesis has it for state machines
RATED = ("tlsf,arena=4096", "percpu-bitmap,unit=256,block=64,chunks=2", "buddy,pages=64", "zsmalloc")
_SHRINKING = 4.0  # seconds of processor time that a rival has to make small what it has found
_BUSY = 4.0  # times as long a hunt may take by the clock, on a machine that does other things too
_LATE = 60.0  # seconds of wall time beyond that, for a process on a busy machine
_OFTEN = {Kind.ALLOC: 6, Kind.FREE: 4}  # to one of every other kind


class Met(NamedTuple):
    """What became of a hunt."""

    tool: str
    target: str
    seed: int
    seconds: float | None = None  # until the first violation; None: not found in time
    length: int = 0  # operations of the smallest trace
    law: str = ""
    operations: int = 0
    why: str = ""
    spent: float = 0.0  # seconds of processor time in all


class Enough(KeyboardInterrupt):
    """Time is up: the one kind of exception that Hypothesis lets through."""


Raw = tuple[int, int, int, int]  # index of a kind, size, which object or alignment, choice


class Vocabulary:
    """What there is to ask of a target, as somebody would write it down who has read its contract."""

    def __init__(self, target: str) -> None:
        self.target, self.build = target, factory(target)
        checker = Checker(self.build())
        self.contract = contract = checker.contract
        possible = [kind for kind in Kind if kind not in (Kind.NOP, Kind.DESTROY) and checker.can(kind)]
        self.kinds = [kind for kind in possible for _ in range(_OFTEN.get(kind, 1))]
        self.largest = contract.largest or 1 << 16
        self.powers = max(contract.max_align, 1).bit_length()
        self.words: dict[int, Sequence[Any]] = {
            Kind.MAINTAIN: list(contract.maintenance), Kind.BAD_FREE: sorted(contract.detects),
            Kind.BAD_ALLOC: sorted(contract.rejects),
        }  # fmt: skip

    def operation(self, kind: int, size: int, which: int, choice: int, live: Sequence[int], births: int) -> Operation:
        """A raw draw as an operation; ``live``: names that can be meant."""
        if kind == Kind.ALLOC:
            align = 1 << which % self.powers if choice & 8 else 1
            mode = choice & 7 if self.contract.contextual else 0
            return Operation(Kind.ALLOC, births, size, align, mode if mode >> 1 <= self.contract.groups else 0)
        if kind in (Kind.DRAIN, Kind.ON_CPU):
            return Operation(kind, mode=choice % max(1, self.contract.cpus) if kind == Kind.ON_CPU else 0)
        if kind == Kind.FAIL_PAGES:
            return Operation(kind, size=1 + size % 3, align=choice % 3)
        if kind == Kind.BAD_ALLOC:
            word = self.words[kind][which % len(self.words[kind])]
            huge = (self.contract.largest + 1, self.contract.largest + size, *HUGE)[choice % (2 + len(HUGE))]
            wrong = {"zero": (0, 1), "huge": (huge, 1)}.get(word, (8, 3))
            return Operation(kind, 0, *wrong, word)
        if kind == Kind.MAINTAIN:
            return Operation(kind, mode=self.words[kind][choice % len(self.words[kind])])
        if not live:
            return Operation(Kind.NOP)
        name, other = live[which % len(live)], live[choice % len(live)]
        if kind == Kind.LINK:
            return Operation(kind, name, other)
        if kind == Kind.BAD_FREE:
            return Operation(kind, name, mode=self.words[kind][choice % len(self.words[kind])])
        return Operation(kind, name, size if kind == Kind.REALLOC else 0)


@dataclass
class Clock:
    """How long a hunt has taken, what it did, and the shortest that it found."""

    limit: float
    started: float = field(default_factory=time.process_time)
    found_at: float | None = None
    operations: int = 0
    best: list[Operation] = field(default_factory=list)
    law: str = ""

    def look(self) -> None:
        """Raises Enough when time is up: the hunt's, or, when something was found, that for making it small."""
        now = time.process_time()
        if now - (self.found_at or self.started) > (self.limit if self.found_at is None else _SHRINKING):
            raise Enough

    def found(self, broken: Broken, operations: list[Operation]) -> None:
        """A violation of the law that broke first; the shortest is kept."""
        if self.found_at is None:
            self.found_at, self.law = time.process_time(), broken.law
        if broken.law == self.law and (not self.best or len(operations) < len(self.best)):
            self.best = list(operations)

    def met(self, tool: str, target: str, seed: int) -> Met:
        """In the end."""
        seconds = None if self.found_at is None else round(self.found_at - self.started, 3)
        spent = time.process_time() - self.started
        return Met(tool, target, seed, seconds, len(self.best), self.law, self.operations, spent=spent)


class Attempt:
    """One run on a fresh heap."""

    def __init__(self, words: Vocabulary, clock: Clock, audit_every: int = 0) -> None:
        self.words, self.clock = words, clock
        self.checker = Checker(words.build(), audit_every=audit_every)
        self.operations: list[Operation] = []

    def do(self, op: Operation) -> None:
        """An operation under all laws.  Raises Broken, Unusable, Enough."""
        if op.kind == Kind.NOP or self.checker.ended:
            return
        self.clock.operations += 1
        self.operations.append(op)
        self._judged(lambda: self.checker.step(op))

    def draw(self, raw: Raw) -> None:
        """A raw draw as an operation."""
        kind, size, which, choice = raw
        shadow = self.checker.shadow
        self.do(self.words.operation(kind, size, which, choice, list(shadow.live), self.checker.births))

    def finish(self) -> None:
        """The last audit."""
        self._judged(self.checker.finish)
        self.clock.look()

    def _judged(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Broken as broken:
            self.clock.found(broken, self.operations)
            raise

    def all(self, raws: Sequence[Raw]) -> None:
        """A whole example; one on which nothing more can be asked ends early."""
        try:
            for raw in raws:
                self.draw(raw)
            self.finish()
        except Unusable:
            pass


# ---- the rivals -------------------------------------------------------------------------------------------------


def _sizes(words: Vocabulary) -> Any:
    from hypothesis import strategies as st

    largest = words.largest
    return st.one_of(st.integers(1, min(64, largest)), st.integers(1, max(1, largest // 8)), st.integers(1, largest))


def _settings(**more: Any) -> Any:
    from hypothesis import HealthCheck, Phase, Verbosity, settings

    return settings(
        database=None, deadline=None, verbosity=Verbosity.quiet, suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink), report_multiple_bugs=False, **more,
    )  # fmt: skip


def rules(words: Vocabulary, clock: Clock, seed: int, audit_every: int = 1) -> None:
    """A rule for each kind, objects in a bundle."""
    from hypothesis import seed as seeded
    from hypothesis import strategies as st
    from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, rule, run_state_machine_as_test

    class ByHand(RuleBasedStateMachine):
        objects = Bundle("objects")

        def __init__(self) -> None:
            super().__init__()
            self.heap = Attempt(words, clock, audit_every)

        @rule(target=objects, size=_sizes(words), power=st.integers(0, words.powers - 1), choice=st.integers(0, 15))
        def alloc(self, size: int, power: int, choice: int) -> int:
            name = self.heap.checker.births
            self.heap.do(words.operation(Kind.ALLOC, size, power, choice, [], name))
            return name

        @rule(thing=consumes(objects))
        def free(self, thing: int) -> None:
            if thing in self.heap.checker.shadow.live:
                self.heap.do(Operation(Kind.FREE, thing))

        @rule(thing=objects, kind=st.sampled_from([k for k in words.kinds if k != Kind.ALLOC]), size=_sizes(words),
              choice=st.integers(0, 15))  # fmt: skip
        def other(self, thing: int, kind: int, size: int, choice: int) -> None:
            live = [thing] if thing in self.heap.checker.shadow.live else []
            self.heap.do(words.operation(kind, size, 0, choice, live, self.heap.checker.births))

        def teardown(self) -> None:
            self.heap.finish()

    machine = seeded(seed)(ByHand)
    run_state_machine_as_test(machine, settings=_settings(max_examples=10**7, stateful_step_count=STEPS))


def audits(words: Vocabulary, clock: Clock, seed: int) -> None:
    """The same with audits on the checker's schedule."""
    rules(words, clock, seed, 0)


def _listed(words: Vocabulary) -> Any:
    from hypothesis import strategies as st

    one = st.tuples(st.sampled_from(words.kinds), _sizes(words), st.integers(0, 63), st.integers(0, 15))
    return st.lists(one, max_size=STEPS)


def _test(words: Vocabulary, clock: Clock, seed: int, **how: Any) -> Callable[[], None]:
    from hypothesis import given
    from hypothesis import seed as seeded

    @seeded(seed)
    @_settings(max_examples=10**7, **how)
    @given(_listed(words))
    def test(raws: list[Raw]) -> None:
        Attempt(words, clock).all(raws)

    return test  # type: ignore[no-any-return]


def lists(words: Vocabulary, clock: Clock, seed: int) -> None:
    """One property over whole lists."""
    _test(words, clock, seed)()


def crosshair(words: Vocabulary, clock: Clock, seed: int) -> None:
    """The same, with values that CrossHair chooses."""
    _test(words, clock, seed, backend="crosshair")()


def atheris(words: Vocabulary, clock: Clock, seed: int) -> None:
    """libFuzzer deals bytes to the same test; what fails is shrunk by Hypothesis, from its database."""
    import atheris as libfuzzer
    from hypothesis import Phase, given, settings
    from hypothesis.database import InMemoryExampleDatabase

    kept = InMemoryExampleDatabase()

    @settings(_settings(max_examples=10**7), database=kept, phases=(Phase.reuse, Phase.shrink))
    @given(_listed(words))
    def property_(raws: list[Raw]) -> None:
        Attempt(words, clock).all(raws)

    def one(data: bytes) -> None:
        try:
            clock.look()
            property_.hypothesis.fuzz_one_input(data)
        except Enough:
            _say(clock.met("atheris", words.target, seed))
        except Exception:
            _quietly(property_)
            _say(clock.met("atheris", words.target, seed))

    libfuzzer.Setup([sys.argv[0], f"-seed={seed}", "-max_len=4096", "-len_control=0", "-verbosity=0"], one)
    libfuzzer.Fuzz()


def random(words: Vocabulary, clock: Clock, seed: int) -> None:
    """Uniform choices; the list that fails is cut by delta debugging."""
    rng = Random(seed)
    while True:
        made = [
            (rng.choice(words.kinds), rng.randint(1, rng.choice((min(64, words.largest), words.largest))),
             rng.randrange(64), rng.randrange(16)) for _ in range(10 * STEPS)
        ]  # fmt: skip
        attempt = Attempt(words, clock)
        try:
            attempt.all(made)
        except Broken:
            _ddmin(words, clock, attempt.operations)
            return


def _ddmin(words: Vocabulary, clock: Clock, operations: list[Operation]) -> None:
    """Zeller's and Hildebrandt's ddmin, complements only; names are births, so what is left keeps its meaning."""
    parts = 2
    while len(operations) >= 2:
        length = -(-len(operations) // parts)
        for start in range(0, len(operations), length):
            rest = operations[:start] + operations[start + length :]
            if _fails(words, clock, rest):
                operations, parts = rest, max(parts - 1, 2)
                break
        else:
            if parts >= len(operations):
                return
            parts = min(len(operations), 2 * parts)


def _fails(words: Vocabulary, clock: Clock, operations: list[Operation]) -> bool:
    clock.look()
    attempt = Attempt(words, clock)
    try:
        for op in operations:
            attempt.do(op)
        attempt.finish()
    except Broken as broken:
        return broken.law == clock.law
    except Unusable:
        pass
    return False


TOOLS: dict[str, Callable[[Vocabulary, Clock, int], None]] = {
    "rules": rules, "audits": audits, "lists": lists, "atheris": atheris, "random": random, "crosshair": crosshair,
}  # fmt: skip


# ---- a hunt is a process ----------------------------------------------------------------------------------------

def _quietly(call: Callable[[], None]) -> None:
    with suppress(Exception, Enough):
        call()


def _say(met: Met) -> None:
    """The answer, and the end of this process; libFuzzer leaves no other way."""
    print(json.dumps(met._asdict()), flush=True)
    os._exit(0)


def alone(tool: str, target: str, seed: int, seconds: float) -> None:
    """In a process of its own: one hunt, and its answer on standard output."""
    if tool in OURS:
        met = hunt(target, tool, seed, _BUSY * seconds)  # by the clock; what counts is the processor's time
        found = met.verdict == "found" and met.seconds <= seconds
        until = met.seconds if found else None
        _say(Met(tool, target, seed, until, met.length, met.law, met.operations, met.why, met.seconds))
    if tool == "atheris":
        import atheris as libfuzzer

        with libfuzzer.instrument_imports(include=["heaplaw.impls"]):
            words = Vocabulary(target)
    else:
        words = Vocabulary(target)
    clock = Clock(seconds)
    _quietly(lambda: TOOLS[tool](words, clock, seed))
    _say(clock.met(tool, target, seed))


def sent(tool: str, target: str, seed: int, seconds: float) -> Met:
    """The hunt in a process, and what it said."""
    command = [sys.executable, __file__, "--hunt", tool, target, str(seed), str(seconds)]
    most = 6 * seconds + 3 * _SHRINKING + _LATE
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=most, check=False)
    except subprocess.TimeoutExpired:
        return Met(tool, target, seed, why="no end")
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines:
        last = (done.stderr.strip().splitlines() or ["nothing said"])[-1]
        return Met(tool, target, seed, why=f"lost: {last[:200]}")
    return Met(**json.loads(lines[-1]))


def kept(wanted: Sequence[tuple[str, str, int]], seconds: float, jobs: int, log: Path | None) -> list[Met]:
    """What became of all hunts (tool, target, seed): those that a log knows, and the others now."""
    lines = log.read_text().splitlines() if log is not None and log.exists() else []
    known = {(met.tool, met.target, met.seed): met for met in (Met(**json.loads(line)) for line in lines)}

    def one(hunted: tuple[str, str, int]) -> Met:
        if hunted in known:
            return known[hunted]
        met = sent(*hunted, seconds)
        if log is not None:
            with log.open("a") as file:
                file.write(json.dumps(met._asdict()) + "\n")
        return met

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(one, wanted))


# ---- the table --------------------------------------------------------------------------------------------------


def rates_of(tools: Sequence[str], seconds: float, rounds: int) -> dict[str, dict[str, float]]:
    """Checked operations a second on targets without a bug: medians of rounds in which the tools take turns."""
    found: dict[str, dict[str, list[float]]] = {tool: {name: [] for name in RATED} for tool in tools}
    for seed in range(1, rounds + 1):
        for name in RATED:
            for tool in tools:
                met = sent(tool, name, seed, seconds)
                found[tool][name].append(met.operations / met.spent if met.spent else 0.0)
    return {tool: {name: _median(values) for name, values in seen.items()} for tool, seen in found.items()}


def _median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else float("nan")


def rows_of(mets: Sequence[Met], tools: Sequence[str]) -> list[dict[str, Any]]:
    """A row a tool: found, median and spread of time, lengths, and against the first tool by bug."""
    bugs = list(dict.fromkeys(met.target for met in mets))
    cells = {(t, b): _scores([m for m in mets if m.tool == t and m.target == b]) for t in tools for b in bugs}
    rows = []
    for tool in tools:
        mine = [met for met in mets if met.tool == tool]
        times = sorted(met.seconds if met.seconds is not None else float("inf") for met in mine)
        middle, low, high = (times[int(share * (len(times) - 1))] for share in (0.5, 0.1, 0.9))
        pairs = [(cells[tool, bug], cells[tools[0], bug]) for bug in bugs]
        rows.append({
            "tool": tool, "hunts": len(mine), "found": sum(met.seconds is not None for met in mine),
            "bugs": sum(cells[tool, bug][0] < float("inf") for bug in bugs),
            "median": _told(middle), "low": _told(low), "high": _told(high),
            "length": _median([met.length for met in mine if met.seconds is not None]),
            "faster": sum(one[0] < other[0] for one, other in pairs),
            "shorter": sum(one[1] < other[1] for one, other in pairs),
            "longer": sum(one[1] > other[1] for one, other in pairs),
        })  # fmt: skip
    return rows


def _told(seconds: float) -> str:
    return f"{1000 * seconds:,.0f} ms" if seconds < float("inf") else "never"


def lines_of(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The rows as a table."""
    titles = (("found", 14), ("median", 9), ("10 %", 9), ("90 %", 9), ("operations", 12), ("faster on", 11),
              ("shorter on", 12), ("longer on", 11))  # fmt: skip
    yield f"{'tool':<11}" + "".join(f"{title:>{width}}" for title, width in titles)
    for row in rows:
        found = f"{row['found']} of {row['hunts']}"
        yield (
            f"{row['tool']:<11}{found:>14}{row['median']:>9}{row['low']:>9}{row['high']:>9}{row['length']:>12.1f}"
            f"{row['faster']:>11}{row['shorter']:>12}{row['longer']:>11}"
        )


def _scores(mets: Sequence[Met]) -> tuple[float, float]:
    """Median time and length on a bug; what was not found is longer than all."""
    found = [(m.seconds, m.length) if m.seconds is not None else (float("inf"), float("inf")) for m in mets]
    return _median([one for one, _ in found]), _median([two for _, two in found])


def main() -> None:
    """Hunts, then the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--hunt", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true", help="four bugs, two seeds, two seconds")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--bugs", type=int, default=24)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--tools", default=",".join(OURS + RIVALS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--log", type=Path, help="keeps every hunt, so that all of it can be stopped and resumed")
    options = parser.parse_args()
    if options.hunt:
        tool, target, seed, seconds = options.hunt
        alone(tool, target, int(seed), float(seconds))
    if options.quick:
        options.seeds, options.bugs, options.seconds = 2, 4, 2.0
    tools = options.tools.split(",")
    names = [bug.name for bug in Random(1).sample(hunted(), options.bugs)]
    wanted = [(tool, bug, seed) for seed in range(1, options.seeds + 1) for bug in names for tool in tools]
    mets = kept(wanted, options.seconds, options.jobs, options.log)
    timed = [tool for tool in tools if tool != "fuzz"]  # whose operations are done in a process of libFuzzer's
    rates = rates_of(timed, options.seconds, 1 if options.quick else 3)
    print(f"{len(names)} bugs, {options.seeds} seeds, {options.seconds:g} s of processor time a hunt")
    rows = rows_of(mets, tools)
    print("\n".join(lines_of(rows)))
    print("checked operations a second, no bug:")
    for tool, seen in rates.items():
        print(f"{tool:<11}" + "".join(f"{value:>12,.0f}" for value in seen.values()))
    for met in mets:
        if met.why:
            print(f"not counted as found: {met.tool} on {met.target} (seed {met.seed}): {met.why}")
    if options.json:
        about = {"bugs": names, "seeds": options.seeds, "seconds": options.seconds}
        options.json.write_text(json.dumps({**about, "tools": rows, "rates": rates}, indent=1) + "\n")


if __name__ == "__main__":
    main()
