"""Objectives at their limits: weights of 0, one label, thousands of labels."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from labelembed.geometry import LabelGeometry
from labelembed.objectives import LabelEmbedding, LabelSmoothing, OneHot

from .naive.cross_entropy import naive_cross_entropy
from .test_objectives_naive import (
    EMBEDDINGS,
    as_lists,
    assert_terms,
    make_label_embedding,
    make_rows,
    naive_objective_terms,
)


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
