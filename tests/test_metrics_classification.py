import doctest
import math

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from labelembed.metrics import (
    brier_score,
    classification,
    classification_metrics,
    error_rate,
    expected_calibration_error,
    negative_log_likelihood,
    reliability,
    top_k_error,
)
from tests.naive.measures import (
    naive_brier_score,
    naive_calibration_error,
    naive_negative_log_likelihood,
    naive_reliability,
    naive_top_k_error,
)

# Float64 sums of at most a few hundred terms near 1: far below 1e-12 in any order of summing.
EXACT = {"rel": 1e-12, "abs": 1e-12}


def random_case(seed):
    """Returns logits and labels: some with many ties, some with one label, some rows ignored."""
    random = np.random.default_rng(seed)
    rows, num_labels = int(random.integers(1, 60)), int(random.integers(1, 13))
    logits = random.normal(size=(rows, num_labels)) * random.choice([0.1, 1.0, 20.0])
    if seed % 3 == 0:
        logits = random.integers(-1, 2, size=(rows, num_labels)).astype(float)
    labels = random.integers(0, num_labels, size=rows)
    if seed % 4 == 0:
        labels[1:][random.random(rows - 1) < 0.3] = -100
    return logits, labels


@pytest.mark.parametrize("seed", range(40))
def test_every_measure_equals_the_naive_one(seed):
    logits, labels = random_case(seed)
    num_labels = logits.shape[1]
    assert error_rate(logits, labels) == naive_top_k_error(logits, labels, 1)
    for k in range(1, num_labels + 1):
        assert top_k_error(logits, labels, k=k) == naive_top_k_error(logits, labels, k)
    assert negative_log_likelihood(logits, labels) == pytest.approx(
        naive_negative_log_likelihood(logits, labels), **EXACT
    )
    assert brier_score(logits, labels) == pytest.approx(naive_brier_score(logits, labels), **EXACT)
    for bins in (1, 7, 15):
        assert expected_calibration_error(logits, labels, bins=bins) == pytest.approx(
            naive_calibration_error(logits, labels, bins), **EXACT
        )
        found, naive = reliability(logits, labels, bins=bins), naive_reliability(logits, labels, bins)
        assert found.count.tolist() == [count for count, _, _ in naive]
        assert found.confidence.tolist() == pytest.approx([mean for _, mean, _ in naive], nan_ok=True, **EXACT)
        assert found.accuracy.tolist() == pytest.approx([mean for _, _, mean in naive], nan_ok=True, **EXACT)


@pytest.mark.parametrize("seed", range(12))
def test_classification_metrics_equals_the_single_ones(seed):
    logits, labels = random_case(seed)
    expected = {
        "error": error_rate(logits, labels),
        "nll": negative_log_likelihood(logits, labels),
        "calibration_error": expected_calibration_error(logits, labels),
        "brier": brier_score(logits, labels),
    }
    if logits.shape[1] > 5:
        expected["top5_error"] = top_k_error(logits, labels, k=5)
    assert classification_metrics(logits, labels) == expected


@pytest.mark.parametrize(("num_labels", "present"), [(5, False), (6, True)])
def test_classification_metrics_leaves_out_a_top5_error_that_is_always_zero(num_labels, present):
    assert ("top5_error" in classification_metrics(np.zeros((2, num_labels)), [0, 1])) is present


def test_negative_log_likelihood_equals_scipy():
    logits = np.random.default_rng(1).normal(size=(500, 30)) * 50
    labels = np.random.default_rng(2).integers(0, 30, size=500)
    expected = -log_softmax(logits, axis=1)[np.arange(500), labels].mean()
    assert negative_log_likelihood(logits, labels) == pytest.approx(expected, **EXACT)


def test_blocks_of_rows_leave_no_row_out():
    # 200,000 numbers are more than three blocks, and the last one is not full.
    random = np.random.default_rng(3)
    logits, labels = random.normal(size=(20_001, 10)), random.integers(0, 10, size=20_001)
    log_probability = log_softmax(logits, axis=1)
    likelihood = -log_probability[np.arange(20_001), labels].mean()
    squared = ((np.exp(log_probability) - np.eye(10)[labels]) ** 2).sum(axis=1).mean()
    measured = classification_metrics(logits, labels)
    assert measured["error"] == (logits.argmax(axis=1) != labels).mean()
    assert measured["nll"] == pytest.approx(likelihood, **EXACT)
    assert measured["brier"] == pytest.approx(squared, **EXACT)
    assert reliability(logits, labels).count.sum() == 20_001


def test_calibration_error_equals_the_hand_example():
    # Top probabilities 0.9 (right, wrong), 0.7 (right, right) and 0.55 (wrong), in five bins of width 0.2:
    # (1 * |0 - 0.55| + 2 * |1 - 0.7| + 2 * |0.5 - 0.9|) / 5 = 1.95 / 5
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.3, 0.7], [0.7, 0.3], [0.45, 0.55]])
    labels = [0, 1, 1, 0, 0]
    found = reliability(np.log(probabilities), labels, bins=5)
    assert found.count.tolist() == [0, 0, 1, 2, 2]
    assert found.confidence.tolist() == pytest.approx([math.nan, math.nan, 0.55, 0.7, 0.9], nan_ok=True)
    assert found.accuracy.tolist() == pytest.approx([math.nan, math.nan, 0.0, 1.0, 0.5], nan_ok=True)
    assert expected_calibration_error(np.log(probabilities), labels, bins=5) == pytest.approx(0.39, **EXACT)


@pytest.mark.parametrize("num_labels", range(2, 40))
def test_a_confidence_on_an_edge_belongs_to_the_bin_below(num_labels):
    # Equal logits, as an untrained network has them: the confidence 1 / C is the first bin's right end.
    assert reliability(np.zeros((1, num_labels)), [0], bins=num_labels).count.tolist()[:2] == [1, 0]
    assert reliability(np.zeros((1, num_labels)), [0], bins=1).count.tolist() == [1]


def test_certain_forecasts_reach_the_ends_of_every_scale():
    right = classification_metrics([[900.0, -900.0]], [0])
    assert right == {"error": 0.0, "nll": 0.0, "calibration_error": 0.0, "brier": 0.0}
    assert math.copysign(1.0, right["nll"]) == 1.0
    wrong = classification_metrics([[900.0, -900.0]], [1])
    assert wrong == {"error": 1.0, "nll": 1800.0, "calibration_error": 1.0, "brier": 2.0}


def test_a_label_ruled_out_has_infinite_loss_and_the_rest_stays_finite():
    measured = classification_metrics([[0.0, -math.inf, 0.0]], [1])
    assert measured == {"error": 1.0, "nll": math.inf, "calibration_error": 0.5, "brier": 1.5}


def test_equal_logits_are_ordered_by_label_number():
    logits = np.zeros((4, 4))
    assert error_rate(logits, [0, 1, 2, 3]) == 0.75
    assert [top_k_error(logits, [0, 1, 2, 3], k=k) for k in (1, 2, 3, 4)] == [0.75, 0.5, 0.25, 0.0]


def test_one_label_is_always_right_and_certain():
    measured = classification_metrics([[3.0], [-2.0]], [0, 0])
    assert measured == {"error": 0.0, "nll": 0.0, "calibration_error": 0.0, "brier": 0.0}


@pytest.mark.parametrize("ignore_index", [-100, 2])
def test_ignored_rows_are_as_if_they_were_not_there(ignore_index):
    random = np.random.default_rng(4)
    logits, labels = random.normal(size=(30, 7)), random.integers(3, 7, size=30)
    masked, kept = labels.copy(), np.arange(30) % 3 != 0
    masked[~kept] = ignore_index
    logits[0] = np.nan  # what an ignored row holds must not matter
    expected = classification_metrics(logits[kept], labels[kept])
    assert classification_metrics(logits, masked, ignore_index=ignore_index) == expected


@pytest.mark.parametrize("dtype", ["float16", "float32", "int64"])
def test_other_number_types_are_measured_in_float64(dtype):
    given = (np.random.default_rng(5).normal(size=(200, 8)) * 4).astype(dtype)
    labels = np.random.default_rng(6).integers(0, 8, size=200)
    measured = classification_metrics(given, labels.astype(np.uint8))
    assert measured == classification_metrics(given.astype(np.float64), labels)


def test_tensors_may_be_given():
    logits, labels = random_case(7)
    given = torch.from_numpy(logits), torch.from_numpy(labels)
    assert classification_metrics(*given) == classification_metrics(logits, labels)


def test_nothing_given_is_changed():
    logits, labels = random_case(8)
    before = logits.copy(), labels.copy()
    classification_metrics(logits, labels)
    np.testing.assert_array_equal(logits, before[0])
    np.testing.assert_array_equal(labels, before[1])


NAN = np.array([[0.0, 1.0], [0.0, 1.0], [np.nan, 1.0], [np.nan, 1.0]])
MEASURES = [
    error_rate,
    lambda logits, labels: top_k_error(logits, labels, k=1),
    negative_log_likelihood,
    brier_score,
    reliability,
    expected_calibration_error,
    classification_metrics,
]


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(
    ("logits", "labels", "error", "message"),
    [
        (np.zeros((0, 3)), np.zeros(0, int), ValueError, r"`logits` must not be empty, got shape \(0, 3\)"),
        (np.zeros((2, 0)), [0, 0], ValueError, r"`logits` must not be empty, got shape \(2, 0\)"),
        (np.zeros((2, 3)), [], ValueError, r"`labels` must not be empty, got shape \(0,\)"),
        (np.zeros((2, 3)), [0, 1, 2], ValueError, r"\[N, C\] and \[N\], got \(2, 3\) and \(3,\)"),
        (np.zeros((2, 3)), [[0], [1]], ValueError, r"\[N, C\] and \[N\], got \(2, 3\) and \(2, 1\)"),
        (np.zeros(3), [0, 1, 2], ValueError, r"\[N, C\] and \[N\], got \(3,\) and \(3,\)"),
        (NAN, [0, 1, 0, 1], ValueError, "`logits` must have a finite maximum in every row, got nan in row 2"),
        (NAN, [-100, 1, -100, 1], ValueError, "got nan in row 3"),
        (np.array([[0.0, np.inf]]), [0], ValueError, "got inf in row 0"),
        (np.array([[-np.inf, -np.inf]]), [0], ValueError, "got -inf in row 0"),
        (np.zeros((3, 3)), [0, -100, 3], ValueError, r"in 0\.\.2 or -100, got 3 in row 2"),
        (np.zeros((3, 3)), [0, -1, 3], ValueError, r"`labels` must be in 0\.\.2 or -100, got -1 in row 1"),
        (np.zeros((2, 3)), [-100, -100], ValueError, "must have a row that counts, got 2 times -100"),
        (np.zeros((2, 3)), [0.0, 1.0], TypeError, "`labels` must be integers, got dtype float64"),
        (np.zeros((2, 3)), [True, False], TypeError, "`labels` must be integers, got dtype bool"),
    ],
)
def test_bad_arrays_are_refused_by_every_measure(measure, logits, labels, error, message):
    with pytest.raises(error, match=message):
        measure(logits, labels)


@pytest.mark.parametrize("k", [0, 4, -1, 1.5])
def test_a_k_outside_the_labels_is_refused(k):
    with pytest.raises(ValueError, match=rf"`k` must be a whole number in 1\.\.3, .* got {k}"):
        top_k_error(np.zeros((2, 3)), [0, 1], k=k)


@pytest.mark.parametrize("bins", [0, -3, 2.5])
@pytest.mark.parametrize("measure", [reliability, expected_calibration_error, classification_metrics])
def test_bins_below_one_are_refused(measure, bins):
    with pytest.raises(ValueError, match=f"`bins` must be a whole number of at least 1, got {bins}"):
        measure(np.zeros((2, 3)), [0, 1], bins=bins)


def test_the_examples_run():
    found = doctest.testmod(classification)
    assert (found.failed, found.attempted >= 7) == (0, True)
