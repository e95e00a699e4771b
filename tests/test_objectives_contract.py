"""What every entry of OBJECTIVES promises, by its name alone."""

from __future__ import annotations

import copy
import io

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from labelembed.objectives import OBJECTIVES, Objective
from labelembed.seeds import seeded

from .made_objectives import build, needed

# Made batches are small; what is promised holds at any size.
HIDDEN, LABELS = 6, 4
NAMES = ("cat", "dog", "car", "bus")


def make(name, **arguments):
    with seeded(0, "objective"):
        return build(name, HIDDEN, LABELS, **arguments)


def rows_of(labels):
    """Positions in the training set, for objectives that remember rows."""
    return torch.arange(labels.numel()).view_as(labels)


def is_linear(objective):
    """Whether the scores are the output layer's own, and not those of the nearest label."""
    return type(objective).logits is Objective.logits


def make_batch(*shape, seed=0):
    source = torch.Generator().manual_seed(seed)
    hidden = torch.randn(*shape, HIDDEN, generator=source)
    labels = torch.randint(LABELS, shape, generator=source)
    labels.view(-1)[1] = -100
    return hidden, labels


every_objective = pytest.mark.parametrize("name", OBJECTIVES)


@every_objective
def test_objective_is_a_module_that_knows_its_sizes(name):
    objective = make(name)
    assert isinstance(objective, nn.Module)
    assert isinstance(objective, Objective)
    assert (objective.hidden_size, objective.num_labels) == (HIDDEN, LABELS)
    assert objective.output.weight.shape == (objective.output_size, HIDDEN)
    assert not is_linear(objective) or objective.output_size == LABELS


@every_objective
@pytest.mark.parametrize("shape", [(8,), (2, 3), (2, 2, 2)])
def test_terms_are_named_scalars_with_a_total_first(name, shape):
    hidden, labels = make_batch(*shape)
    terms = make(name)(hidden, labels, rows=rows_of(labels))
    named = terms._asdict()
    assert next(iter(named)) == "total"
    assert all(value.shape == () and value.dtype == torch.float32 for value in named.values())
    assert named["total"] is terms.total
    assert "output" in named


@every_objective
def test_sequences_equal_their_rows_in_one_line(name):
    objective = make(name)
    hidden, labels = make_batch(3, 5)
    flat = copy.deepcopy(objective)(hidden.view(15, HIDDEN), labels.view(15), rows_of(labels.view(15)))._asdict()
    # Float32: the same rows, in one product or in another.
    torch.testing.assert_close(objective(hidden, labels, rows_of(labels))._asdict(), flat, rtol=1e-6, atol=1e-6)


@every_objective
def test_total_trains_every_parameter(name):
    objective = make(name)
    hidden, labels = make_batch(200)
    objective(hidden, labels, rows_of(labels)).total.backward()
    assert {key for key, value in objective.named_parameters() if value.grad is None or not value.grad.any()} == set()


@every_objective
def test_logits_are_scores_of_every_label_for_any_leading_shape(name):
    objective = make(name)
    for shape in ((), (5,), (2, 3)):
        hidden = torch.randn(*shape, HIDDEN)
        logits = objective.logits(hidden)
        assert logits.shape == (*shape, LABELS)
        outputs = objective.outputs(hidden)
        torch.testing.assert_close(outputs, F.linear(hidden, objective.output.weight, objective.output.bias))
        if is_linear(objective):
            torch.testing.assert_close(logits, outputs)
        assert bool(torch.isfinite(logits).all())


@every_objective
def test_logits_do_not_depend_on_training_or_evaluation(name):
    objective = make(name)
    hidden, _ = make_batch(5)
    assert torch.equal(objective.logits(hidden), objective.eval().logits(hidden))


@every_objective
def test_label_geometry_carries_names_and_is_a_copy(name):
    objective = make(name)
    geometry = objective.label_geometry(NAMES)
    assert geometry.names == NAMES
    assert geometry.source == type(objective).__name__
    assert len(geometry.neighbours("cat", k=10)) == LABELS - 1
    table = geometry.vectors if geometry.vectors is not None else geometry.similarities
    before = table.clone()
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter.add_(1.0)
    assert not table.requires_grad
    assert torch.equal(table, before)


@every_objective
def test_label_geometry_without_names_numbers_the_labels(name):
    assert make(name).label_geometry().names == ("0", "1", "2", "3")


@every_objective
def test_label_geometry_refuses_another_number_of_names(name):
    with pytest.raises(ValueError, match="3 names"):
        make(name).label_geometry(NAMES[:3])


@every_objective
def test_the_same_seed_starts_with_the_same_output_layer(name):
    other = make(name, bias=True)
    with seeded(0, "objective"):
        first = OBJECTIVES["one_hot"](HIDDEN, other.output_size)
    assert torch.equal(other.output.weight, first.output.weight)
    assert torch.equal(other.output.bias, first.output.bias)


@every_objective
def test_output_std_starts_the_output_layer_from_a_cut_normal(name):
    with seeded(0):
        objective = build(name, 500, 40, output_std=0.01, bias=True)
    weight = objective.output.weight
    # A normal cut at two standard deviations has 0.8796 of its deviation; 20,000 draws show it to 0.5 %.
    assert weight.std().item() == pytest.approx(0.8796 * 0.01, rel=0.02)
    assert weight.abs().max().item() <= 0.02
    assert bool((objective.output.bias == 0).all())


@every_objective
def test_bias_false_leaves_no_bias_anywhere(name):
    objective = make(name, bias=False)
    hidden, labels = make_batch(5)
    objective(hidden, labels, rows_of(labels)).total.backward()
    assert not [key for key, _ in objective.named_parameters() if key.endswith("bias")]


REMEMBER_NOTHING = ["one_hot", "label_smoothing", "label_embedding", "confidence_penalty", "teacher_free"]


@pytest.mark.parametrize("name", [*REMEMBER_NOTHING, "distillation", "static_labels"])
def test_epochs_begin_and_end_without_changing_what_remembers_nothing(name):
    objective = make(name)
    hidden, labels = make_batch(5)
    before = objective(hidden, labels, rows_of(labels))
    objective.begin_epoch(0, 2)
    between = objective(hidden, labels, rows_of(labels))
    objective.end_epoch()
    assert torch.equal(before.total, between.total)


@every_objective
def test_state_dict_round_trip_gives_the_same_terms(name):
    objective = make(name)
    hidden, labels = make_batch(8)
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter.normal_()
    file = io.BytesIO()
    torch.save(objective.state_dict(), file)
    file.seek(0)
    other = build(name, HIDDEN, LABELS)
    rows = rows_of(labels)
    before = copy.deepcopy(other)(hidden, labels, rows), copy.deepcopy(objective)(hidden, labels, rows)
    assert not torch.equal(before[0].total, before[1].total)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert all(torch.equal(*p) for p in zip(other(hidden, labels, rows), objective(hidden, labels, rows), strict=True))


@every_objective
def test_deep_copy_gives_the_same_terms_and_is_independent(name):
    objective = make(name)
    hidden, labels = make_batch(8)
    rows = rows_of(labels)
    objective(hidden, labels, rows).total.backward()
    other = copy.deepcopy(objective)
    terms = copy.deepcopy(objective)(hidden, labels, rows)  # a step may change what an objective remembers
    assert all(torch.equal(*pair) for pair in zip(other(hidden, labels, rows), terms, strict=True))
    with torch.no_grad():
        for value in [*other.parameters(), *other.buffers()]:
            value.zero_()
    assert torch.equal(objective(hidden, labels, rows).total, terms.total)


@every_objective
def test_parameter_groups_hold_every_parameter_once(name):
    objective = make(name)
    groups = objective.parameter_groups(0.3)
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(parameter) for parameter in objective.parameters())
    decay = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    assert decay[id(objective.output.weight)] == 0.3


@every_objective
def test_from_linear_takes_over_the_very_layer(name):
    given = needed(name, LABELS)
    for bias in (True, False):
        layer = nn.Linear(HIDDEN, make(name).output_size, bias=bias, dtype=torch.float64)
        objective = OBJECTIVES[name].from_linear(layer, num_labels=LABELS, **given)
        objective.begin_epoch(0, 10)
        assert objective.output is layer
        assert (objective.hidden_size, objective.num_labels) == (HIDDEN, LABELS)
        assert {value.dtype for value in objective.parameters()} == {torch.float64}
        hidden = torch.randn(3, HIDDEN, dtype=torch.float64)
        assert torch.equal(objective.outputs(hidden), layer(hidden))
        if is_linear(objective):
            assert torch.equal(objective.logits(hidden), layer(hidden))
        assert objective(hidden, torch.tensor([0, 1, 3]), torch.arange(3)).total.dtype == torch.float64


@pytest.mark.parametrize("name", sorted(OBJECTIVES.keys() - {"adaptive_labels"}))  # any width is a label dimension
def test_from_linear_refuses_a_layer_of_another_width(name):
    layer = nn.Linear(HIDDEN, make(name).output_size + 1)
    with pytest.raises(ValueError, match=rf"`layer` must have {layer.out_features - 1} outputs for {LABELS} labels"):
        OBJECTIVES[name].from_linear(layer, num_labels=LABELS, **needed(name, LABELS))


@every_objective
def test_from_linear_refuses_what_is_no_linear_layer(name):
    with pytest.raises(TypeError, match=r"`layer` must be an nn\.Linear, got Conv1d"):
        OBJECTIVES[name].from_linear(nn.Conv1d(3, 4, 1))
