"""What a classifier's logits are worth: errors, F1, likelihood, Brier score, calibration.

The functions take ``logits [N, C]``, whose softmax are the predicted probabilities, and ``labels [N]``: anything that
`numpy.asarray` reads, or tensors of any device and precision. All is computed in float64, by blocks of examples, so
that 50,000 examples of 1,000 labels need no float64 copy of the whole.

They are plain numpy, for scikit-learn's functions take five to eight times as long for one evaluation, `log_loss` cuts
every loss off at 36 nats, and `top_k_accuracy_score` orders equal logits the other way round than `numpy.argmax`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Numbers in one block of examples: half a megabyte of float64 stays in a core's cache.
_BLOCK_NUMBERS = 1 << 16


class ReliabilityBins(NamedTuple):
    """A reliability diagram: the examples sorted by their top probability into bins of equal width.

    Bin b of M holds the top probabilities in (b / M, (b + 1) / M].

    Attributes:
        count: Examples in each bin ``[bins]``.
        confidence: Mean top probability in each bin ``[bins]``; nan where the bin is empty.
        accuracy: Fraction of right predictions in each bin ``[bins]``; nan where the bin is empty.
    """

    count: NDArray[np.int64]  # type: ignore[assignment]  # hides tuple.count, which nobody needs here
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]


def classification_metrics(
    logits: ArrayLike, labels: ArrayLike, *, bins: int = 15, temperature: float = 1.0
) -> dict[str, float]:
    """Returns all metrics of one evaluation, with a single pass of the softmax.

    - ``error``: fraction of examples whose highest logit is not the label's. Equal logits are ordered by label number,
      lowest first, as with `numpy.argmax`.
    - ``top5_error`` (C >= 10) or ``top2_error`` (4 <= C <= 9): fraction of examples whose label is not among the 5 or 2
      highest logits. With fewer labels it says little and is left out.
    - ``nll``: mean of ``-log softmax(logits)[label]``, in nats; infinite if a label's logit is minus infinity.
    - ``calibration_error``: ECE, ``sum_b count_b / N |accuracy_b - confidence_b|``, see `binned_reliability`.
    - ``brier``: mean of ``sum_c (p_c - [c = label])^2``, in [0, 2] (Brier 1950).
    - ``macro_f1``: mean over labels of the F1 of each, ``2 right / (examples + predictions)``; labels that are neither
      true nor predicted for any example do not count, as in scikit-learn.
    - ``balanced_accuracy``: mean over the labels that have examples of the fraction that is predicted rightly.

    Args:
        logits: Scores ``[N, C]``.
        labels: True classes ``[N]``, integers in 0..C-1.
        bins: Number of bins of the ECE.
        temperature: What the logits are divided by before the softmax, see `fit_temperature`. Which label is predicted
            comes from the logits as they are, so that no rounding moves it.

    Returns:
        The metrics by name; errors, F1, accuracy and ECE are fractions in [0, 1].

    Raises:
        ValueError: If `bins` is less than 1 or `temperature` is not above 0 and finite; for empty arrays, shapes that
            do not fit, labels outside 0..C-1, and an example whose largest logit is not finite (minus infinity for
            single labels is allowed: they have probability 0).
        TypeError: If the labels are not integers.

    Example:
        >>> measured = classification_metrics([[0.0, 0.0], [9.0, -999.0]], [0, 0])
        >>> list(measured)
        ['error', 'nll', 'calibration_error', 'brier', 'macro_f1', 'balanced_accuracy']
        >>> measured["error"], round(measured["nll"], 3), measured["calibration_error"], measured["brier"]
        (0.0, 0.347, 0.25, 0.25)
    """
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"`temperature` must be a finite number > 0, got {temperature!r}")
    scores, truth, predicted = checked_examples(logits, labels)
    num_labels = scores.shape[1]
    blocks = [_example_scores(scores[block], truth[block], temperature) for block in blocks_of_examples(scores)]
    ranks, loss, confidence, brier = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    measured = {"error": float(np.count_nonzero(ranks) / len(truth))}
    if num_labels >= 4:
        k = 5 if num_labels >= 10 else 2
        measured[f"top{k}_error"] = float(np.count_nonzero(ranks >= k) / len(truth))
    right = ranks == 0
    bins_found = binned_reliability(right, confidence, bins=bins)
    gap = np.abs(bins_found.accuracy - bins_found.confidence)
    measured["nll"] = float(loss.mean())
    measured["calibration_error"] = float(np.nansum(bins_found.count * gap) / len(truth))
    measured["brier"] = float(brier.mean())
    examples, predictions, hits = (
        np.bincount(which, minlength=num_labels) for which in (truth, predicted, truth[right])
    )
    present, seen = examples > 0, examples + predictions > 0
    measured["macro_f1"] = float(np.mean(2 * hits[seen] / (examples + predictions)[seen]))
    measured["balanced_accuracy"] = float(np.mean(hits[present] / examples[present]))
    return measured


def binned_reliability(right: ArrayLike, confidence: ArrayLike, *, bins: int = 15) -> ReliabilityBins:
    """Returns confidence and accuracy of the examples, in bins of equal width of the top probability.

    Args:
        right: Whether each prediction is right ``[N]``.
        confidence: Top probabilities ``[N]``, in (0, 1].
        bins: Number of bins M; bin b is open on the left and closed on the right, (b / M, (b + 1) / M].

    Raises:
        ValueError: If `bins` is less than 1.

    Example:
        >>> binned_reliability([True, False], [0.5, 1.0], bins=2).accuracy.tolist()
        [1.0, 0.0]

    Reference:
        Guo et al. (2017), On calibration of modern neural networks, equations 1 to 3.
    """
    if not (isinstance(bins, (int, np.integer)) and bins >= 1):
        raise ValueError(f"`bins` must be a whole number of at least 1, got {bins!r}")
    correct, top = np.asarray(right, dtype=np.bool_), np.asarray(confidence, dtype=np.float64)
    where = np.searchsorted(np.arange(1, bins) / bins, top, side="left")
    count = np.bincount(where, minlength=bins)
    occupied = np.where(count > 0, count, np.nan)
    return ReliabilityBins(
        count,
        np.bincount(where, weights=top, minlength=bins) / occupied,
        np.bincount(where, weights=correct, minlength=bins) / occupied,
    )


def checked_examples(
    logits: ArrayLike, labels: ArrayLike
) -> tuple[NDArray[np.floating], NDArray[np.int64], NDArray[np.int64]]:
    """Returns logits ``[N, C]``, labels ``[N]`` and predicted labels ``[N]``; raises as `classification_metrics`."""
    scores, given = _array(logits), _array(labels)
    if scores.ndim != 2 or given.shape != scores.shape[:1] or scores.size == 0:
        shapes = f"{scores.shape} and {given.shape}"
        raise ValueError(f"`logits` and `labels` must be [N, C] and [N], neither empty, got {shapes}")
    if given.dtype.kind not in "iu":
        raise TypeError(f"`labels` must be integers, got dtype {given.dtype}")
    if scores.dtype.kind != "f":
        scores = scores.astype(np.float64)
    truth = given.astype(np.int64)
    outside = np.flatnonzero((truth < 0) | (truth >= scores.shape[1]))
    if outside.size:
        example = outside[0]
        raise ValueError(f"`labels` must be in 0..{scores.shape[1] - 1}, got {truth[example]} in example {example}")
    # One look at the largest logit finds all that has no softmax: nan, plus infinity, all minus infinity.
    predicted = scores.argmax(axis=1)
    largest = scores[np.arange(len(scores)), predicted]
    broken = np.flatnonzero(~np.isfinite(largest))
    if broken.size:
        example = broken[0]
        raise ValueError(
            f"`logits` must have a finite maximum in every example, got {largest[example]} in example {example}"
        )
    return scores, truth, predicted


def blocks_of_examples(scores: NDArray[np.floating]) -> Iterator[slice]:
    """Returns the slices of examples to work through one after another."""
    size = max(1, _BLOCK_NUMBERS // scores.shape[1])
    for start in range(0, len(scores), size):
        yield slice(start, start + size)


def _array(values: Any) -> NDArray[Any]:
    """Returns what was given as an array; a tensor without its gradient, from its device, bfloat16 as float32."""
    if hasattr(values, "detach"):  # torch is not imported for this: reports do without it
        values = values.detach().cpu()
        values = values.float() if values.is_floating_point() and values.dtype.itemsize < 4 else values
    return np.asarray(values)


def _example_scores(
    scores: NDArray[np.floating], truth: NDArray[np.int64], temperature: float
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Returns, each ``[n]``, the label's rank and -log p[label], the largest p and the Brier score of the softmax p.

    The rank is how many labels stand before the right one in a stable sort, highest logit first.
    """
    label = truth[:, None]
    own = np.take_along_axis(scores, label, axis=1)
    ranks = np.count_nonzero((scores > own) | ((scores == own) & (np.arange(scores.shape[1]) < label)), axis=1)
    shifted = (scores.astype(np.float64) - scores.max(axis=1, keepdims=True)) / temperature
    probability = np.exp(shifted)
    total = probability.sum(axis=1)
    loss = np.log(total) - np.take_along_axis(shifted, label, axis=1)[:, 0]
    probability /= total[:, None]
    np.put_along_axis(probability, label, np.take_along_axis(probability, label, axis=1) - 1, axis=1)
    # Not exp(max log p): for C equal logits 1 / total is 1 / C to the last bit, which may be a bin's edge.
    return ranks, loss, 1 / total, np.einsum("nc,nc->n", probability, probability)
