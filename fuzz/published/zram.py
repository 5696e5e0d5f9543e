"""The zram experiment: compress a tree's pages into an allocator, then remove directories.

Joonsoo Kim's afmalloc posting (RFC, September 2014) untars a kernel tree onto a compressed
RAM disk, removes directories one after the other, and gives after each step the data stored,
its compressed size, the memory used for it and the overhead (used - compressed) in bytes and
in percent.  ``zram-linux-6.18.tsv`` beside this file is the same experiment recorded on a real
Linux 6.18 (ext4 on zram, zsmalloc with chains of up to 8 pages, lzo, Linux 6.1's source).

The disk behaves as zram does: a page filled with one word is not stored at all, one that does
not compress well enough is stored as it is, each other one as its compressed bytes.  A round
removes what is left of every file before it writes it again, as tar does.  What is discarded is
read back first, decompressed and compared with a checksum of what was written.

In a round after the first, tar unlinks what it overwrites: what it unlinked is discarded when the
journal commits, and what it wrote reaches the disk later, when dirty pages are written back.  By
how many pages later (``lag``) is fitted to the recording's second to sixth round; the first round
does not depend on it.

Left out: the file system's own pages (inode tables, directories, journal: 3 % of the recorded
data, and they compress far better than text), the order in which a kernel writes pages back (here
files follow each other in tar's order), and what two CPUs do at once.
"""

import importlib
import importlib.resources
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table

from heaplaw.impls.registry import factory
from heaplaw.protocol import Refusal

from ..options import plain_table

PAGE = 4096
FOLDERS = ("drivers", "arch", "fs", "sound", "include")
"""What the posting removes, in its order."""
LAG = 40_000
"""Pages by which writes come after unlinks: 160 MB of dirty page cache.  Fitted; see the docstring."""
STEPS = ("untar", *(f"rm {name}" for name in FOLDERS))
TARGETS = ("zsmalloc,chain=8", "afmalloc")
CLOSE = 3.0
"""Percentage points within which the recording counts as followed."""
_MOST_FOLDERS = 5
_SPARE_PAGES = 256  # for zspages and slabs that are not full


class ExperimentError(Exception):
    """The experiment cannot be made; the message says what to do."""


class Compressor(NamedTuple):
    """How pages are packed; ``unpack`` is its inverse for whole pages."""

    name: str
    pack: Callable[[bytes], bytes]
    unpack: Callable[[bytes], bytes]


def compressor(name: str) -> Compressor:
    """``lz4`` or ``lzo`` (LZO1X-1, as zram's).  Raises ExperimentError where its library is missing."""
    module, extra = {"lz4": ("lz4.block", "reproduce"), "lzo": ("lzo", "lzo")}[name]
    try:
        library = importlib.import_module(module)
    except ImportError:
        raise ExperimentError(f"{name} is not installed; run: pip install 'heaplaw[{extra}]'") from None
    if name == "lz4":
        return Compressor(
            name,
            lambda page: library.compress(page, store_size=False),
            lambda data: library.decompress(data, uncompressed_size=PAGE),
        )
    return Compressor(
        name,
        lambda page: library.compress(page, 1, False),
        lambda data: library.decompress(data, False, PAGE),
    )


class Step(NamedTuple):
    """One line of the table; bytes.  ``used``: memory of the allocator, ``pages``: in pages held for it."""

    round: int
    name: str
    target: str
    original: int
    compressed: int
    used: int
    pages: int

    @property
    def overhead(self) -> int:
        """Bytes used for each object beyond its compressed data, whole pages counted."""
        return self.pages - self.compressed

    @property
    def percent(self) -> float:
        """The overhead, of the compressed data."""
        return 100 * self.overhead / self.compressed if self.compressed else 0.0

    @property
    def real_percent(self) -> float:
        """The same without what the allocator's backing holds back for others (see ``used``)."""
        return 100 * (self.used - self.compressed) / self.compressed if self.compressed else 0.0


class Recorded(NamedTuple):
    """A line of the recording on a real kernel; bytes."""

    round: int
    name: str
    original: int
    compressed: int
    used: int

    @property
    def percent(self) -> float:
        """The overhead, of the compressed data."""
        return 100 * (self.used - self.compressed) / self.compressed


def recording() -> dict[tuple[int, str], Recorded]:
    """The recording by (round, step)."""
    text = (importlib.resources.files(__package__) / "zram-linux-6.18.tsv").read_text()
    lines = [line.split("\t") for line in text.splitlines() if line[:1].isdigit()]
    rows = [Recorded(int(number), name, *map(int, sizes[:3])) for number, name, *sizes in lines]
    return {(row.round, row.name): row for row in rows}


class Stored(NamedTuple):
    """A page on the disk: a handle in each store, the bytes packed (0: none stored) and a checksum."""

    handles: tuple[Any, ...]
    packed: int
    checksum: int


class File(NamedTuple):
    """A file of the tree, its top-level folder ("" for none) and its size in pages."""

    path: Path
    folder: str
    pages: int


class Disk:
    """A compressed disk over one or more allocators, each of which stores every page."""

    def __init__(self, targets: Sequence[str], how: Compressor, pages: int) -> None:
        self.names = tuple(targets)
        self.stores = [factory(f"{name},pages={pages}")() for name in targets]
        self.how = how
        self.original = self.compressed = 0  # bytes
        # zram stores what needs a page anyway as it is; the threshold is the allocator's
        self.huge = min(_huge_from(store.contract.limits, PAGE) for store in self.stores)

    def write(self, page: bytes) -> Stored:
        """Store one page.  Raises ExperimentError when an allocator refuses."""
        self.original += PAGE
        if page == page[:8] * (PAGE // 8):
            return Stored((), 0, zlib.crc32(page))
        packed = self.how.pack(page)
        if len(packed) >= self.huge:
            packed = page
        handles = []
        for name, store in zip(self.names, self.stores, strict=True):
            handle = store.alloc(len(packed))
            if handle is None or isinstance(handle, Refusal):
                raise ExperimentError(f"{name} refused {len(packed)} bytes after {self.compressed:,}")
            store.write(handle, 0, packed)
            handles.append(handle)
        self.compressed += len(packed)
        return Stored(tuple(handles), len(packed), zlib.crc32(page))

    def discard(self, pages: Iterable[Stored]) -> None:
        """Free pages, and compare what is read back with what was written.  Raises ExperimentError."""
        for page in pages:
            self.original -= PAGE
            self.compressed -= page.packed
            for name, store, handle in zip(self.names, self.stores, page.handles, strict=False):
                data = bytes(store.read(handle, 0, page.packed))
                if zlib.crc32(data if page.packed == PAGE else self.how.unpack(data)) != page.checksum:
                    raise ExperimentError(f"{name} lost the contents of a page of {page.packed} bytes")
                store.free(handle)

    def step(self, number: int, name: str) -> Iterator[Step]:
        """The table's lines, one for each allocator."""
        for target, store in zip(self.names, self.stores, strict=True):
            pages = store.source.held * PAGE
            used = store.counters().get("pool_bytes", pages)
            yield Step(number, name, target, self.original, self.compressed, used, pages)


def _huge_from(limits: Sequence[int], page: int) -> int:
    """Packed bytes from which a page is stored as it is: what no class below a page can hold."""
    return max((limit for limit in limits if limit < page), default=page * 3 // 4) + 1


def experiment(
    tree: Path,
    targets: Sequence[str],
    how: Compressor,
    *,
    folders: Sequence[str] = (),
    rounds: int = 1,
    lag: int = LAG,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[Step]:
    """Make the experiment and yield the table's lines as they come.  Raises ExperimentError.

    ``folders`` of ``tree`` are removed in this order.  ``lag``: pages by which writes come after
    unlinks.  ``progress`` is told the pages written and all.
    """
    files = list(_files(tree))
    total = sum(file.pages for file in files)
    if not total:
        raise ExperimentError(f"{tree} has no files with contents")
    folders = folders or default_folders(files)
    if missing := [name for name in folders if not (tree / name).is_dir()]:
        raise ExperimentError(f"{tree} has no directory {missing[0]!r}")
    disk = Disk(targets, how, total + total // 8 + _SPARE_PAGES)
    held: dict[Path, list[Stored]] = {}
    for number in range(1, rounds + 1):
        written = total * (number - 1)
        fresh: dict[Path, list[Stored]] = {}
        for file in _unlinked_ahead(disk, files, held, lag):
            fresh[file.path] = [disk.write(page) for page in _pages(file.path)]
            written += file.pages
            progress(written, total * rounds)
        held = fresh
        yield from disk.step(number, "untar")
        for name in folders:
            for file in files:
                if file.folder == name:
                    disk.discard(held.pop(file.path, ()))
            yield from disk.step(number, f"rm {name}")


def _unlinked_ahead(
    disk: Disk, files: Sequence[File], held: dict[Path, list[Stored]], lag: int
) -> Iterator[File]:
    """Files in the order in which they are written, their old pages discarded as unlinks are committed.

    tar unlinks and dirties; what it unlinked is discarded when the journal commits, ``lag`` pages
    at a time, and what it dirtied is written up to ``lag`` pages later.
    """
    coming = iter(files)
    unlinked = committed = written = 0
    old: list[Stored] = []
    for file in files:
        while unlinked - written <= lag and (next_file := next(coming, None)) is not None:
            old += held.pop(next_file.path, ())
            unlinked += next_file.pages
            if unlinked - committed >= lag:
                disk.discard(old)
                old, committed = [], unlinked
        yield file
        written += file.pages
    disk.discard(old)


def default_folders(files: Sequence[File]) -> tuple[str, ...]:
    """The posting's five where the tree has them, else the five largest, the largest first."""
    sizes: dict[str, int] = {}
    for file in files:
        if file.folder:
            sizes[file.folder] = sizes.get(file.folder, 0) + file.pages
    if set(FOLDERS) <= sizes.keys():
        return FOLDERS
    return tuple(sorted(sizes, key=lambda name: (-sizes[name], name))[:_MOST_FOLDERS])


def _files(tree: Path) -> Iterator[File]:
    """Every file, in the order in which tar has them."""
    for place, folders, names in os.walk(tree):
        folders.sort()
        inside = Path(place).relative_to(tree).parts
        for name in sorted(names):
            path = Path(place, name)
            if path.is_file() and not path.is_symlink():
                yield File(path, inside[0] if inside else "", -(-path.stat().st_size // PAGE))


def _pages(path: Path) -> Iterator[bytes]:
    """A file's pages, the last one filled up with zeros."""
    try:
        data = path.read_bytes()
    except OSError as problem:
        raise ExperimentError(f"cannot read {path}: {problem.strerror}") from problem
    for at in range(0, len(data), PAGE):
        yield data[at : at + PAGE].ljust(PAGE, b"\0")


def table(steps: Sequence[Step], recorded: Mapping[tuple[int, str], Recorded]) -> Table:
    """The posting's columns in MB (10^6 bytes), one line a step and allocator, the recording beside them."""
    shown = plain_table()
    shown.add_column("round", justify="right")
    for title in ("step", "target"):
        shown.add_column(title)
    titles = ["orig", "compr", "used", "overhead", "ratio", "real"]
    for title in [*titles, "Linux 6.18", "differs"] if recorded else titles:
        shown.add_column(title, justify="right")
    for step in steps:
        cells = [f"{n / 1e6:,.2f}" for n in (step.original, step.compressed, step.pages, step.overhead)]
        real = f"{step.real_percent:.2f}%" if step.used != step.pages else ""
        cells += [f"{step.percent:.2f}%", real]
        kernel = recorded.get((step.round, step.name)) if step.target.startswith("zsmalloc") else None
        if kernel is not None:
            cells += [f"{kernel.percent:.2f}%", f"{step.percent - kernel.percent:+.2f}"]
        shown.add_row(str(step.round), step.name, step.target, *cells)
    return shown


def as_json(step: Step) -> dict[str, Any]:
    """A line for a JSON report; bytes and percent."""
    return {**step._asdict(), "overhead": step.overhead, "percent": step.percent, "real_percent": step.real_percent}


def verdict(steps: Sequence[Step], recorded: Mapping[tuple[int, str], Recorded]) -> str:
    """How far from the recording, in one sentence."""
    distance = farthest(steps, recorded)
    if distance is None:
        return f"Not compared: the recording removes {', '.join(FOLDERS)} of Linux 6.1's source from under zsmalloc."
    how = "follows" if distance <= CLOSE else "does not follow"
    return f"zsmalloc's overhead {how} the recorded Linux 6.18: at most {distance:.2f} percentage points apart."


def farthest(steps: Sequence[Step], recorded: Mapping[tuple[int, str], Recorded]) -> float | None:
    """The largest distance of zsmalloc's overhead from the recorded one, in percentage points."""
    pairs = [(s, recorded.get((s.round, s.name))) for s in steps if s.target.startswith("zsmalloc")]
    return max((abs(step.percent - kernel.percent) for step, kernel in pairs if kernel is not None), default=None)
