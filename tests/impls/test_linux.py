"""The kernel's own allocators: how they are built, and that the models do what they do.

What needs a kernel's source or a compiler is skipped, with the reason, where there is none.  HEAPLAW_LINUX_SOURCE
names a tree or tarball; otherwise the newest of /usr/src is taken.  What these tests show of shipped code is
unconfirmed by its maintainers.
"""

import io
import os
import random
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from heaplaw import Context
from heaplaw.fuzz.cli import cli
from heaplaw.fuzz.linux import build_linux
from heaplaw.fuzz.lockstepping import in_lockstep, pair
from heaplaw.fuzz.options import Problem
from heaplaw.impls import naming, registry
from heaplaw.impls.native.linux import building
from heaplaw.impls.native.linux.building import BuildError
from heaplaw.impls.native.linux.model import Stepwise
from heaplaw.impls.percpu_chunk import Chunk
from heaplaw.impls.zbud import Zbud
from heaplaw.operations import Kind, Operation
from heaplaw.properties import lockstep_percpu as percpu
from heaplaw.properties import lockstep_zbud
from heaplaw.properties.kernel_terms import tell, told_of
from heaplaw.properties.lockstep import Apart, Make, Shape, compare, random_course, requests, smallest, step
from heaplaw.properties.plain import check
from heaplaw.runs import run

MAKEFILE = b"# SPDX\nVERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 99\n"


# ---- without a kernel ------------------------------------------------------------------------------------


class Sum:
    """A side that adds sizes up, and from operation ``wrong_at`` on one more."""

    def __init__(self, wrong_at: int = 1 << 60) -> None:
        self.sum, self.done, self.wrong_at = 0, 0, wrong_at

    def do(self, operation: Operation) -> int:
        self.done += 1
        self.sum += operation.size + (self.done > self.wrong_at)
        return operation.name

    def numbers(self) -> dict[str, list[int] | bytes]:
        return {"sums": [self.done, self.sum]}

    def words(self, kind: str) -> Sequence[str]:
        return ("done", "sum")

    def destroy(self) -> None:
        self.done = -1


SMALL = Shape({}, 64, 16)


def test_a_difference_in_what_is_held_ends_the_run() -> None:
    """The first operation after which a number differs is named, with the number and both values."""
    found = compare(Sum(), Sum(2), [Operation(Kind.ALLOC, name, 5) for name in range(9)])
    assert str(found) == "after operation 3, c = alloc 5: sums[0] sum, done 3: 15 and 16"


def test_a_difference_in_answers_comes_first() -> None:
    """Two answers that differ are told before anything that is held."""
    one, two = Sum(), Sum()
    two.do = lambda operation: 7  # type: ignore[method-assign]
    found = step(one, two, 0, Operation(Kind.ALLOC, 3, 1))
    assert isinstance(found, Apart)
    assert (found.what, found.one, found.two) == ("answer", 3, 7)


def test_the_same_seed_draws_the_same_operations() -> None:
    """Two courses of one seed end at the same operation, another seed's episodes differ."""

    def make(shape: Shape) -> tuple[Sum, Sum]:
        return Sum(), Sum(40)

    courses = [random_course(make, [SMALL], 1000, seed) for seed in (1, 1, 2)]
    assert courses[0].trace == courses[1].trace != courses[2].trace
    assert [course.operations for course in courses] == [41, 41, 41]


def test_a_course_without_a_difference_does_all_operations() -> None:
    """Episodes add up to the operations that were asked for, the last one cut short."""
    course = random_course(lambda shape: (Sum(), Sum()), [SMALL], 2500, 1, episode=1000)
    assert (course.operations, course.episodes, course.apart) == (2500, 3, None)


def test_requests_cover_what_an_allocator_is_asked() -> None:
    """Sizes from 0 to the largest, alignments, atomic and reserved requests, frees and background work all occur."""
    seen: list[Operation] = []
    live: list[int] = []
    for operation in requests(Shape({}, 4096, 256, groups=1), random.Random(1), live):
        seen.append(operation)
        if operation.kind == Kind.ALLOC:
            live.append(operation.name)
        if len(seen) == 20_000:
            break
    asked = [op for op in seen if op.kind == Kind.ALLOC]
    assert {op.mode for op in asked} == {0, 1, 2, 3}
    assert min(op.size for op in asked) == 0
    assert max(op.size for op in asked) > 4096
    assert max(op.align for op in asked) == 512
    assert {op.kind for op in seen} == {Kind.ALLOC, Kind.FREE, Kind.MAINTAIN}


def _tree(folder: Path) -> Path:
    (folder / "Makefile").write_bytes(MAKEFILE)
    return folder


def _tarball(path: Path, names: Sequence[str]) -> Path:
    with tarfile.open(path, "w:xz") as archive:
        for name in names:
            info = tarfile.TarInfo(f"linux-source-6.1/{name}")
            info.size = len(name)
            archive.addfile(info, io.BytesIO(name.encode()))
    return path


@pytest.mark.parametrize("compressed", [False, True])
def test_files_are_taken_as_they_are(tmp_path: Path, compressed: bool) -> None:
    """A tree and a tarball give the wanted files, byte for byte, and no others."""
    names = ["Makefile", "mm/slab.c", "mm/percpu.c"]
    source = _tarball(tmp_path / "linux.tar.xz", names)
    if not compressed:
        with tarfile.open(source) as archive:
            archive.extractall(tmp_path, filter="data")
        source = tmp_path / "linux-source-6.1"
    found = building.take(source, ["mm/percpu.c", "Makefile"])
    assert found == {"mm/percpu.c": b"mm/percpu.c", "Makefile": b"Makefile"}


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda at: at / "none.tar.xz", "no such file: {at}/none.tar.xz"),
        (lambda at: at, "{at} has no Makefile"),
        (_tree, "{at} has no include/linux/bitmap.h"),
        (lambda at: _tarball(at / "l.tar.xz", ["Makefile"]), "{at}/l.tar.xz has no include/linux/bitmap.h"),
    ],
)
def test_what_is_missing_is_said_in_one_line(tmp_path: Path, make: Callable[[Path], Path], said: str) -> None:
    """No file, no tree, a tree without a file: each is a BuildError that names it."""
    with pytest.raises(BuildError) as problem:
        building.build(make(tmp_path), into=tmp_path / "built")
    assert str(problem.value) == said.format(at=tmp_path)


def test_what_is_no_tarball_is_said_in_one_line(tmp_path: Path) -> None:
    """A file that is no archive is named, with what the reader of archives says."""
    (tmp_path / "x.tar.xz").write_bytes(b"no archive at all")
    with pytest.raises(BuildError, match=r"x\.tar\.xz cannot be read: .+"):
        building.build(tmp_path / "x.tar.xz", into=tmp_path)


def test_a_makefile_without_a_version_is_no_kernel() -> None:
    """The version is read from the Makefile; other projects' Makefiles have none."""
    assert building.version_of(MAKEFILE.decode(), Path("x")) == "6.1.99"
    with pytest.raises(BuildError, match="x is no kernel tree"):
        building.version_of("all:\n\tcc a.c\n", Path("x"))


def test_a_missing_compiler_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a compiler on the path, building says so before it unpacks anything."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(BuildError, match="no C compiler"):
        building.build(tmp_path)


def test_the_newest_source_is_found(tmp_path: Path) -> None:
    """6.12 is newer than 6.1; with nothing there, one line says what to install."""
    with pytest.raises(BuildError, match="apt-get install linux-source"):
        building.find_source(tmp_path)
    for version in ("6.12", "6.1"):
        (tmp_path / f"linux-source-{version}.tar.xz").touch()
    assert building.find_source(tmp_path).name == "linux-source-6.12.tar.xz"


def test_the_newest_version_that_fits_is_taken(tmp_path: Path) -> None:
    """linux:percpu is the newest that was built, @6.1 the newest 6.1, and a block size that was not built is said."""
    for version in ("6.1.9", "6.1.176", "6.12.95"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "percpu-4096.so").touch()
    found = [building.library(tmp_path, "percpu", version).parent.name for version in ("", "6.1", "6.1.9")]
    assert found == ["6.12.95", "6.1.176", "6.1.9"]
    with pytest.raises(BuildError, match=r"linux:percpu@5 is not built: run heaplaw build-linux"):
        building.library(tmp_path, "percpu", "5")
    with pytest.raises(BuildError, match=r"not built for block=512, only for 4096"):
        building.library(tmp_path, "percpu", "6.1", 512)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("linux:percpu", "linux:percpu is not built: run heaplaw build-linux"),
        ("linux:percpu@6.1,chunks=1", "linux:percpu@6.1 is not built: run heaplaw build-linux"),
        ("linux:slub", "unknown target 'linux:slub'"),
        ("linux:percpu,colour=3", "has no parameter 'colour'"),
        ("linux:percpu,unit=large", "'large' is no number"),
    ],
)
def test_names_that_mean_nothing_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, said: str
) -> None:
    """A kernel's target that is not built or not there is one line, and counts as native."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert naming.is_native(name)
    with pytest.raises(naming.TargetError) as problem:
        registry.factory(name)
    assert said in str(problem.value)


def test_the_command_says_what_is_missing() -> None:
    """A source that is not there is bad input: one line, exit code 2."""
    with pytest.raises(Problem) as problem:
        build_linux.main(["--source", "/no/such/tree"], standalone_mode=False)
    assert (problem.value.format_message(), problem.value.exit_code) == ("no such file: /no/such/tree", 2)


# ---- with one ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of what was built of the kernel at hand; skips where that cannot be."""
    pytest.importorskip("cffi", reason="not run: cffi is missing")
    try:
        building.find_compiler()
        given = os.environ.get("HEAPLAW_LINUX_SOURCE")
        source = Path(given) if given else building.find_source()
    except BuildError as problem:
        pytest.skip(f"not run: {problem}")
    cache = tmp_path_factory.mktemp("cache")
    building.build(source, into=cache / "heaplaw" / "linux")
    return cache


@pytest.fixture
def make(built: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """What makes both sides of lockstep."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(built))
    return percpu.sides()


def _target(settings: str) -> Callable[[], Any]:
    return registry.factory(f"linux:percpu{settings}")


def test_model_and_kernel_are_equal(make: Make) -> None:
    """The model of 6.12 and the kernel's code answer the same and hold the same, in every shape."""
    course = random_course(make, percpu.SHAPES, 2 * 5000 * len(percpu.SHAPES) // 5, 3)
    assert course.apart is None
    assert course.operations == 20_000


def _changed(folder: Path, old: bytes, new: bytes) -> Make:
    """Both sides, the kernel's with other words in a copy of mm/percpu.c."""
    here = building.library(building.cache(), "percpu").parent
    there = folder / here.name
    for part in ("tree", "empty"):
        shutil.copytree(here / part, there / part)
    place = there / "tree/mm/percpu.c"
    text = place.read_bytes()
    assert text.count(old) == 1
    place.write_bytes(text.replace(old, new))
    compiler = building.find_compiler()
    for block in building.BLOCKS:
        building.compile_adapter(there, there / f"percpu-{block}.so", "percpu", block, compiler, ("-O0",))
    return percpu.sides(folder=folder)


def test_a_changed_line_of_the_kernel_is_caught(make: Make, tmp_path: Path) -> None:
    """One changed character in a copy of mm/percpu.c makes the two differ, and the trace is made small."""
    old = b"start > block->contig_hint_start) {"
    changed = _changed(tmp_path, old, old.replace(b">", b">=", 1))
    course = random_course(changed, percpu.SHAPES, 20_000, 1)
    assert course.shape is not None
    small, apart = smallest(changed, course)
    assert apart.at == len(small) - 1 < 10
    assert "scan_hint" in apart.what
    assert compare(*make(course.shape), small) is None


def test_a_changed_number_of_the_kernel_is_caught(make: Make, tmp_path: Path) -> None:
    """One empty page more that is kept ready makes the two differ."""
    changed = _changed(tmp_path, b"#define PCPU_EMPTY_POP_PAGES_HIGH\t4", b"#define PCPU_EMPTY_POP_PAGES_HIGH\t5")
    course = random_course(changed, percpu.SHAPES, 20_000, 1)
    assert course.apart is not None
    assert course.apart.what.startswith("chunks[1]")


class _OtherChunk(Chunk):
    """Of two equal holes the later one."""

    @staticmethod
    def better_hole(at: int, hole: int) -> bool:
        return True


class _Other(Stepwise):
    chunk_classes = {"6.12": _OtherChunk}  # noqa: RUF012


_sides = percpu.sides


def test_a_changed_line_of_the_model_is_caught(make: Make) -> None:
    """One changed rule of the model makes the two differ."""
    course = random_course(percpu.sides(model=_Other), percpu.SHAPES, 60_000, 1)
    assert course.apart is not None


def test_the_chunks_hint_is_lower_than_the_comment_promises(make: Make) -> None:
    """In the kernel's code a free in a later block than the first leaves the chunk's hint below a run in that block."""
    operations = [Operation(Kind.ALLOC, 0, 28672), Operation(Kind.ALLOC, 1, 4), Operation(Kind.ALLOC, 2, 4092)]
    heap = _target(",chunks=1")()
    handles = [heap.alloc(op.size) for op in operations]
    assert handles == [0, 28672, 28676]
    heap.free(handles[2])  # in block 7, which it does not make free
    assert [(r.start, r.length) for r in heap.free_regions()] == [(28676, 4092)]
    hints = {hint.name: hint.value for hint in heap.hints() if hint.region.start in (0, 28672)}
    assert hints["block.contig"] == 4092
    assert hints["chunk.contig"] == 0
    assert heap.alloc(1) is None
    law = run(_target(",chunks=1"), [*operations, Operation(Kind.FREE, 2)])
    assert law is not None
    assert (law.law, law.expected[:21]) == ("hint-sound", "chunk.contig_by_block")


def test_a_blocks_right_run_is_lost(make: Make) -> None:
    """In the kernel's code a promoted scan hint that ends its block leaves right_free at 0."""
    found = run(_target(",chunks=1"), [Operation(Kind.ALLOC, 0, 2061), Operation(Kind.ALLOC, 1, 13, 1024),
                                       Operation(Kind.ALLOC, 2, 1)])  # fmt: skip
    assert found is not None
    assert (found.law, found.expected, found.index) == ("hint-exact", "block.right = 1008", 2)


def test_a_check_finds_the_low_hint_by_itself(make: Make) -> None:
    """Random operations of a check find it, and the minimiser leaves three operations."""
    tally = check("linux:percpu,unit=768,block=256,chunks=1", 6000, 1, only=("hint-sound",))
    (finding,) = tally.findings
    assert finding.violation.expected.startswith("chunk.contig_by_block")
    assert [op.kind for op in finding.violation.trace.operations] == [Kind.ALLOC, Kind.ALLOC, Kind.FREE]


def test_nothing_else_is_overestimated(make: Make) -> None:
    """Without that claim no hint of the kernel's exceeds the truth, and areas are sound."""
    laws = ("hint-sound", "disjoint", "in-bounds", "aligned", "contents", "zeroed", "bitmap", "counters", "tiling")
    tally = check("linux:percpu,unit=1024,block=256,chunks=3,static=100,reserved=300,claims=0", 3000, 2, only=laws)
    assert not tally.findings
    assert all(tally.evidence[law] for law in laws)


def test_a_trace_is_told_in_the_kernels_terms(make: Make) -> None:
    """Calls, changed fields in bits, slots, and what the maps contradict."""
    alone = [Operation(Kind.ALLOC, 0, 28673), Operation(Kind.ALLOC, 1, 1), Operation(Kind.FREE, 1)]
    told = tell(alone, building.library(building.cache(), "percpu"), chunks=1)
    assert told[0] == "a = __alloc_percpu(28673, 1) = 0x0"
    assert told[-4:] == [
        "free_percpu(b)",
        "    chunk_md: first_free 7170 -> 7169",
        "    md_blocks[7]: contig_hint 1022 -> 1023, contig_hint_start 2 -> 1, right_free 1022 -> 1023, "
        "first_free 2 -> 1",
        "chunk_md.contig_hint is 1022, the longest run of clear bits in alloc_map is 1023 bits at 7169",
    ]
    assert "    chunk 0 goes from slot 15 to slot 9" in told


def test_a_finding_is_told_in_the_kernels_terms(make: Make) -> None:
    """What a check finds is shown as calls and changed fields too; a model's trace, and a long one, is not."""
    command = ["check", "linux:percpu", "--law", "hint-sound", "--ops", "3000", "--jobs", "1"]
    done = CliRunner().invoke(cli, command, standalone_mode=False)
    assert done.return_value == 1, done.output
    assert "    free_percpu(b)\n        chunk_md: first_free" in done.output
    assert "    chunk_md.contig_hint is 1022, the longest run of clear bits in alloc_map is 1023 bits" in done.output
    assert "unconfirmed by its maintainers" in done.output
    assert told_of("percpu-bitmap@6.12", [Operation(Kind.ALLOC, 0, 8)]) == []
    assert told_of("linux:percpu", [Operation(Kind.ALLOC, name, 8) for name in range(13)]) == []


def test_a_comparison_says_how_far_it_went(make: Make) -> None:
    """Equal for all operations is 0, ended by time is inconclusive, and the report has no times in it."""
    one = in_lockstep("percpu-bitmap@6.12", "linux:percpu", 6000, 60.0, 1)
    assert (one.code, one.said()) == (0, "equal after each of 6,000 operations in 2 episodes, all metadata (exit 0)")
    assert one.as_data() == in_lockstep("percpu-bitmap@6.12", "linux:percpu", 6000, 60.0, 1).as_data()
    two = in_lockstep("percpu-bitmap@6.12", "linux:percpu", 6000, 1e-6, 1)
    assert two.code == 3
    assert "inconclusive" in two.said()


def test_a_comparison_shows_a_difference(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where they differ: a small trace, the kernel's own terms, and exit code 1."""
    repaired = partial(Stepwise, rev="")
    monkeypatch.setattr(percpu, "sides", lambda version: _sides(version, model=repaired))
    found = in_lockstep("percpu-bitmap@6.12", "linux:percpu", 60_000, 60.0, 1)
    assert found.code == 1
    assert found.lines()[0] == "heaplaw trace 1"
    assert "a = __alloc_percpu(1, 1) = 0x0" in found.lines()
    assert found.said() == (
        "they differ after operation 3, free a: descriptors[0] scan_hint, chunk 0, block -1: 1 and 0 (exit 1)"
    )
    assert found.as_data()["difference"] is not None


def test_pairs_without_a_model_are_refused() -> None:
    """Two models are no pair for lockstep; parameters and unknown kernels are bad input."""
    assert pair("percpu-bitmap@6.12", "linux:percpu@6.1") == ("percpu-bitmap@6.12", "linux:percpu@6.1")
    assert pair("percpu-bitmap@6.12", "percpu-bitmap") is None
    assert pair("linux:zbud@6.1", "zbud") == ("zbud", "linux:zbud@6.1")
    for model, kernel in (
        ("percpu-bitmap@6.12", "linux:percpu,chunks=1"), ("percpu-bitmap@6.12", "linux:slub"),
        ("percpu-bitmap", "linux:percpu"), ("zbud", "linux:percpu"),
    ):  # fmt: skip
        with pytest.raises(Problem):
            pair(model, kernel)


def test_heaps_do_not_disturb_each_other(make: Make) -> None:
    """Two heaps that take turns do what each does alone, though they share the kernel's variables."""
    shapes = (percpu.SHAPES[2], percpu.SHAPES[3])
    pairs = [make(shape) for shape in shapes]
    live: list[list[int]] = [[], []]
    drawn = [requests(shape, random.Random(index), live[index]) for index, shape in enumerate(shapes)]
    for at in range(1000):
        which = at // 3 % 2
        operation = next(drawn[which])
        answer = step(*pairs[which], at, operation)
        assert not isinstance(answer, Apart), str(answer)
        if operation.kind == Kind.ALLOC and isinstance(answer, int):
            live[which].append(operation.name)


def test_pages_can_be_refused(make: Make) -> None:
    """A sleeping request that gets no page is refused and leaves nothing behind; an atomic one needs pages before."""
    heap = _target(",chunks=1")()
    pages = heap.source
    assert heap.alloc(8, ctx=Context(atomic=True)) is None
    pages.fail_next(0, 1)
    assert heap.alloc(8, ctx=Context()) is None
    assert (pages.refused, pages.injected, pages.held) == (1, 1, 0)
    assert heap.alloc(5000, ctx=Context()) == 0
    assert heap.alloc(64, ctx=Context(atomic=True)) == 5000
    assert (pages.held, [count for _, count in heap.pages()]) == (2, [1, 1])


def test_the_taken_files_are_unmodified(built: Path) -> None:
    """What is compiled is byte for byte what the source has."""
    given = os.environ.get("HEAPLAW_LINUX_SOURCE")
    source = Path(given) if given else building.find_source()
    if source.is_file():
        pytest.skip("not run: a tarball is read only once, as that takes ten seconds")
    (folder,) = (built / "heaplaw/linux").iterdir()
    assert all((folder / "tree" / name).read_bytes() == (source / name).read_bytes() for name in building.PERCPU)


def _zbud() -> None:
    try:
        building.library(building.cache(), "zbud", "", 4096)
    except BuildError:
        pytest.skip("not run: this kernel has no zbud of the form of 6.1")


def test_zbud_and_its_model_are_equal(make: Make) -> None:
    """The model of zbud and the kernel's code answer the same and hold the same, whoever is asked to give up what."""
    _zbud()
    course = random_course(lockstep_zbud.sides(), lockstep_zbud.SHAPES, 9000, 1, episode=3000)
    assert (course.apart, course.operations) == (None, 9000)


def test_zbud_keeps_the_laws(make: Make) -> None:
    """A short check of the kernel's zbud finds nothing."""
    _zbud()
    tally = check("linux:zbud,pages=4", 3000, 1)
    assert not tally.findings
    assert tally.evidence["disjoint"]
    assert tally.evidence["conservation"]


class _OtherZbud(Zbud):
    def _find_unbuddied(self, chunks: int) -> int | None:
        return super()._find_unbuddied(chunks + 1)  # one list further


def test_a_changed_line_of_zbuds_model_is_caught(make: Make) -> None:
    """One changed rule of the model makes the two differ, and four operations show it."""
    _zbud()
    both = lockstep_zbud.sides(model=_OtherZbud)
    course = random_course(both, lockstep_zbud.SHAPES, 9000, 1)
    small, apart = smallest(both, course)
    assert len(small) <= 4
    assert apart.at == len(small) - 1


_SANITIZED = """
import sys
from pathlib import Path
from heaplaw.impls.native.linux.model import Stepwise
from heaplaw.properties.lockstep import random_course
from heaplaw.properties.lockstep_percpu import SHAPES, ModelSide, PercpuSide
def make(shape):
    parameters = dict(shape.parameters)
    model = ModelSide(Stepwise(**parameters))
    del parameters["block"]
    return PercpuSide(Path(sys.argv[1]), **parameters), model
small = [shape for shape in SHAPES if shape.parameters["block"] == 256]
print(random_course(make, small, 1500, 1, episode=300).apart)
"""


def test_sanitizers_see_nothing(built: Path, tmp_path: Path) -> None:
    """Kernel, shims and adapter under AddressSanitizer and UBSan, in lockstep, draw no complaint."""
    runtime = subprocess.run(["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=False)
    if not Path(runtime.stdout.strip()).is_file():
        pytest.skip("not run: gcc has no libasan.so")
    (folder,) = (built / "heaplaw/linux").iterdir()
    library = tmp_path / "percpu-256.so"
    building.compile_adapter(folder, library, "percpu", 256, building.find_compiler(), building.SANITIZERS)
    done = subprocess.run(
        [sys.executable, "-c", _SANITIZED, str(library)],
        env={**os.environ, "LD_PRELOAD": runtime.stdout.strip(), "ASAN_OPTIONS": "detect_leaks=0"},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.stdout.strip(), done.returncode) == ("None", 0), done.stderr[-2000:]
