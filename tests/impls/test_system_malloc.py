"""Mallocs of this machine: each that is installed obeys the laws; what is wrong with one is found and said."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from heaplaw import Block, Refusal, Request, Shadow
from heaplaw.impls.naming import TargetError, is_native, parse
from heaplaw.impls.native import HEADER, system
from heaplaw.impls.native.compiling import compile_library
from heaplaw.impls.registry import factory, variants
from heaplaw.properties.plain import check

OWN = Path(__file__).parent.parent / "data/native/own_malloc.c"
STRICT = ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
HUGE = (1 << 63, (1 << 64) - 8, (1 << 64) - 1, 1 << 64)
ASKED = (
    "disjoint", "in-bounds", "aligned", "geometry", "big-enough", "contents", "realloc-prefix", "no-spurious-refusal",
    "bad-size-rejected", "drain", "limits-honest", "free-then-alloc", "handle-stable",
)  # fmt: skip
# mimalloc #700, 2.0.9 among others: blocks of 256, 512 and 1024 bytes aligned to their size lie at multiples of 128
KNOWN = {"mimalloc": {"aligned"}, "mimalloc-heap": {"aligned"}, "mimalloc-arena": {"aligned"}}
CHILD = """
import json, sys
from heaplaw.impls.naming import TargetError
from heaplaw.properties.plain import check
for name in sys.argv[1:]:
    try:
        tally = check(f"malloc:{name}", 1500, 1)
    except TargetError as problem:
        print(json.dumps([name, str(problem), [], []]), flush=True)
    else:
        broken = sorted({finding.violation.law for finding in tally.findings})
        print(json.dumps([name, "", broken, [law for law, times in tally.evidence.items() if times]]), flush=True)
"""
SANITIZED = """
import random, sys
from heaplaw.impls.native import library, system
heap, rng, live = system.Malloc(library.load(sys.argv[1]), 1 << 30), random.Random(7), []
for step in range(3000):
    if step < 2000 or not live:
        live.append(heap.alloc(rng.randrange(1 << rng.randrange(1, 18)), rng.choice((1, 2, 64, 4096, 3))))
        live = [handle for handle in live if isinstance(handle, int)]
    elif rng.random() < 0.5:
        heap.free(live.pop(rng.randrange(len(live))))
    else:
        at = rng.randrange(len(live))
        live[at] = heap.realloc(live[at], rng.randrange(1, 5000))
heap.destroy()
print(step + 1, "done")
"""

pytestmark = [
    pytest.mark.skipif(shutil.which("gcc") is None, reason="not run: there is no gcc to compile the adapter with"),
    pytest.mark.skipif(
        importlib.util.find_spec("cffi") is None, reason="not run: cffi, of the extra native, is not installed"
    ),
]


@pytest.fixture(scope="module", autouse=True)
def fresh_cache(tmp_path_factory):
    """Adapters are compiled for these tests, not taken from the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        system.adapter.cache_clear()
        yield
    system.adapter.cache_clear()


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """Compiles the malloc of our own, and names it as a target: the same in every run, as seeds depend on names."""
    home = os.getcwd()
    os.chdir(tmp_path_factory.mktemp("own"))

    def build(*flags):
        folder = Path("_".join(["own", *flags]).replace("-D", ""))
        folder.mkdir(exist_ok=True)
        flags = [*STRICT, "-O0", *flags, "-fno-builtin", "-Wl,-Bsymbolic"]  # calls its own functions
        return f"malloc:./{folder}/{compile_library([OWN], folder, flags).name}"

    yield build
    os.chdir(home)


@pytest.mark.parametrize("flags", [[], ["-DMALLOC_MI_HEAP"], ["-DMALLOC_MI_ARENA"]])
def test_adapter_has_no_warnings(flags, tmp_path):
    """The adapter compiles as strict C11 without a warning, for each way of asking."""
    assert compile_library([system.ADAPTER], tmp_path, [*STRICT, *flags]).is_file()


@pytest.fixture(scope="module")
def verdicts():
    """What is wrong with each malloc, the laws that it breaks and those that it was asked, from one child process."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *system.SYSTEMS], env={**os.environ, **system.environment()},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return {name: answer for name, *answer in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("name", system.SYSTEMS)
def test_laws(verdicts, name):
    """An installed malloc breaks no law but those of its known bugs, and every law of a malloc is asked of it."""
    problem, broken, asked = verdicts[name]
    if "is not installed" in problem and name != "glibc":
        pytest.skip(f"not run: {problem}")
    assert problem == ""
    assert set(broken) <= KNOWN.get(name, set())
    assert set(ASKED) <= set(asked)


@pytest.mark.parametrize(
    ("flag", "law"),
    [("-DOFF=8", "geometry"), ("-DFORGETS", "realloc-prefix"), ("-DSHORT=1", "big-enough"),
     ("-DACCEPTS", "bad-size-rejected"), ("-DREFUSES", "no-spurious-refusal")],
)  # fmt: skip
def test_what_is_wrong_is_found(own, flag, law):
    """Of a malloc that is right but for one line, the law that the line breaks is broken."""
    assert law in {finding.violation.law for finding in check(own(flag), 800, 1).findings}


def test_right_one_passes(own):
    """The same malloc without a wrong line breaks no law."""
    assert check(own(), 1000, 1).findings == []


def test_missing_function(own):
    """A library that lacks a function is refused with its name."""
    with pytest.raises(TargetError, match=r"has no malloc_usable_size$"):
        factory(own("-DLACKS"))


def test_alignment_is_what_an_object_may_need():
    """Small blocks need the alignment of what fits into them, all others that of every type."""
    assert [system.alignment(size) for size in (0, 1, 2, 3, 4, 7, 8, 15)] == [1, 1, 2, 2, 4, 4, 8, 8]
    assert {system.alignment(size) for size in (16, 24, 100, 1 << 20)} == {system.MAX_ALIGN}
    at = lambda place, size: system.misplaced(Block(0, place, size, 1, ((0, place, size),)))  # noqa: E731
    assert at(8, 8) is None
    assert at(8, 15) is None
    assert at(24, 16) == f"{24 % system.MAX_ALIGN} past a multiple of {system.MAX_ALIGN}, " \
                         "which an object of 16 bytes may need"  # fmt: skip


def test_what_is_owed():
    """Requests within the room are owed, sizes beyond the largest and odd alignments are not."""
    heap = Shadow()
    heap.add(Block(0, 0, 60, 1, ((0, 0, 64),)))
    owed = lambda size, align=1: system.serves(100, 50, 64, Request(size, align), heap, None)  # noqa: E731
    assert [owed(size) for size in (0, 1, 40, 41)] == [False, True, True, False]
    assert [owed(1, align) for align in (0, 3, 64, 128)] == [False, False, True, False]
    block = heap.live[0]
    assert [system.resizes(100, 50, block, size, heap) for size in (0, 1, 50, 51)] == [False, True, True, False]


def test_calls():
    """Bytes, refusals and alignments of a heap of glibc are as the C library has them."""
    heap = factory("malloc:glibc,arena=4096")()
    handle = heap.alloc(100)
    assert (heap.base + handle) % 16 == 0
    heap.write(handle, 0, b"kept" * 25)
    moved = heap.realloc(handle, 3000)
    assert heap.read(moved, 0, 100) == b"kept" * 25
    assert heap.extents(moved)[0][2] >= 3000
    assert heap.realloc(moved, 1 << 63) is None
    assert heap.alloc(1097) is None  # 3000 are live, and there is room for 4096
    assert (heap.base + heap.alloc(1000, 4096)) % 4096 == 0
    assert [heap.alloc(size) for size in HUGE] == [None, None, None, Refusal.TOO_BIG]
    assert [heap.alloc(8, align) for align in (0, 3, 24)] == [Refusal.INVALID] * 3
    assert isinstance(heap.alloc(0), int)
    assert heap.realloc(moved, 0) is Refusal.INVALID
    heap.destroy()


def test_many_blocks():
    """The set of live blocks grows, forgets what was freed, and no block of a heap is another's."""
    heaps = [factory("malloc:glibc")() for _ in range(2)]
    live = [[heap.alloc(16) for _ in range(5000)] for heap in heaps]
    assert len({*live[0], *live[1]}) == 10_000
    for heap, handles in zip(heaps, live, strict=True):
        for handle in handles[::2]:
            heap.free(handle)
        again = [heap.alloc(48) for _ in range(2000)]
        for handle in [*handles[1::2], *again]:
            heap.free(handle)
        heap.destroy()


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("malloc:none", "^no malloc 'none'; known are glibc, jemalloc"),
        ("malloc:./none.so", "^no such file: ./none.so$"),
        ("malloc:glibc,pages=4", "has no parameter 'pages'; it has arena$"),
        ("malloc:glibc,arena=0", "arena must be a number of bytes"),
        ("malloc:glibc,arena=many", "arena must be a number of bytes"),
        (f"malloc:{HEADER}", "cannot be loaded"),
    ],
)
def test_problems(name, problem):
    """What is wrong with a name is said in one line."""
    with pytest.raises(TargetError, match=problem) as told:
        factory(name)
    assert "\n" not in str(told.value)


def test_environment(monkeypatch):
    """A process that is to load any malloc is told so besides what the user tells it, who has the last word."""
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    room = "glibc.rtld.optional_static_tls=16384"
    assert system.environment() == {"GLIBC_TUNABLES": room}
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.check=3")
    assert system.environment() == {"GLIBC_TUNABLES": f"glibc.malloc.check=3:{room}"}
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.rtld.optional_static_tls=1")
    assert system.environment() == {}


def test_not_installed():
    """A malloc that this machine does not have is said to be missing, with the package that has it."""
    missing = system.System(("libheaplawnone.so.7",), "libnone7", 8)
    with pytest.raises(TargetError, match=r"^malloc:x is not installed \(Debian: libnone7\): tried libheaplawnone"):
        system.installed("malloc:x", missing)


def test_no_compiler(monkeypatch, tmp_path):
    """Without a compiler there is no adapter, and that is said."""
    monkeypatch.setenv("CC", "no-such-cc")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    system.adapter.cache_clear()
    with pytest.raises(TargetError, match=r"^no C compiler: CC is 'no-such-cc'"):
        factory("malloc:glibc")


def test_compiled_once():
    """A second heap is made from the cache."""
    system.adapter.cache_clear()
    made = system.adapter("malloc:glibc")
    before = made.stat().st_mtime_ns
    system.adapter.cache_clear()
    assert system.adapter("malloc:glibc").stat().st_mtime_ns == before
    assert sorted(made.parent.glob("tmp*")) == []


def test_sanitized(tmp_path):
    """The adapter does nothing that AddressSanitizer or UBSan object to, while its table grows and shrinks."""
    made = compile_library([system.ADAPTER], tmp_path, [*STRICT, "-DMALLOC_QUANTUM=16"], sanitized=True)
    runtime = subprocess.run(["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True).stdout
    if not Path(runtime.strip()).is_file():
        pytest.skip("not run: gcc has no libasan.so")
    environment = {**os.environ, "LD_PRELOAD": runtime.strip(), "ASAN_OPTIONS": "detect_leaks=0"}
    done = subprocess.run(
        [sys.executable, "-c", SANITIZED, str(made)], env=environment, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "3000 done\n", "")


@pytest.mark.parametrize("name", ["malloc:glibc", "malloc:mimalloc-heap,arena=4096", "malloc:./my.so"])
def test_names(name):
    """Names of mallocs are names of native targets."""
    assert is_native(name)
    assert str(parse(name)) == name
    assert variants(name) == [name]
