"""The baselines of the papers: confidence penalty, teacher-free, distillation, static labels; what each is made for."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from labelembed.geometry import LabelGeometry
from labelembed.objectives import Distillation, LabelEmbedding, LabelSmoothing, OneHot

from .made_objectives import made_examples, made_mode
from .naive.cross_entropy import naive_linear
from .naive.static_labels import naive_static_logits
from .naive.teacher_free import naive_virtual_teacher


def made(mode, *shape, ignored=True, **arguments):
    objective = made_mode(mode, **arguments)
    return objective, *made_examples(objective, *shape, ignored=ignored)


def with_output_of(objective, other):
    other.output.load_state_dict(objective.output.state_dict())
    return other


def total_and_gradients(objective, hidden, labels, rows):
    objective.zero_grad()
    leaf = hidden.clone().requires_grad_()
    total = objective(leaf, labels, rows).total
    total.backward()
    of_layer = {name: value.grad for name, value in objective.output.named_parameters()}
    return of_layer | {"total": total.detach(), "hidden": leaf.grad}


def fixed_embedding(*, scale, **weights):
    """A label embedding whose soft targets are those of an identity matrix, times `scale`."""
    geometry = LabelGeometry("abcde", similarities=scale * torch.eye(5))
    return LabelEmbedding(4, 5, embedding=geometry, **weights).double()


IDENTITIES = {
    # what is made, and the strength of the smoothing that it equals: 0 is cross entropy
    "no smoothing": (lambda: made_mode("label_smoothing", smoothing=0.0), 0.0),
    "no penalty": (lambda: made_mode("confidence_penalty", penalty_weight=0.0), 0.0),
    "no virtual teacher": (lambda: made_mode("teacher_free", teacher_weight=0.0), 0.0),
    "no teacher": (lambda: made_mode("distillation", teacher_weight=0.0), 0.0),
    "no similarities": (lambda: made_mode("online_label_smoothing", similarity_weight=0.0, uniform_weight=0.0), 0.0),
    "onehot embedding": (lambda: fixed_embedding(scale=1e3, output_weight=0.5, target_weight=0.5), 0.0),
    "constant embedding": (lambda: fixed_embedding(scale=0.0, output_weight=0.7, target_weight=0.3), 0.3),
}


@pytest.mark.parametrize("case", IDENTITIES)
def test_a_limit_of_an_objective_is_cross_entropy_or_label_smoothing(case):
    make, smoothing = IDENTITIES[case]
    objective = make()
    batch = made_examples(objective)
    expected = OneHot(4, 5) if smoothing == 0 else LabelSmoothing(4, 5, smoothing=smoothing)
    expected = total_and_gradients(with_output_of(objective, expected.double()), *batch)
    torch.testing.assert_close(total_and_gradients(objective, *batch), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.75, 1.0])
@pytest.mark.parametrize("impl", ["reference", "chunked"])
def test_label_smoothing_is_that_of_torch(smoothing, impl):
    objective, hidden, labels, _ = made("label_smoothing", smoothing=smoothing, impl=impl)
    expected = F.cross_entropy(objective.logits(hidden), labels, label_smoothing=smoothing)
    torch.testing.assert_close(objective(hidden, labels).total, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("num_labels", "smoothing"), [(3, None), (100, 0.09995)])
def test_teacher_free_as_published_is_label_smoothing(num_labels, smoothing):
    objective, *batch = made("teacher_free", num_labels=num_labels, teacher_weight=0.1)
    share = naive_virtual_teacher(0, num_labels, true_probability=0.99, temperature=20.0)[0]
    others = num_labels - 1
    strength = 0.1 * (1 - share) * num_labels / others
    assert smoothing is None or strength == pytest.approx(smoothing, abs=5e-6)
    smooth = with_output_of(objective, LabelSmoothing(4, num_labels, smoothing=strength).double())
    found, expected = total_and_gradients(objective, *batch), total_and_gradients(smooth, *batch)
    entropy = -share * math.log(share) - (1 - share) * math.log((1 - share) / others)
    found["total"] += 0.1 * entropy
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_evaluation_without_indices_is_the_cross_entropy():
    objective, hidden, labels, rows = made("distillation")
    terms = objective.eval()(hidden, labels)
    assert terms.total.item() == terms.output.item() == objective(hidden, labels, rows).output.item()
    assert terms.teacher.item() == 0


def test_without_a_teacher_it_predicts_and_does_not_train():
    taught, *batch = made("distillation")
    objective = Distillation(4, 5, teacher_logits=None).double()
    objective.load_state_dict(taught.state_dict())  # which does not carry the teacher
    assert set(taught.state_dict()) == {"output.weight", "output.bias", "output_temperature"}
    assert torch.equal(objective.logits(batch[0]), taught.logits(batch[0]))
    with pytest.raises(ValueError, match="`teacher_logits` must be given to train, got None"):
        objective(*batch)


@pytest.mark.parametrize("normalize", [True, False])
def test_static_logits_equal_the_naive_loops(normalize):
    objective, hidden, *_ = made("static_labels", 3, 4, normalize=normalize)
    weight, bias = objective.output.weight.tolist(), objective.output.bias.tolist()
    outputs = [naive_linear(weight, bias, row) for row in hidden.view(12, 4).tolist()]
    naive = naive_static_logits(outputs, objective.vectors.tolist())
    # A square root of a sum of squares that cancels to a tenth of its parts at most.
    torch.testing.assert_close(objective.logits(hidden).view(12, 5).tolist(), naive, rtol=0, atol=1e-10)


def test_online_smoothing_with_a_uniform_s_is_label_smoothing():
    objective, *batch = made("online_label_smoothing", similarity_weight=0.3, uniform_weight=0.1)
    with torch.no_grad():
        objective.similarities.fill_(1 / 5)
    expected = total_and_gradients(with_output_of(objective, LabelSmoothing(4, 5, smoothing=0.4).double()), *batch)
    torch.testing.assert_close(total_and_gradients(objective, *batch), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("preset", ["paper", "published_port", "progressive"])
def test_retrospection_without_weight_is_cross_entropy(preset):
    objective, *batch = made("retrospection", preset=preset, final_weight=0.0, store_every=1)
    objective.storings += 1  # as if something were stored
    objective.start_epoch(0, 10, 3)
    expected = total_and_gradients(with_output_of(objective, OneHot(4, 5).double()), *batch)
    torch.testing.assert_close(total_and_gradients(objective, *batch), expected, rtol=0, atol=1e-12)
