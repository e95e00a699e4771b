"""The methods, and the random search of eight trials that each gets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from benchmarks.evidence.data_sets import DataSet
from benchmarks.evidence.stacked import Weights

TRIALS = 8
FIXED = "fixed"

#: What each method learns from beside the label: the `kind` of `Stack`.
KINDS = {
    "cross_entropy": "none",
    "label_smoothing": "none",
    "online_label_smoothing": "class_means",
    "label_embedding": "embedding",
}
#: Those of the second plan: online label smoothing without a uniform part, and retrospection's preset `progressive`.
MORE_KINDS = {**KINDS, "class_means": "class_means", "progressive": "progressive"}
#: The settings that labelembed recommends, untuned; smoothing 0.1 is the usual one.
RECOMMENDED = {
    "cross_entropy": Weights(),
    "label_smoothing": Weights(uniform=0.1),
    "online_label_smoothing": Weights(similarity=0.5, uniform=0.2),
    "label_embedding": Weights(similarity=0.5, uniform=0.3),
    "class_means": Weights(similarity=0.6),
    "progressive": Weights(similarity=0.8),
}


class Trial(NamedTuple):
    """One point of the search, the same for all methods but for the weights.

    Attributes:
        name: Its number, or `fixed`.
        learning_rate: AdamW's.
        weight_decay: AdamW's.
        length: Share of the regime's steps.
        weights: By method.
    """

    name: str
    learning_rate: float
    weight_decay: float
    length: float
    weights: dict[str, Weights]


def trials(data_set: DataSet) -> Iterator[Trial]:
    """Yields the eight trials and the fixed settings.

    Learning rate, weight decay and length are the same points for all methods. Cross entropy has nothing else to
    choose; smoothing has its strength, class means alone and `progressive` the share of soft targets, the others also
    how much of it is similarity. Every
    axis is cut into eight parts with one trial in each (a Latin hypercube), so that eight trials cover it.
    """
    random = np.random.default_rng(20_261_123)
    axis = lambda: (random.permutation(TRIALS) + random.random(TRIALS)) / TRIALS  # noqa: E731
    rate, decay, length, strength, soft, share = (axis() for _ in range(6))
    for number in range(TRIALS):
        total = 0.1 + 0.85 * float(soft[number])
        of_similarity = 0.4 + 0.6 * float(share[number])
        mixture = Weights(similarity=total * of_similarity, uniform=total * (1 - of_similarity))
        yield Trial(
            name=str(number),
            learning_rate=data_set.learning_rate * 10 ** (float(rate[number]) - 0.5),
            weight_decay=data_set.weight_decay * 10 ** (2 * float(decay[number]) - 1),
            length=1.0 if length[number] < 0.5 else 0.5,
            weights={
                "cross_entropy": Weights(),
                "label_smoothing": Weights(uniform=0.05 + 0.75 * float(strength[number])),
                "online_label_smoothing": mixture,
                "label_embedding": mixture,
                "class_means": Weights(similarity=total),
                "progressive": Weights(similarity=total),
            },
        )
    yield Trial(FIXED, data_set.learning_rate, data_set.weight_decay, 1.0, RECOMMENDED)
