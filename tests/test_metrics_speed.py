"""How fast a run learns, against the naive forms."""

from __future__ import annotations

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
