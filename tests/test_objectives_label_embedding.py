"""LabelEmbedding's own ways: its start, presets, warm-up, saved geometries, decay, from_linear."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from labelembed.geometry import LabelGeometry
from labelembed.objectives import LabelEmbedding, label_embedding
from labelembed.objectives.embeddings import OLD_NAMES

from .test_objectives_naive import make_label_embedding, make_rows


@pytest.mark.parametrize("num_labels", [1, 2, 10, 100])
def test_embedding_starts_as_the_identity(num_labels):
    objective = LabelEmbedding(3, num_labels)
    assert torch.equal(objective.embedding.weight, torch.eye(num_labels))
    soft = objective.label_geometry().soft_targets()
    expected = math.e / (math.e + num_labels - 1)
    # A float32 softmax of up to 100 numbers.
    torch.testing.assert_close(soft.diagonal(), torch.full((num_labels,), expected), rtol=1e-6, atol=0)


def test_compressed_embedding_has_the_sizes_of_equation_16():
    objective = LabelEmbedding(3, 30, embedding="compressed", rank=7)
    assert objective.embedding.left.shape == (30, 7)
    assert objective.embedding.right.shape == (7, 30)
    rows = objective.embedding(torch.arange(30))
    assert rows.shape == (30, 30)
    assert bool((rows >= 0).all())
    assert bool((rows == 0).any())
    assert bool((rows > 0).any())


@pytest.mark.parametrize("rank", [4, 100])
def test_compressed_embedding_starts_at_the_same_scale_for_every_rank(rank):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        objective = LabelEmbedding(3, 300, embedding="compressed", rank=rank)
    # relu of a unit normal has the mean square 1/2; the rows share A, so rank 4 scatters by some 10 %.
    assert objective.embedding(torch.arange(300)).square().mean().item() == pytest.approx(0.5, rel=0.3)


@pytest.mark.parametrize(
    ("preset", "output_weight", "target_weight", "hinge_reduction"),
    [("paper", 1.0, 1.0, "mean"), ("published_code", 0.5, 0.5, "sum")],
)
def test_presets_give_the_documented_weights_and_arguments_override_them(
    preset, output_weight, target_weight, hinge_reduction
):
    settings = LabelEmbedding(3, 4, preset=preset)
    assert (settings.output_weight, settings.target_weight) == (output_weight, target_weight)
    assert settings.hinge_reduction == hinge_reduction
    assert (settings.tau, settings.confidence_limit) == (2.0, 0.9)
    assert settings.uniform_weight == 0.0
    other = {"paper": "sum", "published_code": "mean"}[preset]
    chosen = LabelEmbedding(3, 4, preset=preset, output_weight=0.0, target_weight=0.25, hinge_reduction=other)
    assert (chosen.output_weight, chosen.target_weight, chosen.hinge_reduction) == (0.0, 0.25, other)


@pytest.mark.parametrize("kind", ["full", "compressed", "fixed"])
def test_target_has_no_weight_for_exactly_the_warmup_steps(kind):
    # 0.3 has no exact binary form: a weight that passed through float32 would show at 1e-8.
    objective = make_label_embedding(kind, target_weight=0.3, target_warmup_steps=3)
    hidden, labels = make_rows(objective)
    for step in range(6):
        terms = objective(hidden, labels)
        weight = 0.0 if step < 3 else 0.3
        expected = terms.output + weight * terms.target + terms.auxiliary + terms.hinge + terms.embedding
        assert terms.total.dtype == torch.float64
        assert terms.total.item() == pytest.approx(expected.item(), abs=1e-12), step  # float64 sums of five


def test_target_moves_nothing_during_the_warmup_and_everything_after():
    objective = make_label_embedding("full", output_weight=0.0, target_warmup_steps=1)
    hidden, labels = make_rows(objective)
    for step in range(2):
        objective.zero_grad()
        objective(hidden, labels).total.backward()
        assert bool((objective.output.weight.grad != 0).any()) == (step == 1)


def test_evaluation_forwards_do_not_count_as_warmup_steps():
    objective = make_label_embedding("full", target_warmup_steps=2)
    hidden, labels = make_rows(objective)
    objective(hidden, labels)
    objective.eval()
    for _ in range(5):
        objective(hidden, labels)
    assert objective.progress.item() == 1_000_000
    objective.train()
    objective(hidden, labels)
    assert objective.progress.item() == 2_000_000


def test_warmup_counter_travels_in_the_state_dict():
    objective = make_label_embedding("full", target_warmup_steps=2)
    hidden, labels = make_rows(objective)
    objective(hidden, labels)
    objective(hidden, labels)
    assert objective.state_dict()["progress"].item() == 2_000_000
    other = make_label_embedding("full", seed=1, target_warmup_steps=2)
    before_loading = other(hidden, labels)
    other.load_state_dict(objective.state_dict())
    resumed, continued = other(hidden, labels), objective(hidden, labels)
    assert all(torch.equal(*pair) for pair in zip(resumed, continued, strict=True))
    assert before_loading.total.item() != resumed.total.item()


def test_warmup_counter_keeps_its_type_in_low_precision():
    objective = LabelEmbedding(3, 4, target_warmup_steps=20_000).to(torch.bfloat16)
    assert objective.progress.dtype == torch.int64  # bfloat16 could not count beyond 256


@pytest.mark.parametrize(("share", "steps", "silent"), [(0.4, 10, 4), (0.5, 5, 2), (0.001, 10, 0), (0.999, 4, 4)])
def test_a_share_of_the_run_is_so_many_steps_of_it(share, steps, silent):
    objective = make_label_embedding("full", target_weight=0.3, target_warmup_steps=share)
    plain = make_label_embedding("full", target_weight=0.3, target_warmup_steps=silent)
    objective.start_epoch(0, 1, steps)
    hidden, labels = make_rows(objective)
    for _ in range(steps + 2):
        assert torch.equal(objective(hidden, labels).total, plain(hidden, labels).total)
    assert silent == 0 or objective.progress.item() == (steps + 2) * 1_000_000


def test_a_share_of_a_run_of_unknown_length_is_refused_at_the_first_step():
    objective = make_label_embedding("full", target_warmup_steps=0.4)
    hidden, labels = make_rows(objective)
    with pytest.raises(RuntimeError, match=r"0\.4 is a share of the run's steps.*objective\.start_epoch\(epoch"):
        objective(hidden, labels)
    assert objective.progress.item() == 0
    terms = objective.eval()(hidden, labels)  # nothing has begun: the target has no weight yet
    expected = terms.output + terms.auxiliary + terms.hinge + terms.embedding
    assert terms.total.item() == pytest.approx(expected.item(), abs=1e-12)


def test_a_micro_batch_is_a_part_of_a_warmup_step():
    objective = make_label_embedding("full", target_weight=0.3, target_warmup_steps=2)
    hidden, labels = make_rows(objective, ignored=False)
    weighs = []
    for _ in range(3):
        for part, own in zip(hidden.tensor_split(3), labels.tensor_split(3), strict=True):  # 13 examples: 5, 4, 4
            terms = objective(part, own, num_items_in_step=len(labels))
            rest = terms.total - terms.output - terms.auxiliary - terms.hinge - terms.embedding
            weighs.append(bool(rest.abs() > 1e-9))
    assert weighs == [False] * 6 + [True] * 3


@pytest.mark.parametrize(("rank", "low"), [(64, 0.6), (100, 0.67), (256, 0.74)])
def test_the_compressed_start_by_log_is_sure_of_the_label_over_many_labels(rank, low):
    """The rows of A are nearly orthogonal; where they are not, other labels get a share: more at a low rank."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        objective = LabelEmbedding(3, 8_000, embedding="compressed", rank=rank, initial_scale="log")
    labels = torch.arange(0, 8_000, 40)
    with torch.no_grad():
        own = objective.embedding(labels).softmax(dim=1)[torch.arange(len(labels)), labels]
    # Were all rows orthogonal: e^1.5 / (e^1.5 + 1) = 0.818.
    assert low < own.mean().item() < 0.82
    assert own.min().item() > low - 0.1


def test_saved_geometry_trains_a_new_model_on_its_soft_targets(tmp_path):
    learned = make_label_embedding("full", dtype=torch.float32)
    path = learned.label_geometry([f"label {index}" for index in range(5)]).save(tmp_path / "e.safetensors")
    objective = LabelEmbedding(4, 5, embedding=LabelGeometry.load(path)).double()
    hidden, labels = make_rows(objective, ignored=False)
    soft = torch.softmax(learned.embedding.weight.detach().double(), dim=1)
    log_probabilities = torch.log_softmax(objective.logits(hidden), dim=1)
    output = -log_probabilities[torch.arange(len(labels)), labels].mean()
    target = -(soft[labels] * log_probabilities).sum(dim=1).mean()
    # Nothing is rounded on the way: E is float32 in the file as it was.
    torch.testing.assert_close(objective(hidden, labels).total, output + target, rtol=0, atol=1e-12)
    saved = objective.label_geometry()
    torch.testing.assert_close(saved.soft_targets(), learned.label_geometry().soft_targets(), rtol=0, atol=0)


def test_geometry_of_vectors_trains_on_the_softmax_of_minus_their_distances():
    geometry = LabelGeometry(("a", "b", "c"), vectors=torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]]))
    objective = LabelEmbedding(4, 3, embedding=geometry).double()
    between = torch.tensor([[0.0, 5.0, 1.0], [5.0, 0.0, 18**0.5], [1.0, 18**0.5, 0.0]], dtype=torch.float64)
    # The geometry is float32 on its way into the objective.
    torch.testing.assert_close(objective.embedding.weight, -between, rtol=1e-6, atol=0)


def test_fixed_embedding_does_not_share_memory_with_the_geometry():
    geometry = LabelGeometry(("a", "b"), similarities=torch.eye(2))
    LabelEmbedding(4, 2, embedding=geometry).embedding.weight.zero_()
    assert torch.equal(geometry.similarities, torch.eye(2))


@pytest.mark.parametrize(
    ("kind", "learned"),
    [("full", {"embedding.weight"}), ("compressed", {"embedding.left", "embedding.right"}), ("fixed", set())],
)
def test_parameter_groups_do_not_decay_the_embedding(kind, learned):
    objective = make_label_embedding(kind)
    names = {id(parameter): name for name, parameter in objective.named_parameters()}
    groups = objective.parameter_groups(0.2)
    listed = [(names[id(p)], group["weight_decay"]) for group in groups for p in group["params"]]
    decay = dict(listed)
    assert len(listed) == len(decay)
    assert set(decay) == set(names.values())
    assert {name for name in decay if decay[name] == 0} == learned
    assert {decay[name] for name in set(decay) - learned} == {0.2}
    torch.optim.AdamW(groups)


@pytest.mark.parametrize("kind", ["full", "compressed", "fixed"])
def test_state_of_version_0_1_loads_by_its_old_names(kind):
    objective, other = make_label_embedding(kind), make_label_embedding(kind, seed=1)
    old = {new: name for name, new in OLD_NAMES.items()}
    state = {old.get(name, name): value for name, value in objective.state_dict().items() if name != "progress"}
    state |= {"steps": torch.tensor(3), "warmup_end": torch.tensor(5)}
    objective.progress.fill_(3_000_000)
    other.load_state_dict(state)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in objective.state_dict().items())


def test_full_embedding_of_very_many_labels_is_refused():
    with pytest.raises(ValueError, match=r"`embedding` must be 'compressed' for more than 20,000 labels: E takes 16"):
        LabelEmbedding(4, 20_001)
    with torch.device("meta"):
        LabelEmbedding(4, 20_000)


@pytest.mark.parametrize("bias", [True, False])
def test_from_linear_starts_the_second_layer_as_an_independent_copy(bias):
    layer = nn.Linear(4, 5, bias=bias)
    objective = LabelEmbedding.from_linear(layer, preset="published_code")
    assert objective.output_weight == 0.5
    assert objective.auxiliary is not layer
    assert torch.equal(objective.auxiliary.weight, layer.weight)
    assert (objective.auxiliary.bias is None) == (not bias)
    with torch.no_grad():
        layer.weight.add_(1)
    assert not torch.equal(objective.auxiliary.weight, layer.weight)


def test_from_linear_with_a_geometry_builds_no_second_layer_and_follows_the_dtype():
    geometry = LabelGeometry(("a", "b"), similarities=torch.eye(2))
    objective = LabelEmbedding.from_linear(nn.Linear(3, 2, dtype=torch.float64), embedding=geometry)
    assert objective.auxiliary is None
    assert objective.embedding.weight.dtype == torch.float64


def test_from_linear_of_a_frozen_layer_still_trains_the_second():
    layer = nn.Linear(4, 5).requires_grad_(False)
    objective = LabelEmbedding.from_linear(layer)
    assert not objective.output.weight.requires_grad  # the caller's choice stands
    assert objective.auxiliary.weight.requires_grad  # E is taught by o2, which must learn


def test_label_geometry_of_very_many_compressed_labels_is_the_rows_of_a(monkeypatch):
    monkeypatch.setattr(label_embedding, "DENSE_GEOMETRY_LABELS", 9)
    small = make_label_embedding("compressed", num_labels=9).label_geometry()
    assert small.vectors is None
    large = make_label_embedding("compressed", num_labels=10)
    geometry = large.label_geometry()
    assert geometry.similarities is None
    assert torch.equal(geometry.vectors, large.embedding.left.detach().float())
