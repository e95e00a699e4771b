"""What a run with cross entropy shows of its data."""

import numpy as np
import pytest
from benchmarks.evidence.diagnosis import diagnose
from numpy.typing import NDArray
from scipy.special import log_softmax

from labelembed.metrics import fit_temperature

LABELS = np.array([0, 0, 1, 1, 2, 2, 3, 3])


def _logits(confused_with: dict[int, int], *, right: float = 2.0) -> NDArray[np.float64]:
    """Returns logits of `LABELS`: high for the true class, and next to that for the class it is confused with."""
    logits = np.zeros((len(LABELS), 4))
    for example, label in enumerate(LABELS):
        logits[example, label] = right
        logits[example, confused_with.get(label, label)] += 1.0
    logits[0] = logits[0, ::-1]  # one error, so that a temperature can be fitted
    return logits


def test_the_gap_is_that_of_nll_at_the_fitted_temperature() -> None:
    train, validation = _logits({}, right=6.0), _logits({})
    found = diagnose(train, LABELS, validation, LABELS)
    temperature = fit_temperature(validation, LABELS)

    def nll(logits: NDArray[np.float64]) -> float:
        log_p = log_softmax(logits / temperature, axis=1)
        return float(-log_p[np.arange(len(LABELS)), LABELS].mean())

    assert found.temperature == temperature
    assert found.gap == pytest.approx(nll(validation) - nll(train), abs=1e-6)
    assert (found.num_labels, found.examples_per_label) == (4, 2.0)
    assert diagnose(train, LABELS, validation, LABELS, training_examples=100).examples_per_label == 25.0


def test_confusion_entropy_is_1_for_even_and_0_for_one_wrong_label() -> None:
    even = np.where(np.eye(4)[LABELS] > 0, 1.0, 0.0)
    one = np.full((len(LABELS), 4), -40.0)
    for example, label in enumerate(LABELS):
        one[example, [label, (label + 1) % 4]] = 1.0, 0.0
    one[0, [0, 1]] = 0.0, 1.0  # one error, so that the temperature is no extreme one
    assert diagnose(even, LABELS, even, LABELS).confusion_entropy == pytest.approx(1.0)
    assert diagnose(one, LABELS, one, LABELS).confusion_entropy == pytest.approx(0.0, abs=1e-6)


def test_two_labels_leave_no_choice_of_a_wrong_one() -> None:
    logits, labels = np.array([[1.0, 0.0], [0.0, 1.0], [0.2, 0.0]]), np.array([0, 1, 1])
    assert diagnose(logits, labels, logits, labels).confusion_entropy == 1.0
