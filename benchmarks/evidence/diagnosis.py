"""What a run with cross entropy shows of its data set: numbers that might foretell what learned similarities gain."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.special import softmax

from labelembed.metrics import classification_metrics, fit_temperature


class Diagnosis(NamedTuple):
    """What a run with cross entropy shows of its data set.

    Attributes:
        gap: Validation NLL minus training NLL in nats, both after temperature scaling: how much the network overfits.
        temperature: Fitted on the validation set; above 1 the network is over-confident.
        confusion_entropy: How evenly the probability that the wrong labels get is spread over them: 1 evenly, 0 all on
            one label. A mean over the classes, each with the weight of that probability.
        num_labels: C.
        examples_per_label: Training examples divided by C.
    """

    gap: float
    temperature: float
    confusion_entropy: float
    num_labels: int
    examples_per_label: float

    def features(self) -> NDArray[np.float64]:
        """Returns what the rule is linear in [5]; temperature and the two counts by their logarithms."""
        logs = (self.temperature, self.num_labels, self.examples_per_label)
        return np.array([self.gap, self.confusion_entropy, *map(math.log, logs)])


def diagnose(
    train_logits: ArrayLike,
    train_labels: ArrayLike,
    validation_logits: ArrayLike,
    validation_labels: ArrayLike,
    *,
    training_examples: int | None = None,
) -> Diagnosis:
    """Returns what a network that was trained with cross entropy shows of its data set.

    Args:
        train_logits: Scores [N, C] of training examples; some thousands are enough.
        train_labels: Their labels [N].
        validation_logits: Scores [M, C] of validation examples.
        validation_labels: Their labels [M].
        training_examples: How many training examples there are, where not all are given.

    Raises:
        ValueError: For empty arrays, shapes that do not fit, and labels outside 0..C-1.
    """
    temperature = fit_temperature(validation_logits, validation_labels)
    of_training = classification_metrics(train_logits, train_labels, temperature=temperature)
    of_validation = classification_metrics(validation_logits, validation_labels, temperature=temperature)
    scores = np.asarray(validation_logits, dtype=np.float64)
    num_labels = scores.shape[1]
    return Diagnosis(
        gap=of_validation["nll"] - of_training["nll"],
        temperature=temperature,
        confusion_entropy=_confusion_entropy(softmax(scores / temperature, axis=1), np.asarray(validation_labels)),
        num_labels=num_labels,
        examples_per_label=(training_examples or len(np.asarray(train_labels))) / num_labels,
    )


def _confusion_entropy(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    num_labels = probabilities.shape[1]
    if num_labels == 2:
        return 1.0
    sums = np.zeros((num_labels, num_labels))
    np.add.at(sums, labels, probabilities)
    np.fill_diagonal(sums, 0.0)
    mass = sums.sum(axis=1)
    confused = mass > 0
    if not confused.any():
        return 1.0
    entropies = stats.entropy(sums[confused], axis=1) / math.log(num_labels - 1)
    return float(np.average(entropies, weights=mass[confused]))
