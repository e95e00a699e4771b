"""Objectives that are given something made elsewhere: a teacher's logits, the labels' vectors."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from labelembed.geometry import LabelGeometry
from labelembed.objectives import Distillation, StaticLabels

from .made_objectives import label_vectors, made_examples, made_mode, teacher_logits
from .naive.cross_entropy import naive_linear
from .naive.static_labels import naive_static_logits

torch.set_num_threads(1)
LOSSES = ("huber", "squared", "cosine")


# ------------------------------------------------------------------------------------------------ distillation


def made_distillation(**arguments):
    objective = made_mode("distillation", **arguments)
    hidden, labels, _ = made_examples(objective)
    return objective, hidden, labels, torch.arange(20, 20 + len(labels))


def test_teacher_is_looked_up_by_row():
    objective, hidden, labels, rows = made_distillation()
    total = objective(hidden, labels, rows).total
    other = objective(hidden, labels, rows + 1).total
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    mixed = objective(hidden[order], labels[order], rows[order]).total
    torch.testing.assert_close(mixed, total, rtol=0, atol=1e-12)
    assert abs(total.item() - other.item()) > 1e-3


def test_evaluation_without_indices_is_the_cross_entropy():
    objective, hidden, labels, rows = made_distillation()
    terms = objective.eval()(hidden, labels)
    assert terms.total.item() == terms.output.item() == objective(hidden, labels, rows).output.item()
    assert terms.teacher.item() == 0


def test_without_a_teacher_it_predicts_and_does_not_train():
    taught, hidden, labels, rows = made_distillation()
    objective = Distillation(4, 5, teacher_logits=None).double()
    objective.load_state_dict(taught.state_dict())  # which does not carry the teacher
    assert set(taught.state_dict()) == {"output.weight", "output.bias", "temperature"}
    assert torch.equal(objective.logits(hidden), taught.logits(hidden))
    with pytest.raises(ValueError, match="`teacher_logits` must be given to train, got None"):
        objective(hidden, labels, rows)


def test_the_table_is_a_copy_that_follows_the_module():
    table = teacher_logits(5)
    objective = Distillation(4, 5, teacher_logits=table)
    table.zero_()
    assert bool((objective.teacher_logits != 0).any())
    assert objective.double().teacher_logits.dtype == torch.float64
    assert torch.equal(copy.deepcopy(objective).teacher_logits, objective.teacher_logits)


def test_teacher_term_is_that_of_torch():
    objective, hidden, labels, rows = made_distillation(temperature=3.0)
    counts = labels != -100
    taught = (objective.teacher_logits[rows[counts]] / 3).softmax(dim=1)
    said = (objective.logits(hidden[counts]) / 3).log_softmax(dim=1)
    expected = F.kl_div(said, taught, reduction="batchmean")
    torch.testing.assert_close(objective(hidden, labels, rows).teacher, expected, rtol=0, atol=1e-12)


def test_a_network_that_says_what_its_teacher_says_has_no_loss():
    objective, hidden, labels, rows = made_distillation(teacher_weight=1.0)
    with torch.no_grad():
        objective.teacher_logits[rows] = objective.logits(hidden)
    leaf = hidden.clone().requires_grad_()
    total = objective(leaf, labels, rows).total
    total.backward()
    assert total.item() == pytest.approx(0, abs=1e-14)
    assert leaf.grad.abs().max().item() < 1e-14


def test_training_brings_the_outputs_to_the_teacher():
    """What it is for: the student ends nearer to the teacher's distribution than one that learned the labels."""
    found = []
    for weight in (0.0, 1.0):
        objective, hidden, labels, rows = made_distillation(teacher_weight=weight, hidden_size=16, temperature=2.0)
        optimizer = torch.optim.Adam(objective.parameters(), lr=0.05)
        for _ in range(300):
            optimizer.zero_grad()
            objective(hidden, labels, rows).total.backward()
            optimizer.step()
        found.append(objective(hidden, labels, rows).teacher.item())
    assert found[1] < 1e-3 < found[0]


# ----------------------------------------------------------------------------------------------- static labels


def static(loss="huber", **arguments):
    objective = made_mode("static_labels", loss=loss, **arguments)
    return objective, *made_examples(objective)[:2]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("normalize", [True, False])
def test_static_logits_equal_the_naive_loops(loss, normalize):
    objective, hidden, _ = static(loss, normalize=normalize)
    weight, bias = objective.output.weight.tolist(), objective.output.bias.tolist()
    outputs = [naive_linear(weight, bias, row) for row in hidden.tolist()]
    naive = naive_static_logits(outputs, objective.vectors.tolist(), loss=loss)
    # A square root of a sum of squares that cancels to a tenth of its parts at most.
    torch.testing.assert_close(objective.logits(hidden).tolist(), naive, rtol=0, atol=1e-10)
    shaped = objective.logits(hidden[:12].view(3, 4, -1))
    torch.testing.assert_close(shaped.view(12, -1), objective.logits(hidden[:12]))


def test_losses_are_those_of_torch():
    hidden, labels, _ = made_examples(made_mode("static_labels"))
    counts = labels != -100
    for loss, function in (
        ("huber", lambda found, right: F.huber_loss(found, right, delta=0.7)),
        ("squared", F.mse_loss),
        ("cosine", lambda found, right: (1 - F.cosine_similarity(found, right)).mean()),
    ):
        objective = made_mode("static_labels", loss=loss, delta=0.7)
        expected = function(objective.output(hidden[counts]), objective.vectors[labels[counts]])
        torch.testing.assert_close(objective(hidden, labels).total, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("where", ["at the vector", "at zero"])
def test_gradients_of_loss_and_logits_are_finite_where_a_distance_has_none(loss, where):
    objective, *_ = static(loss, hidden_size=7)
    with torch.no_grad():
        objective.output.weight.copy_(torch.eye(7))
        objective.output.bias.zero_()
    hidden = objective.vectors[:3].clone() if where == "at the vector" else torch.zeros(3, 7, dtype=torch.float64)
    leaf = hidden.requires_grad_()
    (objective(leaf, torch.arange(3)).total + objective.logits(leaf).sum()).backward()
    assert bool(torch.isfinite(leaf.grad).all())
    assert bool(torch.isfinite(objective.output.weight.grad).all())


@pytest.mark.parametrize("loss", LOSSES)
def test_an_output_on_a_labels_vector_predicts_that_label(loss):
    objective, *_ = static(loss, hidden_size=7)
    with torch.no_grad():
        objective.output.weight.copy_(torch.eye(7))
        objective.output.bias.zero_()
    assert objective.logits(objective.vectors).argmax(dim=1).tolist() == [0, 1, 2, 3, 4]


def test_normalized_vectors_have_a_mean_square_of_one_and_keep_their_directions():
    objective, *_ = static()
    torch.testing.assert_close(objective.vectors.square().mean(dim=1), torch.ones(5, dtype=torch.float64))
    given = label_vectors(5).vectors.double()
    assert F.cosine_similarity(objective.vectors, given).min().item() == pytest.approx(1, abs=1e-6)
    assert torch.equal(static(normalize=False)[0].vectors.float(), label_vectors(5).vectors)


def test_similarities_give_their_soft_targets_as_vectors():
    geometry = LabelGeometry("abcde", similarities=torch.randn(5, 5, generator=torch.Generator().manual_seed(0)))
    objective = StaticLabels(4, 5, embedding=geometry, normalize=False)
    torch.testing.assert_close(objective.vectors, geometry.soft_targets())
    assert objective.output_size == 5


def test_geometry_is_the_vectors_or_the_means_of_what_the_outputs_became():
    for loss, metric in (("huber", "euclidean"), ("cosine", "cosine")):
        objective, *_ = static(loss)
        geometry = objective.label_geometry("vwxyz")
        assert geometry.metric == metric
        assert torch.equal(geometry.vectors, objective.vectors.float())
        means = torch.randn(5, 7)
        of_means = objective.label_geometry("vwxyz", class_means=means)
        assert torch.equal(of_means.vectors, means)
        assert (of_means.metric, of_means.source) == (metric, "StaticLabels, class means")


def test_from_linear_takes_the_number_of_labels_from_the_vectors():
    layer = nn.Linear(4, 7)
    objective = StaticLabels.from_linear(layer, embedding=label_vectors(5))
    assert (objective.num_labels, objective.output) == (5, layer)


@pytest.mark.parametrize("loss", LOSSES)
def test_training_makes_the_right_label_the_nearest(loss):
    objective, hidden, labels = static(loss, hidden_size=16)
    labels = labels.clamp_min(0)
    optimizer = torch.optim.Adam(objective.parameters(), lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        objective(hidden, labels).total.backward()
        optimizer.step()
    assert torch.equal(objective.logits(hidden).argmax(dim=1), labels)


def test_many_labels_make_no_table_of_rows_labels_and_entries():
    """2,000 rows x 3,000 labels x 64 entries would be 1.5 GB; the logits are 24 MB."""
    vectors = label_vectors(3000, dimension=64)
    objective = StaticLabels(8, 3000, embedding=vectors)
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            made = function(*args, **(kwargs or {}))
            largest = max(largest, made.numel() if isinstance(made, torch.Tensor) else 0)
            return made

    with Watch(), torch.no_grad():
        objective.logits(torch.randn(2000, 8))
    assert largest == 2000 * 3000
