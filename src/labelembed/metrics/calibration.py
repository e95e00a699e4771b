"""One number that makes a classifier's probabilities honest: the temperature its logits are divided by."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labelembed.metrics.classification import blocks_of_examples, checked_examples

#: What a fitted temperature is held to.
LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.01, 100.0
#: Of fewer validation examples no temperature should be fitted: with 7 it raised a test NLL from 1.02 to 1.59.
FEWEST_CALIBRATION_EXAMPLES = 50
#: A fitted temperature outside is extreme, and worth a note.
LOWEST_USUAL_TEMPERATURE, HIGHEST_USUAL_TEMPERATURE = 0.05, 20.0


def fit_temperature(logits: ArrayLike, labels: ArrayLike) -> float:
    """Returns the temperature t at which ``softmax(logits / t)`` has the lowest negative log-likelihood.

    Soft targets leave a network under-confident, one-hot targets often over-confident. Two lines correct it, with the
    logits of the validation set::

        temperature = labelembed.fit_temperature(validation_logits, validation_labels)
        probabilities = (objective.logits(hidden) / temperature).softmax(-1)

    The order of an example's labels stays, and with it every error. The negative log-likelihood is convex in 1 / t,
    with the slope ``mean_n(sum_c p_nc logits_nc - logits_n,label)``, whose zero is searched for in log t.

    Where every example is right there is no lowest value: the likelihood grows for ever as t falls, and the first
    wrong example elsewhere would cost without limit. There each label is trusted to ``N / (N + 1)`` only, the rest
    spread over all labels, as after one more example of which nothing is known.

    A handful of examples says too little: `labelembed train` fits none below `FEWEST_CALIBRATION_EXAMPLES`, 50. This
    function takes any number.

    Args:
        logits: Scores ``[N, C]`` of examples that the classifier was not trained on; arrays, or tensors of any device.
        labels: True classes ``[N]``, integers in 0..C-1.

    Returns:
        The temperature, held to 0.01..100; 1.0 where it makes no difference (every example's logits are equal).
        Below 1 the classifier was under-confident, above 1 over-confident.

    Raises:
        ValueError: For empty arrays, shapes that do not fit, labels outside 0..C-1, logits without a finite
            maximum, and a true class whose logit is minus infinity, for then no temperature gives a
            likelihood.
        TypeError: If the labels are not integers.

    Example:
        >>> sure = [[2.0, 0.0], [2.0, 0.0], [2.0, 0.0], [2.0, 0.0]]
        >>> round(fit_temperature(sure, [0, 0, 0, 1]), 6)  # 3 of 4 are right: sigmoid(2 / t) = 0.75
        1.820478

    Reference:
        Guo et al. (2017), On calibration of modern neural networks, section 4.2.
    """
    scores, truth, predicted = checked_examples(logits, labels)
    own = np.take_along_axis(scores, truth[:, None], axis=1)[:, 0].astype(np.float64)
    impossible = np.flatnonzero(np.isneginf(own))
    if impossible.size:
        raise ValueError(f"`logits` must be finite for the right labels, got -inf in example {impossible[0]}")
    own -= scores.max(axis=1)  # the slope does not change when an example's scores are shifted
    flattest, steepest = -math.log(HIGHEST_TEMPERATURE), -math.log(LOWEST_TEMPERATURE)
    wanted = float(own.mean())
    low, high = _slope(scores, flattest, wanted), _slope(scores, steepest, wanted)
    if low == high == 0:
        return 1.0
    if high <= 0 and (predicted == truth).all():
        doubt = 1 / (len(truth) + 1)
        wanted = (1 - doubt) * wanted + doubt * _mean_score(scores)
        low, high = _slope(scores, flattest, wanted), _slope(scores, steepest, wanted)
    if low >= 0:
        return HIGHEST_TEMPERATURE
    if high <= 0:
        return LOWEST_TEMPERATURE
    from scipy.optimize import brentq  # here: importing it takes longer than most fits

    found = brentq(lambda log_inverse: _slope(scores, log_inverse, wanted), flattest, steepest, xtol=1e-10)
    return math.exp(-float(found))


def is_extreme_temperature(temperature: float) -> bool:
    """Tells whether a fitted temperature is outside 0.05 to 20, where few networks' are.

    There the scale of the logits says next to nothing of how often the network is right, or nearly every validation
    example was right.
    """
    return not LOWEST_USUAL_TEMPERATURE <= temperature <= HIGHEST_USUAL_TEMPERATURE


def _slope(scores: NDArray[np.floating], log_inverse: float, wanted: float) -> float:
    """Returns the slope of the negative log-likelihood in 1 / t: the expected score less the wanted one."""
    expected = 0.0
    for shifted, finite in _shifted(scores):
        probability = np.exp(math.exp(log_inverse) * shifted)
        # A label at minus infinity has no share in what is expected; its product with 0 would be nan.
        products = np.multiply(probability, shifted, where=finite, out=np.zeros_like(shifted))
        expected += float((products.sum(axis=1) / probability.sum(axis=1)).sum())
    return expected / len(scores) - wanted


def _mean_score(scores: NDArray[np.floating]) -> float:
    """Returns the mean of the finite scores, each less its example's largest."""
    sums = [(shifted[finite].sum(), finite.sum()) for shifted, finite in _shifted(scores)]
    total, number = np.sum(sums, axis=0)
    return float(total / number)


def _shifted(scores: NDArray[np.floating]) -> Iterator[tuple[NDArray[np.float64], NDArray[np.bool_]]]:
    """Yields, a block of examples at a time, the scores less their example's largest, and which are finite."""
    for block in blocks_of_examples(scores):
        shifted = scores[block].astype(np.float64)
        shifted -= shifted.max(axis=1, keepdims=True)
        yield shifted, np.isfinite(shifted)
