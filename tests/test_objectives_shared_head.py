"""Label embedding without a second head, its start and its own learning rate."""

from __future__ import annotations

import math

import pytest
import torch

from labelembed.models import MLP, InputScaling
from labelembed.objectives import LabelEmbedding, LabelSmoothing
from labelembed.seeds import generator, seeded
from labelembed.training.network import Network
from labelembed.training.optimizers import OPTIMIZERS

from .naive.cross_entropy import naive_linear
from .naive.differences import central_differences
from .naive.label_embedding import (
    naive_compressed_row,
    naive_label_embedding_terms,
    naive_label_embedding_total,
)

torch.set_num_threads(1)
HIDDEN, LABELS = 4, 5


@pytest.fixture(params=["reference", "chunked"])
def implementation(request, monkeypatch):
    monkeypatch.setattr("labelembed.objectives.label_embedding.takes_chunks", lambda *_: request.param == "chunked")
    return request.param


def make(embedding="full", **arguments):
    with seeded(0, "objective"):
        objective = LabelEmbedding(
            HIDDEN, LABELS, embedding=embedding, auxiliary="shared", rank=3, **arguments
        ).double()
        with torch.no_grad():
            for name, parameter in objective.named_parameters():
                if name != "embedding.right":
                    parameter.normal_()
    return objective


def make_rows(objective, count=13):
    hidden = torch.randn(count, HIDDEN, generator=generator(0, "rows"), dtype=torch.float64)
    labels = objective.logits(hidden).argmax(dim=1)
    labels[3::4] = (labels[3::4] + 1) % LABELS
    labels[::5] = -100
    return hidden, labels


def tables_of(objective, hidden):
    return {"hidden": hidden} | {name: value.detach() for name, value in objective.named_parameters()}


def naive_terms(moving, held, labels, settings):
    """The terms by the loops: what E learns from is read from `held`, the target it gives too."""

    def logits(tables):
        weight, bias = tables["output.weight"].tolist(), tables["output.bias"].tolist()
        return [naive_linear(weight, bias, row) for row in tables["hidden"].tolist()]

    def embedding(tables):
        if "embedding.weight" in tables:
            return lambda label: tables["embedding.weight"][label].tolist()
        a, b = tables["embedding.left"].tolist(), tables["embedding.right"].tolist()
        return lambda label: naive_compressed_row(a, b, label)

    constants = {"temperature": settings.tau}
    first, held_first = logits(moving), logits(held)
    terms = naive_label_embedding_terms(first, held_first, embedding(held), labels, **constants)
    taught = naive_label_embedding_terms(first, held_first, embedding(moving), labels, **constants)
    terms |= {"auxiliary": 0.0, "hinge": 0.0, "embedding": taught["embedding"]}
    if settings.uniform_weight == 0:
        terms["uniform"] = 0.0
    weights = {name: getattr(settings, name) for name in ("output_weight", "target_weight", "uniform_weight")}
    return terms | {"total": naive_label_embedding_total(terms, **weights)}


@pytest.mark.usefixtures("implementation")
@pytest.mark.parametrize("embedding", ["full", "compressed"])
@pytest.mark.parametrize("uniform_weight", [0.0, 0.2])
def test_terms_and_gradients_equal_the_naive_loops(embedding, uniform_weight):
    objective = make(embedding, uniform_weight=uniform_weight, output_weight=0.3, target_weight=0.5)
    hidden, labels = make_rows(objective)
    tables = tables_of(objective, hidden)
    expected = naive_terms(tables, tables, labels.tolist(), objective)
    leaf = hidden.clone().requires_grad_()
    terms = objective(leaf, labels)
    for name, value in terms._asdict().items():
        assert value.item() == pytest.approx(expected[name], abs=1e-10), name
    terms.total.backward()

    def total_of(moving):
        return naive_terms(moving, tables, labels.tolist(), objective)["total"]

    numeric = central_differences(tables, total_of)
    exact = {"hidden": leaf.grad} | {name: value.grad for name, value in objective.named_parameters()}
    torch.testing.assert_close(exact, numeric, rtol=0, atol=1e-8)


def test_mixture_is_trained_on_the_target_it_says():
    objective = LabelEmbedding(HIDDEN, LABELS, preset="mixture").double()
    hidden, labels = make_rows(objective)
    counts = labels >= 0
    target = 0.2 * torch.nn.functional.one_hot(labels[counts], LABELS).double() + 0.3 / LABELS
    target = target + 0.5 * objective.embedding(labels[counts]).detach().softmax(dim=1)
    expected = torch.nn.functional.cross_entropy(objective.logits(hidden)[counts], target)
    terms = objective(hidden, labels)
    found = terms.total - terms.auxiliary - terms.hinge - terms.embedding
    assert found.item() == pytest.approx(expected.item(), abs=1e-12)
    overridden = LabelEmbedding(HIDDEN, LABELS, preset="mixture", uniform_weight=0.0)
    assert overridden.uniform_weight == 0


def test_there_is_no_second_layer_and_a_layer_can_be_taken_over():
    objective = make()
    assert {name for name, _ in objective.named_parameters()} == {"output.weight", "output.bias", "embedding.weight"}
    layer = torch.nn.Linear(HIDDEN, LABELS)
    taken = LabelEmbedding.from_linear(layer, auxiliary="shared")
    assert taken.output is layer
    assert taken.auxiliary is None


def test_without_target_only_the_output_and_the_embedding_learn():
    objective = make(target_weight=0.0, output_weight=0.7, uniform_weight=0.3)
    smoothing = LabelSmoothing(HIDDEN, LABELS, smoothing=0.3).double()
    smoothing.output.load_state_dict(objective.output.state_dict())
    hidden, labels = make_rows(objective)
    objective(hidden, labels).total.backward()
    smoothing(hidden, labels).total.backward()
    torch.testing.assert_close(objective.output.weight.grad, smoothing.output.weight.grad, rtol=0, atol=1e-12)
    assert bool(objective.embedding.weight.grad.any())


@pytest.mark.parametrize("num_labels", [2, 10, 1_000])
def test_logarithmic_start_keeps_the_share_of_the_label_itself(num_labels):
    full = LabelEmbedding(4, num_labels, initial_scale="log")
    share = full.embedding(torch.arange(2)).softmax(dim=1)[:, :2].diagonal()
    # e^1.5 C / (e^1.5 C + C - 1)
    expected = math.exp(1.5) * num_labels / (math.exp(1.5) * num_labels + num_labels - 1)
    torch.testing.assert_close(share, torch.full((2,), expected), rtol=1e-5, atol=0)
    identity = LabelEmbedding(4, num_labels)
    assert torch.equal(identity.embedding.weight, torch.eye(num_labels))


def test_compressed_logarithmic_start_is_surest_of_the_label_itself():
    with seeded(0):
        objective = LabelEmbedding(4, 2_000, embedding="compressed", rank=128, initial_scale="log")
    rows = objective.embedding(torch.arange(0, 2_000, 100))
    scale = math.log(2_000) + 1.5
    own = rows.gather(1, torch.arange(0, 2_000, 100)[:, None])
    torch.testing.assert_close(own, torch.full_like(own, scale))
    assert bool((rows.argmax(dim=1) == torch.arange(0, 2_000, 100)).all())
    assert rows.softmax(dim=1).gather(1, torch.arange(0, 2_000, 100)[:, None]).min() > 0.6


def test_a_given_scale_is_that_many_identities():
    assert torch.equal(LabelEmbedding(4, 3, initial_scale=2.5).embedding.weight, torch.eye(3) * 2.5)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_embedding_has_its_own_learning_rate_and_decay(name):
    def optimizer_of(head=None, **arguments):
        objective = LabelEmbedding(6, 3, **arguments)
        network = Network(InputScaling(offset=[0.0], scale=[1.0]), MLP(input_shape=(4,), hidden_sizes=(6,)), objective)
        optimizer = OPTIMIZERS[name](network, learning_rate=0.01, weight_decay=0.1, head_weight_decay=head)
        names = {id(parameter): key for key, parameter in network.named_parameters()}
        return {
            names[id(parameter)]: (group["lr"], group["weight_decay"])
            for group in optimizer.param_groups
            for parameter in group["params"]
        }

    plain = optimizer_of()
    assert plain["objective.embedding.weight"] == (0.01, 0.0)
    own = optimizer_of(embedding_learning_rate=10.0)
    assert own["objective.embedding.weight"] == (pytest.approx(0.1), 0.0)
    assert {own[key] for key in own if key != "objective.embedding.weight"} == {(0.01, 0.1)}
    head = optimizer_of(head=0.4)
    assert {head[key][1] for key in head if key.startswith("encoder")} == {0.1}
    assert {key: head[key][1] for key in head if key.endswith("weight") and "objective" in key} == {
        "objective.output.weight": 0.4,
        "objective.auxiliary.weight": 0.4,
        "objective.embedding.weight": 0.0,
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"auxiliary": "shard"}, "did you mean 'shared'"),
        ({"initial_scale": 0.0}, "`initial_scale` must be > 0, 'log' or None, got 0.0"),
        ({"initial_scale": "lg"}, "`initial_scale` must be one of 'log', got 'lg'"),
        ({"embedding_learning_rate": 0.0}, "`embedding_learning_rate` must be > 0, got 0.0"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        LabelEmbedding(4, 3, **arguments)
