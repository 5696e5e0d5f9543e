"""Hypothesis profiles for state machines and the workhorse's strategy: ``ci`` and ``dev``.

    # conftest.py
    from heaplaw.properties import profiles
    profiles.register(shared="/srv/hypothesis-examples")
    profiles.load()                  # "ci" where CI is set, else "dev"

``ci`` is the same every time and remembers nothing.  ``dev`` explores afresh and keeps
failing examples in the local database, looking into the shared, read-only one as well.

>>> register()
>>> from hypothesis import settings
>>> settings.get_profile("ci").derandomize
True
"""

import os
from pathlib import Path

from hypothesis import Phase, settings
from hypothesis.database import DirectoryBasedExampleDatabase, ExampleDatabase, MultiplexedDatabase, ReadOnlyDatabase

LOCAL = Path(".hypothesis/examples")
CI, DEV = "ci", "dev"
_CI_RUNS, _DEV_RUNS = 100, 50  # examples of each machine
_STEPS = 60  # of an example


def database(local: Path = LOCAL, shared: str | Path | None = None) -> ExampleDatabase:
    """The local database, joined by a shared one that is only read where it is given and exists."""
    own = DirectoryBasedExampleDatabase(local)
    if shared is None or not Path(shared).is_dir():
        return own
    return MultiplexedDatabase(own, ReadOnlyDatabase(DirectoryBasedExampleDatabase(shared)))


def register(shared: str | Path | None = None, local: Path = LOCAL) -> None:
    """Make the profiles known to Hypothesis.  ``shared``: a directory of examples that others found."""
    settings.register_profile(
        CI, database=None, derandomize=True, deadline=None, max_examples=_CI_RUNS, stateful_step_count=_STEPS,
        print_blob=True, phases=[phase for phase in Phase if phase not in (Phase.reuse, Phase.explain)],
    )  # fmt: skip
    settings.register_profile(
        DEV, database=database(local, shared), deadline=None, max_examples=_DEV_RUNS, stateful_step_count=_STEPS,
        print_blob=True,
    )  # fmt: skip


def load(name: str | None = None) -> None:
    """Use a profile; by default ``ci`` where the environment says CI, else ``dev``."""
    settings.load_profile(name or (CI if os.environ.get("CI") else DEV))
