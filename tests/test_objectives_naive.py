"""Objectives from hidden rows: every term, the total and every gradient against the naive loops."""

from __future__ import annotations

import copy
import functools
import math

import pytest
import torch

from labelembed.geometry import LabelGeometry
from labelembed.objectives import LabelEmbedding, LabelSmoothing, OneHot
from labelembed.seeds import generator, seeded

from .naive.cross_entropy import naive_label_smoothing_terms, naive_linear
from .naive.label_embedding import (
    naive_compressed_row,
    naive_fixed_label_embedding_terms,
    naive_label_embedding_terms,
    naive_label_embedding_total,
)

torch.set_num_threads(1)  # with tensors this small, threads that wait for each other take most of the time
# A limit that a few rows of an untrained layer exceed, so that the hinge has something to say.
ACTING = {"confidence_limit": 0.3}
EMBEDDINGS = ("full", "compressed", "fixed")

E = "embedding.weight"


def make_label_embedding(kind="full", *, hidden_size=4, num_labels=5, dtype=torch.float64, seed=0, **arguments):
    """Returns a LabelEmbedding away from its start: E is noise, the layers are large enough to be sure."""
    given = ACTING | {"rank": 3} | arguments
    with seeded(seed, "objective"):
        if kind == "fixed":
            names = [str(label) for label in range(num_labels)]
            given["embedding"] = LabelGeometry(names, similarities=torch.randn(num_labels, num_labels))
        else:
            given["embedding"] = kind
        objective = LabelEmbedding(hidden_size, num_labels, **given).to(dtype)
        with torch.no_grad():
            for name, parameter in objective.named_parameters():
                if name != "embedding.right":
                    parameter.normal_()
    return objective


def make_rows(objective, count=13, *, ignored=True, seed=0):
    """Returns hidden [count, H] and labels: three in four as the last layer predicts, every fifth ignored."""
    dtype = objective.output.weight.dtype
    source = generator(seed, "rows")
    hidden = torch.randn(count, objective.hidden_size, generator=source, dtype=torch.float64).to(dtype)
    labels = (getattr(objective, "auxiliary", None) or objective.logits)(hidden).argmax(dim=1)
    labels[3::4] = (labels[3::4] + 1) % objective.num_labels
    if ignored:
        labels[::5] = -100
    return hidden, labels


def layer_lists(objective, name):
    layer = getattr(objective, name)
    bias = [0.0] * objective.num_labels if layer.bias is None else layer.bias.tolist()
    return layer.weight.tolist(), bias


def as_lists(objective, hidden, labels=None):
    """Returns everything the naive loops read, as nested lists; of E only the rows of `labels`, where given."""
    lists = {"hidden": hidden.tolist()}
    for name in ("output", "auxiliary"):
        if getattr(objective, name, None) is not None:
            lists[f"{name}.weight"], lists[f"{name}.bias"] = layer_lists(objective, name)
    state = objective.state_dict()
    lists |= {name: value for name, value in state.items() if name.startswith("embedding.")}
    if labels is not None and E in lists:
        lists[E] = {label: lists[E][label].tolist() for label in set(labels.tolist())}
    return {name: values.tolist() if isinstance(values, torch.Tensor) else values for name, values in lists.items()}


def naive_logits(lists, layer, hidden):
    return [naive_linear(lists[f"{layer}.weight"], lists[f"{layer}.bias"], row) for row in hidden]


def naive_embedding_of(lists):
    if E in lists:
        return lambda label: lists[E][label]
    return lambda label: naive_compressed_row(lists["embedding.left"], lists["embedding.right"], label)


def naive_objective_terms(moving, held, labels, settings):
    """Returns all terms and the total; what is detached in a term is read from `held`, the rest from `moving`."""
    first = naive_logits(moving, "output", moving["hidden"])
    weights = {"output_weight": settings.output_weight, "target_weight": settings.target_weight}
    if "auxiliary.weight" not in held:  # eq. 17
        terms = naive_fixed_label_embedding_terms(first, naive_embedding_of(held), labels)
        terms |= {"auxiliary": 0.0, "hinge": 0.0, "embedding": 0.0}
    else:
        constants = {
            "temperature": settings.tau,
            "confidence_limit": settings.confidence_limit,
            "hinge_reduction": settings.hinge_reduction,
        }
        second = naive_logits(moving, "auxiliary", held["hidden"])
        terms = naive_label_embedding_terms(first, second, naive_embedding_of(held), labels, **constants)
        held_second = naive_logits(held, "auxiliary", held["hidden"])
        taught = naive_label_embedding_terms(first, held_second, naive_embedding_of(moving), labels, **constants)
        terms["embedding"] = taught["embedding"]
    if settings.uniform_weight == 0:
        terms["uniform"] = 0.0  # not computed where it has no part
    total = naive_label_embedding_total(terms, uniform_weight=settings.uniform_weight, **weights)
    return terms | {"total": total}


def assert_terms(terms, naive):
    assert set(terms._asdict()) == set(naive)
    for name, value in terms._asdict().items():
        # Float64 sums of a hundred numbers near 1, in another order than the loops.
        assert value.item() == pytest.approx(naive[name], abs=1e-10), name


@pytest.fixture(params=["reference", "chunked"])
def implementation(request, monkeypatch):
    """Every implementation of the head, in the objective itself."""
    monkeypatch.setattr("labelembed.objectives.label_embedding.takes_chunks", lambda *_: request.param == "chunked")
    return request.param


@pytest.mark.parametrize("kind", EMBEDDINGS)
def test_made_rows_have_right_wrong_and_sure_ones(kind):
    objective = make_label_embedding(kind)
    hidden, labels = make_rows(objective)
    terms = objective(hidden, labels)
    count = int((labels != -100).sum())
    right = int(((objective.auxiliary or objective.output)(hidden).argmax(dim=1) == labels).sum())
    assert 0 < right < count < len(labels)
    assert count not in (1, 2, 4, 8)  # of these the reciprocal is exact in any precision, and hides faults
    assert right not in (1, 2, 4, 8)
    assert kind == "fixed" or 0 < terms.hinge.item() < 1


@pytest.mark.parametrize("preset", ["paper", "published_code"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("uniform_weight", [0.0, 0.3])
@pytest.mark.parametrize("kind", EMBEDDINGS)
@pytest.mark.usefixtures("implementation")
def test_label_embedding_terms_equal_the_naive_loops(preset, reduction, uniform_weight, kind):
    objective = make_label_embedding(kind, preset=preset, hinge_reduction=reduction, uniform_weight=uniform_weight)
    for ignored in (False, True):
        hidden, labels = make_rows(objective, ignored=ignored)
        lists = as_lists(objective, hidden)
        naive = naive_objective_terms(lists, lists, labels.tolist(), objective)
        assert_terms(objective(hidden, labels), naive)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", EMBEDDINGS)
@pytest.mark.usefixtures("implementation")
def test_label_embedding_terms_of_sequences_equal_the_naive_loops(kind, bias):
    objective = make_label_embedding(kind, bias=bias, temperature=0.7)
    hidden, labels = make_rows(objective, count=12)
    lists = as_lists(objective, hidden)
    naive = naive_objective_terms(lists, lists, labels.tolist(), objective)
    # [B, T, H] from a recurrent network is often a transposed view.
    sequences = hidden.view(3, 4, -1).transpose(0, 1).contiguous().transpose(0, 1)
    assert not sequences.is_contiguous()
    assert_terms(objective(sequences, labels.view(3, 4)), naive)


@pytest.mark.parametrize("shape", [(13,), (1,), (3, 4)])
@pytest.mark.parametrize("smoothing", [None, 0.0, 0.3, 1.0])
def test_one_hot_and_label_smoothing_terms_equal_the_naive_loops(smoothing, shape):
    make = OneHot if smoothing is None else functools.partial(LabelSmoothing, smoothing=smoothing)
    objective = make(4, 5).double()
    for ignored in (False, True):
        hidden, labels = make_rows(objective, count=math.prod(shape), ignored=ignored)
        lists = as_lists(objective, hidden)
        naive = naive_label_smoothing_terms(
            naive_logits(lists, "output", lists["hidden"]), labels.tolist(), smoothing=smoothing or 0.0
        )
        if smoothing is None:
            del naive["uniform"]
        assert_terms(objective(hidden.view(*shape, -1), labels.view(shape)), naive)


def numeric_gradients(lists, labels, settings, step=1e-6):
    """Returns central differences of the naive total at every number that may move; detached parts are held."""
    gradients = {}
    for name, values in lists.items():
        table = torch.tensor(values, dtype=torch.float64)
        gradient = torch.zeros(table.numel(), dtype=torch.float64)
        for index in range(table.numel()):
            ends = []
            for sign in (1, -1):
                shifted = table.clone().view(-1)
                shifted[index] += sign * step
                moving = lists | {name: shifted.view_as(table).tolist()}
                ends.append(naive_objective_terms(moving, lists, labels, settings)["total"])
            gradient[index] = (ends[0] - ends[1]) / (2 * step)
        gradients[name] = gradient.view_as(table)
    return gradients


@pytest.mark.parametrize("preset", ["paper", "published_code"])
@pytest.mark.parametrize("kind", EMBEDDINGS)
@pytest.mark.usefixtures("implementation")
def test_label_embedding_gradients_equal_finite_differences_of_the_naive_loops(preset, kind):
    objective = make_label_embedding(kind, hidden_size=3, num_labels=4, preset=preset, uniform_weight=0.3, rank=2)
    hidden, labels = make_rows(objective, count=7)
    numeric = numeric_gradients(as_lists(objective, hidden), labels.tolist(), objective)
    leaf = hidden.clone().requires_grad_()
    objective(leaf, labels).total.backward()
    exact = {"hidden": leaf.grad} | {name: value.grad for name, value in objective.named_parameters()}
    if kind == "fixed":
        assert bool((numeric.pop(E) == 0).all())
    # Central differences with steps of 1e-6: 1e-12 from the third derivative, 1e-10 from rounding.
    torch.testing.assert_close(exact, numeric, rtol=0, atol=1e-8)


@pytest.mark.parametrize("preset", ["paper", "published_code"])
@pytest.mark.parametrize("kind", ["full", "compressed"])
def test_label_embedding_gradients_are_those_of_the_plain_lines(preset, kind):
    gradients = []
    for impl in ("reference", "chunked"):
        objective = make_label_embedding(kind, preset=preset, uniform_weight=0.2, impl=impl)
        hidden, labels = make_rows(objective)
        leaf = hidden.clone().requires_grad_()
        objective(leaf, labels).total.backward()
        gradients.append({"hidden": leaf.grad} | {name: value.grad for name, value in objective.named_parameters()})
    for other in gradients[1:]:
        torch.testing.assert_close(gradients[0], other, rtol=0, atol=1e-12)  # float64, gradients below 10


@pytest.mark.parametrize("kind", EMBEDDINGS)
def test_trained_parts_pass_gradcheck_in_hidden_and_parameters(kind):
    """Each part of the objective as a function of what it trains, by torch's own finite differences."""
    objective = make_label_embedding(kind, hidden_size=3, num_labels=4, uniform_weight=0.3, rank=2)
    hidden, labels = make_rows(objective, count=6)
    trains = {
        "output": ("output.weight", "output.bias"),
        "target": ("output.weight", "output.bias"),
        "uniform": ("output.weight", "output.bias"),
        "auxiliary": ("auxiliary.weight", "auxiliary.bias"),
        "hinge": ("auxiliary.weight", "auxiliary.bias"),
        "embedding": (E,) if kind == "full" else ("embedding.left", "embedding.right"),
    }
    parameters = dict(objective.named_parameters())
    for term in trains if kind != "fixed" else ("output", "target", "uniform"):

        def part(rows, *values, term=term):
            changed = dict(zip(trains[term], values, strict=True))
            terms = torch.func.functional_call(objective, changed, (rows, labels))
            return getattr(terms, term)

        moves_hidden = term in ("output", "target", "uniform")
        rows = hidden.clone().requires_grad_(moves_hidden)
        values = [parameters[name].detach().clone().requires_grad_() for name in trains[term]]
        assert torch.autograd.gradcheck(part, (rows, *values)), term


@pytest.mark.parametrize("kind", EMBEDDINGS)
def test_a_copy_is_independent_and_gives_the_same_terms(kind):
    objective = make_label_embedding(kind)
    hidden, labels = make_rows(objective)
    before = objective(hidden, labels)
    before.total.backward()
    other = copy.deepcopy(objective)
    torch.testing.assert_close(tuple(other(hidden, labels)), tuple(before), rtol=0, atol=0)  # the same operations
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    torch.testing.assert_close(tuple(objective(hidden, labels)), tuple(before), rtol=0, atol=0)
