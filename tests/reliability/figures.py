"""The size of a check in its two forms, and the figure that it reached."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

# `make test-reliability` sets it; every other call of the tests takes the short form.
FULL = os.environ.get("LABELEMBED_RELIABILITY") == "full"

CHECKS = {
    "R1": "a resumed run equals an unbroken one, bit for bit",
    "R2": "SIGKILL at any moment",
    "R3": "torn or corrupted newest checkpoint",
    "R4": "disk full",
    "R5": "save errors are never swallowed",
    "R6": "SIGTERM and Ctrl-C",
    "R7": "a worker crashes",
    "R8": "NaN and infinity",
    "R9": "hostile checkpoints and run folders",
    "R10": "bad recipes and arguments",
    "R11": "bad data",
    "R12": "determinism and caches",
    "R13": "statistics",
    "R14": "two processes, one run folder",
    "R15": "old and changed runs",
    "R18": "labels of data to evaluate are matched by name, in every reader",
}

Sizes = TypeVar("Sizes")


def sized(*, short: Sizes, full: Sizes) -> Sizes:
    """Returns the size of a check for the form that runs."""
    return full if FULL else short


@dataclass(frozen=True)
class Figure:
    """One figure of one check, as a line of the table.

    Args:
        what: What was counted or measured.
        reached: How many passed, or the largest value measured.
        wanted: How many there were, or the limit.
        kind: `count`: all of them must pass, and those of several tests add up; `limit`: at most so much.
    """

    what: str
    reached: float
    wanted: float
    kind: str = "count"

    @property
    def holds(self) -> bool:
        """Tells whether the figure is what it should be."""
        return self.reached >= self.wanted if self.kind == "count" else self.reached <= self.wanted

    def __str__(self) -> str:
        between = "of" if self.kind == "count" else "<="
        return f"{self.what}: {self.reached:,.4g} {between} {self.wanted:,.4g}".replace("e+0", "e")

    def with_other(self, other: Figure) -> Figure:
        """Returns the figure over two tests."""
        if self.kind == "count":
            return Figure(self.what, self.reached + other.reached, self.wanted + other.wanted)
        return Figure(self.what, max(self.reached, other.reached), min(self.wanted, other.wanted), self.kind)


@dataclass
class Recorder:
    """What a test calls with its figures; each is noted first, so that the table shows a missed one, then asserted."""

    note: Callable[[Figure], None]

    def count(self, what: str, reached: int, wanted: int) -> None:
        """Notes that so many of so many passed."""
        self._take(Figure(what, reached, wanted))

    def at_most(self, what: str, reached: float, limit: float) -> None:
        """Notes a measured value and its limit."""
        self._take(Figure(what, reached, limit, kind="limit"))

    def _take(self, figure: Figure) -> None:
        self.note(figure)
        assert figure.holds, str(figure)


@dataclass
class Line:
    """One check in the table that is printed at the end."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    figures: dict[str, Figure] = field(default_factory=dict)

    def add(self, figure: Figure) -> None:
        """Takes in one more test's figure."""
        known = self.figures.get(figure.what)
        self.figures[figure.what] = known.with_other(figure) if known else figure

    def text(self, check: str) -> str:
        """Returns the line: check, verdict, figures, tests."""
        verdict = "FAILED" if self.failed else "passed" if self.passed else "not run"
        tests = f"{self.passed} tests" + (f", {self.failed} failed" if self.failed else "")
        tests += f", {self.skipped} skipped" if self.skipped else ""
        figures = "; ".join(map(str, self.figures.values()))
        return f"{check:<4}{CHECKS[check]}: {verdict} ({tests}){'; ' if figures else ''}{figures}"
