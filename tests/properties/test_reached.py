"""Reachability: each word is reached by exactly what it says, and floors on words and laws are kept."""

from collections import Counter
from random import Random

import pytest

from heaplaw import Contract, Maintained
from heaplaw.checker import Checker
from heaplaw.codec import Codec
from heaplaw.impls.registry import BUILT_IN, factory, variants
from heaplaw.operations import Kind, Operation
from heaplaw.properties import plain, workhorse
from heaplaw.properties.events import Swarm, program
from heaplaw.properties.floors import FloorError, Floors, idle
from heaplaw.properties.positions import Prober, in_order
from heaplaw.properties.reached import WORDS, Watch, classes, is_word, words
from heaplaw.properties.verdict import Tally
from heaplaw.trace import Trace

TLSF = "tlsf,arena=256,sl=1"
BUDDY = "buddy,pages=8"
MERGING = [v for name in BUILT_IN for v in variants(name) if factory(v)().contract.mergeable is not None]


def reached(target, text, *, pace=0, every=1):
    """The words that a trace reaches, each operation's own: a list of sets."""
    build = factory(target) if isinstance(target, str) else target
    checker = Checker(build(), audit_every=every)
    watch = Watch(checker, pace=pace)
    seen = []
    for op in Trace.parse("heaplaw trace 1\n" + text).operations:
        watch.counts.clear()
        watch.step(op)
        seen.append({word for word, count in watch.counts.items() if count and not word.startswith("class")})
    return seen


class TestCoalescing:
    THREE = "a = alloc 24\nb = alloc 24\nc = alloc 24\nd = alloc 24\n"

    @pytest.mark.parametrize(
        ("frees", "word"),
        [("b", "none"), ("ab", "left"), ("cb", "right"), ("acb", "both"), ("d", "right")],
    )
    def test_neighbours(self, frees, word):
        """What stands free beside the freed block names the word; the end of the arena is free space too."""
        text = self.THREE + "".join(f"free {name}\n" for name in frees)
        assert reached(TLSF, text)[-1] == {f"coalesce {word}"}

    @pytest.mark.parametrize(
        ("frees", "word"),
        [("b", "none"), ("cb", "none"), ("ab", "left"), ("ba", "right"), ("cdba", "right"), ("cdab", "both")],
    )
    def test_buddies(self, frees, word):
        """Of free neighbours only a buddy counts."""
        text = self.THREE.replace("24", "4096") + "e = alloc 16384\n" + "".join(f"free {name}\n" for name in frees)
        assert reached(BUDDY, text)[-1] == {f"coalesce {word}"}

    def test_buddies_on_both_sides(self):
        """A block that merges twice, once to each side, merges on both."""
        text = "a = alloc 4096\nb = alloc 4096\nc = alloc 4096\nd = alloc 4096\nfree a\nfree b\nfree d\nfree c\n"
        assert reached(BUDDY, text)[-1] == {"coalesce both"}

    def test_freed_elsewhere(self):
        """What another CPU frees is often queued, and counts as nothing else."""
        seen = reached("nta,pages=16", "a = alloc 64\ncpu 1\nfree a\n")
        assert seen[-1] == {"freed elsewhere"}

    @pytest.mark.parametrize("name", MERGING)
    def test_as_the_target_shows_it(self, name):
        """The words agree with the free blocks that the target shows, free by free and request by request."""
        build = factory(name)
        compared = 0
        for seed in range(4):
            checker = Checker(build())
            watch, codec = Watch(checker), Codec(checker.contract)
            can = frozenset(kind for kind in Kind if checker.can(kind))
            for code in program(Swarm(Random(seed), codec, can), checker):
                op = codec.decode(code, checker.shadow.names, checker.births)
                before = list(checker.target.free_regions())
                watch.counts.clear()
                watch.step(op)
                compared += self.compare(checker, op, before, watch.counts)
        assert compared

    def compare(self, checker, op, before, counts):
        """1 where an operation has said something of one piece that can be seen in the free blocks."""
        freed = {word for word in counts if word.startswith("coalesce")}
        placed = {word for word in counts if word in ("split", "exact fit")}
        block = checker.freed if freed else checker.shadow.live.get(op.name) if placed else None
        if block is None or len(block.extents) != 1:
            return 0
        ((space, start, length),) = block.extents
        regions = checker.target.free_regions() if freed else before
        around = [r for r in regions if r[0] == space and r[1] <= start and start + length <= r[1] + r[2]]
        if not around or "foreign" in str(around[0].list_id):  # a fresh page, or one that went; queued, merges first
            return 0
        _, low, size, _ = around[0]
        left, right = low < start, low + size > start + length
        if freed:
            side = {(0, 0): "none", (1, 0): "left", (0, 1): "right", (1, 1): "both"}[left, right]
            assert freed == {f"coalesce {side}"}, (op, block.extents, around)
        elif not checker.contract.slack_grows:  # a rest that is too small is a neighbour's slack there
            assert placed == {"split" if left or right else "exact fit"}, (op, block.extents, around)
        return 1


class TestRequests:
    def test_split_and_exact(self):
        """The first block is cut off the arena; a hole of just its size is taken whole."""
        seen = reached(TLSF, "a = alloc 24\nb = alloc 24\nfree a\nc = alloc 24\n")
        assert (seen[0], seen[3]) == ({"split"}, {"exact fit"})

    def test_refused(self):
        """A refusal, whatever its kind."""
        assert reached(TLSF, "a = alloc 200\nb = alloc 200\nc = alloc 5000\n")[1:] == [{"refused"}, {"refused"}]

    def test_classes(self):
        """A request that is served is of the class of the first limit that it does not exceed."""
        build = factory(BUDDY)
        watch = Watch(Checker(build()))
        for birth, size in enumerate((1, 4096, 4097, 8192)):
            watch.step(Operation(Kind.ALLOC, birth, size))
        assert {word: watch.counts[word] for word, _, _ in classes(build().contract)} == {
            "class 0": 2, "class 1": 2, "class 2": 0, "class 3": 0,
        }  # fmt: skip

    def test_no_class_of_its_own(self):
        """Sizes that no fresh heap serves are of no class; above the last limit there is one more."""
        seen = list(classes(Contract(arena=100, min_size=8, limits=(4, 16, 64))))
        assert seen == [("class 1", 8, 16), ("class 2", 17, 64), ("class 3", 65, 100)]
        assert list(classes(Contract(arena=100))) == []

    def test_resizing(self):
        """In place, to another place, or not at all."""
        text = "a = alloc 24\nb = alloc 24\nrealloc a 16\nrealloc a 48\nrealloc a 5000\nrealloc z 5\n"
        assert reached(TLSF, text)[2:] == [{"resized in place"}, {"resized and moved"}, {"resize refused"}, set()]


class TestPages:
    def test_taken_returned_refused(self):
        """The source's ledger tells: taken by the first request, back with the last free, refused when armed."""
        seen = reached("subpage-buddy,pages=4", "failpages 1 order 0\na = alloc 16\nb = alloc 16\nfree b\n")
        assert seen[1] == {"refused", "page refused"}
        assert seen[2] == {"page taken", "split"}
        assert seen[3] == {"page returned"}

    def test_destroying_returns_nothing(self):
        """What every destroy gives back is no occasion."""
        assert "page returned" not in reached("subpage-buddy,pages=4", "a = alloc 4096\ndestroy\n")[-1]


class Movable:
    """Slots of eight bytes; compaction moves objects down, reclaim evicts as many as ``evict`` says."""

    contract = Contract(
        arena=64, max_size=8, handles="opaque", maintenance=("compact", "reclaim"), moving=frozenset({"compact"}),
        evicting=frozenset({"reclaim"}),
    )  # fmt: skip
    evict = 0

    def __init__(self):
        self.slots, self.next = {}, 0

    def alloc(self, size):
        free = [slot for slot in range(8) if slot not in self.slots.values()]
        if not free:
            return None
        self.next += 1
        self.slots[self.next] = free[0]
        return self.next

    def free(self, handle):
        del self.slots[handle]

    def extents(self, handle):
        return ((0, self.slots[handle] * 8, 8),)

    def maintain(self, kind):
        if kind == "reclaim":
            gone = tuple(list(self.slots)[: self.evict])
            for handle in gone:
                del self.slots[handle]
            return Maintained(evicted=gone)
        self.slots = {handle: slot for slot, handle in enumerate(sorted(self.slots, key=self.slots.get))}
        return Maintained(moved=99)  # what it says itself does not count


class TestMaintenance:
    FOUR = "a = alloc 8\nb = alloc 8\nc = alloc 8\nd = alloc 8\n"

    @pytest.mark.parametrize(("frees", "hands"), [("", "0"), ("c", "1"), ("a", "many")])
    def test_compaction(self, frees, hands):
        """Objects that have another place afterwards are counted, not what the target says."""
        text = self.FOUR + "".join(f"free {name}\n" for name in frees) + "maintain compact\n"
        assert reached(Movable, text)[-1] == {f"compaction moved {hands}"}

    @pytest.mark.parametrize(("count", "hands"), [(0, "0"), (1, "1"), (3, "many")])
    def test_eviction(self, count, hands):
        """Objects that are gone afterwards."""
        cls = type("Evicts", (Movable,), {"evict": count})
        assert reached(cls, self.FOUR + "maintain reclaim\n")[-1] == {f"evicted {hands}"}


class TestHints:
    NAME = "percpu-bitmap,unit=96,block=32,chunks=1"

    def test_shrunk_grown(self):
        """A hint falls when its run is taken and rises when it comes back."""
        first, second, third, *_ = reached(self.NAME, "a = alloc 96\nfree a\nb = alloc 4\n")
        assert "hint shrunk" not in first  # it is the first look
        assert "hint grown" in second
        assert "hint shrunk" in third

    def test_stale(self):
        """A hint that is lower than the truth, as the contract lets it be, is stale."""
        text = "".join(f"{name} = alloc 8\n" for name in "abcdefgh") + "free c\nfree b\nfree e\nfree d\nfree g\n"
        assert any("hint stale" in seen for seen in reached(self.NAME, text))

    def test_only_where_a_law_reads_them(self):
        """Where no law reads hints nothing is known of them."""
        build = factory(self.NAME)
        checker = Checker(build(), mute=[law for law in _laws() if law != "disjoint"], audit_every=1)
        assert "hint grown" in words(build)
        assert "hint grown" not in words(build, [law for law in _laws() if law != "disjoint"])
        watch = Watch(checker, pace=0)
        for op in (Operation(1, 0, 96), Operation(2, 0)):
            watch.step(op)
        assert not [word for word in watch.counts if word.startswith("hint")]


def _laws():
    from heaplaw.lawbook import LAWS

    return list(LAWS)


class TestVocabulary:
    def test_what_applies(self):
        """A word applies where the target can reach it."""
        known = {name: set(words(factory(variants(name)[0]))) for name in BUILT_IN}
        assert {name for name, own in known.items() if "compaction moved 1" in own} == {
            "zsmalloc", "afmalloc", "xcfmalloc",
        }  # fmt: skip
        assert {name for name, own in known.items() if "evicted 1" in own} == {"zbud"}
        assert {name for name, own in known.items() if "hint stale" in own} == {"percpu-bitmap", "percpu-area-map"}
        assert {name for name, own in known.items() if "coalesce both" not in own} == {
            "slab", "slub", "kmalloc", "zsmalloc", "afmalloc", "zbud",
        }  # fmt: skip
        assert not {"page returned", "page taken"} & known["tlsf"]
        assert all("refused" in own for own in known.values())

    def test_words(self):
        """Classes are words by their number; nothing else is but the vocabulary."""
        assert all(map(is_word, [*WORDS, "class 0", "class 12"]))
        assert not any(map(is_word, ["class", "class x", "class 01", "coalesce", ""]))

    def test_a_contract_of_its_own_mind(self):
        """A predicate that fails on what the shadow heap knows says nothing, and stops nothing."""
        contract = Contract(arena=64, mergeable=lambda one, two: one.list_id[0] == two.list_id[0])
        cls = type("Picky", (Movable,), {"contract": contract})
        assert reached(cls, "a = alloc 8\nb = alloc 8\nc = alloc 8\nfree b\nfree a\n", every=9)[-1] == set()


class TestEngines:
    def test_plain_reaches_all(self):
        """The plain engine reaches every word of a small buddy, and says so."""
        tally = plain.check("buddy", 8000, 1)
        assert tally.never_reached == []
        assert tally.reached["refused"] + 0 < tally.operations
        assert tally.reached["refused"] <= tally.refusals

    def test_same_seed_same_counts(self):
        """Counts are a function of the seed."""
        one, two = (plain.check("zsmalloc", 2000, 4).reached for _ in range(2))
        assert one == two

    def test_hypothesis(self):
        """The workhorse counts the same words."""
        tally = workhorse.check("xvmalloc", 2000, 1)
        assert {"coalesce none", "split", "refused", "page returned"} <= tally.reached.keys()

    def test_machine(self):
        """A rule machine counts over its examples, each machine for itself."""
        from hypothesis import settings
        from hypothesis.stateful import run_state_machine_as_test

        from heaplaw.properties.machine import rule_machine

        machine, other = rule_machine("tlsf"), rule_machine("tlsf")
        run_state_machine_as_test(machine, settings=settings(max_examples=20, database=None, derandomize=True))
        assert {"split", "refused", "coalesce right"} <= machine.reached.keys()
        assert not other.reached

    def test_tallies_add_up(self):
        """Shards of one target are added word by word."""
        one, two = Tally("a", "plain"), Tally("a", "plain")
        one.reached["split"], two.reached["split"], two.reachable["split"] = 2, 3, True
        one.add(two)
        assert (one.reached["split"], one.never_reached) == (5, [])

    @pytest.mark.parametrize("name", [TLSF, "buddy,pages=16", "xvmalloc,pages=4,page_size=128", "xcfmalloc,pages=4"])
    def test_from_canonical_blocks(self, name):
        """What an exhaustive engine enters by live blocks in canonical order is what a run counts."""
        build = factory(name)
        prober = Prober(build())
        watch, told, rng = Watch(prober), Watch(prober), Random(5)
        for birth in range(400):
            live = sorted((block.extents, block.size, 1, 0, False, block.cpu, 0, block.name) for block in
                          prober.shadow.live.values())
            live = list(in_order(live))
            if live and rng.random() < 0.5:
                index = rng.randrange(len(live))
                told.counts.clear()
                told.released(live, index)
                watch.counts.clear()
                held = prober.source.held if prober.source is not None else 0
                watch.step(Operation(Kind.FREE, live[index][7]))
                if prober.source is not None and prober.source.held != held:  # what goes back has no neighbours
                    told.counts.clear()
                    watch.counts.clear()
            else:
                told.counts.clear()
                watch.counts.clear()
                watch.step(Operation(Kind.ALLOC, birth, rng.choice((8, 24, 30, 60, 4096))))
                block = prober.shadow.live.get(birth)
                if block is None:
                    told.refused()
                else:
                    entry = (block.extents, block.size, 1, 0, False, block.cpu, 0, block.name)
                    live = list(in_order([*live, entry]))
                    told.placed(live, live.index(entry), block.size)
            kinds = ("coalesce", "split", "exact", "refused", "class")
            seen = [{w: n for w, n in one.counts.items() if n and w.startswith(kinds)} for one in (watch, told)]
            assert seen[0] == seen[1]


class TestFloors:
    def tally(self, **more):
        tally = Tally("tlsf", "plain", reached=Counter({"split": 3}), evidence=Counter({"drain": 7}))
        tally.reachable = {"split": True, "coalesce both": True}
        tally.lacking = {"zeroed": "not promised: zeroed", "placement": "not promised here"}
        tally.asked = {"drain": True, "placement": True}
        return tally

    def test_kept_and_not(self):
        """As often as wanted is enough; less is not, nor is a law whose condition another configuration could meet."""
        wanted = {"split": 3, "coalesce both": 1, "drain": 8, "zeroed": 1, "placement": 1, "evicted 1": 1}
        seen = Floors.of(wanted).measure([self.tally()])
        assert [one.met for one in seen] == [True, False, False, True, False, True]
        assert str(seen[1]) == "tlsf: 'coalesce both' was reached 0 times, at least 1 wanted"
        assert str(seen[3]) == "tlsf: the floor 'zeroed' does not apply (not promised: zeroed)"

    def test_of_a_target(self):
        """A target's own floor wins over that of all, the command line over both."""
        floors = Floors.of({"split": 5, "tlsf": {"split": 2}})
        assert floors.of_target("tlsf,arena=64")["split"] == 2
        assert floors.of_target("buddy")["split"] == 5
        assert floors.also(["split = 9"]).of_target("tlsf") == {"split": 9}

    def test_idle(self):
        """A floor that says nothing of any target is named."""
        measured = Floors.of({"evicted 1": 1, "split": 1}).measure([self.tally()])
        assert "the floor 'evicted 1' applies to none of tlsf" in idle(measured)
        assert idle(Floors.of({"split": 99}).measure([self.tally()])) is None

    @pytest.mark.parametrize(
        ("table", "says"),
        [
            ({"splitt": 1}, "unknown word 'splitt' in a floor (did you mean 'split'?); the words are coalesce none"),
            ({"split": -1}, "must be a whole number"),
            ({"split": True}, "must be a whole number"),
            ({"split": "3"}, "must be a whole number"),
            ({"tslf": {"split": 1}}, "unknown target 'tslf'"),
            ({"tlsf": {"frob": 1}}, "unknown word 'frob'"),
        ],
    )
    def test_mistakes(self, table, says):
        """A floor that means nothing is answered with what there is."""
        with pytest.raises(FloorError) as caught:
            Floors.of(table)
        assert says in str(caught.value)

    @pytest.mark.parametrize("text", ["split", "split=", "split=x", "=3", "split=-1"])
    def test_mistakes_on_the_command_line(self, text):
        """So is what is no WORD=N."""
        with pytest.raises(FloorError):
            Floors().also([text])

    def test_nearest_file(self, tmp_path):
        """The nearest pyproject.toml counts, whether or not it has floors."""
        (tmp_path / "a" / "b").mkdir(parents=True)
        (tmp_path / "pyproject.toml").write_text('[tool.heaplaw.floors]\n"coalesce both" = 4\n')
        assert Floors.nearest(tmp_path / "a" / "b").everywhere == {"coalesce both": 4}
        (tmp_path / "a" / "pyproject.toml").write_text("[tool.other]\n")
        assert Floors.nearest(tmp_path / "a" / "b").everywhere == {}
        for text in ("[tool", "[tool.heaplaw]\nfloors = 3\n", "tool = 3\n", "[tool.heaplaw.floors]\nfrob = 1\n"):
            (tmp_path / "a" / "pyproject.toml").write_text(text)
            with pytest.raises(FloorError, match=r"pyproject\.toml"):
                Floors.nearest(tmp_path / "a")
