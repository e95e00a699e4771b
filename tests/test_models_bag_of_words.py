"""The bag of words: mean of the vectors of a text's features, in the form that trains and the one that exports."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfTransformer

from labelembed.lab.models import BagOfWords
from labelembed.lab.models.bag_of_words import texts_with_feature
from labelembed.lab.sparse_rows import SparseRows
from tests.naive.bag_of_words import naive_mean

ROWS = torch.tensor([[3, 5, 0, 0], [1, 2, 3, 4], [0, 0, 0, 0], [5, 0, 0, 0]], dtype=torch.int32)
SPARSE = SparseRows(ROWS[ROWS != 0], torch.tensor([0, 2, 6, 6, 7]), 6)
FORMS = pytest.mark.parametrize("rows", [SPARSE, ROWS], ids=["sparse", "padded"])


def built(**arguments):
    torch.manual_seed(0)
    return BagOfWords(input_shape=(4,), vocabulary_size=6, embedding_size=3, **arguments)


@FORMS
def test_hidden_rows_are_means_as_in_the_naive_form(rows):
    model = built().double()
    vectors = model.embedding.weight.tolist()
    wanted = torch.tensor([naive_mean(row, vectors) for row in ROWS.tolist()], dtype=torch.float64)
    torch.testing.assert_close(model(rows), wanted, rtol=0, atol=1e-15)
    assert model.hidden_size == 3
    assert model(rows[:0]).shape == (0, 3)


def weighted(**arguments):
    return built(weighting="tf-idf", texts_with_feature=texts_with_feature(SPARSE), **arguments)


@FORMS
def test_tf_idf_weights_are_those_of_scikit_learn(rows):
    model = weighted().double()
    there = torch.zeros(4, 6).scatter_(1, ROWS.long(), 1.0)[:, 1:]
    weights = torch.from_numpy(TfidfTransformer().fit_transform(there.numpy()).toarray()).double()
    # idf is kept in single precision
    torch.testing.assert_close(model(rows), weights @ model.embedding.weight[1:], rtol=0, atol=1e-8)
    assert model(rows)[2].tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("weighting", ["mean", "tf-idf"])
def test_both_forms_have_the_same_gradients_and_the_padding_has_none(weighting):
    found = []
    for rows in (SPARSE, ROWS):
        model = built(weighting=weighting, texts_with_feature=texts_with_feature(SPARSE), layer_size=5).double()
        model(rows).square().sum().backward()
        found.append([parameter.grad for parameter in model.parameters()])
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-14)
    assert found[0][0][0].tolist() == [0.0] * 3


@FORMS
def test_dropped_features_are_left_out_of_the_mean(rows):
    model = built(feature_dropout=0.5)
    with torch.no_grad():
        model.embedding.weight[1:] = 1.0
    torch.manual_seed(1)
    seen = {round(float(value), 6) for _ in range(20) for value in model(rows).detach().flatten()}
    assert seen == {0.0, 1.0}


def test_compiled_is_eager_in_batches_of_any_length():
    model = built(weighting="tf-idf", texts_with_feature=texts_with_feature(SPARSE))
    compiled = torch.compile(model)
    for some in (SPARSE, SPARSE[:2], SPARSE.select(torch.tensor([1, 1, 0, 3, 3, 1])), SPARSE[2:3]):
        gradients = []
        for network in (model, compiled):
            model.zero_grad()
            network(some).square().sum().backward()
            gradients.append((network(some).detach(), model.embedding.weight.grad.clone()))
        torch.testing.assert_close(gradients[1], gradients[0], rtol=0, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.lists(st.integers(1, 9), unique=True, max_size=6), min_size=1, max_size=9), data=st.data())
def test_sparse_rows_are_chosen_and_cut_as_lists_are(rows, data):
    def lists(some):
        return [[number for number in row if number] for row in some.padded().tolist()]

    lengths = torch.tensor([0, *map(len, rows)])
    flat = torch.tensor([number for row in rows for number in row], dtype=torch.int32)
    made = SparseRows(flat, lengths.cumsum(0), 10)
    assert (lists(made), len(made), made.shape) == (rows, len(rows), (len(rows), 10))
    places = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=12))
    chosen = made.select(torch.tensor(places, dtype=torch.int64))
    assert lists(chosen) == [rows[place] for place in places]
    begin, end = (data.draw(st.integers(0, len(rows))) for _ in range(2))
    assert lists(made[begin:end]) == rows[begin:end]
    parts = made.tensor_split(data.draw(st.integers(1, 4)))
    assert [row for part in parts for row in lists(part)] == rows
