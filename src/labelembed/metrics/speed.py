"""How fast a run learns, from its curve of errors over epochs.

A curve is a sequence of error fractions in [0, 1], one an epoch, the first epoch first. Errors are compared
with ``<=`` as they are: two curves measured on the same examples hold the same fractions to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def area_under_accuracy_curve(errors: Sequence[float]) -> float:
    """Returns the mean accuracy over all epochs (AUAC), ``1 - mean(errors)``; larger is faster.

    Curves of different lengths are not comparable: a longer run has more late, good epochs.

    Args:
        errors: Error fraction after each epoch.

    Returns:
        A fraction in [0, 1].

    Raises:
        ValueError: If there is no epoch, or an error is not in [0, 1]; the message names the epoch.

    Example:
        >>> area_under_accuracy_curve([0.5, 0.25, 0.25, 0.0])
        0.75

    Reference:
        Yu and Verma (2022), Improving model training via self-learned label representations, table 5.
    """
    return float(np.mean(1.0 - _curve("errors", errors)))


def epochs_to_reach(errors: Sequence[float], target: float) -> int | None:
    """Returns after how many epochs the error was first at or below a target.

    Args:
        errors: Error fraction after each epoch.
        target: The error to reach, in [0, 1].

    Returns:
        A number of epochs, 1 for the first; None if the target was never reached.

    Raises:
        ValueError: If there is no epoch, or an error or the target is not in [0, 1].

    Example:
        >>> epochs_to_reach([0.5, 0.3, 0.2], 0.3)
        2
        >>> print(epochs_to_reach([0.5, 0.3, 0.2], 0.1))
        None
    """
    curve = _curve("errors", errors)
    if not 0 <= target <= 1:
        raise ValueError(f"`target` must be a fraction in [0, 1], got {target!r}")
    reached = np.flatnonzero(curve <= target)
    return int(reached[0]) + 1 if reached.size else None


def epochs_saved(errors: Sequence[float], baseline_errors: Sequence[float], *, of_all: bool = False) -> float | None:
    """Returns which fraction of the baseline's epochs was saved, ``1 - reached / best`` or ``1 - reached / all``.

    Here ``best`` is the number of epochs until the baseline first had its lowest error, and ``reached`` the
    number of epochs until the run first was at or below that error. The paper divides by all epochs of the baseline,
    which counts those after its best as saved too.

    Args:
        errors: Error fraction of the run after each epoch.
        baseline_errors: Error fraction of the baseline after each epoch, on the same examples.
        of_all: Divide by all epochs of the baseline, as the paper does, instead of those to its best.

    Returns:
        A fraction below 1: 0.5 when half the epochs were enough, 0 when as many were needed, negative when
        more were needed; None if the run never reached the baseline's best.

    Raises:
        ValueError: If a curve has no epoch, or an error is not in [0, 1].

    Example:
        >>> epochs_saved([0.4, 0.2, 0.2, 0.1], baseline_errors=[0.5, 0.4, 0.3, 0.2])
        0.5
        >>> epochs_saved([0.4, 0.2], baseline_errors=[0.5, 0.4, 0.2, 0.3], of_all=True)
        0.5

    Reference:
        Yu and Verma (2022), Improving model training via self-learned label representations, table 1,
        "Percent Time/Epoch Reduced".
    """
    baseline = _curve("baseline_errors", baseline_errors)
    best = int(baseline.argmin())
    reached = epochs_to_reach(errors, float(baseline[best]))
    return None if reached is None else 1.0 - reached / (len(baseline) if of_all else best + 1)


def _curve(name: str, errors: Sequence[float]) -> NDArray[np.float64]:
    curve = np.asarray(errors, dtype=np.float64)
    if curve.ndim != 1 or curve.size == 0:
        raise ValueError(f"`{name}` must be a sequence of one error an epoch, got shape {curve.shape}")
    # Catches nan as well, and per cents where fractions are meant.
    wrong = np.flatnonzero(~((curve >= 0) & (curve <= 1)))
    if wrong.size:
        value = float(curve[wrong[0]])
        raise ValueError(f"`{name}` must be fractions in [0, 1], got {value!r} in epoch {wrong[0] + 1}")
    return curve
