"""Frames: the heap after each step, what the step changed, and the addresses that a violation speaks of."""

import json
from pathlib import Path

import pytest

from heaplaw import Contract
from heaplaw.checker import Checker
from heaplaw.impls.registry import factory
from heaplaw.operations import Kind, Operation, birth_name
from heaplaw.properties.frames import Film, Place, clashes, frames, objects, places
from heaplaw.properties.replay import replay
from heaplaw.properties.strip import strips
from heaplaw.protocol import FreeRegion, Listed
from heaplaw.runs import Violation
from heaplaw.trace import Trace

DATA = Path(__file__).parent.parent / "data"
SOME = ["T09", "ZS16", "XC01", "SL02", "B08", "P05", "CC01", "AF03"]


def read(name):
    """A trace of the gallery, or a committed counterexample."""
    path = DATA / f"gallery/{name}.trace"
    return Trace.parse((path if path.exists() else DATA / f"traces/{name}.trace").read_text())


def allocs(*sizes):
    return [Operation(Kind.ALLOC, birth, size) for birth, size in enumerate(sizes)]


class Fixed:
    """Serves the places that it was given; walking its lists does not end if it is so told."""

    contract = Contract(arena=64)
    endless = False

    def __init__(self):
        self.at = [0, 8, 4]

    def alloc(self, size):
        return self.at.pop(0)

    def free(self, handle):
        pass

    def free_regions(self):
        yield FreeRegion(0, 32, 32, (1, 2))

    def lists(self):
        while self.endless:
            pass
        yield Listed((1, 2), (0, 32))


class Endless(Fixed):
    endless = True


class TestFrames:
    @pytest.mark.parametrize("name", SOME)
    def test_live_objects_are_those_of_the_shadow_heap(self, name):
        """After every step the frame holds exactly the extents that the checker's shadow heap holds then."""
        trace = read(name)
        build = factory(trace.target)
        film = frames(build, trace.operations)
        assert len(film.frames) == len(trace.operations)
        for upto, frame in enumerate(film.frames, 1):
            checker = Checker(build(), mute=[law.id for law in Checker(build()).laws])
            for op in trace.operations[:upto]:
                checker.step(op)
            live = [(birth_name(b.name), *extent) for b in checker.shadow.live.values() for extent in b.extents]
            assert [tuple(piece) for piece in frame.live] == live

    @pytest.mark.parametrize("name", SOME)
    def test_what_changed_explains_the_next_frame(self, name):
        """The names that were there, with those born and without those freed, are the names that are there."""
        known = set()
        for frame in frames(factory(read(name).target), read(name).operations).frames:
            known = (known | set(frame.born)) - set(frame.freed)
            assert known == {piece.name for piece in frame.live}
            assert {piece.name for piece in frame.gone} == set(frame.freed) | set(frame.moved)

    @pytest.mark.parametrize("name", SOME)
    def test_looking_changes_nothing(self, name):
        """Reading free extents, lists and hints after each step leaves what the steps do as it is."""
        trace = read(name)
        seen, blind = (frames(factory(trace.target), trace.operations, look=look) for look in (True, False))
        did, wanted = ([(f.outcome, f.live, f.pages) for f in film.frames] for film in (seen, blind))
        assert did == wanted
        assert not any(frame.free or frame.lists or frame.hints for frame in blind.frames)

    @pytest.mark.parametrize("name", SOME)
    def test_survives_json(self, name):
        """A film that went through JSON, as between processes, is the same film."""
        film = frames(factory(read(name).target), read(name).operations)
        assert Film.from_data(json.loads(json.dumps(film.as_data()))) == film

    def test_moves_and_pages(self):
        """Compaction that moves an object and gives back pages is said in the frame where it happens."""
        *_, before, last = frames(factory(read("ZS16").target), read("ZS16").operations).frames
        assert (last.moved, last.freed, last.outcome) == (["h"], [], "moved h, gives back 2 pages")
        assert sum(run.length for run in before.pages) - sum(run.length for run in last.pages) == 2 * 4096

    def test_a_hint_beside_the_truth(self):
        """The hint that overestimates is told with the true length, and no earlier step says that it is wrong."""
        trace = read("percpu-bitmap@4.14-hint-sound")
        *before, last = frames(factory(trace.target), trace.operations).frames
        wrong = [(hint.name, hint.value, hint.truth) for hint in last.hints if not hint.holds]
        assert wrong == [("chunk.contig", 248, 244)]
        assert all(hint.holds for frame in before for hint in frame.hints)

    def test_lists_and_free_extents(self):
        """A list that still has a block which was merged away shows beside the free extents."""
        trace = read("B08")
        last = frames(factory(trace.target), trace.operations).frames[-1]
        assert [tuple(hole) for hole in last.free] == [(0, 0, 32768, "3")]
        assert last.lists == {"0": ["4096"], "3": ["0"]}

    def test_refusals(self):
        """A refused request is said to be refused, and changes nothing."""
        trace = read("P01")
        *_, before, last = frames(factory(trace.target), trace.operations).frames
        assert (last.refused, last.outcome, last.live) == (True, "refused: no memory", before.live)

    def test_long_traces(self):
        """Of a long trace the last steps are kept, numbered as they are in the trace."""
        film = frames(factory("tlsf"), allocs(*[8] * 100), most=10)
        assert (film.before, [frame.number for frame in film.frames]) == (90, list(range(91, 101)))

    def test_a_heap_that_cannot_be_looked_at(self):
        """A free list that never ends is said so; the steps after it are shown all the same."""
        film = frames(Endless, allocs(4, 4))
        assert [frame.outcome for frame in film.frames] == ["at 0+4", "at 8+4"]
        assert film.frames[0].unread == ["lists: reading it does not end"]
        assert [tuple(hole) for hole in film.frames[0].free] == [(0, 32, 32, "1 2")]

    def test_a_call_that_fails(self):
        """An exception out of a call is told, and what could not be seen any more is not shown as empty."""
        *_, last, after = frames(Fixed, allocs(4, 4, 4, 4, 4)).frames
        assert last.problem.startswith("IndexError")
        assert last.unread == after.unread == ["not looked at: the heap is broken down"]
        assert (after.outcome, after.live) == ("not done any more", last.live)


class TestPlaces:
    @pytest.mark.parametrize(
        ("words", "wanted"),
        [
            ("c (2 bytes at 0+2) apart from b (1 bytes at 3:1+1)", [(0, 0, 2), (3, 1, 1)]),
            ("byte 144 of b (145 bytes at 4096+128 64+32) as written", [(0, 4096, 128), (0, 64, 32)]),
            ("248 in (0, 0, 256)", [(0, 0, 256)]),
            ("(0, 0, 2) beside (1, 2, 62)", [(0, 0, 2), (1, 2, 62)]),
            ("free but not listed [(0, 2)], listed but not free ['(0, 1)']", [(0, 2, 1), (0, 1, 1)]),
            ("-4096 (0:16384..12288)", [(0, 12288, 4096)]),
            ("exactly the pages that were taken; a difference at pages [1, 3]", [(0, 4096, 4096), (0, 12288, 4096)]),
            ("(0, 0, 5) on list partial; on list full", []),  # a slab's name
            ("at most 3 pages held with nothing live; 1,024", []),
            ("list 0,10 set, as its lists are", []),
        ],
    )
    def test_of_a_violation(self, words, wanted):
        """Addresses are found as each law writes them; names of containers and counts are none."""
        assert places(words) == [Place(*place) for place in wanted]

    @pytest.mark.parametrize("name", ["SL02", "G14", "AF03", "ZS16", "CC01"])
    def test_are_those_of_the_objects_named(self, name):
        """The places in the words of a violation are where the last frame shows the objects that they name."""
        trace = read(name)
        for finding in replay(trace, trace.target).tally.findings:
            found = finding.violation
            words = f"{found.expected}; {found.seen}"
            last = frames(factory(finding.target), finding.trace.operations).frames[-1]
            for object_ in objects(words):
                mine = {Place(*piece[1:]) for piece in (*last.live, *last.gone) if piece.name == object_}
                assert mine & set(places(words)), (found.law, words)

    def test_clashes(self):
        """Bytes that two places have in common are one place; neighbours and other spaces have none."""
        some = [Place(0, 0, 8), Place(0, 6, 8), Place(0, 14, 2), Place(1, 0, 99)]
        assert clashes(some) == [Place(0, 6, 2)]


class TestStrips:
    found = Violation("disjoint", 2, "c (6 bytes at 4+6) apart from b (4 bytes at 8+4)", "an overlap")

    def test_addresses_and_the_mark(self):
        """Above a strip stand the addresses of both ends; the step that breaks a law names it, a caret the bytes."""
        lines = strips(Fixed, allocs(4, 4, 6), found=self.found)
        assert lines == [
            "                  0             16 bytes",
            "  1  a = alloc 4 |AAAA............|",
            "  2  b = alloc 4 |AAAA....BBBB....|",
            "  3  c = alloc 6 |AAAACCCC##BB....|  <-- disjoint",
            "                          ^^",
        ]

    def test_nothing_is_marked_unasked(self):
        """Without a violation there is no mark."""
        assert not any("^" in line or "<--" in line for line in strips(Fixed, allocs(4, 4, 6)))
