"""The exhaustive engine: what it proves is so, and what it finds is as short as can be."""

import itertools
import json
import random
import signal
import subprocess
import sys
import time

import planted
import pytest
from click.testing import CliRunner

from heaplaw import Checker, Contract, Kind, Operation, Refusal
from heaplaw.checker import Unusable
from heaplaw.fuzz.exploring import explore as command
from heaplaw.fuzz.options import Problem
from heaplaw.impls.registry import BUILT_IN, factory
from heaplaw.lawbook import LAWS, Broken
from heaplaw.properties import exhaustive
from heaplaw.properties.alphabet import LEAVES, alphabet, codes, operation
from heaplaw.properties.certificate import Certificate
from heaplaw.properties.exhaustive import explore
from heaplaw.properties.frontier import Frontier, ResumeError
from heaplaw.properties.positions import KeepError, Pickles, Prober, fingerprint, shadow_of
from heaplaw.properties.retelling import Retelling, in_place
from heaplaw.properties.statetable import Reader, StateTable
from heaplaw.properties.tiny import all_tiny, tiny
from heaplaw.properties.transitions import Explorer
from heaplaw.runs import run
from heaplaw.shadow import Block, Shadow
from heaplaw.twins import TWIN_LAWS

ARENA = 24
PROPER = "tlsf,arena=96,sl=1"


class Small(planted.Good):
    """The honest allocator, small enough to be searched."""

    contract = Contract(
        arena=ARENA, rejects=frozenset({"zero", "huge"}), drained_size=ARENA, must_serve=lambda r, s, _: _fits(r, s),
        must_refuse=lambda r, s, _: not _fits(r, s), overhead=lambda s, _: 0, mergeable=lambda one, two: True,
        free_then_alloc=True,
    )  # fmt: skip

    def __init__(self):
        super().__init__()
        self.holes = [(0, ARENA)]

    def alloc(self, size, align=1, *, ctx=None):
        return Refusal.TOO_BIG if size > ARENA else super().alloc(size)


def _fits(request, shadow):
    return any(high - low >= request.size > 0 for low, high in shadow.gaps(0, 0, ARENA))


class Shown(Small):
    """The same with snapshots of its own."""

    def snapshot(self):
        return tuple(sorted(self.used.items())), tuple(self.holes)

    def restore(self, state):
        self.used, self.holes = dict(state[0]), list(state[1])


class Forgets(Shown):
    """Merges neighbours only where the left one is long."""

    def touch(self, start, length, behind):
        return super().touch(start, length, behind) and length > 6


class Overlaps(Shown):
    """With three blocks live, hands out a byte twice."""

    def alloc(self, size, align=1, *, ctx=None):
        answer = super().alloc(size)
        if isinstance(answer, int) and len(self.used) == 3:
            self.holes = sorted([*self.holes, (answer, 1)])
        return answer


class Crashes(Shown):
    """Divides by the number of holes."""

    def free(self, handle):
        _ = 1 // len(self.holes)
        super().free(handle)


class Loops(Shown):
    """Never comes back from the free that leaves two objects."""

    def free(self, handle):
        super().free(handle)
        while len(self.used) == 2:
            pass


class Smears(Shown):
    """A free writes into the block that begins where the freed one ended."""

    def free(self, handle):
        end = handle + self.used[handle]
        super().free(handle)
        if end in self.used:
            self.memory[end] ^= 1


class Refuses(Shown):
    """Wants a rest: what was freed cannot be had at once, but later."""

    contract = Contract(arena=ARENA, free_then_alloc=True, drained_size=8)

    def __init__(self):
        super().__init__()
        self.tired = False

    def alloc(self, size, align=1, *, ctx=None):
        tired, self.tired = self.tired, False
        return None if tired and size == 12 else super().alloc(size)

    def free(self, handle):
        super().free(handle)
        self.tired = True

    def snapshot(self):
        return *super().snapshot(), self.tired

    def restore(self, state):
        super().restore(state[:2])
        self.tired = state[2]


class Counts(Shown):
    """Breaks on the fifth request; its snapshots hide the count."""

    def __init__(self):
        super().__init__()
        self.requests = 0

    def alloc(self, size, align=1, *, ctx=None):
        self.requests += 1
        return 1 if self.requests == 5 else super().alloc(size)


class Unlike(Shown):
    """Places by chance."""

    def alloc(self, size, align=1, *, ctx=None):
        random.shuffle(self.holes)
        answer = super().alloc(size)
        self.holes.sort()
        return answer


class Sealed(Small):
    """Holds what cannot be copied."""

    def __init__(self):
        super().__init__()
        self.lock = memoryview(b"")


HERE = f"{__file__}:"
SIZES = (6, 12)


def brute(build, letters, depth):
    """The length of the shortest trace that breaks a law, and the laws that such traces break; no cleverness."""
    for length in range(depth + 1):
        broken = set()
        for trace in _traces(build, letters, length):
            found = run(build, trace, mute=TWIN_LAWS)
            if found is not None:
                broken.add(found.law)
        if broken:
            return length, broken
    return None


def _traces(build, letters, length):
    """Every trace of this length that does something at every step."""
    waiting = [()]
    for _ in range(length):
        longer = []
        for trace in waiting:
            checker = Prober(build(), mute=LAWS)
            if any(op.kind in LEAVES for op in trace) or not _does(checker, trace):
                continue
            names = [block.name for block in in_place(checker)]
            leaves = [n for n, letter in enumerate(letters) if letter.operation.kind in LEAVES and not names]
            for code in itertools.chain(codes(letters, len(names)), leaves):
                longer.append((*trace, operation(letters, code, names, checker.births)))
        waiting = longer
    return waiting


def _does(checker, trace):
    for op in trace:
        try:
            checker.step(op)
        except Unusable:
            return False
    return not checker.skipped


def letters_of(name, sizes, kinds=frozenset(Kind)):
    checker = Checker(factory(name)())
    return alphabet(checker.contract, {kind for kind in kinds if checker.can(kind)}, sizes)


class TestVerdicts:
    @pytest.mark.parametrize(
        ("name", "sizes", "depth"),
        [
            (HERE + "Forgets", SIZES, 5),
            (HERE + "Overlaps", SIZES, 4),
            (HERE + "Crashes", SIZES, 4),
            (HERE + "Smears", SIZES, 4),
            (HERE + "Refuses", SIZES, 4),
            (HERE + "Shown", SIZES, 4),
            ("percpu-bitmap@4.14,unit=32,block=16,chunks=1", (4, 16), 4),
            ("xcfmalloc@2011-09-v1,pages=2,page_size=512,reserve=1", (304,), 4),
        ],
    )
    def test_same_verdict_and_length_as_all_traces_without_deduplication(self, name, sizes, depth):
        """The search and brute force agree on whether a law breaks, and on the length of the shortest trace."""
        kinds = frozenset({Kind.ALLOC, Kind.FREE, Kind.DRAIN, Kind.MAINTAIN})
        expected = brute(factory(name), letters_of(name, sizes, kinds), depth)
        found = explore(name, sizes=sizes, kinds=kinds, depth=depth, aligns=())
        assert not found.unconfirmed
        if expected is None:
            assert found.finding is None
        else:
            length, laws = expected
            assert found.finding is not None
            assert len(found.finding.trace.operations) == length
            assert found.finding.violation.law in laws

    @pytest.mark.parametrize(
        ("bug", "sizes", "law", "length"),
        [
            ("Overlap", (256,), "conservation", 1),
            ("LosesTheLastByte", (256,), "contents", 1),
            ("ForgetsMerge", (4,), "coalesced", 2),
            ("LeaksOnRefusal", (150, 300), "refusal-pure", 4),
        ],
    )
    def test_planted_bugs(self, bug, sizes, law, length):
        """Bugs planted in a target without snapshots are found with the shortest trace there is."""
        kinds = {Kind.ALLOC, Kind.FREE}
        done = explore(f"{planted.__file__}:{bug}", sizes=sizes, kinds=kinds, depth=length)
        assert done.finding is not None
        assert (done.finding.violation.law, len(done.finding.trace.operations)) == (law, length)
        assert done.depth == length - 1

    def test_published_conservation_of_xen_tlsf(self):
        """The published pool that gives its first region back twice is convicted in four operations."""
        found = explore("xen-tlsf@3.4,pages=2,page_size=256", only=["conservation"]).finding
        assert found is not None
        assert (found.violation.law, len(found.trace.operations)) == ("conservation", 4)

    def test_a_hang_is_found(self):
        """A call that never returns ends as a violation of `returns` with the shortest trace."""
        found = explore(HERE + "Loops", sizes=(6,), kinds={Kind.ALLOC, Kind.FREE}).finding
        assert found is not None
        assert (found.violation.law, len(found.trace.operations)) == ("returns", 4)

    def test_only_one_law(self):
        """A law that is not asked for convicts nobody, and the certificate says that it was not."""
        done = explore(HERE + "Forgets", sizes=SIZES, only=["disjoint"])
        assert done.finding is None
        assert done.closed
        assert done.not_asked["coalesced"] == "not asked for"

    def test_a_state_hidden_from_snapshots_is_noticed(self):
        """Where a restored target is not what it was, nothing is certified."""
        done = explore(HERE + "Counts", sizes=SIZES, depth=6)
        assert done.unconfirmed or done.finding is not None
        assert not done.closed

    def test_chance_is_noticed(self):
        """A target that answers differently each time is convicted or unclear, never certified."""
        done = explore(HERE + "Unlike", sizes=SIZES)
        assert done.unconfirmed or done.finding is not None

    def test_every_law_is_accounted_for(self):
        """Each law is either asked, so many times, or has its reason for not being asked."""
        done = explore(PROPER, sizes=(8, 24))
        assert {law for law in LAWS if done.asked[law]} | done.not_asked.keys() == set(LAWS)
        assert not {law for law in LAWS if done.asked[law]} & done.not_asked.keys()

    def test_limits_are_inconclusive(self):
        """A search that ends early says why, and how far it came."""
        for limit in ({"most_states": 10}, {"memory": 1}, {"seconds": 0}):
            done = explore("tlsf,arena=160,sl=1", sizes=(8, 24), **limit)
            assert done.stopped
            assert not done.closed


class TestCertificates:
    def test_closed_needs_no_depth(self):
        """A closed space is the same however deep the search was allowed to go."""
        free, bounded = explore(PROPER, sizes=(8, 24)), explore(PROPER, sizes=(8, 24), depth=50)
        assert free.closed
        assert free.same(bounded)

    def test_depth_bounds_the_traces(self):
        """Two levels of a search are the start of a deeper one, and are not closed."""
        shallow, deep = explore(PROPER, sizes=(8, 24), depth=2), explore(PROPER, sizes=(8, 24), depth=3)
        assert not shallow.closed
        assert shallow.depth == 2
        assert shallow.levels == deep.levels[:3]

    def test_two_jobs_certify_the_same(self, monkeypatch):
        """The certificate does not depend on the number of processes."""
        monkeypatch.setattr(exhaustive, "_ALONE", 20)
        name, kinds = "tlsf,arena=160,sl=1", {Kind.ALLOC, Kind.FREE, Kind.BAD_ALLOC, Kind.DRAIN}
        one, two = (explore(name, sizes=(8, 24), kinds=kinds, jobs=jobs) for jobs in (1, 2))
        assert one.closed
        assert one.states > 100
        assert one.same(two)

    def test_two_jobs_find_the_same(self, monkeypatch):
        """So does the counterexample."""
        monkeypatch.setattr(exhaustive, "_ALONE", 5)
        name = "percpu-bitmap@4.14,unit=32,block=16,chunks=1"
        one, two = explore(name), explore(name, jobs=2)
        assert str(one.finding.trace) == str(two.finding.trace)
        assert one.levels == two.levels

    def test_resume_goes_on_to_the_same_certificate(self, tmp_path, monkeypatch):
        """A search that was stopped again and again ends as one that never was."""
        monkeypatch.setattr(exhaustive, "_CHECK", 32)
        file = tmp_path / "search"
        asked = {"target": "tlsf,arena=160,sl=1", "sizes": (8, 24), "kinds": {Kind.ALLOC, Kind.FREE}}
        whole = explore(**asked)
        limit, parts = 40, 0
        while (part := explore(**asked, resume=file, most_states=limit)).stopped:
            limit, parts = limit * 2, parts + 1
        assert parts > 1
        assert part.same(whole)

    def test_resume_refuses_another_search(self, tmp_path):
        """A file of another target, or no such file at all, is not gone on with."""
        file = tmp_path / "search"
        explore(PROPER, sizes=(8, 24), resume=file)
        with pytest.raises(ResumeError, match="target"):
            explore("tlsf,arena=128,sl=1", sizes=(8, 24), resume=file)
        file.write_text("something else")
        with pytest.raises(ResumeError, match="can go on"):
            explore(PROPER, sizes=(8, 24), resume=file)

    def test_interrupt_keeps_the_search(self, tmp_path):
        """Ctrl-C leaves a file from which the search ends as if it had not been interrupted."""
        file = tmp_path / "search"
        call = f"explore('tlsf,arena=192,sl=1', sizes=(8, 24), kinds={{1, 2}}, resume=Path({str(file)!r}))"
        code = f"from pathlib import Path; from heaplaw.properties.exhaustive import explore; {call}"
        process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)
        deadline = time.monotonic() + 10
        while not file.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        process.communicate()
        assert file.exists()
        resumed = explore("tlsf,arena=192,sl=1", sizes=(8, 24), kinds={1, 2}, resume=file)
        assert resumed.same(explore("tlsf,arena=192,sl=1", sizes=(8, 24), kinds={1, 2}))

    def test_table_names_known_targets(self):
        """Every built-in target has a tiny configuration that can be built; one with parameters is left alone."""
        assert [search.name.split(",")[0] for search in all_tiny()] == list(BUILT_IN)
        for search in all_tiny():
            assert factory(search.name)()
        assert tiny("tlsf,arena=4096").name == "tlsf,arena=4096"

    def test_collisions_are_estimated(self):
        """The chance that two states were taken for one grows with the square of their number."""
        assert Certificate("x", (), states=2**20).chance_of_collision == pytest.approx(2**-25)


class TestCanonicalPositions:
    @pytest.mark.parametrize(
        ("name", "sizes"),
        [
            ("tlsf,arena=160,sl=1", (8, 24)), ("buddy,pages=4", ()), ("zbud,pages=2,page_size=256,order=2", ()),
            ("percpu-bitmap,unit=32,block=16,chunks=1", (4, 12)), ("xcfmalloc,pages=2,page_size=512,reserve=1", ()),
            ("zsmalloc,pages=4,chain=4", (32, 2000)), ("xvmalloc,pages=2,page_size=128", ()),
            ("compcache,pages=2,page_size=64", ()), ("subpage-buddy,pages=2,page_size=64", ()),
            ("xen-tlsf,pages=2,page_size=256", ()), ("xen-xmalloc,pages=2,line=32,page_size=128", ()),
            ("percpu-area-map,unit=16,block=8,chunks=1", (4, 8)), ("slab,size=64,pages=2,page_size=256", ()),
            ("slub,size=64,pages=2,page_size=256", ()), ("nta,pages=2,cpus=1,order=0,regions=1,page_size=256", (64,)),
            ("srog,pages=2,page_size=128", (24,)), (HERE + "Small", SIZES), (HERE + "Shown", SIZES),
        ],
    )  # fmt: skip
    def test_what_is_merged_behaves_alike(self, name, sizes):
        """Two traces that lead to one position answer alike to every letter, and lead to one position again."""
        letters = letters_of(name, sizes)
        rng = random.Random(name)
        seen = {}
        merged = 0
        for _ in range(120):
            prober = Prober(factory(name)(), mute=LAWS)
            _walk(prober, letters, rng)
            mark = fingerprint(prober.position(), prober.shape)
            after = _future(prober, letters)
            if mark in seen:
                merged += 1
                assert seen[mark] == after
            seen[mark] = after
        assert merged > 5

    def test_shortcuts_change_nothing(self):
        """Requests and frees tried without touching the shadow heap lead where the checker's handlers lead."""
        build = factory("tlsf,arena=160,sl=1")
        letters = letters_of("tlsf,arena=160,sl=1", (8, 24), {Kind.ALLOC, Kind.FREE})
        explorer, retelling = Explorer(build, letters), Retelling(build, letters)
        start = explorer.start()
        waiting, seen, steps = [(start.kept, 0)], {start.fingerprint}, 0
        while waiting:
            kept, depth = waiting.pop(0)
            found = explorer.expand([kept], depth, seen.__contains__)
            assert not found.breaches
            for child in found.children:
                assert retelling.follow(kept, child.code)[0] == child.fingerprint
                seen.add(child.fingerprint)
                waiting.append((child.kept, depth + 1))
                steps += 1
        assert steps > 50

    def test_a_shadow_heap_made_at_once(self):
        """Is what adding its blocks one by one makes."""
        places = (((0, 8, 8),), ((0, 32, 8), (1, 0, 4)), (), ((0, 16, 16),))
        blocks = [Block(name, name, 4, 1, extents) for name, extents in enumerate(places)]
        one_by_one = Shadow()
        for block in blocks:
            one_by_one.add(block)
        at_once = shadow_of(blocks)
        for slot in Shadow.__slots__:
            assert getattr(at_once, slot) == getattr(one_by_one, slot), slot

    def test_a_target_without_snapshots_is_copied(self):
        """The fallback proves no less than snapshots: it may set more states apart, never fewer."""
        plain, shown = explore(HERE + "Small", sizes=SIZES), explore(HERE + "Shown", sizes=SIZES)
        assert plain.closed
        assert shown.closed
        assert plain.states >= shown.states

    def test_a_target_that_cannot_be_kept(self):
        """Says what it needs."""
        with pytest.raises(KeepError, match="snapshot"):
            Pickles(Sealed())


def _walk(prober, letters, rng):
    """A short random way."""
    for _ in range(rng.randrange(7)):
        names = [block.name for block in in_place(prober)]
        code = rng.choice(list(codes(letters, len(names))))
        _step(prober, operation(letters, code, names, prober.births))
    names = [block.name for block in in_place(prober)]
    for name in names[1:] if rng.random() < 0.5 else ():
        _step(prober, Operation(Kind.FREE, name))


def _step(prober, op):
    prober.index += 1
    prober.op, prober.answer = op, None
    try:
        prober._handlers[op.kind](op)
    except (Unusable, Broken):
        return "broken"
    return "refused" if prober.answer is None or isinstance(prober.answer, Refusal) else "served"


def _future(prober, letters):
    """What each letter is answered from here, and where it leads."""
    here = prober.position()
    seen = []
    for code in codes(letters, len(here.live)):
        prober.take(here)
        live = len(here.live)
        op = operation(letters, code, range(live), live)
        answer = _step(prober, op)
        extents = prober.shadow.live[live].extents if op.kind == Kind.ALLOC and answer == "served" else ()
        seen.append((code, answer, extents, fingerprint(prober.position(), prober.shape)))
    return seen


class TestCommand:
    def explore(self, *arguments):
        return CliRunner().invoke(command, [*arguments, "--jobs", "1"], standalone_mode=False)

    def test_certificate(self, tmp_path):
        """A closed space ends with code 0, in words and as JSON."""
        file = tmp_path / "report.json"
        done = self.explore("tlsf", "--arena", "96", "--sizes", "8,24", "--json", str(file), "-v")
        assert done.return_value == 0, done.output
        assert "1 of 1 state spaces closed" in done.output
        (target,) = json.loads(file.read_text())["targets"]
        assert target["closed"]
        assert target["laws_asked"]["disjoint"] > 0
        assert target["target"] == "tlsf,arena=96,sl=1"

    def test_counterexample(self):
        """A broken law ends with code 1 and shows the shortest trace."""
        done = self.explore(HERE + "Overlaps", "--sizes", "6", "--kinds", "alloc,free")
        assert done.return_value == 1
        assert "no trace of fewer operations breaks a law" in done.output

    def test_limit(self):
        """A search that ends early ends with code 3 and says why."""
        done = self.explore("tlsf,arena=160,sl=1", "--states", "10")
        assert done.return_value == 3
        assert "10 states were reached" in done.output

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["tlsf", "--kinds", "fly"], "unknown operation 'fly'"), (["tlsf", "--law", "x"], "unknown law 'x'"),
            (["tlsf", "zbud", "--resume", "x"], "name one target"), ([HERE + "Sealed"], "snapshot"),
            (["zbud", "--arena", "9"], "less than a page"),
        ],
    )  # fmt: skip
    def test_bad_input(self, arguments, words):
        """Bad input is one line that says what to do."""
        problem = self.explore(*arguments).exception
        assert isinstance(problem, Problem)
        assert words in problem.message


class TestStateTable:
    def test_remembers_all_while_it_grows(self):
        """Every fingerprint entered is found, here and by a reader of the file, and nothing else."""
        table, reader, rng = StateTable(shared=True), Reader(), random.Random(1)
        marks = [rng.getrandbits(64) | 1 for _ in range(20_000)]
        assert all(table.add(mark) for mark in marks)
        assert not any(table.add(mark) for mark in marks)
        reader.open(table.path)
        assert all(mark in reader and mark in table for mark in marks)
        assert not any(mark ^ 2 in reader for mark in marks)
        table.close()

    def test_a_reader_may_be_late(self):
        """A file that is gone reads as empty: the writer knows better."""
        reader = Reader()
        reader.open("/nowhere")
        assert 5 not in reader


class TestFrontier:
    def test_levels_are_told_apart(self):
        """Chunks never mix depths, and the way to a state is its codes in order."""
        frontier = Frontier()
        frontier.enter(0, 0, 11, b"root")
        frontier.next_chunk(10, 100)
        for mark in (22, 33, 22):
            frontier.enter(0, mark, mark, b"x")
        frontier.enter(1, 7, 44, b"y")
        assert frontier.starts == [0, 1, 3]
        assert frontier.next_chunk(10, 100) == (1, 1, [b"x", b"x"])
        assert frontier.path(3) == [22, 7]
        frontier.table.close()
