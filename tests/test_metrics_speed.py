"""How fast a run learns, against loops and hand-worked curves."""

from __future__ import annotations

import math

import numpy as np
import pytest

from labelembed.metrics import area_under_accuracy_curve, epochs_saved, epochs_to_reach
from tests.naive.metrics import naive_area_under_accuracy_curve, naive_epochs_saved, naive_epochs_to_reach


def random_curve(random):
    # Whole errors of 20 rows: equal values, and so ties, are common.
    return (random.integers(0, 21, size=int(random.integers(1, 15))) / 20).tolist()


@pytest.mark.parametrize("seed", range(20))
def test_every_measure_equals_the_naive_one(seed):
    random = np.random.default_rng(seed)
    ours, baseline = random_curve(random), random_curve(random)
    target = float(random.integers(0, 21) / 20)
    # Sums of at most 15 terms below 1: rounding stays below 1e-14.
    assert area_under_accuracy_curve(ours) == pytest.approx(naive_area_under_accuracy_curve(ours), abs=1e-12)
    assert epochs_to_reach(ours, target) == naive_epochs_to_reach(ours, target)
    for of_all in (False, True):
        expected = naive_epochs_saved(ours, baseline, of_all)
        assert epochs_saved(ours, baseline, of_all=of_all) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("curve", "word"),
    [
        ([], r"\(0,\)"),
        ([[0.1, 0.2]], r"\(1, 2\)"),
        ([0.5, 12.5], r"12\.5 in epoch 2"),
        ([-0.1, 0.5], r"-0\.1 in epoch 1"),
        ([0.1, 0.2, math.nan], "nan in epoch 3"),
    ],
)
def test_bad_curves_are_refused(curve, word):
    for call, name in (
        (lambda: area_under_accuracy_curve(curve), "errors"),
        (lambda: epochs_to_reach(curve, 0.1), "errors"),
        (lambda: epochs_saved(curve, [0.1]), "errors"),
        (lambda: epochs_saved([0.1], curve), "baseline_errors"),
    ):
        with pytest.raises(ValueError, match=f"`{name}` .*{word}"):
            call()
    with pytest.raises(ValueError, match="`target`"):
        epochs_to_reach([0.1], 5.0)
