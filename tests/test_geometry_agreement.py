"""Kendall's tau-b between distances of labels, against loops over pairs."""

from __future__ import annotations

import numpy as np
import pytest

from labelembed.geometry import kendall_agreement

from .naive.geometry import naive_agreement


def made_distances(count, seed, *, ties):
    random = np.random.default_rng(seed)
    table = random.integers(1, 4, (count, count)).astype(float) if ties else random.random((count, count))
    table = table + table.T
    np.fill_diagonal(table, 0)
    return table


@pytest.mark.parametrize("count", [2, 3, 23])
@pytest.mark.parametrize("ties", [False, True])
def test_agreement_equals_the_loops(count, ties):
    for seed in range(5):
        learned = made_distances(count, seed, ties=ties)
        reference = made_distances(count, seed + 100, ties=True)
        mean, taus = naive_agreement(learned.tolist(), reference.tolist())
        result = kendall_agreement(learned, reference)
        assert result.mean == pytest.approx(mean, abs=1e-12, nan_ok=True)
        for label, tau in enumerate(taus):
            if tau is None:
                assert result.left_out[str(label)].endswith("all equal" if count > 2 else "fewer than two others")
            else:
                assert result.per_label[str(label)] == pytest.approx(tau, abs=1e-12)
        assert len(result.per_label) + len(result.left_out) == count


def test_a_row_of_ties_is_left_out_of_the_mean_and_named():
    learned = made_distances(5, 1, ties=False)
    reference = made_distances(5, 2, ties=False)
    reference[3], reference[:, 3] = 2.0, 2.0
    names = ["a", "b", "c", "d", "e"]
    result = kendall_agreement(learned, reference, names)
    assert list(result.per_label) == ["a", "b", "c", "e"]
    assert result.left_out == {"d": "its reference distances are all equal"}
    assert result.mean == pytest.approx(np.mean(list(result.per_label.values())), abs=1e-12)
    assert str(result) == f"tau-b {result.mean:.3f} over 4 labels, without d"


@pytest.mark.parametrize(
    ("learned", "reference", "names", "words"),
    [
        (np.zeros((3, 2)), np.zeros((3, 3)), None, r"the learned distances must be square \[C, C\], got \[3, 2\]"),
        (np.zeros((0, 0)), np.zeros((0, 0)), None, "must be square"),
        (np.zeros((3, 3)), np.zeros(3), None, "the reference distances must be square"),
        (np.zeros((3, 3)), np.zeros((4, 4)), None, "3 learned labels, but the reference has 4"),
        (np.zeros((3, 3)), np.zeros((3, 3)), ["a", "b"], "3 labels need 3 different names, got 2"),
        (np.zeros((3, 3)), np.zeros((3, 3)), ["a", "b", "a"], "3 labels need 3 different names, got 2"),
        (np.diag([0, np.nan, 0]), np.zeros((3, 3)), ["a", "b", "c"], "label 'b' are not all finite"),
        (np.zeros((3, 3)), np.array([[0, np.nan, 1]] * 3), None, "the reference holds nan in the row of a label"),
    ],
)
def test_tables_and_names_that_do_not_fit_are_refused(learned, reference, names, words):
    with pytest.raises(ValueError, match=words):
        kendall_agreement(learned, reference, names)
