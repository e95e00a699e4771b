"""The metrics of one evaluation against their naive forms, limits, and bad input."""

import numpy as np
import pytest
import torch
from scipy.special import softmax

from labelembed.metrics import binned_reliability, classification_metrics, fit_temperature, risk_coverage
from tests.naive.cross_entropy import naive_softmax
from tests.naive.metrics import (
    naive_balanced_accuracy,
    naive_brier_score,
    naive_calibration_error,
    naive_macro_f1,
    naive_negative_log_likelihood,
    naive_reliability,
    naive_risk_coverage,
    naive_top_k_error,
)

# Float64 sums of at most a few hundred terms near 1: far below 1e-12 in any order of summing.
EXACT = {"rel": 1e-12, "abs": 1e-12}


def random_case(seed):
    """Returns logits and labels: some with many ties, some with one label."""
    random = np.random.default_rng(seed)
    rows, num_labels = int(random.integers(1, 60)), int(random.integers(1, 13))
    logits = random.normal(size=(rows, num_labels)) * random.choice([0.1, 1.0, 20.0])
    if seed % 3 == 0:
        logits = random.integers(-1, 2, size=(rows, num_labels)).astype(float)
    labels = random.integers(0, num_labels, size=rows)
    return logits, labels


@pytest.mark.parametrize("seed", range(12))
def test_every_metric_equals_the_naive_one(seed):
    logits, labels = random_case(seed)
    num_labels = logits.shape[1]
    for bins in (1, 7, 15):
        measured = classification_metrics(logits, labels, bins=bins)
        expected = {
            "error": naive_top_k_error(logits, labels, 1),
            "nll": naive_negative_log_likelihood(logits, labels),
            "calibration_error": naive_calibration_error(logits, labels, bins),
            "brier": naive_brier_score(logits, labels),
        }
        if num_labels >= 4:
            k = 5 if num_labels >= 10 else 2
            expected[f"top{k}_error"] = naive_top_k_error(logits, labels, k)
        predicted = logits.argmax(axis=1)
        expected["macro_f1"] = naive_macro_f1(predicted.tolist(), labels.tolist())
        expected["balanced_accuracy"] = naive_balanced_accuracy(predicted.tolist(), labels.tolist())
        confidence = [max(naive_softmax(row)) for row in logits]
        curve = {name: value for name, value in measured.items() if "aurc" in name or "coverage" in name}
        assert curve == pytest.approx(risk_coverage(softmax(logits, axis=1), labels), **EXACT)
        assert measured == pytest.approx(expected | curve, **EXACT)  # and no other: of three labels there is no top k
        found = binned_reliability(predicted == labels, confidence, bins=bins)
        naive = np.array(naive_reliability(logits, labels, bins)).T
        assert found == pytest.approx(naive, nan_ok=True, **EXACT)


@pytest.mark.parametrize("levels", [1, 2, 3, 100])
@pytest.mark.parametrize("count", [1, 2, 5, 7])
def test_risk_coverage_equals_the_mean_over_all_orders_of_equal_confidences(count, levels):
    random = np.random.default_rng(10 * count + levels)
    top = 0.5 + random.integers(1, levels + 1, size=count) / (2 * levels + 1)
    labels = random.integers(0, 2, size=count)
    expected = naive_risk_coverage(labels.tolist(), top.tolist())  # class 0 is always predicted
    assert risk_coverage(np.column_stack([top, 1 - top]), labels) == pytest.approx(expected, **EXACT)


def test_risk_coverage_refuses_logits():
    with pytest.raises(ValueError, match=r"`probabilities` must be in \[0, 1\], got -1\.0 to 2\.0"):
        risk_coverage([[2.0, -1.0]], [0])


@pytest.mark.parametrize("num_labels", [2, 3, 7, 10, 29, 39])
def test_a_confidence_on_an_edge_belongs_to_the_bin_below(num_labels):
    # Equal logits, as an untrained network has them: the confidence 1 / C, to the last bit, is the first bin's right
    # end. Both examples in one bin: |1 / 2 - 1 / C|.
    measured = classification_metrics(np.zeros((2, num_labels)), [0, 1], bins=num_labels)
    assert measured["calibration_error"] == abs(0.5 - 1 / num_labels)
    assert binned_reliability([True], [1 / num_labels], bins=num_labels)[0].tolist()[:2] == [1, 0]


def test_other_number_types_and_tensors_are_measured_in_float64_and_not_changed():
    random = np.random.default_rng(5)
    logits, labels = random.normal(size=(200, 8)) * 4, random.integers(0, 8, size=200)
    before = logits.copy(), labels.copy()
    for dtype in ("float16", "float32", "int64", "float64"):
        given = logits.astype(dtype)
        expected = classification_metrics(given.astype(np.float64), labels)
        assert classification_metrics(given, labels.astype(np.uint8)) == expected
    assert all(map(np.array_equal, (logits, labels), before))
    tensor, places = torch.from_numpy(logits), torch.from_numpy(labels)
    assert classification_metrics(tensor, places) == expected
    low = tensor.bfloat16()
    assert classification_metrics(low, places) == classification_metrics(low.double(), places)
    # As a network gives them.
    assert fit_temperature(tensor.requires_grad_(), places) == fit_temperature(logits, labels)


@pytest.mark.parametrize("metric", [classification_metrics, fit_temperature, risk_coverage])
@pytest.mark.parametrize(
    ("logits", "labels", "error", "word"),
    [
        (np.zeros((0, 3)), np.zeros(0, int), ValueError, r"\(0, 3\) and \(0,\)"),
        (np.zeros((2, 3)), [0, 1, 2], ValueError, r"\(2, 3\) and \(3,\)"),
        ([[0.0, 1.0], [np.nan, 1.0]], [0, 1], ValueError, "nan in example 1"),
        ([[-np.inf, -np.inf]], [0], ValueError, "-inf in example 0"),
        (np.zeros((3, 3)), [0, -1, 3], ValueError, r"0\.\.2, got -1 in example 1"),
        (np.zeros((2, 3)), [True, False], TypeError, "bool"),
    ],
)
def test_bad_arrays_are_refused(metric, logits, labels, error, word):
    with pytest.raises(error, match=word):
        metric(logits, labels)
