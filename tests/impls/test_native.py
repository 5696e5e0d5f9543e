"""Native targets: the binding, what a library shows, what is wrong with one, how sources become one."""

import gc
import importlib.util
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from zlib import crc32

import pytest

from heaplaw import (
    AllocationBits,
    Checker,
    Context,
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
    Quantity,
    Refusal,
    Shadow,
    run,
)
from heaplaw.impls.naming import TargetError, is_native, parse
from heaplaw.impls.native import HEADER, batches, compiling, library, promising
from heaplaw.impls.native.compiling import compile_library
from heaplaw.impls.native.watching import UnconfirmedError, Watched
from heaplaw.impls.registry import factory, variants
from heaplaw.properties.plain import check

SOURCES = Path(__file__).parent.parent / "data/native"
EXAMPLES = HEADER.parent / "examples"
FIRST_FIT = [EXAMPLES / "first_fit.c", EXAMPLES / "first_fit_adapter.c"]
SHOWN = [*FIRST_FIT, EXAMPLES / "first_fit_shown.c"]
SHOWS = "-DSHOWN=(HEAPLAW_PROMISES | HEAPLAW_OBSERVES)"
BUDDY = [EXAMPLES / "buddy.cpp", EXAMPLES / "buddy_adapter.cpp"]
STRICT = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"]

needs_compiler = pytest.mark.skipif(shutil.which("gcc") is None, reason="not run: there is no gcc to compile C with")
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("cffi") is None, reason="not run: cffi, of the extra native, is not installed"
)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Compiles each set of sources and flags once; the library's name, the same in every run, as seeds depend on it."""
    known, home = {}, os.getcwd()
    os.chdir(tmp_path_factory.mktemp("native"))

    def build(sources, *flags, **how):
        sources = [SOURCES / source if isinstance(source, str) else source for source in sources]
        key = " ".join([*(source.name for source in sources), *flags, *map(str, how.items())])
        if key not in known:
            folder = Path(f"{crc32(key.encode()):08x}")
            folder.mkdir()
            library = compile_library(sources, folder, [*STRICT, "-O0", *flags], **how)
            known[key] = f"./{folder}/{library.name}"
        return known[key]

    yield build
    os.chdir(home)


def broken(name, operations=4000):
    """Laws that a run of the plain engine refutes."""
    return {finding.violation.law for finding in check(name, operations, 1).findings}


def asked(name, operations=3000):
    """How often laws were asked, by a run that must refute none."""
    tally = check(name, operations, 1)
    assert tally.findings == []
    return tally.evidence


def misused(name, size):
    """How many of three bad frees there were occasions for, and were noticed."""
    checker = Checker(factory(name)())
    checker.step(Operation(Kind.ALLOC, 0, size))
    for how in ("foreign", "interior", "double"):
        checker.step(Operation(Kind.BAD_FREE, 0, mode=how))
    return checker.evidence()["bad-free-rejected"]


def run_quietly(command, **how):
    """A process and what it said."""
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, **how)


@needs_compiler
class TestExamples:
    def test_first_fit_shows_everything(self, built):
        """The example that shows its structures passes, laws about structures, hints and refusals among them."""
        seen = asked(built(SHOWN, SHOWS))
        for law in ("contents", "tiling", "coalesced", "conservation", "counters", "free-list", "size-class"):
            assert seen[law] > 100, law
        for law in ("hint-sound", "no-spurious-refusal", "free-then-alloc", "search-fit", "realloc-prefix", "drain"):
            assert seen[law] > 20, law

    @pytest.mark.parametrize("arena", [64, 96, 512, 1 << 20])
    def test_first_fit_in_other_sizes(self, built, arena):
        """The example passes in arenas of other sizes."""
        asked(built(SHOWN, SHOWS) + f",arena={arena}", 1500)

    def test_first_fit_without_what_it_shows(self, built):
        """The adapter alone is a target, with fewer laws."""
        name = built(FIRST_FIT)
        target = factory(name)()
        assert target.counters is None
        assert target.free_regions is None
        assert target.read is not None
        assert broken(name) <= {"limits-honest"}  # nothing promised: the whole arena counts as the largest size

    def test_buddy_is_places_only(self, built):
        """A heap whose memory the CPU cannot read is a target like any other, but for contents."""
        name = built(BUDDY)
        seen = asked(name)
        assert seen["tiling"] > 100
        assert seen["conservation"] > 100
        assert misused(name, 100) == 3
        assert "contents" not in seen
        assert factory(name)().read is None

    @pytest.mark.parametrize(("sources", "flag"), [(SHOWN, SHOWS), (BUDDY, "-DNONE")])
    def test_under_sanitizers(self, built, sources, flag):
        """The examples' own code is clean under AddressSanitizer and UBSan."""
        name = built(sources, flag, sanitized=True)
        with pytest.raises(TargetError, match=r"was built with AddressSanitizer: a process must be started with"):
            factory(name)
        asan = run_quietly(["gcc", "-print-file-name=libasan.so"])
        if not Path(asan.stdout.strip()).is_absolute():
            pytest.skip("not run: gcc has no runtime of AddressSanitizer")
        environment = {**os.environ, "LD_PRELOAD": asan.stdout.strip(), "ASAN_OPTIONS": "detect_leaks=0"}
        script = f"from heaplaw.properties.plain import check; print(check({name!r}, 1500, 1).findings)"
        done = run_quietly([sys.executable, "-c", script], env=environment)
        assert (done.stdout, done.stderr) == ("[]\n", "")

    def test_makefile(self, tmp_path):
        """The Makefile makes both libraries, without a warning."""
        if shutil.which("make") is None:
            pytest.skip("not run: there is no make")
        for path in EXAMPLES.iterdir():
            if path.suffix != ".so":
                shutil.copy(path, tmp_path)
        done = run_quietly(["make", f"HEAPLAW={HEADER.parent}"], cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        for name in ("libfirst_fit.so", "libbuddy.so"):
            assert factory(str(tmp_path / name))().alloc(100) is not None

    @pytest.mark.parametrize("path", [FIRST_FIT[1], BUDDY[1]], ids=lambda path: path.name)
    def test_adapters_are_short(self, path):
        """An adapter is under 40 lines that are neither empty nor a comment."""
        lines = [line.strip() for line in path.read_text().splitlines()]
        assert len([line for line in lines if line and not line.startswith(("/", "*"))]) < 40


@needs_compiler
@pytest.mark.parametrize("standard", ["c99", "c11", "c++11", "c++20"])
def test_header(standard, tmp_path):
    """The header is C99 and C++, without a warning, and exports its functions even where all is hidden."""
    body = "static uint64_t f(void) { return HEAPLAW_TOP; }\nuint32_t heaplaw_abi(void) { return f() == 0; }\n"
    suffix = "cpp" if "++" in standard else "c"
    (tmp_path / f"x.{suffix}").write_text('#include "heaplaw.h"\n' + body)
    command = ["g++" if "++" in standard else "gcc", f"-std={standard}", *STRICT, "-Wconversion", f"-I{HEADER.parent}"]
    files = ["-fvisibility=hidden", "-fPIC", "-shared", "-o", "x.so", f"x.{suffix}"]
    assert run_quietly([*command, *files], cwd=tmp_path).stderr == ""
    with pytest.raises(TargetError, match="version 0 of"):
        library.load(str(tmp_path / "x.so"))


def test_numbers_of_the_header():
    """What Python knows by heart is what the header says: kinds of operations, refusals, directions, quantities."""
    opened = library.interface().dlopen(None)
    for kind in batches.KINDS:
        assert getattr(opened, f"HEAPLAW_OP_{kind.name}") == kind
    assert library.constants()["HEAPLAW_TOP"] < library.constants()["HEAPLAW_NOT_DONE"]
    assert library.interface().sizeof("heaplaw_op") == batches.SIZE
    bits = [library.constants()[f"HEAPLAW_{name}"] for name in library.FUNCTIONS]
    assert sum(bits) == (1 << len(bits)) - 1


# ---- what is wrong with a library ----------------------------------------------------------------


class TestUnusableLibraries:
    def lines(self, name):
        with pytest.raises(TargetError) as caught:
            factory(name)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    def test_no_file(self):
        """A library that is not there."""
        assert self.lines("./libnone.so") == "no such file: ./libnone.so"

    def test_no_library(self, tmp_path):
        """A file that is no library."""
        (tmp_path / "x.so").write_text("hello")
        assert "x.so cannot be loaded: file too short" in self.lines(str(tmp_path / "x.so"))

    def test_no_cffi(self, tmp_path, monkeypatch):
        """The package that is missing is named, with the extra that brings it."""
        (tmp_path / "x.so").write_text("hello")
        monkeypatch.setitem(sys.modules, "cffi", None)
        library.interface.cache_clear()
        assert self.lines(str(tmp_path / "x.so")) == "a native target needs cffi: pip install 'heaplaw[native]'"

    @needs_compiler
    def test_a_stranger(self, tmp_path):
        """A library of something else."""
        (tmp_path / "x.c").write_text("int f(void) { return 1; }\n")
        line = self.lines(str(compile_library([tmp_path / "x.c"], tmp_path)))
        assert "x.so is no target, it has no heaplaw_abi, heaplaw_capabilities, heaplaw_create," in line

    @needs_compiler
    @pytest.mark.parametrize(
        ("flag", "says"),
        [
            ("-DWRONG_ABI", "slots.so speaks version 7 of heaplaw's ABI, not 1: build it with"),
            ("-DWRONG_SYMBOLS", "slots.so is no target, it has no heaplaw_create, heaplaw_destroy: see"),
            ("-DWRONG_CREATE", "heaplaw_create(65536) made no heap"),
            ("-DEXTRA=HEAPLAW_MAPS", "says that it has HEAPLAW_MAPS, but has no heaplaw_map"),
            ("-DEXTRA=(UINT64_C(1)<<40)", "says that it has capabilities 0x10000000000, which this heaplaw does not"),
            ("-DWRONG_COLUMN", "records of HEAPLAW_REGIONS have no column 'length'"),
            ("-DWRONG_NAMES", "'nme: live_objects' in the schema of kind 7 names the values of no column"),
            ("-DORIGIN=8", "HEAPLAW_ORIGIN is 8, but byte 0 lies 0 past a multiple of 64"),
        ],
    )
    def test_broken_promises(self, built, flag, says):
        """What a library says of itself and is not so."""
        assert says in self.lines(built(["slots.c"], flag))

    @needs_compiler
    @pytest.mark.parametrize(
        ("setting", "says"),
        [
            ("arena=0", "arena must be a number of bytes, not 0"),
            ("arena=many", "arena must be a number of bytes, not 'many'"),
            ("pages=3", "no parameter 'pages'; it has arena"),
        ],
    )
    def test_parameters(self, built, setting, says):
        """Parameters that make no sense."""
        assert says in self.lines(f"{built(['slots.c'])},{setting}")


# ---- laws that a library breaks ---------------------------------------------------------------------


@needs_compiler
class TestWrongHeaps:
    def test_a_correct_one(self, built):
        """The heap that the wrong ones are made from breaks no law."""
        seen = asked(built(["slots.c"], counted=True))
        for law in ("contents", "bitmap", "counters", "search-bounded", "no-spurious-refusal"):
            assert seen[law] > 0, law
        assert misused(built(["slots.c"]), 8) == 2

    @pytest.mark.parametrize(
        ("flag", "law"),
        [("-DWRONG_CONTENTS", "contents"), ("-DWRONG_LENGTH", "big-enough"), ("-DWRONG_FREE", "bad-free-rejected")],
    )
    def test_faults(self, built, flag, law):
        """Engines find faults as in any target; more of them stand among the watched batches."""
        assert law in broken(built(["slots.c"], flag))

    def test_edges(self, built):
        """A search that takes more edges than promised breaks its bound, where edges are counted."""
        assert "search-bounded" in broken(built(["slots.c"], "-DWRONG_EDGES", counted=True))
        assert broken(built(["slots.c"], "-DWRONG_EDGES")) == set()

    def test_the_check_says_what(self, built):
        """A check of the library's own that fails is told with its number, at the call that it came after."""
        build = factory(built(["slots.c"], "-DWRONG_CHECK"))
        found = run(build, [Operation(Kind.ALLOC, name, 8) for name in range(9)])
        assert (found.law, found.index) == ("returns", 2)
        assert found.seen == "SelfCheckError: heaplaw_check answered 42"


# ---- where the memory lies ---------------------------------------------------------------------------


@needs_compiler
class TestMisalignedMemory:
    def test_misaligned_pointers_are_seen(self, built):
        """Aligned offsets from a misaligned base are misaligned pointers."""
        assert broken(built(["slots.c"], "-DSHIFT=8")) == {"aligned"}

    def test_unless_offsets_are_meant(self, built):
        """A heap that promises aligned offsets only is held to no more."""
        assert asked(built(["slots.c"], "-DSHIFT=8", "-DORIGIN=0"))["contents"] > 100

    @pytest.mark.parametrize("origin", [[], ["-DORIGIN=8"]])
    def test_aligned_pointers_from_there(self, built, origin):
        """Misaligned offsets from a misaligned base are aligned pointers, and every other law applies as ever."""
        name = built(["slots.c"], "-DSHIFT=8", "-DLEAD=56", *origin)
        seen = asked(name)
        for law in ("contents", "tiling", "bitmap", "conservation", "free-then-alloc"):
            assert seen[law] > 0, law
        assert misused(name, 8) == 2  # there is no inside of a granule
        target = factory(name)()
        assert target.contract.bounds_of(0) == (8, 8 + 56 + 1024)
        assert (target.alloc(8), target.extents(64)) == (64, ((0, 64, 64),))
        assert target.free_regions()[0].start == 128


# ---- what a library shows ------------------------------------------------------------------------------


@pytest.fixture
def whole(built):
    return factory(built(["everything.c"], "-std=c99") + ",arena=100")()


@needs_compiler
class TestEverything:
    def test_refusals(self, whole):
        """Each refusal of the header is one of the protocol; sizes beyond the C type are too big."""
        seen = [whole.alloc(size) for size in (1, 2, 3, 4, 5, 1 << 64)]
        assert seen == [None, Refusal.INVALID, Refusal.TOO_BIG, Refusal.WOULD_BLOCK, 5, Refusal.TOO_BIG]
        assert whole.alloc(1, 2) == 3 + 1 + 2000
        assert [whole.realloc(50, size) for size in (40, 60, 1 << 64)] == [53, None, Refusal.TOO_BIG]

    def test_frees(self, whole):
        """A free is given the size where the library takes it, and says when it noticed a bad one."""
        whole.free(20, 20)
        with pytest.raises(InvalidFree):
            whole.free(20, 21)

    def test_contract(self, whole):
        """Promises in numbers are a contract."""
        promise = whole.contract
        assert (promise.handles, promise.spaces, promise.arena, promise.largest) == ("opaque", "pages", 0, 500)
        assert (promise.maintenance, promise.moving, promise.evicting) == (
            ("reclaim", "compact"), frozenset({"compact"}), frozenset({"reclaim"}),
        )  # fmt: skip
        assert (promise.pinned, promise.zeroed, promise.deterministic) == (True, True, False)
        assert (promise.cpus, promise.contextual, promise.sized_free, promise.max_align) == (2, True, True, 64)
        assert promise.limits == (16, 32)
        assert promise.hint_slack == {"contig": 8}
        assert {name: bound(None, Shadow()) for name, bound in promise.cost_bounds.items()} == {"probed": 40}
        assert promise.metadata_bound(Shadow(), None) == 100
        assert [promise.list_of(FreeRegion(0, 0, length)) for length in (0, 99, 100, 101)] == [0, 0, 1, 1]

    def test_observations(self, whole):
        """Every kind of record becomes what the protocol calls it; columns may come in any order, or not at all."""
        assert whole.extents(7) == ((0, 21, 10), (2, 4096, 20))
        assert whole.free_regions() == [FreeRegion(0, 64, 128, 1), FreeRegion(5, 0, 32, None)]
        assert whole.lists() == [Listed(2, 500), Listed(2, 501)]
        region = Extent(0, 0, 256)
        assert whole.hints() == [
            Hint("contig", 64, region, Direction.LOWER, Quantity.LONGEST_FREE, Extent(0, 64, 64)),
            Hint("7", 0, region, Direction.EXACT, Quantity.FIRST_FREE, None),
        ]
        assert whole.bitmap() == [
            AllocationBits(0, 0, 8, 68, 5 << 64 | (1 << 64) - 1), AllocationBits(1, 0, 8, 4, 1),
        ]  # fmt: skip
        assert whole.list_bits() == [ListBit("first", (2, 3), True), ListBit("second", (4,), False)]
        assert whole.counters() == {"pages": 3, "1": 4}
        assert whole.metadata() == (0, 11)
        assert whole.cost() == {"found": 64, "probed": 3}
        assert whole.pages() == [(n, n + 1) for n in range(0, 2000, 2)]
        assert whole.maintain("compact") == Maintained(3, 1, (70, 71))
        assert list(whole.records("OWN", "nothing", "cpu")) == [(0, 0)]

    def test_pages(self, whole):
        """The books of who lends the pages are a page source."""
        source = whole.source
        assert (source.runs, source.owned, source.held) == ({0: 1, 4: 0}, {0: 0, 1: 0, 4: 4}, 3)
        assert (source.given, source.refused, source.injected, source.highest_order) == (7, 6, 5, 4)
        assert (source.can_give(3), source.can_give(4)) == (True, False)
        source.fail_next(2, 3)
        assert list(whole.records("OWN", "failing")) == [(203,)]

    def test_circumstances(self, whole):
        """CPU, atomic and group reach the library before the call."""
        whole.alloc(8, ctx=Context(1, True, 6))
        assert list(whole.records("OWN", "cpu", "atomic", "group")) == [(1, 1, 6)]
        whole.map(8, ctx=Context(0))
        assert list(whole.records("OWN", "cpu", "atomic", "group")) == [(0, 0, 0)]
        with pytest.raises(RuntimeError, match="heaplaw_unmap answered 1"):
            whole.unmap(9, ctx=Context(0))

    def test_parameters(self, whole):
        """Parameters of the library's own are set by name."""
        name = whole.library.path
        assert factory(f"{name},arena=100,limit=7")().contract.largest == 700
        assert factory(f"{name},arena=100,limit=5,chain=4")().contract.largest == 500
        with pytest.raises(TargetError, match="chain cannot be 5"):
            factory(f"{name},arena=100,chain=5")

    def test_destroyed_once(self, whole):
        """A heap is given back once: by destroy, or when its target is forgotten; never if it was abandoned."""
        build = factory(f"{whole.library.path},arena=100")
        gc.collect()
        ((before,),) = whole.records("OWN", "destroyed")
        target = build()
        assert target.destroy is None  # not for checkers: the books of its pages end with the heap
        for _ in range(2):
            type(target).destroy(target)
        del target
        forgotten, abandoned = build(), build()
        abandoned.abandon()
        del forgotten, abandoned
        gc.collect()
        assert list(whole.records("OWN", "destroyed")) == [(before + 6,)]


# ---- batches ---------------------------------------------------------------------------------------------


@needs_compiler
class TestBatches:
    def test_same_answers_as_single_calls(self, built):
        """A batch does what single calls do."""
        build = factory(built(SHOWN, SHOWS) + ",arena=8192")
        chosen, births = mixed(2000, 1500, 40)
        single, batched, handles, expected = build(), build(), {}, []
        lib = single.library.opened
        for kind, name, size, align, _ in chosen:
            if kind == Kind.ALLOC:
                answer = lib.heaplaw_alloc_aligned(single.heap, size, align)
                handles[name] = answer
            elif handles.get(name, batches.NOT_DONE) >= library.constants()["HEAPLAW_TOP"]:
                answer = batches.NOT_DONE
            elif kind == Kind.FREE:
                answer = lib.heaplaw_free(single.heap, handles.pop(name))
            else:
                answer = lib.heaplaw_realloc(single.heap, handles[name], size)
                handles[name] = answer if answer < library.constants()["HEAPLAW_TOP"] else handles[name]
            expected.append(answer)
        table = batches.Batches(batched, births)
        seen = table.run(chosen[:700]) + table.run(chosen[700:])
        assert seen == expected
        assert batches.NOT_DONE in seen
        assert single.free_regions() == batched.free_regions()

    def test_names_and_libraries(self, built):
        """A name beyond the table, and a library without batches, are refused."""
        with pytest.raises(ValueError, match="names reach up to 3"):
            batches.Batches(factory(built(["slots.c"]))(), 4).run([Operation(Kind.ALLOC, 4, 8)])
        with pytest.raises(ValueError, match="has no heaplaw_batch"):
            batches.Batches(factory(built(["everything.c"], "-std=c99"))(), 4)

    def test_packing(self):
        """What a batch does not know is no operation; maintenance is named by number; sizes end at the C type's."""
        ops = [Operation(Kind.WRITE, 3), Operation(Kind.MAINTAIN, mode="b"), Operation(Kind.ALLOC, 1, 1 << 70, 8, 4)]
        packed = batches.pack(ops, ("a", "b"))
        view = library.interface().from_buffer("heaplaw_op[]", packed)
        assert [(op.kind, op.name, op.size, op.align, op.mode) for op in view] == [
            (0, 0, 0, 0, 0), (8, 0, 0, 1, 1), (1, 1, (1 << 64) - 1, 8, 4),
        ]  # fmt: skip


# ---- watched batches -----------------------------------------------------------------------------------------


def mixed(count, most, live_most, seed=1, resizes=True):
    """Allocations, frees and resizes around a level; and how many objects are born."""
    rng, live, births, chosen = random.Random(seed), [], 0, []
    for _ in range(count):
        if resizes and live and rng.random() < 0.1:
            chosen.append(Operation(Kind.REALLOC, rng.choice(live), rng.randrange(1, most)))
        elif live and (len(live) >= live_most or rng.random() < 0.45):
            chosen.append(Operation(Kind.FREE, live.pop(rng.randrange(len(live)))))
        else:
            align = 1 << rng.randrange(8) if rng.random() < 0.1 else 1
            chosen.append(Operation(Kind.ALLOC, births, rng.randrange(most), align))
            live.append(births)
            births += 1
    return chosen, births


def watched(name, operations, births, size=64):
    """The first violation that watched batches find, and the watch."""
    watch = Watched(factory(name), births)
    for at in range(0, len(operations), size):
        if (found := watch.run(operations[at : at + size])) is not None:
            return found, watch
    return watch.finish(), watch


@needs_compiler
class TestWatched:
    def test_warnings(self):
        """watching.c and edges.c compile without a warning."""
        for name in ("watching.c", "edges.c"):
            command = ["gcc", "-std=c99", *STRICT, "-Wconversion", "-fPIC", "-shared", "-o", os.devnull]
            done = run_quietly([*command, f"-I{HEADER.parent}", str(HEADER.with_name(name))])
            assert done.stderr == "", name

    @pytest.mark.parametrize("arena", [2048, 16384])
    def test_sound_heaps(self, built, arena):
        """A correct heap passes, full or not; its shadow heap ends empty; laws were asked as often as they could be."""
        operations, births = mixed(6000, 600, 40)
        found, watch = watched(built(SHOWN, SHOWS, counted=True) + f",arena={arena}", operations, births)
        assert found is None
        assert watch.operations == len(operations)
        assert watch.trace() == operations
        assert len(watch.checker.shadow) == 0
        seen = watch.evidence()
        laws = ("contents", "disjoint", "tiling", "hint-sound", "free-list", "search-bounded", "waste-bound", "returns")
        for law in laws:
            assert seen[law] >= watch.audits > 90, law
        if arena == 2048:
            assert seen["no-spurious-refusal"] > 100

    def test_places_only(self, built):
        """Without contents all else is watched."""
        found, watch = watched(built(BUDDY), *mixed(3000, 3000, 40, resizes=False))
        assert found is None
        assert watch.evidence()["disjoint"] > 500
        assert "contents" not in watch.evidence()

    def test_misaligned_memory(self, built):
        """Alignment is judged where the memory lies."""
        operations, births = mixed(2000, 65, 14, resizes=False)
        assert watched(built(["slots.c"], "-DSHIFT=8", "-DLEAD=56"), operations, births)[0] is None
        assert watched(built(["slots.c"], "-DSHIFT=8"), operations, births)[0].law == "aligned"

    @pytest.mark.parametrize(
        ("flag", "suspicion", "law"),
        [
            ("-DWRONG_PLACE", "disjoint", "disjoint"),
            ("-DWRONG_BOUNDS", "in-bounds", "in-bounds"),
            ("-DWRONG_ALIGN", "aligned", "aligned"),
            ("-DWRONG_CONTENTS", "contents", "contents"),
            ("-DWRONG_LENGTH", "big-enough", "conservation"),
            ("-DWRONG_COUNTERS", "", "counters"),
            ("-DWRONG_ANSWER", "returns", "returns"),
            ("-DWRONG_CHECK", "", "returns"),
            ("-DWRONG_RECORDS", "", "returns"),
            ("-DWRONG_REFUSAL", "no-spurious-refusal", "no-spurious-refusal"),
        ],
    )
    def test_faults(self, built, flag, suspicion, law):
        """What breaks a law is found in batches as it is one by one: the same law at the same operation."""
        operations, births = mixed(200, 65, 16, resizes=False)
        name = built(["slots.c"], flag)
        found, watch = watched(name, operations, births)
        alone = run(factory(name), operations, audit_every=1)
        assert (found.law, found.index, found.seen) == (alone.law, alone.index, alone.seen)
        assert (watch.suspicion(), found.law) == (suspicion, law)

    def test_edges(self, built):
        """So is a search that takes too many edges."""
        operations, births = mixed(600, 65, 16, resizes=False)
        found, _ = watched(built(["slots.c"], "-DWRONG_EDGES", counted=True), operations, births)
        assert found.law == "search-bounded"

    def test_heaps_that_do_not_repeat(self, built):
        """A suspicion that the checker cannot confirm is no violation, and no pass."""
        name = built(["slots.c"], "-DWRONG_SECOND")
        with pytest.raises(UnconfirmedError, match="suspicion aligned at operation 1, but the checker finds nothing"):
            watched(name, [Operation(Kind.ALLOC, 0, 8)], 1)

    def test_what_cannot_be_watched(self, built):
        """Other heaps are refused with the reason."""
        with pytest.raises(ValueError, match="cannot be watched in C: its handles are no offsets"):
            Watched(factory(built(["everything.c"], "-std=c99")), 4)


# ---- from source ------------------------------------------------------------------------------------------


class TestCompiling:
    @needs_compiler
    def test_first_error(self, tmp_path):
        """A failed build is the compiler's first error, in one line."""
        (tmp_path / "x.c").write_text("int f(void) {\n  return y;\n}\nint g(void) { return z; }\n")
        with pytest.raises(TargetError, match=r"cannot compile \S+/x.c: \S+/x.c:2:10: error: .y. undeclared[^\n]*\Z"):
            compile_library([tmp_path / "x.c"], tmp_path)

    @needs_compiler
    def test_linker_error(self, tmp_path):
        """So is a library that cannot be linked."""
        (tmp_path / "x.c").write_text("int f(void);\nint g(void) { return f(); }\n")
        with pytest.raises(TargetError, match=r"cannot compile \S+/x.c: [^\n]*undefined reference to .f.[^\n]*\Z"):
            compile_library([tmp_path / "x.c"], tmp_path, ["-Wl,--no-undefined"])

    @pytest.mark.parametrize(("suffix", "tongue", "variable"), [("c", "C", "CC"), ("cpp", r"C\+\+", "CXX")])
    def test_no_compiler(self, tmp_path, monkeypatch, suffix, tongue, variable):
        """A compiler that is missing is said so, in one line."""
        source = tmp_path / f"x.{suffix}"
        source.write_text("")
        monkeypatch.setenv(variable, "no-such-compiler")
        with pytest.raises(TargetError, match=f"^no {tongue} compiler: {variable} is 'no-such-compiler', and"):
            compile_library([source], tmp_path)
        monkeypatch.delenv(variable)
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(TargetError, match=f"^no {tongue} compiler: tried .*; install one or set {variable}$"):
            compile_library([source], tmp_path)

    def test_other_files(self, tmp_path):
        """A file that is not there, or in another language."""
        with pytest.raises(TargetError, match="no such file"):
            compile_library([tmp_path / "x.c"], tmp_path)
        (tmp_path / "x.zig").write_text("")
        with pytest.raises(TargetError, match="for others, build a shared library"):
            compile_library([tmp_path / "x.zig"], tmp_path)

    @needs_compiler
    def test_both_languages(self, tmp_path):
        """C and C++ together make one library."""
        flags = ["-O0"]
        name = compile_library([FIRST_FIT[0], *BUDDY], tmp_path, flags, counted=True)
        assert factory(str(name))().alloc(100) == 0

    @needs_compiler
    def test_edges(self, built):
        """The cost of a call is the edges of that call alone, the same each time, and grows with the search."""
        target = factory(built(SHOWN, SHOWS, counted=True))()
        handles = [target.alloc(16) for _ in range(64)]
        first = target.cost()["edges"]
        target.free_regions()
        assert target.cost()["edges"] == first > 0
        for handle in handles[::2]:
            target.free(handle)
        target.alloc(64)
        assert target.cost()["edges"] > first + 32
        assert set(target.cost()) == {"edges", "found"}

    def test_languages(self):
        """The language is told by the name."""
        assert [compiling.language(Path(name)) for name in ("a.c", "b.cc", "c.cxx")] == ["C", "C++", "C++"]


# ---- names and promises -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "native"),
    [
        ("./libmine.so", True),
        ("/abs/libmine.so,arena=65536", True),
        ("libstdc++.so.6", True),
        ("lib@home+.so", True),
        ("mine.dylib", True),
        ("tlsf", False),
        ("tlsf@conte-3.1,arena=4096", False),
        ("mine.so:Name", False),
        ("dir.so/file.py:Name", False),
    ],
)
def test_names(name, native):
    """A native target is the file of a shared library; signs in its name mean nothing."""
    assert is_native(name) is native
    if native:
        assert parse(name).base == name.split(",")[0]
        assert str(parse(name)) == name
        assert variants(name) == [name]


def test_gaps():
    """A request is owed if a gap is as long as its size rounded up, its alignment and what the library adds."""
    from heaplaw import Block, Request

    heap = Shadow()
    heap.add(Block(0, 100, 100, 1, ((0, 100, 100),)))
    owed = lambda size, align=1: promising.serves_gap(16, 8, (90, 64), (0, 256), Request(size, align), heap, None)  # noqa: E731
    assert [owed(size) for size in (0, 1, 80, 81, 90, 91)] == [False, True, True, False, False, False]
    assert [owed(16, align) for align in (16, 32, 64, 128)] == [True, True, True, False]


@pytest.mark.parametrize(
    ("live", "overhead"),
    [([], 16), ([(16, 16)], 32), ([(16, 240)], 16), ([(16, 16), (48, 16)], 48), ([(48, 16), (240, 16)], 64)],
)
def test_overhead(live, overhead):
    """What belongs to no block is a header at every seam, two around a free block."""
    from heaplaw import Block

    heap = Shadow()
    for name, (start, length) in enumerate(live):
        heap.add(Block(name, start, length, 1, ((0, start, length),)))
    free = 256 - sum(length for _, length in live) - overhead
    assert promising.merged_overhead(16, 16, 0, (0, 256), heap, None) == overhead
    assert free >= 0
