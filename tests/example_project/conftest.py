"""Keeps the suite's own run out of here: test_pytest_plugin.py checks a copy, without this file."""

collect_ignore_glob = ["*"]
