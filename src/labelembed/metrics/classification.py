"""What a classifier's logits are worth: errors, F1, likelihood, Brier score, calibration, risk and coverage.

Arguments are anything that `numpy.asarray` reads, or tensors of any device and precision. All is computed in float64,
by blocks of examples, so that 50,000 examples of 1,000 labels need no float64 copy.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

_BLOCK_NUMBERS = 1 << 16  # half a megabyte of float64 stays in a core's cache


def classification_metrics(
    logits: ArrayLike, labels: ArrayLike, *, bins: int = 15, temperature: float = 1.0
) -> dict[str, float]:
    """Returns all metrics of one evaluation, with a single pass of the softmax p.

    - ``error``: fraction of examples whose highest logit is not the label's; of equal logits the lowest label counts.
    - ``top5_error`` (C >= 10) or ``top2_error`` (4 <= C <= 9): whose label is not among the 5 or 2 highest logits.
    - ``nll``: mean of ``-log p[label]``, in nats; infinite if a label's logit is minus infinity.
    - ``calibration_error``: ECE, ``sum_b count_b / N |accuracy_b - confidence_b|``, see `binned_reliability`.
    - ``brier``: mean of ``sum_c (p_c - [c = label])^2``, in [0, 2] (Brier 1950).
    - ``macro_f1``: mean of ``2 correct / (examples + predictions)`` over the labels that are true or predicted.
    - ``balanced_accuracy``: mean of ``correct / examples`` over the labels that have examples.
    - ``aurc`` and the others of `risk_coverage`.

    Args:
        logits: Scores [N, C].
        labels: True classes [N], integers in 0..C-1.
        bins: Number of bins of the ECE.
        temperature: What the logits are divided by before the softmax, see `fit_temperature`.

    Raises:
        ValueError: If `bins` or `temperature` is out of range; for empty arrays, shapes that do not fit, labels outside
            0..C-1, and an example whose largest logit is not finite (others may be minus infinity).
        TypeError: If the labels are not integers.

    Example:
        >>> metrics = classification_metrics([[0.0, 0.0], [9.0, -999.0]], [0, 0])
        >>> metrics["error"], round(metrics["nll"], 3), metrics["calibration_error"], metrics["brier"]
        (0.0, 0.347, 0.25, 0.25)
    """
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"`temperature` must be a finite number > 0, got {temperature!r}")
    scores, truth, predicted = checked_examples(logits, labels)
    num_labels = scores.shape[1]
    blocks = [_example_scores(scores[at], shifted / temperature, truth[at]) for at, shifted in shifted_blocks(scores)]
    ranks, loss, confidence, brier = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    correct = ranks == 0
    metrics = {"error": float(np.mean(~correct))}
    if num_labels >= 4:
        k = 5 if num_labels >= 10 else 2
        metrics[f"top{k}_error"] = float(np.mean(ranks >= k))
    sizes, mean_confidence, accuracy = binned_reliability(correct, confidence, bins=bins)
    examples, predictions, hits = (np.bincount(of, minlength=num_labels) for of in (truth, predicted, truth[correct]))
    present, seen = examples > 0, examples + predictions > 0
    return metrics | {
        "nll": float(loss.mean()),
        "calibration_error": float(np.nansum(sizes * np.abs(accuracy - mean_confidence)) / len(truth)),
        "brier": float(brier.mean()),
        "macro_f1": float(np.mean(2 * hits[seen] / (examples + predictions)[seen])),
        "balanced_accuracy": float(np.mean(hits[present] / examples[present])),
        **_risk_coverage(correct, confidence),
    }


def binned_reliability(correct: ArrayLike, confidence: ArrayLike, *, bins: int = 15) -> NDArray[np.float64]:
    """Returns a reliability diagram [3, M]: examples, mean confidence and accuracy in each bin; nan where it is empty.

    Bin b of M has the confidences in (b / M, (b + 1) / M] (Guo et al. 2017, equations 1 to 3).

    Args:
        correct: Whether each prediction is correct [N].
        confidence: Top probabilities [N], in (0, 1].
        bins: Number of bins M, at least 1.

    Example:
        >>> binned_reliability([True, False], [0.5, 1.0], bins=2).tolist()
        [[1.0, 1.0], [0.5, 1.0], [1.0, 0.0]]
    """
    if not (isinstance(bins, (int, np.integer)) and bins >= 1):
        raise ValueError(f"`bins` must be a whole number of at least 1, got {bins!r}")
    hits, top = np.asarray(correct, dtype=np.bool_), np.asarray(confidence, dtype=np.float64)
    index = np.searchsorted(np.arange(1, bins) / bins, top, side="left")
    count = np.bincount(index, minlength=bins)
    sums = [np.bincount(index, weights=values, minlength=bins) for values in (top, hits)]
    return np.vstack([count, sums / np.where(count > 0, count, np.nan)])


def risk_coverage(probabilities: ArrayLike, labels: ArrayLike) -> dict[str, float]:
    """Returns how the error falls when the least confident examples are left out.

    Ranked by confidence, the largest probability, r_k is the error of the first k of N examples (coverage k / N); among
    equal confidences the expectation over all their orders.

    - ``aurc``: the area under the risk-coverage curve, ``sum_k r_k / N``.
    - ``excess_aurc``: ``aurc`` less that of the best ranking, with every wrong example last.
    - ``error_at_80_coverage``, and at 90 and 95 %: r_k at ``k = ceil(0.8 N)`` and so on.

    Args:
        probabilities: Predicted probabilities [N, C], in [0, 1].
        labels: True classes [N], integers in 0..C-1.

    Raises:
        ValueError, TypeError: As `classification_metrics`.

    Reference:
        Geifman, Uziel, El-Yaniv (2019), Bias-reduced uncertainty estimation for deep neural classifiers.

    Example:
        >>> curve = risk_coverage([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7]], [1, 0, 1])  # the surest prediction is wrong
        >>> round(curve["aurc"], 3), round(curve["excess_aurc"], 3), round(curve["error_at_80_coverage"], 3)
        (0.611, 0.5, 0.333)
    """
    shares, truth, predicted = checked_examples(probabilities, labels, name="probabilities")
    if shares.min() < 0 or shares.max() > 1:
        raise ValueError(f"`probabilities` must be in [0, 1], got {shares.min()} to {shares.max()}")
    return _risk_coverage(predicted == truth, shares.max(axis=1))


def _risk_coverage(correct: NDArray[np.bool_], confidence: NDArray[np.floating]) -> dict[str, float]:
    count = len(correct)
    kept = np.arange(1, count + 1)
    _, tied, sizes = np.unique(-confidence, return_inverse=True, return_counts=True)
    errors = np.repeat(np.bincount(tied, weights=~correct) / sizes, sizes)  # expected, at each rank
    risk = np.cumsum(errors) / kept
    best = np.maximum(kept - np.count_nonzero(correct), 0) / kept
    at = {f"error_at_{percent}_coverage": float(risk[-(-percent * count // 100) - 1]) for percent in (80, 90, 95)}
    return {"aurc": float(risk.mean()), "excess_aurc": max(float((risk - best).mean()), 0.0)} | at


def checked_examples(
    logits: ArrayLike, labels: ArrayLike, *, name: str = "logits"
) -> tuple[NDArray[np.floating], NDArray[np.int64], NDArray[np.int64]]:
    """Returns logits [N, C], labels [N] and predicted labels [N]; raises as `classification_metrics`."""
    scores, truth = _array(logits), _array(labels)
    if scores.ndim != 2 or truth.shape != scores.shape[:1] or scores.size == 0:
        wanted = f"`{name}` and `labels` must be [N, C] and [N], neither empty"
        raise ValueError(f"{wanted}, got {scores.shape} and {truth.shape}")
    if truth.dtype.kind not in "iu":
        raise TypeError(f"`labels` must be integers, got dtype {truth.dtype}")
    scores = scores if scores.dtype.kind == "f" else scores.astype(np.float64)
    truth = truth.astype(np.int64)
    outside = (truth < 0) | (truth >= scores.shape[1])
    if outside.any():
        example = outside.argmax()
        raise ValueError(f"`labels` must be in 0..{scores.shape[1] - 1}, got {truth[example]} in example {example}")
    predicted = scores.argmax(axis=1)
    largest = scores[np.arange(len(scores)), predicted]
    # The largest shows all that has no softmax: nan, plus infinity, all minus infinity.
    if not np.isfinite(largest).all():
        example = np.isfinite(largest).argmin()
        raise ValueError(f"`{name}` must have a finite maximum, got {largest[example]} in example {example}")
    return scores, truth, predicted


def shifted_blocks(scores: NDArray[np.floating]) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Yields which examples a block is of, and their scores in float64 less each example's largest."""
    size = max(1, _BLOCK_NUMBERS // scores.shape[1])
    for block in (slice(start, start + size) for start in range(0, len(scores), size)):
        yield block, scores[block].astype(np.float64) - scores[block].max(axis=1, keepdims=True)


def _array(values: Any) -> NDArray[Any]:
    """Returns an array; of a tensor without its gradient, from its device, bfloat16 as float32."""
    if hasattr(values, "detach"):  # torch is not imported for this: reports do without it
        values = values.detach().cpu()
        values = values.float() if values.is_floating_point() and values.dtype.itemsize < 4 else values
    return np.asarray(values)


def _example_scores(
    scores: NDArray[np.floating], shifted: NDArray[np.float64], truth: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Returns, [n] each, the label's rank (from 0) and -log p[label], the largest p and the Brier score."""
    label = truth[:, None]
    own = np.take_along_axis(scores, label, axis=1)
    ranks = np.count_nonzero((scores > own) | ((scores == own) & (np.arange(scores.shape[1]) < label)), axis=1)
    probability = np.exp(shifted)
    total = probability.sum(axis=1)
    loss = np.log(total) - np.take_along_axis(shifted, label, axis=1)[:, 0]
    probability /= total[:, None]
    np.put_along_axis(probability, label, np.take_along_axis(probability, label, axis=1) - 1, axis=1)
    # Not exp(max log p): for C equal logits 1 / total is 1 / C to the last bit, which may be a bin's edge.
    return ranks, loss, 1 / total, np.einsum("nc,nc->n", probability, probability)
