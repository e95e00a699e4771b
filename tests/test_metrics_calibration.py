"""The fitted temperature: hand values, a known one found again, limits, and what it may not change."""

import math

import numpy as np
import pytest

from labelembed.metrics import fit_temperature
from tests.naive.metrics import naive_negative_log_likelihood


def drawn(seed, *, rows, labels, spread=2.0, temperature=1.0):
    """Logits, and labels drawn from the softmax of these logits divided by the temperature."""
    random = np.random.default_rng(seed)
    logits = spread * random.normal(size=(rows, labels))
    noise = random.gumbel(size=(rows, labels))
    return logits, (logits / temperature + noise).argmax(axis=1)


@pytest.mark.parametrize("margin", [0.01, 1.0, 7.0])
@pytest.mark.parametrize("right", [6, 8, 9])
def test_two_labels_equal_the_hand_value(margin, right):
    logits = [[margin, 0.0]] * 10
    # All rows have one probability, and the likelihood is highest where it is the fraction of right rows.
    expected = margin / math.log(right / (10 - right))
    assert fit_temperature(logits, [0] * right + [1] * (10 - right)) == pytest.approx(
        min(max(expected, 0.01), 100.0), rel=1e-8
    )


@pytest.mark.parametrize("seed", range(6))
def test_no_other_temperature_is_better(seed):
    logits, labels = drawn(seed, rows=60, labels=5, temperature=[0.4, 1.0, 3.0][seed % 3])
    found = fit_temperature(logits, labels)
    best = naive_negative_log_likelihood(logits / found, labels)
    assert best <= naive_negative_log_likelihood(logits, labels)
    for other in [found * factor for factor in (0.5, 0.9, 0.999, 1.001, 1.1, 2.0)]:
        assert best <= naive_negative_log_likelihood(logits / other, labels)


def test_the_limits_hold():
    assert fit_temperature(np.full((4, 3), 7.5), [0, 1, 2, 2]) == 1.0  # equal logits: it makes no difference
    assert fit_temperature([[2.0]], [0]) == 1.0
    assert fit_temperature([[3.0, 0.0]] * 3, [1] * 3) == 100.0  # all wrong: as flat as may be
    assert fit_temperature([[3.0, 0.0], [0.0, 3.0]], [0, 0]) == 100.0  # half right: says nothing
    assert fit_temperature([[1e-6, 0.0]] * 3, [0, 0, 1]) == 0.01
    assert fit_temperature([[1e-6, 0.0]] * 3, [0, 0, 0]) == 0.01


def test_impossible_labels_take_no_part():
    logits, labels = drawn(6, rows=50, labels=4)
    found = fit_temperature(logits, labels)
    wider = np.hstack([logits, np.full((50, 1), -np.inf)])
    assert fit_temperature(wider, labels) == pytest.approx(found, rel=1e-12)
