"""The temperature that logits are divided by so that probabilities are calibrated."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labelembed.metrics.classification import checked_examples, shifted_blocks

LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.01, 100.0
#: Of fewer validation examples no temperature should be fitted: with 7 it raised a test NLL from 1.02 to 1.59.
FEWEST_CALIBRATION_EXAMPLES = 50


def fit_temperature(logits: ArrayLike, labels: ArrayLike) -> float:
    """Returns the temperature t at which ``softmax(logits / t)`` has the lowest negative log-likelihood.

    Temperature scaling (Guo et al. 2017, section 4.2). The negative log-likelihood is convex in 1 / t, with the slope
    ``mean_n(sum_c p_nc logits_nc - logits_n,label)``, whose zero is searched for in log t. Where every example is
    correct there is none; there each label is trusted to ``N / (N + 1)`` only, the rest spread over all labels, as
    after one more example of which nothing is known.

    Args:
        logits: Scores [N, C] of examples that the classifier was not trained on; arrays, or tensors of any device.
        labels: True classes [N], integers in 0..C-1.

    Returns:
        The temperature, held to 0.01..100: below 1 the classifier was under-confident. 1.0 where all logits are equal.

    Raises:
        ValueError, TypeError: As `classification_metrics`; and for a true class whose logit is minus infinity.

    Example:
        >>> sure = [[2.0, 0.0], [2.0, 0.0], [2.0, 0.0], [2.0, 0.0]]
        >>> round(fit_temperature(sure, [0, 0, 0, 1]), 6)  # 3 of 4 are correct: sigmoid(2 / t) = 0.75
        1.820478
    """
    scores, truth, predicted = checked_examples(logits, labels)
    own = np.take_along_axis(scores, truth[:, None], axis=1)[:, 0].astype(np.float64)
    if np.isneginf(own).any():
        raise ValueError(f"`logits` must be finite for the true class, got -inf in example {own.argmin()}")
    target = float((own - scores.max(axis=1)).mean())  # shifting an example's scores does not change the slope
    flattest, steepest = -math.log(HIGHEST_TEMPERATURE), -math.log(LOWEST_TEMPERATURE)
    low, high = _slope(scores, flattest, target), _slope(scores, steepest, target)
    if low == high == 0:
        return 1.0
    if high <= 0 and (predicted == truth).all():
        doubt = 1 / (len(truth) + 1)
        target = (1 - doubt) * target + doubt * _mean_score(scores)
        low, high = _slope(scores, flattest, target), _slope(scores, steepest, target)
    if low >= 0:
        return HIGHEST_TEMPERATURE
    if high <= 0:
        return LOWEST_TEMPERATURE
    from scipy.optimize import brentq  # here: importing it takes longer than most fits

    log_inverse = brentq(lambda log_inverse: _slope(scores, log_inverse, target), flattest, steepest, xtol=1e-10)
    return math.exp(-float(log_inverse))


def _slope(scores: NDArray[np.floating], log_inverse: float, target: float) -> float:
    """Returns the slope of the negative log-likelihood in 1 / t: the expected score less the target."""
    expected = 0.0
    for block, shifted in shifted_blocks(scores):
        probability = np.exp(math.exp(log_inverse) * shifted)
        # A label at minus infinity has no share in what is expected; its product with 0 would be nan.
        products = np.multiply(probability, shifted, where=np.isfinite(scores[block]), out=np.zeros_like(shifted))
        expected += float((products.sum(axis=1) / probability.sum(axis=1)).sum())
    return expected / len(scores) - target


def _mean_score(scores: NDArray[np.floating]) -> float:
    """Returns the mean of the finite scores, each less its example's largest."""
    total = sum(float(shifted[np.isfinite(shifted)].sum()) for _, shifted in shifted_blocks(scores))
    return total / np.count_nonzero(np.isfinite(scores))
