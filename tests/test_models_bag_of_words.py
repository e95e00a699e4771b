"""The bag of words: mean of the vectors of a text's features, in the form that trains and the one that exports."""

from __future__ import annotations

import pytest
import torch

from labelembed.models import BagOfWords
from tests.naive.bag_of_words import naive_mean

ROWS = torch.tensor([[3, 5, 0, 0], [1, 2, 3, 4], [0, 0, 0, 0], [5, 0, 0, 0]], dtype=torch.int32)


def built(**arguments):
    torch.manual_seed(0)
    return BagOfWords(input_shape=(4,), vocabulary_size=6, embedding_size=3, **arguments)


def test_hidden_rows_are_means_as_in_the_naive_form():
    model = built().double()
    vectors = model.embedding.weight.tolist()
    wanted = torch.tensor([naive_mean(row, vectors) for row in ROWS.tolist()], dtype=torch.float64)
    torch.testing.assert_close(model(ROWS), wanted, rtol=0, atol=1e-15)
    assert model.hidden_size == 3
    assert model(ROWS[:0]).shape == (0, 3)


def test_the_hidden_layer_is_a_relu_of_the_means():
    model = built(layer_size=7).double()
    means = built().double()(ROWS)
    torch.testing.assert_close(
        model(ROWS), torch.relu(means @ model.layer.weight.T + model.layer.bias), rtol=0, atol=1e-15
    )
    assert model.hidden_size == 7


def test_the_exported_form_gives_the_same_rows_for_any_number_of_texts():
    model = built(layer_size=5).eval()
    exported = torch.export.export(model, (ROWS,), dynamic_shapes=({0: torch.export.Dim("texts")},)).module()
    for rows in (ROWS, ROWS[:3], ROWS.repeat(3, 1)):
        torch.testing.assert_close(exported(rows), model(rows), rtol=0, atol=1e-6)  # another order of the sums


def test_gradients_reach_the_features_that_are_there_and_no_others():
    model = built()
    model(ROWS[[0, 3]]).sum().backward()
    moved = model.embedding.weight.grad.abs().sum(1) > 0
    assert moved.tolist() == [False, False, False, True, False, True]


def test_left_out_features_leave_the_mean_of_the_others():
    torch.manual_seed(0)
    model = built(feature_dropout=0.5)
    with torch.no_grad():
        model.embedding.weight[1:] = torch.eye(5)[:, :3] + 1
    found = torch.stack([model(ROWS[1:2])[0] for _ in range(200)])
    assert len(found.unique(dim=0)) > 5
    means = {tuple(round(value, 4) for value in row) for row in found.tolist()}
    vectors = model.embedding.weight[1:5].tolist()
    subsets = [[v for n, v in enumerate(vectors) if kept >> n & 1] for kept in range(16)]
    possible = {tuple(round(sum(c) / len(s), 4) for c in zip(*s, strict=True)) if s else (0.0,) * 3 for s in subsets}
    assert means <= possible
    model.eval()
    assert torch.equal(model(ROWS), model(ROWS))


def test_dropout_acts_in_training_only():
    model = built(dropout=0.5, layer_size=50)
    assert (model(ROWS) == 0).float().mean() > (model.eval()(ROWS) == 0).float().mean()


def test_arguments_out_of_their_range_are_named_together():
    wrong = {"embedding_size": 0, "layer_size": 0, "feature_dropout": 1.0, "dropout": -0.1}
    with pytest.raises(ValueError, match="embedding_size") as caught:
        BagOfWords(input_shape=(4,), vocabulary_size=6, **wrong)
    assert str(caught.value).splitlines() == [
        "`embedding_size` must be >= 1, got 0",
        "`layer_size` must be >= 1, or null, got 0",
        "`feature_dropout` must be in [0, 1), got 1.0",
        "`dropout` must be in [0, 1), got -0.1",
    ]
