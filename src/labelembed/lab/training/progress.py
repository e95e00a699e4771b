"""What a run tells whoever watches it."""

from __future__ import annotations

from typing import Any, NamedTuple


class Progress(NamedTuple):
    """Where a run stands, for whoever watches."""

    epoch: int
    epochs: int
    batch: int
    batches: int
    seconds: float
    line: dict[str, Any] | None
    """The history's line when an epoch has just ended."""


def ignore_progress(progress: Progress) -> None:
    """Watches nothing."""
