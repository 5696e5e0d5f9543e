"""Packages that only some of this needs: imported when they are, missed in one line that says what to install.

>>> needed("json", FUZZ).dumps([1])
'[1]'
>>> missing("no_such_package", FUZZ)
"no_such_package is not installed: pip install 'heaplaw[fuzz]'"
"""

import importlib
import importlib.util
from typing import Any

from .options import Problem

CLUSTER, FUZZ, NATIVE, PLOTS, SYMBOLIC = "cluster", "fuzz", "native", "plots", "symbolic"
"""Extras of this distribution."""


def missing(package: str, extra: str) -> str | None:
    """Why a package cannot be imported, in one line; None when it is there."""
    if importlib.util.find_spec(package) is not None:
        return None
    return f"{package} is not installed: pip install 'heaplaw[{extra}]'"


def needed(package: str, extra: str) -> Any:
    """The package.  Raises Problem where it is not installed, or not for this Python."""
    if (why := missing(package, extra)) is not None:
        raise Problem(why)
    try:
        return importlib.import_module(package)
    except ImportError as problem:
        raise Problem(f"{package} cannot be imported: {problem}") from None
