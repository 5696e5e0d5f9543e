"""A corpus: inputs by target, each under the hash of its content.

    corpus/<target>/<sha1 of the bytes>

as libFuzzer has it, in a folder or behind a URL (see ``store``).  What is loaded is held against its name: a
damaged file is reported and never used.  Files of another codec version mean other operations, so they are
left where they are and counted aloud.

>>> import tempfile
>>> from .inputs import pack
>>> with tempfile.TemporaryDirectory() as place:
...     corpus = Corpus(place)
...     name = corpus.add("buddy", pack(bytes(12)))
...     corpus.targets(), corpus.load("buddy").inputs == {name: pack(bytes(12))}
(['buddy'], True)
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from heaplaw.impls.registry import variants
from heaplaw.trace import Trace

from .inputs import digest, encode, lift, refusal, safe_name, unpack, variant_of
from .store import StoreError, open_store

_HASH = re.compile(r"[0-9a-f]{40}")
_MOST = 1 << 20  # bytes of an input; more is none of ours


@dataclass
class Loaded:
    """The inputs of a target, and what was not used, by name and why."""

    target: str
    inputs: dict[str, bytes] = field(default_factory=dict)
    damaged: dict[str, str] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)  # whole, but of another version

    @property
    def unreadable(self) -> bool:
        """Are there files, and none of them is whole?"""
        return bool(self.damaged) and not self.inputs and not self.unknown

    def complaints(self) -> list[str]:
        """One line for the damaged, one for each reason to skip whole ones."""
        lines = []
        if self.damaged:
            name, why = next(iter(self.damaged.items()))
            others = f" and {len(self.damaged) - 1:,} more" if len(self.damaged) > 1 else ""
            lines.append(f"corpus of {self.target}: {name}{others} damaged and not used: {why}")
        for why in dict.fromkeys(self.unknown.values()):
            count = sum(reason == why for reason in self.unknown.values())
            lines.append(f"corpus of {self.target}: {count:,} input{'s' * (count > 1)} skipped: {why}")
        return lines


class Corpus:
    """Inputs of many targets at a place."""

    def __init__(self, place: str | Path) -> None:
        """``place``: a folder, made when something is added, or a URL.  Raises StoreError."""
        self.store = open_store(place)
        self.place = self.store.place

    def targets(self) -> list[str]:
        """Targets with a folder here.  Raises StoreError."""
        return [unquote(name) for name in self.store.names()]

    def names(self, target: str) -> list[str]:
        """Names of a target's inputs, as listed: nothing is read.  Raises StoreError."""
        return [name for name in self.store.names(safe_name(target)) if _HASH.fullmatch(name)]

    def add(self, target: str, data: bytes) -> str:
        """Enter an input and return its name.  Raises ValueError for bytes that are none; StoreError."""
        if why := refusal(data):
            raise ValueError(f"not an input: {why}")
        name = digest(data)
        self.store.write(f"{safe_name(target)}/{name}", data)
        return name

    def add_trace(self, target: str, trace: Trace) -> str:
        """Enter the input that is nearest to a trace.  Raises TargetError, StoreError."""
        return self.add(target, encode(trace, target))

    def load(self, target: str) -> Loaded:
        """Every input that is whole and of this version; what is not is told apart.  Raises StoreError."""
        loaded = Loaded(target)
        folder = safe_name(target)
        for name in self.store.names(folder):
            try:
                data = self.store.read(f"{folder}/{name}")
            except StoreError as problem:
                loaded.damaged[name] = str(problem)
                continue
            if _HASH.fullmatch(name) is None:
                loaded.damaged[name] = "its name is not a hash"
            elif digest(data) != name:
                loaded.damaged[name] = "its content does not hash to its name"
            elif len(data) > _MOST:
                loaded.damaged[name] = f"it has {len(data):,} bytes"
            elif why := refusal(data):
                loaded.unknown[name] = why
            else:
                loaded.inputs[name] = data
        return loaded

    def remove(self, target: str, names: Iterable[str]) -> None:
        """Delete inputs.  Raises StoreError."""
        for name in names:
            self.store.remove(f"{safe_name(target)}/{name}")

    def merge(self, other: "Corpus", targets: Iterable[str] = ()) -> tuple[int, list[str]]:
        """Take in what is whole in another corpus: how many inputs were new, and the complaints.  Raises StoreError."""
        new, complaints = 0, []
        for target in list(targets) or other.targets():
            loaded, mine = other.load(target), set(self.names(target))
            complaints += loaded.complaints()
            for name, data in loaded.inputs.items():
                if name not in mine:
                    self.add(target, data)
                    new += 1
        return new, complaints


def as_trace(target: str, data: bytes) -> Trace:
    """The operations that an input means, on the configuration that it is for.  Raises ValueError, TargetError."""
    body = unpack(data)
    if body is None:
        raise ValueError(f"not an input: {refusal(data)}")
    variant = variant_of(data, variants(target))
    return Trace(lift(variant, body).operations, {"target": variant})
