"""Collects the figures of the checks and prints a line for each."""

from __future__ import annotations

import functools
import re
from collections import defaultdict

import pytest

from tests.made_survival import cases
from tests.made_training import CommandLines
from tests.reliability.figures import FULL

_PROPERTY = "reliability figure"


def check_of(path: str) -> str | None:
    """Returns the check whose file a path names (`tests/reliability/test_r02_kills.py`: R2)."""
    found = re.search(r"reliability/test_r(\d\d)_", path.replace("\\", "/"))
    return f"R{int(found[1])}" if found else None


class Recorder:
    """Notes a figure first, so that the table shows a missed one, then asserts it."""

    def __init__(self, note):
        self.note = note

    def count(self, what, reached, wanted):
        """So many of so many passed; those of several tests add up."""
        self.note(_PROPERTY, (what, reached, "of", wanted))
        assert reached >= wanted, f"{what}: {reached} of {wanted}"

    def at_most(self, what, reached, limit):
        """A measured value and its limit; of several tests the largest is shown."""
        self.note(_PROPERTY, (what, reached, "<=", limit))
        assert reached <= limit, f"{what}: {reached}, the limit is {limit}"


@pytest.fixture
def figure(record_property):
    """Takes the figures of a test."""
    return Recorder(record_property)


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
    figures = defaultdict(dict)
    reports = [one for outcome in ("passed", "failed") for one in terminalreporter.stats.get(outcome, [])]
    for report in reports:
        for name, value in report.user_properties:
            if name == _PROPERTY:
                what, reached, kind, wanted = value
                told = figures[check_of(report.nodeid)]
                before, of = told.get(what, (0, kind, 0))[::2]
                added = (before + reached, of + wanted) if kind == "of" else (max(before, reached), wanted)
                told[what] = added[0], kind, added[1]
    if figures:
        terminalreporter.section(f"reliability, {'full' if FULL else 'short'} form")
    for check in sorted(figures, key=lambda name: int(name[1:])):
        told = [f"{what}: {one:,.4g} {kind} {other:,.4g}" for what, (one, kind, other) in figures[check].items()]
        terminalreporter.write_line("; ".join([check, *told]))
