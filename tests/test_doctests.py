"""The examples in the modules' docstrings are true of the installed package."""

import doctest
import importlib
import pkgutil

import pytest

import heaplaw

MODULES = [info.name for info in pkgutil.walk_packages(heaplaw.__path__, "heaplaw.") if info.name != "heaplaw.__main__"]


@pytest.mark.parametrize("name", ["heaplaw", *MODULES])
def test_examples(name):
    """Every example gives what it says."""
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_there_are_examples():
    """The layers' modules explain themselves by example, most of them."""
    with_examples = [name for name in MODULES if ">>>" in (importlib.import_module(name).__doc__ or "")]
    assert len(with_examples) > 15
