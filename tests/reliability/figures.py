"""The size of a check in its two forms."""

from __future__ import annotations

import os
from typing import TypeVar

# `make test-reliability` sets it; every other call of the tests takes the short form.
FULL = os.environ.get("LABELEMBED_RELIABILITY") == "full"

Sizes = TypeVar("Sizes")


def sized(*, short: Sizes, full: Sizes) -> Sizes:
    """Returns the size of a check for the form that runs."""
    return full if FULL else short
