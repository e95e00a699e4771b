"""What a few seeds can show: intervals, p values, Holm."""

from __future__ import annotations

import math

import numpy as np
import pytest

from labelembed.metrics import holm, paired_by_seed, paired_comparison
from tests.naive.metrics import naive_holm, naive_mean, naive_t_interval, naive_t_p

EXACT = {"rel": 1e-12, "abs": 1e-12}


@pytest.mark.parametrize("n", [2, 3, 8, 17])
@pytest.mark.parametrize("confidence", [0.5, 0.99])
def test_interval_equals_the_naive_one(n, confidence):
    random = np.random.default_rng(n)
    values, baseline = random.normal(size=n).tolist(), random.normal(size=n).tolist()
    differences = [ours - theirs for ours, theirs in zip(values, baseline, strict=True)]
    found = paired_comparison(values, baseline, confidence=confidence)
    assert found.difference == pytest.approx(naive_mean(differences), **EXACT)
    assert found[2:4] == pytest.approx(naive_t_interval(differences, confidence), **EXACT)
    assert found.p_value == pytest.approx(naive_t_p(differences), **EXACT)


def test_rounding_is_told_from_small_differences():
    whole = np.array([1.0, 2.0, 3.0, 4.0, 5.0, -6.0])
    expected = pytest.approx(paired_comparison(whole, np.zeros(6)).p_value, rel=1e-6)
    # A common level of a million leaves about 1e-10 of each difference of 1; a billionth beside 1 is a difference.
    assert paired_comparison(whole / 10 + 1e6, np.full(6, 1e6)).p_value == expected
    assert paired_comparison(1 + 1e-9 * whole, np.ones(6)).p_value == expected


# One pair; always the same; 0.1 + 0.2, which is not 0.3 in float64, yet nothing differs.
@pytest.mark.parametrize(("ours", "theirs"), [([0.25], [0.5]), ([1.0] * 5, [0.0] * 5), ([0.1 + 0.2] * 8, [0.3] * 8)])
def test_without_a_spread_there_is_a_difference_and_nothing_else(ours, theirs):
    found = paired_comparison(ours, theirs)
    assert (found.n, found.difference, found.p_value) == (len(ours), pytest.approx(ours[0] - theirs[0]), None)
    assert np.isnan([found.interval_low, found.interval_high, found.detectable]).all()


def test_pairs_are_events_of_seed_and_the_rest_is_named():
    values, baseline = {3: 0.3, 1: 0.1, 2: 0.2, 10: 1.0}, {2: 0.5, 3: 0.6, 4: 0.7, 10: 0.9, 0: 0.0}
    assert paired_by_seed(values, baseline) == ([0.2, 0.3, 1.0], [0.5, 0.6, 0.9], [0, 1, 4])
    assert paired_by_seed(baseline, values) == ([0.5, 0.6, 0.9], [0.2, 0.3, 1.0], [0, 1, 4])
    assert paired_by_seed({1: 0.1}, {2: 0.2}) == ([], [], [1, 2])


@pytest.mark.parametrize("seed", range(4))
def test_holm_equals_the_naive_one_in_any_order(seed):
    random = np.random.default_rng(seed)
    p_values = [float(value) for value in random.integers(0, 9, size=int(random.integers(1, 9))) / 32]
    p_values = [None if random.random() < 0.2 else p_value for p_value in p_values]
    expected = naive_holm(p_values)  # what has no p is not counted
    assert holm(p_values) == expected
    assert holm(p_values[::-1]) == expected[::-1]
    assert holm([]) == []


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="got 3 and 2"):
        paired_comparison([1.0, 2.0, 3.0], [1.0, 2.0])
    for confidence in (0.0, 1.0, 95, math.nan):
        with pytest.raises(ValueError, match=f"`confidence` .*{confidence}"):
            paired_comparison([1.0, 2.0], [0.0, 0.0], confidence=confidence)
    for p_value in (-0.1, 1.5, math.nan):
        with pytest.raises(ValueError, match=f"`p_values` .*{p_value} at position 2"):
            holm([0.5, None, p_value])
