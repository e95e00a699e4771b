"""How fast a run learns (Yu, Verma 2022), from its curve: its errors, one an epoch; other values raise ValueError."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def area_under_accuracy_curve(errors: Sequence[float]) -> float:
    """Returns the mean accuracy over all epochs (AUAC), ``1 - mean(errors)``, to compare curves of equal lengths.

    Example:
        >>> area_under_accuracy_curve([0.5, 0.25, 0.25, 0.0])
        0.75
    """
    return float(np.mean(1.0 - _curve("errors", errors)))


def epochs_to_reach(errors: Sequence[float], target: float) -> int | None:
    """Returns after how many epochs the error was first at or below a target in [0, 1]; None if never."""
    if not 0 <= target <= 1:
        raise ValueError(f"`target` must be a fraction in [0, 1], got {target!r}")
    reached = np.flatnonzero(_curve("errors", errors) <= target)
    return int(reached[0]) + 1 if reached.size else None


def epochs_saved(errors: Sequence[float], baseline_errors: Sequence[float], *, of_all: bool = False) -> float | None:
    """Returns which fraction of the baseline's epochs was saved: ``1 - reached / best``.

    ``best`` epochs took the baseline to its lowest error, ``reached`` epochs the run to that error or below. Negative
    when more epochs were needed; None if the run never got there.

    Args:
        errors: Errors of the run.
        baseline_errors: Errors of the baseline.
        of_all: Divide by all epochs of the baseline, as the paper does, which counts those after its best as saved too.

    Example:
        >>> epochs_saved([0.4, 0.2, 0.2, 0.1], baseline_errors=[0.5, 0.4, 0.3, 0.2])
        0.5
    """
    baseline = _curve("baseline_errors", baseline_errors)
    best = int(baseline.argmin())
    reached = epochs_to_reach(errors, float(baseline[best]))
    return None if reached is None else 1.0 - reached / (len(baseline) if of_all else best + 1)


def _curve(name: str, errors: Sequence[float]) -> NDArray[np.float64]:
    curve = np.asarray(errors, dtype=np.float64)
    if curve.ndim != 1 or curve.size == 0:
        raise ValueError(f"`{name}` must be a sequence of one error an epoch, got shape {curve.shape}")
    outside = np.flatnonzero(~((curve >= 0) & (curve <= 1)))  # nan, and per cents where fractions are meant
    if outside.size:
        index = outside[0]
        raise ValueError(f"`{name}` must be fractions in [0, 1], got {float(curve[index])!r} in epoch {index + 1}")
    return curve
