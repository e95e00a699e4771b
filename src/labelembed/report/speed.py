"""How fast the runs of a comparison learn, as the second paper's tables have it, from their curves of errors."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from labelembed.metrics import area_under_accuracy_curve, epochs_saved, epochs_to_reach
from labelembed.report.comparison import RunRecord, Split


class RunSpeed(NamedTuple):
    """One run's curve in numbers; all None where it has no epoch with an error.

    Attributes:
        area_under_curve: Mean accuracy over the epochs (AUAC); None where the curve has a gap.
        best_accuracy: The highest accuracy of all epochs.
        best_epoch: The epoch of it, the first of equals.
        comparable: Whether there is a baseline run with the same seed and a curve.
        epochs_to_baseline: Epochs until the error was first at or below the lowest of that baseline run; None
            where it never was.
        epochs_saved: The fraction of the baseline run's epochs to its best that was saved; None where its best was
            never reached.
        epochs_saved_of_all: The same as a fraction of all its epochs, as the paper has it.
    """

    area_under_curve: float | None = None
    best_accuracy: float | None = None
    best_epoch: int | None = None
    comparable: bool = False
    epochs_to_baseline: int | None = None
    epochs_saved: float | None = None
    epochs_saved_of_all: float | None = None


def run_speed(run: RunRecord, baseline: RunRecord | None, split: Split) -> RunSpeed:
    """Returns how fast a run learned.

    Args:
        run: The run.
        baseline: The baseline's run with the same seed; None where there is none.
        split: The examples whose errors are meant.
    """
    curve = run.curve(split, "error")
    errors = _errors(curve)
    if not errors:
        return RunSpeed()
    best = int(np.argmin(errors))
    area = None if has_gap(curve) else area_under_accuracy_curve(errors)
    alone = RunSpeed(area, 1.0 - errors[best], best + 1)
    theirs = [] if baseline is None else _errors(baseline.curve(split, "error"))
    if not theirs:
        return alone
    return alone._replace(
        comparable=True,
        epochs_to_baseline=epochs_to_reach(errors, min(theirs)),
        epochs_saved=epochs_saved(errors, theirs),
        epochs_saved_of_all=epochs_saved(errors, theirs, of_all=True),
    )


def has_gap(curve: NDArray[np.float64]) -> bool:
    """Returns whether some epochs have an error and some have none."""
    return 0 < int(np.isfinite(curve).sum()) < len(curve)


def _errors(curve: NDArray[np.float64]) -> list[float]:
    """Returns the errors; one that is missing counts as 1, for that epoch reached nothing. Empty without any."""
    found: list[float] = np.nan_to_num(curve, nan=1.0).tolist() if np.isfinite(curve).any() else []
    return found
