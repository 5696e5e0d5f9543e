"""Where this user keeps what can be made again: compiled adapters, built kernel code, proofs.

>>> cache_folder("proofs").parts[-2:]
('heaplaw', 'proofs')
"""

import os
from pathlib import Path


def cache_folder(name: str) -> Path:
    """A folder below XDG_CACHE_HOME, or ~/.cache; it need not be there, and may be thrown away at any time."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "heaplaw" / name
