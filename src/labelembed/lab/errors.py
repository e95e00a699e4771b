"""Errors of recipes, run folders, clusters and training; `labelembed.errors` has the others."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from labelembed.errors import LabelEmbedError


class RecipeError(LabelEmbedError):
    """A recipe, a `--set` or a variant that cannot be run. Carries *all* errors found, one line each.

    Args:
        errors: One line each, beginning with the key it is about.
        source: The file or option the errors are in, for the heading.
    """

    def __init__(self, errors: Iterable[str], *, source: str = "recipe") -> None:
        self.errors = list(errors)
        self.source = source
        super().__init__(self.errors, source)

    def __reduce__(self) -> tuple[Any, ...]:  # `source` must survive the way back from a worker process
        return (partial(type(self), source=self.source), (self.errors,))

    def __str__(self) -> str:
        if len(self.errors) == 1:
            return f"{self.source}: {self.errors[0]}" if self.source else self.errors[0]
        shown = [f"  {error}" for error in self.errors[:8]]
        if len(self.errors) > 8:
            shown.append(f"  ... and {len(self.errors) - 8} more")
        return "\n".join([f"{self.source}: {len(self.errors)} errors", *shown])


class RunFolderError(LabelEmbedError):
    """A run or comparison folder that is missing, damaged, of another recipe, or cannot be written."""


class ClusterError(LabelEmbedError):
    """A cluster that cannot make runs: not reachable, other versions, a folder that a worker does not see."""


class TrainingError(LabelEmbedError):
    """A run that began and failed, for instance a loss that is not finite."""

    exit_code = 1


class DivergedTraining(TrainingError):  # noqa: N818 - what happened, as with InterruptedTraining
    """A run whose loss, gradient or weights are not finite any more.

    Args:
        message: What is not finite, and where.
        step: The optimiser step at which it was seen, from 1.
    """

    def __init__(self, message: str, *, step: int) -> None:
        super().__init__(message)
        self.step = step

    def __reduce__(self) -> tuple[Any, ...]:  # `step` must survive the way back from a worker process
        return (partial(type(self), step=self.step), (str(self),))


class NotEnoughMemory(TrainingError):  # noqa: N818
    """A run whose steps take more memory than there is."""

    exit_code = 2


class InterruptedTraining(LabelEmbedError):  # noqa: N818 - being interrupted is no error of anybody's
    """A run stopped by a signal, after it saved where it stood."""

    def __init__(self, message: str, *, signal_number: int = 2) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number

    def __reduce__(self) -> tuple[Any, ...]:  # exit_code must survive the way back from a worker process
        return (partial(type(self), signal_number=self.exit_code - 128), (str(self),))
