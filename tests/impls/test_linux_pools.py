"""The kernel's own lib/genalloc.c and drm_buddy.c: that they are held to their laws, and that these laws can fail.

What needs a kernel's source or a compiler is skipped, with the reason, where there is none: HEAPLAW_LINUX_SOURCE names
a tree or tarball; otherwise the newest that ``heaplaw build-linux`` has taken apart, otherwise the newest of /usr/src.
What these tests show of shipped code is unconfirmed by its maintainers.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from heaplaw import Context, Request, Shadow
from heaplaw.impls import naming, registry
from heaplaw.impls.native.linux import building, drm_buddy, genalloc
from heaplaw.impls.native.linux.building import BuildError
from heaplaw.operations import Kind, Operation
from heaplaw.properties.plain import check
from heaplaw.runs import run

NAMES = ("genalloc", "drm-buddy")
CHUNK = 4096
TOPDOWN, CONTIGUOUS, VISIBLE, CLEARED = 1, 2, 4, 8


# ---- without a kernel ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("linux:genalloc", "linux:genalloc is not built: run heaplaw build-linux"),
        ("linux:drm-buddy@6.1", "linux:drm-buddy@6.1 is not built: run heaplaw build-linux"),
        ("linux:genalloc,colour=3", "has no parameter 'colour'; it has chunk, chunks, order, algo, base"),
        ("linux:drm-buddy,size=large", "'large' is no number"),
        ("linux:drm", "of the kernel there are linux:percpu, "),
    ],
)
def test_names_that_mean_nothing_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, said: str
) -> None:
    """A pool of the kernel that is not built, or not there, is one line."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(naming.TargetError) as problem:
        registry.factory(name)
    assert said in str(problem.value)


def test_senseless_parameters_are_refused() -> None:
    """Pools of no unit, unknown algorithms, crooked bases, and chunks that the kernel refuses are said to be so."""
    for pool in ((16, 1, 5, 0, 0), (64, 0, 5, 0, 0), (64, 1, 13, 0, 0), (64, 1, 5, 3, 0), (64, 1, 5, 0, 8)):
        with pytest.raises(ValueError, match=r"make no pool|is none of|is no multiple"):
            genalloc.promise(*pool)
    for manager in ((4096, 2048, 0), (4096, 12288, 0), (2048, 4096, 0), (8192, 4096, 12288), (8192, 4096, 100)):
        with pytest.raises(ValueError, match=r"chunks are powers of two|is no multiple"):
            drm_buddy.check(*manager)


def test_what_must_be_served_depends_on_how_it_is_asked() -> None:
    """Of an empty heap of seven chunks all is owed, but contiguous only what a power of two holds, a range its own."""
    empty, seven, six = Shadow(), 7 * CHUNK, 6 * CHUNK

    def owed(size: int, align: int = 1, group: int = 0) -> bool:
        return drm_buddy.must_serve(seven, CHUNK, six, True, Request(size, align, group=group), empty, None)

    assert owed(seven)
    assert not owed(seven + 1)
    assert (owed(six, 2 * CHUNK), owed(six + 1, 2 * CHUNK)) == (True, False)
    assert (owed(4 * CHUNK, group=CONTIGUOUS), owed(5 * CHUNK, group=CONTIGUOUS)) == (True, False)
    assert (owed(six, group=VISIBLE), owed(six + 1, group=VISIBLE)) == (True, False)


# ---- with one --------------------------------------------------------------------------------------------------


def _taken() -> Path | None:
    """The newest folder in which all that is needed of a kernel lies."""
    folders = [path.parents[2] for path in building.cache().glob("*/tree/lib/genalloc.c")]
    whole = [folder for folder in folders if all((folder / "tree" / name).is_file() for name in building.DRM_BUDDY)]
    return max(whole, key=lambda folder: building.version_key(folder.name), default=None)


def _compile(folder: Path, names: tuple[str, ...] = NAMES, more: tuple[str, ...] = ("-O1",)) -> None:
    for name in names:
        target = folder / f"{name}-4096.so"
        building.compile_adapter(folder, target, name, 4096, building.find_compiler(), more)


def _copy(folder: Path, into: Path) -> Path:
    """Another folder of the same kernel, whose files may be changed."""
    there = into / "heaplaw" / "linux" / folder.name
    for part in ("tree", "empty"):
        shutil.copytree(folder / part, there / part)
    return there


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a kernel whose pools are built; skips where that cannot be."""
    pytest.importorskip("cffi", reason="not run: cffi is missing")
    cache, given = tmp_path_factory.mktemp("cache"), os.environ.get("HEAPLAW_LINUX_SOURCE")
    try:
        building.find_compiler()
        if given is None and (taken := _taken()) is not None:
            folder = _copy(taken, cache)
            _compile(folder)
            return folder
        building.build(Path(given) if given else building.find_source(), into=cache / "heaplaw" / "linux")
    except BuildError as problem:
        pytest.skip(f"not run: {problem}")
    (folder,) = (cache / "heaplaw" / "linux").iterdir()
    return folder


@pytest.fixture
def make(built: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Callable[[], Any]]:
    """What makes targets of the kernel's pools."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(built.parents[2]))
    return lambda name: registry.factory(f"linux:{name}")


Make = Callable[[str], Callable[[], Any]]


@pytest.mark.parametrize(
    "settings",
    ["", ",algo=1,chunks=1,chunk=4000,order=3", ",algo=2,order=4,base=272", ",order=12,chunk=131072,chunks=3"],
)
def test_genalloc_keeps_the_laws(make: Make, settings: str) -> None:
    """First fit, best fit and natural alignment, at even and at odd bases, break no law."""
    tally = check(f"linux:genalloc{settings}", 1200, 1)
    assert not tally.findings
    asked = ("disjoint", "contents", "bitmap", "counters", "conservation", "hint-exact", "aligned", "drain", "tiling",
             "no-spurious-refusal", "refusal-pure", "coalesced")  # fmt: skip
    assert all(tally.evidence[law] for law in asked)


def _textbook(free: list[bool], units: int, step: int, best: bool) -> int | None:
    """Where first fit, or best fit, at multiples of ``step`` puts an object: by looking at every place."""
    fits = [at for at in range(0, len(free) - units + 1, step) if all(free[at : at + units])]
    if not best:
        return fits[0] if fits else None
    starts = [at for at in fits if at == 0 or not free[at - 1]]
    return min(starts, key=lambda at: [*free[at:], False].index(False), default=None)


@pytest.mark.parametrize("algo", [genalloc.FIRST_FIT, genalloc.BEST_FIT, genalloc.ORDER_ALIGN])
def test_objects_lie_where_the_algorithm_says(make: Make, algo: int) -> None:
    """Each algorithm, and the aligned one of single requests, chooses the place that a search of every place does."""
    heap, unit = make(f"genalloc,chunks=1,chunk=2048,algo={algo}")(), 32
    free, live, draw = [True] * 64, [], 12345
    for _ in range(600):
        draw = (draw * 1103515245 + 12345) % (1 << 31)
        if live and draw >> 16 & 3 == 0:
            at, size = live.pop((draw >> 8) % len(live))
            heap.free(at * unit, size)
            free[at : at + -(-size // unit)] = [True] * -(-size // unit)
            continue
        size, align = 1 + (draw >> 8) % 300, 128 if draw >> 20 & 3 == 0 else 1
        units = -(-size // unit)
        step = align // unit or 1 << (units - 1).bit_length() if align > 1 or algo == genalloc.ORDER_ALIGN else 1
        wanted = _textbook(free, units, step, algo == genalloc.BEST_FIT and align == 1)
        assert heap.alloc(size, align) == (None if wanted is None else wanted * unit)
        if wanted is not None:
            free[wanted : wanted + units] = [False] * units
            live.append((wanted, size))


@pytest.mark.parametrize("settings", ["", ",size=184320,visible=69632", ",size=17592186044416,chunk=4294967296"])
def test_drm_buddy_keeps_the_laws(make: Make, settings: str) -> None:
    """Every way to ask, in managers of one and of several roots, and of terabytes, breaks no law that 6.12 keeps."""
    tally = check(f"linux:drm-buddy,claims=0{settings}", 1500, 1)
    assert not tally.findings
    asked = ("disjoint", "in-bounds", "aligned", "geometry", "placement", "waste-bound", "conservation", "counters",
             "tiling", "coalesced", "free-list", "size-class", "drain", "no-spurious-refusal",
             "refusal-pure")  # fmt: skip
    assert all(tally.evidence[law] for law in asked)


def test_an_object_may_be_several_blocks(make: Make) -> None:
    """Where no block is large enough an object is several; asked to be contiguous it is refused, or one run."""
    heap = make("drm-buddy,size=65536")()
    pages = [heap.alloc(CHUNK, ctx=Context()) for _ in range(16)]
    for handle in pages[::2]:
        heap.free(handle)
    assert heap.alloc(2 * CHUNK, ctx=Context(group=CONTIGUOUS)) is None
    pieces = heap.extents(heap.alloc(3 * CHUNK, ctx=Context()))
    assert len(pieces) == 3
    assert all(length == CHUNK for _, _, length in pieces)
    for handle in pages[1::2]:
        heap.free(handle)
    run_of = heap.extents(heap.alloc(3 * CHUNK, ctx=Context(group=CONTIGUOUS)))
    assert sum(length for _, _, length in run_of) == 3 * CHUNK
    assert all(one[1] + one[2] == two[1] for one, two in pairwise(run_of))


# ---- laws can fail -----------------------------------------------------------------------------------------------


class Change(NamedTuple):
    """Other words in a copy of a kernel's file, and the laws of which one has to notice."""

    target: str
    file: str
    old: str
    new: str
    laws: str


GENALLOC, DRM = building.GENALLOC[0], building.DRM_BUDDY[0]
ROUNDED = "nbits = (size + (1UL << order) - 1) >> order"
CHUNKS = "\tlist_for_each_entry_rcu(chunk, &pool->chunks, next_chunk) {\n"
CHANGES = {
    "unrounded free": Change("genalloc", GENALLOC, "size = nbits << order;\n\t\t\tatomic_long_add",
                             "atomic_long_add", "counters hint-exact"),
    "unrounded request": Change("genalloc", GENALLOC,
                                f"{ROUNDED};\n\trcu_read_lock();\n{CHUNKS}\t\tif (size",
                                f"nbits = size >> order ?: 1;\n\trcu_read_lock();\n{CHUNKS}\t\tif (size",
                                "disjoint bitmap returns"),
    "half the alignment": Change("genalloc", GENALLOC, "align_mask = ((alignment->align +",
                                 "align_mask = ((alignment->align / 2 +", "aligned"),
    "a chunk never looked at": Change("genalloc", GENALLOC, "if (start_bit >= end_bit)",
                                      "if (start_bit >= end_bit / 2)", "no-spurious-refusal drain limits-honest"),
    "buddies left apart": Change("drm-buddy,claims=0", DRM, "if (!drm_buddy_block_is_free(buddy))\n\t\t\tbreak;",
                                 "if (!drm_buddy_block_is_free(buddy) || drm_buddy_block_order(buddy) == 2)\n"
                                 "\t\t\tbreak;", "coalesced returns"),
    "a descriptor lost": Change("drm-buddy,claims=0", DRM, "drm_block_free(mm, block);\n\t\tdrm_block_free(mm, buddy);",
                                "drm_block_free(mm, block);", "conservation drain"),
    "free bytes not counted": Change("drm-buddy,claims=0", DRM,
                                     "BUG_ON(!drm_buddy_block_is_allocated(block));\n\tmm->avail +=",
                                     "BUG_ON(!drm_buddy_block_is_allocated(block));\n"
                                     "\tif (block->left == block) mm->avail +=", "counters"),
    "a range's end ignored": Change("drm-buddy,claims=0", DRM, "\tend = end - 1;", "\tend = mm->size - 1;",
                                    "placement"),
}  # fmt: skip

_CHECK = """
import sys
from heaplaw.properties.plain import check
for name in sys.argv[2:]:
    tally = check(name, int(sys.argv[1]), 1, most=1)
    print(*[finding.violation.law for finding in tally.findings], "after", tally.operations)
"""


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_a_changed_line_of_the_kernel_is_caught(built: Path, tmp_path: Path, change: Change) -> None:
    """A check finds what a few other words in a copy of the kernel's file spoil."""
    folder = _copy(built, tmp_path)
    place = folder / "tree" / change.file
    text = place.read_text()
    assert text.count(change.old) == 1
    place.write_text(text.replace(change.old, change.new))
    _compile(folder, (change.target.partition(",")[0],), ("-O0",))
    done = subprocess.run(
        [sys.executable, "-c", _CHECK, "4000", f"linux:{change.target}"],
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    warned = done.returncode == -signal.SIGABRT  # a WARN or BUG of the kernel's own
    caught = "returns" if warned else done.stdout.split(" ")[0]
    assert caught in change.laws.split(), (done.stdout, done.stderr[-500:])


# ---- what shipped code does, unconfirmed by its maintainers --------------------------------------------------------


def _alloc(name: int, size: int, align: int = 1, group: int = 0) -> Operation:
    return Operation(Kind.ALLOC, name, size, align, group << 1)


@pytest.fixture
def clears(built: Path) -> None:
    """Skips where the kernel does not keep cleared memory apart, as 6.1 does not."""
    if "for_each_free_tree" not in (built / "tree" / DRM).read_text():
        pytest.skip("not run: this kernel has no trees of cleared blocks, as 6.1 has none")


def test_a_contiguous_request_is_not_aligned_as_asked(make: Make, clears: None) -> None:
    """In 6.12 a contiguous request of one chunk that asks for an alignment of two is given an odd chunk."""
    broken = run(make("drm-buddy,size=16384"), [_alloc(0, 1, 2 * CHUNK, CONTIGUOUS)])
    assert broken is not None
    assert (broken.law, broken.index) == ("aligned", 0)
    assert run(make("drm-buddy,size=16384"), [_alloc(0, 1, 2 * CHUNK)]) is None


def test_a_reset_misses_blocks(make: Make, clears: None) -> None:
    """In 6.12 what is free is not all cleared after a reset that says so: a tree is walked while it is rebalanced."""
    singles = [_alloc(name, CHUNK) for name in range(7)]
    freed = [Operation(Kind.FREE, name) for name in (0, 4, 2)]
    reset = Operation(Kind.MAINTAIN, mode="reset-clear")
    broken = run(make("drm-buddy"), [*singles, *freed, reset])
    assert broken is not None
    assert (broken.law, broken.expected) == ("compaction-progress", "what reset-clear promises")
    assert broken.seen == "1024000 of 1032192 free bytes cleared, not 1032192"


def test_what_is_free_in_a_range_is_not_found(make: Make, clears: None) -> None:
    """In 6.12 an aligned free pair below an odd limit is refused, as another pair is merged across the limit."""
    cleared = CLEARED
    singles = [_alloc(0, CHUNK), _alloc(1, CHUNK, group=cleared), _alloc(2, CHUNK, group=cleared), _alloc(3, CHUNK)]
    operations = [*singles, *(Operation(Kind.FREE, name) for name in range(4)), _alloc(4, 8192, 8192, VISIBLE)]
    broken = run(make("drm-buddy,size=16384,visible=12288"), operations)
    assert broken is not None
    assert (broken.law, broken.index) == ("no-spurious-refusal", 8)
    assert run(make("drm-buddy,size=16384,visible=8192"), operations) is None


_STARVED = """
import sys
from heaplaw import Context
from heaplaw.impls.registry import factory
heap = factory("linux:drm-buddy,starve=1")()
heap.source.fail_next(0, 1)
print(heap.alloc(1, ctx=Context()), heap.free_regions()[0].length, flush=True)
print(heap.lists())
"""


def test_a_refused_descriptor_damages_the_free_lists(built: Path) -> None:
    """Where the first split finds no memory, the block that is free already is listed again: the list goes round."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(built.parents[2])}
    started = subprocess.Popen(
        [sys.executable, "-c", _STARVED], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert started.stdout is not None
    try:
        assert started.stdout.readline() == "None 1048576\n"
        try:
            assert started.wait(1) == -signal.SIGABRT  # the list of 6.1 is found to go round
        except subprocess.TimeoutExpired:
            assert started.poll() is None  # the tree of 6.12 is walked for ever
    finally:
        started.kill()
        started.wait()


# ---- sanitizers ------------------------------------------------------------------------------------------------------

@pytest.fixture
def runtime() -> str:
    """AddressSanitizer's library; skips where there is none."""
    found = subprocess.run(["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=False)
    if not Path(found.stdout.strip()).is_file():
        pytest.skip("not run: gcc has no libasan.so")
    return found.stdout.strip()


def test_sanitizers_see_nothing(built: Path, runtime: str, tmp_path: Path) -> None:
    """Kernel, shims and adapters under AddressSanitizer and UBSan, in short checks, draw no complaint."""
    folder = _copy(built, tmp_path)
    _compile(folder, more=building.SANITIZERS)
    names = ("linux:genalloc,base=96", "linux:genalloc,algo=1", "linux:drm-buddy,claims=0,size=249856")
    done = subprocess.run(
        [sys.executable, "-c", _CHECK, "700", *names],
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path), "LD_PRELOAD": runtime, "ASAN_OPTIONS": "detect_leaks=0"},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["after"] * 3
