"""The command line, run in this process."""

import sys

import pytest

from heaplaw.fuzz import cli


@pytest.fixture
def heaplaw(monkeypatch, capsys):
    """Run the command in this process: (exit code, standard output, standard error)."""

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["heaplaw", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out, err = capsys.readouterr()
        return stop.value.code, out, err

    return call
