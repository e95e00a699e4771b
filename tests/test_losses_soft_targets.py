"""Distributions by their largest entries: cross entropy and entropy are those of the dense form."""

from __future__ import annotations

import pytest
import torch

from labelembed.losses.soft_targets import SparseTargets, dense, entropy, soft_cross_entropy, sparse
from labelembed.seeds import generator

from .naive.remembering import naive_sparse


@pytest.mark.parametrize("k", [1, 3, 8, 20])
def test_sparse_rows_have_the_cross_entropy_and_entropy_of_their_dense_form(k):
    source = generator(0, "sparse")
    soft = torch.randn(6, 8, generator=source).double().softmax(dim=1)
    log_probabilities = torch.randn(6, 8, generator=source).double().log_softmax(dim=1)
    rows = sparse(soft, k)
    whole = torch.tensor([naive_sparse(row, k) for row in soft.tolist()], dtype=torch.float64)
    torch.testing.assert_close(dense(rows, 8), whole, rtol=0, atol=1e-14)
    expected = -(whole * log_probabilities).sum(dim=1)
    torch.testing.assert_close(soft_cross_entropy(rows, log_probabilities), expected, rtol=0, atol=1e-13)
    torch.testing.assert_close(entropy(rows, 8), -(whole * whole.log()).sum(dim=1), rtol=0, atol=1e-13)


def test_entropy_of_a_sure_row_is_zero():
    sure = SparseTargets(torch.ones(1, 1), torch.zeros(1, 1, dtype=torch.int64))
    assert entropy(sure, 4).item() == 0
    assert entropy(torch.tensor([[0.0, 1.0]]), 2).item() == 0
