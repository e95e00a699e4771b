"""The checks of docs/reliability.md, and the size of a check in its two forms."""

from __future__ import annotations

import os
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
