"""From a kernel tree, or the package that holds one, to shared libraries that speak heaplaw's ABI.

Only the files named below (``PERCPU``, and of ``ZBUD`` to ``ZSMALLOC`` those that the tree has) are taken, as they
are, into a cache folder of the kernel's version.  Headers that they ask for and that neither the tree's part, nor
the shims, nor the C library have are made as empty files there: what they would say stands in ``shim/``.  Headers of
the C library are never hidden.

    <cache>/6.1.176/tree/mm/percpu.c ...   taken
    <cache>/6.1.176/empty/linux/mutex.h    asked for, and empty
    <cache>/6.1.176/percpu-4096.so         pages, and with them blocks, of 4096 bytes

>>> library(Path("/none"), "percpu", "6.1")
Traceback (most recent call last):
heaplaw.impls.native.linux.building.BuildError: linux:percpu@6.1 is not built: run heaplaw build-linux
"""

import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from ...caching import cache_folder
from .. import HEADER

HERE = Path(__file__).resolve().parent
MAKEFILE = "Makefile"
PERCPU = (
    "mm/percpu.c", "mm/percpu-vm.c", "mm/percpu-internal.h", "lib/find_bit.c", "lib/bitmap.c",
    "include/linux/percpu.h", "include/linux/find.h", "include/linux/bitmap.h", "include/linux/list.h",
)  # fmt: skip
ZBUD = ("mm/zbud.c", "include/linux/zpool.h")
"""Taken where the tree has them; compiled in the form of 6.1, with a list of its own to reclaim from."""
GENALLOC = ("lib/genalloc.c", "include/linux/genalloc.h", "include/linux/rculist.h")
DRM_BUDDY = (
    "drivers/gpu/drm/drm_buddy.c", "include/drm/drm_buddy.h", "include/linux/sizes.h", "lib/rbtree.c",
    "include/linux/rbtree.h", "include/linux/rbtree_augmented.h", "include/linux/rbtree_types.h",
)  # fmt: skip
"""Likewise; compiled where there is a drm_buddy.c."""
ZSMALLOC = ("mm/zsmalloc.c", "include/linux/zsmalloc.h", "include/linux/zpool.h")
"""Likewise; compiled where objects are mapped, and pages are no zpdescs yet (which they are from 6.14 on)."""
SOURCES = {"genalloc": GENALLOC[0], "drm-buddy": DRM_BUDDY[0]}
"""The file that a target is, where it is not the one of its name in mm/."""
BLOCKS = (4096, 256)
"""Bytes of a page, which is a block: a machine's, and a small one that makes traces short."""
FLAGS = (
    "-shared", "-fPIC", "-O2", "-g", "-std=gnu11", "-fno-strict-aliasing", "-fwrapv", "-Wall", "-Wextra",
    "-fvisibility=hidden", "-ffunction-sections", "-Wl,--gc-sections", "-Wl,-z,defs",
)  # fmt: skip
SANITIZERS = ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer")
_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*[<"]([^>"]+)[>"]', re.M)
_VERSION = re.compile(r"^(VERSION|PATCHLEVEL|SUBLEVEL) *= *(\d+)", re.M)
_PACKAGES = "linux-source-*.tar.xz"
_SECONDS = 300.0  # for a compiler


class BuildError(ValueError):
    """What is missing, in one line."""


class Built(NamedTuple):
    """What was made."""

    version: str
    libraries: tuple[Path, ...]


def cache() -> Path:
    """Where everything that is built lies: below XDG_CACHE_HOME, or ~/.cache."""
    return cache_folder("linux")


def find_source(folder: Path = Path("/usr/src")) -> Path:
    """The newest kernel that a package has put there.  Raises BuildError."""
    found = [path for path in (*folder.glob(_PACKAGES), *folder.glob("linux-source-*/")) if path.exists()]
    if not found:
        raise BuildError(f"no kernel source in {folder}: apt-get install linux-source, or give --source PATH")
    return max(found, key=lambda path: (version_key(path.name), path.is_dir()))


def version_key(text: str) -> tuple[int, ...]:
    """Versions in order: 6.12.9 comes after 6.1.176."""
    return tuple(int(number) for number in re.findall(r"\d+", text))


def build(source: Path, blocks: Sequence[int] = BLOCKS, sanitized: bool = False, into: Path | None = None) -> Built:
    """Take what is needed from ``source`` and compile it, mm/percpu.c once for each block size.  Raises BuildError.

    ``into`` is the folder of all versions, otherwise ``cache()``.  Some ten seconds for a tarball, one for a tree.
    """
    compiler = find_compiler()
    found = take(source, (MAKEFILE, *PERCPU), (*ZBUD, *ZSMALLOC, *GENALLOC, *DRM_BUDDY))
    version = version_of(found.pop(MAKEFILE).decode("utf-8", "replace"), source)
    folder = (into or cache()) / version
    _write(folder / "tree", found)
    _make_empty(folder, compiler)
    wanted = [("percpu", block) for block in blocks]
    if b"zbud_reclaim_page" in found.get("mm/zbud.c", b""):
        wanted.append(("zbud", 4096))
    zsmalloc = found.get("mm/zsmalloc.c", b"")
    if b"zs_map_object(" in zsmalloc and b"zpdesc" not in zsmalloc:
        wanted.append(("zsmalloc", 4096))
    wanted += [(name, 4096) for name, file in SOURCES.items() if file in found]
    made = []
    for name, block in wanted:
        target = folder / f"{name}-{block}{'-sanitized' if sanitized else ''}.so"
        compile_adapter(folder, target, name, block, compiler, SANITIZERS if sanitized else ())
        made.append(target)
    return Built(version, tuple(made))


def find_compiler() -> str:
    """CC, or gcc, or cc.  Raises BuildError."""
    for name in (os.environ.get("CC", ""), "gcc", "cc"):
        if name and shutil.which(name):
            return name
    raise BuildError("no C compiler: install gcc, or set CC")


def version_of(makefile: str, source: Path) -> str:
    """The kernel's version, by the first lines of its Makefile.  Raises BuildError."""
    parts = dict(_VERSION.findall(makefile))
    if not {"VERSION", "PATCHLEVEL"} <= parts.keys():
        raise BuildError(f"{source} is no kernel tree: its Makefile names no version")
    return ".".join(parts[name] for name in ("VERSION", "PATCHLEVEL", "SUBLEVEL") if name in parts)


# ---- what is taken ---------------------------------------------------------------------------------


def take(source: Path, names: Iterable[str], optional: Iterable[str] = ()) -> dict[str, bytes]:
    """The contents of these files of a tree or a tarball.  Raises BuildError where one that is not optional lacks."""
    needed = set(names)
    wanted = needed | set(optional)
    if source.is_dir():
        found = {name: (source / name).read_bytes() for name in wanted if (source / name).is_file()}
    elif source.is_file():
        found = _unpack(source, wanted)
    else:
        raise BuildError(f"no such file: {source}")
    if missing := sorted(needed - found.keys()):
        raise BuildError(f"{source} has no {missing[0]}")
    return found


def _unpack(tarball: Path, wanted: set[str]) -> dict[str, bytes]:
    """As far as the last file that is wanted; the tarball's own first folder does not count."""
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(tarball, "r|*") as archive:
            for member in archive:
                name = member.name.removeprefix("./").partition("/")[2]
                if name in wanted and member.isfile() and (content := archive.extractfile(member)) is not None:
                    found[name] = content.read()
                    if len(found) == len(wanted):
                        break
    except (tarfile.TarError, OSError, EOFError) as problem:
        raise BuildError(f"{tarball} cannot be read: {problem}") from problem
    return found


def _write(folder: Path, files: dict[str, bytes]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in files.items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)


def _make_empty(folder: Path, compiler: str) -> None:
    """Empty headers for those that nobody has.  A header of the C library is not hidden by one."""
    empty, tree = folder / "empty", folder / "tree"
    shutil.rmtree(empty, ignore_errors=True)
    empty.mkdir()
    asked = {name for path in tree.rglob("*.[ch]") for name in _INCLUDE.findall(path.read_text("utf-8", "replace"))}
    here = (HERE / "shim", tree, tree / "include", tree / "mm", tree / "lib")
    unknown = sorted(name for name in asked if not any((place / name).is_file() for place in here))
    lines = [f"#if __has_include(<{name}>)\nhas {index}\n#endif" for index, name in enumerate(unknown)]
    said = _run([compiler, "-E", "-P", "-x", "c", "-"], "\n".join(lines) + "\n")
    known = {int(word) for word in re.findall(r"has (\d+)", said)}
    for index, name in enumerate(unknown):
        if index not in known:
            place = empty / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()


# ---- the compiler -----------------------------------------------------------------------------------


def compile_adapter(
    folder: Path, target: Path, name: str, block: int, compiler: str, more: Sequence[str] = ()
) -> None:
    """One library; warnings of this project's code are errors, those of the kernel's are not shown.

    Raises BuildError.
    """
    if block < 256 or block > 4096 or block & (block - 1):
        raise BuildError(f"block {block} is not a power of two from 256 to 4096")
    tree = folder / "tree"
    renamed = b"pcpu_alloc_noprof" in (tree / "mm/percpu.c").read_bytes()
    unfinished = target.with_suffix(f".{os.getpid()}")
    command = [
        compiler, *FLAGS, "-Werror", *more, f"-DHEAPLAW_PAGE_SHIFT={block.bit_length() - 1}",
        *(["-DHEAPLAW_NOPROF"] if renamed else []),
        "-I", str(HERE / "shim"), "-I", str(HEADER.resolve().parent),
        "-isystem", str(tree), "-isystem", str(tree / "include"), "-isystem", str(folder / "empty"),
        str(HERE / f"{name.replace('-', '_')}_adapter.c"), "-o", str(unfinished),
    ]  # fmt: skip
    try:
        _run(command)
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


def _run(command: Sequence[str], text: str = "") -> str:
    """What a command writes.  Raises BuildError with the first line that says what is wrong."""
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as problem:
        raise BuildError(f"{command[0]}: {problem}") from problem
    if done.returncode:
        lines = done.stderr.splitlines()
        wrong = [line for line in lines if "error" in line or "undefined reference" in line]
        raise BuildError(f"{command[0]} fails: {(wrong or lines or ['without a word'])[0].strip()}")
    return done.stdout


# ---- what was built -----------------------------------------------------------------------------------


def library(folder: Path, name: str, version: str = "", block: int = 4096) -> Path:
    """The library of a target, of the newest version that begins like ``version``.  Raises BuildError."""
    said = f"linux:{name}{f'@{version}' if version else ''}"
    found = [path for path in folder.glob(f"*/{name}-{block}.so") if _is(path.parent.name, version)]
    if found:
        return max(found, key=lambda path: version_key(path.parent.name))
    others = sorted(path.stem.rpartition("-")[2] for path in folder.glob(f"*/{name}-*[0-9].so"))
    if others and (version == "" or any(_is(path.name, version) for path in folder.glob("*"))):
        raise BuildError(f"{said} is not built for block={block}, only for {', '.join(sorted(set(others)))}")
    raise BuildError(f"{said} is not built: run heaplaw build-linux")


def _is(version: str, wanted: str) -> bool:
    """6.1.176 is 6.1, but 6.12.9 is not."""
    return not wanted or version_key(version)[: len(version_key(wanted))] == version_key(wanted)
