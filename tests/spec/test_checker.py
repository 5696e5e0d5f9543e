"""The checker asks at the right moments, names the right operation, and accuses nobody of its own mistakes."""

from dataclasses import replace

import pytest
from honest import ARENA, Box, Filled, Fit, Paged, Shown

from heaplaw import (
    LAWS,
    AllocationBits,
    Checker,
    Context,
    Contract,
    Direction,
    Extent,
    FreeRegion,
    Hint,
    InvalidFree,
    Kind,
    ListBit,
    Listed,
    Maintained,
    Operation,
    PageError,
    PageSource,
    Quantity,
    Refusal,
    run,
)
from heaplaw.checker import Hang, Unusable
from heaplaw.lawbook import Broken
from heaplaw.runs import pinpoint
from heaplaw.twins import answers, compare_twins


def alloc(name, size=8, align=1, mode=0):
    return Operation(Kind.ALLOC, name, size, align, mode)


def free(name):
    return Operation(Kind.FREE, name)


def bad_free(name, kind):
    return Operation(Kind.BAD_FREE, name, mode=kind)


NOP, DRAIN, DESTROY = Operation(Kind.NOP), Operation(Kind.DRAIN), Operation(Kind.DESTROY)
COMPACT = Operation(Kind.MAINTAIN, mode="compact")


def promising(base, **promises):
    """A class like ``base`` whose contract promises more."""
    return type(base.__name__, (base,), {"contract": replace(base.contract, **promises)})


def stepped(target, *operations, **options):
    """A checker that has done these operations."""
    checker = Checker(target, **options)
    for op in operations:
        checker.step(op)
    return checker


class Wide(Shown):
    """Room for thousands of objects; counts how often it is walked."""

    contract = Contract(arena=1 << 20)
    walks = wrong = 0

    def alloc(self, size, align=1, *, ctx=None):
        start, self.top = self.top, self.top + size
        self.sizes[start] = size
        return start

    def counters(self):
        self.walks += 1
        return {"live_objects": len(self.sizes) + self.wrong}


class Wider(Filled):
    """Filled, but for the arena's end."""

    def alloc(self, size, align=1, *, ctx=None):
        start, self.top = self.top, self.top + size
        self.sizes[start], self.data[start] = size, bytearray(size)
        return start


class TestPace:
    @pytest.mark.parametrize("live", [1, 10, 100, 1000])
    def test_a_walk_is_paid_for(self, live):
        """With n live blocks, m operations bring about m/n audits."""
        checker = stepped(Wide(), *map(alloc, range(live)))
        before = checker.moments["audit"]
        for _ in range(2000):
            checker.step(NOP)
        assert 2000 // live - 1 <= checker.moments["audit"] - before <= 2000 // live + 1

    def test_growth(self):
        """While a heap grows to n blocks, audits come at least as often as it doubles, and walk O(n) in all."""
        checker = stepped(Wide(), *map(alloc, range(1024)))
        assert 10 <= checker.moments["audit"] <= 12
        assert checker._touched <= 2 * 1024

    @pytest.mark.parametrize("density", [2, 8, 10_000])
    def test_density(self, density):
        """A density of d brings d times as many audits, at most one for an operation."""
        checker = stepped(Wide(), *map(alloc, range(100)), density=density)
        checker.audit()
        before = checker.moments["audit"]
        for _ in range(1000):
            checker.step(NOP)
        expected = 1000 // max(1, 100 // density)
        assert expected - 1 <= checker.moments["audit"] - before <= expected + 1

    def test_what_is_shown_counts(self):
        """Free regions are walked too, and are paid for like blocks."""

        class Split(Wide):
            contract = replace(Wide.contract, mergeable=lambda one, two: False)

            def free_regions(self):
                return [FreeRegion(0, at, 1) for at in range(500)]

        checker = stepped(Split(), *[NOP] * 1500, mute=["tiling"])
        assert checker.moments["audit"] == 3

    def test_every(self):
        """Asked for, an audit comes after every k-th operation."""
        checker = stepped(Wide(), *[NOP] * 100, audit_every=7)
        assert checker.moments["audit"] == 1 + 99 // 7

    def test_from(self):
        """No audit comes before the operation from which audits are asked."""
        checker = Checker(Wide(), audit_every=1, audit_from=50)
        seen = []
        for _ in range(60):
            checker.step(NOP)
            seen.append(checker.moments["audit"])
        assert seen[48:] == [0, 0, *range(1, 11)]

    def test_the_end(self):
        """The last audit compares contents whole, and comes even if none was due."""

        class Fades(promising(Wider, arena=1 << 12)):
            """Loses a byte in the middle of large objects, where samples do not look."""

            def read(self, handle, at, length):
                data = bytearray(self.data[handle])
                if len(data) > 256:
                    data[150] ^= 1
                return data[at : at + length]

        checker = stepped(Fades(), alloc(0, 400), Operation(Kind.READ, 0))
        with pytest.raises(Broken) as caught:
            checker.finish()
        assert caught.value.law == "contents"
        assert caught.value.expected == "byte 150 of a (400 bytes at 0+400) as written"
        assert run(Fades, [alloc(0, 400)], audit_every=1).index == 0  # whole at once where every operation is audited
        assert run(Fades, [alloc(0, 256)]) is None


class Later(Wide):
    """Counts one object too many from its ``since``-th request on."""

    contract = Contract()
    since = 0

    def alloc(self, size, align=1, *, ctx=None):
        Later.requests += 1
        self.wrong = int(Later.requests >= self.since)
        return super().alloc(size)

    def counters(self):
        Later.audits += 1
        return super().counters()

    def free_regions(self):
        return []


class TestPinpoint:
    def later(self, since):
        """Builds fresh targets that go wrong at the ``since``-th request."""

        def build():
            Later.requests = Later.audits = 0
            target = Later()
            target.since = since
            return target

        return build

    @pytest.mark.parametrize("since", [1, 2, 700, 1001, 1500, 2345, 3000])
    def test_the_first_operation(self, since):
        """However late an audit finds it, the first operation that broke the law is named."""
        build = self.later(since)
        found = run(build, list(map(alloc, range(3000))), audit_every=0)
        exact = pinpoint(build, found)
        assert found.index >= exact.index == since - 1
        assert (exact.law, len(exact.trace.operations)) == ("counters", since)

    def test_long_traces_are_not_audited_twice(self):
        """A long trace is audited from its last sound audit on, a short one from its start."""
        build = self.later(2345)
        found = run(build, list(map(alloc, range(3000))), audit_every=0)
        assert found.sound_until < 2344 <= found.index
        pinpoint(build, found)
        assert Later.audits == 2344 - found.sound_until
        build = self.later(900)
        found = run(build, list(map(alloc, range(1000))), audit_every=0)
        pinpoint(build, found)
        assert Later.audits == 900

    def test_what_does_not_recur(self):
        """A violation that does not show again is returned as it was found."""
        found = run(self.later(5), list(map(alloc, range(10))), audit_every=0)
        assert pinpoint(Wide, found) is found

    def test_muted(self):
        """A law that is muted is not the one that is named."""
        build = self.later(5)
        found = run(build, list(map(alloc, range(10))), audit_every=0)
        assert pinpoint(build, found, mute=["counters"]) is found

    def test_before_any_operation(self):
        """A target that is wrong from the start breaks the law before its first operation."""

        class Born(Wide):
            wrong = 1

        found = run(Born, [])
        assert (found.law, found.index, found.trace.operations, found.sound_until) == ("counters", -1, [], -1)


EVERYWHERE = {  # method -> operations in the course of which it is called
    "alloc": [alloc(0)],
    "free": [alloc(0), free(0)],
    "extents": [alloc(0)],
    "read": [alloc(0)],
    "write": [alloc(0)],
    "realloc": [alloc(0), Operation(Kind.REALLOC, 0, 4)],
    "map": [alloc(0), Operation(Kind.MAP, 0)],
    "unmap": [alloc(0), Operation(Kind.MAP, 0), Operation(Kind.UNMAP, 0)],
    "link": [alloc(0), alloc(1), Operation(Kind.LINK, 0, 1)],
    "maintain": [COMPACT],
    "free_regions": [NOP],
    "pages": [NOP],
    "destroy": [DESTROY],
}


class Everything(Filled):
    """Has every method that the checker calls."""

    contract = replace(Box.contract, maintenance=("compact",))

    def __init__(self):
        super().__init__()
        self.source = PageSource(4)
        self.mapped = set()

    def extents(self, handle):
        return ((0, handle, self.sizes[handle]),)

    def map(self, handle):
        self.mapped.add(handle)

    def unmap(self, handle):
        self.mapped.remove(handle)

    def link(self, handle, other):
        self.mapped.discard(-1)

    def maintain(self, kind):
        return Maintained()

    def free_regions(self):
        return [FreeRegion(0, 0, ARENA)] if not self.sizes else []

    def pages(self):
        return []

    def destroy(self):
        self.sizes.clear()


def failing(method, problem, base=Everything):
    """A class whose method fails with this problem."""

    def fail(self, *arguments, **named):
        raise problem

    return type(f"Fails{method}", (base,), {method: fail})


@pytest.mark.parametrize("method", EVERYWHERE)
class TestCollapse:
    def test_crash(self, method):
        """An exception in any method is a violation of `returns` that names it, at that operation."""
        found = run(failing(method, KeyError("lost")), EVERYWHERE[method], mute=["tiling"])
        assert (found.law, found.seen) == ("returns", "KeyError: 'lost'")
        assert found.index == len(EVERYWHERE[method]) - 1

    def test_hang(self, method):
        """A hang in any method is a violation of `returns`."""
        found = run(failing(method, Hang()), EVERYWHERE[method], mute=["tiling"])
        assert (found.law, found.seen) == ("returns", "a hang")

    def test_page_error(self, method):
        """Pages given back as they were not taken break `conservation`, in whatever call."""
        found = run(failing(method, PageError("page 1")), EVERYWHERE[method], mute=["tiling"])
        assert (found.law, found.seen) == ("conservation", "page 1")

    @pytest.mark.parametrize(
        ("problem", "law"), [(KeyError(), "returns"), (Hang(), "returns"), (PageError(), "conservation")], ids=repr
    )
    def test_muted(self, method, problem, law):
        """What is known already ends the run without a word."""
        target = failing(method, problem)
        assert run(target, [*EVERYWHERE[method], NOP, alloc(9)], mute=["tiling", law]) is None
        if (method, law) != ("pages", "conservation"):  # nobody else asks for the pages
            with pytest.raises(Unusable):
                stepped(target(), *EVERYWHERE[method], mute=["tiling", law], audit_every=1)


class TestAfterCollapse:
    def test_nothing_is_done_any_more(self):
        """After a breakdown no call reaches the target, and the last audit is left out."""
        checker = Checker(failing("free", KeyError())(), mute=["returns", "tiling"])
        checker.step(alloc(0))
        with pytest.raises(Unusable, match="KeyError"):
            checker.step(free(0))
        checker.step(alloc(1))
        checker.finish()
        assert checker.served == 1

    def test_at_the_end(self):
        """A crash in the last audit is a violation too, and muted it is silent."""

        class Breaks(Wide):
            def counters(self):
                if self.top > 8:
                    raise RuntimeError("free list does not end")
                return {}

        found = run(Breaks, [alloc(0), alloc(1)], audit_every=9)
        assert (found.law, found.index, found.seen) == ("returns", 1, "RuntimeError: free list does not end")
        assert run(Breaks, [alloc(0), alloc(1)], audit_every=9, mute=["returns"]) is None

    def test_page_error_without_accounts(self):
        """Where `conservation` cannot be asked, a page error is a call that did not return."""

        class Twice(Paged):
            def free(self, handle):
                self.source.give(self.homes[handle])

        found = run(Twice, [alloc(0), alloc(1), free(0), bad_free(1, "double"), DRAIN, DRAIN])
        assert found is None  # each page is given back once
        found = run(failing("free", PageError("page 1"), Paged), [alloc(0), free(0)])
        assert (found.law, found.seen) == ("returns", "PageError: page 1")

    def test_legal_free_refused(self):
        """InvalidFree out of a legal free is a call that failed, not a misuse that was noticed."""
        found = run(failing("free", InvalidFree("not mine"), Box), [alloc(0), free(0)])
        assert (found.law, found.index, found.seen) == ("returns", 1, "InvalidFree: not mine")

    def test_the_picture_of_a_hanging_heap(self):
        """After a hang the free regions are not read again: nothing would end that."""
        calls = []

        class Cyclic(Fit):
            def free_regions(self):
                calls.append(1)
                raise Hang

        found = run(Cyclic, [NOP])
        assert (found.seen, found.heap, len(calls)) == ("a hang", "", 1)

    def test_keyboard(self):
        """Whoever interrupts a run is not the target's fault."""
        with pytest.raises(KeyboardInterrupt):
            run(failing("alloc", KeyboardInterrupt(), Box), [alloc(0)])


class Strict(Shown):
    """Detects every misuse; reuses nothing."""

    contract = Contract(
        arena=ARENA, granule=4, detects=frozenset({"double", "foreign", "interior", "size"}), sized_free=True
    )
    careless = ""

    def __init__(self):
        super().__init__()
        self.starts = set()

    def alloc(self, size, align=1, *, ctx=None):
        start = super().alloc(-(-size // 4) * 4)
        self.starts.add(start)
        return start

    def free(self, handle, size):
        if handle not in self.sizes:
            wrong = "double" if handle in self.starts else "interior" if handle < self.top else "foreign"
            if wrong != self.careless:
                raise InvalidFree(handle)
        elif not size <= self.sizes[handle] < size + 4:
            if self.careless != "size":
                raise InvalidFree(handle)
        else:
            del self.sizes[handle]


class TestBadFree:
    @pytest.mark.parametrize("kind", ["double", "foreign", "interior", "size"])
    def test_kinds(self, kind):
        """Each misuse that is declared as detected is tried; an allocator that lets it pass is convicted."""
        operations = [alloc(0, 8), alloc(1, 8), bad_free(0, kind), free(1)]
        checker = stepped(Strict(), *operations)
        assert (checker.moments["bad-free"], checker.skipped) == (1, 0)
        assert len(checker.shadow) == (0 if kind == "double" else 1)
        careless = type("Careless", (Strict,), {"careless": kind})
        found = run(careless, operations)
        assert (found.law, found.index, found.expected) == ("bad-free-rejected", 2, f"InvalidFree for a {kind} free")

    @pytest.mark.parametrize("kind", ["double", "foreign", "interior", "size", "unheard-of"])
    def test_not_declared(self, kind):
        """A misuse that nobody promised to detect is never tried."""
        checker = stepped(Box(), alloc(0), bad_free(0, kind))
        assert (checker.skipped, checker.moments["bad-free"], len(checker.shadow)) == (1, 0, 1)

    def test_what_is_not_live(self):
        """A misuse of an object that is not live is skipped."""
        assert stepped(Strict(), bad_free(0, "double")).skipped == 1

    def test_interior_is_inside(self):
        """Where one granule on from an object stands the next one, there is no inside that could be freed."""
        target = promising(Box, detects=frozenset({"interior"}))
        operations = [alloc(0, 1), alloc(1, 1), bad_free(0, "interior"), free(1)]
        assert run(target, operations) is None
        assert stepped(target(), *operations).skipped == 1
        assert stepped(target(), alloc(0, 2), bad_free(0, "interior")).moments["bad-free"] == 1

    def test_opaque_handles(self):
        """A misused opaque handle is one that no live object has, numbers or not."""

        class Numbers(Paged):
            contract = replace(Paged.contract, detects=frozenset({"foreign", "interior"}))

            def free(self, handle):
                if handle not in self.homes:
                    raise InvalidFree(handle)
                super().free(handle)

        class Pairs(Numbers):
            def alloc(self, size, align=1, *, ctx=None):
                birth = super().alloc(size)
                self.homes[birth, "pair"] = self.homes.pop(birth)
                return birth, "pair"

        operations = [
            alloc(0),
            alloc(1),
            *(bad_free(*what) for what in ((0, "foreign"), (0, "interior"), (1, "interior"))),
        ]
        assert run(Pairs, operations) is None
        assert run(Numbers, operations) is None
        assert stepped(Pairs(), *operations).moments["bad-free"] == 1
        assert stepped(Numbers(), *operations).moments["bad-free"] == 2  # the handle after the first one is the second

    def test_accepted_and_known(self):
        """Once it is known that a bad free is accepted, the run ends there: what follows is the misuse's doing."""

        class Trusting(Fit):
            contract = replace(Fit.contract, detects=frozenset({"interior"}))

            def free(self, handle):
                for start in [*self.sizes]:
                    if start <= handle < start + self.sizes[start]:
                        del self.sizes[start]

        operations = [alloc(0), bad_free(0, "interior"), alloc(1)]
        assert run(Trusting, operations).law == "bad-free-rejected"
        assert run(Trusting, operations, mute=["bad-free-rejected"]) is None
        with pytest.raises(Unusable, match="an accepted interior free"):
            stepped(Trusting(), *operations, mute=["bad-free-rejected"])

    def test_no_reuse_is_owed(self):
        """What a double free gave back first is not asked for again at once."""

        class Slow(promising(Box, detects=frozenset({"double"}), free_then_alloc=True)):
            def alloc(self, size, align=1, *, ctx=None):
                return super().alloc(size) if not self.top else None

        assert run(Slow, [alloc(0), bad_free(0, "double"), alloc(1)]) is None
        assert run(Slow, [alloc(0), free(0), alloc(1)]).law == "free-then-alloc"


class TestBadAlloc:
    def test_skipped(self):
        """A request that the target does not promise to reject, or that is not so huge after all, is not made."""
        target = promising(Box, rejects=frozenset({"huge"}))
        checker = stepped(target(), Operation(Kind.BAD_ALLOC, mode="zero"), Operation(Kind.BAD_ALLOC, 0, 8, 1, "huge"))
        assert (checker.skipped, checker.moments["bad-alloc"]) == (2, 0)

    def test_kinds(self):
        """Zero, huge and oddly aligned requests are made as the target is called, and their refusal is accepted."""
        calls = []

        class Picky(Box):
            contract = Contract(arena=ARENA, rejects=frozenset({"zero", "huge", "align"}))

            def alloc(self, *arguments):
                calls.append(arguments)
                return Refusal.INVALID

        operations = [
            Operation(Kind.BAD_ALLOC, mode="zero"), Operation(Kind.BAD_ALLOC, 0, 1 << 32, 1, "huge"),
            Operation(Kind.BAD_ALLOC, 0, 8, 3, "align"),
        ]  # fmt: skip
        assert run(Picky, operations) is None
        assert calls == [(0,), (1 << 32,), (8, 3)]

    def test_served_and_known(self):
        """Once it is known that nonsense is served, what was served is given back and the run goes on."""

        class Generous(Fit):
            contract = replace(Fit.contract, rejects=frozenset({"huge"}))

            def alloc(self, size, align=1, *, ctx=None):
                return super().alloc(min(size, 8))

        huge = Operation(Kind.BAD_ALLOC, 0, 1 << 32, 1, "huge")
        assert run(Generous, [huge]).law == "bad-size-rejected"
        checker = stepped(Generous(), huge, alloc(0), mute=["bad-size-rejected"], audit_every=1)
        assert (len(checker.target.sizes), len(checker.shadow)) == (1, 1)


class TestMaintenance:
    def test_eviction(self):
        """What maintenance evicts is forgotten; its name may not be used any more."""

        class Evicts(Paged):
            contract = replace(
                Paged.contract, maintenance=("reclaim",), moving=frozenset(), evicting=frozenset({"reclaim"})
            )

            def maintain(self, kind):
                gone = sorted(self.homes)[:2]
                for handle in gone:
                    self.free(handle)
                return Maintained(2, 0, tuple(gone))

        reclaim = Operation(Kind.MAINTAIN, mode="reclaim")
        operations = [alloc(0), alloc(1), alloc(2), reclaim, free(0)]
        checker = stepped(Evicts(), *operations, audit_every=1)
        assert (list(checker.shadow.live), checker.skipped, len(checker.by_handle)) == ([2], 1, 1)
        assert run(Evicts, [*operations, DRAIN, DESTROY]) is None
        silent = promising(Evicts, evicting=frozenset())
        assert run(silent, operations).index == 3  # what nobody may evict is missed at once

    def test_unknown(self):
        """Maintenance of a kind that the contract does not name is not asked for."""
        checker = stepped(Paged(), Operation(Kind.MAINTAIN, mode="polish"))
        assert checker.skipped == 1
        assert stepped(Box(), COMPACT).skipped == 1

    def test_swapped_places(self):
        """Compaction that lets objects change places is followed, contents and all."""

        class Rotates(Everything):
            contract = replace(Everything.contract, handles="opaque", moving=frozenset({"compact"}))

            def __init__(self):
                super().__init__()
                self.homes = {}

            def alloc(self, size, align=1, *, ctx=None):
                start = super().alloc(size)
                self.homes[start + 1000] = start
                return start + 1000

            def free(self, handle):
                super().free(self.homes.pop(handle))

            def realloc(self, handle, size):
                return None

            def read(self, handle, at, length):
                return super().read(self.homes[handle], at, length)

            def write(self, handle, at, data):
                super().write(self.homes[handle], at, data)

            def extents(self, handle):
                return super().extents(self.homes[handle])

            def maintain(self, kind):
                handles = list(self.homes)
                starts = [self.homes[handle] for handle in handles]
                contents = [self.data[start] for start in starts]
                for index, handle in enumerate(handles):
                    self.homes[handle] = starts[index - 1]
                    self.data[starts[index - 1]] = contents[index]
                return Maintained(0, len(handles))

        three = [alloc(0), alloc(1), alloc(2)]
        muted = ["tiling", "refusal-pure"]
        checker = stepped(Rotates(), *three, COMPACT, mute=muted, audit_every=1)
        assert [checker.shadow.live[name].extents[0][1] for name in range(3)] == [16, 0, 8]
        assert checker.shadow.clash(0, 0, 8).name == 1
        assert run(Rotates, [*three, COMPACT, free(1), COMPACT, DRAIN], mute=muted) is None
        still = promising(Rotates, moving=frozenset())
        assert run(still, [*three, COMPACT], mute=muted).law == "handle-stable"

        class Stacks(Rotates):
            def maintain(self, kind):
                self.homes = dict.fromkeys(self.homes, 0)
                return Maintained()

        assert run(Stacks, [*three, COMPACT], mute=muted).law == "disjoint"

    def test_moving_in_the_dark(self):
        """A target that moves objects but does not show where they are is not accused of anything."""

        class Dark(Paged):
            extents = None

        assert run(Dark, [alloc(0), COMPACT, free(0), DRAIN, DESTROY]) is None


class Slivers(Shown):
    """What alignment leaves over before a block goes to the block before it, for good."""

    contract = Contract(arena=ARENA, max_align=64, slack_grows=True)

    def __init__(self):
        super().__init__()
        self.lengths = {}

    def alloc(self, size, align=1, *, ctx=None):
        top = max([start + n for start, n in self.lengths.items()], default=0)
        start = -(-top // align) * align
        if not size or start + size > ARENA:
            return None
        if self.lengths:
            self.lengths[max(self.lengths)] += start - top
        self.sizes[start] = self.lengths[start] = size
        return start

    def free(self, handle):
        super().free(handle)
        del self.lengths[handle]

    def realloc(self, handle, size):
        moved = self.alloc(size, 8)
        if moved is not None:
            self.free(handle)
        return moved

    def extents(self, handle):
        return ((0, handle, self.lengths[handle]),)


class TestSlack:
    def test_growth_is_followed(self):
        """A neighbour's slack may grow where the contract says so, and is known from then on."""
        checker = stepped(Slivers(), alloc(0, 4), alloc(1, 8, 16), audit_every=1)
        assert checker.shadow.live[0].extents == ((0, 0, 16),)
        assert checker.shadow.bytes == 24
        assert run(promising(Slivers, slack_grows=False), [alloc(0, 4), alloc(1, 8, 16)]).law == "handle-stable"

    def test_growth_by_resizing(self):
        """Resizing may let a neighbour's slack grow as well."""
        operations = [alloc(0, 4), alloc(1, 4), alloc(2, 4), Operation(Kind.REALLOC, 0, 16), free(2), DRAIN]
        assert run(Slivers, operations) is None
        checker = stepped(Slivers(), *operations[:4], audit_every=1)
        assert checker.shadow.live[2].extents == ((0, 8, 8),)
        checker = stepped(Slivers(), *operations[:4], audit_every=9)
        assert checker.block.name == 0  # the operation's own block, not the neighbour

    @pytest.mark.parametrize("lie", [((0, 0, 3),), ((0, 1, 16),), ((1, 0, 16),), ()], ids=str)
    def test_nothing_else(self, lie):
        """A neighbour that shrinks, moves or vanishes breaks `handle-stable` even there."""

        class Lying(Slivers):
            def extents(self, handle):
                return lie if handle == 0 and len(self.sizes) > 1 else super().extents(handle)

        found = run(Lying, [alloc(0, 4), alloc(1, 8, 16)])
        assert (found.law, found.index) == ("handle-stable", 1)

    def test_in_the_dark(self):
        """A target that does not show its slack may let it grow as it likes."""
        assert run(promising(Box, slack_grows=True), [alloc(0), alloc(1), free(0)]) is None


class TestContext:
    def test_contextual(self):
        """A contextual target is told the CPU, whether the request is atomic, and the group."""
        calls = []

        class Told(Box):
            contract = Contract(arena=ARENA, contextual=True, cpus=4, groups=3)

            def alloc(self, size, align=1, *, ctx=None):
                calls.append((size, align, ctx))
                return super().alloc(size)

        operations = [
            alloc(0),
            Operation(Kind.ON_CPU, mode=2),
            alloc(1, 8, 4, 7),
            Operation(Kind.ON_CPU, mode=5),
            alloc(2),
        ]
        checker = stepped(Told(), *operations)
        assert calls == [(8, 1, Context(0, False, 0)), (8, 4, Context(2, True, 3)), (8, 1, Context(1, False, 0))]
        block = checker.shadow.live[1]
        assert (block.cpu, block.atomic, block.group, block.align) == (2, True, 3, 4)

    def test_the_request(self):
        """A law sees the request with its circumstances."""
        seen = []

        def note(request, block):
            seen.append(request)

        target = promising(Box, contextual=True, cpus=4, groups=3, placement=note)
        stepped(target(), Operation(Kind.ON_CPU, mode=3), alloc(0, 8, 2, 5))
        assert seen == [(8, 2, True, 2, 3)]

    @pytest.mark.parametrize(("promises", "call"), [({}, (8,)), ({"max_align": 64}, (8, 16))])
    def test_plain(self, promises, call):
        """A target without context is called with the size, and with the alignment if it may ask for one."""
        calls = []

        class Plain(promising(Box, **promises)):
            def alloc(self, *arguments):
                calls.append(arguments)

        checker = stepped(Plain(), alloc(0, 8, 16))
        assert calls == [call]
        assert (checker.refusals, checker.answer) == (1, None)

    def test_sized_free(self):
        """Where the contract says so, free is told the size."""
        checker = stepped(Strict(), alloc(0, 7), free(0))
        assert checker.target.sizes == {}

    @pytest.mark.parametrize("refusal", [None, *Refusal])
    def test_refusals(self, refusal):
        """None and every Refusal are refusals; what is refused is not live."""

        class Refuses(Box):
            contract = Contract(arena=0)

            def alloc(self, size, align=1, *, ctx=None):
                return refusal

        checker = stepped(Refuses(), alloc(0), free(0))
        assert (checker.refusals, checker.served, checker.skipped, len(checker.shadow)) == (1, 0, 1, 0)

    def test_handle_zero(self):
        """0 is a handle like any other, opaque or not."""
        assert stepped(Box(), alloc(0), free(0)).skipped == 0

    def test_no_bytes(self):
        """An object of no bytes is live and is freed like any other."""

        class Empty(Filled):
            contract = Contract(arena=ARENA)

            def alloc(self, size, align=1, *, ctx=None):
                self.sizes[16], self.data[16] = 0, bytearray()
                return 16

        assert run(Empty, [alloc(0, 0), Operation(Kind.WRITE, 0), Operation(Kind.READ, 0), free(0)]) is None


class Rations(Paged):
    """Serves while pages last; must serve while the page source can give."""

    contract = replace(Paged.contract, must_serve=lambda request, shadow, source: source.can_give(1))
    spurious = False

    def alloc(self, size, align=1, *, ctx=None):
        return None if self.spurious else super().alloc(size)

    def maintain(self, kind):
        page = self.source.take()
        if page is not None:
            self.source.give(page)
        return Maintained()


FAIL = Operation(Kind.FAIL_PAGES, size=1, align=0)


class TestInjection:
    def test_an_injected_refusal_is_not_judged(self):
        """A request refused while a page failure was injected into it was owed nothing."""
        assert run(Rations, [alloc(0), FAIL, alloc(1), alloc(2)]) is None
        checker = stepped(Rations(), alloc(0), FAIL, alloc(1))
        assert (checker.refusals, checker.moments["refuse"]) == (1, 0)

    @pytest.mark.parametrize(
        "before",
        [[], [FAIL, alloc(1)], [FAIL, COMPACT], [FAIL, DRAIN]],
        ids=["nothing", "an injected refusal", "maintenance that met the failure", "a drain that disarmed it"],
    )
    def test_the_next_one_is(self, before):
        """A failure injected into an earlier call excuses nothing."""
        checker = stepped(Rations(), alloc(0), *before)
        checker.target.spurious = True
        with pytest.raises(Broken, match="no-spurious-refusal"):
            checker.step(alloc(2))

    def test_without_pages(self):
        """A target that takes no pages skips page failures."""
        assert stepped(Box(), FAIL).skipped == 1


class TestAffordable:
    def test_bounded(self):
        """The predicates that walk the heap walk no more than a few blocks for each operation so far."""
        walked = []

        def walks(request, shadow, source):
            walked.append(len(shadow))
            return False

        class Full(promising(Wide, must_serve=walks, must_refuse=walks)):
            def alloc(self, size, align=1, *, ctx=None):
                return super().alloc(size) if len(self.sizes) < 500 else None

        checker = Checker(Full())
        for name in range(3000):
            checker.step(alloc(name))
            assert sum(walked) <= 4 * (checker.index + 64)
        assert checker.counted["no-spurious-refusal"] + checker.counted["must-refuse"] == len(walked)
        assert checker.counted["no-spurious-refusal"] > 10  # it is asked now and then, all the same

    def test_small_heaps_are_always_asked(self):
        """On a heap of a few blocks every refusal is judged."""
        target = promising(Box, must_serve=lambda request, shadow, source: False)
        checker = stepped(target(), alloc(0), *[alloc(name, ARENA) for name in range(1, 60)])
        assert checker.counted["no-spurious-refusal"] == checker.refusals == 59


class TestDrain:
    def test_everything_is_freed(self):
        """A drain frees what is live, and what was freed by it is not asked for again at once."""
        checker = stepped(Fit(), alloc(0), alloc(1), DRAIN)
        assert (len(checker.shadow), checker.target.sizes, checker.moments["drained"]) == (0, {}, 1)

    def test_faults_are_disarmed(self):
        """Armed page failures end with a drain: what is promised then is owed."""
        checker = stepped(Paged(), FAIL, DRAIN, alloc(0))
        assert checker.served == 1

    def test_after_maintenance(self):
        """Where the contract says that pages come back with some maintenance, that is asked for first."""

        class Hoards(Paged):
            contract = replace(Paged.contract, drained_after="compact")

            def __init__(self):
                super().__init__()
                self.spare = []

            def free(self, handle):
                self.spare.append(self.homes.pop(handle))

            def maintain(self, kind):
                while self.spare:
                    self.source.give(self.spare.pop())
                return Maintained()

        assert run(Hoards, [alloc(0), DRAIN]) is None
        assert run(promising(Hoards, drained_after=None), [alloc(0), DRAIN]).law == "drain"

    def test_what_the_source_cannot_hold(self):
        """A promise of more than the page source has is not asked for."""

        class Large(Paged):
            contract = replace(Paged.contract, drained_size=64 * 17)

        assert run(Large, [DRAIN]) is None
        assert run(promising(Large, drained_size=64), [DRAIN]) is None
        assert run(promising(Large, drained_size=65), [DRAIN]).law == "drain"  # it would fit two pages


class TestDestroy:
    def test_it_is_the_end(self):
        """After a destroy nothing is called, and nothing is looked at: the heap is gone."""

        class Gone(Paged):
            gone = False

            def pages(self):
                if self.gone:
                    raise RuntimeError("destroyed")
                return [(page, 1) for page in self.homes.values()]

            def destroy(self):
                super().destroy()
                self.gone = True

        operations = [alloc(0), alloc(1), DESTROY, alloc(2), NOP]
        assert run(Gone, operations) is None
        checker = stepped(Gone(), *operations)
        assert (checker.ended, checker.served, checker.source.held) == (True, 2, 0)

    def test_pages_are_back(self):
        """A page still held after destroy breaks `conservation`."""

        class Keeps(Paged):
            contract = replace(Paged.contract, drained_pages=1)

            def __init__(self):
                super().__init__()
                self.kept = self.source.take()

            def pages(self):
                return [(self.kept, 1), *((page, 1) for page in self.homes.values())]

        found = run(Keeps, [alloc(0), DESTROY])
        assert (found.law, found.seen) == ("conservation", "1 still held")
        assert run(Keeps, [alloc(0), DESTROY], mute=["conservation"]) is None

    def test_without_destroy(self):
        """A target that cannot be destroyed is drained."""
        checker = stepped(Fit(), alloc(0), DESTROY, alloc(1))
        assert (checker.ended, checker.served, len(checker.shadow)) == (True, 1, 0)


class TestResize:
    def test_handles_follow(self):
        """A resized object has its new handle, size and place; its name and index stay."""
        checker = stepped(Filled(), alloc(0, 8), alloc(1, 8), Operation(Kind.REALLOC, 0, 12), audit_every=1)
        block = checker.shadow.live[0]
        assert (block.handle, block.size, block.extents, block.written) == (16, 12, ((0, 16, 12),), 12)
        assert (checker.shadow.names, checker.shadow.bytes, checker.shadow.requested) == ([0, 1], 20, 20)

    def test_shrinking(self):
        """Only what is left of a shrunk object is compared."""
        assert run(Filled, [alloc(0, 8), Operation(Kind.REALLOC, 0, 3), Operation(Kind.WRITE, 0), free(0)]) is None

    def test_skipped(self):
        """A resize of what is not live, to zero, or of a target that cannot, is skipped."""
        resize = Operation(Kind.REALLOC, 0, 8)
        assert stepped(Filled(), resize).skipped == 1
        assert stepped(Filled(), alloc(0), resize._replace(size=0)).skipped == 1
        assert stepped(Box(), alloc(0), resize).skipped == 1

    def test_refused(self):
        """A refused resize leaves the object as it was, and is counted."""
        checker = stepped(Filled(), alloc(0), Operation(Kind.REALLOC, 0, ARENA), Operation(Kind.READ, 0))
        assert (checker.refusals, checker.shadow.live[0].size, checker.answer) == (1, 8, None)

    def test_a_refused_resize_is_pure(self):
        """Free space that a refused resize loses breaks `refusal-pure`, as with any refused call."""

        class Loses(Box):
            contract = Contract()
            lost = 0

            def free_regions(self):
                return [FreeRegion(0, self.top, ARENA - self.top - self.lost)]

            def realloc(self, handle, size):
                self.lost += 8

        found = run(Loses, [alloc(0), Operation(Kind.REALLOC, 0, 9)])
        assert (found.law, found.index) == ("refusal-pure", 1)

    def test_alignment(self):
        """A resized object need not keep the alignment that was asked for, unless that is promised."""

        class Aligning(Filled):
            contract = replace(Filled.contract, max_align=64)

            def alloc(self, size, align=1, *, ctx=None):
                start = -(-self.top // align) * align
                if not size or start + size > ARENA:
                    return None
                self.top = start + size
                self.sizes[start], self.data[start] = size, bytearray(size)
                return start

        operations = [alloc(0, 4, 64), Operation(Kind.REALLOC, 0, 8)]
        assert run(Aligning, operations) is None
        assert run(promising(Aligning, realloc_aligns=True), operations).law == "aligned"

    def test_shared_handles(self):
        """Where handles are known to be shared, a resize is still followed."""

        class Shared(Paged):
            contract = replace(Paged.contract, drained_pages=None)
            extents = None

            def alloc(self, size, align=1, *, ctx=None):
                return 1

            def free(self, handle):
                pass

            def realloc(self, handle, size):
                return 2

        operations = [alloc(0), alloc(1), free(0), Operation(Kind.REALLOC, 1, 4)]
        assert run(Shared, operations).law == "handle-stable"
        assert run(Shared, operations, mute=["handle-stable"]) is None

    def test_opaque(self):
        """An opaque handle that a resize gives is that object's from then on."""

        class Renames(Paged):
            def realloc(self, handle, size):
                self.births += 1
                self.homes[self.births] = self.homes.pop(handle)
                return self.births

        checker = stepped(Renames(), alloc(0), alloc(1), Operation(Kind.REALLOC, 0, 4), audit_every=1)
        assert {handle: block.name for handle, block in checker.by_handle.items()} == {2: 1, 3: 0}


class TestContents:
    def test_write(self):
        """Each write changes the contents; what was written last is what is compared."""
        checker = stepped(Filled(), alloc(0, 32))
        first = bytes(checker.target.data[0])
        checker.step(Operation(Kind.WRITE, 0))
        assert bytes(checker.target.data[0]) != first
        assert bytes(checker.target.data[0]) == checker.shadow.live[0].pattern(0, 32)

    def test_objects_are_told_apart(self):
        """Of a hundred small objects hardly two have the same contents: swapping any others shows."""
        checker = stepped(promising(Wider, arena=1 << 12)(), *(alloc(name, 2) for name in range(100)), audit_every=500)
        assert len({bytes(data) for data in checker.target.data.values()}) >= 99

    def test_nothing_to_write(self):
        """A target without contents skips writes; reads still look at the place."""
        checker = stepped(Shown(), alloc(0), Operation(Kind.WRITE, 0), Operation(Kind.READ, 0), Operation(Kind.READ, 7))
        assert checker.skipped == 2

    def test_short_read(self):
        """Too few bytes are as wrong as other bytes."""

        class Short(Filled):
            def read(self, handle, at, length):
                return super().read(handle, at, length)[:-1]

        assert run(Short, [alloc(0)]).expected == "byte 0 of a (8 bytes at 0+8) as written"


class Mapped(Box):
    """Notes on which CPU objects are mapped, unmapped and freed."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def map(self, handle, *, ctx):
        self.calls.append(("map", handle, ctx.cpu))

    def unmap(self, handle, *, ctx):
        self.calls.append(("unmap", handle, ctx.cpu))

    def free(self, handle, *, ctx):
        self.calls.append(("free", handle, ctx.cpu))
        super().free(handle)


class TestMapping:
    def test_once(self):
        """What is mapped is not mapped again, what is not is not unmapped."""
        unmap, mapping = Operation(Kind.UNMAP, 0), Operation(Kind.MAP, 0)
        checker = stepped(Everything(), alloc(0), unmap, mapping, mapping, unmap, unmap, mapping, mute=["tiling"])
        assert (checker.skipped, checker.target.mapped) == (3, {0})
        assert stepped(Box(), alloc(0), mapping).skipped == 1

    def test_most_mappings(self):
        """A CPU maps no more objects at once than the contract says; each CPU counts for itself."""
        target = type("Few", (Mapped,), {"contract": replace(Mapped.contract, mappings=1, cpus=2)})
        over = [alloc(0), alloc(1), alloc(2), Operation(Kind.MAP, 0), Operation(Kind.MAP, 1)]
        checker = stepped(target(), *over, Operation(Kind.ON_CPU, mode=1), Operation(Kind.MAP, 1), mute=["tiling"])
        assert (checker.skipped, checker.target.calls) == (1, [("map", 0, 0), ("map", 8, 1)])

    @pytest.mark.parametrize("end", [Operation(Kind.UNMAP, 0), Operation(Kind.FREE, 0), DRAIN])
    def test_unmapped_where_it_was_mapped(self, end):
        """A mapping ends on the CPU where it was made, before its object is freed."""
        target = type("Few", (Mapped,), {"contract": replace(Mapped.contract, mappings=1, cpus=2)})
        checker = stepped(target(), alloc(0), Operation(Kind.MAP, 0), Operation(Kind.ON_CPU, mode=1), end)
        frees = [] if end.kind == Kind.UNMAP else [("free", 0, 1)]
        assert checker.target.calls == [("map", 0, 0), ("unmap", 0, 0), *frees]
        assert checker.cpu == 1

    def test_link(self):
        """Two live objects are linked; anything else is skipped."""
        calls = []

        class Links(Box):
            def link(self, handle, other):
                calls.append((handle, other))

        checker = stepped(Links(), alloc(0), alloc(1), Operation(Kind.LINK, 1, 0), Operation(Kind.LINK, 0, 9))
        assert (calls, checker.skipped) == ([(8, 0)], 1)
        assert stepped(Box(), alloc(0), Operation(Kind.LINK, 0, 0)).skipped == 1


class TestCan:
    def test_black_box(self):
        """A black box can be asked for and given back, nothing more."""
        checker = Checker(Box())
        can = {kind for kind in Kind if checker.can(kind)}
        assert can == {Kind.NOP, Kind.ALLOC, Kind.FREE, Kind.DRAIN}

    def test_everything(self):
        """A target that has and promises everything can be asked everything."""
        checker = Checker(promising(Everything, cpus=2, detects=frozenset({"double"}), rejects=frozenset({"zero"}))())
        assert all(checker.can(kind) for kind in Kind)

    def test_half(self):
        """Writing needs reading, and maintenance needs a kind that the contract knows."""

        class Half(Box):
            write = maintain = lambda *arguments: None

        checker = Checker(Half())
        assert not checker.can(Kind.WRITE)
        assert not checker.can(Kind.MAINTAIN)

    @pytest.mark.parametrize("target", [Box, Shown, Filled, Fit, Paged, Everything, Strict, Slivers])
    def test_agrees_with_what_is_done(self, target):
        """What cannot be asked is skipped, what can is not."""
        details = {
            Kind.LINK: {"size": 1}, Kind.REALLOC: {"size": 4}, Kind.MAINTAIN: {"mode": "compact"},
            Kind.BAD_FREE: {"mode": "double"}, Kind.BAD_ALLOC: {"mode": "zero"}, Kind.FAIL_PAGES: {"size": 1},
        }  # fmt: skip
        for kind in set(Kind) - {Kind.UNMAP, Kind.ON_CPU, Kind.READ, Kind.DESTROY}:
            checker = stepped(target(), alloc(0), alloc(1), mute=["tiling"])
            checker.step(Operation(kind, 2 if kind == Kind.ALLOC else 0, **{"size": 8} | details.get(kind, {})))
            assert checker.can(kind) == (checker.skipped == 0), kind


class TestEvidence:
    def test_counts(self):
        """Each law that applies is counted as often as it was asked with its condition met."""
        checker = stepped(Fit(), alloc(0), alloc(1), free(0), alloc(2, ARENA), DRAIN, audit_every=1)
        evidence = checker.evidence()
        assert evidence["returns"] == 5
        assert evidence["disjoint"] == checker.served == 2
        assert evidence["tiling"] == checker.moments["audit"] == 5
        assert evidence["drain"] == 1
        assert evidence["limits-honest"] == 1
        assert evidence["handle-stable"] == checker._touched + checker.served
        assert set(evidence) <= {law.id for law in checker.laws}

    def test_a_condition_that_never_held(self):
        """A conditional law whose condition never held has no evidence."""
        evidence = stepped(Fit(), alloc(0, ARENA + 1)).evidence()
        assert "free-then-alloc" not in evidence
        assert "limits-honest" not in evidence

    def test_muted(self):
        """A muted law is not asked."""
        evidence = stepped(Fit(), alloc(0), mute=["returns", "disjoint"]).evidence()
        assert "returns" not in evidence
        assert "disjoint" not in evidence
        assert evidence["in-bounds"] == 1

    def test_all_muted(self):
        """With every law muted, operations are done and nothing is asked."""
        checker = stepped(Box(), alloc(0), free(0), mute=LAWS)
        assert (checker.laws, checker.served) == ([], 1)


class TestViolation:
    def test_picture(self):
        """A violation shows what lives and what is free, by address."""

        class Lies(Fit):
            def counters(self):
                return {"live_objects": 7 * len(self.sizes)}

        found = run(Lies, [alloc(0, 8), NOP])
        assert found.heap == "live a (8 bytes at 0+8)\nfree 8+248 list None"
        assert (found.expected, found.seen) == ("live_objects = 1", "7")
        assert found.trace.header == {"law": "counters"}
        assert found.trace.operations == [alloc(0, 8)]

    def test_picture_of_a_broken_heap(self):
        """Free regions that cannot be read are said to be so."""
        found = run(failing("free_regions", RuntimeError("free list does not end"), Fit), [NOP], audit_every=1)
        assert found.heap == "free regions cannot be read: free list does not end"

    def test_long_pictures_are_cut(self):
        """Of each kind, a picture has at most twenty-four lines."""
        checker = stepped(Wide(), *map(alloc, range(100)))
        assert len(checker.heap().splitlines()) == 24

    def test_black_box(self):
        """A black box's picture shows what was asked and answered."""
        assert stepped(Box(), alloc(0)).heap() == "live a (8 bytes at 0+8)"

    def test_other_spaces(self):
        """A place in another space than the first says in which."""

        class Spread(Shown):
            def extents(self, handle):
                return ((0, handle, 4), (2, handle, 4))

        checker = stepped(Spread(), alloc(0))
        assert checker.show(checker.block) == "a (8 bytes at 0+4 2:0+4)"


class TestPlaces:
    """Laws of placement on objects of several pieces, and on pages."""

    def pieces(self, *extents):
        class Pieces(Shown):
            contract = Contract(arena=ARENA)

            def extents(self, handle):
                return extents

        return Pieces

    def test_apart(self):
        """Pieces of one object that touch, or lie in different spaces, are apart."""
        for extents in (((0, 8, 8), (0, 0, 8)), ((0, 0, 8), (1, 0, 8)), ((0, 4, 0), (0, 0, 8))):
            assert run(self.pieces(*extents), [alloc(0, 8)], mute=["aligned"]) is None

    def test_overlapping_pieces(self):
        """Pieces of one object that share a byte break `disjoint`."""
        found = run(self.pieces((0, 4, 8), (0, 0, 5)), [alloc(0, 8)])
        assert (found.law, found.expected) == ("disjoint", "the pieces of one object apart")

        found = run(self.pieces((0, 0, 8), (0, 4, 0), (0, 6, 4)), [alloc(0, 8)])
        assert found.law == "disjoint"  # whatever empty piece stands between

    @pytest.mark.parametrize(
        ("extents", "law"),
        [
            (((0, 0, 64),), None),
            (((0, 32, 64),), None),
            (((0, 64, 0),), "big-enough"),
            (((0, 64, 65),), "in-bounds"),
            (((0, 128, 8),), "in-bounds"),
            (((0, -8, 8),), "in-bounds"),
            (((1, 0, 8),), "in-bounds"),
        ],
    )
    def test_on_pages(self, extents, law):
        """On pages, a block lies in space 0 on pages that the target holds."""

        class Placed(Paged):
            contract = replace(Paged.contract, page_order=1)

            def alloc(self, size, align=1, *, ctx=None):
                self.first = self.source.take(1)
                return 1

            def free(self, handle):
                self.source.give(self.first, 1)

            def extents(self, handle):
                return extents

        found = run(Placed, [alloc(0, 8)])
        assert (found and found.law) == law
        assert found is None or law != "in-bounds" or found.expected == "a place inside the pages held"

    @pytest.mark.parametrize("at", [-4, ARENA, 1 << 60])
    def test_in_the_arena(self, at):
        """In an arena, a block lies between 0 and its size."""

        class Elsewhere(Box):
            def alloc(self, size, align=1, *, ctx=None):
                return at

        assert run(Elsewhere, [alloc(0, 8)]).expected == "a place inside [0, 256)"

    def test_large_zeroed(self):
        """Of a large block that should be zero, both ends are looked at."""

        class Zeroed(Box):
            contract = Contract(arena=1 << 12, zeroed=True)
            dirty = None

            def alloc(self, size, align=1, *, ctx=None):
                return 0

            def read(self, handle, at, length):
                return bytes(int(byte == self.dirty) for byte in range(at, at + length))

        assert run(Zeroed, [alloc(0, 1000)]) is None
        for dirty in (0, 255, 744, 999):
            Zeroed.dirty = dirty
            assert run(Zeroed, [alloc(0, 1000)]).law == "zeroed"


class Headed(Shown):
    """A prologue of 8 bytes, a header of 4 between blocks, an epilogue of 16; one free block behind all."""

    contract = Contract(arena=ARENA, prologue=8, header=4, epilogue=16)
    lost = 0

    def __init__(self):
        super().__init__()
        self.top = 8

    def alloc(self, size, align=1, *, ctx=None):
        start = super().alloc(size)
        self.top += 4
        return start

    def free(self, handle):
        pass

    def free_regions(self):
        return [FreeRegion(0, self.top + self.lost, ARENA - 16 - self.top - self.lost)]


class Slab(Paged):
    """An object a page, with eight bytes of overhead before it; nothing is free but whole pages."""

    contract = replace(
        Paged.contract, overhead=lambda shadow, source: 8 * source.held, pending=lambda shadow: 0, max_size=56,
    )  # fmt: skip

    def extents(self, handle):
        return ((0, self.homes[handle] * 64 + 8, 56),)

    def free_regions(self):
        return []

    def alloc(self, size, align=1, *, ctx=None):
        return super().alloc(size) if size <= 56 else None


class Shows(Fit):
    """Fit, with a bitmap, list bits, hints, costs and metadata, all of them true."""

    contract = replace(
        Fit.contract, hint_slack={"most": 8}, hint_relations=lambda values: None, cost_bounds={"probes": lambda *_: 1},
        metadata_bound=lambda shadow, source: 8 * len(shadow), waste=lambda size, align: 0,
        reserve=lambda request, shadow: 8, geometry=lambda block: None, placement=lambda request, block: None,
        must_refuse=lambda request, shadow, source: False, list_of=lambda region: 1,
    )  # fmt: skip

    def free_regions(self):
        return [region._replace(list_id=1) for region in super().free_regions()]

    def lists(self):
        return [Listed(1, region[:2]) for region in self.free_regions()]

    def bitmap(self):
        bits = sum(1 << at for start, size in self.sizes.items() for at in range(start, start + size))
        return [AllocationBits(0, 0, 1, ARENA, bits), AllocationBits(0, 0, 1, 0, 0)]

    def list_bits(self):
        return [ListBit("some", (1, 2), bool(self.lists())), ListBit("none", (2,), False)]

    def hints(self):
        arena, free = Extent(0, 0, ARENA), [region.length for region in self.free_regions()]
        first = self.free_regions()[0] if free else None
        yield Hint("all", sum(free), arena, Direction.EXACT, Quantity.FREE)
        yield Hint("most", max(free, default=0) + 8, arena, Direction.UPPER, Quantity.LONGEST_FREE)
        if first is not None:
            yield Hint("first", 0, arena, Direction.LOWER, Quantity.FIRST_FREE, Extent(*first[:3]))

    def cost(self):
        return {"found": max(self.sizes.values(), default=ARENA), "probes": 1}

    def metadata(self):
        return 0, 8 * len(self.sizes)


class TestPromisesKept:
    """An allocator that keeps a promise is asked for it, and passes."""

    OPERATIONS = (
        alloc(0, 8), alloc(1, 20), alloc(2, 8), free(1), alloc(3, 20), alloc(4, ARENA), alloc(5, ARENA), free(3),
        alloc(6, ARENA - 16 - 20), DRAIN,
    )  # fmt: skip

    @pytest.mark.parametrize(
        "law",
        [
            "bitmap", "hint-sound", "hint-region", "hint-exact", "hint-slack", "hint-order", "search-fit",
            "metadata-bound", "search-bounded", "waste-bound", "geometry", "placement", "must-refuse", "free-list",
            "size-class", "tiling", "free-then-alloc", "refusal-pure", "drain",
        ],
    )  # fmt: skip
    def test_asked_and_passed(self, law):
        """The law was asked, and found nothing."""
        checker = stepped(Shows(), *self.OPERATIONS, audit_every=1)
        checker.finish()
        assert checker.evidence()[law] > 0

    def test_a_bitmap_alone(self):
        """A true bitmap is accepted of a target that shows no list bits."""
        target = type("Mapped", (Fit,), {"bitmap": Shows.bitmap})
        assert stepped(target(), *self.OPERATIONS, audit_every=1).evidence()["bitmap"] == len(self.OPERATIONS)

    def test_beyond_the_reserve(self):
        """A refusal of more than was promised in advance breaks no promise, and only the rest count."""
        asked = stepped(Shows(), *self.OPERATIONS)
        within = sum(op.kind == Kind.ALLOC and 0 < op.size <= 8 for op in self.OPERATIONS)
        assert asked.counted["reserve"] == within > 0

    def test_reserve_is_asked_where_pages_are_refused(self):
        """With a page source the reserve counts when it refuses; an injected failure excuses nobody."""

        class Spare(promising(Paged, reserve=lambda request, shadow: 64 if not shadow.live else 0)):
            def __init__(self):
                super().__init__()
                self.spare = [self.source.take()]

            def alloc(self, size, align=1, *, ctx=None):
                self.births += 1
                page = self.source.take()
                if page is None and self.spare:
                    page = self.spare.pop()
                if page is None:
                    return None
                self.homes[self.births] = page
                return self.births

        fail = Operation(Kind.FAIL_PAGES, 0, 2, 0)
        assert stepped(Spare(), alloc(0), alloc(1)).counted["reserve"] == 0
        assert stepped(Spare(), fail, alloc(0), alloc(1)).counted["reserve"] == 1
        assert run(promising(Paged, reserve=lambda *_: 64), [fail, alloc(0)]).law == "reserve"

    def test_headers(self):
        """Blocks with exactly the declared bytes before, between and behind them tile the arena."""
        assert run(Headed, [alloc(0, 8), alloc(1, 12)]) is None

    @pytest.mark.parametrize(("promise", "seen"), [("prologue", "8 (0:0..8)"), ("header", "4 (0:16..20)")])
    def test_other_headers(self, promise, seen):
        """Where another gap was declared, `tiling` says what stands there."""
        found = run(promising(Headed, **{promise: 5}), [alloc(0, 8)])
        assert (found.law, found.seen) == ("tiling", seen)

    def test_a_lost_middle(self):
        """Bytes lost between two blocks break `tiling`."""
        found = run(type("Lossy", (Headed,), {"lost": 4}), [alloc(0, 8)])
        assert (found.law, found.expected) == ("tiling", "4 bytes before a free block")

    def test_overhead_on_pages(self):
        """On pages, what is lent, free and overhead adds up to the pages held."""
        assert run(Slab, [alloc(0), alloc(1), free(0)]) is None
        found = run(promising(Slab, overhead=lambda shadow, source: 0), [alloc(0)])
        assert (found.law, found.seen) == ("conservation", "56, 0 of them free")

    def test_isolated_groups(self):
        """Groups on pages of their own are isolated."""
        target = promising(Paged, isolated_groups=True, contextual=True, groups=2)
        assert run(target, [alloc(0, 8, 1, 2), alloc(1, 8, 1, 4), alloc(2, 8, 1, 2)]) is None

    def test_no_bytes_share_no_page(self):
        """An object of no bytes is on no page, wherever it stands."""

        class Spotted(promising(Shown, isolated_groups=True, contextual=True, groups=2)):
            def alloc(self, size, align=1, *, ctx=None):
                start = 5 if not size else super().alloc(size)
                self.sizes[start] = size
                return start

        assert run(Spotted, [alloc(0, 8, 1, 2), alloc(1, 0, 1, 4)]) is None


class Moody(Box):
    """Answers as every fresh one does, but for the ``odd``-th built, which leaves a gap before its second object."""

    odd, built = 0, 0

    def __init__(self):
        super().__init__()
        Moody.built += 1
        self.gap = 4 * (Moody.built == self.odd)

    def alloc(self, size, align=1, *, ctx=None):
        self.top += self.gap if self.top else 0
        return super().alloc(size)


class TestTwins:
    OPERATIONS = (alloc(0), alloc(1), free(0), alloc(2))

    @pytest.mark.parametrize("odd", [2, 3, 4])
    def test_other_answers(self, odd, monkeypatch):
        """Of several targets that are asked the same, one that answers otherwise breaks `deterministic`."""
        monkeypatch.setattr(Moody, "odd", odd)
        monkeypatch.setattr(Moody, "built", 0)
        found = run(Moody, self.OPERATIONS, twins=3)
        assert found.law == "deterministic"
        assert {found.expected, found.seen} <= {
            "answer 8 at operation 2 again",
            "answer 12 at operation 2 again",
            "8",
            "12",
        }

    def test_same_answers(self):
        """Targets that answer alike pass, and each comparison is counted."""
        checker = stepped(Box(), *self.OPERATIONS)
        compare_twins(checker, Box, self.OPERATIONS, 3)
        assert checker.evidence()["deterministic"] == 2

    def test_not_asked(self):
        """A target that does not promise it, or a law that is muted, is not compared."""
        built = []

        class Free(promising(Box, deterministic=False)):
            def __init__(self):
                super().__init__()
                built.append(self)

        assert run(Free, self.OPERATIONS, twins=2) is None
        assert len(built) == 1
        assert run(Box, self.OPERATIONS, twins=2, mute=["deterministic"]) is None

    def test_answers(self):
        """The answers are what each operation was answered; a breakdown ends them."""
        assert answers(Box(), [alloc(0), alloc(1), free(0), alloc(2, ARENA)]) == [0, 8, None, None]
        assert answers(failing("free", KeyError(), Box)(), [alloc(0), free(0), alloc(1)]) == [0]


class TestSelection:
    def test_each_its_own(self):
        """However many contracts come and go, each target is asked its own laws."""
        for size in range(600):
            target = promising(Box, arena=size % 3 * 8)()
            checker = Checker(target, mute=["returns"] if size % 2 else [])
            assert ("in-bounds" in {law.id for law in checker.laws}) == (size % 3 > 0)
            assert ("returns" in {law.id for law in checker.laws}) == (size % 2 == 0)

    def test_by_what_is_shown(self):
        """Two targets of one contract are asked by what each shows."""
        shared = Contract(arena=ARENA)
        ids = [{law.id for law in Checker(promising(base, arena=ARENA)()).laws} for base in (Box, Shown)]
        assert ids[1] - ids[0] == {"big-enough", "handle-stable"}
        assert Box.contract == Shown.contract == shared


class TestLikeForLike:
    """A law that compares two requests, or speaks of all sizes, is asked only where the requests are alike."""

    def test_limits_are_those_of_plain_requests(self):
        """A fresh heap may refuse an atomic request or one of a group, whatever its limits say."""

        class Picky(promising(Box, contextual=True, groups=1)):
            def alloc(self, size, align=1, *, ctx):
                return None if ctx.atomic or ctx.group else super().alloc(size)

        assert run(Picky, [alloc(0, 8, 1, 1)]) is None
        assert run(Picky, [alloc(0, 8, 1, 2)]) is None
        assert run(promising(Picky, groups=2), [alloc(0, 300)]) is None

    @pytest.mark.parametrize("mode", [1, 2])
    def test_freed_by_another(self, mode):
        """What a plain request gave back need not serve an atomic one or one of a group."""

        class Picky(promising(Fit, contextual=True, groups=1)):
            def alloc(self, size, align=1, *, ctx):
                return None if ctx.atomic or ctx.group else super().alloc(size)

        assert run(Picky, [alloc(0), free(0), alloc(1, 8, 1, mode)]) is None
        checker = stepped(Picky(), alloc(0), free(0), alloc(1), free(1), alloc(2, 8, 1, mode))
        assert checker.counted["free-then-alloc"] == 1
