"""Which parameters each term of each objective moves, exactly, and which rows of E learn."""

from __future__ import annotations

import pytest
import torch

from labelembed.objectives import LabelSmoothing, OneHot

from .test_objectives_naive import make_label_embedding, make_rows

FIRST = {"hidden", "output.weight", "output.bias"}
SECOND = {"auxiliary.weight", "auxiliary.bias"}
LEARNED = {
    "full": {"embedding.weight"},
    "compressed": {"embedding.left", "embedding.right"},
}


def moved_by(objective, term, hidden, labels):
    """Returns the names of the parameters, and `hidden`, at which `term` has a gradient that is not 0."""
    objective.zero_grad()
    leaf = hidden.clone().requires_grad_()
    getattr(objective(leaf, labels), term).backward()
    gradients = {"hidden": leaf.grad} | {name: value.grad for name, value in objective.named_parameters()}
    return {name for name, grad in gradients.items() if grad is not None and bool((grad != 0).any())}


@pytest.mark.parametrize("preset", ["paper", "published_code"])
@pytest.mark.parametrize("kind", ["full", "compressed"])
def test_label_embedding_terms_move_what_the_paper_says(preset, kind):
    objective = make_label_embedding(kind, preset=preset, uniform_weight=0.2)
    hidden, labels = make_rows(objective)
    moves = {
        "output": FIRST,
        "target": FIRST,
        "uniform": FIRST,
        "auxiliary": SECOND,
        "hinge": SECOND,
        "embedding": LEARNED[kind],
        "total": FIRST | SECOND | LEARNED[kind],
    }
    assert {term: moved_by(objective, term, hidden, labels) for term in moves} == moves


def test_fixed_label_embedding_has_no_second_layer_and_moves_the_first_only():
    objective = make_label_embedding("fixed", uniform_weight=0.2)
    hidden, labels = make_rows(objective)
    assert {name for name, _ in objective.named_parameters()} == {"output.weight", "output.bias"}
    assert "embedding.weight" in dict(objective.named_buffers())
    for term in ("output", "target", "uniform", "total"):
        assert moved_by(objective, term, hidden, labels) == FIRST
    terms = objective(hidden.requires_grad_(), labels)
    for term in ("auxiliary", "hinge", "embedding"):
        assert getattr(terms, term).item() == 0
        assert not getattr(terms, term).requires_grad


@pytest.mark.parametrize("objective_class", [OneHot, LabelSmoothing])
def test_simple_objectives_move_the_output_layer_and_hidden(objective_class):
    objective = objective_class(4, 5).double()
    hidden, labels = make_rows(objective)
    for term in objective(hidden, labels)._asdict():
        assert moved_by(objective, term, hidden, labels) == FIRST


def test_a_label_absent_from_the_batch_leaves_its_embedding_alone():
    objective = make_label_embedding("full")
    hidden, labels = make_rows(objective, count=40)
    absent = 2
    labels[labels == absent] = -100
    objective(hidden, labels).total.backward()
    moved = (objective.embedding.weight.grad != 0).any(dim=1)
    right = (objective.auxiliary(hidden).argmax(dim=1) == labels) & (labels != -100)
    expected = torch.zeros(5, dtype=torch.bool)
    expected[labels[right]] = True
    assert moved.tolist() == expected.tolist()
    assert not moved[absent]
    assert moved.any()


def test_a_label_absent_from_the_batch_leaves_its_compressed_row_alone():
    objective = make_label_embedding("compressed")
    hidden, labels = make_rows(objective, count=40)
    labels[labels == 2] = -100
    objective(hidden, labels).total.backward()
    assert bool((objective.embedding.left.grad[2] == 0).all())
    assert bool((objective.embedding.left.grad != 0).any())
    assert bool((objective.embedding.right.grad != 0).any())


@pytest.mark.parametrize("kind", ["full", "compressed"])
def test_no_right_row_gives_an_embedding_term_of_zero_that_moves_nothing(kind):
    objective = make_label_embedding(kind)
    hidden, _ = make_rows(objective)
    labels = objective.auxiliary(hidden).argmin(dim=1)
    terms = objective(hidden, labels)
    terms.total.backward()
    assert terms.embedding.item() == 0
    for name in LEARNED[kind]:
        gradient = objective.get_parameter(name).grad
        assert torch.equal(gradient, torch.zeros_like(gradient))
    assert bool((objective.auxiliary.weight.grad != 0).any())


def test_the_hinge_is_silent_below_the_limit_and_acts_above_it():
    objective = make_label_embedding("full", confidence_limit=0.999)
    with torch.no_grad():
        objective.auxiliary.bias.zero_()  # then the scale of the weight changes how sure o2 is, and nothing else
        objective.auxiliary.weight.mul_(0.1)
    hidden, labels = make_rows(objective)
    assert objective(hidden, labels).hinge.item() == 0
    assert moved_by(objective, "hinge", hidden, labels) == set()
    with torch.no_grad():
        objective.auxiliary.weight.mul_(1e4)
    # 7 of the 10 rows that count are right, now with probability 1 to the last digit.
    assert objective(hidden, labels).hinge.item() == pytest.approx(0.7 * (1 - 0.999), rel=1e-9)


@pytest.mark.parametrize(("preset", "binds"), [("paper", False), ("published_code", True)])
def test_only_a_summed_hinge_turns_the_second_layer_back_above_the_limit(preset, binds):
    """Cross entropy's slope in the right label's probability p is -1 / p, the averaged hinge's is 1."""
    objective = make_label_embedding("full", preset=preset, confidence_limit=0.9)
    with torch.no_grad():
        objective.auxiliary.weight.zero_()
        objective.auxiliary.bias.copy_(torch.tensor([7.0, 0, 0, 0, 0]))
    probability = objective.auxiliary.bias.detach().softmax(dim=0)[0].item()
    assert probability > 0.99
    terms = objective(torch.zeros(6, 4, dtype=torch.float64), torch.zeros(6, dtype=torch.int64))
    (gradient,) = torch.autograd.grad(terms.auxiliary + terms.hinge, objective.auxiliary.bias)
    slope = -1 / probability + (6 if binds else 1)
    assert gradient[0].item() == pytest.approx(slope * probability * (1 - probability), rel=1e-9)
    assert (gradient[0] > 0) == binds


def test_summed_hinge_is_the_mean_times_the_rows_that_count():
    mean = make_label_embedding("full", hinge_reduction="mean")
    summed = make_label_embedding("full", hinge_reduction="sum")
    hidden, labels = make_rows(mean)
    count = int((labels != -100).sum())
    ratio = summed(hidden, labels).hinge / mean(hidden, labels).hinge
    assert ratio.item() == pytest.approx(count, rel=1e-12)  # one float64 product


def test_a_descent_step_on_the_embedding_term_brings_e_towards_what_the_second_layer_says():
    """The property the paper claims (eq. 11): E learns the softened output of o2, for the rows it gets right."""
    objective = make_label_embedding("full", num_labels=3)
    hidden = torch.randn(1, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = objective.auxiliary(hidden).argmax(dim=1)
    goal = torch.softmax(objective.auxiliary(hidden).detach() / 2, dim=1)[0]
    for _ in range(200):
        objective.zero_grad()
        objective(hidden, labels).total.backward()
        with torch.no_grad():
            objective.embedding.weight -= objective.embedding.weight.grad
    learned = objective.label_geometry().soft_targets()[int(labels[0])].double()
    # 200 steps of gradient descent on a convex loss of three numbers: well below float32's own 1e-6.
    torch.testing.assert_close(learned, goal, rtol=0, atol=1e-5)
