"""Which labels are taken for which others."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray


class Confusions(NamedTuple):
    """Wrong predictions, counted.

    Attributes:
        pairs: [P, 3], right label, predicted label and how many rows; the most frequent first, of equal ones the
            smaller labels. Only pairs that occur, and none of a label with itself.
        rows: [C], how many rows each label has.
        right: [C], how many of them are predicted rightly.
    """

    pairs: NDArray[np.int64]
    rows: NDArray[np.int64]
    right: NDArray[np.int64]


def confusions(labels: ArrayLike, predicted: ArrayLike, num_labels: int) -> Confusions:
    """Counts wrong predictions by right and predicted label; no table [C, C] is made.

    Args:
        labels: [N], right labels in 0..C-1.
        predicted: [N], predicted labels.
        num_labels: C.

    Raises:
        ValueError: When the two are of different shape, or a label is not in 0..C-1.
    """
    truth, found = np.asarray(labels, dtype=np.int64), np.asarray(predicted, dtype=np.int64)
    if truth.ndim != 1 or truth.shape != found.shape:
        raise ValueError(f"`labels` and `predicted` must both be [N], got {truth.shape} and {found.shape}")
    for name, array in (("labels", truth), ("predicted", found)):
        if array.size and (array.min() < 0 or array.max() >= num_labels):
            raise ValueError(f"`{name}` must be in 0..{num_labels - 1}, got {array.min()} to {array.max()}")
    wrong = truth != found
    keys, counts = np.unique(truth[wrong] * num_labels + found[wrong], return_counts=True)
    order = np.argsort(-counts, kind="stable")
    pairs = np.stack([keys[order] // num_labels, keys[order] % num_labels, counts[order]], axis=1)
    return Confusions(
        pairs.reshape(-1, 3),
        np.bincount(truth, minlength=num_labels),
        np.bincount(truth[~wrong], minlength=num_labels),
    )
