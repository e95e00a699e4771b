"""Objectives at their limits: weights of 0, masks, empty batches, one label, one row, thousands of labels."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from labelembed.geometry import LabelGeometry
from labelembed.objectives import LabelEmbedding, LabelSmoothing, OneHot

from .made_objectives import made_case
from .naive.cross_entropy import naive_cross_entropy
from .test_objectives_baselines import BASELINES
from .test_objectives_naive import (
    EMBEDDINGS,
    as_lists,
    assert_terms,
    make_label_embedding,
    make_rows,
    naive_objective_terms,
)

OBJECTIVE_MAKERS = {
    "one_hot": lambda: OneHot(4, 5).double(),
    "label_smoothing": lambda: LabelSmoothing(4, 5, smoothing=0.2).double(),
    "paper": lambda: make_label_embedding("full", uniform_weight=0.1),
    "published_code": lambda: make_label_embedding("full", preset="published_code"),
    "compressed": lambda: make_label_embedding("compressed"),
    "fixed": lambda: make_label_embedding("fixed"),
} | {case: partial(made_case, case) for case in BASELINES}


def output_gradients(objective, hidden, labels):
    """Returns the total's gradient at hidden and at the output layer."""
    objective.zero_grad()
    leaf = hidden.clone().requires_grad_()
    objective(leaf, labels).total.backward()
    return leaf.grad, objective.output.weight.grad, objective.output.bias.grad


def with_output_of(objective, other):
    objective.output.load_state_dict(other.output.state_dict())
    return objective


@pytest.mark.parametrize("kind", EMBEDDINGS)
def test_no_target_weight_is_cross_entropy_in_hidden_and_output_layer(kind):
    objective = make_label_embedding(kind, target_weight=0.0, output_weight=1.0)
    one_hot = with_output_of(OneHot(4, 5).double(), objective)
    hidden, labels = make_rows(objective)
    expected = output_gradients(one_hot, hidden, labels)
    # Float64 and the same mathematics in another order of operations.
    torch.testing.assert_close(output_gradients(objective, hidden, labels), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", EMBEDDINGS)
def test_uniform_in_place_of_target_is_label_smoothing_in_hidden_and_output_layer(kind):
    objective = make_label_embedding(kind, target_weight=0.0, output_weight=0.6, uniform_weight=0.4)
    smoothing = with_output_of(LabelSmoothing(4, 5, smoothing=0.4).double(), objective)
    hidden, labels = make_rows(objective)
    expected = output_gradients(smoothing, hidden, labels)
    torch.testing.assert_close(output_gradients(objective, hidden, labels), expected, rtol=0, atol=1e-12)


def test_geometry_of_equal_labels_is_label_smoothing():
    flat = LabelGeometry([str(label) for label in range(5)], similarities=torch.zeros(5, 5))
    objective = LabelEmbedding(4, 5, embedding=flat, output_weight=0.7, target_weight=0.3).double()
    smoothing = with_output_of(LabelSmoothing(4, 5, smoothing=0.3).double(), objective)
    hidden, labels = make_rows(objective)
    total = objective(hidden, labels).total
    torch.testing.assert_close(total, smoothing(hidden, labels).total, rtol=0, atol=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.75, 1.0])
def test_label_smoothing_equals_that_of_pytorch(smoothing):
    objective = LabelSmoothing(4, 5, smoothing=smoothing).double()
    hidden, labels = make_rows(objective)
    expected = F.cross_entropy(objective.logits(hidden), labels, label_smoothing=smoothing)
    torch.testing.assert_close(objective(hidden, labels).total, expected, rtol=0, atol=1e-12)


def test_no_smoothing_is_one_hot():
    smoothing = LabelSmoothing(4, 5, smoothing=0.0).double()
    one_hot = with_output_of(OneHot(4, 5).double(), smoothing)
    hidden, labels = make_rows(smoothing)
    assert smoothing(hidden, labels).total.item() == pytest.approx(one_hot(hidden, labels).total.item(), abs=1e-14)
    expected = output_gradients(one_hot, hidden, labels)
    torch.testing.assert_close(output_gradients(smoothing, hidden, labels), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", OBJECTIVE_MAKERS)
def test_masked_rows_equal_selected_rows(name):
    objective = OBJECTIVE_MAKERS[name]()
    hidden, labels = make_rows(objective)
    hidden[labels == -100] = float("nan")
    counts = labels != -100
    results = []
    rows = torch.arange(len(labels))
    for selected, marks, places in ((hidden, labels, rows), (hidden[counts], labels[counts], rows[counts])):
        objective.zero_grad()
        leaf = selected.clone().requires_grad_()
        terms = objective(leaf, marks, places)
        terms.total.backward()
        gradients = {key: value.grad for key, value in objective.named_parameters()}
        results.append((terms._asdict(), gradients, leaf.grad))
    (terms, gradients, at_all), (selected_terms, selected_gradients, at_selected) = results
    # The same numbers; a matrix product of rows gathered elsewhere in memory may sum in another order.
    torch.testing.assert_close(terms, selected_terms, rtol=0, atol=1e-12)
    torch.testing.assert_close(gradients, selected_gradients, rtol=0, atol=1e-12)
    torch.testing.assert_close(at_all[counts], at_selected, rtol=0, atol=1e-12)
    assert bool((at_all[~counts] == 0).all())  # and no NaN among them


@pytest.mark.parametrize("shape", [(3,), (2, 3), (0,), (0, 3)])
@pytest.mark.parametrize("name", OBJECTIVE_MAKERS)
def test_no_row_that_counts_gives_a_total_of_zero_that_goes_back(name, shape):
    objective = OBJECTIVE_MAKERS[name]()
    hidden = torch.full((*shape, 4), float("inf"), dtype=torch.float64, requires_grad=True)
    terms = objective(hidden, torch.full(shape, -100), torch.arange(math.prod(shape)).view(shape))
    assert {key: value.item() for key, value in terms._asdict().items()} == dict.fromkeys(terms._asdict(), 0.0)
    terms.total.backward()
    assert bool((hidden.grad == 0).all())
    for key, parameter in objective.named_parameters():
        assert parameter.grad is not None, key
        assert bool((parameter.grad == 0).all()), key


@pytest.mark.parametrize("name", OBJECTIVE_MAKERS)
def test_one_row_equals_that_row_repeated(name):
    objective = OBJECTIVE_MAKERS[name]()
    if name == "published_code":
        objective.hinge_reduction = "mean"  # a sum would triple
    hidden, labels = make_rows(objective, count=1, ignored=False)
    row = torch.tensor([6])
    one = objective(hidden, labels, row)._asdict()
    three = objective(hidden.expand(3, -1), labels.expand(3), row.expand(3))._asdict()
    torch.testing.assert_close(one, three, rtol=0, atol=1e-12)  # a mean of three equal float64 numbers
    assert one["total"].item() != 0


@pytest.mark.parametrize("name", OBJECTIVE_MAKERS)
def test_another_ignore_index_ignores_that_label_alone(name):
    objective = OBJECTIVE_MAKERS[name]()
    hidden, labels = make_rows(objective)
    rows = torch.arange(len(labels))
    expected = objective(hidden, labels, rows)._asdict()
    objective.ignore_index = 99
    found = objective(hidden, torch.where(labels == -100, 99, labels), rows)._asdict()
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    objective.ignore_index = None
    counts = labels != -100
    found = objective(hidden[counts], labels[counts], rows[counts])._asdict()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["full", "compressed"])
def test_large_temperature_teaches_the_uniform_distribution(kind):
    objective = make_label_embedding(kind, temperature=1e9)
    hidden, labels = make_rows(objective)
    counts = labels != -100
    right = counts & (objective.auxiliary(hidden).argmax(dim=1) == labels)
    rows = objective.embedding(labels[right]).tolist()
    expected = sum(naive_cross_entropy([1 / 5] * 5, row) for row in rows) / len(rows)
    # Logits of about 3 over 1e9 leave 3e-9 of a difference from uniform.
    assert objective(hidden, labels).embedding.item() == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("kind", EMBEDDINGS)
def test_one_label_has_nothing_to_learn_but_the_hinge(kind):
    objective = make_label_embedding(kind, num_labels=1, confidence_limit=0.9)
    hidden, labels = make_rows(objective, count=3, ignored=False)
    leaf = hidden.clone().requires_grad_()
    terms = objective(leaf, labels)
    hinge = 0.0 if kind == "fixed" else 1 - 0.9
    assert terms.hinge.item() == pytest.approx(hinge, abs=1e-12)
    assert terms.total.item() == pytest.approx(hinge, abs=1e-12)
    terms.total.backward()
    assert bool((leaf.grad == 0).all())
    assert all(bool((parameter.grad == 0).all()) for parameter in objective.parameters())


@pytest.mark.parametrize("kind", EMBEDDINGS)
def test_three_thousand_labels_equal_the_naive_loops(kind):
    objective = make_label_embedding(kind, num_labels=3000, confidence_limit=1e-3)
    hidden, labels = make_rows(objective, count=5, ignored=False)
    lists = as_lists(objective, hidden, labels)
    naive = naive_objective_terms(lists, lists, labels.tolist(), objective)
    leaf = hidden.clone().requires_grad_()
    terms = objective(leaf, labels)
    assert_terms(terms, naive)
    terms.total.backward()
    assert all(bool(torch.isfinite(parameter.grad).all()) for parameter in objective.parameters())
    assert bool(torch.isfinite(leaf.grad).all())
