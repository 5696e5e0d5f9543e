"""Files that may be written at any moment by anybody and are whole all the same: in a folder, or behind a URL.

A file of a folder appears at once and complete, or not at all: it is written beside its place, forced to the
disk and renamed.  A URL (``s3://bucket/corpus``) is served by fsspec, whose stores do the same on their own.

>>> import tempfile
>>> with tempfile.TemporaryDirectory() as place:
...     store = open_store(place)
...     store.write("tlsf/one", b"1")
...     store.names(), store.names("tlsf"), store.read("tlsf/one")
(['tlsf'], ['one'], b'1')
"""

import os
from pathlib import Path
from typing import Any, Protocol

_SIGN = ".part-"  # in the name of a file that is being written


class StoreError(Exception):
    """A store that cannot be used; the message says why, in one line."""


class Store(Protocol):
    """Named byte strings below a place; a name may have folders in it."""

    place: str

    def names(self, folder: str = "") -> list[str]:
        """What stands in a folder, sorted; nothing where there is no such folder.  Raises StoreError."""
        ...

    def read(self, name: str) -> bytes:
        """A file's bytes.  Raises StoreError."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """Make or replace a file, as a whole.  Raises StoreError."""
        ...

    def remove(self, name: str) -> None:
        """Delete a file, if it is there.  Raises StoreError."""
        ...


def open_store(place: str | Path) -> Store:
    """The store at a folder, or at a URL that fsspec knows.  Raises StoreError."""
    text = str(place)
    if text.startswith("file://"):
        text = text.removeprefix("file://")
    return Remote(text) if "://" in text else Folder(Path(text))


def write_whole(path: Path, data: bytes, *, lasting: bool = True) -> None:
    """Make or replace a file so that nobody ever sees a part of it; ``lasting``: nor after a power cut."""
    part = path.with_name(f"{_SIGN}{os.getpid()}-{path.name}")
    with part.open("wb") as file:
        file.write(data)
        if lasting:
            file.flush()
            os.fsync(file.fileno())
    part.replace(path)
    if lasting:
        handle = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(handle)  # the name, too, must be on the disk
        finally:
            os.close(handle)


def is_part(name: str) -> bool:
    """Is this a file whose writer was interrupted?"""
    return name.startswith(_SIGN)


class Folder:
    """A store in a folder of this machine."""

    def __init__(self, path: Path) -> None:
        self.path, self.place = path, str(path)

    def names(self, folder: str = "") -> list[str]:
        try:
            return sorted(name for name in os.listdir(self.path / folder) if not is_part(name))
        except FileNotFoundError:
            return []
        except OSError as problem:
            raise StoreError(f"cannot read {self.path / folder}: {problem.strerror}") from None

    def read(self, name: str) -> bytes:
        try:
            return (self.path / name).read_bytes()
        except OSError as problem:
            raise StoreError(f"cannot read {self.path / name}: {problem.strerror}") from None

    def write(self, name: str, data: bytes) -> None:
        path = self.path / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, data)
        except OSError as problem:
            raise StoreError(f"cannot write {path}: {problem.strerror}") from None

    def remove(self, name: str) -> None:
        try:
            (self.path / name).unlink(missing_ok=True)
        except OSError as problem:
            raise StoreError(f"cannot delete {self.path / name}: {problem.strerror}") from None


class Remote:
    """A store behind a URL.  Whatever goes wrong there is a StoreError: each protocol has exceptions of its own."""

    def __init__(self, url: str) -> None:
        self.place = url
        from .extras import CLUSTER, missing  # here, since it brings along what a worker process can do without

        if (why := missing("fsspec", CLUSTER)) is not None:
            raise StoreError(f"a corpus behind a URL: {why}")
        import fsspec

        try:
            self._files, self._root = fsspec.core.url_to_fs(url)
        except Exception as problem:
            raise StoreError(f"cannot open {url}: {problem}") from None

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}".rstrip("/")

    def _do(self, what: str, name: str, *arguments: Any, **more: Any) -> Any:
        try:
            return getattr(self._files, what)(self._path(name), *arguments, **more)
        except FileNotFoundError:
            raise
        except Exception as problem:
            raise StoreError(f"{self.place}/{name}: {type(problem).__name__}: {problem}") from None

    def names(self, folder: str = "") -> list[str]:
        try:
            self._files.invalidate_cache()
            found = self._do("ls", folder, detail=False)
        except FileNotFoundError:
            return []
        own = self._path(folder)
        return sorted(path.rstrip("/").rpartition("/")[2] for path in found if path.rstrip("/") != own)

    def read(self, name: str) -> bytes:
        try:
            return bytes(self._do("cat_file", name))
        except FileNotFoundError:
            raise StoreError(f"{self.place}/{name}: no such file") from None

    def write(self, name: str, data: bytes) -> None:
        parent = name.rpartition("/")[0]
        self._do("makedirs", parent, exist_ok=True)
        self._do("pipe_file", name, data)

    def remove(self, name: str) -> None:
        try:
            self._do("rm_file", name)
        except FileNotFoundError:
            return
