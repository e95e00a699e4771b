"""When to save: often enough, and never so often that a run does little else."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from labelembed.training.settings import CheckpointPolicy


class SavingTimes:
    """Says when a checkpoint is due, from how long the last took to write.

    Args:
        policy: What the recipe says.
    """

    def __init__(self, policy: CheckpointPolicy) -> None:
        self.policy = policy
        self._ended = time.monotonic()
        self._seconds = 0.0

    def is_due(self, step: int, *, epoch_ends: bool) -> bool:
        """Tells whether to save after a step.

        Args:
            step: Optimiser steps made.
            epoch_ends: Whether it was an epoch's last.
        """
        age = time.monotonic() - self._ended
        if age < self._seconds * (1 / self.policy.time_share - 1):
            return False
        every = self.policy.every_steps
        return (every is not None and step % every == 0) or (epoch_ends and age >= self.policy.minimum_seconds)

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Takes the time of a save."""
        began = time.monotonic()
        yield
        self._ended = time.monotonic()
        self._seconds = self._ended - began
