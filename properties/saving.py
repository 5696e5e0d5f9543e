"""Counterexamples as files.

>>> import tempfile
>>> with tempfile.TemporaryDirectory() as folder:
...     path = save(Trace(header={"target": "tlsf"}), Path(folder, "new"), "my heap.py:Heap-disjoint")
...     path.name, path.read_text()
('my_heap.py_Heap-disjoint.trace', 'heaplaw trace 1\\ntarget tlsf\\n')
"""

import re
from pathlib import Path

from heaplaw.trace import Trace


def save(trace: Trace, folder: Path, name: str) -> Path:
    """Write a trace into a folder, made where there is none, under a name that every file system takes.

    What stood there under that name is overwritten: the same target and law, found again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (re.sub(r"[^\w.@+=,-]+", "_", name) + ".trace")
    path.write_text(str(trace))
    return path
