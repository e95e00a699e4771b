"""The bag of words: mean of the vectors of a text's features, in the form that trains and the one that exports."""

from __future__ import annotations

import torch
from sklearn.feature_extraction.text import TfidfTransformer

from labelembed.lab.models import BagOfWords
from labelembed.lab.models.bag_of_words import texts_with_feature
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


def weighted(**arguments):
    return built(weighting="tf-idf", texts_with_feature=texts_with_feature(ROWS, 6), **arguments)


def test_tf_idf_weights_are_those_of_scikit_learn():
    model = weighted().double()
    there = torch.zeros(4, 6).scatter_(1, ROWS.long(), 1.0)[:, 1:]
    weights = torch.from_numpy(TfidfTransformer().fit_transform(there.numpy()).toarray()).double()
    # idf is kept in single precision
    torch.testing.assert_close(model(ROWS), weights @ model.embedding.weight[1:], rtol=0, atol=1e-8)
    assert model(ROWS)[2].tolist() == [0.0, 0.0, 0.0]


def test_the_hidden_layer_is_a_relu_of_the_means_and_dropout_acts_in_training_only():
    model = built(layer_size=7).double()
    means = built().double()(ROWS)
    torch.testing.assert_close(
        model(ROWS), torch.relu(means @ model.layer.weight.T + model.layer.bias), rtol=0, atol=1e-15
    )
    assert model.hidden_size == 7
    dropped = built(dropout=0.5, layer_size=50)
    assert (dropped(ROWS) == 0).float().mean() > (dropped.eval()(ROWS) == 0).float().mean()
