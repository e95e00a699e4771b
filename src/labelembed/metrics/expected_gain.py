"""What a learned similarity would gain over tuned label smoothing, predicted from one run with cross entropy."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.special import softmax

from labelembed.metrics.calibration import fit_temperature
from labelembed.metrics.classification import classification_metrics

#: The rule that ships; `python -m benchmarks.evidence --rule` writes it.
RULE_FILE = Path(__file__).with_name("expected_gain.json")
#: How sure a prediction interval is.
CONFIDENCE = 0.95


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


class Prediction(NamedTuple):
    """A predicted difference from tuned label smoothing, negative is better, with its 95 % prediction interval."""

    mean: float
    low: float
    high: float


class ExpectedGain(NamedTuple):
    """What online label smoothing would change against tuned label smoothing.

    Attributes:
        error: As a share of tuned smoothing's errors.
        nll: In nats, after temperature scaling.
    """

    error: Prediction
    nll: Prediction


@dataclass(frozen=True)
class Rule:
    """A ridge regression on standardised features, and how far it is off on data sets it was not fitted on.

    Attributes:
        center: Means of the features [5].
        scale: Their standard deviations [5].
        coefficients: For the error and for the NLL [2, 5].
        intercepts: The same [2].
        deviations: Root mean squared errors of the predictions of data sets that were left out [2].
        data_sets: How many data sets it was fitted on.
    """

    center: Sequence[float]
    scale: Sequence[float]
    coefficients: Sequence[Sequence[float]]
    intercepts: Sequence[float]
    deviations: Sequence[float]
    data_sets: int

    def predict(self, features: NDArray[np.float64]) -> ExpectedGain:
        """Returns what to expect of features [5], as `Diagnosis.features` gives them."""
        standardised = (features - np.array(self.center)) / np.array(self.scale)
        means = np.array(self.coefficients) @ standardised + np.array(self.intercepts)
        half = stats.t.ppf((1 + CONFIDENCE) / 2, self.data_sets - 1) * np.array(self.deviations)
        error, nll = (
            Prediction(float(mean), float(mean - some), float(mean + some))
            for mean, some in zip(means, half, strict=True)
        )
        return ExpectedGain(error, nll)


def expected_gain(diagnosis: Diagnosis) -> ExpectedGain:
    """Returns what online label smoothing would gain over tuned label smoothing, by the rule that ships.

    The rule was fitted on the data sets of docs/evidence.md, and is as uncertain as its intervals say: a comparison on
    the data themselves decides.
    """
    return Rule(**json.loads(RULE_FILE.read_text(encoding="utf-8"))).predict(diagnosis.features())
