"""How fast the runs of a comparison learn, as the second paper's tables have it, from their curves of errors."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from labelembed.metrics import area_under_accuracy_curve, epochs_saved, epochs_to_reach
from labelembed.report.comparison import RunRecord, Split, VariantRuns


class RunSpeed(NamedTuple):
    """One run's curve in numbers; all None where it has no epoch with an error.

    Attributes:
        area_under_curve: Mean accuracy over the epochs (AUAC); None where the curve has a gap.
        best_accuracy: The highest accuracy of all epochs.
        best_epoch: The epoch of it, the first of equals.
        comparable: Whether there is a baseline run with the same seed and a curve.
        epochs_to_baseline: Epochs until the error was first at or below the lowest of that baseline run; None
            where it never was.
        epochs_saved: The fraction of the baseline run's epochs to its best that was saved, `epochs_saved`;
            None where its best was never reached.
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
        split: The rows whose errors are meant.
    """
    curve = run.error_curve(split)
    if not has_curve(curve):
        return RunSpeed()
    errors = _errors(curve)
    best = int(np.argmin(errors))
    area = None if has_gap(curve) else area_under_accuracy_curve(errors)
    alone = RunSpeed(area, 1.0 - errors[best], best + 1)
    other = None if baseline is None else baseline.error_curve(split)
    if other is None or not has_curve(other):
        return alone
    theirs = _errors(other)
    reached = epochs_to_reach(errors, min(theirs))
    return alone._replace(
        comparable=True,
        epochs_to_baseline=reached,
        epochs_saved=epochs_saved(errors, theirs),
        epochs_saved_of_all=epochs_saved(errors, theirs, of_all=True),
    )


def variant_speed(variant: VariantRuns, baseline: VariantRuns | None, split: Split) -> list[RunSpeed]:
    """Returns how fast each finished run of a variant learned, against the baseline's run with the same seed."""
    others = baseline.runs if baseline else {}
    return [run_speed(run, others.get(seed), split) for seed, run in variant.runs.items()]


def has_curve(curve: NDArray[np.float64]) -> bool:
    """Tells whether any epoch has an error."""
    return bool(np.isfinite(curve).any())


def has_gap(curve: NDArray[np.float64]) -> bool:
    """Tells whether some epochs have an error and some have none."""
    return has_curve(curve) and not bool(np.isfinite(curve).all())


def _errors(curve: NDArray[np.float64]) -> list[float]:
    # An epoch without an error reaches nothing: it counts as one in which every row was wrong.
    errors: list[float] = np.nan_to_num(curve, nan=1.0).tolist()
    return errors
