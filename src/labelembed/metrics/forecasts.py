"""Per row, what a classifier's logits say about the right label: its rank and the softmax forecast.

Work goes by blocks of rows, so that 50,000 rows of 1,000 labels need no float64 copy of the whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Numbers in one block of rows: half a megabyte of float64 stays in a core's cache.
_BLOCK_NUMBERS = 1 << 16


class Forecasts(NamedTuple):
    """What the softmax p of each row says, each ``[N]``.

    Attributes:
        log_likelihood: log p[label], 0 or less, in nats.
        confidence: The largest probability, in [1 / C, 1].
        brier: ``sum_c (p_c - [c = label])^2``, in [0, 2].
    """

    log_likelihood: NDArray[np.float64]
    confidence: NDArray[np.float64]
    brier: NDArray[np.float64]


def counted_rows(
    logits: ArrayLike, labels: ArrayLike, ignore_index: int
) -> tuple[NDArray[np.floating], NDArray[np.int64]]:
    """Returns the logits ``[N', C]`` and labels ``[N']`` of the rows that count.

    Raises:
        ValueError: For empty arrays, shapes that do not fit, labels that are not in 0..C-1, no row that
            counts, and a row without a finite maximum; rows are named by their number in what was given.
        TypeError: If the labels are not integers.
    """
    scores, given = np.asarray(logits), np.asarray(labels)
    for name, array in (("logits", scores), ("labels", given)):
        if array.size == 0:
            raise ValueError(f"`{name}` must not be empty, got shape {array.shape}")
    if scores.ndim != 2 or given.shape != scores.shape[:1]:
        raise ValueError(f"`logits` and `labels` must be [N, C] and [N], got {scores.shape} and {given.shape}")
    if given.dtype.kind not in "iu":
        raise TypeError(f"`labels` must be integers, got dtype {given.dtype}")
    if scores.dtype.kind != "f":
        scores = scores.astype(np.float64)
    truth = given.astype(np.int64)
    rows = np.flatnonzero(truth != ignore_index)
    if rows.size == 0:
        raise ValueError(f"`labels` must have a row that counts, got {truth.size} times {ignore_index}")
    if rows.size < truth.size:
        scores, truth = scores[rows], truth[rows]
    outside = np.flatnonzero((truth < 0) | (truth >= scores.shape[1]))
    if outside.size:
        row, label = rows[outside[0]], truth[outside[0]]
        allowed = f"in 0..{scores.shape[1] - 1} or {ignore_index}"
        raise ValueError(f"`labels` must be {allowed}, got {label} in row {row}")
    # One look at the largest logit finds all that has no softmax: nan, plus infinity, all minus infinity.
    largest = scores.max(axis=1)
    broken = np.flatnonzero(~np.isfinite(largest))
    if broken.size:
        row, value = rows[broken[0]], largest[broken[0]]
        raise ValueError(f"`logits` must have a finite maximum in every row, got {value} in row {row}")
    return scores, truth


def label_ranks(scores: NDArray[np.floating], truth: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns how many labels stand before the right one in a stable sort, highest logit first ``[N]``."""
    ranks = np.empty(len(scores), dtype=np.int64)
    columns = np.arange(scores.shape[1])
    for block in blocks_of_rows(scores):
        part, label = scores[block], truth[block, None]
        own = np.take_along_axis(part, label, axis=1)
        ranks[block] = np.count_nonzero((part > own) | ((part == own) & (columns < label)), axis=1)
    return ranks


def softmax_forecasts(scores: NDArray[np.floating], truth: NDArray[np.int64], temperature: float = 1.0) -> Forecasts:
    """Returns what the softmax of each row, divided by the temperature, says; computed once for all measures."""
    found = Forecasts(*(np.empty(len(scores)) for _ in Forecasts._fields))
    for block in blocks_of_rows(scores):
        label = truth[block, None]
        shifted = scores[block].astype(np.float64)
        shifted -= shifted.max(axis=1, keepdims=True)
        shifted /= temperature
        own = np.take_along_axis(shifted, label, axis=1)[:, 0]
        probability = np.exp(shifted, out=shifted)
        total = probability.sum(axis=1)
        found.log_likelihood[block] = own - np.log(total)
        # Not exp(max log p): for C equal logits this is 1 / C to the last bit, which may be a bin's edge.
        found.confidence[block] = 1 / total
        probability /= total[:, None]
        np.put_along_axis(probability, label, np.take_along_axis(probability, label, axis=1) - 1, axis=1)
        found.brier[block] = np.einsum("nc,nc->n", probability, probability)
    return found


def blocks_of_rows(scores: NDArray[np.floating]) -> Iterator[slice]:
    """Returns the slices of rows to work through one after another."""
    rows = max(1, _BLOCK_NUMBERS // scores.shape[1])
    for start in range(0, len(scores), rows):
        yield slice(start, start + rows)
