"""What a classifier's scores are worth: errors, likelihood, Brier score and calibration.

Every function takes ``logits [N, C]`` (any scores whose softmax is the forecast) and ``labels [N]``, both
anything `numpy.asarray` reads, and returns fractions; nothing here is a per cent. Rows whose label equals
`ignore_index` take no part, whatever their logits hold. All is computed in float64.

Every function raises ValueError for an empty array, for shapes that do not fit, for a row that counts and
whose largest logit is not finite (minus infinity for single labels is allowed: they have probability 0),
for labels outside 0..C-1 and when every row is ignored; and TypeError for labels that are not integers.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labelembed.metrics.forecasts import Forecasts, counted_rows, label_ranks, softmax_forecasts


class ReliabilityBins(NamedTuple):
    """A reliability diagram: the rows sorted by their top probability into bins of equal width.

    Bin b of M holds the top probabilities in (b / M, (b + 1) / M].

    Attributes:
        count: Rows in each bin ``[bins]``.
        confidence: Mean top probability in each bin ``[bins]``; nan where the bin is empty.
        accuracy: Fraction of right predictions in each bin ``[bins]``; nan where the bin is empty.
    """

    count: NDArray[np.int64]  # type: ignore[assignment]  # hides tuple.count, which nobody needs here
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]


def error_rate(logits: ArrayLike, labels: ArrayLike, *, ignore_index: int = -100) -> float:
    """Returns the fraction of rows whose highest logit is not the label's.

    Of equal highest logits the lowest label number is the prediction, as with `numpy.argmax`.

    Args:
        logits: Scores ``[N, C]``.
        labels: Right labels ``[N]``, integers in 0..C-1 or `ignore_index`.
        ignore_index: Rows with this label do not count.

    Returns:
        A fraction in [0, 1].

    Raises:
        ValueError: As described at the top of this module.
        TypeError: If the labels are not integers.

    Example:
        >>> error_rate([[2.0, 0.0], [0.0, 1.0], [3.0, 1.0], [1.0, 1.0]], [0, 1, 1, 0])
        0.25
    """
    return _error_beyond(label_ranks(*counted_rows(logits, labels, ignore_index)), 1)


def top_k_error(logits: ArrayLike, labels: ArrayLike, *, k: int = 5, ignore_index: int = -100) -> float:
    """Returns the fraction of rows whose label is not among the k highest logits.

    Equal logits are ordered by label number, lowest first, as a stable sort of the negated logits does; so
    `k` = 1 is `error_rate`, and a row of equal logits does not count as right for every label.

    Args:
        logits: Scores ``[N, C]``.
        labels: Right labels ``[N]``, integers in 0..C-1 or `ignore_index`.
        k: How many labels may be named, 1..C.
        ignore_index: Rows with this label do not count.

    Returns:
        A fraction in [0, 1].

    Raises:
        ValueError: If `k` is not in 1..C, or as described at the top of this module.
        TypeError: If the labels are not integers.

    Example:
        >>> top_k_error([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]], [1, 2], k=2)
        0.5
    """
    scores, truth = counted_rows(logits, labels, ignore_index)
    num_labels = scores.shape[1]
    if not (isinstance(k, (int, np.integer)) and 1 <= k <= num_labels):
        raise ValueError(f"`k` must be a whole number in 1..{num_labels}, the number of labels, got {k!r}")
    return _error_beyond(label_ranks(scores, truth), int(k))


def negative_log_likelihood(logits: ArrayLike, labels: ArrayLike, *, ignore_index: int = -100) -> float:
    """Returns the mean over rows of -log softmax(logits)[label], in nats.

    Args:
        logits: Scores ``[N, C]``.
        labels: Right labels ``[N]``, integers in 0..C-1 or `ignore_index`.
        ignore_index: Rows with this label do not count.

    Returns:
        Nats, 0 or more; infinite if a right label's logit is minus infinity.

    Raises:
        ValueError: As described at the top of this module.
        TypeError: If the labels are not integers.

    Example:
        >>> round(negative_log_likelihood([[0.0, 0.0]], [1]), 6)  # log 2
        0.693147
    """
    return _mean_loss(softmax_forecasts(*counted_rows(logits, labels, ignore_index)))


def brier_score(logits: ArrayLike, labels: ArrayLike, *, ignore_index: int = -100) -> float:
    """Returns the multi-class Brier score, the mean over rows of ``sum_c (p_c - [c = label])^2``.

    Args:
        logits: Scores ``[N, C]``; p is their softmax.
        labels: Right labels ``[N]``, integers in 0..C-1 or `ignore_index`.
        ignore_index: Rows with this label do not count.

    Returns:
        A number in [0, 2]: 0 for certain and right, 2 for certain and wrong.

    Raises:
        ValueError: As described at the top of this module.
        TypeError: If the labels are not integers.

    Example:
        >>> brier_score([[0.0, 0.0]], [1])
        0.5

    Reference:
        Brier (1950), Verification of forecasts expressed in terms of probability.
    """
    return float(softmax_forecasts(*counted_rows(logits, labels, ignore_index)).brier.mean())


def reliability(logits: ArrayLike, labels: ArrayLike, *, bins: int = 15, ignore_index: int = -100) -> ReliabilityBins:
    """Returns confidence and accuracy of the rows, in bins of equal width of the top probability.

    Args:
        logits: Scores ``[N, C]``; the top probability is the largest entry of a row's softmax.
        labels: Right labels ``[N]``, integers in 0..C-1 or `ignore_index`.
        bins: Number of bins M; bin b is open on the left and closed on the right, (b / M, (b + 1) / M].
        ignore_index: Rows with this label do not count.

    Returns:
        Count, mean confidence and accuracy of each bin, each ``[bins]``.

    Raises:
        ValueError: If `bins` is less than 1, or as described at the top of this module.
        TypeError: If the labels are not integers.

    Example:
        >>> reliability([[0.0, 0.0], [9.0, -999.0]], [0, 1], bins=2).accuracy.tolist()
        [1.0, 0.0]

    Reference:
        Guo et al. (2017), On calibration of modern neural networks, equations 1 and 2.
    """
    scores, truth = counted_rows(logits, labels, ignore_index)
    return binned_reliability(label_ranks(scores, truth) == 0, softmax_forecasts(scores, truth).confidence, bins=bins)


def binned_reliability(right: ArrayLike, confidence: ArrayLike, *, bins: int = 15) -> ReliabilityBins:
    """Returns what `reliability` does, of rows of which right or wrong and the top probability are known.

    Args:
        right: Whether each row's prediction is right ``[N]``.
        confidence: Top probabilities ``[N]``, in (0, 1].
        bins: Number of bins, see `reliability`.

    Raises:
        ValueError: If `bins` is less than 1.
    """
    return _reliability(np.asarray(right, dtype=np.bool_), np.asarray(confidence, dtype=np.float64), bins)


def expected_calibration_error(
    logits: ArrayLike, labels: ArrayLike, *, bins: int = 15, ignore_index: int = -100
) -> float:
    """Returns the expected calibration error, ``sum_b count_b / N |accuracy_b - confidence_b|``.

    Args:
        logits: Scores ``[N, C]``.
        labels: Right labels ``[N]``, integers in 0..C-1 or `ignore_index`.
        bins: Number of bins, see `reliability`.
        ignore_index: Rows with this label do not count.

    Returns:
        A fraction in [0, 1]: how far, on average, the top probability is from the accuracy.

    Raises:
        ValueError: If `bins` is less than 1, or as described at the top of this module.
        TypeError: If the labels are not integers.

    Example:
        >>> expected_calibration_error([[0.0, 0.0], [9.0, -999.0]], [0, 1])
        0.75

    Reference:
        Guo et al. (2017), On calibration of modern neural networks, equation 3.
    """
    return _calibration_error(reliability(logits, labels, bins=bins, ignore_index=ignore_index))


def classification_metrics(
    logits: ArrayLike, labels: ArrayLike, *, bins: int = 15, temperature: float = 1.0, ignore_index: int = -100
) -> dict[str, float]:
    """Returns all measures of one evaluation, with a single pass of the softmax.

    Args:
        logits: Scores ``[N, C]``.
        labels: Right labels ``[N]``, integers in 0..C-1 or `ignore_index`.
        bins: Number of bins of the calibration error.
        temperature: What the logits are divided by before the softmax, see `fit_temperature`. The errors are
            of the logits as they are, so no rounding moves them.
        ignore_index: Rows with this label do not count.

    Returns:
        ``error`` (`error_rate`), ``top5_error`` (`top_k_error`, only if C > 5: it is 0 otherwise), ``nll``
        (`negative_log_likelihood`), ``calibration_error`` (`expected_calibration_error`) and ``brier``
        (`brier_score`).

    Raises:
        ValueError: If `bins` is less than 1, `temperature` is not above 0 and finite, or as described at the
            top of this module.
        TypeError: If the labels are not integers.

    Example:
        >>> measured = classification_metrics([[0.0, 0.0], [9.0, -999.0]], [0, 0])
        >>> {name: round(value, 3) for name, value in measured.items()}
        {'error': 0.0, 'nll': 0.347, 'calibration_error': 0.25, 'brier': 0.25}
    """
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"`temperature` must be a finite number > 0, got {temperature!r}")
    scores, truth = counted_rows(logits, labels, ignore_index)
    ranks, forecasts = label_ranks(scores, truth), softmax_forecasts(scores, truth, temperature)
    measured = {"error": _error_beyond(ranks, 1)}
    if scores.shape[1] > 5:
        measured["top5_error"] = _error_beyond(ranks, 5)
    measured["nll"] = _mean_loss(forecasts)
    measured["calibration_error"] = _calibration_error(_reliability(ranks == 0, forecasts.confidence, bins))
    measured["brier"] = float(forecasts.brier.mean())
    return measured


def _error_beyond(ranks: NDArray[np.int64], k: int) -> float:
    return float(np.count_nonzero(ranks >= k) / len(ranks))


def _mean_loss(forecasts: Forecasts) -> float:
    return float(0.0 - forecasts.log_likelihood.mean())  # a plain minus would turn certainty into -0.0


def _reliability(correct: NDArray[np.bool_], confidence: NDArray[np.float64], bins: int) -> ReliabilityBins:
    if not (isinstance(bins, (int, np.integer)) and bins >= 1):
        raise ValueError(f"`bins` must be a whole number of at least 1, got {bins!r}")
    where = np.searchsorted(np.arange(1, bins) / bins, confidence, side="left")
    count = np.bincount(where, minlength=bins)
    occupied = np.where(count > 0, count, np.nan)
    return ReliabilityBins(
        count,
        np.bincount(where, weights=confidence, minlength=bins) / occupied,
        np.bincount(where, weights=correct, minlength=bins) / occupied,
    )


def _calibration_error(found: ReliabilityBins) -> float:
    gap = np.abs(found.accuracy - found.confidence)
    return float(np.nansum(found.count * gap) / found.count.sum())
