"""The kernel's own zsmalloc: that the models do what it does, and that it keeps the laws.

What needs a kernel's source or a compiler is skipped, with the reason, where there is none.  Every kernel that
``heaplaw build-linux`` has taken something of is compiled afresh; otherwise HEAPLAW_LINUX_SOURCE, or the newest of
/usr/src, is taken.  What these tests show of shipped code is unconfirmed by its maintainers.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from heaplaw import Refusal
from heaplaw.fuzz.lockstepping import in_lockstep, pair
from heaplaw.fuzz.options import Problem
from heaplaw.impls import naming, registry
from heaplaw.impls.native.linux import building
from heaplaw.impls.native.linux.building import BuildError
from heaplaw.impls.native.linux.zsmalloc import is_of_four
from heaplaw.impls.native.linux.zsmalloc_model import Twelve
from heaplaw.impls.zsmalloc import Zsmalloc
from heaplaw.impls.zsmalloc_classes import EMPTY
from heaplaw.impls.zsmalloc_zspages import PoolClass, Zspage
from heaplaw.operations import Kind, Operation
from heaplaw.properties import lockstep_zsmalloc as lockstep
from heaplaw.properties.lockstep import Apart, compare, random_course, smallest
from heaplaw.properties.plain import check

SOURCE = "mm/zsmalloc.c"
COMPACT = Operation(Kind.MAINTAIN, mode="compact")


# ---- without a kernel ------------------------------------------------------------------------------------


def test_what_is_not_built_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a kernel the target is refused in one line, and pairs are known nevertheless."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(naming.TargetError, match=r"linux:zsmalloc@6.1 is not built: run heaplaw build-linux"):
        registry.factory("linux:zsmalloc@6.1")
    assert pair("linux:zsmalloc@6.1", "zsmalloc") == ("zsmalloc", "linux:zsmalloc@6.1")
    with pytest.raises(Problem):
        in_lockstep("zsmalloc", "linux:zsmalloc", 1, 1.0, 1)


def test_the_later_model_keeps_what_the_earlier_one_promises() -> None:
    """Twelve lists and the later compaction end with as few zspages, and lists named by their fullness."""
    pool = Twelve(pages=64)
    handles = [pool.alloc(500) for _ in range(40)]
    for handle in handles[::3]:
        assert isinstance(handle, int)
        pool.free(handle)
    held = pool.source.held
    done = pool.maintain("compact")
    assert done.pages_freed == held - pool.source.held > 0
    assert sorted(listed.list_id for listed in pool.lists()) == [(30, "full")] * 2 + [(30, "to 70%")] * 2  # type: ignore[type-var]


# ---- with one ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with every kernel at hand, its zsmalloc compiled; skips where that cannot be."""
    pytest.importorskip("cffi", reason="not run: cffi is missing")
    cache = tmp_path_factory.mktemp("cache")
    try:
        compiler = building.find_compiler()
        taken = [path.parents[1].parent for path in building.cache().glob(f"*/tree/{SOURCE}")]
        for folder in taken or [_take(tmp_path_factory.mktemp("taken"))]:
            there = cache / "heaplaw/linux" / folder.name
            _copy(folder, there)
            building.compile_adapter(there, there / "zsmalloc-4096.so", "zsmalloc", 4096, compiler)
    except BuildError as problem:
        pytest.skip(f"not run: {problem}")
    return cache


def _take(into: Path) -> Path:
    """What is needed of the source at hand, in a folder of its version."""
    given = os.environ.get("HEAPLAW_LINUX_SOURCE")
    source = Path(given) if given else building.find_source()
    found = building.take(source, (building.MAKEFILE, *building.PERCPU, *building.ZSMALLOC))
    folder = into / building.version_of(found.pop(building.MAKEFILE).decode(), source)
    building._write(folder / "tree", found)
    building._make_empty(folder, building.find_compiler())
    return folder


def _copy(folder: Path, there: Path) -> None:
    for part in ("tree", "empty"):
        shutil.copytree(folder / part, there / part)


@pytest.fixture
def versions(kernels: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kernels' versions; their cache is the one that is looked in."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(kernels))
    return sorted(path.name for path in building.cache().iterdir())


def _pool(version: str, settings: str = "") -> Any:
    return registry.factory(f"linux:zsmalloc@{version}{settings}")()


def test_models_and_kernels_are_equal(versions: list[str]) -> None:
    """The model of its time and the kernel's code answer the same and hold the same, in every shape."""
    for version in versions:
        course = random_course(lockstep.sides(version), lockstep.SHAPES, 4000, 4, episode=1000)
        assert (course.apart, course.operations) == (None, 4000), version


class _AsksFirst(Zsmalloc):
    """As the model was before it was compared: a zspage leaves its list only where compaction is worth it."""

    def _compact(self, owner: PoolClass) -> int:
        if owner.allocated - owner.used < owner.kind.objects:
            return 0
        return super()._compact(owner)


class _Fuller(Zsmalloc):
    """The fuller zspage of two goes second, not the emptier one."""

    class _PoolClass(PoolClass):
        __slots__ = ()

        def insert(self, zspage: Zspage, group: int) -> None:
            first = self.heads[group].after
            super().insert(zspage, group)
            if first.after is not first and first.pages and zspage.inuse > first.inuse:
                self.remove(zspage)
                zspage.group = group
                self._link(first, zspage)


class _EmptiestFirst(Twelve):
    """A request is served from the emptiest zspage."""

    def _find(self, owner: PoolClass) -> Zspage | None:
        return owner.first(tuple(range(EMPTY, len(owner.heads) - 1)))


def test_changed_rules_of_the_models_are_caught(versions: list[str]) -> None:
    """One changed rule of a model makes the two differ."""
    for version in versions:
        make = lockstep.sides(version, model=_Fuller if is_of_four(version) else _EmptiestFirst)
        course = random_course(make, lockstep.SHAPES[1:3], 10_000, 2, episode=1000)
        assert course.apart is not None
    if not is_of_four(versions[0]):
        pytest.skip("not run to the end: a kernel before 6.3 is not at hand")


def test_compaction_that_is_not_worth_it_still_changes_the_order(versions: list[str]) -> None:
    """In 6.1 a sparse zspage that compaction takes off its list and puts back stands second behind a fuller one."""
    if not is_of_four(versions[0]):
        pytest.skip("not run: a kernel before 6.3 is not at hand")
    born = [Operation(Kind.ALLOC, name, 1000) for name in range(16)]  # four zspages of one page
    freed = [Operation(Kind.FREE, name) for name in (0, 4, 5)]  # 3 of 4 slots, then 3 and 2, of which that one is first
    shape = lockstep.SHAPES[1]
    found = compare(*lockstep.sides(versions[0], model=_AsksFirst)(shape), [*born, *freed, COMPACT])
    assert isinstance(found, Apart)
    assert found.what.startswith("zspages[")
    assert compare(*lockstep.sides(versions[0])(shape), [*born, *freed, COMPACT]) is None


def _changed(version: str, folder: Path, old: bytes, new: bytes) -> Path:
    """A cache with a kernel of another ``mm/zsmalloc.c``."""
    there = folder / "heaplaw/linux" / version
    _copy(building.cache() / version, there)
    place = there / "tree" / SOURCE
    text = place.read_bytes()
    assert old in text
    place.write_bytes(text.replace(old, new, 1))
    compiler = building.find_compiler()
    building.compile_adapter(there, there / "zsmalloc-4096.so", "zsmalloc", 4096, compiler, ("-O0",))
    return folder


def test_a_changed_line_of_the_kernel_is_caught(versions: list[str], tmp_path: Path) -> None:
    """One changed comparison in a copy of mm/zsmalloc.c makes the two differ, in a few operations."""
    lines = ((b"inuse <= 3 * objs_per_zspage", b"inuse < 3 * objs_per_zspage"),
             (b"if (waste < min_waste) {", b"if (waste <= min_waste) {"))  # fmt: skip
    for version in versions:
        folder = _changed(version, tmp_path, *lines[0 if is_of_four(version) else 1]) / "heaplaw/linux"
        make = lockstep.sides(version, folder)
        course = random_course(make, lockstep.SHAPES, 5000, 1)
        small, apart = smallest(make, course)
        assert apart.at == len(small) - 1 < 6
        assert apart.what.partition("[")[0] in ("stats", "table")


def test_a_changed_line_of_the_kernel_breaks_a_law(
    versions: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy that writes the first word back with the object loses handles, which a check finds by itself."""
    folder = _changed(versions[-1], tmp_path, b"\tbuf = buf + ZS_HANDLE_SIZE;", b"\tbuf = buf + 0;")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    (finding,) = check(f"linux:zsmalloc@{versions[-1]},pages=8", 4000, 1).findings
    assert finding.violation.law == "contents"


def test_it_keeps_the_laws(versions: list[str]) -> None:
    """A short check with mappings, and one without, finds nothing; all laws that can be asked were asked."""
    asked = {
        "disjoint", "contents", "conservation", "counters", "bitmap", "size-class", "geometry", "waste-bound",
        "metadata-bound", "compaction-progress", "handle-stable", "no-spurious-refusal", "drain",
    }  # fmt: skip
    for version in versions:
        seen: set[str] = set()
        for settings in (",pages=24", ",pages=10,cpus=0"):
            tally = check(f"linux:zsmalloc@{version}{settings}", 2500, 3)
            assert not tally.findings
            seen |= {law for law, count in tally.evidence.items() if count}
        assert asked <= seen


def test_objects_are_seen_through_one_mapping(versions: list[str]) -> None:
    """A mapped object that straddles is seen in the CPU's buffer, others meanwhile where they lie; all are kept."""
    for version in versions:
        pool = _pool(version)
        handles = [pool.alloc(3000) for _ in range(4)]
        straddling = next(handle for handle in handles if len(pool.extents(handle)) == 2)
        other = next(handle for handle in handles if handle != straddling)
        pool.write(other, 0, b"one" * 1000)
        pool.map(straddling)
        pool.write(straddling, 0, b"two" * 1000)
        assert (pool.read(straddling, 0, 3000), pool.counters()["mapped_objects"]) == (b"two" * 1000, 1)
        assert pool.read(other, 0, 3000) == b"one" * 1000
        with pytest.raises(RuntimeError, match="heaplaw_map answered 1"):
            pool.map(other)
        pool.unmap(straddling)
        assert [pool.read(handle, 0, 3000)[:3] for handle in (straddling, other)] == [b"two", b"one"]
        assert pool.counters()["mapped_objects"] == 0


def test_compaction_and_migration_wait_for_no_mapping(versions: list[str]) -> None:
    """While an object is mapped nothing moves; afterwards both move objects, and their contents go with them."""
    for version in versions:
        pool = _pool(version)
        handles = [pool.alloc(1000) for _ in range(40)]
        for handle in handles:
            pool.write(handle, 0, handle.to_bytes(2, "little") * 500)
        kept = handles[::3]
        for handle in set(handles) - set(kept):
            pool.free(handle)
        places = [pool.extents(handle) for handle in kept]
        pool.map(kept[0])
        assert [pool.maintain(kind)[:2] for kind in ("compact", "migrate")] == [(0, 0), (0, 0)]
        pool.unmap(kept[0])
        compacted, migrated = pool.maintain("compact"), pool.maintain("migrate")
        assert compacted.pages_freed == 40 // 4 - -(-len(kept) // 4)
        assert (migrated.pages_freed, migrated.moved) == (0, len(kept))
        assert all(pool.extents(handle) != place for handle, place in zip(kept, places, strict=True))
        assert all(pool.read(handle, 0, 2) == handle.to_bytes(2, "little") for handle in kept)


def test_pages_can_be_refused(versions: list[str]) -> None:
    """A zspage whose second page is refused gives its first one back; sizes and misuse are told apart."""
    for version in versions:
        pool = _pool(version, ",pages=8")
        first = pool.alloc(3000)
        held = pool.source.held
        pool.source.fail_next(0, 1)
        assert pool.alloc(100) is None
        assert (pool.source.refused, pool.source.injected, pool.source.held) == (1, 1, held)
        assert [pool.alloc(size) for size in (0, 4097)] == [Refusal.INVALID, Refusal.TOO_BIG]
        assert pool._lib.heaplaw_free(pool.heap, first + 1) == pool._lib.heaplaw_free(pool.heap, 8 * 99) == 1
        pool.free(first)
        assert pool.source.held == 0


def test_a_comparison_says_how_far_it_went(versions: list[str]) -> None:
    """``heaplaw compare`` chooses the model by the kernel's version, and is the same every time."""
    for version in versions:
        one, two = (in_lockstep("zsmalloc", f"linux:zsmalloc@{version}", 600, 60.0, 1) for _ in range(2))
        assert one.said() == "equal after each of 600 operations in 1 episodes, all metadata (exit 0)"
        assert (one.version, one.as_data()) == (version, two.as_data())


_SANITIZED = """
import sys
from pathlib import Path
from heaplaw.impls.native.linux.zsmalloc import LinuxZsmalloc, is_of_four
from heaplaw.impls.native.linux.zsmalloc_model import Twelve
from heaplaw.impls.zsmalloc import Zsmalloc
from heaplaw.properties.lockstep import random_course
from heaplaw.properties.lockstep_zsmalloc import SHAPES, KernelPool, ModelPool
built = Path(sys.argv[1])
model = Zsmalloc if is_of_four(built.parent.name) else Twelve
def make(shape):
    pages = shape.parameters["pages"]
    return KernelPool(built, pages=pages), ModelPool(model(pages))
pool = LinuxZsmalloc(built, pages=128)
handles = [pool.alloc(size) for size in range(100, 3000, 190)]
for handle in handles:
    pool.map(handle)
    pool.write(handle, 0, b"ab")
    pool.unmap(handle)
pool.maintain("migrate")
print({pool.read(handle, 0, 2) for handle in handles}, random_course(make, SHAPES, 1600, 1, episode=400).apart)
"""


def test_sanitizers_see_nothing(versions: list[str], tmp_path: Path) -> None:
    """Kernel, shims and adapter under AddressSanitizer and UBSan, in lockstep, draw no complaint."""
    runtime = subprocess.run(["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=False)
    if not Path(runtime.stdout.strip()).is_file():
        pytest.skip("not run: gcc has no libasan.so")
    for version in versions:
        library = tmp_path / version / "zsmalloc-4096.so"
        library.parent.mkdir()
        folder, compiler = building.cache() / version, building.find_compiler()
        building.compile_adapter(folder, library, "zsmalloc", 4096, compiler, building.SANITIZERS)
        done = subprocess.run(
            [sys.executable, "-c", _SANITIZED, str(library)],
            env={**os.environ, "LD_PRELOAD": runtime.stdout.strip(), "ASAN_OPTIONS": "detect_leaks=0"},
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert (done.stdout.strip(), done.returncode) == ("{b'ab'} None", 0), done.stderr[-2000:]


def test_the_taken_file_is_unmodified(versions: list[str]) -> None:
    """What is compiled is byte for byte what the kernel tree has."""
    given = os.environ.get("HEAPLAW_LINUX_SOURCE")
    if not given or not Path(given).is_dir():
        pytest.skip("not run: HEAPLAW_LINUX_SOURCE names no tree, and a tarball takes ten seconds to read")
    tree = Path(given)
    version = building.version_of((tree / building.MAKEFILE).read_text(), tree)
    if version not in versions:
        pytest.skip(f"not run: {version} is not among those compiled")
    assert (building.cache() / version / "tree" / SOURCE).read_bytes() == (tree / SOURCE).read_bytes()
