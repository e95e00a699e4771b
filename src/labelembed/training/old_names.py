"""What version 0.1 wrote into recipes and run folders, read by the names of today: `development` is `validation`."""

from __future__ import annotations

from typing import Any

# Where the old word stands in a value; elsewhere it may be a label's own name.
_NAMED = {"by", "selected_by", "calibration", "split"}


def of_today(values: dict[str, Any], *, levels: int = 3) -> dict[str, Any]:
    """Returns JSON values with the keys and names of today in their outermost levels; every key stays in its place."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if key in _NAMED and isinstance(value, str):
            value = value.replace("development", "validation")
        elif isinstance(value, dict) and levels > 1:
            value = of_today(value, levels=levels - 1)
        found["validation" if key == "development" else key] = value
    return found
