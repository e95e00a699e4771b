"""LabelEmbedding's own: who is moved by which term, its limits, starts, warm-up, saved geometries, old states."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from labelembed.geometry import LabelGeometry
from labelembed.objectives import LabelEmbedding

from .made_objectives import made_examples, made_mode

FIRST, SECOND = {"hidden", "output.weight", "output.bias"}, {"auxiliary.weight", "auxiliary.bias"}
LEARNED = {"full": {"embedding.weight"}, "compressed": {"embedding.weight", "embedding.projection"}, "fixed": set()}
every_kind = pytest.mark.parametrize("kind", LEARNED)
learned_kinds = pytest.mark.parametrize("kind", ["full", "compressed"])


def made(kind="full", **arguments):
    return made_mode("label_embedding" if kind == "full" else f"label_embedding, {kind}", **arguments)


def rows(objective, *shape, **how):
    hidden, labels, _ = made_examples(objective, *shape, **how)
    return hidden, labels


def moved_by(objective, term, hidden, labels):
    """Returns the names of the parameters, and `hidden`, at which `term` has a gradient that is not 0."""
    objective.zero_grad()
    leaf = hidden.clone().requires_grad_()
    getattr(objective(leaf, labels), term).backward()
    gradients = {"hidden": leaf.grad} | {name: value.grad for name, value in objective.named_parameters()}
    return {name for name, grad in gradients.items() if grad is not None and bool((grad != 0).any())}


@learned_kinds
def test_terms_move_what_the_paper_says(kind):
    objective = made(kind, uniform_weight=0.2)
    hidden, labels = rows(objective)
    moves = dict.fromkeys(("output", "target", "uniform"), FIRST) | dict.fromkeys(("auxiliary", "hinge"), SECOND)
    moves |= {"embedding": LEARNED[kind], "total": FIRST | SECOND | LEARNED[kind]}
    assert {term: moved_by(objective, term, hidden, labels) for term in moves} == moves


def test_e_comes_to_what_the_second_layer_says():
    """The property the paper claims (eq. 11): E learns the softened output of o2, for the examples it gets right."""
    objective = made(num_labels=3)
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


@every_kind
@pytest.mark.parametrize("impl", ["reference", "chunked"])
@pytest.mark.parametrize(("share", "epochs", "silent"), [(0.4, 10, 4), (0.4, 1, 0), (0.001, 10, 1), (0.99, 4, 3)])
def test_target_has_no_weight_in_the_first_share_of_the_epochs(kind, impl, share, epochs, silent):
    # 0.3 has no exact binary form: a weight that passed through float32 would show at 1e-8.
    objective = made(kind, output_weight=0.0, target_weight=0.3, target_warmup=share, impl=impl)
    hidden, labels = rows(objective)
    for epoch in range(epochs):
        objective.start_epoch(epoch, epochs, 3)
        for module in (objective.train(), objective.eval()):
            terms = module(hidden, labels)
            expected = (0.0 if epoch < silent else 0.3) * terms.target + sum(terms[3:6])
            assert terms.total.item() == pytest.approx(expected.item(), abs=1e-12)  # float64 sums of five
        objective.end_epoch()


def test_a_saved_geometry_trains_a_new_model_on_its_soft_targets(tmp_path):
    learned = made(dtype=torch.float32)
    path = learned.label_geometry([f"label {index}" for index in range(5)]).save(tmp_path / "e.safetensors")
    objective = LabelEmbedding(4, 5, embedding=LabelGeometry.load(path)).double()
    hidden, labels = rows(objective, ignored=False)
    soft = learned.embedding.weight.detach().double().softmax(dim=1)
    logits = objective.logits(hidden)
    expected = F.cross_entropy(logits, labels) + F.cross_entropy(logits, soft[labels])
    # Nothing is rounded on the way: E is float32 in the file as it was.
    torch.testing.assert_close(objective(hidden, labels).total, expected, rtol=0, atol=1e-12)
    found, given = objective.label_geometry().soft_targets(), learned.label_geometry().soft_targets()
    torch.testing.assert_close(found, given, rtol=0, atol=0)


def test_a_fixed_embedding_is_copied_and_not_rounded():
    similarities = nn.Parameter(torch.eye(3) + 0.001)
    objective = LabelEmbedding(4, 3, embedding=LabelGeometry(("a", "b", "c"), similarities=similarities))
    assert torch.equal(copy.deepcopy(objective).bfloat16().embedding.weight, similarities.detach())


@pytest.mark.parametrize("bias", [True, False])
def test_from_linear_starts_the_second_layer_as_a_copy_that_learns(bias):
    layer = nn.Linear(4, 5, bias=bias).requires_grad_(False)
    objective = LabelEmbedding.from_linear(layer, preset="published_code")
    assert objective.output_weight == 0.5
    assert torch.equal(objective.auxiliary.weight, layer.weight)
    assert (objective.auxiliary.bias is None) == (not bias)
    layer.weight.add_(1)
    assert not torch.equal(objective.auxiliary.weight, layer.weight)
    assert not objective.output.weight.requires_grad  # the caller's choice stands
    assert objective.auxiliary.weight.requires_grad  # E is taught by o2, which must learn


@every_kind
def test_the_embedding_is_not_decayed_and_has_its_own_learning_rate(kind):
    objective = made(kind, embedding_learning_rate=10.0)
    names = {id(parameter): name for name, parameter in objective.named_parameters()}
    found = {
        names[id(parameter)]: (group.get("learning_rate_factor"), group["weight_decay"])
        for group in objective.parameter_groups(0.4)
        for parameter in group["params"]
    }
    layers = (FIRST if kind == "fixed" else SECOND | FIRST) - {"hidden"}
    assert found == dict.fromkeys(layers, (None, 0.4)) | dict.fromkeys(LEARNED[kind], (10.0, 0.0))
