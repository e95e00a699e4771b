"""Collects the figures of the checks and prints a line for each."""

from __future__ import annotations

import functools
import re
from dataclasses import astuple

import pytest

from tests.made_survival import cases
from tests.made_training import CommandLines
from tests.reliability.figures import CHECKS, FULL, Figure, Line, Recorder

_PROPERTY = "reliability figure"


def check_of(path: str) -> str | None:
    """Returns the check whose file a path names (`tests/reliability/test_r02_kills.py`: R2)."""
    found = re.search(r"reliability/test_r(\d\d)_", path.replace("\\", "/"))
    return f"R{int(found[1])}" if found else None


@pytest.fixture
def figure(record_property):
    """Takes the figures of a test: `figure.count(what, reached, wanted)`, `figure.at_most(what, value, limit)`."""
    return Recorder(lambda one: record_property(_PROPERTY, astuple(one)))


@pytest.fixture(scope="session")
def commands(tmp_path_factory):
    """Starts command lines in processes of their own."""
    return CommandLines(tmp_path_factory.mktemp("outputs"))


@pytest.fixture(scope="session")
def kinds(tmp_path_factory):
    """The kinds of runs that are killed and signalled."""
    return cases(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="session")
def expected(tmp_path_factory, commands, kinds):
    """What a run that nobody disturbed leaves, by its kind; each is made once."""
    return functools.cache(lambda name: kinds[name].unbroken(commands, tmp_path_factory.mktemp("unbroken") / "run"))


def pytest_collection_modifyitems(items):
    if FULL:
        for item in items:
            if check_of(item.nodeid):
                item.add_marker(pytest.mark.timeout(3600))


def pytest_terminal_summary(terminalreporter):
    lines: dict[str, Line] = {}
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            check = check_of(getattr(report, "nodeid", ""))
            if check is None or (outcome == "passed" and report.when != "call"):
                continue
            line = lines.setdefault(check, Line())
            line.passed += outcome == "passed"
            line.failed += outcome in ("failed", "error")
            line.skipped += outcome == "skipped"
            for name, values in getattr(report, "user_properties", []):
                if name == _PROPERTY:
                    line.add(Figure(*values))
    if lines:
        terminalreporter.section(f"reliability, {'full' if FULL else 'short'} form")
        for check in CHECKS:
            if FULL or check in lines:
                terminalreporter.write_line(lines.get(check, Line()).text(check))
